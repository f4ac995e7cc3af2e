//! The memory that parts of files are read into, used again and again: what comes and goes in pieces of 32 MiB leaves an allocator with twice as much as is in use.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Memory that is lent out, and comes back when nobody has the bytes any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// So many bytes, or fewer where there are no more.
    pub(super) fn read(&self, from: impl Read, length: u64) -> io::Result<Bytes> {
        let mut lent = Lent {
            bytes: self.idle().pop().unwrap_or_default(),
            home: self.clone(),
        };
        lent.bytes.clear();
        // Exactly, since growing would double it.
        lent.bytes
            .reserve_exact(usize::try_from(length).map_err(io::Error::other)?);
        from.take(length).read_to_end(&mut lent.bytes)?;
        Ok(Bytes::from_owner(lent))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.idle().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_holds_what_was_read_last() {
        let buffers = Buffers::default();
        let first = buffers.read(&[1_u8; 100][..], 100).unwrap();
        let address = first.as_ptr();
        let second = buffers.read(&[2_u8; 100][..], 100).unwrap();
        assert_ne!(second.as_ptr(), address, "the first is still read");
        let part = first.slice(10..20);
        drop(first);
        assert!(buffers.idle().is_empty(), "a part of it is still read");
        drop(part);
        let third = buffers.read(&[3_u8; 40][..], 100).unwrap();
        assert_eq!(third.as_ptr(), address);
        assert_eq!(&third[..], [3; 40]);
        assert_eq!(&second[..], [2; 100]);
    }
}
