//! What holds for every policy, checked by generated objects, each as it is created and as an update that changes a little of it.
//!
//! | law | what is checked |
//! |---|---|
//! | `answers` | It gives a verdict that can be used: no trap, no time or memory over its limit, no fill that can't be. Also of one object that is large. |
//! | `idempotent` | A second pass over its own answer changes nothing: on create, on update, and where a tool sends the bare manifest again. |
//! | `deterministic` | The same request gives the same verdict, also with the members of objects, the labels of the namespace and the groups of the user in another order. |
//! | `users-word` | Where the user has another value at a place that it fills, it fills nothing there, and refuses nothing for it but with codes that are known. |
//! | `no-leak` | Texts in its settings stand in no denial, warning, fill or line of its log, unless they are marked as shown. |

mod broken;
mod canary;
mod objects;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Serialize;
use serde_json::{Map, Value};
use tidewaiter_core::policy_resource::ObjectKind;
use tidewaiter_engine::{Engine, Limits, LoadedPolicy};

use crate::subject::load;
use crate::suite::{CaseFile, Checks, namespace};
use crate::world::{Given, GivenError, Prepared};
use broken::Trial;
use objects::PADDING_KIB;

/// Steps towards a simpler object, at most.
const SHRINKS: usize = 400;

/// What holds for every policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// It gives a verdict that can be used.
    Answers,
    /// A second pass changes nothing.
    Idempotent,
    /// The same request gives the same verdict.
    Deterministic,
    /// The user's word wins.
    UsersWord,
    /// No setting is shown that isn't marked as shown.
    NoLeak,
}

impl Law {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Answers,
        Self::Idempotent,
        Self::Deterministic,
        Self::UsersWord,
        Self::NoLeak,
    ];

    /// As `checks.skip` of a file of cases names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Idempotent => "idempotent",
            Self::Deterministic => "deterministic",
            Self::UsersWord => "users-word",
            Self::NoLeak => "no-leak",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a law stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The law.
    pub law: Law,
    /// Objects that it was checked with.
    pub objects: u32,
    /// What was not checked, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What breaks it, with the simplest object that was found to do so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
}

/// A law that doesn't hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// What happened.
    pub message: String,
    /// What to do.
    pub next: String,
    /// With this object.
    pub object: Value,
    /// And these settings.
    pub settings: Map<String, Value>,
}

/// How laws are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Objects for each law. Default: 64.
    pub objects: u32,
    /// The same seed gives the same objects. Default: 0.
    pub seed: u64,
}

impl Default for Draw {
    fn default() -> Self {
        Self { objects: 64, seed: 0 }
    }
}

/// Why laws can't be checked.
#[derive(Debug, thiserror::Error)]
pub enum LawsError {
    /// The policy takes no settings that anything says.
    #[error("laws can't be checked: {0}; give settings in a file of cases, or leave the checks out with --objects 0")]
    Load(String),
    /// A world that can't be.
    #[error(transparent)]
    World(#[from] GivenError),
    /// A name in `checks.skip` that is no law.
    #[error("checks.skip: there is no law `{0}`, only answers, idempotent, deterministic, users-word and no-leak")]
    Unknown(String),
}

/// A policy with what its cases say of settings and world, to be checked.
#[derive(Clone, Debug)]
pub struct Laws {
    /// Runs it.
    pub engine: Engine,
    /// The policy.
    pub component: Bytes,
    /// Its own name.
    pub name: String,
    /// Kinds that it may get by name.
    pub objects: Vec<ObjectKind>,
    /// The JSON Schema of its settings.
    pub schema: Option<Value>,
    /// What one run may take.
    pub limits: Limits,
}

/// Settings and a world that go together.
struct Context {
    settings: Map<String, Value>,
    world: Given,
    policy: LoadedPolicy,
    prepared: Prepared,
}

impl Laws {
    /// Checks all laws. Each settings with its world that a case has is checked with its share of the objects.
    ///
    /// # Errors
    /// Where nothing can be checked.
    pub async fn check(&self, files: &[CaseFile], draw: Draw) -> Result<Vec<Checked>, LawsError> {
        let checks = merged(files);
        for name in checks.skip.keys() {
            if !Law::ALL.iter().any(|law| law.name() == name) {
                return Err(LawsError::Unknown(name.clone()));
            }
        }
        let contexts = self.contexts(files).await?;
        let bases: Vec<Value> = files
            .iter()
            .flat_map(|file| &file.cases)
            .filter_map(|case| case.object.clone())
            .collect();
        let known: Vec<String> = files
            .iter()
            .flat_map(|file| &file.cases)
            .filter_map(|case| case.expect.as_ref()?.denial.as_ref()?.code.clone())
            .chain(checks.may_deny.iter().cloned())
            .collect();
        let mut all = Vec::new();
        for law in Law::ALL {
            all.push(match checks.skip.get(law.name()) {
                Some(reason) => Checked {
                    law,
                    objects: 0,
                    left_out: vec![format!("left out by the cases: {reason}")],
                    broken: None,
                },
                None => self.law(law, &contexts, &bases, &known, &checks, draw).await,
            });
        }
        Ok(all)
    }

    async fn law(
        &self,
        law: Law,
        contexts: &[Context],
        bases: &[Value],
        known: &[String],
        checks: &Checks,
        draw: Draw,
    ) -> Checked {
        let mut checked = Checked {
            law,
            objects: 0,
            left_out: Vec::new(),
            broken: None,
        };
        let each = draw
            .objects
            .div_ceil(u32::try_from(contexts.len()).unwrap_or(u32::MAX).max(1));
        for (index, context) in contexts.iter().enumerate() {
            let (policy, canaries, settings) = if law == Law::NoLeak {
                let planted = canary::plant(self, &context.settings, &checks.shows).await;
                checked.left_out.extend(planted.left_out);
                let Some(policy) = planted.policy else { continue };
                (policy, planted.canaries, planted.settings)
            } else {
                (context.policy.clone(), Vec::new(), context.settings.clone())
            };
            let trial = Trial {
                law,
                policy: &policy,
                prepared: &context.prepared,
                known,
                canaries: &canaries,
            };
            let mut runner = runner(draw.seed, law, index);
            let services = objects::services(bases);
            for _ in 0..each {
                let Ok(mut tree) = services.new_tree(&mut runner) else {
                    break;
                };
                checked.objects += 1;
                let Some(mut found) = trial.broken(&tree.current()).await else {
                    continue;
                };
                let mut object = tree.current();
                let mut more = tree.simplify();
                for _ in 0..SHRINKS {
                    if !more {
                        break;
                    }
                    let simpler = tree.current();
                    if let Some(still) = trial.broken(&simpler).await {
                        (found, object) = (still, simpler);
                        more = tree.simplify();
                    } else {
                        more = tree.complicate();
                    }
                }
                checked.broken = Some(Broken {
                    message: found.message,
                    next: found.next,
                    object,
                    settings,
                });
                return checked;
            }
            if law == Law::Answers && index == 0 {
                checked.objects += 1;
                checked.broken = too_large(&trial, bases, settings).await;
                if checked.broken.is_some() {
                    return checked;
                }
            }
        }
        checked.left_out.dedup();
        if checked.objects == 0 && checked.left_out.is_empty() {
            let nothing = "nothing to check: no setting is a text that users may not see";
            checked.left_out.push(nothing.to_owned());
        }
        checked
    }

    /// Settings and worlds that cases have, each pair once. Those whose settings are refused, as a case may expect it, are left out.
    async fn contexts(&self, files: &[CaseFile]) -> Result<Vec<Context>, LawsError> {
        let mut wanted: Vec<(Map<String, Value>, Given, String)> = Vec::new();
        for file in files {
            for case in file.cases.iter().filter(|case| case.settings_refused().is_none()) {
                let settings = case.settings.as_ref().unwrap_or(&file.settings);
                let world = case.world.as_ref().unwrap_or(&file.world);
                if !wanted
                    .iter()
                    .any(|(known, other, _)| known == settings && other == world)
                {
                    wanted.push((settings.clone(), world.clone(), namespace(case).to_owned()));
                }
            }
        }
        if wanted.is_empty() {
            wanted.push((Map::new(), Given::default(), "team-a".to_owned()));
        }
        let mut contexts = Vec::new();
        let mut refused = None;
        for (settings, world, namespace) in wanted {
            match load(&self.engine, &self.name, &self.component, &settings, self.limits).await {
                Ok(policy) => contexts.push(Context {
                    prepared: Prepared::new(&world, &namespace, &self.name, &self.objects)?,
                    settings,
                    world,
                    policy,
                }),
                Err(error) => refused = Some(error.to_string()),
            }
        }
        match refused {
            Some(reason) if contexts.is_empty() => Err(LawsError::Load(reason)),
            _ => Ok(contexts),
        }
    }
}

/// Whether a policy that answers otherwise fails for an object's size. One object is enough, as it costs what many small ones do; it is shown without what it
/// is padded by.
async fn too_large(trial: &Trial<'_>, bases: &[Value], settings: Map<String, Value>) -> Option<Broken> {
    let (object, padded) = objects::large(bases)?;
    let found = trial.broken(&padded).await?;
    Some(Broken {
        message: format!("with {PADDING_KIB} annotations of 1 KiB more than are shown: {}", found.message),
        next: "whoever pads an object gets round a policy that may be ignored: read no more of it than is needed, and have `failurePolicy: fail` in the WasmPolicy"
            .to_owned(),
        object,
        settings,
    })
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .field("world", &self.world)
            .finish_non_exhaustive()
    }
}

/// What all files say of checks.
fn merged(files: &[CaseFile]) -> Checks {
    let mut merged = Checks::default();
    for Checks { may_deny, shows, skip } in files.iter().map(|file| file.checks.clone()) {
        merged.may_deny.extend(may_deny);
        merged.shows.extend(shows);
        merged.skip.extend(skip);
    }
    merged
}

/// The same objects for the same seed, whatever was checked before.
fn runner(seed: u64, law: Law, context: usize) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8] = law as u8;
    bytes[9..17].copy_from_slice(&(context as u64).to_le_bytes());
    TestRunner::new_with_rng(
        Config {
            failure_persistence: None,
            ..Config::default()
        },
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
    )
}

/// What a law's check is handed around with.
type World = Arc<dyn tidewaiter_engine::world::World>;
