//! Brings files to this machine that have to be uploaded elsewhere. Memory stays flat: a few megabytes of each.

use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use futures::StreamExt as _;

use super::tracking::Piece;
use super::{Entry, Error, Folder, Located, unreadable};

/// Bytes of one request, and files at once.
const CHUNK: u64 = 8 << 20;
const AT_ONCE: usize = 4;

/// The folder (or the one file) of this machine with these files in it: where they are, where that is here, else below `scratch`.
pub(crate) async fn fetch(
    located: &Located,
    paths: Vec<&str>,
    scratch: &Path,
    told: &dyn Fn(u64, u64),
) -> Result<PathBuf, Error> {
    let folder = match &located.folder {
        Some(Folder::Local(root)) => return Ok(root.clone()),
        Some(folder) => folder,
        None if paths.is_empty() => return Ok(scratch.to_owned()),
        None => {
            return Err(Error::Unclear {
                place: located.origin.asked.clone(),
            });
        }
    };
    if let Folder::Tracking(artifacts) = folder
        && !artifacts.is_whole()
    {
        return Err(Error::ServersDisk {
            asked: located.origin.asked.clone(),
            place: folder.told(),
        });
    }
    let to = scratch.join("fetched");
    let entries: Vec<&Entry> = located
        .entries
        .iter()
        .filter(|entry| paths.contains(&entry.path.as_str()))
        .collect();
    let total = entries.iter().map(|entry| entry.bytes).sum();
    let done = std::cell::Cell::new(0_u64);
    let (root, done) = (&to, &done);
    let one = |entry: &Entry| {
        let (entry, to) = (entry.clone(), root.join(&entry.path));
        async move {
            let failed = |error: io::Error| unwritable(&to, scratch, total, &error);
            let count = |more: u64, less: u64| {
                done.set((done.get() + more).saturating_sub(less));
                told(done.get().min(total), total);
            };
            file(folder, &entry, &to, &failed, &count).await
        }
    };
    let mut running = futures::stream::iter(entries.into_iter().map(one)).buffer_unordered(AT_ONCE);
    while let Some(fetched) = running.next().await {
        fetched?;
    }
    drop(running);
    Ok(to)
}

/// Why a file could not be written that belongs to `bytes` in all below a folder.
pub(crate) fn unwritable(file: &Path, below: &Path, bytes: u64, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoRoom {
            folder: below.display().to_string(),
            bytes,
        },
        _ => unreadable(file, error),
    }
}

/// `count` is told of bytes that came, and of such that came for nothing.
async fn file(
    folder: &Folder,
    entry: &Entry,
    to: &Path,
    failed: &dyn Fn(io::Error) -> Error,
    count: &dyn Fn(u64, u64),
) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut written = std::fs::File::create(to).map_err(failed)?;
    let mut size = 0;
    let mut put = |piece: Piece| -> Result<(), Error> {
        match piece {
            Piece::Next(bytes) => {
                size += bytes.len() as u64;
                count(bytes.len() as u64, 0);
                written.write_all(&bytes).map_err(failed)
            }
            Piece::Again => {
                count(0, size);
                size = 0;
                written.rewind().and_then(|()| written.set_len(0)).map_err(failed)
            }
        }
    };
    if let Folder::Tracking(artifacts) = folder {
        artifacts.copy(&entry.path, entry.bytes, &mut put).await?;
    } else {
        let mut offset = 0;
        while offset < entry.bytes {
            let bytes = folder.read(&entry.path, offset, CHUNK).await?;
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            put(Piece::Next(bytes))?;
        }
    }
    if entry.bytes > 0 && size != entry.bytes {
        return Err(Error::Unreadable {
            file: format!("{}/{}", folder.told(), entry.path),
            reason: format!("{size} of {} bytes came", entry.bytes),
        });
    }
    Ok(())
}
