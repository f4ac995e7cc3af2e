//! What content is called: SHA-256, of each request that carries a part of it. It is what S3 signs, so that a file is hashed once for both.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::SystemTime;

use md5::{Digest as _, Md5};

use super::{Content, Item, plan};
use crate::store::{Sha256, finished, sha256};

/// Bytes read at once: they are still near the processor when they are hashed.
const CHUNK: usize = 256 << 10;
/// Characters of a folder's name: 128 bits.
pub(super) const NAME: usize = 32;

/// An item whose content is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) item: Item,
    pub(super) bytes: u64,
    /// Of what each request carries, in the order of [`plan::requests`].
    pub(super) requests: Arc<[Sha256]>,
    /// When the file was last written, so that a change on the way is seen.
    pub(super) modified: Option<SystemTime>,
}

impl Known {
    /// Whether the file is still what it was when it was read for its digest.
    pub(super) fn is_same(&self) -> bool {
        look(&self.item.content).is_ok_and(|looked| looked == (self.bytes, self.modified))
    }

    pub(super) fn has_parts(&self) -> bool {
        self.requests.len() > 1
    }

    /// In hex: of the content where one request carries it, else of its parts' digests.
    pub(super) fn sha256(&self) -> String {
        match &*self.requests {
            [whole] => hex(whole),
            parts => hex(&sha256(&parts.concat())),
        }
    }
}

/// The size of an item, and when it was last written.
pub(super) fn look(content: &Content) -> io::Result<(u64, Option<SystemTime>)> {
    match content {
        Content::Bytes(bytes) => Ok((bytes.len() as u64, None)),
        Content::File(file) => {
            let meta = std::fs::metadata(file)?;
            Ok((meta.len(), meta.modified().ok()))
        }
    }
}

/// The digest of what one request carries. A file that has become shorter is an error.
pub(super) fn of_request(content: &Content, offset: u64, length: u64, mut seen: impl FnMut(u64)) -> io::Result<Sha256> {
    let mut hasher = ring::digest::Context::new(&ring::digest::SHA256);
    each_chunk(content, offset, length, |chunk| {
        hasher.update(chunk);
        seen(chunk.len() as u64);
    })?;
    Ok(finished(hasher))
}

/// The name of a folder with these files: of their paths, sizes and contents, and of nothing else.
pub(super) fn name(known: &[Known]) -> String {
    let mut all = Vec::new();
    for known in known {
        all.extend_from_slice(known.item.path.as_bytes());
        all.push(0);
        all.extend_from_slice(&known.bytes.to_le_bytes());
        all.extend_from_slice(known.sha256().as_bytes());
    }
    name_of(&all)
}

/// A name for whatever has these bytes.
pub(super) fn name_of(bytes: &[u8]) -> String {
    hex(&sha256(bytes)[..NAME / 2])
}

/// The mark that S3 gives an object as it is sent here: MD5 of it, or of its parts' MD5s. A store that encrypts may have another, and then it is sent again.
pub(super) fn e_tag(known: &Known) -> io::Result<String> {
    let mut parts = Vec::new();
    for (offset, length) in plan::requests(known.bytes) {
        let mut md5 = Md5::new();
        each_chunk(&known.item.content, offset, length, |chunk| md5.update(chunk))?;
        parts.extend_from_slice(&md5.finalize());
    }
    Ok(if known.has_parts() {
        format!("{}-{}", hex(&Md5::digest(&parts)), known.requests.len())
    } else {
        hex(&parts)
    })
}

/// Hands over what one request carries, in order.
fn each_chunk(content: &Content, offset: u64, length: u64, mut with: impl FnMut(&[u8])) -> io::Result<()> {
    let file = match content {
        Content::Bytes(bytes) => {
            with(&bytes[plan::range(offset, length, bytes.len())]);
            return Ok(());
        }
        Content::File(file) => file,
    };
    let mut opened = File::open(file)?;
    if offset > 0 {
        opened.seek(SeekFrom::Start(offset))?;
    }
    let mut left = length;
    let mut chunk = Vec::with_capacity(usize::try_from(length).map_or(CHUNK, |length| length.min(CHUNK)));
    while left > 0 {
        let wanted = left.min(CHUNK as u64);
        chunk.clear();
        opened.by_ref().take(wanted).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        with(&chunk);
        left -= chunk.len() as u64;
    }
    Ok(())
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
        known_as(item)
    }

    fn known_as(item: Item) -> Known {
        let (bytes, modified) = look(&item.content).unwrap();
        let requests = plan::requests(bytes).into_iter();
        let requests = requests.map(|(offset, length)| of_request(&item.content, offset, length, |_| {}).unwrap());
        Known {
            bytes,
            requests: requests.collect(),
            modified,
            item,
        }
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
        let large = vec![7; usize::try_from(plan::PART).unwrap() + 1];
        let mark = e_tag(&known("a", &large)).unwrap();
        assert!(mark.ends_with("-2"), "{mark}");
    }

    #[test]
    fn digests_are_those_that_others_make() {
        // `sha256sum` of "hello".
        assert_eq!(
            known("a", b"hello").sha256(),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        let large = vec![7; usize::try_from(plan::PART).unwrap() + 1];
        let parts: Vec<_> = large
            .chunks(usize::try_from(plan::PART).unwrap())
            .flat_map(sha256)
            .collect();
        assert_eq!(known("a", &large).sha256(), hex(&sha256(&parts)));
    }

    #[test]
    fn a_files_range_is_read_in_order_and_has_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.bin");
        let content: Vec<u8> = (0..3 * CHUNK + 5)
            .map(|at| (at * 7 / 1024 + at).to_le_bytes()[0])
            .collect();
        std::fs::write(&file, &content).unwrap();
        let read = |offset: usize, length: usize| {
            let mut read = Vec::new();
            let file = Content::File(file.clone());
            each_chunk(&file, offset as u64, length as u64, |chunk| {
                read.extend_from_slice(chunk)
            })
            .map(|()| read)
        };
        for (offset, length) in [
            (0, 0),
            (0, 1),
            (3, CHUNK),
            (CHUNK, 2 * CHUNK + 5),
            (0, content.len()),
            (content.len(), 0),
        ] {
            assert!(
                read(offset, length).unwrap() == content[offset..offset + length],
                "{offset} {length}"
            );
        }
        let error = read(1, content.len()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
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
        let known = known_as(item);
        assert!(known.is_same());
        std::fs::write(&file, "123").unwrap();
        assert!(!known.is_same());
    }
}
