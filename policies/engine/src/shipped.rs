//! Compiled policies that come with the program, so that its first start on a node compiles none of them.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tracing::{debug, warn};
use wasmtime::component::Component;

use crate::compiled::{self, Sum};
use crate::engine;
use crate::load::LoadError;

/// In a shipped file, whose name has no engine in it either: wasmtime sees for itself whether the code is for this version and machine.
const ANY_ENGINE: u64 = 0;

/// A folder of them.
#[derive(Debug)]
pub(crate) struct Shipped {
    dir: PathBuf,
    /// Of the program that runs.
    owner: u32,
}

impl Shipped {
    /// None where there is no such folder, which is usual outside of an image, or where others can write to it.
    pub(crate) fn open(dir: PathBuf) -> Option<Self> {
        let Ok(folder) = fs::symlink_metadata(&dir) else {
            debug!(dir = %dir.display(), "no compiled policies came with this program");
            return None;
        };
        let owner = std::env::current_exe()
            .and_then(fs::metadata)
            .map(|program| program.uid());
        match owner {
            Ok(owner) if folder.is_dir() && trusted(&folder, owner).is_ok() => Some(Self { dir, owner }),
            _ => {
                warn!(
                    dir = %dir.display(),
                    "compiled policies that came with this program are not used: their folder is not one that only the program's owner can write to"
                );
                None
            }
        }
    }

    /// None where it isn't there or isn't for this machine; the log says why.
    pub(crate) fn component(&self, engine: &wasmtime::Engine, bytes: &[u8]) -> Option<Component> {
        let sum: Sum = Sha256::digest(bytes).into();
        let path = self.dir.join(file_name(&sum));
        let payload = compiled::read(&path, ANY_ENGINE, &sum, |file| trusted(file, self.owner));
        let component = match payload {
            Ok(None) => return None,
            Ok(Some(payload)) => compiled::deserialize(engine, &payload).map_err(|error| format!("{error:#}")),
            Err(error) => Err(error.to_string()),
        };
        component
            .inspect_err(
                |error| warn!(file = %path.display(), error, "a compiled policy of this program's can't be used; compiling it"),
            )
            .ok()
    }
}

fn trusted(metadata: &Metadata, owner: u32) -> Result<(), &'static str> {
    if metadata.uid() != owner || metadata.mode() & 0o022 != 0 {
        return Err("others than the owner of this program can write it");
    }
    Ok(())
}

fn file_name(sum: &Sum) -> String {
    format!("{}.policy", compiled::hex(sum))
}

/// Compiles a component for a machine, by its target triple, such as `aarch64-unknown-linux-musl`: the name and the bytes of a file for the folder that
/// [`Options::shipped_dir`](crate::Options::shipped_dir) names. It uses what every processor of that architecture can do.
///
/// # Errors
/// A machine that this build can't compile for, or a component that can't be compiled.
pub fn compile_for(target: &str, component: &[u8]) -> Result<(String, Vec<u8>), LoadError> {
    let error = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
    let mut config = engine::config(engine::MAX_CONCURRENT);
    config.target(target).map_err(error)?;
    let engine = wasmtime::Engine::new(&config).map_err(error)?;
    let sum = Sha256::digest(component).into();
    let payload = engine.precompile_component(component).map_err(error)?;
    Ok((file_name(&sum), compiled::seal(ANY_ENGINE, &sum, &payload)))
}
