//! Measuring on a real control plane: this program again, inside of the ground's own namespaces.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::{Cluster, Options, sandbox};

/// Builds the ground's servers where the cache lacks them, and runs the hidden command `role` inside of a ground.
///
/// # Errors
/// Why there is no ground here, or what went wrong in it.
pub(crate) fn measure<T: DeserializeOwned>(role: &str, options: Options) -> Result<T> {
    let cache = Cache::open()?;
    Cluster::prepare(&cache, options)?;
    let folder = tempfile::tempdir()?;
    let figures = folder.path().join("figures.json");
    let own = std::env::current_exe()?;
    let mut command = vec![OsString::from("env")];
    if options.node {
        // What Pods run, and what compiles its policies; built beside this program.
        for (variable, name) in [
            ("TIDEWAITER_WEBHOOK=", "tidewaiter-webhook"),
            ("TIDEWAITER_IMAGE=", "tidewaiter-image"),
        ] {
            let program = own.with_file_name(name);
            ensure!(
                program.is_file(),
                "{} is missing: start this by `cargo xtask bench`, which builds it",
                program.display()
            );
            let mut given = OsString::from(variable);
            given.push(program);
            command.push(given);
        }
    }
    command.extend([own.into(), role.into(), OsString::from(&figures)]);
    let status = sandbox::enter(&cache, None, &command)?;
    let said =
        fs::read(&figures).with_context(|| format!("the part on the cluster ended with {status} and no figures"))?;
    serde_json::from_slice::<Result<T, String>>(&said)?.map_err(|error| anyhow!(error))
}

/// What the part inside tells the one outside.
pub(crate) fn tell<T: Serialize>(figures: &Path, measured: Result<T>) -> Result<()> {
    let said = measured.map_err(|error| format!("{error:#}"));
    Ok(fs::write(figures, serde_json::to_vec(&said)?)?)
}

/// The cluster of the ground that this process is in.
pub(crate) fn cluster(options: Options) -> Result<Cluster> {
    let folder = sandbox::inside().context("this is for the ground's own namespaces")?;
    Cluster::start(&Cache::open()?, &folder, options)
}
