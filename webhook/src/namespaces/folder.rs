//! Without a cluster: what would be written is kept in memory, to be looked at.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use tokio::time::Instant;

use super::{Namespaces, ProvideError, Provided, Wanted};

/// What would be in the cluster.
#[derive(Default)]
pub struct Recorded(Mutex<BTreeMap<(String, String), Objects>>);

/// What would be written for one backend in one namespace. The Secret holds real keys: mask them before showing.
#[derive(Clone, PartialEq)]
pub struct Objects {
    /// The credentials.
    pub secret: Secret,
    /// The store's authorities.
    pub config_map: Option<ConfigMap>,
    /// Lists the Secret.
    pub service_account: Option<ServiceAccount>,
}

impl Recorded {
    /// All that was asked for so far, ordered by namespace and backend.
    pub fn objects(&self) -> Vec<Objects> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Objects>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Namespaces for Recorded {
    async fn provide(&self, namespace: &str, wanted: &Wanted, _until: Instant) -> Result<Provided, ProvideError> {
        let mut objects = Objects {
            secret: wanted.secret(namespace),
            config_map: wanted.config_map(namespace),
            service_account: wanted.service_account(namespace),
        };
        let mut recorded = self.lock();
        let key = (namespace.to_owned(), wanted.backend.clone());
        if let Some(there) = recorded.get(&key) {
            objects.config_map = objects.config_map.or_else(|| there.config_map.clone());
            objects.service_account = objects.service_account.or_else(|| there.service_account.clone());
            if *there == objects {
                return Ok(Provided::Unchanged);
            }
        }
        recorded.insert(key, objects);
        Ok(Provided::Written)
    }

    async fn has_secret(&self, namespace: &str, backend: &str, _until: Instant) -> bool {
        self.lock().contains_key(&(namespace.to_owned(), backend.to_owned()))
    }
}
