//! The laws, with verdicts instead of components: what a policy says is given, what becomes of it is checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_core::document::Document;
use tidewaiter_core::filled::ANNOTATION;
use tidewaiter_core::policy_resource::{FailurePolicy, Mode};
use tokio::time::Instant;

use super::{Ended, Operation, Outcome, Pass, Ran, Review, Reviewer, Terms, review_by};
use crate::bindings::tidewaiter::policy::types::{Denial, Fill, Request, Verdict};
use crate::failure::Failure;
use crate::world::{Brought, Label, Listing, ObjectInfo, Release, Resolution, Runtime, StorageError, World};

struct Nothing;

#[async_trait]
impl World for Nothing {
    async fn resolve(&self, _: &str) -> Resolution {
        Resolution::Unserved
    }
    fn secret_annotation(&self) -> Option<String> {
        None
    }
    async fn brought_credentials(&self, _: Option<&str>, _: Option<&str>) -> Brought {
        Brought::Nothing
    }
    async fn stat(&self, _: &str) -> Result<ObjectInfo, StorageError> {
        Err(StorageError::NotFound)
    }
    async fn list_objects(&self, _: &str, _: u32) -> Result<Listing, StorageError> {
        Err(StorageError::NotFound)
    }
    async fn read(&self, _: &str, _: u64, _: u32) -> Result<bytes::Bytes, StorageError> {
        Err(StorageError::NotFound)
    }
    async fn list_folder(&self, _: &str, _: u32) -> Result<Listing, StorageError> {
        Err(StorageError::NotFound)
    }
    async fn supporting(&self, _: &str, _: Option<&str>) -> Vec<Runtime> {
        Vec::new()
    }
    async fn named(&self, _: &str) -> Option<Runtime> {
        None
    }
    async fn runtime_spec(&self, _: &str) -> Option<String> {
        None
    }
    async fn release_of(&self, _: &str, _: &str, _: &[String]) -> Option<Release> {
        None
    }
    async fn releases(&self, _: &str, _: &[String]) -> Vec<Release> {
        Vec::new()
    }
    async fn lacking(&self, _: &str, _: &[String]) -> Vec<String> {
        Vec::new()
    }
    async fn namespace_labels(&self) -> Vec<Label> {
        Vec::new()
    }
    async fn node_architectures(&self) -> Vec<String> {
        Vec::new()
    }
    async fn get_object(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }
    async fn cluster_objects(&self, _: &str, _: &str, _: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    async fn kserve_config(&self, _: &str) -> Option<String> {
        None
    }
}

/// A policy's answer and how it counts.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) terms: Terms,
    pub(super) result: Result<Verdict, Failure>,
    /// Says nothing but a refusal, in these words, of an object that it has words for.
    pub(super) refuses: fn(&Value) -> Option<String>,
}

impl Reviewer for Said {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn review(&self, request: &Request, _: &Arc<dyn World>, _: &Arc<str>, _: Instant) -> Ran {
        let refused = (self.refuses)(&serde_json::from_str(&request.object).unwrap()).map(|message| Verdict {
            denial: Some(Denial {
                code: "refused".to_owned(),
                message,
                path: None,
            }),
            fills: Vec::new(),
            warnings: Vec::new(),
            effects: Vec::new(),
        });
        Ran {
            result: refused.map_or_else(|| self.result.clone(), Ok),
            took: Duration::ZERO,
            host: Duration::ZERO,
        }
    }
}

pub(super) fn said(name: &str, fills: &[(&str, Value)]) -> Said {
    let fill = |(path, value): &(&str, Value)| Fill {
        path: (*path).to_owned(),
        value: value.to_string(),
        reason: "so it is".to_owned(),
    };
    Said {
        terms: Terms {
            name: name.into(),
            failure: FailurePolicy::Ignore,
            mode: Mode::Enforce,
            delivers: true,
        },
        result: Ok(Verdict {
            denial: None,
            fills: fills.iter().map(fill).collect(),
            warnings: Vec::new(),
            effects: Vec::new(),
        }),
        refuses: |_| None,
    }
}

pub(super) fn failed(name: &str) -> Said {
    Said {
        result: Err(Failure::Trap("it is a test".to_owned())),
        ..said(name, &[])
    }
}

fn asked<'a>(object: &'a Document, old: Option<&'a Document>) -> Review<'a> {
    Review {
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        api_version: "serving.kserve.io/v1beta1",
        kind: "InferenceService",
        namespace: "team-a",
        name: "fraud",
        object,
        old_object: old,
        username: "alice",
        groups: &[],
    }
}

pub(super) fn reviewed(object: &Value, old: Option<&Value>, policies: &[Said]) -> Outcome {
    let document = |object: &Value| Document::new(&object.to_string()).unwrap();
    let (object, old) = (document(object), old.map(document));
    let review = asked(&object, old.as_ref());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(review_by(policies, &review, Arc::new(Nothing), Duration::from_secs(1)))
}

pub(super) fn patched(object: &Value, outcome: &Outcome) -> Value {
    let mut object = object.clone();
    json_patch::patch(&mut object, &outcome.patch).unwrap();
    object
}

pub(super) const PIN: &str = "/spec/predictor/model/runtimeVersion";
pub(super) const SECRET: &str = "/metadata/annotations/serving.kserve.io~1storageSecretName";

pub(super) fn bare() -> Value {
    json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"model": {"storageUri": "s3://b"}}}})
}

#[test]
fn fills_are_put_in_with_their_record_and_a_line_each() {
    let policies = [
        said("a", &[(SECRET, json!("minio"))]),
        said("b", &[(PIN, json!("1.7.1"))]),
    ];
    let outcome = reviewed(&bare(), None, &policies);
    let record = format!(r#"{{"{SECRET}":"minio","{PIN}":"1.7.1"}}"#);
    let annotations = json!({ANNOTATION: record, "serving.kserve.io/storageSecretName": "minio"});
    assert_eq!(
        patched(&bare(), &outcome),
        json!({"metadata": {"name": "fraud", "annotations": annotations},
            "spec": {"predictor": {"model": {"storageUri": "s3://b", "runtimeVersion": "1.7.1"}}}})
    );
    assert_eq!(
        outcome.warnings,
        [
            r#"tidewaiter: serving.kserve.io/storageSecretName = "minio": so it is"#,
            r#"tidewaiter: spec.predictor.model.runtimeVersion = "1.7.1": so it is"#,
        ]
    );
    assert_eq!(
        outcome.runs.iter().map(|run| &run.ended).collect::<Vec<_>>(),
        [&Ended::Acted, &Ended::Acted]
    );
}

/// How `tidewaiter audit --fix` has a service adopted that ran before us.
#[test]
fn an_empty_record_gets_a_service_its_fills_and_leaves_no_trace_where_nothing_is_missing() {
    let mut handed_over = bare();
    handed_over["metadata"]["annotations"] = json!({ANNOTATION: "{}"});
    let record = |policy: Said| {
        let outcome = reviewed(&handed_over, Some(&bare()), &[policy]);
        patched(&handed_over, &outcome)["metadata"]["annotations"][ANNOTATION].clone()
    };
    let filled = record(said("a", &[(PIN, json!("1.7.1"))]));
    assert_eq!(filled, json!(format!(r#"{{"{PIN}":"1.7.1"}}"#)));
    assert_eq!(record(said("a", &[])), Value::Null);
}

#[test]
fn a_fill_over_the_users_word_is_dropped_with_a_line() {
    let mut object = bare();
    object["spec"]["predictor"]["model"]["runtimeVersion"] = json!("1.6.0");
    let outcome = reviewed(&object, None, &[said("b", &[(PIN, json!("1.7.1"))])]);
    assert!(outcome.patch.is_empty());
    assert_eq!(
        outcome.warnings,
        [r#"tidewaiter: spec.predictor.model.runtimeVersion stays as you wrote it; policy b would have set "1.7.1""#]
    );
}

#[test]
fn contradictions_are_refused_naming_both() {
    for (first, second) in [
        (vec![(PIN, json!("1"))], vec![(PIN, json!("2"))]),
        (
            vec![("/spec/predictor/sklearn/runtimeVersion", json!("1"))],
            vec![(PIN, json!("2"))],
        ),
        (
            vec![("/spec/predictor/x", json!({"y": 1}))],
            vec![("/spec/predictor/x/y", json!(2))],
        ),
        (
            vec![("/spec/predictor/x/y", json!(1))],
            vec![("/spec/predictor/x", json!({"y": 1}))],
        ),
    ] {
        let outcome = reviewed(&bare(), None, &[said("one", &first), said("two", &second)]);
        let (policy, denial) = outcome.denial.unwrap();
        assert_eq!((&*policy, &*denial.code), ("two", "contradiction"));
        assert!(denial.message.contains("one and two contradict"), "{}", denial.message);
        assert!(outcome.patch.is_empty() && outcome.changes.is_empty());
    }
    let agreed = [
        said("one", &[("/spec/predictor/x", json!({"y": 1}))]),
        said("two", &[("/spec/predictor/x/y", json!(1))]),
    ];
    assert!(reviewed(&bare(), None, &agreed).denial.is_none());
}

#[test]
fn verdicts_that_break_the_contract_are_failures() {
    for (path, value) in [
        ("spec", json!(1)),
        ("", json!(1)),
        ("/spec/~2", json!(1)),
        ("/spec", json!({})),
        ("/metadata/name", json!("x")),
        ("/status/url", json!("x")),
        ("/metadata/annotations", json!({})),
        ("/metadata/annotations/tidewaiter.dev~1filled", json!("{}")),
        ("/metadata/labels/a", json!(1)),
        (PIN, json!(null)),
    ] {
        let outcome = reviewed(&bare(), None, &[said("bad", &[(path, value)])]);
        assert!(
            matches!(&outcome.runs[0].ended, Ended::Failed(error) if error.contains("can't be used")),
            "{path}"
        );
        assert!(outcome.patch.is_empty() && outcome.denial.is_none());
        assert!(
            outcome.warnings[0].starts_with("tidewaiter: admitted without the policy bad"),
            "{:?}",
            outcome.warnings
        );
    }
    let twice = said("bad", &[(PIN, json!("1")), (PIN, json!("1"))]);
    assert!(matches!(
        reviewed(&bare(), None, &[twice]).runs[0].ended,
        Ended::Failed(_)
    ));
    let mut no_json = said("bad", &[(PIN, json!("1"))]);
    if let Ok(verdict) = &mut no_json.result {
        verdict.fills[0].value = "{".to_owned();
    }
    no_json.terms.failure = FailurePolicy::Fail;
    let (_, denial) = reviewed(&bare(), None, &[no_json]).denial.unwrap();
    assert_eq!(denial.code, "policy-failed");
    assert!(
        denial.message.contains("remove the WasmPolicy bad"),
        "{}",
        denial.message
    );
}

/// Else the API server refuses the user's request, and says nothing of the policy.
#[test]
fn what_no_api_server_takes_is_the_policys_failure() {
    let long = "x".repeat(64);
    for (path, value, says) in [
        (
            "/metadata/labels/a b",
            json!("x"),
            r#"the fill of "/metadata/labels/a b" has the value "x", which the API server refuses: a key has at most 63"#,
        ),
        ("/metadata/labels/Example.com~1a", json!("x"), "a key has at most 63"),
        (
            "/metadata/labels/team",
            json!("two words"),
            r#"has the value "two words", which the API server refuses: a label's value has at most 63"#,
        ),
        ("/metadata/labels/team", json!(long), "a label's value has at most 63"),
        ("/metadata/annotations/a~0b", json!("x"), "a key has at most 63"),
        (
            "/metadata/annotations/replicas",
            json!(1),
            "has the value 1, which the API server refuses: annotations and labels are strings",
        ),
        (
            "/spec/predictor/minReplicas",
            json!("two"),
            r#"the fill of "/spec/predictor/minReplicas" has the value "two", which the API server refuses: invalid type"#,
        ),
        ("/spec/predictor/annotations/a b", json!("x"), "a key has at most 63"),
        (
            "/spec/predictor/serviceAccountName/name",
            json!("sa"),
            "expected a string",
        ),
        (
            "/spec/predictor/model/resources/limits/cpu",
            json!("much"),
            "is no amount",
        ),
        // There are no containers, so what is made is no list.
        ("/spec/predictor/containers/0/image", json!("x"), "expected a sequence"),
    ] {
        let outcome = reviewed(
            &bare(),
            None,
            &[said("bad", &[(path, value)]), said("good", &[(PIN, json!("1.7.1"))])],
        );
        let Ended::Failed(error) = &outcome.runs[0].ended else {
            panic!("{path}: {:?}", outcome.runs)
        };
        assert!(error.contains(says), "{path}: {error}");
        let told: String = outcome
            .warnings_by_policy()
            .filter(|(policy, _)| &***policy == "bad")
            .map(|(_, line)| line)
            .collect();
        assert!(
            told.starts_with("tidewaiter: admitted without the policy bad, which gave a verdict that can't be used"),
            "{told}"
        );
        assert_eq!(outcome.changes.len(), 1, "the policy beside it: {:?}", outcome.changes);
    }
    let mut strict = said("bad", &[("/metadata/labels/team", json!("two words"))]);
    strict.terms.failure = FailurePolicy::Fail;
    let (_, denial) = reviewed(&bare(), None, &[strict]).denial.unwrap();
    assert_eq!(denial.code, "policy-failed");
    assert!(
        denial
            .message
            .contains(r#""/metadata/labels/team" has the value "two words""#),
        "{}",
        denial.message
    );
}

#[test]
fn a_fill_that_would_not_stand_is_not_judged() {
    let mut users = bare();
    users["spec"]["predictor"]["minReplicas"] = json!(1);
    let wrong = [said(
        "a",
        &[
            ("/spec/predictor/minReplicas", json!("two")),
            ("/spec/transformer/minReplicas", json!("two")),
        ],
    )];
    let outcome = reviewed(&users, None, &wrong);
    assert_eq!(
        outcome.warnings,
        [
            r#"tidewaiter: spec.predictor.minReplicas stays as you wrote it; policy a would have set "two""#,
            "tidewaiter: policy a sets spec.transformer.minReplicas, and there is no spec.transformer: left out",
        ]
    );
}

#[test]
fn annotations_have_room_for_what_is_filled_in_and_its_record() {
    let big = |bytes: usize| json!("x".repeat(bytes));
    let note = "/metadata/annotations/note";
    let says = "which the API server refuses: with it and the record of what is filled in, the annotations have";
    // In the record it stands once more, be it an annotation or not.
    for (fill, fits) in [
        ((note, big(120 << 10)), true),
        ((note, big(140 << 10)), false),
        (("/spec/predictor/model/image", big(250 << 10)), true),
        (("/spec/predictor/model/image", big(260 << 10)), false),
    ] {
        let outcome = reviewed(&bare(), None, &[said("a", &[fill])]);
        let failed = matches!(&outcome.runs[0].ended, Ended::Failed(error) if error.contains(says));
        assert_eq!(
            (failed, outcome.patch.is_empty()),
            (!fits, !fits),
            "{:?}",
            outcome.runs[0].ended
        );
    }
    // With what others filled in, who comes last fails.
    let (first, second) = (
        said("a", &[(note, big(100 << 10))]),
        said("b", &[("/metadata/annotations/more", big(60 << 10))]),
    );
    let outcome = reviewed(&bare(), None, &[first, second]);
    assert_eq!(outcome.runs[0].ended, Ended::Acted);
    assert!(
        matches!(&outcome.runs[1].ended, Ended::Failed(error) if error.contains("/metadata/annotations/more")),
        "{:?}",
        outcome.runs[1]
    );
    // What the user wrote counts, but is nobody else's fault.
    let mut users = bare();
    for (bytes, fits) in [(200 << 10, true), (262_100, false), (300 << 10, true)] {
        users["metadata"]["annotations"] = json!({"own": "x".repeat(bytes)});
        let outcome = reviewed(&users, None, &[said("a", &[(PIN, json!("1.7.1"))])]);
        assert_eq!(outcome.runs[0].ended == Ended::Acted, fits, "{bytes}");
    }
    // They leave no room: that is for the user to mend, and not for an admin.
    users["metadata"]["annotations"] = json!({"own": "x".repeat(262_100)});
    let mut strict = said("a", &[(PIN, json!("1.7.1"))]);
    strict.terms.failure = FailurePolicy::Fail;
    let (_, denial) = reviewed(&users, None, &[strict]).denial.unwrap();
    assert_eq!(
        denial.message,
        "the policy a finds no room for what it fills in: the object's own annotations have 262103 bytes, with that and the record of it 262172, and may \
         have 262144; its failure policy is `fail`, so nothing is admitted without it: shorten the object's annotations"
    );
}

#[test]
fn a_failure_withdraws_nothing_that_the_stored_object_vouches_for() {
    let stored = patched(
        &bare(),
        &reviewed(&bare(), None, &[said("a", &[(PIN, json!("1.7.1"))])]),
    );
    let mut changed = stored.clone();
    changed["spec"]["predictor"]["model"]["storageUri"] = json!("s3://c");
    assert!(reviewed(&changed, Some(&stored), &[failed("a")]).patch.is_empty());
    // A record that only a new object carries could hide the user's own words from the policies that do run.
    let outcome = reviewed(&stored, None, &[failed("a")]);
    assert_eq!(patched(&stored, &outcome), bare());
    // A policy that doesn't fill it any more takes it out.
    let outcome = reviewed(&changed, Some(&stored), &[said("a", &[])]);
    assert_eq!(
        patched(&changed, &outcome)["spec"],
        json!({"predictor": {"model": {"storageUri": "s3://c"}}})
    );
    assert_eq!(
        outcome.warnings,
        ["tidewaiter: took out spec.predictor.model.runtimeVersion: no policy fills it in any more"]
    );
}

#[test]
fn a_fill_that_the_user_removed_stays_away() {
    let policies = [said("a", &[(PIN, json!("1.7.1")), (SECRET, json!("minio"))])];
    let stored = patched(&bare(), &reviewed(&bare(), None, &policies));
    let mut removed = stored.clone();
    removed["spec"]["predictor"]["model"]
        .as_object_mut()
        .unwrap()
        .remove("runtimeVersion");
    let outcome = reviewed(&removed, Some(&stored), &policies);
    assert!(outcome.changes.is_empty() && outcome.warnings.is_empty());
    let then = patched(&removed, &outcome);
    assert_eq!(then["spec"], bare()["spec"]);
    assert!(reviewed(&then, Some(&removed), &policies).patch.is_empty());
    // Also after a replace with the bare manifest.
    assert_eq!(patched(&bare(), &reviewed(&bare(), Some(&then), &policies)), then);
}

/// Which components there are is the user's to say.
#[test]
fn a_fill_makes_no_component() {
    let object = json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"containers": []}, "canary": [{"predictor": {"containers": []}}]}});
    for (path, missing) in [
        ("/spec/transformer/serviceAccountName", "spec.transformer"),
        ("/spec/predictor/model/runtime", "spec.predictor.model"),
        ("/spec/canary/1/predictor/serviceAccountName", "spec.canary.1.predictor"),
    ] {
        let outcome = reviewed(&object, None, &[said("a", &[(path, json!("x"))])]);
        assert!(outcome.patch.is_empty(), "{outcome:?}");
        assert_eq!(
            outcome.warnings,
            [format!(
                "tidewaiter: policy a sets {}, and there is no {missing}: left out",
                path[1..].replace('/', ".")
            )]
        );
    }
    let there = [said(
        "a",
        &[("/spec/canary/0/predictor/serviceAccountName", json!("x"))],
    )];
    assert_eq!(reviewed(&object, None, &there).patch.len(), 2);
}

/// An admin who tries a policy out reads what would happen, not what the policy says.
#[test]
fn audit_promises_nothing_that_would_not_be() {
    let mut audit = said("a", &[(PIN, json!("1.7.1"))]);
    audit.terms.mode = Mode::Audit;
    let mut users = bare();
    users["spec"]["predictor"]["model"]["runtimeVersion"] = json!("1.6.0");
    let lines = |object: &Value, old: Option<&Value>| reviewed(object, old, std::slice::from_ref(&audit)).warnings;
    assert_eq!(
        lines(&users, None),
        ["tidewaiter: spec.predictor.model.runtimeVersion stays as you wrote it; policy a would have set \"1.7.1\""]
    );
    users["spec"]["predictor"]["model"]["runtimeVersion"] = json!("1.7.1");
    assert!(lines(&users, None).is_empty());
    users["spec"]["predictor"] = json!({"containers": []});
    assert_eq!(
        lines(&users, None),
        [
            "tidewaiter: policy a sets spec.predictor.model.runtimeVersion, and there is no spec.predictor.model: left out"
        ]
    );
}

#[test]
fn audit_changes_nothing_and_says_what_it_would() {
    let mut audit = said("a", &[(PIN, json!("1.7.1"))]);
    audit.terms.mode = Mode::Audit;
    let outcome = reviewed(&bare(), None, std::slice::from_ref(&audit));
    assert!(outcome.patch.is_empty());
    assert_eq!(
        outcome.warnings,
        [r#"tidewaiter: a would fill spec.predictor.model.runtimeVersion = "1.7.1": so it is"#]
    );
    // What it filled in while it counted stays.
    let mut enforced = audit.clone();
    enforced.terms.mode = Mode::Enforce;
    let stored = patched(&bare(), &reviewed(&bare(), None, &[enforced]));
    assert!(
        reviewed(&stored, Some(&stored), std::slice::from_ref(&audit))
            .patch
            .is_empty()
    );
    // Also where it would fill in something else by now, which it says.
    if let Ok(verdict) = &mut audit.result {
        verdict.fills[0].value = r#""1.8.0""#.to_owned();
    }
    let outcome = reviewed(&stored, Some(&stored), &[audit]);
    assert!(outcome.patch.is_empty());
    assert_eq!(
        outcome.warnings,
        [r#"tidewaiter: a would fill spec.predictor.model.runtimeVersion = "1.8.0": so it is"#]
    );
}

#[test]
fn each_warning_is_told_with_its_policy() {
    let mut warns = said("a", &[(PIN, json!("1.7.1"))]);
    if let Ok(verdict) = &mut warns.result {
        verdict.warnings = vec!["one".to_owned(), "two".to_owned()];
    }
    let mut audit = said("c", &[]);
    audit.terms.mode = Mode::Audit;
    audit.refuses = |_| Some("no".to_owned());
    let quiet = said("b", &[]);
    let policies = [warns, quiet.clone(), failed("bad"), audit];
    let outcome = reviewed(&bare(), None, &policies);
    let told = |outcome: &Outcome| {
        let warnings = outcome.warnings_by_policy();
        let warnings = warnings.map(|(policy, line)| (policy.to_string(), line.to_owned()));
        warnings.collect::<Vec<_>>()
    };
    let [first, second, failure, refusal] = &told(&outcome)[..] else {
        panic!("{:?}", outcome.warnings)
    };
    assert_eq!(*first, ("a".to_owned(), "one".to_owned()));
    assert_eq!(*second, ("a".to_owned(), "two".to_owned()));
    assert!(failure.0 == "bad" && failure.1.contains("admitted without the policy bad"));
    assert_eq!(
        *refusal,
        ("c".to_owned(), "tidewaiter: would be refused by c: no".to_owned())
    );

    let refuses = Said {
        refuses: |_| Some("no".to_owned()),
        ..quiet
    };
    let outcome = reviewed(&bare(), None, &[policies[0].clone(), refuses]);
    assert_eq!(told(&outcome), [first.clone(), second.clone()]);
}

#[test]
fn what_policies_see() {
    let stored = patched(
        &bare(),
        &reviewed(&bare(), None, &[said("a", &[(PIN, json!("1.7.1"))])]),
    );
    let mut came = stored.clone();
    came["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    let document = |object: &Value| Document::new(&object.to_string()).unwrap();
    let (came, old) = (document(&came), document(&stored));
    let review = asked(&came, Some(&old));
    let request = Pass::new(&review, Arc::new(Nothing), Instant::now()).request;
    assert_eq!(serde_json::from_str::<Value>(&request.object).unwrap(), bare());
    assert_eq!(request.old_object.as_deref(), Some(old.as_str()));
    assert_eq!(
        (&*request.filled[0].path, &*request.filled[0].value),
        (PIN, r#""1.7.1""#)
    );
}

#[test]
fn on_an_update_only_what_is_stored_says_what_was_filled_in() {
    let stored = patched(
        &bare(),
        &reviewed(&bare(), None, &[said("a", &[(PIN, json!("1.7.1"))])]),
    );
    let mut forged = bare();
    forged["metadata"]["annotations"][ANNOTATION] = json!(r#"{"/spec/predictor/model/runtime":"own"}"#);
    forged["spec"]["predictor"]["model"]["runtime"] = json!("own");
    let document = |object: &Value| Document::new(&object.to_string()).unwrap();
    let (forged, old) = (document(&forged), document(&stored));
    let filled = |review: Review<'_>| {
        let request = Pass::new(&review, Arc::new(Nothing), Instant::now()).request;
        let entries = request.filled.into_iter().map(|entry| (entry.path, entry.value));
        entries.collect::<Vec<_>>()
    };
    assert_eq!(
        filled(asked(&forged, Some(&old))),
        [(PIN.to_owned(), r#""1.7.1""#.to_owned())]
    );
    // A new object with a record may be one that was exported before.
    assert_eq!(
        filled(asked(&forged, None)),
        [("/spec/predictor/model/runtime".to_owned(), r#""own""#.to_owned())]
    );
}

/// Places that policies fill, none below another. The last ones need parents, and a pointer's escapes.
const PLACES: [&str; 9] = [
    "/metadata/annotations/serving.kserve.io~1storageSecretName",
    "/metadata/annotations/a.b~1c",
    "/metadata/labels/team",
    "/spec/predictor/model/runtime",
    "/spec/predictor/model/runtimeVersion",
    "/spec/predictor/model/storage/key",
    "/spec/predictor/model/storage/parameters/a~0b",
    "/spec/predictor/serviceAccountName",
    "/spec/transformer/annotations/x~1y",
];

fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![json!("a"), json!("b"), json!("ü\"\n")])
}

type Values = BTreeMap<&'static str, Value>;

fn values(most: usize) -> impl Strategy<Value = Values> {
    let values = prop::collection::btree_map(prop::sample::select(PLACES.to_vec()), value(), 0..most);
    // What no label can be is for the law about that.
    values.prop_map(|mut values| {
        if let Some(team) = values.get_mut("/metadata/labels/team").filter(|team| **team != "a") {
            *team = json!("b");
        }
        values
    })
}

/// Sets a member at each of these, by way of plain JSON Patch: another way than the engine's.
fn with(object: &Value, values: &Values) -> Value {
    let mut object = object.clone();
    for (pointer, value) in values {
        let mut at = &mut object;
        let tokens: Vec<String> = pointer
            .split('/')
            .skip(1)
            .map(|t| t.replace("~1", "/").replace("~0", "~"))
            .collect();
        for token in &tokens[..tokens.len() - 1] {
            at = at.as_object_mut().unwrap().entry(token).or_insert_with(|| json!({}));
        }
        at[tokens.last().unwrap()] = value.clone();
    }
    object
}

fn service() -> impl Strategy<Value = (Value, Values)> {
    (values(4), prop::sample::select(vec!["model", "xgboost"])).prop_map(|(users, implementation)| {
        let base = json!({"metadata": {"name": "fraud"}, "spec": {
            "predictor": {"model": {"storageUri": "s3://b"}}, "transformer": {"containers": []}}});
        let mut object = with(&base, &users);
        let model = object["spec"]["predictor"]
            .as_object_mut()
            .unwrap()
            .remove("model")
            .unwrap();
        object["spec"]["predictor"][implementation] = model;
        (object, users)
    })
}

/// As the object has it: `xgboost` for `model`.
fn here(object: &Value, pointer: &str) -> String {
    if object.pointer("/spec/predictor/xgboost").is_some() {
        return pointer.replacen("/predictor/model/", "/predictor/xgboost/", 1);
    }
    pointer.to_owned()
}

/// Places by what KServe's API has there.
const TYPED: [(&str, &str); 9] = [
    ("/spec/predictor/minReplicas", "integer"),
    ("/spec/predictor/timeout", "integer"),
    ("/spec/predictor/hostNetwork", "boolean"),
    ("/spec/predictor/serviceAccountName", "text"),
    ("/spec/predictor/nodeSelector/zone", "text"),
    ("/spec/predictor/model/runtimeVersion", "text"),
    ("/spec/predictor/model/args", "texts"),
    ("/spec/predictor/model/resources/limits/cpu", "amount"),
    ("/spec/transformer/containers/0/image", "text"),
];

fn json_value() -> impl Strategy<Value = Value> {
    let plain = prop::sample::select(vec![
        json!(0),
        json!(7),
        json!(2.0),
        json!(0.5),
        json!(true),
        json!("x"),
        json!("5"),
        json!("2Gi"),
        json!({}),
    ]);
    prop_oneof![
        4 => plain.clone(),
        1 => prop::collection::vec(plain.clone(), 0..3).prop_map(Value::from),
        1 => plain.prop_map(|inner| json!({"a": inner})),
    ]
}

/// Whether a value is of a type of [`TYPED`].
fn is(value: &Value, what: &str) -> bool {
    let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    match what {
        "integer" => is_whole,
        "boolean" => value.is_boolean(),
        "text" => value.is_string(),
        "texts" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        _ => is_whole || value == "5" || value == "2Gi",
    }
}

proptest! {
    /// A policy never breaks a good deployment: its fill stands in the object just where the API server takes it.
    #[test]
    fn a_fill_stands_where_the_api_server_takes_it((place, what) in prop::sample::select(TYPED.to_vec()), value in json_value()) {
        let mut object = bare();
        object["spec"]["transformer"] = json!({"containers": [{"name": "t"}]});
        let outcome = reviewed(&object, None, &[said("a", &[(place, value.clone())])]);
        let stands = patched(&object, &outcome).pointer(place) == Some(&value);
        prop_assert_eq!(stands, is(&value, what), "{:?}", outcome.runs);
        prop_assert_eq!(stands, outcome.runs[0].ended == Ended::Acted);
    }

    /// Against Kubernetes' own expressions (`qualifiedNameFmt`, `dns1123SubdomainFmt`, `labelValueFmt`).
    #[test]
    fn labels_and_annotations_are_what_kubernetes_takes(
        key in prop_oneof!["[-A-Za-z0-9_./ ]{1,8}", "[a-zA-Z0-9.]{1,5}/[-A-Za-z0-9_.é]{0,4}", "[a-z]{60,66}", "\\PC{1,4}"],
        value in prop_oneof!["[-A-Za-z0-9_. ]{0,6}", "[a-z]{60,66}", "\\PC{0,4}"],
        map in prop::sample::select(vec!["labels", "annotations"]),
        of in prop::sample::select(vec!["/metadata", "/spec/predictor"]),
    ) {
        let matches = |expression: &str, text: &str| regex::Regex::new(&format!("^(?:{expression})$")).unwrap().is_match(text);
        let (name, domain) = ("([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*");
        let folded = if map == "annotations" { key.to_lowercase() } else { key.clone() };
        let right_key = match folded.split('/').collect::<Vec<_>>()[..] {
            [own] => own.len() <= 63 && matches(name, own),
            [prefix, own] => prefix.len() <= 253 && matches(domain, prefix) && own.len() <= 63 && matches(name, own),
            _ => false,
        };
        let right_value = map == "annotations" || value.len() <= 63 && matches(&format!("({name})?"), &value);
        prop_assume!(key != ANNOTATION);

        let place = format!("{of}/{map}/{}", tidewaiter_core::pointer::escape(&key));
        let outcome = reviewed(&bare(), None, &[said("a", &[(&place, json!(value))])]);
        prop_assert_eq!(outcome.runs[0].ended == Ended::Acted, right_key && right_value, "{:?}", outcome.runs);
    }

    #[test]
    fn laws((user, users) in service(), opinions in prop::collection::vec(values(4), 0..3)) {
        let policies: Vec<Said> = opinions.iter().enumerate().map(|(index, fills)| {
            let fills: Vec<_> = fills.iter().map(|(path, value)| (*path, value.clone())).collect();
            said(&format!("policy-{index}"), &fills)
        }).collect();
        let outcome = reviewed(&user, None, &policies);

        // What has to come of it, told anew: the first to fill an empty place does; a second one has to agree.
        let mut fills = Values::new();
        let mut contradiction = false;
        for (path, value) in opinions.iter().flatten().filter(|(path, _)| !users.contains_key(*path)) {
            contradiction |= fills.entry(path).or_insert_with(|| value.clone()) != value;
        }
        prop_assert_eq!(outcome.denial.is_some(), contradiction);
        if contradiction {
            prop_assert!(outcome.patch.is_empty() && outcome.changes.is_empty());
            return Ok(());
        }
        let stored = patched(&user, &outcome);

        // 1: the user's word stands, and nothing else came in but the fills and their record.
        for (path, value) in &users {
            prop_assert_eq!(stored.pointer(&here(&user, path)), Some(value));
        }
        let physical: BTreeMap<String, Value> = fills.iter().map(|(path, value)| (here(&user, path), value.clone())).collect();
        for (path, value) in &physical {
            prop_assert_eq!(stored.pointer(path), Some(value));
        }
        let record = stored["metadata"]["annotations"].get(ANNOTATION);
        prop_assert_eq!(record.is_some(), !fills.is_empty());
        if let Some(record) = record {
            prop_assert_eq!(record, &json!(json!(fills).to_string()));
        }

        // 6: nothing is silent.
        let told: BTreeMap<String, Value> =
            outcome.changes.iter().map(|change| (change.path.clone(), change.value.clone().unwrap())).collect();
        prop_assert_eq!(&told, &physical);
        prop_assert_eq!(outcome.warnings.iter().filter(|line| line.ends_with(": so it is")).count(), physical.len());
        prop_assert!(outcome.warnings.iter().all(|line| line.chars().count() <= 120));

        // 2: once more changes nothing: as another create, as an update, after KServe renamed the field.
        prop_assert!(reviewed(&stored, None, &policies).patch.is_empty());
        prop_assert!(reviewed(&stored, Some(&stored), &policies).patch.is_empty());
        let mut renamed = stored.clone();
        if let Some(model) = renamed["spec"]["predictor"].as_object_mut().unwrap().remove("xgboost") {
            renamed["spec"]["predictor"]["model"] = model;
        }
        prop_assert!(reviewed(&renamed, None, &policies).patch.is_empty());

        // 3: a tool that sends the bare manifest again gets the same object.
        for old in [&stored, &renamed] {
            prop_assert_eq!(&patched(&user, &reviewed(&user, Some(old), &policies)), &stored);
        }

        // Nobody fills it in any more: the user's object is left.
        prop_assert_eq!(patched(&stored, &reviewed(&stored, Some(&stored), &[])), user);
    }

    /// Law 7: no record, object or verdict makes the engine panic, and a patch always applies.
    #[test]
    fn patches_apply(
        record in prop::collection::btree_map("(/(spec|predictor|model|metadata|a|0|labels)){1,4}", "[a-c]{1}", 0..4),
        object in prop::collection::btree_map("(spec|metadata|status)", prop_oneof![Just(json!(null)), Just(json!([{"a": 1}])), Just(json!({"a": {"b": "c"}})), Just(json!("x"))], 0..3),
        fills in prop::collection::vec(("(/(spec|predictor|model|metadata|annotations|a|0|labels)){1,4}", value()), 0..4),
    ) {
        let mut object = Value::Object(object.into_iter().collect());
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".to_owned(), json!({ANNOTATION: json!(record).to_string()}));
        }
        let fills: Vec<_> = fills.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
        let outcome = reviewed(&object, None, &[said("a", &fills)]);
        let after = patched(&object, &outcome);
        prop_assert!(reviewed(&after, None, &[said("a", &fills)]).patch.is_empty(), "{after} {:?}", outcome);
    }
}
