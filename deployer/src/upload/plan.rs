//! How a file is cut into requests.

use std::ops::Range;

const MIB: u64 = 1 << 20;

/// A file up to this size is one request, and a larger one has parts of it, as long as the store counts that far.
pub(super) const PART: u64 = 32 * MIB;
/// S3 counts to 10,000.
const PARTS: u64 = 9_000;
/// Bytes that are in memory at once.
pub(super) const IN_MEMORY: u64 = 96 * MIB;
/// Requests at once.
pub(super) const AT_ONCE: usize = 24;

/// The size of a file's parts; none for a file that is one request.
pub(super) fn part_size(bytes: u64) -> Option<u64> {
    (bytes > PART).then(|| PART.max(bytes.div_ceil(PARTS).next_multiple_of(MIB)))
}

/// What the requests that carry a file have of it, as offsets and lengths: all of a small one, else a part each.
pub(super) fn requests(bytes: u64) -> Vec<(u64, u64)> {
    let size = part_size(bytes).unwrap_or(bytes.max(1));
    let parts = 0..bytes.div_ceil(size).max(1);
    parts.map(|part| (part * size, size.min(bytes - part * size))).collect()
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
        fn parts_cover_a_file_once_and_are_few(bytes in PART + 1..8_u64 << 40) {
            let parts = requests(bytes);
            prop_assert!((2..=10_000).contains(&parts.len()));
            let mut end = 0;
            for (offset, length) in parts {
                prop_assert_eq!(offset, end);
                prop_assert!(length > 0);
                end += length;
            }
            prop_assert_eq!(end, bytes);
        }
    }

    #[test]
    fn a_small_file_is_one_request() {
        for bytes in [0, 1, PART] {
            assert_eq!((part_size(bytes), requests(bytes)), (None, vec![(0, bytes)]));
        }
        assert_eq!(part_size(PART + 1), Some(PART));
        assert_eq!(requests(PART + 1), [(0, PART), (PART, 1)]);
    }
}
