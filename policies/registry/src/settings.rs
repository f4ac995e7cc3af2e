//! How registries and web servers are reached.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One registry or web server, and what is particular about the way to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// Host with port, as references have it: `registry.example:5000`.
    pub host: String,
    /// Certificates in PEM form that it may be signed by, beside those that the machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Speak HTTP without TLS. On the loopback that is so without being said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// Where the same content is, to be asked in this order before the host itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
}

/// Another registry that has the same content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// `mirror.example[:port][/prefix]`; the repository's path follows. What is particular about the way to it is said in an entry of its own.
    pub at: String,
    /// Let it also say which digest a tag has. Content is checked by its digest and may come from anywhere; whoever resolves tags decides what runs.
    #[serde(default)]
    pub resolves_tags: bool,
}

/// How much, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The largest component in bytes. Default: 64 MiB.
    pub component: u64,
    /// Until a connection is there. Default: 5 s.
    pub connect: Duration,
    /// Between two pieces of an answer. Default: 10 s.
    pub silence: Duration,
    /// For a whole transfer. Default: 2 min.
    pub transfer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component: 64 << 20,
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(10),
            transfer: Duration::from_mins(2),
        }
    }
}

/// A manifest or a list of referrers; the specification has registries take 4 MiB.
pub(crate) const DOCUMENT: u64 = 4 << 20;
/// A signature with its proofs.
pub(crate) const SIGNATURE: u64 = 256 << 10;
/// So many signatures of one policy are looked at.
pub(crate) const SIGNATURES: usize = 32;
/// What a token server answers.
pub(crate) const TOKEN: u64 = 64 << 10;

/// What happens, for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of so many have come.
    Pulled(u64, u64),
    /// So many bytes go up now.
    Pushing(u64),
    /// They are there, or were before.
    Pushed(u64),
}

/// Told of progress.
pub type Watch<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// For who doesn't watch.
pub fn nobody(_: Progress) {}
