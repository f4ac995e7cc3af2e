//! The process: log, signals, exit.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::CustomResourceExt;
use tidewaiter_core::backend::StorageBackend;
use tidewaiter_core::policy_resource::WasmPolicy;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;

use crate::cli::{Arguments, Command, LogFormat};
use crate::cluster::Place;
use crate::cluster::client::client;
use crate::cluster::watched::SILENCE;
use crate::controllers::{Lifetimes, SelfManaged};
use crate::http::certificate::TlsSource;
use crate::modules::ModuleSettings;
use crate::server::{Leading, Options, Server, Source};
use crate::traces::Traces;

/// Does what the command line says. Serving returns after SIGTERM or SIGINT, when all that was accepted is answered.
pub fn run(arguments: Arguments) -> Result<()> {
    if let Some(Command::Crds) = arguments.command {
        print!("{}", crds()?);
        return Ok(());
    }
    log(&arguments)?;
    let traces = arguments.otlp_endpoint.as_deref().map(Traces::to).transpose();
    let traces = traces.context("--otlp-endpoint")?.map(Arc::new);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start threads")?;
    let served = runtime.block_on(serve(arguments, traces.clone()));
    if let Some(traces) = traces {
        traces.end();
    }
    // Whatever still runs by now was given up.
    runtime.shutdown_background();
    served
}

/// Both `CustomResourceDefinition`s as YAML.
pub fn crds() -> Result<String> {
    let backend = serde_saphyr::to_string(&StorageBackend::crd())?;
    let policy = serde_saphyr::to_string(&WasmPolicy::crd())?;
    Ok(format!("---\n{}\n---\n{}\n", backend.trim_end(), policy.trim_end()))
}

fn log(arguments: &Arguments) -> Result<()> {
    let filter = EnvFilter::try_new(&arguments.log).context("--log: not a filter such as info or info,kube=debug")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match arguments.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
    Ok(())
}

async fn serve(arguments: Arguments, traces: Option<Arc<Traces>>) -> Result<()> {
    // Before anything else, so that a stop during the start is a stop too; as PID 1 there is no default for these.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let options = Options {
        traces,
        ..options(arguments).await?
    };
    raise_open_files();
    let running = Server::start(options).await?;
    info!(address = %running.address, "listening");
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: draining"),
        _ = interrupt.recv() => info!("SIGINT: draining"),
        task = running.failed() => anyhow::bail!("the server's {task} ended by itself"),
    }
    let drained = running.shutdown();
    tokio::select! {
        left = drained => if left == 0 { info!("drained") } else { warn!(connections = left, "some connections did not end in time") },
        _ = terminate.recv() => warn!("second SIGTERM: leaving at once"),
        _ = interrupt.recv() => warn!("second SIGINT: leaving at once"),
    }
    Ok(())
}

/// Each watch, each call to a store and each connection of an API server is one, and what many container runtimes allow before they are asked, 1,024, is for
/// programs that number them otherwise.
fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "open files"),
        Err(error) => warn!(%error, "can't raise the limit of open files"),
    }
}

async fn options(arguments: Arguments) -> Result<Options> {
    let (source, tls) = match &arguments.config {
        Some(folder) => (Source::Folder(folder.clone()), tls_files(&arguments)),
        None => in_cluster(&arguments).await?,
    };
    let modules = ModuleSettings::read(arguments.modules.as_deref(), arguments.cache_dir.as_deref())?;
    Ok(Options {
        source,
        modules: Some(modules),
        listen: arguments.listen,
        observe: arguments.metrics_listen,
        tls,
        cache_dir: arguments.cache_dir,
        compiled_mib: arguments.compiled_mib,
        shipped_dir: Some(arguments.shipped_dir),
        budget: arguments.budget,
        max_body: arguments.max_body,
        drain: arguments.drain,
        traces: None,
    })
}

fn tls_files(arguments: &Arguments) -> TlsSource {
    TlsSource::Files {
        certificate: arguments.tls_cert.clone(),
        key: arguments.tls_key.clone(),
    }
}

async fn in_cluster(arguments: &Arguments) -> Result<(Source, TlsSource)> {
    let no_cluster = |error: &dyn std::fmt::Display| {
        // Its message holds its whole chain already.
        anyhow::anyhow!("no cluster to serve: {error}\n\nhint: for a folder of YAML files give --config DIR")
    };
    let mut config = kube::Config::infer().await.map_err(|error| no_cluster(&error))?;
    config.read_timeout = Some(SILENCE);
    let client = client(config).map_err(|error| no_cluster(&error))?;
    let namespace = arguments.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let lifetimes = Lifetimes {
        authority: arguments.authority_lifetime,
        certificate: arguments.certificate_lifetime,
    };
    ensure!(
        lifetimes.certificate >= Duration::from_secs(30) && lifetimes.authority >= 2 * lifetimes.certificate,
        "--certificate-lifetime must be 30s at least, and --authority-lifetime twice as long as that at least"
    );
    ensure!(
        lifetimes.authority <= Duration::from_hours(20 * 365 * 24),
        "--authority-lifetime must be 7300d at most"
    );
    ensure!(
        arguments.collect_after >= Duration::from_mins(1),
        "--collect-after must be 1m at least: a service and its credentials are not written at the same moment"
    );
    let certificate = arguments.tls_secret.clone().map(|secret| SelfManaged {
        secret,
        names: service_names(&arguments.service, &namespace),
        lifetimes,
    });
    let tls = match &certificate {
        Some(certificate) => TlsSource::Secret {
            client: client.clone(),
            namespace: namespace.clone(),
            name: certificate.secret.clone(),
        },
        None => tls_files(arguments),
    };
    let leading = Leading {
        identity: arguments.identity.clone().map_or_else(host_name, Ok)?,
        configuration: arguments.webhook_configuration.clone(),
        certificate,
        grace: arguments.collect_after,
        audit_interval: arguments.audit_interval,
    };
    let source = Source::Cluster {
        client,
        place: Place {
            namespace,
            kserve_namespace: arguments.kserve_namespace.clone(),
            only: arguments.delivery_namespaces.clone(),
        },
        leading: Box::new(leading),
    };
    Ok((source, tls))
}

/// By which API servers call a Service: they leave out the cluster's domain.
fn service_names(service: &str, namespace: &str) -> Vec<String> {
    vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}")]
}

/// A Pod's is its own name.
fn host_name() -> Result<String> {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").context("can't read the host's name: give --identity")?;
    Ok(name.trim().to_owned())
}
