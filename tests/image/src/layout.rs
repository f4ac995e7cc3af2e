//! A release on disk, as an OCI image layout: a folder, or the same in one tar.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tar::EntryType;

use crate::layer::append;
use crate::oci::Blobs;

/// The file that makes a folder a layout.
const MARK: &str = "oci-layout";
const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes the layout, in place of one that was there.
///
/// # Errors
/// A folder with something else in it, which stays as it is; no space.
pub fn folder(blobs: &Blobs, folder: &Path) -> Result<()> {
    let shown = folder.display();
    if folder.exists() {
        let empty = folder
            .read_dir()
            .with_context(|| format!("can't read {shown}"))?
            .next()
            .is_none();
        ensure!(
            empty || folder.join(MARK).is_file(),
            "{shown} holds something that is no image layout: name another folder with --out"
        );
        fs::remove_dir_all(folder).with_context(|| format!("can't replace {shown}"))?;
    }
    let write = || -> Result<()> {
        let place = folder.join("blobs/sha256");
        fs::create_dir_all(&place)?;
        for (digest, blob) in &blobs.by_digest {
            fs::write(place.join(digest), blob)?;
        }
        fs::write(folder.join(MARK), VERSION)?;
        Ok(fs::write(folder.join("index.json"), &blobs.index)?)
    };
    write().with_context(|| format!("can't write {shown}"))
}

/// Writes the layout as a tar.
///
/// # Errors
/// What the writer says.
pub fn archive(blobs: &Blobs, to: impl Write) -> Result<()> {
    let mut tar = tar::Builder::new(to);
    let mut file = |path: &str, content: &[u8]| append(&mut tar, path, EntryType::Regular, 0o644, 0, content);
    file(MARK, VERSION)?;
    file("index.json", &blobs.index)?;
    for (digest, blob) in &blobs.by_digest {
        file(&format!("blobs/sha256/{digest}"), blob)?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;
    use crate::layer::{File, Layer};
    use crate::oci::{Architecture, Image, Release};

    fn blobs(content: &str) -> Blobs {
        let image = Image {
            architecture: Architecture::Amd64,
            layers: vec![Layer {
                what: "a program".to_owned(),
                files: vec![File::executable("program", content.as_bytes().to_vec())],
            }],
            entrypoint: vec!["/program".to_owned()],
            user: "65532:65532".to_owned(),
            ports: Vec::new(),
            attachments: Vec::new(),
        };
        let release = Release {
            repository: "example.org/program".to_owned(),
            tag: "1".to_owned(),
            created: 0,
            labels: BTreeMap::new(),
            images: vec![image],
        };
        release.blobs().expect("blobs")
    }

    fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(root).expect("inside").display().to_string();
                    files.insert(name, fs::read(path).expect("a file"));
                }
            }
        }
        files
    }

    #[test]
    fn the_archive_holds_what_the_folder_holds() {
        let place = tempfile::tempdir().expect("tempdir");
        let made = blobs("x");
        folder(&made, &place.path().join("layout")).expect("a layout");
        let mut tar = Vec::new();
        archive(&made, &mut tar).expect("an archive");
        let mut unpacked = BTreeMap::new();
        for entry in tar::Archive::new(tar.as_slice()).entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            unpacked.insert(entry.path().expect("a path").display().to_string(), content);
        }
        assert_eq!(unpacked, files(&place.path().join("layout")));
        assert_eq!(unpacked[MARK], VERSION);
        assert_eq!(unpacked.len(), made.by_digest.len() + 2);
    }

    #[test]
    fn two_archives_are_the_same_bytes() {
        let archive = || {
            let mut tar = Vec::new();
            archive(&blobs("x"), &mut tar).expect("an archive");
            tar
        };
        assert_eq!(archive(), archive());
    }

    #[test]
    fn an_older_layout_is_replaced_and_anything_else_is_left_alone() {
        let place = tempfile::tempdir().expect("tempdir");
        let layout = place.path().join("layout");
        folder(&blobs("old"), &layout).expect("a layout");
        folder(&blobs("new"), &layout).expect("another");
        assert_eq!(files(&layout).len(), blobs("new").by_digest.len() + 2);

        let own = place.path().join("own");
        fs::create_dir(&own).expect("a folder");
        fs::write(own.join("thesis.txt"), "years").expect("a file");
        let refused = folder(&blobs("x"), &own).expect_err("refused").to_string();
        assert!(refused.contains("name another folder"), "{refused}");
        assert_eq!(files(&own)["thesis.txt"], b"years");
    }
}
