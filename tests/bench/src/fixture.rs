//! What both servers and the policies are measured with: one store, one configuration, one review.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tempfile::TempDir;
use tidewaiter_store::{ACCESS_KEY, FRAUD, SECRET_KEY, Store};

/// The object under review, as kubectl sends it: with `last-applied-configuration` and `managedFields`.
const OBJECT: &str = r#"{"apiVersion":"serving.kserve.io/v1beta1","kind":"InferenceService","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"serving.kserve.io/v1beta1\",\"kind\":\"InferenceService\",\"metadata\":{\"annotations\":{},\"name\":\"fraud\",\"namespace\":\"team\"},\"spec\":{\"predictor\":{\"model\":{\"modelFormat\":{\"name\":\"mlflow\"},\"storageUri\":\"s3://mlflow/1/models/m-1/artifacts\"}}}}\n"},"creationTimestamp":"2026-01-01T00:00:00Z","generation":1,"managedFields":[{"apiVersion":"serving.kserve.io/v1beta1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}}},"f:spec":{".":{},"f:predictor":{".":{},"f:model":{".":{},"f:modelFormat":{".":{},"f:name":{}},"f:name":{},"f:storageUri":{}}}}},"manager":"kubectl-client-side-apply","operation":"Update","time":"2026-01-01T00:00:00Z"}],"name":"fraud","namespace":"team","uid":"6f5a3c3e-0d0c-4d7f-8f5e-0a9a3a1c2b01"},"spec":{"predictor":{"model":{"modelFormat":{"name":"mlflow"},"name":"","resources":{"limits":{"cpu":"1","memory":"2Gi"},"requests":{"cpu":"1","memory":"2Gi"}},"storageUri":"s3://mlflow/1/models/m-1/artifacts"}}}}"#;

pub(crate) struct Fixture {
    /// An admission review.
    pub(crate) review: Bytes,
    /// Trusts the servers' certificate.
    pub(crate) client: Arc<ClientConfig>,
    folder: TempDir,
    _store: Store,
}

impl Fixture {
    pub(crate) async fn new() -> Result<Self> {
        let store = Store::start().await?;
        store.put("mlflow/1/models/m-1/artifacts", FRAUD)?;
        let folder = tempfile::tempdir()?;
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(folder.path().join("tls.crt"), identity.cert.pem())?;
        fs::write(folder.path().join("tls.key"), identity.signing_key.serialize_pem())?;
        fs::create_dir(folder.path().join("config"))?;
        fs::write(folder.path().join("config/minio.yaml"), config(&store.endpoint))?;

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(identity.cert.pem().as_bytes())?)?;
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            review: review(),
            client: Arc::new(client),
            folder,
            _store: store,
        })
    }

    pub(crate) fn object() -> &'static str {
        OBJECT
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("tls.key")
    }
}

fn review() -> Bytes {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"},
            "resource": {"group": "serving.kserve.io", "version": "v1beta1", "resource": "inferenceservices"},
            "requestKind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"},
            "requestResource": {"group": "serving.kserve.io", "version": "v1beta1", "resource": "inferenceservices"},
            "name": "fraud",
            "namespace": "team",
            "operation": "CREATE",
            "userInfo": {"username": "ada", "groups": ["team", "system:authenticated"]},
            "object": "OBJECT",
            "oldObject": null,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl-client-side-apply", "kind": "CreateOptions"},
        }
    });
    review.to_string().replace("\"OBJECT\"", OBJECT).into()
}

fn config(endpoint: &str) -> String {
    format!(
        "\
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {{name: minio}}
spec:
  type: s3
  serves: [\"s3://mlflow/\"]
  s3: {{endpoint: \"{endpoint}\", region: us-east-1}}
  credentials: {{secretRef: {{namespace: tidewaiter-system, name: minio}}}}
---
apiVersion: v1
kind: Secret
metadata: {{namespace: tidewaiter-system, name: minio}}
stringData: {{AWS_ACCESS_KEY_ID: {ACCESS_KEY}, AWS_SECRET_ACCESS_KEY: {SECRET_KEY}}}
"
    )
}
