//! Has a model answer: over REST by KServe's first protocol or the Open Inference Protocol, or over the latter's gRPC.
//!
//! ```text
//!   JSON, CSV, an example ─▶ Input ─▶ what the server expects of it (signature, or its own word) ─▶ Request ─▶ Answer ─▶ columns
//! ```
//! Sources: the Open Inference Protocol's own description; `mlserver/codecs` and `mlserver_mlflow` 1.7.1 for codecs and metadata; KServe's
//! `python/kserve/kserve/protocol` 0.20.0 for what its servers make of either protocol.

mod answer;
mod datatype;
mod error;
mod example;
mod expected;
mod grpc;
mod input;
mod order;
mod request;
mod rest;
mod tensor;
mod tls;
mod wire;

/// What protox made of `proto/inference.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "it is generated"
)]
mod protocol {
    tonic::include_proto!("inference");
}

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use url::Url;

pub use answer::{Answer, Columns};
pub use datatype::{Datatype, UnknownDatatype};
pub use error::{Error, InputError};
pub use example::{By, Example, example, of_signature};
pub use expected::{Expected, ExpectedInput};
pub use input::{Content, Input, Table};
pub use request::{Request, v1, v2};
pub use tensor::Tensor;

use crate::cluster::{Cluster, kinds};
use crate::live::Deployed;
use crate::reach::{self, Endpoint};

/// What a server is asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// KServe's first, over REST.
    V1,
    /// The Open Inference Protocol, over REST.
    V2,
    /// The Open Inference Protocol, over gRPC.
    Grpc,
}

impl Protocol {
    /// What a service speaks by its own word: `protocolVersion`, which means v1 where it is unset. A service that says it speaks `grpc-v2` does so alone, and so
    /// does one whose server has ports for gRPC alone, as `deploy --protocol grpc` has it.
    pub fn of(service: &Deployed) -> Self {
        match service.protocol() {
            _ if service.is_grpc_alone() => Self::Grpc,
            Some("v2") => Self::V2,
            Some("grpc-v2" | "grpc-v1") => Self::Grpc,
            // Only v2 is spoken by these; a service without a protocol is of a time when KServe chose for it.
            None if service
                .runtime()
                .is_some_and(|runtime| runtime.contains("mlserver") || runtime.contains("triton")) =>
            {
                Self::V2
            }
            _ => Self::V1,
        }
    }

    /// What a graph's router takes: what its first service is asked by, which is the first of REST's two protocols that a runtime speaks where the service names
    /// one, else the service's own (`GetPredictorEndpoint` of KServe 0.15.2 and 0.20.0). The first where none of that can be read.
    pub async fn of_graph(cluster: &Cluster, graph: &Deployed) -> Self {
        let namespace = graph.namespace();
        let Some(first) = graph.steps().first().copied() else {
            return Self::V1;
        };
        let Ok(service) = Deployed::read(cluster, &namespace, first).await else {
            return Self::V1;
        };
        if let Some(name) = service.model().and_then(|(_, model)| model["runtime"].as_str()) {
            for (kind, namespace) in [
                (&kinds::SERVING_RUNTIME, Some(namespace.as_str())),
                (&kinds::CLUSTER_SERVING_RUNTIME, None),
            ] {
                if let Ok(Some(runtime)) = cluster.get(kind, namespace, name).await {
                    return Self::of_runtime(&runtime.data).unwrap_or_else(|| Self::of(&service));
                }
            }
        }
        Self::of(&service)
    }

    fn of_runtime(runtime: &Value) -> Option<Self> {
        let spoken = runtime["spec"]["protocolVersions"].as_array()?;
        spoken.iter().find_map(|spoken| match spoken.as_str()? {
            "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            _ => None,
        })
    }

    /// Where a model is asked over REST, below its server's base; by gRPC that is said in the request.
    pub fn path(self, model: &str) -> String {
        match self {
            Self::V1 => format!("v1/models/{model}:predict"),
            Self::V2 | Self::Grpc => format!("v2/models/{model}/infer"),
        }
    }

    /// How it is reached.
    pub fn way(self) -> reach::Protocol {
        match self {
            Self::V1 | Self::V2 => reach::Protocol::Rest,
            Self::Grpc => reach::Protocol::Grpc,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "REST v1",
            Self::V2 => "REST v2",
            Self::Grpc => "gRPC v2",
        })
    }
}

/// A header of the user's own. Its value may be a secret, and is shown by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    name: String,
    value: String,
}

impl Header {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn expose(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ({} bytes)", self.name, self.value.len())
    }
}

impl FromStr for Header {
    type Err = String;

    /// `Name: value`
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
        if name.trim().is_empty() {
            return Err("write it as 'Name: value'".to_owned());
        }
        Ok(Self {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
        })
    }
}

/// How a server is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// How long an answer may take, from the connection on.
    pub timeout: Duration,
    /// Certificates of authorities, as PEM, to be trusted beside those of this machine.
    pub authorities: Option<Vec<u8>>,
    /// Sent with every request.
    pub headers: Vec<Header>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            timeout: Duration::from_mins(1),
            authorities: None,
            headers: Vec::new(),
        }
    }
}

/// A model's server, connected.
#[derive(Debug)]
pub struct Server {
    model: String,
    is_graph: bool,
    speaks: Speaks,
}

#[derive(Debug)]
enum Speaks {
    V1(rest::Rest),
    V2(rest::Rest),
    Grpc(Box<grpc::Grpc>),
}

impl Server {
    /// Connects to the server of the model that it knows by this name: KServe calls it by its service's.
    ///
    /// # Errors
    /// Where it can't be reached.
    pub async fn connect(
        endpoint: &Endpoint,
        protocol: Protocol,
        model: &str,
        connection: &Connection,
    ) -> Result<Self, Error> {
        let speaks = match protocol {
            Protocol::V1 => Speaks::V1(rest::Rest::new(endpoint, connection).await?),
            Protocol::V2 => Speaks::V2(rest::Rest::new(endpoint, connection).await?),
            Protocol::Grpc => Speaks::Grpc(Box::new(grpc::Grpc::connect(endpoint, connection).await?)),
        };
        Ok(Self {
            model: model.to_owned(),
            is_graph: false,
            speaks,
        })
    }

    /// The same of a graph's router: it takes a request of its first service's protocol at its root, and says nothing of what that is.
    #[must_use]
    pub fn of_graph(self) -> Self {
        Self { is_graph: true, ..self }
    }

    /// What the model takes by its server's word. None where it doesn't say, as over the first protocol nobody does.
    ///
    /// # Errors
    /// Where the server can't be reached.
    pub async fn expected(&mut self) -> Result<Option<Expected>, Error> {
        let metadata = match &mut self.speaks {
            _ if self.is_graph => None,
            Speaks::V1(_) => None,
            Speaks::V2(rest) => rest.metadata(&self.model).await?,
            Speaks::Grpc(grpc) => grpc.metadata(&self.model).await?,
        };
        Ok(metadata.as_ref().and_then(Expected::of_metadata))
    }

    /// Whether the server says that its model can answer.
    ///
    /// # Errors
    /// Where it can't be reached, or says nothing about it: [`Error::NoRoute`] where it isn't asked so, [`Error::NoModel`] where it has no model of this name.
    pub async fn is_ready(&mut self) -> Result<bool, Error> {
        let model = &self.model;
        match &mut self.speaks {
            Speaks::V1(rest) => rest.is_ready(model, &format!("v1/models/{model}")).await,
            Speaks::V2(rest) => rest.is_ready(model, &format!("v2/models/{model}/ready")).await,
            Speaks::Grpc(grpc) => grpc.is_ready(model).await,
        }
    }

    /// What would be sent, as JSON: gRPC has the same members as REST.
    ///
    /// # Errors
    /// Where the input isn't what the model expects.
    pub fn request(&self, input: &Input, expected: Option<&Expected>) -> Result<Value, InputError> {
        match &self.speaks {
            Speaks::V1(_) => v1(input, expected),
            Speaks::V2(_) | Speaks::Grpc(_) => Ok(v2(input, expected)?.json()),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// Where the input isn't what the model expects, or there is no answer.
    pub async fn ask(&mut self, input: &Input, expected: Option<&Expected>) -> Result<Answer, Error> {
        let model = &self.model;
        let path = |own: &str| if self.is_graph { String::new() } else { own.to_owned() };
        let body = match &mut self.speaks {
            Speaks::V1(rest) => {
                let path = path(&Protocol::V1.path(model));
                rest.ask(model, &path, &v1(input, expected)?).await?
            }
            Speaks::V2(rest) => {
                let path = path(&Protocol::V2.path(model));
                rest.ask(model, &path, &v2(input, expected)?.json()).await?
            }
            Speaks::Grpc(grpc) => {
                let request = wire::request(model, &v2(input, expected)?)?;
                grpc.ask(request).await?
            }
        };
        Ok(Answer { body })
    }
}

/// `host:port`
fn authority(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    format!("{host}:{}", base.port_or_known_default().unwrap_or(80))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::live::fixture::deployed;
    use crate::reach::tests::{Answers, cluster};

    #[test]
    fn the_protocol_is_the_services_own() {
        let of = |model: Value| Protocol::of(&deployed(json!({"spec": {"predictor": {"model": model}}})));
        assert_eq!(of(json!({"modelFormat": {"name": "sklearn"}})), Protocol::V1);
        assert_eq!(of(json!({"protocolVersion": "v2"})), Protocol::V2);
        assert_eq!(of(json!({"protocolVersion": "grpc-v2"})), Protocol::Grpc);
        assert_eq!(of(json!({"runtime": "kserve-mlserver"})), Protocol::V2);
        // As `--protocol grpc` and `--protocol both` write it.
        let ports = |names: &[&str]| {
            let ports: Vec<_> = names
                .iter()
                .map(|name| json!({"name": name, "containerPort": 9000}))
                .collect();
            of(json!({"protocolVersion": "v2", "ports": ports}))
        };
        assert_eq!(ports(&["h2c"]), Protocol::Grpc);
        assert_eq!(ports(&["http", "grpc"]), Protocol::V2);
        let own =
            json!({"spec": {"predictor": {"containers": [{"name": "kserve-container", "ports": [{"name": "h2c"}]}]}}});
        assert_eq!(Protocol::of(&deployed(own)), Protocol::Grpc);
    }

    #[tokio::test]
    async fn a_graph_takes_what_its_first_service_is_asked_by() {
        let own = "/apis/serving.kserve.io";
        let in_team = "namespaces/team-a";
        let of = async |model: Value, runtime: Option<Value>| {
            let service =
                json!({"metadata": {"name": "a", "namespace": "team-a"}, "spec": {"predictor": {"model": model}}});
            let mut answers = vec![(format!("{own}/v1beta1/{in_team}/inferenceservices/a"), service)];
            if let Some(spoken) = runtime {
                let runtime = json!({"metadata": {"name": "r"}, "spec": {"protocolVersions": spoken}});
                answers.push((format!("{own}/v1alpha1/clusterservingruntimes/r"), runtime));
            }
            let cluster = cluster(Answers::from(
                answers.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            ));
            let steps = json!([{"serviceName": "a"}]);
            let graph = json!({"kind": "InferenceGraph", "spec": {"nodes": {"root": {"routerType": "Sequence", "steps": steps}}}});
            Protocol::of_graph(&cluster, &deployed(graph)).await
        };
        let named = json!({"protocolVersion": "v2", "runtime": "r"});
        assert_eq!(
            of(named.clone(), Some(json!(["grpc-v2", "v1", "v2"]))).await,
            Protocol::V1
        );
        assert_eq!(of(named.clone(), Some(json!(["v2", "grpc-v2"]))).await, Protocol::V2);
        assert_eq!(
            of(named.clone(), Some(json!([]))).await,
            Protocol::V2,
            "the service's own"
        );
        assert_eq!(of(named, None).await, Protocol::V2);
        assert_eq!(
            of(json!({"modelFormat": {"name": "sklearn"}}), None).await,
            Protocol::V1
        );
    }

    #[test]
    fn a_header_hides_its_value() {
        let header: Header = "Authorization: Bearer secret".parse().unwrap();
        assert_eq!(format!("{header:?}"), "Authorization: (13 bytes)");
        assert!("nonsense".parse::<Header>().is_err() && ": x".parse::<Header>().is_err());
    }
}
