//! `tidewaiter delete`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeSet;
use std::time::Duration;

use anstream::eprintln;
use clap::Args;
use tidewaiter_deployer::cluster::{Cluster, kinds};
use tidewaiter_deployer::live::{self, Deleted, Deployed, Progress, Removed};

use super::confirm;
use super::output::dim;
use super::place::{Place, ServiceArguments, duration};
use super::stores::StoreArguments;
use super::table::clean;
use super::{Ending, Failure, GOOD};

/// Delete a service, and wait until its Pods are gone.
///
/// Its model stays in the store, unless --artifacts says otherwise: that takes out what `tidewaiter deploy` uploaded for it and no other service of the cluster is
/// served from. Nothing is done before --yes, or a `y` where there is a terminal to ask on.
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
    #[arg(long, conflicts_with = "artifacts")]
    no_wait: bool,
    /// Take what was uploaded for it out of the store as well
    #[arg(long)]
    artifacts: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    store: StoreArguments,
}

pub(super) async fn run(arguments: DeleteArguments) -> Result<Ending, Failure> {
    let Place { cluster, namespace, .. } = arguments.service.place.open(&[]).await?;
    let service = Deployed::read(&cluster, &namespace, &arguments.service.name).await?;
    let name = format!("{namespace}/{}", service.name());
    let artifacts = if arguments.artifacts {
        artifacts(&cluster, &service).await?
    } else {
        Vec::new()
    };
    match service.storage_uri() {
        _ if !artifacts.is_empty() => {
            for uri in &artifacts {
                eprintln!(
                    "The model at {} is taken out of its store: no other service of this cluster is served from it.",
                    clean(uri)
                );
            }
        }
        Some(uri) => eprintln!("The model stays at {}.", clean(&uri)),
        None => {}
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
            // Somebody may have begun to serve the same meanwhile.
            let still = if artifacts.is_empty() {
                Vec::new()
            } else {
                uploaded(&cluster, &service).await?
            };
            for uri in artifacts.iter().filter(|uri| !still.contains(uri)) {
                eprintln!("{uri} stays: another service is served from it by now");
            }
            remove(&still, &arguments.store).await
        }
        Deleted::Waiting(left) => {
            let service = if left.service { "the service and " } else { "" };
            eprintln!("{service}{} still there", counted(left.pods));
            Ok(Ending::Something)
        }
    }
}

/// What was uploaded for a service. All services have to be known: one that can't be seen may be served from the same model.
async fn artifacts(cluster: &Cluster, service: &Deployed) -> Result<Vec<String>, Failure> {
    let artifacts = uploaded(cluster, service).await?;
    if artifacts.is_empty() {
        eprintln!(
            "There is nothing to take out of a store: no deploy uploaded it, or another service is served from it."
        );
    }
    Ok(artifacts)
}

async fn uploaded(cluster: &Cluster, service: &Deployed) -> Result<Vec<String>, Failure> {
    let all = live::list(cluster, None).await?;
    let mut trained = BTreeSet::new();
    for model in cluster.list_if_known(&kinds::TRAINED_MODEL, None).await? {
        live::places(&model.data["spec"], &mut trained);
    }
    Ok(live::uploaded(service, &all, &trained))
}

async fn remove(artifacts: &[String], store: &StoreArguments) -> Result<Ending, Failure> {
    if artifacts.is_empty() {
        return Ok(Ending::Nothing);
    }
    let access = store.access()?;
    let mut ending = Ending::Nothing;
    for uri in artifacts {
        match live::remove(uri, &access).await {
            Ok(Removed::Gone { files, bytes }) => eprintln!("{uri}: {files} files, {bytes} bytes are gone"),
            Ok(Removed::NotOurs) => {
                ending = Ending::Something;
                eprintln!("{uri} stays: no upload of Tidewaiter's left its manifest there");
            }
            Err(error) => {
                return Err(Failure {
                    next: Some(error.next()),
                    message: format!("the service is gone, and {uri} is not: {error}"),
                });
            }
        }
    }
    Ok(ending)
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
