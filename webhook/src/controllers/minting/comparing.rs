//! What MinIO has, beside what the Secrets say: what somebody changed there is put right, and what no Secret holds is revoked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::ResourceExt;
use tidewaiter_core::backend::managed_name;
use tidewaiter_minio::{Account, Admin, Error};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{COMPARE, Keeper, Memory, PATIENCE};
use crate::configuration::Snapshot;
use crate::minting::{Known, Mint, Place, Record, beginning, descriptions};
use crate::namespaces::Trouble;

/// Policies that are read in one comparison: each takes a fifth of a second of work, so a thousand keys take a few hours.
const LOOKED_AT: usize = 32;

impl Keeper {
    /// Puts right what was changed in MinIO, and revokes what no Secret holds.
    pub(super) async fn compare(
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
                    if let Err(trouble) = self.rotate(mint, place, &record.uris, until).await {
                        // In the next round: its admin waits for that.
                        memory.compared.remove(mint.backend());
                        passing(trouble)?;
                    }
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

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
}
