//! Which ClusterStorageContainer fetches a model, as far as that can be known.
//!
//! Source: `GetStorageContainerSpec` (`pkg/webhook/admission/pod`) of KServe 0.15.2 and 0.20.0.

use serde::Deserialize;

/// By which a policy lists them.
pub const API_VERSION: &str = "serving.kserve.io/v1alpha1";
/// The same.
pub const KIND: &str = "ClusterStorageContainer";

/// A ClusterStorageContainer; `C` is as much of its container as the reader is interested in.
#[derive(Debug, Deserialize)]
pub struct StorageContainer<C> {
    metadata: Metadata,
    spec: Spec<C>,
    /// Stands beside `spec`.
    #[serde(default)]
    disabled: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<C> {
    container: C,
    #[serde(default)]
    supported_uri_formats: Vec<UriFormat>,
    /// `initContainer`, or `localModelDownloadJob`, which is for KServe's caches.
    #[serde(default)]
    workload_type: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UriFormat {
    prefix: Option<String>,
    regex: Option<String>,
}

/// What fetches from a URI.
#[derive(Debug)]
pub enum Chosen<'a, C> {
    /// What KServe's configuration says, alone.
    Configured,
    /// This one, laid over that.
    One(&'a StorageContainer<C>),
    /// It can't be known from here.
    Unknown,
}

impl<C> StorageContainer<C> {
    /// The object's name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// `spec.container`.
    pub fn container(&self) -> &C {
        &self.spec.container
    }

    fn fetches_for_pods(&self) -> bool {
        let kind = self.spec.workload_type.as_deref();
        kind.is_none_or(|kind| kind == "initContainer") && self.disabled != Some(true)
    }

    fn has_prefix_of(&self, uri: &str) -> bool {
        let mut formats = self.spec.supported_uri_formats.iter();
        formats.any(|format| {
            let prefix = format.prefix.as_deref().filter(|prefix| !prefix.is_empty());
            prefix.is_some_and(|prefix| uri.starts_with(prefix))
        })
    }

    fn has_pattern(&self) -> bool {
        let mut formats = self.spec.supported_uri_formats.iter();
        formats.any(|format| format.regex.as_deref().is_some_and(|regex| !regex.is_empty()))
    }
}

/// Of all that the cluster has. `named` is the one that the service asks for by name (`storageContainerName`).
pub fn choose<'a, C>(all: &'a [StorageContainer<C>], uri: &str, named: Option<&str>) -> Chosen<'a, C> {
    let enabled = || all.iter().filter(|container| container.fetches_for_pods());
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        let found = enabled().find(|container| container.name() == name);
        return found.map_or(Chosen::Unknown, Chosen::One);
    }
    let by_prefix: Vec<_> = enabled().filter(|container| container.has_prefix_of(uri)).collect();
    // KServe takes the first that matches, in an order that isn't fixed; a regular expression isn't read here.
    match by_prefix.as_slice() {
        [only] if enabled().all(|other| std::ptr::eq(other, *only) || !other.has_pattern()) => Chosen::One(*only),
        [] if !enabled().any(StorageContainer::has_pattern) => Chosen::Configured,
        _ => Chosen::Unknown,
    }
}
