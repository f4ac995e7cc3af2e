//! `tidewaiter policy inspect` and `tidewaiter policy docs`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fmt::Write as _;

use anstream::print;
use clap::Args;
use tidewaiter_tools::{About, page};

use super::super::arguments::Format;
use super::super::output::document;
use super::super::table::{clean, table};
use super::super::{BOLD, DIM, Ending, Failure};
use super::project::file_of;
use super::registry::RegistryArguments;
use super::source::{Component, component, engine};

/// Say what a policy is: version, contract, imports, settings, size, digest.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 a policy that this version can load, 2 an error.

Examples:
  tidewaiter policy inspect house-rules.wasm
  tidewaiter policy inspect oci://ghcr.io/acme/house-rules:1.2.0
  tidewaiter policy inspect storage-credentials -o yaml   one that Tidewaiter ships")]
pub(crate) struct InspectArguments {
    /// A project's folder, a component's file, `oci://REGISTRY/NAME:TAG`, or the name of a built-in policy
    #[arg(value_name = "FOLDER|FILE")]
    source: String,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    registry: RegistryArguments,
}

/// Print a page about a policy, in Markdown, from what it says of itself.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 2 an error.

Examples:
  tidewaiter policy docs house-rules.wasm > README.md")]
pub(crate) struct DocsArguments {
    /// A project's folder, a component's file, `oci://REGISTRY/NAME:TAG`, or the name of a built-in policy
    #[arg(value_name = "FOLDER|FILE")]
    source: String,
    #[command(flatten)]
    registry: RegistryArguments,
}

pub(super) async fn run(arguments: InspectArguments) -> Result<Ending, Failure> {
    let (about, _) = about(&arguments.source, &arguments.registry).await?;
    match arguments.output {
        Some(format) => print!("{}", document(&about, format)?),
        None => print!("{}", shown(&about)),
    }
    Ok(Ending::Nothing)
}

pub(super) async fn docs(arguments: DocsArguments) -> Result<Ending, Failure> {
    let (about, component) = about(&arguments.source, &arguments.registry).await?;
    print!("{}", page(&about, &component.origin));
    Ok(Ending::Nothing)
}

async fn about(source: &str, registry: &RegistryArguments) -> Result<(About, Component), Failure> {
    let component = component(&file_of(source)?, registry).await?;
    let about = About::read(&engine()?, component.bytes.clone()).await;
    let about = about.map_err(|error| Failure {
        message: format!("{source}: {error}"),
        next: Some("`tidewaiter policy build` makes a component of a project".to_owned()),
    })?;
    Ok((about, component))
}

fn shown(about: &About) -> String {
    let mut text = format!(
        "{BOLD}{}{BOLD:#} {}\n{}\n\n",
        clean(&about.name),
        clean(&about.version),
        clean(&about.summary)
    );
    let list = |names: &[String]| match names {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    };
    let capabilities: Vec<_> = about.capabilities.iter().map(|one| one.as_str().to_owned()).collect();
    for (name, value) in [
        (
            "contract",
            about.contract.clone().unwrap_or_else(|| "not named".to_owned()),
        ),
        ("imports", list(&about.imports)),
        ("exports", list(&about.exports)),
        ("capabilities", list(&capabilities)),
        ("size", format!("{} KiB", about.size.div_ceil(1024))),
        ("digest", about.digest.clone()),
    ] {
        let _ = writeln!(text, "{DIM}{name:<14}{DIM:#}{}", clean(&value));
    }
    if about.settings.is_empty() {
        let none = if about.settings_schema.is_some() {
            "It has no settings."
        } else {
            "It says nothing of its settings: it has no schema."
        };
        let _ = writeln!(text, "\n{none}");
        return text;
    }
    let rows: Vec<_> = about
        .settings
        .iter()
        .map(|setting| {
            let default = match (&setting.default, setting.required) {
                (Some(default), _) => default.to_string(),
                (None, true) => "required".to_owned(),
                (None, false) => String::new(),
            };
            [
                setting.path.clone(),
                setting.kind.clone(),
                default,
                setting.description.clone(),
            ]
        })
        .collect();
    let _ = write!(
        text,
        "\n{}",
        table(["SETTING", "KIND", "DEFAULT", "DESCRIPTION"], &rows)
    );
    text
}
