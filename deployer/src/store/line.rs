//! The line to a store, for what carries files. Such a request has as long as something moves: a store answers when all of a file has come, so that the time until
//! then says nothing but how slow the line is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientOptions, PutPayload};
use reqwest::header::CONTENT_LENGTH;
use tokio::time::{Instant, sleep_until};
use url::Url;

/// What the network takes at once of a file: it tells of each.
const PIECE: usize = 64 << 10;

/// What goes over a bucket's line.
#[derive(Debug, Clone)]
pub(super) struct Traffic(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    began: Instant,
    /// Milliseconds since then, when the network last took something.
    moved: AtomicU64,
    /// Bytes of requests that run.
    on_the_way: AtomicU64,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self(Arc::new(Counts {
            began: Instant::now(),
            moved: AtomicU64::new(0),
            on_the_way: AtomicU64::new(0),
        }))
    }

    /// When the network last took something.
    pub(super) fn moved(&self) -> Instant {
        self.0.began + Duration::from_millis(self.0.moved.load(Ordering::Relaxed))
    }

    /// Bytes that the network took, of requests that have no answer yet.
    pub(super) fn on_the_way(&self) -> u64 {
        self.0.on_the_way.load(Ordering::Relaxed)
    }
}

/// One request's share of it, until nobody sends or waits for it any more.
struct Share {
    counts: Arc<Counts>,
    bytes: AtomicU64,
}

impl Share {
    fn takes(&self, bytes: u64) {
        let now = u64::try_from(self.counts.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counts.moved.store(now, Ordering::Relaxed);
        self.counts.on_the_way.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.counts.on_the_way.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A client that gives up after a silence, of whatever length its requests are.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Without a limit of its own.
    pub(super) client: reqwest::Client,
    pub(super) traffic: Traffic,
    pub(super) silence: Duration,
}

impl HttpConnector for Line {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Line {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let share = Arc::new(Share {
            counts: Arc::clone(&self.traffic.0),
            bytes: AtomicU64::new(0),
        });
        let sent = Arc::clone(&share);
        let length = body.content_length();
        let body = body.map_frame(move |frame| {
            sent.takes(frame.data_ref().map_or(0, Bytes::len) as u64);
            frame
        });
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = head.headers;
        // A body that is counted no longer says how long it is, and not every server takes one in chunks: a token service takes it for empty.
        if length > 0 {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        let answered = self.unless_silent(async {
            let answer = self.client.execute(request).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Ok((status, headers, answer.bytes().await?))
        });
        let (status, headers, body) = answered.await?.map_err(failed)?;
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl Line {
    /// Waits, as long as something moves: of this request or of those beside it, which share the line.
    async fn unless_silent<T>(&self, answered: impl Future<Output = T>) -> Result<T, HttpError> {
        let mut answered = std::pin::pin!(answered);
        let began = Instant::now();
        loop {
            let until = began.max(self.traffic.moved()) + self.silence;
            tokio::select! {
                biased;
                answered = &mut answered => return Ok(answered),
                () = sleep_until(until) => {
                    if began.max(self.traffic.moved()) + self.silence <= Instant::now() {
                        let silence = Silence(self.silence.as_secs());
                        return Err(HttpError::new(HttpErrorKind::Timeout, silence));
                    }
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("nothing moved for {0} s")]
struct Silence(u64);

/// What carries files may be sent twice, so that each line that breaks is worth another try.
fn failed(error: reqwest::Error) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error.without_url())
}

/// A file's content, in pieces that are told of one by one.
pub(super) fn pieces(content: &Bytes) -> PutPayload {
    let pieces = (0..content.len()).step_by(PIECE);
    pieces
        .map(|start| content.slice(start..content.len().min(start + PIECE)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(silence: Duration) -> Line {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Line {
            client: reqwest::Client::new(),
            traffic: Traffic::new(),
            silence,
        }
    }

    #[test]
    fn pieces_are_the_content() {
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE - 1] {
            let content: Bytes = (0..=u8::MAX).cycle().take(length).collect();
            let payload = pieces(&content);
            assert_eq!(payload.as_ref().len(), length.div_ceil(PIECE));
            assert_eq!(Bytes::from(payload), content);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_as_long_as_something_moves() {
        let line = line(Duration::from_secs(10));
        let share = Share {
            counts: Arc::clone(&line.traffic.0),
            bytes: AtomicU64::new(0),
        };
        let slow = async {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                share.takes(1);
            }
        };
        line.unless_silent(slow).await.unwrap();
        assert_eq!(line.traffic.on_the_way(), 100);
        drop(share);
        assert_eq!(line.traffic.on_the_way(), 0);

        let began = Instant::now();
        let silent = line.unless_silent(std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(silent.kind(), HttpErrorKind::Timeout);
        assert!(format!("{silent}").ends_with("nothing moved for 10 s"), "{silent}");
        assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    }
}
