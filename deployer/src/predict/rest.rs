//! REST, of both protocols.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use url::Url;

use super::{Connection, Error, tls};
use crate::reach::{Endpoint, Way};

/// An answer's words in an error: the rest is a page for people.
const WORDS: usize = 600;

/// Asks a model's server by REST.
#[derive(Debug)]
pub(super) struct Rest {
    client: Client,
    base: Url,
    headers: HeaderMap,
    timeout: Duration,
}

impl Rest {
    pub(super) async fn new(endpoint: &Endpoint, connection: &Connection) -> Result<Self, Error> {
        let mut builder = Client::builder()
            // Who sends somewhere else wants somebody to log in.
            .redirect(Policy::none())
            .connect_timeout(connection.timeout.min(Duration::from_secs(10)))
            .tls_backend_preconfigured(tls::config(connection.authorities.as_deref(), &[])?);
        // A proxy of the company's has no way to a port of this machine, or into the cluster.
        if !matches!(endpoint.way, Way::BaseUrl | Way::Own) {
            builder = builder.no_proxy();
        }
        let mut headers = HeaderMap::new();
        let mut base = endpoint.base.clone();
        if let Some(host) = &endpoint.host {
            headers.insert(HOST, value("Host", host)?);
            if base.scheme() == "https"
                && let Ok(resolved) = tokio::net::lookup_host(super::authority(&base)).await
            {
                // The certificate is that of the name, wherever its server is.
                let resolved: Vec<_> = resolved.collect();
                builder = builder.resolve_to_addrs(host, &resolved);
                let _ = base.set_host(Some(host));
            }
        }
        for header in &connection.headers {
            let name = HeaderName::try_from(header.name()).map_err(|_| Error::Header {
                name: header.name().to_owned(),
                reason: "its name has a character that no header's has",
            })?;
            headers.append(name, value(header.name(), header.expose())?);
        }
        let client = builder.build().map_err(|error| Error::Unreachable {
            url: base.to_string(),
            reason: tls::innermost(&error),
        })?;
        Ok(Self {
            client,
            base,
            headers,
            timeout: connection.timeout,
        })
    }

    /// What the server says of a model by the Open Inference Protocol; none where it says nothing.
    pub(super) async fn metadata(&self, model: &str) -> Result<Option<Value>, Error> {
        let url = self.url(&format!("v2/models/{model}"));
        let request = self.client.get(url.clone()).headers(self.headers.clone());
        let answer = request.timeout(self.timeout).send().await;
        let answer = answer.map_err(|error| self.failed(&url, &error))?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let body = answer.bytes().await.map_err(|error| self.failed(&url, &error))?;
        Ok(serde_json::from_slice(&body).ok())
    }

    /// Whether the server says that a model can answer.
    pub(super) async fn is_ready(&self, model: &str, path: &str) -> Result<bool, Error> {
        let url = self.url(path);
        let request = self.client.get(url.clone()).headers(self.headers.clone());
        let answer = request.timeout(self.timeout).send().await;
        let answer = answer.map_err(|error| self.failed(&url, &error))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| self.failed(&url, &error))?;
        readiness(model, &url, status, &bytes)
    }

    /// Sends a body, and returns the answer.
    pub(super) async fn ask(&self, model: &str, path: &str, body: &Value) -> Result<Value, Error> {
        let url = self.url(path);
        let body = serde_json::to_vec(body).map_err(|error| Error::Answer(error.to_string()))?;
        let request = self.client.post(url.clone()).headers(self.headers.clone());
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .timeout(self.timeout);
        let answer = request.send().await.map_err(|error| self.failed(&url, &error))?;
        let status = answer.status();
        let leads_to = answer
            .headers()
            .get(LOCATION)
            .and_then(|to| to.to_str().ok())
            .map(str::to_owned);
        let bytes = answer.bytes().await.map_err(|error| self.failed(&url, &error))?;
        if status.is_success() {
            return json(&bytes).ok_or_else(|| Error::Answer(words(&bytes)));
        }
        let words = leads_to.map_or_else(|| words(&bytes), |to| format!("it sends to {to}"));
        Err(refusal(model, &url, status, &bytes, words))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", url.path()));
        url
    }

    fn failed(&self, url: &Url, error: &reqwest::Error) -> Error {
        let (url, mut reason) = (url.to_string(), tls::innermost(error));
        if reason.contains("InvalidContentType") {
            "what answers there speaks no TLS: write http://".clone_into(&mut reason);
        }
        if error.is_timeout() {
            return Error::Timeout {
                url,
                seconds: self.timeout.as_secs(),
            };
        }
        if tls::is_about_certificates(error) {
            return Error::Certificate { url, reason };
        }
        Error::Unreachable { url, reason }
    }
}

fn value(name: &str, text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Header {
        name: name.to_owned(),
        reason: "its value has a character that no header's has",
    })?;
    value.set_sensitive(name != "Host");
    Ok(value)
}

/// An answer's JSON. Servers in Python, and TensorFlow's, write numbers that JSON has not.
fn json(bytes: &[u8]) -> Option<Value> {
    let strict = serde_json::from_slice(bytes).ok();
    strict.or_else(|| serde_json::from_slice(&quoted(bytes)).ok())
}

/// `NaN`, `Infinity` and `-Infinity` as texts.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    const NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut quoted = Vec::with_capacity(bytes.len());
    let (mut is_text, mut is_escaped) = (false, false);
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(number) = NUMBERS.iter().find(|number| !is_text && rest.starts_with(number)) {
            quoted.extend([b"\"", *number, b"\""].concat());
            rest = &rest[number.len()..];
            continue;
        }
        is_text ^= byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        quoted.push(byte);
        rest = after;
    }
    quoted
}

fn refusal(model: &str, url: &Url, status: StatusCode, bytes: &[u8], words: String) -> Error {
    let url = url.to_string();
    match status.as_u16() {
        // MLServer and KServe's servers say which model they don't know; a gateway, or a server of another protocol, says nothing or has a page.
        404 if is_about_models(bytes) => Error::NoModel {
            model: model.to_owned(),
            words,
        },
        404 | 405 => Error::NoRoute { url, words },
        503 => Error::NotReady { words },
        504 | 408 => Error::Failed {
            code: status.as_u16().to_string(),
            words,
        },
        401 | 403 | 407 | 300..=399 => Error::NotAllowed { url, words },
        400..=499 => Error::Refused { words },
        // KServe's servers answer so while the model isn't loaded.
        500 if words.contains("is not ready") => Error::NotReady { words },
        code => Error::Failed {
            code: code.to_string(),
            words,
        },
    }
}

/// What an answer says of a model: while it isn't ready, MLServer answers with 400 (`rest/endpoints.py` of 1.7.1), and KServe's servers with 503
/// (`python/kserve/kserve/errors.py` of 0.20.0).
fn readiness(model: &str, url: &Url, status: StatusCode, bytes: &[u8]) -> Result<bool, Error> {
    if status.is_success() {
        return Ok(says_ready(bytes));
    }
    match refusal(model, url, status, bytes, words(bytes)) {
        Error::Refused { .. } | Error::NotReady { .. } => Ok(false),
        // So Python's own server says that it knows no GET.
        Error::Failed { words, .. } if status == StatusCode::NOT_IMPLEMENTED => Err(Error::NoRoute {
            url: url.to_string(),
            words,
        }),
        error => Err(error),
    }
}

/// By `ready`, or by the states that TensorFlow Serving tells of a model's versions. Who says nothing says it with the code alone.
fn says_ready(bytes: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    if let Some(versions) = value["model_version_status"].as_array() {
        return versions.iter().any(|version| version["state"] == "AVAILABLE");
    }
    match &value["ready"] {
        Value::Bool(ready) => *ready,
        Value::String(ready) => ready.eq_ignore_ascii_case("true"),
        _ => true,
    }
}

fn is_about_models(bytes: &[u8]) -> bool {
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    let words = value.as_ref().and_then(|value| value["error"].as_str());
    words.is_some_and(|words| words.to_ascii_lowercase().contains("model"))
}

/// A server's own words: `error` or `detail` of its JSON, else its text without tags.
fn words(bytes: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    let said = value.as_ref().and_then(|value| {
        let said = ["error", "detail", "message"].iter().map(|name| &value[*name]);
        let said = said.into_iter().find(|said| !said.is_null())?;
        Some(said.as_str().map_or_else(|| said.to_string(), str::to_owned))
    });
    let said = said.unwrap_or_else(|| without_tags(&String::from_utf8_lossy(bytes)));
    let said = said.trim();
    match said.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}…", &said[..end]),
        None => said.to_owned(),
    }
}

fn without_tags(text: &str) -> String {
    let mut inside = false;
    let kept = text.chars().filter(|c| {
        let was_inside = inside;
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ => {}
        }
        !was_inside && !inside
    });
    let kept: String = kept.collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, body: &str) -> String {
        let url: Url = "http://gate/v2/models/fraud/infer".parse().unwrap();
        let status = StatusCode::from_u16(code).unwrap();
        let error = refusal("fraud", &url, status, body.as_bytes(), words(body.as_bytes()));
        error.to_string()
    }

    #[test]
    fn a_refusal_has_the_servers_own_words() {
        assert_eq!(
            told(404, r#"{"error":"Model fraud not found"}"#),
            "the server has no model `fraud`: Model fraud not found"
        );
        assert_eq!(
            told(404, r#"{"detail":"Not Found"}"#),
            "http://gate/v2/models/fraud/infer is not there: Not Found"
        );
        assert_eq!(told(404, ""), "http://gate/v2/models/fraud/infer is not there");
        assert_eq!(
            told(
                404,
                "<html><head><title>404 Not Found</title></head>\n<body>nginx</body></html>"
            ),
            "http://gate/v2/models/fraud/infer is not there: 404 Not Found nginx"
        );
        assert_eq!(
            told(503, r#"{"error":"Model with name fraud is not ready."}"#),
            "the model isn't ready: Model with name fraud is not ready."
        );
        assert_eq!(
            told(422, r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#),
            r#"the server refuses the input: [{"loc":["body"],"msg":"field required"}]"#
        );
        assert_eq!(told(500, "boom"), "the server failed (500): boom");
        assert!(told(500, &"x".repeat(10_000)).len() < 700);
        assert!(told(302, "").contains("wants to know who asks"));
    }

    #[test]
    fn numbers_that_json_has_not_are_texts() {
        let read = |text: &str| json(text.as_bytes());
        assert_eq!(
            read(r#"{"predictions": [NaN, Infinity, -Infinity, 1.5], "words": "a \"NaN\" of -Infinity \\"}"#),
            Some(
                serde_json::json!({"predictions": ["NaN", "Infinity", "-Infinity", 1.5], "words": "a \"NaN\" of -Infinity \\"})
            )
        );
        assert_eq!(read(r#"["NaN"]"#), Some(serde_json::json!(["NaN"])));
        assert_eq!(read("[Nothing]"), None);
    }

    #[test]
    fn a_model_is_ready_when_its_server_says_so() {
        let ready = |code: u16, body: &str| {
            let url: Url = "http://gate/v2/models/fraud/ready".parse().unwrap();
            readiness("fraud", &url, StatusCode::from_u16(code).unwrap(), body.as_bytes())
        };
        // MLServer, KServe's servers of both protocols, TensorFlow Serving.
        for yes in [
            "",
            r#"{"name":"fraud","ready":true}"#,
            r#"{"name":"fraud","ready":"True"}"#,
            r#"{"model_version_status":[{"version":"1","state":"END"},{"version":"2","state":"AVAILABLE"}]}"#,
        ] {
            assert_eq!(ready(200, yes), Ok(true), "{yes}");
        }
        assert_eq!(ready(200, r#"{"name":"fraud","ready":false}"#), Ok(false));
        assert_eq!(
            ready(200, r#"{"model_version_status":[{"state":"LOADING"}]}"#),
            Ok(false)
        );
        assert_eq!(ready(400, ""), Ok(false));
        assert_eq!(
            ready(503, r#"{"error":"Model with name fraud is not ready."}"#),
            Ok(false)
        );
        let unknown = ready(404, r#"{"error":"Model fraud not found"}"#);
        assert!(matches!(unknown, Err(Error::NoModel { .. })), "{unknown:?}");
        for (code, body) in [
            (404, r#"{"detail":"Not Found"}"#),
            (405, ""),
            (501, "Unsupported method ('GET')"),
        ] {
            assert!(matches!(ready(code, body), Err(Error::NoRoute { .. })), "{code} {body}");
        }
    }
}
