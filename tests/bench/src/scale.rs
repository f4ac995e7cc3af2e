//! A large cluster: a thousand namespaces with ten services each, whose backend's keys are rotated; and replicas that roll while services come.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::install_chart;
use tidewaiter_e2e::install::{NAMESPACE, backend, install_from, make_up_all_models};
use tidewaiter_ground::images::PAUSE;
use tidewaiter_ground::tools::Kserve;
use tidewaiter_ground::{Cluster, MINIO_USER, Options};

use crate::on_ground;

/// No Pod has to run for keys to be rotated.
const ROTATION: Options = Options {
    node: false,
    kserve: Kserve::V0_20,
};
/// Tidewaiter's own Pods roll.
const ROLLING: Options = Options {
    node: true,
    kserve: Kserve::V0_20,
};
const NAMESPACES: usize = 1000;
const SERVICES: usize = 10;
/// Who creates services at once.
const USERS: usize = 8;
/// How long each side of the comparison takes, how often, one after the other, so that what a machine does at other times strikes all of them, and how often a
/// service is created meanwhile.
const PHASE: Duration = Duration::from_mins(1);
const ROUNDS: usize = 3;
/// Between two of them.
const SETTLED: Duration = Duration::from_secs(40);
const EVERY: Duration = Duration::from_millis(100);

#[derive(Serialize, Deserialize)]
pub(crate) struct Rotation {
    /// From the new key to the last namespace that has it.
    took: Duration,
    /// Tidewaiter's requests meanwhile, of any kind.
    calls: usize,
    /// In the replica that leads: the most until all of them are created,
    rss_creating_mib: f64,
    /// before the new key,
    rss_before_mib: f64,
    /// and the most from then on.
    rss_mib: f64,
    /// The most of a replica that starts where all that is there, until it leads and has rotated keys in its turn.
    rss_of_new_mib: f64,
    services: usize,
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Rolling {
    steady: Vec<Duration>,
    /// While Pods that have nothing to do with it roll.
    others: Vec<Duration>,
    rolls_of_others: usize,
    meanwhile: Vec<Duration>,
    rolls: usize,
}

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let rotation: Rotation = on_ground::measure("rotation", ROTATION)?;
    let rolling: Rolling = on_ground::measure("rolling", ROLLING)?;
    let [steady, others, while_rolling] =
        [&rolling.steady, &rolling.others, &rolling.meanwhile].map(|times| p99(times).as_secs_f64());
    let (ratio, beyond) = (while_rolling / steady, while_rolling / others);
    let took = rotation.took.as_secs_f64();
    if json {
        let figures = json!({
            "rotation_1000_s": round(took),
            "api_calls": rotation.calls,
            "rss_creating_mib": round(rotation.rss_creating_mib),
            "rss_before_mib": round(rotation.rss_before_mib),
            "rss_mib": round(rotation.rss_mib),
            "rss_of_new_leader_mib": round(rotation.rss_of_new_mib),
            "apply_p99_rolling_vs_steady": round(ratio),
            "apply_p99_rolling_vs_others_rolling": round(beyond),
        });
        println!("{figures}");
        return Ok(());
    }
    println!("{NAMESPACES} namespaces, {} services", rotation.services);
    println!("{:<62}{took:>10.1} s", "a rotated key in all of them");
    println!("{:<62}{:>10}", "requests to the API server meanwhile", rotation.calls);
    println!(
        "{:<62}{:>10.1} MiB",
        "at most while they were created, in the replica that leads", rotation.rss_creating_mib
    );
    println!(
        "{:<62}{:>10.1} MiB",
        "resident before the new key", rotation.rss_before_mib
    );
    println!("{:<62}{:>10.1} MiB", "at most meanwhile", rotation.rss_mib);
    println!(
        "{:<62}{:>10.1} MiB",
        "at most in a replica that starts, leads and rotates", rotation.rss_of_new_mib
    );
    println!("\ncreating a service through the API server, p99");
    println!("{:<62}{:>10.1} ms", "steady", steady * 1e3);
    let label = format!("while Pods that only sleep roll, {} times", rolling.rolls_of_others);
    println!("{label:<62}{:>10.1} ms", others * 1e3);
    let label = format!("while replicas roll, {} times", rolling.rolls);
    println!("{label:<62}{:>10.1} ms", while_rolling * 1e3);
    println!("{:<62}{ratio:>10.2}", "rolling / steady");
    println!("{:<62}{beyond:>10.2}", "rolling / others rolling");
    Ok(())
}

fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

fn p99(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
        .get((times.len() * 99 / 100).min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// The part with many namespaces, inside of the ground.
pub(crate) fn rotation(figures: &Path) -> Result<()> {
    on_ground::tell(figures, rotate())
}

/// The part with replicas that roll, inside of the ground.
pub(crate) fn rolling(figures: &Path) -> Result<()> {
    on_ground::tell(figures, roll())
}

fn rotate() -> Result<Rotation> {
    let cluster = on_ground::cluster(ROTATION)?;
    without_kserve(&cluster)?;
    let own = std::env::current_exe()?;
    let start = || {
        let webhook = || {
            let mut command = Command::new(&own);
            command.arg("webhook");
            command
        };
        install_from(&cluster, webhook)
    };
    let _tidewaiter = start()?;
    apply(&cluster, &backend("scale", "scale", &["s3://scale/"]))?;
    make_up_all_models(&cluster)?;
    until_filled_in(&cluster)?;
    eprintln!("creating {NAMESPACES} namespaces with {SERVICES} services each");
    let next = AtomicUsize::new(0);
    scope(|users| -> Result<()> {
        let users: Vec<_> = (0..USERS).map(|_| users.spawn(|| fill(&cluster, &next))).collect();
        for user in users {
            user.join().map_err(|_| anyhow::anyhow!("a user panicked"))??;
        }
        Ok(())
    })?;
    ensure!(
        copies(&cluster, None)? == NAMESPACES,
        "not every namespace has its credentials"
    );
    // What the leader's watches bring is taken in by now.
    sleep(Duration::from_secs(20));
    let (rss_creating_mib, rss_before_mib) = (memory(&cluster, "VmHWM")?, memory(&cluster, "VmRSS")?);
    forget_peak(&cluster)?;

    let before = written(&cluster)?;
    let took = rotate_to(&cluster, "rotated-by-the-benchmark")?;
    let (calls, rss_mib) = (calls(&cluster, before)?, memory(&cluster, "VmHWM")?);
    cluster.processes().stop("tidewaiter")?;
    // To be installed again gives the backend its first key again.
    let _next = start()?;
    rotate_to(&cluster, MINIO_USER)?;
    rotate_to(&cluster, "rotated-by-the-next")?;
    Ok(Rotation {
        took,
        calls,
        rss_creating_mib,
        rss_before_mib,
        rss_mib,
        rss_of_new_mib: memory(&cluster, "VmHWM")?,
        services: NAMESPACES * SERVICES,
    })
}

/// Gives the backend another key, and says how long it took until every namespace had it.
fn rotate_to(cluster: &Cluster, key: &str) -> Result<Duration> {
    let secret = json!({"stringData": {"rootPassword": key}});
    cluster.kubectl(&[
        "patch",
        "secret",
        "minio-root",
        "-n",
        NAMESPACE,
        "-p",
        &secret.to_string(),
    ])?;
    let start = Instant::now();
    let mut seen = 0;
    loop {
        let now = copies(cluster, Some(key))?;
        if now == NAMESPACES {
            return Ok(start.elapsed());
        }
        if now / 200 > seen / 200 {
            eprintln!("{now} of {NAMESPACES} namespaces have the new key");
        }
        seen = now;
        if start.elapsed() > Duration::from_mins(5) {
            bail!("after 5 minutes {now} of {NAMESPACES} namespaces have the new key");
        }
        sleep(Duration::from_millis(500));
    }
}

fn roll() -> Result<Rolling> {
    let cluster = on_ground::cluster(ROLLING)?;
    without_kserve(&cluster)?;
    let release = install_chart(&cluster, &json!({}))?;
    release.until_ready(2)?;
    apply(&cluster, &backend("scale", "scale", &["s3://scale/"]))?;
    until_filled_in(&cluster)?;
    let namespace = cluster.namespace("rolling")?;
    sleepers(&cluster)?;
    let roll = |deployment: &str| roll_once(&cluster, deployment);
    roll("sleeps")?;
    let mut rolling = Rolling::default();
    for round in 0..ROUNDS {
        if round > 0 {
            // What was replaced has drained, and who leads now has looked at what came.
            sleep(SETTLED);
        }
        eprintln!(
            "creating services steadily, and while Pods roll: round {} of {ROUNDS}",
            round + 1
        );
        let during = |name: &str, meanwhile: &(dyn Fn() -> Result<()> + Sync)| {
            create_for(&cluster, namespace.name(), &format!("{name}-{round}"), meanwhile)
        };
        rolling.steady.extend(during("steady", &|| Ok(()))?.0);
        let (others, rolls) = during("others", &|| roll("sleeps"))?;
        rolling.others.extend(others);
        rolling.rolls_of_others += rolls;
        let (meanwhile, rolls) = during("rolling", &|| roll("tidewaiter"))?;
        rolling.meanwhile.extend(meanwhile);
        rolling.rolls += rolls;
    }
    Ok(rolling)
}

/// Replaces all Pods of a Deployment of the release's, as `kubectl rollout restart` does; without a kubectl, whose processes would take as much of the machine
/// as a Pod that starts.
fn roll_once(cluster: &Cluster, deployment: &str) -> Result<()> {
    let api = cluster.api()?;
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{deployment}");
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let template = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": since.to_string()}}});
    let changed = api.change(&path, &json!({"spec": {"template": template}}))?;
    let generation = changed["metadata"]["generation"].as_i64();
    cluster.until("all Pods are replaced", Duration::from_mins(2), || {
        let (wanted, status) = (&changed["spec"]["replicas"], &api.get(&path)?["status"]);
        let all = ["replicas", "updatedReplicas", "availableReplicas"];
        let done =
            status["observedGeneration"].as_i64() >= generation && all.iter().all(|count| status[count] == *wanted);
        Ok(done.then_some(()))
    })
}

/// Makes a Deployment `sleeps` with a Service: the chart's own in all that the API server, the controllers and the node have to do for it, but what runs in it
/// does nothing, and nobody asks it whether it is ready.
fn sleepers(cluster: &Cluster) -> Result<()> {
    let mut deployment = cluster.get(NAMESPACE, "deployment/tidewaiter")?;
    let mut service = cluster.get(NAMESPACE, "service/tidewaiter")?;
    let labels = json!({"app": "sleeps"});
    for object in [&mut deployment, &mut service] {
        object["metadata"] = json!({"name": "sleeps", "namespace": NAMESPACE});
        without(object, &["status"]);
    }
    deployment["spec"]["selector"] = json!({"matchLabels": labels});
    let template = &mut deployment["spec"]["template"];
    template["metadata"] = json!({"labels": labels});
    let container = &mut template["spec"]["containers"][0];
    container["image"] = PAUSE.into();
    without(
        container,
        &[
            "command",
            "args",
            "readinessProbe",
            "livenessProbe",
            "startupProbe",
            "lifecycle",
        ],
    );
    service["spec"]["selector"] = labels;
    without(&mut service["spec"], &["clusterIP", "clusterIPs"]);
    apply(cluster, &deployment)?;
    apply(cluster, &service)
}

fn without(object: &mut Value, keys: &[&str]) {
    if let Some(object) = object.as_object_mut() {
        object.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// Creates services for [`PHASE`], while `meanwhile` is done again and again.
fn create_for(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    meanwhile: impl Fn() -> Result<()> + Sync,
) -> Result<(Vec<Duration>, usize)> {
    let api = cluster.api()?;
    let over = Instant::now() + PHASE;
    scope(|threads| {
        let other = threads.spawn(|| -> Result<usize> {
            let mut count = 0;
            while Instant::now() < over {
                meanwhile()?;
                count += 1;
                sleep(Duration::from_millis(100));
            }
            Ok(count)
        });
        let mut times = Vec::new();
        while Instant::now() < over {
            let began = Instant::now();
            let answer = api.create(namespace, &service(&format!("{name}-{}", times.len())))?;
            times.push(began.elapsed());
            ensure!(answer.admitted(), "{}", answer.message());
            sleep(EVERY.saturating_sub(began.elapsed()));
        }
        let count = other
            .join()
            .map_err(|_| anyhow::anyhow!("the other thread panicked"))??;
        Ok((times, count))
    })
}

/// KServe would make Deployments for ten thousand services; what is measured here is Tidewaiter.
fn without_kserve(cluster: &Cluster) -> Result<()> {
    cluster.processes().stop("kserve-manager")?;
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let names = cluster.kubectl(&["get", kind, "-o", "name"])?;
        for name in names.lines().filter(|name| name.contains("kserve")) {
            cluster.kubectl(&["delete", name])?;
        }
    }
    Ok(())
}

fn until_filled_in(cluster: &Cluster) -> Result<()> {
    let api = cluster.api()?;
    cluster.until("the webhook knows the backend", Duration::from_mins(1), || {
        let answer = api.would_create("default", &service("first"))?;
        Ok(answer
            .warnings
            .iter()
            .any(|line| line.contains("tidewaiter: "))
            .then_some(()))
    })
}

fn fill(cluster: &Cluster, next: &AtomicUsize) -> Result<()> {
    let api = cluster.api()?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= NAMESPACES {
            return Ok(());
        }
        let namespace = format!("scale-{number}");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let made = api.create_namespace(&object)?;
        ensure!(made.admitted(), "{}", made.message());
        for service_number in 0..SERVICES {
            let answer = api.create(&namespace, &service(&format!("model-{service_number}")))?;
            ensure!(answer.admitted(), "{}", answer.message());
        }
        if number % 100 == 99 {
            eprintln!("{} namespaces", number + 1);
        }
    }
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://scale/model"}}},
    })
}

/// How many namespaces have the credentials, with this key if one is given.
fn copies(cluster: &Cluster, key: Option<&str>) -> Result<usize> {
    let list = cluster.kubectl(&[
        "get",
        "secrets",
        "-A",
        "-l",
        "tidewaiter.dev/backend=scale",
        "-o",
        "json",
    ])?;
    let list: Value = serde_json::from_str(&list)?;
    let wanted = key.map(|key| STANDARD.encode(key));
    let secrets = list["items"].as_array().context("no list of Secrets")?;
    let has = |secret: &&Value| {
        wanted
            .as_ref()
            .is_none_or(|wanted| secret["data"]["AWS_SECRET_ACCESS_KEY"] == **wanted)
    };
    Ok(secrets.iter().filter(has).count())
}

/// How long the API server's log of requests is.
fn written(cluster: &Cluster) -> Result<u64> {
    Ok(fs::metadata(cluster.audit_log())?.len())
}

/// Tidewaiter's requests that stand there from then on. A watch is one when it ends.
fn calls(cluster: &Cluster, from: u64) -> Result<usize> {
    let mut log = File::open(cluster.audit_log())?;
    log.seek(SeekFrom::Start(from))?;
    let account = format!("\"username\":\"system:serviceaccount:{NAMESPACE}:tidewaiter\"");
    let mut calls = 0;
    for line in BufReader::new(log).lines() {
        calls += usize::from(line?.contains(&account));
    }
    Ok(calls)
}

fn process(cluster: &Cluster) -> Result<PathBuf> {
    let pid = cluster.processes().pid("tidewaiter").context("the webhook has ended")?;
    Ok(PathBuf::from(format!("/proc/{pid}")))
}

/// What the kernel says of the webhook's memory under this name, in MiB.
fn memory(cluster: &Cluster, name: &str) -> Result<f64> {
    let status = fs::read_to_string(process(cluster)?.join("status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .with_context(|| format!("no {name}"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// The kernel's `VmHWM` begins anew with what is resident now: what came before, as ten thousand reviews, took more than a rotation may.
fn forget_peak(cluster: &Cluster) -> Result<()> {
    fs::write(process(cluster)?.join("clear_refs"), "5").context("can't reset the peak of the webhook's memory")
}

fn apply(cluster: &Cluster, object: &Value) -> Result<()> {
    let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], &object.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    Ok(())
}
