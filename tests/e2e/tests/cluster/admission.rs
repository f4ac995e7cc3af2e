//! What an admission does to an object, and what it leaves alone.

use anyhow::{Result, ensure};
use serde_json::Value;
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::SavedWith;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("fills_a_bare_manifest_and_says_so", false, fills_a_bare_manifest_and_says_so),
    ("a_dry_run_writes_nothing", false, a_dry_run_writes_nothing),
];

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

fn fills_a_bare_manifest_and_says_so(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", SavedWith::Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("fills")?;
    let said = namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    let service = namespace.get("isvc/fraud")?;
    ensure!(service["spec"]["predictor"]["model"]["protocolVersion"] == "v2", "spec {}", service["spec"]);
    ensure!(annotation(&service, "serving.kserve.io/storageSecretName") == Some("tidewaiter-minio"), "metadata {}", service["metadata"]);
    ensure!(said.warnings().iter().filter(|line| line.starts_with("tidewaiter: ")).count() >= 2, "stderr {}", said.stderr);
    let secret = namespace.get("secret/tidewaiter-minio")?;
    ensure!(secret["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tidewaiter", "labels {}", secret["metadata"]["labels"]);
    Ok(())
}

fn a_dry_run_writes_nothing(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", SavedWith::Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("dry-run")?;
    let said = namespace.try_apply(&["--dry-run=server", "-o", "json"], &manifests::bare("fraud", "mlflow", &uri))?;
    ensure!(said.ok, "{}", said.stderr);
    let shown: Value = serde_json::from_str(&said.stdout)?;
    ensure!(annotation(&shown, "serving.kserve.io/storageSecretName") == Some("tidewaiter-minio"), "metadata {}", shown["metadata"]);
    let secrets = namespace.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(secrets.is_empty(), "there is {secrets}");
    Ok(())
}
