use std::sync::Mutex;

use kube::client::Body;
use tidewaiter_engine::{Engine, Options};
use tidewaiter_world::{Folder, ObjectRef};

use super::*;
use crate::admission::Reviewer;
use crate::configuration::Loader;
use crate::metrics::Metrics;
use crate::namespaces::folder::Recorded;

fn object(kind: &str, name: &str, status: &Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "tidewaiter.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "generation": 2}, "status": status,
    }))
    .unwrap()
}

fn backend(status: &Value) -> DynamicObject {
    object("StorageBackend", "minio", status)
}

fn problem(message: &str, in_use: bool) -> Problem {
    Problem {
        object: Some(ObjectRef::cluster("StorageBackend", "minio")),
        at: None,
        message: message.into(),
        in_use,
    }
}

fn written(resource: &DynamicObject, problems: &[&Problem]) -> Option<Value> {
    status(
        resource,
        &[usable("StorageBackend", problems)],
        true,
        &[("namespaces", json!(3))],
    )
}

#[test]
fn a_status_is_written_once() {
    let first = written(&backend(&Value::Null), &[]).unwrap();
    assert_eq!(first["conditions"][0]["type"], "Accepted");
    assert_eq!(first["conditions"][0]["status"], "True");
    assert_eq!(first["namespaces"], 3);
    assert_eq!(written(&backend(&first), &[]), None);
    let more = [usable("StorageBackend", &[])];
    let more = status(&backend(&first), &more, true, &[("namespaces", json!(4))]).unwrap();
    assert_eq!(more["conditions"], first["conditions"]);
}

#[test]
fn the_time_is_that_of_the_last_change_of_status() {
    let since = "2026-01-01T00:00:00Z";
    let before = json!({"conditions": [{
        "type": "Accepted", "status": "False", "reason": "Invalid", "message": "spec.serves: is empty",
        "observedGeneration": 1, "lastTransitionTime": since,
    }]});
    let still = written(&backend(&before), &[&problem("Secret minio/root isn't there", false)]).unwrap();
    assert_eq!(still["conditions"][0]["lastTransitionTime"], since);
    let mended = written(&backend(&before), &[]).unwrap();
    assert_ne!(mended["conditions"][0]["lastTransitionTime"], since);
}

#[test]
fn a_remark_leaves_a_backend_accepted_and_a_problem_does_not() {
    let remark = problem("StorageBackend/other serves it too", true);
    let remarked = written(&backend(&Value::Null), &[&remark]).unwrap();
    let condition = &remarked["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("True"), &json!("InUseWithRemarks"))
    );
    assert_eq!(condition["message"], "StorageBackend/other serves it too");
    let both = written(&backend(&Value::Null), &[&remark, &problem("no Secret", false)]).unwrap();
    assert_eq!(both["conditions"][0]["status"], "False");
}

#[test]
fn a_store_that_is_silent_says_nothing_of_its_credentials() {
    let told = |reach: Reach| store(&reach).map(|condition| (condition.type_, condition.status));
    assert_eq!(told(Reach::Open), [("Reachable", "True"), ("CredentialsValid", "True")]);
    let refused = told(Reach::Refused("minio answers 403".into()));
    assert_eq!(refused, [("Reachable", "True"), ("CredentialsValid", "False")]);
    let silent = told(Reach::Silent("minio didn't answer in time".into()));
    assert_eq!(silent, [("Reachable", "False"), ("CredentialsValid", "Unknown")]);
}

#[test]
fn a_new_leader_that_has_not_looked_yet_lets_stand_what_was_found() {
    let mut conditions = vec![usable("StorageBackend", &[])];
    conditions.extend(store(&Reach::Open));
    let first = status(&backend(&Value::Null), &conditions, true, &[("namespaces", json!(3))]).unwrap();
    let unlooked = [usable("StorageBackend", &[])];
    assert_eq!(
        status(&backend(&first), &unlooked, false, &[("namespaces", json!(3))]),
        None
    );
    let gone = status(&backend(&first), &unlooked, true, &[("namespaces", json!(3))]).unwrap();
    assert_eq!(gone["conditions"].as_array().unwrap().len(), 1);
}

#[test]
fn a_namespace_counts_once_and_not_while_its_secret_goes() {
    let secret = |namespace: &str, name: &str, going: bool| {
        let mut metadata = json!({"namespace": namespace, "name": name, "labels": {"tidewaiter.dev/backend": "minio"}});
        if going {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value::<Secret>(json!({"metadata": metadata})).unwrap())
    };
    let delivered = [
        secret("a", "tidewaiter-minio", false),
        secret("b", "tidewaiter-minio", false),
        secret("b", "copied-by-someone", false),
        secret("c", "tidewaiter-minio", true),
    ];
    assert_eq!(namespaces("minio", &delivered), 2);
    assert_eq!(namespaces("other", &delivered), 0);
}

/// The path of each write, and the status in it.
type Written = Arc<Mutex<Vec<(String, Value)>>>;

/// An API server that keeps the statuses that are written, and how many there were.
fn server() -> (Client, Written) {
    let kept = Written::default();
    let keep = Arc::clone(&kept);
    let service = tower::service_fn(move |request: axum::http::Request<Body>| {
        let keep = Arc::clone(&keep);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            let mut object: Value = serde_json::from_slice(&body).unwrap();
            keep.lock().unwrap().push((path, object["status"].clone()));
            object["metadata"] = json!({"name": "x"});
            Ok::<_, std::convert::Infallible>(axum::http::Response::new(Body::from(object.to_string().into_bytes())))
        }
    });
    (Client::new(service, "default"), kept)
}

#[tokio::test]
async fn both_of_two_overlapping_backends_say_so_and_a_policy_what_runs_and_nothing_is_written_twice() {
    let yaml = |name: &str| {
        format!(
            "---\n{{apiVersion: tidewaiter.dev/v1alpha1, kind: StorageBackend, metadata: {{name: {name}}}, \
             spec: {{type: s3, serves: ['s3://mlflow/'], credentials: {{anonymous: {{}}}}}}}}\n"
        )
    };
    let policy = |name: &str, builtin: &str| {
        format!(
            "---\n{{apiVersion: tidewaiter.dev/v1alpha1, kind: WasmPolicy, metadata: {{name: {name}}}, spec: {{module: {{builtin: {builtin}}}}}}}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let text = yaml("minio") + &yaml("other") + &policy("ours", "storage-credentials") + &policy("none", "nothing");
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    let metrics = Arc::new(Metrics::default());
    let reviewer = Arc::new(Reviewer::new(
        Arc::new(Recorded::default()),
        None,
        Arc::clone(&metrics),
        std::time::Duration::from_secs(2),
    ));
    let (objects, problems) = Folder::new(folder.path()).load().unwrap();
    let mut loader = Loader::new(Engine::new(Options::default()).unwrap(), Arc::clone(&reviewer), metrics);
    let problems = loader.load(objects, problems).await;
    let snapshot = reviewer.snapshot().unwrap();

    let (client, kept) = server();
    let mut statuses = Statuses::new(client);
    let resources = |written: &[(String, Value)]| {
        let kinds = [
            ("StorageBackend", "minio", "storagebackends"),
            ("StorageBackend", "other", "storagebackends"),
            ("WasmPolicy", "ours", "wasmpolicies"),
            ("WasmPolicy", "none", "wasmpolicies"),
        ];
        kinds.map(|(kind, name, plural)| {
            let path = format!("/apis/tidewaiter.dev/v1alpha1/{plural}/{name}/status");
            let status = written
                .iter()
                .find(|(at, _)| *at == path)
                .map(|(_, status)| status.clone());
            Arc::new(object(kind, name, &status.unwrap_or_default()))
        })
    };
    statuses
        .report(&resources(&[]), &problems, &snapshot, &Health::default(), &[])
        .await;
    let first = kept.lock().unwrap().clone();
    let condition = |index: usize| {
        let condition = &first[index].1["conditions"][0];
        (
            condition["status"].clone(),
            condition["message"].as_str().unwrap().to_owned(),
        )
    };
    let (status, message) = condition(0);
    assert!(
        status == "True" && message.starts_with("StorageBackend/other serves `s3://mlflow/` too"),
        "{message}"
    );
    let (status, message) = condition(1);
    assert!(
        status == "False" && message.starts_with("StorageBackend/minio serves `s3://mlflow/` too"),
        "{message}"
    );
    assert_eq!(first[0].1["namespaces"], 0);
    assert_eq!(first[2].1["digest"], snapshot.digest("ours").unwrap());
    assert!(first[2].1["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(first[2].1["capabilities"], json!(snapshot.imports("ours")));
    assert_eq!(
        (&first[3].1["conditions"][0]["status"], &first[3].1["digest"]),
        (&json!("False"), &Value::Null)
    );

    statuses
        .report(&resources(&first), &problems, &snapshot, &Health::default(), &[])
        .await;
    assert_eq!(kept.lock().unwrap().len(), first.len());
}
