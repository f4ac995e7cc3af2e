//! Where something that takes requests for a cluster is reached from outside: by which address and port.
//!
//! The same question for a Kubernetes Service (of Istio's, Knative's or nginx's gateway), for a Gateway of the Gateway API, and for a plain Ingress.

use serde_json::Value;

use super::Exposure;
use crate::cluster::has_condition;
use crate::live::speaks_grpc;

/// An address that others can connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exposed {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) by: Exposure,
}

impl Exposed {
    fn new(host: &str, port: u16, by: Exposure) -> Self {
        Self {
            host: host.to_owned(),
            port,
            by,
        }
    }
}

/// Of a gateway's Service: its load balancer, its external addresses, a port of the nodes; the best first.
pub(super) fn service(service: &Value, nodes: &[Value], is_https: bool) -> Vec<Exposed> {
    let ports = service["spec"]["ports"].as_array();
    let Some(port) = ports.and_then(|ports| gateway_port(ports, is_https)) else {
        return Vec::new();
    };
    let number = |name: &str| port[name].as_u64().and_then(|port| u16::try_from(port).ok());
    let mut found = Vec::new();
    if let Some(port) = number("port") {
        let balanced = addresses(&service["status"]["loadBalancer"]["ingress"]);
        found.extend(balanced.map(|host| Exposed::new(host, port, Exposure::LoadBalancer)));
        let external = service["spec"]["externalIPs"].as_array().into_iter().flatten();
        let external = external.filter_map(Value::as_str);
        found.extend(external.map(|host| Exposed::new(host, port, Exposure::ExternalIp)));
    }
    if let Some(port) = number("nodePort") {
        let nodes = nodes
            .iter()
            .filter(|node| has_condition(node, "Ready"))
            .filter_map(node_address);
        found.extend(nodes.map(|host| Exposed::new(host, port, Exposure::NodePort)));
    }
    found
}

/// Istio's gateway calls its port `http2`, Kourier's `http2`, nginx's `http`.
fn gateway_port(ports: &[Value], is_https: bool) -> Option<&Value> {
    let (names, number): (&[&str], u64) = if is_https {
        (&["https"], 443)
    } else {
        (&["http2", "http", "http-80", "web"], 80)
    };
    let found = names
        .iter()
        .find_map(|name| ports.iter().find(|port| port["name"] == **name));
    found.or_else(|| ports.iter().find(|port| port["port"] == number))
}

/// The port of a model's Service that speaks gRPC, as KServe knows it: by its protocol, or its name.
pub(super) fn grpc_port(service: &Value) -> Option<u16> {
    let ports = service["spec"]["ports"].as_array()?;
    let port = ports.iter().find(|port| speaks_grpc(port))?;
    u16::try_from(port["port"].as_u64()?).ok()
}

/// From outside by preference; a machine beside the cluster reaches the inner address too.
fn node_address(node: &Value) -> Option<&str> {
    let addresses = node["status"]["addresses"].as_array()?;
    let of = |kind: &str| addresses.iter().find(|address| address["type"] == kind);
    of("ExternalIP").or_else(|| of("InternalIP"))?["address"].as_str()
}

/// `[{ip}, {hostname}]`
fn addresses(ingress: &Value) -> impl Iterator<Item = &str> {
    let ingress = ingress.as_array().into_iter().flatten();
    ingress.filter_map(|one| one["hostname"].as_str().or_else(|| one["ip"].as_str()))
}

/// Of a Gateway: each of its addresses, at the port of the listener that takes this host.
pub(super) fn gateway(gateway: &Value, host: &str, is_https: bool) -> Vec<Exposed> {
    let wanted = if is_https { "HTTPS" } else { "HTTP" };
    let listeners = gateway["spec"]["listeners"].as_array().into_iter().flatten();
    let mut listeners = listeners.filter(|listener| {
        let takes = listener["hostname"]
            .as_str()
            .is_none_or(|pattern| is_for(pattern, host));
        listener["protocol"] == wanted && takes
    });
    let port = listeners.next().and_then(|listener| listener["port"].as_u64());
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
        return Vec::new();
    };
    let addresses = gateway["status"]["addresses"].as_array().into_iter().flatten();
    let addresses = addresses.filter_map(|address| address["value"].as_str());
    addresses
        .map(|host| Exposed::new(host, port, Exposure::Address))
        .collect()
}

/// `*.example.com` takes any name below.
fn is_for(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// Of a plain Ingress, where its controller has written its own address into it.
pub(super) fn ingress(ingress: &Value, is_https: bool) -> Vec<Exposed> {
    let port = if is_https { 443 } else { 80 };
    let found = addresses(&ingress["status"]["loadBalancer"]["ingress"]);
    found.map(|host| Exposed::new(host, port, Exposure::Address)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(found: &[Exposed]) -> Vec<(String, Exposure)> {
        let told = found.iter().map(|one| (format!("{}:{}", one.host, one.port), one.by));
        told.collect()
    }

    /// As istiod's chart makes it.
    fn istio(status: Value) -> Value {
        json!({
            "spec": {"type": "LoadBalancer", "ports": [
                {"name": "status-port", "port": 15021, "nodePort": 31000},
                {"name": "http2", "port": 80, "nodePort": 31080, "targetPort": 8080},
                {"name": "https", "port": 443, "nodePort": 31443, "targetPort": 8443},
            ]},
            "status": status,
        })
    }

    #[test]
    fn a_load_balancer_is_known_by_address_or_by_name() {
        let by_address = istio(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}));
        assert_eq!(
            told(&service(&by_address, &[], false)),
            [("203.0.113.7:80".to_owned(), Exposure::LoadBalancer)]
        );
        let by_name = istio(json!({"loadBalancer": {"ingress": [{"hostname": "x.elb.amazonaws.com"}]}}));
        assert_eq!(
            told(&service(&by_name, &[], true)),
            [("x.elb.amazonaws.com:443".to_owned(), Exposure::LoadBalancer)]
        );
    }

    #[test]
    fn without_a_load_balancer_a_node_that_is_ready_is_asked() {
        let node = |ready: &str, kind: &str, address: &str| {
            json!({"status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "InternalIP", "address": "10.1.0.1"}, {"type": kind, "address": address}],
            }})
        };
        let nodes = [
            node("False", "ExternalIP", "198.51.100.1"),
            node("True", "ExternalIP", "198.51.100.2"),
            node("True", "Hostname", "n3"),
        ];
        assert_eq!(
            told(&service(&istio(json!({})), &nodes, false)),
            [
                ("198.51.100.2:31080".to_owned(), Exposure::NodePort),
                ("10.1.0.1:31080".to_owned(), Exposure::NodePort)
            ]
        );
        let inside = json!({"spec": {"type": "ClusterIP", "ports": [{"name": "http2", "port": 80}]}});
        assert_eq!(service(&inside, &nodes, false), []);
    }

    #[test]
    fn a_gateways_listener_has_to_take_the_host() {
        let object = json!({
            "spec": {"listeners": [
                {"name": "other", "protocol": "HTTP", "port": 8080, "hostname": "*.other.org"},
                {"name": "http", "protocol": "HTTP", "port": 8081, "hostname": "*.example.com"},
                {"name": "https", "protocol": "HTTPS", "port": 443},
            ]},
            "status": {"addresses": [{"type": "IPAddress", "value": "203.0.113.9"}]},
        });
        let found = |host: &str, is_https: bool| told(&gateway(&object, host, is_https));
        assert_eq!(
            found("fraud-a.example.com", false),
            [("203.0.113.9:8081".to_owned(), Exposure::Address)]
        );
        assert_eq!(found("example.com", false), []);
        assert_eq!(
            found("fraud-a.nowhere.net", true),
            [("203.0.113.9:443".to_owned(), Exposure::Address)]
        );
    }

    #[test]
    fn grpcs_port_is_known_by_name_or_protocol() {
        let of = |ports: Value| grpc_port(&json!({"spec": {"ports": ports}}));
        assert_eq!(
            of(json!([{"name": "fraud", "port": 80}, {"name": "grpc-port", "port": 9000}])),
            Some(9000)
        );
        assert_eq!(
            of(json!([{"name": "x", "port": 80, "appProtocol": "kubernetes.io/h2c"}])),
            Some(80)
        );
        assert_eq!(of(json!([{"name": "fraud", "port": 80}])), None);
    }

    #[test]
    fn an_ingress_without_a_controller_leads_nowhere() {
        assert_eq!(ingress(&json!({"status": {"loadBalancer": {}}}), false), []);
        let served = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.3"}]}}});
        assert_eq!(
            told(&ingress(&served, false)),
            [("203.0.113.3:80".to_owned(), Exposure::Address)]
        );
    }
}
