use proptest::prelude::*;

use tidewaiter_core::kserve_runtimes::of_release;
use tidewaiter_core::runtimes::Runtimes;

use super::super::fixture::deployed;
use super::*;
use crate::model::Framework;

const OLD: Release = Release {
    has_canaries: false,
    stops_standard: false,
};
const NEW: Release = Release {
    has_canaries: true,
    stops_standard: true,
};

fn knative(percent: Value, predictor: Value) -> Deployed {
    deployed(json!({
        "spec": {"predictor": {"canaryTrafficPercent": percent}},
        "status": {"deploymentMode": "Serverless", "components": {"predictor": predictor}},
    }))
}

fn two() -> Value {
    json!({"latestRolledoutRevision": "fraud-1", "latestCreatedRevision": "fraud-2"})
}

fn standard(canary: Value) -> Deployed {
    deployed(json!({
        "spec": {
            "predictor": {"minReplicas": 4, "model": {
                "modelFormat": {"name": "mlflow", "version": "1"}, "storageUri": "s3://m/1", "runtime": "kserve-mlserver",
                "runtimeVersion": "1.7.1", "name": "", "env": [{"name": "A"}],
            }},
            "canary": canary,
        },
        "status": {"deploymentMode": "Standard", "canaryStatuses": [{"name": "canary", "ready": true, "trafficPercent": 10}]},
    }))
}

fn entry(name: &str, uri: &str, percent: u8) -> Value {
    json!({"predictor": {"name": name, "model": {"modelFormat": {"name": "mlflow"}, "storageUri": uri, "name": "", "resources": {}}},
        "trafficPercent": percent})
}

fn by(percent: u8) -> Split {
    Split {
        percent,
        ..Split::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as a split takes it")]
fn of(uri: &str, framework: Framework, versions: &[(&str, &str)]) -> Option<CanaryModel> {
    let versions = versions
        .iter()
        .map(|(package, version)| ((*package).to_owned(), (*version).to_owned()));
    Some(CanaryModel {
        storage_uri: uri.to_owned(),
        model: Model {
            versions: versions.collect(),
            ..Model::unseen(framework)
        },
        facts: Facts {
            runtimes: Runtimes::new(of_release("v0.20.0").unwrap()),
            ..Facts::default()
        },
    })
}

#[test]
fn knative_splits_between_revisions() {
    let service = knative(json!(10), two());
    assert_eq!(
        split(&service, &by(25), OLD).unwrap().patch,
        json!({"spec": {"predictor": {"canaryTrafficPercent": 25}}})
    );
    assert_eq!(
        promote(&service, None, OLD).unwrap().patch,
        json!({"spec": {"predictor": {"canaryTrafficPercent": null}}})
    );
    let back = rollback(&service, None, OLD).unwrap();
    assert_eq!(back.patch, json!({"spec": {"predictor": {"canaryTrafficPercent": 0}}}));
    assert!(back.notes[0].contains("every later one"), "{:?}", back.notes);
    assert!(matches!(split(&service, &by(10), OLD), Err(Error::Already { .. })));
}

#[test]
fn one_revision_is_nothing_to_split() {
    let service = knative(
        json!(null),
        json!({"latestRolledoutRevision": "fraud-1", "latestCreatedRevision": "fraud-1"}),
    );
    let error = split(&service, &by(10), NEW).unwrap_err();
    assert!(error.to_string().contains("one revision"), "{error}");
    assert!(rollback(&service, None, NEW).is_err());
    assert!(matches!(promote(&service, None, NEW), Err(Error::Already { .. })));
}

#[test]
fn standard_mode_before_0_20_has_no_canaries() {
    let service = standard(json!(null));
    for planned in [
        split(&service, &by(10), OLD),
        promote(&service, None, OLD),
        rollback(&service, None, OLD),
    ] {
        let error = planned.unwrap_err();
        assert!(error.to_string().contains("from 0.20 on"), "{error}");
    }
}

#[test]
fn a_canary_is_made_of_another_model_alone() {
    let wanted = Split {
        model: of("s3://m/2", Framework::Mlflow, &[]),
        ..by(25)
    };
    let planned = split(&standard(json!(null)), &wanted, NEW).unwrap();
    assert_eq!(
        planned.patch,
        json!({"spec": {"canary": [{"trafficPercent": 25, "predictor": {"name": "canary",
            "model": {"modelFormat": {"name": "mlflow", "version": "1"}, "storageUri": "s3://m/2"}}}]}})
    );
    assert_eq!(planned.notes, [NOT_LED]);
    takes_models(&standard(json!(null)), NEW).unwrap();
    assert!(takes_models(&standard(json!(null)), OLD).is_err());
    assert!(takes_models(&knative(json!(10), two()), NEW).is_err());
    // Without a model, there has to be one.
    assert!(split(&standard(json!(null)), &by(25), NEW).is_err());
}

#[test]
fn a_canary_gets_a_runtime_that_fits_its_own_model() {
    let split_with = |canary: Value, model| split(&standard(canary), &Split { model, ..by(25) }, NEW);
    let model = |planned: &Planned| planned.patch["spec"]["canary"][0]["predictor"]["model"].clone();
    // KServe would merge the predictor's `1.7.1` into it.
    let older = of(
        "s3://m/2",
        Framework::Mlflow,
        &[("scikit-learn", "1.4.1"), ("mlflow", "2.10.2")],
    );
    let planned = split_with(json!(null), older).unwrap();
    assert_eq!(
        model(&planned),
        json!({"modelFormat": {"name": "mlflow", "version": "1"}, "storageUri": "s3://m/2", "runtime": "kserve-mlserver", "runtimeVersion": "1.5.0"})
    );
    assert!(planned.notes[0].contains("release 1.5.0"), "{:?}", planned.notes);
    // What an earlier split wrote was for the model before.
    let mut pinned = entry("canary", "s3://m/2", 10);
    pinned["predictor"]["model"]["runtimeVersion"] = json!("1.5.0");
    let planned = split_with(json!([pinned]), of("s3://m/3", Framework::Mlflow, &[])).unwrap();
    assert_eq!(model(&planned)["runtimeVersion"], Value::Null);
    assert_eq!(model(&planned)["storageUri"], "s3://m/3");
    let other = split_with(json!(null), of("s3://m/2", Framework::Onnx, &[])).unwrap();
    assert_eq!(model(&other)["runtime"], "kserve-tritonserver");
    let wrong = of("s3://m/2", Framework::Mlflow, &[("xgboost", "3.2.0")]);
    let error = split_with(json!(null), wrong).unwrap_err();
    let told = format!("{error}; {}", error.next());
    assert!(
        told.contains("saved by xgboost 3.2.0") && told.contains("allow-wrong-answers: \"true\""),
        "{told}"
    );
}

#[test]
fn a_split_changes_the_percent_and_nothing_beside() {
    let service = standard(json!([entry("canary", "s3://m/2", 10)]));
    let patch = split(&service, &by(50), NEW).unwrap().patch;
    assert_eq!(patch, json!({"spec": {"canary": [entry("canary", "s3://m/2", 50)]}}));
    let three = standard(json!([entry("b", "s3://m/2", 60), entry("c", "s3://m/3", 10)]));
    let more = Split {
        canary: Some("c".into()),
        ..by(50)
    };
    let error = split(&three, &more, NEW).unwrap_err();
    assert!(error.to_string().contains("110 per cent"), "{error}");
    assert!(split(&three, &by(5), NEW).unwrap_err().to_string().contains("several"));
}

#[test]
fn a_canary_of_a_place_that_kserve_does_not_load_is_refused() {
    let wanted = Split {
        model: of("gs://models", Framework::Mlflow, &[]),
        ..by(5)
    };
    let error = split(&standard(json!(null)), &wanted, NEW).unwrap_err();
    assert!(error.to_string().contains("all of a bucket"), "{error}");
    assert!(error.next().contains("gs://models/model"), "{}", error.next());
}

#[test]
fn promoting_takes_over_what_the_canary_changed() {
    let service = standard(json!([entry("canary", "s3://m/2", 10)]));
    let planned = promote(&service, None, NEW).unwrap();
    assert_eq!(
        planned.patch,
        json!({"spec": {"canary": null, "predictor": {"name": "canary", "model": {"storageUri": "s3://m/2"}}}})
    );
    let two = standard(json!([entry("b", "s3://m/2", 10), entry("c", "s3://m/3", 10)]));
    let planned = promote(&two, Some("c"), NEW).unwrap();
    assert_eq!(planned.patch["spec"]["canary"], json!([entry("b", "s3://m/2", 10)]));
    assert!(promote(&two, None, NEW).unwrap_err().next().contains("b, c"));
    assert!(promote(&two, Some("x"), NEW).is_err());
}

#[test]
fn rolling_back_takes_the_canary_away() {
    let service = standard(json!([entry("canary", "s3://m/2", 10)]));
    assert_eq!(
        rollback(&service, None, NEW).unwrap().patch,
        json!({"spec": {"canary": null}})
    );
    assert!(rollback(&standard(json!(null)), None, NEW).is_err());
}

#[test]
fn the_next_canary_has_another_name_than_the_last() {
    let mut object = json!({"spec": {"predictor": {"name": "canary", "model": {"modelFormat": {"name": "mlflow"}}}},
        "status": {"deploymentMode": "Standard"}});
    let wanted = Split {
        model: of("s3://m/3", Framework::Mlflow, &[]),
        ..by(5)
    };
    let planned = split(&deployed(object.clone()), &wanted, NEW).unwrap();
    assert_eq!(planned.patch["spec"]["canary"][0]["predictor"]["name"], "canary2");
    object["metadata"] = json!({"name": "x".repeat(50)});
    assert!(split(&deployed(object), &wanted, NEW).is_err());
}

#[test]
fn what_requests_are_split_between_is_told() {
    let traffic = json!([{"revisionName": "fraud-2", "percent": 10}, {"revisionName": "fraud-1", "percent": 90}]);
    let service = knative(json!(10), json!({"traffic": traffic}));
    let told: Vec<_> = Canaries::of(&service)
        .0
        .into_iter()
        .map(|one| (one.name, one.percent))
        .collect();
    assert_eq!(told, [("fraud-2".to_owned(), 10), ("fraud-1".to_owned(), 90)]);
    let canaries = Canaries::of(&standard(json!([entry("canary", "s3://m/2", 10)]))).0;
    assert_eq!(
        canaries,
        [Canary {
            name: "canary".into(),
            percent: 10,
            ready: Some(true),
            storage_uri: Some("s3://m/2".into())
        }]
    );
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|v| json!(v)),
        (1..9).prop_map(|v| json!(v)),
        "[a-c]{1,2}".prop_map(|v| json!(v))
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn patched(mut value: Value, patch: &Value) -> Value {
    match patch {
        Value::Object(members) => {
            if !value.is_object() {
                value = json!({});
            }
            for (name, change) in members {
                let before = value[name.as_str()].take();
                if change.is_null() {
                    value.as_object_mut().unwrap().remove(name);
                } else {
                    value[name.as_str()] = patched(before, change);
                }
            }
            value
        }
        other => other.clone(),
    }
}

fn objects() -> impl Strategy<Value = Value> {
    let members = prop::collection::btree_map("[a-d]", json_values(), 0..4);
    members.prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    /// A merge patch of a difference makes the one of the other, and names nothing that is the same.
    #[test]
    fn a_difference_is_what_was_meant(from in objects(), to in objects()) {
        let patch = difference(&from, &to);
        prop_assert_eq!(patched(from.clone(), &patch), to.clone());
        prop_assert_eq!(difference(&to, &to), json!({}));
    }
}
