//! Which denials count, and what one that doesn't leaves alone.

use serde_json::{Value, json};
use tidewaiter_core::filled::ANNOTATION;
use tidewaiter_core::policy_resource::{FailurePolicy, Mode};

use super::Ended;
use super::tests::{PIN, SECRET, Said, bare, failed, patched, reviewed, said};
use crate::bindings::tidewaiter::policy::types::Denial;

fn refusing(name: &str, refuses: fn(&Value) -> Option<String>) -> Said {
    Said {
        refuses,
        ..said(name, &[])
    }
}

/// As one that knows which stores may be used.
fn by_store(object: &Value) -> Option<String> {
    let uri = object["spec"]["predictor"]["model"]["storageUri"].as_str()?;
    (uri != "s3://granted").then(|| format!("{uri} is not granted"))
}

#[test]
fn a_denial_in_vain_takes_nothing_out_of_a_service_that_runs() {
    let stored = patched(
        &bare(),
        &reviewed(&bare(), None, &[said("a", &[(SECRET, json!("minio"))])]),
    );
    let mut scaled = stored.clone();
    scaled["spec"]["predictor"]["minReplicas"] = json!(3);
    let mut resent = bare();
    resent["spec"]["predictor"]["minReplicas"] = json!(3);
    let mut stopped = scaled.clone();
    stopped["spec"]["predictor"]["model"]["storageUri"] = json!("s3://c");
    stopped["metadata"]["annotations"]["serving.kserve.io/stop"] = json!("true");
    let revoked = refusing("a", by_store);
    let mut audit = revoked.clone();
    audit.terms.mode = Mode::Audit;
    for (object, policy, after, stands) in [
        (&scaled, &revoked, &scaled, true),
        (&scaled, &audit, &scaled, false),
        (&resent, &revoked, &scaled, true),
        (&stopped, &revoked, &stopped, false),
    ] {
        let outcome = reviewed(object, Some(&stored), std::slice::from_ref(policy));
        assert!(outcome.denial.is_none());
        assert_eq!(outcome.runs[0].ended, Ended::DeniedInVain);
        assert_eq!(&patched(object, &outcome), after);
        // What would be refused if it came now: not what nobody enforces, nor what stands still.
        let standing = outcome
            .standing
            .as_ref()
            .map(|(policy, denial)| (&**policy, &*denial.message));
        assert_eq!(standing, stands.then_some(("a", "s3://b is not granted")));
        assert!(
            outcome
                .warnings
                .iter()
                .any(|line| line.starts_with("tidewaiter: would be refused by a: s3://")),
            "{:?}",
            outcome.warnings
        );
    }
    // A record that only the new object carries is not believed.
    let outcome = reviewed(&stored, None, &[audit]);
    assert_eq!(patched(&stored, &outcome), bare());
}

#[test]
fn a_denial_in_vain_keeps_its_way_out() {
    let at_length = |_: &Value| {
        Some(format!(
            "{} Move the model to s3://granted",
            "it lies in a store that is not granted. ".repeat(8)
        ))
    };
    let mut audit = refusing("a", at_length);
    audit.terms.mode = Mode::Audit;
    for (policy, old) in [(audit, None), (refusing("a", at_length), Some(bare()))] {
        let mut scaled = bare();
        scaled["spec"]["predictor"]["minReplicas"] = json!(3);
        let outcome = reviewed(&scaled, old.as_ref(), &[policy]);
        assert_eq!(outcome.runs[0].ended, Ended::DeniedInVain);
        assert!(
            outcome.warnings.iter().all(|line| line.chars().count() <= 120),
            "{:?}",
            outcome.warnings
        );
        let told = outcome
            .warnings
            .iter()
            .map(|line| line.trim_start())
            .collect::<Vec<_>>()
            .join(" ");
        assert!(told.ends_with("Move the model to s3://granted"), "{told}");
    }
}

/// What was admitted because it stood still, or was looked away from, is no excuse.
#[test]
fn a_denial_counts_where_a_service_is_started() {
    let policy = [refusing("a", by_store)];
    let mut stopped = bare();
    stopped["metadata"]["annotations"] = json!({"serving.kserve.io/stop": "True"});
    assert!(reviewed(&stopped, None, &policy).denial.is_none());
    let mut ignored = bare();
    ignored["metadata"]["labels"] = json!({"tidewaiter.dev/ignore": ""});
    for old in [stopped, ignored] {
        assert!(reviewed(&bare(), Some(&old), &policy).denial.is_some(), "{old}");
    }
}

#[test]
fn a_denial_counts_where_the_stored_object_would_not_have_met_it() {
    let mut scaled = bare();
    scaled["spec"]["predictor"]["minReplicas"] = json!(3);
    let mut moved = scaled.clone();
    moved["spec"]["predictor"]["model"]["storageUri"] = json!("s3://c");
    let mut granted = scaled.clone();
    granted["spec"]["predictor"]["model"]["storageUri"] = json!("s3://granted");
    let policy = [refusing("a", by_store)];
    let denied =
        |object: &Value, old: Option<&Value>| reviewed(object, old, &policy).denial.map(|(_, denial)| denial.message);
    assert_eq!(denied(&scaled, None).as_deref(), Some("s3://b is not granted"));
    assert_eq!(denied(&scaled, Some(&bare())), None);
    assert_eq!(denied(&moved, Some(&bare())).as_deref(), Some("s3://c is not granted"));
    assert_eq!(
        denied(&scaled, Some(&granted)).as_deref(),
        Some("s3://b is not granted")
    );

    // The stored object is judged with the fills of the policies before, and each policy by its own denial.
    let pinned = |object: &Value| object.pointer(PIN).map(|pin| format!("{pin} is forbidden"));
    let pins = said("a", &[(PIN, json!("1.7.1"))]);
    let outcome = reviewed(&scaled, Some(&bare()), &[pins.clone(), refusing("b", pinned)]);
    assert!(outcome.denial.is_none());
    assert_eq!(outcome.runs[1].ended, Ended::DeniedInVain);
    let anything = |_: &Value| Some("nothing is admitted".to_owned());
    let scaling = |object: &Value| {
        let replicas = object.pointer("/spec/predictor/minReplicas")?;
        Some(format!("{replicas} replicas are too many"))
    };
    let outcome = reviewed(
        &scaled,
        Some(&bare()),
        &[refusing("old", anything), pins, refusing("new", scaling)],
    );
    let (policy, denial) = outcome.denial.unwrap();
    assert_eq!(
        (&*policy, &*denial.message),
        ("new", "3 replicas are too many"),
        "{:?}",
        outcome.runs
    );
    assert_eq!(outcome.runs[0].ended, Ended::DeniedInVain);
}

#[test]
fn a_failure_under_fail_counts_for_the_policy_that_failed() {
    let mut closed = failed("closed");
    closed.terms.failure = FailurePolicy::Fail;
    let mut scaled = bare();
    scaled["spec"]["predictor"]["minReplicas"] = json!(3);
    // Though the stored object meets the same failure: who asked for `fail` wants nothing admitted without the policy.
    let (_, denial) = reviewed(&scaled, Some(&bare()), std::slice::from_ref(&closed))
        .denial
        .unwrap();
    assert_eq!(denial.code, "policy-failed");

    closed.terms.mode = Mode::Audit;
    let outcome = reviewed(&scaled, Some(&bare()), &[closed, refusing("a", by_store)]);
    assert!(outcome.denial.is_none(), "{:?}", outcome.denial);
    assert_eq!(outcome.runs[1].ended, Ended::DeniedInVain);
}

#[test]
fn a_service_that_is_stopped_is_never_refused() {
    let mut closed = failed("closed");
    closed.terms.failure = FailurePolicy::Fail;
    let stored = patched(
        &bare(),
        &reviewed(&bare(), None, &[said("closed", &[(SECRET, json!("minio"))])]),
    );
    for (stop, stops) in [
        ("true", true),
        ("True", true),
        ("TRUE", true),
        ("false", false),
        ("", false),
        ("true ", false),
    ] {
        let mut object = stored.clone();
        object["spec"]["predictor"]["model"]["storageUri"] = json!("s3://c");
        object["metadata"]["annotations"]["serving.kserve.io/stop"] = json!(stop);
        for policy in [refusing("a", by_store), closed.clone()] {
            let outcome = reviewed(&object, Some(&stored), &[policy]);
            assert_eq!(outcome.denial.is_none(), stops, "{stop:?}: {:?}", outcome.runs);
            if stops {
                assert_eq!(patched(&object, &outcome), object, "it is stored as it came");
            }
        }
    }
    // What is no string stops nothing, and is the API server's to refuse.
    let mut object = bare();
    object["metadata"]["annotations"] = json!({"serving.kserve.io/stop": true});
    assert!(reviewed(&object, None, &[closed]).denial.is_some());
}

#[test]
fn a_denial_leaves_no_effects_behind() {
    let mut policy = said("a", &[(PIN, json!("1.7.1"))]);
    if let Ok(verdict) = &mut policy.result {
        verdict.denial = Some(Denial {
            code: "no".to_owned(),
            message: "no".to_owned(),
            path: None,
        });
        verdict.warnings.push(format!("w\n{}", "x".repeat(200)));
    }
    let outcome = reviewed(&bare(), None, &[policy]);
    assert!(outcome.denial.is_some() && outcome.effects.is_empty() && outcome.patch.is_empty());
    assert_eq!(outcome.warnings[0].chars().count(), 120);
}

#[test]
fn a_record_that_only_a_new_object_carries_hides_nothing() {
    let pinned = |object: &Value| {
        let pin = object.pointer(PIN)?;
        Some(format!("the version {pin} is forbidden"))
    };
    let mut audit = said("a", &[(PIN, json!("1.7.1"))]);
    audit.terms.mode = Mode::Audit;
    let mut forged = bare();
    forged["spec"]["predictor"]["model"]["runtimeVersion"] = json!("evil");
    let plain = reviewed(&forged, None, &[audit.clone(), refusing("b", pinned)]);
    assert!(plain.denial.is_some());
    forged["metadata"]["annotations"] = json!({ANNOTATION: json!({PIN: "evil"}).to_string()});
    let outcome = reviewed(&forged, None, &[audit, refusing("b", pinned)]);
    assert!(outcome.denial.is_none());
    assert_eq!(patched(&forged, &outcome), bare());
    assert!(
        outcome.warnings.contains(
            &r#"tidewaiter: a would fill spec.predictor.model.runtimeVersion = "1.7.1": so it is"#.to_owned()
        )
    );
}
