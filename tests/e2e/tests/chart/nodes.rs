//! Nodes of replicas: one is lost, another's clock is wrong.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidewaiter_e2e::chart::{RELEASE, Release};
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_e2e::load::Load;

use crate::faults::{EVERY, under, until_started_again};
use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_leader_whose_node_is_lost_loses_no_service",
        a_leader_whose_node_is_lost_loses_no_service,
    ),
    (
        "a_leader_whose_clock_is_ahead_loses_no_service",
        a_leader_whose_clock_is_ahead_loses_no_service,
    ),
    (
        "a_leader_whose_clock_is_behind_loses_no_service",
        a_leader_whose_clock_is_behind_loses_no_service,
    ),
];

/// So many seconds put whatever goes by this clock far out.
const WRONG: i64 = 2 * 60 * 60;

/// So long nobody knows of a lost node, as it is before the control plane gives it up.
const UNKNOWN: Duration = Duration::from_secs(25);

/// Nobody is told that it is gone: its Pod still counts as ready, the API server waits for it in vain, and the other replica until the Lease runs out.
fn a_leader_whose_node_is_lost_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let load = Load::begin(&world.cluster, "lost-node", &uri, EVERY)?;
    let outcome = under(load, world, "the leader's node is lost", |load| {
        until_the_leader_is_asked(&release, load)?;
        let lost = release.leader()?;
        let address = lost["status"]["podIP"].as_str().context("a Pod without an address")?;
        world.cluster.while_kubelet_hangs(|| {
            world.cluster.cut_off(&lost)?;
            std::thread::sleep(UNKNOWN);
            let ready = ready_addresses(&release)?;
            ensure!(
                ready.contains(&address.to_owned()),
                "the lost Pod {address} is known to be lost, ready are {ready:?}"
            );
            Ok(())
        })?;
        let minute = Duration::from_mins(1);
        world.cluster.until("another leads", minute, || {
            Ok((release.leader()?["metadata"]["name"] != lost["metadata"]["name"]).then_some(()))
        })?;
        load.go_on(10)?;
        // As the control plane does when it has given the node up.
        let name = lost["metadata"]["name"].as_str().context("a Pod without a name")?;
        release.kubectl(&["delete", "pod", name, "--force", "--grace-period=0"])?;
        release.until_ready(REPLICAS)?;
        load.go_on(10)
    })?;
    ensure!(outcome.slipped > 0, "the lost replica was not asked: {outcome:#?}");
    Ok(())
}

/// The API server keeps its connection to one replica for as long as that answers. Has it be the leader: for a while there is no other.
fn until_the_leader_is_asked(release: &Release, load: &Load) -> Result<()> {
    let leader = release.leader()?;
    let name = leader["metadata"]["name"].as_str().context("a Pod without a name")?;
    // Of two Pods the one without goes.
    release.kubectl(&["annotate", "pod", name, "controller.kubernetes.io/pod-deletion-cost=1"])?;
    release.scale(1)?;
    release.until_alone(1)?;
    load.go_on(4)?;
    release.scale(REPLICAS)?;
    release.until_ready(REPLICAS)?;
    let now = release.leader()?;
    ensure!(now["metadata"]["name"] == name, "{} leads", now["metadata"]["name"]);
    Ok(())
}

/// The Pods that the API server may ask.
fn ready_addresses(release: &Release) -> Result<Vec<String>> {
    let service = format!("kubernetes.io/service-name={RELEASE}");
    let slices: Value =
        serde_json::from_str(&release.kubectl(&["get", "endpointslices", "-l", &service, "-o", "json"])?)?;
    let slices = slices["items"].as_array().into_iter().flatten();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let addresses = ready.flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten());
    Ok(addresses
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect())
}

fn a_leader_whose_clock_is_ahead_loses_no_service(world: &World) -> Result<()> {
    led_by(world, "the leader's clock is two hours ahead", WRONG)
}

fn a_leader_whose_clock_is_behind_loses_no_service(world: &World) -> Result<()> {
    led_by(world, "the leader's clock is two hours behind", -WRONG)
}

/// It leads alone, issues a certificate, and looks after what came while it was killed. Then it goes, and another leads.
fn led_by(world: &World, fault: &str, ahead: i64) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let load = Load::begin(&world.cluster, "clock", &uri, EVERY)?;
    let outcome = under(load, world, fault, |load| {
        let replica = release.replica_with_clock(ahead)?;
        let pod = || world.cluster.get(NAMESPACE, &format!("pod/{}", replica.name()));
        release.until_ready(REPLICAS + 1)?;
        release.scale(0)?;
        release.until_alone(1)?;
        let leader = release.leader()?;
        ensure!(
            leader["metadata"]["name"] == replica.name(),
            "{} leads",
            leader["metadata"]["name"]
        );
        // Dates of answers are in whole seconds.
        let logs = release.logs()?;
        let mut seconds = WRONG.abs() - 1..=WRONG.abs() + 1;
        ensure!(
            seconds.any(|seconds| logs.contains(&format!("this node's clock is {seconds} s"))),
            "nobody is told that the clock is wrong"
        );
        load.go_on(5)?;

        let certificate = || -> Result<Value> {
            let secret = world.cluster.get(NAMESPACE, "secret/tidewaiter-tls")?;
            Ok(secret["data"]["tls.crt"].clone())
        };
        let old = certificate()?;
        release.kubectl(&["delete", "secret", "tidewaiter-tls"])?;
        let minute = Duration::from_mins(1);
        world.cluster.until("another certificate is there", minute, || {
            let now = certificate()?;
            Ok((now.is_string() && now != old).then_some(()))
        })?;
        load.go_on(10)?;

        let before = pod()?;
        world.cluster.kill_containers(&before)?;
        load.go_on(3)?;
        until_started_again(world, &[before])?;
        release.until_ready(1)?;

        release.scale(REPLICAS)?;
        release.until_ready(REPLICAS + 1)?;
        drop(replica);
        release.until_alone(REPLICAS)?;
        release.leader()?;
        load.go_on(10)
    })?;
    ensure!(outcome.slipped > 0, "a replica was there all the time: {outcome:#?}");
    release.until_ready(REPLICAS).context("with the clocks right").map(drop)
}
