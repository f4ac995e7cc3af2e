//! The test policy as a component, and the objects that install it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_ground::{Cluster, host, tls};

/// The variable with the component's file, inside the ground, where nothing can be built.
pub const UNRULY: &str = "TIDEWAITER_UNRULY";

/// The component's file: `$TIDEWAITER_UNRULY`, else built by cargo.
pub fn unruly() -> Result<PathBuf> {
    if let Some(file) = std::env::var_os(UNRULY) {
        return Ok(file.into());
    }
    build(&["unruly"]).map(|folder| folder.join("unruly.component.wasm"))
}

/// Builds packages of the workspace as components, each `NAME.component.wasm` in the folder that comes back.
///
/// It is the folder of the policies that Tidewaiter ships (policies/builtin/build.rs), whose dependencies are compiled there already.
pub fn build(packages: &[&str]) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = host::beside_cargos("policies");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let selected = packages.iter().flat_map(|package| ["--package", package]);
    host::run(
        Command::new(cargo)
            .current_dir(&root)
            .env_remove("CARGO_BUILD_BUILD_DIR")
            .env_remove("CARGO_TARGET_DIR")
            .env("CARGO_ENCODED_RUSTFLAGS", "-Clink-arg=-zstack-size=32768")
            .args(["build", "--lib", "--locked", "--profile", "policy"])
            .args(selected)
            .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
            .arg(&folder),
    )?;
    for package in packages {
        let name = package.replace('-', "_");
        let module = fs::read(folder.join(format!("wasm32-unknown-unknown/policy/{name}.wasm")))?;
        let component = wit_component::ComponentEncoder::default()
            .module(&module)
            .and_then(wit_component::ComponentEncoder::encode)
            .map_err(|error| anyhow::anyhow!("{package} can't be made a component: {error:#}"))?;
        let new = folder.join(format!(".{package}-{}", std::process::id()));
        fs::write(&new, component)?;
        fs::rename(&new, folder.join(format!("{package}.component.wasm")))?;
    }
    Ok(folder)
}

/// The component, with what can't be a name for its own in its description.
pub fn liar(component: &[u8]) -> Result<Vec<u8>> {
    let (name, lie) = (b"unruly", b"UN RUL");
    let mut lying = component.to_vec();
    let places: Vec<usize> = component
        .windows(name.len())
        .enumerate()
        .filter(|(_, bytes)| bytes == name)
        .map(|(at, _)| at)
        .collect();
    ensure!(!places.is_empty(), "the component doesn't say its name");
    for at in places {
        lying[at..at + lie.len()].copy_from_slice(lie);
    }
    Ok(lying)
}

/// The test policy in a `ConfigMap`, as a cluster's admin would bring a policy of their own.
pub fn install_unruly(cluster: &Cluster) -> Result<()> {
    let component = fs::read(unruly()?).context("the test policy")?;
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "tidewaiter-system", "name": "policies"},
        "binaryData": {
            "unruly.wasm": tls::base64(&component),
            "liar.wasm": tls::base64(&liar(&component)?),
            "garbage.wasm": tls::base64(b"no component"),
        },
    });
    let said = cluster.try_kubectl(&["apply", "--server-side", "-f", "-"], &map.to_string())?;
    ensure!(said.ok, "{}", said.stderr);
    Ok(())
}

/// A `WasmPolicy` that runs the test policy in one namespace.
pub fn unruly_in(namespace: &str, name: &str, does: &Value, failure: &str) -> Value {
    json!({
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "WasmPolicy",
        "metadata": {"name": name},
        "spec": {
            "module": {"configMap": {"namespace": "tidewaiter-system", "name": "policies", "key": "unruly.wasm"}},
            "settings": {"does": does},
            "capabilities": ["cluster", "storage"],
            "match": {"namespaces": [namespace]},
            "failurePolicy": failure,
        },
    })
}
