//! Where in a store something lies, as the store's own interface names it.

use url::Url;

/// A place in a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// S3 and GCS.
    Bucket {
        bucket: String,
        key: String,
    },
    Azure {
        account: String,
        container: String,
        key: String,
    },
    /// Hugging Face: `owner/model` at a revision.
    Hub {
        repository: String,
        revision: String,
        key: String,
    },
    Url(Url),
}

impl Place {
    /// The name below the container; empty for the container itself.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Bucket { key, .. } | Self::Azure { key, .. } | Self::Hub { key, .. } => key,
            Self::Url(url) => url.path(),
        }
    }

    /// What a client is made for.
    pub(crate) fn container(&self) -> String {
        match self {
            Self::Bucket { bucket, .. } => bucket.clone(),
            Self::Azure { account, container, .. } => format!("{account}/{container}"),
            Self::Hub { .. } | Self::Url(_) => String::new(),
        }
    }
}
