//! Services are created all the time, and something breaks. What their users saw of it is printed: docs/faults.md is made of that.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::install::{NAMESPACE, backend};
use tidewaiter_e2e::load::{Load, Outcome};
use tidewaiter_ground::slow::SlowWay;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, tls};

use crate::life::{state, unchanged};
use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("a_killed_leader_loses_no_service", a_killed_leader_loses_no_service),
    (
        "what_came_while_no_replica_was_there_is_filled_in_soon",
        what_came_while_no_replica_was_there_is_filled_in_soon,
    ),
    (
        "a_deleted_certificate_comes_back_and_no_service_is_lost",
        a_deleted_certificate_comes_back_and_no_service_is_lost,
    ),
    (
        "rotated_credentials_reach_every_namespace_and_lose_no_service",
        rotated_credentials_reach_every_namespace_and_lose_no_service,
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

/// Runs `fault` under load, prints what the users saw of it, and checks that nothing was lost.
fn under_load(world: &World, fault: &str, uri: &str, work: impl FnOnce(&Load) -> Result<()>) -> Result<Outcome> {
    let release = world.release()?;
    let load = Load::begin(&world.cluster, "fault", uri, Duration::from_millis(300))?;
    load.go_on(4)?;
    let done = work(&load).and_then(|()| load.go_on(4));
    let outcome = load.finish()?;
    println!("{fault}: {outcome}");
    let checked = done.and_then(|()| outcome.nothing_lost().map(drop));
    checked.with_context(|| format!("{outcome:#?}\n{}", release.diagnosis()))?;
    Ok(outcome)
}

fn a_killed_leader_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    under_load(world, "the leader is killed with -9", &uri, |_| {
        let leader = release.leader()?;
        world.cluster.kill_containers(&leader)?;
        let name = format!("pod/{}", leader["metadata"]["name"].as_str().unwrap_or_default());
        let again = || {
            let now = world.cluster.get(NAMESPACE, &name)?;
            Ok((restarts(&now) > restarts(&leader)).then_some(()))
        };
        let minute = Duration::from_mins(1);
        world.cluster.until("the container runs again", minute, again)?;
        release.until_ready(REPLICAS)?;
        release.leader().map(drop)
    })
    .map(drop)
}

/// A dead gate lets everything pass; the leader looks after it.
fn what_came_while_no_replica_was_there_is_filled_in_soon(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let outcome = under_load(world, "all replicas are killed with -9", &uri, |load| {
        for pod in release.pods()? {
            world.cluster.kill_containers(&pod)?;
        }
        load.go_on(5)?;
        release.until_ready(REPLICAS).map(drop)
    })?;
    ensure!(outcome.slipped > 0, "a replica was there all the time: {outcome:#?}");
    Ok(())
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or(0)
}

/// The next one is of another authority: both are trusted for a while.
fn a_deleted_certificate_comes_back_and_no_service_is_lost(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let certificate = || -> Result<Value> {
        let secret = world.cluster.get(NAMESPACE, "secret/tidewaiter-tls")?;
        Ok(secret["data"]["tls.crt"].clone())
    };
    let trusted = || -> Result<usize> {
        let configuration = world.cluster.get("", "mutatingwebhookconfiguration/tidewaiter.dev")?;
        let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str();
        Ok(bundle.map_or(0, str::len))
    };
    let (old, trusted_before) = (certificate()?, trusted()?);
    let outcome = under_load(world, "the certificate's Secret is deleted", &uri, |load| {
        release.kubectl(&["delete", "secret", "tidewaiter-tls"])?;
        let another = || Ok((certificate()? != old).then_some(()));
        let minute = Duration::from_mins(1);
        world.cluster.until("another certificate is there", minute, another)?;
        load.go_on(10)
    })?;
    let trusted = trusted()?;
    ensure!(
        trusted > trusted_before,
        "a bundle of {trusted} characters after one of {trusted_before}: the old authority and the new one are not both trusted"
    );
    outcome.all_at_once().map(drop)
}

/// Nothing that runs is touched, and the next Pod finds the new key.
fn rotated_credentials_reach_every_namespace_and_lose_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let running = world.running()?;
    let before = state(&running)?;
    let set = |password: &str| {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": NAMESPACE, "name": "minio-root"},
            "stringData": {"rootUser": MINIO_USER, "rootPassword": password},
        });
        release.apply(&secret.to_string())
    };
    let outcome = under_load(world, "the store's credentials rotate", &uri, |load| {
        let reached = |password: &str| -> Result<()> {
            let password = tls::base64(password.as_bytes());
            for namespace in [load.namespace(), &*running] {
                let delivered = || {
                    let secret = namespace.get("secret/tidewaiter-minio")?;
                    Ok((secret["data"]["AWS_SECRET_ACCESS_KEY"] == password.as_str()).then_some(()))
                };
                let minute = Duration::from_mins(1);
                world.cluster.until("the new key is delivered", minute, delivered)?;
            }
            Ok(())
        };
        let rotated = set("rotated").and_then(|()| reached("rotated"));
        // For the other tests, whatever came of it.
        set(MINIO_USER)?;
        rotated?;
        reached(MINIO_USER)
    })?;
    outcome.all_at_once()?;
    unchanged(&running, &before)
}

fn an_api_server_that_restarts_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    let outcome = under_load(world, "the API server is away for 5 s", &uri, |load| {
        world.cluster.without_api_server(|| {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        })?;
        load.go_on(10)
    })?;
    ensure!(outcome.unanswered > 0, "the API server was never away: {outcome:#?}");
    release.until_ready(REPLICAS).map(drop)
}

fn an_etcd_that_restarts_loses_no_service(world: &World) -> Result<()> {
    let release = world.release()?;
    let uri = world.model()?.1;
    under_load(world, "etcd is away for 5 s", &uri, |load| {
        world.cluster.without_etcd(|| {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        })?;
        load.go_on(10)
    })?;
    release.until_ready(REPLICAS).map(drop)
}

/// Nothing is known of these models, so each review asks the store.
fn a_store_that_hangs_loses_no_service(world: &World) -> Result<()> {
    world.release()?;
    let uri = "s3://mlflow/shared/hangs-{}";
    let outcome = under_load(world, "MinIO hangs", uri, |load| {
        world.cluster.while_store_hangs(|| load.go_on(10))
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
        load.go_on(10)?;
        way.delay(Duration::ZERO);
        Ok(())
    });
    release.kubectl(&["delete", "storagebackend", "minio-late"])?;
    outcome?.all_at_once().map(drop)
}

/// Where the late way to MinIO listens.
const LATE: u16 = 9102;
