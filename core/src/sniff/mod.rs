//! The version that a model file itself carries, read from a few of its bytes. Nothing is ever executed or unpacked.
//!
//! Files can be gigabytes. What is needed stands at their ends: read [`HEAD`] bytes from the start and, of a file longer than that, the last [`TAIL`] bytes.

mod pickle;
mod xgboost;

pub use pickle::Pickle;
pub use xgboost::{BaseScore, XgBoost};

/// Bytes to read from the start.
pub const HEAD: u32 = 256 * 1024;
/// Bytes to read from the end of a file that is longer than [`HEAD`].
pub const TAIL: u32 = 64 * 1024;

/// What a file is, as far as its bytes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// XGBoost's own JSON or UBJSON file.
    XgBoost(XgBoost),
    /// XGBoost's binary format from before JSON, with the version that wrote it: from 1.0 on, major and minor.
    XgBoostLegacy(Option<(u32, u32)>),
    /// LightGBM's text file and its format number: 3 from LightGBM 3, 4 from LightGBM 4.
    LightGbmText(u32),
    /// A pickle, also joblib's and cloudpickle's.
    Pickle(Pickle),
    /// Compressed (gzip, zlib, bzip2, xz, lz4), as joblib does on request: what is in it can't be seen from outside.
    Compressed,
    /// A zip archive: skops, or something else.
    Zip,
    /// None of these.
    Unknown,
}

/// Looks at a file's first bytes and, where there are more than these, its last.
pub fn sniff(head: &[u8], tail: &[u8]) -> Sniffed {
    // A file that fits into the head has its end there.
    let end = if tail.is_empty() { head } else { tail };
    if let Some(found) = xgboost::sniff(head, end) {
        return found;
    }
    if let Some(format) = lightgbm_format(head) {
        return Sniffed::LightGbmText(format);
    }
    if is_compressed(head) {
        return Sniffed::Compressed;
    }
    if head.starts_with(b"PK\x03\x04") {
        return Sniffed::Zip;
    }
    pickle::sniff(head, tail).map_or(Sniffed::Unknown, Sniffed::Pickle)
}

/// `tree` alone on the first line, `version=v4` on the second.
fn lightgbm_format(head: &[u8]) -> Option<u32> {
    let text = head
        .strip_prefix(b"tree\n")
        .or_else(|| head.strip_prefix(b"tree\r\n"))?;
    let number = text.strip_prefix(b"version=v")?;
    let end = number.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&number[..end]).ok()?.parse().ok()
}

fn is_compressed(head: &[u8]) -> bool {
    let zlib = head.first() == Some(&0x78) && matches!(head.get(1), Some(0x01 | 0x5e | 0x9c | 0xda));
    zlib || [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0", b"\x04\x22\x4d\x18"]
        .iter()
        .any(|magic| head.starts_with(magic))
}

/// Where `needle` stands last.
fn find_last(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).rposition(|window| window == needle)
}

#[cfg(test)]
mod tests;
