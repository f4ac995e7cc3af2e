//! What kube-proxy and a DNS server are in a cluster: from Pods and from the run itself, Services are reached by their names and addresses.
//!
//! Only tests with Pods that call one another need it: a transformer its predictor, a graph its services. Each port of a Service is a listener on the
//! Service's own address, which passes connections on to a Pod; nothing here needs the machine's packet filter.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::control_plane::{API_SERVER_PORT, IN_CLUSTER};
use crate::{Api, Cluster, host, slow};

/// Where Pods look for names; the kubelet is told so.
const DNS_PORT: u16 = 53;
/// How often it is looked for what has changed.
const LOOK: Duration = Duration::from_millis(500);
const DOMAIN: &str = ".svc.cluster.local";

/// A Service's port, and where its connections go.
type Port = (SocketAddr, Vec<SocketAddr>);

/// What there is now.
#[derive(Debug, Default)]
struct Table {
    /// By `name.namespace`.
    names: HashMap<String, Vec<Ipv4Addr>>,
    backends: HashMap<SocketAddr, Vec<SocketAddr>>,
}

type Shared = Arc<Mutex<Table>>;

impl Cluster {
    /// Has Services answer from now on, until the process ends. A second call changes nothing.
    ///
    /// # Errors
    /// Where the addresses can't be listened on.
    pub fn serve_services(&self) -> Result<()> {
        static SERVED: Mutex<bool> = Mutex::new(false);
        let mut served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
        if *served {
            return Ok(());
        }
        let table = Shared::default();
        let socket = UdpSocket::bind((IN_CLUSTER, DNS_PORT)).context("can't listen for questions of names")?;
        let (names, api) = (Arc::clone(&table), self.api()?);
        std::thread::spawn(move || answer_all(&socket, &names));
        std::thread::spawn(move || {
            loop {
                if let Err(error) = refresh(&api, &table) {
                    eprintln!("Services can't be looked at: {error:#}");
                }
                std::thread::sleep(LOOK);
            }
        });
        *served = true;
        Ok(())
    }
}

fn refresh(api: &Api, table: &Shared) -> Result<()> {
    let services = api.get("/api/v1/services")?;
    let slices = api.get("/apis/discovery.k8s.io/v1/endpointslices")?;
    let (names, ports) = read(&services, &slices);
    let mut table_now = locked(table);
    table_now.names = names;
    for (address, backends) in ports {
        let is_new = table_now.backends.insert(address, backends).is_none();
        if is_new {
            listen(address, Arc::clone(table))?;
        }
    }
    Ok(())
}

/// Names with their addresses, and ports with what is behind them.
fn read(services: &Value, slices: &Value) -> (HashMap<String, Vec<Ipv4Addr>>, Vec<Port>) {
    let mut names = HashMap::new();
    let mut ports = Vec::new();
    for service in items(services) {
        let (name, namespace) = (
            text(&service["metadata"]["name"]),
            text(&service["metadata"]["namespace"]),
        );
        let own = items(slices).filter(|slice| {
            slice["metadata"]["labels"]["kubernetes.io/service-name"] == name
                && slice["metadata"]["namespace"] == namespace
        });
        let own: Vec<&Value> = own.collect();
        let address = text(&service["spec"]["clusterIP"]).parse::<Ipv4Addr>().ok();
        let key = format!("{name}.{namespace}");
        let Some(address) = address else {
            // Without an address of its own it is its Pods'.
            let pods = own.iter().flat_map(|slice| ready(slice)).collect();
            names.insert(key, pods);
            continue;
        };
        names.insert(key, vec![address]);
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            let Some(number) = number(&port["port"]) else { continue };
            // The API server listens there itself, whatever the address.
            if number == API_SERVER_PORT {
                continue;
            }
            let mut backends = Vec::new();
            for slice in &own {
                let behind = slice["ports"].as_array().into_iter().flatten();
                let behind = behind.filter(|behind| text(&behind["name"]) == text(&port["name"]));
                let behind: Vec<u16> = behind.filter_map(|behind| self::number(&behind["port"])).collect();
                for pod in ready(slice) {
                    backends.extend(behind.iter().map(|port| SocketAddr::new(IpAddr::V4(pod), *port)));
                }
            }
            ports.push((SocketAddr::new(IpAddr::V4(address), number), backends));
        }
    }
    (names, ports)
}

/// Of a slice, the Pods that are ready.
fn ready(slice: &Value) -> Vec<Ipv4Addr> {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    let addresses = ready.flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten());
    addresses.filter_map(|address| text(address).parse().ok()).collect()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn listen(address: SocketAddr, table: Shared) -> Result<()> {
    // Several ports of a Service have one address.
    let _ = host::run(Command::new("ip").args(["address", "add", &format!("{}/32", address.ip()), "dev", "lo"]));
    let listener = TcpListener::bind(address).with_context(|| format!("can't listen on {address}"))?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let backend = locked(&table)
                .backends
                .get(&address)
                .and_then(|all| all.first().copied());
            // As with kube-proxy, nobody answers for a Service without Pods.
            let Some(backend) = backend else { continue };
            std::thread::spawn(move || drop(pass(client, backend)));
        }
    });
    Ok(())
}

fn pass(client: TcpStream, backend: SocketAddr) -> std::io::Result<()> {
    slow::connect(client, TcpStream::connect(backend)?)
}

fn locked(table: &Shared) -> std::sync::MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer_all(socket: &UdpSocket, table: &Shared) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        if let Some(answer) = answer(&question[..length], |name| locked(table).names.get(name).cloned()) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// An answer by RFC 1035 to one question. None for what is no question.
fn answer(question: &[u8], addresses: impl Fn(&str) -> Option<Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: [u8; 2] = [0, 1];
    let (name, end) = name(question.get(HEADER..)?)?;
    let asked = question.get(HEADER..HEADER + end + 4)?;
    let service = name
        .strip_suffix(DOMAIN)
        .or_else(|| name.strip_suffix(".svc"))
        .unwrap_or(&name);
    let found = addresses(service);
    // Recursion is available; a name that isn't there is code 3.
    let code = if found.is_some() { 0x80 } else { 0x83 };
    let found = found.filter(|_| asked[end..end + 2] == A).unwrap_or_default();
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, code, 0, 1, 0, u8::try_from(found.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(asked);
    for address in found {
        // The name that was asked for, type A, class IN, for a second, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

/// A name of labels, and how many bytes it takes.
fn name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = bytes.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn question(name: &str, kind: u8) -> Vec<u8> {
        let mut bytes = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).expect("a short label"));
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn a_services_name_has_its_address_and_others_have_none() {
        let known = |name: &str| (name == "fraud.team-a").then(|| vec![Ipv4Addr::new(10, 0, 3, 4)]);
        for asked in ["fraud.team-a.svc.cluster.local", "fraud.team-a", "Fraud.team-a.svc"] {
            let answered = answer(&question(asked, 1), known).expect("an answer");
            assert_eq!((answered[3], answered[7]), (0x80, 1), "{asked}");
            assert_eq!(answered[answered.len() - 4..], [10, 0, 3, 4]);
        }
        // IPv6: there is such a name, and it has no such address.
        let six = answer(&question("fraud.team-a", 28), known).expect("an answer");
        assert_eq!((six[3], six[7]), (0x80, 0));
        let nobody = answer(&question("fraud.team-a.team-a.svc.cluster.local", 1), known).expect("an answer");
        assert_eq!((nobody[3], nobody[7]), (0x83, 0));
        assert_eq!(answer(&[1, 2, 3], known), None);
    }

    #[test]
    fn a_port_leads_to_the_pods_that_are_ready() {
        let services = json!({"items": [{"metadata": {"name": "fraud", "namespace": "a"}, "spec": {"clusterIP": "10.0.3.4",
            "ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 9000}]}}]});
        let slices = json!({"items": [{
        "metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": "fraud"}},
        "ports": [{"name": "http", "port": 8080}, {"name": "grpc", "port": 9000}],
        "endpoints": [
            {"addresses": ["10.88.0.9"], "conditions": {"ready": true}},
            {"addresses": ["10.88.0.8"], "conditions": {"ready": false}},
        ]}]});
        let (names, ports) = read(&services, &slices);
        assert_eq!(names["fraud.a"], [Ipv4Addr::new(10, 0, 3, 4)]);
        let told: Vec<_> = ports
            .iter()
            .map(|(address, backends)| format!("{address} {backends:?}"))
            .collect();
        assert_eq!(told, ["10.0.3.4:80 [10.88.0.9:8080]", "10.0.3.4:9000 [10.88.0.9:9000]"]);
    }
}
