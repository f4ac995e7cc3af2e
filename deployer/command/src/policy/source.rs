//! Where a policy comes from: a file, a project's folder, or the name of one that Tidewaiter ships.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tidewaiter_builtin::POLICIES;
use tidewaiter_engine::{Engine, Options};
use tidewaiter_registry::{Reference, nobody};
use tidewaiter_tools::Origin;
use tidewaiter_world::builtin;

use super::super::Failure;
use super::registry::RegistryArguments;

/// A larger file is no policy.
const LARGEST: u64 = 64 << 20;

/// A component's bytes, and where a `WasmPolicy` has it from.
pub(super) struct Component {
    pub(super) bytes: Bytes,
    pub(super) origin: Origin,
}

/// Reads a component: a file, one in a registry (`oci://…`), or a built-in policy by its name.
pub(super) async fn component(source: &str, registry: &RegistryArguments) -> Result<Component, Failure> {
    if source.starts_with("oci://") {
        let reference: Reference = source.parse()?;
        let pulled = registry.open(&reference)?.pull(&reference, &nobody).await?;
        return Ok(Component {
            bytes: pulled.component,
            origin: Origin::Registry(source.to_owned()),
        });
    }
    if registry.is_given() {
        return Err(Failure {
            message: format!("--ca and --plain-http are for a policy in a registry, and {source} is none"),
            next: Some("name it as oci://REGISTRY/NAME:TAG, or leave them out".to_owned()),
        });
    }
    let path = Path::new(source);
    if !path.exists()
        && let Some(component) = shipped(source)
    {
        return Ok(Component {
            bytes: Bytes::from_static(component),
            origin: Origin::Builtin,
        });
    }
    let failed = |reason: String, next: &str| Failure {
        message: format!("{source} {reason}"),
        next: Some(next.to_owned()),
    };
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) => {
            let names: Vec<_> = POLICIES.iter().map(|policy| policy.name).collect();
            let next = format!("name a component's file, or a built-in policy: {}", names.join(", "));
            return Err(failed(format!("can't be read: {error}"), &next));
        }
    };
    if length > LARGEST {
        return Err(failed(
            format!("has {} MiB, and a policy has {} at most", length >> 20, LARGEST >> 20),
            "name the component's file",
        ));
    }
    let bytes = fs::read(path).map_err(|error| failed(format!("can't be read: {error}"), "name a component's file"))?;
    Ok(Component {
        bytes: bytes.into(),
        origin: Origin::File(path.file_name().unwrap_or_default().to_string_lossy().into_owned()),
    })
}

/// An engine that keeps what it compiled: a policy of a script language takes seconds to compile.
pub(crate) fn engine() -> Result<Engine, Failure> {
    let options = Options {
        cache_dir: cache_dir(),
        ..Options::default()
    };
    Engine::new(options).map_err(|error| Failure {
        message: error.to_string(),
        next: None,
    })
}

/// `$XDG_CACHE_HOME/tidewaiter/compiled`, as the XDG base directory specification has it.
fn cache_dir() -> Option<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("tidewaiter/compiled"))
}

/// A built-in policy, also by its former name.
fn shipped(name: &str) -> Option<&'static [u8]> {
    let builtins: Vec<_> = POLICIES.iter().map(|policy| (policy.name, policy.component)).collect();
    builtin(name, &builtins).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_component_says_where_it_comes_from() {
        let component = async |source: &str| super::component(source, &RegistryArguments::default()).await;
        assert!(component("runtime-version").await.is_ok(), "its former name");
        let builtin = component("storage-credentials").await.unwrap();
        assert_eq!(builtin.origin, Origin::Builtin);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage-credentials");
        fs::write(&file, &builtin.bytes).unwrap();
        let read = component(&file.display().to_string()).await.unwrap();
        assert_eq!(read.origin, Origin::File("storage-credentials".to_owned()));
    }

    #[tokio::test]
    async fn the_way_to_a_registry_is_refused_where_none_is_asked() {
        let registry = RegistryArguments {
            plain_http: true,
            ..RegistryArguments::default()
        };
        let failed = component("storage-credentials", &registry).await.err().unwrap();
        assert_eq!(
            failed.message,
            "--ca and --plain-http are for a policy in a registry, and storage-credentials is none"
        );
        // Nobody listens there.
        let failed = component("oci://127.0.0.1:1/house:1", &registry).await.err().unwrap();
        assert!(failed.next.unwrap().contains("--ca"), "{}", failed.message);
    }
}
