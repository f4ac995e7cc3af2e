//! What `tidewaiter deploy` makes of each kind of model, on real servers: it ends in an answer.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::command::{NO_PROFILES, Said, store_keys};
use tidewaiter_e2e::path::has_credentials;
use tidewaiter_e2e::server::command_binary;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::{Mlserver1_7_1, Sklearnserver0_20};
use tidewaiter_ground::{MINIO_USER, Namespace, post};

use crate::using::{answers_its_signature, document, names};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("served_a_folder_of_sklearn", true, served_a_folder_of_sklearn),
    ("served_a_file_of_xgboost", true, served_a_file_of_xgboost),
    ("served_one_column_of_mlflow", true, served_one_column_of_mlflow),
    ("served_a_function", true, served_a_function),
    (
        "served_a_transformer_before_its_predictor",
        true,
        served_a_transformer_before_its_predictor,
    ),
    (
        "served_an_explainer_beside_its_predictor",
        true,
        served_an_explainer_beside_its_predictor,
    ),
    ("served_by_an_image_of_ones_own", true, served_by_an_image_of_ones_own),
    ("served_a_graph_of_two_steps", true, served_a_graph_of_two_steps),
    (
        "served_no_more_its_model_leaves_the_store_and_others_stay",
        false,
        served_no_more_its_model_leaves_the_store_and_others_stay,
    ),
];

/// The program of KServe's router, which a graph's Pod runs.
pub(crate) const ROUTER: &str = "TIDEWAITER_ROUTER";
/// The image that KServe 0.20 asks for.
const ROUTER_IMAGE: &str = "docker.io/kserve/router:v0.20.0";
/// Doubles what it is asked, and asks the predictor.
pub(crate) const TRANSFORMER: &str = include_str!("../../sdk/doubles.py");
/// Asks the predictor without each value of a question in turn.
const EXPLAINER: &str = include_str!("../../sdk/explains.py");
/// KServe's own server has its SDK, which is all that a transformer or an explainer needs.
pub(crate) const SDK_IMAGE: &str = "docker.io/kserve/sklearnserver:v0.20.0";
const SMALL: [&str; 6] = [
    "--request",
    "cpu=50m",
    "--request",
    "memory=128Mi",
    "--limit",
    "memory=1500Mi",
];

/// The command in a namespace, with the store's keys.
fn run(namespace: &Namespace, words: &[&str]) -> Result<Said> {
    Ok(Said::from(
        Command::new(command_binary()?)
            .args(words)
            .args(["-n", namespace.name()])
            .env("KUBECONFIG", namespace.cluster().kubeconfig())
            .env("TIDEWAITER_PROFILES", NO_PROFILES)
            .env("TIDEWAITER_ARTIFACT_STORE", "s3://mlflow/shared/served/")
            .envs(store_keys(MINIO_USER))
            .stdin(Stdio::null())
            .output()?,
    ))
}

fn deploy(namespace: &Namespace, source: &Path, name: &str, more: &[&str]) -> Result<Said> {
    let source = source.display().to_string();
    let words = [&["deploy", &source, "--name", name][..], &SMALL, more].concat();
    run(namespace, &words)?
        .ended(0)
        .with_context(|| namespace.diagnosis(name))
}

/// What a service answers to rows, whatever its protocol.
fn predicted(namespace: &Namespace, name: &str, data: &Value) -> Result<Vec<f64>> {
    let data = data.to_string();
    let words = ["predict", name, "-o", "json", "--via", "port-forward", "--data", &data];
    let said = run(namespace, &words)?.ended(0)?;
    let answer: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
    let numbers = match &answer["predictions"] {
        Value::Null => &answer["outputs"][0]["data"],
        predictions => predictions,
    };
    let numbers = numbers.as_array().into_iter().flatten();
    Ok(numbers.filter_map(Value::as_f64).collect())
}

/// A model, with the store's bucket there.
fn model(world: &World, kind: &str) -> Result<Model> {
    Ok(world.model(kind, Mlserver1_7_1, "mlflow")?.0)
}

fn served_a_folder_of_sklearn(world: &World) -> Result<()> {
    let model = model(world, "plain_sklearn")?;
    let team = world.team("served-sklearn")?;
    deploy(&team, &model.folder, "fraud", &[])?;
    model.check(&predicted(&team, "fraud", &model.instances())?)
}

fn served_a_file_of_xgboost(world: &World) -> Result<()> {
    let model = model(world, "plain_xgboost")?;
    let team = world.team("served-xgboost")?;
    deploy(&team, &model.folder.join("model.json"), "prices", &[])?;
    model.check(&predicted(&team, "prices", &model.instances())?)
}

/// A table of one column looks as a tensor does; MLflow refuses a tensor there.
fn served_one_column_of_mlflow(world: &World) -> Result<()> {
    let model = model(world, "one_column")?;
    let team = world.team("served-column")?;
    deploy(&team, &model.folder, "ages", &["--protocol", "both"])?;
    for data in [
        json!([[1.0], [2.0], [3.0]]),
        json!([{"age": 1.0}, {"age": 2.0}, {"age": 3.0}]),
    ] {
        model.check(&predicted(&team, "ages", &data)?)?;
    }
    answers_its_signature(&team, "ages", &model)
}

/// Where Tidewaiter reviews the namespace, its webhook brings the store's key; elsewhere the command does.
fn served_a_function(world: &World) -> Result<()> {
    let model = model(world, "plain_sklearn")?;
    let folder = tempfile::tempdir()?;
    fs::copy(model.folder.join("model.joblib"), folder.path().join("model.joblib"))?;
    let functions = "def half(data):\n    return data / 2\n\n\ndef answer(model, data):\n    return model.predict(data)\n\n\ndef tenfold(answer):\n    return answer * 10\n";
    fs::write(folder.path().join("house.py"), functions)?;
    let team = world.team("served-function")?;
    let functions = [
        "--pre",
        "house.half",
        "--predict",
        "house.answer",
        "--post",
        "house.tenfold",
    ];
    let said = deploy(&team, folder.path(), "fraud", &functions)?;
    ensure!(
        said.stderr.contains("model-settings.json and "),
        "it doesn't say what it made: {said:?}"
    );
    let answers = predicted(&team, "fraud", &times(&model, 2.0))?;
    let tenth: Vec<f64> = answers.iter().map(|answer| answer / 10.0).collect();
    model.check(&tenth)?;
    let secrets = team.kubectl(&["get", "secrets", "-o", "name"])?;
    ensure!(secrets.contains("fraud-store") != world.reviewed, "{secrets}");
    if world.reviewed {
        has_credentials(&team, "fraud")?;
    }
    Ok(())
}

fn served_a_transformer_before_its_predictor(world: &World) -> Result<()> {
    world.cluster.serve_services()?;
    let (model, _) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let team = world.team("served-transformer")?;
    deploy_with(&team, &model, "transformer", TRANSFORMER)?;
    // The half of each value is asked for, which the transformer doubles.
    model.check(&predicted(&team, "fraud", &times(&model, 0.5))?)
}

/// A model as `fraud`, with a container of KServe's SDK that runs this script.
fn deploy_with(team: &Namespace, model: &Model, role: &str, script: &str) -> Result<()> {
    let resources = json!({"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"memory": "1Gi"}});
    let container = json!({"image": SDK_IMAGE, "command": ["python3", "-c", script], "resources": resources});
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tidewaiter.yaml");
    fs::write(
        &file,
        json!({"runtime": "kserve-sklearnserver", role: container}).to_string(),
    )?;
    deploy(team, &model.folder, "fraud", &["--file", &file.display().to_string()]).map(drop)
}

/// What it says of the model is what the model's own answers say.
fn served_an_explainer_beside_its_predictor(world: &World) -> Result<()> {
    world.cluster.serve_services()?;
    let (model, _) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let team = world.team("served-explainer")?;
    deploy_with(&team, &model, "explainer", EXPLAINER)?;
    let question = model.instances();
    let rows: Vec<Vec<f64>> = serde_json::from_value(question["instances"].clone())?;
    let whole = predicted(&team, "fraud", &json!(rows))?;
    let address = team.get("service/fraud-explainer")?["spec"]["clusterIP"].clone();
    let address = address.as_str().context("the explainer's Service has no address")?;
    let told = post(&format!("http://{address}/v1/models/fraud:explain"), &question)?;
    let told: Vec<Vec<f64>> =
        serde_json::from_value(told["explanations"].clone()).with_context(|| format!("{told}"))?;
    ensure!(told.len() == rows.len(), "{told:?}");
    for (at, row) in rows.iter().enumerate() {
        let without: Vec<Vec<f64>> = (0..row.len())
            .map(|left_out| {
                let mut row = row.clone();
                row[left_out] = 0.0;
                row
            })
            .collect();
        let parts = predicted(&team, "fraud", &json!(without))?;
        let expected = parts.iter().map(|part| whole[at] - part);
        let same = told[at]
            .iter()
            .zip(expected)
            .all(|(told, expected)| (told - expected).abs() < 1e-5);
        ensure!(
            same && told[at].len() == row.len(),
            "{told:?} of {parts:?} and {whole:?}"
        );
    }
    Ok(())
}

/// Each value of the model's question, so many times as large.
fn times(model: &Model, factor: f64) -> Value {
    let instances = model.instances();
    let rows = instances["instances"].as_array().into_iter().flatten();
    let row = |row: &Value| {
        let values = row.as_array().into_iter().flatten().filter_map(Value::as_f64);
        values.map(|value| value * factor).collect::<Vec<_>>()
    };
    json!(rows.map(row).collect::<Vec<_>>())
}

/// KServe's server of scikit-learn, as if it were the team's own. It isn't waited for longer than was said, and goes on to start all the same.
fn served_by_an_image_of_ones_own(world: &World) -> Result<()> {
    let (model, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let team = world.team("served-image")?;
    let image = ["--image", SDK_IMAGE];
    let arguments = [
        "--arg=--model_name=fraud",
        "--arg=--model_dir=/mnt/models",
        "--arg=--http_port=8080",
    ];
    let words = [&["deploy", &uri, "--name", "fraud"][..], &image, &arguments, &SMALL].concat();
    let early = run(&team, &[&words[..], &["--timeout", "1s"]].concat())?.ended(1)?;
    ensure!(
        early.stderr.contains("not ready after 1 s") && early.stderr.contains("--timeout"),
        "{early:?}"
    );
    run(&team, &words)?.ended(0).with_context(|| team.diagnosis("fraud"))?;
    model.check(&predicted(&team, "fraud", &model.instances())?)
}

fn served_a_graph_of_two_steps(world: &World) -> Result<()> {
    world.cluster.serve_services()?;
    let router = std::env::var_os(ROUTER).with_context(|| format!("{ROUTER} is not set"))?;
    world.cluster.load_program(ROUTER_IMAGE, Path::new(&router), None)?;
    let (model, _) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let team = world.team("served-graph")?;
    for name in ["first", "second"] {
        deploy(&team, &model.folder, name, &["--runtime", "kserve-sklearnserver"])?;
    }
    for (name, router, steps) in [
        ("chain", "sequence", ["first", "second=$request"]),
        ("both", "ensemble", ["first", "second"]),
        ("split", "splitter", ["first=50", "second=50"]),
        // By what is in the request, which has no `nothing`: the second is asked.
        ("which", "switch", ["first=nothing", "second=instances"]),
    ] {
        let words = [
            "deploy", "--graph", router, "--name", name, "--step", steps[0], "--step", steps[1],
        ];
        run(&team, &words)?.ended(0).with_context(|| team.diagnosis(name))?;
    }
    // By the first protocol of a runtime that is named, whatever the service's `protocolVersion` is: `GetPredictorEndpoint` of KServe 0.20.
    let question = model.instances();
    let ask = |name: &str| {
        let address = team.get(&format!("service/{name}"))?["spec"]["clusterIP"].clone();
        let address = address
            .as_str()
            .context("the graph's Service has no address")?
            .to_owned();
        let what = format!("the graph {name} answers");
        world.cluster.until(&what, Duration::from_secs(30), || {
            post(&format!("http://{address}/"), &question).map(Some)
        })
    };
    for name in ["chain", "split", "which"] {
        let answer = ask(name)?;
        model
            .check(&answers(&answer))
            .with_context(|| format!("{name}: {answer}"))?;
    }
    let question = model.instances().to_string();
    let asked = run(&team, &["predict", "chain", "--data", &question, "-o", "json"])?.ended(0)?;
    let answer: Value = serde_json::from_str(&asked.stdout).with_context(|| format!("{asked:?}"))?;
    model.check(&answers(&answer)).with_context(|| format!("{asked:?}"))?;
    let said = run(&team, &["status", "chain"])?.ended(0)?;
    ensure!(said.stdout.contains("Sequence of first, second"), "{said:?}");
    let described = document(&run(&team, &["describe", "chain", "-o", "json"])?.ended(0)?)?;
    ensure!(
        described["framework"] == "graph" && described["credentials"].is_null() && described["unknown"].is_null(),
        "{described}"
    );
    let listed = document(&run(&team, &["list", "-o", "json"])?.ended(0)?)?;
    ensure!(
        names(&listed) == ["both", "chain", "first", "second", "split", "which"],
        "{listed}"
    );
    run(&team, &["url", "chain"])?.ended(1)?;
    run(&team, &["logs", "chain"])?.ended(0)?;
    let no_grpc = run(&team, &["predict", "chain", "--data", &question, "--protocol", "grpc"])?.ended(2)?;
    ensure!(no_grpc.stderr.contains("its router speaks REST alone"), "{no_grpc:?}");
    run(&team, &["delete", "split", "--yes"])?.ended(0)?;
    ensure!(
        run(&team, &["status", "split"])?
            .ended(2)?
            .stderr
            .contains("there is no such service")
    );
    let both = ask("both")?;
    for step in ["0", "1"] {
        model.check(&answers(&both[step])).with_context(|| both.to_string())?;
    }
    let history = document(&run(&team, &["history", "which", "-o", "json"])?.ended(0)?)?;
    ensure!(
        history[0]["from"] == "first=nothing, second=instances" && history[0]["format"] == "graph",
        "{history}"
    );
    let promoted = run(&team, &["promote", "which"])?.ended(2)?;
    ensure!(promoted.stderr.contains("graphs have no canaries"), "{promoted:?}");
    run(&team, &["scale", "which", "--min", "2", "--max", "2"])?.ended(0)?;
    let pods = || {
        let of_it = "--selector=serving.kserve.io/inferencegraph=which";
        let pods = team.kubectl(&["get", "pods", of_it, "--output=name"])?;
        Ok::<_, anyhow::Error>(pods.lines().count())
    };
    let replicas = |wanted| {
        let what = format!("the graph's router has {wanted} Pods");
        world
            .cluster
            .until(&what, Duration::from_mins(2), || Ok((pods()? == wanted).then_some(())))
    };
    replicas(2)?;
    run(&team, &["stop", "which"])?.ended(0)?;
    ensure!(pods()? == 0, "a graph that was stopped has Pods");
    run(&team, &["start", "which"])?.ended(0)?;
    replicas(2)?;
    model.check(&answers(&ask("which")?))
}

fn answers(answer: &Value) -> Vec<f64> {
    let numbers = match &answer["predictions"] {
        Value::Null => &answer["outputs"][0]["data"],
        predictions => predictions,
    };
    let numbers = numbers.as_array().into_iter().flatten();
    numbers.filter_map(Value::as_f64).collect()
}

/// None of them has a Pod: what counts is what the store has, which is looked up where MinIO keeps it.
fn served_no_more_its_model_leaves_the_store_and_others_stay(world: &World) -> Result<()> {
    let model = model(world, "plain_sklearn")?;
    let team = world.team("served-no-more")?;
    // Of this namespace alone, so that nothing else in the cluster is served from there.
    let store = format!("s3://mlflow/shared/{}/", team.name());
    let words = ["--artifact-store", &store, "--no-wait", "-o", "json"];
    let submit = |name: &str| {
        let source = model.folder.display().to_string();
        let stopped = ["--annotation", "serving.kserve.io/stop=true"];
        let words = [&["deploy", &source, "--name", name][..], &words, &stopped].concat();
        let said = run(&team, &words)?.ended(0)?;
        let report: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
        let uri = report["storageUri"].as_str().context("nothing was uploaded")?;
        Ok::<_, anyhow::Error>(uri.to_owned())
    };
    let kept = world.cluster.folder().join("minio");
    // The folder, and the manifest beside it.
    let is_there = |uri: &str| {
        let key = uri.strip_prefix("s3://").context("no URI of S3")?;
        let (base, digest) = key.rsplit_once('/').context("no folder of its own")?;
        let manifest = kept.join(base).join(format!("manifests/{digest}.json"));
        Ok::<_, anyhow::Error>([kept.join(key).join("model.joblib").exists(), manifest.exists()])
    };
    let (one, other, left) = (submit("fraud")?, submit("prices")?, submit("left")?);
    for uri in [&one, &other, &left] {
        ensure!(is_there(uri)? == [true, true], "{uri}: {:?}", is_there(uri)?);
    }

    // Whoever else is served from there keeps it.
    let shares = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "shares", "annotations": {"serving.kserve.io/stop": "true"}},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": other}}}});
    team.apply(&shares.to_string())?;
    let deleted = run(&team, &["delete", "prices", "--yes", "--artifacts"])?.ended(0)?;
    ensure!(
        deleted.stderr.contains("There is nothing to take out of a store") && is_there(&other)? == [true, true],
        "{:?}: {deleted:?}",
        is_there(&other)?
    );

    let said = run(&team, &["delete", "fraud", "--yes", "--artifacts"])?.ended(0)?;
    ensure!(
        said.stderr.contains(&format!("{one}: ")) && said.stderr.contains("are gone"),
        "{said:?}"
    );
    ensure!(is_there(&one)? == [false, false], "{one}: {:?}", is_there(&one)?);
    ensure!(is_there(&other)? == [true, true], "{other}: {:?}", is_there(&other)?);
    // Without a word about it, the model stays.
    run(&team, &["delete", "left", "--yes"])?.ended(0)?;
    ensure!(is_there(&left)? == [true, true], "{left}: {:?}", is_there(&left)?);
    Ok(())
}
