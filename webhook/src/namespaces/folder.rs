//! Without a cluster: what would be written is kept in memory, to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use tidewaiter_world::Labels;
use tokio::time::Instant;

use super::{Minting, Namespaces, ProvideError, Provided, Subject, Wanted, within};
use crate::minting::{Mint, Place};

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

impl Objects {
    fn hold(&self, wanted: &Wanted) -> bool {
        let Secret {
            data, type_, metadata, ..
        } = &*wanted.secret;
        let config_map = wanted.config_map.as_deref();
        (&self.secret.data, &self.secret.type_) == (data, type_)
            && self.secret.metadata.annotations == metadata.annotations
            && config_map.is_none_or(|wanted| self.config_map.as_ref().is_some_and(|there| there.data == wanted.data))
            && (wanted.service_account.is_none() || self.service_account.is_some())
    }
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
    /// MinIO isn't told: nobody would revoke the key.
    async fn mint(
        &self,
        namespace: &str,
        labels: Option<&Labels>,
        mint: &Mint,
        uses: &BTreeSet<String>,
        service_account: bool,
        until: Instant,
    ) -> Result<Minting, ProvideError> {
        let place = Place {
            cluster: "",
            namespace,
            labels,
        };
        let there = {
            let recorded = self.lock();
            let objects = recorded.get(&(namespace.to_owned(), mint.backend().to_owned()));
            objects.map(|objects| objects.secret.clone())
        };
        let minted = mint.next(place, there.as_ref(), uses, Timestamp::now());
        let minted = minted.map_err(|error| ProvideError::Unmintable {
            backend: mint.backend().to_owned(),
            namespace: namespace.to_owned(),
            message: error.to_string(),
            there: there.is_some(),
        })?;
        let mut wanted = mint.wanted(&minted);
        if service_account {
            wanted = wanted.with_service_account();
        }
        let provided = self.provide(namespace, &wanted, until).await?;
        Ok(Minting { provided, untold: None })
    }

    async fn provide(&self, namespace: &str, wanted: &Wanted, _until: Instant) -> Result<Provided, ProvideError> {
        let mut recorded = self.lock();
        let key = (namespace.to_owned(), wanted.backend().to_owned());
        let there = recorded.get(&key);
        if there.is_some_and(|there| there.hold(wanted)) {
            return Ok(Provided::Unchanged);
        }
        let objects = Objects {
            secret: within(namespace, &*wanted.secret),
            config_map: match &wanted.config_map {
                Some(config_map) => Some(within(namespace, &**config_map)),
                None => there.and_then(|there| there.config_map.clone()),
            },
            service_account: match &wanted.service_account {
                Some(service_account) => Some(within(namespace, &**service_account)),
                None => there.and_then(|there| there.service_account.clone()),
            },
        };
        recorded.insert(key, objects);
        Ok(Provided::Written)
    }

    /// A folder has no users.
    async fn may_use(&self, _who: &Subject, _backend: &str, _namespace: &str, _until: Instant) -> Result<bool, String> {
        Ok(true)
    }

    fn copies(&self, backend: &str) -> Vec<String> {
        let recorded = self.lock();
        let of_backend = recorded.keys().filter(|(_, of)| of == backend);
        of_backend.map(|(namespace, _)| namespace.clone()).collect()
    }

    async fn has_secret(&self, namespace: &str, backend: &str, _until: Instant) -> bool {
        self.lock().contains_key(&(namespace.to_owned(), backend.to_owned()))
    }
}
