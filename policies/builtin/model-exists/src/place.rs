//! Where a URI points, as KServe's storage initializer takes it.
//!
//! Source: `_download_s3`, `_download_gcs`, `_parse_azure_uri` and `_download_from_uri` in `python/storage/kserve_storage/kserve_storage.py` of KServe 0.20.

use tidewaiter_policy::core::uri::{Scheme, StorageUri};

/// A store of one kind or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Takes whatever begins with the text of the key, and leaves empty objects out.
    S3,
    /// Takes what is below the key, else the object of exactly this name.
    Gcs,
    /// As S3, but for slashes around the key.
    Azure,
    /// A repository, all of it.
    Hub,
    /// One file, which is named at the end of the path.
    Web,
}

/// A place that can be looked at.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) kind: Kind,
    /// As it is asked for, with no slash too many.
    pub(crate) uri: String,
    /// `s3://bucket`, `https://account.blob.core.windows.net/container`; all of it for a hub and a web server.
    root: &'a str,
    /// What lies below the root as KServe takes it, with slashes where it takes them for a part of the name.
    key: &'a str,
}

impl<'a> Place<'a> {
    /// None where its kind of store can't be looked at.
    pub(crate) fn of(uri: &'a StorageUri) -> Option<Self> {
        let text = uri.as_str();
        let after = text.find("://")? + 3;
        let authority_end = after + uri.authority().len();
        let path = &text[authority_end..];
        let (kind, root, key) = match uri.scheme() {
            Scheme::S3 => (Kind::S3, &text[..authority_end], path.trim_start_matches('/')),
            Scheme::Gs => (
                Kind::Gcs,
                &text[..authority_end],
                path.strip_prefix('/').unwrap_or_default(),
            ),
            Scheme::Https | Scheme::Http => match uri.azure() {
                // A share is no container, and is read in another way.
                Some(_) if uri.authority().contains(".file.") => return None,
                Some(azure) => {
                    let start = path.len() - path.trim_start_matches('/').len();
                    let root = authority_end + start + azure.container.len();
                    (Kind::Azure, &text[..root], azure.path)
                }
                // What ends so is cloned with git.
                None if text.ends_with(".git") => return None,
                None => (Kind::Web, text, path.split(['?', '#']).next().unwrap_or(path)),
            },
            Scheme::Hf => (Kind::Hub, text, ""),
            Scheme::Hdfs | Scheme::WebHdfs | Scheme::Pvc | Scheme::Oci | Scheme::File | Scheme::Other => return None,
        };
        let uri = match kind {
            Kind::Web => text.to_owned(),
            _ => format!("{root}/{key}").trim_end_matches('/').to_owned(),
        };
        Some(Self { kind, uri, root, key })
    }

    /// Whether KServe looks for a folder alone, since a slash ends the key.
    pub(crate) fn is_folder_alone(&self) -> bool {
        matches!(self.kind, Kind::S3 | Kind::Gcs | Kind::Web) && self.key.ends_with('/')
    }

    /// Whether it names no file, where a file is what can be loaded.
    pub(crate) fn names_no_file(&self) -> bool {
        self.kind == Kind::Web && (self.key.is_empty() || self.key.ends_with('/'))
    }

    /// Whether it is all of a bucket of Google's, where KServe looks for names that begin with a slash.
    pub(crate) fn is_whole_gcs_bucket(&self) -> bool {
        self.kind == Kind::Gcs && self.names().next().is_none()
    }

    /// Where two slashes stand in a row, which make a name that is empty: what is before them, as a folder, and the URI that is likely meant.
    pub(crate) fn doubled(&self) -> Option<(String, String)> {
        if matches!(self.kind, Kind::Hub | Kind::Web) {
            return None;
        }
        let at = if self.key.starts_with('/') {
            0
        } else {
            self.key.find("//")?
        };
        let before: Vec<&str> = self.key[..at].split('/').filter(|name| !name.is_empty()).collect();
        let names: Vec<&str> = self.names().collect();
        let slash = if self.key.ends_with('/') { "/" } else { "" };
        Some((self.folder(&before), format!("{}{slash}", self.at(&names))))
    }

    /// The names of the folders on the way, and of what it points to.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.key.split('/').filter(|name| !name.is_empty())
    }

    /// The URI of what has these names.
    pub(crate) fn at(&self, names: &[&str]) -> String {
        format!("{}/{}", self.root, names.join("/"))
    }

    /// The folder of these names.
    pub(crate) fn folder(&self, names: &[&str]) -> String {
        let mut folder = self.at(names);
        if !names.is_empty() {
            folder.push('/');
        }
        folder
    }

    /// The bucket, container or repository.
    pub(crate) fn root(&self) -> &'a str {
        self.root
    }

    /// Whether KServe also takes what merely begins like it: `s3://bucket/fraud` is `fraud-v2/` too.
    pub(crate) fn takes_what_begins_so(&self) -> bool {
        match self.kind {
            Kind::S3 => !self.key.ends_with('/'),
            Kind::Azure => true,
            Kind::Gcs | Kind::Hub | Kind::Web => false,
        }
    }

    /// The last name.
    pub(crate) fn last(&self) -> &'a str {
        self.names().last().unwrap_or_default()
    }

    /// Whether KServe unpacks what is named so (Python's `mimetypes`).
    pub(crate) fn is_archive(&self) -> bool {
        let name = self.last().to_ascii_lowercase();
        [".zip", ".tar", ".tgz", ".taz", ".tbz2", ".txz"]
            .iter()
            .any(|end| name.ends_with(end))
            || name
                .rsplit_once('.')
                .is_some_and(|(stem, packed)| stem.ends_with(".tar") && ["gz", "bz2", "xz", "z"].contains(&packed))
    }
}
