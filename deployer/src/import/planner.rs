//! What becomes of each group of Secrets, beside the backends that are there.

use std::collections::{BTreeMap, BTreeSet};

use tidewaiter_core::backend::{Backend, Credentials, GrantSpec, SecretReference, StorageBackendSpec};
use tidewaiter_core::backends::{Backends, Resolved, UnusableBackend};

use super::found::Found;
use super::groups::{self, Group, told};
use super::plan::{Change, Conflict, NewSecret, Options, Plan, Settled, Skipped};
use super::stores::Store;
use super::{Source, names};

/// Why a Secret is left alone that nothing is loaded with.
const UNUSED: &str = "no service loads anything with it; say what it is for with --serves PREFIX";

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

/// What becomes of these groups.
pub(super) fn plan(found: &Found, options: &Options, groups: Vec<Group>, skipped: Vec<Skipped>) -> Plan {
    let mut planner = Planner {
        found,
        options,
        existing: Existing::of(found),
        plan: Plan {
            skipped,
            ..Plan::default()
        },
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
    planner.finish()
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
        // Where the admin says what it is for, nobody loads this URI: it only stands for the prefix.
        let uri = match self.options.serves.as_slice() {
            [] => uri.to_owned(),
            serves => serves.join(", "),
        };
        let message = format!(
            "{}: StorageBackend {other} serves {uri}, with other credentials",
            group.told()
        );
        let backend = self.existing.backends.get(other);
        let first = match backend.map(|backend| &backend.spec().credentials) {
            Some(Credentials::SecretRef(secret)) => format!(
                "if the key was renewed, renew it in Secret {}/{} too; else",
                secret.namespace, secret.name
            ),
            _ => "leave it as it is, or".to_owned(),
        };
        let next = format!(
            "{first} give this Secret a part of its own: tidewaiter backend import {} --serves PREFIX --name NAME",
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
        spec.grants = Some(groups::grants(&group, &self.options.serves));
        if let Err(problems) = Backend::new(name, spec.clone()) {
            let next = format!(
                "give it another name, or other prefixes: tidewaiter backend import {} --serves PREFIX --name NAME",
                group.one()
            );
            let message = format!(
                "{}: no StorageBackend can be made: {}",
                group.told(),
                problems.join("; ")
            );
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
                    "{}: StorageBackend {name} is there, and opens another store",
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

/// Who serves a URI, for whomever.
fn taken_by(resolved: &Resolved<'_>) -> Option<String> {
    match resolved {
        Resolved::Served(backend) | Resolved::NotGranted { backend, .. } => Some(backend.name().to_owned()),
        Resolved::Unusable(backend) => Some(backend.name.clone()),
        Resolved::Unserved | Resolved::NoCredentials | Resolved::Unsupported(_) => None,
    }
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
