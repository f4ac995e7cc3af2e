//! A compiled policy in a file. What is loaded from one runs as native code of this process, so each doubt about it is a reason to compile instead.
//!
//! A file is: magic (8 bytes), the hash of the engine that it was made for (8), sha256 of the component (32), sha256 of the payload (32), payload.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

/// The last byte is the version of this layout.
const MAGIC: &[u8; 8] = b"tidewas\x01";
const HEADER: usize = 8 + 8 + 32 + 32;
/// No compiled policy is as large; a file that is isn't read.
const FILE_MAX: u64 = 256 << 20;
/// Linux: the last part of the path is not a symbolic link. (`libc::O_NOFOLLOW`; a crate for one number would be too much.)
const NOFOLLOW: i32 = 0o400_000;

/// sha256 of a component.
pub(crate) type Sum = [u8; 32];

/// The file's bytes.
pub(crate) fn seal(engine: u64, component: &Sum, payload: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER + payload.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&engine.to_le_bytes());
    file.extend_from_slice(component);
    file.extend_from_slice(&Sha256::digest(payload));
    file.extend_from_slice(payload);
    file
}

/// The payload of a file that `trusted` vouches for, once its header agrees. None where there is no file.
pub(crate) fn read(
    path: &Path,
    engine: u64,
    component: &Sum,
    trusted: impl Fn(&Metadata) -> Result<(), &'static str>,
) -> io::Result<Option<Vec<u8>>> {
    let doubt = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let file = match OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Of the open file: what stands at the path may be exchanged meanwhile.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(doubt("it is no file"));
    }
    trusted(&metadata).map_err(doubt)?;
    if metadata.len() > FILE_MAX {
        return Err(doubt("it is too large"));
    }
    let (mut file, mut header) = (file.take(FILE_MAX), [0; HEADER]);
    match file.read_exact(&mut header) {
        Ok(()) if header.starts_with(MAGIC) => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => return Err(doubt("it is none of ours, or cut off")),
    }
    if header[8..16] != engine.to_le_bytes() {
        return Err(doubt("another version of the engine made it"));
    }
    if header[16..48] != component[..] {
        return Err(doubt("it was made from another policy"));
    }
    let mut payload = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut payload)?;
    if header[48..80] != Sha256::digest(&payload)[..] {
        return Err(doubt("it is damaged"));
    }
    Ok(Some(payload))
}

/// The component of a payload that [`read`] gave.
#[allow(unsafe_code, reason = "wasmtime can't check native code; see the proof below")]
pub(crate) fn deserialize(engine: &wasmtime::Engine, payload: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `Component::deserialize` asks for bytes that wasmtime's compiler made, unaltered. `read` gave these only after it saw that
    // - the file was opened without following a link, and its owner and permissions are such that only somebody could have written it who can
    //   run any code as this process anyway: this process's own user (`Cache`), or the owner of its program (`Shipped`);
    // - it begins with our magic, and its payload has the sha256 that was written with it, so it is whole. Nothing but `Cache` and `compile_for` makes
    //   such files, from `Component::serialize` and `Engine::precompile_component`.
    // Whether the code was made by this version, for this machine and with these settings, wasmtime finds in the payload, and refuses.
    unsafe { Component::deserialize(engine, payload) }
}

/// As it stands in files' names.
pub(crate) fn hex(sum: &Sum) -> String {
    sum.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
