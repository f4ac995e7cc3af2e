//! What is waited for, and how it ends.

use std::time::Duration;

use super::finding::Finding;
use super::sent::Sent;
use super::stage::Stage;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The service's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How long at most.
    pub timeout: Duration,
    /// The service as it was submitted, which alone counts as ready; none for whatever stands there.
    pub sent: Option<Sent>,
}

/// What has happened on the way.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It has come this far.
    Stage(Stage),
    /// Something is in the way, and may go by itself.
    Trouble(Finding),
    /// Something can't be looked at, so that less can be told.
    Blind(String),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It answers.
    Ready {
        /// Where, as KServe says.
        url: Option<String>,
        /// What the user should look at all the same.
        remarks: Vec<String>,
    },
    /// It won't.
    Failed(Finding),
    /// There is no more time.
    TimedOut {
        /// How far it came.
        stage: Stage,
        /// What is likely in the way.
        finding: Option<Finding>,
        /// What KServe says is not so yet, in its words.
        unmet: Vec<String>,
    },
    /// Somebody deleted it.
    Deleted,
    /// Somebody deployed another model over it.
    Replaced {
        /// Where that one lies, where that is told.
        uri: Option<String>,
        /// Who did, where the history says so.
        by: Option<String>,
    },
}
