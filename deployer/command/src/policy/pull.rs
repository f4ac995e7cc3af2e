//! `tidewaiter policy pull`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fs;
use std::path::PathBuf;

use anstream::{eprintln, println};
use clap::Args;
use tidewaiter_registry::Reference;

use super::super::{Ending, Failure};
use super::registry::{Bar, RegistryArguments};

/// Pull a policy from a registry into a file.
///
/// What comes is checked against its digest and must be a component. The account is the one that `docker login` or `podman login` left.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is here, 2 an error.

Examples:
  tidewaiter policy pull ghcr.io/acme/house-rules:1.2.0
  tidewaiter policy pull ghcr.io/acme/house-rules@sha256:0123… --to rules.wasm
  tidewaiter policy inspect $(tidewaiter policy pull ghcr.io/acme/house-rules:1.2.0)")]
pub(crate) struct PullArguments {
    /// REGISTRY/PATH/NAME:TAG, or @sha256:… in place of the tag
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// The file to write; by default NAME.wasm here
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArguments,
}

pub(super) async fn run(arguments: PullArguments) -> Result<Ending, Failure> {
    let registry = arguments.registry.open(&arguments.reference)?;
    let bar = Bar::new();
    let pulled = registry
        .pull(&arguments.reference, &|progress| bar.show(progress))
        .await?;
    drop(bar);
    let file = arguments.to.unwrap_or_else(|| {
        let name = arguments.reference.repository().rsplit('/').next().unwrap_or("policy");
        PathBuf::from(format!("{name}.wasm"))
    });
    fs::write(&file, &pulled.component).map_err(|error| Failure {
        message: format!("can't write {}: {error}", file.display()),
        next: None,
    })?;
    eprintln!(
        "Pulled {}; its component has the digest {}.",
        arguments.reference.at(&pulled.manifest),
        pulled.digest
    );
    println!("{}", file.display());
    Ok(Ending::Nothing)
}
