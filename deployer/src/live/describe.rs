//! Everything about a service, a graph of services, or a model on another's server: how it is, by which way it has its credentials, what Tidewaiter filled in, and what happened to it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tidewaiter_core::filled;
use tidewaiter_core::kserve_config::{CONFIG_MAP, KserveConfig, SHIPPED_ANNOTATION};

use super::pods;
use super::status::{Status, if_allowed};
use super::{Component, Deployed, Deployment, history};
use crate::cluster::{Cluster, Error, kinds};

/// All that is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// How it is.
    #[serde(flatten)]
    pub status: Status,
    /// By which way its Pods, or its server's, open the model's store; none of a graph, whose Pods open none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// What Tidewaiter's webhook filled in: value by path.
    pub filled: BTreeMap<String, Value>,
    /// Every deployment that is on record, the newest first.
    pub history: Vec<Deployment>,
    /// Of the service and its Pods, the oldest first.
    pub events: Vec<Happening>,
}

/// By which way a predictor's Pods open the model's store, as KServe chooses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "by")]
pub enum Credentials {
    /// A key of a storage Secret (`model.storage`).
    StorageKey {
        /// The Secret.
        secret: String,
        /// Its key; none where KServe takes a default one.
        key: Option<String>,
    },
    /// The Secret that an annotation names.
    Annotation {
        /// The Secret.
        secret: String,
    },
    /// The Secrets, or the cloud identity, of a `ServiceAccount`.
    #[serde(rename_all = "camelCase")]
    ServiceAccount {
        /// Its name.
        account: String,
        /// The Secrets that it lists; none where it can't be read.
        secrets: Option<Vec<String>>,
        /// The cloud identity that it stands for, if any.
        identity: Option<String>,
    },
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// When it last happened.
    pub at: Option<Timestamp>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub of: String,
    /// To what: `Pod/fraud-predictor-x`.
    pub object: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often.
    pub count: u64,
}

/// Cloud identities of `ServiceAccounts`, by their annotation: EKS, GKE, Azure.
const IDENTITIES: [&str; 3] = [
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
    "azure.workload.identity/client-id",
];

/// Reads everything about a service, a graph of services, or a model on another's server.
///
/// # Errors
/// Where it isn't there; where the API server says nothing. What may not be read is told in the answer.
pub async fn describe(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    kserve_namespace: &str,
) -> Result<Description, Error> {
    let service = Deployed::read_any(cluster, namespace, name).await?;
    let mut unknown = Vec::new();
    let objects = if_allowed(pods::objects(cluster, &service).await, &mut unknown)?;
    let mut known = |error: Error| unknown.push(error.to_string());
    let credentials = if service.is_graph() {
        None
    } else {
        match service.asked(cluster).await {
            Ok(opens) => Some(way_to_store(cluster, &opens, kserve_namespace, &mut known).await),
            Err(error) => {
                known(error);
                None
            }
        }
    };
    let names = objects
        .iter()
        .flatten()
        .filter_map(|pod| pod["metadata"]["name"].as_str());
    let owners = std::iter::once((service.kind().kind, name)).chain(names.map(|name| ("Pod", name)));
    let mut events = Vec::new();
    for (kind, name) in owners {
        let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
        match cluster.events(&kinds::EVENT, namespace, &fields).await {
            Ok(found) => events.extend(found.iter().map(happening)),
            Err(error) => {
                known(error);
                break;
            }
        }
    }
    events.sort_by_key(|event| event.at);
    let states = objects.map(|objects| objects.iter().map(pods::state).collect());
    Ok(Description {
        status: Status::of(&service, states, unknown),
        credentials,
        filled: filled_in(&service),
        history: history(&service),
        events,
    })
}

async fn way_to_store(
    cluster: &Cluster,
    service: &Deployed,
    kserve_namespace: &str,
    mut known: impl FnMut(Error),
) -> Credentials {
    let map = cluster
        .get(&kinds::CONFIG_MAP, Some(kserve_namespace), CONFIG_MAP)
        .await;
    let config = map.map_or_else(
        |error| {
            known(error);
            KserveConfig::default()
        },
        |map| map.map(|map| config(&map.data)).unwrap_or_default(),
    );
    let mut credentials = credentials(service, &config);
    if let Credentials::ServiceAccount {
        account,
        secrets,
        identity,
    } = &mut credentials
    {
        match cluster
            .get(&kinds::SERVICE_ACCOUNT, Some(&service.namespace()), account)
            .await
        {
            Ok(Some(object)) => {
                *secrets = Some(listed(&object.data["secrets"]));
                let annotations = object.metadata.annotations.unwrap_or_default();
                *identity = IDENTITIES.iter().find_map(|name| annotations.get(*name)).cloned();
            }
            Ok(None) => {}
            Err(error) => known(error),
        }
    }
    credentials
}

fn config(map: &Value) -> KserveConfig {
    let data: BTreeMap<String, String> = serde_json::from_value(map["data"].clone()).unwrap_or_default();
    KserveConfig::parse(&data, None).0
}

/// KServe's order: a storage key alone, else the annotation alone, else the account.
fn credentials(service: &Deployed, config: &KserveConfig) -> Credentials {
    let predictor = service.component(Component::Predictor).cloned().unwrap_or_default();
    let annotation = config.secret_annotation.as_deref().unwrap_or(SHIPPED_ANNOTATION);
    let named = predictor["annotations"][annotation]
        .as_str()
        .or_else(|| service.annotation(annotation));
    let storage = service
        .model()
        .map(|(_, model)| &model["storage"])
        .filter(|storage| storage.is_object());
    if let Some(storage) = storage {
        return Credentials::StorageKey {
            secret: named.unwrap_or(&config.storage_spec_secret).to_owned(),
            key: storage["key"].as_str().map(str::to_owned),
        };
    }
    match named {
        Some(secret) => Credentials::Annotation {
            secret: secret.to_owned(),
        },
        None => Credentials::ServiceAccount {
            account: predictor["serviceAccountName"].as_str().unwrap_or("default").to_owned(),
            secrets: None,
            identity: None,
        },
    }
}

fn listed(secrets: &Value) -> Vec<String> {
    let secrets = secrets.as_array().into_iter().flatten();
    secrets
        .filter_map(|secret| secret["name"].as_str().map(str::to_owned))
        .collect()
}

/// What is on record, but for what the user took out.
fn filled_in(service: &Deployed) -> BTreeMap<String, Value> {
    let record = service.annotation(filled::ANNOTATION);
    let record: BTreeMap<String, Value> = record
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    record.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn happening(event: &Value) -> Happening {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let times = [
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    let involved = &event["involvedObject"];
    Happening {
        at: times.iter().find_map(|time| time.as_str()?.parse().ok()),
        of: text(&event["type"]),
        object: format!("{}/{}", text(&involved["kind"]), text(&involved["name"])),
        reason: text(&event["reason"]),
        message: text(&event["message"]).trim().to_owned(),
        count: event["count"].as_u64().unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::deployed;
    use super::*;

    #[test]
    fn the_way_to_the_store_is_the_one_that_kserve_takes() {
        let by = |object: Value| credentials(&deployed(object), &KserveConfig::default());
        let account = |name: &str| Credentials::ServiceAccount {
            account: name.into(),
            secrets: None,
            identity: None,
        };
        let model = json!({"model": {"storageUri": "s3://a/b"}});
        assert_eq!(by(json!({"spec": {"predictor": model}})), account("default"));
        let named = json!({"spec": {"predictor": {"serviceAccountName": "models"}}});
        assert_eq!(by(named.clone()), account("models"));
        let mut annotated = named;
        annotated["metadata"] = json!({"annotations": {SHIPPED_ANNOTATION: "minio"}});
        assert_eq!(
            by(annotated.clone()),
            Credentials::Annotation { secret: "minio".into() }
        );
        annotated["spec"]["predictor"]["annotations"] = json!({SHIPPED_ANNOTATION: "own"});
        assert_eq!(by(annotated.clone()), Credentials::Annotation { secret: "own".into() });
        annotated["spec"]["predictor"]["model"] = json!({"storage": {"key": "team"}});
        let key = Credentials::StorageKey {
            secret: "own".into(),
            key: Some("team".into()),
        };
        assert_eq!(by(annotated), key);
    }

    #[test]
    fn what_the_user_took_out_was_not_filled_in() {
        let record = json!({"/spec/a": 1, "/spec/b": null}).to_string();
        let service = deployed(json!({"metadata": {"annotations": {filled::ANNOTATION: record}}}));
        assert_eq!(filled_in(&service), BTreeMap::from([("/spec/a".to_owned(), json!(1))]));
    }
}
