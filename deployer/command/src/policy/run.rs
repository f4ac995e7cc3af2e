//! `tidewaiter policy run` and `tidewaiter policy bench`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anstream::{eprintln, print};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tidewaiter_core::policy_resource::{DEFAULT_KINDS, KSERVE_KINDS};
use tidewaiter_deployer::cluster::Cluster;
use tidewaiter_engine::{Limits, LoadedPolicy};
use tidewaiter_tools::{
    About, Ask, Bench, Given, HostCall, Live, LogLine, Prepared, Told, Traced, asked_about_by_nobody, bench, listening,
    load,
};
use tidewaiter_world::yaml_problem;

use super::super::arguments::{AccessArguments, Format};
use super::super::explain::{live_name, live_object, taken};
use super::super::output::{difference, document, indented, note, yaml};
use super::super::review::manifests_of;
use super::super::table::{clean, table};
use super::super::{BAD, BOLD, DIM, Ending, Failure, GOOD};
use super::project::file_of;
use super::registry::RegistryArguments;
use super::source::{component, engine};

/// Run a policy on one object, and show what it asks and says.
///
/// A live object is taken as if it were sent again by its user: without what Tidewaiter filled in.
///
/// The world answers from a file, in the form that test cases have it; without one it has no stores and no objects. `tidewaiter explain` runs all policies of a
/// cluster or a configuration, with its real stores.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 admitted, 1 refused or failed, 2 an error.

Examples:
  tidewaiter policy run owner.wasm --object service.yaml
  kubectl get isvc fraud -o yaml | tidewaiter policy run owner.wasm --object -
  tidewaiter policy run owner.wasm --object team-a/fraud --settings settings.yaml
  tidewaiter policy run owner.wasm --object service.yaml --world world.yaml -o json")]
pub(crate) struct RunArguments {
    /// A component's file, a project's folder, `oci://REGISTRY/NAME:TAG`, or the name of a built-in policy
    #[arg(value_name = "FILE")]
    source: String,
    /// A file with the object, `-` for standard input, or NAMESPACE/NAME of an InferenceService in the cluster
    #[arg(long, value_name = "OBJECT", default_value = "-")]
    object: String,
    /// A file with the object as it was before: the request is then an update
    #[arg(long, value_name = "FILE")]
    old_object: Option<PathBuf>,
    #[command(flatten)]
    tried: TriedArguments,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    access: AccessArguments,
}

/// Measure what one review by a policy costs: a fresh instance, the call, memory.
///
/// Host calls are answered from memory, and are not counted: what stores take is not the policy's.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 measured, and within --max-us and --max-memory-kib; 1 more than that; 2 an error.

Examples:
  tidewaiter policy bench owner.wasm
  tidewaiter policy bench owner.wasm --object service.yaml --max-us 50 --max-memory-kib 1024   for CI"
)]
pub(crate) struct BenchArguments {
    /// A component's file, a project's folder, `oci://REGISTRY/NAME:TAG`, or the name of a built-in policy
    #[arg(value_name = "FILE")]
    source: String,
    /// A file with the object, or `-` for standard input; by default a usual InferenceService
    #[arg(long, value_name = "FILE")]
    object: Option<String>,
    #[command(flatten)]
    tried: TriedArguments,
    /// How many reviews are measured
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    calls: usize,
    /// What half of the reviews may take at most, in microseconds, beyond host calls
    #[arg(long, value_name = "MICROSECONDS")]
    max_us: Option<f64>,
    /// What a review's memory may come to at most, in KiB
    #[arg(long, value_name = "KIB")]
    max_memory_kib: Option<usize>,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// With what a policy is tried.
#[derive(Debug, Args)]
struct TriedArguments {
    /// A file with the policy's settings
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A file with what the world answers, as `world` of a test case
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// What one run may take, in milliseconds of its own
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    time_ms: u32,
    /// What one run may take, in MiB of memory
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    memory_mib: u32,
    #[command(flatten)]
    registry: RegistryArguments,
}

impl TriedArguments {
    /// The policy, and the world around an object.
    async fn ready(&self, source: &str, ask: &Ask) -> Result<(LoadedPolicy, Prepared), Failure> {
        let file = file_of(source)?;
        let component = component(&file, &self.registry).await?.bytes;
        let engine = engine()?;
        let failed = |reason: String| Failure {
            message: format!("{file}: {reason}"),
            next: None,
        };
        let about = About::read(&engine, component.clone()).await;
        let about = about.map_err(|error| failed(error.to_string()))?;
        let settings: Map<String, Value> = self.settings.as_deref().map(read).transpose()?.unwrap_or_default();
        let limits = Limits {
            time_ms: self.time_ms,
            memory_mib: self.memory_mib,
        };
        let policy = load(&engine, &about.name, &component, &settings, limits).await;
        let policy = policy.map_err(|error| failed(error.to_string()))?;
        let given: Given = self.world.as_deref().map(read).transpose()?.unwrap_or_default();
        let world = Prepared::new(&given, ask.namespace(), &about.name, &about.objects);
        Ok((policy, world.map_err(|error| failed(error.to_string()))?))
    }
}

/// What is printed for a program. Its fields stay as they are.
#[derive(Serialize)]
struct Ran<'a> {
    outcome: &'a Told,
    calls: &'a [HostCall],
    log: &'a [LogLine],
    micros: u64,
}

pub(super) async fn run(arguments: RunArguments) -> Result<Ending, Failure> {
    let object = object(&arguments.object, arguments.access).await?;
    let mut ask = asked(&object)?;
    if let Some(file) = &arguments.old_object {
        let old = from_file(&file.display().to_string())?;
        ask = ask.update(&old).map_err(|error| Failure {
            message: format!("{}: {error}", file.display()),
            next: None,
        })?;
    }
    let (policy, world) = arguments.tried.ready(&arguments.source, &ask).await?;
    let traced = Traced::new(world.around(ask.namespace(), false));
    let begun = std::time::Instant::now();
    let (told, log) = listening(ask.told(&policy, traced.clone())).await;
    let took = begun.elapsed();
    let calls = traced.calls();
    match arguments.output {
        Some(format) => {
            let ran = Ran {
                outcome: &told,
                calls: &calls,
                log: &log,
                micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            };
            print!("{}", document(&ran, format)?);
        }
        None => print!("{}", shown(&told, &calls, &log, ask.object())?),
    }
    eprintln!("{DIM}took {} µs, host calls included{DIM:#}", took.as_micros());
    let well = told.allowed && told.failures.is_empty();
    Ok(if well { Ending::Nothing } else { Ending::Something })
}

fn shown(told: &Told, calls: &[HostCall], log: &[LogLine], object: &Value) -> Result<String, Failure> {
    let mut text = String::new();
    for failure in &told.failures {
        let _ = writeln!(
            text,
            "{BAD}failed{BAD:#}: the policy {} {}",
            clean(&failure.policy),
            clean(&failure.reason)
        );
    }
    match &told.denial {
        Some(denial) => {
            let _ = writeln!(
                text,
                "{BAD}refused{BAD:#} ({}): {}",
                clean(&denial.code),
                clean(&denial.message)
            );
            if let Some(path) = &denial.path {
                let _ = writeln!(text, "  at {}", clean(path));
            }
        }
        None => {
            let _ = writeln!(text, "{GOOD}admitted{GOOD:#}");
        }
    }
    for warning in &told.warnings {
        let _ = writeln!(text, "warning: {}", clean(&warning.message));
    }
    for fill in &told.fills {
        let what = match &fill.value {
            Some(value) => format!("{} = {value}", fill.path),
            None => format!("{} is taken out", fill.path),
        };
        let _ = writeln!(text, "{}: {}", clean(&what), clean(&fill.reason));
    }
    for effect in &told.effects {
        let _ = writeln!(text, "credentials of {} by {}", clean(&effect.backend), effect.delivery);
    }
    if let Some(after) = told.object.as_ref().filter(|after| *after != object) {
        let _ = write!(text, "\n{}", difference(&yaml(object)?, &yaml(after)?));
    }
    text.push_str(&trace(calls, log));
    Ok(text)
}

/// What a policy asked and wrote.
pub(crate) fn trace<'a>(
    calls: impl IntoIterator<Item = &'a HostCall>,
    log: impl IntoIterator<Item = &'a LogLine>,
) -> String {
    let mut text = String::new();
    let rows: Vec<_> = calls
        .into_iter()
        .map(|call| {
            [
                format!("{} µs", call.took.as_micros()),
                call.function.to_owned(),
                call.arguments.clone(),
                call.answer.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let _ = write!(
            text,
            "\n{BOLD}What it asked{BOLD:#}\n{}",
            indented(&table(["TOOK", "CALL", "OF", "ANSWER"], &rows))
        );
    }
    let mut lines = log.into_iter().peekable();
    if lines.peek().is_some() {
        let _ = writeln!(text, "\n{BOLD}What it wrote to the log{BOLD:#}");
        for line in lines {
            let _ = writeln!(text, "  {DIM}{}{DIM:#} {}", line.level, clean(&line.message));
        }
    }
    text
}

pub(super) async fn measure(arguments: BenchArguments) -> Result<Ending, Failure> {
    let object = match &arguments.object {
        Some(source) => from_file(source)?,
        None => json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": "fraud", "namespace": "team-a"},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://mlflow/1/model"}}}}),
    };
    let ask = asked(&object)?;
    let (policy, world) = arguments.tried.ready(&arguments.source, &ask).await?;
    let bench = bench(&policy, &ask, &world, arguments.calls)
        .await
        .map_err(|failure| Failure {
            message: format!("the policy {} {failure}", policy.name()),
            next: Some("`tidewaiter policy run` shows what it does".to_owned()),
        })?;
    match arguments.output {
        Some(format) => print!("{}", document(&bench, format)?),
        None => print!("{}", measured(&bench)),
    }
    if cfg!(debug_assertions) {
        eprintln!("This command is a debug build: the engine around the policy is far slower in it.");
    }
    let mut ending = Ending::Nothing;
    if let Some(most) = arguments.max_us.filter(|most| bench.total_us.median > *most) {
        eprintln!("{BAD}too slow{BAD:#}: half of the reviews take more than {most} µs");
        ending = Ending::Something;
    }
    if let Some(most) = arguments.max_memory_kib.filter(|most| bench.memory_kib > *most) {
        let took = bench.memory_kib;
        eprintln!("{BAD}too large{BAD:#}: a review has {took} KiB of memory, and may have {most} at most");
        ending = Ending::Something;
    }
    Ok(ending)
}

fn measured(bench: &Bench) -> String {
    let rows = [
        ("instance", bench.instantiate_us),
        ("call", bench.call_us),
        ("both", bench.total_us),
        ("host calls", bench.host_us),
    ]
    .map(|(name, spread)| {
        let micros = |value: f64| format!("{value:.1}");
        [
            name.to_owned(),
            micros(spread.median),
            micros(spread.p99),
            micros(spread.max),
        ]
    });
    format!(
        "{}\n{} reviews on fresh instances, in microseconds; {} KiB of memory at most\n",
        table(["", "MEDIAN", "P99", "MAX"], &rows),
        bench.calls,
        bench.memory_kib
    )
}

/// Only of what a cluster would ask a policy about: whatever it says of anything else says nothing.
fn asked(object: &Value) -> Result<Ask, Failure> {
    if let Some(kind) = asked_about_by_nobody(object) {
        return Err(Failure {
            message: format!("no policy is ever asked about this object: it is of kind {kind}"),
            next: Some(format!(
                "policies are asked about KServe's objects (serving.kserve.io): {}",
                KSERVE_KINDS.join(", ")
            )),
        });
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    if !(DEFAULT_KINDS.contains(&kind) || kind.is_empty()) {
        note(&format!(
            "a cluster asks the policy about objects of kind {kind} only where its WasmPolicy says so: spec.match.kinds: [{kind}]"
        ));
    }
    Ask::anew(object).map_err(|error| Failure {
        message: error.to_string(),
        next: None,
    })
}

/// A YAML or JSON file.
fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let failed = |message: String| Failure { message, next: None };
    let file = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| failed(format!("can't read {file}: {error}")))?;
    serde_saphyr::from_str(&text).map_err(|error| failed(yaml_problem(&file, &error)))
}

/// The one object of a file or of standard input, which a list may be around.
fn from_file(source: &str) -> Result<Value, Failure> {
    let manifests = manifests_of(source)?;
    let [manifest] = &manifests[..] else {
        let named = if source == "-" { "standard input" } else { source };
        return Err(Failure {
            message: format!("{named} holds {} objects, and a policy is run on one", manifests.len()),
            next: Some("take one of them by itself; `tidewaiter review` goes through all of them".to_owned()),
        });
    };
    Ok(manifest.object.value.clone())
}

/// From a file, standard input, or the cluster.
async fn object(source: &str, access: AccessArguments) -> Result<Value, Failure> {
    match live_name(source)? {
        Some((namespace, name)) => {
            let cluster = Cluster::connect(&access.into()).await;
            let cluster = cluster.map_err(|error| taken(source, error.into()))?;
            live_object(&Live::new(cluster.client().clone(), "kserve"), namespace, name).await
        }
        None => from_file(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_for_the_one_object_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.yaml");
        let read = |items: &str| {
            fs::write(&file, format!("apiVersion: v1\nkind: List\nitems: {items}\n")).unwrap();
            from_file(&file.display().to_string())
        };
        assert_eq!(read("[{apiVersion: v1, kind: A}]").unwrap()["kind"], "A");
        let two = read("[{apiVersion: v1, kind: A}, {apiVersion: v1, kind: B}]")
            .unwrap_err()
            .message;
        assert!(
            two.ends_with("list.yaml holds 2 objects, and a policy is run on one"),
            "{two}"
        );
        let twice = read("[{kind: A, kind: B}]").unwrap_err().message;
        assert!(twice.ends_with("list.yaml:3: `kind` stands here twice"), "{twice}");
    }

    #[test]
    fn what_no_cluster_asks_a_policy_about_is_not_tried() {
        let asked = |api_version: &str, kind: &str| {
            let asked = asked(&json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}}));
            asked.map(drop).map_err(|failure| failure.message)
        };
        assert_eq!(
            asked("apps/v1", "Deployment").unwrap_err(),
            "no policy is ever asked about this object: it is of kind Deployment in apps/v1"
        );
        assert!(asked("apps/v1", "InferenceService").is_err());
        assert!(asked("serving.kserve.io/v1beta1", "InferenceServce").is_err());
        for kind in ["InferenceService", "InferenceGraph", ""] {
            assert_eq!(asked("serving.kserve.io/v1beta1", kind), Ok(()), "{kind}");
        }
    }
}
