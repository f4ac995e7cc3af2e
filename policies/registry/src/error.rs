//! What can go wrong between here and a registry.

/// Why something can't be had from a registry or a web server, or can't be brought there. No message holds a password or a token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name, a digest or a URL that is none.
    #[error("{0}")]
    Reference(String),
    /// A setting that can't be used, such as a CA bundle without certificates.
    #[error("{0}")]
    Settings(String),
    /// No connection, no answer in time, or an answer that says that the server is in trouble. Another try may go well.
    #[error("{host} doesn't answer: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The server answers, and says no.
    #[error("{host} refuses {what}: {reason}")]
    Refused {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
        /// What the server says, and what to do.
        reason: String,
    },
    /// One of Sigstore's services certifies nothing. What was to be signed is as it was.
    #[error("{host} gives no {what}: {reason}")]
    Uncertified {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
        /// What happened, or what the service says.
        reason: String,
    },
    /// It isn't there.
    #[error("{host} has no {what}; correct the name, or push it")]
    Missing {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// Larger than it may be.
    #[error("{what} has more than {limit} bytes, which is the most that is taken")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The bound in bytes.
        limit: u64,
    },
    /// Content that isn't what its name or its descriptor says.
    #[error("{what} is not what it is said to be: {said} was announced, and {found} came; it is not used")]
    Lies {
        /// What was asked for.
        what: String,
        /// The digest or the size that was announced.
        said: String,
        /// What came.
        found: String,
    },
    /// Something else than a policy in the layout of the CNCF.
    #[error("{0}")]
    NotAPolicy(String),
    /// Nobody signed it whose signature counts.
    #[error("{0}")]
    Untrusted(String),
    /// A key that can't be used.
    #[error("{0}")]
    Key(String),
}

impl Error {
    /// Whether the same request may go well a little later, or elsewhere.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The innermost cause, which is the one that says something: `connection refused`.
    pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        innermost.to_string()
    }

    pub(crate) fn no_answer(host: &str, error: &reqwest::Error) -> Self {
        let reason = if error.is_timeout() {
            "no answer in time".to_owned()
        } else if is_untrusted(error) {
            "nobody whom we trust signed its certificate; give that of its authority, as `ca` in this host's entry or by --ca".to_owned()
        } else {
            Self::innermost(error)
        };
        Self::Unreachable {
            host: host.to_owned(),
            reason,
        }
    }
}

/// Whether a server's certificate is by an authority that we don't know. A bad signature is one that was made anew under its old name.
fn is_untrusted(error: &reqwest::Error) -> bool {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
        .filter_map(|error| wrapped_tls(error.downcast_ref()?))
        .any(|error| matches!(error, rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)))
}

/// An error of I/O doesn't name as its source what it wraps.
fn wrapped_tls(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| wrapped_tls(inner.downcast_ref()?))
}
