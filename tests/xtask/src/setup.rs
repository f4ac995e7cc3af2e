//! What a fresh machine lacks, installed where that is ours to do, named where it isn't.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The Wasm targets of `rust-toolchain.toml`, and a C compiler for ring's assembly.
pub(crate) fn rust() -> Result<()> {
    targets(&["wasm32-unknown-unknown", "wasm32-wasip2"])?;
    if !has("cc") {
        debian(&["gcc", "libc6-dev"], "a C compiler (cc)")?;
    }
    Ok(())
}

/// rustup's standard library for each of these.
fn targets(wanted: &[&str]) -> Result<()> {
    let installed = Command::new("rustup").args(["target", "list", "--installed"]).output();
    let installed = installed.context("rustup is missing: install it from rustup.rs")?;
    let installed = String::from_utf8_lossy(&installed.stdout).into_owned();
    let missing: Vec<_> = wanted
        .iter()
        .copied()
        .filter(|target| !installed.lines().any(|line| line == *target))
        .collect();
    if !missing.is_empty() {
        eprintln!("adding rustup targets: {}", missing.join(", "));
        run(Command::new("rustup").args(["target", "add"]).args(&missing))?;
    }
    Ok(())
}

/// What builds for Linux with musl on either architecture: rustup's targets, and zig with what lets cargo use it, from PyPI, in a folder of the cache.
pub(crate) fn zig(cache: &Path) -> Result<PathBuf> {
    targets(&["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"])?;
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/zig.txt");
    let tools = cache.join("tools");
    // Copied there last: a folder without it, or with another, is not what is wanted.
    let made_from = tools.join("zig.txt");
    let packages = fs::read(&wanted).with_context(|| format!("can't read {}", wanted.display()))?;
    if fs::read(&made_from).is_ok_and(|made_from| made_from == packages) {
        return Ok(tools);
    }
    if !succeeds(Command::new("python3").args(["-m", "pip", "--version"])) {
        debian(&["python3", "python3-pip"], "Python with pip (python3 -m pip)")?;
    }
    eprintln!("installing zig for the image");
    if tools.exists() {
        fs::remove_dir_all(&tools).with_context(|| format!("can't replace {}", tools.display()))?;
    }
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-warn-script-location",
        ])
        .args(["--require-hashes", "--only-binary", ":all:", "--target"])
        .arg(&tools)
        .arg("--requirement")
        .arg(&wanted)
        // That is about packages in the system's folders.
        .env("PIP_ROOT_USER_ACTION", "ignore"))?;
    fs::write(&made_from, packages).with_context(|| format!("can't write {}", made_from.display()))?;
    Ok(tools)
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

/// What a command writes to standard output; an error names it whole.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` wrote no UTF-8"))
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
