//! Who gets a backend's credentials is the admin's to say, whatever a policy asks for.

use std::sync::Arc;
use std::time::Duration;

use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::Delivery;
use tidewaiter_engine::{Engine, Options};
use tidewaiter_world::{Folder, Labels};

use super::*;
use crate::admission::Reviewer;
use crate::configuration::Loader;
use crate::namespaces::folder::Recorded;
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

#[tokio::test]
async fn credentials_stay_within_the_grants() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), BACKEND).unwrap();
    let metrics = Arc::new(Metrics::default());
    let recorded = Arc::new(Recorded::default());
    let reviewer = Arc::new(Reviewer::new(
        Arc::clone(&recorded) as _,
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
    let object = Document::new(r#"{"metadata": {"name": "fraud"}}"#).unwrap();
    for (namespace, granted) in [("team-a", true), ("labelled", true), ("team-b", false)] {
        let review = Review {
            operation: Operation::Create,
            api_version: "serving.kserve.io/v1beta1",
            kind: "InferenceService",
            namespace,
            name: "fraud",
            object: &object,
            old_object: None,
            username: "ann",
            groups: &[],
        };
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut labels = Labels::new();
        if namespace == "labelled" {
            labels.insert("tier".to_owned(), "prod".to_owned());
        }
        let server = ApiServer {
            live: Some(labels),
            ..ApiServer::default()
        };
        let world = snapshot.world(&review, Some(Arc::new(server)), deadline);
        let mut outcome = Outcome {
            effects: vec![Effect {
                policy: "curious".into(),
                backend: "minio".into(),
                delivery: Delivery::Annotation,
            }],
            ..Outcome::default()
        };
        let done = carry_out(
            &mut outcome,
            &review,
            &snapshot,
            &world,
            &*recorded,
            &metrics,
            Instant::now() + Duration::from_secs(2),
        )
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
