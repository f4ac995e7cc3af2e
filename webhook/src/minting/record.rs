//! What is said, on a namespace's Secret, of the access key in it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidewaiter_core::credentials::storage_key;
use tidewaiter_minio::AccessKey;

/// The annotation that holds it.
pub(crate) const ANNOTATION: &str = "tidewaiter.dev/minted-key";

/// An access key: what it may read, how long, and whether MinIO has been told of it as it stands here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Of the key's ID and secret: where it differs, somebody has changed the Secret.
    fingerprint: String,
    pub(crate) expires: Timestamp,
    /// The models that it may read.
    pub(crate) uris: BTreeSet<String>,
    pub(crate) known: Known,
    /// IDs of keys that were here before, with when each is revoked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) retired: BTreeMap<String, Timestamp>,
}

/// What MinIO knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Known {
    /// Nothing.
    No,
    /// The key, and perhaps not what it may read.
    Partly,
    /// All.
    Yes,
}

impl Record {
    /// Of a key that MinIO doesn't know.
    pub(crate) fn new(key: &AccessKey, expires: Timestamp, uris: BTreeSet<String>) -> Self {
        Self {
            fingerprint: fingerprint(key),
            expires,
            uris,
            known: Known::No,
            retired: BTreeMap::new(),
        }
    }

    /// The key in a Secret, with its record. None where there is none that can be relied on: never minted, changed by hand, or another place's.
    pub(crate) fn of(secret: &Secret, backend: &str, beginning: &str) -> Option<(AccessKey, Self)> {
        let record = secret.metadata.annotations.as_ref()?.get(ANNOTATION)?;
        let mut record: Self = serde_json::from_str(record).ok()?;
        // This form of it has the same names whatever KServe's settings are.
        let json: Value = serde_json::from_slice(&secret.data.as_ref()?.get(storage_key(backend))?.0).ok()?;
        let key = AccessKey::new(json["access_key_id"].as_str()?, json["secret_access_key"].as_str()?);
        // Who may write here must not have another's key changed or revoked.
        record.retired.retain(|id, _| id.starts_with(beginning));
        (key.id().starts_with(beginning) && fingerprint(&key) == record.fingerprint).then_some((key, record))
    }

    /// As the annotation has it.
    pub(crate) fn text(&self) -> String {
        // Texts and times: nothing that can't be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn fingerprint(key: &AccessKey) -> String {
    hash(&[key.id(), key.secret()])
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What the IDs of all keys of one namespace and backend begin with, and no others do.
pub(crate) fn beginning(cluster: &str, namespace: &str, backend: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    hash(&[cluster, namespace, backend])
        .iter()
        .take(8)
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect()
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // None of them has a line's end in it.
        hash.update(part.as_bytes());
        hash.update(b"\n");
    }
    hash.finalize().into()
}
