//! The command as an author and a CI run use it, on files alone. The whole path from `new` to a refusal in a cluster is among the end-to-end tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

#[path = "../../../../policies/tools/fixtures/planted.rs"]
mod planted;

mod manifests;
mod one;
mod policies;
mod projects;

const SERVICE: &str = "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: fraud, namespace: team-a}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: s3://mlflow/TEAM/model
";

const CONFIG: &str = include_str!("../../../../policies/tools/fixtures/minio.yaml");
const WORLD: &str = include_str!("../../../../policies/tools/fixtures/world.yaml");
/// Of `helm template`.
const HELM: &str = include_str!("../../../../policies/tools/fixtures/helm.yaml");

const CASES: &str = "
cases:
  - name: a team's own model is opened
    file: own.yaml
    expect: {allowed: true, effects: [{backend: minio}]}
  - name: another team's model isn't
    file: foreign.yaml
    expect: {allowed: true}
";

fn cases() -> String {
    let world = WORLD.lines().map(|line| format!("  {line}\n"));
    format!("world:\n{}{CASES}", world.collect::<String>())
}

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        for (name, text) in [
            ("own.yaml", SERVICE.replace("TEAM", "team-a")),
            ("foreign.yaml", SERVICE.replace("TEAM", "team-b")),
            ("config/minio.yaml", CONFIG.to_owned()),
            ("cases.yaml", cases()),
            ("world.yaml", WORLD.to_owned()),
        ] {
            let path = desk.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidewaiter"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("KUBECONFIG", self.path().join("none"));
        command
    }

    fn tidewaiter(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// The same with this on standard input: what it prints, where it ends so.
    fn piped(&self, code: i32, arguments: &[&str], input: &str) -> String {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = running.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it prints, where it ends so.
    fn said(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.tidewaiter(arguments);
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{said}\n{complained}");
        assert!(
            !said.contains("secret-key") && !complained.contains("secret-key"),
            "{said}\n{complained}"
        );
        said + &complained
    }

    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.tidewaiter(arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A disk that is full: an error, and no panic.
#[test]
#[cfg(target_os = "linux")]
fn what_can_not_be_printed_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidewaiter"))
        .args(["policy", "docs", "storage-credentials"])
        .stdout(full)
        .output()
        .unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complained}");
    assert!(
        complained.contains("can't be written to standard output") && !complained.contains("panicked"),
        "{complained}"
    );
}

#[test]
fn a_job_that_gives_no_identity_is_told() {
    let desk = Desk::new();
    let mut command = desk.command(&["policy", "sign", "127.0.0.1:9/house-rules:1"]);
    command
        .env("GITHUB_ACTIONS", "true")
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:9/token")
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complained}");
    assert!(!complained.contains("of-the-job"), "{complained}");
}
