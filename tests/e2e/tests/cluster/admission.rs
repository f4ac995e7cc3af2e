//! What an admission does to an object, and what it leaves alone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::install::{BEFORE_KSERVE, start_another};
use tidewaiter_e2e::manifests;
use tidewaiter_e2e::path::{self, SECRET, annotation, has_credentials};
use tidewaiter_e2e::server::Identity;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;

use crate::hammer::filled;
use crate::serving::answers;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "fills_a_bare_manifest_and_says_so",
        false,
        fills_a_bare_manifest_and_says_so,
    ),
    (
        "fills_alike_by_client_side_and_server_side_apply",
        false,
        fills_alike_by_client_side_and_server_side_apply,
    ),
    ("a_dry_run_writes_nothing", false, a_dry_run_writes_nothing),
    (
        "applying_the_bare_manifest_again_changes_nothing",
        false,
        applying_the_bare_manifest_again_changes_nothing,
    ),
    (
        "leaves_a_users_own_secret_alone",
        false,
        leaves_a_users_own_secret_alone,
    ),
    (
        "refuses_a_prefix_that_is_not_granted",
        false,
        refuses_a_prefix_that_is_not_granted,
    ),
    (
        "fills_what_kserves_python_sdk_sends",
        false,
        fills_what_kserves_python_sdk_sends,
    ),
    (
        "fills_what_zenml_sends_and_replaces",
        false,
        fills_what_zenml_sends_and_replaces,
    ),
    (
        "fills_old_shapes_before_and_after_kserve",
        false,
        fills_old_shapes_before_and_after_kserve,
    ),
    (
        "fills_a_bare_manifest_before_kserve_too",
        false,
        fills_a_bare_manifest_before_kserve_too,
    ),
    (
        "is_asked_again_after_kserve_and_adds_only_what_it_could_not_before",
        false,
        is_asked_again_after_kserve_and_adds_only_what_it_could_not_before,
    ),
    ("fills_a_custom_container", false, fills_a_custom_container),
    (
        "delivers_by_service_account_and_by_storage_key",
        false,
        delivers_by_service_account_and_by_storage_key,
    ),
    (
        "fifty_services_at_once_all_get_their_credentials",
        false,
        fifty_services_at_once_all_get_their_credentials,
    ),
    (
        "an_ignored_service_passes_untouched",
        false,
        an_ignored_service_passes_untouched,
    ),
    (
        "a_service_can_be_deleted_and_what_is_withheld_stays_withheld",
        false,
        a_service_can_be_deleted_and_what_is_withheld_stays_withheld,
    ),
];

fn fills_a_bare_manifest_and_says_so(world: &World) -> Result<()> {
    path::fills_a_bare_manifest_and_says_so(world.cluster()?)
}

fn applying_the_bare_manifest_again_changes_nothing(world: &World) -> Result<()> {
    path::applying_the_bare_manifest_again_changes_nothing(world.cluster()?)
}

fn refuses_a_prefix_that_is_not_granted(world: &World) -> Result<()> {
    path::refuses_a_prefix_that_is_not_granted(world.cluster()?)
}

fn fills_a_custom_container(world: &World) -> Result<()> {
    path::fills_a_custom_container(world.cluster()?)
}

fn delivers_by_service_account_and_by_storage_key(world: &World) -> Result<()> {
    path::delivers_by_service_account_and_by_storage_key(world.cluster()?)
}

fn fills_old_shapes_before_and_after_kserve(world: &World) -> Result<()> {
    let before = world.namespace_of(BEFORE_KSERVE, "old-before")?;
    path::fills_old_shapes_alike(world.cluster()?, &before, &world.namespace("old-after")?)
}

fn fills_alike_by_client_side_and_server_side_apply(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("apply")?;
    namespace.apply(&manifests::bare("server", "mlflow", &uri))?;
    let said = namespace.try_apply(&[], &manifests::bare("client", "mlflow", &uri))?;
    ensure!(said.ok, "{}", said.stderr);
    let (server, client) = (namespace.get("isvc/server")?, namespace.get("isvc/client")?);
    ensure!(
        server["spec"] == client["spec"],
        "{} and {}",
        server["spec"],
        client["spec"]
    );
    has_credentials(&namespace, "client")
}

fn a_dry_run_writes_nothing(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("dry-run")?;
    let said = namespace.try_apply(
        &["--server-side", "--dry-run=server", "-o", "json"],
        &manifests::bare("fraud", "mlflow", &uri),
    )?;
    ensure!(said.ok, "{}", said.stderr);
    let shown: Value = serde_json::from_str(&said.stdout)?;
    ensure!(
        annotation(&shown, SECRET) == Some("tidewaiter-minio"),
        "metadata {}",
        shown["metadata"]
    );
    let there = namespace.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "there is {there}");
    Ok(())
}

fn leaves_a_users_own_secret_alone(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("own")?;
    namespace.apply(&manifests::by_hand("fraud", &uri, "10.88.0.1:9100", "somebody"))?;
    let service = namespace.get("isvc/fraud")?;
    ensure!(
        annotation(&service, SECRET) == Some("minio"),
        "metadata {}",
        service["metadata"]
    );
    let secrets = namespace.kubectl(&["get", "secrets", "-o", "name"])?;
    ensure!(secrets.trim() == "secret/minio", "there are {secrets}");
    Ok(())
}

fn fills_what_kserves_python_sdk_sends(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("sdk")?;
    world.submit(["model", "create", namespace.name(), "fraud", &uri])?;
    has_credentials(&namespace, "fraud")?;
    let model = namespace.get("isvc/fraud")?["spec"]["predictor"]["model"].clone();
    ensure!(model["protocolVersion"] == "v2", "model {model}");
    Ok(())
}

/// ZenML's replace drops what a webhook wrote; it has to be there again.
fn fills_what_zenml_sends_and_replaces(world: &World) -> Result<()> {
    let (_, uri) = world.model("plain_sklearn", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("zenml")?;
    world.submit(["zenml", "create", namespace.name(), "iris", &uri])?;
    has_credentials(&namespace, "iris")?;
    let before = namespace.get("isvc/iris")?;
    world.submit(["zenml", "replace", namespace.name(), "iris", &uri])?;
    has_credentials(&namespace, "iris")?;
    let after = namespace.get("isvc/iris")?;
    ensure!(
        before["spec"] == after["spec"],
        "before {}\nafter {}",
        before["spec"],
        after["spec"]
    );
    Ok(())
}

fn fills_a_bare_manifest_before_kserve_too(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace_of(BEFORE_KSERVE, "first")?;
    namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    has_credentials(&namespace, "fraud")?;
    let model = namespace.get("isvc/fraud")?["spec"]["predictor"]["model"].clone();
    ensure!(model["protocolVersion"] == "v2", "model {model}");
    Ok(())
}

/// The API server asks once more when a webhook after ours, as KServe's here, has changed the object. What was said at first has to be said again, and once.
fn is_asked_again_after_kserve_and_adds_only_what_it_could_not_before(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let server = start_another(
        &world.cluster,
        Identity {
            name: "reinvoked",
            port: 8643,
            account: "tidewaiter-reinvoked",
            before_kserve: true,
        },
    )?;
    let (_, uri) = world.model("plain_sklearn", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace_of(server.name(), "reinvoked")?;
    let service = |predictor: Value| {
        json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "iris"},
            "spec": {"predictor": predictor},
        })
    };
    let today = service(json!({"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}}));
    // Has no field for a runtime, until KServe has rewritten it.
    let old = service(json!({"sklearn": {"storageUri": uri}}));
    let api = world.cluster.api()?;
    world.cluster.until("it is asked", Duration::from_mins(1), || {
        filled(&api.would_create(namespace.name(), &today)?).map(Some)
    })?;
    let reviews = |ending: &str| {
        server.metric(&format!(
            r#"tidewaiter_reviews_total{{endpoint="mutate",ending="{ending}"}}"#
        ))
    };
    let mut specs = Vec::new();
    for (sent, expected) in [(&today, (1.0, 1.0)), (&old, (2.0, 0.0))] {
        let before = (reviews("patched")?, reviews("unchanged")?);
        let answer = api.would_create(namespace.name(), sent)?;
        filled(&answer)?;
        let now = (reviews("patched")? - before.0, reviews("unchanged")? - before.1);
        ensure!(
            now == expected,
            "{} reviews changed something and {} nothing, of {sent}",
            now.0,
            now.1
        );
        let lines: Vec<_> = answer
            .warnings
            .iter()
            .filter(|line| line.contains("tidewaiter: "))
            .collect();
        let different: BTreeSet<_> = lines.iter().collect();
        let record: Value =
            serde_json::from_str(annotation(&answer.body, "tidewaiter.dev/filled").context("no record")?)?;
        let filled_in = record.as_object().map_or(0, serde_json::Map::len);
        ensure!(
            filled_in == 4 && lines.len() == filled_in && different.len() == filled_in,
            "record {record}, lines {lines:?}"
        );
        specs.push(answer.body["spec"].clone());
    }
    ensure!(specs[0] == specs[1], "today's {}, the old one's {}", specs[0], specs[1]);
    Ok(())
}

/// Each arrives by a client of its own. What counts is what KServe froze into their Pods: the node is too small to run them all, so it takes those of two.
fn fifty_services_at_once_all_get_their_credentials(world: &World) -> Result<()> {
    let (model, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("fifty")?;
    let runs = ["fraud-17", "fraud-42"];
    let names: Vec<String> = (0..50).map(|number| format!("fraud-{number}")).collect();
    std::thread::scope(|scope| -> Result<()> {
        let sent: Vec<_> = names
            .iter()
            .map(|name| {
                let (uri, namespace) = (&uri, &namespace);
                scope.spawn(move || {
                    let mut manifest = manifests::bare(name, "mlflow", uri);
                    if !runs.contains(&name.as_str()) {
                        let nowhere = "  predictor:\n    nodeSelector: {nowhere: \"true\"}\n";
                        manifest = manifest.replace("  predictor:\n", nowhere);
                    }
                    namespace.apply(&manifest)
                })
            })
            .collect();
        for one in sent {
            one.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })?;
    let services = namespace.get("isvc")?;
    let filled = services["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|service| annotation(service, SECRET) == Some("tidewaiter-minio"))
        .count();
    ensure!(
        filled == names.len(),
        "{filled} of {} services name the Secret",
        names.len()
    );
    world.cluster.until(
        "every Pod has the credentials in its initializer",
        Duration::from_mins(3),
        || {
            let pods = namespace.get("pods")?;
            let frozen = pods["items"].as_array().into_iter().flatten().filter(|pod| {
                let environment = pod["spec"]["initContainers"][0]["env"].as_array().into_iter().flatten();
                environment
                    .into_iter()
                    .any(|one| one["valueFrom"]["secretKeyRef"]["name"] == "tidewaiter-minio")
            });
            let frozen = frozen.count();
            if frozen == names.len() {
                Ok(Some(()))
            } else {
                anyhow::bail!("{frozen} Pods have them")
            }
        },
    )?;
    if world.cluster.options().node {
        for name in runs {
            answers(world, &namespace, name, &model)?;
        }
    }
    Ok(())
}

fn an_ignored_service_passes_untouched(world: &World) -> Result<()> {
    let namespace = world.namespace("ignored")?;
    let manifest = manifests::bare("fraud", "mlflow", "s3://mlflow/another-team/fraud").replace(
        "  name: fraud",
        "  name: fraud\n  labels: {tidewaiter.dev/ignore: \"true\"}",
    );
    let said = namespace.apply(&manifest)?;
    ensure!(
        said.warnings().iter().all(|line| !line.contains("tidewaiter")),
        "{}",
        said.stderr
    );
    let service = namespace.get("isvc/fraud")?;
    ensure!(
        annotation(&service, SECRET).is_none() && annotation(&service, "tidewaiter.dev/filled").is_none(),
        "metadata {}",
        service["metadata"]
    );
    Ok(())
}

/// The user's word wins: what they take out is not filled in again. And leaving is never in question.
fn a_service_can_be_deleted_and_what_is_withheld_stays_withheld(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("leaving")?;
    namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    has_credentials(&namespace, "fraud")?;
    let take_out = json!({"metadata": {"annotations": {SECRET: null}}}).to_string();
    namespace.kubectl(&["patch", "isvc/fraud", "--type=merge", "-p", &take_out])?;
    let again = json!({"spec": {"predictor": {"minReplicas": 2}}}).to_string();
    namespace.kubectl(&["patch", "isvc/fraud", "--type=merge", "-p", &again])?;
    let service = namespace.get("isvc/fraud")?;
    ensure!(
        annotation(&service, SECRET).is_none(),
        "metadata {}",
        service["metadata"]
    );
    namespace
        .kubectl(&["delete", "isvc/fraud", "--wait", "--timeout=60s"])
        .map(drop)
}
