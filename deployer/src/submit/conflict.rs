//! Why something could not be submitted.

use std::fmt;

use crate::cluster::{Attempt, Cluster, Error, Kind, kinds};
use crate::service::WishError;

use super::store::StoreError;

/// A field that somebody else manages, with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who: a tool such as `kubectl-client-side-apply` or `argocd-controller`.
    pub manager: String,
    /// Which field, such as `.spec.predictor.minReplicas`.
    pub field: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.field, self.manager)
    }
}

/// Why something could not be submitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The cluster can't be asked, or refuses.
    #[error(transparent)]
    Cluster(#[from] Error),
    /// No object can be made.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// No Secret can be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What would be written is there, and somebody else's, or another service's.
    #[error("{kind} {name} is in namespace {namespace} already, and wasn't made for this")]
    Foreign {
        /// `Secret` or `ServiceAccount`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// Somebody made, changed or deleted it since it was looked at.
    #[error("{kind} {name} in namespace {namespace} was {} meanwhile{}", if *is_gone { "deleted" } else { "changed" }, by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default())]
    Meanwhile {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// Who deployed it, where that is told.
        by: Option<String>,
        /// It isn't there any more.
        is_gone: bool,
    },
    /// Others manage fields of the object.
    #[error(
        "{name} in namespace {namespace} is managed by others, with other values: {}",
        listed(conflicts)
    )]
    Conflict {
        /// The object.
        name: String,
        /// Its namespace.
        namespace: String,
        /// It is a Secret or a `ServiceAccount` of this command's own.
        is_credentials: bool,
        /// What, and by whom.
        conflicts: Vec<Conflict>,
    },
}

impl SubmitError {
    /// The same; where a right is missing, with all that are missing to store objects of these kinds.
    pub(super) async fn with_all_missing(self, cluster: &Cluster, kinds: &[&'static Kind]) -> Self {
        match self {
            Self::Cluster(error) => Self::Cluster(cluster.with_all_missing(error, kinds).await),
            error => error,
        }
    }

    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Cluster(error) => error.next(),
            Self::Wish(error) => error.next(),
            Self::Store(error) => error.next(),
            Self::Foreign { name, .. } => format!(
                "use it as it is (`tidewaiter deploy --secret {name}`), or choose another name: of the service with --name, or of the Secret"
            ),
            Self::Meanwhile { is_gone: true, .. } => "run it again: it is made anew then".to_owned(),
            Self::Meanwhile { .. } => {
                "look at what it is now (`--diff` shows what would change), and run it again where yours is to replace it".to_owned()
            }
            Self::Conflict {
                conflicts,
                is_credentials,
                ..
            } => {
                let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
                managers.sort_unstable();
                managers.dedup();
                let managers = managers.join(" and ");
                if *is_credentials {
                    return format!("change it where {managers} keeps it, or delete it: it is made anew then");
                }
                format!("change it where {managers} keeps it, or take it over with --force-conflicts")
            }
        }
    }
}

fn listed(conflicts: &[Conflict]) -> String {
    let listed: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    listed.join(", ")
}

/// The fields in conflict, where the API server refused a server-side apply for them.
pub(super) fn conflicts(error: &kube::Error) -> Option<Vec<Conflict>> {
    let kube::Error::Api(status) = error else { return None };
    if status.code != 409 {
        return None;
    }
    let causes = status
        .details
        .as_ref()
        .map(|details| details.causes.as_slice())
        .unwrap_or_default();
    let found: Vec<_> = causes
        .iter()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| Conflict {
            // `conflict with "kubectl" using serving.kserve.io/v1beta1 at …`
            manager: cause.message.split('"').nth(1).unwrap_or("somebody").to_owned(),
            field: cause.field.clone(),
        })
        .collect();
    (!found.is_empty()).then_some(found)
}

pub(super) fn failed(cluster: &Cluster, attempt: Attempt, error: &kube::Error) -> SubmitError {
    match conflicts(error) {
        Some(conflicts) => SubmitError::Conflict {
            name: attempt.name.clone().unwrap_or_default(),
            namespace: attempt.namespace.clone().unwrap_or_default(),
            is_credentials: [kinds::SECRET.kind, kinds::SERVICE_ACCOUNT.kind].contains(&attempt.kind.kind),
            conflicts,
        },
        None => cluster.failed(attempt, error).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conflict_names_the_field_and_its_owner() {
        // As kube-apiserver 1.36 answers.
        let status = json!({"kind": "Status", "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict", "details": {"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using serving.kserve.io/v1beta1", "field": ".spec.predictor.minReplicas"},
        ]}});
        let error = kube::Error::Api(serde_json::from_value(status).unwrap());
        let error = SubmitError::Conflict {
            name: "fraud".to_owned(),
            namespace: "team-a".to_owned(),
            is_credentials: false,
            conflicts: conflicts(&error).unwrap(),
        };
        assert_eq!(
            error.to_string(),
            "fraud in namespace team-a is managed by others, with other values: .spec.predictor.minReplicas by kubectl-edit"
        );
        assert!(
            error
                .next()
                .contains("kubectl-edit keeps it, or take it over with --force-conflicts")
        );
        let changed = json!({"code": 409, "reason": "Conflict", "message": "the object has been modified"});
        assert_eq!(
            conflicts(&kube::Error::Api(serde_json::from_value(changed).unwrap())),
            None
        );
    }
}
