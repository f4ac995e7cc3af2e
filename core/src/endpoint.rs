//! Where an S3 store listens.

/// An S3 endpoint, taken apart as KServe's annotations need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Host and, where one was given, port.
    pub host: String,
}

impl Endpoint {
    /// Reads `http://host:port`, `https://host` or `host:port` (then TLS).
    ///
    /// # Errors
    /// The rest of the sentence "`…` …".
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, host) = match text.split_once("://") {
            Some((scheme, host)) if scheme.eq_ignore_ascii_case("https") => (true, host),
            Some((scheme, host)) if scheme.eq_ignore_ascii_case("http") => (false, host),
            Some((scheme, _)) => return Err(format!("has the scheme `{scheme}`, and only http and https are spoken")),
            None => (true, text),
        };
        let host = host.trim_end_matches('/');
        if host.is_empty() {
            return Err("has no host".to_owned());
        }
        if host.contains('@') {
            return Err("has a user or password in it, which belongs into the Secret".to_owned());
        }
        if host.contains(['/', '?', '#']) || host.chars().any(char::is_whitespace) {
            return Err("has more than a host and a port".to_owned());
        }
        if let Some((_, port)) = host.rsplit_once(':')
            && !host.ends_with(']')
            && port.parse::<u16>().is_err()
        {
            return Err(format!("has `{port}` for a port"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
        })
    }

    /// With its scheme.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.host)
    }
}
