//! The SDKs' own tests, in the languages' own runners.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use tidewaiter_examples::{missing, policies};
use tidewaiter_ground::cache::{Cache, Key};
use tidewaiter_ground::host;
use tidewaiter_tools::Language;

fn there(language: Language) -> bool {
    let missing = missing(language);
    if let Some(reason) = &missing {
        eprintln!("not tested: {reason}");
    }
    missing.is_none()
}

#[test]
fn the_sdk_for_typescript_passes_its_tests() {
    if !there(Language::TypeScript) {
        return;
    }
    let sdk = policies().join("sdk-typescript");
    let manifests = ["package.json", "package-lock.json", ".npmrc"];
    let mut key = Key::new().with(host::output(Command::new("npm").arg("--version")).unwrap());
    for name in manifests {
        key = key.with(fs::read(sdk.join(name)).unwrap());
    }
    let packages = Cache::open().unwrap().entry("npm", "sdk-typescript", &key, |folder| {
        for name in manifests {
            fs::copy(sdk.join(name), folder.join(name))?;
        }
        host::run(
            Command::new("npm")
                .current_dir(folder)
                .args(["ci", "--no-audit", "--no-fund"]),
        )
    });
    let work = tempfile::tempdir().unwrap();
    host::run(Command::new("cp").arg("-r").arg(sdk.join(".")).arg(work.path())).unwrap();
    let modules = work.path().join("node_modules");
    if !modules.exists() {
        symlink(packages.unwrap().join("node_modules"), modules).unwrap();
    }
    host::run(Command::new("npm").current_dir(work.path()).arg("test")).unwrap();
}

#[test]
fn the_sdk_for_python_passes_its_tests() {
    if there(Language::Python) {
        host::run(
            Command::new("python3")
                .current_dir(policies().join("sdk-python"))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .args(["-m", "unittest", "discover", "tests"]),
        )
        .unwrap();
    }
}

#[test]
fn the_sdk_for_go_passes_its_tests_and_is_formatted() {
    if !there(Language::Go) {
        return;
    }
    let sdk = policies().join("sdk-go");
    host::run(Command::new("go").current_dir(&sdk).args(["test", "./..."])).unwrap();
    let unformatted = host::output(
        Command::new("gofmt")
            .current_dir(policies())
            .args(["-l", "sdk-go", "examples/go"]),
    );
    assert_eq!(unformatted.unwrap(), "");
}
