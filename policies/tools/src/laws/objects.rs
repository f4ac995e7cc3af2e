//! Objects to check laws with: services as people write them, and those of the cases, with parts added, changed and taken out.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Parts that are changed at most.
const EDITS: usize = 6;

/// What is done to a service.
#[derive(Clone, Debug)]
enum Edit {
    /// One of the known parts gets one of its values.
    Set(Index, Index),
    /// Whatever stands at some place is taken out.
    Remove(Index),
}

/// Services made of the given objects and of usual ones. Simpler ones come from fewer changes to an earlier base.
pub(super) fn services(bases: &[Value]) -> impl Strategy<Value = Value> + use<> {
    let mut bases = bases.to_vec();
    bases.extend(usual());
    let uris: Vec<Value> = uris(&bases);
    let edit = prop_oneof![
        4 => (any::<Index>(), any::<Index>()).prop_map(|(part, value)| Edit::Set(part, value)),
        1 => any::<Index>().prop_map(Edit::Remove),
    ];
    (select(bases), prop::collection::vec(edit, 0..=EDITS)).prop_map(move |(mut object, edits)| {
        for edit in edits {
            match edit {
                Edit::Set(part, value) => {
                    let parts = parts(&uris);
                    let (path, values) = part.get(&parts);
                    set(&mut object, path, value.get(values).clone());
                }
                Edit::Remove(place) => {
                    let mut places = Vec::new();
                    removable(&object, "", &mut places);
                    if !places.is_empty() {
                        remove(&mut object, place.get::<String>(&places));
                    }
                }
            }
        }
        object
    })
}

/// What a large object is padded by: so many annotations of a kibibyte each. etcd takes 1.5 MiB by default, and the object before an update is as large.
pub(super) const PADDING_KIB: usize = 1024;

/// An object, and the same with [`PADDING_KIB`] of annotations.
pub(super) fn large(bases: &[Value]) -> Option<(Value, Value)> {
    let object = bases.iter().cloned().chain(usual()).next()?;
    let mut padded = object.clone();
    for number in 0..PADDING_KIB {
        let path = format!("/metadata/annotations/padding-{number}");
        set(&mut padded, &path, json!("x".repeat(1 << 10)));
    }
    Some((object, padded))
}

fn usual() -> Vec<Value> {
    let service = |spec: Value| {
        json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": "fraud", "namespace": "team-a"}, "spec": spec})
    };
    let model = json!({"modelFormat": {"name": "sklearn"}, "storageUri": "s3://mlflow/1/model"});
    vec![
        service(json!({"predictor": {"model": model}})),
        service(json!({"predictor": {"sklearn": {"storageUri": "s3://mlflow/1/model"}}})),
        service(
            json!({"predictor": {"model": model}, "transformer": {"containers": [{"name": "kserve-container", "image": "example/transformer:1"}]}}),
        ),
        service(json!({"predictor": {"containers": [{"name": "kserve-container", "image": "example/server:1"}]}})),
        json!({"apiVersion": "serving.kserve.io/v1alpha1", "kind": "LLMInferenceService",
            "metadata": {"name": "chat", "namespace": "team-a"}, "spec": {"model": {"uri": "hf://org/model", "name": "model"}}}),
    ]
}

/// Where models are, as the bases have it, and where they aren't.
fn uris(bases: &[Value]) -> Vec<Value> {
    fn find(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if name == "storageUri" && !found.contains(value) {
                        found.push(value.clone());
                    }
                    find(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| find(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for base in bases {
        find(base, &mut found);
    }
    found.extend(["s3://elsewhere/model/", "pvc://claim/model", "gs://bucket/model", ""].map(Value::from));
    found
}

/// Parts of a service, with values that people give them.
fn parts(uris: &[Value]) -> Vec<(&'static str, Vec<Value>)> {
    let texts = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let resources = json!({"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "100m"}});
    vec![
        ("/spec/predictor/model/storageUri", uris.to_vec()),
        (
            "/spec/predictor/model/modelFormat/name",
            texts(&["sklearn", "mlflow", "xgboost", "onnx", "huggingface", "nonsense"]),
        ),
        ("/spec/predictor/model/modelFormat/version", texts(&["1", "2"])),
        (
            "/spec/predictor/model/runtime",
            texts(&["kserve-mlserver", "my-runtime"]),
        ),
        ("/spec/predictor/model/runtimeVersion", texts(&["1.5.0", "latest"])),
        ("/spec/predictor/model/protocolVersion", texts(&["v1", "v2", "grpc-v2"])),
        (
            "/spec/predictor/model/resources",
            vec![resources, json!({"limits": {"nvidia.com/gpu": "1"}})],
        ),
        // Amounts alone have no single type in KServe's schema: a text or an integer. The API server refuses whatever else is of another type than that says.
        (
            "/spec/predictor/model/resources/limits/cpu",
            vec![json!(2), json!("500m")],
        ),
        (
            "/spec/predictor/model/resources/requests",
            vec![json!({"cpu": 1, "memory": 1_073_741_824})],
        ),
        (
            "/spec/predictor/model/ports",
            vec![
                json!([{"containerPort": 8080, "protocol": "TCP"}]),
                json!([{"name": "h2c", "containerPort": 9000}]),
            ],
        ),
        (
            "/spec/predictor/model/env",
            vec![json!([{"name": "A", "value": "b"}]), json!([])],
        ),
        ("/spec/predictor/minReplicas", vec![json!(0), json!(1), json!(3)]),
        ("/spec/predictor/maxReplicas", vec![json!(1), json!(5), json!(100)]),
        ("/spec/predictor/serviceAccountName", texts(&["sa-minio", "default"])),
        (
            "/spec/predictor/nodeSelector",
            vec![json!({"kubernetes.io/arch": "arm64"})],
        ),
        ("/spec/predictor/annotations", vec![json!({"own": "yes"})]),
        ("/metadata/labels/team", texts(&["fraud", "", "Ünïcode"])),
        ("/metadata/labels/app", texts(&["x"])),
        ("/metadata/annotations/owner", texts(&["alice@example.com"])),
        (
            "/metadata/annotations/serving.kserve.io~1deploymentMode",
            texts(&["Standard", "Knative"]),
        ),
        ("/metadata/namespace", texts(&["team-a", "team-b"])),
        (
            "/metadata/name",
            texts(&[
                "fraud",
                "a-name-that-is-as-long-as-a-name-of-a-service-may-be-in-kubernete",
            ]),
        ),
    ]
}

/// Below metadata's maps and the spec: what a user may leave out.
fn removable(value: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(members) = value else { return };
    for (name, value) in members {
        let place = tidewaiter_core::pointer::child(path, name);
        let kept = matches!(
            place.as_str(),
            "/apiVersion" | "/kind" | "/metadata" | "/metadata/name" | "/spec"
        );
        if !kept {
            found.push(place.clone());
        }
        removable(value, &place, found);
    }
}

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// Puts a value at a place, with objects on the way. Where something else is in the way nothing happens.
pub(super) fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for segment in pointer.split('/').skip(1) {
        let Value::Object(members) = place else { return };
        place = members.entry(unescape(segment)).or_insert_with(|| json!({}));
    }
    *place = value;
}

pub(super) fn remove(object: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return;
    };
    if let Some(Value::Object(members)) = object.pointer_mut(parent) {
        members.remove(&unescape(name));
    }
}

/// A place of the object, and the object as it may have been before an update that changed what stands there.
pub(super) fn before(object: &Value) -> (&'static str, Value) {
    // A place that a service has by itself: one that was made for it would hide what is missing in the object.
    let place = match &object["spec"]["predictor"] {
        Value::Object(_) => "/spec/predictor/minReplicas",
        _ => "/spec/replicas",
    };
    let mut old = object.clone();
    set(&mut old, place, object.pointer(place).map_or_else(|| json!(2), another));
    (place, old)
}

/// A value of the same kind that is another one, as a user might choose it.
pub(super) fn another(value: &Value) -> Value {
    match value {
        Value::Null => json!("own"),
        Value::Bool(value) => json!(!value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => json!(number.wrapping_add(1)),
            None => json!(1),
        },
        Value::String(text) => json!(format!("own-{}", text.len())),
        Value::Array(items) if items.is_empty() => json!(["own"]),
        Value::Array(_) => json!([]),
        Value::Object(members) => {
            let changed = members.iter().map(|(name, value)| (name.clone(), another(value)));
            let mut changed: serde_json::Map<_, _> = changed.collect();
            if changed.is_empty() {
                changed.insert("own".to_owned(), json!("own"));
            }
            Value::Object(changed)
        }
    }
}

/// JSON text with the members of each object the other way round. To a Kubernetes API they are the same object.
pub(super) fn backwards(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .rev()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), backwards(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(backwards).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest! {
        #[test]
        fn what_is_generated_is_a_service(object in services(&[])) {
            prop_assert!(object["kind"].is_string() && object["metadata"]["name"].is_string(), "{object}");
        }

        #[test]
        fn backwards_is_the_same_object(object in services(&[])) {
            prop_assert_eq!(serde_json::from_str::<Value>(&backwards(&object)).unwrap(), object);
        }

        #[test]
        fn what_was_before_an_update_differs_in_one_place_and_lacks_what_the_object_lacks(object in services(&[])) {
            let (place, mut old) = before(&object);
            prop_assert_ne!(old.pointer(place), object.pointer(place));
            let mut same = object.clone();
            remove(&mut old, place);
            remove(&mut same, place);
            prop_assert_eq!(old, same);
        }

        #[test]
        fn another_value_is_another_one(object in services(&[])) {
            prop_assert_ne!(another(&object), object);
        }
    }

    #[test]
    fn values_are_put_where_a_pointer_says() {
        let mut object = json!({"a": 1});
        set(&mut object, "/b/c~1d", json!(2));
        set(&mut object, "/a/x", json!(3));
        assert_eq!(object, json!({"a": 1, "b": {"c/d": 2}}));
        remove(&mut object, "/b/c~1d");
        assert_eq!(object, json!({"a": 1, "b": {}}));
    }
}
