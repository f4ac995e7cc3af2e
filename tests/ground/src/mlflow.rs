//! Real MLflow tracking servers with MinIO behind them, and the pipelines whose models they keep.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cache::Cache;
use crate::{Cluster, HOST, MINIO_PORT, MINIO_USER, host, python, slow};

/// Which server: each listens beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Which {
    name: &'static str,
    port: u16,
    /// What it has above [`LOCKS`].
    above: Option<&'static str>,
}

/// MLflow 2, which lets everybody in.
const OPEN: Which = Which {
    name: "mlflow",
    port: 5050,
    above: None,
};
/// MLflow 2 that knows its users, with what its own app for them needs on top (`mlflow[auth]`).
const WITH_USERS: Which = Which {
    name: "mlflow-users",
    port: 5051,
    above: Some("mlflow-auth"),
};
/// MLflow 3, which lets everybody in.
const THREE: Which = Which {
    name: "mlflow-3",
    port: 5052,
    above: Some("mlflow-3.17.2"),
};
/// The same with its artifacts behind it: it reads and writes the store, and nobody else has to.
const PROXIED: Which = Which {
    name: "mlflow-proxied",
    port: 5053,
    above: Some("mlflow-3.17.2"),
};
/// Where [`PROXIED`]'s artifacts lie, which no route of it tells.
pub const PROXIED_TO: &str = "s3://mlflow/shared/proxied";
/// Who may do everything there, and their password.
pub const ADMIN: (&str, &str) = ("admin", "password-of-admin");
const FRAUD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/fraud.py");
/// Ray, Optuna and imbalanced-learn above what MLServer 1.7.1 holds, with which the model is to be served.
const LOCKS: [&str; 2] = ["training", "mlserver-1.7.1"];
const THREE_LOGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/three.py");

/// A tracking server. Models go to MinIO's bucket `mlflow`, which has to be there.
#[derive(Debug)]
pub struct Mlflow<'a> {
    cluster: &'a Cluster,
    sites: Vec<PathBuf>,
    folder: PathBuf,
    which: Which,
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

/// A model that MLflow 3 keeps.
#[derive(Debug, Clone, Deserialize)]
pub struct Logged {
    /// The run that logged it, as `model`.
    pub run: String,
    /// Its own identity: `m-…`.
    pub model: String,
    /// Some rows.
    pub rows: Vec<Vec<f64>>,
    /// What it answers to them.
    pub answers: Vec<f64>,
}

/// Installs what they need: later, in a network of its own, nothing can be downloaded.
pub fn prepare(cache: &Cache) -> Result<()> {
    [OPEN, WITH_USERS, THREE, PROXIED]
        .iter()
        .try_for_each(|which| which.sites(cache).map(drop))
}

impl Which {
    /// Its packages, the topmost first.
    fn sites(self, cache: &Cache) -> Result<Vec<PathBuf>> {
        let locks = self.above.into_iter().chain(LOCKS);
        locks.map(|lock| python::site(cache, lock)).collect()
    }
}

impl<'a> Mlflow<'a> {
    /// Starts it, and waits until it answers.
    pub fn start(cluster: &'a Cluster) -> Result<Self> {
        Self::start_as(cluster, OPEN)
    }

    /// The same with MLflow's `basic-auth`: [`ADMIN`] may do everything, and others what they are told, which is nothing at first.
    pub fn start_with_users(cluster: &'a Cluster) -> Result<Self> {
        Self::start_as(cluster, WITH_USERS)
    }

    /// The same of MLflow 3.
    pub fn start_three(cluster: &'a Cluster) -> Result<Self> {
        Self::start_as(cluster, THREE)
    }

    /// The same as MLflow comes: it hands artifacts out itself (`--serve-artifacts`), and they are `mlflow-artifacts:`. They lie at [`PROXIED_TO`].
    pub fn start_proxied(cluster: &'a Cluster) -> Result<Self> {
        Self::start_as(cluster, PROXIED)
    }

    fn start_as(cluster: &'a Cluster, which: Which) -> Result<Self> {
        let mlflow = Self {
            cluster,
            sites: which.sites(cluster.cache())?,
            folder: cluster.folder().join(which.name),
            which,
        };
        fs::create_dir_all(&mlflow.folder)?;
        let database = format!("sqlite:///{}", mlflow.folder.join("mlflow.db").display());
        let port = which.port.to_string();
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
        let artifacts = if which == PROXIED {
            ["--artifacts-destination", PROXIED_TO]
        } else {
            ["--default-artifact-root", "s3://mlflow/shared/runs"]
        };
        command.args(["--backend-store-uri", &database]).args(artifacts);
        if which == WITH_USERS {
            let config = mlflow.folder.join("users.ini");
            fs::write(&config, mlflow.users())?;
            command
                .env("MLFLOW_AUTH_CONFIG_PATH", &config)
                .env("MLFLOW_FLASK_SERVER_SECRET_KEY", "one-of-the-tests")
                .args(["--app-name", "basic-auth"]);
        }
        cluster.processes().start(which.name, &mut command)?;
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

    /// Spoils its database: from now on it can look up no version of a model. By its own words, since what is written over the file it makes good from its journal.
    pub fn spoil(&self) -> Result<()> {
        let rename = "import sqlite3, sys\ndatabase = sqlite3.connect(sys.argv[1])\ndatabase.execute('ALTER TABLE model_versions RENAME TO spoilt')\ndatabase.commit()";
        let database = self.folder.join("mlflow.db");
        host::run(self.python()?.args(["-c", rename]).arg(database))
    }

    /// Where it answers.
    pub fn uri(&self) -> String {
        format!("http://{HOST}:{}", self.which.port)
    }

    /// Runs the search whose best model it keeps as `fraud`, alias `champion`, and a pipeline as `fraud-pipeline`.
    pub fn fraud(&self) -> Result<Fraud> {
        let out = self.folder.join("fraud.json");
        let mut command = self.python()?;
        host::run(command.env("MLFLOW_TRACKING_URI", self.uri()).arg(FRAUD).arg(&out))?;
        serde_json::from_slice(&fs::read(out)?).context("what the pipeline says")
    }

    /// Has a server of MLflow 3 keep a model as `three`, version 1.
    pub fn three(&self) -> Result<Logged> {
        let out = self.folder.join("three.json");
        let mut command = self.python()?;
        host::run(command.env("MLFLOW_TRACKING_URI", self.uri()).arg(THREE_LOGS).arg(&out))?;
        serde_json::from_slice(&fs::read(out)?).context("what the pipeline says")
    }

    /// Where it answers who brings this token, as a proxy has it: MLflow's own app for users knows none. Until the process ends.
    pub fn behind_token(&self, token: &str) -> Result<String> {
        let listener = TcpListener::bind((HOST, 0))?;
        let uri = format!("http://{}", listener.local_addr()?);
        let (expected, port) = (format!("authorization: bearer {token}"), self.which.port);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let expected = expected.clone();
                // A connection that fails is one that its two ends learn of.
                std::thread::spawn(move || drop(let_in(client, port, &expected)));
            }
        });
        Ok(uri)
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

/// Passes one request on, if this line is in its head. The server is told to close the connection after it, so that the next one comes by another.
fn let_in(client: TcpStream, port: u16, expected: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    let mut is_expected = false;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        is_expected |= line.trim().eq_ignore_ascii_case(expected);
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head.push(line);
        }
    }
    if !is_expected {
        return (&client).write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let mut server = TcpStream::connect((HOST, port))?;
    write!(server, "{}connection: close\r\n\r\n", head.concat())?;
    // What of the body was read with the head.
    let read = reader.buffer().len();
    let mut body = vec![0; read];
    reader.read_exact(&mut body)?;
    server.write_all(&body)?;
    slow::connect(client, server)
}

impl Drop for Mlflow<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.processes().stop(self.which.name);
    }
}
