//! `tidewaiter.yaml`: what the command knows of a policy's project.

use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use tidewaiter_world::yaml_problem;

/// The manifest's name in a project's folder.
pub const MANIFEST: &str = "tidewaiter.yaml";

/// A language that there is an SDK for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// By the crate `tidewaiter-policy`.
    Rust,
    /// TypeScript and JavaScript, by componentize-qjs.
    TypeScript,
    /// By componentize-py.
    Python,
    /// By the standard compiler.
    Go,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::TypeScript, Self::Python, Self::Go];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::TypeScript => "typescript",
            Self::Python => "python",
            Self::Go => "go",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A project. Paths are relative to its folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What it is written in.
    pub language: Language,
    /// Commands that build it, run in the folder one after the other. Rust needs none: cargo is asked for a release build and says what it made.
    #[serde(default)]
    pub build: Vec<Vec<String>>,
    /// What the commands make: a component, or a core module that a component can be made of. Rust needs none.
    #[serde(default)]
    pub module: Option<PathBuf>,
    /// Where the component goes.
    pub component: PathBuf,
    /// Test cases: a file, or a folder with files. Default: `cases`.
    #[serde(default = "cases")]
    pub cases: PathBuf,
}

/// Where a project has its cases that doesn't say so.
pub const CASES: &str = "cases";

fn cases() -> PathBuf {
    CASES.into()
}

/// Why a project can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is none.
    #[error("{} is no project of a policy: it has no {MANIFEST}", .0.display())]
    None(PathBuf),
    /// It can't be read.
    #[error("{} can't be read: {source}", path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It isn't as a manifest is: where, and why.
    #[error("{0}")]
    Wrong(String),
}

impl Manifest {
    /// Of the project in this folder.
    ///
    /// # Errors
    /// Where there is none, or it is wrong.
    pub fn read(folder: &Path) -> Result<Self, ManifestError> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                ManifestError::None(folder.to_owned())
            } else {
                ManifestError::Read {
                    path: path.clone(),
                    source,
                }
            }
        })?;
        let file = path.display().to_string();
        let wrong = |reason: &str| ManifestError::Wrong(format!("{file}: {reason}"));
        let manifest: Self =
            serde_saphyr::from_str(&text).map_err(|error| ManifestError::Wrong(yaml_problem(&file, &error)))?;
        if manifest.build.iter().any(Vec::is_empty) {
            return Err(wrong("build: a command is a list, as in `- [npm, run, build]`"));
        }
        if manifest.language != Language::Rust && (manifest.build.is_empty() || manifest.module.is_none()) {
            return Err(wrong(&format!(
                "a project in {} says in `build` how it is built, and in `module` what that makes",
                manifest.language
            )));
        }
        Ok(manifest)
    }
}
