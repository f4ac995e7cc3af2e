//! What could be a model among files: by their names, by how they lie together, by their first and last bytes.
//!
//! The names are those that KServe's servers, MLServer, Triton, TensorFlow Serving, TorchServe and Hugging Face's `transformers` look for.

use std::collections::{BTreeMap, BTreeSet};

use tidewaiter_core::sniff::Sniffed;

use super::{Content, Entry, Found, is_below};
use crate::model::Framework;

/// Something that could be the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) framework: Framework,
    pub(super) found: Found,
}

/// A model of several files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Structure {
    /// `TensorFlow`'s `SavedModel`s: the folder that holds the versions, or the one `SavedModel`.
    SavedModel {
        /// Of all of it.
        root: String,
        /// Names of the numbered folders below; empty where the root is the `SavedModel`.
        versions: Vec<String>,
    },
    /// Triton's models.
    Triton {
        /// Of the repository, or of the one model.
        root: String,
        /// Names of the models; empty where the root is the model.
        models: Vec<String>,
    },
    /// What `save_pretrained` writes.
    Huggingface {
        /// Its folder.
        root: String,
    },
    /// `TorchServe`'s archives, with or without their configuration.
    TorchServe {
        /// Above `model-store` and `config`, or where the archives are.
        root: String,
        /// Paths of the archives.
        archives: Vec<String>,
    },
    /// What a custom runtime of MLServer's is told.
    MlserverSettings {
        /// The folder of `model-settings.json`.
        root: String,
    },
}

impl Structure {
    pub(crate) fn root(&self) -> &str {
        match self {
            Self::SavedModel { root, .. }
            | Self::Triton { root, .. }
            | Self::Huggingface { root }
            | Self::TorchServe { root, .. }
            | Self::MlserverSettings { root } => root,
        }
    }

    /// Whether a file belongs to it.
    pub(super) fn holds(&self, path: &str) -> bool {
        is_below(path, self.root())
    }

    fn framework(&self) -> Framework {
        match self {
            Self::SavedModel { .. } => Framework::Tensorflow,
            Self::Triton { .. } => Framework::Triton,
            Self::Huggingface { .. } => Framework::Huggingface,
            Self::TorchServe { .. } => Framework::Pytorch,
            Self::MlserverSettings { .. } => Framework::Custom,
        }
    }
}

impl Candidate {
    /// `model.joblib (sklearn)`
    pub(super) fn told(&self) -> String {
        let path = match &self.found {
            Found::File { path, .. } => path.as_str(),
            Found::Structure(structure) => structure.root(),
            _ => "",
        };
        let path = if path.is_empty() { "the folder itself" } else { path };
        format!("{path} ({})", self.framework)
    }

    /// Whether the user may call it this. Names that say little let the user's word count.
    pub(super) fn can_be(&self, claimed: Framework) -> bool {
        if self.framework == claimed {
            return true;
        }
        match (&self.found, claimed) {
            // Triton loads these as well, once they lie in a repository.
            (Found::File { path, .. }, Framework::Triton) => extension(path) == Some("onnx") || is_torch_script(path),
            (Found::Structure(Structure::SavedModel { .. }), Framework::Triton) => true,
            // A pickle holds anything; MLServer's scikit-learn server calls what it finds there.
            (
                Found::File {
                    content: Content::Sniffed(Sniffed::Pickle(_) | Sniffed::Compressed),
                    ..
                },
                Framework::Sklearn,
            ) => true,
            _ => false,
        }
    }

    /// Versions that the bytes tell.
    pub(super) fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        let mut put = |package: &str, version: Option<String>| {
            if let Some(version) = version {
                versions.insert(package.to_owned(), version);
            }
        };
        let Found::File {
            content: Content::Sniffed(sniffed),
            ..
        } = &self.found
        else {
            return versions;
        };
        match sniffed {
            Sniffed::XgBoost(xgboost) => put("xgboost", xgboost.version.as_ref().map(ToString::to_string)),
            Sniffed::XgBoostLegacy(Some((major, minor))) => put("xgboost", Some(format!("{major}.{minor}"))),
            Sniffed::Pickle(pickle) => {
                put("scikit-learn", pickle.sklearn_version.as_ref().map(ToString::to_string));
                put("xgboost", pickle.xgboost_version.as_ref().map(ToString::to_string));
            }
            _ => {}
        }
        versions
    }
}

/// Whether a file's name alone says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByName {
    Is(Framework),
    /// Its bytes will tell.
    Maybe,
    Nothing,
}

pub(super) fn by_name(path: &str) -> ByName {
    let name = path.rsplit('/').next().unwrap_or(path);
    if matches!(
        name,
        "input_example.json" | "serving_input_example.json" | "requirements.txt" | "config.json" | "package.json"
    ) {
        return ByName::Nothing;
    }
    match extension(path) {
        Some("onnx") => ByName::Is(Framework::Onnx),
        Some("mar" | "pt" | "pth") => ByName::Is(Framework::Pytorch),
        Some("skops") => ByName::Is(Framework::Sklearn),
        Some(
            "joblib" | "pkl" | "pickle" | "bst" | "ubj" | "json" | "txt" | "model" | "xgb" | "lgb" | "lgbm" | "bin",
        ) => ByName::Maybe,
        _ => ByName::Nothing,
    }
}

/// For what can't be read: a URL's last segment.
pub(super) fn by_extension(path: &str) -> Option<Framework> {
    match extension(path)? {
        "joblib" | "pkl" | "pickle" => Some(Framework::Sklearn),
        "ubj" => Some(Framework::Xgboost),
        "onnx" => Some(Framework::Onnx),
        "mar" => Some(Framework::Pytorch),
        _ => None,
    }
}

pub(super) fn by_content(path: &str, sniffed: &Sniffed) -> Option<Framework> {
    match sniffed {
        Sniffed::XgBoost(_) | Sniffed::XgBoostLegacy(_) => Some(Framework::Xgboost),
        Sniffed::LightGbmText(_) => Some(Framework::Lightgbm),
        Sniffed::Pickle(pickle) if pickle.imports("torch") => Some(Framework::Pytorch),
        Sniffed::Pickle(pickle) if pickle.imports("sklearn") => Some(Framework::Sklearn),
        Sniffed::Pickle(_) | Sniffed::Compressed => {
            matches!(extension(path), Some("joblib" | "pkl" | "pickle")).then_some(Framework::Sklearn)
        }
        Sniffed::Zip | Sniffed::Unknown => None,
    }
}

/// Models of several files. What lies in one is no model of its own.
pub(super) fn structures(entries: &[Entry]) -> Vec<Candidate> {
    let mut found: Vec<Structure> = Vec::new();
    for structure in [mlserver(entries), triton(entries), saved_models(entries)]
        .into_iter()
        .flatten()
    {
        if !found.iter().any(|outer| outer.holds(&below_root(&structure))) {
            found.push(structure);
        }
    }
    for structure in huggingface(entries).into_iter().chain(torch_serve(entries)) {
        if !found.iter().any(|outer| outer.holds(&below_root(&structure))) {
            found.push(structure);
        }
    }
    found
        .into_iter()
        .map(|structure| Candidate {
            framework: structure.framework(),
            found: Found::Structure(structure),
        })
        .collect()
}

fn below_root(structure: &Structure) -> String {
    super::below(structure.root(), "x")
}

fn mlserver(entries: &[Entry]) -> Vec<Structure> {
    let settings = entries
        .iter()
        .filter(|entry| file_name(&entry.path) == "model-settings.json");
    settings
        .map(|entry| Structure::MlserverSettings {
            root: parent(&entry.path).to_owned(),
        })
        .take(2)
        .collect()
}

/// A folder `NAME` with `config.pbtxt`, or with a numbered folder of a file that one of Triton's backends loads.
fn triton(entries: &[Entry]) -> Vec<Structure> {
    let mut models = BTreeSet::new();
    for entry in entries {
        let path = entry.path.as_str();
        if file_name(path) == "config.pbtxt" {
            models.insert(parent(path));
            continue;
        }
        let segments: Vec<_> = path.split('/').collect();
        for (at, window) in segments.windows(2).enumerate() {
            let [version, file] = window else { continue };
            let known = [
                "model.onnx",
                "model.plan",
                "model.savedmodel",
                "model.graphdef",
                "model.dali",
            ];
            if is_version(version) && known.contains(file) {
                let end = segments[..at].join("/");
                // Borrowed from the path itself, so that it lives as long.
                models.insert(&path[..end.len()]);
                break;
            }
        }
    }
    let parents: BTreeSet<_> = models.iter().map(|model| parent(model)).collect();
    if models.contains("") {
        return vec![Structure::Triton {
            root: String::new(),
            models: Vec::new(),
        }];
    }
    parents
        .into_iter()
        .map(|root| Structure::Triton {
            root: root.to_owned(),
            models: models
                .iter()
                .filter(|model| parent(model) == root)
                .map(|model| file_name(model).to_owned())
                .collect(),
        })
        .collect()
}

fn saved_models(entries: &[Entry]) -> Vec<Structure> {
    let mut roots: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for entry in entries {
        if !matches!(file_name(&entry.path), "saved_model.pb" | "saved_model.pbtxt") {
            continue;
        }
        let folder = parent(&entry.path);
        if is_version(file_name(folder)) {
            roots
                .entry(parent(folder))
                .or_default()
                .push(file_name(folder).to_owned());
        } else {
            roots.entry(folder).or_default();
        }
    }
    roots
        .into_iter()
        .map(|(root, versions)| Structure::SavedModel {
            root: root.to_owned(),
            versions,
        })
        .collect()
}

/// `config.json` beside weights.
fn huggingface(entries: &[Entry]) -> Vec<Structure> {
    let configs = entries.iter().filter(|entry| file_name(&entry.path) == "config.json");
    let mut roots: Vec<String> = Vec::new();
    for entry in configs {
        let root = parent(&entry.path);
        let is_model = entries.iter().any(|entry| {
            let name = file_name(&entry.path);
            parent(&entry.path) == root
                && (name.ends_with(".safetensors")
                    || name.ends_with(".safetensors.index.json")
                    || (name.starts_with("pytorch_model") && (name.ends_with(".bin") || name.ends_with(".json")))
                    || name == "adapter_config.json")
        });
        // What lies in another one's folder is a part of it: encoders, adapters.
        if is_model && !roots.iter().any(|outer| is_below(&entry.path, outer)) {
            roots.push(root.to_owned());
        }
    }
    roots.into_iter().map(|root| Structure::Huggingface { root }).collect()
}

fn torch_serve(entries: &[Entry]) -> Vec<Structure> {
    let archives: Vec<_> = entries
        .iter()
        .filter(|entry| extension(&entry.path) == Some("mar"))
        .map(|entry| entry.path.clone())
        .collect();
    let folders: BTreeSet<_> = archives
        .iter()
        .map(|path| match parent(path) {
            "model-store" => "",
            folder => folder.strip_suffix("/model-store").unwrap_or(folder),
        })
        .collect();
    folders
        .into_iter()
        .map(|root| Structure::TorchServe {
            root: root.to_owned(),
            archives: archives.iter().filter(|path| is_below(path, root)).cloned().collect(),
        })
        .collect()
}

/// A numbered folder, as `TensorFlow` Serving and Triton have it.
pub(crate) fn is_version(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_torch_script(path: &str) -> bool {
    extension(path) == Some("pt")
}

/// What stands before the last slash; empty where there is none.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// What stands behind the last dot of the file's name.
pub(crate) fn extension(path: &str) -> Option<&str> {
    let (stem, extension) = file_name(path).rsplit_once('.')?;
    (!stem.is_empty()).then_some(extension)
}
