use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_policy::core::lines::LINE;
use tidewaiter_policy::storage::{Brought, Error, NotGranted, Resolution, Served};
use tidewaiter_policy::testing::{Calls, World, create, served, update};
use tidewaiter_policy::{Policy, Request, Verdict};

use super::*;

mod slips;

const ANNOTATION: &str = "serving.kserve.io/storageSecretName";
const REFUSED: &str = "403 AccessDenied";

/// A store with one model of MLflow 3, one of a folder and one file.
fn world() -> World {
    World::new()
        .serve("s3://mlflow/", "minio")
        .serve("gs://models/", "gcs")
        .serve("hf://", "hub")
        .serve("https://files.example/", "web")
        .serve("https://acme.blob.core.windows.net/", "azure")
        .serve("https://acme.file.core.windows.net/", "azure")
        .object("s3://mlflow/1/models/m-1/artifacts/MLmodel", "flavors: {}")
        .object("s3://mlflow/1/models/m-1/artifacts/model.ubj", "{}")
        .object("s3://mlflow/plain/model.joblib", "\u{80}")
        .object("gs://models/iris/model.joblib", "\u{80}")
        .object("https://acme.blob.core.windows.net/models/iris/model.joblib", "\u{80}")
        .object("https://files.example/model.tar.gz", "\u{1f}")
}

fn with_format(format: &str, uri: &str) -> Value {
    json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"model": {"modelFormat": {"name": format}, "storageUri": uri}}}})
}

fn bare(uri: &str) -> Value {
    with_format("sklearn", uri)
}

fn review(world: &World, object: &Value) -> Verdict {
    world.review::<ModelExists>(&create(object))
}

fn refused(world: &World, object: &Value) -> (String, String, String) {
    world.refused::<ModelExists>(object)
}

fn warned(world: &World, object: &Value) -> String {
    world.warned::<ModelExists>(object)
}

#[test]
fn a_model_that_is_there_costs_one_listing_and_nothing_is_said() {
    let world = world();
    for uri in [
        "s3://mlflow/1/models/m-1/artifacts",
        "s3://mlflow/1/models/m-1/artifacts/",
        "gs://models/iris/",
        "https://acme.blob.core.windows.net/models/iris/",
    ] {
        let before = world.calls();
        assert_eq!(review(&world, &bare(uri)), Verdict::admit(), "{uri}");
        let after = world.calls();
        assert_eq!(
            (after.to_stores() - before.to_stores(), after.resolve - before.resolve),
            (1, 1),
            "{uri}"
        );
        assert_eq!(after.brought_credentials, 0);
    }
}

#[test]
fn a_file_is_there_too() {
    for uri in [
        "s3://mlflow/plain/model.joblib",
        "gs://models/iris/model.joblib",
        "https://acme.blob.core.windows.net/models/iris/model.joblib/",
        "https://files.example/model.tar.gz",
    ] {
        assert_eq!(review(&world(), &bare(uri)), Verdict::admit(), "{uri}");
    }
}

#[test]
fn a_missing_model_is_refused_with_what_was_meant() {
    let (code, message, path) = refused(&world(), &bare("s3://mlflow/1/models/m-1/artifcts"));
    assert_eq!((&*code, &*path), ("model-missing", "/spec/predictor/model/storageUri"));
    assert_eq!(
        message,
        "predictor: nothing is at s3://mlflow/1/models/m-1/artifcts in StorageBackend minio, and KServe would find no model. \
         Did you mean s3://mlflow/1/models/m-1/artifacts? If the model comes later, set the annotation tidewaiter.dev/allow-missing-model: \"true\""
    );
}

#[test]
fn a_slip_in_a_higher_folder_is_found_and_the_rest_of_the_way_stays() {
    let (_, message, _) = refused(&world(), &bare("s3://mlflow/1/modles/m-1/artifacts"));
    assert!(
        message.contains("Did you mean s3://mlflow/1/models/m-1/artifacts?"),
        "{message}"
    );
    let (_, message, _) = refused(&world(), &bare("s3://mlflow/PLAIN/model.joblib/"));
    assert!(
        message.contains("Did you mean s3://mlflow/plain/model.joblib?"),
        "{message}"
    );
}

#[test]
fn where_nothing_is_near_it_is_said_what_is_there() {
    let world = world()
        .object("s3://mlflow/readme.txt", "x")
        .object("s3://mlflow/shared/x/y", "x");
    let (_, message, _) = refused(&world, &bare("s3://mlflow/2/models/m-1/artifacts"));
    assert!(
        message.contains("In s3://mlflow/ there is 1/, plain/, readme.txt, …. Correct the URI"),
        "{message}"
    );
}

#[test]
fn every_place_where_a_uri_can_stand_is_looked_at() {
    let gone = "s3://mlflow/gone/";
    let gone_by = |spec: Value, path: &str| {
        let (code, _, at) = refused(&world(), &json!({"metadata": {}, "spec": spec}));
        assert_eq!((&*code, &*at), ("model-missing", path));
    };
    gone_by(
        json!({"predictor": {"sklearn": {"storageUri": gone}}}),
        "/spec/predictor/sklearn/storageUri",
    );
    gone_by(
        json!({"predictor": {"model": {}, "storageUris": [{"uri": gone}]}}),
        "/spec/predictor/storageUris/0/uri",
    );
    gone_by(
        json!({"predictor": {"containers": [{"name": "kserve-container", "env": [{"name": "STORAGE_URI", "value": gone}]}]}}),
        "/spec/predictor/containers/0/env/0/value",
    );
    gone_by(
        json!({"predictor": {"model": {}}, "transformer": {"containers": [{"env": [{"name": "STORAGE_URI", "value": gone}]}]}}),
        "/spec/transformer/containers/0/env/0/value",
    );
    gone_by(
        json!({"predictor": {"model": {}}, "explainer": {"art": {"storageUri": gone}}}),
        "/spec/explainer/art/storageUri",
    );
    gone_by(
        json!({"predictor": {"model": {}}, "canary": [{"predictor": {"model": {"storageUri": gone}}}]}),
        "/spec/canary/0/predictor/model/storageUri",
    );
    for (spec, path) in [
        (json!({"model": {"uri": gone}, "prefill": {}}), "/spec/model/uri"),
        (
            json!({"model": {"uri": "hf://a/b", "lora": {"adapters": [{"uri": gone}]}}}),
            "/spec/model/lora/adapters/0/uri",
        ),
    ] {
        let request = Request {
            kind: "LLMInferenceService".to_owned(),
            ..create(&json!({"metadata": {}, "spec": spec}))
        };
        let denial = world().review::<ModelExists>(&request).denial.expect("a refusal");
        assert_eq!(denial.path.as_deref(), Some(path));
    }
}

#[test]
fn a_bucket_or_repository_that_is_not_there_is_refused() {
    for (uri, what) in [
        ("s3://mlflow/1/model", "StorageBackend minio has no bucket s3://mlflow."),
        ("gs://models/iris", "StorageBackend gcs has no bucket gs://models."),
        (
            "https://acme.blob.core.windows.net/models/iris",
            "StorageBackend azure has no container https://acme.blob.core.windows.net/models.",
        ),
        (
            "hf://acme/bert:v9",
            "StorageBackend hub has no model, or no such revision of it, hf://acme/bert:v9.",
        ),
    ] {
        let (code, message, _) = refused(&world().failing("", Error::NotFound), &bare(uri));
        assert_eq!(code, "bucket-missing");
        assert!(message.contains(what), "{message}");
    }
    let (code, message, _) = refused(&world(), &bare("https://files.example/modl.zip"));
    assert_eq!(code, "model-missing");
    assert!(message.contains("the web server answers 404"), "{message}");
}

#[test]
fn what_mlflow_alone_can_load_is_refused_with_what_to_write() {
    let world = world().resolve(
        "models:/",
        Resolution::Unsupported("KServe can't load `models:/fraud/3`: write s3://…".into()),
    );
    let (code, message, _) = refused(&world, &bare("models:/fraud/3"));
    assert_eq!(code, "unsupported-uri");
    assert_eq!(message, "predictor: KServe can't load `models:/fraud/3`: write s3://…");
    let fetches = |formats: Value| {
        let container = json!({"metadata": {"name": "own"}, "spec": {"container": {}, "supportedUriFormats": formats}});
        world.clone().cluster_object(
            "serving.kserve.io/v1alpha1",
            "ClusterStorageContainer",
            "own",
            &container,
        )
    };
    refused(&fetches(json!([{"regex": "https?://(.+)"}])), &bare("models:/fraud/3"));
    // KServe has it fetched by the admin's own.
    let verdict = review(&fetches(json!([{"prefix": "models:/"}])), &bare("models:/fraud/3"));
    assert_eq!(verdict, Verdict::admit());
}

#[test]
fn one_file_of_an_mlflow_model_is_refused() {
    for (format, uri) in [
        ("mlflow", "s3://mlflow/1/models/m-1/artifacts/model.ubj"),
        ("mlflow", "s3://mlflow/1/models/m-1/artifacts/MLmodel"),
        ("xgboost", "s3://mlflow/1/models/m-1/artifacts/MLmodel"),
    ] {
        let (code, message, _) = refused(&world(), &with_format(format, uri));
        assert_eq!(code, "file-for-folder");
        assert!(
            message.ends_with("Write s3://mlflow/1/models/m-1/artifacts"),
            "{message}"
        );
    }
    let packed = world().object("s3://mlflow/packed.tar.gz", "x");
    assert_eq!(
        review(&packed, &with_format("mlflow", "s3://mlflow/packed.tar.gz")),
        Verdict::admit()
    );
    let (code, ..) = refused(
        &world().object("https://files.example/MLmodel", "x"),
        &bare("https://files.example/MLmodel"),
    );
    assert_eq!(code, "file-for-folder");
}

#[test]
fn a_store_that_does_not_answer_or_refuses_is_a_warning() {
    let silent = world().failing("s3://", Error::Unreachable("minio:9000 didn't answer in time".into()));
    assert_eq!(
        warned(&silent, &bare("s3://mlflow/1/model")),
        "predictor: model not looked for: minio:9000 didn't answer in time"
    );
    let closed = world().failing("s3://", Error::Forbidden(REFUSED.into()));
    assert_eq!(
        warned(&closed, &bare("s3://mlflow/1/model")),
        "predictor: model not looked for: 403 AccessDenied"
    );
}

#[test]
fn a_store_that_cannot_be_looked_at_is_passed_over_in_silence() {
    let not_granted = Resolution::NotGranted(NotGranted {
        backend: "minio".into(),
        allowed: vec![],
        contact: None,
    });
    let world = world()
        .resolve("s3://own/", Resolution::OwnSecret("mine".into()))
        .resolve("s3://theirs/", not_granted)
        .resolve("pvc://", Resolution::NoCredentials)
        .failing(
            "https://files.example/",
            Error::Unserved("a web server can't be listed".into()),
        );
    for uri in [
        "s3://own/x",
        "s3://theirs/x",
        "s3://nobody/x",
        "pvc://claim/x",
        "https://files.example/x.zip",
        "https://files.example/model.git",
        "https://acme.file.core.windows.net/share/x",
    ] {
        assert_eq!(review(&world, &bare(uri)), Verdict::admit(), "{uri}");
    }
    assert_eq!(world.calls().list_objects, 0);
}

#[test]
fn with_credentials_of_its_users_own_it_is_only_a_warning() {
    let uri = "s3://mlflow/1/models/m-1/artifcts/";
    let own = [
        world().brought(None, Some("mine"), Brought::Usable("Secret mine".into())),
        world().brought(None, Some("mine"), Brought::Unknown("no answer".into())),
        world().brought(None, Some("mine"), Brought::Missing("Secret mine".into())),
        world().brought(None, Some("mine"), Brought::Managed(vec!["tidewaiter-other".into()])),
    ];
    let mut object = bare(uri);
    object["metadata"]["annotations"] = json!({ANNOTATION: "mine"});
    for world in own {
        assert_eq!(
            warned(&world, &object),
            "predictor: StorageBackend minio shows no model at the URI; its own credentials may open another store"
        );
    }
    let mut by_key = bare(uri);
    by_key["spec"]["predictor"]["model"]["storage"] = json!({"key": "mine"});
    assert!(warned(&world(), &by_key).contains("its own credentials may open another store"));
}

#[test]
fn with_the_credentials_that_tidewaiter_delivers_it_is_refused() {
    let uri = "s3://mlflow/1/models/m-1/artifcts";
    let mut annotated = bare(uri);
    annotated["spec"]["predictor"]["annotations"] = json!({ANNOTATION: "tidewaiter-minio"});
    let managed = || Brought::Managed(vec!["tidewaiter-minio".into()]);
    refused(&world().brought(None, Some("tidewaiter-minio"), managed()), &annotated);
    let mut by_account = bare(uri);
    by_account["spec"]["predictor"]["serviceAccountName"] = json!("tidewaiter-minio");
    refused(&world().brought(Some("tidewaiter-minio"), None, managed()), &by_account);
    annotated["spec"]["predictor"]["model"]["storage"] = json!({"key": "minio"});
    refused(&world(), &annotated);
}

#[test]
fn a_model_that_comes_later_is_said_by_an_annotation() {
    let mut object = bare("s3://mlflow/1/models/m-1/artifcts");
    object["metadata"]["annotations"] = json!({ALLOW_MISSING_MODEL: "true"});
    assert_eq!(
        warned(&world(), &object),
        "predictor: nothing is at the model's URI; did you mean s3://mlflow/1/models/m-1/artifacts?"
    );
    object["metadata"]["annotations"] = json!({ALLOW_MISSING_MODEL: "false"});
    refused(&world(), &object);
}

#[test]
fn an_update_is_judged_by_what_is_new_in_it() {
    let old = bare("s3://mlflow/gone/");
    let mut same = old.clone();
    same["spec"]["predictor"]["minReplicas"] = json!(2);
    let world = world();
    assert_eq!(world.review::<ModelExists>(&update(&same, &old)), Verdict::admit());
    assert_eq!(world.calls(), Calls::default());

    let other = bare("s3://mlflow/away/");
    assert!(world.review::<ModelExists>(&update(&other, &old)).denial.is_some());
    let mut stopped = old.clone();
    stopped["metadata"]["annotations"] = json!({"serving.kserve.io/stop": "TRUE"});
    assert!(world.review::<ModelExists>(&update(&old, &stopped)).denial.is_some());
    let mut ignored = old.clone();
    ignored["metadata"]["labels"] = json!({"tidewaiter.dev/ignore": ""});
    assert!(world.review::<ModelExists>(&update(&old, &ignored)).denial.is_some());
}

#[test]
fn what_nobody_downloads_is_not_looked_for() {
    let gone = bare("s3://mlflow/gone/");
    let with = |pointer: &str, key: &str, value: &str| {
        let mut object = gone.clone();
        object["metadata"][pointer] = json!({key: value});
        object
    };
    let mut leaving = gone.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for object in [
        leaving,
        with("labels", "internal.serving.kserve.io/localmodel", "cached"),
        with("annotations", "serving.kserve.io/deploymentMode", "ModelMesh"),
        json!({"spec": {"predictor": {"model": 3}}}),
    ] {
        assert_eq!(review(&world(), &object), Verdict::admit(), "{object}");
    }
}

#[test]
fn settings_say_what_becomes_of_each_finding() {
    let all = |mode| Settings {
        missing: mode,
        incomplete: mode,
        unsupported: mode,
        forbidden: mode,
        unreachable: Silence::Off,
    };
    let world = world()
        .resolve("models:/", Resolution::Unsupported("no".into()))
        .serve("s3://closed/", "closed")
        .failing("s3://closed/", Error::Forbidden(REFUSED.into()));
    let objects = [
        bare("s3://mlflow/gone/"),
        with_format("mlflow", "s3://mlflow/plain/model.joblib"),
        bare("models:/fraud/3"),
        bare("s3://closed/x"),
    ];
    for object in &objects {
        let by = |mode| world.review_with::<ModelExists>(&create(object), &all(mode));
        assert!(by(Mode::Deny).denial.is_some(), "{object}");
        let warned = by(Mode::Warn);
        assert_eq!((warned.denial, warned.warnings.len()), (None, 1), "{object}");
        assert_eq!(by(Mode::Off), Verdict::admit(), "{object}");
    }
    let silent = world.failing("s3://mlflow/", Error::Unreachable("no answer".into()));
    let verdict = silent.review_with::<ModelExists>(&create(&bare("s3://mlflow/x")), &all(Mode::Deny));
    assert_eq!(verdict, Verdict::admit());
    // A cloud identity of the webhook's is not the Pod's.
    let identity = Resolution::Served(Served {
        anonymous: true,
        ..served("cloud")
    });
    let cloud = World::new()
        .resolve("s3://", identity)
        .failing("s3://", Error::Forbidden(REFUSED.into()));
    let verdict = cloud.review_with::<ModelExists>(&create(&bare("s3://any/x")), &all(Mode::Deny));
    assert_eq!((verdict.denial, verdict.warnings.len()), (None, 1));
}

#[test]
fn settings_are_read_as_the_schema_says() {
    let settings: Settings = serde_json::from_str(r#"{"missing": "warn", "unreachable": "off"}"#).unwrap();
    assert_eq!(
        (settings.missing, settings.incomplete, settings.unreachable),
        (Mode::Warn, Mode::Deny, Silence::Off)
    );
    assert!(serde_json::from_str::<Settings>(r#"{"unreachable": "deny"}"#).is_err());
    let schema: Value = serde_json::from_str(ModelExists::settings_schema().unwrap()).unwrap();
    let names: Vec<&str> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for name in &names {
        let default = schema["properties"][name]["default"].clone();
        assert!(
            serde_json::from_value::<Settings>(json!({*name: default})).is_ok(),
            "{name}"
        );
    }
    assert_eq!(names.len(), 5);
}

fn any_uri() -> impl Strategy<Value = String> {
    let scheme = prop_oneof![
        Just("s3://mlflow"),
        Just("gs://models"),
        Just("https://acme.blob.core.windows.net/models"),
        Just("https://files.example"),
        Just("hf://acme"),
        Just("pvc://claim"),
        Just("s3://nobody"),
    ];
    (scheme, "(/{1,2}[a-z0-9.äß-]{0,6}){0,4}/{0,2}").prop_map(|(scheme, path)| format!("{scheme}{path}"))
}

fn any_error() -> impl Strategy<Value = Error> {
    prop_oneof![
        Just(Error::Unreachable("no answer".into())),
        Just(Error::Unserved("can't be looked at".into())),
        Just(Error::TooLarge(1 << 30)),
        Just(Error::Forbidden("403".into())),
    ]
}

proptest! {
    /// Whatever can't be seen is never a reason to refuse: but for a URI that is wrong by itself, as one that names no file on a web server.
    #[test]
    fn what_cannot_be_seen_is_never_refused(uri in any_uri(), error in any_error()) {
        let unseen = world().failing("", error);
        let verdict = review(&unseen, &bare(&uri));
        let by_itself = |code: &str| ["no-file", "unsupported-uri"].contains(&code);
        prop_assert!(verdict.denial.as_ref().is_none_or(|denial| by_itself(&denial.code)), "{:?}", verdict);
    }

    /// The same question has the same answer, in lines that fit; nothing is filled in and nothing asked for.
    #[test]
    fn the_answer_is_the_same_and_changes_nothing(uri in any_uri(), format in "mlflow|sklearn") {
        let object = with_format(&format, &uri);
        let (first, second) = (review(&world(), &object), review(&world(), &object));
        prop_assert_eq!(&first, &second);
        prop_assert!(first.fills.is_empty() && first.effects.is_empty());
        prop_assert!(first.warnings.iter().all(|line| line.chars().count() <= LINE));
    }

    /// What is there is never refused, wherever it lies.
    #[test]
    fn what_is_there_is_admitted(path in "[a-z0-9]{1,6}(/[a-z0-9]{1,6}){0,4}", slash in "/?") {
        let world = world().object(&format!("s3://mlflow/{path}/model.joblib"), "x");
        prop_assert_eq!(review(&world, &bare(&format!("s3://mlflow/{path}{slash}"))), Verdict::admit());
    }

    /// A look is bounded, however wrong the URI.
    #[test]
    fn a_look_takes_few_calls(uri in any_uri()) {
        let world = world();
        review(&world, &bare(&uri));
        prop_assert!(world.calls().to_stores() <= 6, "{:?}", world.calls());
    }
}
