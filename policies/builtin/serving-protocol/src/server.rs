//! On which ports a model server listens.
//!
//! Source: `config/runtimes` and `python/kserve/kserve/model_server.py` of KServe 0.20, and the defaults in the servers' own documentation (MLServer's
//! settings, Triton's `--http-port` and `--grpc-port`, TensorFlow Serving's `--rest_api_port` and `--port`, `OpenVINO`'s `--rest_port` and `--port`).

use tidewaiter_policy::core::containers::{Container, Said, starts_another};

/// The ports of a server: for HTTP, and for gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) rest: u16,
    pub(crate) grpc: u16,
}

/// How a server is told its ports, and where it listens untold.
struct Known {
    repository: &'static str,
    by: By,
    rest: (&'static str, u16),
    grpc: (&'static str, u16),
    /// As KServe's own runtime tells it.
    in_kserve: Ports,
}

#[derive(Clone, Copy)]
enum By {
    Argument,
    Variable,
}

/// A server, with where it listens untold, and where KServe's own runtime tells it to.
const fn known(
    repository: &'static str,
    by: By,
    rest: (&'static str, u16),
    grpc: (&'static str, u16),
    in_kserve: u16,
) -> Known {
    Known {
        repository,
        by,
        rest,
        grpc,
        in_kserve: Ports {
            rest: 8080,
            grpc: in_kserve,
        },
    }
}

#[rustfmt::skip]
const KNOWN: [Known; 4] = [
    known("docker.io/seldonio/mlserver", By::Variable, ("MLSERVER_HTTP_PORT", 8080), ("MLSERVER_GRPC_PORT", 8081), 9000),
    known("nvcr.io/nvidia/tritonserver", By::Argument, ("http-port", 8000), ("grpc-port", 8001), 9000),
    known("docker.io/tensorflow/serving", By::Argument, ("rest_api_port", 8501), ("port", 8500), 9000),
    known("docker.io/openvino/model_server", By::Argument, ("rest_port", 0), ("port", 9178), 9000),
];

/// The servers on KServe's Python library.
const KSERVES: Known = known(
    "docker.io/kserve/",
    By::Argument,
    ("http_port", 8080),
    ("grpc_port", 8081),
    8081,
);

/// Those of KServe's servers that are written with it.
const PYTHON: [&str; 7] = [
    "sklearnserver",
    "xgbserver",
    "lgbserver",
    "pmmlserver",
    "paddleserver",
    "predictiveserver",
    "huggingfaceserver",
];

/// The ports of the server of this image, told by the object's container and, after it, by the runtime's. None where nobody can say.
///
/// KServe puts the object's arguments behind the runtime's (`MergeRuntimeContainers`), and its variables over them.
pub(crate) fn ports(repository: &str, own: &Container, runtime: Option<&Container>) -> Option<Ports> {
    let is_python = repository
        .strip_prefix(KSERVES.repository)
        .is_some_and(|name| PYTHON.contains(&name));
    let known = if is_python {
        &KSERVES
    } else {
        KNOWN.iter().find(|known| known.repository == repository)?
    };
    // Another program than the image's own may listen anywhere.
    if starts_another(repository, own, runtime) || (is_python && own.argument("enable_grpc").is_some()) {
        return None;
    }
    let of = |(name, untold): (&str, u16), in_kserve: u16| {
        let said = |container: &Container| match known.by {
            By::Argument => container.argument_number(name),
            By::Variable => container.variable_number(name),
        };
        match (said(own), runtime.map(said)) {
            (Said::Number(port), _) | (Said::Nothing, Some(Said::Number(port))) => Some(port),
            (Said::Nothing, Some(Said::Nothing)) => Some(untold).filter(|port| *port > 0),
            (Said::Nothing, None) => Some(in_kserve),
            (Said::Unknown, _) | (Said::Nothing, Some(Said::Unknown)) => None,
        }
    };
    Some(Ports {
        rest: of(known.rest, known.in_kserve.rest)?,
        grpc: of(known.grpc, known.in_kserve.grpc)?,
    })
}
