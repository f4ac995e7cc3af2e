//! Traces, for whoever collects them: a span for each review, in it one for each policy that ran. Sent as OTLP over HTTP, in batches, by a thread of its own: a
//! collector that is slow or away costs spans, and no review.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use axum::http::{HeaderMap, Uri};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use reqwest::blocking::Client;
use tidewaiter_engine::outcome::{Ended, Run};

use crate::metrics::{Ending, Endpoint, ended};

/// Where spans go.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

/// Why spans can't be sent anywhere.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// Nothing that OTLP over HTTP can be sent to.
    #[error("`{0}` is no collector's address: write it as in http://collector.monitoring:4318")]
    Address(String),
    /// The exporter can't be made.
    #[error("traces can't be sent: {0}")]
    Exporter(String),
}

/// A client that trusts nobody's certificate, for collectors that have none: the exporter's own can't be made on a machine without certificates.
fn plain() -> Result<Client, TracesError> {
    // As long as the exporter's own waits by default.
    let builder = Client::builder().timeout(Duration::from_secs(10)).tls_certs_only([]);
    // It may not be made among asynchronous tasks.
    let made = thread::spawn(move || builder.build()).join();
    let made = made.map_err(|_| TracesError::Exporter("the thread that makes the client panicked".to_owned()))?;
    made.map_err(|error| TracesError::Exporter(error.to_string()))
}

/// One review, as a span tells it. Nothing in it is of the object's contents.
pub(crate) struct Told<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) uid: &'a str,
    pub(crate) operation: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) ending: Ending,
    /// The code of the refusal, where it is one.
    pub(crate) refusal: Option<&'a str>,
    pub(crate) runs: &'a [Run],
}

impl Traces {
    /// To a collector's address; without a path its `/v1/traces`. `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER` and `OTEL_RESOURCE_ATTRIBUTES` count as
    /// OpenTelemetry defines them.
    pub fn to(address: &str) -> Result<Self, TracesError> {
        let wrong = || TracesError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(wrong());
        }
        let endpoint = match uri.path() {
            "" | "/" => format!("{}/v1/traces", address.trim_end_matches('/')),
            _ => address.to_owned(),
        };
        // The exporter's HTTP client takes the process' own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut exporter = SpanExporter::builder().with_http().with_endpoint(endpoint);
        if uri.scheme_str() == Some("http") {
            exporter = exporter.with_http_client(plain()?);
        }
        let exporter = exporter.build();
        let exporter = exporter.map_err(|error| TracesError::Exporter(error.to_string()))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder()
            .with_service_name("tidewaiter")
            .with_attribute(version)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Self {
            tracer: provider.tracer("tidewaiter"),
            provider,
            propagator: TraceContextPropagator::new(),
        })
    }

    /// A review that is over. It belongs to the trace that the API server names in its headers, if any, and is kept where that one is.
    pub(crate) fn review(&self, headers: &HeaderMap, started: Instant, told: &Told<'_>) {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let at = |instant: Instant| clock - now.saturating_duration_since(instant);
        let ending = format!("{:?}", told.ending);
        let parent = self.propagator.extract_with_context(&Context::new(), &Headers(headers));
        let attributes = [
            ("tidewaiter.uid", told.uid),
            ("tidewaiter.operation", told.operation),
            ("tidewaiter.outcome", &ending),
            ("tidewaiter.refusal", told.refusal.unwrap_or_default()),
            ("k8s.namespace.name", told.namespace),
            ("k8s.object.kind", told.kind),
            ("k8s.object.name", told.name),
        ];
        let attributes = attributes.iter().filter(|(_, value)| !value.is_empty());
        let span = self
            .tracer
            .span_builder(format!("{:?}", told.endpoint))
            .with_kind(SpanKind::Server)
            .with_start_time(at(started))
            .with_attributes(attributes.map(|(key, value)| KeyValue::new(*key, (*value).to_owned())));
        let mut span = self.tracer.build_with_context(span, &parent);
        if told.ending == Ending::failed {
            span.set_status(Status::error(told.refusal.unwrap_or_default().to_owned()));
        }
        let within = parent.with_remote_span_context(span.span_context().clone());
        for run in told.runs {
            let waited = i64::try_from(run.host.as_micros()).unwrap_or(i64::MAX);
            let policy = self
                .tracer
                .span_builder(run.policy.to_string())
                .with_start_time(at(run.began))
                .with_attributes([
                    KeyValue::new("tidewaiter.host_calls_us", waited),
                    KeyValue::new("tidewaiter.outcome", ended(&run.ended)),
                ]);
            let mut policy = self.tracer.build_with_context(policy, &within);
            if let Ended::Failed(why) = &run.ended {
                policy.set_status(Status::error(why.clone()));
            }
            policy.end_with_timestamp(at(run.began) + run.took);
        }
        span.end_with_timestamp(clock);
    }

    /// Sends what is left. Blocks, five seconds at most.
    pub fn end(&self) {
        // What can't be sent is lost; the exporter has said so.
        let _ = self.provider.shutdown();
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}
