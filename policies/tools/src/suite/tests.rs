use std::fs;

use tidewaiter_engine::Options;

use super::*;
use crate::{Draw, Laws};

/// What `storage-credentials` says of two services, and a snapshot of a third.
const CASES: &str = "
cases:
  - name: a team's own model gets its key
    object: &service
      apiVersion: serving.kserve.io/v1beta1
      kind: InferenceService
      metadata: {name: fraud, namespace: team-a}
      spec: {predictor: {model: {modelFormat: {name: sklearn}, storageUri: 's3://mlflow/team-a/model'}}}
    expect:
      allowed: true
      effects: [{backend: minio, delivery: annotation}]
      fills: {/metadata/annotations/serving.kserve.io~1storageSecretName: tidewaiter-minio}
  - name: another team's model doesn't
    object: *service
    namespace: team-b
    expect:
      denial: {message: team-b}
  - name: kept as it is
    object: *service
";

fn cases() -> String {
    let world = include_str!("../../fixtures/world.yaml").lines();
    format!(
        "world:\n{}{CASES}",
        world.map(|line| format!("  {line}\n")).collect::<String>()
    )
}

fn suite() -> Suite {
    let builtin = tidewaiter_builtin::builtin("storage-credentials").unwrap();
    Suite {
        engine: Engine::new(Options::default()).unwrap(),
        component: Bytes::from_static(builtin.component),
        name: builtin.name.to_owned(),
        objects: Vec::new(),
        limits: Limits::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_are_tried_and_snapshots_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("services.yaml");
    fs::write(&path, cases()).unwrap();
    let files = read_cases(folder.path()).unwrap();
    let suite = suite();
    let run = async |update| suite.run(&files, update).await.unwrap();

    let first = run(false).await;
    let differences: Vec<_> = first.iter().map(|tried| tried.differences.as_slice()).collect();
    assert_eq!(differences[..2], [&[] as &[String], &[]], "{first:#?}");
    assert!(differences[2][0].contains("it expects nothing"), "{differences:?}");
    assert_eq!(first[0].line, 11);
    assert!(
        first[0].calls.iter().any(|call| call.answer == "served by minio"),
        "{:?}",
        first[0].calls
    );

    let updated = run(true).await;
    assert!(
        updated
            .iter()
            .all(|tried| tried.differences.is_empty() && tried.updated)
    );
    let again = run(false).await;
    assert!(again.iter().all(|tried| tried.differences.is_empty()), "{again:#?}");

    let snapshots = folder.path().join("services.snap.yaml");
    let text = fs::read_to_string(&snapshots).unwrap();
    fs::write(&snapshots, text.replace("tidewaiter-minio", "tidewaiter-other")).unwrap();
    let changed = run(false).await;
    let difference = changed[2].differences.join("\n");
    assert!(
        difference.contains('+') && difference.contains("tidewaiter-minio"),
        "{difference}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_can_expect_that_its_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    let text = "
settings: {unserved: denny}
cases:
  - name: a slip is refused
    expect: {settingsRefused: unserved}
  - name: for another reason
    expect: {settingsRefused: /no such words/}
  - name: without a slip
    settings: {unserved: deny}
    expect: {settingsRefused: unserved}
  - name: not expected
    object: {}
    expect: {allowed: true}
";
    fs::write(&path, text).unwrap();
    let files = read_cases(&path).unwrap();
    let suite = suite();
    let tried = suite.run(&files, false).await.unwrap();
    let [slip, another, none, unexpected] = &tried[..] else {
        panic!("{tried:#?}")
    };
    assert_eq!(slip.differences, [] as [String; 0]);
    assert!(
        another.differences[0].starts_with(
            "the settings were to be refused with `/no such words/`, and the policy refuses its settings: "
        ),
        "{another:?}"
    );
    assert_eq!(
        none.differences,
        ["the settings were to be refused (`unserved`), and the policy takes them"]
    );
    assert!(
        unexpected.differences[0].starts_with("the policy refuses its settings: "),
        "{unexpected:?}"
    );

    // Nor are such settings what laws are checked with.
    let mut file = files[0].1.clone();
    file.cases.truncate(1);
    let laws = Laws {
        engine: suite.engine,
        component: suite.component,
        name: suite.name,
        objects: Vec::new(),
        schema: None,
        limits: Limits::default(),
    };
    let checked = laws.check(&[file], Draw { objects: 1, seed: 0 }).await.unwrap();
    assert!(checked.iter().all(|checked| checked.broken.is_none()), "{checked:?}");
}

#[test]
fn what_is_wrong_with_a_file_of_cases_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let error = |text: &str| {
        let path = folder.path().join("cases.yaml");
        fs::write(&path, text).unwrap();
        read_cases(&path).unwrap_err().to_string()
    };
    let misspelt = error("cases:\n  - name: a\n    objekt: {}\n");
    assert!(
        misspelt.ends_with("/cases.yaml:3: there is no field `objekt` here; did you mean `object`?"),
        "{misspelt}"
    );
    let twice = error("cases:\n  - name: a\n    object: {a: 1, a: 2}\n");
    assert!(twice.ends_with("/cases.yaml:3: `a` stands here twice"), "{twice}");
    assert!(error("cases: [{name: a}]").contains("needs an object"));
    assert!(error("cases: [{name: a, object: {}}, {name: a, object: {}}]").contains("two cases are called `a`"));
    assert!(error("cases: [{name: a, object: {}, expect: {denial: {message: '/(/'}}}]").contains("regular expression"));
    assert!(error("cases: [{name: a, file: none.yaml}]").contains("none.yaml"));
    assert!(
        error("cases: [{name: a, expect: {settingsRefused: x, allowed: false}}]")
            .contains("leave the rest of `expect` out")
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(read_cases(empty.path()), Err(CaseError::None(_))));
}
