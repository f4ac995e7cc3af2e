//! Tidewaiter as an admin installs it: both charts of this repository, by the real helm, with Pods on the real node.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::cache::Key;
use tidewaiter_ground::{Cluster, condition, host};

use crate::install::{NAMESPACE, backends, make_up_all_models};
use crate::server::{compiled_policies, webhook_binary};

/// The name of the release, and of what it is made of.
pub const RELEASE: &str = "tidewaiter";
/// The release of the chart with the custom resource definitions.
pub const CRDS: &str = "tidewaiter-crds";
/// Where the test's own build is on the node.
const REPOSITORY: &str = "docker.io/tidewaiter/webhook";
/// Where the image has its compiled policies.
const COMPILED: &str = "usr/share/tidewaiter/policies";
/// Where the image of a replica with a wrong clock has what moves it, beside [`COMPILED`].
const CLOCK: &str = "/usr/share/tidewaiter/clock.so";
/// How long helm waits for Pods.
const TIMEOUT: &str = "5m";

/// A Pod beside those of the release, which goes when this is dropped.
#[derive(Debug)]
pub struct Replica {
    release: Release,
    name: String,
}

impl Replica {
    /// The Pod's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // A test that fails leaves none behind either.
        if let Err(error) = self.release.kubectl(&["delete", "pod", &self.name, "--wait=false"]) {
            eprintln!("the Pod {} stays: {error:#}", self.name);
        }
    }
}

/// An installed release.
#[derive(Debug, Clone)]
pub struct Release {
    cluster: Cluster,
    image: Value,
}

/// Installs both charts with these values, and waits until the Pods are ready. MinIO is there as a backend.
pub fn install_chart(cluster: &Cluster, values: &Value) -> Result<Release> {
    let release = Release {
        cluster: cluster.clone(),
        image: load_image(cluster)?,
    };
    // The admin's own: helm makes a namespace without labels, and this one refuses what isn't restricted.
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    release.apply(&namespace.to_string())?;
    release.definitions(&[])?;
    release.apply(&backends())?;
    make_up_all_models(cluster)?;
    release.upgrade(values)?;
    Ok(release)
}

/// Gives the node the image, and says the chart's values for it: `$TIDEWAITER_ARCHIVE`, the one that is shipped, by the name that the chart has for it; else
/// one with the test's own build.
fn load_image(cluster: &Cluster) -> Result<Value> {
    if let Some(archive) = env::var_os("TIDEWAITER_ARCHIVE") {
        cluster.load_archive(Path::new(&archive))?;
        return Ok(json!({"image": {"pullPolicy": "Never"}}));
    }
    let binary = webhook_binary()?;
    let tag = Key::new().with(fs::read(&binary)?).short();
    let policies = cluster.folder().join("compiled-policies");
    compiled_policies(&policies)?;
    let beside = Some((policies.as_path(), COMPILED));
    cluster.load_program(&format!("{REPOSITORY}:{tag}"), &binary, beside)?;
    Ok(json!({"image": {"repository": REPOSITORY, "tag": tag, "pullPolicy": "Never"}}))
}

/// A chart's folder.
pub fn chart(name: &str) -> String {
    let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts");
    charts.join(name).display().to_string()
}

impl Release {
    /// `helm upgrade` of the chart with the definitions, with these arguments alone.
    pub fn definitions(&self, arguments: &[&str]) -> Result<()> {
        let chart = chart(CRDS);
        let upgrade = ["upgrade", "--install", CRDS, &chart, "--namespace", NAMESPACE, "--wait"];
        self.cluster.helm(&[&upgrade[..], arguments].concat()).map(drop)
    }

    /// `helm upgrade` with these values alone, and waits until the Pods are ready.
    ///
    /// # Errors
    /// With what an admin would look at.
    pub fn upgrade(&self, values: &Value) -> Result<()> {
        let write = |name: &str, values: &Value| -> Result<String> {
            let file = self.cluster.folder().join(name);
            fs::write(&file, values.to_string())?;
            Ok(file.display().to_string())
        };
        let (image, values) = (write("image.json", &self.image)?, write("values.json", values)?);
        let arguments = ["upgrade", "--install", RELEASE, &chart(RELEASE)];
        let values = ["--values", &image, "--values", &values];
        self.helm(&[&arguments[..], &values, &["--wait", "--timeout", TIMEOUT]].concat())
    }

    /// `helm rollback` to the revision before.
    pub fn rollback(&self) -> Result<()> {
        self.helm(&["rollback", RELEASE, "--wait", "--timeout", TIMEOUT])
    }

    /// `helm uninstall`; returns when the Pods are gone.
    pub fn uninstall(&self) -> Result<()> {
        self.helm(&["uninstall", RELEASE, "--wait", "--timeout", TIMEOUT])?;
        self.cluster.until("the Pods are gone", Duration::from_mins(1), || {
            Ok(self.pods()?.is_empty().then_some(()))
        })
    }

    /// Has the Deployment run so many Pods.
    pub fn scale(&self, replicas: usize) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&["scale", "deployment", RELEASE, &replicas]).map(drop)
    }

    /// One more Pod, as the Deployment's are, whose clock is so many seconds ahead.
    pub fn replica_with_clock(&self, ahead: i64) -> Result<Replica> {
        let binary = webhook_binary()?;
        let tag = Key::new().with(fs::read(&binary)?).with(CLOCK).short();
        let folder = self.cluster.folder().join("with-clock");
        compiled_policies(&folder.join("policies"))?;
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clock.c");
        let library = folder.join("clock.so");
        host::run(
            Command::new("cc")
                .args(["-shared", "-fPIC", source, "-o"])
                .arg(&library),
        )?;
        let image = format!("{REPOSITORY}:{tag}");
        let beside = Some((folder.as_path(), "usr/share/tidewaiter"));
        self.cluster.load_program(&image, &binary, beside)?;

        let mut deployment = self.cluster.get(NAMESPACE, &format!("deployment/{RELEASE}"))?;
        let mut pod = deployment["spec"]["template"].take();
        // Without the hash of a template no ReplicaSet takes it for its own.
        let name = format!("{RELEASE}-clock{ahead}");
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["namespace"] = json!(NAMESPACE);
        pod["metadata"]["name"] = json!(name);
        let container = &mut pod["spec"]["containers"][0];
        container["image"] = json!(image);
        let env = container["env"]
            .as_array_mut()
            .context("the container has no environment")?;
        env.push(json!({"name": "LD_PRELOAD", "value": CLOCK}));
        env.push(json!({"name": "CLOCK_AHEAD", "value": ahead.to_string()}));
        self.apply(&pod.to_string())?;
        Ok(Replica {
            release: self.clone(),
            name,
        })
    }

    fn helm(&self, arguments: &[&str]) -> Result<()> {
        let all = [arguments, &["--namespace", NAMESPACE]].concat();
        let done = self.cluster.helm(&all).map(drop);
        done.map_err(|error| anyhow::anyhow!("{error:#}\n{}", self.diagnosis()))
    }

    /// kubectl in the release's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["-n", NAMESPACE], arguments].concat())
    }

    /// Applies objects to the cluster.
    pub fn apply(&self, objects: &str) -> Result<()> {
        let said = self
            .cluster
            .try_kubectl(&["apply", "--server-side", "-f", "-"], objects)?;
        ensure!(said.ok, "{}", said.stderr.trim());
        Ok(())
    }

    /// The release's Pods, but for those that are being deleted.
    pub fn pods(&self) -> Result<Vec<Value>> {
        let mut pods = self.pods_and_those_that_go()?;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(pods)
    }

    fn pods_and_those_that_go(&self) -> Result<Vec<Value>> {
        let selector = format!("app.kubernetes.io/name=tidewaiter,app.kubernetes.io/instance={RELEASE}");
        let mut list: Value = serde_json::from_str(&self.kubectl(&["get", "pods", "-l", &selector, "-o", "json"])?)?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Waits until so many Pods are ready and no other is there.
    pub fn until_ready(&self, count: usize) -> Result<Vec<Value>> {
        let what = format!("{count} Pods are ready");
        let ready = self.cluster.until(&what, Duration::from_mins(2), || {
            let pods = self.pods()?;
            let ready = pods.iter().all(|pod| condition(pod, "Ready") == Some("True"));
            Ok((ready && pods.len() == count).then_some(pods))
        });
        ready.map_err(|error| anyhow::anyhow!("{error:#}\n{}", self.diagnosis()))
    }

    /// The same, and that those which drain are gone.
    pub fn until_alone(&self, count: usize) -> Result<()> {
        self.until_ready(count)?;
        self.cluster
            .until("the Pods that drain are gone", Duration::from_mins(1), || {
                Ok((self.pods_and_those_that_go()?.len() == count).then_some(()))
            })
    }

    /// The Pod that leads; waits where the last one that did is about to go.
    pub fn leader(&self) -> Result<Value> {
        self.cluster.until("a Pod leads", Duration::from_mins(1), || {
            let lease = self.cluster.get(NAMESPACE, &format!("lease/{RELEASE}"))?;
            let holder = &lease["spec"]["holderIdentity"];
            Ok(self.pods()?.into_iter().find(|pod| pod["metadata"]["name"] == *holder))
        })
    }

    /// What the Pods wrote since each of them was made.
    pub fn logs(&self) -> Result<String> {
        let mut all = Vec::new();
        for pod in self.pods()? {
            for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or_default();
                all.extend(self.cluster.logs(&pod, name)?);
            }
        }
        Ok(all.concat())
    }

    /// A metric's value in one Pod, named as in Prometheus' text form; 0 where it has none.
    pub fn metric(&self, pod: &Value, name: &str) -> Result<f64> {
        let metrics = tidewaiter_ground::get(&format!("http://{}/metrics", metrics_address(pod)?))?;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(Ok(0.0), |value| Ok(value.trim().parse()?))
    }

    /// What an admin would look at when it doesn't come up.
    pub fn diagnosis(&self) -> String {
        let or_error = |said: Result<String>| said.unwrap_or_else(|error| format!("{error:#}"));
        let events =
            "custom-columns=KIND:.involvedObject.kind,NAME:.involvedObject.name,REASON:.reason,MESSAGE:.message";
        // What it did to each service says nothing of what went wrong.
        let logs = or_error(self.logs());
        let logs: Vec<_> = logs.lines().filter(|line| !line.contains("\"filled in\"")).collect();
        [
            or_error(self.kubectl(&["get", "deployments,pods", "-o", "wide"])),
            or_error(self.kubectl(&["get", "events", "--sort-by=.lastTimestamp", "-o", events])),
            logs[logs.len().saturating_sub(60)..].join("\n"),
        ]
        .join("\n")
    }
}

fn metrics_address(pod: &Value) -> Result<String> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let port = ports.find(|port| port["name"] == "metrics");
    let port = port.and_then(|port| port["containerPort"].as_u64());
    let address = pod["status"]["podIP"].as_str();
    let (address, port) = address.zip(port).context("the Pod has no port named metrics")?;
    Ok(format!("{address}:{port}"))
}
