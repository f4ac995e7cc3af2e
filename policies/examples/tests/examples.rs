//! The same policy in four languages answers the same cases. The laws, which take long in an interpreter, are tried in Rust; `tidewaiter policy test` tries them in each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Ended, Operation, Review};
use tidewaiter_engine::{Capability, Engine, FailurePolicy, Limits, Mode, Options, PolicySpec, review};
use tidewaiter_examples::{component, javascript, missing, policies, readme, template};
use tidewaiter_tools::{About, Ask, Draw, Given, Language, Law, Laws, Prepared, Suite, load, read_cases};

/// What a policy in each language needs at most; Python's has the default.
fn limits(language: Language) -> Limits {
    let memory_mib = match language {
        Language::Rust => 4,
        Language::TypeScript => 8,
        Language::Python => 32,
        Language::Go => 16,
    };
    Limits {
        memory_mib,
        ..Limits::default()
    }
}

async fn answers(language: Language, component: Vec<u8>, name: &str, cases: PathBuf) {
    let component = Bytes::from(component);
    let engine = Engine::new(Options::default()).expect("an engine");
    let about = About::read(&engine, component.clone()).await.expect("it is a policy");
    assert_eq!(about.name, name);
    let suite = Suite {
        engine,
        component,
        name: about.name,
        objects: Vec::new(),
        limits: limits(language),
    };
    let cases = read_cases(&cases).expect("cases");
    let tried = suite.run(&cases, false).await.expect("a run");
    assert!(tried.len() > 2, "{} cases", tried.len());
    let wrong: Vec<_> = tried.iter().filter(|one| !one.differences.is_empty()).collect();
    assert!(wrong.is_empty(), "{language}: {wrong:#?}");
}

async fn answers_its_cases(language: Language) {
    if let Some(reason) = missing(language) {
        eprintln!("not tested: {reason}");
        return;
    }
    let built = component(language).expect("the example builds");
    answers(language, built, "house-rules", policies().join("examples/cases.yaml")).await;
}

async fn passes_as_made(language: Language, sdk: &str) {
    if let Some(reason) = missing(language) {
        eprintln!("not tested: {reason}");
        return;
    }
    let built = template(language).expect("a new project builds");
    answers(
        language,
        built,
        "made-here",
        policies().join(sdk).join("template/cases"),
    )
    .await;
}

#[tokio::test]
async fn rust_answers_the_cases() {
    answers_its_cases(Language::Rust).await;
}

#[tokio::test]
async fn typescript_answers_the_cases() {
    answers_its_cases(Language::TypeScript).await;
}

#[tokio::test]
async fn python_answers_the_cases() {
    answers_its_cases(Language::Python).await;
}

#[tokio::test]
async fn go_answers_the_cases() {
    answers_its_cases(Language::Go).await;
}

#[tokio::test]
async fn a_new_project_in_typescript_passes_as_made() {
    passes_as_made(Language::TypeScript, "sdk-typescript").await;
}

/// As docs/languages.md says it is done.
#[tokio::test]
async fn a_project_in_plain_javascript_builds_and_passes() {
    let language = Language::TypeScript;
    if let Some(reason) = missing(language) {
        eprintln!("not tested: {reason}");
        return;
    }
    let built = javascript().expect("a project without TypeScript builds");
    let cases = policies().join("sdk-typescript/template/cases");
    answers(language, built, "made-here", cases).await;
}

#[tokio::test]
async fn a_new_project_in_python_passes_as_made() {
    passes_as_made(Language::Python, "sdk-python").await;
}

#[tokio::test]
async fn a_new_project_in_go_passes_as_made() {
    passes_as_made(Language::Go, "sdk-go").await;
}

async fn answers_as_its_readme_says(language: Language) {
    if let Some(reason) = missing(language) {
        eprintln!("not tested: {reason}");
        return;
    }
    let built = readme(language).expect("the policy of the README builds");
    answers(language, built, "owner", policies().join("examples/readme.yaml")).await;
}

#[tokio::test]
async fn the_policy_of_the_readme_for_typescript_builds_and_answers_its_cases() {
    answers_as_its_readme_says(Language::TypeScript).await;
}

#[tokio::test]
async fn the_policy_of_the_readme_for_python_builds_and_answers_its_cases() {
    answers_as_its_readme_says(Language::Python).await;
}

#[tokio::test]
async fn the_policy_of_the_readme_for_go_builds_and_answers_its_cases() {
    answers_as_its_readme_says(Language::Go).await;
}

/// One object for each law and settings: what its author runs draws more. Time is another matter on a machine that does much else.
#[tokio::test]
async fn rust_keeps_the_laws() {
    let engine = Engine::new(Options::default()).expect("an engine");
    let component = Bytes::from(component(Language::Rust).expect("the example builds"));
    let about = About::read(&engine, component.clone()).await.expect("it is a policy");
    let cases = read_cases(&policies().join("examples/cases.yaml")).expect("cases");
    let cases: Vec<_> = cases.into_iter().map(|(_, file)| file).collect();
    let laws = Laws {
        engine,
        component,
        name: about.name,
        objects: about.objects,
        schema: about.settings_schema,
        limits: Limits {
            time_ms: 10_000,
            ..Limits::default()
        },
    };
    let checked = laws.check(&cases, Draw { objects: 1, seed: 0 }).await.expect("a check");
    for law in &checked {
        assert_eq!(law.broken, None, "{}", law.law);
        assert!(law.objects > 0 || law.law == Law::NoLeak, "{law:?}");
    }
    assert_eq!(checked.len(), Law::ALL.len());
}

/// The API server takes 3 MiB of a request, and etcd keeps 1.5 MiB of an object by default. A policy that fails for it is got round by whoever pads an object:
/// where its failure policy is `ignore`, that is admitted. Memory is what a policy has by default; its time is another matter on a machine that does much else,
/// and docs/languages.md has it.
async fn refuses_however_large_the_object_is(language: Language) {
    if let Some(reason) = missing(language) {
        eprintln!("not tested: {reason}");
        return;
    }
    let engine = Engine::new(Options::default()).expect("an engine");
    let limits = Limits {
        time_ms: 10_000,
        ..Limits::default()
    };
    let built = Bytes::from(component(language).expect("the example builds"));
    let policy = load(&engine, "house-rules", &built, &Map::new(), limits)
        .await
        .expect("it loads");
    // What the host answers is large as well.
    let given = Given {
        labels: [("padding".to_owned(), "x".repeat(1 << 20))].into(),
        ..Given::default()
    };
    let world = Prepared::new(&given, "team-a", "house-rules", &[]).expect("a world");
    // An update of labels alone would pass untouched.
    let one = |labels: Value, replicas: u32, annotations: Map<String, Value>, env: Vec<Value>| {
        json!({"metadata": {"name": "churn", "namespace": "team-a", "labels": labels, "annotations": annotations},
            "spec": {"predictor": {"minReplicas": replicas, "model": {"modelFormat": {"name": "sklearn"}, "env": env}}}})
    };
    let annotations: Map<String, Value> = (0..1_500)
        .map(|number| (format!("padding-{number}"), json!("x".repeat(1_000))))
        .collect();
    let env: Vec<Value> = (0..45_000)
        .map(|number| json!({"name": format!("E{number}"), "value": format!("v{number}")}))
        .collect();
    let whole = Map::from_iter([("padding".to_owned(), json!("x".repeat(3 << 20)))]);
    for (annotations, env) in [(annotations, Vec::new()), (Map::new(), env), (whole, Vec::new())] {
        let object = one(json!({}), 1, annotations.clone(), env.clone());
        let old = one(json!({"team": "fraud"}), 2, annotations, env);
        let create = Ask::create(&object).expect("an object");
        let update = create.clone().update(&old).expect("an object");
        for ask in [create, update] {
            let told = ask.told(&policy, world.around("team-a", false)).await;
            assert_eq!(told.failures, [], "{language}");
            assert_eq!(told.denial.expect("it is refused").code, "no-team", "{language}");
        }
    }
}

#[tokio::test]
async fn a_policy_in_rust_refuses_however_large_the_object_is() {
    refuses_however_large_the_object_is(Language::Rust).await;
}

#[tokio::test]
async fn a_policy_in_typescript_refuses_however_large_the_object_is() {
    refuses_however_large_the_object_is(Language::TypeScript).await;
}

#[tokio::test]
async fn a_policy_in_python_refuses_however_large_the_object_is() {
    refuses_however_large_the_object_is(Language::Python).await;
}

#[tokio::test]
async fn a_policy_in_go_refuses_however_large_the_object_is() {
    refuses_however_large_the_object_is(Language::Go).await;
}

/// Each kind of component has other numbers of core instances, tables and memories, of which the engine's pool has so many.
async fn runs_as_often_at_once_as_the_engine_allows(language: Language) {
    if let Some(reason) = missing(language) {
        eprintln!("not tested: {reason}");
        return;
    }
    let options = Options::default();
    let at_once = options.max_concurrent;
    let engine = Engine::new(options).expect("an engine");
    let spec = PolicySpec {
        name: "house-rules".to_owned(),
        component: component(language).expect("the example builds").into(),
        settings: Value::Null,
        capabilities: vec![Capability::Cluster],
        limits: Limits {
            time_ms: 10_000,
            ..limits(language)
        },
        failure: FailurePolicy::Fail,
        mode: Mode::Enforce,
    };
    let policy = engine.load(spec).await.expect("it loads");
    let world = Prepared::new(&Given::default(), "team-a", "house-rules", &[]).expect("a world");
    let object =
        r#"{"metadata": {"name": "churn", "labels": {"team": "fraud"}}, "spec": {"predictor": {"model": {}}}}"#;
    let reviews: Vec<_> = (0..at_once)
        .map(|_| {
            let (policy, world) = (policy.clone(), world.around("team-a", false));
            tokio::spawn(async move {
                let object = Document::new(object).expect("JSON");
                let case = Review {
                    operation: Operation::Create,
                    api_version: "serving.kserve.io/v1beta1",
                    kind: "InferenceService",
                    namespace: "team-a",
                    name: "churn",
                    object: &object,
                    old_object: None,
                    username: "ada",
                    groups: &[],
                };
                let outcome = review(&[policy], &case, world, Duration::from_mins(2)).await;
                outcome.runs[0].ended.clone()
            })
        })
        .collect();
    for review in reviews {
        assert_eq!(review.await.expect("it ends"), Ended::Acted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_in_typescript_and_go_run_as_often_at_once_as_the_engine_allows() {
    runs_as_often_at_once_as_the_engine_allows(Language::TypeScript).await;
    runs_as_often_at_once_as_the_engine_allows(Language::Go).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_in_python_wait_for_each_others_memory() {
    runs_as_often_at_once_as_the_engine_allows(Language::Python).await;
}
