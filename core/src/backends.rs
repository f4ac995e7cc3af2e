//! Which backend serves a URI for a namespace.

use std::collections::BTreeMap;

use crate::backend::Backend;
use crate::uri::{StorageUri, UriPattern};

/// All backends of the cluster, by what they serve.
#[derive(Debug, Clone, Default)]
pub struct Backends {
    by_name: Vec<Backend>,
    /// Each backend's place and one of its patterns, the closest first; equal ones by the backend's name.
    served: Vec<(usize, UriPattern)>,
    /// Those that can't be used.
    unusable: Vec<UnusableBackend>,
    asks_for_labels: bool,
}

/// A `StorageBackend` that can't be used, as far as it can be read: enough to tell the users of its store whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableBackend {
    /// Its name.
    pub name: String,
    /// Why it can't be used.
    pub reason: String,
    /// Whom to ask.
    pub contact: Option<String>,
    serves: Vec<UriPattern>,
}

impl UnusableBackend {
    /// Reads what it was to serve from its `spec`, whatever else is wrong there. None where that can't be read.
    pub fn read(name: &str, spec: &serde_json::Value, reason: String) -> Option<Self> {
        let serves: Vec<_> = spec["serves"]
            .as_array()?
            .iter()
            .filter_map(|text| UriPattern::parse(text.as_str()?).ok())
            .collect();
        (!serves.is_empty()).then(|| Self {
            name: name.to_owned(),
            reason,
            contact: spec["contact"].as_str().map(str::to_owned),
            serves,
        })
    }
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
    /// This backend serves it, and can't be used.
    Unusable(&'a UnusableBackend),
    /// No backend serves it.
    Unserved,
    /// It needs no credentials of a store.
    NoCredentials,
    /// KServe can't load it.
    Unsupported(String),
}

/// Two backends that serve the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The one that is taken: its name sorts first.
    pub taken: String,
    /// The other.
    pub passed_over: String,
    /// What both serve.
    pub prefix: String,
}

impl Backends {
    /// Puts backends together. Where several serve the same text, the one whose name sorts first is taken, and each of the others is reported with it.
    pub fn new(mut backends: Vec<Backend>) -> (Self, Vec<Overlap>) {
        backends.sort_by(|a, b| a.name().cmp(b.name()));
        let mut served: Vec<_> = backends
            .iter()
            .enumerate()
            .flat_map(|(index, backend)| backend.serves().iter().map(move |pattern| (index, pattern.clone())))
            .collect();
        served.sort_by(|(a, left), (b, right)| right.closeness().cmp(&left.closeness()).then(a.cmp(b)));
        let same = |(_, a): &(usize, UriPattern), (_, b): &(usize, UriPattern)| a.closeness() == b.closeness();
        let overlaps = served
            .chunk_by(same)
            .flat_map(|alike| alike.iter().map(|other| (&alike[0], other)))
            .filter(|((taken, _), (other, _))| taken != other)
            .map(|((taken, _), (other, pattern))| Overlap {
                taken: backends[*taken].name().to_owned(),
                passed_over: backends[*other].name().to_owned(),
                prefix: pattern.as_str().to_owned(),
            })
            .collect();
        let asks_for_labels = backends.iter().any(Backend::asks_for_labels);
        let all = Self {
            by_name: backends,
            served,
            unusable: Vec::new(),
            asks_for_labels,
        };
        (all, overlaps)
    }

    /// Adds backends that can't be used, so that models in their stores are not taken for models that nobody serves, nor given to a backend that
    /// serves a shorter prefix: its keys, and its grants, are not for them.
    #[must_use]
    pub fn with_unusable(mut self, unusable: Vec<UnusableBackend>) -> Self {
        self.unusable = unusable;
        self
    }

    /// Whether any grant depends on a namespace's labels: where not, they needn't be known.
    pub fn asks_for_labels(&self) -> bool {
        self.asks_for_labels
    }

    /// All backends, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        self.by_name.iter()
    }

    /// The backend by this name.
    pub fn get(&self, name: &str) -> Option<&Backend> {
        self.by_name
            .binary_search_by(|backend| backend.name().cmp(name))
            .ok()
            .map(|index| &self.by_name[index])
    }

    /// Which backend serves this URI for a namespace with these labels. Where they aren't known, no grant holds that asks for some.
    pub fn resolve(
        &self,
        uri: &StorageUri,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Resolved<'_> {
        if uri.scheme().needs_no_credentials() {
            return Resolved::NoCredentials;
        }
        let served = self.served.iter().find(|(_, pattern)| pattern.holds(uri));
        let unusable = self
            .unusable
            .iter()
            .flat_map(|backend| backend.serves.iter().map(move |pattern| (pattern, backend)))
            .filter(|(pattern, _)| pattern.holds(uri))
            .map(|(pattern, backend)| (pattern.closeness(), backend))
            .max_by(|(a, _), (b, _)| a.cmp(b));
        if let Some((closeness, backend)) = unusable
            && served.is_none_or(|(_, pattern)| pattern.closeness() < closeness)
        {
            return Resolved::Unusable(backend);
        }
        let Some(backend) = served.map(|(index, _)| &self.by_name[*index]) else {
            return Resolved::Unserved;
        };
        let allowed = backend.granted(namespace, labels);
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
    pub fn resolve_text(&self, uri: &str, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Resolved<'_> {
        match StorageUri::parse(uri) {
            Ok(uri) => self.resolve(&uri, namespace, labels),
            Err(error) => Resolved::Unsupported(error.to_string()),
        }
    }
}

/// A namespace's own Secret with a prefix that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusablePrefix {
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub name: String,
    /// What is wrong, and what to write.
    pub reason: String,
}

/// Secrets of namespaces that open a store by themselves: labelled [`OWN_STORAGE_LABEL`](crate::backend::OWN_STORAGE_LABEL), with the prefix in
/// [`PREFIX_ANNOTATION`](crate::backend::PREFIX_ANNOTATION).
#[derive(Debug, Clone, Default)]
pub struct OwnSecrets {
    by_namespace: BTreeMap<String, Vec<(UriPattern, String)>>,
}

impl OwnSecrets {
    /// Puts Secrets together, given as (namespace, prefix, name). What can't be used is left out and reported.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> (Self, Vec<UnusablePrefix>) {
        let mut by_namespace: BTreeMap<String, Vec<(UriPattern, String)>> = BTreeMap::new();
        let mut unusable = Vec::new();
        for (namespace, prefix, name) in secrets {
            match UriPattern::parse(prefix) {
                Ok(pattern) => by_namespace
                    .entry(namespace.to_owned())
                    .or_default()
                    .push((pattern, name.to_owned())),
                Err(reason) => unusable.push(UnusablePrefix {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    reason: format!("the prefix `{prefix}` {reason}"),
                }),
            }
        }
        for secrets in by_namespace.values_mut() {
            secrets.sort_by(|(a, x), (b, y)| b.closeness().cmp(&a.closeness()).then_with(|| x.cmp(y)));
        }
        (Self { by_namespace }, unusable)
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
