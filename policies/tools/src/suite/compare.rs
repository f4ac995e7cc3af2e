//! What was expected, beside what came.

use std::collections::BTreeMap;

use serde_json::Value;
use tidewaiter_core::pointer::child;
use tidewaiter_engine::LoadError;

use super::case::Expect;
use super::pattern::Pattern;
use crate::told::Told;

/// All that differs, each a sentence with both sides.
pub(super) fn differences(expect: &Expect, told: &Told) -> Vec<String> {
    let mut found = Vec::new();
    match (&expect.failure, told.failures.first()) {
        (None, Some(failure)) => found.push(format!("the policy {} failed: it {}", failure.policy, failure.reason)),
        (Some(wanted), None) => found.push(format!("the policy was to fail (`{wanted}`), and gave a verdict")),
        (Some(wanted), Some(failure)) if !wanted.matches(&failure.reason) => {
            found.push(format!(
                "the policy {} was to fail with `{wanted}`, and it {}",
                failure.policy, failure.reason
            ));
        }
        _ => {}
    }
    let allowed = expect.allowed.or(expect.denial.as_ref().map(|_| false));
    match (allowed, &told.denial) {
        (Some(true), Some(denial)) => found.push(format!(
            "it was to be admitted, and is refused ({}): {}",
            denial.code, denial.message
        )),
        (Some(false), None) => found.push("it was to be refused, and is admitted".to_owned()),
        _ => {}
    }
    if let (Some(wanted), Some(denial)) = (&expect.denial, &told.denial) {
        if let Some(code) = wanted.code.as_ref().filter(|code| **code != denial.code) {
            found.push(format!("denial.code: expected `{code}`, got `{}`", denial.code));
        }
        if let Some(message) = wanted
            .message
            .as_ref()
            .filter(|message| !message.matches(&denial.message))
        {
            found.push(format!(
                "denial.message: expected `{message}`, got `{}`",
                denial.message
            ));
        }
        if let Some(path) = wanted.path.as_ref().filter(|path| Some(*path) != denial.path.as_ref()) {
            let got = denial.path.as_deref().unwrap_or("none");
            found.push(format!("denial.path: expected `{path}`, got `{got}`"));
        }
    }
    if let Some(wanted) = &expect.fills {
        fills(wanted, told, &mut found);
    }
    if let Some(wanted) = &expect.warnings {
        let same = wanted.len() == told.warnings.len()
            && wanted
                .iter()
                .zip(&told.warnings)
                .all(|(pattern, warning)| pattern.matches(&warning.message));
        if !same {
            let wanted: Vec<_> = wanted.iter().map(|pattern| format!("\n  - {pattern}")).collect();
            let got = told.warnings.iter().map(|warning| format!("\n  - {}", warning.message));
            let got: Vec<_> = got.collect();
            found.push(format!("warnings: expected{}\ngot{}", or_none(&wanted), or_none(&got)));
        }
    }
    if let Some(wanted) = &expect.effects {
        let same = wanted.len() == told.effects.len()
            && wanted.iter().zip(&told.effects).all(|(wanted, got)| {
                wanted.backend == got.backend
                    && wanted
                        .delivery
                        .as_deref()
                        .is_none_or(|delivery| delivery == got.delivery)
            });
        if !same {
            let got: Vec<_> = told
                .effects
                .iter()
                .map(|effect| format!("\n  - {} by {}", effect.backend, effect.delivery))
                .collect();
            found.push(format!(
                "effects: expected {} credentials, got{}",
                wanted.len(),
                or_none(&got)
            ));
        }
    }
    if let Some(wanted) = &expect.object {
        match &told.object {
            Some(object) => within(wanted, Some(object), "", &mut found),
            None => found.push("object: expected one, and it is refused".to_owned()),
        }
    }
    found
}

/// What differs where a case is about its settings, or where they keep it from being tried.
pub(super) fn of_settings(wanted: Option<&Pattern>, error: Option<&LoadError>) -> Option<String> {
    match (wanted, error) {
        (None, error) => error.map(ToString::to_string),
        (Some(wanted), None) => Some(format!(
            "the settings were to be refused (`{wanted}`), and the policy takes them"
        )),
        (Some(wanted), Some(LoadError::Settings(reason))) if wanted.matches(reason) => None,
        (Some(wanted), Some(error)) => Some(format!("the settings were to be refused with `{wanted}`, and {error}")),
    }
}

fn or_none(lines: &[String]) -> String {
    if lines.is_empty() {
        " none".to_owned()
    } else {
        lines.concat()
    }
}

fn fills(wanted: &BTreeMap<String, Value>, told: &Told, found: &mut Vec<String>) {
    let got: BTreeMap<&str, Value> = told
        .fills
        .iter()
        .map(|fill| (fill.path.as_str(), fill.value.clone().unwrap_or_default()))
        .collect();
    for (path, value) in wanted {
        match got.get(path.as_str()) {
            Some(there) if there == value => {}
            Some(there) => found.push(format!("fills: {path}: expected {value}, got {there}")),
            None => found.push(format!("fills: {path}: expected {value}, and it isn't filled in")),
        }
    }
    for (path, value) in got.iter().filter(|(path, _)| !wanted.contains_key(**path)) {
        found.push(format!("fills: {path}: {value} is filled in, and wasn't expected"));
    }
}

/// Whether what is wanted stands there; more may.
fn within(wanted: &Value, there: Option<&Value>, path: &str, found: &mut Vec<String>) {
    match (wanted, there) {
        (Value::Null, None | Some(Value::Null)) => {}
        (Value::Null, Some(there)) => found.push(format!("object: {path}: expected nothing, got {there}")),
        (Value::Object(members), Some(Value::Object(there))) => {
            for (name, value) in members {
                within(value, there.get(name), &child(path, name), found);
            }
        }
        (wanted, Some(there)) if wanted == there => {}
        (wanted, Some(there)) => found.push(format!("object: {path}: expected {wanted}, got {there}")),
        (wanted, None) => found.push(format!("object: {path}: expected {wanted}, and nothing is there")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::told::{ToldDenial, ToldFailure, ToldFill, ToldWarning};

    fn expect(value: Value) -> Expect {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_differs_is_told_with_both_sides() {
        let told = Told {
            allowed: true,
            fills: vec![ToldFill {
                policy: "policy".into(),
                path: "/spec/a".into(),
                value: Some(json!(1)),
                reason: "so".into(),
            }],
            warnings: vec![ToldWarning {
                policy: "policy".into(),
                message: "careful".into(),
            }],
            object: Some(json!({"spec": {"a": 1}})),
            ..Told::default()
        };
        let found = |value| differences(&expect(value), &told);
        assert_eq!(
            found(
                json!({"allowed": true, "fills": {"/spec/a": 1}, "warnings": ["care"], "object": {"spec": {"b": null}}})
            ),
            Vec::<String>::new()
        );
        let wrong = json!({"denial": {"code": "x"}, "fills": {"/spec/b": 2}, "warnings": [], "effects": [{"backend": "minio"}],
            "object": {"spec": {"a": 2, "c": 3}}, "failure": "trap"});
        insta::assert_snapshot!(found(wrong).join("\n"));
    }

    #[test]
    fn a_policy_that_fails_is_called_by_its_name() {
        let told = Told {
            failures: vec![ToldFailure {
                policy: "owner".into(),
                reason: "trapped: unreachable".into(),
            }],
            ..Told::default()
        };
        let found = |value| differences(&expect(value), &told).join("\n");
        assert_eq!(found(json!({})), "the policy owner failed: it trapped: unreachable");
        assert_eq!(
            found(json!({"failure": "memory"})),
            "the policy owner was to fail with `memory`, and it trapped: unreachable"
        );
        assert_eq!(found(json!({"failure": "trapped"})), "");
    }

    #[test]
    fn a_refusal_is_compared_in_all_its_parts() {
        let told = Told {
            denial: Some(ToldDenial {
                policy: "policy".into(),
                code: "no-team".into(),
                message: "it has no team".into(),
                path: None,
            }),
            ..Told::default()
        };
        let found = |value| differences(&expect(value), &told);
        assert_eq!(
            found(json!({"denial": {"code": "no-team", "message": "/no team$/"}})),
            Vec::<String>::new()
        );
        let wrong = json!({"denial": {"code": "other", "message": "x", "path": "/spec"}, "object": {}});
        assert_eq!(found(wrong).len(), 4);
        assert_eq!(found(json!({"allowed": true})).len(), 1);
    }
}
