//! Services that came past the webhook, as while no replica answered and the failure policy is `Ignore`: the leader finds them and sees to their papers.
//!
//! Each service is judged once after it was made, and after each change of its spec; one that a review filled in, after each write. Up to when that was done is
//! kept on the Lease, so that the next leader goes on there, and beside it which services a review had filled in ([`super::reviewed`]); a service that ran before
//! Tidewaiter was installed is not touched, whoever edits its labels. What would have been filled in is written as a patch, which passes the webhook like
//! everybody's; what would have been refused runs already, and is told in an event.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidewaiter_core::document::Document;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::asked::Asked;
use super::leader::LEASE;
use super::reviewed::AtReview;
use super::services::{Service, Services};
use crate::admission::Reviewer;
use crate::admission::again::{Reviewed, Stored};
use crate::cluster::{clock, events};
use crate::metrics::Metrics;
use crate::namespaces::cluster::{FIELD_MANAGER, writes};

/// On the Lease: every write of a service's spec before this time has been judged.
const SWEPT_UNTIL: &str = "tidewaiter.dev/swept-until";
/// On the Lease: the services that a review had filled in by then.
const REVIEWED: &str = "tidewaiter.dev/reviewed";
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// How far has been swept is written down this often.
const WRITTEN_DOWN: Duration = Duration::from_secs(30);
/// A request may be on its way for so long before its object shows, stamped with the time at which it came; and clocks differ.
const LAG: i64 = 300;
/// What can't be mended is given up after this time.
const PATIENCE: Duration = Duration::from_mins(30);
/// How often a service is read and judged anew at once where KServe wrote to it in between, as it does while a service is new.
const OVERTAKEN: u32 = 5;
/// Services that are judged at once, of those that show no record of a review, or have another spec than that had.
const AT_ONCE: usize = 8;
/// The others came by the webhook, in all likelihood. A new leader judges those of the last minutes that the one before it didn't, while users wait for answers:
/// one after another, in one round for so long,
const UNHURRIED: Duration = Duration::from_secs(5);
/// and it rests so many times as long as each took.
const RESTS: u32 = 3;

/// See the module.
pub(super) struct Sweep {
    pub(super) client: Client,
    /// Of the Lease.
    pub(super) namespace: String,
    /// Which services the webhook is asked about.
    pub(super) configuration: String,
    pub(super) reviewer: Arc<Reviewer>,
    pub(super) services: Services,
    pub(super) metrics: Arc<Metrics>,
}

/// One state of one service: its uid and generation; and when it was last written, where a review has filled something in.
type State = (String, i64, Option<i64>);

/// Why a service could not be judged, or mended, yet.
enum NotYet {
    /// Somebody wrote between the reading and the mending.
    Overtaken(String),
    Other(String),
}

impl From<String> for NotYet {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

/// How far it is with a state.
#[derive(Clone, Copy)]
enum Stand {
    /// Nobody has looked at it.
    Queued,
    /// It can't be judged, since then.
    Failing(Instant),
    Done,
}

impl Stand {
    fn waits(self) -> bool {
        !matches!(self, Self::Done)
    }
}

/// What has been judged so far.
#[derive(Default)]
struct Judged {
    states: HashMap<State, Stand>,
    /// The generation that each service had when this leader last looked.
    generations: HashMap<String, i64>,
    /// Why nothing could be judged the last time, so that the log says it once.
    complaint: String,
    /// What it knows of services that a review filled in: at first what the leader before it knew.
    reviewed: AtReview,
}

impl Sweep {
    /// Works for as long as it is called.
    pub(super) async fn keep(self) {
        self.services.settled().await;
        let (mut horizon, reviewed) = loop {
            match self.begin().await {
                Ok(begin) => break begin,
                Err(error) => {
                    warn!(%error, "can't read the Lease: services that came past the webhook aren't looked for yet");
                    sleep(PAUSE).await;
                }
            }
        };
        // At once after the first round: a leader may not last, as while replicas roll.
        let mut written_down = (None::<Instant>, horizon, reviewed.clone());
        let mut judged = Judged {
            reviewed,
            ..Judged::default()
        };
        loop {
            let mut all = true;
            if self.reviewer.configured() {
                (horizon, all) = self.round(horizon, &mut judged).await;
            }
            let (when, until, reviewed) = &written_down;
            let due = when.is_none_or(|when| when.elapsed() >= WRITTEN_DOWN);
            if due && (horizon != *until || judged.reviewed != *reviewed) {
                match self.write_down(horizon, &judged.reviewed).await {
                    Ok(()) => written_down = (Some(Instant::now()), horizon, judged.reviewed.clone()),
                    Err(error) => warn!(%error, "can't write on the Lease how far has been swept; trying again"),
                }
            }
            if all {
                sleep(PAUSE).await;
            }
        }
    }

    /// The first time that was not judged yet: at first that at which Tidewaiter was installed. And what the leader before this one knew.
    async fn begin(&self) -> Result<(i64, AtReview), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let lease = leases.get(LEASE).await?;
        let swept = lease.annotations().get(SWEPT_UNTIL);
        let swept = swept.and_then(|swept| swept.parse::<Timestamp>().ok());
        let made = lease.creation_timestamp().map(|made| made.0);
        let reviewed = lease.annotations().get(REVIEWED);
        let reviewed = reviewed.map(|text| AtReview::read(text)).unwrap_or_default();
        // A leader whose clock was ahead may have written what is still to come.
        let swept = swept.or(made).unwrap_or(Timestamp::MAX).min(clock::now());
        Ok((swept.as_second(), reviewed))
    }

    async fn write_down(&self, horizon: i64, reviewed: &AtReview) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let until = Timestamp::from_second(horizon).unwrap_or_else(|_| clock::now());
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let change = json!({"metadata": {"annotations": {SWEPT_UNTIL: until, REVIEWED: reviewed.write()}}});
        leases.patch(LEASE, &writes(), &Patch::Merge(&change)).await.map(drop)
    }

    /// Judges what came since, and returns up to when all is judged, and whether all was looked at.
    async fn round(&self, horizon: i64, judged: &mut Judged) -> (i64, bool) {
        // First: what comes while they are looked at is another round's.
        let now = clock::now().as_second() - LAG;
        let (services, complete) = self.services.all();
        let open = judged.open(&services, horizon);
        let mut all = true;
        if !open.is_empty() {
            let asked = match Asked::read(&self.client, &self.configuration).await {
                Ok(asked) => {
                    judged.complaint.clear();
                    asked
                }
                Err(error) => {
                    if judged.complains(&error) {
                        info!(
                            configuration = self.configuration,
                            "can't read which services the webhook is asked about, so those that came past it aren't looked for: {error}"
                        );
                    }
                    return (horizon, true);
                }
            };
            let reviewed = &judged.reviewed;
            let (urgent, unhurried) = judged.by_hurry(open);
            let look = |service: Service| async {
                // The webhook was not there yet, or not any more and not again.
                let done = if service.written < asked.since && !reviewed.changed(&service) {
                    Ok(())
                } else {
                    self.look(&service, &asked).await
                };
                (service, done)
            };
            let urgent = futures::stream::iter(urgent).map(&look).buffer_unordered(AT_ONCE);
            let mut looked: Vec<_> = urgent.collect().await;
            let until = Instant::now() + UNHURRIED;
            for service in unhurried {
                let began = Instant::now();
                if began >= until {
                    all = false;
                    break;
                }
                looked.push(look(service).await);
                let rested = Instant::now() + began.elapsed() * RESTS;
                sleep_until(rested.min(until)).await;
            }
            for (service, done) in looked {
                let Service { namespace, name, .. } = &service;
                let stand = judged.states.entry(state(&service)).or_insert(Stand::Queued);
                match (done, *stand) {
                    (Ok(()), _) => *stand = Stand::Done,
                    (Err(error), Stand::Failing(since)) if since.elapsed() >= PATIENCE => {
                        warn!(
                            namespace,
                            name, "came past the webhook and can't be mended, given up: {error}"
                        );
                        self.metrics.swept("failed");
                        *stand = Stand::Done;
                    }
                    (Err(error), before) => {
                        if let Stand::Queued = before {
                            *stand = Stand::Failing(Instant::now());
                        }
                        info!(namespace, name, "can't be judged yet: {error}; trying again");
                    }
                }
            }
        }
        let waiting = services.iter().filter(|service| waits(&judged.states, service));
        let waiting = waiting.map(|service| service.written).min();
        // What a watch doesn't show may have come long ago.
        let horizon = if complete {
            waiting.map_or(now, |waiting| waiting.min(now)).max(horizon)
        } else {
            horizon
        };
        judged.forget(&services, horizon, complete);
        (horizon, all)
    }

    /// One service as it is now. An error is worth another try.
    async fn look(&self, service: &Service, asked: &Asked) -> Result<(), String> {
        let mut overtaken = String::new();
        for _ in 0..OVERTAKEN {
            match self.look_once(service, asked).await {
                Err(NotYet::Overtaken(why)) => overtaken = why,
                Err(NotYet::Other(why)) => return Err(why),
                Ok(()) => return Ok(()),
            }
        }
        Err(overtaken)
    }

    async fn look_once(&self, service: &Service, asked: &Asked) -> Result<(), NotYet> {
        let Service { namespace, name, .. } = service;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &service.resource());
        let path = format!("{}/{name}", api.resource_url());
        let request = axum::http::Request::get(&path).body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let text = match self.client.request_text(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            text => text.map_err(|error| error.to_string())?,
        };
        let object: DynamicObject = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let Some(snapshot) = self.reviewer.snapshot() else {
            return Err("there is no configuration".to_owned().into());
        };
        let Some(labels) = snapshot.configuration.namespace_labels(namespace) else {
            return Err("its namespace is not known yet".to_owned().into());
        };
        if object.uid().as_deref() != Some(&service.uid) || !asked.about(labels, object.labels()) {
            return Ok(());
        }
        let document = Document::new(&text).map_err(|error| error.to_string())?;
        let stored = Stored {
            api_version: &service.resource().api_version,
            kind: service.kind,
            namespace,
            name,
            object: &document,
            new: object.metadata.generation.unwrap_or(1) <= 1,
        };
        let Some(reviewed) = self.reviewer.review_again(&stored, true).await else {
            return Ok(());
        };
        let reference = ObjectReference {
            api_version: Some(service.resource().api_version),
            kind: Some(service.kind.to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: Some(service.uid.clone()),
            ..ObjectReference::default()
        };
        if let Some(failure) = reviewed.failure {
            return Err(failure.into());
        }
        if let Some((policy, message)) = &reviewed.refusal {
            self.metrics.swept("refused");
            warn!(
                namespace,
                name, policy, "came past the webhook and would have been refused: {message}"
            );
            let message = format!("came past Tidewaiter, which would have refused it: {message}");
            events::announce(&self.client, reference, ("Warning", "WouldBeRefused"), &message).await;
            return Ok(());
        }
        if let Some((policy, message)) = &reviewed.standing {
            // Of what it was before nothing is known: its user hears of it either way, the admin of those alone that are new.
            self.metrics.swept("standing");
            info!(
                namespace,
                name, policy, "was changed, and would be refused if it came now: {message}"
            );
            let message = format!("would be refused by Tidewaiter if it came now: {message}");
            events::announce(&self.client, reference.clone(), ("Warning", "WouldBeRefused"), &message).await;
        }
        if reviewed.changes.is_empty() {
            return Ok(());
        }
        self.mend(&api, &object, &reviewed).await?;
        let changed: Vec<&str> = reviewed.changes.iter().map(|change| change.path.as_str()).collect();
        self.metrics.swept("mended");
        info!(namespace, name, ?changed, "came past the webhook; filled in now");
        let message = format!("came past Tidewaiter; filled in now: {}", changed.join(", "));
        events::announce(&self.client, reference, ("Normal", "FilledIn"), &message).await;
        Ok(())
    }

    /// Writes what was missing. Nobody owns what we fill in: whoever applies their manifest with a value of their own must not find it in conflict with ours.
    async fn mend(&self, api: &Api<DynamicObject>, object: &DynamicObject, reviewed: &Reviewed) -> Result<(), NotYet> {
        let name = object.name_any();
        let mut patch = vec![json!({
            "op": "replace", "path": "/metadata/resourceVersion", "value": object.resource_version(),
        })];
        patch.extend(reviewed.patch.as_array().into_iter().flatten().cloned());
        let body = Value::Array(patch).to_string().into_bytes();
        let request = axum::http::Request::patch(format!("{}/{name}?fieldManager={FIELD_MANAGER}", api.resource_url()))
            .header("content-type", "application/json-patch+json")
            .body(body)
            .map_err(|error| error.to_string())?;
        let mended: DynamicObject = match self.client.request(request).await {
            Err(kube::Error::Api(status)) if status.code == 409 => return Err(NotYet::Overtaken(status.message)),
            mended => mended.map_err(|error| error.to_string())?,
        };
        let mut owners = mended.metadata.managed_fields.clone().unwrap_or_default();
        owners.retain(|owner| owner.manager.as_deref() != Some(FIELD_MANAGER));
        let disown = json!({"metadata": {"resourceVersion": mended.resource_version(), "managedFields": owners}});
        if let Err(error) = api.patch(&name, &writes(), &Patch::Merge(&disown)).await {
            // Somebody wrote in between; the fields are ours by name, which a forced apply overcomes.
            info!(name, %error, "can't give up the ownership of what was filled in");
        }
        Ok(())
    }
}

impl Judged {
    /// The services that are to be judged now: made since the horizon; of another generation than this leader saw; or, where a review has filled something in
    /// before, written since the horizon or changed since the leader before this one looked, as while nobody led. To judge those once more changes nothing.
    /// Not what was made or written since, and the leader before judged as it is.
    fn open(&mut self, services: &[Service], horizon: i64) -> Vec<Service> {
        let mut open = Vec::new();
        for service in services {
            let seen = self.generations.insert(service.uid.clone(), service.generation);
            let risen = seen.is_some_and(|seen| seen < service.generation);
            let late = service.created >= horizon || service.adopted && service.written >= horizon;
            let came = || late && !self.reviewed.judged(service) || self.reviewed.changed(service);
            let tried = self.states.get(&state(service));
            if tried.is_none() && (risen || came()) {
                self.states.insert(state(service), Stand::Queued);
                open.push(service.clone());
            } else if tried.is_some_and(|stand| stand.waits()) {
                open.push(service.clone());
            }
        }
        open
    }

    /// Those that may have come past the webhook, and those that didn't, in all likelihood: the ones that were written last come first, and those that failed
    /// before at the end.
    fn by_hurry(&self, open: Vec<Service>) -> (Vec<Service>, Vec<Service>) {
        let is_likely_fine = |service: &Service| service.adopted && !self.reviewed.changed(service);
        let (mut unhurried, urgent): (Vec<_>, Vec<_>) = open.into_iter().partition(is_likely_fine);
        let failed = |service: &Service| matches!(self.states.get(&state(service)), Some(Stand::Failing(_)));
        unhurried.sort_by_key(|service| (failed(service), Reverse(service.written)));
        (urgent, unhurried)
    }

    /// Whether that is new.
    fn complains(&mut self, error: &str) -> bool {
        let new = self.complaint != error;
        error.clone_into(&mut self.complaint);
        new
    }

    /// What is gone, and what is done with and can't come up again. `complete`: whether the services are all there are.
    fn forget(&mut self, services: &[Service], horizon: i64, complete: bool) {
        self.reviewed
            .follow(services, complete, |service| waits(&self.states, service));
        let there: HashMap<State, i64> = services
            .iter()
            .map(|service| (state(service), service.written))
            .collect();
        self.states.retain(|state, stand| {
            there
                .get(state)
                .is_some_and(|written| stand.waits() || *written >= horizon)
        });
        let uids: HashSet<&str> = services.iter().map(|service| service.uid.as_str()).collect();
        self.generations.retain(|uid, _| uids.contains(uid.as_str()));
    }
}

fn waits(states: &HashMap<State, Stand>, service: &Service) -> bool {
    states.get(&state(service)).is_some_and(|stand| stand.waits())
}

fn state(service: &Service) -> State {
    let written = service.adopted.then_some(service.written);
    (service.uid.clone(), service.generation, written)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: i64 = 1000;

    fn service(uid: &str, generation: i64, created: i64, written: i64, adopted: bool) -> Service {
        Service {
            generation,
            created,
            written,
            adopted,
            ..Service::of(uid)
        }
    }

    fn open(judged: &mut Judged, services: &[Service]) -> Vec<String> {
        let open = judged.open(services, HORIZON);
        for service in &open {
            judged.states.insert(state(service), Stand::Done);
        }
        judged.forget(services, HORIZON, true);
        open.into_iter().map(|service| service.uid).collect()
    }

    #[test]
    fn what_is_new_is_judged_once_and_again_when_its_spec_changes() {
        let mut judged = Judged::default();
        let new = service("new", 1, HORIZON, HORIZON, false);
        assert_eq!(open(&mut judged, std::slice::from_ref(&new)), ["new"]);
        assert!(open(&mut judged, std::slice::from_ref(&new)).is_empty());
        let changed = service("new", 2, HORIZON, HORIZON + 1, false);
        assert_eq!(open(&mut judged, std::slice::from_ref(&changed)), ["new"]);
        assert!(open(&mut judged, &[changed]).is_empty());
    }

    #[test]
    fn a_label_edit_of_a_service_that_ran_before_is_no_reason_to_look_at_it() {
        let mut judged = Judged::default();
        let labelled = |written| service("old", 3, 10, written, false);
        assert!(open(&mut judged, &[labelled(20)]).is_empty());
        assert!(open(&mut judged, &[labelled(HORIZON + 5)]).is_empty());
        // A change of its spec is.
        assert_eq!(open(&mut judged, &[service("old", 4, 10, HORIZON + 6, false)]), ["old"]);
    }

    #[test]
    fn what_the_leader_before_judged_is_judged_again_once_somebody_writes_to_it() {
        let mut before = Judged::default();
        let filled = |written| service("filled", 1, HORIZON, written, true);
        assert_eq!(open(&mut before, &[filled(HORIZON)]), ["filled"]);
        let mut next = Judged {
            reviewed: AtReview::read(&before.reviewed.write()),
            ..Judged::default()
        };
        let missed = service("missed", 1, HORIZON, HORIZON, true);
        assert_eq!(open(&mut next, &[filled(HORIZON), missed]), ["missed"]);
        // A label counts, in the time of either leader.
        for judged in [&mut before, &mut next] {
            assert_eq!(open(judged, &[filled(HORIZON + 1)]), ["filled"]);
            assert!(open(judged, &[filled(HORIZON + 1)]).is_empty());
        }
    }

    #[test]
    fn what_changed_while_nobody_led_is_judged_where_it_was_reviewed_before() {
        let mut judged = Judged::default();
        let services = [
            service("reviewed", 2, 10, HORIZON, true),
            service("never", 2, 10, HORIZON, false),
        ];
        assert_eq!(open(&mut judged, &services), ["reviewed"]);
    }

    #[test]
    fn a_bare_manifest_over_a_filled_service_is_judged_by_the_next_leader_though_the_record_is_gone() {
        let mut before = Judged::default();
        let ran_before = service("ran-before", 2, 10, 20, false);
        open(&mut before, &[service("filled", 2, 10, 20, true), ran_before]);
        let mut next = Judged {
            reviewed: AtReview::read(&before.reviewed.write()),
            ..Judged::default()
        };
        // What only takes away has no time of its own; a label has one.
        let replaced = [
            service("filled", 3, 10, 20, false),
            service("ran-before", 2, 10, HORIZON + 1, false),
        ];
        assert_eq!(open(&mut next, &replaced), ["filled"]);
        assert!(open(&mut next, &replaced).is_empty());
    }

    #[test]
    fn what_shows_no_record_is_looked_at_first_then_what_was_written_last_and_what_failed_at_the_end() {
        let mut judged = Judged::default();
        let named = |services: Vec<Service>| services.into_iter().map(|service| service.uid).collect::<Vec<_>>();
        let all = [
            service("failing", 1, HORIZON, HORIZON + 3, true),
            service("older", 1, HORIZON, HORIZON + 1, true),
            service("newer", 1, HORIZON, HORIZON + 2, true),
            service("slipped", 1, HORIZON, HORIZON, false),
        ];
        let failing = Stand::Failing(Instant::now());
        judged.states.insert(state(&all[0]), failing);
        let open = judged.open(&all, HORIZON);
        let (urgent, unhurried) = judged.by_hurry(open);
        assert_eq!(named(urgent), ["slipped"]);
        assert_eq!(named(unhurried), ["newer", "older", "failing"]);
    }

    #[test]
    fn a_complaint_is_told_once() {
        let mut judged = Judged::default();
        let told = ["gone", "gone", "shut", "gone"].map(|error| judged.complains(error));
        assert_eq!(told, [true, false, true, true]);
    }

    #[test]
    fn what_could_not_be_judged_stays_open_and_what_is_gone_is_forgotten() {
        let mut judged = Judged::default();
        let new = [service("new", 1, HORIZON, HORIZON, false)];
        assert_eq!(judged.open(&new, HORIZON).len(), 1);
        judged.forget(&new, HORIZON + 100, true);
        assert_eq!(judged.open(&new, HORIZON + 100).len(), 1);
        judged.forget(&[], HORIZON + 100, true);
        assert!(judged.states.is_empty() && judged.generations.is_empty());
    }
}
