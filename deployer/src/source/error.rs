//! Why a source is no model that could be deployed, each with what to do about it.

use super::words::SourceError;
use crate::model::Framework;
use crate::store;

/// Why a model was not found, or not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The words name nothing.
    #[error(transparent)]
    Words(#[from] SourceError),
    /// A store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Nobody said which tracking server.
    #[error("{asked} names something of an MLflow server, and none was named")]
    NoTracking {
        /// The source.
        asked: String,
    },
    /// The URI names another host than the tracking server's.
    #[error("{asked} names the host {host}, and the tracking server is {server}")]
    OtherHost {
        /// The source.
        asked: String,
        /// The URI's host.
        host: String,
        /// The tracking server.
        server: String,
    },
    /// Nobody answers.
    #[error("no answer from the tracking server {server}: {reason}")]
    NoServer {
        /// Its address.
        server: String,
        /// The innermost cause.
        reason: String,
    },
    /// The server is asked for a file, and nothing comes.
    #[error("the tracking server {server} sends nothing of {what}: {reason}")]
    Slow {
        /// Its address.
        server: String,
        /// The file.
        what: String,
        /// How long it was waited for, or who gave up.
        reason: String,
    },
    /// What the server sends breaks off, again and again where it is a model's file.
    #[error("the tracking server {server} broke off {what} after {bytes} bytes: {reason}")]
    Broken {
        /// Its address.
        server: String,
        /// The file, or `its answer to …`.
        what: String,
        /// How many came.
        bytes: u64,
        /// The innermost cause.
        reason: String,
    },
    /// This machine's disk is full.
    #[error(
        "there is no room left in {folder} for the model, of which {bytes} bytes have to be kept there until they are uploaded"
    )]
    NoRoom {
        /// Where files are kept on the way.
        folder: String,
        /// How many bytes are needed there in all.
        bytes: u64,
    },
    /// Somebody answers who is no MLflow.
    #[error("{server} doesn't answer as an MLflow server: {reason}")]
    NotMlflow {
        /// Its address.
        server: String,
        /// What it did.
        reason: String,
    },
    /// The server doesn't know who asks.
    #[error("the tracking server {server} doesn't let us in {asked_as} (401)")]
    Unauthorized {
        /// Its address.
        server: String,
        /// `as ann`, `with a token`, `without credentials`
        asked_as: String,
    },
    /// The server says no.
    #[error("the tracking server {server} doesn't let us read {what} {asked_as} (403)")]
    Forbidden {
        /// Its address.
        server: String,
        /// `as ann`, `with a token`, `without credentials`
        asked_as: String,
        /// The route.
        what: String,
    },
    /// The server fails.
    #[error("the tracking server {server} answers {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Failing {
        /// Its address.
        server: String,
        /// HTTP's number.
        status: u16,
        /// Its words.
        message: String,
    },
    /// There is no such thing.
    #[error("{server} has no {what}")]
    Unknown {
        /// The tracking server.
        server: String,
        /// `registered model fraud`, `alias champion of fraud`
        what: String,
        /// What kind of thing `known` lists: `models`, `aliases`, `versions`; empty where they can't be listed.
        kind: &'static str,
        /// Those that there are.
        known: Vec<String>,
    },
    /// MLflow's URIs point to each other without end.
    #[error("{asked} leads from one URI of MLflow to the next and never to a store")]
    Circle {
        /// The source.
        asked: String,
    },
    /// The model lies on the server's own disk, and the server hands nothing out.
    #[error("{asked} lies at {place}, on the disk of the tracking server")]
    ServersDisk {
        /// The source.
        asked: String,
        /// The path there.
        place: String,
    },
    /// There is nothing.
    #[error("there is nothing at {place}")]
    Nothing {
        /// Where.
        place: String,
    },
    /// A file can't be read.
    #[error("can't read {file}: {reason}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        reason: String,
    },
    /// No model has so many files.
    #[error("there are more than {limit} files at {place}")]
    TooMany {
        /// Where.
        place: String,
        /// The most there may be.
        limit: usize,
    },
    /// Files, but no model.
    #[error("there is no model at {place}: {found}")]
    NoModel {
        /// Where.
        place: String,
        /// What there is.
        found: String,
    },
    /// Two models.
    #[error("there are several models at {place}: {}", found.join(", "))]
    Several {
        /// Where.
        place: String,
        /// Files and what they are.
        found: Vec<String>,
    },
    /// It was called what it isn't.
    #[error("the model at {place} is no {claimed} model: {found}")]
    Other {
        /// Where.
        place: String,
        /// What it was called.
        claimed: Framework,
        /// What it is.
        found: String,
    },
    /// It can't be looked at, and nobody said what it is.
    #[error("what lies at {place} can't be looked at from here")]
    Unclear {
        /// Where.
        place: String,
    },
    /// Its `MLmodel` says nothing.
    #[error("{file}: {reason}")]
    MlModel {
        /// Which file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Words(error) => error.next(),
            Self::Store(error) => error.next(),
            Self::NoTracking { .. } => "name it by --tracking-server, MLFLOW_TRACKING_URI, or in the profile".to_owned(),
            Self::OtherHost { host, .. } => {
                format!("if you trust {host} with your credentials, name it as the tracking server")
            }
            Self::NoServer { server, .. } => format!("is {server} the right address, and can this machine reach it?"),
            Self::Slow { .. } => {
                "MLflow fetches a file from its artifact store before it sends any of it: give that store's own key here, so that the file is read from there; or have \
                 the server's admin look whether it gets the file, and whether a proxy before it waits long enough"
                    .to_owned()
            }
            Self::Broken { .. } => {
                "try again; if it breaks off again, the server or a proxy before it gives no answer more time (gunicorn's --timeout, proxy_read_timeout): have its admin \
                 raise that, or give the artifact store's own key here, so that the model is read from there"
                    .to_owned()
            }
            Self::NoRoom { folder, .. } => {
                format!("make room in {folder}, or name a folder on a larger disk by XDG_CACHE_HOME")
            }
            Self::NotMlflow { .. } => {
                "give the address that MLFLOW_TRACKING_URI has, with its path where it has one".to_owned()
            }
            Self::Unauthorized { .. } => {
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN".to_owned()
            }
            Self::Forbidden { .. } => "ask for the right to READ this model and its experiment".to_owned(),
            Self::Failing { .. } => "try again; if it stays, the server's log says why".to_owned(),
            Self::Unknown { kind: "", .. } => "look whether the id is right, and whether it is this server's".to_owned(),
            Self::Unknown { kind, known, .. } if known.is_empty() => format!("there are no {kind} at all"),
            Self::Unknown { kind, known, .. } => {
                const SHOWN: usize = 12;
                let more = known.len().saturating_sub(SHOWN);
                let list = known.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("its {kind}: {list}{more}")
            }
            Self::Circle { .. } => "give the model's place in the store itself, such as s3://bucket/path".to_owned(),
            Self::ServersDisk { .. } => {
                "start the server with --serve-artifacts, so that it hands its files out, or with a store as its artifact root".to_owned()
            }
            Self::Nothing { .. } => "look whether the path is right".to_owned(),
            Self::Unreadable { .. } => "look at the file and at who may read it".to_owned(),
            Self::TooMany { .. } => "name the folder that the model itself is in".to_owned(),
            Self::NoModel { .. } => {
                "name the folder with the model's files; for a format that can't be told from its name, say --framework".to_owned()
            }
            Self::Several { .. } => "name one of them, or put each into a folder of its own".to_owned(),
            Self::Other { .. } => "leave --framework out, or name the folder of the model that is meant".to_owned(),
            Self::Unclear { .. } => "say what it is by --framework".to_owned(),
            Self::MlModel { .. } => "log the model again, or name its framework and its file".to_owned(),
        }
    }
}
