//! The memory that all policies that run have together. Each one's own limit keeps it from the others; this keeps all of them from the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;

use crate::failure::Failure;

const MIB: usize = 1 << 20;

/// Permits, one a MiB.
#[derive(Debug)]
pub(crate) struct Room {
    free: Semaphore,
    total: u32,
    /// The least that one run takes, so that there are never more at once than there are instances.
    least: u32,
}

impl Room {
    /// `total` MiB, for `runs` at once.
    pub(crate) fn new(total: u32, runs: u32) -> Arc<Self> {
        let total = total.max(1);
        Arc::new(Self {
            free: Semaphore::new(total as usize),
            total,
            least: total.div_ceil(runs.max(1)),
        })
    }

    /// Waits for so many MiB. Who wants more than there are gets all.
    pub(crate) async fn take(self: &Arc<Self>, mib: u32) -> Result<Held, Failure> {
        let mib = mib.max(self.least).min(self.total);
        let Ok(permits) = self.free.acquire_many(mib).await else {
            return Err(Failure::Start("the engine is shut down".to_owned()));
        };
        permits.forget();
        Ok(Held {
            room: Arc::clone(self),
            mib,
            used: 0,
            peak: None,
        })
    }
}

/// What one run holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Arc<Room>,
    mib: u32,
    /// In bytes.
    used: usize,
    /// The most that a run of the same policy used, in MiB.
    peak: Option<Arc<AtomicU32>>,
}

impl Held {
    /// Makes it `bytes` more, where there is room now: nobody waits who has some already. Who has all of it is kept by its own limit alone.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let used = self.used.saturating_add(bytes);
        let wanted = mib(used).min(self.room.total);
        if let Some(more) = wanted.checked_sub(self.mib).filter(|more| *more > 0) {
            let Ok(permits) = self.room.free.try_acquire_many(more) else {
                return false;
            };
            permits.forget();
            self.mib = wanted;
        }
        self.used = used;
        true
    }

    /// At its end, however it ends, `peak` is at least what was used, in MiB.
    pub(crate) fn remember(&mut self, peak: &Arc<AtomicU32>) {
        self.peak = Some(Arc::clone(peak));
    }

    /// What was used, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.used
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let used = mib(self.used);
        // Read first: a write that changes nothing would still take the line from the other cores.
        if let Some(peak) = self.peak.as_ref().filter(|peak| used > peak.load(Ordering::Relaxed)) {
            peak.fetch_max(used, Ordering::Relaxed);
        }
        self.room.free.add_permits(self.mib as usize);
    }
}

fn mib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(MIB)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// None where it has to wait.
    fn taken(room: &Arc<Room>, mib: u32) -> Option<Held> {
        match pin!(room.take(mib)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(held) => Some(held.expect("it is not shut down")),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_all_hold_is_never_more_than_there_is() {
        let room = Room::new(64, 128);
        let held: Vec<_> = std::iter::from_fn(|| taken(&room, 32)).take(9).collect();
        assert_eq!(held.len(), 2);
        drop(held);
        // More than there is: all of it, and alone.
        let mut all = taken(&room, 1024).expect("there is room");
        assert!(taken(&room, 1).is_none());
        assert!(all.grow(1000 * MIB), "its own limit keeps it");
        drop(all);
        assert_eq!(room.free.available_permits(), 64);
    }

    #[test]
    fn who_grows_takes_more_and_gives_all_back() {
        let room = Room::new(8, 8);
        let (mut one, other) = (taken(&room, 1).unwrap(), taken(&room, 4).unwrap());
        assert!(one.grow(MIB) && one.grow(2 * MIB + 1));
        assert_eq!((mib(one.bytes()), room.free.available_permits()), (4, 0));
        assert!(!one.grow(MIB), "the other has the rest");
        assert_eq!(mib(one.bytes()), 4);
        drop(other);
        assert!(one.grow(MIB));
        drop(one);
        assert_eq!(room.free.available_permits(), 8);
    }

    #[test]
    fn there_are_no_more_at_once_than_instances() {
        let room = Room::new(256, 2);
        let held: Vec<_> = std::iter::from_fn(|| taken(&room, 1)).take(9).collect();
        assert_eq!(held.len(), 2);
    }
}
