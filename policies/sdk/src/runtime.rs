//! KServe's rules for a runtime that is already known.

use crate::runtimes::Runtime;

impl Runtime {
    /// Whether it answers in this protocol (`v1`, `v2`, `grpc-v1`, `grpc-v2`). One that names none speaks them all, as KServe reads it.
    pub fn speaks(&self, protocol: &str) -> bool {
        self.protocols.is_empty() || self.protocols.iter().any(|spoken| spoken == protocol)
    }

    /// Whether KServe may choose it by itself, for a service that asks for this protocol.
    pub fn may_be_chosen(&self, protocol: &str) -> bool {
        self.auto_select && !self.disabled && self.speaks(protocol)
    }
}
