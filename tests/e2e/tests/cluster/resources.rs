//! Resources that Kubernetes refuses once KServe asks for them, and those that don't fit the model.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;

use crate::serving_protocol::{kserve_says, refused};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_request_above_its_limit_starts_no_pod_without_tidewaiter_and_is_refused_with_it",
        false,
        a_request_above_its_limit_starts_no_pod_without_tidewaiter_and_is_refused_with_it,
    ),
    (
        "a_second_container_for_the_server_is_refused_with_what_to_do",
        false,
        a_second_container_for_the_server_is_refused_with_what_to_do,
    ),
    (
        "a_model_that_does_not_fit_is_warned_of",
        false,
        a_model_that_does_not_fit_is_warned_of,
    ),
];

fn service(uri: &str, resources: &Value) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud"},
        "spec": {"predictor": {"model": {
            "modelFormat": {"name": "mlflow"},
            "protocolVersion": "v2",
            "storageUri": uri,
            "resources": resources,
        }}},
    })
}

fn a_request_above_its_limit_starts_no_pod_without_tidewaiter_and_is_refused_with_it(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let object = service(
        &uri,
        &json!({"requests": {"memory": "8Gi"}, "limits": {"memory": "4Gi"}}),
    );
    let without = world.namespace_without("request-without")?;
    kserve_says(world, &without, &object, "must be less than or equal to memory limit")?;
    ensure!(without.pods("fraud")?.is_empty(), "there are Pods");

    let with = world.namespace("request")?;
    refused(
        &with,
        &object,
        &["asks for memory 8Gi and may use 4Gi", "Set limits.memory to 8Gi"],
    )
}

fn a_second_container_for_the_server_is_refused_with_what_to_do(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let mut object = service(&uri, &json!({}));
    object["spec"]["predictor"]["containers"] =
        json!([{"name": "kserve-container", "image": "example.com/x:1", "resources": {"limits": {"memory": "4Gi"}}}]);
    let without = world.namespace_without("twice-without")?;
    let said = without.try_apply(&["--server-side"], &object.to_string())?;
    ensure!(!said.ok && said.stderr.contains("xactly one of"), "{}", said.stderr);

    let with = world.namespace("twice")?;
    refused(
        &with,
        &object,
        &["KServe takes for a second server", "in /spec/predictor/model"],
    )
}

fn a_model_that_does_not_fit_is_warned_of(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("fits")?;
    let small = json!({"requests": {"memory": "1Ki"}, "limits": {"memory": "1Ki", "ephemeral-storage": "1Ki"}});
    let said = namespace.apply(&service(&uri, &small).to_string())?;
    for words in [
        "may use 1Ki of memory; raise limits.memory",
        "may use 1Ki of disk; raise limits.ephemeral-storage",
    ] {
        ensure!(said.stderr.contains(words), "no `{words}` in {}", said.stderr);
    }
    let fine = json!({"limits": {"memory": "2Gi"}});
    let said = namespace.apply(&service(&uri, &fine).to_string())?;
    ensure!(!said.stderr.contains("may use"), "{}", said.stderr);
    Ok(())
}
