//! One consistent state of everything that an admin configured. Immutable: a change makes another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tidewaiter_core::backend::{Backend, CaBundle, Credentials, OWN_STORAGE_LABEL, PREFIX_ANNOTATION};
use tidewaiter_core::backends::{Backends, Overlap, OwnSecrets, UnusableBackend};
use tidewaiter_core::catalogue::{Catalogue, CatalogueError};
use tidewaiter_core::credentials::{SecretContents, kserve_secret};
use tidewaiter_core::kserve_config::KserveConfig;
use tidewaiter_core::kserve_runtimes;
use tidewaiter_core::nearest::one_letter_off;
use tidewaiter_core::runtimes::{Runtimes, ServingRuntime};
use tokio::time::{Instant, timeout_at};

use crate::locate::{Asked, place};
use crate::objects::{CATALOGUE_KEY, CATALOGUE_LABEL, KSERVE_CONFIG_MAP, Labels, ObjectRef, Objects, Problem};
use crate::opening::connection;
use crate::policies::{Builtins, Policy, select};
use crate::review::is_managed;
use crate::stores::{Client, Failure, Issuer, Stores};
use crate::words;

/// What becomes of an object that can't be used, and was usable before.
const STAYS: &str = "its last good version stays";
/// What becomes of one that never was.
const NOT_USED: &str = "it isn't used";
/// What becomes of the object of a built-in policy that can't be read.
const DEFAULTS: &str = "the policy runs with its defaults until then";

/// KServe's namespace where nothing else is said.
const KSERVE_NAMESPACE: &str = "kserve";

/// Everything that reviews are decided by. Holds Secrets, so it can't be printed.
pub struct Configuration {
    objects: Objects,
    backends: Backends,
    clients: HashMap<String, Arc<Client>>,
    own_secrets: OwnSecrets,
    policies: Vec<Policy>,
    runtimes: Runtimes,
    catalogue: Arc<Catalogue>,
    kserve: KserveConfig,
    /// The keys of KServe's ConfigMap that hold JSON, as they are.
    kserve_parts: BTreeMap<String, String>,
}

/// Why a backend's credentials can't be delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// There was one when the policy asked; the configuration has changed since.
    #[error("there is no StorageBackend {0} any more; try again")]
    NoBackend(String),
    /// Nothing is to be delivered.
    #[error("StorageBackend {0} needs no credentials")]
    NothingNeeded(String),
    /// Its Secret isn't there, or doesn't hold what the backend needs.
    #[error("the StorageBackend {backend} that serves the model can't be used: {reason}. Ask {whom}")]
    Unusable {
        /// The `StorageBackend`.
        backend: String,
        /// What is missing.
        reason: String,
        /// Who is to be asked.
        whom: String,
    },
}

impl Configuration {
    /// Puts objects together. What can't be used is a problem, and stays as it was `before`; the rest is used all the same.
    pub fn build(
        objects: &Objects,
        before: Option<&Self>,
        builtins: &Builtins,
        stores: &Stores,
    ) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut objects = objects.clone();
        if let Some(before) = before {
            keep_unreadable(&mut objects, &before.objects);
        }
        let (kserve, kserve_parts) = kserve_config(&objects, before, &mut problems);
        let backends = backends(&objects, before, &mut problems);
        let clients = clients(&backends, &objects, before, &kserve, stores, &mut problems);
        let own_secrets = own_secrets(&objects, &mut problems);
        let policies = select(
            &objects,
            builtins,
            before.map_or(&[], |before| &before.policies),
            &mut problems,
        );
        let runtimes = runtimes(&objects, before, &mut problems);
        let catalogue = catalogue(&objects, before, &mut problems);
        let configuration = Self {
            objects,
            backends,
            clients,
            own_secrets,
            policies,
            runtimes,
            catalogue,
            kserve,
            kserve_parts,
        };
        (configuration, problems)
    }

    /// Completes what a folder or a cluster says of objects that it can't read by what becomes of them.
    pub fn say_what_stays(&self, problems: &mut [Problem]) {
        for problem in problems {
            let unreadable = problem.object.as_ref();
            let Some(object) = unreadable.filter(|object| self.objects.unreadable.contains_key(object)) else {
                continue;
            };
            let policy = self.policies.iter().find(|policy| policy.name == object.name);
            let stays = match (object.kind.as_str(), policy) {
                _ if self.objects.holds(object) => STAYS,
                ("WasmPolicy", Some(policy)) if policy.component.is_some() => DEFAULTS,
                ("WasmPolicy", Some(policy)) => policy.without_it(),
                _ => NOT_USED,
            };
            problem.message = format!("{}; {stays}", problem.message);
        }
    }

    /// The backends by what they serve.
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// The policies in the order in which they run.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Puts the policies as they really run in the place of what the objects ask for: what can't be loaded is no good version.
    pub fn settle(&mut self, policies: Vec<Policy>) {
        self.policies = policies;
    }

    /// The cluster's serving runtimes.
    pub fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    /// What is known of model servers' images.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// KServe's own configuration.
    pub fn kserve(&self) -> &KserveConfig {
        &self.kserve
    }

    /// One key of KServe's own configuration as JSON text, as it was read last.
    pub fn kserve_part(&self, key: &str) -> Option<&str> {
        self.kserve_parts.get(key).map(String::as_str)
    }

    /// Secrets by which namespaces open stores themselves.
    pub fn own_secrets(&self) -> &OwnSecrets {
        &self.own_secrets
    }

    /// A namespace's labels; none for one that isn't known (yet).
    pub fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.objects.namespaces.get(namespace)
    }

    /// The nodes' architectures, sorted.
    pub fn architectures(&self) -> impl Iterator<Item = &str> {
        self.objects.architectures.iter().map(String::as_str)
    }

    /// What the configuration was made from, with the last good version of what can't be read.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The Secret to have in a namespace for a backend. It is the same for every way of delivery.
    ///
    /// # Errors
    /// Each says what the admin has to do.
    pub fn credentials(&self, backend: &str) -> Result<SecretContents, CredentialsError> {
        let found = self
            .backends
            .get(backend)
            .ok_or_else(|| CredentialsError::NoBackend(backend.to_owned()))?;
        if !found.delivers_credentials() {
            return Err(CredentialsError::NothingNeeded(backend.to_owned()));
        }
        let unusable = |reason| CredentialsError::Unusable {
            backend: backend.to_owned(),
            reason,
            whom: match &found.spec().contact {
                Some(contact) => format!("`{contact}`"),
                None => "the cluster's admin".to_owned(),
            },
        };
        contents(found, source(found, &self.objects).map_err(unusable)?, &self.kserve).map_err(unusable)
    }

    /// The PEM certificates that a backend's endpoint may be signed by, where it names some.
    pub fn ca_bundle(&self, backend: &str) -> Option<String> {
        ca_bundle(self.backends.get(backend)?, &self.objects).ok().flatten()
    }

    /// Backends that are left alone because they don't answer, for the metrics.
    pub fn shut_backends(&self) -> impl Iterator<Item = (&str, bool)> {
        self.clients
            .iter()
            .map(|(name, client)| (name.as_str(), client.gate.is_shut()))
    }

    /// Asks a backend's store for what its first prefix holds, as a review would. None where there is nothing to ask: a backend without usable credentials, or
    /// one whose prefixes name no place, as `hf://` does.
    pub async fn reach(&self, backend: &str, until: Instant) -> Option<Reach> {
        let client = self.client(backend)?;
        let backend = self.backends.get(backend)?;
        let mut places = backend.serves().iter().filter_map(|serves| {
            let literal = serves.literal();
            // Of `s3://models-*` there is a part of a bucket's name.
            let whole = literal.len() == serves.as_str().trim_end_matches('/').len();
            let folder = if whole { literal } else { literal.rsplit_once('/')?.0 };
            place(&Asked::parse(folder).ok()?, backend).ok()
        });
        let place = places.next()?;
        let host = client.host(&place);
        Some(match timeout_at(until, client.list(&place, 1)).await {
            // An empty prefix is none to complain about; a bucket that isn't there is told by the models that aren't either.
            Ok(Ok(_) | Err(Failure::NotFound)) => Reach::Open,
            Ok(Err(Failure::Forbidden(reason))) => Reach::Refused(reason),
            Ok(Err(Failure::Unserved(_))) => return None,
            Ok(Err(Failure::Unreachable { reason, .. })) => Reach::Silent(reason),
            Err(_) => Reach::Silent(format!("{host} didn't answer in time")),
        })
    }

    /// Whose key makes, or before made, access keys for a backend's namespaces; none where it is no S3 store with an endpoint and a key.
    pub fn issuer(&self, backend: &str) -> Option<Issuer<'_>> {
        self.client(backend)?.issuer()
    }

    pub(crate) fn client(&self, backend: &str) -> Option<&Arc<Client>> {
        self.clients.get(backend)
    }
}

/// What a look at a backend's store came to. Reasons hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It answers, and takes the credentials.
    Open,
    /// It answers, and doesn't take the credentials.
    Refused(String),
    /// It doesn't answer.
    Silent(String),
}

/// Takes the last good version of what is there and can't be read.
fn keep_unreadable(objects: &mut Objects, before: &Objects) {
    let unreadable = objects.unreadable.clone();
    let named = |kind: &str, metadata: &kube::api::ObjectMeta| unreadable.contains_key(&ObjectRef::of(kind, metadata));
    objects.backends.extend(
        before
            .backends
            .iter()
            .filter(|object| named("StorageBackend", &object.metadata))
            .cloned(),
    );
    objects.policies.extend(
        before
            .policies
            .iter()
            .filter(|object| named("WasmPolicy", &object.metadata))
            .cloned(),
    );
    objects.secrets.extend(
        before
            .secrets
            .iter()
            .filter(|object| named("Secret", &object.metadata))
            .cloned(),
    );
    objects.config_maps.extend(
        before
            .config_maps
            .iter()
            .filter(|object| named("ConfigMap", &object.metadata))
            .cloned(),
    );
    objects.service_accounts.extend(
        before
            .service_accounts
            .iter()
            .filter(|object| named("ServiceAccount", &object.metadata))
            .cloned(),
    );
    objects.runtimes.extend(
        before
            .runtimes
            .iter()
            .filter(|runtime| unreadable.contains_key(&ObjectRef::of_runtime(runtime)))
            .cloned(),
    );
    for (name, labels) in &before.namespaces {
        if unreadable.contains_key(&ObjectRef::cluster("Namespace", name)) {
            objects.namespaces.entry(name.clone()).or_insert_with(|| labels.clone());
        }
    }
}

fn kserve_config(
    objects: &Objects,
    before: Option<&Configuration>,
    problems: &mut Vec<Problem>,
) -> (KserveConfig, BTreeMap<String, String>) {
    let namespace = objects.kserve_namespace.as_deref().unwrap_or(KSERVE_NAMESPACE);
    let Some(map) = objects.config_map(namespace, KSERVE_CONFIG_MAP) else {
        // While it is replaced it is gone for a moment. By defaults, what was delivered under other names would be withdrawn and delivered anew.
        return before.map_or_else(Default::default, |before| {
            (before.kserve.clone(), before.kserve_parts.clone())
        });
    };
    let data = map.data.clone().unwrap_or_default();
    let (config, wrong) = KserveConfig::parse(&data, before.map(|before| &before.kserve));
    let object = ObjectRef::namespaced("ConfigMap", namespace, KSERVE_CONFIG_MAP);
    problems.extend(
        wrong
            .into_iter()
            .map(|message| objects.problem(object.clone(), message)),
    );
    let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let parts = data.into_iter().filter_map(|(key, text)| {
        if is_json(&text) {
            return Some((key, text));
        }
        // What can't be read is as it was, here as in `KserveConfig`.
        let last = before?.kserve_parts.get(&key)?.clone();
        Some((key, last))
    });
    (config, parts.collect())
}

fn backends(objects: &Objects, before: Option<&Configuration>, problems: &mut Vec<Problem>) -> Backends {
    let mut good: Vec<Backend> = Vec::new();
    let mut unusable = objects.unusable_backends.clone();
    for object in &objects.backends {
        let name = object.metadata.name.clone().unwrap_or_default();
        match Backend::new(&name, object.spec.clone()) {
            Ok(backend) => good.push(backend),
            Err(wrong) => {
                let last = before.and_then(|before| before.backends.get(&name));
                good.extend(last.cloned());
                let stays = if last.is_some() { STAYS } else { NOT_USED };
                let wrong = wrong.join("; ");
                let named = ObjectRef::cluster("StorageBackend", &name);
                problems.push(objects.problem(named, format!("{wrong}; {stays}")));
                let spec = serde_json::to_value(&object.spec).unwrap_or_default();
                unusable.extend(UnusableBackend::read(&name, &spec, wrong));
            }
        }
    }
    unusable.retain(|unusable| !good.iter().any(|backend| backend.name() == unusable.name));
    let (backends, overlaps) = Backends::new(good);
    let backends = backends.with_unusable(unusable);
    for Overlap {
        taken,
        passed_over,
        prefix,
    } in &overlaps
    {
        let lost = overlaps.iter().filter(|overlap| overlap.passed_over == *passed_over);
        let serves = backends.get(passed_over).map_or(0, |backend| backend.serves().len());
        let in_use = lost.count() < serves;
        let backend = |name: &str| ObjectRef::cluster("StorageBackend", name);
        problems.push(Problem {
            in_use: true,
            ..objects.problem(
                backend(taken),
                format!(
                    "StorageBackend/{passed_over} serves `{prefix}` too; this one is taken, since its name sorts first"
                ),
            )
        });
        problems.push(Problem {
            in_use,
            ..objects.problem(
                backend(passed_over),
                format!(
                    "StorageBackend/{taken} serves `{prefix}` too, and is taken, since its name sorts first; let one of them serve a longer prefix"
                ),
            )
        });
    }
    backends
}

fn clients(
    backends: &Backends,
    objects: &Objects,
    before: Option<&Configuration>,
    kserve: &KserveConfig,
    stores: &Stores,
    problems: &mut Vec<Problem>,
) -> HashMap<String, Arc<Client>> {
    let mut clients = HashMap::new();
    for backend in backends.iter() {
        let made = ca_bundle(backend, objects).and_then(|bundle| {
            let contents = backend
                .delivers_credentials()
                .then(|| contents(backend, source(backend, objects)?, kserve))
                .transpose()?;
            connection(backend, contents.as_ref(), bundle, kserve)
        });
        match made {
            Ok(connection) => {
                let same = before
                    .and_then(|before| before.clients.get(backend.name()))
                    .filter(|client| client.connects(&connection));
                let client = same
                    .cloned()
                    .unwrap_or_else(|| Arc::new(Client::new(connection, stores.patience)));
                clients.insert(backend.name().to_owned(), client);
            }
            Err(reason) => problems.push(objects.problem(ObjectRef::cluster("StorageBackend", backend.name()), reason)),
        }
    }
    clients
}

/// The Secret that a backend's credentials are in; none for a backend without one.
fn source<'a>(backend: &Backend, objects: &'a Objects) -> Result<Option<&'a Secret>, String> {
    let Credentials::SecretRef(reference) = &backend.spec().credentials else {
        return Ok(None);
    };
    objects
        .secret(&reference.namespace, &reference.name)
        .map(Some)
        .ok_or_else(|| {
            let (namespace, name) = (&reference.namespace, &reference.name);
            let why = objects.why_missing(&ObjectRef::namespaced("Secret", namespace, name));
            let mend = if why == "isn't there" {
                "; its admin has to create it"
            } else {
                ""
            };
            format!("spec.credentials.secretRef: Secret {namespace}/{name} {why}{mend}")
        })
}

/// What KServe is to be given.
fn contents(backend: &Backend, source: Option<&Secret>, kserve: &KserveConfig) -> Result<SecretContents, String> {
    let data = source
        .into_iter()
        .flat_map(|source| source.data.iter().flatten())
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect();
    kserve_secret(backend, &data, kserve).map_err(|error| error.to_string())
}

fn ca_bundle(backend: &Backend, objects: &Objects) -> Result<Option<String>, String> {
    let bundle = backend
        .spec()
        .s3
        .as_ref()
        .and_then(|s3| s3.tls.as_ref())
        .and_then(|tls| tls.ca_bundle.as_ref());
    match bundle {
        None => Ok(None),
        Some(CaBundle::Inline(pem)) => Ok(Some(pem.clone())),
        Some(CaBundle::ConfigMap(reference)) => {
            let name = format!("ConfigMap/{}/{}", reference.namespace, reference.name);
            let map = objects
                .config_map(&reference.namespace, &reference.name)
                .ok_or_else(|| {
                    let map = ObjectRef::namespaced("ConfigMap", &reference.namespace, &reference.name);
                    format!("spec.s3.tls.caBundle: {name} {}", objects.why_missing(&map))
                })?;
            let pem = map.data.as_ref().and_then(|data| data.get(&reference.key));
            pem.cloned()
                .map(Some)
                .ok_or_else(|| format!("spec.s3.tls.caBundle: {name} has no key {}", reference.key))
        }
    }
}

fn own_secrets(objects: &Objects, problems: &mut Vec<Problem>) -> OwnSecrets {
    let mut found = Vec::new();
    for secret in &objects.secrets {
        let (Some(namespace), Some(name)) = (&secret.metadata.namespace, &secret.metadata.name) else {
            continue;
        };
        if !secret
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(OWN_STORAGE_LABEL))
        {
            continue;
        }
        // It opens what its backend grants, whatever prefix someone wrote onto it.
        if secret.metadata.labels.as_ref().is_some_and(is_managed) {
            problems.push(objects.problem(
                ObjectRef::namespaced("Secret", namespace, name),
                format!(
                    "is kept by Tidewaiter, so the label {OWN_STORAGE_LABEL} on it counts for nothing; take it off"
                ),
            ));
            continue;
        }
        match secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(PREFIX_ANNOTATION)) {
            Some(prefix) => found.push((namespace.as_str(), prefix.as_str(), name.as_str())),
            None => problems.push(objects.problem(
                ObjectRef::namespaced("Secret", namespace, name),
                format!("has the label {OWN_STORAGE_LABEL} and no annotation {PREFIX_ANNOTATION} that says what it opens, such as s3://bucket/path/"),
            )),
        }
    }
    let (own, unusable) = OwnSecrets::new(found);
    problems.extend(unusable.into_iter().map(|secret| {
        let object = ObjectRef::namespaced("Secret", &secret.namespace, &secret.name);
        objects.problem(object, secret.reason)
    }));
    own
}

fn runtimes(objects: &Objects, before: Option<&Configuration>, problems: &mut Vec<Problem>) -> Runtimes {
    // A cluster has what it has.
    if objects.installed_runtimes && objects.runtimes.is_empty() {
        return Runtimes::new(kserve_runtimes::of_release(kserve_runtimes::NEWEST).unwrap_or_default());
    }
    let mut good: Vec<ServingRuntime> = Vec::new();
    for runtime in &objects.runtimes {
        match ServingRuntime::from_json(runtime) {
            Ok(runtime) => good.push(runtime),
            Err(error) => {
                let object = ObjectRef::of_runtime(runtime);
                let last = before.and_then(|before| {
                    before
                        .runtimes
                        .iter()
                        .find(|runtime| runtime.name == object.name && runtime.namespace == object.namespace)
                });
                good.extend(last.cloned());
                problems.push(objects.problem(object, error.to_string()));
            }
        }
    }
    Runtimes::new(good)
}

fn catalogue(objects: &Objects, before: Option<&Configuration>, problems: &mut Vec<Problem>) -> Arc<Catalogue> {
    let mut own: Vec<(ObjectRef, bool, Catalogue)> = Vec::new();
    let mut failed = false;
    for map in &objects.config_maps {
        let Some(mode) = map
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(CATALOGUE_LABEL))
        else {
            continue;
        };
        let object = ObjectRef::namespaced(
            "ConfigMap",
            map.metadata.namespace.as_deref().unwrap_or_default(),
            map.metadata.name.as_deref().unwrap_or_default(),
        );
        let read = match (
            mode.as_str(),
            map.data.as_ref().and_then(|data| data.get(CATALOGUE_KEY)),
        ) {
            ("extend" | "replace", Some(yaml)) => Catalogue::parse(yaml).map_err(|error| catalogue_words(&error)),
            ("extend" | "replace", None) => Err(format!("has the label {CATALOGUE_LABEL} and no key {CATALOGUE_KEY}")),
            (other, _) => Err(format!(
                "has the label {CATALOGUE_LABEL}: {other}; write extend or replace"
            )),
        };
        match read {
            Ok(catalogue) => own.push((object, mode == "replace", catalogue)),
            Err(message) => {
                failed = true;
                problems.push(objects.problem(object, message));
            }
        }
    }
    // Catalogues build on one another: where one of them can't be read, all stay as they were.
    if failed && let Some(before) = before {
        return Arc::clone(&before.catalogue);
    }
    own.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let replaced = own.first().is_some_and(|(_, replaces, _)| *replaces);
    let mut catalogue = if replaced {
        Catalogue::default()
    } else {
        Catalogue::built_in().clone()
    };
    for (_, _, own) in &own {
        catalogue.extend(own.clone());
    }
    for (object, _, own) in &own {
        problems.extend(misnamed(own).map(|message| Problem {
            in_use: true,
            ..objects.problem(object.clone(), message)
        }));
    }
    for (repository, message) in catalogue.problems() {
        let lists = |(_, _, own): &&(ObjectRef, bool, Catalogue)| own.lists(&repository);
        // The last that lists it counts. The built-in one has no such problems.
        if let Some((object, _, _)) = own.iter().rfind(lists) {
            problems.push(objects.problem(object.clone(), message));
        }
    }
    Arc::new(catalogue)
}

/// Why a catalogue can't be read, in one line.
fn catalogue_words(error: &CatalogueError) -> String {
    match error {
        CatalogueError::Yaml(error) => {
            let (line, words) = words::explain(error, false);
            match line {
                Some(line) => format!("{CATALOGUE_KEY}, line {line}: {words}"),
                None => format!("{CATALOGUE_KEY}: {words}"),
            }
        }
        other => other.to_string(),
    }
}

/// Packages that the catalogue calls by another name than `PyPI`, which is what policies ask for.
fn misnamed(catalogue: &Catalogue) -> impl Iterator<Item = String> {
    let known: Vec<&str> = Catalogue::built_in().packages().map(|(_, package)| package).collect();
    let found: BTreeMap<&str, &str> = catalogue
        .packages()
        .map(|(repository, package)| (package, repository))
        .collect();
    found.into_iter().filter_map(move |(package, repository)| {
        let alike = |name: &str| name.to_lowercase().replace(['_', '.'], "-");
        let meant = IMPORTED_AS
            .iter()
            .find(|(import, _)| *import == alike(package))
            .map(|(_, name)| *name)
            .or_else(|| known.iter().copied().find(|name| *name == alike(package)))
            .or_else(|| one_letter_off(package, &known))
            .filter(|meant| *meant != package)?;
        Some(format!(
            "{CATALOGUE_KEY}: repository {repository} has a package `{package}`, which nobody asks for; on PyPI it is called `{meant}`"
        ))
    })
}

/// Names by which packages are imported, and their names on `PyPI`.
const IMPORTED_AS: [(&str, &str); 6] = [
    ("sklearn", "scikit-learn"),
    ("pytorch", "torch"),
    ("tf", "tensorflow"),
    ("xgb", "xgboost"),
    ("lgbm", "lightgbm"),
    ("paddle", "paddlepaddle"),
];
