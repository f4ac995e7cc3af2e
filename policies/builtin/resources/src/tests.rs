use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_policy::core::lines::LINE;
use tidewaiter_policy::storage::{Error, Resolution};
use tidewaiter_policy::testing::{Calls, World, create, runtime, update};
use tidewaiter_policy::{Policy, Request, Verdict};

use super::*;

const URI: &str = "s3://mlflow/1/model";

/// A model of 3 KiB, and the runtimes that serve it.
fn world() -> World {
    let sklearn = runtime(
        "kserve-sklearnserver",
        "docker.io/kserve/sklearnserver",
        "v0.20.0",
        &["v1", "v2"],
    );
    let tensorflow = runtime(
        "kserve-tensorflow-serving",
        "docker.io/tensorflow/serving",
        "2.6.2",
        &["v1", "grpc-v1"],
    );
    World::new()
        .serve("s3://mlflow/", "minio")
        .serve("hf://", "hub")
        .object(&format!("{URI}/model.joblib"), vec![1; 2048])
        .object(&format!("{URI}/more/data"), vec![1; 1024])
        .runtime("sklearn", None, sklearn)
        .runtime("tensorflow", None, tensorflow)
        .runtime_spec(
            "kserve-sklearnserver",
            &json!({"containers": [{"name": "kserve-container", "resources": {"requests": {"memory": "1Ki"}, "limits": {"cpu": "1", "memory": "2Ki"}}}]}),
        )
}

fn with(format: &str, more: Value) -> Value {
    let mut model = json!({"modelFormat": {"name": format}, "storageUri": URI});
    model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"model": model}}})
}

fn limits(amounts: Value) -> Value {
    with("sklearn", json!({"resources": {"limits": amounts}}))
}

fn review(world: &World, object: &Value) -> Verdict {
    world.review::<Resources>(&create(object))
}

fn refused(world: &World, object: &Value) -> (String, String, String) {
    world.refused::<Resources>(object)
}

fn warned(world: &World, object: &Value) -> String {
    world.warned::<Resources>(object)
}

fn passes(world: &World, object: &Value) {
    world.passes::<Resources>(object);
}

#[test]
fn a_model_larger_than_its_servers_memory_is_warned_of() {
    assert_eq!(
        warned(&world(), &limits(json!({"memory": "2Ki"}))),
        "predictor: the model has 3.0 KiB, and its server may use 2Ki of memory; raise limits.memory"
    );
    passes(&world(), &limits(json!({"memory": "3Ki"})));
    // The runtime's limit counts where the object has none.
    assert!(warned(&world(), &with("sklearn", json!({}))).contains("may use 2Ki of memory"));
    // A GPU has memory of its own.
    let mut on_gpu = limits(json!({"memory": "2Ki", "nvidia.com/gpu": 1}));
    on_gpu["spec"]["predictor"]["model"]["modelFormat"]["name"] = json!("tensorflow");
    passes(&world(), &on_gpu);
}

#[test]
fn a_container_of_ones_own_and_a_single_file_are_judged_alike() {
    let custom = json!({"spec": {"predictor": {"containers": [{"name": "kserve-container", "env": [{"name": "STORAGE_URI", "value": format!("{URI}/model.joblib")}],
        "resources": {"limits": {"memory": "1Ki"}}}]}}});
    assert!(warned(&world(), &custom).contains("has 2.0 KiB"));
    let transformer = json!({"spec": {"predictor": {"model": {}}, "transformer": {"containers": [
        {"env": [{"name": "STORAGE_URI", "value": URI}], "resources": {"limits": {"memory": "1Ki"}}}]}}});
    assert!(warned(&world(), &transformer).starts_with("transformer: the model has 3.0 KiB"));
}

#[test]
fn a_model_larger_than_its_pods_disk_is_warned_of() {
    let object = limits(json!({"memory": "1Gi", "ephemeral-storage": "2Ki"}));
    assert_eq!(
        warned(&world(), &object),
        "predictor: the model has 3.0 KiB, and its Pod may use 2Ki of disk; raise limits.ephemeral-storage"
    );
    let mut cached = object;
    cached["metadata"]["labels"] = json!({"internal.serving.kserve.io/localmodel": "fraud"});
    passes(&world(), &cached);
}

#[test]
fn a_model_from_the_hub_may_be_too_much_for_the_initializer() {
    let configured = |limit: &str| {
        world()
            .object("hf://acme/bert/model.safetensors", vec![1; 9_000])
            .kserve_config("storageInitializer", &json!({"memoryLimit": limit}))
    };
    let mut object = limits(json!({"memory": "1Gi"}));
    object["spec"]["predictor"]["model"]["storageUri"] = json!("hf://acme/bert");
    assert_eq!(
        warned(&configured("1Ki"), &object),
        "predictor: 8.7 KiB may be too much for KServe's storage initializer with 1Ki (kserve#5162)"
    );
    passes(&configured("2Ki"), &object);
    passes(&configured("much"), &object);
    passes(
        &world().object("hf://acme/bert/model.safetensors", vec![1; 9_000]),
        &object,
    );
    // What comes from S3 is written as it comes.
    passes(&configured("1"), &limits(json!({"memory": "1Gi"})));
}

/// As KServe ships one: to raise the limit in its configuration changes nothing.
#[test]
fn the_clusters_storage_container_counts_before_kserves_configuration() {
    let world = |formats: Value| {
        let container = json!({"name": "storage-initializer", "resources": {"limits": {"memory": "1Ki"}}});
        let object =
            json!({"metadata": {"name": "default"}, "spec": {"container": container, "supportedUriFormats": formats}});
        world()
            .object("hf://acme/bert/model.safetensors", vec![1; 9_000])
            .kserve_config("storageInitializer", &json!({"memoryLimit": "1Gi"}))
            .cluster_object(
                "serving.kserve.io/v1alpha1",
                "ClusterStorageContainer",
                "default",
                &object,
            )
    };
    let of_hub = world(json!([{"prefix": "s3://"}, {"prefix": "hf://"}, {"regex": "https?://(.+)/(.+)"}]));
    let mut object = limits(json!({"memory": "1Gi"}));
    object["spec"]["predictor"]["model"]["storageUri"] = json!("hf://acme/bert");
    assert_eq!(
        warned(&of_hub, &object),
        "predictor: 8.7 KiB may be too much for KServe's storage initializer with 1Ki (kserve#5162)"
    );
    let strict = Settings {
        initializer: Mode::Deny,
        ..Settings::default()
    };
    let denial = of_hub
        .review_with::<Resources>(&create(&object), &strict)
        .denial
        .unwrap();
    assert!(
        denial
            .message
            .ends_with("raise limits.memory of spec.container in the ClusterStorageContainer default"),
        "{}",
        denial.message
    );
    passes(&world(json!([{"prefix": "s3://"}])), &object);
    // Which one KServe would take isn't guessed.
    passes(&world(json!([{"prefix": "s3://"}, {"regex": "hf://.*"}])), &object);
    object["spec"]["predictor"]["storageContainerName"] = json!("default");
    warned(&world(json!([])), &object);
}

#[test]
fn a_request_above_its_limit_is_refused() {
    let object = with(
        "sklearn",
        json!({"resources": {"requests": {"memory": "8Gi"}, "limits": {"memory": "4Gi", "cpu": 2}}}),
    );
    let (code, message, path) = refused(&world(), &object);
    assert_eq!(
        (&*code, &*path),
        ("request-over-limit", "/spec/predictor/model/resources")
    );
    assert_eq!(
        message,
        "predictor: it asks for memory 8Gi and may use 4Gi: Kubernetes refuses a request above the limit and no Pod is made. Set limits.memory to 8Gi or more in \
         /spec/predictor/model/resources, or ask for less"
    );
    // The other half may be the runtime's.
    let (_, message, _) = refused(
        &world(),
        &with("sklearn", json!({"resources": {"requests": {"cpu": "1500m"}}})),
    );
    assert!(
        message
            .contains("cpu 1500m and may use 1: Kubernetes refuses a request above the limit, which is the runtime's,"),
        "{message}"
    );
    let (code, ..) = refused(&world(), &limits(json!({"memory": "512"})));
    assert_eq!(code, "request-over-limit");
    // Nobody may have more GPUs than there are.
    for (resources, words) in [
        (
            json!({"requests": {"nvidia.com/gpu": 1}}),
            "nvidia.com/gpu 1, and has no limit",
        ),
        (
            json!({"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2}}),
            "nvidia.com/gpu 1, and may use 2",
        ),
        (
            json!({"requests": {"hugepages-2Mi": "4Mi"}}),
            "hugepages-2Mi 4Mi, and has no limit",
        ),
    ] {
        let (code, message, _) = refused(&world(), &with("own", json!({"resources": resources})));
        assert_eq!(code, "request-not-limit");
        assert!(message.contains(words), "{message}");
    }
    for resources in [
        json!({"limits": {"nvidia.com/gpu": 1}}),
        json!({"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": "1"}}),
        json!({"requests": {"ephemeral-storage": "1Gi"}}),
    ] {
        let verdict = review(&world(), &with("own", json!({"resources": resources})));
        assert_eq!(verdict.denial, None, "{resources}");
    }
    let beside = json!({"spec": {"predictor": {"model": {}, "containers": [{"name": "x", "resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}]}}});
    let (_, _, path) = refused(&world(), &beside);
    assert_eq!(path, "/spec/predictor/containers/0/resources");
    passes(
        &world(),
        &with(
            "own",
            json!({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m"}}}),
        ),
    );
}

#[test]
fn a_second_container_of_the_servers_name_is_refused() {
    let mut object = limits(json!({"memory": "1Gi"}));
    object["spec"]["predictor"]["containers"] =
        json!([{"name": "kserve-container", "resources": {"limits": {"nvidia.com/gpu": 1}}}]);
    let (code, message, path) = refused(&world(), &object);
    assert_eq!((&*code, &*path), ("container-twice", "/spec/predictor/containers/0"));
    assert!(
        message.contains("in /spec/predictor/model, and take it out"),
        "{message}"
    );
}

#[test]
fn of_several_containers_the_first_is_the_server_by_its_name() {
    let of = |names: &[&str]| {
        let containers: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "image": "a/b:1"}))
            .collect();
        json!({"spec": {"predictor": {"containers": containers}}})
    };
    for names in [
        &["anything"][..],
        &["kserve-container", "beside"],
        &["", "beside"],
        &["kserve-container", "transformer-container"],
    ] {
        passes(&world(), &of(names));
    }
    let (code, message, path) = refused(&world(), &of(&["proxy", "beside", "kserve-container"]));
    assert_eq!((&*code, &*path), ("server-not-first", "/spec/predictor/containers/2"));
    assert!(message.contains("the place of the first one, proxy"), "{message}");
    let (code, message, path) = refused(&world(), &of(&["proxy", "server"]));
    assert_eq!((&*code, &*path), ("server-without-name", "/spec/predictor/containers"));
    assert!(
        message.contains("none of its 2 containers is called kserve-container"),
        "{message}"
    );
    // Beside a model they stand where they like.
    let mut beside = with("own", json!({}));
    beside["spec"]["predictor"]["containers"] = of(&["one", "two"])["spec"]["predictor"]["containers"].take();
    passes(&world(), &beside);
}

#[test]
fn a_gpu_that_nobody_uses_is_warned_of() {
    let gpu = |format: &str, more: Value| {
        let mut object = with(format, more);
        object["spec"]["predictor"]["model"]["resources"] = json!({"limits": {"memory": "1Gi", "nvidia.com/gpu": "1"}});
        object
    };
    assert_eq!(
        warned(&world(), &gpu("sklearn", json!({}))),
        "predictor: it asks for a GPU, which runtime kserve-sklearnserver doesn't use"
    );
    passes(&world(), &gpu("sklearn", json!({"image": "example.com/rapids:1"})));
    passes(&world(), &gpu("tensorflow", json!({})));
    passes(&world(), &gpu("tensorflow", json!({"runtimeVersion": "2.15.1-gpu"})));
    assert_eq!(
        warned(&world(), &gpu("tensorflow", json!({"runtimeVersion": "2.15.1"}))),
        "predictor: it asks for a GPU, and the image's tag 2.15.1 is the one without; write 2.15.1-gpu"
    );
    let mut beside = limits(json!({"memory": "1Gi"}));
    beside["spec"]["predictor"]["containers"] =
        json!([{"name": "worker", "resources": {"limits": {"nvidia.com/gpu": 1}}}]);
    assert_eq!(
        warned(&world(), &beside),
        "predictor: container worker asks for a GPU, but the model's doesn't; write it in model.resources"
    );
}

#[test]
fn a_store_is_asked_only_where_a_limit_is_known_and_once_a_model() {
    let world = world();
    passes(&world, &with("own", json!({})));
    assert_eq!(world.calls().to_stores(), 0);
    passes(&world, &limits(json!({"memory": "1Gi"})));
    assert_eq!((world.calls().list_objects, world.calls().stat), (1, 0));
}

#[test]
fn what_cannot_be_seen_is_not_judged() {
    for world in [
        world().failing("s3://", Error::Unreachable("no answer".into())),
        world().failing("s3://", Error::Forbidden("403".into())),
        world().resolve("s3://mlflow/", Resolution::Unserved),
        World::new(),
    ] {
        passes(&world, &limits(json!({"memory": "2Ki", "ephemeral-storage": "1"})));
    }
    for object in [
        limits(json!({"memory": "much"})),
        json!({"spec": {"predictor": {"sklearn": {"storageUri": URI}}}}),
        json!({"spec": {"predictor": {}}}),
        json!({"spec": 1}),
    ] {
        passes(&world(), &object);
    }
    let llm = Request {
        kind: "LLMInferenceService".to_owned(),
        ..create(&json!({"spec": {"model": {"uri": URI}}}))
    };
    assert_eq!(world().review::<Resources>(&llm), Verdict::admit());
}

#[test]
fn an_update_that_changes_nothing_of_it_asks_nobody() {
    let old = limits(json!({"memory": "2Ki"}));
    let mut scaled = old.clone();
    scaled["spec"]["predictor"]["minReplicas"] = json!(3);
    let world = world();
    assert_eq!(world.review::<Resources>(&update(&scaled, &old)), Verdict::admit());
    assert_eq!(world.calls(), Calls::default());
    let less = limits(json!({"memory": "1Ki"}));
    assert_eq!(world.review::<Resources>(&update(&less, &old)).warnings.len(), 1);
    let mut stopped = old.clone();
    stopped["metadata"]["annotations"] = json!({"serving.kserve.io/stop": "true"});
    assert_eq!(world.review::<Resources>(&update(&old, &stopped)).warnings.len(), 1);
}

#[test]
fn settings_say_what_becomes_of_each_finding() {
    let all = |mode| Settings {
        contradiction: mode,
        memory: mode,
        disk: mode,
        initializer: mode,
        gpu: mode,
    };
    for object in [
        limits(json!({"memory": "2Ki"})),
        limits(json!({"memory": "1Gi", "ephemeral-storage": "2Ki"})),
        with(
            "own",
            json!({"resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}),
        ),
        limits(json!({"memory": "1Gi", "nvidia.com/gpu": 1})),
    ] {
        let by = |mode| world().review_with::<Resources>(&create(&object), &all(mode));
        assert!(by(Mode::Deny).denial.is_some(), "{object}");
        let warned = by(Mode::Warn);
        assert_eq!((warned.denial, warned.warnings.len()), (None, 1), "{object}");
        assert!(!warned.warnings[0].ends_with('…'), "{}", warned.warnings[0]);
        assert_eq!(by(Mode::Off), Verdict::admit(), "{object}");
    }
    let schema: Value = serde_json::from_str(Resources::settings_schema().unwrap()).unwrap();
    for (name, one) in schema["properties"].as_object().unwrap() {
        assert!(
            serde_json::from_value::<Settings>(json!({name: one["default"]})).is_ok(),
            "{name}"
        );
    }
    assert!(serde_json::from_value::<Settings>(json!({"ram": "deny"})).is_err());
}

fn any_amounts() -> impl Strategy<Value = Value> {
    let amount = prop_oneof![
        Just("1"),
        Just("500m"),
        Just("2Ki"),
        Just("4Gi"),
        Just("0"),
        Just("1e3")
    ];
    let name = prop_oneof![
        Just("memory"),
        Just("cpu"),
        Just("ephemeral-storage"),
        Just("nvidia.com/gpu")
    ];
    prop::collection::btree_map(name, amount, 0..4).prop_map(|amounts| json!(amounts))
}

proptest! {
    /// Of resources that don't contradict each other nothing is refused by default, whatever the model; and never is anything filled in.
    #[test]
    fn only_a_contradiction_is_refused(format in "sklearn|tensorflow|own", requests in any_amounts(), limits in any_amounts()) {
        let object = with(&format, json!({"resources": {"requests": requests, "limits": limits}}));
        let verdict = review(&world(), &object);
        prop_assert!(verdict.denial.as_ref().is_none_or(|denial| denial.code.starts_with("request-")), "{:?}", verdict);
        prop_assert!(verdict.fills.is_empty() && verdict.effects.is_empty());
        prop_assert!(verdict.warnings.iter().all(|line| line.chars().count() <= LINE));
        prop_assert_eq!(verdict, review(&world(), &object));
    }

    /// Where requests are limits, nothing is refused in a world of which nothing is known.
    #[test]
    fn what_cannot_be_seen_is_never_refused(format in "sklearn|tensorflow|own", amounts in any_amounts()) {
        let object = with(&format, json!({"resources": {"requests": amounts, "limits": amounts}}));
        prop_assert_eq!(review(&World::new(), &object), Verdict::admit());
    }
}
