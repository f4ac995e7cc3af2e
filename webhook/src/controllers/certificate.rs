//! The certificate that the webhook serves, kept good by the leader: made, renewed, made anew where it was lost; and trusted by API servers before it is used.
//!
//! ```text
//! Secret of the own namespace (tls.crt, tls.key, ca.crt, ca.key) ─▶ every replica serves it
//!        ▲                                              └────────▶ caBundle of the webhook configurations
//!  leader ┘  a new authority: into the caBundle beside the old one, a pause where there is an old one, then into the Secret
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ByteString, ClusterResourceScope};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::QUIET;
use super::authority::{AuthorityError, Certificate, Due, Issued, Lifetimes, valid};
use crate::cluster::clock;
use crate::cluster::watched::{Changes, Watched, everything, follow};
use crate::namespaces::cluster::{FIELD_MANAGER, writes};

/// On the Secret that we write; one without it is somebody else's, and served as it is.
const OURS: (&str, &str) = ("tidewaiter.dev/certificate", "self-managed");
/// A new authority is in the configurations for so long before a certificate of it is served: API servers learn of it by their watches.
const PROPAGATION: Duration = Duration::from_secs(5);
/// After what went wrong, and where nothing else is due.
const RETRY: Duration = Duration::from_secs(5);
const AT_MOST: u64 = 3600;

/// A certificate that is made here.
#[derive(Clone, Debug)]
pub struct SelfManaged {
    /// The Secret's name, in the own namespace.
    pub secret: String,
    /// DNS names that API servers call.
    pub names: Vec<String>,
    /// How long what is issued is valid.
    pub lifetimes: Lifetimes,
}

/// What it is made from, as watches show it.
pub(super) struct Keeper {
    client: Client,
    namespace: String,
    configuration: String,
    settings: SelfManaged,
    secret: Watched<Secret>,
    mutating: Watched<MutatingWebhookConfiguration>,
    validating: Watched<ValidatingWebhookConfiguration>,
    changed: watch::Receiver<()>,
    _stop: DropGuard,
}

#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("{0}")]
    Kube(#[from] kube::Error),
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    #[error("the watch on {0} is interrupted")]
    Unseen(&'static str),
}

impl Keeper {
    /// Begins to watch what it keeps; the watches end with it.
    pub(super) fn watch(client: Client, namespace: String, configuration: String, settings: SelfManaged) -> Self {
        let (changes, stop) = (Changes::default(), CancellationToken::new());
        let named = |name: &str| everything().fields(&format!("metadata.name={name}"));
        Self {
            secret: follow(
                Api::namespaced(client.clone(), &namespace),
                named(&settings.secret),
                "Secret (the webhook's certificate)",
                &changes,
                &stop,
            ),
            mutating: follow(
                Api::all(client.clone()),
                named(&configuration),
                "MutatingWebhookConfiguration",
                &changes,
                &stop,
            ),
            validating: follow(
                Api::all(client.clone()),
                named(&configuration),
                "ValidatingWebhookConfiguration",
                &changes,
                &stop,
            ),
            client,
            namespace,
            configuration,
            settings,
            changed: changes.subscribe(),
            _stop: stop.drop_guard(),
        }
    }

    /// Keeps it good for as long as it is called.
    pub(super) async fn keep(mut self) {
        tokio::join!(
            self.secret.settled(),
            self.mutating.settled(),
            self.validating.settled()
        );
        let mut complaint = String::new();
        loop {
            let pause = match self.look().await {
                Ok(pause) => {
                    complaint.clear();
                    pause
                }
                Err(error) => {
                    let message = error.to_string();
                    if complaint != message {
                        warn!(
                            secret = self.settings.secret,
                            "can't keep the webhook's certificate: {message}; trying again"
                        );
                        complaint = message;
                    }
                    RETRY
                }
            };
            if timeout(pause, self.changed.changed()).await.is_ok() {
                // Somebody else who wants it otherwise, as another installation's leader, would be written against as fast as the API server answers.
                sleep(QUIET).await;
            }
        }
    }

    /// Does what is due, and says when to look again.
    async fn look(&self) -> Result<Duration, KeepError> {
        let SelfManaged { names, lifetimes, .. } = &self.settings;
        // What a watch doesn't show may be there all the same, and to make another would mean another authority.
        let stored = match self.secret.current(&self.namespace, &self.settings.secret) {
            Some(stored) => Some(stored),
            None => self.read().await?.map(Arc::new),
        };
        if let Some(stored) = &stored
            && stored.labels().get(OURS.0).is_none_or(|value| value != OURS.1)
        {
            warn!(
                namespace = self.namespace,
                secret = self.settings.secret,
                "the Secret isn't ours (no label {}={}): it is served as it is, and neither renewed nor trusted by us; delete it to have one made",
                OURS.0,
                OURS.1
            );
            return Ok(Duration::from_secs(AT_MOST));
        }
        let issued = stored.as_ref().and_then(|stored| {
            let read = Issued::read(stored.data.as_ref().unwrap_or(&BTreeMap::new()));
            read.inspect_err(|error| {
                warn!(
                    namespace = self.namespace,
                    secret = self.settings.secret,
                    "{error}; a new certificate is made"
                );
            })
            .ok()
        });
        let now = now();
        let due = issued
            .as_ref()
            .map_or(Due::Authority, |issued| issued.due(names, now, *lifetimes));
        let (issued, pause) = match (due, issued) {
            (Due::Nothing(left), Some(issued)) => (issued, left),
            (Due::Certificate, Some(issued)) => {
                let issued = issued.renewed(names, now, *lifetimes)?;
                self.write(stored.as_deref(), &issued).await?;
                info!(secret = self.settings.secret, "the webhook's certificate is renewed");
                (issued, 0)
            }
            (_, issued) => {
                let before = issued.iter().flat_map(|issued| issued.all().cloned());
                let trusted = valid(before.chain(self.in_configurations()), now);
                let overlap = !trusted.is_empty();
                let issued = Issued::new(names, trusted, now, *lifetimes)?;
                // Before it is served: a replica is ready as soon as it has it, and helm waits for no more than that.
                self.publish(&issued.bundle(now)).await?;
                if overlap {
                    sleep(PROPAGATION).await;
                }
                self.write(stored.as_deref(), &issued).await?;
                info!(
                    secret = self.settings.secret,
                    "the webhook has a new certificate and a new authority"
                );
                (issued, 0)
            }
        };
        self.publish(&issued.bundle(now)).await?;
        Ok(Duration::from_secs(pause.clamp(1, AT_MOST)))
    }

    async fn read(&self) -> Result<Option<Secret>, KeepError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.get_opt(&self.settings.secret).await?)
    }

    /// The authorities that API servers trust now.
    fn in_configurations(&self) -> Vec<Certificate> {
        let bundles = bundles_of(&self.mutating, &self.configuration)
            .into_iter()
            .chain(bundles_of(&self.validating, &self.configuration));
        bundles
            .flat_map(|(_, bundle)| Certificate::all(bundle.as_ref().map_or(&[][..], |bundle| &bundle.0)))
            .collect()
    }

    async fn publish(&self, bundle: &str) -> Result<(), KeepError> {
        self.publish_in(&self.mutating, bundle).await?;
        self.publish_in(&self.validating, bundle).await
    }

    async fn publish_in<K: Configuration>(&self, watched: &Watched<K>, bundle: &str) -> Result<(), KeepError> {
        let name = &self.configuration;
        let webhooks = bundles_of(watched, name);
        if webhooks.is_empty() && !watched.live() {
            return Err(KeepError::Unseen(K::KIND));
        }
        if webhooks.is_empty() {
            warn!(
                kind = K::KIND,
                name, "isn't there: no API server will call this webhook; install the chart again"
            );
            return Ok(());
        }
        let is_published = |(_, there): &(String, Option<ByteString>)| {
            there.as_ref().is_some_and(|there| there.0 == bundle.as_bytes())
        };
        if webhooks.iter().all(is_published) {
            return Ok(());
        }
        let bundle = ByteString(bundle.as_bytes().to_vec());
        let webhooks: Vec<_> = webhooks
            .iter()
            .map(|(webhook, _)| json!({"name": webhook, "clientConfig": {"caBundle": bundle}}))
            .collect();
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": K::KIND,
            "webhooks": webhooks,
        });
        // Webhooks are merged by name: what the chart wrote of them stays its own.
        let params = PatchParams::apply(FIELD_MANAGER).force();
        Api::<K>::all(self.client.clone())
            .patch(name, &params, &Patch::Apply(object))
            .await?;
        info!(kind = K::KIND, name, "the authority is in the caBundle");
        Ok(())
    }

    async fn write(&self, stored: Option<&Secret>, issued: &Issued) -> Result<(), KeepError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        match stored {
            None => {
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(self.settings.secret.clone()),
                        labels: Some([(OURS.0.to_owned(), OURS.1.to_owned())].into()),
                        ..ObjectMeta::default()
                    },
                    type_: Some("kubernetes.io/tls".to_owned()),
                    data: Some(issued.data()),
                    ..Secret::default()
                };
                let params = PostParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PostParams::default()
                };
                api.create(&params, &secret).await?;
            }
            Some(stored) => {
                let change = json!({
                    "metadata": {"resourceVersion": stored.resource_version()},
                    "data": issued.data(),
                });
                api.patch(&self.settings.secret, &writes(), &Patch::Merge(&change))
                    .await?;
            }
        }
        Ok(())
    }
}

/// One of the two kinds of webhook configurations.
pub(super) trait Configuration:
    Resource<DynamicType = (), Scope = ClusterResourceScope>
    + k8s_openapi::Resource
    + Serialize
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// Its webhooks' names, with what API servers trust when they call them.
    fn bundles(&self) -> Vec<(String, Option<ByteString>)>;
}

impl Configuration for MutatingWebhookConfiguration {
    fn bundles(&self) -> Vec<(String, Option<ByteString>)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|webhook| (webhook.name.clone(), webhook.client_config.ca_bundle.clone()))
            .collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn bundles(&self) -> Vec<(String, Option<ByteString>)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|webhook| (webhook.name.clone(), webhook.client_config.ca_bundle.clone()))
            .collect()
    }
}

fn bundles_of<K: Configuration>(watched: &Watched<K>, name: &str) -> Vec<(String, Option<ByteString>)> {
    watched
        .current_of_cluster(name)
        .map(|configuration| configuration.bundles())
        .unwrap_or_default()
}

fn now() -> i64 {
    clock::now().as_second()
}
