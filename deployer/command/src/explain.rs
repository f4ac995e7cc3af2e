//! `tidewaiter explain`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anstream::{eprintln, print};
use clap::Args;
use serde_json::{Value, json};
use tidewaiter_engine::outcome::{Ended, Outcome, Run};
use tidewaiter_tools::{Ask, HostCall, Judged, Live, LogLine, Told, during};

use super::arguments::Format;
use super::output::document;
use super::policy::run::trace;
use super::review::{GateArguments, Opened, asked, manifests_of, namespaces};
use super::table::clean;
use super::{BAD, BOLD, DIM, Ending, Failure, GOOD};

/// Say why each policy decides as it does about one object.
///
/// Runs all policies on it, as the cluster would, and shows for each what it asked, what it was told, what it wrote to the log, what it fills in and why. A live
/// service is taken as if it were sent again by its user: without what Tidewaiter filled in, which policies choose anew.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it would be admitted, 1 it would be refused, 2 an error.

Examples:
  tidewaiter explain team-a/fraud                       a service in the cluster
  tidewaiter explain service.yaml --config tidewaiter/  a file, by a folder's configuration
  tidewaiter explain team-a/fraud --policy serving-versions")]
pub(crate) struct ExplainArguments {
    /// A file with one object, `-` for standard input, or NAMESPACE/NAME of an InferenceService in the cluster
    #[arg(value_name = "OBJECT")]
    source: String,
    /// Only this policy's part
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    #[command(flatten)]
    gate: GateArguments,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

pub(super) async fn run(arguments: ExplainArguments) -> Result<Ending, Failure> {
    let (ask, opened) = ask(&arguments.source, arguments.gate).await?;
    let name = arguments.policy.as_deref();
    if let Some(name) = name.filter(|name| !opened.gate.policies().any(|policy| policy == *name)) {
        let names: Vec<_> = opened.gate.policies().collect();
        return Err(Failure {
            message: format!("there is no policy {name}"),
            next: Some(format!("there are {}", names.join(", "))),
        });
    }
    let judged = opened.gate.review(&ask).await;
    let Some(outcome) = &judged.outcome else {
        eprintln!(
            "No policy is for it: it is on its way out, has the label tidewaiter.dev/ignore, or nothing matches it."
        );
        return Ok(Ending::Nothing);
    };
    let told = Told::new(outcome, ask.object());
    match arguments.output {
        Some(format) => print!("{}", document(&machine(outcome, &told, &judged, name), format)?),
        None => print!("{}", shown(outcome, &told, &judged, name)),
    }
    Ok(if told.allowed {
        Ending::Nothing
    } else {
        Ending::Something
    })
}

/// The object as a request, and what it is reviewed by.
async fn ask(source: &str, gate: GateArguments) -> Result<(Ask, Opened), Failure> {
    let live = source
        .split_once('/')
        .filter(|(_, name)| !Path::new(source).exists() && !name.contains('/'));
    if let Some((namespace, name)) = live {
        let opened = gate.open(&BTreeMap::new()).await?;
        let Some(cluster) = &opened.live else {
            return Err(Failure {
                message: format!("there is no file {source}"),
                next: Some("a live object is explained by its own cluster: leave --config out".to_owned()),
            });
        };
        let object = live_object(cluster, namespace, name).await?;
        let ask = Ask::anew(&object).map_err(|error| Failure {
            message: error.to_string(),
            next: None,
        })?;
        return Ok((ask.in_namespace(namespace), opened));
    }
    let manifests = manifests_of(source)?;
    let services: Vec<_> = manifests
        .iter()
        .filter(|manifest| manifest.kind().ends_with("InferenceService"))
        .collect();
    let [manifest] = services[..] else {
        return Err(Failure {
            message: format!(
                "{source} holds {} InferenceServices, and one at a time is explained",
                services.len()
            ),
            next: Some("`tidewaiter review` goes through all of them".to_owned()),
        });
    };
    let opened = gate.open(&namespaces(&manifests)).await?;
    let namespace = manifest.namespace().unwrap_or(&opened.namespace).to_owned();
    Ok((asked(manifest)?.in_namespace(&namespace), opened))
}

/// A service in the cluster, as it is there.
pub(super) async fn live_object(cluster: &Live, namespace: &str, name: &str) -> Result<Value, Failure> {
    let found = cluster.service(namespace, name).await.map_err(|error| Failure {
        message: error.to_string(),
        next: None,
    })?;
    found.ok_or_else(|| Failure {
        message: format!("there is no InferenceService {namespace}/{name}, and no file of that name"),
        next: Some("`tidewaiter list -A` shows those that are there".to_owned()),
    })
}

/// What belongs to one policy's run.
fn part<'j>(run: &'j Run, judged: &'j Judged) -> (Vec<&'j HostCall>, Vec<&'j LogLine>) {
    let calls = during(&judged.calls, run).collect();
    let lines = judged.lines.iter().filter(|line| *line.policy == *run.policy).collect();
    (calls, lines)
}

fn ended(ended: &Ended) -> String {
    match ended {
        Ended::Passed => "had nothing to say".to_owned(),
        Ended::Acted => "had something to say".to_owned(),
        Ended::Denied => "refused it".to_owned(),
        Ended::DeniedInVain => "would refuse it, which doesn't count here".to_owned(),
        Ended::Failed(reason) => format!("failed: it {reason}"),
    }
}

fn shown(outcome: &Outcome, told: &Told, judged: &Judged, only: Option<&str>) -> String {
    let mut text = String::new();
    for run in outcome
        .runs
        .iter()
        .filter(|run| only.is_none_or(|name| *run.policy == *name))
    {
        let (calls, lines) = part(run, judged);
        let _ = writeln!(
            text,
            "{BOLD}{}{BOLD:#} {} {DIM}{} µs, {} of them for host calls{DIM:#}",
            run.policy,
            clean(&ended(&run.ended)),
            run.took.as_micros(),
            run.host.as_micros()
        );
        for fill in told.fills.iter().filter(|fill| *fill.policy == *run.policy) {
            let value = fill
                .value
                .as_ref()
                .map_or_else(|| "taken out".to_owned(), |value| format!("= {value}"));
            let _ = writeln!(
                text,
                "  fills {} {}: {}",
                clean(&fill.path),
                clean(&value),
                clean(&fill.reason)
            );
        }
        if let Some(denial) = told.denial.as_ref().filter(|denial| *denial.policy == *run.policy) {
            let _ = writeln!(
                text,
                "  {BAD}refuses{BAD:#} ({}): {}",
                clean(&denial.code),
                clean(&denial.message)
            );
        }
        text.push_str(&trace(calls, lines));
        text.push('\n');
    }
    for line in &told.warnings {
        let _ = writeln!(text, "warning: {}", clean(line));
    }
    let end = if told.allowed {
        format!("{GOOD}admitted{GOOD:#}")
    } else {
        format!("{BAD}refused{BAD:#}")
    };
    let _ = writeln!(text, "{end}");
    text
}

fn machine(outcome: &Outcome, told: &Told, judged: &Judged, only: Option<&str>) -> Value {
    let runs = outcome
        .runs
        .iter()
        .filter(|run| only.is_none_or(|name| *run.policy == *name));
    let policies: Vec<_> = runs
        .map(|run| {
            let (calls, log) = part(run, judged);
            json!({
                "policy": &*run.policy, "ended": ended(&run.ended),
                "micros": u64::try_from(run.took.as_micros()).unwrap_or(u64::MAX),
                "hostMicros": u64::try_from(run.host.as_micros()).unwrap_or(u64::MAX),
                "fills": told.fills.iter().filter(|fill| *fill.policy == *run.policy).collect::<Vec<_>>(),
                "calls": calls, "log": log,
            })
        })
        .collect();
    json!({"policies": policies, "outcome": told})
}
