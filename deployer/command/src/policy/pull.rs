//! `tidewaiter policy pull`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

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
    let named = arguments.to.is_some();
    let file = arguments.to.unwrap_or_else(|| {
        let name = arguments.reference.repository().rsplit('/').next().unwrap_or("policy");
        PathBuf::from(format!("{name}.wasm"))
    });
    write(&file, &pulled.component, named).map_err(|error| Failure {
        message: format!("can't write {}: {error}", file.display()),
        next: (error.kind() == ErrorKind::AlreadyExists).then(|| {
            format!(
                "--to names another file, or this one, to write over it: --to {}",
                file.display()
            )
        }),
    })?;
    eprintln!(
        "Pulled {}; its component has the digest {}.",
        arguments.reference.at(&pulled.manifest),
        pulled.digest
    );
    println!("{}", file.display());
    Ok(Ending::Nothing)
}

/// Writes it whole or not at all, and over another file only where that was `named`: in its author's folder the same name may be what was built.
fn write(file: &Path, component: &[u8], named: bool) -> io::Result<()> {
    if !named && fs::read(file).is_ok_and(|there| there != component) {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "another file is there"));
    }
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, component)?;
    fs::rename(&part, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_written_over_only_where_it_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.wasm");
        write(&file, b"one", false).unwrap();
        write(&file, b"one", false).unwrap();
        assert_eq!(
            write(&file, b"two", false).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&file).unwrap(), b"one");
        write(&file, b"two", true).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
