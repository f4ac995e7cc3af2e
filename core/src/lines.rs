//! Lines for the user, as they stand in a warning.

use serde_json::Value;

use crate::document::Path;

/// What a line may have: kubectl and the API server cut or drop longer ones.
pub const LINE: usize = 120;
/// Characters of a policy's longer words: why it refuses an object or its settings.
pub const MESSAGE: usize = 1000;
/// Of that, for a value: the reason says more.
const VALUE: usize = 40;

/// One line of at most 120 characters: no control characters (they would end an HTTP header), cut with an ellipsis.
pub fn line(text: &str) -> String {
    cut(text, LINE)
}

/// A text of at most `limit` characters, without control characters, cut with an ellipsis.
pub fn cut(text: &str, limit: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= limit {
        return text.chars().map(clean).collect();
    }
    text.chars().map(clean).take(limit - 1).chain(['…']).collect()
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
