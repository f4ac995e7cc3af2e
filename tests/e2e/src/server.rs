//! One server process of Tidewaiter's, and the webhook configurations by which the API server asks it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::tls::Pair;
use tidewaiter_ground::{Cluster, host, tls};

use crate::volume::SecretVolume;

/// The label of a namespace that says which server reviews it: its [`Server::name`], or [`NOBODY`]. Without it the installed one does.
pub const REVIEWED_BY: &str = "tidewaiter-e2e/reviewed-by";
/// Namespaces with this value are as if Tidewaiter weren't installed.
pub const NOBODY: &str = "nobody";

/// Which server, and where it comes among the others: the API server calls mutating webhooks by the names of their configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Of the process, and of its namespaces' label.
    pub name: &'static str,
    /// Its webhooks' port; the next but one is for probes and metrics.
    pub port: u16,
    /// Its ServiceAccount in `tidewaiter-system`.
    pub account: &'static str,
    /// Whether it is asked before KServe, which then has the API server ask it once more.
    pub before_kserve: bool,
}

/// A server that is up.
#[derive(Debug)]
pub struct Server {
    cluster: Cluster,
    identity: Identity,
    volume: SecretVolume,
}

/// The server's binary: `$TIDEWAITER_WEBHOOK`, else built by cargo.
pub fn webhook_binary() -> Result<PathBuf> {
    binary("TIDEWAITER_WEBHOOK", "tidewaiter-webhook", "tidewaiter-webhook")
}

/// The label of a `StorageBackend` or `WasmPolicy` that is judged when it is written.
pub const JUDGED: &str = "judged";

/// Tells a process inside of the ground where the command is.
pub const COMMAND: &str = "TIDEWAITER_COMMAND";

/// The command's binary: `$TIDEWAITER_COMMAND`, else built by cargo.
pub fn command_binary() -> Result<PathBuf> {
    binary(COMMAND, "tidewaiter", "tidewaiter")
}

/// The built-in policies, compiled for this machine, in a folder as the image has them.
pub fn compiled_policies(folder: &Path) -> Result<()> {
    let image = binary("TIDEWAITER_IMAGE", "tidewaiter-image", "tidewaiter-image")?;
    host::run(Command::new(image).arg("--policies").arg(folder))
}

fn binary(variable: &str, package: &str, name: &str) -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os(variable) {
        return Ok(binary.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let said = host::output(Command::new(cargo).args([
        "build",
        "--package",
        package,
        "--bin",
        name,
        "--message-format",
        "json",
    ]))?;
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo built {name} and names no binary"))
}

/// A certificate for the address that the servers listen on.
pub fn certificate() -> Result<Pair> {
    tls::pair(&["127.0.0.1", "localhost"])
}

impl Server {
    /// Starts it with the rights of its account, and waits until it is ready. Nobody asks it yet.
    pub(crate) fn start(cluster: &Cluster, identity: Identity, pair: &Pair, mut webhook: Command) -> Result<Self> {
        let folder = cluster.folder().join("servers").join(identity.name);
        // Of an earlier program, where the cluster stays up.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let volume = SecretVolume::mount(&folder.join("tls"), pair)?;
        cluster.processes().start(
            identity.name,
            webhook
                .env(
                    "KUBECONFIG",
                    cluster.kubeconfig_of(crate::install::NAMESPACE, identity.account)?,
                )
                .arg("--listen")
                .arg(identity.address())
                .arg("--metrics-listen")
                .arg(identity.observe())
                .args(["--namespace", crate::install::NAMESPACE, "--identity", identity.name])
                .args(["--log-format", "text"])
                // Twice the default: a store that many tests ask on few cores is not what they are about.
                .args(["--budget", "4s"])
                .arg("--tls-cert")
                .arg(volume.certificate())
                .arg("--tls-key")
                .arg(volume.key())
                .arg("--cache-dir")
                .arg(cluster.folder().join("servers/compiled")),
        )?;
        let server = Self {
            cluster: cluster.clone(),
            identity,
            volume,
        };
        let ready = server.cluster.until("Tidewaiter is ready", Duration::from_mins(2), || {
            let answer = server.observe("/readyz")?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            Ok(Some(()))
        });
        ready.with_context(|| server.last_lines())?;
        Ok(server)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.identity.name
    }

    /// Its certificate and key.
    pub fn volume(&self) -> &SecretVolume {
        &self.volume
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        self.cluster.processes().last_lines(self.identity.name, 30)
    }

    /// A metric's value, named as in Prometheus' text form: `tidewaiter_reloads_total{what="certificate",result="ok"}`. 0 where it has none.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let metrics = self.observe("/metrics")?;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(Ok(0.0), |value| Ok(value.trim().parse()?))
    }

    /// A request by hand: the answer is short and the connection the test's own.
    fn observe(&self, path: &str) -> Result<String> {
        use std::io::{Read as _, Write as _};
        let address = self.identity.observe();
        let mut stream = std::net::TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Has the API server ask it about the namespaces that are labelled with its name, and trust these certificates.
    pub fn ask_for_its_own(&self, trusted: &[&Pair]) -> Result<()> {
        let selector = json!({"key": REVIEWED_BY, "operator": "In", "values": [self.identity.name]});
        let order = if self.identity.before_kserve { "a-" } else { "" };
        self.ask(
            &format!("{order}tidewaiter.dev.{}", self.identity.name),
            &selector,
            trusted,
        )
    }

    /// Writes the webhook configurations of this name.
    pub(crate) fn ask(&self, configuration: &str, namespaces: &Value, trusted: &[&Pair]) -> Result<()> {
        let certificates: String = trusted.iter().map(|pair| pair.certificate.as_str()).collect();
        let bundle = tls::base64(certificates.as_bytes());
        let objects = self.identity.configurations(configuration, namespaces, &bundle);
        let said = self
            .cluster
            .try_kubectl(&["apply", "--server-side", "-f", "-"], &objects.to_string())?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(())
    }
}

impl Identity {
    fn address(self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn observe(self) -> String {
        format!("127.0.0.1:{}", self.port + 2)
    }

    /// The configurations as the chart will have them, but for `failurePolicy`: in a test a failure must show.
    fn configurations(self, name: &str, namespaces: &Value, bundle: &str) -> Value {
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
            {"name": "not-stopping", "expression":
                "oldObject == null || !has(oldObject.spec) || !has(object.spec) || object.spec != oldObject.spec \
                 || !has(object.metadata.annotations) || !('serving.kserve.io/stop' in object.metadata.annotations) \
                 || object.metadata.annotations['serving.kserve.io/stop'].lowerAscii() != 'true' \
                 || object.metadata.annotations.exists(name, \
                 !(name in ['serving.kserve.io/stop', 'kubectl.kubernetes.io/last-applied-configuration']) \
                 && !(has(oldObject.metadata.annotations) && name in oldObject.metadata.annotations \
                 && oldObject.metadata.annotations[name] == object.metadata.annotations[name])) \
                 || (has(oldObject.metadata.annotations) && oldObject.metadata.annotations.exists(name, \
                 !(name in ['serving.kserve.io/stop', 'kubectl.kubernetes.io/last-applied-configuration']) \
                 && !(name in object.metadata.annotations)))"},
        ]);
        let webhook = |path: &str| {
            json!({
                "name": format!("{path}.tidewaiter.dev"),
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": format!("https://{}/{path}", self.address()), "caBundle": bundle},
                "rules": rules,
                "matchConditions": conditions,
                "failurePolicy": "Fail",
                "timeoutSeconds": 5,
                "sideEffects": "NoneOnDryRun",
                "objectSelector": {"matchExpressions": [{"key": "tidewaiter.dev/ignore", "operator": "DoesNotExist"}]},
                "namespaceSelector": {"matchExpressions": [namespaces]},
            })
        };
        // As the chart has it, but only for objects that ask for it: other tests have objects that can't be used.
        let mut configuration = webhook("validate");
        configuration["name"] = json!("configuration.tidewaiter.dev");
        configuration["rules"] = json!([{
            "apiGroups": ["tidewaiter.dev"],
            "apiVersions": ["v1alpha1"],
            "resources": ["storagebackends", "wasmpolicies"],
            "operations": ["CREATE", "UPDATE"],
        }]);
        configuration["objectSelector"] = json!({"matchLabels": {JUDGED: "true"}});
        for whole in ["matchConditions", "namespaceSelector"] {
            configuration[whole].take();
        }
        let mut mutating = webhook("mutate");
        mutating["reinvocationPolicy"] = json!("IfNeeded");
        json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": name}, "webhooks": [mutating]},
            {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": name}, "webhooks": [webhook("validate"), configuration]},
        ]})
    }
}
