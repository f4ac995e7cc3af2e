//! Waits for what is no service: a graph's router, a model on another's server.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;
use tidewaiter_core::quantity::Quantity;

use super::cause::{PATIENCE, diagnose, refused};
use super::outcome::Outcome;
use super::rollout::{Rollout, rollout};
use super::stage::Stage;
use super::state::State;
use crate::cluster::{Attempt, Cluster, Error, Kind, has_condition, kinds};

const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at an API server that doesn't answer.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits for the condition `Ready`, and for a graph also for its router: KServe 0.20 calls a graph ready before there is one, and by the one of before.
///
/// # Errors
/// Where the object may not be read, or can't be by the end.
pub async fn wait_for_condition(
    cluster: &Cluster,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    timeout: Duration,
) -> Result<Outcome, Error> {
    let start = Instant::now();
    let deadline = start + timeout;
    let mut pause = PAUSE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let found = cluster.api(kind, Some(namespace)).get(name).await;
        let attempt = Attempt::get(kind, Some(namespace), name);
        let object = match found.map_err(|error| cluster.failed(attempt, &error)) {
            Ok(object) => object,
            Err(Error::NotFound { .. }) => return Ok(Outcome::Deleted),
            Err(error) if left.is_zero() || is_final(&error) => return Err(error),
            Err(_) => {
                tokio::time::sleep(pause.min(left)).await;
                pause = (pause * 2).min(LONGEST);
                continue;
            }
        };
        pause = PAUSE;
        let is_ready = has_condition(&object.data, "Ready");
        let is_graph = kind == &kinds::INFERENCE_GRAPH;
        // The router's Deployment has the graph's name.
        let router = if is_graph {
            rollout(cluster, namespace, name, |router| {
                has_graph(router, &object.data["spec"])
            })
            .await
        } else {
            Rollout::Done
        };
        // A graph's status has that of the router's Deployment, and in Knative mode none (`raw_ig.go` and `controller.go` of 0.15.2 and 0.20.0).
        let seen = object.data["status"]["observedGeneration"].as_i64();
        let has_router = match &router {
            Rollout::Done => true,
            Rollout::Going(_) => false,
            Rollout::Absent => seen.is_none(),
            // An autoscaler raises it, too: this is as near as KServe's word comes.
            Rollout::Unseen => seen.is_none_or(|seen| Some(seen) >= object.metadata.generation),
        };
        if is_ready && has_router {
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
            let refusal = || match &router {
                // A Deployment also repeats what its ReplicaSet of before was told.
                Rollout::Going(Some(words)) => {
                    let finding = refused(&state, words);
                    let certain = finding.certain && state.quiet > PATIENCE;
                    Some(finding.certain(certain))
                }
                _ => None,
            };
            finding = diagnose(&state).or_else(refusal);
        }
        if let Some(finding) = finding.take_if(|finding| finding.certain) {
            return Ok(Outcome::Failed(finding));
        }
        if left.is_zero() {
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
        tokio::time::sleep(PAUSE.min(left)).await;
    }
}

/// Whether the router is that of the graph as it stands: KServe hands it the graph's spec by an argument (`raw_ig.go` of 0.15.2 and 0.20.0).
fn has_graph(router: &Deployment, spec: &Value) -> bool {
    let pod = router.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let args = pod.and_then(|pod| pod.containers.first()?.args.as_deref());
    let mut args = args.unwrap_or_default().iter().skip_while(|arg| *arg != "--graph-json");
    let handed = args
        .nth(1)
        .and_then(|handed| serde_json::from_str::<Value>(handed).ok());
    handed.is_none_or(|handed| plain(&handed) == plain(spec))
}

/// A spec in the form in which two are compared: Go leaves out what is empty, and writes an amount in one way alone; KServe fills in where services are reached.
fn plain(value: &Value) -> Value {
    let is_empty = |value: &Value| {
        matches!(value.as_str(), Some("" | "0"))
            || matches!(value, Value::Null | Value::Bool(false))
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    match value {
        Value::Object(members) => {
            let own = members
                .iter()
                .filter(|(name, _)| *name != "serviceUrl" || !members.contains_key("serviceName"));
            let plain = own.map(|(name, value)| (name.clone(), plain(value)));
            Value::Object(plain.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Number(number) => plain(&Value::from(number.to_string())),
        Value::String(text) => Quantity::parse(text).map_or_else(|| value.clone(), |amount| amount.to_string().into()),
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// Time heals the others.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Forbidden { .. } | Error::UnknownKind { .. })
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

    use super::super::finding::Cause;
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

    fn ready(observed: Value) -> (String, Value) {
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        graph(json!({"url": "http://ab.example.com", "observedGeneration": observed, "conditions": conditions}))
    }

    fn is_ready() -> Outcome {
        Outcome::Ready {
            url: Some("http://ab.example.com".to_owned()),
            remarks: Vec::new(),
        }
    }

    fn router(status: Value) -> (String, Value) {
        let path = "/apis/apps/v1/namespaces/team-a/deployments/ab".to_owned();
        (
            path,
            json!({"metadata": {"name": "ab", "generation": 2}, "status": status}),
        )
    }

    fn pods() -> (String, Value) {
        let pods = json!({"items": [{"metadata": {"name": "ab-1"}}]});
        ("/api/v1/namespaces/team-a/pods".to_owned(), pods)
    }

    #[tokio::test]
    async fn a_graph_is_ready_with_its_router_alone() {
        let of_now = |available: u64| {
            router(
                json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available}),
            )
        };
        let there = waited(&kinds::INFERENCE_GRAPH, "ab", &[ready(json!(2)), of_now(1)]).await;
        assert_eq!(there, is_ready());
        let none = waited(&kinds::INFERENCE_GRAPH, "ab", &[ready(json!(2)), of_now(0), pods()]).await;
        assert!(matches!(none, Outcome::TimedOut { stage: Stage::Pod, .. }), "{none:?}");
        // Not made yet; Knative makes none.
        let early = waited(&kinds::INFERENCE_GRAPH, "ab", &[ready(json!(2))]).await;
        assert!(matches!(early, Outcome::TimedOut { .. }), "{early:?}");
        let knative = waited(&kinds::INFERENCE_GRAPH, "ab", &[ready(Value::Null)]).await;
        assert_eq!(knative, is_ready());
    }

    #[tokio::test]
    async fn a_changed_graph_is_not_ready_by_the_router_of_before_and_what_keeps_the_new_one_away_is_told() {
        let refused = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "pods \"ab-2\" is forbidden: exceeded quota: q, requested: limits.memory=8Gi"}]);
        let rolling =
            router(json!({"observedGeneration": 2, "replicas": 1, "availableReplicas": 1, "conditions": refused}));
        let outcome = waited(&kinds::INFERENCE_GRAPH, "ab", &[ready(json!(2)), rolling, pods()]).await;
        let Outcome::TimedOut {
            finding: Some(finding), ..
        } = outcome
        else {
            panic!("{outcome:?}")
        };
        assert_eq!((finding.cause, finding.certain), (Cause::Quota, false));
        assert_eq!(finding.message, "namespace team-a has used up its quota");
    }

    #[tokio::test]
    async fn a_router_with_another_spec_than_the_graphs_is_not_its_own() {
        let waited = async |steps: Value, limit: &str, generation: i64| {
            let handed = json!({"nodes": {"root": {"routerType": "Splitter", "steps": [
                {"serviceName": "a", "serviceUrl": "http://a-predictor.team-a.svc.cluster.local", "weight": 90},
                {"serviceName": "b", "serviceUrl": "http://b-predictor.team-a.svc.cluster.local", "weight": 10},
            ]}}, "resources": {"limits": {"memory": "1Gi"}}});
            let container = json!({"name": "ab", "args": ["--graph-json", handed.to_string()]});
            let (path, mut deployment) =
                router(json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}));
            deployment["spec"] = json!({"template": {"spec": {"containers": [container]}}});
            let (object, mut graph) = ready(json!(2));
            graph["metadata"]["generation"] = json!(generation);
            let root = json!({"routerType": "Splitter", "steps": steps});
            graph["spec"] =
                json!({"nodes": {"root": root}, "resources": {"limits": {"memory": limit}}, "maxReplicas": 0});
            waited(&kinds::INFERENCE_GRAPH, "ab", &[(object, graph), (path, deployment)]).await
        };
        let steps = |a: u64, b: u64| json!([{"serviceName": "a", "weight": a}, {"serviceName": "b", "weight": b}]);
        // Whatever the generations say: an autoscaler raises the one, an edit before there was a router the other.
        for generation in [1, 3] {
            assert_eq!(waited(steps(90, 10), "1024Mi", generation).await, is_ready());
            for (steps, limit) in [(steps(50, 50), "1Gi"), (steps(90, 10), "2Gi")] {
                let early = waited(steps, limit, generation).await;
                assert!(matches!(early, Outcome::TimedOut { .. }), "{early:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_api_server_that_is_busy_is_asked_again_until_there_is_no_more_time() {
        let (path, model) = (
            format!("{OBJECTS}/trainedmodels/fraud"),
            json!({"metadata": {"name": "fraud"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        );
        let waited = async |answers: Answers, timeout| {
            wait_for_condition(&cluster(answers), &kinds::TRAINED_MODEL, "team-a", "fraud", timeout).await
        };
        let answers = || Answers::from(BTreeMap::from([(path.clone(), model.clone())]));
        let outcome = waited(answers().busy_for(1), Duration::from_mins(1)).await.unwrap();
        assert!(matches!(outcome, Outcome::Ready { .. }), "{outcome:?}");
        let error = waited(answers().busy_for(9), Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().contains("the API server is busy"), "{error}");
        // Who may not look is told at once.
        let error = waited(Answers::forbidding(), Duration::from_mins(1)).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{error}");
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
