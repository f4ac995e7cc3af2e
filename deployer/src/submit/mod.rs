//! From an object to the cluster, by server-side apply.
//!
//! ```text
//!   look ─▶ Seen (facts, the service as it is) ─▶ service::build ─▶ propose: a dry run on the API server ─▶ Proposal
//!                          credentials: Secret and ServiceAccount, where nobody else sees to them ◀─┤
//!                                                                                                   └─▶ apply
//! ```
//!
//! [`Deployment`] takes all of these steps for a model and its service.
//!
//! What Tidewaiter's webhook would fill in shows in the dry run, so that nobody needs the right to look for the webhook itself. Whether something is left
//! to do shows there too: the answer differs from the object that is stored, or it doesn't.

mod apply;
mod conflict;
mod credentials;
mod deployment;
mod difference;
mod history;
mod look;
mod store;

pub use apply::{Applied, FIELD_MANAGER, Proposal, apply, propose};
pub use conflict::{Conflict, SubmitError};
pub use credentials::{Delivered, Delivery, bind, deliver, would_deliver};
pub use deployment::{Deployment, Planned, Step, Submitted};
pub use difference::{content, is_same};
pub use history::{ANNOTATION as HISTORY, Entry, entries, with_entry, with_history_of};
pub use look::{Seen, kserve_config, look, may_be_reviewed};
pub use store::{Store, StoreError, StoreSettings, secret_objects};
