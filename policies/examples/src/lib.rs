//! The example `house-rules` in each language, as components: built as its author would, by the commands of its `tidewaiter.yaml`, in a copy of the SDK and the
//! example outside of the tree, and kept in the ground's cache under what it is made of.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tidewaiter_ground::cache::{Cache, Key};
use tidewaiter_ground::host;
use tidewaiter_tools::{Language, Manifest, Sdk, new_project};

/// What builds leave behind; no input.
const BUILT: [&str; 6] = [
    "node_modules",
    ".venv",
    "__pycache__",
    "target",
    "template",
    "policy.wasm",
];

/// The folder of an example's language, below `policies/examples`, and of its SDK, below `policies`.
fn folders(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::Rust => ("rust", "sdk"),
        Language::TypeScript => ("typescript", "sdk-typescript"),
        Language::Python => ("python", "sdk-python"),
        Language::Go => ("go", "sdk-go"),
    }
}

/// The program that a language's policies can't be built without, and how it says its version.
fn toolchain(language: Language) -> [&'static str; 2] {
    match language {
        Language::Rust => ["cargo", "--version"],
        Language::TypeScript => ["npm", "--version"],
        Language::Python => ["python3", "--version"],
        Language::Go => ["go", "version"],
    }
}

/// `policies/`, in the repository.
pub fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What keeps a language's example from being built here; none where it can be. In CI nothing does: there a missing toolchain is a failure.
pub fn missing(language: Language) -> Option<String> {
    let [program, _] = toolchain(language);
    let there = host::find(program).is_some() || std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    (!there).then(|| format!("{program} is not there, and policies in {language} are built by it"))
}

/// The example's component in a language, from the cache, else built.
///
/// # Errors
/// Where the toolchain isn't there or fails; what it says stands on standard error.
pub fn component(language: Language) -> Result<Vec<u8>> {
    if language == Language::Rust {
        return rust();
    }
    let (example, sdk) = folders(language);
    let parts = [sdk.to_owned(), "wit".to_owned(), format!("examples/{example}")];
    built(language, "house-rules", &parts, |work| {
        for part in &parts {
            for file in files(&policies().join(part))? {
                let place = work.join(file.strip_prefix(policies())?);
                fs::create_dir_all(place.parent().context("a file in no folder")?)?;
                fs::copy(&file, place)?;
            }
        }
        Ok(work.join("examples").join(example))
    })
}

/// The component of a project as `tidewaiter policy new` makes it, from the cache, else built. Not for Rust: its project compiles the SDK for itself.
///
/// # Errors
/// As for [`component`].
pub fn template(language: Language) -> Result<Vec<u8>> {
    let (_, sdk) = folders(language);
    let parts = [sdk.to_owned(), "wit".to_owned(), format!("{sdk}/template")];
    built(language, "template", &parts, |work| {
        let project = work.join("project");
        new_project(&project, "made-here", language, &Sdk::Bundled)?;
        Ok(project)
    })
}

/// The component of the policy that the README of a language's SDK begins with, in a project as [`template`] makes it, from the cache, else built. Not for Rust: the
/// tests of its SDK compile its README.
///
/// # Errors
/// As for [`component`], and where the README begins with no policy.
pub fn readme(language: Language) -> Result<Vec<u8>> {
    let (_, sdk) = folders(language);
    let parts = [sdk.to_owned(), "wit".to_owned(), format!("{sdk}/template")];
    built(language, "readme", &parts, |work| {
        let project = work.join("project");
        new_project(&project, "owner", language, &Sdk::Bundled)?;
        let text = fs::read_to_string(policies().join(sdk).join("README.md"))?;
        let policy = first_code(&text).with_context(|| format!("the README of {sdk} shows no policy"))?;
        fs::write(project.join(source(language)), policy)?;
        Ok(project)
    })
}

/// The component of a project in plain JavaScript: what [`template`] makes, without its types and without the compiler that checks them, from the cache, else built.
///
/// # Errors
/// As for [`component`], and where the template is another one.
pub fn javascript() -> Result<Vec<u8>> {
    let language = Language::TypeScript;
    let (_, sdk) = folders(language);
    let parts = [sdk.to_owned(), "wit".to_owned(), format!("{sdk}/template")];
    built(language, "javascript", &parts, |work| {
        let project = work.join("project");
        new_project(&project, "made-here", language, &Sdk::Bundled)?;
        fs::rename(project.join(source(language)), project.join("src/policy.js"))?;
        fs::remove_file(project.join("tsconfig.json"))?;
        let manifest = project.join("package.json");
        let mut package: serde_json::Value = serde_json::from_slice(&fs::read(&manifest)?)?;
        package["scripts"]["build"] = "tidewaiter-policy build src/policy.js -o made-here.wasm".into();
        package
            .as_object_mut()
            .and_then(|package| package.remove("devDependencies"))
            .context("the template needs no compiler any more")?;
        fs::write(&manifest, package.to_string())?;
        Ok(project)
    })
}

/// Where a project keeps its policy.
fn source(language: Language) -> &'static str {
    match language {
        Language::Rust => "src/lib.rs",
        Language::TypeScript => "src/policy.ts",
        Language::Python => "policy.py",
        Language::Go => "main.go",
    }
}

/// What stands in the first block of code of a Markdown text.
fn first_code(markdown: &str) -> Option<&str> {
    let (_, after) = markdown.split_once("```")?;
    let (_language, code) = after.split_once('\n')?;
    Some(code.split_once("```")?.0)
}

/// A key over what builds a language's projects.
///
/// # Errors
/// Where the toolchain isn't there.
pub fn key(language: Language) -> Result<Key> {
    let [program, version] = toolchain(language);
    let key = Key::new().with(host::output(Command::new(program).arg(version))?);
    if language == Language::Go {
        // Which makes the component of its module: the versions of wit-component and of the adapter.
        return Ok(key.with(fs::read(policies().join("../Cargo.lock"))?));
    }
    Ok(key)
}

/// A project's component, kept under the toolchain and these parts of `policies/`. `prepare` lays the project into a folder and says where it is.
fn built(
    language: Language,
    name: &str,
    parts: &[String],
    prepare: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<Vec<u8>> {
    let mut key = key(language)?;
    for part in parts {
        for file in files(&policies().join(part))? {
            let place = file.strip_prefix(policies())?.display().to_string();
            key = key.with(place).with(fs::read(&file)?);
        }
    }
    let entry = Cache::open()?.entry("policies", &format!("{name}-{language}"), &key, |folder| {
        let work = tempfile::Builder::new().prefix("tidewaiter-policy-").tempdir()?;
        let project = prepare(work.path())?;
        let built = Manifest::read(&project)?.build(&project)?;
        fs::write(folder.join("policy.wasm"), built.component)?;
        Ok(())
    })?;
    Ok(fs::read(entry.join("policy.wasm"))?)
}

/// A member of the workspace: cargo knows what it is made of. In the folder of the policies that Tidewaiter ships, whose dependencies are compiled there already.
fn rust() -> Result<Vec<u8>> {
    let root = policies().join("..");
    let target = host::beside_cargos("policies");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    host::run(
        Command::new(cargo)
            .current_dir(&root)
            .env_remove("CARGO_BUILD_BUILD_DIR")
            .env_remove("CARGO_TARGET_DIR")
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                "-Clink-arg=-zstack-size=32768\u{1f}-Clink-arg=--initial-memory=524288",
            )
            .args([
                "build",
                "--lib",
                "--locked",
                "--profile",
                "policy",
                "--package",
                "house-rules",
            ])
            .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
            .arg(&target),
    )?;
    let module = fs::read(target.join("wasm32-unknown-unknown/policy/house_rules.wasm"))?;
    Ok(tidewaiter_tools::component(&module, None)?)
}

/// All files below a folder that aren't made by a build, in the order of their paths.
///
/// # Errors
/// Where it can't be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("can't read {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        if BUILT.iter().any(|name| path.file_name() == Some(OsStr::new(name))) {
            continue;
        }
        if path.is_dir() {
            found.append(&mut files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
