//! A namespace whose label has it fail closed, while something happens to Tidewaiter: nothing slips past, and whoever is turned away gets in soon.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewaiter_e2e::chart::{RELEASE, Release};
use tidewaiter_e2e::load::{Load, Outcome, has_credentials};

use crate::faults::{EVERY, kill_leader, under};
use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_namespace_that_fails_closed_turns_nobody_away_while_the_pods_are_replaced",
        a_namespace_that_fails_closed_turns_nobody_away_while_the_pods_are_replaced,
    ),
    (
        "a_namespace_that_fails_closed_lets_nothing_slip_past_killed_replicas",
        a_namespace_that_fails_closed_lets_nothing_slip_past_killed_replicas,
    ),
];

fn a_namespace_that_fails_closed_turns_nobody_away_while_the_pods_are_replaced(world: &World) -> Result<()> {
    let release = world.release()?;
    let outcome = closed(world, "fails closed, and every Pod is replaced", |load| {
        release.kubectl(&["rollout", "restart", "deployment", RELEASE])?;
        release.kubectl(&["rollout", "status", "deployment", RELEASE, "--timeout=3m"])?;
        release.until_alone(REPLICAS)?;
        load.go_on(10)
    })?;
    outcome.all_at_once().map(drop)
}

/// Who is turned away tries again, and gets in as soon as a replica is back.
fn a_namespace_that_fails_closed_lets_nothing_slip_past_killed_replicas(world: &World) -> Result<()> {
    let release = world.release()?;
    let leader = closed(world, "fails closed, and the leader is killed with -9", |_| {
        kill_leader(world, &release)
    })?;
    let all = closed(world, "fails closed, and all replicas are killed with -9", |load| {
        kill_all(world, &release)?;
        load.go_on(5)?;
        release.until_ready(REPLICAS).map(drop)
    })?;
    for outcome in [&leader, &all] {
        ensure!(outcome.slipped == 0, "something came past: {outcome:#?}");
    }
    ensure!(all.turned_away > 0, "a replica was there all the time: {all:#?}");
    Ok(())
}

fn kill_all(world: &World, release: &Release) -> Result<()> {
    let pods = release.pods()?;
    pods.iter().try_for_each(|pod| world.cluster.kill_containers(pod))
}

fn closed(world: &World, fault: &str, work: impl FnOnce(&Load) -> Result<()>) -> Result<Outcome> {
    let uri = world.model()?.1;
    let label = json!({"tidewaiter.dev/failure-policy": "fail"});
    let namespace = Arc::new(world.cluster.namespace_with("closed", &label)?);
    let load = Load::begin_in(namespace, &uri, EVERY, has_credentials)?;
    under(load, world, fault, work).with_context(|| fault.to_owned())
}
