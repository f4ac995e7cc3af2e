use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tidewaiter_core::backend::managed_name;
use tidewaiter_engine::{Engine, Options};
use tidewaiter_world::{Folder, Labels};

use super::*;
use crate::admission::Reviewer;
use crate::configuration::Loader;
use crate::metrics::Metrics;
use crate::minting::Mint;
use crate::namespaces::{Minting, ProvideError, Wanted};

const BACKEND: &str = "
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: { name: minio }
spec:
  type: s3
  serves: ['s3://mlflow/']
  s3: { endpoint: 'http://127.0.0.1:9', region: us-east-1 }
  credentials: { secretRef: { namespace: minio, name: root } }
  grants:
    - namespaces: ['team-*']
---
apiVersion: v1
kind: Secret
metadata: { namespace: minio, name: root }
stringData: { accessKey: tidewaiter, secretKey: rotated }
";

/// Keeps the names of those it wrote to, and can't write to one of them.
#[derive(Default)]
struct Namespaces {
    written: Mutex<Vec<String>>,
    unreachable: Option<&'static str>,
}

#[async_trait]
impl crate::namespaces::Namespaces for Namespaces {
    async fn provide(&self, namespace: &str, wanted: &Wanted, _until: Instant) -> Result<Provided, ProvideError> {
        if self.unreachable == Some(namespace) {
            return Err(ProvideError::Unreachable {
                kind: "Secret",
                namespace: namespace.into(),
                name: managed_name(wanted.backend()),
                message: "in time".into(),
                there: true,
            });
        }
        self.written.lock().unwrap().push(namespace.into());
        Ok(Provided::Written)
    }

    async fn mint(
        &self,
        _: &str,
        _: Option<&Labels>,
        _: &Mint,
        _: &BTreeSet<String>,
        _: bool,
        _: Instant,
    ) -> Result<Minting, ProvideError> {
        unreachable!("no backend of this test mints")
    }

    async fn may_use(
        &self,
        _who: &crate::namespaces::Subject,
        _backend: &str,
        _namespace: &str,
        _until: Instant,
    ) -> Result<bool, String> {
        Ok(true)
    }

    fn copies(&self, _backend: &str) -> Vec<String> {
        Vec::new()
    }

    async fn has_secret(&self, _namespace: &str, _backend: &str, _until: Instant) -> bool {
        true
    }
}

async fn snapshot() -> Arc<Snapshot> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("minio.yaml"), BACKEND).unwrap();
    let metrics = Arc::new(Metrics::default());
    let reviewer = Reviewer::new(
        Arc::new(Namespaces::default()),
        None,
        Arc::clone(&metrics),
        Duration::from_secs(2),
    );
    let reviewer = Arc::new(reviewer);
    let engine = Engine::new(Options::default()).unwrap();
    let (objects, problems) = Folder::new(folder.path()).load().unwrap();
    let problems = Loader::new(engine, Arc::clone(&reviewer), metrics)
        .load(objects, problems)
        .await;
    assert!(problems.is_empty(), "{problems:?}");
    reviewer.snapshot().unwrap()
}

const HOUR: Duration = Duration::from_hours(1);

fn place(namespace: &str) -> Place {
    (namespace.to_owned(), "minio".to_owned())
}

fn service(namespace: &str, named: &[&str], accounts: &[&str]) -> Service {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Service {
        namespace: namespace.to_owned(),
        name: "fraud".to_owned(),
        kind: "InferenceService",
        version: "v1beta1",
        uid: "u".to_owned(),
        generation: 1,
        created: 0,
        written: 0,
        adopted: false,
        named: owned(named),
        accounts: owned(accounts),
        uris: BTreeSet::new(),
        settled: true,
    }
}

fn copy(namespace: &str, mark: Option<&str>) -> Arc<Secret> {
    let mut secret = Secret::default();
    secret.metadata.namespace = Some(namespace.into());
    secret.metadata.name = Some("tidewaiter-minio".into());
    secret.metadata.labels = Some(BTreeMap::from([(BACKEND_LABEL.into(), "minio".into())]));
    secret.metadata.annotations = mark.map(|mark| BTreeMap::from([(UNUSED_SINCE.into(), mark.into())]));
    Arc::new(secret)
}

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn a_namespace_that_lost_its_grant_gets_no_new_key() {
    let (namespaces, snapshot) = (Namespaces::default(), snapshot().await);
    for namespace in ["revoked", "team-a"] {
        let written = have(&namespaces, namespace, "minio", Need::default(), true, &snapshot).await;
        assert_eq!(written, Ok((namespace == "team-a").then_some(Provided::Written)));
    }
    assert_eq!(*namespaces.written.lock().unwrap(), ["team-a"]);
}

#[tokio::test]
async fn what_a_backend_that_is_gone_delivered_stays_as_it_is() {
    let (namespaces, snapshot) = (Namespaces::default(), snapshot().await);
    let written = have(&namespaces, "team-a", "gone", Need::default(), true, &snapshot).await;
    assert_eq!(written, Ok(None));
}

#[tokio::test]
async fn what_failed_is_told() {
    let namespaces = Namespaces {
        unreachable: Some("team-a"),
        ..Namespaces::default()
    };
    let told = have(
        &namespaces,
        "team-a",
        "minio",
        Need::default(),
        true,
        &*snapshot().await,
    )
    .await;
    assert!(told.unwrap_err().contains("Secret team-a/tidewaiter-minio"));
}

#[test]
fn what_a_service_names_is_needed_with_its_account_where_it_names_that() {
    let services = [
        service("a", &["tidewaiter-minio"], &[]),
        service("b", &["tidewaiter-minio"], &["tidewaiter-minio"]),
        service("c", &["tidewaiter-other"], &[]),
    ];
    let needs = needs(&services);
    assert_eq!(needs[&place("a")], Need { service_account: false });
    assert_eq!(needs[&place("b")], Need { service_account: true });
    assert_eq!(needs.len(), 3);
}

#[test]
fn a_copy_in_use_is_had_whether_it_is_there_or_not_and_never_collected() {
    let needs = needs(&[
        service("there", &["tidewaiter-minio"], &[]),
        service("deleted", &["tidewaiter-minio"], &[]),
    ]);
    let copies = copies(&[copy("there", Some("2020-01-01T00:00:00Z"))]);
    let steps = steps(
        &needs,
        &copies,
        &BTreeSet::new(),
        &mut HashMap::new(),
        true,
        HOUR,
        now(),
    );
    let have = || Step::Have(Need::default());
    assert_eq!(steps, [(place("deleted"), have()), (place("there"), have())]);
}

#[tokio::test(start_paused = true)]
async fn an_unused_copy_is_marked_and_after_the_grace_collected() {
    let at = |mark: Option<&str>, unused: &mut HashMap<Place, Instant>| {
        let copies = copies(&[copy("a", mark)]);
        let steps = steps(&BTreeMap::new(), &copies, &BTreeSet::new(), unused, true, HOUR, now());
        steps.into_iter().map(|(_, step)| step).collect::<Vec<_>>()
    };
    let mut unused = HashMap::new();
    assert_eq!(at(None, &mut unused), [], "its service may be on its way");
    tokio::time::advance(UNUSED_FOR).await;
    assert_eq!(at(None, &mut unused), [Step::Mark]);
    assert_eq!(at(Some("2026-06-01T11:59:00Z"), &mut unused), []);
    assert_eq!(at(Some("2026-06-01T11:00:00Z"), &mut unused), [Step::Collect]);
    assert_eq!(
        at(Some("2026-06-02T11:00:00Z"), &mut unused),
        [],
        "marked by a clock that is ahead"
    );
    assert_eq!(at(Some("nonsense"), &mut unused), [Step::Mark]);
}

#[tokio::test(start_paused = true)]
async fn a_use_in_between_begins_the_time_anew() {
    let (idle, used) = (BTreeMap::new(), needs(&[service("a", &["tidewaiter-minio"], &[])]));
    let copies = copies(&[copy("a", None)]);
    let mut unused = HashMap::new();
    for needs in [&idle, &used, &idle] {
        let steps = steps(needs, &copies, &BTreeSet::new(), &mut unused, true, HOUR, now());
        assert!(!steps.contains(&(place("a"), Step::Mark)));
        tokio::time::advance(UNUSED_FOR * 2 / 3).await;
    }
}

#[test]
fn while_services_are_not_known_nothing_counts_as_unused() {
    let copies = copies(&[copy("a", Some("2020-01-01T00:00:00Z"))]);
    assert_eq!(
        steps(
            &BTreeMap::new(),
            &copies,
            &BTreeSet::new(),
            &mut HashMap::new(),
            false,
            HOUR,
            now()
        ),
        []
    );
}

#[tokio::test(start_paused = true)]
async fn while_an_older_revision_may_run_its_copy_is_kept_and_not_marked() {
    let mut moved = service("a", &["tidewaiter-other"], &[]);
    moved.settled = false;
    let (needs, changing) = (BTreeMap::new(), changing(&[moved, service("b", &[], &[])]));
    let copies = copies(&[copy("a", None), copy("b", None)]);
    let mut unused = HashMap::new();
    let mut at = || steps(&needs, &copies, &changing, &mut unused, true, HOUR, now());
    let kept = || (place("a"), Step::Have(Need::default()));
    assert_eq!(at(), [kept()]);
    tokio::time::advance(UNUSED_FOR).await;
    assert_eq!(at(), [kept(), (place("b"), Step::Mark)]);
    let marked = super::copies(&[copy("a", Some("2020-01-01T00:00:00Z"))]);
    assert_eq!(steps(&needs, &marked, &changing, &mut unused, true, HOUR, now()), []);
}

/// An API server with the ServiceAccounts `tidewaiter-minio`, which is ours, and `mine`, which in the namespace `used` lists our Secret; it refuses to tell of
/// the namespace `shut`.
fn accounts() -> Client {
    let service = tower::service_fn(|request: axum::http::Request<kube::client::Body>| async move {
        let account = |name: &str, secret: &str| json!({"metadata": {"name": name}, "secrets": [{"name": secret}]});
        let list = |secret: &str| {
            let items = [account("tidewaiter-minio", "tidewaiter-minio"), account("mine", secret)];
            json!({"apiVersion": "v1", "kind": "ServiceAccountList", "metadata": {}, "items": items})
        };
        let (code, answer) = match request.uri().path() {
            "/api/v1/namespaces/used/serviceaccounts" => (200, list("tidewaiter-minio")),
            "/api/v1/namespaces/idle/serviceaccounts" => (200, list("another")),
            _ => (
                403,
                json!({"kind": "Status", "status": "Failure", "message": "shut", "reason": "Forbidden", "code": 403}),
            ),
        };
        let mut response = axum::http::Response::new(kube::client::Body::from(answer.to_string().into_bytes()));
        *response.status_mut() = axum::http::StatusCode::from_u16(code).unwrap();
        Ok::<_, std::convert::Infallible>(response)
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn what_a_service_account_lists_or_may_list_is_kept() {
    let (client, mut listed) = (accounts(), HashMap::new());
    let ends = [
        (place("used"), Step::Mark),
        (place("idle"), Step::Collect),
        (place("shut"), Step::Mark),
    ];
    let mut steps = Vec::from(ends);
    let failed = keep_listed(&client, &mut steps, &mut listed).await;
    assert_eq!(
        steps,
        [
            (place("used"), Step::Have(Need::default())),
            (place("idle"), Step::Collect)
        ]
    );
    assert_eq!(
        failed.into_iter().map(|(place, _)| place).collect::<Vec<_>>(),
        [place("shut")]
    );
    assert_eq!(listed.keys().collect::<Vec<_>>(), [&place("used")]);
    // Later it is looked at again, and so is one that was taken off since.
    let copies = copies(&[copy("used", None), copy("idle", None)]);
    listed.insert(place("idle"), Instant::now());
    tokio::time::advance(LOOK).await;
    look_again(&client, &copies, &mut listed).await;
    assert_eq!(listed.keys().collect::<Vec<_>>(), [&place("used")]);
}
