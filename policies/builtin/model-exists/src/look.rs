//! What lies at a place: one listing of one object where all is well.

use tidewaiter_policy::storage::{self, Error, Listing};

use crate::around::{Beginning, beginning};
use crate::place::{Kind, Place};

/// Objects that one listing brings at most.
pub(crate) const MANY: u32 = 1_000;
/// Empty objects that are looked at one by one at most, to tell files from what marks a folder.
const FEW: usize = 8;

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Something that can be loaded; or nobody can say that it can't.
    There,
    /// One object of exactly this name, and nothing below.
    File,
    /// One object, but a slash behind its name, with which KServe looks for a folder.
    FileWithSlash,
    /// Objects, all of them empty.
    Empty,
    /// Nothing but folders: what marks them is there, and no file.
    EmptyFolders,
    /// No such bucket, container or repository.
    NoRoot,
    /// The bucket, and nothing of this name in it.
    Nothing,
    /// Two slashes in a row, of which KServe takes both.
    Doubled {
        /// What was likely meant.
        meant: String,
        /// Whether it was seen that there is no such name.
        certain: bool,
    },
    /// All of a bucket of Google's, which KServe can't load.
    WholeBucket {
        /// Something in it that can be.
        example: Option<String>,
        /// Whether it was seen that no name begins with a slash: such objects KServe finds.
        certain: bool,
    },
    /// No file is named, where a file is what can be loaded.
    NoFile,
    /// The store refuses; why.
    Forbidden(String),
    /// The store can't be asked now; why.
    Unreachable(String),
}

/// Looks at a place.
pub(crate) fn look(place: &Place<'_>) -> Look {
    match place.kind {
        Kind::S3 | Kind::Gcs | Kind::Azure => in_bucket(place),
        Kind::Hub => match storage::list_objects(&place.uri, 1) {
            Ok(_) => Look::There,
            Err(Error::NotFound) => Look::NoRoot,
            Err(error) => failed(error),
        },
        Kind::Web if place.names_no_file() => Look::NoFile,
        // Not `stat`: there are servers that answer 404 to HEAD alone.
        Kind::Web => match storage::read(&place.uri, 0, 1) {
            Ok(_) => Look::There,
            Err(Error::NotFound) => Look::Nothing,
            Err(error) => failed(error),
        },
    }
}

fn in_bucket(place: &Place<'_>) -> Look {
    if place.is_whole_gcs_bucket() {
        return whole_bucket(place);
    }
    if let Some((before, meant)) = place.doubled() {
        return doubled(&before, meant);
    }
    let listing = match storage::list_objects(&place.uri, 1) {
        Ok(listing) => listing,
        Err(Error::NotFound) => return Look::NoRoot,
        Err(error) => return failed(error),
    };
    match listing.objects.first() {
        Some(object) if object.size > 0 => return Look::There,
        Some(_) => return all_empty(place),
        None if place.last().is_empty() => return Look::Nothing,
        None => {}
    }
    match storage::stat(&place.uri) {
        Ok(_) if place.is_folder_alone() => Look::FileWithSlash,
        Ok(object) if object.size == 0 && place.kind != Kind::Gcs => Look::Empty,
        Ok(_) => Look::File,
        Err(Error::NotFound) => Look::Nothing,
        Err(error) => failed(error),
    }
}

fn whole_bucket(place: &Place<'_>) -> Look {
    match storage::list_objects(&place.folder(&[]), MANY) {
        Ok(listing) => {
            let mut names = listing
                .objects
                .iter()
                .filter_map(|object| object.path.split('/').next());
            Look::WholeBucket {
                example: names.find(|name| !name.is_empty()).map(|name| place.at(&[name])),
                certain: beginning(&listing, "/") == Beginning::Nothing,
            }
        }
        Err(Error::NotFound) => Look::NoRoot,
        Err(error) => failed(error),
    }
}

/// KServe leaves empty objects out, which some tools make for folders; of Google's only those whose name ends with a slash, as the web console makes them.
fn all_empty(place: &Place<'_>) -> Look {
    match storage::list_objects(&place.uri, MANY) {
        Ok(listing) if listing.truncated || listing.objects.iter().any(|object| object.size > 0) => Look::There,
        Ok(listing) if place.kind == Kind::Gcs && has_files(place, &listing) => Look::There,
        Ok(_) if place.kind == Kind::Gcs => Look::EmptyFolders,
        Ok(_) => Look::Empty,
        Err(error) => failed(error),
    }
}

/// A listing names what marks a folder without its slash, and by that name there is no object. Where that can't be seen, it may be a file.
fn has_files(place: &Place<'_>, listing: &Listing) -> bool {
    let is_there = |path: &str| !matches!(storage::stat(&format!("{}/{path}", place.uri)), Err(Error::NotFound));
    listing.objects.len() > FEW || listing.objects.iter().any(|object| is_there(&object.path))
}

/// A name that is empty can't be asked for; but a listing that is complete would show it, or fail over it.
fn doubled(before: &str, meant: String) -> Look {
    match storage::list_objects(before, MANY) {
        Ok(listing) => {
            let is_empty_name = |path: &str| path.starts_with('/') || path.contains("//");
            let shows_one = listing.objects.iter().any(|object| is_empty_name(&object.path));
            Look::Doubled {
                meant,
                certain: !listing.truncated && !shows_one,
            }
        }
        Err(Error::NotFound) => Look::NoRoot,
        Err(Error::Unserved(_)) => Look::Doubled { meant, certain: false },
        Err(error) => failed(error),
    }
}

fn failed(error: Error) -> Look {
    match error {
        Error::NotFound => Look::Nothing,
        Error::Forbidden(reason) => Look::Forbidden(reason),
        Error::Unreachable(reason) => Look::Unreachable(reason),
        // Of a kind that can't be looked at from here.
        Error::Unserved(_) | Error::TooLarge(_) => Look::There,
    }
}
