//! The way from a bare manifest to an answer, and what of it depends on KServe: the same wherever Tidewaiter runs, and with every release.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::models::{Model, SavedWith};
use tidewaiter_ground::{Cluster, Namespace, Said};

use crate::install::make_up_models;
use crate::let_pass::LetPass;
use crate::manifests;

/// KServe's annotation for the Secret with the store's credentials.
pub const SECRET: &str = "serving.kserve.io/storageSecretName";

/// An annotation of an object.
pub fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

/// A model that all namespaces may use, in the bucket of this name.
pub fn model(cluster: &Cluster, kind: &str, with: SavedWith, bucket: &str) -> Result<(Model, String)> {
    let model = Model::make(cluster.cache(), kind, with)?;
    let prefix = format!("shared/{kind}-{with:?}").to_lowercase();
    let uri = model.put(cluster.cache(), bucket, &prefix)?;
    Ok((model, uri))
}

/// A bare manifest's model is downloaded, and answers over REST and gRPC as it did where it was made. In the namespace that comes back.
pub fn a_bare_manifest_answers(cluster: &Cluster, kind: &str, with: SavedWith, bucket: &str) -> Result<Namespace> {
    let (model, uri) = model(cluster, kind, with, bucket)?;
    let namespace = cluster.namespace(bucket)?;
    namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    namespace.ready("fraud")?;
    model.check(&namespace.infer("fraud", &model.request)?)?;
    model.check(&namespace.infer_grpc("fraud", &model.request)?)?;
    Ok(namespace)
}

/// The service names our Secret, and the Secret is there with keys that open the store: at once, or by the sweep, where the API server gave up waiting.
pub fn has_credentials(namespace: &Namespace, service: &str) -> Result<()> {
    let what = format!("{service} has its credentials");
    namespace.cluster().until(&what, Duration::from_mins(1), || {
        names_its_secret(namespace, service).map(Some)
    })
}

fn names_its_secret(namespace: &Namespace, service: &str) -> Result<()> {
    let object = namespace.get(&format!("isvc/{service}"))?;
    ensure!(
        annotation(&object, SECRET) == Some("tidewaiter-minio"),
        "metadata {}",
        object["metadata"]
    );
    let secret = namespace.get("secret/tidewaiter-minio")?;
    ensure!(
        secret["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tidewaiter",
        "labels {}",
        secret["metadata"]["labels"]
    );
    ensure!(
        secret["data"]["AWS_ACCESS_KEY_ID"].is_string() && secret["data"]["AWS_SECRET_ACCESS_KEY"].is_string(),
        "no keys"
    );
    Ok(())
}

/// What is filled in, and the lines that say so.
pub fn fills_a_bare_manifest_and_says_so(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("fills")?;
    let (said, service) = created(&namespace, "fraud", |name| {
        namespace.apply(&manifests::bare(name, "mlflow", &uri))
    })?;
    ensure!(
        service["spec"]["predictor"]["model"]["protocolVersion"] == "v2",
        "spec {}",
        service["spec"]
    );
    let record: Value = serde_json::from_str(annotation(&service, "tidewaiter.dev/filled").context("no record")?)?;
    ensure!(
        record["/spec/predictor/model/protocolVersion"] == "v2",
        "record {record}"
    );
    // One line for each thing that was filled in, and none too long to read.
    let lines: Vec<_> = said
        .warnings()
        .into_iter()
        .filter(|line| line.starts_with("tidewaiter: "))
        .collect();
    ensure!(
        lines.len() >= record.as_object().map_or(0, serde_json::Map::len),
        "record {record}, lines {lines:?}"
    );
    ensure!(lines.iter().all(|line| line.chars().count() <= 120), "{lines:?}");
    Ok(())
}

/// A service as its review filled it in, and what kubectl said. On a machine that stands still now and then, the API server may give up waiting (the sweep fills
/// in then, and says nothing to anybody), or the review may have no time left to look at the model (and says so): such a service is left, and another made.
pub(crate) fn created(
    namespace: &Namespace,
    name: &str,
    apply: impl Fn(&str) -> Result<Said>,
) -> Result<(Said, Value)> {
    let mut warnings = Vec::new();
    for name in [name, &format!("{name}-again"), &format!("{name}-once-more")] {
        let let_pass = LetPass::from_now(namespace.cluster());
        let said = apply(name)?;
        has_credentials(namespace, name).with_context(|| format!("{name} in {}", namespace.name()))?;
        let unchecked = said.warnings().iter().any(|line| line.contains(" not checked: "));
        if !unchecked && let_pass.too_late() == 0 {
            let service = namespace.get(&format!("isvc/{name}"))?;
            return Ok((said, service));
        }
        warnings.push(said.stderr);
    }
    bail!("no review had the time to look at the model: {warnings:?}")
}

/// What Argo CD does every few minutes: no new generation, no other annotation, no new `ReplicaSet`, nothing for `kubectl diff` to show.
pub fn applying_the_bare_manifest_again_changes_nothing(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("gitops")?;
    let manifest = manifests::bare("fraud", "mlflow", &uri);
    for flags in [
        &["--server-side", "--field-manager=argocd-controller"][..],
        &["--field-manager=argocd"],
    ] {
        namespace.try_apply(flags, &manifest)?;
        let settled = |what: &str| {
            cluster.until(what, Duration::from_mins(1), || {
                let sets = namespace.get("replicasets")?;
                Ok((sets["items"].as_array().is_some_and(|sets| !sets.is_empty())).then_some(sets))
            })
        };
        let sets = settled("KServe makes a ReplicaSet")?;
        let before = namespace.get("isvc/fraud")?;
        for _ in 0..3 {
            let said = namespace.try_apply(flags, &manifest)?;
            ensure!(said.ok, "{}", said.stderr);
        }
        let after = namespace.get("isvc/fraud")?;
        for part in ["generation", "annotations"] {
            ensure!(
                before["metadata"][part] == after["metadata"][part],
                "before {before}\nafter {after}"
            );
        }
        let names = |sets: &Value| {
            let sets = sets["items"].as_array().into_iter().flatten();
            sets.map(|set| set["metadata"]["uid"].clone()).collect::<Vec<_>>()
        };
        ensure!(names(&sets) == names(&settled("a ReplicaSet")?), "a new ReplicaSet");
    }
    let diff = [
        "diff",
        "--server-side",
        "--field-manager=argocd-controller",
        "-n",
        namespace.name(),
        "-f",
        "-",
    ];
    let difference = cluster.try_kubectl(&diff, &manifest)?;
    ensure!(
        difference.ok,
        "kubectl diff shows {}{}",
        difference.stdout,
        difference.stderr
    );
    Ok(())
}

/// The refusal names what is granted and whom to ask, and nothing is left behind.
pub fn refuses_a_prefix_that_is_not_granted(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("grants")?;
    let said = namespace.try_apply(
        &["--server-side"],
        &manifests::bare("fraud", "mlflow", "s3://mlflow/another-team/fraud"),
    )?;
    ensure!(!said.ok, "admitted: {}", said.stdout);
    for part in [
        format!("s3://mlflow/{}/", namespace.name()),
        "s3://mlflow/shared/".to_owned(),
        "#ml-platform".to_owned(),
    ] {
        ensure!(
            said.stderr.contains(&part),
            "the refusal doesn't name {part}: {}",
            said.stderr
        );
    }
    let there = namespace.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "there is {there}");
    Ok(())
}

/// A server of the user's own, told of its model by `STORAGE_URI` alone, gets the credentials too.
pub fn fills_a_custom_container(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("custom")?;
    namespace.apply(&manifests::own_container("own", "example.com/own/server:1", &[], &uri))?;
    has_credentials(&namespace, "own")
}

/// The two other ways in which credentials reach KServe.
pub fn delivers_by_service_account_and_by_storage_key(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("deliveries")?;
    make_up_models(&namespace)?;
    namespace.apply(&manifests::bare("accounts", "mlflow", "s3://accounts/shared/fraud"))?;
    let predictor = namespace.get("isvc/accounts")?["spec"]["predictor"].clone();
    ensure!(
        predictor["serviceAccountName"] == "tidewaiter-minio-accounts",
        "predictor {predictor}"
    );
    let account = namespace.get("serviceaccount/tidewaiter-minio-accounts")?;
    ensure!(
        account["secrets"][0]["name"] == "tidewaiter-minio-accounts",
        "account {account}"
    );
    namespace.get("secret/tidewaiter-minio-accounts")?;

    namespace.apply(&manifests::bare("keys", "mlflow", "s3://keys/shared/fraud"))?;
    let service = namespace.get("isvc/keys")?;
    let secret = annotation(&service, SECRET).context("no Secret is named")?.to_owned();
    let key = service["spec"]["predictor"]["model"]["storage"]["key"]
        .as_str()
        .context("no storage key")?
        .to_owned();
    let data = namespace.get(&format!("secret/{secret}"))?["data"].clone();
    ensure!(data[&key].is_string(), "the Secret {secret} has no key {key}");
    Ok(())
}

/// The per-framework shapes, in two namespaces in which Tidewaiter sees them differently: before KServe has rewritten them, and after.
pub fn fills_old_shapes_alike(cluster: &Cluster, before: &Namespace, after: &Namespace) -> Result<()> {
    for (framework, kind) in [("sklearn", "plain_sklearn"), ("xgboost", "plain_xgboost")] {
        let (_, uri) = model(cluster, kind, Mlserver1_7_1, "mlflow")?;
        let mut specs = Vec::new();
        for namespace in [before, after] {
            let (_, service) = created(namespace, framework, |name| {
                namespace.apply(&manifests::old_shape(name, framework, &uri))
            })?;
            specs.push(service["spec"].clone());
        }
        ensure!(specs[0] == specs[1], "before {}\nafter {}", specs[0], specs[1]);
        ensure!(
            specs[1]["predictor"]["model"]["modelFormat"]["name"] == framework,
            "spec {}",
            specs[1]
        );
    }
    Ok(())
}
