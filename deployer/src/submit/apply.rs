//! Server-side apply: first as a dry run, then for good.

use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tidewaiter_core::filled;
use tidewaiter_core::kserve_config::DeploymentMode;

use super::conflict::{SubmitError, conflicts, failed};
use super::difference::{is_same, restarts};
use super::history::entries;
use crate::cluster::{self, Attempt, Cluster, Kind};

/// Who submits, for `managedFields`.
pub const FIELD_MANAGER: &str = "tidewaiter";

/// KServe writes a service's status all the time, which makes another version of it.
const TRIES: usize = 8;
/// A version that no object has, since a cluster's first write is the second one of its store: with it an apply makes an object, and never changes one. The API
/// server compares versions only where there is an object (`Store.Update` of `k8s.io/apiserver/pkg/registry/generic/registry`).
const NOBODYS: &str = "1";

/// What became of an object, or would.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object.
    pub object: DynamicObject,
    /// What webhooks said to it, a line each.
    pub said: Vec<String>,
}

/// What would become of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The object as it would be, and what was said to it.
    pub applied: Applied,
    /// Nothing would change.
    pub is_same: bool,
    /// KServe would replace the model's Pods; so it is for a service that isn't there yet.
    pub restarts: bool,
}

impl Proposal {
    /// Tidewaiter's webhook looks at objects in this namespace.
    pub fn is_reviewed(&self) -> bool {
        self.record().is_some() || self.applied.said.iter().any(|line| line.starts_with("tidewaiter: "))
    }

    /// Tidewaiter's webhook brings the credentials of the model's store.
    pub fn has_credentials(&self) -> bool {
        self.record().is_some_and(|record| {
            let record: Value = serde_json::from_str(record).unwrap_or_default();
            let paths = record.as_object().into_iter().flatten();
            paths.filter(|(_, value)| !value.is_null()).any(|(path, _)| {
                // The annotation's name is KServe's configuration's to say; by default it ends so.
                path.ends_with("/serviceAccountName")
                    || path.contains("/storage/key")
                    || path.to_ascii_lowercase().ends_with("secretname")
            })
        })
    }

    /// The share of its requests, of a hundred, that Knative leads to the newest revision because an earlier split or rollback said so, and not this object. None
    /// where all of them go there, or the object says so itself.
    pub fn kept_share(&self, object: &Value, before: Option<&DynamicObject>) -> Option<u64> {
        let share = |spec: &Value| spec["predictor"]["canaryTrafficPercent"].as_u64();
        let mode = before?.data["status"]["deploymentMode"].as_str().unwrap_or_default();
        // In Standard mode the field does nothing.
        if DeploymentMode::named(mode) != Some(DeploymentMode::Knative) || share(&object["spec"]).is_some() {
            return None;
        }
        share(&self.applied.object.data["spec"]).filter(|&share| share < 100)
    }

    fn record(&self) -> Option<&str> {
        let annotations = self.applied.object.metadata.annotations.as_ref()?;
        annotations.get(filled::ANNOTATION).map(String::as_str)
    }
}

/// Asks what would become of an object. Stores nothing. `before` is the object as it is.
///
/// # Errors
/// Where the API server or a webhook refuses it, or others manage what it changes.
pub async fn propose(
    cluster: &Cluster,
    kind: &'static Kind,
    object: &Value,
    before: Option<&DynamicObject>,
    force: bool,
) -> Result<Proposal, SubmitError> {
    let applied = match send(cluster, kind, object, None, true, force).await {
        Ok(applied) => applied,
        Err(error) => {
            return Err(told(cluster, kind, object, &error)
                .with_all_missing(cluster, &[kind])
                .await);
        }
    };
    let is_same = before.is_some_and(|before| is_same(before, &applied.object));
    let restarts = before.is_none_or(|before| restarts(before, &applied.object));
    Ok(Proposal {
        applied,
        is_same,
        restarts,
    })
}

/// Stores an object, if nobody made or changed it since it was looked at (`seen`; none where there was none). A change of its status alone is none.
///
/// # Errors
/// As for [`propose`]; [`SubmitError::Meanwhile`] where somebody was faster.
pub async fn apply(
    cluster: &Cluster,
    kind: &'static Kind,
    object: &Value,
    seen: Option<&DynamicObject>,
    force: bool,
) -> Result<Applied, SubmitError> {
    let (name, namespace) = place(object);
    let version = |seen: Option<&DynamicObject>| match seen {
        Some(seen) => seen.metadata.resource_version.clone(),
        None => Some(NOBODYS.to_owned()),
    };
    let mut over = version(seen);
    let mut tries = 1;
    loop {
        let error = match send(cluster, kind, object, over.as_deref(), false, force).await {
            Ok(applied) => return Ok(applied),
            Err(error) => error,
        };
        let error = told(cluster, kind, object, &error);
        if tries == TRIES || !matches!(error, SubmitError::Cluster(cluster::Error::Changed { .. })) {
            return Err(error);
        }
        tries += 1;
        let now = cluster.get(kind, namespace, name).await?;
        let is_as_seen = match (&now, seen) {
            (Some(now), Some(seen)) => now.metadata.uid == seen.metadata.uid && is_same(now, seen),
            (None, None) => true,
            _ => false,
        };
        if !is_as_seen {
            return Err(SubmitError::Meanwhile {
                kind: kind.kind,
                name: name.to_owned(),
                namespace: namespace.unwrap_or_default().to_owned(),
                by: now.as_ref().and_then(|now| by(now, seen)),
                is_gone: now.is_none(),
            });
        }
        over = version(now.as_ref());
    }
}

/// Who deployed an object since it was seen, where its history says so.
fn by(now: &DynamicObject, seen: Option<&DynamicObject>) -> Option<String> {
    let before = seen.map(entries).unwrap_or_default();
    let newest = entries(now).into_iter().next()?;
    (before.first() != Some(&newest)).then_some(newest.by)
}

fn place(object: &Value) -> (&str, Option<&str>) {
    let metadata = &object["metadata"];
    (
        metadata["name"].as_str().unwrap_or_default(),
        metadata["namespace"].as_str(),
    )
}

fn told(cluster: &Cluster, kind: &'static Kind, object: &Value, error: &kube::Error) -> SubmitError {
    let (name, namespace) = place(object);
    failed(cluster, Attempt::named("patch", kind, namespace, name), error)
}

/// `version`: of the object that it may be written over.
async fn send(
    cluster: &Cluster,
    kind: &'static Kind,
    object: &Value,
    version: Option<&str>,
    dry_run: bool,
    force: bool,
) -> Result<Applied, kube::Error> {
    let mut object = object.clone();
    if let Some(version) = version {
        object["metadata"]["resourceVersion"] = json!(version);
    }
    let (name, namespace) = place(&object);
    let once = async |force: bool| {
        let params = PatchParams {
            dry_run,
            force,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        cluster
            .patch(kind, namespace, name, &params, &Patch::Apply(&object))
            .await
    };
    let mut sent = once(force).await;
    // What a webhook filled in on our own way in is in our name, too.
    if let Err(error) = &sent
        && conflicts(error).is_some_and(|conflicts| conflicts.iter().all(|conflict| conflict.manager == FIELD_MANAGER))
    {
        sent = once(true).await;
    }
    let (object, said) = sent?;
    Ok(Applied { object, said })
}

/// An object with an owner, so that it goes with it.
pub(super) fn owned(mut object: Value, owner: &DynamicObject) -> Value {
    let types = owner.types.clone().unwrap_or_default();
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": types.api_version,
        "kind": types.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
    }]);
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(record: Option<&str>, said: &[&str]) -> Proposal {
        let annotations = record.map(|record| json!({filled::ANNOTATION: record}));
        Proposal {
            applied: Applied {
                object: serde_json::from_value(json!({"metadata": {"name": "a", "annotations": annotations}})).unwrap(),
                said: said.iter().map(|&line| line.to_owned()).collect(),
            },
            is_same: false,
            restarts: true,
        }
    }

    #[test]
    fn a_share_that_a_rollback_left_is_told_once_and_in_knative_mode_alone() {
        let service = |mode: &str, share: Value| -> DynamicObject {
            let object = json!({"metadata": {"name": "a"}, "spec": {"predictor": {"canaryTrafficPercent": share}}, "status": {"deploymentMode": mode}});
            serde_json::from_value(object).unwrap()
        };
        let kept = |mode: &str, share: Value, wished: Value| {
            let mut proposal = proposal(None, &[]);
            proposal.applied.object = service(mode, share.clone());
            let object = json!({"spec": {"predictor": {"canaryTrafficPercent": wished}}});
            proposal.kept_share(&object, Some(&service(mode, share)))
        };
        assert_eq!(kept("Serverless", json!(0), Value::Null), Some(0));
        assert_eq!(kept("Knative", json!(30), Value::Null), Some(30));
        assert_eq!(kept("Knative", json!(0), json!(0)), None);
        assert_eq!(kept("Knative", Value::Null, Value::Null), None);
        assert_eq!(kept("Standard", json!(0), Value::Null), None);
        assert_eq!(proposal(None, &[]).kept_share(&json!({}), None), None);
    }

    #[test]
    fn what_tidewaiter_would_bring_shows_in_its_record() {
        let annotation = r#"{"/metadata/annotations/serving.kserve.io~1storageSecretName":"tidewaiter-minio"}"#;
        assert!(proposal(Some(annotation), &[]).has_credentials());
        let account = r#"{"/spec/predictor/serviceAccountName":"tidewaiter-minio"}"#;
        assert!(proposal(Some(account), &[]).has_credentials());
        // A house rule's annotation is no key.
        let house = proposal(Some(r#"{"/metadata/annotations/team":"fraud"}"#), &[]);
        assert!(house.is_reviewed() && !house.has_credentials());
        let protocol = proposal(Some(r#"{"/spec/predictor/model/protocolVersion":"v2"}"#), &[]);
        assert!(protocol.is_reviewed() && !protocol.has_credentials());
        let unserved = proposal(None, &["tidewaiter: no backend serves s3://a/"]);
        assert!(unserved.is_reviewed() && !unserved.has_credentials());
        assert!(!proposal(None, &["unknown field \"x\""]).is_reviewed());
        // Withheld: the user took it out.
        let withheld = r#"{"/spec/predictor/serviceAccountName":null}"#;
        assert!(!proposal(Some(withheld), &[]).has_credentials());
    }
}
