//! Manifests in files, and where in them each value stands.

mod located;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;

pub use located::Located;

/// As the file of standard input is called.
pub const STDIN: &str = "-";
/// What Helm writes over each document (`helm template`, `pkg/action` of 3 and 4).
const SOURCE: &str = "# Source: ";
/// A larger file is no manifest.
const LARGEST: u64 = 32 << 20;
/// Folders in folders that are followed.
const DEPTH: usize = 16;

/// One object of a file.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The file, as it was named; `-` for standard input.
    pub file: String,
    /// On standard input: the chart's template that Helm made it of.
    pub template: Option<String>,
    /// Its value, and its lines.
    pub object: Located,
}

/// Why files can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// One of them.
    #[error("{} can't be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too large.
    #[error("{} has more than 32 MiB, which a file of manifests has at most", path.display())]
    Large {
        /// Which.
        path: PathBuf,
    },
    /// It is no YAML: where, and why.
    #[error("{0}")]
    Yaml(String),
    /// Folders in folders, more than are followed.
    #[error("{} lies more than 16 folders deep: name it by itself", .0.display())]
    Deep(PathBuf),
    /// A document that is no object.
    #[error("{file}:{line}: this is no object: a manifest has apiVersion, kind and metadata")]
    NoObject {
        /// Which.
        file: String,
        /// Where.
        line: u64,
    },
    /// A document that says only half of what it is, or on standard input nothing.
    #[error("{file}:{line}: this is no manifest: it has no {missing}")]
    NoManifest {
        /// Which.
        file: String,
        /// Where.
        line: u64,
        /// What isn't there.
        missing: &'static str,
    },
    /// A folder for kustomize.
    #[error("{} is a folder for kustomize, and what it makes isn't in it: `kubectl kustomize {} | tidewaiter review -`", .0.display(), .0.display())]
    Kustomize(PathBuf),
    /// A folder with a chart.
    #[error("{} is a chart for Helm, and what it makes isn't in it: `helm template {} | tidewaiter review -`", .0.display(), .0.display())]
    Chart(PathBuf),
}

/// All manifests of a file, or of the YAML and JSON files of a folder and the folders in it, in the order of their names.
///
/// # Errors
/// Where one of them can't be read: a review of the others would say too much.
pub fn manifests(path: &Path) -> Result<Vec<Manifest>, FilesError> {
    let mut found = Vec::new();
    if path.is_dir() {
        folder(path, DEPTH, &mut found)?;
    } else {
        file(path, &mut found)?;
    }
    Ok(found)
}

fn folder(path: &Path, depth: usize, found: &mut Vec<Manifest>) -> Result<(), FilesError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(FilesError::Deep(path.to_owned()));
    };
    let is_there = |names: &[&str]| names.iter().any(|name| path.join(name).is_file());
    if is_there(&["kustomization.yaml", "kustomization.yml", "Kustomization"]) {
        return Err(FilesError::Kustomize(path.to_owned()));
    }
    if is_there(&["Chart.yaml"]) {
        return Err(FilesError::Chart(path.to_owned()));
    }
    let failed = |source| FilesError::Read {
        path: path.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        // A link to a folder above would have no end; what it leads to is reviewed where it is.
        if entry.is_symlink() && entry.is_dir() {
            continue;
        }
        let name = name.to_ascii_lowercase();
        if entry.is_dir() {
            folder(&entry, depth, found)?;
        } else if (entry.is_file() || entry.is_symlink())
            && [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
        {
            file(&entry, found)?;
        }
    }
    Ok(())
}

fn file(path: &Path, found: &mut Vec<Manifest>) -> Result<(), FilesError> {
    let failed = |source| FilesError::Read {
        path: path.to_owned(),
        source,
    };
    // A device or a pipe doesn't say how much there is.
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    let size = read.map_err(failed)? as u64;
    if size > LARGEST {
        return Err(FilesError::Large { path: path.to_owned() });
    }
    found.extend(parsed(&path.display().to_string(), &text)?);
    Ok(())
}

/// The manifests of a text, those in a `List` one by one.
///
/// # Errors
/// Where it is no YAML.
pub fn parsed(file: &str, text: &str) -> Result<Vec<Manifest>, FilesError> {
    let documents = Located::documents(file, text).map_err(FilesError::Yaml)?;
    let lines: Vec<&str> = if file == STDIN {
        text.lines().collect()
    } else {
        Vec::new()
    };
    let mut found = Vec::new();
    for object in documents {
        let template = template(&lines, object.line(""));
        gather(file, template.as_ref(), object, &mut found)?;
    }
    Ok(found)
}

/// One object, or what is in a list.
fn gather(file: &str, template: Option<&String>, object: Located, found: &mut Vec<Manifest>) -> Result<(), FilesError> {
    if object.value.is_null() {
        return Ok(());
    }
    if !object.value.is_object() {
        return Err(FilesError::NoObject {
            file: file.to_owned(),
            line: object.line(""),
        });
    }
    let missing = |member: &str| object.value[member].as_str().is_none_or(str::is_empty);
    let missing = match (missing("apiVersion"), missing("kind")) {
        // In a folder there are files of other programs.
        (true, true) if file != STDIN => None,
        (true, true) => Some("apiVersion and kind"),
        (true, false) => Some("apiVersion"),
        (false, true) => Some("kind"),
        (false, false) => None,
    };
    if let Some(missing) = missing {
        return Err(FilesError::NoManifest {
            file: file.to_owned(),
            line: object.line(""),
            missing,
        });
    }
    let kind = object.value["kind"].as_str().unwrap_or_default();
    if kind == "List" || kind.ends_with("List") && object.value["items"].is_array() {
        let count = object.value["items"].as_array().map_or(0, Vec::len);
        for part in (0..count).filter_map(|index| object.part(&format!("/items/{index}"))) {
            gather(file, template, part, found)?;
        }
        return Ok(());
    }
    found.push(Manifest {
        file: file.to_owned(),
        template: template.cloned(),
        object,
    });
    Ok(())
}

/// The template that Helm names in the comments over the object that begins at this line.
fn template(lines: &[&str], begin: u64) -> Option<String> {
    let above = lines.get(..usize::try_from(begin).ok()?.checked_sub(1)?)?;
    let mut comments = above
        .iter()
        .rev()
        .take_while(|line| line.is_empty() || line.starts_with('#'));
    let named = comments.find_map(|line| line.strip_prefix(SOURCE))?;
    Some(named.trim().to_owned())
}

impl Manifest {
    /// Such as `InferenceService`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its name; empty where the API server is to make one.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Its namespace, where it names one.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.text("/metadata/namespace")).filter(|name| !name.is_empty())
    }

    fn text(&self, pointer: &str) -> &str {
        self.object
            .value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helm_made_names_its_template_and_nothing_else_does() {
        let templates = |file: &str, text: &str| {
            let manifests = parsed(file, text).unwrap();
            manifests
                .into_iter()
                .map(|manifest| manifest.template)
                .collect::<Vec<_>>()
        };
        // `helm template fraud CHART` of Helm 4.3; the second template has a comment of its own, and two documents.
        let helm = include_str!("../../fixtures/helm.yaml");
        let service = Some("fraud/templates/service.yaml".to_owned());
        assert_eq!(
            templates("-", helm),
            [Some("fraud/templates/config.yaml".to_owned()), service.clone(), service]
        );
        assert_eq!(templates("rendered.yaml", helm), [None, None, None]);
        assert_eq!(
            templates(
                "-",
                "apiVersion: v1\nkind: A\ndata: {x: '# Source: a'}\n---\napiVersion: v1\nkind: B\n"
            ),
            [None, None]
        );
    }

    #[test]
    fn what_is_half_a_manifest_is_told_wherever_it_stands() {
        let error = |file: &str, text: &str| parsed(file, text).unwrap_err().to_string();
        assert_eq!(
            error("a.yaml", "kind: InferenceService\n"),
            "a.yaml:1: this is no manifest: it has no apiVersion"
        );
        let item = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: serving.kserve.io/v1beta1\n";
        assert_eq!(error("a.yaml", item), "a.yaml:7: this is no manifest: it has no kind");
        assert_eq!(
            error("-", "foo: bar\n"),
            "-:1: this is no manifest: it has no apiVersion and kind"
        );
        assert_eq!(parsed("values.yaml", "foo: bar\n").unwrap().len(), 1);
        let whole = item.to_owned() + "    kind: InferenceService\n";
        assert_eq!(parsed("a.yaml", &whole).unwrap()[0].kind(), "InferenceService");
    }

    #[test]
    fn what_has_no_end_is_not_read_to_it() {
        let error = manifests(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(error, FilesError::Large { .. }), "{error}");
    }

    #[test]
    fn what_is_no_yaml_is_told_with_file_and_line() {
        let error = |text: &str| parsed("a.yaml", text).unwrap_err().to_string();
        assert_eq!(
            error("kind: Namespace\nmetadata:\n  name: a\n  name: b\n"),
            "a.yaml:4: `name` stands here twice"
        );
        let scanned = error("a: [1\nb: 2\n");
        assert!(scanned.starts_with("a.yaml:2: this is not YAML"), "{scanned}");
    }
}
