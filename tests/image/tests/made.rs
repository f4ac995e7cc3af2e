//! The image as `cargo xtask test --all` made it: from this checkout, and from a copy of it elsewhere.
//!
//! `TIDEWAITER_LAYOUTS` names the two folders, as `PATH` does. Without it these tests count as ignored: to make them takes a quarter of an hour or more.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::GzDecoder;
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidewaiter_image::oci::Architecture;
use tidewaiter_image::{binary, policies, roots, sbom, source};

/// An image layout on disk.
struct Layout(PathBuf);

/// A test's name, and the test of the image of this checkout and of the other one.
type Test = (&'static str, fn(&Layout, &Layout) -> Result<()>);

const TESTS: &[Test] = &[
    (
        "a_copy_of_the_checkout_elsewhere_gives_the_same_bytes",
        a_copy_of_the_checkout_elsewhere_gives_the_same_bytes,
    ),
    (
        "each_machine_has_a_static_program_that_runs_as_nobody",
        each_machine_has_a_static_program_that_runs_as_nobody,
    ),
    (
        "each_machine_has_an_sbom_about_its_image",
        each_machine_has_an_sbom_about_its_image,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folders = env::var_os(LAYOUTS);
    if folders.is_none() && !arguments.list {
        eprintln!("left out, because the image is not made: every test of it (cargo xtask test --all)");
    }
    let trials = TESTS.iter().map(|&(name, test)| {
        let folders = folders.clone();
        let run = move || {
            let [here, elsewhere] = layouts(&folders.context("no folders")?)?;
            test(&here, &elsewhere)
        };
        let run = move || run().map_err(|error: anyhow::Error| format!("{error:#}").into());
        Trial::test(name, run).with_ignored_flag(env::var_os(LAYOUTS).is_none())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// The variable with both folders.
const LAYOUTS: &str = "TIDEWAITER_LAYOUTS";

/// The one of this checkout, and the other.
fn layouts(folders: &OsStr) -> Result<[Layout; 2]> {
    let both = env::split_paths(folders).map(Layout).collect::<Vec<_>>().try_into();
    both.map_err(|_| anyhow::anyhow!("{LAYOUTS} names another number of folders than two"))
}

impl Layout {
    /// What a descriptor names.
    fn blob(&self, descriptor: &Value) -> Result<Vec<u8>> {
        let digest = descriptor["digest"].as_str();
        let digest = digest
            .and_then(|digest| digest.strip_prefix("sha256:"))
            .with_context(|| format!("no SHA-256 in {descriptor}"))?;
        let blob = fs::read(self.0.join("blobs/sha256").join(digest)).with_context(|| format!("the blob {digest}"))?;
        ensure!(sha256(&blob) == digest, "the blob {digest} has another digest");
        ensure!(descriptor["size"] == blob.len(), "the blob {digest} has another size");
        Ok(blob)
    }

    fn json(&self, descriptor: &Value) -> Result<Value> {
        Ok(serde_json::from_slice(&self.blob(descriptor)?)?)
    }

    /// What the release is made of: its images, and what is said about them.
    fn manifests(&self) -> Result<Vec<Value>> {
        let layout = fs::read(self.0.join("index.json")).with_context(|| format!("{}", self.0.display()))?;
        let layout: Value = serde_json::from_slice(&layout)?;
        let release = self.json(&layout["manifests"][0])?;
        Ok(release["manifests"].as_array().context("no manifests")?.clone())
    }

    /// The descriptor of an image.
    fn image(&self, architecture: Architecture) -> Result<Value> {
        let of = |manifest: &Value| manifest["platform"]["architecture"] == architecture.name();
        let image = self.manifests()?.into_iter().find(of);
        image.with_context(|| format!("no image for {}", architecture.name()))
    }

    /// The manifest of what is said about an image.
    fn attached(&self, image: &Value) -> Result<Value> {
        for descriptor in self.manifests()? {
            let manifest = self.json(&descriptor)?;
            if manifest["subject"]["digest"] == image["digest"] {
                return Ok(manifest);
            }
        }
        bail!("nothing is said about {image}")
    }

    /// Each file of an image, where it stands from the root, with its content.
    fn files(&self, manifest: &Value) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for layer in manifest["layers"].as_array().context("no layers")? {
            let blob = self.blob(layer)?;
            for entry in tar::Archive::new(GzDecoder::new(blob.as_slice())).entries()? {
                let mut entry = entry?;
                let path = entry.path()?.display().to_string();
                ensure!(
                    entry.header().uid()? == 0 && entry.header().mode()? & 0o022 == 0,
                    "who runs the image can change {path}"
                );
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                if entry.header().entry_type().is_file() {
                    files.push((path, content));
                }
            }
        }
        Ok(files)
    }

    /// Each part of an image with its digest, the whole last: where one differs, the others say where to look.
    fn parts(&self, architecture: Architecture) -> Result<Vec<(String, String)>> {
        let image = self.image(architecture)?;
        let manifest = self.json(&image)?;
        let files = self.files(&manifest)?;
        let mut parts: Vec<_> = files.iter().map(|(path, file)| (path.clone(), sha256(file))).collect();
        parts.push(("SBOM".to_owned(), self.attached(&image)?.to_string()));
        parts.push(("configuration".to_owned(), self.json(&manifest["config"])?.to_string()));
        parts.push((architecture.name().to_owned(), manifest.to_string()));
        Ok(parts)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn a_copy_of_the_checkout_elsewhere_gives_the_same_bytes(here: &Layout, elsewhere: &Layout) -> Result<()> {
    for architecture in Architecture::ALL {
        let (own, other) = (here.parts(architecture)?, elsewhere.parts(architecture)?);
        let differ: Vec<_> = own
            .iter()
            .filter(|part| !other.contains(part))
            .map(|(name, _)| name)
            .collect();
        ensure!(own == other, "{}: other bytes in {differ:?}", architecture.name());
    }
    // By which digest the release is known.
    let index = |layout: &Layout| fs::read(layout.0.join("index.json"));
    ensure!(index(here)? == index(elsewhere)?, "other indexes of the same parts");
    Ok(())
}

fn each_machine_has_a_static_program_that_runs_as_nobody(here: &Layout, _: &Layout) -> Result<()> {
    for architecture in Architecture::ALL {
        let manifest = here.json(&here.image(architecture)?)?;
        let runs = &here.json(&manifest["config"])?["config"];
        ensure!(runs["User"] == "65532:65532", "{runs}");
        ensure!(
            runs["Entrypoint"] == serde_json::json!(["/tidewaiter-webhook"]),
            "{runs}"
        );

        let files = here.files(&manifest)?;
        let program = files.iter().find(|(path, _)| path == binary::PACKAGE);
        let (_, program) = program.context("no program")?;
        binary::check(program, architecture, &[])?;
        let others = files.iter().filter(|(path, _)| path != binary::PACKAGE);
        for (path, _) in others {
            ensure!(
                path == roots::PATH || path.starts_with(policies::FOLDER),
                "what is {path}?"
            );
        }

        if binary::target(architecture).starts_with(env::consts::ARCH) {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join(binary::PACKAGE);
            fs::write(&file, program)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
            let said = Command::new(&file).arg("--version").env_clear().output()?;
            let said = String::from_utf8(said.stdout)?;
            assert_eq!(said.trim(), format!("{} {}", binary::PACKAGE, source::VERSION));
        }
    }
    Ok(())
}

fn each_machine_has_an_sbom_about_its_image(here: &Layout, _: &Layout) -> Result<()> {
    for architecture in Architecture::ALL {
        let attached = here.attached(&here.image(architecture)?)?;
        ensure!(attached["artifactType"] == sbom::KIND, "{attached}");
        let document = here.json(&attached["layers"][0])?;
        let format = (&document["bomFormat"], &document["specVersion"]);
        ensure!(format.0 == "CycloneDX" && format.1 == "1.6", "{format:?}");
        let components = document["components"].as_array().context("no components")?;
        for wanted in ["wasmtime", "tidewaiter-core", "serving-versions", "rust-std", "musl"] {
            ensure!(
                components.iter().any(|component| component["name"] == wanted),
                "the SBOM for {} doesn't name {wanted}",
                architecture.name()
            );
        }
    }
    Ok(())
}
