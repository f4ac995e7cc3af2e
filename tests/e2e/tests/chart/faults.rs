//! Services are created all the time, and something breaks. What their users saw of it is printed: docs/faults.md is made of that.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::install::{NAMESPACE, backend};
use tidewaiter_e2e::load::{Load, Outcome};
use tidewaiter_ground::slow::SlowWay;
use tidewaiter_ground::{HOST, MINIO_PORT};

use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("a_killed_leader_loses_no_service", a_killed_leader_loses_no_service),
    (
        "a_deleted_certificate_comes_back_and_no_service_is_lost",
        a_deleted_certificate_comes_back_and_no_service_is_lost,
    ),
    (
        "an_api_server_that_restarts_loses_no_service",
        an_api_server_that_restarts_loses_no_service,
    ),
    (
        "an_etcd_that_restarts_loses_no_service",
        an_etcd_that_restarts_loses_no_service,
    ),
    (
        "a_store_that_hangs_loses_no_service",
        a_store_that_hangs_loses_no_service,
    ),
    (
        "a_store_that_answers_late_loses_no_service",
        a_store_that_answers_late_loses_no_service,
    ),
];

/// Runs `fault` under load, and prints what the users saw of it.
fn under_load(world: &World, fault: &str, uri: &str, work: impl FnOnce(&Load) -> Result<()>) -> Result<Outcome> {
    let load = Load::begin(&world.cluster, "fault", uri, Duration::from_millis(500))?;
    load.go_on(4)?;
    let done = work(&load).and_then(|()| load.go_on(4));
    let outcome = load.finish()?;
    println!("{fault}: {outcome}");
    done.with_context(|| format!("{outcome:#?}"))?;
    Ok(outcome)
}

fn a_killed_leader_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let outcome = under_load(world, "the leader is killed with -9", &uri, |_| {
        let leader = format!("pod/{}", release.leader()?);
        let pod = world.cluster.get(NAMESPACE, &leader)?;
        world.cluster.kill_containers(&pod)?;
        world
            .cluster
            .until("the container runs again", Duration::from_mins(1), || {
                let now = world.cluster.get(NAMESPACE, &leader)?;
                Ok((restarts(&now) > restarts(&pod)).then_some(()))
            })?;
        release.until_ready(REPLICAS)?;
        world
            .cluster
            .until("somebody leads", Duration::from_mins(1), || release.leader().map(Some))?;
        Ok(())
    })?;
    outcome.nothing_lost().map(drop)
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or(0)
}

fn a_deleted_certificate_comes_back_and_no_service_is_lost(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let uid =
        || -> Result<Value> { Ok(world.cluster.get(NAMESPACE, "secret/tidewaiter-tls")?["metadata"]["uid"].clone()) };
    let before = uid()?;
    let outcome = under_load(world, "the certificate's Secret is deleted", &uri, |load| {
        release.kubectl(&["delete", "secret", "tidewaiter-tls"])?;
        world
            .cluster
            .until("the Secret is there again", Duration::from_mins(1), || {
                Ok((uid()? != before).then_some(()))
            })?;
        load.go_on(10)
    })?;
    outcome.nothing_lost().map(drop)
}

fn an_api_server_that_restarts_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let outcome = under_load(world, "the API server is away for 10 s", &uri, |load| {
        world.cluster.without_api_server(|| {
            std::thread::sleep(Duration::from_secs(10));
            Ok(())
        })?;
        load.go_on(10)
    })?;
    outcome.nothing_lost()?;
    ensure!(outcome.unanswered > 0, "the API server was never away: {outcome:#?}");
    release.until_ready(REPLICAS).map(drop)
}

fn an_etcd_that_restarts_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let outcome = under_load(world, "etcd is away for 10 s", &uri, |load| {
        world.cluster.without_etcd(|| {
            std::thread::sleep(Duration::from_secs(10));
            Ok(())
        })?;
        load.go_on(10)
    })?;
    outcome.nothing_lost()?;
    release.until_ready(REPLICAS).map(drop)
}

/// Nothing is known of these models, so each review asks the store.
fn a_store_that_hangs_loses_no_service(world: &World) -> Result<()> {
    world.release()?;
    let uri = "s3://mlflow/shared/hangs-{}";
    let outcome = under_load(world, "MinIO hangs", uri, |load| {
        world.cluster.while_store_hangs(|| load.go_on(15))
    })?;
    outcome.all_at_once().map(drop)
}

fn a_store_that_answers_late_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    fs::create_dir_all(world.cluster.folder().join("minio/late"))?;
    let way = SlowWay::open(&format!("{HOST}:{LATE}"), &format!("{HOST}:{MINIO_PORT}"))?;
    let mut late = backend("minio-late", "late", &["s3://late/shared/"]);
    late["spec"]["s3"]["endpoint"] = json!(format!("http://{HOST}:{LATE}"));
    release.apply(&late.to_string())?;
    world
        .cluster
        .until("the backend is in use", Duration::from_mins(1), || {
            let backend = world.cluster.get("", "storagebackend/minio-late")?;
            Ok((tidewaiter_ground::condition(&backend, "Accepted") == Some("True")).then_some(()))
        })?;
    let outcome = under_load(world, "MinIO answers after 5 s", "s3://late/shared/fraud-{}", |load| {
        way.delay(Duration::from_secs(5));
        load.go_on(15)?;
        way.delay(Duration::ZERO);
        Ok(())
    });
    release.kubectl(&["delete", "storagebackend", "minio-late"])?;
    outcome?.all_at_once().map(drop)
}

/// Where the late way to MinIO listens.
const LATE: u16 = 9102;
