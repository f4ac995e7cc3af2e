//! Which Pod answers for a service, and at which of its ports.

use serde_json::Value;

use super::Protocol;
use crate::cluster::has_condition;

/// What holds a model, and what stands before it in the same Pod.
const SERVERS: [&str; 2] = ["transformer-container", "kserve-container"];

/// Whether a Pod can be asked now.
pub(super) fn is_ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && has_condition(pod, "Ready")
}

/// The port of a Pod that speaks this protocol. A port needn't be declared to be open: KServe's runtimes for MLServer name neither of theirs.
pub(super) fn port(pod: &Value, protocol: Protocol) -> u16 {
    let containers: Vec<&Value> = pod["spec"]["containers"].as_array().into_iter().flatten().collect();
    let named = |name: &str| containers.iter().find(|container| container["name"] == name);
    let Some(server) = SERVERS.iter().find_map(|name| named(name)).or(containers.first()) else {
        return fallback(&Value::Null, protocol);
    };
    let told = told(server, protocol).or_else(|| declared(server, protocol));
    told.unwrap_or_else(|| fallback(server, protocol))
}

/// By what the server itself is told: MLServer by its environment, KServe's servers and Triton by arguments.
fn told(container: &Value, protocol: Protocol) -> Option<u16> {
    let (variable, flags): (_, &[&str]) = match protocol {
        Protocol::Rest => ("MLSERVER_HTTP_PORT", &["--http_port", "--http-port", "--rest_api_port"]),
        Protocol::Grpc => ("MLSERVER_GRPC_PORT", &["--grpc_port", "--grpc-port"]),
    };
    let variables = container["env"].as_array().into_iter().flatten();
    let variable = variables.into_iter().find(|one| one["name"] == variable);
    if let Some(port) = variable.and_then(|one| one["value"].as_str()?.parse().ok()) {
        return Some(port);
    }
    let words = ["command", "args"].map(|part| container[part].as_array());
    let words: Vec<&str> = words
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let of_word = |(index, word): (usize, &&str)| {
        let flag = flags.iter().find(|flag| word.starts_with(**flag))?;
        let rest = &word[flag.len()..];
        let value = match rest.strip_prefix('=') {
            Some(value) => value,
            None if rest.is_empty() => words.get(index + 1)?,
            None => return None,
        };
        value.parse().ok()
    };
    words.iter().enumerate().find_map(of_word)
}

/// By the names that KServe gives to ports: `h2c` for gRPC.
fn declared(container: &Value, protocol: Protocol) -> Option<u16> {
    let ports = container["ports"].as_array()?;
    let is_grpc = |port: &Value| {
        let name = port["name"].as_str().unwrap_or_default();
        name.contains("grpc") || name.contains("h2c")
    };
    let found = ports.iter().find(|port| is_grpc(port) == (protocol == Protocol::Grpc));
    u16::try_from(found?["containerPort"].as_u64()?).ok()
}

/// By what the servers listen at where nobody says otherwise: MLServer and Triton as KServe's runtimes start them, and KServe's own.
fn fallback(container: &Value, protocol: Protocol) -> u16 {
    let image = container["image"].as_str().unwrap_or_default();
    match protocol {
        Protocol::Rest => 8080,
        Protocol::Grpc if image.contains("mlserver") || image.contains("triton") => 9000,
        Protocol::Grpc => 8081,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ports(container: Value) -> (u16, u16) {
        let mut container = container;
        container["name"] = json!("kserve-container");
        let sidecar = json!({"name": "queue-proxy", "ports": [{"name": "http-queueadm", "containerPort": 8022}]});
        let pod = json!({"spec": {"containers": [sidecar, container]}});
        (port(&pod, Protocol::Rest), port(&pod, Protocol::Grpc))
    }

    #[test]
    fn a_servers_ports_are_those_that_it_was_told() {
        let mlserver = json!({"image": "docker.io/seldonio/mlserver:1.7.1", "env": [
            {"name": "MLSERVER_HTTP_PORT", "value": "8090"}, {"name": "MLSERVER_GRPC_PORT", "value": "9001"}]});
        assert_eq!(ports(mlserver), (8090, 9001));
        assert_eq!(
            ports(json!({"args": ["--http_port=8085", "--grpc_port", "8086"]})),
            (8085, 8086)
        );
    }

    #[test]
    fn else_those_that_are_declared_and_else_the_usual_ones() {
        let grpc = json!({"image": "x/mlserver:1", "ports": [{"name": "h2c", "containerPort": 9005}]});
        assert_eq!(ports(grpc), (8080, 9005));
        let rest = json!({"ports": [{"containerPort": 5000}]});
        assert_eq!(ports(rest), (5000, 8081));
        assert_eq!(
            ports(json!({"image": "nvcr.io/nvidia/tritonserver:23.05-py3"})),
            (8080, 9000)
        );
    }

    #[test]
    fn a_pod_that_is_leaving_is_not_asked() {
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        assert!(is_ready(&json!({"metadata": {}, "status": {"conditions": conditions}})));
        let leaving =
            json!({"metadata": {"deletionTimestamp": "2026-06-01T12:00:00Z"}, "status": {"conditions": conditions}});
        assert!(!is_ready(&leaving));
    }
}
