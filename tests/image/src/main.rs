//! `cargo xtask image`.

use std::env;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use tidewaiter_image::binary::{self, Workshop};
use tidewaiter_image::oci::{Architecture, Release};
use tidewaiter_image::{layout, policies, sbom, source, webhook};

const HELP: &str = "\
The container image: an OCI image layout for linux/amd64 and linux/arm64, the same bytes from every checkout of a commit

Usage: cargo xtask image [OPTIONS]

Options:
  --out DIR              Where the layout goes; default: target/image
  --archive FILE         Also as one tar, for `ctr images import`, `podman load` and `skopeo copy oci-archive:FILE ...`
  --arch ARCH            Only amd64, or only arm64
  --policies DIR         Nothing but the compiled policies, for this machine, into a folder
  --name REPOSITORY:TAG  What those who import it call it; default: what the chart runs

SOURCE_DATE_EPOCH, in seconds since 1970, is the time of everything in the image; default: that of the commit";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    out: PathBuf,
    archive: Option<PathBuf>,
    policies: Option<PathBuf>,
    architectures: Vec<Architecture>,
    repository: String,
    tag: String,
}

/// `None` where help was asked for.
fn options(root: &Path) -> Result<Option<Options>> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut options = Options {
        out: target.join("image"),
        archive: None,
        policies: None,
        architectures: Architecture::ALL.to_vec(),
        repository: webhook::REPOSITORY.to_owned(),
        tag: source::VERSION.to_owned(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(None);
            }
            Long("out") => options.out = parser.value()?.into(),
            Long("archive") => options.archive = Some(parser.value()?.into()),
            Long("policies") => options.policies = Some(parser.value()?.into()),
            Long("arch") => {
                let wanted = parser.value()?.string()?;
                options
                    .architectures
                    .retain(|architecture| architecture.name() == wanted);
                ensure!(
                    !options.architectures.is_empty(),
                    "--arch {wanted}: it is amd64 or arm64"
                );
            }
            Long("name") => {
                let name = parser.value()?.string()?;
                (options.repository, options.tag) = match name.rsplit_once(':') {
                    // What stands behind a registry's port is no tag.
                    Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
                    _ => bail!(
                        "--name {name}: it is a repository, a colon and a tag, such as registry.example.com/tidewaiter:1"
                    ),
                };
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(options))
}

fn run() -> Result<()> {
    let root = source::root()?;
    let Some(options) = options(&root)? else {
        return Ok(());
    };
    if let Some(folder) = &options.policies {
        return policies::write(folder, &format!("{}-unknown-linux-gnu", env::consts::ARCH));
    }
    let workshop = Workshop {
        tools: folder("TIDEWAITER_IMAGE_TOOLS")?,
        cache: folder("TIDEWAITER_IMAGE_CACHE")?,
    };
    let commit = source::commit(&root)?;
    let created = source::created(env::var("SOURCE_DATE_EPOCH").ok().as_deref(), commit.as_ref())?;
    let native = workshop.native(&root)?;
    let mut images = Vec::new();
    let mut sizes = Vec::new();
    for &architecture in &options.architectures {
        let binary = workshop.build(&root, architecture)?;
        let size = binary.len();
        let sbom = sbom::attachment(&root, architecture, &native, created)?;
        sizes.push((architecture, size));
        policies::check(&binary)?;
        let compiled = policies::compiled(binary::target(architecture))?;
        images.push(webhook::image(architecture, binary, compiled, Vec::new(), vec![sbom]));
    }
    let release = Release {
        repository: options.repository,
        tag: options.tag,
        created,
        labels: webhook::labels(commit.as_ref()),
        images,
    };
    eprintln!("compressing");
    let blobs = release.blobs()?;
    layout::folder(&blobs, &options.out)?;
    if let Some(archive) = &options.archive {
        let shown = archive.display();
        let file = File::create(archive).with_context(|| format!("can't write {shown}"))?;
        layout::archive(&blobs, BufWriter::new(file)).with_context(|| format!("can't write {shown}"))?;
    }
    for (architecture, size) in sizes {
        println!("linux/{:<6} {:.1} MiB", architecture.name(), mib(size));
    }
    let whole = blobs.by_digest.values().map(Vec::len).sum();
    println!(
        "{}:{}, {:.1} MiB compressed",
        release.repository,
        release.tag,
        mib(whole)
    );
    println!("{}", blobs.digest);
    for place in [Some(&options.out), options.archive.as_ref()].into_iter().flatten() {
        println!("{}", place.display());
    }
    Ok(())
}

/// What xtask sets up.
fn folder(variable: &str) -> Result<PathBuf> {
    let folder = env::var_os(variable);
    Ok(folder
        .with_context(|| format!("{variable} is not set: run this as `cargo xtask image`"))?
        .into())
}

#[allow(clippy::cast_precision_loss, reason = "a size to read")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
