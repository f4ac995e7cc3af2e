//! What reviews are answered with: the configuration and its policies, compiled, as one snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewaiter_core::backend::{Backend, Credentials};
use tidewaiter_core::document::Document;
use tidewaiter_core::policy_resource::{Capability, Match, Module, Operation, Subject, WasmPolicySpec};
use tidewaiter_engine::outcome::{self, Review};
use tidewaiter_engine::{Counts, Engine, Failure, LoadedPolicy};
use tidewaiter_world::{
    Builtins, ClusterReader, Configuration, CredentialsError, Folder, Labels, Limits, Loaded, NO_FILES, ObjectRef,
    Objects, Policy, Problem, ReviewWorld, Stores, builtin, digest_of, has_digest, known_as,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::admission::Reviewer;
use crate::loading::{Loading, Progress, loads_alike};
use crate::metrics::Metrics;
use crate::minting::Mint;
use crate::modules::{FirstLook, ModuleSettings, Modules};
use crate::namespaces::{Version, Wanted};

/// A folder that can't be read is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// One state of everything that reviews are decided by. Immutable: a change makes another, and reviews under way end with the one they began with.
pub struct Snapshot {
    /// Stores, runtimes, catalogue, namespaces.
    pub configuration: Arc<Configuration>,
    stores: Arc<Stores>,
    policies: Vec<Active>,
    /// The policies that come with the program.
    builtins: Arc<Builtins>,
    delivered: HashMap<String, Result<Delivered, CredentialsError>>,
    first_look: Arc<FirstLook>,
    /// Policies that aren't in use yet as they are written, and what is until then.
    under_way: BTreeMap<String, &'static str>,
}

/// A policy that answers reviews.
#[derive(Clone)]
struct Active {
    /// As it was when it was loaded, to see whether it changed.
    policy: Policy,
    loaded: LoadedPolicy,
    /// Of the component; none where the policy can't be loaded and counts as failed.
    digest: Option<Arc<str>>,
}

impl Active {
    fn as_it_runs(&self) -> Policy {
        Policy {
            component: self.policy.component.clone().filter(|_| self.digest.is_some()),
            ..self.policy.clone()
        }
    }
}

impl Snapshot {
    /// What was looked for among the answers of the stores.
    pub(crate) fn cached(&self) -> Counts {
        self.stores.cached()
    }

    /// Whether it depends on a namespace's labels which policies review its objects.
    pub fn selects_by_labels(&self) -> bool {
        let mut policies = self.policies.iter();
        policies.any(|active| active.policy.spec.match_rules.needs_namespace_labels())
    }

    /// The policies that review this object, in order, with the labels of its namespace where they are known.
    pub fn select(&self, review: &Review<'_>, namespace_labels: Option<&Labels>) -> Vec<LoadedPolicy> {
        let labels = if self
            .policies
            .iter()
            .any(|active| active.policy.spec.match_rules.needs_object_labels())
        {
            labels(review.object)
        } else {
            BTreeMap::new()
        };
        let subject = Subject {
            kind: review.kind,
            operation: match review.operation {
                outcome::Operation::Create => Operation::Create,
                outcome::Operation::Update => Operation::Update,
            },
            namespace: review.namespace,
            namespace_labels,
            labels: &labels,
        };
        let matching = |active: &Active| match active.policy.spec.match_rules.matches(subject) {
            Match::Yes => Some(active.loaded.clone()),
            Match::No => None,
            // To run it could fill in and refuse where the admin wants it to leave alone; to leave it out could let pass what it is there to stop, would
            // withdraw what it filled in before, and would do both without a word. So it counts as failed: its failure policy decides, what it filled
            // in stays, and the user is told.
            Match::Unknown => Some(active.loaded.failing(Failure::Unselected)),
        };
        self.policies.iter().filter_map(matching).collect()
    }

    /// The world around the object, until the deadline. Without a reader it is the configuration's own folder.
    pub fn world(
        &self,
        review: &Review<'_>,
        reader: Option<Arc<dyn ClusterReader>>,
        deadline: Instant,
    ) -> Arc<ReviewWorld> {
        let reader = reader.unwrap_or_else(|| Arc::clone(&self.configuration) as _);
        Arc::new(ReviewWorld::new(
            Arc::clone(&self.configuration),
            Arc::clone(&self.stores),
            reader,
            review.namespace,
            deadline,
        ))
    }

    /// The digest of the component that is in use for a policy; none for one that doesn't run.
    pub(crate) fn digest(&self, policy: &str) -> Option<&str> {
        let mut policies = self.policies.iter();
        policies
            .find(|active| active.policy.name == policy)
            .and_then(|active| active.digest.as_deref())
    }

    /// Whether a namespace with these labels may use any part of a backend's store. A policy may ask for the credentials of any backend; it gets none past
    /// the admin's grants.
    pub(crate) fn grants_any(&self, backend: &str, namespace: &str, labels: Option<&Labels>) -> bool {
        let backend = self.configuration.backends().get(backend);
        backend.is_none_or(|backend| backend.granted_anything(namespace, labels))
    }

    /// What is in use of a policy that is still being compiled; none for one that isn't.
    pub(crate) fn under_way(&self, policy: &str) -> Option<&'static str> {
        self.under_way.get(policy).copied()
    }

    /// What the component imports that is in use for a policy.
    pub(crate) fn imports(&self, policy: &str) -> Option<&[Capability]> {
        let mut policies = self.policies.iter();
        let active = policies.find(|active| active.policy.name == policy && active.digest.is_some())?;
        Some(active.loaded.imports())
    }

    /// Whether a `WasmPolicy` can be used as it is written, by what the loader would say of it: a remark for its author where it can, a reason where it can't.
    /// A module that isn't loaded under these very words yet is looked at for a moment; where it isn't had by then, only the object itself is judged.
    pub(crate) async fn judge_policy(
        &self,
        name: &str,
        spec: &WasmPolicySpec,
        reader: Option<&dyn ClusterReader>,
    ) -> Result<Option<String>, String> {
        let mut wrong = spec.problems();
        match &spec.module {
            Module::Builtin(name) => {
                let component = builtin(name, &self.builtins);
                let found = component.and_then(|component| has_digest(component, spec.digest.as_deref()));
                wrong.extend(found.err());
            }
            Module::File(_) if self.configuration.objects().base.is_none() => wrong.push(NO_FILES.to_owned()),
            _ => {}
        }
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        let mut policies = self.policies.iter();
        let alike = policies.find(|active| {
            active.digest.is_some()
                && self.same_module(&active.policy.spec.module, &spec.module)
                && (active.policy.spec.digest == spec.digest || spec.digest.as_deref() == active.digest.as_deref())
        });
        let mut policy = Policy::of(name, spec);
        let Some(alike) = alike else {
            self.first_look
                .at(&policy, self.configuration.objects(), reader)
                .await?;
            return Ok(Some(
                "its module isn't loaded yet; whether it can be used is told in its condition Loaded".to_owned(),
            ));
        };
        let settings = serde_json::Value::Object(spec.settings.clone());
        let taken = alike.loaded.takes(settings, &policy.spec.capabilities).await;
        taken.map_err(|error| error.to_string())?;
        Ok(alike.loaded.description().and_then(|description| {
            policy.grant_described(description);
            policy.undeclared(description)
        }))
    }

    /// Whether two objects mean the same module: a built-in policy goes by its former name, too.
    fn same_module(&self, one: &Module, other: &Module) -> bool {
        match (one, other) {
            (Module::Builtin(one), Module::Builtin(other)) => {
                known_as(one, &self.builtins) == known_as(other, &self.builtins)
            }
            _ => one == other,
        }
    }

    /// What a namespace needs of a backend, whether or not with a ServiceAccount. The error is for the user and the admin.
    pub(crate) fn wanted(&self, backend: &str, service_account: bool) -> Result<ToDeliver<'_>, CredentialsError> {
        Ok(match self.delivered(backend)? {
            Delivered::Copied {
                with_service_account, ..
            } if service_account => ToDeliver::Copy(with_service_account),
            Delivered::Copied { alone, .. } => ToDeliver::Copy(alone),
            Delivered::Minted(mint) => ToDeliver::Minted(mint),
        })
    }

    /// What mints keys, a backend each.
    pub(crate) fn mints(&self) -> impl Iterator<Item = &Mint> {
        self.delivered.values().filter_map(|delivered| match delivered {
            Ok(Delivered::Minted(mint)) => Some(&**mint),
            Ok(Delivered::Copied { .. }) | Err(_) => None,
        })
    }

    fn delivered(&self, backend: &str) -> Result<&Delivered, CredentialsError> {
        match self.delivered.get(backend) {
            Some(delivered) => delivered.as_ref().map_err(Clone::clone),
            None => Err(CredentialsError::NoBackend(backend.to_owned())),
        }
    }

    /// Whether a namespace may use any part of a backend's store.
    pub(crate) fn grants(&self, backend: &str, namespace: &str) -> bool {
        let labels = self.configuration.namespace_labels(namespace);
        self.configuration
            .backends()
            .get(backend)
            .is_some_and(|backend| backend.granted_anything(namespace, labels))
    }
}

/// What a namespace is given.
pub(crate) enum ToDeliver<'a> {
    /// The backend's own key.
    Copy(&'a Wanted),
    /// One of the namespace's own.
    Minted(&'a Mint),
}

/// One backend's credentials, made ready for every namespace when the configuration changes.
enum Delivered {
    Copied {
        alone: Wanted,
        with_service_account: Wanted,
    },
    Minted(Box<Mint>),
}

fn delivered(configuration: &Arc<Configuration>) -> HashMap<String, Result<Delivered, CredentialsError>> {
    let deliver = |backend: &Backend| {
        let name = backend.name();
        let contents = configuration.credentials(name)?;
        if let Some(mint) = Mint::new(configuration, backend) {
            return Ok(Delivered::Minted(Box::new(mint)));
        }
        let alone = Wanted::new(name, contents, configuration.ca_bundle(name));
        let alone = match version(configuration.objects(), backend) {
            Some(version) => alone.of_version(&version),
            None => alone,
        };
        Ok(Delivered::Copied {
            with_service_account: alone.clone().with_service_account(),
            alone,
        })
    };
    let backends = configuration.backends().iter();
    backends
        .map(|backend| (backend.name().to_owned(), deliver(backend)))
        .collect()
}

/// Of what a backend's copies are made from.
fn version(objects: &Objects, backend: &Backend) -> Option<Version> {
    let Credentials::SecretRef(reference) = &backend.spec().credentials else {
        return None;
    };
    let mut backends = objects.backends.iter();
    let written = backends.find(|written| written.metadata.name.as_deref() == Some(backend.name()))?;
    let mut secrets = objects.secrets.iter();
    let secret = secrets.find(|secret| {
        let metadata = &secret.metadata;
        metadata.name.as_ref() == Some(&reference.name) && metadata.namespace.as_ref() == Some(&reference.namespace)
    })?;
    Version::new(written, secret)
}

/// Labels of an object. What is no text is no label.
fn labels(object: &Document) -> BTreeMap<String, String> {
    let text = |text: &str| serde_json::from_str::<String>(text).ok();
    object
        .members(&["metadata", "labels"])
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_owned(), text(value)?)))
        .collect()
}

/// Makes snapshots of objects, and keeps what is good of the last one where the new is not.
pub struct Loader {
    engine: Engine,
    loading: Loading,
    reviewer: Arc<Reviewer>,
    metrics: Arc<Metrics>,
    stores: Arc<Stores>,
    builtins: Arc<Builtins>,
    /// None where nothing is fetched over the network.
    modules: Option<Modules>,
    first_look: Arc<FirstLook>,
    /// Of what came after a configuration was made without it.
    news: watch::Sender<()>,
    /// What was reported last, so that the log says a thing once.
    reported: Vec<String>,
}

impl Loader {
    /// With the policies that come with the program.
    pub fn new(engine: Engine, reviewer: Arc<Reviewer>, metrics: Arc<Metrics>) -> Self {
        let builtins = tidewaiter_builtin::POLICIES
            .iter()
            .map(|policy| (policy.name, policy.component))
            .collect();
        let stores = Arc::new(Stores::new(Limits::default()));
        let news = watch::Sender::new(());
        Self {
            first_look: Arc::new(FirstLook::new(engine.clone(), None)),
            loading: Loading::new(news.clone()),
            engine,
            reviewer,
            metrics,
            stores,
            builtins,
            modules: None,
            news,
            reported: Vec::new(),
        }
    }

    /// With modules that come over the network.
    #[must_use]
    pub fn with_modules(mut self, settings: ModuleSettings) -> Self {
        let modules = Modules::new(settings, self.news.clone());
        self.first_look = Arc::new(FirstLook::new(self.engine.clone(), Some(modules.settings())));
        self.modules = Some(modules);
        self
    }

    /// Changes when a module came over the network, or what is to be said of one is another, and when a policy is compiled that a configuration didn't wait for.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Names of Secrets that open registries for all policies.
    pub(crate) fn pull_secrets(&self) -> Vec<String> {
        self.modules.as_ref().map(Modules::pull_secrets).unwrap_or_default()
    }

    /// What answers with the snapshots.
    pub fn reviewer(&self) -> &Reviewer {
        &self.reviewer
    }

    /// From when on the same objects may come to more: a policy failed while it was loaded.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.loading.next_try()
    }

    /// Puts these objects into use, and returns all that is wrong with them, `problems` first.
    pub async fn load(&mut self, mut objects: Objects, mut problems: Vec<Problem>) -> Vec<Problem> {
        if let Some(modules) = &mut self.modules {
            modules.supply(&mut objects).await;
        }
        let before = self.reviewer.snapshot();
        let (mut configuration, found) = Configuration::build(
            &objects,
            before.as_ref().map(|before| &*before.configuration),
            &self.builtins,
            &self.stores,
        );
        configuration.say_what_stays(&mut problems);
        problems.extend(found);
        let before: &[Active] = before.as_ref().map_or(&[], |before| &before.policies);
        let last = |policy: &Policy| before.iter().find(|active| active.policy.name == policy.name);
        let last_good = |policy: &Policy| last(policy).filter(|active| active.digest.is_some());
        let mut new = BTreeSet::new();
        for policy in configuration.policies() {
            let last = last_good(policy);
            if let Some(component) = &policy.component
                && !last.is_some_and(|last| loads_alike(&last.policy, policy))
            {
                let (engine, wanted, component) = (self.engine.clone(), policy.clone(), component.clone());
                let last_stays = last.is_some();
                let load = async move { wanted.load(&engine, &component, last_stays).await };
                self.loading.begin(policy, load);
                new.insert(policy.name.as_str());
            }
        }
        self.loading.retain(|policy| new.contains(policy));
        self.loading.wait().await;
        let (mut policies, mut under_way) = (Vec::new(), BTreeMap::new());
        for policy in configuration.policies() {
            let loaded = new
                .contains(policy.name.as_str())
                .then(|| self.loading.progress(&policy.name));
            if let Some(Progress::UnderWay) = loaded {
                // Until it is, things are as if it hadn't been written yet.
                let last = last(policy);
                under_way.insert(policy.name.clone(), as_before(last));
                policies.extend(last.cloned());
                continue;
            }
            policies.push(self.active(policy, last_good(policy), loaded, &objects, &mut problems));
        }
        configuration.settle(policies.iter().map(Active::as_it_runs).collect());
        let configuration = Arc::new(configuration);
        self.metrics.cache("policies", self.engine.cached());
        self.report(
            &problems,
            policies.iter().filter(|active| active.digest.is_some()).count(),
        );
        self.metrics
            .configured(policies.iter().map(|active| &*active.policy.name));
        self.reviewer.swap(Snapshot {
            delivered: delivered(&configuration),
            builtins: Arc::clone(&self.builtins),
            configuration,
            stores: Arc::clone(&self.stores),
            policies,
            first_look: Arc::clone(&self.first_look),
            under_way,
        });
        problems
    }

    /// The policy as it is now, which is what was `loaded` where that is new; else its last good version; else one that counts as failed.
    fn active(
        &self,
        policy: &Policy,
        last: Option<&Active>,
        loaded: Option<Progress>,
        objects: &Objects,
        problems: &mut Vec<Problem>,
    ) -> Active {
        let changed =
            |mut policy: Policy, loaded: LoadedPolicy, digest: Option<Arc<str>>, problems: &mut Vec<Problem>| {
                if let Some(description) = loaded.description() {
                    policy.grant_described(description);
                    problems.extend(policy.undeclared(description).map(|message| Problem {
                        in_use: true,
                        ..objects.problem(ObjectRef::cluster("WasmPolicy", &policy.name), message)
                    }));
                }
                Active { policy, loaded, digest }
            };
        let loads = |component: &Bytes| {
            if let Some(modules) = &self.modules {
                modules.loaded(&policy.name, component);
            }
        };
        if let Some(component) = &policy.component {
            let object = ObjectRef::cluster("WasmPolicy", &policy.name);
            match loaded {
                Some(Progress::Done(done)) => {
                    let Loaded { policy, loaded, slip } = *done;
                    loads(component);
                    problems.extend(slip.map(|slip| objects.problem(object, slip)));
                    return changed(policy, loaded, Some(digest_of(component).into()), problems);
                }
                Some(Progress::Failed(reason)) => {
                    let stays = match last {
                        Some(_) => "its last good version stays",
                        None => policy.without_it(),
                    };
                    problems.push(objects.problem(object, format!("{reason}; {stays}")));
                }
                Some(Progress::UnderWay) | None => {
                    if let Some(last) = last {
                        loads(component);
                        return changed(policy.clone(), last.loaded.clone(), last.digest.clone(), problems);
                    }
                }
            }
        }
        last.cloned().unwrap_or_else(|| {
            let spec = &policy.spec;
            let failing = LoadedPolicy::not_loaded(&policy.name, spec.failure_policy, spec.mode);
            changed(policy.clone(), failing, None, problems)
        })
    }

    fn report(&mut self, problems: &[Problem], policies: usize) {
        let reported: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for problem in reported.iter().filter(|problem| !self.reported.contains(problem)) {
            error!(%problem, "configuration");
        }
        self.reported = reported;
        let unusable = problems.iter().filter(|problem| !problem.in_use).count();
        self.metrics.problems.set(i64::try_from(unusable).unwrap_or(i64::MAX));
        self.metrics.policies.set(i64::try_from(policies).unwrap_or(i64::MAX));
        self.metrics.configuration_loaded(unusable == 0);
        info!(policies, problems = problems.len(), "configuration in use");
    }
}

/// What runs of a policy that is being compiled.
fn as_before(last: Option<&Active>) -> &'static str {
    match last {
        Some(last) if last.digest.is_some() => "its last good version runs",
        Some(last) => last.policy.without_it(),
        None => "nothing of it runs",
    }
}

/// Keeps the configuration as the folder has it until it is stopped.
pub(crate) async fn keep_folder(path: PathBuf, mut loader: Loader, stop: CancellationToken) {
    let follow = async {
        let mut folder = Folder::new(&path);
        let mut complaint = String::new();
        loop {
            match folder.load() {
                Ok((objects, problems)) => {
                    complaint.clear();
                    let objects = Objects {
                        pull_secrets: loader.pull_secrets(),
                        ..objects
                    };
                    let mut news = loader.news();
                    loader.load(objects, problems).await;
                    let again = async {
                        match loader.next_try() {
                            Some(at) => tokio::time::sleep_until(at).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = folder.changed() => {}
                        Ok(()) = news.changed() => {}
                        () = again => {}
                    }
                }
                Err(error) => {
                    if complaint != error.to_string() {
                        complaint = error.to_string();
                        error!("{complaint}; trying again");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod selection_tests;
