//! From a search for the best model to its answers, as the first guide tells it: Ray Tune, MLflow and MinIO, then one command.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::command::{NO_PROFILES, Said, tidewaiter};
use tidewaiter_e2e::server::command_binary;
use tidewaiter_ground::mlflow::{Fraud, Logged, Mlflow, PROXIED_TO};
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace};

use crate::deploy::{SMALL, tells};
use crate::{Test, World, guide};

pub(crate) const TESTS: &[Test] = &[
    (
        "pipeline_by_the_guide_the_champion_answers_as_in_python",
        true,
        pipeline_by_the_guide_the_champion_answers_as_in_python,
    ),
    (
        "pipeline_a_tracking_server_with_users_lets_in_whom_it_knows",
        false,
        pipeline_a_tracking_server_with_users_lets_in_whom_it_knows,
    ),
    (
        "pipeline_a_model_of_mlflow_3_answers_by_each_of_its_names",
        true,
        pipeline_a_model_of_mlflow_3_answers_by_each_of_its_names,
    ),
    (
        "pipeline_artifacts_behind_the_tracking_server_are_copied_or_used_where_they_lie",
        true,
        pipeline_artifacts_behind_the_tracking_server_are_copied_or_used_where_they_lie,
    ),
];

/// The protocol's definition as KServe has it.
pub(crate) const PROTOCOL: &str = "TIDEWAITER_PROTOCOL";
const CHAMPION: &str = "models:/fraud@champion";

/// The command in a namespace, with MLflow's address.
fn run(namespace: &Namespace, mlflow: &Mlflow<'_>, words: &[&str]) -> Result<Said> {
    let uri = mlflow.uri();
    let place = ["-n", namespace.name(), "--tracking-server", &uri];
    tidewaiter(namespace.cluster().kubeconfig(), &[words, &place[..]].concat())
}

fn pipeline_by_the_guide_the_champion_answers_as_in_python(world: &World) -> Result<()> {
    // The store's bucket is there once anything lies in it.
    world.model("fraud", tidewaiter_ground::models::SavedWith::Mlserver1_7_1, "mlflow")?;
    let mlflow = Mlflow::start(&world.cluster)?;
    let fraud = mlflow.fraud()?;

    // Where Tidewaiter is, the user has no key at all.
    let team = world.namespace("pipeline")?;
    guide::walked(&team, &mlflow)?;
    answers(&team, &fraud)?;
    // By all its names it is the same model.
    let of_run = format!("runs:/{}/model", fraud.run);
    for source in [CHAMPION, "models:/fraud/1", &of_run] {
        let again = ["deploy", source, "--name", "fraud", "--protocol", "both"];
        let again = run(&team, &mlflow, &again)?.ended(0)?;
        ensure!(again.stderr.contains("deployed already, and the same"), "{again:?}");
    }

    // Where it isn't, the same command brings the Secret and the ServiceAccount of the guide.
    let alone = world.namespace_without("pipeline-alone")?;
    guide::walked_with_keys(&alone, &mlflow)?;
    answers(&alone, &fraud)?;

    // What MLServer's image lacks is told before anything is served.
    let lacking = run(&team, &mlflow, &["deploy", "models:/fraud-pipeline/1"])?.ended(2)?;
    ensure!(lacking.stderr.contains("imbalanced-learn"), "{lacking:?}");
    ensure!(
        !team.kubectl(&["get", "isvc", "-o", "name"])?.contains("fraud-pipeline"),
        "it was submitted"
    );

    // Who may read the store asks it by its own example, found where it was deployed from; who may not, by what the server says of it.
    let server = mlflow.uri();
    let example = ["predict", "fraud", "-o", "json", "--via", "port-forward", "--example"];
    let from = ["--from", CHAMPION, "--tracking-server", &server];
    for (key, from, how) in [
        (Some(MINIO_USER), &[][..], "the model's own input example"),
        (Some(MINIO_USER), &from, "the model's own input example"),
        (None, &[], "made of what the server says"),
    ] {
        let said = crate::deploy::run(&team, key, &[&example, from].concat())?.ended(0)?;
        tells(&said, &[how])?;
        let answer: Value = serde_json::from_str(&said.stdout)?;
        let data = answer["outputs"][0]["data"].as_array().map_or(0, Vec::len);
        let rows = key.map_or(1, |_| fraud.rows.len());
        ensure!(data == rows, "{from:?}: {answer}");
    }

    // What isn't there is told with what is.
    for (source, parts) in [
        (
            "models:/nobody/1",
            ["no registered model nobody", "its models: fraud", "hint"],
        ),
        ("models:/fraud/17", ["fraud", "17", "hint"]),
        (
            "runs:/0123456789abcdef0123456789abcdef/model",
            ["0123456789abcdef", "run", "hint"],
        ),
    ] {
        tells(
            &run(&team, &mlflow, &["deploy", source, "--name", "nobody"])?.ended(2)?,
            &parts,
        )?;
    }
    let nobody = run(&team, &mlflow, &["deploy", "models:/fraud@runner-up"])?.ended(2)?;
    ensure!(
        nobody.stderr.contains("runner-up") && nobody.stderr.contains("champion"),
        "{nobody:?}"
    );
    Ok(())
}

/// MLflow's own `basic-auth`: nobody, a wrong password, somebody without the right, and who has it.
fn pipeline_a_tracking_server_with_users_lets_in_whom_it_knows(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", tidewaiter_ground::models::SavedWith::Mlserver1_7_1, "mlflow")?;
    let mlflow = Mlflow::start_with_users(&world.cluster)?;
    mlflow.post("2.0/mlflow/registered-models/create", &json!({"name": "fraud"}))?;
    let version = json!({"name": "fraud", "source": uri});
    mlflow.post("2.0/mlflow/model-versions/create", &version)?;
    let ann = ("ann", "password-of-ann");
    mlflow.post(
        "2.0/mlflow/users/create",
        &json!({"username": ann.0, "password": ann.1}),
    )?;
    let inspect = |user: Option<(&str, &str)>| {
        let mut command = Command::new(command_binary()?);
        command
            .args([
                "inspect",
                "models:/fraud/1",
                "-o",
                "json",
                "--tracking-server",
                &mlflow.uri(),
            ])
            .env("TIDEWAITER_PROFILES", NO_PROFILES)
            .env("AWS_ACCESS_KEY_ID", MINIO_USER)
            .env("AWS_SECRET_ACCESS_KEY", MINIO_USER)
            .env("AWS_ENDPOINT_URL", format!("http://{HOST}:{MINIO_PORT}"));
        if let Some((user, password)) = user {
            command
                .env("MLFLOW_TRACKING_USERNAME", user)
                .env("MLFLOW_TRACKING_PASSWORD", password);
        }
        let said = Said::from(command.output()?);
        ensure!(
            !format!("{said:?}").contains("password-of"),
            "it repeats a password: {said:?}"
        );
        Ok(said)
    };
    let nobody = inspect(None)?.ended(2)?;
    ensure!(
        nobody.stderr.contains("(401)") && nobody.stderr.contains("MLFLOW_TRACKING_USERNAME"),
        "{nobody:?}"
    );
    let wrong = inspect(Some((ann.0, "password-of-nobody")))?.ended(2)?;
    ensure!(wrong.stderr.contains("as ann (401)"), "{wrong:?}");
    let without = inspect(Some(ann))?.ended(2)?;
    ensure!(without.stderr.contains("as ann (403)"), "{without:?}");
    let right = json!({"name": "fraud", "username": ann.0, "permission": "READ"});
    mlflow.post("2.0/mlflow/registered-models/permissions/create", &right)?;
    let told: Value = serde_json::from_str(&inspect(Some(ann))?.ended(0)?.stdout)?;
    ensure!(told["uri"] == uri && told["framework"] == "mlflow", "{told}");

    mlflow.spoil()?;
    let broken = inspect(Some(ann))?.ended(2)?;
    tells(&broken, &["answers 503", &mlflow.uri(), "hint"])
}

/// MLflow 3 keeps a model by itself, and not below its run; here behind a proxy that asks for a token.
fn pipeline_a_model_of_mlflow_3_answers_by_each_of_its_names(world: &World) -> Result<()> {
    world.model("fraud", tidewaiter_ground::models::SavedWith::Mlserver1_7_1, "mlflow")?;
    let mlflow = Mlflow::start_three(&world.cluster)?;
    let logged = mlflow.three()?;
    let uri = mlflow.behind_token("token-of-ann")?;
    let team = world.namespace("pipeline-3")?;
    let deploy = |token: Option<&str>, source: &str, name: &str, more: &[&str]| {
        let mut command = Command::new(command_binary()?);
        command
            .args([
                "deploy",
                source,
                "--name",
                name,
                "-o",
                "json",
                "--tracking-server",
                &uri,
            ])
            .args(["-n", team.name()])
            .args(more)
            .env("KUBECONFIG", world.cluster.kubeconfig())
            .env("TIDEWAITER_PROFILES", NO_PROFILES);
        if let Some(token) = token {
            command.env("MLFLOW_TRACKING_TOKEN", token);
        }
        let said = Said::from(command.output()?);
        ensure!(
            !format!("{said:?}").contains("token-of"),
            "it repeats a token: {said:?}"
        );
        Ok(said)
    };
    let registered = "models:/three/1";
    let nobody = deploy(None, registered, "three", &[])?.ended(2)?;
    ensure!(
        nobody.stderr.contains("without credentials (401)") && nobody.stderr.contains("MLFLOW_TRACKING_TOKEN"),
        "{nobody:?}"
    );
    let wrong = deploy(Some("token-of-nobody"), registered, "three", &[])?.ended(2)?;
    ensure!(wrong.stderr.contains("with a token (401)"), "{wrong:?}");

    let ann = Some("token-of-ann");
    let sources = [
        ("registered", registered.to_owned()),
        ("logged", format!("models:/{}", logged.model)),
        ("of-a-run", format!("runs:/{}/model", logged.run)),
    ];
    for (name, source) in &sources {
        deploy(ann, source, name, &["--no-wait"])?.ended(0)?;
    }
    for (name, source) in &sources {
        let said = deploy(ann, source, name, &[])?
            .ended(0)
            .with_context(|| team.diagnosis(name))?;
        let report: Value = serde_json::from_str(&said.stdout)?;
        let place = format!("/models/{}/artifacts", logged.model);
        let lies = report["storageUri"].as_str().unwrap_or_default();
        ensure!(lies.ends_with(&place) && report["from"] == *source, "{report}");
        answers_as_logged(&team, name, &logged)?;
    }
    Ok(())
}

/// MLflow as it comes keeps artifacts behind itself, where KServe can't read them: they are fetched from it and uploaded, or read where the admin says that they lie.
fn pipeline_artifacts_behind_the_tracking_server_are_copied_or_used_where_they_lie(world: &World) -> Result<()> {
    world.model("fraud", tidewaiter_ground::models::SavedWith::Mlserver1_7_1, "mlflow")?;
    let mlflow = Mlflow::start_proxied(&world.cluster)?;
    let logged = mlflow.three()?;
    let team = world.namespace("pipeline-proxied")?;
    let server = mlflow.uri();
    let registered = "models:/three/1";
    let deploy = |key: Option<&str>, source: &str, name: &str, more: &[&str]| {
        let words = [
            "deploy",
            source,
            "--name",
            name,
            "-o",
            "json",
            "--tracking-server",
            &server,
        ];
        crate::deploy::run(&team, key, &[&words[..], &SMALL, more].concat())
    };
    let lies = |said: &Said| {
        let report: Value = serde_json::from_str(&said.stdout).with_context(|| format!("no JSON: {said:?}"))?;
        Ok::<_, anyhow::Error>(report["storageUri"].as_str().unwrap_or_default().to_owned())
    };

    // Who has neither is told why, and what to name.
    let nowhere = deploy(Some(MINIO_USER), registered, "copied", &[])?.ended(2)?;
    tells(
        &nowhere,
        &[
            "models:/three/1 has to be uploaded (the tracking server hands it out by its proxy, which KServe can't read), and no artifact store was named",
            "--artifact-store",
        ],
    )?;

    let to_a_store = ["--artifact-store", "s3://mlflow/shared/copied/"];
    let submits = [&to_a_store[..], &["--no-wait"]].concat();
    let copied = deploy(Some(MINIO_USER), registered, "copied", &submits)?.ended(0)?;
    let place = lies(&copied)?;
    ensure!(place.starts_with("s3://mlflow/shared/copied/copied/"), "{copied:?}");
    // The server holds no other place of it than this.
    let mut proxied = copied.stderr.split_whitespace();
    let proxied = proxied.rfind(|word| word.starts_with("mlflow-artifacts:/"));
    let proxied = proxied.with_context(|| format!("the way to the model names no artifacts: {copied:?}"))?;
    let path = proxied.trim_start_matches("mlflow-artifacts:");
    ensure!(
        path.ends_with(&format!("/models/{}/artifacts", logged.model)),
        "{proxied}"
    );

    // Who says where they lie needs no key of the store, and nothing is copied.
    let destination = ["--artifacts-destination", PROXIED_TO];
    let stays = [&destination[..], &["--no-wait"]].concat();
    let used = deploy(None, registered, "used", &stays)?.ended(0)?;
    ensure!(lies(&used)? == format!("{PROXIED_TO}{path}"), "{used:?}");

    // By each of its names the same files are fetched: from the run, the logged model, and the proxy itself.
    let of_run = format!("runs:/{}/model", logged.run);
    let of_model = format!("models:/{}", logged.model);
    for source in [proxied, &of_run, &of_model] {
        let again = deploy(Some(MINIO_USER), source, "copied", &submits)?.ended(0)?;
        tells(&again, &["deployed already, and the same"])?;
        ensure!(lies(&again)? == place, "{again:?}");
        let again = deploy(Some(MINIO_USER), source, "used", &stays)?.ended(0)?;
        tells(&again, &["deployed already, and the same"])?;
    }
    deploy(Some(MINIO_USER), registered, "copied", &to_a_store)?
        .ended(0)
        .with_context(|| team.diagnosis("copied"))?;
    deploy(None, registered, "used", &destination)?
        .ended(0)
        .with_context(|| team.diagnosis("used"))?;
    for name in ["copied", "used"] {
        answers_as_logged(&team, name, &logged)?;
    }
    Ok(())
}

/// A service answers what the model did in Python.
fn answers_as_logged(namespace: &Namespace, name: &str, logged: &Logged) -> Result<()> {
    predicts(namespace, name, &[], &logged.rows, &logged.answers)
}

/// The command is told these answers of the server's.
fn predicts(namespace: &Namespace, name: &str, how: &[&str], rows: &[Vec<f64>], answers: &[f64]) -> Result<()> {
    let rows = json!(rows).to_string();
    let words = ["predict", name, "-o", "json", "--via", "port-forward", "--data", &rows];
    let words = [&words[..], how, &["-n", namespace.name()]].concat();
    let said = tidewaiter(namespace.cluster().kubeconfig(), &words)?.ended(0)?;
    let answer: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
    let data = answer["outputs"][0]["data"].as_array().into_iter().flatten();
    let data: Vec<f64> = data.filter_map(Value::as_f64).collect();
    ensure!(data == answers, "{name} {how:?}: {answer}, and in Python {answers:?}");
    Ok(())
}

/// By the command's own two ways, and by grpcurl.
fn answers(namespace: &Namespace, fraud: &Fraud) -> Result<()> {
    for protocol in ["v2", "grpc"] {
        predicts(
            namespace,
            "fraud",
            &["--protocol", protocol],
            &fraud.rows,
            &fraud.answers,
        )?;
    }
    let flat: Vec<f64> = fraud.rows.iter().flatten().copied().collect();
    let request = json!({"inputs": [{
        "name": "input-0", "datatype": "FP64", "shape": [fraud.rows.len(), 4], "data": flat,
    }]});
    let definition = std::env::var_os(PROTOCOL).with_context(|| format!("{PROTOCOL} is not set"))?;
    let by_grpcurl = namespace.infer_grpc_by(Path::new(&definition), "fraud", &request)?;
    ensure!(by_grpcurl == fraud.answers, "grpcurl: {by_grpcurl:?}");
    Ok(())
}
