//! Compiled policies on disk, so that a start needs no compilation.
//!
//! A file is trusted only where this user alone could have written it, it was made by this very engine from this very component, and it is whole; on
//! any doubt the policy is compiled, and the file replaced.
//!
//! All files together stay below a bound: each version of a policy, and of this program, has a file of its own. The one that was not used for the longest
//! time makes room first, and none that a loaded policy of this process would need at the next start.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tracing::{info, warn};
use wasmtime::component::Component;

use crate::compiled::{self, Sum};

/// What a process that was killed while it wrote left behind is this old at least.
const LEFT: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// What all files together may take, in bytes.
    size: u64,
    /// The files of policies that are loaded. Locked also while room is made and filled, so that two threads don't take the same.
    in_use: Mutex<Vec<Weak<PathBuf>>>,
    /// The owner of files that this process makes: its effective user.
    owner: u32,
    engine: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// While it lives, the file of a compiled policy stays where it is.
pub(crate) type InUse = Arc<PathBuf>;

/// What was looked for in a cache since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// And found.
    pub hits: u64,
    /// And not.
    pub misses: u64,
}

impl Cache {
    /// None where the folder can't be had or isn't ours alone; the log says why. Its files take `size` bytes at most, beginning now.
    pub(crate) fn open(dir: PathBuf, size: u64, engine: &wasmtime::Engine) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        match prepare(&dir) {
            Ok(owner) => {
                let cache = Self {
                    dir,
                    size,
                    in_use: Mutex::default(),
                    owner,
                    engine: hasher.finish(),
                    hits: AtomicU64::default(),
                    misses: AtomicU64::default(),
                };
                if let Err(error) = cache.make_room(0, &cache.lock()) {
                    warn!(dir = %cache.dir.display(), %error, "no room can be made among the compiled policies");
                }
                Some(cache)
            }
            Err(error) => {
                warn!(dir = %dir.display(), %error, "no cache of compiled policies: they are compiled at each start");
                None
            }
        }
    }

    /// From the cache, else compiled and put there. What it leads to is to be kept for as long as the component is.
    pub(crate) fn component(
        &self,
        engine: &wasmtime::Engine,
        bytes: &[u8],
        compile: impl FnOnce() -> wasmtime::Result<Component>,
    ) -> wasmtime::Result<(Component, InUse)> {
        let digest: Sum = Sha256::digest(bytes).into();
        let path = self.path(&digest);
        let in_use = self.uses(&path);
        match compiled::read(&path, self.engine, &digest, |file| self.trusted(file)) {
            Ok(Some(payload)) => match compiled::deserialize(engine, &payload) {
                Ok(component) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    // When it was used last, for what goes first.
                    let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                    return Ok((component, in_use));
                }
                Err(error) => {
                    warn!(file = %path.display(), error = %format!("{error:#}"), "a compiled policy can't be used; compiling it again");
                }
            },
            Ok(None) => {}
            Err(error) => warn!(file = %path.display(), %error, "a compiled policy is not trusted; compiling it again"),
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let component = compile()?;
        match component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|payload| self.keep(&path, &compiled::seal(self.engine, &digest, &payload)))
        {
            Ok(()) => info!(file = %path.display(), "compiled policy kept for the next start"),
            Err(error) => {
                warn!(file = %path.display(), %error, "the compiled policy can't be kept; it will be compiled at the next start");
            }
        }
        Ok((component, in_use))
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    fn path(&self, digest: &Sum) -> PathBuf {
        // Two versions of the server may share a folder during a roll-out.
        self.dir
            .join(format!("{}-{:016x}.policy", compiled::hex(digest), self.engine))
    }

    fn trusted(&self, file: &Metadata) -> Result<(), &'static str> {
        if file.uid() != self.owner || file.mode() & 0o077 != 0 {
            return Err("it is not a file that only this user can read and write");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<PathBuf>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uses(&self, path: &Path) -> InUse {
        let path = Arc::new(path.to_owned());
        let mut in_use = self.lock();
        in_use.retain(|file| file.strong_count() > 0);
        in_use.push(Arc::downgrade(&path));
        path
    }

    /// Puts a file there, where it fits.
    fn keep(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let in_use = self.lock();
        self.make_room(bytes.len() as u64, &in_use)?;
        write(path, bytes)
    }

    /// Removes what was not used for the longest time until `more` bytes fit in, never what is in use. Another process may be at it too: a file that is gone
    /// already is no failure.
    fn make_room(&self, more: u64, in_use: &[Weak<PathBuf>]) -> io::Result<()> {
        let in_use: BTreeSet<_> = in_use.iter().filter_map(Weak::upgrade).collect();
        let (mut files, mut total, mut spare) = (Vec::new(), more, 0);
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let kind = path.extension().unwrap_or_default();
            // Modules that came over the network may have a folder in here.
            if !metadata.is_file() || kind != "policy" && kind != "tmp" {
                continue;
            }
            let modified = metadata.modified()?;
            total += metadata.len();
            // Somebody else may be writing it now.
            let is_written = kind == "tmp" && modified.elapsed().is_ok_and(|age| age < LEFT);
            if !is_written && !in_use.contains(&path) {
                spare += metadata.len();
                files.push((modified, metadata.len(), path));
            }
        }
        if more > 0 && total - spare > self.size {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "with those that are in use it would take {} bytes, and {} may be taken: give tidewaiter-webhook a larger --compiled-mib",
                    total - spare,
                    self.size
                ),
            ));
        }
        files.sort();
        for (_, len, path) in files {
            if total <= self.size {
                break;
            }
            match fs::remove_file(&path) {
                Ok(()) => {
                    info!(file = %path.display(), "a compiled policy made room: nobody had used it for the longest time")
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            total -= len;
        }
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Of this process and thread alone; renamed once it is whole, so that nobody reads half of it.
    let temporary = path.with_extension(format!("{}-{:?}.tmp", std::process::id(), std::thread::current().id()));
    let write = || {
        let _ = fs::remove_file(&temporary);
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Makes the folder where it is missing. The user that owns what this process makes there.
fn prepare(dir: &Path) -> io::Result<u32> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let folder = fs::symlink_metadata(dir)?;
    // The standard library doesn't tell the process's user; a file that it makes does.
    let probe = dir.join(format!(
        ".probe-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let owner = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&probe)?
        .metadata()?
        .uid();
    fs::remove_file(&probe)?;
    if !folder.is_dir() || folder.uid() != owner || folder.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "others can write to the folder, and what is in it runs in this process; make it a folder of this user alone (chmod 700)",
        ));
    }
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component without content that differs from all of another number.
    fn bytes(number: u8) -> Vec<u8> {
        let empty = b"\0asm\x0d\0\x01\0";
        // A custom section: its id, its length, the length of its name, its name.
        [&empty[..], &[0, 2, 1, b'a' + number]].concat()
    }

    struct Folder {
        engine: wasmtime::Engine,
        dir: tempfile::TempDir,
        /// Of one compiled component, in bytes.
        one: u64,
    }

    impl Folder {
        fn new() -> Self {
            let engine = wasmtime::Engine::default();
            let component = Component::from_binary(&engine, &bytes(0)).unwrap();
            let one = compiled::seal(0, &[0; 32], &component.serialize().unwrap()).len() as u64;
            Self {
                engine,
                dir: tempfile::tempdir().unwrap(),
                one,
            }
        }

        /// With room for so many.
        fn cache(&self, files: u64) -> Cache {
            Cache::open(
                self.dir.path().join("compiled"),
                files * self.one + self.one / 2,
                &self.engine,
            )
            .unwrap()
        }

        fn load(&self, cache: &Cache, number: u8) -> InUse {
            let compile = || Component::from_binary(&self.engine, &bytes(number));
            cache.component(&self.engine, &bytes(number), compile).unwrap().1
        }

        fn file(cache: &Cache, number: u8) -> PathBuf {
            cache.path(&Sha256::digest(bytes(number)).into())
        }

        fn age(cache: &Cache, number: u8, seconds: u64) {
            let file = File::open(Self::file(cache, number)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
                .unwrap();
        }

        fn there(cache: &Cache) -> Vec<u8> {
            (0..10).filter(|number| Self::file(cache, *number).exists()).collect()
        }
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let folder = Folder::new();
        let cache = folder.cache(3);
        for number in 0..3 {
            folder.load(&cache, number);
            Folder::age(&cache, number, 300 - u64::from(number));
        }
        folder.load(&cache, 0);
        folder.load(&cache, 3);
        assert_eq!(Folder::there(&cache), [0, 2, 3], "0 was used again, and 1 was not");
        assert_eq!(cache.counts(), Counts { hits: 1, misses: 4 });
        // A smaller bound holds at once.
        Folder::age(&cache, 3, 400);
        let cache = folder.cache(1);
        assert_eq!(Folder::there(&cache), [0]);
    }

    #[test]
    fn what_a_loaded_policy_needs_at_the_next_start_stays() {
        let folder = Folder::new();
        let cache = folder.cache(2);
        let old = folder.load(&cache, 0);
        Folder::age(&cache, 0, 300);
        for number in 1..5 {
            folder.load(&cache, number);
            assert_eq!(Folder::there(&cache), [0, number]);
        }
        let new = folder.load(&cache, 5);
        folder.load(&cache, 6);
        assert_eq!(Folder::there(&cache), [0, 5], "loaded all the same, and not kept");
        drop((old, new));
        folder.load(&cache, 7);
        assert_eq!(Folder::there(&cache), [5, 7]);
    }

    #[test]
    fn what_is_being_written_stays_and_what_was_left_behind_goes() {
        let folder = Folder::new();
        let cache = folder.cache(3);
        let aside = |name: &str, age: Duration| {
            let path = cache.dir.join(name);
            fs::write(&path, vec![0; usize::try_from(folder.one).unwrap()]).unwrap();
            File::open(&path)
                .unwrap()
                .set_modified(SystemTime::now() - age)
                .unwrap();
            path
        };
        let (now, left) = (aside("a.1-2.tmp", Duration::ZERO), aside("b.1-2.tmp", LEFT * 2));
        let modules = cache.dir.join("modules");
        fs::create_dir(&modules).unwrap();
        folder.load(&cache, 0);
        folder.load(&cache, 1);
        assert!(now.exists() && !left.exists() && modules.exists());
        assert_eq!(Folder::there(&cache), [0, 1]);
    }

    /// Each may be a file ahead of the others; whoever comes last sees to the rest.
    #[test]
    fn processes_share_a_folder() {
        let folder = Folder::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = folder.cache(2);
                    for round in 0..40 {
                        folder.load(&cache, round % 10);
                    }
                });
            }
        });
        let cache = folder.cache(2);
        assert!(Folder::there(&cache).len() <= 2, "{:?}", Folder::there(&cache));
    }
}
