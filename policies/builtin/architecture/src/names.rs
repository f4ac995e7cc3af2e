//! What the names of native files say: which files they are, which of them stand in for each other, what a wheel is built for.
//!
//! Source: PEP 425, 427, 600 and 656 for wheels.

use crate::headers::{Built, System};

/// Words in a path by which one library is told from the same one for another machine.
const VARIANTS: [(&str, Option<&str>); 24] = [
    ("x86_64", Some("amd64")),
    ("x86-64", Some("amd64")),
    ("amd64", Some("amd64")),
    ("x64", Some("amd64")),
    ("aarch64", Some("arm64")),
    ("arm64", Some("arm64")),
    ("armv7l", Some("arm")),
    ("armhf", Some("arm")),
    ("i686", Some("386")),
    ("i386", Some("386")),
    ("ppc64le", Some("ppc64le")),
    ("s390x", Some("s390x")),
    ("riscv64", Some("riscv64")),
    ("linux", None),
    ("gnu", None),
    ("musl", None),
    ("darwin", None),
    ("macos", None),
    ("macosx", None),
    ("osx", None),
    ("windows", None),
    ("win32", None),
    ("win64", None),
    ("win", None),
];

/// Endings of native files.
const ENDINGS: [&str; 4] = [".so", ".dylib", ".dll", ".pyd"];

/// Whether a file of this name is a shared library.
pub(crate) fn is_library(path: &str) -> bool {
    stem(file_name(path)).is_some()
}

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A library's name without its ending: `libx` of `libx.so.1.2`.
fn stem(name: &str) -> Option<&str> {
    let ended = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
    ended.or_else(|| {
        let (stem, version) = name.split_once(".so.")?;
        version.chars().all(|c| c.is_ascii_digit() || c == '.').then_some(stem)
    })
}

/// The same for all files of which one is loaded, whichever machine it is: `lib/x86_64/libx.so`, `lib/arm64/libx.so` and `lib/x.dll` have one.
pub(crate) fn library(path: &str) -> String {
    let name = file_name(path);
    let folder = &path[..path.len() - name.len()];
    let stem = stem(name).unwrap_or(name);
    let stem = stem.strip_prefix("lib").unwrap_or(stem);
    let mut key = String::with_capacity(path.len());
    for part in [folder, stem] {
        let mut rest = part.to_ascii_lowercase();
        for (word, _) in VARIANTS {
            rest = without(&rest, word);
        }
        let words = rest
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty());
        for word in words {
            key.push('/');
            key.push_str(word);
        }
    }
    key
}

/// Without each occurrence of a word that stands for itself.
fn without(text: &str, word: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let end = at + word.len();
        let joined = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let (before, after) = (&rest[..at], &rest[end..]);
        let previous = before.chars().next_back().or_else(|| kept.chars().next_back());
        kept.push_str(before);
        if joined(previous) || joined(after.chars().next()) {
            kept.push_str(word);
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// A wheel by its name: the project, and what it is built for. None where it runs everywhere, or its name is no wheel's.
pub(crate) fn wheel(path: &str) -> Option<(String, Vec<Built>)> {
    let name = file_name(path).strip_suffix(".whl")?;
    let parts: Vec<&str> = name.split('-').collect();
    let ([project, _, _, _, platforms] | [project, _, _, _, _, platforms]) = parts.as_slice() else {
        return None;
    };
    let built: Option<Vec<Built>> = platforms.split('.').map(platform).collect();
    Some((project.to_ascii_lowercase(), built?))
}

fn platform(tag: &str) -> Option<Built> {
    let system = if tag.starts_with("manylinux") || tag.starts_with("musllinux") || tag.starts_with("linux_") {
        System::Linux
    } else if tag.starts_with("macosx_") {
        System::MacOs
    } else if tag.starts_with("win") {
        System::Windows
    } else {
        return None;
    };
    let found = VARIANTS
        .iter()
        .filter_map(|(word, architecture)| Some((word, (*architecture)?)))
        .find(|(word, _)| tag.strip_suffix(**word).is_some_and(|before| before.ends_with('_')));
    Some(Built {
        system,
        architectures: found.into_iter().map(|(_, architecture)| architecture).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn libraries_are_known_by_their_endings() {
        for name in [
            "libx.so",
            "a/libx.so.1.2",
            "x.cpython-311-x86_64-linux-gnu.so",
            "x.pyd",
            "x.dll",
            "libx.dylib",
        ] {
            assert!(is_library(name), "{name}");
        }
        for name in ["model.pkl", "libx.so.conf", "sofa", "model.solution", "x.whl"] {
            assert!(!is_library(name), "{name}");
        }
    }

    #[test]
    fn variants_of_one_library_have_one_name() {
        let key = library("lib/x86_64/libscore.so");
        for other in [
            "lib/aarch64/libscore.so.1",
            "lib/libscore.so",
            "lib/score.dll",
            "lib/libscore.dylib",
            "lib/linux-arm64/libscore.so",
        ] {
            assert_eq!(library(other), key, "{other}");
        }
        for other in ["lib/libscore2.so", "other/libscore.so", "lib/score_winner.so"] {
            assert_ne!(library(other), key, "{other}");
        }
        assert_eq!(
            library("x.cpython-311-x86_64-linux-gnu.so"),
            library("x.cpython-311-aarch64-linux-gnu.so")
        );
    }

    #[test]
    fn a_wheel_says_what_it_is_built_for() {
        let said = |name: &str| {
            wheel(name).map(|(project, built)| {
                let built: Vec<String> = built
                    .iter()
                    .map(|built| format!("{:?} {}", built.system, built.architectures.join(" ")))
                    .collect();
                format!("{project}: {}", built.join(", "))
            })
        };
        for (name, expected) in [
            (
                "code/Score-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                Some("score: Linux amd64, Linux amd64"),
            ),
            (
                "score-1.0-1-cp311-abi3-musllinux_1_2_aarch64.whl",
                Some("score: Linux arm64"),
            ),
            (
                "score-1.0-cp311-cp311-macosx_11_0_arm64.whl",
                Some("score: MacOs arm64"),
            ),
            (
                "score-1.0-cp311-cp311-macosx_11_0_universal2.whl",
                Some("score: MacOs "),
            ),
            ("score-1.0-cp311-cp311-win_amd64.whl", Some("score: Windows amd64")),
            ("score-1.0-cp311-cp311-linux_i686.whl", Some("score: Linux 386")),
            ("score-1.0-py3-none-any.whl", None),
            ("score.whl", None),
            ("score-1.0.tar.gz", None),
        ] {
            assert_eq!(said(name).as_deref(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_panics(path in "[a-zA-Z0-9_./é-]{0,40}(\\.so|\\.whl|\\.so\\.1)?") {
            let _ = (is_library(&path), library(&path), wheel(&path));
        }
    }
}
