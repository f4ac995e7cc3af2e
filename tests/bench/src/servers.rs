//! The webhook as a process, beside the echo: start, throughput, latency, memory.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::fixture::Fixture;
use crate::load::{Round, Target, round};

/// Pairs of rounds, and how long each round lasts.
pub(crate) const ROUNDS: usize = 7;
pub(crate) const LASTING: Duration = Duration::from_secs(2);
const STARTS: usize = 5;
const PATIENCE: Duration = Duration::from_mins(1);

/// From `exec` to the first `/readyz` that says yes.
pub(crate) struct Starts {
    pub(crate) cold: Duration,
    pub(crate) warm: Duration,
}

/// The echo and the webhook, turn by turn.
pub(crate) struct Reviews {
    pub(crate) echo: Vec<Round>,
    pub(crate) webhook: Vec<Round>,
    /// The webhook's resident memory under load, in MiB.
    pub(crate) rss_mib: f64,
}

/// A server that ends with this value.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn spawn(arguments: impl FnOnce(u16) -> Vec<String>) -> Result<Self> {
        // The port is free now; that nobody takes it before the server does is all but certain on a loopback of our own.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments(address.port())).stdin(Stdio::null());
        let child = command.spawn().context("cannot start a server")?;
        Ok(Self { child, address })
    }

    pub(crate) fn webhook(fixture: &Fixture) -> Result<Self> {
        Self::spawn(|port| {
            let path = |path: std::path::PathBuf| path.display().to_string();
            [
                "webhook".to_owned(),
                format!("--config={}", path(fixture.config())),
                format!("--listen=127.0.0.1:{port}"),
                format!("--tls-cert={}", path(fixture.certificate())),
                format!("--tls-key={}", path(fixture.key())),
                format!("--cache-dir={}", path(fixture.cache())),
                "--log=warn".to_owned(),
            ]
            .into()
        })
    }

    fn echo(fixture: &Fixture) -> Result<Self> {
        Self::spawn(|port| {
            let (certificate, key) = (fixture.certificate(), fixture.key());
            [
                "echo".to_owned(),
                port.to_string(),
                certificate.display().to_string(),
                key.display().to_string(),
            ]
            .into()
        })
    }

    pub(crate) fn target(&self, fixture: &Fixture) -> Target {
        Target {
            address: self.address,
            path: "/mutate",
            tls: fixture.client.clone(),
        }
    }

    async fn listening(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).await.is_err() {
            ensure!(Instant::now() < end, "the server at {} does not listen", self.address);
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Waits until a review is answered. A server that listens but is not ready answers with an error.
    pub(crate) async fn answering(&self, fixture: &Fixture) -> Result<()> {
        let target = Target {
            path: "/readyz",
            ..self.target(fixture)
        };
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut connection) = target.connect().await
                && target.get(&mut connection).await.is_ok()
            {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "the server at {} does not get ready",
                self.address
            );
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Resident memory.
    pub(crate) fn rss_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let figure = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let figure = figure.context("no VmRSS")?;
        let kib: f64 = figure.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) async fn starts(fixture: &Fixture) -> Result<Starts> {
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        if fixture.cache().exists() {
            fs::remove_dir_all(fixture.cache())?;
        }
        for took in [&mut cold, &mut warm] {
            let start = Instant::now();
            let server = Server::webhook(fixture)?;
            server.answering(fixture).await?;
            took.push(start.elapsed());
        }
    }
    Ok(Starts {
        cold: median(cold),
        warm: median(warm),
    })
}

pub(crate) async fn reviews(fixture: &Fixture) -> Result<Reviews> {
    let (echo, webhook) = (Server::echo(fixture)?, Server::webhook(fixture)?);
    echo.listening().await?;
    webhook.answering(fixture).await?;
    let targets = (echo.target(fixture), webhook.target(fixture));
    let answer = one(&targets.1, &fixture.review).await?;
    let text = String::from_utf8_lossy(&answer);
    ensure!(
        text.contains("\"allowed\":true") && text.contains("\"patch\""),
        "the webhook did not do its work: {text}"
    );

    let mut reviews = Reviews {
        echo: Vec::new(),
        webhook: Vec::new(),
        rss_mib: 0.0,
    };
    for _ in 0..ROUNDS {
        reviews.echo.push(round(&targets.0, &fixture.review, LASTING).await?);
        reviews.webhook.push(round(&targets.1, &fixture.review, LASTING).await?);
    }
    reviews.rss_mib = webhook.rss_mib()?;
    Ok(reviews)
}

async fn one(target: &Target, body: &Bytes) -> Result<Bytes> {
    let mut connection = target.connect().await?;
    target.post(&mut connection, body).await
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}
