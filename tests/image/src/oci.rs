//! Images as the OCI image specification (1.1) has them: what the documents look like, and how files become blobs that name one another by digest.
//!
//! ```text
//! index.json ─▶ index of the release ─┬─▶ manifest, linux/amd64 ─▶ configuration, layers
//!                                     ├─▶ manifest, linux/arm64 ─▶ configuration, layers
//!                                     └─▶ manifest of an attachment: artifactType, subject = the manifest it is about
//! ```
//!
//! An attachment, such as an SBOM, is what the specification calls an artifact with a subject: a registry lists it under the image (`oras discover`).
//! It stands in the index as well, since that is what every tool copies whole; its platform there is `unknown/unknown`, so that no node takes it for an image.
//!
//! Maps are sorted and members have a fixed order: the same release is the same bytes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::layer::{Layer, gzip};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The configuration of what has none: `{}`.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// What an image runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// `linux/amd64`
    Amd64,
    /// `linux/arm64`
    Arm64,
}

impl Architecture {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// As Go, and so the specification, calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    fn variant(self) -> Option<&'static str> {
        (self == Self::Arm64).then_some("v8")
    }
}

/// One program with its files, for one architecture.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it runs on.
    pub architecture: Architecture,
    /// The lowest first.
    pub layers: Vec<Layer>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// `uid:gid` in numbers: a kubelet that is told `runAsNonRoot` can't look a name up.
    pub user: String,
    /// What it listens on: `8443/tcp`.
    pub ports: Vec<String>,
    /// What is said about this image, in any order.
    pub attachments: Vec<Attachment>,
}

/// A document about an image, such as its SBOM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// Its media type: `application/vnd.cyclonedx+json`.
    pub kind: String,
    /// The file name that it is saved under.
    pub file: String,
    /// The document.
    pub content: Vec<u8>,
}

/// What is published together under one name.
#[derive(Debug, Clone)]
pub struct Release {
    /// The repository, with its registry: `docker.io/tidewaiter/webhook`.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// Seconds since 1970: the time of every file and document in it.
    pub created: u64,
    /// `org.opencontainers.image.*`: annotations of the index and its images, and the images' labels.
    pub labels: BTreeMap<String, String>,
    /// One for each architecture, in any order.
    pub images: Vec<Image>,
}

/// The blobs of a release, and the `index.json` that leads to them.
#[derive(Debug, PartialEq, Eq)]
pub struct Blobs {
    /// By SHA-256, in hexadecimal digits.
    pub by_digest: BTreeMap<String, Vec<u8>>,
    /// What `index.json` says: one entry, the release's index, with its name for those who import it.
    pub index: Vec<u8>,
    /// The digest of the release's index: what `repository@sha256:…` names.
    pub digest: String,
}

impl Release {
    /// Makes the documents.
    ///
    /// # Errors
    /// No image, an architecture that comes twice, a layer that can't be packed, a time after the year 9999.
    pub fn blobs(&self) -> Result<Blobs> {
        ensure!(!self.images.is_empty(), "a release without an image");
        let created = timestamp(self.created)?;
        let mut blobs = BTreeMap::new();
        let mut manifests = Vec::new();
        let mut attached = Vec::new();
        let mut images: Vec<_> = self.images.iter().collect();
        images.sort_by_key(|image| image.architecture);
        for pair in images.windows(2) {
            let twice = pair[0].architecture.name();
            ensure!(pair[0].architecture != pair[1].architecture, "two images for {twice}");
        }
        for image in images {
            let manifest = self.image(image, &created, &mut blobs)?;
            let mut attachments: Vec<_> = image.attachments.iter().collect();
            attachments.sort();
            for attachment in attachments {
                attached.push(attach(attachment, &manifest, &created, &mut blobs)?);
            }
            let platform = Platform {
                architecture: image.architecture.name(),
                os: "linux",
                variant: image.architecture.variant(),
            };
            manifests.push(Descriptor {
                platform: Some(platform),
                ..manifest
            });
        }
        manifests.extend(attached);
        let index = Index {
            schema_version: 2,
            media_type: INDEX,
            manifests,
            annotations: self.annotations(&created),
        };
        let mut index = put(&mut blobs, INDEX, json(&index)?);
        let digest = index.digest.clone();
        index.annotations = [
            // Who imports a layout names the image by one of these: podman and skopeo by the tag, containerd and podman by the whole name.
            ("org.opencontainers.image.ref.name", self.tag.clone()),
            ("io.containerd.image.name", format!("{}:{}", self.repository, self.tag)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        let layout = Index {
            schema_version: 2,
            media_type: INDEX,
            manifests: vec![index],
            annotations: BTreeMap::new(),
        };
        Ok(Blobs {
            by_digest: blobs,
            index: json(&layout)?,
            digest,
        })
    }

    fn annotations(&self, created: &str) -> BTreeMap<String, String> {
        let mut annotations = self.labels.clone();
        annotations.insert("org.opencontainers.image.created".to_owned(), created.to_owned());
        annotations
    }

    fn image(&self, image: &Image, created: &str, blobs: &mut BTreeMap<String, Vec<u8>>) -> Result<Descriptor> {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        let mut history = Vec::new();
        for layer in &image.layers {
            let tar = layer
                .tar(self.created)
                .with_context(|| format!("a layer with {}", layer.what))?;
            diff_ids.push(digest(&tar));
            layers.push(put(blobs, LAYER, gzip(&tar)?));
            history.push(History {
                created,
                created_by: &layer.what,
            });
        }
        let config = Configuration {
            created,
            architecture: image.architecture.name(),
            variant: image.architecture.variant(),
            os: "linux",
            config: Execution {
                user: &image.user,
                exposed_ports: image.ports.iter().map(|port| (port.as_str(), Nothing {})).collect(),
                entrypoint: &image.entrypoint,
                working_dir: "/",
                labels: self.annotations(created),
            },
            rootfs: RootFs {
                kind: "layers",
                diff_ids,
            },
            history,
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type: None,
            config: put(blobs, CONFIG, json(&config)?),
            layers,
            subject: None,
            annotations: self.annotations(created),
        };
        Ok(put(blobs, MANIFEST, json(&manifest)?))
    }
}

fn attach(
    attachment: &Attachment,
    subject: &Descriptor,
    created: &str,
    blobs: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Descriptor> {
    let mut content = put(blobs, &attachment.kind, attachment.content.clone());
    content
        .annotations
        .insert("org.opencontainers.image.title".to_owned(), attachment.file.clone());
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        artifact_type: Some(attachment.kind.clone()),
        config: put(blobs, EMPTY, b"{}".to_vec()),
        layers: vec![content],
        subject: Some(subject.clone()),
        annotations: [("org.opencontainers.image.created".to_owned(), created.to_owned())].into(),
    };
    // Without the type of the artifact, which may stand here too: skopeo 1.9 leaves it out of what it copies, and the copy has another digest.
    Ok(Descriptor {
        platform: Some(Platform {
            architecture: "unknown",
            os: "unknown",
            variant: None,
        }),
        ..put(blobs, MANIFEST, json(&manifest)?)
    })
}

/// `sha256:` and the digits.
fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn put(blobs: &mut BTreeMap<String, Vec<u8>>, media_type: &str, bytes: Vec<u8>) -> Descriptor {
    let digest = digest(&bytes);
    let size = bytes.len();
    blobs.insert(digest.trim_start_matches("sha256:").to_owned(), bytes);
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

fn json(document: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(document)?)
}

/// A time as the specification wants it: `1970-01-01T00:00:00Z`.
///
/// # Errors
/// A time after the year 9999.
pub fn timestamp(seconds: u64) -> Result<String> {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    Ok(time
        .with_context(|| format!("{seconds} s since 1970 is no time"))?
        .to_string())
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Configuration<'a> {
    created: &'a str,
    architecture: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'static str>,
    os: &'static str,
    config: Execution<'a>,
    rootfs: RootFs,
    history: Vec<History<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Execution<'a> {
    user: &'a str,
    /// The specification's way to write a set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[allow(clippy::zero_sized_map_values, reason = "a set would be a list in JSON")]
    exposed_ports: BTreeMap<&'a str, Nothing>,
    entrypoint: &'a [String],
    working_dir: &'static str,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<String>,
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'a str,
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
