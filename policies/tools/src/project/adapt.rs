//! A component of whatever a language's compiler makes.

use std::fmt;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract, for modules whose toolchain didn't put it in.
const CONTRACT: &str = include_str!("../../../wit/policy.wit");
const WORLD: &str = "policy";
/// What toolchains call the section that says what a module is to become.
const METADATA: &[u8] = b"component-type";
/// The module of imports that a core module with WASI preview 1 has.
const PREVIEW_1: &str = "wasi_snapshot_preview1";

/// Why no component can be made.
#[derive(Debug, thiserror::Error)]
pub enum AdaptError {
    /// The bytes are no WebAssembly.
    #[error("what was built is no WebAssembly: its first bytes are not those of a module")]
    NotWasm,
    /// It can't become one.
    #[error("no component can be made of what was built: {0}")]
    Encode(String),
}

/// Makes a component of a core module; a component stays what it is. `adapter` is what preview 1 is answered by, where the module wants it.
///
/// # Errors
/// Where the module doesn't export what the contract says, or wants what isn't there.
pub fn component(bytes: &[u8], adapter: Option<&[u8]>) -> Result<Vec<u8>, AdaptError> {
    match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => return Ok(bytes.to_vec()),
        Some(b"\0asm\x01\0\0\0") => {}
        _ => return Err(AdaptError::NotWasm),
    }
    let mut module = bytes.to_vec();
    if !contains(bytes, METADATA) {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("policy.wit", CONTRACT).map_err(failed)?;
        let world = resolve.select_world(&[package], Some(WORLD)).map_err(failed)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).map_err(failed)?;
    }
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true);
    encoder.module(&module).map_err(failed)?;
    if let Some(adapter) = adapter.filter(|_| contains(bytes, PREVIEW_1.as_bytes())) {
        encoder.adapter(PREVIEW_1, adapter).map_err(failed)?;
    }
    encoder.encode().map_err(failed)
}

/// In wit-component's words, with what lies beneath them.
fn failed(error: impl fmt::Display) -> AdaptError {
    AdaptError::Encode(format!("{error:#}"))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_of_the_contract_is_refused_with_the_reason() {
        let error = |bytes: &[u8]| component(bytes, None).unwrap_err().to_string();
        assert!(error(b"#!/bin/sh").contains("no WebAssembly"));
        let empty = error(b"\0asm\x01\0\0\0");
        assert!(empty.contains("describe") || empty.contains("export"), "{empty}");
    }

    #[test]
    fn a_component_stays_what_it_is() {
        let builtin = tidewaiter_builtin::POLICIES[0].component;
        assert_eq!(component(builtin, None).unwrap(), builtin);
    }
}
