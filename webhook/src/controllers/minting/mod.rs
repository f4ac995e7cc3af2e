//! Minted keys, kept: what a review could not tell MinIO is told again, a key is replaced before it ends and its predecessor revoked a day later, what somebody
//! changed in MinIO is put right, and what no namespace has any more is revoked.

mod comparing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use tidewaiter_core::backend::managed_name;
use tidewaiter_minio::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::health::Health;
use super::next_round;
use super::services::{Service, Services};
use crate::admission::Reviewer;
use crate::cluster::clock;
use crate::cluster::watched::Changes;
use crate::configuration::Snapshot;
use crate::metrics::Metrics;
use crate::minting::{Mint, Place, Untold};
use crate::namespaces::cluster::InCluster;
use crate::namespaces::{Namespaces, ProvideError, Provided, Trouble};

/// For one namespace: a call of MinIO's has 20 s.
const PATIENCE: Duration = Duration::from_secs(25);
/// Between two comparisons with what MinIO has.
const COMPARE: Duration = Duration::from_mins(10);
/// After one that failed.
const COMPARE_AGAIN: Duration = Duration::from_mins(1);

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
    /// When each backend's keys were last compared with MinIO's, and as which user.
    compared: HashMap<String, (Instant, String)>,
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
            next_round(&mut self.changed, &mut configured).await;
        }
    }

    async fn round(&self, snapshot: &Arc<Snapshot>, memory: &mut Memory) {
        let (mut behind, mut stores) = (HashMap::new(), BTreeMap::new());
        let mut mints = snapshot.mints().peekable();
        let cluster = match mints.peek() {
            Some(_) => match self.namespaces.cluster().await {
                Ok(cluster) => cluster,
                Err(error) => {
                    warn!(
                        "minted keys wait, since the namespace kube-system, by which they are known, can't be read: {error}"
                    );
                    return;
                }
            },
            None => String::new(),
        };
        let (mut services, complete) = self.services.all();
        if !complete {
            // What isn't shown may need what nothing else needs any more.
            for service in &mut services {
                service.settled = false;
            }
        }
        for mint in mints {
            let mut taken = Ok(());
            let last = memory.ended.remove(mint.backend());
            let round = self.backend(snapshot, mint, &cluster, &services, last.as_deref()).await;
            if !round.left_out.is_empty() {
                // What wasn't tried is as it was.
                taken = self.health.0.minting(mint.backend()).unwrap_or(taken);
            }
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
            if !self.reviewer.goes_by(snapshot) {
                continue;
            }
            let user = mint.user().unwrap_or_default();
            let last = memory.compared.get(mint.backend());
            // The keys of the last user are to go at once: its admin waits for that to delete it.
            if last.is_none_or(|(last, by)| *by != user || last.elapsed() >= COMPARE) {
                let now = (Instant::now(), user.to_owned());
                let last = memory.compared.insert(mint.backend().to_owned(), now);
                if let Err(error) = self.compare(snapshot, mint, &cluster, memory).await {
                    // For another user in the next round, else in a minute.
                    let in_a_minute = || {
                        let then = Instant::now().checked_sub(COMPARE.saturating_sub(COMPARE_AGAIN))?;
                        Some((then, user.to_owned()))
                    };
                    if let Some(again) = last.filter(|(_, by)| by != user).or_else(in_a_minute) {
                        memory.compared.insert(mint.backend().to_owned(), again);
                    }
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
        snapshot: &Arc<Snapshot>,
        mint: &Mint,
        cluster: &str,
        services: &[Service],
        last: Option<&str>,
    ) -> Round {
        let mut round = Round::default();
        let mut last = last.map(str::to_owned);
        let name = managed_name(mint.backend());
        let configured = snapshot.configuration.backends().get(mint.backend());
        let asks = configured.is_some_and(|backend| backend.spec().authorization.is_some());
        let mut needs = behind(needs(&name, services), last.as_deref()).into_iter();
        while let Some((namespace, need)) = needs.next() {
            // A backend that mints no more would have a key put in the place of its own again. The next round begins here.
            if !self.reviewer.goes_by(snapshot) {
                round.ended = last;
                round.left_out = needs.map(|(namespace, _)| namespace).chain([namespace]).collect();
                break;
            }
            last = Some(namespace.clone());
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
        let now = clock::now();
        let record = copy.and_then(|copy| Some(mint.held(place, copy)?.1));
        let uris = match &record {
            Some(record) if !need.settled => {
                let all = record.uris.union(&need.uris).map(String::as_str);
                mint.used(all, namespace, place.labels)
            }
            _ => need.uris.clone(),
        };
        let is_due = record.is_some_and(|record| mint.is_due(&record, now) && record.expires > now);
        if is_due && self.rotate(mint, place, &uris, until).await? {
            return Ok(());
        }
        // Where one was due: nothing is granted any more, and then the key that is there is to read nothing. Or somebody else changed the Secret.
        let minting = self
            .namespaces
            .mint(namespace, place.labels, mint, &uris, need.service_account, until)
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
        let now = clock::now();
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
        let rotated = self.namespaces.rotate(mint, place, uris, until).await?;
        if rotated {
            let (namespace, backend) = (place.namespace, mint.backend());
            self.metrics.credentials("rotated");
            info!(namespace, backend, "the next access key is in its place");
        }
        Ok(rotated)
    }
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

/// In the order of their names, but those behind the `last` first.
fn behind<T>(mut needs: BTreeMap<String, T>, last: Option<&str>) -> Vec<(String, T)> {
    let Some(last) = last else {
        return needs.into_iter().collect();
    };
    let mut later = needs.split_off(last);
    let own = later.remove_entry(last);
    later.into_iter().chain(needs).chain(own).collect()
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
            Trouble::Unsure("etcdserver: request timed out".to_owned()),
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
