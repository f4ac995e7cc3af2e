//! Node packages at locked versions, each set in a folder of its own: servers that are written for Node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Cache, Key};
use crate::host;

/// What npm reads. The third keeps the host of a registry out of the second, so that whoever installs uses their own.
const MANIFESTS: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// Installs exactly the packages of a lock file in a folder under `packages/`, unless the cache has them, and says where `node_modules` is.
///
/// None of their install scripts is run: a server needs none.
///
/// # Errors
/// Where there is no npm, or the packages can't be had.
pub fn packages(cache: &Cache, name: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("packages").join(name);
    let version = host::output(Command::new("npm").arg("--version")).context("npm comes with Node.js 20 or newer")?;
    let mut key = Key::new().with(version);
    for manifest in MANIFESTS {
        let file = source.join(manifest);
        key = key.with(fs::read(&file).with_context(|| format!("can't read {}", file.display()))?);
    }
    let installed = cache.entry("npm", name, &key, |folder| {
        for manifest in MANIFESTS {
            fs::copy(source.join(manifest), folder.join(manifest))?;
        }
        host::run(
            Command::new("npm")
                .current_dir(folder)
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]),
        )
    })?;
    Ok(installed.join("node_modules"))
}
