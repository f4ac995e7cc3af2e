//! A minted key in a namespace: written into its Secret first, so that two writers meet there, and then told to MinIO. See [`crate::minting`].

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::Patch;
use kube::{Api, ResourceExt};
use serde_json::json;
use tidewaiter_core::backend::managed_name;
use tidewaiter_minio::{AccessKey, Error};
use tidewaiter_world::Labels;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::cluster::{InCluster, change, creates, marked_as, ours, unwritten, writes};
use super::{Minting, ProvideError, Provided, within};
use crate::cluster::clock;
use crate::cluster::refusal::is_meant;
use crate::minting::{self, Known, Mint, Minted, OVERLAP, OVERWRITTEN, Place, Record, Unmintable, Untold, beginning};

/// Of a review's time, what is kept to write down that MinIO didn't answer.
const WRITING: Duration = Duration::from_millis(300);
/// Each replica may widen the key at once, and tells MinIO anew what the others wrote.
const ATTEMPTS: usize = 6;

/// A namespace's key, wanted.
pub(super) struct Wish<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: Option<&'a Labels>,
    pub(super) mint: &'a Mint,
    pub(super) uses: &'a BTreeSet<String>,
    pub(super) until: Instant,
}

/// Why it can't go on.
enum Stop {
    Foreign,
    Unmintable(Unmintable),
    Api(kube::Error),
    Late,
}

impl From<kube::Error> for Stop {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

impl From<Unmintable> for Stop {
    fn from(error: Unmintable) -> Self {
        Self::Unmintable(error)
    }
}

/// Why the leader doesn't come on with a key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Unmintable(#[from] Unmintable),
    #[error(transparent)]
    Minio(#[from] Untold),
    /// For this object: RBAC, a quota, another webhook.
    #[error("the API server refuses it: {0}")]
    Refused(String),
    /// What was to be written may be there.
    #[error("the API server doesn't get it done: {0}")]
    Unsure(String),
    #[error("the API server doesn't answer: {0}")]
    Silent(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Minio(error.into())
    }
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if is_meant(&status, false) => Self::Refused(status.message.clone()),
            kube::Error::Api(status) => Self::Unsure(status.message.clone()),
            error => Self::Silent(error.to_string()),
        }
    }
}

impl Trouble {
    /// Whether it is MinIO that is away or has something against us.
    pub(crate) fn is_minios(&self) -> bool {
        matches!(self, Self::Minio(untold) if untold.concerns_all())
    }

    /// Whether other namespaces' keys fare alike.
    pub(crate) fn concerns_all(&self) -> bool {
        self.is_minios() || matches!(self, Self::Silent(_))
    }
}

impl InCluster {
    /// Has the Secret there. Where MinIO can't be told in time, it says why, and the leader goes on.
    pub(super) async fn key(&self, wish: &Wish<'_>) -> Result<Minting, ProvideError> {
        let name = managed_name(wish.mint.backend());
        self.writable(wish.namespace, "Secret", &name)?;
        let mut there = false;
        let stop = match self.try_key(wish, &name, &mut there).await {
            Ok(minting) => return Ok(minting),
            Err(stop) => stop,
        };
        let namespace = wish.namespace.to_owned();
        let may_have_begun = self.secrets.broke_off(&namespace);
        Err(match stop {
            Stop::Api(error) => unwritten("Secret", namespace, name, Some(error), may_have_begun, there),
            Stop::Late => unwritten("Secret", namespace, name, None, may_have_begun, there),
            Stop::Foreign => ProvideError::Foreign {
                kind: "Secret",
                namespace,
                name,
            },
            Stop::Unmintable(error) => ProvideError::Unmintable {
                backend: wish.mint.backend().to_owned(),
                namespace,
                message: error.to_string(),
                there,
            },
        })
    }

    async fn try_key(&self, wish: &Wish<'_>, name: &str, there: &mut bool) -> Result<Minting, Stop> {
        let &Wish { namespace, mint, .. } = wish;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let place = Place {
            cluster: &in_time(wish, self.cluster()).await?,
            namespace,
            labels: wish.labels,
        };
        let mut provided = Provided::Unchanged;
        let mut known = self.secrets.current(namespace, name).map(|known| (*known).clone());
        // Somebody else changed the Secret between our writing of it and our telling: then MinIO may have been told the older last.
        let mut overtaken = false;
        for _ in 0..ATTEMPTS {
            let found = match known.take() {
                Some(known) => Some(known),
                None => in_time(wish, api.get_opt(name)).await?,
            };
            *there = found.as_ref().is_some_and(|found| ours(&found.metadata));
            if found.is_some() && !*there {
                return Err(Stop::Foreign);
            }
            let minted = mint.next(place, found.as_ref(), wish.uses, clock::now())?;
            let policy = mint.policy(place, &minted.record)?;
            let stored = match &found {
                Some(found) if has(found, mint, &minted) => found.clone(),
                _ => match in_time(wish, write_key(&api, &minted, found.as_ref(), wish)).await? {
                    Some(written) => {
                        provided = Provided::Written;
                        written
                    }
                    None => continue,
                },
            };
            let nothing = policy.is_none() && minted.record.known == Known::No;
            if (minted.record.known == Known::Yes || nothing) && !overtaken {
                return Ok(Minting { provided, untold: None });
            }
            let told_until = wish.until - WRITING;
            if let Err(untold) = mint.tell(place, &minted, policy.as_ref(), told_until).await {
                // What it does later would undo what it is told next.
                if untold.may_be_done() && minted.record.known != Known::No {
                    let noted = self.doubt(mint, place, true, wish.until).await;
                    noted.unwrap_or_else(|error| warn!(namespace, backend = mint.backend(), "not noted: {error}"));
                }
                return Ok(Minting {
                    provided,
                    untold: Some(untold),
                });
            }
            provided = Provided::Written;
            let mut told = minted;
            if policy.is_some() {
                told.record.told(clock::now());
            } else {
                told.record.known = Known::No;
            }
            let change =
                change(&stored, &within(namespace, &*mint.wanted(&told).secret)).map_err(kube::Error::SerdeError)?;
            match in_time(wish, api.patch(name, &writes(), &Patch::Merge(&change))).await {
                Ok(_) => return Ok(Minting { provided, untold: None }),
                Err(Stop::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => overtaken = true,
                Err(stop) => return Err(stop),
            }
        }
        Ok(Minting {
            provided,
            untold: Some(Untold::Overtaken),
        })
    }

    /// Puts the next key, for these URIs, in the place of the one there, which works on for a while. False where nothing is granted, or the Secret changed
    /// meanwhile.
    pub(crate) async fn rotate(
        &self,
        mint: &Mint,
        place: Place<'_>,
        uses: &BTreeSet<String>,
        until: Instant,
    ) -> Result<bool, Trouble> {
        let Some((secret, last, before)) = self.stored(mint, place, until).await? else {
            return Ok(false);
        };
        let now = clock::now();
        let mut minted = mint.fresh(place, uses, now)?;
        let policy = mint.policy(place, &minted.record)?;
        let Some(policy) = policy else {
            return Ok(false);
        };
        // MinIO first: a Pod that starts in between finds a key that works, this one or the last.
        mint.tell(place, &minted, Some(&policy), until).await?;
        minted.record.known = Known::Yes;
        minted.record.retired = before.retired;
        let end = before.expires.min(now + OVERLAP);
        minted.record.retired.insert(last.id().to_owned(), end);
        if before.grants != minted.record.grants {
            minted.record.end_retired(now);
        }
        let wanted = within(place.namespace, &*mint.wanted(&minted).secret);
        let replaced = self.replace(&secret, &wanted, until).await;
        if matches!(replaced, Ok(false) | Err(Trouble::Refused(_))) {
            // Nobody will ever hold it.
            asked(until, mint.admin()?.delete(minted.key.id())).await?;
        }
        replaced
    }

    /// Revokes the keys of before whose time is over, and says how many.
    pub(crate) async fn revoke_retired(
        &self,
        mint: &Mint,
        place: Place<'_>,
        now: Timestamp,
        until: Instant,
    ) -> Result<usize, Trouble> {
        let over = |secret: &Secret| {
            let record = mint.held(place, secret);
            record.is_some_and(|(_, record)| record.retired.values().any(|end| *end <= now))
        };
        let known = self.secrets.current(place.namespace, &managed_name(mint.backend()));
        if !known.is_some_and(|known| over(&known)) {
            return Ok(0);
        }
        let Some((secret, key, mut record)) = self.stored(mint, place, until).await? else {
            return Ok(0);
        };
        let ended: Vec<String> = record
            .retired
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &ended {
            asked(until, mint.admin()?.delete(id)).await?;
            record.retired.remove(id);
        }
        let minted = Minted { key, record };
        let wanted = within(place.namespace, &*mint.wanted(&minted).secret);
        self.replace(&secret, &wanted, until).await?;
        Ok(ended.len())
    }

    /// Revokes the keys of a Secret that is gone. What fails is found again when the keys are compared.
    pub(crate) async fn revoke(&self, mint: &Mint, namespace: &str, gone: &Secret) -> Result<(), Trouble> {
        let ids = minting::ids(gone);
        if ids.is_empty() {
            return Ok(());
        }
        self.revoke_all(mint, namespace, ids.iter().map(String::as_str)).await
    }

    /// Revokes the keys over which another was written in this Secret, and takes them off it. What fails still stands there.
    pub(crate) async fn revoke_overwritten(
        &self,
        mint: &Mint,
        namespace: &str,
        secret: &Secret,
    ) -> Result<(), Trouble> {
        self.revoke_all(mint, namespace, minting::overwritten(secret)).await?;
        let change = json!({"metadata": {
            "resourceVersion": secret.resource_version(),
            "annotations": {OVERWRITTEN: null},
        }});
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match api.patch(&secret.name_any(), &writes(), &Patch::Merge(&change)).await {
            // As it is now, it is looked at in the next round.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }

    /// Whoever may write a Secret has no other namespace's keys revoked by it.
    async fn revoke_all<'i>(
        &self,
        mint: &Mint,
        namespace: &str,
        ids: impl Iterator<Item = &'i str>,
    ) -> Result<(), Trouble> {
        let beginning = beginning(&self.cluster().await?, namespace, mint.backend());
        let mut done = Ok(());
        for id in ids.filter(|id| id.starts_with(&beginning)) {
            if let Err(error) = mint.admin()?.delete(id).await {
                done = Err(error.into());
            }
        }
        done
    }

    /// Has MinIO told anew of a namespace's key, since it has forgotten, or `unanswered`: since it may yet do what it was told before.
    pub(crate) async fn doubt(
        &self,
        mint: &Mint,
        place: Place<'_>,
        unanswered: bool,
        until: Instant,
    ) -> Result<(), Trouble> {
        for _ in 0..ATTEMPTS {
            let Some((secret, key, mut record)) = self.stored(mint, place, until).await? else {
                return Ok(());
            };
            if record.known == Known::Yes {
                record.known = Known::Partly;
            }
            if unanswered {
                record.unanswered = Some(clock::now());
            }
            let wanted = within(place.namespace, &*mint.wanted(&Minted { key, record }).secret);
            if self.replace(&secret, &wanted, until).await? {
                break;
            }
        }
        Ok(())
    }

    /// The Secret as the API server has it, with the key in it.
    async fn stored(
        &self,
        mint: &Mint,
        place: Place<'_>,
        until: Instant,
    ) -> Result<Option<(Secret, AccessKey, Record)>, Trouble> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), place.namespace);
        let name = managed_name(mint.backend());
        let found = said(until, api.get_opt(&name)).await?;
        Ok(found.filter(|found| ours(&found.metadata)).and_then(|found| {
            let (key, record) = mint.held(place, &found)?;
            Some((found, key, record))
        }))
    }

    /// False where it isn't any more as it was `found`.
    async fn replace(&self, found: &Secret, wanted: &Secret, until: Instant) -> Result<bool, Trouble> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &found.namespace().unwrap_or_default());
        let change = change(found, wanted).map_err(kube::Error::SerdeError)?;
        let (name, params, change) = (found.name_any(), writes(), Patch::Merge(&change));
        match timeout_at(until, api.patch(&name, &params, &change)).await {
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(false),
            Ok(done) => Ok(done.map(|_| true)?),
            Err(_) => Err(Trouble::Silent("in time".to_owned())),
        }
    }

    /// What tells this cluster from others that share a MinIO.
    pub(crate) async fn cluster(&self) -> Result<String, kube::Error> {
        let known = self.cluster_id.get_or_try_init(|| async {
            let api: Api<Namespace> = Api::all(self.client.clone());
            let system = api.get("kube-system").await?;
            Ok::<_, kube::Error>(system.uid().unwrap_or_default())
        });
        known.await.cloned()
    }
}

/// Writes the Secret as it was `found`; none where it changed meanwhile.
async fn write_key(
    api: &Api<Secret>,
    minted: &Minted,
    found: Option<&Secret>,
    wish: &Wish<'_>,
) -> Result<Option<Secret>, kube::Error> {
    let wanted = within(wish.namespace, &*wish.mint.wanted(minted).secret);
    let written = if let Some(found) = found {
        let change = change(found, &wanted).map_err(kube::Error::SerdeError)?;
        api.patch(&managed_name(wish.mint.backend()), &writes(), &Patch::Merge(&change))
            .await
    } else {
        let params = creates();
        api.create(&params, &wanted).await
    };
    match written {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn said<T>(until: Instant, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
    match timeout_at(until, call).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Trouble::Silent("in time".to_owned())),
    }
}

async fn asked<T>(until: Instant, call: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    match timeout_at(until, call).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Untold::Unanswered.into()),
    }
}

/// Whether a Secret is as it should be.
fn has(found: &Secret, mint: &Mint, minted: &Minted) -> bool {
    let wanted = mint.wanted(minted).secret;
    found.data == wanted.data && found.type_ == wanted.type_ && marked_as(&found.metadata, &wanted.metadata)
}

async fn in_time<T, E: Into<Stop>>(wish: &Wish<'_>, call: impl Future<Output = Result<T, E>>) -> Result<T, Stop> {
    match timeout_at(wish.until, call).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Stop::Late),
    }
}

#[cfg(test)]
#[path = "minted_tests.rs"]
mod tests;
