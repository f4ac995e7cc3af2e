//! The proxy, such as a company's, that leads to an address.

use std::fmt;
use std::net::IpAddr;

use hyper_util::client::proxy::matcher::Matcher;
use tonic::codegen::http::{HeaderValue, Uri};

/// A proxy's address. A user and a password may be in it: shown, it is without.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy(Uri);

impl Proxy {
    /// None where it is no address of a proxy that can be talked to. Without a scheme, HTTP is meant.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => "http",
            "https" => "https",
            // Names are looked up by the proxy in either case.
            "socks5" | "socks5h" => "socks5",
            _ => return None,
        };
        let uri: Uri = format!("{scheme}://{rest}").parse().ok()?;
        Some(Self(uri))
    }

    /// What leads to this address by the environment. As for kubectl (`golang.org/x/net/http/httpproxy`), this machine is reached without a proxy, and so is what
    /// `NO_PROXY` lists: a host with all below it, `.suffix`, an address, a network, each also with a port, or `*`.
    pub(crate) fn of_environment(target: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let host = target.host()?.trim_matches(['[', ']']);
        let is_here = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if is_here || host.eq_ignore_ascii_case("localhost") {
            return None;
        }
        let set = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            names
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        let (name, usual) = match target.scheme_str() {
            Some("http") => ("HTTP_PROXY", 80),
            _ => ("HTTPS_PROXY", 443),
        };
        let proxy = set(name)?;
        let port = target.port_u16().unwrap_or(usual);
        let listed = set("NO_PROXY").unwrap_or_default();
        let direct: Vec<&str> = listed
            .split(',')
            .filter_map(|entry| without_port(entry, port))
            .collect();
        let matcher = Matcher::builder().all("http://any").no(direct.join(",")).build();
        matcher.intercept(target).and_then(|_| Self::parse(&proxy))
    }

    /// What it has to be told by who asks it for a tunnel; none where nobody is named.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let matcher = Matcher::builder().all(self.0.to_string()).build();
        matcher
            .intercept(&Uri::from_static("https://any"))?
            .basic_auth()
            .cloned()
    }

    /// With the user and the password: to be handed on, never shown.
    pub(crate) fn expose(&self) -> &Uri {
        &self.0
    }
}

/// An entry of `NO_PROXY` as far as it is about this port; `*.suffix` is `.suffix`.
fn without_port(entry: &str, port: u16) -> Option<&str> {
    let entry = entry.trim();
    let split = entry
        .rsplit_once(':')
        .and_then(|(host, of)| Some((host, of.parse::<u16>().ok()?)));
    let entry = match split {
        // An address of IPv6 is a host with a port only in brackets.
        Some((host, of)) if !host.contains(':') || host.ends_with(']') => (of == port).then_some(host)?,
        _ => entry,
    };
    let entry = entry.trim_matches(['[', ']']);
    Some(
        entry
            .strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(entry),
    )
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{}://{host}", self.0.scheme_str().unwrap_or_default())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(target: &str, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Proxy::of_environment(&target.parse().unwrap(), variable).map(|proxy| proxy.to_string())
    }

    #[test]
    fn a_proxy_is_shown_without_the_password_that_it_is_asked_with() {
        let proxy = Proxy::parse("http://eve:hunter2@proxy:3128").unwrap();
        assert!(!format!("{proxy} {proxy:?}").contains("hunter2"));
        assert_eq!(proxy.to_string(), "http://proxy:3128");
        assert_eq!(proxy.expose().to_string(), "http://eve:hunter2@proxy:3128/");
        assert_eq!(Proxy::parse("proxy:3128").unwrap().to_string(), "http://proxy:3128");
        assert_eq!(
            Proxy::parse("socks5h://proxy:1080").unwrap().to_string(),
            "socks5://proxy:1080"
        );
        for wrong in ["ftp://proxy", "", "http://"] {
            assert_eq!(Proxy::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_here_or_listed_is_reached_without_one() {
        let through =
            |target: &str, no: &str| leads(target, &[("HTTPS_PROXY", "http://p:1"), ("no_proxy", no)]).is_some();
        for target in ["https://localhost:6443", "https://127.0.0.1:6443", "https://[::1]:6443"] {
            assert!(!through(target, ""), "{target}");
        }
        for (no, direct, proxied) in [
            ("corp.example", "https://k8s.corp.example", "https://notcorp.example"),
            (
                "a, .corp.example,",
                "https://k8s.corp.example",
                "https://corp.example.com",
            ),
            ("*.corp.example", "https://k8s.corp.example:6443", "https://k8s.example"),
            ("10.0.0.0/8", "https://10.1.2.3", "https://11.1.2.3"),
            ("10.1.2.3", "https://10.1.2.3:6443", "https://10.1.2.4:6443"),
            (
                "k8s.example:6443",
                "https://k8s.example:6443",
                "https://k8s.example:443",
            ),
            ("fd00::/8", "https://[fd00::1]:6443", "https://[fe00::1]:6443"),
            ("[fd00::1]:6443", "https://[fd00::1]:6443", "https://[fd00::1]"),
        ] {
            assert!(!through(direct, no), "{no} and {direct}");
            assert!(through(proxied, no), "{no} and {proxied}");
        }
        assert!(!through("https://k8s.example", "*"));
        // The proxy's own address says nothing of where it leads.
        assert!(through("https://k8s.example", "p"));
    }

    #[test]
    fn the_scheme_says_which_variable_counts() {
        let both = [
            ("https_proxy", "http://secure:1"),
            ("HTTP_PROXY", "plain:2"),
            ("HTTPS_PROXY", ""),
        ];
        assert_eq!(leads("https://k8s.example", &both).as_deref(), Some("http://secure:1"));
        assert_eq!(leads("http://k8s.example", &both).as_deref(), Some("http://plain:2"));
        assert_eq!(leads("https://k8s.example", &[("HTTP_PROXY", "plain:2")]), None);
    }
}
