//! From apply to answer: what a manifest or a tool sends is served, from the image that fits its model. The same wherever Tidewaiter runs.

use anyhow::{Result, ensure};
use serde_json::json;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::{Mlserver1_5_0, Mlserver1_7_1, Xgboost3_2};
use tidewaiter_ground::{Cluster, Namespace};

use crate::admission::submit;
use crate::{manifests, path};

fn answers(namespace: &Namespace, service: &str, model: &Model) -> Result<()> {
    namespace.ready(service)?;
    model.check(&namespace.infer(service, &model.request)?)
}

/// As `KServeClient` sends it.
pub fn what_kserves_python_sdk_sends_answers(cluster: &Cluster) -> Result<()> {
    let (model, uri) = path::model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("sdk-answers")?;
    submit(cluster, ["model", "create", namespace.name(), "fraud", &uri])?;
    answers(&namespace, "fraud", &model)
}

/// The per-framework field, as manifests of years ago have it.
pub fn an_old_shape_answers(cluster: &Cluster) -> Result<()> {
    let (model, uri) = path::model(cluster, "plain_sklearn", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("old")?;
    let manifest = json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"predictor": {"sklearn": {"protocolVersion": "v2", "storageUri": uri}}},
    });
    namespace.apply(&manifest.to_string())?;
    answers(&namespace, "iris", &model)
}

/// Its scikit-learn is that of `MLServer` 1.5.0.
pub fn a_model_of_older_libraries_answers_from_an_older_image(cluster: &Cluster) -> Result<()> {
    let namespace = path::a_bare_manifest_answers(cluster, "churn", Mlserver1_5_0, "mlflow")?;
    let model = namespace.get("isvc/fraud")?["spec"]["predictor"]["model"].clone();
    ensure!(
        model["runtime"] == "kserve-mlserver" && model["runtimeVersion"] == "1.5.0",
        "model {model}"
    );
    let pods = namespace.pods("fraud")?;
    ensure!(
        pods.iter()
            .any(|pod| pod["spec"]["containers"][0]["image"] == "docker.io/seldonio/mlserver:1.5.0"),
        "the Pod's image is another"
    );
    Ok(())
}

/// XGBoost 3.2's file loads in 3.0.2 without an error, and its intercept is lost.
pub fn a_model_that_would_answer_wrongly_is_refused(cluster: &Cluster) -> Result<()> {
    let (model, uri) = path::model(cluster, "prices", Xgboost3_2, "mlflow")?;
    let manifest = manifests::bare("prices", "mlflow", &uri);

    let namespace = cluster.namespace("wrong")?;
    let said = namespace.try_apply(&["--server-side"], &manifest)?;
    ensure!(!said.ok, "admitted: {}", said.stdout);
    for part in ["3.2.0", "3.0.2", "tidewaiter.dev/allow-wrong-answers"] {
        ensure!(
            said.stderr.contains(part),
            "the refusal doesn't name {part}: {}",
            said.stderr
        );
    }

    // The way past the refusal leads to what it warned of.
    let allowed = manifest.replace(
        "metadata:\n",
        "metadata:\n  annotations: {tidewaiter.dev/allow-wrong-answers: \"true\"}\n",
    );
    let said = namespace.apply(&allowed)?;
    ensure!(
        said.warnings().iter().any(|line| line.contains("3.2.0")),
        "no word of the danger: {}",
        said.stderr
    );
    namespace.ready("prices")?;
    let wrong = namespace.infer("prices", &model.request)?;
    ensure!(
        model.check(&wrong).is_err(),
        "the server answers rightly, {wrong:?}: the refusal is out of date"
    );
    ensure!(
        wrong.iter().zip(&model.answers).all(|(got, right)| right - got > 50.0),
        "{wrong:?} is wrong in another way than known ({:?})",
        model.answers
    );
    Ok(())
}
