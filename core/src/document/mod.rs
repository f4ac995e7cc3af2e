//! A JSON object as text, read and edited at single places.
//!
//! A review touches three or four places of an object of some kilobytes. A tree of all of it, and printing that again, would cost more than
//! all else on its way; and what isn't touched stays as it came, byte for byte.

mod members;
mod path;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use members::Members;
pub use path::Path;

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
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    text: String,
    members: Members,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Document").field(&self.text).finish()
    }
}

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
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| NotAnObject)?;
        Self::of(raw)
    }

    /// # Errors
    /// Where it is no object.
    pub fn of(raw: &RawValue) -> Result<Self, NotAnObject> {
        let text = raw.get().trim();
        let document = || Self {
            text: text.to_owned(),
            members: Members::of(text),
        };
        text.starts_with('{').then(document).ok_or(NotAnObject)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, without a copy of it.
    pub fn into_string(self) -> String {
        self.text
    }

    /// What stands at a path.
    pub fn place(&self, path: &Path) -> Place {
        self.find(path.segments()).0
    }

    /// The JSON text at a path. None where there is nothing, or `null`.
    pub fn get(&self, path: &Path) -> Option<&str> {
        self.get_in(path.segments())
    }

    /// The same by the path's segments, unescaped.
    pub fn get_in(&self, segments: &[impl AsRef<str>]) -> Option<&str> {
        match self.find(segments).0 {
            Place::Here { value, .. } => Some(&self.text[value]),
            _ => None,
        }
    }

    /// The value at a path. None where there is nothing, or `null`.
    pub fn value(&self, path: &Path) -> Option<Value> {
        serde_json::from_str(self.get(path)?).ok()
    }

    /// The members of the object at these segments: name and JSON text.
    pub fn members(&self, segments: &[impl AsRef<str>]) -> Vec<(Cow<'_, str>, &str)> {
        let mut members = Vec::new();
        let mut push = |key, value| members.push((unquoted(key), value));
        match self.find(segments) {
            (Place::Here { .. }, Some(at)) => {
                for (_, member) in self.members.within(at) {
                    push(&self.text[member.key.clone()], &self.text[member.value.clone()]);
                }
            }
            (Place::Here { value, .. }, None) => each_member(&self.text[value], push),
            _ => {}
        }
        members
    }

    /// What stands at a path; with it the member that it is, or the one that it is missing in, where that isn't inside of a list.
    fn find(&self, segments: &[impl AsRef<str>]) -> (Place, Option<usize>) {
        let mut at = 0;
        for (depth, segment) in segments.iter().enumerate() {
            let within = self.members.get(at).value.clone();
            match self.text.as_bytes()[within.start] {
                b'{' => {}
                b'[' => return (place_in(&self.text, within, segments, depth), None),
                _ => return (Place::Blocked, None),
            }
            let Some(found) = self.members.named(&self.text, at, segment.as_ref()) else {
                let missing = Place::Missing {
                    depth,
                    parent: within,
                    null: None,
                };
                return (missing, Some(at));
            };
            let value = self.members.get(found).value.clone();
            if &self.text[value.clone()] == "null" {
                let missing = Place::Missing {
                    depth,
                    parent: within,
                    null: Some(value),
                };
                return (missing, Some(found));
            }
            at = found;
        }
        let found = self.members.get(at);
        let here = Place::Here {
            value: found.value.clone(),
            member: (at > 0).then_some(found.key.start..found.value.end),
        };
        (here, Some(at))
    }

    /// Sets a value; makes missing parents.
    ///
    /// # Errors
    /// Where a parent is there that is no object, or the path names an element of a list. Nothing is changed then.
    pub fn set(&mut self, path: &Path, value: &Value) -> Result<(), Blocked> {
        let (place, at) = self.find(path.segments());
        let (range, text) = match place {
            Place::Here {
                value: range,
                member: Some(_),
            } => (range, value.to_string()),
            Place::Missing {
                depth,
                null: Some(range),
                ..
            } => (range, nested(&path.segments()[depth + 1..], value).to_string()),
            Place::Missing {
                depth,
                parent,
                null: None,
            } => {
                self.prepend(parent.start + 1, at, &path.segments()[depth..], value);
                return Ok(());
            }
            Place::Here { member: None, .. } | Place::Blocked => return Err(Blocked),
        };
        self.replace(range, &text);
        if let Some(at) = at {
            self.members.reread(&self.text, at);
        }
        Ok(())
    }

    /// Makes the first member of the object that opens just before this offset, the value of the member `parent`.
    fn prepend(&mut self, open: usize, parent: Option<usize>, segments: &[String], value: &Value) {
        let comma = if self.text[open..].trim_start().starts_with('}') {
            ""
        } else {
            ","
        };
        let name = Value::from(segments[0].as_str());
        let member = format!("{name}:{}{comma}", nested(&segments[1..], value));
        self.replace(open..open, &member);
        if let Some(parent) = parent {
            self.members.prepend(&self.text, parent, open);
        }
    }

    fn replace(&mut self, range: Range<usize>, text: &str) {
        self.text.replace_range(range.clone(), text);
        self.members.moved(&range, text.len());
    }

    /// Takes a member out. Says whether it was there; an element of a list stays.
    pub fn remove(&mut self, path: &Path) -> bool {
        let (
            Place::Here {
                member: Some(member), ..
            },
            at,
        ) = self.find(path.segments())
        else {
            return false;
        };
        let after = &self.text[member.end..];
        let next = after.trim_start();
        let range = if next.starts_with(',') {
            member.start..member.end + (after.len() - next.len()) + 1
        } else {
            let before = self.text[..member.start].trim_end();
            before.strip_suffix(',').map_or(member.start, str::len)..member.end
        };
        if let Some(at) = at {
            self.members.remove(at);
        }
        self.replace(range, "");
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

/// What stands at a path that goes on with the segment `depth` in the value at `at`. By scanning the text: for what is inside of lists.
fn place_in(object: &str, mut at: Range<usize>, segments: &[impl AsRef<str>], from: usize) -> Place {
    let mut member = None;
    for (depth, segment) in segments.iter().enumerate().skip(from) {
        let (text, segment) = (&object[at.clone()], segment.as_ref());
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

fn unquoted(key: &str) -> Cow<'_, str> {
    let plain = &key[1..key.len() - 1];
    if plain.contains('\\') {
        serde_json::from_str(key).unwrap_or_default()
    } else {
        Cow::Borrowed(plain)
    }
}

/// Whether a key, with its quotes, is this name.
fn is_named(key: &str, name: &str) -> bool {
    let plain = &key[1..key.len() - 1];
    plain == name || plain.contains('\\') && serde_json::from_str::<String>(key).is_ok_and(|key| key == name)
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
        if is_named(key, name) {
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
mod tests;
