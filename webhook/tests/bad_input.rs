//! What is no review is told so, and nothing of it hurts the reviews beside it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::{Harness, MINIO, create, service};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn http_that_is_no_review_gets_the_status_that_says_why() {
    let server = Harness::start(MINIO).await;
    let review = serde_json::to_vec(&create(&service())).unwrap();
    let post = async |content_type: &str, body: Vec<u8>| {
        let request = server
            .client
            .post(server.url("/mutate"))
            .header("content-type", content_type)
            .body(body);
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap(),
        )
    };
    assert_eq!(post("application/json; charset=utf-8", review.clone()).await.0, 200);
    insta::assert_snapshot!(post("application/yaml", review.clone()).await.1, @"the Content-Type is not application/json: send an AdmissionReview as JSON");
    assert_eq!(post("application/yaml", review.clone()).await.0, 415);
    assert_eq!(post("application/json", b"{".to_vec()).await.0, 400);
    insta::assert_snapshot!(post("application/json", b"{\"kind\":".to_vec()).await.1, @"the body is not an AdmissionReview in JSON: EOF while parsing a value at line 1 column 8");

    let wrong = |change: fn(&mut Value)| {
        let mut review = create(&service());
        change(&mut review);
        serde_json::to_vec(&review).unwrap()
    };
    let (status, message) = post(
        "application/json",
        wrong(|review| review["apiVersion"] = "admission.k8s.io/v1beta1".into()),
    )
    .await;
    assert_eq!(status, 400);
    insta::assert_snapshot!(message, @"AdmissionReview of admission.k8s.io/v1beta1 is not supported: list v1 in the webhook configuration's admissionReviewVersions");
    assert_eq!(
        post("application/json", wrong(|review| review["request"] = Value::Null))
            .await
            .0,
        400
    );

    let response = server.client.get(server.url("/mutate")).send().await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["allow"].to_str().unwrap()
        ),
        (405, "POST")
    );
    assert_eq!(server.get("/nowhere").await.0, 404);
    let (_, metrics) = server.get("/metrics").await;
    assert!(
        metrics.contains(r#"tidewaiter_reviews_total{endpoint="mutate",ending="invalid"} 6"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_object_that_is_none_is_refused_by_name() {
    let server = Harness::start(MINIO).await;
    for (object, message) in [
        (json!("a string"), "the object is a string, not an object"),
        (json!([1]), "the object is a list, not an object"),
        (json!(7), "the object is a number, not an object"),
        (Value::Null, "the request brings no object"),
    ] {
        let mut review = create(&service());
        review["request"]["object"] = object;
        let response = server.review("/mutate", &review).await;
        assert_eq!(response["allowed"], false);
        assert_eq!(
            (&response["status"]["code"], &response["status"]["message"]),
            (&json!(400), &json!(message))
        );
    }
    // An object with nothing in it, and one whose parts have other types than KServe's, are the API server's to refuse.
    for object in [
        json!({}),
        json!({"metadata": 7, "spec": [true]}),
        json!({"spec": {"predictor": "x"}}),
    ] {
        let mut review = create(&service());
        review["request"]["object"] = object;
        let response = server.review("/mutate", &review).await;
        assert!(response["allowed"].is_boolean(), "{response}");
    }
}

#[tokio::test]
async fn what_is_not_to_be_judged_passes_untouched() {
    let server = Harness::start(MINIO).await;
    let untouched = async |change: fn(&mut Value)| {
        let mut review = create(&service());
        change(&mut review);
        let response = server.review("/mutate", &review).await;
        assert_eq!(response, json!({"uid": review["request"]["uid"], "allowed": true}));
    };
    untouched(|review| review["request"]["operation"] = "DELETE".into()).await;
    untouched(|review| review["request"]["operation"] = "CONNECT".into()).await;
    untouched(|review| review["request"]["subResource"] = "status".into()).await;
    untouched(|review| review["request"]["kind"]["kind"] = "Pod".into()).await;
    untouched(|review| {
        review["request"]["object"]["metadata"]["labels"] = json!({"tidewaiter.dev/ignore": "true"});
    })
    .await;
    untouched(|review| {
        review["request"]["object"]["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z".into();
    })
    .await;
    assert!(server.running.recorded.as_ref().unwrap().objects().is_empty());
}

#[tokio::test]
async fn the_largest_object_of_an_api_server_passes_with_its_old_twin() {
    let server = Harness::start(MINIO).await;
    let mut object = service();
    object["metadata"]["annotations"] = json!({"notes": "x".repeat(3 << 20)});
    let mut review = harness::update(&object, &object);
    review["request"]["object"]["spec"]["predictor"]["minReplicas"] = 2.into();
    let response = server.review("/mutate", &review).await;
    assert_eq!(response["allowed"], true);
    assert!(response["patch"].is_string());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let server = Harness::start_with(MINIO, |options| options.max_body = 64 << 10).await;
    let authority = server.authority.connector();
    // With its length announced, and no byte of it sent.
    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let mut connection = authority.connect(server.running.address).await;
    connection
        .write_all(format!("{head}content-length: 99999999\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert!(head_of(&mut connection).await.starts_with("HTTP/1.1 413 "));

    // In chunks, without an end: refused once it is too much, and the refusal arrives at a client that goes on sending.
    let mut connection = authority.connect(server.running.address).await;
    connection
        .write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 64 && connection.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(head_of(&mut connection).await.starts_with("HTTP/1.1 413 "));

    // An ordinary client gets the words.
    let response = server.post("/mutate", vec![b' '; 1 << 20]).await;
    assert_eq!(response.status(), 413);
    insta::assert_snapshot!(String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap(), @"the body is larger than 65536 bytes, the most that is reviewed: make the object smaller, or raise --max-body");
    assert_eq!(server.review("/mutate", &create(&service())).await["allowed"], true);
}

/// A client of HTTP/2 such as curl loses an answer whose stream is reset while it still sends: all that it has is read before it is answered.
#[tokio::test]
async fn over_http2_a_refusal_arrives_at_a_client_that_still_sends() {
    let server = Harness::start_with(MINIO, |options| options.max_body = 64 << 10).await;
    let client = server.authority.client_of_any_http();
    for (content_type, status) in [("application/yaml", 415), ("application/json", 413)] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let frames = (0..512).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[b' '; 16 << 10])))
        });
        let response = client
            .post(server.url("/mutate"))
            .header("content-type", content_type)
            .body(reqwest::Body::wrap(StreamBody::new(futures::stream::iter(frames))))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (response.version(), response.status().as_u16()),
            (reqwest::Version::HTTP_2, status)
        );
        assert!(!response.bytes().await.unwrap().is_empty());
        assert_eq!(
            sent.load(Ordering::SeqCst),
            512,
            "{content_type}: the answer came before the end of the body"
        );
    }
    // A client that never ends is answered all the same.
    let endless = futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
    let request = client
        .post(server.url("/mutate"))
        .header("content-type", "application/yaml")
        .body(reqwest::Body::wrap(StreamBody::new(endless)));
    let response = tokio::time::timeout(Duration::from_secs(5), request.send())
        .await
        .unwrap();
    assert_eq!(response.unwrap().status(), 415);
}

#[tokio::test]
async fn clients_that_stop_half_way_are_in_nobodys_way() {
    let server = Harness::start(MINIO).await;
    let connector = server.authority.connector();
    let mut stuck = Vec::new();
    for _ in 0..40 {
        stuck.push(tokio::net::TcpStream::connect(server.running.address).await.unwrap());
        let mut connection = connector.connect(server.running.address).await;
        connection
            .write_all(
                b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{",
            )
            .await
            .unwrap();
        std::mem::forget(connection);
    }
    // Of these nobody knows how much they will send.
    for _ in 0..12 {
        let mut connection = connector.connect(server.running.address).await;
        connection
            .write_all(b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n")
            .await
            .unwrap();
        std::mem::forget(connection);
    }
    let request = create(&service());
    let review = tokio::time::timeout(Duration::from_secs(5), server.review("/mutate", &request));
    assert_eq!(review.await.unwrap()["allowed"], true);
}

/// Each request under way takes one of the 256 units, for as long as its body doesn't end.
#[tokio::test]
async fn a_review_that_has_no_turn_is_turned_away_until_others_are_gone() {
    let server = Harness::start(MINIO).await;
    let shed = async |count: u32| {
        let (_, metrics) = server.get("/metrics").await;
        let line = format!("tidewaiter_reviews_total{{endpoint=\"mutate\",ending=\"shed\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    };
    shed(0).await;
    let client = server.authority.client_of_any_http();
    let held: Vec<_> = (0..256)
        .map(|_| {
            let endless = futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
            let request = client
                .post(server.url("/mutate"))
                .header("content-type", "application/json")
                .body(reqwest::Body::wrap(StreamBody::new(endless)));
            tokio::spawn(request.send())
        })
        .collect();
    let review = serde_json::to_vec(&create(&service())).unwrap();
    // The first few may come before all of those.
    let turned_away = async {
        loop {
            let response = server.post("/mutate", review.clone()).await;
            if response.status() != 200 {
                return response;
            }
        }
    };
    let response = tokio::time::timeout(Duration::from_secs(8), turned_away)
        .await
        .expect("one is turned away");
    assert_eq!(response.status(), 503);
    insta::assert_snapshot!(String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap(), @"too many reviews are being answered already: try again");
    shed(1).await;

    for request in held {
        assert!(!request.is_finished(), "it was answered before its body ended");
        request.abort();
    }
    assert_eq!(server.review("/mutate", &create(&service())).await["allowed"], true);
    shed(1).await;
}

async fn head_of(connection: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = [0; 512];
    let read = tokio::time::timeout(Duration::from_secs(5), connection.read(&mut head))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&head[..read]).into_owned()
}
