//! What a service's containers write.

use std::pin::Pin;

use futures::{AsyncBufReadExt as _, Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde_json::Value;

use super::{Component, Deployed, pods};
use crate::cluster::{Attempt, Cluster, Error, kinds};

/// Whose logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Part {
    /// What answers requests: the model's server, or the transformer's.
    #[default]
    Server,
    /// What fetches the model before the server starts.
    Initializer,
    /// A container of this name, such as `queue-proxy` or `agent`.
    Container(String),
}

/// Which lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Of which component's Pods.
    pub component: Component,
    /// Of which container.
    pub part: Part,
    /// Of this Pod alone.
    pub pod: Option<String>,
    /// Go on until the containers end.
    pub follow: bool,
    /// Of the run before the last restart.
    pub previous: bool,
    /// The last so many lines; all by default.
    pub tail: Option<i64>,
    /// Of the last so many seconds.
    pub since: Option<i64>,
    /// With the time before each line.
    pub timestamps: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            component: Component::Predictor,
            part: Part::Server,
            pod: None,
            follow: false,
            previous: false,
            tail: None,
            since: None,
            timestamps: false,
        }
    }
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub pod: String,
    /// As it was written, without its end.
    pub text: String,
}

/// Lines as they come, of all Pods together.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<Line, Error>> + Send>>;

/// Opens the logs of a service's Pods. A Pod whose container hasn't started yet has none, and is named beside the stream, a sentence each.
///
/// # Errors
/// Where it has no such Pod or container; where the API server says no, or says nothing.
pub async fn logs(
    cluster: &Cluster,
    service: &Deployed,
    options: &LogOptions,
) -> Result<(LogStream, Vec<String>), Error> {
    let namespace = service.namespace();
    let objects = pods::objects(cluster, service).await?;
    let of_part: Vec<&Value> = objects
        .iter()
        // A graph's router is no component.
        .filter(|pod| service.is_graph() || pod["metadata"]["labels"]["component"] == options.component.as_str())
        .filter(|pod| {
            options
                .pod
                .as_ref()
                .is_none_or(|name| pod["metadata"]["name"] == name.as_str())
        })
        .collect();
    let missing = |message: String| Error::NotFound {
        attempt: Attempt::named("get", &kinds::POD_LOG, Some(&namespace), &service.name()),
        message,
    };
    if of_part.is_empty() {
        let known: Vec<&str> = objects
            .iter()
            .filter_map(|pod| pod["metadata"]["name"].as_str())
            .collect();
        let message = match (service.is_stopped(), known.as_slice()) {
            (true, _) => "the service is stopped".to_owned(),
            (false, []) => "it has no Pods".to_owned(),
            (false, known) => format!("it has no such Pod, but {}", known.join(", ")),
        };
        return Err(missing(message));
    }
    let api: Api<Pod> = Api::namespaced(cluster.streams().clone(), &namespace);
    let (mut streams, mut silent) = (Vec::new(), Vec::new());
    for pod in of_part {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let Some(container) = container(pod, &options.part) else {
            return Err(missing(format!(
                "Pod {name} has no such container, but {}",
                containers(pod).join(", ")
            )));
        };
        if let Some(why) = why_silent(pod, container, options.previous) {
            silent.push(format!("Pod {name}: {container} {why}"));
            continue;
        }
        let params = LogParams {
            container: Some(container.to_owned()),
            follow: options.follow,
            previous: options.previous,
            tail_lines: options.tail,
            since_seconds: options.since,
            timestamps: options.timestamps,
            ..LogParams::default()
        };
        let attempt = Attempt::named("get", &kinds::POD_LOG, Some(&namespace), &name);
        let opened = api.log_stream(&name, &params).await;
        let reader = opened.map_err(|error| cluster.failed(attempt.clone(), &error))?;
        let cluster = cluster.clone();
        let lines = reader.lines().map_ok(move |text| Line {
            pod: name.clone(),
            text,
        });
        let lines = lines.map_err(move |error| cluster.failed(attempt.clone(), &kube::Error::ReadEvents(error)));
        streams.push(lines.boxed());
    }
    // One Pod after the other where they have an end, so that lines beside each other belong together.
    let all: LogStream = if options.follow {
        Box::pin(futures::stream::select_all(streams))
    } else {
        Box::pin(futures::stream::iter(streams).flatten())
    };
    Ok((all, silent))
}

fn containers(pod: &Value) -> Vec<&str> {
    let lists = ["initContainers", "containers"].map(|name| pod["spec"][name].as_array());
    let all = lists.into_iter().flatten().flatten();
    all.filter_map(|container| container["name"].as_str()).collect()
}

fn container<'a>(pod: &'a Value, part: &Part) -> Option<&'a str> {
    let names = containers(pod);
    match part {
        Part::Container(name) => names.into_iter().find(|one| one == name),
        Part::Initializer => names.into_iter().find(|one| one.starts_with("storage-initializer")),
        Part::Server => {
            let first = pod["spec"]["containers"][0]["name"].as_str();
            let server = names.into_iter().find(|&one| one == "kserve-container");
            server.or(first)
        }
    }
}

/// Why a container has no log yet; none where it has one.
fn why_silent(pod: &Value, container: &str, previous: bool) -> Option<String> {
    let lists = ["initContainerStatuses", "containerStatuses"].map(|name| pod["status"][name].as_array());
    let status = lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|status| status["name"] == container);
    let Some(status) = status else {
        return Some("has not started: the Pod is not on a node yet".to_owned());
    };
    if previous {
        let before = &status["lastState"]["terminated"];
        return before.is_null().then(|| "has not ended before".to_owned());
    }
    let waiting = status["state"]["waiting"]["reason"].as_str()?;
    if status["restartCount"].as_u64().unwrap_or_default() > 0 || !status["lastState"]["terminated"].is_null() {
        return None;
    }
    Some(match waiting {
        "PodInitializing" => "waits for the model: --of initializer shows how it is fetched".to_owned(),
        reason => format!("has not started: {reason}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Value {
        json!({
            "metadata": {"name": "p"},
            "spec": {
                "initContainers": [{"name": "storage-initializer"}],
                "containers": [{"name": "queue-proxy"}, {"name": "kserve-container"}],
            },
            "status": status,
        })
    }

    #[test]
    fn a_container_is_chosen_by_what_it_does() {
        let pod = pod(json!({}));
        assert_eq!(container(&pod, &Part::Server), Some("kserve-container"));
        assert_eq!(container(&pod, &Part::Initializer), Some("storage-initializer"));
        assert_eq!(
            container(&pod, &Part::Container("queue-proxy".into())),
            Some("queue-proxy")
        );
        assert_eq!(container(&pod, &Part::Container("agent".into())), None);
        let own = json!({"spec": {"containers": [{"name": "mine"}]}});
        assert_eq!(container(&own, &Part::Server), Some("mine"));
        assert_eq!(container(&own, &Part::Initializer), None);
    }

    #[test]
    fn a_container_that_waits_for_its_model_says_so() {
        let waiting = |restarts: u64| {
            pod(
                json!({"containerStatuses": [{"name": "kserve-container", "restartCount": restarts,
                "state": {"waiting": {"reason": "PodInitializing"}}}]}),
            )
        };
        let why = why_silent(&waiting(0), "kserve-container", false).unwrap();
        assert!(why.contains("--of initializer"), "{why}");
        assert_eq!(why_silent(&waiting(2), "kserve-container", false), None);
        assert!(why_silent(&waiting(0), "kserve-container", true).is_some());
        assert!(why_silent(&pod(json!({})), "kserve-container", false).is_some());
    }
}
