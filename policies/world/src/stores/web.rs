//! Stores that are plain web servers, and Hugging Face's hub.

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use tidewaiter_engine::world::{Listing, ObjectInfo};
use url::Url;

use super::client::Depth;
use super::failure::{Failure, classify};
use super::http::{Transport, refused};
use super::place::Place;

/// A hub answers with a redirect to where it keeps its large files, which may redirect once more.
const REDIRECTS: usize = 4;
/// A page of a hub's listing (1,000 entries) is some 300 KB.
const LISTING: usize = 4 * 1024 * 1024;

pub(crate) struct Web {
    transport: Transport,
    /// The hub's endpoint; none for a plain web server.
    hub: Option<Url>,
    /// Credentials. Sent to the host they are for, and to no host that it redirects to.
    headers: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
}

impl Web {
    pub(crate) fn new(transport: Transport, hub: Option<Url>, headers: Vec<(String, String)>) -> Self {
        Self {
            transport,
            hub,
            headers,
        }
    }

    pub(crate) async fn stat(&self, place: &Place) -> Result<u64, Failure> {
        let response = self.send(Method::HEAD, self.url(place)?, None).await?;
        // reqwest's own accessor speaks of the body it got, which a HEAD has none of.
        let length = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok());
        length.ok_or_else(|| Failure::Unserved(format!("{} doesn't say how large the file is", host(response.url()))))
    }

    pub(super) async fn list(&self, place: &Place, limit: usize, depth: Depth) -> Result<Listing, Failure> {
        let (
            Some(hub),
            Place::Hub {
                repository,
                revision,
                key,
            },
        ) = (&self.hub, place)
        else {
            return Err(Failure::Unserved("a web server can't be listed".to_owned()));
        };
        let mut url = extended(
            hub,
            ["api", "models"]
                .into_iter()
                .chain(repository.split('/'))
                .chain(["tree", revision])
                .chain(segments(key)),
        )?;
        if depth == Depth::All {
            url.query_pairs_mut().append_pair("recursive", "true");
        }
        let mut response = self.send(Method::GET, url, None).await?;
        let more = response
            .headers()
            .get("link")
            .and_then(|link| link.to_str().ok())
            .is_some_and(|link| link.contains("rel=\"next\""));
        let text = body(&mut response, 0, LISTING).await?;
        let entries: Vec<Entry> = serde_json::from_slice(&text)
            .map_err(|_| Failure::unreachable(format!("{} answers with a listing that is none", host(hub))))?;
        let prefix = if key.is_empty() {
            String::new()
        } else {
            format!("{key}/")
        };
        let mut objects: Vec<_> = entries
            .into_iter()
            .filter_map(|entry| {
                let path = entry.path.strip_prefix(&prefix)?;
                match entry.r#type.as_str() {
                    "file" => Some(ObjectInfo {
                        path: path.to_owned(),
                        size: entry.size,
                    }),
                    "directory" if depth == Depth::One => Some(ObjectInfo {
                        path: format!("{path}/"),
                        size: 0,
                    }),
                    _ => None,
                }
            })
            .collect();
        objects.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let truncated = more || objects.len() > limit;
        objects.truncate(limit);
        Ok(Listing { objects, truncated })
    }

    pub(crate) async fn read(&self, place: &Place, offset: u64, end: u64) -> Result<Bytes, Failure> {
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let range = format!("bytes={offset}-{}", end - 1);
        let mut response = self.send(Method::GET, self.url(place)?, Some(&range)).await?;
        match response.status() {
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Bytes::new()),
            StatusCode::PARTIAL_CONTENT => body(&mut response, 0, length).await,
            // A server that knows no ranges sends all of it; what lies far inside isn't worth the way there.
            _ if offset > LISTING as u64 => Err(Failure::Unserved(format!(
                "{} can't send a part of a file",
                host(response.url())
            ))),
            _ => body(&mut response, usize::try_from(offset).unwrap_or(usize::MAX), length).await,
        }
    }

    fn url(&self, place: &Place) -> Result<Url, Failure> {
        match (&self.hub, place) {
            (
                Some(hub),
                Place::Hub {
                    repository,
                    revision,
                    key,
                },
            ) => extended(
                hub,
                repository.split('/').chain(["resolve", revision]).chain(segments(key)),
            ),
            (None, Place::Url(url)) => Ok(url.clone()),
            _ => Err(Failure::Unserved("the backend's type doesn't fit this URI".to_owned())),
        }
    }

    async fn send(&self, method: Method, url: Url, range: Option<&str>) -> Result<Response, Failure> {
        let home = url.origin();
        let mut url = url;
        for _ in 0..=REDIRECTS {
            let mut request = self
                .transport
                .0
                .request(method.clone(), url.clone())
                .header(ACCEPT_ENCODING, "identity");
            if let Some(range) = range {
                request = request.header(RANGE, range);
            }
            if url.origin() == home {
                for (name, value) in &self.headers {
                    request = request.header(name, value);
                }
            }
            let response = request.send().await.map_err(|error| classify(&error, &host(&url)))?;
            let status = response.status();
            if status.is_success() || (status == StatusCode::RANGE_NOT_SATISFIABLE && range.is_some()) {
                return Ok(response);
            }
            let next = if status.is_redirection() {
                location(&response)
            } else {
                None
            };
            let Some(next) = next else {
                let answer = refused(host(&url), status.as_u16(), response.headers(), b"");
                return Err(answer.failure());
            };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Failure::Forbidden(format!(
                    "{} redirects to a place without TLS",
                    host(&url)
                )));
            }
            url = next;
        }
        Err(Failure::Forbidden(format!("{} redirects again and again", host(&url))))
    }
}

fn location(response: &Response) -> Option<Url> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    response
        .url()
        .join(location)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

fn extended<'a>(base: &Url, segments: impl Iterator<Item = &'a str>) -> Result<Url, Failure> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| Failure::Unserved("the backend's endpoint is no web address".to_owned()))?
        .pop_if_empty()
        .extend(segments);
    Ok(url)
}

fn segments(key: &str) -> impl Iterator<Item = &str> {
    key.split('/').filter(|segment| !segment.is_empty())
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the store");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The body's bytes from `skip` on, at most `length` of them. What follows is not read.
async fn body(response: &mut Response, skip: usize, length: usize) -> Result<Bytes, Failure> {
    let host = host(response.url());
    let wanted = skip.saturating_add(length);
    let mut read = BytesMut::new();
    while read.len() < wanted {
        match response.chunk().await {
            Ok(Some(chunk)) => read.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(classify(&error, &host)),
        }
    }
    read.truncate(wanted);
    let skip = skip.min(read.len());
    Ok(read.freeze().slice(skip..))
}
