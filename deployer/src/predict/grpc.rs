//! The Open Inference Protocol over gRPC.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Channel, Endpoint as Transport};
use tonic::{Code, Status};

use super::protocol::grpc_inference_service_client::GrpcInferenceServiceClient;
use super::protocol::{ModelInferRequest, ModelMetadataRequest, ModelReadyRequest};
use super::{Connection, Error, tls, wire};
use crate::proxy::Proxy;
use crate::reach::{Endpoint, Way};

/// A large tensor is no attack: the user asked for it.
const MESSAGE: usize = 1 << 30;

/// Asks a model's server by gRPC.
#[derive(Debug)]
pub(super) struct Grpc {
    client: GrpcInferenceServiceClient<Channel>,
    headers: Vec<(AsciiMetadataKey, AsciiMetadataValue)>,
    url: String,
    timeout: Duration,
}

/// What bytes go over.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Grpc {
    pub(super) async fn connect(endpoint: &Endpoint, connection: &Connection) -> Result<Self, Error> {
        let url = endpoint.base.to_string();
        let unreachable = |reason: String| Error::Unreachable {
            url: url.clone(),
            reason,
        };
        let connect_to = super::authority(&endpoint.base);
        let is_tls = endpoint.base.scheme() == "https";
        let asked_for = endpoint.host.clone();
        let name = asked_for
            .clone()
            .or_else(|| endpoint.base.host_str().map(str::to_owned));
        let name = name.unwrap_or_default();
        let authority = asked_for.unwrap_or_else(|| connect_to.clone());
        let origin: Uri = format!("{}://{authority}", endpoint.base.scheme())
            .parse()
            .map_err(|_| unreachable(format!("`{authority}` is no host's name")))?;
        let config = if is_tls {
            Some(Arc::new(tls::config(connection.authorities.as_deref(), &[b"h2"])?))
        } else {
            None
        };
        // As for REST: a port of this machine, and what is in the cluster, no proxy of the company's has a way to.
        let proxy = match endpoint.way {
            Way::BaseUrl | Way::Own => {
                let target = endpoint.base.as_str().parse::<Uri>().ok();
                target.and_then(|target| Proxy::of_environment(&target, |name| std::env::var(name).ok()))
            }
            _ => None,
        };
        let connector = tower::service_fn(move |_: Uri| {
            let (connect_to, name, config) = (connect_to.clone(), name.clone(), config.clone());
            let proxy = proxy.clone();
            async move {
                let dialled = dial(&connect_to, &name, config, proxy.as_ref()).await;
                dialled.map(TokioIo::new)
            }
        });
        let transport = Transport::from(origin.clone())
            .connect_timeout(connection.timeout.min(Duration::from_secs(10)))
            .timeout(connection.timeout)
            .origin(origin)
            .user_agent(concat!("tidewaiter/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| unreachable(tls::innermost(&error)))?;
        let channel = transport.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| {
            let reason = tls::innermost(&error);
            if tls::is_about_certificates(&error) {
                return Error::Certificate {
                    url: url.clone(),
                    reason,
                };
            }
            unreachable(reason)
        })?;
        let client = GrpcInferenceServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        let mut headers = Vec::new();
        for header in &connection.headers {
            let wrong = |reason| Error::Header {
                name: header.name().to_owned(),
                reason,
            };
            let name = AsciiMetadataKey::from_bytes(header.name().to_ascii_lowercase().as_bytes());
            let name = name.map_err(|_| wrong("its name has a character that no header's has"))?;
            let mut value = AsciiMetadataValue::try_from(header.expose())
                .map_err(|_| wrong("its value has a character that no header's has"))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(Self {
            client,
            headers,
            url,
            timeout: connection.timeout,
        })
    }

    /// What the server says of a model, in the form that REST gives it; none where it says nothing.
    pub(super) async fn metadata(&mut self, model: &str) -> Result<Option<Value>, Error> {
        let request = self.with_headers(ModelMetadataRequest {
            name: model.to_owned(),
            version: String::new(),
        });
        let answer = match self.client.model_metadata(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let error = self.refusal(model, &status);
                return match error {
                    Error::Unreachable { .. } | Error::Timeout { .. } => Err(error),
                    _ => Ok(None),
                };
            }
        };
        let members = |parameters: HashMap<String, _>| -> serde_json::Map<String, Value> {
            parameters.into_iter().filter_map(wire::member).collect()
        };
        let tensor = |tensor: super::protocol::model_metadata_response::TensorMetadata| {
            let parameters = members(tensor.parameters);
            json!({"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "parameters": parameters})
        };
        let inputs: Vec<Value> = answer.inputs.into_iter().map(tensor).collect();
        // By these MLServer says of one column that it is a table.
        let parameters = members(answer.parameters);
        Ok(Some(
            json!({"name": answer.name, "inputs": inputs, "parameters": parameters}),
        ))
    }

    /// Whether the server says that a model can answer.
    pub(super) async fn is_ready(&mut self, model: &str) -> Result<bool, Error> {
        let request = self.with_headers(ModelReadyRequest {
            name: model.to_owned(),
            version: String::new(),
        });
        let answered = tokio::time::timeout(self.timeout, self.client.model_ready(request)).await;
        match answered.map_err(|_| self.too_late())? {
            Ok(answer) => Ok(answer.into_inner().ready),
            Err(status) => match self.refusal(model, &status) {
                Error::Refused { .. } | Error::NotReady { .. } => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Asks, and returns the answer in the form that REST gives it.
    pub(super) async fn ask(&mut self, request: ModelInferRequest) -> Result<Value, Error> {
        let model = request.model_name.clone();
        let request = self.with_headers(request);
        let answered = tokio::time::timeout(self.timeout, self.client.model_infer(request)).await;
        let answered = answered.map_err(|_| self.too_late())?;
        let answer = answered.map_err(|status| self.refusal(&model, &status))?;
        wire::answer(answer.into_inner())
    }

    fn with_headers<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        for (name, value) in &self.headers {
            request.metadata_mut().append(name.clone(), value.clone());
        }
        request
    }

    fn too_late(&self) -> Error {
        Error::Timeout {
            url: self.url.clone(),
            seconds: self.timeout.as_secs(),
        }
    }

    fn refusal(&self, model: &str, status: &Status) -> Error {
        let words = status.message().trim().to_owned();
        let url = self.url.clone();
        // Not the server's word, but the connection's.
        if let Some(cause) = std::error::Error::source(status)
            && matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Internal)
        {
            return Error::Unreachable {
                url,
                reason: tls::innermost(cause),
            };
        }
        match status.code() {
            Code::NotFound => Error::NoModel {
                model: model.to_owned(),
                words,
            },
            // A gateway that has no such host, or that doesn't speak HTTP/2, is told by tonic from its HTTP code.
            Code::Unimplemented => Error::NoRoute { url, words },
            // MLServer says it so.
            Code::Internal | Code::Unknown | Code::InvalidArgument if is_unknown_model(&words) => Error::NoModel {
                model: model.to_owned(),
                words,
            },
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Error::Refused { words },
            Code::Unauthenticated | Code::PermissionDenied => Error::NotAllowed { url, words },
            Code::DeadlineExceeded => self.too_late(),
            // So tonic says that its own time is up.
            Code::Cancelled if words.to_ascii_lowercase().contains("timeout") => self.too_late(),
            Code::Unavailable => Error::NotReady { words },
            code => Error::Failed {
                code: format!("{code:?}"),
                words,
            },
        }
    }
}

fn is_unknown_model(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("model") && (words.contains("not found") || words.contains("does not exist"))
}

async fn dial(
    connect_to: &str,
    name: &str,
    config: Option<Arc<rustls::ClientConfig>>,
    proxy: Option<&Proxy>,
) -> std::io::Result<Box<dyn Io>> {
    let stream = match proxy {
        Some(proxy) => by_proxy(connect_to, proxy).await?,
        None => TcpStream::connect(connect_to).await?,
    };
    stream.set_nodelay(true)?;
    let Some(config) = config else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(std::io::Error::other("it doesn't speak HTTP/2, which gRPC needs"));
    }
    Ok(Box::new(stream))
}

async fn by_proxy(connect_to: &str, proxy: &Proxy) -> std::io::Result<TcpStream> {
    if proxy.expose().scheme_str() != Some("http") {
        return Err(std::io::Error::other(format!(
            "gRPC goes by a proxy of http:// alone, and the environment names {proxy}: list the host in NO_PROXY, or ask by REST"
        )));
    }
    let mut tunnel = Tunnel::new(proxy.expose().clone(), HttpConnector::new());
    if let Some(authorization) = proxy.authorization() {
        tunnel = tunnel.with_auth(authorization);
    }
    let target: Uri = format!("http://{connect_to}").parse().map_err(std::io::Error::other)?;
    match tower::ServiceExt::oneshot(tunnel, target).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) => Err(std::io::Error::other(format!(
            "the proxy {proxy} has no way there ({})",
            tls::innermost(&error)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that answers so, and what it was asked.
    async fn asked(answer: &'static str) -> (std::io::Result<TcpStream>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                read.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(read).unwrap()
        });
        let proxy = Proxy::parse(&format!("http://eve:hunter%402@{address}")).unwrap();
        let stream = by_proxy("models.example:443", &proxy).await;
        (stream, asked.await.unwrap())
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_a_tunnel_with_the_password_that_it_takes() {
        let (stream, asked) = asked("HTTP/1.1 200 OK\r\n\r\n").await;
        stream.unwrap();
        assert!(asked.starts_with("CONNECT models.example:443 HTTP/1.1\r\n"), "{asked}");
        // `eve:hunter@2`
        assert!(
            asked.to_ascii_lowercase().contains("proxy-authorization: basic "),
            "{asked}"
        );
        assert!(asked.contains("ZXZlOmh1bnRlckAy"), "{asked}");
    }

    #[tokio::test]
    async fn a_proxy_that_has_no_way_is_named_without_its_password() {
        let (stream, _) = asked("HTTP/1.1 403 Forbidden\r\n\r\n").await;
        let told = stream.unwrap_err().to_string();
        assert!(
            told.starts_with("the proxy http://127.0.0.1:") && !told.contains("hunter"),
            "{told}"
        );
        let socks = Proxy::parse("socks5://eve:hunter2@proxy:1080").unwrap();
        let told = by_proxy("models.example:443", &socks).await.unwrap_err().to_string();
        assert!(told.contains("names socks5://proxy:1080: list"), "{told}");
    }
}
