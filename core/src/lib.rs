//! The domain, pure: no client, no clock, no I/O. Compiles to WebAssembly, so that policies stand on the same types as the server.

pub mod document;
pub mod filled;
pub mod backend;
pub mod backends;
pub mod credentials;
pub mod policy_resource;
pub mod pointer;
pub mod kserve_config;
pub mod selector;
pub mod service;
pub mod uri;
pub mod wildcard;
#[cfg(feature = "catalogue")]
pub mod catalogue;
pub mod image;
pub mod runtimes;
pub mod version;
pub mod yaml;
pub mod mlmodel;
pub mod requirements;
pub mod fit;
pub mod sniff;
#[cfg(feature = "catalogue")]
pub mod kserve_runtimes;
