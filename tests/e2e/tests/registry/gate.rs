//! The server with a folder as its configuration, asked as the API server asks.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::tls::{self, from_base64};

use crate::{SEEN, STARTS, World, free_address};

/// A line for each review would leave no room for the others in the end of the log.
const QUIET: &str = "info,tidewaiter_webhook::admission=error,tidewaiter_engine::host=error";

/// A server at work.
pub(crate) struct Gate<'w> {
    world: &'w World,
    processes: Processes,
    folder: TempDir,
    address: String,
    client: Client,
}

/// What it answers.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// Of a refusal; of an admission its warnings and its patch.
    pub(crate) said: String,
}

impl<'w> Gate<'w> {
    /// Starts it with this configuration. `modules` is what `--modules` reads.
    pub(crate) fn start(world: &'w World, configuration: &str, modules: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let pair = tls::pair(&["127.0.0.1"])?;
        fs::create_dir(path.join("config"))?;
        fs::write(path.join("config/config.yaml"), configuration)?;
        fs::write(path.join("modules.yaml"), modules)?;
        fs::write(path.join("tls.crt"), &pair.certificate)?;
        fs::write(path.join("tls.key"), &pair.key)?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(pair.certificate.as_bytes())?])
            .timeout(Duration::from_secs(20))
            .build()?;
        let gate = Self {
            world,
            processes: Processes::new(path)?,
            address: free_address()?,
            folder,
            client,
        };
        gate.run()?;
        Ok(gate)
    }

    /// Runs it, until it is ready.
    pub(crate) fn run(&self) -> Result<()> {
        let path = self.folder.path();
        self.processes.start(
            "webhook",
            Command::new(&self.world.webhook)
                .arg("--config")
                .arg(path.join("config"))
                .arg("--modules")
                .arg(path.join("modules.yaml"))
                .arg("--cache-dir")
                .arg(path.join("cache"))
                .arg("--tls-cert")
                .arg(path.join("tls.crt"))
                .arg("--tls-key")
                .arg(path.join("tls.key"))
                .args(["--listen", &self.address, "--log-format", "text", "--drain", "0s"])
                .args(["--log", QUIET]),
        )?;
        let ready = || self.get("/readyz").is_ok_and(|(status, _)| status == 200);
        self.processes.wait("a server that is ready", STARTS, ready)
    }

    pub(crate) fn stop(&self) -> Result<()> {
        self.processes.stop("webhook")
    }

    pub(crate) fn restart(&self) -> Result<()> {
        self.stop()?;
        self.run()
    }

    /// What `--modules` reads is read at the start.
    pub(crate) fn restart_with(&self, modules: &str) -> Result<()> {
        fs::write(self.folder.path().join("modules.yaml"), modules)?;
        self.restart()
    }

    pub(crate) fn configure(&self, configuration: &str) -> Result<()> {
        Ok(fs::write(self.folder.path().join("config/config.yaml"), configuration)?)
    }

    pub(crate) fn log(&self) -> String {
        self.processes.last_lines("webhook", 60)
    }

    fn get(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("https://{}{path}", self.address);
        self.world.runtime.block_on(async {
            let response = self.client.get(url).send().await?;
            Ok((response.status().as_u16(), response.text().await?))
        })
    }

    /// What it answers to a new service.
    pub(crate) fn review(&self) -> Result<Verdict> {
        let service = json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "fraud", "namespace": "team-a"},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://nobody/model"}}},
        });
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1",
                "kind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": "InferenceService"},
                "resource": {"group": "serving.kserve.io", "version": "v1beta1", "resource": "inferenceservices"},
                "name": "fraud", "namespace": "team-a", "operation": "CREATE",
                "userInfo": {"username": "ann"}, "object": service, "dryRun": true,
            },
        });
        let url = format!("https://{}/mutate", self.address);
        let answer: Value = self.world.runtime.block_on(async {
            let request = self.client.post(url).header("content-type", "application/json");
            let text = request.body(review.to_string()).send().await?.text().await?;
            anyhow::Ok(serde_json::from_str(&text)?)
        })?;
        let response = &answer["response"];
        let patch = response["patch"]
            .as_str()
            .map(from_base64)
            .transpose()?
            .unwrap_or_default();
        let said = match response["status"]["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("{} {}", response["warnings"], String::from_utf8_lossy(&patch)),
        };
        Ok(Verdict {
            allowed: response["allowed"] == true,
            said,
        })
    }

    /// Waits until what it answers fits.
    pub(crate) fn until(&self, what: &str, limit: Duration, fits: impl Fn(&Verdict) -> bool) -> Result<Verdict> {
        let start = Instant::now();
        loop {
            let verdict = self.review()?;
            if fits(&verdict) {
                return Ok(verdict);
            }
            ensure!(
                start.elapsed() < limit,
                "{what} did not happen; it answers {verdict:?}; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Two clients ask, one review after the other, while `work` goes on, and each answer has to fit. `work` is given what waits until so many more were answered.
    pub(crate) fn hammer<T>(
        &self,
        fits: impl Fn(&Verdict) -> bool + Sync,
        work: impl FnOnce(&dyn Fn(usize) -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        let (stop, failed, answered) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        let ask = || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let verdict = self.review()?;
                ensure!(fits(&verdict), "it answers {verdict:?}; its log:\n{}", self.log());
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let client = || ask().inspect_err(|_| failed.store(true, Ordering::Relaxed));
        let go_on = |more: usize| -> Result<()> {
            let target = answered.load(Ordering::Relaxed) + more;
            let more_came = || answered.load(Ordering::Relaxed) >= target || failed.load(Ordering::Relaxed);
            self.processes.wait("reviews that are answered", SEEN, more_came)
        };
        std::thread::scope(|scope| {
            let clients = [scope.spawn(client), scope.spawn(client)];
            let done = work(&go_on);
            stop.store(true, Ordering::Relaxed);
            for client in clients {
                client
                    .join()
                    .map_err(|_| anyhow!("a client panicked"))?
                    .context("a review meanwhile")?;
            }
            done
        })
    }

    /// Waits until its log says this.
    pub(crate) fn until_it_says(&self, words: &str, limit: Duration) -> Result<()> {
        self.processes
            .wait(words, limit, || self.log().contains(words))
            .with_context(|| self.log())
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("a server may still run: {error:#}");
        }
    }
}
