//! The command line of `tidewaiter-webhook`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tidewaiter_core::duration;

use crate::http::routes::LARGEST_BODY;

/// Adds what a KServe InferenceService needs while it is admitted: credentials of its model store, the runtime version of its model.
///
/// Without --config the StorageBackends and WasmPolicies of the cluster are used, and credentials are written into its namespaces.
#[derive(Debug, Parser)]
#[command(
    name = "tidewaiter-webhook",
    version,
    after_help = "Examples:
  tidewaiter-webhook                          in a cluster, as the chart runs it
  tidewaiter-webhook --config ./policies --listen 127.0.0.1:8443 --tls-cert tls.crt --tls-key tls.key
                                              with the YAML files of a folder; writes nothing anywhere
  tidewaiter-webhook crds | kubectl apply --server-side -f -"
)]
pub struct Arguments {
    /// What to do; by default serve
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Folder of YAML files with StorageBackends, WasmPolicies and what they refer to, in place of a cluster
    #[arg(long, env = "TIDEWAITER_CONFIG", value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Where the API server calls /mutate and /validate, with TLS; `[::]` is every address, IPv4's too
    #[arg(long, env = "TIDEWAITER_LISTEN", value_name = "ADDRESS", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Where probes and Prometheus call /livez, /readyz and /metrics, without TLS; the TLS address serves them too
    #[arg(long, env = "TIDEWAITER_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// The certificate and its chain, PEM; read again when it changes
    #[arg(
        long,
        env = "TIDEWAITER_TLS_CERT",
        value_name = "FILE",
        default_value = "/etc/tidewaiter/tls/tls.crt"
    )]
    pub tls_cert: PathBuf,
    /// Its private key, PEM; read again when it changes
    #[arg(
        long,
        env = "TIDEWAITER_TLS_KEY",
        value_name = "FILE",
        default_value = "/etc/tidewaiter/tls/tls.key"
    )]
    pub tls_key: PathBuf,
    /// The Secret of the own namespace whose certificate is served, in place of files; the leader makes and renews it
    #[arg(long, env = "TIDEWAITER_TLS_SECRET", value_name = "NAME", conflicts_with = "config")]
    pub tls_secret: Option<String>,
    /// The Service that API servers call, for the names in that certificate
    #[arg(long, env = "TIDEWAITER_SERVICE", value_name = "NAME", default_value = "tidewaiter")]
    pub service: String,
    /// The webhook configurations, of both kinds, that are to trust that certificate
    #[arg(
        long,
        env = "TIDEWAITER_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "tidewaiter.dev"
    )]
    pub webhook_configuration: String,
    /// How long that certificate is valid; it is renewed when a third of it is left
    #[arg(long, env = "TIDEWAITER_CERTIFICATE_LIFETIME", value_name = "TIME", default_value = "90d", value_parser = duration::parse)]
    pub certificate_lifetime: Duration,
    /// How long its authority is valid, at least twice as long; the next one is trusted beside it before it ends
    #[arg(long, env = "TIDEWAITER_AUTHORITY_LIFETIME", value_name = "TIME", default_value = "365d", value_parser = duration::parse)]
    pub authority_lifetime: Duration,
    /// Where compiled policies, and modules that came over the network, are kept for the next start; without it they are compiled and fetched at each start
    #[arg(long, env = "TIDEWAITER_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// What compiled policies may take there together, in MiB; those that were not used for the longest time make room. For modules the file of --modules says it
    #[arg(long, env = "TIDEWAITER_COMPILED_MIB", value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub compiled_mib: u32,
    /// How modules are fetched from registries and web servers: a YAML file with hosts, mirrors, pull secrets and who must have signed
    #[arg(long, env = "TIDEWAITER_MODULES", value_name = "FILE")]
    pub modules: Option<PathBuf>,
    /// Where the compiled policies lie that came with this program; they are used where nobody but the program's owner can write there
    #[arg(
        long,
        env = "TIDEWAITER_SHIPPED_DIR",
        value_name = "DIR",
        default_value = "/usr/share/tidewaiter/policies"
    )]
    pub shipped_dir: PathBuf,
    /// What all calls to model stores in one review may take together, such as 2s or 500ms
    #[arg(long, env = "TIDEWAITER_BUDGET", value_name = "TIME", default_value = "2s", value_parser = budget)]
    pub budget: Duration,
    /// The longest review that is read, such as 7MiB; a longer one is answered with 413
    #[arg(long, env = "TIDEWAITER_MAX_BODY", value_name = "SIZE", default_value = "7MiB", value_parser = size)]
    pub max_body: usize,
    /// How long to serve on after SIGTERM, not ready, until no API server sends anything more
    #[arg(long, env = "TIDEWAITER_DRAIN", value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    pub drain: Duration,
    /// The namespace that KServe runs in
    #[arg(
        long,
        env = "TIDEWAITER_KSERVE_NAMESPACE",
        value_name = "NAME",
        default_value = "kserve"
    )]
    pub kserve_namespace: String,
    /// The namespace that Tidewaiter itself runs in; by default that of the ServiceAccount or the kubeconfig's context
    #[arg(long, env = "TIDEWAITER_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// This replica's name among the others, one of which leads; by default the host's name, which is the Pod's
    #[arg(long, env = "TIDEWAITER_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// The only namespaces that credentials are written to, separated by commas; without it all
    #[arg(
        long,
        env = "TIDEWAITER_DELIVERY_NAMESPACES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub delivery_namespaces: Vec<String>,
    /// How long credentials that no service of their namespace uses any more are kept, marked as unused
    #[arg(long, env = "TIDEWAITER_COLLECT_AFTER", value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    pub collect_after: Duration,
    /// How often what already runs is judged by today's policies, for PolicyReports; 0s for never
    #[arg(long, env = "TIDEWAITER_AUDIT_INTERVAL", value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    pub audit_interval: Duration,
    /// A collector that each review is told of as a trace, by OTLP over HTTP, such as http://collector.monitoring:4318
    #[arg(long, env = "TIDEWAITER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// The log's form, on stderr
    #[arg(long, env = "TIDEWAITER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, by module if need be: info,kube=debug
    #[arg(long, env = "TIDEWAITER_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// What to do other than serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the CustomResourceDefinitions as YAML
    Crds,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line
    Json,
    /// For reading
    Text,
}

/// With less no store answers, and no policy ends; with more the API server, which waits 30 s at most, has given up before.
const BUDGETS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(25);

fn budget(text: &str) -> Result<Duration, String> {
    duration::parse(text).and_then(|budget| {
        let fits = BUDGETS.contains(&budget);
        fits.then_some(budget)
            .ok_or_else(|| "must be between 100ms and 25s".into())
    })
}

/// From a review of a small object with its old twin, with less nothing is admitted, to half of what all bodies at once may take.
const BODIES: RangeInclusive<usize> = 64 << 10..=LARGEST_BODY;

fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let number: usize = number
        .parse()
        .map_err(|_| "write a whole number and KiB or MiB, such as 7MiB".to_owned())?;
    let unit = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err("the unit is KiB or MiB, such as 7MiB".into()),
    };
    number
        .checked_mul(unit)
        .filter(|bytes| BODIES.contains(bytes))
        .ok_or_else(|| "must be between 64KiB and 32MiB".into())
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn budgets_and_sizes_have_units_and_bounds() {
        assert_eq!(budget("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(budget("25s"), Ok(Duration::from_secs(25)));
        for wrong in ["0s", "99ms", "26s", "2"] {
            assert!(budget(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("7MiB"), Ok(7 << 20));
        assert_eq!(size("100000"), Ok(100_000));
        assert!(
            size("7MB").is_err()
                && size("7").is_err()
                && size("99999999999999999999").is_err()
                && size("32MiB").is_ok()
                && size("33MiB").is_err()
        );
    }
}
