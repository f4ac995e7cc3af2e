//! What was deployed by whom from what, as a deploy wrote it onto the service.

use super::Deployed;
use crate::submit::{Entry, entries};

/// A service's deployments, the newest first. Empty for one that others deployed, or whose history can't be read.
pub fn history(service: &Deployed) -> Vec<Entry> {
    entries(service.object())
}
