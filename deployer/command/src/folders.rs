//! The user's folder for what can be made again: what of an upload is done, and files that are made on the way.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How old a folder is that a killed command left: no upload takes longer.
const STALE: Duration = Duration::from_hours(7 * 24);

/// Where it is noted what of an upload is done; none where this user has no folder.
pub(super) fn journal() -> Option<PathBuf> {
    cache().map(|folder| folder.join("uploads"))
}

/// Where files are made or fetched on the way: models of gigabytes, which is more than many a `/tmp` holds. None where this user has no folder.
pub(super) fn scratch() -> Option<PathBuf> {
    let folder = cache()?.join("scratch");
    sweep(&folder);
    Some(folder)
}

/// By the XDG base directory specification.
fn cache() -> Option<PathBuf> {
    let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = named.filter(|folder| folder.is_absolute());
    let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    cache.map(|folder| folder.join("tidewaiter"))
}

/// A command that is killed can't take its files away.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified());
        if age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_what_is_old_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["old", "new"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("model"), "x").unwrap();
        }
        let old = fs::File::open(folder.path().join("old")).unwrap();
        old.set_modified(SystemTime::now() - STALE - Duration::from_mins(1))
            .unwrap();
        sweep(folder.path());
        assert!(!folder.path().join("old").exists() && folder.path().join("new/model").exists());
    }
}
