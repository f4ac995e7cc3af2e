//! An S3 server in the process, with models in it: for the demo, the benchmarks and tests. Real S3 over HTTP with signatures checked (s3s), on files in a
//! temporary folder (s3s-fs).

use std::fs;
use std::path::{Component, Path};

use anyhow::{Context, Result, ensure};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The key that opens the store.
pub const ACCESS_KEY: &str = "tidewaiter-demo";
/// Its secret.
pub const SECRET_KEY: &str = "not-a-secret-but-never-shown";

/// A model as MLflow saved it: file names and contents.
pub type Model = &'static [(&'static str, &'static [u8])];

macro_rules! model {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        &[$(($file, include_bytes!(concat!("../models/", $folder, "/", $file)))),+]
    };
}

/// An XGBoost 3.0.2 classifier, logged by MLflow 3 with its signature.
pub const FRAUD: Model = model!("fraud": "MLmodel", "model.ubj", "requirements.txt", "python_env.yaml", "conda.yaml");
/// A scikit-learn 1.5.0 classifier, logged by MLflow 3 as a cloudpickle.
pub const CHURN: Model = model!("churn": "MLmodel", "model.pkl", "requirements.txt", "python_env.yaml", "conda.yaml");
/// An XGBoost 3.2.0 regressor: loads in every older server, and answers nonsense there.
pub const PRICES: Model = model!("prices": "MLmodel", "model.ubj", "requirements.txt", "python_env.yaml", "conda.yaml");

/// The running store. Its files and its listener go with it.
pub struct Store {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    files: tempfile::TempDir,
    accept: JoinHandle<()>,
}

impl Store {
    /// Listens on a free port of the loopback interface.
    ///
    /// # Errors
    /// Where no port or temporary folder can be had.
    pub async fn start() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let backend = FileSystem::new(files.path())
            .map_err(|error| anyhow::anyhow!("cannot open the store's folder: {error:?}"))?;
        let mut service = S3ServiceBuilder::new(backend);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let accept = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that goes away is its own business.
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Ok(Self {
            endpoint,
            files,
            accept,
        })
    }

    /// Puts a model below `BUCKET/PREFIX`, as `s3://BUCKET/PREFIX` names it.
    ///
    /// # Errors
    /// Where the path leaves the store, or a file can't be written.
    pub fn put(&self, path: &str, model: Model) -> Result<()> {
        let inside = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        ensure!(inside, "{path} is not a path inside the store");
        let folder = self.files.path().join(path);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, content) in model {
            fs::write(folder.join(name), content)?;
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.accept.abort();
    }
}
