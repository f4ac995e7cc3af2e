//! What the model itself needs: libraries and wheels in its folder that are built for one machine.

use std::collections::{BTreeMap, BTreeSet};

use tidewaiter_policy::storage;

use crate::headers::{self, Built, HEAD, System};
use crate::names;

/// Files that are listed; a native file beyond them isn't seen.
const LIST_LIMIT: u32 = 1_000;

/// What the native files of a model say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Natives {
    /// The machines on which all of them load; none where they don't say, or contradict each other.
    pub(crate) architectures: Option<BTreeSet<&'static str>>,
    /// One of the files that say so, by its path in the model.
    pub(crate) because: String,
    /// A file that no Linux container loads, with the system that would, where nothing stands in for it.
    pub(crate) foreign: Option<(String, &'static str)>,
}

/// The files of which one is loaded, whichever the machine.
#[derive(Debug, Default)]
struct Library {
    path: String,
    linux: BTreeSet<&'static str>,
    /// Something of it can't be told: it may be for any machine.
    open: bool,
    foreign: Option<System>,
}

/// Looks into the folders of a model; reads the heads of at most `files` files.
pub(crate) fn look<'a>(uris: impl Iterator<Item = &'a str>, files: u32) -> Natives {
    let mut libraries = BTreeMap::new();
    let mut left = files;
    for uri in uris {
        let folder = uri.trim_end_matches('/');
        // What can't be listed other policies speak of.
        let Ok(listing) = storage::list_objects(folder, LIST_LIMIT) else {
            continue;
        };
        for object in &listing.objects {
            look_at(folder, &object.path, &mut left, &mut libraries);
        }
    }
    together(libraries.into_values())
}

fn look_at(folder: &str, path: &str, left: &mut u32, libraries: &mut BTreeMap<String, Library>) {
    let (key, built) = if let Some((project, built)) = names::wheel(path) {
        (format!("wheel {project}"), Some(built))
    } else if names::is_library(path) {
        let built = (*left > 0).then(|| {
            *left -= 1;
            storage::read(&format!("{folder}/{path}"), 0, HEAD)
        });
        match built {
            // Unread, it may be anything.
            None => (names::library(path), None),
            Some(Ok(head)) => (names::library(path), headers::read(&head).map(|built| vec![built])),
            Some(Err(_)) => {
                // A store that doesn't answer once is not asked again.
                *left = 0;
                (names::library(path), None)
            }
        }
    } else {
        return;
    };
    let library = libraries.entry(format!("{folder} {key}")).or_insert_with(|| Library {
        path: path.to_owned(),
        ..Library::default()
    });
    let Some(built) = built else {
        library.open = true;
        return;
    };
    for Built { system, architectures } in built {
        match system {
            System::Linux if architectures.is_empty() => library.open = true,
            System::Linux => {
                path.clone_into(&mut library.path);
                library.linux.extend(architectures);
            }
            other => library.foreign = Some(other),
        }
    }
}

fn together(libraries: impl Iterator<Item = Library>) -> Natives {
    let mut natives = Natives::default();
    let mut contradicts = false;
    for library in libraries.filter(|library| !library.open) {
        if library.linux.is_empty() {
            let system = match library.foreign {
                Some(System::MacOs) => "macOS",
                Some(System::Windows) => "Windows",
                _ => continue,
            };
            natives.foreign.get_or_insert((library.path, system));
            continue;
        }
        let fits = match natives.architectures.take() {
            None => library.linux,
            Some(others) => others.intersection(&library.linux).copied().collect(),
        };
        contradicts |= fits.is_empty();
        if natives.because.is_empty() || fits.len() == 1 {
            natives.because = library.path;
        }
        natives.architectures = Some(fits);
    }
    // Files for different machines, and none for all: they stand in for each other in a way that their names don't show.
    if contradicts {
        natives.architectures = None;
    }
    natives
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidewaiter_policy::storage::Error;
    use tidewaiter_policy::testing::World;

    use super::*;
    use crate::headers::heads;

    const URI: &str = "s3://mlflow/1/model";

    fn world(files: &[(&str, Vec<u8>)]) -> World {
        let world = World::new().serve("s3://mlflow/", "minio");
        files.iter().fold(world, |world, (path, bytes)| {
            world.object(&format!("{URI}/{path}"), bytes.clone())
        })
    }

    fn says(files: &[(&str, Vec<u8>)]) -> Natives {
        world(files).run(|| look([URI].into_iter(), 8))
    }

    fn fits(files: &[(&str, Vec<u8>)]) -> Option<Vec<&'static str>> {
        says(files).architectures.map(|all| all.into_iter().collect())
    }

    const AMD64: u16 = 62;
    const ARM64: u16 = 183;

    #[test]
    fn a_library_says_where_the_model_runs() {
        let natives = says(&[("MLmodel", b"x".to_vec()), ("code/libscore.so", heads::elf(ARM64))]);
        assert_eq!(natives.architectures, Some(["arm64"].into()));
        assert_eq!((natives.because.as_str(), natives.foreign), ("code/libscore.so", None));
        assert_eq!(says(&[("model.pkl", b"x".to_vec())]), Natives::default());
        assert_eq!(
            fits(&[("score-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", Vec::new())]),
            Some(vec!["amd64"])
        );
    }

    #[test]
    fn a_library_for_both_runs_on_both_and_one_for_one_decides() {
        let both = [
            ("lib/x86_64/libx.so", heads::elf(AMD64)),
            ("lib/aarch64/libx.so", heads::elf(ARM64)),
        ];
        assert_eq!(fits(&both), Some(vec!["amd64", "arm64"]));
        let mut one = both.to_vec();
        one.push(("lib/liby.so", heads::elf(AMD64)));
        assert_eq!(fits(&one), Some(vec!["amd64"]));
        let wheels = ["x86_64", "aarch64"].map(|machine| format!("s-1-cp311-cp311-manylinux2014_{machine}.whl"));
        let wheels: Vec<_> = wheels.iter().map(|name| (name.as_str(), Vec::new())).collect();
        assert_eq!(fits(&wheels), Some(vec!["amd64", "arm64"]));
    }

    #[test]
    fn files_that_contradict_each_other_say_nothing() {
        assert_eq!(
            fits(&[("fast.so", heads::elf(AMD64)), ("slow.so", heads::elf(ARM64))]),
            None
        );
    }

    #[test]
    fn what_another_system_loads_is_told_where_nothing_stands_in_for_it() {
        let darwin = says(&[("score.cpython-311-darwin.so", heads::mach_o(0x0100_000c))]);
        assert_eq!(
            darwin.foreign,
            Some(("score.cpython-311-darwin.so".to_owned(), "macOS"))
        );
        let all = says(&[
            ("bin/score.dll", heads::pe(0x8664)),
            ("bin/libscore.dylib", heads::mach_o(7)),
            ("bin/libscore.so", heads::elf(AMD64)),
        ]);
        assert_eq!((all.foreign, all.architectures), (None, Some(["amd64"].into())));
    }

    #[test]
    fn few_files_are_read_and_little_of_each() {
        let many: Vec<_> = (0..20).map(|index| format!("lib{index}.so")).collect();
        let files: Vec<_> = many.iter().map(|name| (name.as_str(), heads::elf(AMD64))).collect();
        let world = world(&files);
        assert_eq!(
            world.run(|| look([URI].into_iter(), 3)).architectures,
            Some(["amd64"].into())
        );
        assert_eq!((world.calls().list_objects, world.calls().read), (1, 3));
        let silent = world
            .clone()
            .failing(&format!("{URI}/"), Error::Unreachable("no answer".to_owned()));
        assert_eq!(silent.run(|| look([URI].into_iter(), 3)), Natives::default());
    }

    proptest! {
        /// Adding a file for another machine under a variant's name never takes a machine away.
        #[test]
        fn a_variant_only_adds(machines in proptest::collection::btree_set(prop_oneof![Just((AMD64, "x86_64")), Just((ARM64, "aarch64")), Just((243, "riscv64"))], 1..4)) {
            let files: Vec<_> = machines.iter().map(|(machine, word)| (format!("lib/{word}/libx.so"), heads::elf(*machine))).collect();
            let files: Vec<_> = files.iter().map(|(path, head)| (path.as_str(), head.clone())).collect();
            prop_assert_eq!(fits(&files).map(|fits| fits.len()), Some(machines.len()));
        }
    }
}
