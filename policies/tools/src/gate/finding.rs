//! What a review of manifests finds, with the place in their files.

use serde::Serialize;
use tidewaiter_core::document::Path;
use tidewaiter_core::lines;

use super::Judged;
use crate::files::{Manifest, Unreadable};
use crate::told::Told;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something would be filled in.
    Note,
    /// The user would be warned.
    Warning,
    /// The object would be refused, or can't be reviewed.
    Error,
}

impl Level {
    /// As SARIF has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that is said of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How grave it is.
    pub level: Level,
    /// Who says it; `tidewaiter` where no single policy does.
    pub policy: String,
    /// For machines: a denial's code, `fill`, `warning`, `policy-failed`, `undecodable`.
    pub code: String,
    /// For people.
    pub message: String,
    /// A JSON Pointer into the object, where one part of it is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of the file, counted from 1.
    pub line: u64,
}

/// What the cluster would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It would be admitted.
    Admitted,
    /// It would be refused.
    Refused,
    /// No policy is for it, or it is to be left alone.
    Untouched,
    /// Nobody can say: it can't be read, or not as the object that it says it is, and no policy would get to see it.
    Undecodable,
}

/// One manifest, reviewed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reviewed {
    /// As the file was named.
    pub file: String,
    /// On standard input: the chart's template that Helm made it of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Where the object begins, counted from 1.
    pub line: u64,
    /// Such as `InferenceService`. Like namespace and name empty where something else stands in the object's place.
    pub kind: String,
    /// The namespace that it would be in.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What the cluster would say.
    pub verdict: Verdict,
    /// The gravest first.
    pub findings: Vec<Finding>,
}

impl Reviewed {
    /// Of a manifest and what was made of it.
    pub fn new(manifest: &Manifest, namespace: &str, judged: &Judged) -> Self {
        let told = judged
            .outcome
            .as_ref()
            .map(|outcome| Told::new(outcome, &manifest.object.value));
        let verdict = match &told {
            None => Verdict::Untouched,
            Some(told) if told.allowed => Verdict::Admitted,
            Some(_) => Verdict::Refused,
        };
        let mut findings = told.map_or_else(Vec::new, |told| findings(manifest, &told));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        Self::of(manifest, namespace, verdict, findings)
    }

    /// Of a manifest that the API server refuses before any policy sees it, for what stands at `path`, a JSON Pointer.
    pub fn undecodable(manifest: &Manifest, namespace: &str, path: Option<String>, message: String) -> Self {
        let line = manifest.object.line(path.as_deref().unwrap_or_default());
        let findings = vec![undecodable(line, path, message)];
        Self::of(manifest, namespace, Verdict::Undecodable, findings)
    }

    /// Of what is no manifest at all.
    pub fn unreadable(unreadable: &Unreadable) -> Self {
        let line = unreadable.line.unwrap_or(1);
        Self {
            file: unreadable.file.clone(),
            template: None,
            line,
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
            verdict: Verdict::Undecodable,
            findings: vec![undecodable(line, None, unreadable.reason.to_string())],
        }
    }

    fn of(manifest: &Manifest, namespace: &str, verdict: Verdict, findings: Vec<Finding>) -> Self {
        Self {
            file: manifest.file.clone(),
            template: manifest.template.clone(),
            line: manifest.object.line(""),
            kind: manifest.kind().to_owned(),
            namespace: namespace.to_owned(),
            name: manifest.name().to_owned(),
            verdict,
            findings,
        }
    }

    /// The gravest finding's level.
    pub fn worst(&self) -> Option<Level> {
        self.findings.first().map(|finding| finding.level)
    }
}

fn undecodable(line: u64, path: Option<String>, message: String) -> Finding {
    Finding {
        level: Level::Error,
        policy: "tidewaiter".to_owned(),
        code: "undecodable".to_owned(),
        message,
        path,
        line,
    }
}

fn findings(manifest: &Manifest, told: &Told) -> Vec<Finding> {
    let at = |path: Option<&str>| manifest.object.line(path.unwrap_or("/metadata/name"));
    let mut found = Vec::new();
    if let Some(denial) = &told.denial {
        found.push(Finding {
            level: Level::Error,
            policy: denial.policy.clone(),
            code: denial.code.clone(),
            message: denial.message.clone(),
            line: at(denial.path.as_deref()),
            path: denial.path.clone(),
        });
    }
    // A failure is one finding: the refusal that it brings where it brings one, else this, in place of the lines that the user gets.
    let denies = |policy: &str| told.denial.as_ref().is_some_and(|denial| denial.policy == policy);
    for failure in told.failures.iter().filter(|failure| !denies(&failure.policy)) {
        let without = if told.allowed {
            "; the object would be admitted without it"
        } else {
            ""
        };
        found.push(Finding {
            level: Level::Warning,
            policy: failure.policy.clone(),
            code: "policy-failed".to_owned(),
            message: format!("the policy {} {}{without}", failure.policy, failure.reason),
            line: at(None),
            path: None,
        });
    }
    let fails = |policy: &str| told.failures.iter().any(|failure| failure.policy == policy);
    for warning in told.warnings.iter().filter(|warning| !fails(&warning.policy)) {
        found.push(Finding {
            level: Level::Warning,
            policy: warning.policy.clone(),
            code: "warning".to_owned(),
            message: warning.message.clone(),
            line: at(None),
            path: None,
        });
    }
    // Of an object that is refused nothing is filled in.
    for fill in told.fills.iter().filter(|_| told.allowed) {
        let place = Path::parse(&fill.path).map_or_else(|| fill.path.clone(), |path| lines::place(&path));
        let message = match &fill.value {
            Some(value) => format!("would be filled in: {place} = {value}: {}", fill.reason),
            None => format!("would be taken out: {place}: {}", fill.reason),
        };
        found.push(Finding {
            level: Level::Note,
            policy: fill.policy.clone(),
            code: "fill".to_owned(),
            message,
            line: at(Some(&fill.path)),
            path: Some(fill.path.clone()),
        });
    }
    found
}
