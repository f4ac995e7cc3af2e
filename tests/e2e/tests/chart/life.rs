//! From `helm install` to `helm uninstall`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::RELEASE;
use tidewaiter_e2e::load::{Load, has_credentials};
use tidewaiter_e2e::manifests;
use tidewaiter_ground::Namespace;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "after_helm_install_the_first_bare_manifest_answers",
        after_helm_install_the_first_bare_manifest_answers,
    ),
    (
        "an_upgrade_and_a_rollback_roll_the_pods_and_lose_no_service",
        an_upgrade_and_a_rollback_roll_the_pods_and_lose_no_service,
    ),
];

/// What takes the release away.
pub(crate) const LAST: &[Test] = &[(
    "after_helm_uninstall_services_run_on_with_their_credentials",
    after_helm_uninstall_services_run_on_with_their_credentials,
)];

fn after_helm_install_the_first_bare_manifest_answers(world: &World) -> Result<()> {
    let release = world.release()?;
    let (model, uri) = world.model()?;
    let namespace = world.cluster.namespace("first")?;
    let said = namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    ensure!(
        !said.warnings().is_empty(),
        "nothing is said to the user: {}",
        said.stderr
    );
    let service = namespace.get("isvc/fraud")?;
    ensure!(has_credentials(&service), "no credentials: {}", service["metadata"]);
    let secret = namespace.get("secret/tidewaiter-minio")?;
    ensure!(
        secret["data"]["AWS_SECRET_ACCESS_KEY"].is_string(),
        "the delivered Secret has no key"
    );
    namespace.ready("fraud").with_context(|| release.diagnosis())?;
    model.check(&namespace.infer("fraud", &model.request)?)
}

fn an_upgrade_and_a_rollback_roll_the_pods_and_lose_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let (_, uri) = world.model()?;
    let (kept, before) = kept_service(world, "upgraded", &uri)?;
    let load = Load::begin(&world.cluster, "rolling", &uri, Duration::from_millis(250))?;
    load.go_on(4)?;
    let first = release.pods()?;
    release.upgrade(&json!({"log": {"level": "debug"}}))?;
    let second = release.until_ready(crate::REPLICAS)?;
    ensure!(none_of(&second, &first), "a changed value left a Pod as it was");
    load.go_on(4)?;
    release.rollback()?;
    let third = release.until_ready(crate::REPLICAS)?;
    ensure!(none_of(&third, &second), "a rollback left a Pod as it was");
    load.go_on(4)?;
    let outcome = load.finish()?;
    outcome.all_at_once()?;
    println!(
        "upgrade and rollback: {} services, the slowest in {:?}",
        outcome.created, outcome.slowest
    );
    unchanged(&kept, &before)
}

fn after_helm_uninstall_services_run_on_with_their_credentials(world: &World) -> Result<()> {
    let release = world.release()?;
    let (model, uri) = world.model()?;
    let namespace = world.cluster.namespace("stays")?;
    namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    namespace.ready("fraud").with_context(|| release.diagnosis())?;
    let before = state(&namespace)?;
    world.uninstalled();
    release.uninstall()?;
    for left in [
        "mutatingwebhookconfiguration",
        "validatingwebhookconfiguration",
        "clusterrole",
        "clusterrolebinding",
    ] {
        let names = world.cluster.kubectl(&["get", left, "-o", "name"])?;
        ensure!(!names.contains(RELEASE), "uninstall leaves {names}");
    }
    // The definitions are another chart's, and the admin's objects with them.
    world
        .cluster
        .kubectl(&["get", "storagebackend/minio", "crd/wasmpolicies.tidewaiter.dev"])?;
    unchanged(&namespace, &before)?;
    // A Pod that comes later, on another node say, reads the Secret again.
    namespace.kubectl(&["delete", "pods", "--all", "--wait=true"])?;
    namespace.ready("fraud")?;
    model.check(&namespace.infer("fraud", &model.request)?)?;
    // Nothing of ours is asked any more, so nothing of ours can refuse.
    namespace.apply(&manifests::bare("after", "mlflow", &uri))?;
    ensure!(
        !has_credentials(&namespace.get("isvc/after")?),
        "somebody still fills in credentials"
    );
    namespace.kubectl(&["delete", "isvc", "--all"]).map(drop)
}

/// A namespace with a service whose state the test compares later.
fn kept_service(world: &World, name: &str, uri: &str) -> Result<(Namespace, Value)> {
    let namespace = world.cluster.namespace(name)?;
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"},
        "spec": {"hard": {"pods": "0"}},
    });
    namespace.apply(&quota.to_string())?;
    namespace.apply(&manifests::bare("fraud", "mlflow", uri))?;
    namespace.kubectl(&["wait", "--for=create", "deployment/fraud-predictor", "--timeout=60s"])?;
    let before = state(&namespace)?;
    Ok((namespace, before))
}

/// What would restart a model or take its credentials away if it changed.
fn state(namespace: &Namespace) -> Result<Value> {
    let deployment = namespace.get("deployment/fraud-predictor")?;
    let service = namespace.get("isvc/fraud")?;
    Ok(json!({
        "deployment": deployment["metadata"]["generation"],
        "service": service["metadata"]["generation"],
        "annotations": service["metadata"]["annotations"],
        "secret": namespace.get("secret/tidewaiter-minio")?["data"],
    }))
}

fn unchanged(namespace: &Namespace, before: &Value) -> Result<()> {
    let now = state(namespace)?;
    ensure!(now == *before, "was {before}\nis  {now}");
    Ok(())
}

/// Whether none of these Pods is one of the others.
pub(crate) fn none_of(pods: &[Value], others: &[Value]) -> bool {
    let name = |pod: &Value| pod["metadata"]["name"].clone();
    pods.iter()
        .all(|pod| others.iter().all(|other| name(other) != name(pod)))
}
