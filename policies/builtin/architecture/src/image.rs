//! The image that a component's server runs in, and what the catalogue knows of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tidewaiter_policy::{
    core::{self, service::Component},
    image_of, is_digest, runtime_of, runtimes,
};

use crate::placement::{Affinity, Placement};

/// A component as its user wrote it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Written {
    node_selector: Option<BTreeMap<String, String>>,
    affinity: Option<Affinity>,
    node_name: Option<String>,
    containers: Option<Vec<Container>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Container {
    image: Option<String>,
}

impl Written {
    /// The images of the user's own containers.
    pub(crate) fn images(&self) -> impl Iterator<Item = Option<&str>> {
        let containers = self.containers.iter().flatten();
        containers.map(|container| container.image.as_deref())
    }

    /// What it says of nodes.
    pub(crate) fn placement(&self) -> Placement {
        Placement {
            node_selector: self.node_selector.clone(),
            affinity: self.affinity.clone(),
            node_name: self.node_name.clone(),
        }
    }
}

/// An image that the catalogue knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// For messages, such as `docker.io/kserve/xgbserver:v0.20.0`.
    pub(crate) name: String,
    repository: String,
    /// Never empty.
    pub(crate) architectures: BTreeSet<String>,
}

impl Image {
    fn known(repository: String, tag: &str) -> Option<Self> {
        let release = runtimes::release_of(&repository, tag, &[])?;
        Some(Self {
            name: format!("{repository}{}{tag}", if is_digest(tag) { '@' } else { ':' }),
            repository,
            architectures: Some(release.architectures.into_iter().collect())
                .filter(|all: &BTreeSet<_>| !all.is_empty())?,
        })
    }

    /// The newest tag of this repository that is built for one of these machines.
    pub(crate) fn newest_for(&self, architectures: &BTreeSet<&str>) -> Option<String> {
        let mut releases = runtimes::releases(&self.repository, &[]).into_iter().rev();
        let fits = |all: &[String]| all.iter().any(|name| architectures.contains(name.as_str()));
        releases
            .find(|release| fits(&release.architectures))
            .map(|release| release.tag)
    }
}

/// What is known of where a component's server comes from.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// None where the catalogue doesn't know it.
    pub(crate) image: Option<Image>,
    /// What its runtime says of nodes.
    pub(crate) placement: Placement,
}

pub(crate) fn find(component: &Component<'_>, written: &Written) -> Found {
    let custom = component
        .implementation
        .as_ref()
        .is_none_or(|implementation| implementation.field == "containers");
    if custom {
        let images = written
            .containers
            .iter()
            .flatten()
            .filter_map(|container| container.image.as_deref());
        let mut known = images.filter_map(|reference| {
            let image = core::image::Image::parse(reference);
            let tag = image.tag.or(image.digest)?;
            Image::known(image.repository, &tag)
        });
        // Where one of several is known, it alone decides: of the others nobody knows.
        return Found {
            image: known.next(),
            placement: Placement::default(),
        };
    }
    let Some(runtime) = runtime_of(component) else {
        return Found::default();
    };
    let (repository, tag) = image_of(component, &runtime);
    let spec = runtimes::spec(&runtime.name);
    Found {
        image: Image::known(repository, &tag),
        placement: spec
            .and_then(|spec| serde_json::from_str(&spec).ok())
            .unwrap_or_default(),
    }
}
