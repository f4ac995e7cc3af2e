//! `tidewaiter policy test`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anstream::{eprint, eprintln, print};
use clap::{Args, ValueEnum};
use serde_json::json;
use tidewaiter_engine::Limits;
use tidewaiter_tools::{
    About, CASES, CaseError, CaseFile, Checked, Draw, Laws, LawsError, Manifest, Suite, SuiteError, Tried,
    junit_of_tests, read_cases, snapshot_of_no_case,
};

use super::super::output::{document, yaml};
use super::super::table::clean;
use super::super::{BAD, BOLD, DIM, Ending, Failure, GOOD, HINT, arguments::Format};
use super::project::component_of;
use super::registry::RegistryArguments;
use super::source::{component, engine};

/// Try a policy: its cases, and the laws that hold for every policy.
///
/// Cases are YAML: an object, settings, what the world answers, and what is to come of it. They go through Tidewaiter's own review. Then objects are generated, from
/// those of the cases and usual ones, to see that the policy copes with each, that a second pass changes nothing, that order and repetition make no difference,
/// that a user's own value is left alone, and that no setting is told.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 all is well, 1 a case or a law fails, 2 an error.

Examples:
  tidewaiter policy test                                   the project in this folder, as it was built last
  tidewaiter policy test owner.wasm --cases cases/         a component
  tidewaiter policy test --update                          keep what comes now as snapshots
  tidewaiter policy test --objects 1000 --seed 7           look longer, and elsewhere
  tidewaiter policy test -o junit > junit.xml              for CI")]
pub(crate) struct TestArguments {
    /// A project's folder, a component's file, `oci://REGISTRY/NAME:TAG`, or the name of a built-in policy
    #[arg(value_name = "FOLDER|FILE", default_value = ".")]
    source: String,
    /// A file of cases, or a folder of such; by default what the project says
    #[arg(long, value_name = "PATH")]
    cases: Option<PathBuf>,
    /// Only cases whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write the snapshots of all cases anew
    #[arg(long)]
    update: bool,
    /// Generated objects for each law; 0 leaves the laws out
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    objects: u32,
    /// Which objects are generated: the same for the same number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// What one run may take, in milliseconds of its own
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    time_ms: u32,
    /// What one run may take, in MiB of memory
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    memory_mib: u32,
    /// Print the results for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Form>,
    #[command(flatten)]
    registry: RegistryArguments,
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// JSON
    Json,
    /// JUnit's XML
    Junit,
}

pub(super) async fn run(arguments: TestArguments) -> Result<Ending, Failure> {
    let (file, cases) = places(&arguments)?;
    let component = component(&file, &arguments.registry).await?.bytes;
    let engine = engine()?;
    let about = About::read(&engine, component.clone()).await.map_err(|error| Failure {
        message: format!("{file}: {error}"),
        next: None,
    })?;
    let mut files = match &cases {
        Some(path) => read_cases(path)?,
        None => Vec::new(),
    };
    let all: Vec<CaseFile> = files.iter().map(|(_, file)| file.clone()).collect();
    if !arguments.update
        && let Some((file, case)) = snapshot_of_no_case(&files)?
    {
        return Err(Failure {
            message: format!(
                "{} has a snapshot of `{case}`, and no case is called so",
                file.display()
            ),
            next: Some(
                "call the snapshot as the case is called now; or look at what all say, and write them anew: --update"
                    .to_owned(),
            ),
        });
    }
    if let Some(text) = &arguments.only {
        for (_, file) in &mut files {
            file.cases.retain(|case| case.name.value.contains(text.as_str()));
        }
        if files.iter().all(|(_, file)| file.cases.is_empty()) {
            let names = all
                .iter()
                .flat_map(|file| &file.cases)
                .map(|case| case.name.value.as_str());
            let names: Vec<_> = names.take(5).collect();
            return Err(Failure {
                message: format!("no case has `{text}` in its name"),
                next: Some(format!("there is: {}", names.join(", "))),
            });
        }
    }
    if arguments.objects == 0 && all.iter().all(|file| file.cases.is_empty()) {
        return Err(Failure {
            message: format!("nothing is tried of {file}: it has no cases, and --objects 0 leaves the laws out"),
            next: Some("name cases with --cases, or leave --objects out".to_owned()),
        });
    }
    let limits = Limits {
        time_ms: arguments.time_ms,
        memory_mib: arguments.memory_mib,
    };
    let objects = about.objects.clone();
    let suite = Suite {
        engine: engine.clone(),
        component: component.clone(),
        name: about.name.clone(),
        objects: objects.clone(),
        limits,
    };
    // Snapshots of cases that are not tried now would be lost.
    let tried = suite.run(&files, arguments.update && arguments.only.is_none()).await?;
    let mut checked = Vec::new();
    if arguments.objects > 0 && arguments.only.is_none() {
        let laws = Laws {
            engine,
            component,
            name: about.name.clone(),
            objects,
            schema: about.settings_schema.clone(),
            limits,
        };
        let draw = Draw {
            objects: arguments.objects,
            seed: arguments.seed,
        };
        checked = laws.check(&all, draw).await?;
    }
    match arguments.output {
        Some(Form::Json) => print!(
            "{}",
            document(&machine(&about, &tried, &checked, arguments.seed), Format::Json)?
        ),
        Some(Form::Junit) => print!("{}", junit_of_tests(&about.name, &tried, &checked)),
        None => print!("{}", shown(&tried, &checked)?),
    }
    let failed = tried.iter().filter(|tried| !tried.differences.is_empty()).count()
        + checked.iter().filter(|checked| checked.broken.is_some()).count();
    eprint!("{}", summary(&tried, &checked, failed, arguments.seed));
    if all.iter().all(|file| file.cases.is_empty()) {
        eprintln!("\n{HINT}hint{HINT:#}: there are no cases; name them with --cases");
    }
    Ok(if failed == 0 {
        Ending::Nothing
    } else {
        Ending::Something
    })
}

/// The component's file, and where the cases are.
fn places(arguments: &TestArguments) -> Result<(String, Option<PathBuf>), Failure> {
    let path = Path::new(&arguments.source);
    if !path.is_dir() {
        return Ok((arguments.source.clone(), arguments.cases.clone()));
    }
    let manifest = Manifest::read(path)?;
    let file = component_of(path, &manifest)?;
    let own = path.join(&manifest.cases);
    // What the project names is to be there; what it doesn't name need not be.
    let is_named = manifest.cases != Path::new(CASES);
    let cases = arguments
        .cases
        .clone()
        .or_else(|| (is_named || own.exists()).then_some(own));
    Ok((file.display().to_string(), cases))
}

fn machine(about: &About, tried: &[Tried], checked: &[Checked], seed: u64) -> serde_json::Value {
    let cases: Vec<_> = tried
        .iter()
        .map(|tried| {
            json!({
                "name": tried.name, "file": tried.file.display().to_string(), "line": tried.line,
                "passed": tried.differences.is_empty(), "differences": tried.differences,
                "micros": u64::try_from(tried.took.as_micros()).unwrap_or(u64::MAX),
                "outcome": tried.told, "calls": tried.calls,
            })
        })
        .collect();
    json!({
        "policy": about.name, "version": about.version, "digest": about.digest,
        "cases": cases, "laws": checked, "seed": seed,
    })
}

fn shown(tried: &[Tried], checked: &[Checked]) -> Result<String, Failure> {
    let mut text = String::new();
    for tried in tried {
        if tried.differences.is_empty() {
            let updated = if tried.updated { " (snapshot written)" } else { "" };
            let _ = writeln!(text, "{GOOD}ok{GOOD:#}    {}{DIM}{updated}{DIM:#}", clean(&tried.name));
            continue;
        }
        let _ = writeln!(
            text,
            "{BAD}FAIL{BAD:#}  {} {DIM}{}:{}{DIM:#}",
            clean(&tried.name),
            tried.file.display(),
            tried.line
        );
        for difference in &tried.differences {
            for line in difference.lines() {
                let _ = writeln!(text, "        {}", clean(line));
            }
        }
    }
    for checked in checked {
        let counted = format!("{} objects", checked.objects);
        let Some(broken) = &checked.broken else {
            let word = if checked.objects == 0 { "-    " } else { "ok   " };
            let _ = writeln!(text, "{GOOD}{word}{GOOD:#} law {} {DIM}{counted}{DIM:#}", checked.law);
            let of_some = if checked.objects == 0 { "" } else { "not checked: " };
            for left_out in &checked.left_out {
                let _ = writeln!(text, "        {DIM}{of_some}{}{DIM:#}", clean(left_out));
            }
            continue;
        };
        let _ = writeln!(text, "{BAD}FAIL{BAD:#}  law {}", checked.law);
        for line in broken.message.lines() {
            let _ = writeln!(text, "        {}", clean(line));
        }
        let _ = writeln!(text, "        {BOLD}what to do{BOLD:#}: {}", broken.next);
        let _ = writeln!(text, "        the simplest object that was found:");
        for line in yaml(&broken.object)?.lines() {
            let _ = writeln!(text, "          {}", clean(line));
        }
        if !broken.settings.is_empty() {
            let _ = writeln!(
                text,
                "        with settings {}",
                serde_json::Value::from(broken.settings.clone())
            );
        }
    }
    Ok(text)
}

fn summary(tried: &[Tried], checked: &[Checked], failed: usize, seed: u64) -> String {
    let idle: Vec<_> = checked.iter().filter(|checked| checked.objects == 0).collect();
    let laws = match (checked.len(), idle.as_slice()) {
        (0, _) => String::new(),
        (all, []) => format!(", {all} laws (seed {seed})"),
        (all, idle) => {
            let idle: Vec<_> = idle.iter().map(|checked| checked.law.to_string()).collect();
            let held = all - idle.len();
            format!(
                ", {held} laws (seed {seed}), and nothing to check {} by",
                idle.join(", ")
            )
        }
    };
    let ended = if failed == 0 {
        format!("{GOOD}all is well{GOOD:#}")
    } else {
        format!("{BAD}{failed} failed{BAD:#}")
    };
    format!("\n{} cases{laws}: {ended}\n", tried.len())
}

impl From<CaseError> for Failure {
    fn from(error: CaseError) -> Self {
        Self {
            message: error.to_string(),
            next: Some("docs/policies.md says how cases are written".to_owned()),
        }
    }
}

impl From<SuiteError> for Failure {
    fn from(error: SuiteError) -> Self {
        Self {
            message: error.to_string(),
            next: None,
        }
    }
}

impl From<LawsError> for Failure {
    fn from(error: LawsError) -> Self {
        Self {
            message: error.to_string(),
            next: None,
        }
    }
}
