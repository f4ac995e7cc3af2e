//! `tidewaiter logs`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::io::Write as _;
use std::time::Duration;

use anstream::eprintln;
use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use tidewaiter_deployer::live::{self, Component, Deployed, LogOptions, Part};

use super::place::{Place, ServiceArguments, duration};
use super::{Ending, Failure};

/// Print what a service's containers write: the model's server, or the initializer that fetches the model.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 1 a container has not started yet, 2 an error.

Examples:
  tidewaiter logs fraud                   what the model's server wrote
  tidewaiter logs fraud --of initializer  how the model was fetched
  tidewaiter logs fraud -f --tail 20      go on with it
  tidewaiter logs fraud --previous        why it ended the last time")]
pub(crate) struct LogsArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// server, initializer, or a container's name such as queue-proxy
    #[arg(long, value_name = "ROLE", default_value = "server")]
    of: String,
    /// Whose Pods
    #[arg(long, value_enum, value_name = "COMPONENT", default_value = "predictor")]
    component: Which,
    /// Of this Pod alone
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Go on until the containers end
    #[arg(long, short)]
    follow: bool,
    /// Of the run before the last restart
    #[arg(long, short, conflicts_with = "follow")]
    previous: bool,
    /// Only the last so many lines of each
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Only what is younger, such as 10m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    since: Option<Duration>,
    /// With the time before each line
    #[arg(long)]
    timestamps: bool,
}

/// A part of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// What holds the model
    Predictor,
    /// What is before it
    Transformer,
    /// What tells why it answers so
    Explainer,
}

impl From<Which> for Component {
    fn from(which: Which) -> Self {
        match which {
            Which::Predictor => Self::Predictor,
            Which::Transformer => Self::Transformer,
            Which::Explainer => Self::Explainer,
        }
    }
}

pub(super) async fn run(arguments: LogsArguments) -> Result<Ending, Failure> {
    let Place { cluster, namespace, .. } = arguments.service.place.open(&[]).await?;
    let service = Deployed::read_any(&cluster, &namespace, &arguments.service.name).await?;
    let options = LogOptions {
        component: arguments.component.into(),
        part: match arguments.of.as_str() {
            "server" => Part::Server,
            "initializer" => Part::Initializer,
            name => Part::Container(name.to_owned()),
        },
        pod: arguments.pod,
        follow: arguments.follow,
        previous: arguments.previous,
        tail: arguments.tail.map(i64::from),
        since: arguments
            .since
            .map(|since| i64::try_from(since.as_secs().max(1)).unwrap_or(i64::MAX)),
        timestamps: arguments.timestamps,
    };
    let (mut lines, silent) = live::logs(&cluster, &service, &options).await?;
    for one in &silent {
        eprintln!("{one}");
    }
    let mut out = std::io::stdout().lock();
    let mut last: Option<String> = None;
    while let Some(line) = lines.next().await {
        let line = line?;
        if last.as_ref() != Some(&line.pod) {
            eprintln!("==> {}", line.pod);
            last = Some(line.pod);
        }
        // Whoever reads has read enough.
        if writeln!(out, "{}", line.text).and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    Ok(if silent.is_empty() {
        Ending::Nothing
    } else {
        Ending::Something
    })
}
