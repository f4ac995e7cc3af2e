//! Policies on disk, so that a restart needs no registry.
//!
//! ```text
//! DIR/blobs/HEX         a component, by the hash of its bytes
//! DIR/names/HEX.json    what a name led to when it was last looked up: manifest, component, signatures
//! ```
//!
//! A file is written aside and renamed, so two processes may share the folder. What is read is hashed again: a file that somebody changed is as good as gone.
//! Signatures are kept as they were found and judged at each use, so that a key that no longer counts opens nothing that it signed before.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::manifest::component_of;
use crate::{Digest, Signature};

/// A folder of components.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
    size: u64,
}

/// What a name led to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Known {
    /// The reference as it was asked for; a hash of it is the file's name.
    name: String,
    pub(crate) manifest: Digest,
    pub(crate) component: Digest,
    /// The manifest itself: a signature is over it, and only it says which component is meant.
    #[serde(default)]
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) signatures: Vec<Signature>,
}

impl Known {
    pub(crate) fn new(
        name: &str,
        manifest: Digest,
        component: Digest,
        content: String,
        signatures: Vec<Signature>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            manifest,
            component,
            content,
            signatures,
        }
    }

    /// The manifest is the one of this digest, and names this component: whoever else can write here makes no other one of it.
    fn is_whole(&self) -> bool {
        Digest::of(self.content.as_bytes()) == self.manifest
            && component_of(&self.name, self.content.as_bytes()).is_ok_and(|layer| layer.digest == self.component)
    }
}

/// Names with their signatures: 32 of 256 KiB each, in JSON.
const NAME: u64 = 16 << 20;

impl Cache {
    /// Makes the folder where there is none, for this user alone. Components take `size` bytes at most; beyond that those go that were not used for the longest time.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(dir: &Path, size: u64) -> io::Result<Self> {
        for part in ["blobs", "names"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir.join(part))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            size,
        })
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    fn name_path(&self, name: &str) -> PathBuf {
        self.dir
            .join("names")
            .join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// A component, if it is there and whole. One that isn't whole is removed.
    pub(crate) fn blob(&self, digest: &Digest) -> Option<Bytes> {
        let path = self.blob_path(digest);
        let file = fs::File::open(&path).ok()?;
        if file.metadata().ok()?.len() > self.size {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        if Digest::of(&bytes) != *digest {
            let _ = fs::remove_file(&path);
            return None;
        }
        // When it was used last, for what goes first.
        let _ = file.set_modified(SystemTime::now());
        Some(Bytes::from(bytes))
    }

    /// Keeps a component.
    pub(crate) fn keep_blob(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.size {
            return Ok(());
        }
        let path = self.blob_path(digest);
        if !path.exists() {
            self.write(&path, bytes)?;
        }
        self.make_room(digest)
    }

    pub(crate) fn known(&self, name: &str) -> Option<Known> {
        let path = self.name_path(name);
        if fs::metadata(&path).ok()?.len() > NAME {
            return None;
        }
        let known: Known = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        (known.name == name && known.is_whole()).then_some(known)
    }

    pub(crate) fn keep_known(&self, known: &Known) -> io::Result<()> {
        let text = serde_json::to_vec(known).map_err(io::Error::other)?;
        self.write(&self.name_path(&known.name), &text)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut aside = tempfile::NamedTempFile::new_in(&self.dir)?;
        aside.write_all(bytes)?;
        aside.as_file().sync_data()?;
        aside.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes what was not used for the longest time, until the rest fits; never what was just put there. Another process may be at it too: a file that is
    /// gone already is no failure.
    fn make_room(&self, but: &Digest) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.dir.join("blobs"))? {
            let entry = entry?;
            if let Ok(metadata) = entry.metadata() {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        files.sort();
        for (_, size, path) in files {
            if total <= self.size {
                break;
            }
            if path == self.blob_path(but) {
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            total -= size;
        }
        self.forget_aside()
    }

    /// What a process that was killed left behind.
    fn forget_aside(&self) -> io::Result<()> {
        const LEFT: std::time::Duration = std::time::Duration::from_hours(1);
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let left = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let old = left.and_then(|left| left.elapsed().ok()).is_some_and(|age| age > LEFT);
            if old && entry.file_name().to_string_lossy().starts_with(".tmp") {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::manifest::{Descriptor, WASM};

    fn cache(size: u64) -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), size).unwrap();
        (dir, cache)
    }

    #[test]
    fn what_is_kept_survives_a_restart_and_what_was_changed_is_gone() {
        let (dir, cache) = cache(100);
        let digest = Digest::of(b"component");
        cache.keep_blob(&digest, b"component").unwrap();
        let again = Cache::open(dir.path(), 100).unwrap();
        assert_eq!(again.blob(&digest).unwrap(), &b"component"[..]);
        fs::write(cache.blob_path(&digest), b"componenT").unwrap();
        assert_eq!(again.blob(&digest), None);
        assert!(!cache.blob_path(&digest).exists());
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let (_dir, cache) = cache(25);
        let blobs: Vec<_> = (0..4_u8).map(|n| vec![n; 10]).collect();
        let digests: Vec<_> = blobs.iter().map(|blob| Digest::of(blob)).collect();
        let age = |index: usize, seconds: u64| {
            let file = fs::File::options()
                .write(true)
                .open(cache.blob_path(&digests[index]))
                .unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
                .unwrap();
        };
        cache.keep_blob(&digests[0], &blobs[0]).unwrap();
        cache.keep_blob(&digests[1], &blobs[1]).unwrap();
        age(0, 300);
        age(1, 200);
        assert!(cache.blob(&digests[0]).is_some(), "used now");
        cache.keep_blob(&digests[2], &blobs[2]).unwrap();
        assert!(cache.blob(&digests[1]).is_none());
        assert!(cache.blob(&digests[0]).is_some() && cache.blob(&digests[2]).is_some());
        cache.keep_blob(&Digest::of(&[9; 30]), &[9; 30]).unwrap();
        assert!(cache.blob(&Digest::of(&[9; 30])).is_none(), "larger than all of it");
        assert!(cache.blob(&digests[0]).is_some());
    }

    #[test]
    fn a_name_leads_to_what_it_led_to_and_no_other_does() {
        let (_dir, cache) = cache(100);
        let layers = [Descriptor::of(WASM, b"c")];
        let content = json!({"schemaVersion": 2, "config": Descriptor::of(WASM, b"{}"), "layers": layers}).to_string();
        let known = Known::new(
            "r.example/a:1",
            Digest::of(content.as_bytes()),
            Digest::of(b"c"),
            content,
            vec![Signature::Bundle("{}".into())],
        );
        // Who writes another component into the file, or another manifest, has none that was signed.
        for other in [
            Known {
                component: Digest::of(b"mine"),
                ..known.clone()
            },
            Known {
                content: known.content.replace("{\"config\"", "{ \"config\""),
                ..known.clone()
            },
        ] {
            assert_ne!(other, known);
            cache.keep_known(&other).unwrap();
            assert_eq!(cache.known("r.example/a:1"), None);
        }
        cache.keep_known(&known).unwrap();
        assert_eq!(cache.known("r.example/a:1"), Some(known));
        assert_eq!(cache.known("r.example/a:2"), None);
        fs::copy(cache.name_path("r.example/a:1"), cache.name_path("r.example/b:1")).unwrap();
        assert_eq!(cache.known("r.example/b:1"), None, "a file under another's name");
        fs::write(cache.name_path("r.example/a:1"), "{").unwrap();
        assert_eq!(cache.known("r.example/a:1"), None);
    }

    #[test]
    fn two_processes_share_a_folder() {
        let (dir, _) = cache(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let dir = dir.path();
                scope.spawn(move || {
                    let cache = Cache::open(dir, 64).unwrap();
                    for round in 0..50_u8 {
                        let blob = vec![round ^ thread; 20];
                        let digest = Digest::of(&blob);
                        cache.keep_blob(&digest, &blob).unwrap();
                        // Another one may have made room; whatever is there is whole.
                        if let Some(found) = cache.blob(&digest) {
                            assert_eq!(found, blob);
                        }
                    }
                });
            }
        });
        let total: u64 = fs::read_dir(dir.path().join("blobs"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(total <= 64 + 60, "{total}");
    }
}
