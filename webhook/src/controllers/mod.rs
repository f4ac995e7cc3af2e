//! What one replica, the leader, does for all: it keeps the certificate, the credentials and the services as they should be.

mod asked;
mod audit;
mod authority;
mod certificate;
mod credentials;
mod health;
mod leader;
mod minting;
mod reviewed;
mod services;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use authority::Lifetimes;
pub use certificate::SelfManaged;
pub(crate) use health::{Health, Minting};
pub use leader::LEASE;
pub(crate) use leader::elect;

use audit::Audit;
use services::Services;
use sweep::Sweep;

use crate::admission::Reviewer;
use crate::cluster::watched::Changes;
use crate::metrics::Metrics;
use crate::namespaces::cluster::InCluster;

/// Changes come in bursts: what follows within this time belongs to the same round.
const QUIET: Duration = Duration::from_secs(1);
/// Without a change, what failed is tried again and what is due is done after this time.
const PAUSE: Duration = Duration::from_secs(10);

/// Waits until those who keep credentials have to look again.
async fn next_round(changed: &mut watch::Receiver<()>, configured: &mut watch::Receiver<()>) {
    let something = async {
        tokio::select! {
            _ = changed.changed() => {}
            _ = configured.changed() => {}
        }
    };
    if timeout(PAUSE, something).await.is_ok() {
        sleep(QUIET).await;
    }
}

/// What the leader works with.
pub(crate) struct Controllers {
    pub(crate) client: Client,
    /// Our own.
    pub(crate) namespace: String,
    /// The name of the webhook configurations.
    pub(crate) configuration: String,
    /// None where somebody else makes the certificate.
    pub(crate) certificate: Option<SelfManaged>,
    /// Where credentials are, and what tells that they changed.
    pub(crate) namespaces: (Arc<InCluster>, Changes),
    /// What is known of the stores, and whom to tell of news.
    pub(crate) health: (Arc<Health>, Changes),
    pub(crate) reviewer: Arc<Reviewer>,
    pub(crate) metrics: Arc<Metrics>,
    /// Before unused credentials are collected.
    pub(crate) grace: Duration,
    /// Between two audits; zero for none.
    pub(crate) audit_interval: Duration,
}

impl Controllers {
    /// Works whenever this replica leads, until `stop`.
    pub(crate) async fn run(self, leads: watch::Receiver<bool>, stop: CancellationToken) {
        leader::while_leading(leads, stop, || {
            Box::pin(async {
                self.metrics.leader.set(1);
                let _no_more = NoMore(&self.metrics, &self.health.0);
                // Its watches end with it.
                let watches = CancellationToken::new();
                let _ended = watches.clone().drop_guard();
                let (namespaces, changes) = &self.namespaces;
                let services = Services::watch(&self.client, changes, &watches);
                let credentials = credentials::Keeper {
                    client: self.client.clone(),
                    namespaces: Arc::clone(namespaces),
                    reviewer: Arc::clone(&self.reviewer),
                    metrics: Arc::clone(&self.metrics),
                    services: services.clone(),
                    grace: self.grace,
                    changed: changes.subscribe(),
                };
                let minting = minting::Keeper {
                    namespaces: Arc::clone(namespaces),
                    reviewer: Arc::clone(&self.reviewer),
                    metrics: Arc::clone(&self.metrics),
                    services: services.clone(),
                    health: (Arc::clone(&self.health.0), self.health.1.clone()),
                    changed: changes.subscribe(),
                };
                let certificate = async {
                    if let Some(settings) = self.certificate.clone() {
                        certificate::Keeper::watch(
                            self.client.clone(),
                            self.namespace.clone(),
                            self.configuration.clone(),
                            settings,
                        )
                        .keep()
                        .await;
                    }
                };
                let sweep = Sweep {
                    client: self.client.clone(),
                    namespace: self.namespace.clone(),
                    configuration: self.configuration.clone(),
                    reviewer: Arc::clone(&self.reviewer),
                    services: services.clone(),
                    metrics: Arc::clone(&self.metrics),
                };
                let audit = Audit {
                    client: self.client.clone(),
                    reviewer: Arc::clone(&self.reviewer),
                    services: services.clone(),
                    metrics: Arc::clone(&self.metrics),
                    configuration: self.configuration.clone(),
                    interval: self.audit_interval,
                };
                let health = health::Keeper {
                    reviewer: Arc::clone(&self.reviewer),
                    services,
                    metrics: Arc::clone(&self.metrics),
                    health: Arc::clone(&self.health.0),
                    changes: self.health.1.clone(),
                };
                tokio::join!(
                    certificate,
                    credentials.keep(),
                    minting.keep(),
                    sweep.keep(),
                    audit.keep(),
                    health.keep()
                );
            })
        })
        .await;
    }
}

struct NoMore<'a>(&'a Metrics, &'a Health);

impl Drop for NoMore<'_> {
    fn drop(&mut self) {
        self.0.leads_no_more();
        self.1.forget();
    }
}
