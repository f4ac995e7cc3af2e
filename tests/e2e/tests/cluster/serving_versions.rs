//! The built-in policy `serving-versions`: a package that the image lacks, a Python, an MLflow and a form that it is too old for, and an image by its digest. What the server makes of the model without it, and what
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
        "a_model_of_later_tools_ends_the_server_without_tidewaiter_and_is_told_of_with_it",
        true,
        a_model_of_later_tools_ends_the_server_without_tidewaiter_and_is_told_of_with_it,
    ),
    (
        "a_file_of_skops_is_loaded_by_nobody_without_tidewaiter_and_told_of_with_it",
        true,
        a_file_of_skops_is_loaded_by_nobody_without_tidewaiter_and_told_of_with_it,
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

/// A model of scikit-learn, logged by `MLflow`, for a test to change.
fn logged(world: &World, name: &str) -> Result<Model> {
    let mut model = Model::make(world.cluster.cache(), "churn", Mlserver1_7_1)?;
    let folder = world.cluster.folder().join(name);
    fs::create_dir_all(&folder)?;
    for file in fs::read_dir(&model.folder)? {
        let file = file?.path();
        fs::copy(&file, folder.join(file.file_name().context("a file has a name")?))?;
    }
    model.folder = folder;
    Ok(model)
}

/// Has its pickle want a class of a module: it is looked up, and dropped; what follows is the pickle as it was.
fn wants(model: &Model, module: &str, class: &str) -> Result<()> {
    let pickle = model.folder.join("model.pkl");
    let wants = [format!("c{module}\n{class}\n0").as_bytes(), &fs::read(&pickle)?].concat();
    Ok(fs::write(&pickle, wants)?)
}

/// Has its `MLmodel` say something else.
fn says(model: &Model, changes: &[(&str, &str)]) -> Result<()> {
    let file = model.folder.join("MLmodel");
    let mut text = fs::read_to_string(&file)?;
    for (before, after) in changes {
        ensure!(text.contains(before), "no `{before}` in {text}");
        text = text.replace(before, after);
    }
    Ok(fs::write(&file, text)?)
}

/// A model whose pickle wants imbalanced-learn, which no image of MLServer has: it answers as it did before, where that is there.
fn resampled(world: &World) -> Result<Model> {
    let model = logged(world, "resampled")?;
    wants(&model, "imblearn.pipeline", "Pipeline")?;
    let requirements = model.folder.join("requirements.txt");
    let listed = fs::read_to_string(&requirements)?;
    fs::write(&requirements, format!("{listed}\nimbalanced-learn==0.13.0\n"))?;
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
    ends_with(&without, "fraud", "No module named 'imblearn'")?;

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

/// Waits until a service's server has said these words.
fn until_it_says(namespace: &Namespace, service: &str, words: &str) -> Result<()> {
    let cluster = namespace.cluster();
    cluster.until("the server says so", Duration::from_mins(4), || {
        let pods = namespace.pods(service)?;
        let logs = cluster.logs(pods.first().context("no Pod yet")?, "kserve-container")?;
        let logs = logs.concat();
        ensure!(logs.contains(words), "no `{words}` in {logs}");
        Ok(Some(()))
    })
}

/// The same of a server that gives up over it.
fn ends_with(namespace: &Namespace, service: &str, words: &str) -> Result<()> {
    until_it_says(namespace, service, words)?;
    let status = namespace.get(&format!("isvc/{service}"))?;
    ensure!(condition(&status, "Ready") != Some("True"), "{}", status["status"]);
    Ok(())
}

/// Python 3.12 pickled it, with a class that came with 3.12; `MLflow` 3.14 logged it, in the form that is its default. The image has 3.11 and 2.22.
fn a_model_of_later_tools_ends_the_server_without_tidewaiter_and_is_told_of_with_it(world: &World) -> Result<()> {
    let python = logged(world, "later-python")?;
    wants(&python, "itertools", "batched")?;
    says(&python, &[("python_version: 3.11.7", "python_version: 3.12.1")])?;
    let mlflow = logged(world, "later-mlflow")?;
    let later = [
        ("mlflow_version: 2.22.1", "mlflow_version: 3.14.0"),
        ("serialization_format: cloudpickle", "serialization_format: skops"),
    ];
    says(&mlflow, &later)?;
    let without = world.namespace_without("later-without")?;
    let with = world.namespace("later")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    for (name, model, ends, line) in [
        (
            "python",
            &python,
            "Can't get attribute 'batched' on <module 'itertools'",
            "saved by scikit-learn 1.7.0 under Python 3.12.1, served by 1.7.0: cloudpickle wants the same Python",
        ),
        (
            "mlflow",
            &mlflow,
            "Unrecognized serialization format: skops",
            ": skops needs MLflow 3.9",
        ),
    ] {
        let uri = model.put(world.cluster.cache(), "mlflow", &format!("shared/later-{name}"))?;
        without.apply(&manifests::by_hand(name, &uri, &endpoint, MINIO_USER))?;
        let said = with.apply(&manifests::bare(name, "mlflow", &uri))?;
        let mut warnings = said.warnings().into_iter();
        ensure!(
            warnings.any(|warning| warning.ends_with(line)),
            "{name}: {}",
            said.stderr
        );
        with.kubectl(&["delete", &format!("isvc/{name}")])?;
        ends_with(&without, name, ends)?;
        without.kubectl(&["delete", &format!("isvc/{name}")])?;
    }
    Ok(())
}

/// By its own name nobody finds it, and the server starts without; by a pickle's nobody can read it. (An archive as skops writes one: its first file is
/// `schema.json`.)
fn a_file_of_skops_is_loaded_by_nobody_without_tidewaiter_and_told_of_with_it(world: &World) -> Result<()> {
    let without = world.namespace_without("skops-without")?;
    let with = world.namespace("skops")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    for (name, file, ends, line) in [
        (
            "own-name",
            "model.skops",
            "failed to locate model file",
            "may fail: model.skops is a skops file, which KServe's and MLServer's servers don't load; use joblib",
        ),
        (
            "a-pickles",
            "model.joblib",
            "Traceback",
            "may fail: model.joblib is a zip archive, as skops writes, and scikit-learn's servers load pickles",
        ),
    ] {
        let folder = world.cluster.folder().join("skops").join(name);
        fs::create_dir_all(&folder)?;
        let zip = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').writestr('schema.json', '{}')";
        host::run(Command::new("python3").args(["-c", zip]).arg(folder.join(file)))?;
        let model = Model {
            folder,
            request: json!(null),
            answers: Vec::new(),
        };
        let uri = model.put(world.cluster.cache(), "mlflow", &format!("shared/skops-{name}"))?;
        let service = json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}}},
        });
        without.apply(&manifests::with_keys(&service, &endpoint, MINIO_USER, MINIO_USER))?;
        let said = with.apply(&service.to_string())?;
        ensure!(said.warnings().contains(&line), "{name}: {}", said.stderr);
        with.kubectl(&["delete", &format!("isvc/{name}")])?;
        until_it_says(&without, name, ends)?;
        let answer = without.predict(name, &json!({"instances": [[0.9, 0.95, 0.1, 0.2]]}));
        ensure!(answer.is_err(), "{name}: it answers {answer:?}");
        without.kubectl(&["delete", &format!("isvc/{name}")])?;
    }
    Ok(())
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
