//! The JSON Patch between two texts of an object that differ at known places only.

use std::collections::BTreeSet;

use json_patch::{AddOperation, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use serde_json::Value;
use tidewaiter_core::document::{Path, Place, place};

/// Turns `came` into `becomes`, which differs from it at, above or below these paths at most.
pub(crate) fn between<'p>(
    came: &str,
    becomes: &str,
    touched: impl IntoIterator<Item = &'p Path>,
) -> Vec<PatchOperation> {
    // By place, so that a parent that two paths need is made once, with both in it.
    let places: BTreeSet<Path> = touched
        .into_iter()
        .filter_map(|path| differing(came, becomes, path))
        .collect();
    places
        .iter()
        .map(|path| {
            let pointer = PointerBuf::from_tokens(path.segments());
            match value(becomes, path) {
                // On a member that is there, RFC 6902's `add` replaces; also a `null`, which a `replace` would do as well.
                Some(value) => PatchOperation::Add(AddOperation { path: pointer, value }),
                None => PatchOperation::Remove(RemoveOperation { path: pointer }),
            }
        })
        .collect()
}

/// The topmost place on the way to a path that is to be made, changed or taken out. None where both are equal there.
fn differing(came: &str, becomes: &str, path: &Path) -> Option<Path> {
    let segments = path.segments();
    let depth = |text: &str| match place(text, segments) {
        Place::Here { .. } => segments.len(),
        Place::Missing { depth, .. } => depth,
        // Nothing was filled in there, on either side.
        Place::Blocked => usize::MAX,
    };
    let (before, after) = (depth(came), depth(becomes));
    if before == usize::MAX || after == usize::MAX {
        return None;
    }
    if before == after {
        return (before == segments.len() && value(came, path) != value(becomes, path)).then(|| path.clone());
    }
    Path::new(&segments[..=before.min(after)])
}

fn value(text: &str, path: &Path) -> Option<Value> {
    match place(text, path.segments()) {
        Place::Here { value, .. } => serde_json::from_str(&text[value]).ok(),
        _ => None,
    }
}
