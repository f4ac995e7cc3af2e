//! One kind of object, kept current by a watch.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt, TryStreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Tells everybody who listens that something changed.
pub(crate) type Changes = watch::Sender<()>;

/// Objects of one kind, as the API server last told.
pub struct Watched<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    dyntype: K::DynamicType,
    live: Arc<AtomicBool>,
    settled: watch::Receiver<bool>,
}

impl<K> Clone for Watched<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            dyntype: self.dyntype.clone(),
            live: Arc::clone(&self.live),
            settled: self.settled.clone(),
        }
    }
}

impl<K> Watched<K>
where
    K: Lookup + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    /// Follows `events` until `stop`, and wakes `changed` at each change. `what` names the kind in the log.
    pub fn follow<S>(
        events: S,
        dyntype: K::DynamicType,
        what: &'static str,
        changed: Changes,
        stop: CancellationToken,
    ) -> Self
    where
        S: Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    {
        let mut writer = Writer::<K>::new(dyntype.clone());
        let store = writer.as_reader();
        let live = Arc::new(AtomicBool::new(false));
        let (settle, settled) = watch::channel(false);
        let watched = Self {
            store,
            dyntype,
            live: Arc::clone(&live),
            settled,
        };
        tokio::spawn(async move {
            let mut events = pin!(events.default_backoff());
            let mut complaint = String::new();
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => return,
                    event = events.next() => event,
                };
                match event {
                    None => return,
                    Some(Ok(event)) => {
                        writer.apply_watcher_event(&event);
                        // Only a complete list is a state of the cluster.
                        if matches!(event, Event::InitDone | Event::Apply(_) | Event::Delete(_)) {
                            if !complaint.is_empty() {
                                info!(kind = what, "the watch works again");
                                complaint.clear();
                            }
                            live.store(true, Ordering::Release);
                            settle.send_replace(true);
                            changed.send_replace(());
                        }
                    }
                    Some(Err(error)) => {
                        live.store(false, Ordering::Release);
                        let (message, missing) = explain(&error);
                        if complaint != message {
                            warn!(kind = what, "{message}; trying again");
                            complaint = message;
                        }
                        // A kind that doesn't exist has no objects; that is known, and not waited for. Any other error says nothing about what there is.
                        if missing && !*settle.borrow() {
                            settle.send_replace(true);
                            changed.send_replace(());
                        }
                    }
                }
            }
        });
        watched
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// One object by name, if the watch is live: none where it may have missed a change.
    pub fn current(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        if !self.live.load(Ordering::Acquire) {
            return None;
        }
        self.store
            .get(&ObjectRef::new_with(name, self.dyntype.clone()).within(namespace))
    }

    /// As [`Self::current`], for a kind that belongs to no namespace.
    pub fn current_of_cluster(&self, name: &str) -> Option<Arc<K>> {
        if !self.live.load(Ordering::Acquire) {
            return None;
        }
        self.store.get(&ObjectRef::new_with(name, self.dyntype.clone()))
    }

    /// Whether the objects are those that the API server has now, as far as a watch can tell.
    pub(crate) fn live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Waits until the objects are known.
    pub async fn settled(&self) {
        // An error means that the task ended, which it does at shutdown.
        let _ = self.settled.clone().wait_for(|settled| *settled).await;
    }
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
        slim(watcher::watcher(api, config)),
        (),
        what,
        changed.clone(),
        stop.clone(),
    )
}

/// Without `managedFields`, which would be most of what the store keeps.
pub(super) fn slim<K: Resource>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static {
    reduce(events, |object| object.managed_fields_mut().clear())
}

/// Each object with less in it, before it is kept.
pub(crate) fn reduce<K: Resource>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    less: impl Fn(&mut K) + Copy + Send + 'static,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static {
    events.map_ok(move |event| event.modify(less))
}

/// What is wrong with a watch, and whether it is that the kind doesn't exist.
fn explain(error: &watcher::Error) -> (String, bool) {
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
        kube::Error::Api(status) if status.code == 403 => (
            format!(
                "this ServiceAccount may not watch it: {} (install the chart's ClusterRole)",
                status.message
            ),
            false,
        ),
        kube::Error::Api(status) => (status.message.clone(), false),
        other => (other.to_string(), false),
    }
}
