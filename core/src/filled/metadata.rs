//! What Kubernetes takes as labels and annotations.
//!
//! Source: `ValidateAnnotations` in `pkg/api/validation` of k8s.io/apimachinery, `IsQualifiedName` and `IsValidLabelValue` in its `pkg/util/validation`.

use crate::document::Document;

/// Bytes that all annotations of an object may have, keys and values together.
pub const MAX_ANNOTATIONS: usize = 256 << 10;

/// Characters of a label's value, and of a key behind its domain.
const NAME: usize = 63;
const DOMAIN: usize = 253;

const BAD_KEY: &str = "a key has at most 63 letters, digits, `-`, `_` and `.`, begins and ends with a letter or digit, and may stand behind a domain and `/`";
const BAD_VALUE: &str =
    "a label's value has at most 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or digit";

/// Why the API server refuses a label; of one in a Pod's template, why no Pod is made.
pub fn label(key: &str, value: &str) -> Result<(), &'static str> {
    if !is_qualified(key) {
        return Err(BAD_KEY);
    }
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err(BAD_VALUE)
    }
}

/// Why it refuses an annotation, whose value may be any text.
pub fn annotation(key: &str) -> Result<(), &'static str> {
    // As there: of an annotation, case doesn't matter.
    if is_qualified(&key.to_lowercase()) {
        Ok(())
    } else {
        Err(BAD_KEY)
    }
}

/// Bytes of an object's annotations, as the API server counts them. What is no text it refuses for that.
pub fn annotations_size(object: &Document) -> usize {
    let bytes = |text: &str| serde_json::from_str::<String>(text).map_or(0, |text| text.len());
    let annotations = object.members(&["metadata", "annotations"]);
    annotations.iter().map(|(key, value)| key.len() + bytes(value)).sum()
}

fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => is_domain(domain) && is_name(name),
        None => is_name(key),
    }
}

fn is_name(text: &str) -> bool {
    let inside = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    text.len() <= NAME && text.bytes().all(inside) && ends(text, u8::is_ascii_alphanumeric)
}

fn is_domain(text: &str) -> bool {
    let plain = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| part.bytes().all(|c| plain(&c) || c == b'-') && ends(part, plain);
    text.len() <= DOMAIN && text.split('.').all(is_part)
}

fn ends(text: &str, with: impl Fn(&u8) -> bool) -> bool {
    text.as_bytes().first().is_some_and(&with) && text.as_bytes().last().is_some_and(&with)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_qualified_name() {
        let (name, domain) = (
            "x".repeat(NAME),
            ["d".repeat(63), "d".repeat(63), "d".repeat(63), "d".repeat(61)].join("."),
        );
        for key in [
            "a",
            "A",
            "a.b_c-D9",
            "example.com/a",
            "a-b.c/A_b",
            &name,
            &format!("{domain}/a"),
        ] {
            assert_eq!((label(key, ""), annotation(key)), (Ok(()), Ok(())), "{key}");
        }
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "a b",
            "-a",
            "a-",
            ".a",
            "a~b",
            "é",
            "a/b/c",
            "a..b/c",
            "-a/b",
            "a_b/c",
            &format!("{name}x"),
            &format!("{domain}d/a"),
        ] {
            assert_eq!((label(key, ""), annotation(key)), (Err(BAD_KEY), Err(BAD_KEY)), "{key}");
        }
        assert_eq!(
            (label("Example.com/a", ""), annotation("Example.com/a")),
            (Err(BAD_KEY), Ok(()))
        );
    }

    #[test]
    fn annotations_are_counted_in_bytes() {
        let object = Document::new(
            r#"{"metadata": {"annotations": {"ab": "\u00e9\n", "c": 7, "d": ""}, "labels": {"e": "f"}}}"#,
        )
        .unwrap();
        assert_eq!(annotations_size(&object), 2 + 3 + 1 + 1);
        assert_eq!(annotations_size(&Document::new("{}").unwrap()), 0);
    }

    #[test]
    fn a_labels_value_is_short_and_plain() {
        let longest = "x".repeat(NAME);
        for value in ["", "a", "1.7.1", "A_b-c", &longest] {
            assert_eq!(label("a", value), Ok(()), "{value}");
        }
        for value in [
            "two words",
            "-a",
            "a.",
            "alice@example.com",
            "é",
            "a\n",
            &format!("{longest}x"),
        ] {
            assert_eq!(label("a", value), Err(BAD_VALUE), "{value}");
        }
    }
}
