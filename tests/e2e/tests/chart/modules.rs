//! A policy that the chart's Pods fetch themselves: from the real registry, by TLS of a private authority, with a password, through a mirror. And what each
//! of them has of it once the registry is away.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::Release;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_e2e::load::service;
use tidewaiter_e2e::policy::{self, unruly_in};
use tidewaiter_e2e::registry::{PASSWORD, PullSecret, Shop, USER, push};
use tidewaiter_ground::tls::Authority;
use tidewaiter_ground::{HOST, Namespace};
use tidewaiter_registry::{Credentials, Host, Limits, Pushed, Registry};
use tokio::runtime::Runtime;

use crate::faults::until_started_again;
use crate::{REPLICAS, Shape, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_policy_of_a_private_registry_reaches_each_pod_and_outlives_the_registry_on_its_disk",
        a_policy_of_a_private_registry_reaches_each_pod_and_outlives_the_registry_on_its_disk,
    ),
    (
        "a_policy_of_a_web_server_reaches_each_pod_and_is_what_its_digest_says",
        a_policy_of_a_web_server_reaches_each_pod_and_is_what_its_digest_says,
    ),
    (
        "a_mirror_gives_pods_what_its_digest_names_and_no_tag",
        a_mirror_gives_pods_what_its_digest_names_and_no_tag,
    ),
    (
        "with_a_claim_a_new_pod_needs_no_registry",
        with_a_claim_a_new_pod_needs_no_registry,
    ),
];

/// Where the registry listens.
const PORT: u16 = 5443;
/// Where one listens that lets everybody in, as a web server does.
const OPEN: u16 = 5444;
/// A registry that nobody reaches: its contents are below [`COPIES`] of the one that is there.
const AWAY: &str = "registry.away.example";
const COPIES: &str = "copies";
/// The claim of [`Shape::Claimed`], and its volume.
const CLAIM: &str = "modules";
/// The Secret with the registry's password.
const SECRET: &str = "shop";

/// The values of [`Shape::Modules`].
pub(crate) fn values(harbour: &Authority) -> Value {
    // The test's own image has no certificates of public authorities, as the one that is shipped has.
    let ca = harbour.certificate();
    json!({"modules": {
        "refreshInterval": "1s",
        "hosts": [
            {"host": address(PORT), "ca": ca},
            {"host": address(OPEN), "ca": ca},
            {"host": AWAY, "ca": ca, "mirrors": [{"at": format!("{}/{COPIES}", address(PORT))}]},
        ],
    }})
}

/// The values of [`Shape::Claimed`].
pub(crate) fn claimed(harbour: &Authority) -> Value {
    let mut values = values(harbour);
    values["cache"] = json!({"existingClaim": CLAIM});
    values
}

fn address(port: u16) -> String {
    format!("{HOST}:{port}")
}

/// The registry with the test policy in it, and a namespace that it is for.
struct Harbour<'w> {
    world: &'w World,
    shop: Shop<'w>,
    pushed: Pushed,
    namespace: Namespace,
}

impl<'w> Harbour<'w> {
    /// The policy is in this repository.
    fn open(world: &'w World, repository: &str) -> Result<Self> {
        Self::at(world, "harbour", PORT, repository)
    }

    fn at(world: &'w World, name: &'static str, port: u16, repository: &str) -> Result<Self> {
        let shop = Shop::private(&world.cluster, name, port, &world.harbour, port == PORT)?;
        let way = Host {
            host: address(port),
            ca: Some(world.harbour.certificate()),
            ..Host::default()
        };
        let known = Credentials::password(&address(port), USER, PASSWORD);
        let registry = Registry::new(vec![way], known, Limits::default())?;
        let (image, component) = (
            format!("{}/{repository}:1", address(port)),
            fs::read(policy::unruly()?)?,
        );
        Ok(Self {
            world,
            shop,
            pushed: push(&Runtime::new()?, &registry, &image, component)?,
            namespace: world.cluster.namespace("modules")?,
        })
    }

    /// The policy of this image. Where it doesn't run, what it matches is refused.
    fn policy(&self, image: &str) -> Value {
        self.policy_of(json!({"oci": {"image": image, "pullSecret": SECRET}}))
    }

    fn policy_of(&self, module: Value) -> Value {
        let name = self.namespace.name();
        let mut policy = unruly_in(name, name, &json!({"label": "here"}), "fail");
        policy["spec"]["module"] = module;
        policy
    }

    /// Waits until reviews give the label, whichever replica answers.
    fn until_used(&self) -> Result<()> {
        let (api, probe, mut in_a_row) = (
            self.world.cluster.api()?,
            service("fraud", "s3://mlflow/shared/fraud"),
            0,
        );
        self.world
            .cluster
            .until("the policy is used", Duration::from_mins(1), || {
                let answer = api.would_create(self.namespace.name(), &probe)?;
                let used = answer.body["metadata"]["labels"]["unruly"] == "here";
                in_a_row = if used { in_a_row + 1 } else { 0 };
                ensure!(used, "{}{:?}", answer.message(), answer.warnings);
                Ok((in_a_row == 10).then_some(()))
            })
    }

    /// Waits until the status says this of the policy, and more that is returned.
    fn until_it_says(&self, custom: &Custom, loaded: &str, words: &str) -> Result<String> {
        self.world.cluster.until(words, Duration::from_mins(1), || {
            let said = custom.until("Loaded", loaded)?;
            ensure!(said.contains(words), "Loaded={loaded}: {said}");
            Ok(Some(said))
        })
    }
}

/// New Pods, each with a disk of its own.
fn replace(release: &Release) -> Result<()> {
    release.kubectl(&["delete", "pods", "--selector", "app.kubernetes.io/name=tidewaiter"])?;
    release.until_alone(REPLICAS)?;
    release.leader().map(drop)
}

/// The same Pods, in which the server starts anew.
fn restart(world: &World, release: &Release) -> Result<()> {
    let pods = release.pods()?;
    for pod in &pods {
        world.cluster.kill_containers(pod)?;
    }
    until_started_again(world, &pods)?;
    release.until_ready(REPLICAS)?;
    release.leader().map(drop)
}

fn a_policy_of_a_private_registry_reaches_each_pod_and_outlives_the_registry_on_its_disk(world: &World) -> Result<()> {
    let release = world.release_in(Shape::Modules)?;
    let harbour = Harbour::open(world, "acme/house")?;
    let image = format!("{}/acme/house:1", address(PORT));
    let custom = Custom::apply(&world.cluster, &harbour.policy(&image))?;
    harbour.until_it_says(&custom, "False", "Secret/tidewaiter-system/shop isn't there")?;
    let secret = PullSecret::apply(&world.cluster, SECRET, harbour.shop.address(), "low-tide-at-dawn")?;
    harbour.until_it_says(&custom, "False", "401 Unauthorized")?;
    secret.change(PASSWORD)?;
    custom.until("Loaded", "True")?;
    harbour.until_used().with_context(|| release.diagnosis())?;

    harbour.shop.stop()?;
    let away = format!("{} doesn't answer", address(PORT));
    let said = harbour.until_it_says(&custom, "True", &away)?;
    ensure!(said.contains("the version of before is used"), "{said}");
    restart(world, &release)?;
    harbour.until_used().context("a server that starts anew in its Pod")?;

    // A Pod's disk goes with it, as docs/distribution.md says.
    replace(&release)?;
    let said = harbour.until_it_says(&custom, "False", &away)?;
    ensure!(
        said.ends_with("it doesn't run, and what it matches is refused"),
        "{said}"
    );
    let answer = world
        .cluster
        .api()?
        .would_create(harbour.namespace.name(), &service("fraud", "s3://mlflow/shared/fraud"))?;
    ensure!(!answer.admitted(), "admitted without the policy: {:?}", answer.warnings);
    harbour.shop.start()?;
    harbour.until_used().context("the registry is back")?;
    custom.until("Loaded", "True").map(drop)
}

/// A registry's blob has a URL, as a file of any web server has.
fn a_policy_of_a_web_server_reaches_each_pod_and_is_what_its_digest_says(world: &World) -> Result<()> {
    let release = world.release_in(Shape::Modules)?;
    let harbour = Harbour::at(world, "wharf", OPEN, "acme/web")?;
    let component = &harbour.pushed.digest;
    let url = format!("https://{}/v2/acme/web/blobs/{component}", address(OPEN));
    let other = format!("sha256:{}", "0".repeat(64));
    let lying = harbour.policy_of(json!({"https": {"url": url, "digest": other}}));
    let custom = Custom::apply(&world.cluster, &lying)?;
    let said = harbour.until_it_says(
        &custom,
        "False",
        &format!("{other} was announced, and {component} came"),
    )?;
    ensure!(said.contains("what it matches is refused"), "{said}");
    custom.change(&harbour.policy_of(json!({"https": {"url": url, "digest": component}})))?;
    custom.until("Loaded", "True")?;
    harbour.until_used().with_context(|| release.diagnosis())
}

fn a_mirror_gives_pods_what_its_digest_names_and_no_tag(world: &World) -> Result<()> {
    let release = world.release_in(Shape::Modules)?;
    let harbour = Harbour::open(world, &format!("{COPIES}/acme/mirrored"))?;
    let _secret = PullSecret::apply(&world.cluster, SECRET, harbour.shop.address(), PASSWORD)?;
    // What a tag leads to is for the registry to say.
    let custom = Custom::apply(&world.cluster, &harbour.policy(&format!("{AWAY}/acme/mirrored:1")))?;
    harbour.until_it_says(&custom, "False", &format!("{AWAY} doesn't answer"))?;
    custom.change(&harbour.policy(&format!("{AWAY}/acme/mirrored@{}", harbour.pushed.manifest)))?;
    custom.until("Loaded", "True")?;
    harbour.until_used().with_context(|| release.diagnosis())
}

/// A volume of the node's that outlives Pods, as a cluster's storage would make one.
fn volume(world: &World) -> Result<Value> {
    let folder = world.cluster.folder().join("modules");
    fs::create_dir_all(&folder)?;
    // A volume of this kind is not given to the Pod's group.
    fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
    let shared = json!(["ReadWriteMany"]);
    let size = json!({"storage": "1Gi"});
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": CLAIM},
            "spec": {"capacity": size, "accessModes": shared, "storageClassName": "", "hostPath": {"path": folder}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": NAMESPACE, "name": CLAIM},
            "spec": {"accessModes": shared, "storageClassName": "", "volumeName": CLAIM, "resources": {"requests": size}},
        },
    ]}))
}

fn with_a_claim_a_new_pod_needs_no_registry(world: &World) -> Result<()> {
    world.release()?.apply(&volume(world)?.to_string())?;
    let release = world.release_in(Shape::Claimed)?;
    let harbour = Harbour::open(world, "acme/kept")?;
    let _secret = PullSecret::apply(&world.cluster, SECRET, harbour.shop.address(), PASSWORD)?;
    let image = format!("{}/acme/kept:1", address(PORT));
    let custom = Custom::apply(&world.cluster, &harbour.policy(&image))?;
    custom.until("Loaded", "True")?;
    harbour.until_used().with_context(|| release.diagnosis())?;

    harbour.shop.stop()?;
    replace(&release)?;
    harbour.until_used().with_context(|| release.diagnosis())?;
    let said = harbour.until_it_says(&custom, "True", &format!("{} doesn't answer", address(PORT)))?;
    ensure!(said.contains("the version of before is used"), "{said}");
    Ok(())
}
