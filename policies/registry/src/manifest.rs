//! The documents that a registry keeps: manifests, indices, and the configuration of a Wasm artifact.
//!
//! Layouts: OCI image specification 1.1 (`manifest.md`, `image-index.md`); the CNCF's Wasm OCI artifact layout
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error};

/// Of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Of an index: what a multi-platform image is, and a list of referrers.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Of the configuration of a Wasm artifact.
pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Of its one layer.
pub(crate) const WASM: &str = "application/wasm";
/// Of a configuration that says nothing: `{}`.
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// What a manifest is asked for with: also what can't be used, so that the answer can say what it is.
pub(crate) const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Content by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn of(media_type: &str, content: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(content),
            size: content.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// An image manifest. `annotations` may be null in what others wrote.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u8,
    #[serde(default = "manifest_type")]
    pub(crate) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

fn manifest_type() -> String {
    MANIFEST.to_owned()
}

/// A list of manifests.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u8,
    #[serde(default = "index_type")]
    pub(crate) media_type: String,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

fn index_type() -> String {
    INDEX.to_owned()
}

impl Index {
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: index_type(),
            manifests,
        }
    }
}

/// The configuration of a Wasm artifact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WasmConfig<'a> {
    /// RFC 3339.
    pub(crate) created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author: Option<&'a str>,
    pub(crate) architecture: &'static str,
    /// `wasip2` is what the layout calls every component, whether or not it imports anything of WASI.
    pub(crate) os: &'static str,
    pub(crate) layer_digests: [&'a Digest; 1],
    pub(crate) component: WasmComponent<'a>,
}

/// What the component in a Wasm artifact says of itself.
#[derive(Debug, Serialize)]
pub(crate) struct WasmComponent<'a> {
    pub(crate) exports: &'a [String],
    pub(crate) imports: &'a [String],
    pub(crate) target: Option<&'a str>,
}

/// The layer that holds the component.
///
/// # Errors
/// Each says what the artifact is instead.
pub(crate) fn component_of(name: &str, manifest: &[u8]) -> Result<Descriptor, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        media_type: Option<String>,
        manifests: Option<serde_json::Value>,
    }
    let not = |what: String| Error::NotAPolicy(format!("{name} {what}"));
    let kind: Kind = serde_json::from_slice(manifest).map_err(|error| not(format!("has no manifest: {error}")))?;
    let index = matches!(kind.media_type.as_deref(), Some(INDEX | DOCKER_INDEX));
    if index || kind.manifests.is_some() {
        return Err(not(
            "is an index of several images; a policy runs everywhere, so push it as one Wasm artifact: tidewaiter policy push".into(),
        ));
    }
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|error| not(format!("has no manifest that can be read: {error}")))?;
    let [layer] = manifest.layers.as_slice() else {
        return Err(not(format!(
            "has {} layers, and a Wasm artifact has one; push it by tidewaiter policy push, wkg oci push or oras push",
            manifest.layers.len()
        )));
    };
    if layer.media_type != WASM {
        return Err(not(format!(
            "has a layer of the type {}, and a policy is {WASM}: this is no Wasm artifact in the CNCF's layout",
            layer.media_type
        )));
    }
    Ok(layer.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_one_wasm_layer_is_a_policy() {
        let layer = serde_json::to_value(Descriptor::of(WASM, b"x")).unwrap();
        let config = serde_json::to_value(Descriptor::of(WASM_CONFIG, b"{}")).unwrap();
        let manifest = |layers: serde_json::Value| {
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers, "annotations": null});
            component_of("r.example/a:1", &serde_json::to_vec(&manifest).unwrap())
        };
        assert_eq!(manifest(json!([layer])).unwrap().digest, Digest::of(b"x"));
        let image = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", b"x");
        for (layers, why) in [
            (json!([]), "has 0 layers"),
            (json!([layer, layer]), "has 2 layers"),
            (
                json!([image]),
                "has a layer of the type application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            (json!([{"digest": "x"}]), "has no manifest that can be read"),
        ] {
            let error = manifest(layers).unwrap_err().to_string();
            assert!(error.starts_with(&format!("r.example/a:1 {why}")), "{error}");
        }
        let index = component_of("a", &serde_json::to_vec(&Index::new(Vec::new())).unwrap());
        assert!(index.unwrap_err().to_string().contains("is an index"));
        assert!(
            component_of("a", b"<html>")
                .unwrap_err()
                .to_string()
                .contains("no manifest")
        );
    }
}
