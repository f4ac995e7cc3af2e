//! One server on the loopback, over real TLS, with a folder of YAML as its configuration.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part; a test may panic"
)]

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use reqwest::{Certificate, Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewaiter_webhook::http::certificate::TlsSource;
use tidewaiter_webhook::{Options, Running, Server, Source};
use tokio::net::TcpStream;

/// A store that nobody needs to reach: its models are never looked at in these tests.
pub const MINIO: &str = "
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: { name: minio }
spec:
  type: s3
  serves: ['s3://mlflow/']
  s3: { endpoint: 'http://127.0.0.1:9', region: us-east-1 }
  credentials: { secretRef: { namespace: minio, name: root } }
  grants:
    - namespaces: ['team-*']
---
apiVersion: v1
kind: Secret
metadata: { namespace: minio, name: root }
stringData: { accessKey: tidewaiter, secretKey: not-shown-to-anyone }
---
apiVersion: tidewaiter.dev/v1alpha1
kind: WasmPolicy
metadata: { name: runtime-version }
spec:
  module: { builtin: runtime-version }
  match: { kinds: [] }
---
{ apiVersion: tidewaiter.dev/v1alpha1, kind: WasmPolicy, metadata: { name: model-exists }, spec: { module: { builtin: model-exists }, match: { kinds: [] } } }
---
{ apiVersion: tidewaiter.dev/v1alpha1, kind: WasmPolicy, metadata: { name: resources }, spec: { module: { builtin: resources }, match: { kinds: [] } } }
---
{ apiVersion: tidewaiter.dev/v1alpha1, kind: WasmPolicy, metadata: { name: serving-protocol }, spec: { module: { builtin: serving-protocol }, match: { kinds: [] } } }
---
{ apiVersion: tidewaiter.dev/v1alpha1, kind: WasmPolicy, metadata: { name: architecture }, spec: { module: { builtin: architecture }, match: { kinds: [] } } }
---
{ apiVersion: tidewaiter.dev/v1alpha1, kind: WasmPolicy, metadata: { name: namespace-guard }, spec: { module: { builtin: namespace-guard }, match: { kinds: [] } } }
";

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn log() -> MutexGuard<'static, Vec<u8>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps all that is logged from now on, by us and by every library, down to the last detail.
pub fn listen() {
    struct Keep;
    impl io::Write for Keep {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            log().extend_from_slice(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            // Of a compilation there would be gigabytes.
            .with_env_filter("trace,cranelift=off,regalloc2=off,wasmtime=off")
            .with_ansi(false)
            .with_writer(|| Keep);
        subscriber.init();
    });
}

/// What was logged since [`listen`].
pub fn logged() -> String {
    String::from_utf8_lossy(&log()).into_owned()
}

/// A certificate authority and what it signed last.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap())
                .unwrap()
                .into(),
        }
    }

    fn certificate(&self) -> &rcgen::Certificate {
        (*self.issuer).as_ref()
    }

    /// A new pair for `localhost` and 127.0.0.1, as PEM.
    pub fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        (
            params.signed_by(&key, &**self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    pub fn connector(&self) -> Connector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Connector(Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into())
    }

    pub fn client(&self) -> Client {
        // As the API server.
        self.building().http1_only().build().unwrap()
    }

    /// One that takes HTTP/2 where it is offered.
    pub fn client_of_any_http(&self) -> Client {
        self.building().build().unwrap()
    }

    fn building(&self) -> reqwest::ClientBuilder {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Certificate::from_pem(self.certificate().pem().as_bytes()).unwrap();
        Client::builder()
            .tls_certs_only([authority])
            .timeout(Duration::from_secs(20))
    }
}

/// TLS below HTTP, for requests that no client would send.
pub struct Connector(tokio_rustls::TlsConnector);

impl Connector {
    pub async fn connect(&self, address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
        let tcp = TcpStream::connect(address).await.unwrap();
        self.0.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
    }
}

pub struct Harness {
    pub running: Running,
    pub folder: TempDir,
    pub tls: TempDir,
    pub authority: Authority,
    pub client: Client,
}

impl Harness {
    /// Started and ready.
    pub async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, |_| ()).await
    }

    pub async fn start_with(yaml: &str, change: impl FnOnce(&mut Options)) -> Self {
        let (folder, tls, authority) = (TempDir::new().unwrap(), TempDir::new().unwrap(), Authority::new());
        std::fs::write(folder.path().join("config.yaml"), yaml).unwrap();
        write_pair(tls.path(), &authority.sign());
        let mut options = Options::new(
            Source::Folder(folder.path().into()),
            TlsSource::Files {
                certificate: tls.path().join("tls.crt"),
                key: tls.path().join("tls.key"),
            },
        );
        options.drain = Duration::ZERO;
        change(&mut options);
        let running = Server::start(options).await.unwrap();
        running.ready().await;
        let client = authority.client();
        Self {
            running,
            folder,
            tls,
            authority,
            client,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.running.address.port())
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        self.client
            .post(self.url(path))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap()
    }

    /// The `response` part of the answer.
    pub async fn review(&self, path: &str, review: &Value) -> Value {
        let response = self.post(path, serde_json::to_vec(review).unwrap()).await;
        assert_eq!(response.status(), 200);
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap(),
        )
    }
}

/// As a Secret's volume does it: all files change at once.
pub fn write_pair(folder: &Path, (certificate, key): &(String, String)) {
    std::fs::write(folder.join("tls.crt"), certificate).unwrap();
    std::fs::write(folder.join("tls.key"), key).unwrap();
}

/// A model in the store that [`MINIO`] describes.
pub fn service() -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud", "namespace": "team-a"},
        "spec": {"predictor": {"model": {
            "modelFormat": {"name": "mlflow"}, "storageUri": "s3://mlflow/1/models/fraud/artifacts",
        }}},
    })
}

/// As the API server asks.
pub fn create(object: &Value) -> Value {
    review("CREATE", object, &Value::Null)
}

pub fn update(object: &Value, old: &Value) -> Value {
    review("UPDATE", object, old)
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": object["kind"]},
            "resource": {"group": "serving.kserve.io", "version": "v1beta1", "resource": "inferenceservices"},
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
            "operation": operation,
            "userInfo": {"username": "ann", "groups": ["system:authenticated"]},
            "object": object, "oldObject": old, "dryRun": false,
        },
    })
}

/// The object with the answer's patch applied.
pub fn patched(object: &Value, response: &Value) -> Value {
    use base64::Engine;
    let mut object = object.clone();
    if let Some(patch) = response["patch"].as_str() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        json_patch::patch(
            &mut object,
            &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap(),
        )
        .unwrap();
    }
    object
}
