//! What content is called: BLAKE3, which reads a model of gigabytes in a second.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::SystemTime;

use md5::{Digest as _, Md5};

use super::{Content, Item, plan};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Characters of a folder's name: 128 bits.
pub(super) const NAME: usize = 32;

/// An item whose content is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) item: Item,
    pub(super) bytes: u64,
    /// In hex.
    pub(super) blake3: String,
    /// When the file was last written, so that a change on the way is seen.
    pub(super) modified: Option<SystemTime>,
}

impl Known {
    /// Whether the file is still what it was when it was read for its digest.
    pub(super) fn is_same(&self) -> bool {
        match &self.item.content {
            Content::Bytes(_) => true,
            Content::File(file) => std::fs::metadata(file)
                .is_ok_and(|meta| meta.len() == self.bytes && meta.modified().ok() == self.modified),
        }
    }
}

/// Reads an item whole.
pub(super) fn know(item: Item, mut seen: impl FnMut(u64)) -> io::Result<Known> {
    let mut hasher = blake3::Hasher::new();
    let (bytes, modified) = match &item.content {
        Content::Bytes(content) => {
            hasher.update(content);
            seen(content.len() as u64);
            (content.len() as u64, None)
        }
        Content::File(file) => {
            let modified = std::fs::metadata(file)?.modified().ok();
            let bytes = each_chunk(file, |chunk| {
                hasher.update(chunk);
                seen(chunk.len() as u64);
            })?;
            (bytes, modified)
        }
    };
    Ok(Known {
        item,
        bytes,
        blake3: hasher.finalize().to_hex().to_string(),
        modified,
    })
}

/// The name of a folder with these files: of their paths, sizes and contents, and of nothing else.
pub(super) fn name(known: &[Known]) -> String {
    let mut hasher = blake3::Hasher::new();
    for known in known {
        hasher.update(known.item.path.as_bytes());
        hasher.update(&[0]);
        hasher.update(&known.bytes.to_le_bytes());
        hasher.update(known.blake3.as_bytes());
    }
    let mut name = hasher.finalize().to_hex().to_string();
    name.truncate(NAME);
    name
}

/// The mark that S3 gives an object as it is sent here: MD5 of it, or of its parts' MD5s. A store that encrypts may have another, and then it is sent again.
pub(super) fn e_tag(known: &Known) -> io::Result<String> {
    let part = plan::part_size(known.bytes);
    let mut parts = Vec::new();
    let mut md5 = Md5::new();
    let mut room = part.unwrap_or(u64::MAX);
    let mut add = |mut chunk: &[u8]| {
        while !chunk.is_empty() {
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(chunk.len());
            md5.update(&chunk[..take]);
            chunk = &chunk[take..];
            room -= take as u64;
            if room == 0 {
                parts.extend_from_slice(&md5.finalize_reset());
                room = part.unwrap_or(u64::MAX);
            }
        }
    };
    match &known.item.content {
        Content::Bytes(content) => add(content),
        Content::File(file) => {
            each_chunk(file, &mut add)?;
        }
    }
    let Some(size) = part else {
        return Ok(hex(&md5.finalize()));
    };
    if !known.bytes.is_multiple_of(size) {
        parts.extend_from_slice(&md5.finalize());
    }
    let count = parts.len() / 16;
    Ok(format!("{}-{count}", hex(&Md5::digest(&parts))))
}

/// Hands a file over in order. What is larger than a chunk another thread reads ahead, since reading takes as long as what is done with it, and nothing can be sent before the
/// last byte was seen.
fn each_chunk(file: &Path, mut with: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut opened = File::open(file)?;
    let first = next_chunk(&mut opened, Vec::with_capacity(CHUNK))?;
    with(&first);
    let mut all = first.len() as u64;
    if first.len() < CHUNK {
        return Ok(all);
    }
    std::thread::scope(|scope| {
        let (read, filled) = mpsc::channel();
        let (give_back, empty) = mpsc::channel();
        for chunk in [first, Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK)] {
            let _ = give_back.send(chunk);
        }
        scope.spawn(move || {
            // Either end may be gone: after the last chunk this one, after an error the other.
            for chunk in empty {
                let chunk = next_chunk(&mut opened, chunk);
                let is_last = chunk.as_ref().map_or(true, |chunk| chunk.len() < CHUNK);
                if read.send(chunk).is_err() || is_last {
                    return;
                }
            }
        });
        for chunk in filled {
            let chunk = chunk?;
            with(&chunk);
            all += chunk.len() as u64;
            let _ = give_back.send(chunk);
        }
        Ok(all)
    })
}

/// Fewer bytes than a chunk has are the file's last.
fn next_chunk(opened: &mut File, mut chunk: Vec<u8>) -> io::Result<Vec<u8>> {
    chunk.clear();
    opened.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(path: &str, content: &[u8]) -> Known {
        let item = Item {
            path: path.into(),
            content: Content::Bytes(content.to_vec().into()),
        };
        know(item, |_| {}).unwrap()
    }

    #[test]
    fn a_folder_is_named_by_paths_and_contents() {
        let one = name(&[known("a", b"x"), known("b", b"y")]);
        assert_eq!(one.len(), NAME);
        assert_eq!(one, name(&[known("a", b"x"), known("b", b"y")]));
        for other in [
            [known("a", b"y"), known("b", b"x")],
            [known("ab", b"x"), known("c", b"y")],
        ] {
            assert_ne!(one, name(&other));
        }
        assert_ne!(name(&[known("a", b"x")]), name(&[known("a", b"x"), known("b", b"")]));
    }

    #[test]
    fn marks_are_those_of_s3() {
        // `md5sum` of "hello".
        assert_eq!(
            e_tag(&known("a", b"hello")).unwrap(),
            "5d41402abc4b2a76b9719d911017c592"
        );
        let large = vec![7; usize::try_from(plan::SINGLE).unwrap() + 1];
        let mark = e_tag(&known("a", &large)).unwrap();
        assert!(mark.ends_with("-3"), "{mark}");
    }

    #[test]
    fn a_file_is_read_once_and_in_order_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.bin");
        for bytes in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 4 * CHUNK + 1] {
            let content: Vec<u8> = (0..bytes).map(|at| (at * 7 / 1024 + at).to_le_bytes()[0]).collect();
            std::fs::write(&file, &content).unwrap();
            let mut read = Vec::new();
            let all = each_chunk(&file, |chunk| read.extend_from_slice(chunk)).unwrap();
            assert!(read == content && all == bytes as u64, "{bytes}");
        }
        let error = each_chunk(folder.path(), |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_file_that_changes_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.bin");
        std::fs::write(&file, "12").unwrap();
        let item = Item {
            path: "model.bin".into(),
            content: Content::File(file.clone()),
        };
        let known = know(item, |_| {}).unwrap();
        assert!(known.is_same());
        std::fs::write(&file, "123").unwrap();
        assert!(!known.is_same());
    }
}
