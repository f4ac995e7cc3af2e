//! Compiled policies on disk, so that a start needs no compilation.
//!
//! What is loaded from here runs as native code of this process. So a file is trusted only where this user alone could have written it, it was
//! made by this very engine from this very component, and it is whole; on any doubt the policy is compiled, and the file replaced.
//!
//! A file is: magic (8 bytes), the engine's compatibility hash (8), sha256 of the component (32), sha256 of the payload (32), payload.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tracing::{info, warn};
use wasmtime::component::Component;

/// The last byte is the version of this layout.
const MAGIC: &[u8; 8] = b"tidewas\x01";
const HEADER: usize = 8 + 8 + 32 + 32;
/// No compiled policy is as large; a file that is isn't read.
const FILE_MAX: u64 = 256 << 20;

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
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let path = self.path(&digest);
        match self.read(&path, &digest) {
            Ok(Some(payload)) => match deserialize(engine, &payload) {
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

    fn path(&self, digest: &[u8; 32]) -> PathBuf {
        let hex = digest
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        // Two versions of the server may share a folder during a roll-out.
        self.dir.join(format!("{hex}-{:016x}.policy", self.engine))
    }

    /// The payload, once all of the header and the file's owner agree. None where there is no file.
    fn read(&self, path: &Path, digest: &[u8; 32]) -> io::Result<Option<Vec<u8>>> {
        let doubt = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let file = match OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Of the open file: what stands at the path may be exchanged meanwhile.
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != self.owner || metadata.mode() & 0o077 != 0 {
            return doubt("it is not a file that only this user can read and write");
        }
        if metadata.len() > FILE_MAX {
            return doubt("it is too large");
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
        file.take(FILE_MAX).read_to_end(&mut bytes)?;
        if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
            return doubt("it is none of ours, or cut off");
        }
        if bytes[8..16] != self.engine.to_le_bytes() {
            return doubt("another version of the engine made it");
        }
        if bytes[16..48] != digest[..] {
            return doubt("it was made from another policy");
        }
        let payload = bytes.split_off(HEADER);
        if bytes[48..80] != Sha256::digest(&payload)[..] {
            return doubt("it is damaged");
        }
        Ok(Some(payload))
    }

    fn write(&self, path: &Path, digest: &[u8; 32], payload: &[u8]) -> io::Result<()> {
        // Of this process and thread alone; renamed once it is whole, so that nobody reads half of it.
        let temporary = path.with_extension(format!("{}-{:?}.tmp", std::process::id(), std::thread::current().id()));
        let write = || {
            let _ = fs::remove_file(&temporary);
            let mut file: File = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&self.engine.to_le_bytes())?;
            file.write_all(digest)?;
            file.write_all(&Sha256::digest(payload))?;
            file.write_all(payload)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// Linux: the last part of the path is not a symbolic link. (`libc::O_NOFOLLOW`; a crate for one number would be too much.)
const NOFOLLOW: i32 = 0o400_000;

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

#[allow(unsafe_code, reason = "wasmtime can't check native code; see the proof below")]
fn deserialize(engine: &wasmtime::Engine, payload: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `Component::deserialize` asks for bytes that `Component::serialize` made, unaltered. `read` gave these only after it saw that
    // - the file was opened without following a link, is owned by this process's user, and no one else can write or read it; the folder
    //   neither (`prepare`). Only this user could have made it, and this user can run any code as this process anyway;
    // - it begins with our magic, and carries the hash under which this very engine (version, target, compiler settings) takes code;
    // - its payload has the sha256 that was written with it, so it is whole. `write` is all that makes such files, from `serialize`.
    unsafe { Component::deserialize(engine, payload) }
}
