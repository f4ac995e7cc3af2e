//! A JSON object as text, read and edited at single places.
//!
//! A review touches three or four places of an object of some kilobytes. A tree of all of it, and printing that again, would cost more than
//! all else on its way; and what isn't touched stays as it came, byte for byte.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON Pointer (RFC 6901), parsed. It names a member, never the whole document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<String>);

impl Path {
    /// None where the text is no pointer, or the empty one.
    pub fn parse(pointer: &str) -> Option<Self> {
        let segments = pointer
            .strip_prefix('/')?
            .split('/')
            .map(unescape)
            .collect::<Option<_>>()?;
        Some(Self(segments))
    }

    /// A path of these segments, unescaped. None where there are none.
    pub fn new<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Option<Self> {
        let segments: Vec<_> = segments.into_iter().map(Into::into).collect();
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

    fn parent(&self) -> Option<Self> {
        Self::new(&self.0[..self.0.len() - 1])
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
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

/// What stands at a path. `null` is nothing: the API server drops it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A value.
    Here {
        /// Where its text is.
        value: Range<usize>,
        /// With its key; none for an element of a list.
        member: Option<Range<usize>>,
    },
    /// Nothing, and it could be made: all parents that exist are objects.
    Missing {
        /// How many segments of the path exist. The next one is the topmost to be made.
        depth: usize,
        /// The object to make it in.
        parent: Range<usize>,
        /// A `null` that is in its place.
        null: Option<Range<usize>>,
    },
    /// Nothing, and it can't be made: a parent is a list without that element, or no container at all.
    Blocked,
}

/// A JSON object's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document(String);

/// The text is no JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object")]
pub struct NotAnObject;

/// Something is in the way of a path: a parent that is a list or a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a parent is there that is no object")]
pub struct Blocked;

impl Document {
    /// # Errors
    /// Where the text is no JSON, or no object.
    pub fn new(text: &str) -> Result<Self, NotAnObject> {
        let text = text.trim();
        let is_object = text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
        is_object.then(|| Self(text.to_owned())).ok_or(NotAnObject)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands at a path.
    pub fn place(&self, path: &Path) -> Place {
        place(&self.0, path.segments())
    }

    /// The JSON text at a path. None where there is nothing, or `null`.
    pub fn get(&self, path: &Path) -> Option<&str> {
        self.get_of(path.segments())
    }

    fn get_of(&self, segments: &[String]) -> Option<&str> {
        match place(&self.0, segments) {
            Place::Here { value, .. } => Some(&self.0[value]),
            _ => None,
        }
    }

    /// The value at a path. None where there is nothing, or `null`.
    pub fn value(&self, path: &Path) -> Option<Value> {
        serde_json::from_str(self.get(path)?).ok()
    }

    /// The names of the members of the object at a path.
    pub fn keys(&self, path: &Path) -> Vec<String> {
        self.keys_of(path.segments())
    }

    fn keys_of(&self, segments: &[String]) -> Vec<String> {
        let mut keys = Vec::new();
        if let Some(text) = self.get_of(segments) {
            each_member(text, |key, _| keys.extend(serde_json::from_str::<String>(key)));
        }
        keys
    }

    /// Sets a value; makes missing parents.
    ///
    /// # Errors
    /// Where a parent is there that is no object, or the path names an element of a list. Nothing is changed then.
    pub fn set(&mut self, path: &Path, value: &Value) -> Result<(), Blocked> {
        match self.place(path) {
            Place::Here {
                value: range,
                member: Some(_),
            } => self.0.replace_range(range, &value.to_string()),
            Place::Missing {
                depth,
                null: Some(range),
                ..
            } => {
                self.0
                    .replace_range(range, &nested(&path.segments()[depth + 1..], value).to_string());
            }
            Place::Missing {
                depth,
                parent,
                null: None,
            } => {
                let segments = &path.segments()[depth..];
                let open = parent.start + 1;
                let comma = if self.0[open..].trim_start().starts_with('}') {
                    ""
                } else {
                    ","
                };
                let member = format!(
                    "{}:{}{comma}",
                    Value::from(segments[0].as_str()),
                    nested(&segments[1..], value)
                );
                self.0.insert_str(open, &member);
            }
            Place::Here { member: None, .. } | Place::Blocked => return Err(Blocked),
        }
        Ok(())
    }

    /// Takes a member out. Says whether it was there; an element of a list stays.
    pub fn remove(&mut self, path: &Path) -> bool {
        let Place::Here {
            member: Some(member), ..
        } = self.place(path)
        else {
            return false;
        };
        let after = &self.0[member.end..];
        let next = after.trim_start();
        let range = if next.starts_with(',') {
            member.start..member.end + (after.len() - next.len()) + 1
        } else {
            let before = self.0[..member.start].trim_end();
            before.strip_suffix(',').map_or(member.start, str::len)..member.end
        };
        self.0.replace_range(range, "");
        true
    }

    /// Takes a member out, and then each parent that is left empty, as long as `prunable` says so.
    pub fn remove_pruning(&mut self, path: &Path, prunable: impl Fn(&Path) -> bool) -> bool {
        if !self.remove(path) {
            return false;
        }
        let mut next = path.parent();
        while let Some(parent) = next.filter(&prunable) {
            let empty = self
                .get(&parent)
                .is_some_and(|text| text.starts_with('{') && text[1..].trim_start() == "}");
            if !(empty && self.remove(&parent)) {
                break;
            }
            next = parent.parent();
        }
        true
    }
}

/// What stands at a path of an object's text. Garbage has nothing anywhere.
pub fn place(object: &str, segments: &[String]) -> Place {
    let mut at = 0..object.len();
    let mut member = None;
    for (depth, segment) in segments.iter().enumerate() {
        let text = &object[at.clone()];
        let found = match text.as_bytes().first() {
            Some(b'{') => find_member(text, segment).map(|(key, value)| (Some(key), value)),
            Some(b'[') => match find_element(text, segment) {
                Some(value) => Some((None, value)),
                None => return Place::Blocked,
            },
            _ => return Place::Blocked,
        };
        match found {
            None => {
                return Place::Missing {
                    depth,
                    parent: at,
                    null: None,
                };
            }
            Some((key, value)) => {
                let value = at.start + value.start..at.start + value.end;
                if &object[value.clone()] == "null" {
                    // A null element can't be told from a list's other elements: leave it.
                    if key.is_none() {
                        return Place::Blocked;
                    }
                    return Place::Missing {
                        depth,
                        parent: at,
                        null: Some(value),
                    };
                }
                member = key.map(|key| at.start + key..value.end);
                at = value;
            }
        }
    }
    Place::Here { value: at, member }
}

fn nested(segments: &[String], value: &Value) -> Value {
    segments.iter().rev().fold(value.clone(), |inner, segment| {
        Value::Object([(segment.clone(), inner)].into_iter().collect())
    })
}

/// Offset of the key and range of the value, relative to `text`. Of two equal keys the last counts, as everywhere in `serde_json` and in Go.
fn find_member(text: &str, name: &str) -> Option<(usize, Range<usize>)> {
    let mut found = None;
    each_member(text, |key, value| {
        let plain = &key[1..key.len() - 1];
        if plain == name || plain.contains('\\') && serde_json::from_str::<String>(key).is_ok_and(|key| key == name) {
            found = Some((offset(text, key).start, offset(text, value)));
        }
    });
    found
}

fn find_element(text: &str, index: &str) -> Option<Range<usize>> {
    struct Elements<'f, 'de>(usize, &'f mut Option<&'de str>);
    impl<'de> Visitor<'de> for Elements<'_, 'de> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
            let mut index = 0;
            while let Some(value) = list.next_element::<&'de RawValue>()? {
                if index == self.0 {
                    *self.1 = Some(value.get());
                }
                index += 1;
            }
            Ok(())
        }
    }
    // RFC 6901: no leading zeros, no sign.
    let wanted = index
        .parse()
        .ok()
        .filter(|wanted: &usize| wanted.to_string() == index)?;
    let mut found = None;
    serde_json::Deserializer::from_str(text)
        .deserialize_seq(Elements(wanted, &mut found))
        .ok()?;
    found.map(|value| offset(text, value))
}

/// Key (with its quotes) and value of each member of an object, as they are in the text.
fn each_member<'de>(text: &'de str, each: impl FnMut(&'de str, &'de str)) {
    struct Members<F>(F);
    impl<'de, F: FnMut(&'de str, &'de str)> Visitor<'de> for Members<F> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                (self.0)(key.get(), value.get());
            }
            Ok(())
        }
    }
    // The text was valid when the document was made, and stays so; what is no object has no members.
    let _ = serde_json::Deserializer::from_str(text).deserialize_map(Members(each));
}

/// Where `part` is within `whole`, which it was borrowed from.
fn offset(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
