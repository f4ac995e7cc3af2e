//! Which parts of large files a store has already, so that an upload that was interrupted goes on where it was.
//!
//! One line of JSON for each part, appended as soon as the store has it. A line that was cut is passed over: that part is sent again.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::digest;

/// What is known of an upload; `None` where it can't be kept.
#[derive(Debug)]
pub(super) struct Journal {
    file: Option<(PathBuf, Mutex<File>)>,
    began: HashMap<String, Began>,
}

/// An object that was begun.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Began {
    /// The store's name for the upload.
    pub(super) id: String,
    /// The store's mark for each part that it has.
    pub(super) parts: BTreeMap<usize, String>,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    key: std::borrow::Cow<'a, str>,
    id: std::borrow::Cow<'a, str>,
    part: usize,
    mark: std::borrow::Cow<'a, str>,
}

impl Journal {
    /// The journal of the upload to this place. Without a folder, or where it can't be written, nothing is kept.
    pub(super) fn open(folder: Option<&Path>, place: &str) -> Self {
        let mut journal = Self {
            file: None,
            began: HashMap::new(),
        };
        let Some(folder) = folder else { return journal };
        let path = folder.join(format!("{}.upload", digest::name_of(place.as_bytes())));
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            let Ok(line) = serde_json::from_str::<Line<'_>>(line) else {
                continue;
            };
            let began = journal.began.entry(line.key.into_owned()).or_default();
            // A later upload of the same object replaces an earlier one.
            if began.id != line.id {
                *began = Began {
                    id: line.id.into_owned(),
                    parts: BTreeMap::new(),
                };
            }
            began.parts.insert(line.part, line.mark.into_owned());
        }
        let opened =
            crate::folder::make(folder).and_then(|()| OpenOptions::new().append(true).create(true).open(&path));
        journal.file = opened.ok().map(|file| (path, Mutex::new(file)));
        journal
    }

    /// What is known of an object.
    pub(super) fn began(&self, key: &str) -> Option<Began> {
        self.began.get(key).cloned()
    }

    /// Notes a part that the store has. That it can't be noted is no reason to stop.
    pub(super) fn note(&self, key: &str, id: &str, part: usize, mark: &str) {
        let write = |(_, file): &(PathBuf, Mutex<File>)| -> io::Result<()> {
            let line = Line {
                key: key.into(),
                id: id.into(),
                part,
                mark: mark.into(),
            };
            let line = serde_json::to_string(&line)? + "\n";
            // One write, so that lines of two uploads don't mix.
            file.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(line.as_bytes())
        };
        if let Some(file) = &self.file {
            let _ = write(file);
        }
    }

    /// Nothing is left to go on with.
    pub(super) fn done(&self) {
        if let Some((path, _)) = &self.file {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_remembered_and_a_cut_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(Some(folder.path()), "s3://a/b");
        let journal = open();
        journal.note("k", "one", 0, "m0");
        journal.note("k", "two", 1, "m1");
        journal.note("k", "two", 3, "m3");
        let (path, _) = journal.file.as_ref().unwrap();
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(br#"{"key":"k","id":"two","part":4"#).unwrap();
        let began = open().began("k").unwrap();
        assert_eq!(began.id, "two");
        assert_eq!(
            began.parts.into_iter().collect::<Vec<_>>(),
            [(1, "m1".into()), (3, "m3".into())]
        );
        assert_eq!(Journal::open(Some(folder.path()), "s3://a/c").began("k"), None);
        journal.done();
        assert_eq!(open().began("k"), None);
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let journal = Journal::open(None, "s3://a/b");
        journal.note("k", "one", 0, "m0");
        assert_eq!(journal.began("k"), None);
    }
}
