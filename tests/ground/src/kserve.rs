//! KServe's manager and its manifests, as its Go module carries them, in the mode without Knative.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::processes::Processes;
use crate::tools::{Kserve, Module};
use crate::{host, tls};

/// Where the manager's webhooks listen. It has no flag for the address.
const WEBHOOKS: &str = "https://127.0.0.1:9443";

/// The manager, as a process of the run.
pub(crate) const MANAGER: &str = "kserve-manager";

/// What is left out of KServe's manifests: the manager runs as a process, other controllers not at all, and nothing here issues certificates.
const LEFT_OUT: [&str; 6] = [
    "Deployment",
    "DaemonSet",
    "Certificate",
    "Issuer",
    "LLMInferenceServiceConfig",
    "Service",
];

/// What has to be there before the manager starts; its webhooks answer for the rest.
const FIRST: [&str; 8] = [
    "CustomResourceDefinition",
    "ServiceAccount",
    "ConfigMap",
    "Secret",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
];

/// Installs KServe and starts its manager; returns when its webhooks answer.
pub(crate) fn start(
    cache: &Cache,
    folder: &Path,
    kubectl: &impl Fn() -> Command,
    kubeconfig: &Path,
    processes: &Processes,
    release: Kserve,
) -> Result<()> {
    let folder = folder.join("kserve");
    let certificates = folder.join("k8s-webhook-server/serving-certs");
    fs::create_dir_all(&certificates)?;
    let pair = tls::pair(&["127.0.0.1", "localhost"])?;
    fs::write(certificates.join("tls.crt"), &pair.certificate)?;
    fs::write(certificates.join("tls.key"), &pair.key)?;

    let (first, second) = manifests(release, &pair.bundle())?;
    let apply = |name: &str, objects: Vec<Value>| -> Result<()> {
        let file = folder.join(name);
        fs::write(
            &file,
            serde_json::to_vec(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?,
        )?;
        host::run(kubectl().args(["apply", "--server-side", "-f"]).arg(&file))
    };
    host::run(kubectl().args(["create", "namespace", "kserve"]))?;
    apply("first.json", first)?;
    // The manager ends at once where its kinds aren't served yet. (`kubectl wait` gives up on an object without conditions.)
    processes.wait("established CRDs", Duration::from_mins(1), || {
        host::run(kubectl().args(["wait", "--for=condition=Established", "crd", "--all", "--timeout=10s"])).is_ok()
    })?;
    start_manager(cache, &folder, kubeconfig, processes, release)?;
    apply("second.json", second)
}

/// Starts the manager alone; returns when its webhooks answer. It looks once, when it starts, which kinds of other projects there are.
pub(crate) fn start_manager(
    cache: &Cache,
    folder: &Path,
    kubeconfig: &Path,
    processes: &Processes,
    release: Kserve,
) -> Result<()> {
    processes.start(
        MANAGER,
        Command::new(Module::Kserve(release).build(cache)?.join("kserve-manager"))
            .env("POD_NAMESPACE", "kserve")
            .env("KUBECONFIG", kubeconfig)
            .env("TMPDIR", folder)
            .args([
                "--metrics-addr",
                "127.0.0.1:8085",
                "--health-probe-addr",
                "127.0.0.1:8086",
            ]),
    )?;
    let address = WEBHOOKS.trim_start_matches("https://");
    processes.wait("KServe's webhook server", Duration::from_mins(1), || {
        std::net::TcpStream::connect(address).is_ok()
    })
}

/// The `install` folder of a release, inside its Go module.
fn install_folder(release: Kserve) -> Result<PathBuf> {
    Ok(Module::Kserve(release)
        .unpacked("github.com/kserve/kserve")?
        .join("install")
        .join(release.version()))
}

/// One definition of a custom kind of KServe's, as text: those of LLMs are megabytes. Its versions differ in little, and who would convert them doesn't run.
pub(crate) fn definition(release: Kserve, name: &str) -> Result<String> {
    let file = install_folder(release)?.join("kserve.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
    let found = text
        .split("\n---\n")
        .find(|document| top(document) == (Some("CustomResourceDefinition"), name));
    found
        .map(without_conversion)
        .with_context(|| format!("KServe {} has no {name}", release.version()))
}

/// A definition without its member `spec.conversion`: the API server then gives an object of one version out as one of the other.
fn without_conversion(definition: &str) -> String {
    let mut inside = false;
    let lines = definition.lines().filter(|line| {
        if !line.starts_with("   ") {
            inside = *line == "  conversion:";
        }
        !inside
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

fn manifests(release: Kserve, bundle: &str) -> Result<(Vec<Value>, Vec<Value>)> {
    let install = install_folder(release)?;
    let mut objects = Vec::new();
    for file in ["kserve.yaml", "kserve-cluster-resources.yaml"] {
        let file = install.join(file);
        let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
        // Most of the text is CRDs of LLMInferenceService, which are dropped unread: parsing them takes seconds.
        for document in text.split("\n---\n").filter(|document| !left_out(document)) {
            let object: Value = serde_saphyr::from_str_with_options(document, serde_saphyr::options! { budget: None })
                .with_context(|| format!("an object in {}", file.display()))?;
            if !object.is_null() {
                objects.push(fit(object, release, bundle)?);
            }
        }
    }
    Ok(objects
        .into_iter()
        .partition(|object| FIRST.iter().any(|kind| object["kind"] == *kind)))
}

/// Kind and name, by the document's own top-level lines.
fn top(document: &str) -> (Option<&str>, &str) {
    let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
    let mut metadata = document.lines().skip_while(|line| *line != "metadata:");
    let name = metadata.find_map(|line| line.strip_prefix("  name: "));
    (kind.map(str::trim), name.unwrap_or_default().trim())
}

fn left_out(document: &str) -> bool {
    let (kind, name) = top(document);
    kind.is_none_or(|kind| LEFT_OUT.contains(&kind))
        || name.contains("localmodel")
        || name.contains("llm")
        || name.contains("x-k8s.io")
        || name.contains("inferencepools")
}

/// Fits an object to this cluster: webhooks are on the loopback, the mode needs no Knative, and several model servers fit on two cores.
fn fit(mut object: Value, release: Kserve, bundle: &str) -> Result<Value> {
    let small = json!({"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"cpu": "2", "memory": "3Gi"}});
    match object["kind"].as_str().unwrap_or_default() {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
                let path = webhook["clientConfig"]["service"]["path"]
                    .as_str()
                    .context("a webhook of KServe's has no path")?
                    .to_owned();
                webhook["clientConfig"] = json!({"url": format!("{WEBHOOKS}{path}"), "caBundle": bundle});
            }
        }
        "ConfigMap" if object["metadata"]["name"] == "inferenceservice-config" => {
            edit(&mut object["data"]["deploy"], |deploy| {
                deploy["defaultDeploymentMode"] = json!(release.standard_mode());
            })?;
            edit(&mut object["data"]["inferenceService"], |service| {
                service["resource"] =
                    json!({"cpuRequest": "50m", "memoryRequest": "100Mi", "cpuLimit": "2", "memoryLimit": "3Gi"});
            })?;
            edit(&mut object["data"]["storageInitializer"], |initializer| {
                initializer["cpuRequest"] = json!("50m");
                initializer["cpuLimit"] = json!("2");
            })?;
        }
        "ClusterServingRuntime" => {
            for container in object["spec"]["containers"].as_array_mut().into_iter().flatten() {
                container["resources"] = small.clone();
            }
        }
        "ClusterStorageContainer" => object["spec"]["container"]["resources"] = small,
        _ => {}
    }
    Ok(object)
}

/// The configmap's values are JSON texts.
pub(crate) fn edit(text: &mut Value, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut value: Value = match text.as_str() {
        Some(text) => serde_json::from_str(text)?,
        None => json!({}),
    };
    change(&mut value);
    *text = json!(serde_json::to_string_pretty(&value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_loses_its_conversion_and_nothing_else() {
        let definition = "kind: A\nspec:\n  conversion:\n    strategy: Webhook\n    webhook:\n      a: 1\n  group: b\n  versions:\n  - name: v1\n";
        assert_eq!(
            without_conversion(definition),
            "kind: A\nspec:\n  group: b\n  versions:\n  - name: v1\n"
        );
    }
}
