//! `tidewaiter policy push`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fs;
use std::path::PathBuf;

use anstream::{eprintln, print, println};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use tidewaiter_registry::{About, Reference};

use super::super::arguments::Format;
use super::super::{Ending, Failure, output};
use super::registry::{Bar, RegistryArguments, created};
use super::source::engine;

/// Push a policy to a registry, as a Wasm artifact in the CNCF's layout.
///
/// Nothing is sent of a file that no WasmPolicy could load.
///
/// The account is the one that `docker login` or `podman login` left. Prints the reference with the digest of its manifest, which is what a WasmPolicy pins and
/// what is signed. With SOURCE_DATE_EPOCH the same file has the same digest.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is there, 2 an error.

Examples:
  tidewaiter policy push house-rules.wasm ghcr.io/acme/house-rules:1.2.0
  tidewaiter policy push house-rules.wasm localhost:5000/house-rules:dev
  tidewaiter policy push house-rules.wasm ghcr.io/acme/house-rules:1.2.0 \\
      --annotation org.opencontainers.image.source=https://github.com/acme/house-rules")]
pub(crate) struct PushArguments {
    /// The component's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to: REGISTRY/PATH/NAME:TAG
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// An annotation of the manifest; may be given several times
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// Who made it
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    registry: RegistryArguments,
}

/// What is printed for a program. Its fields stay as they are.
#[derive(Serialize)]
struct Printed {
    reference: String,
    manifest: String,
    digest: String,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(arguments: PushArguments) -> Result<Ending, Failure> {
    let component = fs::read(&arguments.file).map_err(|error| Failure {
        message: format!("can't read {}: {error}", arguments.file.display()),
        next: Some("`tidewaiter policy build` makes a component of a project".to_owned()),
    })?;
    let component = Bytes::from(component);
    let loads = tidewaiter_tools::About::read(&engine()?, component.clone()).await;
    loads.map_err(|error| Failure {
        message: format!("{} is not pushed: {error}", arguments.file.display()),
        next: Some(
            "`tidewaiter policy build` makes a component of a project, and says whether it can be used".to_owned(),
        ),
    })?;
    let registry = arguments.registry.open(&arguments.reference)?;
    let about = About {
        created: created()?,
        author: arguments.author,
        annotations: arguments.annotations.into_iter().collect(),
    };
    let bar = Bar::new();
    let pushed = registry
        .push(&arguments.reference, component, &about, &|progress| bar.show(progress))
        .await?;
    drop(bar);
    let exactly = arguments.reference.at(&pushed.manifest).to_string();
    if let Some(format) = arguments.output {
        let printed = Printed {
            reference: exactly,
            manifest: pushed.manifest.to_string(),
            digest: pushed.digest.to_string(),
        };
        print!("{}", output::document(&printed, format)?);
    } else {
        eprintln!(
            "Pushed {}; its component has the digest {}.",
            arguments.reference, pushed.digest
        );
        println!("{exactly}");
    }
    Ok(Ending::Nothing)
}
