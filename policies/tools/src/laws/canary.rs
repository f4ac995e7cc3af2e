//! Texts put into settings, to see whether they come out again.

use serde_json::{Map, Value};
use tidewaiter_core::pointer::child;
use tidewaiter_engine::LoadedPolicy;

use super::Laws;
use super::objects::set;
use crate::settings::{SHOWN, resolved};
use crate::subject::load;

/// A text that stands in a setting and nowhere else.
pub(super) struct Canary {
    /// The setting.
    pub(super) path: String,
    pub(super) text: String,
}

/// A policy with canaries in its settings.
pub(super) struct Planted {
    /// None where there is nothing to see.
    pub(super) policy: Option<LoadedPolicy>,
    pub(super) canaries: Vec<Canary>,
    pub(super) settings: Map<String, Value>,
    pub(super) left_out: Vec<String>,
}

/// Puts a canary into each text of the settings that nobody is to see, one after the other, and keeps those that the policy takes.
pub(super) async fn plant(laws: &Laws, settings: &Map<String, Value>, shows: &[String]) -> Planted {
    let mut planted = Planted {
        policy: None,
        canaries: Vec::new(),
        settings: settings.clone(),
        left_out: Vec::new(),
    };
    let mut places = Vec::new();
    texts(&Value::Object(settings.clone()), "", &mut places);
    if let Some(schema) = &laws.schema {
        unset(schema, schema, "", &mut places);
    }
    for pointer in places {
        let path = pointer.trim_start_matches('/').replace('/', ".");
        if shown(laws.schema.as_ref(), &pointer) || shows.contains(&path) {
            continue;
        }
        // Valid as a label, a name and a part of a URI, so that most settings take it.
        let text = format!("canary-{}-x7q", planted.canaries.len() + 1);
        let mut tried = Value::Object(planted.settings.clone());
        if tried.pointer(&pointer).is_none() {
            set(&mut tried, &pointer, Value::from(text.as_str()));
        } else if let Some(place) = tried.pointer_mut(&pointer) {
            *place = Value::from(text.as_str());
        }
        let Value::Object(tried) = tried else { continue };
        match load(&laws.engine, &laws.name, &laws.component, &tried, laws.limits).await {
            Ok(policy) => {
                planted.policy = Some(policy);
                planted.settings = tried;
                planted.canaries.push(Canary { path, text });
            }
            Err(_) => planted
                .left_out
                .push(format!("the setting {path}: the policy takes no other text there")),
        }
    }
    planted
}

/// Pointers to all texts.
fn texts(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(path.to_owned()),
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| texts(value, &child(path, name), found)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                texts(item, &child(path, &index.to_string()), found);
            }
        }
        _ => {}
    }
}

/// Pointers to the texts of a schema that the settings leave out.
fn unset(root: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let schema = resolved(root, schema);
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        let place = child(path, name);
        let free = part.get("enum").is_none() && part.get("const").is_none();
        let inner = resolved(root, part);
        if inner["type"] == "string" && free && inner.get("enum").is_none() && !found.contains(&place) {
            found.push(place);
        }
    }
}

/// Whether the schema says that users may see the value of the setting at this place, or of one that it is part of.
fn shown(schema: Option<&Value>, pointer: &str) -> bool {
    let Some(root) = schema else { return false };
    let mut here = root;
    for segment in pointer.split('/').skip(1) {
        let inner = resolved(root, here);
        let part = inner["properties"]
            .get(segment)
            .or_else(|| inner.get("items"))
            .or_else(|| {
                let any = inner.get("additionalProperties")?;
                any.is_object().then_some(any)
            });
        let Some(part) = part else { return false };
        if part.get(SHOWN) == Some(&Value::Bool(true)) || resolved(root, part).get(SHOWN) == Some(&Value::Bool(true)) {
            return true;
        }
        here = part;
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_schema_marks_as_shown_is_shown_with_all_that_is_in_it() {
        let schema = json!({"properties": {
            "team": {"type": "string", "x-shown": true}, "token": {"type": "string"},
            "rules": {"x-shown": true, "type": "array", "items": {"properties": {"name": {"type": "string"}}}},
            "hidden": {"type": "array", "items": {"$ref": "#/$defs/Text"}},
        }, "$defs": {"Text": {"type": "string"}}});
        let shown = |pointer| shown(Some(&schema), pointer);
        assert!(shown("/team") && shown("/rules/0/name"));
        assert!(!shown("/token") && !shown("/hidden/0") && !shown("/none"));
        assert!(!super::shown(None, "/team"));
    }

    #[test]
    fn texts_of_settings_are_found_where_they_stand_and_where_they_might() {
        let mut found = Vec::new();
        texts(&json!({"a": ["x", {"b": "y"}], "c": 1}), "", &mut found);
        let schema = json!({"properties": {"d": {"type": "string"}, "e": {"enum": ["x"]}, "f": {"type": "integer"}}});
        unset(&schema, &schema, "", &mut found);
        assert_eq!(found, ["/a/0", "/a/1/b", "/d"]);
    }
}
