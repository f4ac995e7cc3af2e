use serde_json::{Value, json};

use super::check;
use crate::document::{Document, Path};

fn checked(kind: &str, pointer: &str, value: &Value) -> Result<(), String> {
    let object = json!({"spec": {"predictor": {"sklearn": {"args": "no list"}, "containers": [{"name": "x"}]}, "canary": [{}],
        "template": {"containers": [{"name": "main"}]}}});
    let object = Document::new(&object.to_string()).unwrap();
    check(kind, &Path::parse(pointer).unwrap(), value, &object)
}

#[test]
fn what_kserve_takes_passes() {
    for (pointer, value) in [
        ("/spec/predictor/minReplicas", json!(1)),
        ("/spec/predictor/minReplicas", json!(1.0)),
        ("/spec/predictor/labels/team", json!("a")),
        (
            "/spec/predictor/annotations",
            json!({"Example.com/a": "two words", "gone": null}),
        ),
        ("/spec/predictor/nodeSelector/kubernetes.io~1arch", json!("amd64")),
        (
            "/spec/predictor/tolerations",
            json!([{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}]),
        ),
        ("/spec/predictor/overhead", json!({"cpu": 1, "memory": "1Gi"})),
        (
            "/spec/predictor/volumes",
            json!([{"name": "tmp", "emptyDir": {"sizeLimit": 5}}]),
        ),
        (
            "/spec/predictor/deploymentStrategy",
            json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}),
        ),
        (
            "/spec/predictor/sklearn/resources/limits",
            json!({"cpu": 1, "memory": "2Gi", "nvidia.com/gpu": 1.0}),
        ),
        ("/spec/predictor/sklearn/storage/parameters", json!({})),
        (
            "/spec/predictor/sklearn/ports",
            json!([{"containerPort": 9000, "name": "h2c", "protocol": "TCP"}]),
        ),
        ("/spec/predictor/sklearn/readinessProbe/httpGet/port", json!("http")),
        ("/spec/predictor/containers/0/resources/requests/cpu", json!("500m")),
        (
            "/spec/predictor/workerSpec",
            json!({"tensorParallelSize": 2, "containers": []}),
        ),
        (
            "/spec/canary/0/predictor/model",
            json!({"modelFormat": {"name": "sklearn"}}),
        ),
        ("/spec/explainer/art/config", json!({"nb_classes": "10"})),
        // Whoever knows more of KServe than we do may fill it in.
        ("/spec/predictor/ofTomorrow", json!([{"a": 1}])),
        ("/spec/ofTomorrow/0", json!(true)),
    ] {
        assert_eq!(
            checked("InferenceService", pointer, &value),
            Ok(()),
            "{pointer} {value}"
        );
    }
    for (pointer, value) in [
        ("/spec/replicas", json!(2)),
        ("/spec/template/serviceAccountName", json!("sa")),
        ("/spec/template/containers/0/resources/limits/cpu", json!(2)),
        (
            "/spec/prefill/parallelism",
            json!({"expert": true, "dataRPCPort": 5555}),
        ),
        ("/spec/baseRefs", json!([{"name": "base"}])),
    ] {
        assert_eq!(
            checked("LLMInferenceService", pointer, &value),
            Ok(()),
            "{pointer} {value}"
        );
    }
    // Of other kinds nothing is known.
    assert_eq!(
        checked("InferenceGraph", "/spec/predictor/minReplicas", &json!("x")),
        Ok(())
    );
    assert_eq!(
        checked("InferenceService", "/metadata/labels/minReplicas", &json!("x")),
        Ok(())
    );
}

fn refused(kind: &str, cases: &[(&str, Value, &str)]) {
    for (pointer, value, says) in cases {
        let Err(reason) = checked(kind, pointer, value) else {
            panic!("{pointer} {value}");
        };
        assert!(reason.contains(says), "{pointer} {value}: {reason}");
    }
}

#[test]
fn what_is_of_another_type_than_kubernetes_has_is_refused() {
    refused(
        "InferenceService",
        &[
            ("/spec/predictor", json!("x"), "invalid type: string \"x\""),
            (
                "/spec/predictor/serviceAccountName/x",
                json!("sa"),
                "invalid type: map, expected a string",
            ),
            ("/spec/predictor/hostNetwork", json!("true"), "expected a boolean"),
            ("/spec/predictor/nodeSelector", json!({"zone": 1}), "expected a string"),
            (
                "/spec/predictor/tolerations",
                json!({"key": "gpu"}),
                "invalid type: map",
            ),
            ("/spec/predictor/overhead/cpu", json!("much"), "\"much\" is no amount"),
            (
                "/spec/predictor/volumes",
                json!([{"emptyDir": {"sizeLimit": "x"}}]),
                "is no amount",
            ),
            (
                "/spec/predictor/sklearn/resources/limits/cpu",
                json!("much"),
                "\"much\" is no amount",
            ),
            (
                "/spec/predictor/sklearn/resources/limits/cpu",
                json!(0.5),
                "0.5 is no amount",
            ),
            ("/spec/predictor/sklearn/args", json!([1]), "expected a string"),
            ("/spec/predictor/containers/0/image", json!(5), "expected a string"),
            (
                "/spec/transformer/containers/0/image",
                json!("x"),
                "invalid type: map, expected a sequence",
            ),
        ],
    );
}

#[test]
fn what_is_of_another_type_than_kserve_has_is_refused() {
    refused(
        "InferenceService",
        &[
            (
                "/spec/predictor/minReplicas",
                json!("two"),
                "invalid type: string \"two\", expected i32",
            ),
            (
                "/spec/predictor/minReplicas",
                json!(1.5),
                "floating point `1.5`, expected i32",
            ),
            (
                "/spec/predictor/minReplicas/x",
                json!(1),
                "invalid type: map, expected i32",
            ),
            ("/spec/predictor/labels/team", json!(7), "expected a string"),
            (
                "/spec/predictor/labels/team",
                json!("two words"),
                "a label's value has at most 63",
            ),
            ("/spec/transformer/annotations/a b", json!("x"), "a key has at most 63"),
            (
                "/spec/predictor/sklearn/runtimeVersion",
                json!(1.7),
                "expected a string",
            ),
            (
                "/spec/predictor/sklearn/modelFormat/version",
                json!(1),
                "expected a string",
            ),
            (
                "/spec/predictor/sklearn/storage/parameters/type",
                json!(true),
                "expected a string",
            ),
            (
                "/spec/predictor/workerSpec/tensorParallelSize",
                json!("2"),
                "expected i64",
            ),
            ("/spec/canary/0/trafficPercent", json!("10"), "expected i32"),
            ("/spec/canary/0/predictor/timeout", json!("60s"), "expected i64"),
            ("/spec/explainer/art/config/nb_classes", json!(10), "expected a string"),
        ],
    );
    refused(
        "LLMInferenceService",
        &[
            ("/spec/replicas", json!("2"), "expected i32"),
            ("/spec/model/uri", json!(["hf://a/b"]), "expected a string"),
            ("/spec/worker/containers", json!({}), "expected a sequence"),
            ("/spec/prefill/template/priority", json!("high"), "expected i32"),
            ("/spec/prefill/labels/a b", json!("x"), "a key has at most 63"),
        ],
    );
}

/// A fill is judged by itself: what the user wrote beside it is between them and the API server.
#[test]
fn the_users_own_words_are_not_judged() {
    assert_eq!(
        checked("InferenceService", "/spec/predictor/sklearn/image", &json!("x")),
        Ok(())
    );
}
