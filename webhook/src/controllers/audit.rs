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
use tidewaiter_core::lines;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::asked::Asked;
use super::services::{Service, Services};
use crate::admission::Reviewer;
use crate::admission::again::{Reviewed, Stored};
use crate::cluster::clock;
use crate::metrics::Metrics;
use crate::namespaces::cluster::FIELD_MANAGER;

/// The name of each namespace's report.
const REPORT: &str = "tidewaiter";
/// So long a service may take to be read.
const READING: Duration = Duration::from_secs(10);
/// After a change of the configuration: more may follow.
const QUIET: Duration = Duration::from_secs(20);
/// Services that are judged at once. There is no hurry, and reviews of what arrives have none of their time taken.
const AT_ONCE: usize = 2;
/// A report is one object for people to read: what goes beyond is counted,
const RESULTS: usize = 1000;
/// as is what would make its JSON longer than this, in bytes. etcd takes 1.5 MiB, and the report has more than its results.
const BYTES: usize = 1 << 20;
/// Of one result's message, in characters: it may join many values.
const MESSAGE: usize = 1024;

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
            // What was found before it was turned off holds no more.
            let taken_back = match self.reports().await {
                Ok(reports) => self.take_back(reports.unwrap_or_default(), &BTreeSet::new()).await,
                Err(error) => Err(error),
            };
            if let Err(error) = taken_back {
                info!("can't delete the PolicyReports of an audit that is turned off: {error}");
            }
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

    /// All of our reports; none where the cluster doesn't know the kind.
    async fn reports(&self) -> Result<Option<Vec<DynamicObject>>, kube::Error> {
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind());
        let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        match all.list(&ours).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            reports => Ok(Some(reports?.items)),
        }
    }

    /// Deletes those of namespaces where nothing is judged any more.
    async fn take_back(&self, reports: Vec<DynamicObject>, judged: &BTreeSet<&String>) -> Result<(), kube::Error> {
        // One namespace that goes is no reason to leave the others as they are.
        let mut failed = None;
        for report in reports {
            let namespace = report.namespace().unwrap_or_default();
            if report.name_any() == REPORT && !judged.contains(&namespace) {
                let reports: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &kind());
                match reports.delete(REPORT, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    deleted => failed = deleted.map(drop).err().or(failed),
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// How many services there are. One that can't be judged now is told as that.
    async fn scan(&self) -> Result<usize, String> {
        let kind = kind();
        let Some(before) = self.reports().await.map_err(|error| error.to_string())? else {
            return Err(
                "the cluster doesn't know the kind PolicyReport: install its CustomResourceDefinition, as the chart \
                 tidewaiter-crds does with policyReports.enabled=true, or set --audit-interval 0s"
                    .to_owned(),
            );
        };
        let asked = Asked::read(&self.client, &self.configuration).await?;
        // A namespace whose services aren't known is not one without.
        let (services, complete) = self.services.all();
        let count = services.len();
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
        if complete {
            failed = self.take_back(before, &namespaces.keys().collect()).await.err();
        }
        for (namespace, services) in &mut namespaces {
            services.sort_by(|(one, _), (other, _)| one.cmp(other));
            let report = report(services, clock::now());
            for result in ["pass", "warn", "fail", "error"] {
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
        match self.try_to_judge(service, asked).await {
            Ok(findings) => findings,
            Err(why) => Some(vec![unknown(&why)]),
        }
    }

    async fn try_to_judge(&self, service: &Service, asked: &Asked) -> Result<Option<Vec<Finding>>, String> {
        let told = |error: &dyn std::fmt::Display| format!("it can't be read: {error}");
        let resource = service.resource();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &service.namespace, &resource);
        let request = axum::http::Request::get(format!("{}/{}", api.resource_url(), service.name));
        let request = request.body(Vec::new()).map_err(|error| told(&error))?;
        let text = match timeout(READING, self.client.request_text(request)).await {
            // It went meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
            Ok(text) => text.map_err(|error| told(&error))?,
            Err(_) => return Err(told(&"the API server doesn't answer in time")),
        };
        let labels: Labelled = serde_json::from_str(&text).map_err(|error| told(&error))?;
        let snapshot = self.reviewer.snapshot().ok_or("there is no configuration yet")?;
        let namespace = snapshot.configuration.namespace_labels(&service.namespace);
        let namespace = namespace.ok_or("the labels of its namespace are not known")?;
        if !asked.about(namespace, &labels.metadata.labels.unwrap_or_default()) {
            return Ok(None);
        }
        let document = Document::new(&text).map_err(|error| told(&error))?;
        let stored = Stored {
            api_version: &resource.api_version,
            kind: service.kind,
            namespace: &service.namespace,
            name: &service.name,
            object: &document,
            new: true,
        };
        let Some(reviewed) = self.reviewer.review_again(&stored, false).await else {
            return Ok(None);
        };
        reviewed
            .failure
            .clone()
            .map_or_else(|| Ok(Some(findings(&reviewed))), Err)
    }
}

fn kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("wgpolicyk8s.io", "v1alpha2", "PolicyReport"))
}

/// Of a service that nobody could judge this time.
fn unknown(why: &str) -> Finding {
    Finding {
        result: "error",
        policy: "tidewaiter".to_owned(),
        rule: "could-not-be-judged",
        message: format!("could not be judged: {why}"),
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
    let (mut pass, mut warned, mut failed, mut unknown) = (0, 0, 0, 0);
    for (service, findings) in services {
        if findings.is_empty() {
            pass += 1;
        }
        for finding in findings {
            match finding.result {
                "fail" => failed += 1,
                "error" => unknown += 1,
                _ => warned += 1,
            }
            results.push(json!({
                "source": "tidewaiter",
                "policy": finding.policy,
                "rule": finding.rule,
                "result": finding.result,
                "scored": true,
                "message": lines::cut(&finding.message, MESSAGE),
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
    let ends = results.iter().scan(0, |end, result: &Value| {
        *end += result.to_string().len() + 1;
        Some(*end)
    });
    let kept = ends.take(RESULTS).take_while(|end| *end <= BYTES).count();
    let dropped = results.len() - kept;
    results.truncate(kept);
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
        "summary": {"pass": pass, "warn": warned, "fail": failed, "error": unknown, "skip": 0},
        "results": results,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kube::client::Body;
    use tidewaiter_engine::outcome::Change;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cluster::watched::Changes;
    use crate::namespaces::folder::Recorded;

    fn reviewed() -> Reviewed {
        Reviewed {
            patch: json!([]),
            changes: Vec::new(),
            refusal: None,
            standing: None,
            failure: None,
        }
    }

    fn service(name: &str) -> Service {
        Service::of(name)
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
                message: "m".repeat(500),
            }]
        };
        let services: Vec<_> = (0..1200).map(|n| (service(&format!("s{n}")), findings())).collect();
        let report = report(&services, Timestamp::now());
        assert!(report.to_string().len() < 1_500_000);
        assert_eq!(report["metadata"]["annotations"]["tidewaiter.dev/left-out"], "200");
        assert_eq!(report["summary"]["fail"], 1200);
    }

    #[test]
    fn long_messages_are_cut_and_a_report_of_many_still_fits() {
        let findings = || {
            vec![Finding {
                result: "warn",
                policy: "p".into(),
                rule: "would-be-filled-in",
                // In JSON each of these takes two bytes.
                message: "\"".repeat(5000),
            }]
        };
        let services: Vec<_> = (0..900).map(|n| (service(&format!("s{n}")), findings())).collect();
        let report = report(&services, Timestamp::now());
        assert!(report.to_string().len() < 1_100_000);
        let results = report["results"].as_array().unwrap();
        assert_eq!(results[0]["message"].as_str().unwrap().chars().count(), 1024);
        assert!((400..900).contains(&results.len()), "{}", results.len());
        let left_out = (900 - results.len()).to_string();
        assert_eq!(report["metadata"]["annotations"]["tidewaiter.dev/left-out"], left_out);
        assert_eq!(report["summary"]["warn"], 900);
    }

    /// Against an API server with reports in the namespaces a and b and no service that can be read, which keeps what it was told to delete.
    fn audit(interval: Duration) -> (Audit, Arc<Mutex<Vec<String>>>) {
        let deleted = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&deleted);
        let service = tower::service_fn(move |request: axum::http::Request<Body>| {
            let report = |namespace: &str| json!({"metadata": {"name": REPORT, "namespace": namespace}});
            let path = request.uri().path().to_owned();
            let failed =
                |code: u16| json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "", "code": code});
            let (code, answer) = if request.method() == axum::http::Method::DELETE {
                keep.lock().unwrap().push(path);
                (200, json!({"kind": "Status", "status": "Success"}))
            } else if path == "/apis/wgpolicyk8s.io/v1alpha2/policyreports" {
                let kind = json!({"apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReportList", "metadata": {}});
                let mut list = kind;
                list["items"] = json!([report("a"), report("b")]);
                (200, list)
            } else if path.ends_with("/inferenceservices/gone") {
                (404, failed(404))
            } else {
                (500, failed(500))
            };
            let mut response = axum::http::Response::new(Body::from(answer.to_string().into_bytes()));
            *response.status_mut() = axum::http::StatusCode::from_u16(code).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let client = Client::new(service, "default");
        let metrics = Arc::new(Metrics::default());
        let reviewer = Reviewer::new(
            Arc::new(Recorded::default()),
            None,
            Arc::clone(&metrics),
            Duration::from_secs(2),
        );
        let audit = Audit {
            services: Services::watch(&client, &Changes::default(), &CancellationToken::new()),
            client,
            reviewer: Arc::new(reviewer),
            metrics,
            configuration: "tidewaiter.dev".into(),
            interval,
        };
        (audit, deleted)
    }

    const REPORT_OF_B: &str = "/apis/wgpolicyk8s.io/v1alpha2/namespaces/b/policyreports/tidewaiter";

    #[tokio::test]
    async fn a_report_of_a_namespace_where_nothing_is_judged_is_taken_back() {
        let (audit, deleted) = audit(Duration::from_hours(1));
        let before = audit.reports().await.unwrap().unwrap();
        audit
            .take_back(before, &BTreeSet::from([&"a".to_owned()]))
            .await
            .unwrap();
        assert_eq!(*deleted.lock().unwrap(), [REPORT_OF_B]);
    }

    #[tokio::test]
    async fn an_audit_that_is_turned_off_leaves_no_report() {
        let (audit, deleted) = audit(Duration::ZERO);
        audit.keep().await;
        assert_eq!(deleted.lock().unwrap().len(), 2);
        assert!(deleted.lock().unwrap().contains(&REPORT_OF_B.to_owned()));
    }

    #[tokio::test]
    async fn a_service_that_can_not_be_judged_is_an_error_in_the_report() {
        let (audit, _) = audit(Duration::from_hours(1));
        let asked = Asked::of_all();
        assert_eq!(audit.judge(&service("gone"), &asked).await, None);
        let findings = audit.judge(&service("there"), &asked).await.unwrap();
        assert_eq!((findings.len(), findings[0].result), (1, "error"));
        let report = report(&[(service("there"), findings)], Timestamp::now());
        assert_eq!(
            report["summary"],
            json!({"pass": 0, "warn": 0, "fail": 0, "error": 1, "skip": 0})
        );
        assert_eq!(report["results"][0]["rule"], "could-not-be-judged");
    }
}
