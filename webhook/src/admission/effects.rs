//! What has to be done before the object is admitted.

use tidewaiter_engine::outcome::{Denial, Operation, Outcome, Review};
use tracing::{error, info};

use super::Failure;
use crate::configuration::Snapshot;
use crate::metrics::Metrics;
use crate::namespaces::{Namespaces, ProvideError, Provided};

/// Has all credentials that the outcome asks for in the object's namespace. On an update of an object whose credentials are there already, what can't be
/// written is a warning.
pub(super) async fn carry_out(
    outcome: &mut Outcome,
    review: &Review<'_>,
    snapshot: &Snapshot,
    namespaces: &dyn Namespaces,
    metrics: &Metrics,
) -> Result<(), Failure> {
    let effects = std::mem::take(&mut outcome.effects);
    for effect in &effects {
        let wanted = snapshot.wanted(effect).map_err(|error| {
            let message = error.to_string();
            metrics.credentials("unusable");
            error!(backend = effect.backend, namespace = review.namespace, %message, "no credentials to deliver");
            failure(effect, 500, "credentials-unusable", message)
        })?;
        match namespaces.provide(review.namespace, &wanted).await {
            Ok(Provided::Unchanged) => metrics.credentials("unchanged"),
            Ok(Provided::Written) => {
                metrics.credentials("written");
                info!(
                    backend = effect.backend,
                    namespace = review.namespace,
                    "credentials written"
                );
            }
            Err(error) if error.there() && review.operation == Operation::Update => {
                metrics.credentials("stale");
                error!(backend = effect.backend, namespace = review.namespace, %error, "credentials not renewed");
                outcome.warnings.push(super::cut(format!(
                    "tidewaiter: the credentials of {} could not be renewed; those there are used",
                    effect.backend
                )));
            }
            Err(error) => {
                let code = if matches!(error, ProvideError::Unreachable { .. }) {
                    500
                } else {
                    403
                };
                metrics.credentials(if code == 500 { "unreachable" } else { "refused" });
                error!(backend = effect.backend, namespace = review.namespace, %error, "credentials not written");
                return Err(failure(effect, code, error.code(), error.to_string()));
            }
        }
    }
    outcome.effects = effects;
    Ok(())
}

fn failure(effect: &tidewaiter_engine::outcome::Effect, code: u16, word: &str, message: String) -> Failure {
    Failure {
        policy: Some(effect.policy.clone()),
        code,
        denial: Denial {
            code: word.into(),
            message,
            path: None,
        },
    }
}
