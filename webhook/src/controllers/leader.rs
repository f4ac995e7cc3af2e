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
/// After a failure, for a look at the Lease, and for giving it back at shutdown.
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
                let look = async {
                    sleep(LOOK).await;
                    is_gone(&client, &namespace).await
                };
                match next(&mut state, &stop, look).await {
                    Next::Told => {}
                    Next::Nothing => continue,
                    Next::Over => break,
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

/// What happens in a campaign.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Something is known of who leads.
    Told,
    Nothing,
    /// The campaign is over.
    Over,
}

/// Whatever comes first. `look`: whether the Lease is gone, which is made at the beginning of a campaign alone. An API server that doesn't answer that must
/// not hide a stop, nor the loss of the Lease.
async fn next(state: &mut watch::Receiver<bool>, stop: &CancellationToken, look: impl Future<Output = bool>) -> Next {
    tokio::select! {
        changed = state.changed() => if changed.is_err() { Next::Over } else { Next::Told },
        () = stop.cancelled() => Next::Over,
        gone = look => if gone { Next::Over } else { Next::Nothing },
    }
}

/// What isn't answered in time is not known to be gone.
async fn is_gone(client: &Client, namespace: &str) -> bool {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let gone = matches!(timeout(PATIENCE, leases.get_opt(LEASE)).await, Ok(Ok(None)));
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

#[cfg(test)]
mod tests {
    use kube::client::Body;

    use super::*;

    /// An API server behind a line that swallows everything.
    fn black_hole() -> Client {
        let service = tower::service_fn(|_: axum::http::Request<Body>| {
            std::future::pending::<Result<axum::http::Response<Body>, std::convert::Infallible>>()
        });
        Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_swallows_a_request_hides_neither_a_stop_nor_a_loss() {
        let client = black_hole();
        let gone = timeout(PATIENCE * 2, is_gone(&client, "a")).await;
        assert_eq!(gone, Ok(false), "what isn't answered is given up");

        let (tell, mut state) = watch::channel(true);
        let stop = CancellationToken::new();
        tell.send_replace(false);
        assert_eq!(next(&mut state, &stop, std::future::pending()).await, Next::Told);
        stop.cancel();
        assert_eq!(next(&mut state, &stop, std::future::pending()).await, Next::Over);
    }
}
