//! `tidewaiter delete`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::time::Duration;

use anstream::eprintln;
use clap::Args;
use tidewaiter_deployer::cluster::{Cluster, Error};
use tidewaiter_deployer::live::{self, Deleted, Deployed, Progress, Removed};
use tidewaiter_deployer::store::Access;

use super::confirm;
use super::output::dim;
use super::place::{Place, ServiceArguments, duration};
use super::stores::StoreArguments;
use super::table::clean;
use super::{Ending, Failure, GOOD};

/// Delete a service or a graph, and wait until its Pods are gone; or a model on a multi-model server, whose Pods stay.
///
/// Its model stays in the store, unless --artifacts says otherwise: that takes out what `tidewaiter deploy` uploaded for it and nothing else in the cluster is served
/// from. Nothing is done before --yes, or a `y` where there is a terminal to ask on.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is gone, 1 something is left, or it was not agreed to, 2 an error.

Examples:
  tidewaiter delete fraud
  tidewaiter delete fraud --yes --timeout 10m
  tidewaiter delete fraud --yes --no-wait
  tidewaiter delete fraud --yes --artifacts                also what was uploaded for it"
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
    let service = Deployed::read_any(&cluster, &namespace, &arguments.service.name).await?;
    let name = format!("{namespace}/{}", service.name());
    // What can be wrong with the keys is told while the service is still there.
    let (artifacts, access) = if arguments.artifacts {
        (artifacts(&cluster, &service).await?, arguments.store.access()?)
    } else {
        (Vec::new(), Access::default())
    };
    match service.storage_uri() {
        _ if !artifacts.is_empty() => {
            for uri in &artifacts {
                eprintln!(
                    "The model at {} is taken out of its store: nothing else in this cluster is served from it.",
                    clean(uri)
                );
            }
        }
        Some(uri) => eprintln!("The model stays at {}.", clean(&uri)),
        None => {}
    }
    if !confirm::agreed(&format!("Delete {} {name}?", service.what()), arguments.yes)? {
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
                let listed = uploaded(&cluster, &service).await;
                listed.map_err(|error| unseen_afterwards(&error, &name, &artifacts))?
            };
            for uri in artifacts.iter().filter(|uri| !still.contains(uri)) {
                eprintln!("{uri} stays: something else is served from it by now");
            }
            remove(&still, &access).await
        }
        Deleted::Waiting(left) => {
            let service = if left.service { "the service and " } else { "" };
            eprintln!("{service}{} still there", counted(left.pods));
            Ok(Ending::Something)
        }
    }
}

/// What was uploaded for a service, and is no longer needed without it.
async fn artifacts(cluster: &Cluster, service: &Deployed) -> Result<Vec<String>, Failure> {
    let artifacts = uploaded(cluster, service).await;
    let artifacts = artifacts.map_err(|error| unseen(&error))?;
    if artifacts.is_empty() {
        eprintln!(
            "There is nothing to take out of a store: no deploy uploaded it, or something else is served from it."
        );
    }
    Ok(artifacts)
}

async fn uploaded(cluster: &Cluster, service: &Deployed) -> Result<Vec<String>, Error> {
    Ok(live::uploaded(service, &live::naming(cluster).await?))
}

/// Whether something else is served from the models can't be told.
fn unseen(error: &Error) -> Failure {
    Failure {
        message: format!("nothing was deleted, since something else may be served from the model: {error}"),
        next: Some(format!(
            "{}; or leave --artifacts out, and the model stays in its store",
            error.next()
        )),
    }
}

/// The same when the service is gone already.
fn unseen_afterwards(error: &Error, name: &str, artifacts: &[String]) -> Failure {
    let model = artifacts.join(" and ");
    Failure {
        message: format!(
            "{name} is gone, and its model stays at {model}, since something else may be served from it: {error}"
        ),
        next: Some(format!(
            "{}; then look what is served from {model}, and delete it in the store by hand",
            error.next()
        )),
    }
}

async fn remove(artifacts: &[String], access: &Access) -> Result<Ending, Failure> {
    let mut ending = Ending::Nothing;
    for uri in artifacts {
        match live::remove(uri, access).await {
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

#[cfg(test)]
mod tests {
    use tidewaiter_deployer::cluster::{Attempt, kinds};

    use super::*;

    #[test]
    fn a_right_that_is_missing_leaves_everything_as_it_is_and_is_named() {
        let error = Error::Forbidden {
            attempt: Attempt::list(&kinds::LOCAL_MODEL_CACHE, None),
            missing: Vec::new(),
        };
        let told = unseen(&error);
        assert_eq!(
            told.message,
            "nothing was deleted, since something else may be served from the model: not allowed to list localmodelcaches.serving.kserve.io in all namespaces"
        );
        let next = told.next.unwrap_or_default();
        assert!(
            next.starts_with(
                "ask for a role with the verb list on localmodelcaches.serving.kserve.io in the whole cluster"
            ),
            "{next}"
        );
        assert!(
            next.ends_with("or leave --artifacts out, and the model stays in its store"),
            "{next}"
        );
        // Who ran it has no service any more to run it on again.
        let told = unseen_afterwards(&error, "team-a/fraud", &["s3://models/fraud/0f".to_owned()]);
        assert!(
            told.message
                .starts_with("team-a/fraud is gone, and its model stays at s3://models/fraud/0f"),
            "{told}"
        );
        let next = told.next.unwrap_or_default();
        assert!(
            next.ends_with("look what is served from s3://models/fraud/0f, and delete it in the store by hand"),
            "{next}"
        );
    }
}
