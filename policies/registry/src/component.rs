//! A look at a component from outside: what it is, what it imports and exports.

use wasmparser::{ComponentExternalKind, Parser, Payload};

use crate::Error;

/// What stands in the configuration of a Wasm artifact.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// Reads a component's own imports and exports.
///
/// # Errors
/// Bytes that are no component; each says what they are.
pub(crate) fn outline(component: &[u8]) -> Result<Outline, Error> {
    let not = |what: String| Error::NotAPolicy(what);
    if Parser::is_core_wasm(component) {
        return Err(not(
            "it is a core module, and a policy is a component: `tidewaiter policy build` makes one of a project's module".into(),
        ));
    }
    if !Parser::is_component(component) {
        return Err(not("it is no WebAssembly component".into()));
    }
    let mut outline = Outline::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| not(format!("it is a broken component: {error}")))?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(|error| not(format!("it is a broken component: {error}")))?;
                    if matches!(
                        import.ty,
                        wasmparser::ComponentTypeRef::Instance(_) | wasmparser::ComponentTypeRef::Func(_)
                    ) {
                        outline.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(|error| not(format!("it is a broken component: {error}")))?;
                    if matches!(
                        export.kind,
                        ComponentExternalKind::Instance | ComponentExternalKind::Func
                    ) {
                        outline.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_exports_are_those_of_the_component_itself() {
        let component = wat::parse_str(
            r#"(component
                (import "tidewaiter:policy/log@0.1.0" (instance))
                (component (import "inner" (func)))
                (core module)
                (instance $i)
                (export "tidewaiter:policy/check@0.1.0" (instance $i)))"#,
        )
        .unwrap();
        let expected = Outline {
            imports: vec!["tidewaiter:policy/log@0.1.0".into()],
            exports: vec!["tidewaiter:policy/check@0.1.0".into()],
        };
        assert_eq!(outline(&component).unwrap(), expected);
        for (bytes, why) in [
            (
                wat::parse_str("(module)").unwrap(),
                "`tidewaiter policy build` makes one",
            ),
            (b"<html>".to_vec(), "no WebAssembly"),
            (component[..component.len() - 3].to_vec(), "broken component"),
        ] {
            assert!(outline(&bytes).unwrap_err().to_string().contains(why));
        }
    }
}
