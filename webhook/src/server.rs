//! The server as a whole: started, ready, shut down.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tidewaiter_engine::{Engine, EngineError, Options as EngineOptions};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::admission::Reviewer;
use crate::cluster::{Cluster, Place};
use crate::configuration::{self, Loader};
use crate::controllers::{self, Controllers, Health, SelfManaged};
use crate::http::accept::Listener;
use crate::http::certificate::{self, CertificateError, Certificates, TlsSource};
use crate::http::routes::{self, App};
use crate::metrics::Metrics;
use crate::modules::ModuleSettings;
use crate::namespaces::{self, folder::Recorded};
use crate::traces::Traces;

/// As many connections wait to be accepted, as with tokio's own listeners.
const BACKLOG: u32 = 1024;

/// What is still at work this long after the listeners closed is given up: a review may wait for its turn, spend the budget, write credentials, and be answered
/// on a slow machine. The chart's `terminationGracePeriodSeconds` is made of the same.
fn patience(budget: Duration) -> Duration {
    budget + namespaces::PATIENCE + Duration::from_secs(6)
}

/// Where the configuration comes from, and with it where credentials go.
pub enum Source {
    /// YAML files; credentials are recorded and written nowhere.
    Folder(PathBuf),
    /// A cluster's objects; credentials go into its namespaces.
    Cluster {
        /// Logged in as the webhook's ServiceAccount.
        client: kube::Client,
        /// Which part of it we deal with.
        place: Place,
        /// What this replica does when it leads.
        leading: Box<Leading>,
    },
}

/// What a replica does when it leads.
#[derive(Clone, Debug)]
pub struct Leading {
    /// This replica's name among the others: its Pod's.
    pub identity: String,
    /// The name of the webhook configurations by which API servers call us.
    pub configuration: String,
    /// The certificate that the leader makes; none where somebody else makes it.
    pub certificate: Option<SelfManaged>,
    /// Between the mark that a namespace's credentials are unused and their end.
    pub grace: Duration,
    /// Between two audits of what runs; zero for none.
    pub audit_interval: Duration,
}

/// How to serve.
pub struct Options {
    /// Where the configuration comes from.
    pub source: Source,
    /// The TLS address; port 0 picks one.
    pub listen: SocketAddr,
    /// A plain address for probes and metrics.
    pub observe: Option<SocketAddr>,
    /// Certificate and key.
    pub tls: TlsSource,
    /// Where compiled policies are kept.
    pub cache_dir: Option<PathBuf>,
    /// What they may take there, in MiB. Default: 256.
    pub compiled_mib: u32,
    /// How modules are fetched over the network; none for not at all.
    pub modules: Option<ModuleSettings>,
    /// Where compiled policies lie that came with the program. Default: nowhere.
    pub shipped_dir: Option<PathBuf>,
    /// What host calls may take in one review. Default: 2 s.
    pub budget: Duration,
    /// The longest body in bytes. Default: 7 MiB.
    pub max_body: usize,
    /// How long to serve on at shutdown, not ready, before closing. Default: 5 s.
    pub drain: Duration,
    /// Where each review is told of, if anywhere. Whoever made it ends it.
    pub traces: Option<Arc<Traces>>,
}

impl Options {
    /// With all defaults, on a free port of the loopback.
    pub fn new(source: Source, tls: TlsSource) -> Self {
        Self {
            source,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            observe: None,
            tls,
            cache_dir: None,
            compiled_mib: EngineOptions::default().cache_mib,
            modules: None,
            shipped_dir: None,
            budget: Duration::from_secs(2),
            max_body: 7 << 20,
            drain: Duration::from_secs(5),
            traces: None,
        }
    }
}

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be had.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS can't be set up at all.
    #[error(transparent)]
    Tls(#[from] CertificateError),
    /// No Wasm engine on this machine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = if address.ip() == Ipv6Addr::UNSPECIFIED {
        match bind_everywhere(address) {
            // A machine without IPv6 has the addresses of IPv4.
            Err(error) if error.kind() != ErrorKind::AddrInUse => {
                let of_ipv4 = (Ipv4Addr::UNSPECIFIED, address.port());
                TcpListener::bind(of_ipv4).await.map_err(|_| error)
            }
            bound => bound,
        }
    } else {
        TcpListener::bind(address).await
    };
    bound.map_err(|source| StartError::Listen { address, source })
}

/// At `[::]`, which is for IPv4 as well only where the machine or the socket says so.
fn bind_everywhere(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    SockRef::from(&socket).set_only_v6(false)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// See [`Server::start`].
pub struct Server;

impl Server {
    /// Binds, begins to load, and returns. Whether reviews can be answered yet is for [`Running::ready`] and `/readyz`.
    pub async fn start(options: Options) -> Result<Running, StartError> {
        // For the clients of stores; the server's own TLS names its provider. A second call in one process changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let local = |socket: &TcpListener, address| {
            socket
                .local_addr()
                .map_err(|source| StartError::Listen { address, source })
        };

        let metrics = Arc::new(Metrics::default());
        let certificates = Arc::new(Certificates::default());
        let tls = TlsAcceptor::from(Arc::new(certificate::server_config(Arc::clone(&certificates))?));
        let socket = bind(options.listen).await?;
        let address = local(&socket, options.listen)?;

        // Stopped in this order: listeners, then what keeps the configuration and the certificate current.
        let (stop_listening, stop) = (CancellationToken::new(), CancellationToken::new());
        let engine = Engine::new(EngineOptions {
            cache_dir: options.cache_dir,
            cache_mib: options.compiled_mib,
            shipped_dir: options.shipped_dir,
            ..EngineOptions::default()
        })?;

        let Configured {
            reviewer,
            recorded,
            mut kept,
            election,
        } = Configured::from(
            options.source,
            engine,
            &metrics,
            (options.budget, options.traces),
            options.modules,
            stop.clone(),
        );
        let current = certificate::keep_current(
            options.tls,
            Arc::clone(&certificates),
            Arc::clone(&metrics),
            stop.clone(),
        );
        let until = stop.clone();
        kept.push((
            "certificate",
            tokio::spawn(async move {
                current.await;
                // One that is given doesn't change.
                until.cancelled().await;
            }),
        ));

        let app = Arc::new(App::new(
            Arc::clone(&reviewer),
            certificates,
            Arc::clone(&metrics),
            options.max_body,
        ));
        let listener = Listener {
            socket,
            tls: Some(tls),
            router: routes::admission(Arc::clone(&app)),
            metrics: Arc::clone(&metrics),
        };
        let patience = patience(options.budget);
        let serving = tokio::spawn(listener.serve(stop_listening.clone(), patience));
        let observing = match options.observe {
            Some(address) => {
                let socket = bind(address).await?;
                let bound = local(&socket, address)?;
                let listener = Listener {
                    socket,
                    tls: None,
                    router: routes::observing(Arc::clone(&app)),
                    metrics: Arc::clone(&metrics),
                };
                tokio::spawn(listener.serve(stop.clone(), patience));
                Some(bound)
            }
            None => None,
        };
        Ok(Running {
            address,
            observing,
            reviewer,
            recorded,
            metrics,
            app,
            serving,
            kept,
            election,
            stop_listening,
            stop,
            drain: options.drain,
        })
    }
}

/// A source at work.
struct Configured {
    reviewer: Arc<Reviewer>,
    recorded: Option<Arc<Recorded>>,
    kept: Kept,
    election: Option<JoinHandle<()>>,
}

/// Tasks that go on until they are stopped, by name.
type Kept = Vec<(&'static str, JoinHandle<()>)>;

impl Configured {
    fn from(
        source: Source,
        engine: Engine,
        metrics: &Arc<Metrics>,
        (budget, traces): (Duration, Option<Arc<Traces>>),
        modules: Option<ModuleSettings>,
        stop: CancellationToken,
    ) -> Self {
        let with_modules = |loader: Loader| match modules {
            Some(modules) => loader.with_modules(modules),
            None => loader,
        };
        match source {
            Source::Folder(folder) => {
                let recorded = Arc::new(Recorded::default());
                let reviewer = Reviewer::new(Arc::clone(&recorded) as _, None, Arc::clone(metrics), budget);
                let reviewer = Arc::new(reviewer.with_traces(traces));
                let loader = with_modules(Loader::new(engine, Arc::clone(&reviewer), Arc::clone(metrics)));
                let keep = tokio::spawn(configuration::keep_folder(folder, loader, stop));
                Self {
                    reviewer,
                    recorded: Some(recorded),
                    kept: vec![("configuration", keep)],
                    election: None,
                }
            }
            Source::Cluster { client, place, leading } => {
                let (leads, election) = controllers::elect(&client, &place.namespace, leading.identity, stop.clone());
                let health = Arc::new(Health::default());
                let cluster = Cluster::watch(client.clone(), &place, leads.clone(), Arc::clone(&health), stop.clone());
                let (namespaces, changes) = cluster.namespaces();
                let (namespaces, reader) = (Arc::new(namespaces), Arc::new(cluster.reader()));
                let reviewer = Reviewer::new(Arc::clone(&namespaces) as _, Some(reader), Arc::clone(metrics), budget);
                let reviewer = Arc::new(reviewer.with_traces(traces));
                let controllers = Controllers {
                    client,
                    namespace: place.namespace,
                    configuration: leading.configuration,
                    certificate: leading.certificate,
                    namespaces: (namespaces, changes),
                    health: (health, cluster.changes()),
                    reviewer: Arc::clone(&reviewer),
                    metrics: Arc::clone(metrics),
                    grace: leading.grace,
                    audit_interval: leading.audit_interval,
                };
                let controllers = tokio::spawn(controllers.run(leads, stop));
                let loader = with_modules(Loader::new(engine, Arc::clone(&reviewer), Arc::clone(metrics)));
                let keep = tokio::spawn(cluster.keep_current(loader));
                Self {
                    reviewer,
                    recorded: None,
                    kept: vec![("configuration", keep), ("controllers", controllers)],
                    election: Some(election),
                }
            }
        }
    }
}

/// A server at work. Dropping it stops it at once.
pub struct Running {
    /// Where it listens with TLS.
    pub address: SocketAddr,
    /// Where it listens without.
    pub observing: Option<SocketAddr>,
    /// Answers reviews without a socket too.
    pub reviewer: Arc<Reviewer>,
    /// In folder mode: what would have been written.
    pub recorded: Option<Arc<Recorded>>,
    /// As at `/metrics`.
    pub metrics: Arc<Metrics>,
    app: Arc<App>,
    serving: JoinHandle<usize>,
    kept: Kept,
    election: Option<JoinHandle<()>>,
    stop_listening: CancellationToken,
    stop: CancellationToken,
    drain: Duration,
}

impl Running {
    /// Returns when reviews are answered. Waits for ever where the configuration or the certificate never comes.
    pub async fn ready(&self) {
        while !self.app.missing().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns only if a task ended that should go on, as by a panic, and which. A leader whose controllers ended would hold the Lease for ever.
    pub async fn failed(&self) -> &'static str {
        loop {
            if self.serving.is_finished() {
                return "listener";
            }
            if self.election.as_ref().is_some_and(JoinHandle::is_finished) {
                return "election";
            }
            if let Some((name, _)) = self.kept.iter().find(|(_, task)| task.is_finished()) {
                return name;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Not ready from now on, serves on for the drain time and while anybody still comes, then closes the listeners, lets all finish, and returns how many connections it had to give up.
    pub async fn shutdown(mut self) -> usize {
        self.app.drain();
        tokio::time::sleep(self.drain).await;
        self.stop_listening.cancel();
        let left = (&mut self.serving).await.unwrap_or(0);
        self.stop.cancel();
        // The Lease is given back, so that the next leader needn't wait for its end.
        if let Some(election) = self.election.take() {
            let _ = election.await;
        }
        left
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_listening.cancel();
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use kube::client::Body;

    use super::*;

    /// In a cluster whose API server answers nothing that is any use.
    async fn running() -> Running {
        let service = tower::service_fn(|_: axum::http::Request<Body>| async {
            let mut response = axum::http::Response::new(Body::empty());
            *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            Ok::<_, std::convert::Infallible>(response)
        });
        let source = Source::Cluster {
            client: kube::Client::new(service, "default"),
            place: Place {
                namespace: "tidewaiter-system".into(),
                kserve_namespace: "kserve".into(),
                only: Vec::new(),
            },
            leading: Box::new(Leading {
                identity: "one".into(),
                configuration: "tidewaiter.dev".into(),
                certificate: None,
                grace: Duration::from_hours(1),
                audit_interval: Duration::ZERO,
            }),
        };
        let tls = TlsSource::Pem {
            certificate: Vec::new(),
            key: Vec::new(),
        };
        Server::start(Options::new(source, tls)).await.unwrap()
    }

    /// What is written in the chart, in its own words.
    fn chart(file: &str) -> String {
        let file = format!("{}/../charts/tidewaiter/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn a_review_has_its_time_before_the_api_server_gives_up_and_when_its_replica_goes() {
        // Half a second for the way there and back, and for what policies do beside asking stores.
        let beside = (namespaces::PATIENCE + Duration::from_millis(500)).as_millis();
        assert!(chart("templates/checks.yaml").contains(&format!("gt (add $budget {beside}) $timeout")));
        assert!(chart("values.yaml").contains(&format!("at least {beside}ms less than `timeoutSeconds`")));
        assert!(Duration::from_secs(25) + Duration::from_millis(2500) < Duration::from_secs(30));

        assert_eq!(patience(Duration::from_secs(2)), Duration::from_secs(10));
        assert_eq!(patience(Duration::from_secs(25)), Duration::from_secs(33));
        // Beside the drain: who comes late, those that are at work, the Lease, and some to spare.
        let beside = 6 + patience(Duration::ZERO).as_secs() + 2 + 2;
        let seconds = "(div (add (include \"tidewaiter.milliseconds\" .Values.webhook.budget | int64) 999) 1000)";
        let grace =
            format!("terminationGracePeriodSeconds: {{{{ add .Values.webhook.drainSeconds {seconds} {beside} }}}}\n");
        assert!(chart("templates/deployment.yaml").contains(&grace), "{grace}");
    }

    #[tokio::test]
    async fn everywhere_is_ipv4_and_where_the_machine_has_it_ipv6() {
        let everywhere = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let mut ways = vec!["127.0.0.1"];
        if TcpListener::bind("[::1]:0").await.is_ok() {
            ways.push("::1");
        }
        for way in ways {
            tokio::net::TcpStream::connect((way, port)).await.expect(way);
        }
        let taken = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await.unwrap_err();
        assert!(matches!(taken, StartError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_task_that_panics_ends_the_process() {
        let named = ["configuration", "controllers", "certificate"];
        for name in named {
            let mut running = running().await;
            assert_eq!(running.kept.iter().map(|(name, _)| *name).collect::<Vec<_>>(), named);
            let long = Duration::from_millis(300);
            assert!(tokio::time::timeout(long, running.failed()).await.is_err(), "all go on");
            let (_, task) = running.kept.iter_mut().find(|(other, _)| *other == name).unwrap();
            // As a panic does.
            task.abort();
            assert_eq!(running.failed().await, name);
        }
    }
}
