//! What already runs, judged by today's policies: services that were admitted before Tidewaiter, or before a policy changed. Nothing is changed by it; what
//! would be is told in a `PolicyReport` a namespace (`wgpolicyk8s.io/v1alpha2`), which policy dashboards and `tidewaiter audit` read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tidewaiter_core::backend::{MANAGED_BY, MANAGED_BY_LABEL};
use tidewaiter_core::document::Document;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::asked::Asked;
use super::services::{Service, Services};
use crate::admission::Reviewer;
use crate::admission::again::{Reviewed, Stored};
use crate::metrics::Metrics;
use crate::namespaces::cluster::FIELD_MANAGER;

/// The name of each namespace's report.
const REPORT: &str = "tidewaiter";
/// After a change of the configuration: more may follow.
const QUIET: Duration = Duration::from_secs(20);
/// Services that are judged at once. There is no hurry, and reviews of what arrives have none of their time taken.
const AT_ONCE: usize = 2;
/// A report is one object, and etcd takes no more than 1.5 MiB: what goes beyond is counted.
const RESULTS: usize = 1000;

/// See the module.
pub(super) struct Audit {
    pub(super) client: Client,
    pub(super) reviewer: Arc<Reviewer>,
    pub(super) services: Services,
    pub(super) metrics: Arc<Metrics>,
    /// Which services the webhook is asked about: the others are none of its business.
    pub(super) configuration: String,
    /// Between two scans; zero for none.
    pub(super) interval: Duration,
}

/// What one service came to.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// In the words of a `PolicyReport`.
    result: &'static str,
    policy: String,
    rule: &'static str,
    message: String,
}

impl Audit {
    /// Works for as long as it is called.
    pub(super) async fn keep(self) {
        if self.interval.is_zero() {
            return;
        }
        self.services.settled().await;
        let mut configured = self.reviewer.configured_anew();
        let mut complaint = String::new();
        loop {
            quiet(&mut configured).await;
            let started = Instant::now();
            match self.scan().await {
                Ok(services) => {
                    info!(services, seconds = started.elapsed().as_secs(), "audit");
                    complaint.clear();
                }
                Err(error) if error != complaint => {
                    warn!("can't write PolicyReports: {error}; trying again at the next audit");
                    complaint = error;
                }
                Err(_) => {}
            }
            // A new configuration is reason for another scan, but in a busy cluster there is one every minute.
            sleep(self.interval / 4).await;
            let _ = timeout(self.interval * 3 / 4, configured.changed()).await;
        }
    }

    /// How many services were judged. A service that can't be read now is left out this time.
    async fn scan(&self) -> Result<usize, String> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("wgpolicyk8s.io", "v1alpha2", "PolicyReport"));
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        let before = match all.list(&ours).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err("the cluster doesn't know the kind PolicyReport: install its CustomResourceDefinition, as the chart \
                     tidewaiter-crds does with policyReports.enabled=true, or set --audit-interval 0s"
                    .to_owned());
            }
            before => before.map_err(|error| error.to_string())?,
        };
        let asked = Asked::read(&self.client, &self.configuration).await?;
        let services = self.services.all();
        let count = services.len();
        let known: BTreeSet<String> = services.iter().map(|service| service.namespace.clone()).collect();
        let judged = futures::stream::iter(services).map(|service| async {
            let finding = self.judge(&service, &asked).await;
            (service, finding)
        });
        let judged: Vec<_> = judged.buffer_unordered(AT_ONCE).collect().await;
        let mut namespaces: BTreeMap<String, Vec<(Service, Vec<Finding>)>> = BTreeMap::new();
        for (service, findings) in judged {
            if let Some(findings) = findings {
                namespaces
                    .entry(service.namespace.clone())
                    .or_default()
                    .push((service, findings));
            }
        }
        let mut totals: BTreeMap<&'static str, i64> = BTreeMap::new();
        // One namespace that goes, or is full, is no reason to tell the others nothing.
        let mut failed = None;
        for report in before.items {
            let namespace = report.namespace().unwrap_or_default();
            if report.name_any() == REPORT && !known.contains(&namespace) {
                let reports: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &kind);
                match reports.delete(REPORT, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    deleted => failed = deleted.map(drop).err().or(failed),
                }
            }
        }
        for (namespace, services) in &mut namespaces {
            services.sort_by(|(one, _), (other, _)| one.cmp(other));
            let report = report(services, Timestamp::now());
            for result in ["pass", "warn", "fail"] {
                *totals.entry(result).or_default() += report["summary"][result].as_i64().unwrap_or_default();
            }
            let reports: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind);
            let params = PatchParams::apply(FIELD_MANAGER).force();
            match reports.patch(REPORT, &params, &Patch::Apply(&report)).await {
                // The namespace is going.
                Err(kube::Error::Api(status))
                    if matches!(status.code, 403 | 404) && status.message.contains("terminated") => {}
                written => failed = written.map(drop).err().or(failed),
            }
        }
        self.metrics.audited(&totals);
        failed.map_or(Ok(count), |error| Err(error.to_string()))
    }

    /// None where there is nothing to judge.
    async fn judge(&self, service: &Service, asked: &Asked) -> Option<Vec<Finding>> {
        let resource = service.resource();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &service.namespace, &resource);
        let request = axum::http::Request::get(format!("{}/{}", api.resource_url(), service.name));
        let text = self.client.request_text(request.body(Vec::new()).ok()?).await.ok()?;
        let labels: Labelled = serde_json::from_str(&text).ok()?;
        let snapshot = self.reviewer.snapshot()?;
        let namespace = snapshot.configuration.namespace_labels(&service.namespace)?;
        if !asked.about(namespace, &labels.metadata.labels.unwrap_or_default()) {
            return None;
        }
        let document = Document::new(&text).ok()?;
        let stored = Stored {
            api_version: &resource.api_version,
            kind: service.kind,
            namespace: &service.namespace,
            name: &service.name,
            object: &document,
            new: true,
        };
        let reviewed = self.reviewer.review_again(&stored, false).await?;
        // What can't be said now is left to the next scan.
        reviewed.failure.is_none().then(|| findings(&reviewed))
    }
}

#[derive(Deserialize)]
struct Labelled {
    metadata: ObjectMeta,
}

/// Waits until the configuration has not changed for a while.
async fn quiet(configured: &mut watch::Receiver<()>) {
    loop {
        sleep(QUIET).await;
        if !configured.has_changed().unwrap_or(false) {
            return;
        }
        configured.mark_unchanged();
    }
}

fn findings(reviewed: &Reviewed) -> Vec<Finding> {
    if let Some((policy, message)) = &reviewed.refusal {
        return vec![Finding {
            result: "fail",
            policy: policy.clone(),
            rule: "would-be-refused",
            message: message.clone(),
        }];
    }
    let mut changes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for change in &reviewed.changes {
        let what = match &change.value {
            Some(value) => format!("{} = {value}: {}", change.path, change.reason),
            None => format!("{} taken out: {}", change.path, change.reason),
        };
        changes.entry(&change.policy).or_default().push(what);
    }
    let changes = changes.into_iter().map(|(policy, what)| Finding {
        result: "warn",
        policy: policy.to_owned(),
        rule: "would-be-filled-in",
        message: what.join("; "),
    });
    changes.collect()
}

/// One namespace's report. It doesn't change where nothing changed: a result has no time of its own.
fn report(services: &[(Service, Vec<Finding>)], now: Timestamp) -> Value {
    let mut results = Vec::new();
    let (mut pass, mut warned, mut failed) = (0, 0, 0);
    for (service, findings) in services {
        if findings.is_empty() {
            pass += 1;
        }
        for finding in findings {
            if finding.result == "fail" {
                failed += 1;
            } else {
                warned += 1;
            }
            results.push(json!({
                "source": "tidewaiter",
                "policy": finding.policy,
                "rule": finding.rule,
                "result": finding.result,
                "scored": true,
                "message": finding.message,
                "resources": [{
                    "apiVersion": service.resource().api_version,
                    "kind": service.kind,
                    "namespace": service.namespace,
                    "name": service.name,
                    "uid": service.uid,
                }],
            }));
        }
    }
    let dropped = results.len().saturating_sub(RESULTS);
    results.truncate(RESULTS);
    let namespace = services.first().map(|(service, _)| service.namespace.as_str());
    json!({
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "PolicyReport",
        "metadata": {
            "name": REPORT,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            "annotations": {
                "tidewaiter.dev/audited": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "tidewaiter.dev/left-out": dropped.to_string(),
            },
        },
        "summary": {"pass": pass, "warn": warned, "fail": failed, "error": 0, "skip": 0},
        "results": results,
    })
}

#[cfg(test)]
mod tests {
    use tidewaiter_engine::outcome::Change;

    use super::*;

    fn reviewed() -> Reviewed {
        Reviewed {
            patch: json!([]),
            changes: Vec::new(),
            refusal: None,
            failure: None,
        }
    }

    fn service(name: &str) -> Service {
        Service {
            namespace: "team-a".into(),
            name: name.into(),
            kind: "InferenceService",
            version: "v1beta1",
            uid: name.into(),
            generation: 1,
            created: 0,
            written: 0,
            adopted: false,
            named: BTreeSet::new(),
            accounts: BTreeSet::new(),
            uris: BTreeSet::new(),
            settled: true,
        }
    }

    #[test]
    fn a_report_says_what_would_be_filled_in_and_refused_and_counts_the_rest() {
        let change = |path: &str| Change {
            policy: "runtime-version".into(),
            path: path.into(),
            value: Some(json!("1.5.0")),
            reason: "sklearn 1.1".into(),
        };
        let filled_in = findings(&Reviewed {
            changes: vec![change("/spec/a"), change("/spec/b")],
            ..reviewed()
        });
        let refused = findings(&Reviewed {
            refusal: Some(("storage-credentials".into(), "not granted: ask #ml".into())),
            ..reviewed()
        });
        let services = [
            (service("fine"), findings(&reviewed())),
            (service("old"), filled_in),
            (service("bad"), refused),
        ];
        let report = report(&services, "2026-06-01T12:00:00Z".parse().unwrap());
        assert_eq!(
            report["summary"],
            json!({"pass": 1, "warn": 1, "fail": 1, "error": 0, "skip": 0})
        );
        assert_eq!(
            report["results"][0]["message"],
            r#"/spec/a = "1.5.0": sklearn 1.1; /spec/b = "1.5.0": sklearn 1.1"#
        );
        assert_eq!(report["results"][1]["result"], "fail");
        assert_eq!(report["results"][1]["resources"][0]["name"], "bad");
    }

    #[test]
    fn a_report_fits_into_an_object() {
        let findings = || {
            vec![Finding {
                result: "fail",
                policy: "p".into(),
                rule: "would-be-refused",
                message: "m".repeat(1000),
            }]
        };
        let services: Vec<_> = (0..1200).map(|n| (service(&format!("s{n}")), findings())).collect();
        let report = report(&services, Timestamp::now());
        assert!(report.to_string().len() < 1_500_000);
        assert_eq!(report["metadata"]["annotations"]["tidewaiter.dev/left-out"], "200");
        assert_eq!(report["summary"]["fail"], 1200);
    }
}
