//! What is signed: an in-toto statement that names a manifest's digest, in a DSSE envelope, in a bundle of sigstore's.
//!
//! Facts: <https://github.com/secure-systems-lab/dsse> (`protocol.md`), in-toto Statement v1, sigstore's `bundle.v0.3`, and what cosign 3 writes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::key::{PublicKey, SigningKey};
use crate::{Digest, Error};

/// Of a bundle, as an artifact type and as a layer.
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What says that a statement is a signature, and not, say, a list of what went in.
pub(crate) const SIGNS: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The part of a bundle that is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bundle {
    #[serde(default)]
    pub(super) verification_material: Material,
    pub(super) dsse_envelope: Option<Envelope>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Material {
    pub(super) public_key: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    type_: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: serde_json::Value,
}

#[derive(Deserialize, Serialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

impl Envelope {
    /// Whether one of these keys signed the envelope, and which.
    pub(super) fn signer<'k>(&self, keys: &'k [PublicKey]) -> Option<&'k PublicKey> {
        let payload = STANDARD.decode(&self.payload).ok()?;
        let signed = encoded(&self.payload_type, &payload);
        let mut signatures = self
            .signatures
            .iter()
            .filter_map(|signature| STANDARD.decode(&signature.sig).ok());
        signatures.find_map(|signature| keys.iter().find(|key| key.verifies(&signed, &signature)))
    }

    /// Why this is no signature of that manifest; none where it is one.
    pub(super) fn is_not_for(&self, manifest: &Digest) -> Option<String> {
        let statement = (self.payload_type == IN_TOTO)
            .then(|| STANDARD.decode(&self.payload).ok())
            .flatten();
        let statement: Option<Statement> = statement.and_then(|payload| serde_json::from_slice(&payload).ok());
        let Some(statement) = statement.filter(|statement| statement.type_ == STATEMENT) else {
            return Some("holds no statement".into());
        };
        if statement.predicate_type != SIGNS {
            return Some(format!("attests {} and is no signature", statement.predicate_type));
        }
        let mut subjects = statement.subject.iter();
        if !subjects.any(|subject| subject.digest.get("sha256").is_some_and(|hex| hex == manifest.hex())) {
            return Some("is for something else".into());
        }
        None
    }
}

/// What says that a manifest is signed.
pub(super) fn statement(manifest: &Digest) -> Result<Bytes, Error> {
    crate::transfer::json(&Statement {
        type_: STATEMENT.into(),
        subject: vec![Subject {
            digest: [("sha256".to_owned(), manifest.hex().to_owned())].into(),
        }],
        predicate_type: SIGNS.into(),
        predicate: json!({}),
    })
}

/// A bundle that says that this key signs this manifest.
pub(super) fn bundle(manifest: &Digest, key: &SigningKey) -> Result<Vec<u8>, Error> {
    let payload = statement(manifest)?;
    let signature = key.sign(&encoded(IN_TOTO, &payload))?;
    let bundle = json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key.public().hint()}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": STANDARD.encode(signature)}],
        },
    });
    Ok(crate::transfer::json(&bundle)?.to_vec())
}

/// What the signature of an envelope is over: DSSE's "pre-authentication encoding".
fn encoded(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The payload of the signatures that cosign 2 makes by default ("simple signing").
#[derive(Deserialize)]
pub(super) struct Simple {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    type_: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Simple {
    /// Why this is no signature of that manifest; none where it is one.
    pub(super) fn is_not_for(payload: &[u8], manifest: &Digest) -> Option<String> {
        let Ok(simple) = serde_json::from_slice::<Self>(payload) else {
            return Some("holds nothing that cosign writes".into());
        };
        let critical = simple.critical;
        if !matches!(
            critical.type_.as_str(),
            "cosign container image signature" | "atomic container signature"
        ) {
            return Some(format!("is a `{}`", critical.type_));
        }
        (critical.image.digest != manifest.as_str()).then(|| "is for something else".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_encoded_as_in_the_specification() {
        // The example of DSSE's protocol.md.
        assert_eq!(
            encoded("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
