//! The leader's reports.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidewaiter_core::backend::{MANAGED_BY, MANAGED_BY_LABEL};

use crate::cluster::kinds;
use crate::cluster::{Cluster, Error};

/// The name of each namespace's report.
const REPORT: &str = "tidewaiter";
/// When the namespace was looked through.
const AUDITED: &str = "tidewaiter.dev/audited";
/// How many findings were left out, since a report is one object.
const LEFT_OUT: &str = "tidewaiter.dev/left-out";

/// What one look through a namespace came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scan {
    /// The namespace.
    pub namespace: String,
    /// When; none where the report doesn't say.
    pub audited: Option<Timestamp>,
    /// Services with nothing to say of.
    pub pass: u64,
    /// Findings that the report has no room for.
    pub left_out: u64,
    /// In the report's order: by service.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// What is to be said of one service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its namespace.
    pub namespace: String,
    /// `InferenceService` or `LLMInferenceService`.
    pub kind: String,
    /// Its name.
    #[serde(rename = "service")]
    pub name: String,
    /// Its uid, by which a later one of the same name is told from it.
    pub uid: String,
    /// What would become of it.
    pub result: Verdict,
    /// Whose word that is.
    pub policy: String,
    /// In the policy's words.
    pub message: String,
}

/// What would become of a service if it came today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It would be refused. It runs on: nobody stops what runs.
    Fail,
    /// Something would be filled in.
    Warn,
    /// Nobody could say the last time: it or its namespace couldn't be read, or a policy failed.
    Error,
}

impl Verdict {
    /// As in a `PolicyReport`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Reads the reports of a namespace, or of all, sorted by namespace.
///
/// # Errors
/// [`Error::UnknownKind`] in a cluster without `PolicyReport`s; else where they can't be read.
pub async fn read(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Scan>, Error> {
    let reports = cluster.list(&kinds::POLICY_REPORT, namespace).await?;
    let mut scans: Vec<Scan> = reports.iter().filter_map(scan).collect();
    scans.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    Ok(scans)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Report {
    summary: Value,
    results: Vec<ReportResult>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReportResult {
    policy: String,
    result: String,
    message: String,
    resources: Vec<Subject>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    uid: String,
}

/// None for what is another's.
fn scan(object: &DynamicObject) -> Option<Scan> {
    let is_ours = object.labels().get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY);
    if object.name_any() != REPORT || !is_ours {
        return None;
    }
    let namespace = object.namespace().unwrap_or_default();
    let report: Report = serde_json::from_value(object.data.clone()).unwrap_or_default();
    let annotation = |name: &str| object.annotations().get(name);
    let findings = report.results.into_iter().flat_map(|result| {
        let verdict = match result.result.as_str() {
            "fail" => Some(Verdict::Fail),
            "warn" => Some(Verdict::Warn),
            "error" => Some(Verdict::Error),
            _ => None,
        };
        let namespace = &namespace;
        let findings = result.resources.into_iter().filter_map(move |subject| {
            Some(Finding {
                namespace: namespace.clone(),
                kind: subject.kind,
                name: subject.name,
                uid: subject.uid,
                result: verdict?,
                policy: result.policy.clone(),
                message: result.message.clone(),
            })
        });
        findings.collect::<Vec<_>>()
    });
    Some(Scan {
        findings: findings.collect(),
        audited: annotation(AUDITED).and_then(|time| time.parse().ok()),
        left_out: annotation(LEFT_OUT)
            .and_then(|count| count.parse().ok())
            .unwrap_or_default(),
        pass: report.summary["pass"].as_u64().unwrap_or_default(),
        namespace,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(name: &str, labels: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReport",
            "metadata": {"name": name, "namespace": "team-a", "labels": labels,
                "annotations": {AUDITED: "2026-06-01T12:00:00Z", LEFT_OUT: "2"}},
            "summary": {"pass": 3, "warn": 1, "fail": 1, "error": 1, "skip": 0},
            "results": [
                {"policy": "storage-credentials", "rule": "would-be-refused", "result": "fail", "message": "ask #ml",
                 "resources": [{"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "namespace": "team-a", "name": "churn", "uid": "u1"}]},
                {"policy": "runtime-version", "rule": "would-be-filled-in", "result": "warn", "message": "/spec/x = 1: y",
                 "resources": [{"kind": "InferenceService", "name": "fraud", "uid": "u2"}]},
                {"policy": "tidewaiter", "rule": "could-not-be-judged", "result": "error", "message": "could not be judged",
                 "resources": [{"kind": "InferenceService", "name": "hidden", "uid": "u3"}]},
                {"policy": "other", "result": "pass", "resources": [{"kind": "InferenceService", "name": "fine"}]},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn a_report_of_the_leader_is_read_and_one_of_others_is_not() {
        let ours = json!({MANAGED_BY_LABEL: MANAGED_BY});
        let scan_of = |name: &str, labels: Value| scan(&report(name, labels));
        let found = scan_of(REPORT, ours.clone()).unwrap();
        assert_eq!((found.pass, found.left_out, found.findings.len()), (3, 2, 3));
        assert_eq!(found.audited.unwrap().to_string(), "2026-06-01T12:00:00Z");
        let verdicts: Vec<_> = found
            .findings
            .iter()
            .map(|finding| (finding.name.as_str(), finding.result.as_str(), finding.policy.as_str()))
            .collect();
        assert_eq!(
            verdicts,
            [
                ("churn", "fail", "storage-credentials"),
                ("fraud", "warn", "runtime-version"),
                ("hidden", "error", "tidewaiter")
            ]
        );
        assert_eq!(scan_of("kyverno", ours), None);
        assert_eq!(scan_of(REPORT, json!({})), None);
    }
}
