//! Puts the templates of projects and the SDKs into the library, so that `tidewaiter policy new` needs nothing but itself.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Language, folder of its SDK, folders that the SDK needs beside its own, and the folder of its template, from the repository's root.
const LANGUAGES: [(&str, &[&str], &str); 4] = [
    (
        "rust",
        &["core", "policies/sdk", "policies/wit"],
        "policies/tools/template/rust",
    ),
    (
        "typescript",
        &["policies/sdk-typescript", "policies/wit"],
        "policies/sdk-typescript/template",
    ),
    (
        "python",
        &["policies/sdk-python", "policies/wit"],
        "policies/sdk-python/template",
    ),
    ("go", &["policies/sdk-go", "policies/wit"], "policies/sdk-go/template"),
];

/// What builds leave behind.
const BUILT: [&str; 6] = ["node_modules", "target", "__pycache__", ".venv", "venv", ".git"];
/// Of an SDK: what only its own tests need, and the data of core that only the server has.
const NOT_NEEDED: [&str; 5] = ["template", "tests", "testdata", "snapshots", "data"];

/// The virtual manifest that Rust's SDK stands in: the repository's, with the crates that are there.
const MEMBERS: &str = "members = [\"core\", \"policies/sdk\"]";

fn main() -> Result<(), String> {
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let root = here
        .ancestors()
        .nth(2)
        .ok_or("policies/tools is not inside its repository")?;
    let out = PathBuf::from(var("OUT_DIR")?);
    let manifest = root.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let virtual_manifest = out.join("Cargo.toml");
    fs::write(&virtual_manifest, with_members(&text)?).map_err(|error| error.to_string())?;
    println!("cargo::rerun-if-changed={}", manifest.display());
    println!("cargo::rerun-if-changed=build.rs");

    let mut table = String::from("&[\n");
    for (language, folders, template) in LANGUAGES {
        let template = root.join(template);
        if !template.is_dir() {
            continue;
        }
        let mut files = Vec::new();
        for folder in folders {
            walk(&root.join(folder), root, true, &mut files)?;
        }
        if language == "rust" {
            files.push(("Cargo.toml".to_owned(), virtual_manifest.clone()));
        }
        let mut made = Vec::new();
        walk(&template, &template, false, &mut made)?;
        let _ = writeln!(
            table,
            "Embedded {{ language: {language:?}, sdk: {}, template: {} }},",
            listed(&files),
            listed(&made)
        );
    }
    table.push(']');
    fs::write(out.join("embedded.rs"), table).map_err(|error| error.to_string())
}

fn with_members(manifest: &str) -> Result<String, String> {
    let begin = manifest
        .find("members = [")
        .ok_or("the repository's Cargo.toml lists no members")?;
    let end = manifest[begin..]
        .find(']')
        .ok_or("the repository's Cargo.toml lists members without an end")?;
    Ok(format!(
        "{}{MEMBERS}{}",
        &manifest[..begin],
        &manifest[begin + end + 1..]
    ))
}

/// All files below a folder, by their path from `base`.
fn walk(folder: &Path, base: &Path, sdk: bool, files: &mut Vec<(String, PathBuf)>) -> Result<(), String> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let failed = |error| format!("{}: {error}", folder.display());
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let not_needed =
            NOT_NEEDED.contains(&name.as_str()) || ["_tests.rs", "_test.go"].iter().any(|end| name.ends_with(end));
        if BUILT.contains(&name.as_str()) || sdk && not_needed {
            continue;
        }
        if path.is_dir() {
            walk(&path, base, sdk, files)?;
        } else {
            let place = path.strip_prefix(base).map_err(|error| error.to_string())?;
            let place = place.display().to_string();
            files.push((place.strip_suffix(".in").unwrap_or(&place).to_owned(), path));
        }
    }
    Ok(())
}

fn listed(files: &[(String, PathBuf)]) -> String {
    let entries = files.iter().map(|(place, path)| {
        format!(
            "({place:?}, include_bytes!({:?}) as &[u8]),",
            path.display().to_string()
        )
    });
    format!("&[{}]", entries.collect::<String>())
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: this is cargo's build script, not a program"))
}
