//! Results as `JUnit`'s XML, which every CI service reads.

use std::fmt::Write as _;

use crate::laws::Checked;
use crate::suite::Tried;

/// A suite of tests.
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) tests: Vec<Test>,
}

/// One test.
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) file: String,
    pub(crate) line: u64,
    pub(crate) seconds: f64,
    pub(crate) outcome: Outcome,
    pub(crate) output: String,
}

/// How it ended.
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    /// Not the fault of what is tested.
    Error(String),
    Skipped(String),
}

impl Suite {
    pub(crate) fn to_xml(&self) -> String {
        let count = |wanted: fn(&Outcome) -> bool| self.tests.iter().filter(|test| wanted(&test.outcome)).count();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
            escaped(&self.name),
            self.tests.len(),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::Error(_))),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        );
        for test in &self.tests {
            let _ = writeln!(
                xml,
                "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.6}\">",
                escaped(&test.name),
                escaped(&test.class),
                escaped(&test.file),
                test.line,
                test.seconds
            );
            match &test.outcome {
                Outcome::Passed => {}
                Outcome::Failed(why) => ended("failure", why, &mut xml),
                Outcome::Error(why) => ended("error", why, &mut xml),
                Outcome::Skipped(why) => {
                    let _ = writeln!(xml, "      <skipped message=\"{}\"/>", escaped(why));
                }
            }
            if !test.output.is_empty() {
                let _ = writeln!(xml, "      <system-out>{}</system-out>", escaped(&test.output));
            }
            xml.push_str("    </testcase>\n");
        }
        xml.push_str("  </testsuite>\n</testsuites>\n");
        xml
    }
}

/// The first line is what CI services show.
fn ended(element: &str, why: &str, xml: &mut String) {
    let first = escaped(why.lines().next().unwrap_or_default());
    let _ = writeln!(xml, "      <{element} message=\"{first}\">{}</{element}>", escaped(why));
}

/// Cases and laws of a policy.
pub fn junit_of_tests(policy: &str, tried: &[Tried], checked: &[Checked]) -> String {
    let cases = tried.iter().map(|tried| Test {
        name: tried.name.clone(),
        class: policy.to_owned(),
        file: tried.file.display().to_string(),
        line: tried.line,
        seconds: tried.took.as_secs_f64(),
        outcome: if tried.differences.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed(tried.differences.join("\n"))
        },
        output: String::new(),
    });
    let laws = checked.iter().map(|checked| Test {
        name: format!("law {}", checked.law),
        class: policy.to_owned(),
        file: String::new(),
        line: 0,
        seconds: 0.0,
        outcome: match &checked.broken {
            Some(broken) => Outcome::Failed(format!("{}\n{}\nwith {}", broken.message, broken.next, broken.object)),
            None if checked.objects == 0 => Outcome::Skipped(checked.left_out.join("; ")),
            None => Outcome::Passed,
        },
        output: checked.left_out.join("\n"),
    });
    Suite {
        name: format!("policy {policy}"),
        tests: cases.chain(laws).collect(),
    }
    .to_xml()
}

/// Without characters that XML 1.0 can't have.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_xml_that_every_ci_reads() {
        let test = |name: &str, outcome| Test {
            name: name.into(),
            class: "owner".into(),
            file: "cases/a.yaml".into(),
            line: 3,
            seconds: 0.25,
            outcome,
            output: String::new(),
        };
        let suite = Suite {
            name: "policy owner".into(),
            tests: vec![
                test("a < b & \"c\"", Outcome::Passed),
                test("broken", Outcome::Failed("no\u{1b}\nyes".into())),
                test("lost", Outcome::Error("nothing".into())),
                test("left", Outcome::Skipped("why".into())),
            ],
        };
        insta::assert_snapshot!(suite.to_xml());
    }
}
