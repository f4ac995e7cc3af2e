//! What programs left on disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// The files in a folder and in those below it; none where there is no such folder.
///
/// # Errors
/// Where an entry of a folder can't be read.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
