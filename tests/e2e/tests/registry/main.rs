//! Policies in the real registry, signed and verified by the real cosign, and loaded by a server. All of it runs on the loopback: no cluster, no root.

mod command;
mod gate;
mod keyless;
mod reached;
mod serving;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Arguments;
use tempfile::TempDir;
use tidewaiter_e2e::{policy, registry, runner, server};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::host;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::tls::Authority;
use tidewaiter_ground::tools::Module;
use tidewaiter_registry::{Credentials, Digest, Host, Limits, Registry};
use tokio::runtime::Runtime;

const STARTS: Duration = Duration::from_mins(1);
/// Until a server has looked a tag up again, once each second, and compiled what it found.
const SEEN: Duration = Duration::from_mins(1);

type Test = (&'static str, fn(&World) -> Result<()>);

/// Who comes into a registry, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Anybody, by HTTP.
    Open,
    /// Who has a name and a password, by HTTP.
    Shut,
    /// Anybody, by TLS, with a certificate by an authority that no machine trusts.
    Private,
}

/// A registry's process.
struct Shop {
    host: String,
    processes: Processes,
    folder: TempDir,
    program: PathBuf,
    /// The certificate of its own authority, where it speaks TLS.
    ca: Option<String>,
}

impl Shop {
    fn open(door: Door) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut shop = Self {
            host: free_address()?,
            processes: Processes::new(folder.path())?,
            program: Module::Distribution.build(&Cache::open()?)?.join("registry"),
            folder,
            ca: None,
        };
        registry::configure(shop.folder.path(), &shop.host, door == Door::Shut)?;
        if door == Door::Private {
            let authority = Authority::new("the harbour's own")?;
            let pair = authority.issue(&["127.0.0.1"])?;
            fs::write(shop.folder.path().join("tls.crt"), pair.certificate)?;
            fs::write(shop.folder.path().join("tls.key"), pair.key)?;
            shop.ca = Some(authority.certificate());
        }
        shop.start()?;
        Ok(shop)
    }

    fn start(&self) -> Result<()> {
        let folder = self.folder.path();
        let mut command = Command::new(&self.program);
        command.arg("serve").arg(folder.join("config.yaml"));
        if self.ca.is_some() {
            command
                .env("REGISTRY_HTTP_TLS_CERTIFICATE", folder.join("tls.crt"))
                .env("REGISTRY_HTTP_TLS_KEY", folder.join("tls.key"));
        }
        self.processes.start("registry", &mut command)?;
        self.processes.wait("a registry that answers", STARTS, || {
            std::net::TcpStream::connect(&self.host).is_ok()
        })
    }

    fn stop(&self) -> Result<()> {
        self.processes.stop("registry")
    }

    /// Has it hang for the time of `meanwhile`: it takes connections, and says nothing.
    fn while_it_hangs<T>(&self, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        let process = self.processes.pid("registry").context("the registry doesn't run")?;
        let signal = |name: &str| host::run(Command::new("kill").args([name, &process.to_string()]));
        signal("-STOP")?;
        let done = meanwhile();
        signal("-CONT")?;
        done
    }

    /// The way to it, as an admin says it.
    fn way(&self) -> Host {
        Host {
            host: self.host.clone(),
            ca: self.ca.clone(),
            ..Host::default()
        }
    }

    /// Has it serve other bytes under a blob's digest.
    fn falsify(&self, blob: &Digest, bytes: &[u8]) -> Result<()> {
        let (hex, aside) = (blob.hex(), self.folder.path().join("aside"));
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        fs::write(&aside, bytes)?;
        Ok(fs::rename(aside, blobs.join(&hex[..2]).join(hex).join("data"))?)
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
            shop: Shop::open(Door::Open)?,
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
    let tests = [command::TESTS, keyless::TESTS, reached::TESTS, serving::TESTS].concat();
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
    let tests = tests.into_iter();
    let trials = tests.map(|(name, test)| runner::trial(name, test, world.as_ref()));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
