//! What is in the way of a deployment is told before its model is fetched, of which there may be gigabytes behind a tracking server.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server of HTTP, and the first line of each request that it saw.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` is given the method with the path, and what was sent.
    async fn start(answer: impl Fn(&str, &Value) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = Vec::new();
                let mut chunk = [0; 4096];
                while !is_whole(&request) {
                    match socket.read(&mut chunk).await {
                        Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                        _ => break,
                    }
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let line = text.split(" HTTP/").next().unwrap_or_default().to_owned();
                let sent = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
                let (status, body) = answer(&line, &serde_json::from_str(sent).unwrap_or_default());
                noted.lock().unwrap().push(line);
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = socket.write_all((head + &body).as_bytes()).await;
            }
        });
        Self { url, seen }
    }

    /// An MLflow server that keeps the model `churn`, and hands it out by its proxy.
    async fn mlflow() -> Self {
        const FILES: &str = "/api/2.0/mlflow-artifacts/artifacts";
        Self::start(|line, _| {
            let path = line.trim_start_matches("GET ");
            if path == format!("{FILES}?path=1%2Fchurn") {
                let file = |path: &str, bytes: usize| json!({"path": path, "is_dir": false, "file_size": bytes});
                let files = [file("MLmodel", MLMODEL.len()), file("model.ubj", WEIGHTS.len())];
                return (200, json!({"files": files}).to_string());
            }
            match path.strip_prefix(FILES) {
                Some("/1/churn/MLmodel") => (200, MLMODEL.to_owned()),
                Some("/1/churn/model.ubj") => (200, WEIGHTS.to_owned()),
                _ => (404, String::new()),
            }
        })
        .await
    }

    /// An API server that has this service, and lets the user do these verbs with it.
    async fn cluster(service: Option<Value>, verbs: &'static [&'static str]) -> Self {
        Self::start(move |line, sent| {
            let asked = &sent["spec"]["resourceAttributes"];
            let path = line.split('?').next().unwrap_or_default();
            match path.rsplit('/').next().unwrap_or_default() {
                "selfsubjectaccessreviews" => {
                    let allowed = asked["verb"].as_str().is_some_and(|verb| verbs.contains(&verb));
                    (
                        200,
                        json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}}).to_string(),
                    )
                }
                "churn" => service
                    .as_ref()
                    .map_or_else(|| status(404, "churn"), |service| (200, service.to_string())),
                "many" => status(404, "many"),
                "gone" => status(404, "gone"),
                // What else there is may not be read, and is taken to be as KServe ships it.
                _ => status(403, ""),
            }
        })
        .await
    }

    fn saw(&self, part: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|line| line.contains(part)).count()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

fn status(code: u16, name: &str) -> (u16, String) {
    let reason = if code == 404 { "NotFound" } else { "Forbidden" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": "user \"eve\" cannot get it", "details": {"name": name}});
    (code, status.to_string())
}

const MLMODEL: &str = "flavors:\n  python_function: {loader_module: mlflow.xgboost, python_version: 3.11.7}\n  xgboost: {data: model.ubj, xgb_version: 3.0.2}\n";
const WEIGHTS: &str = "all that it has learnt";
const ALL: &[&str] = &["get", "patch", "create"];

/// What becomes of `deploy mlflow-artifacts:/1/churn` with these words, into a store where nobody listens.
async fn deployed(mlflow: &Server, cluster: Option<&Server>, words: &[&str]) -> Result<Ending, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    if let Some(cluster) = cluster {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a", "users": [{"name": "a", "user": {}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "clusters": [{"name": "a", "cluster": {"server": cluster.url}}],
        });
        fs::write(&kubeconfig, config.to_string()).unwrap();
    }
    let kubeconfig = kubeconfig.display().to_string();
    let mut line = vec!["deploy", "mlflow-artifacts:/1/churn", "--kubeconfig", &kubeconfig];
    line.extend(["--tracking-server", mlflow.url.as_str(), "--artifact-store", "s3://m/"]);
    if !words.contains(&"--s3-endpoint") {
        line.extend(["--s3-endpoint", "http://127.0.0.1:9"]);
    }
    if !words.contains(&"-n") {
        line.extend(["-n", "team-a"]);
    }
    line.extend(words);
    let arguments = <tests::Line as clap::Parser>::parse_from(line).deploy;
    Box::pin(deploy(arguments)).await
}

#[tokio::test]
async fn what_the_cluster_refuses_is_told_before_the_tracking_server_is_asked_anything() {
    let leaving = json!({"metadata": {"name": "churn", "deletionTimestamp": "2026-06-01T12:00:00Z"}});
    for (service, verbs, words, told) in [
        (
            None,
            &["get", "patch"][..],
            &[][..],
            "not allowed to create inferenceservices.serving.kserve.io churn in namespace team-a",
        ),
        (
            None,
            &["get"],
            &[],
            "not allowed to patch inferenceservices.serving.kserve.io churn in namespace team-a",
        ),
        (
            None,
            ALL,
            &["-n", "gone"],
            "can't patch inferenceservices.serving.kserve.io churn in namespace gone: there is no namespace gone",
        ),
        (Some(leaving), ALL, &[], "churn in namespace team-a is being deleted"),
        (
            None,
            ALL,
            &["--server", "many", "--memory", "1Gi"],
            "there is no service many in namespace team-a",
        ),
        (
            None,
            ALL,
            &["--server", "many", "--memory", "1Gi", "--gpus", "1"],
            "--gpus has no place in a TrainedModel",
        ),
    ] {
        let (mlflow, cluster) = (Server::mlflow().await, Server::cluster(service, verbs).await);
        let failure = deployed(&mlflow, Some(&cluster), words).await.unwrap_err();
        assert_eq!(failure.message, told);
        assert_eq!(mlflow.saw(""), 0, "{told}: {:?}", mlflow.seen);
    }
    // All that is missing is told at once.
    let (mlflow, cluster) = (Server::mlflow().await, Server::cluster(None, &["get"]).await);
    let failure = deployed(&mlflow, Some(&cluster), &[]).await.unwrap_err();
    assert_eq!(
        failure.next.as_deref(),
        Some(
            "ask for a role with the verbs patch and create on inferenceservices.serving.kserve.io in namespace team-a"
        )
    );
}

#[tokio::test]
async fn what_is_refused_for_what_the_model_is_is_told_before_its_files_are_fetched() {
    let history = json!([{"at": "", "by": "ann", "from": "s3://x/churn", "storageUri": "s3://x/churn"}]).to_string();
    let anothers = json!({
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "churn", "namespace": "team-a", "annotations": {"tidewaiter.dev/history": history}},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://x/churn"}}},
        "status": {"deploymentMode": "Standard"},
    });
    for (service, words, told) in [
        (None, &["--runtime", "kserve-lgbserver"][..], "kserve-lgbserver"),
        (
            None,
            &["--deployment-mode", "Standard", "--scale-metric", "rps"],
            "in Standard mode nothing scales by rps",
        ),
        (Some(anothers), &[], "was deployed from s3://x/churn"),
    ] {
        let (mlflow, cluster) = (Server::mlflow().await, Server::cluster(service, ALL).await);
        let failure = deployed(&mlflow, Some(&cluster), words).await.unwrap_err();
        assert!(failure.message.contains(told), "{failure:?}");
        assert_eq!((mlflow.saw("MLmodel"), mlflow.saw("model.ubj")), (1, 0), "{told}");
    }
}

#[tokio::test]
async fn a_store_that_lets_nobody_in_is_told_before_a_model_is_fetched_for_it() {
    let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    let store = Server::start(|_, _| (403, denied.to_owned())).await;
    let (mlflow, cluster) = (Server::mlflow().await, Server::cluster(None, ALL).await);
    let words = ["--s3-endpoint", store.url.as_str(), "--anonymous"];
    let failure = deployed(&mlflow, Some(&cluster), &words).await.unwrap_err();
    assert!(failure.message.contains("s3://m/churn/"), "{failure:?}");
    assert_eq!((mlflow.saw("model.ubj"), store.saw("GET")), (0, 1));
}

#[tokio::test]
async fn a_dry_run_by_the_client_fetches_it_whatever_the_cluster_says() {
    let forbidding = Server::cluster(None, &[]).await;
    for cluster in [None, Some(&forbidding)] {
        let mlflow = Server::mlflow().await;
        let ending = deployed(&mlflow, cluster, &["--dry-run", "client"]).await.unwrap();
        assert_eq!((ending, mlflow.saw("model.ubj")), (Ending::Nothing, 1));
    }
    assert_eq!(forbidding.saw("selfsubjectaccessreviews"), 0);
}
