//! The credentials in all namespaces, kept equal to their sources: rotated keys reach each copy, what was edited or deleted by hand is put right, and what no
//! service uses any more is collected in two steps. A ServiceAccount that lists a copy uses it, and while a service is on its way from one spec to the next,
//! nothing in its namespace is without use.
//!
//! A copy's contents change, never its name and never its S3 annotations, so nothing restarts: a Pod that starts later reads the new keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tidewaiter_core::backend::{BACKEND_LABEL, MANAGED_NAME, managed_name};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::next_round;
use super::services::{Service, Services};
use crate::admission::Reviewer;
use crate::cluster::clock;
use crate::configuration::{Snapshot, ToDeliver};
use crate::metrics::Metrics;
use crate::minting::{self, Mint};
use crate::namespaces::cluster::{InCluster, writes};
use crate::namespaces::{Namespaces, PATIENCE, ProvideError, Provided, UNUSED_SINCE};

/// Namespaces that are written to at once.
const AT_ONCE: usize = 16;
/// A review writes a copy before the API server has stored the service that uses it: none is called unused sooner than this.
const UNUSED_FOR: Duration = Duration::from_mins(5);
/// Whether a ServiceAccount still lists a copy that no service names is looked at this often.
const LOOK: Duration = Duration::from_mins(5);
/// So long a namespace's ServiceAccounts may take to be listed.
const LISTING: Duration = Duration::from_secs(5);
/// Failures that a round tells one by one.
const TOLD: usize = 3;

/// What this leader has seen so far.
#[derive(Default)]
struct Seen {
    /// Since when a copy is without use.
    unused: HashMap<Place, Instant>,
    /// Since when a copy is not as it should be.
    stale: HashMap<Place, Instant>,
    /// When a copy that no service names was last seen in a user's ServiceAccount.
    listed: HashMap<Place, Instant>,
}

/// Keeps the copies.
pub(super) struct Keeper {
    pub(super) client: Client,
    pub(super) namespaces: Arc<InCluster>,
    pub(super) reviewer: Arc<Reviewer>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) services: Services,
    /// Between the mark that a copy is unused and its end.
    pub(super) grace: Duration,
    /// Of copies and services.
    pub(super) changed: watch::Receiver<()>,
}

/// A namespace and a backend.
type Place = (String, String);

/// What a namespace needs of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    service_account: bool,
}

/// What there is to do for one copy.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Have it there as it should be.
    Have(Need),
    /// Say on it that it is unused.
    Mark,
    /// It was unused for long enough.
    Collect,
}

impl Keeper {
    /// Works for as long as it is called.
    pub(super) async fn keep(mut self) {
        self.namespaces.settled().await;
        self.services.settled().await;
        let mut configured = self.reviewer.configured_anew();
        let mut seen = Seen::default();
        loop {
            self.changed.mark_unchanged();
            configured.mark_unchanged();
            if self.reviewer.snapshot().is_some() {
                self.round(&mut seen).await;
            }
            next_round(&mut self.changed, &mut configured).await;
        }
    }

    async fn round(&self, Seen { unused, stale, listed }: &mut Seen) {
        // With a part of the services alone, a copy in use may look like an unused one.
        let (services, complete) = self.services.all();
        let mut needs = needs(&services);
        let copies = copies(&self.namespaces.secrets.all());
        look_again(&self.client, &copies, listed).await;
        for place in listed.keys() {
            needs.entry(place.clone()).or_default();
        }
        let changing = changing(&services);
        let mut steps = steps(&needs, &copies, &changing, unused, complete, self.grace, clock::now());
        let failed = keep_listed(&self.client, &mut steps, listed).await;
        let steps = futures::stream::iter(steps)
            .map(|(place, step)| async {
                // By the configuration of the moment: with many namespaces a round is long, and what a backend delivered at its beginning may be no more.
                let done = match self.reviewer.snapshot() {
                    Some(snapshot) => self.take(&place, step, &copies, &snapshot).await,
                    None => Ok(()),
                };
                (place, done)
            })
            .buffer_unordered(AT_ONCE);
        let mut done: Vec<(Place, Result<(), String>)> = steps.collect().await;
        done.extend(failed.into_iter().map(|(place, error)| (place, Err(error))));

        let failed: BTreeMap<&Place, &String> = done
            .iter()
            .filter_map(|(place, done)| Some((place, done.as_ref().err()?)))
            .collect();
        stale.retain(|place, _| failed.contains_key(place));
        let mut told = 0;
        for (place, error) in &failed {
            if !stale.contains_key(*place) {
                stale.insert((*place).clone(), Instant::now());
                told += 1;
                if told <= TOLD {
                    let (namespace, backend) = place;
                    warn!(
                        namespace,
                        backend, "credentials not as they should be: {error}; trying again"
                    );
                }
            }
        }
        if told > TOLD {
            warn!(
                namespaces = told - TOLD,
                "credentials in further namespaces are not as they should be; trying again"
            );
        }
        self.metrics.credentials_stale(
            "copied",
            stale
                .iter()
                .map(|((_, backend), since)| (backend.as_str(), since.elapsed())),
        );
    }

    async fn take(
        &self,
        (namespace, backend): &Place,
        step: Step,
        copies: &BTreeMap<Place, Arc<Secret>>,
        snapshot: &Snapshot,
    ) -> Result<(), String> {
        let copy = copies.get(&(namespace.clone(), backend.clone()));
        match (step, copy) {
            (Step::Have(need), _) => {
                let provided = have(&*self.namespaces, namespace, backend, need, copy.is_some(), snapshot).await;
                if provided == Ok(Some(Provided::Written)) {
                    self.metrics.credentials("renewed");
                    info!(namespace, backend, "credentials renewed");
                }
                if let Some(copy) = copy {
                    self.end_minted(namespace, backend, copy, snapshot).await?;
                }
                provided.map(drop)
            }
            (Step::Mark, Some(copy)) => {
                let mark = json!({"metadata": {
                    "resourceVersion": copy.resource_version(),
                    "annotations": {UNUSED_SINCE: clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
                }});
                let params = writes();
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                let marked = api.patch(&copy.name_any(), &params, &Patch::Merge(&mark)).await;
                marked.map_err(|error| error.to_string())?;
                info!(namespace, backend, "credentials are marked as unused");
                Ok(())
            }
            (Step::Collect, Some(copy)) => self.collect(namespace, backend, copy, snapshot).await,
            (Step::Mark | Step::Collect, None) => Ok(()),
        }
    }

    /// Revokes the keys that were minted before `minting` was taken from the backend, whose own key has their place in the Secret now: a review may have
    /// written it there, or this round.
    async fn end_minted(
        &self,
        namespace: &str,
        backend: &str,
        copy: &Secret,
        snapshot: &Snapshot,
    ) -> Result<(), String> {
        let configured = snapshot.configuration.backends().get(backend);
        let Some(configured) = configured.filter(|_| minting::overwritten(copy).next().is_some()) else {
            return Ok(());
        };
        let former = Mint::former(&snapshot.configuration, configured);
        let revoked = self.namespaces.revoke_overwritten(&former, namespace, copy).await;
        revoked.map_err(|error| format!("the access keys that were minted before aren't revoked: {error}"))?;
        self.metrics.credentials("revoked");
        info!(
            namespace,
            backend, "the access keys that were minted before are revoked"
        );
        Ok(())
    }

    /// The Secret last: it carries the mark, and without it nobody looks for the others.
    async fn collect(&self, namespace: &str, backend: &str, copy: &Secret, snapshot: &Snapshot) -> Result<(), String> {
        let name = managed_name(backend);
        if let Some(account) = self.namespaces.service_accounts.current(namespace, &name) {
            delete::<ServiceAccount>(&self.client, namespace, &*account).await?;
        }
        if let Some(map) = self.namespaces.config_maps.current(namespace, &name) {
            delete::<ConfigMap>(&self.client, namespace, &*map).await?;
        }
        delete::<Secret>(&self.client, namespace, copy).await?;
        if let Some(configured) = snapshot.configuration.backends().get(backend) {
            let mint = Mint::former(&snapshot.configuration, configured);
            if let Err(error) = self.namespaces.revoke(&mint, namespace, copy).await {
                warn!(namespace, backend, "its access keys aren't revoked yet: {error}");
            }
        }
        self.metrics.credentials("collected");
        info!(namespace, backend, "unused credentials are collected");
        Ok(())
    }
}

/// None where it is left as it is.
async fn have(
    namespaces: &dyn Namespaces,
    namespace: &str,
    backend: &str,
    need: Need,
    there: bool,
    snapshot: &Snapshot,
) -> Result<Option<Provided>, String> {
    // Where a right is asked for, a review asks for it: to name what isn't there must not be a way around.
    let configured = snapshot.configuration.backends().get(backend);
    if !there && configured.is_some_and(|backend| backend.spec().authorization.is_some()) {
        return Ok(None);
    }
    // A namespace that lost its grant gets no new keys: it may be why they were rotated. What a backend that is gone had delivered stays.
    if !snapshot.grants(backend, namespace) {
        return Ok(None);
    }
    // Minted keys are kept by `super::minting`.
    let Ok(ToDeliver::Copy(wanted)) = snapshot.wanted(backend, need.service_account) else {
        return Ok(None);
    };
    match namespaces.provide(namespace, wanted, Instant::now() + PATIENCE).await {
        Ok(provided) => Ok(Some(provided)),
        // The admin doesn't want it kept.
        Err(ProvideError::Elsewhere { .. }) => Ok(None),
        // Its services go with it.
        Err(ProvideError::Refused { message, .. }) if message.contains("is being terminated") => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Only as it was seen: whoever began to use it has written it meanwhile.
async fn delete<K>(client: &Client, namespace: &str, object: &K) -> Result<(), String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: object.resource_version(),
        }),
        ..DeleteParams::default()
    };
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match api.delete(&object.name_any(), &params).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Ok(()),
    }
}

/// What the services use, also of backends that are gone.
fn needs(services: &[Service]) -> BTreeMap<Place, Need> {
    let mut needs: BTreeMap<Place, Need> = BTreeMap::new();
    for service in services {
        let place = |name: &String| {
            let backend = name.strip_prefix(MANAGED_NAME)?;
            Some((service.namespace.clone(), backend.to_owned()))
        };
        for place in service.named.iter().filter_map(place) {
            needs.entry(place).or_default();
        }
        for place in service.accounts.iter().filter_map(place) {
            needs.entry(place).or_default().service_account = true;
        }
    }
    needs
}

/// The namespaces where something is still on its way from one spec to the next, such as a canary: what runs there may read what no spec names any more.
fn changing(services: &[Service]) -> BTreeSet<String> {
    let unsettled = services.iter().filter(|service| !service.settled);
    unsettled.map(|service| service.namespace.clone()).collect()
}

/// Looks whether what ServiceAccounts listed a while ago is still there and listed. What can't be seen is taken to be.
async fn look_again(client: &Client, copies: &BTreeMap<Place, Arc<Secret>>, listed: &mut HashMap<Place, Instant>) {
    listed.retain(|place, _| copies.contains_key(place));
    let due: Vec<Place> = listed
        .iter()
        .filter(|(_, seen)| seen.elapsed() >= LOOK)
        .map(|(place, _)| place.clone())
        .collect();
    for place in due {
        if matches!(is_listed(client, &place).await, Ok(false)) {
            listed.remove(&place);
        } else {
            listed.insert(place, Instant::now());
        }
    }
}

/// Takes out of the steps the end of what a ServiceAccount lists, or may list, and returns where that can't be seen. A service that runs with a ServiceAccount
/// of its user's is told by our own policy to list the Secret there, and names nothing of ours itself.
async fn keep_listed(
    client: &Client,
    steps: &mut Vec<(Place, Step)>,
    listed: &mut HashMap<Place, Instant>,
) -> Vec<(Place, String)> {
    let ends = |step: &Step| matches!(step, Step::Mark | Step::Collect);
    let places: Vec<Place> = steps
        .iter()
        .filter(|(_, step)| ends(step))
        .map(|(place, _)| place.clone())
        .collect();
    let looks = futures::stream::iter(places).map(|place| async {
        let found = is_listed(client, &place).await;
        (place, found)
    });
    let looked: Vec<_> = looks.buffer_unordered(AT_ONCE).collect().await;
    let mut failed = Vec::new();
    for (place, found) in looked {
        if found == Ok(false) {
            continue;
        }
        if let Some((_, step)) = steps.iter_mut().find(|(other, step)| *other == place && ends(step)) {
            // A mark that it has is taken off by that.
            *step = Step::Have(Need::default());
        }
        match found {
            Ok(_) => drop(listed.insert(place, Instant::now())),
            Err(error) => {
                steps.retain(|(other, _)| *other != place);
                failed.push((place, error));
            }
        }
    }
    failed
}

/// Whether a ServiceAccount that isn't ours has the Secret among its own.
async fn is_listed(client: &Client, (namespace, backend): &Place) -> Result<bool, String> {
    let name = managed_name(backend);
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let accounts = timeout(LISTING, api.list(&ListParams::default())).await;
    let accounts = accounts.map_err(|_| "the API server doesn't list ServiceAccounts in time".to_owned())?;
    let accounts = accounts.map_err(|error| error.to_string())?;
    let lists = |account: &ServiceAccount| {
        let mut secrets = account.secrets.iter().flatten();
        account.name_any() != name && secrets.any(|secret| secret.name.as_ref() == Some(&name))
    };
    Ok(accounts.iter().any(lists))
}

/// The copies that there are, but for those that are going.
fn copies(secrets: &[Arc<Secret>]) -> BTreeMap<Place, Arc<Secret>> {
    let mut copies = BTreeMap::new();
    for secret in secrets {
        let Some(backend) = secret.labels().get(BACKEND_LABEL) else {
            continue;
        };
        if secret.name_any() == managed_name(backend) && secret.metadata.deletion_timestamp.is_none() {
            copies.insert(
                (secret.namespace().unwrap_or_default(), backend.clone()),
                Arc::clone(secret),
            );
        }
    }
    copies
}

/// What there is to do. `unused`: since when this replica has seen a copy without use. `changing`: where what no spec names may be read all the same.
fn steps(
    needs: &BTreeMap<Place, Need>,
    copies: &BTreeMap<Place, Arc<Secret>>,
    changing: &BTreeSet<String>,
    unused: &mut HashMap<Place, Instant>,
    complete: bool,
    grace: Duration,
    now: Timestamp,
) -> Vec<(Place, Step)> {
    let mut steps: Vec<(Place, Step)> = needs
        .iter()
        .map(|(place, need)| (place.clone(), Step::Have(*need)))
        .collect();
    let idle: BTreeSet<&Place> = copies.keys().filter(|place| !needs.contains_key(*place)).collect();
    let still = |(namespace, _): &Place| !changing.contains(namespace);
    unused.retain(|place, _| idle.contains(place) && still(place));
    if !complete {
        return steps;
    }
    for place in idle {
        let mark = copies[place].annotations().get(UNUSED_SINCE);
        let since = mark.and_then(|mark| mark.parse::<Timestamp>().ok());
        if !still(place) {
            // Kept current, but for what was without use before: that waits.
            steps.extend(mark.is_none().then(|| (place.clone(), Step::Have(Need::default()))));
            continue;
        }
        let step = if let Some(since) = since {
            (now > since && now.duration_since(since).unsigned_abs() >= grace).then_some(Step::Collect)
        } else {
            // A mark that can't be read is written again.
            let seen = unused.entry(place.clone()).or_insert_with(Instant::now);
            (seen.elapsed() >= UNUSED_FOR.min(grace)).then_some(Step::Mark)
        };
        steps.extend(step.map(|step| (place.clone(), step)));
    }
    steps
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
