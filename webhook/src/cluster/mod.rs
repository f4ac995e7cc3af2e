//! The configuration as the cluster has it.
//!
//! ```text
//! watches ─▶ changed ─▶ wait for quiet ─▶ gather Objects ─▶ Configuration, policies compiled aside ─▶ swapped in ─▶ status and events of what was read
//! ```

pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod events;
mod gather;
mod named;
mod newer;
pub mod reader;
pub(crate) mod refusal;
mod status;
mod turn;
pub mod watched;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::configuration::Loader;
use crate::controllers::Health;
use crate::namespaces::cluster::InCluster;
use events::Events;
use gather::Sources;
use status::Statuses;
use watched::Changes;

/// Changes come in bursts, such as a `helm upgrade`: one that follows within this time is waited for,
const QUIET: Duration = Duration::from_millis(100);
/// but no longer than this.
const AT_MOST: Duration = Duration::from_secs(1);
/// Secrets and `ConfigMap`s of others are read by name, not watched: rotated credentials are seen after this time.
const REFRESH: Duration = Duration::from_secs(30);
/// After a round that failed, as a whole or for one object.
const RETRY: Duration = Duration::from_secs(2);

/// Where to look.
#[derive(Clone, Debug)]
pub struct Place {
    /// Tidewaiter's own.
    pub namespace: String,
    /// KServe's.
    pub kserve_namespace: String,
    /// Those that credentials may be written to; none for all.
    pub only: Vec<String>,
}

/// The cluster's side of the server.
pub struct Cluster {
    client: Client,
    sources: Sources,
    changes: Changes,
    leads: watch::Receiver<bool>,
    health: Arc<Health>,
    stop: CancellationToken,
}

impl Cluster {
    /// Begins to watch. What all replicas see alike is written by the one that `leads`.
    pub(crate) fn watch(
        client: Client,
        place: &Place,
        leads: watch::Receiver<bool>,
        health: Arc<Health>,
        stop: CancellationToken,
    ) -> Self {
        let changes = Changes::default();
        let sources = Sources::watch(&client, place, &changes, &stop);
        Self {
            client,
            sources,
            changes,
            leads,
            health,
            stop,
        }
    }

    /// Has the statuses written again.
    pub(crate) fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// Writes credentials here, and tells when what is there changed.
    pub(crate) fn namespaces(&self) -> (InCluster, Changes) {
        self.sources.namespaces()
    }

    /// Reads what reviews ask for by name.
    pub fn reader(&self) -> reader::InCluster {
        self.sources.reader(self.client.clone())
    }

    /// Keeps the configuration current until it is stopped.
    pub async fn keep_current(self, mut loader: Loader) {
        let Self {
            client,
            sources,
            changes,
            mut leads,
            health,
            stop,
        } = self;
        let mut news = changes.subscribe();
        let mut late = loader.news();
        let (mut statuses, mut events) = (Statuses::new(client.clone()), Events::new(client.clone()));
        let follow = async {
            sources.settled().await;
            let (mut before, mut problems, mut told) = (None, Vec::new(), None);
            let mut reported = Instant::now();
            loop {
                let mut pause = REFRESH;
                match sources.gather(&client, loader.pull_secrets()).await {
                    Ok(gathered) => {
                        if gathered.again {
                            pause = RETRY;
                        }
                        // Our own writes of status come back as changes.
                        let came = late.has_changed().unwrap_or(false);
                        late.mark_unchanged();
                        let new = came || before.as_ref() != Some(&gathered.fingerprint);
                        if new || loader.next_try().is_some_and(|at| at <= Instant::now()) {
                            problems = loader.load(gathered.objects, gathered.problems).await;
                            before = Some(gathered.fingerprint);
                        }
                        if let Some(at) = loader.next_try() {
                            pause = pause.min(at.saturating_duration_since(Instant::now()));
                        }
                        let elected = leads.has_changed().unwrap_or(false);
                        let leading = *leads.borrow_and_update();
                        if let Some(snapshot) = loader.reviewer().snapshot().filter(|_| leading) {
                            // Without a change there is the number of namespaces, which each new one changes: not worth a write each time.
                            let heard = health.all();
                            if new || elected || told.as_ref() != Some(&heard) || reported.elapsed() >= REFRESH {
                                told = Some(heard);
                                reported = Instant::now();
                                let (resources, delivered) = (&gathered.resources, sources.delivered());
                                let soon = statuses
                                    .report(resources, &problems, &snapshot, &health, &delivered)
                                    .await;
                                if soon {
                                    told = None;
                                    pause = pause.min(RETRY);
                                }
                                events
                                    .tell(&problems, health.wrong(), |object| sources.reference(object))
                                    .await;
                            }
                        }
                    }
                    Err(error) => {
                        warn!(%error, "can't read what the configuration refers to, the one before stays in use; trying again");
                        pause = RETRY;
                    }
                }
                // Whoever is elected reports what it sees at once.
                let something = async {
                    tokio::select! {
                        _ = news.changed() => {}
                        Ok(()) = late.changed() => late.mark_changed(),
                        Ok(()) = leads.changed() => leads.mark_changed(),
                    }
                };
                if timeout(pause, something).await.is_ok() {
                    let limit = Instant::now() + AT_MOST;
                    while Instant::now() < limit && timeout(QUIET, news.changed()).await.is_ok() {}
                }
            }
        };
        tokio::select! {
            () = follow => {}
            () = stop.cancelled() => {}
        }
    }
}
