//! The chart's network policy, in force on the node, and as tight as its values go.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::Release;
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::backend;
use tidewaiter_e2e::load::Load;
use tidewaiter_ground::images::PAUSE;
use tidewaiter_ground::slow::SlowWay;
use tidewaiter_ground::{Cluster, HOST, MINIO_PORT, Namespace, Said};

use crate::faults::EVERY;
use crate::{REPLICAS, Shape, Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "the_network_policy_lets_through_what_it_names_and_nothing_else",
    the_network_policy_lets_through_what_it_names_and_nothing_else,
)];

/// The label of namespaces that may scrape.
const SCRAPES: &str = "tidewaiter-e2e/scrapes";
/// The ports of the chart's Pods.
const WEBHOOK: u16 = 8443;
const METRICS: u16 = 8080;
/// Where MinIO is too, and what no rule names.
const FORGOTTEN: u16 = 9198;
/// The Pod of a namespace that asks others.
const PEER: &str = "peer";

/// The values of [`Shape::Closed`].
pub(crate) fn values() -> Value {
    json!({"networkPolicy": {
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {SCRAPES: "true"}}}],
        "egress": {"enabled": true, "rules": [{"to": [{"ipBlock": {"cidr": format!("{HOST}/32")}}], "ports": [{"port": MINIO_PORT}]}]},
    }})
}

fn the_network_policy_lets_through_what_it_names_and_nothing_else(world: &World) -> Result<()> {
    let release = world.release_in(Shape::Closed)?;
    world.cluster.serve_services()?;
    let scraper = peer(&world.cluster, "scraper", &json!({SCRAPES: "true"}))?;
    let stranger = peer(&world.cluster, "stranger", &json!({}))?;
    SlowWay::open(&format!("{HOST}:{FORGOTTEN}"), &format!("{HOST}:{MINIO_PORT}"))?;
    let forgotten = Store::at(world, &stranger, "forgotten", &format!("http://{HOST}:{FORGOTTEN}"))?;

    // Where nobody enforces it, it closes nothing: what is closed below, it closes.
    for pod in &release.until_ready(REPLICAS)? {
        let said = scrape(&stranger, pod)?;
        ensure!(is_scraped(&said), "{said:?}");
    }
    forgotten.until("Reachable", "True")?;

    world
        .cluster
        .while_network_policies_hold(|| {
            // Connections of before go on. These Pods have none: they come to their configuration, and one of them to the lead, through the policy.
            release.kubectl(&["delete", "pods", "--selector", "app.kubernetes.io/name=tidewaiter"])?;
            release.until_alone(REPLICAS)?;
            release.leader()?;
            lets_in(world, &release, &scraper, &stranger)?;
            lets_out(world, &stranger, &forgotten)
        })
        .with_context(|| release.diagnosis())
}

fn lets_in(world: &World, release: &Release, scraper: &Namespace, stranger: &Namespace) -> Result<()> {
    for pod in &release.until_ready(REPLICAS)? {
        let minute = Duration::from_mins(1);
        world.cluster.until("a stranger is kept from the metrics", minute, || {
            let said = scrape(stranger, pod)?;
            let is_kept_out = !said.ok && said.stderr.contains("nc: ");
            ensure!(is_kept_out, "{said:?}");
            Ok(Some(()))
        })?;
        let said = scrape(scraper, pod)?;
        ensure!(is_scraped(&said), "{said:?}");
        // An API server on another machine is a stranger to every policy too. The one of this ground is on the node, which is always let in.
        let said = connect(stranger, pod, WEBHOOK, "true")?;
        ensure!(said.ok, "the webhook's port is closed: {said:?}");
    }
    Ok(())
}

fn lets_out(world: &World, namespace: &Namespace, forgotten: &Store) -> Result<()> {
    let by_address = Store::at(world, namespace, "by-address", &format!("http://{HOST}:{MINIO_PORT}"))?;
    let by_name = Store::at(world, namespace, "by-name", &named_store(namespace)?)?;
    for store in [&by_address, &by_name] {
        store.until("Reachable", "True")?;
        store.until("CredentialsValid", "True")?;
    }
    forgotten.ask_again()?;
    forgotten.until("Reachable", "False")?;

    // The API server asks each replica, and is asked for what is to be written before an answer.
    world.until_asked()?;
    let load = Load::begin(&world.cluster, "closed", &world.model()?.1, EVERY)?;
    load.go_on(10)?;
    load.finish()?.all_at_once().map(drop)
}

/// MinIO by a way of its own.
struct Store<'a> {
    custom: Custom<'a>,
    object: Value,
}

impl<'a> Store<'a> {
    fn at(world: &'a World, namespace: &Namespace, name: &str, endpoint: &str) -> Result<Self> {
        let name = format!("{}-{name}", namespace.name());
        let mut object = backend(&name, &name, &[&format!("s3://{name}/")]);
        object["spec"]["s3"]["endpoint"] = json!(endpoint);
        let custom = Custom::apply(&world.cluster, &object)?;
        custom.until("Accepted", "True")?;
        Ok(Self { custom, object })
    }

    fn until(&self, condition: &str, status: &str) -> Result<String> {
        self.custom.until(condition, status)
    }

    /// What its status says from now on is of now.
    fn ask_again(&self) -> Result<()> {
        let mut object = self.object.clone();
        object["spec"]["contact"] = json!("#ml-network");
        self.custom.change(&object)
    }
}

/// A name for MinIO, which is no Pod.
fn named_store(namespace: &Namespace) -> Result<String> {
    let of_service = json!({"kubernetes.io/service-name": "store"});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"}, "spec": {"clusterIP": "None", "ports": [{"port": MINIO_PORT}]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "store", "labels": of_service},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": MINIO_PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [HOST]}],
        },
    ]});
    namespace.apply(&objects.to_string())?;
    Ok(format!(
        "http://store.{}.svc.cluster.local:{MINIO_PORT}",
        namespace.name()
    ))
}

/// A namespace with a Pod in it that does nothing by itself.
fn peer(cluster: &Cluster, name: &str, labels: &Value) -> Result<Namespace> {
    let namespace = cluster.namespace_with(name, labels)?;
    // Its ServiceAccount comes a moment after the namespace.
    cluster.until("a Pod is made", Duration::from_secs(30), || {
        namespace.kubectl(&["run", PEER, "--image", PAUSE]).map(Some)
    })?;
    namespace.kubectl(&["wait", "--for=condition=Ready", "--timeout=2m", "pod", PEER])?;
    Ok(namespace)
}

/// Has a namespace's Pod connect to a port, and run a script of busybox's shell whose output goes there.
fn connect(peer: &Namespace, pod: &Value, port: u16, script: &str) -> Result<Said> {
    let address = pod["status"]["podIP"].as_str().context("a Pod without an address")?;
    let exec = ["exec", "-n", peer.name(), PEER, "--", "/bin/busybox"];
    let connect = ["nc", "-w", "3", address, &port.to_string(), "-e", "/bin/busybox"];
    peer.cluster()
        .try_kubectl(&[&exec[..], &connect, &["sh", "-c", script]].concat(), "")
}

/// What is answered is in the standard error. (This busybox's own client for HTTP dies of looking up which port that has.)
fn scrape(peer: &Namespace, pod: &Value) -> Result<Said> {
    let script = r"printf 'GET /metrics HTTP/1.0\r\n\r\n'; /bin/busybox cat >&2";
    connect(peer, pod, METRICS, script)
}

fn is_scraped(said: &Said) -> bool {
    said.ok && said.stderr.contains("tidewaiter_")
}
