//! Minted keys, kept: what a review could not tell MinIO is told again, a key is replaced before it ends and its predecessor revoked a day later, what somebody
//! changed in MinIO is put right, and what no namespace has any more is revoked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tidewaiter_core::backend::managed_name;
use tidewaiter_minio::{Account, Admin, Error};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::health::Health;
use super::services::{Service, Services};
use crate::admission::Reviewer;
use crate::cluster::watched::Changes;
use crate::configuration::Snapshot;
use crate::metrics::Metrics;
use crate::minting::{Known, Mint, Place, Record, Untold, beginning, descriptions};
use crate::namespaces::cluster::InCluster;
use crate::namespaces::{Namespaces, ProvideError, Provided, Trouble};

/// As for copied credentials.
const QUIET: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(10);
/// For one namespace: a call of MinIO's has 20 s.
const PATIENCE: Duration = Duration::from_secs(25);
/// Between two comparisons with what MinIO has.
const COMPARE: Duration = Duration::from_mins(10);
/// Policies that are read in one comparison: each takes a fifth of a second of work, so a thousand keys take a few hours.
const LOOKED_AT: usize = 32;

/// Keeps the keys.
pub(super) struct Keeper {
    pub(super) namespaces: Arc<InCluster>,
    pub(super) reviewer: Arc<Reviewer>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) services: Services,
    /// What is known of the stores, and whom to tell of news.
    pub(super) health: (Arc<Health>, Changes),
    /// Of Secrets and services.
    pub(super) changed: watch::Receiver<()>,
}

/// What one namespace's services need of a backend.
#[derive(Debug, Default, PartialEq, Eq)]
struct Need {
    uris: BTreeSet<String>,
    service_account: bool,
    /// No older version of a service may still be running.
    settled: bool,
}

/// What is remembered from one round to the next.
#[derive(Default)]
struct Memory {
    /// Since when a namespace's key of a backend is not as it should be.
    behind: HashMap<(String, String), Instant>,
    /// When each backend's keys were last compared with MinIO's.
    compared: HashMap<String, Instant>,
    /// Keys of ours in MinIO that no Secret has, since when.
    strays: HashMap<String, Instant>,
    /// Up to which namespace each backend's policies were looked at.
    looked: HashMap<String, String>,
    /// The namespace at which each backend's last round ended early; the next one begins behind it.
    ended: HashMap<String, String>,
}

impl Keeper {
    /// Works for as long as it is called.
    pub(super) async fn keep(mut self) {
        self.namespaces.settled().await;
        self.services.settled().await;
        let mut configured = self.reviewer.configured_anew();
        let mut memory = Memory::default();
        loop {
            self.changed.mark_unchanged();
            configured.mark_unchanged();
            if let Some(snapshot) = self.reviewer.snapshot() {
                self.round(&snapshot, &mut memory).await;
            }
            let something = async {
                tokio::select! {
                    _ = self.changed.changed() => {}
                    _ = configured.changed() => {}
                }
            };
            if timeout(PAUSE, something).await.is_ok() {
                sleep(QUIET).await;
            }
        }
    }

    async fn round(&self, snapshot: &Snapshot, memory: &mut Memory) {
        let (mut behind, mut stores) = (HashMap::new(), BTreeMap::new());
        let mut mints = snapshot.mints().peekable();
        let cluster = match mints.peek() {
            Some(_) => match self.namespaces.cluster().await {
                Ok(cluster) => cluster,
                Err(_) => return,
            },
            None => String::new(),
        };
        let services = self.services.all();
        for mint in mints {
            let mut taken = Ok(());
            let last = memory.ended.remove(mint.backend());
            let round = self.backend(snapshot, mint, &cluster, &services, last.as_deref()).await;
            for namespace in round.left_out {
                // As it was when it was last looked at.
                let place = (namespace, mint.backend().to_owned());
                if let Some(since) = memory.behind.get(&place) {
                    behind.insert(place, *since);
                }
            }
            if let Some(ended) = round.ended {
                memory.ended.insert(mint.backend().to_owned(), ended);
            }
            for (namespace, failed) in round.failed {
                let place = (namespace, mint.backend().to_owned());
                let since = memory.behind.get(&place).copied();
                if since.is_none() {
                    let (namespace, backend) = &place;
                    warn!(
                        namespace,
                        backend, "its access key is not as it should be: {}; trying again", failed.words
                    );
                }
                behind.insert(place, since.unwrap_or_else(Instant::now));
                if failed.store {
                    taken = Err(failed.words);
                }
            }
            stores.insert(mint.backend().to_owned(), taken);
            let due = memory.compared.get(mint.backend());
            if due.is_none_or(|last| last.elapsed() >= COMPARE) {
                memory.compared.insert(mint.backend().to_owned(), Instant::now());
                if let Err(error) = self.compare(snapshot, mint, &cluster, memory).await {
                    warn!(
                        backend = mint.backend(),
                        "can't compare its access keys with MinIO's: {error}"
                    );
                }
            }
        }
        if self.health.0.minted(stores) {
            self.health.1.send_replace(());
        }
        memory.behind = behind;
        let stale = memory.behind.iter();
        self.metrics.credentials_stale(
            "minted",
            stale.map(|((_, backend), since)| (backend.as_str(), since.elapsed())),
        );
    }

    /// One after another, from behind `last` on: MinIO's bodies take 64 MiB and a tenth of a second to encrypt, and reviews wait for their turn.
    async fn backend(
        &self,
        snapshot: &Snapshot,
        mint: &Mint,
        cluster: &str,
        services: &[Service],
        last: Option<&str>,
    ) -> Round {
        let mut round = Round::default();
        let name = managed_name(mint.backend());
        let configured = snapshot.configuration.backends().get(mint.backend());
        let asks = configured.is_some_and(|backend| backend.spec().authorization.is_some());
        let mut needs = behind(needs(&name, services), last).into_iter();
        while let Some((namespace, need)) = needs.next() {
            let labels = snapshot.configuration.namespace_labels(&namespace);
            let copy = self.namespaces.secrets.current(&namespace, &name);
            // Without a copy, nobody has looked yet whether who named it may use it.
            if mint.asks_for_labels() && labels.is_none() || asks && copy.is_none() {
                continue;
            }
            let place = Place {
                cluster,
                namespace: &namespace,
                labels,
            };
            let need = Need {
                uris: mint.used(need.uris.iter().map(String::as_str), &namespace, labels),
                ..need
            };
            if need.uris.is_empty() && copy.is_none() {
                continue;
            }
            if let Err(error) = self.namespace(mint, place, &need, copy.as_deref()).await {
                // MinIO or the API server won't answer for the others either. Only then: one namespace must not stop the others.
                if error.all {
                    round.ended = Some(namespace.clone());
                    round.left_out = needs.map(|(namespace, _)| namespace).collect();
                    round.failed.push((namespace, error));
                    break;
                }
                round.failed.push((namespace, error));
            }
        }
        round
    }

    async fn namespace(&self, mint: &Mint, place: Place<'_>, need: &Need, copy: Option<&Secret>) -> Result<(), Failed> {
        let (namespace, backend) = (place.namespace, mint.backend());
        let until = Instant::now() + PATIENCE;
        let now = Timestamp::now();
        let record = copy.and_then(|copy| Some(mint.held(place, copy)?.1));
        let uris = match &record {
            Some(record) if !need.settled => record.uris.union(&need.uris).cloned().collect(),
            _ => need.uris.clone(),
        };
        let is_due = record.is_some_and(|record| mint.is_due(&record, now) && record.expires > now);
        if is_due && self.rotate(mint, place, &uris, until).await? {
            return Ok(());
        }
        // Where one was due: nothing is granted any more, and then the key that is there is to read nothing. Or somebody else changed the Secret.
        let minting = self
            .namespaces
            .mint(namespace, place.labels, mint, &need.uris, need.service_account, until)
            .await;
        let minting = match minting {
            // The admin doesn't want it kept.
            Err(ProvideError::Elsewhere { .. }) => return Ok(()),
            // It goes, and its key with it.
            Err(ProvideError::Refused { message, .. }) if message.contains("is being terminated") => return Ok(()),
            minting => minting.map_err(|error| Failed::place(&error))?,
        };
        if minting.provided == Provided::Written {
            self.metrics.credentials("renewed");
            info!(namespace, backend, "access key renewed");
        }
        match minting.untold {
            None => {}
            // The backend has another user now: what the last one made isn't ours to change.
            Some(Untold::Refused(Error::Foreign { .. })) => {
                self.rotate(mint, place, &uris, until).await?;
                return Ok(());
            }
            Some(untold) => return Err(Trouble::from(untold).into()),
        }
        let now = Timestamp::now();
        if self.namespaces.revoke_retired(mint, place, now, until).await? > 0 {
            self.metrics.credentials("revoked");
            info!(namespace, backend, "the access keys before are revoked");
        }
        Ok(())
    }

    async fn rotate(
        &self,
        mint: &Mint,
        place: Place<'_>,
        uris: &BTreeSet<String>,
        until: Instant,
    ) -> Result<bool, Trouble> {
        let uris = mint.used(uris.iter().map(String::as_str), place.namespace, place.labels);
        let rotated = self.namespaces.rotate(mint, place, &uris, until).await?;
        if rotated {
            let (namespace, backend) = (place.namespace, mint.backend());
            self.metrics.credentials("rotated");
            info!(namespace, backend, "the next access key is in its place");
        }
        Ok(rotated)
    }

    /// Puts right what was changed in MinIO, and revokes what no Secret holds.
    async fn compare(
        &self,
        snapshot: &Snapshot,
        mint: &Mint,
        cluster: &str,
        memory: &mut Memory,
    ) -> Result<(), String> {
        let admin = mint.admin().map_err(|error| error.to_string())?;
        let accounts = admin.list().await.map_err(|error| error.to_string())?;
        let name = managed_name(mint.backend());
        let copies: Copies = self
            .namespaces
            .secrets
            .all()
            .iter()
            .filter(|secret| secret.name_any() == name)
            .filter_map(|secret| {
                let namespace = secret.namespace()?;
                let place = Place {
                    cluster,
                    namespace: &namespace,
                    labels: None,
                };
                let (key, record) = mint.held(place, secret)?;
                Some((namespace, (key.id().to_owned(), record)))
            })
            .collect();

        let listed: HashMap<&str, &Account> = accounts
            .iter()
            .map(|account| (account.access_key.as_str(), account))
            .collect();
        let mut wrong: BTreeSet<&str> = copies
            .iter()
            .filter(|(_, (key, record))| {
                let listed = listed.get(key.as_str());
                record.known == Known::Yes && listed.is_some_and(|account| !record.is_as_told(account))
            })
            .map(|(namespace, _)| namespace.as_str())
            .collect();
        wrong.extend(self.unlisted(snapshot, mint, cluster, &copies, &listed, memory).await?);
        wrong.extend(looked_into(snapshot, mint, cluster, &copies, &listed, memory).await?);
        for namespace in wrong {
            warn!(
                namespace,
                backend = mint.backend(),
                "its access key was changed or revoked in MinIO; it is told again"
            );
            let place = Place {
                cluster,
                namespace,
                labels: None,
            };
            let until = Instant::now() + PATIENCE;
            let told = self.namespaces.doubt(mint, place, false, until).await;
            told.map_or_else(passing, |()| Ok(true))?;
        }

        self.revoke_strays(mint, cluster, &accounts, &copies, memory).await
    }

    /// The namespaces whose keys were revoked, or are gone, in MinIO. Another user's are replaced.
    async fn unlisted<'a>(
        &self,
        snapshot: &Snapshot,
        mint: &Mint,
        cluster: &str,
        copies: &'a Copies,
        listed: &HashMap<&str, &Account>,
        memory: &mut Memory,
    ) -> Result<BTreeSet<&'a str>, String> {
        let admin = mint.admin().map_err(|error| error.to_string())?;
        let mut wrong = BTreeSet::new();
        let missing: Vec<_> = copies
            .iter()
            .filter(|(_, (key, record))| record.known == Known::Yes && !listed.contains_key(key.as_str()))
            .collect();
        if missing.len() > LOOKED_AT {
            // The rest in the next round.
            memory.compared.remove(mint.backend());
        }
        for (namespace, (key, record)) in missing.into_iter().take(LOOKED_AT) {
            match is_foreign(admin, key).await {
                Ok(false) => {
                    wrong.insert(namespace.as_str());
                }
                Ok(true) => {
                    let place = Place {
                        cluster,
                        namespace,
                        labels: snapshot.configuration.namespace_labels(namespace),
                    };
                    if mint.asks_for_labels() && place.labels.is_none() {
                        continue;
                    }
                    let until = Instant::now() + PATIENCE;
                    warn!(
                        namespace,
                        backend = mint.backend(),
                        "its access key is of another user of MinIO than the backend's; it is replaced"
                    );
                    self.rotate(mint, place, &record.uris, until).await.or_else(passing)?;
                }
                Err(error) => passing(Trouble::from(error)).map(drop)?,
            }
        }
        Ok(wrong)
    }

    /// Revokes what was made here and no Secret holds.
    async fn revoke_strays(
        &self,
        mint: &Mint,
        cluster: &str,
        accounts: &[Account],
        copies: &Copies,
        memory: &mut Memory,
    ) -> Result<(), String> {
        let admin = mint.admin().map_err(|error| error.to_string())?;
        let held: BTreeSet<&str> = copies
            .values()
            .flat_map(|(key, record)| record.retired.keys().chain([key]).map(String::as_str))
            .collect();
        // One that is only just made isn't in any Secret that we see; and nothing is known of Secrets that can't be seen.
        let seen = |namespace: &str| self.namespaces.secrets.shows(namespace);
        let stray = strays(accounts, &held, cluster, mint.backend(), seen);
        let known: BTreeSet<&str> = accounts.iter().map(|account| account.access_key.as_str()).collect();
        memory
            .strays
            .retain(|key, _| !known.contains(key.as_str()) || stray.contains(key.as_str()));
        for key in stray {
            let since = memory.strays.entry(key.to_owned()).or_insert_with(Instant::now);
            if since.elapsed() >= COMPARE / 2 {
                if let Err(error) = admin.delete(key).await {
                    passing(Trouble::from(error))?;
                    continue;
                }
                memory.strays.remove(key);
                self.metrics.credentials("revoked");
                info!(
                    backend = mint.backend(),
                    key, "an access key that no namespace has is revoked"
                );
            }
        }
        Ok(())
    }
}

/// By namespace: the ID of its key, and what is on record of it.
type Copies = BTreeMap<String, (String, Record)>;

/// The namespaces whose keys have another policy than they should, among the next [`LOOKED_AT`].
async fn looked_into<'a>(
    snapshot: &Snapshot,
    mint: &Mint,
    cluster: &str,
    copies: &'a Copies,
    listed: &HashMap<&str, &Account>,
    memory: &mut Memory,
) -> Result<BTreeSet<&'a str>, String> {
    let admin = mint.admin().map_err(|error| error.to_string())?;
    let mut wrong = BTreeSet::new();
    let last = memory.looked.remove(mint.backend()).unwrap_or_default();
    let looked_at: Vec<_> = copies
        .range(last.clone()..)
        .filter(|(namespace, _)| **namespace != last)
        .take(LOOKED_AT)
        .collect();
    for (namespace, (key, record)) in &looked_at {
        let place = Place {
            cluster,
            namespace,
            labels: snapshot.configuration.namespace_labels(namespace),
        };
        // One that isn't listed was looked at already.
        let there = record.known == Known::Yes && listed.contains_key(key.as_str());
        if !there || mint.asks_for_labels() && place.labels.is_none() {
            continue;
        }
        let Ok(Some(policy)) = mint.policy(place, record) else {
            continue;
        };
        match admin.info(key).await {
            Ok(info) if policy.is(&info.policy) => {}
            Ok(_) | Err(Error::NoAccount { .. }) => {
                wrong.insert(namespace.as_str());
            }
            Err(error) => passing(Trouble::from(error)).map(drop)?,
        }
    }
    // From the beginning again, after the last.
    if let Some((namespace, _)) = looked_at.last().filter(|_| looked_at.len() == LOOKED_AT) {
        memory.looked.insert(mint.backend().to_owned(), (*namespace).clone());
    }
    Ok(wrong)
}

/// What came of one backend's keys.
#[derive(Default)]
struct Round {
    /// What went wrong where.
    failed: Vec<(String, Failed)>,
    /// The namespace at which it ended early.
    ended: Option<String>,
    /// Those that weren't looked at.
    left_out: Vec<String>,
}

/// Why a namespace's key is not as it should be.
#[derive(Debug)]
struct Failed {
    words: String,
    /// It is MinIO that doesn't answer or has something against us.
    store: bool,
    /// Others fail alike.
    all: bool,
}

impl Failed {
    fn place(error: &ProvideError) -> Self {
        Self {
            words: error.to_string(),
            store: false,
            all: false,
        }
    }
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self {
            words: trouble.to_string(),
            store: trouble.is_minios(),
            all: trouble.concerns_all(),
        }
    }
}

/// What concerns one key alone is said, and the comparison goes on.
fn passing(trouble: Trouble) -> Result<bool, String> {
    if trouble.concerns_all() {
        return Err(trouble.to_string());
    }
    warn!("an access key is not as it should be: {trouble}; trying again");
    Ok(false)
}

/// Whether a key that isn't listed is another user's; else it is gone.
async fn is_foreign(admin: &Admin, key: &str) -> Result<bool, Error> {
    match admin.info(key).await {
        // Those of the own user are shown to everybody.
        Err(Error::Forbidden { .. }) => Ok(true),
        Err(Error::NoAccount { .. }) => Ok(false),
        Err(error) => Err(error),
        // Root sees them all. One that a review made anew just then wasn't there for a moment.
        Ok(_) => Ok(!admin.list().await?.iter().any(|account| account.access_key == key)),
    }
}

/// In the order of their names, but those behind the `last` first.
fn behind<T>(mut needs: BTreeMap<String, T>, last: Option<&str>) -> Vec<(String, T)> {
    let Some(last) = last else {
        return needs.into_iter().collect();
    };
    let mut later = needs.split_off(last);
    let own = later.remove_entry(last);
    later.into_iter().chain(needs).chain(own).collect()
}

/// The keys that were made for this backend in this cluster, and that no Secret holds, of namespaces whose Secrets are `seen`: a Secret that nobody looks at may
/// hold its key. Everybody else's are none of ours, whatever they are called.
fn strays<'a>(
    accounts: &'a [Account],
    held: &BTreeSet<&str>,
    cluster: &str,
    backend: &str,
    seen: impl Fn(&str) -> bool,
) -> BTreeSet<&'a str> {
    let ours = |account: &&Account| {
        let place = account.description.strip_prefix(&descriptions(cluster));
        let place = place.and_then(|place| place.split_once('/'));
        // The ID as well: anybody may write a description.
        place.is_some_and(|(namespace, of)| {
            of == backend && seen(namespace) && account.access_key.starts_with(&beginning(cluster, namespace, backend))
        })
    };
    let keys = accounts.iter().filter(ours).map(|account| account.access_key.as_str());
    keys.filter(|key| !held.contains(key)).collect()
}

/// What the services need that name this Secret or ServiceAccount, by namespace.
fn needs(name: &str, services: &[Service]) -> BTreeMap<String, Need> {
    let mut needs: BTreeMap<String, Need> = BTreeMap::new();
    for service in services.iter().filter(|service| service.named.contains(name)) {
        let need = needs.entry(service.namespace.clone()).or_insert_with(|| Need {
            settled: true,
            ..Need::default()
        });
        need.uris.extend(service.uris.iter().cloned());
        need.service_account |= service.accounts.contains(name);
        need.settled &= service.settled;
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(key: &str, description: &str) -> Account {
        Account {
            access_key: key.to_owned(),
            user: "tidewaiter".to_owned(),
            name: "tidewaiter".to_owned(),
            description: description.to_owned(),
            enabled: true,
            unrestricted: false,
            expires: None,
        }
    }

    #[test]
    fn a_key_is_a_stray_only_where_it_was_made_here_and_nobody_has_it() {
        let key = |cluster, namespace, backend| format!("{}123456789012", beginning(cluster, namespace, backend));
        let (ours, held) = (key("c", "team-a", "minio"), key("c", "team-b", "minio"));
        let accounts = [
            account(&ours, "tidewaiter c team-a/minio"),
            account(&held, "tidewaiter c team-b/minio"),
            account(&key("c", "team-a", "other"), "tidewaiter c team-a/other"),
            account(&key("d", "team-a", "minio"), "tidewaiter d team-a/minio"),
            account("SOMEBODYS1234567890A", "tidewaiter c team-a/minio"),
            account(&key("c", "team-c", "minio"), "an admin's own"),
        ];
        let held = [held.as_str()].into();
        assert_eq!(strays(&accounts, &held, "c", "minio", |_| true), [ours.as_str()].into());
        // With `deliveryNamespaces` its Secret isn't seen, and may be there.
        let seen = |namespace: &str| namespace == "team-b";
        assert_eq!(strays(&accounts, &held, "c", "minio", seen), BTreeSet::new());
    }

    #[test]
    fn only_what_is_wrong_with_minio_or_the_api_server_ends_a_round() {
        let all = |trouble: Trouble| {
            let failed = Failed::from(trouble);
            (failed.store, failed.all)
        };
        let host = || "minio".to_owned();
        for minios in [
            Error::Unreachable(host()),
            Error::Credentials {
                host: host(),
                answer: String::new(),
            },
        ] {
            assert_eq!(all(minios.into()), (true, true));
        }
        assert_eq!(all(Untold::Unanswered.into()), (true, true));
        assert_eq!(all(Trouble::Silent(String::new())), (false, true));
        for one in [
            Error::Request("it would end in 8000 years".to_owned()).into(),
            Error::Refused {
                host: host(),
                answer: "400".to_owned(),
            }
            .into(),
            Trouble::Refused("by another webhook".to_owned()),
            Trouble::Unmintable(tidewaiter_minio::NoPolicy::NothingWanted.into()),
            Untold::Overtaken.into(),
        ] {
            assert_eq!(all(one), (false, false));
        }
    }

    #[test]
    fn a_round_begins_behind_where_the_last_one_ended() {
        let needs: BTreeMap<String, u8> = ["a", "b", "c"].map(|name| (name.to_owned(), 0)).into();
        let order = |last| {
            let needs = behind(needs.clone(), last);
            needs.into_iter().map(|(name, _)| name).collect::<String>()
        };
        assert_eq!(order(None), "abc");
        assert_eq!(order(Some("a")), "bca");
        assert_eq!(order(Some("c")), "abc");
        assert_eq!(order(Some("bb")), "cab");
    }

    #[test]
    fn a_key_that_ends_at_another_time_or_may_do_all_or_nothing_is_told_anew() {
        let expires = Timestamp::from_second(1_800_000_000).unwrap();
        let record = Record::new(
            &tidewaiter_minio::AccessKey::new("id", "secret"),
            expires,
            BTreeSet::new(),
        );
        let as_it_is = Account {
            expires: Some(expires),
            ..account("id", "")
        };
        assert!(record.is_as_told(&as_it_is));
        for wrong in [
            Account {
                enabled: false,
                ..as_it_is.clone()
            },
            Account {
                unrestricted: true,
                ..as_it_is.clone()
            },
            Account {
                expires: None,
                ..as_it_is.clone()
            },
        ] {
            assert!(!record.is_as_told(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_namespace_needs_what_its_services_that_name_the_backend_use() {
        let service = |namespace: &str, uri: &str, named: &str, settled| Service {
            namespace: namespace.to_owned(),
            name: "fraud".to_owned(),
            kind: "InferenceService",
            version: "v1beta1",
            uid: uri.to_owned(),
            generation: 1,
            created: 0,
            written: 0,
            adopted: true,
            named: [named.to_owned()].into(),
            accounts: BTreeSet::new(),
            uris: [uri.to_owned()].into(),
            settled,
        };
        let needs = needs(
            "tidewaiter-minio",
            &[
                service("a", "s3://b/1", "tidewaiter-minio", true),
                service("a", "s3://b/2", "tidewaiter-minio", false),
                service("a", "s3://b/3", "tidewaiter-other", true),
                service("b", "s3://b/4", "tidewaiter-minio", true),
            ],
        );
        let a = &needs["a"];
        assert_eq!(a.uris, ["s3://b/1".to_owned(), "s3://b/2".to_owned()].into());
        assert!(!a.settled && needs["b"].settled && needs.len() == 2);
    }
}
