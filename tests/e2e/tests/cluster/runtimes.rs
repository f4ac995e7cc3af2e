//! KServe's runtimes as Tidewaiter knows them where no cluster tells it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidewaiter_core::kserve_runtimes::of_release;
use tidewaiter_core::runtimes::{ServingRuntime, SupportedFormat};
use tidewaiter_ground::tools::{Kserve, Module};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "runtimes_without_a_cluster_are_those_that_kserve_installs",
    false,
    runtimes_without_a_cluster_are_those_that_kserve_installs,
)];

/// Held against KServe's own manifest: those in the cluster have the ground's resources.
fn runtimes_without_a_cluster_are_those_that_kserve_installs(_: &World) -> Result<()> {
    let release = Kserve::V0_20.version();
    let file = Module::Kserve(Kserve::V0_20)
        .unpacked("github.com/kserve/kserve")?
        .join("install")
        .join(release)
        .join("kserve-cluster-resources.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
    let mut installed = Vec::new();
    for document in text.split("\n---\n") {
        if document.lines().any(|line| line == "kind: ClusterServingRuntime") {
            let object: Value = serde_saphyr::from_str(document)?;
            installed.push(ServingRuntime::from_json(&object)?);
        }
    }
    installed.retain(|runtime| !runtime.multi_node);
    installed.sort_by(|a, b| a.name.cmp(&b.name));
    let mut known = of_release(release).with_context(|| format!("{release} is no known release"))?;
    known.sort_by(|a, b| a.name.cmp(&b.name));

    let names =
        |runtimes: &[ServingRuntime]| -> Vec<String> { runtimes.iter().map(|runtime| runtime.name.clone()).collect() };
    ensure!(
        names(&installed) == names(&known),
        "KServe installs {:?}, known are {:?}",
        names(&installed),
        names(&known)
    );
    for (installed, known) in installed.into_iter().zip(known) {
        let (installed, known) = (plain(installed)?, plain(known)?);
        ensure!(
            installed == known,
            "KServe installs {installed:#?}\nknown is {known:#?}"
        );
    }
    Ok(())
}

/// A runtime, and its spec apart. KServe leaves `autoSelect` out where it could say `false`.
fn plain(mut runtime: ServingRuntime) -> Result<(ServingRuntime, Value)> {
    for SupportedFormat { auto_select, .. } in &mut runtime.formats {
        auto_select.get_or_insert(false);
    }
    let text = runtime
        .spec
        .take()
        .with_context(|| format!("{} has no spec", runtime.name))?;
    let mut spec: Value = serde_json::from_str(&text)?;
    let formats = spec["supportedModelFormats"].as_array_mut().into_iter().flatten();
    for format in formats.filter_map(Value::as_object_mut) {
        format.entry("autoSelect").or_insert(Value::Bool(false));
    }
    Ok((runtime, spec))
}
