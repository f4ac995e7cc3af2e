//! A policy that was written by the guide a minute ago, enforced by the real API server.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::author::{self, NAME};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_ground::Namespace;
use tidewaiter_tools::Language;

use crate::command::tidewaiter;
use crate::distribution::Shop;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl",
    false,
    an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl,
)];

/// A component of a script language is too large for a `ConfigMap`, so all come from a registry.
const ADDRESS: &str = "127.0.0.1:5001";

fn service(team: Option<&str>) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud", "labels": team.map(|team| json!({"team": team})).unwrap_or_default()},
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "example.com/server:1"}]}},
    })
}

/// Has the component in a registry, and a policy of it that is for one namespace. As the guide says: `policy push`, and a `WasmPolicy`.
fn install<'w>(world: &'w World, component: &Path, namespace: &str) -> Result<Custom<'w>> {
    let image = format!("{ADDRESS}/authors/{namespace}:1");
    let file = component.display().to_string();
    tidewaiter(world.cluster.kubeconfig(), &["policy", "push", &file, &image])?.ended(0)?;
    let policy = Custom::apply(
        &world.cluster,
        &json!({
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": format!("{NAME}-{namespace}")},
            "spec": {
                "module": {"oci": {"image": image}},
                "match": {"namespaces": [namespace]},
                "capabilities": ["log"],
                // A cluster on two cores, with everything else on them, is no place to measure.
                "limits": {"memoryMiB": 64, "timeMs": 2000},
                "failurePolicy": "fail",
            },
        }),
    )?;
    policy.until("Loaded", "True")?;
    Ok(policy)
}

fn an_authors_policy_goes_from_nothing_to_a_refusal_by_kubectl(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let _shop = Shop::open(world, "authors", ADDRESS, false)?;
    let folder = author::authored()?;
    for language in Language::ALL {
        let Some(component) = author::component(&folder, language) else {
            continue;
        };
        let namespace = world.namespace(&format!("authored-{language}"))?;
        let _policy = install(world, &component, namespace.name())?;
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
        reviewed(world, &namespace).with_context(|| language.to_string())?;
    }
    Ok(())
}

/// `review` and `explain` say the same, by the cluster's own configuration, read through a kubeconfig.
fn reviewed(world: &World, namespace: &Namespace) -> Result<()> {
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

    let live = format!("{}/fraud", namespace.name());
    let said = tidewaiter(kubeconfig, &["explain", &live, "-o", "json"])?.ended(0)?;
    let explained: Value = serde_json::from_str(&said.stdout)?;
    let policies = explained["policies"].as_array().into_iter().flatten();
    let ours = format!("{NAME}-{}", namespace.name());
    ensure!(
        policies
            .filter_map(|policy| policy["policy"].as_str())
            .any(|name| name == ours),
        "{said:#?}"
    );
    Ok(())
}
