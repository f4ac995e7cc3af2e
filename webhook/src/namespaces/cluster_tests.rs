//! Against an API server that is a map, and that writes down what it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tidewaiter_core::backend::{Backend, StorageBackend, StorageBackendSpec};
use tidewaiter_core::credentials::kserve_secret;
use tidewaiter_core::kserve_config::KserveConfig;
use tokio_util::sync::CancellationToken;

use super::*;

#[derive(Clone, Default)]
pub(in crate::namespaces) struct ApiServer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    /// Method, path and query of each request.
    requests: Vec<String>,
    /// What a write is answered with: code and message.
    refusal: Option<(u16, String)>,
    versions: u32,
    /// What somebody else makes just before the next object is created.
    rival: Option<Value>,
    /// How long each answer takes.
    delay: Duration,
}

impl State {
    /// `found` is the version that a change was made from; none for a creation.
    fn store(&mut self, path: String, found: Option<Value>, mut object: Value, version: Value) -> (u16, Value) {
        let versions = (found, self.objects.get(&path));
        match versions {
            (None, Some(_)) => return (409, status(409, "already exists")),
            (Some(found), _) if object["metadata"]["resourceVersion"] != found => {
                return (409, status(409, "the object has been modified"));
            }
            _ => {}
        }
        object["metadata"]["resourceVersion"] = version;
        self.objects.insert(path, object.clone());
        (200, object)
    }
}

impl ApiServer {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: axum::http::Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: axum::http::Request<Body>) -> axum::http::Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let delay = self.0.lock().unwrap().delay;
        tokio::time::sleep(delay).await;
        let mut state = self.0.lock().unwrap();
        let path = head.uri.path().to_owned();
        state.requests.push(format!("{} {}", head.method, head.uri));
        let (code, answer) = if head.method == "GET" {
            match state.objects.get(&path) {
                Some(object) => (200, object.clone()),
                None => (404, status(404, "not found")),
            }
        } else if let Some((code, message)) = &state.refusal {
            (*code, status(*code, message))
        } else {
            state.versions += 1;
            let version = Value::from(state.versions.to_string());
            let sent: Value = serde_json::from_slice(&body).unwrap();
            if head.method == "POST" {
                let path = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
                if let Some(rival) = state.rival.take() {
                    state.objects.insert(path.clone(), rival);
                }
                state.store(path, None, sent, version)
            } else {
                assert_eq!(head.headers["content-type"], "application/merge-patch+json");
                let mut object = state.objects[&path].clone();
                let found = object["metadata"]["resourceVersion"].clone();
                json_patch::merge(&mut object, &sent);
                state.store(path, Some(found), object, version)
            }
        };
        axum::http::Response::builder()
            .status(code)
            .body(Body::from(serde_json::to_vec(&answer).unwrap()))
            .unwrap()
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().requests)
    }

    pub(in crate::namespaces) fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().objects.insert(path.into(), object);
    }

    pub(in crate::namespaces) fn get(&self, path: &str) -> Value {
        self.0.lock().unwrap().objects[path].clone()
    }

    pub(in crate::namespaces) fn refuse(&self, code: u16, message: &str) {
        self.0.lock().unwrap().refusal = Some((code, message.into()));
    }
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Forbidden",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": reason})
}

pub(in crate::namespaces) const SECRET: &str = "/api/v1/namespaces/team-a/secrets/tidewaiter-minio";
const ACCOUNT: &str = "/api/v1/namespaces/team-a/serviceaccounts/tidewaiter-minio";

pub(in crate::namespaces) fn wanted(key: &str) -> Wanted {
    wanted_with(key, json!({"endpoint": "http://minio:9000"}))
}

fn wanted_with(key: &str, s3: Value) -> Wanted {
    let spec: StorageBackendSpec = serde_json::from_value(json!({
        "type": "s3", "serves": ["s3://mlflow/"], "s3": s3,
        "credentials": {"secretRef": {"namespace": "minio", "name": "root"}},
    }))
    .unwrap();
    let backend = Backend::new("minio", spec).unwrap();
    let source = BTreeMap::from([("accessKey".into(), b"id".to_vec()), ("secretKey".into(), key.into())]);
    let contents = kserve_secret(&backend, &source, &KserveConfig::default()).unwrap();
    Wanted::new("minio", contents, None)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

/// With watches that show these Secrets, and then say nothing more.
pub(in crate::namespaces) async fn namespaces(server: &ApiServer, secrets: Vec<Secret>) -> InCluster {
    fn follow<K>(objects: Vec<K>) -> Watched<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    {
        let events = objects.into_iter().map(Event::InitApply);
        let events: Vec<_> = std::iter::once(Event::Init)
            .chain(events)
            .chain([Event::InitDone])
            .map(Ok)
            .collect();
        let events = futures::stream::iter(events).chain(futures::stream::pending());
        let mut events = Some(events);
        let watch = move || events.take().expect("it doesn't fail");
        Watched::follow(watch, (), "test", Changes::default(), CancellationToken::new())
    }
    let namespaces = InCluster {
        client: server.client(),
        secrets: follow(secrets),
        config_maps: follow::<ConfigMap>(Vec::new()),
        service_accounts: follow::<ServiceAccount>(Vec::new()),
        only: Vec::new(),
        cluster_id: Arc::default(),
    };
    namespaces.secrets.settled().await;
    namespaces.service_accounts.settled().await;
    namespaces
}

#[tokio::test]
async fn what_is_missing_is_created() {
    let server = ApiServer::default();
    let wanted = wanted("s3cr3t").with_service_account();
    let namespaces = namespaces(&server, Vec::new()).await;
    assert_eq!(
        namespaces.provide("team-a", &wanted, soon()).await.unwrap(),
        Provided::Written
    );
    assert_eq!(
        server.requests(),
        [
            format!("GET {SECRET}"),
            "POST /api/v1/namespaces/team-a/secrets?&fieldManager=tidewaiter".into(),
            format!("GET {ACCOUNT}"),
            "POST /api/v1/namespaces/team-a/serviceaccounts?&fieldManager=tidewaiter".into(),
        ]
    );
    let secret = server.get(SECRET);
    assert_eq!(
        secret["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "tidewaiter"
    );
    assert_eq!(
        secret["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"],
        "minio:9000"
    );
    assert_eq!(server.get(ACCOUNT)["secrets"], json!([{"name": "tidewaiter-minio"}]));
}

#[tokio::test]
async fn what_is_there_costs_no_request() {
    let server = ApiServer::default();
    let there = within("team-a", &*wanted("s3cr3t").secret);
    let namespaces = namespaces(&server, vec![there]).await;
    assert_eq!(
        namespaces.provide("team-a", &wanted("s3cr3t"), soon()).await.unwrap(),
        Provided::Unchanged
    );
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rotated_key_is_written_over_the_version_that_was_read() {
    let server = ApiServer::default();
    let mut there = within("team-a", &*wanted("old").secret);
    there.metadata.resource_version = Some("7".into());
    server.put(SECRET, serde_json::to_value(&there).unwrap());
    let namespaces = namespaces(&server, vec![there]).await;
    assert_eq!(
        namespaces.provide("team-a", &wanted("new"), soon()).await.unwrap(),
        Provided::Written
    );
    assert_eq!(server.requests(), [format!("PATCH {SECRET}?&fieldManager=tidewaiter")]);
    assert_eq!(
        server.get(SECRET)["data"],
        json!(within("team-a", &*wanted("new").secret).data)
    );
}

#[tokio::test]
async fn outside_the_named_namespaces_nothing_is_asked_and_the_admin_is_told_what_to_add() {
    let server = ApiServer::default();
    let mut namespaces = namespaces(&server, Vec::new()).await;
    namespaces.only = vec!["team-a".into(), "team-b".into()];
    let told = namespaces
        .provide("team-c", &wanted("s"), soon())
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("the namespaces team-a, team-b alone"), "{told}");
    assert_eq!(server.requests(), Vec::<String>::new());
    assert!(namespaces.provide("team-b", &wanted("s"), soon()).await.is_ok());
}

#[tokio::test]
async fn a_watch_that_is_behind_costs_a_read() {
    let server = ApiServer::default();
    let mut there = within("team-a", &*wanted("older").secret);
    there.metadata.resource_version = Some("7".into());
    let mut stored = within("team-a", &*wanted("old").secret);
    stored.metadata.resource_version = Some("8".into());
    server.put(SECRET, serde_json::to_value(&stored).unwrap());
    let namespaces = namespaces(&server, vec![there]).await;
    let provided = namespaces.provide("team-a", &wanted("new"), soon()).await;
    assert_eq!(provided.unwrap(), Provided::Written);
    let patch = format!("PATCH {SECRET}?&fieldManager=tidewaiter");
    assert_eq!(server.requests(), [patch.clone(), format!("GET {SECRET}"), patch]);
}

#[tokio::test]
async fn a_mark_of_collection_is_cleared_by_a_write() {
    let server = ApiServer::default();
    let mut there = within("team-a", &*wanted("s3cr3t").secret);
    there
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(UNUSED_SINCE.into(), "2026-11-22T12:00:00Z".into());
    there.metadata.resource_version = Some("7".into());
    server.put(SECRET, serde_json::to_value(&there).unwrap());
    let namespaces = namespaces(&server, vec![there]).await;
    assert_eq!(
        namespaces.provide("team-a", &wanted("s3cr3t"), soon()).await.unwrap(),
        Provided::Written
    );
}

#[tokio::test]
async fn what_is_not_ours_is_never_written_over() {
    let server = ApiServer::default();
    let mut foreign = within("team-a", &*wanted("s3cr3t").secret);
    foreign.metadata.labels = None;
    server.put(SECRET, serde_json::to_value(&foreign).unwrap());
    let error = namespaces(&server, Vec::new())
        .await
        .provide("team-a", &wanted("s3cr3t"), soon())
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"Secret team-a/tidewaiter-minio is needed for the model store's credentials, but one that Tidewaiter didn't write is there already: rename or delete it, or if it is to be replaced label it app.kubernetes.io/managed-by=tidewaiter");
    assert!(!error.there());
    assert_eq!(server.requests(), [format!("GET {SECRET}")]);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_api_servers_words() {
    let server = ApiServer::default();
    server.refuse(403, "secrets \"tidewaiter-minio\" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=5, limited: secrets=5");
    let error = namespaces(&server, Vec::new())
        .await
        .provide("team-a", &wanted("s3cr3t"), soon())
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @r#"can't write Secret team-a/tidewaiter-minio, which holds the model store's credentials: secrets "tidewaiter-minio" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=5, limited: secrets=5"#);
    assert!(!error.there());

    // An older version of ours lets an update pass.
    let there = within("team-a", &*wanted("old").secret);
    server.put(SECRET, serde_json::to_value(&there).unwrap());
    let error = namespaces(&server, vec![there])
        .await
        .provide("team-a", &wanted("new"), soon())
        .await
        .unwrap_err();
    assert!(error.there());
}

/// What passes is no verdict: too much to do, etcd away, roles that aren't read yet.
#[tokio::test]
async fn a_refusal_that_passes_is_none() {
    let server = ApiServer::default();
    let refused = async |code: u16, namespaces: &InCluster| {
        server.refuse(code, "no");
        let error = namespaces
            .provide("team-a", &wanted("s3cr3t"), soon())
            .await
            .unwrap_err();
        match error {
            ProvideError::Refused { .. } => true,
            ProvideError::Unreachable { .. } => false,
            other => panic!("{other}"),
        }
    };
    let mut namespaces = namespaces(&server, Vec::new()).await;
    for (code, meant) in [(403, true), (422, true), (429, false), (500, false), (503, false)] {
        assert_eq!(refused(code, &namespaces).await, meant, "{code}");
    }
    let (end, ended) = tokio::sync::oneshot::channel();
    let shown = [Event::Init, Event::InitDone].map(Ok);
    let broken = futures::stream::once(async {
        let _ = ended.await;
        Err(kube::runtime::watcher::Error::NoResourceVersion)
    });
    let mut watches = vec![futures::stream::iter(shown).chain(broken).boxed()];
    let watch = move || watches.pop().unwrap_or_else(|| futures::stream::pending().boxed());
    namespaces.secrets = Watched::follow(watch, (), "test", Changes::default(), CancellationToken::new());
    namespaces.secrets.settled().await;
    assert!(refused(403, &namespaces).await);
    end.send(()).unwrap();
    while namespaces.secrets.live() {
        tokio::task::yield_now().await;
    }
    assert!(!refused(403, &namespaces).await);
    assert!(refused(422, &namespaces).await);
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(!namespaces.secrets.broke_off("team-a"));
}

#[tokio::test]
async fn a_conflict_is_looked_at_again_and_then_given_up() {
    let server = ApiServer::default();
    server.refuse(409, "the object has been modified");
    let error = namespaces(&server, Vec::new())
        .await
        .provide("team-a", &wanted("s3cr3t"), soon())
        .await
        .unwrap_err();
    assert!(matches!(error, ProvideError::Refused { .. }));
    assert_eq!(server.requests().len(), 2 * ATTEMPTS);
}

#[tokio::test]
async fn what_somebody_else_makes_in_between_is_left_alone() {
    let server = ApiServer::default();
    let rival = json!({"metadata": {"name": "tidewaiter-minio"}, "data": {"theirs": "eA=="}});
    server.0.lock().unwrap().rival = Some(rival.clone());
    let error = namespaces(&server, Vec::new())
        .await
        .provide("team-a", &wanted("s3cr3t"), soon())
        .await
        .unwrap_err();
    assert!(matches!(error, ProvideError::Foreign { .. }), "{error}");
    assert_eq!(server.get(SECRET), rival);
}

#[tokio::test]
async fn a_setting_that_was_removed_goes_and_what_others_added_stays() {
    let server = ApiServer::default();
    let settings = json!({"endpoint": "http://minio:9000", "accelerate": true, "pathStyle": false});
    let mut there = within("team-a", &*wanted_with("s3cr3t", settings).secret);
    there.metadata.resource_version = Some("7".into());
    let annotations = there.metadata.annotations.get_or_insert_default();
    annotations.insert("theirs".into(), "stays".into());
    there
        .data
        .get_or_insert_default()
        .insert("stale".into(), k8s_openapi::ByteString(b"x".to_vec()));
    server.put(SECRET, serde_json::to_value(&there).unwrap());
    let namespaces = namespaces(&server, vec![there]).await;
    let wanted = wanted("s3cr3t");
    assert_eq!(
        namespaces.provide("team-a", &wanted, soon()).await.unwrap(),
        Provided::Written
    );
    let secret = server.get(SECRET);
    let mut annotations = json!(wanted.secret.metadata.annotations);
    annotations["theirs"] = "stays".into();
    assert_eq!(secret["metadata"]["annotations"], annotations);
    assert_eq!(secret["data"], json!(wanted.secret.data));
}

#[tokio::test]
async fn an_account_keeps_the_secrets_that_others_listed() {
    let server = ApiServer::default();
    let wanted = wanted("s3cr3t").with_service_account();
    let mut account = serde_json::to_value(within("team-a", &**wanted.service_account.as_ref().unwrap())).unwrap();
    account["secrets"] = json!([{"name": "theirs"}]);
    account["metadata"]["resourceVersion"] = "7".into();
    server.put(ACCOUNT, account);
    let namespaces = namespaces(&server, vec![within("team-a", &*wanted.secret)]).await;
    namespaces.provide("team-a", &wanted, soon()).await.unwrap();
    assert_eq!(
        server.get(ACCOUNT)["secrets"],
        json!([{"name": "tidewaiter-minio"}, {"name": "theirs"}])
    );
}

#[tokio::test]
async fn all_writes_together_end_at_the_deadline() {
    let server = ApiServer::default();
    server.0.lock().unwrap().delay = Duration::from_millis(200);
    let wanted = wanted("s3cr3t").with_service_account();
    let namespaces = namespaces(&server, Vec::new()).await;
    // Each object takes two answers, and there is time for three.
    let until = Instant::now() + Duration::from_millis(700);
    let error = namespaces.provide("team-a", &wanted, until).await.unwrap_err();
    assert!(
        matches!(
            error,
            ProvideError::Unreachable {
                kind: "ServiceAccount",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_secret_is_there_only_if_it_is_ours_and_stays() {
    let server = ApiServer::default();
    let ours = within("team-a", &*wanted("s3cr3t").secret);
    let has = async |shown: Vec<Secret>| {
        let namespaces = namespaces(&server, shown).await;
        namespaces.has_secret("team-a", "minio", soon()).await
    };
    assert!(has(vec![ours.clone()]).await);
    assert!(!has(Vec::new()).await);
    // A watch may be behind.
    server.put(SECRET, serde_json::to_value(&ours).unwrap());
    assert!(has(Vec::new()).await);
    let mut foreign = ours.clone();
    foreign.metadata.labels = None;
    server.put(SECRET, serde_json::to_value(&foreign).unwrap());
    assert!(!has(Vec::new()).await);
    let mut leaving = serde_json::to_value(&ours).unwrap();
    leaving["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z".into();
    server.put(SECRET, leaving);
    assert!(!has(Vec::new()).await);
}

/// Two replicas, of which one knows the rotated key already.
#[tokio::test]
async fn a_replica_that_knows_less_does_not_put_the_last_key_back() {
    let from = |key: &str, backend: &str, generation: i64, secret: &str| {
        let written: StorageBackend = serde_json::from_value(json!({
            "apiVersion": "tidewaiter.dev/v1alpha1", "kind": "StorageBackend",
            "metadata": {"name": "minio", "uid": backend, "generation": generation},
            "spec": {
                "type": "s3", "serves": ["s3://mlflow/"], "credentials": {"secretRef": {"namespace": "minio", "name": "root"}},
            },
        }))
        .unwrap();
        let source = serde_json::from_value(json!({"metadata": {"resourceVersion": secret}})).unwrap();
        wanted(key).of_version(&Version::new(&written, &source).unwrap())
    };
    let there = |key: &str, backend: &str, generation, secret: &str| {
        let mut there = within("team-a", &*from(key, backend, generation, secret).secret);
        there.metadata.resource_version = Some("7".into());
        there
    };
    for (version, written) in [
        (("one", 1, "99"), Provided::Unchanged),
        (("one", 1, "100"), Provided::Written),
        (("one", 1, "101"), Provided::Written),
        // The backend names another Secret.
        (("one", 2, "5"), Provided::Written),
        (("another", 1, "5"), Provided::Written),
    ] {
        let server = ApiServer::default();
        let new = there("new", "one", 1, "100");
        server.put(SECRET, serde_json::to_value(&new).unwrap());
        let namespaces = namespaces(&server, vec![new]).await;
        let (backend, generation, secret) = version;
        let other = from("other", backend, generation, secret);
        assert_eq!(
            namespaces.provide("team-a", &other, soon()).await.unwrap(),
            written,
            "{version:?}"
        );
    }
    // About to be collected: whoever uses it takes the mark off, whatever it knows.
    let server = ApiServer::default();
    let mut marked = there("new", "one", 1, "100");
    let annotations = marked.metadata.annotations.as_mut().unwrap();
    annotations.insert(UNUSED_SINCE.to_owned(), "2026-01-01T00:00:00Z".to_owned());
    server.put(SECRET, serde_json::to_value(&marked).unwrap());
    let namespaces = namespaces(&server, vec![marked]).await;
    let older = from("old", "one", 1, "99");
    assert_eq!(
        namespaces.provide("team-a", &older, soon()).await.unwrap(),
        Provided::Written
    );
    assert!(server.get(SECRET)["metadata"]["annotations"][UNUSED_SINCE].is_null());
}
