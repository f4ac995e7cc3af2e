//! What lies around a place where nothing is: what could be meant, and whether KServe would find something all the same.

use tidewaiter_policy::core::nearest::nearest;
use tidewaiter_policy::storage::{self, Listing, ObjectInfo};

use crate::look::MANY;
use crate::place::Place;

/// Folders that are listed at most, from the place upwards.
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
        let Ok(listing) = storage::list_objects(&place.folder(way), MANY) else {
            break;
        };
        if wanted.len() == 1 {
            around.beginning = beginning(&listing, wanted[0]);
        }
        if listing.objects.is_empty() {
            continue;
        }
        match descend(&listing.objects, wanted) {
            Some(found) => {
                let path: Vec<&str> = way.iter().copied().chain(found).collect();
                around.meant = Some(place.at(&path));
            }
            None => around.names = Some((place.folder(way), some_names(&listing))),
        }
        break;
    }
    around
}

fn beginning(listing: &Listing, name: &str) -> Beginning {
    let mut objects = listing.objects.iter();
    if let Some(object) = objects.find(|object| object.path.starts_with(name)) {
        return Beginning::Something(top(&object.path).to_owned());
    }
    // They come in the order of their names: what would begin so stands before this one.
    let is_passed = listing.objects.last().is_some_and(|last| last.path.as_str() > name);
    if listing.truncated && !is_passed {
        Beginning::Unseen
    } else {
        Beginning::Nothing
    }
}

/// The names of something that is there, each the same as the wanted one or near to it, as deep as that goes.
fn descend<'a>(objects: &'a [ObjectInfo], wanted: &[&str]) -> Option<Vec<&'a str>> {
    let mut inside: Vec<&str> = objects.iter().map(|object| object.path.as_str()).collect();
    let mut found = Vec::new();
    for name in wanted {
        let mut names: Vec<&str> = inside.iter().map(|path| top(path)).collect();
        names.dedup();
        let Some(next) = pick(name, &names) else { break };
        inside = inside
            .into_iter()
            .filter_map(|path| path.strip_prefix(next)?.strip_prefix('/'))
            .collect();
        found.push(next);
    }
    (!found.is_empty()).then_some(found)
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

fn some_names(listing: &Listing) -> Vec<String> {
    let mut names: Vec<String> = listing
        .objects
        .iter()
        .map(|object| {
            let name = top(&object.path);
            let slash = if name.len() < object.path.len() { "/" } else { "" };
            format!("{name}{slash}")
        })
        .collect();
    names.dedup();
    let more = names.len() > NAMES || listing.truncated;
    names.truncate(NAMES);
    if more {
        names.push("…".to_owned());
    }
    names
}

/// The first name of a path.
fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}
