//! One review, from the request's body to the answer's.
//!
//! ```text
//! decode ─▶ nothing to judge? allow ─▶ policies that match ─▶ engine ─▶ credentials into the namespace ─▶ encode
//! ```

pub(crate) mod again;
mod authorize;
mod configured;
pub mod decode;
mod effects;
pub mod encode;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use axum::http::HeaderMap;
use jiff::Timestamp;
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Denial, Operation, Outcome, Review};
use tidewaiter_world::ClusterReader;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::configuration::Snapshot;
use crate::metrics::{Ending, Endpoint, Metrics};
use crate::namespaces::{Namespaces, PATIENCE};
use crate::traces::{Told, Traces};
use decode::{AdmissionRequest, DecodeError, decode, json_type};
use encode::{Answer, encode};

/// The code of a denial that says that a policy failed, rather than that it refused.
const POLICY_FAILED: &str = "policy-failed";
/// The code of a denial that says which two policies contradict each other.
const CONTRADICTION: &str = "contradiction";

/// Answers reviews, with the configuration of the moment.
pub struct Reviewer {
    snapshot: ArcSwapOption<Snapshot>,
    namespaces: Arc<dyn Namespaces>,
    /// None in folder mode, where the configuration itself holds what there is to read.
    reader: Option<Arc<dyn ClusterReader>>,
    metrics: Arc<Metrics>,
    budget: Duration,
    traces: Option<Arc<Traces>>,
    swapped: watch::Sender<()>,
}

impl Reviewer {
    /// Without a configuration yet.
    pub fn new(
        namespaces: Arc<dyn Namespaces>,
        reader: Option<Arc<dyn ClusterReader>>,
        metrics: Arc<Metrics>,
        budget: Duration,
    ) -> Self {
        Self {
            snapshot: ArcSwapOption::empty(),
            namespaces,
            reader,
            metrics,
            budget,
            traces: None,
            swapped: watch::Sender::default(),
        }
    }

    /// Tells of each review.
    #[must_use]
    pub fn with_traces(self, traces: Option<Arc<Traces>>) -> Self {
        Self { traces, ..self }
    }

    /// Whether there is a configuration to answer with.
    pub fn configured(&self) -> bool {
        self.snapshot.load().is_some()
    }

    /// The configuration of the moment.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// Reviews that begin from now on use this one.
    pub(crate) fn swap(&self, snapshot: Snapshot) {
        self.snapshot.store(Some(Arc::new(snapshot)));
        self.swapped.send_replace(());
    }

    /// Whether this is the configuration of the moment still.
    pub(crate) fn goes_by(&self, snapshot: &Arc<Snapshot>) -> bool {
        self.snapshot
            .load()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, snapshot))
    }

    /// Tells of each new configuration.
    pub(crate) fn configured_anew(&self) -> watch::Receiver<()> {
        self.swapped.subscribe()
    }

    /// Sets the metrics that are states rather than counts.
    pub(crate) fn observe(&self) {
        if let Some(snapshot) = self.snapshot() {
            self.metrics.breakers(snapshot.configuration.shut_backends());
            self.metrics.cache("stores", snapshot.cached());
        }
    }

    /// Answers one `AdmissionReview`. Everything that can be said to the user is an answer; an error is a body that is none of our questions.
    pub async fn review_bytes(&self, endpoint: Endpoint, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
        self.review_request(endpoint, &HeaderMap::new(), body).await
    }

    /// The same, for a request with these headers: they may name a trace that it belongs to.
    pub(crate) async fn review_request(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Vec<u8>, DecodeError> {
        let started = Instant::now();
        let request = decode(body)?;
        let judged = self.judge(endpoint, &request).await;
        let (answer, ending) = match &judged {
            None => (
                encode(
                    &request.uid,
                    &Answer::Allowed {
                        patch: &[],
                        warnings: &[],
                        changes: &[],
                    },
                ),
                Ending::untouched,
            ),
            Some(judged) => (judged.encode(&request.uid), judged.ending()),
        };
        self.metrics.reviewed(endpoint, ending, started.elapsed());
        if let Some(traces) = &self.traces {
            let told = Told {
                endpoint,
                uid: &request.uid,
                operation: &request.operation,
                kind: &request.kind.kind,
                namespace: request.namespace.as_deref().unwrap_or_default(),
                name: request.name.as_deref().unwrap_or_default(),
                ending,
                refusal: judged
                    .as_ref()
                    .and_then(|judged| Some(judged.denial()?.1.code.as_str())),
                runs: judged.as_ref().map_or(&[], |judged| &judged.outcome.runs),
            };
            traces.review(headers, started, &told);
        }
        Ok(answer)
    }

    /// None where there is nothing to judge.
    async fn judge(&self, endpoint: Endpoint, request: &AdmissionRequest<'_>) -> Option<Judged> {
        let operation = match &*request.operation {
            "CREATE" | "UPDATE" if request.kind.group == "tidewaiter.dev" => {
                let judged = self.of_configuration(request).await?;
                self.record(endpoint, request, &judged);
                return Some(judged);
            }
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" if request.kind.group == "tidewaiter.dev" && request.kind.kind == "StorageBackend" => {
                return self.backend_leaves(request.name.as_deref()?);
            }
            // Nobody is kept from leaving.
            _ => return None,
        };
        // `status` and `scale` aren't what a policy judges.
        if request.sub_resource.as_ref().is_some_and(|sub| !sub.is_empty()) {
            return None;
        }
        let snapshot = self.snapshot.load_full()?;
        let Some(object) = request.object else {
            return Some(Judged::malformed("the request brings no object"));
        };
        let Ok(document) = Document::of(object) else {
            return Some(Judged::malformed(&format!(
                "the object is {}, not an object",
                json_type(object)
            )));
        };
        // What is no object was never stored.
        let old = request.old_object.and_then(|old| Document::of(old).ok());
        let api_version = if request.kind.group.is_empty() {
            request.kind.version.to_string()
        } else {
            format!("{}/{}", request.kind.group, request.kind.version)
        };
        let review = Review {
            operation,
            api_version: &api_version,
            kind: &request.kind.kind,
            namespace: request.namespace.as_deref().unwrap_or_default(),
            name: request.name.as_deref().unwrap_or_default(),
            object: &document,
            old_object: old.as_ref(),
            username: &request.user_info.username,
            groups: request.user_info.groups.as_deref().unwrap_or_default(),
        };
        let secret_annotation = snapshot.configuration.kserve().secret_annotation.as_deref();
        if tidewaiter_engine::untouched(&review, secret_annotation).is_some() {
            return None;
        }
        let dry_run = request.dry_run.unwrap_or_default();
        let asker = Asker {
            request: &request.uid,
            uid: &request.user_info.uid,
            extra: request.user_info.extra.as_ref(),
        };
        let judged = self.decide(endpoint, &review, asker, dry_run, &snapshot).await?;
        self.record(endpoint, request, &judged);
        Some(judged)
    }

    /// Whoever deletes a backend is told who still has its credentials.
    fn backend_leaves(&self, backend: &str) -> Option<Judged> {
        let namespaces = self.namespaces.copies(backend);
        if namespaces.is_empty() {
            return None;
        }
        let outcome = Outcome {
            warnings: leaving(backend, &namespaces, self.namespaces.ends(backend))
                .map(cut)
                .into(),
            ..Outcome::default()
        };
        Some(Judged { outcome, failure: None })
    }

    /// What the policies come to, with their effects unless it is a dry run. None where no policy matches.
    async fn decide(
        &self,
        endpoint: Endpoint,
        review: &Review<'_>,
        asker: Asker<'_>,
        dry_run: bool,
        snapshot: &Snapshot,
    ) -> Option<Judged> {
        let deadline = tokio::time::Instant::now() + self.budget;
        let world = snapshot.world(review, self.reader.clone(), deadline);
        let labels = if snapshot.selects_by_labels() {
            world.labels().await
        } else {
            None
        };
        let policies = snapshot.select(review, labels);
        if policies.is_empty() {
            return None;
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let mut outcome = tidewaiter_engine::review(&policies, review, Arc::clone(&world) as _, left).await;
        let failure = match endpoint {
            Endpoint::validate => {
                note_bypass(&mut outcome);
                None
            }
            Endpoint::mutate if outcome.denial.is_some() => None,
            Endpoint::mutate => {
                let (namespaces, until) = (&*self.namespaces, tokio::time::Instant::now() + PATIENCE);
                match authorize::authorize(&outcome, review, asker, snapshot, namespaces, until).await {
                    Ok(()) if dry_run => None,
                    Ok(()) => {
                        let told = (&*self.metrics, asker.request);
                        effects::carry_out(&mut outcome, review, snapshot, &world, namespaces, told, until)
                            .await
                            .err()
                    }
                    Err(failure) => Some(failure),
                }
            }
        };
        if failure.is_some() {
            // Each change has its line, first of all; now nothing is changed.
            let told = outcome.changes.len().min(outcome.warnings.len());
            outcome.warnings.drain(..told);
        }
        Some(Judged { outcome, failure })
    }

    /// One line for the log where something was decided, and the counts.
    fn record(&self, endpoint: Endpoint, request: &AdmissionRequest<'_>, judged: &Judged) {
        let namespace = request.namespace.as_deref().unwrap_or_default();
        let name = request.name.as_deref().unwrap_or("(generated)");
        for run in &judged.outcome.runs {
            self.metrics.ran(run);
            if let tidewaiter_engine::outcome::Ended::Failed(error) = &run.ended {
                warn!(uid = %request.uid, namespace, name, policy = %run.policy, %error, "a policy failed");
            }
        }
        if let Some((policy, denial)) = judged.denial() {
            self.metrics.refused(policy.unwrap_or("tidewaiter"), &denial.code);
            info!(
                uid = %request.uid, ?endpoint, namespace, name, kind = %request.kind.kind, policy, code = denial.code, reason = denial.message,
                "refused"
            );
        } else if endpoint == Endpoint::mutate && !judged.outcome.patch.is_empty() {
            for change in &judged.outcome.changes {
                self.metrics.changed(change);
            }
            let fields: Vec<&str> = judged
                .outcome
                .changes
                .iter()
                .map(|change| change.path.as_str())
                .collect();
            info!(uid = %request.uid, namespace, name, kind = %request.kind.kind, changed = ?fields, dry_run = request.dry_run.unwrap_or_default(), "filled in");
        }
    }
}

/// What is known of a request and of who sent it, beside what policies are told. Nothing where a stored object is looked at again.
#[derive(Clone, Copy, Default)]
struct Asker<'a> {
    /// The request's uid, by which the log knows it.
    request: &'a str,
    /// The user's.
    uid: &'a str,
    extra: Option<&'a BTreeMap<String, Vec<String>>>,
}

/// What a review came to, with what became of its effects.
struct Judged {
    outcome: Outcome,
    /// Why credentials could not be had.
    failure: Option<Failure>,
}

/// A refusal of our own.
struct Failure {
    /// The policy that asked for what failed.
    policy: Option<Arc<str>>,
    /// 403 where somebody said no, 500 where nobody answered, 400 where the object is none.
    code: u16,
    denial: Denial,
}

impl Judged {
    fn malformed(message: &str) -> Self {
        let denial = Denial {
            code: "not-an-object".into(),
            message: message.into(),
            path: None,
        };
        Self {
            outcome: Outcome::default(),
            failure: Some(Failure {
                policy: None,
                code: 400,
                denial,
            }),
        }
    }

    fn denial(&self) -> Option<(Option<&str>, &Denial)> {
        if let Some(failure) = &self.failure {
            return Some((failure.policy.as_deref(), &failure.denial));
        }
        self.outcome
            .denial
            .as_ref()
            .map(|(policy, denial)| (Some(&**policy), denial))
    }

    fn code(&self) -> u16 {
        match (&self.failure, &self.outcome.denial) {
            (Some(failure), _) => failure.code,
            (None, Some((_, denial))) if denial.code == POLICY_FAILED => 500,
            _ => 403,
        }
    }

    /// What the user reads. Whose word a refusal is, an admin has to know who looks for its `WasmPolicy`: it is said as among the warnings of a policy whose
    /// refusal doesn't count. What the engine itself says of policies names them.
    fn message(&self) -> Cow<'_, str> {
        match (&self.failure, &self.outcome.denial) {
            (Some(failure), _) => Cow::Borrowed(&failure.denial.message),
            (None, Some((policy, denial))) if !matches!(&*denial.code, POLICY_FAILED | CONTRADICTION) => {
                Cow::Owned(format!("refused by {policy}: {}", denial.message))
            }
            (None, denial) => Cow::Borrowed(denial.as_ref().map_or("", |(_, denial)| &denial.message)),
        }
    }

    fn ending(&self) -> Ending {
        match self.denial() {
            Some(_) if self.code() >= 500 => Ending::failed,
            Some(_) => Ending::refused,
            None if self.outcome.patch.is_empty() => Ending::unchanged,
            None => Ending::patched,
        }
    }

    fn encode(&self, uid: &str) -> Vec<u8> {
        let Outcome {
            patch,
            warnings,
            changes,
            ..
        } = &self.outcome;
        let message = self.message();
        let answer = match self.denial() {
            Some((policy, denial)) => Answer::Denied {
                code: self.code(),
                message: &message,
                policy,
                denial,
                warnings,
            },
            None => Answer::Allowed {
                patch,
                warnings,
                changes,
            },
        };
        encode(uid, &answer)
    }
}

/// A validating webhook can't change the object, and needs not: what is still to be filled in here came by a way around `/mutate`.
fn note_bypass(outcome: &mut Outcome) {
    if outcome.denial.is_none() && !outcome.changes.is_empty() {
        let fields: Vec<String> = outcome.changes.iter().map(|change| member(&change.path)).collect();
        let line = format!("tidewaiter: apply this again, it came without {}", fields.join(", "));
        // In place of the lines that speak of these fields as filled in: each change has one, first of all.
        let told = outcome.changes.len().min(outcome.warnings.len());
        outcome.warnings.splice(..told, [cut(line)]);
    }
    outcome.patch.clear();
    outcome.changes.clear();
}

/// The name of the member that a JSON Pointer ends with.
fn member(pointer: &str) -> String {
    pointer
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .replace("~1", "/")
        .replace("~0", "~")
}

/// At most the 120 characters that a warning line may have.
fn cut(line: String) -> String {
    match line.char_indices().nth(119) {
        Some((end, last)) if end + last.len_utf8() < line.len() => line[..end].to_owned() + "…",
        _ => line,
    }
}

/// What whoever deletes a backend is told, of the namespaces that have its credentials, and of when the first of them ends.
fn leaving(backend: &str, namespaces: &[String], ends: Option<Timestamp>) -> [String; 2] {
    const NAMED: usize = 3;
    let (first, rest) = namespaces.split_at(namespaces.len().min(NAMED));
    let more = if rest.is_empty() {
        String::new()
    } else {
        format!(" and {} more", rest.len())
    };
    [
        format!(
            "tidewaiter: services in {}{more} have the credentials of {backend}",
            first.join(", ")
        ),
        match ends {
            Some(ends) => format!(
                "tidewaiter: these keys are renewed no more, and end from {} on: what starts later can't load its model",
                ends.strftime("%Y-%m-%d %H:%MZ")
            ),
            None => "tidewaiter: these credentials stay as they are, and are renewed no more".to_owned(),
        },
    ]
}

#[cfg(test)]
mod leaving_tests {
    use super::*;

    #[test]
    fn whoever_deletes_a_backend_is_told_when_its_minted_keys_end() {
        let namespaces: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
        let ends = "2026-12-24T18:05:59Z".parse().ok();
        let told = leaving("minio", &namespaces, ends);
        assert_eq!(
            told,
            [
                "tidewaiter: services in a, b, c and 1 more have the credentials of minio",
                "tidewaiter: these keys are renewed no more, and end from 2026-12-24 18:05Z on: what starts later can't load its model",
            ]
        );
        assert!(told.iter().all(|line| line.len() <= 120), "it is cut");
        let [_, copied] = leaving("minio", &namespaces, None);
        assert_eq!(
            copied,
            "tidewaiter: these credentials stay as they are, and are renewed no more"
        );
    }
}

#[cfg(test)]
#[path = "leaves_tests.rs"]
mod leaves_tests;
