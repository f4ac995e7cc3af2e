//! The JSON Patch between two states of an object that differ at known places only.

use std::collections::BTreeSet;

use json_patch::{AddOperation, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use tidewaiter_core::document::{Document, Path, Place};

/// Turns `came` into `becomes`, which differs from it at, above or below these paths at most.
pub(crate) fn between<'p>(
    came: &Document,
    becomes: &Document,
    touched: impl IntoIterator<Item = &'p Path>,
) -> Vec<PatchOperation> {
    // By place, so that a parent that two paths need is made once, with both in it.
    let places: BTreeSet<Path> = touched
        .into_iter()
        .filter_map(|path| differing(came, becomes, path))
        .collect();
    let mut places = Vec::from_iter(places);
    // What lies below another comes right after it, and is in its value or gone with it.
    places.dedup_by(|below, above| above.contains(below));
    places
        .iter()
        .map(|path| {
            let pointer = PointerBuf::from_tokens(path.segments());
            match becomes.value(path) {
                // On a member that is there, RFC 6902's `add` replaces; also a `null`, which a `replace` would do as well.
                Some(value) => PatchOperation::Add(AddOperation { path: pointer, value }),
                None => PatchOperation::Remove(RemoveOperation { path: pointer }),
            }
        })
        .collect()
}

/// The topmost place on the way to a path that is to be made, changed or taken out. None where both are equal there.
fn differing(came: &Document, becomes: &Document, path: &Path) -> Option<Path> {
    let segments = path.segments();
    let depth = |object: &Document| match object.place(path) {
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
        return (before == segments.len() && came.value(path) != becomes.value(path)).then(|| path.clone());
    }
    Path::new(&segments[..=before.min(after)])
}
