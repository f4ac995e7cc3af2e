//! Which replica leads: the one that holds the Lease.
//!
//! For a moment there may be two, as when a replica was frozen and wakes up. So whatever a leader writes is either the same whoever writes it, or bound to the
//! version that it read.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The name of the Lease.
pub const LEASE: &str = "tidewaiter";
/// A replica that is gone is followed by another after this many seconds;
const DURATION: u64 = 15;
/// the Lease is renewed when so many of them are left.
const GRACE: u64 = 5;
/// Whether somebody deleted the Lease is looked at this often.
const LOOK: Duration = Duration::from_secs(20);
/// After a failure, and for giving the Lease back at shutdown.
const PATIENCE: Duration = Duration::from_secs(2);

type Election = JoinHandle<Result<LeaseManager, LeaseManagerError>>;

/// Tells from now on whether this replica leads. `stop` ends the task and gives the Lease back, so that the next replica needn't wait for its end.
pub(crate) fn elect(
    client: Client,
    namespace: String,
    identity: String,
    stop: CancellationToken,
) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (tell, leads) = watch::channel(false);
    let election = tokio::spawn(async move {
        while !stop.is_cancelled() {
            let (mut state, task) = tokio::select! {
                campaign = campaign(&client, &namespace, &identity) => campaign,
                () = stop.cancelled() => return,
            };
            loop {
                tokio::select! {
                    changed = state.changed() => if changed.is_err() { break },
                    () = stop.cancelled() => break,
                    // It is made at the beginning of a campaign alone.
                    () = sleep(LOOK) => if is_gone(&client, &namespace).await { break } else { continue },
                }
                let leads = *state.borrow_and_update();
                if tell.send_replace(leads) != leads {
                    info!(leads, identity, "election");
                }
            }
            tell.send_replace(false);
            // Nobody listens any more: that gives the Lease back.
            drop(state);
            let _ = timeout(PATIENCE, task).await;
        }
    });
    (leads, election)
}

async fn is_gone(client: &Client, namespace: &str) -> bool {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let gone = matches!(leases.get_opt(LEASE).await, Ok(None));
    if gone {
        warn!(
            namespace,
            "somebody deleted the Lease {LEASE}: the election begins anew"
        );
    }
    gone
}

/// Begins to stand for election, as soon as the API server lets it.
async fn campaign(client: &Client, namespace: &str, identity: &str) -> (watch::Receiver<bool>, Election) {
    let mut complaint = String::new();
    loop {
        let lease = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_field_manager(format!("tidewaiter-{identity}"))
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await;
        match lease {
            Ok(lease) => return lease.watch().await,
            Err(error) => {
                let message = error.to_string();
                if complaint != message {
                    warn!(
                        namespace,
                        "can't stand for election, so this replica keeps no credentials, certificates and statuses current: {message}; trying again"
                    );
                    complaint = message;
                }
                sleep(PATIENCE).await;
            }
        }
    }
}

/// Does `work` while this replica leads, from its beginning each time that it is elected. Returns at `stop`.
pub(super) async fn while_leading<F: Future<Output = ()>>(
    mut leads: watch::Receiver<bool>,
    stop: CancellationToken,
    work: impl Fn() -> F,
) {
    loop {
        tokio::select! {
            elected = leads.wait_for(|leads| *leads) => if elected.is_err() { return },
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = work() => return,
            _ = leads.wait_for(|leads| !*leads) => {}
            () = stop.cancelled() => return,
        }
    }
}
