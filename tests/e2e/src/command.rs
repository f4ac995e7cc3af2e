//! The command `tidewaiter`, as the tests run it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER};

use crate::server::command_binary;

/// For `TIDEWAITER_PROFILES`, where whoever runs the tests may have profiles of their own.
pub const NO_PROFILES: &str = "/nonexistent/profiles";

/// The variables of a user who has this secret key of the ground's store.
pub fn store_keys(secret: &str) -> [(&'static str, String); 4] {
    [
        ("AWS_ACCESS_KEY_ID", MINIO_USER.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{HOST}:{MINIO_PORT}")),
    ]
}

/// What the command wrote, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code. None where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Said {
    /// Fails with all that was said, where it ended otherwise.
    pub fn ended(self, code: i32) -> Result<Self> {
        ensure!(self.code == Some(code), "not {code}: {self:#?}");
        ensure!(
            !self.stdout.contains(MINIO_USER) && !self.stderr.contains(MINIO_USER),
            "it prints a key: {self:#?}"
        );
        Ok(self)
    }
}

/// Runs it without a terminal.
pub fn tidewaiter(kubeconfig: &Path, arguments: &[&str]) -> Result<Said> {
    Ok(Said::from(
        Command::new(command_binary()?)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .output()?,
    ))
}
