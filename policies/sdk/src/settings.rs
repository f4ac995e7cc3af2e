//! Settings: a struct, and the JSON Schema that follows from it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Mode;

/// A JSON Schema, as text: a tree of it would be the larger part of a small component, and no review needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema(Vec<(&'static str, String)>);

impl Schema {
    /// Of values of a type, such as `integer`.
    pub fn of_type(name: &str) -> Self {
        Self(Vec::new()).with("type", name)
    }

    /// Of values that are one of these.
    pub fn one_of(values: &[&str]) -> Self {
        Self(Vec::new()).with("enum", values)
    }

    /// With a keyword of JSON Schema.
    #[must_use]
    pub fn with(self, keyword: &'static str, value: impl Serialize) -> Self {
        self.with_text(keyword, text_of(&value))
    }

    fn with_text(mut self, keyword: &'static str, text: String) -> Self {
        self.0.retain(|(other, _)| *other != keyword);
        self.0.push((keyword, text));
        self
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (keyword, value) in &self.0 {
            push_member(&mut text, &format!("\"{keyword}\""), value);
        }
        closed(text)
    }
}

/// Each type by itself, and not by a [`Value`](crate::Value): to print any of those takes as much code as all of this.
fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Both are JSON.
fn push_member(text: &mut String, name: &str, value: &str) {
    text.push(if text.is_empty() { '{' } else { ',' });
    text.push_str(name);
    text.push(':');
    text.push_str(value);
}

fn closed(members: String) -> String {
    if members.is_empty() {
        "{}".to_owned()
    } else {
        members + "}"
    }
}

/// A type that a setting may have: texts, numbers, booleans, [`Mode`], lists, maps, options of them, and what [`settings!`](crate::settings!) makes.
pub trait Setting {
    /// What JSON Schema says of it.
    fn schema() -> Schema;

    /// The value as JSON text, for a default in the schema; none where there is nothing to say.
    fn json(&self) -> Option<String>;
}

/// The JSON Schema of settings as [`Policy::settings_schema`](crate::Policy::settings_schema) has it.
pub fn schema_of<S: Setting>() -> Option<&'static str> {
    // Asked for once, by an instance that describes itself and is gone.
    Some(S::schema().text().leak())
}

/// Makes the struct of a policy's settings, with defaults and JSON Schema. `max_replicas` is the setting `maxReplicas`; its comment is what the admin reads
/// of it. A setting that isn't here is refused.
///
/// ```
/// tidewaiter_policy::settings! {
///     /// What the admin may set.
///     pub struct Settings {
///         /// The most replicas of one service
///         #[setting(shown, minimum = 1)]
///         pub max_replicas: i64 = 10,
///         /// The team of services that don't say
///         pub team: Option<String> = None,
///     }
/// }
/// assert_eq!(Settings::default().max_replicas, 10);
/// ```
///
/// `shown`: users may see its value, as in a denial; `tidewaiter policy test` looks whether one shows that isn't. What else stands there is JSON Schema.
#[macro_export]
macro_rules! settings {
    (
        $(#[$about:meta])*
        $visible:vis struct $name:ident {$(
            $(#[doc = $doc:literal])*
            $(#[setting($($said:tt)*)])?
            $seen:vis $field:ident: $type:ty = $default:expr
        ),* $(,)?}
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, $crate::serde::Deserialize)]
        #[serde(crate = "tidewaiter_policy::serde", rename_all = "camelCase", deny_unknown_fields, default)]
        $visible struct $name {$(
            $(#[doc = $doc])*
            $seen $field: $type,
        )*}

        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self {$($field: $default,)*}
            }
        }

        impl $crate::Setting for $name {
            fn schema() -> $crate::Schema {
                let defaults = <Self as ::core::default::Default>::default();
                $crate::schema_of_struct(&[$({
                    let schema = $crate::schema_of_setting(&defaults.$field, concat!($($doc, "\n"),*));
                    $(let schema = $crate::said!(schema $($said)*);)?
                    (stringify!($field), schema)
                }),*])
            }

            fn json(&self) -> ::core::option::Option<::std::string::String> {
                None
            }
        }
    };
}

/// What stands in `#[setting(…)]`.
#[doc(hidden)]
#[macro_export]
macro_rules! said {
    ($schema:ident) => { $schema };
    ($schema:ident shown $(, $($rest:tt)*)?) => {{
        let schema = $schema.with("x-shown", true);
        $crate::said!(schema $($($rest)*)?)
    }};
    ($schema:ident $keyword:ident = $value:expr $(, $($rest:tt)*)?) => {{
        let schema = $schema.with(stringify!($keyword), $value);
        $crate::said!(schema $($($rest)*)?)
    }};
}

/// The schema of a struct, of its fields' names and schemas.
#[doc(hidden)]
pub fn schema_of_struct(fields: &[(&str, Schema)]) -> Schema {
    let mut properties = String::new();
    for (name, schema) in fields {
        push_member(&mut properties, &format!("\"{}\"", camel(name)), &schema.text());
    }
    let schema = Schema::of_type("object").with("additionalProperties", false);
    schema.with_text("properties", closed(properties))
}

/// The schema of a setting with this default and these lines of comment.
#[doc(hidden)]
pub fn schema_of_setting<S: Setting>(default: &S, comment: &str) -> Schema {
    described(S::schema(), default.json(), comment)
}

fn described(schema: Schema, default: Option<String>, comment: &str) -> Schema {
    let mut description = String::new();
    for line in comment.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !description.is_empty() {
            description.push(' ');
        }
        description.push_str(line);
    }
    let schema = if description.is_empty() {
        schema
    } else {
        schema.with("description", description)
    };
    match default {
        Some(default) => schema.with_text("default", default),
        None => schema,
    }
}

/// A field's name as serde's `camelCase` has it.
fn camel(field: &str) -> String {
    let mut name = String::new();
    for word in field.trim_start_matches("r#").split('_') {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if !name.is_empty() => name.push(first.to_ascii_uppercase()),
            Some(first) => name.push(first),
            None => {}
        }
        name.push_str(letters.as_str());
    }
    name
}

macro_rules! plain {
    ($($schema:expr => $($type:ty)*;)*) => {$($(
        impl Setting for $type {
            fn schema() -> Schema {
                $schema
            }

            fn json(&self) -> Option<String> {
                Some(text_of(self))
            }
        }
    )*)*};
}

plain! {
    Schema::of_type("boolean") => bool;
    Schema::of_type("integer") => i8 i16 i32 i64;
    Schema::of_type("integer").with("minimum", 0) => u8 u16 u32 u64;
    Schema::of_type("number") => f32 f64;
}

impl Setting for String {
    fn schema() -> Schema {
        Schema::of_type("string")
    }

    fn json(&self) -> Option<String> {
        Some(text_of(self))
    }
}

impl Setting for Mode {
    fn schema() -> Schema {
        Schema::one_of(&["deny", "warn", "off"])
    }

    fn json(&self) -> Option<String> {
        let name = match self {
            Self::Deny => "deny",
            Self::Warn => "warn",
            Self::Off => "off",
        };
        Some(text_of(&name))
    }
}

impl<S: Setting> Setting for Option<S> {
    fn schema() -> Schema {
        S::schema()
    }

    fn json(&self) -> Option<String> {
        self.as_ref()?.json()
    }
}

impl<S: Setting> Setting for Vec<S> {
    fn schema() -> Schema {
        Schema::of_type("array").with_text("items", S::schema().text())
    }

    fn json(&self) -> Option<String> {
        let mut text = "[".to_owned();
        for value in self {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&value.json()?);
        }
        Some(text + "]")
    }
}

impl<S: Setting> Setting for BTreeMap<String, S> {
    fn schema() -> Schema {
        Schema::of_type("object").with_text("additionalProperties", S::schema().text())
    }

    fn json(&self) -> Option<String> {
        let mut text = String::new();
        for (name, value) in self {
            push_member(&mut text, &text_of(name), &value.json()?);
        }
        Some(closed(text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    use crate::Value;

    crate::settings! {
        /// What a team may do.
        struct Rule {
            /// Its name
            name: String = String::new(),
        }
    }

    crate::settings! {
        /// All kinds.
        struct Everything {
            /// Of one service;
            /// at least one
            #[setting(shown, minimum = 1)]
            max_replicas: i64 = 10,
            team: Option<String> = None,
            share: f64 = 0.5,
            findings: Mode = Mode::Warn,
            #[setting(maxItems = 3)]
            rules: Vec<Rule> = vec![Rule::default()],
            sizes: BTreeMap<String, u32> = BTreeMap::from([("small".to_owned(), 1)]),
            r#type: Vec<String> = vec!["a".to_owned()],
        }
    }

    #[test]
    fn the_schema_follows_from_the_struct() {
        let rule = json!({"type": "object", "additionalProperties": false, "properties": {
            "name": {"type": "string", "default": "", "description": "Its name"}}});
        let wanted = json!({"type": "object", "additionalProperties": false, "properties": {
            "maxReplicas": {"type": "integer", "minimum": 1, "default": 10, "description": "Of one service; at least one", "x-shown": true},
            "team": {"type": "string"},
            "share": {"type": "number", "default": 0.5},
            "findings": {"enum": ["deny", "warn", "off"], "default": "warn"},
            "rules": {"type": "array", "items": rule, "maxItems": 3},
            "sizes": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}, "default": {"small": 1}},
            "type": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
        }});
        let text = schema_of::<Everything>().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), wanted);
    }

    #[test]
    fn settings_are_read_by_the_names_in_the_schema_and_no_others() {
        let read = |text: &str| serde_json::from_str::<Everything>(text);
        let given = read(r#"{"maxReplicas": 3, "type": [], "rules": [{"name": "a"}], "team": "b"}"#).unwrap();
        assert_eq!(
            (given.max_replicas, given.r#type.len(), given.team.as_deref()),
            (3, 0, Some("b"))
        );
        assert_eq!(
            (given.rules[0].name.as_str(), given.share, given.findings),
            ("a", 0.5, Mode::Warn)
        );
        assert_eq!(given.sizes["small"], 1);
        assert!(read(r#"{"max_replicas": 3}"#).is_err());
    }
}
