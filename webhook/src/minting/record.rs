//! What is said, on a namespace's Secret, of the access key in it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidewaiter_core::backend::BACKEND_LABEL;
use tidewaiter_core::credentials::storage_key;
use tidewaiter_minio::{AccessKey, Account};

use super::LATE;

/// The annotation that holds it.
pub(crate) const ANNOTATION: &str = "tidewaiter.dev/minted-key";

/// The annotation of a Secret in which minted keys were overwritten: the IDs of those that are still to be revoked, with commas between.
pub(crate) const OVERWRITTEN: &str = "tidewaiter.dev/keys-to-revoke";

/// The most keys of before that are kept: a key is replaced when two thirds of its life are over, so there is hardly more than one.
const RETIRED: usize = 8;

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
    /// Of what the namespace was granted when this was written: where it differs, MinIO may have been told something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grants: Option<String>,
    /// When MinIO was last told something and didn't answer: it may do it yet, after what it is told next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unanswered: Option<Timestamp>,
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
            grants: None,
            unanswered: None,
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
        // Who may write here must not have another's key changed or revoked, nor keep us busy. Those left out are found in MinIO.
        record.retired.retain(|id, _| id.starts_with(beginning));
        record.retired = record.retired.into_iter().take(RETIRED).collect();
        (key.id().starts_with(beginning) && fingerprint(&key) == record.fingerprint).then_some((key, record))
    }

    /// Has the keys of before revoked: what they may read isn't known any more.
    pub(crate) fn end_retired(&mut self, now: Timestamp) {
        for end in self.retired.values_mut() {
            *end = (*end).min(now);
        }
    }

    /// MinIO was told all of it. Where something that was told before may come after it, it is told once more in a while.
    pub(crate) fn told(&mut self, now: Timestamp) {
        if self.unanswered.is_some_and(|at| at.duration_since(now).abs() < LATE) {
            self.known = Known::Partly;
        } else {
            self.known = Known::Yes;
            self.unanswered = None;
        }
    }

    /// Whether MinIO lists the key as it was told of it.
    pub(crate) fn is_as_told(&self, listed: &Account) -> bool {
        let expires = listed.expires.map(Timestamp::as_second);
        listed.enabled && !listed.unrestricted && expires == Some(self.expires.as_second())
    }

    /// As the annotation has it.
    pub(crate) fn text(&self) -> String {
        // Texts and times: nothing that can't be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn fingerprint(key: &AccessKey) -> String {
    digest(&[key.id(), key.secret()])
}

/// When the key ends whose record is on a Secret, as far as it says so itself.
pub(crate) fn end(secret: &Secret) -> Option<Timestamp> {
    let record = secret.metadata.annotations.as_ref()?.get(ANNOTATION)?;
    Some(serde_json::from_str::<Record>(record).ok()?.expires)
}

/// The IDs of the minted keys that a Secret holds or held, whoever made them: who takes them away revokes them.
pub(crate) fn ids(secret: &Secret) -> BTreeSet<String> {
    let backend = secret.labels().get(BACKEND_LABEL);
    let held = backend.and_then(|backend| Record::of(secret, backend, ""));
    let held = held.into_iter().flat_map(|(key, record)| {
        let retired = record.retired.into_keys();
        retired.chain([key.id().to_owned()])
    });
    overwritten(secret).map(str::to_owned).chain(held).collect()
}

/// The IDs of those that were overwritten.
pub(crate) fn overwritten(secret: &Secret) -> impl Iterator<Item = &str> {
    let ids = secret
        .annotations()
        .get(OVERWRITTEN)
        .into_iter()
        .flat_map(|ids| ids.split(','));
    ids.filter(|id| !id.is_empty()).take(RETIRED + 1)
}

/// Of lines, in 32 letters.
pub(super) fn digest(lines: &[&str]) -> String {
    hash(lines).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
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
