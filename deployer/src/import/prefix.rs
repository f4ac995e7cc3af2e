//! What a backend is to serve, by the URIs that are loaded with a Secret.

use tidewaiter_core::backend::BackendType;
use tidewaiter_core::uri::{Scheme, StorageUri};

/// Whether KServe opens this URI with a Secret for this kind of store.
pub(super) fn opens(kind: BackendType, uri: &StorageUri) -> bool {
    match kind {
        BackendType::S3 => uri.scheme() == Scheme::S3,
        BackendType::Gcs => uri.scheme() == Scheme::Gs,
        BackendType::Azure => uri.azure().is_some(),
        BackendType::HuggingFace => uri.scheme() == Scheme::Hf,
        BackendType::Https => matches!(uri.scheme(), Scheme::Https | Scheme::Http) && uri.azure().is_none(),
        BackendType::Hdfs => matches!(uri.scheme(), Scheme::Hdfs | Scheme::WebHdfs),
    }
}

/// The bucket, container, host or owner that a URI lies in, as a prefix.
pub(super) fn of(uri: &StorageUri) -> String {
    let scheme = uri.scheme().as_str();
    if let Some(azure) = uri.azure() {
        return format!("{scheme}://{}/{}/", uri.authority(), azure.container);
    }
    match uri.scheme() {
        // No name of a store is in these: the first folder stands for it.
        Scheme::Hdfs | Scheme::WebHdfs => match uri.key().split_once('/') {
            Some((first, _)) => format!("{scheme}://{first}/"),
            None => format!("{scheme}://"),
        },
        _ => format!("{scheme}://{}/", uri.authority()),
    }
}

/// A URI below a prefix, to ask with who serves it. None for a prefix that holds none.
pub(super) fn probe(prefix: &str) -> Option<StorageUri> {
    let literal = prefix.replace('*', "x");
    let (scheme, rest) = literal.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    let below = if rest.is_empty() {
        format!("{scheme}://x/x")
    } else {
        format!("{scheme}://{rest}/x")
    };
    // `hf://owner/model` has nothing below it.
    [below, literal].iter().find_map(|text| StorageUri::parse(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_bucket_container_host_or_owner() {
        for (uri, prefix) in [
            ("s3://mlflow/1/models/m-1/artifacts", "s3://mlflow/"),
            ("gs://models", "gs://models/"),
            ("hf://meta-llama/Llama-3.2-1B:main", "hf://meta-llama/"),
            (
                "https://acc.blob.core.windows.net/models/a/b",
                "https://acc.blob.core.windows.net/models/",
            ),
            (
                "https://files.example.com:8443/a.tar?x=y",
                "https://files.example.com:8443/",
            ),
            ("hdfs://models/a", "hdfs://models/"),
        ] {
            let uri = StorageUri::parse(uri).unwrap();
            assert_eq!(of(&uri), prefix);
            let probe = probe(prefix).unwrap();
            assert_eq!(of(&probe), prefix, "{probe}");
        }
    }
}
