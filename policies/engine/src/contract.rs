//! What a component asks of the contract, held against the contract that this engine has: before anything of the policy runs, and in words of the contract, where the
//! linker's own speak of the component model.

use semver::Version;
use tidewaiter_core::lines;
use tidewaiter_core::policy_resource::Capability;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::empty;
use crate::load::LoadError;

/// The contract's version here. Within 0.1 a later one only adds, so that a component of an earlier one loads for ever.
pub(crate) const VERSION: &str = "0.1.0";
/// The contract as it stands in imports, before the interface's name.
const PACKAGE: &str = "tidewaiter:policy/";
/// The contract itself.
const TEXT: &str = include_str!("../../wit/policy.wit");
/// What a component of the world `policy` exports.
const EXPORTS: [&str; 3] = ["describe", "check-settings", "review"];
/// Characters of names that come out of a component.
const NAMED: usize = 200;

/// What a component imports.
pub(crate) struct Imports {
    /// What it has to be granted, in the order of the contract.
    pub(crate) capabilities: Vec<Capability>,
    /// The contract's version that it was built against, where that came after this one.
    newer: Option<Version>,
}

impl Imports {
    /// Checks that this contract has what the component imports, and that it was granted.
    pub(crate) fn of(
        engine: &wasmtime::Engine,
        component: &Component,
        granted: &[Capability],
    ) -> Result<Self, LoadError> {
        let mut all = Self {
            capabilities: Vec::new(),
            newer: None,
        };
        let (mut missing, mut unknown) = (Vec::new(), Vec::new());
        let component = component.component_type();
        for (name, import) in component.imports(engine) {
            let Some((interface, version)) = of_the_contract(name) else {
                if !empty::has(name) {
                    unknown.push((name, name.to_owned()));
                }
                continue;
            };
            if version > ours() {
                all.newer = all.newer.max(Some(version));
            }
            if let ComponentItem::ComponentInstance(instance) = import.ty {
                // Types alone are no reason to refuse: where a function of this contract has another one, the linker says so.
                let needs = instance.exports(engine).filter(|(_, item)| {
                    matches!(item.ty, ComponentItem::ComponentFunc(_) | ComponentItem::Resource(_))
                });
                let lacks =
                    needs.filter(|(function, _)| has_interface(interface) && !has_function(interface, function));
                unknown.extend(lacks.map(|(function, _)| (name, format!("{interface}#{function}"))));
            }
            let capability = match interface {
                "types" => continue,
                "storage" => Capability::Storage,
                "runtimes" => Capability::Runtimes,
                "cluster" => Capability::Cluster,
                "log" => Capability::Log,
                _ => {
                    unknown.push((name, interface.to_owned()));
                    continue;
                }
            };
            if !granted.contains(&capability) {
                missing.push((name.to_owned(), capability));
            }
            all.capabilities.push(capability);
        }
        if let Some(newer) = &all.newer {
            let is_compatible = (newer.major, newer.minor) == (ours().major, ours().minor);
            if !is_compatible || !unknown.is_empty() {
                let unknown: Vec<_> = unknown.into_iter().map(|(_, what)| what).collect();
                return Err(future(newer, &unknown.join(", ")));
            }
        }
        if let Some((name, what)) = unknown.into_iter().next() {
            let function = what.split_once('#').map(|(_, function)| format!("#{function}"));
            return Err(LoadError::UnknownImport(lines::cut(
                &format!("{name}{}", function.unwrap_or_default()),
                NAMED,
            )));
        }
        if !missing.is_empty() {
            return Err(not_granted(missing));
        }
        all.capabilities.sort_unstable();
        Ok(all)
    }

    /// Why it can't be linked, where all that it imports is there by name.
    pub(crate) fn misfit(&self, error: &wasmtime::Error) -> LoadError {
        match &self.newer {
            Some(newer) => future(newer, &format!("all of it: {error:#}")),
            None => LoadError::Contract(format!("{error:#}")),
        }
    }
}

/// Names, or none, of what isn't in the contract of this engine.
fn future(newer: &Version, unknown: &str) -> LoadError {
    let unknown = match unknown {
        "" => String::new(),
        some => format!(", which doesn't know {}", lines::cut(some, NAMED)),
    };
    LoadError::Future {
        version: lines::cut(&newer.to_string(), NAMED),
        unknown,
    }
}

/// With the imports' full names.
fn not_granted(missing: Vec<(String, Capability)>) -> LoadError {
    let (imports, capabilities): (Vec<_>, Vec<_>) = missing
        .into_iter()
        .map(|(import, capability)| (import, format!("`{}`", capability.as_str())))
        .unzip();
    LoadError::NotGranted {
        imports: imports.join(", "),
        capabilities: capabilities.join(", "),
    }
}

/// That a loaded policy's imports are within these grants.
pub(crate) fn check_grants(imports: &[Capability], granted: &[Capability]) -> Result<(), LoadError> {
    let missing = imports.iter().filter(|import| !granted.contains(import));
    let missing: Vec<_> = missing
        .map(|import| (format!("{PACKAGE}{}", import.as_str()), *import))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(not_granted(missing))
}

pub(crate) fn check_exports(engine: &wasmtime::Engine, component: &Component) -> Result<(), LoadError> {
    let all = component.component_type();
    let exported: Vec<&str> = all.exports(engine).map(|(name, _)| name).collect();
    let missing: Vec<&str> = EXPORTS.into_iter().filter(|name| !exported.contains(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let exported = match exported.as_slice() {
        [] => "nothing".to_owned(),
        some => lines::cut(&some.join(", "), NAMED),
    };
    Err(LoadError::Contract(format!(
        "it exports {exported}, and not {}; is it a component of another world?",
        missing.join(", ")
    )))
}

/// The interface and the contract's version in an import's name, such as `tidewaiter:policy/storage@0.1.0`.
fn of_the_contract(import: &str) -> Option<(&str, Version)> {
    let (interface, version) = import.strip_prefix(PACKAGE)?.split_once('@')?;
    Some((interface, version.parse().ok()?))
}

fn ours() -> Version {
    Version::new(0, 1, 0)
}

fn has_interface(name: &str) -> bool {
    body_of(name).is_some()
}

/// By the contract's own text, in which each function begins a line.
fn has_function(interface: &str, name: &str) -> bool {
    let declared = format!("{name}: func(");
    let mut lines = body_of(interface).unwrap_or_default().lines();
    lines.any(|line| line.trim_start().starts_with(&declared))
}

fn body_of(interface: &str) -> Option<&'static str> {
    let (_, rest) = TEXT.split_once(&format!("\ninterface {interface} {{\n"))?;
    rest.split_once("\n}").map(|(body, _)| body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_text_says_its_version_and_what_is_in_it() {
        assert_eq!(ours().to_string(), VERSION);
        assert!(TEXT.contains(&format!("\npackage tidewaiter:policy@{VERSION};\n")));
        for (interface, function, is_there) in [
            ("storage", "list-objects", true),
            ("storage", "read", true),
            ("log", "write", true),
            ("log", "read", false),
            ("cluster", "list-objects", true),
            ("cluster", "objects", false),
            ("oracle", "read", false),
        ] {
            assert_eq!(has_function(interface, function), is_there, "{interface}#{function}");
        }
        // A string of functions that the text has is found in it.
        let functions = TEXT
            .lines()
            .filter(|line| line.contains(": func(") && !line.contains("export"));
        assert_eq!(functions.count(), 19);
        assert!(has_interface("types") && !has_interface("type"));
    }
}
