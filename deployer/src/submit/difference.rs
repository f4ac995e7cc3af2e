//! What of an object is somebody's wish, and whether two are the same.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// It would show the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Name, labels, annotations and all that isn't status: what a person, or KServe, sees a difference in.
pub fn content(object: &DynamicObject) -> Value {
    let mut annotations = object.annotations().clone();
    annotations.remove(LAST_APPLIED);
    let mut metadata = json!({"name": object.name_any()});
    if let Some(namespace) = object.namespace() {
        metadata["namespace"] = json!(namespace);
    }
    if !object.labels().is_empty() {
        metadata["labels"] = json!(object.labels());
    }
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    let mut content = json!({});
    if let Some(types) = &object.types {
        content["apiVersion"] = json!(types.api_version);
        content["kind"] = json!(types.kind);
    }
    content["metadata"] = metadata;
    if let Value::Object(data) = &object.data {
        for (key, value) in data.iter().filter(|(key, _)| *key != "status") {
            content[key] = value.clone();
        }
    }
    content
}

/// Whether nothing that anybody wished for differs.
pub fn is_same(one: &DynamicObject, other: &DynamicObject) -> bool {
    content(one) == content(other)
}

/// Whether two services differ in what KServe makes Pods from: all but how many there are, and which share of the requests they get.
pub(super) fn restarts(before: &DynamicObject, after: &DynamicObject) -> bool {
    const NO_POD: [&str; 6] = [
        "minReplicas",
        "maxReplicas",
        "scaleTarget",
        "scaleMetric",
        "canaryTrafficPercent",
        "timeout",
    ];
    let pods = |object: &DynamicObject| {
        let mut content = content(object);
        for component in ["predictor", "transformer", "explainer"] {
            if let Some(component) = content["spec"][component].as_object_mut() {
                component.retain(|field, _| !NO_POD.contains(&field.as_str()));
            }
        }
        content
    };
    pods(before) != pods(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_the_api_server_keeps_for_itself_makes_no_difference() {
        let one = json!({"apiVersion": "a/v1", "kind": "B", "metadata": {"name": "n", "namespace": "s", "resourceVersion": "1", "generation": 1,
            "annotations": {LAST_APPLIED: "{}"}}, "spec": {"x": 1}, "status": {"y": 1}});
        let other = json!({"apiVersion": "a/v1", "kind": "B", "metadata": {"name": "n", "namespace": "s", "resourceVersion": "2"}, "spec": {"x": 1}});
        assert!(is_same(&object(one.clone()), &object(other.clone())));
        let mut changed = other.clone();
        changed["spec"]["x"] = json!(2);
        assert!(!is_same(&object(other), &object(changed)));
    }

    #[test]
    fn a_number_of_replicas_restarts_nothing() {
        let of = |fewest: u32, uri: &str| {
            object(
                json!({"metadata": {"name": "n"}, "spec": {"predictor": {"minReplicas": fewest, "model": {"storageUri": uri}}}}),
            )
        };
        assert!(!restarts(&of(1, "s3://a"), &of(2, "s3://a")));
        assert!(restarts(&of(1, "s3://a"), &of(1, "s3://b")));
    }
}
