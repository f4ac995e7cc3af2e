//! Services that came past the webhook, as while no replica answered and the failure policy is `Ignore`: the leader finds them and sees to their papers.
//!
//! Each service is judged once after its spec was written. Up to which write that was done is kept on the Lease, so that the next leader goes on there; a
//! service that ran before Tidewaiter was installed is not touched. What would have been filled in is written as a patch, which passes the webhook like
//! everybody's; what would have been refused runs already, and is told in an event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidewaiter_core::document::Document;
use tidewaiter_core::selector::LabelSelector;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::leader::LEASE;
use super::services::{Service, Services};
use crate::admission::Reviewer;
use crate::admission::again::{Reviewed, Stored};
use crate::cluster::events;
use crate::metrics::Metrics;
use crate::namespaces::cluster::FIELD_MANAGER;

/// On the Lease: every write of a service's spec before this time has been judged.
const SWEPT_UNTIL: &str = "tidewaiter.dev/swept-until";
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// How far has been swept is written down this often.
const WRITTEN_DOWN: Duration = Duration::from_secs(30);
/// What can't be mended is given up after this time.
const PATIENCE: Duration = Duration::from_mins(30);
/// Services that are judged at once.
const AT_ONCE: usize = 8;

/// See the module.
pub(super) struct Sweep {
    pub(super) client: Client,
    /// Of the Lease.
    pub(super) namespace: String,
    /// Which services the webhook is asked about.
    pub(super) configuration: String,
    pub(super) reviewer: Arc<Reviewer>,
    pub(super) services: Services,
    pub(super) metrics: Arc<Metrics>,
}

/// One write of one service's spec.
type Write = (String, i64);

impl Sweep {
    /// Works for as long as it is called.
    pub(super) async fn keep(self) {
        self.services.settled().await;
        let mut horizon = loop {
            match self.horizon().await {
                Ok(horizon) => break horizon,
                Err(error) => {
                    warn!(%error, "can't read the Lease: services that came past the webhook aren't looked for yet");
                    sleep(PAUSE).await;
                }
            }
        };
        let mut written_down = (Instant::now(), horizon);
        let mut judged: HashMap<Write, Option<Instant>> = HashMap::new();
        loop {
            if self.reviewer.configured() {
                horizon = self.round(horizon, &mut judged).await;
            }
            let (when, what) = written_down;
            if horizon != what && when.elapsed() >= WRITTEN_DOWN {
                match self.write_down(horizon).await {
                    Ok(()) => written_down = (Instant::now(), horizon),
                    Err(error) => warn!(%error, "can't write on the Lease how far has been swept; trying again"),
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// The first time that was not judged yet: at first that at which Tidewaiter was installed.
    async fn horizon(&self) -> Result<i64, kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let lease = leases.get(LEASE).await?;
        let swept = lease.annotations().get(SWEPT_UNTIL);
        let swept = swept.and_then(|swept| swept.parse::<Timestamp>().ok());
        let made = lease.creation_timestamp().map(|made| made.0);
        Ok(swept.or(made).unwrap_or_else(Timestamp::now).as_second())
    }

    async fn write_down(&self, horizon: i64) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let until = Timestamp::from_second(horizon).unwrap_or_else(|_| Timestamp::now());
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let change = json!({"metadata": {"annotations": {SWEPT_UNTIL: until}}});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        leases.patch(LEASE, &params, &Patch::Merge(&change)).await.map(drop)
    }

    /// Judges what was written since, and returns up to when all is judged. `judged` has the writes at and after the horizon: none where done with, else since
    /// when it is tried.
    async fn round(&self, horizon: i64, judged: &mut HashMap<Write, Option<Instant>>) -> i64 {
        let services = self.services.all();
        let since = services.into_iter().filter(|service| service.written >= horizon);
        let open: Vec<Service> = since
            .filter(|service| judged.get(&write(service)).is_none_or(Option::is_some))
            .collect();
        if !open.is_empty() {
            let asked = match self.asked().await {
                Ok(asked) => asked,
                Err(error) => {
                    warn!(
                        configuration = self.configuration,
                        %error,
                        "can't read which services the webhook is asked about: those that came past it aren't looked for"
                    );
                    return horizon;
                }
            };
            let looks = futures::stream::iter(open).map(|service| async {
                let done = self.look(&service, &asked).await;
                (service, done)
            });
            let looked: Vec<_> = looks.buffer_unordered(AT_ONCE).collect().await;
            for (service, done) in looked {
                let Service { namespace, name, .. } = &service;
                let state = judged.entry(write(&service)).or_insert(Some(Instant::now()));
                match (done, *state) {
                    (Ok(()), _) => *state = None,
                    (Err(error), Some(since)) if since.elapsed() >= PATIENCE => {
                        warn!(
                            namespace,
                            name, "came past the webhook and can't be mended, given up: {error}"
                        );
                        self.metrics.swept("failed");
                        *state = None;
                    }
                    (Err(error), _) => info!(namespace, name, "came past the webhook: {error}; trying again"),
                }
            }
        }
        let waiting = judged.iter().filter(|(_, state)| state.is_some());
        let waiting = waiting.map(|((_, written), _)| *written).min();
        let last = judged.keys().map(|(_, written)| *written).max();
        let horizon = waiting.or(last).unwrap_or(horizon).max(horizon);
        judged.retain(|(_, written), _| *written >= horizon);
        horizon
    }

    /// One service as it is now. An error is worth another try.
    async fn look(&self, service: &Service, asked: &Asked) -> Result<(), String> {
        let Service { namespace, name, .. } = service;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &service.resource());
        let path = format!("{}/{name}", api.resource_url());
        let request = axum::http::Request::get(&path).body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let text = match self.client.request_text(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            text => text.map_err(|error| error.to_string())?,
        };
        let object: DynamicObject = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let Some(snapshot) = self.reviewer.snapshot() else {
            return Err("there is no configuration".to_owned());
        };
        let nothing = BTreeMap::new();
        let labels = snapshot.configuration.namespace_labels(namespace).unwrap_or(&nothing);
        if object.uid().as_deref() != Some(&service.uid) || !asked.about(labels, object.labels()) {
            return Ok(());
        }
        let document = Document::new(&text).map_err(|error| error.to_string())?;
        let stored = Stored {
            api_version: &service.resource().api_version,
            kind: service.kind,
            namespace,
            name,
            object: &document,
            new: object.metadata.generation.unwrap_or(1) <= 1,
        };
        let Some(reviewed) = self.reviewer.review_again(&stored, true).await else {
            return Ok(());
        };
        let reference = ObjectReference {
            api_version: Some(service.resource().api_version),
            kind: Some(service.kind.to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: Some(service.uid.clone()),
            ..ObjectReference::default()
        };
        if let Some((policy, message)) = &reviewed.refusal {
            self.metrics.swept("refused");
            warn!(
                namespace,
                name, policy, "came past the webhook and would have been refused: {message}"
            );
            let message = format!("came past Tidewaiter, which would have refused it: {message}");
            events::announce(&self.client, reference, "WouldBeRefused", &message).await;
            return Ok(());
        }
        if reviewed.changes.is_empty() {
            return Ok(());
        }
        self.mend(&api, &object, &reviewed).await?;
        let changed: Vec<&str> = reviewed.changes.iter().map(|change| change.path.as_str()).collect();
        self.metrics.swept("mended");
        info!(namespace, name, ?changed, "came past the webhook; filled in now");
        let message = format!("came past Tidewaiter; filled in now: {}", changed.join(", "));
        events::announce(&self.client, reference, "FilledIn", &message).await;
        Ok(())
    }

    /// Writes what was missing. Nobody owns what we fill in: whoever applies their manifest with a value of their own must not find it in conflict with ours.
    async fn mend(&self, api: &Api<DynamicObject>, object: &DynamicObject, reviewed: &Reviewed) -> Result<(), String> {
        let name = object.name_any();
        let mut patch = vec![json!({
            "op": "replace", "path": "/metadata/resourceVersion", "value": object.resource_version(),
        })];
        patch.extend(reviewed.patch.as_array().into_iter().flatten().cloned());
        let body = Value::Array(patch).to_string().into_bytes();
        let request = axum::http::Request::patch(format!("{}/{name}?fieldManager={FIELD_MANAGER}", api.resource_url()))
            .header("content-type", "application/json-patch+json")
            .body(body)
            .map_err(|error| error.to_string())?;
        let mended: DynamicObject = self.client.request(request).await.map_err(|error| error.to_string())?;
        let mut owners = mended.metadata.managed_fields.clone().unwrap_or_default();
        owners.retain(|owner| owner.manager.as_deref() != Some(FIELD_MANAGER));
        let disown = json!({"metadata": {"resourceVersion": mended.resource_version(), "managedFields": owners}});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        if let Err(error) = api.patch(&name, &params, &Patch::Merge(&disown)).await {
            // Somebody wrote in between; the fields are ours by name, which a forced apply overcomes.
            info!(name, %error, "can't give up the ownership of what was filled in");
        }
        Ok(())
    }

    /// As the configuration has it now.
    async fn asked(&self) -> Result<Asked, String> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration = api.get(&self.configuration).await.map_err(|error| error.to_string())?;
        let selectors = configuration.webhooks.into_iter().flatten().map(|webhook| {
            let selector = |selector: Option<_>| -> Result<LabelSelector, String> {
                let selector = serde_json::to_value(selector.unwrap_or_default()).map_err(|error| error.to_string())?;
                serde_json::from_value(selector).map_err(|error| error.to_string())
            };
            Ok((
                selector(webhook.namespace_selector)?,
                selector(webhook.object_selector)?,
            ))
        });
        Ok(Asked(selectors.collect::<Result<_, String>>()?))
    }
}

fn write(service: &Service) -> Write {
    (service.uid.clone(), service.written)
}

/// Which services the API server asks about: each webhook's selectors of namespaces and objects.
struct Asked(Vec<(LabelSelector, LabelSelector)>);

impl Asked {
    fn about(&self, namespace: &BTreeMap<String, String>, object: &BTreeMap<String, String>) -> bool {
        let mut webhooks = self.0.iter();
        webhooks.any(|(namespaces, objects)| namespaces.matches(namespace) && objects.matches(object))
    }
}
