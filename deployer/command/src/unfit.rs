//! What the API server refuses before any policy sees it, as far as an object shows that without KServe's schemas, which are a megabyte.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use tidewaiter_core::document::Path;
use tidewaiter_core::lines;
use tidewaiter_core::nearest::one_letter_off;
use tidewaiter_core::pointer;
use tidewaiter_core::policy_resource::KSERVE_KINDS;
use tidewaiter_core::service::{ParseError, Service, ServiceKind};
use tidewaiter_deployer::cluster::is_object_name;

/// Why an object is none that a policy would be asked about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// A JSON Pointer to what is wrong.
    pub(crate) path: String,
    /// What, and what to do.
    pub(crate) message: String,
}

/// None for an object that policies get to see.
pub(crate) fn unfit(object: &Value) -> Option<Unfit> {
    unknown(object)
        .or_else(|| malformed(object))
        .or_else(|| nameless(object))
        .or_else(|| nowhere(object))
        .or_else(|| empty(object))
}

fn at(path: &str, message: String) -> Unfit {
    Unfit {
        path: path.to_owned(),
        message,
    }
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

fn unknown(object: &Value) -> Option<Unfit> {
    let kind = kind(object);
    if !KSERVE_KINDS.contains(&kind) {
        let in_other_capitals = || KSERVE_KINDS.into_iter().find(|known| known.eq_ignore_ascii_case(kind));
        let meant = one_letter_off(kind, &KSERVE_KINDS).or_else(in_other_capitals)?;
        return Some(at("/kind", format!("there is no kind {kind}: write {meant}")));
    }
    let version = object["apiVersion"].as_str()?.strip_prefix("serving.kserve.io/")?;
    let known = versions(kind);
    (!known.contains(&version)).then(|| {
        let message = format!(
            "the API server refuses it: KServe has no {kind} of {version}; write apiVersion: serving.kserve.io/{}",
            known[0]
        );
        at("/apiVersion", message)
    })
}

/// Of the API that KServe 0.15 to 0.20 define a kind in (`config/crd/full`).
fn versions(kind: &str) -> &'static [&'static str] {
    match kind {
        "InferenceService" => &["v1beta1"],
        "LLMInferenceService" | "LLMInferenceServiceConfig" => &["v1alpha2", "v1alpha1"],
        _ => &["v1alpha1"],
    }
}

fn nowhere(object: &Value) -> Option<Unfit> {
    let name = object["metadata"]["namespace"].as_str()?;
    let message = namespace(name).err().filter(|_| !name.is_empty())?;
    Some(at("/metadata/namespace", message))
}

/// A namespace's name, as a flag gives it. It has no `.`, and 63 characters at most.
pub(crate) fn namespace(name: &str) -> Result<String, String> {
    if name.len() <= 63 && !name.contains('.') && is_object_name(name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "`{name}` is no name of a namespace: lower-case letters, digits and `-`, 63 at most"
    ))
}

fn nameless(object: &Value) -> Option<Unfit> {
    let message = match (&object["metadata"]["name"], &object["metadata"]["generateName"]) {
        (Value::String(name), _) if is_object_name(name) => return None,
        (Value::String(name), _) if !name.is_empty() => {
            format!("`{name}` is no name of an object: lower-case letters, digits, `-` and `.`")
        }
        (_, Value::String(prefix)) if !prefix.is_empty() => return None,
        _ => format!("this {} has no name: write it into metadata.name", kind(object)),
    };
    Some(at("/metadata/name", message))
}

/// What the API server can't read as metadata, or policies not as the service that it says it is.
fn malformed(object: &Value) -> Option<Unfit> {
    let bare = without_nulls(object);
    let text = bare["metadata"].to_string();
    let metadata = serde_json::from_str::<Option<ObjectMeta>>(&text).err().map(|error| {
        // All of it is one line.
        let path = format!("/metadata{}", pointer::at(&text, error.column()));
        (path, error.to_string())
    });
    let wrong = metadata.or_else(|| {
        ServiceKind::named(kind(object))?;
        match Service::parse(kind(object), &bare.to_string()) {
            Err(ParseError::Field { pointer, reason }) => Some((pointer, reason)),
            Ok(_) | Err(ParseError::UnknownKind(_)) => None,
        }
    });
    let (path, reason) = wrong?;
    let reason = reason.split(" at line ").next().unwrap_or_default();
    let place = Path::parse(&path).map_or_else(|| path.clone(), |path| lines::place(&path));
    let quotes = match object.pointer(&path) {
        Some(Value::Bool(_) | Value::Number(_)) if reason.contains("a string") => "; put the value in quotes",
        _ => "",
    };
    let message = format!("the API server refuses it: {place} can't be read: {reason}{quotes}");
    Some(Unfit { path, message })
}

/// KServe's definition requires `predictor` in `spec` and no `spec` (`config/crd/full`); where that is missing its validator misses a model server
/// (`validateExactlyOneImplementation`, v0.15 to v0.20). An LLMInferenceService may have all from its `baseRefs`, or from nowhere.
fn empty(object: &Value) -> Option<Unfit> {
    let predictor = &object["spec"]["predictor"];
    if ServiceKind::named(kind(object)) != Some(ServiceKind::InferenceService) || !predictor.is_null() {
        return None;
    }
    Some(at(
        "/spec/predictor",
        "KServe refuses it: this InferenceService has no spec.predictor; write there what is served".to_owned(),
    ))
}

/// As the API server takes it: to it a null is nothing.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            members
                .map(|(name, value)| (name.clone(), without_nulls(value)))
                .collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(metadata: Value, spec: Value) -> Value {
        json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": metadata, "spec": spec})
    }

    fn predictor() -> Value {
        json!({"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://a/b"}}})
    }

    #[test]
    fn what_the_api_server_refuses_is_told_with_its_field() {
        let said = |metadata: Value, spec: Value| {
            let Unfit { path, message } = unfit(&service(metadata, spec)).unwrap();
            format!("{path}: {message}")
        };
        let name = || json!({"name": "a"});
        let with = |field: &str, value: Value| {
            let mut metadata = name();
            metadata[field] = value;
            said(metadata, predictor())
        };
        let told = [
            with("labels", json!({"n": 3})),
            with("labels", json!(["a"])),
            with("annotations", json!({"a/b": true})),
            with("finalizers", json!("mine")),
            with("namespace", json!(7)),
            with("ownerReferences", json!([{"name": {}}])),
            said(json!("a"), predictor()),
            said(name(), json!({"predictor": {"model": {"storageUri": 7}}})),
            said(name(), json!("all")),
            said(name(), Value::Null),
            said(name(), json!({"transformer": {}})),
            said(Value::Null, predictor()),
            said(json!({"name": "A b"}), predictor()),
            with("namespace", json!("Team A")),
        ];
        insta::assert_snapshot!(told.join("\n"), @r#"
        /metadata/labels/n: the API server refuses it: label n can't be read: invalid type: integer `3`, expected a string; put the value in quotes
        /metadata/labels: the API server refuses it: metadata.labels can't be read: invalid type: sequence, expected a map
        /metadata/annotations/a~1b: the API server refuses it: a/b can't be read: invalid type: boolean `true`, expected a string; put the value in quotes
        /metadata/finalizers: the API server refuses it: metadata.finalizers can't be read: invalid type: string "mine", expected a sequence
        /metadata/namespace: the API server refuses it: metadata.namespace can't be read: invalid type: integer `7`, expected a string; put the value in quotes
        /metadata/ownerReferences/0/name: the API server refuses it: metadata.ownerReferences.0.name can't be read: invalid type: map, expected a string
        /metadata: the API server refuses it: metadata can't be read: invalid type: string "a", expected ObjectMeta
        /spec/predictor/model/storageUri: the API server refuses it: spec.predictor.model.storageUri can't be read: invalid type: integer `7`, expected a string; put the value in quotes
        /spec: the API server refuses it: spec can't be read: invalid type: string "all", expected struct Spec
        /spec/predictor: KServe refuses it: this InferenceService has no spec.predictor; write there what is served
        /spec/predictor: KServe refuses it: this InferenceService has no spec.predictor; write there what is served
        /metadata/name: this InferenceService has no name: write it into metadata.name
        /metadata/name: `A b` is no name of an object: lower-case letters, digits, `-` and `.`
        /metadata/namespace: `Team A` is no name of a namespace: lower-case letters, digits and `-`, 63 at most
        "#);
    }

    #[test]
    fn a_kind_that_kserve_does_not_have_is_none_that_policies_are_asked_about() {
        let said = |api_version: &str, kind: &str| {
            let object =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": predictor()});
            unfit(&object).map(|unfit| format!("{}: {}", unfit.path, unfit.message))
        };
        let told = [
            said("serving.kserve.io/v1beta1", "inferenceservice"),
            said("serving.kserve.io/v1beta1", "InferenceServices"),
            said("serving.kserve.io/v1", "InferenceService"),
            said("serving.kserve.io/v1beta1", "TrainedModel"),
        ]
        .map(Option::unwrap_or_default);
        insta::assert_snapshot!(told.join("\n"), @r"
        /kind: there is no kind inferenceservice: write InferenceService
        /kind: there is no kind InferenceServices: write InferenceService
        /apiVersion: the API server refuses it: KServe has no InferenceService of v1; write apiVersion: serving.kserve.io/v1beta1
        /apiVersion: the API server refuses it: KServe has no TrainedModel of v1beta1; write apiVersion: serving.kserve.io/v1alpha1
        ");
        assert_eq!(said("serving.kserve.io/v1alpha1", "LLMInferenceService"), None);
        assert_eq!(said("serving.kserve.io/v1alpha1", "LocalModelNode"), None);
    }

    #[test]
    fn what_the_api_server_takes_is_nothing_to_complain_of() {
        for metadata in [
            json!({"name": "a", "labels": null, "creationTimestamp": null}),
            json!({"generateName": "a-", "labels": {"a": null}, "annotations": {}}),
            // Of `kubectl get -o yaml`.
            json!({"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 2, "uid": "x", "resourceVersion": "7", "finalizers": ["a"],
                "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "serving.kserve.io/v1beta1", "time": "2026-01-02T03:04:05Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {".": {}}}}]}),
        ] {
            assert_eq!(unfit(&service(metadata.clone(), predictor())), None, "{metadata}");
        }
        let llm = json!({"apiVersion": "serving.kserve.io/v1alpha1", "kind": "LLMInferenceService", "metadata": {"name": "a"}});
        assert_eq!(unfit(&llm), None);
    }
}
