//! Secrets that are the same credentials.

use std::collections::{BTreeMap, BTreeSet};

use tidewaiter_core::backend::GrantSpec;
use tidewaiter_core::uri::StorageUri;

use super::found::Found;
use super::plan::{Options, OptionsError, Skipped};
use super::stores::{self, Store};
use super::{Source, prefix, uses};

/// All Secrets with the same keys for the same place.
pub(super) struct Group {
    pub(super) store: Store,
    pub(super) sources: Vec<Source>,
    /// What is loaded with them, by namespace; a namespace that loads nothing has an empty list.
    pub(super) loaded: BTreeMap<String, BTreeSet<String>>,
    /// The prefixes to serve.
    pub(super) serves: BTreeSet<String>,
    pub(super) notes: Vec<String>,
}

impl Group {
    pub(super) fn prefixes(&self, uris: &BTreeSet<String>, fixed: &[String]) -> BTreeSet<String> {
        if !fixed.is_empty() || uris.is_empty() {
            return self.serves.clone();
        }
        let uris = uris.iter().filter_map(|uri| StorageUri::parse(uri).ok());
        uris.map(|uri| prefix::of(&uri)).collect()
    }

    pub(super) fn told(&self) -> String {
        told(&self.sources)
    }

    pub(super) fn one(&self) -> &Source {
        &self.sources[0]
    }
}

/// At most three by name.
pub(super) fn told(sources: &[Source]) -> String {
    let named: Vec<String> = sources.iter().take(3).map(Source::to_string).collect();
    let more = sources.len().saturating_sub(named.len());
    if more == 0 {
        named.join(", ")
    } else {
        format!("{} and {more} more", named.join(", "))
    }
}

/// The candidates by store, and those that are left alone.
pub(super) fn groups(found: &Found, options: &Options) -> Result<(Vec<Group>, Vec<Skipped>), OptionsError> {
    let candidates = stores::candidates(found, &options.tidewaiter, &uses::by_key(found));
    for chosen in &options.chosen {
        if !candidates.iter().any(|candidate| is_chosen(chosen, &candidate.source)) {
            return Err(OptionsError::NotFound(chosen.clone()));
        }
    }
    let mut uses = uses::uses(found, &candidates);
    let (mut groups, mut skipped): (Vec<Group>, Vec<Skipped>) = Default::default();
    for candidate in candidates {
        let source = candidate.source;
        if !options.chosen.is_empty() && !options.chosen.iter().any(|chosen| is_chosen(chosen, &source)) {
            continue;
        }
        let store = match candidate.store {
            Ok(store) => store,
            Err(reason) => {
                skipped.push(Skipped { source, reason });
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
    Ok((groups, skipped))
}

/// A Secret is chosen with all its keys.
fn is_chosen(chosen: &Source, source: &Source) -> bool {
    chosen.namespace == source.namespace
        && chosen.secret == source.secret
        && (chosen.key.is_none() || chosen.key == source.key)
}

/// Who may use what: namespaces with the same prefixes share a grant.
pub(super) fn grants(group: &Group, fixed: &[String]) -> Vec<GrantSpec> {
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
