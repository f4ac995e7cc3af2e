//! Load as kube-apiserver makes it: HTTP/1.1 with keep-alive over TLS, one request at a time on each connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// How many connections an API server of a busy cluster keeps open.
pub(crate) const CONNECTIONS: usize = 16;

/// What one round of load saw.
pub(crate) struct Round {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Half of the requests were answered within this time.
    pub(crate) p50: Duration,
    /// 99 of 100 were.
    pub(crate) p99: Duration,
}

/// Where to send what.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Target {
    /// Opens one connection.
    pub(crate) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let socket = TlsConnector::from(self.tls.clone()).connect(name, socket).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn post(&self, sender: &mut SendRequest<Full<Bytes>>, body: &Bytes) -> Result<Bytes> {
        let request = Request::post(self.path).header("content-type", "application/json");
        self.send(sender, request, body.clone()).await
    }

    /// The same without a body.
    pub(crate) async fn get(&self, sender: &mut SendRequest<Full<Bytes>>) -> Result<Bytes> {
        self.send(sender, Request::get(self.path), Bytes::new()).await
    }

    async fn send(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Bytes> {
        sender.ready().await?;
        let request = request.header("host", "localhost").body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "answered {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(answer)
    }
}

/// Sends `body` over and over on all connections for as long as `lasting`.
pub(crate) async fn round(target: &Target, body: &Bytes, lasting: Duration) -> Result<Round> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(target.connect().await.context("cannot connect")?);
    }
    let start = Instant::now();
    let end = start + lasting;
    let mut running = JoinSet::new();
    for mut connection in connections {
        let (target, body) = (target.clone(), body.clone());
        running.spawn(async move {
            let mut took = Vec::with_capacity(1 << 16);
            while Instant::now() < end {
                let sent = Instant::now();
                target.post(&mut connection, &body).await?;
                took.push(sent.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(connection) = running.join_next().await {
        took.extend(connection??);
    }
    let elapsed = start.elapsed();
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    ensure!(!took.is_empty(), "no request was answered in {lasting:?}");
    #[allow(clippy::cast_precision_loss, reason = "a count of requests")]
    let rate = took.len() as f64 / elapsed.as_secs_f64();
    Ok(Round {
        rate,
        p50: at(50),
        p99: at(99),
    })
}
