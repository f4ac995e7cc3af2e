//! The world as one review sees it: one namespace, one deadline, nothing outside of its grants.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tidewaiter_core::backend::{self, Backend, managed_name};
use tidewaiter_core::backends::Resolved;
use tidewaiter_core::credentials::{recognise, storage_key};
use tidewaiter_core::runtimes::ServingRuntime;
use tidewaiter_core::uri::StorageUri;
use tidewaiter_engine::world::{
    Brought, Delivery, Label, Listing, NotGranted, ObjectInfo, OwnSecret, PackageVersion, Release, Resolution, Runtime,
    Served, StorageError, World,
};
use tokio::time::{Instant, timeout_at};

use crate::configuration::Configuration;
use crate::locate::{Asked, place};
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
            stores_until: now + left * 3 / 4,
            reader_until: now + left * 7 / 8,
        }
    }

    fn resolved(&self, uri: &StorageUri) -> Resolved<'_> {
        let labels = self.configuration.namespace_labels(&self.namespace);
        self.configuration.backends().resolve(uri, &self.namespace, labels)
    }

    /// The client and the place for a URI that the namespace may look at.
    fn locate(&self, text: &str) -> Result<(&Client, Place), StorageError> {
        let unserved = |reason: String| StorageError::Unserved(reason);
        let asked = Asked::parse(text).map_err(unserved)?;
        if let Some(secret) = self.configuration.own_secrets().resolve(&asked.uri, &self.namespace) {
            return Err(unserved(format!(
                "Secret {}/{secret} opens it, and Tidewaiter opens nothing with Secrets of a namespace",
                self.namespace
            )));
        }
        let backend = match self.resolved(&asked.uri) {
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
        let annotation = self.configuration.kserve().secret_annotation.clone();
        let delivery = match backend.spec().delivery {
            backend::Delivery::Annotation if annotation.is_empty() => Delivery::ServiceAccount,
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
            annotation,
        }
    }

    /// Ends with the review; what a dead API server would have said is unknown.
    async fn within<T>(&self, what: &str, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        match timeout_at(self.reader_until, asked).await {
            Ok(answer) => answer.map_err(|reason| format!("{what}, which can't be looked at ({reason})")),
            Err(_) => Err(format!(
                "{what}, which can't be looked at (the API server didn't answer in time)"
            )),
        }
    }

    async fn brought_secret(&self, name: &str, what: String) -> Brought {
        match self.within(&what, self.reader.secret(&self.namespace, name)).await {
            Err(unknown) => Brought::Missing(unknown),
            Ok(None) => Brought::Missing(what),
            Ok(Some(facts))
                if recognise(facts.keys.iter().map(String::as_str), self.configuration.kserve()).is_some() =>
            {
                Brought::Usable(what)
            }
            Ok(Some(_)) => Brought::Missing(format!("{what}, in which KServe knows no key")),
        }
    }

    async fn brought_account(&self, named: Option<&str>) -> Brought {
        let name = named.unwrap_or("default");
        let what = format!("ServiceAccount {name}");
        let account = match self
            .within(&what, self.reader.service_account(&self.namespace, name))
            .await
        {
            Err(unknown) => return Brought::Missing(unknown),
            // KServe goes on without it; a namespace made a second ago has no default yet.
            Ok(None) => {
                return if named.is_some() {
                    Brought::Missing(what)
                } else {
                    Brought::Nothing
                };
            }
            Ok(Some(account)) => account,
        };
        for (annotation, cloud) in CLOUD_IDENTITIES {
            if account.annotations.contains_key(annotation) {
                return Brought::Usable(format!("{what} with an identity of {cloud}"));
            }
        }
        let mut missing = None;
        for secret in &account.secrets {
            let what = format!("{what} with Secret {secret}");
            match self.within(&what, self.reader.secret(&self.namespace, secret)).await {
                Ok(Some(facts))
                    if recognise(facts.keys.iter().map(String::as_str), self.configuration.kserve()).is_some() =>
                {
                    return Brought::Usable(what);
                }
                // KServe passes over a Secret that it doesn't know, such as a token of Kubernetes.
                Ok(Some(_)) => {}
                Ok(None) => missing = missing.or(Some(what)),
                Err(unknown) => missing = missing.or(Some(unknown)),
            }
        }
        missing.map_or(Brought::Nothing, Brought::Missing)
    }
}

#[async_trait]
impl World for ReviewWorld {
    async fn resolve(&self, text: &str) -> Resolution {
        let uri = match StorageUri::parse(text) {
            Ok(uri) => uri,
            Err(error) => return Resolution::Unsupported(error.to_string()),
        };
        if let Some(name) = self.configuration.own_secrets().resolve(&uri, &self.namespace) {
            let annotation = self.configuration.kserve().secret_annotation.clone();
            return Resolution::OwnSecret(OwnSecret {
                name: name.to_owned(),
                annotation,
            });
        }
        match self.resolved(&uri) {
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
            Resolved::Unserved => Resolution::Unserved,
            Resolved::NoCredentials => Resolution::NoCredentials,
            Resolved::Unsupported(reason) => Resolution::Unsupported(reason),
        }
    }

    async fn brought_credentials(&self, service_account: Option<&str>, secret: Option<&str>) -> Brought {
        match secret.filter(|name| !name.is_empty()) {
            Some(name) => self.brought_secret(name, format!("Secret {name}")).await,
            None => {
                self.brought_account(service_account.filter(|name| !name.is_empty()))
                    .await
            }
        }
    }

    async fn stat(&self, uri: &str) -> Result<ObjectInfo, StorageError> {
        let (client, place) = self.locate(uri)?;
        let size = self.stores.stat(client, place, self.stores_until).await?;
        Ok(ObjectInfo {
            path: String::new(),
            size,
        })
    }

    async fn list_objects(&self, uri: &str, limit: u32) -> Result<Listing, StorageError> {
        let (client, place) = self.locate(uri)?;
        let listing = self.stores.list(client, place, limit, self.stores_until).await?;
        Ok(Listing::clone(&listing))
    }

    async fn read(&self, uri: &str, offset: u64, length: u32) -> Result<Bytes, StorageError> {
        if length > READ_LIMIT {
            return Err(StorageError::TooLarge(u64::from(length)));
        }
        let (client, place) = self.locate(uri)?;
        Ok(self
            .stores
            .read(client, place, offset, length, self.stores_until)
            .await?)
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

    async fn releases(&self, repository: &str, packages: &[String]) -> Vec<Release> {
        let releases = self.configuration.catalogue().releases(repository, packages);
        releases
            .into_iter()
            .map(|release| Release {
                tag: release.tag.to_owned(),
                python: release.python.to_owned(),
                packages: release
                    .packages
                    .iter()
                    .map(|package| PackageVersion {
                        name: package.name.to_owned(),
                        version: package.version.to_owned(),
                        exact: package.exact,
                    })
                    .collect(),
            })
            .collect()
    }

    async fn namespace_labels(&self) -> Vec<Label> {
        let labels = self.configuration.namespace_labels(&self.namespace);
        labels
            .iter()
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
        if kind.eq_ignore_ascii_case("Secret") || kind.eq_ignore_ascii_case("Secrets") {
            return Err("a policy never gets a Secret".to_owned());
        }
        let declared = self
            .configuration
            .policies()
            .iter()
            .filter(|declaring| declaring.name == policy)
            .flat_map(|declaring| &declaring.spec.objects);
        if !declared
            .into_iter()
            .any(|object| object.api_version == api_version && object.kind == kind)
        {
            return Err(format!(
                "WasmPolicy {policy} doesn't declare {kind} ({api_version}) in spec.objects"
            ));
        }
        self.within(
            &format!("{kind} {name}"),
            self.reader.object(&self.namespace, api_version, kind, name),
        )
        .await
    }
}

fn runtime(runtime: &ServingRuntime, auto_select: bool) -> Runtime {
    let image = runtime.image.as_ref();
    Runtime {
        name: runtime.name.clone(),
        repository: image.map(|image| image.repository.clone()).unwrap_or_default(),
        tag: image.and_then(|image| image.tag.clone()).unwrap_or_default(),
        protocols: runtime.protocols.clone(),
        auto_select,
        disabled: runtime.disabled,
    }
}
