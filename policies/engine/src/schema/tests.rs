//! Schemas of policies, good, wrong and hostile, and settings held against them.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn house() -> Schema {
    Schema::parse(
        &json!({
            "type": "object", "additionalProperties": false, "required": ["team"],
            "properties": {
                "team": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8},
                "maxReplicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3},
                "mode": {"enum": ["deny", "warn"]},
                "prefixes": {"type": "array", "items": {"$ref": "#/$defs/prefix"}, "uniqueItems": true},
                "limit": {"anyOf": [{"type": "integer"}, {"const": "none"}]},
            },
            "$defs": {"prefix": {"type": "object", "properties": {"uri": {"type": "string"}}, "additionalProperties": false}},
        })
        .to_string(),
    )
    .unwrap()
}

#[test]
fn settings_that_do_not_fit_are_named_with_what_stands_there_and_what_may() {
    let schema = house();
    let mut fitting = json!({"team": "ml", "maxReplicas": 4, "prefixes": [{"uri": "s3://a/"}], "limit": "none"});
    assert_eq!(schema.check(&fitting), Ok(()));
    let words: Vec<String> = [
        ("maxReplicas", json!("yes")),
        ("maxReplicas", json!(99)),
        ("maxReplicas", json!(0)),
        ("mode", json!("refuse")),
        ("team", json!("ML team")),
        ("team", json!("abcdefghi")),
        ("prefixes", json!([{"uri": "s3://a/"}, {"url": "s3://b/"}])),
        ("prefixes", json!([{"uri": 1}])),
        ("prefixes", json!([{}, {}])),
        ("limit", json!("some")),
        ("teem", json!("ml")),
        ("nonsense", json!({})),
    ]
    .into_iter()
    .map(|(name, value)| {
        let mut settings = fitting.clone();
        settings[name] = value;
        schema.check(&settings).unwrap_err()
    })
    .collect();
    assert_eq!(
        words,
        [
            r#"spec.settings.maxReplicas is "yes", and has to be a whole number"#,
            "spec.settings.maxReplicas is 99, and may be 10 at most",
            "spec.settings.maxReplicas is 0, and has to be 1 at least",
            r#"spec.settings.mode is "refuse", and may be "deny" or "warn""#,
            r#"spec.settings.team is "ML team", and has to match the pattern ^[a-z]+$"#,
            r#"spec.settings.team is "abcdefghi", and may have 8 characters at most"#,
            "there is no setting spec.settings.prefixes[1].url; did you mean `uri`?",
            "spec.settings.prefixes[0].uri is 1, and has to be a string",
            "spec.settings.prefixes lists something twice",
            r#"spec.settings.limit is none of what it may be: spec.settings.limit is "some", and has to be a whole number, or spec.settings.limit is "some", and may only be "none""#,
            "there is no setting spec.settings.teem; did you mean `team`?",
            "there is no setting spec.settings.nonsense, only limit, maxReplicas, mode, prefixes, team",
        ]
    );
    fitting.as_object_mut().unwrap().remove("team");
    assert_eq!(schema.check(&fitting).unwrap_err(), "spec.settings.team is missing");
    assert_eq!(
        schema.check(&json!([])).unwrap_err(),
        "spec.settings is [], and has to be an object"
    );
}

#[test]
fn what_is_said_of_huge_settings_is_short() {
    let schema = house();
    let many: serde_json::Map<String, Value> = (0..500).map(|n| (format!("k{n}"), json!("x".repeat(99)))).collect();
    for wrong in [
        json!({"team": "x".repeat(100_000)}),
        Value::Object(many),
        json!({"team": vec!["\n\u{1b}"; 99]}),
    ] {
        let words = schema.check(&wrong).unwrap_err();
        assert!(
            words.chars().count() < 1000 && !words.contains(char::is_control),
            "{words}"
        );
    }
}

fn refused(schema: &Value) -> String {
    let begun = Instant::now();
    let error = Schema::parse(&schema.to_string()).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{error}");
    error
}

#[test]
fn what_is_no_schema_is_said_to_be_none() {
    assert!(Schema::parse("{").unwrap_err().contains("it is no JSON"));
    assert_eq!(Schema::parse("[]").unwrap_err(), "it is no object");
    let words = refused(&json!({"type": "objekt"}));
    assert!(words.starts_with("/type: "), "{words}");
    let words = refused(&json!({"properties": {"a": {"minimum": "one"}}}));
    assert!(words.starts_with("/properties/a/minimum: "), "{words}");
    assert!(refused(&json!({"$schema": "https://example.com/own"})).len() < 200);
    let words = refused(&json!({"pattern": "(a"}));
    assert!(!words.is_empty());
    assert!(refused(&json!({"$comment": "x".repeat(SCHEMA_BYTES)})).contains("may have 65536"));
}

#[test]
fn a_schema_that_would_take_for_ever_is_refused_at_once() {
    // Each refers to the next one twice: 2^40 subschemas.
    let doubled: serde_json::Map<String, Value> = (0..40)
        .map(|n| {
            let next = json!({"$ref": format!("#/$defs/a{}", n + 1)});
            (format!("a{n}"), json!({"allOf": [next, next]}))
        })
        .chain([("a40".to_owned(), json!(true))])
        .collect();
    let words = refused(&json!({"$defs": doubled, "$ref": "#/$defs/a0"}));
    assert!(words.contains("subschemas"), "{words}");
    let chain: serde_json::Map<String, Value> = (0..1000)
        .map(|n| (format!("a{n}"), json!({"$ref": format!("#/$defs/a{}", n + 1)})))
        .chain([("a1000".to_owned(), json!(true))])
        .collect();
    assert!(refused(&json!({"$defs": chain, "$ref": "#/$defs/a0"})).contains("deep"));
    for circle in [
        json!({"$ref": "#"}),
        json!({"properties": {"a": {"$ref": "#"}}}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    ] {
        assert!(refused(&circle).contains("circle"), "{circle}");
    }
    assert!(refused(&json!({"$ref": "https://example.com/schema"})).contains("no place inside of it"));
    assert!(refused(&json!({"$dynamicRef": "#a"})).contains("$dynamicRef"));
    assert!(refused(&json!({"items": {"$id": "https://example.com/a"}})).contains("$id"));
    let patterns: Vec<Value> = (0..101).map(|n| json!({"pattern": format!("a{n}")})).collect();
    assert!(refused(&json!({"anyOf": patterns})).contains("patterns"));
    assert!(!refused(&json!({"pattern": "(((a{100}){100}){100}){100}"})).is_empty());
    // Backtracking would take years for this one.
    let slow = Schema::parse(r#"{"pattern": "^(a+)+$"}"#).unwrap();
    let begun = Instant::now();
    assert!(slow.check(&json!(format!("{}b", "a".repeat(50_000)))).is_err());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// JSON that is often nearly a schema: its keywords, and references among its parts.
fn nearly() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!(0)),
        Just(json!(null)),
        prop::sample::select(vec![
            "string",
            "object",
            "#",
            "#/$defs/a",
            "#/properties",
            "^a+$",
            "(",
            "x"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let keyword = prop::sample::select(vec![
            "type",
            "properties",
            "items",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "$ref",
            "$defs",
            "a",
            "enum",
            "const",
            "required",
            "pattern",
            "additionalProperties",
            "minimum",
            "uniqueItems",
            "$id",
            "if",
            "then",
            "patternProperties",
            "propertyNames",
            "unevaluatedProperties",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keyword, inner, 0..4).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_schema_and_settings_are_the_answer_is_one_line(schema in nearly(), settings in nearly()) {
        let said = match Schema::parse(&schema.to_string()) {
            Ok(schema) => schema.check(&settings).err(),
            Err(refused) => Some(refused),
        };
        if let Some(said) = said {
            prop_assert!(!said.is_empty() && said.chars().count() < 1500 && !said.contains(char::is_control), "{said:?}");
        }
    }
}
