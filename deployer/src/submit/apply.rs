//! Server-side apply: first as a dry run, then for good.

use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tidewaiter_core::filled;

use super::conflict::{SubmitError, conflicts, failed};
use super::difference::{is_same, restarts};
use crate::cluster::{Attempt, Cluster, Kind};

/// Who submits, for `managedFields`.
pub const FIELD_MANAGER: &str = "tidewaiter";

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
    let applied = send(cluster, kind, object, true, force).await?;
    let is_same = before.is_some_and(|before| is_same(before, &applied.object));
    let restarts = before.is_none_or(|before| restarts(before, &applied.object));
    Ok(Proposal {
        applied,
        is_same,
        restarts,
    })
}

/// Stores an object.
///
/// # Errors
/// As for [`propose`].
pub async fn apply(
    cluster: &Cluster,
    kind: &'static Kind,
    object: &Value,
    force: bool,
) -> Result<Applied, SubmitError> {
    send(cluster, kind, object, false, force).await
}

async fn send(
    cluster: &Cluster,
    kind: &'static Kind,
    object: &Value,
    dry_run: bool,
    force: bool,
) -> Result<Applied, SubmitError> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str();
    let once = async |force: bool| {
        let params = PatchParams {
            dry_run,
            force,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        cluster
            .patch(kind, namespace, name, &params, &Patch::Apply(object))
            .await
    };
    let mut sent = once(force).await;
    // What a webhook filled in on our own way in is in our name, too.
    if let Err(error) = &sent
        && conflicts(error).is_some_and(|conflicts| conflicts.iter().all(|conflict| conflict.manager == FIELD_MANAGER))
    {
        sent = once(true).await;
    }
    let (object, said) =
        sent.map_err(|error| failed(cluster, Attempt::named("patch", kind, namespace, name), &error))?;
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
