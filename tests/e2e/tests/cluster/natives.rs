//! Native files in a model that no Pod here loads, in the real store: what Python makes of them without the built-in policy `architecture`, and what is said with it.
//! A library of Linux is in `architecture`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::Model;
use tidewaiter_ground::models::SavedWith::Sklearnserver0_20;
use tidewaiter_ground::{HOST, MINIO_PORT, MINIO_USER};

use crate::architecture::{alone, other_machine};
use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[(
    "files_of_other_systems_and_a_wheel_of_another_machine_do_not_load_and_are_told_of",
    true,
    files_of_other_systems_and_a_wheel_of_another_machine_do_not_load_and_are_told_of,
)];

/// A library that begins as Apple's linker begins one (`mach-o/loader.h`), for arm64.
fn mach_o() -> Vec<u8> {
    let mut file: Vec<u8> = [0xfeed_facf_u32, 0x0100_000c, 0, 6]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    file.resize(4096, 0);
    file
}

/// A library that begins as Microsoft's linker begins one (the PE format), for amd64.
fn pe() -> Vec<u8> {
    let mut file = b"MZ".to_vec();
    file.resize(0x3c, 0);
    file.extend(0x80_u32.to_le_bytes());
    file.resize(0x80, 0);
    file.extend(b"PE\0\0\x64\x86");
    file.resize(4096, 0);
    file
}

/// What Python says of each file of the model: how it loads a library, and on which platforms a wheel is installed (`packaging`, by which pip decides).
const LOADS_ALL: &str = "import ctypes, glob, os
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename
for file in sorted(glob.glob('/mnt/models/code/*')):
    name = os.path.basename(file)
    if name.endswith('.whl'):
        fits = parse_wheel_filename(name)[3] & set(sys_tags())
        print(name, 'fits' if fits else 'is not a supported wheel on this platform', flush=True)
        continue
    try:
        ctypes.CDLL(file)
        print(name, 'loads', flush=True)
    except OSError as error:
        print(name, 'OSError', error, flush=True)
";

/// Loads what lies in its model, and says how that went.
fn service(uri: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "native"},
        "spec": {"predictor": {"containers": [{
            "name": "kserve-container",
            "image": "docker.io/seldonio/mlserver:1.7.1",
            "command": ["/usr/bin/python3", "-c", LOADS_ALL],
            "env": [{"name": "STORAGE_URI", "value": uri}],
        }]}},
    })
}

fn files_of_other_systems_and_a_wheel_of_another_machine_do_not_load_and_are_told_of(world: &World) -> Result<()> {
    let _alone = alone();
    let (other, _) = other_machine();
    let machine = if other == "arm64" { "aarch64" } else { "x86_64" };
    let wheel = format!("score-1.0-cp311-cp311-manylinux_2_17_{machine}.whl");
    // A model for each file, since several would contradict each other; and one with all.
    let files = [
        (
            "mach-o",
            "libscore.dylib",
            mach_o(),
            "built for macOS; no container here loads it".to_owned(),
        ),
        (
            "pe",
            "score.dll",
            pe(),
            "built for Windows; no container here loads it".to_owned(),
        ),
        ("wheel", &*wheel, b"PK".to_vec(), format!("built for {other}")),
    ];
    let put = |name: &str, files: &[(&str, &[u8])]| -> Result<String> {
        let mut model = Model::make(world.cluster.cache(), "plain_sklearn", Sklearnserver0_20)?;
        model.folder = world.cluster.folder().join(format!("native-{name}"));
        fs::create_dir_all(model.folder.join("code"))?;
        for (file, bytes) in files {
            fs::write(model.folder.join("code").join(file), bytes)?;
        }
        model.put(world.cluster.cache(), "mlflow", &format!("shared/native-{name}"))
    };

    let all: Vec<(&str, &[u8])> = files.iter().map(|(_, file, bytes, _)| (*file, &**bytes)).collect();
    let without = world.namespace_without("natives-without")?;
    let endpoint = format!("{HOST}:{MINIO_PORT}");
    let object = service(&put("all", &all)?);
    without.apply(&manifests::with_keys(&object, &endpoint, MINIO_USER, MINIO_USER))?;

    let with = world.namespace("natives")?;
    let policy = |libraries: &str| {
        json!({
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": "architecture"},
            "spec": {
                "module": {"builtin": "architecture"},
                "match": {"namespaces": [with.name()]},
                "settings": {"libraries": libraries},
            },
        })
    };
    let custom = Custom::apply(&world.cluster, &policy("warn"))?;
    custom.until("Loaded", "True")?;
    let dry = ["--server-side", "--dry-run=server"];
    for (name, file, bytes, says) in &files {
        let object = service(&put(name, &[(*file, &**bytes)])?).to_string();
        let line = format!("code/{file} in the model is {says}");
        world.cluster.until("it is told of", Duration::from_mins(1), || {
            let said = with.try_apply(&dry, &object)?;
            let mut warnings = said.warnings().into_iter();
            ensure!(
                said.ok && warnings.any(|warning| warning.contains(&line)),
                "{}",
                said.stderr
            );
            Ok(Some(()))
        })?;
    }
    // Where the admin says so, it is a reason to refuse: of a machine that this cluster hasn't.
    custom.change(&policy("deny"))?;
    custom.until("Loaded", "True")?;
    let object = service("s3://mlflow/shared/native-wheel").to_string();
    world.cluster.until("it is refused", Duration::from_mins(1), || {
        let said = with.try_apply(&dry, &object)?;
        let says = format!("code/{wheel} in the model is built for {other}");
        ensure!(
            !said.ok && said.stderr.contains(&says),
            "{}{}",
            said.stdout,
            said.stderr
        );
        Ok(Some(()))
    })?;

    world.cluster.until("nothing of it loads", Duration::from_mins(4), || {
        let pods = without.pods("native")?;
        let logs = world
            .cluster
            .logs(pods.first().context("no Pod yet")?, "kserve-container")?
            .concat();
        for said in [
            "libscore.dylib OSError",
            "score.dll OSError",
            "is not a supported wheel on this platform",
        ] {
            ensure!(logs.contains(said), "no `{said}` in {logs}");
        }
        Ok(Some(()))
    })
}
