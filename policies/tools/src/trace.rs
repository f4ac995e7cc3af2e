//! What a policy asked the world, what it was told, and how long that took.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use tidewaiter_core::lines;
use tidewaiter_engine::outcome::Run;
use tidewaiter_engine::world::{
    Brought, Label, Listing, ObjectInfo, Release, Resolution, Runtime, StorageError, World,
};

/// Characters of an argument or an answer.
const WORDS: usize = 160;

/// One call of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostCall {
    /// Such as `storage.stat`.
    pub function: &'static str,
    /// Its arguments, for people.
    pub arguments: String,
    /// The answer, for people. What lies in stores and objects is told by its size.
    pub answer: String,
    /// When it was asked.
    #[serde(skip)]
    pub began: Instant,
    /// How long it took, in microseconds.
    #[serde(serialize_with = "micros", rename = "micros")]
    pub took: Duration,
}

fn micros<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// A world that notes down what it is asked.
pub struct Traced {
    world: Arc<dyn World>,
    calls: Mutex<Vec<HostCall>>,
}

impl Traced {
    /// Nothing was asked yet.
    pub fn new(world: Arc<dyn World>) -> Arc<Self> {
        Arc::new(Self {
            world,
            calls: Mutex::default(),
        })
    }

    /// What was asked so far.
    pub fn calls(&self) -> Vec<HostCall> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn note<T>(
        &self,
        function: &'static str,
        arguments: String,
        asked: impl Future<Output = T>,
        told: impl FnOnce(&T) -> String,
    ) -> T {
        let began = Instant::now();
        let answer = asked.await;
        let call = HostCall {
            function,
            arguments: lines::cut(&arguments, WORDS),
            answer: lines::cut(&told(&answer), WORDS),
            began,
            took: began.elapsed(),
        };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        answer
    }
}

/// The calls that belong to one policy's run: policies run one after the other.
pub fn during<'c>(calls: &'c [HostCall], run: &Run) -> impl Iterator<Item = &'c HostCall> {
    let (began, ended) = (run.began, run.began + run.took);
    calls
        .iter()
        .filter(move |call| call.began >= began && call.began <= ended)
}

#[async_trait]
impl World for Traced {
    async fn resolve(&self, uri: &str) -> Resolution {
        self.note("storage.resolve", uri.to_owned(), self.world.resolve(uri), resolution)
            .await
    }

    fn secret_annotation(&self) -> Option<String> {
        self.world.secret_annotation()
    }

    async fn brought_credentials(&self, service_account: Option<&str>, secret: Option<&str>) -> Brought {
        let arguments = match (service_account, secret) {
            (_, Some(secret)) => format!("Secret {secret}"),
            (Some(account), None) => format!("ServiceAccount {account}"),
            (None, None) => "the default ServiceAccount".to_owned(),
        };
        let asked = self.world.brought_credentials(service_account, secret);
        self.note("storage.brought-credentials", arguments, asked, |answer| match answer {
            Brought::Nothing => "nothing".to_owned(),
            Brought::Usable(what) => format!("usable: {what}"),
            Brought::Missing(what) => format!("missing: {what}"),
            Brought::Managed(names) => format!("Tidewaiter's own: {}", names.join(", ")),
            Brought::Unknown(why) => format!("unknown: {why}"),
        })
        .await
    }

    async fn stat(&self, uri: &str) -> Result<ObjectInfo, StorageError> {
        let asked = self.world.stat(uri);
        self.note("storage.stat", uri.to_owned(), asked, |answer| {
            told(answer, |object| format!("{} bytes", object.size))
        })
        .await
    }

    async fn list_objects(&self, uri: &str, limit: u32) -> Result<Listing, StorageError> {
        let asked = self.world.list_objects(uri, limit);
        let arguments = format!("{uri}, at most {limit}");
        self.note("storage.list-objects", arguments, asked, |answer| told(answer, listing))
            .await
    }

    async fn read(&self, uri: &str, offset: u64, length: u32) -> Result<Bytes, StorageError> {
        let asked = self.world.read(uri, offset, length);
        let arguments = format!("{uri}, {length} bytes from {offset}");
        self.note("storage.read", arguments, asked, |answer| {
            told(answer, |bytes| format!("{} bytes", bytes.len()))
        })
        .await
    }

    async fn list_folder(&self, uri: &str, limit: u32) -> Result<Listing, StorageError> {
        let asked = self.world.list_folder(uri, limit);
        let arguments = format!("{uri}, at most {limit}");
        self.note("storage.list-folder", arguments, asked, |answer| told(answer, listing))
            .await
    }

    async fn supporting(&self, format: &str, version: Option<&str>) -> Vec<Runtime> {
        let mut arguments = format.to_owned();
        if let Some(version) = version {
            let _ = write!(arguments, " {version}");
        }
        let asked = self.world.supporting(format, version);
        self.note("runtimes.supporting", arguments, asked, |answer| {
            listed(answer.iter().map(|runtime| runtime.name.as_str()))
        })
        .await
    }

    async fn named(&self, name: &str) -> Option<Runtime> {
        let asked = self.world.named(name);
        self.note("runtimes.named", name.to_owned(), asked, |answer| match answer {
            Some(runtime) => format!("{}:{}", runtime.repository, runtime.tag),
            None => "none".to_owned(),
        })
        .await
    }

    async fn runtime_spec(&self, name: &str) -> Option<String> {
        let asked = self.world.runtime_spec(name);
        self.note("runtimes.spec", name.to_owned(), asked, sized).await
    }

    async fn release_of(&self, repository: &str, tag: &str, packages: &[String]) -> Option<Release> {
        let asked = self.world.release_of(repository, tag, packages);
        let arguments = format!("{repository}:{tag}, {}", listed(packages.iter().map(String::as_str)));
        self.note("runtimes.release-of", arguments, asked, |answer| match answer {
            Some(one) => release(one),
            None => "not in the catalogue".to_owned(),
        })
        .await
    }

    async fn releases(&self, repository: &str, packages: &[String]) -> Vec<Release> {
        let asked = self.world.releases(repository, packages);
        let arguments = format!("{repository}, {}", listed(packages.iter().map(String::as_str)));
        self.note("runtimes.releases", arguments, asked, |answer| {
            listed(answer.iter().map(|release| release.tag.as_str()))
        })
        .await
    }

    async fn lacking(&self, repository: &str, packages: &[String]) -> Vec<String> {
        let asked = self.world.lacking(repository, packages);
        let arguments = format!("{repository}, {}", listed(packages.iter().map(String::as_str)));
        self.note("runtimes.lacking", arguments, asked, |answer| {
            listed(answer.iter().map(String::as_str))
        })
        .await
    }

    async fn namespace_labels(&self) -> Vec<Label> {
        let asked = self.world.namespace_labels();
        self.note("cluster.namespace-labels", String::new(), asked, |answer| {
            let labels: Vec<_> = answer
                .iter()
                .map(|label| format!("{}={}", label.key, label.value))
                .collect();
            listed(labels.iter().map(String::as_str))
        })
        .await
    }

    async fn node_architectures(&self) -> Vec<String> {
        let asked = self.world.node_architectures();
        self.note("cluster.node-architectures", String::new(), asked, |answer| {
            listed(answer.iter().map(String::as_str))
        })
        .await
    }

    async fn get_object(
        &self,
        policy: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String> {
        let asked = self.world.get_object(policy, api_version, kind, name);
        let arguments = format!("{api_version} {kind} {name}");
        self.note("cluster.get-object", arguments, asked, |answer| match answer {
            Ok(text) => sized(text),
            Err(reason) => format!("error: {reason}"),
        })
        .await
    }

    async fn cluster_objects(&self, policy: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String> {
        let asked = self.world.cluster_objects(policy, api_version, kind);
        let arguments = format!("{api_version} {kind}");
        self.note("cluster.list-objects", arguments, asked, |answer| match answer {
            Ok(objects) => format!("{} objects", objects.len()),
            Err(reason) => format!("error: {reason}"),
        })
        .await
    }

    async fn kserve_config(&self, key: &str) -> Option<String> {
        let asked = self.world.kserve_config(key);
        self.note("cluster.kserve-config", key.to_owned(), asked, sized).await
    }
}

fn listing(listing: &Listing) -> String {
    let more = if listing.truncated { ", and there are more" } else { "" };
    format!("{} objects{more}", listing.objects.len())
}

#[allow(clippy::ref_option, reason = "it is told of the answer as the world gives it")]
fn sized(text: &Option<String>) -> String {
    text.as_ref()
        .map_or_else(|| "none".to_owned(), |text| format!("{} bytes", text.len()))
}

fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn release(release: &Release) -> String {
    let packages: Vec<_> = release
        .packages
        .iter()
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    format!(
        "Python {}, {}",
        release.python,
        listed(packages.iter().map(String::as_str))
    )
}

fn resolution(resolution: &Resolution) -> String {
    match resolution {
        Resolution::Served(served) => format!("served by {}", served.backend),
        Resolution::OwnSecret(secret) => format!("the namespace's own Secret {secret}"),
        Resolution::NotGranted(no) => format!("{} serves it, and not for this namespace", no.backend),
        Resolution::Unusable(unusable) => format!("{} can't be used: {}", unusable.backend, unusable.reason),
        Resolution::Unserved => "no backend serves it".to_owned(),
        Resolution::NoCredentials => "needs no credentials".to_owned(),
        Resolution::Unsupported(reason) => format!("unsupported: {reason}"),
    }
}

fn told<T>(answer: &Result<T, StorageError>, well: impl FnOnce(&T) -> String) -> String {
    match answer {
        Ok(answer) => well(answer),
        Err(StorageError::NotFound) => "not found".to_owned(),
        Err(StorageError::Forbidden(reason)) => format!("forbidden: {reason}"),
        Err(StorageError::Unreachable(reason)) => format!("unreachable: {reason}"),
        Err(StorageError::Unserved(reason)) => format!("unserved: {reason}"),
        Err(StorageError::TooLarge(limit)) => format!("too large: {limit}"),
    }
}
