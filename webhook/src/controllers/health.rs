//! Whether the backends' stores answer and take their credentials, looked at by the leader before a user's model has to find out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidewaiter_core::backend::{Backend, Credentials};
use tidewaiter_core::backends::{Backends, Resolved};
use tidewaiter_world::{Configuration, Reach};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::services::{Service, Services};
use crate::admission::Reviewer;
use crate::cluster::events::Wrong;
use crate::cluster::watched::Changes;
use crate::metrics::Metrics;

/// Between two looks; a new configuration is looked at sooner.
const PAUSE: Duration = Duration::from_mins(1);
/// For one look at one store.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the last look came to, by backend.
#[derive(Default)]
pub(crate) struct Health(
    Mutex<BTreeMap<String, Reach>>,
    AtomicBool,
    Mutex<BTreeMap<String, Minting>>,
);

/// Whether a backend's store takes the keys that are minted; else why not.
pub(crate) type Minting = Result<(), String>;

impl Health {
    /// None where there was nothing to look at, or nobody has looked yet.
    pub(crate) fn of(&self, backend: &str) -> Option<Reach> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(backend)
            .cloned()
    }

    /// None for a backend that mints no keys, or where nobody has tried yet.
    pub(crate) fn minting(&self, backend: &str) -> Option<Minting> {
        let known = self.2.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(backend).cloned()
    }

    /// What came of minting for each backend that does. Whether that is news.
    pub(crate) fn minted(&self, found: BTreeMap<String, Minting>) -> bool {
        let mut known = self.2.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *known != found;
        *known = found;
        news
    }

    /// Whoever leads next begins anew: by then all may be different.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.1.store(false, Ordering::Release);
        self.2.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether anybody has looked.
    pub(crate) fn looked(&self) -> bool {
        self.1.load(Ordering::Acquire)
    }

    /// What is wrong with stores, by the words that conditions have for it.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        for (backend, reach) in self.all() {
            wrong.extend(
                match reach {
                    Reach::Open => None,
                    Reach::Refused(reason) => Some(("Refused", format!("the store refuses the credentials: {reason}"))),
                    Reach::Silent(reason) => Some(("NoAnswer", format!("the store can't be reached: {reason}"))),
                }
                .map(|(reason, message)| Wrong::with_store(&backend, reason, message)),
            );
        }
        for (backend, minting) in &*self.2.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Err(reason) = minting {
                let message = format!("access keys for namespaces can't be minted: {reason}");
                wrong.push(Wrong::with_store(backend, "NotTaken", message));
            }
        }
        wrong
    }

    /// All that is known.
    pub(crate) fn all(&self) -> BTreeMap<String, Reach> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks at the stores.
pub(super) struct Keeper {
    pub(super) reviewer: Arc<Reviewer>,
    pub(super) services: Services,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    /// Told what is news.
    pub(super) changes: Changes,
}

impl Keeper {
    /// Works for as long as it is called.
    pub(super) async fn keep(self) {
        // Or every public store would be looked at once.
        let _ = timeout(PAUSE, self.services.settled()).await;
        let mut configured = self.reviewer.configured_anew();
        loop {
            configured.mark_unchanged();
            if let Some(snapshot) = self.reviewer.snapshot() {
                self.look(&snapshot.configuration).await;
            }
            let _ = timeout(PAUSE, configured.changed()).await;
        }
    }

    async fn look(&self, configuration: &Configuration) {
        let (services, complete) = self.services.all();
        // What isn't known may be used.
        let services = complete.then_some(services);
        let looks = looked_at(configuration.backends(), services.as_deref())
            .into_iter()
            .map(|backend| async move {
                let reach = configuration.reach(backend, Instant::now() + PATIENCE).await?;
                Some((backend.to_owned(), reach))
            });
        let found: BTreeMap<String, Reach> = futures::future::join_all(looks).await.into_iter().flatten().collect();
        self.metrics.credentials_valid(valid(&found, configuration.backends()));
        self.health.1.store(true, Ordering::Release);
        let mut known = self.health.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != found {
            for (backend, reach) in &found {
                match (reach, known.get(backend)) {
                    (new, Some(old)) if new == old => {}
                    (Reach::Open, None) => {}
                    (Reach::Open, Some(_)) => info!(backend, "the store answers again and takes its credentials"),
                    (Reach::Refused(reason), _) => warn!(backend, "the store refuses the credentials: {reason}"),
                    (Reach::Silent(reason), _) => warn!(backend, "the store can't be reached: {reason}"),
                }
            }
            *known = found;
            self.changes.send_replace(());
        }
    }
}

fn is_public(backend: &Backend) -> bool {
    matches!(backend.spec().credentials, Credentials::Anonymous(_))
}

/// The backends whose stores are looked at: all with credentials, and of the public ones those that a service uses. A cluster without internet has the others
/// too, and nobody misses them.
fn looked_at<'a>(backends: &'a Backends, services: Option<&[Service]>) -> Vec<&'a str> {
    let used: Option<BTreeSet<&str>> = services.filter(|_| backends.iter().any(is_public)).map(|services| {
        let uris = services
            .iter()
            .flat_map(|service| service.uris.iter().map(|uri| (uri, &service.namespace)));
        // Whether it is granted to the namespace is asked in a review.
        uris.filter_map(|(uri, namespace)| match backends.resolve_text(uri, namespace, None) {
            Resolved::Served(backend) | Resolved::NotGranted { backend, .. } => Some(backend.name()),
            _ => None,
        })
        .collect()
    });
    let is_used = |name: &str| used.as_ref().is_none_or(|used| used.contains(name));
    backends
        .iter()
        .filter(|backend| !is_public(backend) || is_used(backend.name()))
        .map(Backend::name)
        .collect()
}

/// Whether each store takes its credentials; nothing of one that doesn't answer, or that takes none.
fn valid<'a>(found: &'a BTreeMap<String, Reach>, backends: &Backends) -> impl Iterator<Item = (&'a str, bool)> {
    let with_credentials = found
        .iter()
        .filter(|(backend, _)| backends.get(backend).is_some_and(|backend| !is_public(backend)));
    with_credentials.filter_map(|(backend, reach)| match reach {
        Reach::Open => Some((backend.as_str(), true)),
        Reach::Refused(_) => Some((backend.as_str(), false)),
        Reach::Silent(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use tidewaiter_core::backend::StorageBackendSpec;

    use super::*;

    fn backends() -> Backends {
        let backend = |name: &str, spec: serde_json::Value| {
            let spec: StorageBackendSpec = serde_json::from_value(spec).unwrap();
            Backend::new(name, spec).unwrap()
        };
        let public = serde_json::json!({"type": "gcs", "serves": ["gs://kfserving-examples/"], "credentials": {"anonymous": {}}});
        let own = serde_json::json!({
            "type": "s3", "serves": ["s3://mlflow/"], "s3": {"endpoint": "http://minio:9000"},
            "credentials": {"secretRef": {"namespace": "minio", "name": "root"}},
        });
        Backends::new(vec![backend("minio", own), backend("public-kserve-examples", public)]).0
    }

    #[test]
    fn a_public_store_that_no_service_uses_is_not_looked_at() {
        let backends = backends();
        let uses = |uri: &str| {
            vec![Service {
                uris: [uri.to_owned()].into(),
                ..Service::of("a")
            }]
        };
        let elsewhere = uses("gs://kfserving-examples-of-mine/models");
        assert_eq!(looked_at(&backends, Some(&elsewhere)), ["minio"]);
        let both = ["minio", "public-kserve-examples"];
        let examples = uses("gs://kfserving-examples/models/sklearn");
        assert_eq!(looked_at(&backends, Some(&examples)), both);
        assert_eq!(looked_at(&backends, None), both, "nobody knows what services there are");
    }

    #[test]
    fn only_a_store_that_answers_says_whether_credentials_are_valid() {
        let backends = backends();
        let refused = Reach::Refused("AccessDenied".into());
        for (reach, wanted) in [
            (Reach::Open, &[("minio", true)][..]),
            (refused.clone(), &[("minio", false)]),
            (Reach::Silent("no answer".into()), &[]),
        ] {
            // A public store may well refuse to be listed.
            let public = ("public-kserve-examples".to_owned(), refused.clone());
            let found = BTreeMap::from([("minio".to_owned(), reach), public]);
            assert_eq!(valid(&found, &backends).collect::<Vec<_>>(), wanted);
        }
    }
}
