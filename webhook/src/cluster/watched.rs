//! One kind of object, kept current by a watch.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
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
    parts: Vec<Part<K>>,
    dyntype: K::DynamicType,
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
    settled: watch::Receiver<bool>,
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
            parts: vec![Part {
                namespace: None,
                store,
                live: Arc::clone(&live),
                settled,
            }],
            dyntype,
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
        self.parts.iter().flat_map(|part| part.store.state()).collect()
    }

    /// One object by name, if the watch is live: none where it may have missed a change, or doesn't look.
    pub fn current(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let mut parts = self.parts.iter();
        let part = parts.find(|part| part.namespace.as_deref().is_none_or(|own| own == namespace))?;
        part.current(&ObjectRef::new_with(name, self.dyntype.clone()).within(namespace))
    }

    /// As [`Self::current`], for a kind that belongs to no namespace.
    pub fn current_of_cluster(&self, name: &str) -> Option<Arc<K>> {
        let part = self.parts.first()?;
        part.current(&ObjectRef::new_with(name, self.dyntype.clone()))
    }

    /// Whether the objects are those that the API server has now, as far as a watch can tell.
    pub(crate) fn live(&self) -> bool {
        self.parts.iter().all(|part| part.live.load(Ordering::Acquire))
    }

    /// Waits until the objects are known.
    pub async fn settled(&self) {
        for part in &self.parts {
            // An error means that the task ended, which it does at shutdown.
            let _ = part.settled.clone().wait_for(|settled| *settled).await;
        }
    }
}

impl<K> Part<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
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
    let parts = namespaces.iter().flat_map(|namespace| {
        let api = Api::namespaced(client.clone(), namespace);
        let mut watched = follow(api, config.clone(), what, changed, stop);
        for part in &mut watched.parts {
            part.namespace = Some(namespace.clone());
        }
        watched.parts
    });
    Watched {
        parts: parts.collect(),
        dyntype: (),
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
