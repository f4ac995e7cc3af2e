//! The requests of an upload: so many at once, and so many bytes of files in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::buffers::Buffers;
use super::digest::Known;
use super::journal::Journal;
use super::{Content, Error, plan, unreadable};
use crate::store::{self, Bucket};

/// What every request needs.
struct Shared {
    bucket: Bucket,
    folder: String,
    journal: Journal,
    /// Kilobytes that may still be read into memory.
    memory: Arc<Semaphore>,
    buffers: Buffers,
    /// Requests that may still be begun.
    requests: Arc<Semaphore>,
    sent: mpsc::UnboundedSender<u64>,
    /// Keys that this upload writes, from before the store is asked to: what is given up on the way may be written all the same.
    written: Mutex<BTreeSet<String>>,
    /// Objects that are begun and not made of their parts yet, by key: the store's names for the uploads.
    begun: Mutex<BTreeMap<String, String>>,
}

/// How often it is told how far it is: on a slow line a request takes minutes.
const BEAT: Duration = Duration::from_millis(200);

/// How long after it was given up a store may be busy with a request that it had all of.
const SETTLES: Duration = Duration::from_secs(1);

/// Sends these files, and tells how many bytes are sent. The first refusal ends it; what the store has by then stays, for the next try.
pub(super) async fn all(
    bucket: &Bucket,
    folder: &str,
    manifest: &str,
    files: &[Known],
    journal: Journal,
    told: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let (sent, mut news) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        bucket: bucket.clone(),
        folder: folder.to_owned(),
        journal,
        memory: Arc::new(Semaphore::new(kilobytes(plan::IN_MEMORY) as usize)),
        buffers: Buffers::default(),
        requests: Arc::new(Semaphore::new(plan::AT_ONCE)),
        sent,
        written: Mutex::default(),
        begun: Mutex::default(),
    });
    let ended = run(&shared, files, &mut news, told).await;
    if let Err(Error::Store(store::Error::Full { .. } | store::Error::Denied { .. })) = &ended {
        // Trying again is no use here, and what can't be used only takes room: of parts nobody would even see it.
        let begun = std::mem::take(&mut *locked(&shared.begun));
        for (key, id) in begun {
            let _ = shared.bucket.abort(&key, &id).await;
        }
        let written = std::mem::take(&mut *locked(&shared.written));
        // Who sent the same at once and was done first has a manifest over these files, and services from them.
        if let Ok(None) = shared.bucket.head(manifest).await {
            for wait in [Duration::ZERO, SETTLES] {
                tokio::time::sleep(wait).await;
                let there = shared.bucket.list(&shared.folder).await.unwrap_or_default();
                for object in there.iter().filter(|object| written.contains(&object.key)) {
                    let _ = shared.bucket.delete(&object.key).await;
                }
            }
        }
        shared.journal.done();
    }
    ended?;
    shared.journal.done();
    Ok(())
}

async fn run(
    shared: &Arc<Shared>,
    files: &[Known],
    news: &mut mpsc::UnboundedReceiver<u64>,
    told: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    // Large ones first: the last to end are then the small ones.
    let mut waiting: Vec<&Known> = files.iter().collect();
    waiting.sort_by_key(|known| known.bytes);
    let mut running = JoinSet::new();
    let mut beat = tokio::time::interval(BEAT);
    let (mut whole, mut most) = (0, 0);
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < plan::AT_ONCE * 2
            && let Some(known) = waiting.pop()
        {
            let (shared, known) = (Arc::clone(shared), known.clone());
            running.spawn(async move { one(shared, known).await });
        }
        let ended = tokio::select! {
            Some(bytes) = news.recv() => {
                whole += bytes;
                // A request that broke off begins again: that is no way back.
                most = whole.max(most);
                told(most);
                continue;
            }
            _ = beat.tick() => {
                let now = whole + shared.bucket.on_the_way();
                if now > most {
                    most = now;
                    told(most);
                }
                continue;
            }
            Some(ended) = running.join_next() => ended,
        };
        let ended = ended.map_err(|error| unreadable("a file", &error.to_string()));
        if let Err(error) = ended.and_then(|ended| ended) {
            // Until the last has ended, so that nothing is begun or written that nobody knows of.
            running.shutdown().await;
            return Err(error);
        }
    }
    while let Ok(bytes) = news.try_recv() {
        whole += bytes;
        told(whole.max(most));
    }
    Ok(())
}

fn kilobytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

async fn one(shared: Arc<Shared>, known: Known) -> Result<(), Error> {
    let key = format!("{}/{}", shared.folder, known.item.path);
    if !known.has_parts() {
        let (content, _permit) = shared.read(&known, 0, known.bytes).await?;
        shared.writes(&key);
        let write = shared.bucket.write(&key, content.clone());
        as_read(&known, 0, content, write).await?;
        let _ = shared.sent.send(known.bytes);
        return Ok(());
    }
    let began = shared.journal.began(&key).unwrap_or_default();
    match parts(&shared, &known, &key, began).await {
        // A store forgets what was begun after some days; or another upload of the same model, which was thought dead, ended it.
        Err(Error::Store(store::Error::Forgotten { .. } | store::Error::NotFound { .. })) => {
            parts(&shared, &known, &key, super::journal::Began::default()).await
        }
        ended => ended,
    }
}

/// A large file, in parts; those that the store has are left out.
async fn parts(shared: &Arc<Shared>, known: &Known, key: &str, began: super::journal::Began) -> Result<(), Error> {
    let id = if began.id.is_empty() {
        shared.bucket.begin(key).await?
    } else {
        began.id
    };
    locked(&shared.begun).insert(key.to_owned(), id.clone());
    let mut marks = began.parts;
    let mut running = JoinSet::new();
    let ended = |marks: &mut std::collections::BTreeMap<usize, String>, part: Result<_, tokio::task::JoinError>| {
        let (index, mark): (usize, String) =
            part.map_err(|error| unreadable(&known.item.path, &error.to_string()))??;
        marks.insert(index, mark);
        Ok::<_, Error>(())
    };
    for (index, (offset, length)) in plan::requests(known.bytes).into_iter().enumerate() {
        if marks.contains_key(&index) {
            let _ = shared.sent.send(length);
            continue;
        }
        let (content, permit) = shared.read(known, offset, length).await?;
        let (shared, known, key, id) = (Arc::clone(shared), known.clone(), key.to_owned(), id.clone());
        running.spawn(async move {
            let part = shared.bucket.part(&key, &id, index, content.clone());
            let mark = as_read(&known, index, content, part).await?;
            drop(permit);
            shared.journal.note(&key, &id, index, &mark);
            let _ = shared.sent.send(length);
            Ok::<_, Error>((index, mark))
        });
        while let Some(part) = running.try_join_next() {
            ended(&mut marks, part)?;
        }
    }
    while let Some(part) = running.join_next().await {
        ended(&mut marks, part)?;
    }
    shared.writes(key);
    shared.bucket.complete(key, &id, marks.into_values().collect()).await?;
    locked(&shared.begun).remove(key);
    Ok(())
}

/// Sends what one request carries of a file, which has to be what was read for the file's digest.
async fn as_read<T>(
    known: &Known,
    request: usize,
    content: Bytes,
    send: impl Future<Output = Result<T, store::Error>>,
) -> Result<T, Error> {
    let answer = store::with_digest(content, known.requests[request], send).await;
    answer.map_err(|error| match error {
        store::Error::OtherContent { .. } => Error::Changed {
            file: known.item.path.clone(),
        },
        error => error.into(),
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn writes(&self, key: &str) {
        locked(&self.written).insert(key.to_owned());
    }

    /// A part of a file, once there is room for it, and what is held as long as its request runs.
    async fn read(&self, known: &Known, offset: u64, length: u64) -> Result<(Bytes, OwnedSemaphorePermit), Error> {
        let closed = |_| unreadable(&known.item.path, "the upload was ended");
        let room = kilobytes(length.min(plan::IN_MEMORY));
        let room = Arc::clone(&self.memory)
            .acquire_many_owned(room)
            .await
            .map_err(closed)?;
        let request = Arc::clone(&self.requests).acquire_owned().await.map_err(closed)?;
        let content = match &known.item.content {
            Content::Bytes(bytes) => bytes.slice(plan::range(offset, length, bytes.len())),
            Content::File(file) => {
                let buffers = self.buffers.clone();
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || -> io::Result<Bytes> {
                    let mut opened = File::open(file)?;
                    if offset > 0 {
                        opened.seek(SeekFrom::Start(offset))?;
                    }
                    buffers.read(opened, length, room)
                });
                let read = read
                    .await
                    .map_err(|error| unreadable(&known.item.path, &error.to_string()))?;
                read.map_err(|error| unreadable(&known.item.path, &error.to_string()))?
            }
        };
        if content.len() as u64 != length {
            return Err(Error::Changed {
                file: known.item.path.clone(),
            });
        }
        Ok((content, request))
    }
}
