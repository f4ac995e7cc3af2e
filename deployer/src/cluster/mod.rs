//! The way to an API server.

mod error;
pub mod kinds;
mod objects;
mod patch;
mod rights;
mod schema;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use tonic::codegen::http::header::DATE;
use tonic::codegen::http::{Request, Response};

pub use error::{Attempt, Error};
pub use kinds::Kind;
pub(crate) use objects::has_condition;
pub use objects::is_object_name;
pub use schema::Schema;

use crate::proxy::Proxy;

/// How long an API server may take to be reached, and then to answer.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_mins(1);
/// Objects in one answer: a Secret may weigh a megabyte.
const PAGE: u32 = 250;

/// Which cluster is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The kubeconfig; by default `$KUBECONFIG`, then `~/.kube/config`, then the Pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it; by default the current one.
    pub context: Option<String>,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    streams: Client,
    namespace: String,
    server: String,
}

impl Cluster {
    /// Reads the kubeconfig. The API server is not asked yet.
    ///
    /// # Errors
    /// [`Error::NoCluster`] and [`Error::NoContext`].
    pub async fn connect(access: &Access) -> Result<Self, Error> {
        // Programs that are built together share the features of rustls, and then it asks for the process's provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (mut config, proxy) = config(access).await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        config.reset_reader_on_write = true;
        let (namespace, server) = (config.default_namespace.clone(), config.cluster_url.to_string());
        let server = server.trim_end_matches('/');
        let server = match proxy {
            // Either of both may be the one that doesn't answer.
            Some(proxy) => format!("{server} (by the proxy {proxy})"),
            None => server.to_owned(),
        };
        let client = |config: Config| {
            Client::try_from(config).map_err(|error| Error::NoCluster {
                reason: error.to_string(),
            })
        };
        // Whoever follows a log, or waits for a model's answer, hears nothing for minutes.
        let mut patient = config.clone();
        patient.read_timeout = None;
        Ok(Self {
            streams: client(patient)?,
            ..Self::new(client(config)?, namespace, server)
        })
    }

    /// With a client that is there already; `server` is how errors call it.
    pub fn new(client: Client, namespace: String, server: String) -> Self {
        Self {
            streams: client.clone(),
            client,
            namespace,
            server,
        }
    }

    /// None at all, for what can be done without one: whatever is asked of it fails for this reason.
    pub fn none(reason: &Error) -> Self {
        let reason = reason.to_string();
        let service = tower::service_fn(move |_: Request<Body>| {
            let error = std::io::Error::other(reason.clone());
            async move { Err::<Response<Body>, _>(error) }
        });
        Self::new(
            Client::new(service, "default"),
            "default".to_owned(),
            "(none)".to_owned(),
        )
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A client that waits as long as it takes: for logs that are followed, and ports that are forwarded.
    pub(crate) fn streams(&self) -> &Client {
        &self.streams
    }

    /// The context's namespace; `default` where it names none.
    pub fn default_namespace(&self) -> &str {
        &self.namespace
    }

    /// The time by the API server's clock, for what it stamped: this machine's may be minutes off. Where it doesn't say, by this machine's.
    pub(crate) async fn now(&self) -> Timestamp {
        let asked = Request::get("/version").body(Body::empty());
        let answer = match asked {
            Ok(request) => self.client.send(request).await.ok(),
            Err(_) => None,
        };
        let date = answer.and_then(|answer| {
            let date = answer.headers().get(DATE)?.to_str().ok()?;
            rfc2822::parse(date).ok()
        });
        date.map_or_else(Timestamp::now, |date| date.timestamp())
    }

    /// All objects of a kind, in a namespace or in all of them.
    ///
    /// # Errors
    /// Where the API server doesn't know the kind, says no, or says nothing.
    pub async fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Result<Vec<DynamicObject>, Error> {
        let attempt = Attempt::list(kind, namespace);
        self.pages(&self.api(kind, namespace), attempt, ListParams::default())
            .await
    }

    /// The same of a kind that a cluster needn't have: none there, none listed.
    ///
    /// # Errors
    /// As [`Self::list`], but for a kind that isn't known.
    pub async fn list_if_known(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<Vec<DynamicObject>, Error> {
        match self.list(kind, namespace).await {
            Err(Error::UnknownKind { .. }) => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Whether there is any object of a kind.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn any(&self, kind: &'static Kind, namespace: Option<&str>) -> Result<bool, Error> {
        let listed = self
            .api(kind, namespace)
            .list(&ListParams::default().limit(1))
            .await
            .map_err(|error| self.failed(Attempt::list(kind, namespace), &error))?;
        Ok(!listed.items.is_empty())
    }

    /// Whether the API server has a group in this version, such as `serving.knative.dev/v1`; none where it doesn't say.
    pub(crate) async fn serves(&self, group_version: &str) -> Option<bool> {
        match self.client.list_api_group_resources(group_version).await {
            Ok(_) => Some(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Some(false),
            Err(_) => None,
        }
    }

    /// Whether a namespace is there.
    ///
    /// # Errors
    /// Where the API server says no, or says nothing.
    pub async fn has_namespace(&self, name: &str) -> Result<bool, Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = api.get_metadata_opt(name).await;
        let found = found.map_err(|error| self.failed(Attempt::get(&kinds::NAMESPACE, None, name), &error))?;
        Ok(found.is_some())
    }

    /// Asks for objects of a kind.
    pub(crate) fn api(&self, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = kind.resource();
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Every page of a list.
    pub(crate) async fn pages<K>(&self, api: &Api<K>, attempt: Attempt, params: ListParams) -> Result<Vec<K>, Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut params = params.limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = api.list(&params).await;
            let page = page.map_err(|error| self.failed(attempt.clone(), &error))?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(all),
            }
        }
    }

    /// What became of an attempt.
    pub(crate) fn failed(&self, attempt: Attempt, error: &kube::Error) -> Error {
        Error::of(attempt, &self.server, error)
    }
}

/// The configuration, and the proxy that it goes by.
async fn config(access: &Access) -> Result<(Config, Option<Proxy>), Error> {
    let read = match &access.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => read(std::env::var_os("KUBECONFIG").as_deref()),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(error) => {
            // In a Pod there is none, and the ServiceAccount is what was meant.
            let missing = matches!(error, KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath);
            if missing
                && access == &Access::default()
                && let Ok(config) = Config::incluster()
            {
                return Ok((config, None));
            }
            let reason = match error {
                KubeconfigError::ReadConfig(error, file) => format!("can't read {}: {error}", file.display()),
                error => error.to_string(),
            };
            return Err(Error::NoCluster { reason });
        }
    };
    let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    if let Some(name) = &access.context
        && !known.contains(name)
    {
        return Err(Error::NoContext {
            name: name.clone(),
            known,
        });
    }
    let options = KubeConfigOptions {
        context: access.context.clone(),
        ..KubeConfigOptions::default()
    };
    let own = own_proxy(&kubeconfig, access.context.as_deref());
    let no_cluster = |reason: String| Error::NoCluster { reason };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.map_err(|error| {
        no_cluster(match error {
            KubeconfigError::ParseNoProxy(error) => {
                format!("NO_PROXY has to be hosts, .suffixes and networks with one comma between two ({error})")
            }
            error => error.to_string(),
        })
    })?;
    // What kube would take: the same, but for `NO_PROXY`, which it holds against the proxy's own address. Kubectl heeds it where the environment names the proxy.
    let proxy = match own {
        Some(url) => Some(Proxy::parse(&url).ok_or_else(|| {
            no_cluster("the kubeconfig's proxy-url is none of http://, https:// and socks5://".to_owned())
        })?),
        None => Proxy::of_environment(&config.cluster_url, |name| std::env::var(name).ok()),
    };
    config.proxy_url = proxy.as_ref().map(|proxy| proxy.expose().clone());
    Ok((config, proxy))
}

/// Of the files that `KUBECONFIG` lists those that are there, as kubectl reads them; kube wants each. Where none is there, or listed, kube says what it misses.
fn read(listed: Option<&OsStr>) -> Result<Kubeconfig, KubeconfigError> {
    let files = listed.into_iter().flat_map(std::env::split_paths);
    // One that can't be looked at is there, for all that is known.
    let is_there = |file: &PathBuf| !file.as_os_str().is_empty() && file.try_exists().unwrap_or(true);
    let mut there = files.filter(is_there).peekable();
    if there.peek().is_none() {
        return Kubeconfig::read();
    }
    there.try_fold(Kubeconfig::default(), |merged, file| {
        merged.merge(Kubeconfig::read_from(file)?)
    })
}

/// The `proxy-url` of a context's cluster.
fn own_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let context = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?;
    let cluster = &context.context.as_ref()?.cluster;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == *cluster)?;
    let url = cluster.cluster.as_ref()?.proxy_url.clone();
    url.filter(|url| !url.is_empty())
}

impl Kind {
    fn resource(&self) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, self.version, self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_context_that_is_not_there_is_told_with_those_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("config");
        let told = async |text: &str| {
            fs::write(&kubeconfig, text).unwrap();
            let access = Access {
                kubeconfig: Some(kubeconfig.clone()),
                context: Some("elsewhere".to_owned()),
            };
            let error = Cluster::connect(&access).await.err().unwrap();
            format!("{error}; {}", error.next())
        };
        let context = |name: &str| format!("{{name: {name}, context: {{cluster: x, user: x}}}}");
        let text = format!("contexts: [{}, {}]", context("test"), context("prod"));
        assert_eq!(
            told(&text).await,
            "the kubeconfig has no context `elsewhere`; it has test, prod"
        );
        assert_eq!(
            told("contexts: []").await,
            "the kubeconfig has no context `elsewhere`; it has none at all; name another one by --kubeconfig"
        );
        fs::remove_file(&kubeconfig).unwrap();
        let access = Access {
            kubeconfig: Some(kubeconfig.clone()),
            context: None,
        };
        let error = Cluster::connect(&access).await.err().unwrap();
        let told = format!("{error}; {}", error.next());
        assert!(
            told.starts_with(&format!("no cluster to work on: can't read {}", kubeconfig.display())),
            "{told}"
        );
        assert!(
            told.contains("; name a kubeconfig by --kubeconfig or KUBECONFIG"),
            "{told}"
        );
    }

    #[test]
    fn of_several_kubeconfigs_those_that_are_there_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            fs::write(file(name), format!("current-context: {name}")).unwrap();
        }
        let of = |names: &[&str]| {
            let listed = std::env::join_paths(names.iter().map(|name| file(name))).unwrap();
            super::read(Some(&listed)).map(|read| read.current_context)
        };
        assert_eq!(of(&["missing", "b", "a"]).unwrap().as_deref(), Some("b"));
        assert_eq!(of(&["a", "missing"]).unwrap().as_deref(), Some("a"));
        // One that is there, and none.
        fs::write(file("b"), "[").unwrap();
        assert!(of(&["missing", "b"]).is_err());
    }

    #[tokio::test]
    async fn the_time_is_the_api_servers() {
        let told = async |date: Option<&'static str>| {
            let service = tower::service_fn(move |_: Request<Body>| async move {
                let answer = date
                    .into_iter()
                    .fold(Response::builder(), |answer, date| answer.header(DATE, date));
                answer.body(Body::from(b"{}".to_vec()))
            });
            let client = Client::new(service, "default");
            let cluster = Cluster::new(client, "default".to_owned(), "https://k8s".to_owned());
            cluster.now().await
        };
        let date = told(Some("Fri, 27 Nov 2026 20:30:00 GMT")).await;
        assert_eq!(date, "2026-11-27T20:30:00Z".parse().unwrap());
        let here = Timestamp::now();
        for none in [None, Some("yesterday")] {
            assert!(told(none).await >= here);
        }
    }

    #[tokio::test]
    async fn a_proxy_of_the_kubeconfig_is_gone_by_and_its_password_told_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("config");
        let connect = async |proxy: &str| {
            let text = format!(
                "{{current-context: x, contexts: [{{name: x, context: {{cluster: x, user: x}}}}], \
                 clusters: [{{name: x, cluster: {{server: 'https://k8s.invalid:6443', proxy-url: '{proxy}'}}}}]}}"
            );
            fs::write(&kubeconfig, text).unwrap();
            let access = Access {
                kubeconfig: Some(kubeconfig.clone()),
                context: None,
            };
            Cluster::connect(&access).await
        };
        // Nobody listens there.
        for proxy in ["http://eve:hunter2@127.0.0.1:9", "socks5://eve:hunter2@127.0.0.1:9"] {
            let error = connect(proxy).await.unwrap().has_namespace("x").await.unwrap_err();
            let told = format!("{error}; {}", error.next());
            assert!(!told.contains("hunter2"), "{told}");
            assert!(told.contains("https://k8s.invalid:6443 (by the proxy "), "{told}");
        }
        let error = connect("ftp://eve:hunter2@proxy").await.err().unwrap().to_string();
        assert!(error.contains("proxy-url") && !error.contains("hunter2"), "{error}");
    }
}
