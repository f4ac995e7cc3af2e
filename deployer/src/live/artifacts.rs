//! Models that deploys of a service put into a store, and taking them out again.
//!
//! Two have to agree that a model is ours: the service's history, which names its URI, and the store, where an upload leaves a manifest beside the folder when
//! all of it is there (`ROOT/NAME/DIGEST` and `ROOT/NAME/manifests/DIGEST.json`). What any other object of the cluster is served from, or was, stays.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::DynamicObject;
use serde_json::Value;
use tidewaiter_core::service::Service;
use tidewaiter_core::uri::StorageUri;

use super::{Deployed, history};
use crate::cluster::{self, Cluster, Kind, kinds};
use crate::store::{Access, Bucket, Error};
use crate::submit::entries;

/// The kinds beside the InferenceService that name a model: those of KServe 0.15.2 to 0.20.0 (`pkg/apis/serving`). Graphs name services.
static BESIDE: [&Kind; 5] = [
    &kinds::TRAINED_MODEL,
    &kinds::LLM_INFERENCE_SERVICE,
    &kinds::LLM_INFERENCE_SERVICE_CONFIG,
    &kinds::LOCAL_MODEL_CACHE,
    &kinds::LOCAL_MODEL_NAMESPACE_CACHE,
];
/// Objects that are deleted at once.
const AT_ONCE: usize = 16;
/// Characters of an uploaded folder's name.
const DIGEST: usize = 32;

/// What became of a model in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// So many files of so many bytes are gone.
    Gone {
        /// Objects.
        files: usize,
        /// All together.
        bytes: u64,
    },
    /// No upload of ours left its manifest there; nothing was done.
    NotOurs,
}

/// Every object of a cluster that names a model. All of them have to be known: one that can't be seen may be served from the model that is to go.
///
/// # Errors
/// Where a kind may not be listed. One that the cluster doesn't know has no objects.
pub async fn naming(cluster: &Cluster) -> Result<Vec<DynamicObject>, cluster::Error> {
    let mut found = cluster.list(&kinds::INFERENCE_SERVICE, None).await?;
    for kind in BESIDE {
        found.extend(cluster.list_if_known(kind, None).await?);
    }
    Ok(found)
}

/// The models that the service's history names as an upload names them, and that none of `others` is served from, or was. `others` are the objects of all
/// namespaces, of all kinds that name a model; the service itself may be among them.
pub fn uploaded(service: &Deployed, others: &[DynamicObject]) -> Vec<String> {
    let own = &service.object().metadata;
    let is_other = |other: &&DynamicObject| {
        // One of the same name may be there already, made anew.
        let other = &other.metadata;
        !(other.name == own.name && other.namespace == own.namespace && other.uid == own.uid)
    };
    let used: BTreeSet<String> = others.iter().filter(is_other).flat_map(used).collect();
    let own = history(service)
        .into_iter()
        .filter_map(|deployment| deployment.entry.storage_uri);
    let own: BTreeSet<String> = own.filter(|uri| parts(uri).is_some()).collect();
    let free = |uri: &String| !used.iter().any(|used| is_within(uri, used));
    own.into_iter().filter(free).collect()
}

/// What an object is served from, or was: places in stores, and paths below one that a storage key opens.
fn used(object: &DynamicObject) -> BTreeSet<String> {
    let before = entries(object).into_iter().filter_map(|entry| entry.storage_uri);
    let mut used: BTreeSet<String> = before.collect();
    // Canaries, transformers, adapters, a server's arguments: whatever names a place, wherever it stands and whichever release of KServe has it.
    places(&object.data["spec"], &mut used);
    // A path alone is known only by where it stands. What can't be read so is no InferenceService, or none for KServe either.
    let json = serde_json::to_string(object).unwrap_or_default();
    if let Ok(service) = Service::parse(kinds::INFERENCE_SERVICE.kind, &json) {
        let paths = service
            .components()
            .iter()
            .filter_map(|component| component.storage()?.path.as_deref());
        used.extend(paths.map(str::to_owned));
    }
    used
}

/// Every text in an object that names a place in a store.
fn places(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.contains("://") => {
            found.insert(text.clone());
        }
        Value::Array(list) => list.iter().for_each(|value| places(value, found)),
        Value::Object(members) => members.values().for_each(|value| places(value, found)),
        _ => {}
    }
}

/// The folder above, and the name that is its content's digest.
fn parts(uri: &str) -> Option<(&str, &str)> {
    let (base, digest) = uri.trim_end_matches('/').rsplit_once('/')?;
    let is_digest = digest.len() == DIGEST && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then_some((base, digest))
}

/// Whether a model lies where an object is served from, above that or below. An argument has the place somewhere in it; a path is one of any bucket, since only
/// the key's Secret says of which.
fn is_within(uri: &str, used: &str) -> bool {
    let uri = uri.trim_end_matches('/');
    if used.contains("://") {
        return used.contains(uri) || overlap(uri, used);
    }
    let key = uri.parse::<StorageUri>();
    key.is_ok_and(|uri| overlap(uri.key(), used.trim_start_matches('/')))
}

/// Whether one lies within the other.
fn overlap(one: &str, other: &str) -> bool {
    let folder = |uri: &str| format!("{}/", uri.trim_end_matches('/'));
    let (one, other) = (folder(one), folder(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// Takes a model out of its store: the manifest first, so that nobody takes for whole what isn't any more.
///
/// # Errors
/// Whatever the store says no with.
pub async fn remove(uri: &str, access: &Access) -> Result<Removed, Error> {
    let (Some(_), Ok(parsed)) = (parts(uri), uri.parse::<StorageUri>()) else {
        return Ok(Removed::NotOurs);
    };
    let (bucket, key) = Bucket::open(&parsed, access)?;
    let key = key.trim_end_matches('/');
    let Some((base, digest)) = key.rsplit_once('/') else {
        return Ok(Removed::NotOurs);
    };
    let manifest = format!("{base}/manifests/{digest}.json");
    if bucket.head(&manifest).await?.is_none() {
        return Ok(Removed::NotOurs);
    }
    bucket.delete(&manifest).await?;
    let objects = bucket.list(key).await?;
    let bytes = objects.iter().map(|object| object.bytes).sum();
    let files = objects.len();
    let deletions = objects.into_iter().map(|object| {
        let bucket = bucket.clone();
        async move { bucket.delete(&object.key).await }
    });
    futures::stream::iter(deletions)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(Removed::Gone { files, bytes })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::fixture::deployed;
    use super::*;
    use crate::reach::tests::{Answers, cluster};
    use crate::submit::HISTORY;

    fn uri(letter: &str) -> String {
        format!("s3://models/fraud/{}", letter.repeat(DIGEST))
    }

    fn served(name: &str, history: &[&str], now: &str) -> Deployed {
        let entries: Vec<Value> = history
            .iter()
            .map(|uri| json!({"at": "t", "by": "me", "from": "./model", "storageUri": uri}))
            .collect();
        deployed(json!({
            "metadata": {"name": name, "annotations": {HISTORY: json!(entries).to_string()}},
            "spec": {"predictor": {"model": {"storageUri": now}}},
        }))
    }

    #[test]
    fn what_others_are_served_from_is_not_ours_to_remove() {
        let (a, b) = (uri("a"), uri("b"));
        let service = served("a", &[&a, &b, &a, "s3://models/by-hand"], &a);
        let own = service.object().clone();
        let left = |other: Deployed| uploaded(&service, &[own.clone(), other.object().clone()]);
        assert_eq!(uploaded(&service, std::slice::from_ref(&own)), [a.clone(), b.clone()]);
        assert_eq!(left(served("b", &[], &format!("{a}/"))), std::slice::from_ref(&b));
        assert_eq!(
            left(served("b", &[], &format!("{b}/model.json"))),
            std::slice::from_ref(&a)
        );
        assert_eq!(left(served("b", &[&b], "s3://models/other")), std::slice::from_ref(&a));
        assert_eq!(left(served("b", &[], "s3://models/fraud")), Vec::<String>::new());
        // Served from there is not deployed from here.
        assert_eq!(uploaded(&served("c", &[], &a), &[]), Vec::<String>::new());
    }

    /// One predictor or canary after the other, each served from the model `a` in a way of its own.
    #[test]
    fn a_model_is_in_use_wherever_its_place_is_said() {
        let (a, b) = (uri("a"), uri("b"));
        let service = served("a", &[&a, &b], &a);
        let key = a.strip_prefix("s3://models/").unwrap();
        for spec in [
            json!({"canary": [{"name": "next", "predictor": {"model": {"storageUri": a}}}]}),
            json!({"predictor": {"sklearn": {"storageUri": a}}}),
            json!({"predictor": {"storageUris": [{"uri": a}]}}),
            json!({"predictor": {"model": {"storage": {"key": "minio", "path": key}}}}),
            json!({"canary": [{"name": "next", "predictor": {"model": {"storage": {"path": format!("/{key}/data")}}}}]}),
            json!({"predictor": {"containers": [{"args": [format!("--model={a}")]}]}}),
            json!({"predictor": {}, "transformer": {"containers": [{"env": [{"name": "STORAGE_URI", "value": a}]}]}}),
        ] {
            let other = deployed(json!({"metadata": {"name": "b"}, "spec": spec}));
            assert_eq!(
                uploaded(&service, std::slice::from_ref(other.object())),
                std::slice::from_ref(&b),
                "{spec}"
            );
        }
        let elsewhere = json!({"predictor": {"model": {"storage": {"key": "minio", "path": "churn"}}}});
        let elsewhere = deployed(json!({"metadata": {"name": "b"}, "spec": elsewhere}));
        assert_eq!(uploaded(&service, std::slice::from_ref(elsewhere.object())), [a, b]);
    }

    const SERVICES: &str = "/apis/serving.kserve.io/v1beta1/inferenceservices";

    #[tokio::test]
    async fn every_kind_that_names_a_model_is_looked_at_and_none_need_be_there() {
        let (a, b) = (uri("a"), uri("b"));
        let service = served("a", &[&a, &b], &a);
        for (path, spec) in [
            (
                "trainedmodels",
                json!({"inferenceService": "many", "model": {"storageUri": a}}),
            ),
            ("llminferenceservices", json!({"model": {"uri": a}})),
            (
                "llminferenceservices",
                json!({"model": {"uri": "hf://x/y", "lora": {"adapters": [{"name": "x", "uri": a}]}}}),
            ),
            ("llminferenceserviceconfigs", json!({"model": {"uri": a}})),
            ("localmodelcaches", json!({"sourceModelUri": "s3://models/fraud"})),
            ("localmodelnamespacecaches", json!({"sourceModelUri": a})),
        ] {
            let other = json!({"items": [{"metadata": {"name": "a", "uid": "other"}, "spec": spec}]});
            let paths = BTreeMap::from([
                (SERVICES.to_owned(), json!({"items": [service.object()]})),
                (format!("/apis/serving.kserve.io/v1alpha1/{path}"), other),
            ]);
            let all = naming(&cluster(Answers::from(paths))).await.unwrap();
            assert!(!uploaded(&service, &all).contains(&a), "{path} {spec}");
        }
        let alone = BTreeMap::from([(SERVICES.to_owned(), json!({"items": [service.object()]}))]);
        let all = naming(&cluster(Answers::from(alone))).await.unwrap();
        assert_eq!(uploaded(&service, &all), [a, b]);
    }

    #[tokio::test]
    async fn a_kind_that_may_not_be_listed_is_told() {
        for kind in BESIDE {
            let no = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "User \"eve\" cannot list them"});
            let paths = BTreeMap::from([
                (SERVICES.to_owned(), json!({"items": []})),
                (format!("/apis/serving.kserve.io/v1alpha1/{}", kind.plural), no),
            ]);
            let error = naming(&cluster(Answers::from(paths))).await.unwrap_err();
            assert!(
                error.next().contains(&format!("the verb list on {}", kind.in_roles())),
                "{error}; {}",
                error.next()
            );
        }
    }

    #[test]
    fn only_a_digests_folder_is_an_uploads() {
        assert!(parts(&uri("0")).is_some());
        for other in ["s3://models", "s3://models/fraud/v1", "s3://models/fraud/ABCDEF"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
