//! The command `tidewaiter` on services that are deployed, whoever deployed them: have them answer, look at them, change them.

use std::fs;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewaiter_e2e::command::{Said, tidewaiter};
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::SavedWith::{Mlserver1_7_1, Sklearnserver0_20};
use tidewaiter_ground::models::{Model, SavedWith};
use tidewaiter_ground::tools::Kserve;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, post};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "using_predict_answers_as_the_model_by_every_protocol",
        true,
        using_predict_answers_as_the_model_by_every_protocol,
    ),
    (
        "using_status_and_logs_of_what_runs_and_of_what_fails",
        true,
        using_status_and_logs_of_what_runs_and_of_what_fails,
    ),
    (
        "using_stop_start_scale_and_delete",
        true,
        using_stop_start_scale_and_delete,
    ),
    (
        "using_a_canary_answers_and_is_promoted",
        true,
        using_a_canary_answers_and_is_promoted,
    ),
    (
        "using_canaries_as_kserve_has_them",
        false,
        using_canaries_as_kserve_has_them,
    ),
    (
        "using_promote_pins_no_later_model",
        false,
        using_promote_pins_no_later_model,
    ),
    (
        "using_revisions_as_knative_has_them",
        false,
        using_revisions_as_knative_has_them,
    ),
    ("using_stop_as_kserve_has_it", false, using_stop_as_kserve_has_it),
];

/// The ways into the cluster: one test makes gateways, by which others would go.
pub(crate) static WAYS: RwLock<()> = RwLock::new(());

/// The command in a namespace: words before it, `-n NAMESPACE` and more after it.
pub(crate) fn run(namespace: &Namespace, words: &[&str]) -> Result<Said> {
    let place = ["-n", namespace.name()];
    tidewaiter(namespace.cluster().kubeconfig(), &[words, &place[..]].concat())
}

pub(crate) fn document(said: &Said) -> Result<Value> {
    serde_json::from_str(&said.stdout).with_context(|| format!("no JSON: {said:?}"))
}

/// Of what `list` prints for a program.
pub(crate) fn names(listed: &Value) -> Vec<&Value> {
    listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| &one["name"])
        .collect()
}

/// A namespace of its own with a service that a person wrote, and its model.
pub(crate) fn deployed(world: &World, name: &str, kind: &str, with: SavedWith) -> Result<(Namespace, Model, String)> {
    let (model, uri) = world.model(kind, with, "mlflow")?;
    let namespace = world.team(name)?;
    let manifest = manifests::by_hand("fraud", &uri, &format!("{HOST}:{MINIO_PORT}"), MINIO_USER);
    let manifest = match with {
        Sklearnserver0_20 => manifest
            .replace("name: mlflow", "name: sklearn")
            .replace("      protocolVersion: v2\n", ""),
        _ => manifest,
    };
    namespace.apply(&manifest)?;
    Ok((namespace, model, uri))
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_f64).collect()
}

fn predicted(namespace: &Namespace, more: &[&str]) -> Result<Value> {
    let words = [&["predict", "fraud", "-o", "json", "--via", "port-forward"], more].concat();
    document(&run(namespace, &words)?.ended(0)?)
}

/// An MLflow model's description as of one that was logged without an input example.
fn without_example(model: &Model) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let text = fs::read_to_string(model.folder.join("MLmodel"))?;
    let (before, after) = text
        .split_once("saved_input_example_info:\n")
        .context("it has no example")?;
    let after = after.lines().skip_while(|line| line.starts_with(' '));
    fs::write(
        folder.path().join("MLmodel"),
        [before, &after.collect::<Vec<_>>().join("\n")].concat(),
    )?;
    Ok(folder)
}

/// The question that is made of a model's signature, by both ways of the second protocol: the server takes it.
pub(crate) fn answers_its_signature(namespace: &Namespace, service: &str, model: &Model) -> Result<()> {
    let folder = without_example(model)?;
    let folder = folder.path().display().to_string();
    for protocol in ["v2", "grpc"] {
        let words = [
            "predict",
            service,
            "-o",
            "json",
            "--via",
            "port-forward",
            "--example",
            "--from",
            &folder,
            "--protocol",
            protocol,
        ];
        let said = run(namespace, &words)?.ended(0)?;
        ensure!(said.stderr.contains("made of the model's signature"), "{said:?}");
        let answer = document(&said)?;
        ensure!(numbers(&answer["outputs"][0]["data"]).len() == 1, "{answer}");
    }
    Ok(())
}

fn using_predict_answers_as_the_model_by_every_protocol(world: &World) -> Result<()> {
    let _as_they_are = WAYS.read().unwrap_or_else(PoisonError::into_inner);
    let (namespace, model, _) = deployed(world, "use-v2", "fraud", Mlserver1_7_1)?;
    let (other, plain, _) = deployed(world, "use-v1", "plain_sklearn", Sklearnserver0_20)?;
    namespace.ready("fraud")?;
    let request = model.request.to_string();
    let instances = model.instances();
    let here = tempfile::tempdir()?;
    let table = here.path().join("rows.csv");
    fs::write(&table, csv(&instances["instances"])?)?;
    let (table, instances) = (table.display().to_string(), instances.to_string());
    // Its own request, another protocol's, a table, the model's folder, that folder's own example, and by both ways of the second protocol.
    let folder = model.folder.display().to_string();
    let inputs: [Vec<&str>; 5] = [
        vec![table.as_str()],
        vec!["--data", request.as_str()],
        vec!["--data", instances.as_str()],
        vec![folder.as_str()],
        vec!["--example", "--from", folder.as_str()],
    ];
    for protocol in ["v2", "grpc"] {
        for input in &inputs {
            let answer = predicted(&namespace, &[&input[..], &["--protocol", protocol]].concat())?;
            model
                .check(&numbers(&answer["outputs"][0]["data"]))
                .with_context(|| format!("{protocol} {input:?}"))?;
        }
    }
    let own = run(&namespace, &["predict", "fraud", "--example", "--from", &folder])?.ended(0)?;
    ensure!(own.stderr.contains("the model's own input example"), "{own:?}");
    answers_its_signature(&namespace, "fraud", &model)?;
    // A made-up question is one that the model takes, and shown without being sent.
    predicted(&namespace, &["--example"])?;
    let shown = document(&run(&namespace, &["predict", "fraud", "--example", "--dry-run"])?.ended(0)?)?;
    ensure!(shown["inputs"][0]["shape"] == json!([1, 4]), "{shown}");

    // As a person sees it: a row for each thing that was asked about.
    let table = run(&namespace, &["predict", "fraud", "--data", &request])?.ended(0)?;
    ensure!(table.stdout.lines().count() == 4, "{table:?}");
    ensure!(
        table.stderr.contains("port forward to Pod fraud-predictor"),
        "{table:?}"
    );

    other.ready("fraud")?;
    let answer = predicted(&other, &["--data", &plain.instances().to_string()])?;
    plain.check(&numbers(&answer["predictions"]))?;
    let from_v2 = predicted(&other, &["--data", &plain.request.to_string()])?;
    plain.check(&numbers(&from_v2["predictions"]))?;

    // What goes wrong is told with the next step.
    let unknown = run(
        &namespace,
        &["predict", "fraud", "--data", &request, "--model", "nobody"],
    )?
    .ended(2)?;
    ensure!(
        unknown.stderr.contains("no model `nobody`") && unknown.stderr.contains("--model"),
        "{unknown:?}"
    );
    let narrow = run(&namespace, &["predict", "fraud", "--data", "[[1, 2, 3]]"])?.ended(2)?;
    ensure!(narrow.stderr.contains("takes 4 values a row"), "{narrow:?}");
    // Nobody has installed a controller for Ingresses here.
    let outside = run(&namespace, &["url", "fraud", "--via", "ingress"])?.ended(2)?;
    ensure!(
        outside.stderr.contains("Ingress") && outside.stderr.contains("--base-url"),
        "{outside:?}"
    );
    Ok(())
}

/// Rows of numbers, as a spreadsheet writes them.
fn csv(rows: &Value) -> Result<String> {
    let rows = rows.as_array().context("no rows")?;
    let lines = rows.iter().map(|row| {
        let cells = row.as_array().into_iter().flatten().map(Value::to_string);
        cells.collect::<Vec<_>>().join(",")
    });
    let columns = (0..rows.first().and_then(Value::as_array).map_or(0, Vec::len)).map(|column| format!("c{column}"));
    let header = columns.collect::<Vec<_>>().join(",");
    Ok(std::iter::once(header).chain(lines).collect::<Vec<_>>().join("\n"))
}

fn using_status_and_logs_of_what_runs_and_of_what_fails(world: &World) -> Result<()> {
    let (namespace, _, uri) = deployed(world, "use-look", "fraud", Mlserver1_7_1)?;
    // Beside it one whose model isn't there.
    let lost = manifests::bare("lost", "mlflow", &format!("{uri}-lost")).replace(
        "metadata:\n",
        "metadata:\n  annotations: {serving.kserve.io/storageSecretName: minio}\n",
    );
    namespace.apply(&lost.replace("      storageUri", "      protocolVersion: v2\n      storageUri"))?;
    namespace.ready("fraud")?;
    let listed = document(&run(&namespace, &["list", "-o", "json"])?.ended(0)?)?;
    ensure!(
        names(&listed) == ["fraud", "lost"] && listed[0]["ready"] == "True",
        "{listed}"
    );
    let alike = document(&run(&namespace, &["list", "-o", "json", "--like", "fraud"])?.ended(0)?)?;
    ensure!(alike.as_array().is_some_and(|alike| alike.len() == 1), "{alike}");

    let status = document(&run(&namespace, &["status", "fraud", "-o", "json"])?.ended(0)?)?;
    ensure!(
        status["pods"][0]["state"] == "Running" && status["storageUri"] == uri.as_str(),
        "{status}"
    );
    let described = run(&namespace, &["describe", "fraud"])?.ended(0)?;
    ensure!(
        described.stdout.contains("Secret minio, by annotation"),
        "{described:?}"
    );

    let failing = world
        .cluster
        .until("the initializer fails", Duration::from_mins(3), || {
            let said = run(&namespace, &["status", "lost"])?.ended(1)?;
            let failed = ["Init:Error", "Init:CrashLoopBackOff"]
                .iter()
                .any(|state| said.stdout.contains(state));
            Ok(failed.then_some(said))
        })?;
    ensure!(failing.stdout.contains("lost-predictor"), "{failing:?}");

    let server = run(&namespace, &["logs", "fraud"])?.ended(0)?;
    ensure!(
        server.stdout.contains("uvicorn") || server.stdout.contains("mlserver"),
        "{server:?}"
    );
    let initializer = run(&namespace, &["logs", "fraud", "--of", "initializer"])?.ended(0)?;
    ensure!(!initializer.stdout.is_empty(), "{initializer:?}");
    let waits = run(&namespace, &["logs", "lost"])?.ended(1)?;
    ensure!(waits.stderr.contains("--of initializer"), "{waits:?}");
    Ok(())
}

fn using_stop_start_scale_and_delete(world: &World) -> Result<()> {
    let _as_they_are = WAYS.read().unwrap_or_else(PoisonError::into_inner);
    let (namespace, model, _) = deployed(world, "use-life", "fraud", Mlserver1_7_1)?;
    namespace.ready("fraud")?;
    run(&namespace, &["stop", "fraud"])?.ended(0)?;
    ensure!(namespace.pods("fraud")?.is_empty(), "a Pod is left");
    let again = run(&namespace, &["stop", "fraud"])?.ended(0)?;
    ensure!(again.stderr.contains("Nothing to do."), "{again:?}");
    let stopped = run(&namespace, &["predict", "fraud", "--data", "[[1, 2, 3, 4]]"])?.ended(2)?;
    ensure!(stopped.stderr.contains("tidewaiter start"), "{stopped:?}");
    run(&namespace, &["start", "fraud"])?.ended(0)?;
    namespace.ready("fraud")?;
    let answer = predicted(&namespace, &["--data", &model.request.to_string()])?;
    model.check(&numbers(&answer["outputs"][0]["data"]))?;

    let before = namespace.get("isvc/fraud")?;
    run(&namespace, &["scale", "fraud", "--min", "2", "--max", "3"])?.ended(0)?;
    let mut after = namespace.get("isvc/fraud")?;
    let predictor = &mut after["spec"]["predictor"];
    ensure!(
        predictor["minReplicas"] == 2 && predictor["maxReplicas"] == 3,
        "{predictor}"
    );
    // Nothing else has changed.
    for name in ["minReplicas", "maxReplicas"] {
        predictor[name] = before["spec"]["predictor"][name].clone();
    }
    let without_nulls = |value: &Value| {
        let members = value.as_object().into_iter().flatten();
        let members = members.filter(|(_, value)| !value.is_null());
        members
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Value>()
    };
    ensure!(
        without_nulls(predictor) == without_nulls(&before["spec"]["predictor"]),
        "{predictor}"
    );
    let zero = run(&namespace, &["scale", "fraud", "--min", "0"])?.ended(2)?;
    ensure!(zero.stderr.contains("tidewaiter stop"), "{zero:?}");

    let kept = run(&namespace, &["delete", "fraud"])?.ended(1)?;
    ensure!(kept.stderr.contains("--yes"), "{kept:?}");
    namespace.get("isvc/fraud")?;
    run(&namespace, &["delete", "fraud", "--yes"])?.ended(0)?;
    ensure!(namespace.pods("fraud")?.is_empty(), "a Pod is left");
    let gone = run(&namespace, &["status", "fraud"])?.ended(2)?;
    ensure!(gone.stderr.contains("no such service"), "{gone:?}");
    Ok(())
}

/// Three Pods, so that a third of them is the canary's: KServe 0.20 splits Pods, and leaves requests to whoever leads them to the Pods.
fn using_a_canary_answers_and_is_promoted(world: &World) -> Result<()> {
    let (namespace, model, _) = deployed(world, "use-canary", "fraud", Mlserver1_7_1)?;
    let (other, other_uri) = world.model("prices", Mlserver1_7_1, "mlflow")?;
    let data = model.request.to_string();
    ensure!(
        other.request == model.request && other.check(&model.answers).is_err(),
        "one question tells the two models apart"
    );
    run(&namespace, &["scale", "fraud", "--min", "3", "--max", "3"])?.ended(0)?;
    namespace.ready("fraud")?;
    let stable = namespace.get("deploy/fraud-predictor")?["metadata"]["uid"].clone();
    let said = run(&namespace, &["split", "fraud", "33", "--storage-uri", &other_uri])?.ended(0)?;
    ensure!(said.stderr.contains("leads no requests to it"), "{said:?}");
    world.cluster.until("the canary is ready", Duration::from_mins(5), || {
        let status = run(&namespace, &["status", "fraud", "-o", "json"])?;
        Ok((document(&status)?["canaries"][0]["ready"] == true).then_some(()))
    })?;
    let answer = predicted(&namespace, &["--canary", "canary", "--data", &data])?;
    other.check(&numbers(&answer["outputs"][0]["data"]))?;
    let answer = predicted(&namespace, &["--data", &data])?;
    model.check(&numbers(&answer["outputs"][0]["data"]))?;
    world
        .cluster
        .until("of three Pods one is the canary's", Duration::from_mins(2), || {
            let answers = of_each_pod(&namespace, &model)?;
            let of = |model: &Model| answers.iter().filter(|answer| model.check(answer).is_ok()).count();
            let share = (of(&model), of(&other), answers.len());
            // The predictor's autoscaler may have two to three: without metrics it takes none away of those that it has made by now.
            ensure!(
                [(2, 1, 3), (3, 1, 4)].contains(&share),
                "the predictor's, the canary's and all Pods: {share:?}"
            );
            Ok(Some(()))
        })?;
    let canary = namespace.get("deploy/fraud-canary-predictor")?["metadata"]["uid"].clone();

    run(&namespace, &["promote", "fraud"])?.ended(0)?;
    world
        .cluster
        .until("what was the predictor goes", Duration::from_mins(2), || {
            let left = namespace.kubectl(&["get", "deploy", "-o", "json"])?;
            let left: Value = serde_json::from_str(&left)?;
            let uids: Vec<_> = left["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| one["metadata"]["uid"].clone())
                .collect();
            Ok((uids.contains(&canary) && !uids.contains(&stable)).then_some(()))
        })?;
    namespace.ready("fraud")?;
    let answer = predicted(&namespace, &["--data", &data])?;
    other.check(&numbers(&answer["outputs"][0]["data"]))
}

/// What each Pod of the service answers to a model's question, whoever leads requests to it.
fn of_each_pod(namespace: &Namespace, model: &Model) -> Result<Vec<Vec<f64>>> {
    let pods = namespace.pods("fraud")?;
    let pods = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let answers = pods.map(|pod| {
        let address = pod["status"]["podIP"].as_str().context("a Pod has no address")?;
        let answer = post(&format!("http://{address}:8080/v2/models/fraud/infer"), &model.request)?;
        Ok(numbers(&answer["outputs"][0]["data"]))
    });
    answers.collect()
}

/// A service whose Pods nobody needs here.
fn written(world: &World, name: &str) -> Result<Namespace> {
    let namespace = world.namespace_without(name)?;
    let mut service = crate::hammer::service("fraud", "s3://mlflow/one");
    service["spec"]["predictor"]["minReplicas"] = json!(4);
    namespace.apply(&service.to_string())?;
    Ok(namespace)
}

fn using_canaries_as_kserve_has_them(world: &World) -> Result<()> {
    let namespace = written(world, "use-split")?;
    let make = ["split", "fraud", "25", "--storage-uri", "s3://mlflow/two"];
    if world.cluster.options().kserve != Kserve::V0_20 {
        for words in [&make[..], &["promote", "fraud"], &["rollback", "fraud"]] {
            let refused = run(&namespace, words)?.ended(2)?;
            ensure!(refused.stderr.contains("from 0.20 on"), "{refused:?}");
        }
        return Ok(());
    }
    let predictor = || Ok::<_, anyhow::Error>(namespace.get("isvc/fraud")?["spec"]["predictor"].clone());
    let before = predictor()?;
    run(&namespace, &make)?.ended(0)?;
    let spec = namespace.get("isvc/fraud")?["spec"].clone();
    ensure!(
        spec["canary"][0]["trafficPercent"] == 25
            && spec["canary"][0]["predictor"]["model"]["storageUri"] == "s3://mlflow/two"
            && spec["predictor"] == before,
        "{spec}"
    );
    run(&namespace, &["split", "fraud", "50"])?.ended(0)?;
    let too_much = [
        "split",
        "fraud",
        "60",
        "--canary",
        "third",
        "--storage-uri",
        "s3://mlflow/three",
    ];
    let refused = run(&namespace, &too_much)?.ended(2)?;
    ensure!(refused.stderr.contains("110 per cent"), "{refused:?}");
    run(&namespace, &["rollback", "fraud"])?.ended(0)?;
    let spec = namespace.get("isvc/fraud")?["spec"].clone();
    ensure!(spec["canary"].is_null() && spec["predictor"] == before, "{spec}");

    run(&namespace, &make)?.ended(0)?;
    run(&namespace, &["promote", "fraud"])?.ended(0)?;
    let spec = namespace.get("isvc/fraud")?["spec"].clone();
    let mut wanted = before;
    wanted["name"] = json!("canary");
    wanted["model"]["storageUri"] = json!("s3://mlflow/two");
    ensure!(spec["canary"].is_null() && spec["predictor"] == wanted, "{spec}");
    let none = run(&namespace, &["promote", "fraud"])?.ended(2)?;
    ensure!(none.stderr.contains("has no canary"), "{none:?}");
    Ok(())
}

/// A canary's runtime is its model's own: who deploys the next one without a word about it gets what the cluster chooses.
fn using_promote_pins_no_later_model(world: &World) -> Result<()> {
    let namespace = world.namespace_without("use-promote")?;
    let deploy = |uri: &str, more: &[&str]| {
        let words = ["deploy", uri, "--name", "fraud", "--framework", "sklearn", "--no-wait"];
        crate::deploy::run(&namespace, None, &[&words[..], more].concat())?.ended(0)
    };
    let predictor = || Ok::<_, anyhow::Error>(namespace.get("isvc/fraud")?["spec"]["predictor"].clone());
    deploy("s3://mlflow/one", &["--min-replicas", "2"])?;
    let mut wanted = predictor()?;
    run(
        &namespace,
        &["split", "fraud", "50", "--storage-uri", "s3://mlflow/two"],
    )?
    .ended(0)?;
    let pin = json!([
        {"op": "add", "path": "/spec/canary/0/predictor/model/runtime", "value": "kserve-sklearnserver"},
        {"op": "add", "path": "/spec/canary/0/predictor/model/runtimeVersion", "value": "v0.20.0"},
    ]);
    namespace.kubectl(&["patch", "isvc/fraud", "--type=json", "-p", &pin.to_string()])?;
    run(&namespace, &["promote", "fraud"])?.ended(0)?;
    let promoted = predictor()?;
    ensure!(
        promoted["model"]["runtimeVersion"] == "v0.20.0" && promoted["model"]["storageUri"] == "s3://mlflow/two",
        "{promoted}"
    );
    deploy("s3://mlflow/three", &["--min-replicas", "2"])?;
    // KServe keeps the Pods by this name, and so does a deploy.
    wanted["name"] = json!("canary");
    wanted["model"]["storageUri"] = json!("s3://mlflow/three");
    let next = predictor()?;
    ensure!(next == wanted, "{next}\nnot\n{wanted}");
    let again = deploy("s3://mlflow/three", &["--min-replicas", "2", "-o", "json"])?;
    ensure!(document(&again)?["outcome"] == "unchanged", "{again:?}");
    Ok(())
}

/// Knative isn't in this cluster (`tests/knative.rs` has one where it is): KServe's manager says of the service that it is in Knative mode, refuses the mode, and touches nothing else of it. The test writes what Knative
/// would, the revisions into the status; what KServe would make of the share is `canaryTrafficPercent` (`ksvc_reconciler.go`).
fn using_revisions_as_knative_has_them(world: &World) -> Result<()> {
    let namespace = world.namespace_without("use-revisions")?;
    let deploy = |uri: &str, more: &[&str]| {
        let words = ["deploy", uri, "--name", "fraud", "--framework", "sklearn", "--no-wait"];
        crate::deploy::run(&namespace, None, &[&words[..], more].concat())?.ended(0)
    };
    deploy("s3://mlflow/one", &["--deployment-mode", "Knative"])?;
    world
        .cluster
        .until("KServe has seen the service", Duration::from_mins(1), || {
            let service = namespace.get("isvc/fraud")?;
            Ok((service["status"]["deploymentMode"] == "Knative").then_some(()))
        })?;
    let revision = |number: u8| format!("fraud-predictor-0000{number}");
    // As Knative has it: the one that takes the requests, and the newest.
    let revisions = |rolled_out: u8, newest: u8, percent: u8| {
        let mut traffic = vec![json!({"revisionName": revision(newest), "percent": percent, "latestRevision": true})];
        if rolled_out != newest {
            traffic
                .push(json!({"revisionName": revision(rolled_out), "percent": 100 - percent, "latestRevision": false}));
        }
        let predictor = json!({
            "latestRolledoutRevision": revision(rolled_out), "latestReadyRevision": revision(newest),
            "latestCreatedRevision": revision(newest), "traffic": traffic,
        });
        let patch = json!({"status": {"components": {"predictor": predictor}}}).to_string();
        let words = [
            "patch",
            "isvc/fraud",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        namespace.kubectl(&words).map(drop)
    };
    // What the newest revision is made of, and its share of the requests.
    let is = |uri: &str, share: Value| {
        let predictor = namespace.get("isvc/fraud")?["spec"]["predictor"].clone();
        ensure!(
            predictor["model"]["storageUri"] == uri && predictor["canaryTrafficPercent"] == share,
            "not {uri} with {share}: {predictor}"
        );
        Ok(())
    };

    revisions(1, 1, 100)?;
    let alone = run(&namespace, &["split", "fraud", "20"])?.ended(2)?;
    ensure!(
        alone.stderr.contains("it has only ever had one revision") && alone.stderr.contains("--canary-percent"),
        "{alone:?}"
    );
    let led = run(&namespace, &["promote", "fraud"])?.ended(0)?;
    ensure!(led.stderr.contains("Nothing to do."), "{led:?}");

    deploy("s3://mlflow/two", &["--canary-percent", "10"])?;
    is("s3://mlflow/two", json!(10))?;
    revisions(1, 2, 10)?;
    let own = ["split", "fraud", "20", "--storage-uri", "s3://mlflow/three"];
    let own = run(&namespace, &own)?.ended(2)?;
    ensure!(own.stderr.contains("the canary is the newest revision"), "{own:?}");
    run(&namespace, &["split", "fraud", "25"])?.ended(0)?;
    is("s3://mlflow/two", json!(25))?;
    revisions(1, 2, 25)?;
    let status = document(&run(&namespace, &["status", "fraud", "-o", "json"])?.ended(1)?)?;
    ensure!(
        status["mode"] == "Knative"
            && status["canaries"][0]["name"] == revision(2)
            && status["canaries"][0]["percent"] == 25
            && status["canaries"][1]["percent"] == 75,
        "{status}"
    );
    let again = run(&namespace, &["split", "fraud", "25"])?.ended(0)?;
    ensure!(again.stderr.contains("Nothing to do."), "{again:?}");

    let back = run(&namespace, &["rollback", "fraud"])?.ended(0)?;
    ensure!(back.stderr.contains("the newest revision stays"), "{back:?}");
    is("s3://mlflow/two", json!(0))?;
    revisions(1, 2, 0)?;
    // Whoever deploys now would wait for requests that don't come.
    let third = deploy("s3://mlflow/three", &[])?;
    ensure!(
        third.stderr.contains("Knative leads 0 % of the requests") && third.stderr.contains("tidewaiter promote fraud"),
        "{third:?}"
    );
    is("s3://mlflow/three", json!(0))?;
    revisions(1, 3, 0)?;

    run(&namespace, &["promote", "fraud"])?.ended(0)?;
    is("s3://mlflow/three", Value::Null)?;
    revisions(3, 3, 100)
}

fn using_stop_as_kserve_has_it(world: &World) -> Result<()> {
    let namespace = written(world, "use-stop")?;
    let annotation = || {
        let service = namespace.get("isvc/fraud")?;
        Ok::<_, anyhow::Error>(service["metadata"]["annotations"]["serving.kserve.io/stop"].clone())
    };
    if world.cluster.options().kserve != Kserve::V0_20 {
        let refused = run(&namespace, &["stop", "fraud"])?.ended(2)?;
        ensure!(refused.stderr.contains("before 0.16"), "{refused:?}");
        ensure!(annotation()?.is_null(), "it is written all the same");
        return Ok(());
    }
    run(&namespace, &["stop", "fraud", "--no-wait"])?.ended(0)?;
    ensure!(annotation()? == "true", "not stopped");
    run(&namespace, &["start", "fraud"])?.ended(0)?;
    ensure!(annotation()?.is_null(), "not started");
    Ok(())
}
