//! The author's path, as the guide tells it: a policy from nothing to a component that passes its own test.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tidewaiter_examples::{files, key, missing};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::host;
use tidewaiter_tools::Language;

use crate::server::command_binary;
use crate::transcript::{Step, blocks, section, steps};

/// The variable with the folder of the projects, inside the ground, where nothing can be built.
pub const AUTHORED: &str = "TIDEWAITER_AUTHORED";
/// The name of each policy.
pub const NAME: &str = "house-rules";

/// Whether a step is one that needs a cluster or a registry.
pub fn needs_cluster(step: &Step) -> bool {
    !matches!(
        &step.words()[..],
        ["tidewaiter", "policy", "new" | "build" | "test", ..]
    )
}

/// What the README tells authors to do: files to write, each with its name in the first line, and commands.
#[derive(Clone, Debug, Default)]
pub struct Guide {
    /// Names and texts.
    pub files: Vec<(String, String)>,
    /// In their order.
    pub steps: Vec<Step>,
    /// The code that it shows of the Rust project.
    pub rust: String,
}

/// The README's section for authors.
///
/// # Errors
/// Where it isn't there as it was.
pub fn guide() -> Result<Guide> {
    let readme = include_str!("../../../README.md");
    let mut guide = Guide::default();
    for (kind, text) in blocks(section(readme, "Write your own policy")?)? {
        match kind {
            "console" => guide.steps.extend(steps(text)),
            "yaml" => {
                let (name, _) = text.split_once('\n').context("a file without an end")?;
                let name = name.strip_prefix("# ").context("a file without a name")?;
                guide.files.push((name.to_owned(), text.to_owned()));
            }
            "rust" => text.clone_into(&mut guide.rust),
            _ => {}
        }
    }
    ensure!(
        guide.steps.len() >= 6 && guide.files.len() == 2 && !guide.rust.is_empty(),
        "the README's section for authors is another one: {guide:#?}"
    );
    Ok(guide)
}

/// The folder in which each language's author stands, with the project that the README's commands made there: `$TIDEWAITER_AUTHORED`, else by those
/// commands. A language whose toolchain isn't here is left out.
pub fn authored() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(AUTHORED) {
        return Ok(folder.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = host::beside_cargos("authored");
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(&folder)?;
    let guide = guide()?;
    for language in Language::ALL {
        let desk = folder.join(language.as_str());
        if desk.exists() {
            fs::remove_dir_all(&desk)?;
        }
        if let Some(missing) = missing(language) {
            eprintln!("left out: {missing}");
            continue;
        }
        fs::create_dir_all(&desk)?;
        let (new, rest): (Vec<&Step>, Vec<&Step>) = guide
            .steps
            .iter()
            .filter(|step| !needs_cluster(step))
            .partition(|step| step.words().contains(&"new"));
        for step in new {
            taken(&folder, &desk, language, step)?;
        }
        let project = desk.join(NAME);
        if language == Language::Rust {
            let code = fs::read_to_string(project.join("src/lib.rs"))?;
            let lines = |text: &str| {
                text.lines()
                    .map(|line| line.trim().to_owned())
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            ensure!(
                lines(&code).contains(lines(&guide.rust).trim()),
                "the README shows other code than the project has: {code}"
            );
            for step in rest {
                taken(&folder, &desk, language, step)?;
            }
            // The project's own tests are cargo's, which `tidewaiter policy test` doesn't run.
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let tested = ran(&folder, &project, &cargo, &["test"])?;
            ensure!(
                tested.contains("test tests::a_service_without_a_team_is_refused ... ok"),
                "{tested}"
            );
            continue;
        }
        // npm and pip take a minute of the network's: what the same project was built to here, by the same commands, stands. It is tested each time: of what
        // decides that, the project is a small part.
        let (builds, tests): (Vec<&Step>, Vec<&Step>) =
            rest.into_iter().partition(|step| step.words().contains(&"build"));
        let mut key = key(language)?.with(format!("{builds:?}"));
        for file in files(&project)? {
            let place = file.strip_prefix(&project)?.display().to_string();
            key = key.with(place).with(fs::read(&file)?);
        }
        for file in files(&root.join("policies/tools/src/project"))? {
            key = key.with(fs::read(&file)?);
        }
        let component = project.join(format!("{NAME}.wasm"));
        let entry = Cache::open()?.entry("policies", &format!("authored-{language}"), &key, |entry| {
            for step in builds {
                taken(&folder, &desk, language, step)?;
            }
            fs::copy(&component, entry.join("policy.wasm"))
                .map(drop)
                .context("nothing was built")
        })?;
        if !component.exists() {
            fs::copy(entry.join("policy.wasm"), &component)?;
        }
        for step in tests {
            taken(&folder, &desk, language, step)?;
        }
    }
    Ok(folder)
}

/// Takes a step of the README's in another language.
fn taken(folder: &Path, desk: &Path, language: Language, step: &Step) -> Result<()> {
    let words = step.words().into_iter().skip(1).map(|word| match word {
        "rust" => language.as_str(),
        word => word,
    });
    let said = tidewaiter(folder, desk, &words.collect::<Vec<_>>())?;
    step.holds(&said).with_context(|| language.to_string())
}

/// The component of a language's project; none for a language that was left out.
pub fn component(folder: &Path, language: Language) -> Option<PathBuf> {
    let file = folder.join(language.as_str()).join(NAME).join(format!("{NAME}.wasm"));
    file.is_file().then_some(file)
}

/// Runs the command as an author does, at their desk, and says what it printed.
fn tidewaiter(folder: &Path, desk: &Path, arguments: &[&str]) -> Result<String> {
    ran(folder, desk, command_binary()?.as_os_str(), arguments)
}

/// The same of any program. What cargo compiles for one run is there for the next one.
fn ran(folder: &Path, desk: &Path, program: &OsStr, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        // What cargo tells this test is about its own package.
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let target: OsString = folder.join("target").into();
    let output = command
        .args(arguments)
        .current_dir(desk)
        .env_remove("CARGO_BUILD_BUILD_DIR")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", target)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()?;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{} {}:\n{said}{complained}",
        Path::new(program).file_name().unwrap_or(program).display(),
        arguments.join(" ")
    );
    Ok(format!("{said}{complained}"))
}
