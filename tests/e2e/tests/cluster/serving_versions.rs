//! The built-in policy `serving-versions`: a package that the image lacks, and an image by its digest. What the server makes of the model without it, and what
//! `kubectl apply` says with it. Models that fit, and those that would be answered wrongly, are in `serving`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewaiter_e2e::install::{extend_catalogue, own_mlserver};
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::{Mlserver1_7_1, Xgboost3_2};
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, condition, host};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_package_that_the_image_lacks_ends_the_server_without_tidewaiter_and_is_told_of_with_it",
        true,
        a_package_that_the_image_lacks_ends_the_server_without_tidewaiter_and_is_told_of_with_it,
    ),
    (
        "an_image_by_digest_answers_wrongly_without_tidewaiter_and_is_refused_with_it",
        true,
        an_image_by_digest_answers_wrongly_without_tidewaiter_and_is_refused_with_it,
    ),
];

/// What the policy says of the package.
const LACKS: &str =
    "may fail: kserve-mlserver lacks imbalanced-learn, which the model needs; pack its environment.tar.gz";
/// An admin's own repository, of which images are named by digest alone.
const BY_DIGEST: &str = "docker.io/house/by-digest";

/// A model of scikit-learn whose pickle wants imbalanced-learn, which no image of MLServer has: it answers as it did before, where that is there.
fn resampled(world: &World) -> Result<Model> {
    let mut model = Model::make(world.cluster.cache(), "churn", Mlserver1_7_1)?;
    let folder = world.cluster.folder().join("resampled");
    fs::create_dir_all(&folder)?;
    for file in fs::read_dir(&model.folder)? {
        let file = file?.path();
        fs::copy(&file, folder.join(file.file_name().context("a file has a name")?))?;
    }
    // A class is looked up, and dropped; what follows is the pickle as it was.
    let pickle = folder.join("model.pkl");
    let wants = [&b"cimblearn.pipeline\nPipeline\n0"[..], &fs::read(&pickle)?].concat();
    fs::write(&pickle, wants)?;
    let requirements = folder.join("requirements.txt");
    let listed = fs::read_to_string(&requirements)?;
    fs::write(&requirements, format!("{listed}\nimbalanced-learn==0.13.0\n"))?;
    model.folder = folder;
    Ok(model)
}

/// The same with its environment, packed as conda-pack does it: a Python, and the package.
fn packed(world: &World, model: &Model) -> Result<Model> {
    let mut packed = model.clone();
    packed.folder = world.cluster.folder().join("resampled-packed");
    host::run(Command::new("cp").arg("-r").arg(&model.folder).arg(&packed.folder))?;
    let environment = world.cluster.folder().join("resampled-environment");
    let package = environment.join("lib/python3.11/site-packages/imblearn");
    fs::create_dir_all(&package)?;
    fs::write(package.join("__init__.py"), "")?;
    fs::write(package.join("pipeline.py"), "class Pipeline:\n    pass\n")?;
    fs::create_dir_all(environment.join("bin"))?;
    symlink("/usr/bin/python3", environment.join("bin/python"))?;
    host::run(
        Command::new("tar")
            .arg("-czf")
            .arg(packed.folder.join("environment.tar.gz"))
            .arg("-C")
            .arg(&environment)
            .args(["bin", "lib"]),
    )?;
    Ok(packed)
}

fn a_package_that_the_image_lacks_ends_the_server_without_tidewaiter_and_is_told_of_with_it(
    world: &World,
) -> Result<()> {
    let model = resampled(world)?;
    let uri = model.put(world.cluster.cache(), "mlflow", "shared/resampled")?;
    let without = world.namespace_without("lacks-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::by_hand("fraud", &uri, &endpoint, MINIO_USER))?;
    world.cluster.until("the server gives up", Duration::from_mins(4), || {
        let pods = without.pods("fraud")?;
        let pod = pods.first().context("no Pod yet")?;
        let logs = world.cluster.logs(pod, "kserve-container")?.concat();
        ensure!(logs.contains("No module named 'imblearn'"), "{logs}");
        Ok(Some(()))
    })?;
    let status = without.get("isvc/fraud")?;
    ensure!(condition(&status, "Ready") != Some("True"), "{}", status["status"]);

    let with = world.namespace("lacks")?;
    let said = with.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    ensure!(said.warnings().contains(&LACKS), "{}", said.stderr);
    with.kubectl(&["delete", "isvc/fraud"])?;

    // The way out that it names is one. MLServer's own image unpacks the file before it starts; where only its package is, it is told to.
    let packed = packed(world, &model)?;
    let uri = packed.put(world.cluster.cache(), "mlflow", "shared/resampled-packed")?;
    let service = json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "packed"},
        "spec": {"predictor": {"model": {
            "modelFormat": {"name": "mlflow"},
            "storageUri": uri,
            "env": [
                {"name": "MLSERVER_PARALLEL_WORKERS", "value": "1"},
                {"name": "MLSERVER_MODEL_ENVIRONMENT_TARBALL", "value": "/mnt/models/environment.tar.gz"},
            ],
        }}},
    });
    let said = with.apply(&service.to_string())?;
    ensure!(!said.stderr.contains("may fail"), "{}", said.stderr);
    with.ready("packed")?;
    // The server listens before its worker has loaded the model.
    let answered = world.cluster.until("it answers", Duration::from_mins(3), || {
        with.infer("packed", &model.request).map(Some)
    });
    model.check(&answered.with_context(|| with.diagnosis("packed"))?)
}

/// The namespace's own runtime, whose image is named by its digest.
fn runs(namespace: &Namespace, image: &str) -> Result<()> {
    own_mlserver(namespace, |spec| spec["containers"][0]["image"] = json!(image))
}

fn an_image_by_digest_answers_wrongly_without_tidewaiter_and_is_refused_with_it(world: &World) -> Result<()> {
    let (model, uri) = world.model("prices", Xgboost3_2, "mlflow")?;
    let image = world
        .cluster
        .name_by_digest("docker.io/seldonio/mlserver:1.7.1", BY_DIGEST)?;
    let without = world.namespace_without("digest-without")?;
    runs(&without, &image)?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::by_hand("prices", &uri, &endpoint, MINIO_USER))?;
    without.ready("prices")?;
    let pods = without.pods("prices")?;
    let ran = pods.iter().any(|pod| pod["spec"]["containers"][0]["image"] == image);
    ensure!(ran, "the Pod's image is another than {image}");
    let wrong = without.infer("prices", &model.request)?;
    ensure!(
        model.check(&wrong).is_err(),
        "the server answers rightly, {wrong:?}: the refusal is out of date"
    );

    // Of a digest nobody knows what is in it, until the admin says which release it is.
    let with = world.namespace("digest")?;
    runs(&with, &image)?;
    let manifest = manifests::bare("prices", "mlflow", &uri);
    let unknown = format!("saved by xgboost 3.2.0; the catalogue does not know the image {BY_DIGEST} by digest");
    let dry = ["--server-side", "--dry-run=server"];
    world
        .cluster
        .until("the runtime is known", Duration::from_mins(1), || {
            let said = with.try_apply(&dry, &manifest)?;
            ensure!(
                said.ok && said.warnings().contains(&unknown.as_str()),
                "{}",
                said.stderr
            );
            Ok(Some(()))
        })?;
    let (_, digest) = image.split_once('@').context("no digest")?;
    let repositories = json!([{
        "name": BY_DIGEST,
        "source": "tests/ground/src/images.rs",
        "like": "docker.io/seldonio/mlserver",
        "tags": {digest: "1.7.1"},
    }]);
    extend_catalogue(&world.cluster, "by-digest", &repositories)?;
    world
        .cluster
        .until("the catalogue is in use", Duration::from_mins(1), || {
            let said = with.try_apply(&dry, &manifest)?;
            let refusal = "the model was saved by xgboost 3.2.0, and kserve-mlserver serves it with 3.0.2, which loads it without an error and answers wrongly";
            ensure!(!said.ok && said.stderr.contains(refusal), "{}{}", said.stdout, said.stderr);
            Ok(Some(()))
        })
}
