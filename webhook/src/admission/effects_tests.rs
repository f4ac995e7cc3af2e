//! Who gets a backend's credentials is the admin's to say, whatever a policy asks for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::Delivery;
use tidewaiter_engine::{Engine, Options};
use tidewaiter_world::{Folder, Labels};

use super::*;
use crate::admission::Reviewer;
use crate::configuration::Loader;
use crate::minting::Mint;
use crate::namespaces::folder::Recorded;
use crate::namespaces::{Subject, Wanted};
use crate::testing::ApiServer;

/// Grants by name to `team-a`, and to whoever has the label.
const BACKEND: &str = "
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {name: minio}
spec:
  type: s3
  serves: ['s3://mlflow/']
  s3: {endpoint: 'http://127.0.0.1:9'}
  credentials: {secretRef: {namespace: minio, name: root}}
  grants:
    - {namespaces: [team-a]}
    - {namespaceSelector: {matchLabels: {tier: prod}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: root, namespace: minio}, stringData: {accessKey: a, secretKey: b}}
";

struct Setup {
    snapshot: Arc<Snapshot>,
    metrics: Arc<Metrics>,
}

impl Setup {
    async fn new() -> Self {
        Self::with(BACKEND).await
    }

    async fn with(backend: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("all.yaml"), backend).unwrap();
        let metrics = Arc::new(Metrics::default());
        let reviewer = Arc::new(Reviewer::new(
            Arc::new(Recorded::default()) as _,
            None,
            Arc::clone(&metrics),
            Duration::from_secs(1),
        ));
        let (objects, problems) = Folder::new(folder.path()).load().unwrap();
        let engine = Engine::new(Options::default()).unwrap();
        let problems = Loader::new(engine, Arc::clone(&reviewer), Arc::clone(&metrics))
            .load(objects, problems)
            .await;
        assert!(problems.is_empty(), "{problems:?}");
        let snapshot = reviewer.snapshot().unwrap();
        Self { snapshot, metrics }
    }

    async fn carry_out(
        &self,
        outcome: &mut Outcome,
        review: &Review<'_>,
        labels: Labels,
        namespaces: &dyn Namespaces,
    ) -> Result<(), Failure> {
        let until = Instant::now() + Duration::from_secs(2);
        let server = ApiServer {
            live: Some(labels),
            ..ApiServer::default()
        };
        let world = self.snapshot.world(review, Some(Arc::new(server)), until);
        carry_out(
            outcome,
            review,
            &self.snapshot,
            &world,
            namespaces,
            (&self.metrics, "of the request"),
            until,
        )
        .await
    }
}

fn review<'a>(namespace: &'a str, object: &'a Document) -> Review<'a> {
    Review {
        operation: Operation::Create,
        api_version: "serving.kserve.io/v1beta1",
        kind: "InferenceService",
        namespace,
        name: "fraud",
        object,
        old_object: None,
        username: "ann",
        groups: &[],
    }
}

/// A policy asked for the credentials of `minio`.
fn asks() -> Outcome {
    Outcome {
        effects: vec![Effect {
            policy: "curious".into(),
            backend: "minio".into(),
            delivery: Delivery::Annotation,
        }],
        ..Outcome::default()
    }
}

#[tokio::test]
async fn credentials_stay_within_the_grants() {
    let (setup, recorded) = (Setup::new().await, Recorded::default());
    let object = Document::new(r#"{"metadata": {"name": "fraud"}}"#).unwrap();
    for (namespace, granted) in [("team-a", true), ("labelled", true), ("team-b", false)] {
        let mut labels = Labels::new();
        if namespace == "labelled" {
            labels.insert("tier".to_owned(), "prod".to_owned());
        }
        let done = setup
            .carry_out(&mut asks(), &review(namespace, &object), labels, &recorded)
            .await;
        let written = recorded.objects().len();
        match done {
            Ok(()) => assert!(granted, "{namespace} got them"),
            Err(failure) => {
                assert!(!granted, "{namespace}: {}", failure.denial.message);
                assert_eq!((failure.code, &*failure.denial.code), (403, "backend-not-granted"));
                for part in ["the policy curious", "StorageBackend minio", "the namespace team-b"] {
                    assert!(failure.denial.message.contains(part), "{}", failure.denial.message);
                }
                assert_eq!(written, 2, "something was written");
            }
        }
    }
    assert_eq!(recorded.objects().len(), 2);
}

/// A cluster in which nothing can be written, for this reason.
struct Failing(fn(String) -> ProvideError);

/// No namespace that was named is this one.
const ELSEWHERE: Failing = Failing(|namespace| ProvideError::Elsewhere {
    kind: "Secret",
    namespace,
    name: "tidewaiter-minio".into(),
    only: "team-z".into(),
});
const SILENT: Failing = Failing(|namespace| ProvideError::Unreachable {
    kind: "Secret",
    namespace,
    name: "tidewaiter-minio".into(),
    message: "in time".into(),
    there: false,
});

#[async_trait::async_trait]
impl Namespaces for Failing {
    async fn provide(&self, namespace: &str, _: &Wanted, _: Instant) -> Result<Provided, ProvideError> {
        Err(self.0(namespace.to_owned()))
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

    async fn may_use(&self, _: &Subject, _: &str, _: &str, _: Instant) -> Result<bool, String> {
        Ok(true)
    }

    fn copies(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    async fn has_secret(&self, _: &str, _: &str, _: Instant) -> bool {
        false
    }
}

#[tokio::test]
async fn where_nothing_may_be_read_a_service_that_has_its_credentials_may_still_change() {
    let setup = Setup::new().await;
    let bare = r#"{"metadata": {"name": "fraud"}, "spec": {"predictor": {"model":
        {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://mlflow/fraud"}}}}"#;
    let bare = Document::new(bare).unwrap();
    let used = bare.as_str().replace(
        r#""name": "fraud""#,
        r#""name": "fraud", "annotations": {"serving.kserve.io/storageSecretName": "tidewaiter-minio"}"#,
    );
    let used = Document::new(&used).unwrap();
    for (old, passes) in [(None, false), (Some(&bare), false), (Some(&used), true)] {
        let review = Review {
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            old_object: old,
            ..review("team-a", &used)
        };
        let mut outcome = asks();
        let done = setup.carry_out(&mut outcome, &review, Labels::new(), &ELSEWHERE).await;
        match done {
            Ok(()) => {
                assert!(passes, "nobody knows of credentials there");
                let [said] = &*outcome.warnings else {
                    panic!("{:?}", outcome.warnings)
                };
                assert!(said.contains("could not be renewed"), "{said}");
            }
            Err(failure) => {
                assert!(!passes, "{}", failure.denial.message);
                assert!(failure.denial.message.contains("deliveryNamespaces"));
            }
        }
    }
}

#[tokio::test]
async fn an_api_server_that_is_silent_refuses_no_service_whose_credentials_the_leader_writes() {
    let object = Document::new(r#"{"metadata": {"name": "fraud"}}"#).unwrap();
    let asked = BACKEND.replace("  type: s3\n", "  type: s3\n  authorization: requester\n");
    assert_ne!(asked, BACKEND);
    for (backend, passes) in [(BACKEND, true), (&*asked, false)] {
        let setup = Setup::with(backend).await;
        let mut outcome = asks();
        let done = setup
            .carry_out(&mut outcome, &review("team-a", &object), Labels::new(), &SILENT)
            .await;
        match done {
            Ok(()) => {
                assert!(passes, "whether it may be used is asked in a review alone");
                insta::assert_snapshot!(outcome.warnings.join("\n"), @"tidewaiter: the API server can't take the credentials of minio now: they come in a moment, Pods wait for them");
                assert_eq!(outcome.effects.len(), 1);
            }
            Err(failure) => {
                assert!(!passes, "{}", failure.denial.message);
                assert_eq!((failure.code, &*failure.denial.code), (500, "credentials-unreachable"));
            }
        }
    }
}
