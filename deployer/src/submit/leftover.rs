//! What a promoted canary left in a service, and a deploy doesn't say.
//!
//! An apply takes away what its manager applied before and doesn't any more. What `promote` wrote is another owner's to the API server, of the same name and by
//! another operation (`Update`): it would hold the next model on the canary's release of a runtime, and nothing would show it. A null takes it away, since
//! what may not be null is dropped (`PruneNonNullableNullsWithoutDefaults` of `k8s.io/apiextensions-apiserver`, which the merged object comes by). The
//! predictor's `name` stays: its Pods are called by it, and are replaced one by one then.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::Value;
use tidewaiter_core::filled;

use super::apply::FIELD_MANAGER;

/// What chooses the server of a model, and the model itself: the user's own containers don't stand beside one.
const LEFT: [&[&str]; 3] = [
    &["spec", "predictor", "model"],
    &["spec", "predictor", "model", "runtime"],
    &["spec", "predictor", "model", "runtimeVersion"],
];

/// The object with a null where the service has something of a promoted canary's that the object has not.
pub(super) fn without_leftovers(mut object: Value, service: Option<&DynamicObject>) -> Value {
    let Some(service) = service else { return object };
    for path in LEFT {
        let Some((field, parents)) = path.split_last() else {
            continue;
        };
        let parent = object.pointer_mut(&format!("/{}", parents.join("/")));
        if let Some(members) = parent.and_then(Value::as_object_mut)
            && !members.contains_key(*field)
            && is_promoted(service, path)
            && !is_filled(service, path)
        {
            members.insert((*field).to_owned(), Value::Null);
        }
    }
    object
}

/// Whether it was written by a change of ours, and not applied.
fn is_promoted(service: &DynamicObject, path: &[&str]) -> bool {
    let mut owners = service.managed_fields().iter().filter(|owner| {
        owner.manager.as_deref() == Some(FIELD_MANAGER)
            && owner.operation.as_deref() == Some("Update")
            && owner.subresource.is_none()
    });
    owners.any(|owner| {
        let mut fields = owner.fields_v1.as_ref().map(|fields| &fields.0);
        for field in path {
            fields = fields.and_then(|fields| fields.get(format!("f:{field}")));
        }
        fields.is_some()
    })
}

/// Whether Tidewaiter's webhook filled it in on the way of such a change. It takes that back by itself, and would take a null for the user's word against it.
fn is_filled(service: &DynamicObject, path: &[&str]) -> bool {
    let record = service.annotations().get(filled::ANNOTATION);
    let record: Value = record
        .and_then(|record| serde_json::from_str(record).ok())
        .unwrap_or_default();
    !record[format!("/{}", path.join("/"))].is_null()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// After `tidewaiter promote`, as an API server of 1.33 has its owners.
    fn promoted(record: &Value) -> DynamicObject {
        let written =
            json!({"f:spec": {"f:predictor": {"f:name": {}, "f:model": {"f:storageUri": {}, "f:runtimeVersion": {}}}}});
        let applied =
            json!({"f:spec": {"f:predictor": {"f:model": {"f:modelFormat": {"f:name": {}}, "f:runtime": {}}}}});
        serde_json::from_value(json!({
            "metadata": {"name": "fraud", "annotations": {filled::ANNOTATION: record.to_string()}, "managedFields": [
                {"manager": "tidewaiter", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": applied},
                {"manager": "tidewaiter", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": written},
                {"manager": "kubectl-edit", "operation": "Update", "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {"f:predictor": {"f:model": {"f:runtime": {}}}}}},
            ]},
            "spec": {"predictor": {"name": "canary", "model": {"storageUri": "s3://m/2", "runtime": "kserve-mlserver", "runtimeVersion": "1.5.0"}}},
        }))
        .unwrap()
    }

    fn of(predictor: Value) -> Value {
        json!({"spec": {"predictor": predictor}})
    }

    #[test]
    fn a_pin_of_a_promoted_canary_goes_with_its_model() {
        let model = json!({"storageUri": "s3://m/3"});
        let service = promoted(&json!({}));
        // What somebody else pinned, or was applied, is none of it.
        assert_eq!(
            without_leftovers(of(json!({"model": model})), Some(&service)),
            of(json!({"model": {"storageUri": "s3://m/3", "runtimeVersion": null}}))
        );
        let own = of(json!({"model": {"storageUri": "s3://m/3", "runtimeVersion": "1.7.1"}}));
        assert_eq!(without_leftovers(own.clone(), Some(&service)), own);
        assert_eq!(
            without_leftovers(of(json!({"containers": []})), Some(&service)),
            of(json!({"containers": [], "model": null}))
        );
        assert_eq!(without_leftovers(of(model.clone()), None), of(model));
    }

    #[test]
    fn what_the_webhook_filled_in_is_its_own_to_take_back() {
        let filled = promoted(&json!({"/spec/predictor/model/runtimeVersion": "1.5.0"}));
        let object = of(json!({"model": {"storageUri": "s3://m/3"}}));
        assert_eq!(without_leftovers(object.clone(), Some(&filled)), object);
    }
}
