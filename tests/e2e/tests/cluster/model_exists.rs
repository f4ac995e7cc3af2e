//! A URI with a slip in it: what becomes of it without Tidewaiter, and what `kubectl apply` says with it.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::backend;
use tidewaiter_e2e::manifests;
use tidewaiter_e2e::minio::reading_key;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, Said};
use tokio::runtime::Runtime;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_missing_model_is_found_by_the_initializer_without_tidewaiter_and_by_apply_with_it",
        true,
        a_missing_model_is_found_by_the_initializer_without_tidewaiter_and_by_apply_with_it,
    ),
    (
        "empty_files_are_left_out_by_the_initializer_without_tidewaiter_and_refused_with_it",
        true,
        empty_files_are_left_out_by_the_initializer_without_tidewaiter_and_refused_with_it,
    ),
    (
        "a_prefix_that_the_store_forbids_ends_the_initializer_without_tidewaiter_and_is_told_of_with_it",
        true,
        a_prefix_that_the_store_forbids_ends_the_initializer_without_tidewaiter_and_is_told_of_with_it,
    ),
    (
        "slips_end_the_initializer_without_tidewaiter_and_are_refused_with_it",
        true,
        slips_end_the_initializer_without_tidewaiter_and_are_refused_with_it,
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

/// What KServe's storage initializer says when it gives up.
fn initializer_says(world: &World, namespace: &Namespace, words: &str) -> Result<()> {
    let said = world
        .cluster
        .until("the storage initializer gives up", Duration::from_mins(3), || {
            let pods = namespace.pods("fraud")?;
            let pod = pods.first().context("no Pod")?;
            let logs = world.cluster.logs(pod, "storage-initializer")?.concat();
            let gave_up = [
                "Storage initialization failed: ",
                "Unexpected error during storage initialization: ",
            ];
            match logs
                .lines()
                .find(|line| gave_up.iter().any(|words| line.contains(words)))
            {
                Some(line) => Ok(Some(line.to_owned())),
                None => bail!("{logs}"),
            }
        })?;
    ensure!(said.contains(words), "{said}");
    Ok(())
}

fn a_missing_model_is_found_by_the_initializer_without_tidewaiter_and_by_apply_with_it(world: &World) -> Result<()> {
    let (_, right) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let uri = right.replace("/shared/fraud", "/shared/fruad");
    let without = world.namespace_without("missing-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::by_hand("fraud", &uri, &endpoint, MINIO_USER))?;
    initializer_says(world, &without, "No model found in shared/fruad")?;

    let meant = format!("Did you mean {right}?");
    let with = world.namespace("missing")?;
    refused(&with, "mlflow", &uri, &[&format!("nothing is at {uri}"), &meant])
}

/// As where an upload broke off.
fn empty_files_are_left_out_by_the_initializer_without_tidewaiter_and_refused_with_it(world: &World) -> Result<()> {
    let folder = world.cluster.folder().join("empty-model");
    fs::create_dir_all(&folder)?;
    for name in ["MLmodel", "model.ubj"] {
        File::create(folder.join(name))?;
    }
    let empty = Model {
        folder,
        request: Value::Null,
        answers: Vec::new(),
    };
    let uri = empty.put(world.cluster.cache(), "mlflow", "shared/empty")?;
    let without = world.namespace_without("empty-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::by_hand("fraud", &uri, &endpoint, MINIO_USER))?;
    initializer_says(world, &without, "No model found in shared/empty")?;

    let with = world.namespace("empty")?;
    let says = format!(
        "predictor: all files at {uri} in StorageBackend minio are empty, and KServe leaves empty files out. Upload the model again"
    );
    refused(&with, "mlflow", &uri, &[&says])
}

/// The admin granted a prefix, and the store doesn't let their key read it.
fn a_prefix_that_the_store_forbids_ends_the_initializer_without_tidewaiter_and_is_told_of_with_it(
    world: &World,
) -> Result<()> {
    let without = world.namespace_without("forbidden-without")?;
    let with = world.namespace("forbidden")?;
    let bucket = with.name();
    let model = Model::make(world.cluster.cache(), "fraud", Mlserver1_7_1)?;
    let uri = model.put(world.cluster.cache(), bucket, "theirs/fraud")?;
    let allowed = model.put(world.cluster.cache(), bucket, "ours/fraud")?;
    let key = Runtime::new()?.block_on(reading_key(bucket, "ours/"))?;

    let endpoint = format!("{HOST}:{MINIO_PORT}");
    let service: Value = serde_saphyr::from_str(&manifests::bare("fraud", "mlflow", &uri))?;
    let mut by_hand = service.clone();
    by_hand["spec"]["predictor"]["model"]["protocolVersion"] = json!("v2");
    without.apply(&manifests::with_keys(&by_hand, &endpoint, key.id(), key.secret()))?;
    initializer_says(world, &without, &format!("Access denied to S3 resource '{bucket}'"))?;

    with.apply(&manifests::keys(&endpoint, key.id(), key.secret()))?;
    let mut limited = backend(bucket, bucket, &[&format!("s3://{bucket}/")]);
    limited["spec"]["credentials"] = json!({"secretRef": {"namespace": with.name(), "name": "minio"}});
    let limited = Custom::apply(&world.cluster, &limited)?;
    limited.until("Accepted", "True")?;
    let said = apply(&with, "mlflow", &allowed)?;
    ensure!(said.ok && !said.stderr.contains("not looked for"), "{}", said.stderr);
    let said = apply(&with, "mlflow", &uri)?;
    let line = format!(
        "predictor: model not looked for: {endpoint} answers 403 AccessDenied: the credentials may not read this"
    );
    ensure!(said.ok && said.warnings().contains(&line.as_str()), "{}", said.stderr);
    Ok(())
}

/// A bucket that isn't there, a name of MLflow's in place of a URI, and a slash too many, which MinIO refuses where S3 finds nothing.
fn slips_end_the_initializer_without_tidewaiter_and_are_refused_with_it(world: &World) -> Result<()> {
    let (_, right) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let doubled = right.replace("/shared/", "/shared//");
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    let slashed = format!("{right}/MLmodel/");
    let applied = [
        ("unmade", "s3://unmade/fraud", "S3 resource 'unmade' not found"),
        (
            "tracked",
            "models:/fraud/3",
            "Cannot recognize storage type for models:/fraud/3",
        ),
        ("doubled", doubled.as_str(), "S3 error [XMinioInvalidObjectName]"),
        ("slashed", slashed.as_str(), "No model found in"),
    ]
    .map(|(name, uri, words)| -> Result<_> {
        let without = world.namespace_without(&format!("{name}-without"))?;
        without.apply(&manifests::by_hand("fraud", uri, &endpoint, MINIO_USER))?;
        Ok((without, words))
    });
    for applied in applied {
        let (without, words) = applied?;
        initializer_says(world, &without, words)?;
    }

    let with = world.namespace("slipped")?;
    let unmade = Custom::apply(&world.cluster, &backend("unmade", "unmade", &["s3://unmade/"]))?;
    unmade.until("Accepted", "True")?;
    refused(
        &with,
        "mlflow",
        "s3://unmade/fraud",
        &["StorageBackend unmade has no bucket s3://unmade"],
    )?;
    refused(
        &with,
        "mlflow",
        "models:/fraud/3",
        &["an MLflow server", "write the URI of its artifacts"],
    )?;
    refused(&with, "mlflow", &slashed, &["is a file"])?;
    refused(&with, "mlflow", &doubled, &["two slashes", &format!("Write {right}")])
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
