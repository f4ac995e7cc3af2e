//! What policies may ask about: stores, runtimes, the catalogue, the cluster; and the configuration that says so.
//!
//! ```text
//! folder ──▶ Objects ──┐
//! cluster ─▶ Objects ──┴─▶ Configuration::build ──▶ Configuration (problems aside, last good kept)
//!                                                        │
//!                     a review: ReviewWorld ◀────────────┘  resolve · read within grants · runtimes · brought credentials
//! ```

mod api_reader;
pub mod configuration;
pub mod folder;
mod locate;
pub mod objects;
mod opening;
pub mod policies;
pub mod reader;
pub mod review;
pub mod stores;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod words;

pub use api_reader::ApiReader;
pub use configuration::{Configuration, CredentialsError, Reach};
pub use folder::{Folder, FolderError};
pub use objects::{CATALOGUE_LABEL, KSERVE_CONFIG_MAP, Labels, ObjectRef, Objects, Problem, References, Supplied};
pub use policies::{Builtins, Loaded, NO_FILES, Policy, builtin, digest_of, has_digest, known_as};
pub use reader::{AccountFacts, ClusterReader, OBJECTS, SecretFacts, object_as_text, objects_as_texts};
pub use review::ReviewWorld;
pub use stores::{Issuer, Limits, Patience, Stores, Trust};
pub use words::{yaml_problem, yaml_reason};
