//! Policies that select namespaces by labels, in a namespace whose labels are known, new, changed, or not to be had.

use serde_json::{Value, json};
use tidewaiter_engine::Options;

use super::*;
use crate::metrics::Endpoint;
use crate::namespaces::folder::Recorded;
use crate::testing::{ApiServer, COMPILED};

/// A namespace `old` that the configuration knows without labels, and `storage-credentials` for namespaces of the tier `prod`. Beside it runs
/// `runtime-version`, which has nothing to say of these models.
fn yaml(failure_policy: &str) -> String {
    format!(
        "
{{apiVersion: v1, kind: Namespace, metadata: {{name: old}}}}
---
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {{name: minio}}
spec: {{type: s3, serves: ['s3://mlflow/'], s3: {{endpoint: 'http://127.0.0.1:9'}}, credentials: {{secretRef: {{namespace: minio, name: root}}}}}}
---
{{apiVersion: v1, kind: Secret, metadata: {{name: root, namespace: minio}}, stringData: {{accessKey: a, secretKey: b}}}}
---
apiVersion: tidewaiter.dev/v1alpha1
kind: WasmPolicy
metadata: {{name: storage-credentials}}
spec:
  module: {{builtin: storage-credentials}}
  match: {{namespaceSelector: {{matchLabels: {{tier: prod}}}}}}
  settings: {{unserved: deny}}
  failurePolicy: {failure_policy}
"
    )
}

async fn reviewer(failure_policy: &str, server: ApiServer) -> Arc<Reviewer> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), yaml(failure_policy)).unwrap();
    let metrics = Arc::new(Metrics::default());
    let reviewer = Arc::new(Reviewer::new(
        Arc::new(Recorded::default()),
        Some(Arc::new(server)),
        Arc::clone(&metrics),
        Duration::from_millis(1600),
    ));
    let (objects, problems) = Folder::new(folder.path()).load().unwrap();
    let engine = Engine::new(Options {
        cache_dir: Some(COMPILED.path().into()),
        ..Options::default()
    });
    let engine = engine.unwrap();
    let problems = Loader::new(engine, Arc::clone(&reviewer), metrics)
        .load(objects, problems)
        .await;
    assert!(problems.is_empty(), "{problems:?}");
    reviewer
}

fn service(namespace: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "fraud", "namespace": namespace},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://nobody/1"}}},
    })
}

async fn answer(reviewer: &Reviewer, object: &Value, old: &Value) -> Value {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "kind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"},
            "name": "fraud", "namespace": object["metadata"]["namespace"],
            "operation": if old.is_null() { "CREATE" } else { "UPDATE" },
            "userInfo": {"username": "ann"}, "object": object, "oldObject": old,
        },
    });
    let bytes = reviewer
        .review_bytes(Endpoint::mutate, review.to_string().as_bytes())
        .await;
    serde_json::from_slice::<Value>(&bytes.unwrap()).unwrap()["response"].clone()
}

async fn create(reviewer: &Reviewer, namespace: &str) -> Value {
    answer(reviewer, &service(namespace), &Value::Null).await
}

fn prod() -> Labels {
    Labels::from([("tier".to_owned(), "prod".to_owned())])
}

#[tokio::test]
async fn a_namespace_made_a_second_ago_is_selected_by_its_labels() {
    let live = |labels: Labels| ApiServer {
        live: Some(labels),
        ..ApiServer::default()
    };
    let selected = create(&*reviewer("ignore", live(prod())).await, "new").await;
    assert_eq!(selected["allowed"], false, "{selected}");
    let other = create(&*reviewer("ignore", live(Labels::new())).await, "new").await;
    assert_eq!((&other["allowed"], &other["warnings"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn a_namespace_labelled_a_moment_ago_is_selected_as_the_watch_shows_it() {
    let server = ApiServer {
        watched: Some(prod()),
        ..ApiServer::default()
    };
    let selected = create(&*reviewer("ignore", server).await, "old").await;
    assert_eq!(selected["allowed"], false, "{selected}");
    // Without a watch that works the configuration's own labels count.
    let other = create(&*reviewer("ignore", ApiServer::default()).await, "old").await;
    assert_eq!((&other["allowed"], &other["warnings"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn a_policy_of_which_nobody_knows_whether_it_matches_fails_by_its_own_failure_policy() {
    for server in [
        ApiServer::default(),
        ApiServer {
            hung: true,
            ..ApiServer::default()
        },
    ] {
        let ignored = create(&*reviewer("ignore", server.clone()).await, "new").await;
        assert_eq!(ignored["allowed"], true, "{ignored}");
        let told = "tidewaiter: admitted without the policy storage-credentials, which selects namespaces by labels that can't be read now";
        assert!(
            ignored["warnings"].as_array().unwrap().contains(&json!(told)),
            "{ignored}"
        );
        let failed = create(&*reviewer("fail", server).await, "new").await;
        assert_eq!(failed["allowed"], false);
        let message = failed["status"]["message"].as_str().unwrap();
        assert!(message.contains("labels that can't be read now"), "{message}");
    }
}

#[tokio::test]
async fn what_a_policy_filled_in_stays_while_nobody_knows_whether_it_matches() {
    let server = |live| ApiServer {
        live,
        ..ApiServer::default()
    };
    let mut object = service("new");
    object["spec"]["predictor"]["model"]["storageUri"] = json!("s3://mlflow/1");
    let first = answer(&*reviewer("ignore", server(Some(prod()))).await, &object, &Value::Null).await;
    let mut stored = object.clone();
    let patch = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        first["patch"].as_str().unwrap(),
    );
    let patch: json_patch::Patch = serde_json::from_slice(&patch.unwrap()).unwrap();
    json_patch::patch(&mut stored, &patch).unwrap();
    let secret = |object: &Value| object["metadata"]["annotations"]["serving.kserve.io/storageSecretName"].clone();
    assert_eq!(secret(&stored), "tidewaiter-minio");

    let mut scaled = stored.clone();
    scaled["spec"]["predictor"]["minReplicas"] = json!(2);
    let unknown = answer(&*reviewer("ignore", server(None)).await, &scaled, &stored).await;
    assert_eq!(
        (&unknown["allowed"], &unknown["patch"]),
        (&json!(true), &Value::Null),
        "{unknown}"
    );
    // Where the namespace is known not to be selected, it is taken out.
    let elsewhere = answer(
        &*reviewer("ignore", server(Some(Labels::new()))).await,
        &scaled,
        &stored,
    )
    .await;
    assert!(elsewhere["patch"].is_string(), "{elsewhere}");
}
