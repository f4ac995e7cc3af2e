//! Sends a model's files to a store: in parallel, resumable, and never twice. Where they will lie is known before anything is sent.
//!
//! ```text
//!   read all ─▶ ROOT/NAME/DIGEST/…   each file, by its own path; what is there already is compared and left
//!            ─▶ ROOT/NAME/manifests/DIGEST.json   last: it is there only when everything is
//! ```
//!
//! The folder's name is its content's digest, so what an interrupted upload left behind is a part of the same model or nothing. The manifest lies beside the folder
//! and not in it: KServe's servers would take it for a model, and its initializer loads whatever begins with the URI's text.

mod buffers;
mod digest;
mod error;
mod journal;
mod plan;
mod send;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;
use tidewaiter_core::uri::{StorageUri, UriError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use error::Error;

use crate::store::{self, Access, Bucket, Object, Sha256};
use digest::Known;
use journal::Journal;

/// Requests' worth of files that are read at once for their digests.
const READERS: usize = 4;

/// One file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Below the model's folder.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

/// What is in an [`Item`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file of this machine.
    File(PathBuf),
    /// These bytes.
    Bytes(Bytes),
}

/// Where to, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The artifact store: `s3://models/deployed/`.
    pub root: StorageUri,
    /// The model's name, a folder below the root.
    pub name: String,
    /// Keys.
    pub stores: Access,
    /// A folder for what an interrupted upload goes on with, made for this user alone; none keeps nothing, and then large files begin again.
    pub journal: Option<PathBuf>,
}

/// A model whose place is known, before anything of it is sent.
#[derive(Clone)]
pub struct Pending {
    bucket: Bucket,
    folder: String,
    manifest: String,
    digest: String,
    uri: StorageUri,
    known: Vec<Known>,
    missing: Vec<Known>,
    reused: u64,
    /// Its manifest is there.
    is_whole: bool,
    journal: Option<PathBuf>,
}

/// A model that is in the store, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// Its folder.
    pub uri: StorageUri,
    /// The manifest.
    pub manifest: String,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes that were there already.
    pub reused: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes read for the digest, of how many.
    Hashing(u64, u64),
    /// Bytes in the store, of how many.
    Uploading(u64, u64),
}

#[derive(Serialize)]
struct Manifest<'a> {
    version: u32,
    digest: &'a str,
    files: Vec<ManifestFile<'a>>,
}

#[derive(Serialize)]
struct ManifestFile<'a> {
    path: &'a str,
    bytes: u64,
    sha256: String,
    /// The size of the parts whose digests `sha256` is of, where a file is sent in parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u64>,
}

/// Sends what isn't there yet, and says where the model lies.
///
/// # Errors
/// See [`Error`].
pub async fn upload(items: Vec<Item>, options: &Options, progress: &dyn Fn(Progress)) -> Result<Uploaded, Error> {
    prepare(items, options, progress).await?.send(progress).await
}

/// Reads the files and asks the store what it has of them. Nothing is sent.
///
/// # Errors
/// See [`Error`].
pub async fn prepare(items: Vec<Item>, options: &Options, progress: &dyn Fn(Progress)) -> Result<Pending, Error> {
    let (bucket, root) = opened(options)?;
    in_bucket(items, &bucket, &root, options, progress).await
}

/// Where the model will lie, and how many bytes it has. Only its files are read: the store isn't asked, and no key is needed.
///
/// # Errors
/// See [`Error`].
pub async fn place(
    items: Vec<Item>,
    options: &Options,
    progress: &dyn Fn(Progress),
) -> Result<(StorageUri, u64), Error> {
    opened(options)?;
    let (known, _, uri) = named(items, options, progress).await?;
    Ok((uri, known.iter().map(|known| known.bytes).sum()))
}

/// Asks the store whether it lets us look where the model will lie: a key that doesn't open it is told before a model is fetched for nothing.
///
/// # Errors
/// See [`Error`].
pub(crate) async fn reach(options: &Options) -> Result<(), Error> {
    let (bucket, root) = opened(options)?;
    // Such a name as folders have, and no content's.
    let nobodys = "0".repeat(digest::NAME);
    bucket.list(&format!("{}/{nobodys}", base(&root, options))).await?;
    Ok(())
}

/// The model's folder in the bucket, for all of its contents.
fn base(root: &str, options: &Options) -> String {
    if root.is_empty() {
        options.name.clone()
    } else {
        format!("{root}/{}", options.name)
    }
}

/// A client for the artifact store, which isn't asked yet.
fn opened(options: &Options) -> Result<(Bucket, String), Error> {
    Bucket::open(&options.root, &options.stores).map_err(|error| match error {
        store::Error::Elsewhere { .. } => Error::Root {
            root: options.root.to_string(),
            reason: "it is no store that can be written to from here".to_owned(),
        },
        error => error.into(),
    })
}

/// The files as they were read, the name of all of them together, and where they will lie.
async fn named(
    items: Vec<Item>,
    options: &Options,
    progress: &dyn Fn(Progress),
) -> Result<(Vec<Known>, String, StorageUri), Error> {
    if items.is_empty() {
        return Err(Error::Empty);
    }
    let known = read(items.into_iter().map(not_empty).collect(), progress).await?;
    let digest = digest::name(&known);
    let uri = options.root.join(&format!("{}/{digest}", options.name));
    let uri = uri.map_err(|error: UriError| Error::Root {
        root: options.root.to_string(),
        reason: error.to_string(),
    })?;
    Ok((known, digest, uri))
}

/// KServe's storage initializer leaves empty files out (`obj.size == 0`), and Python needs its `__init__.py`.
fn not_empty(item: Item) -> Item {
    let is_module = Path::new(&item.path).extension().is_some_and(|end| end == "py");
    // A file that can't be looked at fails when it is read.
    let is_empty = match &item.content {
        Content::Bytes(bytes) => bytes.is_empty(),
        Content::File(file) => is_module && std::fs::metadata(file).is_ok_and(|meta| meta.len() == 0),
    };
    let content = if is_module && is_empty {
        Content::Bytes(Bytes::from_static(b"\n"))
    } else {
        item.content
    };
    Item { content, ..item }
}

async fn in_bucket(
    items: Vec<Item>,
    bucket: &Bucket,
    root: &str,
    options: &Options,
    progress: &dyn Fn(Progress),
) -> Result<Pending, Error> {
    let (known, digest, uri) = named(items, options, progress).await?;
    let base = base(root, options);
    let folder = format!("{base}/{digest}");
    let manifest = format!("{base}/manifests/{digest}.json");

    // The listing first: a store that says no to a HEAD has no body to say why in.
    let there = bucket.list(&folder).await?;
    // Where nothing is, S3 says no to who may list by prefixes alone.
    let is_whole = match bucket.head(&manifest).await {
        Err(store::Error::Denied { .. }) => false,
        found => found?.is_some(),
    };
    let (missing, reused) = compare(&known, &there, &folder, bucket, is_whole).await?;
    Ok(Pending {
        bucket: bucket.clone(),
        folder,
        manifest,
        digest,
        uri,
        known,
        missing,
        reused,
        is_whole,
        journal: options.journal.clone(),
    })
}

impl Pending {
    /// Where the model will lie.
    pub fn uri(&self) -> &StorageUri {
        &self.uri
    }

    /// Bytes that have to be sent.
    pub fn to_send(&self) -> u64 {
        self.missing.iter().map(|known| known.bytes).sum()
    }

    /// Bytes that are there already.
    pub fn reused(&self) -> u64 {
        self.reused
    }

    /// Whether all of it is there, and the manifest too.
    pub fn is_there(&self) -> bool {
        self.missing.is_empty() && self.is_whole
    }

    /// Sends what isn't there yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send(self, progress: &dyn Fn(Progress)) -> Result<Uploaded, Error> {
        let sent = self.to_send();
        let total = sent + self.reused;
        progress(Progress::Uploading(self.reused, total));
        let uploaded = Uploaded {
            uri: self.uri.clone(),
            manifest: self.bucket.uri(&self.manifest),
            sent,
            reused: self.reused,
        };
        if self.is_there() {
            return Ok(uploaded);
        }
        let (bucket, folder) = (&self.bucket, &self.folder);
        let journal = Journal::open(self.journal.as_deref(), &bucket.uri(folder));
        send::all(bucket, folder, &self.manifest, &self.missing, journal, &mut |bytes| {
            progress(Progress::Uploading((self.reused + bytes).min(total), total));
        })
        .await?;
        if let Some(changed) = self.known.iter().find(|known| !known.is_same()) {
            return Err(Error::Changed {
                file: changed.item.path.clone(),
            });
        }
        // Who uploads the same content beside us may have given up meanwhile, and taken out what we counted as there.
        if !is_all_there(&self.known, &bucket.list(folder).await?, folder) {
            return Err(Error::Meanwhile {
                uri: self.uri.to_string(),
            });
        }
        bucket
            .write(&self.manifest, document(&self.digest, &self.known))
            .await?;
        Ok(uploaded)
    }
}

/// Whether each file is in the listing of the folder, in its size.
fn is_all_there(known: &[Known], there: &[Object], folder: &str) -> bool {
    let sizes: BTreeMap<&str, u64> = there.iter().map(|object| (object.key.as_str(), object.bytes)).collect();
    known
        .iter()
        .all(|known| sizes.get(format!("{folder}/{}", known.item.path).as_str()) == Some(&known.bytes))
}

fn document(digest: &str, known: &[Known]) -> Bytes {
    let manifest = Manifest {
        version: 2,
        digest,
        files: known
            .iter()
            .map(|known| ManifestFile {
                path: &known.item.path,
                bytes: known.bytes,
                sha256: known.sha256(),
                part: plan::part_size(known.bytes),
            })
            .collect(),
    };
    serde_json::to_vec_pretty(&manifest).unwrap_or_default().into()
}

/// Reads everything once, several requests' worth at a time, in the order of the items' paths.
async fn read(mut items: Vec<Item>, progress: &dyn Fn(Progress)) -> Result<Vec<Known>, Error> {
    items.sort_by(|a, b| a.path.cmp(&b.path));
    let mut looked = Vec::with_capacity(items.len());
    for item in &items {
        looked.push(digest::look(&item.content).map_err(|error| unreadable(&item.path, &error.to_string()))?);
    }
    let total = looked.iter().map(|(bytes, _)| bytes).sum();
    let requests = looked.iter().enumerate().flat_map(|(file, (bytes, _))| {
        let requests = plan::requests(*bytes).into_iter().enumerate();
        requests.map(move |(request, (offset, length))| ((file, request), offset, length))
    });
    let mut waiting = requests.peekable();
    let mut digests = BTreeMap::new();
    let (seen, mut news) = mpsc::unbounded_channel::<u64>();
    let mut running = JoinSet::new();
    let mut done = 0;
    progress(Progress::Hashing(0, total));
    while waiting.peek().is_some() || !running.is_empty() {
        while running.len() < READERS
            && let Some((place, offset, length)) = waiting.next()
        {
            let (seen, content) = (seen.clone(), items[place.0].content.clone());
            running.spawn_blocking(move || {
                let sha256 = digest::of_request(&content, offset, length, |bytes| {
                    let _ = seen.send(bytes);
                });
                (place, sha256)
            });
        }
        tokio::select! {
            Some(bytes) = news.recv() => {
                done += bytes;
                while let Ok(bytes) = news.try_recv() {
                    done += bytes;
                }
                progress(Progress::Hashing(done.min(total), total));
            }
            Some(read) = running.join_next() => {
                let ((file, request), sha256) = read.map_err(|error| unreadable("a file", &error.to_string()))?;
                let sha256 = sha256.map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => Error::Changed { file: items[file].path.clone() },
                    _ => unreadable(&items[file].path, &error.to_string()),
                })?;
                digests.insert((file, request), sha256);
            }
        }
    }
    let mut requests: Vec<Vec<Sha256>> = vec![Vec::new(); items.len()];
    for ((file, _), sha256) in digests {
        requests[file].push(sha256);
    }
    let known = items.into_iter().zip(looked).zip(requests);
    Ok(known
        .map(|((item, (bytes, modified)), requests)| Known {
            item,
            bytes,
            requests: requests.into(),
            modified,
        })
        .collect())
}

/// What has to be sent, and how many bytes needn't.
async fn compare(
    known: &[Known],
    there: &[Object],
    folder: &str,
    bucket: &Bucket,
    is_whole: bool,
) -> Result<(Vec<Known>, u64), Error> {
    const SHOWN: usize = 5;
    let mut there: BTreeMap<&str, &Object> = there
        .iter()
        .filter_map(|object| Some((object.key.strip_prefix(folder)?.strip_prefix('/')?, object)))
        .collect();
    let mut missing = Vec::new();
    let mut reused = 0;
    for known in known {
        let object = there.remove(known.item.path.as_str());
        let Some(object) = object.filter(|object| object.bytes == known.bytes) else {
            missing.push(known.clone());
            continue;
        };
        // Behind a manifest everything was sent with its checksum. Before it, only what the store marks as the same counts.
        if is_whole || has_mark(known, object).await {
            reused += known.bytes;
        } else {
            missing.push(known.clone());
        }
    }
    if !there.is_empty() {
        return Err(Error::Foreign {
            uri: bucket.uri(folder),
            files: there.keys().take(SHOWN).map(|file| (*file).to_owned()).collect(),
        });
    }
    Ok((missing, reused))
}

async fn has_mark(known: &Known, object: &Object) -> bool {
    let Some(mark) = object.e_tag.as_deref().map(|mark| mark.trim_matches('"').to_owned()) else {
        return false;
    };
    let known = known.clone();
    let same = tokio::task::spawn_blocking(move || digest::e_tag(&known).is_ok_and(|own| own == mark)).await;
    same.unwrap_or(false)
}

fn unreadable(file: &str, reason: &str) -> Error {
    Error::Unreadable {
        file: file.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The files of a folder, as they are, without a `tidewaiter.yaml` at its root: what a deployment is told, as it may be a variable with a key, is no part of the model.
///
/// # Errors
/// Where it can't be read.
pub async fn of_folder(folder: &Path) -> Result<Vec<Item>, crate::source::Error> {
    let root = folder.to_owned();
    crate::source::blocking(move || {
        let entries = crate::source::walk(&root)?;
        Ok(entries
            .into_iter()
            .map(|entry| Item {
                content: Content::File(crate::source::local_file(&root, &entry.path)),
                path: entry.path,
            })
            .collect())
    })
    .await
}

#[cfg(test)]
mod tests;
