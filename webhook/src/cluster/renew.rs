//! Rotated keys, brought to where older ones are.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tidewaiter_core::backend::BACKEND_LABEL;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::configuration::Snapshot;
use crate::namespaces::{Namespaces, PATIENCE, Provided};

/// Brings rotated keys to where older ones are: a Pod that restarts reads them then, and no service needs to be reviewed for that. A namespace that lost
/// its grant gets none: it may be why the key was rotated. Returns whether all that was to be written is.
pub(super) async fn renew(delivered: &[Arc<Secret>], namespaces: &dyn Namespaces, snapshot: &Snapshot) -> bool {
    let mut all = true;
    for secret in delivered {
        let Some(backend) = secret.labels().get(BACKEND_LABEL) else {
            continue;
        };
        let namespace = secret.namespace().unwrap_or_default();
        if !snapshot.grants(backend, &namespace) {
            continue;
        }
        // Of a backend that has no Secret any more: what is there stays.
        let Ok(wanted) = snapshot.renewed(backend) else {
            continue;
        };
        match namespaces.provide(&namespace, wanted, Instant::now() + PATIENCE).await {
            Ok(Provided::Unchanged) => {}
            Ok(Provided::Written) => info!(backend, namespace, "credentials renewed"),
            Err(error) => {
                warn!(backend, namespace, %error, "credentials not renewed; trying again");
                all = false;
            }
        }
    }
    all
}

#[cfg(test)]
#[path = "renew_tests.rs"]
mod tests;
