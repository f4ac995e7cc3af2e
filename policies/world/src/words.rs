//! The YAML parser's errors, in words for people.

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};
use tidewaiter_core::nearest::nearest;

/// Why a file's YAML can't be read, as `file:line: what is wrong`. A field that is missing has the line of what it is missing from, or near it.
pub fn yaml_problem(file: &str, error: &serde_saphyr::Error) -> String {
    match yaml_reason(error) {
        (Some(line), reason) => format!("{file}:{line}: {reason}"),
        (None, reason) => format!("{file}: {reason}"),
    }
}

/// The same without its file: the line, counted from 1, and what is wrong.
pub fn yaml_reason(error: &serde_saphyr::Error) -> (Option<u64>, String) {
    let error = error.without_snippet();
    let line = error.location().map(|location| location.line());
    (line.filter(|line| *line > 0), words(error, false))
}

/// The line where something is wrong, counted from 1, and what. Of a Secret's document nothing is quoted but field names.
pub(crate) fn explain(error: &serde_saphyr::Error, secret: bool) -> (Option<u64>, String) {
    let error = error.without_snippet();
    // What is missing stands nowhere: the parser would name the line of the field before.
    let location = error
        .location()
        .filter(|_| !matches!(error, serde_saphyr::Error::SerdeMissingField { .. }));
    (
        location.map(|location| location.line()).filter(|line| *line > 0),
        words(error, secret),
    )
}

fn words(error: &serde_saphyr::Error, secret: bool) -> String {
    use serde_saphyr::Error::{
        AliasError, AliasExpansionLimitExceeded, AliasReplayLimitExceeded, AliasReplayStackDepthExceeded, Budget,
        DuplicateMappingKey, Eof, ExpectedMappingEndAfterEnumVariantValue, ExpectedStringKeyForExternallyTaggedEnum,
        ExternallyTaggedEnumExpectedScalarOrMapping, InvalidBooleanStrict, InvalidScalar, Message, MultipleDocuments,
        NullIntoString, SerdeInvalidType, SerdeInvalidValue, SerdeMissingField, SerdeUnknownField, SerdeUnknownVariant,
        Unexpected, UnknownAnchor,
    };
    match error {
        AliasError { error, .. } => words(error.without_snippet(), secret),
        Budget { breach, .. } => too_much(breach),
        AliasReplayLimitExceeded { .. } | AliasExpansionLimitExceeded { .. } | AliasReplayStackDepthExceeded { .. } => {
            REPEATED.to_owned()
        }
        SerdeUnknownField { field, expected, .. } => {
            let expected: Vec<&str> = expected
                .iter()
                .copied()
                .filter(|name| !KUBERNETES_OWN.contains(name))
                .collect();
            match nearest(field, &expected) {
                Some(meant) => format!("there is no field `{field}` here; did you mean `{meant}`?"),
                None => format!("there is no field `{field}` here; there may be {}", any_of(&expected)),
            }
        }
        SerdeUnknownVariant { variant, expected, .. } if !secret => match nearest(variant, expected) {
            Some(meant) => format!("`{variant}` is not known here; did you mean `{meant}`?"),
            None => format!("`{variant}` is not known here; it may be {}", any_of(expected)),
        },
        SerdeMissingField { field, .. } => format!("the field `{field}` is missing"),
        SerdeInvalidType {
            unexpected, expected, ..
        }
        | SerdeInvalidValue {
            unexpected, expected, ..
        } if !secret => {
            format!("there is {unexpected} where {expected} should be")
        }
        SerdeInvalidType { expected, .. } | SerdeInvalidValue { expected, .. } => {
            format!("something else stands where {expected} should be")
        }
        Unexpected {
            expected: "sequence start",
            ..
        } => "a list should be here".to_owned(),
        Unexpected {
            expected: "mapping start",
            ..
        } => "fields and values should be here, as in `name: value`".to_owned(),
        Unexpected {
            expected: "string scalar",
            ..
        } => "a text should be here".to_owned(),
        DuplicateMappingKey { key: Some(key), .. } => format!("`{key}` stands here twice"),
        _ if secret => "this is no Secret in YAML".to_owned(),
        DuplicateMappingKey { key: None, .. } => "the same key stands here twice".to_owned(),
        Eof { .. } => "the text ends where more was to come".to_owned(),
        InvalidBooleanStrict { .. } | InvalidScalar { ty: "boolean", .. } => {
            "`true` or `false` should be here".to_owned()
        }
        InvalidScalar { .. } => "a number should be here".to_owned(),
        MultipleDocuments { .. } => "another document begins here, and a file of this kind has one".to_owned(),
        NullIntoString { .. } => "a text should be here, and there is none".to_owned(),
        UnknownAnchor { .. } => "a value is repeated here by a name (`*…`) that none before it has (`&…`)".to_owned(),
        // Our own words, from where a type of ours is read.
        Message { msg, .. } => msg.clone(),
        ExpectedStringKeyForExternallyTaggedEnum { .. }
        | ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | ExpectedMappingEndAfterEnumVariantValue { .. } => {
            "exactly one of the fields that may stand here belongs here".to_owned()
        }
        other => {
            // Where it stands is said by us.
            let words = UserMessageFormatter.format_message(other);
            let first = words.lines().next().unwrap_or_default();
            format!("this is not YAML that can be read: {first}")
        }
    }
}

/// What a few lines could become gigabytes by.
const REPEATED: &str = "more values are repeated by name (`*…`) than are read of one document: write them out";

/// Which limit of a document is met, and what to do. A breach has the number by which it was seen: the first one too many.
fn too_much(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Nodes { nodes } => format!(
            "this document has more than {} values, those repeated by name (`*…`) counted each time, and no more are read of one: make several documents of it, with `---` between them",
            nodes.saturating_sub(1)
        ),
        BudgetBreach::Depth { depth } => format!(
            "values stand more than {} deep in each other here, and no deeper ones are read",
            depth.saturating_sub(1)
        ),
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::MergeKeys { .. }
        | BudgetBreach::RecordedAnchorEvents { .. }
        | BudgetBreach::RecordedAnchorBytes { .. } => REPEATED.to_owned(),
        _ => "this document is larger than what is read of one: make several documents of it, with `---` between them"
            .to_owned(),
    }
}

/// Fields of `metadata` that nobody writes by hand.
const KUBERNETES_OWN: [&str; 8] = [
    "uid",
    "resourceVersion",
    "selfLink",
    "creationTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "finalizers",
];

pub(crate) fn any_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => format!("`{only}`"),
        [first @ .., last] => format!(
            "{} or `{last}`",
            first
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_in_our_own_words_with_its_line() {
        let said = |text: &str| {
            let read = serde_saphyr::from_str::<BTreeMap<String, u32>>(text);
            yaml_problem("a.yaml", &read.unwrap_err())
        };
        assert_eq!(said("a: 1\na: 2\n"), "a.yaml:2: `a` stands here twice");
        assert_eq!(said("a: 1\nb: x\n"), "a.yaml:2: a number should be here");
        assert_eq!(
            said("a: *b\n"),
            "a.yaml:1: a value is repeated here by a name (`*…`) that none before it has (`&…`)"
        );
        assert!(said("a: 1\n---\nb: 2\n").contains("another document begins here"));
        let many: String = (0..130_000).map(|n| format!("k{n}: 1\n")).collect();
        let many = said(&many);
        assert!(
            many.starts_with("a.yaml:125000: this document has more than 250000 values, ")
                && many.ends_with(": make several documents of it, with `---` between them"),
            "{many}"
        );
        let deep = format!("a: {}{}\n", "[".repeat(70), "]".repeat(70));
        let deep = serde_saphyr::from_str::<serde_json::Value>(&deep).unwrap_err();
        assert_eq!(
            yaml_problem("a.yaml", &deep),
            "a.yaml:1: values stand more than 64 deep in each other here, and no deeper ones are read"
        );
        // The scanner's own words speak of YAML, and of nothing that is set in a program.
        let scanned = said("a: 'x\n");
        assert!(
            scanned.starts_with("a.yaml:") && scanned.contains(": this is not YAML that can be read: "),
            "{scanned}"
        );
        assert!(
            !scanned.contains("Policy") && !scanned.contains("Options") && !scanned.contains("column"),
            "{scanned}"
        );
    }
}
