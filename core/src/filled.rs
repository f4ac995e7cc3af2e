//! What Tidewaiter filled into an object, on record in one of the object's annotations.
//!
//! The annotation `tidewaiter.dev/filled` holds a JSON object, path → value, keys sorted. Paths are canonical: `/spec/predictor/model/…` even
//! where the object says `/spec/predictor/sklearn/…`, because KServe rewrites the one into the other. `null` marks what the user removed.
//! The table in ARCHITECTURE.md ("Fills, not patches") says what an entry means.

pub mod metadata;
#[cfg(feature = "shapes")]
pub mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::Value;

use crate::document::{Document, Path};
use crate::service::FRAMEWORKS;

/// The annotation's name.
pub const ANNOTATION: &str = "tidewaiter.dev/filled";

/// Each entry of a record costs a look into the object, and whoever sends one could write it as long as they like.
const MAX_ENTRIES: usize = 1024;

/// `serde_json` reads 128 levels. A patch's value begins at the topmost place that is missing, with all that is filled in below, so path and value count together.
pub const MAX_DEPTH: usize = 64;

/// Where an InferenceService, or an LLMInferenceService, says what runs.
const COMPONENTS: [&str; 5] = ["predictor", "transformer", "explainer", "canary", "prefill"];

static ANNOTATION_PATH: LazyLock<Path> = LazyLock::new(|| path(["metadata", "annotations", ANNOTATION]));
static MANAGED_FIELDS: LazyLock<Path> = LazyLock::new(|| path(["metadata", "managedFields"]));

/// Where the record is.
pub fn annotation_path() -> &'static Path {
    &ANNOTATION_PATH
}

fn path<const N: usize>(segments: [&str; N]) -> Path {
    Path::new(segments).unwrap_or_else(|| unreachable!("paths in this module have segments"))
}

/// The label of a service that its user has Tidewaiter ignore, whatever its value.
pub const IGNORE: &str = "tidewaiter.dev/ignore";

/// Whether a policy may fill this in: below `/spec`, an annotation or a label; never the record itself, nor the label that would end all reviews. A record that
/// names that label is passed over too: the API server's own selector keeps an object with it from us, whoever put it there, so only its user can take it off.
pub fn fillable(path: &Path) -> bool {
    match path.segments() {
        [spec, _, ..] if spec == "spec" => true,
        [metadata, map, key] if metadata == "metadata" => {
            map == "labels" && key != IGNORE || map == "annotations" && key != ANNOTATION
        }
        _ => false,
    }
}

/// Whether a path and what is nested in the value there are within [`MAX_DEPTH`] levels.
pub fn shallow(path: &Path, value: &Value) -> bool {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    path.segments().len() + depth(value) <= MAX_DEPTH
}

/// The record of an object, by canonical path. Garbage is no record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(BTreeMap<Path, Option<Value>>);

impl Record {
    /// From the annotation's text. What can't be ours (no pointer, a path that nobody may fill, one too deep) is left out; so is all of a record that is longer
    /// than any that policies make.
    pub fn parse(text: &str) -> Self {
        let entries: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
        if entries.len() > MAX_ENTRIES {
            return Self::default();
        }
        let entry = |(pointer, value): (String, Value)| {
            let path = canonical(&Path::parse(&pointer)?);
            (fillable(&path) && shallow(&path, &value)).then_some((path, Some(value).filter(|value| !value.is_null())))
        };
        Self(entries.into_iter().filter_map(entry).collect())
    }

    /// From the object.
    pub fn of(object: &Document) -> Self {
        match object.value(annotation_path()) {
            Some(Value::String(text)) => Self::parse(&text),
            _ => Self::default(),
        }
    }

    /// A record of what is filled in and what is withheld. Paths must be canonical.
    pub fn new<'a>(filled: impl IntoIterator<Item = (&'a Path, &'a Value)>, withheld: &BTreeSet<Path>) -> Self {
        let withheld = withheld.iter().map(|path| (path.clone(), None));
        Self(
            withheld
                .chain(
                    filled
                        .into_iter()
                        .map(|(path, value)| (path.clone(), Some(value.clone()))),
                )
                .collect(),
        )
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The annotation's text. The same record gives the same text.
    pub fn to_text(&self) -> String {
        let entry = |(path, value): (&Path, &Option<Value>)| (path.to_string(), value.clone().unwrap_or_default());
        // By the pointer's text, not by segment, so that it is sorted for who reads it.
        let entries: BTreeMap<String, Value> = self.0.iter().map(entry).collect();
        Value::Object(entries.into_iter().collect()).to_string()
    }
}

/// The path as it is after KServe's defaulter: `/spec/predictor/sklearn/…` is `/spec/predictor/model/…`.
pub fn canonical(path: &Path) -> Path {
    match implementation(path, |name| FRAMEWORKS.contains(&name)) {
        Some(at) => renamed(path, at, "model"),
        None => path.clone(),
    }
}

/// The canonical path as this object has it: under the framework's name where the object still says that.
pub fn physical(path: &Path, object: &Document) -> Path {
    let Some(at) = implementation(path, |name| name == "model") else {
        return path.clone();
    };
    let predictor = &path.segments()[..at];
    let members = object.members(predictor);
    let is_there = |name: &str| members.iter().any(|(key, _)| key == name);
    if is_there("model") {
        return path.clone();
    }
    match FRAMEWORKS.iter().find(|name| is_there(name)) {
        Some(framework) => renamed(path, at, framework),
        None => path.clone(),
    }
}

/// The place of the segment after `predictor` (of the service or of a canary), where `is` says yes to it.
fn implementation(path: &Path, is: impl Fn(&str) -> bool) -> Option<usize> {
    let segments = path.segments();
    let at = match segments {
        [spec, predictor, _, ..] if spec == "spec" && predictor == "predictor" => 2,
        [spec, canary, _, predictor, _, ..] if spec == "spec" && canary == "canary" && predictor == "predictor" => 4,
        _ => return None,
    };
    is(&segments[at]).then_some(at)
}

fn is_model(name: &str) -> bool {
    name == "model" || FRAMEWORKS.contains(&name)
}

fn renamed(path: &Path, at: usize, name: &str) -> Path {
    let segments = path
        .segments()
        .iter()
        .enumerate()
        .map(|(index, segment)| if index == at { name } else { segment });
    Path::new(segments).unwrap_or_else(|| path.clone())
}

/// Whether an emptied object may go with the last thing in it. Components and the field that says how a predictor is implemented mean
/// something by being there.
pub fn prunable(parent: &Path) -> bool {
    let segments = parent.segments();
    let minimum = if segments[0] == "spec" { 3 } else { 2 };
    segments.len() >= minimum && implementation(parent, is_model).is_none_or(|at| at + 1 < segments.len())
}

/// Something that is ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// The value that was filled in.
    pub value: Value,
    /// The stored object says so too, so it went through a review. Else only whoever sent the object says so.
    pub vouched: bool,
}

/// An object without what is ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Stripped {
    /// The user's word: without our fills, the record and `managedFields`.
    pub object: Document,
    /// What was ours and nobody changed, by canonical path.
    pub filled: BTreeMap<Path, Filled>,
    /// What the user removed, by canonical path.
    pub withheld: BTreeSet<Path>,
}

/// How the stored object stands to an entry of its own record.
enum Standing {
    Ours(Value),
    Removed,
    Users,
}

/// Takes what is ours out of an object, by its own record and that of the stored object.
pub fn strip(mut object: Document, old: Option<&Document>) -> Stripped {
    let record = Record::of(&object);
    let old_record = old.map(Record::of).unwrap_or_default();
    object.remove(&MANAGED_FIELDS);
    object.remove_pruning(annotation_path(), prunable);

    let mut filled = BTreeMap::new();
    let mut withheld = BTreeSet::new();
    let mut ours = Vec::new();
    let paths: BTreeSet<&Path> = record.0.keys().chain(old_record.0.keys()).collect();
    for path in paths {
        let place = physical(path, &object);
        if component_gone(&place, &object) {
            continue;
        }
        let before = old
            .zip(old_record.0.get(path))
            .map(|(old, entry)| standing(path, entry.as_ref(), old));
        let here = object.value(&place);
        let claimed = match (record.0.get(path), &before) {
            // The stored object proves it, whatever else the new record says.
            (_, Some(Standing::Ours(value))) if here.as_ref() == Some(value) => Some(value),
            // What a user took out is never filled in again, so what stands there is theirs.
            (_, Some(Standing::Removed)) => None,
            (Some(entry), _) => entry.as_ref(),
            (None, Some(Standing::Ours(value))) => Some(value),
            (None, Some(Standing::Users) | None) => continue,
        };
        match (claimed, here) {
            (Some(value), Some(here)) if *value == here => ours.push(place),
            // On the object's own record, a place that is empty was emptied by the user. A replace empties everything: no word of the user.
            (Some(_), None) if !record.0.contains_key(path) => {}
            (_, None) => {
                withheld.insert(path.clone());
                continue;
            }
            (_, Some(_)) => continue,
        }
        // Where this request has filled in something else already and comes again, what stands is still what was stored.
        let standing = match (&before, claimed) {
            (Some(Standing::Ours(value)), _) => Some((value, true)),
            (_, Some(value)) => Some((value, false)),
            (_, None) => None,
        };
        if let Some((value, vouched)) = standing {
            let value = value.clone();
            filled.insert(path.clone(), Filled { value, vouched });
        }
    }
    for place in ours {
        object.remove_pruning(&place, prunable);
    }
    // Where the whole model was ours, it is gone only now: the next review would not find what is withheld inside of it.
    withheld.retain(|path| !component_gone(&physical(path, &object), &object));
    Stripped {
        object,
        filled,
        withheld,
    }
}

/// The object as stored, without `managedFields`: what policies see of it.
pub fn without_managed_fields(object: &Document) -> Document {
    let mut object = object.clone();
    object.remove(&MANAGED_FIELDS);
    object
}

fn standing(path: &Path, entry: Option<&Value>, object: &Document) -> Standing {
    match (entry, object.value(&physical(path, object))) {
        (Some(value), Some(here)) if *value == here => Standing::Ours(here),
        (_, None) => Standing::Removed,
        (_, Some(_)) => Standing::Users,
    }
}

/// Whether the component, or the model in a predictor, that the path leads into is gone as a whole. That says nothing about one field.
fn component_gone(place: &Path, object: &Document) -> bool {
    missing_component(place, object).is_some()
}

/// The component, or the model in a predictor, that the path leads into and the object doesn't have. It is the user who decides which there are: a fill into one
/// that isn't there would make it.
pub fn missing_component(place: &Path, object: &Document) -> Option<Path> {
    let segments = place.segments();
    let component = match implementation(place, is_model) {
        Some(at) if at + 1 < segments.len() => &segments[..=at],
        // Of a canary, the element of the list has to be there, and its predictor.
        _ if segments.len() > 4 && segments[0] == "spec" && segments[1] == "canary" => &segments[..4],
        _ if segments[0] == "spec" && segments.len() > 2 && COMPONENTS.contains(&segments[1].as_str()) => {
            &segments[..2]
        }
        _ => return None,
    };
    object
        .get_in(component)
        .is_none()
        .then(|| Path::new(component.iter().cloned()))
        .flatten()
}

#[cfg(test)]
#[path = "filled_tests.rs"]
mod tests;
