//! A policy that was written by the guide a minute ago, enforced by the real API server.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::author::{self, NAME};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_ground::tls;

use crate::command::tidewaiter;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl",
        false,
        an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl,
    ),
    (
        "review_and_explain_say_what_the_cluster_says",
        false,
        review_and_explain_say_what_the_cluster_says,
    ),
];

/// Languages whose projects are made, built and tested.
pub(crate) const LANGUAGES: &[&str] = &["rust"];

fn service(team: Option<&str>) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud", "labels": team.map(|team| json!({"team": team})).unwrap_or_default()},
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "example.com/server:1"}]}},
    })
}

/// A `ConfigMap` with the component, and a policy of it that is for one namespace.
fn install<'w>(world: &'w World, language: &str, namespace: &str) -> Result<Custom<'w>> {
    let component = author::component(&author::authored(LANGUAGES)?, language)?;
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "tidewaiter-system", "name": namespace},
        "binaryData": {"house-rules.wasm": tls::base64(&component)},
    });
    let said = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &map.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    let policy = Custom::apply(
        &world.cluster,
        &json!({
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": format!("{NAME}-{namespace}")},
            "spec": {
                "module": {"configMap": {"namespace": "tidewaiter-system", "name": namespace, "key": "house-rules.wasm"}},
                "match": {"namespaces": [namespace]},
            },
        }),
    )?;
    policy.until("Loaded", "True")?;
    Ok(policy)
}

fn an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl(world: &World) -> Result<()> {
    world.tidewaiter()?;
    for language in LANGUAGES {
        let namespace = world.namespace(&format!("authored-{language}"))?;
        let _policy = install(world, language, namespace.name())?;
        let refused = namespace.try_apply(&["--server-side"], &service(None).to_string())?;
        ensure!(
            !refused.ok
                && refused
                    .stderr
                    .contains("fraud belongs to no team; give it the label `team`"),
            "{language}: {refused:?}"
        );
        let admitted = namespace.try_apply(&["--server-side"], &service(Some("fraud")).to_string())?;
        ensure!(admitted.ok, "{language}: {admitted:?}");
    }
    Ok(())
}

/// By the cluster's own configuration, read through a kubeconfig.
fn review_and_explain_say_what_the_cluster_says(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let namespace = world.namespace("reviewed")?;
    let _policy = install(world, LANGUAGES[0], namespace.name())?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("services.yaml");
    let mut own = service(Some("fraud"));
    own["metadata"]["name"] = json!("own");
    std::fs::write(&file, format!("{}\n---\n{}\n", service(None), own))?;
    let file = file.display().to_string();
    let kubeconfig = world.cluster.kubeconfig();
    let said = tidewaiter(kubeconfig, &["review", &file, "-n", namespace.name(), "-o", "json"])?.ended(1)?;
    let reviewed: Value = serde_json::from_str(&said.stdout)?;
    let verdicts = [0, 1].map(|index| reviewed["objects"][index]["verdict"].as_str().unwrap_or_default());
    ensure!(verdicts == ["refused", "admitted"], "{said:#?}");
    let finding = &reviewed["objects"][0]["findings"][0];
    ensure!(finding["code"] == "no-team" && finding["line"] == 1, "{said:#?}");

    namespace.apply(&own.to_string())?;
    let live = format!("{}/own", namespace.name());
    let said = tidewaiter(kubeconfig, &["explain", &live, "-o", "json"])?.ended(0)?;
    let explained: Value = serde_json::from_str(&said.stdout)?;
    let policies: Vec<_> = explained["policies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|policy| policy["policy"].as_str())
        .collect();
    let ours = format!("{NAME}-{}", namespace.name());
    ensure!(policies.contains(&ours.as_str()), "{said:#?}");
    Ok(())
}
