//! `tidewaiter list` and `tidewaiter history`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use anstream::{eprintln, print};
use clap::Args;
use jiff::Timestamp;
use tidewaiter_deployer::live::{self, Alike, Deployed, Deployment, Summary};

use super::arguments::Format;
use super::output::document;
use super::place::{Place, PlaceArguments, ServiceArguments, age};
use super::status::CHANGED_SINCE;
use super::table::table;
use super::{Ending, Failure};

/// List InferenceServices, graphs of them and models on their servers, or find those that serve the same model.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "Exit codes: 0 there are some, 1 there are none, 2 an error.

Examples:
  tidewaiter list                                    of the context's namespace
  tidewaiter list -A -o json                         of all namespaces, for a script
  tidewaiter list -A --like fraud                    that serve what the service fraud serves
  tidewaiter list --storage-uri s3://models/fraud/3  that serve this model"
)]
pub(crate) struct ListArguments {
    /// Of all namespaces
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only those that serve the same as this service: its storage URI and framework
    #[arg(long, value_name = "NAME", conflicts_with_all = ["storage_uri", "framework"])]
    like: Option<String>,
    /// Only those that serve the model there
    #[arg(long, value_name = "URI")]
    storage_uri: Option<String>,
    /// With --storage-uri: only those that load it with this
    #[arg(long, value_name = "FRAMEWORK", requires = "storage_uri")]
    framework: Option<String>,
    /// Print them for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    place: PlaceArguments,
}

/// Show what was deployed as a service by whom from what, as `tidewaiter deploy` wrote it down.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 there is a history, 1 there is none, 2 an error.

Examples:
  tidewaiter history fraud
  tidewaiter history fraud -o json")]
pub(crate) struct HistoryArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

pub(super) async fn run(arguments: ListArguments) -> Result<Ending, Failure> {
    let Place { cluster, namespace, .. } = arguments.place.open(&[]).await?;
    let alike = match (&arguments.like, arguments.storage_uri) {
        (Some(name), _) => {
            let service = Deployed::read_any(&cluster, &namespace, name).await?;
            let alike = Alike::to(&service).ok_or_else(|| Failure {
                message: format!("{} {namespace}/{name} names no model of its own", service.what()),
                next: Some("name a model with --storage-uri".to_owned()),
            })?;
            Some(alike)
        }
        (None, Some(storage_uri)) => Some(Alike {
            storage_uri,
            framework: arguments.framework,
        }),
        (None, None) => None,
    };
    let place = (!arguments.all_namespaces).then_some(namespace.as_str());
    let mut services = live::list(&cluster, place).await?;
    if let Some(alike) = &alike {
        services = live::alike(services, alike);
    }
    let summaries: Vec<Summary> = services.iter().map(Summary::of).collect();
    if let Some(format) = arguments.output {
        print!("{}", document(&summaries, format)?);
    } else if summaries.is_empty() {
        let place = place.map_or_else(
            || "any namespace".to_owned(),
            |namespace| format!("namespace {namespace}"),
        );
        eprintln!("There is no such service in {place}.");
    } else {
        print!("{}", shown(&summaries, Timestamp::now()));
    }
    Ok(ending(summaries.is_empty()))
}

fn ending(is_empty: bool) -> Ending {
    if is_empty { Ending::Something } else { Ending::Nothing }
}

fn shown(summaries: &[Summary], now: Timestamp) -> String {
    let row = |one: &Summary| {
        [
            one.name.clone(),
            one.namespace.clone(),
            one.ready.clone(),
            match &one.server {
                Some(server) => format!("{} on {server}", one.framework),
                None => one.framework.clone(),
            },
            one.url.clone().unwrap_or_else(|| "-".to_owned()),
            age(one.created, now),
        ]
    };
    let rows: Vec<_> = summaries.iter().map(row).collect();
    table(["NAME", "NAMESPACE", "READY", "FRAMEWORK", "URL", "AGE"], &rows)
}

pub(super) async fn history(arguments: HistoryArguments) -> Result<Ending, Failure> {
    let Place { cluster, namespace, .. } = arguments.service.place.open(&[]).await?;
    let service = Deployed::read_any(&cluster, &namespace, &arguments.service.name).await?;
    let history = live::history(&service);
    if let Some(format) = arguments.output {
        print!("{}", document(&history, format)?);
    } else if history.is_empty() {
        eprintln!("{namespace}/{} has no history: others deployed it.", service.name());
    } else {
        print!("{}", deployments(&history));
    }
    Ok(ending(history.is_empty()))
}

fn deployments(history: &[Deployment]) -> String {
    let row = |one: &Deployment| {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let entry = &one.entry;
        let mut model = or_dash(&entry.storage_uri);
        if one.changed_since {
            model = format!("{model} ({CHANGED_SINCE})");
        }
        [
            entry.at.clone(),
            entry.by.clone(),
            or_dash(&entry.format),
            entry.from.clone(),
            model,
        ]
    };
    let rows: Vec<_> = history.iter().map(row).collect();
    table(["AT", "BY", "FRAMEWORK", "FROM", "MODEL"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_came_without_a_deploy_is_told_beside_the_last_one_that_did() {
        let deployment = |uri: &str, changed_since| {
            Deployment {
            entry: serde_json::from_value(serde_json::json!({
                "at": "2026-06-01T12:00:00Z", "by": "ann", "from": "models:/fraud@champion", "storageUri": uri, "format": "mlflow",
            }))
            .unwrap(),
            changed_since,
        }
        };
        let told = deployments(&[deployment("s3://m/2", true), deployment("s3://m/1", false)]);
        let told = anstream::adapter::strip_str(&told).to_string();
        insta::assert_snapshot!(told, @r"
        AT                     BY    FRAMEWORK   FROM                     MODEL
        2026-06-01T12:00:00Z   ann   mlflow      models:/fraud@champion   s3://m/2 (changed since, not by a deploy)
        2026-06-01T12:00:00Z   ann   mlflow      models:/fraud@champion   s3://m/1
        ");
    }

    #[test]
    fn services_are_a_table() {
        let one = Summary {
            name: "fraud".into(),
            namespace: "team-a".into(),
            ready: "True".into(),
            framework: "mlflow".into(),
            url: Some("http://fraud-team-a.example.com".into()),
            storage_uri: None,
            server: None,
            created: "2026-06-01T12:00:00Z".parse().ok(),
        };
        let two = Summary {
            name: "a-longer-name".into(),
            ready: "Unknown".into(),
            url: None,
            created: None,
            ..one.clone()
        };
        insta::assert_snapshot!(shown(&[one.clone(), two], "2026-06-04T12:00:00Z".parse().unwrap()));
        let model = Summary {
            server: Some("many".into()),
            framework: "sklearn".into(),
            ..one
        };
        let told = shown(&[model], "2026-06-04T12:00:00Z".parse().unwrap());
        assert!(told.contains("   sklearn on many   "), "{told}");
    }
}
