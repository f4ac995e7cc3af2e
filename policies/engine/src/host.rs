//! The contract's imports: what a policy asks, answered by the review's world.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;

use crate::bindings::tidewaiter::policy::{cluster, log, runtimes, storage, types};
use crate::empty::Empty;
use crate::room::Held;
use crate::world::{Brought, Label, Listing, ObjectInfo, Release, Resolution, Runtime, StorageError, World};

/// A policy may write this many lines in one run, each of this many bytes; the rest is dropped.
const LOG_LINES: u32 = 32;
const LOG_BYTES: usize = 1024;
/// What one table may hold. The largest that known toolchains make have about 15,000.
const TABLE_ELEMENTS: usize = 20_000;

/// What a policy's instance carries: its world, its limits, what it used of them.
pub(crate) struct State {
    /// None while a policy is loaded: there is no object yet, and no one to answer.
    pub(crate) world: Option<Arc<dyn World>>,
    pub(crate) policy: Arc<str>,
    /// `namespace/name` of the object under review.
    pub(crate) object: Arc<str>,
    /// Spent waiting for host calls.
    pub(crate) host: Duration,
    /// For how long it may run.
    pub(crate) ticks: u64,
    pub(crate) memory_max: usize,
    pub(crate) memory_refused: bool,
    /// What it holds of the memory of all; none until it runs.
    pub(crate) held: Option<Held>,
    /// All others together have the memory that it wanted.
    pub(crate) no_room: bool,
    pub(crate) log_lines: u32,
    /// Of the WASI in which nothing is.
    pub(crate) empty: Empty,
}

impl State {
    fn world(&self) -> wasmtime::Result<Arc<dyn World>> {
        match &self.world {
            Some(world) => Ok(Arc::clone(world)),
            None => wasmtime::bail!("it asked the world while it was loaded, when there is no object yet"),
        }
    }

    /// What a language's runtime printed, for who looks for it.
    pub(crate) fn printed(&mut self, line: &str) {
        if let Some(line) = self.line(line) {
            tracing::debug!(policy = &*self.policy, object = &*self.object, "{line}");
        }
    }

    /// As much of a line as may be logged; none once there were too many.
    fn line<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if self.log_lines == LOG_LINES {
            return None;
        }
        self.log_lines += 1;
        Some(&line[..line.floor_char_boundary(LOG_BYTES)])
    }

    async fn timed<T>(&mut self, answer: impl Future<Output = T>) -> wasmtime::Result<T> {
        let begun = Instant::now();
        let answer = answer.await;
        self.host += begun.elapsed();
        Ok(answer)
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired <= self.memory_max {
            let more = desired.saturating_sub(current);
            if self.held.as_mut().is_none_or(|held| held.grow(more)) {
                return Ok(true);
            }
            self.no_room = true;
            wasmtime::bail!("over the memory of all policies");
        }
        // A trap says what happened. A failed `memory.grow` ends in whatever the guest's allocator does then.
        self.memory_refused = true;
        wasmtime::bail!("over its memory limit")
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

impl types::Host for State {}

impl storage::Host for State {
    async fn resolve(&mut self, uri: String) -> wasmtime::Result<Resolution> {
        let world = self.world()?;
        self.timed(world.resolve(&uri)).await
    }

    async fn secret_annotation(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.world()?.secret_annotation())
    }

    async fn brought_credentials(
        &mut self,
        service_account: Option<String>,
        secret: Option<String>,
    ) -> wasmtime::Result<Brought> {
        let world = self.world()?;
        self.timed(world.brought_credentials(service_account.as_deref(), secret.as_deref()))
            .await
    }

    async fn stat(&mut self, uri: String) -> wasmtime::Result<Result<ObjectInfo, StorageError>> {
        let world = self.world()?;
        self.timed(world.stat(&uri)).await
    }

    async fn list_objects(&mut self, uri: String, limit: u32) -> wasmtime::Result<Result<Listing, StorageError>> {
        let world = self.world()?;
        self.timed(world.list_objects(&uri, limit)).await
    }

    async fn read(&mut self, uri: String, offset: u64, length: u32) -> wasmtime::Result<Result<Vec<u8>, StorageError>> {
        let world = self.world()?;
        Ok(self.timed(world.read(&uri, offset, length)).await?.map(Vec::from))
    }

    async fn list_folder(&mut self, uri: String, limit: u32) -> wasmtime::Result<Result<Listing, StorageError>> {
        let world = self.world()?;
        self.timed(world.list_folder(&uri, limit)).await
    }
}

impl runtimes::Host for State {
    async fn supporting(&mut self, format: String, version: Option<String>) -> wasmtime::Result<Vec<Runtime>> {
        let world = self.world()?;
        self.timed(world.supporting(&format, version.as_deref())).await
    }

    async fn named(&mut self, name: String) -> wasmtime::Result<Option<Runtime>> {
        let world = self.world()?;
        self.timed(world.named(&name)).await
    }

    async fn spec(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let world = self.world()?;
        self.timed(world.runtime_spec(&name)).await
    }

    async fn release_of(
        &mut self,
        repository: String,
        tag: String,
        packages: Vec<String>,
    ) -> wasmtime::Result<Option<Release>> {
        let world = self.world()?;
        self.timed(world.release_of(&repository, &tag, &packages)).await
    }

    async fn releases(&mut self, repository: String, packages: Vec<String>) -> wasmtime::Result<Vec<Release>> {
        let world = self.world()?;
        self.timed(world.releases(&repository, &packages)).await
    }

    async fn lacking(&mut self, repository: String, packages: Vec<String>) -> wasmtime::Result<Vec<String>> {
        let world = self.world()?;
        self.timed(world.lacking(&repository, &packages)).await
    }
}

impl cluster::Host for State {
    async fn namespace_labels(&mut self) -> wasmtime::Result<Vec<Label>> {
        let world = self.world()?;
        self.timed(world.namespace_labels()).await
    }

    async fn node_architectures(&mut self) -> wasmtime::Result<Vec<String>> {
        let world = self.world()?;
        self.timed(world.node_architectures()).await
    }

    async fn get_object(
        &mut self,
        api_version: String,
        kind: String,
        name: String,
    ) -> wasmtime::Result<Result<Option<String>, String>> {
        let world = self.world()?;
        let policy = Arc::clone(&self.policy);
        self.timed(world.get_object(&policy, &api_version, &kind, &name)).await
    }

    async fn list_objects(
        &mut self,
        api_version: String,
        kind: String,
    ) -> wasmtime::Result<Result<Vec<String>, String>> {
        let world = self.world()?;
        let policy = Arc::clone(&self.policy);
        self.timed(world.cluster_objects(&policy, &api_version, &kind)).await
    }

    async fn kserve_config(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        let world = self.world()?;
        self.timed(world.kserve_config(&key)).await
    }
}

impl log::Host for State {
    async fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let Some(message) = self.line(&message) else {
            return Ok(());
        };
        let (policy, object) = (&*self.policy, &*self.object);
        match level {
            log::Level::Debug => tracing::debug!(policy, object, "{message}"),
            log::Level::Info => tracing::info!(policy, object, "{message}"),
            log::Level::Warn => tracing::warn!(policy, object, "{message}"),
            log::Level::Error => tracing::error!(policy, object, "{message}"),
        }
        Ok(())
    }
}
