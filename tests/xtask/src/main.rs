//! `cargo xtask`: the commands of this repository. Each sets up what it needs.

mod cache;
mod failures;
mod setup;
mod steps;

use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

const HELP: &str = "\
Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  demo [--cluster]       Show the main job: an InferenceService as its user wrote it, and what comes back
                         --cluster: the same through kubectl on a real control plane, ending in a model that answers
  test [--quick | --all] Everything CI runs; --quick leaves out what needs a control plane
                         --all: also more with the oldest KServe, Knative, cert-manager, network policies in force, named namespaces and each
                         of its rights, in the image as it is shipped, which is made twice and has to be the same bytes
  bench [--policies | --scale | --deployer] [--no-cluster] [--json]
                         Speed beside a baseline, in the same run
                         --policies: a policy in each language, a hundred of them, and hostile ones beside others
                         --scale: a rotated key in 1,000 namespaces with 10,000 services, and replicas that roll
                         --deployer: uploads beside awscli and mc, and a deploy that changes nothing
  policies               Build the built-in policies and say what each imports and weighs
  image [OPTIONS]        The container image for amd64 and arm64, without a container engine (see `cargo xtask image --help`)
  ground COMMAND         The test cluster by hand: build, images, up, down (see `cargo xtask ground --help`)

Examples:
  cargo xtask demo
  cargo xtask test --quick
  cargo xtask bench --json
  cargo xtask image --archive tidewaiter.tar";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut parser = lexopt::Parser::from_env();
    let command = match parser.next()? {
        Some(Value(name)) => name.string()?,
        Some(Long("help") | Short('h')) | None => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    // These have options of their own.
    if let "ground" | "image" = command.as_str() {
        let arguments: Vec<_> = parser.raw_args()?.collect();
        return match command.as_str() {
            "ground" => steps::ground(&arguments),
            _ => steps::image(&arguments),
        };
    }
    let mut flags = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(());
            }
            Long(flag) => flags.push(flag.to_owned()),
            other => return Err(other.unexpected().into()),
        }
    }
    let flag = |allowed: &str| -> Result<bool> {
        match flags.iter().find(|flag| *flag != allowed) {
            Some(other) => bail!("`{command}` has no option `--{other}`\n\n{HELP}"),
            None => Ok(!flags.is_empty()),
        }
    };
    match command.as_str() {
        "demo" => steps::demo(flag("cluster")?),
        "test" => steps::test(match flags.as_slice() {
            [] => steps::Extent::Gate,
            [only] if only == "quick" => steps::Extent::Quick,
            [only] if only == "all" => steps::Extent::All,
            _ => bail!("`test` has --quick or --all\n\n{HELP}"),
        }),
        "bench" => {
            if let Some(other) = flags
                .iter()
                .find(|flag| !["json", "policies", "scale", "deployer", "no-cluster"].contains(&flag.as_str()))
            {
                bail!("`bench` has no option `--{other}`\n\n{HELP}");
            }
            let flags: Vec<_> = flags.iter().map(|flag| format!("--{flag}").into()).collect();
            steps::bench(&flags)
        }
        "policies" => flag("").and_then(|_| steps::policies()),
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}
