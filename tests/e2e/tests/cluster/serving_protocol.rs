//! Protocols and ports at which nobody answers: what KServe makes of them without Tidewaiter, and what `kubectl apply` says with it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::install::own_mlserver;
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, Said, condition, post};

use crate::served::{SDK_IMAGE, TRANSFORMER};
use crate::serving::answers;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_protocol_that_nobody_speaks_starts_no_pod_without_tidewaiter_and_is_refused_with_it",
        false,
        a_protocol_that_nobody_speaks_starts_no_pod_without_tidewaiter_and_is_refused_with_it,
    ),
    (
        "a_runtime_for_another_format_starts_no_pod_without_tidewaiter_and_is_refused_with_it",
        false,
        a_runtime_for_another_format_starts_no_pod_without_tidewaiter_and_is_refused_with_it,
    ),
    (
        "a_transformer_that_asks_in_another_protocol_gets_no_answer_without_tidewaiter_and_is_refused_with_it",
        true,
        a_transformer_that_asks_in_another_protocol_gets_no_answer_without_tidewaiter_and_is_refused_with_it,
    ),
    (
        "ports_without_names_get_no_service_without_tidewaiter_and_are_refused_with_it",
        false,
        ports_without_names_get_no_service_without_tidewaiter_and_are_refused_with_it,
    ),
    (
        "a_port_at_which_nobody_answers_is_refused",
        false,
        a_port_at_which_nobody_answers_is_refused,
    ),
    (
        "a_port_without_a_listener_is_led_to_nobody_without_tidewaiter_and_is_refused_with_it",
        true,
        a_port_without_a_listener_is_led_to_nobody_without_tidewaiter_and_is_refused_with_it,
    ),
    (
        "rest_and_grpc_beside_each_other_answer",
        true,
        rest_and_grpc_beside_each_other_answer,
    ),
    (
        "grpc_without_a_port_is_led_to_rest_without_tidewaiter_and_answers_with_it",
        true,
        grpc_without_a_port_is_led_to_rest_without_tidewaiter_and_answers_with_it,
    ),
];

fn service(uri: &str, more: &Value) -> Value {
    let mut model = json!({"modelFormat": {"name": "mlflow"}, "storageUri": uri});
    if let (Some(model), Some(more)) = (model.as_object_mut(), more.as_object()) {
        model.extend(more.clone());
    }
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud"},
        "spec": {"predictor": {"model": model}},
    })
}

/// What KServe says of it in the end: its status, and the manager's last lines.
pub(crate) fn kserve_says(world: &World, namespace: &Namespace, object: &Value, words: &str) -> Result<()> {
    namespace.apply(&object.to_string())?;
    world
        .cluster
        .until(&format!("KServe says `{words}`"), Duration::from_mins(1), || {
            let status = namespace.get("isvc/fraud")?["status"].to_string();
            let said = format!("{status}\n{}", namespace.diagnosis("fraud"));
            ensure!(said.contains(words), "{said}");
            Ok(Some(()))
        })
}

/// Refused, with these words.
pub(crate) fn refused(namespace: &Namespace, object: &Value, words: &[&str]) -> Result<()> {
    let said = namespace.try_apply(&["--server-side"], &object.to_string())?;
    ensure!(!said.ok, "admitted: {}", said.stderr);
    for word in words {
        ensure!(said.stderr.contains(word), "no `{word}` in {}", said.stderr);
    }
    Ok(())
}

fn a_protocol_that_nobody_speaks_starts_no_pod_without_tidewaiter_and_is_refused_with_it(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let object = service(&uri, &json!({"protocolVersion": "v1"}));
    let without = world.namespace_without("protocol-without")?;
    kserve_says(
        world,
        &without,
        &object,
        "No runtime found to support specified framework/version",
    )?;
    ensure!(without.pods("fraud")?.is_empty(), "there are Pods");

    let with = world.namespace("protocol")?;
    let words = [
        "no runtime for modelFormat mlflow speaks protocol v1",
        "Set protocolVersion to one that is spoken: v2",
    ];
    refused(&with, &object, &words)
}

fn a_runtime_for_another_format_starts_no_pod_without_tidewaiter_and_is_refused_with_it(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let other = service(&uri, &json!({"runtime": "kserve-sklearnserver"}));
    let without = world.namespace_without("format-without")?;
    kserve_says(
        world,
        &without,
        &other,
        "pecified runtime does not support specified framework/version",
    )?;
    ensure!(without.pods("fraud")?.is_empty(), "there are Pods");

    let with = world.namespace("format")?;
    refused(
        &with,
        &other,
        &[
            "runtime kserve-sklearnserver doesn't serve modelFormat mlflow",
            "kserve-mlserver",
        ],
    )
}

fn ports_without_names_get_no_service_without_tidewaiter_and_are_refused_with_it(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let ports = json!([{"containerPort": 8080, "name": "http"}, {"containerPort": 9000}]);
    let object = service(&uri, &json!({"protocolVersion": "v2", "ports": ports}));
    let without = world.namespace_without("unnamed-without")?;
    kserve_says(world, &without, &object, "Required value")?;

    let with = world.namespace("unnamed")?;
    refused(&with, &object, &["each needs a name", "9000 has none"])
}

fn a_port_at_which_nobody_answers_is_refused(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("ports")?;
    let at = |port: Value| service(&uri, &json!({"protocolVersion": "v2", "ports": [port]}));
    let wrong = at(json!({"containerPort": 8080, "name": "h2c"}));
    refused(&namespace, &wrong, &["For gRPC it listens on 9000"])?;
    let nobody = at(json!({"containerPort": 8081, "name": "h2c"}));
    refused(&namespace, &nobody, &["nothing listens on port 8081", "Write 9000"])?;
    // What Knative says of it is in `tests/knative.rs`.
    let mut knative = service(
        &uri,
        &json!({"protocolVersion": "v2", "ports": [{"containerPort": 8080, "name": "http1"}, {"containerPort": 9000, "name": "h2c"}]}),
    );
    knative["metadata"]["annotations"] = json!({"serving.kserve.io/deploymentMode": "Knative"});
    refused(&namespace, &knative, &["Knative takes one port for all containers"])?;
    namespace.apply(&at(json!({"containerPort": 9000, "name": "h2c"})).to_string())?;
    Ok(())
}

/// KServe asks at the port that is named whether the server is ready, and nobody says so, while it answers at its own.
fn a_port_without_a_listener_is_led_to_nobody_without_tidewaiter_and_is_refused_with_it(world: &World) -> Result<()> {
    world.cluster.serve_services()?;
    let (model, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let ports = json!([{"containerPort": 8081, "name": "http"}]);
    let object = service(&uri, &json!({"protocolVersion": "v2", "ports": ports}));
    let without = world.namespace_without("unheard-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::with_keys(&object, &endpoint, MINIO_USER, MINIO_USER))?;
    let answers_at = |address: &str| post(&format!("http://{address}/v2/models/fraud/infer"), &model.request);
    let answered = world
        .cluster
        .until("the server answers at its own port", Duration::from_mins(5), || {
            let pods = without.pods("fraud")?;
            let pod = pods.first().context("no Pod yet")?;
            let address = pod["status"]["podIP"].as_str().context("the Pod has no address yet")?;
            answers_at(&format!("{address}:8080")).map(Some)
        });
    answered.with_context(|| without.diagnosis("fraud"))?;
    world.cluster.until(
        "nobody answers at the one that is named",
        Duration::from_mins(2),
        || {
            let unhealthy = ["get", "events", "--field-selector", "reason=Unhealthy", "-o", "json"];
            let events = without.kubectl(&unhealthy)?;
            ensure!(events.contains(":8081: connect: connection refused"), "{events}");
            Ok(Some(()))
        },
    )?;
    let status = without.get("isvc/fraud")?;
    ensure!(condition(&status, "Ready") != Some("True"), "{}", status["status"]);
    let answer = answers_at(&address(&without)?);
    ensure!(answer.is_err(), "the Service answers: {answer:?}");

    let with = world.namespace("unheard")?;
    let says = "nothing listens on port 8081: the server has 8080 for REST and 9000 for gRPC. Write 8080";
    refused(&with, &object, &[says])
}

/// Both are Ready, and whoever asks the transformer gets an error: it asks its predictor at a path that isn't there.
fn a_transformer_that_asks_in_another_protocol_gets_no_answer_without_tidewaiter_and_is_refused_with_it(
    world: &World,
) -> Result<()> {
    world.cluster.serve_services()?;
    let (model, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let mut object = service(&uri, &json!({"protocolVersion": "v2"}));
    object["spec"]["transformer"] = json!({"containers": [{
        "name": "kserve-container",
        "image": SDK_IMAGE,
        "command": ["python3", "-c", TRANSFORMER],
        "args": ["--predictor_protocol", "v1"],
        "resources": {"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"memory": "1Gi"}},
    }]});
    let without = world.namespace_without("asks-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::with_keys(&object, &endpoint, MINIO_USER, MINIO_USER))?;
    without.ready("fraud")?;
    let predictor = format!("http://{}/v2/models/fraud/infer", address(&without)?);
    world
        .cluster
        .until("the predictor answers by itself", Duration::from_mins(2), || {
            post(&predictor, &model.request).map(Some)
        })?;
    let transformer = address_of(&without, "fraud-transformer")?;
    let transformer = format!("http://{transformer}/v1/models/fraud:predict");
    let asked = world.cluster.until(
        "the transformer says what it was answered",
        Duration::from_mins(1),
        || match post(&transformer, &model.instances()) {
            Ok(answer) => Ok(Some(Err(answer))),
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(error.contains("404 Not Found"), "{error}");
                Ok(Some(Ok(())))
            }
        },
    )?;
    if let Err(answer) = asked {
        bail!("the transformer answers {answer}: the refusal is out of date");
    }
    drop(without);

    let with = world.namespace("asks")?;
    let says = [
        "it asks the predictor in protocol v1, which the predictor's runtime kserve-mlserver doesn't speak",
        "Write --predictor_protocol with what it speaks: v2",
    ];
    refused(&with, &object, &says)
}

/// Where callers go: the address of KServe's Service, which leads to one port of the Pod.
fn address(namespace: &Namespace) -> Result<String> {
    address_of(namespace, "fraud-predictor")
}

fn address_of(namespace: &Namespace, service: &str) -> Result<String> {
    let address = namespace.get(&format!("service/{service}"))?["spec"]["clusterIP"].clone();
    address
        .as_str()
        .map(|address| format!("{address}:80"))
        .context("the Service has no address")
}

fn rest_and_grpc_beside_each_other_answer(world: &World) -> Result<()> {
    let (model, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("both-ports")?;
    let ports = json!([{"containerPort": 8080, "name": "http"}, {"containerPort": 9000, "name": "grpc"}]);
    namespace.apply(&service(&uri, &json!({"ports": ports})).to_string())?;
    answers(world, &namespace, "fraud", &model)?;
    model.check(&namespace.infer_grpc("fraud", &model.request)?)
}

fn grpc_without_a_port_is_led_to_rest_without_tidewaiter_and_answers_with_it(world: &World) -> Result<()> {
    world.cluster.serve_services()?;
    let (model, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let object = service(&uri, &json!({"protocolVersion": "grpc-v2"}));

    let without = world.namespace_without("grpc-without")?;
    speaks_grpc(&without)?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    // And with the name of a port for gRPC, but REST's number.
    let mut wrong = service(
        &uri,
        &json!({"protocolVersion": "grpc-v2", "ports": [{"containerPort": 8080, "name": "h2c"}]}),
    );
    wrong["metadata"]["name"] = json!("wrong");
    for object in [&object, &wrong] {
        without.apply(&manifests::with_keys(object, &endpoint, MINIO_USER, MINIO_USER))?;
    }
    for name in ["fraud", "wrong"] {
        without.ready(name)?;
        let address = address_of(&without, &format!("{name}-predictor"))?;
        let rest = format!("http://{address}/v2/models/{name}/infer");
        world
            .cluster
            .until("the Service leads to REST", Duration::from_mins(1), || {
                post(&rest, &model.request).map(Some)
            })?;
        let answer = without.infer_grpc_at(&address, name, &model.request);
        ensure!(answer.is_err(), "gRPC of {name} is answered: {answer:?}");
    }

    let with = world.namespace("grpc")?;
    speaks_grpc(&with)?;
    let filled = |said: &Said| {
        let mut lines = said.warnings().into_iter();
        lines.any(|line| {
            line.starts_with("tidewaiter: spec.predictor.model.ports = [{\"containerPort\":9000,")
                && line.ends_with(": else KServe's Service leads to 8080")
        })
    };
    world
        .cluster
        .until("the runtime is known", Duration::from_mins(1), || {
            let said = with.try_apply(&["--server-side", "--dry-run=server"], &object.to_string())?;
            ensure!(said.ok && filled(&said), "{}", said.stderr);
            Ok(Some(()))
        })?;
    refused(&with, &wrong, &["For gRPC it listens on 9000"])?;
    let said = with.apply(&object.to_string())?;
    ensure!(filled(&said), "{}", said.stderr);
    let ports = with.get("isvc/fraud")?["spec"]["predictor"]["model"]["ports"].clone();
    let wanted = json!([{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}]);
    ensure!(ports == wanted, "ports {ports}");
    with.ready("fraud")?;
    let answer = world
        .cluster
        .until("the Service leads to gRPC", Duration::from_mins(1), || {
            with.infer_grpc_at(&address(&with)?, "fraud", &model.request).map(Some)
        })?;
    model.check(&answer)
}

/// A runtime of the namespace's own that says of MLServer what KServe's leaves out.
fn speaks_grpc(namespace: &Namespace) -> Result<()> {
    own_mlserver(namespace, |spec| spec["protocolVersions"] = json!(["v2", "grpc-v2"]))
}
