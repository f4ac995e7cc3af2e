//! Objects that were written for a newer Tidewaiter, as after a rollback, whose definitions stay as they are: what this one doesn't know is left out of account, as
//! the API server does with its own definition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::Value;

/// Takes out of the object's spec and status what this version's definition doesn't have. Where that was, in the spec.
pub(super) fn drop_unknown<K: CustomResourceExt>(object: &mut Value) -> Vec<String> {
    let definition = K::crd();
    let schema = definition
        .spec
        .versions
        .into_iter()
        .find_map(|version| version.schema?.open_api_v3_schema);
    let (mut dropped, mut unheard) = (Vec::new(), Vec::new());
    if let Some(mut parts) = schema.and_then(|schema| schema.properties) {
        for (part, dropped) in [("spec", &mut dropped), ("status", &mut unheard)] {
            if let (Some(value), Some(schema)) = (object.get_mut(part), parts.remove(part)) {
                drop_below(value, &schema, part, dropped);
            }
        }
    }
    dropped
}

fn drop_below(value: &mut Value, schema: &JSONSchemaProps, at: &str, dropped: &mut Vec<String>) {
    match value {
        Value::Object(members) if schema.x_kubernetes_preserve_unknown_fields != Some(true) => {
            members.retain(|name, value| {
                let at = format!("{at}.{name}");
                let known = schema.properties.as_ref().and_then(|known| known.get(name));
                match (known, &schema.additional_properties) {
                    (Some(schema), _) => drop_below(value, schema, &at, dropped),
                    (None, Some(JSONSchemaPropsOrBool::Schema(schema))) => drop_below(value, schema, &at, dropped),
                    (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                    (None, _) => {
                        dropped.push(at);
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (index, item) in items.iter_mut().enumerate() {
                    drop_below(item, schema, &format!("{at}[{index}]"), dropped);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewaiter_core::backend::StorageBackend;
    use tidewaiter_core::policy_resource::WasmPolicy;

    use super::*;

    #[test]
    fn what_a_newer_version_added_is_dropped_wherever_it_stands() {
        let backend = json!({
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "StorageBackend",
            "metadata": {"name": "minio", "labels": {"team": "ml"}},
            "spec": {
                "type": "s3",
                "serves": ["s3://mlflow/"],
                "s3": {"endpoint": "http://minio:9000"},
                "credentials": {"secretRef": {"namespace": "minio", "name": "root"}},
                "grants": [{"namespaces": ["a"], "namespaceSelector": {"matchLabels": {"tidewaiter.dev/x": "y"}}}],
            },
        });
        let mut newer = backend.clone();
        newer["spec"]["quota"] = json!({"reads": 5});
        newer["spec"]["s3"]["dualStack"] = json!(true);
        newer["spec"]["grants"][0]["until"] = json!("2030-01-01");
        newer["status"] = json!({"mood": "fine"});
        assert!(serde_json::from_value::<StorageBackend>(newer.clone()).is_err());
        let dropped = drop_unknown::<StorageBackend>(&mut newer);
        assert_eq!(dropped, ["spec.grants[0].until", "spec.quota", "spec.s3.dualStack"]);
        newer.as_object_mut().unwrap().remove("status");
        assert_eq!(newer, backend);
        serde_json::from_value::<StorageBackend>(newer).unwrap();
    }

    #[test]
    fn settings_are_the_policys_own() {
        let policy = json!({
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": "house"},
            "spec": {"module": {"builtin": "resources"}, "settings": {"memory": "deny", "deep": {"er": [1]}}},
        });
        let mut same = policy.clone();
        assert_eq!(drop_unknown::<WasmPolicy>(&mut same), [""; 0]);
        assert_eq!(same, policy);
    }
}
