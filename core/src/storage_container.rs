//! Which ClusterStorageContainer fetches a model, as far as that can be known.
//!
//! Source: `GetStorageContainerSpec` (`pkg/webhook/admission/pod`) of KServe 0.15.2 and 0.20.0.

use serde::Deserialize;
use serde::de::IgnoredAny;

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

    /// Of a regular expression only what it begins with is read, so it may be said of more than it fits.
    fn may_support(&self, uri: &str) -> bool {
        let mut formats = self.spec.supported_uri_formats.iter();
        self.has_prefix_of(uri)
            || formats.any(|format| {
                let regex = format.regex.as_deref().filter(|regex| !regex.is_empty());
                regex.is_some_and(|regex| uri.contains(beginning(regex)))
            })
    }

    fn has_pattern(&self) -> bool {
        let mut formats = self.spec.supported_uri_formats.iter();
        formats.any(|format| format.regex.as_deref().is_some_and(|regex| !regex.is_empty()))
    }
}

/// What every text has in it that a regular expression fits, as far as that is the text that it begins with: `http` of `https?://(.+)`. Empty where nothing can be
/// said.
fn beginning(regex: &str) -> &str {
    if regex.contains('|') {
        return "";
    }
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let end = regex
        .find(|c: char| r"\.+*?()[]{}^$".contains(c))
        .unwrap_or(regex.len());
    let optional = regex[end..].starts_with(['?', '*', '{']);
    let last = regex[..end].char_indices().next_back().filter(|_| optional);
    &regex[..last.map_or(end, |(at, _)| at)]
}

/// Whether one of all that the cluster has, as JSON texts, may fetch from a URI that KServe's own initializer doesn't know.
pub fn may_fetch(all: &[String], uri: &str) -> bool {
    let mut all = all
        .iter()
        .filter_map(|text| serde_json::from_str::<StorageContainer<IgnoredAny>>(text).ok());
    all.any(|container| container.fetches_for_pods() && container.may_support(uri))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fetches(formats: &Value, uri: &str) -> bool {
        let container = json!({"metadata": {"name": "own"}, "spec": {"container": {}, "supportedUriFormats": formats}});
        may_fetch(&[container.to_string()], uri)
    }

    /// As KServe installs it (`config/storagecontainers/default.yaml` of 0.15.2 and 0.20.0).
    #[test]
    fn kserves_own_fetches_nothing_more_than_its_initializer() {
        let default = json!([
            {"prefix": "gs://"}, {"prefix": "s3://"}, {"prefix": "hdfs://"}, {"prefix": "hf://"}, {"prefix": "webhdfs://"},
            {"regex": "https://(.+?).blob.core.windows.net/(.+)"}, {"regex": "https://(.+?).file.core.windows.net/(.+)"},
            {"regex": "https?://(.+)/(.+)"},
        ]);
        for uri in [
            "models:/fraud/1",
            "models://fraud/1",
            "dbfs:/fraud",
            "s3a://b/k",
            "abfss://c@a.dfs.core.windows.net/k",
        ] {
            assert!(!fetches(&default, uri), "{uri}");
        }
    }

    #[test]
    fn one_of_the_admins_may_fetch_what_its_formats_allow() {
        for format in [
            json!({"prefix": "models:"}),
            json!({"regex": "^models:/.+"}),
            json!({"regex": "models?:/"}),
            json!({"regex": "(models|runs):/.+"}),
            json!({"regex": "runs:/|models:/"}),
        ] {
            assert!(fetches(&json!([format]), "models:/fraud/1"), "{format}");
        }
        assert!(!fetches(
            &json!([{"regex": "runs:/.+"}, {"prefix": ""}, {"regex": ""}]),
            "models:/fraud/1"
        ));
    }
}
