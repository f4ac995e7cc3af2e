//! `tidewaiter audit`.

use anstream::{eprintln, print};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tidewaiter_deployer::audit::{self, Adopted, Finding, Pending, Preview, Scan, Verdict};
use tidewaiter_deployer::cluster::{Cluster, Error, kinds};

use super::arguments::AuditArguments;
use super::confirm;
use super::output::{difference, dim, document, yaml};
use super::table::{clean, table};
use super::{BAD, BOLD, Ending, Failure, GOOD, HINT};

/// Services that are asked about at once.
const AT_ONCE: usize = 8;

pub(super) async fn run(arguments: AuditArguments) -> Result<Ending, Failure> {
    let cluster = Cluster::connect(&arguments.access.into()).await?;
    let namespace = if arguments.all_namespaces {
        None
    } else {
        let own = || cluster.default_namespace().to_owned();
        Some(arguments.namespace.unwrap_or_else(own))
    };
    let namespace = namespace.as_deref();
    let scans = audit::read(&cluster, namespace).await?;
    if scans.is_empty() {
        return never(&cluster, namespace).await;
    }
    let now = Timestamp::now();
    let findings: Vec<&Finding> = scans.iter().flat_map(|scan| &scan.findings).collect();
    if let Some(format) = arguments.output {
        print!("{}", document(&machine(&scans, now), format)?);
        eprintln!("{}", age(&scans, now));
        return Ok(ending(
            !findings.is_empty() || scans.iter().any(|scan| scan.left_out > 0),
        ));
    }
    if findings.is_empty() {
        eprintln!("{GOOD}Nothing found{GOOD:#} in {}.", counted(passed(&scans), "service"));
    } else {
        print!("{}", shown(&findings));
        eprintln!();
    }
    eprintln!("{}", age(&scans, now));
    let left_out: u64 = scans.iter().map(|scan| scan.left_out).sum();
    if left_out > 0 {
        eprintln!("{} more have no room in the reports.", counted(left_out, "finding"));
    }
    if arguments.fix {
        return fix(&cluster, &findings, arguments.yes, left_out > 0).await;
    }
    if findings.iter().any(|finding| finding.result == Verdict::Warn) {
        eprintln!("\n{HINT}hint{HINT:#}: --fix has Tidewaiter fill in what is missing");
    }
    Ok(ending(!findings.is_empty() || left_out > 0))
}

fn ending(found: bool) -> Ending {
    if found { Ending::Something } else { Ending::Nothing }
}

/// No report is no good news where there are services.
async fn never(cluster: &Cluster, namespace: Option<&str>) -> Result<Ending, Failure> {
    let any = match cluster.any(&kinds::INFERENCE_SERVICE, namespace).await {
        Err(Error::UnknownKind { .. }) => false,
        any => any?,
    };
    let place = namespace.map_or_else(
        || "any namespace".to_owned(),
        |namespace| format!("namespace {namespace}"),
    );
    if any {
        return Err(Failure {
            message: format!("there are services, but no report of Tidewaiter's in {place}"),
            next: Some(
                "the first audit is done within a minute of a new leader, and each --audit-interval after it (0s: never); \
                 `kubectl -n tidewaiter-system logs -l app.kubernetes.io/name=tidewaiter` says why there is none"
                    .to_owned(),
            ),
        });
    }
    eprintln!("There is no service in {place}.");
    Ok(Ending::Nothing)
}

fn passed(scans: &[Scan]) -> u64 {
    scans.iter().map(|scan| scan.pass).sum()
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

fn shown(findings: &[&Finding]) -> String {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            [
                finding.namespace.clone(),
                finding.name.clone(),
                finding.result.as_str().to_owned(),
                finding.policy.clone(),
                finding.message.clone(),
            ]
        })
        .collect();
    table(["NAMESPACE", "SERVICE", "RESULT", "POLICY", "MESSAGE"], &rows)
}

/// How old the news is: of the oldest report, and of the newest where they differ much.
fn age(scans: &[Scan], now: Timestamp) -> String {
    let mut ages: Vec<i64> = scans
        .iter()
        .filter_map(|scan| Some(now.as_second() - scan.audited?.as_second()))
        .collect();
    ages.sort_unstable();
    let (Some(newest), Some(oldest)) = (ages.first(), ages.last()) else {
        return "The reports don't say how old they are.".to_owned();
    };
    let span = if oldest - newest < 60 {
        spoken(*newest)
    } else {
        format!("{} to {}", spoken(*newest), spoken(*oldest))
    };
    dim(&format!("Scanned {span} ago; what changed since is not in it."))
}

fn spoken(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    counted(count.unsigned_abs(), unit)
}

fn machine(scans: &[Scan], now: Timestamp) -> Value {
    let told = scans.iter().map(|scan| {
        let mut value = json!(scan);
        let age = scan.audited.map(|audited| now.as_second() - audited.as_second());
        value["ageSeconds"] = json!(age);
        value
    });
    let findings: Vec<&Finding> = scans.iter().flat_map(|scan| &scan.findings).collect();
    json!({"scans": told.collect::<Vec<_>>(), "findings": findings})
}

async fn fix(cluster: &Cluster, findings: &[&Finding], yes: bool, more: bool) -> Result<Ending, Failure> {
    // A service has a finding for each policy.
    let mut services: Vec<&Finding> = Vec::new();
    for finding in findings.iter().filter(|finding| finding.result == Verdict::Warn) {
        if !services.iter().any(|known| known.uid == finding.uid) {
            services.push(finding);
        }
    }
    let refused = findings
        .iter()
        .any(|finding| matches!(finding.result, Verdict::Fail | Verdict::Error));
    let previews = futures::stream::iter(services).map(|finding| async move {
        let preview = audit::preview(cluster, finding).await;
        (finding, preview)
    });
    let previews: Vec<_> = previews.buffered(AT_ONCE).collect().await;
    let mut pending = Vec::new();
    let mut left = refused || more;
    for (finding, preview) in previews {
        let why = match preview {
            Ok(Preview::Changes(change)) => {
                pending.push(change);
                continue;
            }
            Ok(Preview::Nothing) => "nothing is missing any more".to_owned(),
            Ok(Preview::Gone) => "it is gone".to_owned(),
            Ok(Preview::Refused(message)) => {
                left = true;
                format!("would be refused: {message}")
            }
            Ok(Preview::NotReviewed) => {
                left = true;
                NOT_REVIEWED.to_owned()
            }
            // Of each service the same: nothing to be told more than once.
            Err(error @ (Error::Forbidden { .. } | Error::Unreachable { .. } | Error::Unauthorized { .. })) => {
                return Err(error.into());
            }
            Err(error) => {
                left = true;
                error.to_string()
            }
        };
        eprintln!(
            "{}/{} is left as it is: {}",
            finding.namespace,
            finding.name,
            clean(&why)
        );
    }
    if pending.is_empty() {
        eprintln!("Nothing to fix.");
        return Ok(ending(left));
    }
    for change in &pending {
        print!("{}", in_full(change)?);
    }
    eprintln!(
        "\n{BOLD}{} will change.{BOLD:#} KServe replaces the Pods of a service whose Pod template changes: the new ones load its model again.",
        counted(pending.len() as u64, "service")
    );
    if !confirm::agreed("Fill this in?", yes)? {
        return Ok(Ending::Something);
    }
    for change in &pending {
        let name = format!("{}/{}", change.namespace, change.name);
        match audit::adopt(cluster, change).await {
            Ok(Adopted::Done { said }) => {
                eprintln!("{GOOD}{name}{GOOD:#} filled in");
                for line in said {
                    eprintln!("  {}", clean(&line));
                }
            }
            Ok(Adopted::ChangedMeanwhile) => {
                left = true;
                eprintln!("{BAD}{name}{BAD:#} was changed meanwhile, and is left as it is: run the command again");
            }
            Ok(Adopted::NotReviewed) => {
                left = true;
                eprintln!("{BAD}{name}{BAD:#} is left as it is: {NOT_REVIEWED}");
            }
            Err(error) => {
                left = true;
                eprintln!("{BAD}{name}{BAD:#} is left as it is: {}", clean(&error.to_string()));
                eprintln!("  {HINT}next{HINT:#}: {}", error.next());
            }
        }
    }
    eprintln!("\n{}", dim("The reports say so after the next scan."));
    Ok(ending(left))
}

const NOT_REVIEWED: &str =
    "Tidewaiter was not asked about it: it isn't running, or leaves out the service or its namespace";

fn in_full(change: &Pending) -> Result<String, Failure> {
    let mut text = format!("\n{BOLD}{} {}/{}{BOLD:#}\n", change.kind, change.namespace, change.name);
    text.push_str(&difference(&yaml(&change.before)?, &yaml(&change.after)?));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(audited: &str, findings: Vec<Finding>) -> Scan {
        Scan {
            namespace: "team-a".into(),
            audited: audited.parse().ok(),
            pass: 3,
            left_out: 0,
            findings,
        }
    }

    fn finding() -> Finding {
        Finding {
            namespace: "team-a".into(),
            kind: "InferenceService".into(),
            name: "fraud".into(),
            uid: "u".into(),
            result: Verdict::Warn,
            policy: "runtime-version".into(),
            message: r#"/spec/predictor/model/runtimeVersion = "1.5.0": sklearn 1.1"#.into(),
        }
    }

    #[test]
    fn how_old_the_news_is_stands_below_it() {
        let now: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        let said = |ages: &[&str]| {
            let scans: Vec<_> = ages.iter().map(|age| scan(age, Vec::new())).collect();
            anstream::adapter::strip_str(&age(&scans, now)).to_string()
        };
        assert_eq!(
            said(&["2026-06-01T11:59:59Z"]),
            "Scanned 1 second ago; what changed since is not in it."
        );
        assert_eq!(
            said(&["2026-06-01T11:40:00Z", "2026-05-30T12:00:00Z"]),
            "Scanned 20 minutes to 2 days ago; what changed since is not in it."
        );
        assert_eq!(said(&["nonsense"]), "The reports don't say how old they are.");
    }

    #[test]
    fn findings_are_a_table_and_the_same_for_a_program() {
        let (now, one) = ("2026-06-01T12:00:00Z".parse().unwrap(), finding());
        insta::assert_snapshot!(shown(&[&one]));
        let scans = [scan("2026-06-01T11:59:00Z", vec![one])];
        insta::assert_json_snapshot!(machine(&scans, now));
    }
}
