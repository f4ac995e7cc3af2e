//! The world as one review sees it: one namespace, one deadline, nothing outside of its grants.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tidewaiter_core::backend::{self, Backend, MANAGED_BY, MANAGED_BY_LABEL, managed_name};
use tidewaiter_core::backends::Resolved;
use tidewaiter_core::catalogue;
use tidewaiter_core::credentials::{recognise, storage_key};
use tidewaiter_core::runtimes::ServingRuntime;
use tidewaiter_core::uri::StorageUri;
use tidewaiter_engine::world::{
    Brought, Delivery, Label, Listing, NotGranted, ObjectInfo, PackageVersion, Release, Resolution, Runtime, Served,
    StorageError, Unusable, World,
};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::configuration::Configuration;
use crate::locate::{Asked, place};
use crate::objects::Labels;
use crate::reader::ClusterReader;
use crate::stores::{Client, Place, READ_LIMIT, Stores};

/// Annotations of a ServiceAccount by which a cloud opens its stores, and the cloud.
const CLOUD_IDENTITIES: [(&str, &str); 3] = [
    ("eks.amazonaws.com/role-arn", "AWS"),
    ("iam.gke.io/gcp-service-account", "Google Cloud"),
    ("azure.workload.identity/client-id", "Azure"),
];

/// The world around one object. Cheap to make: everything in it is shared.
pub struct ReviewWorld {
    configuration: Arc<Configuration>,
    stores: Arc<Stores>,
    reader: Arc<dyn ClusterReader>,
    namespace: Arc<str>,
    /// The namespace's, once they were asked for; none where they can't be had.
    labels: OnceCell<Option<Labels>>,
    /// They are read by then, or not at all: policies wait for them before they begin.
    labels_until: Instant,
    /// Stores have answered by then, or not at all.
    stores_until: Instant,
    /// So has the API server.
    reader_until: Instant,
}

impl ReviewWorld {
    /// The world of a review in `namespace` that has to end by `deadline`. In a folder the configuration itself is the reader.
    ///
    /// Stores are waited for until three quarters of the time are over, and the API server until seven eighths: a policy then still has time
    /// to say that it doesn't know, and one that needs no store isn't kept from its work by one that does.
    pub fn new(
        configuration: Arc<Configuration>,
        stores: Arc<Stores>,
        reader: Arc<dyn ClusterReader>,
        namespace: &str,
        deadline: Instant,
    ) -> Self {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        Self {
            configuration,
            stores,
            reader,
            namespace: namespace.into(),
            labels: OnceCell::new(),
            labels_until: now + left / 4,
            stores_until: now + left * 3 / 4,
            reader_until: now + left * 7 / 8,
        }
    }

    /// The labels of the namespace: those that the watch shows. One that was made a second ago isn't in it, and the API server is asked; where that
    /// doesn't answer, those count that the configuration was made with. None where there are none.
    pub async fn labels(&self) -> Option<&Labels> {
        let find = async {
            let name = &*self.namespace;
            if let Some(watched) = self.reader.watched_namespace(name) {
                return Some(watched);
            }
            match timeout_at(self.labels_until, self.reader.namespace(name)).await {
                Ok(Ok(live)) => live,
                Ok(Err(_)) | Err(_) => self.configuration.objects().namespaces.get(name).cloned(),
            }
        };
        self.labels.get_or_init(|| find).await.as_ref()
    }

    async fn resolved<'a>(&'a self, uri: &StorageUri) -> Resolved<'a> {
        let backends = self.configuration.backends();
        let labels = if backends.asks_for_labels() {
            self.labels().await
        } else {
            None
        };
        backends.resolve(uri, &self.namespace, labels)
    }

    /// The client and the place for a URI that the namespace may look at.
    async fn locate(&self, text: &str) -> Result<(&Client, Place), StorageError> {
        let unserved = |reason: String| StorageError::Unserved(reason);
        let asked = Asked::parse(text).map_err(unserved)?;
        if let Some(secret) = self.configuration.own_secrets().resolve(&asked.uri, &self.namespace) {
            return Err(unserved(format!(
                "Secret {}/{secret} opens it, and Tidewaiter opens nothing with Secrets of a namespace",
                self.namespace
            )));
        }
        let backend = match self.resolved(&asked.uri).await {
            Resolved::Served(backend) => backend,
            Resolved::NotGranted { backend, allowed, .. } => {
                return Err(unserved(format!(
                    "namespace {} may not use this part of StorageBackend {}{}",
                    self.namespace,
                    backend.name(),
                    if allowed.is_empty() {
                        String::new()
                    } else {
                        format!(", only {}", allowed.join(", "))
                    }
                )));
            }
            Resolved::Unusable(backend) => {
                return Err(StorageError::Forbidden(format!(
                    "StorageBackend {} can't be used; its admin finds why in its status",
                    backend.name
                )));
            }
            Resolved::Unserved => return Err(unserved("no StorageBackend serves it".to_owned())),
            Resolved::NoCredentials => {
                return Err(unserved(format!(
                    "{}: can't be looked at from here",
                    asked.uri.scheme().as_str()
                )));
            }
            Resolved::Unsupported(reason) => return Err(unserved(reason)),
        };
        let place = place(&asked, backend).map_err(unserved)?;
        // Its Secret is missing, or its settings are of no use: reported to the admin when the configuration was made.
        let client = self.configuration.client(backend.name()).ok_or_else(|| {
            StorageError::Forbidden(format!(
                "StorageBackend {} has no usable credentials; its admin finds why in its status",
                backend.name()
            ))
        })?;
        Ok((client, place))
    }

    fn served(&self, backend: &Backend) -> Served {
        let delivery = match backend.spec().delivery {
            backend::Delivery::Annotation if self.configuration.kserve().secret_annotation.is_none() => {
                Delivery::ServiceAccount
            }
            backend::Delivery::Annotation => Delivery::Annotation,
            backend::Delivery::ServiceAccount => Delivery::ServiceAccount,
            backend::Delivery::StorageKey => Delivery::StorageKey,
        };
        Served {
            backend: backend.name().to_owned(),
            kind: backend.spec().kind.as_str().to_owned(),
            delivery,
            anonymous: !backend.delivers_credentials(),
            secret: managed_name(backend.name()),
            service_account: managed_name(backend.name()),
            storage_key: storage_key(backend.name()).to_owned(),
        }
    }

    /// Ends with the review; what a dead API server would have said is unknown.
    async fn within<T>(&self, what: &str, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        match timeout_at(self.reader_until, asked).await {
            Ok(answer) => answer.map_err(|reason| format!("{what} can't be read ({reason})")),
            Err(_) => Err(format!("{what} can't be read (no answer in time)")),
        }
    }

    /// Each policy gets objects of the kinds that it declared itself.
    fn declared(&self, policy: &str, api_version: &str, kind: &str) -> Result<(), String> {
        if kind.eq_ignore_ascii_case("Secret") || kind.eq_ignore_ascii_case("Secrets") {
            return Err("a policy never gets a Secret".to_owned());
        }
        let mut policies = self.configuration.policies().iter();
        let declares = policies
            .find(|declaring| declaring.name == policy)
            .is_some_and(|declaring| {
                let mut objects = declaring.spec.objects.iter();
                objects.any(|object| object.api_version == api_version && object.kind == kind)
            });
        if declares {
            return Ok(());
        }
        Err(format!(
            "WasmPolicy {policy} doesn't declare {kind} ({api_version}) in spec.objects"
        ))
    }

    /// Whether Tidewaiter keeps, or would keep, a Secret and a ServiceAccount of this name.
    fn is_our_name(&self, name: &str) -> bool {
        let mut backends = self.configuration.backends().iter();
        backends.any(|backend| backend.delivers_credentials() && managed_name(backend.name()) == name)
    }

    async fn find_secret(&self, name: &str) -> Found {
        let read = self.reader.secret(&self.namespace, name);
        match self.within(&format!("Secret {name}"), read).await {
            Ok(Some(facts)) if is_managed(&facts.labels) => Found::Managed,
            Ok(Some(facts)) => {
                let kind = recognise(facts.keys.iter().map(String::as_str), self.configuration.kserve());
                if kind.is_some() { Found::Usable } else { Found::Useless }
            }
            // The next service that is admitted may bring it here, and KServe waits for it.
            Ok(None) | Err(_) if self.is_our_name(name) => Found::Managed,
            Ok(None) => Found::Nothing,
            Err(unknown) => Found::Unknown(unknown),
        }
    }

    async fn brought_secret(&self, name: &str) -> Brought {
        let what = format!("Secret {name}");
        match self.find_secret(name).await {
            Found::Managed => Brought::Managed(vec![name.to_owned()]),
            Found::Usable => Brought::Usable(what),
            Found::Useless => Brought::Missing(format!("{what}, in which KServe knows no key")),
            Found::Nothing => Brought::Missing(what),
            Found::Unknown(unknown) => Brought::Unknown(unknown),
        }
    }

    async fn brought_account(&self, named: Option<&str>) -> Brought {
        let name = named.unwrap_or("default");
        let what = format!("ServiceAccount {name}");
        let account = match self
            .within(&what, self.reader.service_account(&self.namespace, name))
            .await
        {
            Ok(Some(account)) if is_managed(&account.labels) => return Brought::Managed(vec![name.to_owned()]),
            Ok(Some(account)) => account,
            Ok(None) | Err(_) if self.is_our_name(name) => return Brought::Managed(vec![name.to_owned()]),
            Err(unknown) => return Brought::Unknown(unknown),
            Ok(None) if named.is_some() => return Brought::Missing(what),
            // KServe goes on without it; a namespace made a second ago has no default yet.
            Ok(None) => return Brought::Nothing,
        };
        // KServe uses every Secret of the list. Ours come first: neither another one nor the end of the time may hide them.
        let (ours, theirs): (Vec<&String>, Vec<&String>) =
            account.secrets.iter().partition(|secret| self.is_our_name(secret));
        let (mut managed, mut usable, mut missing, mut unknown) = (Vec::new(), None, None, None);
        for secret in ours {
            match self.find_secret(secret).await {
                Found::Managed => managed.push(secret.clone()),
                Found::Usable => usable = usable.or_else(|| Some(format!("{what} with Secret {secret}"))),
                Found::Useless | Found::Nothing | Found::Unknown(_) => {}
            }
        }
        if !managed.is_empty() {
            return Brought::Managed(managed);
        }
        for (annotation, cloud) in CLOUD_IDENTITIES {
            if account.annotations.contains_key(annotation) {
                return Brought::Usable(format!("{what} with an identity of {cloud}"));
            }
        }
        if let Some(usable) = usable {
            return Brought::Usable(usable);
        }
        for secret in theirs {
            let what = format!("{what} with Secret {secret}");
            match self.find_secret(secret).await {
                Found::Managed => return Brought::Managed(vec![secret.clone()]),
                Found::Usable => return Brought::Usable(what),
                // KServe passes over a Secret that it doesn't know, such as a token of Kubernetes.
                Found::Useless => {}
                Found::Nothing => missing = missing.or(Some(what)),
                Found::Unknown(reason) => unknown = unknown.or(Some(reason)),
            }
        }
        match (unknown, missing) {
            (Some(unknown), _) => Brought::Unknown(unknown),
            (None, Some(missing)) => Brought::Missing(missing),
            (None, None) => Brought::Nothing,
        }
    }
}

/// A Secret, as far as a review needs to know.
enum Found {
    /// Tidewaiter's own.
    Managed,
    /// KServe knows its keys.
    Usable,
    /// KServe knows none of its keys.
    Useless,
    Nothing,
    Unknown(String),
}

pub(crate) fn is_managed(labels: &Labels) -> bool {
    labels
        .get(MANAGED_BY_LABEL)
        .is_some_and(|manager| manager == MANAGED_BY)
}

#[async_trait]
impl World for ReviewWorld {
    async fn resolve(&self, text: &str) -> Resolution {
        let uri = match StorageUri::parse(text) {
            Ok(uri) => uri,
            Err(error) => return Resolution::Unsupported(error.to_string()),
        };
        if let Some(name) = self.configuration.own_secrets().resolve(&uri, &self.namespace) {
            return Resolution::OwnSecret(name.to_owned());
        }
        match self.resolved(&uri).await {
            Resolved::Served(backend) => Resolution::Served(self.served(backend)),
            Resolved::NotGranted {
                backend,
                allowed,
                contact,
            } => Resolution::NotGranted(NotGranted {
                backend: backend.name().to_owned(),
                allowed,
                contact: contact.map(str::to_owned),
            }),
            Resolved::Unusable(unusable) => Resolution::Unusable(Unusable {
                backend: unusable.name.clone(),
                reason: unusable.reason.clone(),
                contact: unusable.contact.clone(),
            }),
            Resolved::Unserved => Resolution::Unserved,
            Resolved::NoCredentials => Resolution::NoCredentials,
            Resolved::Unsupported(reason) => Resolution::Unsupported(reason),
        }
    }

    fn secret_annotation(&self) -> Option<String> {
        self.configuration.kserve().secret_annotation.clone()
    }

    async fn brought_credentials(&self, service_account: Option<&str>, secret: Option<&str>) -> Brought {
        match secret.filter(|name| !name.is_empty()) {
            Some(name) => self.brought_secret(name).await,
            None => {
                self.brought_account(service_account.filter(|name| !name.is_empty()))
                    .await
            }
        }
    }

    async fn stat(&self, uri: &str) -> Result<ObjectInfo, StorageError> {
        let (client, place) = self.locate(uri).await?;
        let size = self.stores.stat(client, place, self.stores_until).await?;
        Ok(ObjectInfo {
            path: String::new(),
            size,
        })
    }

    async fn list_objects(&self, uri: &str, limit: u32) -> Result<Listing, StorageError> {
        let (client, place) = self.locate(uri).await?;
        let listing = self.stores.list(client, place, limit, self.stores_until).await?;
        Ok(Listing::clone(&listing))
    }

    async fn read(&self, uri: &str, offset: u64, length: u32) -> Result<Bytes, StorageError> {
        if length > READ_LIMIT {
            return Err(StorageError::TooLarge(u64::from(length)));
        }
        let (client, place) = self.locate(uri).await?;
        Ok(self
            .stores
            .read(client, place, offset, length, self.stores_until)
            .await?)
    }

    async fn list_folder(&self, uri: &str, limit: u32) -> Result<Listing, StorageError> {
        let (client, place) = self.locate(uri).await?;
        let listing = self.stores.list_folder(client, place, limit, self.stores_until).await?;
        Ok(Listing::clone(&listing))
    }

    async fn supporting(&self, format: &str, version: Option<&str>) -> Vec<Runtime> {
        let found = self
            .configuration
            .runtimes()
            .supporting(&self.namespace, format, version);
        found
            .into_iter()
            .map(|found| runtime(found.runtime, found.auto_select))
            .collect()
    }

    async fn named(&self, name: &str) -> Option<Runtime> {
        let found = self.configuration.runtimes().named(&self.namespace, name)?;
        Some(runtime(
            found,
            found.formats.iter().any(|format| format.auto_select == Some(true)),
        ))
    }

    async fn runtime_spec(&self, name: &str) -> Option<String> {
        self.configuration.runtimes().named(&self.namespace, name)?.spec.clone()
    }

    async fn release_of(&self, repository: &str, tag: &str, packages: &[String]) -> Option<Release> {
        self.configuration
            .catalogue()
            .release(repository, tag, packages)
            .map(release)
    }

    async fn releases(&self, repository: &str, packages: &[String]) -> Vec<Release> {
        let releases = self.configuration.catalogue().releases(repository, packages);
        releases.into_iter().map(release).collect()
    }

    async fn lacking(&self, repository: &str, packages: &[String]) -> Vec<String> {
        let catalogue = self.configuration.catalogue();
        let lacking = packages.iter().filter(|package| catalogue.lacks(repository, package));
        lacking.cloned().collect()
    }

    async fn namespace_labels(&self) -> Vec<Label> {
        let labels = self.labels().await;
        labels
            .into_iter()
            .flatten()
            .map(|(key, value)| Label {
                key: key.clone(),
                value: value.clone(),
            })
            .collect()
    }

    async fn node_architectures(&self) -> Vec<String> {
        self.configuration.architectures().map(str::to_owned).collect()
    }

    async fn get_object(
        &self,
        policy: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String> {
        self.declared(policy, api_version, kind)?;
        self.within(
            &format!("{kind} {name}"),
            self.reader.object(&self.namespace, api_version, kind, name),
        )
        .await
    }

    async fn cluster_objects(&self, policy: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String> {
        self.declared(policy, api_version, kind)?;
        self.within(
            &format!("objects of kind {kind}"),
            self.reader.objects(&self.namespace, api_version, kind),
        )
        .await
    }

    async fn kserve_config(&self, key: &str) -> Option<String> {
        self.configuration.kserve_part(key).map(str::to_owned)
    }
}

fn release(release: catalogue::Release<'_>) -> Release {
    let packages = release.packages.iter().map(|package| PackageVersion {
        name: package.name.to_owned(),
        version: package.version.to_owned(),
        exact: package.exact,
    });
    Release {
        tag: release.tag.to_owned(),
        python: release.python.to_owned(),
        packages: packages.collect(),
        architectures: release.architectures.to_vec(),
    }
}

fn runtime(runtime: &ServingRuntime, auto_select: bool) -> Runtime {
    let image = runtime.image.as_ref();
    Runtime {
        name: runtime.name.clone(),
        repository: image.map(|image| image.repository.clone()).unwrap_or_default(),
        tag: image.and_then(|image| image.tag.clone()).unwrap_or_default(),
        digest: image.and_then(|image| image.digest.clone()).unwrap_or_default(),
        protocols: runtime.protocols.clone(),
        auto_select,
        disabled: runtime.disabled,
    }
}
