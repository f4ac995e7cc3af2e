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
    /// What its sources' names end with.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["rs", "toml"],
            Self::TypeScript => &["ts", "js"],
            Self::Python => &["py"],
            Self::Go => &["go"],
        }
    }

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

    /// A source in the project's folder that was changed after the component was built, relative to the folder; none where there is none, or nobody can say. What
    /// compilers leave there isn't looked at.
    pub fn changed_since(&self, folder: &Path) -> Option<PathBuf> {
        let built = fs::metadata(folder.join(&self.component)).ok()?.modified().ok()?;
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).ok()?.flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    if !name.starts_with('.') && !BUILT.contains(&&*name) {
                        folders.push(path);
                    }
                    continue;
                }
                let ending = path.extension().and_then(|ending| ending.to_str());
                let is_source = ending.is_some_and(|ending| self.language.endings().contains(&ending));
                if is_source && metadata.modified().is_ok_and(|changed| changed > built) {
                    return Some(path.strip_prefix(folder).unwrap_or(&path).to_owned());
                }
            }
        }
        None
    }
}

/// Folders that a build fills.
const BUILT: [&str; 6] = ["target", "node_modules", "dist", "build", "__pycache__", "generated"];

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_source_that_was_changed_after_the_build_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str, minutes: u64| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = fs::File::create(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_mins(minutes))
                .unwrap();
        };
        let text = "language: rust\ncomponent: rules.wasm\n";
        fs::write(folder.path().join(MANIFEST), text).unwrap();
        let manifest = Manifest::read(folder.path()).unwrap();
        at("src/lib.rs", 5);
        assert_eq!(manifest.changed_since(folder.path()), None, "nothing was built");
        at("rules.wasm", 4);
        for other in [
            "target/debug/build.rs",
            ".git/hook.rs",
            "src/notes.md",
            "cases/own.yaml",
        ] {
            at(other, 1);
        }
        assert_eq!(manifest.changed_since(folder.path()), None);
        at("src/lib.rs", 3);
        assert_eq!(manifest.changed_since(folder.path()), Some(PathBuf::from("src/lib.rs")));
    }
}
