//! Where the members of a JSON text's objects are. Found once, in one pass, and moved along with each edit: a review asks for some forty places, and
//! a scan for each of them would cost more than all else on its way.
//!
//! The text must be valid JSON. What lies in lists isn't kept: hardly anything there is asked for, and a list can be long.

use std::ops::Range;

use super::is_named;

/// A member of an object. Offsets are into the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// With its quotes. Empty for the text's outermost object.
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    /// The place of the next member that isn't inside of this one's value.
    pub(super) after: usize,
}

/// All members, each before those in its value; the outermost object comes first, as if it were one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Members(Vec<Member>);

impl Members {
    /// Of an object's text.
    pub(super) fn of(text: &str) -> Self {
        let mut members = Vec::with_capacity(text.len() / 24 + 1);
        collect(text, 0, 0..0, &mut members);
        Self(members)
    }

    pub(super) fn get(&self, at: usize) -> &Member {
        &self.0[at]
    }

    /// The members directly in the value of this one, in the text's order.
    pub(super) fn within(&self, at: usize) -> impl Iterator<Item = (usize, &Member)> {
        let end = self.0[at].after;
        let mut next = at + 1;
        std::iter::from_fn(move || {
            let member = (next < end).then(|| &self.0[next])?;
            let at = std::mem::replace(&mut next, member.after);
            Some((at, member))
        })
    }

    /// The member of this name in the value of this one. Of two equal keys the last counts, as everywhere in `serde_json` and in Go.
    pub(super) fn named(&self, text: &str, at: usize, name: &str) -> Option<usize> {
        let named = self
            .within(at)
            .filter(|(_, member)| is_named(&text[member.key.clone()], name));
        named.last().map(|(at, _)| at)
    }

    /// The text's `range` was replaced by something of this length. No member may begin inside of the range.
    pub(super) fn moved(&mut self, range: &Range<usize>, length: usize) {
        let shift = |offset: &mut usize| {
            if *offset >= range.end {
                *offset = *offset - range.len() + length;
            }
        };
        for member in &mut self.0 {
            shift(&mut member.value.start);
            shift(&mut member.value.end);
            if member.key.start >= range.end {
                shift(&mut member.key.start);
                shift(&mut member.key.end);
            }
        }
    }

    /// Forgets a member and all in it.
    pub(super) fn remove(&mut self, at: usize) {
        self.forget(at..self.0[at].after);
    }

    /// The value of a member is another one now, and its text in place.
    pub(super) fn reread(&mut self, text: &str, at: usize) {
        self.forget(at + 1..self.0[at].after);
        let mut inside = Vec::new();
        let Member { key, value, .. } = self.0[at].clone();
        collect(text, value.start, key, &mut inside);
        self.insert(at + 1, &mut inside, 1);
    }

    /// A member that begins at this offset of the text is the first one now in the value of `parent`.
    pub(super) fn prepend(&mut self, text: &str, parent: usize, offset: usize) {
        let bytes = text.as_bytes();
        let key = offset..skip_string(bytes, offset);
        let value = value_after(bytes, key.end);
        let mut made = Vec::new();
        collect(text, value, key, &mut made);
        self.insert(parent + 1, &mut made, 0);
    }

    fn forget(&mut self, range: Range<usize>) {
        self.0.drain(range.clone());
        for member in &mut self.0 {
            if member.after >= range.end {
                member.after -= range.len();
            }
        }
    }

    /// Inserts those of `made` that come after the first `skip`, which were collected as if they began at place 0.
    fn insert(&mut self, at: usize, made: &mut Vec<Member>, skip: usize) {
        let count = made.len() - skip;
        // Those in whose value they are, and all that come behind them.
        for member in self.0.iter_mut().filter(|member| member.after >= at) {
            member.after += count;
        }
        for member in &mut *made {
            member.after += at - skip;
        }
        self.0.splice(at..at, made.drain(skip..));
    }
}

/// Collects the value that begins at this offset as a member with this key, and all in it.
fn collect(text: &str, start: usize, key: Range<usize>, members: &mut Vec<Member>) {
    let bytes = text.as_bytes();
    let mut open: Vec<usize> = Vec::new();
    let (mut key, mut start) = (key, start);
    loop {
        let at = members.len();
        let mut offset = match bytes[start] {
            b'{' => {
                open.push(at);
                start + 1
            }
            b'[' => skip_list(bytes, start),
            b'"' => skip_string(bytes, start),
            _ => skip_scalar(bytes, start),
        };
        members.push(Member {
            key,
            value: start..offset,
            after: at + 1,
        });
        // To the next key; on the way, what ends here ends.
        loop {
            let Some(&inner) = open.last() else { return };
            match bytes[offset] {
                b'"' => break,
                b'}' => {
                    offset += 1;
                    members[inner].value.end = offset;
                    members[inner].after = members.len();
                    open.pop();
                }
                _ => offset += 1,
            }
        }
        key = offset..skip_string(bytes, offset);
        start = value_after(bytes, key.end);
    }
}

/// From the end of a key to the begin of its value.
fn value_after(bytes: &[u8], end: usize) -> usize {
    let between = |byte: &u8| matches!(byte, b':' | b' ' | b'\n' | b'\r' | b'\t');
    end + bytes[end..].iter().take_while(|byte| between(byte)).count()
}

fn skip_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn skip_list(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    loop {
        match bytes[at] {
            b'"' => {
                at = skip_string(bytes, at);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
}

fn skip_scalar(bytes: &[u8], start: usize) -> usize {
    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
    start + bytes[start..].iter().take_while(|byte| !ends(byte)).count()
}
