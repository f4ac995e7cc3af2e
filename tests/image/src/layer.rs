//! A layer: files in a tar, compressed, the same bytes for the same files in whatever order they come.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

/// A file of an image. It belongs to root: who runs the image can't change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// From the root, without the first slash: `etc/ssl/certs/ca-certificates.crt`.
    pub path: String,
    /// Its permissions: `0o755`.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

impl File {
    /// A file for everybody to read.
    pub fn readable(path: impl Into<String>, content: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            content,
        }
    }

    /// A file for everybody to run.
    pub fn executable(path: impl Into<String>, content: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            mode: 0o755,
            content,
        }
    }
}

/// Files, and what they are, for the image's history.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What it holds: `the certificate authorities that Mozilla trusts`.
    pub what: String,
    /// In any order, each path once.
    pub files: Vec<File>,
}

impl Layer {
    /// The files as a tar, with the folders above them.
    ///
    /// # Errors
    /// A path that is absolute, leaves the root, comes twice, is both a file and a folder, or doesn't fit into a tar's header.
    pub fn tar(&self, modified: u64) -> Result<Vec<u8>> {
        let mut folders = BTreeSet::new();
        let mut files = BTreeMap::new();
        for file in &self.files {
            let well_formed = file.path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            ensure!(
                well_formed,
                "`{}` is not a path from the root: write it as in usr/bin/true",
                file.path
            );
            ensure!(
                files.insert(file.path.as_str(), file).is_none(),
                "`{}` comes twice",
                file.path
            );
            folders.extend(file.path.match_indices('/').map(|(end, _)| &file.path[..end]));
        }
        if let Some(path) = folders.iter().find(|path| files.contains_key(*path)) {
            anyhow::bail!("`{path}` is a file and a folder");
        }
        let mut tar = tar::Builder::new(Vec::new());
        // Sorted by name, as all folders come before what is in them: an unpacker needs no second pass.
        for folder in folders {
            append(
                &mut tar,
                &format!("{folder}/"),
                EntryType::Directory,
                0o755,
                modified,
                &[],
            )?;
        }
        for (path, file) in files {
            append(&mut tar, path, EntryType::Regular, file.mode, modified, &file.content)?;
        }
        Ok(tar.into_inner()?)
    }
}

/// Adds one entry to a tar: of root, with nothing of this machine in its header.
pub(crate) fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    kind: EntryType,
    mode: u32,
    modified: u64,
    content: &[u8],
) -> Result<()> {
    let mut header = Header::new_ustar();
    header
        .set_path(path)
        .with_context(|| format!("`{path}` can't be put into a tar"))?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified);
    header.set_size(content.len() as u64);
    header.set_cksum();
    Ok(tar.append(&header, content)?)
}

/// Compressed, without a time or a system in the header.
///
/// # Errors
/// None that is known: it writes to memory.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(paths: &[&str]) -> Layer {
        let file = |path: &&str| File::readable(*path, path.as_bytes().to_vec());
        Layer {
            what: "files".to_owned(),
            files: paths.iter().map(file).collect(),
        }
    }

    fn listing(tar: &[u8]) -> Vec<(String, EntryType, u32, u64, u64)> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().expect("a tar");
        entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                (
                    entry.path().expect("a path").display().to_string(),
                    header.entry_type(),
                    header.mode().expect("a mode"),
                    header.uid().expect("an owner") + header.gid().expect("a group"),
                    header.mtime().expect("a time"),
                )
            })
            .collect()
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_all_is_root_s() {
        let tar = layer(&["usr/bin/true", "etc/ssl/cert.pem"]).tar(7).expect("a tar");
        let folder = |path: &str| (path.to_owned(), EntryType::Directory, 0o755, 0, 7);
        let file = |path: &str| (path.to_owned(), EntryType::Regular, 0o644, 0, 7);
        assert_eq!(
            listing(&tar),
            [
                folder("etc/"),
                folder("etc/ssl/"),
                folder("usr/"),
                folder("usr/bin/"),
                file("etc/ssl/cert.pem"),
                file("usr/bin/true"),
            ]
        );
    }

    #[test]
    fn the_order_of_files_does_not_matter() {
        let one = layer(&["a", "b/c", "b/d"]).tar(0).expect("a tar");
        let other = layer(&["b/d", "a", "b/c"]).tar(0).expect("a tar");
        assert_eq!(one, other);
        assert_eq!(gzip(&one).expect("gzip"), gzip(&other).expect("gzip"));
    }

    #[test]
    fn a_gzip_carries_neither_time_nor_system() {
        let gzip = gzip(b"text").expect("gzip");
        assert_eq!(gzip[4..8], [0; 4], "the time of RFC 1952");
        assert_eq!(gzip[9], 255, "the system: unknown");
    }

    #[test]
    fn a_path_that_would_not_unpack_where_it_says_is_refused() {
        for paths in [
            &["/etc/passwd"][..],
            &["../up"],
            &["a//b"],
            &["a/"],
            &[""],
            &["./a"],
            &["a", "a"],
            &["a", "a/b"],
        ] {
            assert!(layer(paths).tar(0).is_err(), "{paths:?}");
        }
        let long = "x".repeat(300);
        assert!(layer(&[&long]).tar(0).is_err());
    }
}
