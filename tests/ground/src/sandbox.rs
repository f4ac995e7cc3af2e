//! Namespaces of the run's own: network, mounts and processes.
//!
//! The program starts itself again inside them, as the child of their first process. When that process is gone, for whatever reason, the
//! kernel ends every process in them, and takes the network and the mounts away: a run can't leave a server, a container or a mount
//! behind. What outlives it is its folder and its cgroups; who starts next removes both ([`sweep`]).
//!
//! ```text
//! the caller's process   holds the lock on the run's folder, waits
//!   └─ unshare           dies with the caller; its death ends the namespaces
//!        └─ sh (PID 1)   collects orphans
//!             └─ the same program, TIDEWAITER_GROUND_RUN set
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::{host, progress};

/// Tells a process that it is inside, and where the run's folder is.
pub const RUN: &str = "TIDEWAITER_GROUND_RUN";

/// The run's folder, for a process inside.
pub fn inside() -> Option<PathBuf> {
    std::env::var_os(RUN).map(PathBuf::from)
}

/// Runs `command` in new namespaces, and cleans up after it.
pub fn enter(cache: &Cache, name: Option<&str>, command: &[std::ffi::OsString]) -> Result<ExitStatus> {
    let (folder, _lock) = {
        let _registry = registry(cache)?;
        sweep(cache)?;
        claim(cache, name)?
    };
    let mut child = unshared(&folder, command)?.spawn().context("can't run unshare")?;
    record_init(&folder, child.id())?;
    let status = child.wait()?;
    remove(&folder);
    Ok(status)
}

/// Runs `command` in the namespaces of a run that is up.
pub fn join(cache: &Cache, name: &str, command: &[std::ffi::OsString]) -> Result<ExitStatus> {
    let folder = cache.runs().join(name);
    let init =
        fs::read_to_string(folder.join("init.pid")).with_context(|| format!("no test ground named {name} is up"))?;
    let mut enter = Command::new("nsenter");
    enter.args(["--target", init.trim(), "--net", "--mount", "--pid"]);
    if !host::is_root() {
        enter.args(["--user", "--preserve-credentials"]);
    }
    let mut here = std::ffi::OsString::from("--wdns=");
    here.push(std::env::current_dir()?);
    enter.arg(here).arg("--").args(command).env(RUN, &folder);
    enter.status().context("can't run nsenter")
}

/// Whether a run by this name is up: its owner holds the lock.
pub fn is_up(cache: &Cache, name: &str) -> bool {
    let folder = cache.runs().join(name);
    File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// Ends a run that is up, and waits until its owner has cleaned up.
pub fn end(cache: &Cache, name: &str) -> Result<bool> {
    let folder = cache.runs().join(name);
    let up = is_up(cache, name);
    if up {
        let init = fs::read_to_string(folder.join("init.pid"))?;
        host::run(Command::new("kill").args(["-KILL", init.trim()]))?;
        if let Ok(lock) = File::open(folder.join("lock")) {
            lock.lock()?;
        }
    }
    let _registry = registry(cache)?;
    sweep(cache)?;
    Ok(up)
}

/// The lock under which runs are claimed and swept; else a sweep could take a folder whose owner has yet to lock it.
fn registry(cache: &Cache) -> Result<File> {
    fs::create_dir_all(cache.runs())?;
    let registry = File::create(cache.runs().join(".lock"))?;
    registry.lock()?;
    Ok(registry)
}

/// Removes what runs left behind whose owner is gone.
fn sweep(cache: &Cache) -> Result<()> {
    for entry in fs::read_dir(cache.runs())?
        .flatten()
        .filter(|entry| entry.path().is_dir())
    {
        let folder = entry.path();
        if File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_err()) {
            continue;
        }
        {
            progress::say(&format!(
                "removing what the run {} left behind",
                entry.file_name().display()
            ));
            remove(&folder);
        }
    }
    Ok(())
}

fn claim(cache: &Cache, name: Option<&str>) -> Result<(PathBuf, File)> {
    let folder = match name {
        Some(name) => {
            let folder = cache.runs().join(name);
            fs::create_dir(&folder).with_context(|| format!("a test ground named {name} is up already"))?;
            folder
        }
        None => tempfile::Builder::new().prefix("r").tempdir_in(cache.runs())?.keep(),
    };
    host::run(Command::new("chmod").arg("755").arg(&folder))?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    Ok((folder, lock))
}

fn unshared(folder: &Path, command: &[std::ffi::OsString]) -> Result<Command> {
    let root = host::is_root();
    // A user namespace clears the death signal, so it is set after entering one.
    let mut outer = if root {
        Command::new("setpriv")
    } else {
        let mut outer = Command::new("unshare");
        outer.args(["--user", "--map-root-user", "--", "setpriv"]);
        outer
    };
    outer.args([
        "--pdeathsig",
        "KILL",
        "--",
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        "--",
    ]);
    outer.args(["sh", "-c", r#""$@"; exit $?"#, "sh"]).args(command);
    outer.env(RUN, folder);
    if root {
        make_cgroups(folder)?;
    }
    Ok(outer)
}

/// `nsenter` needs the number that the namespaces' first process has out here.
fn record_init(folder: &Path, unshare: u32) -> Result<()> {
    let children = format!("/proc/{unshare}/task/{unshare}/children");
    for _ in 0..1000 {
        let init = fs::read_to_string(&children).unwrap_or_default();
        if let Some(init) = init.split_whitespace().next() {
            return Ok(fs::write(folder.join("init.pid"), init)?);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    progress::say("can't tell the namespaces' first process: `exec` won't find this run");
    Ok(())
}

/// The name of the run's cgroup, below each hierarchy's root.
pub fn cgroup(folder: &Path) -> String {
    format!("tidewaiter-{}", folder.file_name().unwrap_or_default().display())
}

/// Each cgroup hierarchy that is mounted (one for version 2, one a controller for version 1).
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let place = words.next()?;
            matches!(words.next()?, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
        })
        .collect()
}

/// What all Pods together have of the processors where others want them too, in version 1 and 2: as much as four processes outside (the API server, etcd, the
/// tests). By default it would be as much as one, where a real node gives its Pods all but everything: a webhook would be too slow for the API server.
const PODS_SHARE: [(&str, &str); 2] = [("cpu.shares", "4096"), ("cpu.weight", "400")];

fn make_cgroups(folder: &Path) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(cgroup(folder));
        fs::create_dir_all(&group).with_context(|| format!("can't make the cgroup {}", group.display()))?;
        // Version 2 gives a child only the controllers that its parent passes on.
        let controllers = fs::read_to_string(hierarchy.join("cgroup.controllers")).unwrap_or_default();
        for (place, controller) in [&hierarchy, &group]
            .into_iter()
            .flat_map(|place| controllers.split_whitespace().map(move |name| (place, name)))
        {
            let _ = fs::write(place.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        for (file, share) in PODS_SHARE {
            if group.join(file).exists() {
                fs::write(group.join(file), share)
                    .with_context(|| format!("can't set {file} of {}", group.display()))?;
            }
        }
    }
    Ok(())
}

/// Removes a run's folder and cgroups. Its processes are gone, so nothing in them is in use.
fn remove(folder: &Path) {
    for hierarchy in hierarchies() {
        remove_cgroup(&hierarchy.join(cgroup(folder)));
    }
    // The lock's file goes last: as long as it is there, a later sweep finds the folder again.
    let lock = folder.join("lock");
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path() != lock)
    {
        let path = entry.path();
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = removed {
            return progress::say(&format!(
                "can't remove {}: {error}; the next run tries again",
                path.display()
            ));
        }
    }
    let _ = fs::remove_dir_all(folder);
}

fn remove_cgroup(group: &Path) {
    for child in fs::read_dir(group).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&child.path());
        }
    }
    // A process that was just killed leaves its cgroup a moment later.
    for _ in 0..50 {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}
