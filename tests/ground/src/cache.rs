//! What is built once and used by every run: `$TIDEWAITER_CACHE`, else `$XDG_CACHE_HOME/tidewaiter`, else `~/.cache/tidewaiter`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::progress;

/// The cache's root folder. Entries never change once they are there; a changed input makes another entry.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache, making its folder where there is none.
    pub fn open() -> Result<Self> {
        let from = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = from("TIDEWAITER_CACHE")
            .or_else(|| from("XDG_CACHE_HOME").map(|base| base.join("tidewaiter")))
            .or_else(|| from("HOME").map(|home| home.join(".cache/tidewaiter")))
            .context("no place for the cache: set TIDEWAITER_CACHE to a folder")?;
        fs::create_dir_all(&root).with_context(|| format!("can't make the cache folder {}", root.display()))?;
        let root = fs::canonicalize(root)?;
        Ok(Self { root })
    }

    /// Where runs keep their state. On the cache's own file system, so that a run can hard-link to entries.
    pub fn runs(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The entry `kind/name-KEY`, built by `build` into an empty folder if it isn't there yet.
    ///
    /// Two processes that want the same entry build it once: the second waits for the first. A build that fails or is killed leaves
    /// no entry.
    pub fn entry(&self, kind: &str, name: &str, key: &Key, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.root.join(kind);
        let entry = folder.join(format!("{name}-{}", key.short()));
        if entry.exists() {
            return Ok(entry);
        }
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join(format!(".{name}.lock")))?;
        if lock.try_lock().is_err() {
            progress::say(&format!("another run builds {name}: waiting for it"));
            lock.lock()?;
        }
        if entry.exists() {
            return Ok(entry);
        }
        let start = Instant::now();
        progress::say(&format!("building {name}"));
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}-"))
            .tempdir_in(&folder)?;
        build(temporary.path()).with_context(|| format!("can't build {name}"))?;
        let made = temporary.keep();
        // tempfile makes folders for their owner alone; what is built must be readable for the users of containers.
        crate::host::run(std::process::Command::new("chmod").arg("755").arg(&made))?;
        fs::rename(&made, &entry)?;
        progress::say(&format!("built {name} in {:.0} s", start.elapsed().as_secs_f32()));
        Ok(entry)
    }
}

/// What an entry was made from.
#[derive(Clone)]
pub struct Key(Sha256);

impl Key {
    /// A key over nothing yet.
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Adds an input. Each is delimited, so that two inputs can't pass for one.
    #[must_use]
    pub fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    /// The first 16 hexadecimal digits.
    pub fn short(&self) -> String {
        use std::fmt::Write as _;
        self.0
            .clone()
            .finalize()
            .iter()
            .take(8)
            .fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn cache(root: &Path) -> Cache {
        Cache { root: root.to_owned() }
    }

    #[test]
    fn inputs_are_delimited() {
        assert_ne!(
            Key::new().with("ab").with("c").short(),
            Key::new().with("a").with("bc").short()
        );
        assert_eq!(Key::new().with("ab").short(), Key::new().with("ab").short());
    }

    #[test]
    fn an_entry_is_built_once_by_many() {
        let root = tempfile::tempdir().expect("tempdir");
        let cache = cache(root.path());
        let built = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let entry = cache
                        .entry("kind", "thing", &Key::new().with("a"), |folder| {
                            built.fetch_add(1, Ordering::SeqCst);
                            fs::write(folder.join("file"), "x")?;
                            Ok(())
                        })
                        .expect("entry");
                    assert_eq!(fs::read_to_string(entry.join("file")).expect("file"), "x");
                });
            }
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_may_be_tried_again() {
        let root = tempfile::tempdir().expect("tempdir");
        let cache = cache(root.path());
        let key = Key::new().with("a");
        let failed = cache.entry("kind", "thing", &key, |folder| {
            fs::write(folder.join("half"), "x")?;
            anyhow::bail!("no")
        });
        assert!(failed.is_err());
        let entry = cache.entry("kind", "thing", &key, |_| Ok(())).expect("entry");
        assert!(!entry.join("half").exists());
    }
}
