//! How a service is reached from here.
//!
//! ```text
//!   status.url, KServe's configuration, gateways, Ingress, nodes ─▶ Candidates, the best first ─▶ the first that takes a connection
//!                                                                                  none does ─▶ a forwarded port of a ready Pod
//! ```
//! What is in the way (a right that is missing, an address that doesn't answer) is kept, and told beside the way that was taken.
//!
//! Sources: KServe's `pkg/controller/v1beta1/inferenceservice/reconcilers/ingress` at 0.15.2 and 0.20.0 for what it makes in each mode;
//! its guide "Determine the ingress IP and ports" for the gateways' names.

mod candidates;
mod exposed;
mod forward;
mod pod;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::time::Duration;

use tokio::net::TcpStream;
use url::Url;

use crate::cluster::{self, Cluster, kinds};
use crate::live::{Component, Deployed};

pub use forward::Forward;

/// How long an address may take to accept a connection before the next is tried.
const CONNECT: Duration = Duration::from_secs(3);

/// What is spoken to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP with JSON.
    Rest,
    /// The Open Inference Protocol's gRPC.
    Grpc,
}

/// Which ways may be taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Via {
    /// The first that works: from outside, else by a forwarded port.
    #[default]
    Auto,
    /// From outside of the cluster alone.
    Ingress,
    /// By the service's own address, which only Pods can resolve.
    Cluster,
    /// By a forwarded port of a Pod alone.
    PortForward,
}

/// What the user says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Where the ingress is, as `http://203.0.113.7` or with a path: then nothing is looked for.
    pub base_url: Option<String>,
    /// The name that is asked for there, in place of the one in the service's URL.
    pub host: Option<String>,
    /// Which ways may be taken.
    pub via: Via,
    /// Whether this runs in a Pod of the cluster.
    pub in_cluster: bool,
    /// KServe's namespace; empty means `kserve`.
    pub kserve_namespace: String,
    /// A canary's name in Standard mode, which alone is asked then.
    pub canary: Option<String>,
}

/// What makes an address reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// The cloud's load balancer, or one like it.
    LoadBalancer,
    /// An address that the Service says is led to it.
    ExternalIp,
    /// A port of each node.
    NodePort,
    /// An address in the object's own status.
    Address,
}

/// The way that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The user's word.
    BaseUrl,
    /// The service's URL, whose name can be resolved.
    Own,
    /// The service's address inside of the cluster.
    Cluster,
    /// A gateway that leads requests by their host's name.
    Gateway {
        /// Such as `Istio's gateway`.
        what: &'static str,
        /// `namespace/name`
        name: String,
        /// How that one is reached.
        by: Exposure,
    },
    /// A forwarded port.
    PortForward {
        /// Of this Pod.
        pod: String,
        /// Which one of the Pod's.
        port: u16,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BaseUrl => f.write_str("the base URL"),
            Self::Own => f.write_str("the service's own URL"),
            Self::Cluster => f.write_str("the service's address inside of the cluster"),
            Self::Gateway { what, name, by } => {
                let by = match by {
                    Exposure::LoadBalancer => " (load balancer)",
                    Exposure::ExternalIp => " (external IP)",
                    Exposure::NodePort => " (node port)",
                    Exposure::Address => "",
                };
                write!(f, "{what} {name}{by}")
            }
            Self::PortForward { pod, port } => write!(f, "a port forward to Pod {pod}, port {port}"),
        }
    }
}

/// A way that may lead to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Scheme, host and port to connect to, and the path before the protocol's own.
    pub base: Url,
    /// The host that is asked for there, where that is another.
    pub host: Option<String>,
    /// Which way it is.
    pub way: Way,
}

/// A way that leads there.
#[derive(Debug)]
pub struct Endpoint {
    /// Scheme, host and port to connect to, and the path before the protocol's own.
    pub base: Url,
    /// The host that is asked for there, where that is another.
    pub host: Option<String>,
    /// Which way it is.
    pub way: Way,
    /// Better ways that don't lead there, a sentence each.
    pub passed_over: Vec<String>,
    forward: Option<Forward>,
}

impl Endpoint {
    fn of(candidate: Candidate, passed_over: Vec<String>) -> Self {
        Self {
            base: candidate.base,
            host: candidate.host,
            way: candidate.way,
            passed_over,
            forward: None,
        }
    }

    /// What the kubelet complained of, where a port is forwarded.
    pub fn complaint(&self) -> Option<String> {
        self.forward.as_ref().and_then(Forward::complaint)
    }
}

/// Why a service can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster can't be asked.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// What the user gave as an address is none.
    #[error("`{given}` is no base URL: {reason}")]
    BaseUrl {
        /// The user's word.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Told to have no Pods.
    #[error("service {namespace}/{name} is stopped")]
    Stopped {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// None of its Pods is ready.
    #[error("service {namespace}/{name} is not ready: {why}")]
    NoPod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What its conditions say.
        why: String,
    },
    /// Nothing from outside leads there, and nothing else was allowed.
    #[error("nothing leads to service {namespace}/{name} from here{}", listed(passed_over))]
    NoWay {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What was tried, a sentence each.
        passed_over: Vec<String>,
    },
    /// No port can be opened here.
    #[error("can't open a port of this machine: {0}")]
    Listen(std::io::Error),
}

fn listed(passed_over: &[String]) -> String {
    passed_over.iter().map(|one| format!("\n  {one}")).collect()
}

impl Error {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Cluster(error) => error.next(),
            Self::BaseUrl { .. } => "write it as http://203.0.113.7:8080 or https://models.example.com/path".to_owned(),
            Self::Stopped { namespace, name } => format!("`tidewaiter start -n {namespace} {name}` brings it back"),
            Self::NoPod { namespace, name, .. } => {
                format!("`tidewaiter status -n {namespace} {name}` says what it waits for")
            }
            Self::NoWay { .. } => "name the ingress by --base-url, or take --via port-forward".to_owned(),
            Self::Listen(_) => "close what has all ports open".to_owned(),
        }
    }
}

/// Every way that may lead to a service from outside of its Pods, the best first, and what is in the way of others. None is tried.
///
/// # Errors
/// Where the base URL is none. What can't be read in the cluster is only told.
pub async fn candidates(
    cluster: &Cluster,
    service: &Deployed,
    protocol: Protocol,
    options: &Options,
) -> Result<(Vec<Candidate>, Vec<String>), Error> {
    if let Some(base) = &options.base_url {
        return Ok((vec![candidates::base_url(base, service, options)?], Vec::new()));
    }
    Ok(candidates::find(cluster, service, protocol, options).await)
}

/// A way that leads to a service now. The better ones are tried first.
///
/// # Errors
/// Where none does, with all that was tried.
pub async fn find(
    cluster: &Cluster,
    service: &Deployed,
    protocol: Protocol,
    options: &Options,
) -> Result<Endpoint, Error> {
    if service.is_stopped() {
        return Err(Error::Stopped {
            namespace: service.namespace(),
            name: service.name(),
        });
    }
    let (candidates, mut passed_over) = if options.canary.is_none() && options.via != Via::PortForward {
        candidates(cluster, service, protocol, options).await?
    } else {
        (Vec::new(), Vec::new())
    };
    for candidate in candidates {
        // Whoever names an address is told by the request itself what is wrong with it.
        if candidate.way == Way::BaseUrl || options.via == Via::Cluster {
            return Ok(Endpoint::of(candidate, passed_over));
        }
        match answers(&candidate.base).await {
            Ok(()) => return Ok(Endpoint::of(candidate, passed_over)),
            Err(why) => passed_over.push(format!("{}: {} {why}", candidate.way, authority(&candidate.base))),
        }
    }
    if matches!(options.via, Via::Auto | Via::PortForward) {
        return port_forward(cluster, service, protocol, options, passed_over).await;
    }
    Err(Error::NoWay {
        namespace: service.namespace(),
        name: service.name(),
        passed_over,
    })
}

fn authority(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    match base.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

async fn answers(base: &Url) -> Result<(), String> {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(authority(base))).await;
    match connected {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("doesn't answer: {error}")),
        Err(_) => Err(format!("doesn't answer within {} s", CONNECT.as_secs())),
    }
}

/// A forwarded port of one of its Pods that is ready.
async fn port_forward(
    cluster: &Cluster,
    service: &Deployed,
    protocol: Protocol,
    options: &Options,
    passed_over: Vec<String>,
) -> Result<Endpoint, Error> {
    let (namespace, name) = (service.namespace(), service.name());
    let pods = pods(cluster, service, options).await?;
    let Some(ready) = pods.iter().find(|pod| pod::is_ready(pod)) else {
        return Err(Error::NoPod {
            why: why_not_ready(service, pods.len()),
            namespace,
            name,
        });
    };
    let endpoint = forward_to(cluster, &namespace, ready, protocol).await?;
    Ok(Endpoint {
        passed_over,
        ..endpoint
    })
}

/// A forwarded port of this Pod, as JSON: the one at which it speaks the protocol.
pub(crate) async fn forward_to(
    cluster: &Cluster,
    namespace: &str,
    pod: &serde_json::Value,
    protocol: Protocol,
) -> Result<Endpoint, Error> {
    let port = pod::port(pod, protocol);
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let forward = Forward::open(cluster, namespace, &pod, port).await?;
    let base = format!("http://{}/", forward.address());
    let base = base.parse().map_err(|error: url::ParseError| Error::BaseUrl {
        given: base,
        reason: error.to_string(),
    })?;
    Ok(Endpoint {
        base,
        host: None,
        way: Way::PortForward { pod, port },
        passed_over: Vec::new(),
        forward: Some(forward),
    })
}

/// The Pods that take a service's requests, as JSON: in Standard mode those that its Kubernetes Service selects, since a canary's have the same labels
/// otherwise; in Knative mode all of the component's.
async fn pods(cluster: &Cluster, service: &Deployed, options: &Options) -> Result<Vec<serde_json::Value>, Error> {
    let namespace = service.namespace();
    let entry = service.entry();
    let owner = match &options.canary {
        Some(canary) => format!("{}-{canary}-predictor", service.name()),
        None => service.service_of(entry),
    };
    let selected = match cluster.get(&kinds::SERVICE, Some(&namespace), &owner).await {
        Ok(found) => found.and_then(|object| selector(&object.data["spec"]["selector"])),
        // The labels say nearly the same.
        Err(cluster::Error::Forbidden { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let labels = match selected {
        Some(selector) => selector,
        None if options.canary.is_some() => return Ok(Vec::new()),
        None => labels_of(service, entry),
    };
    let pods = cluster.labelled(&kinds::POD, Some(&namespace), &labels).await?;
    Ok(pods
        .into_iter()
        .map(|pod| serde_json::to_value(pod).unwrap_or_default())
        .collect())
}

/// By which KServe marks the Pods of a component; a graph has but its router's.
pub(crate) fn labels_of(service: &Deployed, component: Component) -> String {
    let label = service.label();
    if service.is_graph() {
        return label;
    }
    format!("{label},component={}", component.as_str())
}

fn selector(labels: &serde_json::Value) -> Option<String> {
    let labels = labels.as_object().filter(|labels| !labels.is_empty())?;
    let pairs = labels
        .iter()
        .map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
    Some(pairs.collect::<Option<Vec<_>>>()?.join(","))
}

fn why_not_ready(service: &Deployed, pods: usize) -> String {
    let conditions = service.conditions();
    let bad = conditions
        .iter()
        .find(|condition| condition.status != "True" && condition.of != "Stopped");
    let told = bad.map(|condition| {
        let words = [&condition.reason, &condition.message];
        let words: Vec<&str> = words
            .into_iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        match words.as_slice() {
            [] => condition.of.clone(),
            words => format!("{} ({})", condition.of, words.join(": ")),
        }
    });
    match (told, pods) {
        (Some(told), 0) => format!("it has no Pods, and waits for {told}"),
        (Some(told), _) => format!("it waits for {told}"),
        (None, 0) => "it has no Pods".to_owned(),
        (None, _) => "none of its Pods is ready".to_owned(),
    }
}
