//! `tidewaiter explain`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anstream::{eprintln, print};
use clap::Args;
use serde_json::{Value, json};
use tidewaiter_deployer::cluster::is_object_name;
use tidewaiter_engine::outcome::{Ended, Run};
use tidewaiter_tools::{Ask, HostCall, Judged, Live, LogLine, Told, during};

use super::arguments::Format;
use super::output::document;
use super::policy::run::trace;
use super::review::{GateArguments, Opened, asked, lacking, manifests_of, namespaces};
use super::table::clean;
use super::{BAD, BOLD, DIM, Ending, Failure, GOOD};

/// Say why each policy decides as it does about one object.
///
/// Runs all policies on it, as the cluster would, and shows for each what it asked, what it was told, what it wrote to the log, what it fills in and why. A live
/// service is taken as if it were sent again by its user: without what Tidewaiter filled in, which policies choose anew.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it would be admitted, 1 it would be refused, 2 an error, or not all of the configuration can be used.

Examples:
  tidewaiter explain team-a/fraud                       a service in the cluster
  tidewaiter explain service.yaml --config tidewaiter/  a file, by a folder's configuration
  tidewaiter explain team-a/fraud --policy serving-versions"
)]
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
        return lacking(&opened.gate).map_or(Ok(Ending::Nothing), Err);
    };
    let mut told = Told::new(outcome, ask.object());
    let mut runs: Vec<_> = outcome.runs.iter().collect();
    if let Some(name) = name {
        told = told.only(name);
        runs.retain(|run| *run.policy == *name);
        if runs.is_empty() {
            eprintln!("{}", not_asked(name, &told));
        }
    }
    match arguments.output {
        Some(format) => print!("{}", document(&machine(&runs, &told, &judged), format)?),
        None => print!("{}", shown(&runs, &told, &judged)),
    }
    if !told.allowed {
        return Ok(Ending::Something);
    }
    lacking(&opened.gate).map_or(Ok(Ending::Nothing), Err)
}

/// The object as a request, and what it is reviewed by.
async fn ask(source: &str, gate: GateArguments) -> Result<(Ask, Opened), Failure> {
    if let Some((namespace, name)) = live_name(source)? {
        let opened = gate
            .open(&BTreeMap::new())
            .await
            .map_err(|failure| taken(source, failure))?;
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
    let ask = asked(manifest).map_err(|unfit| Failure {
        message: format!(
            "{}:{}: {}",
            manifest.file,
            manifest.object.line(&unfit.path),
            unfit.message
        ),
        next: None,
    })?;
    Ok((ask.in_namespace(&namespace), opened))
}

/// The namespace and the name of a service in the cluster; none where the argument is a file that is there, or standard input.
pub(super) fn live_name(source: &str) -> Result<Option<(&str, &str)>, Failure> {
    if source == "-" || Path::new(source).exists() {
        return Ok(None);
    }
    // A name of KServe's has no dot in it, as a file's mostly has.
    let is_label = |name: &str| is_object_name(name) && !name.contains('.');
    let live = source
        .split_once('/')
        .filter(|(namespace, name)| is_label(namespace) && is_label(name));
    live.map(Some).ok_or_else(|| Failure {
        message: format!("there is no file {source}"),
        next: Some("name one that is there; a service in the cluster is named NAMESPACE/NAME".to_owned()),
    })
}

/// Why a service in the cluster can't be asked for, to whoever may have meant a file.
pub(super) fn taken(source: &str, failure: Failure) -> Failure {
    Failure {
        message: format!("there is no file {source}, so it is taken for a service in the cluster: {failure}"),
        ..failure
    }
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

/// Why a policy has no part in it.
fn not_asked(name: &str, told: &Told) -> String {
    match &told.denial {
        Some(denial) => format!(
            "The policy {name} was not asked: {} refused the object before, or it isn't for such objects.",
            denial.policy
        ),
        None => format!("The policy {name} was not asked: by its match rules it isn't for this object."),
    }
}

fn shown(runs: &[&Run], told: &Told, judged: &Judged) -> String {
    let mut text = String::new();
    for run in runs {
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
        for warning in told.warnings.iter().filter(|warning| *warning.policy == *run.policy) {
            let _ = writeln!(text, "  warns: {}", clean(&warning.message));
        }
        text.push_str(&trace(calls, lines));
        text.push('\n');
    }
    let _ = match &told.denial {
        None => writeln!(text, "{GOOD}admitted{GOOD:#}"),
        Some(denial) => writeln!(text, "{BAD}refused{BAD:#} by {}", clean(&denial.policy)),
    };
    text
}

fn machine(runs: &[&Run], told: &Told, judged: &Judged) -> Value {
    let policies: Vec<_> = runs
        .iter()
        .map(|run| {
            let (calls, log) = part(run, judged);
            json!({
                "policy": &*run.policy, "ended": ended(&run.ended),
                "micros": u64::try_from(run.took.as_micros()).unwrap_or(u64::MAX),
                "hostMicros": u64::try_from(run.host.as_micros()).unwrap_or(u64::MAX),
                "fills": told.fills.iter().filter(|fill| *fill.policy == *run.policy).collect::<Vec<_>>(),
                "warnings": told.warnings.iter().filter(|warning| *warning.policy == *run.policy).map(|warning| &warning.message).collect::<Vec<_>>(),
                "calls": calls, "log": log,
            })
        })
        .collect();
    json!({"policies": policies, "outcome": told})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_not_taken_for_a_service() {
        for path in ["./typo.yaml", "manifests/typo.yml", "a/b/typo", "../typo", "typo"] {
            let failure = live_name(path).unwrap_err();
            assert_eq!(failure.message, format!("there is no file {path}"));
        }
        assert_eq!(live_name("team-a/fraud").unwrap(), Some(("team-a", "fraud")));
        assert_eq!(live_name("-").unwrap(), None);
    }
}
