//! A configuration in a folder: YAML files, read strictly, and read again when they change.

mod document;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidewaiter_core::policy_resource::Module;

use crate::objects::{ObjectRef, Objects, Problem};
use document::{Head, Item, Unreadable};

/// A larger file is no configuration.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// How often a folder is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why a folder can't be read at all.
#[derive(Debug, thiserror::Error)]
#[error("the configuration folder {} can't be read: {source}", path.display())]
pub struct FolderError {
    path: PathBuf,
    source: io::Error,
}

/// A folder of `*.yaml`, `*.yml` and `*.json` files with `StorageBackend`s, `WasmPolicy`s, Secrets, `ConfigMap`s, `ServiceAccount`s, Namespaces, Nodes and
/// `(Cluster)ServingRuntime`s. Folders in it are not read.
pub struct Folder {
    path: PathBuf,
    /// The files as they were when they were last read.
    seen: Stamps,
    /// Files named by policies, which count as part of the folder.
    modules: BTreeSet<PathBuf>,
    /// Objects of each file as last read without an error that hid which objects it holds.
    known: BTreeMap<String, BTreeSet<ObjectRef>>,
}

type Stamps = BTreeMap<PathBuf, (SystemTime, u64, u64)>;

impl Folder {
    /// A folder that is yet to be read.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            seen: Stamps::new(),
            modules: BTreeSet::new(),
            known: BTreeMap::new(),
        }
    }

    /// Reads every file. What can't be read is a problem and, if it was good before, listed in [`Objects::unreadable`].
    ///
    /// # Errors
    /// The folder itself can't be read.
    pub fn load(&mut self) -> Result<(Objects, Vec<Problem>), FolderError> {
        // The stamps first: what changes while we read is seen as a change after it.
        let stamps = self.stamps()?;
        let mut loading = Loading {
            objects: Objects {
                base: Some(self.path.clone()),
                installed_runtimes: true,
                ..Objects::default()
            },
            problems: Vec::new(),
        };
        let mut known = BTreeMap::new();
        for path in self.files()? {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match read_text(&path) {
                Ok(text) => {
                    let found = loading.file(&file, &text, self.known.get(&file));
                    known.insert(file, found);
                }
                Err(message) => {
                    let before = self.known.get(&file).cloned().unwrap_or_default();
                    let kept = before.iter().map(|object| (object.clone(), message.clone()));
                    loading.objects.unreadable.extend(kept);
                    loading.problems.push(Problem {
                        object: None,
                        at: Some(file.clone()),
                        message: format!("{message}; {}", all_stays(!before.is_empty())),
                        in_use: false,
                    });
                    known.insert(file, before);
                }
            }
        }
        let Loading { objects, mut problems } = loading;
        if known.is_empty() {
            problems.push(Problem {
                object: None,
                at: None,
                message: format!(
                    "{} holds no YAML file; models in every store are left as they are",
                    self.path.display()
                ),
                in_use: false,
            });
        }
        self.modules = objects
            .policies
            .iter()
            .filter_map(|policy| match &policy.spec.module {
                Module::File(file) => Some(self.path.join(file)),
                _ => None,
            })
            .collect();
        self.known = known;
        self.seen = stamps;
        for module in &self.modules {
            if let Some(stamp) = stamp(module) {
                self.seen.insert(module.clone(), stamp);
            }
        }
        Ok((objects, problems))
    }

    /// Waits until the folder is no longer as it was last read. Looks once a second, which also sees the symbolic link that is exchanged
    /// in a ConfigMap's volume, and works on every file system.
    pub async fn changed(&self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if self.is_changed() {
                return;
            }
        }
    }

    /// Whether the folder is no longer as it was last read. A folder that can't be read now is not changed: it may be in the middle of it.
    pub fn is_changed(&self) -> bool {
        let Ok(mut now) = self.stamps() else { return false };
        for module in &self.modules {
            if let Some(stamp) = stamp(module) {
                now.insert(module.clone(), stamp);
            }
        }
        now != self.seen
    }

    fn files(&self) -> Result<Vec<PathBuf>, FolderError> {
        let failed = |source| FolderError {
            path: self.path.clone(),
            source,
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_yaml = path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
            let is_hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_yaml && !is_hidden && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn stamps(&self) -> Result<Stamps, FolderError> {
        Ok(self
            .files()?
            .into_iter()
            .filter_map(|path| stamp(&path).map(|stamp| (path, stamp)))
            .collect())
    }
}

/// Follows links, so that a volume's exchange shows as another file.
fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn read_text(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path)
        .map_err(|error| format!("can't be read: {error}"))?
        .len();
    if length > MAX_FILE {
        return Err(format!(
            "has {length} bytes; a file of a configuration has {MAX_FILE} at most"
        ));
    }
    let bytes = fs::read(path).map_err(|error| format!("can't be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not text in UTF-8".to_owned())
}

struct Loading {
    objects: Objects,
    problems: Vec<Problem>,
}

impl Loading {
    /// Reads one file, and says which objects it holds.
    fn file(&mut self, file: &str, text: &str, before: Option<&BTreeSet<ObjectRef>>) -> BTreeSet<ObjectRef> {
        let mut found = BTreeSet::new();
        for (before_it, document) in documents(text) {
            let line = before_it + first_line(&document).unwrap_or_default() + 1;
            let at =
                |unreadable: &Unreadable| format!("{file}:{}", unreadable.line.map_or(line, |line| before_it + line));
            let head = match Head::read(&document) {
                Ok(Some(head)) => head,
                Ok(None) => continue,
                Err(unreadable) => {
                    // Nobody knows which objects this was: all that the file held before are kept.
                    for object in before.into_iter().flatten() {
                        self.objects
                            .unreadable
                            .insert(object.clone(), unreadable.message.clone());
                        found.insert(object.clone());
                    }
                    let stays = all_stays(before.is_some_and(|before| !before.is_empty()));
                    self.problems.push(Problem {
                        object: None,
                        at: Some(at(&unreadable)),
                        message: format!("{}; {stays}", unreadable.message),
                        in_use: false,
                    });
                    continue;
                }
            };
            let object = head.object();
            let item = match head.item(&document) {
                Ok(item) => item,
                Err(unreadable) => {
                    let unusable = head.unusable_backend(&document, &unreadable.message);
                    self.objects.unusable_backends.extend(unusable);
                    if let Some(object) = &object {
                        self.objects
                            .unreadable
                            .insert(object.clone(), unreadable.message.clone());
                        found.insert(object.clone());
                    }
                    self.problems.push(Problem {
                        object,
                        at: Some(at(&unreadable)),
                        message: unreadable.message,
                        in_use: false,
                    });
                    continue;
                }
            };
            if let Some(object) = object {
                if let Some(first) = self.objects.places.get(&object) {
                    let message = format!("is written twice; the one at {first} is used");
                    self.problems.push(Problem {
                        object: Some(object),
                        at: Some(format!("{file}:{line}")),
                        message,
                        in_use: false,
                    });
                    continue;
                }
                self.objects.places.insert(object.clone(), format!("{file}:{line}"));
                found.insert(object);
            }
            self.add(item);
        }
        // An object that is read now was unreadable only by a guess.
        self.objects
            .unreadable
            .retain(|object, _| !self.objects.places.contains_key(object));
        found
    }

    fn add(&mut self, item: Item) {
        let objects = &mut self.objects;
        match item {
            Item::Backend(backend) => objects.backends.push(backend),
            Item::Policy(policy) => objects.policies.push(policy),
            Item::Secret(secret) => objects.secrets.push(secret),
            Item::ConfigMap(map) => objects.config_maps.push(map),
            Item::ServiceAccount(account) => objects.service_accounts.push(account),
            Item::Namespace(name, labels) => {
                objects.namespaces.insert(name, labels);
            }
            Item::Node(architecture) => objects.architectures.extend(architecture),
            Item::Runtime(runtime) => objects.runtimes.push(runtime),
        }
    }
}

/// What becomes of objects of which nobody can say what they are called.
fn all_stays(held: bool) -> &'static str {
    if held {
        "the last good version of what it held stays"
    } else {
        "nothing of it is used"
    }
}

/// The documents of a file that hold anything, each with the number of lines before it.
pub fn documents(text: &str) -> Vec<(u64, String)> {
    let mut documents = vec![(0, String::new())];
    for (index, line) in text.lines().enumerate() {
        // YAML itself gives this marker no other meaning, not even inside of a block of text.
        let marked = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if marked.is_some() {
            documents.push((index as u64, String::new()));
        }
        if let Some((_, document)) = documents.last_mut() {
            document.push_str(marked.unwrap_or(line));
            document.push('\n');
        }
    }
    documents.retain(|(_, document)| first_line(document).is_some());
    documents
}

/// The first line, counted from 0, that is neither empty nor a comment.
fn first_line(document: &str) -> Option<u64> {
    document
        .lines()
        .position(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|index| index as u64)
}
