//! Manifests as users and tools write them.

use serde_json::{Value, json};

use crate::path::SECRET;

/// A name, the format and where the model is: all that a data scientist should have to say.
pub fn bare(name: &str, format: &str, uri: &str) -> String {
    format!(
        r"apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    model:
      modelFormat:
        name: {format}
      storageUri: {uri}
"
    )
}

/// The per-framework field, as manifests of years ago have it.
pub fn old_shape(name: &str, framework: &str, uri: &str) -> String {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {framework: {"storageUri": uri}}},
    })
    .to_string()
}

/// A server of the user's own, told of its model by `STORAGE_URI` alone.
pub fn own_container(name: &str, image: &str, arguments: &[&str], uri: &str) -> String {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"containers": [{
            "name": "kserve-container",
            "image": image,
            "args": arguments,
            "env": [{"name": "STORAGE_URI", "value": uri}],
        }]}},
    })
    .to_string()
}

/// A Secret with keys and endpoint, as the guides write it, for KServe's annotation to name.
pub fn keys(endpoint: &str, id: &str, secret: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Secret
metadata:
  name: minio
  annotations:
    serving.kserve.io/s3-endpoint: "{endpoint}"
    serving.kserve.io/s3-usehttps: "0"
    serving.kserve.io/s3-region: us-east-1
stringData:
  AWS_ACCESS_KEY_ID: {id}
  AWS_SECRET_ACCESS_KEY: {secret}
"#
    )
}

/// A service whose author sees to its keys, with them: what it needs where Tidewaiter isn't.
pub fn with_keys(service: &Value, endpoint: &str, id: &str, secret: &str) -> String {
    let mut service = service.clone();
    service["metadata"]["annotations"][SECRET] = json!("minio");
    format!("{}---\n{service}\n", keys(endpoint, id, secret))
}

/// What the guides ask for: a Secret with keys and endpoint, named by KServe's annotation, and the protocol.
pub fn by_hand(name: &str, uri: &str, endpoint: &str, user: &str) -> String {
    let keys = keys(endpoint, user, user);
    format!(
        r"{keys}---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  annotations:
    serving.kserve.io/storageSecretName: minio
spec:
  predictor:
    model:
      modelFormat:
        name: mlflow
      protocolVersion: v2
      storageUri: {uri}
"
    )
}
