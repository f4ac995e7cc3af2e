//! What applying a schema may take, counted before it is applied.

use std::collections::HashMap;

use regex::RegexBuilder;
use serde_json::Value;

use super::quoted;

/// Subschemas that applying it may lead to, one that is referred to twice counted twice.
const STEPS: usize = 10_000;
/// Subschemas inside of one another, references followed: each is some frames of the stack.
const DEPTH: usize = 48;
/// Regular expressions, and what each may become.
const PATTERNS: usize = 100;
const PATTERN_BYTES: usize = 256 << 10;
/// Keywords whose members are subschemas by name.
const MAPS: [&str; 6] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
];
/// Keywords that hold values, not schemas.
const VALUES: [&str; 4] = ["enum", "const", "default", "examples"];

/// What a schema leads to, counted before it is applied.
#[derive(Default)]
pub(super) struct Bounds<'a> {
    patterns: usize,
    /// Of what was referred to; none while it is being counted.
    counted: HashMap<&'a str, Option<Extent>>,
}

/// Subschemas in all, and inside of one another.
#[derive(Clone, Copy, Default)]
struct Extent {
    steps: usize,
    height: usize,
}

impl Extent {
    fn beside(self, other: Self) -> Self {
        Self {
            steps: self.steps.saturating_add(other.steps),
            height: self.height.max(other.height),
        }
    }
}

impl<'a> Bounds<'a> {
    /// # Errors
    /// Which bound it passes.
    pub(super) fn within(mut self, schema: &'a Value) -> Result<(), String> {
        self.counted.insert("#", None);
        let Extent { steps, height } = self.of(schema, schema, 0)?;
        if steps > STEPS {
            return Err(format!(
                "it leads to more than {STEPS} subschemas, those that are referred to counted each time"
            ));
        }
        if height > DEPTH {
            return Err(too_deep());
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), String> {
        self.patterns += 1;
        if self.patterns > PATTERNS {
            return Err(format!("it has more than {PATTERNS} patterns"));
        }
        let read = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build();
        match read {
            Ok(_) => Ok(()),
            Err(regex::Error::CompiledTooBig(_)) => Err(format!("the pattern {} is too large", quoted(pattern))),
            Err(_) => Err(format!(
                "the pattern {} can't be read as a regular expression",
                quoted(pattern)
            )),
        }
    }

    fn of(&mut self, root: &'a Value, schema: &'a Value, depth: usize) -> Result<Extent, String> {
        if depth > DEPTH {
            return Err(too_deep());
        }
        let mut extent = Extent { steps: 1, height: 0 };
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            let below = match (keyword.as_str(), value) {
                ("$ref", Value::String(reference)) => self.referred(root, reference, depth)?,
                ("$dynamicRef" | "$recursiveRef", _) => {
                    return Err(format!(
                        "it uses {keyword}; write `$ref` with a place inside of it, such as `#/$defs/name`"
                    ));
                }
                ("$id" | "id", Value::String(_)) if depth > 0 => {
                    return Err("a subschema has an `$id`; only the whole schema may".to_owned());
                }
                (name, _) if VALUES.contains(&name) => Extent::default(),
                (name, Value::Object(schemas)) if MAPS.contains(&name) => {
                    if name == "patternProperties" {
                        schemas.keys().try_for_each(|pattern| self.pattern(pattern))?;
                    }
                    self.all(root, schemas.values(), depth)?
                }
                ("pattern", Value::String(pattern)) => {
                    self.pattern(pattern)?;
                    Extent::default()
                }
                (_, Value::Array(schemas)) => self.all(root, schemas.iter(), depth)?,
                (_, Value::Object(_)) => self.of(root, value, depth + 1)?,
                _ => Extent::default(),
            };
            extent = extent.beside(below);
        }
        extent.height += 1;
        Ok(extent)
    }

    fn all(
        &mut self,
        root: &'a Value,
        schemas: impl Iterator<Item = &'a Value>,
        depth: usize,
    ) -> Result<Extent, String> {
        let mut extent = Extent::default();
        for schema in schemas {
            extent = extent.beside(self.of(root, schema, depth + 1)?);
        }
        Ok(extent)
    }

    fn referred(&mut self, root: &'a Value, reference: &'a str, depth: usize) -> Result<Extent, String> {
        match self.counted.get(reference) {
            Some(Some(extent)) => return Ok(*extent),
            Some(None) => return Err(format!("the reference {} leads in a circle", quoted(reference))),
            None => {}
        }
        let place = reference.strip_prefix('#').filter(|place| place.starts_with('/'));
        let target = place.and_then(|place| root.pointer(place)).ok_or_else(|| {
            format!(
                "the reference {} leads to no place inside of it (`#/…`)",
                quoted(reference)
            )
        })?;
        self.counted.insert(reference, None);
        let extent = self.of(root, target, depth + 1)?;
        self.counted.insert(reference, Some(extent));
        Ok(extent)
    }
}

fn too_deep() -> String {
    format!("its subschemas are nested more than {DEPTH} deep, references followed")
}
