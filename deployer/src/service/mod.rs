//! From what a user wishes for, a model and where it lies, to the object that KServe is given. Pure.
//!
//! ```text
//!   Wishes (flags over tidewaiter.yaml) ─┐
//!   Model, storage URI ──────────────────┼─▶ choose: protocol, runtime, release ─▶ build ─▶ InferenceService
//!   Facts of the cluster ────────────────┘
//! ```
//!
//! A field that nobody wished for isn't written, so that KServe's defaults, and what Tidewaiter's webhook fills in, stay theirs.

mod build;
mod choose;
mod error;
mod facts;
mod graph;
mod loadable;
mod merge;
mod name;
mod packages;
mod trained;
mod wishes;

#[cfg(test)]
mod tests;

pub use build::{Built, build};
pub(crate) use choose::{ALLOW_WRONG_ANSWERS, beside, format_name};
pub use choose::{Chosen, choose};
pub use error::WishError;
pub use facts::Facts;
pub use graph::{GraphWishes, Router, Step, graph};
pub(crate) use loadable::loadable;
pub use name::{checked_name, suggested_name};
pub use trained::{TrainedWishes, may_be_added, trained_model};
pub use wishes::{Container, DeploymentMode, Protocol, Resources, ScaleMetric, Wishes};

/// The group and version of an InferenceService.
pub const API_VERSION: &str = "serving.kserve.io/v1beta1";
/// The group and version of a graph and of a trained model.
pub const ALPHA: &str = "serving.kserve.io/v1alpha1";
