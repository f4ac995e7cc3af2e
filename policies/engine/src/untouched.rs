use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tidewaiter_core::filled;

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
    /// It has no record of ours, and only annotations of others changed: a service that ran before us isn't adopted by that.
    NotAdopted,
}

const IGNORE: &str = "tidewaiter.dev/ignore";
/// Annotations that say something to KServe or to us.
const SPEAKING: [&str; 2] = ["serving.kserve.io/", "tidewaiter.dev/"];

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    deletion_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

type Map<'a> = BTreeMap<Cow<'a, str>, Value>;

/// Whether an object needs no review at all: the law "never in the way of leaving or standing still". Reads the text once, and its values only
/// where the texts differ. Ask before [`review`](crate::review()), which doesn't.
pub fn untouched(review: &Review<'_>) -> Option<Untouched> {
    let new: Envelope<'_> = serde_json::from_str(review.object).ok()?;
    if new.metadata.deletion_timestamp.is_some() {
        return Some(Untouched::Leaving);
    }
    if new
        .metadata
        .labels
        .is_some_and(|labels| labels.get().contains(IGNORE) && map(Some(labels)).contains_key(IGNORE))
    {
        return Some(Untouched::Ignored);
    }
    let old: Envelope<'_> = serde_json::from_str(review.old_object?).ok()?;
    if !same(new.spec, old.spec) {
        return None;
    }
    let (new, old) = (new.metadata.annotations, old.metadata.annotations);
    if same(new, old) {
        return Some(Untouched::Unchanged);
    }
    let (new, old) = (map(new), map(old));
    if new == old {
        return Some(Untouched::Unchanged);
    }
    let unknown_to_us = !new.contains_key(filled::ANNOTATION) && !old.contains_key(filled::ANNOTATION);
    (unknown_to_us && speaking(&new).eq(speaking(&old))).then_some(Untouched::NotAdopted)
}

fn same(a: Option<&RawValue>, b: Option<&RawValue>) -> bool {
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok();
    match (a, b) {
        (Some(a), Some(b)) => a.get() == b.get() || value(a) == value(b),
        (None, None) => true,
        _ => false,
    }
}

fn map(raw: Option<&RawValue>) -> Map<'_> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

fn speaking<'m>(annotations: &'m Map<'_>) -> impl Iterator<Item = (&'m Cow<'m, str>, &'m Value)> {
    annotations
        .iter()
        .filter(|(name, _)| SPEAKING.iter().any(|prefix| name.starts_with(prefix)))
}

#[cfg(test)]
#[path = "untouched_tests.rs"]
mod tests;
