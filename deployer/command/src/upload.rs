//! `tidewaiter upload`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anstream::{eprintln, print, println};
use clap::Args;
use serde::Serialize;
use tidewaiter_core::uri::StorageUri;
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::upload::{self, Options, Progress};

use super::arguments::Format;
use super::inspect::bytes;
use super::progress::Bar;
use super::stores::StoreArguments;
use super::{Ending, Failure, folders, output, profile};

/// Upload a model's files to a store, as they are.
///
/// All of a folder is sent, but for a tidewaiter.yaml at its root, which is no part of the model, and for what version control and Python leave there.
///
/// They go to a folder below --to that is named by their content, so that the same model is sent once, and an upload that was interrupted goes on where it was (on Azure, and on S3
/// with keys of KMS, small files that were sent already are sent again: such a store doesn't tell their content). A
/// manifest beside the folder is written last: it is there only when everything is. Prints the URI for `storageUri`.
///
/// S3's key is that of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else that of ~/.aws; Google's that of GOOGLE_APPLICATION_CREDENTIALS or gcloud; Azure's that of
/// AZURE_STORAGE_ACCESS_KEY, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is there, 2 an error, 130 interrupted.

Examples:
  tidewaiter upload ./model --to s3://models/deployed/
  tidewaiter upload ./model --to s3://models/deployed/ --name fraud
  tidewaiter upload ./model --s3-endpoint http://minio:9000 --to s3://models/")]
pub(crate) struct UploadArguments {
    /// The folder, or the file
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Where to: s3://BUCKET/PREFIX/, gs://BUCKET/PREFIX/, an Azure URL; by default TIDEWAITER_ARTIFACT_STORE, or the profile's
    #[arg(long, value_name = "URI")]
    pub(crate) to: Option<StorageUri>,
    /// What the model's folder there is called; by default as here
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// The profile, in place of the current one
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    #[command(flatten)]
    pub(crate) stores: StoreArguments,
}

/// What is printed for a program. Its fields stay as they are.
#[derive(Serialize)]
struct Printed<'a> {
    uri: &'a str,
    manifest: &'a str,
    sent: u64,
    reused: u64,
}

pub(super) async fn run(arguments: UploadArguments) -> Result<Ending, Failure> {
    let settings = profile::settings(arguments.profile.as_deref(), &BTreeMap::new())?;
    let root = match (arguments.to, settings.get(Key::ArtifactStore)) {
        (Some(root), _) => root,
        (None, Some(root)) => root.parse().map_err(|error: tidewaiter_core::uri::UriError| Failure {
            message: format!("the artifact store {root:?} is none: {error}"),
            next: Some("write it as s3://models/deployed/; `tidewaiter profile show` says where it is set".to_owned()),
        })?,
        (None, None) => {
            return Err(Failure {
                message: "nobody said where to".to_owned(),
                next: Some("name a store by --to, such as s3://models/deployed/, or in the profile".to_owned()),
            });
        }
    };
    let name = arguments.name.or_else(|| name_of(&arguments.folder));
    let options = Options {
        root,
        name: name.unwrap_or_else(|| "model".to_owned()),
        stores: arguments.stores.access()?,
        journal: folders::journal(),
    };
    let items = upload::of_folder(&arguments.folder).await?;
    let bar = Bar::new();
    let told = |progress| match progress {
        Progress::Hashing(done, total) => bar.at("reading", done, total),
        Progress::Uploading(done, total) => bar.at("uploading", done, total),
    };
    let uploaded = tokio::select! {
        uploaded = upload::upload(items, &options, &told) => uploaded,
        _ = tokio::signal::ctrl_c() => {
            bar.clear();
            eprintln!("\nInterrupted: nothing is there to be served yet, and the same command goes on where it was.");
            return Ok(Ending::Interrupted);
        }
    };
    bar.clear();
    let uploaded = uploaded?;
    if let Some(format) = arguments.output {
        let printed = Printed {
            uri: uploaded.uri.as_str(),
            manifest: &uploaded.manifest,
            sent: uploaded.sent,
            reused: uploaded.reused,
        };
        print!("{}", output::document(&printed, format)?);
        return Ok(Ending::Nothing);
    }
    let said = match (uploaded.sent, uploaded.reused) {
        (0, there) => format!("It was there already: {}.", bytes(there)),
        (sent, 0) => format!("Sent {}.", bytes(sent)),
        (sent, there) => format!("Sent {}; {} were there already.", bytes(sent), bytes(there)),
    };
    eprintln!("{said}");
    println!("{}", uploaded.uri);
    Ok(Ending::Nothing)
}

/// What a folder or file is called here, in letters that no store minds.
fn name_of(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let name = if folder.is_dir() {
        folder.file_name()
    } else {
        folder.file_stem()
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    Some(name?.to_str()?.chars().map(plain).collect())
}

impl From<upload::Error> for Failure {
    fn from(error: upload::Error) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}
