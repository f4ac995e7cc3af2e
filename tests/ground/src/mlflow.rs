//! A real MLflow tracking server with MinIO behind it, and the pipeline whose best model it keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cache::Cache;
use crate::{Cluster, HOST, MINIO_PORT, MINIO_USER, host, python};

const PORT: u16 = 5050;
const NAME: &str = "mlflow";
/// The server that knows its users listens beside the one that lets everybody in.
const PORT_WITH_USERS: u16 = 5051;
const NAME_WITH_USERS: &str = "mlflow-users";
/// Who may do everything there, and their password.
pub const ADMIN: (&str, &str) = ("admin", "password-of-admin");
const FRAUD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/fraud.py");
/// Ray, Optuna and imbalanced-learn above what MLServer 1.7.1 holds, with which the model is to be served.
const LOCKS: [&str; 2] = ["training", "mlserver-1.7.1"];
/// What MLflow's own app for users needs on top (`mlflow[auth]`).
const USERS: &str = "mlflow-auth";

/// A tracking server. Models go to MinIO's bucket `mlflow`, which has to be there.
#[derive(Debug)]
pub struct Mlflow<'a> {
    cluster: &'a Cluster,
    sites: Vec<PathBuf>,
    folder: PathBuf,
    name: &'static str,
    port: u16,
}

/// What the pipeline says of its best model.
#[derive(Debug, Clone, Deserialize)]
pub struct Fraud {
    /// The run that logged it.
    pub run: String,
    /// Some transactions.
    pub rows: Vec<Vec<f64>>,
    /// Which of them are fraud, in the model's own opinion.
    pub answers: Vec<f64>,
}

/// Installs what it needs: later, in a network of its own, nothing can be downloaded.
pub fn prepare(cache: &Cache) -> Result<()> {
    sites(cache)?;
    python::site(cache, USERS).map(drop)
}

fn sites(cache: &Cache) -> Result<Vec<PathBuf>> {
    LOCKS.iter().map(|lock| python::site(cache, lock)).collect()
}

impl<'a> Mlflow<'a> {
    /// Starts it, and waits until it answers.
    pub fn start(cluster: &'a Cluster) -> Result<Self> {
        Self::start_as(cluster, NAME, PORT, Vec::new())
    }

    /// The same with MLflow's `basic-auth`: [`ADMIN`] may do everything, and others what they are told, which is nothing at first.
    pub fn start_with_users(cluster: &'a Cluster) -> Result<Self> {
        let users = python::site(cluster.cache(), USERS)?;
        Self::start_as(cluster, NAME_WITH_USERS, PORT_WITH_USERS, vec![users])
    }

    fn start_as(cluster: &'a Cluster, name: &'static str, port: u16, more: Vec<PathBuf>) -> Result<Self> {
        let has_users = !more.is_empty();
        let mlflow = Self {
            cluster,
            sites: [sites(cluster.cache())?, more].concat(),
            folder: cluster.folder().join(name),
            name,
            port,
        };
        fs::create_dir_all(&mlflow.folder)?;
        let database = format!("sqlite:///{}", mlflow.folder.join("mlflow.db").display());
        let port = port.to_string();
        let mut command = mlflow.python()?;
        command.args([
            "-m",
            "mlflow",
            "server",
            "--workers",
            "1",
            "--host",
            HOST,
            "--port",
            &port,
        ]);
        command.args([
            "--backend-store-uri",
            &database,
            "--default-artifact-root",
            "s3://mlflow/shared/runs",
        ]);
        if has_users {
            let config = mlflow.folder.join("users.ini");
            fs::write(&config, mlflow.users())?;
            command
                .env("MLFLOW_AUTH_CONFIG_PATH", &config)
                .env("MLFLOW_FLASK_SERVER_SECRET_KEY", "one-of-the-tests")
                .args(["--app-name", "basic-auth"]);
        }
        cluster.processes().start(name, &mut command)?;
        let health = format!("{}/health", mlflow.uri());
        cluster.until("MLflow answers", Duration::from_mins(2), || {
            Ok(crate::get(&health).is_ok().then_some(()))
        })?;
        Ok(mlflow)
    }

    fn users(&self) -> String {
        let database = self.folder.join("users.db");
        let (name, password) = ADMIN;
        format!(
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{}\nadmin_username = {name}\nadmin_password = {password}\n\
             authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            database.display()
        )
    }

    /// Asks one of its routes, `2.0/mlflow/…`, as [`ADMIN`].
    ///
    /// # Errors
    /// With the answer, where it isn't a success.
    pub fn post(&self, route: &str, body: &serde_json::Value) -> Result<serde_json::Value> {
        crate::namespace::post_as(&format!("{}/api/{route}", self.uri()), body, ADMIN)
    }

    /// Where it answers.
    pub fn uri(&self) -> String {
        format!("http://{HOST}:{}", self.port)
    }

    /// Runs the search whose best model it keeps as `fraud`, alias `champion`, and a pipeline as `fraud-pipeline`.
    pub fn fraud(&self) -> Result<Fraud> {
        let out = self.folder.join("fraud.json");
        let mut command = self.python()?;
        host::run(command.env("MLFLOW_TRACKING_URI", self.uri()).arg(FRAUD).arg(&out))?;
        serde_json::from_slice(&fs::read(out)?).context("what the pipeline says")
    }

    /// A Python as the data scientist has it, which can reach the store.
    fn python(&self) -> Result<std::process::Command> {
        let sites: Vec<&Path> = self.sites.iter().map(PathBuf::as_path).collect();
        let mut command = python::command(&sites)?;
        command
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("MLFLOW_S3_ENDPOINT_URL", format!("http://{HOST}:{MINIO_PORT}"))
            .env("AWS_ACCESS_KEY_ID", MINIO_USER)
            .env("AWS_SECRET_ACCESS_KEY", MINIO_USER)
            .env("AWS_DEFAULT_REGION", "us-east-1");
        Ok(command)
    }
}

impl Drop for Mlflow<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.processes().stop(self.name);
    }
}
