//! How a replica ends, and what it leaves behind in its log.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_e2e::load::service;
use tidewaiter_ground::host::tail;

use crate::{REPLICAS, Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_pod_that_is_told_to_stop_ends_with_code_0",
        a_pod_that_is_told_to_stop_ends_with_code_0,
    ),
    (
        "each_review_has_a_line_in_the_log_with_its_requests_uid",
        each_review_has_a_line_in_the_log_with_its_requests_uid,
    ),
];

/// A finalizer keeps the Pod for as long as it takes to read how its container ended.
fn a_pod_that_is_told_to_stop_ends_with_code_0(world: &World) -> Result<()> {
    let release = world.release()?;
    let pods = release.until_ready(REPLICAS)?;
    let name = pods[0]["metadata"]["name"].as_str().context("a Pod without a name")?;
    let finalizers = |finalizers: Value| {
        let patch = json!({"metadata": {"finalizers": finalizers}}).to_string();
        release.kubectl(&["patch", "pod", name, "--type=merge", "-p", &patch])
    };
    finalizers(json!(["example.com/looked-at"]))?;
    release.kubectl(&["delete", "pod", name, "--wait=false"])?;
    let ended = world.cluster.until("its container ends", Duration::from_mins(1), || {
        let pod = world.cluster.get(NAMESPACE, &format!("pod/{name}"))?;
        let ended = pod["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        Ok(ended.is_object().then_some(ended))
    });
    finalizers(Value::Null)?;
    let ended = ended?;
    ensure!(ended["exitCode"] == 0 && ended["reason"] == "Completed", "{ended}");
    release.until_alone(REPLICAS)
}

/// Not the object's: that has none yet when it is reviewed.
fn each_review_has_a_line_in_the_log_with_its_requests_uid(world: &World) -> Result<()> {
    let release = world.release()?;
    let (api, namespace) = (world.cluster.api()?, world.cluster.namespace("logged")?);
    let mut model = service("fraud", &world.model()?.1);
    model["spec"]["predictor"]["nodeSelector"] = json!({"nowhere": "true"});
    let created = api.create(namespace.name(), &model)?;
    ensure!(created.admitted(), "{}", created.message());
    let refused = api.would_create(namespace.name(), &service("denied", "s3://mlflow/somebody/elses"))?;
    ensure!(!refused.admitted(), "admitted: {}", refused.body);
    let line = |name: &str, message: &str| {
        world.cluster.until("the log tells of it", Duration::from_secs(30), || {
            let logs = release.logs()?;
            // Behind the time and the stream, which the node writes before each line.
            let objects = logs.lines().filter_map(|line| line.find('{').map(|at| &line[at..]));
            let lines = objects.filter_map(|object| serde_json::from_str::<Value>(object).ok());
            let mut lines = lines.filter(|line| line["namespace"] == namespace.name() && line["name"] == name);
            let found = lines.find(|line| line["message"] == message);
            ensure!(
                found.is_some(),
                "no line `{message}` about {name} in\n{}",
                tail(&logs, 20)
            );
            Ok(found)
        })
    };
    let lines = [line("fraud", "filled in")?, line("denied", "refused")?];
    let uids: BTreeSet<&str> = lines.iter().filter_map(|line| line["uid"].as_str()).collect();
    let is_uid = |uid: &&str| uid.len() == 36 && uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    ensure!(uids.len() == 2 && uids.iter().all(is_uid), "{lines:?}");
    let object = created.body["metadata"]["uid"].as_str().unwrap_or_default();
    ensure!(!uids.contains(object), "the object's uid: {lines:?}");
    Ok(())
}
