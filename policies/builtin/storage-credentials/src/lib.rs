//! Built-in policy `storage-credentials`.
