//! What is counted, in `OpenMetrics` text at `/metrics`. Every name begins with `tidewaiter_`.

pub mod labels;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tidewaiter_engine::Counts;
use tidewaiter_engine::outcome::{Change, Ended, Run};

/// Values that a label takes from policies or users, all label sets of one metric together. What comes later is counted as `other`.
const VALUES: usize = 256;

/// What comes of credentials, as the label `result`, where all is well;
pub const DELIVERED: [&str; 6] = ["unchanged", "written", "renewed", "rotated", "collected", "revoked"];
/// and where it isn't: these are what an alert is for.
pub const UNDELIVERED: [&str; 5] = ["refused", "unreachable", "unusable", "stale", "untold"];

/// Which of the two webhooks was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label values")]
pub enum Endpoint {
    /// `/mutate`
    mutate,
    /// `/validate`
    validate,
}

/// How a review ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label values")]
pub enum Ending {
    /// Nothing to judge: leaving, standing still, ignored, of a kind that no policy matches.
    untouched,
    /// Judged, and nothing to change.
    unchanged,
    /// Admitted with a patch.
    patched,
    /// Refused by a policy, or not an object.
    refused,
    /// Refused because we failed.
    failed,
    /// Not a request that a review can begin with: an HTTP error.
    invalid,
    /// Turned away, since too many were being answered.
    shed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    endpoint: Endpoint,
    ending: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    policy: Arc<str>,
    ending: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct ChangeLabels {
    policy: Arc<str>,
    field: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct RefusalLabels {
    policy: Arc<str>,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    what: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    backend: String,
}

/// All of the server's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reviews: Family<ReviewLabels, Counter>,
    review_seconds: Family<ReviewLabels, Histogram, fn() -> Histogram>,
    policy_seconds: Family<RunLabels, Histogram, fn() -> Histogram>,
    policy_runs: Family<RunLabels, Counter>,
    /// Names that policies have had since the start.
    named: Mutex<BTreeSet<Arc<str>>>,
    changes: Family<ChangeLabels, Counter>,
    change_labels: Bounded<ChangeLabels>,
    refusals: Family<RefusalLabels, Counter>,
    refusal_labels: Bounded<RefusalLabels>,
    credentials: Family<ResultLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
    breakers: Family<BackendLabels, Gauge>,
    caches: Family<CacheLabels, Counter>,
    /// Held while counts are taken over.
    counting: Mutex<()>,
    credentials_stale: Family<BackendLabels, Gauge>,
    credentials_age: Family<BackendLabels, Gauge>,
    credentials_valid: Family<BackendLabels, Gauge>,
    /// How many, and since when the oldest, by who keeps them and by backend.
    behind: Mutex<BTreeMap<&'static str, Behind>>,
    /// 1 in the replica that leads.
    pub leader: Gauge,
    swept: Family<ResultLabels, Counter>,
    audited: Family<ResultLabels, Gauge>,
    /// Objects of the configuration that can't be used as they are.
    pub problems: Gauge,
    /// Policies that answer reviews.
    pub policies: Gauge,
    /// Seconds since 1970 at which the TLS certificate ends.
    pub certificate_expiry: Gauge,
    /// Connections that didn't get as far as HTTP.
    pub handshakes_failed: Counter,
}

/// How a policy's run may end, as the label `ending`.
const ENDINGS: [&str; 5] = ["passed", "acted", "denied", "denied_in_vain", FAILED];
const FAILED: &str = "failed";

/// The word for how a policy's run ended, in metrics and traces: one of [`ENDINGS`].
pub(crate) fn ended(ended: &Ended) -> &'static str {
    match ended {
        Ended::Passed => "passed",
        Ended::Acted => "acted",
        Ended::Denied => "denied",
        Ended::DeniedInVain => "denied_in_vain",
        Ended::Failed(_) => FAILED,
    }
}

/// How many copies of a backend's credentials are not equal to their source, and the age of the oldest in seconds.
type Behind = BTreeMap<String, (i64, i64)>;

/// From 50 µs, which a review takes that asks nobody, to some 3 s, beyond the budget of one that asks a store.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tidewaiter");
        let metrics = Self {
            reviews: Family::default(),
            review_seconds: Family::new_with_constructor(latency),
            policy_seconds: Family::new_with_constructor(latency),
            policy_runs: Family::default(),
            named: Mutex::default(),
            changes: Family::default(),
            change_labels: Bounded::default(),
            refusals: Family::default(),
            refusal_labels: Bounded::default(),
            credentials: Family::default(),
            reloads: Family::default(),
            breakers: Family::default(),
            caches: Family::default(),
            counting: Mutex::default(),
            credentials_stale: Family::default(),
            credentials_age: Family::default(),
            credentials_valid: Family::default(),
            behind: Mutex::default(),
            leader: Gauge::default(),
            swept: Family::default(),
            audited: Family::default(),
            problems: Gauge::default(),
            policies: Gauge::default(),
            certificate_expiry: Gauge::default(),
            handshakes_failed: Counter::default(),
            registry: Registry::default(),
        };
        metrics.begin_at_nothing();
        registry.register(
            "reviews",
            "Admission reviews, by webhook and how they ended",
            metrics.reviews.clone(),
        );
        registry.register_with_unit(
            "review",
            "From the request's body to the answer, by webhook and how it ended",
            Unit::Seconds,
            metrics.review_seconds.clone(),
        );
        registry.register_with_unit(
            "policy",
            "One policy's run, its host calls included, by how it ended",
            Unit::Seconds,
            metrics.policy_seconds.clone(),
        );
        registry.register(
            "policy_runs",
            "Runs of policies, by how they ended",
            metrics.policy_runs.clone(),
        );
        registry.register("changes", "Fields filled in or withdrawn", metrics.changes.clone());
        registry.register("refusals", "Refusals, by policy and code", metrics.refusals.clone());
        registry.register(
            "credentials",
            "Credentials asked for by reviews and kept current by the leader, by what came of it",
            metrics.credentials.clone(),
        );
        registry.register(
            "reloads",
            "New configurations and certificates",
            metrics.reloads.clone(),
        );
        registry.register(
            "breaker_open",
            "1 while calls to the backend are cut short",
            metrics.breakers.clone(),
        );
        registry.register(
            "cache_lookups",
            "What was found in a cache (hit) or not (miss): answers of stores, and compiled policies on disk",
            metrics.caches.clone(),
        );
        metrics.register_leaders(&mut registry);
        registry.register(
            "configuration_problems",
            "Objects of the configuration that can't be used as they are",
            metrics.problems.clone(),
        );
        registry.register("policies", "Policies that answer reviews", metrics.policies.clone());
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the TLS certificate ends, since 1970",
            Unit::Seconds,
            metrics.certificate_expiry.clone(),
        );
        registry.register(
            "handshakes_failed",
            "Connections without a TLS session",
            metrics.handshakes_failed.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// What the leader does for all.
    fn register_leaders(&self, registry: &mut Registry) {
        registry.register(
            "credentials_stale",
            "Namespaces whose copy of a backend's credentials could not be made equal to its source; told by the leader",
            self.credentials_stale.clone(),
        );
        registry.register_with_unit(
            "credentials_age",
            "For how long the oldest of these copies has not been equal to its source; told by the leader",
            Unit::Seconds,
            self.credentials_age.clone(),
        );
        registry.register(
            "backend_credentials_valid",
            "1 where the backend's store takes its credentials, 0 where it refuses them, nothing while it doesn't answer; told by the leader",
            self.credentials_valid.clone(),
        );
        registry.register(
            "swept",
            "Services that came past the webhook, found by the leader, by what came of it",
            self.swept.clone(),
        );
        registry.register(
            "audited",
            "Findings of the last audit: services that pass, would be changed (warn) or refused (fail), or could not be judged (error); told by the leader",
            self.audited.clone(),
        );
        registry.register("leader", "1 in the replica that leads", self.leader.clone());
    }

    /// The text for a scrape.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing into a String doesn't fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    pub(crate) fn reviewed(&self, endpoint: Endpoint, ending: Ending, took: Duration) {
        let labels = ReviewLabels { endpoint, ending };
        self.reviews.get_or_create(&labels).inc();
        self.review_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn ran(&self, run: &Run) {
        let labels = RunLabels {
            policy: Arc::clone(&run.policy),
            ending: ended(&run.ended),
        };
        self.policy_seconds
            .get_or_create(&labels)
            .observe(run.took.as_secs_f64());
        self.policy_runs.get_or_create(&labels).inc();
    }

    pub(crate) fn changed(&self, change: &Change) {
        let labels = ChangeLabels {
            policy: Arc::clone(&change.policy),
            field: field(&change.path).to_owned(),
        };
        let labels = self.change_labels.admit(labels, |labels| ChangeLabels {
            field: "other".into(),
            ..labels
        });
        self.changes.get_or_create(&labels).inc();
    }

    pub(crate) fn refused(&self, policy: &str, code: &str) {
        let labels = RefusalLabels {
            policy: policy.into(),
            code: code.into(),
        };
        let labels = self.refusal_labels.admit(labels, |labels| RefusalLabels {
            code: "other".into(),
            ..labels
        });
        self.refusals.get_or_create(&labels).inc();
    }

    /// Prometheus sees no increase in a series that begins with 1: what an alert is for is there from the start.
    fn begin_at_nothing(&self) {
        for endpoint in [Endpoint::mutate, Endpoint::validate] {
            for ending in [Ending::failed, Ending::shed] {
                drop(self.reviews.get_or_create(&ReviewLabels { endpoint, ending }));
            }
        }
        for result in UNDELIVERED {
            drop(self.credentials.get_or_create(&ResultLabels { result }));
        }
        for result in ["failed", "refused"] {
            drop(self.swept.get_or_create(&ResultLabels { result }));
        }
    }

    /// The policies that there are from now on. Their failures begin at nothing; what was counted of a policy that is gone ends with it.
    pub(crate) fn configured<'a>(&self, policies: impl Iterator<Item = &'a str>) {
        let policies: BTreeSet<Arc<str>> = policies.map(Arc::from).collect();
        let of = |policy: &Arc<str>, ending| RunLabels {
            policy: Arc::clone(policy),
            ending,
        };
        for policy in &policies {
            drop(self.policy_runs.get_or_create(&of(policy, FAILED)));
        }
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        // Also one that went before: a review that was under way then may have counted it since.
        for gone in named.difference(&policies) {
            for ending in ENDINGS {
                self.policy_runs.remove(&of(gone, ending));
                self.policy_seconds.remove(&of(gone, ending));
            }
        }
        named.extend(policies);
    }

    /// One of [`DELIVERED`] or [`UNDELIVERED`].
    pub(crate) fn credentials(&self, result: &'static str) {
        debug_assert!(DELIVERED.contains(&result) || UNDELIVERED.contains(&result), "{result}");
        self.credentials.get_or_create(&ResultLabels { result }).inc();
    }

    /// What a cache counted since the start.
    pub(crate) fn cache(&self, cache: &'static str, Counts { hits, misses }: Counts) {
        let _one_at_a_time = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        for (result, total) in [("hit", hits), ("miss", misses)] {
            let counter = self.caches.get_or_create(&CacheLabels { cache, result });
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    pub(crate) fn swept(&self, result: &'static str) {
        self.swept.get_or_create(&ResultLabels { result }).inc();
    }

    /// What only a leader knows is no longer known.
    pub(crate) fn leads_no_more(&self) {
        self.leader.set(0);
        self.credentials_stale.clear();
        self.credentials_age.clear();
        self.credentials_valid.clear();
        self.audited.clear();
    }

    pub(crate) fn audited(&self, totals: &BTreeMap<&'static str, i64>) {
        for (result, total) in totals {
            self.audited.get_or_create(&ResultLabels { result }).set(*total);
        }
    }

    pub(crate) fn certificate_loaded(&self, ok: bool) {
        self.reloaded("certificate", ok);
    }

    pub(crate) fn configuration_loaded(&self, ok: bool) {
        self.reloaded("configuration", ok);
    }

    fn reloaded(&self, what: &'static str, ok: bool) {
        self.reloads
            .get_or_create(&ReloadLabels {
                what,
                result: if ok { "ok" } else { "failed" },
            })
            .inc();
    }

    /// The credentials that are behind, each with its backend and since how long, by who keeps them: those that are copied, or those that are minted.
    pub(crate) fn credentials_stale<'a>(&self, kept: &'static str, behind: impl Iterator<Item = (&'a str, Duration)>) {
        let mut told = Behind::new();
        for (backend, age) in behind {
            let (count, oldest) = told.entry(backend.to_owned()).or_default();
            *count += 1;
            *oldest = (*oldest).max(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
        let mut all = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(kept, told);
        self.credentials_stale.clear();
        self.credentials_age.clear();
        for (backend, (count, oldest)) in all.values().flatten() {
            let labels = BackendLabels {
                backend: backend.clone(),
            };
            self.credentials_stale.get_or_create(&labels).set(*count);
            self.credentials_age.get_or_create(&labels).set(*oldest);
        }
    }

    /// Whether the stores that answer take the credentials that their backends have for them, by backend.
    pub(crate) fn credentials_valid<'a>(&self, valid: impl Iterator<Item = (&'a str, bool)>) {
        self.credentials_valid.clear();
        for (backend, valid) in valid {
            self.credentials_valid
                .get_or_create(&BackendLabels {
                    backend: backend.into(),
                })
                .set(valid.into());
        }
    }

    /// The breakers as they are now, by backend.
    pub(crate) fn breakers<'a>(&self, open: impl Iterator<Item = (&'a str, bool)>) {
        self.breakers.clear();
        for (backend, open) in open {
            self.breakers
                .get_or_create(&BackendLabels {
                    backend: backend.into(),
                })
                .set(open.into());
        }
    }
}

/// The member's name, and for metadata the map's, since annotations have names without end.
fn field(pointer: &str) -> &str {
    let mut parts = pointer.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("metadata"), Some(map)) => map,
        _ => pointer.rsplit('/').next().unwrap_or_default(),
    }
}

/// Label sets that came so far, at most [`VALUES`].
#[derive(Debug)]
struct Bounded<L>(Mutex<BTreeSet<L>>);

impl<L> Default for Bounded<L> {
    fn default() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }
}

impl<L: Ord + Clone> Bounded<L> {
    fn admit(&self, labels: L, other: impl FnOnce(L) -> L) -> L {
        let mut seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.contains(&labels) {
            labels
        } else if seen.len() < VALUES {
            seen.insert(labels.clone());
            labels
        } else {
            other(labels)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_from_policies_are_bounded() {
        let metrics = Metrics::default();
        for n in 0..2 * VALUES {
            metrics.refused("chatty", &format!("code-{n}"));
        }
        let text = metrics.encode();
        assert_eq!(
            text.lines()
                .filter(|line| line.starts_with("tidewaiter_refusals_total{"))
                .count(),
            VALUES + 1
        );
        assert!(
            text.contains(r#"tidewaiter_refusals_total{policy="chatty",code="other"} 256"#),
            "{text}"
        );
    }

    #[test]
    fn what_alerts_are_for_is_there_before_it_happens() {
        let text = Metrics::default().encode();
        for line in [
            r#"tidewaiter_reviews_total{endpoint="mutate",ending="failed"} 0"#,
            r#"tidewaiter_reviews_total{endpoint="validate",ending="shed"} 0"#,
            r#"tidewaiter_credentials_total{result="unreachable"} 0"#,
            r#"tidewaiter_swept_total{result="refused"} 0"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    fn run(policy: &str, ended: Ended) -> Run {
        Run {
            policy: policy.into(),
            began: std::time::Instant::now(),
            took: Duration::ZERO,
            host: Duration::ZERO,
            ended,
            warnings: 0,
        }
    }

    #[test]
    fn a_policys_failures_begin_at_nothing_and_its_counts_end_with_it() {
        let metrics = Metrics::default();
        metrics.configured(["house", "other"].into_iter());
        let text = metrics.encode();
        for policy in ["house", "other"] {
            let line = format!(r#"tidewaiter_policy_runs_total{{policy="{policy}",ending="failed"}} 0"#);
            assert!(text.contains(&line), "{text}");
        }
        metrics.ran(&run("house", Ended::Failed("a trap".into())));
        metrics.ran(&run("other", Ended::Denied));
        // What is loaded again goes on.
        metrics.configured(["house"].into_iter());
        let text = metrics.encode();
        let line = r#"tidewaiter_policy_runs_total{policy="house",ending="failed"} 1"#;
        assert!(text.contains(line) && !text.contains("other"), "{text}");
        // A review that began before counts it once more.
        metrics.ran(&run("other", Ended::Denied));
        metrics.configured(["house"].into_iter());
        assert!(!metrics.encode().contains("other"));
    }

    /// docs/reference.md is made of the table.
    #[test]
    fn the_table_of_labels_has_every_label_and_every_value() {
        let metrics = Metrics::default();
        for endpoint in [Endpoint::mutate, Endpoint::validate] {
            for ending in [
                Ending::untouched,
                Ending::unchanged,
                Ending::patched,
                Ending::refused,
                Ending::failed,
                Ending::invalid,
                Ending::shed,
            ] {
                metrics.reviewed(endpoint, ending, Duration::ZERO);
            }
        }
        for ended in [
            Ended::Passed,
            Ended::Acted,
            Ended::Denied,
            Ended::DeniedInVain,
            Ended::Failed(String::new()),
        ] {
            metrics.ran(&run("house", ended));
        }
        metrics.changed(&Change {
            policy: "house".into(),
            path: "/spec/predictor/minReplicas".into(),
            value: None,
            reason: String::new(),
        });
        metrics.refused("house", "no");
        for result in DELIVERED.into_iter().chain(UNDELIVERED) {
            metrics.credentials(result);
        }
        for ok in [true, false] {
            metrics.certificate_loaded(ok);
            metrics.configuration_loaded(ok);
        }
        metrics.breakers([("minio", true)].into_iter());
        metrics.credentials_valid([("minio", false)].into_iter());
        for cache in ["stores", "policies"] {
            metrics.cache(cache, Counts { hits: 1, misses: 1 });
        }
        metrics.credentials_stale("copied", [("minio", Duration::ZERO)].into_iter());
        for result in ["mended", "refused", "standing", "failed"] {
            metrics.swept(result);
        }
        metrics.audited(&["pass", "warn", "fail", "error"].map(|result| (result, 1)).into());

        let text = metrics.encode();
        let mut shown = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            let name = name.strip_prefix("tidewaiter_").unwrap();
            let added = ["_total", "_bucket", "_sum", "_count"];
            let metric = added.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let mut told = labels::of(metric);
            for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
                let value = value.trim_matches('"');
                if label == "le" {
                    continue;
                }
                let known = told.next().unwrap_or_else(|| panic!("{metric} has {label}"));
                assert_eq!(known.name, label, "{metric}");
                assert!(
                    known.values.is_empty() || known.values.iter().any(|(one, _)| *one == value),
                    "{line}"
                );
                shown.insert((metric, label, value));
            }
            assert!(told.next().is_none(), "{line}");
        }
        for label in labels::LABELS {
            for metric in label.of {
                for (value, _) in label.values {
                    assert!(
                        shown.contains(&(*metric, label.name, *value)),
                        "{metric} {label:?} {value}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_a_cache_counted_is_taken_over_once() {
        let metrics = Metrics::default();
        for (hits, misses) in [(1, 2), (1, 2), (5, 2)] {
            metrics.cache("stores", Counts { hits, misses });
        }
        let text = metrics.encode();
        for line in [
            r#"tidewaiter_cache_lookups_total{cache="stores",result="hit"} 5"#,
            r#"tidewaiter_cache_lookups_total{cache="stores",result="miss"} 2"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn how_long_a_review_takes_is_told_by_how_it_ends() {
        let metrics = Metrics::default();
        metrics.reviewed(Endpoint::mutate, Ending::patched, Duration::from_millis(1));
        let text = metrics.encode();
        let line = r#"tidewaiter_review_seconds_count{endpoint="mutate",ending="patched"} 1"#;
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_field_is_the_members_name() {
        assert_eq!(field("/spec/predictor/model/runtimeVersion"), "runtimeVersion");
        assert_eq!(field("/metadata/annotations/a~1b"), "annotations");
        assert_eq!(field(""), "");
    }
}
