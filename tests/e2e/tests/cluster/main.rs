//! Tidewaiter on a real cluster. All tests share one, and each has a namespace of its own.
//!
//! `cargo test -p tidewaiter-e2e` brings a cluster up and takes it down, with the newest KServe. The oldest that is supported has its turn among the tests of
//! the chart; without root, where those are left out, here. `TIDEWAITER_KSERVE=v0.20.0` or `v0.15.2` takes one release alone. With
//! `TIDEWAITER_GROUND=NAME` the tests use the cluster that `tidewaiter-ground up --name NAME` brought up. Without root there is no node: tests that
//! need Pods are left out, and counted as ignored.

mod admission;
mod architecture;
mod authors;
mod command;
mod denied;
mod deploy;
mod distribution;
mod elsewhere;
mod failing;
mod ground;
mod guide;
mod hammer;
mod hostile;
mod ingress;
mod kinds;
mod minted;
mod model_exists;
mod namespace_guard;
mod natives;
mod no_policy;
mod pipeline;
mod reload;
mod resources;
mod rights;
mod runtimes;
mod served;
mod serving;
mod serving_protocol;
mod serving_versions;
mod signed;
mod together;
mod using;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use tidewaiter_e2e::server::{NOBODY, REVIEWED_BY};
use tidewaiter_e2e::{Server, author, in_the_ground, install, path, policy, registry, runner, server};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::models::{Model, SavedWith};
use tidewaiter_ground::tools::{Kserve, Module};
use tidewaiter_ground::{Cluster, Namespace, Options, host, python};

/// What a test works with.
struct World {
    cluster: Cluster,
    tidewaiter: OnceLock<Result<Server, String>>,
    policy: OnceLock<Result<(), String>>,
}

impl World {
    /// A fresh namespace that Tidewaiter reviews.
    fn namespace(&self, name: &str) -> Result<Namespace> {
        self.tidewaiter()?;
        self.cluster.namespace(name)
    }

    /// A fresh namespace as if Tidewaiter weren't installed.
    fn namespace_without(&self, name: &str) -> Result<Namespace> {
        self.namespace_of(NOBODY, name)
    }

    /// A fresh namespace that this server reviews.
    fn namespace_of(&self, server: &str, name: &str) -> Result<Namespace> {
        self.tidewaiter()?;
        self.cluster.namespace_with(name, &json!({REVIEWED_BY: server}))
    }

    fn tidewaiter(&self) -> Result<&Server> {
        let installed = self
            .tidewaiter
            .get_or_init(|| install(&self.cluster).map_err(|error| format!("{error:#}")));
        installed
            .as_ref()
            .map_err(|error| anyhow::anyhow!("Tidewaiter can't be installed: {error}"))
    }

    /// Has the test policy's component in the cluster.
    fn policy(&self) -> Result<()> {
        self.tidewaiter()?;
        let there = self
            .policy
            .get_or_init(|| policy::install_unruly(&self.cluster).map_err(|error| format!("{error:#}")));
        there
            .clone()
            .map_err(|error| anyhow::anyhow!("the test policy can't be installed: {error}"))
    }

    /// Sends a service by KServe's Python SDK: shape, verb, namespace, name, URI.
    fn submit(&self, arguments: [&str; 5]) -> Result<()> {
        let site = python::site(self.cluster.cache(), "kserve-sdk-0.20.0")?;
        host::run(
            python::command(&[&site])?
                .env("KUBECONFIG", self.cluster.kubeconfig())
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/submit.py"))
                .args(arguments),
        )
    }

    /// A model that all namespaces may use, in the bucket of this name.
    fn model(&self, kind: &str, with: SavedWith, bucket: &str) -> Result<(Model, String)> {
        path::model(&self.cluster, kind, with, bucket)
    }

    /// The cluster, with Tidewaiter in it.
    fn cluster(&self) -> Result<&Cluster> {
        self.tidewaiter().map(|_| &self.cluster)
    }
}

/// A test's name, whether it needs Pods, and the test.
type Test = (&'static str, bool, fn(&World) -> Result<()>);

/// What runs with the oldest release too, where there is no node.
const OLDEST: [&str; 8] = [
    "a_bare_manifest_finds_no_runtime_without_tidewaiter",
    "fills_a_bare_manifest_and_says_so",
    "fills_old_shapes_before_and_after_kserve",
    "fills_a_custom_container",
    "delivers_by_service_account_and_by_storage_key",
    "a_bare_manifest_answers",
    "using_canaries_as_kserve_has_them",
    "using_stop_as_kserve_has_it",
];

/// What the gate has no time for: `cargo xtask test --all` runs them.
const LONG: [&str; 23] = [
    "deploys_at_once_lose_none_without_a_word",
    "a_deploy_that_waits_is_told_of_a_later_one",
    "a_deploy_interrupted_while_it_waits_leaves_a_whole_service",
    "a_deploy_interrupted_while_it_uploads_leaves_nothing",
    "a_deploy_that_is_refused_has_uploaded_nothing",
    "pipeline_a_tracking_server_with_users_lets_in_whom_it_knows",
    "pipeline_a_model_of_mlflow_3_answers_by_each_of_its_names",
    "pipeline_artifacts_behind_the_tracking_server_are_copied_or_used_where_they_lie",
    "failing_a_download_out_of_memory_is_told_with_who_limits_it",
    "failing_code_that_stayed_in_a_script_is_named",
    "failing_before_a_node_has_the_pod_is_told",
    "using_status_and_logs_of_what_runs_and_of_what_fails",
    "using_stop_start_scale_and_delete",
    "using_a_canary_answers_and_is_promoted",
    "using_every_ingress_leads_to_the_model",
    "a_model_of_later_tools_ends_the_server_without_tidewaiter_and_is_told_of_with_it",
    "a_file_of_skops_is_loaded_by_nobody_without_tidewaiter_and_told_of_with_it",
    "files_of_other_systems_and_a_wheel_of_another_machine_do_not_load_and_are_told_of",
    "served_a_folder_of_sklearn",
    "served_a_file_of_xgboost",
    "served_one_column_of_mlflow",
    "served_a_function",
    "served_a_transformer_before_its_predictor",
];

fn tests_with(kserve: Kserve) -> Vec<Test> {
    let mut tests: Vec<Test> = [
        ground::TESTS,
        admission::TESTS,
        authors::TESTS,
        denied::TESTS,
        reload::TESTS,
        hostile::TESTS,
        ingress::TESTS,
        kinds::TESTS,
        architecture::TESTS,
        elsewhere::TESTS,
        namespace_guard::TESTS,
        natives::TESTS,
        no_policy::TESTS,
        minted::TESTS,
        model_exists::TESTS,
        distribution::TESTS,
        pipeline::TESTS,
        command::TESTS,
        deploy::TESTS,
        failing::TESTS,
        served::TESTS,
        serving::TESTS,
        serving_protocol::TESTS,
        serving_versions::TESTS,
        signed::TESTS,
        resources::TESTS,
        rights::TESTS,
        runtimes::TESTS,
        together::TESTS,
        using::TESTS,
    ]
    .concat();
    if kserve != Kserve::V0_20 {
        tests.retain(|(name, ..)| OLDEST.contains(name));
    }
    if !runner::everything() {
        tests.retain(|(name, ..)| !LONG.contains(name));
    }
    tests
}

/// Tests that run at once, on two cores: most of them wait for a Pod most of the time.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    match run_all(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(arguments: &Arguments) -> Result<ExitCode> {
    let node = host::is_root();
    let releases = match runner::asked_for()? {
        Some(kserve) => vec![kserve],
        None if node => vec![Kserve::V0_20],
        None => Kserve::ALL.to_vec(),
    };
    if arguments.list {
        return Ok(libtest_mimic::run(arguments, trials(releases[0], node, None)).exit_code());
    }
    let mut code = ExitCode::SUCCESS;
    for kserve in releases {
        if !tests_with(kserve)
            .iter()
            .any(|(name, ..)| runner::selected(arguments, name))
        {
            continue;
        }
        let done = in_the_ground(
            Options { node, kserve },
            || {
                let mut variables = vec![
                    (policy::UNRULY, policy::unruly()?.into_os_string()),
                    (server::COMMAND, server::command_binary()?.into_os_string()),
                    (
                        served::ROUTER,
                        Module::KserveRouter.build(&Cache::open()?)?.join("router").into(),
                    ),
                    (
                        registry::PROGRAM,
                        Module::Distribution
                            .build(&Cache::open()?)?
                            .join("registry")
                            .into_os_string(),
                    ),
                ];
                if authors::TESTS
                    .iter()
                    .any(|(name, ..)| runner::selected(arguments, name))
                {
                    variables.push((author::AUTHORED, author::authored()?.into_os_string()));
                }
                if signed::TESTS.iter().any(|(name, ..)| runner::selected(arguments, name)) {
                    let cache = Cache::open()?;
                    variables.push((signed::SIGSTORE, Module::Sigstore.build(&cache)?.into()));
                    variables.push((signed::COSIGN, Module::Cosign.build(&cache)?.join("cosign").into()));
                }
                if elsewhere::TESTS
                    .iter()
                    .any(|(name, ..)| runner::selected(arguments, name))
                {
                    variables.push((elsewhere::BUILT, policy::build(&elsewhere::PACKAGES)?.into_os_string()));
                }
                Ok(variables)
            },
            |cluster| Ok(run(arguments, cluster)),
        )?;
        if done != ExitCode::SUCCESS {
            code = done;
        }
    }
    Ok(code)
}

fn run(arguments: &Arguments, cluster: Cluster) -> ExitCode {
    let world = Arc::new(World {
        cluster,
        tidewaiter: OnceLock::new(),
        policy: OnceLock::new(),
    });
    let Options { node, kserve } = world.cluster.options();
    let tests = tests_with(kserve);
    if !node {
        let left_out: Vec<_> = tests
            .iter()
            .filter(|(_, needs_node, _)| *needs_node)
            .map(|(name, ..)| *name)
            .collect();
        eprintln!("left out, because only root can run Pods here: {}", left_out.join(", "));
    }
    eprintln!("KServe {}:", kserve.version());
    libtest_mimic::run(arguments, trials(kserve, node, Some(&world))).exit_code()
}

fn trials(kserve: Kserve, node: bool, world: Option<&Arc<World>>) -> Vec<Trial> {
    tests_with(kserve)
        .into_iter()
        .map(|(name, needs_node, test)| {
            let world = world.cloned();
            let run = move || {
                let world = world.context("tests run inside the ground alone")?;
                test(&world)
            };
            Trial::test(name, move || {
                run().map_err(|error: anyhow::Error| format!("{error:#}").into())
            })
            .with_ignored_flag(needs_node && !node)
        })
        .collect()
}
