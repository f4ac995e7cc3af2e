//! Signatures in registries, beside what they sign.

use bytes::Bytes;

use super::key::SigningKey;
use super::statement::{self, BUNDLE, SIGNS};
use super::{Signature, Verifier};
use crate::manifest::{Descriptor, EMPTY, INDEX, Index, MANIFEST, Manifest};
use crate::registry::stand_in;
use crate::settings::{SIGNATURE, SIGNATURES, Watch, nobody};
use crate::transfer::json;
use crate::{Digest, Error, Reference, Registry};

/// Where cosign 2 has the signature of a layer.
const SIMPLE_SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What was signed, and by which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The policy's manifest.
    pub manifest: Digest,
    /// The signature's own.
    pub signature: Digest,
}

impl Registry {
    /// All signatures of a manifest that can be read: what isn't one is passed over, as are more than 32.
    ///
    /// # Errors
    /// A registry that doesn't answer. None for one without signatures.
    pub async fn signatures(&self, reference: &Reference, manifest: &Digest) -> Result<Vec<Signature>, Error> {
        let mut found = Vec::new();
        let referrers = self.referrers(reference, manifest).await?;
        // Some registries leave the type out of the list; what it is then shows when it is read.
        let bundles = referrers.iter().filter(|referrer| {
            let kind = referrer.artifact_type.as_deref();
            kind.is_none_or(|kind| kind.starts_with("application/vnd.dev.sigstore.bundle") || kind == EMPTY)
        });
        for referrer in bundles.take(SIGNATURES) {
            if found.len() >= SIGNATURES {
                break;
            }
            for content in self
                .layers(&reference.at(&referrer.digest), |layer| {
                    layer.media_type.starts_with("application/vnd.dev.sigstore.bundle")
                })
                .await?
            {
                found.extend(String::from_utf8(content.1.to_vec()).ok().map(Signature::Bundle));
            }
        }
        let older = format!(
            "{}/{}:{}.sig",
            reference.registry(),
            reference.repository(),
            stand_in(manifest)
        );
        let signed = |layer: &Descriptor| layer.annotations.contains_key(SIMPLE_SIGNATURE);
        for (mut layer, content) in self.layers(&older.parse()?, signed).await? {
            let signature = layer.annotations.remove(SIMPLE_SIGNATURE);
            let payload = String::from_utf8(content.to_vec()).ok();
            found.extend(
                payload
                    .zip(signature)
                    .map(|(payload, signature)| Signature::Simple { payload, signature }),
            );
        }
        found.truncate(SIGNATURES);
        Ok(found)
    }

    /// The layers of a manifest that are wanted. None of what isn't there, isn't a manifest, or is too large for a signature.
    async fn layers(
        &self,
        reference: &Reference,
        wanted: impl Fn(&Descriptor) -> bool,
    ) -> Result<Vec<(Descriptor, Bytes)>, Error> {
        let manifest = match self.manifest(reference).await {
            Ok((_, manifest)) => manifest,
            Err(error) if error.is_passing() => return Err(error),
            Err(_) => return Ok(Vec::new()),
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&manifest) else {
            return Ok(Vec::new());
        };
        let mut layers = Vec::new();
        for layer in manifest
            .layers
            .into_iter()
            .filter(|layer| wanted(layer))
            .take(SIGNATURES)
        {
            match self.blob(reference, &layer, SIGNATURE, &nobody).await {
                Ok(content) => layers.push((layer, content)),
                Err(error) if error.is_passing() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(layers)
    }

    /// The manifest that the reference names now, and who signed it of those that count.
    ///
    /// # Errors
    /// [`Error::Untrusted`] where nobody did, and where the policy can't be had.
    pub async fn verify(&self, reference: &Reference, verifier: &Verifier) -> Result<(Digest, String), Error> {
        let (manifest, _) = self.manifest(reference).await?;
        let signatures = self.signatures(reference, &manifest).await?;
        let signer = verifier.signer(&reference.to_string(), &manifest, &signatures)?;
        Ok((manifest, signer))
    }

    /// Signs what the reference names now, and puts the signature beside it. `created` is told with the signature, as RFC 3339 has it.
    ///
    /// # Errors
    /// Where the policy isn't there, or the registry takes nothing from us.
    pub async fn sign(
        &self,
        reference: &Reference,
        key: &SigningKey,
        created: &str,
        watch: Watch<'_>,
    ) -> Result<Signed, Error> {
        let manifest = self.signable(reference).await?;
        let bundle = statement::bundle(&manifest, key)?.into();
        self.attach(&reference.at(&manifest), bundle, created, watch).await
    }

    /// The manifest that the reference names now, where it is a policy's.
    pub(super) async fn signable(&self, reference: &Reference) -> Result<Digest, Error> {
        let (manifest, content) = self.manifest(reference).await?;
        crate::manifest::component_of(&reference.to_string(), &content)?;
        Ok(manifest)
    }

    /// Puts a bundle, which another tool may have made, beside what it signs.
    ///
    /// # Errors
    /// Where the policy isn't there, or the registry takes nothing from us.
    pub async fn attach(
        &self,
        reference: &Reference,
        bundle: Bytes,
        created: &str,
        watch: Watch<'_>,
    ) -> Result<Signed, Error> {
        let (manifest, content) = self.manifest(reference).await?;
        let empty = Bytes::from_static(b"{}");
        let referrer = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: Some(BUNDLE.to_owned()),
            config: Descriptor::of(EMPTY, &empty),
            layers: vec![Descriptor::of(BUNDLE, &bundle)],
            subject: Some(Descriptor {
                digest: manifest.clone(),
                ..Descriptor::of(MANIFEST, &content)
            }),
            annotations: Some(
                [
                    ("org.opencontainers.image.created", created),
                    ("dev.sigstore.bundle.content", "dsse-envelope"),
                    ("dev.sigstore.bundle.predicateType", SIGNS),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ),
        };
        self.push_blob(reference, &empty, watch).await?;
        self.push_blob(reference, &bundle, watch).await?;
        let written = json(&referrer)?;
        let signature = Digest::of(&written);
        let noted = self
            .push_manifest(&reference.at(&signature), MANIFEST, written.clone())
            .await?;
        if !noted {
            let descriptor = Descriptor {
                artifact_type: referrer.artifact_type,
                annotations: referrer.annotations.unwrap_or_default(),
                ..Descriptor::of(MANIFEST, &written)
            };
            self.list_by_tag(reference, &manifest, descriptor).await?;
        }
        Ok(Signed { manifest, signature })
    }

    /// What a registry without the referrers API leaves to its clients: the list under a tag.
    async fn list_by_tag(&self, reference: &Reference, subject: &Digest, referrer: Descriptor) -> Result<(), Error> {
        let list: Reference = format!(
            "{}/{}:{}",
            reference.registry(),
            reference.repository(),
            stand_in(subject)
        )
        .parse()?;
        let mut manifests = match self.manifest(&list).await {
            Ok((_, index)) => {
                let index: Index = serde_json::from_slice(&index)
                    .map_err(|error| Error::NotAPolicy(format!("{list} is no list of referrers: {error}")))?;
                index.manifests
            }
            Err(Error::Missing { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        if manifests.iter().any(|known| known.digest == referrer.digest) {
            return Ok(());
        }
        manifests.push(referrer);
        self.push_manifest(&list, INDEX, json(&Index::new(manifests))?).await?;
        Ok(())
    }
}
