//! A policy's settings as a table, from their JSON Schema.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

/// Nesting of settings that is followed. A schema may refer to itself.
const DEPTH: usize = 8;

/// Whether a setting's value may be shown to the users of objects: `"x-shown": true` beside it in the schema. The check that no setting leaks asks.
pub(crate) const SHOWN: &str = "x-shown";

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Such as `teams[].name`; `*` stands for any key of a map.
    pub path: String,
    /// Such as `string`, `list of string`, `one of "a", "b"`.
    pub kind: String,
    /// Whether what it is part of needs it.
    pub required: bool,
    /// JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What its author says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether users of objects may see its value.
    pub shown: bool,
}

impl Setting {
    /// The settings that a JSON Schema describes, by their names, outer before inner ones.
    pub fn of(schema: &Value) -> Vec<Self> {
        let mut found = Vec::new();
        members(schema, schema, "", DEPTH, &mut found);
        found
    }
}

fn members(root: &Value, schema: &Value, path: &str, depth: usize, found: &mut Vec<Setting>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let schema = resolved(root, schema);
    let required = |name: &str| {
        let names = schema.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    let none = Map::new();
    for (name, part) in schema.get("properties").and_then(Value::as_object).unwrap_or(&none) {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let inner = resolved(root, part);
        let said = |key: &str| part.get(key).or_else(|| inner.get(key));
        found.push(Setting {
            kind: kind(root, part),
            required: required(name),
            default: said("default").cloned(),
            description: said("description")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            shown: said(SHOWN) == Some(&Value::Bool(true)),
            path: path.clone(),
        });
        below(root, inner, &path, depth, found);
    }
    if let Some(any) = schema.get("additionalProperties").filter(|any| any.is_object()) {
        members(root, any, &format!("{path}.*"), depth, found);
    }
}

fn below(root: &Value, schema: &Value, path: &str, depth: usize, found: &mut Vec<Setting>) {
    match schema.get("items") {
        Some(items) => members(root, items, &format!("{path}[]"), depth, found),
        None => members(root, schema, path, depth, found),
    }
}

/// What a reference or a wrapper that only allows null leads to.
pub(crate) fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let mut schema = schema;
    for _ in 0..DEPTH {
        if let Some(pointer) = schema.get("$ref").and_then(Value::as_str)
            && let Some(target) = pointer.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
        {
            schema = target;
            continue;
        }
        let choices = ["anyOf", "oneOf", "allOf"]
            .iter()
            .find_map(|key| schema.get(key)?.as_array());
        let mut real = choices.into_iter().flatten().filter(|choice| choice["type"] != "null");
        match (real.next(), real.next()) {
            (Some(only), None) => schema = only,
            _ => break,
        }
    }
    schema
}

fn kind(root: &Value, schema: &Value) -> String {
    let schema = resolved(root, schema);
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<_> = values.iter().map(Value::to_string).collect();
        return format!("one of {}", values.join(", "));
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<_>>().join(" or ")
        }
        _ if schema.get("properties").is_some() => "object".to_owned(),
        _ => "any".to_owned(),
    };
    let mut text = match (name.as_str(), schema.get("items")) {
        ("array", Some(items)) => format!("list of {}", kind(root, items)),
        ("array", None) => "list".to_owned(),
        ("object", _) if schema.get("properties").is_none() && schema["additionalProperties"].is_object() => {
            format!("map of {}", kind(root, &schema["additionalProperties"]))
        }
        _ => name,
    };
    let range = match (schema.get("minimum"), schema.get("maximum")) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    };
    text.push_str(&range);
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let _ = write!(text, " like {pattern}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_a_table_of_settings() {
        let schema = json!({
            "type": "object", "required": ["team"],
            "properties": {
                "team": {"type": "string", "description": "Whose it is", "x-shown": true},
                "max": {"type": ["integer", "null"], "minimum": 1, "maximum": 9, "default": 3},
                "mode": {"enum": ["warn", "refuse"]},
                "rules": {"type": "array", "items": {"$ref": "#/$defs/Rule"}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "deep": {"anyOf": [{"$ref": "#/$defs/Rule"}, {"type": "null"}]},
            },
            "$defs": {"Rule": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/Rule"}}}},
        });
        let told: Vec<_> = Setting::of(&schema)
            .into_iter()
            .filter(|setting| setting.path.matches("next").count() < 2)
            .map(|setting| {
                format!(
                    "{}{}: {}{} {}",
                    setting.path,
                    if setting.required { "!" } else { "" },
                    setting.kind,
                    setting.default.map(|value| format!(" = {value}")).unwrap_or_default(),
                    setting.description
                )
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_schema_that_says_nothing_has_no_settings() {
        for schema in [
            json!({}),
            json!(true),
            json!({"type": "object", "additionalProperties": false}),
        ] {
            assert_eq!(Setting::of(&schema), []);
        }
    }
}
