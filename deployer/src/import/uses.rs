//! Which model is loaded with which Secret.
//!
//! Source: `pkg/credentials/service_account_credentials.go` of KServe 0.15.2 and 0.20.0. `model.storage` counts before all else; then the Secret that the
//! annotation names, and no other; then those of the `ServiceAccount`, of which the last one for a kind of store wins.

use std::collections::{BTreeMap, BTreeSet};

use tidewaiter_core::service::{Component, Service, Storage};
use tidewaiter_core::uri::StorageUri;

use super::found::{Found, FoundService};
use super::stores::Candidate;
use super::{Source, prefix};

/// The key that is looked up where none is named.
const DEFAULT_KEYS: [&str; 2] = ["default_s3", "default"];

/// The Secrets, by namespace and name, whose keys services name.
pub(super) fn by_key(found: &Found) -> BTreeSet<(String, String)> {
    let mut named = BTreeSet::new();
    for service in &found.services {
        let Ok(parsed) = Service::parse(service.kind, &service.json) else {
            continue;
        };
        for component in parsed.components() {
            if component.storage().is_some()
                && let Some(secret) = annotated(&parsed, component, found)
            {
                named.insert((service.namespace.clone(), secret));
            }
        }
    }
    named
}

/// Which URIs are loaded with each candidate.
pub(super) fn uses(found: &Found, candidates: &[Candidate]) -> BTreeMap<Source, BTreeSet<String>> {
    let known: BTreeMap<&Source, &Candidate> = candidates
        .iter()
        .map(|candidate| (&candidate.source, candidate))
        .collect();
    let mut uses: BTreeMap<Source, BTreeSet<String>> = BTreeMap::new();
    for service in &found.services {
        let Ok(parsed) = Service::parse(service.kind, &service.json) else {
            continue;
        };
        if parsed.is_being_deleted() {
            continue;
        }
        for component in parsed.components() {
            let loaded = match component.storage() {
                Some(storage) => by_storage(service, &parsed, component, storage, found, &known),
                None => by_secret(service, &parsed, component, found, &known),
            };
            for (source, uri) in loaded {
                uses.entry(source).or_default().insert(uri);
            }
        }
    }
    uses
}

fn by_storage(
    service: &FoundService,
    parsed: &Service<'_>,
    component: &Component<'_>,
    storage: &Storage<'_>,
    found: &Found,
    known: &BTreeMap<&Source, &Candidate>,
) -> Vec<(Source, String)> {
    let secret = annotated(parsed, component, found).unwrap_or_else(|| found.kserve.config.storage_spec_secret.clone());
    let source = |key: &str| Source {
        namespace: service.namespace.clone(),
        secret: secret.clone(),
        key: Some(key.to_owned()),
    };
    let source = match &storage.key {
        Some(key) => Some(source(key)),
        None => DEFAULT_KEYS
            .into_iter()
            .map(source)
            .find(|source| known.contains_key(source)),
    };
    let Some(source) = source else {
        return Vec::new();
    };
    let mut uris: Vec<String> = component.models.iter().map(|model| model.uri.to_string()).collect();
    let bucket = known
        .get(&source)
        .and_then(|candidate| candidate.store.as_ref().ok()?.bucket.clone());
    if uris.is_empty()
        && let Some(bucket) = bucket
    {
        let path = storage.path.as_deref().unwrap_or_default().trim_matches('/');
        uris.push(format!("s3://{bucket}/{path}"));
    }
    uris.into_iter().map(|uri| (source.clone(), uri)).collect()
}

fn by_secret(
    service: &FoundService,
    parsed: &Service<'_>,
    component: &Component<'_>,
    found: &Found,
    known: &BTreeMap<&Source, &Candidate>,
) -> Vec<(Source, String)> {
    let named = match annotated(parsed, component, found) {
        Some(secret) => vec![secret],
        None => listed(service, component, found),
    };
    let mut loaded = Vec::new();
    for model in &component.models {
        let Ok(uri) = StorageUri::parse(&model.uri) else {
            continue;
        };
        let source = named.iter().rev().find_map(|secret| {
            let source = Source {
                namespace: service.namespace.clone(),
                secret: secret.clone(),
                key: None,
            };
            let store = known.get(&source)?.store.as_ref().ok()?;
            prefix::opens(store.kind, &uri).then_some(source)
        });
        loaded.extend(source.map(|source| (source, model.uri.to_string())));
    }
    loaded
}

fn annotated(parsed: &Service<'_>, component: &Component<'_>, found: &Found) -> Option<String> {
    let annotation = found.kserve.config.secret_annotation.as_deref()?;
    let named = component
        .annotation(annotation)
        .or_else(|| parsed.annotation(annotation))?;
    Some(named.into_owned())
}

fn listed(service: &FoundService, component: &Component<'_>, found: &Found) -> Vec<String> {
    let account = component
        .service_account_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let account = account.unwrap_or("default");
    let mut accounts = found.accounts.iter();
    accounts
        .find(|one| one.namespace == service.namespace && one.name == account)
        .map(|one| one.secrets.clone())
        .unwrap_or_default()
}
