//! What the machine itself must have: tools, Debian packages, rights.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::progress;

/// Debian's packages for a node, each with a file that shows that it is there.
const NODE_PACKAGES: [(&str, &str); 6] = [
    ("runc", "/usr/sbin/runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("busybox-static", "/bin/busybox"),
    ("conntrack", "/usr/sbin/conntrack"),
    ("debootstrap", "/usr/sbin/debootstrap"),
    ("iproute2", "/bin/ip"),
];

/// The same for what sets up the packet filter.
const FILTER_PACKAGES: [(&str, &str); 2] = [("iptables", "/usr/sbin/iptables"), ("ipset", "/usr/sbin/ipset")];

/// The same for what stands for an ingress.
const PROXY_PACKAGES: [(&str, &str); 1] = [("haproxy", "/usr/sbin/haproxy")];

/// Whether this process may make a node (root with the right to mount).
pub fn is_root() -> bool {
    // A user namespace gives root's number without its rights over the machine.
    let mapped = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = mapped.split_whitespace().nth(2) == Some("4294967295");
    whole && std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// Makes sure of Go, and of Python and Debian's packages where there is to be a node. As root on Debian, missing packages are installed.
///
/// # Errors
/// One message that names all that is missing, and how to get it.
pub fn require(node: bool) -> Result<()> {
    let mut missing = Vec::new();
    match go_version() {
        Ok(version) if version >= (1, 26) => {}
        Ok((major, minor)) => missing.push(format!("Go 1.26 or newer (`go` on PATH is {major}.{minor})")),
        Err(_) => missing.push("Go 1.26 or newer, as `go` on PATH".to_owned()),
    }
    if find("unshare").is_none() || find("nsenter").is_none() || find("setpriv").is_none() {
        missing.push("util-linux (unshare, nsenter, setpriv)".to_owned());
    }
    if node {
        if find("python3.11").is_none() {
            missing.push("Python 3.11, as `python3.11` on PATH".to_owned());
        }
        missing.extend(lacking(&NODE_PACKAGES));
    }
    complete(&missing)
}

/// Makes sure of Debian's packages for the packet filter, as [`require`] does of a node's.
///
/// # Errors
/// One message that says how to get them.
pub fn require_packet_filter() -> Result<()> {
    complete(lacking(&FILTER_PACKAGES).as_slice())
}

/// Makes sure of `HAProxy`, as [`require`] does of a node's packages.
///
/// # Errors
/// One message that says how to get it.
pub fn require_proxy() -> Result<()> {
    complete(lacking(&PROXY_PACKAGES).as_slice())
}

fn complete(missing: &[String]) -> Result<()> {
    ensure!(
        missing.is_empty(),
        "the test ground needs, and this machine lacks: {}",
        missing.join("; ")
    );
    Ok(())
}

/// Of these packages those that are missing and can't be installed, and how to get them.
fn lacking(packages: &[(&str, &str)]) -> Option<String> {
    let missing = packages.iter().filter(|(_, file)| !Path::new(file).exists());
    let missing: Vec<&str> = missing.map(|&(package, _)| package).collect();
    let are_there = missing.is_empty() || (is_root() && find("apt-get").is_some() && install(&missing).is_ok());
    (!are_there).then(|| format!("Debian's packages {0} (apt-get install {0})", missing.join(" ")))
}

fn install(packages: &[&str]) -> Result<()> {
    progress::say(&format!("installing Debian's packages {}", packages.join(" ")));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages))
}

/// Major and minor of the `go` on PATH.
pub fn go_version() -> Result<(u32, u32)> {
    let said = output(
        Command::new("go")
            .args(["env", "GOVERSION"])
            .env("GOTOOLCHAIN", "local"),
    )?;
    let mut numbers = said
        .trim()
        .trim_start_matches("go")
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    numbers
        .next()
        .zip(numbers.next())
        .with_context(|| format!("`go env GOVERSION` says {said:?}"))
}

/// The file that a bare command name stands for.
pub fn find(command: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(command))
        .find(|file| file.is_file())
}

/// `PATH` with these folders before it, and behind it those of an administrator's tools, which not every user's has.
pub fn path(before: &[&Path]) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let before = before.iter().map(|folder| folder.to_path_buf());
    let all = before
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/sbin".into()]);
    std::env::join_paths(all).context("PATH")
}

/// A folder of this name where cargo, as it was called, puts what it builds of this workspace.
pub fn beside_cargos(name: &str) -> PathBuf {
    ["CARGO_BUILD_BUILD_DIR", "CARGO_TARGET_DIR"]
        .into_iter()
        .find_map(std::env::var_os)
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
            PathBuf::from,
        )
        .join(name)
}

/// The mirror that this machine's own apt takes Debian's release from, and the release's name.
pub fn debian_mirror() -> Result<(String, String)> {
    let listed = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(RELEASE) $(COMPONENT) $(SITE)",
        "Created-By: Packages",
    ]))?;
    listed
        .lines()
        .find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Debian", release, "main", site] if !release.contains('-') => Some((site.to_owned(), release.to_owned())),
            _ => None,
        })
        .context(
            "apt's sources on this machine name no Debian release: the images are made from the machine's own mirror",
        )
}

/// Runs a command to its end.
///
/// # Errors
/// With the end of what it wrote, where it fails.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// What a command writes to standard output.
///
/// # Errors
/// With the end of what it wrote, where it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't run {program}"))?;
    if !done.status.success() {
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        let wrote = format!(
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        bail!(
            "`{program} {}` ended with {}: {}",
            arguments.join(" "),
            done.status,
            tail(&wrote, 30)
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
