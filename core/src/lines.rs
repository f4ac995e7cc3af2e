//! Lines for the user, as they stand in a warning.

use serde_json::Value;

use crate::document::Path;

/// What a line may have: kubectl and the API server cut or drop longer ones.
pub const LINE: usize = 120;
/// Characters of a policy's longer words: why it refuses an object or its settings.
pub const MESSAGE: usize = 1000;
/// Of that, for a value: the reason says more.
const VALUE: usize = 40;

/// What a line begins with that goes on with the one before.
const CONTINUED: &str = "  ";

/// One line of at most 120 characters: no control characters (they would end an HTTP header), cut with an ellipsis.
pub fn line(text: &str) -> String {
    cut(text, LINE)
}

/// A text of at most `limit` characters, without control characters, cut with an ellipsis.
pub fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.chars().map(clean).collect();
    }
    text.chars().map(clean).take(limit - 1).chain(['…']).collect()
}

/// A longer text as several lines of at most 120 characters, so that nothing of it is lost; broken at blanks where there are some.
pub fn wrapped(text: &str) -> Vec<String> {
    let mut rest: Vec<char> = text.chars().map(clean).collect();
    let mut lines = Vec::new();
    loop {
        let before = if lines.is_empty() { "" } else { CONTINUED };
        let room = LINE - before.len();
        if rest.len() <= room {
            lines.push(before.chars().chain(rest).collect());
            return lines;
        }
        let blank = rest[..=room].iter().rposition(|c| *c == ' ');
        let end = blank.filter(|at| *at > room / 2).unwrap_or(room);
        lines.push(before.chars().chain(rest.drain(..end)).collect());
        let blanks = rest.iter().take_while(|c| **c == ' ').count();
        rest.drain(..blanks);
    }
}

fn clean(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

/// What is said of a value that is filled in.
pub fn filled(path: &Path, filled: &Value, reason: &str) -> String {
    line(&format!("tidewaiter: {} = {}: {reason}", place(path), value(filled)))
}

/// A place as people write it: `spec.predictor.model.runtimeVersion`, `serving.kserve.io/storageSecretName`, `annotation owner`,
/// `transformer's storageSecretName`.
pub fn place(path: &Path) -> String {
    match path.segments() {
        [metadata, map, key] if metadata == "metadata" && map == "annotations" && key.contains('/') => key.clone(),
        [metadata, map, key] if metadata == "metadata" && map == "annotations" => format!("annotation {key}"),
        [metadata, map, key] if metadata == "metadata" && map == "labels" => format!("label {key}"),
        [spec, component, map, key] if spec == "spec" && map == "annotations" => {
            format!("{component}'s {}", key.rsplit('/').next().unwrap_or(key))
        }
        segments => segments.join("."),
    }
}

/// A value, short.
pub fn value(value: &Value) -> String {
    cut(&value.to_string(), VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_on_characters() {
        assert_eq!(line("a\nb\u{7}"), "a b ");
        let long = line(&"ü".repeat(200));
        assert_eq!((long.chars().count(), long.chars().last()), (120, Some('…')));
        assert_eq!(line(&"ü".repeat(120)), "ü".repeat(120));
    }

    #[test]
    fn a_longer_text_is_broken_at_blanks_and_nothing_of_it_is_lost() {
        assert_eq!(wrapped("short\ntext"), ["short text"]);
        assert_eq!(wrapped(""), [""]);
        let text = "ü23456789 ".repeat(30);
        let lines = wrapped(text.trim_end());
        assert_eq!(lines[0], "ü23456789 ".repeat(12).trim_end());
        assert!(
            lines[1].starts_with("  ü2") && lines.iter().all(|line| line.chars().count() <= LINE),
            "{lines:?}"
        );
        let put_together: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(put_together, text.split_whitespace().collect::<Vec<_>>());
        let unbroken: String = wrapped(&"x".repeat(1000))
            .iter()
            .map(|line| line.trim_start())
            .collect();
        assert_eq!(unbroken, "x".repeat(1000));
    }

    #[test]
    fn places_are_written_as_people_do() {
        for (path, expected) in [
            ("/spec/predictor/model/runtime", "spec.predictor.model.runtime"),
            ("/metadata/annotations/a.b~1c", "a.b/c"),
            ("/metadata/annotations/owner", "annotation owner"),
            ("/metadata/labels/team", "label team"),
            ("/spec/transformer/annotations/a.b~1c", "transformer's c"),
        ] {
            assert_eq!(place(&Path::parse(path).unwrap()), expected);
        }
    }
}
