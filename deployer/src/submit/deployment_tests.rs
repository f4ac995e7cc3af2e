//! A deployment before an API server that stores what it is given, but for what it is told to refuse.

use std::sync::{Arc, Mutex};

use http_body_util::BodyExt as _;
use kube::client::Body;
use tidewaiter_core::filled;
use tonic::codegen::http::{Request, Response};

use super::super::credentials::tests::store;
use super::*;
use crate::cluster::Error;
use crate::model::Framework;

/// What the API server was asked, and the object that came with it.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// What it does beside storing.
#[derive(Clone, Copy, Default)]
struct Server {
    /// No service may be stored.
    refuses: bool,
    /// Tidewaiter's webhook is there, and brings credentials.
    reviews: bool,
}

impl Server {
    fn start(self) -> (Cluster, Asked) {
        let asked = Asked::default();
        let noted = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let noted = Arc::clone(&noted);
            async move {
                let (head, body) = request.into_parts();
                let is_dry = head.uri.query().is_some_and(|query| query.contains("dryRun=All"));
                let kind = head.uri.path().rsplit('/').nth(1).unwrap_or_default().to_owned();
                let bytes = body.collect().await.unwrap().to_bytes();
                let sent: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let line = format!("{}{} {kind}", if is_dry { "dry " } else { "" }, head.method);
                noted.lock().unwrap().push((line, sent.clone()));
                let (code, answer) = self.answer(head.method.as_str(), &kind, is_dry, sent);
                let response = Response::builder().status(code);
                response.body(Body::from(serde_json::to_vec(&answer).unwrap_or_default()))
            }
        });
        let client = kube::Client::new(service, "default");
        (
            Cluster::new(client, "default".to_owned(), "https://k8s".to_owned()),
            asked,
        )
    }

    fn answer(self, method: &str, kind: &str, is_dry: bool, mut sent: Value) -> (u16, Value) {
        let no = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no", "details": {"name": "fraud"}}),
            )
        };
        match (method, kind) {
            ("GET", _) => no(404, "NotFound"),
            ("DELETE", _) => (200, json!({"kind": "Status", "status": "Success"})),
            (_, "inferenceservices") if self.refuses && !is_dry => no(422, "Invalid"),
            _ => {
                sent["metadata"]["uid"] = json!(kind);
                sent["metadata"]["resourceVersion"] = json!("7");
                if self.reviews && kind == "inferenceservices" {
                    let record = json!({"/spec/predictor/serviceAccountName": "tidewaiter-minio"});
                    sent["metadata"]["annotations"][filled::ANNOTATION] = json!(record.to_string());
                }
                (200, sent)
            }
        }
    }
}

/// Of `s3://models/fraud` for team-a, with keys.
async fn with_deployment<T>(cluster: &Cluster, work: impl AsyncFnOnce(Deployment<'_>) -> T) -> T {
    let unknown = Error::Unauthorized {
        server: "https://k8s".to_owned(),
    };
    let (seen, store) = (Seen::nothing(&unknown), store());
    let (wishes, model) = (Wishes::default(), Model::unseen(Framework::Sklearn));
    let deployment = Deployment {
        cluster,
        namespace: "team-a",
        name: "fraud",
        seen: &seen,
        wishes: &wishes,
        model: &model,
        uri: Some("s3://models/fraud"),
        secret: None,
        store: Some(&store),
        force: false,
    };
    work(deployment).await
}

fn lines(asked: &Asked, of: &str) -> Vec<String> {
    let asked = asked.lock().unwrap();
    let lines = asked.iter().map(|(line, _)| line.clone());
    lines.filter(|line| line.starts_with(of)).collect()
}

#[tokio::test]
async fn a_service_that_is_refused_leaves_no_keys_behind() {
    let (cluster, asked) = Server {
        refuses: true,
        ..Server::default()
    }
    .start();
    with_deployment(&cluster, async |deployment| {
        let planned = deployment.plan(true).await.unwrap();
        assert!(planned.brings_keys);
        deployment.may_bring(&planned).await.unwrap();
        assert_eq!(lines(&asked, "PATCH"), Vec::<String>::new(), "nothing is stored yet");
        let mut told = Vec::new();
        let submitted = deployment
            .submit(&planned, "s3://models/fraud", |step| told.push(step))
            .await;
        assert!(submitted.is_err());
        assert_eq!(told, [Step::Made("fraud-store".to_owned())]);
        assert_eq!(lines(&asked, "DELETE"), ["DELETE secrets", "DELETE serviceaccounts"]);
    })
    .await;
}

#[tokio::test]
async fn keys_go_with_their_service_and_where_tidewaiter_brings_some_none_are_made() {
    let (cluster, asked) = Server::default().start();
    with_deployment(&cluster, async |deployment| {
        let planned = deployment.plan(true).await.unwrap();
        let submitted = deployment.submit(&planned, "s3://models/fraud", |_| ()).await.unwrap();
        assert!(!submitted.is_same);
        let spec = &submitted.service.data["spec"]["predictor"];
        assert_eq!(spec["serviceAccountName"], "fraud-store");
        let asked = asked.lock().unwrap();
        let (_, secret) = asked.iter().rfind(|(line, _)| line == "PATCH secrets").unwrap();
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "inferenceservices");
    })
    .await;

    let (cluster, asked) = Server {
        reviews: true,
        ..Server::default()
    }
    .start();
    with_deployment(&cluster, async |deployment| {
        let planned = deployment.plan(true).await.unwrap();
        assert!(!planned.brings_keys);
        let submitted = deployment.submit(&planned, "s3://models/fraud", |_| ()).await.unwrap();
        assert!(submitted.service.data["spec"]["predictor"]["serviceAccountName"].is_null());
        assert_eq!(lines(&asked, "PATCH"), ["PATCH inferenceservices"]);
    })
    .await;
}

#[tokio::test]
async fn a_model_that_comes_later_is_told_to_webhooks_and_shown_to_nobody() {
    let (cluster, asked) = Server::default().start();
    with_deployment(&cluster, async |deployment| {
        for is_there in [false, true] {
            asked.lock().unwrap().clear();
            let planned = deployment.plan(is_there).await.unwrap();
            let asked = asked.lock().unwrap();
            let told = asked
                .iter()
                .filter(|(line, _)| line == "dry PATCH inferenceservices")
                .map(|(_, object)| &object["metadata"]["annotations"][ALLOW_MISSING_MODEL]);
            let told: Vec<_> = told.collect();
            assert!(
                !told.is_empty() && told.iter().all(|told| told.is_null() == is_there),
                "{told:?}"
            );
            let shown = planned.proposal.applied.object.metadata.annotations.unwrap_or_default();
            assert!(!shown.contains_key(ALLOW_MISSING_MODEL));
            assert!(planned.built.object["metadata"]["annotations"][ALLOW_MISSING_MODEL].is_null());
        }
    })
    .await;
}
