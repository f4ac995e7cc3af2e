//! MLflow's tracking server, over its REST API.
//!
//! Source of the routes: `protos/service.proto`, `protos/model_registry.proto` and `server/__init__.py` of MLflow 2.22 and 3.17.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_RANGE, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tidewaiter_core::credentials::SecretValue;
use url::Url;

use super::Error;
use super::folder::Entry;

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// How long a file may take to its first byte: with a store as its artifact root, MLflow fetches all of it before it sends any.
const FIRST_BYTE: Duration = Duration::from_mins(15);
/// How long a file may stand still on its way.
const STILL: Duration = Duration::from_mins(1);
/// A transfer that came so many bytes further before it broke off again is worth all tries anew.
const FURTHER: u64 = 1 << 20;
/// Waits before a request is sent again, where the server is busy or fails.
#[cfg(not(test))]
const WAITS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
#[cfg(test)]
const WAITS: [Duration; 3] = [Duration::from_millis(1); 3];
/// An answer of the API is never longer.
const LONGEST: usize = 32 << 20;

/// Which server, and who asks. Debug shows no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// `https://mlflow.example/prefix`
    pub server: String,
    /// Who asks.
    pub auth: Auth,
    /// Certificate authorities in PEM that are trusted besides the machine's.
    pub ca_bundle: Option<Vec<u8>>,
    /// Whether any certificate is taken.
    pub insecure: bool,
    /// How long an answer may take. By default half a minute; a file a quarter of an hour to its first byte, and then a minute to each next one.
    pub timeout: Option<Duration>,
}

/// Who asks a tracking server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody.
    #[default]
    None,
    /// `MLFLOW_TRACKING_TOKEN`
    Token(SecretValue),
    /// `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`
    Basic {
        /// The user.
        user: String,
        /// Their password.
        password: SecretValue,
    },
}

impl Tracking {
    /// A server that asks nobody for a key.
    pub fn open(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            auth: Auth::None,
            ca_bundle: None,
            insecure: false,
            timeout: None,
        }
    }
}

/// A tracking server that can be asked.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// For files, which have limits of their own.
    patient: reqwest::Client,
    first_byte: Duration,
    still: Duration,
    base: Url,
    auth: Auth,
}

/// What the server said no with: its own code and words.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// `RESOURCE_DOES_NOT_EXIST`
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    /// Whether the server knows the route, and not the thing. For an unknown alias MLflow answers 400.
    pub(super) fn is_unknown(&self) -> bool {
        self.code == "RESOURCE_DOES_NOT_EXIST" || (self.status == 400 && self.message.contains("not found"))
    }
}

/// An answer of the API, or its refusal.
pub(super) type Said = Result<Value, Refusal>;

impl Client {
    pub(super) fn new(tracking: &Tracking) -> Result<Self, Error> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unusable = |reason: &str| Error::NoServer {
            server: shown(&tracking.server),
            reason: reason.to_owned(),
        };
        let mut base = Url::parse(&tracking.server).map_err(|_| unusable("its address is no URL"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(unusable("its address has to begin with http:// or https://"));
        }
        let mut auth = tracking.auth.clone();
        if !base.username().is_empty() {
            if auth == Auth::None {
                auth = Auth::Basic {
                    user: base.username().to_owned(),
                    password: base.password().unwrap_or_default().to_owned().into(),
                };
            }
            // So that no error shows it.
            let _ = base.set_username("");
            let _ = base.set_password(None);
        }
        let path = format!("{}/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        base.set_query(None);
        let mut certificates = Vec::new();
        if let Some(bundle) = &tracking.ca_bundle {
            let read = reqwest::Certificate::from_pem_bundle(bundle);
            certificates = read.map_err(|_| unusable("the CA bundle holds no certificate in PEM form"))?;
        }
        let client = || {
            let client = reqwest::Client::builder()
                .user_agent(concat!("tidewaiter/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .connect_timeout(CONNECT)
                .tls_danger_accept_invalid_certs(tracking.insecure);
            certificates
                .iter()
                .cloned()
                .fold(client, reqwest::ClientBuilder::add_root_certificate)
        };
        let http = client().read_timeout(tracking.timeout.unwrap_or(ANSWER)).build();
        Ok(Self {
            http: http.map_err(|error| unusable(&innermost(&error)))?,
            patient: client().build().map_err(|error| unusable(&innermost(&error)))?,
            first_byte: tracking.timeout.unwrap_or(FIRST_BYTE),
            still: tracking.timeout.unwrap_or(STILL),
            base,
            auth,
        })
    }

    /// As errors call it.
    pub(super) fn server(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// Whether a host of a URI is this server's.
    pub(super) fn is_host(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()),
            None => (host, None),
        };
        let port_fits = port.is_none() || port == self.base.port_or_known_default();
        self.base.host_str() == Some(name) && port_fits
    }

    /// GETs a method of the API: `registered-models/alias`.
    pub(super) async fn get(&self, method: &str, query: &[(&str, &str)]) -> Result<Said, Error> {
        let url = self.url(&format!("api/2.0/mlflow/{method}"), query)?;
        self.ask(Method::GET, url, None).await
    }

    /// POSTs to a method of the API.
    pub(super) async fn post(&self, method: &str, body: &Value) -> Result<Said, Error> {
        let url = self.url(&format!("api/2.0/mlflow/{method}"), &[])?;
        self.ask(Method::POST, url, Some(body.to_string())).await
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url, Error> {
        let mut url = self
            .base
            .join(path)
            .map_err(|_| self.not_mlflow("a path makes no URL"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn ask(&self, method: Method, url: Url, body: Option<String>) -> Result<Said, Error> {
        let what = format!("its answer to {}", url.path());
        let response = self.send(method, url, body, None, None).await?;
        let status = response.status();
        let bytes = self.body(response, 0, LONGEST as u64, &what).await?;
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        match (status.is_success(), value) {
            (true, Some(value)) => Ok(Ok(value)),
            (true, None) => Err(self.not_mlflow("its answer is no JSON")),
            (false, value) => {
                let word = |key: &str| {
                    let text = value.as_ref().and_then(|value| value[key].as_str());
                    tidewaiter_core::lines::cut(text.unwrap_or_default(), 200)
                };
                let (code, message) = (word("error_code"), word("message"));
                if code.is_empty() {
                    return Err(match status.as_u16() {
                        404 => self.not_mlflow("it doesn't know MLflow's API"),
                        code => self.failing(code, ""),
                    });
                }
                match status.as_u16() {
                    400..=499 => Ok(Err(Refusal {
                        status: status.as_u16(),
                        code,
                        message,
                    })),
                    status => Err(self.failing(status, &message)),
                }
            }
        }
    }

    /// Sends, and sends again where the server is busy. Refusals of who asks are errors already. A range without an end is all of the rest. For a `file` (as errors
    /// call it) that its store doesn't have, MLflow answers 500; and one that is long in coming isn't asked for again, nor more than once one that is cut off before
    /// it begins: the server would fetch it anew.
    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<String>,
        range: Option<(u64, Option<u64>)>,
        file: Option<&str>,
    ) -> Result<Response, Error> {
        let slow = |what: &str, reason: String| Error::Slow {
            server: self.server(),
            what: what.to_owned(),
            reason,
        };
        let http = if file.is_some() { &self.patient } else { &self.http };
        let mut waits = WAITS.into_iter();
        let mut cut = false;
        loop {
            let mut request = http.request(method.clone(), url.clone());
            if let Some(body) = &body {
                request = request.header("content-type", "application/json").body(body.clone());
            }
            if let Some((start, end)) = range {
                let last = end.map_or_else(String::new, |end| end.saturating_sub(1).to_string());
                request = request.header(RANGE, format!("bytes={start}-{last}"));
            }
            request = match &self.auth {
                Auth::None => request,
                Auth::Token(token) => request.bearer_auth(self.text(token)?),
                Auth::Basic { user, password } => request.basic_auth(user, Some(self.text(password)?)),
            };
            let answer = match file {
                None => request.send().await,
                Some(file) => match tokio::time::timeout(self.first_byte, request.send()).await {
                    Ok(answer) => answer,
                    Err(_) => return Err(slow(file, format!("it was waited for {}", told(self.first_byte)))),
                },
            };
            let again = match answer {
                Ok(response) => match response.status() {
                    StatusCode::UNAUTHORIZED => {
                        return Err(Error::Unauthorized {
                            server: self.server(),
                            asked_as: self.auth.to_string(),
                        });
                    }
                    StatusCode::FORBIDDEN => {
                        return Err(Error::Forbidden {
                            server: self.server(),
                            asked_as: self.auth.to_string(),
                            what: url.path().to_owned(),
                        });
                    }
                    status if status.is_redirection() => {
                        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                        let to = to.and_then(|to| Url::parse(to).ok());
                        let to =
                            to.map_or_else(|| "another address".to_owned(), |to| to.origin().ascii_serialization());
                        return Err(self.not_mlflow(&format!("it sends us to {to}")));
                    }
                    StatusCode::INTERNAL_SERVER_ERROR if file.is_some() => return Ok(response),
                    StatusCode::GATEWAY_TIMEOUT if file.is_some() => {
                        let reason = "a proxy before it waits no longer (504)".to_owned();
                        return Err(slow(file.unwrap_or_default(), reason));
                    }
                    status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => Ok(response),
                    _ => return Ok(response),
                },
                // It was asked for, and the server fetches it anew each time.
                Err(error) if file.is_some() && !error.is_connect() => {
                    if cut {
                        return Err(self.broken(file.unwrap_or_default(), 0, innermost(&error)));
                    }
                    cut = true;
                    Err(error)
                }
                Err(error) => Err(error),
            };
            match (waits.next(), again) {
                (Some(wait), _) => tokio::time::sleep(wait).await,
                (None, Ok(response)) => return Ok(response),
                (None, Err(error)) => {
                    return Err(Error::NoServer {
                        server: self.server(),
                        reason: innermost(&error),
                    });
                }
            }
        }
    }

    /// A body from an offset on, at most so many bytes; `what` it is in errors.
    async fn body(&self, mut response: Response, mut skip: u64, length: u64, what: &str) -> Result<Bytes, Error> {
        let mut read = BytesMut::new();
        loop {
            let chunk = self.chunk(&mut response).await;
            let chunk = chunk.map_err(|reason| self.broken(what, read.len() as u64, reason))?;
            let Some(mut chunk) = chunk else { break };
            let gone = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            let _ = chunk.split_to(gone);
            skip -= gone as u64;
            read.extend_from_slice(&chunk);
            if read.len() as u64 >= length {
                read.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                break;
            }
        }
        Ok(read.freeze())
    }

    /// The next piece of a body, or why it broke off.
    async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, String> {
        match tokio::time::timeout(self.still, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| innermost(&error)),
            Err(_) => Err(format!("nothing came for {}", told(self.still))),
        }
    }

    fn broken(&self, what: &str, bytes: u64, reason: String) -> Error {
        Error::Broken {
            server: self.server(),
            what: what.to_owned(),
            bytes,
            reason,
        }
    }

    fn text(&self, secret: &SecretValue) -> Result<String, Error> {
        String::from_utf8(secret.expose().to_vec()).map_err(|_| Error::Unauthorized {
            server: self.server(),
            asked_as: self.auth.to_string(),
        })
    }

    fn not_mlflow(&self, reason: &str) -> Error {
        Error::NotMlflow {
            server: self.server(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn failing(&self, status: u16, message: &str) -> Error {
        Error::Failing {
            server: self.server(),
            status,
            message: message.to_owned(),
        }
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("without credentials"),
            Self::Token(_) => f.write_str("with a token"),
            Self::Basic { user, .. } => write!(f, "as {user}"),
        }
    }
}

/// Artifacts that a tracking server hands out.
#[derive(Clone)]
pub struct Artifacts {
    pub(super) client: Client,
    pub(super) of: Of,
}

/// Whose artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Of {
    /// Below the root of the proxy.
    Proxy { path: String },
    /// Of a run, below a path.
    Run { id: String, path: String },
    /// Of a model that MLflow 3 logged.
    Logged { id: String },
    /// Of a registered version: the server reads files of it, and lists none.
    Version { name: String, version: String },
}

/// A part of a file on its way.
pub(super) enum Piece {
    /// What comes next.
    Next(Bytes),
    /// The file begins anew: what came so far is none of it.
    Again,
}

/// What a registered version may have beside its `MLmodel`.
const BESIDE: [&str; 5] = [
    "MLmodel",
    "requirements.txt",
    "python_env.yaml",
    "input_example.json",
    "serving_input_example.json",
];

impl Artifacts {
    pub(super) fn told(&self) -> String {
        match &self.of {
            Of::Proxy { path } => format!("mlflow-artifacts:/{path}"),
            Of::Run { id, path } => format!("runs:/{id}/{path}"),
            Of::Logged { id } => format!("models:/{id}"),
            Of::Version { name, version } => format!("models:/{name}/{version}"),
        }
    }

    /// Whether every file can be had from here.
    pub(super) fn is_whole(&self) -> bool {
        !matches!(self.of, Of::Version { .. })
    }

    pub(super) async fn list(&self, limit: usize) -> Result<Vec<Entry>, Error> {
        if let Of::Version { .. } = self.of {
            let mut entries = Vec::new();
            for name in BESIDE {
                if let Some(bytes) = self.read_if_there(name, 0, LONGEST as u64).await? {
                    entries.push(Entry {
                        path: name.to_owned(),
                        bytes: bytes.len() as u64,
                    });
                }
            }
            return Ok(entries);
        }
        let mut entries = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for (path, size) in self.children(&folder).await? {
                match size {
                    Some(bytes) => entries.push(Entry { path, bytes }),
                    None => folders.push(path),
                }
            }
            if entries.len() + folders.len() > limit {
                return Err(Error::TooMany {
                    place: self.told(),
                    limit,
                });
            }
        }
        Ok(entries)
    }

    /// What is directly below a folder: paths below the model, and sizes of files.
    async fn children(&self, folder: &str) -> Result<Vec<(String, Option<u64>)>, Error> {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let (path, query, root) = match &self.of {
                Of::Proxy { path } => {
                    let query = vec![("path", joined(path, folder))];
                    ("api/2.0/mlflow-artifacts/artifacts".to_owned(), query, String::new())
                }
                Of::Run { id, path } => {
                    let query = vec![("run_id", id.clone()), ("path", joined(path, folder))];
                    ("api/2.0/mlflow/artifacts/list".to_owned(), query, path.clone())
                }
                Of::Logged { id } => {
                    let path = format!("api/2.0/mlflow/logged-models/{id}/artifacts/directories");
                    let query = vec![("artifact_directory_path", folder.to_owned())];
                    (path, query, String::new())
                }
                Of::Version { .. } => return Ok(found),
            };
            let mut query: Vec<_> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
            query.retain(|(_, value)| !value.is_empty());
            if !token.is_empty() {
                query.push(("page_token", &token));
            }
            let url = self.client.url(&path, &query)?;
            let answer = match self.client.ask(Method::GET, url, None).await? {
                Ok(answer) => answer,
                Err(refusal) if refusal.is_unknown() => return Ok(found),
                Err(refusal) => return Err(self.client.failing(refusal.status, &refusal.message)),
            };
            for file in answer["files"].as_array().into_iter().flatten() {
                let Some(path) = file["path"].as_str() else { continue };
                // The proxy names what is below the folder, the others what is below the root.
                let path = match &self.of {
                    Of::Proxy { .. } => joined(folder, path),
                    _ => path
                        .strip_prefix(root.as_str())
                        .unwrap_or(path)
                        .trim_start_matches('/')
                        .to_owned(),
                };
                if path.is_empty() || path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
                    continue;
                }
                let is_folder = file["is_dir"].as_bool().unwrap_or(false);
                let size = &file["file_size"];
                // Protobuf writes 64 bits as text.
                let size = size.as_u64().or_else(|| size.as_str()?.parse().ok());
                found.push((path, (!is_folder).then(|| size.unwrap_or(0))));
            }
            match answer["next_page_token"].as_str() {
                Some(next) if !next.is_empty() && next != token => next.clone_into(&mut token),
                _ => return Ok(found),
            }
        }
    }

    pub(super) async fn read(&self, path: &str, offset: u64, length: u64) -> Result<Bytes, Error> {
        let read = self.read_if_there(path, offset, length).await?;
        read.ok_or_else(|| Error::Nothing {
            place: format!("{}/{path}", self.told()),
        })
    }

    /// None where the server says that there is no such file.
    async fn read_if_there(&self, path: &str, offset: u64, length: u64) -> Result<Option<Bytes>, Error> {
        let range = (offset, Some(offset.saturating_add(length)));
        let response = self.open(path, Some(range)).await?;
        let Some(response) = response else { return Ok(None) };
        // Few servers know ranges; what stands far behind is not worth reading everything before it.
        let skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => 0,
            _ if offset > LONGEST as u64 => return Ok(Some(Bytes::new())),
            _ => offset,
        };
        let what = self.file(path);
        self.client.body(response, skip, length, &what).await.map(Some)
    }

    /// As errors call a file.
    fn file(&self, path: &str) -> String {
        format!("{}/{path}", self.told())
    }

    /// A file's whole content, piece by piece; `size` is how many bytes it has, 0 where nobody knows. Where it breaks off it goes on from there, and from a server
    /// that knows no ranges it comes anew; a few times, unless much comes each time.
    pub(super) async fn copy(
        &self,
        path: &str,
        size: u64,
        put: &mut dyn FnMut(Piece) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut here, mut furthest, mut tries) = (0_u64, 0_u64, 0);
        loop {
            let from = (here > 0).then_some((here, None));
            let response = match self.open(path, from).await? {
                Some(response) if from.is_none() || goes_on(&response, here) => Some(response),
                None if from.is_none() => {
                    return Err(Error::Nothing { place: self.file(path) });
                }
                other => {
                    put(Piece::Again)?;
                    here = 0;
                    other.filter(|response| response.status() == StatusCode::OK)
                }
            };
            let reason = if let Some(mut response) = response {
                loop {
                    match self.client.chunk(&mut response).await {
                        Ok(Some(chunk)) => {
                            here += chunk.len() as u64;
                            put(Piece::Next(chunk))?;
                        }
                        Ok(None) if here >= size => return Ok(()),
                        Ok(None) => break "it ended too early".to_owned(),
                        Err(reason) => break reason,
                    }
                }
            } else {
                "it can't go on where it was".to_owned()
            };
            if here >= furthest + FURTHER {
                (furthest, tries) = (here, 0);
            }
            let Some(wait) = WAITS.get(tries) else {
                return Err(self.client.broken(&self.file(path), here, reason));
            };
            tries += 1;
            tokio::time::sleep(*wait).await;
        }
    }

    async fn open(&self, path: &str, range: Option<(u64, Option<u64>)>) -> Result<Option<Response>, Error> {
        let url = match &self.of {
            Of::Proxy { path: root } => {
                let mut url = self.client.url("api/2.0/mlflow-artifacts/artifacts", &[])?;
                if let Ok(mut segments) = url.path_segments_mut() {
                    segments.extend(root.split('/')).extend(path.split('/'));
                }
                url
            }
            Of::Run { id, path: root } => {
                let path = joined(root, path);
                self.client.url("get-artifact", &[("run_id", id), ("path", &path)])?
            }
            Of::Logged { id } => {
                let route = format!("ajax-api/2.0/mlflow/logged-models/{id}/artifacts/files");
                self.client.url(&route, &[("artifact_file_path", path)])?
            }
            Of::Version { name, version } => self.client.url(
                "model-versions/get-artifact",
                &[("name", name), ("version", version), ("path", path)],
            )?,
        };
        let response = self
            .client
            .send(Method::GET, url, None, range, Some(&self.file(path)))
            .await?;
        match response.status().as_u16() {
            200 | 206 => Ok(Some(response)),
            400 | 404 | 416 => Ok(None),
            500 if !matches!(self.of, Of::Proxy { .. }) => Ok(None),
            status => Err(self.client.failing(status, "")),
        }
    }
}

/// Whether an answer is the rest of a file from this byte on.
fn goes_on(response: &Response, from: u64) -> bool {
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

/// `15 minutes`, `90 seconds`
fn told(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 60 == 0 && seconds > 60 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}

/// Two paths with one slash between, of which either may be empty.
fn joined(folder: &str, path: &str) -> String {
    [folder, path]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/")
}

/// An address without a password.
fn shown(server: &str) -> String {
    match (server.split_once("://"), server.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => server.to_owned(),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
