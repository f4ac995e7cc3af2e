//! What a text has to look like.

use std::fmt;

use regex::Regex;
use serde::Deserialize;

/// A text that has to be part of another, or between slashes a regular expression that has to match in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let regex = inner
            .map(Regex::new)
            .transpose()
            .map_err(|error| format!("`{text}` is no regular expression: {error}"))?;
        Ok(Self { text, regex })
    }
}

impl Pattern {
    /// Whether a text looks so.
    pub fn matches(&self, text: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(text),
            None => text.contains(&self.text),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_part_or_an_expression() {
        let matches = |pattern: &str, text| Pattern::try_from(pattern.to_owned()).unwrap().matches(text);
        assert!(matches("no team", "it has no team label"));
        assert!(!matches("n. team", "it has no team label"));
        assert!(matches("/^it has n. team/", "it has no team label"));
        assert!(
            Pattern::try_from("/(/".to_owned())
                .unwrap_err()
                .contains("no regular expression")
        );
    }
}
