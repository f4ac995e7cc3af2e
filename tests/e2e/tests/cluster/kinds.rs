//! Other kinds of KServe's that have to do with models.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{BEFORE_KSERVE, make_up_models};
use tidewaiter_ground::Namespace;

use crate::hammer::service;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_llm_gets_its_credentials_on_its_metadata",
        false,
        an_llm_gets_its_credentials_on_its_metadata,
    ),
    (
        "a_service_with_a_cached_model_is_left_alone",
        false,
        a_service_with_a_cached_model_is_left_alone,
    ),
];

const SECRET: &str = "serving.kserve.io/storageSecretName";

fn an_llm_gets_its_credentials_on_its_metadata(world: &World) -> Result<()> {
    world.cluster.serve("llminferenceservices.serving.kserve.io")?;
    let namespace = world.namespace("llm")?;
    make_up_models(&namespace)?;
    let llm = |name: &str, uri: &str| {
        json!({
            "apiVersion": "serving.kserve.io/v1alpha2",
            "kind": "LLMInferenceService",
            "metadata": {"name": name},
            "spec": {"model": {"uri": uri, "name": name}, "replicas": 1},
        })
        .to_string()
    };
    let chat = llm("chat", &format!("s3://mlflow/{}/chat", namespace.name()));
    let said = namespace.apply(&chat)?;
    let object = namespace.get("llminferenceservice/chat")?;
    ensure!(
        object["metadata"]["annotations"][SECRET] == "tidewaiter-minio",
        "metadata {}",
        object["metadata"]
    );
    ensure!(
        said.warnings().iter().any(|line| line.contains("storageSecretName")),
        "nothing is said of it: {}",
        said.stderr
    );
    namespace.get("secret/tidewaiter-minio")?;

    namespace.apply(&chat)?;
    let again = namespace.get("llminferenceservice/chat")?;
    for part in ["generation", "annotations"] {
        ensure!(
            object["metadata"][part] == again["metadata"][part],
            "before {object}\nafter {again}"
        );
    }

    let said = namespace.try_apply(&["--server-side"], &llm("theirs", "s3://mlflow/another-team/chat"))?;
    ensure!(
        !said.ok && said.stderr.contains("#ml-platform"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    Ok(())
}

/// KServe labels a service whose model a LocalModelCache holds, and mounts the model: nothing is downloaded, so nobody needs credentials.
fn a_service_with_a_cached_model_is_left_alone(world: &World) -> Result<()> {
    for definition in ["localmodelcaches", "localmodelnamespacecaches"] {
        world.cluster.serve(&format!("{definition}.serving.kserve.io"))?;
    }
    enable_local_models(world)?;
    let before = world.namespace_of(BEFORE_KSERVE, "cached-before")?;
    for namespace in [world.namespace("cached")?, before] {
        make_up_models(&namespace)?;
        let folder = format!("s3://mlflow/{}/", namespace.name());
        let uri = format!("{folder}cached");
        let _cache = Custom::apply(
            &world.cluster,
            &json!({
                "apiVersion": "serving.kserve.io/v1alpha1",
                "kind": "LocalModelCache",
                "metadata": {"name": namespace.name()},
                "spec": {"sourceModelUri": uri, "modelSize": "1Gi", "nodeGroups": ["workers"]},
            }),
        )?;
        let cached = made(world, &namespace, "cached", &uri)?;
        ensure!(
            cached["labels"]["internal.serving.kserve.io/localmodel"] == namespace.name(),
            "KServe doesn't know the model: {cached}"
        );
        ensure!(
            cached["annotations"][SECRET].is_null() && cached["annotations"]["tidewaiter.dev/filled"].is_null(),
            "in {}: {cached}",
            namespace.name()
        );
        let other = made(world, &namespace, "other", &format!("{folder}other"))?;
        ensure!(other["annotations"][SECRET] == "tidewaiter-minio", "{other}");
    }
    Ok(())
}

/// The metadata that a new service would have.
fn made(world: &World, namespace: &Namespace, name: &str, uri: &str) -> Result<Value> {
    let mut service = service(name, uri);
    service["spec"]["predictor"]["model"]["modelFormat"]["name"] = json!("sklearn");
    let answer = world.cluster.api()?.would_create(namespace.name(), &service)?;
    ensure!(answer.admitted(), "{}", answer.message());
    Ok(answer.body["metadata"].clone())
}

/// Switches KServe's looking for caches on, as its configuration says.
fn enable_local_models(world: &World) -> Result<()> {
    let map = world.cluster.get("kserve", "configmap/inferenceservice-config")?;
    let text = map["data"]["localModel"].as_str().context("no localModel")?;
    let mut local: Value = serde_json::from_str(text)?;
    local["enabled"] = json!(true);
    let change = json!({"data": {"localModel": local.to_string()}}).to_string();
    let patch = [
        "patch",
        "-n",
        "kserve",
        "configmap/inferenceservice-config",
        "--type=merge",
        "-p",
        &change,
    ];
    // KServe reads it anew at each admission, from the API server itself.
    world.cluster.kubectl(&patch).map(drop)
}
