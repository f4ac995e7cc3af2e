//! What one review takes in and gives out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use json_patch::PatchOperation;
use serde_json::Value;
use tidewaiter_core::document::Document;

pub use crate::bindings::tidewaiter::policy::types::{
    Delivery, Denial, Effect as Wish, Entry, Fill, Operation, Verdict,
};

/// One object to review, borrowed from the request's body.
#[derive(Clone, Copy, Debug)]
pub struct Review<'a> {
    /// Create or update.
    pub operation: Operation,
    /// Such as `serving.kserve.io/v1beta1`.
    pub api_version: &'a str,
    /// Such as `InferenceService`.
    pub kind: &'a str,
    /// The object's namespace.
    pub namespace: &'a str,
    /// Empty where the API server is still to generate the name.
    pub name: &'a str,
    /// The object as it came.
    pub object: &'a Document,
    /// On an update: the stored object.
    pub old_object: Option<&'a Document>,
    /// Who sent the request.
    pub username: &'a str,
    /// Their groups.
    pub groups: &'a [String],
}

/// What a review came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Why the object is refused, and by which policy.
    pub denial: Option<(Arc<str>, Denial)>,
    /// Why an object that is stored already would be refused if it came now, and by which policy: the first such denial.
    pub standing: Option<(Arc<str>, Denial)>,
    /// Turns the object as it came into the object to store. Empty where nothing changes.
    pub patch: Vec<PatchOperation>,
    /// What the patch does, for people: one entry a path.
    pub changes: Vec<Change>,
    /// Lines for the user, each at most 120 characters: a line a change, then the policies' own warnings.
    pub warnings: Vec<String>,
    /// Credentials to have in the namespace before the object is admitted, each backend and delivery once.
    pub effects: Vec<Effect>,
    /// How each policy did, in the order in which they ran.
    pub runs: Vec<Run>,
}

impl Outcome {
    /// The policies' own warnings, each with the policy that gave it: without the lines of the changes, and without what was added after the review.
    pub fn warnings_by_policy(&self) -> impl Iterator<Item = (&Arc<str>, &str)> {
        let lines = self.changes.len().min(self.warnings.len());
        let whose = self
            .runs
            .iter()
            .flat_map(|run| std::iter::repeat_n(&run.policy, run.warnings));
        whose.zip(self.warnings[lines..].iter().map(String::as_str))
    }
}

/// One value that the patch sets or takes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The policy that wants it, or wanted it.
    pub policy: Arc<str>,
    /// A JSON Pointer into the object as it came.
    pub path: String,
    /// The value filled in; none where a former fill is withdrawn.
    pub value: Option<Value>,
    /// Why.
    pub reason: String,
}

/// Something to be done before the object is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The policy that asks for it.
    pub policy: Arc<str>,
    /// The backend whose credentials are needed.
    pub backend: String,
    /// How they are delivered.
    pub delivery: Delivery,
}

/// How one policy did in one review.
#[derive(Clone, Debug)]
pub struct Run {
    /// The policy.
    pub policy: Arc<str>,
    /// When it began.
    pub began: Instant,
    /// Instantiation and call, host calls included.
    pub took: Duration,
    /// Of which spent waiting for host calls.
    pub host: Duration,
    /// What came of it.
    pub ended: Ended,
    /// How many of the outcome's warnings are of this policy. They stand there in the order of the runs.
    pub warnings: usize,
}

/// What came of one policy's run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It had nothing to say.
    Passed,
    /// It filled something in, warned, or asked for an effect.
    Acted,
    /// It refused the object.
    Denied,
    /// It would have refused, but the refusal doesn't count (audit mode, or nothing it judges changed).
    DeniedInVain,
    /// It failed, with what went wrong: trap, time, memory, a verdict that is none.
    Failed(String),
}
