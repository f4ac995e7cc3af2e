//! Whose credentials KServe opens the store with: with its user's own it may open another store than we looked at.

use tidewaiter_policy::core::service::{Component, Service};
use tidewaiter_policy::storage::{self, Brought, Served};

/// Whether what was seen by the backend's credentials is what KServe will see.
pub(crate) fn same_store(service: &Service<'_>, component: &Component<'_>, served: &Served) -> bool {
    let named = storage::secret_annotation().and_then(|annotation| {
        component
            .annotation(&annotation)
            .or_else(|| service.annotation(&annotation))
    });
    // KServe opens the `storageUris` of every component with the predictor's storage key.
    let shared = || service.predictor().filter(|_| component.storage_uris);
    if let Some(storage) = component.storage().or_else(|| shared()?.storage()) {
        let ours = storage.key.as_deref() == Some(served.storage_key.as_str());
        return ours && named.as_deref() == Some(served.secret.as_str());
    }
    let account = component.service_account_name.as_deref();
    match storage::brought_credentials(account, named.as_deref()) {
        Brought::Nothing => named.is_none(),
        Brought::Managed(secrets) => secrets
            .iter()
            .all(|name| *name == served.secret || *name == served.service_account),
        Brought::Usable(_) | Brought::Missing(_) | Brought::Unknown(_) => false,
    }
}
