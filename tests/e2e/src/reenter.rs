//! From a program's start to a cluster around it.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::{Cluster, Options, mlflow, models, sandbox};

use crate::server::webhook_binary;

/// Tells a process inside which release of KServe its cluster is to have.
pub const KSERVE: &str = "TIDEWAITER_KSERVE";

/// Outside of the ground: builds what is missing, and starts this program again inside, with the variables that `build` gives. Inside: has a
/// cluster, and calls `work`.
///
/// `TIDEWAITER_GROUND` names a cluster that is up; without it one is brought up, which ends with the program.
pub fn in_the_ground(
    options: Options,
    build: impl FnOnce() -> Result<Vec<(&'static str, OsString)>>,
    work: impl FnOnce(Cluster) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let Some(folder) = sandbox::inside() else {
        let mut variables = vec![
            ("TIDEWAITER_WEBHOOK", webhook_binary()?.into_os_string()),
            (KSERVE, options.kserve.version().into()),
        ];
        variables.extend(build()?);
        let mut command = vec![OsString::from("env")];
        for (name, value) in variables {
            let mut variable = OsString::from(name);
            variable.push("=");
            variable.push(value);
            command.push(variable);
        }
        command.push(std::env::current_exe()?.into_os_string());
        command.extend(std::env::args_os().skip(1));
        Cluster::prepare(&cache, options)?;
        models::prepare(&cache)?;
        mlflow::prepare(&cache)?;
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
