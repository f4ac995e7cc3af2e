//! `tidewaiter deploy` against a real cluster: from a URI to an answer, and each way in which it fails told rightly.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::command::{NO_PROFILES, Said, store_keys, tidewaiter};
use tidewaiter_e2e::install::make_up_models;
use tidewaiter_e2e::server::command_binary;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{MINIO_USER, Namespace};

use crate::failing::failed;
use crate::using;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "deploy_brings_credentials_and_again_does_nothing",
        true,
        deploy_brings_credentials_and_again_does_nothing,
    ),
    (
        "deploy_leaves_credentials_to_tidewaiter",
        true,
        deploy_leaves_credentials_to_tidewaiter,
    ),
    (
        "deploy_tells_a_wrong_key_as_credentials",
        true,
        deploy_tells_a_wrong_key_as_credentials,
    ),
    ("deploy_tells_a_missing_model", true, deploy_tells_a_missing_model),
    (
        "deploy_tells_a_server_without_a_model",
        true,
        deploy_tells_a_server_without_a_model,
    ),
    (
        "deploy_tells_a_control_plane_namespace",
        true,
        deploy_tells_a_control_plane_namespace,
    ),
    (
        "deploy_offers_a_name_and_names_conflicts",
        false,
        deploy_offers_a_name_and_names_conflicts,
    ),
    (
        "deploy_makes_secrets_and_graphs",
        false,
        deploy_makes_secrets_and_graphs,
    ),
    (
        "deploy_secrets_of_each_cloud_reach_the_initializer",
        false,
        deploy_secrets_of_each_cloud_reach_the_initializer,
    ),
    (
        "deploy_has_every_wish_checked_and_stores_nothing",
        false,
        deploy_has_every_wish_checked_and_stores_nothing,
    ),
    (
        "deploy_adds_a_model_to_a_multi_model_server",
        false,
        deploy_adds_a_model_to_a_multi_model_server,
    ),
];

/// What every model here does with.
pub(crate) const SMALL: [&str; 6] = [
    "--request",
    "cpu=50m",
    "--request",
    "memory=128Mi",
    "--limit",
    "memory=1500Mi",
];

/// KServe's own webhook hands the storage initializer what the command wrote; `tests/clouds` shows that it opens the stores.
fn deploy_secrets_of_each_cloud_reach_the_initializer(world: &World) -> Result<()> {
    let team = world.namespace_without("deploy-clouds")?;
    let azure = "https://ml.blob.core.windows.net/models/fraud";
    let google = r#"--google_application_credentials={"type": "service_account"}"#;
    let principal = [
        "--azure_subscription_id=a",
        "--azure_tenant_id=b",
        "--azure_client_id=c",
        "--azure_client_secret=d",
    ];
    let wanted: [(&str, &str, &[&str], &[&str]); 3] = [
        (
            "gs",
            "gs://models/fraud",
            &[google],
            &["GOOGLE_APPLICATION_CREDENTIALS"],
        ),
        (
            "az",
            azure,
            &principal,
            &[
                "AZURE_SUBSCRIPTION_ID",
                "AZURE_TENANT_ID",
                "AZURE_CLIENT_ID",
                "AZURE_CLIENT_SECRET",
            ],
        ),
        (
            "az-key",
            azure,
            &["--azure_storage_access_key=e"],
            &["AZURE_STORAGE_ACCESS_KEY"],
        ),
    ];
    for (name, uri, keys, variables) in wanted {
        run(&team, None, &[&["secret", "create", name], keys].concat())?.ended(0)?;
        let mut service = crate::hammer::service(name, uri);
        // Of which a runtime speaks the protocol that is meant where none is named.
        service["spec"]["predictor"]["model"]["modelFormat"]["name"] = json!("sklearn");
        service["spec"]["predictor"]["serviceAccountName"] = json!(name);
        team.apply(&service.to_string())?;
        let pod = world.cluster.until("KServe makes a Pod", Duration::from_mins(2), || {
            Ok(team.pods(name)?.into_iter().next())
        })?;
        let initializer = &pod["spec"]["initContainers"][0];
        for variable in variables {
            let variables = initializer["env"].as_array().into_iter().flatten();
            let mut found = variables.filter(|one| one["name"] == *variable);
            let found = found
                .next()
                .with_context(|| format!("{variable} isn't there: {initializer}"))?;
            if found["value"].is_null() {
                ensure!(found["valueFrom"]["secretKeyRef"]["name"] == name, "{found}");
                continue;
            }
            let mounts = initializer["volumeMounts"].as_array().into_iter().flatten();
            let path = found["value"].as_str().unwrap_or_default();
            let mut mounts = mounts.filter(|mount| path.starts_with(mount["mountPath"].as_str().unwrap_or("none")));
            let mount = mounts
                .next()
                .with_context(|| format!("nothing is mounted at {path}: {initializer}"))?;
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            let mut volumes = volumes.filter(|volume| volume["name"] == mount["name"]);
            ensure!(
                volumes
                    .next()
                    .is_some_and(|volume| volume["secret"]["secretName"] == name),
                "another volume: {mount}"
            );
        }
    }
    Ok(())
}

/// The command in a namespace, with keys of the store where there are some; as a user without variables of their own.
pub(crate) fn run(namespace: &Namespace, key: Option<&str>, arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(command_binary()?);
    command
        .args(arguments)
        .args(["-n", namespace.name()])
        .env("KUBECONFIG", namespace.cluster().kubeconfig())
        .env("TIDEWAITER_PROFILES", NO_PROFILES)
        .stdin(Stdio::null());
    if let Some(key) = key {
        command.envs(store_keys(key));
    }
    Ok(Said::from(command.output()?))
}

pub(crate) fn deploy(namespace: &Namespace, key: Option<&str>, uri: &str, more: &[&str]) -> Result<Said> {
    let arguments = [&["deploy", uri, "--name", "fraud"][..], &SMALL, more].concat();
    run(namespace, key, &arguments)
}

pub(crate) fn model(world: &World) -> Result<(Model, String)> {
    world.model("fraud", Mlserver1_7_1, "mlflow")
}

pub(crate) fn tells(said: &Said, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(said.stderr.contains(part), "no `{part}` in {said:#?}");
    }
    Ok(())
}

fn deploy_brings_credentials_and_again_does_nothing(world: &World) -> Result<()> {
    let (model, uri) = model(world)?;
    let team = world.namespace_without("deploy")?;
    let both = ["--protocol", "both"];
    let shown = deploy(&team, Some(MINIO_USER), &uri, &["--protocol", "both", "--diff"])?.ended(1)?;
    ensure!(
        shown.stdout.contains("+ ") && shown.stdout.contains("kind: InferenceService"),
        "{shown:#?}"
    );
    let there = team.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "a difference left {there}");
    // What is shown is what is sent.
    let client = ["--protocol", "both", "--dry-run=client", "-o", "json"];
    let client = deploy(&team, Some(MINIO_USER), &uri, &client)?.ended(0)?;
    let client: Value = serde_json::from_str(&client.stdout)?;

    let said = deploy(&team, Some(MINIO_USER), &uri, &both)?.ended(0)?;
    tells(&said, &["fraud-store", "submitted", "downloaded", "fraud is ready"])?;
    model.check(&team.infer("fraud", &model.request)?)?;
    model.check(&team.infer_grpc("fraud", &model.request)?)?;
    let before = team.get("isvc/fraud")?;
    for field in ["/spec/predictor/serviceAccountName", "/spec/predictor/model/runtime"] {
        ensure!(
            client.pointer(field) == before.pointer(field),
            "{field}: {client} and {before}"
        );
    }
    let history = using::run(&team, &["history", "fraud", "-o", "json"])?.ended(0)?;
    let history = using::document(&history)?;
    ensure!(
        history[0]["storageUri"] == json!(uri) && history[0]["by"].is_string(),
        "{history}"
    );
    // They go with the service.
    for object in ["secret/fraud-store", "serviceaccount/fraud-store"] {
        let owner = team.get(object)?["metadata"]["ownerReferences"][0]["uid"].clone();
        ensure!(owner == before["metadata"]["uid"], "{object} is {owner}'s");
    }

    let start = Instant::now();
    let again = deploy(&team, Some(MINIO_USER), &uri, &both)?.ended(0)?;
    tells(&again, &["the same: nothing was done"])?;
    ensure!(
        start.elapsed() < Duration::from_secs(10),
        "{:?} for nothing",
        start.elapsed()
    );
    let after = team.get("isvc/fraud")?;
    for part in ["generation", "annotations"] {
        ensure!(
            before["metadata"][part] == after["metadata"][part],
            "before {before}\nafter {after}"
        );
    }
    deploy(&team, Some(MINIO_USER), &uri, &["--protocol", "both", "--diff"])?.ended(0)?;
    // More replicas are no other model: the history, which is copied into each Pod, stays as it is.
    deploy(
        &team,
        Some(MINIO_USER),
        &uri,
        &["--protocol", "both", "--max-replicas", "2", "--no-wait"],
    )?
    .ended(0)?;
    let scaled = team.get("isvc/fraud")?;
    ensure!(scaled["spec"]["predictor"]["maxReplicas"] == 2, "{}", scaled["spec"]);
    ensure!(
        scaled["metadata"]["annotations"] == before["metadata"]["annotations"],
        "{}",
        scaled["metadata"]
    );
    Ok(())
}

fn deploy_leaves_credentials_to_tidewaiter(world: &World) -> Result<()> {
    let (model, uri) = model(world)?;
    let team = world.namespace("deploy-reviewed")?;
    let said = deploy(&team, None, &uri, &["--framework", "mlflow"])?.ended(0)?;
    tells(&said, &["tidewaiter: ", "fraud is ready"])?;
    model.check(&team.infer("fraud", &model.request)?)?;
    let again = deploy(&team, Some(MINIO_USER), &uri, &[])?.ended(0)?;
    tells(
        &again,
        &["Tidewaiter brings the store's credentials", "nothing was done"],
    )?;
    let there = team.kubectl(&["get", "secrets", "-o", "name"])?;
    ensure!(!there.contains("fraud-store"), "{there}");
    // Its refusal is told in its own words.
    let elsewhere = deploy(&team, None, "s3://mlflow/another-team/x", &["--framework", "mlflow"])?.ended(2)?;
    tells(&elsewhere, &["s3://mlflow/shared/", "#ml-platform"])
}

fn deploy_tells_a_wrong_key_as_credentials(world: &World) -> Result<()> {
    let (_, uri) = model(world)?;
    let team = world.namespace_without("deploy-key")?;
    let made = run(&team, Some("not-the-key"), &["secret", "create", "wrong"])?;
    ensure!(
        made.code == Some(0) && !made.stderr.contains("not-the-key"),
        "{made:#?}"
    );
    let wrong = ["--framework", "mlflow", "--secret", "wrong", "-o", "json"];
    let said = deploy(&team, None, &uri, &wrong)?;
    tells(&said, &["is still there; to remove it"])?;
    failed(
        said,
        "credentials-wrong",
        &[
            &format!("the store refuses the credentials for {uri}, which are those of the Secret wrong"),
            "--aws-access-key-id",
        ],
    )
}

fn deploy_tells_a_missing_model(world: &World) -> Result<()> {
    model(world)?;
    let team = world.namespace("deploy-missing")?;
    let uri = "s3://mlflow/shared/nothing-here";
    let said = deploy(&team, None, uri, &["--framework", "mlflow"])?.ended(2)?;
    tells(&said, &["nothing is at s3://mlflow/shared/nothing-here"])?;
    // By what the initializer says, where no policy looks.
    make_up_models(&team)?;
    let told = ["there is no model at s3://mlflow/shared/nothing-here"];
    let unseen = ["--framework", "mlflow", "-o", "json"];
    failed(deploy(&team, None, uri, &unseen)?, "no-model", &told)?;
    // And where there is no Tidewaiter.
    let without = world.namespace_without("deploy-missing-untold")?;
    run(&without, Some(MINIO_USER), &["secret", "create", "store"])?.ended(0)?;
    let unseen = [&unseen[..], &["--secret", "store"]].concat();
    failed(deploy(&without, None, uri, &unseen)?, "no-model", &told)
}

/// KServe calls this service ready.
fn deploy_tells_a_server_without_a_model(world: &World) -> Result<()> {
    let (_, uri) = world.model("plain_xgboost", Mlserver1_7_1, "mlflow")?;
    let team = world.namespace("deploy-framework")?;
    let runtime = [
        "--framework",
        "sklearn",
        "--runtime",
        "kserve-sklearnserver",
        "-o",
        "json",
    ];
    failed(
        deploy(&team, None, &uri, &runtime)?,
        "wrong-framework",
        &["finds no sklearn model", "model.joblib"],
    )
}

fn deploy_tells_a_control_plane_namespace(world: &World) -> Result<()> {
    let (_, uri) = model(world)?;
    let team = world.namespace_without("deploy-control")?;
    team.cluster()
        .kubectl(&["label", "namespace", team.name(), "control-plane=x"])?;
    failed(
        deploy(&team, None, &uri, &["--framework", "mlflow", "-o", "json"])?,
        "control-plane-namespace",
        &["the label `control-plane`", "deploy into another namespace"],
    )?;
    // Tidewaiter's webhook refuses it.
    let reviewed = world
        .cluster
        .namespace_with("deploy-control-told", &json!({"control-plane": "x"}))?;
    let refused = deploy(&reviewed, None, &uri, &["--framework", "mlflow"])?.ended(2)?;
    tells(&refused, &["the namespace has the label control-plane=x"])
}

fn deploy_offers_a_name_and_names_conflicts(world: &World) -> Result<()> {
    let team = world.namespace_without("deploy-names")?;
    let uri = "s3://mlflow/shared/x";
    // What is shown can be applied by hand.
    let shown = [
        "deploy",
        uri,
        "--name",
        "shown",
        "--framework",
        "mlflow",
        "--dry-run=client",
        "-o",
        "yaml",
    ];
    let shown = run(&team, None, &shown)?.ended(0)?;
    let applied = team.try_apply(&["--dry-run=server"], &shown.stdout)?;
    ensure!(
        applied.ok && applied.stdout.contains("shown created"),
        "{shown:?}\n{applied:?}"
    );
    let refused = run(
        &team,
        None,
        &["deploy", uri, "--name", "Fraud_2", "--framework", "mlflow"],
    )?
    .ended(2)?;
    tells(&refused, &["KServe refuses the name `Fraud_2`", "--name fraud-2"])?;
    let nothing = team.kubectl(&["get", "isvc", "-o", "name"])?;
    ensure!(nothing.is_empty(), "{nothing}");

    let submit = |more: &[&str]| {
        deploy(
            &team,
            None,
            uri,
            &[&["--framework", "mlflow", "--no-wait"], more].concat(),
        )
    };
    submit(&["--min-replicas", "1"])?.ended(0)?;
    team.kubectl(&[
        "patch",
        "isvc/fraud",
        "--type=merge",
        "--field-manager=somebody",
        "-p",
        r#"{"spec":{"predictor":{"minReplicas":3}}}"#,
    ])?;
    let conflict = submit(&["--min-replicas", "2"])?.ended(2)?;
    tells(
        &conflict,
        &[".spec.predictor.minReplicas by somebody", "--force-conflicts"],
    )?;
    submit(&["--min-replicas", "2", "--force-conflicts"])?.ended(0)?;
    let forced = team.get("isvc/fraud")?;
    ensure!(forced["spec"]["predictor"]["minReplicas"] == 2, "{}", forced["spec"]);

    let client = run(
        &team,
        None,
        &[
            "deploy",
            uri,
            "--name",
            "other",
            "--framework",
            "mlflow",
            "--dry-run=client",
            "-o",
            "json",
        ],
    )?
    .ended(0)?;
    let object: Value = serde_json::from_str(&client.stdout)?;
    ensure!(object["spec"]["predictor"]["model"]["storageUri"] == uri, "{object}");
    ensure!(object["spec"]["predictor"]["serviceAccountName"].is_null(), "{object}");
    let grpc = [
        "deploy",
        uri,
        "--name",
        "other",
        "--framework",
        "tensorflow",
        "--protocol",
        "grpc",
    ];
    let runtime = run(
        &team,
        None,
        &[&grpc[..], &["--runtime", "kserve-tensorflow-serving"]].concat(),
    )?
    .ended(2)?;
    tells(&runtime, &["kserve-tensorflow-serving speaks"])
}

fn deploy_makes_secrets_and_graphs(world: &World) -> Result<()> {
    let team = world.namespace_without("deploy-graph")?;
    let secret = ["secret", "create", "seed", "--s3_use_https=0"];
    run(&team, Some(MINIO_USER), &secret)?.ended(0)?;
    let made = team.get("secret/seed")?;
    ensure!(
        made["data"]["AWS_SECRET_ACCESS_KEY"].is_string(),
        "{}",
        made["metadata"]
    );
    let account = team.get("serviceaccount/seed")?;
    ensure!(account["secrets"] == json!([{"name": "seed"}]), "{account}");
    run(&team, Some(MINIO_USER), &secret)?.ended(0)?;
    // Whoever works with two stores has the other one's keys in the environment.
    let google = r#"--google_application_credentials={"type": "service_account"}"#;
    run(&team, Some(MINIO_USER), &["secret", "create", "gs", google])?.ended(0)?;
    let made = team.get("secret/gs")?["data"].clone();
    ensure!(
        made.as_object().is_some_and(|data| data.len() == 1) && made["gcloud-application-credentials.json"].is_string(),
        "other keys than Google's"
    );
    let none = tidewaiter(
        team.cluster().kubeconfig(),
        &["secret", "create", "x", "-n", team.name()],
    )?
    .ended(2)?;
    tells(&none, &["no key was given"])?;

    let graph = [
        "deploy",
        "--graph",
        "sequence",
        "--name",
        "chain",
        "--step",
        "one",
        "--step",
        "two",
        "--no-wait",
    ];
    let missing = run(&team, None, &graph)?.ended(2)?;
    tells(&missing, &["there is no service one"])?;
    for name in ["one", "two"] {
        let uri = format!("s3://mlflow/shared/{name}");
        run(&team, None, &["deploy", &uri, "--framework", "mlflow", "--no-wait"])?.ended(0)?;
    }
    run(&team, None, &graph)?.ended(0)?;
    let steps = team.get("inferencegraph/chain")?["spec"]["nodes"]["root"]["steps"].clone();
    ensure!(steps[1]["data"] == "$response", "{steps}");
    run(&team, None, &graph)?.ended(0)?;
    Ok(())
}

/// What would be stored of a deploy with these wishes, by the API server's word.
fn checked(team: &Namespace, more: &[&str]) -> Result<Said> {
    let words = ["deploy", "s3://mlflow/shared/x", "--name", "fraud"];
    let dry = ["--framework", "sklearn", "--dry-run=server", "-o", "json"];
    run(team, None, &[&words[..], &dry, more].concat())
}

fn has(said: Said, values: &Value) -> Result<()> {
    let said = said.ended(0)?;
    tells(
        &said,
        &["fraud would be submitted: the API server and its webhooks agree"],
    )?;
    let made: Value = serde_json::from_str(&said.stdout).with_context(|| format!("no JSON: {said:#?}"))?;
    for (path, value) in values.as_object().into_iter().flatten() {
        ensure!(made.pointer(path) == Some(value), "{path} isn't {value}: {made}");
    }
    Ok(())
}

fn deploy_has_every_wish_checked_and_stores_nothing(world: &World) -> Result<()> {
    let team = world.team("deploy-wishes")?;
    let standard = [
        "--min-replicas=2",
        "--max-replicas=5",
        "--scale-target=60",
        "--scale-metric=cpu",
        "--request=cpu=500m",
        "--request=memory=1Gi",
        "--limit=memory=2Gi",
        "--gpus=1",
        "--request-timeout=30",
        "--env=LEVEL=debug",
        "--arg=--workers=2",
        "--node-selector=disk=ssd",
        "--label=team=risk",
        "--annotation=house/owner=ann",
        "--transformer=house/transformer:1",
        "--explainer=house/explainer:1",
        "--service-account=models",
    ];
    has(
        checked(&team, &standard)?,
        &json!({
            "/spec/predictor/model/storageUri": "s3://mlflow/shared/x",
            "/spec/predictor/minReplicas": 2,
            "/spec/predictor/maxReplicas": 5,
            "/spec/predictor/scaleTarget": 60,
            "/spec/predictor/scaleMetric": "cpu",
            "/spec/predictor/model/resources/requests/cpu": "500m",
            "/spec/predictor/model/resources/requests/memory": "1Gi",
            "/spec/predictor/model/resources/limits/memory": "2Gi",
            "/spec/predictor/model/resources/requests/nvidia.com~1gpu": "1",
            "/spec/predictor/model/resources/limits/nvidia.com~1gpu": "1",
            "/spec/predictor/timeout": 30,
            "/spec/predictor/model/env": [{"name": "LEVEL", "value": "debug"}],
            "/spec/predictor/model/args": ["--workers=2"],
            "/spec/predictor/nodeSelector": {"disk": "ssd"},
            "/spec/predictor/serviceAccountName": "models",
            "/metadata/labels/team": "risk",
            "/metadata/annotations/house~1owner": "ann",
            "/metadata/annotations/serving.kserve.io~1autoscalerClass": "hpa",
            "/metadata/annotations/serving.kserve.io~1deploymentMode": "Standard",
            "/spec/transformer/containers/0/image": "house/transformer:1",
            "/spec/explainer/containers/0/image": "house/explainer:1",
        }),
    )?;
    let knative = [
        "--deployment-mode=Knative",
        "--scale-to-zero",
        "--max-replicas=3",
        "--scale-target=10",
        "--scale-metric=concurrency",
        "--canary-percent=10",
        "--protocol=grpc",
        "--secret=store",
    ];
    has(
        checked(&team, &knative)?,
        &json!({
            "/spec/predictor/minReplicas": 0,
            "/spec/predictor/maxReplicas": 3,
            "/spec/predictor/scaleTarget": 10,
            "/spec/predictor/scaleMetric": "concurrency",
            "/spec/predictor/canaryTrafficPercent": 10,
            "/spec/predictor/model/protocolVersion": "v2",
            "/spec/predictor/model/ports/0/name": "h2c",
            "/metadata/annotations/serving.kserve.io~1deploymentMode": "Knative",
            "/metadata/annotations/serving.kserve.io~1storageSecretName": "store",
        }),
    )?;
    // What KServe's own webhook refuses is told in its words.
    let keda = [
        "--annotation=serving.kserve.io/autoscalerClass=keda",
        "--scale-metric=cpu",
        // Tidewaiter would look for the model with its own.
        "--secret=store",
    ];
    let refused = checked(&team, &keda)?.ended(2)?;
    tells(&refused, &["ScaleMetric is not supported for KEDA"])?;
    let there = team.kubectl(&["get", "secrets,isvc", "-o", "name"])?;
    ensure!(there.is_empty(), "a dry run left {there}");
    Ok(())
}

/// The server itself doesn't run, so that KServe's manager hands it no model: what counts is what the webhook says of it, and whose the manager takes it for.
fn deploy_adds_a_model_to_a_multi_model_server(world: &World) -> Result<()> {
    let team = world.namespace_without("deploy-many")?;
    let format = json!({"name": "sklearn", "version": "1"});
    let container = json!({"name": "kserve-container", "image": "house/server-of-many:1"});
    let service = |name: &str, model: Value| {
        json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": name, "annotations": {"serving.kserve.io/stop": "true"}},
            "spec": {"predictor": {"model": model}}})
    };
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": "of-many"},
            "spec": {"multiModel": true, "protocolVersions": ["v1"], "supportedModelFormats": [format], "containers": [container]},
        },
        service("many", json!({"modelFormat": {"name": "sklearn"}, "runtime": "of-many"})),
        service("one", json!({"modelFormat": {"name": "sklearn"}, "storageUri": "s3://mlflow/shared/one"})),
    ]});
    team.apply(&objects.to_string())?;
    let uri = "s3://mlflow/shared/churn";
    let add = |server: &str, memory: &str| {
        let words = ["deploy", uri, "--name", "churn", "--framework", "sklearn"];
        let server = ["--server", server, "--memory", memory, "--no-wait"];
        run(&team, None, &[&words[..], &server[..]].concat())
    };
    let missing = add("nobody", "256Mi")?.ended(2)?;
    tells(
        &missing,
        &[&format!("there is no service nobody in namespace {}", team.name())],
    )?;
    let single = add("one", "256Mi")?.ended(2)?;
    tells(&single, &["one has a model of its own", "--server"])?;

    let said = add("many", "256Mi")?.ended(0)?;
    tells(
        &said,
        &[&format!("TrainedModel churn submitted in namespace {}", team.name())],
    )?;
    let made = team.get("trainedmodel/churn")?["spec"].clone();
    let model = json!({"storageUri": uri, "framework": "sklearn", "memory": "256Mi"});
    ensure!(made == json!({"inferenceService": "many", "model": model}), "{made}");
    world.cluster.until(
        "KServe takes the model for its server's",
        Duration::from_mins(1),
        || {
            let taken = team.get("trainedmodel/churn")?["metadata"]["finalizers"].clone();
            Ok((taken == json!(["trainedmodel.finalizer"])).then_some(()))
        },
    )?;
    let again = add("many", "256Mi")?.ended(0)?;
    tells(&again, &["churn is deployed already, and the same"])?;
    // KServe's webhook for these.
    let larger = add("many", "512Mi")?.ended(2)?;
    tells(&larger, &["memory field is immutable"])?;
    // The rest of its life goes by its own name.
    let listed = run(&team, None, &["list", "-o", "json"])?.ended(0)?;
    let listed: Value = serde_json::from_str(&listed.stdout)?;
    let churn = listed
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["name"] == "churn");
    ensure!(
        churn.is_some_and(|churn| churn["server"] == "many" && churn["framework"] == "sklearn"),
        "{listed}"
    );
    let history = run(&team, None, &["history", "churn", "-o", "json"])?.ended(0)?;
    let history: Value = serde_json::from_str(&history.stdout)?;
    ensure!(history[0]["from"] == uri && history[1].is_null(), "{history}");
    let described = run(&team, None, &["describe", "churn", "-o", "json"])?.ended(1)?;
    let described: Value = serde_json::from_str(&described.stdout)?;
    ensure!(
        described["server"] == "many" && described["unknown"].is_null(),
        "{described}"
    );
    let scaled = run(&team, None, &["scale", "churn", "--min", "2"])?.ended(2)?;
    tells(&scaled, &["is served by the Pods of service many", "run it for many"])?;
    // While its server is there: without it KServe's manager never lets go of the model, nor the namespace of itself.
    let gone = run(&team, None, &["delete", "churn", "--yes", "--no-wait"])?.ended(0)?;
    tells(&gone, &["churn is being deleted"])
}
