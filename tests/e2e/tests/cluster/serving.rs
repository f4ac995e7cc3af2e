//! From apply to answer: with Tidewaiter, a manifest needs no more than a name, a format and a URI. The plainest of these are among the chart's tests, where
//! Tidewaiter runs as Pods.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidewaiter_e2e::admission::submit;
use tidewaiter_e2e::install::{extend_catalogue, own_mlserver};
use tidewaiter_e2e::{Server, answering, manifests, path};
use tidewaiter_ground::Namespace;
use tidewaiter_ground::images::XGBOOST_3_2;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::{Mlserver1_7_1, Sklearnserver0_20, Xgboost3_2, Xgbserver0_20};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("a_bare_manifest_answers", true, a_bare_manifest_answers),
    (
        "a_model_of_older_libraries_answers_from_an_older_image",
        true,
        |world| answering::a_model_of_older_libraries_answers_from_an_older_image(world.cluster()?),
    ),
    ("a_client_side_apply_answers", true, a_client_side_apply_answers),
    ("what_kserves_python_sdk_sends_answers", true, |world| {
        answering::what_kserves_python_sdk_sends_answers(world.cluster()?)
    }),
    ("an_old_shape_answers", true, |world| {
        answering::an_old_shape_answers(world.cluster()?)
    }),
    ("what_zenml_sends_answers", true, what_zenml_sends_answers),
    ("an_old_xgboost_shape_answers", true, an_old_xgboost_shape_answers),
    ("a_custom_container_answers", true, a_custom_container_answers),
    ("a_model_that_would_answer_wrongly_is_refused", true, |world| {
        answering::a_model_that_would_answer_wrongly_is_refused(world.cluster()?)
    }),
    (
        "an_image_that_the_admin_mapped_answers_rightly",
        true,
        an_image_that_the_admin_mapped_answers_rightly,
    ),
];

pub(crate) fn answers(world: &World, namespace: &Namespace, service: &str, model: &Model) -> Result<()> {
    namespace
        .ready(service)
        .with_context(|| world.tidewaiter().map(Server::last_lines).unwrap_or_default())?;
    model.check(&namespace.infer(service, &model.request)?)
}

fn a_client_side_apply_answers(world: &World) -> Result<()> {
    let (model, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("client-side")?;
    let said = namespace.try_apply(&[], &manifests::bare("fraud", "mlflow", &uri))?;
    ensure!(said.ok, "{}", said.stderr);
    answers(world, &namespace, "fraud", &model)
}

/// scikit-learn 1.4 in an image with 1.7 is what nobody supports; the release that fits is pinned, together with its runtime.
fn a_bare_manifest_answers(world: &World) -> Result<()> {
    path::a_bare_manifest_answers(world.cluster()?, "fraud", Mlserver1_7_1, "mlflow").map(drop)
}

/// By KServe's first protocol, from KServe's own servers: what a manifest without a protocol is served by.
fn answers_v1(world: &World, namespace: &Namespace, service: &str, model: &Model) -> Result<()> {
    namespace
        .ready(service)
        .with_context(|| world.tidewaiter().map(Server::last_lines).unwrap_or_default())?;
    model.check(&namespace.predict(service, &model.instances())?)
}

/// The image of a service's Pods.
fn image(namespace: &Namespace, service: &str) -> Result<String> {
    let pods = namespace.pods(service)?;
    let containers = pods.iter().filter_map(|pod| pod["spec"]["containers"].as_array());
    let image = containers
        .flatten()
        .find(|container| container["name"] == "kserve-container")
        .and_then(|container| container["image"].as_str());
    image.map(str::to_owned).context("no Pod")
}

/// The whole way of ZenML's deployer: its object, the model downloaded with the credentials that it never heard of, an answer, and again after
/// the replace that it does on an update.
fn what_zenml_sends_answers(world: &World) -> Result<()> {
    let (model, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let namespace = world.namespace("zenml-answers")?;
    submit(&world.cluster, ["zenml", "create", namespace.name(), "iris", &uri])?;
    answers_v1(world, &namespace, "iris", &model)?;
    let image = image(&namespace, "iris")?;
    ensure!(
        image.ends_with("kserve/sklearnserver:v0.20.0"),
        "the Pod's image is {image}"
    );
    submit(&world.cluster, ["zenml", "replace", namespace.name(), "iris", &uri])?;
    answers_v1(world, &namespace, "iris", &model)
}

fn an_old_xgboost_shape_answers(world: &World) -> Result<()> {
    let (model, uri) = world.model("plain_xgboost", Xgbserver0_20, "mlflow")?;
    let namespace = world.namespace("old-xgboost")?;
    namespace.apply(&manifests::old_shape("prices", "xgboost", &uri))?;
    answers_v1(world, &namespace, "prices", &model)?;
    let image = image(&namespace, "prices")?;
    ensure!(
        image.ends_with("kserve/xgbserver:v0.20.0"),
        "the Pod's image is {image}"
    );
    Ok(())
}

/// A server of the user's own, told of its model by `STORAGE_URI` alone.
fn a_custom_container_answers(world: &World) -> Result<()> {
    let (model, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let namespace = world.namespace("custom-answers")?;
    let arguments = ["--model_name=own", "--model_dir=/mnt/models", "--http_port=8080"];
    let image = "docker.io/kserve/sklearnserver:v0.20.0";
    namespace.apply(&manifests::own_container("own", image, &arguments, &uri))?;
    answers_v1(world, &namespace, "own", &model)
}

/// The refusal's own advice: a runtime with a newer XGBoost, and what its image holds in the catalogue. The runtime is this namespace's alone, so for all
/// others the refusal stands.
fn an_image_that_the_admin_mapped_answers_rightly(world: &World) -> Result<()> {
    let (model, uri) = world.model("prices", Xgboost3_2, "mlflow")?;
    let manifest = manifests::bare("prices", "mlflow", &uri);
    let namespace = world.namespace("mapped")?;
    let refused = namespace.try_apply(&["--server-side"], &manifest)?;
    ensure!(
        !refused.ok && refused.stderr.contains("mapped in the catalogue"),
        "{}",
        refused.stderr
    );

    own_mlserver(&namespace, |spec| {
        spec["containers"][0]["image"] = json!(format!("{XGBOOST_3_2}:2026-1"));
    })?;
    let repositories = json!([{
        "name": XGBOOST_3_2,
        "source": "tests/ground/src/images.rs",
        "releases": [{"tags": ["2026-1"], "python": "3.11", "packages": {"xgboost": "3.2.0", "mlflow": "2.22.1"}}],
    }]);
    extend_catalogue(&world.cluster, "house-images", &repositories)?;

    world
        .cluster
        .until("the catalogue is in use", Duration::from_mins(1), || {
            let said = namespace.try_apply(&["--server-side"], &manifest)?;
            ensure!(
                said.ok && !said.stderr.contains("does not know the image"),
                "{}",
                said.stderr
            );
            Ok(Some(()))
        })?;
    // KServe prefers a namespace's own runtime, so there is nothing to pin.
    answers(world, &namespace, "prices", &model)?;
    let image = image(&namespace, "prices")?;
    ensure!(image == format!("{XGBOOST_3_2}:2026-1"), "the Pod's image is {image}");
    let elsewhere = world.namespace("not-mapped")?;
    let refused = elsewhere.try_apply(&["--server-side"], &manifest)?;
    ensure!(!refused.ok, "admitted elsewhere: {}", refused.stdout);
    Ok(())
}
