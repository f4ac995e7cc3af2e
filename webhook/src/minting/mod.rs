//! Access keys of MinIO, one a namespace and backend, that read what the namespace's services need and nothing else.
//!
//! The Secret in the namespace is what counts, and MinIO follows it. A key is made here, written into the Secret with a [`Record`] of what it may read,
//! and then MinIO is told of it, as often as it takes: whoever is interrupted in between leaves what the next one completes, and a MinIO that is down delays
//! what the key may read, but holds nobody up. Two writers of a Secret meet in its resourceVersion, so that neither loses what the other granted.

#[cfg(test)]
pub(crate) mod fake;
mod gate;
mod record;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use tidewaiter_core::backend::Backend;
use tidewaiter_core::backends::Resolved;
use tidewaiter_core::credentials::kserve_secret_with_key;
use tidewaiter_core::uri::{NAMESPACE, StorageUri, UriPattern};
use tidewaiter_minio::{
    AccessKey, Admin, Change, Error, Grant, NewAccount, NoPolicy, NotGranted, Policy, Right, SHORTEST, Trust,
};
use tidewaiter_world::{Configuration, Labels, Trust as StoreTrust};
use tokio::time::{Instant, timeout_at};

use record::digest;
pub(crate) use record::{ANNOTATION, Known, OVERWRITTEN, Record, beginning, end, ids, overwritten};

use self::gate::Gate;
use crate::cluster::clock;
use crate::namespaces::{PATIENCE, Wanted};

/// How long a key that was replaced works on: what has it in its environment began before.
pub(crate) const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
/// By how much a key may seem to live longer than it was given: clocks differ.
const SLACK: SignedDuration = SignedDuration::from_mins(5);
/// A call of MinIO's that had no answer may be carried out for so long.
const LATE: SignedDuration = SignedDuration::from_secs(30);
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
    gate: Gate,
    /// The backend's own key may not change others; they are made anew instead.
    replaces: AtomicBool,
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

/// Why MinIO doesn't let a key read all that it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// It says no, or can't be reached.
    #[error(transparent)]
    Refused(#[from] Error),
    /// It may do it yet.
    #[error("MinIO doesn't answer in time")]
    Unanswered,
    /// Others have waited for it in vain.
    #[error("MinIO didn't answer the last time, and is asked again in a few seconds")]
    NotAsked,
    /// Each time that it was told, something else was in the Secret.
    #[error("others change its Secret all the time")]
    Overtaken,
}

impl Untold {
    /// Whether it is MinIO that is away or has something against us, so that other keys fare alike.
    pub(crate) fn concerns_all(&self) -> bool {
        match self {
            Self::Refused(error) => error.concerns_all(),
            Self::Unanswered | Self::NotAsked => true,
            Self::Overtaken => false,
        }
    }

    /// Whether MinIO may have heard it all the same.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Refused(Error::Unreachable(_)))
    }
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
        let lifetime = backend.key_lifetime()?.try_into().ok()?;
        Some(Self::with(configuration, backend, lifetime))
    }

    /// For a backend from which `minting` was taken: revokes keys of before, and makes none.
    pub(crate) fn former(configuration: &Arc<Configuration>, backend: &Backend) -> Self {
        Self::with(configuration, backend, SignedDuration::ZERO)
    }

    fn with(configuration: &Arc<Configuration>, backend: &Backend, lifetime: SignedDuration) -> Self {
        Self {
            lifetime,
            ca_bundle: configuration.ca_bundle(backend.name()),
            backend: backend.clone(),
            configuration: Arc::clone(configuration),
            admin: OnceLock::new(),
            gate: Gate::default(),
            replaces: AtomicBool::new(false),
        }
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
            return self.fresh(place, uses, now);
        };
        let before = (record.uris.clone(), record.expires, record.grants.clone());
        // Whoever may write the Secret may write any time here. A shorter `keyLifetime` counts for keys that are there, too.
        if record.expires > now + self.lifetime + SLACK {
            record.expires = now + self.lifetime;
        }
        for end in record.retired.values_mut() {
            *end = (*end).min(now + OVERLAP);
        }
        if let Some(grants) = self.grants(place)
            && record.grants.as_ref() != Some(&grants)
        {
            record.grants = Some(grants);
            record.end_retired(now);
        }
        if !self.asks_for_labels() || place.labels.is_some() {
            record.uris = self.used(before.0.iter().map(String::as_str), place.namespace, place.labels);
        }
        self.add_uses(&mut record.uris, uses, place);
        if (&record.uris, record.expires, &record.grants) != (&before.0, before.1, &before.2)
            && record.known == Known::Yes
        {
            record.known = Known::Partly;
        }
        Ok(Minted { key, record })
    }

    /// Of all that decides which part of a bucket a URI opens to a namespace. None where its labels would have to be known.
    fn grants(&self, place: Place<'_>) -> Option<String> {
        if self.asks_for_labels() && place.labels.is_none() {
            return None;
        }
        let granted = self.backend.granted(place.namespace, place.labels);
        let begins = |serves: &UriPattern| {
            let mut beginnings = granted.iter().map(|pattern| {
                let text = pattern.as_str();
                let filled_in = [text.find('*'), text.find(NAMESPACE)].into_iter().flatten().min();
                filled_in.map_or(text.trim_end_matches('/'), |end| &text[..end])
            });
            beginnings.any(|beginning| serves.literal().starts_with(beginning))
        };
        let others = self.configuration.backends().iter();
        let others = others.filter(|other| other.name() != self.backend());
        let inside = others.flat_map(Backend::serves).filter(|serves| begins(serves));
        let lines: BTreeSet<(u8, &str)> = granted
            .iter()
            .map(|pattern| (0, pattern.as_str()))
            .chain(self.backend.serves().iter().map(|pattern| (1, pattern.as_str())))
            .chain(inside.map(|pattern| (2, pattern.as_str())))
            .collect();
        let lines: Vec<String> = lines.into_iter().map(|(kind, text)| format!("{kind} {text}")).collect();
        Some(digest(&lines.iter().map(String::as_str).collect::<Vec<_>>()))
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

    /// Another key for these URIs, that MinIO doesn't know yet.
    pub(crate) fn fresh(
        &self,
        place: Place<'_>,
        uses: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Minted, Unmintable> {
        let mut uris = BTreeSet::new();
        self.add_uses(&mut uris, uses, place);
        let key = AccessKey::random(&beginning(place.cluster, place.namespace, self.backend()))?;
        let mut record = Record::new(&key, now + self.lifetime, uris);
        record.grants = self.grants(place);
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

    /// Has MinIO know a key, and let it read what this policy says; with none it is revoked. Gives up at `until`. Whoever has no more time than a review has
    /// doesn't wait for a MinIO that others have waited for in vain.
    pub(crate) async fn tell(
        &self,
        place: Place<'_>,
        minted: &Minted,
        policy: Option<&Policy>,
        until: Instant,
    ) -> Result<(), Untold> {
        let patient = until.saturating_duration_since(Instant::now()) > PATIENCE;
        let call = if patient {
            self.gate.enter_anyway()
        } else {
            self.gate.enter().ok_or(Untold::NotAsked)?
        };
        let Ok(done) = timeout_at(until, self.try_tell(place, minted, policy)).await else {
            return Err(Untold::Unanswered);
        };
        match &done {
            Err(Error::Unreachable(_)) => call.silent(),
            // Nobody was asked.
            Err(Error::Settings(_) | Error::Request(_)) => call.cancelled(),
            _ => call.answered(),
        }
        Ok(done?)
    }

    async fn try_tell(&self, place: Place<'_>, minted: &Minted, policy: Option<&Policy>) -> Result<(), Error> {
        let admin = self.admin()?;
        let Minted { key, record } = minted;
        let Some(policy) = policy else {
            return admin.delete(key.id()).await.map(drop);
        };
        let description = self.description(place);
        let account = NewAccount {
            key,
            name: NAME,
            description: &description,
            policy,
            expires: record.expires,
        };
        if record.known == Known::No {
            match admin.add(&account).await {
                // Whoever began this before.
                Err(Error::Taken { .. }) => {}
                done => return done,
            }
        }
        if !self.replaces.load(Ordering::Relaxed) {
            // MinIO takes no end that is so near, and the next key is about to come.
            let far = record.expires.duration_since(clock::now()) > SHORTEST + SignedDuration::from_mins(1);
            let change = Change {
                enabled: Some(true),
                expires: far.then_some(record.expires),
                ..Change::policy(policy)
            };
            match admin.update(key.id(), &change).await {
                // Revoked by hand, or a MinIO that was made anew.
                Err(Error::NoAccount { .. }) => return admin.add(&account).await,
                Err(Error::Forbidden {
                    right: Right::Update, ..
                }) => self.replaces.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        match admin.info(key.id()).await {
            // Each time that a key is made anew it is away for a moment, so only where it has to be.
            Ok(info) if record.is_as_told(&info.account) && policy.is(&info.policy) => Ok(()),
            Ok(_) => admin.replace(&account).await,
            Err(Error::NoAccount { .. }) => admin.add(&account).await,
            Err(Error::Forbidden { host, .. }) => Err(Error::Foreign {
                host,
                access_key: key.id().to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    /// By which a person, and the leader, knows whose a key is.
    pub(crate) fn description(&self, place: Place<'_>) -> String {
        format!("{}{}/{}", descriptions(place.cluster), place.namespace, self.backend())
    }

    /// The user of MinIO whose keys are made: the ID of the backend's own key. None where that can't be used.
    pub(crate) fn user(&self) -> Option<&str> {
        Some(self.configuration.issuer(self.backend())?.id)
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
            let admin = Admin::new(issuer.endpoint.clone(), issuer.region, key, &trust)?;
            Ok(admin.by_clock(clock::now))
        });
        admin.as_ref().map_err(Clone::clone)
    }
}

/// What the descriptions of all keys of a cluster begin with.
pub(crate) fn descriptions(cluster: &str) -> String {
    format!("tidewaiter {cluster} ")
}
