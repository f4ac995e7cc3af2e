//! The arguments of `tidewaiter`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidewaiter_deployer::cluster::Access;
use tidewaiter_deployer::import::Source;

use super::change::{
    PromoteArguments, RollbackArguments, ScaleArguments, SplitArguments, StartArguments, StopArguments,
};
use super::delete::DeleteArguments;
use super::deploy::DeployArguments;
use super::explain::ExplainArguments;
use super::inspect::InspectArguments;
use super::list::{HistoryArguments, ListArguments};
use super::logs::LogsArguments;
use super::policy::Policy;
use super::predict::PredictArguments;
use super::reaching::UrlArguments;
use super::review::ReviewArguments;
use super::shell::{CompletionsArguments, ManArguments};
use super::status::{DescribeArguments, StatusArguments};
use super::upload::UploadArguments;

use super::profile::Profile;
use super::secret::Secret;

/// Sees to models on KServe from outside of the cluster.
///
/// What is asked for goes to stdout, everything else to stderr.
#[derive(Debug, Parser)]
#[command(
    name = "tidewaiter",
    version,
    after_help = "Exit codes: 0 nothing left to do or to say, 1 something is, 2 an error."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Model stores
    Backend {
        #[command(subcommand)]
        command: Backend,
    },
    Audit(AuditArguments),
    Deploy(Box<DeployArguments>),
    /// Secrets that KServe opens stores with
    Secret {
        #[command(subcommand)]
        command: Secret,
    },
    Inspect(InspectArguments),
    Upload(UploadArguments),
    Predict(PredictArguments),
    List(ListArguments),
    Status(StatusArguments),
    Describe(DescribeArguments),
    Logs(LogsArguments),
    Url(UrlArguments),
    Scale(ScaleArguments),
    Stop(StopArguments),
    Start(StartArguments),
    Split(SplitArguments),
    Promote(PromoteArguments),
    Rollback(RollbackArguments),
    Delete(DeleteArguments),
    History(HistoryArguments),
    Review(ReviewArguments),
    Explain(ExplainArguments),
    /// Policies: write, build, test and look into them
    Policy {
        #[command(subcommand)]
        command: Policy,
    },
    Completions(CompletionsArguments),
    Man(ManArguments),
    /// Which cluster and which stores, by a name
    Profile {
        #[command(subcommand)]
        command: Profile,
    },
}

/// What to do about model stores.
#[derive(Debug, Subcommand)]
pub(crate) enum Backend {
    Import(ImportArguments),
}

/// Make StorageBackends of the Secrets that KServe's users have.
///
/// Reads the Secrets by which InferenceServices open their stores, alone or through a ServiceAccount, and shows the StorageBackends that would serve the same:
/// one for all Secrets with the same keys and endpoint, granted to the namespaces that have them, serving the buckets that are loaded with them. Their keys are
/// copied into Tidewaiter's namespace. The users' own Secrets, ServiceAccounts and services stay as they are, and no key is ever printed.
///
/// Nothing is done before --yes, or a `y` where there is a terminal to ask on.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing is left to do, 1 something is (a conflict, or what was not agreed to), 2 an error.

Examples:
  tidewaiter backend import                              show it all, and ask
  tidewaiter backend import --dry-run=server             have the API server check it
  tidewaiter backend import team-a/minio --serves s3://archive/ --yes
                                                         a Secret that no service uses yet
  tidewaiter backend import -o yaml > backends.yaml      for Git; the Secret is made by --yes"
)]
pub(crate) struct ImportArguments {
    /// The only Secrets to import, as NAMESPACE/NAME, or NAMESPACE/NAME:KEY for a key of a storage-config; by default all
    #[arg(value_name = "SECRET")]
    pub(crate) secrets: Vec<Source>,
    /// What the chosen Secret is for, such as s3://bucket/path/, in place of what is loaded with it; may be given several times
    #[arg(long, value_name = "URI_PREFIX", requires = "secrets")]
    pub(crate) serves: Vec<String>,
    /// What to call the StorageBackend, in place of the Secret's name
    #[arg(long, value_name = "NAME", requires = "secrets")]
    pub(crate) name: Option<String>,
    /// Look only into this namespace; may be given several times
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) from: Vec<String>,
    /// Tidewaiter's namespace, where the keys are copied to
    #[arg(long, value_name = "NAMESPACE", default_value = "tidewaiter-system")]
    pub(crate) namespace: String,
    /// The namespace that KServe runs in
    #[arg(long, value_name = "NAMESPACE", default_value = "kserve")]
    pub(crate) kserve_namespace: String,
    /// Print the StorageBackends, and do nothing
    #[arg(long, short, value_enum, value_name = "FORMAT", conflicts_with_all = ["yes", "dry_run"])]
    pub(crate) output: Option<Format>,
    /// server: the API server checks what would be done, and stores nothing
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) dry_run: Option<DryRun>,
    /// Do it without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) access: AccessArguments,
}

/// Show what Tidewaiter would change or refuse of what already runs.
///
/// The leader looks through all services every so often and writes PolicyReports; this prints them. With --fix each service that would only be changed is handed to
/// Tidewaiter, which fills in what is missing. A service that would be refused runs on as it is: see to what its message says.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing found, 1 findings, 2 an error. With --fix: 1 if any finding is left.

Examples:
  tidewaiter audit -A                 of all namespaces
  tidewaiter audit -n team-a -o json  for a script
  tidewaiter audit -n team-a --fix    show what would be filled in, ask, and do it"
)]
pub(crate) struct AuditArguments {
    /// Of this namespace; by default that of the kubeconfig's context
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Of all namespaces
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Print the findings for a program
    #[arg(long, short, value_enum, value_name = "FORMAT", conflicts_with = "fix")]
    pub(crate) output: Option<Format>,
    /// Have Tidewaiter fill in what is missing. KServe replaces the Pods of a service that changes
    #[arg(long)]
    pub(crate) fix: bool,
    /// With --fix: do it without asking
    #[arg(long, short, requires = "fix")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) access: AccessArguments,
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct AccessArguments {
    /// The kubeconfig; by default $KUBECONFIG, then ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; by default the current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl From<AccessArguments> for Access {
    fn from(arguments: AccessArguments) -> Self {
        Self {
            kubeconfig: arguments.kubeconfig,
            context: arguments.context,
        }
    }
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// YAML
    Yaml,
    /// JSON
    Json,
}

/// Who checks what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// The API server
    Server,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_prefix_needs_a_secret_that_it_is_for() {
        let parse = |words: &str| Arguments::try_parse_from(words.split(' '));
        assert!(parse("tidewaiter backend import a/b --serves s3://c/").is_ok());
        assert!(parse("tidewaiter backend import --serves s3://c/").is_err());
        assert!(parse("tidewaiter backend import b").is_err());
        assert!(parse("tidewaiter backend import -o yaml --yes").is_err());
        assert!(parse("tidewaiter audit --yes").is_err());
        assert!(parse("tidewaiter audit -A -n team-a").is_err());
    }
}
