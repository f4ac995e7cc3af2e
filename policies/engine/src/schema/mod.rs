//! The schema of a policy's settings: whether it is one that can be used, and whether settings fit it.
//!
//! It comes out of a component, so it is held against limits before anything is made of it: a schema can be written that takes years to apply.

mod bounds;
#[cfg(test)]
mod tests;

use boon::{Compiler, Draft, ErrorKind, InstanceToken, SchemaIndex, Schemas, Type, Types, UrlLoader, ValidationError};
use serde_json::Value;
use tidewaiter_core::lines;
use tidewaiter_core::nearest::nearest;

use bounds::Bounds;

/// Bytes that a schema has at most.
pub const SCHEMA_BYTES: usize = 64 << 10;
/// What is told at once of settings that don't fit.
const TOLD: usize = 3;
/// Characters of a value, a pattern or a list of names in an error.
const QUOTED: usize = 80;
/// Of what holds several of these.
const LONG: usize = 300;

/// By what name the schema is known to whoever reads it.
const NAME: &str = "https://tidewaiter.dev/settings";

/// What settings may be.
pub struct Schema {
    text: Value,
    schemas: Schemas,
    root: SchemaIndex,
}

/// There is nothing outside of a schema.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err(format!("{url} is outside of the schema, and nothing is fetched").into())
    }
}

impl Schema {
    /// Reads a JSON Schema: draft 2020-12 where `$schema` names no other.
    ///
    /// # Errors
    /// Why it can't be used, in one line for the author of the policy.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > SCHEMA_BYTES {
            return Err(format!("it has {} bytes, and may have {SCHEMA_BYTES}", text.len()));
        }
        let text: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        if !text.is_object() {
            return Err("it is no object".to_owned());
        }
        Bounds::default().within(&text)?;
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(Nowhere));
        let wrong = |error: boon::CompileError| match &error {
            boon::CompileError::ValidationError { src, .. } => no_schema(src),
            other => quoted(&other.to_string().replace(NAME, "it")),
        };
        let mut schemas = Schemas::new();
        compiler.add_resource(NAME, text.clone()).map_err(wrong)?;
        let root = compiler.compile(NAME, &mut schemas).map_err(wrong)?;
        Ok(Self { text, schemas, root })
    }

    /// Whether settings fit.
    ///
    /// # Errors
    /// Which settings don't, what stands there and what may, in one line for the admin.
    pub fn check(&self, settings: &Value) -> Result<(), String> {
        let Err(error) = self.schemas.validate(settings, self.root) else {
            return Ok(());
        };
        let mut wrong = Vec::new();
        leaves(&error, &mut wrong);
        let told: Vec<String> = wrong
            .iter()
            .take(TOLD)
            .map(|error| self.words(error, settings))
            .collect();
        Err(match wrong.len().saturating_sub(TOLD) {
            0 => told.join("; "),
            more => format!("{}; and {more} more", told.join("; ")),
        })
    }

    fn words(&self, error: &ValidationError<'_, '_>, settings: &Value) -> String {
        let at = place(error);
        let value = || quoted(&found(error, settings).map(Value::to_string).unwrap_or_default());
        let count = |of: &str, n: usize| format!("{n} {of}{}", if n == 1 { "" } else { "s" });
        match &error.kind {
            ErrorKind::Type { want, .. } => format!("{at} is {}, and has to be {}", value(), types(*want)),
            ErrorKind::Enum { want } => format!("{at} is {}, and may be {}", value(), quoted(&one_of(want))),
            ErrorKind::Const { want } => format!("{at} is {}, and may only be {}", value(), quoted(&want.to_string())),
            ErrorKind::AdditionalProperties { got } => {
                let given = got.iter().map(|name| &**name).min().unwrap_or_default();
                self.unknown(&at, error, given)
            }
            ErrorKind::Required { want } => {
                let missing: Vec<String> = want.iter().map(|name| format!("{at}.{}", quoted(name))).collect();
                format!(
                    "{} {} missing",
                    quoted(&missing.join(", ")),
                    if missing.len() == 1 { "is" } else { "are" }
                )
            }
            ErrorKind::Maximum { want, .. } => format!("{at} is {}, and may be {want} at most", value()),
            ErrorKind::Minimum { want, .. } => format!("{at} is {}, and has to be {want} at least", value()),
            ErrorKind::ExclusiveMaximum { want, .. } => {
                format!("{at} is {}, and has to be less than {want}", value())
            }
            ErrorKind::ExclusiveMinimum { want, .. } => {
                format!("{at} is {}, and has to be more than {want}", value())
            }
            ErrorKind::MaxLength { want, .. } => {
                format!(
                    "{at} is {}, and may have {} at most",
                    value(),
                    count("character", *want)
                )
            }
            ErrorKind::MinLength { want, .. } => {
                format!(
                    "{at} is {}, and has to have {} at least",
                    value(),
                    count("character", *want)
                )
            }
            ErrorKind::MaxItems { got, want } => {
                format!("{at} has {}, and may have {want} at most", count("item", *got))
            }
            ErrorKind::MinItems { got, want } => {
                format!("{at} has {}, and has to have {want} at least", count("item", *got))
            }
            ErrorKind::UniqueItems { .. } => format!("{at} lists something twice"),
            ErrorKind::Pattern { want, .. } => {
                format!("{at} is {}, and has to match the pattern {}", value(), quoted(want))
            }
            ErrorKind::FalseSchema => format!("{at} can't be set"),
            ErrorKind::AnyOf | ErrorKind::OneOf(None) => {
                let mut ways = Vec::new();
                error.causes.iter().for_each(|cause| leaves(cause, &mut ways));
                let ways: Vec<String> = ways
                    .iter()
                    .take(TOLD)
                    .map(|error| self.words(error, settings))
                    .collect();
                quoted_as(&format!("{at} is none of what it may be: {}", ways.join(", or ")), LONG)
            }
            other => format!("{at} is {}: {}", value(), quoted(&other.to_string())),
        }
    }

    /// A setting that nobody asks for, with what it was meant to be.
    fn unknown(&self, at: &str, error: &ValidationError<'_, '_>, given: &str) -> String {
        let object = error.schema_url.split_once('#').map_or("", |(_, object)| object);
        let known: Vec<&str> = self
            .text
            .pointer(&format!("{object}/properties"))
            .and_then(Value::as_object)
            .map(|properties| properties.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let what = format!("there is no setting {at}.{}", quoted(given));
        match nearest(given, &known) {
            Some(meant) => format!("{what}; did you mean `{meant}`?"),
            None if known.is_empty() => what,
            None => format!("{what}, only {}", quoted(&known.join(", "))),
        }
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Schema").field(&self.text).finish()
    }
}

/// The errors that say something, without those that only hold others.
fn leaves<'e, 's, 'v>(error: &'e ValidationError<'s, 'v>, found: &mut Vec<&'e ValidationError<'s, 'v>>) {
    match error.kind {
        ErrorKind::AnyOf | ErrorKind::OneOf(_) => found.push(error),
        _ if error.causes.is_empty() => found.push(error),
        _ => error.causes.iter().for_each(|cause| leaves(cause, found)),
    }
}

/// Why a schema is none, by the schema of schemas.
fn no_schema(error: &ValidationError<'_, '_>) -> String {
    let mut found = Vec::new();
    leaves(error, &mut found);
    let Some(first) = found.first() else {
        return "it is none".to_owned();
    };
    let at = first.instance_location.to_string();
    let at = if at.is_empty() { "its root" } else { &at };
    quoted_as(&format!("{at}: {}", first.kind), LONG)
}

/// Where a setting stands in its `WasmPolicy`: `spec.settings.teams[0].name`.
fn place(error: &ValidationError<'_, '_>) -> String {
    let mut place = "spec.settings".to_owned();
    for token in &error.instance_location.tokens {
        match token {
            InstanceToken::Prop(name) => place = format!("{place}.{}", quoted(name)),
            InstanceToken::Item(index) => place = format!("{place}[{index}]"),
        }
    }
    quoted_as(&place, LONG)
}

/// What stands there.
fn found<'v>(error: &ValidationError<'_, '_>, settings: &'v Value) -> Option<&'v Value> {
    let mut value = settings;
    for token in &error.instance_location.tokens {
        value = match token {
            InstanceToken::Prop(name) => value.get(&**name)?,
            InstanceToken::Item(index) => value.get(index)?,
        };
    }
    Some(value)
}

fn types(types: Types) -> String {
    let named = |one: Type| match one {
        Type::Null => "null",
        Type::Boolean => "true or false",
        Type::Number => "a number",
        Type::Integer => "a whole number",
        Type::String => "a string",
        Type::Array => "a list",
        Type::Object => "an object",
    };
    let several: Vec<&str> = types.iter().map(named).collect();
    several.join(" or ")
}

fn one_of(options: &[Value]) -> String {
    let options: Vec<String> = options.iter().map(Value::to_string).collect();
    options.join(" or ")
}

fn quoted(text: &str) -> String {
    quoted_as(text, QUOTED)
}

fn quoted_as(text: &str, limit: usize) -> String {
    lines::cut(text, limit)
}
