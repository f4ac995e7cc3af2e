//! What somebody did by hand to what the release lives by, or put where it has something to put.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_e2e::load::{Load, has_credentials, service};
use tidewaiter_ground::tls;

use crate::faults::{EVERY, under};
use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_certificate_that_was_spoilt_by_hand_is_made_anew_and_no_service_is_lost",
        a_certificate_that_was_spoilt_by_hand_is_made_anew_and_no_service_is_lost,
    ),
    (
        "a_secret_of_the_users_under_our_name_stays_theirs_until_they_give_it_up",
        a_secret_of_the_users_under_our_name_stays_theirs_until_they_give_it_up,
    ),
];

/// How often a replica began to serve another certificate.
const LOADED: &str = r#"tidewaiter_reloads_total{what="certificate",result="ok"}"#;

/// What is spoilt is served by nobody: replicas keep the last good one until there is another.
fn a_certificate_that_was_spoilt_by_hand_is_made_anew_and_no_service_is_lost(world: &World) -> Result<()> {
    let release = world.release()?;
    let stranger = tls::pair(&["stranger"])?;
    let spoilt = [
        ("tls.crt", tls::base64(b"no certificate")),
        ("tls.key", tls::base64(stranger.key.as_bytes())),
        ("ca.key", tls::base64(b"")),
    ];
    let data = || -> Result<Value> { Ok(world.cluster.get(NAMESPACE, "secret/tidewaiter-tls")?["data"].take()) };
    let load = Load::begin(&world.cluster, "spoilt", &world.model()?.1, EVERY)?;
    let outcome = under(
        load,
        world,
        "the certificate's Secret is spoilt by hand, three times",
        |load| {
            for (part, edit) in &spoilt {
                let pods = release.until_ready(REPLICAS)?;
                let loaded = |pod: &Value| release.metric(pod, LOADED);
                let before = pods.iter().map(loaded).collect::<Result<Vec<_>>>()?;
                let old = data()?;
                let patch = json!({"data": {*part: edit}}).to_string();
                release.kubectl(&["patch", "secret", "tidewaiter-tls", "--type=merge", "-p", &patch])?;
                let minute = Duration::from_mins(1);
                world.cluster.until("all of it is made anew", minute, || {
                    let now = data()?;
                    let parts = ["tls.crt", "tls.key", "ca.key"];
                    let is_new = |part: &&str| now[*part].is_string() && now[*part] != old[*part];
                    ensure!(now[*part] != edit.as_str(), "{part} is as it was edited");
                    Ok(parts.iter().all(is_new).then_some(()))
                })?;
                for (pod, before) in pods.iter().zip(before) {
                    world.cluster.until("each replica serves it", minute, || {
                        Ok((loaded(pod)? > before).then_some(()))
                    })?;
                }
                load.go_on(6)?;
            }
            Ok(())
        },
    )?;
    outcome.all_at_once().map(drop)
}

/// The refusal says what to do, and that works.
fn a_secret_of_the_users_under_our_name_stays_theirs_until_they_give_it_up(world: &World) -> Result<()> {
    world.release()?;
    let namespace = world.cluster.namespace("theirs")?;
    let mut model = service("fraud", &world.model()?.1);
    // Its Pod never runs: what is tried here is over before.
    model["spec"]["predictor"]["nodeSelector"] = json!({"nowhere": "true"});
    let theirs = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tidewaiter-minio"},
        "stringData": {"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": "their own"},
    });
    namespace.apply(&theirs.to_string())?;
    let secret = || namespace.get("secret/tidewaiter-minio");
    let before = secret()?;
    let refused = namespace.try_apply(&["--server-side"], &model.to_string())?;
    let words = format!(
        "Secret {}/tidewaiter-minio is needed for the model store's credentials",
        namespace.name()
    );
    for part in [
        &words,
        "one that Tidewaiter didn't write is there already",
        "app.kubernetes.io/managed-by=tidewaiter",
    ] {
        ensure!(
            !refused.ok && refused.stderr.contains(part),
            "the refusal doesn't say {part}: {}{}",
            refused.stdout,
            refused.stderr
        );
    }
    let after = secret()?;
    ensure!(after == before, "was {}\nis  {}", before["metadata"], after["metadata"]);
    let services = namespace.kubectl(&["get", "isvc", "-o", "name"])?;
    ensure!(services.is_empty(), "refused, and there is {services}");

    namespace.kubectl(&[
        "label",
        "secret/tidewaiter-minio",
        "app.kubernetes.io/managed-by=tidewaiter",
    ])?;
    namespace.apply(&model.to_string())?;
    ensure!(has_credentials(&namespace.get("isvc/fraud")?), "no credentials");
    let ours = secret()?;
    ensure!(
        ours["data"]["AWS_ACCESS_KEY_ID"] != before["data"]["AWS_ACCESS_KEY_ID"],
        "the key is still theirs"
    );
    Ok(())
}
