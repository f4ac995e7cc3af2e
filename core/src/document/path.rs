use std::fmt;
use std::sync::Arc;

use crate::pointer;

/// A JSON Pointer (RFC 6901), parsed. It names a member, never the whole document. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<[String]>);

impl Path {
    /// None where the text is no pointer, or the empty one.
    pub fn parse(pointer: &str) -> Option<Self> {
        let segments = pointer.strip_prefix('/')?.split('/').map(unescape);
        Some(Self(segments.collect::<Option<_>>()?))
    }

    /// A path of these segments, unescaped. None where there are none.
    pub fn new<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Option<Self> {
        let segments: Arc<[String]> = segments.into_iter().map(Into::into).collect();
        (!segments.is_empty()).then_some(Self(segments))
    }

    /// The segments, unescaped; at least one.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// Whether `other` is this path or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    pub(super) fn parent(&self) -> Option<Self> {
        Self::new(&self.0[..self.0.len() - 1])
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.0.iter().map(|segment| segment.len() + 2).sum());
        for segment in &*self.0 {
            pointer::push_child(&mut text, segment);
        }
        f.write_str(&text)
    }
}

fn unescape(segment: &str) -> Option<String> {
    let mut out = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        out.push(match rest.as_bytes().get(at + 1)? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    Some(out)
}
