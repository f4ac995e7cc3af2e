//! What a user may ask for, by flags and by a `tidewaiter.yaml` alike.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidewaiter_core::quantity::Quantity;

use super::error::WishError;
use super::graph::Router;
use crate::model::Framework;

/// What is wished for. Written in YAML with KServe's own names, or the flags'; a field that doesn't exist is refused. Paths are as for flags: from where the command
/// runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Wishes {
    /// The service's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its namespace; by default that of the kubeconfig's context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The model, as `tidewaiter deploy` is told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What loads the model; by default what the model's files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework: Option<Framework>,
    /// How it is asked; by default REST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The fewest Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// The most Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
    /// No Pod while nobody asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_to_zero: Option<bool>,
    /// How much of the metric one Pod is to bear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_target: Option<u32>,
    /// Of what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_metric: Option<ScaleMetric>,
    /// Requests and limits of the model's server.
    #[serde(skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// How many GPUs a Pod gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// What a GPU is called; by default `nvidia.com/gpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_resource: Option<String>,
    /// After how many seconds a request is given up.
    #[serde(alias = "requestTimeout", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// Environment of the model's server.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Packages that the model lists and doesn't need: that the server's image is without them is no reason to refuse.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_missing: Vec<String>,
    /// Arguments of the model's server, behind those of its runtime.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Labels that a node has to have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Labels of the service, and of its Pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the service, and of its Pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How many of a hundred requests go to this version, the others to the last one that was ready.
    #[serde(alias = "canaryPercent", skip_serializing_if = "Option::is_none")]
    pub canary_traffic_percent: Option<u8>,
    /// What stands before the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transformer: Option<Container>,
    /// What explains the model's answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explainer: Option<Container>,
    /// An image of the user's own in place of a runtime; the model is in `/mnt/models`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A serving runtime by its name; by default the one that KServe chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The tag of the runtime's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// The ServiceAccount of the Pods.
    #[serde(alias = "serviceAccount", skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// A Secret in the namespace that opens the store; in place of a ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether KServe makes a Deployment or a Knative service; by default what the cluster's admin chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_mode: Option<DeploymentMode>,
    /// Where the model is uploaded to, where it has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_store: Option<String>,
    /// A function in the model's folder that answers in place of the model alone, as `module.function`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predict: Option<String>,
    /// With it: what is done to the request's data before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre: Option<String>,
    /// With it: what is done to the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post: Option<String>,
    /// With it: what loads the model from its folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<String>,
    /// For `PyTorch` weights: the Python file with the model's class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_class: Option<PathBuf>,
    /// For `PyTorch`: a handler's file, or the name of one that `TorchServe` has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// For `PyTorch`: more files that the handler reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_files: Vec<PathBuf>,
    /// For `PyTorch`: a `requirements.txt` that `TorchServe` installs when it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirements: Option<PathBuf>,
    /// For `PyTorch`: the model's version in its archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// A graph of services in place of a service: how it asks them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<Router>,
    /// With it: whom, each as [`Step::parse`](super::Step::parse) reads it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// The multi-model server that the model is added to, in place of a service of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// With it: how much memory the model takes there, as a quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

impl Wishes {
    /// Puts labels and annotations on an object.
    pub(super) fn describe(&self, object: &mut Value) {
        for (name, values) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !values.is_empty() {
                object["metadata"][name] = json!(values);
            }
        }
    }

    /// Refuses half of a graph, or of a model on another's server, what an image of the user's own has no use for, and quantities that are none. What such an object has no place for is refused when it is made.
    ///
    /// # Errors
    /// What is missing or too much, or which quantity it is.
    pub fn whole(&self) -> Result<(), WishError> {
        if self.image.is_some()
            && let Some(field) = self.of_servers()
        {
            let flag = flag(field);
            return Err(WishError::contradiction(
                format!(
                    "{flag} and --image exclude each other: {flag} is for a server that KServe knows, and an image of your own takes the model's files as they are"
                ),
                format!("leave out {flag}; or leave out --image, and the model is made ready for a server of KServe's"),
            ));
        }
        let (problem, next) = match (&self.server, &self.memory) {
            _ if self.graph.is_none() && !self.steps.is_empty() => (
                "--step names a service of a graph, and no graph was wished for".to_owned(),
                "say how it asks its services with --graph, or leave --step out",
            ),
            (None, Some(_)) => (
                "--memory says what a model takes on a multi-model server, and none was named".to_owned(),
                "name it with --server; what a service of its own may take is said with --limit memory=QUANTITY",
            ),
            (Some(server), None) => (
                format!("nobody said how much memory the model takes on {server}, which KServe wants to know"),
                "say it with --memory, such as --memory 256Mi",
            ),
            _ => return self.quantities(),
        };
        Err(WishError::contradiction(problem, next))
    }

    /// A field that is set and says how a model is made ready for `MLServer` or `TorchServe`.
    fn of_servers(&self) -> Option<&'static str> {
        let fields = [
            ("predict", self.predict.is_some()),
            ("pre", self.pre.is_some()),
            ("post", self.post.is_some()),
            ("load", self.load.is_some()),
            ("modelClass", self.model_class.is_some()),
            ("handler", self.handler.is_some()),
            ("extraFiles", !self.extra_files.is_empty()),
            ("requirements", self.requirements.is_some()),
            ("modelVersion", self.model_version.is_some()),
        ];
        fields.into_iter().find_map(|(field, is_set)| is_set.then_some(field))
    }

    /// A dry run of the client's asks nobody else.
    fn quantities(&self) -> Result<(), WishError> {
        let none = |text: &String| Quantity::parse(text).is_none();
        let sides = [("transformer's ", &self.transformer), ("explainer's ", &self.explainer)];
        let sides = sides
            .into_iter()
            .filter_map(|(whose, side)| Some((whose, &side.as_ref()?.resources)));
        let amounts = sides.chain([("", &self.resources)]).flat_map(|(whose, resources)| {
            let requests = resources.requests.iter().map(move |amount| (whose, "request", amount));
            requests.chain(resources.limits.iter().map(move |amount| (whose, "limit", amount)))
        });
        let mut wrong = amounts
            .filter(|(.., (_, text))| none(text))
            .map(|(whose, what, (name, text))| format!("the {whose}{what} `{text}` of {name} is no quantity"));
        let memory = self.memory.as_ref().filter(|text| none(text));
        let memory = memory.map(|text| format!("the memory `{text}` that the model takes is no quantity"));
        match wrong.next().or(memory) {
            Some(problem) => Err(WishError::contradiction(
                problem,
                "write it as Kubernetes does, such as 500m or 2Gi",
            )),
            None => Ok(()),
        }
    }

    /// Refuses what a kind of object has no place for. `has` are the fields that it has one for.
    ///
    /// # Errors
    /// The flags of those that it hasn't.
    pub(super) fn only(&self, kind: &str, has: &[&str]) -> Result<(), WishError> {
        let said = serde_json::to_value(self).unwrap_or_default();
        let names = said.as_object().into_iter().flat_map(serde_json::Map::keys);
        let placeless: Vec<_> = names
            .filter(|name| !has.contains(&name.as_str()))
            .map(|name| flag(name))
            .collect();
        if placeless.is_empty() {
            return Ok(());
        }
        let verb = if placeless.len() == 1 { "has" } else { "have" };
        let takes: Vec<_> = has.iter().map(|name| flag(name)).collect();
        Err(WishError::contradiction(
            format!("{} {verb} no place in {kind}", placeless.join(", ")),
            format!("leave out what it has no place for: it takes {}", takes.join(", ")),
        ))
    }
}

/// The flag that wishes for a field.
fn flag(field: &str) -> String {
    match field {
        "source" => return "SOURCE".to_owned(),
        "resources" => return "--request and --limit".to_owned(),
        "timeout" => return "--request-timeout".to_owned(),
        "args" => return "--arg".to_owned(),
        "labels" => return "--label".to_owned(),
        "annotations" => return "--annotation".to_owned(),
        "steps" => return "--step".to_owned(),
        "extraFiles" => return "--extra-file".to_owned(),
        "canaryTrafficPercent" => return "--canary-percent".to_owned(),
        "serviceAccountName" => return "--service-account".to_owned(),
        // Of a file alone.
        "gpuResource" => return "gpuResource".to_owned(),
        _ => {}
    }
    let mut flag = "--".to_owned();
    for letter in field.chars() {
        if letter.is_ascii_uppercase() {
            flag.push('-');
        }
        flag.push(letter.to_ascii_lowercase());
    }
    flag
}

/// How a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// JSON over HTTP.
    Rest,
    /// The Open Inference Protocol over gRPC.
    Grpc,
    /// Both, from one service.
    Both,
}

impl Protocol {
    /// As users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
            Self::Both => "both",
        }
    }
}

/// What is measured to decide how many Pods there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleMetric {
    /// Per cent of the requested CPU; of a Deployment.
    Cpu,
    /// Per cent of the requested memory; of a Deployment.
    Memory,
    /// Requests at the same time; with Knative.
    Concurrency,
    /// Requests a second; with Knative.
    Rps,
}

impl ScaleMetric {
    /// As KServe has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Concurrency => "concurrency",
            Self::Rps => "rps",
        }
    }

    /// Whether the metric is one of Knative's.
    pub fn is_knatives(self) -> bool {
        matches!(self, Self::Concurrency | Self::Rps)
    }
}

/// Whether KServe makes a Deployment or a Knative service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeploymentMode {
    /// A Deployment; `RawDeployment` before KServe 0.16.
    #[serde(alias = "RawDeployment")]
    Standard,
    /// A Knative service; `Serverless` before KServe 0.16.
    #[serde(alias = "Serverless")]
    Knative,
}

/// Requests and limits in Kubernetes' quantities, such as `500m` and `2Gi`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// What a node has to have free.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,
    /// What the container may take.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
}

impl Resources {
    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }
}

/// A transformer or an explainer: a container of the user's own that speaks the model's protocol. KServe adds the arguments `--model_name`,
/// `--predictor_host` and `--http_port`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// Its image.
    pub image: String,
    /// In place of the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What is downloaded into its `/mnt/models`, such as its own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,
    /// Its requests and limits.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// The fewest Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// The most Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
}
