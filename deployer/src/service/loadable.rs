//! Places that KServe's storage initializer takes for none, though they are written as one.
//!
//! Source: `_download_gcs` and `_parse_azure_uri` of KServe 0.15.2 (`python/kserve/kserve/storage/storage.py`) and 0.20.0
//! (`python/storage/kserve_storage/kserve_storage.py`). The policy `model-exists` refuses the same, and isn't everywhere.

use tidewaiter_core::uri::{Scheme, StorageUri};

use super::error::WishError;

/// Refuses all of a bucket of Google's, where KServe looks for names that begin with a slash, and an Azure container without the slash behind its name, where
/// KServe splits the path. Of S3 it loads all of a bucket.
///
/// # Errors
/// With what to write.
pub(crate) fn loadable(uri: &str) -> Result<(), WishError> {
    // What is no URI of a store here may be one of a ClusterStorageContainer's.
    let Ok(uri) = uri.parse::<StorageUri>() else {
        return Ok(());
    };
    if uri.scheme() == Scheme::Gs && uri.key().is_empty() {
        let bucket = uri.authority();
        return Err(WishError::contradiction(
            format!("KServe can't load all of a bucket of Google Cloud Storage, and gs://{bucket} names nothing in it"),
            format!(
                "name the folder or the file that is the model, such as gs://{bucket}/model; where it lies in no folder, move it into one"
            ),
        ));
    }
    if let Some(with_slash) = uri.with_slash_behind_container() {
        let container = with_slash.trim_end_matches('/');
        return Err(WishError::contradiction(
            format!("KServe can't load {container}, since no slash stands behind the container's name"),
            format!("write {with_slash} for all that is in it, or name a folder"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kserve_takes_for_no_place_is_refused_with_what_to_write() {
        let refused = |uri: &str| {
            let error = loadable(uri).unwrap_err();
            format!("{error}; {}", error.next())
        };
        for bucket in ["gs://models", "gs://models/"] {
            assert_eq!(
                refused(bucket),
                "KServe can't load all of a bucket of Google Cloud Storage, and gs://models names nothing in it; name the folder or the file that is the model, \
                 such as gs://models/model; where it lies in no folder, move it into one"
            );
        }
        // A token is repeated nowhere.
        assert_eq!(
            refused("https://acme.blob.core.windows.net/models?sig=hidden"),
            "KServe can't load https://acme.blob.core.windows.net/models, since no slash stands behind the container's name; \
             write https://acme.blob.core.windows.net/models/ for all that is in it, or name a folder"
        );
        for good in [
            "s3://models",
            "gs://models/fraud",
            "https://acme.blob.core.windows.net/models/",
            "https://acme.blob.core.windows.net/models/fraud",
            "https://example.com/models",
            "pvc://claim",
        ] {
            loadable(good).unwrap();
        }
    }
}
