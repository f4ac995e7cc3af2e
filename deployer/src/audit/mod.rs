//! What the leader's audit found, and how a service that ran before Tidewaiter is handed to it.
//!
//! The leader judges all services by today's policies every so often, and writes what would be changed or refused into a `PolicyReport` a namespace.
//! [`read`] reads those; [`adopt`] hands one service to the webhook.

mod adopt;
mod report;

pub use adopt::{Adopted, Pending, Preview, adopt, preview};
pub use report::{Finding, Scan, Verdict, read};
