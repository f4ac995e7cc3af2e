//! The built-in policy `architecture`: what a file for another machine does without it, in the loader's own words, and what is said with it. And where a Pod
//! goes in a cluster with two kinds of machines.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::extend_catalogue;
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::{Mlserver1_7_1, Sklearnserver0_20};
use tidewaiter_ground::{Cluster, HOST, MINIO_PORT, MINIO_USER, Namespace};

use crate::serving::answers;
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_image_for_another_machine_does_not_start_without_tidewaiter_and_is_refused_with_it",
        false,
        an_image_for_another_machine_does_not_start_without_tidewaiter_and_is_refused_with_it,
    ),
    (
        "a_library_for_another_machine_is_told_of",
        true,
        a_library_for_another_machine_is_told_of,
    ),
    (
        "a_pod_goes_to_a_machine_that_its_image_is_not_for_without_tidewaiter_and_answers_with_it",
        true,
        a_pod_goes_to_a_machine_that_its_image_is_not_for_without_tidewaiter_and_answers_with_it,
    ),
];

/// The label of nodes.
const ARCH: &str = "kubernetes.io/arch";
/// The node of the other machine, and the label and taint of its pool.
const OTHER: &str = "other-machine";
const CHEAP: &str = "tidewaiter-e2e/cheap";

/// What the nodes of this cluster are not.
pub(crate) fn other_machine() -> (&'static str, u16) {
    if cfg!(target_arch = "x86_64") {
        ("arm64", 183)
    } else {
        ("amd64", 62)
    }
}

/// A file that begins as ELF says (`man 5 elf`), little-endian and of 64 bits: a program for 2, a library for 3.
fn elf_of_the_other_machine(kind: u16) -> Vec<u8> {
    let (_, machine) = other_machine();
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(kind.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.resize(4096, 0);
    file
}

/// Gives the node an image with a program of which the kernel reads no more before it says no.
pub(crate) fn load_program_of_the_other_machine(cluster: &Cluster, image: &str) -> Result<()> {
    let folder = tempfile::tempdir_in(cluster.folder())?;
    let program = folder.path().join("program");
    fs::write(&program, elf_of_the_other_machine(2))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    cluster.load_program(image, &program, None)
}

/// One of these tests at a time: what the nodes are counts for all namespaces.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static MACHINES: Mutex<()> = Mutex::new(());
    MACHINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node of the other machine, of which the API server alone knows: no kubelet is behind it, and nothing goes there that doesn't say that it may. As long as
/// it is there, the policy looks at one namespace alone, and fills nothing in elsewhere. Gone when dropped, the node first.
struct OtherMachine<'a> {
    _node: Custom<'a>,
    _policy: Custom<'a>,
}

impl<'a> OtherMachine<'a> {
    fn join(world: &'a World, namespace: &Namespace) -> Result<Self> {
        let limited = json!({
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": "architecture"},
            "spec": {"module": {"builtin": "architecture"}, "match": {"namespaces": [namespace.name()]}},
        });
        let policy = Custom::apply(&world.cluster, &limited)?;
        policy.until("Loaded", "True")?;
        let labels = json!({ARCH: other_machine().0, "kubernetes.io/os": "linux", CHEAP: "true"});
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": OTHER, "labels": labels},
            "spec": {"taints": [{"key": CHEAP, "value": "true", "effect": "NoSchedule"}]},
        });
        let node = Custom::apply(&world.cluster, &node)?;
        let room = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
        let status = json!({"status": {"capacity": room, "allocatable": room}}).to_string();
        world.cluster.kubectl(&[
            "patch",
            "node",
            OTHER,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ])?;
        Ok(Self {
            _node: node,
            _policy: policy,
        })
    }
}

fn an_image_for_another_machine_does_not_start_without_tidewaiter_and_is_refused_with_it(world: &World) -> Result<()> {
    let _alone = alone();
    let namespace = world.namespace("other-machine")?;
    let (other, _) = other_machine();
    let repositories = json!([{
        "name": "registry.example/other-machine",
        "source": "tests/e2e/tests/cluster/architecture.rs",
        "releases": [{"tags": ["1"], "architectures": [other]}],
    }]);
    extend_catalogue(&world.cluster, "other-machine", &repositories)?;
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
    load_program_of_the_other_machine(&world.cluster, "registry.example/other-machine:1")?;
    let without = world.namespace_without("other-machine-without")?;
    without.apply(&service(json!({})).to_string())?;
    world
        .cluster
        .until("the kernel refuses the program", Duration::from_mins(2), || {
            let pods = without.pods("own")?;
            let pod = pods.first().context("no Pod yet")?;
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let log = without.kubectl(&["logs", name, "-c", "kserve-container"]);
            let told = format!("{log:?} {}", pod["status"]);
            ensure!(told.contains("exec format error"), "{told}");
            Ok(Some(()))
        })?;
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
    let _alone = alone();
    let (other, _) = other_machine();
    let library = elf_of_the_other_machine(3);
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
    let line = format!("code/libscore.so in the model is built for {other}");
    // The test before this one may have limited the policy until a moment ago.
    world.cluster.until("it is told of", Duration::from_mins(1), || {
        let said = namespace.try_apply(&["--server-side", "--dry-run=server"], &service.to_string())?;
        let mut warnings = said.warnings().into_iter();
        ensure!(warnings.any(|warning| warning.contains(&line)), "{}", said.stderr);
        Ok(Some(()))
    })?;
    namespace.apply(&service.to_string())?;
    // It is only a warning, and it comes true.
    world.cluster.until("the server ends", Duration::from_mins(4), || {
        let pods = namespace.pods("native")?;
        let pod = pods.first().context("no Pod yet")?;
        let logs = world.cluster.logs(pod, "kserve-container")?.concat();
        ensure!(logs.contains("OSError") && logs.contains("libscore.so"), "{logs}");
        Ok(Some(()))
    })
}

/// As where nodes of another machine cost less: a service may go there, and would rather.
fn a_pod_goes_to_a_machine_that_its_image_is_not_for_without_tidewaiter_and_answers_with_it(
    world: &World,
) -> Result<()> {
    let _alone = alone();
    let (model, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let service = json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud"},
        "spec": {"predictor": {
            "model": {"modelFormat": {"name": "mlflow"}, "protocolVersion": "v2", "storageUri": uri},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "preference": {"matchExpressions": [{"key": CHEAP, "operator": "Exists"}]}},
            ]}},
        }},
    });
    let without = world.namespace_without("machines-without")?;
    let with = world.namespace("machines")?;
    let _machine = OtherMachine::join(world, &with)?;
    let chosen = |namespace: &Namespace| {
        world
            .cluster
            .until("a Pod is given a node", Duration::from_mins(2), || {
                let pods = namespace.pods("fraud")?;
                let pod = pods.first().context("no Pod yet")?;
                Ok(pod["spec"]["nodeName"].as_str().map(str::to_owned))
            })
    };

    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::with_keys(&service, &endpoint, MINIO_USER, MINIO_USER))?;
    let node = chosen(&without)?;
    ensure!(node == OTHER, "its node is {node}");

    // The catalogue's word, which the machine under this test has to be as well.
    let filled =
        r#"tidewaiter: spec.predictor.nodeSelector.kubernetes.io/arch = "amd64": its image is built for no other"#;
    world.cluster.until("the node is known", Duration::from_mins(1), || {
        let said = with.try_apply(&["--server-side", "--dry-run=server"], &service.to_string())?;
        ensure!(said.ok && said.warnings().contains(&filled), "{}", said.stderr);
        Ok(Some(()))
    })?;
    let said = with.apply(&service.to_string())?;
    ensure!(said.warnings().contains(&filled), "{}", said.stderr);
    let selector = with.get("isvc/fraud")?["spec"]["predictor"]["nodeSelector"].clone();
    ensure!(selector == json!({ARCH: "amd64"}), "nodeSelector {selector}");
    let node = chosen(&with)?;
    ensure!(node != OTHER, "its node is {node}");
    answers(world, &with, "fraud", &model)
}
