//! Wishes, model and storage URI to the object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::API_VERSION;
use super::choose::{Chosen, REST_PORT, choose, format_name};
use super::error::WishError;
use super::facts::Facts;
use super::loadable::loadable;
use super::name::checked_name;
use super::packages;
use super::wishes::{Container, DeploymentMode, Protocol, Resources, ScaleMetric, Wishes};
use crate::model::{Framework, Model};

const MODE: &str = "serving.kserve.io/deploymentMode";
const AUTOSCALER: &str = "serving.kserve.io/autoscalerClass";
const GPU: &str = "nvidia.com/gpu";
/// The container that KServe takes for the server.
const CONTAINER: &str = "kserve-container";

/// An object for KServe, and what was decided on the way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The service's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The InferenceService. Only what was wished for, or follows from it.
    pub object: Value,
    /// How the model is served; none for an image of the user's own.
    pub chosen: Option<Chosen>,
    /// What the user should know.
    pub remarks: Vec<String>,
}

/// Makes the object. `uri` is where the model lies; an image of the user's own needn't have one. `pins`: as for [`choose`].
///
/// # Errors
/// A wish that KServe or this cluster can't fulfil.
pub fn build(
    wishes: &Wishes,
    model: &Model,
    uri: Option<&str>,
    namespace: &str,
    facts: &Facts,
    pins: bool,
) -> Result<Built, WishError> {
    let name = wishes.name.as_deref().ok_or(WishError::NoName)?;
    let name = checked_name(name, namespace)?;
    let mode = facts.mode(wishes.deployment_mode);
    if wishes.protocol == Some(Protocol::Both) && mode == DeploymentMode::Knative {
        return Err(WishError::BothInKnative);
    }
    agree(wishes, mode, facts)?;
    let containers = [&wishes.transformer, &wishes.explainer].into_iter().flatten();
    for uri in containers
        .filter_map(|container| container.storage_uri.as_deref())
        .chain(uri)
    {
        loadable(uri)?;
    }
    let (server, chosen) = if let Some(image) = &wishes.image {
        (own_image(wishes, image, uri), None)
    } else {
        let chosen = choose(wishes, model, namespace, facts, pins)?;
        packages::check(wishes, model, facts.runtimes.named(namespace, &chosen.runtime))?;
        (runtime(wishes, model, uri, &chosen), Some(chosen))
    };
    let mut predictor = server;
    scale(
        &mut predictor,
        &replicas(wishes.min_replicas, wishes.max_replicas, wishes.scale_to_zero),
    );
    if let Some(target) = wishes.scale_target {
        predictor.insert("scaleTarget".to_owned(), json!(target));
    }
    if let Some(metric) = wishes.scale_metric {
        predictor.insert("scaleMetric".to_owned(), json!(metric.as_str()));
    }
    if let Some(seconds) = wishes.timeout {
        predictor.insert("timeout".to_owned(), json!(seconds));
    }
    if let Some(account) = &wishes.service_account_name {
        predictor.insert("serviceAccountName".to_owned(), json!(account));
    }
    if !wishes.node_selector.is_empty() {
        predictor.insert("nodeSelector".to_owned(), json!(wishes.node_selector));
    }
    if let Some(percent) = wishes.canary_traffic_percent {
        predictor.insert("canaryTrafficPercent".to_owned(), json!(percent));
    }
    let protocol_version = chosen.as_ref().map(|chosen| chosen.protocol_version.as_str());
    let mut spec = Map::from_iter([("predictor".to_owned(), Value::Object(predictor))]);
    for (role, container) in [("transformer", &wishes.transformer), ("explainer", &wishes.explainer)] {
        if let Some(container) = container {
            spec.insert(role.to_owned(), beside(wishes, container, protocol_version));
        }
    }
    let mut metadata = Map::from_iter([
        ("name".to_owned(), json!(name)),
        ("namespace".to_owned(), json!(namespace)),
    ]);
    if !wishes.labels.is_empty() {
        metadata.insert("labels".to_owned(), json!(wishes.labels));
    }
    let annotations = annotations(wishes, mode, facts);
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), json!(annotations));
    }
    let mut remarks = chosen.as_ref().map(|chosen| chosen.remarks.clone()).unwrap_or_default();
    if model.framework == Framework::Pytorch && wishes.image.is_none() {
        remarks.push("TorchServe is in limited maintenance; ONNX or Triton serve PyTorch's models too".to_owned());
    }
    Ok(Built {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        object: json!({"apiVersion": API_VERSION, "kind": "InferenceService", "metadata": metadata, "spec": spec}),
        chosen,
        remarks,
    })
}

/// Wishes that exclude each other, or what the mode can do.
fn agree(wishes: &Wishes, mode: DeploymentMode, facts: &Facts) -> Result<(), WishError> {
    if facts.is_model_mesh {
        return Err(WishError::contradiction(
            "the service is served by ModelMesh, which this command leaves alone: ModelMesh is no part of KServe any more",
            "deploy the model by another name: --name",
        ));
    }
    if let Some(deployed) = facts.deployed_as
        && deployed != mode
    {
        return Err(WishError::contradiction(
            format!(
                "the service runs in {} mode already, and KServe never changes a service's mode",
                facts.mode_name(deployed)
            ),
            "leave --deployment-mode out, or deploy it under another name",
        ));
    }
    if wishes.image.is_some() && (wishes.runtime.is_some() || wishes.runtime_version.is_some()) {
        return Err(WishError::contradiction(
            "an image of your own has no serving runtime",
            "leave out either --image, or --runtime and --runtime-version",
        ));
    }
    if wishes.secret.is_some() && wishes.service_account_name.is_some() {
        return Err(WishError::contradiction(
            "a Secret that opens the store and a ServiceAccount of one's own exclude each other",
            "leave out either --secret, or --service-account: KServe takes the store's keys from the one or the other",
        ));
    }
    let (fewest, most) = replicas(wishes.min_replicas, wishes.max_replicas, wishes.scale_to_zero);
    if wishes.scale_to_zero == Some(true) && wishes.min_replicas.is_some_and(|fewest| fewest > 0) {
        return Err(WishError::contradiction(
            "scaling to zero and a smallest number of replicas exclude each other",
            "leave out either --scale-to-zero or --min-replicas",
        ));
    }
    // Zero means to KServe that there is no limit.
    if let (Some(fewest), Some(most)) = (fewest, most.filter(|&most| most > 0))
        && fewest > most
    {
        return Err(WishError::contradiction(
            format!("{fewest} replicas at least and {most} at most exclude each other"),
            "make --max-replicas the larger one",
        ));
    }
    let keda = wishes.annotations.get(AUTOSCALER).is_some_and(|class| class == "keda");
    if fewest == Some(0) && mode == DeploymentMode::Standard && !keda {
        return Err(WishError::contradiction(
            "a service doesn't scale to zero in Standard mode: its autoscaler keeps one Pod",
            "where Knative is installed use --deployment-mode Knative, with KEDA --annotation serving.kserve.io/autoscalerClass=keda; \
             or stop the service while nobody needs it",
        ));
    }
    if let Some(metric) = wishes.scale_metric
        && metric.is_knatives() != (mode == DeploymentMode::Knative)
    {
        let (mode, metrics) = match mode {
            DeploymentMode::Knative => ("Knative", "concurrency or rps"),
            DeploymentMode::Standard => ("Standard", "cpu or memory"),
        };
        return Err(WishError::contradiction(
            format!("in {mode} mode nothing scales by {}", metric.as_str()),
            format!("choose --scale-metric {metrics}"),
        ));
    }
    let is_percent = mode == DeploymentMode::Standard && wishes.scale_metric != Some(ScaleMetric::Memory);
    if let Some(target) = wishes.scale_target
        && (target == 0 || (is_percent && target > 100))
    {
        return Err(WishError::contradiction(
            format!("{target} is no target to scale by"),
            if is_percent {
                "say how many per cent of the requested CPU, from 1 to 100"
            } else {
                "choose 1 or more"
            },
        ));
    }
    if let Some(percent) = wishes.canary_traffic_percent {
        if percent > 100 {
            return Err(WishError::contradiction(
                format!("{percent} per cent is more than all"),
                "choose 0 to 100",
            ));
        }
        if mode == DeploymentMode::Standard {
            return Err(WishError::contradiction(
                "the share of a canary is Knative's to give: in Standard mode `canaryTrafficPercent` does nothing",
                "deploy it under another name; from KServe 0.20 on `tidewaiter split` sets two models beside each other in Standard mode",
            ));
        }
    }
    Ok(())
}

fn replicas(fewest: Option<u32>, most: Option<u32>, to_zero: Option<bool>) -> (Option<u32>, Option<u32>) {
    (if to_zero == Some(true) { Some(0) } else { fewest }, most)
}

fn scale(component: &mut Map<String, Value>, (fewest, most): &(Option<u32>, Option<u32>)) {
    if let Some(fewest) = fewest {
        component.insert("minReplicas".to_owned(), json!(fewest));
    }
    if let Some(most) = most {
        component.insert("maxReplicas".to_owned(), json!(most));
    }
}

/// A model that a runtime serves.
fn runtime(wishes: &Wishes, model: &Model, uri: Option<&str>, chosen: &Chosen) -> Map<String, Value> {
    let mut server = container(&wishes.env, &wishes.args, &resources(wishes));
    server.insert("modelFormat".to_owned(), json!({"name": format_name(model.framework)}));
    server.insert("protocolVersion".to_owned(), json!(chosen.protocol_version));
    if let Some(uri) = uri {
        server.insert("storageUri".to_owned(), json!(uri));
    }
    if let Some((runtime, version)) = &chosen.pin {
        server.insert("runtime".to_owned(), json!(runtime));
        if let Some(version) = version {
            server.insert("runtimeVersion".to_owned(), json!(version));
        }
    }
    let ports = ports(wishes.protocol, chosen.grpc_port);
    if !ports.is_empty() {
        server.insert("ports".to_owned(), json!(ports));
    }
    Map::from_iter([("model".to_owned(), Value::Object(server))])
}

/// What KServe's Service, or Knative's, is to lead to. For REST nothing: 8080 is what both take by themselves. A Service of a Deployment leads from port 80 to
/// the first port, and from each other one to itself (`service_reconciler.go`), so that the first is what the ingress reaches. `h2c` is what Knative knows gRPC by.
fn ports(protocol: Option<Protocol>, grpc: u16) -> Vec<Value> {
    let port = |name: &str, number: u16| json!({"name": name, "containerPort": number, "protocol": "TCP"});
    match protocol.unwrap_or(Protocol::Rest) {
        Protocol::Rest => Vec::new(),
        Protocol::Grpc => vec![port("h2c", grpc)],
        Protocol::Both => vec![port("http", REST_PORT), port("grpc", grpc)],
    }
}

/// An image of the user's own: KServe knows its model by `STORAGE_URI` alone, and downloads it to `/mnt/models`.
fn own_image(wishes: &Wishes, image: &str, uri: Option<&str>) -> Map<String, Value> {
    let mut env = wishes.env.clone();
    if let Some(uri) = uri {
        env.insert("STORAGE_URI".to_owned(), uri.to_owned());
    }
    let mut server = container(&env, &wishes.args, &resources(wishes));
    server.insert("name".to_owned(), json!(CONTAINER));
    server.insert("image".to_owned(), json!(image));
    let ports = ports(wishes.protocol, 9000);
    if !ports.is_empty() {
        server.insert("ports".to_owned(), json!(ports));
    }
    Map::from_iter([("containers".to_owned(), json!([server]))])
}

/// A transformer or explainer.
fn beside(wishes: &Wishes, side: &Container, protocol_version: Option<&str>) -> Value {
    let mut env = side.env.clone();
    if let Some(uri) = &side.storage_uri {
        env.insert("STORAGE_URI".to_owned(), uri.clone());
    }
    let mut args = side.args.clone();
    // KServe's SDK asks the predictor in v1 where nothing else is said, and by REST in v2 (`PredictorProtocol`, `kserve/constants/constants.py`).
    let protocol = match (wishes.protocol, protocol_version) {
        (Some(Protocol::Grpc), _) | (_, Some("grpc-v2")) => Some("grpc-v2"),
        (_, Some("v2")) => Some("v2"),
        _ => None,
    };
    if let Some(protocol) = protocol
        && !args.iter().any(|arg| arg.starts_with("--predictor_protocol"))
    {
        args.extend(["--predictor_protocol".to_owned(), protocol.to_owned()]);
    }
    let mut server = container(&env, &args, &side.resources);
    server.insert("name".to_owned(), json!(CONTAINER));
    server.insert("image".to_owned(), json!(side.image));
    if !side.command.is_empty() {
        server.insert("command".to_owned(), json!(side.command));
    }
    let mut component = Map::from_iter([("containers".to_owned(), json!([server]))]);
    scale(&mut component, &(side.min_replicas, side.max_replicas));
    if let Some(account) = &wishes.service_account_name {
        component.insert("serviceAccountName".to_owned(), json!(account));
    }
    Value::Object(component)
}

/// What every server has. When it ends in an error, the end of its log is kept in the Pod's status, for whoever may not read logs.
fn container(env: &BTreeMap<String, String>, args: &[String], resources: &Resources) -> Map<String, Value> {
    let mut server = Map::new();
    if !env.is_empty() {
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        server.insert("env".to_owned(), json!(env));
    }
    if !args.is_empty() {
        server.insert("args".to_owned(), json!(args));
    }
    if !resources.is_empty() {
        server.insert("resources".to_owned(), json!(resources));
    }
    server.insert("terminationMessagePolicy".to_owned(), json!("FallbackToLogsOnError"));
    server
}

/// A GPU has to be in both, and as many.
pub(super) fn resources(wishes: &Wishes) -> Resources {
    let mut resources = wishes.resources.clone();
    if let Some(gpus) = wishes.gpus {
        let name = wishes.gpu_resource.as_deref().unwrap_or(GPU);
        for list in [&mut resources.requests, &mut resources.limits] {
            list.insert(name.to_owned(), gpus.to_string());
        }
    }
    resources
}

/// The user's own, the mode where it was wished for or isn't the cluster's default, and what scaling by CPU or memory needs: KServe's validator takes every service
/// without a mode for Knative's, and refuses these metrics there.
fn annotations(wishes: &Wishes, mode: DeploymentMode, facts: &Facts) -> BTreeMap<String, String> {
    let mut annotations = wishes.annotations.clone();
    let scales = wishes.scale_metric.is_some() && mode == DeploymentMode::Standard;
    // An earlier deploy wrote it, and this one would take it out again: KServe fills its default in then, and refuses the service for it.
    let differs = facts.deployed_as.is_some_and(|mode| mode != facts.default_mode());
    if wishes.deployment_mode.is_some() || differs || facts.keeps_mode || scales {
        annotations
            .entry(MODE.to_owned())
            .or_insert_with(|| facts.mode_name(mode).to_owned());
    }
    if scales {
        annotations
            .entry(AUTOSCALER.to_owned())
            .or_insert_with(|| "hpa".to_owned());
    }
    annotations
}
