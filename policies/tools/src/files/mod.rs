//! Manifests in files, and where in them each value stands.

mod located;

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;
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

/// What files hold.
#[derive(Debug, Default)]
pub struct Files {
    /// Their objects, those in a `List` one by one, in the order of the files' names.
    pub manifests: Vec<Manifest>,
    /// Documents that hold anything.
    pub documents: usize,
    /// What of them can't be read, or is no manifest: nothing is known of what it would have been.
    pub unreadable: Vec<Unreadable>,
}

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

/// A file, a folder or a document that can't be read, or is no manifest.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {reason}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct Unreadable {
    /// Which file or folder, as it was named; `-` for standard input.
    pub file: String,
    /// Where, counted from 1; none where all of it is meant.
    pub line: Option<u64>,
    /// Why.
    pub reason: Reason,
}

/// Why something of files can't be read, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The system says no.
    #[error("it can't be read: {0}")]
    Read(io::Error),
    /// It holds bytes that are no text.
    #[error("it is no text in UTF-8, as YAML and JSON are")]
    NoText,
    /// It is too large.
    #[error("it has more than 32 MiB, and a file of manifests or standard input has no more: review it in parts")]
    Large,
    /// It is no YAML, or more of it than is read.
    #[error("{0}")]
    Yaml(String),
    /// Folders in folders, more than are followed.
    #[error("it lies more than 16 folders deep: name it by itself")]
    Deep,
    /// A folder without files that could be manifests.
    #[error(
        "it holds no manifests: files named *.yaml, *.yml or *.json were looked for, in it and in the folders in it"
    )]
    NoFiles,
    /// Nothing came by standard input. What was to write it may have failed, and a pipeline would not tell.
    #[error("standard input holds no object: look at what the command before it says")]
    NoInput,
    /// A document that is no object.
    #[error("this is no object: a manifest has apiVersion, kind and metadata")]
    NoObject,
    /// A document that says only half of what it is, or on standard input nothing.
    #[error("this is no manifest: it has no {0}")]
    NoManifest(&'static str),
    /// A list that holds none.
    #[error("this list has no items: write them as a list under `items`")]
    NoItems,
    /// A folder for kustomize.
    #[error(
        "it is a folder for kustomize, and what it makes isn't in it: `kubectl kustomize {0} | tidewaiter review -`"
    )]
    Kustomize(String),
    /// A folder with a chart.
    #[error("it is a chart for Helm, and what it makes isn't in it: `helm template {0} | tidewaiter review -`")]
    Chart(String),
}

impl Files {
    /// Of a file, of the YAML and JSON files of a folder and the folders in it, or for `-` of standard input.
    pub fn read(source: &str) -> Self {
        let mut files = Self::default();
        let path = Path::new(source);
        if source == STDIN {
            match text(io::stdin().lock()) {
                Ok(text) => files.add(STDIN, &text),
                Err(reason) => files.fail(path, reason),
            }
            if files.manifests.is_empty() && files.unreadable.is_empty() {
                files.fail(path, Reason::NoInput);
            }
        } else if path.is_dir() {
            if files.folder(path, DEPTH) == 0 && files.unreadable.is_empty() {
                files.fail(path, Reason::NoFiles);
            }
        } else {
            files.file(path);
        }
        files
    }

    /// Of a text, as if this file held it.
    pub fn parsed(file: &str, text: &str) -> Self {
        let mut files = Self::default();
        files.add(file, text);
        files
    }

    fn fail(&mut self, path: &Path, reason: Reason) {
        self.unreadable.push(Unreadable {
            file: path.display().to_string(),
            line: None,
            reason,
        });
    }

    /// How many files of it were looked at.
    fn folder(&mut self, path: &Path, depth: usize) -> usize {
        let Some(depth) = depth.checked_sub(1) else {
            self.fail(path, Reason::Deep);
            return 0;
        };
        let is_there = |names: &[&str]| names.iter().any(|name| path.join(name).is_file());
        if is_there(&["kustomization.yaml", "kustomization.yml", "Kustomization"]) {
            self.fail(path, Reason::Kustomize(pasted(path)));
            return 0;
        }
        if is_there(&["Chart.yaml"]) {
            self.fail(path, Reason::Chart(pasted(path)));
            return 0;
        }
        let entries = fs::read_dir(path).and_then(|entries| {
            let paths = entries.map(|entry| Ok(entry?.path()));
            paths.collect::<io::Result<Vec<_>>>()
        });
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                self.fail(path, Reason::Read(error));
                return 0;
            }
        };
        entries.sort();
        let mut count = 0;
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
                count += self.folder(&entry, depth);
            } else if (entry.is_file() || entry.is_symlink())
                && [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
            {
                self.file(&entry);
                count += 1;
            }
        }
        count
    }

    fn file(&mut self, path: &Path) {
        match fs::File::open(path).map_err(Reason::Read).and_then(text) {
            Ok(text) => self.add(&path.display().to_string(), &text),
            Err(reason) => self.fail(path, reason),
        }
    }

    /// The manifests of a text, those in a `List` one by one.
    fn add(&mut self, file: &str, text: &str) {
        let lines: Vec<&str> = if file == STDIN {
            text.lines().collect()
        } else {
            Vec::new()
        };
        for document in Located::documents(text) {
            self.documents += 1;
            match document {
                Ok(object) => {
                    let template = template(&lines, object.line(""));
                    self.gather(file, template.as_ref(), object);
                }
                Err((line, reason)) => self.unreadable.push(Unreadable {
                    file: file.to_owned(),
                    line: Some(line),
                    reason: Reason::Yaml(reason),
                }),
            }
        }
    }

    /// One object, or what is in a list.
    fn gather(&mut self, file: &str, template: Option<&String>, object: Located) {
        if object.value.is_null() {
            return;
        }
        if let Some(reason) = no_manifest(file, &object.value) {
            self.unreadable.push(Unreadable {
                file: file.to_owned(),
                line: Some(object.line("")),
                reason,
            });
            return;
        }
        let kind = object.value["kind"].as_str().unwrap_or_default();
        if let Some(items) = kind.strip_suffix("List")
            && (items.is_empty() || object.value.get("items").is_some())
        {
            let Some(count) = object.value["items"].as_array().map(Vec::len) else {
                self.unreadable.push(Unreadable {
                    file: file.to_owned(),
                    line: Some(object.line("/items")),
                    reason: Reason::NoItems,
                });
                return;
            };
            for part in (0..count).filter_map(|index| object.part(&format!("/items/{index}"))) {
                // To the API server each is of the list's kind; here it is to say so, as everything else does.
                let says_no_kind = !items.is_empty() && part.value.is_object() && part.value["kind"].is_null();
                if says_no_kind {
                    self.unreadable.push(Unreadable {
                        file: file.to_owned(),
                        line: Some(part.line("")),
                        reason: Reason::NoManifest("apiVersion and kind"),
                    });
                } else {
                    self.gather(file, template, part);
                }
            }
            return;
        }
        self.manifests.push(Manifest {
            file: file.to_owned(),
            template: template.cloned(),
            object,
        });
    }
}

/// A path as it is written in a command that is to be pasted into a shell.
pub fn pasted(path: &Path) -> String {
    let text = path.display().to_string();
    shlex::try_quote(&text).map(Cow::into_owned).unwrap_or(text)
}

/// Why a document is no manifest.
fn no_manifest(file: &str, value: &Value) -> Option<Reason> {
    if !value.is_object() {
        return Some(Reason::NoObject);
    }
    let missing = |member: &str| value[member].as_str().is_none_or(str::is_empty);
    match (missing("apiVersion"), missing("kind")) {
        // In a folder there are files of other programs.
        (true, true) if file != STDIN => None,
        (true, true) => Some(Reason::NoManifest("apiVersion and kind")),
        (true, false) => Some(Reason::NoManifest("apiVersion")),
        (false, true) => Some(Reason::NoManifest("kind")),
        (false, false) => None,
    }
}

/// All of a text. A device or a pipe doesn't say how much there is.
fn text(from: impl Read) -> Result<String, Reason> {
    let mut bytes = Vec::new();
    let size = from.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Reason::Read)?;
    if size as u64 > LARGEST {
        return Err(Reason::Large);
    }
    String::from_utf8(bytes).map_err(|_| Reason::NoText)
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
            let manifests = Files::parsed(file, text).manifests.into_iter();
            manifests.map(|manifest| manifest.template).collect::<Vec<_>>()
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
        let error = |file: &str, text: &str| Files::parsed(file, text).unreadable[0].to_string();
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
        assert_eq!(Files::parsed("values.yaml", "foo: bar\n").manifests.len(), 1);
        let whole = item.to_owned() + "    kind: InferenceService\n";
        assert_eq!(Files::parsed("a.yaml", &whole).manifests[0].kind(), "InferenceService");
    }

    #[test]
    fn what_has_no_end_is_not_read_to_it() {
        let files = Files::read("/dev/zero");
        assert!(matches!(files.unreadable[0].reason, Reason::Large), "{files:?}");
    }

    #[test]
    fn what_is_no_yaml_is_told_with_file_and_line() {
        let error = |text: &str| Files::parsed("a.yaml", text).unreadable[0].to_string();
        assert_eq!(
            error("kind: Namespace\nmetadata:\n  name: a\n  name: b\n"),
            "a.yaml:4: `name` stands here twice"
        );
        let scanned = error("a: [1\nb: 2\n");
        assert!(scanned.starts_with("a.yaml:2: this is not YAML"), "{scanned}");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_hides_none_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let object = "apiVersion: v1\nkind: A\n";
        for (name, text) in [
            ("a/good.yaml", format!("{object}---\nkind: [\n---\n{object}").as_bytes()),
            ("b/bytes.yaml", b"\xff\xfe\x00"),
            ("c/Chart.yaml", b"name: c\n"),
            ("d/word.json", b"\"word\""),
            ("e.yaml", object.as_bytes()),
            ("f/readme.md", b"# Nothing\n"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = folder.path().display().to_string();
        let files = Files::read(&root);
        assert_eq!((files.manifests.len(), files.documents), (3, 5));
        let told = |files: &Files| {
            let lines = files
                .unreadable
                .iter()
                .map(|unreadable| unreadable.to_string().replace(&root, ""));
            lines.collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(told(&files), @r#"
        /a/good.yaml:4: this is not YAML that can be read: unclosed bracket '['
        /b/bytes.yaml: it is no text in UTF-8, as YAML and JSON are
        /c: it is a chart for Helm, and what it makes isn't in it: `helm template /c | tidewaiter review -`
        /d/word.json:1: this is no object: a manifest has apiVersion, kind and metadata
        "#);
        insta::assert_snapshot!(told(&Files::read(&format!("{root}/f"))), @"/f: it holds no manifests: files named *.yaml, *.yml or *.json were looked for, in it and in the folders in it");
        insta::assert_snapshot!(told(&Files::read(&format!("{root}/none.yaml"))), @"/none.yaml: it can't be read: No such file or directory (os error 2)");
    }
}
