//! A world for native tests and benchmarks: says what it was told, counts what it was asked.
//!
//! ```
//! use tidewaiter_policy::{storage, testing::World};
//!
//! let world = World::new().serve("s3://mlflow/", "minio").object("s3://mlflow/1/model/MLmodel", "flavors: {}");
//! let size = world.run(|| storage::stat("s3://mlflow/1/model/MLmodel")).map(|object| object.size);
//! assert_eq!((size, world.calls().stat), (Ok(11), 1));
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;
use tidewaiter_core::document::Path;
use tidewaiter_core::kserve_config::SHIPPED_ANNOTATION;
use tidewaiter_core::lines;

use crate::cluster::Label;
use crate::log::Level;
use crate::runtimes::{PackageVersion, Release, Runtime};
use crate::storage::{Brought, Error, Listing, ObjectInfo, Resolution, Served};
use crate::{Delivery, Fill, Operation, Policy, Request, Verdict};

const READ_LIMIT: u32 = 1 << 20;
const LIST_LIMIT: u32 = 1_000;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Inner>>> = const { RefCell::new(None) };
}

/// How often each host function was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// `storage.resolve`
    pub resolve: u32,
    /// `storage.secret-annotation`
    pub secret_annotation: u32,
    /// `storage.brought-credentials`
    pub brought_credentials: u32,
    /// `storage.stat`
    pub stat: u32,
    /// `storage.list-objects`
    pub list_objects: u32,
    /// `storage.read`
    pub read: u32,
    /// `storage.list-folder`
    pub list_folder: u32,
    /// `runtimes.supporting`
    pub supporting: u32,
    /// `runtimes.named`
    pub named: u32,
    /// `runtimes.release-of`
    pub release_of: u32,
    /// `runtimes.releases`
    pub releases: u32,
    /// `runtimes.spec`
    pub spec: u32,
    /// `runtimes.lacking`
    pub lacking: u32,
    /// Everything in `cluster`.
    pub cluster: u32,
    /// `log.write`
    pub log: u32,
}

impl Calls {
    /// Calls that reach out to a store: stat, both lists, read.
    pub fn to_stores(&self) -> u32 {
        self.stat + self.list_objects + self.list_folder + self.read
    }
}

#[derive(Clone, Default)]
struct Inner {
    resolutions: BTreeMap<String, Resolution>,
    secret_annotation: Option<String>,
    brought: Vec<(Option<String>, Option<String>, Brought)>,
    objects: BTreeMap<String, Vec<u8>>,
    failures: BTreeMap<String, Error>,
    runtimes: Vec<(String, Option<String>, Runtime)>,
    releases: BTreeMap<String, Vec<Release>>,
    specs: BTreeMap<String, String>,
    holds: BTreeMap<String, Vec<String>>,
    kserve_config: BTreeMap<String, String>,
    unread: BTreeMap<String, String>,
    labels: Vec<Label>,
    architectures: Vec<String>,
    cluster_objects: BTreeMap<(String, String, String), String>,
    calls: RefCell<Calls>,
    lines: RefCell<Vec<(Level, String)>>,
}

/// A world to be told, then asked. Everything that wasn't told is absent: URIs are unserved, nobody brought credentials, there are no
/// runtimes. KServe is configured as it is shipped.
#[derive(Clone)]
pub struct World(Rc<Inner>);

impl Default for World {
    fn default() -> Self {
        Self(Rc::new(Inner {
            secret_annotation: Some(SHIPPED_ANNOTATION.to_owned()),
            ..Inner::default()
        }))
    }
}

impl World {
    /// A world in which nothing is.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Rc::make_mut(&mut self.0));
        self
    }

    /// URIs that start with `prefix` resolve to this. The longest prefix wins.
    #[must_use]
    pub fn resolve(self, prefix: &str, resolution: Resolution) -> Self {
        self.with(|inner| {
            inner.resolutions.insert(prefix.to_owned(), resolution);
        })
    }

    /// URIs that start with `prefix` are served by an S3 backend of this name, delivered by annotation: see [`served`].
    #[must_use]
    pub fn serve(self, prefix: &str, backend: &str) -> Self {
        self.resolve(prefix, Resolution::Served(served(backend)))
    }

    /// The annotation by which KServe is told of a Secret; none where its configuration names none.
    #[must_use]
    pub fn secret_annotation(self, name: Option<&str>) -> Self {
        self.with(|inner| inner.secret_annotation = name.map(str::to_owned))
    }

    /// What `brought_credentials` answers for exactly these names. Else it is [`Brought::Nothing`].
    #[must_use]
    pub fn brought(self, service_account: Option<&str>, secret: Option<&str>, brought: Brought) -> Self {
        self.with(|inner| {
            inner
                .brought
                .push((service_account.map(str::to_owned), secret.map(str::to_owned), brought))
        })
    }

    /// An object in a store. It can be read only where its URI resolves to a served one, as in the real world. An empty one whose name ends with a slash marks a
    /// folder, as the consoles of stores make them: listings name it without the slash, and by that name there is no object.
    #[must_use]
    pub fn object(self, uri: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(|inner| {
            inner.objects.insert(uri.to_owned(), bytes.into());
        })
    }

    /// Stat, list and read of URIs that start with `prefix` fail with this. The longest prefix wins.
    #[must_use]
    pub fn failing(self, prefix: &str, error: Error) -> Self {
        self.with(|inner| {
            inner.failures.insert(prefix.to_owned(), error);
        })
    }

    /// A runtime that supports this format (and version); tried in the order in which they were told. A format without a version answers
    /// only who asks without one, as in KServe.
    #[must_use]
    pub fn runtime(self, format: &str, version: Option<&str>, runtime: Runtime) -> Self {
        self.with(|inner| {
            inner
                .runtimes
                .push((format.to_owned(), version.map(str::to_owned), runtime))
        })
    }

    /// A release of an image, oldest first: its tag, its Python and the exact versions of packages in it.
    #[must_use]
    pub fn release(self, repository: &str, tag: &str, python: &str, packages: &[(&str, &str)]) -> Self {
        let packages = packages
            .iter()
            .map(|(name, version)| PackageVersion {
                name: (*name).to_owned(),
                version: (*version).to_owned(),
                exact: true,
            })
            .collect();
        self.release_as(
            repository,
            Release {
                tag: tag.to_owned(),
                python: python.to_owned(),
                packages,
                architectures: Vec::new(),
            },
        )
    }

    /// A release of an image with packages that are not known exactly.
    #[must_use]
    pub fn release_as(self, repository: &str, release: Release) -> Self {
        self.with(|inner| inner.releases.entry(repository.to_owned()).or_default().push(release))
    }

    /// The `spec` of the runtime by this name.
    #[must_use]
    pub fn runtime_spec(self, name: &str, spec: &Value) -> Self {
        self.with(|inner| {
            inner.specs.insert(name.to_owned(), spec.to_string());
        })
    }

    /// All packages in the images of a repository: what isn't there is lacking. Without it nothing is known to be.
    #[must_use]
    pub fn holds(self, repository: &str, packages: &[&str]) -> Self {
        let packages = packages.iter().map(|package| (*package).to_owned()).collect();
        self.with(|inner| {
            inner.holds.insert(repository.to_owned(), packages);
        })
    }

    /// A key of KServe's `inferenceservice-config`.
    #[must_use]
    pub fn kserve_config(self, key: &str, part: &Value) -> Self {
        self.with(|inner| {
            inner.kserve_config.insert(key.to_owned(), part.to_string());
        })
    }

    /// A label of the object's namespace.
    #[must_use]
    pub fn namespace_label(self, key: &str, value: &str) -> Self {
        self.with(|inner| {
            inner.labels.push(Label {
                key: key.to_owned(),
                value: value.to_owned(),
            })
        })
    }

    /// An architecture of the cluster's nodes.
    #[must_use]
    pub fn node_architecture(self, name: &str) -> Self {
        self.with(|inner| {
            inner.architectures.push(name.to_owned());
            inner.architectures.sort();
            inner.architectures.dedup();
        })
    }

    /// Objects of this kind can't be read, for this reason.
    #[must_use]
    pub fn unreadable(self, kind: &str, reason: &str) -> Self {
        self.with(|inner| {
            inner.unread.insert(kind.to_owned(), reason.to_owned());
        })
    }

    /// An object that `cluster::get_object` and `cluster::list_objects` find.
    #[must_use]
    pub fn cluster_object(self, api_version: &str, kind: &str, name: &str, object: &Value) -> Self {
        let key = (api_version.to_owned(), kind.to_owned(), name.to_owned());
        self.with(|inner| {
            inner.cluster_objects.insert(key, object.to_string());
        })
    }

    /// Runs `work` in this world.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Rc<Inner>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(Rc::clone(&self.0))));
        work()
    }

    /// A policy's verdict in this world, with its default settings.
    pub fn review<P: Policy>(&self, request: &Request) -> Verdict {
        self.review_with::<P>(request, &P::Settings::default())
    }

    /// A policy's verdict in this world.
    pub fn review_with<P: Policy>(&self, request: &Request, settings: &P::Settings) -> Verdict {
        self.run(|| P::review(request, settings))
    }

    /// How often each host function was called so far.
    pub fn calls(&self) -> Calls {
        *self.0.calls.borrow()
    }

    /// What was logged so far.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.0.lines.borrow().clone()
    }
}

impl Inner {
    fn resolution(&self, uri: &str) -> Resolution {
        longest(&self.resolutions, uri).cloned().unwrap_or(Resolution::Unserved)
    }

    fn readable(&self, kind: &str) -> Result<(), String> {
        self.unread.get(kind).map_or(Ok(()), |reason| Err(reason.clone()))
    }

    fn reachable(&self, uri: &str) -> Result<(), Error> {
        if let Some(error) = longest(&self.failures, uri) {
            return Err(error.clone());
        }
        match self.resolution(uri) {
            Resolution::Served(_) => Ok(()),
            Resolution::OwnSecret(name) => Err(Error::Unserved(format!(
                "Secret {name} opens it, and Tidewaiter opens nothing with Secrets of a namespace"
            ))),
            Resolution::Unusable(unusable) => Err(Error::Forbidden(format!(
                "StorageBackend {} can't be used; its admin finds why in its status",
                unusable.backend
            ))),
            _ => Err(Error::Unserved(format!(
                "no StorageBackend serves {uri} for this namespace"
            ))),
        }
    }
}

fn longest<'a, T>(map: &'a BTreeMap<String, T>, uri: &str) -> Option<&'a T> {
    map.iter()
        .filter(|(prefix, _)| uri.starts_with(prefix.as_str()))
        .max_by_key(|(prefix, _)| prefix.len())
        .map(|(_, value)| value)
}

/// An S3 backend of this name that delivers by annotation: Secret and `ServiceAccount` `tidewaiter-<name>`.
pub fn served(backend: &str) -> Served {
    Served {
        backend: backend.to_owned(),
        kind: "s3".to_owned(),
        delivery: Delivery::Annotation,
        anonymous: false,
        secret: format!("tidewaiter-{backend}"),
        service_account: format!("tidewaiter-{backend}"),
        storage_key: backend.to_owned(),
    }
}

/// The line in which a user is told of a fill: at most 120 characters, what is longer is cut. For the value and the place the engine has no other words,
/// so a reason is well measured where this isn't cut.
///
/// # Panics
/// Where path or value are none, which the engine refuses too.
pub fn line(fill: &Fill) -> String {
    let path = Path::parse(&fill.path).expect("a fill's path is a JSON Pointer to a member");
    let value = serde_json::from_str(&fill.value).expect("a fill's value is JSON");
    lines::filled(&path, &value, &fill.reason)
}

/// A runtime that may be auto-selected and isn't disabled.
pub fn runtime(name: &str, repository: &str, tag: &str, protocols: &[&str]) -> Runtime {
    Runtime {
        name: name.to_owned(),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: String::new(),
        protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        auto_select: true,
        disabled: false,
    }
}

/// The request that creates this object. Kind, API version, name and namespace are the object's own; without one, those of an
/// `InferenceService` `fraud` in `team-a`.
pub fn create(object: &Value) -> Request {
    let text = |pointer: &str, default: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or(default)
            .to_owned()
    };
    Request {
        operation: Operation::Create,
        api_version: text("/apiVersion", "serving.kserve.io/v1beta1"),
        kind: text("/kind", "InferenceService"),
        namespace: text("/metadata/namespace", "team-a"),
        name: text("/metadata/name", "fraud"),
        old_object: None,
        filled: Vec::new(),
        withheld: Vec::new(),
        username: "alice".to_owned(),
        groups: vec!["system:authenticated".to_owned()],
        object: object.to_string(),
    }
}

/// The request that updates `old` to this object. `filled` and `withheld` are for the test to set: here the engine doesn't run.
pub fn update(object: &Value, old: &Value) -> Request {
    Request {
        operation: Operation::Update,
        old_object: Some(old.to_string()),
        ..create(object)
    }
}

/// Where the functions of [`crate::storage`] and the others end natively.
pub(crate) mod host {
    use super::{Calls, Inner, Rc};

    fn asked<T>(count: impl FnOnce(&mut Calls), answer: impl FnOnce(&Inner) -> T) -> T {
        let inner = super::CURRENT.with_borrow(Option::<Rc<Inner>>::clone);
        let inner = inner.expect("a policy asked its world outside of `testing::World::run`");
        count(&mut inner.calls.borrow_mut());
        answer(&inner)
    }

    pub(crate) mod storage {
        use super::super::{Brought, Error, LIST_LIMIT, Listing, ObjectInfo, READ_LIMIT, Resolution};
        use super::asked;

        pub(crate) fn resolve(uri: &str) -> Resolution {
            asked(|calls| calls.resolve += 1, |world| world.resolution(uri))
        }

        pub(crate) fn secret_annotation() -> Option<String> {
            asked(
                |calls| calls.secret_annotation += 1,
                |world| world.secret_annotation.clone(),
            )
        }

        pub(crate) fn brought_credentials(service_account: Option<&str>, secret: Option<&str>) -> Brought {
            asked(
                |calls| calls.brought_credentials += 1,
                |world| {
                    let told = world
                        .brought
                        .iter()
                        .find(|(a, s, _)| a.as_deref() == service_account && s.as_deref() == secret);
                    told.map_or(Brought::Nothing, |(_, _, brought)| brought.clone())
                },
            )
        }

        pub(crate) fn stat(uri: &str) -> Result<ObjectInfo, Error> {
            asked(
                |calls| calls.stat += 1,
                |world| {
                    world.reachable(uri)?;
                    let bytes = world.objects.get(uri).ok_or(Error::NotFound)?;
                    Ok(ObjectInfo {
                        path: String::new(),
                        size: bytes.len() as u64,
                    })
                },
            )
        }

        pub(crate) fn list_objects(uri: &str, limit: u32) -> Result<Listing, Error> {
            asked(
                |calls| calls.list_objects += 1,
                |world| {
                    world.reachable(uri)?;
                    let folder = format!("{}/", uri.trim_end_matches('/'));
                    let mut objects: Vec<_> = world
                        .objects
                        .range(folder.clone()..)
                        .map_while(|(uri, bytes)| Some((uri.strip_prefix(&folder)?, bytes)))
                        .filter(|(path, _)| !path.is_empty())
                        .map(|(path, bytes)| ObjectInfo {
                            path: path.strip_suffix('/').unwrap_or(path).to_owned(),
                            size: bytes.len() as u64,
                        })
                        .collect();
                    let limit = limit.min(LIST_LIMIT) as usize;
                    let truncated = objects.len() > limit;
                    objects.truncate(limit);
                    Ok(Listing { objects, truncated })
                },
            )
        }

        pub(crate) fn read(uri: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
            asked(
                |calls| calls.read += 1,
                |world| {
                    world.reachable(uri)?;
                    if length > READ_LIMIT {
                        return Err(Error::TooLarge(u64::from(length)));
                    }
                    let bytes = world.objects.get(uri).ok_or(Error::NotFound)?;
                    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                    let end = start.saturating_add(length as usize).min(bytes.len());
                    Ok(bytes[start..end].to_vec())
                },
            )
        }

        pub(crate) fn list_folder(uri: &str, limit: u32) -> Result<Listing, Error> {
            asked(
                |calls| calls.list_folder += 1,
                |world| {
                    world.reachable(uri)?;
                    let folder = format!("{}/", uri.trim_end_matches('/'));
                    let mut objects: Vec<ObjectInfo> = Vec::new();
                    for (uri, bytes) in world.objects.range(folder.clone()..) {
                        let Some(path) = uri.strip_prefix(&folder) else { break };
                        if path.is_empty() {
                            continue;
                        }
                        let (path, size) = match path.split_once('/') {
                            Some((below, _)) => (format!("{below}/"), 0),
                            None => (path.to_owned(), bytes.len() as u64),
                        };
                        if objects.last().is_none_or(|last| last.path != path) {
                            objects.push(ObjectInfo { path, size });
                        }
                    }
                    let limit = limit.min(LIST_LIMIT) as usize;
                    let truncated = objects.len() > limit;
                    objects.truncate(limit);
                    Ok(Listing { objects, truncated })
                },
            )
        }
    }

    pub(crate) mod runtimes {
        use super::super::{Release, Runtime};
        use super::asked;

        pub(crate) fn supporting(format: &str, version: Option<&str>) -> Vec<Runtime> {
            asked(
                |calls| calls.supporting += 1,
                |world| {
                    let supports = |told: &&(String, Option<String>, Runtime)| {
                        told.0 == format && (version.is_none() || told.1.as_deref() == version)
                    };
                    world
                        .runtimes
                        .iter()
                        .filter(supports)
                        .map(|(_, _, runtime)| runtime.clone())
                        .collect()
                },
            )
        }

        pub(crate) fn named(name: &str) -> Option<Runtime> {
            asked(
                |calls| calls.named += 1,
                |world| {
                    world
                        .runtimes
                        .iter()
                        .find(|(_, _, runtime)| runtime.name == name)
                        .map(|(_, _, runtime)| runtime.clone())
                },
            )
        }

        pub(crate) fn release_of(repository: &str, tag: &str, packages: &[String]) -> Option<Release> {
            asked(
                |calls| calls.release_of += 1,
                |world| {
                    let releases = world.releases.get(repository)?;
                    let mut release = releases.iter().find(|release| release.tag == tag)?.clone();
                    release.packages.retain(|package| packages.contains(&package.name));
                    Some(release)
                },
            )
        }

        pub(crate) fn releases(repository: &str, packages: &[String]) -> Vec<Release> {
            asked(
                |calls| calls.releases += 1,
                |world| {
                    let mut releases = world.releases.get(repository).cloned().unwrap_or_default();
                    for release in &mut releases {
                        release.packages.retain(|package| packages.contains(&package.name));
                    }
                    releases
                },
            )
        }

        pub(crate) fn spec(name: &str) -> Option<String> {
            asked(|calls| calls.spec += 1, |world| world.specs.get(name).cloned())
        }

        pub(crate) fn lacking(repository: &str, packages: &[String]) -> Vec<String> {
            asked(
                |calls| calls.lacking += 1,
                |world| match world.holds.get(repository) {
                    Some(holds) => packages
                        .iter()
                        .filter(|package| !holds.contains(package))
                        .cloned()
                        .collect(),
                    None => Vec::new(),
                },
            )
        }
    }

    pub(crate) mod cluster {
        use super::super::Label;
        use super::asked;

        pub(crate) fn namespace_labels() -> Vec<Label> {
            asked(|calls| calls.cluster += 1, |world| world.labels.clone())
        }

        pub(crate) fn node_architectures() -> Vec<String> {
            asked(|calls| calls.cluster += 1, |world| world.architectures.clone())
        }

        pub(crate) fn get_object(api_version: &str, kind: &str, name: &str) -> Result<Option<String>, String> {
            let key = (api_version.to_owned(), kind.to_owned(), name.to_owned());
            asked(
                |calls| calls.cluster += 1,
                |world| {
                    world.readable(kind)?;
                    Ok(world.cluster_objects.get(&key).cloned())
                },
            )
        }

        pub(crate) fn list_objects(api_version: &str, kind: &str) -> Result<Vec<String>, String> {
            asked(
                |calls| calls.cluster += 1,
                |world| {
                    world.readable(kind)?;
                    let of_kind = |((version, of, _), _): &(&(String, String, String), &String)| {
                        version == api_version && of == kind
                    };
                    let objects = world.cluster_objects.iter().filter(of_kind);
                    Ok(objects.map(|(_, text)| text.clone()).collect())
                },
            )
        }

        pub(crate) fn kserve_config(key: &str) -> Option<String> {
            asked(
                |calls| calls.cluster += 1,
                |world| world.kserve_config.get(key).cloned(),
            )
        }
    }

    pub(crate) mod log {
        use super::super::Level;
        use super::asked;

        pub(crate) fn write(level: Level, message: &str) {
            asked(
                |calls| calls.log += 1,
                |world| world.lines.borrow_mut().push((level, message.to_owned())),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{cluster, runtimes, storage};

    #[test]
    fn a_folder_shows_what_stands_directly_in_it() {
        let world = World::new()
            .serve("s3://models/", "minio")
            .object("s3://models/a/MLmodel", "1")
            .object("s3://models/a/x/1", "2")
            .object("s3://models/a/x/2", "3");
        let folder = |limit| world.run(|| storage::list_folder("s3://models/a", limit)).unwrap();
        let found = folder(9).objects.into_iter().map(|object| (object.path, object.size));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [("MLmodel".to_owned(), 1), ("x/".to_owned(), 0)]
        );
        assert!(folder(1).truncated && !folder(2).truncated);
        assert_eq!(world.calls().to_stores(), 3);
    }

    #[test]
    fn what_was_told_of_the_cluster_is_answered_and_nothing_else() {
        let world = World::new()
            .holds("r.local/ml", &["mlflow"])
            .runtime_spec("own", &json!({"containers": []}))
            .kserve_config("deploy", &json!({"defaultDeploymentMode": "Standard"}))
            .cluster_object("v1", "ResourceQuota", "b", &json!({"n": 2}))
            .cluster_object("v1", "ResourceQuota", "a", &json!({"n": 1}))
            .unreadable("LimitRange", "forbidden");
        world.run(|| {
            let asked = ["mlflow", "skops"].map(str::to_owned);
            assert_eq!(runtimes::lacking("r.local/ml", &asked), ["skops"]);
            assert!(runtimes::lacking("r.local/other", &asked).is_empty());
            assert_eq!(runtimes::spec("own").as_deref(), Some(r#"{"containers":[]}"#));
            assert_eq!(runtimes::spec("other"), None);
            assert!(cluster::kserve_config("deploy").is_some_and(|part| part.contains("Standard")));
            assert_eq!(cluster::kserve_config("ingress"), None);
            assert_eq!(
                cluster::list_objects("v1", "ResourceQuota").unwrap(),
                [r#"{"n":1}"#, r#"{"n":2}"#]
            );
            assert_eq!(cluster::list_objects("v1", "LimitRange"), Err("forbidden".to_owned()));
            assert_eq!(
                cluster::get_object("v1", "LimitRange", "x"),
                Err("forbidden".to_owned())
            );
        });
    }
}
