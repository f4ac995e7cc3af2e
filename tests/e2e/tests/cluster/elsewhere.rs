//! Rules from elsewhere: what docs/elsewhere.md shows, on the real API server. CEL does without us; what Kyverno, Gatekeeper and Kubewarden ran, we run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_e2e::policy::build;
use tidewaiter_ground::{Answer, tls};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("cel_does_what_the_page_says", false, cel_does_what_the_page_says),
    (
        "rules_from_kyverno_gatekeeper_and_kubewarden_do_what_the_page_says",
        false,
        rules_from_kyverno_gatekeeper_and_kubewarden_do_what_the_page_says,
    ),
];

/// The variable with the folder of their components, inside the ground, where nothing can be built.
pub(crate) const BUILT: &str = "TIDEWAITER_ELSEWHERE";
/// The packages below policies/examples/elsewhere.
pub(crate) const PACKAGES: [&str; 3] = [
    "elsewhere-cost-center",
    "elsewhere-model-stores",
    "elsewhere-gpu-replicas",
];

const FEW_REPLICAS: &str = include_str!("../../../../policies/examples/elsewhere/cel/few-replicas.yaml");
const TIMEOUT: &str = include_str!("../../../../policies/examples/elsewhere/cel/timeout.yaml");

/// A custom container, so that no runtime and no store has a say.
fn service(predictor: &Value, labels: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "kserve-container", "image": "registry.example/own:1"}]});
    for (name, value) in predictor.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud", "labels": labels},
        "spec": {"predictor": spec},
    })
}

fn admitted(answer: &Answer) -> Result<()> {
    ensure!(answer.admitted(), "refused: {}", answer.message());
    Ok(())
}

fn refused(answer: &Answer, says: &str) -> Result<()> {
    ensure!(!answer.admitted(), "admitted: {}", answer.body);
    ensure!(answer.message().contains(says), "it says {}", answer.message());
    Ok(())
}

fn cel_does_what_the_page_says(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let api = world.cluster.api()?;
    for rule in [FEW_REPLICAS, TIMEOUT] {
        let said = world
            .cluster
            .try_kubectl(&["apply", "--server-side", "-f", "-"], rule)?;
        ensure!(said.ok, "{}", said.stderr);
    }
    let dev = world.cluster.namespace_with("cel-dev", &json!({"tier": "dev"}))?;
    let other = world.namespace("cel-other")?;
    let many = service(&json!({"minReplicas": 2}), &json!({}));
    // The API server takes a moment until a rule is in force.
    world.cluster.until("both rules are in force", Duration::from_mins(1), || {
        let answer = api.would_create(dev.name(), &many)?;
        refused(
            &answer,
            "ValidatingAdmissionPolicy 'few-replicas' with binding 'few-replicas' denied request: spec.predictor.minReplicas is 2, and may be 1 in a \
             namespace labelled tier=dev: leave it out, or deploy into a namespace of another tier",
        )?;
        let one = api.would_create(dev.name(), &service(&json!({"minReplicas": 1}), &json!({})))?;
        admitted(&one)?;
        ensure!(one.body["spec"]["predictor"]["timeout"] == 60, "{}", one.body["spec"]);
        Ok(Some(()))
    })?;
    let own = api.would_create(dev.name(), &service(&json!({"timeout": 5}), &json!({})))?;
    admitted(&own)?;
    ensure!(own.body["spec"]["predictor"]["timeout"] == 5, "{}", own.body["spec"]);
    let elsewhere = api.would_create(other.name(), &many)?;
    admitted(&elsewhere)?;
    ensure!(
        elsewhere.body["spec"]["predictor"]["timeout"].is_null(),
        "{}",
        elsewhere.body["spec"]
    );
    for rule in [FEW_REPLICAS, TIMEOUT] {
        let said = world.cluster.try_kubectl(&["delete", "-f", "-"], rule)?;
        ensure!(said.ok, "{}", said.stderr);
    }
    Ok(())
}

fn rules_from_kyverno_gatekeeper_and_kubewarden_do_what_the_page_says(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let api = world.cluster.api()?;
    let folder = match std::env::var_os(BUILT) {
        Some(folder) => PathBuf::from(folder),
        None => build(&PACKAGES)?,
    };
    let mut data = json!({});
    for package in PACKAGES {
        let component = std::fs::read(folder.join(format!("{package}.component.wasm"))).context(package)?;
        data[format!("{package}.wasm")] = json!(tls::base64(&component));
    }
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": "house-rules"},
        "binaryData": data,
    });
    let said = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &map.to_string())?;
    ensure!(said.ok, "{}", said.stderr);

    let paying = world
        .cluster
        .namespace_with("elsewhere", &json!({"cost-center": "CC-0815"}))?;
    let silent = world.namespace("elsewhere-silent")?;
    let namespaces = [paying.name(), silent.name()];
    let policy = |package: &str, settings: &Value, capabilities: &[&str]| {
        Custom::apply(
            &world.cluster,
            &json!({
                "apiVersion": "tidewaiter.dev/v1alpha1",
                "kind": "WasmPolicy",
                "metadata": {"name": package},
                "spec": {
                    "module": {"configMap": {"namespace": NAMESPACE, "name": "house-rules", "key": format!("{package}.wasm")}},
                    "settings": settings,
                    "capabilities": capabilities,
                    "match": {"namespaces": namespaces},
                    "failurePolicy": "fail",
                },
            }),
        )
    };
    let prefixes = json!({"prefixes": ["s3://models/", "hf://our-organisation/"]});
    let policies = [
        policy(PACKAGES[0], &json!({}), &["cluster"])?,
        policy(PACKAGES[1], &prefixes, &[])?,
        policy(PACKAGES[2], &json!({"maxReplicas": 2}), &[])?,
    ];
    for policy in &policies {
        policy.until("Loaded", "True")?;
    }

    let paid = json!({"cost-center": "CC-4711"});
    let gpu = |replicas: Value| {
        let mut service = service(&json!({"maxReplicas": replicas}), &paid);
        service["spec"]["predictor"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": 1}});
        service
    };
    let from = |uri: &str| {
        let mut service = service(&json!({}), &paid);
        service["spec"]["predictor"]["containers"][0]["env"] = json!([{"name": "STORAGE_URI", "value": uri}]);
        service
    };
    // From Kyverno.
    let filled = api.would_create(paying.name(), &service(&json!({}), &json!({})))?;
    admitted(&filled)?;
    ensure!(
        filled.body["metadata"]["labels"]["cost-center"] == "CC-0815",
        "{}",
        filled.body["metadata"]
    );
    admitted(&api.would_create(silent.name(), &service(&json!({}), &paid))?)?;
    refused(
        &api.would_create(silent.name(), &service(&json!({}), &json!({})))?,
        &format!(
            "label cost-center is missing or is none: write CC- and four digits, or label the namespace {}",
            silent.name()
        ),
    )?;
    // From Gatekeeper.
    admitted(&api.would_create(silent.name(), &from("hf://our-organisation/bert"))?)?;
    refused(
        &api.would_create(silent.name(), &from("hf://theirs/bert"))?,
        "/env/0/value: hf://theirs/bert is in none of the stores that models may come from: s3://models/, hf://our-organisation/",
    )?;
    // From Kubewarden.
    let answer = api.would_create(silent.name(), &gpu(json!(null)))?;
    admitted(&answer)?;
    ensure!(
        answer.body["spec"]["predictor"]["maxReplicas"] == 2,
        "{}",
        answer.body["spec"]
    );
    admitted(&api.would_create(silent.name(), &gpu(json!(1)))?)?;
    refused(
        &api.would_create(silent.name(), &gpu(json!(3)))?,
        "/spec/predictor/maxReplicas is 3, and may be 2 with a GPU each",
    )
}
