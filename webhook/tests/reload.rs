//! Configuration and certificate change while reviews go on, and none is lost.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Authority, Harness, MINIO, create, service, write_pair};
use tokio::task::JoinSet;

/// Clients that send one review after the other until they are stopped, each on its own connection, and half of them on a new one each time.
struct Hammer {
    clients: JoinSet<Vec<String>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Hammer {
    fn start(server: &Harness) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for n in 0..6 {
            let (stop, answered, url) = (Arc::clone(&stop), Arc::clone(&answered), server.url("/mutate"));
            let authority = server.authority.clone();
            clients.spawn(async move {
                let body = serde_json::to_vec(&create(&service())).unwrap();
                let mut client = authority.client();
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if n % 2 == 0 {
                        client = authority.client();
                    }
                    let request = client
                        .post(&url)
                        .header("content-type", "application/json")
                        .body(body.clone());
                    match request.send().await {
                        Ok(response) if response.status() == 200 => {
                            let answer = response.bytes().await.unwrap();
                            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                            if answer["response"]["allowed"] != true || !answer["response"]["patch"].is_string() {
                                failures.push(answer.to_string());
                            }
                        }
                        Ok(response) => failures.push(response.status().to_string()),
                        Err(error) => failures.push(format!("{error:?}")),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        Self {
            clients,
            stop,
            answered,
        }
    }

    /// Waits until `more` reviews were answered.
    async fn go_on(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        wait(async || self.answered.load(Ordering::Relaxed) >= target).await;
    }

    async fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await.concat()
    }
}

async fn wait(until: impl AsyncFn() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_mins(1);
    while !until().await {
        assert!(tokio::time::Instant::now() < limit, "waited in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn write(folder: &Path, yaml: &str) {
    let new = folder.join("new");
    std::fs::write(&new, yaml).unwrap();
    std::fs::rename(new, folder.join("config.yaml")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_configuration_and_certificate_are_swapped() {
    let server = Harness::start(MINIO).await;
    let hammer = Hammer::start(&server);
    let loads = async |what: &str| {
        let (_, metrics) = server.get("/metrics").await;
        let name = format!("tidewaiter_reloads_total{{what=\"{what}\",result=\"ok\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("0");
        line.parse::<usize>().unwrap()
    };
    for round in 0..3 {
        let before = (loads("configuration").await, loads("certificate").await);
        write(
            server.folder.path(),
            &MINIO.replace("us-east-1", &format!("region-{round}")),
        );
        write_pair(server.tls.path(), &server.authority.sign());
        wait(async || loads("configuration").await > before.0 && loads("certificate").await > before.1).await;
        hammer.go_on(20).await;
    }
    assert_eq!(hammer.failures().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_bad_one_is_not() {
    let server = Harness::start(MINIO).await;
    let connector = server.authority.connector();
    let shown = async || {
        let connection = connector.connect(server.running.address).await;
        connection.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = shown().await;
    let failed = r#"tidewaiter_reloads_total{what="certificate",result="failed"}"#;

    // A key that belongs to another certificate, then no PEM at all.
    let (certificate, _) = server.authority.sign();
    let (_, key) = server.authority.sign();
    write_pair(server.tls.path(), &(certificate, key));
    wait(async || server.get("/metrics").await.1.contains(failed)).await;
    write_pair(server.tls.path(), &("nonsense".into(), "nonsense".into()));
    wait(async || server.get("/metrics").await.1.contains(&format!("{failed} 2"))).await;
    assert_eq!(shown().await, first);
    assert_eq!(server.get("/readyz").await.0, 200);

    write_pair(server.tls.path(), &server.authority.sign());
    wait(async || shown().await != first).await;
}

#[tokio::test]
async fn a_bad_configuration_leaves_the_last_good_one_in_use() {
    let server = Harness::start(MINIO).await;
    let bad = MINIO.replace("serves: ['s3://mlflow/']", "serves: ['s3://mlflow/']\n  surprise: 1");
    write(server.folder.path(), &bad);
    wait(async || {
        server
            .get("/metrics")
            .await
            .1
            .contains("tidewaiter_configuration_problems 1")
    })
    .await;
    let response = server.review("/mutate", &create(&service())).await;
    assert!(response["patch"].is_string(), "{response}");
    assert_eq!(server.get("/readyz").await.0, 200);

    write(server.folder.path(), MINIO);
    wait(async || {
        server
            .get("/metrics")
            .await
            .1
            .contains("tidewaiter_configuration_problems 0")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_leaves_answers_all_that_it_was_asked() {
    let server = Harness::start_with(MINIO, |options| options.drain = Duration::from_secs(5)).await;
    let idle = server.authority.connector().connect(server.running.address).await;
    let hammer = Hammer::start(&server);
    hammer.go_on(50).await;
    let url = server.url("/readyz");
    let Harness { running, authority, .. } = server;
    let leaving = tokio::spawn(running.shutdown());
    // As an API server does it once the endpoint is gone from its Service: it stops sending before the listener closes.
    let client = authority.client();
    wait(async || {
        client
            .get(&url)
            .send()
            .await
            .is_ok_and(|response| response.status() == 503)
    })
    .await;
    hammer.go_on(20).await;
    assert_eq!(hammer.failures().await, Vec::<String>::new());
    assert_eq!(leaving.await.unwrap(), 0, "the idle connection was closed too");
    assert!(client.get(&url).send().await.is_err());
    drop(idle);
}

/// What tells an API server of a Pod that leaves may be slower than the drain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_to_a_server_that_leaves_is_answered() {
    let drain = Duration::from_millis(700);
    let server = Harness::start_with(MINIO, |options| options.drain = drain).await;
    let stays = server.client.clone();
    let url = server.url("/mutate");
    let body = serde_json::to_vec(&create(&service())).unwrap();
    let ask = async |client: &reqwest::Client| {
        let request = client.post(&url).header("content-type", "application/json");
        request.body(body.clone()).send().await
    };
    assert_eq!(ask(&stays).await.unwrap().status(), 200);
    let Harness { running, authority, .. } = server;
    let leaving = tokio::spawn(running.shutdown());
    let (begun, mut last) = (Instant::now(), Instant::now());
    while begun.elapsed() < drain + Duration::from_millis(2500) {
        // One with an old connection, which ends with its next answer, and one that never was here.
        for client in [&stays, &authority.client()] {
            let answer = ask(client).await;
            // A machine that stood still for so long has shown the server that nobody comes any more.
            if last.elapsed() > Duration::from_millis(900) {
                return;
            }
            assert_eq!(answer.unwrap().status(), 200);
            last = Instant::now();
        }
        assert!(!leaving.is_finished());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(leaving.await.unwrap(), 0, "all were told to go");
    assert!(ask(&stays).await.is_err());
}

#[tokio::test]
async fn not_ready_before_there_is_a_certificate_and_a_configuration() {
    let (folder, tls) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    let authority = Authority::new();
    let mut options = tidewaiter_webhook::Options::new(
        tidewaiter_webhook::Source::Folder(folder.path().join("later")),
        tidewaiter_webhook::http::certificate::TlsSource::Files {
            certificate: tls.path().join("tls.crt"),
            key: tls.path().join("tls.key"),
        },
    );
    options.observe = Some(([127, 0, 0, 1], 0).into());
    let running = tidewaiter_webhook::Server::start(options).await.unwrap();
    let client = authority.client();
    let get = async |path: &str| {
        let response = client
            .get(format!("http://{}{path}", running.observing.unwrap()))
            .send()
            .await
            .unwrap();
        (
            response.status().as_u16(),
            String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap(),
        )
    };
    assert_eq!(get("/livez").await.0, 200);
    assert_eq!(
        get("/readyz").await,
        (
            503,
            "not ready: no TLS certificate yet, no configuration loaded yet\n".into()
        )
    );
    write_pair(tls.path(), &authority.sign());
    wait(async || get("/readyz").await.1 == "not ready: no configuration loaded yet\n").await;
    std::fs::create_dir(folder.path().join("later")).unwrap();
    std::fs::write(folder.path().join("later/config.yaml"), MINIO).unwrap();
    wait(async || get("/readyz").await.0 == 200).await;
    assert_eq!(get("/mutate").await.0, 404, "reviews are for TLS only");
}
