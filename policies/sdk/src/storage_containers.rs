//! `ClusterStorageContainer`: by these an admin has KServe fetch models from elsewhere than its own initializer does.

use tidewaiter_core::storage_container;
use tidewaiter_core::uri::{StorageUri, UriError};

use crate::{Request, cluster};

/// For [`Policy::OBJECTS`](crate::Policy::OBJECTS).
pub const OBJECT: (&str, &str) = (storage_container::API_VERSION, storage_container::KIND);

/// Whether one may fetch the model of a URI whose scheme KServe's own initializer doesn't know (`ValidateStorageURI` of KServe 0.15 to 0.20 takes it then): by its
/// formats, or since the object names it. Where they can't be read, none does.
pub fn may_fetch(request: &Request, uri: &str) -> bool {
    matches!(StorageUri::parse(uri), Err(UriError::Unsupported { .. }))
        && (request.object.contains("\"storageContainerName\"")
            || cluster::list_objects(OBJECT.0, OBJECT.1).is_ok_and(|all| storage_container::may_fetch(&all, uri)))
}
