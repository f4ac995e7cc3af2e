//! What kube-apiserver does with a webhook: asks, applies the patch, shows the warnings.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// What came back for one object.
pub(crate) struct Reviewed {
    /// The object as it would be stored; none where it is refused.
    pub(crate) object: Option<Value>,
    /// The same as it was sent.
    pub(crate) sent: Value,
    /// The refusal.
    pub(crate) refusal: Option<String>,
    /// What the user's terminal shows.
    pub(crate) warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    allowed: bool,
    patch: Option<String>,
    status: Option<Status>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Status {
    message: String,
}

pub(crate) struct ApiServer {
    client: reqwest::Client,
    url: String,
}

impl ApiServer {
    /// Trusts this certificate alone, as the `caBundle` of a webhook configuration says.
    pub(crate) fn new(address: SocketAddr, certificate: &[u8]) -> Result<Self> {
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(certificate)?])
            .resolve("localhost", address)
            .build()?;
        Ok(Self {
            client,
            url: format!("https://localhost:{}/mutate", address.port()),
        })
    }

    pub(crate) async fn create(&self, manifest: &str) -> Result<Reviewed> {
        let object: Value = serde_saphyr::from_str(manifest)?;
        self.create_object(&object).await
    }

    pub(crate) async fn create_object(&self, object: &Value) -> Result<Reviewed> {
        let metadata = &object["metadata"];
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "9b7a2c0e-5d7f-4c38-8b0e-3f1f7f1f0a01",
                "kind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"},
                "resource": {"group": "serving.kserve.io", "version": "v1beta1", "resource": "inferenceservices"},
                "operation": "CREATE",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "userInfo": {"username": "ada", "groups": ["system:authenticated"]},
                "object": object,
            }
        });
        let response = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .body(review.to_string())
            .send()
            .await?;
        let status = response.status();
        let body = response.text().await?;
        ensure!(status.is_success(), "the webhook answered {status}: {body}");
        let response = serde_json::from_str::<Answer>(&body)
            .context("the webhook's answer is no AdmissionReview")?
            .response;
        let mut stored = object.clone();
        if let Some(patch) = response.patch {
            let patch: json_patch::Patch = serde_json::from_slice(&BASE64_STANDARD.decode(patch)?)?;
            json_patch::patch(&mut stored, &patch)?;
        }
        Ok(Reviewed {
            object: response.allowed.then_some(stored),
            sent: object.clone(),
            refusal: response
                .status
                .filter(|_| !response.allowed)
                .map(|status| status.message),
            warnings: response.warnings,
        })
    }
}
