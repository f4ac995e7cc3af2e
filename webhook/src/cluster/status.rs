//! What became of each `StorageBackend` and `WasmPolicy`, written where its author looks: into its status.

use std::sync::Arc;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidewaiter_world::Problem;
use tracing::debug;

use crate::namespaces::cluster::FIELD_MANAGER;

/// Writes conditions, where they aren't so already. An error is logged and no more: the next change of the configuration tries again.
pub(super) async fn report(client: &Client, resources: &[Arc<DynamicObject>], problems: &[Problem]) {
    for resource in resources {
        let Some(types) = &resource.types else { continue };
        let name = resource.name_any();
        let said: Vec<&str> = problems
            .iter()
            .filter(|problem| {
                problem
                    .object
                    .as_ref()
                    .is_some_and(|object| object.kind == types.kind && object.name == name)
            })
            .map(|problem| problem.message.as_str())
            .collect();
        let Some(status) = status(resource, &types.kind, &said) else {
            continue;
        };
        let api_resource = ApiResource::from_gvk(&GroupVersionKind::gvk("tidewaiter.dev", "v1alpha1", &types.kind));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &api_resource);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        if let Err(error) = api
            .patch_status(&name, &params, &Patch::Merge(json!({ "status": status })))
            .await
        {
            debug!(kind = types.kind, name, %error, "can't write the status");
        }
    }
}

/// The status to write; none where the object has it.
fn status(resource: &DynamicObject, kind: &str, problems: &[&str]) -> Option<Value> {
    let (type_, good) = if kind == "WasmPolicy" {
        ("Loaded", "Compiled")
    } else {
        ("Accepted", "InUse")
    };
    let (status, reason) = if problems.is_empty() {
        ("True", good)
    } else {
        ("False", "Invalid")
    };
    let message = problems.join("; ");
    let generation = resource.metadata.generation;
    let before = resource.data["status"]["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|condition| condition["type"] == type_));
    let same = |field: &str, value: &Value| before.is_some_and(|before| before[field] == *value);
    if same("status", &status.into())
        && same("reason", &reason.into())
        && same("message", &message.clone().into())
        && same("observedGeneration", &generation.into())
    {
        return None;
    }
    let since = before
        .filter(|before| before["status"] == status)
        .and_then(|before| before["lastTransitionTime"].as_str());
    let since = since.map_or_else(now, str::to_owned);
    Some(json!({
        "observedGeneration": generation,
        "conditions": [{
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since, "observedGeneration": generation,
        }],
    }))
}

fn now() -> String {
    k8s_openapi::jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "tidewaiter.dev/v1alpha1", "kind": "StorageBackend",
            "metadata": {"name": "minio", "generation": 2}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_status_is_written_once() {
        let first = status(&backend(&Value::Null), "StorageBackend", &[]).unwrap();
        assert_eq!(first["conditions"][0]["type"], "Accepted");
        assert_eq!(first["conditions"][0]["status"], "True");
        assert_eq!(status(&backend(&first), "StorageBackend", &[]), None);
    }

    #[test]
    fn the_time_is_that_of_the_last_change_of_status() {
        let since = "2026-01-01T00:00:00Z";
        let before = json!({"conditions": [{
            "type": "Accepted", "status": "False", "reason": "Invalid", "message": "spec.serves: is empty",
            "observedGeneration": 1, "lastTransitionTime": since,
        }]});
        let still = status(&backend(&before), "StorageBackend", &["Secret minio/root isn't there"]).unwrap();
        assert_eq!(still["conditions"][0]["lastTransitionTime"], since);
        let mended = status(&backend(&before), "StorageBackend", &[]).unwrap();
        assert_ne!(mended["conditions"][0]["lastTransitionTime"], since);
    }
}
