//! From the Secrets that KServe's users made, each in a namespace of their own, to `StorageBackend`s.
//!
//! ```text
//!   cluster ─▶ found::read ─▶ Found ─▶ plan (pure) ─▶ Plan ─▶ apply, a change at a time
//!                                       │
//!                stores: what a Secret opens; uses: which service loads what with it
//! ```
//!
//! What users have is read and never written: their Secrets stay where they are, and so do the services that name them. A second run over what the first
//! one made finds nothing to do.

mod apply;
mod found;
mod groups;
mod names;
mod plan;
mod planner;
mod prefix;
mod s3;
mod stores;
mod uses;

#[cfg(test)]
mod tests;

pub use apply::{Done, apply};
pub use found::{Found, FoundAccount, FoundBackend, FoundSecret, FoundService, Kserve, Scope, read};
pub use plan::{Change, Conflict, NewSecret, Options, OptionsError, Plan, Settled, Skipped, plan};
pub use s3::Defaults;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use tidewaiter_core::credentials::SecretValue;

/// What a Secret holds, by its keys.
pub type Data = BTreeMap<String, SecretValue>;

/// Where credentials come from: a Secret, or one key of a Secret in KServe's storage-config form. Written `namespace/name` or `namespace/name:key`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The key, in a Secret that has a store under each.
    pub key: Option<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.secret)?;
        match &self.key {
            Some(key) => write!(f, ":{key}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secret, key) = match text.split_once(':') {
            Some((secret, key)) => (secret, Some(key)),
            None => (text, None),
        };
        match secret.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') && key != Some("") =>
            {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    secret: name.to_owned(),
                    key: key.map(str::to_owned),
                })
            }
            _ => Err("write NAMESPACE/NAME, or NAMESPACE/NAME:KEY for a key of a storage-config".to_owned()),
        }
    }
}
