//! A policy's module before it is in use, for whoever applies the policy: settings that it refuses, and imports that it isn't granted, are told by `kubectl` then.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use tidewaiter_core::policy_resource::{ConfigMapModule, Module, WasmPolicySpec};
use tidewaiter_engine::{Engine, LoadError};
use tidewaiter_registry::{Credentials, nobody};
use tidewaiter_world::{ClusterReader, Objects, Policy, has_digest};
use tokio::time::timeout;

use super::{ModuleSettings, credentials};

/// For all of it, so that whoever applies the policy is told before the API server's own patience ends. What takes longer is told in the condition.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct FirstLook {
    engine: Engine,
    /// None where nothing is fetched over the network.
    modules: Option<Arc<ModuleSettings>>,
}

impl FirstLook {
    pub(crate) fn new(engine: Engine, modules: Option<Arc<ModuleSettings>>) -> Self {
        Self { engine, modules }
    }

    /// # Errors
    /// What of the object itself its module doesn't take. What is wrong with the module may be mended while the object stays as it is, and is no error here; nor is one that
    /// isn't to be had.
    pub(crate) async fn at(
        &self,
        policy: &Policy,
        objects: &Objects,
        reader: Option<&dyn ClusterReader>,
    ) -> Result<(), String> {
        let look = async {
            let component = self.component(&policy.spec, objects, reader).await?;
            has_digest(&component, policy.spec.digest.as_deref()).ok()?;
            policy.load(&self.engine, &component, false).await.err()
        };
        match timeout(PATIENCE, look).await {
            Ok(Some(error @ (LoadError::Settings(_) | LoadError::NotGranted { .. }))) => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    async fn component(
        &self,
        spec: &WasmPolicySpec,
        objects: &Objects,
        reader: Option<&dyn ClusterReader>,
    ) -> Option<Bytes> {
        match &spec.module {
            Module::ConfigMap(module) => in_config_map(module, reader?).await,
            Module::Oci(_) | Module::Https(_) => {
                let modules = self.modules.as_ref()?;
                let credentials = match &spec.module {
                    Module::Oci(module) => credentials(module, objects).ok()?,
                    _ => Credentials::default(),
                };
                let ways = &modules.ways;
                let wanted = ways
                    .wanted(&spec.module, spec.digest.as_deref(), spec.verify.as_ref())
                    .ok()?;
                let fetched = modules
                    .fetcher
                    .fetch(&ways.registry(credentials), &wanted, &nobody)
                    .await;
                // Settings for a version that comes are no mistake for the last one that was good.
                let fetched = fetched.ok().filter(|fetched| fetched.trouble.is_none())?;
                Some(fetched.component)
            }
            Module::Builtin(_) | Module::File(_) => None,
        }
    }
}

async fn in_config_map(module: &ConfigMapModule, reader: &dyn ClusterReader) -> Option<Bytes> {
    let read = reader.object(&module.namespace, "v1", "ConfigMap", &module.name).await;
    let map: Value = serde_json::from_str(&read.ok()??).ok()?;
    let data = map["binaryData"][&module.key].as_str()?;
    STANDARD.decode(data).ok().map(Bytes::from)
}
