//! What lies around a place where nothing is: what could be meant, and whether KServe would find something all the same.

use tidewaiter_policy::core::nearest::nearest;
use tidewaiter_policy::storage::{self, Listing, ObjectInfo};

use crate::look::MANY;
use crate::place::Place;

/// Folders that are looked into at most, from the place upwards, and down again on the way that was likely meant.
const LEVELS: usize = 4;
/// Names that are told where none of them is near.
const NAMES: usize = 3;

/// The neighbourhood, as far as the namespace may see it.
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// The nearest place at which there is something.
    pub(crate) meant: Option<String>,
    /// Where nothing is near: the lowest folder on the way in which something is, and the first names in it.
    pub(crate) names: Option<(String, Vec<String>)>,
    /// What merely begins like the last name.
    pub(crate) beginning: Beginning,
    /// Whether the place is a folder all the same: one without a file in it, which something marks.
    pub(crate) is_folder: bool,
}

/// Whether something begins like a name, and goes on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Nothing does.
    Nothing,
    /// This does.
    Something(String),
    /// That could not be seen.
    #[default]
    Unseen,
}

/// Looks around, from the place's own folder upwards.
pub(crate) fn look_around(place: &Place<'_>) -> Around {
    let mut around = Around::default();
    let names: Vec<&str> = place.names().collect();
    for depth in (0..names.len()).rev().take(LEVELS) {
        let (way, wanted) = names.split_at(depth);
        // Where the grants end, so does the look.
        let Ok(mut listing) = storage::list_folder(&place.folder(way), MANY) else {
            break;
        };
        listing.objects.retain(|object| !is_marker(object));
        if let [last] = wanted {
            around.beginning = beginning(&listing, last);
            around.is_folder = listing.objects.iter().any(|object| is_folder_named(object, last));
        }
        if listing.objects.is_empty() {
            continue;
        }
        around.meant = descend(place, way, wanted, &listing);
        if around.meant.is_none() {
            around.names = Some((place.folder(way), some_names(&listing)));
        }
        break;
    }
    around
}

/// What begins like a name and isn't the folder of this name: in that one nothing was found.
pub(crate) fn beginning(listing: &Listing, name: &str) -> Beginning {
    let mut objects = listing.objects.iter();
    let found = objects.find(|object| object.path.starts_with(name) && !is_folder_named(object, name));
    if let Some(object) = found {
        return Beginning::Something(plain(&object.path).to_owned());
    }
    // They come in the order of their names: what would begin so stands before this one.
    let is_passed = listing.objects.last().is_some_and(|last| last.path.as_str() > name);
    if listing.truncated && !is_passed {
        Beginning::Unseen
    } else {
        Beginning::Nothing
    }
}

/// From a folder down the names that were wanted, each the same or near to it, as deep as that goes. None where not even the first is there, or where it ends in a
/// folder as it was written: that one was looked into already, and nothing is in it.
fn descend(place: &Place<'_>, way: &[&str], wanted: &[&str], listing: &Listing) -> Option<String> {
    let mut path: Vec<String> = way.iter().map(|name| (*name).to_owned()).collect();
    let mut below;
    let mut listing = listing;
    let mut is_folder = false;
    for (depth, name) in wanted.iter().enumerate() {
        let names: Vec<&str> = listing.objects.iter().map(|object| plain(&object.path)).collect();
        let Some(next) = pick(name, &names) else { break };
        is_folder = listing.objects.iter().any(|object| is_folder_named(object, next));
        path.push(next.to_owned());
        if !is_folder || depth + 1 == wanted.len() {
            break;
        }
        let way: Vec<&str> = path.iter().map(String::as_str).collect();
        let Ok(listed) = storage::list_folder(&place.folder(&way), MANY) else {
            break;
        };
        below = listed;
        listing = &below;
    }
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let is_as_written = path
        .iter()
        .skip(way.len())
        .zip(wanted)
        .all(|(found, wanted)| found == wanted);
    (path.len() > way.len() && !(is_folder && is_as_written)).then(|| place.at(&path))
}

/// The name itself, whatever its case; else one that is near. Of very short ones, and of numbers, each is as good as the next.
fn pick<'a>(wanted: &str, names: &[&'a str]) -> Option<&'a str> {
    let same = |name: &&&str| name.eq_ignore_ascii_case(wanted);
    let is_word = wanted.len() > 2 && !wanted.bytes().all(|byte| byte.is_ascii_digit());
    names
        .iter()
        .find(|name| **name == wanted)
        .or_else(|| names.iter().find(same))
        .copied()
        .or_else(|| nearest(wanted, names).filter(|_| is_word))
}

fn is_folder_named(object: &ObjectInfo, name: &str) -> bool {
    object.path.strip_suffix('/') == Some(name)
}

/// What Hadoop leaves beside a folder in S3.
fn is_marker(object: &ObjectInfo) -> bool {
    object.size == 0 && object.path.ends_with("_$folder$")
}

fn some_names(listing: &Listing) -> Vec<String> {
    let names = listing.objects.iter().map(|object| object.path.clone());
    let mut names: Vec<String> = names.take(NAMES).collect();
    if listing.objects.len() > NAMES || listing.truncated {
        names.push("…".to_owned());
    }
    names
}

/// Without the slash that a folder's name ends with.
fn plain(path: &str) -> &str {
    path.trim_end_matches('/')
}
