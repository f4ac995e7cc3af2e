//! What has to be done before the object is admitted.

use tidewaiter_core::document::Document;
use tidewaiter_core::service::is_stopped;
use tidewaiter_engine::outcome::{Denial, Effect, Operation, Outcome, Review};
use tidewaiter_world::ReviewWorld;
use tokio::time::Instant;
use tracing::{error, info};

use super::Failure;
use super::authorize::uses;
use crate::configuration::Snapshot;
use crate::metrics::Metrics;
use crate::namespaces::{Namespaces, ProvideError, Provided};

/// Has all credentials that the outcome asks for in the object's namespace. On an update of an object whose credentials are there already, what can't be
/// made or written is a warning. For one that is being stopped nothing is done: no Pod will read them, and starting it is an update again.
pub(super) async fn carry_out(
    outcome: &mut Outcome,
    review: &Review<'_>,
    snapshot: &Snapshot,
    world: &ReviewWorld,
    namespaces: &dyn Namespaces,
    metrics: &Metrics,
    until: Instant,
) -> Result<(), Failure> {
    if outcome.effects.is_empty() || is_stopped(review.object) {
        return Ok(());
    }
    let effects = std::mem::take(&mut outcome.effects);
    for effect in &effects {
        let (backend, namespace) = (&effect.backend, review.namespace);
        let granted = snapshot.grants_any(backend, namespace, None)
            || snapshot.grants_any(backend, namespace, world.labels().await);
        match deliver(effect, granted, review, snapshot, namespaces, until).await {
            Ok(Provided::Unchanged) => metrics.credentials("unchanged"),
            Ok(Provided::Written) => {
                metrics.credentials("written");
                info!(backend, namespace, "credentials written");
            }
            Err(Undelivered { there: true, error, .. }) if review.operation == Operation::Update => {
                metrics.credentials("stale");
                error!(backend, namespace, error, "credentials not renewed");
                outcome.warnings.push(super::cut(format!(
                    "tidewaiter: the credentials of {backend} could not be renewed; those there are used"
                )));
            }
            Err(undelivered) => {
                metrics.credentials(undelivered.result);
                error!(backend, namespace, error = undelivered.error, "credentials not written");
                return Err(undelivered.failure(effect));
            }
        }
    }
    outcome.effects = effects;
    Ok(())
}

/// Why credentials are not there as wanted.
struct Undelivered {
    code: u16,
    /// For the metric.
    result: &'static str,
    /// For the denial.
    word: &'static str,
    error: String,
    /// Whether older ones are there.
    there: bool,
}

async fn deliver(
    effect: &Effect,
    granted: bool,
    review: &Review<'_>,
    snapshot: &Snapshot,
    namespaces: &dyn Namespaces,
    until: Instant,
) -> Result<Provided, Undelivered> {
    if !granted {
        return Err(Undelivered {
            code: 403,
            result: "refused",
            word: "backend-not-granted",
            error: format!(
                "the policy {} asks for the credentials of the StorageBackend {}, which grants nothing to the namespace {}; an admin has to grant it, \
                 or to mend the policy",
                effect.policy, effect.backend, review.namespace
            ),
            there: namespaces.has_secret(review.namespace, &effect.backend, until).await,
        });
    }
    let wanted = match snapshot.wanted(effect) {
        Ok(wanted) => wanted,
        Err(error) => {
            return Err(Undelivered {
                code: 500,
                result: "unusable",
                word: "credentials-unusable",
                error: error.to_string(),
                there: namespaces.has_secret(review.namespace, &effect.backend, until).await,
            });
        }
    };
    namespaces
        .provide(review.namespace, wanted, until)
        .await
        .map_err(|error| {
            let (code, result) = match error {
                ProvideError::Unreachable { .. } => (500, "unreachable"),
                ProvideError::Foreign { .. } | ProvideError::Refused { .. } | ProvideError::Elsewhere { .. } => {
                    (403, "refused")
                }
            };
            // Where nothing can be read, a service that uses them already is taken at its word: an admin who names fewer namespaces stops no one from
            // changing what runs in the others.
            let there = error.there()
                || matches!(error, ProvideError::Elsewhere { .. })
                    && review
                        .old_object
                        .is_some_and(|old| uses_backend(old, review, effect, snapshot));
            Undelivered {
                code,
                result,
                word: error.code(),
                error: error.to_string(),
                there,
            }
        })
}

fn uses_backend(old: &Document, review: &Review<'_>, effect: &Effect, snapshot: &Snapshot) -> bool {
    let backend = snapshot.configuration.backends().get(&effect.backend);
    backend.is_some_and(|backend| uses(old, review.kind, backend, snapshot))
}

impl Undelivered {
    fn failure(self, effect: &Effect) -> Failure {
        Failure {
            policy: Some(effect.policy.clone()),
            code: self.code,
            denial: Denial {
                code: self.word.into(),
                message: self.error,
                path: None,
            },
        }
    }
}

#[cfg(test)]
#[path = "effects_tests.rs"]
mod tests;
