//! Which replica leads: the one that holds the Lease.
//!
//! How long ago its holder renewed it is measured from when this replica saw it change, as client-go does: the clocks of nodes differ, so the times that stand
//! in it are for people alone. (The crates for this compare them with the own clock. A holder whose clock is behind would lose the Lease again and again, and
//! after one whose clock was ahead nobody would lead until then.)
//!
//! For a moment there may be two, as when a replica was frozen and wakes up. So whatever a leader writes is either the same whoever writes it, or bound to the
//! version that it read.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::Patch;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::clock;
use crate::namespaces::cluster::{creates, writes};

/// The name of the Lease.
pub const LEASE: &str = "tidewaiter";
/// A replica that doesn't renew the Lease for so long is followed by another.
const DURATION: Duration = Duration::from_secs(15);
/// One that can't renew it for so long leads no more: it knows before another follows.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at the Lease.
const LOOK: Duration = Duration::from_secs(4);
/// The same after a failure, and the time for giving it back at shutdown.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is read anew at once where somebody wrote to it in between, as the sweep does.
const OVERTAKEN: u32 = 5;

/// Tells from now on whether this replica leads. `stop` ends the task and gives the Lease back, so that the next replica needn't wait for its end.
pub(crate) fn elect(
    client: &Client,
    namespace: &str,
    identity: String,
    stop: CancellationToken,
) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (tell, leads) = watch::channel(false);
    let candidate = Candidate {
        leases: Api::namespaced(client.clone(), namespace),
        identity,
        seen: None,
    };
    (leads, tokio::spawn(candidate.stand(tell, stop)))
}

/// A replica that stands for election.
struct Candidate {
    leases: Api<Lease>,
    identity: String,
    /// What the Lease said when it last changed, and when that was seen.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    async fn stand(mut self, tell: watch::Sender<bool>, stop: CancellationToken) {
        // Until when this replica leads; none where it doesn't.
        let mut until: Option<Instant> = None;
        let mut complaint = String::new();
        loop {
            let began = Instant::now();
            let time = until.unwrap_or(began + RENEWED_WITHIN);
            let tried = tokio::select! {
                tried = timeout_at(time, self.attempt()) => tried,
                () = stop.cancelled() => break,
            };
            let next = match tried {
                Ok(Ok(held)) => {
                    complaint.clear();
                    until = held.then(|| began + RENEWED_WITHIN);
                    self.next_look(began)
                }
                failed => {
                    let message = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "the API server doesn't answer".to_owned(),
                    };
                    if complaint != message {
                        warn!(
                            "can't read or write the Lease {LEASE}: {message}; trying again. A replica that can't leads no more, and without a leader nobody \
                             keeps credentials, certificates and statuses current"
                        );
                        complaint = message;
                    }
                    until = until.filter(|until| Instant::now() < *until);
                    let next = Instant::now() + PATIENCE;
                    until.map_or(next, |until| next.min(until))
                }
            };
            let leads = until.is_some();
            if tell.send_replace(leads) != leads {
                info!(leads, identity = self.identity, "election");
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = stop.cancelled() => break,
            }
        }
        tell.send_replace(false);
        if until.is_some() {
            // What isn't given back runs out.
            let _ = timeout(PATIENCE, self.give_back()).await;
        }
    }

    /// Sooner where another's time may be over before.
    fn next_look(&self, began: Instant) -> Instant {
        let look = began + LOOK;
        match &self.seen {
            Some((lease, since)) if lease.holder_identity.as_ref() != Some(&self.identity) => {
                look.min(*since + duration(lease)).max(began + PATIENCE / 2)
            }
            _ => look,
        }
    }

    /// Takes or renews the Lease where this replica may, and says whether it holds it. Where others always write first that isn't known: an error.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        for _ in 1..OVERTAKEN {
            match self.try_to_hold().await {
                Err(error) if is_conflict(&error) => {}
                known => return known,
            }
        }
        self.try_to_hold().await
    }

    async fn try_to_hold(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.leases.get_opt(LEASE).await? else {
            self.seen = None;
            return self.leases.create(&creates(), &self.first()).await.map(|_| true);
        };
        if !self.may_take(lease.spec.as_ref()) {
            return Ok(false);
        }
        self.take(&lease).await.map(|()| true)
    }

    /// Whether it is this replica's, nobody's, or its holder's time is over.
    fn may_take(&mut self, lease: Option<&LeaseSpec>) -> bool {
        let lease = lease.cloned().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == lease => *since,
            _ => Instant::now(),
        };
        let over = since.elapsed() >= duration(&lease);
        let others = lease
            .holder_identity
            .as_deref()
            .is_some_and(|holder| !holder.is_empty() && holder != self.identity);
        self.seen = Some((lease, since));
        !others || over
    }

    async fn take(&mut self, lease: &Lease) -> Result<(), kube::Error> {
        let now = MicroTime(clock::now());
        let before = lease.spec.clone().unwrap_or_default();
        let mut spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "renewTime": now,
        });
        if before.holder_identity.as_ref() != Some(&self.identity) {
            spec["acquireTime"] = json!(now);
            spec["leaseTransitions"] = json!(before.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        let taken = self.write(lease, spec).await?;
        self.seen = taken.spec.map(|spec| (spec, Instant::now()));
        Ok(())
    }

    /// Whoever wrote since it was read is told of: a conflict.
    async fn write(&self, lease: &Lease, spec: serde_json::Value) -> Result<Lease, kube::Error> {
        let change = json!({"metadata": {"resourceVersion": lease.resource_version()}, "spec": spec});
        self.leases.patch(LEASE, &writes(), &Patch::Merge(&change)).await
    }

    fn first(&self) -> Lease {
        let now = MicroTime(clock::now());
        let mut lease = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(1),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        lease.metadata.name = Some(LEASE.to_owned());
        lease
    }

    async fn give_back(&self) -> Result<(), kube::Error> {
        for _ in 0..OVERTAKEN {
            let lease = self.leases.get(LEASE).await?;
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
            if holder != Some(&self.identity) {
                return Ok(());
            }
            match self.write(&lease, json!({"holderIdentity": null})).await {
                Err(error) if is_conflict(&error) => {}
                given => return given.map(drop),
            }
        }
        Ok(())
    }
}

/// After which its holder is gone, in the holder's own word.
fn duration(lease: &LeaseSpec) -> Duration {
    let seconds = lease
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(DURATION, Duration::from_secs)
}

/// Somebody else was first.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
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
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex, PoisonError};

    use axum::http::{Method, Request, Response};
    use k8s_openapi::jiff::{SignedDuration, Timestamp};
    use kube::client::Body;
    use serde_json::Value;
    use tokio::time::sleep;

    use super::*;

    /// The Lease of an API server, with its version.
    #[derive(Default)]
    struct Stored {
        lease: Option<Value>,
        version: u64,
        /// Somebody writes to it whenever it was read.
        contended: bool,
    }

    /// An API server with one Lease.
    #[derive(Clone, Default)]
    struct ApiServer(Arc<Mutex<Stored>>);

    impl ApiServer {
        fn with<T>(&self, work: impl FnOnce(&mut Stored) -> T) -> T {
            work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        fn holder(&self) -> Option<String> {
            self.with(|stored| Some(stored.lease.as_ref()?["spec"]["holderIdentity"].as_str()?.to_owned()))
        }

        /// Somebody else holds it, and says so by a clock that is `ahead`.
        fn held_by_another(&self, ahead: SignedDuration) {
            let now = MicroTime(Timestamp::now() + ahead);
            self.with(|stored| {
                stored.version += 1;
                stored.lease = Some(json!({
                    "metadata": {"name": LEASE, "resourceVersion": stored.version.to_string()},
                    "spec": {"holderIdentity": "another", "leaseDurationSeconds": 15, "renewTime": now, "leaseTransitions": 7},
                }));
            });
        }

        fn answer(&self, method: &Method, body: &[u8]) -> (u16, Value) {
            let sent: Value = serde_json::from_slice(body).unwrap_or_default();
            self.with(|stored| match (method, &mut stored.lease) {
                (&Method::GET, Some(lease)) => {
                    let read = lease.clone();
                    if stored.contended {
                        stored.version += 1;
                        lease["metadata"]["resourceVersion"] = json!(stored.version.to_string());
                    }
                    (200, read)
                }
                (&Method::POST, None) => {
                    stored.version += 1;
                    let mut lease = sent;
                    lease["metadata"]["resourceVersion"] = json!(stored.version.to_string());
                    (201, stored.lease.insert(lease).clone())
                }
                (&Method::PATCH, Some(lease))
                    if sent["metadata"]["resourceVersion"] == lease["metadata"]["resourceVersion"] =>
                {
                    stored.version += 1;
                    json_patch::merge(lease, &sent);
                    lease["metadata"]["resourceVersion"] = json!(stored.version.to_string());
                    (200, lease.clone())
                }
                (&Method::GET | &Method::PATCH, None) => (404, json!({"reason": "NotFound"})),
                _ => (409, json!({"reason": "Conflict"})),
            })
        }

        /// Whoever is cut off waits for ever.
        fn client(&self, cut_off: watch::Receiver<bool>) -> Client {
            let server = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let (server, cut_off) = (server.clone(), cut_off.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = axum::body::to_bytes(axum::body::Body::new(body), 1 << 20)
                        .await
                        .unwrap();
                    if *cut_off.borrow() {
                        std::future::pending::<()>().await;
                    }
                    // Answers take a while, so that candidates meet.
                    sleep(Duration::from_millis(20)).await;
                    let (code, mut answer) = server.answer(&head.method, &body);
                    if code >= 400 {
                        answer["kind"] = json!("Status");
                        answer["status"] = json!("Failure");
                        answer["code"] = json!(code);
                    }
                    let answer = Response::builder()
                        .status(code)
                        .body(Body::from(answer.to_string().into_bytes()));
                    Ok::<_, Infallible>(answer.unwrap())
                }
            });
            Client::new(service, "default")
        }
    }

    /// A replica: whether it leads, and what ends or cuts it off.
    struct Replica {
        leads: watch::Receiver<bool>,
        stop: CancellationToken,
        cut: watch::Sender<bool>,
        done: JoinHandle<()>,
    }

    impl Replica {
        fn start(server: &ApiServer, identity: &str) -> Self {
            let (cut, cut_off) = watch::channel(false);
            let stop = CancellationToken::new();
            let (leads, done) = elect(&server.client(cut_off), "a", identity.to_owned(), stop.clone());
            Self { leads, stop, cut, done }
        }

        fn leads(&self) -> bool {
            *self.leads.borrow()
        }

        async fn elected(&mut self) -> Duration {
            let began = Instant::now();
            self.leads.wait_for(|leads| *leads).await.unwrap();
            began.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_replicas_that_start_at_once_one_leads() {
        let server = ApiServer::default();
        let replicas = ["one", "two", "three"].map(|identity| Replica::start(&server, identity));
        for _ in 0..600 {
            sleep(Duration::from_millis(100)).await;
            assert!(replicas.iter().filter(|replica| replica.leads()).count() <= 1);
        }
        let leader = replicas.iter().position(Replica::leads).expect("one leads");
        assert_eq!(server.holder().as_deref(), Some(["one", "two", "three"][leader]));
        let changes = server.with(|stored| stored.lease.as_ref().unwrap()["spec"]["leaseTransitions"].clone());
        assert_eq!(changes, 1, "nobody else ever held it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_is_followed_when_it_renews_no_more_whatever_its_clock_said() {
        for ahead in [-86_400, -16, 0, 16, 86_400].map(SignedDuration::from_secs) {
            let server = ApiServer::default();
            server.held_by_another(ahead);
            let mut replica = Replica::start(&server, "one");
            // It renews for a minute.
            for _ in 0..12 {
                sleep(Duration::from_secs(5)).await;
                assert!(!replica.leads(), "{ahead:?}: its holder is alive");
                server.held_by_another(ahead);
            }
            let waited = replica.elected().await;
            assert!(
                waited + LOOK > DURATION && waited < DURATION + 2 * LOOK,
                "{ahead:?}: followed after {waited:?}"
            );
            let changes = server.with(|stored| stored.lease.as_ref().unwrap()["spec"]["leaseTransitions"].clone());
            assert_eq!(changes, 8, "{ahead:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_cut_off_leads_no_more_before_another_does() {
        let server = ApiServer::default();
        let mut first = Replica::start(&server, "one");
        first.elected().await;
        let second = Replica::start(&server, "two");
        sleep(Duration::from_mins(1)).await;
        assert!(first.leads() && !second.leads());
        first.cut.send_replace(true);
        for _ in 0..400 {
            sleep(Duration::from_millis(100)).await;
            assert!(!(first.leads() && second.leads()));
        }
        assert!(second.leads());
        // Its line is mended: it follows.
        first.cut.send_replace(false);
        sleep(Duration::from_mins(1)).await;
        assert!(!first.leads() && second.leads());
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_lease_others_write_to_all_the_time_leads_until_its_time_is_over() {
        let server = ApiServer::default();
        let mut leader = Replica::start(&server, "one");
        leader.elected().await;
        sleep(Duration::from_secs(30)).await;
        let contend = |contended| server.with(|stored| stored.contended = contended);
        contend(true);
        for tenth in 0..350 {
            // Its time isn't over yet.
            if tenth == 50 {
                contend(false);
            }
            sleep(Duration::from_millis(100)).await;
            assert!(leader.leads(), "after {tenth} tenths of a second");
        }

        contend(true);
        sleep(RENEWED_WITHIN).await;
        assert!(!leader.leads());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stops_gives_it_back_and_one_that_is_deleted_comes_back() {
        let server = ApiServer::default();
        let mut first = Replica::start(&server, "one");
        first.elected().await;
        let mut second = Replica::start(&server, "two");
        sleep(Duration::from_secs(30)).await;
        first.stop.cancel();
        first.done.await.unwrap();
        assert_eq!(server.holder(), None);
        assert!(second.elected().await <= LOOK + PATIENCE);

        server.with(|stored| stored.lease = None);
        sleep(LOOK + PATIENCE).await;
        assert!(second.leads());
        assert_eq!(server.holder().as_deref(), Some("two"));

        // An API server that swallows everything hides no stop.
        second.cut.send_replace(true);
        sleep(LOOK).await;
        second.stop.cancel();
        timeout(PATIENCE * 2, second.done).await.expect("it ends").unwrap();
    }
}
