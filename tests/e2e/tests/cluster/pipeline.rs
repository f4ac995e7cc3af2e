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
    let again = run(&team, &mlflow, &["deploy", CHAMPION, "--protocol", "both"])?.ended(0)?;
    ensure!(again.stderr.contains("deployed already, and the same"), "{again:?}");

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
