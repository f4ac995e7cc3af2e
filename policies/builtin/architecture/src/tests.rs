use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_policy::{
    Entry, Request,
    runtimes::Release,
    testing::{self, World, create, runtime, update},
};

use super::*;
use crate::headers::heads;

const URI: &str = "s3://mlflow/1/model";
const SELECTOR: &str = "/spec/predictor/nodeSelector/kubernetes.io~1arch";
const AMD64: u16 = 62;
const ARM64: u16 = 183;

fn release(world: World, repository: &str, tag: &str, architectures: &[&str]) -> World {
    world.release_as(
        repository,
        Release {
            tag: tag.to_owned(),
            python: String::new(),
            packages: Vec::new(),
            architectures: architectures.iter().map(|name| (*name).to_owned()).collect(),
        },
    )
}

/// Two runtimes: sklearnserver for both machines from v0.16 on, lgbserver for amd64 alone; nodes of these machines, Standard mode.
fn world(nodes: &[&str]) -> World {
    let sklearn = "docker.io/kserve/sklearnserver";
    let world = World::new()
        .serve("s3://mlflow/", "minio")
        .kserve_config("deploy", &json!({"defaultDeploymentMode": "RawDeployment"}))
        .runtime(
            "sklearn",
            None,
            runtime("kserve-sklearnserver", sklearn, "v0.20.0", &["v1", "v2"]),
        )
        .runtime(
            "lightgbm",
            None,
            runtime(
                "kserve-lgbserver",
                "docker.io/kserve/lgbserver",
                "v0.20.0",
                &["v1", "v2"],
            ),
        );
    let world = release(world, sklearn, "v0.15.2", &["amd64"]);
    let world = release(world, sklearn, "v0.20.0", &["amd64", "arm64"]);
    let world = release(world, "docker.io/kserve/lgbserver", "v0.20.0", &["amd64"]);
    nodes.iter().fold(world, |world, node| world.node_architecture(node))
}

fn service(format: &str, model: &Value) -> Value {
    let mut all = json!({"modelFormat": {"name": format}, "storageUri": URI});
    all.as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
    json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"model": all}}})
}

fn placed(format: &str, predictor: &Value) -> Value {
    let mut service = service(format, &json!({}));
    let predictor = predictor.as_object().unwrap().clone();
    service["spec"]["predictor"].as_object_mut().unwrap().extend(predictor);
    service
}

fn review(world: &World, object: &Value) -> Verdict {
    world.review::<Architecture>(&create(object))
}

fn denied(verdict: &Verdict) -> &str {
    &verdict
        .denial
        .as_ref()
        .unwrap_or_else(|| panic!("it is admitted: {verdict:?}"))
        .message
}

fn library(world: World, machine: u16) -> World {
    world.object(&format!("{URI}/code/libscore.so"), heads::elf(machine))
}

#[test]
fn an_image_for_one_machine_is_sent_to_it_where_the_cluster_has_both() {
    let both = world(&["amd64", "arm64"]);
    let verdict = review(&both, &service("lightgbm", &json!({})));
    assert_eq!(
        verdict,
        Verdict::admit().fill(SELECTOR, "amd64", "its image is built for no other")
    );
    assert_eq!(
        testing::line(&verdict.fills[0]),
        "tidewaiter: spec.predictor.nodeSelector.kubernetes.io/arch = \"amd64\": its image is built for no other"
    );
    assert_eq!(review(&both, &service("sklearn", &json!({}))), Verdict::admit());
    assert_eq!(
        review(&world(&["amd64"]), &service("lightgbm", &json!({}))),
        Verdict::admit()
    );
    let pinned = review(
        &both,
        &service(
            "sklearn",
            &json!({"runtime": "kserve-sklearnserver", "runtimeVersion": "v0.15.2"}),
        ),
    );
    assert_eq!(pinned.fills.len(), 1);
}

#[test]
fn an_image_that_runs_on_no_node_is_refused() {
    let arm64 = world(&["arm64"]);
    assert_eq!(
        denied(&review(&arm64, &service("lightgbm", &json!({})))),
        "/spec/predictor/model: image docker.io/kserve/lgbserver:v0.20.0 is built for amd64, and this cluster's nodes are arm64: its Pods would end with \"exec \
         format error\" or \"no match for platform in manifest\". Use a runtime or an image that is built for arm64; if such nodes are still to come, set \
         nodeSelector kubernetes.io/arch: amd64"
    );
    let old = service("sklearn", &json!({"runtimeVersion": "v0.15.2"}));
    assert!(
        denied(&review(&arm64, &old)).contains("runtimeVersion v0.20.0 is built for it"),
        "{:?}",
        review(&arm64, &old)
    );
    let warn: Settings = serde_json::from_value(json!({"images": "warn"})).unwrap();
    let warned = arm64.review_with::<Architecture>(&create(&service("lightgbm", &json!({}))), &warn);
    assert_eq!(
        (warned.denial, warned.warnings),
        (
            None,
            vec!["image docker.io/kserve/lgbserver:v0.20.0 is built for amd64; the nodes are arm64".to_owned()]
        )
    );
}

#[test]
fn the_users_word_on_nodes_counts() {
    let both = world(&["amd64", "arm64"]);
    let to = |machine: &str| json!({"nodeSelector": {ARCH: machine}});
    assert_eq!(review(&both, &placed("lightgbm", &to("amd64"))), Verdict::admit());
    let forbidden = review(&both, &placed("lightgbm", &to("arm64")));
    assert!(
        denied(&forbidden).contains("nodeSelector or affinity lets it run on none of these"),
        "{forbidden:?}"
    );
    // Nodes that are still to come are waited for.
    assert_eq!(
        review(&world(&["arm64"]), &placed("lightgbm", &to("amd64"))).warnings,
        ["waits for a node of amd64: this cluster's are arm64"]
    );
    let affinity = |values: &[&str]| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": ARCH, "operator": "In", "values": values}]},
        ]}}}})
    };
    assert_eq!(
        review(&both, &placed("lightgbm", &affinity(&["amd64"]))),
        Verdict::admit()
    );
    assert_eq!(
        review(&both, &placed("lightgbm", &affinity(&["amd64", "arm64"])))
            .fills
            .len(),
        1
    );
    // A toleration lets a Pod go somewhere, and sends it nowhere.
    let tolerates =
        json!({"tolerations": [{"key": ARCH, "operator": "Equal", "value": "arm64", "effect": "NoSchedule"}]});
    assert_eq!(review(&both, &placed("lightgbm", &tolerates)).fills.len(), 1);
    assert_eq!(
        review(&both, &placed("lightgbm", &json!({"nodeName": "a"}))),
        Verdict::admit()
    );
}

#[test]
fn what_a_runtime_says_of_nodes_counts_where_the_user_says_nothing() {
    let both = world(&["amd64", "arm64"]).runtime_spec("kserve-lgbserver", &json!({"nodeSelector": {ARCH: "amd64"}}));
    assert_eq!(review(&both, &service("lightgbm", &json!({}))), Verdict::admit());
}

#[test]
fn a_library_in_the_model_decides_where_the_image_does_not() {
    let both = library(world(&["amd64", "arm64"]), ARM64);
    assert_eq!(
        review(&both, &service("sklearn", &json!({}))),
        Verdict::admit().fill(SELECTOR, "arm64", "for libscore.so in the model")
    );
    let one = library(world(&["amd64"]), ARM64);
    let verdict = review(&one, &service("sklearn", &json!({})));
    assert_eq!(
        (verdict.denial, verdict.warnings),
        (
            None,
            vec!["code/libscore.so in the model is built for arm64; the nodes are amd64".to_owned()]
        )
    );
    let deny: Settings = serde_json::from_value(json!({"libraries": "deny"})).unwrap();
    let verdict = one.review_with::<Architecture>(&create(&service("sklearn", &json!({}))), &deny);
    assert_eq!(
        denied(&verdict),
        "/spec/predictor/model: code/libscore.so in the model is built for arm64, and this cluster's nodes are amd64: its server would end where it loads that. Save \
         the model with a library for amd64; if such nodes are still to come, set nodeSelector kubernetes.io/arch: arm64"
    );
    let blind: Settings = serde_json::from_value(json!({"files": 0})).unwrap();
    assert_eq!(
        one.review_with::<Architecture>(&create(&service("sklearn", &json!({}))), &blind),
        Verdict::admit()
    );
}

#[test]
fn a_library_that_the_image_cannot_load_is_told() {
    let both = library(world(&["amd64", "arm64"]), ARM64);
    let verdict = review(&both, &service("lightgbm", &json!({})));
    assert_eq!(verdict.fills.len(), 1);
    assert_eq!(verdict.fills[0].value, "\"amd64\"");
    assert_eq!(
        verdict.warnings,
        ["code/libscore.so in the model is built for arm64, and image docker.io/kserve/lgbserver:v0.20.0 for amd64"]
    );
}

#[test]
fn a_library_of_another_system_is_told() {
    let world = world(&["amd64"]).object(&format!("{URI}/score.pyd"), heads::pe(0x8664));
    assert_eq!(
        review(&world, &service("sklearn", &json!({}))).warnings,
        ["score.pyd in the model is built for Windows; no container here loads it"]
    );
}

#[test]
fn where_nothing_can_be_filled_in_it_is_said() {
    let both = world(&["amd64", "arm64"]);
    let line =
        "set nodeSelector kubernetes.io/arch: amd64: image docker.io/kserve/lgbserver:v0.20.0 is built for amd64";
    let knative = both
        .clone()
        .kserve_config("deploy", &json!({"defaultDeploymentMode": "Knative"}));
    assert_eq!(
        review(&knative, &service("lightgbm", &json!({}))),
        Verdict::admit().warn(line)
    );
    let taken_out = Request {
        withheld: vec![SELECTOR.to_owned()],
        ..create(&service("lightgbm", &json!({})))
    };
    assert_eq!(both.review::<Architecture>(&taken_out), Verdict::admit().warn(line));
    let canary = json!({"spec": {
        "predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI}},
        "canary": [{"predictor": {"model": {"modelFormat": {"name": "lightgbm"}, "storageUri": URI}}}],
    }});
    assert_eq!(review(&both, &canary), Verdict::admit().warn(line));
}

#[test]
fn what_was_filled_in_stays_while_its_reasons_stay() {
    let mut old = service("lightgbm", &json!({}));
    old["spec"]["predictor"]["nodeSelector"] = json!({ARCH: "amd64"});
    let request = |new: &Value| Request {
        filled: vec![Entry {
            path: SELECTOR.to_owned(),
            value: "\"amd64\"".to_owned(),
        }],
        ..update(new, &old)
    };
    let kept = Verdict::admit().fill(SELECTOR, "amd64", "kept from an earlier admission");
    // The nodes of arm64 are gone, and no model is moved for it.
    let world = world(&["amd64"]);
    assert_eq!(
        world.review::<Architecture>(&request(&placed("lightgbm", &json!({"minReplicas": 2})))),
        kept
    );
    assert_eq!(world.calls().to_stores(), 0);
    // Another model is another question.
    let other = service("lightgbm", &json!({"storageUri": "s3://mlflow/2/model"}));
    assert_eq!(world.review::<Architecture>(&request(&other)), Verdict::admit());
}

#[test]
fn a_custom_container_is_judged_by_its_image() {
    let custom = |image: &str| json!({"spec": {"predictor": {"containers": [{"name": "x", "image": image}]}}});
    let both = world(&["amd64", "arm64"]);
    assert_eq!(review(&both, &custom("kserve/lgbserver:v0.20.0")).fills.len(), 1);
    assert_eq!(review(&both, &custom("mine/server:1")), Verdict::admit());

    // With another image what was filled in for the one before is none of its business.
    let mut old = custom("kserve/lgbserver:v0.20.0");
    old["spec"]["predictor"]["nodeSelector"] = json!({ARCH: "amd64"});
    let request = Request {
        filled: vec![Entry {
            path: SELECTOR.to_owned(),
            value: "\"amd64\"".to_owned(),
        }],
        ..update(&custom("mine/server:1"), &old)
    };
    assert_eq!(both.review::<Architecture>(&request), Verdict::admit());
}

#[test]
fn settings_that_are_no_settings_are_refused() {
    let checked = |text: &str| {
        tidewaiter_policy::settings::<Architecture>(text).and_then(|settings| Architecture::check(&settings))
    };
    assert_eq!(
        checked(r#"{"files": 64, "images": "warn", "libraries": "deny"}"#),
        Ok(())
    );
    assert_eq!(
        checked(r#"{"files": 65}"#).unwrap_err(),
        "settings of architecture: files is 65, and may be 0 to 64"
    );
    assert!(
        checked(r#"{"images": "refuse"}"#)
            .unwrap_err()
            .contains("unknown variant `refuse`")
    );
    serde_json::from_str::<Value>(Architecture::settings_schema().unwrap()).unwrap();
}

fn machines() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(vec!["amd64", "arm64", "riscv64"], 0..=3)
}

proptest! {
    /// Law: what it can't see is no reason.
    #[test]
    fn nothing_is_said_of_what_cannot_be_seen(nodes in machines(), known in any::<bool>(), format in "(lightgbm|sklearn|onnx)") {
        // Nodes without a catalogue, or a catalogue without nodes.
        let world = if known { world(&[]) } else { nodes.iter().fold(World::new(), |world, node| world.node_architecture(node)) };
        prop_assert_eq!(review(&world, &service(&format, &json!({}))), Verdict::admit());
    }

    /// Law: the user's selector is never filled over, a fill is one of the nodes and one of the image's, and each line fits.
    #[test]
    fn a_fill_is_a_node_that_fits(nodes in machines(), built in machines(), library in proptest::option::of(prop_oneof![Just(AMD64), Just(ARM64)]), own in proptest::option::of("(amd64|arm64)")) {
        let mut world = nodes.iter().fold(world(&[]), |world, node| world.node_architecture(node));
        world = release(world, "docker.io/mine/server", "1", &built);
        if let Some(machine) = library {
            world = self::library(world, machine);
        }
        let mut object = json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"containers": [
            {"name": "x", "image": "mine/server:1", "env": [{"name": "STORAGE_URI", "value": URI}]},
        ]}}});
        if let Some(own) = &own {
            object["spec"]["predictor"]["nodeSelector"] = json!({ARCH: own});
        }
        let verdict = review(&world, &object);
        prop_assert_eq!(&review(&world, &object), &verdict);
        prop_assert!(verdict.fills.is_empty() || own.is_none());
        for fill in &verdict.fills {
            let value: String = serde_json::from_str(&fill.value).unwrap();
            prop_assert!(nodes.contains(&value.as_str()));
            prop_assert!(built.is_empty() || built.contains(&value.as_str()));
            let line = testing::line(fill);
            prop_assert!(line.chars().count() <= 120 && !line.ends_with('…'), "{}", line);
        }
        for line in &verdict.warnings {
            prop_assert!(line.chars().count() <= 120, "{}", line);
        }
        prop_assert!(verdict.denial.is_none() || !built.is_empty());
    }
}

#[test]
fn a_pool_of_nodes_that_is_still_to_come_is_waited_for() {
    let arm64 = world(&["arm64"]);
    assert!(denied(&review(&arm64, &service("lightgbm", &json!({})))).contains("this cluster's nodes are arm64"));
    let pool = json!({"key": "karpenter.sh/nodepool", "operator": "In", "values": ["gpu"]});
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [pool]}]});
    for selector in [
        json!({"nodeSelector": {"pool": "gpu-amd64"}}),
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}),
        // It is the GPU that brings the node.
        json!({"containers": [{"name": "kserve-container", "resources": {"limits": {"nvidia.com/gpu": 1}}}]}),
    ] {
        let verdict = review(&arm64, &placed("lightgbm", &selector));
        assert_eq!((verdict.denial, verdict.fills.len()), (None, 0), "{selector}");
        assert_eq!(
            verdict.warnings,
            ["waits for a node of amd64: this cluster's are arm64"],
            "{selector}"
        );
    }
}

#[test]
fn a_runtime_by_digest_is_judged_where_the_catalogue_has_the_digest() {
    let mut pinned = runtime("pinned", "docker.io/kserve/lgbserver", "", &["v1", "v2"]);
    pinned.digest = "sha256:ab".to_owned();
    let unknown = world(&["arm64"]).runtime("pmml", None, pinned);
    assert_eq!(review(&unknown, &service("pmml", &json!({}))), Verdict::admit());
    let known = release(unknown, "docker.io/kserve/lgbserver", "sha256:ab", &["amd64"]);
    let verdict = review(&known, &service("pmml", &json!({})));
    assert!(denied(&verdict).contains("lgbserver@sha256:ab"), "{verdict:?}");
}

#[test]
fn what_is_off_is_not_said_and_pods_are_placed_all_the_same() {
    let off = Settings {
        images: Mode::Off,
        ..Settings::default()
    };
    let by = |world: &World| world.review_with::<Architecture>(&create(&service("lightgbm", &json!({}))), &off);
    assert_eq!(by(&world(&["arm64"])), Verdict::admit());
    assert_eq!(by(&world(&["amd64", "arm64"])).fills.len(), 1);
}
