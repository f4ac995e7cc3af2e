//! The deployer: uploads beside the usual tools, its memory, and a deploy that changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidewaiter_e2e::server::COMMAND;
use tidewaiter_ground::tools::Kserve;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, Namespace, Options};
use tidewaiter_store::FRAUD;

use crate::on_ground;
use crate::report::{middle, millis, round};
use crate::uploads::{Ground, LARGE, MODEST, SHARDS, SMALL, Set, Times};

/// No Pod has to run for a service to be the same.
const GROUND: Options = Options {
    node: false,
    kserve: Kserve::V0_20,
};
const RUNS: usize = 15;

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let ground = Ground::start(command()?)?;
    let modest = ground.measure(MODEST)?;
    let large = ground.measure(LARGE)?;
    let small = ground.measure(SMALL)?;
    let shards = ground.measure(SHARDS)?;
    drop(ground);
    let mut noop: Vec<Duration> = on_ground::measure("noop", GROUND)?;
    noop.sort_unstable();
    let noop_ms = millis(noop[noop.len() / 2]);
    let resident = large.resident.max(small.resident).max(shards.resident);
    if json {
        let figures = json!({
            "upload_vs_best_large": round(against_the_best(&large)),
            "upload_vs_best_small": round(against_the_best(&small)),
            "rss_mib": round(mebibytes(resident)),
            "noop_ms": round(noop_ms),
        });
        println!("{figures}");
        return Ok(());
    }
    println!(
        "{:<28}{:>12}{:>12}{:>12}{:>22}",
        "upload to MinIO, s", "tidewaiter", "aws s3 cp", "mc cp", "best of both / ours"
    );
    for (set, times) in [(LARGE, &large), (SMALL, &small), (SHARDS, &shards)] {
        row(set, times);
    }
    println!(
        "\n{:<28}{:>8.1} MiB ({:.1} MiB with {})",
        "resident at most",
        mebibytes(resident),
        mebibytes(modest.resident),
        MODEST.name
    );
    println!("{:<28}{noop_ms:>8.0} ms", "a deploy that changes nothing");
    Ok(())
}

/// The command: the one that `TIDEWAITER_COMMAND` names, else the one that was built beside this program.
fn command() -> Result<PathBuf> {
    let command = match std::env::var_os(COMMAND) {
        Some(command) => PathBuf::from(command),
        None => std::env::current_exe()?.with_file_name("tidewaiter"),
    };
    ensure!(
        command.is_file(),
        "{} is missing: start this by `cargo xtask bench --deployer`, which builds it",
        command.display()
    );
    Ok(command)
}

fn row(set: Set, times: &Times) {
    let seconds = |times: &[Duration]| middle(times.iter().map(Duration::as_secs_f64).collect());
    println!(
        "{:<28}{:>12.2}{:>12.2}{:>12.2}{:>22.2}",
        set.name,
        seconds(&times.ours),
        seconds(&times.aws),
        seconds(&times.mc),
        against_the_best(times)
    );
}

/// How much faster than the better of the two others, the median of the rounds: each round's three were on the machine as it was then.
fn against_the_best(times: &Times) -> f64 {
    let rounds = times.ours.iter().zip(&times.aws).zip(&times.mc);
    middle(
        rounds
            .map(|((ours, aws), mc)| aws.min(mc).as_secs_f64() / ours.as_secs_f64())
            .collect(),
    )
}

/// The part inside of the cluster's namespaces.
pub(crate) fn inside(figures: &Path) -> Result<()> {
    on_ground::tell(figures, on_a_cluster())
}

/// The whole time of the process, with what the API server takes of it.
fn on_a_cluster() -> Result<Vec<Duration>> {
    let cluster = on_ground::cluster(GROUND)?;
    let namespace = cluster.namespace("noop")?;
    let model = tempfile::tempdir()?;
    for (name, content) in FRAUD {
        fs::write(model.path().join(name), content)?;
    }
    deploy(&namespace, model.path(), "submitted")?;
    // KServe's controller has its first look at the service.
    std::thread::sleep(Duration::from_secs(2));
    (0..RUNS)
        .map(|_| deploy(&namespace, model.path(), "nothing was done"))
        .collect()
}

/// As its user does: a folder that is hashed, looked for in the store and identified, with the key that the service is to have.
fn deploy(namespace: &Namespace, model: &Path, wanted: &str) -> Result<Duration> {
    let mut command = Command::new(command()?);
    command
        .arg("deploy")
        .arg(model)
        .args(["--name", "fraud", "--artifact-store", "s3://mlflow/bench/"])
        .args(["--no-wait", "-n", namespace.name()])
        .env_clear()
        // A folder that goes with the cluster: an upload leaves a journal there.
        .env("HOME", namespace.cluster().folder())
        .env("AWS_ENDPOINT_URL", format!("http://{HOST}:{MINIO_PORT}"))
        .env("AWS_ACCESS_KEY_ID", MINIO_USER)
        .env("AWS_SECRET_ACCESS_KEY", MINIO_USER)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("KUBECONFIG", namespace.cluster().kubeconfig())
        .stdin(Stdio::null());
    let began = Instant::now();
    let said = command.output().context("can't start the command")?;
    let took = began.elapsed();
    let told = String::from_utf8_lossy(&said.stderr);
    ensure!(
        said.status.success() && told.contains(wanted),
        "no `{wanted}` in: {told}"
    );
    Ok(took)
}

#[expect(clippy::cast_precision_loss, reason = "a size with two digits")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
