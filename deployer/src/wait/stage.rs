//! How far a service has come.

use std::fmt;

use super::state::{State, ended, statuses, text};
use crate::cluster::has_condition;

/// How far, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The API server has the service, KServe makes of it what it needs.
    Admitted,
    /// There is a Pod, and it waits for a node or for images.
    Pod,
    /// The model is being downloaded.
    Download,
    /// The server loads the model.
    Load,
    /// It answers; in a [`State`] alone, which no model is asked for: as far as KServe and the Pods say.
    Ready,
}

impl Stage {
    /// For people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Pod => "pod",
            Self::Download => "download",
            Self::Load => "load",
            Self::Ready => "ready",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far the service has come: its Pod that is furthest behind counts, of those that are to stay.
pub fn stage(state: &State) -> Stage {
    if is_ready(state) {
        return Stage::Ready;
    }
    let pods = state.newest_pods();
    let stages = pods.iter().map(|pod| {
        let mut come = Stage::Pod;
        for status in statuses(pod) {
            let state = &status["state"];
            match text(&status["name"]) {
                "storage-initializer" if state["terminated"]["exitCode"] == 0 => come = Stage::Load,
                "storage-initializer" if started(status) => return Stage::Download,
                "kserve-container" if !state["running"].is_null() || !state["terminated"].is_null() => {
                    come = Stage::Load
                }
                "kserve-container" if status["restartCount"].as_u64().is_some_and(|count| count > 0) => {
                    come = Stage::Load
                }
                _ => {}
            }
        }
        come
    });
    stages.min().unwrap_or(Stage::Admitted)
}

/// Whether a container has run at all.
fn started(status: &serde_json::Value) -> bool {
    !status["state"]["running"].is_null() || ended(status).is_some()
}

/// KServe says so of the service as it stands, and so do the Pods that are to stay.
fn is_ready(state: &State) -> bool {
    if !state.is_observed() || !has_condition(&state.service, "Ready") {
        return false;
    }
    let components = &state.service["status"]["components"]["predictor"];
    let (created, ready) = (&components["latestCreatedRevision"], &components["latestReadyRevision"]);
    if created.is_string() && created != ready {
        return false;
    }
    state.newest_pods().iter().all(|pod| has_condition(pod, "Ready"))
}
