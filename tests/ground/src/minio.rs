//! How MinIO is started, wherever it runs.

use std::path::Path;
use std::process::Command;

/// Makes a MinIO's command of its program (see [`Module::Minio`](crate::tools::Module::Minio)), which may be run by another one. `key` is the root user's name and
/// password, `address` such as `127.0.0.1:9000`. A folder in `data` is a bucket.
pub fn server<'c>(program: &'c mut Command, key: &str, data: &Path, address: &str) -> &'c mut Command {
    program
        .env("MINIO_ROOT_USER", key)
        .env("MINIO_ROOT_PASSWORD", key)
        .env("MINIO_BROWSER", "off")
        .arg("server")
        .arg(data)
        .args(["--address", address, "--quiet"])
}
