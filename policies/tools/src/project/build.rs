//! From a project to a component.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as ADAPTER;

use super::adapt::{self, AdaptError};
use super::manifest::{Language, Manifest};

/// How Rust policies are compiled.
const TARGET: &str = "wasm32-unknown-unknown";

/// Why a project can't be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A program that builds it isn't there.
    #[error("`{program}` is not there, and a policy in {language} is built by it; {}", how(*.language, .program))]
    Missing {
        /// The program.
        program: String,
        /// The project's language.
        language: Language,
    },
    /// A program can't be started.
    #[error("`{program}` can't be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Rust's target for WebAssembly isn't there.
    #[error(
        "Rust's target {TARGET} is not installed, and policies are compiled for it; run `rustup target add {TARGET}`"
    )]
    Target,
    /// The build says what is wrong.
    #[error("`{0}` failed; what it says stands above")]
    Failed(String),
    /// Cargo made something else.
    #[error("cargo made no WebAssembly module: Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`")]
    NoModule,
    /// A file of the project.
    #[error("{} can't be read or written: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No component can be made of it.
    #[error(transparent)]
    Adapt(#[from] AdaptError),
}

/// How a missing program is had.
fn how(language: Language, program: &str) -> String {
    match (language, program) {
        (Language::Rust, _) => "install Rust by rustup (rustup.rs)".to_owned(),
        (Language::TypeScript, "npm" | "npx" | "node") => "install Node.js 20 or newer (nodejs.org)".to_owned(),
        (Language::Python, "python3" | "python" | "pip") => "install Python 3.10 or newer (python.org)".to_owned(),
        (Language::Python, "componentize-py") => "run `pip install componentize-py`".to_owned(),
        (Language::Go, "go") => "install Go 1.25 or newer (go.dev)".to_owned(),
        _ => "install it, or correct `build` in tidewaiter.yaml".to_owned(),
    }
}

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The component's file.
    pub path: PathBuf,
    /// The component.
    pub component: Vec<u8>,
    /// The compiler made a core module, of which this was made.
    pub adapted: bool,
}

impl Manifest {
    /// Builds the project in this folder, and writes its component. What the programs say goes to standard error.
    ///
    /// # Errors
    /// Where a program is missing or fails, or what it makes can't become a component.
    pub fn build(&self, folder: &Path) -> Result<Built, BuildError> {
        let module = if self.build.is_empty() {
            cargo(folder)?
        } else {
            for command in &self.build {
                self.command(folder, command)?;
            }
            folder.join(self.module.as_deref().unwrap_or(&self.component))
        };
        let bytes = fs::read(&module).map_err(|source| BuildError::File { path: module, source })?;
        let component = adapt::component(&bytes, Some(ADAPTER))?;
        let path = folder.join(&self.component);
        let failed = |source| BuildError::File {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&path, &component).map_err(failed)?;
        Ok(Built {
            adapted: component != bytes,
            component,
            path,
        })
    }

    fn command(&self, folder: &Path, words: &[String]) -> Result<(), BuildError> {
        let (variables, command) = environment(words);
        let [program, arguments @ ..] = command else {
            return Ok(());
        };
        // A program of the project itself, as in an environment of Python's, stands in its folder, which is where it is started: by its whole path.
        let named = if program.contains('/') {
            let whole = std::path::absolute(folder.join(program));
            let failed = |source| BuildError::File {
                path: folder.to_owned(),
                source,
            };
            whole.map_err(failed)?.into_os_string()
        } else {
            program.into()
        };
        let status = started(
            Command::new(&named)
                .args(arguments)
                .envs(variables)
                .current_dir(folder)
                .stdout(io::stderr())
                .status(),
            self.language,
            program,
        )?;
        if status.success() {
            return Ok(());
        }
        Err(BuildError::Failed(words.join(" ")))
    }
}

/// What a command begins with as in `env NAME=VALUE … PROGRAM`, and the rest. By `env` itself a program that isn't there would be any other failure.
fn environment(words: &[String]) -> (Vec<(&str, &str)>, &[String]) {
    let [first, rest @ ..] = words else {
        return (Vec::new(), words);
    };
    let variables: Vec<_> = rest.iter().map_while(|word| word.split_once('=')).collect();
    match rest.get(variables.len()) {
        // One of its flags, as `-i`, is for itself.
        Some(next) if first == "env" && !next.starts_with('-') => {
            let program = &rest[variables.len()..];
            (variables, program)
        }
        _ => (Vec::new(), words),
    }
}

fn started<T>(run: io::Result<T>, language: Language, program: &str) -> Result<T, BuildError> {
    run.map_err(|source| {
        let program = program.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            BuildError::Missing { program, language }
        } else {
            BuildError::Start { program, source }
        }
    })
}

/// What cargo says of what it made, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
}

/// A release build by cargo. The module that it made, wherever it puts such things.
fn cargo(folder: &Path) -> Result<PathBuf, BuildError> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let name = program.to_string_lossy().into_owned();
    target(folder)?;
    let mut command = Command::new(&program);
    command
        .current_dir(folder)
        .args(["build", "--lib", "--release", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let output = started(command.output(), Language::Rust, &name)?;
    if !output.status.success() {
        return Err(BuildError::Failed("cargo build".to_owned()));
    }
    let own = fs::canonicalize(folder.join("Cargo.toml")).unwrap_or_default();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| fs::canonicalize(&message.manifest_path).is_ok_and(|path| path == own))
        .flat_map(|message| message.filenames)
        .find(|file| file.extension() == Some(OsStr::new("wasm")))
        .ok_or(BuildError::NoModule)
}

/// Without its standard library rustc says `can't find crate for core`, once for each crate.
fn target(folder: &Path) -> Result<(), BuildError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .current_dir(folder)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    let output = started(output, Language::Rust, "rustc")?;
    let there = Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists();
    if there { Ok(()) } else { Err(BuildError::Target) }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// From here, without a slash at its begin.
    fn relative(path: &Path) -> PathBuf {
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = iter::repeat_n("..", here.components().count() - 1).collect();
        up.join(path.strip_prefix("/").unwrap())
    }

    #[test]
    fn a_program_of_the_projects_own_is_found_from_a_relative_folder() {
        let component = tidewaiter_builtin::POLICIES[0].component;
        for program in ["./make", "bin/make"] {
            let project = tempfile::tempdir().unwrap();
            let script = project.path().join(program);
            fs::create_dir_all(script.parent().unwrap()).unwrap();
            fs::write(&script, "#!/bin/sh\ncp \"$1\" made.wasm\n").unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            fs::write(project.path().join("given.wasm"), component).unwrap();
            let manifest = Manifest {
                language: Language::Go,
                build: vec![vec![program.to_owned(), "given.wasm".to_owned()]],
                module: Some("made.wasm".into()),
                component: "policy.wasm".into(),
                cases: "cases".into(),
            };
            let built = manifest.build(&relative(project.path())).unwrap();
            assert_eq!(built.component, component, "{program}");
            assert!(project.path().join("policy.wasm").is_file(), "{program}");
        }
    }

    fn built_by(command: &[&str]) -> Result<Built, BuildError> {
        let project = tempfile::tempdir().unwrap();
        let manifest = Manifest {
            language: Language::Go,
            build: vec![command.iter().map(|word| (*word).to_owned()).collect()],
            module: Some("made.wasm".into()),
            component: "policy.wasm".into(),
            cases: "cases".into(),
        };
        manifest.build(project.path())
    }

    /// The template's command is `env GOOS=wasip1 … go build …`.
    #[test]
    fn a_compiler_that_is_not_there_is_named_and_where_it_is_had() {
        let error = built_by(&["env", "PATH=/nowhere", "GOOS=wasip1", "go", "build"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`go` is not there, and a policy in go is built by it; install Go 1.25 or newer (go.dev)"
        );
    }

    #[test]
    fn a_command_has_the_variables_that_stand_before_it() {
        let copies = "test \"$GREETING\" = 'a=b' && printf '\\0asm\\015\\0\\001\\0' > made.wasm";
        built_by(&["env", "GREETING=a=b", "sh", "-c", copies]).unwrap();
        built_by(&["env", "-u", "PATH", "GREETING=a=b", "/bin/sh", "-c", copies]).unwrap();
    }
}
