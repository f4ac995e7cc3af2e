//! More reviews at once than replicas take: they turn away what they can't answer, and stay up.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::blocking::{Body, Client};
use serde_json::Value;
use tidewaiter_e2e::load::Load;

use crate::faults::{EVERY, restarts, under};
use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "a_flood_of_reviews_is_turned_away_and_loses_no_service",
    a_flood_of_reviews_is_turned_away_and_loses_no_service,
)];

/// A replica reads 256 bodies at once.
const TOO_MANY: usize = 280;
/// How many reviews a replica turned away.
const SHED: &str = r#"tidewaiter_reviews_total{endpoint="mutate",ending="shed"}"#;

fn a_flood_of_reviews_is_turned_away_and_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let pods = release.until_ready(REPLICAS)?;
    let load = Load::begin(&world.cluster, "flood", &uri, EVERY)?;
    let fault = format!("each replica is asked {TOO_MANY} things at once that never end");
    let outcome = under(load, world, &fault, |load| {
        let flood = Flood::begin(&pods)?;
        for pod in &pods {
            world
                .cluster
                .until("the replica turns reviews away", Duration::from_mins(1), || {
                    Ok((release.metric(pod, SHED)? > 0.0).then_some(()))
                })?;
        }
        load.go_on(20)?;
        drop(flood);
        Ok(())
    })?;
    ensure!(outcome.slipped > 0, "the flood kept nobody away: {outcome:#?}");
    let after = release.until_ready(REPLICAS)?;
    let count = |pods: &[Value]| pods.iter().map(restarts).sum::<u64>();
    ensure!(
        count(&after) == count(&pods),
        "a replica ended: {}",
        release.diagnosis()
    );

    let load = Load::begin(&world.cluster, "ebb", &uri, EVERY)?;
    let outcome = under(load, world, "after it", |load| load.go_on(10))?;
    outcome.all_at_once().map(drop)
}

/// Reviews whose bodies never end, until this is dropped.
struct Flood {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn begin(pods: &[Value]) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let mut flood = Self {
            over,
            threads: Vec::new(),
        };
        // Whoever floods asks nobody for a certificate.
        let client = Client::builder().tls_danger_accept_invalid_certs(true).http1_only();
        let client = client.timeout(Duration::from_secs(30)).build()?;
        for pod in pods {
            let address = pod["status"]["podIP"].as_str().context("the Pod has no address")?;
            let url = format!("https://{address}:8443/mutate");
            for _ in 0..TOO_MANY {
                let (client, url, over) = (client.clone(), url.clone(), Arc::clone(&flood.over));
                flood.threads.push(thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let body = Body::new(Endless(Arc::clone(&over)));
                        let request = client.post(&url).header("content-type", "application/json").body(body);
                        // Answered 503 or 408, by whichever limit comes first.
                        let _ = request.send();
                    }
                }));
            }
        }
        Ok(flood)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A space each second.
struct Endless(Arc<AtomicBool>);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..10 {
            if self.0.load(Ordering::Relaxed) {
                return Ok(0);
            }
            thread::sleep(Duration::from_millis(100));
        }
        buffer[0] = b' ';
        Ok(1)
    }
}
