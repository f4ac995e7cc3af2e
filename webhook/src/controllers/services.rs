//! What the leader keeps of each service: which of our objects it names, and when its spec was last written. Of ten thousand services that is a few megabytes.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta};
use kube::runtime::watcher::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidewaiter_core::backend::MANAGED_NAME;
use tidewaiter_core::filled;
use tidewaiter_core::uri::{Scheme, StorageUri};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cluster::watched::{Changes, Watched, What, everything, reduce};

/// The kinds whose models need credentials, in each version that some release of KServe serves: an upgrade may take one away, and a conversion webhook that
/// is down hides those that aren't stored.
const KINDS: [(&str, &str); 3] = [
    ("v1beta1", "InferenceService"),
    ("v1alpha2", "LLMInferenceService"),
    ("v1alpha1", "LLMInferenceService"),
];
const NAMED: &str = "named";
const ACCOUNTS: &str = "accounts";
const WRITTEN: &str = "written";
const CREATED: &str = "created";
const ADOPTED: &str = "adopted";
const URIS: &str = "uris";
const SETTLED: &str = "settled";
/// For a list that isn't waited for any longer.
const MOMENT: Duration = Duration::from_secs(5);
/// No store has a name as long, in bytes: an S3 key ends at 1,024.
const URI: usize = 2048;

/// All services of the cluster.
#[derive(Clone)]
pub(super) struct Services {
    kinds: [Watched<DynamicObject>; 3],
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// The version that it was seen in.
    pub(super) version: &'static str,
    pub(super) uid: String,
    /// Rises with each change of its spec.
    pub(super) generation: i64,
    /// When it was made, by the API server's clock, in seconds since 1970.
    pub(super) created: i64,
    /// When somebody last wrote who writes its spec, whatever they wrote.
    pub(super) written: i64,
    /// Whether a review has filled something in.
    pub(super) adopted: bool,
    /// Names in it that are ours.
    pub(super) named: BTreeSet<String>,
    /// Those among them that it names as a ServiceAccount.
    pub(super) accounts: BTreeSet<String>,
    /// Models in stores that it names, wherever.
    pub(super) uris: BTreeSet<String>,
    /// Whether what runs is what its spec says, as far as KServe tells: no older revision, no model that is still being loaded.
    pub(super) settled: bool,
}

impl Service {
    /// How the API server knows the kind.
    pub(super) fn resource(&self) -> ApiResource {
        resource(self.version, self.kind)
    }

    /// One in team-a that names nothing of ours, its uid as its name.
    #[cfg(test)]
    pub(super) fn of(uid: &str) -> Self {
        let (version, kind) = KINDS[0];
        Self {
            namespace: "team-a".into(),
            name: uid.into(),
            kind,
            version,
            uid: uid.into(),
            generation: 1,
            created: 0,
            written: 0,
            adopted: false,
            named: BTreeSet::new(),
            accounts: BTreeSet::new(),
            uris: BTreeSet::new(),
            settled: true,
        }
    }
}

fn resource(version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("serving.kserve.io", version, kind))
}

impl Services {
    /// Begins to watch.
    pub(super) fn watch(client: &Client, changes: &Changes, stop: &CancellationToken) -> Self {
        let kinds = KINDS.map(|(version, kind)| {
            let resource = resource(version, kind);
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let watch = move || reduce(watcher(api.clone(), everything()), shrink);
            let what = What {
                kind,
                namespace: None,
                same: |before, now| before == now,
            };
            Watched::follow_news(watch, resource, what, changes.clone(), stop.clone())
        });
        Self { kinds }
    }

    /// Waits until they are known; where the `InferenceServices` are, for the others a moment: their conversion webhook may be down, and must hold nothing up.
    pub(super) async fn settled(&self) {
        let [inference, llm @ ..] = &self.kinds;
        inference.settled().await;
        let mut settling: FuturesUnordered<_> = llm.iter().map(Watched::settled).collect();
        let known = async { while settling.next().await.is_some() && !llm.iter().any(Watched::live) {} };
        let _ = timeout(MOMENT, known).await;
    }

    /// Whether all there are are known.
    fn complete(&self) -> bool {
        let [inference, llm @ ..] = &self.kinds;
        // The second kind is one that a cluster may not have.
        inference.live() && (llm.iter().any(Watched::live) || llm.iter().all(Watched::absent))
    }

    /// Those that are known, and whether that is all of them: what no service is known to use may be taken away only then.
    pub(super) fn all(&self) -> (Vec<Service>, bool) {
        // First: of what becomes known after it was looked for, it would be said that it isn't there.
        let complete = self.complete();
        let kinds = || KINDS.into_iter().zip(&self.kinds);
        let all = kinds().flat_map(|(kind, watched)| {
            // What a watch that failed still shows may be another by now, or gone: that of another version knows better.
            let outdated = !watched.live() && kinds().any(|((_, other), watched)| other == kind.1 && watched.live());
            let shown = if watched.absent() || outdated {
                Vec::new()
            } else {
                watched.all()
            };
            shown.into_iter().map(move |object| service(kind, &object))
        });
        (once_each(all), complete)
    }
}

/// A service that is seen in two versions is one.
fn once_each(services: impl Iterator<Item = Service>) -> Vec<Service> {
    let mut seen: HashSet<String> = HashSet::new();
    services.filter(|service| seen.insert(service.uid.clone())).collect()
}

fn service((version, kind): (&'static str, &'static str), object: &Arc<DynamicObject>) -> Service {
    let names = |which: &str| {
        let names = object.data[which].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Service {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        kind,
        version,
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        created: object.data[CREATED].as_i64().unwrap_or_default(),
        written: object.data[WRITTEN].as_i64().unwrap_or_default(),
        adopted: object.data[ADOPTED] == true,
        named: names(NAMED),
        accounts: names(ACCOUNTS),
        uris: names(URIS),
        settled: object.data[SETTLED] == true,
    }
}

/// Leaves of a service what [`Service`] tells.
fn shrink(object: &mut DynamicObject) {
    let mut names = Names::default();
    names.read(&object.data, "");
    for value in object.annotations().values() {
        names.take(value, "");
    }
    let created = object.metadata.creation_timestamp.as_ref();
    object.data = json!({
        URIS: names.uris,
        SETTLED: settled(&object.data["status"]),
        NAMED: names.named,
        ACCOUNTS: names.accounts,
        CREATED: created.map(|created| created.0.as_second()),
        WRITTEN: written(&object.metadata),
        ADOPTED: object.annotations().contains_key(filled::ANNOTATION),
    });
    object.metadata = ObjectMeta {
        name: object.metadata.name.take(),
        namespace: object.metadata.namespace.take(),
        uid: object.metadata.uid.take(),
        generation: object.metadata.generation,
        ..ObjectMeta::default()
    };
}

#[derive(Default)]
struct Names {
    named: BTreeSet<String>,
    accounts: BTreeSet<String>,
    uris: BTreeSet<String>,
}

impl Names {
    /// Wherever an object names one of ours: as a ServiceAccount, a Secret of an environment variable, or what KServe comes up with next.
    fn read(&mut self, value: &Value, member: &str) {
        match value {
            Value::String(text) => self.take(text, member),
            Value::Array(items) => items.iter().for_each(|item| self.read(item, member)),
            Value::Object(members) => members.iter().for_each(|(name, value)| self.read(value, name)),
            _ => {}
        }
    }

    fn take(&mut self, text: &str, member: &str) {
        if text.starts_with(MANAGED_NAME) {
            self.named.insert(text.to_owned());
            if member == "serviceAccountName" {
                self.accounts.insert(text.to_owned());
            }
        } else if names_a_store(text) {
            self.uris.insert(text.to_owned());
        }
    }
}

/// Whether that is the URI of something in a store that a backend may serve.
fn names_a_store(text: &str) -> bool {
    let uri = || StorageUri::parse(text).map(|uri| uri.scheme());
    text.len() <= URI
        && text.contains("://")
        && uri().is_ok_and(|scheme| scheme != Scheme::Other && !scheme.needs_no_credentials())
}

/// Whether a status speaks of nothing that is still on its way: `modelStatus.transitionStatus` of each mode, and of Knative's the revisions with traffic.
fn settled(status: &Value) -> bool {
    let transition = &status["modelStatus"]["transitionStatus"];
    let components = status["components"].as_object();
    let mut traffic = components
        .into_iter()
        .flat_map(|components| components.values())
        .flat_map(|component| component["traffic"].as_array().into_iter().flatten());
    (transition.is_null() || transition == "UpToDate")
        && traffic.all(|target| target["latestRevision"] == true || target["percent"].as_i64().unwrap_or_default() == 0)
}

/// The last time that somebody wrote who writes the spec: the API server keeps one time for all that one of them wrote. KServe's own writes, of status and
/// finalizers, don't count.
fn written(metadata: &ObjectMeta) -> i64 {
    let fields = metadata.managed_fields.iter().flatten();
    let times = fields
        .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
        .filter(|entry| {
            entry
                .fields_v1
                .as_ref()
                .is_some_and(|fields| fields.0.get("f:spec").is_some())
        })
        .filter_map(|entry| Some(entry.time.as_ref()?.0.as_second()));
    let created = metadata
        .creation_timestamp
        .as_ref()
        .map(|created| created.0.as_second());
    times.chain(created).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use kube::core::Status;
    use kube::runtime::watcher::{Error, Event};
    use tokio::time::Instant;

    use super::*;

    type Shown = Result<Event<DynamicObject>, Error>;

    /// Services whose watches show this, and nothing after it.
    fn showing(kinds: [Vec<Shown>; 3]) -> Services {
        let mut shown = kinds.into_iter();
        let kinds = KINDS.map(|(version, kind)| {
            let mut shown = shown.next();
            let watch = move || stream::iter(shown.take().unwrap_or_default()).chain(stream::pending());
            let (changes, stop) = (Changes::default(), CancellationToken::new());
            Watched::follow(watch, resource(version, kind), kind, changes, stop)
        });
        Services { kinds }
    }

    /// A whole list of a single object of this generation.
    fn list(generation: i64) -> Vec<Shown> {
        let metadata = ObjectMeta {
            name: Some("chat".into()),
            namespace: Some("team-a".into()),
            uid: Some("u".into()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        let object = DynamicObject {
            types: None,
            metadata,
            data: Value::Null,
        };
        vec![Ok(Event::Init), Ok(Event::InitApply(object)), Ok(Event::InitDone)]
    }

    fn refused(code: u16) -> Shown {
        Err(Error::InitialListFailed(kube::Error::Api(Box::new(Status {
            code,
            reason: if code == 404 { "NotFound" } else { "InternalError" }.into(),
            ..Status::default()
        }))))
    }

    fn none() -> Vec<Shown> {
        vec![Ok(Event::Init), Ok(Event::InitDone)]
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_complete_when_each_kind_is_known_in_one_version_and_as_that_shows_them() {
        let then = |mut shown: Vec<Shown>, error: Shown| {
            shown.push(error);
            shown
        };
        for (newer, older, complete, generation) in [
            (none(), list(1), true, Some(1)),
            // The conversion webhook is down, after or before anything was seen.
            (then(list(1), refused(500)), list(2), true, Some(2)),
            (vec![refused(500)], list(2), true, Some(2)),
            (then(list(1), refused(500)), vec![refused(500)], false, Some(1)),
            (vec![refused(500)], vec![refused(404)], false, None),
            // A cluster without the kind, and one that has it in a newer KServe.
            (vec![refused(404)], vec![refused(404)], true, None),
            (vec![refused(404)], list(3), true, Some(3)),
            (then(list(1), refused(404)), vec![refused(404)], true, None),
        ] {
            let services = showing([none(), newer, older]);
            timeout(MOMENT * 2, services.settled()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let (all, whole) = services.all();
            let shown = all.first().map(|service| service.generation);
            assert_eq!((shown, whole), (generation, complete), "{all:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_comes_later_than_the_others_is_waited_for_and_one_that_does_not_come_for_a_moment() {
        let began = Instant::now();
        showing([none(), none(), Vec::new()]).settled().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let without = showing([none(), Vec::new(), vec![refused(404)]]);
        without.settled().await;
        assert!(began.elapsed() >= MOMENT && !without.all().1);
        let waiting = showing([Vec::new(), none(), none()]);
        assert!(timeout(MOMENT * 10, waiting.settled()).await.is_err());
    }

    #[test]
    fn an_older_revision_with_traffic_and_a_model_on_its_way_are_not_settled() {
        let traffic = |old: i64| {
            json!({"components": {"predictor": {"traffic": [
                {"latestRevision": false, "percent": old}, {"latestRevision": true, "percent": 100 - old},
            ]}}})
        };
        assert!(settled(&Value::Null) && settled(&traffic(0)) && !settled(&traffic(10)));
        let model = |word: &str| json!({"modelStatus": {"transitionStatus": word}});
        assert!(settled(&model("UpToDate")) && !settled(&model("BlockedByFailedLoad")));
    }

    #[test]
    fn a_service_names_what_is_ours_wherever_it_stands_and_its_status_is_no_write() {
        let mut object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {
                "name": "fraud", "namespace": "team-a", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {
                    "serving.kserve.io/storageSecretName": "tidewaiter-minio",
                    "tidewaiter.dev/filled": "{\"/metadata/annotations\":\"tidewaiter-other\"}",
                },
                "managedFields": [
                    {"manager": "kubectl", "operation": "Update", "time": "2026-01-01T00:01:00Z",
                     "fieldsV1": {"f:metadata": {}, "f:spec": {"f:predictor": {}}}},
                    {"manager": "manager", "operation": "Update", "time": "2026-01-01T00:02:00Z",
                     "fieldsV1": {"f:metadata": {"f:finalizers": {}}}},
                    {"manager": "manager", "operation": "Update", "subresource": "status", "time": "2026-01-01T00:03:00Z",
                     "fieldsV1": {"f:status": {}, "f:spec": {}}},
                ],
            },
            "spec": {"predictor": {
                "serviceAccountName": "tidewaiter-accounts",
                "containers": [{"env": [
                    {"valueFrom": {"secretKeyRef": {"name": "tidewaiter-keys"}}},
                    {"name": "STORAGE_URI", "value": "s3://mlflow/fraud"},
                    {"name": "BEFORE", "value": "gs://kfserving-examples/models"},
                    {"name": "CACHE", "value": "pvc://claim/models"},
                    {"name": "LONG", "value": format!("s3://{}", "long/".repeat(500))},
                ]}],
            }},
            "status": {"modelStatus": {"transitionStatus": "InProgress"}},
        }))
        .unwrap();
        shrink(&mut object);
        let object = Arc::new(object);
        let (new, old) = (service(KINDS[1], &object), service(KINDS[2], &object));
        assert_eq!(once_each([new.clone(), old].into_iter()), [new]);
        let service = service(KINDS[0], &object);
        let named = ["tidewaiter-accounts", "tidewaiter-keys", "tidewaiter-minio"];
        assert_eq!(service.named, named.map(str::to_owned).into());
        assert_eq!(service.accounts, ["tidewaiter-accounts".to_owned()].into());
        assert_eq!((service.created, service.written), (1_767_225_600, 1_767_225_660));
        assert!(service.adopted && !service.settled);
        let uris = ["gs://kfserving-examples/models", "s3://mlflow/fraud"];
        assert_eq!(service.uris, uris.map(str::to_owned).into());
        assert_eq!(
            (&*service.namespace, &*service.name, &*service.uid),
            ("team-a", "fraud", "u")
        );
    }
}
