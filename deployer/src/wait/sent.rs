//! Which submission is waited for: two may happen at once.

use kube::api::DynamicObject;
use serde_json::Value;

use crate::live::storage_uri;

/// What makes a service the one that was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its generation: an older one, which a watch may show yet, is somebody's earlier deployment.
    generation: i64,
    /// Where its model lies: with another one, a later generation is somebody's later deployment.
    uri: Option<String>,
}

impl Sent {
    /// Of the API server's answer to a submission.
    pub fn of(service: &DynamicObject) -> Self {
        Self {
            generation: service.metadata.generation.unwrap_or_default(),
            uri: storage_uri(&service.data["spec"]["predictor"]),
        }
    }

    pub(super) fn is_before(&self, service: &DynamicObject) -> bool {
        self.generation > service.metadata.generation.unwrap_or(i64::MAX)
    }

    /// Whether the service has another model by now.
    pub(super) fn is_replaced_by(&self, service: &Value) -> bool {
        let is_later = service["metadata"]["generation"]
            .as_i64()
            .is_some_and(|now| now > self.generation);
        is_later && storage_uri(&service["spec"]["predictor"]) != self.uri
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(generation: i64, uri: &str) -> Value {
        json!({"metadata": {"name": "fraud", "generation": generation}, "spec": {"predictor": {"model": {"storageUri": uri}}}})
    }

    fn object(generation: i64, uri: &str) -> DynamicObject {
        serde_json::from_value(service(generation, uri)).unwrap()
    }

    #[test]
    fn what_was_there_before_is_told_from_what_came_after() {
        let sent = Sent::of(&object(3, "s3://a/mine"));
        assert!(sent.is_before(&object(2, "s3://a/old")) && !sent.is_before(&object(3, "s3://a/mine")));
        assert!(sent.is_replaced_by(&service(4, "s3://a/theirs")));
        // Scaled, or stopped: it is the same model still.
        assert!(!sent.is_replaced_by(&service(4, "s3://a/mine")));
        assert!(!sent.is_replaced_by(&service(3, "s3://a/mine")));
    }
}
