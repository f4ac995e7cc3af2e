//! Policies on their way: pulled, pushed, and fetched from web servers.

use std::collections::BTreeMap;

use bytes::Bytes;
use url::Url;

use crate::component::outline;
use crate::http::{Expected, body, good, host_of};
use crate::manifest::{self, Descriptor, MANIFEST, Manifest, WASM, WASM_CONFIG, WasmComponent, WasmConfig};
use crate::settings::Watch;
use crate::{Digest, Error, Reference, Registry};

/// A policy from a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Of the manifest, which is what is signed and what a reference pins.
    pub manifest: Digest,
    /// Of the component, which is what `spec.digest` pins.
    pub digest: Digest,
    /// The component.
    pub component: Bytes,
}

/// A policy in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Of the manifest.
    pub manifest: Digest,
    /// Of the component.
    pub digest: Digest,
}

/// What is told of a policy that is pushed.
#[derive(Clone, Debug)]
pub struct About {
    /// When it was made, as RFC 3339 has it. The manifest's digest depends on it.
    pub created: String,
    /// Who made it.
    pub author: Option<String>,
    /// Annotations of the manifest, such as `org.opencontainers.image.source`.
    pub annotations: BTreeMap<String, String>,
}

impl Registry {
    /// Pulls a policy.
    ///
    /// # Errors
    /// Where nobody has it, or what is there is no policy or not what it is said to be.
    pub async fn pull(&self, reference: &Reference, watch: Watch<'_>) -> Result<Pulled, Error> {
        let (digest, manifest) = self.manifest(reference).await?;
        let layer = manifest::component_of(&reference.to_string(), &manifest)?;
        let component = self.component(reference, &layer, watch).await?;
        Ok(Pulled {
            manifest: digest,
            digest: layer.digest,
            component,
        })
    }

    /// The component of a manifest.
    pub(crate) async fn component(
        &self,
        reference: &Reference,
        layer: &Descriptor,
        watch: Watch<'_>,
    ) -> Result<Bytes, Error> {
        let component = self.blob(reference, layer, self.limits().component, watch).await?;
        outline(&component).map_err(|error| Error::NotAPolicy(format!("{reference}: {error}")))?;
        Ok(component)
    }

    /// Pushes a component as a policy, under the reference's tag.
    ///
    /// # Errors
    /// Bytes that are no component, a reference with a digest, a registry that takes nothing from us.
    pub async fn push(
        &self,
        reference: &Reference,
        component: Bytes,
        about: &About,
        watch: Watch<'_>,
    ) -> Result<Pushed, Error> {
        if reference.digest().is_some() {
            return Err(Error::Reference(format!(
                "{reference}: what is pushed has the digest that it has; give a tag"
            )));
        }
        let limit = self.limits().component;
        if component.len() as u64 > limit {
            return Err(Error::TooLarge {
                what: "the component".into(),
                limit,
            });
        }
        let outline = outline(&component)?;
        let layer = Descriptor::of(WASM, &component);
        let config = WasmConfig {
            created: &about.created,
            author: about.author.as_deref(),
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [&layer.digest],
            component: WasmComponent {
                exports: &outline.exports,
                imports: &outline.imports,
                target: None,
            },
        };
        let config = json(&config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: None,
            config: Descriptor::of(WASM_CONFIG, &config),
            layers: vec![layer.clone()],
            subject: None,
            annotations: (!about.annotations.is_empty()).then(|| about.annotations.clone()),
        };
        self.push_blob(reference, &component, watch).await?;
        self.push_blob(reference, &config, watch).await?;
        let manifest = json(&manifest)?;
        let digest = Digest::of(&manifest);
        self.push_manifest(reference, MANIFEST, manifest).await?;
        Ok(Pushed {
            manifest: digest,
            digest: layer.digest,
        })
    }

    /// A component from a web server, which must have this digest.
    ///
    /// # Errors
    /// A URL without TLS, off the loopback and where the settings don't say so; and as [`Registry::pull`].
    pub async fn fetch(&self, url: &str, digest: &Digest, watch: Watch<'_>) -> Result<Bytes, Error> {
        let parsed = Url::parse(url).map_err(|error| Error::Reference(format!("`{url}` is no URL: {error}")))?;
        let host = host_of(&parsed);
        if !(parsed.scheme() == "https" || (parsed.scheme() == "http" && self.clients().scheme(&host) == "http")) {
            return Err(Error::Reference(format!("`{url}` doesn't begin with https://")));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(Error::Reference(format!(
                "the URL at {host} has a user name or a password in it, which everybody can read; use a registry for what is private"
            )));
        }
        let response = self.clients().of(&host)?.get(parsed).send().await;
        let response = response.map_err(|error| Error::no_answer(&host, &error))?;
        let response = good(&host, url, response).await?;
        let expected = Expected {
            size: None,
            digest: Some(digest),
        };
        let component = body(&host, url, response, self.limits().component, expected, watch).await?;
        outline(&component).map_err(|error| Error::NotAPolicy(format!("{url}: {error}")))?;
        Ok(component)
    }
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<Bytes, Error> {
    let json =
        serde_json::to_vec(value).map_err(|error| Error::Settings(format!("can't be written as JSON: {error}")))?;
    Ok(Bytes::from(json))
}
