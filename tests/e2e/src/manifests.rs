//! Manifests as users and tools write them.

use serde_json::json;

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

/// What the guides ask for: a Secret with keys and endpoint, named by KServe's annotation, and the protocol.
pub fn by_hand(name: &str, uri: &str, endpoint: &str, user: &str) -> String {
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
  AWS_ACCESS_KEY_ID: {user}
  AWS_SECRET_ACCESS_KEY: {user}
---
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
"#
    )
}
