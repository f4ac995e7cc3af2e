//! XGBoost's files. Both JSON and UBJSON are written with sorted keys, so the version and the base score stand in the last bytes.

use super::{Sniffed, find_last};
use crate::version::Version;

/// What XGBoost's own JSON or UBJSON file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XgBoost {
    /// UBJSON, which is read from 1.6 on; else JSON.
    pub ubjson: bool,
    /// Of the library that wrote it; none where the end of the file doesn't say.
    pub version: Option<Version>,
    /// How the base score is written.
    pub base_score: Option<BaseScore>,
}

/// How `learner_model_param.base_score` is written, which decides who can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseScore {
    /// One number: before 3.1.
    Number,
    /// A list in brackets, from 3.1 on. Older libraries read 0.5 for it, without an error.
    List,
}

pub(super) fn sniff(head: &[u8], end: &[u8]) -> Option<Sniffed> {
    if head.starts_with(b"binf") {
        return Some(Sniffed::XgBoostLegacy(legacy_version(head)));
    }
    if head.starts_with(b"bs64\t") {
        return Some(Sniffed::XgBoostLegacy(None));
    }
    if head.starts_with(b"{L\0\0\0\0\0\0\0\x07learner") {
        let version = ubjson_version(end);
        return Some(Sniffed::XgBoost(XgBoost {
            ubjson: true,
            version,
            base_score: base_score(end, b"base_scoreSL", 8),
        }));
    }
    let mut start = head.iter().filter(|byte| !byte.is_ascii_whitespace());
    let is_json = b"{\"learner\"".iter().all(|expected| start.next() == Some(expected));
    is_json.then(|| {
        Sniffed::XgBoost(XgBoost {
            ubjson: false,
            version: json_version(end),
            base_score: base_score(end, b"\"base_score\":\"", 0),
        })
    })
}

/// After `binf`: base score, features, classes, two flags, major, minor; four bytes each, little endian. Zeros before 1.0.
fn legacy_version(head: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let (major, minor) = (number(24)?, number(28)?);
    (major > 0 && major < 100 && minor < 1000).then_some((major, minor))
}

/// `"version":[3,1,0]`
fn json_version(end: &[u8]) -> Option<Version> {
    let at = find_last(end, b"\"version\"")?;
    let rest = std::str::from_utf8(end.get(at + 9..)?.get(..48).unwrap_or(&end[at + 9..])).ok()?;
    let (numbers, _) = rest
        .trim_start()
        .strip_prefix(':')?
        .trim_start()
        .strip_prefix('[')?
        .split_once(']')?;
    let dotted: String = numbers
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .map(|letter| if letter == ',' { '.' } else { letter })
        .collect();
    Version::parse(&dotted)
}

/// The key `version`, then an array with a counted length, its numbers with or without a common type.
pub(super) fn ubjson_version(end: &[u8]) -> Option<Version> {
    let at = find_last(end, b"L\0\0\0\0\0\0\0\x07version[")?;
    let mut rest = &end[at + 17..];
    let mut common = None;
    if let Some([kind, after @ ..]) = rest.strip_prefix(b"$") {
        common = Some(*kind);
        rest = after;
    }
    rest = rest.strip_prefix(b"#")?;
    if number(&mut rest, None)? != 3 {
        return None;
    }
    let parts = [
        number(&mut rest, common)?,
        number(&mut rest, common)?,
        number(&mut rest, common)?,
    ];
    Version::parse(&format!("{}.{}.{}", parts[0], parts[1], parts[2]))
}

/// A UBJSON integer: its type unless it is known, then big endian bytes.
fn number(rest: &mut &[u8], kind: Option<u8>) -> Option<u64> {
    let kind = if let Some(kind) = kind {
        kind
    } else {
        let (first, after) = rest.split_first()?;
        *rest = after;
        *first
    };
    let width = match kind {
        b'i' | b'U' => 1,
        b'I' => 2,
        b'l' => 4,
        b'L' => 8,
        _ => return None,
    };
    let (bytes, after) = rest.split_at_checked(width)?;
    *rest = after;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The first letter of the base score, `skip` bytes behind its key.
fn base_score(end: &[u8], key: &[u8], skip: usize) -> Option<BaseScore> {
    match end.get(find_last(end, key)? + key.len() + skip)? {
        b'[' => Some(BaseScore::List),
        b'0'..=b'9' | b'-' | b'.' => Some(BaseScore::Number),
        _ => None,
    }
}
