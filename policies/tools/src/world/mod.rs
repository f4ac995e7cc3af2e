//! The world as a test case or a file tells it: the real rules of grants, runtimes and delivery, over stores and a cluster that are written down.

mod given;
mod reader;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidewaiter_core::policy_resource::{ObjectKind, WasmPolicySpec};
use tidewaiter_engine::world::{
    Brought, Label, Listing, ObjectInfo, Release, Resolution, Runtime, StorageError, World,
};
use tidewaiter_world::stores::{LIST_LIMIT, READ_LIMIT};
use tidewaiter_world::{Configuration, Policy, ReviewWorld, Stores};
use tokio::time::Instant;

pub use given::{Given, GivenError};
use reader::GivenReader;
pub use stored::Stored;

/// Nothing is asked over a network, so this is only for a policy that never ends.
pub(crate) const BUDGET: Duration = Duration::from_secs(20);

/// A world that was made ready once, for any number of reviews.
#[derive(Clone)]
pub struct Prepared {
    configuration: Arc<Configuration>,
    stores: Arc<Stores>,
    reader: Arc<GivenReader>,
    stored: Arc<BTreeMap<String, Stored>>,
}

impl Prepared {
    /// Checks what a case says of the world, and makes it ready. `namespace` is the object's, which the labels belong to; `policy` is who asks, and `objects` are
    /// the kinds that it may ask for.
    ///
    /// # Errors
    /// What is wrong with it, each a sentence.
    pub fn new(given: &Given, namespace: &str, policy: &str, objects: &[ObjectKind]) -> Result<Self, GivenError> {
        let stores = Arc::new(Stores::default());
        let all = given.objects(namespace)?;
        let (mut configuration, problems) = Configuration::build(&all, None, &[], &stores);
        // A backend's keys open nothing here: whether they are there makes no difference.
        let wrong: Vec<_> = problems
            .iter()
            .filter(|problem| {
                problem
                    .object
                    .as_ref()
                    .is_none_or(|object| object.kind != "StorageBackend")
            })
            .map(ToString::to_string)
            .collect();
        if !wrong.is_empty() {
            return Err(GivenError::Unusable(wrong.join("; ")));
        }
        let mut spec = WasmPolicySpec::builtin(policy, &[]);
        spec.objects = objects.to_vec();
        configuration.settle(vec![Policy {
            name: policy.to_owned(),
            spec,
            component: None,
        }]);
        Ok(Self {
            reader: Arc::new(GivenReader::new(given, Arc::new(all))),
            configuration: Arc::new(configuration),
            stores,
            stored: Arc::new(given.stores.clone()),
        })
    }

    /// The world around an object of this namespace. `reversed` gives what the contract leaves in any order the other way round.
    pub fn around(&self, namespace: &str, reversed: bool) -> Arc<dyn World> {
        Arc::new(GivenWorld {
            real: ReviewWorld::new(
                Arc::clone(&self.configuration),
                Arc::clone(&self.stores),
                Arc::clone(&self.reader) as _,
                namespace,
                Instant::now() + BUDGET,
            ),
            stored: Arc::clone(&self.stored),
            namespace: namespace.to_owned(),
            reversed,
        })
    }
}

struct GivenWorld {
    real: ReviewWorld,
    stored: Arc<BTreeMap<String, Stored>>,
    namespace: String,
    reversed: bool,
}

impl GivenWorld {
    /// Whether the namespace may look at a URI, by the same grants as in a cluster, and whether its store answers.
    async fn open(&self, uri: &str) -> Result<(), StorageError> {
        match self.real.resolve(uri).await {
            Resolution::Served(_) => {}
            Resolution::OwnSecret(secret) => {
                return Err(StorageError::Unserved(format!(
                    "Secret {}/{secret} opens it, and Tidewaiter opens nothing with Secrets of a namespace",
                    self.namespace
                )));
            }
            Resolution::NotGranted(no) => {
                return Err(StorageError::Unserved(format!(
                    "namespace {} may not use this part of StorageBackend {}",
                    self.namespace, no.backend
                )));
            }
            Resolution::Unusable(unusable) => {
                return Err(StorageError::Forbidden(format!(
                    "StorageBackend {} can't be used",
                    unusable.backend
                )));
            }
            Resolution::Unserved => {
                return Err(StorageError::Unserved("no StorageBackend serves it".to_owned()));
            }
            Resolution::NoCredentials => {
                return Err(StorageError::Unserved("it can't be looked at from here".to_owned()));
            }
            Resolution::Unsupported(reason) => return Err(StorageError::Unserved(reason)),
        }
        stored::failure(&self.stored, uri).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl World for GivenWorld {
    async fn resolve(&self, uri: &str) -> Resolution {
        self.real.resolve(uri).await
    }

    fn secret_annotation(&self) -> Option<String> {
        self.real.secret_annotation()
    }

    async fn brought_credentials(&self, service_account: Option<&str>, secret: Option<&str>) -> Brought {
        self.real.brought_credentials(service_account, secret).await
    }

    async fn stat(&self, uri: &str) -> Result<ObjectInfo, StorageError> {
        self.open(uri).await?;
        let stored = self.stored.get(uri).ok_or(StorageError::NotFound)?;
        Ok(ObjectInfo {
            path: String::new(),
            size: stored.size(),
        })
    }

    async fn list_objects(&self, uri: &str, limit: u32) -> Result<Listing, StorageError> {
        self.open(uri).await?;
        Ok(stored::listing(&self.stored, uri, limit.clamp(1, LIST_LIMIT)))
    }

    async fn read(&self, uri: &str, offset: u64, length: u32) -> Result<Bytes, StorageError> {
        if length > READ_LIMIT {
            return Err(StorageError::TooLarge(u64::from(length)));
        }
        self.open(uri).await?;
        let stored = self.stored.get(uri).ok_or(StorageError::NotFound)?;
        Ok(stored.read(offset, length))
    }

    async fn list_folder(&self, uri: &str, limit: u32) -> Result<Listing, StorageError> {
        self.open(uri).await?;
        Ok(stored::folder(&self.stored, uri, limit.clamp(1, LIST_LIMIT)))
    }

    async fn supporting(&self, format: &str, version: Option<&str>) -> Vec<Runtime> {
        self.real.supporting(format, version).await
    }

    async fn named(&self, name: &str) -> Option<Runtime> {
        self.real.named(name).await
    }

    async fn runtime_spec(&self, name: &str) -> Option<String> {
        self.real.runtime_spec(name).await
    }

    async fn release_of(&self, repository: &str, tag: &str, packages: &[String]) -> Option<Release> {
        self.real.release_of(repository, tag, packages).await
    }

    async fn releases(&self, repository: &str, packages: &[String]) -> Vec<Release> {
        self.real.releases(repository, packages).await
    }

    async fn lacking(&self, repository: &str, packages: &[String]) -> Vec<String> {
        self.real.lacking(repository, packages).await
    }

    async fn namespace_labels(&self) -> Vec<Label> {
        let mut labels = self.real.namespace_labels().await;
        if self.reversed {
            labels.reverse();
        }
        labels
    }

    async fn node_architectures(&self) -> Vec<String> {
        self.real.node_architectures().await
    }

    async fn get_object(
        &self,
        policy: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String> {
        self.real.get_object(policy, api_version, kind, name).await
    }

    async fn cluster_objects(&self, policy: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String> {
        self.real.cluster_objects(policy, api_version, kind).await
    }

    async fn kserve_config(&self, key: &str) -> Option<String> {
        self.real.kserve_config(key).await
    }
}

#[cfg(test)]
mod tests;
