use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_policy::{
    Entry, Request, Verdict,
    runtimes::{PackageVersion, Release},
    storage::{Error, NotGranted, Resolution},
    testing::{World, create, runtime, update},
};

use super::*;

const MLSERVER: &str = "docker.io/seldonio/mlserver";
const SKLEARN: &str = "docker.io/kserve/sklearnserver";
const XGB: &str = "docker.io/kserve/xgbserver";
const TENSORFLOW: &str = "docker.io/tensorflow/serving";
const URI: &str = "s3://mlflow/1/model";

macro_rules! data {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../core/tests/data/", $path))
    };
}

// Below the macro, which they use.
mod grown;
mod lines;
mod unjudged;

/// KServe 0.20's runtimes and what the catalogue says of their images, as far as the tests need it. `s3://mlflow/` is served.
#[allow(clippy::too_many_lines, reason = "a table")]
fn world() -> World {
    let mlserver = || runtime("kserve-mlserver", MLSERVER, "1.7.1", &["v2"]);
    let sklearnserver = || runtime("kserve-sklearnserver", SKLEARN, "v0.20.0", &["v1", "v2"]);
    let mut predictive = runtime(
        "kserve-predictiveserver",
        "docker.io/kserve/predictiveserver",
        "v0.20.0",
        &["v1", "v2"],
    );
    predictive.auto_select = false;
    let world = World::new().serve("s3://mlflow/", "minio");
    let world = ["1", "2"].iter().fold(world, |world, version| {
        world.runtime("mlflow", Some(version), mlserver())
    });
    let world = world
        .runtime("sklearn", Some("1"), mlserver())
        .runtime("sklearn", Some("1"), sklearnserver())
        .runtime("sklearn", Some("1"), predictive)
        .runtime("xgboost", Some("2"), mlserver())
        .runtime(
            "xgboost",
            Some("2"),
            runtime("kserve-xgbserver", XGB, "v0.20.0", &["v1", "v2"]),
        )
        .runtime(
            "lightgbm",
            Some("4"),
            runtime(
                "kserve-lgbserver",
                "docker.io/kserve/lgbserver",
                "v0.20.0",
                &["v1", "v2"],
            ),
        )
        .runtime(
            "tensorflow",
            Some("2"),
            runtime("kserve-tensorflow-serving", TENSORFLOW, "2.6.2", &["v1", "grpc-v1"]),
        )
        .runtime(
            "huggingface",
            Some("1"),
            runtime(
                "kserve-huggingfaceserver",
                "docker.io/kserve/huggingfaceserver",
                "v0.20.0",
                &["v2", "v1"],
            ),
        );
    let expected = |name: &str, version: &str| PackageVersion {
        name: name.into(),
        version: version.into(),
        exact: false,
    };
    world
        .release(
            MLSERVER,
            "1.3.5",
            "3.8",
            &[
                ("scikit-learn", "1.3.0"),
                ("xgboost", "1.7.6"),
                ("numpy", "1.24.3"),
                ("mlflow", "2.4.2"),
                ("lightgbm", "3.3.5"),
            ],
        )
        .release(
            MLSERVER,
            "1.6.1",
            "3.10",
            &[
                ("scikit-learn", "1.5.0"),
                ("xgboost", "2.0.3"),
                ("numpy", "1.26.4"),
                ("mlflow", "2.13.1"),
                ("lightgbm", "4.3.0"),
            ],
        )
        .release(
            MLSERVER,
            "1.7.0",
            "3.10",
            &[
                ("scikit-learn", "1.6.1"),
                ("xgboost", "3.0.0"),
                ("numpy", "1.26.4"),
                ("mlflow", "2.21.3"),
                ("lightgbm", "4.6.0"),
            ],
        )
        .release(
            MLSERVER,
            "1.7.0-sklearn",
            "3.10",
            &[("scikit-learn", "1.6.1"), ("numpy", "1.26.4")],
        )
        .release_as(
            MLSERVER,
            Release {
                tag: "1.7.1".into(),
                python: "3.10".into(),
                packages: [
                    ("scikit-learn", "1.7.0"),
                    ("xgboost", "3.0.2"),
                    ("numpy", "1.26.4"),
                    ("mlflow", "2.22.1"),
                    ("lightgbm", "4.6.0"),
                ]
                .map(|(n, v)| expected(n, v))
                .into(),
                architectures: Vec::new(),
            },
        )
        .release(
            MLSERVER,
            "1.7.2-rc1",
            "3.10",
            &[("scikit-learn", "1.2.2"), ("xgboost", "2.1.2"), ("mlflow", "3.7.0")],
        )
        .release(
            SKLEARN,
            "v0.11.2",
            "3.9",
            &[("scikit-learn", "1.2.2"), ("numpy", "1.24.4")],
        )
        .release(
            SKLEARN,
            "v0.12.1",
            "3.9",
            &[("scikit-learn", "1.3.2"), ("numpy", "1.24.4")],
        )
        .release(
            SKLEARN,
            "v0.13.1",
            "3.9",
            &[("scikit-learn", "1.3.2"), ("numpy", "1.24.4")],
        )
        .release(
            SKLEARN,
            "v0.14.1",
            "3.11",
            &[("scikit-learn", "1.5.1"), ("numpy", "1.26.4")],
        )
        .release(
            SKLEARN,
            "v0.20.0",
            "3.11",
            &[("scikit-learn", "1.5.2"), ("numpy", "2.4.4")],
        )
        .release(XGB, "v0.11.2", "3.9", &[("xgboost", "1.7.5")])
        .release(XGB, "v0.20.0", "3.11", &[("xgboost", "2.1.4")])
        .release_as(
            "docker.io/kserve/predictiveserver",
            Release {
                tag: "v0.20.0".into(),
                python: "3.11".into(),
                packages: vec![expected("scikit-learn", "~=1.5.1")],
                architectures: Vec::new(),
            },
        )
        .release(
            "docker.io/kserve/lgbserver",
            "v0.20.0",
            "3.11",
            &[("lightgbm", "4.6.0")],
        )
        .release(TENSORFLOW, "2.6.2", "", &[("tensorflow", "2.6.2")])
        .release(TENSORFLOW, "2.6.2-gpu", "", &[("tensorflow", "2.6.2")])
        .release(TENSORFLOW, "2.15.1", "", &[("tensorflow", "2.15.1")])
        .release(TENSORFLOW, "2.15.1-gpu", "", &[("tensorflow", "2.15.1")])
        .release(TENSORFLOW, "2.16.1-gpu", "", &[("tensorflow", "2.16.1")])
}

fn mlmodel(world: World, text: impl Into<Vec<u8>>) -> World {
    world.object(&format!("{URI}/MLmodel"), text)
}

/// An `MLmodel` of the sklearn flavor with a plain pickle.
fn sklearn_model(version: &str) -> String {
    format!(
        "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    python_version: 3.11.7\n  sklearn:\n    pickled_model: model.pkl\n    serialization_format: pickle\n    sklearn_version: {version}\n"
    )
}

fn service(model: &Value) -> Value {
    let mut model = model.clone();
    model["storageUri"]
        .as_str()
        .is_none()
        .then(|| model["storageUri"] = json!(URI));
    json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "fraud"}, "spec": {"predictor": {"model": model}}})
}

fn format(name: &str) -> Value {
    service(&json!({"modelFormat": {"name": name}}))
}

fn fills(verdict: &Verdict) -> Vec<(&str, Value)> {
    verdict
        .fills
        .iter()
        .map(|fill| {
            (
                fill.path.rsplit('/').next().unwrap_or_default(),
                serde_json::from_str(&fill.value).unwrap(),
            )
        })
        .collect()
}

fn pin(runtime: &str, version: &str) -> Vec<(&'static str, Value)> {
    vec![("runtime", json!(runtime)), ("runtimeVersion", json!(version))]
}

fn review(world: &World, object: &Value) -> Verdict {
    let verdict = world.review::<ServingVersions>(&create(object));
    lines::all_uncut(&verdict);
    verdict
}

#[test]
fn asks_for_v2_where_no_runtime_speaks_v1_and_pins_nothing_that_fits() {
    let world = mlmodel(world(), *data!("mlmodel/2.22-xgboost/MLmodel"));
    let verdict = review(&world, &format("mlflow"));
    assert_eq!(fills(&verdict), [("protocolVersion", json!("v2"))]);
    assert!(verdict.warnings.is_empty() && verdict.denial.is_none(), "{verdict:?}");

    let said = service(&json!({"modelFormat": {"name": "mlflow", "version": "2"}, "protocolVersion": "v2"}));
    assert_eq!(review(&world, &said), Verdict::admit());
}

/// As one that installs packages first.
#[test]
fn an_image_whose_program_is_replaced_is_not_judged() {
    let bare = || mlmodel(world(), *data!("mlmodel/3.17-xgboost/MLmodel"));
    let asks_for_v2 = |world: &World, object: &Value| {
        let verdict = review(world, object);
        assert!(verdict.denial.is_none() && verdict.warnings.is_empty(), "{verdict:?}");
        assert_eq!(fills(&verdict), [("protocolVersion", json!("v2"))]);
    };
    let with = |more: Value| {
        let container = [
            json!({"name": "kserve-container", "image": "docker.io/seldonio/mlserver:1.7.1"}),
            more,
        ];
        let fields = container.iter().filter_map(Value::as_object).flatten();
        let container: serde_json::Map<_, _> = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
        bare().runtime_spec("kserve-mlserver", &json!({"containers": [container]}))
    };
    let installs = "pip install xgboost==3.2 && mlserver start /mnt/models";
    for replaced in [
        json!({"command": ["sh", "-c", installs]}),
        json!({"args": ["sh", "-c", installs]}),
    ] {
        asks_for_v2(&with(replaced.clone()), &format("mlflow"));
        let mut own = json!({"modelFormat": {"name": "mlflow"}});
        own.as_object_mut()
            .unwrap()
            .extend(replaced.as_object().unwrap().clone());
        asks_for_v2(&bare(), &service(&own));
    }
    for its_own in [
        json!({}),
        json!({"args": ["--verbose"]}),
        json!({"args": ["mlserver", "start", "/mnt/models"]}),
    ] {
        assert!(review(&with(its_own), &format("mlflow")).denial.is_some());
    }
}

#[test]
fn refuses_what_would_be_answered_wrongly_and_says_the_ways_out() {
    let world = mlmodel(world(), *data!("mlmodel/3.17-xgboost/MLmodel"));
    let denial = review(&world, &format("mlflow")).denial.unwrap();
    assert_eq!(
        (denial.code.as_str(), denial.path.as_deref()),
        ("wrong-answers", Some("/spec/predictor/model"))
    );
    for part in [
        "xgboost 3.2.0",
        "3.0.2",
        "kserve-mlserver",
        "xgboost < 3.1",
        "catalogue",
        "tidewaiter.dev/allow-wrong-answers: \"true\"",
    ] {
        assert!(denial.message.contains(part), "{part}: {}", denial.message);
    }

    let mut allowed = format("mlflow");
    allowed["metadata"]["annotations"] = json!({"tidewaiter.dev/allow-wrong-answers": "true"});
    let verdict = review(&world, &allowed);
    assert!(verdict.denial.is_none());
    assert_eq!(
        verdict.warnings,
        ["wrong answers: saved by xgboost 3.2.0, kserve-mlserver has 3.0.2, which misreads it without an error"]
    );

    let warn: Settings = serde_json::from_value(json!({"wrongAnswers": "warn"})).unwrap();
    assert!(
        world
            .review_with::<ServingVersions>(&create(&format("mlflow")), &warn)
            .denial
            .is_none()
    );

    let own =
        service(&json!({"modelFormat": {"name": "mlflow"}, "runtime": "kserve-mlserver", "runtimeVersion": "1.6.1"}));
    assert!(review(&world, &own).denial.unwrap().message.contains("2.0.3"));
}

#[test]
fn an_image_that_the_admin_mapped_is_a_way_out() {
    let world = mlmodel(world(), *data!("mlmodel/3.17-xgboost/MLmodel"))
        .runtime(
            "mlflow",
            Some("2"),
            runtime("house-mlserver", "registry.local/mlserver", "2026-1", &["v2"]),
        )
        .release(
            "registry.local/mlserver",
            "2026-1",
            "3.12",
            &[("xgboost", "3.2.0"), ("mlflow", "3.17.2")],
        );
    let verdict = review(&world, &format("mlflow"));
    assert!(verdict.denial.is_none());
    let mut expected = pin("house-mlserver", "2026-1");
    expected.push(("protocolVersion", json!("v2")));
    assert_eq!(fills(&verdict), expected);
}

#[test]
fn pins_runtime_and_version_together_to_the_nearest_release_that_fits() {
    for (saved, runtime, tag) in [
        ("1.3.2", "kserve-sklearnserver", "v0.13.1"),
        ("1.2.2", "kserve-sklearnserver", "v0.11.2"),
    ] {
        let world = mlmodel(world(), sklearn_model(saved));
        let verdict = review(&world, &format("sklearn"));
        assert_eq!(fills(&verdict), pin(runtime, tag), "{saved}");
        assert_eq!(
            verdict.fills[1].reason,
            format!("saved by scikit-learn {saved}; v0.20.0 has 1.5.2")
        );
        assert!(verdict.warnings.is_empty());
    }
    // Newer before older, exact before another patch version, and never a release candidate.
    let user = |tag: &str| {
        world().runtime(
            "sklearn",
            Some("9"),
            tidewaiter_policy::testing::runtime("old", MLSERVER, tag, &["v1"]),
        )
    };
    let nine = service(&json!({"modelFormat": {"name": "sklearn", "version": "9"}}));
    let verdict = review(&mlmodel(user("1.3.5"), sklearn_model("1.6.1")), &nine);
    assert_eq!(fills(&verdict), pin("old", "1.7.0"));
    let verdict = review(&mlmodel(user("1.7.0"), sklearn_model("1.2.2")), &nine);
    assert!(verdict.fills.is_empty() && verdict.warnings.len() == 1, "{verdict:?}");
}

#[test]
fn takes_another_runtime_where_the_first_has_no_fitting_release() {
    let verdict = review(&mlmodel(world(), sklearn_model("1.7.0")), &format("sklearn"));
    let mut expected = pin("kserve-mlserver", "1.7.1");
    expected.push(("protocolVersion", json!("v2")));
    assert_eq!(fills(&verdict), expected);

    // Not one that speaks another protocol than the user's.
    let v1 = service(&json!({"modelFormat": {"name": "sklearn"}, "protocolVersion": "v1"}));
    let verdict = review(&mlmodel(world(), sklearn_model("1.7.0")), &v1);
    assert!(verdict.fills.is_empty());
    assert_eq!(
        verdict.warnings,
        ["may fail: saved by scikit-learn 1.7.0, kserve-sklearnserver has 1.5.2: only the same version is supported"]
    );

    // Nor one that would not find the file.
    let text = sklearn_model("1.7.0").replace("model.pkl", "fraud.pkl");
    assert!(review(&mlmodel(world(), text), &format("sklearn")).fills.is_empty());
}

#[test]
fn keeps_the_gpu_variant() {
    let text = "flavors:\n  tensorflow:\n    keras_version: 2.15.0\n";
    let with_gpu =
        service(&json!({"modelFormat": {"name": "tensorflow"}, "resources": {"limits": {"nvidia.com/gpu": "1"}}}));
    assert_eq!(
        fills(&review(&mlmodel(world(), text), &with_gpu)),
        pin("kserve-tensorflow-serving", "2.15.1-gpu")
    );
    assert_eq!(
        fills(&review(&mlmodel(world(), text), &format("tensorflow"))),
        pin("kserve-tensorflow-serving", "2.15.1")
    );
}

#[test]
fn only_warns_about_images_that_the_catalogue_does_not_know() {
    for (repository, tag, said) in [
        ("registry.local/sklearnserver", "1", "registry.local/sklearnserver:1"),
        (SKLEARN, "latest", "docker.io/kserve/sklearnserver:latest"),
        (SKLEARN, "", "docker.io/kserve/sklearnserver by digest"),
    ] {
        let world = mlmodel(world(), sklearn_model("1.3.2")).runtime(
            "sklearn",
            Some("5"),
            runtime("own", repository, tag, &["v1"]),
        );
        let verdict = review(
            &world,
            &service(&json!({"modelFormat": {"name": "sklearn", "version": "5"}})),
        );
        assert!(verdict.fills.is_empty());
        assert_eq!(
            verdict.warnings,
            [format!(
                "saved by scikit-learn 1.3.2; the catalogue does not know the image {said}"
            )]
        );
    }
    let own_image = service(&json!({"modelFormat": {"name": "sklearn"}, "image": "kserve/sklearnserver:v0.20.0"}));
    let verdict = review(&mlmodel(world(), sklearn_model("1.3.2")), &own_image);
    assert!(
        verdict.fills.is_empty() && verdict.warnings[0].starts_with("may fail"),
        "{verdict:?}"
    );
}

#[test]
fn a_store_that_shows_nothing_is_one_warning_and_no_pin() {
    for (error, said) in [
        (Error::Forbidden("403".into()), "runtime not checked: 403"),
        (Error::Unreachable("timed out".into()), "runtime not checked: timed out"),
    ] {
        let verdict = review(&world().failing("s3://mlflow/", error), &format("mlflow"));
        assert_eq!(
            (fills(&verdict), verdict.warnings.as_slice()),
            (vec![("protocolVersion", json!("v2"))], &[said.to_owned()][..])
        );
    }
    // A store that nobody here may look into; that nobody serves it is said by storage-credentials.
    let refused = NotGranted {
        backend: "minio".to_owned(),
        allowed: Vec::new(),
        contact: None,
    };
    for (resolution, said) in [
        (
            Resolution::OwnSecret("mine".to_owned()),
            Some("runtime not checked: Secret mine opens it, and Tidewaiter opens nothing with Secrets of a namespace"),
        ),
        (
            Resolution::NotGranted(refused),
            Some("runtime not checked: no StorageBackend serves s3://mlflow/1/model/MLmodel for this namespace"),
        ),
        (Resolution::Unserved, None),
        (Resolution::NoCredentials, None),
    ] {
        let verdict = review(&world().resolve("s3://mlflow/", resolution), &format("sklearn"));
        assert_eq!(fills(&verdict), []);
        assert_eq!(verdict.warnings, said.as_slice());
    }
    let verdict = review(&world(), &format("mlflow"));
    assert_eq!(
        verdict.warnings,
        ["a server for mlflow will find no model: no MLmodel at s3://mlflow/1/model"]
    );
    let run = world().object("s3://mlflow/1/model/inner/MLmodel", b"flavors: {}".as_slice());
    assert_eq!(
        review(&run, &format("mlflow")).warnings,
        ["a server for mlflow will find no model: its MLmodel is in inner; add /inner to the URI"]
    );
    let mut archive = format("mlflow");
    archive["spec"]["predictor"]["model"]["storageUri"] = json!("s3://mlflow/1/model.tar.gz");
    assert_eq!(review(&world(), &archive).warnings, Vec::<String>::new());
    let verdict = review(&world(), &format("sklearn"));
    assert_eq!(
        verdict.warnings,
        ["runtime not checked: nothing is at s3://mlflow/1/model"]
    );
    let elsewhere = service(&json!({"modelFormat": {"name": "sklearn"}, "storageUri": "pvc://models/fraud"}));
    assert_eq!(review(&world(), &elsewhere), Verdict::admit());
    let verdict = review(&mlmodel(world(), "flavors:\n  sklearn: [\n"), &format("mlflow"));
    assert_eq!(verdict.warnings.len(), 1);
    assert!(
        verdict.warnings[0].contains("MLmodel") && verdict.warnings[0].contains("line 3"),
        "{verdict:?}"
    );
}

#[test]
fn the_users_own_choice_is_never_touched() {
    let world = mlmodel(world(), sklearn_model("1.3.2"));
    for own in [
        json!({"runtime": "kserve-sklearnserver"}),
        json!({"runtimeVersion": "v0.14.1"}),
        json!({"runtime": "kserve-sklearnserver", "runtimeVersion": "v0.20.0"}),
    ] {
        let mut model = json!({"modelFormat": {"name": "sklearn"}});
        model.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let verdict = review(&world, &service(&model));
        assert!(
            verdict.fills.is_empty() && verdict.warnings.len() == 1,
            "{own}: {verdict:?}"
        );
    }
    let fitting = service(&json!({"modelFormat": {"name": "sklearn"}, "runtimeVersion": "v0.13.1"}));
    assert_eq!(review(&world, &fitting), Verdict::admit());
    let missing = service(&json!({"modelFormat": {"name": "sklearn"}, "runtime": "nowhere"}));
    assert_eq!(
        review(&world, &missing).warnings,
        ["runtime nowhere is neither in this namespace nor in the cluster (yet)"]
    );
}

#[test]
fn says_why_kserve_finds_no_runtime() {
    for (model, said) in [
        (
            json!({"modelFormat": {"name": "mlflow", "version": "3"}}),
            "no runtime supports modelFormat mlflow version \"3\"; leave the version out, KServe compares it as text",
        ),
        (
            json!({"modelFormat": {"name": "prophet"}}),
            "no runtime in this cluster supports modelFormat prophet",
        ),
        (
            json!({"modelFormat": {"name": "mlflow"}, "protocolVersion": "v1"}),
            "no runtime for modelFormat mlflow speaks protocol v1",
        ),
    ] {
        let verdict = review(&world(), &service(&model));
        assert_eq!((verdict.warnings, verdict.fills.len()), (vec![said.to_owned()], 0));
    }
    let mut only = runtime("by-name", MLSERVER, "1.7.1", &["v1"]);
    only.auto_select = false;
    let verdict = review(&world().runtime("pmml", None, only), &format("pmml"));
    assert_eq!(
        verdict.warnings,
        ["KServe chooses no runtime for modelFormat pmml by itself; name one, such as by-name"]
    );
}

#[test]
fn leaves_alone_what_is_not_its_business() {
    let world = mlmodel(world(), sklearn_model("1.3.2"));
    let old_shape = json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"sklearn": {"storageUri": URI}}}});
    let custom = json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"containers": [{"name": "kserve-container", "env": [{"name": "STORAGE_URI", "value": URI}]}]}}});
    let mut nodes = format("sklearn");
    nodes["spec"]["predictor"]["workerSpec"] = json!({});
    let mut mesh = format("sklearn");
    mesh["metadata"]["annotations"] = json!({"serving.kserve.io/deploymentMode": "ModelMesh"});
    let llm =
        json!({"kind": "LLMInferenceService", "metadata": {"name": "fraud"}, "spec": {"model": {"uri": "hf://a/b"}}});
    let garbage = json!({"spec": {"predictor": {"model": 7}}});
    for object in [old_shape, custom, nodes, mesh, llm, garbage, format("huggingface")] {
        assert_eq!(review(&world, &object), Verdict::admit(), "{object}");
    }
    assert_eq!(world.calls().to_stores(), 0);
}

#[test]
fn without_an_mlmodel_the_file_itself_is_read() {
    let file = |name: &str, bytes: &[u8]| {
        world()
            .object(&format!("{URI}/readme.md"), "hello")
            .object(&format!("{URI}/{name}"), bytes)
    };
    let verdict = review(&file("model.joblib", data!("sklearn-1.2.2.joblib")), &format("sklearn"));
    assert_eq!(fills(&verdict), pin("kserve-sklearnserver", "v0.11.2"));
    for (name, bytes) in [
        ("model.ubj", &data!("xgboost-3.2.0.ubj")[..]),
        ("model.json", data!("xgboost-3.2.0.json")),
    ] {
        let denial = review(&file(name, bytes), &format("xgboost")).denial.unwrap();
        assert!(
            denial.message.contains("xgboost 3.2.0") && denial.message.contains("2.1.4"),
            "{}",
            denial.message
        );
    }
    let verdict = review(&file("model.ubj", data!("xgboost-3.0.2.ubj")), &format("xgboost"));
    assert_eq!(
        verdict.warnings,
        ["saved by xgboost 3.0.2, served by 2.1.4: older, but known to answer alike"]
    );
    let verdict = review(&file("model.bst", data!("xgboost-1.7.6.binary")), &format("xgboost"));
    assert_eq!(verdict, Verdict::admit());
    let verdict = review(&file("model.bst", data!("lightgbm-3.3.5.txt")), &format("lightgbm"));
    assert_eq!(
        verdict.warnings,
        ["saved by lightgbm 3, served by 4.6.0: another major version, usually loads"]
    );
    let verdict = review(&file("model.bst", b"nothing known"), &format("lightgbm"));
    assert_eq!(verdict, Verdict::admit());

    // A URI may name the file.
    let object = service(&json!({"modelFormat": {"name": "sklearn"}, "storageUri": format!("{URI}/model.joblib")}));
    assert_eq!(
        fills(&review(&file("model.joblib", data!("sklearn-1.2.2.joblib")), &object)),
        pin("kserve-sklearnserver", "v0.11.2")
    );
}

#[test]
fn of_a_large_file_only_its_ends_are_read() {
    let mut large = data!("xgboost-3.2.0.ubj").to_vec();
    let middle = large.len() / 2;
    large.splice(middle..middle, std::iter::repeat_n(b' ', 3 << 20));
    let world = world().object(&format!("{URI}/model.ubj"), large);
    assert!(review(&world, &format("xgboost")).denial.is_some());
    assert_eq!(world.calls().read, 3, "MLmodel, head, tail");
}

#[test]
fn numpy_python_and_skops_are_judged_too() {
    let requirements = |world: World, numpy: &str| {
        world.object(
            &format!("{URI}/requirements.txt"),
            format!("scikit-learn==1.5.1\nnumpy=={numpy}\n"),
        )
    };
    let tagged = |tag: &str| world().runtime("sklearn", Some("7"), runtime("own", SKLEARN, tag, &["v1"]));
    let seven = service(&json!({"modelFormat": {"name": "sklearn", "version": "7"}}));
    let verdict = review(
        &requirements(mlmodel(tagged("v0.14.1"), sklearn_model("1.5.1")), "2.0.2"),
        &seven,
    );
    assert_eq!(fills(&verdict), pin("own", "v0.20.0"));
    assert_eq!(verdict.fills[0].reason, "a version belongs to its runtime");
    assert_eq!(verdict.fills[1].reason, "a pickle from numpy 2 fails under numpy 1");
    let beside = requirements(mlmodel(tagged("v0.14.1"), sklearn_model("1.5.1")), "2.0.2")
        .runtime("sklearn", Some("7"), runtime("newer", "registry.local/a", "1", &["v1"]))
        .release(
            "registry.local/a",
            "1",
            "3.11",
            &[("scikit-learn", "1.5.1"), ("numpy", "2.0.2")],
        );
    let verdict = review(&beside, &seven);
    assert_eq!(fills(&verdict), pin("newer", "1"));
    assert_eq!(
        [&*verdict.fills[0].reason, &*verdict.fills[1].reason],
        ["own does not fit", "a pickle from numpy 2 fails under numpy 1"]
    );
    assert_eq!(
        review(
            &requirements(mlmodel(tagged("v0.14.1"), sklearn_model("1.5.1")), "1.26.4"),
            &seven
        ),
        Verdict::admit()
    );

    let cloud = sklearn_model("1.7.0").replace("format: pickle", "format: cloudpickle");
    let verdict = review(&mlmodel(world(), cloud), &format("mlflow"));
    assert_eq!(
        verdict.warnings,
        ["saved by scikit-learn 1.7.0 under Python 3.11.7, served by 1.7.0: cloudpickle wants the same Python"]
    );
    let skops = sklearn_model("1.7.0").replace("format: pickle", "format: skops");
    let verdict = review(&mlmodel(world(), skops), &format("mlflow"));
    assert_eq!(
        verdict.warnings,
        ["may fail: saved by scikit-learn 1.7.0, kserve-mlserver has 1.7.0: skops needs MLflow 3.9"]
    );
}

#[test]
fn pins_what_fits_too_where_the_admin_wants_it() {
    let always: Settings = serde_json::from_value(json!({"pin": "always"})).unwrap();
    let world = mlmodel(world(), *data!("mlmodel/2.22-xgboost/MLmodel"));
    let verdict = world.review_with::<ServingVersions>(&create(&format("mlflow")), &always);
    let mut expected = pin("kserve-mlserver", "1.7.1");
    expected.push(("protocolVersion", json!("v2")));
    assert_eq!(fills(&verdict), expected);
    for settings in [json!({"pin": "sometimes"}), json!({"wrongAnswer": "deny"})] {
        assert!(serde_json::from_value::<Settings>(settings).is_err());
    }
}

#[test]
fn a_canary_is_judged_but_not_filled_in() {
    let mut object = format("huggingface");
    object["spec"]["canary"] =
        json!([{"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI}}}]);
    let verdict = review(&mlmodel(world(), sklearn_model("1.3.2")), &object);
    assert!(verdict.fills.is_empty() && verdict.warnings.len() == 1, "{verdict:?}");
}

#[test]
fn a_canary_is_judged_by_what_is_filled_in_for_the_predictor() {
    let world = mlmodel(world(), sklearn_model("1.3.2"));
    let alone = format("sklearn");
    let verdict = review(&world, &alone);
    assert!(!verdict.fills.is_empty(), "{verdict:?}");
    let mut beside = alone.clone();
    beside["spec"]["canary"] =
        json!([{"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI}}}]);
    assert_eq!(review(&world, &beside), verdict);
    // As it is stored then.
    let mut stored = filled(&alone, &verdict);
    stored["spec"]["canary"] = beside["spec"]["canary"].clone();
    assert_eq!(review(&world, &stored).warnings, verdict.warnings);
    // Its own word counts more.
    beside["spec"]["canary"][0]["predictor"]["model"]["runtime"] = json!("kserve-sklearnserver");
    beside["spec"]["canary"][0]["predictor"]["model"]["runtimeVersion"] = json!("v0.20.0");
    assert!(review(&world, &beside).warnings.len() > verdict.warnings.len());
}

fn entries(verdict: &Verdict) -> Vec<Entry> {
    verdict
        .fills
        .iter()
        .map(|fill| Entry {
            path: fill.path.clone(),
            value: fill.value.clone(),
        })
        .collect()
}

/// The object as it is stored once the verdict's fills are in it.
fn filled(object: &Value, verdict: &Verdict) -> Value {
    let mut object = object.clone();
    for fill in &verdict.fills {
        let name = fill.path.rsplit('/').next().unwrap();
        object["spec"]["predictor"]["model"][name] = serde_json::from_str(&fill.value).unwrap();
    }
    object
}

fn resend(object: &Value, old: &Value, first: &Verdict) -> Request {
    Request {
        filled: entries(first),
        ..update(object, old)
    }
}

#[test]
fn what_was_filled_in_stays_without_a_look_into_the_store() {
    let first = review(&mlmodel(world(), sklearn_model("1.3.2")), &format("sklearn"));
    let old = filled(&format("sklearn"), &first);
    let mut scaled = format("sklearn");
    scaled["spec"]["predictor"]["minReplicas"] = json!(3);
    // Meanwhile the store is down, and the runtimes are gone.
    let later = World::new();
    let verdict = later.review::<ServingVersions>(&resend(&scaled, &old, &first));
    assert_eq!(fills(&verdict), fills(&first));
    assert_eq!(later.calls(), tidewaiter_policy::testing::Calls::default());
    assert!(verdict.warnings.is_empty());
}

#[test]
fn what_changes_the_model_or_the_users_word_is_decided_anew() {
    let world = mlmodel(world(), sklearn_model("1.3.2")).object("s3://mlflow/2/MLmodel", sklearn_model("1.5.2"));
    let first = review(&world, &format("sklearn"));
    let old = filled(&format("sklearn"), &first);
    let moved = service(&json!({"modelFormat": {"name": "sklearn"}, "storageUri": "s3://mlflow/2"}));
    assert!(
        world
            .review::<ServingVersions>(&resend(&moved, &old, &first))
            .fills
            .is_empty(),
        "the new model fits"
    );
    let own = service(&json!({"modelFormat": {"name": "sklearn"}, "protocolVersion": "v2"}));
    // KServe would choose MLServer now, which has 1.3.0 at best: the exact fit is elsewhere.
    assert_eq!(
        fills(&world.review::<ServingVersions>(&resend(&own, &old, &first))),
        pin("kserve-sklearnserver", "v0.13.1"),
        "decided anew, the same again"
    );
    assert!(world.calls().to_stores() > 2);
}

#[test]
fn what_the_user_took_out_stays_out_and_takes_its_twin_along() {
    let world = mlmodel(world(), sklearn_model("1.3.2"));
    let first = review(&world, &format("sklearn"));
    let old = filled(&format("sklearn"), &first);
    for gone in [RUNTIME, RUNTIME_VERSION] {
        let mut request = resend(&format("sklearn"), &old, &first);
        request.filled.retain(|entry| entry.path != gone);
        request.withheld = vec![gone.to_owned()];
        let verdict = world.review::<ServingVersions>(&request);
        assert!(verdict.fills.is_empty(), "{gone}: {verdict:?}");
    }
    let mut request = create(&format("mlflow"));
    request.withheld = vec![PROTOCOL_VERSION.to_owned()];
    let verdict = mlmodel(world, sklearn_model("1.7.0")).review::<ServingVersions>(&request);
    assert_eq!(
        (verdict.fills.len(), verdict.warnings.as_slice()),
        (
            0,
            &[
                "no runtime for modelFormat mlflow speaks v1; set protocolVersion: v2, which kserve-mlserver speaks"
                    .to_owned()
            ][..]
        )
    );
}

/// Objects, and what the engine says of them, as they come.
fn requests() -> impl Strategy<Value = (Value, Vec<String>, String)> {
    let field = |values: &'static [&'static str]| prop::option::weighted(0.3, prop::sample::select(values));
    (
        prop::sample::select(&["mlflow", "sklearn", "xgboost", "tensorflow", "huggingface"][..]),
        field(&["1", "2", "3"]),
        field(&["kserve-mlserver", "kserve-sklearnserver", "nowhere"]),
        field(&["v0.13.1", "1.7.1", "odd"]),
        field(&["v1", "v2", "grpc-v2"]),
        prop::bool::weighted(0.2),
        prop::sample::subsequence(
            &[RUNTIME, RUNTIME_VERSION, PROTOCOL_VERSION, "/spec/predictor/model"][..],
            0..=2,
        ),
        prop::sample::select(&["1.2.2", "1.3.2", "1.5.2", "1.6.1", "1.7.0", "1.9.1"][..]),
    )
        .prop_map(
            |(name, version, runtime, runtime_version, protocol, gpu, withheld, saved)| {
                let mut model = json!({"modelFormat": {"name": name}});
                for (key, value) in [
                    ("runtime", runtime),
                    ("runtimeVersion", runtime_version),
                    ("protocolVersion", protocol),
                ] {
                    if let Some(value) = value {
                        model[key] = json!(value);
                    }
                }
                if let Some(version) = version {
                    model["modelFormat"]["version"] = json!(version);
                }
                gpu.then(|| model["resources"] = json!({"limits": {"nvidia.com/gpu": 1}}));
                (
                    service(&model),
                    withheld.into_iter().map(str::to_owned).collect(),
                    saved.to_owned(),
                )
            },
        )
}

fn some_world(saved: &str) -> World {
    let xgboost = "\n  xgboost:\n    xgb_version: 1.7.5\n    data: model.json\n";
    let tensorflow = "  tensorflow:\n    keras_version: 2.15.0\n";
    mlmodel(world(), format!("{}{xgboost}{tensorflow}", sklearn_model(saved)))
}

proptest! {
    // One in five of these objects has something to fill in.
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn pins_both_or_neither_and_never_over_the_users_word((object, withheld, saved) in requests()) {
        let request = Request { withheld: withheld.clone(), ..create(&object) };
        let verdict = some_world(&saved).review::<ServingVersions>(&request);
        let fills = fills(&verdict);
        let has = |name| fills.iter().any(|(filled, _)| *filled == name);
        prop_assert_eq!(has("runtime"), has("runtimeVersion"));
        for (name, _) in &fills {
            let path = format!("/spec/predictor/model/{name}");
            prop_assert!(object.pointer(&path).is_none(), "filled over the user's {}", name);
            prop_assert!(!withheld.iter().any(|held| path.starts_with(held.as_str())), "filled what was withheld: {}", name);
        }
        prop_assert!(!has("runtime") || object.pointer(RUNTIME).is_none() && object.pointer(RUNTIME_VERSION).is_none());
        prop_assert!(verdict.warnings.iter().all(|warning| warning.chars().count() <= 120), "{:?}", verdict.warnings);
    }

    #[test]
    fn the_bare_manifest_sent_again_gets_the_same_fills((object, _, saved) in requests()) {
        let first = some_world(&saved).review::<ServingVersions>(&create(&object));
        if first.denial.is_some() || first.fills.is_empty() {
            return Ok(());
        }
        let old = filled(&object, &first);
        let again = World::new().review::<ServingVersions>(&resend(&object, &old, &first));
        prop_assert_eq!(fills(&again), fills(&first));
    }

    #[test]
    fn the_same_question_gets_the_same_answer((object, _, saved) in requests()) {
        let answer = || some_world(&saved).review::<ServingVersions>(&create(&object));
        prop_assert_eq!(answer(), answer());
    }
}
