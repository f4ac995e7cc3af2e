//! From what a user wrote to a URI that KServe can load: found, checked, laid out, and uploaded where it isn't in a store yet.

use std::path::{Path, PathBuf};

use tidewaiter_core::uri::{Scheme, StorageUri};

use crate::model::{Framework, Model};
use crate::prepare::{self, Content, Prepared, Wishes};
use crate::source::identify::parent;
use crate::source::{self, Folder, Located, Origin, Source, Tracking};
use crate::store::Access;
use crate::upload::{self, Item};

/// What staging needs to know. Debug shows no key.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the user says the model is; by default what its files say.
    pub framework: Option<Framework>,
    /// The MLflow server.
    pub tracking: Option<Tracking>,
    /// Where `mlflow-artifacts:/` really lies: the server's `--artifacts-destination`.
    pub proxied_root: Option<StorageUri>,
    /// Keys of the stores.
    pub stores: Access,
    /// Where models are uploaded to, such as `s3://models/deployed/`; needed for what isn't in a store, or not as its server wants it.
    pub artifact_store: Option<StorageUri>,
    /// The artifact store isn't asked what it has already, and nothing is sent: for who only wants to know where the model would lie.
    pub only_places: bool,
    /// The service's name, which the uploaded folder and Triton's and `TorchServe`'s models are called by.
    pub name: String,
    /// What becomes a `TorchServe` archive.
    pub torch_serve: Option<prepare::TorchServe>,
    /// What answers in place of the model alone.
    pub function: Option<prepare::Function>,
    /// An image of the user's own serves it, whatever it is.
    pub own_image: bool,
    /// Where files are kept that are made or fetched on the way, for this user alone; in the system's folder for such by default.
    pub scratch: Option<PathBuf>,
    /// Where it is kept what of an upload is done; nowhere by default, and then large files begin again.
    pub journal: Option<PathBuf>,
}

/// A model that was found and checked, before its files are fetched from where KServe can't read them.
pub struct Found<'o> {
    located: Located,
    prepared: Prepared,
    place: Place,
    options: &'o Options,
}

enum Place {
    /// Right as it is.
    Stays(StorageUri),
    /// Uploaded.
    Goes(Box<upload::Options>),
}

/// A model whose place is known, before anything of it is sent. What was made for it on this machine goes with this.
pub struct Pending {
    staged: Staged,
    upload: Option<upload::Pending>,
    _scratch: Option<tempfile::TempDir>,
}

/// A model that KServe can load.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    /// Where it lies, or will.
    pub uri: StorageUri,
    /// What it is.
    pub model: Model,
    /// What was asked for, and what it turned out to be.
    pub origin: Origin,
    /// What was made of it, and what its user should know: a sentence each.
    pub notes: Vec<String>,
    /// Bytes that were sent, or have to be, and bytes that were there already; both 0 where it was used where it is.
    pub sent: u64,
    /// See `sent`.
    pub reused: u64,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The source is looked for.
    Locating,
    /// What it turned out to be.
    Located {
        /// How.
        origin: Origin,
        /// What it is.
        framework: Framework,
        /// How large.
        bytes: u64,
    },
    /// Files are fetched from behind a server, or from a store where they lie wrongly.
    Fetching {
        /// Bytes so far.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// The files are laid out for their server.
    Preparing,
    /// The files are read, for a name that is their content's.
    Hashing {
        /// Bytes so far.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// The files are sent.
    Uploading {
        /// Bytes so far, with those that were there already.
        done: u64,
        /// Of how many.
        total: u64,
    },
}

/// Why a model can't be served from where it is, or was not found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was not found, or not understood.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// No server would load it.
    #[error(transparent)]
    Prepare(#[from] prepare::Error),
    /// It could not be uploaded.
    #[error(transparent)]
    Upload(#[from] upload::Error),
    /// It has to be uploaded, and nobody said where to.
    #[error("{asked} has to be uploaded ({why}), and no artifact store was named")]
    NoArtifactStore {
        /// The source.
        asked: String,
        /// Why it can't stay where it is.
        why: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Source(error) => error.next(),
            Self::Prepare(error) => error.next(),
            Self::Upload(error) => error.next(),
            Self::NoArtifactStore { .. } => {
                "name one by --artifact-store, such as s3://models/deployed/, or in the profile".to_owned()
            }
        }
    }
}

/// Finds a model, checks it, lays it out for its server, and uploads it where it isn't in a store, or not as it has to be. What lies right is used where it is.
///
/// # Errors
/// See [`Error`]; nothing is deployed then, and a manifest is only in the store when everything is.
pub async fn stage(source: &Source, options: &Options, progress: &dyn Fn(Progress)) -> Result<Staged, Error> {
    prepare(source, options, progress).await?.send(progress).await
}

/// The same as far as it goes without sending anything: where the model lies or will, and what is to be sent.
///
/// # Errors
/// See [`Error`].
pub async fn prepare(source: &Source, options: &Options, progress: &dyn Fn(Progress)) -> Result<Pending, Error> {
    find(source, options, progress).await?.fetch(progress).await
}

/// The same as far as it goes without fetching the model, of which a few hundred kilobytes are read at most.
///
/// # Errors
/// See [`Error`].
pub async fn find<'o>(source: &Source, options: &'o Options, progress: &dyn Fn(Progress)) -> Result<Found<'o>, Error> {
    progress(Progress::Locating);
    let located = source::locate(
        source,
        &source::Options {
            framework: options
                .framework
                .or(options.function.is_some().then_some(Framework::Custom)),
            tracking: options.tracking.clone(),
            proxied_root: options.proxied_root.clone(),
            stores: options.stores.clone(),
        },
    )
    .await?;
    progress(Progress::Located {
        origin: located.origin.clone(),
        framework: located.model.framework,
        bytes: located.model.bytes,
    });
    progress(Progress::Preparing);
    let wishes = Wishes {
        name: &options.name,
        torch_serve: options.torch_serve.as_ref(),
        function: options.function.as_ref(),
        own_image: options.own_image,
    };
    let prepared = prepare::prepare(&located, wishes).await?;
    let place = match (in_place(&located, &prepared, options)?, &options.artifact_store) {
        (Some(uri), _) => Place::Stays(uri),
        (None, Some(root)) => Place::Goes(Box::new(upload::Options {
            root: root.clone(),
            name: options.name.clone(),
            stores: options.stores.clone(),
            journal: options.journal.clone(),
        })),
        (None, None) => {
            return Err(Error::NoArtifactStore {
                why: why(&located, &prepared),
                asked: located.origin.asked,
            });
        }
    };
    Ok(Found {
        located,
        prepared,
        place,
        options,
    })
}

impl Found<'_> {
    /// What was asked for, and what it turned out to be so far.
    pub fn origin(&self) -> &Origin {
        &self.located.origin
    }

    /// What it is, as it will be served.
    pub fn model(&self) -> Model {
        Model {
            framework: self.prepared.framework,
            ..self.located.model.clone()
        }
    }

    /// Where it lies; none where it is uploaded first.
    pub fn uri(&self) -> Option<&StorageUri> {
        match &self.place {
            Place::Stays(uri) => Some(uri),
            Place::Goes(_) => None,
        }
    }

    /// The folder that it is uploaded into, under a name that is its content's; none where it stays.
    pub fn folder(&self) -> Option<StorageUri> {
        match &self.place {
            Place::Stays(_) => None,
            Place::Goes(upload) => upload.root.join(&upload.name).ok(),
        }
    }

    /// Whether its files come over the line first, which may take long.
    pub fn is_far(&self) -> bool {
        self.uri().is_none() && !matches!(self.located.folder, Some(Folder::Local(_)))
    }

    /// Fetches it where it has to be uploaded, lays it out, and says where it lies or will. Nothing is sent.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch(self, progress: &dyn Fn(Progress)) -> Result<Pending, Error> {
        let (model, is_far) = (self.model(), self.is_far());
        let Self {
            located,
            prepared,
            place,
            options,
        } = self;
        let upload = match place {
            Place::Goes(upload) => upload,
            Place::Stays(uri) => {
                return Ok(Pending {
                    staged: Staged {
                        uri,
                        model,
                        origin: located.origin,
                        notes: prepared.notes,
                        sent: 0,
                        reused: 0,
                    },
                    upload: None,
                    _scratch: None,
                });
            }
        };
        if is_far && !options.only_places {
            upload::reach(&upload).await?;
        }
        // Everything that is made or fetched goes with this folder.
        let scratch = scratch(options.scratch.as_deref())?;
        let items = materialise(&located, &prepared, scratch.path(), progress).await?;
        let files = items.len();
        let news = |news: upload::Progress| progress(news.into());
        let (uri, pending, sent, reused) = if options.only_places {
            let (uri, bytes) = upload::place(items, &upload, &news).await?;
            (uri, None, bytes, 0)
        } else {
            let pending = upload::prepare(items, &upload, &news).await?;
            let (sent, reused) = (pending.to_send(), pending.reused());
            (pending.uri().clone(), Some(pending), sent, reused)
        };
        let mut origin = located.origin;
        origin.steps.push(uri.to_string());
        Ok(Pending {
            staged: Staged {
                model: Model {
                    bytes: sent + reused,
                    files,
                    ..model
                },
                uri,
                origin,
                notes: prepared.notes,
                sent,
                reused,
            },
            upload: pending,
            _scratch: Some(scratch),
        })
    }
}

impl Pending {
    /// The model as it will be.
    pub fn staged(&self) -> &Staged {
        &self.staged
    }

    /// Whether KServe can load it now.
    pub fn is_there(&self) -> bool {
        self.upload
            .as_ref()
            .map_or(self.staged.sent == 0, upload::Pending::is_there)
    }

    /// Sends what isn't there yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send(self, progress: &dyn Fn(Progress)) -> Result<Staged, Error> {
        if let Some(upload) = self.upload {
            upload.send(&|news| progress(news.into())).await?;
        }
        Ok(self.staged)
    }
}

impl From<upload::Progress> for Progress {
    fn from(news: upload::Progress) -> Self {
        match news {
            upload::Progress::Hashing(done, total) => Self::Hashing { done, total },
            upload::Progress::Uploading(done, total) => Self::Uploading { done, total },
        }
    }
}

/// The URI of what needn't be copied.
fn in_place(located: &Located, prepared: &Prepared, options: &Options) -> Result<Option<StorageUri>, Error> {
    let Some(uri) = &located.uri else { return Ok(None) };
    if uri.scheme() == Scheme::File {
        return Ok(None);
    }
    match &prepared.in_place {
        Some(folder) if folder.is_empty() => Ok(Some(uri.clone())),
        Some(folder) => {
            let below = uri.join(folder).map_err(source::SourceError::from);
            Ok(Some(below.map_err(source::Error::from)?))
        }
        None if prepared.would_do && options.artifact_store.is_none() => {
            let folder = prepared.sources().first().map_or("", |path| parent(path)).to_owned();
            let below = if folder.is_empty() {
                Ok(uri.clone())
            } else {
                uri.join(&folder)
            };
            Ok(Some(
                below.map_err(source::SourceError::from).map_err(source::Error::from)?,
            ))
        }
        None => Ok(None),
    }
}

fn why(located: &Located, prepared: &Prepared) -> String {
    match (&located.folder, prepared.why.as_str()) {
        (Some(Folder::Local(_)), "") => "it lies on this machine".to_owned(),
        (Some(Folder::Tracking(_)), "") => {
            "the tracking server hands it out by its proxy, which KServe can't read".to_owned()
        }
        (_, "") => "KServe can't read it there".to_owned(),
        (_, why) => why.to_owned(),
    }
}

fn scratch(folder: Option<&Path>) -> Result<tempfile::TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("tidewaiter-");
    let made = match folder {
        Some(folder) => crate::folder::make(folder).and_then(|()| builder.tempdir_in(folder)),
        None => builder.tempdir(),
    };
    made.map_err(|error| {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_owned);
        source::unreadable(&folder, &error).into()
    })
}

/// Fetches, packs and lists what is to be sent.
async fn materialise(
    located: &Located,
    prepared: &Prepared,
    scratch: &Path,
    progress: &dyn Fn(Progress),
) -> Result<Vec<Item>, Error> {
    let source = source::fetch(located, prepared.sources(), scratch, &|done, total| {
        progress(Progress::Fetching { done, total });
    })
    .await?;
    let mut items = Vec::new();
    for (number, file) in prepared.files.iter().enumerate() {
        let content = match &file.content {
            Content::Source(entry) => upload::Content::File(source::local_file(&source, &entry.path)),
            Content::Local(path) => upload::Content::File(path.clone()),
            Content::Generated(bytes) => upload::Content::Bytes(bytes.clone().into()),
            Content::Packed(archive) => {
                let to = scratch.join(format!("packed-{number}"));
                let (archive, from, packed) = (archive.clone(), source.clone(), to.clone());
                let (scratch, bytes) = (scratch.to_owned(), located.model.bytes);
                source::blocking(move || {
                    prepare::pack(&archive, &from, &packed)
                        .map_err(|error| source::unwritable(&packed, &scratch, bytes, &error))
                })
                .await?;
                upload::Content::File(to)
            }
        };
        items.push(Item {
            path: file.path.clone(),
            content,
        });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_lies_on_this_machine_needs_an_artifact_store() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("net.onnx"), "x").unwrap();
        let source = Source::Local(folder.path().to_owned());
        let error = stage(&source, &Options::default(), &|_| {}).await.unwrap_err();
        let told = format!("{error}; {}", error.next());
        assert!(
            told.contains("has to be uploaded (Triton loads a repository), and no artifact store was named"),
            "{told}"
        );
        assert!(told.contains("--artifact-store"), "{told}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn where_it_would_lie_is_said_without_asking_the_store() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("net.onnx"), "x").unwrap();
        let source = Source::Local(folder.path().to_owned());
        // Nobody listens there.
        let mut stores = Access::default();
        stores.s3.endpoint = Some("http://127.0.0.1:9".to_owned());
        let options = Options {
            artifact_store: Some("s3://models/deployed/".parse().unwrap()),
            name: "fraud".to_owned(),
            stores,
            only_places: true,
            ..Options::default()
        };
        let pending = prepare(&source, &options, &|_| {}).await.unwrap();
        let uri = pending.staged().uri.as_str();
        assert!(uri.starts_with("s3://models/deployed/fraud/"), "{uri}");
        assert!(pending.staged().sent > 0 && !pending.is_there());
    }

    #[tokio::test]
    async fn what_can_not_be_looked_at_is_used_where_it_is() {
        let options = Options {
            framework: Some(Framework::Sklearn),
            ..Options::default()
        };
        let source = "pvc://claim/model".parse().unwrap();
        let staged = stage(&source, &options, &|_| {}).await.unwrap();
        assert_eq!(staged.uri.as_str(), "pvc://claim/model");
        assert_eq!((staged.sent, staged.reused), (0, 0));
        let unclear = stage(&source, &Options::default(), &|_| {}).await.unwrap_err();
        assert!(
            unclear.to_string().contains("can't be looked at from here"),
            "{unclear}"
        );
        let source = "hf://owner/model:v1".parse().unwrap();
        let staged = stage(&source, &Options::default(), &|_| {}).await.unwrap();
        assert_eq!(staged.model.framework, Framework::Huggingface);
    }
}
