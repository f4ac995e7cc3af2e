//! cert-manager, the real one, in the place of the leader: it issues the webhook's certificate, and has API servers trust it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::Release;
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_e2e::load::{Load, Outcome};

use crate::faults::{EVERY, under};
use crate::{REPLICAS, Shape, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_switch_to_cert_manager_loses_no_service",
        a_switch_to_cert_manager_loses_no_service,
    ),
    (
        "a_certificate_that_cert_manager_renews_is_served_without_a_lost_handshake",
        a_certificate_that_cert_manager_renews_is_served_without_a_lost_handshake,
    ),
    (
        "a_deleted_secret_of_cert_managers_comes_back_and_no_service_is_lost",
        a_deleted_secret_of_cert_managers_comes_back_and_no_service_is_lost,
    ),
];

const CERTIFICATE: &str = "certificate/tidewaiter-webhook-tls";
const SECRET: &str = "secret/tidewaiter-webhook-tls";
/// How often a replica began to serve another certificate.
const LOADED: &str = r#"tidewaiter_reloads_total{what="certificate",result="ok"}"#;

/// The release with certificates of cert-manager, which is installed first.
fn release(world: &World) -> Result<Release> {
    if world.cluster.processes().pid("cert-manager-controller").is_none() {
        world.cluster.start_cert_manager()?;
    }
    world.release_in(Shape::CertManager)
}

/// Both authorities are never trusted at once, so for a moment replicas aren't: those services are seen to by the sweep.
fn a_switch_to_cert_manager_loses_no_service(world: &World) -> Result<()> {
    world.release()?;
    let uri = world.model()?.1;
    let load = Load::begin(&world.cluster, "switch", &uri, 3 * EVERY)?;
    under(load, world, "the certificate becomes cert-manager's", |load| {
        release(world)?;
        load.go_on(10)
    })?;
    ensure!(
        tidewaiter_ground::condition(&world.cluster.get(NAMESPACE, CERTIFICATE)?, "Ready") == Some("True"),
        "the certificate isn't ready"
    );
    let authority = world.cluster.get(NAMESPACE, SECRET)?["data"]["ca.crt"].clone();
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        world
            .cluster
            .until("cert-manager's authority is trusted", Duration::from_mins(1), || {
                let configuration = world.cluster.get("", &format!("{kind}/tidewaiter.dev"))?;
                let mut webhooks = configuration["webhooks"].as_array().into_iter().flatten();
                Ok(webhooks
                    .all(|webhook| webhook["clientConfig"]["caBundle"] == authority)
                    .then_some(()))
            })?;
    }
    at_once(world, "certificates of cert-manager", |load| load.go_on(10)).map(drop)
}

/// What `cmctl renew` does.
fn a_certificate_that_cert_manager_renews_is_served_without_a_lost_handshake(world: &World) -> Result<()> {
    let release = release(world)?;
    at_once(world, "cert-manager renews the certificate", |load| {
        replaced(world, &release, || {
            let mut conditions = world.cluster.get(NAMESPACE, CERTIFICATE)?["status"]["conditions"].take();
            let issuing = json!({
                "type": "Issuing",
                "status": "True",
                "reason": "ManuallyTriggered",
                "message": "a test wants another",
                "lastTransitionTime": conditions[0]["lastTransitionTime"],
            });
            conditions.as_array_mut().context("it has no conditions")?.push(issuing);
            let status = json!({"status": {"conditions": conditions}}).to_string();
            let patch = [
                "patch",
                CERTIFICATE,
                "--subresource=status",
                "--type=merge",
                "-p",
                &status,
            ];
            release.kubectl(&patch).map(drop)
        })?;
        load.go_on(10)
    })
    .map(drop)
}

fn a_deleted_secret_of_cert_managers_comes_back_and_no_service_is_lost(world: &World) -> Result<()> {
    let release = release(world)?;
    at_once(world, "cert-manager's Secret is deleted", |load| {
        replaced(world, &release, || release.kubectl(&["delete", SECRET]).map(drop))?;
        load.go_on(10)
    })
    .map(drop)
}

fn at_once(world: &World, fault: &str, work: impl FnOnce(&Load) -> Result<()>) -> Result<Outcome> {
    let uri = world.model()?.1;
    let load = Load::begin(&world.cluster, "cert-manager", &uri, EVERY)?;
    let outcome = under(load, world, fault, work)?;
    outcome.all_at_once()?;
    Ok(outcome)
}

/// Has the certificate replaced by `work`, and waits until each replica serves the new one.
fn replaced(world: &World, release: &Release, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let pods = release.until_ready(REPLICAS)?;
    let loaded = |pod: &Value| release.metric(pod, LOADED);
    let before = pods.iter().map(loaded).collect::<Result<Vec<_>>>()?;
    let served = || -> Result<Value> { Ok(world.cluster.get(NAMESPACE, SECRET)?["data"]["tls.crt"].clone()) };
    let old = served()?;
    work()?;
    world
        .cluster
        .until("there is another certificate", Duration::from_mins(2), || {
            let now = served()?;
            Ok((now.is_string() && now != old).then_some(()))
        })?;
    for (pod, before) in pods.iter().zip(before) {
        let name = pod["metadata"]["name"].as_str().context("a Pod without a name")?;
        // The kubelet looks after a volume when its Pod changes; else within two minutes.
        release.kubectl(&[
            "annotate",
            "--overwrite",
            "pod",
            name,
            &format!("example.com/looked-at={before}"),
        ])?;
        world
            .cluster
            .until("the replica serves it", Duration::from_mins(3), || {
                let now = loaded(pod)?;
                ensure!(now > before, "{name} loaded {now} certificates, as before");
                Ok(Some(()))
            })?;
    }
    Ok(())
}
