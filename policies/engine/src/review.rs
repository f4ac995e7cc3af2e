//! One review: the policies in order, their fills merged, the difference as a JSON Patch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidewaiter_core::document::{Document, Path};
use tidewaiter_core::filled::{self, Filled, Record, Stripped};
use tidewaiter_core::lines;
use tidewaiter_core::policy_resource::{FailurePolicy, Mode};
use tidewaiter_core::service::is_stopped;
use tokio::time::Instant;

use crate::bindings::tidewaiter::policy::types::{Effect as Wish, Entry, Request};
use crate::failure::Failure;
use crate::load::{LoadedPolicy, Terms};
use crate::merge::{self, Merge, Merged};
use crate::outcome::{Change, Denial, Effect, Ended, Operation, Outcome, Review, Run};
use crate::patch;
use crate::run::{self, Ran};
use crate::untouched::ignored;
use crate::world::World;

/// Who speaks where no policy does.
const OURSELVES: &str = "tidewaiter";
/// Characters of a denial's code.
const CODE: usize = 63;

/// Reviews an object: each policy on a fresh instance, in order, each seeing what those before it filled in. Ends within the budget, in which all
/// policies and their host calls share. Whether the object needs a review at all is [`untouched`](crate::untouched())'s to say.
pub async fn review(
    policies: &[LoadedPolicy],
    review: &Review<'_>,
    world: Arc<dyn World>,
    budget: Duration,
) -> Outcome {
    review_by(policies, review, world, budget).await
}

/// Who gives a verdict: a loaded policy, or a test in the place of one.
trait Reviewer: Sync {
    fn terms(&self) -> &Terms;
    fn review(
        &self,
        request: &Request,
        world: &Arc<dyn World>,
        object: &Arc<str>,
        deadline: Instant,
    ) -> impl Future<Output = Ran> + Send;
}

impl Reviewer for LoadedPolicy {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn review(&self, request: &Request, world: &Arc<dyn World>, object: &Arc<str>, deadline: Instant) -> Ran {
        match &self.loaded {
            Ok(loaded) => run::review(loaded, request, world, object, deadline).await,
            Err(failure) => Ran {
                result: Err(failure.clone()),
                took: Duration::ZERO,
                host: Duration::ZERO,
            },
        }
    }
}

/// What the first policy of a review is asked.
pub(crate) fn request(review: &Review<'_>, world: &Arc<dyn World>) -> Request {
    Pass::new(review, Arc::clone(world), Instant::now()).request
}

async fn review_by<P: Reviewer>(
    policies: &[P],
    review: &Review<'_>,
    world: Arc<dyn World>,
    budget: Duration,
) -> Outcome {
    let mut pass = Pass::new(review, world, Instant::now() + budget);
    for (index, policy) in policies.iter().enumerate() {
        let Some(denial) = pass.ask(policy).await else { continue };
        // A failure under `fail` is not the object's fault, old or new: it is for the admin, who asked for it to be in the way.
        let enforced = policy.terms().mode == Mode::Enforce && !is_stopped(&pass.merge.object);
        let counts = enforced && (pass.failed() || !pass.denied_before(&policies[..=index], review, &denial).await);
        if counts {
            pass.outcome.denial = Some((Arc::clone(&policy.terms().name), denial));
            pass.ended(Ended::Denied);
            return pass.refused();
        }
        // In full: the way out stands at a message's end.
        let said = pass.outcome.warnings.len();
        pass.outcome.warnings.extend(lines::wrapped(&format!(
            "tidewaiter: would be refused by {}: {}",
            policy.terms().name,
            denial.message
        )));
        if let Some(run) = pass.outcome.runs.last_mut() {
            run.warnings += pass.outcome.warnings.len() - said;
        }
        if enforced && pass.outcome.standing.is_none() {
            pass.outcome.standing = Some((Arc::clone(&policy.terms().name), denial));
        }
        pass.keeps = true;
        pass.ended(Ended::DeniedInVain);
    }
    pass.finish()
}

/// As it can stand in an answer, a log and a metric.
fn readable(denial: Denial) -> Denial {
    Denial {
        code: lines::cut(&denial.code, CODE),
        message: lines::cut(&denial.message, lines::MESSAGE),
        path: denial.path.map(|path| lines::cut(&path, lines::MESSAGE)),
    }
}

/// The policies on one object, one after the other.
struct Pass<'a> {
    review: Review<'a>,
    world: Arc<dyn World>,
    deadline: Instant,
    /// For the log.
    object: Arc<str>,
    request: Request,
    /// The object became another one since the request was written.
    filled_in: bool,
    merge: Merge,
    outcome: Outcome,
    /// What one of the policies stands by is unknown: it failed, or it refused in vain, and who refuses fills in nothing. What stands stays.
    keeps: bool,
    /// Fills of policies in audit mode that stand from the time when they counted.
    audited: Vec<Path>,
}

impl<'a> Pass<'a> {
    fn new(review: &Review<'a>, world: Arc<dyn World>, deadline: Instant) -> Self {
        let Stripped {
            object,
            filled,
            withheld,
        } = filled::strip(review.object.clone(), review.old_object);
        let old = review.old_object.map(filled::without_managed_fields);
        // Of an update only the stored object proves what an earlier admission filled in: a record that came with the new one is whoever's word.
        let earlier = |filled: &Filled| filled.vouched || review.old_object.is_none();
        let request = Request {
            operation: review.operation,
            api_version: review.api_version.to_owned(),
            kind: review.kind.to_owned(),
            namespace: review.namespace.to_owned(),
            name: review.name.to_owned(),
            object: object.as_str().to_owned(),
            old_object: old.map(Document::into_string),
            filled: filled
                .iter()
                .filter(|(_, filled)| earlier(filled))
                .map(|(path, filled)| Entry {
                    path: filled::physical(path, &object).to_string(),
                    value: filled.value.to_string(),
                })
                .collect(),
            withheld: withheld
                .iter()
                .map(|path| filled::physical(path, &object).to_string())
                .collect(),
            username: review.username.to_owned(),
            groups: review.groups.to_vec(),
        };
        Self {
            review: *review,
            world,
            deadline,
            object: format!("{}/{}", review.namespace, review.name).into(),
            request,
            filled_in: false,
            merge: Merge {
                object,
                fills: BTreeMap::new(),
                standing: filled,
                withheld,
            },
            outcome: Outcome::default(),
            keeps: false,
            audited: Vec::new(),
        }
    }

    /// Runs one policy, which sees what those before it filled in, and takes in its verdict. A denial is for the caller to judge; everything else of that verdict is taken in then too.
    async fn ask(&mut self, policy: &impl Reviewer) -> Option<Denial> {
        if std::mem::take(&mut self.filled_in) {
            self.merge.object.as_str().clone_into(&mut self.request.object);
        }
        let began = std::time::Instant::now();
        let ran = policy
            .review(&self.request, &self.world, &self.object, self.deadline)
            .await;
        self.take(policy.terms(), began, ran)
    }

    fn take(&mut self, policy: &Terms, began: std::time::Instant, ran: Ran) -> Option<Denial> {
        let (took, host, name) = (ran.took, ran.host, &policy.name);
        let verdict = ran.result.and_then(|verdict| {
            if !policy.delivers && !verdict.effects.is_empty() {
                return Err(Failure::Verdict(
                    "it asks for credentials, and doesn't have the capability `storage`".to_owned(),
                ));
            }
            let fills = merge::parse(verdict.fills)?;
            self.merge.check(name, self.review.kind, &fills)?;
            Ok((fills, verdict.warnings, verdict.effects, verdict.denial.map(readable)))
        });
        let said = self.outcome.warnings.len();
        let before = said + self.outcome.effects.len() + self.merge.fills.len();
        let mut ended = Ended::Passed;
        let mut denial = None;
        match verdict {
            Ok((fills, warnings, effects, denied)) => {
                denial = denied;
                for fill in &fills {
                    denial = self.fill(policy, fill).or(denial);
                }
                self.outcome
                    .warnings
                    .extend(warnings.iter().map(|warning| lines::line(warning)));
                if policy.mode == Mode::Enforce {
                    self.wish(name, effects);
                }
            }
            Err(failure) => {
                ended = Ended::Failed(failure.to_string());
                match policy.failure {
                    FailurePolicy::Fail => {
                        denial = Some(Denial {
                            code: "policy-failed".to_owned(),
                            message: format!(
                                "the policy {name} {failure}; its failure policy is `fail`, so nothing is admitted without it: {}",
                                failure.advice(name)
                            ),
                            path: None,
                        });
                    }
                    FailurePolicy::Ignore => {
                        self.keeps = true;
                        // In full: which fill it was stands at the end.
                        self.outcome.warnings.extend(lines::wrapped(&format!(
                            "tidewaiter: admitted without the policy {name}, which {failure}"
                        )));
                    }
                }
            }
        }
        if ended == Ended::Passed
            && self.outcome.warnings.len() + self.outcome.effects.len() + self.merge.fills.len() > before
        {
            ended = Ended::Acted;
        }
        self.outcome.runs.push(Run {
            policy: Arc::clone(name),
            began,
            took,
            host,
            ended,
            warnings: self.outcome.warnings.len() - said,
        });
        denial
    }

    /// Takes in one fill. A denial where it contradicts another.
    fn fill(&mut self, policy: &Terms, fill: &merge::Wanted) -> Option<Denial> {
        let name = &policy.name;
        if policy.mode == Mode::Audit {
            let standing = self.merge.standing.get(&fill.path).filter(|standing| standing.vouched);
            if standing.is_some() {
                self.audited.push(fill.path.clone());
            }
            let changes = standing.is_none_or(|standing| standing.value != fill.value);
            match self.merge.judge(name, fill) {
                Merged::Taken if changes => {
                    let (place, value) = (lines::place(&fill.path), lines::value(&fill.value));
                    self.outcome.warnings.push(lines::line(&format!(
                        "tidewaiter: {name} would fill {place} = {value}: {}",
                        fill.reason
                    )));
                }
                Merged::Taken | Merged::Idle => {}
                Merged::Dropped(line) => self.outcome.warnings.push(lines::line(&line)),
                Merged::Contradiction(denial) => {
                    let line = format!("tidewaiter: would be refused: {}", denial.message);
                    self.outcome.warnings.extend(lines::wrapped(&line));
                }
            }
            return None;
        }
        match self.merge.fill(name, fill) {
            Merged::Taken => self.filled_in = true,
            Merged::Idle => {}
            Merged::Dropped(line) => self.outcome.warnings.push(lines::line(&line)),
            Merged::Contradiction(denial) => return Some(denial),
        }
        None
    }

    fn wish(&mut self, policy: &Arc<str>, effects: Vec<Wish>) {
        for Wish::Credentials(wish) in effects {
            let known = |effect: &Effect| effect.backend == wish.backend && effect.delivery == wish.delivery;
            if !self.outcome.effects.iter().any(known) {
                self.outcome.effects.push(Effect {
                    policy: Arc::clone(policy),
                    backend: wish.backend,
                    delivery: wish.delivery,
                });
            }
        }
    }

    /// Whether the last policy failed.
    fn failed(&self) -> bool {
        let last = self.outcome.runs.last();
        last.is_some_and(|run| matches!(run.ended, Ended::Failed(_)))
    }

    /// Whether the last of these policies would have denied the stored object in the same words: then this update is not to blame.
    async fn denied_before(&self, policies: &[impl Reviewer], review: &Review<'_>, denial: &Denial) -> bool {
        let (Operation::Update, Some(old)) = (review.operation, review.old_object) else {
            return false;
        };
        // It was admitted because it stood still, or looked away from. To start it, or to be looked at again, is to arrive.
        if is_stopped(old) || ignored(old) {
            return false;
        }
        let review = Review { object: old, ..*review };
        let mut pass = Pass::new(&review, Arc::clone(&self.world), self.deadline);
        let mut last = None;
        for policy in policies {
            last = pass.ask(policy).await;
        }
        last.is_some_and(|old| (&old.code, &old.message, &old.path) == (&denial.code, &denial.message, &denial.path))
    }

    fn ended(&mut self, how: Ended) {
        if let Some(run) = self.outcome.runs.last_mut()
            && !matches!(run.ended, Ended::Failed(_))
        {
            run.ended = how;
        }
    }

    fn refused(mut self) -> Outcome {
        self.outcome.effects.clear();
        self.outcome
    }

    /// The object as it becomes, its record, and the way there from the object as it came.
    fn finish(mut self) -> Outcome {
        let came = self.review.object;
        let (keeps, audited) = (self.keeps, &self.audited);
        // Only the stored object proves that something is ours. What a new object says of itself could hide a field from the policies that count,
        // if it stayed without one of them that stands by it.
        let kept = self
            .merge
            .leftovers(|path, standing| standing.vouched && (keeps || audited.contains(path)));
        let Merge {
            mut object,
            fills,
            standing,
            withheld,
        } = self.merge;
        let ours = fills.iter().map(|(path, fill)| (path, &fill.value)).chain(&kept);
        let record = Record::new(ours, &withheld);
        let annotation = filled::annotation_path();
        // The annotations are a map by now, or nothing: a fill or an old record was in them. If they are garbage, the API server says so.
        if !record.is_empty() {
            let _ = object.set(annotation, &Value::from(record.to_text()));
        }

        let places: Vec<(Path, &Path)> = fills
            .keys()
            .chain(standing.keys())
            .map(|path| (filled::physical(path, &object), path))
            .collect();
        self.outcome.patch = patch::between(came, &object, places.iter().map(|(place, _)| place).chain([annotation]));
        let mut lines = Vec::new();
        for (place, path) in &places {
            let pointer = place.to_string();
            if came.value(place) == object.value(place)
                || self.outcome.changes.iter().any(|change| change.path == pointer)
            {
                continue;
            }
            let change = match fills.get(*path) {
                Some(fill) => Change {
                    policy: Arc::clone(&fill.policy),
                    path: pointer,
                    value: Some(fill.value.clone()),
                    reason: fill.reason.clone(),
                },
                None => Change {
                    policy: OURSELVES.into(),
                    path: pointer,
                    value: kept.get(*path).cloned(),
                    reason: if kept.contains_key(*path) {
                        "it was filled in before"
                    } else {
                        "no policy fills it in any more"
                    }
                    .to_owned(),
                },
            };
            lines.push(match &change.value {
                Some(value) => lines::filled(place, value, &change.reason),
                None => lines::line(&format!(
                    "tidewaiter: took out {}: {}",
                    lines::place(place),
                    change.reason
                )),
            });
            self.outcome.changes.push(change);
        }
        lines.append(&mut self.outcome.warnings);
        self.outcome.warnings = lines;
        self.outcome
    }
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "denial_tests.rs"]
mod denial_tests;
