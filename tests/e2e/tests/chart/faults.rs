//! Services are created all the time, and something breaks.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidewaiter_e2e::load::{Load, Outcome};

use crate::life::none_of;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "replicas_roll_one_after_another_and_no_service_is_lost",
    replicas_roll_one_after_another_and_no_service_is_lost,
)];

/// Runs `fault` under load, and prints what the users saw of it.
fn under_load(world: &World, name: &str, fault: impl FnOnce(&Load) -> Result<()>) -> Result<Outcome> {
    let (_, uri) = world.model()?;
    let load = Load::begin(&world.cluster, name, &uri, Duration::from_millis(200))?;
    load.go_on(5)?;
    let done = fault(&load);
    let outcome = load.finish()?;
    println!(
        "{name}: {} services, {} at once, the last of the others after {:?}; {} tries unanswered; the slowest in {:?}",
        outcome.created,
        outcome.created - outcome.slipped,
        outcome.latest,
        outcome.unanswered,
        outcome.slowest
    );
    done.map(|()| outcome)
}

fn replicas_roll_one_after_another_and_no_service_is_lost(world: &World) -> Result<()> {
    let release = world.release()?;
    let before = release.pods()?;
    let outcome = under_load(world, "rolls", |load| {
        release.kubectl(&["rollout", "restart", "deployment/tidewaiter"])?;
        release.kubectl(&["rollout", "status", "deployment/tidewaiter", "--timeout=2m"])?;
        release.until_ready(crate::REPLICAS)?;
        load.go_on(5)
    })?;
    ensure!(none_of(&release.pods()?, &before), "a Pod did not roll");
    outcome.all_at_once().map(drop)
}
