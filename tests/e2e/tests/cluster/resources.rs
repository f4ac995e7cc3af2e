//! Resources that Kubernetes refuses once KServe asks for them, and those that don't fit the model or the cluster.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::{Mlserver1_7_1, Sklearnserver0_20};
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER, statuses};

use crate::serving_protocol::{kserve_says, refused};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_request_above_its_limit_starts_no_pod_without_tidewaiter_and_is_refused_with_it",
        false,
        a_request_above_its_limit_starts_no_pod_without_tidewaiter_and_is_refused_with_it,
    ),
    (
        "a_second_container_for_the_server_is_refused_with_what_to_do",
        false,
        a_second_container_for_the_server_is_refused_with_what_to_do,
    ),
    (
        "a_model_that_does_not_fit_is_warned_of",
        false,
        a_model_that_does_not_fit_is_warned_of,
    ),
    (
        "a_model_larger_than_the_memory_is_killed_without_tidewaiter_and_told_of_with_it",
        true,
        a_model_larger_than_the_memory_is_killed_without_tidewaiter_and_told_of_with_it,
    ),
    (
        "a_model_larger_than_the_disk_is_evicted_without_tidewaiter_and_told_of_with_it",
        true,
        a_model_larger_than_the_disk_is_evicted_without_tidewaiter_and_told_of_with_it,
    ),
    (
        "a_model_that_kserves_initializer_has_no_memory_for_is_told_of_with_the_object_that_limits_it",
        false,
        a_model_that_kserves_initializer_has_no_memory_for_is_told_of_with_the_object_that_limits_it,
    ),
    (
        "a_gpu_that_no_server_uses_keeps_a_pod_waiting_without_tidewaiter_and_is_told_of_with_it",
        true,
        a_gpu_that_no_server_uses_keeps_a_pod_waiting_without_tidewaiter_and_is_told_of_with_it,
    ),
];

/// A server that holds its model in memory, and answers. Without a model it takes some 20 MiB.
const HOLDS: &str = "import http.server
model = open('/mnt/models/model.bin', 'rb').read()
http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()
";

fn service(uri: &str, resources: &Value) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud"},
        "spec": {"predictor": {"model": {
            "modelFormat": {"name": "mlflow"},
            "protocolVersion": "v2",
            "storageUri": uri,
            "resources": resources,
        }}},
    })
}

fn a_request_above_its_limit_starts_no_pod_without_tidewaiter_and_is_refused_with_it(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let object = service(
        &uri,
        &json!({"requests": {"memory": "8Gi"}, "limits": {"memory": "4Gi"}}),
    );
    let without = world.namespace_without("request-without")?;
    kserve_says(world, &without, &object, "must be less than or equal to memory limit")?;
    ensure!(without.pods("fraud")?.is_empty(), "there are Pods");

    let with = world.namespace("request")?;
    refused(
        &with,
        &object,
        &["asks for memory 8Gi and may use 4Gi", "Set limits.memory to 8Gi"],
    )
}

fn a_second_container_for_the_server_is_refused_with_what_to_do(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let mut object = service(&uri, &json!({}));
    object["spec"]["predictor"]["containers"] =
        json!([{"name": "kserve-container", "image": "example.com/x:1", "resources": {"limits": {"memory": "4Gi"}}}]);
    let without = world.namespace_without("twice-without")?;
    let said = without.try_apply(&["--server-side"], &object.to_string())?;
    ensure!(!said.ok && said.stderr.contains("xactly one of"), "{}", said.stderr);

    let with = world.namespace("twice")?;
    refused(
        &with,
        &object,
        &["KServe takes for a second server", "in /spec/predictor/model"],
    )
}

fn a_model_that_does_not_fit_is_warned_of(world: &World) -> Result<()> {
    let (_, uri) = world.model("fraud", Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("fits")?;
    let small = json!({"requests": {"memory": "1Ki"}, "limits": {"memory": "1Ki", "ephemeral-storage": "1Ki"}});
    // The policy is silent where the store has not said in time how large the model is.
    world.cluster.until("both are warned of", Duration::from_mins(1), || {
        let said = namespace.try_apply(
            &["--server-side", "--dry-run=server"],
            &service(&uri, &small).to_string(),
        )?;
        for words in [
            "may use 1Ki of memory; raise limits.memory",
            "may use 1Ki of disk; raise limits.ephemeral-storage",
        ] {
            ensure!(said.stderr.contains(words), "no `{words}` in {}", said.stderr);
        }
        Ok(Some(()))
    })?;
    let fine = json!({"limits": {"memory": "2Gi"}});
    let said = namespace.apply(&service(&uri, &fine).to_string())?;
    ensure!(!said.stderr.contains("may use"), "{}", said.stderr);
    Ok(())
}

/// A model of 96 MiB, for one test alone.
fn large(world: &World, name: &str) -> Result<String> {
    let folder = world.cluster.folder().join(name);
    fs::create_dir_all(&folder)?;
    File::create(folder.join("model.bin"))?.set_len(96 << 20)?;
    let large = Model {
        folder,
        request: Value::Null,
        answers: Vec::new(),
    };
    large.put(world.cluster.cache(), "mlflow", &format!("shared/{name}"))
}

/// A server of its own that holds the model.
fn holding(uri: &str, limits: &Value) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud"},
        "spec": {"predictor": {"containers": [{
            "name": "kserve-container",
            "image": "docker.io/kserve/sklearnserver:v0.20.0",
            "command": ["/usr/bin/python3", "-c", HOLDS],
            "env": [{"name": "STORAGE_URI", "value": uri}],
            "resources": {"requests": {"cpu": "50m", "memory": "48Mi"}, "limits": limits},
        }]}},
    })
}

/// The kubelet measures volumes every minute or two, and evicts then.
fn a_model_larger_than_the_disk_is_evicted_without_tidewaiter_and_told_of_with_it(world: &World) -> Result<()> {
    let uri = large(world, "larger-than-disk")?;
    let own = |disk: &str| holding(&uri, &json!({"memory": "512Mi", "ephemeral-storage": disk}));
    let without = world.namespace_without("disk-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::with_keys(&own("64Mi"), &endpoint, MINIO_USER, MINIO_USER))?;
    let evicted = world.cluster.until("the Pod is evicted", Duration::from_mins(6), || {
        let pods = without.pods("fraud")?;
        let evicted = pods.iter().find(|pod| pod["status"]["reason"] == "Evicted");
        let said = pods.iter().map(|pod| pod["status"].to_string()).collect::<Vec<_>>();
        let evicted = evicted.with_context(|| format!("no Pod is evicted: {}", said.join("\n")))?;
        Ok(Some(evicted["status"]["message"].to_string()))
    });
    let evicted = evicted.with_context(|| without.diagnosis("fraud"))?;
    ensure!(
        evicted.contains("ephemeral local storage usage exceeds the total limit of containers 64Mi"),
        "evicted for another reason: {evicted}"
    );
    // Else the next Pod follows it, and the next.
    drop(without);

    let with = world.namespace("disk")?;
    let line = "predictor: the model has 96.0 MiB, and its Pod may use 64Mi of disk; raise limits.ephemeral-storage";
    // The policy is silent where the store has not said in time how large the model is.
    world.cluster.until("it is warned of", Duration::from_mins(1), || {
        let said = with.try_apply(&["--server-side", "--dry-run=server"], &own("64Mi").to_string())?;
        ensure!(said.ok && said.warnings().contains(&line), "{}", said.stderr);
        Ok(Some(()))
    })?;
    // The way out that it names is one.
    let said = with.apply(&own("1Gi").to_string())?;
    ensure!(!said.stderr.contains("may use"), "{}", said.stderr);
    with.ready("fraud")
}

fn a_model_larger_than_the_memory_is_killed_without_tidewaiter_and_told_of_with_it(world: &World) -> Result<()> {
    let uri = large(world, "larger-than-memory")?;
    let own = |memory: &str| holding(&uri, &json!({"memory": memory}));
    let without = world.namespace_without("memory-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::with_keys(&own("64Mi"), &endpoint, MINIO_USER, MINIO_USER))?;
    world
        .cluster
        .until("the server is killed", Duration::from_mins(3), || {
            let pods = without.pods("fraud")?;
            let pod = pods.first().context("no Pod yet")?;
            let ended = statuses(pod).flat_map(|container| {
                ["state", "lastState"].map(|state| {
                    (
                        container["name"].clone(),
                        container[state]["terminated"]["reason"].clone(),
                    )
                })
            });
            let mut ended = ended.filter(|(name, _)| name == "kserve-container");
            ensure!(ended.any(|(_, reason)| reason == "OOMKilled"), "{}", pod["status"]);
            Ok(Some(()))
        })?;

    let with = world.namespace("memory")?;
    let said = with.apply(&own("64Mi").to_string())?;
    let line = "predictor: the model has 96.0 MiB, and its server may use 64Mi of memory; raise limits.memory";
    ensure!(said.warnings().contains(&line), "{}", said.stderr);
    // The way out that it names is one.
    let said = with.apply(&own("512Mi").to_string())?;
    ensure!(!said.stderr.contains("may use"), "{}", said.stderr);
    with.ready("fraud")
}

/// A Hub whose every model is one file of 90 GB, at the address that comes back: the real one is in no test's network. Goes with the process.
fn hub() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    let listed = r#"[{"type":"file","path":"model.safetensors","size":90000000000}]"#;
    let answer = move |connection: std::net::TcpStream| -> std::io::Result<()> {
        let mut lines = BufReader::new(&connection).lines();
        let asked = lines.next().transpose()?.unwrap_or_default();
        // The rest of the head, up to the empty line.
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let (status, body) = if asked.contains("/tree/") {
            ("200 OK", listed)
        } else {
            ("404 Not Found", "")
        };
        let length = body.len();
        write!(
            &connection,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    };
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // Whoever goes before the answer came needs none.
            let _ = answer(connection);
        }
    });
    Ok(address)
}

/// KServe ships a `ClusterStorageContainer` for `hf://`, which counts before its configuration: to raise the limit there would change nothing.
fn a_model_that_kserves_initializer_has_no_memory_for_is_told_of_with_the_object_that_limits_it(
    world: &World,
) -> Result<()> {
    let namespace = world.namespace("hub")?;
    let name = namespace.name();
    let backend = json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "StorageBackend",
        "metadata": {"name": name},
        "spec": {"type": "huggingface", "serves": ["hf://house/"], "huggingface": {"endpoint": hub()?}, "credentials": {"anonymous": {}}},
    });
    let _backend = Custom::apply(&world.cluster, &backend)?;
    let object = service("hf://house/bert", &json!({"limits": {"memory": "640Gi"}}));
    let dry = ["--server-side", "--dry-run=server"];
    let line = "predictor: 83.8 GiB may be too much for KServe's storage initializer with 3Gi (kserve#5162)";
    world.cluster.until("the Hub is known", Duration::from_mins(1), || {
        let said = namespace.try_apply(&dry, &object.to_string())?;
        ensure!(said.ok && said.warnings().contains(&line), "{}", said.stderr);
        Ok(Some(()))
    })?;
    let strict = json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "WasmPolicy",
        "metadata": {"name": name},
        "spec": {"module": {"builtin": "resources"}, "match": {"namespaces": [name]}, "settings": {"initializer": "deny"}},
    });
    let policy = Custom::apply(&world.cluster, &strict)?;
    policy.until("Loaded", "True")?;
    world
        .cluster
        .until("the refusal says what to raise", Duration::from_mins(1), || {
            let said = namespace.try_apply(&dry, &object.to_string())?;
            let raise = "Ask the admin to raise limits.memory of spec.container in the ClusterStorageContainer default";
            ensure!(
                !said.ok && said.stderr.contains(raise),
                "{}{}",
                said.stdout,
                said.stderr
            );
            Ok(Some(()))
        })
}

fn a_gpu_that_no_server_uses_keeps_a_pod_waiting_without_tidewaiter_and_is_told_of_with_it(
    world: &World,
) -> Result<()> {
    let (_, uri) = world.model("plain_sklearn", Sklearnserver0_20, "mlflow")?;
    let service = json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "fraud"},
        "spec": {"predictor": {"model": {
            "modelFormat": {"name": "sklearn"},
            "storageUri": uri,
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        }}},
    });
    let without = world.namespace_without("gpu-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    without.apply(&manifests::with_keys(&service, &endpoint, MINIO_USER, MINIO_USER))?;
    world
        .cluster
        .until("the scheduler says why", Duration::from_mins(2), || {
            let pods = without.pods("fraud")?;
            let pod = pods.first().context("no Pod yet")?;
            ensure!(pod["status"]["phase"] == "Pending", "{}", pod["status"]);
            let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let scheduled = conditions.find(|condition| condition["type"] == "PodScheduled");
            let says = scheduled.context("not looked at yet")?["message"]
                .as_str()
                .unwrap_or_default();
            ensure!(says.contains("Insufficient nvidia.com/gpu"), "{}", pod["status"]);
            Ok(Some(()))
        })?;

    let with = world.namespace("gpu")?;
    let said = with.apply(&service.to_string())?;
    let line = "predictor: it asks for a GPU, which runtime kserve-sklearnserver doesn't use";
    ensure!(said.warnings().contains(&line), "{}", said.stderr);

    // The deployer's waits as well, and both start once the node says that it has some.
    let team = world.namespace_without("gpu-deployed")?;
    let asked = ["--framework=sklearn", "--gpus=1", "--no-wait"];
    crate::deploy::deploy(&team, Some(MINIO_USER), &uri, &asked)?.ended(0)?;
    let node = world.cluster.kubectl(&["get", "nodes", "-o", "name"])?;
    let has = json!({"nvidia.com/gpu": "3"});
    let status = json!({"status": {"capacity": has, "allocatable": has}}).to_string();
    let patch = [
        "patch",
        node.trim(),
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ];
    world.cluster.kubectl(&patch)?;
    without.ready("fraud")?;
    team.ready("fraud")?;
    let pods = team.pods("fraud")?;
    let limits = &pods.first().context("no Pod")?["spec"]["containers"][0]["resources"]["limits"];
    ensure!(limits["nvidia.com/gpu"] == "1", "{limits}");
    Ok(())
}
