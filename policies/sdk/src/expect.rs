//! What a test expects of a policy that judges a new object, with its default settings.

use serde_json::Value;
use tidewaiter_core::lines::MESSAGE;

use crate::testing::{World, create};
use crate::{Policy, Verdict};

impl World {
    /// Code, message and path of the refusal; the path is empty where there is none.
    ///
    /// # Panics
    /// Where the object is admitted, or the message is too long to be shown whole.
    pub fn refused<P: Policy>(&self, object: &Value) -> (String, String, String) {
        let verdict = self.review::<P>(&create(object));
        let denial = verdict.denial.unwrap_or_else(|| panic!("admitted: {object}"));
        assert!(denial.message.chars().count() <= MESSAGE, "{denial:?}");
        (denial.code, denial.message, denial.path.unwrap_or_default())
    }

    /// The one line of warning with which the object is admitted as it is.
    ///
    /// # Panics
    /// Where the policy does anything else, or the line was cut.
    pub fn warned<P: Policy>(&self, object: &Value) -> String {
        let verdict = self.review::<P>(&create(object));
        let [line] = verdict.warnings.as_slice() else {
            panic!("not one warning, but {verdict:?} of {object}")
        };
        assert!(!line.ends_with('…'), "{line}");
        assert_eq!(verdict, Verdict::admit().warn(line.clone()), "it does more than warn");
        line.clone()
    }

    /// The object is admitted as it is, and nothing said.
    ///
    /// # Panics
    /// Where the policy does anything.
    pub fn passes<P: Policy>(&self, object: &Value) {
        let verdict = self.review::<P>(&create(object));
        assert_eq!(verdict, Verdict::admit(), "{object}");
    }
}
