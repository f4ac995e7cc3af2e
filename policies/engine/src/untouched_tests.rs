use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_core::document::Document;

use super::{Untouched, untouched};
use crate::outcome::{Operation, Review};

fn asked(object: &Value, old: Option<&Value>) -> Option<Untouched> {
    let document = |text: String| Document::new(&text).unwrap();
    let (object, old) = (
        document(object.to_string()),
        old.map(|old| document(serde_json::to_string_pretty(old).unwrap())),
    );
    untouched(
        &Review {
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            api_version: "serving.kserve.io/v1beta1",
            kind: "InferenceService",
            namespace: "team-a",
            name: "fraud",
            object: &object,
            old_object: old.as_ref(),
            username: "alice",
            groups: &[],
        },
        Some("corp.example/secret"),
    )
}

fn service(annotations: Value) -> Value {
    json!({"metadata": {"name": "fraud", "annotations": annotations}, "spec": {"predictor": {"minReplicas": 1}}})
}

#[test]
fn leaving_is_never_in_the_way() {
    let mut object = service(json!({}));
    object["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z");
    object["spec"]["predictor"]["minReplicas"] = json!(2);
    assert_eq!(asked(&object, Some(&service(json!({})))), Some(Untouched::Leaving));
    object["metadata"]["deletionTimestamp"] = Value::Null;
    assert_eq!(asked(&object, Some(&service(json!({})))), None);
}

#[test]
fn standing_still_is_never_in_the_way() {
    let old = service(json!({"tidewaiter.dev/filled": "{}", "a": "b"}));
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    new["metadata"]["finalizers"] = json!([]);
    new["status"] = json!({"url": "x"});
    assert_eq!(asked(&new, Some(&old)), Some(Untouched::Unchanged));
    new["metadata"]["annotations"]["a"] = json!("c");
    assert_eq!(asked(&new, Some(&old)), None);
}

#[test]
fn the_label_lets_through_and_nothing_like_it() {
    let mut object = service(json!({}));
    object["metadata"]["labels"] = json!({"tidewaiter.dev/ignore": ""});
    assert_eq!(asked(&object, None), Some(Untouched::Ignored));
    object["metadata"]["labels"] = json!({"tidewaiter.dev/ignored": "", "x": "tidewaiter.dev/ignore"});
    assert_eq!(asked(&object, None), None);
}

#[test]
fn annotations_of_others_adopt_nobody() {
    let old = service(json!({"a": "b"}));
    assert_eq!(
        asked(&service(json!({"a": "c"})), Some(&old)),
        Some(Untouched::NotAdopted)
    );
    assert_eq!(
        asked(&service(json!({"a": "b", "serving.kserve.io/x": "y"})), Some(&old)),
        None
    );
    assert_eq!(
        asked(&service(json!({"a": "b", "tidewaiter.dev/x": "y"})), Some(&old)),
        None
    );
    assert_eq!(
        asked(&service(json!({"a": "b", "corp.example/secret": "y"})), Some(&old)),
        None,
        "KServe opens the store with what it names"
    );
    let ours = service(json!({"a": "b", "tidewaiter.dev/filled": "{}"}));
    assert_eq!(asked(&ours, Some(&old)), None, "it is handed over");
    assert_eq!(
        asked(&service(json!({"a": "c", "tidewaiter.dev/filled": "{}"})), Some(&ours)),
        None
    );
}

#[test]
fn stopping_is_never_in_the_way_and_changes_nothing_else() {
    let old = service(json!({"a": "b", "tidewaiter.dev/filled": "{}"}));
    let stopped = |stop: &str| {
        let mut new = old.clone();
        new["metadata"]["annotations"]["serving.kserve.io/stop"] = json!(stop);
        new["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!("{}");
        new
    };
    let new = stopped("True");
    assert_eq!(asked(&new, Some(&old)), Some(Untouched::Stopping));
    assert_eq!(asked(&stopped("false"), Some(&old)), None);
    assert_eq!(asked(&new, None), None, "a new object may bring anything");
    assert_eq!(asked(&old, Some(&new)), None, "it is started");
    for (at, value) in [
        ("/spec/predictor/minReplicas", json!(2)),
        ("/metadata/annotations/a", json!("c")),
        (
            "/metadata/annotations/tidewaiter.dev~1filled",
            json!(r#"{"/spec/x":1}"#),
        ),
    ] {
        let mut more = new.clone();
        *more.pointer_mut(at).unwrap() = value;
        assert_eq!(asked(&more, Some(&old)), None, "{at}");
    }
    let mut fewer = new.clone();
    fewer["metadata"]["annotations"].as_object_mut().unwrap().remove("a");
    assert_eq!(asked(&fewer, Some(&old)), None);
    // It had no annotations before.
    let bare = json!({"metadata": {"name": "fraud"}, "spec": old["spec"]});
    let first = service(json!({"serving.kserve.io/stop": "true"}));
    assert_eq!(asked(&first, Some(&bare)), Some(Untouched::Stopping));
}

#[test]
fn a_new_object_is_reviewed() {
    assert_eq!(asked(&service(json!({})), None), None);
    assert_eq!(asked(&json!({"metadata": null}), None), None);
}

proptest! {
    /// Whatever the text's spaces and order of keys: the same spec and annotations pass, another spec doesn't.
    #[test]
    fn only_what_is_judged_counts(
        annotations in prop::collection::btree_map("[a-c]", "[a-c]", 0..3),
        replicas in 0..3,
        other in 0..3,
    ) {
        let object = |replicas: i32| json!({"spec": {"b": replicas, "a": [replicas]}, "metadata": {"annotations": annotations}});
        let expected = (replicas == other).then_some(Untouched::Unchanged);
        prop_assert_eq!(asked(&object(replicas), Some(&object(other))), expected);
    }
}
