//! What a Pod's containers say by how they ended, and by what they wrote.

use serde_json::Value;

use super::finding::{Cause, Finding};
use super::state::{State, ended, statuses, text};
use super::words;

const INITIALIZER: &str = "storage-initializer";

/// What is wrong with a Pod, as far as its containers tell.
pub(super) fn of_pod(state: &State, pod: &Value) -> Option<Finding> {
    // Without a download there is no model: only KServe's own Pods get one, so the container's end says the rest.
    if lacks_download(state, pod) && state.is_control_plane {
        return Some(words::not_downloaded(state));
    }
    let mut found: Option<Finding> = None;
    for status in statuses(pod) {
        if let Some(finding) = of_container(state, pod, status).map(|finding| {
            if is_before(state, status) {
                finding.certain(false)
            } else {
                finding
            }
        }) && found.as_ref().is_none_or(|found| !found.certain && finding.certain)
        {
            found = Some(finding);
        }
    }
    found
}

/// Whether the container ended before it was waited for, and will be tried again: a key or a limit may be right by now.
fn is_before(state: &State, status: &Value) -> bool {
    let at = ended(status).and_then(|ended| text(&ended["finishedAt"]).parse::<jiff::Timestamp>().ok());
    at.zip(state.since).is_some_and(|(at, since)| at < since)
}

fn of_container(state: &State, pod: &Value, status: &Value) -> Option<Finding> {
    let name = text(&status["name"]);
    let waiting = &status["state"]["waiting"];
    let reason = text(&waiting["reason"]);
    let message = text(&waiting["message"]);
    let tries = status["restartCount"].as_u64().unwrap_or_default() + 1;
    if matches!(
        reason,
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError"
    ) {
        return Some(image(pod, name, reason, message));
    }
    if reason == "CreateContainerConfigError" {
        return Some(
            Finding::new(
                Cause::SecretMissing,
                format!("the container {name} can't be made: {message}"),
                "make what is missing, or name another Secret with --secret",
            )
            .certain(message.contains("not found")),
        );
    }
    let said = [message, ended(status).map_or("", |ended| text(&ended["message"]))];
    if let Some(words) = said.iter().find(|words| words.contains("exec format error")) {
        return Some(placed(words::architecture(words), pod, name));
    }
    let log = log(state, pod, status);
    let ended = ended(status);
    if name == INITIALIZER {
        let ended = ended.filter(|ended| ended["exitCode"] != 0)?;
        if text(&ended["reason"]) == "OOMKilled" {
            let had = had(pod, "initContainers", name);
            // KServe puts the container of the one over that of the other (`storage_initializer_injector.go` of 0.15.2 and 0.20.0), and ships one with a limit.
            return Some(
                Finding::new(
                    Cause::OutOfMemory,
                    format!("the download of the model needs more memory than {had}"),
                    "have an admin raise its limit: in the ClusterStorageContainer for such URIs (kubectl get clusterstoragecontainers), or where there is none by \
                     storageInitializer.memoryLimit in KServe's ConfigMap inferenceservice-config",
                )
                .seen("OOMKilled"),
            );
        }
        return Some(words::of_initializer(state, pod, &log, tries));
    }
    let Some(ended) = ended else {
        // It runs, and for KServe's own servers that is no proof that they have a model.
        return words::of_server(state, &log).filter(|finding| finding.cause == Cause::WrongFramework);
    };
    // It may have run well for days before it was moved, or since it was killed once.
    let is_back = !status["state"]["running"].is_null() && status["ready"] == true;
    if is_back {
        return None;
    }
    if text(&ended["reason"]) == "OOMKilled" {
        let had = had(pod, "containers", name);
        // Flags go to the predictor, or a graph's router, alone.
        let (what, next) = match text(&pod["metadata"]["labels"]["component"]) {
            role @ ("transformer" | "explainer") => (
                role,
                format!(
                    "give it more than that: by `resources.limits.memory` below `{role}` in a tidewaiter.yaml (--file)"
                ),
            ),
            _ => ("server", "give it more than that: --limit memory=…".to_owned()),
        };
        return Some(
            Finding::new(
                Cause::OutOfMemory,
                format!("the {what} needs more memory than {had}"),
                next,
            )
            .seen("OOMKilled"),
        );
    }
    if let Some(finding) = words::of_server(state, &log) {
        return Some(placed(finding, pod, name));
    }
    let code = ended["exitCode"].as_i64().unwrap_or_default();
    let pod_name = text(&pod["metadata"]["name"]);
    Some(
        Finding::new(
            Cause::ServerFailed,
            format!("the container {name} ended by itself with code {code}, {tries} times"),
            format!(
                "look at its log: kubectl -n {} logs {pod_name} -c {name} --previous",
                state.namespace()
            ),
        )
        .seen(words::last_error(&log))
        .certain(tries > 3),
    )
}

/// What the container wrote: its log, else what KServe's, or our, termination message has of it.
fn log(state: &State, pod: &Value, status: &Value) -> String {
    let key = (
        text(&pod["metadata"]["name"]).to_owned(),
        text(&status["name"]).to_owned(),
    );
    let message = ended(status).map_or("", |ended| text(&ended["message"]));
    match state.logs.get(&key) {
        Some(log) if log.len() >= message.len() => log.clone(),
        _ => message.to_owned(),
    }
}

/// What another kind of processor is wrong for, and where, as far as the Pod says.
fn placed(mut finding: Finding, pod: &Value, container: &str) -> Finding {
    let (image, node) = (image_of(pod, container), text(&pod["spec"]["nodeName"]));
    if finding.cause == Cause::Architecture && !image.is_empty() && !node.is_empty() {
        finding.message = format!(
            "the programs of the image {image} are made for another kind of processor than that of node {node}"
        );
    }
    finding
}

fn image_of<'p>(pod: &'p Value, container: &str) -> &'p str {
    let specs = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let mut specs = specs.filter(|spec| spec["name"] == container);
    specs.next().map_or("", |spec| text(&spec["image"]))
}

fn image(pod: &Value, container: &str, reason: &str, message: &str) -> Finding {
    let image = image_of(pod, container);
    let denied = [
        "unauthorized",
        "authorization failed",
        "denied",
        "403 Forbidden",
        "no basic auth",
    ]
    .iter()
    .any(|word| message.contains(word));
    let next = if denied {
        "name a ServiceAccount with an imagePullSecret for it: --service-account"
    } else {
        "check its name and tag (--runtime-version, --image), and whether the nodes reach its registry"
    };
    let absent = ["not found", "manifest unknown", "InvalidImageName"]
        .iter()
        .any(|word| message.contains(word) || reason == *word);
    Finding::new(Cause::ImagePull, format!("the node can't get the image {image}"), next)
        .seen(message.chars().take(300).collect::<String>())
        .certain(reason == "ImagePullBackOff" || denied || absent)
}

/// The memory that a container may take.
fn had(pod: &Value, list: &str, container: &str) -> String {
    let mut containers = pod["spec"][list].as_array().into_iter().flatten();
    let spec = containers.find(|spec| spec["name"] == container);
    match spec.and_then(|spec| spec["resources"]["limits"]["memory"].as_str()) {
        Some(limit) => format!("the {limit} that it was given"),
        None => "its node has left".to_owned(),
    }
}

/// The service has a model to download, and the Pod nobody who does it. `pvc:` and `oci:` are mounted.
fn lacks_download(state: &State, pod: &Value) -> bool {
    let uri = state.uri();
    let mounted = uri.is_empty() || ["pvc:", "oci:"].iter().any(|scheme| uri.starts_with(scheme));
    let init = pod["spec"]["initContainers"].as_array();
    let has = init.is_some_and(|containers| containers.iter().any(|container| container["name"] == INITIALIZER));
    let is_predictors = matches!(text(&pod["metadata"]["labels"]["component"]), "" | "predictor");
    !mounted && !has && is_predictors
}
