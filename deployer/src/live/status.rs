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
    /// The service whose server has it beside other models; none of one with Pods of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
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
            server: service.server().map(str::to_owned),
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
    /// All its Pods, or its server's; none where they may not be listed, and then `unknown` says so.
    pub pods: Vec<PodState>,
    /// Whether they could be listed.
    #[serde(skip)]
    pub sees_pods: bool,
    /// The last deployment, where Tidewaiter did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployment>,
    /// What could not be read, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

impl Status {
    /// `pods` is none where they may not be listed; why not is `unknown`'s to say.
    pub(super) fn of(service: &Deployed, pods: Option<Vec<PodState>>, unknown: Vec<String>) -> Self {
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
            sees_pods: pods.is_some(),
            pods: pods.unwrap_or_default(),
            deployed: history(service).into_iter().next(),
            unknown,
        }
    }
}

/// Reads how a service is, a graph of services, or a model on another's server.
///
/// # Errors
/// Where it isn't there, or may not be read; where the API server says nothing. That its Pods may not be listed is told in the answer.
pub async fn status(cluster: &Cluster, namespace: &str, name: &str) -> Result<Status, Error> {
    let service = Deployed::read_any(cluster, namespace, name).await?;
    let mut unknown = Vec::new();
    let pods = if_allowed(pods(cluster, &service).await, &mut unknown)?;
    Ok(Status::of(&service, pods, unknown))
}

/// What was read; none where that isn't allowed, which is noted.
pub(super) fn if_allowed<T>(read: Result<T, Error>, unknown: &mut Vec<String>) -> Result<Option<T>, Error> {
    match read {
        Err(error @ Error::Forbidden { .. }) => {
            unknown.push(error.to_string());
            Ok(None)
        }
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::super::fixture::{deployed, trained};
    use super::*;
    use crate::live::describe;
    use crate::reach::tests::{Answers, cluster};

    #[tokio::test]
    async fn who_may_not_list_pods_is_told_so_and_all_the_rest() {
        let service = json!({"metadata": {"name": "fraud", "namespace": "team-a"},
            "status": {"url": "http://fraud", "conditions": [{"type": "Ready", "status": "True"}]}});
        let no = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "pods is forbidden: user \"eve\" cannot list pods"});
        let answers = || {
            cluster(Answers::from([
                (
                    "/apis/serving.kserve.io/v1beta1/namespaces/team-a/inferenceservices/fraud",
                    service.clone(),
                ),
                ("/api/v1/namespaces/team-a/pods", no.clone()),
                ("/api/v1/namespaces/team-a/events", json!({"items": []})),
            ]))
        };
        let told = "not allowed to list pods in namespace team-a";
        let status = status(&answers(), "team-a", "fraud").await.unwrap();
        assert_eq!((status.summary.ready.as_str(), status.sees_pods), ("True", false));
        assert_eq!(status.unknown, [told]);
        let description = describe(&answers(), "team-a", "fraud", "kserve").await.unwrap();
        let description = json!(description);
        assert_eq!(
            (&description["unknown"], &description["pods"]),
            (&json!([told]), &json!([]))
        );
    }

    #[tokio::test]
    async fn a_trained_model_is_told_with_the_pods_and_the_account_of_its_server() {
        let model = trained(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})).plain();
        let many = json!({"metadata": {"name": "many", "namespace": "team-a"}, "spec": {"predictor": {"serviceAccountName": "models"}}});
        let in_team = "namespaces/team-a";
        let answers = |server: Value| {
            cluster(
                BTreeMap::from([
                    (
                        format!("/apis/serving.kserve.io/v1alpha1/{in_team}/trainedmodels/fraud"),
                        model.clone(),
                    ),
                    (
                        format!("/apis/serving.kserve.io/v1beta1/{in_team}/inferenceservices/many"),
                        server,
                    ),
                    (
                        format!("/api/v1/{in_team}/pods"),
                        json!({"items": [{"metadata": {"name": "many-pod"}}]}),
                    ),
                    (format!("/api/v1/{in_team}/events"), json!({"items": []})),
                ])
                .into(),
            )
        };
        let description = describe(&answers(many), "team-a", "fraud", "kserve").await.unwrap();
        let description = json!(description);
        assert_eq!(
            (&description["server"], &description["ready"]),
            (&json!("many"), &json!("True"))
        );
        assert_eq!(description["pods"][0]["name"], "many-pod");
        assert_eq!(description["credentials"]["account"], "models");
        // Without its server there is a model all the same.
        let gone = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "gone", "details": {"name": "many"}});
        let description = json!(describe(&answers(gone), "team-a", "fraud", "kserve").await.unwrap());
        assert!(description["credentials"].is_null());
        assert_eq!(
            description["unknown"],
            json!(["can't get inferenceservices.serving.kserve.io many in namespace team-a: there is no such service"])
        );
    }

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
        let model = json!(Summary::of(&trained(
            json!({"status": {"url": "http://many/v1/models/fraud:predict"}})
        )));
        assert_eq!(
            (&model["server"], &model["framework"], &model["storageUri"]),
            (&json!("many"), &json!("sklearn"), &json!("s3://m/fraud"))
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
            Status::of(&service, None, Vec::new()).failure
        };
        assert_eq!(
            failure("BlockedByFailedLoad", "").as_deref(),
            Some("ModelLoadFailed: no such key")
        );
        assert_eq!(failure("UpToDate", "Loaded"), None);
    }
}
