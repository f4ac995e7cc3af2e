//! The YAML parser's errors, in words for people.

use tidewaiter_core::nearest::nearest;

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
        DuplicateMappingKey, ExpectedMappingEndAfterEnumVariantValue, ExpectedStringKeyForExternallyTaggedEnum,
        ExternallyTaggedEnumExpectedScalarOrMapping, Message, SerdeInvalidType, SerdeInvalidValue, SerdeMissingField,
        SerdeUnknownField, SerdeUnknownVariant, Unexpected,
    };
    match error {
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
        // Our own words, from where a type of ours is read.
        Message { msg, .. } => msg.clone(),
        ExpectedStringKeyForExternallyTaggedEnum { .. }
        | ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | ExpectedMappingEndAfterEnumVariantValue { .. } => {
            "exactly one of the fields that may stand here belongs here".to_owned()
        }
        other => {
            let words = other.to_string();
            // The first line; where it stands is said by us.
            let first = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
            format!("this is not YAML that can be read: {first}")
        }
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
