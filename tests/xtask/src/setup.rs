//! What a fresh machine lacks, installed where that is ours to do, named where it isn't.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The Wasm targets of `rust-toolchain.toml`, and a C compiler for ring's assembly.
pub(crate) fn rust() -> Result<()> {
    let installed = Command::new("rustup").args(["target", "list", "--installed"]).output();
    let installed = installed.context("rustup is missing: install it from rustup.rs")?;
    let installed = String::from_utf8_lossy(&installed.stdout).into_owned();
    let missing: Vec<_> = ["wasm32-unknown-unknown", "wasm32-wasip2"]
        .into_iter()
        .filter(|target| !installed.lines().any(|line| line == *target))
        .collect();
    if !missing.is_empty() {
        eprintln!("adding rustup targets: {}", missing.join(", "));
        run(Command::new("rustup").args(["target", "add"]).args(&missing))?;
    }
    if !has("cc") {
        debian(&["gcc", "libc6-dev"], "a C compiler (cc)")?;
    }
    Ok(())
}

/// The formatter and the linter, which a minimal toolchain may lack.
pub(crate) fn lint() -> Result<()> {
    if !succeeds(Command::new("cargo").args(["fmt", "--version"]))
        || !succeeds(Command::new("cargo").args(["clippy", "--version"]))
    {
        run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))?;
    }
    Ok(())
}

/// Whether cargo-deny is there. It takes minutes to build, so installing it is left to whoever wants it.
pub(crate) fn has_deny() -> bool {
    succeeds(Command::new("cargo").args(["deny", "--version"]))
}

/// Installs Debian packages where we may, else says what is missing.
fn debian(packages: &[&str], what: &str) -> Result<()> {
    let list = packages.join(" ");
    if !has("apt-get") || !is_root() {
        bail!("{what} is missing. On Debian and Ubuntu: sudo apt-get install {list}");
    }
    eprintln!("installing {list}");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .arg("-qq")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// Whether a program is on the `PATH`.
pub(crate) fn has(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Whether this process may do what root does.
pub(crate) fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs a command with its output shown; an error names it whole.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}
