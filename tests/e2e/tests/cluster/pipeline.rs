//! From a search for the best model to its answers, as the first guide tells it: Ray Tune, MLflow and MinIO, then one command.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::server::command_binary;
use tidewaiter_ground::mlflow::{Fraud, Mlflow};
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace};

use crate::command::{Said, tidewaiter};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "pipeline_the_champion_answers_as_in_python",
        true,
        pipeline_the_champion_answers_as_in_python,
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
];

const CHAMPION: &str = "models:/fraud@champion";

/// The command in a namespace, with MLflow's address.
fn run(namespace: &Namespace, mlflow: &Mlflow<'_>, words: &[&str]) -> Result<Said> {
    let uri = mlflow.uri();
    let place = ["-n", namespace.name(), "--tracking-server", &uri];
    tidewaiter(namespace.cluster().kubeconfig(), &[words, &place[..]].concat())
}

fn pipeline_the_champion_answers_as_in_python(world: &World) -> Result<()> {
    // The store's bucket is there once anything lies in it.
    world.model("fraud", tidewaiter_ground::models::SavedWith::Mlserver1_7_1, "mlflow")?;
    let mlflow = Mlflow::start(&world.cluster)?;
    let fraud = mlflow.fraud()?;

    // Where Tidewaiter is, the user has no key at all.
    let team = world.namespace("pipeline")?;
    run(&team, &mlflow, &["deploy", CHAMPION, "--protocol", "both"])?.ended(0)?;
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
    let endpoint = format!("http://{HOST}:{MINIO_PORT}");
    let keys = [
        &format!("--s3-endpoint={endpoint}")[..],
        &format!("--aws-access-key-id={MINIO_USER}"),
        &format!("--aws-secret-access-key={MINIO_USER}"),
    ];
    let deploy = [&["deploy", CHAMPION, "--protocol", "both"][..], &keys].concat();
    run(&alone, &mlflow, &deploy)?.ended(0)?;
    answers(&alone, &fraud)?;

    // What MLServer's image lacks is told before anything is served.
    let lacking = run(&team, &mlflow, &["deploy", "models:/fraud-pipeline/1"])?.ended(2)?;
    ensure!(lacking.stderr.contains("imbalanced-learn"), "{lacking:?}");
    ensure!(
        !team.kubectl(&["get", "isvc", "-o", "name"])?.contains("fraud-pipeline"),
        "it was submitted"
    );

    // What isn't there is told with what is.
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
            .env("TIDEWAITER_PROFILES", "/nonexistent")
            .env("AWS_ACCESS_KEY_ID", MINIO_USER)
            .env("AWS_SECRET_ACCESS_KEY", MINIO_USER)
            .env("AWS_ENDPOINT_URL", format!("http://{HOST}:{MINIO_PORT}"));
        if let Some((user, password)) = user {
            command
                .env("MLFLOW_TRACKING_USERNAME", user)
                .env("MLFLOW_TRACKING_PASSWORD", password);
        }
        let output = command.output()?;
        let said = Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
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
    Ok(())
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
            .env("TIDEWAITER_PROFILES", "/nonexistent");
        if let Some(token) = token {
            command.env("MLFLOW_TRACKING_TOKEN", token);
        }
        let output = command.output()?;
        let said = Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
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
        let rows = json!(logged.rows).to_string();
        let words = [
            "predict",
            name,
            "-o",
            "json",
            "--via",
            "port-forward",
            "--data",
            &rows,
            "-n",
        ];
        let words = [&words[..], &[team.name()]].concat();
        let said = tidewaiter(world.cluster.kubeconfig(), &words)?.ended(0)?;
        let answer: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
        let data = answer["outputs"][0]["data"].as_array().into_iter().flatten();
        let data: Vec<f64> = data.filter_map(Value::as_f64).collect();
        ensure!(
            data == logged.answers,
            "{name}: {answer}, and in Python {:?}",
            logged.answers
        );
    }
    Ok(())
}

/// By the command's own two ways, and by grpcurl.
fn answers(namespace: &Namespace, fraud: &Fraud) -> Result<()> {
    let rows = json!(fraud.rows).to_string();
    for protocol in ["v2", "grpc"] {
        let words = [
            "predict",
            "fraud",
            "-o",
            "json",
            "--via",
            "port-forward",
            "--protocol",
            protocol,
            "--data",
            &rows,
            "-n",
        ];
        let words = [&words[..], &[namespace.name()]].concat();
        let said = tidewaiter(namespace.cluster().kubeconfig(), &words)?.ended(0)?;
        let answer: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
        let data = answer["outputs"][0]["data"].as_array().into_iter().flatten();
        let data: Vec<f64> = data.filter_map(Value::as_f64).collect();
        ensure!(
            data == fraud.answers,
            "{protocol}: {answer}, and in Python {:?}",
            fraud.answers
        );
    }
    let flat: Vec<f64> = fraud.rows.iter().flatten().copied().collect();
    let request = json!({"inputs": [{
        "name": "input-0", "datatype": "FP64", "shape": [fraud.rows.len(), 4], "data": flat,
    }]});
    let by_grpcurl = namespace.infer_grpc("fraud", &request)?;
    ensure!(by_grpcurl == fraud.answers, "grpcurl: {by_grpcurl:?}");
    Ok(())
}
