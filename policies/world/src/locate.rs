//! From the URI that a policy asks for to the place in a store.

use tidewaiter_core::backend::{Backend, BackendType};
use tidewaiter_core::uri::{Scheme, StorageUri};
use url::Url;

use crate::stores::Place;

/// A URI as a policy asks for it: a model's, or of something below it.
pub(crate) struct Asked {
    /// What grants are judged by.
    pub(crate) uri: StorageUri,
    /// What lies below an `hf://owner/model`, which has no path of its own.
    below: String,
}

impl Asked {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (uri, below) = match text
            .strip_prefix("hf://")
            .and_then(|rest| rest.match_indices('/').nth(1))
        {
            Some((end, _)) => text.split_at("hf://".len() + end),
            None => (text, ""),
        };
        let uri = StorageUri::parse(uri).map_err(|error| error.to_string())?;
        let below = below.trim_matches('/');
        // As strict as for every other path: what StorageUri refuses anywhere is refused here.
        if !below.is_empty() {
            StorageUri::parse(&format!("s3://below/{below}"))
                .map_err(|_| format!("`{below}` is no path in a model"))?;
        }
        Ok(Self {
            uri,
            below: below.to_owned(),
        })
    }
}

/// Where the store keeps it.
pub(crate) fn place(asked: &Asked, backend: &Backend) -> Result<Place, String> {
    let uri = &asked.uri;
    match (backend.spec().kind, uri.scheme()) {
        (BackendType::S3, Scheme::S3) if uri.authority().contains(':') => {
            Err("what lies behind an access point can't be looked at from here".to_owned())
        }
        (BackendType::S3, Scheme::S3) | (BackendType::Gcs, Scheme::Gs) => Ok(Place::Bucket {
            bucket: uri.authority().to_owned(),
            key: uri.key().to_owned(),
        }),
        (BackendType::Azure, Scheme::Https) => {
            let azure = uri
                .azure()
                .ok_or_else(|| format!("{uri} names no container of Azure's blob storage"))?;
            Ok(Place::Azure {
                account: azure.account.to_owned(),
                container: azure.container.to_owned(),
                key: azure.path.to_owned(),
            })
        }
        (BackendType::HuggingFace, Scheme::Hf) => {
            let model = uri.key().split(':').next().unwrap_or_default();
            Ok(Place::Hub {
                repository: format!("{}/{model}", uri.authority()),
                revision: uri.revision().unwrap_or("main").to_owned(),
                key: asked.below.clone(),
            })
        }
        (BackendType::Https, Scheme::Https | Scheme::Http) => {
            let url = Url::parse(uri.as_str()).map_err(|_| format!("{uri} is no web address"))?;
            // Where a client of the web would read another host or path than the grant was judged by, it isn't asked at all.
            let host = url.host_str().unwrap_or_default();
            let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
            let written = uri.authority().to_ascii_lowercase();
            let same_host = written == with_port || (url.port().is_none() && written == host);
            if !same_host || url.path().trim_matches('/') != uri.key() {
                return Err(format!(
                    "{uri} can be read in two ways; write host and path plainly, with special characters escaped"
                ));
            }
            Ok(Place::Url(url))
        }
        (BackendType::Hdfs, _) => Err("models in HDFS can't be looked at from here".to_owned()),
        (kind, scheme) => Err(format!(
            "a StorageBackend of type {} can't read {}://",
            kind.as_str(),
            scheme.as_str()
        )),
    }
}
