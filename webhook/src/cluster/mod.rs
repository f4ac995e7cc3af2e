//! The configuration as the cluster has it.
//!
//! ```text
//! watches ─▶ changed ─▶ wait for quiet ─▶ gather Objects ─▶ Configuration, policies compiled aside ─▶ swapped in ─▶ status and events of what was read
//! ```

mod events;
mod gather;
pub mod reader;
mod renew;
mod status;
pub mod watched;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::configuration::Loader;
use crate::namespaces::cluster::InCluster;
use events::Events;
use gather::Sources;
use status::Statuses;

/// Changes come in bursts, such as a `helm upgrade`: one that follows within this time is waited for,
const QUIET: Duration = Duration::from_millis(100);
/// but no longer than this.
const AT_MOST: Duration = Duration::from_secs(1);
/// Secrets and `ConfigMap`s of others are read by name, not watched: rotated credentials are seen after this time.
const REFRESH: Duration = Duration::from_secs(30);
/// After a round that failed.
const RETRY: Duration = Duration::from_secs(2);

/// The cluster's side of the server.
pub struct Cluster {
    client: Client,
    sources: Sources,
    changed: Arc<Notify>,
    stop: CancellationToken,
}

impl Cluster {
    /// Begins to watch.
    pub fn watch(client: Client, kserve_namespace: String, stop: CancellationToken) -> Self {
        let changed = Arc::new(Notify::new());
        let sources = Sources::watch(&client, kserve_namespace, &changed, &stop);
        Self {
            client,
            sources,
            changed,
            stop,
        }
    }

    /// Writes credentials here.
    pub fn namespaces(&self) -> InCluster {
        self.sources.namespaces(self.client.clone())
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
            changed,
            stop,
        } = self;
        let namespaces = sources.namespaces(client.clone());
        let (mut statuses, mut events) = (Statuses::new(client.clone()), Events::new(client.clone()));
        let follow = async {
            sources.settled().await;
            let (mut before, mut problems, mut renewed) = (None, Vec::new(), false);
            let (mut reported, mut tried) = (Instant::now(), Instant::now());
            loop {
                let mut pause = REFRESH;
                match sources.gather(&client).await {
                    Ok(gathered) => {
                        // Our own writes of status and of credentials come back as changes.
                        let changed = before.as_ref() != Some(&gathered.fingerprint);
                        let again = loader.worth_another_try() && tried.elapsed() >= REFRESH;
                        if changed || again {
                            tried = Instant::now();
                            problems = loader.load(gathered.objects, gathered.problems).await;
                            (before, renewed) = (Some(gathered.fingerprint), false);
                        }
                        if let Some(snapshot) = loader.reviewer().snapshot() {
                            // Without a change there is the number of namespaces, which each new one changes: not worth a write each time.
                            if changed || reported.elapsed() >= REFRESH {
                                reported = Instant::now();
                                let (resources, delivered) = (&gathered.resources, sources.delivered());
                                statuses.report(resources, &problems, &snapshot, &delivered).await;
                                events.tell(&problems, |object| sources.reference(object)).await;
                            }
                            if !renewed {
                                renewed = renew::renew(&sources.delivered(), &namespaces, &snapshot).await;
                            }
                        }
                    }
                    Err(error) => {
                        warn!(%error, "can't read what the configuration refers to, the one before stays in use; trying again");
                        pause = RETRY;
                    }
                }
                if timeout(pause, changed.notified()).await.is_ok() {
                    let limit = Instant::now() + AT_MOST;
                    while Instant::now() < limit && timeout(QUIET, changed.notified()).await.is_ok() {}
                }
            }
        };
        tokio::select! {
            () = follow => {}
            () = stop.cancelled() => {}
        }
    }
}
