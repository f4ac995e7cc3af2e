//! Why a store gave no answer that helps, in words that fit on one line and hold no secret.

use std::error::Error as StdError;
use std::io;

use tidewaiter_engine::world::StorageError;

/// Why a call to a store gave nothing. Reasons name hosts and error codes, never a key, a token or a store's free text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The store answers, and there is nothing by this name.
    #[error("not found")]
    NotFound,
    /// The store answers, and refuses; also where what we send can never be accepted, as with a wrong region.
    #[error("{0}")]
    Forbidden(String),
    /// The store doesn't answer, or not in time, or not sensibly.
    #[error("{reason}")]
    Unreachable {
        /// Why.
        reason: String,
        /// Whether it speaks against the store as a whole, so that the breaker counts it.
        counts: bool,
    },
    /// This can't be asked of the store at all.
    #[error("{0}")]
    Unserved(String),
}

impl Failure {
    /// An unreachable store, as the breaker counts it.
    pub(crate) fn unreachable(reason: impl Into<String>) -> Self {
        Self::Unreachable {
            reason: reason.into(),
            counts: true,
        }
    }

    pub(crate) fn counts(&self) -> bool {
        matches!(self, Self::Unreachable { counts: true, .. })
    }
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound => Self::NotFound,
            Failure::Forbidden(reason) => Self::Forbidden(reason),
            Failure::Unreachable { reason, .. } => Self::Unreachable(reason),
            Failure::Unserved(reason) => Self::Unserved(reason),
        }
    }
}

/// An answer other than the one asked for. Travels through the store clients as the source of their errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("answered {status} {code}")]
pub(crate) struct Refused {
    pub(crate) host: String,
    pub(crate) status: u16,
    /// The store's own word for it, such as `NoSuchBucket`; empty where it gave none.
    pub(crate) code: String,
    /// Where a redirect leads: scheme and host only.
    pub(crate) location: Option<String>,
    /// The region that the store says its bucket is in.
    pub(crate) region: Option<String>,
}

impl Refused {
    pub(crate) fn failure(&self) -> Failure {
        let Self { host, status, code, .. } = self;
        let answer = if code.is_empty() {
            format!("{host} answers {status}")
        } else {
            format!("{host} answers {status} {code}")
        };
        match (status, code.as_str()) {
            (
                _,
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "TemporaryRedirect"
                | "IllegalLocationConstraintException",
            ) => Failure::Forbidden(format!("{answer}: {}", self.elsewhere())),
            (404 | 410, _) => Failure::NotFound,
            (_, "InvalidAccessKeyId" | "NotSignedUp") => {
                Failure::Forbidden(format!("{answer}: the store doesn't know the access key"))
            }
            (_, "SignatureDoesNotMatch") => Failure::Forbidden(format!("{answer}: the secret key is wrong")),
            // Azure's word for a signature that no key of the account makes.
            (_, "AuthenticationFailed" | "InvalidAuthenticationInfo") => {
                Failure::Forbidden(format!("{answer}: the credentials are wrong"))
            }
            (_, "RequestTimeTooSkewed") => Failure::Forbidden(format!("{answer}: its clock and this server's differ")),
            (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                Failure::Forbidden(format!("{answer}: the token is no longer good"))
            }
            (401 | 407, _) => Failure::Forbidden(format!("{answer}: the credentials are missing or wrong")),
            (403, _) => Failure::Forbidden(format!("{answer}: the credentials may not read this")),
            (429, _) => Failure::Unreachable {
                reason: format!("{answer}: too many requests"),
                counts: false,
            },
            (300..=399, _) => Failure::Forbidden(format!("{answer}: {}", self.elsewhere())),
            (500.., _) => Failure::unreachable(answer),
            _ => Failure::Forbidden(answer),
        }
    }

    fn elsewhere(&self) -> String {
        match (&self.region, &self.location) {
            (Some(region), _) => format!("the bucket is in region {region}; set it in the backend"),
            (None, Some(location)) => format!("it redirects to {location}; set the endpoint that answers itself"),
            (None, None) => "check the backend's endpoint and region".to_owned(),
        }
    }
}

/// The answer below the layers of a client's error, where it was one.
pub(crate) fn answered<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Refused> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        next = error.source();
    }
    None
}

/// A 404 to a listing in no store's words: a proxy before the store without a route to it, for a store says that there is no such bucket.
pub(crate) fn wordless_not_found(error: &(dyn StdError + 'static)) -> Option<Failure> {
    let Refused { host, status, code, .. } = answered(error)?;
    (matches!(status, 404 | 410) && code.is_empty())
        .then(|| Failure::unreachable(format!("{host} answers {status}, and not as a store does")))
}

/// Finds what went wrong below the layers of a client's error.
pub(crate) fn classify(error: &(dyn StdError + 'static), host: &str) -> Failure {
    let mut timed_out = false;
    let mut next = Some(error);
    let mut words = String::new();
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return refused.failure();
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Failure::unreachable(tls_words(tls, host));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if let Some(tls) = wrapped_tls(io) {
                return Failure::unreachable(tls_words(tls, host));
            }
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Failure::unreachable(format!("{host} refuses connections")),
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => {
                    return Failure::unreachable(format!("{host} closed the connection before it answered"));
                }
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    return Failure::unreachable(format!("there is no route to {host}"));
                }
                io::ErrorKind::TimedOut => timed_out = true,
                _ => {}
            }
        }
        timed_out |= error
            .downcast_ref::<reqwest::Error>()
            .is_some_and(reqwest::Error::is_timeout);
        words = error.to_string();
        // The resolver's error type is private to the HTTP client.
        if words.contains("dns error") {
            return Failure::unreachable(format!("the name {host} can't be resolved"));
        }
        next = error.source();
    }
    if timed_out {
        return Failure::unreachable(format!("{host} didn't answer in time"));
    }
    // The innermost error of an HTTP client speaks of the protocol, as in "invalid HTTP version parsed"; its outer ones hold URLs.
    words.truncate(words.floor_char_boundary(120));
    Failure::unreachable(format!("{host} can't be talked to: {words}"))
}

/// What an `io::Error` wraps is not in its chain of sources, and the HTTP client wraps one in another.
fn wrapped_tls(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner
        .downcast_ref::<rustls::Error>()
        .or_else(|| wrapped_tls(inner.downcast_ref::<io::Error>()?))
}

fn tls_words(error: &rustls::Error, host: &str) -> String {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match error {
        // A bad signature is a CA that was made anew under its old name.
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            format!("nobody we trust signed the certificate of {host}; set the backend's tls.caBundle")
        }
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            format!("the certificate of {host} has expired")
        }
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            format!("the certificate of {host} is not valid yet")
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            format!("the certificate of {host} is for another name")
        }
        rustls::Error::InvalidMessage(_) => {
            format!("{host} doesn't speak TLS there; is its endpoint http:// or on another port?")
        }
        other => {
            let mut words = other.to_string();
            words.truncate(words.floor_char_boundary(120));
            format!("no TLS with {host}: {words}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Failure {
        Refused {
            host: "minio:9000".into(),
            status,
            code: code.into(),
            location: None,
            region: None,
        }
        .failure()
    }

    #[test]
    fn a_missing_object_and_a_missing_bucket_are_not_found() {
        assert_eq!(refused(404, ""), Failure::NotFound);
        assert_eq!(refused(404, "NoSuchBucket"), Failure::NotFound);
    }

    #[test]
    fn a_proxy_that_knows_no_way_to_the_store_says_nothing_of_a_bucket() {
        let refused = |code: &str| Refused {
            host: "minio:9000".into(),
            status: 404,
            code: code.into(),
            location: None,
            region: None,
        };
        assert!(matches!(
            wordless_not_found(&refused("")),
            Some(Failure::Unreachable { .. })
        ));
        assert_eq!(wordless_not_found(&refused("NoSuchBucket")), None);
    }

    #[test]
    fn a_refusal_says_which_half_of_the_key_is_wrong() {
        assert_eq!(
            refused(403, "SignatureDoesNotMatch"),
            Failure::Forbidden("minio:9000 answers 403 SignatureDoesNotMatch: the secret key is wrong".into())
        );
        assert!(
            refused(403, "InvalidAccessKeyId")
                .to_string()
                .contains("doesn't know the access key")
        );
        assert!(refused(403, "").to_string().contains("may not read this"));
    }

    #[test]
    fn a_reason_fits_the_line_of_a_runtime_that_was_not_checked() {
        let host = "minio.minio.svc:9000";
        let refused = |status, code: &str| {
            Refused {
                host: host.into(),
                status,
                code: code.into(),
                location: None,
                region: None,
            }
            .failure()
            .to_string()
        };
        let tls = |error| tls_words(&rustls::Error::InvalidCertificate(error), host);
        for reason in [
            refused(403, "SignatureDoesNotMatch"),
            refused(403, "InvalidAccessKeyId"),
            refused(403, "AccessDenied"),
            refused(403, "RequestTimeTooSkewed"),
            refused(401, ""),
            refused(429, "TooManyRequests"),
            tls(rustls::CertificateError::UnknownIssuer),
            tls(rustls::CertificateError::Expired),
            tls(rustls::CertificateError::NotValidForName),
        ] {
            let line = format!("runtime not checked: {reason}");
            assert!(line.chars().count() <= 120, "{line}");
        }
    }

    #[test]
    fn only_a_store_that_fails_as_a_whole_counts_for_the_breaker() {
        assert!(refused(503, "SlowDown").counts());
        assert!(!refused(429, "").counts());
        assert!(!refused(403, "").counts());
        assert!(!refused(404, "").counts());
        assert!(!refused(301, "PermanentRedirect").counts());
    }

    #[test]
    fn a_wrong_region_names_the_right_one() {
        let refused = Refused {
            host: "s3.amazonaws.com".into(),
            status: 301,
            code: "PermanentRedirect".into(),
            location: Some("https://s3.eu-central-1.amazonaws.com".into()),
            region: Some("eu-central-1".into()),
        };
        assert!(
            refused
                .failure()
                .to_string()
                .ends_with("the bucket is in region eu-central-1; set it in the backend")
        );
    }

    #[test]
    fn tls_errors_are_found_inside_io_errors() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let io = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert!(classify(&io, "minio:9000").to_string().contains("tls.caBundle"));
    }
}
