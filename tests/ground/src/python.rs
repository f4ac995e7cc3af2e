//! Python packages at locked versions, each set in a folder of its own for `PYTHONPATH`: what goes into images, and what makes models.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Cache, Key};
use crate::host;

/// The Python that packages are installed for; Debian 12 has the same minor.
pub const PYTHON: &str = "python3.11";

/// Installs exactly the packages of a lock file under `images/`, unless the cache has them.
///
/// Lock files name every package (pip adds none), and leave out what a machine without a GPU never loads.
pub fn site(cache: &Cache, lock: &str) -> Result<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("images")
        .join(format!("{lock}.txt"));
    let text = fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    let key = Key::new()
        .with(&text)
        .with(host::output(Command::new(PYTHON).arg("--version"))?);
    cache.entry("python", lock, &key, |folder| {
        host::run(
            Command::new(PYTHON)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--no-deps",
                    "--disable-pip-version-check",
                    "--no-warn-script-location",
                    "--target",
                ])
                .arg(folder)
                .arg("-r")
                .arg(&file),
        )
    })
}

/// A Python that sees these folders of packages, the first first.
pub fn command(sites: &[&Path]) -> Result<Command> {
    let mut command = Command::new(PYTHON);
    command
        .env("PYTHONPATH", std::env::join_paths(sites)?)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONNOUSERSITE", "1");
    Ok(command)
}
