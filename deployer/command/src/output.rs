//! Objects for a program, and differences for a person.

use std::fmt::Write as _;

use anstyle::Style;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::arguments::Format;
use super::table::clean;
use super::{BAD, DIM, Failure, GOOD, HINT};

/// What a person should know beside what they asked for.
pub(super) fn note(text: &str) {
    anstream::eprintln!("{HINT}note{HINT:#}: {}", clean(text));
}

/// One value as a document.
pub(super) fn document(value: &impl Serialize, format: Format) -> Result<String, Failure> {
    let failed = |reason: String| Failure {
        message: format!("can't write it down: {reason}"),
        next: None,
    };
    match format {
        Format::Yaml => yaml(value),
        Format::Json => {
            let text = serde_json::to_string_pretty(value);
            text.map(|text| text + "\n").map_err(|error| failed(error.to_string()))
        }
    }
}

/// As YAML, with a newline at its end.
pub(super) fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(value).map_err(|error| Failure {
        message: format!("can't write it down: {error}"),
        next: None,
    })?;
    Ok(text.trim_end().to_owned() + "\n")
}

/// A text of which each line is indented.
pub(super) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// The unified difference of two texts, three lines around each change, with colours.
pub(super) fn difference(before: &str, after: &str) -> String {
    let mut text = String::new();
    let diff = TextDiff::from_lines(before, after);
    for (index, hunk) in diff.unified_diff().context_radius(3).iter_hunks().enumerate() {
        if index > 0 {
            text.push_str("  …\n");
        }
        for change in hunk.iter_changes() {
            let (sign, style) = match change.tag() {
                ChangeTag::Equal => (' ', Style::new()),
                ChangeTag::Insert => ('+', GOOD),
                ChangeTag::Delete => ('-', BAD),
            };
            let line = change.value().trim_end();
            let _ = writeln!(text, "  {style}{sign} {line}{style:#}");
        }
    }
    text
}

/// What is said beside the point.
pub(super) fn dim(text: &str) -> String {
    format!("{DIM}{text}{DIM:#}")
}
