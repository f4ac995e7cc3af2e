//! The fuzz targets over their seeds, and over damaged copies of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The tokens of the fuzzer's dictionary: what makes one input that means something out of another.
fn words() -> Vec<Vec<u8>> {
    let quoted = |line: &str| {
        let word = line.strip_prefix('"')?.strip_suffix('"')?;
        let word = word.replace("\\x0A", "\n").replace("\\\"", "\"");
        Some(word.replace("\\\\", "\\").into_bytes())
    };
    include_str!("../dictionary").lines().filter_map(quoted).collect()
}

fn holds(target: &str, cases: u32, check: fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        check(seed);
    }
    let damage = (
        any::<prop::sample::Index>(),
        0_usize..24,
        prop_oneof![3 => prop::sample::select(words()), 1 => prop::collection::vec(any::<u8>(), 0..8)],
    );
    let damaged =
        (prop::sample::select(seeds), prop::collection::vec(damage, 1..4)).prop_map(|(mut input, damages)| {
            for (at, drop, put) in damages {
                let at = at.index(input.len() + 1);
                let end = (at + drop).min(input.len());
                input.splice(at..end, put);
            }
            input
        });
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&damaged, |input| {
            check(&input);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_body_is_decoded_or_refused() {
    holds("decode_review", 4_000, tidewaiter_fuzz::decode_review);
}

#[test]
fn any_fills_are_merged_by_the_rules() {
    holds("merge_fills", 4_000, tidewaiter_fuzz::merge_fills);
}
