//! What each command does, in order.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cache::{self, BuildDir};
use crate::failures;
use crate::setup::{self, output, run};

/// Cargo with its intermediate files in the cache where CI asks for it; elsewhere they stay in the tree's `target`, beside those of a developer's own builds.
struct Cargo {
    build_dir: Option<BuildDir>,
}

impl Cargo {
    fn new() -> Result<Self> {
        setup::rust()?;
        let build_dir = if env::var_os("CI").is_some() {
            Some(cache::build_dir()?)
        } else {
            None
        };
        Ok(Self { build_dir })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments);
        // Cargo told this program about its own package. Build scripts that look at such variables would run again, and all that stands on them.
        for (name, _) in env::vars_os() {
            let own = name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            if own {
                command.env_remove(name);
            }
        }
        if let Some(dir) = &self.build_dir {
            command.env("CARGO_BUILD_BUILD_DIR", &dir.path);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        self.timed(arguments, run)
    }

    fn timed(&self, arguments: &[&str], run: impl FnOnce(&mut Command) -> Result<()>) -> Result<()> {
        let start = Instant::now();
        eprintln!("\n── cargo {}", arguments.join(" "));
        run(&mut self.command(arguments))?;
        eprintln!("── took {} s", start.elapsed().as_secs());
        Ok(())
    }

    /// Runs a package's program. The first time, building it takes minutes: cargo shows how far it is.
    fn start(&self, package: &str, profile: &[&str], arguments: &[OsString]) -> Result<()> {
        let selection = [&["--package", package], profile].concat();
        run(self.command(&["build"]).args(&selection))?;
        run(self
            .command(&["run", "--quiet"])
            .args(&selection)
            .arg("--")
            .args(arguments))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where cargo puts what it makes.
fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A program of a build without optimisation.
fn built(program: &str) -> PathBuf {
    target_dir().join("debug").join(program)
}

pub(crate) fn demo(cluster: bool) -> Result<()> {
    let cargo = Cargo::new()?;
    if cluster {
        // Both at once: one after the other would build what they share twice.
        let packages = ["--package", "tidewaiter-e2e", "--package", "tidewaiter-webhook"];
        let programs = ["--bin", "cluster-demo", "--bin", "tidewaiter-webhook"];
        cargo.run(&[&["build"], &packages[..], &programs].concat())?;
        return run(Command::new(built("cluster-demo")).env("TIDEWAITER_WEBHOOK", built("tidewaiter-webhook")));
    }
    cargo.start("tidewaiter-demo", &["--release"], &[])
}

/// Which tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What needs no control plane.
    Quick,
    /// What CI runs.
    Gate,
    /// What takes CI too long as well.
    All,
}

pub(crate) fn test(extent: Extent) -> Result<()> {
    let cargo = Cargo::new()?;
    setup::lint()?;
    cargo.run(&["fmt", "--all", "--check"])?;
    cargo.run(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ])?;
    let mut left_out = Vec::new();
    if setup::has_deny() {
        // Not its advisories: they are fetched from GitHub, and change without a change here.
        cargo.run(&["deny", "--locked", "check", "bans", "licenses", "sources"])?;
    } else {
        left_out.push("licences and origins of dependencies (cargo install cargo-deny --locked)");
    }
    if extent == Extent::Quick {
        cargo.run(&["test", "--workspace", "--exclude", "tidewaiter-e2e", "--locked"])?;
        left_out.push("by --quick: the end-to-end tests on the real control plane (cargo xtask test)");
    } else {
        // All packages and all targets in each call: another selection would mean other features of shared dependencies, and building them once more.
        cargo.run(&["build", "--workspace", "--all-targets", "--locked"])?;
        // The end-to-end tests start these: built with everything else, not once more by themselves.
        let programs = [
            ("TIDEWAITER_WEBHOOK", "tidewaiter-webhook"),
            ("TIDEWAITER_COMMAND", "tidewaiter"),
            ("TIDEWAITER_IMAGE", "tidewaiter-image"),
        ];
        let mut variables: Vec<_> = programs
            .map(|(name, program)| (name, built(program).into_os_string()))
            .into();
        if extent == Extent::All {
            variables.push(("TIDEWAITER_CHART", "all".into()));
            variables.extend(images(&cargo)?);
        } else {
            left_out.push(
                "more with the oldest KServe, Knative, cert-manager, network policies in force, named namespaces and each of its rights, the image made twice, \
                 and the command on what is deployed (cargo xtask test --all)",
            );
        }
        // Past a failed test program: a run this long says everything that is wrong at once.
        let tests = ["test", "--workspace", "--locked", "--no-fail-fast"];
        cargo.timed(&tests, |command| failures::run(command.envs(variables)))?;
    }
    for what in left_out {
        eprintln!("\nLeft out: {what}");
    }
    Ok(())
}

pub(crate) fn bench(flags: &[OsString]) -> Result<()> {
    let cargo = Cargo::new()?;
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    // On a cluster the webhook runs as Pods, from a program of its own, with policies that another compiled. All at once: one after the other would build what
    // they share twice.
    let measured: &[&str] = if has("--deployer") {
        &["tidewaiter"]
    } else if has("--policies") {
        &[]
    } else {
        &["tidewaiter-webhook", "tidewaiter-image"]
    };
    let packages = ["tidewaiter-bench"].iter().chain(measured);
    let packages = packages.flat_map(|package| ["--package", package]);
    cargo.run(&["build", "--release"].into_iter().chain(packages).collect::<Vec<_>>())?;
    run(Command::new(target_dir().join("release/tidewaiter-bench")).args(flags))
}

pub(crate) fn policies() -> Result<()> {
    let cargo = Cargo::new()?;
    cargo.start("tidewaiter-bench", &[], &["--list".into()])
}

pub(crate) fn image(arguments: &[OsString]) -> Result<()> {
    let cargo = Cargo::new()?;
    let cache = cache::image_dir()?;
    make_image(&cargo, &cache.path, arguments)
}

fn make_image(cargo: &Cargo, cache: &Path, arguments: &[OsString]) -> Result<()> {
    let tools = setup::zig(cache)?;
    run(cargo
        .command(&["run", "--quiet", "--package", "tidewaiter-image", "--"])
        .args(arguments)
        .env("TIDEWAITER_IMAGE_TOOLS", tools)
        .env("TIDEWAITER_IMAGE_CACHE", cache))
}

/// Makes the image from this checkout, and from a copy of it elsewhere, with another cache: the way of docs/image.md. These variables tell the tests where they
/// are.
fn images(cargo: &Cargo) -> Result<[(&'static str, OsString); 2]> {
    let start = Instant::now();
    let (here, archive) = (target_dir().join("image"), target_dir().join("image.tar"));
    eprintln!("\n── the image");
    let arguments: [OsString; 4] = [
        "--out".into(),
        here.clone().into(),
        "--archive".into(),
        archive.clone().into(),
    ];
    let cache = cache::image_dir()?;
    make_image(cargo, &cache.path, &arguments)?;

    // Kept: what was compiled there of others' crates is good for the next time.
    let other = cache.path.join("elsewhere");
    let (checkout, elsewhere) = (other.join("checkout"), other.join("layout"));
    copy_checkout(&checkout)?;
    let build_dir = cargo.build_dir.as_ref().map_or_else(target_dir, |dir| dir.path.clone());
    eprintln!("\n── the image, elsewhere");
    run(cargo
        .command(&["xtask", "image", "--out"])
        .arg(&elsewhere)
        .current_dir(&checkout)
        // Who makes the image has its crates in common with this checkout's. What is in the image has none.
        .env("CARGO_BUILD_BUILD_DIR", build_dir)
        .env("CARGO_TARGET_DIR", checkout.join("target"))
        .env("TIDEWAITER_CACHE", &other)
        .env_remove("CI"))?;
    eprintln!("── both took {} s", start.elapsed().as_secs());
    Ok([
        ("TIDEWAITER_LAYOUTS", env::join_paths([here, elsewhere])?),
        ("TIDEWAITER_ARCHIVE", archive.into()),
    ])
}

/// Clones this checkout, and takes along what was changed since the commit.
fn copy_checkout(to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("can't replace {}", to.display()))?;
    }
    let root = root();
    run(Command::new("git").args(["clone", "--quiet"]).arg(&root).arg(to))?;
    let changed: [&[&str]; 2] = [
        &["diff", "--name-only", "--no-renames", "-z", "HEAD"],
        &["ls-files", "--others", "--exclude-standard", "-z"],
    ];
    for arguments in changed {
        let files = output(Command::new("git").arg("-C").arg(&root).args(arguments))?;
        for file in files.split_terminator('\0') {
            let (from, to) = (root.join(file), to.join(file));
            if !from.exists() {
                fs::remove_file(&to).with_context(|| format!("can't remove {}", to.display()))?;
                continue;
            }
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
            }
            fs::copy(&from, &to).with_context(|| format!("can't copy {}", from.display()))?;
        }
    }
    Ok(())
}

pub(crate) fn ground(arguments: &[OsString]) -> Result<()> {
    let cargo = Cargo::new()?;
    ground_command(&cargo, arguments)
}

fn ground_command(cargo: &Cargo, arguments: &[OsString]) -> Result<()> {
    cargo.start("tidewaiter-ground", &[], arguments)
}
