//! What is found, as it is said: a refusal where it is certain and the admin wants it so, else one line.

use tidewaiter_policy::{Verdict, core::lines};

use crate::Act;

/// Something that stops a service, or may stop it.
pub(crate) struct Finding<'a> {
    /// For machines.
    pub(crate) code: &'static str,
    /// Whether the service certainly can't run.
    pub(crate) certain: bool,
    /// Where in the object.
    pub(crate) pointer: &'a str,
    /// The refusal.
    pub(crate) message: String,
    /// The warning.
    pub(crate) line: String,
}

impl Finding<'_> {
    pub(crate) fn said(self, act: Act, verdict: Verdict) -> Verdict {
        match act {
            Act::Off => verdict,
            // Of several refusals the first is said; the others are still worth a line.
            Act::Deny if self.certain && verdict.denial.is_none() => {
                verdict.deny(self.code, lines::cut(&self.message, lines::MESSAGE), Some(self.pointer))
            }
            Act::Deny | Act::Warn => verdict.warn(line(&self.line)),
        }
    }
}

/// A warning of at most 120 characters.
pub(crate) fn line(text: &str) -> String {
    lines::line(text)
}
