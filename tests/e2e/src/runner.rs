//! Which tests a program runs, and with which releases of KServe.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use libtest_mimic::{Arguments, Trial};
use tidewaiter_ground::tools::Kserve;

use crate::KSERVE;

/// The one release that `TIDEWAITER_KSERVE` names. None where nobody asked for one, and the cluster isn't up yet.
///
/// # Errors
/// Where no test runs with it.
pub fn asked_for() -> Result<Option<Kserve>> {
    match std::env::var(KSERVE) {
        Ok(version) => match Kserve::ALL.into_iter().find(|known| known.version() == version) {
            Some(known) => Ok(Some(known)),
            None => bail!(
                "{KSERVE}={version}: the tests know {}",
                Kserve::ALL.map(Kserve::version).join(" and ")
            ),
        },
        // A cluster that is up has one already.
        Err(_) if std::env::var_os("TIDEWAITER_GROUND").is_some() => Ok(Some(Kserve::V0_20)),
        Err(_) => Ok(None),
    }
}

/// Whether a test runs, as the runner itself selects.
pub fn selected(arguments: &Arguments, name: &str) -> bool {
    let fits = |filter: &String| {
        if arguments.exact {
            name == filter
        } else {
            name.contains(filter.as_str())
        }
    };
    arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits)
}

/// Whether those tests run too which the gate has no time for: `TIDEWAITER_CHART=all`, as `cargo xtask test --all` sets it.
pub fn everything() -> bool {
    std::env::var("TIDEWAITER_CHART").is_ok_and(|value| value == "all")
}

/// A test of what is up; where tests are only listed, nothing is.
pub fn trial<W: Send + Sync + 'static>(name: &str, test: fn(&W) -> Result<()>, world: Option<&Arc<W>>) -> Trial {
    let world = world.cloned();
    Trial::test(name, move || {
        let run = || test(world.as_deref().context("what the test needs is not up")?);
        run().map_err(|error| format!("{error:#}").into())
    })
}

/// How a program of tests ends: where it couldn't run them, with the reason.
pub fn ends(ran: Result<ExitCode>) -> ExitCode {
    ran.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
