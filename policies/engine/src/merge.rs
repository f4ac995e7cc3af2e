//! Fills of several policies, merged with what the user wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tidewaiter_core::document::{Document, Path, Place};
use tidewaiter_core::filled::{self, Filled, Record, metadata, shape};
use tidewaiter_core::lines;

use crate::bindings::tidewaiter::policy::types::{Denial, Fill};
use crate::failure::Failure;

/// A fill whose words were checked. Its path is canonical.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) path: Path,
    pub(crate) value: Value,
    pub(crate) reason: String,
}

/// What a policy fills in, and which policy that is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) policy: Arc<str>,
    pub(crate) value: Value,
    pub(crate) reason: String,
}

/// What became of a fill.
#[derive(Debug)]
pub(crate) enum Merged {
    /// It stands in the object.
    Taken,
    /// The user removed it once, or it stands there already: by the user, or by another policy in the same words.
    Idle,
    /// It can't be: the user has something else there, or no such component. A line for them.
    Dropped(String),
    /// Another policy wants something else there.
    Contradiction(Denial),
}

/// The object as it becomes: the user's word and the fills so far.
pub(crate) struct Merge {
    pub(crate) object: Document,
    pub(crate) fills: BTreeMap<Path, Accepted>,
    /// What was ours when the review began.
    pub(crate) standing: BTreeMap<Path, Filled>,
    pub(crate) withheld: BTreeSet<Path>,
}

/// Checks the words of a policy's fills, and that they agree with each other.
pub(crate) fn parse(fills: Vec<Fill>) -> Result<Vec<Wanted>, Failure> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(fills.len());
    for fill in fills {
        let bad = |why: &str| Failure::Verdict(format!("the fill of {:?} {why}", lines::line(&fill.path)));
        let path = Path::parse(&fill.path).ok_or_else(|| bad("names no JSON Pointer"))?;
        if !filled::fillable(&path) {
            return Err(bad(
                "is out of bounds: only what is below /spec, annotations and labels can be filled, and neither the record of fills nor the label `tidewaiter.dev/ignore`",
            ));
        }
        let value: Value = serde_json::from_str(&fill.value).map_err(|_| bad("has a value that is no JSON"))?;
        if value.is_null() {
            return Err(bad("has the value null, which the API server drops"));
        }
        if let [metadata, map, key] = path.segments()
            && metadata == "metadata"
        {
            let taken = match value.as_str() {
                None => Err("annotations and labels are strings"),
                Some(text) if map == "labels" => metadata::label(key, text),
                Some(_) => metadata::annotation(key),
            };
            taken.map_err(|why| bad(&refused(&value, why)))?;
        }
        if !filled::shallow(&path, &value) {
            return Err(bad(&format!(
                "leads more than {} levels deep, its value included",
                filled::MAX_DEPTH
            )));
        }
        let path = filled::canonical(&path);
        if wanted
            .iter()
            .any(|other| other.path.contains(&path) || path.contains(&other.path))
        {
            return Err(bad("is at, above or below another one of the same verdict"));
        }
        wanted.push(Wanted {
            path,
            value,
            reason: fill.reason,
        });
    }
    Ok(wanted)
}

fn refused(value: &Value, why: &str) -> String {
    format!(
        "has the value {}, which the API server refuses: {why}",
        lines::value(value)
    )
}

impl Merge {
    /// Whether the API server takes the object with a policy's fills in it, as far as that is known of its kind: else it would refuse the user's request, in words
    /// that name no policy. Of a fill that isn't going to stand there nothing is asked.
    pub(crate) fn check(&self, policy: &Arc<str>, kind: &str, fills: &[Wanted]) -> Result<(), Failure> {
        let is_taken = |fill: &&Wanted| matches!(self.judge(policy, fill), Merged::Taken);
        let taken: Vec<&Wanted> = fills.iter().filter(is_taken).collect();
        for fill in &taken {
            let place = filled::physical(&fill.path, &self.object);
            shape::check(kind, &place, &fill.value, &self.object).map_err(|why| self.bad(fill, &why))?;
        }
        match taken.iter().max_by_key(|fill| fill.value.to_string().len()) {
            Some(largest) => self.room(&taken, largest),
            None => Ok(()),
        }
    }

    fn bad(&self, fill: &Wanted, why: &str) -> Failure {
        let place = lines::line(&filled::physical(&fill.path, &self.object).to_string());
        Failure::Verdict(format!("the fill of {place:?} {}", refused(&fill.value, why)))
    }

    /// Whether the annotations have room for these fills: the record, which is one of them, holds each once more. Where there is none, whoever takes more of it
    /// can give it: the user, whose own annotations fill it, or the policy. Where the user's own are too many by themselves, that is between them and the API
    /// server.
    fn room(&self, taken: &[&Wanted], largest: &Wanted) -> Result<(), Failure> {
        let before = self.fills.iter().map(|(path, accepted)| (path, &accepted.value));
        let now = taken.iter().map(|fill| (&fill.path, &fill.value));
        let record = Record::new(before.clone().chain(now.clone()), &self.withheld).to_text();
        let record = filled::ANNOTATION.len() + record.len();
        // All that is filled in as an annotation stands in the record too, with more around it.
        if self.object.as_str().len() + 2 * record <= metadata::MAX_ANNOTATIONS {
            return Ok(());
        }
        // What others filled in stands in the object.
        let others = annotations(before);
        let own = metadata::annotations_size(&self.object).saturating_sub(others);
        let ours = record + others + annotations(now);
        let size = own + ours;
        if own > metadata::MAX_ANNOTATIONS || size <= metadata::MAX_ANNOTATIONS {
            return Ok(());
        }
        if own > ours {
            return Err(Failure::Annotations { own, size });
        }
        Err(self.bad(
            largest,
            &format!(
                "with it and the record of what is filled in, the annotations have {size} bytes, and may have {}",
                metadata::MAX_ANNOTATIONS
            ),
        ))
    }

    pub(crate) fn fill(&mut self, policy: &Arc<str>, wanted: &Wanted) -> Merged {
        let merged = self.judge(policy, wanted);
        if let Merged::Taken = merged {
            let place = filled::physical(&wanted.path, &self.object);
            if self.object.set(&place, &wanted.value).is_err() {
                return stays(policy, &place, &wanted.value);
            }
            let accepted = Accepted {
                policy: Arc::clone(policy),
                value: wanted.value.clone(),
                reason: wanted.reason.clone(),
            };
            self.fills.insert(wanted.path.clone(), accepted);
        }
        merged
    }

    /// What would become of a fill.
    pub(crate) fn judge(&self, policy: &Arc<str>, wanted: &Wanted) -> Merged {
        let Wanted { path, value, .. } = wanted;
        if self.withheld.iter().any(|withheld| withheld.contains(path)) {
            return Merged::Idle;
        }
        for (other, accepted) in &self.fills {
            let agreed = if other.contains(path) {
                at(&accepted.value, &path.segments()[other.segments().len()..]) == Some(value)
            } else if path.contains(other) {
                // The outer one would have to be on record, with the inner one in it: two entries for one place.
                false
            } else {
                continue;
            };
            return if agreed {
                Merged::Idle
            } else {
                Merged::Contradiction(contradiction(policy, wanted, other, accepted))
            };
        }
        let place = filled::physical(path, &self.object);
        if let Some(component) = filled::missing_component(&place, &self.object) {
            return Merged::Dropped(format!(
                "tidewaiter: policy {policy} sets {}, and there is no {}: left out",
                lines::place(&place),
                lines::place(&component)
            ));
        }
        match self.object.place(&place) {
            Place::Missing { .. } => Merged::Taken,
            Place::Here { .. } if self.object.value(&place).as_ref() == Some(value) => Merged::Idle,
            Place::Here { .. } | Place::Blocked => stays(policy, &place, value),
        }
    }

    /// What stood when the review began and no policy stands by any more: kept where `keep` says so, else out of the object.
    pub(crate) fn leftovers(&mut self, keep: impl Fn(&Path, &Filled) -> bool) -> BTreeMap<Path, Value> {
        let mut kept = BTreeMap::new();
        for (path, standing) in &self.standing {
            let place = filled::physical(path, &self.object);
            let related = self.fills.keys().any(|fill| fill.contains(path) || path.contains(fill));
            if !related
                && keep(path, standing)
                && self.object.get(&place).is_none()
                && self.object.set(&place, &standing.value).is_ok()
            {
                kept.insert(path.clone(), standing.value.clone());
            }
        }
        kept
    }
}

/// Bytes of those fills that are annotations.
fn annotations<'f>(fills: impl Iterator<Item = (&'f Path, &'f Value)>) -> usize {
    let sizes = fills.filter_map(|(path, value)| match path.segments() {
        [_, map, key] if map == "annotations" => Some(key.len() + value.as_str()?.len()),
        _ => None,
    });
    sizes.sum()
}

fn stays(policy: &Arc<str>, place: &Path, value: &Value) -> Merged {
    let (at, value) = (lines::place(place), lines::value(value));
    Merged::Dropped(format!(
        "tidewaiter: {at} stays as you wrote it; policy {policy} would have set {value}"
    ))
}

fn at<'v>(value: &'v Value, segments: &[String]) -> Option<&'v Value> {
    segments
        .iter()
        .try_fold(value, |value, segment| value.as_object()?.get(segment))
}

fn contradiction(policy: &Arc<str>, wanted: &Wanted, other: &Path, accepted: &Accepted) -> Denial {
    let (first, second) = (&accepted.policy, policy);
    let message = format!(
        "the policies {first} and {second} contradict each other: {first} sets {} to {}, {second} sets {} to {}; \
         an admin has to change the settings of one of them",
        lines::place(other),
        lines::value(&accepted.value),
        lines::place(&wanted.path),
        lines::value(&wanted.value),
    );
    Denial {
        code: "contradiction".to_owned(),
        message,
        path: Some(wanted.path.to_string()),
    }
}
