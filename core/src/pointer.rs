//! JSON Pointers (RFC 6901), as text.

use std::fmt::Write;

/// One segment, escaped: `a/b~c` is `a~1b~0c`.
pub fn escape(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len() + 2);
    push_escaped(&mut escaped, segment);
    escaped
}

/// Appends a segment, with its slash.
pub(crate) fn push_child(to: &mut String, segment: &str) {
    to.push('/');
    push_escaped(to, segment);
}

fn push_escaped(to: &mut String, segment: &str) {
    if !segment.contains(['~', '/']) {
        return to.push_str(segment);
    }
    for c in segment.chars() {
        match c {
            '~' => to.push_str("~0"),
            '/' => to.push_str("~1"),
            c => to.push(c),
        }
    }
}

/// The pointer to a member, or with a number in place of its name to an element.
pub fn child(parent: &str, segment: &str) -> String {
    let mut pointer = String::with_capacity(parent.len() + segment.len() + 3);
    pointer.push_str(parent);
    push_child(&mut pointer, segment);
    pointer
}

/// The pointer to what stands at this place of a JSON text: at the byte `offset`, or the last value that ended before it. For messages: it never
/// fails, and on broken JSON it points as far as the text made sense.
pub fn at(json: &str, offset: usize) -> String {
    enum Container {
        Object(String),
        Array(usize),
    }
    let bytes = json.as_bytes();
    let end = offset.min(bytes.len());
    let mut stack: Vec<Container> = Vec::new();
    let (mut index, mut expects_key) = (0, false);
    while index < end {
        match bytes[index] {
            b'{' => {
                stack.push(Container::Object(String::new()));
                expects_key = true;
            }
            b'[' => {
                stack.push(Container::Array(0));
                expects_key = false;
            }
            // What closes at the place itself is the value that the place speaks of.
            b'}' | b']' if index + 1 < end => {
                stack.pop();
                expects_key = false;
            }
            b',' => match stack.last_mut() {
                Some(Container::Array(element)) => *element += 1,
                Some(Container::Object(_)) => expects_key = true,
                None => {}
            },
            b'"' => {
                let start = index;
                index += 1;
                while index < bytes.len() && bytes[index] != b'"' {
                    index += if bytes[index] == b'\\' { 2 } else { 1 };
                }
                if expects_key && let Some(Container::Object(key)) = stack.last_mut() {
                    let text = bytes
                        .get(start..=index)
                        .and_then(|text| serde_json::from_slice(text).ok());
                    *key = text.unwrap_or_default();
                    expects_key = false;
                }
            }
            _ => {}
        }
        index += 1;
    }
    let mut pointer = String::new();
    for container in &stack {
        match container {
            Container::Object(key) => {
                pointer.push('/');
                push_escaped(&mut pointer, key);
            }
            Container::Array(element) => {
                let _ = write!(pointer, "/{element}");
            }
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_are_escaped() {
        assert_eq!(
            child("/metadata/annotations", "serving.kserve.io/stop"),
            "/metadata/annotations/serving.kserve.io~1stop"
        );
        assert_eq!(escape("a~b/c"), "a~0b~1c");
    }

    #[test]
    fn a_place_in_a_text_has_a_pointer() {
        let json = r#"{"a": {"b/c": [1, {"d": "x,\"]"}, true], "e": 3}, "f": [[2]]}"#;
        for (found, expected) in [
            ("1,", "/a/b~1c/0"),
            ("\"x", "/a/b~1c/1/d"),
            ("true", "/a/b~1c/2"),
            ("3}", "/a/e"),
            ("2]", "/f/0/0"),
        ] {
            assert_eq!(at(json, json.find(found).unwrap() + 1), expected, "{found}");
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_place_panics(json in "[\\[\\]{}\",:a\\\\ é1]{0,40}", offset in 0_usize..60) {
            at(&json, offset);
        }
    }
}
