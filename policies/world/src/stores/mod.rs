//! The model stores, read within limits: one client a backend, one gate before it, one cache for all.
//!
//! ```text
//! stat · list · read ──▶ cache (10 s, one call for many askers) ──▶ gate (breaker, calls at once) ──▶ client ──▶ store
//!                          └─ not found is an answer; a failure is not kept
//! ```

mod client;
mod connection;
mod failure;
mod gate;
mod http;
mod place;
#[cfg(test)]
mod tests;
mod web;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moka::Expiry;
use moka::future::Cache;
use tidewaiter_engine::Counts;
use tidewaiter_engine::world::{Listing, ObjectInfo};
use tokio::time::{Instant, timeout_at};

pub(crate) use client::Client;
pub(crate) use connection::{AzureKeys, Connection, Identity, Keys};
pub use connection::{Issuer, Trust};
pub use failure::Failure;
pub use gate::Patience;
pub(crate) use place::Place;

/// Bytes that one read brings at most.
pub const READ_LIMIT: u32 = 1024 * 1024;
/// Objects that one listing brings at most.
pub const LIST_LIMIT: u32 = 1_000;

/// Limits on what is kept of the stores' answers, and on the patience with them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an answer is good for. Long enough for the reviews of one rollout, and for a second pass over the same object.
    pub keep: Duration,
    /// How long it is taken for missing what was missing, for that is what people mend next: they upload the model and apply again. Longer than one admission takes.
    pub keep_missing: Duration,
    /// Bytes of answers that are kept.
    pub kept_bytes: u64,
    /// When a store is left alone.
    pub patience: Patience,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(10),
            keep_missing: Duration::from_millis(500),
            kept_bytes: 8 * 1024 * 1024,
            patience: Patience::default(),
        }
    }
}

/// What all reviews share: the answers of the stores for a few seconds.
pub struct Stores {
    answers: Cache<(u64, Place, Call), Answer>,
    hits: AtomicU64,
    misses: AtomicU64,
    pub(crate) patience: Patience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    Stat,
    List(u32),
    Folder(u32),
    Read(u64, u32),
}

#[derive(Clone)]
enum Answer {
    Missing,
    Size(u64),
    Listing(Arc<Listing>),
    Bytes(Bytes),
}

struct Kept(Limits);

impl<K> Expiry<K, Answer> for Kept {
    fn expire_after_create(&self, _: &K, answer: &Answer, _: std::time::Instant) -> Option<Duration> {
        let is_missing = match answer {
            Answer::Missing => true,
            Answer::Listing(listing) => listing.objects.is_empty(),
            Answer::Size(_) | Answer::Bytes(_) => false,
        };
        Some(if is_missing {
            self.0.keep_missing.min(self.0.keep)
        } else {
            self.0.keep
        })
    }
}

impl Default for Stores {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Stores {
    /// No answers yet.
    pub fn new(limits: Limits) -> Self {
        let weigh = |_: &(u64, Place, Call), answer: &Answer| {
            let held = match answer {
                Answer::Missing | Answer::Size(_) => 0,
                Answer::Listing(listing) => listing
                    .objects
                    .iter()
                    .map(|object| object.path.len() + size_of::<ObjectInfo>())
                    .sum(),
                Answer::Bytes(bytes) => bytes.len(),
            };
            u32::try_from(held.saturating_add(256)).unwrap_or(u32::MAX)
        };
        let answers = Cache::builder()
            .max_capacity(limits.kept_bytes)
            .weigher(weigh)
            .expire_after(Kept(limits))
            .build();
        Self {
            answers,
            hits: AtomicU64::default(),
            misses: AtomicU64::default(),
            patience: limits.patience,
        }
    }

    /// How many questions had their answer already, or were answered with another's, and how many were asked of a store.
    pub fn cached(&self) -> Counts {
        Counts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    pub(crate) async fn stat(&self, client: &Client, place: Place, deadline: Instant) -> Result<u64, Failure> {
        match self.ask(client, place, Call::Stat, deadline).await? {
            Answer::Size(size) => Ok(size),
            _ => Err(Failure::NotFound),
        }
    }

    pub(crate) async fn list(
        &self,
        client: &Client,
        place: Place,
        limit: u32,
        deadline: Instant,
    ) -> Result<Arc<Listing>, Failure> {
        match self
            .ask(client, place, Call::List(limit.clamp(1, LIST_LIMIT)), deadline)
            .await?
        {
            Answer::Listing(listing) => Ok(listing),
            _ => Err(Failure::NotFound),
        }
    }

    /// What stands directly in a place.
    pub(crate) async fn list_folder(
        &self,
        client: &Client,
        place: Place,
        limit: u32,
        deadline: Instant,
    ) -> Result<Arc<Listing>, Failure> {
        match self
            .ask(client, place, Call::Folder(limit.clamp(1, LIST_LIMIT)), deadline)
            .await?
        {
            Answer::Listing(listing) => Ok(listing),
            _ => Err(Failure::NotFound),
        }
    }

    pub(crate) async fn read(
        &self,
        client: &Client,
        place: Place,
        offset: u64,
        length: u32,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        match self.ask(client, place, Call::Read(offset, length), deadline).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(Failure::NotFound),
        }
    }

    async fn ask(&self, client: &Client, place: Place, call: Call, deadline: Instant) -> Result<Answer, Failure> {
        let host = client.host(&place);
        let asked = async {
            let answered = client.gate.pass(&host, deadline, async {
                match call {
                    Call::Stat => client.stat(&place).await.map(Answer::Size),
                    Call::List(limit) => client
                        .list(&place, limit as usize)
                        .await
                        .map(|listing| Answer::Listing(Arc::new(listing))),
                    Call::Folder(limit) => client
                        .list_folder(&place, limit as usize)
                        .await
                        .map(|listing| Answer::Listing(Arc::new(listing))),
                    Call::Read(offset, length) => client.read(&place, offset, length as usize).await.map(Answer::Bytes),
                }
            });
            match answered.await {
                Err(Failure::NotFound) => Ok(Answer::Missing),
                answer => answer,
            }
        };
        let key = (client.id, place.clone(), call);
        // The gate keeps the deadline of whoever asks; this one is for those who wait for another's answer.
        match timeout_at(deadline, self.answers.entry(key).or_try_insert_with(asked)).await {
            Ok(Ok(entry)) => {
                let count = if entry.is_fresh() { &self.misses } else { &self.hits };
                count.fetch_add(1, Ordering::Relaxed);
                Ok(entry.into_value())
            }
            Ok(Err(failure)) => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                Err((*failure).clone())
            }
            Err(_) => Err(Failure::unreachable(format!("{host} didn't answer in time"))),
        }
    }
}
