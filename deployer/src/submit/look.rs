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
/// Where it is, KServe's Knative mode works.
const KNATIVE: &str = "serving.knative.dev/v1";

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
    let (config, keeps_mode) = match config_of(config, kserve)? {
        Ok((config, problems)) => {
            remarks.extend(problems);
            (config, false)
        }
        Err(why) => {
            let mut config = KserveConfig::default();
            let assumed = if let Some(mode) = service.as_ref().and_then(mode_of) {
                config.deployment_mode = mode;
                String::new()
            } else {
                let (mode, by) = default_mode(cluster, namespace).await;
                config.deployment_mode = mode;
                format!(", and to deploy in {mode:?} mode, {by}; --deployment-mode says otherwise")
            };
            remarks.push(format!("{}{assumed}", as_shipped(&why)));
            (config, service.as_ref().is_some_and(says_mode))
        }
    };
    let runtimes = Runtimes::new(known);
    let facts = Facts {
        release: Facts::release_of(&runtimes),
        config,
        runtimes,
        deployed_as: service.as_ref().and_then(deployed_as),
        keeps_mode,
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
    let read = config_of(cluster.get(&kinds::CONFIG_MAP, Some(kserve), CONFIG_MAP).await, kserve)?;
    Ok(read.unwrap_or_else(|why| (KserveConfig::default(), vec![as_shipped(&why)])))
}

fn as_shipped(why: &str) -> String {
    format!("{why}: KServe is taken to be configured as it ships")
}

/// What could be read of the configuration, and what of it makes no sense, a sentence each; or why it can't be read.
type Read = Result<(KserveConfig, Vec<String>), String>;

fn config_of(map: Result<Option<DynamicObject>, Error>, kserve: &str) -> Result<Read, Error> {
    match map {
        Ok(Some(map)) => {
            let data = map.data.get("data").cloned().unwrap_or_default();
            let data: BTreeMap<String, String> = serde_json::from_value(data).unwrap_or_default();
            Ok(Ok(KserveConfig::parse(&data, None)))
        }
        Ok(None) => Ok(Err(format!("there is no ConfigMap {CONFIG_MAP} in namespace {kserve}"))),
        // Most users may not read KServe's namespace.
        Err(error @ Error::Forbidden { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// How KServe deploys a service that doesn't say so, as far as its other services and the cluster show it, and by what.
async fn default_mode(cluster: &Cluster, namespace: &str) -> (kserve_config::DeploymentMode, String) {
    let services = cluster.list(&kinds::INFERENCE_SERVICE, Some(namespace)).await;
    let services = services.unwrap_or_default();
    let shown = |service: &DynamicObject| {
        let mode = mode_of(service).filter(|mode| *mode != kserve_config::DeploymentMode::ModelMesh)?;
        Some((
            mode,
            format!("as the service {} of this namespace is", service.name_any()),
        ))
    };
    // One that says nothing itself shows it best: what another one says may be its user's word, or the default that KServe wrote down.
    let silent = services.iter().filter(|service| !says_mode(service)).find_map(shown);
    if let Some(found) = silent.or_else(|| services.iter().find_map(shown)) {
        return found;
    }
    match cluster.serves(KNATIVE).await {
        Some(true) => (
            kserve_config::DeploymentMode::Knative,
            "since this cluster has Knative".to_owned(),
        ),
        Some(false) => (
            kserve_config::DeploymentMode::Standard,
            "since this cluster has no Knative".to_owned(),
        ),
        None => (
            kserve_config::DeploymentMode::Knative,
            "as it does where nothing else is said".to_owned(),
        ),
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

/// By its status, and by its own word.
fn modes(service: &DynamicObject) -> impl Iterator<Item = kserve_config::DeploymentMode> {
    let status = service.data["status"]["deploymentMode"].as_str();
    let annotation = service.annotations().get(MODE).map(String::as_str);
    let modes = [status, annotation].into_iter().flatten();
    modes.filter_map(kserve_config::DeploymentMode::named)
}

fn mode_of(service: &DynamicObject) -> Option<kserve_config::DeploymentMode> {
    modes(service).next()
}

fn says_mode(service: &DynamicObject) -> bool {
    service.annotations().contains_key(MODE)
}

/// A service of `ModelMesh`'s says so itself, and KServe repeats it in the status.
fn is_model_mesh(service: &DynamicObject) -> bool {
    modes(service).any(|mode| mode == kserve_config::DeploymentMode::ModelMesh)
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

    const CONFIG: &str = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config";
    const SERVICES: &str = "/apis/serving.kserve.io/v1beta1/namespaces/team-a/inferenceservices";

    /// What is seen by who may not read KServe's namespace.
    async fn without_config(more: &[(&str, Value)]) -> Seen {
        let no = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "user \"eve\" cannot get it"});
        let more = more.iter().map(|(path, object)| ((*path).to_owned(), object.clone()));
        let answers: BTreeMap<String, Value> = more.chain([(CONFIG.to_owned(), no)]).collect();
        look(&cluster(answers.into()), "team-a", "fraud", "kserve")
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn where_the_configuration_may_not_be_read_the_mode_is_that_of_what_can_be_seen() {
        let service = |name: &str, mode: &str, annotations: Value| json!({"metadata": {"name": name, "annotations": annotations}, "status": {"deploymentMode": mode}});
        let wished = service("a", "Knative", json!({MODE: "Knative"}));
        let silent = service("b", "Standard", json!({}));
        let knative = json!({"kind": "APIResourceList", "groupVersion": "serving.knative.dev/v1", "resources": []});
        let knative = ("/apis/serving.knative.dev/v1", knative);
        let list = |items: &[&Value]| (SERVICES, json!({"items": items}));
        for (more, mode, by) in [
            (
                vec![list(&[&wished, &silent]), knative.clone()],
                "Standard",
                "as the service b of this namespace is",
            ),
            (
                vec![list(&[&wished])],
                "Knative",
                "as the service a of this namespace is",
            ),
            (vec![knative], "Knative", "since this cluster has Knative"),
            (vec![], "Standard", "since this cluster has no Knative"),
        ] {
            let seen = without_config(&more).await;
            assert_eq!(format!("{:?}", seen.facts.mode(None)), mode, "{by}");
            let told = format!(
                "not allowed to get configmaps inferenceservice-config in namespace kserve: KServe is taken to be configured as it ships, and to deploy in \
                 {mode} mode, {by}; --deployment-mode says otherwise"
            );
            assert!(seen.remarks.contains(&told), "{:?}", seen.remarks);
        }
    }

    #[tokio::test]
    async fn a_service_that_is_there_already_has_its_mode_and_keeps_its_word_on_it() {
        let service = |annotations: Value| {
            let service = json!({"metadata": {"name": "fraud", "annotations": annotations}, "status": {"deploymentMode": "Standard"}});
            (format!("{SERVICES}/fraud"), service)
        };
        for (annotations, keeps) in [(json!({MODE: "Standard"}), true), (json!({}), false)] {
            let (path, service) = service(annotations);
            let seen = without_config(&[(&path, service)]).await;
            assert_eq!(
                (seen.facts.mode(None), seen.facts.keeps_mode),
                (DeploymentMode::Standard, keeps)
            );
            let remark = seen.remarks.last().unwrap();
            assert!(remark.ends_with("configured as it ships"), "{remark}");
        }
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
