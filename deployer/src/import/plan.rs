//! What an import would do: from what is there, without asking anybody.

use std::collections::BTreeSet;

use tidewaiter_core::backend::{StorageBackend, StorageBackendSpec};
use tidewaiter_core::uri::UriPattern;

use super::found::Found;
use super::{Data, Source, groups, planner};

/// What an admin asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Tidewaiter's namespace, where the copies of Secrets go.
    pub tidewaiter: String,
    /// The only Secrets to import; none for all that there are.
    pub chosen: Vec<Source>,
    /// What the chosen ones serve, in place of what is loaded with them.
    pub serves: Vec<String>,
    /// What the backend is to be called, in place of the Secret's name.
    pub name: Option<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A chosen Secret isn't there, or has no keys that KServe knows.
    #[error("{0} is not a Secret that KServe opens a store with")]
    NotFound(Source),
    /// One name, or one list of prefixes, for several stores.
    #[error("{flag} is for one store, and the chosen Secrets open {stores}")]
    SeveralStores {
        /// Which flag.
        flag: &'static str,
        /// How many.
        stores: usize,
    },
    /// A prefix that is none.
    #[error("--serves: `{text}` {reason}")]
    Serves {
        /// The prefix.
        text: String,
        /// The rest of the sentence.
        reason: String,
    },
}

/// What is to be done, and what isn't, with reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// What a backend that is there serves already.
    pub settled: Vec<Settled>,
    /// What is left alone.
    pub skipped: Vec<Skipped>,
    /// What somebody has to decide.
    pub conflicts: Vec<Conflict>,
}

/// One backend that is made or extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The backend's name.
    pub name: String,
    /// Where its credentials come from.
    pub sources: Vec<Source>,
    /// As it is to be.
    pub after: StorageBackendSpec,
    /// As it is; none for a new one.
    pub before: Option<StorageBackendSpec>,
    /// The version of `before`.
    pub resource_version: Option<String>,
    /// The Secret that has to be made with it.
    pub secret: Option<NewSecret>,
    /// What to look at.
    pub notes: Vec<String>,
}

/// A Secret in Tidewaiter's namespace. Its values aren't shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// Tidewaiter's.
    pub namespace: String,
    /// The backend's.
    pub name: String,
    /// Which Secret it is copied from.
    pub copied_from: Source,
    /// What it will hold.
    pub data: Data,
}

/// A Secret whose store a backend serves already.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Settled {
    /// The Secret.
    pub source: Source,
    /// The backend.
    pub backend: String,
}

/// A Secret that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The Secret.
    pub source: Source,
    /// Why, and what to do about it.
    pub reason: String,
}

/// Something that can't be done without a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The Secrets that it concerns.
    pub sources: Vec<Source>,
    /// What is in the way.
    pub message: String,
    /// What to do.
    pub next: String,
}

impl Change {
    /// The backend as it is to be.
    pub fn object(&self) -> StorageBackend {
        StorageBackend::new(&self.name, self.after.clone())
    }

    /// The backend as it is.
    pub fn object_before(&self) -> Option<StorageBackend> {
        let spec = self.before.clone()?;
        Some(StorageBackend::new(&self.name, spec))
    }

    /// The namespaces that are granted something by it.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        let grants = self.after.grants.iter().flatten();
        grants
            .flat_map(|grant| grant.namespaces.iter().flatten())
            .map(String::as_str)
            .collect()
    }

    /// Whether the backend itself changes: where not, only its Secret is missing.
    pub fn changes_backend(&self) -> bool {
        self.before.as_ref() != Some(&self.after)
    }
}

/// Works out what to do.
///
/// # Errors
/// Where what is asked for makes no sense here.
pub fn plan(found: &Found, options: &Options) -> Result<Plan, OptionsError> {
    for text in &options.serves {
        UriPattern::parse(text).map_err(|reason| OptionsError::Serves {
            text: text.clone(),
            reason,
        })?;
    }
    let (groups, skipped) = groups::groups(found, options)?;
    Ok(planner::plan(found, options, groups, skipped))
}
