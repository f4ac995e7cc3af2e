//! A policy's project: made from a template, and built to a component.

mod adapt;
mod build;
mod manifest;
mod scaffold;

pub use adapt::{AdaptError, component};
pub use build::{BuildError, Built};
pub use manifest::{CASES, Language, MANIFEST, Manifest, ManifestError};
pub use scaffold::{NewError, Sdk, new_project};
