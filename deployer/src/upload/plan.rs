//! How a file is cut into requests.

use std::ops::Range;

const MIB: u64 = 1 << 20;

/// A file up to this size is one request.
pub(super) const SINGLE: u64 = 32 * MIB;
/// Parts of larger ones, as long as the store counts that far.
const PART: u64 = 16 * MIB;
/// S3 counts to 10,000.
const PARTS: u64 = 9_000;
/// Bytes that are in memory at once.
pub(super) const IN_MEMORY: u64 = 64 * MIB;
/// Requests at once.
pub(super) const AT_ONCE: usize = 24;

/// The size of a file's parts; none for a file that is one request.
pub(super) fn part_size(bytes: u64) -> Option<u64> {
    (bytes > SINGLE).then(|| PART.max(bytes.div_ceil(PARTS).next_multiple_of(MIB)))
}

/// Offsets and lengths.
pub(super) fn parts(bytes: u64, size: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..bytes.div_ceil(size)).map(move |part| (part * size, size.min(bytes - part * size)))
}

/// What the requests that carry a file have of it: all of a small one, else a part each.
pub(super) fn requests(bytes: u64) -> Vec<(u64, u64)> {
    match part_size(bytes) {
        None => vec![(0, bytes)],
        Some(size) => parts(bytes, size).collect(),
    }
}

/// The same of content in memory, which has so many bytes.
pub(super) fn range(offset: u64, length: u64, bytes: usize) -> Range<usize> {
    let within = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes);
    within(offset)..within(offset.saturating_add(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_cover_a_file_once_and_are_few(bytes in SINGLE + 1..8_u64 << 40) {
            let size = part_size(bytes).unwrap();
            let count = bytes.div_ceil(size);
            prop_assert!(count <= 10_000);
            let last = parts(bytes, size).last().unwrap();
            prop_assert_eq!(last.0 + last.1, bytes);
            let first: Vec<_> = parts(bytes, size).take(2).collect();
            prop_assert_eq!(first[0], (0, size));
            prop_assert_eq!(first[1].0, size);
        }
    }

    #[test]
    fn a_small_file_is_one_request() {
        assert_eq!((part_size(0), part_size(SINGLE)), (None, None));
        assert_eq!(part_size(SINGLE + 1), Some(PART));
    }
}
