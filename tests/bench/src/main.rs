//! Speed beside a baseline, in the same run: `cargo xtask bench`.
//!
//! Servers run as processes of their own (this program again, by a hidden command), so that their memory and their start are theirs alone; load comes from
//! this one. Baseline and webhook take turns in short rounds, and what counts is the median of the rounds' ratios: a machine that slows down slows both.

mod apply;
mod crowd;
mod deployer;
mod echo;
mod fixture;
mod goals;
mod hostile;
mod languages;
mod load;
mod on_ground;
mod policies;
mod report;
mod scale;
mod servers;
mod uploads;
mod whole;

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use mimalloc::MiMalloc;

use crate::apply::Apply;
use crate::report::Report;

/// As in the webhook's own program; the baseline has it too.
#[global_allocator]
static MEMORY: MiMalloc = MiMalloc;

/// Speed beside a baseline, in the same run.
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Arguments {
    /// Print one JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// A thousand namespaces and ten thousand services, and replicas that roll
    #[arg(long)]
    scale: bool,
    /// Uploads beside awscli and mc, and a deploy that changes nothing
    #[arg(long)]
    deployer: bool,
    /// Leave out the figure that needs a cluster
    #[arg(long)]
    no_cluster: bool,
    /// Only policies: the example in each language beside the same function, natively; a hundred of them; hostile ones
    #[arg(long)]
    policies: bool,
    /// Only say what the built-in policies import and weigh
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(clap::Subcommand)]
enum Role {
    /// The baseline server
    #[command(hide = true)]
    Echo {
        port: u16,
        certificate: PathBuf,
        key: PathBuf,
    },
    /// The part on the cluster, inside of it; its figures go into a file
    #[command(hide = true)]
    Apply { figures: PathBuf },
    /// The part with many namespaces, inside of a cluster
    #[command(hide = true)]
    Rotation { figures: PathBuf },
    /// The part with replicas that roll, inside of a cluster
    #[command(hide = true)]
    Rolling { figures: PathBuf },
    /// The part with a deploy that changes nothing, inside of a cluster
    #[command(hide = true)]
    Noop { figures: PathBuf },
    /// The webhook, with its own arguments
    #[command(hide = true)]
    Webhook(Box<tidewaiter_webhook::cli::Arguments>),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Webhook(arguments)) => return tidewaiter_webhook::run::run(*arguments),
        Some(Role::Echo { port, certificate, key }) => {
            provider();
            let listener = TcpListener::bind(("127.0.0.1", port))?;
            return runtime()?.block_on(echo::serve(listener, &certificate, &key));
        }
        Some(Role::Apply { figures }) => {
            provider();
            return apply::inside(&figures);
        }
        Some(Role::Rotation { figures }) => {
            provider();
            return scale::rotation(&figures);
        }
        Some(Role::Rolling { figures }) => {
            provider();
            return scale::rolling(&figures);
        }
        Some(Role::Noop { figures }) => {
            provider();
            return deployer::inside(&figures);
        }
        None => {}
    }
    if arguments.deployer {
        return deployer::run(arguments.json);
    }
    if arguments.scale {
        return scale::run(arguments.json);
    }
    if arguments.list {
        return policies::list();
    }
    if arguments.policies {
        provider();
        return runtime()?.block_on(languages::run(arguments.json));
    }
    provider();
    // Without the figures of a cluster, the others still are what they are.
    let apply = if arguments.no_cluster {
        Err("left out by --no-cluster".to_owned())
    } else {
        apply::measure().map_err(|error| format!("{error:#}"))
    };
    runtime()?.block_on(measure(apply))?.print(arguments.json)
}

/// The TLS of the echo and of the load; the webhook names its own.
fn provider() {
    // A second call in one process changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

async fn measure(apply: Result<Apply, String>) -> Result<Report> {
    let fixture = fixture::Fixture::new().await?;
    let starts = servers::starts(&fixture).await?;
    let reviews = servers::reviews(&fixture).await?;
    let policies = policies::measure(&fixture).await?;
    let whole_us = whole::measure(&fixture).await?;
    Ok(Report {
        whole_us,
        starts,
        reviews,
        policies,
        apply,
    })
}
