//! Services that are deployed, and what can be done with them.
//!
//! ```text
//!   Deployed ─▶ list, status, describe, logs                   only read
//!            ─▶ a plan (pure) ─▶ a merge patch of what is meant, bound to the version that was read     stop, start, scale, split, promote, rollback
//!            ─▶ delete, and wait until its Pods are gone
//! ```
//! A patch names only what the user asked for: what a webhook or KServe filled in stays. What a promotion says of the model is handed over to the next deploy.
//!
//! Sources: KServe 0.15.2, 0.16.0 and 0.20.0, `pkg/apis/serving/v1beta1` and `pkg/controller/v1beta1/inferenceservice`.

mod artifacts;
mod canary;
mod change;
mod delete;
mod deployed;
mod describe;
mod equivalent;
#[cfg(test)]
pub(crate) mod fixture;
mod hand_over;
mod history;
mod logs;
mod pods;
mod scale;
mod status;
mod stop;

pub use artifacts::{Removed, naming, remove, uploaded};
pub use canary::{Canaries, Canary, CanaryModel, Split, promote, rollback, split, takes_models};
pub use change::{Changed, Error, Release, apply};
pub use delete::{Deleted, Progress, delete, until_gone};
pub use deployed::{Component, Condition, Deployed, STOP};
pub(crate) use deployed::{service_of, speaks_grpc, storage_uri};
pub use describe::{Credentials, Description, Happening, describe};
pub use equivalent::{Alike, alike, list};
pub use history::{Deployment, history};
pub use logs::{Line, LogOptions, LogStream, Part, logs};
pub use pods::{PodState, pods};
pub use scale::{Replicas, scale};
pub use status::{Status, Summary, status};
pub use stop::{start, stop};
