//! What a Secret opens: the kind of store, its settings, and the keys.

use std::collections::{BTreeMap, BTreeSet};

use tidewaiter_core::backend::Backend;
use tidewaiter_core::backend::{
    BackendType, Credentials, Delivery, Empty, MANAGED_BY, MANAGED_BY_LABEL, OWN_STORAGE_LABEL, S3Settings,
    SecretReference, StorageBackendSpec,
};
use tidewaiter_core::credentials::{CredentialsError, SecretValue, kserve_secret, recognise, storage_key};
use tidewaiter_core::kserve_config::KserveConfig;

use super::found::{Found, FoundSecret};
use super::s3::{self, S3Store};
use super::{Data, Source};

const S3_ID: &str = "AWS_ACCESS_KEY_ID";
const S3_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const GCS_FILE: &str = "gcloud-application-credentials.json";

/// A store, as one Secret of KServe's opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Store {
    pub(super) kind: BackendType,
    /// For S3.
    pub(super) s3: Option<S3Settings>,
    /// Under KServe's shipped key names. Empty for a store that anyone may read.
    pub(super) keys: Data,
    /// What can't be taken over.
    pub(super) notes: Vec<String>,
    /// The bucket that a storage key stands for where a model has only a path.
    pub(super) bucket: Option<String>,
}

impl Store {
    /// Whether both are the same place, opened by the same keys. Regions and certificates may be told differently.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.endpoint() == other.endpoint() && self.keys == other.keys
    }

    fn endpoint(&self) -> Option<&str> {
        self.s3.as_ref()?.endpoint.as_deref()
    }

    /// A backend for it, but for whom it is granted to.
    pub(super) fn spec(&self, serves: Vec<String>, secret: SecretReference) -> StorageBackendSpec {
        StorageBackendSpec {
            kind: self.kind,
            serves,
            credentials: if self.keys.is_empty() {
                Credentials::Anonymous(Empty {})
            } else {
                Credentials::SecretRef(secret)
            },
            grants: None,
            authorization: None,
            minting: None,
            delivery: Delivery::Annotation,
            contact: None,
            s3: self.s3.clone().filter(|settings| *settings != S3Settings::default()),
            huggingface: None,
        }
    }

    /// Whether a backend that is there opens this store with these keys; none where its Secret is missing, so that nobody can say.
    pub(super) fn is_opened_by(&self, backend: &Backend, found: &Found) -> Option<bool> {
        let spec = backend.spec();
        let there = spec.s3.as_ref().and_then(S3Settings::parsed_endpoint);
        if spec.kind != self.kind || there.map(|endpoint| endpoint.url()).as_deref() != self.endpoint() {
            return Some(false);
        }
        match &spec.credentials {
            Credentials::WorkloadIdentity(_) => Some(false),
            Credentials::Anonymous(_) => Some(self.keys.is_empty()),
            Credentials::SecretRef(_) if self.keys.is_empty() => Some(false),
            Credentials::SecretRef(secret) => {
                let secret = found.secret(&secret.namespace, &secret.name)?;
                let config = &found.kserve.config;
                let theirs = keys(backend, &secret.data, config).ok()?;
                let ours = keys(&self.probe(BTreeMap::new())?, &self.keys, config).ok()?;
                Some(theirs == ours)
            }
        }
    }

    /// A backend of this kind with these settings, which serves everything; `named` says where in its Secret keys with names of their own are.
    fn probe(&self, named: BTreeMap<String, String>) -> Option<Backend> {
        let everything = match self.kind {
            BackendType::S3 => "s3://",
            BackendType::Gcs => "gs://",
            BackendType::Azure | BackendType::Https => "https://",
            BackendType::HuggingFace => "hf://",
            BackendType::Hdfs => "hdfs://",
        };
        let secret = SecretReference {
            namespace: PROBE.to_owned(),
            name: PROBE.to_owned(),
            keys: named,
        };
        let mut spec = self.spec(vec![everything.to_owned()], secret.clone());
        spec.credentials = Credentials::SecretRef(secret);
        Backend::new(PROBE, spec).ok()
    }
}

/// What KServe is given of a Secret, but for what it reads by storage key.
fn keys(backend: &Backend, data: &Data, config: &KserveConfig) -> Result<Data, CredentialsError> {
    let json = storage_key(backend.name());
    let made = kserve_secret(backend, &exposed(data), config)?;
    Ok(made.data.into_iter().filter(|(key, _)| key != json).collect())
}

const PROBE: &str = "probe";

/// A Secret, or a key of one, that KServe would open a store with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) source: Source,
    /// What it opens, or why it is left alone.
    pub(super) store: Result<Store, String>,
}

/// All that could be imported. `by_key`: the Secrets, by namespace and name, whose keys services name.
pub(super) fn candidates(found: &Found, tidewaiter: &str, by_key: &BTreeSet<(String, String)>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for secret in &found.secrets {
        let is_ours = secret.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY);
        if secret.namespace == tidewaiter || is_ours {
            continue;
        }
        let of_keys = secret.name == found.kserve.config.storage_spec_secret
            || by_key.contains(&(secret.namespace.clone(), secret.name.clone()));
        let kind = recognise(secret.data.keys().map(String::as_str), &found.kserve.config);
        if let Some(kind) = kind {
            candidates.push(whole(secret, kind, found));
        } else if of_keys {
            candidates.extend(
                secret
                    .data
                    .iter()
                    .map(|(key, value)| one_key(secret, key, value, found)),
            );
        }
    }
    candidates.sort_by(|a, b| a.source.cmp(&b.source));
    candidates
}

fn whole(secret: &FoundSecret, kind: BackendType, found: &Found) -> Candidate {
    let source = Source {
        namespace: secret.namespace.clone(),
        secret: secret.name.clone(),
        key: None,
    };
    let store = if secret.labels.contains_key(OWN_STORAGE_LABEL) {
        Err("it is its namespace's own: Tidewaiter uses it as it is".to_owned())
    } else {
        store(secret, kind, found)
    };
    Candidate { source, store }
}

fn store(secret: &FoundSecret, kind: BackendType, found: &Found) -> Result<Store, String> {
    let config = &found.kserve.config;
    let mut store = Store {
        kind,
        s3: None,
        keys: Data::new(),
        notes: Vec::new(),
        bucket: None,
    };
    let named: &[(&str, &String)] = match kind {
        BackendType::S3 => &[
            (S3_ID, &config.s3_access_key_id),
            (S3_KEY, &config.s3_secret_access_key),
        ],
        BackendType::Gcs => &[(GCS_FILE, &config.gcs_credentials_file)],
        _ => &[],
    };
    if kind == BackendType::S3 {
        let bundles = |name: &str| found.bundle(&secret.namespace, name);
        let described = s3::of_secret(&secret.annotations, &secret.data, &found.kserve.s3, &bundles)?;
        store.s3 = Some(described.settings);
        store.notes = described.notes;
        if described.anonymous {
            return Ok(store);
        }
    }
    let named = named.iter().map(|(role, key)| ((*role).to_owned(), (*key).clone()));
    let probe = store.probe(named.collect()).ok_or("its settings make no sense")?;
    // Under the names that KServe ships with: they may be told otherwise one day, and the copy is to be read even then.
    let mut taken = keys(&probe, &secret.data, &KserveConfig::default()).map_err(|error| match error {
        CredentialsError::NamedKeyMissing { key, .. } => format!("its key {key} is empty"),
        CredentialsError::Malformed { key, expected, .. } => format!("its key {key} is not {expected}"),
        CredentialsError::Missing { wanted, .. } => format!("it has no {wanted}"),
    })?;
    // KServe 0.15 refers to each of Azure's keys, so that what isn't there is empty: for the copy that is made of this copy.
    taken.retain(|_, value| !value.expose().is_empty());
    store.keys = taken;
    Ok(store)
}

fn one_key(secret: &FoundSecret, key: &str, value: &SecretValue, found: &Found) -> Candidate {
    let source = Source {
        namespace: secret.namespace.clone(),
        secret: secret.name.clone(),
        key: Some(key.to_owned()),
    };
    let bundles = |name: &str| found.bundle(&secret.namespace, name);
    Candidate {
        store: of_json(value, &bundles),
        source,
    }
}

/// Not with the parser's words: they may quote what they stumbled over.
fn of_json(value: &SecretValue, bundles: s3::Bundles<'_>) -> Result<Store, String> {
    let json: BTreeMap<String, String> = serde_json::from_slice(value.expose())
        .map_err(|_| "it is not a storage key: KServe reads one as a JSON object of texts".to_owned())?;
    match json.get("type").map(String::as_str) {
        Some("s3") => {}
        Some(_) => {
            return Err("only storage keys of type s3 are taken over; write a StorageBackend by hand".to_owned());
        }
        None => return Err("it is not a storage key: it has no type".to_owned()),
    }
    let S3Store {
        settings,
        anonymous,
        notes,
    } = s3::of_storage_key(&json, bundles)?;
    let mut keys = Data::new();
    if !anonymous {
        for (role, key) in [(S3_ID, "access_key_id"), (S3_KEY, "secret_access_key")] {
            match json.get(key).map(|text| text.trim()).filter(|text| !text.is_empty()) {
                Some(text) => keys.insert(role.to_owned(), SecretValue::from(text.to_owned())),
                None => return Err(format!("it has no {key}")),
            };
        }
    }
    Ok(Store {
        kind: BackendType::S3,
        s3: Some(settings),
        keys,
        notes,
        bucket: json.get("bucket").cloned().filter(|bucket| !bucket.is_empty()),
    })
}

/// For whoever makes a Secret of it.
fn exposed(data: &Data) -> BTreeMap<String, Vec<u8>> {
    data.iter()
        .map(|(key, value)| (key.clone(), value.expose().to_vec()))
        .collect()
}

impl Found {
    pub(super) fn secret(&self, namespace: &str, name: &str) -> Option<&FoundSecret> {
        let mut secrets = self.secrets.iter();
        secrets.find(|secret| secret.namespace == namespace && secret.name == name)
    }

    fn bundle(&self, namespace: &str, name: &str) -> Option<String> {
        self.bundles.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }
}
