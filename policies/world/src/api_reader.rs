//! Single objects of a cluster, asked of its API server when a review needs them.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectList, Request, TypeMeta};
use kube::discovery::{self, Scope};
use kube::{Api, Client, ResourceExt};
use moka::future::Cache;
use tokio::time::timeout;

use crate::objects::Labels;
use crate::reader::{
    AccountFacts, ClusterReader, OBJECTS, OBJECTS_BYTES, SecretFacts, object_as_text, objects_as_texts,
};

/// Bytes of a list that is read whole. Who manages an object's fields, which policies don't get, may take more than the object.
const WHOLE: usize = 4 * OBJECTS_BYTES;
/// A cache that is filled answers long before.
const FILLED: Duration = Duration::from_millis(250);
/// How long it is kept in mind that the cache has no answer, and for how many kinds and namespaces.
const KEPT: Duration = Duration::from_mins(1);
const LISTS: u64 = 10_000;

/// Asks the API server each time: what users bring may be there since a second ago.
#[derive(Clone)]
pub struct ApiReader {
    client: Client,
    known: BTreeMap<String, Labels>,
    /// Kinds that were asked for before, shared by all copies.
    kinds: Arc<Mutex<Kinds>>,
    /// Paths of lists that the API server's cache has no answer for, shared too.
    uncached: Cache<String, ()>,
}

/// By API version and kind: the plural, and whether it belongs to a namespace.
type Kinds = BTreeMap<(String, String), (ApiResource, Scope)>;

impl ApiReader {
    /// With the rights of this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: BTreeMap::new(),
            kinds: Arc::default(),
            uncached: Cache::builder().max_capacity(LISTS).time_to_live(KEPT).build(),
        }
    }

    /// With the labels of these namespaces as they are here, whatever the API server knows of them.
    #[must_use]
    pub fn with_namespaces(self, known: BTreeMap<String, Labels>) -> Self {
        Self { known, ..self }
    }

    /// Only the API server knows a kind's plural and scope. They don't change while it has the kind, and are asked for once; that it has not is asked again.
    async fn plural(&self, api_version: &str, kind: &str) -> Result<(ApiResource, Scope), String> {
        let key = (api_version.to_owned(), kind.to_owned());
        let known = self
            .kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let asked = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = discovery::pinned_kind(&self.client, &asked)
            .await
            .map_err(|error| said(&error))?;
        let found = (resource, capabilities.scope);
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.insert(key, found.clone());
        Ok(found)
    }

    /// The API of a kind: the namespace's, or the cluster's where the kind belongs to none.
    async fn kind(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
    ) -> Result<(Api<DynamicObject>, ApiResource), String> {
        let (resource, scope) = self.plural(api_version, kind).await?;
        let api = match scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        Ok((api, resource))
    }

    /// All objects of a kind, or one more than a policy gets, to see that there are more.
    ///
    /// As the API server's own cache has them: it lags by milliseconds, as it does for Kubernetes' own quotas. Whoever asks for the latest instead waits until the
    /// cache of this kind has heard of whatever was written last in the whole cluster, for which etcd is asked every 100 ms only. That is done where the cache,
    /// which knows no limit, has too many, or says nothing, as until it is filled.
    async fn list(&self, api: &Api<DynamicObject>) -> Result<ObjectList<DynamicObject>, String> {
        let url = api.resource_url();
        if !self.uncached.contains_key(url) {
            if let Ok(Ok(Some(list))) = timeout(FILLED, self.cached(url)).await
                && list.items.len() <= OBJECTS
            {
                return Ok(list);
            }
            self.uncached.insert(url.to_owned(), ()).await;
        }
        let few = u32::try_from(OBJECTS).unwrap_or(u32::MAX).saturating_add(1);
        let list = api.list(&ListParams::default().limit(few)).await;
        let list = list.map_err(|error| said(&error))?;
        if list.metadata.continue_.as_ref().is_some_and(|more| !more.is_empty()) && list.items.len() <= OBJECTS {
            return Err("the API server gave a part of them only".to_owned());
        }
        Ok(list)
    }

    /// What the API server's cache has; none where that is longer than any list that a policy gets.
    async fn cached(&self, url: &str) -> Result<Option<ObjectList<DynamicObject>>, kube::Error> {
        let any = Request::new(url).list(&ListParams::default().match_any());
        let any = any.map_err(kube::Error::BuildRequest)?;
        let mut answer = pin!(self.client.request_stream(any).await?.take(WHOLE as u64 + 1));
        let mut list = Vec::new();
        answer.read_to_end(&mut list).await.map_err(kube::Error::ReadEvents)?;
        if list.len() > WHOLE {
            return Ok(None);
        }
        serde_json::from_slice(&list).map(Some).map_err(kube::Error::SerdeError)
    }
}

#[async_trait]
impl ClusterReader for ApiReader {
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<AccountFacts>, String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let account = api.get_opt(name).await.map_err(|error| said(&error))?;
        Ok(account.map(|account| AccountFacts {
            annotations: account.annotations().clone(),
            labels: account.labels().clone(),
            secrets: account
                .secrets
                .into_iter()
                .flatten()
                .filter_map(|secret| secret.name)
                .collect(),
        }))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretFacts>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get_opt(name).await.map_err(|error| said(&error))?;
        Ok(secret.map(|secret| SecretFacts {
            annotations: secret.annotations().clone(),
            labels: secret.labels().clone(),
            keys: secret.data.into_iter().flatten().map(|(key, _)| key).collect(),
        }))
    }

    async fn namespace(&self, name: &str) -> Result<Option<Labels>, String> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = api.get_metadata_opt(name).await.map_err(|error| said(&error))?;
        Ok(found.map(|namespace| namespace.labels().clone()))
    }

    fn watched_namespace(&self, name: &str) -> Option<Labels> {
        self.known.get(name).cloned()
    }

    async fn object(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String> {
        let (api, _) = self.kind(namespace, api_version, kind).await?;
        let object = api.get_opt(name).await.map_err(|error| said(&error))?;
        let object = object.map(serde_json::to_value).transpose();
        Ok(object.map_err(|error| error.to_string())?.map(object_as_text))
    }

    async fn objects(&self, namespace: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String> {
        let (api, resource) = self.kind(namespace, api_version, kind).await?;
        let mut list = self.list(&api).await?;
        // Not every API server's cache is in order.
        list.items.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let objects: Result<Vec<_>, _> = list
            .items
            .into_iter()
            .map(|mut object| {
                // The items of a list don't say what they are.
                object.types.get_or_insert_with(|| TypeMeta {
                    api_version: resource.api_version.clone(),
                    kind: resource.kind.clone(),
                });
                serde_json::to_value(object)
            })
            .collect();
        objects_as_texts(objects.map_err(|error| error.to_string())?)
    }
}

/// The API server's own words where it answered.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
