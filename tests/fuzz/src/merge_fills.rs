//! Policies' fills, merged with what the user wrote and with what was filled in before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use json_patch::Patch;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Operation, Outcome, Review};
use tidewaiter_engine::{Engine, LoadedPolicy, Mode, Options, review};
use tidewaiter_world::{ClusterReader, Configuration, Objects, ReviewWorld, Stores};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::parrot::{self, Part};

const RECORD: &str = "/metadata/annotations/tidewaiter.dev~1filled";
const BUDGET: Duration = Duration::from_secs(20);
/// More than a verdict may have, so that the limit is met too.
const MOST_FILLS: usize = 80;

/// Whatever an object, its stored twin, their records and the policies say: the patch applies to the object as it came; a value of the user's stays what
/// it is; each change is told; and a second pass has nothing to do.
///
/// The input is text, in lines: the object; the stored object, or nothing; then what is filled in, such as `1 /spec/predictor/model/runtime "own"`, where
/// the number says by which of two policies. A line `audit` puts the second policy into audit mode, a line `refuse` has it refuse the object.
///
/// # Panics
/// Where one of these doesn't hold.
pub fn merge_fills(input: &[u8]) {
    let Some(case) = std::str::from_utf8(input).ok().and_then(Case::parse) else {
        return;
    };
    let objects = [Some(case.object), case.old];
    let twins = objects
        .into_iter()
        .flatten()
        .any(|object| serde_json::from_str::<Plain>(object).is_err_and(|error| error.is_data()));
    let Some(outcome) = case.review(case.object, case.old) else {
        return;
    };
    for line in &outcome.warnings {
        assert!(line.chars().count() <= 120, "a warning is too long: {line}");
    }
    if outcome.denial.is_some() {
        assert!(
            outcome.patch.is_empty() && outcome.changes.is_empty(),
            "refused, and changed all the same: {outcome:?}"
        );
        return;
    }
    // The API server writes an object anew before it asks, so no member comes twice. Then all that counts is that nobody was hurt.
    if twins {
        return;
    }
    // JSON of the kind that Rust's tree of values can't hold (nested too deep, numbers too large) must not hurt, and no more than that.
    let Ok(before) = serde_json::from_str::<Value>(case.object) else {
        return;
    };
    let mut becomes = before.clone();
    json_patch::patch(&mut becomes, &Patch(outcome.patch.clone()))
        .unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    case.users_word_stands(&before, &becomes);
    each_change_is_told(&before, &becomes, &outcome);

    let stored = becomes.to_string();
    // At the next update, and as the API server asks once more during this request.
    for old in [Some(stored.as_str()), case.old] {
        let again = case.review(&stored, old).expect("an object stays one");
        assert!(
            again.patch.is_empty(),
            "the second pass of\n{stored}\nchanges {:?}",
            again.patch
        );
    }
}

/// JSON in which no object has two members of one name.
struct Plain;

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Plain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Plain, E> {
                Ok(Plain)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Plain, E> {
                Ok(Plain)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Plain, E> {
                Ok(Plain)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Plain, E> {
                Ok(Plain)
            }
            fn visit_str<E>(self, _: &str) -> Result<Plain, E> {
                Ok(Plain)
            }
            fn visit_unit<E>(self) -> Result<Plain, E> {
                Ok(Plain)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Plain, A::Error> {
                while elements.next_element::<Plain>()?.is_some() {}
                Ok(Plain)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Plain, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, Plain)) = members.next_entry::<String, _>()? {
                    if !names.insert(name) {
                        return Err(A::Error::custom("a member comes twice"));
                    }
                }
                Ok(Plain)
            }
        }
        deserializer.deserialize_any(Look)
    }
}

struct Case<'a> {
    object: &'a str,
    old: Option<&'a str>,
    /// Path, value and reason of each, one after the other: first those of the first policy.
    fills: Vec<String>,
    /// As long as the first policy has fills.
    username: String,
    audit: bool,
    refuse: bool,
}

impl<'a> Case<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.lines();
        let object = lines.next()?;
        let old = lines.next().filter(|old| !old.trim().is_empty());
        let mut parts: [Vec<(&str, &str)>; 2] = Default::default();
        let (mut audit, mut refuse) = (false, false);
        for line in lines {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("audit"), None, None) => audit = true,
                (Some("refuse"), None, None) => refuse = true,
                (Some("1"), Some(path), Some(value)) => parts[0].push((path, value)),
                (Some(_), Some(path), Some(value)) => parts[1].push((path, value)),
                _ => {}
            }
        }
        parts[0].truncate(MOST_FILLS);
        parts[1].truncate(MOST_FILLS);
        let fill = |(path, value): &(&str, &str)| [(*path).to_owned(), (*value).to_owned(), "so it is".to_owned()];
        Some(Self {
            object,
            old,
            fills: parts.iter().flatten().flat_map(fill).collect(),
            username: "x".repeat(parts[0].len()),
            audit,
            refuse,
        })
    }

    /// None where one of both is no object, which never gets as far as a review.
    fn review(&self, object: &str, old: Option<&str>) -> Option<Outcome> {
        static GATE: LazyLock<Gate> = LazyLock::new(Gate::open);
        let object = Document::new(object).ok()?;
        let old = match old {
            Some(old) => Some(Document::new(old).ok()?),
            None => None,
        };
        let request = Review {
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            api_version: "serving.kserve.io/v1beta1",
            kind: if self.refuse { "" } else { "InferenceService" },
            namespace: "team",
            name: "fraud",
            object: &object,
            old_object: old.as_ref(),
            username: &self.username,
            groups: &self.fills,
        };
        Some(GATE.review(&request, self.audit))
    }

    /// A value in the object that no record claims for us is the user's.
    fn users_word_stands(&self, came: &Value, becomes: &Value) {
        let claims = Claims::of([Some(self.object), self.old]);
        let after = leaves(becomes);
        for (path, value) in leaves(came) {
            if path != RECORD && !claims.cover(came, &path) {
                assert_eq!(
                    after.get(&path),
                    Some(&value),
                    "the user's {path} was changed: {becomes}"
                );
            }
        }
    }
}

/// What the records of the objects say is ours: a canonical path, and the values that it may have.
struct Claims(BTreeMap<String, Vec<Value>>);

impl Claims {
    fn of(objects: [Option<&str>; 2]) -> Self {
        let mut claims: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for object in objects.into_iter().flatten() {
            let Ok(object) = serde_json::from_str::<Value>(object) else {
                continue;
            };
            let text = object.pointer(RECORD).and_then(Value::as_str).unwrap_or_default();
            for (path, value) in serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default() {
                claims.entry(canonical(&path)).or_default().push(value);
            }
        }
        Self(claims)
    }

    /// Whether the value at this path is ours, or a part of one that is.
    fn cover(&self, object: &Value, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        ends.map(|end| &path[..end])
            .filter_map(|outer| Some((self.0.get(&canonical(outer))?, object.pointer(outer)?)))
            .any(|(claimed, here)| claimed.contains(here))
    }
}

/// As the record has it: a predictor's model by the name `model`, whatever its framework.
fn canonical(path: &str) -> String {
    let mut segments: Vec<&str> = path.split('/').collect();
    let at = match segments[..] {
        ["", "spec", "predictor", _, ..] => 3,
        ["", "spec", "canary", _, "predictor", _, ..] => 5,
        _ => return path.to_owned(),
    };
    if FRAMEWORKS.contains(&segments[at]) {
        segments[at] = "model";
    }
    segments.join("/")
}

/// The fields of KServe's `PredictorSpec` that its defaulter turns into `model`.
const FRAMEWORKS: [&str; 10] = [
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
];

fn each_change_is_told(came: &Value, becomes: &Value, outcome: &Outcome) {
    let (before, after) = (leaves(came), leaves(becomes));
    let told: BTreeSet<&str> = outcome.changes.iter().map(|change| change.path.as_str()).collect();
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for path in paths
        .into_iter()
        .filter(|path| *path != RECORD && before.get(*path) != after.get(*path))
    {
        let known = told.iter().any(|told| {
            path.strip_prefix(told)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        assert!(known, "{path} was changed, and not told: {outcome:?}");
    }
}

/// All values with their JSON Pointers. Empty objects and nulls are no word of anybody: the API server drops nulls, and a fill may need an object there.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    fn walk(at: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    walk(
                        &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                        value,
                        into,
                    );
                }
            }
            Value::Array(elements) if !elements.is_empty() => {
                for (index, value) in elements.iter().enumerate() {
                    walk(&format!("{at}/{index}"), value, into);
                }
            }
            Value::Null => {}
            _ => drop(into.insert(at.to_owned(), value.clone())),
        }
    }
    let mut all = BTreeMap::new();
    walk("", value, &mut all);
    all
}

/// An engine with its policies, and a world with nothing in it.
struct Gate {
    runtime: Runtime,
    enforced: [LoadedPolicy; 2],
    audited: [LoadedPolicy; 2],
    configuration: Arc<Configuration>,
    stores: Arc<Stores>,
}

impl Gate {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let options = Options {
            max_concurrent: 1,
            ..Options::default()
        };
        let engine = Engine::new(options).expect("an engine");
        let (first, second, audited) = runtime.block_on(async {
            (
                parrot::load(&engine, "first", Part::First, Mode::Enforce).await,
                parrot::load(&engine, "second", Part::Second, Mode::Enforce).await,
                parrot::load(&engine, "second", Part::Second, Mode::Audit).await,
            )
        });
        let stores = Arc::new(Stores::default());
        Self {
            runtime,
            enforced: [first.clone(), second],
            audited: [first, audited],
            configuration: Arc::new(Configuration::build(&Objects::default(), None, &[], &stores).0),
            stores,
        }
    }

    fn review(&self, request: &Review<'_>, audit: bool) -> Outcome {
        let policies = if audit { &self.audited } else { &self.enforced };
        let reader = Arc::clone(&self.configuration) as Arc<dyn ClusterReader>;
        self.runtime.block_on(async {
            let (configuration, stores) = (Arc::clone(&self.configuration), Arc::clone(&self.stores));
            let world = ReviewWorld::new(
                configuration,
                stores,
                reader,
                request.namespace,
                Instant::now() + BUDGET,
            );
            review(policies, request, Arc::new(world), BUDGET).await
        })
    }
}
