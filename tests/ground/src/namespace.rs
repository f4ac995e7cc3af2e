//! One namespace of a cluster: where a test applies its objects, waits for them and asks the models.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Said};
use crate::host;
use crate::tools::Module;

/// A namespace. Deleted when dropped, without waiting.
#[derive(Debug)]
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

/// How long a model server may take on a busy machine of two cores.
const READY: Duration = Duration::from_mins(5);

impl Namespace {
    pub(crate) fn new(cluster: Cluster, name: String) -> Self {
        Self { cluster, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster around it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Server-side apply.
    ///
    /// # Errors
    /// With the API server's refusal.
    pub fn apply(&self, objects: &str) -> Result<Said> {
        let said = self.try_apply(&["--server-side"], objects)?;
        ensure!(said.ok, "{}", said.stderr.trim());
        Ok(said)
    }

    /// `kubectl apply` with more flags, whatever comes of it.
    pub fn try_apply(&self, flags: &[&str], objects: &str) -> Result<Said> {
        let mut arguments = vec!["apply", "-n", &self.name, "-f", "-"];
        arguments.extend(flags);
        self.cluster.try_kubectl(&arguments, objects)
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments);
        self.cluster.kubectl(&all)
    }

    /// An object of this namespace: `get("isvc/fraud")`.
    pub fn get(&self, what: &str) -> Result<Value> {
        self.cluster.get(&self.name, what)
    }

    /// Waits until an InferenceService is Ready.
    ///
    /// # Errors
    /// With its conditions, Pods, events and last log lines.
    pub fn ready(&self, service: &str) -> Result<()> {
        let waited = self.wait_ready(service, READY);
        waited.map_err(|error| anyhow::anyhow!("{error:#}\n{}", self.diagnosis(service)))
    }

    fn wait_ready(&self, service: &str, limit: Duration) -> Result<()> {
        self.cluster.until(
            &format!("InferenceService {}/{service} is Ready", self.name),
            limit,
            || {
                let object = self.get(&format!("isvc/{service}"))?;
                if let Some(container) = self.crashed(service)? {
                    // A crash can be a first try (the initializer before its store answers); three are not.
                    bail!("{container}");
                }
                Ok((condition(&object, "Ready") == Some("True")).then_some(()))
            },
        )
    }

    fn crashed(&self, service: &str) -> Result<Option<String>> {
        for pod in self.pods(service)? {
            for container in statuses(&pod) {
                if container["restartCount"].as_u64().unwrap_or(0) >= 3 {
                    return Ok(Some(format!("container {} keeps ending", container["name"])));
                }
            }
        }
        Ok(None)
    }

    /// The Pods of a service.
    pub fn pods(&self, service: &str) -> Result<Vec<Value>> {
        let selector = format!("serving.kserve.io/inferenceservice={service}");
        let mut list: Value = serde_json::from_str(&self.kubectl(&["get", "pods", "-l", &selector, "-o", "json"])?)?;
        match list["items"].take() {
            Value::Array(pods) => Ok(pods),
            _ => Ok(Vec::new()),
        }
    }

    /// The Pod that answers for a service.
    fn address(&self, service: &str) -> Result<String> {
        self.pods(service)?
            .iter()
            .filter(|pod| condition(pod, "Ready") == Some("True") && pod["metadata"]["deletionTimestamp"].is_null())
            .find_map(|pod| pod["status"]["podIP"].as_str().map(str::to_owned))
            .with_context(|| format!("no Pod of {}/{service} is ready", self.name))
    }

    /// Asks a model over REST: the Open Inference Protocol's request in, its `outputs[0].data` out.
    pub fn infer(&self, service: &str, request: &Value) -> Result<Vec<f64>> {
        let url = format!("http://{}:8080/v2/models/{service}/infer", self.address(service)?);
        let answer = post(&url, request)?;
        numbers(&answer["outputs"][0]["data"]).with_context(|| format!("{url} answered {answer}"))
    }

    /// Asks a model by KServe's first protocol: `{"instances": …}` in, `predictions` out.
    pub fn predict(&self, service: &str, request: &Value) -> Result<Vec<f64>> {
        let url = format!("http://{}:8080/v1/models/{service}:predict", self.address(service)?);
        let answer = post(&url, request)?;
        numbers(&answer["predictions"]).with_context(|| format!("{url} answered {answer}"))
    }

    /// The same question as [`Namespace::infer`], over gRPC.
    pub fn infer_grpc(&self, service: &str, request: &Value) -> Result<Vec<f64>> {
        self.infer_grpc_at(&format!("{}:9000", self.address(service)?), service, request)
    }

    /// The same at another address than the Pod's own: `infer_grpc_at("10.0.3.7:80", "fraud", …)`.
    pub fn infer_grpc_at(&self, address: &str, service: &str, request: &Value) -> Result<Vec<f64>> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deployer/proto/inference.proto");
        self.ask_grpc(&own, address, service, request)
    }

    /// The same by another definition of the protocol than ours.
    pub fn infer_grpc_by(&self, definition: &Path, service: &str, request: &Value) -> Result<Vec<f64>> {
        let address = format!("{}:9000", self.address(service)?);
        self.ask_grpc(definition, &address, service, request)
    }

    fn ask_grpc(&self, definition: &Path, address: &str, service: &str, request: &Value) -> Result<Vec<f64>> {
        let grpcurl = Module::Grpcurl.build(self.cluster.cache())?.join("grpcurl");
        let folder = definition.parent().context("a definition without a folder")?;
        let file = definition.file_name().context("a definition without a name")?;
        let answer = host::output(
            Command::new(grpcurl)
                .args(["-plaintext", "-max-time", "20", "-proto"])
                .arg(file)
                .arg("-import-path")
                .arg(folder)
                .args(["-d", &grpc_request(service, request)?.to_string()])
                .arg(address)
                .arg("inference.GRPCInferenceService/ModelInfer"),
        )?;
        let answer: Value = serde_json::from_str(&answer)?;
        let output = &answer["outputs"][0];
        let contents = output["contents"]
            .as_object()
            .and_then(|contents| contents.values().next());
        if let Some(found) = contents.and_then(numbers) {
            return Ok(found);
        }
        raw_numbers(
            output["datatype"].as_str().unwrap_or_default(),
            answer["rawOutputContents"][0].as_str().unwrap_or_default(),
        )
        .with_context(|| format!("the gRPC answer is {answer}"))
    }

    /// The last lines that a container of a service wrote, at its last start: `logs("fraud", "storage-initializer")`.
    fn logs(&self, service: &str, container: &str) -> Result<String> {
        let mut texts = Vec::new();
        for pod in self.pods(service)? {
            if let Some(last) = self.cluster.logs(&pod, container)?.last() {
                texts.push(host::tail(last, 60));
            }
        }
        Ok(texts.join("\n"))
    }

    /// What a person would look at when a service doesn't come up.
    pub fn diagnosis(&self, service: &str) -> String {
        const EVENTS: &str =
            "custom-columns=KIND:.involvedObject.kind,NAME:.involvedObject.name,REASON:.reason,MESSAGE:.message";
        let or_error = |said: Result<String>| said.unwrap_or_else(|error| format!("{error:#}"));
        let mut parts = Vec::new();
        if let Ok(object) = self.get(&format!("isvc/{service}")) {
            for one in object["status"]["conditions"].as_array().into_iter().flatten() {
                parts.push(format!(
                    "condition {}={} {} {}",
                    one["type"], one["status"], one["reason"], one["message"]
                ));
            }
            let metadata = &object["metadata"]["annotations"];
            parts.push(format!(
                "modelStatus {}\nspec {}\nannotations {metadata}",
                object["status"]["modelStatus"], object["spec"]
            ));
        }
        parts.push(or_error(self.kubectl(&["get", "deployments,pods", "-o", "wide"])));
        parts.push(or_error(self.kubectl(&[
            "get",
            "events",
            "--sort-by=.lastTimestamp",
            "-o",
            EVENTS,
        ])));
        for container in ["storage-initializer", "kserve-container"] {
            parts.push(format!(
                "--- logs of {container}\n{}",
                or_error(self.logs(service, container))
            ));
        }
        parts.push(format!(
            "--- kserve-manager\n{}",
            self.cluster.processes().last_lines("kserve-manager", 15)
        ));
        parts.join("\n")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self
            .cluster
            .kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// The status of an object's condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == kind)?["status"].as_str()
}

/// The statuses of a Pod's containers, init containers too.
pub fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
}

/// What a server in a Pod, or the run's own, answers over plain HTTP.
///
/// # Errors
/// With the answer, where it isn't a success.
pub fn get(url: &str) -> Result<String> {
    answered(url, client()?.get(url))
}

/// What a server answers to JSON over plain HTTP, as JSON.
///
/// # Errors
/// With the answer, where it isn't a success, or no JSON.
pub fn post(url: &str, body: &Value) -> Result<Value> {
    sent(url, client()?.post(url), body)
}

/// The same by a user with a password.
pub(crate) fn post_as(url: &str, body: &Value, (user, password): (&str, &str)) -> Result<Value> {
    sent(url, client()?.post(url).basic_auth(user, Some(password)), body)
}

fn sent(url: &str, request: RequestBuilder, body: &Value) -> Result<Value> {
    let request = request.header("content-type", "application/json");
    let text = answered(url, request.body(body.to_string()))?;
    serde_json::from_str(&text).with_context(|| format!("{url} answered {text}"))
}

fn client() -> Result<Client> {
    // Feature-unified builds of reqwest ask for the process's TLS provider even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Client::builder().timeout(Duration::from_secs(30)).build()?)
}

fn answered(url: &str, request: RequestBuilder) -> Result<String> {
    let answer = request.send()?;
    let status = answer.status();
    let text = answer.text()?;
    ensure!(status.is_success(), "{url} answered {status}: {text}");
    Ok(text)
}

/// Numbers, flattened; gRPC's JSON form writes 64-bit integers as text.
fn numbers(value: &Value) -> Option<Vec<f64>> {
    match value {
        Value::Array(list) => list
            .iter()
            .map(numbers)
            .collect::<Option<Vec<_>>>()
            .map(|lists| lists.concat()),
        Value::Number(number) => Some(vec![number.as_f64()?]),
        Value::String(text) => Some(vec![text.parse().ok()?]),
        _ => None,
    }
}

/// The REST request in the shape of `inference.proto`.
fn grpc_request(service: &str, request: &Value) -> Result<Value> {
    let input = &request["inputs"][0];
    ensure!(
        input["datatype"] == "FP32" || input["datatype"] == "FP64",
        "only FP32 and FP64 inputs are supported here, not {}",
        input["datatype"]
    );
    let field = if input["datatype"] == "FP32" {
        "fp32Contents"
    } else {
        "fp64Contents"
    };
    let parameter = |value: &Value| {
        value.as_object().map(|map| {
            map.iter()
                .map(|(name, value)| (name.clone(), json!({"stringParam": value})))
                .collect::<serde_json::Map<_, _>>()
        })
    };
    Ok(json!({
        "modelName": service,
        "parameters": parameter(&request["parameters"]).unwrap_or_default(),
        "inputs": [{"name": input["name"], "shape": input["shape"], "datatype": input["datatype"], "contents": {field: input["data"]}}],
    }))
}

/// Outputs may come as little-endian bytes.
fn raw_numbers(datatype: &str, encoded: &str) -> Option<Vec<f64>> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    match datatype {
        "FP32" => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|chunk| Some(f64::from(f32::from_le_bytes(*chunk))))
            .collect(),
        "FP64" => bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|chunk| Some(f64::from_le_bytes(*chunk)))
            .collect(),
        #[expect(clippy::cast_precision_loss, reason = "classes are small numbers")]
        "INT64" => bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|chunk| Some(i64::from_le_bytes(*chunk) as f64))
            .collect(),
        "INT32" => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|chunk| Some(f64::from(i32::from_le_bytes(*chunk))))
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_every_answer() {
        assert_eq!(numbers(&json!([[1, 2.5], ["3"]])), Some(vec![1.0, 2.5, 3.0]));
        assert_eq!(numbers(&json!({"error": "x"})), None);
        assert_eq!(
            raw_numbers("FP32", &crate::tls::base64(&1.5f32.to_le_bytes())),
            Some(vec![1.5])
        );
        assert_eq!(
            raw_numbers("INT64", &crate::tls::base64(&7i64.to_le_bytes())),
            Some(vec![7.0])
        );
        assert_eq!(raw_numbers("BYTES", ""), None);
    }
}
