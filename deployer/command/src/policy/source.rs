//! Where a policy comes from: a file, a project's folder, or the name of one that Tidewaiter ships.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tidewaiter_builtin::POLICIES;
use tidewaiter_engine::{Engine, Options};
use tidewaiter_registry::{Error, Reference, nobody};
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
pub(super) async fn component(source: &str) -> Result<Component, Failure> {
    if source.starts_with("oci://") {
        let reference: Reference = source.parse()?;
        let pulled = RegistryArguments::default().open(&reference)?;
        let pulled = pulled.pull(&reference, &nobody).await.map_err(|error| match error {
            Error::Unreachable { .. } => Failure {
                message: error.to_string(),
                next: Some(format!(
                    "for a registry without TLS, or with certificates of your own, fetch it first: `tidewaiter policy pull {reference}` with --plain-http or \
                     --ca, and name the file"
                )),
            },
            error => error.into(),
        })?;
        return Ok(Component {
            bytes: pulled.component,
            origin: Origin::Registry(source.to_owned()),
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
        assert!(component("runtime-version").await.is_ok(), "its former name");
        let builtin = component("storage-credentials").await.unwrap();
        assert_eq!(builtin.origin, Origin::Builtin);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage-credentials");
        fs::write(&file, &builtin.bytes).unwrap();
        let read = component(&file.display().to_string()).await.unwrap();
        assert_eq!(read.origin, Origin::File("storage-credentials".to_owned()));
    }
}
