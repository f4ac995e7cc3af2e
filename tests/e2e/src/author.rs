//! The author's path, as the guide tells it: a policy from nothing to a component that passes its own test.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use tidewaiter_examples::{missing, template};
use tidewaiter_tools::Language;

use crate::server::command_binary;

/// The variable with the folder of the projects, inside the ground, where nothing can be built.
pub const AUTHORED: &str = "TIDEWAITER_AUTHORED";
/// The name of each policy.
pub const NAME: &str = "house-rules";

/// The folder with each language's component: `$TIDEWAITER_AUTHORED`, else made, built and tested by the command. A language whose toolchain isn't here is left out.
pub fn authored() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(AUTHORED) {
        return Ok(folder.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = ["CARGO_BUILD_BUILD_DIR", "CARGO_TARGET_DIR"]
        .into_iter()
        .find_map(std::env::var_os)
        .map_or_else(|| root.join("target"), PathBuf::from)
        .join("authored");
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(&folder)?;
    for language in Language::ALL {
        let project = folder.join(language.as_str());
        if project.exists() {
            fs::remove_dir_all(&project)?;
        }
        if let Some(missing) = missing(language) {
            eprintln!("left out: {missing}");
            continue;
        }
        let place = project.display().to_string();
        tidewaiter(
            &folder,
            &["policy", "new", NAME, "--language", language.as_str(), "--dir", &place],
        )?;
        if language == Language::Rust {
            tidewaiter(&folder, &["policy", "build", &place])?;
        } else {
            // The same by the library, which keeps what npm, pip and Go's modules bring.
            fs::write(project.join(format!("{NAME}.wasm")), template(language)?)?;
        }
        let said = tidewaiter(&folder, &["policy", "test", &place, "--memory-mib", "64"])?;
        ensure!(said.contains("a service without a team is refused"), "{said}");
    }
    Ok(folder)
}

/// The component of a language's project; none for a language that was left out.
pub fn component(folder: &Path, language: Language) -> Option<PathBuf> {
    let file = folder.join(language.as_str()).join(format!("{NAME}.wasm"));
    file.is_file().then_some(file)
}

/// Runs the command as an author does, and says what it printed. What cargo compiles for one run is there for the next one.
fn tidewaiter(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(command_binary()?);
    for (name, _) in std::env::vars_os() {
        // What cargo tells this test is about its own package.
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let target: OsString = folder.join("target").into();
    let output = command
        .args(arguments)
        .env_remove("CARGO_BUILD_BUILD_DIR")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", target)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()?;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "tidewaiter {}:\n{said}{complained}",
        arguments.join(" ")
    );
    Ok(said.into_owned())
}
