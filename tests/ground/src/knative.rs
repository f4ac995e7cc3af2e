//! The real Knative Serving with Kourier before it, as Pods of the manifests that their makers ship: programs from their Go modules, and Envoy from PyPI.
//! KServe then makes a Knative service of whatever asks for no other mode.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::cluster::Cluster;
use crate::tools::{Kserve, Module};
use crate::{kserve, progress, python};

/// What Knative calls the programs in its manifests, before they are built.
const UNBUILT: &str = "ko://";
const NAMESPACE: &str = "knative-serving";
const KOURIER: &str = "kourier-system";

/// The manifests' folders, each with its Go module, in the order in which what they have is needed.
const FOLDERS: [(&str, &str); 8] = [
    ("knative.dev/serving", "config/core/300-resources"),
    ("knative.dev/networking", "config"),
    ("knative.dev/caching", "config"),
    ("knative.dev/serving", "config/core"),
    ("knative.dev/serving", "config/core/200-roles"),
    ("knative.dev/serving", "config/core/configmaps"),
    ("knative.dev/net-kourier", "config"),
    ("knative.dev/serving", "config/core/webhooks"),
];
/// Knative's own Pods, once all else is there.
const DEPLOYMENTS: (&str, &str) = ("knative.dev/serving", "config/core/deployments");

/// What is left out: nothing here issues certificates or measures Pods, and nobody asks for images ahead of time.
const LEFT_OUT: [&str; 4] = ["Certificate", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Image"];

impl Cluster {
    /// Builds and fetches what [`Self::start_knative`] needs, outside of any namespace.
    pub fn prepare_knative(cache: &Cache) -> Result<()> {
        Module::Knative.build(cache)?;
        for (module, _) in FOLDERS {
            Module::Knative.unpacked(module)?;
        }
        envoy(cache).map(drop)
    }

    /// Installs it into this cluster, and has KServe use it; returns when services of it can be made. Services answer from then on, as
    /// [`Self::serve_services`] says, and Kourier's is a load balancer with an address.
    pub fn start_knative(&self) -> Result<()> {
        self.serve_services()?;
        let programs = Module::Knative.build(self.cache())?;
        progress::say("installing Knative Serving and Kourier");
        for (program, _) in Module::Knative.programs() {
            self.load_program(&image(program), &programs.join(program), None)?;
        }
        self.load_program(&image("envoy"), &envoy(self.cache())?, None)?;

        let mut objects = Vec::new();
        for (module, folder) in FOLDERS.into_iter().chain([DEPLOYMENTS]) {
            objects.extend(manifests(&Module::Knative.unpacked(module)?.join(folder))?);
        }
        let (kinds, others): (Vec<_>, Vec<_>) = objects
            .into_iter()
            .partition(|object| object["kind"] == "CustomResourceDefinition" || object["kind"] == "Namespace");
        self.apply_all(&kinds)?;
        self.until("Knative's kinds are served", Duration::from_mins(1), || {
            self.kubectl(&["wait", "--for=condition=Established", "crd", "--all"])
                .map(Some)
        })?;
        self.apply_all(&others)?;
        for namespace in [NAMESPACE, KOURIER] {
            self.until(&format!("{namespace} is up"), Duration::from_mins(3), || {
                let wait = [
                    "wait",
                    "--for=condition=Available",
                    "deployment",
                    "--all",
                    "-n",
                    namespace,
                    "--timeout=5s",
                ];
                self.kubectl(&wait).map(Some)
            })
            .with_context(|| self.kubectl(&["get", "pods", "-A", "-o", "wide"]).unwrap_or_default())?;
        }
        self.until("Knative's webhooks answer", Duration::from_mins(1), || {
            let probe = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "probe", "namespace": "default"},
                "spec": {"template": {"spec": {"containers": [{"image": image("queue")}]}}}});
            let said = self.try_kubectl(&["create", "--dry-run=server", "-f", "-"], &probe.to_string())?;
            ensure!(said.ok, "{}", said.stderr);
            Ok(Some(()))
        })?;
        self.has_an_address()?;
        self.has_kserve_use_it()
    }

    /// What a cloud does for a load balancer.
    fn has_an_address(&self) -> Result<()> {
        let address = self.get(KOURIER, "service/kourier")?["spec"]["clusterIP"].clone();
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}).to_string();
        let patch = [
            "patch",
            "service/kourier",
            "-n",
            KOURIER,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ];
        self.kubectl(&patch).map(drop)
    }

    /// As KServe's guide for Knative without Istio has it.
    fn has_kserve_use_it(&self) -> Result<()> {
        let release = self.options().kserve;
        let mut config = self.get("kserve", "configmap/inferenceservice-config")?;
        kserve::edit(&mut config["data"]["deploy"], |deploy| {
            let mode = match release {
                Kserve::V0_20 => "Knative",
                Kserve::V0_15 => "Serverless",
            };
            deploy["defaultDeploymentMode"] = json!(mode);
        })?;
        kserve::edit(&mut config["data"]["ingress"], |ingress| {
            ingress["disableIstioVirtualHost"] = json!(true);
        })?;
        let data = json!({"data": config["data"]}).to_string();
        let patch = [
            "patch",
            "configmap/inferenceservice-config",
            "-n",
            "kserve",
            "--type=merge",
            "-p",
            &data,
        ];
        self.kubectl(&patch)?;
        self.processes().stop(kserve::MANAGER)?;
        let folder = self.folder().join("kserve");
        kserve::start_manager(self.cache(), &folder, self.kubeconfig(), self.processes(), release)
    }

    fn apply_all(&self, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let said = self.try_kubectl(&["apply", "--server-side", "-f", "-"], &list)?;
        ensure!(said.ok, "{}", said.stderr);
        Ok(())
    }
}

fn envoy(cache: &Cache) -> Result<PathBuf> {
    Ok(python::site(cache, "envoy-1.40.0")?.join("envoy/_bin/envoy"))
}

fn image(program: &str) -> String {
    format!("docker.io/knative/{program}:ground")
}

/// The objects of a folder's files, fit for this cluster.
fn manifests(folder: &Path) -> Result<Vec<Value>> {
    let mut files = fs::read_dir(folder)
        .with_context(|| format!("can't read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str_with_options(document, serde_saphyr::options! { budget: None })
                .with_context(|| format!("an object in {}", file.display()))?;
            if !object.is_null() && !LEFT_OUT.iter().any(|kind| object["kind"] == *kind) {
                objects.push(fit(object));
            }
        }
    }
    Ok(objects)
}

fn fit(mut object: Value) -> Value {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match (object["kind"].as_str().unwrap_or_default(), name.as_str()) {
        ("Deployment", _) => {
            let pod = &mut object["spec"]["template"]["spec"];
            for container in pod["containers"].as_array_mut().into_iter().flatten() {
                let package = container["image"]
                    .as_str()
                    .and_then(|image| image.strip_prefix(UNBUILT));
                let program = package.and_then(|package| package.rsplit('/').next());
                let image = image(program.unwrap_or("envoy"));
                if program.is_none() {
                    container["command"] = json!(["/envoy"]);
                }
                container["image"] = json!(image);
                // Two cores have model servers to run.
                container["resources"] = json!({"requests": {"cpu": "10m", "memory": "50Mi"}});
                if let Some(container) = container.as_object_mut() {
                    // It wants a shell, which is not in the image.
                    container.remove("lifecycle");
                }
                if let Some(probe) = container.get_mut("readinessProbe") {
                    probe["initialDelaySeconds"] = json!(1);
                    probe["periodSeconds"] = json!(1);
                }
            }
        }
        ("ConfigMap", "config-deployment") => {
            object["data"]["queue-sidecar-image"] = json!(image("queue"));
            // No registry is here that could be asked.
            object["data"]["registries-skipping-tag-resolving"] = json!("index.docker.io");
        }
        ("ConfigMap", "config-network") => {
            object["data"]["ingress-class"] = json!("kourier.ingress.networking.knative.dev");
        }
        ("ConfigMap", "config-domain") => object["data"]["example.com"] = json!(""),
        // The shortest that it takes: a test waits until there is no Pod.
        ("ConfigMap", "config-autoscaler") => {
            object["data"]["stable-window"] = json!("10s");
            object["data"]["scale-to-zero-grace-period"] = json!("5s");
        }
        _ => {}
    }
    object
}
