//! How a store is reached, and with whose keys: what a client is made from. Holds secrets, so it can't be printed.

use url::Url;

/// Whose certificates are good.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Trust {
    /// The machine's own CAs.
    System,
    /// Nobody's: the store speaks plain HTTP.
    Nobody,
    /// Everybody's: the admin switched the check off.
    Anybody,
    /// These CAs, in PEM form.
    Bundle(String),
}

/// A store and the keys to it. Two equal ones can share a client.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    S3 {
        /// None: AWS itself.
        endpoint: Option<Url>,
        region: Option<String>,
        path_style: bool,
        trust: Trust,
        identity: Identity<Keys>,
    },
    Gcs {
        endpoint: Option<Url>,
        trust: Trust,
        /** A service account's key, as JSON text. */
        identity: Identity<String>,
    },
    Azure {
        endpoint: Option<Url>,
        trust: Trust,
        identity: Identity<AzureKeys>,
    },
    HuggingFace {
        endpoint: Url,
        trust: Trust,
        token: Option<String>,
    },
    Https {
        trust: Trust,
        headers: Vec<(String, String)>,
    },
    /// Known to KServe, but not readable from here.
    Opaque(&'static str),
}

/// A store of S3's kind with an endpoint of its own, and the key by which others may be made there. Holds a secret, so it can't be printed.
#[derive(Clone, Copy)]
pub struct Issuer<'a> {
    /// Where S3 is spoken.
    pub endpoint: &'a Url,
    /// The store's region, where it has one.
    pub region: Option<&'a str>,
    /// Whose certificates are good.
    pub trust: &'a Trust,
    /// The key's ID.
    pub id: &'a str,
    /// The key itself.
    pub secret: &'a str,
}

/// As whom a store is asked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Identity<K> {
    Anonymous,
    /// The cloud identity of this process.
    Ambient,
    Keys(K),
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum AzureKeys {
    Client { tenant: String, id: String, secret: String },
    Access(String),
    Bearer(String),
}
