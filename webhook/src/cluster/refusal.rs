//! What the API server means by a refusal.

use std::time::Duration;

use kube::core::Status;

/// An API server that has just begun refuses what anybody asks until it has read its roles: only one that refuses for so long means it.
pub(crate) const LASTING: Duration = Duration::from_mins(1);

/// Whether a refusal is its answer to this request: not that it has too much to do or something behind it is away, nor, where it `may_have_begun` just now, that
/// it doesn't know its roles yet.
pub(crate) fn is_meant(status: &Status, may_have_begun: bool) -> bool {
    match status.code {
        403 => !may_have_begun,
        429 | 500.. => false,
        _ => true,
    }
}
