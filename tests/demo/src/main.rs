//! `cargo xtask demo`: the main job without a cluster. The store, the server, TLS, the reviews and the policies are real; only the API server is missing, so
//! this program sends what it would send.

mod apiserver;
mod scenes;
mod show;

use std::time::Duration;

use anyhow::{Context, Result};
use tidewaiter_store::{ACCESS_KEY, CHURN, FRAUD, PRICES, SECRET_KEY, Store};
use tidewaiter_webhook::http::certificate::TlsSource;
use tidewaiter_webhook::server::{Options, Server, Source};

use crate::apiserver::ApiServer;
use crate::scenes::SCENES;
use crate::show::Stage;

#[tokio::main]
async fn main() -> Result<()> {
    let store = Store::start().await?;
    store.put("mlflow/fraud/3/models/m-1/artifacts", FRAUD)?;
    store.put("mlflow/public/churn", CHURN)?;
    store.put("mlflow/public/prices", PRICES)?;

    let config = tempfile::tempdir()?;
    let yaml = include_str!("../config/minio.yaml")
        .replace("ENDPOINT", &store.endpoint)
        .replace(": ACCESS_KEY", &format!(": {ACCESS_KEY}"))
        .replace(": SECRET_KEY", &format!(": {SECRET_KEY}"));
    std::fs::write(config.path().join("minio.yaml"), &yaml)?;

    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = identity.cert.pem();
    let tls = TlsSource::Pem {
        certificate: certificate.clone().into_bytes(),
        key: identity.signing_key.serialize_pem().into_bytes(),
    };
    let mut options = Options::new(Source::Folder(config.path().to_owned()), tls);
    // No API server goes on sending for a while.
    options.drain = Duration::ZERO;
    let server = Server::start(options).await?;
    server.ready().await;
    let recorded = server
        .recorded
        .clone()
        .context("a server on a folder records what it would write")?;
    let api = ApiServer::new(server.address, certificate.as_bytes())?;

    let mut stage = Stage::open(recorded, &store.endpoint, server.address, &yaml);
    for scene in SCENES {
        let before = server.metrics.encode();
        let first = api.create(scene.manifest).await?;
        let after = server.metrics.encode();
        let second = match &first.object {
            Some(object) => Some(api.create_object(object).await?),
            None => None,
        };
        stage.scene(scene, &first, second.as_ref(), &before, &after)?;
    }
    Stage::close();
    server.shutdown().await;
    Ok(())
}
