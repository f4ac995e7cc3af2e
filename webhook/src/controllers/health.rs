//! Whether the backends' stores answer and take their credentials, looked at by the leader before a user's model has to find out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidewaiter_core::backend::Backend;
use tidewaiter_world::Reach;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::admission::Reviewer;
use crate::cluster::events::Wrong;
use crate::cluster::watched::Changes;

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

/// Looks for as long as it is called, and tells `changes` what is news.
pub(super) async fn keep(reviewer: &Reviewer, health: &Arc<Health>, changes: &Changes) {
    let mut configured = reviewer.configured_anew();
    loop {
        configured.mark_unchanged();
        if let Some(snapshot) = reviewer.snapshot() {
            let configuration = &snapshot.configuration;
            let looks = configuration
                .backends()
                .iter()
                .map(Backend::name)
                .map(|backend| async move {
                    let reach = configuration.reach(backend, Instant::now() + PATIENCE).await?;
                    Some((backend.to_owned(), reach))
                });
            let found: BTreeMap<String, Reach> = futures::future::join_all(looks).await.into_iter().flatten().collect();
            health.1.store(true, Ordering::Release);
            let mut known = health.0.lock().unwrap_or_else(PoisonError::into_inner);
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
                changes.send_replace(());
            }
        }
        let _ = timeout(PAUSE, configured.changed()).await;
    }
}
