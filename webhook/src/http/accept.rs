//! Connections: accepted, opened with TLS, served, drained.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::lingering::Lingering;
use crate::metrics::Metrics;

/// A client that opens a connection and says nothing holds one of the connections for this long.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// hyper's timer for headers also guards idle keep-alive connections. Go's client, which is the API server's, closes its own after 90 s: closing first
/// would now and then cut off a request that it is just sending.
const HEADERS: Duration = Duration::from_mins(2);
/// Whoever comes after the drain hasn't heard yet that this server leaves: what tells it (endpoints, kube-proxy) can be slow, and a closed door would be a
/// review that fails open. So the door stays open until nobody came for this long (each who has an answer of now comes anew),
const QUIET: Duration = Duration::from_secs(1);
/// but no longer than this.
const LATE: Duration = Duration::from_secs(5);
/// A handshake that is under way when the door is closed. Otherwise it would wait for one that never ends.
const LAST_HANDSHAKE: Duration = Duration::from_secs(1);
/// Headers of an API server stay far below.
const HEADER_BYTES: usize = 32 * 1024;
/// The accept queue waits where more are open.
const CONNECTIONS: usize = 2048;
/// HTTP/2 requests at once on one connection.
const STREAMS: u32 = 256;
/// After a failed accept (such as too many open files) the next would fail too.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// One listening address and what is served there.
pub struct Listener {
    /// The bound socket.
    pub socket: TcpListener,
    /// None serves plain HTTP.
    pub tls: Option<TlsAcceptor>,
    /// The routes.
    pub router: Router,
    /// Counts what goes wrong below HTTP.
    pub metrics: Arc<Metrics>,
}

impl Listener {
    /// Serves until `stop`, and then while anybody still comes; then closes the door, lets every request in flight finish, closes idle connections, and returns.
    /// `patience` later it leaves the rest to their fate and returns how many connections that were.
    pub async fn serve(self, stop: CancellationToken, patience: Duration) -> usize {
        let open = Arc::new(Semaphore::new(CONNECTIONS));
        let service = TowerToHyperService::new(self.router.clone());
        let (guests, closed) = (GracefulShutdown::new(), CancellationToken::new());
        self.admit(&service, &open, &guests, &closed, stop.cancelled()).await;
        let stopped = Instant::now();
        while self.admit(&service, &open, &guests, &closed, sleep(QUIET)).await {
            if stopped.elapsed() >= LATE {
                break;
            }
        }
        drop(self.socket);
        closed.cancel();
        if stopped.elapsed() >= LATE {
            // Told to go before it has said anything, who came last would be gone without an answer.
            sleep(LAST_HANDSHAKE).await;
        }
        if timeout(patience, guests.shutdown()).await.is_ok() {
            0
        } else {
            CONNECTIONS - open.available_permits()
        }
    }

    /// Lets in whoever comes until then, and says whether anybody came.
    async fn admit(
        &self,
        service: &TowerToHyperService<Router>,
        open: &Arc<Semaphore>,
        guests: &GracefulShutdown,
        closed: &CancellationToken,
        until: impl Future<Output = ()>,
    ) -> bool {
        let mut until = pin!(until);
        let mut came = false;
        loop {
            let permit = tokio::select! {
                () = &mut until => return came,
                permit = Arc::clone(open).acquire_owned() => permit,
            };
            let (stream, peer) = tokio::select! {
                () = &mut until => return came,
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, "can't accept a connection");
                        sleep(AFTER_FAILED_ACCEPT).await;
                        continue;
                    }
                },
            };
            came = true;
            let connection = Connection {
                peer,
                watcher: guests.watcher(),
                service: service.clone(),
                metrics: Arc::clone(&self.metrics),
            };
            let (tls, closed) = (self.tls.clone(), closed.clone());
            tokio::spawn(async move {
                connection.run(stream, tls, closed).await;
                drop(permit);
            });
        }
    }
}

struct Connection {
    peer: SocketAddr,
    watcher: Watcher,
    service: TowerToHyperService<Router>,
    metrics: Arc<Metrics>,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>, closed: CancellationToken) {
        // An answer is one small write; waiting for more to send would cost up to 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, peer = %self.peer, "TCP_NODELAY");
        }
        let Some(tls) = tls else {
            return self.http1(Lingering::new(stream)).await;
        };
        let stopped = async {
            closed.cancelled().await;
            sleep(LAST_HANDSHAKE).await;
        };
        let opened = tokio::select! {
            opened = timeout(HANDSHAKE, tls.accept(stream)) => opened,
            () = stopped => return self.failed("TLS handshake", &"the server stopped"),
        };
        match opened {
            Ok(Ok(stream)) => {
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    self.http2(Lingering::new(stream)).await;
                } else {
                    self.http1(Lingering::new(stream)).await;
                }
            }
            Ok(Err(error)) => self.failed("TLS handshake", &error),
            Err(_) => self.failed("TLS handshake", &"no answer in 10 s"),
        }
    }

    async fn http1<S: super::lingering::Stream>(self, stream: Lingering<S>) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_header_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), self.service.clone());
        if let Err(error) = self.watcher.watch(connection).await {
            debug!(peer = %self.peer, %error, "connection ended");
        }
    }

    async fn http2<S: super::lingering::Stream>(self, stream: Lingering<S>) {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX))
            .keep_alive_interval(Duration::from_secs(30))
            .serve_connection(TokioIo::new(stream), self.service.clone());
        if let Err(error) = self.watcher.watch(connection).await {
            debug!(peer = %self.peer, %error, "connection ended");
        }
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) {
        self.metrics.handshakes_failed.inc();
        debug!(peer = %self.peer, %error, "{what} failed");
    }
}
