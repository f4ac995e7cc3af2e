//! The charts, as the real Helm and a real API server take them. No Pod runs here: what is tested is what an admin types and reads, and what the API
//! server makes of it. The cluster is this test's own, since it has Tidewaiter in and out of it.

mod alerts;
mod dashboard;
mod life;
mod rendered;
mod values;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tidewaiter_e2e::in_the_ground;
use tidewaiter_e2e::runner::{ends, trial};
use tidewaiter_e2e::server::{COMMAND, command_binary};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::tools::{Kserve, Module};
use tidewaiter_ground::{Cluster, Options, Project, Said};

/// Tells the process inside where Helm is.
const HELM: &str = "TIDEWAITER_HELM";
const NAMESPACE: &str = "tidewaiter-system";
/// Helm's words for the release, and for that of its definitions.
const INSTALL: [&str; 5] = ["install", "tidewaiter", "tidewaiter", "--namespace", NAMESPACE];
const INSTALL_CRDS: [&str; 5] = [
    "install",
    "tidewaiter-crds",
    "tidewaiter-crds",
    "--namespace",
    NAMESPACE,
];
const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts");

type Test = (&'static str, fn(&World) -> Result<()>);

const TESTS: &[Test] = &[
    ("both_charts_pass_lint", values::both_charts_pass_lint),
    ("a_wrong_value_is_named", values::a_wrong_value_is_named),
    ("what_is_missing_is_said_first", values::what_is_missing_is_said_first),
    (
        "the_api_server_takes_every_documented_value",
        values::the_api_server_takes_every_documented_value,
    ),
    (
        "a_field_that_its_project_does_not_have_is_refused",
        values::a_field_that_its_project_does_not_have_is_refused,
    ),
    (
        "the_server_reads_the_modules_that_the_chart_renders",
        rendered::the_server_reads_the_modules_that_the_chart_renders,
    ),
    (
        "prometheus_is_led_to_the_port_of_the_metrics",
        rendered::prometheus_is_led_to_the_port_of_the_metrics,
    ),
    (
        "what_helm_and_kustomize_make_is_reviewed",
        rendered::what_helm_and_kustomize_make_is_reviewed,
    ),
    (
        "policy_reports_are_defined_unless_someone_did",
        life::policy_reports_are_defined_unless_someone_did,
    ),
    (
        "an_upgrade_keeps_what_the_leader_wrote",
        life::an_upgrade_keeps_what_the_leader_wrote,
    ),
    (
        "a_dead_gate_is_open_but_where_it_was_asked_to_be_shut",
        life::a_dead_gate_is_open_but_where_it_was_asked_to_be_shut,
    ),
    (
        "each_alert_fires_when_it_should_and_not_otherwise",
        alerts::each_alert_fires_when_it_should_and_not_otherwise,
    ),
    (
        "prometheus_can_read_what_each_panel_asks",
        dashboard::prometheus_can_read_what_each_panel_asks,
    ),
    (
        "an_uninstall_leaves_what_users_need",
        life::an_uninstall_leaves_what_users_need,
    ),
];

struct World {
    cluster: Cluster,
    helm: PathBuf,
    /// Helm's own state.
    home: PathBuf,
}

impl World {
    fn try_helm(&self, arguments: &[&str]) -> Result<Said> {
        let output = Command::new(&self.helm)
            .args(arguments)
            .current_dir(CHARTS)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"))
            .output()
            .context("can't start helm")?;
        Ok(Said::from(output))
    }

    fn helm(&self, arguments: &[&str]) -> Result<String> {
        let said = self.try_helm(arguments)?;
        ensure!(said.ok, "helm {}: {}", arguments.join(" "), said.stderr.trim());
        Ok(said.stdout)
    }

    /// Helm, which has to refuse this in words that hold all of these.
    fn refused(&self, arguments: &[&str], words: &[&str]) -> Result<()> {
        let said = self.try_helm(arguments)?;
        ensure!(!said.ok, "helm {} was not refused", arguments.join(" "));
        for word in words {
            ensure!(
                said.stderr.contains(word),
                "helm {} doesn't say `{word}`: {}",
                arguments.join(" "),
                said.stderr
            );
        }
        Ok(())
    }

    fn apply(&self, objects: &str, more: &[&str]) -> Result<Said> {
        let arguments = [&["apply", "--server-side", "-f", "-"], more].concat();
        let said = self.cluster.try_kubectl(&arguments, objects)?;
        ensure!(said.ok, "{}", said.stderr.trim());
        Ok(said)
    }

    /// The API server, which has to refuse an object for its field `misspelt`.
    fn unknown_field(&self, object: &Value) -> Result<()> {
        let strictly = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ];
        let said = self.cluster.try_kubectl(&strictly, &object.to_string())?;
        ensure!(!said.ok, "{} passed with a misspelt field", object["kind"]);
        ensure!(
            said.stderr.contains(".misspelt: field not declared in schema"),
            "{}",
            said.stderr
        );
        Ok(())
    }

    /// An empty cluster, but for KServe and our namespace, which keeps Pods to the strictest Pod Security level.
    fn clean(&self) -> Result<()> {
        for release in ["tidewaiter", "tidewaiter-crds"] {
            self.helm(&["uninstall", release, "--namespace", NAMESPACE, "--ignore-not-found"])?;
        }
        self.cluster.kubectl(&[
            "delete",
            "--ignore-not-found",
            "crd/storagebackends.tidewaiter.dev",
            "crd/wasmpolicies.tidewaiter.dev",
            "crd/policyreports.wgpolicyk8s.io",
        ])?;
        let strict = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"});
        self.apply(&namespace(NAMESPACE, strict).to_string(), &[]).map(drop)
    }

    /// A cluster with the definitions, and with Tidewaiter if there are arguments for it.
    fn install(&self, arguments: &[&str]) -> Result<()> {
        self.clean()?;
        self.helm(&INSTALL_CRDS)?;
        if !arguments.is_empty() {
            self.helm(&[&INSTALL, arguments].concat())?;
        }
        Ok(())
    }

    /// Has other projects' kinds served, which some values have the chart make objects of.
    fn foreign_kinds(&self) -> Result<()> {
        self.cluster.define(Project::CertManager)?;
        self.cluster.define(Project::PrometheusOperator)
    }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each has the cluster for itself.
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let options = Options {
        node: false,
        kserve: Kserve::V0_20,
    };
    let done = in_the_ground(
        options,
        || {
            let cache = Cache::open()?;
            Cluster::prepare_definitions(&[Project::CertManager, Project::PrometheusOperator, Project::Kyverno])?;
            Ok(vec![
                (HELM, Module::Helm.build(&cache)?.join("helm").into()),
                (COMMAND, command_binary()?.into()),
                (
                    alerts::PROMTOOL,
                    Module::Prometheus.build(&cache)?.join("promtool").into(),
                ),
            ])
        },
        |cluster| {
            let helm = std::env::var_os(HELM).context("nobody said where Helm is")?.into();
            let home = cluster.folder().join("helm");
            let world = Arc::new(World { cluster, helm, home });
            Ok(libtest_mimic::run(&arguments, trials(Some(&world))).exit_code())
        },
    );
    ends(done)
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    TESTS.iter().map(|&(name, test)| trial(name, test, world)).collect()
}
