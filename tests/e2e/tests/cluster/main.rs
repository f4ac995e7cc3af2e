//! Tidewaiter on a real cluster. All tests share one, and each has a namespace of its own.
//!
//! `cargo test -p tidewaiter-e2e` brings a cluster up and takes it down, first with the newest KServe, then with the oldest that
//! is supported. `TIDEWAITER_KSERVE=v0.20.0` or `v0.15.2` takes one release alone. With
//! `TIDEWAITER_GROUND=NAME` the tests use the cluster that `tidewaiter-ground up --name NAME` brought up. Without root there is no node: tests that
//! need Pods are left out, and counted as ignored.

mod admission;
mod architecture;
mod at_hand;
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
mod minted_changes;
mod model_exists;
mod namespace_guard;
mod natives;
mod no_policy;
mod pipeline;
mod proxy;
mod reload;
mod resources;
mod rights;
mod runtimes;
mod selected;
mod served;
mod serving;
mod serving_protocol;
mod serving_versions;
mod signed;
mod together;
mod using;

use std::ffi::OsString;
use std::ops::Deref;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use tidewaiter_e2e::let_pass::LetPass;
use tidewaiter_e2e::server::{NOBODY, REVIEWED_BY};
use tidewaiter_e2e::{Server, author, in_the_ground, install, path, policy, registry, runner, server};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::models::{Model, SavedWith};
use tidewaiter_ground::tools::{Kserve, Module};
use tidewaiter_ground::{Cluster, Namespace, Options, host};

/// What a test works with.
struct World {
    shared: Arc<Shared>,
    /// Whether the deployer's namespaces are those that Tidewaiter reviews.
    reviewed: bool,
}

/// What all tests have together.
struct Shared {
    cluster: Cluster,
    tidewaiter: OnceLock<Result<Server, String>>,
    policy: OnceLock<Result<(), String>>,
}

impl Deref for World {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl World {
    /// A fresh namespace for the deployer, which has to come to the same end with Tidewaiter and without.
    fn team(&self, name: &str) -> Result<Namespace> {
        if self.reviewed {
            self.namespace(&format!("{name}-reviewed"))
        } else {
            self.namespace_without(name)
        }
    }
}

impl Shared {
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

/// All there are.
fn tests() -> Vec<Test> {
    [
        ground::TESTS,
        admission::TESTS,
        authors::TESTS,
        denied::TESTS,
        reload::TESTS,
        hostile::TESTS,
        ingress::TESTS,
        kinds::TESTS,
        architecture::TESTS,
        at_hand::TESTS,
        elsewhere::TESTS,
        namespace_guard::TESTS,
        natives::TESTS,
        no_policy::TESTS,
        minted::TESTS,
        minted_changes::TESTS,
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
    .concat()
}

/// Tests that run at once, on two cores: most of them wait for a Pod most of the time.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    runner::ends(run_all(&arguments))
}

fn run_all(arguments: &Arguments) -> Result<ExitCode> {
    let node = host::is_root();
    let releases = match runner::asked_for()? {
        Some(kserve) => vec![kserve],
        None => Kserve::ALL.to_vec(),
    };
    if arguments.list {
        return Ok(libtest_mimic::run(arguments, trials(releases[0], node, None)).exit_code());
    }
    let mut code = ExitCode::SUCCESS;
    for kserve in releases {
        if !selected::with(kserve)
            .iter()
            .any(|run| runner::selected(arguments, &run.name))
        {
            continue;
        }
        let done = in_the_ground(
            Options { node, kserve },
            || outside(arguments, kserve),
            |cluster| Ok(run(arguments, cluster)),
        )?;
        if done != ExitCode::SUCCESS {
            code = done;
        }
    }
    Ok(code)
}

/// What the tests need that can't be had inside of the ground, where there is no network: the variables that name it.
fn outside(arguments: &Arguments, kserve: Kserve) -> Result<Vec<(&'static str, OsString)>> {
    let cache = Cache::open()?;
    let runs = selected::with(kserve);
    let needed = |tests: &[Test]| {
        let names = |run: &selected::Run| tests.iter().any(|(name, ..)| run.name.starts_with(name));
        let mut runs = runs.iter().filter(|run| runner::selected(arguments, &run.name));
        runs.any(names)
    };
    if needed(ingress::TESTS) {
        host::require_proxy()?;
    }
    let router = Module::KserveRouter.build(&cache)?.join("router");
    let registry = Module::Distribution.build(&cache)?.join("registry");
    let mut variables = vec![
        (policy::UNRULY, policy::unruly()?.into_os_string()),
        (server::COMMAND, server::command_binary()?.into_os_string()),
        (served::ROUTER, router.into()),
        (registry::PROGRAM, registry.into()),
    ];
    if needed(pipeline::TESTS) {
        let sources = Module::Kserve(Kserve::V0_20).unpacked("github.com/kserve/kserve")?;
        let definition = sources.join("docs/predict-api/v2/grpc_predict_v2.proto");
        variables.push((pipeline::PROTOCOL, definition.into()));
    }
    if needed(authors::TESTS) {
        variables.push((author::AUTHORED, author::authored()?.into()));
    }
    if needed(signed::TESTS) {
        variables.push((signed::SIGSTORE, Module::Sigstore.build(&cache)?.into()));
        variables.push((signed::COSIGN, Module::Cosign.build(&cache)?.join("cosign").into()));
    }
    if needed(elsewhere::TESTS) {
        variables.push((elsewhere::BUILT, policy::build(&elsewhere::PACKAGES)?.into()));
    }
    Ok(variables)
}

fn run(arguments: &Arguments, cluster: Cluster) -> ExitCode {
    let world = Arc::new(Shared {
        cluster,
        tidewaiter: OnceLock::new(),
        policy: OnceLock::new(),
    });
    let Options { node, kserve } = world.cluster.options();
    if !node {
        let runs = selected::with(kserve);
        let left_out = runs.iter().filter(|run| run.needs_node).map(|run| run.name.as_str());
        let left_out: Vec<_> = left_out.collect();
        eprintln!("left out, because only root can run Pods here: {}", left_out.join(", "));
    }
    eprintln!("KServe {}:", kserve.version());
    libtest_mimic::run(arguments, trials(kserve, node, Some(&world))).exit_code()
}

fn trials(kserve: Kserve, node: bool, world: Option<&Arc<Shared>>) -> Vec<Trial> {
    let trial = |run: selected::Run| {
        let shared = world.cloned();
        let test = move || {
            let shared = shared.ok_or("tests run inside the ground alone")?;
            let let_pass = LetPass::from_now(&shared.cluster);
            let world = World {
                shared,
                reviewed: run.reviewed,
            };
            (run.test)(&world).map_err(|error| let_pass.beside(error).into())
        };
        Trial::test(run.name, test).with_ignored_flag(run.needs_node && !node)
    };
    selected::with(kserve).into_iter().map(trial).collect()
}
