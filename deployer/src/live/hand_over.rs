//! What another command wrote of a model, handed over to the next deploy.
//!
//! An apply takes a field away that it no longer names, if the same manager *applied* it before; what that manager wrote by a patch stays for ever. A promoted
//! canary's `runtimeVersion` would so be the version of every model after it.
//!
//! Source: "Field management" of Kubernetes' documentation of server-side apply; the API server keeps the two as entries with an `operation` each, which may be
//! written like any other field.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::Deployed;
use super::change::TRIES;
use crate::cluster::{self, Cluster};
use crate::submit::FIELD_MANAGER;

/// Where a service says what its model is.
const MODEL: [&str; 3] = ["spec", "predictor", "model"];

/// Hands over what this patch wrote of the model. A service that no deploy applied, or that somebody deletes, stays as it is.
pub(super) async fn hand_over(
    cluster: &Cluster,
    service: &Deployed,
    object: &DynamicObject,
    patch: &Value,
) -> Result<(), cluster::Error> {
    let model = MODEL.iter().fold(patch, |part, step| &part[step]).as_object();
    let names: Vec<&str> = model.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let (namespace, name) = (service.namespace(), service.name());
    let mut object = object.clone();
    let mut tries = 1;
    while let Some(owners) = handed_over(object.managed_fields(), &names) {
        let change = json!({"metadata": {"resourceVersion": object.resource_version(), "managedFields": owners}});
        match cluster.merge(service.kind(), &namespace, &name, &change).await {
            // KServe writes the status of what was just changed.
            Err(cluster::Error::Changed { .. }) if tries < TRIES => tries += 1,
            written => return written.map(drop),
        }
        match cluster.get(service.kind(), Some(&namespace), &name).await? {
            Some(now) => object = now,
            None => break,
        }
    }
    Ok(())
}

/// None where nothing is left to hand over.
fn handed_over(owners: &[ManagedFieldsEntry], names: &[&str]) -> Option<Vec<ManagedFieldsEntry>> {
    let mut owners = owners.to_vec();
    let of = |owners: &[ManagedFieldsEntry], operation: &str| {
        owners.iter().position(|owner| {
            owner.manager.as_deref() == Some(FIELD_MANAGER)
                && owner.operation.as_deref() == Some(operation)
                && owner.subresource.as_deref().unwrap_or_default().is_empty()
        })
    };
    let (written, applied) = (of(&owners, "Update")?, of(&owners, "Apply")?);
    let fields = &mut owners[written].fields_v1.as_mut()?.0;
    let taken = take(fields, &MODEL, names);
    if taken.is_empty() {
        return None;
    }
    let is_done = fields.as_object().is_some_and(Map::is_empty);
    let mut under = &mut owners[applied].fields_v1.as_mut()?.0;
    for step in MODEL {
        under = &mut under[key(step)];
    }
    json_patch::merge(under, &Value::Object(taken));
    if is_done {
        owners.remove(written);
    }
    Some(owners)
}

/// Takes members out, and what has no member left: an empty one would stand for all that is below it.
fn take(fields: &mut Value, path: &[&str], names: &[&str]) -> Map<String, Value> {
    let Some(members) = fields.as_object_mut() else {
        return Map::new();
    };
    let Some((first, rest)) = path.split_first() else {
        return names
            .iter()
            .filter_map(|name| members.remove_entry(&key(name)))
            .collect();
    };
    let first = key(first);
    let Some(inner) = members.get_mut(&first) else {
        return Map::new();
    };
    let taken = take(inner, rest, names);
    if inner.as_object().is_some_and(Map::is_empty) && !taken.is_empty() {
        members.remove(&first);
    }
    taken
}

/// As `fieldsV1` calls a member.
fn key(name: &str) -> String {
    format!("f:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "serving.kserve.io/v1beta1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn after(owners: &Value, names: &[&str]) -> Option<Value> {
        let owners: Vec<ManagedFieldsEntry> = serde_json::from_value(owners.clone()).unwrap();
        handed_over(&owners, names).map(|owners| json!(owners))
    }

    fn model(members: Value) -> Value {
        json!({"f:spec": {"f:predictor": {"f:model": members}}})
    }

    #[test]
    fn what_a_promotion_wrote_of_the_model_is_the_deploys_own_and_nothing_else() {
        let applied = model(json!({"f:modelFormat": {}, "f:args": {}}));
        let mut written =
            model(json!({"f:modelFormat": {"f:name": {}}, "f:runtimeVersion": {}, "f:storageUri": {}, "f:env": {}}));
        written["f:spec"]["f:predictor"]["f:name"] = json!({});
        let kserve = owner("manager", "Update", json!({"f:status": {}}));
        let owners = json!([
            owner(FIELD_MANAGER, "Apply", applied),
            owner(FIELD_MANAGER, "Update", written),
            kserve
        ]);
        let after = after(&owners, &["modelFormat", "runtimeVersion", "storageUri"]).unwrap();
        let all = json!({"f:modelFormat": {"f:name": {}}, "f:args": {}, "f:runtimeVersion": {}, "f:storageUri": {}});
        let mut rest = model(json!({"f:env": {}}));
        rest["f:spec"]["f:predictor"]["f:name"] = json!({});
        assert_eq!(
            after,
            json!([
                owner(FIELD_MANAGER, "Apply", model(all)),
                owner(FIELD_MANAGER, "Update", rest),
                kserve
            ])
        );
        assert_eq!(
            self::after(&after, &["modelFormat", "runtimeVersion", "storageUri"]),
            None
        );
    }

    #[test]
    fn who_owns_nothing_more_is_no_owner() {
        let written = owner(FIELD_MANAGER, "Update", model(json!({"f:storageUri": {}})));
        let owners = json!([owner(FIELD_MANAGER, "Apply", model(json!({"f:runtime": {}}))), written]);
        let both = model(json!({"f:runtime": {}, "f:storageUri": {}}));
        assert_eq!(
            after(&owners, &["storageUri"]),
            Some(json!([owner(FIELD_MANAGER, "Apply", both)]))
        );
    }

    #[test]
    fn a_service_that_no_deploy_applied_stays_its_owners() {
        let written = owner(FIELD_MANAGER, "Update", model(json!({"f:storageUri": {}})));
        let kubectl = owner("kubectl", "Apply", model(json!({"f:storageUri": {}})));
        assert_eq!(after(&json!([kubectl, written]), &["storageUri"]), None);
        let status = json!({"manager": FIELD_MANAGER, "operation": "Apply", "subresource": "status", "fieldsV1": {}});
        assert_eq!(after(&json!([status, written]), &["storageUri"]), None);
    }
}
