//! HTTP to registries and web servers: whom to trust, how long to wait, how much to read.

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use url::Url;

use crate::digest::Hasher;
use crate::settings::{Host, Limits, Progress, Watch};
use crate::{Digest, Error};

/// A registry answers with a redirect to where it keeps its blobs, which may redirect once more.
const REDIRECTS: usize = 5;
/// More of an error's body than this is not read.
const ERROR_BODY: u64 = 16 << 10;

/// A client for each way of trusting.
pub(crate) struct Clients {
    hosts: HashMap<String, (Host, Option<reqwest::Client>)>,
    /// Trusts what the machine trusts. Made when it is needed: a machine without any authority may have no need of one.
    others: OnceLock<Result<reqwest::Client, String>>,
    /// For HTTP without TLS, which needs no authority.
    plain: reqwest::Client,
    pub(crate) limits: Limits,
}

impl Clients {
    pub(crate) fn new(hosts: Vec<Host>, limits: Limits) -> Result<Self, Error> {
        let mut with_hosts = HashMap::new();
        for host in hosts {
            let client = host.ca.as_deref().map(|ca| trusting(ca, limits)).transpose();
            let client = client.map_err(|reason| Error::Settings(format!("host {}: ca: {reason}", host.host)))?;
            let name = host.host.clone();
            if with_hosts.insert(name.clone(), (host, client)).is_some() {
                return Err(Error::Settings(format!(
                    "host {name}: is listed twice; put all of it into one entry"
                )));
            }
        }
        Ok(Self {
            hosts: with_hosts,
            others: OnceLock::new(),
            plain: built(builder(limits).tls_certs_only([])).map_err(Error::Settings)?,
            limits,
        })
    }

    pub(crate) fn settings(&self, host: &str) -> Option<&Host> {
        self.hosts.get(host).map(|(settings, _)| settings)
    }

    pub(crate) fn of(&self, host: &str) -> Result<&reqwest::Client, Error> {
        if self.scheme(host) == "http" {
            return Ok(&self.plain);
        }
        if let Some((_, Some(client))) = self.hosts.get(host) {
            return Ok(client);
        }
        let others = self.others.get_or_init(|| built(builder(self.limits)));
        others
            .as_ref()
            .map_err(|reason| Error::Settings(format!("{host} can't be asked: {reason}")))
    }

    /// `http` on the loopback and where the settings say so, else `https`.
    pub(crate) fn scheme(&self, host: &str) -> &'static str {
        let settings = self.settings(host);
        let plain = settings.is_some_and(|settings| settings.plain_http);
        let encrypted = settings.is_some_and(|settings| settings.ca.is_some());
        if plain || (is_loopback(host) && !encrypted) {
            "http"
        } else {
            "https"
        }
    }
}

/// Trusts these certificates beside those that the machine trusts, if it trusts any.
pub(crate) fn trusting(ca: &str, limits: Limits) -> Result<reqwest::Client, String> {
    let certificates = || reqwest::Certificate::from_pem_bundle(ca.as_bytes()).unwrap_or_default();
    if certificates().is_empty() {
        return Err("holds no certificate in PEM form".to_owned());
    }
    built(builder(limits).tls_certs_merge(certificates()))
        .or_else(|_| built(builder(limits).tls_certs_only(certificates())))
}

/// Without a default provider reqwest panics, in libraries that make a client of their own too. Where another part of the program installed one, that one is as good.
pub(crate) fn have_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(crate) fn builder(limits: Limits) -> reqwest::ClientBuilder {
    have_provider();
    reqwest::Client::builder()
        .user_agent(concat!("tidewaiter/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .read_timeout(limits.silence)
        .timeout(limits.transfer)
        // reqwest leaves out `Authorization` where a redirect leads to another host.
        .redirect(Policy::custom(|attempt| {
            let first = attempt.previous().first();
            let left_tls = first.is_some_and(|first| first.scheme() == "https") && attempt.url().scheme() != "https";
            if left_tls {
                attempt.error("a redirect leads from https to http")
            } else if attempt.previous().len() > REDIRECTS {
                attempt.error("it redirects too often")
            } else {
                attempt.follow()
            }
        }))
}

pub(crate) fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
    builder
        .build()
        .map_err(|error| format!("no TLS client can be made: {}", Error::innermost(&error)))
}

/// Whether it is this machine, by name or by address.
pub(crate) fn is_loopback(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Host with port, as a message names it.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What content has to be.
#[derive(Clone, Copy, Default)]
pub(crate) struct Expected<'a> {
    pub(crate) size: Option<u64>,
    pub(crate) digest: Option<&'a Digest>,
}

/// The whole of an answer's body: no more than `limit`, and what it was expected to be. It is given up as soon as it is more than it may be.
pub(crate) async fn body(
    host: &str,
    what: &str,
    mut response: Response,
    limit: u64,
    expected: Expected<'_>,
    watch: Watch<'_>,
) -> Result<Bytes, Error> {
    let lies = |said: String, found: String| Error::Lies {
        what: format!("{what} of {host}"),
        said,
        found,
    };
    let too_large = || Error::TooLarge {
        what: format!("{what} of {host}"),
        limit,
    };
    let most = expected.size.unwrap_or(limit);
    if most > limit || response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    if let (Some(size), Some(length)) = (expected.size, response.content_length())
        && size != length
    {
        return Err(lies(format!("{size} bytes"), format!("{length} bytes")));
    }
    let mut hasher = Hasher::default();
    let mut body = BytesMut::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| Error::no_answer(host, &error))?;
        let Some(chunk) = chunk else { break };
        let length = body.len() as u64 + chunk.len() as u64;
        if length > most {
            return Err(match expected.size {
                Some(size) => lies(format!("{size} bytes"), "more".to_owned()),
                None => too_large(),
            });
        }
        hasher.update(&chunk);
        body.extend_from_slice(&chunk);
        watch(Progress::Pulled(length, most));
    }
    if let Some(size) = expected.size
        && size != body.len() as u64
    {
        return Err(lies(format!("{size} bytes"), format!("{} bytes", body.len())));
    }
    let found = hasher.finish();
    match expected.digest {
        Some(digest) if *digest != found => Err(lies(digest.to_string(), found.to_string())),
        _ => Ok(body.freeze()),
    }
}

/// The answer, if it is a good one.
pub(crate) async fn good(host: &str, what: &str, response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = body(
        host,
        what,
        response,
        ERROR_BODY,
        Expected::default(),
        &crate::settings::nobody,
    )
    .await;
    let said = text.map(|text| words(&text)).unwrap_or_default();
    let said = if said.is_empty() {
        status.to_string()
    } else {
        format!("{status}: {said}")
    };
    let (host, what) = (host.to_owned(), what.to_owned());
    Err(match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Error::Missing { host, what },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Refused {
            host,
            what,
            reason: format!("{said}; check the credentials for it, and that the name is right"),
        },
        _ if status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT =>
        {
            Error::Unreachable { host, reason: said }
        }
        _ => Error::Refused {
            host,
            what,
            reason: said,
        },
    })
}

/// What a registry says in its errors; of any other body its first line, if it is short.
fn words(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(|json| {
        let first = &json["errors"][0];
        let message = first["message"].as_str().or_else(|| json["message"].as_str());
        Some(match (first["code"].as_str(), message) {
            (Some(code), Some(message)) if !message.is_empty() => format!("{message} ({code})"),
            (Some(code), _) => code.to_owned(),
            (None, message) => message?.to_owned(),
        })
    });
    let said = said.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        let line = text.lines().next().unwrap_or_default().trim();
        if line.starts_with('<') {
            String::new()
        } else {
            line.to_owned()
        }
    });
    said.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_spoken_to_this_machine_and_where_it_is_said() {
        let host = |name: &str, plain_http, ca: Option<&str>| Host {
            host: name.into(),
            plain_http,
            ca: ca.map(str::to_owned),
            mirrors: Vec::new(),
        };
        let clients = Clients::new(vec![host("plain.example:5000", true, None)], Limits::default()).unwrap();
        for (name, scheme) in [
            ("localhost:5000", "http"),
            ("127.0.0.9", "http"),
            ("[::1]:5000", "http"),
            ("plain.example:5000", "http"),
            ("plain.example", "https"),
            ("localhost.example", "https"),
            ("ghcr.io", "https"),
        ] {
            assert_eq!(clients.scheme(name), scheme, "{name}");
        }
        let error = |hosts| Clients::new(hosts, Limits::default()).err().unwrap().to_string();
        assert_eq!(
            error(vec![host("a.example", false, Some("x"))]),
            "host a.example: ca: holds no certificate in PEM form"
        );
        assert!(error(vec![host("a.example", true, None), host("a.example", false, None)]).contains("listed twice"));
    }

    #[test]
    fn what_a_registry_says_is_told_in_a_line() {
        for (body, expected) in [
            (r#"{"errors": [{"code": "DENIED", "message": "no"}]}"#, "no (DENIED)"),
            (r#"{"errors": [{"code": "DENIED"}]}"#, "DENIED"),
            ("<html>", ""),
            ("gone\nmore", "gone"),
            ("\u{1b}[2Jgone", "[2Jgone"),
        ] {
            assert_eq!(words(body.as_bytes()), expected);
        }
    }
}
