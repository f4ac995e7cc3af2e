//! Waits until a service answers, or until it is certain that it won't; and then says why, as a person would.
//!
//! ```text
//!   watches: service, Pods, events ─▶ State ─▶ stage (admitted → Pod → download → load → ready) ─▶ the model itself is asked
//!   logs of containers that ended  ──▶   └───▶ diagnose ─▶ Finding: cause, what happened, what to do, how certain
//! ```
//!
//! A cause that time may heal (no node is free, a store can't be reached) is told and waited out; one that can't end the wait at once. [`diagnose`] is pure:
//! its tests work on what a real cluster said.

mod asking;
mod cause;
mod containers;
mod finding;
mod graph;
mod outcome;
mod remarks;
mod rollout;
mod sent;
mod stage;
mod state;
mod watch;
mod words;

#[cfg(test)]
mod tests;

pub use cause::diagnose;
pub use finding::{Cause, Finding};
pub use graph::wait_for_condition;
pub use outcome::{Options, Outcome, Progress};
pub use remarks::remarks;
pub use sent::Sent;
pub use stage::{Stage, stage};
pub use state::State;
pub use watch::wait;
