//! `tidewaiter status` and `tidewaiter describe`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fmt::Write as _;

use anstream::print;
use clap::Args;
use jiff::Timestamp;
use tidewaiter_deployer::live::{self, Credentials, Deployment, Description, Status};

use super::arguments::Format;
use super::output::document;
use super::place::{Place, ServiceArguments, age};
use super::table::{clean, table};
use super::{BAD, BOLD, Ending, Failure, GOOD};

/// Of a deployment after which the service got another model by other means.
pub(super) const CHANGED_SINCE: &str = "changed since, not by a deploy";

/// Show how a service, a graph or a model on a multi-model server is: its conditions, its Pods, what was deployed from what.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is ready, 1 it is not, 2 an error.

Examples:
  tidewaiter status fraud
  tidewaiter status fraud -o json | jq -r .pods[].name
  until tidewaiter status fraud >/dev/null; do sleep 5; done")]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// Show everything about a service, a graph or a model on a multi-model server: how it is, by which way its Pods open the model's store, what Tidewaiter filled in, every deployment, and what happened.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is ready, 1 it is not, 2 an error.

Examples:
  tidewaiter describe fraud
  tidewaiter describe fraud -o yaml")]
pub(crate) struct DescribeArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// The namespace that KServe runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "kserve")]
    kserve_namespace: String,
}

pub(super) async fn run(arguments: StatusArguments) -> Result<Ending, Failure> {
    let Place { cluster, namespace, .. } = arguments.service.place.open(&[]).await?;
    let status = live::status(&cluster, &namespace, &arguments.service.name).await?;
    match arguments.output {
        Some(format) => print!("{}", document(&status, format)?),
        None => print!("{}{}", shown(&status, Timestamp::now()), unknown(&status)),
    }
    Ok(ending(&status))
}

pub(super) async fn describe(arguments: DescribeArguments) -> Result<Ending, Failure> {
    let Place { cluster, namespace, .. } = arguments.service.place.open(&[]).await?;
    let name = &arguments.service.name;
    let description = live::describe(&cluster, &namespace, name, &arguments.kserve_namespace).await?;
    match arguments.output {
        Some(format) => print!("{}", document(&description, format)?),
        None => print!("{}", in_full(&description, Timestamp::now())),
    }
    Ok(ending(&description.status))
}

fn ending(status: &Status) -> Ending {
    if status.summary.ready == "True" {
        Ending::Nothing
    } else {
        Ending::Something
    }
}

fn shown(status: &Status, now: Timestamp) -> String {
    let summary = &status.summary;
    let style = if summary.ready == "True" { GOOD } else { BAD };
    let mut text = format!("{BOLD}{}/{}{BOLD:#}\n", summary.namespace, summary.name);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<10} {}", clean(value));
        }
    };
    let of = |value: &Option<String>| value.clone().unwrap_or_default();
    line("url", &of(&summary.url));
    line("inside", &of(&status.address));
    let served = [&status.runtime, &status.runtime_version, &status.protocol];
    let served: Vec<&str> = served.into_iter().flatten().map(String::as_str).collect();
    let by = if served.is_empty() {
        String::new()
    } else {
        format!(", by {}", served.join(" "))
    };
    match &status.router {
        Some(router) => line("graph", &format!("{router} of {}", status.steps.join(", "))),
        None => line("model", &format!("{}{by}", summary.framework)),
    }
    line("server", &of(&summary.server));
    line("from", &of(&summary.storage_uri));
    if let Some(deployed) = &status.deployed {
        line("deployed", &told(deployed));
    }
    line("mode", status.mode.unwrap_or_default());
    line("age", &age(summary.created, now));
    let _ = writeln!(text, "  {:<10} {style}{}{style:#}", "ready", summary.ready);
    if let Some(failure) = &status.failure {
        let _ = writeln!(text, "  {:<10} {BAD}{}{BAD:#}", "failure", clean(failure));
    }
    let rows: Vec<_> = status
        .conditions
        .iter()
        .map(|one| {
            let words = [&one.reason, &one.message];
            let words: Vec<&str> = words
                .into_iter()
                .map(String::as_str)
                .filter(|word| !word.is_empty())
                .collect();
            [one.of.clone(), one.status.clone(), words.join(": ")]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(["CONDITION", "STATUS", "WHY"], &rows));
    }
    let rows: Vec<_> = status
        .canaries
        .iter()
        .map(|one| {
            let ready = one.ready.map_or("-", |is| if is { "True" } else { "False" });
            [
                one.name.clone(),
                one.percent.to_string(),
                ready.to_owned(),
                of(&one.storage_uri),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(["CANARY", "PERCENT", "READY", "MODEL"], &rows));
    }
    if !status.sees_pods {
        return text;
    }
    text.push('\n');
    if status.pods.is_empty() {
        text.push_str("No Pods.\n");
    } else {
        let rows: Vec<_> = status
            .pods
            .iter()
            .map(|pod| {
                let state = if pod.message.is_empty() {
                    pod.state.clone()
                } else {
                    format!("{} ({})", pod.state, pod.message)
                };
                [
                    pod.name.clone(),
                    format!("{}/{}", pod.ready, pod.containers),
                    pod.restarts.to_string(),
                    age(pod.created, now),
                    pod.image.clone(),
                    state,
                ]
            })
            .collect();
        text.push_str(&table(["POD", "READY", "RESTARTS", "AGE", "IMAGE", "STATE"], &rows));
    }
    text
}

/// A deployment that is on record, and whether its model is still the one that is served.
fn told(deployment: &Deployment) -> String {
    let entry = &deployment.entry;
    let since = if deployment.changed_since {
        format!("; {CHANGED_SINCE}")
    } else {
        String::new()
    };
    format!("{} by {} from {}{since}", entry.at, entry.by, entry.from)
}

fn in_full(description: &Description, now: Timestamp) -> String {
    let mut text = shown(&description.status, now);
    if let Some(credentials) = &description.credentials {
        let way = way_to_store(credentials);
        let _ = writeln!(text, "\n{BOLD}Credentials{BOLD:#}\n  {}", clean(&way));
    }
    if !description.filled.is_empty() {
        let _ = writeln!(text, "\n{BOLD}Filled in by Tidewaiter{BOLD:#}");
        for (path, value) in &description.filled {
            let _ = writeln!(text, "  {} = {}", clean(path), clean(&value.to_string()));
        }
    }
    if !description.history.is_empty() {
        let _ = writeln!(text, "\n{BOLD}Deployments{BOLD:#}");
        for one in &description.history {
            let _ = writeln!(text, "  {}", clean(&told(one)));
        }
    }
    let rows: Vec<_> = description
        .events
        .iter()
        .map(|event| {
            let times = if event.count > 1 {
                format!(" (x{})", event.count)
            } else {
                String::new()
            };
            [
                age(event.at, now),
                event.of.clone(),
                event.reason.clone(),
                event.object.clone(),
                format!("{}{times}", event.message),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"], &rows));
    }
    text + &unknown(&description.status)
}

/// What could not be read.
fn unknown(status: &Status) -> String {
    let lines = status.unknown.iter();
    lines.map(|line| format!("\nunknown: {}\n", clean(line))).collect()
}

fn way_to_store(credentials: &Credentials) -> String {
    match credentials {
        Credentials::StorageKey { secret, key } => {
            let key = key.as_deref().unwrap_or("the store's default");
            format!("key {key} of Secret {secret} (model.storage)")
        }
        Credentials::Annotation { secret } => format!("Secret {secret}, by annotation"),
        Credentials::ServiceAccount {
            account,
            secrets,
            identity,
        } => {
            let what = match (identity, secrets) {
                (Some(identity), _) => format!("which stands for {identity}"),
                (None, Some(secrets)) if !secrets.is_empty() => format!("with Secrets {}", secrets.join(", ")),
                (None, Some(_)) => {
                    "which has no Secrets: the store has to be open to anybody, or to the node".to_owned()
                }
                (None, None) => "which can't be read, or isn't there".to_owned(),
            };
            format!("ServiceAccount {account}, {what}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Value, json};
    use tidewaiter_deployer::live::{Canary, Condition, Happening, PodState, Summary};

    use super::*;

    fn members(of: &Value, into: &mut BTreeSet<String>) {
        match of {
            Value::Object(object) => {
                for (name, value) in object {
                    into.insert(name.clone());
                    members(value, into);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| members(item, into)),
            _ => {}
        }
    }

    fn words(rows: &[&str]) -> BTreeSet<String> {
        let page = include_str!("../../../docs/deploy.md");
        let row = |name: &&str| {
            let beginning = format!("| `{name}` | ");
            let found = page.lines().find(|line| line.starts_with(&beginning));
            found.unwrap_or_else(|| panic!("docs/deploy.md has no row for {name}"))
        };
        let quoted = |row: &str| row.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        rows.iter().map(row).flat_map(quoted).collect()
    }

    #[test]
    fn the_page_for_scripts_has_every_member_of_what_list_status_describe_and_history_print() {
        let text = || Some("text".to_owned());
        let entry = json!({
            "at": "", "by": "", "from": "", "storageUri": "", "format": "", "runtime": "", "runtimeVersion": "", "protocolVersion": "",
        });
        let deployment = Deployment {
            entry: serde_json::from_value(entry).unwrap(),
            changed_since: true,
        };
        let status = Status {
            summary: Summary {
                name: "fraud".to_owned(),
                namespace: "team-a".to_owned(),
                ready: "True".to_owned(),
                framework: "sklearn".to_owned(),
                url: text(),
                storage_uri: text(),
                server: text(),
                created: None,
            },
            address: text(),
            mode: Some("Standard"),
            router: text(),
            steps: vec!["first".to_owned()],
            runtime: text(),
            runtime_version: text(),
            protocol: text(),
            conditions: vec![Condition {
                of: String::new(),
                status: String::new(),
                reason: String::new(),
                message: String::new(),
                since: String::new(),
            }],
            failure: text(),
            canaries: vec![Canary {
                name: String::new(),
                percent: 10,
                ready: None,
                storage_uri: text(),
            }],
            pods: vec![PodState {
                name: String::new(),
                component: String::new(),
                state: String::new(),
                message: "why".to_owned(),
                ready: 1,
                containers: 1,
                restarts: 0,
                image: String::new(),
                node: String::new(),
                created: None,
            }],
            sees_pods: true,
            deployed: Some(deployment.clone()),
            unknown: vec![String::new()],
        };
        let description = |credentials| Description {
            status: status.clone(),
            credentials: Some(credentials),
            filled: BTreeMap::new(),
            history: vec![deployment.clone()],
            events: vec![Happening {
                at: None,
                of: String::new(),
                object: String::new(),
                reason: String::new(),
                message: String::new(),
                count: 1,
            }],
        };
        let mut printed = BTreeSet::new();
        for credentials in [
            Credentials::StorageKey {
                secret: String::new(),
                key: text(),
            },
            Credentials::ServiceAccount {
                account: String::new(),
                secrets: None,
                identity: None,
            },
        ] {
            members(&serde_json::to_value(description(credentials)).unwrap(), &mut printed);
        }
        let told = words(&["list", "status", "describe", "history"]);
        let untold: Vec<_> = printed.difference(&told).collect();
        assert!(untold.is_empty(), "docs/deploy.md, \"For scripts\": {untold:?}");
    }
}
