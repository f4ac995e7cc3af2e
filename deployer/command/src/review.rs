//! `tidewaiter review`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anstream::{eprint, eprintln, print};
use clap::{Args, ValueEnum};
use serde_json::json;
use tidewaiter_deployer::cluster::Cluster;
use tidewaiter_tools::files::{Files, Manifest};
use tidewaiter_tools::{Ask, Finding, Gate, Level, Live, Reviewed, Source, Verdict, junit, sarif};
use tidewaiter_world::Labels;

use super::arguments::{AccessArguments, Format};
use super::output::document;
use super::policy::modules::Modules;
use super::policy::source::engine;
use super::table::clean;
use super::unfit::{Unfit, namespace, unfit, without_nulls};
use super::{BAD, BOLD, DIM, Ending, Failure, GOOD, HINT};

/// Say what the cluster would say of manifests, before they are applied.
///
/// The same engine, policies and configuration as in the cluster, run on files: folders with YAML and JSON, what kustomize and helm print, lists. Each object is
/// reviewed as if it were created; what would be refused, warned of and filled in is told with file and line. Nothing is written anywhere; stores are read where
/// their keys can be.
///
/// The configuration is that of a folder (--config), or of the cluster that the kubeconfig leads to.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing would be refused, 1 something would be, 2 not all of it could be reviewed, or an error.

Examples:
  tidewaiter review service.yaml                          by the cluster's configuration
  tidewaiter review --config tidewaiter/ manifests/       by a folder's, for CI
  kubectl kustomize overlays/prod | tidewaiter review -   what kustomize makes
  helm template fraud chart/ | tidewaiter review - -n fraud
  tidewaiter review manifests/ -o sarif > tidewaiter.sarif"
)]
pub(crate) struct ReviewArguments {
    /// Files and folders with manifests, or `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    sources: Vec<String>,
    #[command(flatten)]
    gate: GateArguments,
    /// In which form
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Form,
    /// Leave out what would be filled in
    #[arg(long, short)]
    quiet: bool,
}

/// Whose configuration.
#[derive(Debug, Args)]
pub(crate) struct GateArguments {
    /// The folder with Tidewaiter's configuration, in place of a cluster's
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,
    /// What the server's --modules reads: hosts, mirrors and whose signatures count, for policies in registries; by default, without --config, what the cluster's
    /// server reads
    #[arg(long, value_name = "FILE")]
    modules: Option<PathBuf>,
    /// The namespace of objects that name none; by default that of the kubeconfig's context, or `default` with --config
    #[arg(long, short, value_name = "NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,
    /// The namespace that KServe runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "kserve", value_parser = namespace)]
    kserve_namespace: String,
    /// The namespace that Tidewaiter runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "tidewaiter-system", value_parser = namespace)]
    tidewaiter_namespace: String,
    #[command(flatten)]
    access: AccessArguments,
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// JSON
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit's XML
    Junit,
}

/// A configuration, and the namespace of objects that name none.
pub(super) struct Opened {
    pub(super) gate: Gate,
    pub(super) namespace: String,
    pub(super) live: Option<Live>,
}

impl GateArguments {
    /// `namespaces` are those that stand in the manifests themselves.
    pub(super) async fn open(self, namespaces: &BTreeMap<String, Labels>) -> Result<Opened, Failure> {
        let modules = self.modules.as_deref().map(Modules::of_file).transpose()?;
        let (mut source, namespace, live, modules) = if let Some(folder) = &self.config {
            let source = Source::folder(folder, namespaces).map_err(|error| Failure {
                message: error.to_string(),
                next: Some("name the folder that `tidewaiter-webhook --config` would read".to_owned()),
            })?;
            (
                source,
                "default".to_owned(),
                None,
                modules.map_or_else(Modules::by_default, Ok)?,
            )
        } else {
            let cluster = Cluster::connect(&self.access.into()).await;
            let cluster = cluster.map_err(|error| Failure {
                next: Some(format!(
                    "{}; or review manifests without a cluster: --config names a folder with Tidewaiter's configuration",
                    error.next()
                )),
                message: error.to_string(),
            })?;
            let live = Live::new(cluster.client().clone(), &self.kserve_namespace);
            let own = &self.tidewaiter_namespace;
            let modules = match modules {
                Some(modules) => modules,
                None => Modules::of_cluster(&live, own).await?,
            };
            let live = live.with_pull_secrets(own, modules.pull_secrets.clone());
            let source = Source::cluster(&live, namespaces).await.map_err(|error| Failure {
                message: error.to_string(),
                next: Some("--config names a folder with the configuration, which needs no cluster".to_owned()),
            })?;
            (source, cluster.default_namespace().to_owned(), Some(live), modules)
        };
        modules.supply(&mut source).await;
        let gate = Gate::new(&engine()?, source).await;
        for problem in gate.problems() {
            eprintln!("{BOLD}configuration{BOLD:#}: {}", clean(&problem.to_string()));
        }
        Ok(Opened {
            gate,
            namespace: self.namespace.unwrap_or(namespace),
            live,
        })
    }
}

pub(super) async fn run(arguments: ReviewArguments) -> Result<Ending, Failure> {
    let mut files = Files::default();
    for source in &arguments.sources {
        let more = Files::read(source);
        files.manifests.extend(more.manifests);
        files.unreadable.extend(more.unreadable);
        files.documents += more.documents;
    }
    let opened = arguments.gate.open(&namespaces(&files.manifests)).await?;
    let mut reviewed: Vec<_> = files.unreadable.iter().map(Reviewed::unreadable).collect();
    for manifest in files.manifests.iter().filter(|manifest| is_judged(manifest)) {
        let namespace = manifest.namespace().unwrap_or(&opened.namespace);
        reviewed.push(match asked(manifest) {
            Ok(ask) => {
                let judged = opened.gate.review(&ask.in_namespace(namespace)).await;
                Reviewed::new(manifest, namespace, &judged)
            }
            Err(Unfit { path, message }) => Reviewed::undecodable(manifest, namespace, Some(path), message),
        });
    }
    match arguments.output {
        Form::Text => print!("{}", shown(&reviewed, arguments.quiet)),
        Form::Json => {
            let problems: Vec<_> = opened.gate.problems().iter().map(ToString::to_string).collect();
            let all = json!({"objects": reviewed, "configurationProblems": problems});
            print!("{}", document(&all, Format::Json)?);
        }
        Form::Sarif => print!("{}", document(&sarif(&reviewed, &opened.gate), Format::Json)?),
        Form::Junit => print!("{}", junit(&reviewed, &opened.gate)),
    }
    eprint!("{}", summary(&reviewed, &files));
    if let Some(failure) = unreviewed(&reviewed) {
        return Err(failure);
    }
    if reviewed.iter().any(|object| object.verdict == Verdict::Refused) {
        return Ok(Ending::Something);
    }
    lacking(&opened.gate).map_or(Ok(Ending::Nothing), Err)
}

/// Where not everything could be reviewed: the first of it, for whoever sends what is printed elsewhere.
fn unreviewed(reviewed: &[Reviewed]) -> Option<Failure> {
    let mut undecodable = reviewed.iter().filter(|object| object.verdict == Verdict::Undecodable);
    let first = undecodable.next()?;
    let finding = first.findings.first()?;
    let more = match undecodable.count() {
        0 => String::new(),
        more => format!("; and {more} more, which stand in what is printed"),
    };
    Some(Failure {
        message: format!(
            "not everything could be reviewed: {}:{}: {}{more}",
            first.file, finding.line, finding.message
        ),
        next: None,
    })
}

/// Where an object is admitted by what of the configuration can be used.
pub(super) fn lacking(gate: &Gate) -> Option<Failure> {
    let lacks: Vec<_> = gate.problems().iter().filter(|problem| gate.lacks(problem)).collect();
    let first = lacks.first()?;
    let what = match (&first.object, &first.at) {
        (Some(object), _) => object.to_string(),
        (None, Some(at)) => at.clone(),
        (None, None) => "part of the configuration".to_owned(),
    };
    let more = match lacks.len() {
        1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    Some(Failure {
        message: format!(
            "nothing would be refused, as far as can be said: {what}{more} can't be used here, and the cluster may decide otherwise"
        ),
        next: Some("mend what is said of the configuration above, and ask again".to_owned()),
    })
}

/// Manifests of a file, a folder or standard input, where all of it can be read.
pub(super) fn manifests_of(source: &str) -> Result<Vec<Manifest>, Failure> {
    let files = Files::read(source);
    match files.unreadable.first() {
        Some(unreadable) => Err(Failure {
            message: unreadable.to_string(),
            next: None,
        }),
        None => Ok(files.manifests),
    }
}

/// A manifest as a request to create it.
pub(super) fn asked(manifest: &Manifest) -> Result<Ask, Unfit> {
    if let Some(unfit) = unfit(&manifest.object.value) {
        return Err(unfit);
    }
    Ask::create(&without_nulls(&manifest.object.value)).map_err(|error| Unfit {
        path: String::new(),
        message: error.to_string(),
    })
}

/// Whether it is of a kind that policies can be for: those of KServe's own group.
fn is_judged(manifest: &Manifest) -> bool {
    let version = manifest.object.value["apiVersion"].as_str().unwrap_or_default();
    version.starts_with("serving.kserve.io/")
}

/// Namespaces that the manifests make, with their labels: grants and policies may go by them.
pub(super) fn namespaces(manifests: &[Manifest]) -> BTreeMap<String, Labels> {
    let made = manifests.iter().filter(|manifest| manifest.kind() == "Namespace");
    made.map(|manifest| {
        let labels = manifest.object.value["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten();
        let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        (manifest.name().to_owned(), labels.collect())
    })
    .collect()
}

fn shown(reviewed: &[Reviewed], quiet: bool) -> String {
    let mut text = String::new();
    for object in reviewed {
        let (style, word) = match object.verdict {
            Verdict::Refused => (BAD, "refused"),
            Verdict::Admitted => (GOOD, "admitted"),
            Verdict::Untouched => (DIM, "untouched"),
            Verdict::Undecodable => (BAD, "undecodable"),
        };
        let (file, line) = (clean(&object.file), object.line);
        let name = match object.kind.as_str() {
            "" => String::new(),
            kind => format!(
                "{BOLD}{} {}/{}{BOLD:#} ",
                clean(kind),
                clean(&object.namespace),
                clean(&object.name)
            ),
        };
        let _ = writeln!(text, "{file}:{line}: {name}{style}{word}{style:#}");
        for finding in object
            .findings
            .iter()
            .filter(|finding| !quiet || finding.level > Level::Note)
        {
            let _ = writeln!(text, "  {file}:{}: {}", finding.line, told(finding));
        }
    }
    text
}

fn told(finding: &Finding) -> String {
    let message = clean(&finding.message);
    let policy = clean(&finding.policy);
    match finding.level {
        Level::Error => format!("{BAD}error{BAD:#} [{policy}/{}] {message}", clean(&finding.code)),
        Level::Warning => format!("{BOLD}warning{BOLD:#} [{policy}] {message}"),
        Level::Note => format!("{DIM}note{DIM:#} [{policy}] {message}"),
    }
}

fn summary(reviewed: &[Reviewed], files: &Files) -> String {
    let count = |verdict| reviewed.iter().filter(|object| object.verdict == verdict).count();
    let undecodable = count(Verdict::Undecodable);
    let judged = reviewed.len() - undecodable;
    let read = format!("{} documents read", files.documents);
    if reviewed.is_empty() {
        return format!(
            "\n{read}, 0 reviewed: none of {} objects is KServe's, and there is nothing to review.\n\n{HINT}hint{HINT:#}: InferenceServices are of apiVersion serving.kserve.io/v1beta1\n",
            files.manifests.len()
        );
    }
    let undecodable = match undecodable {
        0 => String::new(),
        count => format!("; {BAD}{count} undecodable{BAD:#}"),
    };
    let others = files.manifests.iter().filter(|manifest| !is_judged(manifest)).count();
    format!(
        "\n{read}, {judged} reviewed: {} refused, {} admitted, {} untouched{undecodable}; {others} objects of other kinds\n",
        count(Verdict::Refused),
        count(Verdict::Admitted),
        count(Verdict::Untouched),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};

    #[tokio::test]
    async fn where_there_is_no_cluster_the_way_without_one_is_told() {
        let words = ["tidewaiter", "review", "service.yaml", "--kubeconfig", "/no/kubeconfig"];
        let Command::Review(arguments) = Arguments::parse_from(words).command else {
            panic!("another command")
        };
        let failure = arguments.gate.open(&BTreeMap::new()).await.err().unwrap();
        assert!(
            failure.next.unwrap().contains("--config names a folder"),
            "{}",
            failure.message
        );
    }
}
