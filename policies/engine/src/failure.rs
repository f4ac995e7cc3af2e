use std::time::Duration;

use tidewaiter_core::filled::metadata::MAX_ANNOTATIONS;

/// A policy failed: it gave no verdict, or one that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its own running time, without host calls, is over its limit.
    #[error("ran for more than {} ms", .0.as_millis())]
    Time(Duration),
    /// The review's budget was spent while it ran, host calls included.
    #[error("the review's time was over before it answered")]
    Budget,
    /// It wanted more memory than its limit, in MiB.
    #[error("wanted more than {0} MiB of memory")]
    Memory(u32),
    /// It wanted memory while the others that run had all there is.
    #[error("found no memory left: policies that run at the same time have all there is for them")]
    NoRoom,
    /// It trapped.
    #[error("trapped: {0}")]
    Trap(String),
    /// Its verdict breaks the contract.
    #[error("gave a verdict that can't be used: {0}")]
    Verdict(String),
    /// The user's own annotations have no room for what it fills in and the record of that: so many bytes, and so many with it.
    #[error(
        "finds no room for what it fills in: the object's own annotations have {own} bytes, with that and the record of it {size}, and may have {}",
        MAX_ANNOTATIONS
    )]
    Annotations {
        /// Of the user's own annotations, in bytes.
        own: usize,
        /// Of all annotations then, in bytes.
        size: usize,
    },
    /// It was not asked: whether it is for the object's namespace isn't known.
    #[error("selects namespaces by labels that can't be read now")]
    Unselected,
    /// It was not asked: it can't be loaded, and never could.
    #[error("is not loaded")]
    NotLoaded,
    /// It could not be started.
    #[error("could not be started: {0}")]
    Start(String),
}

impl Failure {
    /// What the user of an object can do that is refused for it.
    pub(crate) fn advice(&self, policy: &str) -> String {
        match self {
            Self::Unselected | Self::Budget | Self::NoRoom => "try again in a moment".to_owned(),
            Self::Annotations { .. } => "shorten the object's annotations".to_owned(),
            _ => format!("ask an admin to mend or remove the WasmPolicy {policy}"),
        }
    }
}
