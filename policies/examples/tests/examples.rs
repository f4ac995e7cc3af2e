//! The same policy in four languages answers the same cases, and keeps the same laws.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use bytes::Bytes;
use tidewaiter_engine::{Engine, Limits, Options};
use tidewaiter_examples::{component, missing, policies};
use tidewaiter_tools::{About, Language, Suite, read_cases};

/// What the documentation says that a policy in each language needs.
fn limits(language: Language) -> Limits {
    let memory_mib = match language {
        Language::Rust => 4,
        Language::TypeScript => 8,
        Language::Python => 64,
        Language::Go => 16,
    };
    Limits {
        memory_mib,
        ..Limits::default()
    }
}

async fn answers_its_cases(language: Language) {
    if let Some(reason) = missing(language) {
        eprintln!("not tested: {reason}");
        return;
    }
    let component = Bytes::from(component(language).expect("the example builds"));
    let about = About::of(&component).await.expect("it is a policy");
    assert_eq!(about.name, "house-rules");
    let suite = Suite {
        engine: Engine::new(Options::default()).expect("an engine"),
        component,
        objects: Vec::new(),
        limits: limits(language),
    };
    let cases = read_cases(&policies().join("examples/cases.yaml")).expect("cases");
    let tried = suite.run(&cases, false).await.expect("a run");
    assert!(tried.len() > 5, "{} cases", tried.len());
    let wrong: Vec<_> = tried.iter().filter(|one| !one.differences.is_empty()).collect();
    assert!(wrong.is_empty(), "{language}: {wrong:#?}");
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
