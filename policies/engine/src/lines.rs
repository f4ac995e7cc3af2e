//! Lines for the user.

use serde_json::Value;
use tidewaiter_core::document::Path;

/// What a line may have: kubectl and the API server cut or drop longer ones.
const LINE: usize = 120;
/// Of that, for a value: the reason says more.
const VALUE: usize = 40;

/// One line of at most 120 characters: no control characters (they would end an HTTP header), cut with an ellipsis.
pub(crate) fn line(text: &str) -> String {
    cut(text, LINE)
}

fn cut(text: &str, limit: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= limit {
        return text.chars().map(clean).collect();
    }
    text.chars().map(clean).take(limit - 1).chain(['…']).collect()
}

/// A place as people write it: `spec.predictor.model.runtimeVersion`, `serving.kserve.io/storageSecretName`, `annotation owner`.
pub(crate) fn place(path: &Path) -> String {
    match path.segments() {
        [metadata, map, key] if metadata == "metadata" && map == "annotations" && key.contains('/') => key.clone(),
        [metadata, map, key] if metadata == "metadata" && map == "annotations" => format!("annotation {key}"),
        [metadata, map, key] if metadata == "metadata" && map == "labels" => format!("label {key}"),
        segments => segments.join("."),
    }
}

/// A value, short.
pub(crate) fn value(value: &Value) -> String {
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
}
