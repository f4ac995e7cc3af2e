//! `tidewaiter-ground`: the test ground from the command line.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::tools::{Kserve, Module};
use tidewaiter_ground::{Cluster, Options, host, images, progress, sandbox};

/// A real cluster on one machine, without a container engine, for Tidewaiter's tests
#[derive(Parser)]
#[command(name = "tidewaiter-ground")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the servers into the cache (about 30 minutes the first time, on two cores)
    Build {
        #[command(flatten)]
        what: What,
    },
    /// Build the images into the cache (about 10 minutes the first time)
    Images,
    /// Bring a cluster up; it stays until `down`
    Up {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        what: What,
    },
    /// End a cluster that `up` brought up
    Down {
        #[command(flatten)]
        which: Which,
    },
    /// Print where a cluster's kubeconfig, logs and servers are
    Env {
        #[command(flatten)]
        which: Which,
    },
    /// Run a command where the cluster can be reached: in one that is up, else in a new one that ends with the command
    Exec {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        what: What,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run the end-to-end tests; arguments go to their runner, such as a part of a test's name
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Inside the namespaces: bring the cluster up, then run the command or wait for ever
    #[command(hide = true)]
    Inside {
        #[command(flatten)]
        what: What,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Hold the namespaces of a cluster that stays up
    #[command(hide = true)]
    Hold {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        what: What,
    },
}

#[derive(Args, Clone)]
struct Which {
    /// The cluster's name
    #[arg(long, default_value = "default", env = "TIDEWAITER_GROUND")]
    name: String,
}

#[derive(Args, Clone, Copy)]
struct What {
    /// The release of KServe
    #[arg(long, value_enum, default_value = "v0.20.0")]
    kserve: Kserve,
    /// Leave the node out: no Pods run
    #[arg(long)]
    no_node: bool,
}

impl What {
    fn options(self) -> Options {
        let node = !self.no_node && host::is_root();
        if !node && !self.no_node {
            progress::say("not root: the cluster has no node, so Pods are made and never run");
        }
        Options {
            node,
            kserve: self.kserve,
        }
    }

    fn arguments(self) -> Vec<OsString> {
        let mut arguments = vec!["--kserve".into(), self.kserve.version().into()];
        if self.no_node {
            arguments.push("--no-node".into());
        }
        arguments
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match verb {
        Verb::Build { what } => {
            host::require(what.options().node)?;
            for module in tidewaiter_ground::tools::needed(what.options().node, what.kserve) {
                println!("{}", module.build(&cache)?.display());
            }
        }
        Verb::Images => {
            host::require(true)?;
            println!("{}", images::store(&cache)?.display());
        }
        Verb::Up { which, what } => up(&cache, &which, what)?,
        Verb::Down { which } => {
            if !sandbox::end(&cache, &which.name)? {
                progress::say(&format!("no test ground named {} is up", which.name));
            }
        }
        Verb::Env { which } => env(&cache, &which.name)?,
        Verb::Exec { which, what, command } => {
            let status = if sandbox::is_up(&cache, &which.name) {
                sandbox::join(
                    &cache,
                    &which.name,
                    &with_kubectl(&cache, &cache.runs().join(&which.name), command)?,
                )?
            } else {
                Cluster::prepare(&cache, what.options())?;
                sandbox::enter(&cache, None, &inside(what, command)?)?
            };
            return Ok(code(status));
        }
        Verb::Test { arguments } => {
            return cargo(
                &["test", "--package", "tidewaiter-e2e", "--test", "cluster"],
                &arguments,
            );
        }
        Verb::Hold { which, what } => {
            Cluster::prepare(&cache, what.options())?;
            return Ok(code(sandbox::enter(
                &cache,
                Some(&which.name),
                &inside(what, Vec::new())?,
            )?));
        }
        Verb::Inside { what, command } => {
            let folder = sandbox::inside().context("`inside` is for the ground's own namespaces")?;
            let _cluster = Cluster::start(&cache, &folder, what.options())?;
            if command.is_empty() {
                loop {
                    std::thread::park();
                }
            }
            let command = with_kubectl(&cache, &folder, command)?;
            let program = &command[0];
            let status = Command::new(program).args(&command[1..]).status();
            return Ok(code(
                status.with_context(|| format!("can't run {}", program.display()))?,
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What needs Tidewaiter itself is in another package, which stands on this one.
fn cargo(arguments: &[&str], rest: &[OsString]) -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(arguments)
        .arg("--")
        .args(rest)
        .status()
        .context("can't run cargo")?;
    Ok(code(status))
}

fn inside(what: What, command: Vec<OsString>) -> Result<Vec<OsString>> {
    let mut all = vec![std::env::current_exe()?.into_os_string(), "inside".into()];
    all.extend(what.arguments());
    all.push("--".into());
    all.extend(command);
    Ok(all)
}

/// The command with the cluster's own kubectl first on PATH, and its kubeconfig.
fn with_kubectl(cache: &Cache, folder: &Path, command: Vec<OsString>) -> Result<Vec<OsString>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [Module::Kubernetes.build(cache)?]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    )?;
    let set = |name: &str, value: &std::ffi::OsStr| {
        let mut set = OsString::from(name);
        set.push(value);
        set
    };
    let variables = [
        OsString::from("env"),
        set("PATH=", &path),
        set("KUBECONFIG=", folder.join("kubeconfig").as_os_str()),
    ];
    Ok(variables.into_iter().chain(command).collect())
}

fn up(cache: &Cache, which: &Which, what: What) -> Result<()> {
    let name = &which.name;
    if sandbox::is_up(cache, name) {
        progress::say(&format!("the test ground {name} is up already"));
        return env(cache, name);
    }
    Cluster::prepare(cache, what.options())?;
    fs::create_dir_all(cache.runs())?;
    let log = cache.runs().join(format!("{name}.log"));
    let output = fs::File::create(&log)?;
    let mut holder = Command::new("setsid")
        .arg(std::env::current_exe()?)
        .args(["hold", "--name", name])
        .args(what.arguments())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("can't run setsid")?;
    let folder = cache.runs().join(name);
    while !Cluster::is_ready(&folder) {
        if let Some(status) = holder.try_wait()? {
            bail!(
                "the test ground did not come up ({status}):\n{}",
                host::tail(&fs::read_to_string(&log)?, 60)
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    eprint!("{}", fs::read_to_string(&log)?);
    env(cache, name)
}

fn env(cache: &Cache, name: &str) -> Result<()> {
    ensure!(
        sandbox::is_up(cache, name),
        "no test ground named {name} is up; `up --name {name}` brings one up"
    );
    let folder = cache.runs().join(name);
    println!("KUBECONFIG={}", folder.join("kubeconfig").display());
    println!("LOGS={}", folder.join("logs").display());
    println!(
        "MINIO=http://{}:{}",
        tidewaiter_ground::HOST,
        tidewaiter_ground::MINIO_PORT
    );
    println!("# reachable inside only: tidewaiter-ground exec --name {name} -- kubectl get nodes");
    Ok(())
}

fn code(status: ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
