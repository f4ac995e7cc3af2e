//! A URI with a slip in it: what becomes of it without Tidewaiter, and what `kubectl apply` says with it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::backend;
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, Said};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_missing_model_is_found_by_the_initializer_without_tidewaiter_and_by_apply_with_it",
        true,
        a_missing_model_is_found_by_the_initializer_without_tidewaiter_and_by_apply_with_it,
    ),
    (
        "a_uri_with_a_slip_is_refused_with_what_was_meant",
        false,
        a_uri_with_a_slip_is_refused_with_what_was_meant,
    ),
    (
        "a_model_that_comes_later_is_admitted_and_what_runs_is_left_alone",
        false,
        a_model_that_comes_later_is_admitted_and_what_runs_is_left_alone,
    ),
];

fn apply(namespace: &Namespace, format: &str, uri: &str) -> Result<Said> {
    namespace.try_apply(&["--server-side"], &manifests::bare("fraud", format, uri))
}

/// Refused by the policy, with these words.
fn refused(namespace: &Namespace, format: &str, uri: &str, words: &[&str]) -> Result<()> {
    let said = apply(namespace, format, uri)?;
    ensure!(!said.ok, "{uri} is admitted: {}", said.stderr);
    for word in words {
        ensure!(said.stderr.contains(word), "no `{word}` in {}", said.stderr);
    }
    Ok(())
}

fn a_missing_model_is_found_by_the_initializer_without_tidewaiter_and_by_apply_with_it(world: &World) -> Result<()> {
    let (_, right) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let uri = right.replace("/shared/fraud", "/shared/fruad");
    let without = world.namespace_without("missing-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::by_hand("fraud", &uri, &endpoint, MINIO_USER))?;
    let said = world
        .cluster
        .until("the storage initializer gives up", Duration::from_mins(3), || {
            let pods = without.pods("fraud")?;
            let pod = pods.first().context("no Pod")?;
            let logs = world.cluster.logs(pod, "storage-initializer")?.concat();
            match logs.lines().find(|line| line.contains("Failed to fetch model")) {
                Some(line) => Ok(Some(line.to_owned())),
                None => bail!("{logs}"),
            }
        })?;
    ensure!(said.contains("No model found in shared/fruad"), "{said}");

    let meant = format!("Did you mean {right}?");
    let with = world.namespace("missing")?;
    refused(&with, "mlflow", &uri, &[&format!("nothing is at {uri}"), &meant])
}

fn a_uri_with_a_slip_is_refused_with_what_was_meant(world: &World) -> Result<()> {
    let (_, right) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("slips")?;
    let doubled = right.replace("/shared/", "/shared//");
    refused(
        &namespace,
        "mlflow",
        &doubled,
        &["two slashes", &format!("Write {right}")],
    )?;
    refused(
        &namespace,
        "mlflow",
        &format!("{right}//"),
        &["two slashes", &format!("Write {right}/")],
    )?;
    refused(&namespace, "mlflow", &format!("{right}/MLmodel/"), &["is a file"])?;
    let file = format!("{right}/MLmodel");
    refused(
        &namespace,
        "mlflow",
        &file,
        &["an MLflow model is the folder", &format!("Write {right}")],
    )?;
    refused(
        &namespace,
        "mlflow",
        "models:/fraud/3",
        &["an MLflow server", "write the URI of its artifacts"],
    )?;
    let _backend = Custom::apply(&world.cluster, &backend("nowhere", "nowhere", &["s3://nowhere/"]))?;
    world
        .cluster
        .until("the backend is known", Duration::from_mins(1), || {
            refused(&namespace, "mlflow", "s3://nowhere/x", &["has no bucket s3://nowhere"]).map(Some)
        })?;

    let admitted = apply(&namespace, "mlflow", &format!("{right}/"))?;
    ensure!(admitted.ok, "{}", admitted.stderr);
    // The text of the key is what S3 compares: KServe takes the whole name for this.
    let partly = &right[..right.len() - 1];
    let said = apply(&namespace, "mlflow", partly)?;
    ensure!(said.ok && said.stderr.contains("KServe takes"), "{}", said.stderr);
    Ok(())
}

fn a_model_that_comes_later_is_admitted_and_what_runs_is_left_alone(world: &World) -> Result<()> {
    let namespace = world.namespace("later")?;
    let uri = format!("s3://mlflow/{}/later", namespace.name());
    let service = |annotations: Value, replicas: u32| {
        let spec = json!({"predictor": {"minReplicas": replicas, "model": {"modelFormat": {"name": "mlflow"}, "storageUri": uri}}});
        json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "later", "annotations": annotations},
            "spec": spec,
        })
        .to_string()
    };
    let refused = namespace.try_apply(&["--server-side"], &service(json!({}), 1))?;
    ensure!(
        !refused.ok && refused.stderr.contains("tidewaiter.dev/allow-missing-model"),
        "{}",
        refused.stderr
    );
    let allowed = json!({"tidewaiter.dev/allow-missing-model": "true"});
    let said = namespace.apply(&service(allowed, 1))?;
    let warned = said.warnings().iter().any(|line| line.contains("nothing is at"));
    ensure!(warned, "{}", said.stderr);
    // Without the annotation: it is stored, and its URI stays as it is.
    let said = namespace.apply(&service(json!({}), 2))?;
    ensure!(!said.stderr.contains("nothing is at"), "{}", said.stderr);
    Ok(())
}
