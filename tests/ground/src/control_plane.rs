//! etcd, the API server, the controller manager, the scheduler, MinIO: on fixed ports of the run's own network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::processes::Processes;
use crate::tools::Module;
use crate::{host, minio, tls};

/// Where Pods and the host's own processes meet: the bridge's address.
pub const HOST: &str = "10.88.0.1";
/// MinIO's port, on every address.
pub const MINIO_PORT: u16 = 9100;
/// MinIO's root user; its password is the same word.
pub const MINIO_USER: &str = "minioadmin";
/// The API server's address, on the run's own loopback. The port is that of the Service `kubernetes`: see [`network`].
pub(crate) const API_SERVER: &str = "https://127.0.0.1:443";
/// The port in it, on every address.
pub(crate) const API_SERVER_PORT: u16 = 443;
/// The address of the Service `kubernetes`, the first of its range: where Pods find the API server.
pub(crate) const IN_CLUSTER: &str = "10.0.0.1";
/// The administrator's token.
pub(crate) const ADMIN: &str = "admin";
const ETCD: &str = "http://127.0.0.1:2379";
const AUTHORITY: &str = "ca.crt";
const AUDIT_POLICY: &str = "audit-policy.json";
const STARTS: Duration = Duration::from_mins(2);

/// Brings the loopback up, and the bridge that Pods are attached to: MinIO has the same address for both sides from the start.
///
/// Nothing here translates the addresses of Services. The one that every client in a Pod needs, that of the API server, is an address of
/// this network instead, and the API server listens on it.
pub(crate) fn network(node: bool) -> Result<()> {
    let ip = |words: &str| host::run(Command::new("ip").args(words.split_whitespace()));
    ip("link set lo up")?;
    ip(&format!("address add {IN_CLUSTER}/32 dev lo"))?;
    if !node {
        return ip(&format!("address add {HOST}/32 dev lo"));
    }
    // Without an address of its own a bridge has the lowest of its ports': when that Pod ends, all the others talk to nobody for eight seconds.
    ip("link add cni0 address 0a:58:0a:58:00:01 type bridge")?;
    ip(&format!("address add {HOST}/16 dev cni0"))?;
    ip("link set cni0 up")
}

/// Starts etcd and the API server, then what talks to it. Returns when the API server is ready.
pub(crate) fn start(cache: &Cache, folder: &Path, processes: &Processes, node: bool) -> Result<PathBuf> {
    let kubernetes = Module::Kubernetes.build(cache)?;
    write_certificates(folder)?;
    let kubeconfig = folder.join("kubeconfig");
    fs::write(&kubeconfig, kubeconfig_text(folder, ADMIN)?)?;
    fs::write(folder.join(AUDIT_POLICY), audit_policy().to_string())?;

    start_etcd(cache, folder, processes)?;
    start_api_server(cache, folder, processes)?;
    processes.start(
        "kube-controller-manager",
        Command::new(kubernetes.join("kube-controller-manager"))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .arg("--service-account-private-key-file")
            .arg(certificates(folder).join("service-accounts.key"))
            .arg("--root-ca-file")
            .arg(certificates(folder).join(AUTHORITY))
            .args([
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                "--controllers=*,-nodeipam,-route",
            ]),
    )?;
    if node {
        processes.start(
            "kube-scheduler",
            Command::new(kubernetes.join("kube-scheduler"))
                .arg("--kubeconfig")
                .arg(&kubeconfig)
                .args(["--leader-elect=false", "--bind-address=127.0.0.1"]),
        )?;
    }
    Ok(kubeconfig)
}

fn certificates(folder: &Path) -> PathBuf {
    folder.join("certificates")
}

/// What the API server's certificate is signed by, PEM.
pub(crate) fn authority(folder: &Path) -> Result<Vec<u8>> {
    fs::read(certificates(folder).join(AUTHORITY)).context("the certificate of the cluster's authority")
}

fn write_certificates(folder: &Path) -> Result<()> {
    let folder = certificates(folder);
    fs::create_dir_all(&folder)?;
    let accounts = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    fs::write(folder.join("service-accounts.key"), accounts.serialize_pem())?;
    fs::write(folder.join("service-accounts.pub"), accounts.public_key_pem())?;
    let authority = tls::Authority::new("ground")?;
    let server = authority.issue(&[
        "kubernetes.default.svc",
        "kubernetes.default",
        "kubernetes",
        "localhost",
        "127.0.0.1",
        IN_CLUSTER,
        HOST,
    ])?;
    fs::write(folder.join(AUTHORITY), authority.certificate())?;
    fs::write(folder.join("api-server.crt"), server.certificate)?;
    fs::write(folder.join("api-server.key"), server.key)?;
    // Tokens need no secrecy here: nobody else is in this network.
    fs::write(
        folder.join("tokens.csv"),
        format!("{ADMIN},admin,admin,system:masters\n"),
    )?;
    Ok(())
}

/// Starts etcd, with what it stored when it ran before.
pub(crate) fn start_etcd(cache: &Cache, folder: &Path, processes: &Processes) -> Result<()> {
    processes.start(
        "etcd",
        Command::new(Module::Etcd.build(cache)?.join("etcd"))
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args([
                "--listen-client-urls",
                ETCD,
                "--advertise-client-urls",
                ETCD,
                "--listen-peer-urls",
                "http://127.0.0.1:2380",
                "--unsafe-no-fsync",
            ]),
    )
}

/// Starts the API server; returns when it is ready.
pub(crate) fn start_api_server(cache: &Cache, folder: &Path, processes: &Processes) -> Result<()> {
    let kubernetes = Module::Kubernetes.build(cache)?;
    processes.start("kube-apiserver", &mut api_server(&kubernetes, folder))?;
    wait_for_api_server(cache, folder, processes)
}

/// Waits until the API server is ready: etcd answers it.
pub(crate) fn wait_for_api_server(cache: &Cache, folder: &Path, processes: &Processes) -> Result<()> {
    let kubernetes = Module::Kubernetes.build(cache)?;
    processes.wait("a ready API server", STARTS, || {
        host::output(
            Command::new(kubernetes.join("kubectl"))
                .arg("--kubeconfig")
                .arg(folder.join("kubeconfig"))
                .args(["get", "--raw", "/readyz"]),
        )
        .is_ok_and(|said| said == "ok")
    })
}

fn api_server(kubernetes: &Path, folder: &Path) -> Command {
    let certificates = certificates(folder);
    let mut command = Command::new(kubernetes.join("kube-apiserver"));
    command
        .args(["--etcd-servers", ETCD, "--bind-address=0.0.0.0", "--secure-port=443"])
        .args(["--advertise-address", HOST])
        .arg("--tls-cert-file")
        .arg(certificates.join("api-server.crt"))
        .arg("--tls-private-key-file")
        .arg(certificates.join("api-server.key"))
        .arg("--token-auth-file")
        .arg(certificates.join("tokens.csv"))
        .arg("--service-account-key-file")
        .arg(certificates.join("service-accounts.pub"))
        .arg("--service-account-signing-key-file")
        .arg(certificates.join("service-accounts.key"))
        // An address that others find it at: they may believe what a ServiceAccount's token says.
        .args(["--service-account-issuer", &format!("https://{HOST}")])
        .args([
            // A load of services makes hundreds.
            "--service-cluster-ip-range=10.0.0.0/16",
        ])
        .arg("--audit-policy-file")
        .arg(folder.join(AUDIT_POLICY))
        .arg("--audit-log-path")
        .arg(audit_log(folder))
        // In one file, which is gone with the run.
        .arg("--audit-log-maxsize=100000")
        // Without kube-proxy nothing routes a Service's address: the API server goes to the endpoints themselves.
        .args([
            "--authorization-mode=RBAC",
            "--allow-privileged",
            "--endpoint-reconciler-type=none",
            "--enable-aggregator-routing=true",
            // By the address that the node has, for logs and forwarded ports: nothing here resolves its name.
            "--kubelet-preferred-address-types=InternalIP",
        ]);
    command
}

/// Where the API server writes what was asked of it by `ServiceAccount`s.
pub(crate) fn audit_log(folder: &Path) -> PathBuf {
    folder.join("logs/audit.log")
}

/// Each request of a `ServiceAccount`, with the rule that allowed it, and without its body. Everybody else here is an administrator, who may do anything.
fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"], "omitManagedFields": true},
            {"level": "None"},
        ],
    })
}

/// A kubeconfig of whoever has this token.
pub(crate) fn kubeconfig_text(folder: &Path, token: &str) -> Result<String> {
    let authority = tls::base64(&authority(folder)?);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "ground", "cluster": {"server": API_SERVER, "certificate-authority-data": authority}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "ground", "context": {"cluster": "ground", "user": "user"}}],
        "current-context": "ground",
    });
    serde_json::to_string_pretty(&config).context("a kubeconfig")
}

/// Buckets that are there from the start: MLflow's, and two whose credentials the tests deliver in other ways.
const BUCKETS: [&str; 3] = ["mlflow", "accounts", "keys"];

/// Starts MinIO.
pub(crate) fn minio(cache: &Cache, folder: &Path, processes: &Processes) -> Result<()> {
    let data = folder.join("minio");
    for bucket in BUCKETS {
        fs::create_dir_all(data.join(bucket))?;
    }
    let mut program = Command::new(Module::Minio.build(cache)?.join("minio"));
    let server = minio::server(&mut program, MINIO_USER, &data, &format!(":{MINIO_PORT}"));
    processes.start("minio", server)
}
