//! Waits for what is no service: a graph's router, a model on another's server.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::Value;

use super::cause::diagnose;
use super::finding::Finding;
use super::state::State;
use crate::cluster::{Attempt, Cluster, Error, Kind, has_condition, kinds};

const PAUSE: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum ConditionOutcome {
    /// It is ready, at this address where it has one.
    Ready(Option<String>),
    /// It won't be.
    Failed(Finding),
    /// There is no more time; what the conditions say.
    TimedOut(String),
}

/// Waits for the condition `Ready`, and for a graph also for its router: KServe 0.20 calls a graph ready before there is one.
///
/// # Errors
/// Where the object can't be read.
pub async fn wait_for_condition(
    cluster: &Cluster,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    timeout: Duration,
) -> Result<ConditionOutcome, Error> {
    let deadline = Instant::now() + timeout;
    let start = Instant::now();
    loop {
        let found = cluster.api(kind, Some(namespace)).get(name).await;
        let attempt = Attempt::get(kind, Some(namespace), name);
        let object = found.map_err(|error| cluster.failed(attempt, &error))?;
        let conditions = object.data["status"]["conditions"].as_array();
        let conditions: Vec<&Value> = conditions.into_iter().flatten().collect();
        let seen = object.data["status"]["observedGeneration"].as_i64();
        let is_of_now = seen.is_none_or(|seen| Some(seen) >= object.metadata.generation);
        let is_ready = is_of_now && has_condition(&object.data, "Ready");
        let is_graph = kind == &kinds::INFERENCE_GRAPH;
        if is_ready && (!is_graph || has_router(cluster, namespace, name).await) {
            return Ok(ConditionOutcome::Ready(
                object.data["status"]["url"].as_str().map(str::to_owned),
            ));
        }
        if is_graph {
            let state = State {
                service: serde_json::to_value(&object).unwrap_or_default(),
                pods: routers(cluster, namespace, name).await,
                quiet: start.elapsed().as_secs(),
                ..State::default()
            };
            if let Some(finding) = diagnose(&state).filter(|finding| finding.certain) {
                return Ok(ConditionOutcome::Failed(finding));
            }
        }
        if Instant::now() >= deadline {
            let words: Vec<String> = conditions
                .iter()
                .filter(|condition| condition["status"] != "True")
                .filter_map(|condition| condition["message"].as_str().or(condition["reason"].as_str()))
                .map(str::to_owned)
                .collect();
            return Ok(ConditionOutcome::TimedOut(words.join("; ")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// In Standard mode the router is a Deployment of the graph's name. Knative's, and one that may not be read, is believed.
async fn has_router(cluster: &Cluster, namespace: &str, name: &str) -> bool {
    let api: Api<Deployment> = Api::namespaced(cluster.client().clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(deployment)) => {
            let available = deployment.status.and_then(|status| status.available_replicas);
            available.is_some_and(|count| count > 0)
        }
        _ => true,
    }
}

async fn routers(cluster: &Cluster, namespace: &str, name: &str) -> Vec<Value> {
    let labels = format!("serving.kserve.io/inferencegraph={name}");
    let pods = cluster.labelled(&kinds::POD, Some(namespace), &labels).await;
    let pods = pods.unwrap_or_default();
    pods.iter().filter_map(|pod| serde_json::to_value(pod).ok()).collect()
}
