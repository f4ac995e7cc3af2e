//! Who signed a policy, as cosign does it: by a key, or keyless.
//!
//! Two forms are read: sigstore's bundles, which refer to the manifest that they sign (cosign 3, and cosign 2 with `--new-bundle-format`), and the older
//! payloads under the tag `sha256-….sig` (cosign 2), these with keys alone. Bundles are written.

mod attached;
#[cfg(feature = "keyless-signing")]
mod identified;
mod key;
mod keyless;
mod provider;
mod sealed;
mod statement;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidewaiter_core::verification::{Identity, Verification};

pub use attached::Signed;
#[cfg(feature = "keyless-signing")]
pub use identified::Identified;
pub use key::{PublicKey, SigningKey};
pub use keyless::TrustRoot;

use crate::{Digest, Error};
use statement::{Bundle, Simple};

/// A signature as it was found; whether it says anything is for a [`Verifier`] to find out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Signature {
    /// A bundle's JSON.
    Bundle(String),
    /// The payload of an older signature and, in base64, its signature.
    Simple {
        /// JSON.
        payload: String,
        /// As the layer's annotation has it.
        signature: String,
    },
}

/// Decides whose signatures count.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<PublicKey>,
    identities: Vec<Identity>,
    root: Option<Arc<TrustRoot>>,
}

impl Verifier {
    /// These keys and identities. The root is needed for identities; where none is given, the public one counts.
    ///
    /// # Errors
    /// A key that can't be used; the message names its place.
    pub fn new(who: &Verification, root: Option<Arc<TrustRoot>>) -> Result<Self, Error> {
        let keys = who.keys.iter().enumerate().map(|(index, key)| {
            PublicKey::from_pem(key).map_err(|error| Error::Key(format!("verify.keys[{index}]: {error}")))
        });
        let root = match root {
            None if !who.keyless.is_empty() => Some(Arc::new(TrustRoot::public()?)),
            root => root,
        };
        Ok(Self {
            keys: keys.collect::<Result<_, _>>()?,
            identities: who.keyless.clone(),
            root,
        })
    }

    /// Who signed this manifest, the first of those that count.
    ///
    /// # Errors
    /// [`Error::Untrusted`] where none of the signatures counts, with what is wrong with each.
    pub fn signer(&self, name: &str, manifest: &Digest, signatures: &[Signature]) -> Result<String, Error> {
        let mut reasons: Vec<String> = Vec::new();
        for signature in signatures {
            match self.judge(manifest, signature) {
                Ok(signer) => return Ok(signer),
                Err(reason) => reasons.push(reason),
            }
        }
        let wanted = self.wanted();
        Err(Error::Untrusted(match reasons.as_slice() {
            [] => format!(
                "{name} ({manifest}) is not signed, and it has to be by {wanted}; sign it by tidewaiter policy sign or cosign sign"
            ),
            [reason] => format!("{name} ({manifest}) is not signed by {wanted}: its signature {reason}"),
            several => format!(
                "{name} ({manifest}) is not signed by {wanted}: of its {} signatures, one {}",
                several.len(),
                several.join(", one ")
            ),
        }))
    }

    fn wanted(&self) -> String {
        let keys = self.keys.iter().map(PublicKey::name);
        let identities = self
            .identities
            .iter()
            .map(|who| format!("{} (issuer {})", who.identity, who.issuer));
        keys.chain(identities).collect::<Vec<_>>().join(" or ")
    }

    fn judge(&self, manifest: &Digest, signature: &Signature) -> Result<String, String> {
        let other_key = || "is by another key".to_owned();
        match signature {
            Signature::Bundle(text) => {
                let bundle: Bundle = serde_json::from_str(text).map_err(|_| "can't be read".to_owned())?;
                let envelope = bundle
                    .dsse_envelope
                    .ok_or("is over bare bytes, and not over a statement")?;
                if let Some(reason) = envelope.is_not_for(manifest) {
                    return Err(reason);
                }
                if bundle.verification_material.public_key.is_some() {
                    return envelope.signer(&self.keys).map(PublicKey::name).ok_or_else(other_key);
                }
                match &self.root {
                    Some(root) if !self.identities.is_empty() => root.signer(text, manifest, &self.identities),
                    // A certificate of somebody's key is still that key's signature.
                    _ => envelope
                        .signer(&self.keys)
                        .map(PublicKey::name)
                        .ok_or_else(|| "is keyless, and only keys count".to_owned()),
                }
            }
            Signature::Simple { payload, signature } => {
                use base64::Engine as _;
                if let Some(reason) = Simple::is_not_for(payload.as_bytes(), manifest) {
                    return Err(reason);
                }
                let signature = base64::engine::general_purpose::STANDARD
                    .decode(signature)
                    .map_err(|_| "can't be read")?;
                let signer = self
                    .keys
                    .iter()
                    .find(|key| key.verifies(payload.as_bytes(), &signature));
                signer.map(PublicKey::name).ok_or_else(other_key)
            }
        }
    }
}

#[cfg(test)]
mod tests;
