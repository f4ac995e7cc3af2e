//! Which backend serves a URI for a namespace.

use std::collections::BTreeMap;

use crate::backend::Backend;
use crate::uri::{StorageUri, UriPattern};

/// All backends of the cluster, by what they serve.
#[derive(Debug, Clone, Default)]
pub struct Backends {
    backends: Vec<Backend>,
    /// Each backend's place and one of its patterns, the closest first; equal ones by the backend's name.
    served: Vec<(usize, UriPattern)>,
}

/// What became of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved<'a> {
    /// This backend serves it, and the namespace may use it.
    Served(&'a Backend),
    /// This backend serves it, but not for the namespace.
    NotGranted {
        /// The backend.
        backend: &'a Backend,
        /// What the namespace may use there, with its name filled in.
        allowed: Vec<String>,
        /// Whom to ask.
        contact: Option<&'a str>,
    },
    /// No backend serves it.
    Unserved,
    /// It needs no credentials of a store.
    NoCredentials,
    /// KServe can't load it.
    Unsupported(String),
}

impl Backends {
    /// Puts backends together. Where two serve the same text, the one whose name sorts first is taken, and the overlap is reported as a sentence that
    /// names both.
    pub fn new(mut backends: Vec<Backend>) -> (Self, Vec<String>) {
        backends.sort_by(|a, b| a.name().cmp(b.name()));
        let mut served: Vec<_> = backends
            .iter()
            .enumerate()
            .flat_map(|(index, backend)| backend.serves().iter().map(move |pattern| (index, pattern.clone())))
            .collect();
        served.sort_by(|(a, left), (b, right)| right.closeness().cmp(&left.closeness()).then(a.cmp(b)));
        let overlaps = served
            .windows(2)
            .filter(|pair| pair[0].0 != pair[1].0 && pair[0].1.closeness() == pair[1].1.closeness())
            .map(|pair| {
                let (first, second) = (&backends[pair[0].0], &backends[pair[1].0]);
                format!(
                    "StorageBackend/{} and StorageBackend/{} both serve `{}`: {} is taken; let one of them serve a longer prefix",
                    first.name(),
                    second.name(),
                    pair[1].1.as_str(),
                    first.name()
                )
            })
            .collect();
        (Self { backends, served }, overlaps)
    }

    /// All backends, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        self.backends.iter()
    }

    /// The backend by this name.
    pub fn get(&self, name: &str) -> Option<&Backend> {
        self.backends
            .binary_search_by(|backend| backend.name().cmp(name))
            .ok()
            .map(|index| &self.backends[index])
    }

    /// Which backend serves this URI for a namespace with these labels.
    pub fn resolve(&self, uri: &StorageUri, namespace: &str, labels: &BTreeMap<String, String>) -> Resolved<'_> {
        if uri.scheme().needs_no_credentials() {
            return Resolved::NoCredentials;
        }
        let Some(backend) = self
            .served
            .iter()
            .find(|(_, pattern)| pattern.holds(uri))
            .map(|(index, _)| &self.backends[*index])
        else {
            return Resolved::Unserved;
        };
        let allowed = backend.allowed(namespace, labels);
        if allowed.iter().any(|pattern| pattern.holds_for(uri, namespace)) {
            return Resolved::Served(backend);
        }
        let mut allowed: Vec<_> = allowed
            .into_iter()
            .map(|pattern| pattern.shown_for(namespace))
            .collect();
        allowed.sort();
        allowed.dedup();
        Resolved::NotGranted {
            backend,
            allowed,
            contact: backend.spec().contact.as_deref(),
        }
    }

    /// As [`Self::resolve`], from the text of an object.
    pub fn resolve_text(&self, uri: &str, namespace: &str, labels: &BTreeMap<String, String>) -> Resolved<'_> {
        match StorageUri::parse(uri) {
            Ok(uri) => self.resolve(&uri, namespace, labels),
            Err(error) => Resolved::Unsupported(error.to_string()),
        }
    }
}

/// Secrets of namespaces that open a store by themselves: labelled [`OWN_STORAGE_LABEL`](crate::backend::OWN_STORAGE_LABEL), with the prefix in
/// [`PREFIX_ANNOTATION`](crate::backend::PREFIX_ANNOTATION).
#[derive(Debug, Clone, Default)]
pub struct OwnSecrets {
    by_namespace: BTreeMap<String, Vec<(UriPattern, String)>>,
}

impl OwnSecrets {
    /// Puts Secrets together, given as (namespace, prefix, name). What can't be used is left out and reported, a sentence each.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> (Self, Vec<String>) {
        let mut by_namespace: BTreeMap<String, Vec<(UriPattern, String)>> = BTreeMap::new();
        let mut problems = Vec::new();
        for (namespace, prefix, name) in secrets {
            match UriPattern::parse(prefix) {
                Ok(pattern) => by_namespace
                    .entry(namespace.to_owned())
                    .or_default()
                    .push((pattern, name.to_owned())),
                Err(reason) => {
                    problems.push(format!(
                        "Secret/{namespace}/{name}: the prefix `{prefix}` {reason}; write it as in s3://bucket/path/"
                    ));
                }
            }
        }
        for secrets in by_namespace.values_mut() {
            secrets.sort_by(|(a, x), (b, y)| b.closeness().cmp(&a.closeness()).then_with(|| x.cmp(y)));
        }
        (Self { by_namespace }, problems)
    }

    /// The namespace's Secret that opens this URI; the one with the longest prefix, then by name.
    pub fn resolve(&self, uri: &StorageUri, namespace: &str) -> Option<&str> {
        let secrets = self.by_namespace.get(namespace)?;
        secrets
            .iter()
            .find(|(pattern, _)| pattern.holds(uri))
            .map(|(_, name)| name.as_str())
    }
}
