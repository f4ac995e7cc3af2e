//! The HTTP client under every store: our own TLS trust, no redirects followed, refusals kept with their code.

use async_trait::async_trait;
use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::redirect::Policy;
use url::Url;

use super::connection::Trust;
use super::failure::Refused;

/// More of an error's body than this is not read: the code stands at its beginning.
const ERROR_BODY: usize = 16 * 1024;

/// Builds a client that trusts what the backend says is to be trusted.
///
/// # Errors
/// A CA bundle that isn't PEM, or a machine without any CA where none was given.
pub(crate) fn client(trust: &Trust) -> Result<reqwest::Client, String> {
    // Without a default provider reqwest panics; where another part of the program installed one, that one is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("tidewaiter/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .pool_max_idle_per_host(8)
        .pool_idle_timeout(std::time::Duration::from_secs(30));
    let builder = match trust {
        Trust::System => builder,
        Trust::Nobody => builder.tls_certs_only([]),
        Trust::Anybody => builder.tls_certs_only([]).tls_danger_accept_invalid_certs(true),
        Trust::Bundle(pem) => {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| NOT_PEM.to_owned())?;
            if certificates.is_empty() {
                return Err(NOT_PEM.to_owned());
            }
            builder.tls_certs_only(certificates)
        }
    };
    builder.build().map_err(|error| {
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        format!("no TLS client can be made: {innermost}")
    })
}

const NOT_PEM: &str = "the CA bundle holds no certificate in PEM form";

/// [`HttpService`] for the store clients of `object_store`: any answer but a good one becomes an error that carries [`Refused`].
#[derive(Clone, Debug)]
pub(crate) struct Transport(pub(crate) reqwest::Client);

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let response = self.0.call(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let mut text = Vec::new();
        let mut chunks = body.bytes_stream();
        while let Some(Ok(chunk)) = chunks.next().await {
            text.extend_from_slice(&chunk);
            if text.len() >= ERROR_BODY {
                break;
            }
        }
        // An unknown kind, because every other may be tried again by the client, beyond our deadline and our count of tries.
        Err(HttpError::new(
            HttpErrorKind::Unknown,
            refused(host, parts.status.as_u16(), &parts.headers, &text),
        ))
    }
}

pub(crate) fn refused(host: String, status: u16, headers: &HeaderMap, body: &[u8]) -> Refused {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let body = String::from_utf8_lossy(body);
    let code = header("x-ms-error-code")
        .or_else(|| between(&body, "<Code>", "</Code>"))
        .unwrap_or_default();
    let region = header("x-amz-bucket-region").or_else(|| between(&body, "<Region>", "</Region>"));
    Refused {
        host,
        status,
        code: word(code),
        location: header(LOCATION.as_str())
            .and_then(|location| Url::parse(location).ok())
            .map(|url| url.origin().ascii_serialization()),
        region: region.map(word).filter(|region| !region.is_empty()),
    }
}

/// Codes and regions are short words; anything else a server sends there is not repeated to people.
fn word(text: &str) -> String {
    let fits = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits { text.to_owned() } else { String::new() }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}

/// Gives `object_store` the client we built, whatever it asks for.
#[derive(Debug)]
pub(crate) struct Connector(pub(crate) Transport);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_from_s3_and_azure() {
        let none = HeaderMap::new();
        let s3 = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>secret?</Message></Error>";
        assert_eq!(refused("h".into(), 404, &none, s3).code, "NoSuchKey");
        let mut azure = HeaderMap::new();
        azure.insert("x-ms-error-code", "BlobNotFound".parse().expect("a header"));
        assert_eq!(refused("h".into(), 404, &azure, b"").code, "BlobNotFound");
    }

    #[test]
    fn free_text_of_a_server_is_not_repeated() {
        let body = b"<Error><Code>ask &lt;me&gt; on http://evil</Code></Error>";
        assert_eq!(refused("h".into(), 400, &HeaderMap::new(), body).code, "");
    }

    #[test]
    fn a_redirect_shows_its_host_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(
            LOCATION,
            "https://minio.example/signed?token=abc".parse().expect("a header"),
        );
        assert_eq!(
            refused("h".into(), 307, &headers, b"").location.as_deref(),
            Some("https://minio.example")
        );
    }

    #[test]
    fn a_bundle_that_is_no_pem_is_refused() {
        assert_eq!(
            client(&Trust::Bundle("nonsense".into())).map(|_| ()),
            Err(NOT_PEM.to_owned())
        );
    }
}
