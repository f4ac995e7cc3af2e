//! Test cases: what a policy is to say of an object, and what it says.

mod case;
mod compare;
mod pattern;
mod snapshot;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value};
use tidewaiter_core::policy_resource::{KSERVE_KINDS, ObjectKind};
use tidewaiter_engine::{Engine, Limits, LoadError, LoadedPolicy};

pub use case::{Case, CaseError, CaseFile, Checks, Expect, Operation, User, read_cases};
pub use pattern::Pattern;
pub use snapshot::SnapshotError;
use snapshot::{Snapshots, Standing};

use crate::subject::{Ask, NAMESPACE, load};
use crate::told::Told;
use crate::trace::{HostCall, Traced};
use crate::world::{Given, Prepared};

/// What came of one case.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The case's sentence.
    pub name: String,
    /// Where it stands.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u64,
    /// What differs from what was expected; nothing where all is well.
    pub differences: Vec<String>,
    /// A snapshot was written anew.
    pub updated: bool,
    /// What the policy said; nothing where it wasn't asked.
    pub told: Told,
    /// What it asked.
    pub calls: Vec<HostCall>,
    /// How long it took, without loading the policy.
    pub took: Duration,
}

/// Why cases can't be tried.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// They can't be read.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// Snapshots can't be read or written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// A policy's component, and what it takes to try it.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Runs it.
    pub engine: Engine,
    /// The policy.
    pub component: Bytes,
    /// Its own name.
    pub name: String,
    /// Kinds that it may get by name.
    pub objects: Vec<ObjectKind>,
    /// What one run may take.
    pub limits: Limits,
}

/// A snapshot that is kept for nothing: the case was called so once, and is held to none now. All cases of each file are to be there.
///
/// # Errors
/// Where snapshots can't be read.
pub fn snapshot_of_no_case(files: &[(PathBuf, CaseFile)]) -> Result<Option<(PathBuf, String)>, SuiteError> {
    for (path, file) in files {
        let found = Snapshots::read(path)?.of_none(&names(file));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn names(file: &CaseFile) -> Vec<&str> {
    file.cases.iter().map(|case| case.name.value.as_str()).collect()
}

impl Suite {
    /// Tries all cases of files. `update` writes their snapshots anew.
    ///
    /// # Errors
    /// Where snapshots can't be read or written. What is wrong with a single case is one of its differences.
    pub async fn run(&self, files: &[(PathBuf, CaseFile)], update: bool) -> Result<Vec<Tried>, SuiteError> {
        let mut tried = Vec::new();
        let mut policies = Policies::default();
        for (path, file) in files {
            let mut snapshots = Snapshots::read(path)?;
            for case in &file.cases {
                tried.push(self.case(path, file, case, &mut policies, &mut snapshots, update).await);
            }
            if update {
                snapshots.write(&names(file))?;
            }
        }
        Ok(tried)
    }

    async fn case(
        &self,
        path: &Path,
        file: &CaseFile,
        case: &Case,
        policies: &mut Policies,
        snapshots: &mut Snapshots,
        update: bool,
    ) -> Tried {
        let mut tried = Tried {
            name: case.name.value.clone(),
            file: path.to_owned(),
            line: case.name.referenced.line(),
            differences: Vec::new(),
            updated: false,
            told: Told::default(),
            calls: Vec::new(),
            took: Duration::ZERO,
        };
        let settings = case.settings.as_ref().unwrap_or(&file.settings);
        let policy = match (policies.get(self, settings).await, case.settings_refused()) {
            (Ok(policy), None) => policy,
            (loaded, wanted) => {
                let error = loaded.err();
                tried.differences.extend(compare::of_settings(wanted, error.as_deref()));
                return tried;
            }
        };
        let world = case.world.as_ref().unwrap_or(&file.world);
        if let Err(reason) = self.review(case, world, &policy, &mut tried).await {
            tried.differences.push(reason);
            return tried;
        }
        if let Some(expect) = &case.expect {
            tried.differences = compare::differences(expect, &tried.told);
        } else if let Some(failure) = tried.told.failures.first() {
            tried
                .differences
                .push(format!("the policy {} failed: it {}", failure.policy, failure.reason));
        }
        match snapshots.judge(&tried.name, &tried.told, update) {
            Standing::Updated => tried.updated = true,
            Standing::None if case.expect.is_none() => tried.differences.push(
                "it expects nothing: say what is to come of it in `expect`, or keep what comes now with --update"
                    .to_owned(),
            ),
            Standing::Same | Standing::None => {}
            Standing::Differs(difference) => tried.differences.push(difference),
        }
        tried
    }

    async fn review(&self, case: &Case, world: &Given, policy: &LoadedPolicy, tried: &mut Tried) -> Result<(), String> {
        let ask = ask(case)?;
        let prepared =
            Prepared::new(world, ask.namespace(), &self.name, &self.objects).map_err(|error| error.to_string())?;
        let traced = Traced::new(prepared.around(ask.namespace(), false));
        let begun = Instant::now();
        tried.told = ask.told(policy, traced.clone()).await;
        tried.took = begun.elapsed();
        tried.calls = traced.calls();
        Ok(())
    }
}

/// The kind, with its API, of an object that no cluster asks policies about.
pub fn asked_about_by_nobody(object: &Value) -> Option<String> {
    let text = |member: &str| object[member].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let is_kserves = api_version.starts_with("serving.kserve.io/") || api_version.is_empty();
    let is_known = is_kserves && (KSERVE_KINDS.contains(&kind) || kind.is_empty());
    (!is_known).then(|| format!("{kind} in {api_version}"))
}

/// A case as a request.
pub(crate) fn ask(case: &Case) -> Result<Ask, String> {
    let object = case.object.clone().unwrap_or_default();
    if let Some(kind) = asked_about_by_nobody(&object) {
        return Err(format!(
            "object: no policy is ever asked about it: it is of kind {kind}"
        ));
    }
    let mut ask = Ask::create(&object).map_err(|error| format!("object: {error}"))?;
    let old = match (case.operation, &case.old_object) {
        (Some(Operation::Create), Some(_)) => {
            return Err("operation: there is no old object where one is created".to_owned());
        }
        (Some(Operation::Update), None) => Some(&object),
        (_, old) => old.as_ref(),
    };
    if let Some(old) = old {
        ask = ask.update(old).map_err(|error| format!("oldObject: {error}"))?;
    }
    if let Some(namespace) = &case.namespace {
        ask = ask.in_namespace(namespace);
    }
    if let Some(user) = &case.user {
        ask = ask.by(&user.name, &user.groups);
    }
    Ok(ask)
}

/// The namespace that a case's object is in.
pub(crate) fn namespace(case: &Case) -> &str {
    let own = case
        .object
        .as_ref()
        .and_then(|object| object["metadata"]["namespace"].as_str());
    case.namespace
        .as_deref()
        .or(own.filter(|name| !name.is_empty()))
        .unwrap_or(NAMESPACE)
}

/// The policy with each of the settings that cases have.
#[derive(Default)]
struct Policies(BTreeMap<String, Result<LoadedPolicy, Arc<LoadError>>>);

impl Policies {
    async fn get(&mut self, suite: &Suite, settings: &Map<String, Value>) -> Result<LoadedPolicy, Arc<LoadError>> {
        let key = Value::Object(settings.clone()).to_string();
        if let Some(known) = self.0.get(&key) {
            return known.clone();
        }
        let loaded = load(&suite.engine, &suite.name, &suite.component, settings, suite.limits).await;
        let loaded = loaded.map_err(Arc::new);
        self.0.insert(key, loaded.clone());
        loaded
    }
}

#[cfg(test)]
mod tests;
