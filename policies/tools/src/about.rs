//! What a component is, read from its bytes and asked of it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tidewaiter_core::policy_resource::ObjectKind;
use tidewaiter_engine::schema::Schema;
use tidewaiter_engine::{Capability, Engine, LoadError};
use tidewaiter_world::digest_of;
use wit_component::DecodedWasm;
use wit_parser::WorldItem;

use crate::settings::Setting;

/// The contract's package, as it stands in the names of what a component imports.
const PACKAGE: &str = "tidewaiter:policy/";

/// What a policy is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The policy's own name, a DNS label.
    pub name: String,
    /// The policy's own semantic version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// The version of the contract that it was built against; none where it imports nothing that says so.
    pub contract: Option<String>,
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// Bytes.
    pub size: usize,
    /// Full names of what it imports.
    pub imports: Vec<String>,
    /// Names of what it exports.
    pub exports: Vec<String>,
    /// What its `WasmPolicy` has to grant.
    pub capabilities: Vec<Capability>,
    /// Kinds that it gets by name, and that its `WasmPolicy` has to declare.
    pub objects: Vec<ObjectKind>,
    /// Its settings, from their schema.
    pub settings: Vec<Setting>,
    /// The JSON Schema of its settings, where it has one.
    pub settings_schema: Option<Value>,
}

/// Why nothing can be said of a component.
#[derive(Debug, thiserror::Error)]
pub enum AboutError {
    /// It can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It loads, but its imports can't be read.
    #[error("what the component imports can't be read: {0}")]
    Decode(String),
}

impl About {
    /// Loads a component, whatever it imports of the contract, and asks it what it is.
    ///
    /// # Errors
    /// Where it is no policy of this contract, or carries a schema that would keep it from being loaded with any settings.
    pub async fn read(engine: &Engine, component: Bytes) -> Result<Self, AboutError> {
        let description = engine.describe(component.clone()).await?;
        let (imports, exports) = names(&component)?;
        let settings_schema = match description.settings_schema {
            Some(text) => Some(schema(text).await?),
            None => None,
        };
        Ok(Self {
            name: description.name,
            version: description.version,
            summary: description.summary,
            contract: imports.iter().find_map(|import| contract_of(import)).map(str::to_owned),
            digest: digest_of(&component),
            size: component.len(),
            capabilities: capabilities(&imports),
            objects: description
                .objects
                .into_iter()
                .map(|object| ObjectKind {
                    api_version: object.api_version,
                    kind: object.kind,
                })
                .collect(),
            settings: settings_schema.as_ref().map(Setting::of).unwrap_or_default(),
            settings_schema,
            imports,
            exports,
        })
    }
}

/// As the engine reads it when it loads the policy: on a thread of its own, where what panics ends.
async fn schema(text: String) -> Result<Value, LoadError> {
    let read = move || {
        Schema::parse(&text)?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(error.to_string()))
        .map_err(LoadError::Schema)
}

/// The contract's version in the name of an import, such as `tidewaiter:policy/types@0.1.0`.
pub fn contract_of(import: &str) -> Option<&str> {
    Some(import.strip_prefix(PACKAGE)?.split_once('@')?.1)
}

fn capabilities(imports: &[String]) -> Vec<Capability> {
    let named = |import: &String| {
        let (interface, _) = import.strip_prefix(PACKAGE)?.split_once('@')?;
        [
            Capability::Storage,
            Capability::Runtimes,
            Capability::Cluster,
            Capability::Log,
        ]
        .into_iter()
        .find(|capability| capability.as_str() == interface)
    };
    let mut found: Vec<_> = imports.iter().filter_map(named).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Names of what a component imports and exports, in its own order.
fn names(component: &[u8]) -> Result<(Vec<String>, Vec<String>), AboutError> {
    let decoded = wit_component::decode(component).map_err(|error| AboutError::Decode(format!("{error:#}")))?;
    let DecodedWasm::Component(resolve, world) = &decoded else {
        return Err(AboutError::Decode("it is a WIT package without code".to_owned()));
    };
    let world = &resolve.worlds[*world];
    // What a world uses of an interface stands among its imports, too, and is none.
    let imports = world
        .imports
        .iter()
        .filter(|(_, item)| !matches!(item, WorldItem::Type { .. }));
    let imports = imports.map(|(key, _)| resolve.name_world_key(key));
    let exports = world.exports.keys().map(|key| resolve.name_world_key(key));
    Ok((imports.collect(), exports.collect()))
}

#[cfg(test)]
mod tests {
    use tidewaiter_engine::Options;

    use super::*;

    #[tokio::test]
    async fn a_built_in_policy_says_what_it_is() {
        let engine = Engine::new(Options::default()).unwrap();
        let builtin = tidewaiter_builtin::builtin("storage-credentials").unwrap();
        let about = About::read(&engine, Bytes::from_static(builtin.component))
            .await
            .unwrap();
        assert_eq!(
            (about.name.as_str(), about.contract.as_deref()),
            ("storage-credentials", Some("0.1.0"))
        );
        assert!(about.capabilities.contains(&Capability::Storage), "{about:?}");
        assert!(
            about.imports.iter().all(|import| import.starts_with(PACKAGE)),
            "{about:?}"
        );
        assert_eq!(about.exports, ["describe", "check-settings", "review"]);
        assert!(about.digest.starts_with("sha256:") && about.size > 10_000, "{about:?}");
    }

    #[tokio::test]
    async fn what_is_no_policy_is_refused_with_the_reason() {
        let engine = Engine::new(Options::default()).unwrap();
        let error = async |bytes: &'static [u8]| About::read(&engine, bytes.into()).await.unwrap_err().to_string();
        assert!(error(b"\0asm\x01\0\0\0").await.contains("core module"));
        assert!(error(b"hello").await.contains("no WebAssembly component"));
    }

    #[test]
    fn the_contracts_version_stands_in_its_imports() {
        assert_eq!(contract_of("tidewaiter:policy/types@0.1.0"), Some("0.1.0"));
        assert_eq!(contract_of("wasi:io/streams@0.2.0"), None);
    }
}
