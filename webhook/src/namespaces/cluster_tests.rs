//! Against an API server that is a map, and that writes down what it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tidewaiter_core::backend::{Backend, StorageBackendSpec};
use tidewaiter_core::credentials::kserve_secret;
use tidewaiter_core::kserve_config::KserveConfig;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;

#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    /// Method, path and query of each request.
    requests: Vec<String>,
    /// What a write is answered with: code and message.
    refusal: Option<(u16, String)>,
    versions: u32,
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
            let mut object: Value = serde_json::from_slice(&body).unwrap();
            let there = state
                .objects
                .get(&path)
                .map(|there| there["metadata"]["resourceVersion"].clone());
            let wanted = object["metadata"]["resourceVersion"].clone();
            if !wanted.is_null() && there != Some(wanted) {
                (409, status(409, "the object has been modified"))
            } else {
                object["metadata"]["resourceVersion"] = state.versions.to_string().into();
                state.objects.insert(path, object.clone());
                (200, object)
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

    fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().objects.insert(path.into(), object);
    }

    fn get(&self, path: &str) -> Value {
        self.0.lock().unwrap().objects[path].clone()
    }

    fn refuse(&self, code: u16, message: &str) {
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

const SECRET: &str = "/api/v1/namespaces/team-a/secrets/tidewaiter-minio";
const ACCOUNT: &str = "/api/v1/namespaces/team-a/serviceaccounts/tidewaiter-minio";

fn wanted(key: &str) -> Wanted {
    let spec: StorageBackendSpec = serde_json::from_value(json!({
        "type": "s3", "serves": ["s3://mlflow/"], "s3": {"endpoint": "http://minio:9000"},
        "credentials": {"secretRef": {"namespace": "minio", "name": "root"}},
    }))
    .unwrap();
    let backend = Backend::new("minio", spec).unwrap();
    let source = BTreeMap::from([("accessKey".into(), b"id".to_vec()), ("secretKey".into(), key.into())]);
    Wanted {
        backend: "minio".into(),
        contents: kserve_secret(&backend, &source, &KserveConfig::default()).unwrap(),
        ca_bundle: None,
        service_account: false,
    }
}

/// With watches that show these Secrets, and then say nothing more.
async fn namespaces(server: &ApiServer, secrets: Vec<Secret>) -> InCluster {
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
        Watched::follow(events, (), "test", Arc::new(Notify::new()), CancellationToken::new())
    }
    let namespaces = InCluster {
        client: server.client(),
        secrets: follow(secrets),
        config_maps: follow::<ConfigMap>(Vec::new()),
        service_accounts: follow::<ServiceAccount>(Vec::new()),
    };
    namespaces.secrets.settled().await;
    namespaces
}

#[tokio::test]
async fn what_is_missing_is_applied_and_not_forced() {
    let server = ApiServer::default();
    let mut wanted = wanted("s3cr3t");
    wanted.service_account = true;
    let namespaces = namespaces(&server, Vec::new()).await;
    assert_eq!(namespaces.provide("team-a", &wanted).await.unwrap(), Provided::Written);
    assert_eq!(
        server.requests(),
        [
            format!("GET {SECRET}"),
            format!("PATCH {SECRET}?&fieldManager=tidewaiter"),
            format!("GET {ACCOUNT}"),
            format!("PATCH {ACCOUNT}?&fieldManager=tidewaiter"),
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
    let there = wanted("s3cr3t").secret("team-a");
    let namespaces = namespaces(&server, vec![there]).await;
    assert_eq!(
        namespaces.provide("team-a", &wanted("s3cr3t")).await.unwrap(),
        Provided::Unchanged
    );
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rotated_key_is_forced_over_the_version_that_was_read() {
    let server = ApiServer::default();
    let mut there = wanted("old").secret("team-a");
    there.metadata.resource_version = Some("7".into());
    server.put(SECRET, serde_json::to_value(&there).unwrap());
    let namespaces = namespaces(&server, vec![there]).await;
    assert_eq!(
        namespaces.provide("team-a", &wanted("new")).await.unwrap(),
        Provided::Written
    );
    assert_eq!(
        server.requests()[1],
        format!("PATCH {SECRET}?&force=true&fieldManager=tidewaiter")
    );
}

#[tokio::test]
async fn a_mark_of_collection_is_cleared_by_a_write() {
    let server = ApiServer::default();
    let mut there = wanted("s3cr3t").secret("team-a");
    there
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(UNUSED_SINCE.into(), "2026-11-22T12:00:00Z".into());
    there.metadata.resource_version = Some("7".into());
    server.put(SECRET, serde_json::to_value(&there).unwrap());
    let namespaces = namespaces(&server, vec![there]).await;
    assert_eq!(
        namespaces.provide("team-a", &wanted("s3cr3t")).await.unwrap(),
        Provided::Written
    );
}

#[tokio::test]
async fn what_is_not_ours_is_never_written_over() {
    let server = ApiServer::default();
    let mut foreign = wanted("s3cr3t").secret("team-a");
    foreign.metadata.labels = None;
    server.put(SECRET, serde_json::to_value(&foreign).unwrap());
    let error = namespaces(&server, Vec::new())
        .await
        .provide("team-a", &wanted("s3cr3t"))
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
        .provide("team-a", &wanted("s3cr3t"))
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @r#"can't write Secret team-a/tidewaiter-minio, which holds the model store's credentials: secrets "tidewaiter-minio" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=5, limited: secrets=5"#);
    assert!(!error.there());

    // An older version of ours lets an update pass.
    let there = wanted("old").secret("team-a");
    server.put(SECRET, serde_json::to_value(&there).unwrap());
    let error = namespaces(&server, vec![there])
        .await
        .provide("team-a", &wanted("new"))
        .await
        .unwrap_err();
    assert!(error.there());
}

#[tokio::test]
async fn a_conflict_is_looked_at_again_and_then_given_up() {
    let server = ApiServer::default();
    server.refuse(409, "the object has been modified");
    let error = namespaces(&server, Vec::new())
        .await
        .provide("team-a", &wanted("s3cr3t"))
        .await
        .unwrap_err();
    assert!(matches!(error, ProvideError::Refused { .. }));
    assert_eq!(server.requests().len(), 2 * ATTEMPTS);
}
