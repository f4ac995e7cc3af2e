//! Objects as KServe is given them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_core::kserve_config::{self, KserveConfig};
use tidewaiter_core::kserve_runtimes::of_release;
use tidewaiter_core::runtimes::Runtimes;

use super::*;
use crate::model::{Framework, Model};

fn facts(release: &str, mode: kserve_config::DeploymentMode) -> Facts {
    let runtimes = Runtimes::new(of_release(release).unwrap());
    Facts {
        config: KserveConfig {
            deployment_mode: mode,
            ..KserveConfig::default()
        },
        release: Facts::release_of(&runtimes),
        runtimes,
        deployed_as: None,
        keeps_mode: false,
        is_model_mesh: false,
    }
}

fn standard() -> Facts {
    facts("v0.20.0", kserve_config::DeploymentMode::Standard)
}

fn knative() -> Facts {
    facts("v0.20.0", kserve_config::DeploymentMode::Knative)
}

fn model(framework: Framework, versions: &[(&str, &str)]) -> Model {
    Model {
        framework,
        versions: versions
            .iter()
            .map(|(package, version)| ((*package).to_owned(), (*version).to_owned()))
            .collect(),
        signature: None,
        input_example: None,
        lists: Vec::new(),
        has_environment: false,
        bytes: 0,
        files: 0,
    }
}

fn wishes(yaml: &str) -> Wishes {
    let mut wishes: Wishes = serde_saphyr::from_str(yaml).unwrap();
    wishes.name.get_or_insert_with(|| "fraud".to_owned());
    wishes
}

fn built(yaml: &str, model: &Model, facts: &Facts) -> Result<Built, WishError> {
    build(&wishes(yaml), model, Some("s3://mlflow/fraud"), "team-a", facts, true)
}

fn spec(yaml: &str, framework: Framework, facts: &Facts) -> Value {
    built(yaml, &model(framework, &[]), facts).unwrap().object["spec"].clone()
}

fn refused(yaml: &str, facts: &Facts) -> String {
    let error = built(yaml, &model(Framework::Sklearn, &[]), facts).unwrap_err();
    format!("{error}; {}", error.next())
}

#[test]
fn a_bare_wish_is_a_bare_object() {
    let built = built("{}", &model(Framework::Mlflow, &[]), &standard()).unwrap();
    assert_eq!(
        built.object,
        json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "fraud", "namespace": "team-a"},
            "spec": {"predictor": {"model": {
                "modelFormat": {"name": "mlflow"},
                "protocolVersion": "v2",
                "storageUri": "s3://mlflow/fraud",
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }}},
        })
    );
    assert_eq!(built.chosen.unwrap().runtime, "kserve-mlserver");
}

#[test]
fn every_wish_has_its_place() {
    let yaml = r#"
name: fraud
framework: sklearn
minReplicas: 1
maxReplicas: 3
scaleMetric: concurrency
scaleTarget: 10
resources: {requests: {cpu: 500m}, limits: {memory: 2Gi}}
gpus: 1
timeout: 30
env: {LEVEL: debug}
args: [--workers, "2"]
nodeSelector: {kubernetes.io/arch: amd64}
labels: {team: a}
annotations: {example.com/owner: me}
canaryTrafficPercent: 10
serviceAccountName: models
deploymentMode: Knative
transformer: {image: example.com/pre:1, env: {A: b}, storageUri: s3://code/pre, minReplicas: 1}
explainer: {image: example.com/why:1}
"#;
    let object = built(yaml, &model(Framework::Sklearn, &[]), &knative()).unwrap().object;
    insta::assert_json_snapshot!(object);
}

#[test]
fn flags_are_over_the_file_and_what_belongs_together_stays_together() {
    let file = wishes(
        "{name: a, minReplicas: 2, env: {A: file, B: file}, image: example.com/x:1, protocol: grpc, resources: {limits: {cpu: '1'}}}",
    );
    let flags = Wishes {
        name: Some("b".to_owned()),
        scale_to_zero: Some(true),
        env: BTreeMap::from([("A".to_owned(), "flag".to_owned())]),
        runtime: Some("own".to_owned()),
        ..Wishes::default()
    };
    let both = flags.over(file);
    assert_eq!(both.name.as_deref(), Some("b"));
    assert_eq!((both.min_replicas, both.scale_to_zero), (None, Some(true)));
    assert_eq!((both.image, both.runtime.as_deref()), (None, Some("own")));
    assert_eq!(both.env["A"], "flag");
    assert_eq!(both.env["B"], "file");
    assert_eq!(both.protocol, Some(Protocol::Grpc));
    assert_eq!(both.resources.limits["cpu"], "1");
}

#[test]
fn a_whole_deployment_is_said_in_a_file() {
    let file = "{source: models:/fraud/3, secret: minio, artifactStore: s3://models/, predict: house.answer, post: house.tenfold, canaryPercent: 10}";
    let flags = Wishes {
        service_account_name: Some("own".to_owned()),
        pre: Some("house.scale".to_owned()),
        ..Wishes::default()
    };
    let both = flags.over(wishes(file));
    assert_eq!(both.source.as_deref(), Some("models:/fraud/3"));
    assert_eq!(both.canary_traffic_percent, Some(10));
    // A Secret and an account exclude each other: the stronger one's word is the only one.
    assert_eq!((both.secret, both.service_account_name.as_deref()), (None, Some("own")));
    assert_eq!(
        (both.pre.as_deref(), both.post.as_deref()),
        (Some("house.scale"), Some("house.tenfold"))
    );
    let other = Wishes {
        predict: Some("other.answer".to_owned()),
        ..Wishes::default()
    };
    assert_eq!(other.over(wishes(file)).post, None);
    assert!(refused("{secret: minio, serviceAccount: own}", &standard()).contains("exclude each other"));
}

#[test]
fn half_a_graph_or_half_a_model_on_a_server_is_refused_with_what_is_missing() {
    let refused = |yaml: &str| wishes(yaml).whole().unwrap_err().next();
    assert!(refused("steps: [a, b]").contains("--graph"));
    assert!(refused("memory: 1Gi").contains("--server"));
    assert!(refused("server: many").contains("--memory 256Mi"));
    let file = wishes("{graph: sequence, steps: [a, b], server: many}");
    let flags = Wishes {
        graph: Some(Router::Splitter),
        memory: Some("1Gi".to_owned()),
        ..Wishes::default()
    };
    let both = flags.over(file);
    both.whole().unwrap();
    assert_eq!((both.graph, both.steps.len()), (Some(Router::Splitter), 2));
}

#[test]
fn a_place_that_kserve_does_not_load_is_refused_wherever_it_stands() {
    let model = model(Framework::Sklearn, &[]);
    let of = |yaml: &str, uri: &str| build(&wishes(yaml), &model, Some(uri), "team-a", &standard(), true);
    for own in ["{}", "image: example.com/own:1"] {
        let error = of(own, "gs://models").unwrap_err();
        assert!(error.to_string().contains("all of a bucket"), "{error}");
    }
    let beside = "transformer: {image: a, storageUri: 'https://acme.blob.core.windows.net/code'}";
    let error = of(beside, "s3://models").unwrap_err();
    assert!(
        error.next().contains("https://acme.blob.core.windows.net/code/"),
        "{}",
        error.next()
    );
    assert!(of("{}", "s3://models").is_ok());
}

/// Each field of a `tidewaiter.yaml` has a row in its section of docs/deploy.md, and no other has.
#[test]
fn the_docs_have_every_field_of_a_file() {
    let page = include_str!("../../../docs/deploy.md");
    let (_, section) = page.split_once("## A deployment in a file").expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: Vec<&str> = rows.map(|(field, _)| field).collect();
    // serde says which fields there are where it refuses one.
    let error = serde_json::from_str::<Wishes>(r#"{"none": 1}"#)
        .unwrap_err()
        .to_string();
    let (_, known) = error.split_once("expected one of ").expect(&error);
    let known = known
        .split(" at line")
        .next()
        .unwrap()
        .split(", ")
        .map(|field| field.trim_matches('`'));
    let mut known: Vec<&str> = known
        .filter(|field| !["requestTimeout", "canaryPercent", "serviceAccount"].contains(field))
        .collect();
    let mut sorted = documented.clone();
    known.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(sorted, known);
}

#[test]
fn a_field_that_does_not_exist_is_refused_by_name() {
    let error = serde_saphyr::from_str::<Wishes>("minReplica: 2")
        .unwrap_err()
        .to_string();
    assert!(error.contains("minReplica"), "{error}");
    assert!(serde_saphyr::from_str::<Wishes>("framework: pickle").is_err());
    assert!(serde_saphyr::from_str::<Wishes>("deploymentMode: RawDeployment").is_ok());
}

#[test]
fn what_stands_before_a_model_asks_it_in_what_its_port_speaks() {
    let told = |yaml: &str, facts: &Facts| {
        let spec = spec(yaml, Framework::Mlflow, facts);
        ["transformer", "explainer"].map(|role| spec[role]["containers"][0]["args"].clone())
    };
    let both = |protocol: &str| [0; 2].map(|_| json!(["--predictor_protocol", protocol]));
    let of =
        |protocol: &str| format!("{{protocol: {protocol}, transformer: {{image: a/b}}, explainer: {{image: a/c}}}}");
    // Its one port is gRPC's.
    assert_eq!(told(&of("grpc"), &standard()), both("grpc-v2"));
    assert_eq!(told(&of("grpc"), &knative()), both("grpc-v2"));
    // The first of two is REST's.
    assert_eq!(told(&of("both"), &standard()), both("v2"));
    assert_eq!(told(&of("rest"), &standard()), both("v2"));
    let own = "{protocol: grpc, image: a/model, transformer: {image: a/b, args: ['--predictor_protocol=v1']}}";
    assert_eq!(told(own, &standard())[0], json!(["--predictor_protocol=v1"]));
}

#[test]
fn a_release_for_a_gpu_is_pinned_where_one_was_asked_for() {
    let new = model(Framework::Tensorflow, &[("tensorflow", "2.16.1")]);
    // Triton, which nothing is known of, would be taken first.
    let servers = of_release("v0.20.0").unwrap().into_iter();
    let facts = Facts {
        runtimes: Runtimes::new(servers.filter(|runtime| runtime.name.contains("tensorflow")).collect()),
        ..standard()
    };
    let pin = |yaml: &str| built(yaml, &new, &facts).unwrap().chosen.unwrap().pin.unwrap().1;
    let plain = pin("{}").unwrap();
    assert!(!plain.ends_with("-gpu"), "{plain}");
    for yaml in ["gpus: 1", "resources: {limits: {nvidia.com/mig-1g.5gb: 1}}"] {
        assert_eq!(pin(yaml), Some(format!("{plain}-gpu")), "{yaml}");
    }
    for yaml in ["gpus: 0", "{gpus: 1, gpuResource: amd.com/gpu}"] {
        assert_eq!(pin(yaml).as_ref(), Some(&plain), "{yaml}");
    }
    // A canary beside a model that has a GPU gets one, too.
    let stable = json!({
        "modelFormat": {"name": "tensorflow"}, "protocolVersion": "v1", "resources": {"limits": {"nvidia.com/gpu": "1"}},
    });
    let canary = choose::beside(&new, &stable, "team-a", &standard(), false).unwrap();
    assert_eq!(canary.pin.unwrap().1, Some(format!("{plain}-gpu")));
}

#[test]
fn a_service_that_says_its_mode_goes_on_saying_it_where_the_default_is_not_known() {
    let mode = |keeps_mode: bool| {
        let facts = Facts {
            deployed_as: Some(DeploymentMode::Standard),
            keeps_mode,
            ..standard()
        };
        let built = built("{}", &model(Framework::Sklearn, &[]), &facts).unwrap();
        built.object["metadata"]["annotations"]["serving.kserve.io/deploymentMode"].clone()
    };
    assert_eq!((mode(true), mode(false)), (json!("Standard"), Value::Null));
}

#[test]
fn an_image_of_ones_own_takes_no_word_on_how_another_server_is_made() {
    for (wish, flag) in [
        ("predict: house.answer", "--predict"),
        ("handler: base_handler", "--handler"),
        ("extraFiles: [a.json]", "--extra-file"),
    ] {
        let error = wishes(&format!("{{image: a/b, {wish}}}")).whole().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("{flag} and --image exclude each other")),
            "{error}"
        );
    }
    wishes("{image: a/b, framework: sklearn}").whole().unwrap();
}

#[test]
fn each_protocol_has_the_ports_that_make_it_answer() {
    let ports = |yaml: &str, framework| spec(yaml, framework, &standard())["predictor"]["model"]["ports"].clone();
    assert_eq!(ports("protocol: rest", Framework::Mlflow), Value::Null);
    assert_eq!(
        ports("protocol: grpc", Framework::Mlflow),
        json!([{"name": "h2c", "containerPort": 9000, "protocol": "TCP"}])
    );
    assert_eq!(
        ports("protocol: both", Framework::Mlflow),
        json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"name": "grpc", "containerPort": 9000, "protocol": "TCP"}])
    );
    // KServe's own servers answer gRPC elsewhere.
    let own = spec(
        "{protocol: grpc, runtime: kserve-sklearnserver}",
        Framework::Sklearn,
        &standard(),
    );
    assert_eq!(own["predictor"]["model"]["ports"][0]["containerPort"], 8081);
    let told = refused("protocol: both", &knative());
    assert!(
        told.contains("Knative gives each service one port; deploy it twice"),
        "{told}"
    );
}

#[test]
fn the_protocol_is_one_that_the_cluster_has_a_runtime_for() {
    let version = |framework, facts: &Facts| {
        spec("{}", framework, facts)["predictor"]["model"]["protocolVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(version(Framework::Sklearn, &standard()), "v2");
    assert_eq!(version(Framework::Tensorflow, &standard()), "v1");
    assert_eq!(version(Framework::Huggingface, &standard()), "v2");
    let mut v1_only = standard();
    let servers = of_release("v0.20.0").unwrap();
    let servers = servers
        .into_iter()
        .filter(|runtime| runtime.name != "kserve-mlserver")
        .map(|mut runtime| {
            runtime.protocols = vec!["v1".to_owned()];
            runtime
        });
    v1_only.runtimes = Runtimes::new(servers.collect());
    assert_eq!(version(Framework::Sklearn, &v1_only), "v1");
    let error = built("protocol: grpc", &model(Framework::Sklearn, &[]), &v1_only).unwrap_err();
    assert_eq!(
        format!("{error}; {}", error.next()),
        "no serving runtime in this cluster serves sklearn over grpc; it is served over REST: leave --protocol out"
    );
    let error = built("{}", &model(Framework::Mlflow, &[]), &v1_only).unwrap_err();
    assert!(
        error.next().contains("install a ClusterServingRuntime for mlflow"),
        "{}",
        error.next()
    );
}

#[test]
fn a_runtime_that_was_named_is_looked_at() {
    let told = refused("runtime: nope", &standard());
    assert!(
        told.contains("no serving runtime `nope` in namespace team-a") && told.contains("kserve-sklearnserver"),
        "{told}"
    );
    assert!(refused("runtime: kserve-xgbserver", &standard()).contains("doesn't serve sklearn"));
    let error = built(
        "{runtime: kserve-mlserver, protocol: rest}",
        &model(Framework::Tensorflow, &[]),
        &standard(),
    );
    assert!(error.is_err());
    let pinned = spec(
        "{runtime: kserve-sklearnserver, runtimeVersion: v0.19.0}",
        Framework::Sklearn,
        &standard(),
    );
    let model = &pinned["predictor"]["model"];
    assert_eq!(
        (&model["runtime"], &model["runtimeVersion"]),
        (&json!("kserve-sklearnserver"), &json!("v0.19.0"))
    );
}

#[test]
fn a_model_that_the_first_choice_does_not_fit_gets_what_fits() {
    // MLServer 1.7.1 has scikit-learn 1.7, KServe's own server 1.5.2.
    let old = model(Framework::Sklearn, &[("scikit-learn", "1.5.2")]);
    let found = built("{}", &old, &standard()).unwrap().chosen.unwrap();
    assert_eq!((found.runtime.as_str(), found.pin), ("kserve-sklearnserver", None));
    assert_eq!(found.protocol_version, "v1");
    // Only an older release of MLServer has 1.4.
    let older = model(Framework::Mlflow, &[("scikit-learn", "1.4.1"), ("mlflow", "2.10.2")]);
    let chosen = built("{}", &older, &standard()).unwrap().chosen.unwrap();
    assert_eq!(
        chosen.pin,
        Some(("kserve-mlserver".to_owned(), Some("1.5.0".to_owned())))
    );
    assert!(chosen.remarks[0].contains("release 1.5.0"), "{:?}", chosen.remarks);
    // Where Tidewaiter is, it sees to that.
    let left = build(&wishes("{}"), &older, Some("s3://a/b"), "team-a", &standard(), false).unwrap();
    assert_eq!(left.chosen.unwrap().pin, None);
    // Nothing has it: said, not hidden.
    let new = model(Framework::Sklearn, &[("scikit-learn", "9.1.0")]);
    let chosen = built("{}", &new, &standard()).unwrap().chosen.unwrap();
    assert_eq!(
        chosen.remarks,
        [
            "docker.io/seldonio/mlserver:1.7.1 has scikit-learn 1.7.0, and the model was saved by 9.1.0, which doesn't fit (only the same version is supported)"
        ]
    );
}

#[test]
fn a_model_that_would_be_answered_wrongly_is_refused_where_no_webhook_does() {
    let new = model(Framework::Xgboost, &[("xgboost", "3.2.0")]);
    let told = |yaml: &str| {
        let error = built(yaml, &new, &standard()).unwrap_err();
        format!("{error}; {}", error.next())
    };
    assert_eq!(
        told("{runtime: kserve-xgbserver}"),
        "the model was saved by xgboost 3.2.0, and kserve-xgbserver (docker.io/kserve/xgbserver:v0.20.0) serves it with 2.1.4, which loads it without an \
         error and answers wrongly; save it with xgboost 2.1.4 or an earlier version; or serve it with a runtime (--runtime) whose image holds xgboost 3.2.0 or \
         a later one. To serve it all the same: --annotation tidewaiter.dev/allow-wrong-answers=true"
    );
    for yaml in [
        "{}",
        "{runtimeVersion: 1.6.1}",
        "{runtime: kserve-xgbserver, runtimeVersion: v0.19.0}",
    ] {
        assert!(told(yaml).contains("answers wrongly"), "{yaml}");
    }
    // The webhook's policy goes by its own settings.
    for yaml in ["{}", "{runtime: kserve-xgbserver}"] {
        build(&wishes(yaml), &new, Some("s3://a/b"), "team-a", &standard(), false).unwrap();
    }
    for yaml in ["", "runtime: kserve-xgbserver, "] {
        let allowed = format!("{{{yaml}annotations: {{tidewaiter.dev/allow-wrong-answers: 'true'}}}}");
        let remarks = built(&allowed, &new, &standard()).unwrap().remarks;
        assert!(remarks[0].contains("answers wrongly"), "{remarks:?}");
    }
    // What brings its packages is served by these, and of an image that nobody has listed nothing is known.
    let packed = Model {
        has_environment: true,
        ..model(Framework::Mlflow, &[("xgboost", "3.2.0")])
    };
    built("{}", &packed, &standard()).unwrap();
    built("{runtime: kserve-xgbserver, runtimeVersion: own}", &new, &standard()).unwrap();
}

#[test]
fn what_stands_beside_a_model_gets_the_runtime_that_it_needs() {
    let stable = json!({"modelFormat": {"name": "sklearn"}, "protocolVersion": "v2", "runtime": "kserve-mlserver", "runtimeVersion": "1.5.0"});
    let of = |model: &Model, allowed: bool| choose::beside(model, &stable, "team-a", &standard(), allowed);
    let pin = |runtime: &str, tag: &str| Some((runtime.to_owned(), Some(tag.to_owned())));
    // The predictor's own release has scikit-learn 1.4: it does for the same, and not for a newer one.
    let same = model(Framework::Sklearn, &[("scikit-learn", "1.4.2")]);
    assert_eq!(of(&same, false).unwrap().pin, None);
    let newer = of(&model(Framework::Sklearn, &[("scikit-learn", "1.7.2")]), false).unwrap();
    assert_eq!(newer.pin, pin("kserve-mlserver", "1.7.1"));
    assert!(newer.remark.unwrap().contains("release 1.7.1"));
    // A runtime that doesn't serve it at all.
    let network = model(Framework::Huggingface, &[]);
    assert_eq!(
        of(&network, false).unwrap().pin,
        pin("kserve-huggingfaceserver", "v0.20.0")
    );
    let graph = of(&model(Framework::Tensorflow, &[]), false).unwrap();
    assert!(graph.pin.is_some_and(|(runtime, _)| runtime == "kserve-tritonserver"));
    let wrong = model(Framework::Xgboost, &[("xgboost", "3.2.0")]);
    assert!(matches!(of(&wrong, false), Err(WishError::WrongAnswers { .. })));
    assert!(of(&wrong, true).unwrap().remark.unwrap().contains("answers wrongly"));
}

#[test]
fn wishes_that_exclude_each_other_are_told() {
    let standard = standard();
    for (yaml, part) in [
        ("scaleToZero: true", "keeps one Pod"),
        ("minReplicas: 0", "keeps one Pod"),
        ("{minReplicas: 3, maxReplicas: 2}", "3 replicas at least and 2 at most"),
        ("{minReplicas: 3, scaleToZero: true}", "exclude each other"),
        (
            "scaleMetric: rps",
            "nothing scales by rps; choose --scale-metric cpu or memory",
        ),
        ("scaleTarget: 200", "from 1 to 100"),
        ("canaryTrafficPercent: 10", "Knative's to give"),
        ("{image: a, runtime: b}", "an image of your own has no serving runtime"),
    ] {
        let told = refused(yaml, &standard);
        assert!(told.contains(part), "{yaml}: {told}");
    }
    assert!(refused("scaleMetric: cpu", &knative()).contains("concurrency or rps"));
    assert!(refused("canaryTrafficPercent: 101", &knative()).contains("more than all"));
    let zero = spec("scaleToZero: true", Framework::Sklearn, &knative());
    assert_eq!(zero["predictor"]["minReplicas"], 0);
    let mut running = standard.clone();
    running.deployed_as = Some(DeploymentMode::Knative);
    assert!(refused("deploymentMode: Standard", &running).contains("never changes"));
    let mut mesh = standard.clone();
    mesh.is_model_mesh = true;
    assert!(refused("{}", &mesh).contains("ModelMesh, which this command leaves alone"));
    let keda = "{scaleToZero: true, annotations: {serving.kserve.io/autoscalerClass: keda}}";
    assert_eq!(spec(keda, Framework::Sklearn, &standard)["predictor"]["minReplicas"], 0);
}

#[test]
fn a_mode_that_is_not_the_default_stays_written_down() {
    let mode = |facts: &Facts, deployed: DeploymentMode| {
        let facts = Facts {
            deployed_as: Some(deployed),
            ..facts.clone()
        };
        let built = built("{}", &model(Framework::Sklearn, &[]), &facts).unwrap();
        built.object["metadata"]["annotations"]["serving.kserve.io/deploymentMode"].clone()
    };
    assert_eq!(mode(&standard(), DeploymentMode::Knative), "Knative");
    assert_eq!(mode(&knative(), DeploymentMode::Standard), "Standard");
    assert_eq!(mode(&standard(), DeploymentMode::Standard), Value::Null);
}

#[test]
fn scaling_by_cpu_names_the_mode_in_this_releases_words() {
    let annotations = |facts: &Facts| {
        built(
            "{scaleMetric: cpu, scaleTarget: 70}",
            &model(Framework::Sklearn, &[]),
            facts,
        )
        .unwrap()
        .object["metadata"]["annotations"]
            .clone()
    };
    assert_eq!(
        annotations(&standard()),
        json!({"serving.kserve.io/deploymentMode": "Standard", "serving.kserve.io/autoscalerClass": "hpa"})
    );
    let oldest = facts("v0.15.2", kserve_config::DeploymentMode::Standard);
    assert_eq!(oldest.release, Some((0, 15)));
    assert_eq!(
        annotations(&oldest)["serving.kserve.io/deploymentMode"],
        "RawDeployment"
    );
}

#[test]
fn an_image_of_ones_own_is_told_of_its_model() {
    let spec = spec(
        "{image: example.com/own:1, env: {A: b}}",
        Framework::Custom,
        &standard(),
    );
    assert_eq!(
        spec["predictor"]["containers"],
        json!([{
            "name": "kserve-container", "image": "example.com/own:1",
            "env": [{"name": "A", "value": "b"}, {"name": "STORAGE_URI", "value": "s3://mlflow/fraud"}],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }])
    );
}

fn graph_of(router: Router, steps: &[&str]) -> Result<Value, WishError> {
    let steps: Result<Vec<_>, _> = steps.iter().map(|step| Step::parse(router, step)).collect();
    graph(
        &GraphWishes {
            name: "chain".to_owned(),
            router,
            steps: steps?,
        },
        &Wishes::default(),
        "team-a",
    )
}

#[test]
fn each_kind_of_graph_is_as_kserve_wants_it() {
    let root = |router, steps: &[&str]| graph_of(router, steps).unwrap()["spec"]["nodes"]["root"].clone();
    assert_eq!(
        root(Router::Sequence, &["a", "b", "c=$request"]),
        json!({"routerType": "Sequence", "steps": [
            {"serviceName": "a"}, {"serviceName": "b", "data": "$response"}, {"serviceName": "c", "data": "$request"},
        ]})
    );
    assert_eq!(
        root(Router::Splitter, &["a=20", "b=80%"]),
        json!({"routerType": "Splitter", "steps": [{"serviceName": "a", "weight": 20}, {"serviceName": "b", "weight": 80}]})
    );
    assert_eq!(
        root(Router::Switch, &[r#"a=instances.#(kind=="cat")"#])["steps"][0]["condition"],
        r#"instances.#(kind=="cat")"#
    );
    assert_eq!(root(Router::Ensemble, &["a", "b"])["routerType"], "Ensemble");
    for (router, steps, part) in [
        (Router::Splitter, &["a=20", "b=70"][..], "make 90 together"),
        (Router::Splitter, &["a", "b"], "needs a weight"),
        (Router::Splitter, &["a=x", "b"], "no weight"),
        (Router::Switch, &["a"], "needs a condition"),
        (Router::Sequence, &["a"], "of 1 services is none"),
        (Router::Sequence, &["a", "b=what"], "nothing that b could be asked with"),
        (Router::Ensemble, &["a", "b=1"], "asked by an ensemble"),
    ] {
        let error = graph_of(router, steps).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_is_wished_for_beside_a_graph_or_a_trained_model_is_written_or_refused() {
    let router = GraphWishes {
        name: "ab".to_owned(),
        router: Router::Ensemble,
        steps: ["a", "b"]
            .map(|step| Step::parse(Router::Ensemble, step).unwrap())
            .to_vec(),
    };
    let made = graph(
        &router,
        &wishes(
            "{resources: {limits: {memory: 1Gi}}, minReplicas: 1, maxReplicas: 3, scaleTarget: 70, scaleMetric: cpu, nodeSelector: {disk: ssd}, \
             serviceAccountName: router, requestTimeout: 30, labels: {team: a}, annotations: {example.com/owner: me}}",
        ),
        "team-a",
    )
    .unwrap();
    assert_eq!(
        made["metadata"],
        json!({"name": "ab", "namespace": "team-a", "labels": {"team": "a"}, "annotations": {"example.com/owner": "me"}})
    );
    let mut spec = made["spec"].clone();
    spec.as_object_mut().unwrap().remove("nodes");
    assert_eq!(
        spec,
        json!({"resources": {"limits": {"memory": "1Gi"}}, "minReplicas": 1, "maxReplicas": 3, "scaleTarget": 70, "scaleMetric": "cpu",
            "nodeSelector": {"disk": "ssd"}, "serviceAccountName": "router", "timeout": 30})
    );
    let zero = graph(&router, &wishes("scaleToZero: true"), "team-a").unwrap();
    assert_eq!(zero["spec"]["minReplicas"], 0);
    let refused = graph(
        &router,
        &wishes("{env: {A: b}, gpus: 1, canaryPercent: 3, args: [x]}"),
        "team-a",
    )
    .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "--arg, --canary-percent, --env, --gpus have no place in an InferenceGraph"
    );
    assert!(refused.next().contains("it takes --name"), "{}", refused.next());

    let many = TrainedWishes {
        name: "fraud".to_owned(),
        service: "many".to_owned(),
        framework: Framework::Sklearn,
        memory: "256Mi".to_owned(),
    };
    let server = json!({"spec": {"predictor": {"sklearn": {"protocolVersion": "v1"}}}});
    let of = |yaml: &str| trained_model(&many, &wishes(yaml), "s3://a/b", "team-a", Some(&server));
    let made = of("{source: s3://a/b, framework: sklearn, labels: {team: a}}").unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"team": "a"}));
    let error = of("resources: {limits: {memory: 1Gi}}").unwrap_err().to_string();
    assert_eq!(error, "--request and --limit has no place in a TrainedModel");
}

#[test]
fn a_trained_model_needs_a_server_without_a_model_of_its_own() {
    let wishes = TrainedWishes {
        name: "fraud".to_owned(),
        service: "many".to_owned(),
        framework: Framework::Sklearn,
        memory: "256Mi".to_owned(),
    };
    let of = |server: Value| trained_model(&wishes, &Wishes::default(), "s3://a/b", "team-a", Some(&server));
    let made = of(json!({"spec": {"predictor": {"sklearn": {"protocolVersion": "v1"}}}})).unwrap();
    assert_eq!(
        made["spec"],
        json!({"inferenceService": "many", "model": {"storageUri": "s3://a/b", "framework": "sklearn", "memory": "256Mi"}})
    );
    // The second as ModelMesh's examples have it, which nobody rewrites into `model`.
    for own in [
        json!({"model": {"storageUri": "s3://x/y"}}),
        json!({"sklearn": {"storageUri": "s3://x/y"}}),
        json!({"model": {"storage": {"key": "minio", "path": "y"}}}),
        json!({"model": {}, "storageUris": [{"uri": "s3://x/y"}]}),
    ] {
        let error = of(json!({"spec": {"predictor": own}})).unwrap_err();
        assert!(error.to_string().contains("many has a model of its own"), "{error}");
    }
}

proptest! {
    /// What is written down is read back, so that a `tidewaiter.yaml` made of flags means the same.
    #[test]
    fn wishes_survive_their_yaml(
        fewest in proptest::option::of(0u32..9),
        gpus in proptest::option::of(0u32..9),
        env in proptest::collection::btree_map("[A-Z]{1,8}", "[ -~]{0,20}", 0..4),
        args in proptest::collection::vec("[ -~]{0,12}", 0..4),
        runtime in proptest::option::of("[a-z]{1,10}"),
    ) {
        let wishes = Wishes { min_replicas: fewest, gpus, env, args, runtime, ..Wishes::default() };
        let yaml = serde_saphyr::to_string(&wishes).unwrap();
        prop_assert_eq!(serde_saphyr::from_str::<Wishes>(&yaml).unwrap(), wishes);
    }

    /// Nothing beside nothing, and a wish's own word last.
    #[test]
    fn flags_are_never_weakened(name in "[a-z]{1,5}", other in "[a-z]{1,5}", fewest in proptest::option::of(0u32..9)) {
        let flags = Wishes { name: Some(name.clone()), min_replicas: fewest, ..Wishes::default() };
        let file = Wishes { name: Some(other), timeout: Some(1), ..Wishes::default() };
        let both = flags.clone().over(file);
        prop_assert_eq!(both.name.as_deref(), Some(name.as_str()));
        prop_assert_eq!(both.timeout, Some(1));
        prop_assert_eq!(flags.clone().over(Wishes::default()), flags);
    }
}
