//! A new project, from the template of its language.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::Language;

/// A file's path, and its content.
type File = (&'static str, &'static [u8]);

/// What this build has of a language.
struct Embedded {
    language: &'static str,
    /// Files of the SDK, where they are in Tidewaiter's repository.
    sdk: &'static [File],
    /// Files of a new project. Paths and contents may hold `{{name}}`, `{{module}}` (the name with `_`), `{{sdk}}` and `{{version}}`.
    template: &'static [File],
}

const EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Where a project keeps the SDK that came with the command.
const OWN_SDK: &str = "sdk";

/// Why a project can't be made.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// A policy's name is a DNS label.
    #[error(
        "`{0}` can't be a policy's name: it is lower-case letters, digits and `-`, begins with a letter, and has 63 characters at most"
    )]
    Name(String),
    /// A project of this name can't be built, or its code not be named.
    #[error("a project in {language} can't be called `{name}`: {reason}; add a word, as in `{name}-rules`")]
    Taken {
        /// The name.
        name: String,
        /// The project's language.
        language: Language,
        /// Whose name it is.
        reason: &'static str,
    },
    /// Something is there.
    #[error("{} is there already, and not empty; name another folder with --dir", .0.display())]
    There(PathBuf),
    /// No template for it.
    #[error("this build has no template for {0}")]
    NoTemplate(Language),
    /// Only cargo can use a folder of a Git repository.
    #[error(
        "the package manager of {0} can't use a folder of a Git repository: check it out, and name the checkout with --sdk"
    )]
    Git(Language),
    /// A file can't be written.
    #[error("{} can't be written: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Crates that every project in Rust stands on.
const CRATES: [&str; 3] = ["serde", "tidewaiter-core", "tidewaiter-policy"];
/// Crates that come with Rust, as cargo knows them.
const RUST: [&str; 5] = ["alloc", "core", "proc-macro", "std", "test"];
/// Rust's keywords, of every edition and reserved ones (The Rust Reference, Keywords).
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
/// Names of one word that Go's standard library has, or that no module can have (`go list std`; for the others `go list` says so in a module of that name).
const GO: [&str; 46] = [
    "arena",
    "bufio",
    "builtin",
    "bytes",
    "cmd",
    "cmp",
    "context",
    "crypto",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "runtime",
    "slices",
    "sort",
    "std",
    "strconv",
    "strings",
    "structs",
    "sync",
    "syscall",
    "testing",
    "time",
    "toolchain",
    "unicode",
    "unique",
    "unsafe",
    "weak",
];

/// Why a project can't have a name that a policy could. In TypeScript and Python nothing that is built is called as the project is.
fn taken(name: &str, language: Language) -> Option<&'static str> {
    match language {
        Language::Rust if CRATES.contains(&name) => Some("a crate that it stands on has that name"),
        Language::Rust if RUST.contains(&name) => Some("a crate of Rust's own has that name"),
        Language::Rust if KEYWORDS.contains(&name) => Some("it is a keyword of Rust, and no crate's name"),
        Language::Go if GO.contains(&name) => Some("Go keeps that name for itself"),
        _ => None,
    }
}

/// Where a project finds the SDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// In the project itself: a copy of the one that came with this command.
    Bundled,
    /// In a checkout of Tidewaiter's repository: its root.
    Path(PathBuf),
    /// In a Git repository, at the tag of this version. Only for Rust, whose package manager can look into a folder of one.
    Git(String),
}

impl Sdk {
    /// As the manifest of the language's package manager names the SDK.
    fn written(&self, language: Language) -> Result<String, NewError> {
        let folder = match language {
            Language::Rust => "policies/sdk",
            Language::TypeScript => "policies/sdk-typescript",
            Language::Python => "policies/sdk-python",
            Language::Go => "policies/sdk-go",
        };
        let place = match self {
            Self::Bundled => format!("./{OWN_SDK}/{folder}"),
            Self::Path(root) => root.join(folder).display().to_string(),
            Self::Git(url) if language == Language::Rust => {
                return Ok(format!("git = {url:?}, tag = \"v{}\"", env!("CARGO_PKG_VERSION")));
            }
            Self::Git(_) => return Err(NewError::Git(language)),
        };
        Ok(match language {
            Language::Rust => format!("path = {place:?}"),
            _ => place,
        })
    }
}

/// Makes a project in a folder that isn't there, or is empty. Returns its files, in order, without those of the SDK.
///
/// # Errors
/// Where the name is none, something is there, or a file can't be written.
pub fn new_project(folder: &Path, name: &str, language: Language, sdk: &Sdk) -> Result<Vec<PathBuf>, NewError> {
    let letters = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !letters || name.len() > 63 || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        return Err(NewError::Name(name.to_owned()));
    }
    if let Some(reason) = taken(name, language) {
        return Err(NewError::Taken {
            name: name.to_owned(),
            language,
            reason,
        });
    }
    let embedded = EMBEDDED.iter().find(|embedded| embedded.language == language.as_str());
    let embedded = embedded.ok_or(NewError::NoTemplate(language))?;
    let written = sdk.written(language)?;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(NewError::There(folder.to_owned()));
    }
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{module}}", &name.replace('-', "_"))
            .replace("{{sdk}}", &written)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let mut files = Vec::new();
    for (path, content) in embedded.template {
        let path = folder.join(fill(path));
        match std::str::from_utf8(content) {
            Ok(text) => write(&path, fill(text).as_bytes())?,
            Err(_) => write(&path, content)?,
        }
        files.push(path);
    }
    if *sdk == Sdk::Bundled {
        for (path, content) in embedded.sdk {
            write(&folder.join(OWN_SDK).join(path), content)?;
        }
    }
    Ok(files)
}

fn write(path: &Path, content: &[u8]) -> Result<(), NewError> {
    let failed = |source| NewError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, content).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_label_in_a_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = Sdk::Path("/src".into());
        for name in ["House", "9lives", "a_b", "", "a-", &"x".repeat(64)] {
            let made = new_project(&folder.path().join("p"), name, Language::Rust, &sdk);
            assert!(matches!(made, Err(NewError::Name(_))), "{name}");
        }
    }

    #[test]
    fn a_name_that_would_not_build_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str, language| {
            let folder = folder.path().join(format!("{name}-{language}"));
            new_project(&folder, name, language, &Sdk::Path("/src".into()))
        };
        let refused = |name: &str, language| made(name, language).unwrap_err().to_string();
        assert_eq!(
            refused("tidewaiter-policy", Language::Rust),
            "a project in rust can't be called `tidewaiter-policy`: a crate that it stands on has that name; add a word, as in `tidewaiter-policy-rules`"
        );
        assert!(refused("core", Language::Rust).contains("a crate of Rust's own"));
        assert!(refused("match", Language::Rust).contains("a keyword of Rust"));
        assert!(refused("fmt", Language::Go).contains("Go keeps that name"));
        for (name, language) in [
            ("tidewaiter-policy", Language::Go),
            ("fmt", Language::Rust),
            ("match", Language::Python),
            ("typescript", Language::TypeScript),
        ] {
            made(name, language).unwrap();
        }
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = Sdk::Git("https://example.com/tidewaiter".into());
        let files = new_project(folder.path(), "house-rules", Language::Rust, &sdk).unwrap();
        assert!(files.iter().all(|file| file.is_file()));
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            assert!(!text.contains("{{"), "{}: {text}", file.display());
        }
        let again = new_project(folder.path(), "house-rules", Language::Rust, &sdk);
        assert!(matches!(again, Err(NewError::There(_))));
    }

    #[test]
    fn a_project_can_bring_the_sdk_along() {
        let folder = tempfile::tempdir().unwrap();
        new_project(folder.path(), "house-rules", Language::Rust, &Sdk::Bundled).unwrap();
        for file in [
            "sdk/Cargo.toml",
            "sdk/core/src/lib.rs",
            "sdk/policies/sdk/src/lib.rs",
            "sdk/policies/wit/policy.wit",
        ] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
        let manifest = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
        assert!(manifest.contains(r#"path = "./sdk/policies/sdk""#), "{manifest}");
    }
}
