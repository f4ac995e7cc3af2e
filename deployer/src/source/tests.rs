//! Against a server that answers as MLflow 2.22 and 3.17 were seen to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Answers by path and query; what it doesn't know is the page that Flask has for it.
struct Server {
    address: String,
    /// Each request's first line, and its `authorization`.
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

type Answers = BTreeMap<String, (u16, String)>;

impl Server {
    async fn start(answers: &[(&str, u16, &str)]) -> Self {
        let answers: Answers = answers
            .iter()
            .map(|(path, status, body)| ((*path).to_owned(), (*status, (*body).to_owned())))
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
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
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let authorization = text.lines().find_map(|line| line.strip_prefix("authorization: "));
                let note = (path.clone(), authorization.unwrap_or_default().trim().to_owned());
                noted.lock().unwrap().push(note);
                let missing = (404, "<!doctype html><title>404 Not Found</title>".to_owned());
                let (status, body) = answers.get(&path).cloned().unwrap_or(missing);
                let location = if status == 302 {
                    format!("location: {body}\r\n")
                } else {
                    String::new()
                };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{location}\r\n{body}",
                    body.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, seen }
    }

    fn options(&self) -> Options {
        Options {
            tracking: Some(Tracking::open(format!("http://{}", self.address))),
            ..Options::default()
        }
    }

    async fn told(&self, source: &str) -> String {
        match locate(&source.parse().unwrap(), &self.options()).await {
            Ok(located) => located.origin.to_string(),
            Err(error) => format!("{error}; {}", error.next()).replace(&self.address, "HERE"),
        }
    }
}

/// A server of files that answers by a script: what it writes to the first request, the second and so on, before it closes; nothing at all to what comes after.
async fn scripted(answers: &[&str]) -> (Artifacts, Arc<Mutex<Vec<String>>>) {
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut silent = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !is_whole(&request) {
                match socket.read(&mut chunk).await {
                    Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                    _ => break,
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let range = request.lines().find_map(|line| line.strip_prefix("range: "));
            noted.lock().unwrap().push(range.unwrap_or_default().to_owned());
            match answers.next() {
                Some(answer) => drop(socket.write_all(answer.as_bytes()).await),
                None => silent.push(socket),
            }
        }
    });
    let tracking = Tracking {
        timeout: Some(std::time::Duration::from_millis(500)),
        ..Tracking::open(format!("http://{address}"))
    };
    let of = tracking::Of::Run {
        id: "4f0c".to_owned(),
        path: "model".to_owned(),
    };
    let client = Client::new(&tracking).unwrap();
    (Artifacts { client, of }, asked)
}

/// What is fetched of ten digits, by a scratch folder of its own.
async fn fetched(artifacts: Artifacts, scratch: &std::path::Path) -> Result<(String, Vec<u64>), String> {
    let located = Located {
        uri: None,
        model: Model::unseen(Framework::Onnx),
        origin: Origin {
            asked: "runs:/4f0c/model".to_owned(),
            steps: Vec::new(),
        },
        folder: Some(Folder::Tracking(artifacts)),
        entries: vec![Entry {
            path: "net.onnx".to_owned(),
            bytes: 10,
        }],
        found: Found::Unseen,
    };
    let done = Mutex::new(Vec::new());
    let folder = fetch(&located, vec!["net.onnx"], scratch, &|bytes, _| {
        done.lock().unwrap().push(bytes)
    })
    .await;
    match folder {
        Ok(folder) => {
            let text = std::fs::read_to_string(folder.join("net.onnx")).unwrap();
            Ok((text, done.into_inner().unwrap()))
        }
        Err(error) => Err(format!("{error}; {}", error.next())),
    }
}

const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234";
const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";

#[tokio::test]
async fn a_file_that_broke_off_goes_on_where_it_was_and_else_comes_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let rest = "HTTP/1.1 206 Partial\r\ncontent-length: 5\r\ncontent-range: bytes 5-9/10\r\n\r\n56789";
    let (artifacts, asked) = scripted(&[HALF, rest]).await;
    let (text, _) = fetched(artifacts, scratch.path()).await.unwrap();
    assert_eq!(text, "0123456789");
    assert_eq!(*asked.lock().unwrap(), ["", "bytes=5-"]);

    // Without a length, what ends too early looks as if it were whole.
    let unmeasured = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n012";
    let nothing = "HTTP/1.1 416 No\r\ncontent-length: 0\r\n\r\n";
    let (artifacts, asked) = scripted(&[unmeasured, nothing, HALF, WHOLE]).await;
    let (text, done) = fetched(artifacts, scratch.path()).await.unwrap();
    assert_eq!(text, "0123456789");
    assert_eq!(*asked.lock().unwrap(), ["", "bytes=3-", "", "bytes=5-"]);
    assert_eq!(done.last(), Some(&10));
}

#[tokio::test]
async fn a_file_that_breaks_off_again_and_again_is_told_as_one() {
    let scratch = tempfile::tempdir().unwrap();
    let (artifacts, asked) = scripted(&[HALF; 8]).await;
    let told = fetched(artifacts, scratch.path()).await.unwrap_err();
    assert!(
        told.contains(" broke off runs:/4f0c/model/net.onnx after 5 bytes: ") && told.contains("gunicorn"),
        "{told}"
    );
    assert_eq!(asked.lock().unwrap().len(), 4);
    // A worker that is killed while it fetches the file closes the connection, too.
    let (artifacts, asked) = scripted(&[""; 8]).await;
    let told = fetched(artifacts, scratch.path()).await.unwrap_err();
    assert!(
        told.contains(" broke off runs:/4f0c/model/net.onnx after 0 bytes: "),
        "{told}"
    );
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_file_that_does_not_begin_is_not_asked_for_again() {
    let scratch = tempfile::tempdir().unwrap();
    for (answers, reason) in [
        (&[][..], "it was waited for 0 seconds"),
        (&["HTTP/1.1 504 Late\r\ncontent-length: 0\r\n\r\n"], "a proxy before it"),
    ] {
        let (artifacts, asked) = scripted(answers).await;
        let told = fetched(artifacts, scratch.path()).await.unwrap_err();
        assert!(
            told.contains(&format!(" sends nothing of runs:/4f0c/model/net.onnx: {reason}")),
            "{told}"
        );
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_with_the_folder_and_what_has_to_fit() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir(scratch.path().join("fetched")).unwrap();
    std::os::unix::fs::symlink("/dev/full", scratch.path().join("fetched/net.onnx")).unwrap();
    let (artifacts, _) = scripted(&[WHOLE]).await;
    let told = fetched(artifacts, scratch.path()).await.unwrap_err();
    let folder = scratch.path().display();
    assert!(
        told.starts_with(&format!(
            "there is no room left in {folder} for the model, of which 10 bytes "
        )) && told.contains("XDG_CACHE_HOME"),
        "{told}"
    );
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

const ALIAS: &str = "/api/2.0/mlflow/registered-models/alias?name=fraud&alias=champion";
const URI: &str = "/api/2.0/mlflow/model-versions/get-download-uri?name=fraud&version=3";
const ID: &str = "m-ea02a593b9954ecbae70b0b3fb347b06";
const MLMODEL: &str = "flavors:\n  python_function: {loader_module: mlflow.xgboost, python_version: 3.11.7}\n  xgboost: {data: model.ubj, xgb_version: 3.0.2}\n";
const UNKNOWN: &str = r#"{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}"#;

#[tokio::test]
async fn an_alias_leads_over_a_version_to_the_store_and_the_server_reads_it_without_keys() {
    let uri = format!(r#"{{"artifact_uri": "s3://mlflow/0/models/{ID}/artifacts"}}"#);
    let folder = format!("/api/2.0/mlflow/logged-models/{ID}/artifacts/directories");
    let file = format!("/ajax-api/2.0/mlflow/logged-models/{ID}/artifacts/files?artifact_file_path=MLmodel");
    let server = Server::start(&[
        (ALIAS, 200, r#"{"model_version": {"version": "3"}}"#),
        (URI, 200, &uri),
        (
            &folder,
            200,
            r#"{"files": [{"path": "MLmodel", "is_dir": false, "file_size": 140}, {"path": "model.ubj", "is_dir": false, "file_size": "2000"}]}"#,
        ),
        (&file, 200, MLMODEL),
    ])
    .await;
    let mut options = server.options();
    options.tracking.as_mut().unwrap().auth = Auth::Basic {
        user: "ann".into(),
        password: "hidden".to_owned().into(),
    };
    let located = locate(&"models:/fraud@champion".parse().unwrap(), &options)
        .await
        .unwrap();
    let place = format!("s3://mlflow/0/models/{ID}/artifacts");
    assert_eq!(
        located.origin.to_string(),
        format!("models:/fraud@champion → version 3 → {place}")
    );
    assert_eq!(located.uri.unwrap().as_str(), place);
    assert_eq!(located.model.versions["xgboost"], "3.0.2");
    assert_eq!(
        (located.model.framework, located.model.bytes, located.model.files),
        (Framework::Mlflow, 2140, 2)
    );
    // `ann:hidden`
    assert!(
        server
            .seen
            .lock()
            .unwrap()
            .iter()
            .all(|(_, who)| who == "Basic YW5uOmhpZGRlbg==")
    );
    assert!(!format!("{options:?}").contains("hidden"));
}

#[tokio::test]
async fn what_the_registry_lacks_is_told_with_what_it_has() {
    let server = Server::start(&[
        (
            ALIAS,
            400,
            r#"{"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias champion not found."}"#,
        ),
        (
            "/api/2.0/mlflow/registered-models/get?name=fraud",
            200,
            r#"{"registered_model": {"aliases": [{"alias": "best", "version": "2"}]}}"#,
        ),
        (URI, 404, UNKNOWN),
        (
            "/api/2.0/mlflow/model-versions/search?filter=name%3D%27fraud%27&max_results=200",
            200,
            r#"{"model_versions": [{"version": "2"}, {"version": "1"}]}"#,
        ),
        (
            "/api/2.0/mlflow/registered-models/get-latest-versions?name=frau",
            404,
            UNKNOWN,
        ),
        (
            "/api/2.0/mlflow/registered-models/search?max_results=200",
            200,
            r#"{"registered_models": [{"name": "fraud"}, {"name": "churn"}]}"#,
        ),
    ])
    .await;
    assert_eq!(
        server.told("models:/fraud@champion").await,
        "http://HERE has no alias `champion` of model fraud; its aliases: best (version 2)"
    );
    assert_eq!(
        server.told("models:/fraud/3").await,
        "http://HERE has no version 3 of model fraud; its versions: 1, 2"
    );
    assert_eq!(
        server.told("models:/frau/latest").await,
        "http://HERE has no registered model frau; its models: fraud, churn"
    );
}

#[tokio::test]
async fn a_server_that_says_no_is_one_sentence() {
    let server = Server::start(&[
        ("/api/2.0/mlflow/runs/get?run_id=a", 401, ""),
        ("/api/2.0/mlflow/runs/get?run_id=b", 403, ""),
        (
            "/api/2.0/mlflow/runs/get?run_id=c",
            500,
            r#"{"error_code": "INTERNAL_ERROR", "message": "the database is down"}"#,
        ),
        (
            "/api/2.0/mlflow/runs/get?run_id=d",
            302,
            "https://login.example/?next=1",
        ),
        ("/api/2.0/mlflow/runs/get?run_id=e", 404, UNKNOWN),
    ])
    .await;
    let starts = |told: String, wanted: &str| assert!(told.starts_with(wanted), "{told}");
    starts(
        server.told("runs:/a/model").await,
        "the tracking server http://HERE doesn't let us in without credentials (401); set MLFLOW_TRACKING_USERNAME",
    );
    starts(
        server.told("runs:/b/model").await,
        "the tracking server http://HERE doesn't let us read /api/2.0/mlflow/runs/get without credentials (403); ask for",
    );
    starts(
        server.told("runs:/c/model").await,
        "the tracking server http://HERE answers 500: the database is down; try again",
    );
    assert_eq!(
        server
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|(path, _)| path.ends_with("=c"))
            .count(),
        4
    );
    starts(
        server.told("runs:/d/model").await,
        "http://HERE doesn't answer as an MLflow server: it sends us to https://login.example;",
    );
    starts(server.told("runs:/e/model").await, "http://HERE has no run e;");
    starts(
        server.told("runs:/f/model").await,
        "http://HERE doesn't answer as an MLflow server: it doesn't know MLflow's API",
    );
}

#[tokio::test]
async fn credentials_go_to_the_tracking_server_alone() {
    let server = Server::start(&[]).await;
    assert_eq!(
        server.told("mlflow-artifacts://other.example:5000/1/a").await,
        "mlflow-artifacts://other.example:5000/1/a names the host other.example:5000, and the tracking server is http://HERE; \
         if you trust other.example:5000 with your credentials, name it as the tracking server"
    );
    assert!(server.seen.lock().unwrap().is_empty());
    let error = locate(&"runs:/a/b".parse().unwrap(), &Options::default())
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("none was named"), "{error}");
}

#[tokio::test]
async fn a_circle_of_uris_ends() {
    let server = Server::start(&[(URI, 200, r#"{"artifact_uri": "models:/fraud/3"}"#)]).await;
    let told = server.told("models:/fraud/3").await;
    assert!(
        told.starts_with("models:/fraud/3 leads from one URI of MLflow to the next and never to a store"),
        "{told}"
    );
}

#[tokio::test]
async fn a_run_of_mlflow_3_names_a_logged_model() {
    let list = "/api/2.0/mlflow/artifacts/list?run_id=4f&path=model";
    let models = format!(
        r#"{{"models": [{{"info": {{"name": "other", "model_id": "m-1", "source_run_id": "4f"}}}}, {{"info": {{"name": "model", "model_id": "{ID}", "source_run_id": "4f"}}}}]}}"#
    );
    let logged = format!("/api/2.0/mlflow/logged-models/{ID}");
    let server = Server::start(&[
        (
            "/api/2.0/mlflow/runs/get?run_id=4f",
            200,
            r#"{"run": {"info": {"artifact_uri": "s3://mlflow/0/4f/artifacts", "experiment_id": "0"}}}"#,
        ),
        (list, 200, r#"{"root_uri": "s3://mlflow/0/4f/artifacts"}"#),
        ("/api/2.0/mlflow/artifacts/list?run_id=4f&path=none", 200, "{}"),
        ("/api/2.0/mlflow/logged-models/search", 200, &models),
        (
            &logged,
            200,
            r#"{"model": {"info": {"artifact_uri": "pvc://claim/model"}}}"#,
        ),
    ])
    .await;
    let mut options = server.options();
    options.framework = Some(Framework::Mlflow);
    let located = locate(&"runs:/4f/model".parse().unwrap(), &options).await.unwrap();
    assert_eq!(
        located.origin.to_string(),
        format!("runs:/4f/model → model {ID} → pvc://claim/model")
    );
    assert_eq!(
        server.told("runs:/4f/none").await,
        "http://HERE has no model `none` of run 4f; its models of this run: other, model"
    );
}

#[tokio::test]
async fn behind_a_proxy_the_operator_may_know_where_it_lies() {
    let server = Server::start(&[
        (
            "/api/2.0/mlflow-artifacts/artifacts?path=0%2Fa",
            200,
            r#"{"files": [{"path": "MLmodel", "is_dir": false, "file_size": 140}]}"#,
        ),
        ("/api/2.0/mlflow-artifacts/artifacts/0/a/MLmodel", 200, MLMODEL),
    ])
    .await;
    let source = "mlflow-artifacts:/0/a".parse().unwrap();
    let located = locate(&source, &server.options()).await.unwrap();
    assert!(located.uri.is_none() && matches!(located.folder, Some(Folder::Tracking(_))));
    let options = Options {
        proxied_root: Some("pvc://claim/mlflow".parse().unwrap()),
        framework: Some(Framework::Mlflow),
        ..server.options()
    };
    let located = locate(&source, &options).await.unwrap();
    assert_eq!(located.uri.unwrap().as_str(), "pvc://claim/mlflow/0/a");
}
