//! Compiled policies on disk, so that a start needs no compilation.
//!
//! A file is trusted only where this user alone could have written it, it was made by this very engine from this very component, and it is whole; on
//! any doubt the policy is compiled, and the file replaced.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tracing::{info, warn};
use wasmtime::component::Component;

use crate::compiled::{self, Sum};

#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// The owner of files that this process makes: its effective user.
    owner: u32,
    engine: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What was looked for in a cache since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// And found.
    pub hits: u64,
    /// And not.
    pub misses: u64,
}

impl Cache {
    /// None where the folder can't be had or isn't ours alone; the log says why.
    pub(crate) fn open(dir: PathBuf, engine: &wasmtime::Engine) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        match prepare(&dir) {
            Ok(owner) => Some(Self {
                dir,
                owner,
                engine: hasher.finish(),
                hits: AtomicU64::default(),
                misses: AtomicU64::default(),
            }),
            Err(error) => {
                warn!(dir = %dir.display(), %error, "no cache of compiled policies: they are compiled at each start");
                None
            }
        }
    }

    /// From the cache, else compiled and put there.
    pub(crate) fn component(
        &self,
        engine: &wasmtime::Engine,
        bytes: &[u8],
        compile: impl FnOnce() -> wasmtime::Result<Component>,
    ) -> wasmtime::Result<Component> {
        let digest: Sum = Sha256::digest(bytes).into();
        let path = self.path(&digest);
        match compiled::read(&path, self.engine, &digest, |file| self.trusted(file)) {
            Ok(Some(payload)) => match compiled::deserialize(engine, &payload) {
                Ok(component) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return Ok(component);
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
            .and_then(|payload| self.write(&path, &digest, &payload))
        {
            Ok(()) => info!(file = %path.display(), "compiled policy kept for the next start"),
            Err(error) => {
                warn!(file = %path.display(), %error, "the compiled policy can't be kept; it will be compiled at the next start");
            }
        }
        Ok(component)
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

    fn write(&self, path: &Path, digest: &Sum, payload: &[u8]) -> io::Result<()> {
        // Of this process and thread alone; renamed once it is whole, so that nobody reads half of it.
        let temporary = path.with_extension(format!("{}-{:?}.tmp", std::process::id(), std::thread::current().id()));
        let write = || {
            let _ = fs::remove_file(&temporary);
            let mut file: File = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&compiled::seal(self.engine, digest, payload))?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
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
