//! What has to be known before anything is submitted, asked for all at once.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::Value;
use tidewaiter_core::kserve_config::{self, CONFIG_MAP, KserveConfig};
use tidewaiter_core::kserve_runtimes::{self, NEWEST};
use tidewaiter_core::runtimes::{Runtimes, ServingRuntime};

use crate::cluster::{Cluster, Error, kinds};
use crate::service::{DeploymentMode, Facts};

/// What the chart calls Tidewaiter's webhooks (`charts/tidewaiter/templates/webhooks.yaml`).
const WEBHOOKS: &str = "tidewaiter.dev";
/// The user's word for how a service is deployed.
const MODE: &str = "serving.kserve.io/deploymentMode";

/// What was found.
#[derive(Debug, Clone)]
pub struct Seen {
    /// For [`build`](crate::service::build).
    pub facts: Facts,
    /// The service as it is; none where there is none.
    pub service: Option<DynamicObject>,
    /// What could not be looked at, and what is taken to be so instead, a sentence each.
    pub remarks: Vec<String>,
}

impl Seen {
    /// Of a cluster that can't be asked: it is taken to be as KServe ships it, and to have no such service.
    pub fn nothing(error: &Error) -> Self {
        let runtimes = Runtimes::new(kserve_runtimes::of_release(NEWEST).unwrap_or_default());
        Self {
            facts: Facts {
                release: Facts::release_of(&runtimes),
                runtimes,
                ..Facts::default()
            },
            service: None,
            remarks: vec![format!(
                "{error}: the cluster is taken to have the runtimes and the configuration that KServe {NEWEST} ships, and no service of this name"
            )],
        }
    }
}

/// Looks at the service, the runtimes and KServe's configuration. What the user may not read is taken to be as KServe ships it, and said.
///
/// # Errors
/// Where the cluster doesn't answer, doesn't know the kind InferenceService, or doesn't let the service be read.
pub async fn look(cluster: &Cluster, namespace: &str, name: &str, kserve: &str) -> Result<Seen, Error> {
    let (service, own, shared, config) = futures::join!(
        cluster.get(&kinds::INFERENCE_SERVICE, Some(namespace), name),
        cluster.list(&kinds::SERVING_RUNTIME, Some(namespace)),
        cluster.list(&kinds::CLUSTER_SERVING_RUNTIME, None),
        cluster.get(&kinds::CONFIG_MAP, Some(kserve), CONFIG_MAP),
    );
    let service = match service {
        Ok(service) => service,
        Err(error) => return Err(cluster.with_all_missing(error, &[&kinds::INFERENCE_SERVICE]).await),
    };
    let mut remarks = Vec::new();
    let mut known = Vec::new();
    let mut complete = true;
    for listed in [own, shared] {
        match listed {
            Ok(objects) => known.extend(objects.iter().filter_map(runtime)),
            Err(error @ (Error::Forbidden { .. } | Error::UnknownKind { .. })) => {
                complete = false;
                remarks.push(format!(
                    "{error}: the runtimes are taken to be those that KServe {NEWEST} ships"
                ));
            }
            Err(error) => return Err(error),
        }
    }
    if !complete && known.is_empty() {
        known = kserve_runtimes::of_release(NEWEST).unwrap_or_default();
    }
    let (config, problems) = config_of(config, kserve)?;
    remarks.extend(problems);
    let runtimes = Runtimes::new(known);
    let facts = Facts {
        release: Facts::release_of(&runtimes),
        config,
        runtimes,
        deployed_as: service.as_ref().and_then(deployed_as),
        is_model_mesh: service.as_ref().is_some_and(is_model_mesh),
    };
    Ok(Seen {
        facts,
        service,
        remarks,
    })
}

/// KServe's configuration, and what could not be read of it, a sentence each.
///
/// # Errors
/// Where the cluster doesn't answer.
pub async fn kserve_config(cluster: &Cluster, kserve: &str) -> Result<(KserveConfig, Vec<String>), Error> {
    config_of(cluster.get(&kinds::CONFIG_MAP, Some(kserve), CONFIG_MAP).await, kserve)
}

fn config_of(map: Result<Option<DynamicObject>, Error>, kserve: &str) -> Result<(KserveConfig, Vec<String>), Error> {
    match map {
        Ok(Some(map)) => {
            let data = map.data.get("data").cloned().unwrap_or_default();
            let data: BTreeMap<String, String> = serde_json::from_value(data).unwrap_or_default();
            Ok(KserveConfig::parse(&data, None))
        }
        Ok(None) => Ok((
            KserveConfig::default(),
            vec![format!(
                "there is no ConfigMap {CONFIG_MAP} in namespace {kserve}: KServe is taken to be configured as it ships"
            )],
        )),
        // Most users may not read KServe's namespace.
        Err(Error::Forbidden { .. }) => Ok((KserveConfig::default(), Vec::new())),
        Err(error) => Err(error),
    }
}

fn runtime(object: &DynamicObject) -> Option<ServingRuntime> {
    let mut value = serde_json::to_value(object).ok()?;
    // The API server leaves the kind out in a list.
    if value["kind"].is_null() {
        let kind = if object.metadata.namespace.is_some() {
            "ServingRuntime"
        } else {
            "ClusterServingRuntime"
        };
        value["kind"] = Value::from(kind);
    }
    // What KServe can't read either is no runtime for it.
    ServingRuntime::from_json(&value).ok()
}

/// KServe writes the mode into the status when it first sees a service.
fn deployed_as(service: &DynamicObject) -> Option<DeploymentMode> {
    match service.data["status"]["deploymentMode"].as_str()? {
        "Standard" | "RawDeployment" => Some(DeploymentMode::Standard),
        "Knative" | "Serverless" => Some(DeploymentMode::Knative),
        _ => None,
    }
}

/// A service of `ModelMesh`'s says so itself, and KServe repeats it in the status.
fn is_model_mesh(service: &DynamicObject) -> bool {
    let status = service.data["status"]["deploymentMode"].as_str();
    let annotation = service.annotations().get(MODE).map(String::as_str);
    let modes = [status, annotation].into_iter().flatten();
    modes
        .filter_map(kserve_config::DeploymentMode::named)
        .any(|mode| mode == kserve_config::DeploymentMode::ModelMesh)
}

/// Whether there may be a webhook of Tidewaiter's that looked at what was proposed, and said nothing. Where that can't be told, since most users may not read
/// webhooks' configurations, there may.
pub async fn may_be_reviewed(cluster: &Cluster) -> bool {
    let found = cluster
        .get(&kinds::MUTATING_WEBHOOK_CONFIGURATION, None, WEBHOOKS)
        .await;
    !matches!(found, Ok(None))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reach::tests::{Answers, cluster};

    #[tokio::test]
    async fn a_webhook_that_can_not_be_seen_may_be_there() {
        let webhooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/tidewaiter.dev";
        let there = Answers::from([(webhooks, json!({"metadata": {"name": "tidewaiter.dev"}}))]);
        assert!(may_be_reviewed(&cluster(there)).await);
        assert!(may_be_reviewed(&cluster(Answers::forbidding())).await);
        assert!(!may_be_reviewed(&cluster(Answers::default())).await);
    }

    #[tokio::test]
    async fn a_service_of_model_meshs_is_seen_to_be_one() {
        let path = "/apis/serving.kserve.io/v1beta1/namespaces/team-a/inferenceservices/fraud";
        let seen = async |service: Value| {
            let answers = Answers::from([(path, service)]);
            let seen = look(&cluster(answers), "team-a", "fraud", "kserve").await.unwrap();
            seen.facts.is_model_mesh
        };
        let annotated = json!({"metadata": {"name": "fraud", "annotations": {MODE: "ModelMesh"}}});
        assert!(seen(annotated).await);
        let status = json!({"metadata": {"name": "fraud"}, "status": {"deploymentMode": "ModelMesh"}});
        assert!(seen(status).await);
        let standard = json!({"metadata": {"name": "fraud", "annotations": {MODE: "Standard"}}});
        assert!(!seen(standard).await);
    }
}
