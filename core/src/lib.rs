//! The domain, pure: no client, no clock, no I/O. Compiles to WebAssembly, so that policies stand on the same types as the server.

pub mod backend;
pub mod backends;
#[cfg(feature = "catalogue")]
pub mod catalogue;
pub mod credentials;
pub mod document;
pub mod endpoint;
pub mod filled;
pub mod fit;
pub mod image;
pub mod kserve_config;
#[cfg(feature = "catalogue")]
pub mod kserve_runtimes;
pub mod lines;
pub mod mlmodel;
pub mod pointer;
pub mod policy_resource;
pub mod requirements;
pub mod runtimes;
pub mod selector;
pub mod service;
pub mod sniff;
pub mod uri;
pub mod version;
pub mod wildcard;
pub mod yaml;
