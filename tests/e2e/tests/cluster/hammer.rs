//! Services that arrive all the time while something else happens.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tidewaiter_e2e::load::has_credentials;
pub(crate) use tidewaiter_e2e::load::service;
use tidewaiter_ground::{Answer, Api, Cluster};

/// Admitted, and told of its credentials.
pub(crate) fn filled(answer: &Answer) -> Result<()> {
    ensure!(answer.admitted(), "refused: {}", answer.message());
    ensure!(
        has_credentials(&answer.body),
        "admitted without credentials: annotations {}, warnings {:?}",
        answer.body["metadata"]["annotations"],
        answer.warnings
    );
    Ok(())
}

/// Sends services from two clients, one after the other, while `work` runs, and says how many were answered in that time.
///
/// # Errors
/// `work`'s own; else the first answer that was not as it has to be.
pub(crate) fn hammer(
    cluster: &Cluster,
    namespace: &str,
    service: &Value,
    check: impl Fn(&Answer) -> Result<()> + Sync,
    work: impl FnOnce(&dyn Fn(usize) -> Result<()>) -> Result<()>,
) -> Result<usize> {
    let (stop, answered, wrong) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let api = cluster.api()?;
    let client = || {
        while !stop.load(Ordering::Relaxed) {
            let answer = api.would_create(namespace, service).and_then(|answer| check(&answer));
            if let Err(error) = answer {
                wrong
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push(error);
                // What is wrong once is wrong; the point is made.
                return;
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    // Waits until so many more were answered.
    let go_on = |more: usize| -> Result<()> {
        let target = answered.load(Ordering::Relaxed) + more;
        let failed = || wrong.lock().is_ok_and(|wrong| !wrong.is_empty());
        let limit = Instant::now() + Duration::from_mins(1);
        while answered.load(Ordering::Relaxed) < target && !failed() {
            ensure!(Instant::now() < limit, "fewer than {more} answers in a minute");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    let done = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(client);
        }
        let done = work(&go_on);
        stop.store(true, Ordering::Relaxed);
        done
    });
    if let Some(error) = wrong.into_inner().unwrap_or_default().into_iter().next() {
        return Err(error.context("a service that arrived meanwhile"));
    }
    done?;
    Ok(answered.into_inner())
}

/// How long an answer takes, the median of `count`.
pub(crate) fn median(api: &Api, namespace: &str, service: &Value, count: usize) -> Result<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        filled(&api.would_create(namespace, service)?)?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[count / 2])
}
