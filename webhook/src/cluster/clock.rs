//! The time as the API server has it.
//!
//! It stamps objects and checks certificates by its own clock, so what is compared with either, or handed to it, is reckoned by that one too. A node whose clock
//! is wrong then does no harm where it leads: no service counts as seen to that isn't, and no certificate is ahead of its time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use axum::http::header::DATE;
use axum::http::{HeaderMap, Response};
use k8s_openapi::jiff::fmt::rfc2822;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tracing::warn;

/// There is one cluster for a process.
static CLOCK: Clock = Clock::new();
/// Dates of answers are in whole seconds, and answers take a while: so many seconds are no difference.
const NOTHING: i64 = 2;
/// So many seconds are worth an admin's attention,
const MUCH: i64 = 60;
/// and are so again after no more than these: the clocks of several API servers differ a little too.
const LITTLE: i64 = 30;

/// By the last answer of the API server's; before one came, by this machine.
pub(crate) fn now() -> Timestamp {
    CLOCK.at(Timestamp::now())
}

/// Takes note of the time at which an answer of the API server's was sent.
pub(super) fn learn<B>(answer: Response<B>) -> Response<B> {
    let warning = ahead(answer.headers(), Timestamp::now()).and_then(|ahead| CLOCK.note(ahead));
    if let Some(warning) = warning {
        warn!("{warning}");
    }
    answer
}

/// How far the clock of whoever sent this is ahead of the time `now`, in seconds.
fn ahead(answer: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = answer.get(DATE)?.to_str().ok()?;
    let ahead = rfc2822::parse(date).ok()?.timestamp().as_second() - now.as_second();
    Some(if ahead.abs() <= NOTHING { 0 } else { ahead })
}

/// The API server's clock, by its answers.
struct Clock {
    /// It is so many seconds ahead of this machine's.
    ahead: AtomicI64,
    /// An admin was told that this is much, and it has not been little since.
    told: AtomicBool,
}

impl Clock {
    const fn new() -> Self {
        Self {
            ahead: AtomicI64::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// What it shows when this machine's shows `here`.
    fn at(&self, here: Timestamp) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed));
        here.saturating_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// Takes note of an answer, and says what an admin should know by now.
    fn note(&self, ahead: i64) -> Option<String> {
        self.ahead.store(ahead, Ordering::Relaxed);
        if ahead.abs() <= LITTLE {
            self.told.store(false, Ordering::Relaxed);
        }
        if ahead.abs() < MUCH || self.told.swap(true, Ordering::Relaxed) {
            return None;
        }
        let way = if ahead > 0 { "behind" } else { "ahead of" };
        Some(format!(
            "this node's clock is {} s {way} the API server's. Tidewaiter goes by the API server's, but stores refuse requests that are signed at another time \
             than theirs (S3 after 15 minutes): set the node's clock",
            ahead.abs()
        ))
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

    #[test]
    fn the_time_is_that_of_the_last_answer() {
        let clock = Clock::new();
        let here: Timestamp = "2026-11-27T20:30:00Z".parse().unwrap();
        assert_eq!(clock.at(here), here, "nobody has answered yet");
        for ahead in [2400, -2400, 0] {
            clock.note(ahead);
            assert_eq!(clock.at(here), here + SignedDuration::from_secs(ahead));
        }
        clock.note(i64::MAX / 2);
        assert_eq!(clock.at(here), Timestamp::MAX, "no header can make it panic");
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_once() {
        let clock = Clock::new();
        let told = |aheads: &[i64]| aheads.iter().filter(|ahead| clock.note(**ahead).is_some()).count();
        assert_eq!(told(&[0, 59, -59]), 0);
        insta::assert_snapshot!(
            clock.note(60).expect("it is much"),
            @"this node's clock is 60 s behind the API server's. Tidewaiter goes by the API server's, but stores refuse requests that are signed at another time than theirs (S3 after 15 minutes): set the node's clock"
        );
        assert_eq!(
            told(&[61, 59, 62, 31, 60]),
            0,
            "API servers whose clocks differ a little"
        );
        assert_eq!(told(&[0, -60, -61]), 1, "it was set, and is wrong once more");
        assert_eq!(told(&[30, 2400]), 1);
    }
}
