//! What a collector of traces is told of a review.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use harness::{Harness, MINIO, create, service};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Is;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tidewaiter_webhook::traces::{Traces, TracesError};
use tokio::net::TcpListener;

type Received = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A collector as far as it matters: it takes what OTLP over HTTP defines, at the path that it defines.
async fn collector() -> (String, Received) {
    async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        received
            .lock()
            .unwrap()
            .push(ExportTraceServiceRequest::decode(body).unwrap());
    }
    let received = Received::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(Arc::clone(&received));
    tokio::spawn(async { axum::serve(listener, router).await });
    (address, received)
}

fn spans(received: &Received) -> Vec<Span> {
    let received = received.lock().unwrap();
    let resources = received.iter().flat_map(|request| &request.resource_spans);
    resources
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| scope.spans.clone())
        .collect()
}

fn text(span: &Span, key: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Is::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_a_span_in_the_api_servers_trace_with_one_for_each_policy() {
    let (address, received) = collector().await;
    let traces = Arc::new(Traces::to(&address).unwrap());
    let server = Harness::start_with(MINIO, |options| options.traces = Some(Arc::clone(&traces))).await;
    let request = server.client.post(server.url("/mutate"));
    let request = request
        .header("content-type", "application/json")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .body(create(&service()).to_string());
    assert_eq!(request.send().await.unwrap().status(), 200);
    // Its parent is not sampled, so neither is it.
    let unsampled = server.client.post(server.url("/validate"));
    let unsampled = unsampled
        .header("content-type", "application/json")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-00")
        .body(create(&service()).to_string());
    assert_eq!(unsampled.send().await.unwrap().status(), 200);
    tokio::task::spawn_blocking(move || traces.end()).await.unwrap();

    let spans = spans(&received);
    let review = spans.iter().find(|span| span.name == "mutate").unwrap();
    assert_eq!(hex(&review.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&review.parent_span_id), "00f067aa0ba902b7");
    for (key, value) in [
        ("tidewaiter.uid", "705ab4f5-6393-11e8-b7cc-42010a800002"),
        ("tidewaiter.outcome", "patched"),
        ("k8s.namespace.name", "team-a"),
        ("k8s.object.name", "fraud"),
    ] {
        assert_eq!(text(review, key).as_deref(), Some(value), "{key}");
    }
    let policies: Vec<_> = spans
        .iter()
        .filter(|span| span.parent_span_id == review.span_id)
        .collect();
    let [policy] = policies[..] else {
        panic!("{} policies are told of", policies.len())
    };
    assert_eq!(policy.name, "storage-credentials");
    assert_eq!(text(policy, "tidewaiter.outcome").as_deref(), Some("acted"));
    assert!(review.start_time_unix_nano <= policy.start_time_unix_nano);
    assert!(policy.end_time_unix_nano <= review.end_time_unix_nano);
    assert_eq!(spans.len(), 2, "{spans:?}");
    let said = format!("{:?}", received.lock().unwrap());
    assert!(
        !said.contains("not-shown-to-anyone") && !said.contains("s3://"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_no_review() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let traces = Arc::new(Traces::to(&format!("http://{}", nobody.local_addr().unwrap())).unwrap());
    drop(nobody);
    let server = Harness::start_with(MINIO, |options| options.traces = Some(Arc::clone(&traces))).await;
    for _ in 0..3000 {
        let response = server.review("/mutate", &create(&service())).await;
        assert_eq!(response["allowed"], true);
    }
    let ended = tokio::task::spawn_blocking(move || traces.end());
    tokio::time::timeout(Duration::from_secs(30), ended)
        .await
        .unwrap()
        .unwrap();
}

#[test]
fn an_address_that_is_none_is_said() {
    for wrong in ["collector:4318", "grpc://collector:4317", "", "http://"] {
        let error = Traces::to(wrong).err().unwrap();
        assert!(matches!(&error, TracesError::Address(_)), "{error}");
        assert!(
            error.to_string().contains("http://collector.monitoring:4318"),
            "{error}"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
