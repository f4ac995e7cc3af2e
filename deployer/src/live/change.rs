//! Changes to a service: planned from what it is, and written only if it still is that.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::Deployed;
use super::hand_over::hand_over;
use crate::cluster::{self, Cluster, kinds};

/// KServe writes a service's status all the time.
pub(super) const TRIES: usize = 8;

/// What the cluster's KServe can do, told by its definition of an InferenceService.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Canaries beside the predictor in Standard mode (`spec.canary`): from 0.20.
    pub has_canaries: bool,
    /// Stopping in Standard mode, and stopping graphs: from 0.16, which is told by `storageUris`.
    pub stops_standard: bool,
}

impl Release {
    /// Asks the API server.
    ///
    /// # Errors
    /// Where it has no InferenceService, says no, or says nothing.
    pub async fn read(cluster: &Cluster) -> Result<Self, cluster::Error> {
        let schema = cluster.schema(&kinds::INFERENCE_SERVICE).await?;
        Ok(Self {
            has_canaries: schema.has(&["spec", "canary"]),
            stops_standard: schema.has(&["spec", "predictor", "storageUris"]),
        })
    }
}

/// A service that was changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// As it is now.
    pub service: Deployed,
    /// What has to be known beside it, a sentence each.
    pub notes: Vec<String>,
}

/// Why a service isn't changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cluster refuses, or can't be asked.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// It is as it should be.
    #[error("{service} {what}")]
    Already {
        /// `service namespace/name`, or `graph`.
        service: String,
        /// In which way, such as `is stopped already`.
        what: String,
    },
    /// It is a model on the server of a service, and has no Pods of its own.
    #[error("{service} is served by the Pods of service {server}, and has none of its own to scale, stop or split")]
    OnServer {
        /// `trained model namespace/name`.
        service: String,
        /// The service.
        server: String,
    },
    /// KServe can't, or would do something else.
    #[error("{service} can't be {done}: {reason}")]
    Refused {
        /// `service namespace/name`, or `graph`.
        service: String,
        /// Such as `stopped`.
        done: &'static str,
        /// Why not.
        reason: String,
        /// What to do about it.
        next: String,
    },
}

impl Error {
    pub(super) fn refused(service: &Deployed, done: &'static str, reason: &str, next: &str) -> Self {
        Self::Refused {
            service: told(service),
            done,
            reason: reason.to_owned(),
            next: next.to_owned(),
        }
    }

    pub(super) fn already(service: &Deployed, what: &str) -> Self {
        Self::Already {
            service: told(service),
            what: what.to_owned(),
        }
    }

    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Cluster(error) => error.next(),
            Self::Already { .. } => "nothing is left to do".to_owned(),
            Self::OnServer { server, .. } => {
                format!("run it for {server}: what is done there holds for all of its models")
            }
            Self::Refused { next, .. } => next.clone(),
        }
    }
}

pub(super) fn told(service: &Deployed) -> String {
    format!("{} {}/{}", service.what(), service.namespace(), service.name())
}

/// Refuses a model on the server of a service.
pub(super) fn has_pods(service: &Deployed) -> Result<(), Error> {
    match service.server() {
        None => Ok(()),
        Some(server) => Err(Error::OnServer {
            service: told(service),
            server: server.to_owned(),
        }),
    }
}

/// What is to be written, and what has to be known beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// A merge patch.
    pub(super) patch: Value,
    pub(super) notes: Vec<String>,
    /// The next deploy decides again on what the patch says of the model.
    pub(super) brings_model: bool,
}

impl Planned {
    pub(super) fn new(patch: Value) -> Self {
        Self {
            patch,
            notes: Vec::new(),
            brings_model: false,
        }
    }
}

/// Reads a service or a graph, plans, and writes the plan if nobody wrote in between; else once more.
///
/// # Errors
/// What the plan says; where the API server, or a webhook, refuses.
pub async fn apply(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    plan: impl Fn(&Deployed) -> Result<Planned, Error>,
) -> Result<Changed, Error> {
    let mut last = None;
    for _ in 0..TRIES {
        let service = Deployed::read_any(cluster, namespace, name).await?;
        has_pods(&service)?;
        let planned = plan(&service)?;
        let mut patch = planned.patch;
        patch["metadata"]["resourceVersion"] = json!(service.object().metadata.resource_version);
        match cluster.merge(service.kind(), namespace, name, &patch).await {
            Ok(object) => {
                let mut notes = planned.notes;
                if planned.brings_model
                    && let Err(error) = hand_over(cluster, &service, &object, &patch).await
                {
                    notes.push(format!(
                        "a later deploy that names no runtime keeps this model's, until it is taken out by hand: {error}"
                    ));
                }
                return Ok(changed(object, notes));
            }
            Err(error @ cluster::Error::Changed { .. }) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    let attempt = || cluster::Attempt::named("patch", &kinds::INFERENCE_SERVICE, Some(namespace), name);
    Err(last
        .unwrap_or_else(|| cluster::Error::Changed { attempt: attempt() })
        .into())
}

fn changed(object: DynamicObject, notes: Vec<String>) -> Changed {
    Changed {
        service: Deployed::from(object),
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::trained;
    use super::super::{Replicas, scale};
    use super::*;
    use crate::live::Component;
    use crate::reach::tests::{Answers, cluster};

    #[tokio::test]
    async fn what_a_trained_model_has_no_pods_for_is_refused_with_the_service_to_name() {
        let path = "/apis/serving.kserve.io/v1alpha1/namespaces/team-a/trainedmodels/fraud";
        let cluster = cluster(Answers::from([(path, trained(json!({})).plain())]));
        let wanted = Replicas {
            min: Some(2),
            max: None,
        };
        let plan = |service: &Deployed| scale(service, Component::Predictor, wanted);
        let error = apply(&cluster, "team-a", "fraud", plan).await.unwrap_err();
        assert_eq!(
            format!("{error}; {}", error.next()),
            "trained model team-a/fraud is served by the Pods of service many, and has none of its own to scale, stop or split; \
             run it for many: what is done there holds for all of its models"
        );
    }
}
