//! The Pods of a service, as a person wants to know them.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::Deployed;
use crate::cluster::{Cluster, Error, kinds};

/// A Pod of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// `predictor`, `transformer` or `explainer`.
    pub component: String,
    /// What it is at, in one word: `Running`, `Terminating`, or why a container isn't running, as `CrashLoopBackOff`.
    pub state: String,
    /// More about that; empty where there is nothing to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Containers that are ready.
    pub ready: usize,
    /// Containers.
    pub containers: usize,
    /// How often they were started again.
    pub restarts: u64,
    /// The image of its server.
    pub image: String,
    /// Where it runs; empty while nobody knows.
    pub node: String,
    /// When it was made.
    pub created: Option<Timestamp>,
}

/// All Pods of a service, by component and name; those that are leaving too.
///
/// # Errors
/// Where the API server says no, or says nothing.
pub async fn pods(cluster: &Cluster, service: &Deployed) -> Result<Vec<PodState>, Error> {
    let mut pods: Vec<PodState> = objects(cluster, service).await?.iter().map(state).collect();
    pods.sort_by(|a, b| (&a.component, &a.name).cmp(&(&b.component, &b.name)));
    Ok(pods)
}

/// The Pods themselves.
pub(super) async fn objects(cluster: &Cluster, service: &Deployed) -> Result<Vec<Value>, Error> {
    let namespace = service.namespace();
    let pods = cluster
        .labelled(&kinds::POD, Some(&namespace), &service.label())
        .await?;
    let value = |pod| serde_json::to_value(pod).unwrap_or_default();
    Ok(pods.into_iter().map(value).collect())
}

pub(super) fn state(pod: &Value) -> PodState {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let statuses: Vec<&Value> = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let before: Vec<&Value> = pod["status"]["initContainerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let containers = pod["spec"]["containers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let server = containers
        .iter()
        .find(|container| container["name"] == "kserve-container")
        .or(containers.first());
    let (state, message) = told(pod, &before, &statuses);
    PodState {
        name: text(&pod["metadata"]["name"]),
        component: text(&pod["metadata"]["labels"]["component"]),
        state,
        message,
        ready: statuses.iter().filter(|status| status["ready"] == true).count(),
        containers: containers.len(),
        restarts: before
            .iter()
            .chain(&statuses)
            .filter_map(|status| status["restartCount"].as_u64())
            .sum(),
        image: server.map(|server| text(&server["image"])).unwrap_or_default(),
        node: text(&pod["spec"]["nodeName"]),
        created: pod["metadata"]["creationTimestamp"]
            .as_str()
            .and_then(|time| time.parse().ok()),
    }
}

/// As `kubectl get pods` has it: the first thing that is in the way.
fn told(pod: &Value, before: &[&Value], statuses: &[&Value]) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return ("Terminating".to_owned(), String::new());
    }
    for (prefix, list) in [("Init:", before), ("", statuses)] {
        for status in list {
            let (waiting, ended) = (&status["state"]["waiting"], &status["state"]["terminated"]);
            let reason = text(&waiting["reason"]);
            if !reason.is_empty() && !matches!(reason.as_str(), "PodInitializing" | "ContainerCreating") {
                return (format!("{prefix}{reason}"), text(&waiting["message"]));
            }
            if ended["exitCode"].as_i64().is_some_and(|code| code != 0) {
                let reason = text(&ended["reason"]);
                return (format!("{prefix}{reason}"), text(&ended["message"]));
            }
        }
        let running = list
            .iter()
            .filter(|status| status["state"]["terminated"].is_null())
            .count();
        if prefix == "Init:" && running > 0 {
            return (format!("Init:{}/{}", list.len() - running, list.len()), String::new());
        }
    }
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut unscheduled = conditions.filter(|one| one["type"] == "PodScheduled" && one["status"] == "False");
    if let Some(condition) = unscheduled.next() {
        return ("Pending".to_owned(), text(&condition["message"]));
    }
    (text(&pod["status"]["phase"]), text(&pod["status"]["message"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: Value) -> (String, String) {
        let pod = state(
            &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "kserve-container"}]}, "status": status}),
        );
        (pod.state, pod.message)
    }

    #[test]
    fn the_first_thing_in_the_way_is_told() {
        let initializer = |state: Value| json!([{"name": "storage-initializer", "state": state}]);
        assert_eq!(
            of(json!({"phase": "Pending", "initContainerStatuses": initializer(json!({"running": {}}))})).0,
            "Init:0/1"
        );
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        assert_eq!(
            of(json!({"phase": "Pending", "initContainerStatuses": initializer(crash)})),
            ("Init:CrashLoopBackOff".to_owned(), "back-off".to_owned())
        );
        let done = initializer(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}));
        let killed = json!([{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]);
        assert_eq!(
            of(json!({"phase": "Running", "initContainerStatuses": done, "containerStatuses": killed})).0,
            "OOMKilled"
        );
        let pending = json!([{"type": "PodScheduled", "status": "False", "message": "no GPU"}]);
        assert_eq!(
            of(json!({"phase": "Pending", "conditions": pending})),
            ("Pending".to_owned(), "no GPU".to_owned())
        );
        assert_eq!(
            of(json!({"phase": "Running", "containerStatuses": [{"ready": true, "state": {"running": {}}}]})).0,
            "Running"
        );
    }
}
