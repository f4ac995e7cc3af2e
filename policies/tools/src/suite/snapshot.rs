//! What was said once, kept beside a file of cases: `fraud.yaml` has its snapshots in `fraud.snap.yaml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;
use similar::TextDiff;
use tidewaiter_world::yaml_problem;

use super::case::SNAPSHOTS;
use crate::told::Told;

const HEADER: &str = "# Written by `tidewaiter policy test --update`. Look at what changes before you commit it.\n";

/// Why snapshots can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file.
    #[error("{} can't be read or written: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it: where, and why.
    #[error("{0}; these are no snapshots as they were written: delete the file, and write it anew with --update")]
    Wrong(String),
}

/// The snapshots of one file of cases.
pub(super) struct Snapshots {
    path: PathBuf,
    kept: BTreeMap<String, Value>,
}

/// How a case stands to its snapshot.
pub(super) enum Standing {
    Same,
    /// There is none.
    None,
    Updated,
    /// With the difference.
    Differs(String),
}

impl Snapshots {
    pub(super) fn read(cases: &Path) -> Result<Self, SnapshotError> {
        let path = cases.with_extension(SNAPSHOTS.trim_start_matches('.'));
        let kept = match fs::read_to_string(&path) {
            Ok(text) => serde_saphyr::from_str(&text)
                .map_err(|error| SnapshotError::Wrong(yaml_problem(&path.display().to_string(), &error)))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(SnapshotError::File { path, source }),
        };
        Ok(Self { path, kept })
    }

    /// The file, and a snapshot that none of these cases has; none where there is none.
    pub(super) fn of_none(self, names: &[&str]) -> Option<(PathBuf, String)> {
        let Self { path, kept } = self;
        let name = kept.into_keys().find(|name| !names.contains(&name.as_str()))?;
        Some((path, name))
    }

    pub(super) fn judge(&mut self, name: &str, told: &Told, update: bool) -> Standing {
        let now = serde_json::to_value(told).unwrap_or_default();
        let kept = self.kept.get(name);
        if kept == Some(&now) {
            return Standing::Same;
        }
        if update {
            self.kept.insert(name.to_owned(), now);
            return Standing::Updated;
        }
        let Some(kept) = kept else { return Standing::None };
        let (before, after) = (yaml(kept), yaml(&now));
        let diff = TextDiff::from_lines(&before, &after);
        let shown = diff
            .unified_diff()
            .context_radius(2)
            .header("snapshot", "now")
            .to_string();
        Standing::Differs(format!("it differs from its snapshot:\n{}", shown.trim_end()))
    }

    /// Without those of cases that are no more.
    pub(super) fn write(&mut self, names: &[&str]) -> Result<(), SnapshotError> {
        self.kept.retain(|name, _| names.contains(&name.as_str()));
        let text = format!(
            "{HEADER}{}",
            yaml(&serde_json::to_value(&self.kept).unwrap_or_default())
        );
        fs::write(&self.path, text).map_err(|source| SnapshotError::File {
            path: self.path.clone(),
            source,
        })
    }
}

fn yaml(value: &Value) -> String {
    // A tree of JSON values can always be written.
    let text = serde_saphyr::to_string(value).unwrap_or_default();
    text.trim_end().to_owned() + "\n"
}
