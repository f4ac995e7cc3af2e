use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use tidewaiter_core::document::Document;
use tidewaiter_core::filled;
use tidewaiter_core::service::is_stopped;

use crate::outcome::Review;

/// Why an object is admitted without a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouched {
    /// It has a `deletionTimestamp`.
    Leaving,
    /// It has the label `tidewaiter.dev/ignore`.
    Ignored,
    /// Its spec and annotations are as they were.
    Unchanged,
    /// It is stopped, and nothing else of it changed. What it is started with is judged then.
    Stopping,
    /// It has no record of ours, and only annotations of others changed: a service that ran before us isn't adopted by that.
    NotAdopted,
}

/// Annotations that say something to KServe or to us, beside the one that KServe's configuration may name.
const SPEAKING: [&str; 2] = ["serving.kserve.io/", "tidewaiter.dev/"];

/// What may change as a service is stopped: the annotation that stops it, and the one in which `kubectl apply` keeps what it was given. No other, since what
/// is stored would be believed when the service is started. The chart's matchCondition `not-stopping` says the same to the API server.
const STOPPING: [&str; 2] = [
    "serving.kserve.io/stop",
    "kubectl.kubernetes.io/last-applied-configuration",
];

type Map<'a> = BTreeMap<Cow<'a, str>, Value>;

/// Whether an object needs no review at all: the law "never in the way of leaving or standing still". Reads values only where their texts differ.
/// Ask before [`review`](crate::review()), which doesn't. `secret_annotation` is the name by which KServe is told of a Secret.
pub fn untouched(review: &Review<'_>, secret_annotation: Option<&str>) -> Option<Untouched> {
    let new = review.object;
    if new.get_in(&["metadata", "deletionTimestamp"]).is_some() {
        return Some(Untouched::Leaving);
    }
    if ignored(new) {
        return Some(Untouched::Ignored);
    }
    let old = review.old_object?;
    if !same(new.get_in(&["spec"]), old.get_in(&["spec"])) {
        return None;
    }
    let annotations = ["metadata", "annotations"];
    let (new, old) = (new.get_in(&annotations), old.get_in(&annotations));
    if same(new, old) {
        return Some(Untouched::Unchanged);
    }
    let (new, old) = (map(new), map(old));
    if new == old {
        return Some(Untouched::Unchanged);
    }
    if is_stopped(review.object) && beside_the_stop(&new).eq(beside_the_stop(&old)) {
        return Some(Untouched::Stopping);
    }
    let unknown_to_us = !new.contains_key(filled::ANNOTATION) && !old.contains_key(filled::ANNOTATION);
    let speaking = |annotations| speaking(annotations, secret_annotation);
    (unknown_to_us && speaking(&new).eq(speaking(&old))).then_some(Untouched::NotAdopted)
}

/// Whether it has the label by which an object passes untouched, with whatever value: the API server's own selector asks no more.
pub(crate) fn ignored(object: &Document) -> bool {
    object.get_in(&["metadata", "labels", filled::IGNORE]).is_some()
}

fn same(a: Option<&str>, b: Option<&str>) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    match (a, b) {
        (Some(a), Some(b)) => a == b || value(a) == value(b),
        (None, None) => true,
        _ => false,
    }
}

fn map(text: Option<&str>) -> Map<'_> {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn beside_the_stop<'m>(annotations: &'m Map<'_>) -> impl Iterator<Item = (&'m Cow<'m, str>, &'m Value)> {
    annotations.iter().filter(|(name, _)| !STOPPING.contains(&&***name))
}

fn speaking<'m>(annotations: &'m Map<'_>, secret: Option<&str>) -> impl Iterator<Item = (&'m Cow<'m, str>, &'m Value)> {
    annotations
        .iter()
        .filter(move |(name, _)| secret == Some(&***name) || SPEAKING.iter().any(|prefix| name.starts_with(prefix)))
}

#[cfg(test)]
#[path = "untouched_tests.rs"]
mod tests;
