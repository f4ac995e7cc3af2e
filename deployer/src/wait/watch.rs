//! Watches a service, its Pods and events, and reads the logs of containers that ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, LogParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;

use super::asking::{Asking, Said, remark};
use super::cause::{PATIENCE, at_last, diagnose};
use super::outcome::{Options, Outcome, Progress};
use super::remarks::remarks;
use super::rollout::{Rollout, rollout};
use super::stage::{Stage, stage};
use super::state::{SERVER, State, ended, statuses, text};
use crate::cluster::{Attempt, Cluster, Error, kinds};
use crate::live::{Component, service_of, storage_uri};
use crate::source::without_token;
use crate::submit::entries;

/// Watches bring several changes at once.
const SETTLE: Duration = Duration::from_millis(150);
/// Patience is measured, and logs grow.
const TICK: Duration = Duration::from_secs(2);
const LINES: i64 = 200;
/// How old an event may be at the start: those of an earlier deployment of the same name tell nothing of this one.
const FRESH: Duration = Duration::from_secs(5);

enum Change {
    Service(Box<DynamicObject>),
    Gone,
    Pod(String, Option<Value>),
    Pods(BTreeSet<String>),
    Event(Value),
    Blind(&'static str, String),
}

/// Waits until the service as it stands now answers. May be dropped at any time: it changes nothing.
///
/// # Errors
/// Where the service can't be watched. Pods, events and logs that may not be read are gone without, and told.
pub async fn wait(cluster: &Cluster, options: &Options, mut on: impl FnMut(Progress)) -> Result<Outcome, Error> {
    let mut waiting = match Waiting::start(cluster, options).await {
        Err(Error::NotFound { .. }) => return Ok(Outcome::Deleted),
        started => started?,
    };
    let mut asking = Asking::default();
    let mut changes = waiting.watches();
    let deadline = Instant::now() + options.timeout;
    let (mut told_stage, mut told_trouble) = (None, None);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(Some(change)) = tokio::time::timeout(TICK.min(left), changes.next()).await {
            let mut next = Some(change);
            while let Some(change) = next.take() {
                match change {
                    Change::Gone => return Ok(Outcome::Deleted),
                    Change::Blind(what, reason) => {
                        if waiting.blind.insert(what) {
                            on(Progress::Blind(format!("{what} can't be looked at ({reason})")));
                        }
                    }
                    change => waiting.take(change),
                }
                next = tokio::time::timeout(SETTLE, changes.next()).await.ok().flatten();
            }
        }
        if let Some(replaced) = waiting.replaced() {
            return Ok(replaced);
        }
        waiting.read_logs(&mut on).await;
        let state = waiting.state();
        let mut come = stage(state);
        let mut said = None;
        if come == Stage::Ready && waiting.is_rolled_out().await {
            let sees_pods = !waiting.blind.contains("Pods");
            said = Some(asking.ask(cluster, &waiting.state, sees_pods).await);
        }
        if said == Some(Said::NotYet) {
            come = Stage::Load;
        }
        // Onwards alone: a Pod that is tried again is no news of its own.
        if told_stage.is_none_or(|told| told < come) && come != Stage::Ready {
            told_stage = Some(come);
            on(Progress::Stage(come));
        }
        let ready = match &said {
            Some(Said::Yes) => Some(Vec::new()),
            Some(Said::Nothing(why)) => Some(vec![remark(why)]),
            Some(Said::NotYet) | None => None,
        };
        if let Some(unasked) = ready {
            // What the server wrote while it loaded the model.
            waiting.read.retain(|(_, container), _| container != SERVER);
            waiting.read_logs(&mut on).await;
            on(Progress::Stage(Stage::Ready));
            return Ok(match remarks(&waiting.state) {
                Ok(remarks) => Outcome::Ready {
                    url: waiting.state.service["status"]["url"].as_str().map(str::to_owned),
                    remarks: remarks.into_iter().chain(unasked).collect(),
                },
                Err(finding) => Outcome::Failed(*finding),
            });
        }
        let finding = diagnose(&waiting.state);
        match finding {
            Some(finding) if finding.certain => return Ok(Outcome::Failed(finding)),
            Some(finding) if told_trouble.as_ref() != Some(&finding.message) => {
                told_trouble = Some(finding.message.clone());
                on(Progress::Trouble(finding));
            }
            _ => {}
        }
        if Instant::now() >= deadline {
            let silent = || asking.at_last(&waiting.state).filter(|_| said == Some(Said::NotYet));
            return Ok(Outcome::TimedOut {
                stage: come,
                finding: at_last(&waiting.state).or_else(silent),
                unmet: waiting.state.unmet(),
            });
        }
    }
}

/// A container's restarts, whether it is ready, and how often nothing listened where it was asked.
type Read = (u64, bool, u64);

struct Waiting<'a> {
    cluster: &'a Cluster,
    options: &'a Options,
    state: State,
    pods: BTreeMap<String, Value>,
    moved: Instant,
    began: Instant,
    /// The Pods were listed once.
    listed: bool,
    since: jiff::Timestamp,
    /// Of which run of a container the log is here, and up to where.
    read: BTreeMap<(String, String), Read>,
    blind: BTreeSet<&'static str>,
}

impl<'a> Waiting<'a> {
    async fn start(cluster: &'a Cluster, options: &'a Options) -> Result<Self, Error> {
        let attempt = Attempt::get(&kinds::INFERENCE_SERVICE, Some(&options.namespace), &options.name);
        let api = cluster.api(&kinds::INFERENCE_SERVICE, Some(&options.namespace));
        let service = api
            .get(&options.name)
            .await
            .map_err(|error| cluster.failed(attempt, &error))?;
        // Who may not read namespaces learns the label's effect by the Pod that has no download.
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client().clone());
        let labels = namespaces
            .get_metadata(&options.namespace)
            .await
            .ok()
            .and_then(|namespace| namespace.metadata.labels);
        let since = cluster.now().await - FRESH;
        Ok(Self {
            cluster,
            options,
            state: State {
                since: Some(since),
                service: serde_json::to_value(&service).unwrap_or_default(),
                is_control_plane: labels.is_some_and(|labels| labels.contains_key("control-plane")),
                ..State::default()
            },
            pods: BTreeMap::new(),
            moved: Instant::now(),
            began: Instant::now(),
            listed: false,
            since,
            read: BTreeMap::new(),
            blind: BTreeSet::new(),
        })
    }

    fn watches(&self) -> SelectAll<BoxStream<'static, Change>> {
        let namespace = Some(self.options.namespace.as_str());
        let name = &self.options.name;
        let of_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let services = watcher(self.cluster.api(&kinds::INFERENCE_SERVICE, namespace), of_name)
            .default_backoff()
            .filter_map(async |event| match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    Some(Change::Service(Box::new(object)))
                }
                Ok(watcher::Event::Delete(_)) => Some(Change::Gone),
                Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
                Err(error) => blind("the service", &error),
            });
        let of_service = watcher::Config::default().labels(&format!("serving.kserve.io/inferenceservice={name}"));
        let mut listed = BTreeSet::new();
        let pods = watcher(self.cluster.api(&kinds::POD, namespace), of_service)
            .default_backoff()
            .filter_map(move |event| {
                let change = match event {
                    Ok(watcher::Event::Init) => {
                        listed.clear();
                        None
                    }
                    Ok(watcher::Event::InitDone) => Some(Change::Pods(std::mem::take(&mut listed))),
                    Ok(watcher::Event::InitApply(pod)) => {
                        let name = pod.metadata.name.clone().unwrap_or_default();
                        listed.insert(name.clone());
                        Some(Change::Pod(name, serde_json::to_value(&pod).ok()))
                    }
                    Ok(watcher::Event::Apply(pod)) => Some(Change::Pod(
                        pod.metadata.name.clone().unwrap_or_default(),
                        serde_json::to_value(&pod).ok(),
                    )),
                    Ok(watcher::Event::Delete(pod)) => {
                        Some(Change::Pod(pod.metadata.name.clone().unwrap_or_default(), None))
                    }
                    Err(error) => blind("Pods", &error),
                };
                std::future::ready(change)
            });
        let events = watcher(self.cluster.api(&kinds::EVENT, namespace), watcher::Config::default())
            .default_backoff()
            .filter_map(async |event| match event {
                Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) => {
                    serde_json::to_value(&event).ok().map(Change::Event)
                }
                Ok(_) => None,
                Err(error) => blind("events", &error),
            });
        futures::stream::select_all([services.boxed(), pods.boxed(), events.boxed()])
    }

    fn take(&mut self, change: Change) {
        match change {
            // What a watch remembers of the time before.
            Change::Service(object) if self.options.sent.as_ref().is_some_and(|sent| sent.is_before(&object)) => {}
            Change::Service(object) => {
                self.state.service = serde_json::to_value(&*object).unwrap_or_default();
            }
            Change::Pod(name, Some(pod)) => {
                // Nothing but a move of the Pod itself counts as one: KServe writes the service's status all the time.
                if self
                    .pods
                    .get(&name)
                    .is_none_or(|before| before["status"] != pod["status"])
                {
                    self.moved = Instant::now();
                }
                let is_change = self.state.service["metadata"]["generation"].as_i64() > Some(1);
                if !self.listed && is_change && self.options.sent.is_some() {
                    self.state.before.insert(name.clone());
                }
                self.pods.insert(name, pod);
            }
            Change::Pod(name, None) => {
                self.pods.remove(&name);
            }
            Change::Pods(listed) => {
                self.listed = true;
                self.pods.retain(|name, _| listed.contains(name));
            }
            Change::Event(event) if self.is_ours(&event) => {
                self.state
                    .events
                    .retain(|old| old["metadata"]["uid"] != event["metadata"]["uid"]);
                self.state.events.push(event);
            }
            Change::Event(_) | Change::Gone | Change::Blind(..) => {}
        }
        self.state.pods = self.pods.values().cloned().collect();
    }

    fn replaced(&self) -> Option<Outcome> {
        let sent = self.options.sent.as_ref()?;
        let service = &self.state.service;
        if !sent.is_replaced_by(service) {
            return None;
        }
        let newest = serde_json::from_value::<DynamicObject>(service.clone())
            .ok()
            .and_then(|service| entries(&service).into_iter().next());
        Some(Outcome::Replaced {
            uri: storage_uri(&service["spec"]["predictor"]).map(|uri| without_token(&uri)),
            by: newest.map(|entry| entry.by),
        })
    }

    fn is_ours(&self, event: &Value) -> bool {
        let of_service = is_of(&self.options.name, &self.state.service["spec"], event);
        let at = [&event["lastTimestamp"], &event["eventTime"], &event["firstTimestamp"]];
        let at = at.iter().find_map(|at| at.as_str()?.parse::<jiff::Timestamp>().ok());
        of_service && at.is_none_or(|at| at >= self.since)
    }

    fn state(&mut self) -> &State {
        self.state.quiet = self.moved.elapsed().as_secs();
        if self.began.elapsed().as_secs() > PATIENCE {
            self.state.before.clear();
        }
        &self.state
    }

    /// The log of each container that ended, once; of servers that are ready, which may have no model all the same; and, each time that it is asked in vain, of
    /// one that may listen elsewhere.
    async fn read_logs(&mut self, on: &mut impl FnMut(Progress)) {
        let mut wanted = Vec::new();
        for pod in self.state.newest_pods() {
            let pod_name = text(&pod["metadata"]["name"]).to_owned();
            for status in statuses(pod) {
                let name = text(&status["name"]).to_owned();
                let has_ended =
                    ended(status).is_some_and(|ended| name != "storage-initializer" || ended["exitCode"] != 0);
                let is_server = name == SERVER;
                let is_ready = status["ready"] == true && is_server;
                let is_running = !status["state"]["running"].is_null();
                let refusals = if is_server && is_running && !is_ready && !has_ended {
                    self.state.refusals(&pod_name)
                } else {
                    0
                };
                if !has_ended && !is_ready && refusals == 0 {
                    continue;
                }
                let runs = status["restartCount"].as_u64().unwrap_or_default();
                let key = (pod_name.clone(), name);
                let read = (runs, is_ready, refusals);
                if self.read.get(&key) != Some(&read) {
                    wanted.push((key, read, is_running && has_ended && !is_ready));
                }
            }
        }
        let api: Api<Pod> = Api::namespaced(self.cluster.client().clone(), &self.options.namespace);
        for (key, read, previous) in wanted {
            let params = LogParams {
                container: Some(key.1.clone()),
                previous,
                tail_lines: Some(LINES),
                ..LogParams::default()
            };
            match api.logs(&key.0, &params).await {
                Ok(log) if !log.starts_with("unable to retrieve container logs") => {
                    self.state.logs.insert(key.clone(), log);
                    self.read.insert(key, read);
                }
                // Gone already: the next run's will do.
                Ok(_) => {}
                Err(error) => {
                    self.read.insert(key, read);
                    if self.blind.insert("logs") {
                        on(Progress::Blind(format!(
                            "logs can't be looked at ({})",
                            told_api(&error)
                        )));
                    }
                }
            }
        }
    }

    /// Whether the Pods that answer are those of the service as it stands. Without a Deployment (Knative), or one that may be read, KServe's word counts.
    async fn is_rolled_out(&self) -> bool {
        let name = service_of(&self.options.name, &self.state.service["spec"], Component::Predictor);
        let rollout = rollout(self.cluster, &self.options.namespace, &name, |_| true).await;
        !matches!(rollout, Rollout::Going(_))
    }
}

/// Whether an event is about the service of this name, or about what KServe made of it. Names of that begin with the service's. Another service's may do so too:
/// `fraud-predictor-…` is no `fraud-2`'s. Knative knows no name of the predictor's own.
fn is_of(service: &str, spec: &Value, event: &Value) -> bool {
    let name = text(&event["involvedObject"]["name"]);
    let components = [Component::Predictor, Component::Transformer, Component::Explainer];
    name == service
        || components.iter().any(|&component| {
            name.starts_with(&service_of(service, spec, component))
                || name.starts_with(&service_of(service, &Value::Null, component))
        })
}

/// A watch that broke off begins anew by itself: it is told of where it can't.
fn blind(what: &'static str, error: &watcher::Error) -> Option<Change> {
    let reason = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::WatchFailed(_) => return None,
        other => other.to_string(),
    };
    Some(Change::Blind(what, reason))
}

fn told_api(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_of_a_promoted_predictor_are_the_services() {
        let is_of = |spec: &Value, name: &str| is_of("fraud", spec, &json!({"involvedObject": {"name": name}}));
        let promoted = json!({"predictor": {"name": "canary"}});
        for name in [
            "fraud",
            "fraud-canary-predictor-7d9f-x",
            "fraud-predictor-7d9f-x",
            "fraud-transformer-x",
        ] {
            assert!(is_of(&promoted, name), "{name}");
        }
        for name in ["fraud-2", "fraud-2-predictor-7d9f-x", "fraudulent", "churn"] {
            assert!(!is_of(&promoted, name), "{name}");
        }
        assert!(!is_of(&json!({"predictor": {}}), "fraud-canary-predictor-7d9f-x"));
    }

    #[test]
    fn a_watch_that_breaks_off_is_no_matter_and_one_that_can_not_begin_is_told() {
        let broken = || kube::Error::ReadEvents(std::io::Error::other("the body ended"));
        assert!(blind("Pods", &watcher::Error::WatchFailed(broken())).is_none());
        let told = blind("Pods", &watcher::Error::InitialListFailed(broken()));
        assert!(matches!(told, Some(Change::Blind("Pods", reason)) if reason.contains("the body ended")));
    }
}
