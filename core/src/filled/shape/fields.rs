//! KServe's own fields of a service, beside those of Kubernetes.
//!
//! Source: `pkg/apis/serving/v1beta1` and `v1alpha2` of KServe 0.20.0. What 0.15.2 and `v1alpha1` have of it is of the same types.
#![expect(dead_code, reason = "read for their types alone")]

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DeploymentStrategy;
use k8s_openapi::api::core::v1::{LocalObjectReference, PodSpec};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Canary {
    traffic_percent: Option<i32>,
}

/// What KServe puts into the template of the Pods.
#[derive(Deserialize)]
pub(super) struct OfPods {
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// `ComponentExtensionSpec`, and what predictors, transformers and explainers have beside it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Component {
    name: Option<String>,
    min_replicas: Option<i32>,
    max_replicas: Option<i32>,
    scale_target: Option<i32>,
    scale_metric: Option<String>,
    scale_metric_type: Option<String>,
    container_concurrency: Option<i64>,
    timeout: Option<i64>,
    canary_traffic_percent: Option<i64>,
    logger: Option<Logger>,
    batcher: Option<Batcher>,
    deployment_strategy: Option<DeploymentStrategy>,
    storage_uris: Option<Vec<StorageUri>>,
    storage_container_name: Option<String>,
}

#[derive(Deserialize)]
struct Logger {
    url: Option<String>,
    mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batcher {
    max_batch_size: Option<i64>,
    max_latency: Option<i64>,
    timeout: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StorageUri {
    uri: Option<String>,
    mount_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Worker {
    pipeline_parallel_size: Option<i64>,
    tensor_parallel_size: Option<i64>,
}

/// `ModelSpec` and `ARTExplainerSpec`, without the container that they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Model {
    #[serde(rename = "modelFormat")]
    format: Option<ModelFormat>,
    runtime: Option<String>,
    runtime_version: Option<String>,
    protocol_version: Option<String>,
    storage_uri: Option<String>,
    storage: Option<Storage>,
    r#type: Option<String>,
    config: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct ModelFormat {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    path: Option<String>,
    key: Option<String>,
    schema_path: Option<String>,
    parameters: Option<BTreeMap<String, String>>,
}

/// `LLMInferenceServiceSpec`, without the workload that it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Llm {
    model: Option<LlmModel>,
    base_refs: Option<Vec<LocalObjectReference>>,
}

#[derive(Deserialize)]
struct LlmModel {
    uri: Option<String>,
    name: Option<String>,
}

/// `WorkloadSpec`
#[derive(Deserialize)]
pub(super) struct Workload {
    replicas: Option<i32>,
    template: Option<PodSpec>,
    worker: Option<PodSpec>,
    parallelism: Option<Parallelism>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parallelism {
    tensor: Option<i32>,
    pipeline: Option<i32>,
    data: Option<i32>,
    data_local: Option<i32>,
    #[serde(rename = "dataRPCPort")]
    data_rpc_port: Option<i32>,
    expert: Option<bool>,
}
