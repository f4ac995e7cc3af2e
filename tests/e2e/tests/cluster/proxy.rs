//! An ingress as clusters have them, by `HAProxy`: it leads by the host that is asked for and by nothing else, REST and gRPC on one port.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// What it says of a host that it has no route for.
pub(crate) const NO_ROUTE: &str = "no route for this host";

/// Listens until it is dropped.
pub(crate) struct Proxy {
    process: Child,
    _folder: TempDir,
}

impl Proxy {
    /// Leads from `at` to a model server's Pod, whoever asks for `host`.
    pub(crate) fn open(at: &str, host: &str, pod: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("haproxy.cfg");
        fs::write(
            &file,
            format!(
                r#"
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend way
  bind {at}
  http-request return status 404 content-type text/plain string "{NO_ROUTE}" unless {{ hdr(host),field(1,:) -i {host} }}
  use_backend grpc if {{ hdr(content-type) -m beg application/grpc }}
  default_backend rest
backend rest
  server pod {pod}:8080
backend grpc
  server pod {pod}:9000 proto h2
"#
            ),
        )?;
        let process = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .context("haproxy can't be started")?;
        let mut proxy = Self {
            process,
            _folder: folder,
        };
        let limit = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(at).is_err() {
            let ended = proxy.process.try_wait()?;
            ensure!(
                ended.is_none() && Instant::now() < limit,
                "haproxy does not listen on {at}: {ended:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It is a test's end: whoever is gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
