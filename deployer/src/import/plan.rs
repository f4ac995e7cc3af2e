//! What an import would do: from what is there, without asking anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidewaiter_core::backend::{Backend, Credentials, GrantSpec, SecretReference, StorageBackend, StorageBackendSpec};
use tidewaiter_core::backends::{Backends, Resolved, UnusableBackend};
use tidewaiter_core::uri::{StorageUri, UriPattern};

use super::found::Found;
use super::stores::{self, Store};
use super::{Data, Source, names, prefix, uses};

/// What an admin asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Tidewaiter's namespace, where the copies of Secrets go.
    pub tidewaiter: String,
    /// The only Secrets to import; none for all that there are.
    pub chosen: Vec<Source>,
    /// What the chosen ones serve, in place of what is loaded with them.
    pub serves: Vec<String>,
    /// What the backend is to be called, in place of the Secret's name.
    pub name: Option<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A chosen Secret isn't there, or has no keys that KServe knows.
    #[error("{0} is not a Secret that KServe opens a store with")]
    NotFound(Source),
    /// One name, or one list of prefixes, for several stores.
    #[error("{flag} is for one store, and the chosen Secrets open {stores}")]
    SeveralStores {
        /// Which flag.
        flag: &'static str,
        /// How many.
        stores: usize,
    },
    /// A prefix that is none.
    #[error("--serves: `{text}` {reason}")]
    Serves {
        /// The prefix.
        text: String,
        /// The rest of the sentence.
        reason: String,
    },
}

/// What is to be done, and what isn't, with reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// What a backend that is there serves already.
    pub settled: Vec<Settled>,
    /// What is left alone.
    pub skipped: Vec<Skipped>,
    /// What somebody has to decide.
    pub conflicts: Vec<Conflict>,
}

/// One backend that is made or extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The backend's name.
    pub name: String,
    /// Where its credentials come from.
    pub sources: Vec<Source>,
    /// As it is to be.
    pub after: StorageBackendSpec,
    /// As it is; none for a new one.
    pub before: Option<StorageBackendSpec>,
    /// The version of `before`.
    pub resource_version: Option<String>,
    /// The Secret that has to be made with it.
    pub secret: Option<NewSecret>,
    /// What to look at.
    pub notes: Vec<String>,
}

/// A Secret in Tidewaiter's namespace. Its values aren't shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// Tidewaiter's.
    pub namespace: String,
    /// The backend's.
    pub name: String,
    /// Which Secret it is copied from.
    pub copied_from: Source,
    /// What it will hold.
    pub data: Data,
}

/// A Secret whose store a backend serves already.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Settled {
    /// The Secret.
    pub source: Source,
    /// The backend.
    pub backend: String,
}

/// A Secret that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The Secret.
    pub source: Source,
    /// Why, and what to do about it.
    pub reason: String,
}

/// Something that can't be done without a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The Secrets that it concerns.
    pub sources: Vec<Source>,
    /// What is in the way.
    pub message: String,
    /// What to do.
    pub next: String,
}

impl Change {
    /// The backend as it is to be.
    pub fn object(&self) -> StorageBackend {
        StorageBackend::new(&self.name, self.after.clone())
    }

    /// The backend as it is.
    pub fn object_before(&self) -> Option<StorageBackend> {
        let spec = self.before.clone()?;
        Some(StorageBackend::new(&self.name, spec))
    }

    /// The namespaces that are granted something by it.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        let grants = self.after.grants.iter().flatten();
        grants
            .flat_map(|grant| grant.namespaces.iter().flatten())
            .map(String::as_str)
            .collect()
    }

    /// Whether the backend itself changes: where not, only its Secret is missing.
    pub fn changes_backend(&self) -> bool {
        self.before.as_ref() != Some(&self.after)
    }
}

/// All Secrets with the same keys for the same place.
struct Group {
    store: Store,
    sources: Vec<Source>,
    /// What is loaded with them, by namespace; a namespace that loads nothing has an empty list.
    loaded: BTreeMap<String, BTreeSet<String>>,
    /// The prefixes to serve.
    serves: BTreeSet<String>,
    notes: Vec<String>,
}

impl Group {
    fn prefixes(&self, uris: &BTreeSet<String>, fixed: &[String]) -> BTreeSet<String> {
        if !fixed.is_empty() || uris.is_empty() {
            return self.serves.clone();
        }
        let uris = uris.iter().filter_map(|uri| StorageUri::parse(uri).ok());
        uris.map(|uri| prefix::of(&uri)).collect()
    }

    fn told(&self) -> String {
        told(&self.sources)
    }

    fn one(&self) -> &Source {
        &self.sources[0]
    }
}

/// At most three by name.
fn told(sources: &[Source]) -> String {
    let named: Vec<String> = sources.iter().take(3).map(Source::to_string).collect();
    let more = sources.len().saturating_sub(named.len());
    if more == 0 {
        named.join(", ")
    } else {
        format!("{} and {more} more", named.join(", "))
    }
}

/// Works out what to do.
///
/// # Errors
/// Where what is asked for makes no sense here.
pub fn plan(found: &Found, options: &Options) -> Result<Plan, OptionsError> {
    for text in &options.serves {
        UriPattern::parse(text).map_err(|reason| OptionsError::Serves {
            text: text.clone(),
            reason,
        })?;
    }
    let mut plan = Plan::default();
    let groups = groups(found, options, &mut plan)?;
    let existing = Existing::of(found);
    let mut planner = Planner {
        found,
        options,
        existing,
        plan,
        open: Vec::new(),
    };
    let (there, new): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .map(|group| (planner.existing.opening(&group.store, found), group))
        .partition(|(backends, _)| !backends.is_empty());
    for (backends, group) in there {
        planner.extend(&backends, group);
    }
    for (_, group) in new {
        planner.add(group);
    }
    Ok(planner.finish())
}

/// The candidates by store; those that are left alone go into the plan.
fn groups(found: &Found, options: &Options, plan: &mut Plan) -> Result<Vec<Group>, OptionsError> {
    let candidates = stores::candidates(found, &options.tidewaiter, &uses::by_key(found));
    for chosen in &options.chosen {
        if !candidates.iter().any(|candidate| is_chosen(chosen, &candidate.source)) {
            return Err(OptionsError::NotFound(chosen.clone()));
        }
    }
    let mut uses = uses::uses(found, &candidates);
    let mut groups: Vec<Group> = Vec::new();
    for candidate in candidates {
        let source = candidate.source;
        if !options.chosen.is_empty() && !options.chosen.iter().any(|chosen| is_chosen(chosen, &source)) {
            continue;
        }
        let store = match candidate.store {
            Ok(store) => store,
            Err(reason) => {
                plan.skipped.push(Skipped { source, reason });
                continue;
            }
        };
        let uris = uses.remove(&source).unwrap_or_default();
        let at = groups.iter().position(|group| group.store.is_same(&store));
        let at = at.unwrap_or_else(|| {
            groups.push(Group {
                notes: store.notes.clone(),
                store: store.clone(),
                sources: Vec::new(),
                loaded: BTreeMap::new(),
                serves: options.serves.iter().cloned().collect(),
            });
            groups.len() - 1
        });
        let group = &mut groups[at];
        if group.store.s3 != store.s3 {
            group.notes.push(format!(
                "{source} has other settings for the same store; those of {} are taken",
                group.one()
            ));
        }
        let opened = uris.into_iter().filter(|uri| {
            let uri = StorageUri::parse(uri);
            uri.is_ok_and(|uri| prefix::opens(group.store.kind, &uri))
        });
        let loaded = group.loaded.entry(source.namespace.clone()).or_default();
        loaded.extend(opened);
        group.sources.push(source);
    }
    for flag in [
        (!options.serves.is_empty()).then_some("--serves"),
        options.name.is_some().then_some("--name"),
    ] {
        if let Some(flag) = flag
            && groups.len() > 1
        {
            return Err(OptionsError::SeveralStores {
                flag,
                stores: groups.len(),
            });
        }
    }
    for group in &mut groups {
        if options.serves.is_empty() {
            let uris = group.loaded.values().flatten();
            let uris = uris.filter_map(|uri| StorageUri::parse(uri).ok());
            group.serves = uris.map(|uri| prefix::of(&uri)).collect();
        } else {
            // Whatever is loaded today: the admin says what the store is for.
            let probes = options.serves.iter().filter_map(|text| prefix::probe(text));
            let probes: BTreeSet<String> = probes.map(|uri| uri.to_string()).collect();
            group.loaded.values_mut().for_each(|uris| uris.clone_from(&probes));
        }
    }
    Ok(groups)
}

/// A Secret is chosen with all its keys.
fn is_chosen(chosen: &Source, source: &Source) -> bool {
    chosen.namespace == source.namespace
        && chosen.secret == source.secret
        && (chosen.key.is_none() || chosen.key == source.key)
}

/// The backends that are there.
struct Existing {
    backends: Backends,
}

impl Existing {
    fn of(found: &Found) -> Self {
        let (mut usable, mut unusable) = (Vec::new(), Vec::new());
        for backend in &found.backends {
            let read = serde_json::from_value::<StorageBackendSpec>(backend.spec.clone())
                .map_err(|error| vec![error.to_string()])
                .and_then(|spec| Backend::new(&backend.name, spec));
            match read {
                Ok(backend) => usable.push(backend),
                Err(problems) => {
                    unusable.extend(UnusableBackend::read(&backend.name, &backend.spec, problems.join("; ")));
                }
            }
        }
        Self {
            backends: Backends::new(usable).0.with_unusable(unusable),
        }
    }

    /// The backends that open this store with these keys.
    fn opening(&self, store: &Store, found: &Found) -> Vec<Backend> {
        let backends = self.backends.iter();
        backends
            .filter(|backend| store.is_opened_by(backend, found) == Some(true))
            .cloned()
            .collect()
    }
}

/// What a backend lacks of what is loaded with its keys.
#[derive(Default)]
struct Lack {
    serves: BTreeSet<String>,
    /// Namespaces by the prefixes that they need.
    grants: BTreeMap<BTreeSet<String>, Vec<String>>,
}

struct Planner<'a> {
    found: &'a Found,
    options: &'a Options,
    existing: Existing,
    plan: Plan,
    /// New backends, with what they serve: two may want the same.
    open: Vec<(Group, String)>,
}

impl Planner<'_> {
    fn resolve(&self, uri: &str, namespace: &str) -> Resolved<'_> {
        let labels = self.found.namespaces.get(namespace);
        self.existing.backends.resolve_text(uri, namespace, labels)
    }

    fn skip(&mut self, sources: Vec<Source>, reason: &str) {
        let skipped = sources.into_iter().map(|source| Skipped {
            source,
            reason: reason.to_owned(),
        });
        self.plan.skipped.extend(skipped);
    }

    fn settle(&mut self, source: Source, backend: &str) {
        let backend = backend.to_owned();
        self.plan.settled.push(Settled { source, backend });
    }

    fn conflict(&mut self, sources: Vec<Source>, message: String, next: String) {
        self.plan.conflicts.push(Conflict { sources, message, next });
    }

    /// Backends have these keys already: whoever loads with them may have to be granted one.
    fn extend(&mut self, backends: &[Backend], group: Group) {
        let lacks = match self.lacks(backends, &group) {
            Ok(lacks) => lacks,
            Err((uri, other)) => return self.served_elsewhere(group, &uri, &other),
        };
        let found = self.found;
        if lacks.is_empty() {
            for source in group.sources {
                let namespace = source.namespace.as_str();
                let loads = group.loaded.get(namespace).is_some_and(|uris| !uris.is_empty());
                let granted = backends
                    .iter()
                    .find(|backend| backend.granted_anything(namespace, found.namespaces.get(namespace)));
                match granted {
                    Some(backend) => self.settle(source, backend.name()),
                    None if loads => self.settle(source, backends[0].name()),
                    None => self.skip(vec![source], UNUSED),
                }
            }
            return;
        }
        for (name, lack) in lacks {
            let Some(backend) = backends.iter().find(|backend| backend.name() == name) else {
                continue;
            };
            let before = backend.spec().clone();
            let mut after = before.clone();
            let known = &before.serves;
            let new = lack.serves.into_iter().filter(|prefix| !known.contains(prefix));
            after.serves.extend(new);
            if let Some(grants) = &mut after.grants {
                grants.extend(lack.grants.into_iter().map(|(prefixes, namespaces)| GrantSpec {
                    namespaces: Some(namespaces),
                    namespace_selector: None,
                    prefixes: Some(prefixes.into_iter().collect()),
                }));
            }
            let there = found.backends.iter().find(|there| there.name == name);
            if let Some(keeper) = there.and_then(|there| there.kept_by) {
                let message = format!(
                    "StorageBackend {name} has the keys of {}, and not all that is loaded with them; {keeper} keeps it, and would undo a change made here",
                    group.told()
                );
                let added = added(&before, &after);
                let next = format!("add to its spec where {keeper} has it from: {added}");
                self.conflict(group.sources.clone(), message, next);
                continue;
            }
            self.plan.changes.push(Change {
                name,
                sources: group.sources.clone(),
                after,
                before: Some(before),
                resource_version: there.and_then(|there| there.resource_version.clone()),
                secret: None,
                notes: group.notes.clone(),
            });
        }
    }

    /// What these backends lack, each by its name. The error is a URI that another one serves, and that one.
    fn lacks(&self, backends: &[Backend], group: &Group) -> Result<BTreeMap<String, Lack>, (String, String)> {
        let mut lacks: BTreeMap<String, Lack> = BTreeMap::new();
        for (namespace, uris) in &group.loaded {
            // By backend: what of it this namespace needs.
            let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for uri in uris {
                let resolved = self.resolve(uri, namespace);
                let name = match (&resolved, taken_by(&resolved)) {
                    (_, Some(other)) if backends.iter().all(|backend| backend.name() != other) => {
                        return Err((uri.clone(), other));
                    }
                    (Resolved::Served(_), _) => continue,
                    (_, Some(name)) => name,
                    (_, None) => {
                        let name = backends[0].name().to_owned();
                        let prefixes = group.prefixes(&BTreeSet::from([uri.clone()]), &self.options.serves);
                        lacks.entry(name.clone()).or_default().serves.extend(prefixes);
                        name
                    }
                };
                needs.entry(name).or_default().insert(uri.clone());
            }
            for (name, uris) in needs {
                let prefixes = group.prefixes(&uris, &self.options.serves);
                let grants = &mut lacks.entry(name).or_default().grants;
                grants.entry(prefixes).or_default().push(namespace.clone());
            }
        }
        Ok(lacks)
    }

    /// No backend has these keys.
    fn add(&mut self, mut group: Group) {
        if group.serves.is_empty() {
            self.skip(group.sources, UNUSED);
            return;
        }
        let (mut elsewhere, mut awaiting) = (None, None);
        let mut notes = BTreeSet::new();
        for (namespace, uris) in &group.loaded {
            for uri in uris {
                let Some(other) = taken_by(&self.resolve(uri, namespace)) else {
                    continue;
                };
                let prefixes = group.prefixes(&BTreeSet::from([uri.clone()]), &self.options.serves);
                if self.open_to_all(&other, &prefixes) {
                    // A part of what anyone may read: those who load from there without keys will need a grant.
                    notes.insert(format!(
                        "takes {} from StorageBackend {other}, which needs no keys: services of other namespaces that load from there will need a grant",
                        prefixes.into_iter().collect::<Vec<_>>().join(", ")
                    ));
                } else if self.awaits(&other, &group) && self.open.iter().all(|(_, name)| *name != other) {
                    // It is this very one, whose Secret isn't there yet.
                    awaiting = Some(other);
                } else {
                    elsewhere = Some((uri.clone(), other));
                }
            }
        }
        if let Some((uri, other)) = elsewhere {
            self.served_elsewhere(group, &uri, &other);
            return;
        }
        group.notes.extend(notes);
        let taken = |name: &str| self.open.iter().any(|(_, open)| open == name) || self.is_settled(name);
        let name = awaiting
            .or_else(|| self.options.name.clone())
            .unwrap_or_else(|| names::of(group.one(), taken));
        self.open.push((group, name));
    }

    /// Whether a backend that is there is one that this import, or the last one, has just filled.
    fn is_settled(&self, name: &str) -> bool {
        self.plan.settled.iter().any(|settled| settled.backend == name)
            || self.plan.changes.iter().any(|change| change.name == name)
    }

    /// Whether anyone may read what a backend serves, and it serves more than these prefixes.
    fn open_to_all(&self, backend: &str, prefixes: &BTreeSet<String>) -> bool {
        self.existing.backends.get(backend).is_some_and(|backend| {
            matches!(backend.spec().credentials, Credentials::Anonymous(_))
                && backend.spec().serves.iter().all(|serves| !prefixes.contains(serves))
        })
    }

    /// Whether a backend that is there is this group's, and lacks only its Secret: as one that Git brought.
    fn awaits(&self, backend: &str, group: &Group) -> bool {
        self.existing.backends.get(backend).is_some_and(|backend| {
            let Credentials::SecretRef(secret) = &backend.spec().credentials else {
                return false;
            };
            secret.namespace == self.options.tidewaiter
                && group.store.is_opened_by(backend, self.found).is_none()
                && self.found.secret(&secret.namespace, &secret.name).is_none()
        })
    }

    fn served_elsewhere(&mut self, group: Group, uri: &str, other: &str) {
        let message = format!(
            "{} open {uri}, which StorageBackend {other} serves with other credentials",
            group.told()
        );
        let next = format!(
            "leave it as it is, or give this Secret a part of its own: tidewaiter backend import {} --serves PREFIX --name NAME",
            group.one()
        );
        self.conflict(group.sources, message, next);
    }

    /// New backends, now that all of them are known.
    fn finish(mut self) -> Plan {
        let open = std::mem::take(&mut self.open);
        let mut by_prefix: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, (group, _)) in open.iter().enumerate() {
            for prefix in &group.serves {
                by_prefix.entry(prefix.trim_end_matches('/')).or_default().push(index);
            }
        }
        let mut contested = BTreeSet::new();
        for (prefix, wanted) in by_prefix.iter().filter(|(_, wanted)| wanted.len() > 1) {
            let sources: Vec<Source> = wanted.iter().map(|index| open[*index].0.one().clone()).collect();
            let message = format!(
                "{} open {prefix}/ with different keys, or in different places; a URI has one backend",
                told(&sources)
            );
            let next = format!(
                "import one of them: tidewaiter backend import {}; or give each a part of its own with --serves PREFIX",
                sources[0]
            );
            let sources = wanted.iter().flat_map(|index| open[*index].0.sources.clone()).collect();
            self.plan.conflicts.push(Conflict { sources, message, next });
            contested.extend(wanted.iter().copied());
        }
        for (index, (group, name)) in open.into_iter().enumerate() {
            if !contested.contains(&index) {
                self.make(group, &name);
            }
        }
        self.plan.settled.sort();
        self.plan.skipped.sort();
        self.plan
    }

    fn make(&mut self, group: Group, name: &str) {
        let reference = SecretReference {
            namespace: self.options.tidewaiter.clone(),
            name: name.to_owned(),
            keys: BTreeMap::new(),
        };
        let mut spec = group.store.spec(group.serves.iter().cloned().collect(), reference);
        spec.grants = Some(grants(&group, &self.options.serves));
        if let Err(problems) = Backend::new(name, spec.clone()) {
            let next = format!(
                "give it another name, or other prefixes: tidewaiter backend import {} --serves PREFIX --name NAME",
                group.one()
            );
            let message = format!("{} make no StorageBackend: {}", group.told(), problems.join("; "));
            self.conflict(group.sources, message, next);
            return;
        }
        let rename = format!(
            "give it another name: tidewaiter backend import {} --name NAME",
            group.one()
        );
        let before = self.found.backends.iter().find(|there| there.name == name);
        let before = match before {
            None => None,
            Some(there) if self.awaits(name, &group) => self
                .existing
                .backends
                .get(name)
                .map(|backend| (backend.spec().clone(), there.resource_version.clone())),
            Some(_) => {
                let message = format!(
                    "{} would become StorageBackend {name}, which is there and opens another store",
                    group.told()
                );
                self.conflict(group.sources, message, rename);
                return;
            }
        };
        let mut secret = None;
        if !group.store.keys.is_empty() {
            match self.found.secret(&self.options.tidewaiter, name) {
                Some(there) if there.data != group.store.keys => {
                    let message = format!(
                        "Secret {}/{name} is there, and holds something else than {}",
                        self.options.tidewaiter,
                        group.told()
                    );
                    self.conflict(group.sources, message, rename);
                    return;
                }
                Some(_) => {}
                None => {
                    secret = Some(NewSecret {
                        namespace: self.options.tidewaiter.clone(),
                        name: name.to_owned(),
                        copied_from: group.one().clone(),
                        data: group.store.keys.clone(),
                    });
                }
            }
        }
        let (before, resource_version) = before.map_or((None, None), |(before, version)| (Some(before), version));
        self.plan.changes.push(Change {
            name: name.to_owned(),
            sources: group.sources,
            // One that is there stays as somebody wrote it.
            after: before.clone().unwrap_or(spec),
            before,
            resource_version,
            secret,
            notes: group.notes,
        });
    }
}

/// Why a Secret is left alone that nothing is loaded with.
const UNUSED: &str = "no service loads anything with it; say what it is for with --serves PREFIX";

/// Who serves a URI, for whomever.
fn taken_by(resolved: &Resolved<'_>) -> Option<String> {
    match resolved {
        Resolved::Served(backend) | Resolved::NotGranted { backend, .. } => Some(backend.name().to_owned()),
        Resolved::Unusable(backend) => Some(backend.name.clone()),
        Resolved::Unserved | Resolved::NoCredentials | Resolved::Unsupported(_) => None,
    }
}

/// Who may use what: namespaces with the same prefixes share a grant.
fn grants(group: &Group, fixed: &[String]) -> Vec<GrantSpec> {
    let mut by_prefixes: BTreeMap<BTreeSet<String>, Vec<String>> = BTreeMap::new();
    for (namespace, uris) in &group.loaded {
        let prefixes = group.prefixes(uris, fixed);
        by_prefixes.entry(prefixes).or_default().push(namespace.clone());
    }
    let grants = by_prefixes.into_iter().map(|(prefixes, namespaces)| GrantSpec {
        namespaces: Some(namespaces),
        namespace_selector: None,
        prefixes: (prefixes != group.serves).then(|| prefixes.into_iter().collect()),
    });
    grants.collect()
}

/// What an extended backend has more than before, in YAML's flow form.
fn added(before: &StorageBackendSpec, after: &StorageBackendSpec) -> String {
    let mut parts = Vec::new();
    let serves = &after.serves[before.serves.len()..];
    if !serves.is_empty() {
        parts.push(format!("serves [{}]", serves.join(", ")));
    }
    let known = before.grants.as_ref().map_or(0, Vec::len);
    for grant in after.grants.iter().flatten().skip(known) {
        parts.push(format!(
            "grants {{namespaces: [{}], prefixes: [{}]}}",
            grant
                .namespaces
                .iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(", "),
            grant.prefixes.iter().flatten().cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    parts.join(", ")
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
