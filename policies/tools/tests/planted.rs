//! The planted policy, which breaks one law after the other: `policy test` catches each.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Value, json};
use tidewaiter_engine::{Engine, Limits, Options};
use tidewaiter_tools::{About, Broken, CaseFile, Draw, Law, Laws, LawsError};

#[path = "../fixtures/planted.rs"]
mod planted;

static PLANTED: LazyLock<Bytes> = LazyLock::new(|| planted::component().into());

async fn laws() -> Laws {
    let engine = Engine::new(Options::default()).unwrap();
    let about = About::read(&engine, PLANTED.clone()).await.unwrap();
    Laws {
        engine,
        component: PLANTED.clone(),
        name: about.name,
        objects: Vec::new(),
        schema: about.settings_schema,
        limits: Limits::default(),
    }
}

fn cases(settings: Value, checks: Value) -> CaseFile {
    let object = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "a", "namespace": "team-a"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}}});
    let text = json!({"settings": settings, "checks": checks, "world": {"labels": {"a": "1", "b": "2"}},
        "cases": [{"name": "a", "object": object}]});
    serde_saphyr::from_str(&text.to_string()).unwrap()
}

async fn broken(breaks: &str) -> Vec<(Law, Broken)> {
    let file = cases(json!({"breaks": breaks, "token": "t0ken", "team": "fraud"}), json!({}));
    let checked = laws().await.check(&[file], Draw::default()).await.unwrap();
    assert!(
        checked
            .iter()
            .all(|checked| checked.objects > 0 || checked.law == Law::NoLeak),
        "{checked:?}"
    );
    checked
        .into_iter()
        .filter_map(|checked| Some((checked.law, checked.broken?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_keeps_the_laws_passes() {
    assert_eq!(broken("nothing").await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_planted_policy_is_caught_by_its_law_and_no_other() {
    for (breaks, law, says) in [
        (
            "idempotent",
            Law::Idempotent,
            "a second pass over its own answer changes it again",
        ),
        ("deterministic", Law::Deterministic, "depends on the order"),
        ("users-word", Law::UsersWord, "the user has /spec/predictor/minReplicas"),
        ("stubborn", Law::UsersWord, "it refuses the object for the user's own"),
        ("no-leak", Law::NoLeak, "the setting token stands in a warning"),
        (
            "no-leak-log",
            Law::NoLeak,
            "the setting token stands in a line of its log",
        ),
        ("answers", Law::Answers, "trapped"),
        ("answers-amount", Law::Answers, "trapped"),
        (
            "deterministic-update",
            Law::Deterministic,
            "on an update that changes /spec/predictor/minReplicas: the verdict depends on the order",
        ),
        (
            "users-word-update",
            Law::UsersWord,
            "on an update that changes /spec/predictor/minReplicas: the user has /spec/predictor/minReplicas",
        ),
        (
            "no-leak-update",
            Law::NoLeak,
            "minReplicas: the value of the setting token stands in a warning",
        ),
        (
            "answers-update",
            Law::Answers,
            "on an update that changes /spec/predictor/minReplicas: the policy trapped",
        ),
        (
            "answers-large",
            Law::Answers,
            "with 1024 annotations of 1 KiB more than are shown: the policy trapped",
        ),
    ] {
        let found = broken(breaks).await;
        let names: Vec<_> = found.iter().map(|(law, _)| *law).collect();
        assert!(names.contains(&law), "{breaks}: {found:?}");
        // One that refuses what it admitted itself breaks two laws.
        assert!(names.len() == 1 || breaks == "stubborn", "{breaks}: {found:?}");
        let (_, broken) = found.iter().find(|(found, _)| *found == law).unwrap();
        assert!(broken.message.contains(says), "{breaks}: {}", broken.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_object_that_is_shown_is_the_simplest_that_was_found() {
    let found = broken("users-word").await;
    assert!(
        found[0].1.object["metadata"].get("annotations").is_none(),
        "{}",
        found[0].1.object
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_object_is_shown_without_its_padding() {
    let found = broken("answers-large").await;
    assert_eq!(
        found[0].1.object["metadata"],
        json!({"name": "a", "namespace": "team-a"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_finds_the_same() {
    assert_eq!(broken("users-word").await, broken("users-word").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cases_say_of_checks_is_heard() {
    let laws = laws().await;
    let check = async |settings: Value, checks: Value| {
        let checked = laws.check(&[cases(settings, checks)], Draw::default()).await?;
        Ok::<_, LawsError>(checked.into_iter().filter(|checked| checked.broken.is_some()).count())
    };
    let leaks = json!({"breaks": "no-leak", "token": "x"});
    assert_eq!(check(leaks.clone(), json!({"shows": ["token"]})).await.unwrap(), 0);
    assert_eq!(
        check(leaks, json!({"skip": {"no-leak": "on purpose"}})).await.unwrap(),
        0
    );
    let nothing = cases(json!({"breaks": "no-leak"}), json!({"shows": ["token", "breaks"]}));
    let checked = laws.check(&[nothing], Draw::default()).await.unwrap();
    let checked = checked.iter().find(|checked| checked.law == Law::NoLeak).unwrap();
    assert_eq!((checked.objects, &checked.broken), (0, &None));
    assert_eq!(
        checked.left_out,
        ["nothing to check: no setting is a text that users may not see"]
    );
    let unknown = check(json!({}), json!({"skip": {"nonsense": "x"}})).await.unwrap_err();
    assert!(unknown.to_string().contains("there is no law `nonsense`"));
    let refused = check(json!({"nonsense": 1}), json!({})).await.unwrap_err();
    assert!(matches!(refused, LawsError::Load(_)), "{refused}");
}
