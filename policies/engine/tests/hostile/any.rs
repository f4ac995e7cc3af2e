//! Law 7 for generated behaviour: whatever a policy does, it ends as that policy's failure, by its own failure mode and within its limits; and the policies
//! beside it and after it in the same engine are right.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::*;

/// Pages of 64 KiB that a component begins with, and those of the 4 MiB that it may have.
const PAGES: (u32, u32) = (4, 64);
/// A review of a policy that may run for 50 ms. Tests beside it may have the processors.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a policy does before it answers, or in place of an answer.
#[derive(Clone, Debug)]
enum Does {
    Loop,
    Trap(&'static str),
    /// Takes this many pages more, touches each, and admits.
    Grow(u32),
    /// Warns this often, each time with so many bytes.
    Warn(u32, u32),
    /// Fills this in, so often.
    Fill(u32, String, Vec<u8>),
    /// Says that its verdict is there.
    Point(i32),
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Fails,
    Passes,
    /// The contract allows it or not by rules that are tested elsewhere.
    Either,
}

impl Does {
    fn component(&self) -> Bytes {
        let nothing = ("/", b"1".as_slice());
        let (body, (path, value)) = match self {
            Self::Loop => ("(loop $l (br $l)) (i32.const 512)".to_owned(), nothing),
            Self::Trap(how) => ((*how).to_owned(), nothing),
            Self::Grow(pages) => (
                format!(
                    "(local $i i32) (if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))
                     (loop $l (i32.store (i32.mul (i32.add (local.get $i) (i32.const {first})) (i32.const 65536)) (i32.const 1))
                       (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const {pages}))))
                     (i32.const 512)",
                    first = PAGES.0,
                ),
                nothing,
            ),
            // All of them are the same bytes, which the host has to take for so many others.
            Self::Warn(count, bytes) => (list(552, 8, *count, &[(0, 131_072), (4, *bytes)]), nothing),
            Self::Fill(count, path, value) => {
                let (path_length, value_length) = (number(path.len()), number(value.len()));
                let fields = [(0, 700), (4, path_length), (8, 800), (12, value_length), (16, 900), (20, 4)];
                (list(544, 24, *count, &fields), (path.as_str(), value.as_slice()))
            }
            Self::Point(at) => (format!("(i32.const {at})"), nothing),
        };
        component(&body, (path, value))
    }

    fn fate(&self) -> Fate {
        let malformed = |path: &str, value: &[u8]| {
            !path.starts_with('/')
                || ["/metadata/name", "/metadata/labels/a b", "/spec/predictor/minReplicas/"]
                    .iter()
                    .any(|place| path.starts_with(place))
                || serde_json::from_slice::<Value>(value).is_err()
        };
        let fails = match self {
            Self::Loop | Self::Trap(_) => true,
            Self::Grow(pages) => PAGES.0 + pages > PAGES.1,
            Self::Warn(count, bytes) => *count > 64 || count * bytes > 2 << 20,
            Self::Fill(count, path, value) => *count > 64 || (*count > 0 && malformed(path, value)),
            Self::Point(_) => false,
        };
        let passes = match self {
            Self::Grow(_) => true,
            Self::Warn(count, bytes) => count * bytes < 512 << 10,
            Self::Fill(count, ..) => *count == 0,
            Self::Loop | Self::Trap(_) | Self::Point(_) => false,
        };
        match (fails, passes) {
            (true, _) => Fate::Fails,
            (false, true) => Fate::Passes,
            (false, false) => Fate::Either,
        }
    }
}

/// Writes a list of `count` records of `size` bytes at 65536, with these fields, into the empty verdict at 512.
fn list(at: u32, size: u32, count: u32, fields: &[(u32, u32)]) -> String {
    let stores: String = fields
        .iter()
        .map(|(field, value)| {
            format!(
                "(i32.store offset={} (i32.mul (local.get $i) (i32.const {size})) (i32.const {value}))",
                65536 + field
            )
        })
        .collect();
    format!(
        "(local $i i32) (i32.store (i32.const {at}) (i32.const 65536)) (i32.store (i32.const {}) (i32.const {count}))
         (loop $l {stores} (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const {count}))))
         (i32.const 512)",
        at + 4
    )
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap()
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            PIN,
            "/metadata/name",
            "/metadata/labels/a",
            "/metadata/labels/a b",
            "/spec/predictor/minReplicas/a",
            "/metadata/annotations/tidewaiter.dev~1filled",
            "/spec/predictor",
            "/spec/transformer/containers/0",
            "/",
            "",
            "/~",
            "/~2",
            "//",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,20}",
        "(/[a-c~01]{0,3}){1,12}",
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "1",
            "null",
            "{",
            "{\"a\":[1,{}]}",
            "\"x\"",
            "[[[[[[]]]]]]",
            "1e999",
            "\"\\ud800\""
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..80),
    ]
}

fn does() -> impl Strategy<Value = Does> {
    let trap = prop::sample::select(vec![
        "unreachable",
        "(call $review (local.get 0))",
        "(i32.div_u (i32.const 1) (i32.const 0))",
        "(i32.load (i32.const -8))",
    ]);
    prop_oneof![
        1 => Just(Does::Loop),
        2 => trap.prop_map(Does::Trap),
        3 => (1_u32..200).prop_map(Does::Grow),
        4 => (0_u32..100, 0_u32..100_000).prop_map(|(count, bytes)| Does::Warn(count, bytes)),
        8 => (0_u32..80, path(), value()).prop_map(|(count, path, value)| Does::Fill(count, path, value)),
        3 => any::<i32>().prop_map(Does::Point),
        3 => (0_i32..2000).prop_map(Does::Point),
    ]
}

#[test]
fn law_7_no_policy_can_hurt_the_server() {
    let runtime = Runtime::new().unwrap();
    let engine = Engine::new(Options::default()).unwrap();
    let good = runtime.block_on(loaded(&engine, "good", "(i32.const 576)"));
    let right = runtime.block_on(reviewed(std::slice::from_ref(&good), BUDGET)).patch;
    assert_eq!(right.len(), 2);
    let failure = prop::sample::select(vec![FailurePolicy::Ignore, FailurePolicy::Fail]);
    let mode = prop::sample::select(vec![Mode::Enforce, Mode::Audit]);
    let config = Config {
        cases: 160,
        failure_persistence: None,
        ..Config::default()
    };
    let law = |(does, failure, mode): (Does, FailurePolicy, Mode)| {
        let mut bad = spec("bad", does.component());
        (bad.failure, bad.mode) = (failure, mode);
        let bad = runtime.block_on(engine.load(bad)).unwrap();
        let begun = Instant::now();
        let outcome = runtime.block_on(reviewed(&[bad, good.clone()], BUDGET));
        prop_assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());

        let failed = matches!(outcome.runs[0].ended, Ended::Failed(_));
        match does.fate() {
            Fate::Fails => prop_assert!(failed, "{:?}", outcome.runs),
            Fate::Passes => prop_assert!(!failed, "{:?}", outcome.runs),
            Fate::Either => {}
        }
        let told = |what: &str| outcome.warnings.iter().any(|line| line.contains(what));
        match (failed, failure, mode) {
            (true, FailurePolicy::Fail, Mode::Enforce) => {
                let (policy, denial) = outcome.denial.as_ref().unwrap();
                prop_assert_eq!((&**policy, denial.code.as_str()), ("bad", "policy-failed"));
                prop_assert!(outcome.patch.is_empty() && outcome.effects.is_empty());
            }
            (true, _, _) => {
                prop_assert!(outcome.denial.is_none(), "{:?}", outcome.denial);
                let line = match failure {
                    FailurePolicy::Ignore => "admitted without the policy bad",
                    FailurePolicy::Fail => "would be refused by bad",
                };
                prop_assert!(told(line), "{:?}", outcome.warnings);
                prop_assert_eq!(&outcome.patch, &right, "the policy beside it");
            }
            // It may have said something else than the good one for the same place, which is a refusal.
            (false, _, _) => {
                let mut patched = object();
                json_patch::patch(&mut patched, &outcome.patch).unwrap();
                prop_assert_eq!(&patched["metadata"]["name"], "fraud");
                if mode == Mode::Audit {
                    prop_assert_eq!(&outcome.patch, &right, "audit changes nothing");
                }
            }
        }
        for line in &outcome.warnings {
            prop_assert!(
                line.chars().count() <= 120 && !line.contains(char::is_control),
                "{line:?}"
            );
        }
        let next = runtime.block_on(reviewed(std::slice::from_ref(&good), BUDGET));
        prop_assert_eq!(
            (&next.patch, next.denial.is_none()),
            (&right, true),
            "the review after it"
        );
        Ok(())
    };
    TestRunner::new(config).run(&(does(), failure, mode), law).unwrap();
}
