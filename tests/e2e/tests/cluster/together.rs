//! Deploys that meet one another, that are interrupted, and that are refused: what they leave behind is whole, or nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewaiter_e2e::command::{NO_PROFILES, Said};
use tidewaiter_e2e::install::NO_PODS;
use tidewaiter_e2e::server::command_binary;
use tidewaiter_ground::models::SavedWith::{Mlserver1_5_0, Mlserver1_7_1};
use tidewaiter_ground::slow::SlowWay;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "deploys_at_once_lose_none_without_a_word",
        false,
        deploys_at_once_lose_none_without_a_word,
    ),
    (
        "a_deploy_that_waits_is_told_of_a_later_one",
        false,
        a_deploy_that_waits_is_told_of_a_later_one,
    ),
    (
        "a_deploy_interrupted_while_it_waits_leaves_a_whole_service",
        false,
        a_deploy_interrupted_while_it_waits_leaves_a_whole_service,
    ),
    (
        "a_deploy_interrupted_while_it_uploads_leaves_nothing",
        false,
        a_deploy_interrupted_while_it_uploads_leaves_nothing,
    ),
    (
        "a_deploy_killed_at_any_moment_serves_nothing_half_written",
        false,
        a_deploy_killed_at_any_moment_serves_nothing_half_written,
    ),
    (
        "a_deploy_that_is_refused_has_uploaded_nothing",
        false,
        a_deploy_that_is_refused_has_uploaded_nothing,
    ),
    (
        "a_deploy_sends_a_model_that_policies_look_for",
        false,
        a_deploy_sends_a_model_that_policies_look_for,
    ),
];

/// Pairs of deploys until two have met: each takes less than a second.
const ROUNDS: usize = 25;
/// Deploys that are killed, each a little later than the one before.
const KILLS: u32 = 20;
const PATIENCE: Duration = Duration::from_mins(2);
/// More than one part.
const LARGE: usize = 48 << 20;

/// The command, while it runs, with a home of its own.
struct Running {
    child: Child,
    home: TempDir,
    out: PathBuf,
}

impl Running {
    fn start(namespace: &Namespace, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let out = home.path().join("said");
        let file = fs::File::create(&out)?;
        let child = Command::new(command_binary()?)
            .args(arguments)
            .args(["-n", namespace.name()])
            .env("KUBECONFIG", namespace.cluster().kubeconfig())
            .env("TIDEWAITER_PROFILES", NO_PROFILES)
            .env("HOME", home.path())
            .env("XDG_CACHE_HOME", home.path().join("cache"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { child, home, out })
    }

    fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.out)?)
    }

    /// Waits until it has said something.
    fn until(&mut self, words: &str) -> Result<()> {
        let began = Instant::now();
        while !self.said()?.contains(words) {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status} before it said `{words}`: {}", self.said()?);
            }
            ensure!(began.elapsed() < PATIENCE, "it doesn't say `{words}`: {}", self.said()?);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// As Ctrl-C does.
    fn interrupt(&self) -> Result<()> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status()?;
        ensure!(sent.success(), "kill {pid}: {sent}");
        Ok(())
    }

    fn ended(&mut self) -> Result<Said> {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if began.elapsed() > PATIENCE {
                self.child.kill()?;
                bail!("it doesn't end: {}", self.said()?);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Ok(Said {
            code: status.code(),
            stdout: String::new(),
            stderr: self.said()?,
        })
    }

    /// What it made on the way, such as packed models.
    fn scratch(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.home.path().join("cache/tidewaiter/scratch"));
        folder
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    }
}

fn keys(endpoint: &str) -> [(&str, &str); 4] {
    [
        ("AWS_ACCESS_KEY_ID", MINIO_USER),
        ("AWS_SECRET_ACCESS_KEY", MINIO_USER),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint),
    ]
}

fn minio() -> String {
    format!("http://{HOST}:{MINIO_PORT}")
}

fn history(namespace: &Namespace, name: &str) -> Result<(Vec<Value>, Value)> {
    let service = namespace.get(&format!("isvc/{name}"))?;
    let text = service["metadata"]["annotations"]["tidewaiter.dev/history"]
        .as_str()
        .context("no history")?;
    let uri = service["spec"]["predictor"]["model"]["storageUri"].clone();
    Ok((serde_json::from_str(text)?, uri))
}

/// Whoever comes second sees the first one's, or is told that it came in between: no deployment goes over another that it hasn't seen.
fn deploys_at_once_lose_none_without_a_word(world: &World) -> Result<()> {
    let team = world.namespace_without("deploy-at-once")?;
    let mut told = [0, 0];
    for round in 0..ROUNDS {
        let name = format!("fraud-{round}");
        let start = |which: &str| {
            let uri = format!("s3://mlflow/shared/{which}");
            let arguments = ["deploy", &uri, "--name", &name, "--framework", "mlflow", "--no-wait"];
            Running::start(&team, &arguments, &[])
        };
        // Of a service that isn't there yet, and of one that is.
        let before = round % 2;
        if before == 1 {
            start("zero")?.ended()?.ended(0)?;
        }
        let mut both = [start("one")?, start("two")?];
        let mut stored = 0;
        for running in &mut both {
            let said = running.ended()?;
            if said.code == Some(0) {
                stored += 1;
            } else {
                let said = said.ended(2)?;
                ensure!(said.stderr.contains("was changed meanwhile"), "{said:?}");
                ensure!(said.stderr.contains("--diff"), "{said:?}");
                told[before] += 1;
            }
        }
        let (history, uri) = history(&team, &name)?;
        ensure!(
            history.len() == before + stored && history[0]["storageUri"] == uri,
            "{stored} were stored over {before}, and the history is {history:?} with {uri}"
        );
        if told.iter().all(|told| *told > 0) {
            return Ok(());
        }
    }
    bail!("in {ROUNDS} rounds two never met both ways ({told:?}): the test shows little")
}

fn a_deploy_that_waits_is_told_of_a_later_one(world: &World) -> Result<()> {
    let team = world.namespace_without("deploy-later")?;
    let arguments = |uri: &'static str| ["deploy", uri, "--name", "fraud", "--framework", "mlflow"];
    let mut first = Running::start(&team, &arguments("s3://mlflow/shared/one"), &[])?;
    first.until("submitted")?;
    let later = [&arguments("s3://mlflow/shared/two")[..], &["--no-wait"]].concat();
    Running::start(&team, &later, &[])?.ended()?.ended(0)?;
    let said = first.ended()?.ended(1)?;
    ensure!(
        said.stderr.contains("was deployed anew by") && said.stderr.contains("with s3://mlflow/shared/two"),
        "{said:?}"
    );
    Ok(())
}

fn a_deploy_interrupted_while_it_waits_leaves_a_whole_service(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let team = world.namespace_without("deploy-sigint")?;
    let arguments = [
        "deploy",
        &uri,
        "--name",
        "fraud",
        "--framework",
        "mlflow",
        "--env",
        "A=1",
    ];
    let mut running = Running::start(&team, &arguments, &keys(&minio()))?;
    running.until("fraud submitted")?;
    running.interrupt()?;
    let said = running.ended()?.ended(130)?;
    ensure!(
        said.stderr.contains("Interrupted: fraud is submitted") && said.stderr.contains("tidewaiter delete fraud"),
        "{said:?}"
    );
    ensure!(running.scratch().is_empty(), "{:?}", running.scratch());
    // What was made for it is its own, and goes with it.
    let service = team.get("isvc/fraud")?["metadata"]["uid"].clone();
    for object in ["secret/fraud-store", "serviceaccount/fraud-store"] {
        let owner = team.get(object)?["metadata"]["ownerReferences"][0]["uid"].clone();
        ensure!(owner == service, "{object} is {owner}'s");
    }
    Ok(())
}

/// A model with a file that takes several requests.
fn large(world: &World) -> Result<TempDir> {
    let (model, _) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(&model.folder)? {
        let file = entry?.path();
        fs::copy(
            &file,
            folder.path().join(file.file_name().context("a file without a name")?),
        )?;
    }
    let bytes: Vec<u8> = (0..LARGE)
        .map(|at| u8::try_from(at % 251).unwrap_or_default())
        .collect();
    fs::write(folder.path().join("features.bin"), bytes)?;
    Ok(folder)
}

/// What the store's disk has below a folder of the bucket.
fn stored(world: &World, folder: &str) -> bool {
    let bucket = world.cluster.folder().join("minio/mlflow").join(folder);
    fs::read_dir(bucket).is_ok_and(|mut entries| entries.next().is_some())
}

fn upload(team: &Namespace, model: &Path, store: &str, endpoint: &str) -> Result<Running> {
    let model = model.display().to_string();
    let arguments = [
        "deploy",
        &model,
        "--name",
        "fraud",
        "--artifact-store",
        store,
        "--no-wait",
    ];
    Running::start(team, &arguments, &keys(endpoint))
}

fn a_deploy_interrupted_while_it_uploads_leaves_nothing(world: &World) -> Result<()> {
    const WAY: &str = "127.0.0.1:9017";
    let model = large(world)?;
    let team = world.namespace_without("deploy-sigint-upload")?;
    let way = SlowWay::open(WAY, &format!("{HOST}:{MINIO_PORT}"))?;
    way.delay(Duration::from_millis(700));
    let mut running = upload(
        &team,
        model.path(),
        "s3://mlflow/interrupted/",
        &format!("http://{WAY}"),
    )?;
    running.until("uploading")?;
    running.interrupt()?;
    let said = running.ended()?.ended(130)?;
    ensure!(said.stderr.contains("Interrupted: nothing was submitted"), "{said:?}");
    ensure!(running.scratch().is_empty(), "{:?}", running.scratch());
    let there = team.kubectl(&["get", "isvc,secrets", "-o", "name"])?;
    ensure!(there.is_empty(), "it left {there}");
    ensure!(
        !stored(world, "interrupted/fraud/manifests"),
        "half a model has a manifest"
    );

    way.delay(Duration::ZERO);
    upload(
        &team,
        model.path(),
        "s3://mlflow/interrupted/",
        &format!("http://{WAY}"),
    )?
    .ended()?
    .ended(0)?;
    ensure!(stored(world, "interrupted/fraud/manifests"), "there is no manifest");
    Ok(())
}

/// A service that names a model has all of it, and the manifest that is written last; the same deploy, run again, completes.
fn a_deploy_killed_at_any_moment_serves_nothing_half_written(world: &World) -> Result<()> {
    let model = large(world)?;
    let source = model.path().display().to_string();
    let team = world.namespace_without("deploy-killed")?;
    let store = "s3://mlflow/killed/";
    let start = |name: &str| {
        let arguments = [
            "deploy",
            &source,
            "--name",
            name,
            "--artifact-store",
            store,
            "--no-wait",
        ];
        Running::start(&team, &arguments, &keys(&minio()))
    };
    let bucket = world.cluster.folder().join("minio/mlflow");
    let is_whole = |name: &str| -> Result<bool> {
        let service = team.kubectl(&["get", "isvc", name, "--ignore-not-found", "-o", "json"])?;
        if service.is_empty() {
            return Ok(false);
        }
        let service: Value = serde_json::from_str(&service)?;
        let uri = service["spec"]["predictor"]["model"]["storageUri"].as_str();
        let key = uri.and_then(|uri| uri.strip_prefix("s3://mlflow/"));
        let key = key.with_context(|| format!("no model: {service}"))?;
        let (folder, digest) = key.rsplit_once('/').context("no folder of its own")?;
        ensure!(
            bucket.join(folder).join(format!("manifests/{digest}.json")).exists(),
            "{key} is served, and has no manifest"
        );
        for entry in fs::read_dir(model.path())? {
            let file = bucket.join(key).join(entry?.file_name());
            ensure!(file.exists(), "{key} is served without {}", file.display());
        }
        Ok(true)
    };
    let began = Instant::now();
    start("whole")?.ended()?.ended(0)?;
    let takes = began.elapsed();
    ensure!(is_whole("whole")?, "it isn't there");
    let mut killed = [0, 0];
    for round in 0..KILLS {
        let name = format!("killed-{round}");
        let mut running = start(&name)?;
        std::thread::sleep(takes * round / (KILLS - 1));
        running.child.kill()?;
        running.child.wait()?;
        killed[usize::from(is_whole(&name)?)] += 1;
        start(&name)?.ended()?.ended(0)?;
        ensure!(is_whole(&name)?, "{name} isn't there");
    }
    let [early, late] = killed;
    println!("{early} were killed before their service was there, {late} after");
    ensure!(
        early > 1,
        "it shows little: {early} were killed before their service was there"
    );
    Ok(())
}

fn a_deploy_that_is_refused_has_uploaded_nothing(world: &World) -> Result<()> {
    let model = large(world)?;
    let team = world.namespace("deploy-refused")?;
    // Nobody granted this prefix to the team.
    let said = upload(&team, model.path(), "s3://mlflow/another-team/", &minio())?
        .ended()?
        .ended(2)?;
    ensure!(
        said.stderr.contains("#ml-platform") && !said.stderr.contains("uploading"),
        "{said:?}"
    );
    ensure!(!stored(world, "another-team"), "it was uploaded all the same");
    Ok(())
}

/// By the policies as they ship: a service whose model isn't there is refused, and the model isn't there before it is sent.
fn a_deploy_sends_a_model_that_policies_look_for(world: &World) -> Result<()> {
    world.tidewaiter()?;
    let (model, _) = world.model("churn", Mlserver1_5_0, "mlflow")?;
    let (no_pods, none) = NO_PODS;
    let team = world
        .cluster
        .namespace_with("deploy-looked-for", &json!({no_pods: none}))?;
    let store = format!("s3://mlflow/{}/", team.name());
    for flag in ["--diff", "--dry-run=server"] {
        let source = model.folder.display().to_string();
        let arguments = ["deploy", &source, "--name", "fraud", "--artifact-store", &store, flag];
        let said = Running::start(&team, &arguments, &keys(&minio()))?.ended()?;
        ensure!(
            said.code == Some(i32::from(flag == "--diff")) && !said.stderr.contains("allow-missing-model"),
            "{said:?}"
        );
        ensure!(!stored(world, team.name()), "{flag} has uploaded it");
    }
    upload(&team, &model.folder, &store, &minio())?.ended()?.ended(0)?;
    let service = team.get("isvc/fraud")?;
    let annotations = &service["metadata"]["annotations"];
    ensure!(
        annotations["tidewaiter.dev/allow-missing-model"].is_null()
            && annotations["serving.kserve.io/storageSecretName"].is_string(),
        "{annotations}"
    );
    // As from the model itself, which was not there when the API server was asked first.
    let version = &service["spec"]["predictor"]["model"]["runtimeVersion"];
    ensure!(version == "1.5.0", "{service}");
    Ok(())
}
