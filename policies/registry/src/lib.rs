//! How policies travel: pushed to and pulled from registries, fetched from web servers, signed and verified, kept on disk.
//!
//! A policy in a registry is a Wasm artifact in the CNCF's layout, which `wkg`, `oras` and others read and write. Its signatures are cosign's. Nothing that
//! comes over the network is believed: each document is read with a bound, and content counts only if it has the digest and the size that were announced.
//!
//! Knows nothing of Kubernetes: the server (`tidewaiter-webhook`) and the command (`tidewaiter policy`) stand on it alike.

mod auth;
mod cache;
mod component;
mod credentials;
mod digest;
mod error;
mod fetch;
mod http;
mod manifest;
mod reference;
mod registry;
mod settings;
mod signature;
mod transfer;
mod ways;

pub use cache::Cache;
pub use credentials::Credentials;
pub use digest::Digest;
pub use error::Error;
pub use fetch::{Fetched, Fetcher, Origin, Trouble, Wanted};
pub use reference::Reference;
pub use registry::Registry;
pub use settings::{Host, Limits, Mirror, Progress, Watch, nobody};
#[cfg(feature = "keyless-signing")]
pub use signature::Identified;
pub use signature::{PublicKey, Signature, Signed, SigningKey, TrustRoot, Verifier};
pub use transfer::{About, Pulled, Pushed};
pub use ways::{ModulesFile, Ways};
