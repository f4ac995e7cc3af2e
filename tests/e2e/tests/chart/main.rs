//! Tidewaiter installed for a cluster by its charts. The tests of one release of KServe share one cluster and one release of the chart.
//!
//! They come in groups: within one they run side by side, or one after the other where they change the release under each other's feet. A group may want
//! the release in another shape (other values of the chart), which is an upgrade for all of its tests.
//!
//! Only root can run Pods here, so without root they are left out, and counted as ignored. As in the other program, `TIDEWAITER_GROUND=NAME` uses a
//! cluster that is up; tests that stop its servers need one of their own. `TIDEWAITER_KSERVE=v0.20.0` or `v0.15.2` takes one release of KServe alone.
//! `TIDEWAITER_CHART=all` runs old definitions and missing ones, the emergency page, a flood of reviews, lost nodes, cert-manager, network policies in force, named namespaces, services that ran
//! before, keys that somebody changes in MinIO and a registry that goes away as well, which the gate has no time for.

mod adopted;
mod certificates;
mod closed;
mod edited;
mod emergency;
mod ended;
mod faults;
mod flood;
mod held_back;
mod life;
mod modules;
mod named;
mod network;
mod nodes;
mod oldest;
mod path;
mod repaired;
mod served;
mod shared;
mod users;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tidewaiter_e2e::chart::{RELEASE, Release, install_chart};
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_e2e::let_pass::LetPass;
use tidewaiter_e2e::load::{has_credentials, service};
use tidewaiter_e2e::rights::Rights;
use tidewaiter_e2e::runner::{asked_for, ends, everything, selected};
use tidewaiter_e2e::shell::Shell;
use tidewaiter_e2e::{in_the_ground, manifests, policy, registry, server};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::models::{Model, SavedWith};
use tidewaiter_ground::tls::Authority;
use tidewaiter_ground::tools::{Kserve, Module};
use tidewaiter_ground::{Cluster, HOST, Namespace, Options, host};

/// What a test works with.
struct World {
    cluster: Cluster,
    release: Mutex<Option<(Release, Shape)>>,
    running: Mutex<Option<Arc<Namespace>>>,
    teams: Mutex<BTreeMap<&'static str, Arc<Namespace>>>,
    rights: Mutex<Rights>,
    /// Vouches for the registry of [`Shape::Modules`], and no machine trusts it.
    harbour: Authority,
    /// Whether no test was left out.
    all_ran: bool,
}

/// The values that the chart is installed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Its own.
    Defaults,
    /// Certificates are cert-manager's.
    CertManager,
    /// The network policy lets out only what it has to, and in only who may scrape.
    Closed,
    /// Policies come from a registry of a private authority.
    Modules,
    /// The same, and what came is kept on a volume that outlives Pods.
    Claimed,
    /// Credentials go to the namespaces of [`TEAMS`] alone. All that takes hours or days is done within a minute or two.
    Named,
}

/// Namespaces for the tests of [`Shape::Named`], one each.
const TEAMS: [&str; 5] = ["ages", "collected", "audited", "minted", "before"];

/// KServe's own namespace, which its configuration is read in.
const KSERVE_NAMESPACE: &str = "kserve";

impl World {
    fn new(cluster: Cluster, arguments: &Arguments) -> Result<Self> {
        Ok(Self {
            all_ran: arguments.filter.is_none() && arguments.skip.is_empty(),
            cluster,
            release: Mutex::default(),
            running: Mutex::default(),
            teams: Mutex::default(),
            rights: Mutex::new(Rights::of(NAMESPACE, RELEASE)),
            harbour: Authority::new("the harbour's own")?,
        })
    }

    /// The release with the chart's own values.
    fn release(&self) -> Result<Release> {
        self.release_in(Shape::Defaults)
    }

    /// The release in whatever shape it is.
    fn release_as_it_is(&self) -> Result<Release> {
        let shape = locked(&self.release).as_ref().map(|(_, shape)| *shape);
        self.release_in(shape.unwrap_or(Shape::Defaults))
    }

    /// The release in this shape: installed if it is not there, upgraded if its shape is another.
    fn release_in(&self, shape: Shape) -> Result<Release> {
        let mut current = locked(&self.release);
        let release = match &*current {
            Some((release, now)) if *now == shape => release.clone(),
            Some((release, _)) => {
                let (release, values) = (release.clone(), self.values(shape)?);
                // The rights of the Pods that go are those of the Pods that come.
                locked(&self.rights).excuse(&self.cluster, || {
                    release.upgrade(&values)?;
                    release.until_alone(REPLICAS)
                })?;
                if shape == Shape::Named {
                    let own = [NAMESPACE.to_owned(), KSERVE_NAMESPACE.to_owned()];
                    locked(&self.rights).limit(&self.cluster, self.named()?.into_iter().chain(own))?;
                }
                release
            }
            None => {
                if self.cluster.options().kserve == Kserve::V0_20 {
                    self.cluster.serve("llminferenceservices.serving.kserve.io")?;
                }
                let tls = [
                    "get",
                    "secret",
                    "tidewaiter-tls",
                    "-n",
                    NAMESPACE,
                    "--ignore-not-found",
                    "-o",
                    "name",
                ];
                let before = self.cluster.kubectl(&tls)?;
                let release = install_chart(&self.cluster, &self.values(shape)?)?;
                if shape == Shape::Defaults && before.is_empty() {
                    self.is_trusted_before_it_is_served()?;
                }
                release
            }
        };
        release.until_ready(REPLICAS)?;
        if current.as_ref().is_none_or(|(_, now)| *now != shape) {
            self.until_asked().with_context(|| release.diagnosis())?;
        }
        locked(&self.rights).note(&self.cluster)?;
        *current = Some((release.clone(), shape));
        Ok(release)
    }

    /// A replica is ready, and helm done, once there is a certificate: by then API servers have to trust it, or the first service would slip past. All objects'
    /// versions are of one count (etcd's revision).
    fn is_trusted_before_it_is_served(&self) -> Result<()> {
        let version = |namespace: &str, what: &str| -> Result<u64> {
            let object = self.cluster.get(namespace, what)?;
            let version = object["metadata"]["resourceVersion"]
                .as_str()
                .context("no resourceVersion")?;
            Ok(version.parse()?)
        };
        let served = version(NAMESPACE, "secret/tidewaiter-tls")?;
        for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
            let trusted = version("", &format!("{kind}/tidewaiter.dev"))?;
            ensure!(trusted < served, "{kind}: trusted at {trusted}, served at {served}");
        }
        Ok(())
    }

    /// Waits until the API server asks the webhook, whichever replica it is: in a new shape it has to learn whom to trust.
    fn until_asked(&self) -> Result<()> {
        let (api, team) = (self.cluster.api()?, self.team(TEAMS[0])?);
        let probe = service("probe", "s3://mlflow/shared/probe");
        let mut in_a_row = 0;
        self.cluster.until("the webhook is asked", Duration::from_mins(2), || {
            let answer = api.would_create(team.name(), &probe)?;
            let filled = answer.admitted() && has_credentials(&answer.body);
            in_a_row = if filled { in_a_row + 1 } else { 0 };
            ensure!(filled, "{}{:?}", answer.message(), answer.warnings);
            Ok((in_a_row == 5).then_some(()))
        })
    }

    fn values(&self, shape: Shape) -> Result<Value> {
        Ok(match shape {
            Shape::Defaults => json!({}),
            Shape::CertManager => json!({"certificates": {"mode": "certManager"}}),
            Shape::Closed => network::values(),
            Shape::Modules => modules::values(&self.harbour),
            Shape::Claimed => modules::claimed(&self.harbour),
            Shape::Named => json!({
                "deliveryNamespaces": self.named()?,
                "certificates": {"selfManaged": {"lifetime": "30s", "authorityLifetime": "60s"}},
                "credentials": {"collectAfter": "1m"},
                "audit": {"interval": "1m"},
                "tracing": {"otlpEndpoint": format!("http://{HOST}:{}", named::COLLECTOR)},
            }),
        })
    }

    /// The names of [`TEAMS`] in this cluster.
    fn named(&self) -> Result<Vec<String>> {
        let teams = TEAMS.map(|team| Ok(self.team(team)?.name().to_owned()));
        teams.into_iter().collect()
    }

    /// One of [`TEAMS`].
    fn team(&self, name: &'static str) -> Result<Arc<Namespace>> {
        let mut teams = locked(&self.teams);
        if let Some(team) = teams.get(name) {
            return Ok(Arc::clone(team));
        }
        let team = Arc::new(self.cluster.namespace(name)?);
        Ok(Arc::clone(teams.entry(name).or_insert(team)))
    }

    /// The release is gone: the next test installs it again.
    fn uninstalled(&self) {
        *locked(&self.release) = None;
    }

    /// Takes the release away, if it is there.
    fn uninstall(&self) -> Result<()> {
        match locked(&self.release).take() {
            Some((release, _)) => release.uninstall(),
            None => Ok(()),
        }
    }

    /// A namespace with a service that came with a bare manifest, is ready, and runs through all that the tests do.
    fn running(&self) -> Result<Arc<Namespace>> {
        let mut running = locked(&self.running);
        if let Some(namespace) = &*running {
            return Ok(Arc::clone(namespace));
        }
        let release = self.release()?;
        let (_, uri) = self.model()?;
        let namespace = self.cluster.namespace("running")?;
        let said = namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
        if said.warnings().is_empty() {
            // Where all else takes the two cores, the API server may give up waiting.
            self.cluster
                .until("the sweep fills in what slipped past", Duration::from_mins(1), || {
                    Ok(has_credentials(&namespace.get("isvc/fraud")?).then_some(()))
                })?;
        }
        // Its Pod never runs: it may be changed without harm.
        let mut idle = service("idle", &uri);
        idle["spec"]["predictor"]["nodeSelector"] = json!({"nowhere": "true"});
        namespace.apply(&idle.to_string())?;
        namespace.ready("fraud").with_context(|| release.diagnosis())?;
        Ok(Arc::clone(running.insert(Arc::new(namespace))))
    }

    /// A model that all namespaces may use.
    fn model(&self) -> Result<(Model, String)> {
        tidewaiter_e2e::path::model(&self.cluster, "fraud", SavedWith::Mlserver1_7_1, "mlflow")
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many Pods the chart's own values make.
const REPLICAS: usize = 2;

/// A test's name, and the test.
type Test = (&'static str, fn(&World) -> Result<()>);

/// Tests that follow each other, or run side by side.
struct Group {
    tests: &'static [Test],
    at_once: usize,
}

/// Two cores take no more model servers that start.
const AT_ONCE: usize = 3;

/// What runs with a release of KServe, in this order.
fn groups(kserve: Kserve) -> Vec<Group> {
    let side_by_side = |tests| Group {
        tests,
        at_once: AT_ONCE,
    };
    let in_turn = |tests| Group { tests, at_once: 1 };
    let mut groups = vec![side_by_side(path::TESTS)];
    if kserve == Kserve::V0_15 && !everything() {
        return groups;
    }
    groups.extend([
        side_by_side(shared::TESTS),
        side_by_side(users::TESTS),
        in_turn(life::TESTS),
        in_turn(ended::TESTS),
        in_turn(edited::TESTS),
        in_turn(faults::TESTS),
        in_turn(closed::TESTS),
    ]);
    if everything() {
        groups.extend([
            in_turn(emergency::TESTS),
            in_turn(flood::TESTS),
            in_turn(nodes::TESTS),
            in_turn(repaired::TESTS),
            in_turn(held_back::TESTS),
            side_by_side(served::TESTS),
            in_turn(certificates::TESTS),
            in_turn(network::TESTS),
            in_turn(modules::TESTS),
            side_by_side(named::TESTS),
        ]);
        if kserve == Kserve::V0_20 {
            groups.push(side_by_side(served::NEWEST));
            // Some of the rights are for kinds that the oldest doesn't have.
            groups.push(in_turn(life::RIGHTS));
        }
    }
    groups.push(in_turn(life::LAST));
    if everything() {
        // What takes the cluster's own kinds apart.
        groups.push(in_turn(match kserve {
            Kserve::V0_20 => adopted::TESTS,
            Kserve::V0_15 => oldest::TESTS,
        }));
    }
    groups
}

fn main() -> ExitCode {
    ends(run_all(&Arguments::from_args()))
}

fn run_all(arguments: &Arguments) -> Result<ExitCode> {
    let releases = asked_for()?.map_or(Kserve::ALL.to_vec(), |kserve| vec![kserve]);
    if arguments.list || !host::is_root() {
        if !arguments.list {
            eprintln!("left out, because only root can run Pods here: every test of the chart");
        }
        let tests = groups(releases[0])
            .into_iter()
            .flat_map(|group| trials(group.tests, None));
        return Ok(libtest_mimic::run(arguments, tests.collect()).exit_code());
    }
    let build = || {
        let cache = Cache::open()?;
        Shell::prepare(&cache)?;
        if everything() {
            Cluster::prepare_cert_manager(&cache)?;
            Cluster::prepare_network_policies(&cache)?;
        }
        let mut variables = vec![
            (policy::UNRULY, policy::unruly()?.into_os_string()),
            (server::COMMAND, server::command_binary()?.into_os_string()),
        ];
        if everything() {
            let registry = Module::Distribution.build(&cache)?.join("registry");
            variables.push((registry::PROGRAM, registry.into_os_string()));
        }
        Ok(variables)
    };
    if !everything() {
        eprintln!(
            "left out, unless TIDEWAITER_CHART=all: old definitions, the emergency page, a flood of reviews, lost nodes, cert-manager, network policies in force, named namespaces, what ran before, keys changed in MinIO, a registry that goes away, each right"
        );
    }
    let mut code = ExitCode::SUCCESS;
    for kserve in releases {
        let mut tests = groups(kserve).into_iter().flat_map(|group| group.tests);
        if !tests.any(|(name, _)| selected(arguments, name)) {
            continue;
        }
        let done = in_the_ground(Options { node: true, kserve }, build, |cluster| {
            Ok(run(arguments, &Arc::new(World::new(cluster, arguments)?)))
        })?;
        if done != ExitCode::SUCCESS {
            code = done;
        }
    }
    Ok(code)
}

fn run(arguments: &Arguments, world: &Arc<World>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let kserve = world.cluster.options().kserve;
    eprintln!("KServe {}:", kserve.version());
    for group in groups(kserve) {
        if !group.tests.iter().any(|(name, _)| selected(arguments, name)) {
            continue;
        }
        let mut arguments = arguments.clone();
        arguments.test_threads = Some(group.at_once);
        let done = libtest_mimic::run(&arguments, trials(group.tests, Some(world)));
        if done.has_failed() {
            code = ExitCode::from(101);
        }
    }
    code
}

fn trials(tests: &'static [Test], world: Option<&Arc<World>>) -> Vec<Trial> {
    let trial = |&(name, test): &Test| {
        let world = world.cloned();
        let run = move || {
            let world = world.as_deref().ok_or("tests run inside the ground alone")?;
            let let_pass = LetPass::from_now(&world.cluster);
            test(world).map_err(|error| let_pass.beside(error).into())
        };
        Trial::test(name, run).with_ignored_flag(!host::is_root())
    };
    tests.iter().map(trial).collect()
}
