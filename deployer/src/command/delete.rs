//! `tidewaiter delete`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::time::Duration;

use anstream::eprintln;
use clap::Args;
use tidewaiter_deployer::live::{self, Deleted, Deployed, Progress};

use super::confirm;
use super::output::dim;
use super::place::{Place, ServiceArguments, duration};
use super::table::clean;
use super::{Ending, Failure, GOOD};

/// Delete a service, and wait until its Pods are gone.
///
/// Its model stays in the store. Nothing is done before --yes, or a `y` where there is a terminal to ask on.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is gone, 1 something is left, or it was not agreed to, 2 an error.

Examples:
  tidewaiter delete fraud
  tidewaiter delete fraud --yes --timeout 10m
  tidewaiter delete fraud --yes --no-wait"
)]
pub(crate) struct DeleteArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    /// Don't wait until it is gone
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

pub(super) async fn run(arguments: DeleteArguments) -> Result<Ending, Failure> {
    let Place { cluster, namespace, .. } = arguments.service.place.open(&[]).await?;
    let service = Deployed::read(&cluster, &namespace, &arguments.service.name).await?;
    let name = format!("{namespace}/{}", service.name());
    if let Some(uri) = service.storage_uri() {
        eprintln!("The model stays at {}.", clean(&uri));
    }
    if !confirm::agreed(&format!("Delete service {name}?"), arguments.yes)? {
        return Ok(Ending::Something);
    }
    live::delete(&cluster, &service).await?;
    if arguments.no_wait {
        eprintln!("{GOOD}{name}{GOOD:#} is being deleted");
        return Ok(Ending::Nothing);
    }
    match live::until_gone(&cluster, &service, true, arguments.timeout, waiting).await? {
        Deleted::Gone => {
            eprintln!("{GOOD}{name}{GOOD:#} is gone");
            Ok(Ending::Nothing)
        }
        Deleted::Waiting(left) => {
            let service = if left.service { "the service and " } else { "" };
            eprintln!("{service}{} still there", counted(left.pods));
            Ok(Ending::Something)
        }
    }
}

/// What is waited for.
pub(super) fn waiting(left: Progress) {
    let service = if left.service { "the service, " } else { "" };
    eprintln!("{}", dim(&format!("{service}{} still there", counted(left.pods))));
}

pub(super) fn counted(pods: usize) -> String {
    if pods == 1 {
        "1 Pod is".to_owned()
    } else {
        format!("{pods} Pods are")
    }
}
