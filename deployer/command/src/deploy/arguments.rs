//! The arguments of `tidewaiter deploy`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidewaiter_deployer::model::Framework;
use tidewaiter_deployer::service::{Container, DeploymentMode, Protocol, Resources, Router, ScaleMetric, Wishes};

use super::super::arguments::Format;
use super::super::stores::StoreArguments;

/// Bring a model to an endpoint that answers.
///
/// Finds the model, checks it, uploads it where it isn't in a store that KServe reads, submits an InferenceService by server-side apply, and waits until it answers. If
/// it won't, says why and what to do. What is deployed already, and the same, is left as it is.
///
/// Where Tidewaiter's webhook reviews the namespace, it brings the store's credentials. Where not, the keys given here become a Secret and a ServiceAccount for the
/// service; without any, the cluster's own identity has to open the store.
///
/// Wishes may also stand in a tidewaiter.yaml (--file, or beside a local model), with the same names as KServe's fields: minReplicas, nodeSelector, serviceAccountName.
/// Flags are stronger. docs/deploy.md has all of its fields.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(
    after_help = "Exit codes: 0 it answers, or is unchanged; 1 it was submitted and doesn't come up, or --diff shows differences; 2 an error, and nothing was submitted; 130 interrupted.

Examples:
  tidewaiter deploy models:/fraud@champion --protocol both    from MLflow, for REST and gRPC
  tidewaiter deploy s3://mlflow/fraud --name fraud --framework mlflow
  tidewaiter deploy ./model --artifact-store s3://models/ --aws-access-key-id=… --aws-secret-access-key=@key.txt --s3-endpoint http://minio:9000
  tidewaiter deploy s3://mlflow/fraud --name fraud --diff     what would change
  tidewaiter deploy s3://mlflow/fraud --dry-run=client -o yaml > fraud.yaml
  tidewaiter deploy --graph sequence --name scoring --step features --step fraud
  tidewaiter deploy --graph splitter --name ab --step fraud-a=90 --step fraud-b=10
  tidewaiter deploy s3://mlflow/fraud --framework sklearn --server many --memory 256Mi"
)]
pub(crate) struct DeployArguments {
    /// The model: models:/NAME/VERSION, models:/NAME@ALIAS, models:/m-ID, runs:/RUN/PATH, mlflow-artifacts:/PATH, s3://…, gs://…, https://….blob.core.windows.net/…, a folder or a file
    #[arg(value_name = "SOURCE", conflicts_with = "graph")]
    pub(super) source: Option<String>,
    /// What to call the service; by default after the source
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Its namespace; by default the profile's, then that of the kubeconfig's context
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// What loads the model: sklearn, xgboost, lightgbm, mlflow, onnx, tensorflow, triton, huggingface, pytorch, custom; by default what its files say
    #[arg(long, value_name = "FRAMEWORK", value_parser = |text: &str| text.parse::<Framework>().map_err(|error| error.to_string()))]
    pub(super) framework: Option<Framework>,
    /// How it is asked: rest, grpc, or both
    #[arg(long, value_name = "PROTOCOL", value_parser = word::<Protocol>)]
    pub(super) protocol: Option<Protocol>,
    /// A tidewaiter.yaml with wishes
    #[arg(long, short, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// The fewest Pods
    #[arg(long, value_name = "NUMBER")]
    pub(super) min_replicas: Option<u32>,
    /// The most Pods
    #[arg(long, value_name = "NUMBER")]
    pub(super) max_replicas: Option<u32>,
    /// No Pod while nobody asks; with Knative or KEDA
    #[arg(long)]
    pub(super) scale_to_zero: bool,
    /// How much of the metric one Pod is to bear
    #[arg(long, value_name = "NUMBER")]
    pub(super) scale_target: Option<u32>,
    /// What is scaled by: cpu or memory in Standard mode, concurrency or rps in Knative mode
    #[arg(long, value_name = "METRIC", value_parser = word::<ScaleMetric>)]
    pub(super) scale_metric: Option<ScaleMetric>,
    /// What a node has to have free, such as cpu=500m or memory=1Gi; may be given several times
    #[arg(long = "request", value_name = "NAME=QUANTITY", value_parser = pair)]
    pub(super) requests: Vec<(String, String)>,
    /// What the server may take, such as memory=2Gi; may be given several times
    #[arg(long = "limit", value_name = "NAME=QUANTITY", value_parser = pair)]
    pub(super) limits: Vec<(String, String)>,
    /// How many GPUs a Pod gets
    #[arg(long, value_name = "NUMBER")]
    pub(super) gpus: Option<u32>,
    /// After how many seconds a request is given up
    #[arg(long, value_name = "SECONDS")]
    pub(super) request_timeout: Option<u32>,
    /// Environment of the server; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) env: Vec<(String, String)>,
    /// A package that the model lists and doesn't need, so that its server may be without it; may be given several times
    #[arg(long, value_name = "PACKAGE")]
    pub(super) allow_missing: Vec<String>,
    /// An argument of the server, behind those of its runtime; may be given several times
    #[arg(long = "arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub(super) args: Vec<String>,
    /// A label that a node has to have; may be given several times
    #[arg(long, value_name = "LABEL=VALUE", value_parser = pair)]
    pub(super) node_selector: Vec<(String, String)>,
    /// A label of the service; may be given several times
    #[arg(long = "label", value_name = "LABEL=VALUE", value_parser = pair)]
    pub(super) labels: Vec<(String, String)>,
    /// An annotation of the service; may be given several times
    #[arg(long = "annotation", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) annotations: Vec<(String, String)>,
    /// How many of a hundred requests go to this version, the others to the one that was ready before; with Knative
    #[arg(long, value_name = "PERCENT")]
    pub(super) canary_percent: Option<u8>,
    /// An image that stands before the model, and calls it
    #[arg(long, value_name = "IMAGE")]
    pub(super) transformer: Option<String>,
    /// An image that explains the model's answers
    #[arg(long, value_name = "IMAGE")]
    pub(super) explainer: Option<String>,
    /// An image of your own that serves the model in /mnt/models
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["runtime", "runtime_version"])]
    pub(super) image: Option<String>,
    /// A serving runtime by its name; by default the one that fits the model
    #[arg(long, value_name = "NAME")]
    pub(super) runtime: Option<String>,
    /// The tag of the runtime's image
    #[arg(long, value_name = "TAG")]
    pub(super) runtime_version: Option<String>,
    /// The ServiceAccount of the Pods
    #[arg(long, value_name = "NAME", conflicts_with = "secret")]
    pub(super) service_account: Option<String>,
    /// A Secret in the namespace that opens the store, as `tidewaiter secret create` makes one; by default the profile's
    #[arg(long, value_name = "NAME")]
    pub(super) secret: Option<String>,
    /// Standard (a Deployment) or Knative; by default what the cluster's admin chose
    #[arg(long, value_name = "MODE", value_parser = word::<DeploymentMode>)]
    pub(super) deployment_mode: Option<DeploymentMode>,
    /// A function in the model's folder that answers, as MODULE.FUNCTION: it gets the model and the request's data
    #[arg(long, value_name = "MODULE.FUNCTION")]
    pub(super) predict: Option<String>,
    /// With --predict: what is done to the request's data before
    #[arg(long, value_name = "MODULE.FUNCTION")]
    pub(super) pre: Option<String>,
    /// With --predict: what is done to the answer
    #[arg(long, value_name = "MODULE.FUNCTION")]
    pub(super) post: Option<String>,
    /// With --predict: what loads the model from its folder
    #[arg(long, value_name = "MODULE.FUNCTION")]
    pub(super) load: Option<String>,
    /// For PyTorch weights: the Python file with the model's class
    #[arg(long, value_name = "FILE")]
    pub(super) model_class: Option<PathBuf>,
    /// For PyTorch: a handler's file, or the name of one that TorchServe has
    #[arg(long, value_name = "HANDLER")]
    pub(super) handler: Option<String>,
    /// For PyTorch: another file that the handler reads; may be given several times
    #[arg(long = "extra-file", value_name = "FILE")]
    pub(super) extra_files: Vec<PathBuf>,
    /// For PyTorch: a requirements.txt that TorchServe installs when it starts
    #[arg(long, value_name = "FILE")]
    pub(super) requirements: Option<PathBuf>,
    /// For PyTorch: the model's version in its archive; by default 1.0
    #[arg(long, value_name = "VERSION")]
    pub(super) model_version: Option<String>,
    /// Where models are uploaded to, such as s3://models/; by default the profile's
    #[arg(long, value_name = "URI")]
    pub(super) artifact_store: Option<String>,
    /// MLflow's tracking server; by default MLFLOW_TRACKING_URI, then the profile's
    #[arg(long, value_name = "URL")]
    pub(super) tracking_server: Option<String>,
    /// Where mlflow-artifacts:/ really lies: the tracking server's --artifacts-destination
    #[arg(long, value_name = "URI")]
    pub(super) artifacts_destination: Option<String>,
    #[command(flatten)]
    pub(super) store: StoreArguments,
    /// Make a graph of services in place of a service: sequence, switch, ensemble, splitter
    #[arg(long, value_name = "ROUTER", value_parser = word::<Router>)]
    pub(super) graph: Option<Router>,
    /// With --graph: a service; for a splitter SERVICE=WEIGHT, for a switch SERVICE=CONDITION, for a sequence also SERVICE=$request; may be given several times
    #[arg(long = "step", value_name = "SERVICE")]
    pub(super) steps: Vec<String>,
    /// Add the model to this multi-model server as a TrainedModel, in place of a service of its own
    #[arg(long, value_name = "SERVICE", conflicts_with = "graph")]
    pub(super) server: Option<String>,
    /// With --server: how much memory the model takes there
    #[arg(long, value_name = "QUANTITY")]
    pub(super) memory: Option<String>,
    /// How long to wait for an answer, such as 90s or 10m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(super) timeout: std::time::Duration,
    /// Submit, and don't wait
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Show what would change, and do nothing: exit code 0 for nothing, 1 for differences
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) diff: bool,
    /// client: make the object and submit nothing; server: have the API server and its webhooks check it, too
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(super) dry_run: Option<DryRun>,
    /// Print for a program: with --dry-run the object, else what became of it
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    pub(super) output: Option<Format>,
    /// Take over fields that others manage
    #[arg(long)]
    pub(super) force_conflicts: bool,
    /// The namespace that KServe runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "kserve")]
    pub(super) kserve_namespace: String,
    /// A profile; by default the current one
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// The kubeconfig; by default $KUBECONFIG, then ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; by default the profile's, then the current one
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
}

/// Who checks what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DryRun {
    /// Nobody but this command
    Client,
    /// The API server
    Server,
}

impl DeployArguments {
    /// What the flags wish for.
    pub(super) fn wishes(&self) -> Wishes {
        let map = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        let image = |image: &Option<String>| {
            image.as_ref().map(|image| Container {
                image: image.clone(),
                ..Container::default()
            })
        };
        Wishes {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            framework: self.framework,
            protocol: self.protocol,
            min_replicas: self.min_replicas,
            max_replicas: self.max_replicas,
            scale_to_zero: self.scale_to_zero.then_some(true),
            scale_target: self.scale_target,
            scale_metric: self.scale_metric,
            resources: Resources {
                requests: map(&self.requests),
                limits: map(&self.limits),
            },
            gpus: self.gpus,
            gpu_resource: None,
            timeout: self.request_timeout,
            env: map(&self.env),
            allow_missing: self.allow_missing.clone(),
            args: self.args.clone(),
            node_selector: map(&self.node_selector),
            labels: map(&self.labels),
            annotations: map(&self.annotations),
            canary_traffic_percent: self.canary_percent,
            transformer: image(&self.transformer),
            explainer: image(&self.explainer),
            image: self.image.clone(),
            runtime: self.runtime.clone(),
            runtime_version: self.runtime_version.clone(),
            service_account_name: self.service_account.clone(),
            secret: self.secret.clone(),
            deployment_mode: self.deployment_mode,
            source: self.source.clone(),
            artifact_store: self.artifact_store.clone(),
            predict: self.predict.clone(),
            pre: self.pre.clone(),
            post: self.post.clone(),
            load: self.load.clone(),
            model_class: self.model_class.clone(),
            handler: self.handler.clone(),
            extra_files: self.extra_files.clone(),
            requirements: self.requirements.clone(),
            model_version: self.model_version.clone(),
            graph: self.graph,
            steps: self.steps.clone(),
            server: self.server.clone(),
            memory: self.memory.clone(),
        }
    }
}

/// One of a few words, as a tidewaiter.yaml has them too.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(text)).map_err(|error| error.to_string())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is written as in NAME=VALUE".to_owned()),
    }
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    tidewaiter_core::duration::parse(text)
}
