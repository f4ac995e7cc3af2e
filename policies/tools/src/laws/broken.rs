//! One law, one object: does it hold?

use serde_json::Value;
use tidewaiter_core::document::Path;
use tidewaiter_engine::outcome::{Denial, Fill, Verdict};
use tidewaiter_engine::{Failure, LoadedPolicy};

use super::canary::Canary;
use super::objects::{another, backwards, before, set};
use super::{Law, World};
use crate::said::listening;
use crate::subject::Ask;
use crate::told::Told;
use crate::world::Prepared;

/// Fills of one verdict that the user's word is tried against.
const FILLS: usize = 8;

/// What happened, and what to do.
pub(super) struct Found {
    pub(super) message: String,
    pub(super) next: String,
}

#[allow(clippy::unnecessary_wraps, reason = "it is what a law's check ends with")]
fn found(message: String, next: &str) -> Option<Found> {
    let next = next.to_owned();
    Some(Found { message, next })
}

/// A request that a law is tried with.
struct Asked {
    ask: Ask,
    /// The object before it, where it is an update.
    old: Option<Value>,
    /// How what is found begins.
    how: String,
}

/// The object as it is created, and as it takes the place of one that was a little different.
fn asked(object: &Value) -> Vec<Asked> {
    let Ok(create) = Ask::create(object) else {
        return Vec::new();
    };
    let (place, old) = before(object);
    let update = create.clone().update(&old).ok().map(|ask| Asked {
        ask,
        old: Some(old),
        how: format!("on an update that changes {place}: "),
    });
    let create = Asked {
        ask: create,
        old: None,
        how: String::new(),
    };
    [create].into_iter().chain(update).collect()
}

/// A law, and the policy to check it with.
pub(super) struct Trial<'t> {
    pub(super) law: Law,
    pub(super) policy: &'t LoadedPolicy,
    pub(super) prepared: &'t Prepared,
    pub(super) known: &'t [String],
    pub(super) canaries: &'t [Canary],
}

impl Trial<'_> {
    /// How the law is broken with this object.
    pub(super) async fn broken(&self, object: &Value) -> Option<Found> {
        match self.law {
            Law::Answers => self.answers(object).await,
            Law::Idempotent => self.idempotent(object).await,
            Law::Deterministic => self.deterministic(object).await,
            Law::UsersWord => self.users_word(object).await,
            Law::NoLeak => self.no_leak(object).await,
        }
    }

    fn world(&self, ask: &Ask, reversed: bool) -> World {
        self.prepared.around(ask.namespace(), reversed)
    }

    async fn told(&self, ask: &Ask) -> Told {
        ask.told(self.policy, self.world(ask, false)).await
    }

    async fn verdict(&self, ask: &Ask, reversed: bool) -> Result<Verdict, Failure> {
        let answer = ask.answer(self.policy, self.world(ask, reversed)).await;
        answer.map(|answer| answer.verdict)
    }

    async fn answers(&self, object: &Value) -> Option<Found> {
        for Asked { ask, how, .. } in asked(object) {
            let told = self.told(&ask).await;
            if let Some(failure) = told.failures.first() {
                return found(
                    format!("{how}the policy {}", failure.reason),
                    "a policy has to cope with every object that the API server takes: what it expects may be missing, and an amount may be a text or a number",
                );
            }
        }
        None
    }

    async fn idempotent(&self, object: &Value) -> Option<Found> {
        let next = "decide by what the user wrote and the world says, never by what was filled in (`filled`), by the operation, or by what the last pass did";
        let first = self.told(&Ask::create(object).ok()?).await;
        let stored = first.object.filter(|_| first.failures.is_empty())?;
        let again = Ask::create(&stored).ok()?;
        let unchanged = again.clone().update(&stored).ok()?;
        let resent = Ask::create(object).ok()?.update(&stored).ok()?;
        for (ask, what) in [
            (again, "a second pass over its own answer"),
            (unchanged, "an update of its own answer by itself"),
            (resent, "an update by the manifest as it was sent first"),
        ] {
            // Whatever the server makes of an object that stands still, the policy has to agree with itself.
            let outcome = tidewaiter_engine::review(
                std::slice::from_ref(self.policy),
                &ask.review(),
                self.world(&ask, false),
                crate::world::BUDGET,
            )
            .await;
            let told = Told::new(&outcome, ask.object());
            if let Some(denial) = told.denial {
                return found(
                    format!(
                        "it admits the object, and refuses {what} ({}): {}",
                        denial.code, denial.message
                    ),
                    next,
                );
            }
            if told.object.as_ref() != Some(&stored) {
                let changes: Vec<_> = told
                    .fills
                    .iter()
                    .filter(|fill| Some(&fill.value.clone().unwrap_or_default()) != stored.pointer(&fill.path))
                    .map(|fill| match &fill.value {
                        Some(value) => format!("{} = {value}", fill.path),
                        None => format!("{} is taken out", fill.path),
                    })
                    .collect();
                return found(format!("{what} changes it again: {}", changes.join(", ")), next);
            }
        }
        None
    }

    async fn deterministic(&self, object: &Value) -> Option<Found> {
        for Asked { ask, old, how } in asked(object) {
            let Ok(first) = self.verdict(&ask, false).await else {
                continue;
            };
            let same =
                |other: &Result<Verdict, Failure>| other.as_ref().is_ok_and(|other| sorted(other) == sorted(&first));
            let second = self.verdict(&ask, false).await;
            if !same(&second) {
                return found(
                    format!("{how}the same request gives two verdicts:\n{}", both(&first, &second)),
                    "a policy may not depend on chance, time, or anything that it keeps",
                );
            }
            let mut turned = Ask::written(object, &backwards(object)).ok()?.reversed();
            if let Some(old) = old {
                turned = turned.update_written(&backwards(&old)).ok()?;
            }
            let other = self.verdict(&turned, true).await;
            if !same(&other) {
                return found(
                    format!(
                        "{how}the verdict depends on the order of the object's members, the namespace's labels or the user's groups, which says nothing:\n{}",
                        both(&first, &other)
                    ),
                    "look a member or a label up by its name, and sort a list before you choose from it",
                );
            }
        }
        None
    }

    async fn users_word(&self, object: &Value) -> Option<Found> {
        for (index, Asked { ask, .. }) in asked(object).into_iter().enumerate() {
            let Ok(verdict) = self.verdict(&ask, false).await else {
                continue;
            };
            if verdict.denial.is_some() {
                continue;
            }
            for fill in verdict.fills.iter().take(FILLS) {
                let (Some(path), Ok(value)) = (Path::parse(&fill.path), serde_json::from_str::<Value>(&fill.value))
                else {
                    continue;
                };
                let own = match object.pointer(&fill.path) {
                    // It fills in over what the user wrote already.
                    Some(own) if *own != value => own.clone(),
                    Some(_) => continue,
                    None => another(&value),
                };
                let mut users = object.clone();
                set(&mut users, &fill.path, own.clone());
                if users.pointer(&fill.path) != Some(&own) {
                    continue;
                }
                // Asked in the same way: created, or updated.
                let Some(Asked { ask, how, .. }) = asked(&users).into_iter().nth(index) else {
                    continue;
                };
                if let Some(mut found) = self.overruled(&ask, &fill.path, &path, &own).await {
                    found.message.insert_str(0, &how);
                    return Some(found);
                }
            }
        }
        None
    }

    /// Whether the policy is at odds with a value that the user chose.
    async fn overruled(&self, ask: &Ask, place: &str, path: &Path, own: &Value) -> Option<Found> {
        let users = ask.object();
        let verdict = match self.verdict(ask, false).await {
            Ok(verdict) => verdict,
            Err(failure) => {
                return found(
                    format!("with the user's own {place} = {own} the policy {failure}"),
                    "a user may have a value of their own wherever the policy fills one in",
                );
            }
        };
        let over = |fill: &&Fill| {
            Path::parse(&fill.path).is_some_and(|other| other.contains(path) || path.contains(&other))
                && serde_json::from_str::<Value>(&fill.value).ok().as_ref() != users.pointer(&fill.path)
        };
        if let Some(fill) = verdict.fills.iter().find(over) {
            return found(
                format!(
                    "the user has {place} = {own}, and it fills in {} = {}: Tidewaiter drops that, with a warning to the user",
                    fill.path, fill.value
                ),
                "look whether the user has a value there, and fill nothing in where they do; warn or refuse where it can't work",
            );
        }
        let denial = verdict.denial.filter(|denial| !self.known.contains(&denial.code))?;
        let Denial { code, message, .. } = denial;
        found(
            format!("it refuses the object for the user's own {place} = {own} ({code}): {message}"),
            "a user's own value is no reason to refuse; where it is one, have a case that expects this denial, or name its code in checks.mayDeny",
        )
    }

    async fn no_leak(&self, object: &Value) -> Option<Found> {
        for Asked { ask, how, .. } in asked(object) {
            let (verdict, log) = listening(self.verdict(&ask, false)).await;
            let mut said: Vec<(String, &str)> = Vec::new();
            if let Ok(verdict) = &verdict {
                said.extend(shown(verdict));
            }
            // Also of a policy that fails: many a runtime prints why.
            said.extend(
                log.iter()
                    .map(|line| ("a line of its log".to_owned(), line.message.as_str())),
            );
            for canary in self.canaries {
                if let Some((place, _)) = said.iter().find(|(_, text)| text.contains(&canary.text)) {
                    return found(
                        format!("{how}the value of the setting {} stands in {place}", canary.path),
                        "leave it out, or where everybody may see it say so: `x-shown: true` beside the setting in the schema, or checks.shows in the cases",
                    );
                }
            }
        }
        None
    }
}

/// What users see of a verdict, and where.
fn shown(verdict: &Verdict) -> Vec<(String, &str)> {
    let mut said: Vec<(String, &str)> = Vec::new();
    if let Some(denial) = &verdict.denial {
        said.push(("its denial's message".to_owned(), &denial.message));
        said.push(("its denial's code".to_owned(), &denial.code));
    }
    said.extend(
        verdict
            .warnings
            .iter()
            .map(|line| ("a warning".to_owned(), line.as_str())),
    );
    for fill in &verdict.fills {
        said.push((format!("the fill of {}", fill.path), &fill.value));
        said.push((format!("the reason for the fill of {}", fill.path), &fill.reason));
    }
    said
}

/// A verdict without the order in which it lists things.
#[derive(PartialEq)]
struct Sorted {
    denial: Option<[String; 3]>,
    fills: Vec<(String, Value)>,
    warnings: Vec<String>,
    effects: Vec<String>,
}

fn sorted(verdict: &Verdict) -> Sorted {
    let denial = verdict.denial.as_ref();
    let value = |fill: &Fill| serde_json::from_str(&fill.value).unwrap_or_else(|_| Value::from(fill.value.as_str()));
    let fills = verdict.fills.iter().map(|fill| (fill.path.clone(), value(fill)));
    let mut sorted = Sorted {
        denial: denial.map(|denial| {
            let path = denial.path.clone().unwrap_or_default();
            [denial.code.clone(), denial.message.clone(), path]
        }),
        fills: fills.collect(),
        warnings: verdict.warnings.clone(),
        effects: verdict.effects.iter().map(|effect| format!("{effect:?}")).collect(),
    };
    sorted.fills.sort_by(|a, b| a.0.cmp(&b.0));
    sorted.warnings.sort();
    sorted.effects.sort();
    sorted
}

fn both(first: &Verdict, second: &Result<Verdict, Failure>) -> String {
    let told = |verdict: &Verdict| {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(
            verdict
                .denial
                .iter()
                .map(|denial| format!("refused ({}): {}", denial.code, denial.message)),
        );
        lines.extend(
            verdict
                .fills
                .iter()
                .map(|fill| format!("{} = {}", fill.path, fill.value)),
        );
        lines.extend(verdict.warnings.iter().cloned());
        if lines.is_empty() {
            "nothing".to_owned()
        } else {
            lines.join("; ")
        }
    };
    let second = match second {
        Ok(verdict) => told(verdict),
        Err(failure) => format!("the policy {failure}"),
    };
    format!("  first: {}\n  then:  {second}", told(first))
}
