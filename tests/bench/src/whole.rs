//! A whole review without HTTP and TLS: from the body to the answer, one after the other on one thread.

use std::time::{Duration, Instant};

use anyhow::Result;
use tidewaiter_webhook::http::certificate::TlsSource;
use tidewaiter_webhook::metrics::Endpoint;
use tidewaiter_webhook::server::{Options, Server, Source};

use crate::fixture::Fixture;

const REVIEWS: usize = 5_000;

/// The median, in microseconds.
pub(crate) async fn measure(fixture: &Fixture) -> Result<f64> {
    let tls = TlsSource::Files {
        certificate: fixture.certificate(),
        key: fixture.key(),
    };
    let server = Server::start(Options::new(Source::Folder(fixture.config()), tls)).await?;
    server.ready().await;
    let mut took = Vec::with_capacity(REVIEWS);
    for _ in 0..REVIEWS {
        let start = Instant::now();
        std::hint::black_box(server.reviewer.review_bytes(Endpoint::mutate, &fixture.review).await?);
        took.push(start.elapsed());
    }
    took.sort_unstable();
    Ok(took
        .get(REVIEWS / 2)
        .map_or(0.0, |time: &Duration| time.as_secs_f64() * 1e6))
}
