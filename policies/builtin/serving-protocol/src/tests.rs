use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_policy::core::lines::LINE;
use tidewaiter_policy::testing::{World, create, runtime};
use tidewaiter_policy::{Policy, Request, Verdict};

use super::*;

mod by_port;

const MLSERVER: &str = "docker.io/seldonio/mlserver";
const SKLEARN: &str = "docker.io/kserve/sklearnserver";
const TRITON: &str = "nvcr.io/nvidia/tritonserver";
const PROTOCOL: &str = "/spec/predictor/model/protocolVersion";

/// KServe 0.20's runtimes, as far as the tests need them.
fn world() -> World {
    let mlserver = || runtime("kserve-mlserver", MLSERVER, "1.7.1", &["v2"]);
    let triton = || runtime("kserve-tritonserver", TRITON, "23.05-py3", &["v2", "grpc-v2"]);
    let sklearn = || runtime("kserve-sklearnserver", SKLEARN, "v0.20.0", &["v1", "v2"]);
    World::new()
        .runtime("mlflow", Some("1"), mlserver())
        .runtime("sklearn", Some("1"), mlserver())
        .runtime("sklearn", Some("1"), sklearn())
        .runtime("triton", None, triton())
        .runtime_spec(
            "kserve-mlserver",
            &json!({"containers": [{"name": "kserve-container", "image": "docker.io/seldonio/mlserver:1.7.1", "env": [
                {"name": "MLSERVER_HTTP_PORT", "value": "8080"}, {"name": "MLSERVER_GRPC_PORT", "value": "9000"}]}]}),
        )
        .runtime_spec(
            "kserve-sklearnserver",
            &json!({"containers": [{"name": "kserve-container", "image": "docker.io/kserve/sklearnserver:v0.20.0",
                "args": ["--model_name={{.Name}}", "--model_dir=/mnt/models", "--http_port=8080"]}]}),
        )
}

fn in_mode(mode: &str) -> World {
    world().kserve_config("deploy", &json!({"defaultDeploymentMode": mode}))
}

fn model(format: &str, more: Value) -> Value {
    let mut model = json!({"modelFormat": {"name": format}, "storageUri": "s3://mlflow/1/m"});
    model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    model
}

fn service(format: &str, more: Value) -> Value {
    json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"model": model(format, more)}}})
}

fn review(world: &World, object: &Value) -> Verdict {
    world.review::<ServingProtocol>(&create(object))
}

fn refused(world: &World, object: &Value) -> (String, String, String) {
    world.refused::<ServingProtocol>(object)
}

fn warned(world: &World, object: &Value) -> String {
    world.warned::<ServingProtocol>(object)
}

fn passes(world: &World, object: &Value) {
    world.passes::<ServingProtocol>(object);
}

#[test]
fn a_bare_mlflow_model_is_asked_for_in_v2() {
    let verdict = review(&world(), &service("mlflow", json!({})));
    let fills: Vec<_> = verdict.fills.iter().map(|fill| (&*fill.path, &*fill.value)).collect();
    assert_eq!(fills, [(PROTOCOL, "\"v2\"")]);
    assert_eq!(
        tidewaiter_policy::testing::line(&verdict.fills[0]),
        "tidewaiter: spec.predictor.model.protocolVersion = \"v2\": kserve-mlserver speaks v2, and none that fits speaks v1"
    );
}

#[test]
fn what_another_policy_filled_in_is_not_filled_in_again() {
    passes(
        &world(),
        &service("mlflow", json!({"protocolVersion": "v2", "runtime": "kserve-mlserver"})),
    );
}

#[test]
fn a_format_that_a_runtime_serves_in_v1_is_left_alone() {
    passes(&world(), &service("sklearn", json!({})));
    passes(&world(), &service("sklearn", json!({"protocolVersion": "v2"})));
}

#[test]
fn a_protocol_that_no_runtime_for_the_format_speaks_is_refused() {
    let (code, message, path) = refused(&world(), &service("mlflow", json!({"protocolVersion": "v1"})));
    assert_eq!((&*code, &*path), ("protocol-unspoken", PROTOCOL));
    assert_eq!(
        message,
        "predictor: no runtime for modelFormat mlflow speaks protocol v1, so KServe finds none and starts no Pod. Set protocolVersion to one that is spoken: v2 \
         (kserve-mlserver does), or install a runtime that speaks it before the service"
    );
    let (_, message, _) = refused(&world(), &service("sklearn", json!({"protocolVersion": "grpc-v2"})));
    assert!(message.contains("one that is spoken: v1, v2"), "{message}");
}

/// As where one `kubectl apply` makes the runtime and the service.
#[test]
fn a_runtime_that_was_made_or_changed_a_moment_ago_counts() {
    let own = |kind: &str, name: &str, formats: Value, protocols: Value| {
        json!({
            "kind": kind,
            "metadata": {"name": name, "namespace": "team-a", "creationTimestamp": "2026-11-29T10:00:00Z"},
            "spec": {"supportedModelFormats": formats, "protocolVersions": protocols, "containers": [{"name": "kserve-container", "image": "a/b:1"}]},
        })
    };
    let with = |kind: &str, name: &str, formats: Value, protocols: Value| {
        world().cluster_object(
            "serving.kserve.io/v1alpha1",
            kind,
            name,
            &own(kind, name, formats, protocols),
        )
    };
    let chosen = || json!([{"name": "sklearn", "autoSelect": true}]);
    let asked = service("sklearn", json!({"protocolVersion": "grpc-v2"}));
    refused(&world(), &asked);
    for kind in ["ServingRuntime", "ClusterServingRuntime"] {
        passes(&with(kind, "ours", chosen(), json!(["grpc-v2"])), &asked);
    }
    refused(&with("ServingRuntime", "ours", chosen(), json!(["v2"])), &asked);
    refused(
        &with(
            "ServingRuntime",
            "ours",
            json!([{"name": "sklearn"}]),
            json!(["grpc-v2"]),
        ),
        &asked,
    );

    let named = service(
        "mlflow",
        json!({"runtime": "kserve-sklearnserver", "protocolVersion": "v1"}),
    );
    refused(&world(), &named);
    let formats = || json!([{"name": "sklearn"}, {"name": "mlflow"}]);
    let runtime = "ClusterServingRuntime";
    passes(&with(runtime, "kserve-sklearnserver", formats(), json!(["v1"])), &named);
    refused(&with(runtime, "kserve-sklearnserver", formats(), json!(["v2"])), &named);
    let spoken = service("mlflow", json!({"runtime": "kserve-mlserver", "protocolVersion": "v1"}));
    refused(&world(), &spoken);
    passes(
        &with(runtime, "kserve-mlserver", formats(), json!(["v1", "v2"])),
        &spoken,
    );
}

#[test]
fn where_v2_cannot_be_filled_in_it_is_refused_with_what_to_write() {
    let canary = json!({"spec": {"predictor": {"model": model("sklearn", json!({}))}, "canary": [{"predictor": {"model": model("mlflow", json!({}))}}]}});
    let (code, message, path) = refused(&world(), &canary);
    assert_eq!(
        (&*code, &*path),
        ("protocol-unspoken", "/spec/canary/0/predictor/model/protocolVersion")
    );
    assert!(message.contains("which KServe takes where none is set"), "{message}");

    let request = Request {
        withheld: vec![PROTOCOL.to_owned()],
        ..create(&service("mlflow", json!({})))
    };
    let verdict = world().review::<ServingProtocol>(&request);
    assert!(verdict.fills.is_empty() && verdict.denial.is_some());
}

#[test]
fn a_canary_has_the_predictors_runtime_and_protocol_where_it_names_none() {
    let canary = |predictor: Value, canary: Value| json!({"spec": {"predictor": {"model": predictor}, "canary": [{"predictor": {"model": canary}}]}});
    let bare = || model("mlflow", json!({}));
    passes(
        &world(),
        &canary(model("mlflow", json!({"protocolVersion": "v2"})), bare()),
    );
    let filled = world().review::<ServingProtocol>(&create(&canary(bare(), bare())));
    assert!(filled.denial.is_none() && filled.fills.len() == 1, "{filled:?}");
    let named = model("mlflow", json!({"runtime": "kserve-mlserver"}));
    passes(&world(), &canary(named.clone(), bare()));
    // Its own word counts more.
    let (_, message, _) = refused(
        &world(),
        &canary(named, model("mlflow", json!({"protocolVersion": "v1"}))),
    );
    assert!(message.starts_with("canary 0: "), "{message}");
}

#[test]
fn a_runtime_that_does_not_fit_is_refused() {
    let (code, message, path) = refused(&world(), &service("mlflow", json!({"runtime": "kserve-sklearnserver"})));
    assert_eq!((&*code, &*path), ("runtime-format", "/spec/predictor/model/runtime"));
    assert!(message.ends_with("or name one that does: kserve-mlserver"), "{message}");
    let versioned = service(
        "sklearn",
        json!({"runtime": "kserve-mlserver", "modelFormat": {"name": "sklearn", "version": "9"}}),
    );
    let (_, message, _) = refused(&world(), &versioned);
    assert!(message.contains("sklearn (version \"9\")"), "{message}");

    let (code, message, _) = refused(
        &world(),
        &service("mlflow", json!({"runtime": "kserve-mlserver", "protocolVersion": "v1"})),
    );
    assert_eq!(code, "protocol-unspoken");
    assert!(message.contains("what it speaks (v2)"), "{message}");
    // KServe takes what a named runtime speaks.
    passes(&world(), &service("mlflow", json!({"runtime": "kserve-mlserver"})));
}

/// KServe asks of a named runtime that it lists the format, and doesn't ask what else it is for.
#[test]
fn a_named_runtime_for_several_models_or_nodes_serves_what_it_lists() {
    let formats = json!([{"name": "sklearn", "version": "1"}]);
    for spec in [
        json!({"multiModel": true, "supportedModelFormats": formats}),
        json!({"workerSpec": {}, "supportedModelFormats": formats}),
    ] {
        // It is no candidate, whatever it lists.
        let world = world()
            .runtime("of-no-service", None, runtime("several", MLSERVER, "1.7.1", &["v2"]))
            .runtime_spec("several", &spec);
        passes(&world, &service("sklearn", json!({"runtime": "several"})));
        let (code, message, _) = refused(&world, &service("mlflow", json!({"runtime": "several"})));
        assert_eq!(code, "runtime-format");
        assert!(
            message.contains("runtime several doesn't serve modelFormat mlflow"),
            "{message}"
        );
    }
}

#[test]
fn what_is_not_known_is_never_refused() {
    for object in [
        service("own", json!({"protocolVersion": "grpc-v2"})),
        service("mlflow", json!({"runtime": "not-there-yet", "protocolVersion": "v1"})),
        service("mlflow", json!({"runtime": 3})),
        json!({"spec": {"predictor": {"sklearn": {"storageUri": "s3://a/b", "protocolVersion": "grpc-v2"}}}}),
        json!({"spec": {"predictor": {"model": model("mlflow", json!({"protocolVersion": "v1"})), "workerSpec": {}}}}),
        json!({"spec": {"predictor": {}}}),
    ] {
        passes(&world(), &object);
    }
    let mut disabled = runtime("off", MLSERVER, "1.7.1", &["v2"]);
    disabled.disabled = true;
    let mut by_name = runtime("by-name", MLSERVER, "1.7.1", &["v2"]);
    by_name.auto_select = false;
    let world = World::new()
        .runtime("mlflow", None, disabled)
        .runtime("mlflow", None, by_name);
    passes(&world, &service("mlflow", json!({"protocolVersion": "v1"})));
    // No list of protocols is every protocol.
    let any = World::new().runtime("own", None, runtime("any", "example.com/own", "1", &[]));
    passes(
        &any,
        &service("own", json!({"protocolVersion": "grpc-v2", "runtime": "any"})),
    );
}

#[test]
fn model_mesh_deletions_and_llms_are_left_alone() {
    let mut mesh = service("mlflow", json!({"protocolVersion": "v1"}));
    mesh["metadata"]["annotations"] = json!({"serving.kserve.io/deploymentMode": "ModelMesh"});
    let mut leaving = service("mlflow", json!({"protocolVersion": "v1"}));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    passes(&world(), &mesh);
    passes(&world(), &leaving);
    let llm = Request {
        kind: "LLMInferenceService".to_owned(),
        ..create(&json!({"spec": {"model": {"uri": "hf://a/b"}}}))
    };
    assert_eq!(world().review::<ServingProtocol>(&llm), Verdict::admit());
}

fn transformed(args: &[&str]) -> Value {
    let mut object = service("mlflow", json!({"protocolVersion": "v2"}));
    object["spec"]["transformer"] =
        json!({"containers": [{"name": "kserve-container", "image": "example.com/t:1", "args": args}]});
    object
}

#[test]
fn a_transformer_that_asks_in_another_protocol_is_refused() {
    for args in [
        &["--predictor_protocol", "v1"][..],
        &["--predictor_protocol=v1"],
        &["--predictor-protocol", "v1"],
    ] {
        let (code, message, path) = refused(&world(), &transformed(args));
        assert_eq!(
            (&*code, &*path),
            ("transformer-protocol", "/spec/transformer/containers/0/args")
        );
        assert!(
            message.ends_with("Write --predictor_protocol with what it speaks: v2"),
            "{message}"
        );
    }
    passes(&world(), &transformed(&["--predictor_protocol", "v2"]));
    // MLServer speaks it, whatever its runtime lists.
    passes(&world(), &transformed(&["--predictor_protocol", "grpc-v2"]));
    assert_eq!(
        warned(&world(), &transformed(&[])),
        "transformer: KServe's SDK asks the predictor in v1, which it doesn't speak; add --predictor_protocol v2"
    );
    let mut v1 = transformed(&[]);
    v1["spec"]["predictor"]["model"] = model("sklearn", json!({}));
    passes(&world(), &v1);
}

#[test]
fn settings_say_what_becomes_of_each_finding() {
    let all = |mode| Settings {
        protocol: mode,
        ports: mode,
        transformer: mode,
        fill: false,
    };
    let world = in_mode("Knative");
    for object in [
        service("mlflow", json!({})),
        service("mlflow", json!({"runtime": "kserve-sklearnserver"})),
        service(
            "sklearn",
            json!({"ports": [{"containerPort": 8080}, {"containerPort": 9000}]}),
        ),
        transformed(&["--predictor_protocol", "v1"]),
    ] {
        let by = |mode| world.review_with::<ServingProtocol>(&create(&object), &all(mode));
        let denied = by(Mode::Deny);
        assert!(denied.denial.is_some() && denied.fills.is_empty(), "{object}");
        let warned = by(Mode::Warn);
        assert_eq!((warned.denial, warned.warnings.len()), (None, 1), "{object}");
        assert!(!warned.warnings[0].ends_with('…'), "{}", warned.warnings[0]);
        assert_eq!(by(Mode::Off), Verdict::admit(), "{object}");
    }
}

#[test]
fn settings_are_read_as_the_schema_says() {
    let settings: Settings = serde_json::from_str(r#"{"ports": "warn", "fill": false}"#).unwrap();
    assert_eq!(
        (settings.ports, settings.protocol, settings.fill),
        (Mode::Warn, Mode::Deny, false)
    );
    assert!(serde_json::from_str::<Settings>(r#"{"port": "warn"}"#).is_err());
    let schema: Value = serde_json::from_str(ServingProtocol::settings_schema().unwrap()).unwrap();
    for (name, one) in schema["properties"].as_object().unwrap() {
        assert!(
            serde_json::from_value::<Settings>(json!({name: one["default"]})).is_ok(),
            "{name}"
        );
    }
}

fn any_service() -> impl Strategy<Value = Value> {
    let protocol = prop::option::of("v1|v2|grpc-v1|grpc-v2|v3");
    let runtime = prop::option::of("kserve-mlserver|kserve-sklearnserver|own");
    let port = (
        "|h2c|http1|grpc|http|x",
        prop_oneof![Just(8080_u16), Just(8081), Just(9000), any::<u16>()],
    );
    let ports = prop::option::of(prop::collection::vec(port, 0..3));
    ("mlflow|sklearn|triton|own", protocol, runtime, ports).prop_map(|(format, protocol, runtime, ports)| {
        let ports = ports.map(|ports| {
            ports
                .into_iter()
                .map(|(name, number)| json!({"name": name, "containerPort": number}))
                .collect::<Vec<_>>()
        });
        let fields = [
            ("protocolVersion", json!(protocol)),
            ("runtime", json!(runtime)),
            ("ports", json!(ports)),
        ];
        let more = fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.to_owned(), value));
        service(&format, Value::Object(more.collect()))
    })
}

proptest! {
    /// With nothing known of the cluster nothing is refused and nothing filled in.
    #[test]
    fn what_cannot_be_seen_is_never_a_reason(object in any_service()) {
        prop_assert_eq!(review(&World::new(), &object), Verdict::admit());
    }

    /// What is filled in is never said against afterwards, and a second pass adds nothing.
    #[test]
    fn a_second_pass_changes_nothing(object in any_service(), mode in "Knative|Standard|Serverless|RawDeployment") {
        let world = in_mode(&mode);
        let first = review(&world, &object);
        if first.denial.is_none() {
            let mut filled = object;
            for fill in &first.fills {
                prop_assert!(filled.pointer(&fill.path).is_none(), "{} is the user's", fill.path);
                let (parent, name) = fill.path.rsplit_once('/').unwrap();
                filled.pointer_mut(parent).unwrap()[name] = serde_json::from_str(&fill.value).unwrap();
            }
            let second = review(&world, &filled);
            prop_assert!(second.fills.is_empty() && second.denial.is_none(), "{:?}", second);
            prop_assert_eq!(second.warnings, first.warnings);
        }
    }

    /// Lines fit, and the same question has the same answer.
    #[test]
    fn the_answer_is_the_same_in_lines_that_fit(object in any_service(), mode in "Knative|Standard|Other") {
        let world = in_mode(&mode);
        let settings = Settings { protocol: Mode::Warn, ports: Mode::Warn, ..Settings::default() };
        let ask = || world.review_with::<ServingProtocol>(&create(&object), &settings);
        let verdict = ask();
        prop_assert!(verdict.warnings.iter().all(|line| line.chars().count() <= LINE && !line.ends_with('…')), "{:?}", verdict.warnings);
        prop_assert_eq!(verdict, ask());
    }
}
