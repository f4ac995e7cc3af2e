//! Names of policies in registries.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error};

/// `registry.example[:port]/path/name[:tag][@sha256:…]`, with `oci://` before it or not. Where neither tag nor digest is given, the tag is `latest`.
///
/// The grammar is the distribution specification's. A name without a registry is refused: which one is meant is for nobody to guess.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where it isn't a digest alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, where it is pinned.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository, and exactly this manifest.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest.clone()),
            ..self.clone()
        }
    }

    /// What the registry is asked for: the digest, where there is one.
    pub(crate) fn version(&self) -> &str {
        let digest = self.digest.as_ref().map(Digest::as_str);
        digest.or(self.tag.as_deref()).unwrap_or(LATEST)
    }
}

const LATEST: &str = "latest";

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Reference(format!("`{text}` {why}"));
        let rest = text.strip_prefix("oci://").unwrap_or(text);
        if rest.contains("://") {
            return Err(wrong("is a URL; write registry.example/path/name:tag"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let (registry, path) = rest
            .split_once('/')
            .ok_or_else(|| wrong("names no registry; write registry.example/path/name:tag"))?;
        if !(registry == "localhost" || registry.contains(['.', ':'])) {
            return Err(wrong(
                "names no registry before the first `/`; write registry.example/path/name:tag, or docker.io/path/name:tag for Docker Hub",
            ));
        }
        if !is_host(registry) {
            return Err(wrong("names a registry that is no host with an optional port"));
        }
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !is_repository(repository) {
            return Err(wrong(
                "has a path that no registry takes: small letters and digits, between them `.`, `_` or `-`, in parts between `/`",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "has a tag that no registry takes: letters, digits, `_`, `.` and `-`, 128 at most",
            ));
        }
        let tag = tag.or_else(|| digest.is_none().then_some(LATEST)).map(str::to_owned);
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A name, an IPv4 address or an IPv6 address in brackets, and a port or none.
fn is_host(text: &str) -> bool {
    let url = url::Url::parse(&format!("https://{text}/"));
    url.is_ok_and(|url| {
        let written = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        written == text.trim_end_matches(":443")
    })
}

fn is_repository(text: &str) -> bool {
    text.len() <= 255
        && text.split('/').all(|part| {
            let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let bytes = part.as_bytes();
            let ends = bytes.first().zip(bytes.last());
            ends.is_some_and(|(first, last)| alphanumeric(*first) && alphanumeric(*last))
                && bytes.iter().all(|byte| alphanumeric(*byte) || b"._-".contains(byte))
                && !part.contains("..")
        })
}

fn is_tag(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && letter(text.as_bytes()[0])
        && text.bytes().all(|byte| letter(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_reference_has_all_its_parts() {
        for (text, registry, repository, version) in [
            ("ghcr.io/acme/house-rules:1.2", "ghcr.io", "acme/house-rules", "1.2"),
            ("localhost:5000/a", "localhost:5000", "a", "latest"),
            ("oci://localhost/a/b_c/d.e", "localhost", "a/b_c/d.e", "latest"),
            ("[::1]:5000/a:b", "[::1]:5000", "a", "b"),
            (&format!("r.example/a:v1@{DIGEST}"), "r.example", "a", DIGEST),
            (&format!("r.example/a@{DIGEST}"), "r.example", "a", DIGEST),
        ] {
            let reference: Reference = text.parse().unwrap();
            let parts = (reference.registry(), reference.repository(), reference.version());
            assert_eq!(parts, (registry, repository, version), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_told_why() {
        for (text, why) in [
            ("house-rules", "names no registry"),
            ("acme/house-rules:1", "names no registry"),
            ("https://ghcr.io/acme/a", "is a URL"),
            ("ghcr.io/Acme/a", "has a path"),
            ("ghcr.io/acme//a", "has a path"),
            ("ghcr.io/../a", "has a path"),
            ("ghcr.io/a:", "has a tag"),
            ("ghcr.io/a:-x", "has a tag"),
            ("user:secret@ghcr.io/a", "is not `sha256:`"),
            ("a.b?c/d", "no host"),
            ("ghcr.io/a@sha256:12", "is not `sha256:`"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_so_that_it_reads_the_same(text in "[a-z.:/@A-Z0-9_-]{0,40}|[a-z]{1,9}\\.io/[a-z/.-]{1,20}(:[a-z0-9.]{1,9})?") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
