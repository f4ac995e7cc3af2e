//! The admission server and its controllers.
//!
//! ```text
//!   API server ─TLS─▶ http::accept ─▶ http::routes ─▶ admission::decode ─▶ engine ─▶ admission::effects ─▶ admission::encode
//!                                                          │                 │              │
//!                                                  configuration::Snapshot ──┘        namespaces (cluster, or a record of it)
//!                                                          ▲
//!   cluster (watches) or a folder ─▶ configuration::Loader ┘   compiles aside, swaps, keeps the last good one
//! ```
//!
//! `/mutate` fills in what the policies ask for and has credentials in the namespace before it answers. `/validate` runs the same policies on the final
//! object: their refusals count, so that an object that came by a way around `/mutate` is judged too, and what would still have to be filled in is a warning.

pub mod admission;
pub mod cli;
pub mod cluster;
pub mod configuration;
pub mod controllers;
pub mod http;
mod loading;
pub mod metrics;
pub(crate) mod minting;
pub mod modules;
pub mod namespaces;
pub mod run;
pub mod server;
#[cfg(test)]
mod testing;
pub mod traces;

pub use server::{Leading, Options, Running, Server, Source, StartError};
