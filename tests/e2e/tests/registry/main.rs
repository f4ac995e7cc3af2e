//! Policies in the real registry, signed and verified by the real cosign, and loaded by a server. All of it runs on the loopback: no cluster, no root.

mod command;
mod gate;
mod keyless;
mod serving;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;
use tidewaiter_e2e::{policy, registry, server};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::tools::Module;
use tidewaiter_registry::{Credentials, Limits, Registry};
use tokio::runtime::Runtime;

const STARTS: Duration = Duration::from_mins(1);
/// Until a server has looked a tag up again, once each second, and compiled what it found.
const SEEN: Duration = Duration::from_mins(1);

type Test = (&'static str, fn(&World) -> Result<()>);

/// A registry's process.
struct Shop {
    host: String,
    processes: Processes,
    folder: TempDir,
    program: PathBuf,
}

impl Shop {
    fn open(shut: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let shop = Self {
            host: free_address()?,
            processes: Processes::new(folder.path())?,
            program: Module::Distribution.build(&Cache::open()?)?.join("registry"),
            folder,
        };
        registry::configure(shop.folder.path(), &shop.host, shut)?;
        shop.start()?;
        Ok(shop)
    }

    fn start(&self) -> Result<()> {
        let config = self.folder.path().join("config.yaml");
        self.processes
            .start("registry", Command::new(&self.program).arg("serve").arg(config))?;
        self.processes.wait("a registry that answers", STARTS, || {
            std::net::TcpStream::connect(&self.host).is_ok()
        })
    }

    fn stop(&self) -> Result<()> {
        self.processes.stop("registry")
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("the registry {} may still run: {error:#}", self.host);
        }
    }
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

struct World {
    shop: Shop,
    cosign: PathBuf,
    tidewaiter: PathBuf,
    webhook: PathBuf,
    component: Vec<u8>,
    runtime: Runtime,
}

impl World {
    fn start() -> Result<Self> {
        Ok(Self {
            shop: Shop::open(false)?,
            cosign: Module::Cosign.build(&Cache::open()?)?.join("cosign"),
            tidewaiter: server::command_binary()?,
            webhook: server::webhook_binary()?,
            component: fs::read(policy::unruly()?)?,
            runtime: Runtime::new()?,
        })
    }

    fn registry() -> Result<Registry> {
        Ok(Registry::new(Vec::new(), Credentials::default(), Limits::default())?)
    }

    /// A name in the registry for one test.
    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.shop.host)
    }

    /// The test policy, which gives another reason for what it fills in: another component that does the same.
    fn changed(&self) -> Result<Vec<u8>> {
        let (before, after) = (b"the test says so", b"the tide says so");
        let at = self.component.windows(before.len()).position(|window| window == before);
        let at = at.context("the test policy gives another reason now")?;
        let mut changed = self.component.clone();
        changed[at..at + after.len()].copy_from_slice(after);
        Ok(changed)
    }

    /// `tidewaiter policy …`
    fn policy(&self, arguments: &[&str], password: Option<&str>, folder: &Path) -> Result<Output> {
        let mut command = Command::new(&self.tidewaiter);
        command.arg("policy").args(arguments).current_dir(folder);
        // Whoever runs the tests may be logged in somewhere.
        command
            .env("DOCKER_CONFIG", folder)
            .env("XDG_RUNTIME_DIR", folder)
            .env("HOME", folder);
        command.env("SOURCE_DATE_EPOCH", "1767225600");
        match password {
            Some(password) => command.env("COSIGN_PASSWORD", password),
            None => command.env_remove("COSIGN_PASSWORD"),
        };
        Ok(command.output()?)
    }

    fn cosign(&self, arguments: &[&str], folder: &Path) -> Result<Output> {
        let mut command = Command::new(&self.cosign);
        command.args(arguments).current_dir(folder);
        command
            .env("COSIGN_PASSWORD", "tide")
            .env("HOME", folder)
            .env("DOCKER_CONFIG", folder);
        Ok(command.output()?)
    }
}

/// What a program printed, where it ended well.
fn good(output: &Output) -> Result<String> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a program complained of, where it ended with this code.
fn bad(output: &Output, code: i32) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "{}: {said}", output.status);
    Ok(said)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let tests = [command::TESTS, keyless::TESTS, serving::TESTS].concat();
    let world = if arguments.list {
        None
    } else {
        match World::start() {
            Ok(world) => Some(Arc::new(world)),
            Err(error) => {
                eprintln!("error: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    };
    let trials = tests.into_iter().map(|(name, test)| {
        let world = world.clone();
        Trial::test(name, move || {
            let run = || test(world.as_ref().context("no world")?);
            run().map_err(|error: anyhow::Error| format!("{error:#}").into())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
