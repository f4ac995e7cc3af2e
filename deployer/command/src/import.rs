//! `tidewaiter backend import`.

use std::fmt::Write as _;

use anstream::{eprint, eprintln, print};
use tidewaiter_core::backend::StorageBackend;
use tidewaiter_deployer::cluster::Cluster;
use tidewaiter_deployer::import::{self, Change, Done, NewSecret, Options, Plan, Scope};

use super::arguments::{Format, ImportArguments};
use super::confirm;
use super::output::{difference, dim, document, indented, yaml};
use super::table::{clean, table};
use super::{BAD, BOLD, Ending, Failure, GOOD, HINT};

pub(super) async fn run(arguments: ImportArguments) -> Result<Ending, Failure> {
    let cluster = Cluster::connect(&arguments.access.into()).await?;
    let scope = Scope {
        from: namespaces(&arguments.from, &arguments.secrets),
        tidewaiter: arguments.namespace.clone(),
        kserve: arguments.kserve_namespace,
    };
    let found = import::read(&cluster, &scope).await?;
    let options = Options {
        tidewaiter: arguments.namespace,
        chosen: arguments.secrets,
        serves: arguments.serves,
        name: arguments.name,
    };
    let plan = import::plan(&found, &options)?;
    eprint!("{}", left(&plan));
    if let Some(format) = arguments.output {
        print!("{}", objects(&plan, format)?);
        eprint!("{}", secrets(&plan));
        return Ok(ending(&plan, true));
    }
    if plan.changes.is_empty() {
        eprintln!("{}", nothing(&plan));
        return Ok(ending(&plan, true));
    }
    print!("{}", shown(&plan)?);
    if plan.changes.iter().any(|change| change.secret.is_some()) && !cluster.has_namespace(&options.tidewaiter).await? {
        return Err(Failure {
            message: format!(
                "there is no namespace {}, where the keys would be copied to",
                options.tidewaiter
            ),
            next: Some("install Tidewaiter first, or say with --namespace where it is".to_owned()),
        });
    }
    let dry_run = arguments.dry_run.is_some();
    let question = if dry_run {
        "Have the API server check this?"
    } else {
        "Do this?"
    };
    if !confirm::agreed(question, arguments.yes || dry_run)? {
        return Ok(Ending::Something);
    }
    for change in &plan.changes {
        for done in import::apply(&cluster, change, dry_run).await? {
            eprintln!("{}", told(&done, dry_run));
        }
    }
    if !dry_run {
        eprintln!(
            "\nServices that name their own Secret keep it. New ones need none: {}",
            dim("kubectl get storagebackends")
        );
    }
    Ok(ending(&plan, !dry_run))
}

/// A chosen Secret's namespace is all that has to be read, unless the admin says more.
fn namespaces(from: &[String], chosen: &[import::Source]) -> Vec<String> {
    let mut namespaces = from.to_vec();
    if namespaces.is_empty() {
        namespaces.extend(chosen.iter().map(|source| source.namespace.clone()));
    }
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

fn ending(plan: &Plan, done: bool) -> Ending {
    if plan.conflicts.is_empty() && (done || plan.changes.is_empty()) {
        Ending::Nothing
    } else {
        Ending::Something
    }
}

fn nothing(plan: &Plan) -> String {
    if plan.conflicts.is_empty() {
        "Nothing to do.".to_owned()
    } else {
        "Nothing to do but for the conflicts above.".to_owned()
    }
}

/// What is left alone, and what somebody has to decide.
fn left(plan: &Plan) -> String {
    let mut text = String::new();
    let settled = plan.settled.iter().map(|settled| {
        [
            settled.source.to_string(),
            format!("StorageBackend {} serves it already", settled.backend),
        ]
    });
    let skipped = plan
        .skipped
        .iter()
        .map(|skipped| [skipped.source.to_string(), skipped.reason.clone()]);
    let rows: Vec<_> = settled.chain(skipped).collect();
    if !rows.is_empty() {
        text.push_str(&table(["SECRET", "LEFT AS IT IS"], &rows));
        text.push('\n');
    }
    for conflict in &plan.conflicts {
        let _ = writeln!(text, "{BAD}conflict{BAD:#}: {}", clean(&conflict.message));
        let _ = writeln!(text, "  {HINT}next{HINT:#}: {}\n", clean(&conflict.next));
    }
    text
}

/// The changes, as a table and in full.
fn shown(plan: &Plan) -> Result<String, Failure> {
    let rows: Vec<_> = plan.changes.iter().map(row).collect();
    let mut text = table(["BACKEND", "TYPE", "DO", "SERVES", "NAMESPACES", "FROM"], &rows);
    for change in &plan.changes {
        text.push('\n');
        text.push_str(&in_full(change)?);
    }
    Ok(text)
}

fn row(change: &Change) -> [String; 6] {
    let doing = match (&change.before, change.changes_backend()) {
        (None, _) => "make",
        (Some(_), true) => "extend",
        (Some(_), false) => "make its Secret",
    };
    let sources: Vec<String> = change.sources.iter().map(ToString::to_string).collect();
    let namespaces: Vec<&str> = change.namespaces().into_iter().collect();
    [
        change.name.clone(),
        change.after.kind.as_str().to_owned(),
        doing.to_owned(),
        change.after.serves.join(", "),
        few(&namespaces),
        few(&sources),
    ]
}

/// The first three, and how many more.
fn few(names: &[impl AsRef<str>]) -> String {
    let mut shown: Vec<String> = names.iter().take(3).map(|name| name.as_ref().to_owned()).collect();
    if names.len() > shown.len() {
        shown.push(format!("{} more", names.len() - shown.len()));
    }
    shown.join(", ")
}

fn in_full(change: &Change) -> Result<String, Failure> {
    let mut text = String::new();
    let name = &change.name;
    let after = yaml(&change.object())?;
    match change.object_before() {
        None => {
            let _ = writeln!(text, "{BOLD}StorageBackend {name}, new{BOLD:#}");
            text.push_str(&indented(&after));
        }
        Some(before) if change.changes_backend() => {
            let _ = writeln!(text, "{BOLD}StorageBackend {name}{BOLD:#}");
            text.push_str(&difference(&yaml(&before)?, &after));
        }
        Some(_) => {
            let _ = writeln!(text, "{BOLD}StorageBackend {name}{BOLD:#} stays as it is");
        }
    }
    if let Some(secret) = &change.secret {
        let _ = writeln!(text, "{}", new_secret(secret));
    }
    for note in &change.notes {
        let _ = writeln!(text, "  {HINT}note{HINT:#}: {}", clean(note));
    }
    Ok(text)
}

/// Names, never values.
fn new_secret(secret: &NewSecret) -> String {
    let keys: Vec<&str> = secret.data.keys().map(String::as_str).collect();
    format!(
        "{BOLD}Secret {}/{}, new{BOLD:#}: {} of {}",
        secret.namespace,
        secret.name,
        keys.join(", "),
        secret.copied_from
    )
}

/// The backends for a program, each a document of its own.
fn objects(plan: &Plan, format: Format) -> Result<String, Failure> {
    let backends: Vec<StorageBackend> = plan.changes.iter().map(Change::object).collect();
    match format {
        Format::Yaml => {
            let documents = backends.iter().map(yaml).collect::<Result<Vec<_>, _>>()?;
            Ok(documents.iter().map(|document| format!("---\n{document}")).collect())
        }
        Format::Json => document(
            &serde_json::json!({"apiVersion": "v1", "kind": "List", "items": backends}),
            format,
        ),
    }
}

/// The Secrets that these backends name, and that are not printed.
fn secrets(plan: &Plan) -> String {
    let mut text = String::new();
    for secret in plan.changes.iter().filter_map(|change| change.secret.as_ref()) {
        let _ = writeln!(text, "{}", new_secret(secret));
    }
    if !text.is_empty() {
        let _ = writeln!(
            text,
            "\n{HINT}hint{HINT:#}: it is made by the same command with --yes, in place of -o"
        );
    }
    text
}

fn told(done: &Done, dry_run: bool) -> String {
    let (what, did) = match done {
        Done::SecretMade(name) => (format!("Secret {name}"), "made"),
        Done::BackendMade(name) => (format!("StorageBackend {name}"), "made"),
        Done::BackendExtended(name) => (format!("StorageBackend {name}"), "extended"),
    };
    if dry_run {
        format!("{what} would be {did}: the API server agrees")
    } else {
        format!("{GOOD}{what}{GOOD:#} {did}")
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
