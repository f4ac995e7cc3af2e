//! Tidewaiter installed for a cluster by its charts. All tests share one cluster and one release, and come one after the other: they change the
//! release under each other's feet.
//!
//! Only root can run Pods here, so without root they are left out, and counted as ignored. As in the other program, `TIDEWAITER_GROUND=NAME` uses a
//! cluster that is up; tests that stop its servers need one of their own.

mod faults;
mod life;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use tidewaiter_e2e::chart::{Release, install_chart};
use tidewaiter_e2e::{in_the_ground, manifests};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::models::{Model, SavedWith};
use tidewaiter_ground::tools::Module;
use tidewaiter_ground::{Cluster, Namespace, Options, host};

/// What a test works with.
struct World {
    cluster: Cluster,
    release: Mutex<Option<Release>>,
    running: Mutex<Option<Arc<Namespace>>>,
}

impl World {
    /// The release with the chart's own values, installed if it is not there.
    fn release(&self) -> Result<Release> {
        let mut release = self.release.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(release) = &*release {
            release.until_ready(REPLICAS)?;
            return Ok(release.clone());
        }
        let installed = install_chart(&self.cluster, &json!({}))?;
        installed.until_ready(REPLICAS)?;
        Ok(release.insert(installed).clone())
    }

    /// The release is gone: the next test installs it again.
    fn uninstalled(&self) {
        *self.release.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A namespace with a service that came with a bare manifest, is ready, and runs through all that the tests do.
    fn running(&self) -> Result<Arc<Namespace>> {
        let release = self.release()?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = &*running {
            return Ok(Arc::clone(namespace));
        }
        let (_, uri) = self.model()?;
        let namespace = self.cluster.namespace("running")?;
        let said = namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
        ensure!(
            !said.warnings().is_empty(),
            "nothing is said to the user: {}",
            said.stderr
        );
        namespace.ready("fraud").with_context(|| release.diagnosis())?;
        Ok(Arc::clone(running.insert(Arc::new(namespace))))
    }

    /// A model that all namespaces may use.
    fn model(&self) -> Result<(Model, String)> {
        let model = Model::make(self.cluster.cache(), "fraud", SavedWith::Mlserver1_7_1)?;
        let uri = model.put(self.cluster.cache(), "mlflow", "shared/fraud")?;
        Ok((model, uri))
    }
}

/// How many Pods the chart's own values make.
const REPLICAS: usize = 2;

/// A test's name, and the test.
type Test = (&'static str, fn(&World) -> Result<()>);

fn tests() -> Vec<Test> {
    [life::TESTS, faults::TESTS, life::LAST].concat()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    match run_all(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list || !host::is_root() {
        if !arguments.list {
            eprintln!("left out, because only root can run Pods here: every test of the chart");
        }
        return Ok(libtest_mimic::run(arguments, trials(None)).exit_code());
    }
    let build = || Module::Helm.build(&Cache::open()?).map(|_| Vec::new());
    in_the_ground(Options::default(), build, |cluster| {
        let world = World {
            cluster,
            release: Mutex::default(),
            running: Mutex::default(),
        };
        Ok(libtest_mimic::run(arguments, trials(Some(&Arc::new(world)))).exit_code())
    })
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    let trial = |(name, test): Test| {
        let world = world.cloned();
        let run = move || test(world.as_deref().context("tests run inside the ground alone")?);
        let run = move || run().map_err(|error: anyhow::Error| format!("{error:#}").into());
        Trial::test(name, run).with_ignored_flag(!host::is_root())
    };
    tests().into_iter().map(trial).collect()
}
