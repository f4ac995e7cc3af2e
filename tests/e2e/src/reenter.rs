//! From a program's start to a cluster around it.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::{Cluster, Options, models, sandbox};

use crate::webhook_binary;

/// Outside of the ground: builds what is missing, and starts this program again inside. Inside: has a cluster, and calls `work`.
///
/// `TIDEWAITER_GROUND` names a cluster that is up; without it one is brought up, which ends with the program.
pub fn in_the_ground(options: Options, work: impl FnOnce(Cluster) -> Result<ExitCode>) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let Some(folder) = sandbox::inside() else {
        let mut command = vec![
            OsString::from("env"),
            variable("TIDEWAITER_WEBHOOK", webhook_binary()?.as_os_str()),
        ];
        command.push(std::env::current_exe()?.into_os_string());
        command.extend(std::env::args_os().skip(1));
        Cluster::prepare(&cache, options)?;
        models::prepare(&cache)?;
        let status = match std::env::var("TIDEWAITER_GROUND") {
            Ok(name) => sandbox::join(&cache, &name, &command)?,
            Err(_) => sandbox::enter(&cache, None, &command)?,
        };
        return Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from));
    };
    let cluster = if Cluster::is_ready(&folder) {
        Cluster::attach(&cache, &folder)
    } else {
        Cluster::start(&cache, &folder, options)
    };
    work(cluster.context("there is no cluster to work on")?)
}

fn variable(name: &str, value: &OsStr) -> OsString {
    let mut variable = OsString::from(name);
    variable.push("=");
    variable.push(value);
    variable
}
