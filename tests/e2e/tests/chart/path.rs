//! With every KServe: the way from a manifest to an answer, and what of it depends on KServe.

use anyhow::{Context as _, Result};
use serde_json::json;
use tidewaiter_e2e::{admission, path};
use tidewaiter_ground::Cluster;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("a_bare_manifest_answers", |world| answers(world, "mlflow")),
    ("service_account_delivery_answers", |world| answers(world, "accounts")),
    ("storage_key_delivery_answers", |world| answers(world, "keys")),
    ("applying_the_bare_manifest_again_changes_nothing", |world| {
        path::applying_the_bare_manifest_again_changes_nothing(installed(world)?)
    }),
    ("refuses_a_prefix_that_is_not_granted", |world| {
        path::refuses_a_prefix_that_is_not_granted(installed(world)?)
    }),
    ("fills_a_bare_manifest_and_says_so", |world| {
        path::fills_a_bare_manifest_and_says_so(installed(world)?)
    }),
    ("fills_a_custom_container", |world| {
        path::fills_a_custom_container(installed(world)?)
    }),
    (
        "fills_old_shapes_before_and_after_kserve",
        fills_old_shapes_before_and_after_kserve,
    ),
    ("fills_alike_by_client_side_and_server_side_apply", |world| {
        admission::fills_alike_by_client_side_and_server_side_apply(installed(world)?)
    }),
    ("a_dry_run_writes_nothing", |world| {
        admission::a_dry_run_writes_nothing(installed(world)?)
    }),
    ("leaves_a_users_own_secret_alone", |world| {
        admission::leaves_a_users_own_secret_alone(installed(world)?)
    }),
    ("fills_what_kserves_python_sdk_sends", |world| {
        admission::fills_what_kserves_python_sdk_sends(installed(world)?)
    }),
    ("fills_what_zenml_sends_and_replaces", |world| {
        admission::fills_what_zenml_sends_and_replaces(installed(world)?)
    }),
    ("fifty_services_at_once_all_get_their_credentials", |world| {
        admission::fifty_services_at_once_all_get_their_credentials(installed(world)?)
    }),
    ("an_ignored_service_passes_untouched", |world| {
        admission::an_ignored_service_passes_untouched(installed(world)?)
    }),
    (
        "a_service_can_be_deleted_and_what_is_withheld_stays_withheld",
        |world| admission::a_service_can_be_deleted_and_what_is_withheld_stays_withheld(installed(world)?),
    ),
];

fn installed(world: &World) -> Result<&Cluster> {
    world.release().map(|_| &world.cluster)
}

fn answers(world: &World, bucket: &str) -> Result<()> {
    let release = world.release()?;
    let answers = path::a_bare_manifest_answers(&world.cluster, "fraud", Mlserver1_7_1, bucket);
    answers.map(drop).with_context(|| release.diagnosis())
}

/// The chart's configuration comes after KServe's. A copy of it, for one namespace, comes before.
fn fills_old_shapes_before_and_after_kserve(world: &World) -> Result<()> {
    let release = world.release()?;
    let before = world.cluster.namespace("old-before")?;
    let installed = world.cluster.get("", "mutatingwebhookconfiguration/tidewaiter.dev")?;
    let mut webhooks = installed["webhooks"].clone();
    for webhook in webhooks.as_array_mut().into_iter().flatten() {
        webhook["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": before.name()}});
    }
    let copy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "a-tidewaiter.dev"},
        "webhooks": webhooks,
    });
    release.apply(&copy.to_string())?;
    let alike = path::fills_old_shapes_alike(&world.cluster, &before, &world.cluster.namespace("old-after")?);
    release.kubectl(&["delete", "mutatingwebhookconfiguration", "a-tidewaiter.dev"])?;
    alike
}
