//! The files of a model, wherever they lie.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Error;
use super::tracking::Artifacts;
use crate::store::Bucket;

/// More files than this are no model.
const FILES: usize = 100_000;
/// Deeper folders are a loop of links.
const DEPTH: usize = 32;
/// What version control, editors and Python leave beside a model.
const SKIPPED: [&str; 6] = [
    ".git",
    ".cache",
    ".ipynb_checkpoints",
    ".DS_Store",
    ".gitattributes",
    "__pycache__",
];
/// What is wished for, beside a model's files: no part of it. It changes more often than the model does, and what stands in it is for the cluster alone.
const WISHES: &str = "tidewaiter.yaml";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Below the model's folder, with `/` between its segments.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// Where the files lie.
#[derive(Clone)]
pub enum Folder {
    /// On this machine.
    Local(PathBuf),
    /// In a store, below a key without slashes around it.
    Store(Bucket, String),
    /// One object of a store.
    Object(Bucket, String),
    /// Behind a tracking server.
    Tracking(Artifacts),
}

impl Folder {
    /// How errors call it.
    pub fn told(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Store(bucket, key) | Self::Object(bucket, key) => bucket.uri(key),
            Self::Tracking(artifacts) => artifacts.told(),
        }
    }

    /// Every file of the model, in order. A source that is one file is a folder with this file in it.
    ///
    /// # Errors
    /// Where there is nothing, or it can't be read.
    pub async fn list(self) -> Result<(Self, Vec<Entry>), Error> {
        let (folder, mut entries) = match self {
            Self::Local(path) => {
                let root = path.clone();
                (Self::Local(path), blocking(move || walk(&root)).await?)
            }
            Self::Store(bucket, key) | Self::Object(bucket, key) => in_store(bucket, key).await?,
            Self::Tracking(artifacts) => {
                let entries = artifacts.list(FILES).await?;
                (Self::Tracking(artifacts), entries)
            }
        };
        entries.sort_unstable();
        if entries.is_empty() {
            return Err(Error::Nothing { place: folder.told() });
        }
        Ok((folder, entries))
    }

    /// A part of a file: fewer bytes at its end. From behind a tracking server, what doesn't stand at the beginning may be left out.
    ///
    /// # Errors
    /// Where it can't be read.
    pub async fn read(&self, path: &str, offset: u64, length: u64) -> Result<Bytes, Error> {
        match self {
            Self::Local(root) => {
                let file = local_file(root, path);
                blocking(move || read(&file, offset, length)).await
            }
            Self::Store(bucket, key) if key.is_empty() => Ok(bucket.read(path, offset, length).await?),
            Self::Store(bucket, key) => Ok(bucket.read(&format!("{key}/{path}"), offset, length).await?),
            Self::Object(bucket, key) => Ok(bucket.read(key, offset, length).await?),
            Self::Tracking(artifacts) => artifacts.read(path, offset, length).await,
        }
    }

    /// A whole file, as text.
    ///
    /// # Errors
    /// Where it can't be read, or is no text, or is longer than a model's description ever is.
    pub async fn text(&self, entry: &Entry) -> Result<String, Error> {
        const LONGEST: u64 = 16 << 20;
        let unreadable = |reason: &str| Error::Unreadable {
            file: format!("{}/{}", self.told(), entry.path),
            reason: reason.to_owned(),
        };
        if entry.bytes > LONGEST {
            return Err(unreadable("it is too long for what it should be"));
        }
        let bytes = self.read(&entry.path, 0, entry.bytes.max(1)).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| unreadable("it is no text"))
    }
}

/// The file of this machine behind a path.
pub(crate) fn local_file(root: &Path, path: &str) -> PathBuf {
    // A source that is one file.
    if root.is_file() {
        root.to_owned()
    } else {
        root.join(path)
    }
}

async fn in_store(bucket: Bucket, key: String) -> Result<(Folder, Vec<Entry>), Error> {
    let prefix = if key.is_empty() {
        String::new()
    } else {
        format!("{key}/")
    };
    let objects = bucket.list(&key).await?;
    if objects.len() > FILES {
        return Err(Error::TooMany {
            place: bucket.uri(&key),
            limit: FILES,
        });
    }
    // An object of the folder's own name only has it be seen where it is empty.
    let entries: Vec<_> = objects
        .into_iter()
        .filter_map(|object| {
            let path = object.key.strip_prefix(&prefix)?.to_owned();
            (!path.is_empty()).then_some(Entry {
                path,
                bytes: object.bytes,
            })
        })
        .collect();
    if !entries.is_empty() {
        return Ok((Folder::Store(bucket, key), entries));
    }
    let only = bucket.head(&key).await?.map(|object| Entry {
        path: key.rsplit('/').next().unwrap_or(&key).to_owned(),
        bytes: object.bytes,
    });
    Ok((Folder::Object(bucket, key), only.into_iter().collect()))
}

/// Runs what waits for a disk beside what waits for the network.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::Unreadable {
            file: "a file".to_owned(),
            reason: error.to_string(),
        })
    })
}

/// Every file of a model on this machine, in no order; not what is wished for beside it.
pub(crate) fn walk(root: &Path) -> Result<Vec<Entry>, Error> {
    let meta = std::fs::metadata(root).map_err(|error| unreadable(root, &error))?;
    if meta.is_file() {
        let name = root.file_name().and_then(|name| name.to_str());
        return Ok(vec![Entry {
            path: name.ok_or_else(|| not_text(root))?.to_owned(),
            bytes: meta.len(),
        }]);
    }
    let mut found = Vec::new();
    // A folder that is linked from below itself would be walked for ever.
    let mut seen = BTreeSet::new();
    descend(root, "", 0, &mut seen, &mut found)?;
    found.retain(|entry| entry.path != WISHES);
    Ok(found)
}

fn descend(
    folder: &Path,
    prefix: &str,
    depth: usize,
    seen: &mut BTreeSet<PathBuf>,
    found: &mut Vec<Entry>,
) -> Result<(), Error> {
    let real = folder.canonicalize().map_err(|error| unreadable(folder, &error))?;
    if depth > DEPTH || !seen.insert(real.clone()) {
        return Err(Error::Unreadable {
            file: folder.display().to_string(),
            reason: "its folders link to each other in a circle".to_owned(),
        });
    }
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let file = entry.path();
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| not_text(&file))?;
        if SKIPPED.contains(&name) {
            continue;
        }
        let path = format!("{prefix}{name}");
        // Follows links: Hugging Face's cache is made of them.
        let meta = std::fs::metadata(&file).map_err(|error| unreadable(&file, &error))?;
        if meta.is_dir() {
            descend(&file, &format!("{path}/"), depth + 1, seen, found)?;
        } else if meta.is_file() {
            found.push(Entry {
                path,
                bytes: meta.len(),
            });
        } else {
            return Err(Error::Unreadable {
                file: file.display().to_string(),
                reason: "it is neither a file nor a folder".to_owned(),
            });
        }
        if found.len() > FILES {
            return Err(Error::TooMany {
                place: folder.display().to_string(),
                limit: FILES,
            });
        }
    }
    seen.remove(&real);
    Ok(())
}

fn read(file: &Path, offset: u64, length: u64) -> Result<Bytes, Error> {
    let whole = || -> io::Result<Bytes> {
        let mut opened = File::open(file)?;
        if offset > 0 {
            opened.seek(SeekFrom::Start(offset))?;
        }
        let mut bytes = Vec::new();
        opened.take(length).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    };
    whole().map_err(|error| unreadable(file, &error))
}

pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::Nothing {
            place: file.display().to_string(),
        };
    }
    Error::Unreadable {
        file: file.display().to_string(),
        reason: error.to_string(),
    }
}

fn not_text(file: &Path) -> Error {
    Error::Unreadable {
        file: file.display().to_string(),
        reason: "its name is no text that a store could hold".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_walked_through_links_but_not_in_circles() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/__pycache__")).unwrap();
        std::fs::write(root.join("a/one.bin"), "12").unwrap();
        std::fs::write(root.join("a/__pycache__/x.pyc"), "12").unwrap();
        std::os::unix::fs::symlink(root.join("a/one.bin"), root.join("two.bin")).unwrap();
        let mut walked = walk(root).unwrap();
        walked.sort();
        let entry = |path: &str| Entry {
            path: path.into(),
            bytes: 2,
        };
        assert_eq!(walked, [entry("a/one.bin"), entry("two.bin")]);

        std::os::unix::fs::symlink(root, root.join("a/up")).unwrap();
        assert!(walk(root).unwrap_err().to_string().contains("in a circle"));
    }

    #[tokio::test]
    async fn what_a_console_makes_for_a_folder_is_no_file() {
        let bucket = Bucket::in_memory();
        for (key, content) in [
            ("fraud", ""),
            ("fraud/data", ""),
            ("fraud/data/model.bin", "12"),
            ("fraud/own/__init__.py", ""),
        ] {
            bucket.write(key, Bytes::from_static(content.as_bytes())).await.unwrap();
        }
        let (_, entries) = Folder::Store(bucket, "fraud".to_owned()).list().await.unwrap();
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["data/model.bin", "own/__init__.py"]);
    }

    #[test]
    fn a_file_is_a_folder_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        std::fs::write(&file, "abc").unwrap();
        assert_eq!(
            walk(&file).unwrap(),
            [Entry {
                path: "model.onnx".into(),
                bytes: 3
            }]
        );
        assert_eq!(read(&file, 1, 100).unwrap(), "bc");
        assert!(
            walk(&folder.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("nothing at")
        );
    }
}
