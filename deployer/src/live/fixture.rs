//! Services for tests.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::Deployed;

/// The service `fraud` of `team-a`, with these members.
pub(crate) fn deployed(object: Value) -> Deployed {
    of("v1beta1", "InferenceService", object)
}

/// The graph of that name.
pub(crate) fn graph(object: Value) -> Deployed {
    of("v1alpha1", "InferenceGraph", object)
}

/// The model of that name on the server `many`.
pub(crate) fn trained(object: Value) -> Deployed {
    let model = json!({"storageUri": "s3://m/fraud", "framework": "sklearn", "memory": "1Gi"});
    let mut whole = json!({"spec": {"inferenceService": "many", "model": model}});
    merge(&mut whole, object);
    of("v1alpha1", "TrainedModel", whole)
}

fn of(version: &str, kind: &str, object: Value) -> Deployed {
    let mut whole = json!({
        "apiVersion": format!("serving.kserve.io/{version}"), "kind": kind,
        "metadata": {"name": "fraud", "namespace": "team-a"},
    });
    merge(&mut whole, object);
    Deployed::from(serde_json::from_value::<DynamicObject>(whole).unwrap())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
