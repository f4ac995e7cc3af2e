//! `kubectl apply` through the real API server, in a namespace that Tidewaiter reviews and in one that it doesn't. KServe's own webhooks are in both.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidewaiter_e2e::install::install_from;
use tidewaiter_e2e::server::{NOBODY, REVIEWED_BY};
use tidewaiter_ground::tools::Kserve;
use tidewaiter_ground::{Namespace, Options};
use tidewaiter_store::{ACCESS_KEY, FRAUD, SECRET_KEY, Store};

use crate::on_ground;

/// No Pod has to run for an object to be admitted.
const GROUND: Options = Options {
    node: false,
    kserve: Kserve::V0_20,
};
const WARM_UP: usize = 5;
const PAIRS: usize = 50;
/// Between two: KServe's controller does its work for the one before.
const SETTLE: Duration = Duration::from_millis(150);

/// One service each, turn by turn.
#[derive(Serialize, Deserialize)]
pub(crate) struct Apply {
    pub(crate) without: Vec<Duration>,
    pub(crate) with: Vec<Duration>,
}

/// Brings a cluster up and measures in it.
///
/// # Errors
/// Why there is no cluster here, or what went wrong in it.
pub(crate) fn measure() -> Result<Apply> {
    on_ground::measure("apply", GROUND)
}

/// The part inside of the cluster's namespaces.
pub(crate) fn inside(figures: &Path) -> Result<()> {
    on_ground::tell(figures, on_a_cluster())
}

fn on_a_cluster() -> Result<Apply> {
    let cluster = on_ground::cluster(GROUND)?;
    let runtime = crate::runtime()?;
    let store = runtime.block_on(Store::start())?;
    store.put("bench/fraud", FRAUD)?;
    let own = std::env::current_exe()?;
    let _tidewaiter = install_from(&cluster, || {
        let mut command = Command::new(&own);
        command.arg("webhook");
        command
    })?;
    let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], &backend(&store.endpoint))?;
    ensure!(said.ok, "{}", said.stderr);
    let reviewed = cluster.namespace("reviewed")?;
    let alone = cluster.namespace_with("alone", &json!({REVIEWED_BY: NOBODY}))?;
    cluster.until(
        "the webhook knows the benchmark's store",
        Duration::from_secs(30),
        || {
            let said = reviewed.try_apply(&["--dry-run=server"], &service("first", ""))?;
            Ok(said.stderr.contains(SECRET).then_some(()))
        },
    )?;

    let mut apply = Apply {
        without: Vec::new(),
        with: Vec::new(),
    };
    for pair in 0..WARM_UP + PAIRS {
        let name = format!("fraud-{pair}");
        // The same service is stored in both, so that what follows it is the same work.
        let mut turns = [
            (&alone, service(&name, BY_HAND), &mut apply.without),
            (&reviewed, service(&name, ""), &mut apply.with),
        ];
        if pair % 2 == 1 {
            turns.reverse();
        }
        for (namespace, manifest, times) in turns {
            let took = timed(namespace, &manifest, namespace.name() == reviewed.name())?;
            if pair >= WARM_UP {
                times.push(took);
            }
            sleep(SETTLE);
        }
    }
    Ok(apply)
}

fn timed(namespace: &Namespace, manifest: &str, reviewed: bool) -> Result<Duration> {
    let start = Instant::now();
    let said = namespace.try_apply(&[], manifest)?;
    let took = start.elapsed();
    ensure!(said.ok, "{}", said.stderr);
    ensure!(
        said.stderr.contains("tidewaiter: ") == reviewed,
        "the webhook was called in the wrong namespace, or not in the right one: {}",
        said.stderr
    );
    Ok(took)
}

/// The name that the Secret with the store's keys has in a namespace.
const SECRET: &str = "tidewaiter-bench";
/// What Tidewaiter fills in for this model.
const BY_HAND: &str = "protocolVersion: v2";

fn service(name: &str, protocol: &str) -> String {
    let annotations = if protocol.is_empty() {
        String::new()
    } else {
        format!("annotations: {{serving.kserve.io/storageSecretName: {SECRET}}}")
    };
    format!(
        "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  {annotations}
spec:
  predictor:
    model:
      modelFormat: {{name: mlflow}}
      storageUri: s3://bench/fraud
      {protocol}
"
    )
}

fn backend(endpoint: &str) -> String {
    format!(
        "\
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {{name: bench}}
spec:
  type: s3
  serves: [\"s3://bench/\"]
  s3: {{endpoint: \"{endpoint}\", region: us-east-1}}
  credentials: {{secretRef: {{namespace: tidewaiter-system, name: bench}}}}
---
apiVersion: v1
kind: Secret
metadata: {{namespace: tidewaiter-system, name: bench}}
stringData: {{AWS_ACCESS_KEY_ID: {ACCESS_KEY}, AWS_SECRET_ACCESS_KEY: {SECRET_KEY}}}
"
    )
}
