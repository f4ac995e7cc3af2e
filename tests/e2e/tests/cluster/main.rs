//! Tidewaiter on a real cluster. All tests share one, and each has a namespace of its own.
//!
//! `cargo test -p tidewaiter-e2e` brings a cluster up and takes it down. With `TIDEWAITER_GROUND=NAME` the tests use the one that
//! `tidewaiter-ground up --name NAME` brought up. Without root there is no node: tests that need Pods are left out, and counted as ignored.

mod admission;
mod ground;
mod serving;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use tidewaiter_e2e::{Tidewaiter, in_the_ground};
use tidewaiter_ground::models::{Model, SavedWith};
use tidewaiter_ground::{Cluster, Namespace, Options, host};

/// What a test works with.
struct World {
    cluster: Cluster,
    tidewaiter: OnceLock<Result<Tidewaiter, String>>,
}

impl World {
    /// A fresh namespace that Tidewaiter reviews.
    fn namespace(&self, name: &str) -> Result<Namespace> {
        self.tidewaiter()?;
        self.cluster.namespace(name)
    }

    /// A fresh namespace as if Tidewaiter weren't installed.
    fn namespace_without(&self, name: &str) -> Result<Namespace> {
        let namespace = self.cluster.namespace(name)?;
        self.cluster
            .kubectl(&["label", "namespace", namespace.name(), "tidewaiter-e2e/without=true"])?;
        Ok(namespace)
    }

    fn tidewaiter(&self) -> Result<&Tidewaiter> {
        let installed = self
            .tidewaiter
            .get_or_init(|| Tidewaiter::install(&self.cluster).map_err(|error| format!("{error:#}")));
        installed
            .as_ref()
            .map_err(|error| anyhow::anyhow!("Tidewaiter can't be installed: {error}"))
    }

    /// A model that all namespaces may use, in the bucket of this name.
    fn model(&self, kind: &str, with: SavedWith, bucket: &str) -> Result<(Model, String)> {
        let model = Model::make(self.cluster.cache(), kind, with)?;
        let uri = model.put(
            self.cluster.cache(),
            bucket,
            &format!("shared/{kind}-{with:?}").to_lowercase(),
        )?;
        Ok((model, uri))
    }
}

/// A test's name, whether it needs Pods, and the test.
type Test = (&'static str, bool, fn(&World) -> Result<()>);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: Vec<Test> = [ground::TESTS, admission::TESTS, serving::TESTS].concat();
    let node = host::is_root();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&tests, node, None)).exit_code();
    }
    let done = in_the_ground(
        Options {
            node,
            ..Options::default()
        },
        |cluster| Ok(run(&arguments, &tests, cluster)),
    );
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, tests: &[Test], cluster: Cluster) -> ExitCode {
    let world = Arc::new(World {
        cluster,
        tidewaiter: OnceLock::new(),
    });
    let node = world.cluster.options().node;
    if !node {
        let left_out: Vec<_> = tests
            .iter()
            .filter(|(_, needs_node, _)| *needs_node)
            .map(|(name, ..)| *name)
            .collect();
        eprintln!("left out, because only root can run Pods here: {}", left_out.join(", "));
    }
    libtest_mimic::run(arguments, trials(tests, node, Some(&world))).exit_code()
}

fn trials(tests: &[Test], node: bool, world: Option<&Arc<World>>) -> Vec<Trial> {
    tests
        .iter()
        .map(|&(name, needs_node, test)| {
            let world = world.cloned();
            let run = move || match &world {
                Some(world) => test(world).map_err(|error| format!("{error:#}").into()),
                None => Err("tests run inside the ground alone".into()),
            };
            Trial::test(name, run).with_ignored_flag(needs_node && !node)
        })
        .collect()
}
