//! `TensorFlow` Serving loads the highest of numbered folders, each a `SavedModel`.

use super::{Error, Prepared, moved};
use crate::model::Framework;
use crate::source::Entry;
use crate::source::identify::{below, is_below};

pub(super) fn lay_out(root: &str, versions: &[String], entries: &[Entry]) -> Result<Prepared, Error> {
    if versions.is_empty() {
        check(root, entries)?;
        let note = "The SavedModel is put into a folder 1, because TensorFlow Serving looks for numbered versions.";
        return Ok(Prepared::made(
            Framework::Tensorflow,
            moved(entries, root, "1"),
            "a SavedModel has to lie in a numbered folder",
            vec![note.to_owned()],
        ));
    }
    for version in versions {
        check(&below(root, version), entries)?;
    }
    let mut notes = Vec::new();
    if let [_, .., _] = versions {
        let highest = versions.iter().max_by_key(|version| (version.len(), version.as_str()));
        if let Some(highest) = highest {
            notes.push(format!(
                "Of its {} versions, {highest} is served: the highest.",
                versions.len()
            ));
        }
    }
    Ok(Prepared::as_it_is(Framework::Tensorflow, root, entries, notes))
}

/// Weights come in an index and in shards.
fn check(folder: &str, entries: &[Entry]) -> Result<(), Error> {
    let variables = below(folder, "variables");
    let inside: Vec<_> = entries
        .iter()
        .filter(|entry| is_below(&entry.path, &variables))
        .collect();
    let has = |part: &str| inside.iter().any(|entry| entry.path.contains(part));
    if !inside.is_empty() && !(has("variables.index") && has("variables.data-")) {
        return Err(Error::wrong(
            format!("{variables} is not whole: a SavedModel has variables.index and variables.data-… there"),
            "copy the whole folder that tf.saved_model.save or model.export wrote",
        ));
    }
    Ok(())
}
