//! What is served: `/mutate` and `/validate` for the API server, `/livez`, `/readyz` and `/metrics` for whoever looks after us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tracing::warn;

use super::certificate::Certificates;
use super::lingering::LINGER;
use crate::admission::Reviewer;
use crate::metrics::{Ending, Endpoint, Metrics};

/// An API server sends its review in one go.
const BODY: Duration = Duration::from_secs(10);
/// Bodies at once take at most [`BODY_UNITS`] times this many bytes of memory; a small one counts as one.
const BODY_UNIT: usize = 256 * 1024;
/// 64 MiB of bodies, 256 reviews.
const BODY_UNITS: u32 = 256;
/// The longest body that may be asked for. One that needs all of that memory, or more, would wait for its turn in vain.
pub(crate) const LARGEST_BODY: usize = BODY_UNIT * BODY_UNITS as usize / 2;
/// How long a review waits for its turn, within the API server's own timeout.
const TURN: Duration = Duration::from_secs(1);

/// What the routes stand on.
pub struct App {
    /// Answers reviews.
    pub reviewer: Arc<Reviewer>,
    /// Without one no handshake succeeds.
    pub certificates: Arc<Certificates>,
    /// Served at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Longest body in bytes.
    pub max_body: usize,
    draining: AtomicBool,
    in_flight: Semaphore,
}

impl App {
    /// Not draining, nothing in flight.
    pub fn new(
        reviewer: Arc<Reviewer>,
        certificates: Arc<Certificates>,
        metrics: Arc<Metrics>,
        max_body: usize,
    ) -> Self {
        Self {
            reviewer,
            certificates,
            metrics,
            max_body,
            draining: AtomicBool::new(false),
            in_flight: Semaphore::new(BODY_UNITS as usize),
        }
    }

    /// From now on `/readyz` says no, and every connection that brings a review is closed after its answer.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What is missing until reviews can be answered. Empty when ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            missing.push("shutting down");
        }
        if !self.certificates.loaded() {
            missing.push("no TLS certificate yet");
        }
        if !self.reviewer.configured() {
            missing.push("no configuration loaded yet");
        }
        missing
    }
}

/// For the port that the API server calls.
pub fn admission(app: Arc<App>) -> Router {
    observation()
        .route("/mutate", post(mutate))
        .route("/validate", post(validate))
        .with_state(app)
}

/// For the plain port that probes and Prometheus call.
pub fn observing(app: Arc<App>) -> Router {
    observation().with_state(app)
}

fn observation() -> Router<Arc<App>> {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, String) {
    let missing = app.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".into())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", missing.join(", ")),
        )
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    app.reviewer.observe();
    let mut response = Response::new(Body::from(app.metrics.encode()));
    let text = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

async fn mutate(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    review(&app, Endpoint::mutate, request).await
}

async fn validate(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    review(&app, Endpoint::validate, request).await
}

async fn review(app: &App, endpoint: Endpoint, request: Request) -> Response<Body> {
    let started = Instant::now();
    let (head, mut body) = request.into_parts();
    let http1 = head.version <= Version::HTTP_11;
    let mut response = match accept(app, &head.headers, &mut body).await {
        Ok((_turn, body)) => match app.reviewer.review_request(endpoint, &head.headers, &body).await {
            Ok(answer) => json(answer),
            Err(error) => {
                let rejection = Rejection::invalid(StatusCode::BAD_REQUEST, error.to_string());
                reject(app, endpoint, started, rejection)
            }
        },
        Err(rejection) => {
            if !http1 {
                read_off(body).await;
            }
            reject(app, endpoint, started, rejection)
        }
    };
    // The client's next request then opens a connection to a server that stays, rather than racing with the end of this one.
    if http1 && app.draining.load(Ordering::Relaxed) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

struct Rejection {
    ending: Ending,
    status: StatusCode,
    message: String,
}

impl Rejection {
    fn invalid(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            ending: Ending::invalid,
            status,
            message: message.into(),
        }
    }
}

fn reject(app: &App, endpoint: Endpoint, started: Instant, rejection: Rejection) -> Response<Body> {
    let Rejection {
        ending,
        status,
        message,
    } = rejection;
    warn!(status = status.as_u16(), error = %message, "a request that can't be reviewed");
    app.metrics.reviewed(endpoint, ending, started.elapsed());
    let mut response = Response::new(Body::from(message + "\n"));
    *response.status_mut() = status;
    response
}

/// Reads what the client still sends, for a moment. An answer before that would end with a reset of the HTTP/2 stream, which curl takes for a failure: it
/// would never show the answer. Of HTTP/1.1 the connection sees to that ([`Lingering`](super::lingering::Lingering)).
async fn read_off(mut body: Body) {
    let _ = timeout(LINGER, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

/// The body of a request that may be one.
async fn accept<'a>(
    app: &'a App,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<(SemaphorePermit<'a>, Bytes), Rejection> {
    let reject = |status, message: &str| Err(Rejection::invalid(status, message));
    if !is_json(headers) {
        return reject(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the Content-Type is not application/json: send an AdmissionReview as JSON",
        );
    }
    if !app.reviewer.configured() {
        return reject(
            StatusCode::SERVICE_UNAVAILABLE,
            "the configuration is still being loaded: try again in a moment",
        );
    }
    let too_large = || {
        let message = format!(
            "the body is larger than {} bytes, the most that is reviewed: make the object smaller, or raise --max-body",
            app.max_body
        );
        Rejection::invalid(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    // Refused by its header alone where it has one, and otherwise as soon as the limit is passed.
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > app.max_body)) {
        return Err(too_large());
    }
    let mut turn = turn(app, 1).await?;
    let arrive = async {
        let (mut first, mut all) = (Bytes::new(), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Rejection::invalid(StatusCode::BAD_REQUEST, format!("the body can't be read: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let length = first.len().max(all.len()) + data.len();
            if length > app.max_body {
                return Err(too_large());
            }
            // For what has arrived, not for what was announced: a client that stops half way keeps no more from others than it sent.
            let units = length / BODY_UNIT + 1;
            if units > turn.num_permits() {
                let more = u32::try_from(units - turn.num_permits()).unwrap_or(BODY_UNITS);
                turn.merge(self::turn(app, more).await?);
            }
            if first.is_empty() {
                first = data;
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(if all.is_empty() { first } else { all.into() })
    };
    match timeout(BODY, arrive).await {
        Ok(body) => Ok((turn, body?)),
        Err(_) => reject(StatusCode::REQUEST_TIMEOUT, "the body didn't arrive within 10 s"),
    }
}

async fn turn(app: &App, units: u32) -> Result<SemaphorePermit<'_>, Rejection> {
    match timeout(TURN, app.in_flight.acquire_many(units)).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Rejection {
            ending: Ending::shed,
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "too many reviews are being answered already: try again".into(),
        }),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}
