//! What the engine asks of whoever runs it: the answers behind the contract's imports, for one object in one namespace.

use async_trait::async_trait;

pub use crate::bindings::tidewaiter::policy::{
    cluster::Label,
    runtimes::{PackageVersion, Release, Runtime},
    storage::{Brought, Error as StorageError, Listing, NotGranted, ObjectInfo, Resolution, Served, Unusable},
    types::Delivery,
};

/// The world around one object under review. An implementation knows the object's namespace and the review's deadline: a call that would
/// outlive the deadline answers [`StorageError::Unreachable`].
#[async_trait]
pub trait World: Send + Sync {
    /// See `storage.resolve` in the contract. Answers from memory.
    async fn resolve(&self, uri: &str) -> Resolution;
    /// See `storage.secret-annotation` in the contract.
    fn secret_annotation(&self) -> Option<String>;
    /// See `storage.brought-credentials` in the contract.
    async fn brought_credentials(&self, service_account: Option<&str>, secret: Option<&str>) -> Brought;
    /// See `storage.stat` in the contract.
    async fn stat(&self, uri: &str) -> Result<ObjectInfo, StorageError>;
    /// See `storage.list-objects` in the contract.
    async fn list_objects(&self, uri: &str, limit: u32) -> Result<Listing, StorageError>;
    /// See `storage.read` in the contract.
    async fn read(&self, uri: &str, offset: u64, length: u32) -> Result<bytes::Bytes, StorageError>;
    /// See `storage.list-folder` in the contract.
    async fn list_folder(&self, uri: &str, limit: u32) -> Result<Listing, StorageError>;
    /// See `runtimes.supporting` in the contract. Answers from memory.
    async fn supporting(&self, format: &str, version: Option<&str>) -> Vec<Runtime>;
    /// See `runtimes.named` in the contract. Answers from memory.
    async fn named(&self, name: &str) -> Option<Runtime>;
    /// See `runtimes.spec` in the contract. Answers from memory.
    async fn runtime_spec(&self, name: &str) -> Option<String>;
    /// See `runtimes.release-of` in the contract. Answers from memory.
    async fn release_of(&self, repository: &str, tag: &str, packages: &[String]) -> Option<Release>;
    /// See `runtimes.releases` in the contract. Answers from memory.
    async fn releases(&self, repository: &str, packages: &[String]) -> Vec<Release>;
    /// See `runtimes.lacking` in the contract. Answers from memory.
    async fn lacking(&self, repository: &str, packages: &[String]) -> Vec<String>;
    /// Labels of the object's namespace.
    async fn namespace_labels(&self) -> Vec<Label>;
    /// See `cluster.node-architectures` in the contract.
    async fn node_architectures(&self) -> Vec<String>;
    /// See `cluster.get-object` in the contract. `policy` is the name of the `WasmPolicy` that asks: each gets only what it declared itself.
    async fn get_object(
        &self,
        policy: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String>;
    /// See `cluster.list-objects` in the contract. `policy` as in [`get_object`](Self::get_object).
    async fn cluster_objects(&self, policy: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String>;
    /// See `cluster.kserve-config` in the contract. Answers from memory.
    async fn kserve_config(&self, key: &str) -> Option<String>;
}
