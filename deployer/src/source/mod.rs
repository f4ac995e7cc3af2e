//! From what a user wrote to a place and a model.
//!
//! ```text
//!   words ─▶ Source ─▶ mlflow (REST) ─▶ a store's URI, a folder, or files behind the server ─▶ identify ─▶ Located
//! ```

mod error;
mod fetch;
mod folder;
pub(crate) mod identify;
mod mlflow;
mod tracking;
mod words;

use std::fmt;
use std::path::PathBuf;

use tidewaiter_core::uri::{Scheme, StorageUri};

pub use error::Error;
pub(crate) use fetch::{fetch, unwritable};
pub use folder::{Entry, Folder};
pub(crate) use folder::{blocking, local_file, unreadable, walk};
pub use tracking::{Artifacts, Auth, Tracking};
pub use words::{Source, SourceError, Which};

use crate::model::{Framework, Model};
use crate::store::{Access, Bucket, S3Identity};
use identify::Found;
use mlflow::Place;
use tracking::Client;

/// What is needed to find a model.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the user says it is.
    pub framework: Option<Framework>,
    /// The MLflow server.
    pub tracking: Option<Tracking>,
    /// Where `mlflow-artifacts:/` really lies: the server's `--artifacts-destination`, which no route of it tells.
    pub proxied_root: Option<StorageUri>,
    /// Keys of the stores.
    pub stores: Access,
}

/// A model that was found.
#[derive(Clone)]
pub struct Located {
    /// Where KServe reads it; none for what has to be uploaded first.
    pub uri: Option<StorageUri>,
    /// What it is.
    pub model: Model,
    /// How it was found.
    pub origin: Origin,
    /// Its files; none where they can't be looked at from here.
    pub folder: Option<Folder>,
    /// What files there are.
    pub entries: Vec<Entry>,
    /// What they are.
    pub(crate) found: Found,
}

/// What was asked for, and what it turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// In the user's words: `models:/fraud@champion`.
    pub asked: String,
    /// What was found on the way: `version 3`, `s3://…`.
    pub steps: Vec<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.asked)?;
        for step in &self.steps {
            write!(f, " → {step}")?;
        }
        Ok(())
    }
}

/// A URI as it may be shown: what stands in a query, such as Azure's shared access signature, opens the store to whoever reads it.
pub fn without_token(uri: &str) -> String {
    match uri.split_once('?') {
        Some((place, _)) if uri.contains("://") => format!("{place}?…"),
        _ => uri.to_owned(),
    }
}

/// Finds a model and says what it is. Reads a few hundred kilobytes of it at most.
///
/// # Errors
/// Where there is none, or more than one, or who holds it says no.
pub async fn locate(source: &Source, options: &Options) -> Result<Located, Error> {
    let mut origin = Origin {
        asked: without_token(&source.to_string()),
        steps: Vec::new(),
    };
    if !source.is_mlflow() {
        return match source {
            Source::Store(uri) => in_store(uri.clone(), None, origin, options).await,
            Source::Local(path) => in_folder(Folder::Local(path.clone()), None, origin, options).await,
            _ => Err(Error::NoTracking { asked: origin.asked }),
        };
    }
    // Behind a proxy whose root is known, nobody has to be asked.
    if let (Source::Proxied { host: None, path }, Some(root)) = (source, &options.proxied_root) {
        let uri = below(root, path)?;
        origin.steps.push(uri.to_string());
        return in_store(uri, None, origin, options).await;
    }
    let Some(tracking) = &options.tracking else {
        return Err(Error::NoTracking { asked: origin.asked });
    };
    let client = Client::new(tracking)?;
    let resolved = mlflow::resolve(&client, source).await?;
    origin.steps = resolved.steps;
    match resolved.place {
        Place::Store(uri) => {
            origin.steps.push(without_token(uri.as_str()));
            in_store(uri, resolved.artifacts, origin, options).await
        }
        Place::Proxied(path) => {
            let proxied = format!("mlflow-artifacts:/{path}");
            if origin.asked != proxied {
                origin.steps.push(proxied.clone());
            }
            if let Some(root) = &options.proxied_root {
                let uri = below(root, &path)?;
                origin.steps.push(uri.to_string());
                return in_store(uri, resolved.artifacts, origin, options).await;
            }
            match resolved.artifacts {
                Some(artifacts) => in_folder(Folder::Tracking(artifacts), None, origin, options).await,
                None => Err(Error::Unclear { place: proxied }),
            }
        }
        Place::Disk(path) => {
            origin.steps.push(path.clone());
            let here = PathBuf::from(&path);
            if here.is_absolute() && here.exists() {
                return in_folder(Folder::Local(here), None, origin, options).await;
            }
            match resolved.artifacts.filter(Artifacts::is_whole) {
                Some(artifacts) => in_folder(Folder::Tracking(artifacts), None, origin, options).await,
                None => Err(Error::ServersDisk {
                    asked: origin.asked,
                    place: path,
                }),
            }
        }
    }
}

fn below(root: &StorageUri, path: &str) -> Result<StorageUri, Error> {
    root.join(path).map_err(|error| SourceError::from(error).into())
}

async fn in_store(
    uri: StorageUri,
    artifacts: Option<Artifacts>,
    origin: Origin,
    options: &Options,
) -> Result<Located, Error> {
    // Asking the machine's role for a key takes long where there is none, and the server reads the store with its own.
    let without_key = uri.scheme() == Scheme::S3 && options.stores.s3.identity == S3Identity::Machine;
    if let Some(artifacts) = artifacts.clone().filter(|_| without_key)
        && let Ok(located) = in_folder(Folder::Tracking(artifacts), Some(uri.clone()), origin.clone(), options).await
    {
        return Ok(located);
    }
    let is_bucket = matches!(uri.scheme(), Scheme::S3 | Scheme::Gs) || uri.azure().is_some();
    if !is_bucket {
        return identify::unseen(uri, origin, options.framework);
    }
    let (bucket, key) = Bucket::open(&uri, &options.stores)?;
    match in_folder(Folder::Store(bucket, key), Some(uri.clone()), origin.clone(), options).await {
        Err(Error::Store(error)) => match artifacts {
            Some(artifacts) if !error.is_not_found() => {
                in_folder(Folder::Tracking(artifacts), Some(uri), origin, options)
                    .await
                    .map_err(|_| error.into())
            }
            _ => Err(error.into()),
        },
        located => located,
    }
}

async fn in_folder(
    folder: Folder,
    uri: Option<StorageUri>,
    origin: Origin,
    options: &Options,
) -> Result<Located, Error> {
    let (folder, entries) = folder.list().await?;
    let (model, found) = identify::identify(&folder, &entries, options.framework).await?;
    Ok(Located {
        uri,
        model,
        origin,
        folder: Some(folder),
        entries,
        found,
    })
}

#[cfg(test)]
mod tests;
