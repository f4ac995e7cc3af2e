//! A registry on the loopback that keeps everything in memory, and can be told to misbehave.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part; a test may panic"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tidewaiter_registry::{About, Credentials, Digest, Host, Limits, Mirror, Reference, Registry};

/// How it misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Says nothing at all.
    Hangs,
    /// Answers each blob with other bytes of the same length.
    OtherBytes,
    /// Answers each blob with fewer bytes, by a length that says so.
    Shorter,
    /// Answers each blob without a length, and never ends.
    EndlessBlob,
    /// Answers each manifest without an end.
    EndlessManifest,
    /// Answers each manifest with another one.
    OtherManifest,
    /// Answers 500.
    Broken,
    /// Sends whoever asks for a blob to a place without TLS.
    Downgrades,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    #[default]
    Open,
    /// By user `tide` and password `water`.
    Basic,
    /// By a token for them, which the registry's own `/token` gives.
    Token,
}

#[derive(Default)]
pub struct Inside {
    pub blobs: HashMap<String, Bytes>,
    /// By repository and tag or digest: media type and content.
    pub manifests: HashMap<(String, String), (String, Bytes)>,
    pub fault: Fault,
    pub door: Door,
    /// Whether there is the referrers API.
    pub referrers: bool,
    /// Paths that were asked for, with their method.
    pub asked: Vec<String>,
}

pub struct Fake {
    pub host: String,
    pub inside: Arc<Mutex<Inside>>,
}

impl Fake {
    pub async fn start() -> Self {
        let inside = Arc::new(Mutex::new(Inside {
            referrers: true,
            ..Inside::default()
        }));
        let socket = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let host = socket.local_addr().unwrap().to_string();
        let router = Router::new()
            .fallback(answer)
            .with_state((host.clone(), Arc::clone(&inside)));
        tokio::spawn(async move { axum::serve(socket, router).await });
        Self { host, inside }
    }

    pub fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host).parse().unwrap()
    }

    pub fn set(&self, fault: Fault) {
        self.inside.lock().unwrap().fault = fault;
    }

    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inside.lock().unwrap().asked)
    }
}

async fn answer(State((host, inside)): State<(String, Arc<Mutex<Inside>>)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 30).await.unwrap();
    let (fault, door) = {
        let mut inside = inside.lock().unwrap();
        inside.asked.push(format!("{} {}", parts.method, parts.uri));
        (inside.fault, inside.door)
    };
    if fault == Fault::Hangs {
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
    if fault == Fault::Broken {
        return (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response();
    }
    let path = parts.uri.path();
    if path == "/token" {
        let known = parts
            .headers
            .get("authorization")
            .is_some_and(|header| header == "Basic dGlkZTp3YXRlcg==");
        return if known {
            r#"{"access_token": "pass", "expires_in": 300}"#.into_response()
        } else {
            (
                StatusCode::UNAUTHORIZED,
                r#"{"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}"#,
            )
                .into_response()
        };
    }
    if let Some(refusal) = refused(door, &host, &parts.headers) {
        return refusal;
    }
    let Some(path) = path.strip_prefix("/v2/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut inside = inside.lock().unwrap();
    route(
        &mut inside,
        &parts.method,
        path,
        parts.uri.query().unwrap_or_default(),
        &parts.headers,
        body,
    )
}

fn refused(door: Door, host: &str, headers: &HeaderMap) -> Option<Response> {
    let (wanted, challenge) = match door {
        Door::Open => return None,
        Door::Basic => ("Basic dGlkZTp3YXRlcg==", r#"Basic realm="registry""#.to_owned()),
        Door::Token => (
            "Bearer pass",
            format!(r#"Bearer realm="http://{host}/token",service="registry",scope="x""#),
        ),
    };
    let known = headers.get("authorization").is_some_and(|header| header == wanted);
    let refusal = || (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)], "").into_response();
    (!known).then(refusal)
}

fn route(inside: &mut Inside, method: &Method, path: &str, query: &str, headers: &HeaderMap, body: Bytes) -> Response {
    let missing = || {
        (
            StatusCode::NOT_FOUND,
            r#"{"errors": [{"code": "UNKNOWN", "message": "not here"}]}"#,
        )
            .into_response()
    };
    let endless = || {
        let chunks = futures_forever();
        Response::new(Body::from_stream(chunks))
    };
    if let Some((repository, version)) = path.split_once("/manifests/") {
        let key = (repository.to_owned(), version.to_owned());
        if method == Method::PUT {
            let kind = headers["content-type"].to_str().unwrap().to_owned();
            let digest = Digest::of(&body).to_string();
            let subject = serde_json::from_slice::<serde_json::Value>(&body).unwrap()["subject"]["digest"]
                .as_str()
                .map(str::to_owned);
            inside
                .manifests
                .insert((repository.to_owned(), digest), (kind.clone(), body.clone()));
            inside.manifests.insert(key, (kind, body));
            let mut response = StatusCode::CREATED.into_response();
            if let Some(subject) = subject.filter(|_| inside.referrers) {
                response.headers_mut().insert("oci-subject", subject.parse().unwrap());
            }
            return response;
        }
        return match (inside.manifests.get(&key), inside.fault) {
            (None, _) => missing(),
            (_, Fault::EndlessManifest) if method == Method::GET => endless(),
            (_, Fault::OtherManifest) if method == Method::GET => "{}".into_response(),
            (Some((kind, content)), _) => {
                let digest = Digest::of(content).to_string();
                (
                    [("content-type", kind.clone()), ("docker-content-digest", digest)],
                    content.clone(),
                )
                    .into_response()
            }
        };
    }
    if let Some((repository, subject)) = path.split_once("/referrers/") {
        if !inside.referrers {
            return missing();
        }
        let mut found = BTreeMap::new();
        for ((of, _), (kind, content)) in &inside.manifests {
            let manifest: serde_json::Value = serde_json::from_slice(content).unwrap();
            if of == repository && manifest["subject"]["digest"] == subject {
                let digest = Digest::of(content).to_string();
                let descriptor = serde_json::json!({
                    "mediaType": kind, "digest": digest, "size": content.len(),
                    "artifactType": manifest["artifactType"], "annotations": manifest["annotations"],
                });
                found.insert(digest, descriptor);
            }
        }
        let manifests: Vec<_> = found.into_values().collect();
        return serde_json::json!({"schemaVersion": 2, "manifests": manifests})
            .to_string()
            .into_response();
    }
    if path.ends_with("/blobs/uploads/") && method == Method::POST {
        return (StatusCode::ACCEPTED, [("location", format!("/v2/{path}one?state=x"))]).into_response();
    }
    if path.contains("/blobs/uploads/") && method == Method::PUT {
        let digest = query
            .split('&')
            .find_map(|part| part.strip_prefix("digest="))
            .unwrap()
            .replace("%3A", ":");
        assert_eq!(Digest::of(&body).as_str(), digest);
        assert!(query.contains("state=x"));
        inside.blobs.insert(digest, body);
        return StatusCode::CREATED.into_response();
    }
    let Some((_, digest)) = path.split_once("/blobs/") else {
        return missing();
    };
    let Some(content) = inside.blobs.get(digest) else {
        return missing();
    };
    match inside.fault {
        _ if method == Method::HEAD => StatusCode::OK.into_response(),
        Fault::OtherBytes => vec![b'x'; content.len()].into_response(),
        Fault::Shorter => content.slice(..content.len() - 1).into_response(),
        Fault::EndlessBlob => endless(),
        Fault::Downgrades => (StatusCode::TEMPORARY_REDIRECT, [("location", "ftp://127.0.0.1/")]).into_response(),
        _ => content.clone().into_response(),
    }
}

/// A body that never ends.
fn futures_forever() -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 4096])))
}

pub fn component(name: &str) -> Bytes {
    wat::parse_str(format!(
        r#"(component (import "tidewaiter:policy/{name}@0.1.0" (instance)))"#
    ))
    .unwrap()
    .into()
}

pub fn about() -> About {
    About {
        created: "2026-01-02T03:04:05Z".into(),
        author: None,
        annotations: BTreeMap::new(),
    }
}

/// Waits long, for a machine that has much else to do.
pub fn registry(hosts: Vec<Host>, credentials: Credentials) -> Registry {
    waiting(hosts, credentials, Duration::from_secs(30))
}

/// Waits no longer than this for an answer: for one that never comes.
pub fn waiting(hosts: Vec<Host>, credentials: Credentials, silence: Duration) -> Registry {
    let limits = Limits {
        component: 1 << 20,
        connect: Duration::from_secs(30),
        silence,
        transfer: Duration::from_mins(2),
    };
    Registry::new(hosts, credentials, limits).unwrap()
}

pub fn mirrored(host: &str, mirror: String, resolves_tags: bool) -> Host {
    Host {
        host: host.into(),
        mirrors: vec![Mirror {
            at: mirror,
            resolves_tags,
        }],
        ..Host::default()
    }
}
