//! What is in the cluster now.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{DynamicObject, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidewaiter_core::backend::CA_BUNDLE_KEY;
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_core::kserve_config::{CONFIG_MAP, KserveConfig};

use super::{Data, Defaults};
use crate::cluster::kinds::{self, Kind};
use crate::cluster::{Attempt, Cluster, Error};

/// Kinds of Secrets that hold no key of a store, and may weigh a lot: Helm keeps its releases in them.
const OTHERS: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=kubernetes.io/dockerconfigjson,type!=kubernetes.io/tls";
/// Names a ConfigMap with certificate authorities.
const BUNDLE_ANNOTATION: &str = "serving.kserve.io/s3-cabundle-configmap";

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The namespaces whose Secrets are looked at; none for all.
    pub from: Vec<String>,
    /// Tidewaiter's own.
    pub tidewaiter: String,
    /// KServe's own.
    pub kserve: String,
}

/// What an import works from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// KServe's configuration.
    pub kserve: Kserve,
    /// Of the users' namespaces and of Tidewaiter's.
    pub secrets: Vec<FoundSecret>,
    /// Of the users' namespaces.
    pub accounts: Vec<FoundAccount>,
    /// Of the users' namespaces.
    pub services: Vec<FoundService>,
    /// Certificate authorities that Secrets name, by namespace and ConfigMap.
    pub bundles: BTreeMap<(String, String), String>,
    /// All that are there.
    pub backends: Vec<FoundBackend>,
    /// Labels, where a backend's grants select by them.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// KServe's configuration, as far as it says how a Secret is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kserve {
    /// Names of keys and annotations.
    pub config: KserveConfig,
    /// Stores' settings where a Secret has none.
    pub s3: Defaults,
}

/// A Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// What it holds.
    pub data: Data,
}

/// A `ServiceAccount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The Secrets that it lists, in order.
    pub secrets: Vec<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundService {
    /// `InferenceService` or `LLMInferenceService`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The whole object.
    pub json: String,
}

/// A `StorageBackend`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBackend {
    /// Its name.
    pub name: String,
    /// Its spec, whatever it holds.
    pub spec: Value,
    /// Who would undo a change that is made here: Helm, Argo CD or Flux.
    pub kept_by: Option<&'static str>,
    /// Its version.
    pub resource_version: Option<String>,
}

/// Reads what an import works from.
///
/// # Errors
/// What can't be read. A cluster without `LLMInferenceService`s is none, and neither is one whose KServe has no configuration yet.
pub async fn read(cluster: &Cluster, scope: &Scope) -> Result<Found, Error> {
    let backends = cluster.list(&kinds::STORAGE_BACKEND, None).await?;
    let backends: Vec<_> = backends.iter().map(backend).collect();
    let mut found = Found {
        kserve: kserve(cluster, &scope.kserve).await?,
        ..Found::default()
    };
    let all = [None];
    let named: Vec<Option<&str>> = scope.from.iter().map(|name| Some(name.as_str())).collect();
    let namespaces: &[Option<&str>] = if named.is_empty() { &all } else { &named };
    for namespace in namespaces {
        for kind in [&kinds::INFERENCE_SERVICE, &kinds::LLM_INFERENCE_SERVICE] {
            let services = if kind == &kinds::INFERENCE_SERVICE {
                cluster.list(kind, *namespace).await?
            } else {
                cluster.list_if_known(kind, *namespace).await?
            };
            found
                .services
                .extend(services.iter().filter_map(|object| service(kind.kind, object)));
        }
        let accounts: Vec<ServiceAccount> = list(cluster, &kinds::SERVICE_ACCOUNT, *namespace, "").await?;
        found.accounts.extend(accounts.into_iter().map(account));
        let secrets: Vec<Secret> = list(cluster, &kinds::SECRET, *namespace, OTHERS).await?;
        found.secrets.extend(secrets.into_iter().map(secret));
    }
    if !scope.from.is_empty() && !scope.from.contains(&scope.tidewaiter) {
        let own: Vec<Secret> = list(cluster, &kinds::SECRET, Some(&scope.tidewaiter), OTHERS).await?;
        found.secrets.extend(own.into_iter().map(secret));
    }
    sources(cluster, &backends, &mut found).await?;
    bundles(cluster, &mut found).await?;
    if selects_by_labels(&backends) {
        let named = cluster.list(&kinds::NAMESPACE, None).await?;
        found.namespaces = named
            .into_iter()
            .map(|namespace| (namespace.name_any(), namespace.labels().clone()))
            .collect();
    }
    found.backends = backends;
    Ok(found)
}

async fn kserve(cluster: &Cluster, namespace: &str) -> Result<Kserve, Error> {
    let map: Option<ConfigMap> = get(cluster, &kinds::CONFIG_MAP, namespace, CONFIG_MAP).await?;
    Ok(map
        .and_then(|map| map.data)
        .map_or_else(Kserve::default, |data| Kserve {
            config: KserveConfig::parse(&data, None).0,
            s3: Defaults::parse(&data),
        }))
}

/// The Secrets that backends name, where they are not read yet.
async fn sources(cluster: &Cluster, backends: &[FoundBackend], found: &mut Found) -> Result<(), Error> {
    let named = backends.iter().filter_map(|backend| {
        let reference = &backend.spec["credentials"]["secretRef"];
        Some((
            reference["namespace"].as_str()?.to_owned(),
            reference["name"].as_str()?.to_owned(),
        ))
    });
    for (namespace, name) in named.collect::<BTreeSet<_>>() {
        let read = |known: &FoundSecret| known.namespace == namespace && known.name == name;
        if !found.secrets.iter().any(read)
            && let Some(one) = get(cluster, &kinds::SECRET, &namespace, &name).await?
        {
            found.secrets.push(secret(one));
        }
    }
    Ok(())
}

async fn bundles(cluster: &Cluster, found: &mut Found) -> Result<(), Error> {
    let named = found.secrets.iter().filter_map(|secret| {
        let name = secret.annotations.get(BUNDLE_ANNOTATION)?;
        Some((secret.namespace.clone(), name.clone()))
    });
    for (namespace, name) in named.collect::<BTreeSet<_>>() {
        let map: Option<ConfigMap> = get(cluster, &kinds::CONFIG_MAP, &namespace, &name).await?;
        if let Some(pem) = map.and_then(|map| map.data?.remove(CA_BUNDLE_KEY)) {
            found.bundles.insert((namespace, name), pem);
        }
    }
    Ok(())
}

fn selects_by_labels(backends: &[FoundBackend]) -> bool {
    let grants = backends
        .iter()
        .flat_map(|backend| backend.spec["grants"].as_array().into_iter().flatten());
    grants.into_iter().any(|grant| !grant["namespaceSelector"].is_null())
}

async fn list<K>(cluster: &Cluster, kind: &'static Kind, namespace: Option<&str>, fields: &str) -> Result<Vec<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(cluster.client().clone(), namespace),
        None => Api::all(cluster.client().clone()),
    };
    let params = ListParams::default().fields(fields);
    cluster.pages(&api, Attempt::list(kind, namespace), params).await
}

async fn get<K>(cluster: &Cluster, kind: &'static Kind, namespace: &str, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(cluster.client().clone(), namespace);
    let found = api.get_opt(name).await;
    found.map_err(|error| cluster.failed(Attempt::named("get", kind, Some(namespace), name), &error))
}

fn secret(secret: Secret) -> FoundSecret {
    let data = secret.data.unwrap_or_default();
    FoundSecret {
        namespace: secret.metadata.namespace.unwrap_or_default(),
        name: secret.metadata.name.unwrap_or_default(),
        labels: secret.metadata.labels.unwrap_or_default(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
        data: data
            .into_iter()
            .map(|(key, value)| (key, SecretValue::from(value.0.as_slice())))
            .collect(),
    }
}

fn account(account: ServiceAccount) -> FoundAccount {
    let secrets = account.secrets.into_iter().flatten();
    FoundAccount {
        namespace: account.metadata.namespace.unwrap_or_default(),
        name: account.metadata.name.unwrap_or_default(),
        secrets: secrets.filter_map(|secret| secret.name).collect(),
    }
}

fn service(kind: &'static str, object: &DynamicObject) -> Option<FoundService> {
    Some(FoundService {
        kind,
        namespace: object.namespace()?,
        name: object.name_any(),
        json: serde_json::to_string(object).ok()?,
    })
}

fn backend(object: &DynamicObject) -> FoundBackend {
    FoundBackend {
        name: object.name_any(),
        spec: object.data.get("spec").cloned().unwrap_or_default(),
        kept_by: kept_by(object),
        resource_version: object.resource_version(),
    }
}

/// By the marks that these tools leave on what they apply.
fn kept_by(object: &DynamicObject) -> Option<&'static str> {
    let (labels, annotations) = (object.labels(), object.annotations());
    if labels
        .get("app.kubernetes.io/managed-by")
        .is_some_and(|by| by == "Helm")
    {
        return Some("Helm");
    }
    if labels.contains_key("argocd.argoproj.io/instance") || annotations.contains_key("argocd.argoproj.io/tracking-id")
    {
        return Some("Argo CD");
    }
    ["kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"]
        .iter()
        .any(|label| labels.contains_key(*label))
        .then_some("Flux")
}
