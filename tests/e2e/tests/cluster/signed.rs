//! Signing without a key: the cluster says who a Pod is, and the real Fulcio, Rekor and time stamp authority certify it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewaiter_e2e::command::{Said, tidewaiter};
use tidewaiter_e2e::policy;
use tidewaiter_e2e::registry::Shop;
use tidewaiter_ground::HOST;
use tokio::runtime::Runtime;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "a_policy_is_signed_by_who_one_is_and_cosign_agrees",
    false,
    a_policy_is_signed_by_who_one_is_and_cosign_agrees,
)];

/// Tells a process inside of the ground, where nothing can be built, where the programs are.
pub(crate) const SIGSTORE: &str = "TIDEWAITER_SIGSTORE";
pub(crate) const COSIGN: &str = "TIDEWAITER_COSIGN";

const REGISTRY: &str = "127.0.0.1:5002";
const FULCIO: &str = "127.0.0.1:5600";
const REKOR: &str = "127.0.0.1:5603";
const TSA: &str = "127.0.0.1:5606";
const STARTS: Duration = Duration::from_mins(1);

/// A Sigstore of one's own.
struct Sigstore<'w> {
    world: &'w World,
    folder: PathBuf,
}

impl<'w> Sigstore<'w> {
    /// One that believes the API server of `issuer`.
    fn start(world: &'w World, issuer: &str, ca: &str) -> Result<Self> {
        let programs = PathBuf::from(std::env::var_os(SIGSTORE).context("nobody says where Sigstore's servers are")?);
        let folder = world.cluster.folder().join("sigstore");
        fs::create_dir_all(&folder)?;
        let key = rcgen::KeyPair::generate()?;
        fs::write(folder.join("rekor.key"), key.serialize_pem())?;
        fs::write(folder.join("rekor.pub"), key.public_key_pem())?;
        let config = json!({"OIDCIssuers": {issuer: {
            "IssuerURL": issuer, "ClientID": "sigstore", "Type": "kubernetes", "CACert": ca,
        }}});
        fs::write(folder.join("fulcio.json"), config.to_string())?;
        let sigstore = Self { world, folder };
        let start = |name: &str, arguments: &[&str]| {
            world.cluster.processes().start(
                name,
                Command::new(programs.join(name))
                    .arg("serve")
                    .args(arguments)
                    .current_dir(&sigstore.folder),
            )
        };
        let on = |address: &'static str| address.split_once(':').context("a port");
        let ((address, fulcio), (_, rekor), (_, tsa)) = (on(FULCIO)?, on(REKOR)?, on(TSA)?);
        start(
            "fulcio",
            &[
                "--ca=ephemeralca",
                "--ct-log-url=",
                "--config-path=fulcio.json",
                "--legacy-unix-domain-socket=fulcio.sock",
                "--host",
                address,
                "--port",
                fulcio,
                "--grpc-host",
                address,
                "--grpc-port=5601",
                "--metrics-port=5602",
            ],
        )?;
        start(
            "rekor",
            &[
                "--hostname",
                address,
                "--storage-dir=log",
                "--signer-filepath=rekor.key",
                "--checkpoint-interval=1s",
                "--http-address",
                address,
                "--http-port",
                rekor,
                "--grpc-port=5604",
                "--http-metrics-port=5605",
            ],
        )?;
        start(
            "timestamp-server",
            &["--disable-ntp-monitoring", "--host", address, "--port", tsa],
        )?;
        for (name, address) in [("Fulcio", FULCIO), ("Rekor", REKOR), ("the time stamp authority", TSA)] {
            let answers = || std::net::TcpStream::connect(address).is_ok();
            world
                .cluster
                .processes()
                .wait(&format!("{name} that answers"), STARTS, answers)?;
        }
        Ok(sigstore)
    }

    /// What a signer and what a verifier is told of it, as cosign writes that down.
    fn describe(&self) -> Result<()> {
        let runtime = Runtime::new()?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let get = |url: String| -> Result<String> {
            runtime.block_on(async { Ok(reqwest::get(url).await?.error_for_status()?.text().await?) })
        };
        let bundle: serde_json::Value = serde_json::from_str(&get(format!("http://{FULCIO}/api/v2/trustBundle"))?)?;
        let chain = bundle["chains"][0]["certificates"]
            .as_array()
            .context("Fulcio has no chain")?;
        let chain: String = chain.iter().filter_map(|certificate| certificate.as_str()).collect();
        fs::write(self.folder.join("fulcio.pem"), chain)?;
        fs::write(
            self.folder.join("tsa.pem"),
            get(format!("http://{TSA}/api/v1/timestamp/certchain"))?,
        )?;
        let since = "start-time=2020-01-01T00:00:00Z";
        let who = "operator=example";
        self.cosign(&[
            "trusted-root",
            "create",
            "--out=root.json",
            &format!("--fulcio=url=http://{FULCIO},certificate-chain=fulcio.pem,{since}"),
            &format!("--rekor=url=http://{REKOR},public-key=rekor.pub,{since},origin=127.0.0.1"),
            &format!("--tsa=url=http://{TSA}/api/v1/timestamp,certificate-chain=tsa.pem,{since}"),
        ])?;
        self.cosign(&[
            "signing-config",
            "create",
            "--out=services.json",
            "--rekor-config=ANY",
            "--tsa-config=ANY",
            &format!("--fulcio=url=http://{FULCIO},api-version=1,{since},{who}"),
            &format!("--rekor=url=http://{REKOR},api-version=2,{since},{who}"),
            &format!("--tsa=url=http://{TSA}/api/v1/timestamp,api-version=1,{since},{who}"),
        ])
    }

    fn run_cosign(&self, arguments: &[&str]) -> Result<Output> {
        let cosign = std::env::var_os(COSIGN).context("nobody says where cosign is")?;
        Ok(Command::new(cosign)
            .args(arguments)
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .output()?)
    }

    fn cosign(&self, arguments: &[&str]) -> Result<()> {
        let said = self.run_cosign(arguments)?;
        ensure!(
            said.status.success(),
            "cosign {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(())
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

impl Drop for Sigstore<'_> {
    fn drop(&mut self) {
        for name in ["fulcio", "rekor", "timestamp-server"] {
            if let Err(error) = self.world.cluster.processes().stop(name) {
                eprintln!("{name} may still run: {error:#}");
            }
        }
    }
}

/// The token that a Pod of this account would find in a projected volume.
fn token(world: &World, namespace: &str, audience: &str, file: &Path) -> Result<String> {
    let token = world
        .cluster
        .kubectl(&["create", "token", "release", "-n", namespace, "--audience", audience])?;
    fs::write(file, token)?;
    Ok(file.display().to_string())
}

#[allow(clippy::too_many_lines, reason = "one story")]
fn a_policy_is_signed_by_who_one_is_and_cosign_agrees(world: &World) -> Result<()> {
    let namespace = world.namespace_without("signed")?;
    let (name, issuer) = (namespace.name(), format!("https://{HOST}"));
    let kubectl = |arguments: &[&str]| world.cluster.kubectl(arguments);
    kubectl(&["create", "serviceaccount", "release", "-n", name])?;
    let open = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "issuer-for-all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:service-account-issuer-discovery"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
    });
    let said = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &open.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    let ca = world
        .cluster
        .until("the namespace has the cluster's authority", STARTS, || {
            let ca = kubectl(&[
                "get",
                "configmap",
                "kube-root-ca.crt",
                "-n",
                name,
                "--ignore-not-found",
                "-o",
                "jsonpath={.data.ca\\.crt}",
            ])?;
            Ok((!ca.is_empty()).then_some(ca))
        })?;
    let _shop = Shop::open(&world.cluster, "registry-of-signed", REGISTRY, false)?;
    let sigstore = Sigstore::start(world, &issuer, &ca)?;
    sigstore.describe()?;
    let component = policy::unruly()?.display().to_string();
    let pushed = |tag: &str| -> Result<String> {
        let image = format!("{REGISTRY}/acme/{tag}:1");
        Ok(command(world, &["push", &component, &image])?
            .ended(0)?
            .stdout
            .trim()
            .to_owned())
    };
    let services = sigstore.file("services.json");
    let sign = |image: &str, token: &str| {
        command(
            world,
            &["sign", image, "--identity-token", token, "--signing-config", &services],
        )
    };
    let root = sigstore.file("root.json");
    let verify = |image: &str, account: &str| {
        let identity = format!("https://kubernetes.io/namespaces/{name}/serviceaccounts/{account}");
        command(
            world,
            &[
                "verify",
                image,
                "--certificate-identity",
                &identity,
                "--certificate-oidc-issuer",
                &issuer,
                "--trusted-root",
                &root,
            ],
        )
    };
    let good = token(world, name, "sigstore", &sigstore.folder.join("token"))?;

    let ours = pushed("ours")?;
    let said = sign(&ours, &good)?.ended(0)?;
    ensure!(
        said.stderr
            .contains(&format!("system:serviceaccount:{name}:release (issuer {issuer})")),
        "{said:?}"
    );
    verify(&ours, "release")?.ended(0)?;
    let other = verify(&ours, "somebody")?.ended(1)?;
    ensure!(other.stderr.contains("whom it doesn't name"), "{other:?}");
    let identity = format!("https://kubernetes.io/namespaces/{name}/serviceaccounts/release");
    let by_cosign = |image: &str| {
        sigstore.cosign(&[
            "verify",
            "--insecure-ignore-sct=true",
            "--trusted-root=root.json",
            "--certificate-identity",
            &identity,
            "--certificate-oidc-issuer",
            &issuer,
            image,
        ])
    };
    by_cosign(&ours).context("cosign doesn't take our signature")?;

    let theirs = pushed("theirs")?;
    sigstore.cosign(&[
        "sign",
        "--yes",
        "--identity-token=token",
        "--signing-config=services.json",
        "--trusted-root=root.json",
        &theirs,
    ])?;
    verify(&theirs, "release")?
        .ended(0)
        .context("we don't take cosign's signature")?;

    // What goes wrong leaves nothing beside the policy.
    let unsigned = pushed("unsigned")?;
    let foreign = token(world, name, "somebody-else", &sigstore.folder.join("foreign"))?;
    let said = sign(&unsigned, &foreign)?.ended(2)?;
    ensure!(
        said.stderr.contains(&format!(
            "{FULCIO} gives no certificate for system:serviceaccount:{name}:release"
        )),
        "{said:?}"
    );
    world.cluster.processes().stop("rekor")?;
    let said = sign(&unsigned, &good)?.ended(2)?;
    ensure!(
        said.stderr.contains(&format!("{REKOR} gives no entry of its log")),
        "{said:?}"
    );
    let said = verify(&unsigned, "release")?.ended(1)?;
    ensure!(said.stderr.contains("is not signed, and it has to be"), "{said:?}");
    Ok(())
}

/// `tidewaiter policy …`
fn command(world: &World, arguments: &[&str]) -> Result<Said> {
    tidewaiter(world.cluster.kubeconfig(), &[&["policy"], arguments].concat())
}
