//! The whole of what a cluster would say: a configuration with all of its policies, as the server has it.

mod finding;
mod live;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidewaiter_core::policy_resource::{Match, Operation as Asked, Subject};
use tidewaiter_engine::outcome::{Operation, Outcome};
use tidewaiter_engine::{Engine, Failure, LoadedPolicy, review, untouched};
use tidewaiter_world::{
    ClusterReader, Configuration, Folder, FolderError, Labels, Loaded, ObjectRef, Objects, Policy, Problem,
    ReviewWorld, Stores,
};
use tokio::time::Instant;

pub use finding::{Finding, Level, Reviewed, Verdict};
pub use live::{Live, LiveError};
pub use report::{junit, sarif};

use crate::said::{LogLine, listening};
use crate::subject::Ask;
use crate::trace::{HostCall, Traced};

/// Patience with stores and an API server that are further away than they are from the server in the cluster.
const BUDGET: Duration = Duration::from_secs(15);

/// Everything that reviews are decided by.
pub struct Gate {
    configuration: Arc<Configuration>,
    stores: Arc<Stores>,
    reader: Arc<dyn ClusterReader>,
    policies: Vec<(Policy, LoadedPolicy)>,
    problems: Vec<Problem>,
}

/// One object, reviewed.
#[derive(Debug)]
pub struct Judged {
    /// None where there was nothing to judge: an object on its way out, one that is ignored, one that stands still, or one that no policy is for.
    pub outcome: Option<Outcome>,
    /// What policies asked.
    pub calls: Vec<HostCall>,
    /// What policies wrote to the log.
    pub lines: Vec<LogLine>,
}

/// What a configuration is made from.
pub struct Source {
    /// The objects. Modules that come over the network are put in by whoever has the way to their registries.
    pub objects: Objects,
    problems: Vec<Problem>,
    reader: Option<Arc<dyn ClusterReader>>,
}

impl Source {
    /// A folder, as `tidewaiter-webhook --config` reads it.
    ///
    /// # Errors
    /// Where the folder can't be read. What is wrong in it is among the [`problems`](Gate::problems).
    pub fn folder(folder: &Path, namespaces: &BTreeMap<String, Labels>) -> Result<Self, FolderError> {
        let (objects, problems) = Folder::new(folder).load()?;
        Ok(Self::new(objects, problems, None).with(namespaces))
    }

    /// A cluster, as it is now. Only reads.
    ///
    /// # Errors
    /// Where the API server doesn't say what configures Tidewaiter.
    pub async fn cluster(live: &Live, namespaces: &BTreeMap<String, Labels>) -> Result<Self, LiveError> {
        let (objects, problems) = live.gather().await?;
        let mut source = Self::new(objects, problems, None).with(namespaces);
        source.reader = Some(Arc::new(live.reader(source.objects.namespaces.clone())));
        Ok(source)
    }

    /// Has something told of the configuration beside what is wrong with its objects.
    pub fn tell(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn new(objects: Objects, problems: Vec<Problem>, reader: Option<Arc<dyn ClusterReader>>) -> Self {
        Self {
            objects,
            problems,
            reader,
        }
    }

    /// Namespaces that aren't there yet.
    fn with(mut self, namespaces: &BTreeMap<String, Labels>) -> Self {
        for (name, labels) in namespaces {
            let known = self.objects.namespaces.entry(name.clone());
            known.or_insert_with(|| labels.clone());
        }
        self
    }
}

impl Gate {
    /// Loads all policies.
    pub async fn new(engine: &Engine, source: Source) -> Self {
        let Source {
            objects,
            mut problems,
            reader,
        } = source;
        let objects = &objects;
        let stores = Arc::new(Stores::default());
        let builtins: Vec<_> = tidewaiter_builtin::POLICIES
            .iter()
            .map(|policy| (policy.name, policy.component))
            .collect();
        let (mut configuration, found) = Configuration::build(objects, None, &builtins, &stores);
        configuration.say_what_stays(&mut problems);
        problems.extend(found);
        let mut policies = Vec::new();
        for policy in configuration.policies() {
            policies.push(loaded(engine, policy.clone(), objects, &mut problems).await);
        }
        configuration.settle(policies.iter().map(|(policy, _)| policy.clone()).collect());
        let configuration = Arc::new(configuration);
        Self {
            reader: reader.unwrap_or_else(|| Arc::clone(&configuration) as _),
            configuration,
            stores,
            policies,
            problems,
        }
    }

    /// What is wrong with the configuration.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether a problem takes something away that reviews are decided by: a policy, a backend or a whole file. A backend that is good but for its Secret
    /// still says whom it serves, and Secrets rarely are where CI runs.
    pub fn lacks(&self, problem: &Problem) -> bool {
        let is_of_use = match &problem.object {
            Some(object) if object.kind == "WasmPolicy" => false,
            Some(object) if object.kind == "StorageBackend" => {
                self.configuration.backends().get(&object.name).is_some()
            }
            Some(_) => true,
            None => false,
        };
        !problem.in_use && !is_of_use
    }

    /// Where a problem stands, as file and line; the first one where a whole file is meant. None for what no folder holds.
    fn place(&self, problem: &Problem) -> Option<(String, u64)> {
        let at = problem.at.as_deref()?;
        let (file, line) = match at.rsplit_once(':').map(|(file, line)| (file, line.parse())) {
            Some((file, Ok(line))) => (file, line),
            _ => (at, 1),
        };
        let folder = self.configuration.objects().base.as_deref()?;
        Some((folder.join(file).display().to_string(), line))
    }

    /// Names of the policies, in the order in which they run.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|(policy, _)| policy.name.as_str())
    }

    /// What the server would answer.
    pub async fn review(&self, ask: &Ask) -> Judged {
        let deadline = Instant::now() + BUDGET;
        let world = Arc::new(ReviewWorld::new(
            Arc::clone(&self.configuration),
            Arc::clone(&self.stores),
            Arc::clone(&self.reader),
            ask.namespace(),
            deadline,
        ));
        let request = ask.review();
        let annotation = self.configuration.kserve().secret_annotation.as_deref();
        let nothing = Judged {
            outcome: None,
            calls: Vec::new(),
            lines: Vec::new(),
        };
        if untouched(&request, annotation).is_some() {
            return nothing;
        }
        let needs_labels = self
            .policies
            .iter()
            .any(|(policy, _)| policy.spec.match_rules.needs_namespace_labels());
        let labels = if needs_labels { world.labels().await } else { None };
        let policies = self.matching(ask, request.operation, labels);
        if policies.is_empty() {
            return nothing;
        }
        let traced = Traced::new(world);
        let left = deadline.saturating_duration_since(Instant::now());
        let (outcome, lines) = listening(review(&policies, &request, traced.clone(), left)).await;
        Judged {
            outcome: Some(outcome),
            calls: traced.calls(),
            lines,
        }
    }

    /// The policies that are for an object, as the server selects them.
    fn matching(&self, ask: &Ask, operation: Operation, namespace_labels: Option<&Labels>) -> Vec<LoadedPolicy> {
        let labels = ask.object()["metadata"]["labels"].as_object().into_iter().flatten();
        let labels: Labels = labels
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        let subject = Subject {
            kind: ask.object()["kind"].as_str().unwrap_or_default(),
            operation: match operation {
                Operation::Create => Asked::Create,
                Operation::Update => Asked::Update,
            },
            namespace: ask.namespace(),
            namespace_labels,
            labels: &labels,
        };
        let matching = |(policy, loaded): &(Policy, LoadedPolicy)| match policy.spec.match_rules.matches(subject) {
            Match::Yes => Some(loaded.clone()),
            Match::No => None,
            // The server has no other way either; its log says why.
            Match::Unknown => Some(loaded.failing(Failure::Unselected)),
        };
        self.policies.iter().filter_map(matching).collect()
    }
}

/// A policy as it runs, or as one that fails where it can't be loaded; with what it is granted.
async fn loaded(
    engine: &Engine,
    policy: Policy,
    objects: &Objects,
    problems: &mut Vec<Problem>,
) -> (Policy, LoadedPolicy) {
    let object = ObjectRef::cluster("WasmPolicy", &policy.name);
    let not_loaded = LoadedPolicy::not_loaded(&policy.name, policy.spec.failure_policy, policy.spec.mode);
    let Some(component) = &policy.component else {
        return (policy, not_loaded);
    };
    match policy.load(engine, component, false).await {
        Ok(Loaded {
            mut policy,
            loaded,
            slip,
        }) => {
            problems.extend(slip.map(|slip| objects.problem(object.clone(), slip)));
            if let Some(description) = loaded.description() {
                policy.grant_described(description);
                problems.extend(policy.undeclared(description).map(|message| Problem {
                    in_use: true,
                    ..objects.problem(object, message)
                }));
            }
            (policy, loaded)
        }
        Err(error) => {
            problems.push(objects.problem(object, format!("{error}; {}", policy.without_it())));
            (policy, not_loaded)
        }
    }
}

#[cfg(test)]
mod tests;
