//! Clusters that aren't as they should be. On the oldest KServe, whose cluster is not needed any more when these tests have had their turn.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewaiter_e2e::chart::CRDS;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::backend;
use tidewaiter_e2e::load::{has_credentials, service};

use crate::faults::restarts;
use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "what_was_written_before_the_definitions_upgrade_is_named_and_harms_nobody_else",
        what_was_written_before_the_definitions_upgrade_is_named_and_harms_nobody_else,
    ),
    (
        "without_kserves_kinds_it_waits_for_them",
        without_kserves_kinds_it_waits_for_them,
    ),
];

/// A definition of before, which let anything pass, and two objects of that time: one that says what no version of today knows, and one that is fine.
fn what_was_written_before_the_definitions_upgrade_is_named_and_harms_nobody_else(world: &World) -> Result<()> {
    let release = world.release()?;
    let definition = world.cluster.get("", "crd/storagebackends.tidewaiter.dev")?;
    let mut versions = definition["spec"]["versions"].clone();
    for version in versions.as_array_mut().into_iter().flatten() {
        version["schema"] =
            json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    }
    let anything = json!({"spec": {"versions": versions}}).to_string();
    let patch = [
        "patch",
        "crd/storagebackends.tidewaiter.dev",
        "--type=merge",
        "-p",
        &anything,
    ];
    world.cluster.kubectl(&patch)?;

    let namespace = world.cluster.namespace("before")?;
    let mut strange = backend("before-strange", "strange", &["s3://strange/"]);
    strange["spec"]["delivery"] = json!("carrierPigeon");
    let strange = world
        .cluster
        .until("the old definition is in force", Duration::from_mins(1), || {
            Custom::apply(&world.cluster, &strange).map(Some)
        })?;
    let mut extra = backend("before-extra", "extra", &["s3://extra/"]);
    extra["spec"]["s3"]["legacyEndpoint"] = json!("http://minio-of-old:9000");
    let extra = Custom::apply(&world.cluster, &extra)?;
    let said = strange.until("Accepted", "False")?;
    ensure!(said.contains("carrierPigeon"), "{said}");
    // As after a rollback from a version that knows it. The watches that there are the API server goes on to serve by the definition of before, which has no such
    // field, until they are asked anew; and then it sends what has changed since.
    let mut touched = 0;
    let knows = "it says what it doesn't know";
    world.cluster.until(knows, Duration::from_mins(3), || {
        touched += 1;
        let mark = format!("tidewaiter-e2e/touched={touched}");
        let annotate = ["annotate", "storagebackend/before-extra", &mark, "--overwrite"];
        world.cluster.kubectl(&annotate)?;
        std::thread::sleep(Duration::from_secs(3));
        let said = extra.until("Accepted", "True")?;
        Ok(said.contains("doesn't know spec.s3.legacyEndpoint").then_some(()))
    })?;

    // The definition has another owner now, as after a kubectl by hand.
    release
        .definitions(&["--force-conflicts"])
        .with_context(|| format!("{CRDS} can't be upgraded"))?;
    // What today's definition doesn't know is dropped where it is read, and the rest is in use.
    extra.until("Accepted", "True")?;
    let said = strange.until("Accepted", "False")?;
    for part in ["carrierPigeon", "update Tidewaiter or its CustomResourceDefinitions"] {
        ensure!(said.contains(part), "the condition doesn't say {part}: {said}");
    }
    namespace.apply(&service("extra", "s3://extra/fraud").to_string())?;
    let others = namespace.apply(&service("others", "s3://mlflow/shared/fraud").to_string());
    others.context("a service of another backend")?;
    for name in ["extra", "others"] {
        let what = format!("{name} has its credentials");
        let filled = || Ok(has_credentials(&namespace.get(&format!("isvc/{name}"))?).then_some(()));
        world.cluster.until(&what, Duration::from_mins(1), filled)?;
    }
    let told = namespace.try_apply(
        &["--server-side"],
        &service("strange", "s3://strange/fraud").to_string(),
    )?;
    ensure!(
        told.stderr.contains("before-strange") && told.stderr.contains("#ml-platform"),
        "{}{}",
        told.stdout,
        told.stderr
    );
    Ok(())
}

/// Installed before KServe, or while it is away: ready all the same, and there for the first service.
fn without_kserves_kinds_it_waits_for_them(world: &World) -> Result<()> {
    let release = world.release()?;
    let kind = "inferenceservices.serving.kserve.io";
    world.cluster.kubectl(&["delete", "crd", kind, "--timeout=2m"])?;
    release.kubectl(&["rollout", "restart", "deployment/tidewaiter"])?;
    release.kubectl(&["rollout", "status", "deployment/tidewaiter", "--timeout=2m"])?;
    for pod in release.until_ready(REPLICAS)? {
        ensure!(restarts(&pod) == 0, "a container ended: {}", release.diagnosis());
    }
    let said = |line: &str| line.contains("doesn't know this kind") && line.contains(r#""InferenceService""#);
    let told = world
        .cluster
        .until("it says what is missing", Duration::from_mins(1), || {
            Ok(release.logs()?.lines().any(said).then_some(()))
        });
    told.with_context(|| release.diagnosis())?;
    world.cluster.serve(kind)?;
    let namespace = world.cluster.namespace("late")?;
    world
        .cluster
        .until("the first service is filled in", Duration::from_mins(1), || {
            namespace.apply(&service("fraud", "s3://mlflow/shared/fraud").to_string())?;
            Ok(has_credentials(&namespace.get("isvc/fraud")?).then_some(()))
        })
}
