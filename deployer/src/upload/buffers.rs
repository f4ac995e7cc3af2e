//! The memory that files are read into. Pieces of many mebibytes that come and go leave an allocator with twice as much as is in use, which nobody sees and no
//! bound holds; these are the system's own pages, used again by the next piece of the same size, and given back before there is one of another size.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

/// What is smaller is an allocator's daily work.
const PIECE: usize = 1 << 20;

/// Memory that is lent out, and comes back when nobody has the bytes any more. What is lent and what waits is never more than what was lent at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<MmapMut>>>);

struct Lent {
    /// There until it is dropped.
    pages: Option<MmapMut>,
    /// How many bytes of them were read.
    length: usize,
    home: Buffers,
}

impl Buffers {
    /// So many bytes, or fewer where there are no more.
    pub(super) fn read(&self, mut from: impl Read, length: u64) -> io::Result<Bytes> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let waiting = self.waiting(length);
        if length < PIECE {
            let mut bytes = Vec::with_capacity(length);
            from.take(length as u64).read_to_end(&mut bytes)?;
            return Ok(bytes.into());
        }
        let mut pages = waiting.map_or_else(|| MmapMut::map_anon(length), Ok)?;
        let length = fill(&mut pages, &mut from)?;
        Ok(Bytes::from_owner(Lent {
            pages: Some(pages),
            length,
            home: self.clone(),
        }))
    }

    /// One of this size; where there is none, no other waits any more.
    fn waiting(&self, length: usize) -> Option<MmapMut> {
        let mut waiting = self.locked();
        waiting.retain(|pages| pages.len() == length);
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
    use super::*;

    #[test]
    fn memory_comes_back_and_holds_what_was_read_last() {
        let buffers = Buffers::default();
        let read = |byte: u8, there: usize| buffers.read(&vec![byte; there][..], PIECE as u64).unwrap();
        let first = read(1, PIECE);
        let address = first.as_ptr();
        let second = read(2, PIECE + 1);
        assert_ne!(second.as_ptr(), address, "the first is still read");
        let part = first.slice(10..20);
        drop(first);
        assert!(buffers.locked().is_empty(), "a part of it is still read");
        drop(part);
        let third = read(3, 40);
        assert_eq!(third.as_ptr(), address);
        assert_eq!(third, [3; 40][..]);
        assert!(second == vec![2; PIECE], "of so many bytes, or others");
    }

    #[test]
    fn what_waits_is_given_back_before_there_is_more() {
        let buffers = Buffers::default();
        let read = |length: usize| buffers.read(&vec![7; length][..], length as u64).unwrap();
        drop([read(PIECE), read(PIECE)]);
        assert_eq!(buffers.locked().len(), 2);
        let larger = read(PIECE + 1);
        assert!(buffers.locked().is_empty(), "they wait beside a larger one");
        drop(larger);
        assert_eq!(buffers.locked().len(), 1);
        drop(read(1));
        assert!(buffers.locked().is_empty(), "it waits beside a small one");
    }
}
