//! The folder outside the tree where large things are kept between checkouts: cargo's intermediate files here, the test ground's servers and
//! images beside them.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// `$TIDEWAITER_CACHE`, else `$XDG_CACHE_HOME/tidewaiter`, else `~/.cache/tidewaiter`.
pub(crate) fn root() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("TIDEWAITER_CACHE") {
        return Ok(dir.into());
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("tidewaiter"));
    }
    match env::var_os("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".cache/tidewaiter")),
        None => bail!("no place for the cache: set TIDEWAITER_CACHE, XDG_CACHE_HOME or HOME"),
    }
}

/// A folder for cargo's intermediate files that no other run uses while this value lives.
pub(crate) struct BuildDir {
    pub(crate) path: PathBuf,
    _lock: File,
}

/// Takes the first free build folder of the cache. Two checkouts that ran in one folder at once would replace each other's binaries.
pub(crate) fn build_dir() -> Result<BuildDir> {
    let root = root()?.join("cargo");
    for slot in 0..16 {
        let path = root.join(slot.to_string());
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let lock = lock_file(&path)?;
        if lock.try_lock().is_ok() {
            return Ok(BuildDir { path, _lock: lock });
        }
    }
    bail!("16 runs already use the build folders in {}", root.display())
}

/// The folder that images are built in. Another run in it is waited for.
pub(crate) fn image_dir() -> Result<BuildDir> {
    let path = root()?.join("image");
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let lock = lock_file(&path)?;
    if lock.try_lock().is_err() {
        eprintln!("another run makes an image: waiting for it");
        lock.lock()?;
    }
    Ok(BuildDir { path, _lock: lock })
}

fn lock_file(folder: &Path) -> Result<File> {
    let lock = folder.join("in-use.lock");
    File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))
}
