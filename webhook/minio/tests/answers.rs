//! What is said of servers that aren't the MinIO that was hoped for. The real one is asked in the end-to-end tests.

use std::time::Duration;

use jiff::Timestamp;
use tidewaiter_minio::{AccessKey, Admin, Change, Error, Grant, NewAccount, Policy, Trust};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECRET: &str = "the-admins-secret";

/// A server that says the same to everybody. Gives its port.
async fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            let _ = stream.read(&mut request).await;
            let (head, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
            let head = head.replace('\n', "\r\n");
            let text = format!(
                "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    port
}

fn admin(endpoint: &str) -> Admin {
    let key = AccessKey::new("admin", SECRET);
    Admin::new(endpoint.parse().expect("a URL"), None, key, &Trust::System).expect("a client")
}

async fn listed(answer: &'static str) -> Error {
    let port = server(answer).await;
    admin(&format!("http://127.0.0.1:{port}"))
        .list()
        .await
        .expect_err("no listing")
}

#[tokio::test]
async fn another_store_is_told_from_a_minio() {
    for (answer, words) in [
        (
            "404 Not Found\ncontent-type: application/xml\n\n<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code></Error>",
            "it answers 404 NoSuchBucket",
        ),
        // Amazon doesn't know a MinIO's key.
        (
            "403 Forbidden\nserver: AmazonS3\n\n<Error><Code>InvalidAccessKeyId</Code></Error>",
            "it answers 403 InvalidAccessKeyId",
        ),
        (
            "404 Not Found\ncontent-type: text/html\n\n<html></html>",
            "it answers 404 with a web page",
        ),
        // The console's port has its page for every path.
        (
            "200 OK\ncontent-type: text/html; charset=utf-8\n\n<html></html>",
            "it answers 200 with a web page",
        ),
        (
            "301 Moved Permanently\nlocation: https://elsewhere.example/?token=abc\n\n",
            "it answers 301",
        ),
        (
            "426 Upgrade Required\n\n{\"Code\": \"XMinioAdminVersionMismatch\"}",
            "it answers 426 XMinioAdminVersionMismatch",
        ),
    ] {
        let error = listed(answer).await;
        assert!(matches!(error, Error::NotMinio { .. }), "{answer}: {error:?}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            error
                .to_string()
                .contains("give the backend static `credentials` instead"),
            "{error}"
        );
        assert!(!error.is_temporary());
    }
}

#[tokio::test]
async fn a_revocation_is_not_believed_of_anybody() {
    for answer in ["200 OK\n\n", "200 OK\ncontent-type: text/html\n\n<html></html>"] {
        let port = server(answer).await;
        let error = admin(&format!("http://127.0.0.1:{port}"))
            .delete("key")
            .await
            .expect_err("no revocation");
        assert!(matches!(error, Error::NotMinio { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_minio_that_is_not_ready_is_asked_again() {
    for answer in [
        "503 Service Unavailable\n\n{\"Code\": \"XMinioServerNotInitialized\", \"Message\": \"wait\"}",
        "503 Service Unavailable\nserver: MinIO\n\n<Error><Code>SlowDownRead</Code></Error>",
        // Of the ingress before it.
        "502 Bad Gateway\ncontent-type: text/html\n\n<html></html>",
    ] {
        let error = listed(answer).await;
        assert!(
            matches!(error, Error::Unavailable { .. }) && error.is_temporary(),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_clock_is_named_whoever_finds_it() {
    let error = listed("403 Forbidden\n\n<Error><Code>RequestTimeTooSkewed</Code></Error>").await;
    assert!(matches!(error, Error::Clock { .. }), "{error:?}");
}

#[tokio::test]
async fn a_servers_free_text_and_our_secret_are_not_repeated() {
    for answer in [
        "400 Bad Request\n\n{\"Code\": \"see http://evil.example/the-admins-secret\", \"Message\": \"the-admins-secret\"}",
        "200 OK\ncontent-type: application/json\n\n{\"accounts\": [\"the-admins-secret\"]}",
        "403 Forbidden\n\n{\"Code\": \"SignatureDoesNotMatch\", \"Message\": \"the-admins-secret\"}",
    ] {
        let error = listed(answer).await;
        let said = format!("{error} {error:?}");
        assert!(!said.contains(SECRET) && !said.contains("evil"), "{said}");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    drop(silent);
    let error = admin(&format!("http://127.0.0.1:{port}"))
        .list()
        .await
        .expect_err("nobody there");
    assert!(error.is_temporary());
    let said = error.to_string();
    assert!(
        said.starts_with(&format!("MinIO can't be reached: no answer of 127.0.0.1:{port}: ")),
        "{said}"
    );

    let error = admin("http://minio.invalid:9000")
        .list()
        .await
        .expect_err("no such name");
    assert_eq!(
        error.to_string(),
        "MinIO can't be reached: the name minio.invalid:9000 can't be resolved"
    );
}

#[test]
fn secrets_are_in_no_debug_output() {
    let key = AccessKey::new("admin", SECRET);
    let admin = admin("https://user:the-admins-secret@minio.example");
    for said in [
        format!("{key:?}"),
        format!("{admin:?}"),
        format!("{:#?}", (&key, &admin)),
    ] {
        assert!(said.contains("admin") && !said.contains(SECRET), "{said}");
    }
    assert_eq!(key.secret(), SECRET);
}

#[test]
fn what_no_client_can_be_made_from_is_told() {
    let told = |endpoint: &str, key: AccessKey, region: Option<&str>, trust: &Trust| {
        Admin::new(endpoint.parse().expect("a URL"), region, key, trust)
            .expect_err("no client")
            .to_string()
    };
    let key = AccessKey::new("admin", SECRET);
    let good = "https://minio.example";
    assert!(
        told("ftp://minio.example", key.clone(), None, &Trust::System)
            .contains("minio.example is not http:// or https://")
    );
    assert!(told(good, AccessKey::new("ad min", SECRET), None, &Trust::System).contains("has a blank in it"));
    assert!(told(good, AccessKey::new("admin", ""), None, &Trust::System).contains("is empty"));
    assert!(told(good, key.clone(), Some("eu\n"), &Trust::System).contains("the region"));
    assert!(told(good, key, None, &Trust::Bundle("nonsense".into())).contains("no certificate in PEM form"));
}

#[tokio::test]
async fn what_no_minio_would_take_is_not_sent() {
    let policy = Policy::new(&[Grant::new("mlflow", "", "").expect("granted")]).expect("a policy");
    let now = Timestamp::now();
    let key = AccessKey::random("").expect("a key");
    let good = NewAccount {
        key: &key,
        name: "team-a",
        description: "",
        policy: &policy,
        expires: now + Duration::from_hours(1),
    };
    let long = "n".repeat(257);
    for (wrong, words) in [
        (NewAccount { name: "1", ..good }, "begin with a letter"),
        (NewAccount { name: "", ..good }, "begin with a letter"),
        (
            NewAccount {
                name: &long[..33],
                ..good
            },
            "at most 32",
        ),
        (
            NewAccount {
                description: &long,
                ..good
            },
            "more than 256 bytes",
        ),
        (NewAccount { expires: now, ..good }, "15 minutes to 365 days from now"),
        (
            NewAccount {
                expires: now + Duration::from_mins(14),
                ..good
            },
            "15 minutes",
        ),
        (
            NewAccount {
                expires: now + Duration::from_hours(366 * 24),
                ..good
            },
            "365 days",
        ),
    ] {
        // Nobody listens there, which would be another error.
        let error = admin("http://127.0.0.1:1").add(&wrong).await.expect_err("refused");
        assert!(matches!(error, Error::Request(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// This machine's clock is an hour ahead of the caller's.
#[tokio::test]
async fn when_a_key_ends_is_reckoned_by_the_callers_clock() {
    let callers = || Timestamp::now() - Duration::from_hours(1);
    let port = server("403 Forbidden\n\n<Error><Code>RequestTimeTooSkewed</Code></Error>").await;
    let admin = admin(&format!("http://127.0.0.1:{port}")).by_clock(callers);
    let policy = Policy::new(&[Grant::new("mlflow", "", "").expect("granted")]).expect("a policy");
    let key = AccessKey::random("").expect("a key");
    let ends_in = async |minutes: u64| {
        let expires = callers() + Duration::from_mins(minutes);
        let account = NewAccount {
            key: &key,
            name: "team-a",
            description: "",
            policy: &policy,
            expires,
        };
        let change = Change {
            expires: Some(expires),
            ..Change::policy(&policy)
        };
        [
            admin.add(&account).await.expect_err("refused"),
            admin.update(key.id(), &change).await.expect_err("refused"),
        ]
    };
    // By this machine's it has ended. So MinIO is asked, and says whose clock is wrong.
    for error in ends_in(30).await {
        assert!(matches!(error, Error::Clock { .. }), "{error:?}");
    }
    // By this machine's it is near enough.
    for error in ends_in(365 * 24 * 60 + 30).await {
        assert!(matches!(error, Error::Request(_)), "{error:?}");
    }
}
