//! What the image is made from: this checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The version of every package here.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The licence of every package here.
pub const LICENCE: &str = env!("CARGO_PKG_LICENSE");

/// Where they are published; empty as long as no package says so.
pub const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The checkout's folder.
///
/// # Errors
/// It is gone.
pub fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize()
        .with_context(|| format!("can't find the checkout at {}", root.display()))
}

/// What git knows of the checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its hash; with `-dirty` behind it where files were changed since.
    pub revision: String,
    /// When it was made, in seconds since 1970.
    pub time: u64,
}

/// The commit that is checked out, if this is a git checkout.
///
/// # Errors
/// git answers something that isn't understood.
pub fn commit(root: &Path) -> Result<Option<Commit>> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output();
        output
            .ok()
            .filter(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(said) = git(&["log", "-1", "--format=%H %ct"]) else {
        return Ok(None);
    };
    let (hash, time) = said.split_once(' ').context("git log names no time")?;
    let dirty = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    Ok(Some(Commit {
        revision: format!("{hash}{}", if dirty { "-dirty" } else { "" }),
        time: time.parse().context("git log names no time")?,
    }))
}

/// The time that everything in the image has: `SOURCE_DATE_EPOCH`, else the commit's, else 1970.
///
/// # Errors
/// `SOURCE_DATE_EPOCH` is no number.
pub fn created(wanted: Option<&str>, commit: Option<&Commit>) -> Result<u64> {
    match wanted {
        Some(seconds) => match seconds.parse() {
            Ok(seconds) => Ok(seconds),
            Err(_) => bail!("SOURCE_DATE_EPOCH is `{seconds}`: it has to be a number of seconds since 1970"),
        },
        None => Ok(commit.map_or(0, |commit| commit.time)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_time_is_what_was_asked_for_else_the_commit_s_else_1970() {
        let commit = Commit {
            revision: "f00".to_owned(),
            time: 5,
        };
        assert_eq!(created(Some("7"), Some(&commit)).expect("a time"), 7);
        assert_eq!(created(None, Some(&commit)).expect("a time"), 5);
        assert_eq!(created(None, None).expect("a time"), 0);
        assert!(created(Some("yesterday"), None).is_err());
    }

    #[test]
    fn a_checkout_with_changes_says_so() {
        let place = tempfile::tempdir().expect("tempdir");
        let git = |arguments: &[&str]| {
            let status = Command::new("git")
                .arg("-C")
                .arg(place.path())
                .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
                .args(arguments)
                .env("GIT_COMMITTER_DATE", "1700000000 +0000")
                .status();
            assert!(status.expect("git").success(), "{arguments:?}");
        };
        git(&["init", "--quiet"]);
        git(&["commit", "--quiet", "--allow-empty", "--message", "first"]);
        let clean = commit(place.path()).expect("git").expect("a commit");
        assert_eq!((clean.time, clean.revision.len()), (1_700_000_000, 40));
        fs::write(place.path().join("new"), "x").expect("a file");
        let dirty = commit(place.path()).expect("git").expect("a commit");
        assert_eq!(dirty.revision, format!("{}-dirty", clean.revision));
    }
}
