//! The wait, told as it goes.

use anstream::eprintln;
use kube::api::DynamicObject;
use tidewaiter_deployer::cluster;
use tidewaiter_deployer::wait::{Options, Outcome, Progress, Sent, Stage, wait};

use super::super::output::dim;
use super::super::table::clean;
use super::super::{BAD, Ending, Failure, GOOD, HINT};
use super::report::Report;
use super::{Context, note};

pub(super) async fn run(
    context: &Context,
    report: Report,
    sent: &DynamicObject,
    never_ready: bool,
) -> Result<Ending, Failure> {
    let options = Options {
        namespace: context.namespace.clone(),
        name: context.name.clone(),
        timeout: context.arguments.timeout,
        sent: Some(Sent::of(sent)),
    };
    let waiting = wait(&context.cluster, &options, |progress| match progress {
        Progress::Stage(Stage::Ready) => {}
        Progress::Stage(stage) => eprintln!("  {}", said(stage)),
        Progress::Trouble(finding) => eprintln!("  {HINT}waiting{HINT:#}: {}", clean(&finding.message)),
        Progress::Blind(what) => note(&format!("{what}, so that less can be told")),
    });
    until(context, report, waiting, || remains(context, never_ready)).await
}

/// Waits for the end, and tells it: to a person, and where it was asked for to a program. `remains` says what is left where it isn't a good one.
pub(super) async fn until(
    context: &Context,
    mut report: Report,
    waiting: impl Future<Output = Result<Outcome, cluster::Error>>,
    remains: impl Fn(),
) -> Result<Ending, Failure> {
    tokio::select! {
        outcome = waiting => {
            let ending = told(context, &mut report, outcome, remains);
            report.print(context)?;
            Ok(ending)
        }
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\nInterrupted: {} is submitted, and comes up or not by itself.", context.name);
            remains();
            Ok(Ending::Interrupted)
        }
    }
}

pub(super) fn told(
    context: &Context,
    report: &mut Report,
    outcome: Result<Outcome, cluster::Error>,
    remains: impl Fn(),
) -> Ending {
    let name = &context.name;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        // It is submitted all the same.
        Err(error) => {
            let message = format!("{name} is submitted, and what became of it can't be seen: {error}");
            return ended(report, "unknown", message, error.next());
        }
    };
    match outcome {
        Outcome::Ready { url, remarks } => {
            for remark in &remarks {
                note(remark);
            }
            let at = url.as_deref().map(|url| format!(" at {url}")).unwrap_or_default();
            eprintln!("{GOOD}{name} is ready{GOOD:#}{at}");
            // One that stayed as it was, and was ready, is told so.
            if report.outcome != "unchanged" {
                report.outcome = "ready";
            }
            report.url = url;
            report.remarks.extend(remarks);
            Ending::Nothing
        }
        Outcome::Failed(finding) => {
            eprintln!("{BAD}error{BAD:#}: {name} doesn't come up: {}", clean(&finding.message));
            seen(&finding.evidence);
            hint(&finding.next);
            remains();
            report.outcome = "failed";
            report.found(&finding);
            Ending::Something
        }
        Outcome::TimedOut { stage, finding, unmet } => {
            let limit = context.arguments.timeout.as_secs();
            eprintln!("{BAD}error{BAD:#}: {name} is not ready after {limit} s: it came as far as {stage}");
            if let Some(finding) = &finding {
                eprintln!("  most likely {}", clean(&finding.message));
                seen(&finding.evidence);
                hint(&finding.next);
                report.found(finding);
            } else {
                let next = "give it more time with --timeout: the same command goes on waiting";
                seen(&unmet);
                hint(next);
                report.evidence = unmet;
                report.next = Some(next.to_owned());
            }
            remains();
            report.outcome = "timeout";
            report.stage = Some(stage.as_str());
            Ending::Something
        }
        Outcome::Replaced { uri, by } => {
            let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
            let with = uri.unwrap_or_else(|| "another model".to_owned());
            let message = format!("{name} was deployed anew{by} while it was waited for, with {with}");
            let next = format!(
                "ask who did; `tidewaiter history {name}` says who deployed what, and the same command deploys this one again"
            );
            ended(report, "replaced", message, next)
        }
        Outcome::Deleted => {
            let message = format!("{name} was deleted while it was waited for");
            ended(
                report,
                "deleted",
                message,
                "ask who did, and deploy it again".to_owned(),
            )
        }
    }
}

/// It isn't what was submitted that answers, or nobody knows.
fn ended(report: &mut Report, outcome: &'static str, message: String, next: String) -> Ending {
    eprintln!("{BAD}error{BAD:#}: {}", clean(&message));
    hint(&next);
    report.outcome = outcome;
    report.message = Some(message);
    report.next = Some(next);
    Ending::Something
}

fn said(stage: Stage) -> &'static str {
    match stage {
        Stage::Admitted => "admitted",
        Stage::Pod => "its Pod waits for a node and images",
        Stage::Download => "the model is being downloaded",
        Stage::Load => "the server loads the model",
        Stage::Ready => "ready",
    }
}

/// The cluster's own words.
fn seen(words: &[String]) {
    for line in words {
        eprintln!("  {}", dim(&clean(line)));
    }
}

fn hint(next: &str) {
    eprintln!("\n{HINT}hint{HINT:#}: {}", clean(next));
}

/// Nobody wants to find it weeks later, or to fear for what ran before.
fn remains(context: &Context, never_ready: bool) {
    let (name, namespace) = (&context.name, &context.namespace);
    if never_ready {
        eprintln!("{name} is still there; to remove it: tidewaiter delete {name} -n {namespace}");
    } else {
        eprintln!(
            "What was ready before goes on answering; to go back, deploy it again: tidewaiter history {name} -n {namespace} says what it was"
        );
    }
}
