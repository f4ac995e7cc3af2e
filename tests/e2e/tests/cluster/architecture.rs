//! The built-in policy `architecture`: what a file for another machine does without it, in the loader's own words, and what is said with it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::install::NAMESPACE;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::Sklearnserver0_20;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_image_for_another_machine_is_refused",
        false,
        an_image_for_another_machine_is_refused,
    ),
    (
        "a_library_for_another_machine_is_told_of",
        true,
        a_library_for_another_machine_is_told_of,
    ),
];

/// What the nodes of this cluster are not.
fn other_machine() -> (&'static str, u16) {
    if cfg!(target_arch = "x86_64") {
        ("arm64", 183)
    } else {
        ("amd64", 62)
    }
}

fn an_image_for_another_machine_is_refused(world: &World) -> Result<()> {
    let namespace = world.namespace("other-machine")?;
    let (other, _) = other_machine();
    let catalogue = json!({
        "schema": 1,
        "repositories": [{
            "name": "registry.example/other-machine",
            "source": "tests/e2e/tests/cluster/architecture.rs",
            "releases": [{"tags": ["1"], "architectures": [other]}],
        }],
    });
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": "other-machine", "labels": {"tidewaiter.dev/catalogue": "extend"}},
        "data": {"catalogue.yaml": catalogue.to_string()},
    });
    let said = world
        .cluster
        .try_kubectl(&["apply", "--server-side", "-f", "-"], &map.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    let service = |selector: Value| {
        json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "own"},
            "spec": {"predictor": {
                "containers": [{"name": "kserve-container", "image": "registry.example/other-machine:1"}],
                "nodeSelector": selector,
            }},
        })
    };
    let nodes: Value = serde_json::from_str(&world.cluster.kubectl(&["get", "nodes", "-o", "json"])?)?;
    if nodes["items"].as_array().is_none_or(Vec::is_empty) {
        // Nothing is known of a cluster without nodes, and so nothing is said.
        let answer = world
            .cluster
            .api()?
            .would_create(namespace.name(), &service(json!({})))?;
        ensure!(answer.admitted(), "{}", answer.message());
        return Ok(());
    }
    let api = world.cluster.api()?;
    world
        .cluster
        .until("the catalogue is in use", Duration::from_mins(1), || {
            let answer = api.would_create(namespace.name(), &service(json!({})))?;
            ensure!(!answer.admitted(), "admitted: {}", answer.body);
            let says =
                format!("image registry.example/other-machine:1 is built for {other}, and this cluster's nodes are ");
            ensure!(answer.message().contains(&says), "{}", answer.message());
            Ok(Some(()))
        })?;
    let waits = api.would_create(namespace.name(), &service(json!({"kubernetes.io/arch": other})))?;
    ensure!(waits.admitted(), "{}", waits.message());
    ensure!(
        waits
            .warnings
            .iter()
            .any(|line| line.contains(&format!("waits for a node of {other}"))),
        "{:?}",
        waits.warnings
    );
    Ok(())
}

fn a_library_for_another_machine_is_told_of(world: &World) -> Result<()> {
    let (other, machine) = other_machine();
    let mut library = b"\x7fELF\x02\x01\x01".to_vec();
    library.resize(16, 0);
    library.extend(3_u16.to_le_bytes());
    library.extend(machine.to_le_bytes());
    library.extend(1_u32.to_le_bytes());
    library.resize(4096, 0);
    let mut model = Model::make(world.cluster.cache(), "plain_sklearn", Sklearnserver0_20)?;
    let folder = world.cluster.folder().join("native-model");
    fs::create_dir_all(folder.join("code"))?;
    fs::write(folder.join("code/libscore.so"), library)?;
    model.folder = folder;
    let uri = model.put(world.cluster.cache(), "mlflow", "shared/native")?;

    let service = json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "native"},
        "spec": {"predictor": {"containers": [{
            "name": "kserve-container",
            "image": "docker.io/kserve/sklearnserver:v0.20.0",
            "command": ["/usr/bin/python3", "-c", "import ctypes; ctypes.CDLL('/mnt/models/code/libscore.so')"],
            "env": [{"name": "STORAGE_URI", "value": uri}],
        }]}},
    });
    let namespace = world.namespace("native")?;
    let said = namespace.apply(&service.to_string())?;
    let line = format!("code/libscore.so in the model is built for {other}");
    ensure!(
        said.warnings().iter().any(|warning| warning.contains(&line)),
        "{}",
        said.stderr
    );
    // It is only a warning, and it comes true.
    world.cluster.until("the server ends", Duration::from_mins(4), || {
        let pods = namespace.pods("native")?;
        let pod = pods.first().context("no Pod yet")?;
        let logs = world.cluster.logs(pod, "kserve-container")?.concat();
        ensure!(logs.contains("OSError") && logs.contains("libscore.so"), "{logs}");
        Ok(Some(()))
    })
}
