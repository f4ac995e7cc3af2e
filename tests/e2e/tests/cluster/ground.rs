//! What happens without Tidewaiter: the ground itself, and the failures that it is there to prevent.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::SavedWith;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, statuses};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_model_with_a_secret_made_by_hand_answers",
        true,
        a_model_with_a_secret_made_by_hand_answers,
    ),
    (
        "a_bare_manifest_finds_no_runtime_without_tidewaiter",
        false,
        a_bare_manifest_finds_no_runtime_without_tidewaiter,
    ),
    (
        "a_manifest_without_credentials_fails_without_tidewaiter",
        true,
        a_manifest_without_credentials_fails_without_tidewaiter,
    ),
];

/// The path of the first guide, as people walk it today.
fn a_model_with_a_secret_made_by_hand_answers(world: &World) -> Result<()> {
    let (model, uri) = world.model("fraud", SavedWith::Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace_without("by-hand")?;
    namespace.apply(&manifests::by_hand(
        "fraud",
        &uri,
        &format!("{HOST}:{MINIO_PORT}"),
        MINIO_USER,
    ))?;
    namespace.ready("fraud")?;
    model.check(&namespace.infer("fraud", &model.request)?)?;
    model.check(&namespace.infer_grpc("fraud", &model.request)?)
}

/// An unset protocol means v1, which no runtime for MLflow speaks.
fn a_bare_manifest_finds_no_runtime_without_tidewaiter(world: &World) -> Result<()> {
    let namespace = world.namespace_without("bare")?;
    namespace.apply(&manifests::bare("fraud", "mlflow", "s3://mlflow/shared/fraud"))?;
    let reason = world
        .cluster
        .until("KServe finds no runtime", Duration::from_mins(1), || {
            let service = namespace.get("isvc/fraud")?;
            Ok(service["status"]["modelStatus"]["lastFailureInfo"]["reason"]
                .as_str()
                .map(str::to_owned))
        })?;
    ensure!(reason == "NoSupportingRuntime", "KServe says {reason}");
    Ok(())
}

/// The other half of every test of credentials: the same manifest fails where nobody brings them.
fn a_manifest_without_credentials_fails_without_tidewaiter(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", SavedWith::Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace_without("no-keys")?;
    let manifest =
        manifests::bare("fraud", "mlflow", &uri).replace("storageUri:", "protocolVersion: v2\n      storageUri:");
    namespace.apply(&manifest)?;
    world
        .cluster
        .until("the storage initializer fails", Duration::from_mins(3), || {
            let pods = namespace.pods("fraud")?;
            let failed = pods.iter().flat_map(statuses).any(|container| {
                let state = [&container["state"], &container["lastState"]];
                container["name"] == "storage-initializer"
                    && state
                        .iter()
                        .any(|state| state["terminated"]["exitCode"].as_i64().is_some_and(|code| code != 0))
            });
            Ok(failed.then_some(()))
        })
}
