//! What has to be done before the object is admitted.

use tidewaiter_core::document::Document;
use tidewaiter_core::service::{Service, is_stopped};
use tidewaiter_engine::outcome::{Delivery, Denial, Effect, Operation, Outcome, Review};
use tidewaiter_world::ReviewWorld;
use tokio::time::Instant;
use tracing::{error, info};

use super::Failure;
use super::authorize::uses;
use crate::configuration::{Snapshot, ToDeliver};
use crate::metrics::Metrics;
use crate::namespaces::{Minting, Namespaces, ProvideError, Provided};

/// Has all credentials that the outcome asks for in the object's namespace. On an update of an object whose credentials are there already, what can't be
/// made or written is a warning. So it is where the API server doesn't answer and the leader will write them: KServe makes no Pod without the Secret
/// that is named, and its ReplicaSet tries again. The log has the request's `uid`. For one that is being stopped nothing is done: no Pod will read them,
/// and starting it is an update again.
pub(super) async fn carry_out(
    outcome: &mut Outcome,
    review: &Review<'_>,
    snapshot: &Snapshot,
    world: &ReviewWorld,
    namespaces: &dyn Namespaces,
    (metrics, uid): (&Metrics, &str),
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
        match deliver(effect, granted, review, snapshot, world, namespaces, until).await {
            Ok(Minting { provided, untold }) => {
                match provided {
                    Provided::Unchanged => metrics.credentials("unchanged"),
                    Provided::Written => {
                        metrics.credentials("written");
                        info!(uid, backend, namespace, "credentials written");
                    }
                }
                if let Some(error) = untold {
                    metrics.credentials("untold");
                    error!(
                        uid,
                        backend, namespace, %error, "the access key can't read all that it should yet; trying again"
                    );
                    outcome.warnings.push(super::cut(format!(
                        "tidewaiter: the key of {backend} can't read this model yet, since its store doesn't take it; trying on"
                    )));
                }
            }
            Err(Undelivered { there: true, error, .. }) if review.operation == Operation::Update => {
                metrics.credentials("stale");
                error!(uid, backend, namespace, error, "credentials not renewed");
                outcome.warnings.push(super::cut(format!(
                    "tidewaiter: the credentials of {backend} could not be renewed; those there are used"
                )));
            }
            Err(undelivered) => {
                metrics.credentials(undelivered.result);
                error!(
                    uid,
                    backend,
                    namespace,
                    error = undelivered.error,
                    "credentials not written"
                );
                if undelivered.follow {
                    outcome.warnings.push(super::cut(format!(
                        "tidewaiter: the API server can't take the credentials of {backend} now: they come in a moment, Pods wait for them"
                    )));
                    continue;
                }
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
    /// Whether the leader writes them as soon as it sees the object.
    follow: bool,
}

async fn deliver(
    effect: &Effect,
    granted: bool,
    review: &Review<'_>,
    snapshot: &Snapshot,
    world: &ReviewWorld,
    namespaces: &dyn Namespaces,
    until: Instant,
) -> Result<Minting, Undelivered> {
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
            follow: false,
        });
    }
    let service_account = matches!(effect.delivery, Delivery::ServiceAccount);
    let wanted = match snapshot.wanted(&effect.backend, service_account) {
        Ok(wanted) => wanted,
        Err(error) => {
            return Err(Undelivered {
                code: 500,
                result: "unusable",
                word: "credentials-unusable",
                error: error.to_string(),
                there: namespaces.has_secret(review.namespace, &effect.backend, until).await,
                follow: false,
            });
        }
    };
    let done = match wanted {
        ToDeliver::Copy(wanted) => {
            let provided = namespaces.provide(review.namespace, wanted, until).await;
            provided.map(|provided| Minting { provided, untold: None })
        }
        ToDeliver::Minted(mint) => {
            let labels = if mint.asks_for_labels() {
                world.labels().await
            } else {
                None
            };
            let service = Service::parse(review.kind, review.object.as_str());
            let components = service.iter().flat_map(Service::components);
            let uris = components.flat_map(|component| component.models.iter().map(|model| &*model.uri));
            let uses = mint.used(uris, review.namespace, labels);
            namespaces
                .mint(review.namespace, labels, mint, &uses, service_account, until)
                .await
        }
    };
    done.map_err(|error| {
        let (code, result) = match error {
            ProvideError::Unreachable { .. } => (500, "unreachable"),
            ProvideError::Unmintable { .. } => (403, "unusable"),
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
        // It leaves alone what a right is asked for, since only a review asks for it.
        let backend = snapshot.configuration.backends().get(&effect.backend);
        let asks = backend.is_some_and(|backend| backend.spec().authorization.is_some());
        Undelivered {
            code,
            result,
            word: error.code(),
            follow: matches!(error, ProvideError::Unreachable { .. }) && !asks,
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
