//! `tidewaiter review`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;

use anstream::{eprint, eprintln, print};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tidewaiter_core::nearest::one_letter_off;
use tidewaiter_core::policy_resource::KSERVE_KINDS;
use tidewaiter_deployer::cluster::{Cluster, is_object_name};
use tidewaiter_tools::files::Manifest;
use tidewaiter_tools::{Ask, Finding, Gate, Level, Live, Reviewed, Source, Verdict, files, junit, sarif};
use tidewaiter_world::Labels;

use super::arguments::{AccessArguments, Format};
use super::output::document;
use super::policy::registry;
use super::policy::source::engine;
use super::table::clean;
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
    after_help = "Exit codes: 0 nothing would be refused, 1 something would be, 2 an error.

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
    /// The namespace of objects that name none; by default that of the kubeconfig's context, or `default` with --config
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The namespace that KServe runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "kserve")]
    kserve_namespace: String,
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
        let (mut source, namespace, live) = if let Some(folder) = &self.config {
            let source = Source::folder(folder, namespaces).map_err(|error| Failure {
                message: error.to_string(),
                next: Some("name the folder that `tidewaiter-webhook --config` would read".to_owned()),
            })?;
            (source, "default".to_owned(), None)
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
            let source = Source::cluster(&live, namespaces).await.map_err(|error| Failure {
                message: error.to_string(),
                next: Some("--config names a folder with the configuration, which needs no cluster".to_owned()),
            })?;
            (source, cluster.default_namespace().to_owned(), Some(live))
        };
        registry::supply(&mut source.objects).await;
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
    let mut manifests = Vec::new();
    for source in &arguments.sources {
        manifests.extend(manifests_of(source)?);
    }
    let is_none = manifests.iter().all(|manifest| manifest.kind().is_empty());
    if is_none && arguments.sources.iter().any(|source| source == "-") {
        // What was to write them may have failed, and a pipeline would not tell.
        return Err(Failure {
            message: "standard input holds no object".to_owned(),
            next: Some("look at what the command before it says".to_owned()),
        });
    }
    let opened = arguments.gate.open(&namespaces(&manifests)).await?;
    let mut reviewed = Vec::new();
    for manifest in manifests.iter().filter(|manifest| is_judged(manifest)) {
        let namespace = manifest.namespace().unwrap_or(&opened.namespace);
        let ask = asked(manifest)?.in_namespace(namespace);
        let judged = opened.gate.review(&ask).await;
        reviewed.push(Reviewed::new(manifest, namespace, &judged));
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
    eprint!("{}", summary(&reviewed, manifests.len()));
    if reviewed.iter().any(|object| object.verdict == Verdict::Refused) {
        return Ok(Ending::Something);
    }
    if opened.gate.problems().iter().any(|problem| opened.gate.lacks(problem)) {
        return Err(Failure {
            message: "nothing is refused by what of the configuration can be used, and not all of it can".to_owned(),
            next: Some("mend what is said of the configuration above".to_owned()),
        });
    }
    Ok(Ending::Nothing)
}

/// Manifests of a file, a folder or standard input.
pub(super) fn manifests_of(source: &str) -> Result<Vec<Manifest>, Failure> {
    let failed = |error: files::FilesError| Failure {
        message: error.to_string(),
        next: None,
    };
    if source == files::STDIN {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return files::parsed(files::STDIN, &text).map_err(failed);
    }
    files::manifests(source.as_ref()).map_err(failed)
}

/// A manifest as a request to create it.
pub(super) fn asked(manifest: &Manifest) -> Result<Ask, Failure> {
    let failed = |reason: String| Failure {
        message: format!("{}:{}: {reason}", manifest.file, manifest.object.line("")),
        next: None,
    };
    if let Some(reason) = unfit(&manifest.object.value) {
        return Err(failed(reason));
    }
    Ask::create(&manifest.object.value).map_err(|error| failed(error.to_string()))
}

/// Why the API server refuses it before any policy sees it, as far as that shows without its schemas.
fn unfit(object: &Value) -> Option<String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    if let Some(meant) = one_letter_off(kind, &KSERVE_KINDS) {
        return Some(format!("there is no kind {kind}: write {meant}"));
    }
    match (&object["metadata"]["name"], &object["metadata"]["generateName"]) {
        (Value::String(name), _) if is_object_name(name) => None,
        (Value::String(name), _) if !name.is_empty() => Some(format!(
            "`{name}` is no name of an object: lower-case letters, digits, `-` and `.`"
        )),
        (_, Value::String(prefix)) if !prefix.is_empty() => None,
        _ => Some(format!("this {kind} has no name: write it into metadata.name")),
    }
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
        };
        let _ = writeln!(
            text,
            "{}:{}: {BOLD}{} {}/{}{BOLD:#} {style}{word}{style:#}",
            clean(&object.file),
            object.line,
            clean(&object.kind),
            clean(&object.namespace),
            clean(&object.name)
        );
        for finding in object
            .findings
            .iter()
            .filter(|finding| !quiet || finding.level > Level::Note)
        {
            let _ = writeln!(text, "  {}:{}: {}", clean(&object.file), finding.line, line(finding));
        }
    }
    text
}

fn line(finding: &Finding) -> String {
    let message = clean(&finding.message);
    let policy = clean(&finding.policy);
    match finding.level {
        Level::Error => format!("{BAD}error{BAD:#} [{policy}/{}] {message}", clean(&finding.code)),
        Level::Warning => format!("{BOLD}warning{BOLD:#} [{policy}] {message}"),
        Level::Note => format!("{DIM}note{DIM:#} [{policy}] {message}"),
    }
}

fn summary(reviewed: &[Reviewed], manifests: usize) -> String {
    let count = |verdict| reviewed.iter().filter(|object| object.verdict == verdict).count();
    if reviewed.is_empty() {
        return format!(
            "\nNone of {manifests} objects is KServe's: nothing to review.\n\n{HINT}hint{HINT:#}: InferenceServices are of apiVersion serving.kserve.io/v1beta1\n"
        );
    }
    format!(
        "\n{} reviewed: {} refused, {} admitted, {} untouched; {} objects of other kinds\n",
        reviewed.len(),
        count(Verdict::Refused),
        count(Verdict::Admitted),
        count(Verdict::Untouched),
        manifests - reviewed.len()
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
