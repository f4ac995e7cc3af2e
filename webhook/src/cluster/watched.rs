//! One kind of object, kept current by a watch.

use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::refusal::LASTING;
use super::turn::in_turn;

/// A watch that failed is begun again after this time, and each time that it fails again after twice as long,
const FIRST_PAUSE: Duration = Duration::from_millis(800);
/// but no longer than this.
const LAST_PAUSE: Duration = Duration::from_secs(8);

/// Seconds that the API server keeps a watch open. One that dies with its connection open, as when its node is gone, says nothing, and what a watch showed
/// counts as what there is until five seconds (kube-rs' own slack) after this.
const OPEN: u32 = 45;
/// An API server that is asked and says nothing for so long is gone, network and all.
pub(crate) const SILENCE: Duration = Duration::from_secs(OPEN as u64 + 5);

/// How everything of a kind is watched; a selector narrows it.
pub(crate) fn everything() -> watcher::Config {
    watcher::Config::default().timeout(OPEN)
}

/// Of a namespace that was named, and can't be looked into.
const NAMED: Duration = Duration::from_secs(10);

/// Tells everybody who listens that something changed.
pub(crate) type Changes = watch::Sender<()>;

/// Objects of one kind, as the API server last told.
pub struct Watched<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    parts: Vec<Part<K>>,
    dyntype: K::DynamicType,
}

/// What is followed.
pub(crate) struct What<K> {
    /// The kind, for the log.
    pub(crate) kind: &'static str,
    /// Where; none for everywhere, or where a `ClusterRole` gives the right to it.
    pub(crate) namespace: Option<String>,
    /// Whether an object is the same as before in all that anybody asks for.
    pub(crate) same: fn(&K, &K) -> bool,
}

/// What one watch shows.
struct Part<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// Where it looks; none for everywhere.
    namespace: Option<String>,
    store: Store<K>,
    live: Arc<AtomicBool>,
    /// When it was live for the last time, of one that is no more.
    lost: Arc<Mutex<Option<Instant>>>,
    /// The cluster doesn't have the kind.
    absent: Arc<AtomicBool>,
    settle: watch::Sender<bool>,
}

impl<K> Clone for Watched<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            dyntype: self.dyntype.clone(),
        }
    }
}

impl<K> Clone for Part<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    fn clone(&self) -> Self {
        Self {
            namespace: self.namespace.clone(),
            store: self.store.clone(),
            live: Arc::clone(&self.live),
            lost: Arc::clone(&self.lost),
            absent: Arc::clone(&self.absent),
            settle: self.settle.clone(),
        }
    }
}

impl<K> Watched<K>
where
    K: Lookup + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    /// Follows what `watch` shows until `stop`, and wakes `changed` at each change. `what` names the kind in the log.
    ///
    /// A watch that failed is begun anew, with a list: one that goes on by itself says nothing until the next change, and what it shows would count as
    /// outdated for so long.
    pub fn follow<S>(
        watch: impl FnMut() -> S + Send + 'static,
        dyntype: K::DynamicType,
        what: &'static str,
        changed: Changes,
        stop: CancellationToken,
    ) -> Self
    where
        S: Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    {
        let what = What {
            kind: what,
            namespace: None,
            same: |_, _| false,
        };
        Self::follow_news(watch, dyntype, what, changed, stop)
    }

    /// As [`Self::follow`], and nobody is woken for an object that is the same as before in what is kept of it.
    pub(crate) fn follow_news<S>(
        mut watch: impl FnMut() -> S + Send + 'static,
        dyntype: K::DynamicType,
        what: What<K>,
        changed: Changes,
        stop: CancellationToken,
    ) -> Self
    where
        S: Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    {
        let mut writer = Writer::<K>::new(dyntype.clone());
        let part = Part::new(writer.as_reader(), what.namespace.clone());
        let store = part.store.clone();
        let Part {
            live,
            lost,
            absent,
            settle,
            ..
        } = part.clone();
        let watched = Self {
            parts: vec![part],
            dyntype: dyntype.clone(),
        };
        tokio::spawn(async move {
            let mut complaint = String::new();
            let mut pause = FIRST_PAUSE;
            loop {
                let mut events = pin!(watch());
                let watching = async {
                    loop {
                        let event = tokio::select! {
                            () = stop.cancelled() => return None,
                            event = events.next() => event,
                        };
                        match event {
                            None => return None,
                            Some(Err(error)) => return Some(explain(&error, what.namespace.as_deref())),
                            Some(Ok(event)) => {
                                let known = if let Event::Apply(object) = &event {
                                    let before = store.get(&object.to_object_ref(dyntype.clone()));
                                    before.is_some_and(|before| (what.same)(&before, object))
                                } else {
                                    false
                                };
                                writer.apply_watcher_event(&event);
                                // Only a complete list is a state of the cluster.
                                if matches!(event, Event::InitDone | Event::Apply(_) | Event::Delete(_)) {
                                    if !complaint.is_empty() {
                                        info!(kind = what.kind, "the watch works again");
                                        complaint.clear();
                                    }
                                    pause = FIRST_PAUSE;
                                    absent.store(false, Ordering::Release);
                                    live.store(true, Ordering::Release);
                                    settle.send_replace(true);
                                    if !known {
                                        changed.send_replace(());
                                    }
                                }
                            }
                        }
                    }
                };
                // Nobody else would know that the task is gone, and what it showed last would count as what there is.
                let ended = AssertUnwindSafe(watching).catch_unwind().await;
                let ended =
                    ended.unwrap_or_else(|_| Some(("the watch panicked, a defect of Tidewaiter's".into(), false)));
                if live.swap(false, Ordering::AcqRel) {
                    *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                let Some((message, missing)) = ended else {
                    return;
                };
                absent.store(missing, Ordering::Release);
                if complaint != message {
                    warn!(kind = what.kind, "{message}; trying again");
                    complaint = message;
                }
                // A kind that doesn't exist has no objects; that is known, and not waited for. Any other error says nothing about what there is.
                if missing && !*settle.borrow() {
                    settle.send_replace(true);
                    changed.send_replace(());
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        });
        watched
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.parts.iter().flat_map(|part| part.store.state()).collect()
    }

    /// One object by name, if the watch is live: none where it may have missed a change, or doesn't look.
    pub fn current(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let mut parts = self.parts.iter();
        let part = parts.find(|part| part.looks_into(namespace))?;
        part.current(&ObjectRef::new_with(name, self.dyntype.clone()).within(namespace))
    }

    /// As [`Self::current`], for a kind that belongs to no namespace.
    pub fn current_of_cluster(&self, name: &str) -> Option<Arc<K>> {
        let part = self.parts.first()?;
        part.current(&ObjectRef::new_with(name, self.dyntype.clone()))
    }

    /// Whether what is in a namespace is looked at, and as the API server has it now.
    pub(crate) fn shows(&self, namespace: &str) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|part| part.looks_into(namespace) && part.live.load(Ordering::Acquire))
    }

    /// Whether what is in a namespace was looked at until a moment ago, and can't be now: as from an API server that begins again.
    pub(crate) fn broke_off(&self, namespace: &str) -> bool {
        let mut parts = self.parts.iter();
        parts.find(|part| part.looks_into(namespace)).is_some_and(|part| {
            let lost = *part.lost.lock().unwrap_or_else(PoisonError::into_inner);
            !part.live.load(Ordering::Acquire) && lost.is_some_and(|lost| lost.elapsed() < LASTING)
        })
    }

    /// Whether the objects are those that the API server has now, as far as a watch can tell.
    pub(crate) fn live(&self) -> bool {
        self.parts.iter().all(|part| part.live.load(Ordering::Acquire))
    }

    /// Whether the cluster doesn't have the kind.
    pub(crate) fn absent(&self) -> bool {
        self.parts.iter().all(|part| part.absent.load(Ordering::Acquire))
    }

    /// Waits until the objects are known.
    pub async fn settled(&self) {
        for part in &self.parts {
            // An error means that the task ended, which it does at shutdown.
            let _ = part.settle.subscribe().wait_for(|settled| *settled).await;
        }
    }
}

impl<K> Part<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    fn new(store: Store<K>, namespace: Option<String>) -> Self {
        Self {
            namespace,
            store,
            live: Arc::default(),
            lost: Arc::default(),
            absent: Arc::default(),
            settle: watch::Sender::new(false),
        }
    }

    fn looks_into(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }

    /// Counts as known after this time, whatever is known by then.
    fn settle_after(&self, limit: Duration, changed: &Changes, stop: &CancellationToken) {
        let (settle, changed, stop) = (self.settle.clone(), changed.clone(), stop.clone());
        tokio::spawn(async move {
            let mut settled = settle.subscribe();
            tokio::select! {
                () = stop.cancelled() => {}
                _ = settled.wait_for(|settled| *settled) => {}
                () = sleep(limit) => {
                    settle.send_replace(true);
                    changed.send_replace(());
                }
            }
        });
    }

    fn current(&self, object: &ObjectRef<K>) -> Option<Arc<K>> {
        self.live.load(Ordering::Acquire).then(|| self.store.get(object))?
    }
}

/// Watches in these namespaces, or everywhere where there are none.
pub(crate) fn follow_in<K>(
    client: &Client,
    namespaces: &[String],
    config: &watcher::Config,
    what: &'static str,
    changed: &Changes,
    stop: &CancellationToken,
) -> Watched<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    if namespaces.is_empty() {
        return follow(Api::all(client.clone()), config.clone(), what, changed, stop);
    }
    let parts = namespaces
        .iter()
        .flat_map(|namespace| follow_by_role(client, namespace, config, what, NAMED, (changed, stop)).parts);
    Watched {
        parts: parts.collect(),
        dyntype: (),
    }
}

/// Watches in one namespace, by a Role that is in it. With the namespace goes the right to look into it: nobody waits longer than `limit` for what may never
/// be there again.
pub(crate) fn follow_by_role<K>(
    client: &Client,
    namespace: &str,
    config: &watcher::Config,
    what: &'static str,
    limit: Duration,
    (changed, stop): (&Changes, &CancellationToken),
) -> Watched<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (api, config) = (Api::<K>::namespaced(client.clone(), namespace), config.clone());
    let watched = Watched::follow_news(
        move || slim(watcher::watcher(api.clone(), config.clone())),
        (),
        What {
            kind: what,
            namespace: Some(namespace.to_owned()),
            same: |_, _| false,
        },
        changed.clone(),
        stop.clone(),
    );
    for part in &watched.parts {
        part.settle_after(limit, changed, stop);
    }
    watched
}

/// Watches what objects of a kind that belongs to no namespace are called, and those of their labels that are `kept`. A change of anything else wakes nobody,
/// such as what each node's kubelet writes of it all the time.
pub(crate) fn follow_labels<K>(
    api: Api<PartialObjectMeta<K>>,
    kept: fn(&str) -> bool,
    what: &'static str,
    changed: &Changes,
    stop: &CancellationToken,
) -> Watched<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let less = move |object: &mut PartialObjectMeta<K>| {
        let mut labels = object.metadata.labels.take();
        if let Some(labels) = &mut labels {
            labels.retain(|label, _| kept(label));
        }
        object.metadata = ObjectMeta {
            name: object.metadata.name.take(),
            labels,
            ..ObjectMeta::default()
        };
    };
    Watched::follow_news(
        move || reduce(watcher::watcher(api.clone(), everything()), less),
        (),
        What {
            kind: what,
            namespace: None,
            same: |before, now| before.metadata == now.metadata,
        },
        changed.clone(),
        stop.clone(),
    )
}

/// Watches objects of a kind that is known when this is compiled.
pub(crate) fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    what: &'static str,
    changed: &Changes,
    stop: &CancellationToken,
) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    Watched::follow(
        move || slim(watcher::watcher(api.clone(), config.clone())),
        (),
        what,
        changed.clone(),
        stop.clone(),
    )
}

/// Without `managedFields`, which would be most of what the store keeps.
pub(super) fn slim<K: Resource + 'static>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static {
    reduce(events, |object| object.managed_fields_mut().clear())
}

/// A watch whose first list waits for its turn; each object with less in it, before it is kept.
pub(crate) fn reduce<K: Resource + 'static>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    less: impl Fn(&mut K) + Copy + Send + 'static,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static {
    in_turn(events).map_ok(move |event| event.modify(less))
}

/// What is wrong with a watch, in a namespace if a Role of that gives the right to it, and whether it is that the kind doesn't exist.
fn explain(error: &watcher::Error, namespace: Option<&str>) -> (String, bool) {
    use watcher::Error;
    let (Error::InitialListFailed(source) | Error::WatchStartFailed(source) | Error::WatchFailed(source)) = error
    else {
        return (error.to_string(), false);
    };
    match source {
        kube::Error::Api(status) if status.code == 404 => (
            "the cluster doesn't know this kind: install its CustomResourceDefinition if it is to be used".into(),
            true,
        ),
        kube::Error::Api(status) if status.code == 403 => {
            let next = match namespace {
                Some(namespace) => format!(
                    "the chart's Role in the namespace {namespace} is missing, as where that was made anew: run helm upgrade"
                ),
                None => "install the chart's ClusterRole".to_owned(),
            };
            let message = format!("this ServiceAccount may not watch it: {} ({next})", status.message);
            (message, false)
        }
        kube::Error::Api(status) => (status.message.clone(), false),
        other => (other.to_string(), false),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(name: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({"metadata": {"namespace": "a", "name": name}})).unwrap()
    }

    /// One watch after the other: each shows a list of one object, and then what follows it.
    fn watched(then: Vec<Option<watcher::Error>>) -> Watched<ConfigMap> {
        let mut watches = then.into_iter().enumerate();
        let watch = move || {
            let (number, error) = watches.next().expect("no more watches are begun");
            let list = [
                Event::Init,
                Event::InitApply(map(&format!("map-{number}"))),
                Event::InitDone,
            ];
            let events: Vec<_> = list.into_iter().map(Ok).chain(error.map(Err)).collect();
            futures::stream::iter(events).chain(futures::stream::pending())
        };
        Watched::follow(watch, (), "test", Changes::default(), CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_namespace_that_is_gone_says_nothing_of_the_others() {
        let gone = || futures::stream::iter([Err(watcher::Error::NoResourceVersion)]);
        let gone = Watched::<ConfigMap>::follow(gone, (), "test", Changes::default(), CancellationToken::new());
        let mut both = watched(vec![None]);
        both.settled().await;
        both.parts.extend(gone.parts);
        for (part, namespace) in both.parts.iter_mut().zip(["a", "b"]) {
            part.namespace = Some(namespace.to_owned());
        }
        assert!(!both.live());
        assert!(both.shows("a"));
        assert!(!both.shows("b"), "it isn't known what is there");
        assert!(!both.shows("c"), "nobody looks there");
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_error_what_a_watch_shows_counts_again_as_soon_as_it_is_listed() {
        let watched = watched(vec![Some(watcher::Error::NoResourceVersion), None]);
        watched.settled().await;
        sleep(LAST_PAUSE).await;
        assert!(watched.live());
        assert!(watched.current("a", "map-1").is_some());
        assert!(watched.current("a", "map-0").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_panics_counts_no_longer_and_is_begun_anew() {
        let mut first_and_second = [true, false].into_iter();
        let begin = move || {
            let first = first_and_second.next().expect("two watches");
            let list = [Event::Init, Event::InitApply(map("map")), Event::InitDone];
            let then = async move {
                assert!(!first, "as a defect would");
                std::future::pending().await
            };
            futures::stream::iter(list.map(Ok)).chain(futures::stream::once(then))
        };
        let watched = Watched::follow(begin, (), "test", Changes::default(), CancellationToken::new());
        watched.settled().await;
        sleep(FIRST_PAUSE / 2).await;
        assert!(!watched.live(), "nobody follows it now");
        sleep(LAST_PAUSE).await;
        assert!(watched.live());
        assert!(watched.current("a", "map").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_the_same_in_what_is_kept_of_it_wakes_nobody() {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let mut told = Some(told);
        let watch = move || {
            let told = told.take().expect("one watch");
            let told = futures::stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
            let list = [Event::Init, Event::InitApply(map("map")), Event::InitDone];
            futures::stream::iter(list).chain(told).map(Ok)
        };
        let (changed, what) = (
            Changes::default(),
            What {
                kind: "test",
                namespace: None,
                same: |before: &ConfigMap, now: &ConfigMap| before.data == now.data,
            },
        );
        let mut news = changed.subscribe();
        let watched = Watched::follow_news(watch, (), what, changed, CancellationToken::new());
        watched.settled().await;
        let data = |text: &str| ConfigMap {
            data: Some([("key".to_owned(), text.to_owned())].into()),
            ..map("map")
        };
        for (event, wakes) in [
            (Event::Apply(data("a")), true),
            (Event::Apply(data("a")), false),
            (Event::Apply(data("b")), true),
            (Event::Apply(map("other")), true),
            (Event::Delete(map("other")), true),
        ] {
            news.mark_unchanged();
            tell.send(event).unwrap();
            sleep(Duration::from_millis(1)).await;
            assert_eq!(news.has_changed().unwrap(), wakes);
        }
        assert_eq!(watched.current("a", "map").unwrap().data, data("b").data);
    }

    #[test]
    fn who_may_not_watch_is_told_which_role_gives_the_right_to_it() {
        let refused = kube::core::Status::failure("configmaps is forbidden", "Forbidden").with_code(403);
        let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(refused)));
        let (everywhere, missing) = explain(&error, None);
        assert!(everywhere.ends_with("configmaps is forbidden (install the chart's ClusterRole)") && !missing);
        let (here, missing) = explain(&error, Some("kserve"));
        assert!(here.contains("Role in the namespace kserve") && here.contains("run helm upgrade") && !missing);
    }
}
