//! From `helm install` to `helm uninstall`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidewaiter_e2e::chart::RELEASE;
use tidewaiter_e2e::install::{NAMESPACE, backend};
use tidewaiter_e2e::load::{Load, has_credentials, service};
use tidewaiter_e2e::manifests;
use tidewaiter_e2e::policy::{install_unruly, unruly, unruly_in};
use tidewaiter_ground::{Namespace, condition};

use crate::{REPLICAS, Test, World, locked};

pub(crate) const TESTS: &[Test] = &[
    (
        "after_helm_install_the_first_bare_manifest_answers",
        after_helm_install_the_first_bare_manifest_answers,
    ),
    (
        "an_upgrade_and_a_rollback_roll_the_pods_and_lose_no_service",
        an_upgrade_and_a_rollback_roll_the_pods_and_lose_no_service,
    ),
    ("a_drained_node_waits_for_a_replica", a_drained_node_waits_for_a_replica),
];

/// What looks back on all the others.
pub(crate) const RIGHTS: &[Test] = &[(
    "every_right_was_needed_and_none_was_missing",
    every_right_was_needed_and_none_was_missing,
)];

/// What takes the release away.
pub(crate) const LAST: &[Test] = &[(
    "after_helm_uninstall_services_run_on_with_their_credentials",
    after_helm_uninstall_services_run_on_with_their_credentials,
)];

fn after_helm_install_the_first_bare_manifest_answers(world: &World) -> Result<()> {
    let (model, _) = world.model()?;
    let namespace = world.running()?;
    let service = namespace.get("isvc/fraud")?;
    ensure!(has_credentials(&service), "no credentials: {}", service["metadata"]);
    let secret = namespace.get("secret/tidewaiter-minio")?;
    ensure!(
        secret["data"]["AWS_SECRET_ACCESS_KEY"].is_string(),
        "the delivered Secret has no key"
    );
    model.check(&namespace.infer("fraud", &model.request)?)?;
    model.check(&namespace.infer_grpc("fraud", &model.request)?)
}

fn an_upgrade_and_a_rollback_roll_the_pods_and_lose_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let (_, uri) = world.model()?;
    let running = world.running()?;
    let before = state(&running)?;
    let load = Load::begin(&world.cluster, "rolling", &uri, Duration::from_millis(300))?;
    load.go_on(4)?;
    let first = release.pods()?;
    install_unruly(&world.cluster)?;
    let asked = world.cluster.namespace("from-values")?;
    let values = &backend("from-values", "values", &["s3://values/"])["spec"];
    let policy = &unruly_in(asked.name(), "from-values", &json!({"label": "from-values"}), "fail")["spec"];
    release.upgrade(&json!({
        "log": {"level": "debug"},
        "backends": {"from-values": values},
        "policies": {"from-values": policy},
    }))?;
    let second = release.until_ready(REPLICAS)?;
    until_served(world, &asked, true)?;
    what_a_policy_of_the_values_says_of_itself(world)?;
    ensure!(none_of(&second, &first), "a changed value left a Pod as it was");
    release.rollback()?;
    let third = release.until_ready(REPLICAS)?;
    ensure!(none_of(&third, &second), "a rollback left a Pod as it was");
    until_served(world, &asked, false)?;
    let policies = world.cluster.kubectl(&["get", "wasmpolicies", "-o", "name"])?;
    ensure!(
        !policies.contains("from-values"),
        "its value is gone, and there are {policies}"
    );
    load.go_on(4)?;
    let outcome = load.finish()?;
    println!("helm upgrade and rollback: {outcome}");
    outcome.all_at_once().with_context(|| release.diagnosis())?;
    unchanged(&running, &before)
}

/// Waits until whichever replica is asked gives the credentials of the backend and the label of the policy that are among the release's values, or neither.
fn until_served(world: &World, namespace: &Namespace, served: bool) -> Result<()> {
    let (api, what) = (
        world.cluster.api()?,
        format!("the backend and the policy of the values are in force: {served}"),
    );
    let model = service("from-values", "s3://values/model");
    let mut in_a_row = 0;
    world.cluster.until(&what, Duration::from_mins(1), || {
        let answer = api.would_create(namespace.name(), &model)?;
        let is_labelled = answer.body["metadata"]["labels"]["unruly"] == "from-values";
        let is_so = answer.admitted() && has_credentials(&answer.body) == served && is_labelled == served;
        in_a_row = if is_so { in_a_row + 1 } else { 0 };
        ensure!(is_so, "{}{}", answer.message(), answer.body["metadata"]);
        Ok((in_a_row == 5).then_some(()))
    })
}

/// Which component runs, and what it asks for, as `kubectl get wasmpolicies` shows it.
fn what_a_policy_of_the_values_says_of_itself(world: &World) -> Result<()> {
    let digest = Sha256::digest(fs::read(unruly()?)?);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    world
        .cluster
        .until("the policy's status is written", Duration::from_mins(1), || {
            let policy = world.cluster.get("", "wasmpolicy/from-values")?;
            let status = &policy["status"];
            ensure!(
                condition(&policy, "Loaded") == Some("True")
                    && status["digest"] == format!("sha256:{digest}")
                    && status["capabilities"] == json!(["storage", "cluster"]),
                "{status}, and the component is {digest}"
            );
            Ok(Some(()))
        })
}

/// What `kubectl drain` asks for, of each Pod that is on the node.
fn a_drained_node_waits_for_a_replica(world: &World) -> Result<()> {
    let release = world.release()?;
    let pods = release.until_ready(REPLICAS)?;
    let evict = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": NAMESPACE, "name": name},
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction");
        world
            .cluster
            .try_kubectl(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())
    };
    let first = evict(&pods[0])?;
    ensure!(first.ok, "the first: {}", first.stderr);
    let second = evict(&pods[1])?;
    ensure!(
        !second.ok && second.stderr.contains("disruption budget"),
        "the second is evicted while the first has no successor: {}{}",
        second.stdout,
        second.stderr
    );
    let now = release.until_ready(REPLICAS)?;
    ensure!(!none_of(&now, &pods[1..]), "the replica that was left is gone");
    Ok(())
}

/// All tests before this one went by the rules of the chart's roles. What the API server wrote down of that tells which of them were of use.
fn every_right_was_needed_and_none_was_missing(world: &World) -> Result<()> {
    world.release_as_it_is()?;
    // A namespace with a quota is looked at more closely than one without.
    let metered = world.cluster.namespace("metered")?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "ample"}, "spec": {"hard": {"requests.memory": "1Ti"}}});
    metered.apply(&quota.to_string())?;
    let answer = world
        .cluster
        .api()?
        .would_create(metered.name(), &service("probe", "s3://mlflow/shared/probe"))?;
    ensure!(answer.admitted(), "{}", answer.message());
    let ledger = locked(&world.rights).ledger(&world.cluster)?;
    println!(
        "rights: {} granted, in {} requests; never used: {:?}",
        ledger.granted, ledger.requests, ledger.unused
    );
    ensure!(
        ledger.refused.is_empty(),
        "refused, though no test wanted it: {:#?}",
        ledger.refused
    );
    if world.all_ran {
        ensure!(
            ledger.unused.is_empty(),
            "no test needs them: {:#?} (take them out of the chart's roles, or test what they are for)",
            ledger.unused
        );
    }
    Ok(())
}

fn after_helm_uninstall_services_run_on_with_their_credentials(world: &World) -> Result<()> {
    let (model, uri) = world.model()?;
    let running = world.running()?;
    let release = world.release_as_it_is()?;
    let before = state(&running)?;
    world.uninstalled();
    release.uninstall()?;
    for left in [
        "mutatingwebhookconfiguration",
        "validatingwebhookconfiguration",
        "clusterrole",
        "clusterrolebinding",
    ] {
        let names = world.cluster.kubectl(&["get", left, "-o", "name"])?;
        let ours: Vec<_> = names.lines().filter(|name| name.contains(RELEASE)).collect();
        ensure!(ours.is_empty(), "uninstall leaves {ours:?}");
    }
    // The definitions are another chart's, and the admin's objects with them.
    world.cluster.kubectl(&["get", "crd/wasmpolicies.tidewaiter.dev"])?;
    world.cluster.kubectl(&["get", "storagebackend/minio"])?;
    unchanged(&running, &before)?;
    model.check(&running.infer("fraud", &model.request)?)?;
    // A Pod that comes later, on another node say, reads the Secret again. KServe calls the service ready for a moment yet.
    running.kubectl(&["delete", "pods", "--all", "--grace-period=1"])?;
    let answer = world.cluster.until("a new Pod answers", Duration::from_mins(5), || {
        running.infer("fraud", &model.request).map(Some)
    })?;
    model.check(&answer)?;
    // Nothing of ours is asked any more, so nothing of ours can refuse.
    running.apply(&manifests::bare("after", "mlflow", &uri))?;
    let after = running.get("isvc/after")?;
    running.kubectl(&["delete", "isvc/after", "--wait=false"])?;
    ensure!(!has_credentials(&after), "somebody still fills in credentials");
    Ok(())
}

/// What would change if anything was done to a running model: its Pods, what makes them, its credentials.
pub(crate) fn state(namespace: &Namespace) -> Result<Value> {
    let deployment = namespace.get("deployment/fraud-predictor")?;
    let service = namespace.get("isvc/fraud")?;
    let pods = namespace.pods("fraud")?;
    let pods = pods.iter().map(|pod| {
        let status = &pod["status"]["containerStatuses"][0];
        json!([pod["metadata"]["uid"], status["restartCount"]])
    });
    Ok(json!({
        "deployment": deployment["metadata"]["generation"],
        "service": service["metadata"]["generation"],
        "annotations": service["metadata"]["annotations"],
        "secret": namespace.get("secret/tidewaiter-minio")?["data"],
        "pods": pods.collect::<Value>(),
    }))
}

/// Nothing was done to it.
pub(crate) fn unchanged(namespace: &Namespace, before: &Value) -> Result<()> {
    let now = state(namespace)?;
    ensure!(now == *before, "was {before}\nis  {now}");
    Ok(())
}

/// Whether none of these Pods is one of the others.
fn none_of(pods: &[Value], others: &[Value]) -> bool {
    let name = |pod: &Value| pod["metadata"]["name"].clone();
    pods.iter()
        .all(|pod| others.iter().all(|other| name(other) != name(pod)))
}
