//! The memory that files are read into. Pieces of many mebibytes that come and go leave an allocator with twice as much as is in use, which nobody sees and no
//! bound holds; these are the system's own pages, used again by the next piece of the same size, and given back before there is one of another size.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;
use tokio::sync::OwnedSemaphorePermit;

/// What memory comes in; where a system has larger ones, it rounds up by itself.
const PAGE: usize = 4096;

/// Memory that is lent out, and comes back when nobody has the bytes any more. What is lent and what waits is never more than what was lent at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<MmapMut>>>);

struct Lent {
    /// There until it is dropped.
    pages: Option<MmapMut>,
    /// How many bytes of them were read.
    length: usize,
    home: Buffers,
    /// Given back after the pages: who sends may have the bytes for a while after their request has its answer.
    _room: OwnedSemaphorePermit,
}

impl Buffers {
    /// So many bytes, or fewer where there are no more; they take up their room until the last of them is dropped.
    pub(super) fn read(&self, mut from: impl Read, length: u64, room: OwnedSemaphorePermit) -> io::Result<Bytes> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let size = length.max(1).next_multiple_of(PAGE);
        let mut pages = self.waiting(size).map_or_else(|| MmapMut::map_anon(size), Ok)?;
        let length = fill(&mut pages[..length], &mut from)?;
        Ok(Bytes::from_owner(Lent {
            pages: Some(pages),
            length,
            home: self.clone(),
            _room: room,
        }))
    }

    /// One of this size; where there is none, no other waits any more.
    fn waiting(&self, size: usize) -> Option<MmapMut> {
        let mut waiting = self.locked();
        waiting.retain(|pages| pages.len() == size);
        waiting.pop()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<MmapMut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until it is full or there are no more bytes, and says how many there were.
fn fill(mut room: &mut [u8], from: &mut impl Read) -> io::Result<usize> {
    let whole = room.len();
    while !room.is_empty() {
        match from.read(room) {
            Ok(0) => break,
            Ok(read) => room = &mut room[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(whole - room.len())
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.pages.as_deref().map_or(&[], |pages| &pages[..self.length])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.locked().extend(self.pages.take());
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// Buffers with room for so many pieces, and how many could still be read.
    struct Room(Buffers, Arc<Semaphore>);

    impl Room {
        fn for_pieces(pieces: usize) -> Self {
            Self(Buffers::default(), Arc::new(Semaphore::new(pieces)))
        }

        fn read(&self, there: &[u8], length: usize) -> Bytes {
            let room = Arc::clone(&self.1).try_acquire_owned().unwrap();
            self.0.read(there, length as u64, room).unwrap()
        }

        fn waiting(&self) -> usize {
            self.0.locked().len()
        }

        fn left(&self) -> usize {
            self.1.available_permits()
        }
    }

    #[test]
    fn memory_and_its_room_come_back_and_it_holds_what_was_read_last() {
        let room = Room::for_pieces(2);
        let read = |byte: u8, there: usize| room.read(&vec![byte; there], PAGE);
        let first = read(1, PAGE);
        let address = first.as_ptr();
        let second = read(2, PAGE + 1);
        assert_ne!(second.as_ptr(), address, "the first is still read");
        let part = first.slice(10..20);
        drop(first);
        assert_eq!((room.waiting(), room.left()), (0, 0), "a part of it is still read");
        drop(part);
        assert_eq!((room.waiting(), room.left()), (1, 1));
        let third = read(3, 40);
        assert_eq!(third.as_ptr(), address);
        assert_eq!(third, [3; 40][..]);
        assert!(second == vec![2; PAGE], "of so many bytes, or others");
    }

    #[test]
    fn what_waits_is_given_back_before_there_is_more() {
        let room = Room::for_pieces(2);
        let read = |length: usize| room.read(&vec![7; length], length);
        drop([read(PAGE), read(PAGE)]);
        assert_eq!(room.waiting(), 2);
        let larger = read(PAGE + 1);
        assert_eq!(room.waiting(), 0, "they wait beside a larger one");
        drop(larger);
        assert_eq!(room.waiting(), 1);
        assert!(read(0).is_empty());
        assert_eq!(room.waiting(), 1, "it waits beside a small one");
    }
}
