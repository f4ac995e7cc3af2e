//! Credentials in named namespaces alone, certificates that last for half a minute, credentials that are collected after a minute, an audit every
//! minute, a collector of traces. These tests run side by side, each in its own of the named namespaces.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{NAMESPACE, backend, without_pods};
use tidewaiter_e2e::load::{Load, has_credentials, service};
use tidewaiter_e2e::minio::admin;
use tidewaiter_e2e::policy::{install_unruly, unruly_in};
use tidewaiter_ground::HOST;
use tidewaiter_ground::tls::Authority;
use tokio::runtime::Runtime;

use crate::faults::{EVERY, under};
use crate::repaired::key_id;
use crate::{Shape, Test, World, locked};

pub(crate) const TESTS: &[Test] = &[
    (
        "certificates_and_authorities_that_end_all_the_time_lose_no_service",
        certificates_and_authorities_that_end_all_the_time_lose_no_service,
    ),
    (
        "what_was_edited_by_hand_is_put_right_and_what_nobody_uses_is_collected",
        what_was_edited_by_hand_is_put_right_and_what_nobody_uses_is_collected,
    ),
    (
        "the_audit_reports_what_would_be_refused_today_and_takes_it_back",
        the_audit_reports_what_would_be_refused_today_and_takes_it_back,
    ),
    (
        "a_minted_key_that_no_service_uses_any_more_is_revoked",
        a_minted_key_that_no_service_uses_any_more_is_revoked,
    ),
    (
        "a_namespace_that_is_not_named_is_told_so",
        a_namespace_that_is_not_named_is_told_so,
    ),
    ("a_review_is_traced", a_review_is_traced),
];

/// The port of [`HOST`] at which [`Shape::Named`] has a collector of traces. No server of the ground has it.
pub(crate) const COLLECTOR: u16 = 9318;

/// How many authorities are to come and go.
const AUTHORITIES: usize = 3;

/// A certificate is renewed when ten of its thirty seconds are left, an authority is followed by the next thirty seconds before its end.
fn certificates_and_authorities_that_end_all_the_time_lose_no_service(world: &World) -> Result<()> {
    let release = world.release_in(Shape::Named)?;
    let uri = world.model()?.1;
    // What was issued for longer is followed at once by what is to last for less.
    let load = Load::begin_in(world.team("ages")?, &uri, EVERY, has_credentials)?;
    let secret = || world.cluster.get(NAMESPACE, "secret/tidewaiter-tls");
    let (mut certificates, mut authorities) = (BTreeSet::new(), BTreeSet::new());
    let begun = Instant::now();
    let outcome = under(load, world, "certificates and authorities end", |load| {
        world
            .cluster
            .until("three more authorities", Duration::from_mins(5), || {
                let data = secret()?["data"].take();
                certificates.insert(data["tls.crt"].to_string());
                authorities.insert(data["ca.key"].to_string());
                Ok((authorities.len() > AUTHORITIES).then_some(()))
            })?;
        // The admin's way to have all made anew, while others end.
        release.kubectl(&["delete", "secret", "tidewaiter-tls"])?;
        let again = || {
            Ok(authorities
                .insert(secret()?["data"]["ca.key"].to_string())
                .then_some(()))
        };
        world
            .cluster
            .until("another authority is there", Duration::from_mins(1), again)?;
        load.go_on(20)
    })?;
    println!(
        "{} authorities and {} certificates in {} s",
        authorities.len(),
        certificates.len(),
        begun.elapsed().as_secs()
    );
    outcome.all_at_once().map(drop)
}

/// All three objects that a namespace can have of a backend: the Secret, the ServiceAccount that lists it, the ConfigMap with the store's authority.
fn what_was_edited_by_hand_is_put_right_and_what_nobody_uses_is_collected(world: &World) -> Result<()> {
    let release = world.release_in(Shape::Named)?;
    let namespace = world.team("collected")?;
    let authority = Authority::new("the store's")?;
    let bundle = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": "house-authority"},
        "data": {"cabundle.crt": authority.certificate()},
    });
    release.apply(&bundle.to_string())?;
    // Nobody listens there. What is delivered doesn't depend on that.
    let mut house = backend("minio-house", "house", &["s3://house/"]);
    house["spec"]["s3"]["endpoint"] = json!(format!("https://{HOST}:9199"));
    house["spec"]["s3"]["tls"] =
        json!({"caBundle": {"configMap": {"namespace": NAMESPACE, "name": "house-authority"}}});
    house["spec"]["delivery"] = json!("serviceAccount");
    let house = Custom::apply(&world.cluster, &house)?;
    house.until("Accepted", "True")?;
    namespace.apply(&service("fraud", "s3://house/fraud").to_string())?;

    let objects = ["secret", "configmap", "serviceaccount"].map(|kind| format!("{kind}/tidewaiter-minio-house"));
    let contents = |what: &String| -> Result<Value> {
        let object = namespace.get(what)?;
        Ok(json!([object["data"], object["secrets"]]))
    };
    let edits = [
        r#"{"data":{"AWS_ACCESS_KEY_ID":"ZWRpdGVk"}}"#,
        r#"{"data":{"cabundle.crt":"edited"}}"#,
        r#"{"secrets":null}"#,
    ];
    for (what, edit) in objects.iter().zip(edits) {
        let there = || Ok(contents(what).ok());
        let before = world.cluster.until("it is delivered", Duration::from_mins(1), there)?;
        namespace.kubectl(&["patch", what, "--type=merge", "-p", edit])?;
        world.cluster.until("it is put right", Duration::from_mins(1), || {
            let now = contents(what)?;
            ensure!(now == before, "{what} was {before}, and is {now}");
            Ok(Some(()))
        })?;
    }

    namespace.kubectl(&["delete", "isvc/fraud", "--timeout=60s"])?;
    let mark = || -> Result<Option<String>> {
        let secret = namespace.get(&objects[0])?;
        let mut annotations = secret["metadata"]["annotations"].as_object().into_iter().flatten();
        let mark = annotations.find(|(name, _)| name.contains("unused-since"));
        Ok(mark.map(|(_, since)| since.to_string()))
    };
    world
        .cluster
        .until("it is marked as unused", Duration::from_mins(3), mark)?;
    world.cluster.until("it is collected", Duration::from_mins(4), || {
        let left = namespace.kubectl(&["get", "secrets,configmaps,serviceaccounts", "-o", "name"])?;
        Ok((!left.contains("tidewaiter-minio-house")).then_some(()))
    })
}

/// A grant is withdrawn from a service that runs: it runs on, and the report says what would become of it today.
fn the_audit_reports_what_would_be_refused_today_and_takes_it_back(world: &World) -> Result<()> {
    let release = world.release_in(Shape::Named)?;
    let namespace = world.team("audited")?;
    release.definitions(&["--set", "policyReports.enabled=true"])?;
    let granted = |namespaces: &[&str]| {
        let mut backend = backend("minio-audited", "audited", &["s3://audited/"]);
        backend["spec"]["grants"][0]["namespaces"] = json!(namespaces);
        backend
    };
    let backend = Custom::apply(&world.cluster, &granted(&[namespace.name()]))?;
    backend.until("Accepted", "True")?;
    namespace.apply(&service("fraud", "s3://audited/fraud").to_string())?;
    let filled = || {
        let service = namespace.get("isvc/fraud")?;
        Ok(has_credentials(&service).then_some(service))
    };
    let minute = Duration::from_mins(1);
    let before = world.cluster.until("the service has its credentials", minute, filled)?;
    backend.change(&granted(&["nobody"]))?;
    backend.until("Accepted", "True")?;
    let report = || namespace.get("policyreport/tidewaiter");
    world
        .cluster
        .until("the audit tells of it", Duration::from_mins(3), || {
            let report = report()?;
            let results = report["results"].as_array().into_iter().flatten();
            let mut failed = results.filter(|result| result["result"] == "fail");
            let told = failed.any(|result| result["resources"][0]["name"] == "fraud" && result["message"].is_string());
            ensure!(told && report["summary"]["fail"] == 1, "{report}");
            Ok(Some(()))
        })?;
    let after = namespace.get("isvc/fraud")?;
    for part in ["generation", "annotations"] {
        ensure!(
            before["metadata"][part] == after["metadata"][part],
            "the audit changed {before}\nto {after}"
        );
    }

    // A policy that came since, and goes again.
    let name = namespace.name();
    backend.change(&granted(&[name]))?;
    backend.until("Accepted", "True")?;
    install_unruly(&world.cluster)?;
    let policy = unruly_in(name, name, &json!({"deny": "not today"}), "fail");
    let policy = Custom::apply(&world.cluster, &policy)?;
    policy.until("Loaded", "True")?;
    let refused_by_it = || {
        let report = report()?;
        let results = report["results"].as_array().into_iter().flatten();
        let mut told = results.filter(|result| result["result"] == "fail" && result["policy"] == name);
        Ok::<_, anyhow::Error>((
            told.any(|result| result["message"].to_string().contains("not today")),
            report,
        ))
    };
    for (what, wanted) in [("the audit tells of the policy", true), ("it is silent again", false)] {
        if !wanted {
            release.kubectl(&["delete", "wasmpolicy", name])?;
        }
        world.cluster.until(what, Duration::from_mins(3), || {
            let (told, report) = refused_by_it()?;
            ensure!(told == wanted, "{report}");
            Ok(Some(()))
        })?;
    }

    namespace.kubectl(&["delete", "isvc/fraud", "--timeout=60s"])?;
    world
        .cluster
        .until("the report is taken back", Duration::from_mins(3), || {
            let left = namespace.kubectl(&["get", "policyreports", "-o", "name"])?;
            Ok(left.is_empty().then_some(()))
        })
}

/// With its Secret, a minute after that was marked as unused.
fn a_minted_key_that_no_service_uses_any_more_is_revoked(world: &World) -> Result<()> {
    world.release_in(Shape::Named)?;
    let namespace = world.team("minted")?;
    let name = namespace.name();
    let mut mints = backend("minio-unused", "unused", &["s3://unused/"]);
    mints["spec"]["minting"] = json!({"keyLifetime": "1h"});
    let mints = Custom::apply(&world.cluster, &mints)?;
    mints.until("Accepted", "True")?;
    without_pods(&namespace)?;
    namespace.apply(&service("fraud", "s3://unused/fraud").to_string())?;
    let minute = Duration::from_mins(1);
    let key = world.cluster.until("the service has a key of its own", minute, || {
        key_id(&namespace, "minio-unused").map(Some)
    })?;
    let (admin, runtime) = (admin()?, Runtime::new()?);
    let is_known = || -> Result<bool> {
        let keys = runtime.block_on(admin.list())?;
        Ok(keys.iter().any(|account| account.access_key == key))
    };
    world
        .cluster
        .until("MinIO knows the key", minute, || Ok(is_known()?.then_some(())))?;
    namespace.kubectl(&["delete", "isvc/fraud", "--timeout=60s"])?;
    world.cluster.until("the key is revoked", Duration::from_mins(5), || {
        Ok((!is_known()?).then_some(()))
    })?;
    let left = namespace.kubectl(&["get", "secrets", "-o", "name"])?;
    ensure!(!left.contains("minio-unused"), "{name} has still {left}");
    Ok(())
}

/// With what the admin has to change. What it had from before stays, and so does whoever uses it.
fn a_namespace_that_is_not_named_is_told_so(world: &World) -> Result<()> {
    let release = world.release_in(Shape::Named)?;
    let elsewhere = world.cluster.namespace("elsewhere")?;
    let uri = world.model()?.1;
    let said = elsewhere.try_apply(&["--server-side"], &service("fraud", &uri).to_string())?;
    ensure!(!said.ok, "admitted: {}", said.stdout);
    for part in ["deliveryNamespaces", world.team("ages")?.name(), "tidewaiter-minio"] {
        ensure!(
            said.stderr.contains(part),
            "the refusal doesn't say {part}: {}",
            said.stderr
        );
    }
    let left = elsewhere.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(left.is_empty(), "refused, and there is {left}");
    // It got its credentials when every namespace did.
    let Some(running) = locked(&world.running).clone() else {
        return Ok(());
    };
    let change = r#"{"spec":{"predictor":{"minReplicas":2}}}"#;
    let patch = ["patch", "-n", running.name(), "isvc/idle", "--type=merge", "-p", change];
    let said = world.cluster.try_kubectl(&patch, "")?;
    ensure!(
        said.ok && said.stderr.contains("could not be renewed"),
        "{}{}{}",
        said.stdout,
        said.stderr,
        release.diagnosis()
    );
    Ok(())
}

/// By OTLP over HTTP. What is in the message is Protocol Buffers, whose texts stand in it as they are; the webhook's own tests read it.
fn a_review_is_traced(world: &World) -> Result<()> {
    let collector = TcpListener::bind((HOST, COLLECTOR)).context("can't listen as the collector")?;
    collector.set_nonblocking(true)?;
    world.release_in(Shape::Named)?;
    let team = world.cluster.namespace("traced")?;
    let (api, model) = (world.cluster.api()?, service("watched", &world.model()?.1));
    let mut told = Vec::new();
    world
        .cluster
        .until("the collector is told of a review", Duration::from_mins(1), || {
            api.would_create(team.name(), &model)?;
            while let Ok((connection, _)) = collector.accept() {
                told = message(connection)?;
                let holds = |text: &str| told.windows(text.len()).any(|window| window == text.as_bytes());
                if [team.name(), "watched", "storage-credentials"].into_iter().all(holds) {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })?;
    let head = String::from_utf8_lossy(&told).to_ascii_lowercase();
    ensure!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    ensure!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
    Ok(())
}

/// A request as it came, which is answered by 200.
fn message(mut connection: TcpStream) -> Result<Vec<u8>> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut told = Vec::new();
    let mut part = [0; 4096];
    loop {
        let length = connection.read(&mut part)?;
        told.extend_from_slice(&part[..length]);
        let Some(end) = told.windows(4).position(|window| window == b"\r\n\r\n") else {
            ensure!(length > 0, "the request has no end");
            continue;
        };
        let head = String::from_utf8_lossy(&told[..end]).to_ascii_lowercase();
        let body = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body: usize = body.context("no length")?.parse()?;
        if told.len() >= end + 4 + body {
            break;
        }
        ensure!(length > 0, "the request ends too early");
    }
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(told)
}
