//! etcd, the API server, the controller manager, the scheduler, MinIO: on fixed ports of the run's own network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cache::Cache;
use crate::host;
use crate::processes::Processes;
use crate::tools::Module;

/// Where Pods and the host's own processes meet: the bridge's address.
pub const HOST: &str = "10.88.0.1";
/// MinIO's port, on every address.
pub const MINIO_PORT: u16 = 9100;
/// MinIO's root user; its password is the same word.
pub const MINIO_USER: &str = "minioadmin";
/// The API server's address, on the run's own loopback.
pub(crate) const API_SERVER: &str = "https://127.0.0.1:6443";
/// The administrator's token.
pub(crate) const ADMIN: &str = "admin";
const ETCD: &str = "http://127.0.0.1:2379";
const STARTS: Duration = Duration::from_mins(2);

/// Brings the loopback up, and the bridge that Pods are attached to: MinIO has the same address for both sides from the start.
pub(crate) fn network(node: bool) -> Result<()> {
    let ip = |words: &str| host::run(Command::new("ip").args(words.split_whitespace()));
    ip("link set lo up")?;
    if !node {
        return ip(&format!("address add {HOST}/32 dev lo"));
    }
    ip("link add cni0 type bridge")?;
    ip(&format!("address add {HOST}/16 dev cni0"))?;
    ip("link set cni0 up")
}

/// Starts etcd and the API server, then what talks to it. Returns when the API server is ready.
pub(crate) fn start(cache: &Cache, folder: &Path, processes: &Processes, node: bool) -> Result<PathBuf> {
    let kubernetes = Module::Kubernetes.build(cache)?;
    let certificates = folder.join("certificates");
    fs::create_dir_all(&certificates)?;
    let key = certificates.join("service-accounts.key");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    fs::write(&key, pair.serialize_pem())?;
    fs::write(certificates.join("service-accounts.pub"), pair.public_key_pem())?;
    // Tokens need no secrecy here: nobody else is in this network.
    fs::write(
        certificates.join("tokens.csv"),
        format!("{ADMIN},admin,admin,system:masters\n"),
    )?;

    let etcd = Module::Etcd.build(cache)?;
    processes.start(
        "etcd",
        Command::new(etcd.join("etcd"))
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
    )?;
    processes.start("kube-apiserver", &mut api_server(&kubernetes, &certificates))?;
    let kubeconfig = folder.join("kubeconfig");
    fs::write(&kubeconfig, kubeconfig_text(ADMIN)?)?;
    let kubectl = kubernetes.join("kubectl");
    processes.wait("a ready API server", STARTS, || {
        host::output(
            Command::new(&kubectl)
                .arg("--kubeconfig")
                .arg(&kubeconfig)
                .args(["get", "--raw", "/readyz"]),
        )
        .is_ok_and(|said| said == "ok")
    })?;
    processes.start(
        "kube-controller-manager",
        Command::new(kubernetes.join("kube-controller-manager"))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .arg("--service-account-private-key-file")
            .arg(&key)
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

fn api_server(kubernetes: &Path, certificates: &Path) -> Command {
    let mut command = Command::new(kubernetes.join("kube-apiserver"));
    command
        .args([
            "--etcd-servers",
            ETCD,
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--secure-port=6443",
        ])
        .arg("--cert-dir")
        .arg(certificates)
        .arg("--token-auth-file")
        .arg(certificates.join("tokens.csv"))
        .arg("--service-account-key-file")
        .arg(certificates.join("service-accounts.pub"))
        .arg("--service-account-signing-key-file")
        .arg(certificates.join("service-accounts.key"))
        .args([
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
        ])
        // Without kube-proxy nothing routes a Service's address: the API server goes to the endpoints themselves.
        .args([
            "--authorization-mode=RBAC",
            "--allow-privileged",
            "--endpoint-reconciler-type=none",
            "--enable-aggregator-routing=true",
        ]);
    command
}

/// A kubeconfig of whoever has this token.
pub(crate) fn kubeconfig_text(token: &str) -> Result<String> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "ground", "cluster": {"server": API_SERVER, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "ground", "context": {"cluster": "ground", "user": "user"}}],
        "current-context": "ground",
    });
    serde_json::to_string_pretty(&config).context("a kubeconfig")
}

/// Buckets that are there from the start: MLflow's, and two whose credentials the tests deliver in other ways.
const BUCKETS: [&str; 3] = ["mlflow", "accounts", "keys"];

/// Starts MinIO. A folder in its data folder is a bucket.
pub(crate) fn minio(cache: &Cache, folder: &Path, processes: &Processes) -> Result<()> {
    let data = folder.join("minio");
    for bucket in BUCKETS {
        fs::create_dir_all(data.join(bucket))?;
    }
    processes.start(
        "minio",
        Command::new(Module::Minio.build(cache)?.join("minio"))
            .env("MINIO_ROOT_USER", MINIO_USER)
            .env("MINIO_ROOT_PASSWORD", MINIO_USER)
            .arg("server")
            .arg(&data)
            .args(["--address", &format!(":{MINIO_PORT}"), "--quiet"]),
    )
}
