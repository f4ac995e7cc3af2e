//! Waits for what has no Pods to look at: a graph's router, a model on another's server.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Attempt, Cluster, Error, Kind};

const PAUSE: Duration = Duration::from_secs(1);

/// Waits for the condition `Ready`. True, with its status, when it holds; false when there is no more time, with the conditions' last words.
///
/// # Errors
/// Where the object can't be read.
pub async fn wait_for_condition(
    cluster: &Cluster,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    timeout: Duration,
) -> Result<(bool, String), Error> {
    let deadline = Instant::now() + timeout;
    loop {
        let found = cluster.api(kind, Some(namespace)).get(name).await;
        let attempt = Attempt::get(kind, Some(namespace), name);
        let object = found.map_err(|error| cluster.failed(attempt, &error))?;
        let conditions = object.data["status"]["conditions"].as_array();
        let conditions: Vec<&Value> = conditions.into_iter().flatten().collect();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        if ready.is_some_and(|condition| condition["status"] == "True") {
            let url = object.data["status"]["url"].as_str().unwrap_or_default();
            return Ok((true, url.to_owned()));
        }
        if Instant::now() >= deadline {
            let words: Vec<String> = conditions
                .iter()
                .filter(|condition| condition["status"] != "True")
                .filter_map(|condition| condition["message"].as_str().or(condition["reason"].as_str()))
                .map(str::to_owned)
                .collect();
            return Ok((false, words.join("; ")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
