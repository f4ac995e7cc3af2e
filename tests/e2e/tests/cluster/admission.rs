//! What an admission does to an object, and what it leaves alone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::install::{BEFORE_KSERVE, start_another};
use tidewaiter_e2e::path::{self, annotation, has_credentials};
use tidewaiter_e2e::server::Identity;
use tidewaiter_e2e::{admission, manifests};
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;

use crate::hammer::filled;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("fills_a_bare_manifest_and_says_so", false, |world| {
        path::fills_a_bare_manifest_and_says_so(world.cluster()?)
    }),
    ("fills_alike_by_client_side_and_server_side_apply", false, |world| {
        admission::fills_alike_by_client_side_and_server_side_apply(world.cluster()?)
    }),
    ("a_dry_run_writes_nothing", false, |world| {
        admission::a_dry_run_writes_nothing(world.cluster()?)
    }),
    ("applying_the_bare_manifest_again_changes_nothing", false, |world| {
        path::applying_the_bare_manifest_again_changes_nothing(world.cluster()?)
    }),
    ("leaves_a_users_own_secret_alone", false, |world| {
        admission::leaves_a_users_own_secret_alone(world.cluster()?)
    }),
    ("refuses_a_prefix_that_is_not_granted", false, |world| {
        path::refuses_a_prefix_that_is_not_granted(world.cluster()?)
    }),
    ("fills_what_kserves_python_sdk_sends", false, |world| {
        admission::fills_what_kserves_python_sdk_sends(world.cluster()?)
    }),
    ("fills_what_zenml_sends_and_replaces", false, |world| {
        admission::fills_what_zenml_sends_and_replaces(world.cluster()?)
    }),
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
    ("fills_a_custom_container", false, |world| {
        path::fills_a_custom_container(world.cluster()?)
    }),
    ("delivers_by_service_account_and_by_storage_key", false, |world| {
        path::delivers_by_service_account_and_by_storage_key(world.cluster()?)
    }),
    ("fifty_services_at_once_all_get_their_credentials", false, |world| {
        admission::fifty_services_at_once_all_get_their_credentials(world.cluster()?)
    }),
    ("an_ignored_service_passes_untouched", false, |world| {
        admission::an_ignored_service_passes_untouched(world.cluster()?)
    }),
    (
        "a_service_can_be_deleted_and_what_is_withheld_stays_withheld",
        false,
        |world| admission::a_service_can_be_deleted_and_what_is_withheld_stays_withheld(world.cluster()?),
    ),
];

fn fills_old_shapes_before_and_after_kserve(world: &World) -> Result<()> {
    let before = world.namespace_of(BEFORE_KSERVE, "old-before")?;
    path::fills_old_shapes_alike(world.cluster()?, &before, &world.namespace("old-after")?)
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
