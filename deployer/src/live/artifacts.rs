//! Models that deploys of a service put into a store, and taking them out again.
//!
//! Two have to agree that a model is ours: the service's history, which names its URI, and the store, where an upload leaves a manifest beside the folder when
//! all of it is there (`ROOT/NAME/DIGEST` and `ROOT/NAME/manifests/DIGEST.json`). What any other service is served from, or was, stays.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tidewaiter_core::uri::StorageUri;

use super::{Deployed, history};
use crate::store::{Access, Bucket, Error};

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

/// The models that the service's history names as an upload names them, and that none of `others` is served from, or was. `others` are the services of all
/// namespaces; the service itself may be among them.
///
/// `more` are places that other objects are served from, such as `TrainedModel`s.
pub fn uploaded(service: &Deployed, others: &[Deployed], more: &BTreeSet<String>) -> Vec<String> {
    let of = |service: &Deployed| {
        let before = history(service).into_iter().filter_map(|entry| entry.storage_uri);
        let mut used: BTreeSet<String> = before.chain(service.storage_uri()).collect();
        // Canaries, transformers, adapters: whatever names a place, wherever it stands.
        places(&service.object().data["spec"], &mut used);
        used
    };
    let is_other = |other: &&Deployed| {
        // One of the same name may be there already, made anew.
        let is_same = other.name() == service.name()
            && other.namespace() == service.namespace()
            && other.object().metadata.uid == service.object().metadata.uid;
        !is_same
    };
    let mut used: BTreeSet<String> = others.iter().filter(is_other).flat_map(of).collect();
    used.extend(more.iter().cloned());
    let own = history(service).into_iter().filter_map(|entry| entry.storage_uri);
    let own: BTreeSet<String> = own.filter(|uri| parts(uri).is_some()).collect();
    let free = |uri: &String| !used.iter().any(|used| overlap(uri, used));
    own.into_iter().filter(free).collect()
}

/// Every text in an object that names a place in a store.
pub fn places(value: &Value, found: &mut BTreeSet<String>) {
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
    use serde_json::json;

    use super::super::fixture::deployed;
    use super::*;
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
        let left = |other: Deployed| uploaded(&service, &[service.clone(), other], &BTreeSet::new());
        assert_eq!(
            uploaded(&service, std::slice::from_ref(&service), &BTreeSet::new()),
            [a.clone(), b.clone()]
        );
        assert_eq!(left(served("b", &[], &format!("{a}/"))), std::slice::from_ref(&b));
        assert_eq!(
            left(served("b", &[], &format!("{b}/model.json"))),
            std::slice::from_ref(&a)
        );
        assert_eq!(left(served("b", &[&b], "s3://models/other")), std::slice::from_ref(&a));
        assert_eq!(left(served("b", &[], "s3://models/fraud")), Vec::<String>::new());
        // A canary is served from there, and a model on another's server.
        let mut canary = served("d", &[], "s3://models/other").object().clone();
        canary.data["spec"]["canary"] = json!([{"name": "next", "model": {"storageUri": a}}]);
        assert_eq!(left(Deployed::from(canary)), std::slice::from_ref(&b));
        let trained = BTreeSet::from([b.clone()]);
        assert_eq!(uploaded(&service, &[], &trained), std::slice::from_ref(&a));
        // Served from there is not deployed from here.
        assert_eq!(
            uploaded(&served("c", &[], &a), &[], &BTreeSet::new()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn only_a_digests_folder_is_an_uploads() {
        assert!(parts(&uri("0")).is_some());
        for other in ["s3://models", "s3://models/fraud/v1", "s3://models/fraud/ABCDEF"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
