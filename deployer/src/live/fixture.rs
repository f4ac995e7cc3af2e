//! Services for tests.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::Deployed;

/// The service `fraud` of `team-a`, with these members.
pub(crate) fn deployed(object: Value) -> Deployed {
    let mut whole = json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
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
