//! Access keys of MinIO, one a namespace and backend, that read what the namespace's services need and nothing else.
//!
//! The Secret in the namespace is what counts, and MinIO follows it. A key is made here, written into the Secret with a [`Record`] of what it may read,
//! and then MinIO is told of it, as often as it takes: whoever is interrupted in between leaves what the next one completes, and a MinIO that is down delays
//! what the key may read, but holds nobody up. Two writers of a Secret meet in its resourceVersion, so that neither loses what the other granted.

mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use tidewaiter_core::backend::Backend;
use tidewaiter_core::backends::Resolved;
use tidewaiter_core::credentials::kserve_secret_with_key;
use tidewaiter_core::uri::StorageUri;
use tidewaiter_minio::{
    AccessKey, Admin, Change, Error, Grant, NewAccount, NoPolicy, NotGranted, Policy, SHORTEST, Trust,
};
use tidewaiter_world::{Configuration, Labels, Trust as StoreTrust};

pub(crate) use record::{ANNOTATION, Known, Record, beginning};

use crate::namespaces::Wanted;

/// How long a key that was replaced works on: what has it in its environment began before.
pub(crate) const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
/// The most models that are kept one by one.
const URIS: usize = 64;
/// The name of each key in MinIO's console.
const NAME: &str = "tidewaiter";

/// Mints for one backend, as the configuration has it. Holds secrets, so it can't be printed.
pub struct Mint {
    configuration: Arc<Configuration>,
    backend: Backend,
    lifetime: SignedDuration,
    ca_bundle: Option<String>,
    /// Made at the first call: reading the machine's CAs takes milliseconds.
    admin: OnceLock<Result<Admin, Error>>,
}

/// A key as it is to be in a namespace.
#[derive(Debug)]
pub(crate) struct Minted {
    pub(crate) key: AccessKey,
    pub(crate) record: Record,
}

/// Why a namespace can't have a key for what it uses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unmintable {
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    #[error(transparent)]
    NoPolicy(#[from] NoPolicy),
    #[error(transparent)]
    NoKey(#[from] Error),
}

/// Where a key is for, and by which labels the namespace is granted what it is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Identifies the cluster among those that share a MinIO.
    pub(crate) cluster: &'a str,
    /// The namespace.
    pub(crate) namespace: &'a str,
    /// Its labels, where they are known.
    pub(crate) labels: Option<&'a Labels>,
}

impl Mint {
    /// None where the backend's own key is copied.
    pub(crate) fn new(configuration: &Arc<Configuration>, backend: &Backend) -> Option<Self> {
        Some(Self {
            lifetime: backend.key_lifetime()?.try_into().ok()?,
            ca_bundle: configuration.ca_bundle(backend.name()),
            backend: backend.clone(),
            configuration: Arc::clone(configuration),
            admin: OnceLock::new(),
        })
    }

    /// The `StorageBackend`.
    pub fn backend(&self) -> &str {
        self.backend.name()
    }

    /// The store's authorities, where the backend names them.
    pub(crate) fn ca_bundle(&self) -> Option<String> {
        self.ca_bundle.clone()
    }

    /// Whether labels have to be known to tell what a namespace may use.
    pub(crate) fn asks_for_labels(&self) -> bool {
        self.backend.asks_for_labels()
    }

    /// Those of these URIs that this backend serves, and the namespace may use.
    pub(crate) fn used<'u>(
        &self,
        uris: impl Iterator<Item = &'u str>,
        namespace: &str,
        labels: Option<&Labels>,
    ) -> BTreeSet<String> {
        let here = |text: &&str| {
            let served = self.configuration.backends().resolve_text(text, namespace, labels);
            matches!(served, Resolved::Served(backend) if backend.name() == self.backend())
        };
        uris.filter(here).map(str::to_owned).collect()
    }

    /// The key in a namespace's Secret, with its record. None where there is none that can be relied on.
    pub(crate) fn held(&self, place: Place<'_>, secret: &Secret) -> Option<(AccessKey, Record)> {
        let beginning = beginning(place.cluster, place.namespace, self.backend());
        Record::of(secret, self.backend(), &beginning)
    }

    /// What the namespace's Secret should say where it is `found` so, for these URIs. Where a key that can be relied on is there it stays, and reads what it
    /// read before as well, as far as that is still granted: an older version of a service may be running.
    pub(crate) fn next(
        &self,
        place: Place<'_>,
        found: Option<&Secret>,
        uses: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Minted, Unmintable> {
        let there = found.and_then(|secret| self.held(place, secret));
        let Some((key, mut record)) = there.filter(|(_, record)| record.expires > now) else {
            let mut uris = BTreeSet::new();
            self.add_uses(&mut uris, uses, place);
            return self.fresh(place, uris, now);
        };
        let before = record.uris.clone();
        if !self.asks_for_labels() || place.labels.is_some() {
            record.uris = self.used(before.iter().map(String::as_str), place.namespace, place.labels);
        }
        self.add_uses(&mut record.uris, uses, place);
        if record.uris != before && record.known == Known::Yes {
            record.known = Known::Partly;
        }
        Ok(Minted { key, record })
    }

    /// Past a number they become the granted roots that they lie in, with a slash at the end: MinIO's policy holds no more of them either.
    fn add_uses(&self, uris: &mut BTreeSet<String>, uses: &BTreeSet<String>, place: Place<'_>) {
        let covered = |uris: &BTreeSet<String>, uri: &str| {
            let mut roots = uris.iter().filter(|root| root.ends_with('/'));
            uris.contains(uri) || roots.any(|root| uri.starts_with(root.as_str()))
        };
        for uri in uses {
            if !covered(uris, uri) {
                uris.insert(uri.clone());
            }
        }
        if uris.len() > URIS {
            let root = |uri: &String| {
                let parsed = StorageUri::parse(uri).ok()?;
                let root = self.root(&parsed, place)?;
                let slash = if root.is_empty() || root.ends_with('/') {
                    ""
                } else {
                    "/"
                };
                Some(format!("s3://{}/{root}{slash}", parsed.authority()))
            };
            *uris = uris.iter().filter_map(root).collect();
        }
    }

    /// The granted part of its bucket that a URI lies in. Where another backend serves some of that, and its grants count there, it is no more than the URI.
    fn root<'u>(&self, uri: &'u StorageUri, place: Place<'_>) -> Option<&'u str> {
        let root = self.backend.granted_root(uri, place.namespace, place.labels)?;
        let whole = format!("s3://{}/{root}", uri.authority());
        let others = self.configuration.backends().iter();
        let mut served = others
            .filter(|other| other.name() != self.backend())
            .flat_map(Backend::serves);
        let shared = served.any(|serves| serves.literal().starts_with(whole.trim_end_matches('/')));
        Some(if shared { uri.key_as_written() } else { root })
    }

    /// Another key, that MinIO doesn't know yet.
    pub(crate) fn fresh(&self, place: Place<'_>, uris: BTreeSet<String>, now: Timestamp) -> Result<Minted, Unmintable> {
        let key = AccessKey::random(&beginning(place.cluster, place.namespace, self.backend()))?;
        let record = Record::new(&key, now + self.lifetime, uris);
        Ok(Minted { key, record })
    }

    /// Whether it is time for the next key.
    pub(crate) fn is_due(&self, record: &Record, now: Timestamp) -> bool {
        record.expires.duration_since(now) < self.lifetime / 3
    }

    /// What a namespace should have.
    pub(crate) fn wanted(&self, minted: &Minted) -> Wanted {
        let kserve = self.configuration.kserve();
        let (id, secret) = (minted.key.id(), minted.key.secret());
        let contents = kserve_secret_with_key(&self.backend, id, secret, kserve);
        Wanted::new(self.backend(), contents, self.ca_bundle.clone()).with_annotation(ANNOTATION, minted.record.text())
    }

    /// What a key may read. None where that is nothing.
    pub(crate) fn policy(&self, place: Place<'_>, record: &Record) -> Result<Option<Policy>, Unmintable> {
        let parsed: Vec<_> = record
            .uris
            .iter()
            .filter_map(|uri| StorageUri::parse(uri).ok())
            .collect();
        let granted = parsed.iter().filter_map(|uri| {
            let root = self.root(uri, place)?;
            Some(Grant::new(uri.authority(), root, uri.key_as_written()))
        });
        let grants = granted.collect::<Result<Vec<_>, _>>()?;
        match Policy::new(&grants) {
            Ok(policy) => Ok(Some(policy)),
            Err(NoPolicy::NothingWanted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Has MinIO know a key, and let it read what this policy says; with none it is revoked.
    pub(crate) async fn tell(&self, place: Place<'_>, minted: &Minted, policy: Option<&Policy>) -> Result<(), Error> {
        let admin = self.admin()?;
        let Minted { key, record } = minted;
        let Some(policy) = policy else {
            return admin.delete(key.id()).await.map(drop);
        };
        if record.known == Known::No {
            return match self.add(admin, place, minted, policy).await {
                // Whoever began this before.
                Err(Error::Taken { .. }) => admin.update(key.id(), &Change::policy(policy)).await,
                done => done,
            };
        }
        // MinIO takes no end that is so near, and the next key is about to come.
        let far = record.expires.duration_since(Timestamp::now()) > SHORTEST + SignedDuration::from_mins(1);
        let change = Change {
            enabled: Some(true),
            expires: far.then_some(record.expires),
            ..Change::policy(policy)
        };
        match admin.update(key.id(), &change).await {
            // Revoked by hand, or a MinIO that was made anew.
            Err(Error::NoAccount { .. }) => self.add(admin, place, minted, policy).await,
            done => done,
        }
    }

    async fn add(&self, admin: &Admin, place: Place<'_>, minted: &Minted, policy: &Policy) -> Result<(), Error> {
        let account = NewAccount {
            key: &minted.key,
            name: NAME,
            description: &self.description(place),
            policy,
            expires: minted.record.expires,
        };
        admin.add(&account).await
    }

    /// By which a person, and the leader, knows whose a key is.
    pub(crate) fn description(&self, place: Place<'_>) -> String {
        format!("{}{}/{}", descriptions(place.cluster), place.namespace, self.backend())
    }

    /// MinIO's admin API with the backend's own key.
    pub(crate) fn admin(&self) -> Result<&Admin, Error> {
        let admin = self.admin.get_or_init(|| {
            let Some(issuer) = self.configuration.issuer(self.backend()) else {
                // What is wrong with the key is told of the backend already.
                return Err(Error::Settings(
                    "the backend's own key can't be used; see its conditions".to_owned(),
                ));
            };
            let trust = match issuer.trust {
                StoreTrust::System => Trust::System,
                StoreTrust::Nobody => Trust::Nobody,
                StoreTrust::Anybody => Trust::Anybody,
                StoreTrust::Bundle(pem) => Trust::Bundle(pem.clone()),
            };
            let key = AccessKey::new(issuer.id, issuer.secret);
            Admin::new(issuer.endpoint.clone(), issuer.region, key, &trust)
        });
        admin.as_ref().map_err(Clone::clone)
    }
}

/// What the descriptions of all keys of a cluster begin with.
pub(crate) fn descriptions(cluster: &str) -> String {
    format!("tidewaiter {cluster} ")
}
