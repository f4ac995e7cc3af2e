//! What a test expects of a verdict.

use crate::{Denial, Verdict};

impl Verdict {
    /// The refusal.
    ///
    /// # Panics
    /// Where there is none, or its message is too long to be shown whole.
    pub fn refusal(self) -> Denial {
        let denial = self.denial.clone();
        let denial = denial.unwrap_or_else(|| panic!("nothing is refused: {self:?}"));
        assert!(
            denial.message.chars().count() <= tidewaiter_core::lines::MESSAGE,
            "{denial:?}"
        );
        denial
    }

    /// The one line of a verdict that does nothing but warn.
    ///
    /// # Panics
    /// Where it does anything else, or the line was cut.
    pub fn only_warning(self) -> String {
        let [line] = self.warnings.as_slice() else {
            panic!("not one warning: {self:?}")
        };
        assert!(!line.ends_with('…'), "{line}");
        assert_eq!(self, Self::admit().warn(line.clone()), "it does more than warn");
        line.clone()
    }
}
