//! Why a service doesn't come up, from all that is known of it.

use serde_json::Value;

use super::finding::{Cause, Finding};
use super::state::{REFUSED, SERVER, State, text};
use super::{containers, words};

/// How long a thing that others may still bring is waited for, in seconds.
pub(super) const PATIENCE: u64 = 20;
/// How long an autoscaler may take to say what it makes of a Pod that no node takes, in seconds.
const SCALING: u64 = 120;
/// How long a server that listens elsewhere may take to listen where it is asked, too, in seconds: some open one port first, and the other with the model.
const OPENING: u64 = 60;

/// The most telling reason; none where all seems well. Reasons that are certain come before others.
pub fn diagnose(state: &State) -> Option<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    found.extend(of_service(state));
    let from_now = |pod: &&Value| !state.before.contains(text(&pod["metadata"]["name"]));
    for pod in state.newest_pods().into_iter().filter(from_now) {
        found.extend(unscheduled(state, pod));
        found.extend(containers::of_pod(state, pod));
        found.extend(elsewhere(state, pod));
    }
    found.extend(not_created(state));
    if found.is_empty() {
        found.extend(not_made_before_0_16(state));
    }
    let certain = found.iter().position(|finding| finding.certain);
    match certain {
        Some(index) => Some(found.swap_remove(index)),
        None => found.into_iter().next(),
    }
}

/// What a service ran into when there is no more time: as [`diagnose`], and where that finds nothing, what a Pod that runs without getting ready lacks.
pub(super) fn at_last(state: &State) -> Option<Finding> {
    diagnose(state).or_else(|| silent(state))
}

/// What KServe's controller says of it.
fn of_service(state: &State) -> Option<Finding> {
    let namespace = state.namespace();
    let model = &state.service["spec"]["predictor"]["model"];
    let failure = &state.service["status"]["modelStatus"]["lastFailureInfo"];
    let is_invalid = state.service["status"]["modelStatus"]["transitionStatus"] == "InvalidSpec";
    if is_invalid && !state.is_behind() {
        let format = text(&model["modelFormat"]["name"]);
        let protocol = match text(&model["protocolVersion"]) {
            "" => "v1",
            protocol => protocol,
        };
        let runtime = text(&model["runtime"]);
        let message = match text(&failure["reason"]) {
            "NoSupportingRuntime" if runtime.is_empty() => {
                format!("no serving runtime in this cluster serves {format} in protocol {protocol}")
            }
            "NoSupportingRuntime" if text(&failure["message"]).contains("protocol") => {
                format!("the serving runtime {runtime} doesn't speak protocol {protocol}")
            }
            "NoSupportingRuntime" => format!("the serving runtime {runtime} doesn't serve {format}"),
            "RuntimeNotRecognized" => format!("there is no serving runtime {runtime}"),
            "RuntimeDisabled" => format!("the serving runtime {runtime} is disabled"),
            other => format!("KServe can't serve it ({other})"),
        };
        return Some(
            Finding::new(
                Cause::NoRuntime,
                message,
                "see which there are and what they speak: kubectl get clusterservingruntimes,servingruntimes; choose with --runtime and --protocol",
            )
            .seen(text(&failure["message"])),
        );
    }
    if let Some(message) = state.events("InferenceService", "ServerlessModeRejected").next_back() {
        return Some(
            Finding::new(
                Cause::NoKnative,
                "the service asks for Knative mode, and Knative isn't installed in this cluster",
                "deploy it with --deployment-mode Standard, under another name or after the service is deleted: a mode never changes",
            )
            .seen(message),
        );
    }
    if state.condition("Stopped").is_some_and(|(status, ..)| status == "True")
        || state.service["metadata"]["annotations"]["serving.kserve.io/stop"] == "true"
    {
        return Some(Finding::new(
            Cause::Stopped,
            "the service is stopped",
            format!("start it: tidewaiter start {} -n {namespace}", state.name()),
        ));
    }
    match state.condition("PredictorReady") {
        Some((_, "FailedCreate", message)) => Some(refused(state, message)),
        Some((_, "ReconcileFailed", message)) => Some(not_made(state, message)),
        _ => None,
    }
}

/// What KServe makes of the service is refused: by Knative, which checks what it is to run.
fn not_made(state: &State, message: &str) -> Finding {
    Finding::new(
        Cause::Refused,
        "KServe can't make what the service needs",
        "do what the message says, and deploy again",
    )
    .seen(message)
    .certain(state.quiet > PATIENCE)
}

/// The same from KServe before 0.16, which has an event for it and no condition. An event stays when its cause is gone: where a Pod came, it is.
fn not_made_before_0_16(state: &State) -> Option<Finding> {
    let mut pods = state.newest_pods().into_iter();
    if pods.any(|pod| !state.before.contains(text(&pod["metadata"]["name"]))) {
        return None;
    }
    let mut failures = state.events("InferenceService", "InternalError").rev();
    let message = failures.find(|message| message.contains("denied the request"))?;
    Some(not_made(state, message))
}

/// A Pod that the API server doesn't take.
fn not_created(state: &State) -> Option<Finding> {
    if !state.newest_pods().is_empty() {
        return None;
    }
    let message = state.events("ReplicaSet", "FailedCreate").next_back()?;
    Some(refused(state, message))
}

pub(super) fn refused(state: &State, message: &str) -> Finding {
    let namespace = state.namespace();
    let patient = state.quiet > PATIENCE;
    if message.contains("exceeded quota") {
        return Finding::new(
            Cause::Quota,
            format!("namespace {namespace} has used up its quota"),
            format!("ask for less (--request, --limit), delete what nobody needs, or have the quota raised: kubectl -n {namespace} describe quota"),
        )
        .seen(message);
    }
    if message.contains("must specify limits")
        || message.contains("must specify requests")
        || message.contains("failed quota")
    {
        return Finding::new(
            Cause::Quota,
            format!("the quota of namespace {namespace} wants requests and limits"),
            "give them: --request cpu=1 --request memory=2Gi --limit cpu=1 --limit memory=2Gi",
        )
        .seen(message);
    }
    if message.contains("secrets \"") && message.contains("not found") {
        let secret = between(message, "secrets \"");
        return Finding::new(
            Cause::SecretMissing,
            format!("the Secret {secret} that the service names isn't in namespace {namespace}"),
            format!("make it (tidewaiter secret create {secret} -n {namespace} …), or name another one with --secret"),
        )
        .seen(message)
        .certain(patient);
    }
    if message.contains("serviceaccount \"") && message.contains("not found") {
        let account = between(message, "serviceaccount \"");
        return Finding::new(
            Cause::SecretMissing,
            format!("the ServiceAccount {account} that the service names isn't in namespace {namespace}"),
            format!("make it (tidewaiter secret create {account} -n {namespace} … makes one with credentials), or leave --service-account out"),
        )
        .seen(message)
        .certain(patient);
    }
    if message.contains("violates PodSecurity") {
        return Finding::new(
            Cause::Refused,
            format!("namespace {namespace} admits only Pods that are more restricted than this one"),
            "use a runtime whose containers run as no root and give up all capabilities, or ask an admin",
        )
        .seen(message);
    }
    Finding::new(
        Cause::Refused,
        "the API server, or a webhook that it asks, refuses the service's Pod",
        "do what the message says, or ask whoever runs that webhook",
    )
    .seen(message)
    .certain(patient)
}

fn between<'t>(message: &'t str, before: &str) -> &'t str {
    let rest = message.split(before).nth(1).unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

/// A Pod that no node takes.
fn unscheduled(state: &State, pod: &Value) -> Option<Finding> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let condition = conditions
        .iter()
        .find(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "Unschedulable")?;
    let message = text(&condition["message"]);
    let said = |reason: &str| state.events("Pod", reason).next().is_some();
    // A node comes, by the cluster-autoscaler's word, or by that of Karpenter and of the clouds' own that are made of it.
    let more = said("TriggeredScaleUp") || said("Nominated");
    let certain = !more && (said("NotTriggerScaleUp") || state.quiet > SCALING);
    let selector = &state.service["spec"]["predictor"]["nodeSelector"];
    let wants_architecture = selector["kubernetes.io/arch"].as_str();
    let finding = if message.contains("didn't match Pod's node affinity/selector") {
        match wants_architecture {
            Some(architecture) => Finding::new(
                Cause::Architecture,
                format!("no node that is free has an {architecture} processor"),
                "see which there are (kubectl get nodes -L kubernetes.io/arch), and change or leave out --node-selector",
            ),
            None => Finding::new(
                Cause::Unschedulable,
                "no node has the labels that the Pod asks for",
                "see which there are (kubectl get nodes --show-labels), and change or leave out --node-selector",
            ),
        }
    } else if let Some(resource) = insufficient(message) {
        Finding::new(
            Cause::Unschedulable,
            format!("no node has as much {resource} free as the Pod asks for"),
            format!("ask for less (--request {resource}=…), or wait until a node is free"),
        )
    } else {
        Finding::new(
            Cause::Unschedulable,
            "no node takes the Pod",
            "do what the message says, or ask an admin for a node",
        )
    };
    Some(finding.seen(message).certain(certain))
}

/// `0/1 nodes are available: 1 Insufficient nvidia.com/gpu.`
fn insufficient(message: &str) -> Option<&str> {
    let rest = message.split("Insufficient ").nth(1)?;
    let word = rest.split([',', ' ']).next()?;
    Some(word.trim_end_matches('.'))
}

/// It runs, and its own words are that it listens elsewhere than where KServe asks.
fn elsewhere(state: &State, pod: &Value) -> Option<Finding> {
    let asked = refused_port(unheard(state, pod)?)?;
    let log = state
        .logs
        .get(&(text(&pod["metadata"]["name"]).to_owned(), SERVER.to_owned()))?;
    let (host, port, line) = words::listens_elsewhere(log, asked)?;
    let (message, next) = if port == asked {
        (
            format!("the server listens on {host}:{port}, where nobody outside of its container reaches it"),
            "have it listen on 0.0.0.0: by its arguments (--arg) or its environment (--env)".to_owned(),
        )
    } else {
        (
            format!("the server listens on port {port}, and KServe asks on port {asked}"),
            format!("have it listen on {asked}: by its arguments (--arg) or its environment (--env)"),
        )
    };
    // What its container declares may be right beside: gRPC, which is open while the model for REST is still loaded.
    let certain = state.quiet >= OPENING && (port == asked || !declares(pod, port));
    Some(Finding::new(Cause::Ports, message, next).seen(line).certain(certain))
}

/// Whether the server's container has this port among its own.
fn declares(pod: &Value, port: &str) -> bool {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers
        .filter(|container| container["name"] == SERVER)
        .filter_map(|container| container["ports"].as_array())
        .flatten();
    ports.any(|declared| port.parse::<u64>().is_ok_and(|port| declared["containerPort"] == port))
}

/// It runs, and nobody hears of it.
fn silent(state: &State) -> Option<Finding> {
    let words = state.newest_pods().into_iter().find_map(|pod| unheard(state, pod))?;
    let Some(port) = refused_port(words) else {
        let (namespace, name) = (state.namespace(), state.name());
        return Some(
            Finding::new(
                Cause::ModelNotReady,
                "the server runs, but doesn't answer that it is ready",
                format!(
                    "look at what it does (tidewaiter logs {name} -n {namespace}), or give it more time with --timeout"
                ),
            )
            .seen(words),
        );
    };
    Some(
        Finding::new(
            Cause::Ports,
            format!("the server runs, but nothing answers on port {port}, where KServe asks"),
            format!("have it listen on {port}, or give it more time with --timeout where it loads for long"),
        )
        .seen(words),
    )
}

/// What the newest question came to that a Pod's server was asked in vain, if it runs and isn't ready.
fn unheard<'s>(state: &'s State, pod: &'s Value) -> Option<&'s str> {
    let event = state.unhealthy(text(&pod["metadata"]["name"])).next_back()?;
    let mut statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let is_running = statuses.any(|status| !status["state"]["running"].is_null() && status["ready"] == false);
    is_running.then(|| text(&event["message"]))
}

/// `Readiness probe failed: dial tcp 10.88.0.24:8080: connect: connection refused`
fn refused_port(words: &str) -> Option<&str> {
    let (address, _) = words.split_once(REFUSED)?;
    address.rsplit(':').next()
}
