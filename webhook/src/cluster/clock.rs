//! The time as the API server has it.
//!
//! It stamps objects and checks certificates by its own clock, so what is compared with either, or handed to it, is reckoned by that one too. A node whose clock
//! is wrong then does no harm where it leads: no service counts as seen to that isn't, and no certificate is ahead of its time.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::http::HeaderMap;
use axum::http::header::DATE;
use k8s_openapi::jiff::fmt::rfc2822;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::util::MapResponseLayer;
use tracing::warn;

/// The API server's clock is so many seconds ahead of this process's. There is one API server for a process.
static AHEAD: AtomicI64 = AtomicI64::new(0);
/// Dates of answers are in whole seconds, and answers take a while: so many seconds are no difference.
const NOTHING: i64 = 2;
/// So many seconds are worth an admin's attention.
const MUCH: i64 = 60;

/// By the last answer of the API server's; before one came, by this machine.
pub(crate) fn now() -> Timestamp {
    let ahead = SignedDuration::from_secs(AHEAD.load(Ordering::Relaxed));
    Timestamp::now().saturating_add(ahead).unwrap_or(Timestamp::MAX)
}

/// A client whose answers tell [`now`].
pub(crate) fn client(config: Config) -> Result<Client, kube::Error> {
    let learns = MapResponseLayer::new(|answer: axum::http::Response<_>| {
        if let Some(ahead) = ahead(answer.headers(), Timestamp::now()) {
            note(ahead);
        }
        answer
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&learns).build())
}

/// How far the clock of whoever sent this is ahead of the time `now`, in seconds.
fn ahead(answer: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = answer.get(DATE)?.to_str().ok()?;
    let ahead = rfc2822::parse(date).ok()?.timestamp().as_second() - now.as_second();
    Some(if ahead.abs() <= NOTHING { 0 } else { ahead })
}

fn note(ahead: i64) {
    let before = AHEAD.swap(ahead, Ordering::Relaxed);
    if ahead.abs() >= MUCH && before.abs() < MUCH {
        let way = if ahead > 0 { "behind" } else { "ahead of" };
        warn!(
            "this node's clock is {} s {way} the API server's. Tidewaiter goes by the API server's, but stores refuse requests that are signed at another time \
             than theirs (S3 after 15 minutes): set the node's clock",
            ahead.abs()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_tells_how_far_clocks_are_apart() {
        let now: Timestamp = "2026-11-27T20:30:00.9Z".parse().unwrap();
        let told = |date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, date.parse().unwrap());
            ahead(&headers, now)
        };
        assert_eq!(told("Fri, 27 Nov 2026 21:10:00 GMT"), Some(2400));
        assert_eq!(told("Fri, 27 Nov 2026 19:50:00 GMT"), Some(-2400));
        assert_eq!(told("Fri, 27 Nov 2026 20:29:58 GMT"), Some(0), "the way's");
        assert_eq!(told("yesterday"), None);
        assert_eq!(ahead(&HeaderMap::new(), now), None);
    }
}
