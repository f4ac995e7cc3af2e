//! Files of test cases, as they are written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use tidewaiter_world::yaml_problem;

use super::pattern::Pattern;
use crate::world::Given;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaseFile {
    /// Settings of each case that has none of its own.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// The world of each case that has none of its own.
    #[serde(default)]
    pub world: Given,
    /// What is to be reviewed, and what is to come of it.
    pub cases: Vec<Case>,
    /// What the checks by generated objects are told.
    #[serde(default)]
    pub checks: Checks,
}

/// What the checks by generated objects are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Checks {
    /// Codes of denials for a value that the user chose where the policy would have filled in another. Those that a case expects are known.
    pub may_deny: Vec<String>,
    /// Settings, by their path, whose value users may see, for a policy without a schema that says so (`x-shown`).
    pub shows: Vec<String>,
    /// Checks that are left out, with the reason.
    pub skip: BTreeMap<String, String>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// What it shows, as a sentence.
    pub name: Spanned<String>,
    /// The object to review; none where a case is about its settings alone.
    #[serde(default)]
    pub object: Option<Value>,
    /// A file that holds it, relative to the file of cases, in the place of `object`.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The stored object, which makes this an update.
    #[serde(default)]
    pub old_object: Option<Value>,
    /// Default: `update` where there is an old object, else `create`. An update without an old object puts the object in the place of an equal one.
    #[serde(default)]
    pub operation: Option<Operation>,
    /// In the place of the file's.
    #[serde(default)]
    pub settings: Option<Map<String, Value>>,
    /// In the place of the object's own; `default` where neither says.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Who sends the request.
    #[serde(default)]
    pub user: Option<User>,
    /// In the place of the file's.
    #[serde(default)]
    pub world: Option<Given>,
    /// What is to come of it. With neither this nor a snapshot a case shows nothing, and is an error.
    #[serde(default)]
    pub expect: Option<Expect>,
}

/// What the API server was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A new object.
    Create,
    /// A change.
    Update,
}

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// As the API server authenticated them.
    pub name: String,
    /// Their groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

impl Case {
    /// Why its settings are to be refused, where that is what it shows.
    pub fn settings_refused(&self) -> Option<&Pattern> {
        self.expect.as_ref()?.settings_refused.as_ref()
    }
}

/// What is to come of a case. What is left out may be anything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    /// Whether the object is admitted. A denial says no by itself.
    pub allowed: Option<bool>,
    /// Why not.
    pub denial: Option<ExpectDenial>,
    /// All that is filled in: JSON Pointers and values, where null is a fill that is taken out.
    pub fills: Option<BTreeMap<String, Value>>,
    /// All warnings of the policy, in order, as patterns.
    pub warnings: Option<Vec<Pattern>>,
    /// All credentials that are asked for.
    pub effects: Option<Vec<ExpectEffect>>,
    /// The object after it: each member that stands here has this value there, and null means that it isn't there.
    pub object: Option<Value>,
    /// How the policy fails: trap, time, memory, a wrong verdict.
    pub failure: Option<Pattern>,
    /// Why the settings are refused, by their schema or by the policy. Then nothing is reviewed, and nothing else can be expected.
    pub settings_refused: Option<Pattern>,
}

impl Expect {
    /// Whether anything is expected of a review.
    fn is_of_a_review(&self) -> bool {
        let Self {
            allowed,
            denial,
            fills,
            warnings,
            effects,
            object,
            failure,
            settings_refused: _,
        } = self;
        allowed.is_some()
            || denial.is_some()
            || fills.is_some()
            || warnings.is_some()
            || effects.is_some()
            || object.is_some()
            || failure.is_some()
    }
}

/// A refusal.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExpectDenial {
    /// The code.
    pub code: Option<String>,
    /// The message.
    pub message: Option<Pattern>,
    /// The JSON Pointer.
    pub path: Option<String>,
}

/// Credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectEffect {
    /// The `StorageBackend`.
    pub backend: String,
    /// `annotation`, `service-account` or `storage-key`; any where it is left out.
    #[serde(default)]
    pub delivery: Option<String>,
}

/// Why cases can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file or folder can't be read.
    #[error("{} can't be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file isn't as a file of cases is: where, and why.
    #[error("{0}")]
    Wrong(String),
    /// A folder without a file of cases.
    #[error("{} holds no file of cases (*.yaml)", .0.display())]
    None(PathBuf),
}

/// The ending of snapshots' files, which are no files of cases.
pub(super) const SNAPSHOTS: &str = ".snap.yaml";

/// Reads a file of cases, or all those of a folder, in the order of their names.
///
/// # Errors
/// Where one of them can't be read.
pub fn read_cases(path: &Path) -> Result<Vec<(PathBuf, CaseFile)>, CaseError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CaseError::Read { path, source }
    };
    if !path.is_dir() {
        return Ok(vec![(path.to_owned(), read(path)?)]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed(path))? {
        let file = entry.map_err(failed(path))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if is_yaml && !name.ends_with(SNAPSHOTS) && !name.starts_with('.') && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CaseError::None(path.to_owned()));
    }
    files.into_iter().map(|file| Ok((file.clone(), read(&file)?))).collect()
}

fn read(path: &Path) -> Result<CaseFile, CaseError> {
    let text = fs::read_to_string(path).map_err(|source| CaseError::Read {
        path: path.to_owned(),
        source,
    })?;
    let unreadable = |path: &Path, error| CaseError::Wrong(yaml_problem(&path.display().to_string(), &error));
    let mut file: CaseFile = serde_saphyr::from_str(&text).map_err(|error| unreadable(path, error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut names = std::collections::BTreeSet::new();
    for case in &mut file.cases {
        let (name, line) = (&case.name.value, case.name.referenced.line());
        let wrong = |reason: String| CaseError::Wrong(format!("{}:{line}: {reason}", path.display()));
        if !names.insert(name.clone()) {
            return Err(wrong(format!(
                "two cases are called `{name}`; give each its own sentence"
            )));
        }
        if case.settings_refused().is_some() && case.expect.as_ref().is_some_and(Expect::is_of_a_review) {
            return Err(wrong(format!(
                "case `{name}` expects that its settings are refused, and then nothing is reviewed: leave the rest of `expect` out"
            )));
        }
        match (&case.object, &case.file) {
            (Some(_), None) => {}
            (None, None) if case.settings_refused().is_some() => {}
            (None, Some(file)) => {
                let place = folder.join(file);
                let text = fs::read_to_string(&place).map_err(|source| CaseError::Read {
                    path: place.clone(),
                    source,
                })?;
                let object = serde_saphyr::from_str(&text);
                case.object = Some(object.map_err(|error| unreadable(&place, error))?);
            }
            _ => {
                return Err(wrong(format!(
                    "case `{name}` needs an object, or a file with one, and not both"
                )));
            }
        }
    }
    Ok(file)
}
