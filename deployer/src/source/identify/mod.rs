//! What the files of a folder are.

mod candidates;
mod description;

use std::collections::BTreeMap;

use tidewaiter_core::mlmodel::MlModel;
use tidewaiter_core::requirements::Requirements;
use tidewaiter_core::sniff::{HEAD, Sniffed, TAIL, sniff};
use tidewaiter_core::uri::{Scheme, StorageUri};

use super::{Entry, Error, Folder, Located, Origin};
use crate::model::{Framework, Model};

use candidates::Candidate;
pub(crate) use candidates::Structure;
pub(crate) use candidates::{extension, file_name, is_version, parent};

/// Files of unclear names whose content is looked at.
const SNIFFED: usize = 24;

/// What a model's files are, for whoever lays them out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// A folder (relative, empty for the root) with an `MLmodel`.
    Mlflow {
        /// The folder.
        root: String,
        /// What its `MLmodel` says.
        mlmodel: Box<MlModel>,
    },
    /// One file that a native server loads.
    File {
        /// Which.
        path: String,
        /// What its bytes say.
        content: Content,
    },
    /// A layout of several files.
    Structure(Structure),
    /// The user's own code and whatever it loads.
    Own,
    /// What can't be looked at from here.
    Unseen,
}

/// What a model file is, by its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Looked at.
    Sniffed(Sniffed),
    /// Told by its name: `.onnx`, `.pt`, `.mar`, `.skops`.
    ByName,
}

/// Looks at the files.
pub(crate) async fn identify(
    folder: &Folder,
    entries: &[Entry],
    claimed: Option<Framework>,
) -> Result<(Model, Found), Error> {
    let place = folder.told();
    if claimed == Some(Framework::Custom) {
        let listed = beside(folder, entries, "", None).await?;
        return Ok((model(Framework::Custom, listed, entries.iter()), Found::Own));
    }
    if let Some(root) = mlflow_root(entries, &place)? {
        return described(folder, entries, &root, claimed).await;
    }
    if claimed == Some(Framework::Mlflow) {
        return Err(Error::Other {
            place,
            claimed: Framework::Mlflow,
            found: "it has no file `MLmodel`".to_owned(),
        });
    }
    let mut all = candidates::structures(entries);
    all.extend(files(folder, entries, &all, claimed).await?);
    let chosen = choose(all, entries, claimed, &place)?;
    let root = match &chosen.found {
        Found::Structure(structure) => structure.root().to_owned(),
        Found::File { path, .. } => parent(path).to_owned(),
        _ => String::new(),
    };
    let mut listed = beside(folder, entries, &root, None).await?;
    listed.versions.extend(chosen.versions());
    let mine: Vec<_> = match &chosen.found {
        Found::File { path, .. } => entries.iter().filter(|entry| entry.path == *path).collect(),
        _ => entries.iter().filter(|entry| is_below(&entry.path, &root)).collect(),
    };
    Ok((model(chosen.framework, listed, mine.into_iter()), chosen.found))
}

/// What can't be looked at is what its user says it is.
pub(super) fn unseen(uri: StorageUri, origin: Origin, claimed: Option<Framework>) -> Result<Located, Error> {
    let by_name = match uri.scheme() {
        Scheme::Hf => Some(Framework::Huggingface),
        Scheme::Https | Scheme::Http => candidates::by_extension(uri.key()),
        _ => None,
    };
    let framework = claimed.or(by_name).ok_or_else(|| Error::Unclear {
        place: crate::source::without_token(uri.as_str()),
    })?;
    Ok(Located {
        uri: Some(uri),
        model: model(framework, Listed::default(), std::iter::empty()),
        origin,
        folder: None,
        entries: Vec::new(),
        found: Found::Unseen,
    })
}

/// Packages that a model is known to have been saved with: those whose versions are known, and all that it lists.
#[derive(Default)]
struct Listed {
    versions: BTreeMap<String, String>,
    names: Vec<String>,
}

fn model<'a>(framework: Framework, listed: Listed, entries: impl Iterator<Item = &'a Entry>) -> Model {
    let (mut bytes, mut files) = (0, 0);
    for entry in entries {
        bytes += entry.bytes;
        files += 1;
    }
    Model {
        framework,
        versions: listed.versions,
        lists: listed.names,
        signature: None,
        input_example: None,
        has_environment: false,
        bytes,
        files,
    }
}

/// The folder of the topmost `MLmodel`.
fn mlflow_root(entries: &[Entry], place: &str) -> Result<Option<String>, Error> {
    let files: Vec<_> = entries
        .iter()
        .filter(|entry| entry.path == "MLmodel" || entry.path.ends_with("/MLmodel"))
        .collect();
    let depth = |path: &str| path.matches('/').count();
    let Some(least) = files.iter().map(|entry| depth(&entry.path)).min() else {
        return Ok(None);
    };
    let topmost: Vec<_> = files.iter().filter(|entry| depth(&entry.path) == least).collect();
    match topmost.as_slice() {
        [only] => Ok(Some(parent(&only.path).to_owned())),
        several => Err(Error::Several {
            place: place.to_owned(),
            found: several
                .iter()
                .map(|entry| format!("{} (mlflow)", parent(&entry.path)))
                .collect(),
        }),
    }
}

/// A model with an `MLmodel`, by it.
async fn described(
    folder: &Folder,
    entries: &[Entry],
    root: &str,
    claimed: Option<Framework>,
) -> Result<(Model, Found), Error> {
    let path = below(root, "MLmodel");
    let file = format!("{}/{path}", folder.told());
    let text = read_text(folder, entries, &path).await?.unwrap_or_default();
    let wrong = |reason: String| Error::MlModel {
        file: file.clone(),
        reason,
    };
    let mlmodel = MlModel::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let mut listed = beside(folder, entries, root, mlmodel.python_version.as_deref()).await?;
    listed.versions.extend(description::versions(&mlmodel));
    let mine: Vec<_> = entries.iter().filter(|entry| is_below(&entry.path, root)).collect();
    let mut found = model(Framework::Mlflow, listed, mine.iter().copied());
    let described = description::read(&text).map_err(|error| wrong(error.to_string()))?;
    found.signature = described.signature;
    let environment = below(root, "environment.tar.gz");
    found.has_environment = entries.iter().any(|entry| entry.path == environment);
    if matches!(folder, Folder::Tracking(artifacts) if !artifacts.is_whole()) {
        // The server lists no files of a registered version.
        found.files = 0;
        found.bytes = described.bytes.unwrap_or(0);
    }
    for example in described.examples {
        if let Some(text) = read_text(folder, entries, &below(root, &example)).await?
            && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok()
        {
            found.input_example = Some(text);
            break;
        }
    }
    let Some(claimed) = claimed.filter(|claimed| *claimed != Framework::Mlflow) else {
        return Ok((
            found,
            Found::Mlflow {
                root: root.to_owned(),
                mlmodel: Box::new(mlmodel),
            },
        ));
    };
    // The same model without MLflow around it, for a server that knows its framework alone.
    let flavors = || {
        mlmodel
            .flavors
            .iter()
            .map(|flavor| flavor.name.as_str())
            .collect::<Vec<_>>()
    };
    let other = |found: String| Error::Other {
        place: folder.told(),
        claimed,
        found,
    };
    let flavor = mlmodel
        .flavor(claimed.as_str())
        .ok_or_else(|| other(format!("MLflow saved it as {}", flavors().join(", "))))?;
    let data = flavor.data.as_deref().map(|data| below(root, data)).unwrap_or_default();
    let entry = entries
        .iter()
        .find(|entry| entry.path == data)
        .ok_or_else(|| other(format!("its MLmodel names `{data}` as the model, which is no file")))?;
    let content = content(folder, entry).await?;
    found.framework = claimed;
    found.bytes = entry.bytes;
    found.files = 1;
    let path = entry.path.clone();
    Ok((found, Found::File { path, content }))
}

/// Files that may be a model of their own, by name and, where that is not enough, by content.
async fn files(
    folder: &Folder,
    entries: &[Entry],
    structures: &[Candidate],
    claimed: Option<Framework>,
) -> Result<Vec<Candidate>, Error> {
    let free = entries.iter().filter(|entry| {
        let inside = |candidate: &Candidate| match &candidate.found {
            Found::Structure(structure) => structure.holds(&entry.path),
            _ => false,
        };
        !structures.iter().any(inside)
    });
    let mut found = Vec::new();
    let mut looked_at = 0;
    for entry in free {
        let alone = entries.len() == 1;
        match candidates::by_name(&entry.path) {
            candidates::ByName::Is(framework) => found.push(Candidate {
                framework,
                found: Found::File {
                    path: entry.path.clone(),
                    content: Content::ByName,
                },
            }),
            candidates::ByName::Nothing if !alone => {}
            candidates::ByName::Maybe | candidates::ByName::Nothing => {
                looked_at += 1;
                if looked_at > SNIFFED {
                    continue;
                }
                let content = content(folder, entry).await?;
                let Content::Sniffed(sniffed) = &content else { continue };
                let framework = candidates::by_content(&entry.path, sniffed).or(claimed.filter(|_| alone));
                if let Some(framework) = framework {
                    found.push(Candidate {
                        framework,
                        found: Found::File {
                            path: entry.path.clone(),
                            content,
                        },
                    });
                }
            }
        }
    }
    Ok(found)
}

fn choose(
    mut all: Vec<Candidate>,
    entries: &[Entry],
    claimed: Option<Framework>,
    place: &str,
) -> Result<Candidate, Error> {
    if let Some(claimed) = claimed {
        let (mut mine, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|candidate| candidate.can_be(claimed));
        if mine.is_empty() {
            let found = match others.first() {
                Some(other) => format!("there is {}", other.told()),
                None => shown(entries),
            };
            return Err(Error::Other {
                place: place.to_owned(),
                claimed,
                found,
            });
        }
        for candidate in &mut mine {
            candidate.framework = claimed;
        }
        all = mine;
    }
    match all.len() {
        0 => Err(Error::NoModel {
            place: place.to_owned(),
            found: shown(entries),
        }),
        1 => Ok(all.remove(0)),
        _ => Err(Error::Several {
            place: place.to_owned(),
            found: all.iter().map(Candidate::told).collect(),
        }),
    }
}

/// A few names, for an error.
fn shown(entries: &[Entry]) -> String {
    const SHOWN: usize = 5;
    let names: Vec<_> = entries.iter().take(SHOWN).map(|entry| entry.path.as_str()).collect();
    let more = entries.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("it has {}{more}", names.join(", "))
}

/// What a file's bytes say.
async fn content(folder: &Folder, entry: &Entry) -> Result<Content, Error> {
    if let candidates::ByName::Is(_) = candidates::by_name(&entry.path) {
        return Ok(Content::ByName);
    }
    let head = folder.read(&entry.path, 0, HEAD.into()).await?;
    let tail = if entry.bytes > u64::from(HEAD) {
        let start = (entry.bytes - u64::from(TAIL)).max(u64::from(HEAD));
        folder.read(&entry.path, start, TAIL.into()).await?
    } else {
        bytes::Bytes::new()
    };
    Ok(Content::Sniffed(sniff(&head, &tail)))
}

/// What the files beside a model name, and the versions where they name one exactly.
async fn beside(folder: &Folder, entries: &[Entry], root: &str, python: Option<&str>) -> Result<Listed, Error> {
    let text = read_text(folder, entries, &below(root, "requirements.txt")).await?;
    let mut listed = Listed::default();
    for package in Requirements::from_text(&text.unwrap_or_default(), python).packages {
        if let Some(version) = package.exact {
            listed.versions.insert(package.name.clone(), version.to_string());
        }
        listed.names.push(package.name);
    }
    Ok(listed)
}

async fn read_text(folder: &Folder, entries: &[Entry], path: &str) -> Result<Option<String>, Error> {
    match entries.iter().find(|entry| entry.path == path) {
        Some(entry) => folder.text(entry).await.map(Some),
        None => Ok(None),
    }
}

/// A path below a folder of the model.
pub(crate) fn below(root: &str, path: &str) -> String {
    if root.is_empty() {
        path.to_owned()
    } else {
        format!("{root}/{path}")
    }
}

pub(crate) fn is_below(path: &str, root: &str) -> bool {
    root.is_empty() || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
