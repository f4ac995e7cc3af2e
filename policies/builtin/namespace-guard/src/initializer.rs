//! The container that KServe adds to fetch a model: from its configuration, and the ClusterStorageContainer that takes the URI. And what its configuration has a
//! server ask for that says nothing.
//!
//! Source: `CreateInitContainerWithConfig` (`pkg/utils/storage.go`) and `setResourceRequirementDefaults` (`pkg/apis/serving/v1beta1`) of KServe 0.15.2 and 0.20.0.

use serde::Deserialize;
use tidewaiter_policy::cluster;
use tidewaiter_policy::core::quantity::Quantity;
use tidewaiter_policy::core::storage_container::{Chosen, StorageContainer, choose};

use crate::pod::{Amounts, Container, Resources};

pub(crate) use tidewaiter_policy::core::storage_container::{API_VERSION, KIND};

/// The keys of KServe's configuration.
const KEY: &str = "storageInitializer";
const SERVERS_KEY: &str = "inferenceService";
/// What KServe names the container.
pub(crate) const NAME: &str = "storage-initializer";

/// What KServe's configuration has a container ask for. Every member is a text there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configured {
    cpu_request: Option<String>,
    cpu_limit: Option<String>,
    memory_request: Option<String>,
    memory_limit: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Servers {
    resource: Configured,
}

/// What KServe adds to a Pod to fetch a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Initializer {
    /// Nothing runs before the server for it: there is no model, or its volume is mounted as it is.
    None,
    /// This container.
    Is(Box<Container>),
    /// One that can't be known from here.
    Unknown,
}

/// The storage initializers of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Initializers {
    configured: Option<Container>,
    /// None where they can't be read.
    containers: Option<Vec<StorageContainer<Container>>>,
    /// What a server asks for that says nothing. None where KServe's configuration isn't known.
    servers: Option<Resources>,
}

impl Initializers {
    /// Asks the cluster.
    pub(crate) fn live() -> Self {
        let listed = cluster::list_objects(API_VERSION, KIND).ok();
        Self::read(
            cluster::kserve_config(KEY).as_deref(),
            cluster::kserve_config(SERVERS_KEY).as_deref(),
            listed.as_ref().map(|listed| listed.iter().map(String::as_str)),
        )
    }

    fn read<'a>(
        configured: Option<&str>,
        servers: Option<&str>,
        listed: Option<impl Iterator<Item = &'a str>>,
    ) -> Self {
        let configured = configured.and_then(|text| serde_json::from_str::<Configured>(text).ok());
        let servers = match servers {
            Some(text) => serde_json::from_str::<Servers>(text).ok(),
            // A configuration that says nothing of servers leaves them as they are; one that isn't there at all isn't known.
            None => configured.as_ref().map(|_| Servers::default()),
        };
        Self {
            servers: servers.map(|servers| servers.resource.container().resources),
            configured: configured.map(|configured| Container {
                name: NAME.to_owned(),
                ..configured.container()
            }),
            containers: listed.and_then(|listed| {
                listed
                    .map(|text| serde_json::from_str(text).ok())
                    .collect::<Option<Vec<_>>>()
            }),
        }
    }

    /// What KServe has a server ask for that says nothing; none where that isn't known.
    pub(crate) fn servers(&self) -> Option<&Resources> {
        self.servers.as_ref()
    }

    /// Which one fetches from this URI; `named` is the ClusterStorageContainer that the service asks for by name.
    pub(crate) fn of(&self, uri: &str, named: Option<&str>) -> Initializer {
        let scheme = uri.split_once("://").map_or("", |(scheme, _)| scheme);
        match scheme {
            "pvc" => return Initializer::None,
            // A modelcar, a mounted image, or a fetch: KServe's configuration and its release say which.
            "oci" | "oci+native" | "oci+modelcar" | "oci+fetch" => return Initializer::Unknown,
            _ => {}
        }
        let (Some(base), Some(containers)) = (&self.configured, &self.containers) else {
            return Initializer::Unknown;
        };
        let chosen = match choose(containers, uri, named) {
            Chosen::Unknown => return Initializer::Unknown,
            Chosen::Configured => None,
            Chosen::One(chosen) => Some(chosen),
        };
        let mut container = base.clone();
        if let Some(chosen) = chosen {
            container.overlay(chosen.container().clone());
        }
        Initializer::Is(Box::new(container))
    }
}

impl Configured {
    fn container(self) -> Container {
        let amounts = |pairs: [(&str, Option<String>); 2]| -> Amounts {
            pairs
                .into_iter()
                .filter_map(|(name, text)| Some((name.to_owned(), Quantity::parse(&text?)?)))
                .collect()
        };
        let mut container = Container::default();
        container.resources.limits = Some(amounts([("cpu", self.cpu_limit), ("memory", self.memory_limit)]));
        container.resources.requests = Some(amounts([("cpu", self.cpu_request), ("memory", self.memory_request)]));
        container
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    fn initializers(containers: &[Value]) -> Initializers {
        let configured = json!({"image": "kserve/storage-initializer:v0.20.0", "memoryRequest": "100Mi", "memoryLimit": "1Gi", "cpuRequest": "100m",
            "cpuLimit": "1", "enableModelcar": true});
        let texts: Vec<_> = containers.iter().map(Value::to_string).collect();
        Initializers::read(
            Some(&configured.to_string()),
            None,
            Some(texts.iter().map(String::as_str)),
        )
    }

    /// As KServe ships it.
    fn shipped() -> Value {
        json!({
            "metadata": {"name": "default"},
            "spec": {
                "container": {"name": "storage-initializer", "resources": {"limits": {"cpu": "1", "memory": "2Gi"}}},
                "supportedUriFormats": [{"prefix": "s3://"}, {"prefix": "gs://"}, {"regex": "https?://(.+)/(.+)"}],
                "workloadType": "initContainer",
            },
        })
    }

    #[test]
    fn the_clusters_container_lies_over_what_kserve_is_configured_with() {
        let Initializer::Is(container) = initializers(&[shipped()]).of("s3://b/m", None) else {
            panic!("it is known")
        };
        assert_eq!(container.name, "storage-initializer");
        assert_eq!(
            (container.limit("memory"), container.request("memory")),
            (Some(q("2Gi")), Some(q("100Mi")))
        );
    }

    #[test]
    fn what_cannot_be_known_is_not_guessed() {
        let two = initializers(&[
            shipped(),
            json!({"metadata": {"name": "mine"}, "spec": {"container": {}, "supportedUriFormats": [{"prefix": "s3://special"}]}}),
        ]);
        for (uri, named) in [
            ("https://host/model", None),
            ("s3://special/m", None),
            ("oci://image", None),
            ("s3://b/m", Some("gone")),
        ] {
            assert_eq!(two.of(uri, named), Initializer::Unknown, "{uri}");
        }
        assert!(matches!(two.of("https://host/model", Some("mine")), Initializer::Is(_)));
        let unseen = Initializers::read(None, None, None::<std::iter::Empty<&str>>);
        assert_eq!(unseen.of("s3://b/m", None), Initializer::Unknown);
        assert_eq!(unseen.of("pvc://claim/m", None), Initializer::None);
    }

    #[test]
    fn one_that_is_turned_off_takes_nothing() {
        let mut off = shipped();
        off["disabled"] = json!(true);
        let Initializer::Is(container) = initializers(&[off]).of("s3://b/m", None) else {
            panic!("it is known")
        };
        assert_eq!(container.limit("memory"), Some(q("1Gi")));
    }
}
