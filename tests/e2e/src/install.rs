//! Tidewaiter as a cluster has it: CRDs, a backend, the server with its certificate, the webhook configurations.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::{Cluster, HOST, MINIO_PORT, MINIO_USER, host, tls};

const LISTEN: &str = "127.0.0.1:8443";
const OBSERVE: &str = "127.0.0.1:8081";
/// Namespaces with this label are as if Tidewaiter weren't installed.
pub const WITHOUT: &str = "tidewaiter-e2e/without";

/// Where Tidewaiter's mutating webhook comes among the others: the API server calls them by the names of their configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As it is installed.
    AfterKserve,
    /// Sees the old shapes, before KServe rewrites them.
    BeforeKserve,
}

impl Order {
    fn configuration(self) -> &'static str {
        match self {
            Self::AfterKserve => "tidewaiter.dev",
            Self::BeforeKserve => "a-tidewaiter.dev",
        }
    }

    /// The value of the label `tidewaiter-e2e/order` of namespaces that are reviewed in this order.
    pub fn label(self) -> &'static str {
        match self {
            Self::AfterKserve => "after",
            Self::BeforeKserve => "before",
        }
    }
}

/// An installed Tidewaiter.
#[derive(Debug)]
pub struct Tidewaiter {
    cluster: Cluster,
}

/// The server's binary: `$TIDEWAITER_WEBHOOK`, else built by cargo.
pub fn webhook_binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("TIDEWAITER_WEBHOOK") {
        return Ok(binary.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let said = host::output(Command::new(cargo).args([
        "build",
        "--package",
        "tidewaiter-webhook",
        "--bin",
        "tidewaiter-webhook",
        "--message-format",
        "json",
    ]))?;
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built tidewaiter-webhook and names no binary")
}

impl Tidewaiter {
    /// Installs it and waits until it is ready.
    pub fn install(cluster: &Cluster) -> Result<Self> {
        let binary = webhook_binary()?;
        Self::install_from(cluster, || Command::new(&binary))
    }

    /// The same with a server that is started by another command; its arguments are added.
    pub fn install_from(cluster: &Cluster, webhook: impl Fn() -> Command) -> Result<Self> {
        let folder = cluster.folder().join("tidewaiter");
        fs::create_dir_all(&folder)?;
        let pair = tls::pair(&["127.0.0.1", "localhost"])?;
        fs::write(folder.join("tls.crt"), &pair.certificate)?;
        fs::write(folder.join("tls.key"), &pair.key)?;

        let crds = host::output(webhook().arg("crds"))?;
        let apply = |objects: &str| -> Result<()> {
            let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], objects)?;
            ensure!(said.ok, "{}", said.stderr);
            Ok(())
        };
        apply(&crds)?;
        cluster.until("Tidewaiter's CRDs are served", Duration::from_secs(30), || {
            let wait = [
                "wait",
                "--for=condition=Established",
                "crd/storagebackends.tidewaiter.dev",
                "crd/wasmpolicies.tidewaiter.dev",
            ];
            cluster.kubectl(&wait).map(Some)
        })?;
        apply(&backend())?;
        cluster.processes().start(
            "tidewaiter",
            webhook()
                .env("KUBECONFIG", cluster.kubeconfig())
                .args(["--listen", LISTEN, "--metrics-listen", OBSERVE, "--log-format", "text"])
                .arg("--tls-cert")
                .arg(folder.join("tls.crt"))
                .arg("--tls-key")
                .arg(folder.join("tls.key"))
                .arg("--cache-dir")
                .arg(folder.join("compiled")),
        )?;
        let tidewaiter = Self {
            cluster: cluster.clone(),
        };
        tidewaiter.wait_until_ready()?;
        for order in [Order::AfterKserve, Order::BeforeKserve] {
            apply(&configurations(order, &pair.bundle()).to_string())?;
        }
        Ok(tidewaiter)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let ready = self.cluster.until("Tidewaiter is ready", Duration::from_mins(2), || {
            let answer = observe("/readyz")?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            Ok(Some(()))
        });
        ready.with_context(|| self.last_lines())
    }

    /// The end of the server's log.
    pub fn last_lines(&self) -> String {
        self.cluster.processes().last_lines("tidewaiter", 30)
    }

    /// The server's metrics, in Prometheus' text form.
    pub fn metrics(&self) -> Result<String> {
        observe("/metrics")
    }
}

/// A request by hand: the answer is short and the connection the test's own.
fn observe(path: &str) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(OBSERVE)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {OBSERVE}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// MinIO, as an admin would describe it: a namespace may use its own folder, and what all share. A second bucket's credentials come by
/// ServiceAccount, a third's by storage key.
fn backend() -> String {
    let one = |name: &str, bucket: &str, delivery: &str| {
        format!(
            r##"apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata:
  name: {name}
spec:
  type: s3
  serves: ["s3://{bucket}/"]
  s3:
    endpoint: http://{HOST}:{MINIO_PORT}
    region: us-east-1
  credentials:
    secretRef: {{namespace: tidewaiter-system, name: minio-root}}
  delivery: {delivery}
  grants:
    - namespaces: ["*"]
      prefixes: ["s3://{bucket}/{{namespace}}/", "s3://{bucket}/shared/"]
  contact: "#ml-platform"
---
"##
        )
    };
    let secret = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: tidewaiter-system\n---\napiVersion: v1\nkind: Secret\nmetadata:\n  \
         namespace: tidewaiter-system\n  name: minio-root\nstringData:\n  rootUser: {MINIO_USER}\n  rootPassword: {MINIO_USER}\n"
    );
    one("minio", "mlflow", "annotation")
        + &one("minio-accounts", "accounts", "serviceAccount")
        + &one("minio-keys", "keys", "storageKey")
        + &secret
}

/// The configurations as the chart will have them, but for `failurePolicy`: in a test a failure must show.
fn configurations(order: Order, bundle: &str) -> Value {
    let rules = json!([{
        "apiGroups": ["serving.kserve.io"],
        "apiVersions": ["v1beta1", "v1alpha1", "v1alpha2"],
        "resources": ["inferenceservices", "llminferenceservices"],
        "operations": ["CREATE", "UPDATE"],
        "scope": "Namespaced",
    }]);
    let conditions = json!([
        {"name": "not-leaving", "expression": "!has(object.metadata.deletionTimestamp)"},
        {"name": "not-standing-still", "expression":
            "oldObject == null || !has(oldObject.spec) || !has(object.spec) || object.spec != oldObject.spec \
             || has(object.metadata.annotations) != has(oldObject.metadata.annotations) \
             || (has(object.metadata.annotations) && object.metadata.annotations != oldObject.metadata.annotations)"},
    ]);
    // Namespaces say which order they are reviewed in; without a label it is the usual one.
    let operator = if order == Order::AfterKserve { "NotIn" } else { "In" };
    let webhook = |path: &str| {
        json!({
            "name": format!("{path}.tidewaiter.dev"),
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://{LISTEN}/{path}"), "caBundle": bundle},
            "rules": rules,
            "matchConditions": conditions,
            "failurePolicy": "Fail",
            "timeoutSeconds": 5,
            "sideEffects": "NoneOnDryRun",
            "objectSelector": {"matchExpressions": [{"key": "tidewaiter.dev/ignore", "operator": "DoesNotExist"}]},
            "namespaceSelector": {"matchExpressions": [
                {"key": WITHOUT, "operator": "DoesNotExist"},
                {"key": "tidewaiter-e2e/order", "operator": operator, "values": [Order::BeforeKserve.label()]},
            ]},
        })
    };
    let mut mutating = webhook("mutate");
    mutating["reinvocationPolicy"] = json!("IfNeeded");
    let name = order.configuration();
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": name}, "webhooks": [mutating]},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": name}, "webhooks": [webhook("validate")]},
    ]})
}
