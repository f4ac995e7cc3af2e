//! Which fields an API server knows of a kind. By them one release of KServe is told from another, with no more rights than everybody has.

use kube::api::ListParams;
use kube::core::Request;
use serde_json::Value;

use super::{Attempt, Cluster, Error, Kind};

/// A kind's definition, as the API server publishes it to all users.
#[derive(Debug, Clone)]
pub struct Schema(Value);

impl Schema {
    /// Whether the kind has a field: `has(&["spec", "canary"])`. Lists are looked into by their elements.
    pub fn has(&self, path: &[&str]) -> bool {
        let mut at = &self.0;
        for name in path {
            if !at["items"].is_null() {
                at = &at["items"];
            }
            at = &at["properties"][*name];
        }
        !at.is_null()
    }

    /// From a document of `OpenAPI` v3 that has it.
    fn of(document: &mut Value, kind: &Kind) -> Option<Self> {
        let schemas = document["components"]["schemas"].as_object_mut()?;
        let schema = schemas.values_mut().find(|schema| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|kinds| {
                kinds
                    .iter()
                    .any(|one| one["group"] == kind.group && one["version"] == kind.version && one["kind"] == kind.kind)
            })
        });
        schema.map(|schema| Self(schema.take()))
    }
}

impl Cluster {
    /// What the API server knows of a kind of others than Kubernetes itself.
    ///
    /// # Errors
    /// [`Error::UnknownKind`]; where the API server says no, or says nothing.
    pub async fn schema(&self, kind: &'static Kind) -> Result<Schema, Error> {
        let attempt = || Attempt::list(kind, None);
        let path = format!("/openapi/v3/apis/{}/{}", kind.group, kind.version);
        // A plain GET, under the name that kube has for it.
        let request = Request::new(path).list(&ListParams::default());
        let request = request.map_err(|error| self.failed(attempt(), &kube::Error::BuildRequest(error)))?;
        let document = self.client().request::<Value>(request).await;
        let mut document = document.map_err(|error| self.failed(attempt(), &error))?;
        Schema::of(&mut document, kind).ok_or(Error::UnknownKind { kind })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds;
    use super::*;

    #[test]
    fn a_field_is_found_by_its_path() {
        let mut document = json!({"components": {"schemas": {
            "io.kserve.InferenceService": {
                "x-kubernetes-group-version-kind": [{"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"}],
                "properties": {"spec": {"properties": {"canary": {"items": {"properties": {"predictor": {"type": "object"}}}}}}},
            },
            "io.kserve.InferenceServiceList": {"x-kubernetes-group-version-kind": [{"kind": "InferenceServiceList"}]},
        }}});
        let schema = Schema::of(&mut document, &kinds::INFERENCE_SERVICE).unwrap();
        assert!(schema.has(&["spec", "canary", "predictor"]));
        assert!(!schema.has(&["spec", "predictor"]));
    }
}
