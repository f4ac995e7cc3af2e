//! The real registry (distribution), for a process of a test's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Who opens a registry that is shut.
pub const USER: &str = "tide";
/// By which password.
pub const PASSWORD: &str = "water";
/// Tells a process inside of the ground, where nothing can be built, where the program is.
pub const PROGRAM: &str = "TIDEWAITER_REGISTRY";

/// [`USER`] and [`PASSWORD`], as `htpasswd -B` writes them.
const HTPASSWD: &str = "tide:$2b$05$5o1iLa6McBFAlEFBjyN5M.kkWwen0t0UHFn.wNXC6TqO7Yu3RB1bq\n";

/// Writes its configuration into a folder, where its data will be too, and says where: `registry serve FILE`.
pub fn configure(folder: &Path, address: &str, shut: bool) -> Result<PathBuf> {
    let passwords = folder.join("htpasswd");
    fs::create_dir_all(folder)?;
    fs::write(&passwords, HTPASSWD)?;
    let auth = if shut {
        format!("auth: {{htpasswd: {{realm: tide, path: {}}}}}\n", passwords.display())
    } else {
        String::new()
    };
    let config = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n{auth}",
        folder.join("data").display(),
    );
    let file = folder.join("config.yaml");
    fs::write(&file, config)?;
    Ok(file)
}
