//! `tidewaiter profile`, and what the other commands take from profiles.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use anstream::{eprintln, print};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tidewaiter_deployer::profile::{Error, Key, Profiles, Settings, shown};

use super::arguments::Format;
use super::output::document;
use super::table::table;
use super::{Ending, Failure, GOOD};

/// Where the file is, in place of the user's folder for configuration.
const FILE: &str = "TIDEWAITER_PROFILES";

/// Profiles: which cluster and which stores, by a name.
///
/// A profile is what the other commands take where neither a flag nor the environment says otherwise. It holds no password: `secret` names a Secret in Kubernetes.
#[derive(Debug, Subcommand)]
pub(crate) enum Profile {
    Set(SetArguments),
    /// Take this profile where none is asked for
    #[command(after_help = "Exit codes: 0 done, 2 an error.\n\nExamples:\n  tidewaiter profile use prod")]
    Use {
        /// Which one
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List the profiles
    #[command(
        after_help = "Exit codes: 0 done, 2 an error.\n\nExamples:\n  tidewaiter profile list\n  tidewaiter profile list -o json"
    )]
    List {
        /// Print them for a program
        #[arg(long, short, value_enum, value_name = "FORMAT")]
        output: Option<Format>,
    },
    Show(ShowArguments),
    /// Forget a profile
    #[command(after_help = "Exit codes: 0 done, 2 an error.\n\nExamples:\n  tidewaiter profile remove dev")]
    Remove {
        /// Which one
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Make a profile, or change it.
///
/// Keys: kubernetes_context, kubernetes_namespace, base_url (where services answer, in place of the ingress that is found), secret (a Secret in the namespace with the
/// store's credentials), artifact_store (where models are uploaded to), tracking_server (MLflow's). KEY= takes one out. The first profile becomes the current one.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 2 an error.

Examples:
  tidewaiter profile set dev kubernetes_context=kind-dev kubernetes_namespace=team-a
  tidewaiter profile set dev artifact_store=s3://models/ tracking_server=http://mlflow:5000
  tidewaiter profile set dev secret=                       take it out again")]
pub(crate) struct SetArguments {
    /// Which one
    #[arg(value_name = "NAME")]
    name: String,
    /// What it says
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = assignment)]
    values: Vec<(Key, Option<String>)>,
}

/// Show what holds, and who said it: a flag, the environment, or the profile.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 2 an error.

Examples:
  tidewaiter profile show
  tidewaiter profile show prod -o json")]
pub(crate) struct ShowArguments {
    /// Which one; by default that of TIDEWAITER_PROFILE, else the current one
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}

fn assignment(word: &str) -> Result<(Key, Option<String>), String> {
    let (key, value) = word
        .split_once('=')
        .ok_or("it is written as in kubernetes_namespace=team-a")?;
    let key = key.parse::<Key>().map_err(|error| error.to_string())?;
    Ok((key, Some(value.to_owned()).filter(|value| !value.is_empty())))
}

/// What holds: `name` is `--profile`, `flags` are the command's own.
pub(super) fn settings(name: Option<&str>, flags: &BTreeMap<Key, String>) -> Result<Settings, Failure> {
    let profiles = Profiles::read(&file()?)?;
    let of_environment = variable("TIDEWAITER_PROFILE");
    let name = name.or(of_environment.as_deref());
    Ok(Settings::resolve(&profiles, name, variable, flags)?)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn file() -> Result<PathBuf, Failure> {
    if let Some(file) = env::var_os(FILE).filter(|file| !file.is_empty()) {
        return Ok(file.into());
    }
    let folder = env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty());
    let folder = folder
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".config")));
    let folder = folder.ok_or_else(|| Failure {
        message: "there is no home folder to keep profiles in".to_owned(),
        next: Some(format!("name a file for them in {FILE}")),
    })?;
    Ok(folder.join("tidewaiter/profiles.yaml"))
}

pub(super) fn run(command: Profile) -> Result<Ending, Failure> {
    let file = file()?;
    let mut profiles = Profiles::read(&file)?;
    match command {
        Profile::Set(SetArguments { name, values }) => {
            profiles.set(&name, values)?;
            profiles.write(&file)?;
            eprintln!("Profile {name} is in {}.", file.display());
        }
        Profile::Use { name } => {
            profiles.choose(&name)?;
            profiles.write(&file)?;
            eprintln!("{name} is the current profile.");
        }
        Profile::Remove { name } => {
            profiles.remove(&name)?;
            profiles.write(&file)?;
            eprintln!("Profile {name} is forgotten.");
        }
        Profile::List { output } => list(&profiles, output)?,
        Profile::Show(ShowArguments { name, output }) => show(name.as_deref(), output)?,
    }
    Ok(Ending::Nothing)
}

fn list(profiles: &Profiles, output: Option<Format>) -> Result<(), Failure> {
    let current = profiles.current().map(|(name, _)| name);
    if let Some(format) = output {
        let profile = |name: &str| -> Value {
            let values = told(profiles, name).into_iter();
            let values: Map<_, _> = values.map(|(key, value)| (key.to_string(), json!(value))).collect();
            json!({"name": name, "current": current == Some(name), "values": values})
        };
        let all: Vec<_> = profiles.names().map(profile).collect();
        print!("{}", document(&all, format)?);
        return Ok(());
    }
    let rows: Vec<_> = profiles
        .names()
        .map(|name| {
            let mut values = told(profiles, name);
            let mut value = |key| values.remove(&key).unwrap_or_default();
            [
                if current == Some(name) { "*" } else { "" }.to_owned(),
                name.to_owned(),
                value(Key::KubernetesContext),
                value(Key::KubernetesNamespace),
                value(Key::ArtifactStore),
            ]
        })
        .collect();
    if rows.is_empty() {
        eprintln!("There is no profile yet: `tidewaiter profile set NAME kubernetes_namespace=NAMESPACE` makes one.");
    } else {
        print!(
            "{}",
            table(["", "NAME", "CONTEXT", "NAMESPACE", "ARTIFACT STORE"], &rows)
        );
    }
    Ok(())
}

/// What a profile says: who wrote its file by hand may have left a password in it.
fn told(profiles: &Profiles, name: &str) -> BTreeMap<Key, String> {
    let values = profiles.get(name).into_iter().flatten();
    values.map(|(key, value)| (*key, shown(value))).collect()
}

fn show(name: Option<&str>, output: Option<Format>) -> Result<(), Failure> {
    let settings = settings(name, &BTreeMap::new())?;
    let set = Key::ALL.into_iter().filter_map(|key| {
        let origin = settings.origin(key)?.shown(key).to_string();
        Some((key, settings.shown(key)?, origin))
    });
    if let Some(format) = output {
        let values: Map<_, _> = set
            .map(|(key, value, origin)| (key.to_string(), json!({"value": value, "from": origin})))
            .collect();
        let shown = json!({"profile": settings.profile(), "values": values});
        print!("{}", document(&shown, format)?);
        return Ok(());
    }
    match settings.profile() {
        Some(profile) => eprintln!("Profile {GOOD}{profile}{GOOD:#}"),
        None => eprintln!("No profile"),
    }
    let rows: Vec<_> = set
        .map(|(key, value, origin)| [key.to_string(), value, origin])
        .collect();
    if rows.is_empty() {
        eprintln!("Nothing is set: the kubeconfig's context and namespace hold.");
    } else {
        print!("{}", table(["KEY", "VALUE", "FROM"], &rows));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_no_password_that_somebody_wrote_into_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("profiles.yaml");
        let text = "{profiles: {dev: {tracking_server: 'http://eve:hunter2@mlflow:5000', \
                    artifact_store: 'https://m.blob.core.windows.net/a?sig=hunter2'}}}";
        std::fs::write(&file, text).unwrap();
        let values = told(&Profiles::read(&file).unwrap(), "dev");
        assert_eq!(values[&Key::TrackingServer], "http://***@mlflow:5000/");
        assert_eq!(values[&Key::ArtifactStore], "https://m.blob.core.windows.net/a?…");
    }
}
