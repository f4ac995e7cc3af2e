//! What an admission does to an object, and what it leaves alone: the same wherever Tidewaiter runs, and with every release of KServe.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{Cluster, host, python};

use crate::manifests;
use crate::path::{SECRET, annotation, created, has_credentials, model};

/// Sends a service by KServe's Python SDK: shape, verb, namespace, name, URI.
pub fn submit(cluster: &Cluster, arguments: [&str; 5]) -> Result<()> {
    let site = python::site(cluster.cache(), "kserve-sdk-0.20.0")?;
    host::run(
        python::command(&[&site])?
            .env("KUBECONFIG", cluster.kubeconfig())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/submit.py"))
            .args(arguments),
    )
}

/// Both kinds of apply come to the same object.
pub fn fills_alike_by_client_side_and_server_side_apply(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("apply")?;
    let apply = |flags: &'static [&str]| {
        let (namespace, uri) = (&namespace, &uri);
        move |name: &str| {
            let said = namespace.try_apply(flags, &manifests::bare(name, "mlflow", uri))?;
            ensure!(said.ok, "{}", said.stderr);
            Ok(said)
        }
    };
    let (_, server) = created(&namespace, "server", apply(&["--server-side"]))?;
    let (_, client) = created(&namespace, "client", apply(&[]))?;
    ensure!(
        server["spec"] == client["spec"],
        "{} and {}",
        server["spec"],
        client["spec"]
    );
    Ok(())
}

/// A dry run shows what would be, and makes neither Secret nor service.
pub fn a_dry_run_writes_nothing(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("dry-run")?;
    // Nobody sweeps what was never written: on a machine so busy that the API server went on without an answer, only another try shows what would be.
    cluster.until("a dry run shows the Secret", Duration::from_mins(1), || {
        let said = namespace.try_apply(
            &["--server-side", "--dry-run=server", "-o", "json"],
            &manifests::bare("fraud", "mlflow", &uri),
        )?;
        ensure!(said.ok, "{}", said.stderr);
        let shown: Value = serde_json::from_str(&said.stdout)?;
        ensure!(
            annotation(&shown, SECRET) == Some("tidewaiter-minio"),
            "metadata {}\n{}",
            shown["metadata"],
            said.stderr
        );
        Ok(Some(()))
    })?;
    let there = namespace.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "there is {there}");
    Ok(())
}

/// Whoever names a Secret of their own keeps it.
pub fn leaves_a_users_own_secret_alone(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("own")?;
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

/// What KServe's Python SDK makes is filled in as any manifest is.
pub fn fills_what_kserves_python_sdk_sends(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("sdk")?;
    // Anew where the review found the store too slow to be looked into.
    cluster.until("what the SDK sends is filled in", Duration::from_mins(1), || {
        namespace.kubectl(&["delete", "isvc", "fraud", "--ignore-not-found"])?;
        submit(cluster, ["model", "create", namespace.name(), "fraud", &uri])?;
        has_credentials(&namespace, "fraud")?;
        let model = namespace.get("isvc/fraud")?["spec"]["predictor"]["model"].clone();
        ensure!(model["protocolVersion"] == "v2", "model {model}");
        Ok(Some(()))
    })
}

/// ZenML's replace drops what a webhook wrote; it has to be there again.
pub fn fills_what_zenml_sends_and_replaces(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "plain_sklearn", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("zenml")?;
    // Anew where one of the two reviews found the store too slow to be looked into: that one was admitted with less, as it should be.
    cluster.until("a replace leaves what creating brought", Duration::from_mins(2), || {
        namespace.kubectl(&["delete", "isvc", "iris", "--ignore-not-found"])?;
        submit(cluster, ["zenml", "create", namespace.name(), "iris", &uri])?;
        has_credentials(&namespace, "iris")?;
        let before = namespace.get("isvc/iris")?;
        submit(cluster, ["zenml", "replace", namespace.name(), "iris", &uri])?;
        has_credentials(&namespace, "iris")?;
        let after = namespace.get("isvc/iris")?;
        ensure!(
            before["spec"] == after["spec"],
            "before {}\nafter {}",
            before["spec"],
            after["spec"]
        );
        Ok(Some(()))
    })
}

/// Each arrives by a client of its own. What counts is what KServe froze into their Pods: the node is too small to run them all, so it takes those of two.
pub fn fifty_services_at_once_all_get_their_credentials(cluster: &Cluster) -> Result<()> {
    let (model, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("fifty")?;
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
    cluster.until("every service names the Secret", Duration::from_mins(1), || {
        let services = namespace.get("isvc")?;
        let services = services["items"].as_array().into_iter().flatten();
        let filled = services.filter(|service| annotation(service, SECRET) == Some("tidewaiter-minio"));
        let filled = filled.count();
        ensure!(filled == names.len(), "{filled} of {} services do", names.len());
        Ok(Some(()))
    })?;
    cluster.until(
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
    if cluster.options().node {
        for name in runs {
            namespace.ready(name)?;
            model.check(&namespace.infer(name, &model.request)?)?;
        }
    }
    Ok(())
}

/// The label that says to leave it alone is obeyed, without a word.
pub fn an_ignored_service_passes_untouched(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("ignored")?;
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
pub fn a_service_can_be_deleted_and_what_is_withheld_stays_withheld(cluster: &Cluster) -> Result<()> {
    let (_, uri) = model(cluster, "fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = cluster.namespace("leaving")?;
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
