//! Why a model was not uploaded, each with what to do about it.

use crate::store;

/// Why a model was not uploaded. No manifest is written then, and what was sent is used by the next try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file can't be read.
    #[error("can't read {file}: {reason}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        reason: String,
    },
    /// A file was written while it was sent.
    #[error("{file} changed while it was uploaded")]
    Changed {
        /// Which.
        file: String,
    },
    /// What was there at the beginning isn't at the end.
    #[error("files at {uri} went while the others were sent")]
    Meanwhile {
        /// Where.
        uri: String,
    },
    /// There is nothing to send.
    #[error("there are no files to upload")]
    Empty,
    /// The artifact store is no URI that models can lie below.
    #[error("models can't be uploaded to {root}: {reason}")]
    Root {
        /// The root.
        root: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else's files lie in the folder.
    #[error("{uri} holds files that are not of this model: {}", files.join(", "))]
    Foreign {
        /// The folder.
        uri: String,
        /// Some of them.
        files: Vec<String>,
    },
}

impl Error {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Store(error) => error.next(),
            Self::Unreadable { .. } => "look at the file and at who may read it".to_owned(),
            Self::Changed { .. } => "wait until whoever writes it is done, and run it again".to_owned(),
            Self::Meanwhile { .. } => "run it again: what is missing is sent then".to_owned(),
            Self::Empty => "name the folder with the model's files".to_owned(),
            Self::Root { .. } => "write it as s3://bucket/path/, gs://bucket/path/ or https://account.blob.core.windows.net/container/path/".to_owned(),
            Self::Foreign { .. } => "delete them there: the folder's name says exactly what is in it, and KServe would load them too".to_owned(),
        }
    }
}
