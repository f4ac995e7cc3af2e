//! Compiles the built-in policies to WebAssembly components, so that a plain `cargo build` needs no other step.
//!
//! It calls cargo with a target folder of its own (`target/policies`): the one in use is locked by the cargo that runs this script. Debug and
//! release builds share it, since a policy is always compiled the same way: profile `policy` in the workspace's Cargo.toml.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-unknown-unknown";
const POLICIES: [&str; 7] = [
    "storage-credentials",
    "serving-versions",
    "model-exists",
    "serving-protocol",
    "architecture",
    "namespace-guard",
    "resources",
];

/// What a fresh instance costs is mostly its pages, and the stack lies below the data in them. 32 KiB is what `serde_json` needs for
/// objects nested as deep as it allows (128), three times over; more than that traps, as that policy's failure.
const STACK: u32 = 32 * 1024;

/// What a component begins with: its stack, its data, and a heap that is enough for nearly every review (see the SDK's allocator).
const MEMORY: u32 = 512 * 1024;

/// Inherited by the inner cargo. All else that begins with CARGO, RUST or CLIPPY is about the outer build (flags, wrappers, target folder,
/// profile overrides) and would change what a policy's bytes are.
const KEPT: [&str; 9] = [
    "CARGO_HOME",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
    "RUSTC",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
];

fn main() {
    if let Err(error) = run() {
        for line in error.lines() {
            println!("cargo::error={line}");
        }
        exit(1);
    }
}

fn run() -> Result<(), String> {
    let out = PathBuf::from(var("OUT_DIR")?);
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let root = here
        .ancestors()
        .nth(2)
        .ok_or("policies/builtin is not inside its workspace")?;

    let watched = [
        "Cargo.toml",
        "Cargo.lock",
        "core/Cargo.toml",
        "core/src",
        "core/data",
        "policies/wit",
        "policies/sdk",
    ];
    for path in watched
        .map(|path| root.join(path))
        .iter()
        .chain(&POLICIES.map(|name| here.join(name)))
    {
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    println!("cargo::rerun-if-changed=build.rs");

    let target_dir = own_target_dir(&out);
    compile(root, &target_dir)?;

    let mut table = String::from("&[\n");
    for name in POLICIES {
        let module = target_dir
            .join(TARGET)
            .join("policy")
            .join(format!("{}.wasm", name.replace('-', "_")));
        let component = out.join(format!("{name}.wasm"));
        fs::write(&component, componentize(&module)?).map_err(|error| format!("{}: {error}", component.display()))?;
        let _ = writeln!(
            table,
            "    Builtin {{ name: {name:?}, component: include_bytes!({:?}) }},",
            component.display().to_string()
        );
    }
    table.push(']');
    let path = out.join("policies.rs");
    fs::write(&path, table).map_err(|error| format!("{}: {error}", path.display()))
}

/// Beside `debug` and `release` in the folder that cargo marked as its own; with an unusual layout, inside `OUT_DIR`.
fn own_target_dir(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|path| path.join("CACHEDIR.TAG").exists())
        .unwrap_or(out)
        .join("policies")
}

fn compile(root: &Path, target_dir: &Path) -> Result<(), String> {
    require_target()?;
    let mut flags = vec![
        format!("-Clink-arg=-zstack-size={STACK}"),
        format!("-Clink-arg=--initial-memory={MEMORY}"),
    ];
    let home = cargo_home()?;
    // A panic's message names its source file. Without this a policy's bytes would depend on where it was compiled.
    for (folder, name) in [
        (home.as_path(), "/cargo"),
        (root, "/tidewaiter"),
        (target_dir, "/target"),
    ] {
        flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
    }
    let mut cargo = Command::new(var("CARGO")?);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let outer = ["CARGO", "RUST", "CLIPPY"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let kept = KEPT.iter().any(|kept| {
            if kept.ends_with('_') {
                name.starts_with(kept)
            } else {
                name == *kept
            }
        });
        if outer && !kept {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(root)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .args([
            "build",
            "--lib",
            "--locked",
            "--profile",
            "policy",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target_dir);
    for name in POLICIES {
        cargo.args(["--package", name]);
    }
    if env::var_os("CARGO_NET_OFFLINE").is_some_and(|value| value == "true") {
        cargo.arg("--offline");
    }
    let output = cargo
        .output()
        .map_err(|error| format!("cargo can't be started to compile the built-in policies: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "the built-in policies don't compile for {TARGET}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Where cargo unpacks the sources of dependencies.
fn cargo_home() -> Result<PathBuf, String> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(PathBuf::from(var("HOME")?).join(".cargo")),
    }
}

/// Without its standard library rustc's own message is `can't find crate for core`, once for each crate.
fn require_target() -> Result<(), String> {
    let output = Command::new(var("RUSTC")?)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("rustc can't be started: {error}"))?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists() {
        return Ok(());
    }
    Err(format!(
        "the Rust target {TARGET} is not installed, and the built-in policies are compiled for it; run `rustup target add {TARGET}`"
    ))
}

fn componentize(module: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(module).map_err(|error| format!("{}: {error}", module.display()))?;
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(wit_component::ComponentEncoder::encode)
        .map_err(|error| format!("{} can't be made a component: {error:#}", module.display()))
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: this is cargo's build script, not a program"))
}
