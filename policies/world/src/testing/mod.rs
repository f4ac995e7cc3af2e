//! Servers for tests: a real S3 with signatures checked, and one that answers whatever a test wants.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub(crate) const ACCESS_KEY: &str = "reader";
pub(crate) const SECRET_KEY: &str = "correct-horse";

/// An S3 server on files in a temporary folder.
pub(crate) struct S3 {
    pub(crate) endpoint: String,
    /// The certificate to trust, where it speaks TLS.
    pub(crate) ca: Option<String>,
    files: tempfile::TempDir,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl S3 {
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    pub(crate) async fn start_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![made.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self::serve(Some((TlsAcceptor::from(Arc::new(config)), made.cert.pem()))).await
    }

    async fn serve(tls: Option<(TlsAcceptor, String)>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(files.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (acceptor, ca) = tls.unzip();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = {
            let requests = Arc::clone(&requests);
            tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                requests.fetch_add(1, Ordering::SeqCst);
                let service = service.clone();
                async move { hyper::service::Service::call(&service, request).await }
            })
        };
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, counted) = (acceptor.clone(), counted.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(socket) = acceptor.accept(socket).await {
                                connection(socket, counted).await;
                            }
                        }
                        None => connection(socket, counted).await,
                    }
                });
            }
        });
        Self {
            endpoint,
            ca,
            files,
            requests,
            task,
        }
    }

    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.files.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn connection<S>(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S)
where
    S: tower::Service<hyper::Request<hyper::body::Incoming>, Response = s3s::HttpResponse, Error = s3s::HttpError>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let _ = Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
        .await;
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that answers each request's head with a text, or with silence.
pub(crate) struct Answering {
    pub(crate) endpoint: String,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Answering {
    /// Answers with what `answer` makes of the request's head: an HTTP response, written out. None: never.
    pub(crate) async fn start(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, answer) = (Arc::clone(&connections), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).await.is_ok_and(|read| read == 1) {
                        head.push(byte[0]);
                    }
                    match answer(&String::from_utf8_lossy(&head)) {
                        Some(response) => drop(socket.write_all(response.as_bytes()).await),
                        None => Notify::new().notified().await,
                    }
                });
            }
        });
        Self {
            endpoint,
            connections,
            task,
        }
    }

    /// A server that takes connections and never says a word.
    pub(crate) async fn hung() -> Self {
        Self::start(|_| None).await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A whole HTTP response on a connection that ends with it.
pub(crate) fn response(status: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect::<Vec<_>>()
        .concat();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}
