//! Loads, checks, compiles, caches and runs admission policies. Knows nothing of HTTP or Kubernetes.
//!
//! ```text
//! Engine::load   component ─▶ imports within the grants? exports of the contract? description true? settings usable? ─▶ LoadedPolicy
//! untouched      leaving, standing still, ignored? ─▶ nothing to do
//! review         strip what is ours ─▶ each policy on a fresh instance ─▶ merge fills ─▶ JSON Patch, warnings, effects
//! ```

mod answer;
mod bindings;
mod cache;
mod compiled;
mod contract;
mod describe;
mod empty;
mod engine;
mod failure;
mod host;
mod load;
mod merge;
pub mod outcome;
mod patch;
mod review;
mod room;
mod run;
pub mod schema;
mod shipped;
mod ticker;
mod untouched;
pub mod world;

pub use answer::Answer;
pub use cache::Counts;
pub use engine::{Engine, EngineError, Options};
pub use failure::Failure;
pub use load::{Description, LoadError, LoadedPolicy, ObjectKind, PolicySpec};
pub use review::review;
pub use shipped::compile_for;
pub use tidewaiter_core::policy_resource::{Capability, FailurePolicy, Limits, Mode};
pub use untouched::{Untouched, untouched};
