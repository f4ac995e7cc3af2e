//! Waits for what is no service: a graph's router, a model on another's server.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::Value;

use super::cause::diagnose;
use super::outcome::Outcome;
use super::stage::Stage;
use super::state::State;
use crate::cluster::{Attempt, Cluster, Error, Kind, has_condition, kinds};

const PAUSE: Duration = Duration::from_secs(1);

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
) -> Result<Outcome, Error> {
    let deadline = Instant::now() + timeout;
    let start = Instant::now();
    loop {
        let found = cluster.api(kind, Some(namespace)).get(name).await;
        let attempt = Attempt::get(kind, Some(namespace), name);
        let object = match found.map_err(|error| cluster.failed(attempt, &error)) {
            Err(Error::NotFound { .. }) => return Ok(Outcome::Deleted),
            found => found?,
        };
        let seen = object.data["status"]["observedGeneration"].as_i64();
        let is_of_now = seen.is_none_or(|seen| Some(seen) >= object.metadata.generation);
        let is_ready = is_of_now && has_condition(&object.data, "Ready");
        let is_graph = kind == &kinds::INFERENCE_GRAPH;
        if is_ready && (!is_graph || has_router(cluster, namespace, name).await) {
            return Ok(Outcome::Ready {
                url: object.data["status"]["url"].as_str().map(str::to_owned),
                remarks: Vec::new(),
            });
        }
        let mut state = State {
            service: serde_json::to_value(&object).unwrap_or_default(),
            quiet: start.elapsed().as_secs(),
            ..State::default()
        };
        let mut finding = None;
        if is_graph {
            state.pods = routers(cluster, namespace, name).await;
            finding = diagnose(&state);
        }
        if let Some(finding) = finding.take_if(|finding| finding.certain) {
            return Ok(Outcome::Failed(finding));
        }
        if Instant::now() >= deadline {
            return Ok(Outcome::TimedOut {
                stage: if state.pods.is_empty() {
                    Stage::Admitted
                } else {
                    Stage::Pod
                },
                finding,
                unmet: state.unmet(),
            });
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::reach::tests::{Answers, cluster};

    const OBJECTS: &str = "/apis/serving.kserve.io/v1alpha1/namespaces/team-a";

    /// What becomes at once of an object and what is around it.
    async fn waited(kind: &'static Kind, name: &str, answers: &[(String, Value)]) -> Outcome {
        let answers: BTreeMap<String, Value> = answers.iter().cloned().collect();
        let cluster = cluster(Answers::from(answers));
        wait_for_condition(&cluster, kind, "team-a", name, Duration::ZERO)
            .await
            .unwrap()
    }

    fn graph(status: Value) -> (String, Value) {
        let graph = json!({"metadata": {"name": "ab", "namespace": "team-a"}, "status": status});
        (format!("{OBJECTS}/inferencegraphs/ab"), graph)
    }

    #[tokio::test]
    async fn a_graph_is_ready_with_its_router_alone() {
        let ready = graph(json!({"url": "http://ab.example.com", "conditions": [{"type": "Ready", "status": "True"}]}));
        let router = |available: u64| {
            let path = "/apis/apps/v1/namespaces/team-a/deployments/ab".to_owned();
            (
                path,
                json!({"metadata": {"name": "ab"}, "status": {"availableReplicas": available}}),
            )
        };
        let there = waited(&kinds::INFERENCE_GRAPH, "ab", &[ready.clone(), router(1)]).await;
        let url = Some("http://ab.example.com".to_owned());
        assert_eq!(
            there,
            Outcome::Ready {
                url,
                remarks: Vec::new()
            }
        );
        let pods = (
            "/api/v1/namespaces/team-a/pods".to_owned(),
            json!({"items": [{"metadata": {"name": "ab-1"}}]}),
        );
        let none = waited(&kinds::INFERENCE_GRAPH, "ab", &[ready, router(0), pods]).await;
        assert!(matches!(none, Outcome::TimedOut { stage: Stage::Pod, .. }), "{none:?}");
    }

    #[tokio::test]
    async fn what_is_not_so_yet_is_told_and_a_deleted_one_is_no_error() {
        let conditions = json!([
            {"type": "FrameworkSupported", "status": "True"},
            {"type": "MemoryResourceAvailable", "status": "False", "message": "no room for 256Mi"},
            {"type": "Ready", "status": "False", "message": "no room for 256Mi"},
        ]);
        let model = json!({"metadata": {"name": "fraud"}, "status": {"conditions": conditions}});
        let path = format!("{OBJECTS}/trainedmodels/fraud");
        let full = waited(&kinds::TRAINED_MODEL, "fraud", &[(path, model)]).await;
        assert_eq!(
            full,
            Outcome::TimedOut {
                stage: Stage::Admitted,
                finding: None,
                unmet: vec!["no room for 256Mi".to_owned()],
            }
        );
        let gone = waited(&kinds::TRAINED_MODEL, "churn", &[]).await;
        assert_eq!(gone, Outcome::Deleted);
    }
}
