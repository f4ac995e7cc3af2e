//! The command as a person has it at hand: a plugin of kubectl, a terminal that asks, profiles, a file beside the model.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::command::{NO_PROFILES, Said, store_keys};
use tidewaiter_e2e::server::command_binary;
use tidewaiter_ground::models::SavedWith::Mlserver1_7_1;
use tidewaiter_ground::{MINIO_USER, Namespace};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "at_hand_kubectl_runs_it_as_its_plugin",
        false,
        at_hand_kubectl_runs_it_as_its_plugin,
    ),
    (
        "at_hand_a_terminal_asks_before_it_deletes",
        false,
        at_hand_a_terminal_asks_before_it_deletes,
    ),
    (
        "at_hand_flags_are_stronger_than_variables_and_these_than_profiles",
        false,
        at_hand_flags_are_stronger_than_variables_and_these_than_profiles,
    ),
    (
        "at_hand_a_profile_leads_to_its_cluster_with_its_secret",
        false,
        at_hand_a_profile_leads_to_its_cluster_with_its_secret,
    ),
    (
        "at_hand_a_file_beside_the_model_says_how_it_is_deployed",
        false,
        at_hand_a_file_beside_the_model_says_how_it_is_deployed,
    ),
    (
        "at_hand_what_is_no_model_is_told_and_leaves_nothing",
        false,
        at_hand_what_is_no_model_is_told_and_leaves_nothing,
    ),
    (
        "at_hand_a_service_of_modelmesh_is_left_alone",
        false,
        at_hand_a_service_of_modelmesh_is_left_alone,
    ),
];

/// What no test here waits for.
const STOPPED: [&str; 3] = ["--no-wait", "--annotation", "serving.kserve.io/stop=true"];

/// The command, with the store's keys and an artifact store of the namespace's own.
fn command(namespace: &Namespace, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(command_binary()?);
    command
        .args(words)
        .env("KUBECONFIG", namespace.cluster().kubeconfig())
        .env("TIDEWAITER_PROFILES", NO_PROFILES)
        .env("TIDEWAITER_ARTIFACT_STORE", store(namespace))
        .envs(store_keys(MINIO_USER))
        .stdin(Stdio::null());
    Ok(command)
}

fn store(namespace: &Namespace) -> String {
    format!("s3://mlflow/shared/{}/", namespace.name())
}

fn run(namespace: &Namespace, words: &[&str]) -> Result<Said> {
    let words = [words, &["-n", namespace.name()]].concat();
    Ok(Said::from(command(namespace, &words)?.output()?))
}

fn is_there(namespace: &Namespace, name: &str) -> Result<bool> {
    let there = namespace.kubectl(&["get", "isvc", "-o", "name"])?;
    Ok(there.lines().any(|line| line.ends_with(&format!("/{name}"))))
}

fn at_hand_kubectl_runs_it_as_its_plugin(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let team = world.team("plugin")?;
    run(&team, &[&["deploy", &uri, "--name", "fraud"][..], &STOPPED].concat())?.ended(0)?;
    let folder = tempfile::tempdir()?;
    symlink(command_binary()?, folder.path().join("kubectl-tidewaiter"))?;
    let mut path = OsString::from(folder.path());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let plugin = |words: &[&str]| {
        let mut kubectl = world.cluster.kubectl_command();
        kubectl.arg("tidewaiter").args(words).env("PATH", &path);
        Ok::<_, anyhow::Error>(Said::from(kubectl.env("TIDEWAITER_PROFILES", NO_PROFILES).output()?))
    };
    let list = plugin(&["list", "-n", team.name()])?.ended(0)?;
    ensure!(list.stdout.contains("fraud"), "{list:?}");
    // What it says to type next can be typed.
    let help = plugin(&["deploy", "--help"])?.ended(0)?;
    ensure!(help.stdout.contains("Usage: kubectl tidewaiter deploy"), "{help:?}");
    Ok(())
}

/// `script` of util-linux gives it a terminal.
fn at_hand_a_terminal_asks_before_it_deletes(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let team = world.team("asks")?;
    run(&team, &[&["deploy", &uri, "--name", "fraud"][..], &STOPPED].concat())?.ended(0)?;
    let delete = |answer: &str| {
        let words = format!("{} delete fraud -n {}", command_binary()?.display(), team.name());
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &words, "/dev/null"])
            .env("KUBECONFIG", world.cluster.kubeconfig())
            .env("TIDEWAITER_PROFILES", NO_PROFILES)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut script = script.spawn().context("script of util-linux can't be started")?;
        let mut terminal = script.stdin.take().context("no terminal")?;
        terminal.write_all(format!("{answer}\n").as_bytes())?;
        let output = script.wait_with_output()?;
        drop(terminal);
        Ok::<_, anyhow::Error>(Said::from(output))
    };
    let kept = delete("n")?.ended(1)?;
    ensure!(
        kept.stdout.contains("[y/N]") && kept.stdout.contains("Nothing was done."),
        "{kept:?}"
    );
    ensure!(is_there(&team, "fraud")?, "deleted against the user's word: {kept:?}");
    let gone = delete("y")?.ended(0)?;
    ensure!(!is_there(&team, "fraud")?, "it is still there: {gone:?}");
    Ok(())
}

fn at_hand_flags_are_stronger_than_variables_and_these_than_profiles(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let [by_profile, by_variable, by_flag] = ["by-profile", "by-variable", "by-flag"].map(|name| world.team(name));
    let (by_profile, by_variable, by_flag) = (by_profile?, by_variable?, by_flag?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("profiles.yaml");
    let with_profile = |words: &[&str], variable: Option<&str>| {
        let mut command = command(&by_profile, words)?;
        command.env("TIDEWAITER_PROFILES", &file);
        if let Some(namespace) = variable {
            command.env("TIDEWAITER_NAMESPACE", namespace);
        }
        Said::from(command.output()?).ended(0)
    };
    let place = format!("kubernetes_namespace={}", by_profile.name());
    with_profile(&["profile", "set", "house", &place], None)?;
    let deploy = [&["deploy", &uri, "--name", "fraud"][..], &STOPPED].concat();
    let flag = [&deploy[..], &["--namespace", by_flag.name()]].concat();
    for (words, variable, expected) in [
        (&deploy, None, &by_profile),
        (&deploy, Some(by_variable.name()), &by_variable),
        (&flag, Some(by_variable.name()), &by_flag),
    ] {
        ensure!(!is_there(expected, "fraud")?, "{} has it already", expected.name());
        let told = with_profile(words, variable)?;
        ensure!(is_there(expected, "fraud")?, "not in {}: {told:?}", expected.name());
    }
    // Which of them holds is told.
    let shown = with_profile(&["profile", "show"], Some(by_variable.name()))?;
    ensure!(
        shown.stdout.contains(by_variable.name()) && shown.stdout.contains("TIDEWAITER_NAMESPACE"),
        "{shown:?}"
    );
    Ok(())
}

/// The kubeconfig's current context leads nowhere; a profile, a variable or a flag name the one that leads here.
fn at_hand_a_profile_leads_to_its_cluster_with_its_secret(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let team = world.team("contexts")?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    fs::copy(world.cluster.kubeconfig(), &kubeconfig)?;
    let config = |words: &[&str]| {
        let mut kubectl = world.cluster.kubectl_command();
        kubectl.arg("config").args(words).env("KUBECONFIG", &kubeconfig);
        let said = Said::from(kubectl.output()?).ended(0)?;
        Ok::<_, anyhow::Error>(said.stdout.trim().to_owned())
    };
    config(&["rename-context", &config(&["current-context"])?, "here"])?;
    config(&["set-cluster", "nowhere", "--server=https://127.0.0.1:9"])?;
    config(&["set-context", "elsewhere", "--cluster=nowhere"])?;
    config(&["use-context", "elsewhere"])?;

    let run = |words: &[&str], variable: Option<&str>| {
        let mut command = command(&team, words)?;
        command
            .env("KUBECONFIG", &kubeconfig)
            .env("TIDEWAITER_PROFILES", folder.path().join("profiles.yaml"))
            .envs(variable.map(|context| ("TIDEWAITER_CONTEXT", context)));
        Ok::<_, anyhow::Error>(Said::from(command.output()?))
    };
    let deploy = |name, more: &[&str], variable| {
        let words = ["deploy", &uri, "--name", name, "-n", team.name()];
        run(&[&words[..], more, &STOPPED].concat(), variable)
    };
    let lost = deploy("lost", &[], None)?.ended(2)?;
    ensure!(lost.stderr.contains("127.0.0.1:9"), "{lost:?}");
    deploy("by-flag", &["--context", "here"], Some("elsewhere"))?.ended(0)?;
    deploy("by-variable", &[], Some("here"))?.ended(0)?;
    run(
        &["profile", "set", "house", "kubernetes_context=here", "secret=house"],
        None,
    )?
    .ended(0)?;
    run(&["secret", "create", "house", "-n", team.name()], None)?.ended(0)?;
    deploy("by-profile", &[], None)?.ended(0)?;
    for name in ["by-flag", "by-variable", "by-profile"] {
        ensure!(is_there(&team, name)?, "{name} isn't there");
    }
    let service = team.get("isvc/by-profile")?;
    ensure!(
        service["metadata"]["annotations"]["serving.kserve.io/storageSecretName"] == "house",
        "{service}"
    );
    Ok(())
}

/// A folder with the model's one file, and others.
fn folder_of(world: &World, files: &[(&str, &str)]) -> Result<tempfile::TempDir> {
    let (model, _) = world.model("plain_sklearn", Mlserver1_7_1, "mlflow")?;
    let folder = tempfile::tempdir()?;
    fs::copy(model.folder.join("model.joblib"), folder.path().join("model.joblib"))?;
    for (name, text) in files {
        fs::write(folder.path().join(name), text)?;
    }
    Ok(folder)
}

fn at_hand_a_file_beside_the_model_says_how_it_is_deployed(world: &World) -> Result<()> {
    let team = world.team("beside")?;
    let wished = json!({"name": "beside", "minReplicas": 2, "maxReplicas": 5, "env": {"MODE": "quiet"}});
    let folder = folder_of(world, &[("tidewaiter.yaml", &wished.to_string())])?;
    let deploy = |more: &[&str]| {
        let source = folder.path().display().to_string();
        run(&team, &[&["deploy", &source][..], more, &STOPPED].concat())?.ended(0)?;
        Ok::<_, anyhow::Error>(team.get("isvc/beside")?["spec"]["predictor"].clone())
    };
    let predictor = deploy(&[])?;
    let has = |predictor: &Value, least: u8| {
        let environment = json!({"name": "MODE", "value": "quiet"});
        let has_it = predictor["model"]["env"]
            .as_array()
            .is_some_and(|all| all.contains(&environment));
        predictor["minReplicas"] == least && predictor["maxReplicas"] == 5 && has_it
    };
    ensure!(has(&predictor, 2), "{predictor}");
    // It is no part of the model: whoever wishes something else sends nothing again.
    let before = predictor["model"]["storageUri"].clone();
    let predictor = deploy(&["--min-replicas", "3"])?;
    ensure!(
        has(&predictor, 3) && predictor["model"]["storageUri"] == before,
        "{predictor}"
    );
    Ok(())
}

fn at_hand_what_is_no_model_is_told_and_leaves_nothing(world: &World) -> Result<()> {
    let team = world.team("no-model")?;
    let no_model = tempfile::tempdir()?;
    fs::write(no_model.path().join("README.md"), "Nothing is here.\n")?;
    let two = folder_of(world, &[("model.json", r#"{"learner": {}, "version": [1, 7, 6]}"#)])?;
    let one = folder_of(world, &[])?;
    let nowhere = no_model.path().join("nowhere");
    let deploy = |folder: &Path, more: &[&str]| {
        let source = folder.display().to_string();
        run(
            &team,
            &[&["deploy", &source, "--name", "fraud"][..], more, &STOPPED].concat(),
        )?
        .ended(2)
    };
    for (folder, more, parts) in [
        (no_model.path(), &[][..], &["README.md", "hint"][..]),
        (two.path(), &[], &["model.joblib", "model.json", "name one of them"]),
        (
            one.path(),
            &["--framework", "tensorflow"],
            &["is no tensorflow model: there is model.joblib"],
        ),
        (&nowhere, &[], &["nowhere"]),
    ] {
        let told = deploy(folder, more)?;
        for part in parts {
            ensure!(
                told.stderr.contains(part),
                "{}: no {part} in {told:#?}",
                folder.display()
            );
        }
    }
    let bad_name = one.path().display().to_string();
    let told = run(
        &team,
        &[&["deploy", &bad_name, "--name", "Fraud_Model"][..], &STOPPED].concat(),
    )?
    .ended(2)?;
    ensure!(told.stderr.contains("fraud-model"), "{told:?}");
    let there = team.kubectl(&["get", "secrets,serviceaccounts,isvc", "-o", "name"])?;
    ensure!(there.trim() == "serviceaccount/default", "there is {there}");
    let kept = world.cluster.folder().join("minio/mlflow/shared").join(team.name());
    ensure!(!kept.exists(), "the store has {}", kept.display());
    Ok(())
}

fn at_hand_a_service_of_modelmesh_is_left_alone(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let team = world.team("mesh")?;
    let mesh = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "fraud", "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}}}});
    team.apply(&mesh.to_string())?;
    let before = team.get("isvc/fraud")?["spec"].clone();
    let told = run(&team, &["deploy", &uri, "--name", "fraud", "--no-wait"])?.ended(2)?;
    ensure!(
        told.stderr.contains("ModelMesh, which this command leaves alone"),
        "{told:?}"
    );
    ensure!(team.get("isvc/fraud")?["spec"] == before, "it was changed");
    Ok(())
}
