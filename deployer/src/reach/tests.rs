//! An API server that knows a few objects, and what is made of its answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::client::Body;
use serde_json::{Value, json};
use tonic::codegen::http::{Request, Response};

use super::*;
use crate::live::fixture::deployed;

/// What it answers, by path, a Status with its code; to every other a 404 as for an object that is missing.
#[derive(Default)]
pub(crate) struct Answers {
    objects: BTreeMap<String, Value>,
    forbid: bool,
    /// To so many questions more: later.
    busy: AtomicUsize,
}

impl From<BTreeMap<String, Value>> for Answers {
    fn from(objects: BTreeMap<String, Value>) -> Self {
        Self {
            objects,
            ..Self::default()
        }
    }
}

impl<const N: usize> From<[(&'static str, Value); N]> for Answers {
    fn from(objects: [(&'static str, Value); N]) -> Self {
        BTreeMap::from(objects.map(|(path, object)| (path.to_owned(), object))).into()
    }
}

impl Answers {
    /// To everything: no.
    pub(crate) fn forbidding() -> Self {
        Self {
            forbid: true,
            ..Self::default()
        }
    }

    /// To the first so many questions: later.
    pub(crate) fn busy_for(self, questions: usize) -> Self {
        Self {
            busy: AtomicUsize::new(questions),
            ..self
        }
    }

    fn to(&self, path: &str) -> (u16, Value) {
        let status = |code: u16, reason: &str, message: &str| {
            let name = path.rsplit('/').next();
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                    "message": message, "details": {"name": name}}),
            )
        };
        let less = |left: usize| left.checked_sub(1);
        let is_busy = self
            .busy
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok();
        match self.objects.get(path) {
            _ if is_busy => status(503, "ServiceUnavailable", "the API server is busy"),
            _ if self.forbid => status(403, "Forbidden", "x is forbidden: user \"eve\" cannot get x"),
            Some(object) if object["kind"] == "Status" => {
                let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok());
                (code.unwrap_or(500), object.clone())
            }
            Some(object) => (200, object.clone()),
            None => status(404, "NotFound", "not found"),
        }
    }
}

pub(crate) fn cluster(answers: Answers) -> Cluster {
    let answers = std::sync::Arc::new(answers);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (code, body) = answers.to(request.uri().path());
        async move {
            let response = Response::builder().status(code);
            response.body(Body::from(serde_json::to_vec(&body).unwrap_or_default()))
        }
    });
    Cluster::new(
        kube::Client::new(service, "default"),
        "default".to_owned(),
        "https://k8s".to_owned(),
    )
}

#[tokio::test]
async fn a_stopped_service_is_not_looked_for() {
    let stopped = deployed(json!({"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}));
    let found = find(
        &cluster(Answers::default()),
        &stopped,
        Protocol::Rest,
        &Options::default(),
    )
    .await;
    let error = found.unwrap_err();
    assert!(
        matches!(error, Error::Stopped { .. }) && error.next().contains("tidewaiter start"),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_way_all_that_was_tried_is_told() {
    let service = deployed(json!({"status": {"deploymentMode": "Standard", "url": "http://fraud-team-a.example.com"}}));
    let options = Options {
        via: Via::Ingress,
        ..Options::default()
    };
    let error = find(&cluster(Answers::default()), &service, Protocol::Rest, &options)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("\n  Ingress team-a/fraud: there is none"),
        "{error}"
    );
}

#[tokio::test]
async fn a_gateway_that_takes_no_connection_is_passed_over() {
    // Reserved for documentation on the loopback: nobody listens there.
    let address = json!({"metadata": {"name": "kourier"},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http2", "port": 9}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}});
    let answers = Answers::from([
        ("/api/v1/namespaces/kourier-system/services/kourier", address),
        ("/api/v1/nodes", json!({"items": []})),
        ("/api/v1/namespaces/team-a/pods", json!({"items": []})),
    ]);
    let service = deployed(json!({"status": {
        "deploymentMode": "Knative", "url": "http://fraud.team-a.example.com",
        "conditions": [{"type": "PredictorReady", "status": "False", "reason": "RevisionMissing", "message": "no revision"}],
    }}));
    let options = |via| Options {
        via,
        ..Options::default()
    };
    let cluster = cluster(answers);
    let error = find(&cluster, &service, Protocol::Rest, &options(Via::Ingress))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Kourier kourier-system/kourier (load balancer): 127.0.0.1:9 doesn't answer")
    );
    let error = find(&cluster, &service, Protocol::Rest, &options(Via::Auto))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "service team-a/fraud is not ready: it has no Pods, and waits for PredictorReady (RevisionMissing: no revision)"
    );
}

#[test]
fn a_selector_is_all_of_its_labels() {
    assert_eq!(selector(&json!({"app": "x", "b": "y"})).as_deref(), Some("app=x,b=y"));
    assert_eq!(selector(&json!({})), None);
    assert_eq!(selector(&Value::Null), None);
}
