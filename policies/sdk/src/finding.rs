//! Something that is wrong with an object, and what the admin wants to become of it.

use serde::Deserialize;
use tidewaiter_core::lines::line;

use crate::Verdict;

/// What becomes of an object in which something was found. In settings: `deny`, `warn` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is refused.
    Deny,
    /// It is admitted with a warning.
    Warn,
    /// Nothing is said.
    Off,
}

impl Verdict {
    /// Says what was found, as the mode wants it. `code`, `message` and `path` are those of [`deny`](Self::deny); `short` is the same in a line of at most 120
    /// characters, and what is longer is cut.
    #[must_use]
    pub fn find(self, mode: Mode, code: &str, message: impl Into<String>, short: &str, path: &str) -> Self {
        match mode {
            Mode::Off => self,
            Mode::Warn => self.warn(line(short)),
            Mode::Deny => self.deny(code, message, Some(path)),
        }
    }
}
