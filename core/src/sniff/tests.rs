//! Against files that the libraries themselves wrote: see `core/tests/data/README.md`.

use proptest::prelude::*;

use super::*;

fn data(path: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn xgboost(path: &str) -> (bool, Option<String>, Option<BaseScore>) {
    match sniff(&data(path), &[]) {
        Sniffed::XgBoost(found) => (
            found.ubjson,
            found.version.map(|version| version.to_string()),
            found.base_score,
        ),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn xgboost_files_carry_their_version_and_the_shape_of_the_base_score() {
    for (path, ubjson, version, shape) in [
        ("xgboost-1.7.6.json", false, "1.7.6", BaseScore::Number),
        ("xgboost-1.7.6.ubj", true, "1.7.6", BaseScore::Number),
        ("xgboost-3.0.2.json", false, "3.0.2", BaseScore::Number),
        ("xgboost-3.0.2.ubj", true, "3.0.2", BaseScore::Number),
        ("xgboost-3.2.0.json", false, "3.2.0", BaseScore::List),
        ("xgboost-3.2.0.ubj", true, "3.2.0", BaseScore::List),
    ] {
        assert_eq!(xgboost(path), (ubjson, Some(version.into()), Some(shape)), "{path}");
    }
    assert_eq!(
        sniff(&data("xgboost-1.7.6.binary"), &[]),
        Sniffed::XgBoostLegacy(Some((1, 7)))
    );
}

#[test]
fn the_end_of_a_long_file_is_enough() {
    for path in ["xgboost-3.2.0.json", "xgboost-3.2.0.ubj"] {
        let file = data(path);
        let Sniffed::XgBoost(found) = sniff(&file[..64], &file[file.len() - 400..]) else {
            panic!("{path}")
        };
        assert_eq!(
            (
                found.version.map(|version| version.to_string()).as_deref(),
                found.base_score
            ),
            (Some("3.2.0"), Some(BaseScore::List))
        );
        let Sniffed::XgBoost(found) = sniff(&file[..64], &file[64..200]) else {
            panic!("{path}")
        };
        assert_eq!(
            (found.version, found.base_score),
            (None, None),
            "cut off before the version"
        );
    }
}

#[test]
fn lightgbm_files_carry_their_format() {
    assert_eq!(sniff(&data("lightgbm-3.3.5.txt"), &[]), Sniffed::LightGbmText(3));
    assert_eq!(sniff(&data("lightgbm-4.7.0.txt"), &[]), Sniffed::LightGbmText(4));
    assert_eq!(sniff(b"tree\nversion=vX\n", &[]), Sniffed::Unknown);
}

#[test]
fn pickles_carry_scikit_learns_version_and_the_modules_they_load() {
    for (path, version) in [
        ("sklearn-1.2.2.pkl", "1.2.2"),
        ("sklearn-1.6.1.pkl", "1.6.1"),
        ("sklearn-1.9.1.pkl", "1.9.1"),
        ("sklearn-1.9.1-cloudpickle.pkl", "1.9.1"),
        ("sklearn-1.2.2.joblib", "1.2.2"),
        ("sklearn-1.9.1.joblib", "1.9.1"),
        ("sklearn-1.9.1-protocol0.pkl", "1.9.1"),
        ("sklearn-1.9.1-protocol2.pkl", "1.9.1"),
        ("sklearn-1.9.1-protocol5.pkl", "1.9.1"),
    ] {
        let Sniffed::Pickle(pickle) = sniff(&data(path), &[]) else {
            panic!("{path}")
        };
        assert_eq!(
            pickle.sklearn_version.as_ref().map(ToString::to_string).as_deref(),
            Some(version),
            "{path}"
        );
        assert!(
            pickle.imports("sklearn") && !pickle.imports("xgboost") && !pickle.imports("sklearn.pipe"),
            "{path}: {:?}",
            pickle.modules
        );
    }
    assert_eq!(sniff(&data("sklearn-1.9.1-zlib.joblib"), &[]), Sniffed::Compressed);
}

#[test]
fn a_pickled_booster_carries_xgboosts_version() {
    for (path, version) in [
        ("xgboost-1.7.6.joblib", "1.7.6"),
        ("xgboost-3.0.2.joblib", "3.0.2"),
        ("xgboost-3.2.0.joblib", "3.2.0"),
    ] {
        let Sniffed::Pickle(pickle) = sniff(&data(path), &[]) else {
            panic!("{path}")
        };
        assert!(pickle.imports("xgboost"), "{path}: {:?}", pickle.modules);
        assert_eq!(
            pickle.xgboost_version.as_ref().map(ToString::to_string).as_deref(),
            Some(version),
            "{path}"
        );
    }
}

#[test]
fn what_looks_like_nothing_is_unknown() {
    for bytes in [
        &b""[..],
        b"{",
        b"{}",
        b"(",
        b"(hello",
        b"cabc",
        b"\x80",
        b"\x80\x09",
        b"tree",
        b"binf",
        b"{\"version\":[3,1,0]}",
    ] {
        let found = sniff(bytes, &[]);
        assert!(
            matches!(found, Sniffed::Unknown | Sniffed::XgBoostLegacy(None)),
            "{bytes:?}: {found:?}"
        );
    }
}

#[test]
fn work_is_bounded_on_files_made_to_hurt() {
    // Full of the key without a value behind it; of memo entries; of a text that claims to be longer than memory.
    let mut hostile = b"\x80\x04".to_vec();
    hostile.extend(b"\x8c\x10_sklearn_version\x94".repeat(20_000));
    let _ = sniff(&hostile, &hostile);
    let Sniffed::Pickle(pickle) = sniff(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff_sklearn_version", &[]) else {
        panic!("no pickle")
    };
    assert_eq!(pickle.sklearn_version, None);
    let _ = sniff(
        &b"{L\0\0\0\0\0\0\0\x07learnerL\0\0\0\0\0\0\0\x07version[#L".repeat(10_000),
        &[],
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(head in prop::collection::vec(any::<u8>(), 0..400), tail in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = sniff(&head, &tail);
    }

    #[test]
    fn no_damage_to_a_real_file_panics(
        path in prop::sample::select(vec!["sklearn-1.9.1.pkl", "sklearn-1.9.1-protocol0.pkl", "sklearn-1.2.2.joblib", "xgboost-3.2.0.ubj", "xgboost-3.2.0.json", "xgboost-1.7.6.binary"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = data(path);
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let cut = cut.index(file.len());
        let _ = sniff(&file, &[]);
        let _ = sniff(&file[..cut], &file[cut..]);
    }
}
