//! `tidewaiter policy new` and `tidewaiter policy build`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::path::{Path, PathBuf};

use anstream::{eprintln, println};
use clap::{Args, ValueEnum};
use tidewaiter_tools::{
    About, BuildError, Language, Manifest, ManifestError, NewError, Sdk, image_of, new_project, pasted,
};

use super::super::output::note;
use super::super::{Ending, Failure, GOOD, HINT};
use super::source::engine;

/// Make a project for a policy, which builds and passes its own test as it is made.
///
/// The SDK is not in the languages' registries yet. Unless --sdk names another place, the project gets a copy of the one that came with this command, in its folder
/// `sdk`. Dependencies of the SDK come from the language's own registry when the project is built.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 made, 2 an error.

Examples:
  tidewaiter policy new house-rules --language rust
  tidewaiter policy new house-rules --language python --dir policies/house-rules
  tidewaiter policy new house-rules --language rust --sdk ~/src/tidewaiter   of a checkout")]
pub(crate) struct NewArguments {
    /// The policy's name: lower-case letters, digits and `-`
    #[arg(value_name = "NAME")]
    name: String,
    /// What it is written in
    #[arg(long, short, value_enum, value_name = "LANGUAGE", default_value = "rust")]
    language: LanguageName,
    /// The folder to make, in place of ./NAME
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Where the SDK is: a checkout of Tidewaiter's repository, or for Rust the URL of a Git repository; by default a copy that the project gets
    #[arg(long, value_name = "WHERE")]
    sdk: Option<String>,
}

/// A language that there is an SDK for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LanguageName {
    /// Rust
    Rust,
    /// TypeScript, or JavaScript
    #[value(alias = "javascript")]
    Typescript,
    /// Python
    Python,
    /// Go
    Go,
}

impl From<LanguageName> for Language {
    fn from(name: LanguageName) -> Self {
        match name {
            LanguageName::Rust => Self::Rust,
            LanguageName::Typescript => Self::TypeScript,
            LanguageName::Python => Self::Python,
            LanguageName::Go => Self::Go,
        }
    }
}

/// Build a policy: run its language's compiler, make a component of the result, and see that it fits the contract.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 built, and it fits the contract; 2 an error.

Examples:
  tidewaiter policy build
  tidewaiter policy build policies/house-rules")]
pub(crate) struct BuildArguments {
    /// The project's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
}

pub(super) fn new(arguments: NewArguments) -> Result<Ending, Failure> {
    let folder = arguments.dir.unwrap_or_else(|| PathBuf::from(&arguments.name));
    let sdk = sdk(arguments.sdk.as_deref())?;
    let files = new_project(&folder, &arguments.name, arguments.language.into(), &sdk)?;
    for file in files {
        println!("{}", file.display());
    }
    let place = pasted(&folder);
    eprintln!("\n{GOOD}Made.{GOOD:#} Now:\n  tidewaiter policy build {place}\n  tidewaiter policy test {place}");
    Ok(Ending::Nothing)
}

fn sdk(named: Option<&str>) -> Result<Sdk, Failure> {
    let Some(named) = named else { return Ok(Sdk::Bundled) };
    if named.contains("://") || named.starts_with("git@") {
        return Ok(Sdk::Git(named.to_owned()));
    }
    let failed = |reason: String| Failure {
        message: format!("--sdk {named}: {reason}"),
        next: Some("name a checkout of Tidewaiter's repository, or leave --sdk out".to_owned()),
    };
    let root = std::fs::canonicalize(named).map_err(|error| failed(error.to_string()))?;
    if !root.join("policies/sdk/Cargo.toml").is_file() {
        return Err(failed("there is no policies/sdk in it".to_owned()));
    }
    Ok(Sdk::Path(root))
}

pub(super) async fn build(arguments: BuildArguments) -> Result<Ending, Failure> {
    let manifest = Manifest::read(&arguments.folder)?;
    let built = manifest.build(&arguments.folder)?;
    let about = About::read(&engine()?, built.component.into()).await;
    let about = about.map_err(|error| Failure {
        message: format!("{} is built, and can't be used: {error}", built.path.display()),
        next: None,
    })?;
    println!("{}", built.path.display());
    let imports = match about.imports.as_slice() {
        [] => "nothing".to_owned(),
        imports => imports.join(", "),
    };
    eprintln!(
        "{GOOD}{} {}{GOOD:#}, {} KiB{}, imports {imports}",
        about.name,
        about.version,
        about.size.div_ceil(1024),
        if built.adapted {
            ", a component of a core module"
        } else {
            ""
        },
    );
    eprintln!(
        "\n{GOOD}Built.{GOOD:#} Now:\n  tidewaiter policy test {}\n  tidewaiter policy push {} {}",
        pasted(&arguments.folder),
        pasted(&built.path),
        image_of(&about),
    );
    if about.settings_schema.is_none() {
        eprintln!(
            "\n{HINT}hint{HINT:#}: it says nothing of its settings; with a schema, wrong ones are refused when they are applied"
        );
    }
    Ok(Ending::Nothing)
}

/// A component's file: of a project what it built.
pub(super) fn file_of(source: &str) -> Result<String, Failure> {
    let path = Path::new(source);
    if !path.is_dir() {
        return Ok(source.to_owned());
    }
    let manifest = Manifest::read(path)?;
    Ok(component_of(path, &manifest)?.display().to_string())
}

/// The component of a project, where it was built.
pub(super) fn component_of(folder: &Path, manifest: &Manifest) -> Result<PathBuf, Failure> {
    let path = folder.join(&manifest.component);
    if path.is_file() {
        if let Some(source) = manifest.changed_since(folder) {
            note(&format!(
                "{} was changed since {} was built: `tidewaiter policy build {}` builds it anew",
                source.display(),
                manifest.component.display(),
                pasted(folder)
            ));
        }
        return Ok(path);
    }
    Err(Failure {
        message: format!("{} is not there: the project isn't built yet", path.display()),
        next: Some(format!("tidewaiter policy build {}", pasted(folder))),
    })
}

impl From<NewError> for Failure {
    fn from(error: NewError) -> Self {
        Self {
            message: error.to_string(),
            next: None,
        }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self {
            message: error.to_string(),
            next: Some("`tidewaiter policy new` makes a project; a component's file can be named, too".to_owned()),
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self {
            message: error.to_string(),
            next: None,
        }
    }
}
