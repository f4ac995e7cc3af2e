//! Reviews for other programs: SARIF for those that show findings in code, `JUnit` for those that show tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tidewaiter_world::Problem;

use super::Gate;
use super::finding::{Level, Reviewed, Verdict};
use crate::files::STDIN;
use crate::junit::{Outcome, Suite, Test};

/// As SARIF 2.1.0 (OASIS), which GitHub, GitLab and editors read. What is wrong with the configuration is a notification of the run. One that lacks something
/// by it, or couldn't review everything, did not succeed.
pub fn sarif(reviewed: &[Reviewed], gate: &Gate) -> Value {
    let mut rules = BTreeMap::new();
    let mut results = Vec::new();
    for object in reviewed {
        for finding in &object.findings {
            let rule = format!("{}/{}", finding.policy, finding.code);
            rules.entry(rule.clone()).or_insert_with(|| json!({"id": rule}));
            let mut result = json!({
                "ruleId": rule,
                "level": finding.level.as_str(),
                "message": {"text": match title(object) {
                    Some(title) => format!("{title}: {}", finding.message),
                    None => finding.message.clone(),
                }},
                "locations": [location(object, finding.line)],
            });
            if let Some(path) = &finding.path {
                result["properties"] = json!({"path": path});
            }
            results.push(result);
        }
    }
    let notifications = gate.problems().iter().map(|problem| {
        let level = if gate.lacks(problem) {
            Level::Error
        } else {
            Level::Warning
        };
        let mut notification = json!({"level": level.as_str(), "message": {"text": said(problem)}});
        if let Some((file, line)) = gate.place(problem) {
            notification["locations"] = json!([{"physicalLocation": physical(&file, line)}]);
        }
        notification
    });
    let is_whole = reviewed.iter().all(|object| object.verdict != Verdict::Undecodable);
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "tidewaiter", "version": env!("CARGO_PKG_VERSION"), "rules": rules.into_values().collect::<Vec<_>>()}},
            "invocations": [{
                "executionSuccessful": is_whole && !gate.problems().iter().any(|problem| gate.lacks(problem)),
                "toolConfigurationNotifications": notifications.collect::<Vec<_>>(),
            }],
            "results": results,
        }],
    })
}

/// As people call an object; none where it is no object.
fn title(object: &Reviewed) -> Option<String> {
    (!object.kind.is_empty()).then(|| format!("{} {}/{}", object.kind, object.namespace, object.name))
}

/// Where a finding is. Standard input is no file that anybody could open: the template is named that Helm made it of, else the object alone. The line is that
/// of the stream: which one of the template it comes from Helm doesn't say.
fn location(object: &Reviewed, line: u64) -> Value {
    let mut location = json!({});
    if !object.kind.is_empty() {
        let name = format!("{}/{}", object.namespace, object.name);
        location["logicalLocations"] = json!([{"fullyQualifiedName": name, "kind": "object"}]);
    }
    let file = match &object.template {
        Some(template) => Some(template),
        None => Some(&object.file).filter(|file| *file != STDIN),
    };
    match file {
        Some(file) => location["physicalLocation"] = physical(file, line),
        None => location["message"] = json!({"text": format!("line {line} of standard input")}),
    }
    location
}

/// A problem without its place.
fn said(problem: &Problem) -> String {
    match &problem.object {
        Some(object) => format!("{object}: {}", problem.message),
        None => problem.message.clone(),
    }
}

fn physical(file: &str, line: u64) -> Value {
    json!({"artifactLocation": {"uri": uri(file)}, "region": {"startLine": line.max(1)}})
}

/// A file's name as a relative URI.
fn uri(file: &str) -> String {
    let mut uri = String::new();
    for byte in file.trim_start_matches("./").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri
}

/// As `JUnit`: a test for each object, which fails where it would be refused, and is an error where it can't be reviewed; and one for each problem of the
/// configuration, an error where reviews lack something by it.
pub fn junit(reviewed: &[Reviewed], gate: &Gate) -> String {
    let configuration = gate.problems().iter().map(|problem| {
        let (file, line) = gate.place(problem).unwrap_or_default();
        let (outcome, output) = if gate.lacks(problem) {
            (Outcome::Error(problem.to_string()), String::new())
        } else {
            (Outcome::Passed, problem.to_string())
        };
        Test {
            name: match &problem.object {
                Some(object) => format!("configuration {object}"),
                None => "configuration".to_owned(),
            },
            class: "configuration".to_owned(),
            file,
            line,
            seconds: 0.0,
            outcome,
            output,
        }
    });
    let objects = reviewed.iter().map(|object| {
        let said = |levels: &[Level]| {
            let lines = object.findings.iter().filter(|finding| levels.contains(&finding.level));
            let lines = lines.map(|finding| format!("{}:{}: {}", object.file, finding.line, finding.message));
            lines.collect::<Vec<_>>().join("\n")
        };
        Test {
            name: title(object).unwrap_or_else(|| format!("{}:{}", object.file, object.line)),
            class: object.file.clone(),
            file: object.file.clone(),
            line: object.line,
            seconds: 0.0,
            outcome: match object.verdict {
                Verdict::Refused => Outcome::Failed(said(&[Level::Error])),
                Verdict::Undecodable => Outcome::Error(said(&[Level::Error])),
                Verdict::Admitted | Verdict::Untouched => Outcome::Passed,
            },
            output: said(&[Level::Warning, Level::Note]),
        }
    });
    Suite {
        name: "tidewaiter review".to_owned(),
        tests: configuration.chain(objects).collect(),
    }
    .to_xml()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_a_uri() {
        assert_eq!(uri("./a b/ü.yaml"), "a%20b/%C3%BC.yaml");
    }
}
