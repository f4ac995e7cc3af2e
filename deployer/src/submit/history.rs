//! What was deployed by whom from what, on the service itself.
//!
//! KServe copies a service's annotations into the Pods' template: one that changes restarts the model. So an entry is added only by a deployment that restarts
//! it anyway, and every other one writes the history that is there.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::{Cluster, kinds};
use crate::source::without_token;

/// A JSON array of [`Entry`], the newest first.
pub const ANNOTATION: &str = "tidewaiter.dev/history";
/// More are forgotten: annotations have 256 KiB together, and each Pod carries them.
const LENGTH: usize = 10;

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When, as RFC 3339 has it, in UTC.
    pub at: String,
    /// By whom: the user's name as the API server knows it.
    pub by: String,
    /// From what, as the user wrote it: `models:/fraud@champion`.
    pub from: String,
    /// Where the model lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,
    /// What loads it; of a graph `graph`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// By which runtime, where the object names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Of which release, where the object names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// In which protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
}

impl Entry {
    /// Of an object as it is submitted. Whoever may see a service, or one of its Pods, sees its history: a token in a URI is left out.
    fn of(object: &Value, at: String, by: String, from: &str) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let spec = &object["spec"];
        let (model, format) = match object["kind"].as_str() {
            Some(kind) if kind == kinds::INFERENCE_GRAPH.kind => (&Value::Null, Some("graph".to_owned())),
            Some(kind) if kind == kinds::TRAINED_MODEL.kind => (&spec["model"], text(&spec["model"]["framework"])),
            _ => (
                &spec["predictor"]["model"],
                text(&spec["predictor"]["model"]["modelFormat"]["name"]),
            ),
        };
        Self {
            at,
            by,
            from: without_token(from),
            storage_uri: model["storageUri"].as_str().map(without_token),
            format,
            runtime: text(&model["runtime"]),
            runtime_version: text(&model["runtimeVersion"]),
            protocol_version: text(&model["protocolVersion"]),
        }
    }
}

/// A service's history, the newest first; empty where it has none, or none that can be read.
pub fn entries(service: &DynamicObject) -> Vec<Entry> {
    let text = service.annotations().get(ANNOTATION);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The object with the history that a service has already.
#[must_use]
pub fn with_history_of(mut object: Value, service: Option<&DynamicObject>) -> Value {
    if let Some(text) = service.and_then(|service| service.annotations().get(ANNOTATION)) {
        object["metadata"]["annotations"][ANNOTATION] = json!(text);
    }
    object
}

/// The object with an entry, of now and by this user, before those that a service has. `from` is what the user asked for.
pub async fn with_entry(cluster: &Cluster, object: Value, service: Option<&DynamicObject>, from: &str) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let entry = Entry::of(&object, now, whoami(cluster).await, from);
    before(object, service, entry)
}

/// Who the API server takes this user for.
async fn whoami(cluster: &Cluster) -> String {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client().clone());
    let review = serde_json::from_value(json!({"metadata": {}})).unwrap_or_default();
    let answer = api.create(&PostParams::default(), &review).await.ok();
    let name = answer.and_then(|review| review.status?.user_info?.username);
    name.unwrap_or_else(|| "unknown".to_owned())
}

fn before(mut object: Value, service: Option<&DynamicObject>, entry: Entry) -> Value {
    let mut history = vec![entry];
    history.extend(service.map(entries).unwrap_or_default());
    history.truncate(LENGTH);
    object["metadata"]["annotations"][ANNOTATION] = json!(json!(history).to_string());
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uri: &str) -> Entry {
        let object = json!({"spec": {"predictor": {"model": {"storageUri": uri, "modelFormat": {"name": "sklearn"}}}}});
        Entry::of(&object, "2026-01-01T00:00:00Z".to_owned(), "me".to_owned(), uri)
    }

    #[test]
    fn the_newest_is_first_and_the_oldest_forgotten() {
        let mut service: Option<DynamicObject> = None;
        for number in 0..12 {
            let bare = json!({"metadata": {"name": "a"}});
            let object = before(bare, service.as_ref(), entry(&format!("s3://a/{number}")));
            service = Some(serde_json::from_value(object).unwrap());
        }
        let history = entries(service.as_ref().unwrap());
        assert_eq!(history.len(), LENGTH);
        assert_eq!(history[0].storage_uri.as_deref(), Some("s3://a/11"));
        assert_eq!(history[9].storage_uri.as_deref(), Some("s3://a/2"));
    }

    #[test]
    fn a_trained_model_and_a_graph_are_told_with_what_loads_them() {
        let of = |object: Value| {
            let entry = Entry::of(&object, String::new(), String::new(), "models:/fraud/3");
            (entry.format, entry.storage_uri)
        };
        let model = json!({"storageUri": "s3://a/b", "framework": "sklearn", "memory": "1Gi"});
        assert_eq!(
            of(json!({"kind": "TrainedModel", "spec": {"inferenceService": "many", "model": model}})),
            (Some("sklearn".to_owned()), Some("s3://a/b".to_owned()))
        );
        let graph = json!({"kind": "InferenceGraph", "spec": {"nodes": {}}});
        assert_eq!(of(graph), (Some("graph".to_owned()), None));
    }

    #[test]
    fn a_token_in_a_uri_is_not_kept() {
        let entry = entry("https://models.blob.core.windows.net/a/b?sv=2024&sig=s3cret");
        let told = format!("{entry:?}");
        assert!(!told.contains("s3cret") && told.contains("/a/b?…"), "{told}");
    }

    #[test]
    fn a_history_that_nobody_can_read_is_none() {
        let service = json!({"metadata": {"name": "a", "annotations": {ANNOTATION: "yes"}}});
        assert_eq!(entries(&serde_json::from_value(service).unwrap()), []);
    }
}
