use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ANNOTATION, Filled, Record, Stripped, annotation_path, canonical, fillable, physical};
use crate::document::{Document, Path};

const PIN: &str = "/spec/predictor/model/runtimeVersion";

fn path(pointer: &str) -> Path {
    Path::parse(pointer).unwrap()
}

/// A service with this record and this `model`.
fn service(record: Option<Value>, implementation: &str, model: Value) -> String {
    let annotations = record.map_or(json!({}), |record| json!({ ANNOTATION: record.to_string() }));
    json!({"metadata": {"name": "fraud", "annotations": annotations}, "spec": {"predictor": {implementation: model}}})
        .to_string()
}

fn strip(object: &str, old: Option<&str>) -> Stripped {
    let document = |text| Document::new(text).unwrap();
    super::strip(document(object), old.map(document).as_ref())
}

fn filled(stripped: &Stripped) -> Vec<(String, Value, bool)> {
    stripped
        .filled
        .iter()
        .map(|(path, Filled { value, vouched })| (path.to_string(), value.clone(), *vouched))
        .collect()
}

fn withheld(stripped: &Stripped) -> Vec<String> {
    stripped.withheld.iter().map(ToString::to_string).collect()
}

fn pin(value: &str, vouched: bool) -> Vec<(String, Value, bool)> {
    vec![(PIN.to_owned(), json!(value), vouched)]
}

#[test]
fn same_value_is_ours() {
    let object = service(
        Some(json!({PIN: "1.7.1"})),
        "model",
        json!({"runtimeVersion": "1.7.1", "storageUri": "s3://b"}),
    );
    let stripped = strip(&object, None);
    assert_eq!(filled(&stripped), pin("1.7.1", false));
    assert_eq!(
        stripped.object.as_str(),
        r#"{"metadata":{"name":"fraud"},"spec":{"predictor":{"model":{"storageUri":"s3://b"}}}}"#
    );
    let vouched = strip(&object, Some(&object));
    assert_eq!(filled(&vouched), pin("1.7.1", true));
}

#[test]
fn another_value_is_the_users() {
    let object = service(Some(json!({PIN: "1.7.1"})), "model", json!({"runtimeVersion": "1.6.0"}));
    let stripped = strip(&object, None);
    assert!(stripped.filled.is_empty() && stripped.withheld.is_empty());
    assert_eq!(stripped.object.get(&path(PIN)), Some(r#""1.6.0""#));
}

#[test]
fn removed_stays_removed_and_set_again_is_the_users() {
    for record in [json!({PIN: "1.7.1"}), json!({PIN: null})] {
        let stripped = strip(&service(Some(record), "model", json!({})), None);
        assert_eq!((filled(&stripped), withheld(&stripped)), (vec![], vec![PIN.to_owned()]));
    }
    let again = service(Some(json!({PIN: null})), "model", json!({"runtimeVersion": "1.7.1"}));
    let stripped = strip(&again, None);
    assert!(stripped.filled.is_empty() && stripped.withheld.is_empty());
    assert_eq!(stripped.object.get(&path(PIN)), Some(r#""1.7.1""#));
}

#[test]
fn where_a_replace_dropped_the_record_the_old_object_says() {
    let bare = service(None, "model", json!({"storageUri": "s3://b"}));
    let ours = service(Some(json!({PIN: "1.7.1"})), "model", json!({"runtimeVersion": "1.7.1"}));
    assert_eq!(filled(&strip(&bare, Some(&ours))), pin("1.7.1", true));

    let removed = service(Some(json!({PIN: "1.7.1"})), "model", json!({}));
    assert_eq!(withheld(&strip(&bare, Some(&removed))), [PIN]);

    let users = service(Some(json!({PIN: "1.7.1"})), "model", json!({"runtimeVersion": "1.6.0"}));
    let stripped = strip(&bare, Some(&users));
    assert!(stripped.filled.is_empty() && stripped.withheld.is_empty());

    let same = service(None, "model", json!({"runtimeVersion": "1.7.1"}));
    assert_eq!(filled(&strip(&same, Some(&ours))), pin("1.7.1", true));
    let other = service(None, "model", json!({"runtimeVersion": "1.6.0"}));
    assert!(strip(&other, Some(&ours)).filled.is_empty());
}

#[test]
fn a_bare_manifest_of_the_old_shape_meets_a_stored_one_of_the_new() {
    let bare = service(None, "sklearn", json!({"storageUri": "s3://b"}));
    let old = service(Some(json!({PIN: "1.7.1"})), "model", json!({"runtimeVersion": "1.7.1"}));
    assert_eq!(filled(&strip(&bare, Some(&old))), pin("1.7.1", true));

    let filled_in = service(
        Some(json!({PIN: "1.7.1"})),
        "sklearn",
        json!({"runtimeVersion": "1.7.1"}),
    );
    let stripped = strip(&filled_in, None);
    assert_eq!(filled(&stripped), pin("1.7.1", false));
    assert_eq!(stripped.object.get(&path("/spec/predictor/sklearn")), Some("{}"));
}

#[test]
fn a_model_that_is_gone_as_a_whole_withholds_nothing() {
    let old = service(Some(json!({PIN: "1.7.1"})), "model", json!({"runtimeVersion": "1.7.1"}));
    let record = Some(json!({PIN: "1.7.1"}));
    let stripped = strip(&service(record, "containers", json!([])), Some(&old));
    assert!(stripped.filled.is_empty() && stripped.withheld.is_empty());
}

#[test]
fn garbage_is_no_record() {
    for garbage in ["", "[]", "{", "1", "null"] {
        assert!(Record::parse(garbage).is_empty(), "{garbage}");
    }
    let planted = json!({"no pointer": 1, "": 1, "/spec": 1, "/metadata/name": "fraud", "/kind": 1, "/status/url": 1,
        "/metadata/annotations/tidewaiter.dev~1filled": "{}", "/metadata/labels/tidewaiter.dev~1ignore": "true"});
    assert!(Record::parse(&planted.to_string()).is_empty());
    let object = json!({"metadata": {"annotations": {ANNOTATION: 7}}}).to_string();
    assert!(strip(&object, None).filled.is_empty());
}

#[test]
fn managed_fields_are_nobodys_word() {
    let object = r#"{"metadata":{"managedFields":[{"manager":"kubectl"}],"name":"fraud"}}"#;
    assert_eq!(strip(object, None).object.as_str(), r#"{"metadata":{"name":"fraud"}}"#);
    let last = r#"{"metadata":{"name":"fraud", "managedFields" : []}}"#;
    assert_eq!(strip(last, None).object.as_str(), r#"{"metadata":{"name":"fraud"}}"#);
}

#[test]
fn emptied_parents_go_components_stay() {
    let record = json!({"/spec/predictor/model/storage/key": "minio", "/spec/predictor/serviceAccountName": "sa"});
    let object = json!({"metadata": {"annotations": {ANNOTATION: record.to_string()}},
        "spec": {"predictor": {"model": {"storage": {"key": "minio"}}, "serviceAccountName": "sa"}}});
    let stripped = strip(&object.to_string(), None);
    assert_eq!(
        stripped.object.as_str(),
        r#"{"metadata":{},"spec":{"predictor":{"model":{}}}}"#
    );
}

#[test]
fn a_record_longer_than_any_of_ours_is_none() {
    let entries = |count: usize| {
        (0..count)
            .map(|n| (format!("/metadata/labels/l{n}"), json!("x")))
            .collect()
    };
    let read = |count| Record::parse(&Value::Object(entries(count)).to_string());
    assert!(!read(1024).is_empty());
    assert!(read(1025).is_empty());
}

#[test]
fn canonical_paths_and_back() {
    let old = Document::new(
        r#"{"spec":{"predictor":{"xgboost":{}},"canary":[{"predictor":{"model":{}}},{"predictor":{"sklearn":{}}}]}}"#,
    )
    .unwrap();
    let both = |pointer: &str| {
        (
            canonical(&path(pointer)).to_string(),
            physical(&canonical(&path(pointer)), &old).to_string(),
        )
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        both("/spec/predictor/xgboost/x"),
        pair("/spec/predictor/model/x", "/spec/predictor/xgboost/x")
    );
    assert_eq!(
        both("/spec/predictor/model/x"),
        pair("/spec/predictor/model/x", "/spec/predictor/xgboost/x")
    );
    assert_eq!(
        both("/spec/canary/0/predictor/model/x"),
        pair("/spec/canary/0/predictor/model/x", "/spec/canary/0/predictor/model/x")
    );
    assert_eq!(
        both("/spec/canary/1/predictor/sklearn/x"),
        pair("/spec/canary/1/predictor/model/x", "/spec/canary/1/predictor/sklearn/x")
    );
    assert_eq!(
        both("/spec/transformer/sklearn"),
        pair("/spec/transformer/sklearn", "/spec/transformer/sklearn")
    );
    assert!(
        fillable(&path("/metadata/labels/a"))
            && !fillable(annotation_path())
            && !fillable(&path("/metadata/labels/tidewaiter.dev~1ignore"))
            && !fillable(&path("/metadata/annotations"))
    );
}

/// Places that policies fill, none below another.
const PLACES: [&str; 7] = [
    "/metadata/annotations/serving.kserve.io~1storageSecretName",
    "/metadata/labels/team",
    "/spec/predictor/model/runtime",
    "/spec/predictor/model/runtimeVersion",
    "/spec/predictor/model/storage/key",
    "/spec/predictor/serviceAccountName",
    "/spec/transformer/annotations/x~1y",
];

proptest! {
    /// Filling and stripping are inverse, but for parents that a fill had to make and an empty one of the user's can't be told from.
    #[test]
    fn what_is_filled_is_stripped(
        framework in prop::sample::select(vec!["model", "sklearn", "xgboost"]),
        users in prop::collection::btree_map(prop::sample::select(PLACES.to_vec()), "[a-z]{1,3}", 0..4),
        fills in prop::collection::btree_map(prop::sample::select(PLACES.to_vec()), "[a-z]{1,3}", 0..4),
        removed in prop::collection::btree_set(prop::sample::select(PLACES.to_vec()), 0..2),
    ) {
        let mut user = Document::new(&json!({"metadata": {"name": "fraud"},
            "spec": {"predictor": {framework: {"storageUri": "s3://b"}}, "transformer": {"containers": []}}}).to_string()).unwrap();
        for (place, value) in &users {
            user.set(&physical(&path(place), &user), &json!(value)).unwrap();
        }
        let fills: Vec<(Path, Value)> = fills.into_iter()
            .filter(|(place, _)| !users.contains_key(place) && !removed.contains(place))
            .map(|(place, value)| (path(place), json!(value)))
            .collect();
        let withheld: BTreeSet<Path> =
            removed.into_iter().filter(|place| !users.contains_key(place)).map(path).collect();

        let record = Record::new(fills.iter().map(|(path, value)| (path, value)), &withheld);
        prop_assert_eq!(&Record::parse(&record.to_text()), &record);
        let mut stored = user.clone();
        for (place, value) in &fills {
            stored.set(&physical(place, &stored), value).unwrap();
        }
        if !record.is_empty() {
            stored.set(annotation_path(), &Value::from(record.to_text())).unwrap();
        }

        let stripped = strip(stored.as_str(), None);
        let parsed = |document: &Document| serde_json::from_str::<Value>(document.as_str()).unwrap();
        prop_assert_eq!(parsed(&stripped.object), parsed(&user));
        prop_assert_eq!(&stripped.withheld, &withheld);
        let found: Vec<_> = stripped.filled.into_iter().map(|(path, filled)| (path, filled.value)).collect();
        let mut fills = fills;
        fills.sort_by(|(a, _), (b, _)| a.cmp(b));
        prop_assert_eq!(&found, &fills);

        // A replace with the bare object finds the same through the stored one.
        let replaced = strip(user.as_str(), Some(stored.as_str()));
        prop_assert_eq!(replaced.filled.into_iter().map(|(path, filled)| (path, filled.value)).collect::<Vec<_>>(), fills);
        prop_assert_eq!(replaced.withheld, withheld);
    }

    #[test]
    fn stripping_never_panics(record in ".{0,80}", object in "\\PC{0,40}") {
        let text = json!({"metadata": {"annotations": {ANNOTATION: record}}, "spec": {"predictor": object}}).to_string();
        strip(&text, Some(&text));
        if let Ok(object) = Document::new(&object) {
            super::strip(object, Document::new(&text).ok().as_ref());
        }
    }
}
