//! How a service is.

use jiff::Timestamp;
use serde::Serialize;

use super::canary::{Canaries, Canary};
use super::history::{Deployment, history};
use super::pods::{PodState, pods};
use super::{Condition, Deployed};
use crate::cluster::{Cluster, Error};

/// A service in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `True`, `False`, `Unknown`, `Stopped` or `Deleting`.
    pub ready: String,
    /// What loads its model: `sklearn`; `custom` for the user's own containers.
    pub framework: String,
    /// Where it is reached, by KServe's word; none before it is.
    pub url: Option<String>,
    /// Where its model lies.
    pub storage_uri: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
}

impl Summary {
    /// Of a service.
    pub fn of(service: &Deployed) -> Self {
        let ready = if service.is_leaving() {
            "Deleting".to_owned()
        } else if service.is_stopped() {
            "Stopped".to_owned()
        } else {
            let ready = service.condition("Ready");
            ready.map_or_else(|| "Unknown".to_owned(), |condition| condition.status)
        };
        let created = service.object().metadata.creation_timestamp.as_ref();
        Self {
            name: service.name(),
            namespace: service.namespace(),
            ready,
            framework: service.framework().to_owned(),
            url: service.url().map(str::to_owned),
            storage_uri: service.storage_uri(),
            created: created.map(|time| time.0),
        }
    }
}

/// A service with its Pods, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// In one line.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its address inside of the cluster.
    pub address: Option<String>,
    /// `Knative` or `Standard`; none while KServe hasn't said.
    pub mode: Option<&'static str>,
    /// How a graph asks its services, such as `Sequence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// The services that a graph asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// The serving runtime.
    pub runtime: Option<String>,
    /// The release of it that the service names.
    pub runtime_version: Option<String>,
    /// By its own word: `v1`, `v2`, `grpc-v2`.
    pub protocol: Option<String>,
    /// KServe's, in its order.
    pub conditions: Vec<Condition>,
    /// Why the model isn't loaded, in KServe's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What its requests are split between.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<Canary>,
    /// All its Pods.
    pub pods: Vec<PodState>,
    /// The last deployment, where Tidewaiter did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployment>,
}

impl Status {
    pub(super) fn of(service: &Deployed, pods: Vec<PodState>) -> Self {
        use tidewaiter_core::kserve_config::DeploymentMode;
        let failure = &service.status()["modelStatus"]["lastFailureInfo"];
        let words = ["reason", "message"].map(|name| failure[name].as_str().unwrap_or_default());
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let is_loaded = service.status()["modelStatus"]["states"]["activeModelState"] == "Loaded"
            && service.status()["modelStatus"]["transitionStatus"] == "UpToDate";
        Self {
            summary: Summary::of(service),
            address: service.address().map(str::to_owned),
            mode: service.mode().map(|mode| match mode {
                DeploymentMode::Knative => "Knative",
                DeploymentMode::Standard => "Standard",
                DeploymentMode::ModelMesh => "ModelMesh",
            }),
            router: service.router().map(str::to_owned),
            steps: service.steps().into_iter().map(str::to_owned).collect(),
            runtime: service.runtime().map(str::to_owned),
            runtime_version: service
                .model()
                .and_then(|(_, model)| model["runtimeVersion"].as_str())
                .map(str::to_owned),
            protocol: service.protocol().map(str::to_owned),
            conditions: service.conditions(),
            // KServe keeps the last one after the model is loaded.
            failure: (!words.is_empty() && !is_loaded).then(|| words.join(": ")),
            canaries: Canaries::of(service).0,
            pods,
            deployed: history(service).into_iter().next(),
        }
    }
}

/// Reads how a service is, or a graph of services.
///
/// # Errors
/// Where it isn't there; where the API server says no, or says nothing.
pub async fn status(cluster: &Cluster, namespace: &str, name: &str) -> Result<Status, Error> {
    let service = Deployed::read_or_graph(cluster, namespace, name).await?;
    let pods = pods(cluster, &service).await?;
    Ok(Status::of(&service, pods))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::deployed;
    use super::*;

    #[test]
    fn a_service_in_one_line() {
        let service = deployed(json!({
            "metadata": {"creationTimestamp": "2026-06-01T12:00:00Z"},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": "s3://m/x"}}},
            "status": {"url": "http://fraud-team-a.example.com", "conditions": [{"type": "Ready", "status": "True"}]},
        }));
        assert_eq!(
            json!(Summary::of(&service)),
            json!({
                "name": "fraud", "namespace": "team-a", "ready": "True", "framework": "mlflow",
                "url": "http://fraud-team-a.example.com", "storageUri": "s3://m/x", "created": "2026-06-01T12:00:00Z",
            })
        );
        let ready = |object| Summary::of(&deployed(object)).ready;
        assert_eq!(ready(json!({})), "Unknown");
        assert_eq!(
            ready(json!({"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}})),
            "Stopped"
        );
        assert_eq!(
            ready(json!({"metadata": {"deletionTimestamp": "2026-06-01T12:00:00Z"}})),
            "Deleting"
        );
    }

    #[test]
    fn a_failure_that_is_over_is_not_told() {
        let failure = |transition: &str, state: &str| {
            let service = deployed(json!({"status": {"modelStatus": {
                "transitionStatus": transition, "states": {"activeModelState": state},
                "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no such key"},
            }}}));
            Status::of(&service, Vec::new()).failure
        };
        assert_eq!(
            failure("BlockedByFailedLoad", "").as_deref(),
            Some("ModelLoadFailed: no such key")
        );
        assert_eq!(failure("UpToDate", "Loaded"), None);
    }
}
