//! What is refused while it is loaded, each with one clear word: components that are none of ours, and such as lie about themselves.

use std::time::{Duration, Instant};

use super::*;

async fn error(spec: PolicySpec) -> String {
    let engine = Engine::new(Options::default()).unwrap();
    let begun = Instant::now();
    let error = engine.load(spec).await.map(|_| ()).unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
    assert!(
        error.chars().count() < 1500 && !error.contains(char::is_control),
        "{error}"
    );
    error
}

fn says(parts: &Parts<'_>) -> PolicySpec {
    spec("a", built(parts))
}

#[tokio::test]
async fn a_contract_from_the_future_is_told_from_an_import_that_nobody_knows() {
    let future = says(&Parts {
        contract: "0.2.0",
        ..Parts::default()
    });
    assert_eq!(
        error(future).await,
        "the policy is built against the contract tidewaiter:policy@0.2.0, and this Tidewaiter speaks tidewaiter:policy@0.1.0; update Tidewaiter, or build the policy against 0.1.0"
    );
    let unknown = r#"(component (import "tidewaiter:policy/oracle@0.1.0" (instance)))"#;
    let words = error(spec("a", wat::parse_str(unknown).unwrap().into())).await;
    assert!(
        words.contains("imports tidewaiter:policy/oracle@0.1.0, which is not in the contract"),
        "{words}"
    );
}

/// Within 0.1 a later contract only adds: what a policy doesn't use of it need not be here.
#[tokio::test]
async fn a_later_contract_within_0_1_loads_unless_the_policy_needs_what_came_with_it() {
    let later = |parts: Parts<'static>| {
        says(&Parts {
            contract: "0.1.9",
            ..parts
        })
    };
    let engine = Engine::new(Options::default()).unwrap();
    assert!(engine.load(later(Parts::default())).await.is_ok());

    let told = |unknown: &str| {
        format!(
            "the policy is built against the contract tidewaiter:policy@0.1.9, and this Tidewaiter speaks tidewaiter:policy@0.1.0, which doesn't know {unknown}; \
             update Tidewaiter, or build the policy against 0.1.0"
        )
    };
    // What is unknown is told before what isn't granted: to grant it would change nothing.
    let functions = r#"(component
        (import "tidewaiter:policy/types@0.1.9" (instance (type $t (record (field "new" string))) (export "new" (type (eq $t)))))
        (import "tidewaiter:policy/oracle@0.1.9" (instance (export "ask" (func (result string)))))
        (import "tidewaiter:policy/storage@0.1.9" (instance
            (export "search" (func (param "query" string))) (export "secret-annotation" (func (result (option string)))))))"#;
    assert_eq!(
        error(spec("a", wat::parse_str(functions).unwrap().into())).await,
        told("oracle, storage#search")
    );
    let words = error(later(Parts {
        nodes: "string",
        ..Parts::default()
    }))
    .await;
    assert!(
        words.starts_with("the policy is built against the contract tidewaiter:policy@0.1.9, and this Tidewaiter speaks tidewaiter:policy@0.1.0, which doesn't know all of it: ")
            && words.contains("node-architectures")
            && words.ends_with("; update Tidewaiter, or build the policy against 0.1.0"),
        "{words}"
    );
    // Of this contract's own version it is no matter of waiting for a release.
    let lies =
        r#"(component (import "tidewaiter:policy/log@0.1.0" (instance (export "read" (func (result string))))))"#;
    let words = error(spec("a", wat::parse_str(lies).unwrap().into())).await;
    assert!(
        words.contains("imports tidewaiter:policy/log@0.1.0#read, which is not in the contract"),
        "{words}"
    );
}

#[tokio::test]
async fn a_component_of_another_world_says_what_it_is_instead() {
    let other = r#"(component (core module $m (func (export "run"))) (core instance $i (instantiate $m))
        (func (export "run") (canon lift (core func $i "run"))))"#;
    assert_eq!(
        error(spec("a", wat::parse_str(other).unwrap().into())).await,
        "the policy doesn't fit the contract tidewaiter:policy@0.1.0: it exports run, and not describe, check-settings, review; is it a component of another world?"
    );
}

#[tokio::test]
async fn all_that_is_not_granted_is_named_at_once() {
    let two = wat::parse_str(
        r#"(component (import "tidewaiter:policy/storage@0.1.0" (instance)) (import "tidewaiter:policy/log@0.1.0" (instance)))"#,
    );
    assert_eq!(
        error(spec("a", two.unwrap().into())).await,
        "the policy imports tidewaiter:policy/storage@0.1.0, tidewaiter:policy/log@0.1.0, which it is not granted; add `storage`, `log` to its capabilities, or use another policy"
    );
}

#[tokio::test]
async fn a_policy_that_lies_about_itself_is_not_loaded() {
    let lies = |name: &'static str| Parts {
        name,
        ..Parts::default()
    };
    for name in ["", "Not A Label", "-", "a\u{1b}[31m", "ä"] {
        let words = error(says(&lies(name))).await;
        assert!(words.contains("no DNS label"), "{words}");
    }
    let words = error(says(&Parts {
        version: "newest",
        ..Parts::default()
    }))
    .await;
    assert!(words.contains("`newest`, which is no semantic version"), "{words}");
    // Text that is none never gets here: the component model lifts UTF-8 only.
    let huge = format!(r#"{{"$comment": "{}"}}"#, "x".repeat(70_000));
    for (schema, says_so) in [
        ("{", "it is no JSON"),
        ("[]", "it is no object"),
        (r#"{"type": "objekt"}"#, "/type"),
        (r##"{"$ref": "#"}"##, "leads in a circle"),
        (r#"{"$ref": "https://example.com/"}"#, "no place inside of it"),
        (r#"{"pattern": "(((a{99}){99}){99}){99}"}"#, "too large"),
        (huge.as_str(), "may have 65536"),
    ] {
        let words = error(says(&Parts {
            schema: Some(schema),
            ..Parts::default()
        }))
        .await;
        assert!(
            words.starts_with("the policy's settings schema can't be used: ") && words.contains(says_so),
            "{words}"
        );
    }
}

#[tokio::test]
async fn settings_are_held_against_the_schema_before_the_policy_sees_them() {
    let schema = r#"{"type": "object", "properties": {"team": {"type": "string"}}, "additionalProperties": false}"#;
    // One that would fail if it were asked.
    let parts = Parts {
        schema: Some(schema),
        check: "unreachable",
        ..Parts::default()
    };
    let mut wrong = says(&parts);
    wrong.settings = json!({"teem": "ml"});
    assert_eq!(
        error(wrong).await,
        "the policy refuses its settings: there is no setting spec.settings.teem; did you mean `team`?"
    );
    let words = error(says(&parts)).await;
    assert!(
        words.contains("trapped: it panicked") && words.contains("when it was loaded"),
        "{words}"
    );

    let engine = Engine::new(Options::default()).unwrap();
    let mut good = says(&Parts {
        schema: Some(schema),
        ..Parts::default()
    });
    good.settings = json!({"team": "ml"});
    let good = engine.load(good).await.unwrap();
    assert_eq!(reviewed(std::slice::from_ref(&good), BUDGET).await.patch.len(), 2);
    // Other settings and grants, without compiling anything again.
    let cluster = [Capability::Cluster];
    assert!(good.takes(json!({"team": "data"}), &cluster).await.is_ok());
    assert!(good.takes(Value::Null, &cluster).await.is_ok());
    let words = good.takes(json!({"team": 7}), &cluster).await.unwrap_err().to_string();
    assert!(
        words.contains("spec.settings.team is 7, and has to be a string"),
        "{words}"
    );
    let words = good.takes(Value::Null, &[]).await.unwrap_err().to_string();
    assert!(words.contains("add `cluster`"), "{words}");
}

#[tokio::test]
async fn what_takes_too_much_while_it_is_loaded_ends_there() {
    for (check, says_so) in [
        ("(loop $l (br $l)) (i32.const 512)", "ran for more than 50 ms"),
        ("(call $check (local.get 0) (local.get 1))", "nested too deep"),
        (
            "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (i32.const 512)",
            "more than 4 MiB",
        ),
        (
            "(call $nodes (i32.const 512)) (i32.const 512)",
            "asked the world while it was loaded",
        ),
    ] {
        let words = error(says(&Parts {
            check,
            ..Parts::default()
        }))
        .await;
        assert!(words.contains(says_so), "{words}");
    }
    let mut huge = says(&Parts::default());
    huge.settings = json!({"list": vec!["x".repeat(1000); 300]});
    let words = error(huge).await;
    assert!(
        words.contains("they have 3") && words.contains("may have 262144"),
        "{words}"
    );
}
