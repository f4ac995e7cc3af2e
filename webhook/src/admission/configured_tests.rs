//! Objects of the configuration, right and wrong, as the API server shows them before they are stored.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidewaiter_engine::{Engine, Options};
use tidewaiter_world::{AccountFacts, ClusterReader, Labels, Objects, SecretFacts};

use super::super::Reviewer;
use crate::configuration::Loader;
use crate::metrics::{Endpoint, Metrics};
use crate::namespaces::folder::Recorded;
use crate::testing::COMPILED;

/// Of a cluster without an object of ours.
async fn reviewer() -> Arc<Reviewer> {
    reviewer_reading(None).await
}

async fn reviewer_reading(reader: Option<Arc<dyn ClusterReader>>) -> Arc<Reviewer> {
    let metrics = Arc::new(Metrics::default());
    let reviewer = Arc::new(Reviewer::new(
        Arc::new(Recorded::default()),
        reader,
        Arc::clone(&metrics),
        Duration::from_secs(2),
    ));
    let engine = Engine::new(Options {
        cache_dir: Some(COMPILED.path().into()),
        ..Options::default()
    })
    .unwrap();
    let mut loader = Loader::new(engine, Arc::clone(&reviewer), metrics);
    assert!(loader.load(Objects::default(), Vec::new()).await.is_empty());
    reviewer
}

async fn asked(reviewer: &Reviewer, kind: &str, object: &Value, old: &Value) -> Value {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "operation": if old.is_null() { "CREATE" } else { "UPDATE" }, "name": "x", "userInfo": {"username": "ann"},
        "kind": {"group": "tidewaiter.dev", "version": "v1alpha1", "kind": kind},
        "object": object, "oldObject": old,
    }});
    let answer = reviewer
        .review_bytes(Endpoint::validate, review.to_string().as_bytes())
        .await;
    serde_json::from_slice::<Value>(&answer.unwrap()).unwrap()["response"].take()
}

async fn policy(reviewer: &Reviewer, spec: Value) -> Value {
    asked(
        reviewer,
        "WasmPolicy",
        &json!({"metadata": {"name": "x"}, "spec": spec}),
        &Value::Null,
    )
    .await
}

fn words(answer: &Value) -> &str {
    assert_eq!(answer["allowed"], false, "{answer}");
    answer["status"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_policy_that_the_loader_would_not_take_is_not_stored() {
    let reviewer = reviewer().await;
    for (spec, told) in [
        (
            json!({"module": {"builtin": "serving-verisons"}}),
            "WasmPolicy/x can't be used: spec.module.builtin: there is no built-in policy `serving-verisons`; did you mean `serving-versions`?",
        ),
        (
            json!({"module": {"builtin": "runtime-version"}, "settings": {"pin": "sometimes"}}),
            r#"WasmPolicy/x can't be used: the policy refuses its settings: spec.settings.pin is "sometimes", and may be "when-needed" or "always""#,
        ),
        (
            json!({"module": {"builtin": "runtime-version"}, "settings": {"pinn": "always"}}),
            "WasmPolicy/x can't be used: the policy refuses its settings: there is no setting spec.settings.pinn; did you mean `pin`?",
        ),
        (
            json!({"module": {"builtin": "runtime-version"}, "limits": {"timeMs": 0, "memoryMiB": 32}}),
            "WasmPolicy/x can't be used: spec.limits.timeMs: 0 is not between 1 and 10,000",
        ),
        (
            json!({"module": {"file": "rules.wasm"}}),
            "WasmPolicy/x can't be used: spec.module.file: files are for a configuration in a folder; push the component to a registry (`tidewaiter policy push`), or put it into a ConfigMap if it has less than 1 MiB",
        ),
    ] {
        assert_eq!(words(&policy(&reviewer, spec).await), told);
    }
    let digest = format!("sha256:{}", "0".repeat(64));
    let other = policy(
        &reviewer,
        json!({"module": {"builtin": "runtime-version"}, "digest": digest}),
    )
    .await;
    assert!(
        words(&other).contains("spec.digest: the component has sha256:"),
        "{other}"
    );
    let ungranted = policy(
        &reviewer,
        json!({"module": {"builtin": "runtime-version"}, "capabilities": ["log"]}),
    )
    .await;
    let ungranted = words(&ungranted);
    assert!(
        ungranted.contains("which it is not granted; add `storage`, `runtimes`"),
        "{ungranted}"
    );
}

/// A cluster with this module in a `ConfigMap`, and nothing else.
struct WithModule(&'static [u8]);

#[async_trait]
impl ClusterReader for WithModule {
    async fn service_account(&self, _: &str, _: &str) -> Result<Option<AccountFacts>, String> {
        Ok(None)
    }

    async fn secret(&self, _: &str, _: &str) -> Result<Option<SecretFacts>, String> {
        Ok(None)
    }

    async fn namespace(&self, _: &str) -> Result<Option<Labels>, String> {
        Ok(None)
    }

    async fn object(&self, namespace: &str, _: &str, kind: &str, name: &str) -> Result<Option<String>, String> {
        let there = (namespace, kind, name) == ("rules", "ConfigMap", "house");
        let map = json!({"binaryData": {"policy.wasm": STANDARD.encode(self.0), "core.wasm": STANDARD.encode(b"\0asm\x01\0\0\0")}});
        Ok(there.then(|| map.to_string()))
    }

    async fn objects(&self, _: &str, _: &str, _: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

/// Whoever applies a policy for the first time is told as much as whoever changes it.
#[tokio::test]
async fn a_module_that_is_not_in_use_yet_is_asked_about_the_settings() {
    let mut policies = tidewaiter_builtin::POLICIES.iter();
    let component = policies
        .find(|policy| policy.name == "serving-versions")
        .unwrap()
        .component;
    let reviewer = reviewer_reading(Some(Arc::new(WithModule(component)))).await;
    let module = |name: &str, key: &str| json!({"configMap": {"namespace": "rules", "name": name, "key": key}});
    let house = module("house", "policy.wasm");
    let all = json!(["storage", "runtimes", "cluster", "log"]);
    let spec = |settings: Value, capabilities: &Value| json!({"module": house, "settings": settings, "capabilities": capabilities});
    let wrong = policy(&reviewer, spec(json!({"pin": "sometimes"}), &all)).await;
    assert_eq!(
        words(&wrong),
        r#"WasmPolicy/x can't be used: the policy refuses its settings: spec.settings.pin is "sometimes", and may be "when-needed" or "always""#
    );
    let ungranted = policy(&reviewer, spec(json!({}), &json!(["log"]))).await;
    assert!(words(&ungranted).contains("which it is not granted"), "{ungranted}");
    // What is wrong with the module, or isn't there yet, isn't the object's fault.
    for spec in [
        spec(json!({"pin": "always"}), &all),
        json!({"module": module("house", "core.wasm")}),
        json!({"module": module("house", "nothing.wasm")}),
        json!({"module": module("later", "policy.wasm"), "settings": {"pin": "sometimes"}}),
        json!({"module": house, "digest": format!("sha256:{}", "0".repeat(64)), "settings": {"pin": "sometimes"}}),
    ] {
        let answer = policy(&reviewer, spec).await;
        assert_eq!(answer["allowed"], true, "{answer}");
    }
}

#[tokio::test]
async fn a_policy_that_can_be_used_is_stored_without_a_word() {
    let reviewer = reviewer().await;
    for spec in [
        json!({"module": {"builtin": "runtime-version"}}),
        json!({"module": {"builtin": "runtime-version"}, "settings": {"pin": "always"}, "capabilities": ["storage", "runtimes", "log"]}),
    ] {
        let answer = policy(&reviewer, spec).await;
        assert_eq!(
            (&answer["allowed"], &answer["warnings"]),
            (&json!(true), &Value::Null),
            "{answer}"
        );
    }
    // As of a newer definition than ours.
    let strange = policy(
        &reviewer,
        json!({"module": {"builtin": "runtime-version"}, "modes": "audit"}),
    )
    .await;
    assert_eq!(strange["allowed"], true);
    let told = strange["warnings"].to_string();
    assert!(
        told.contains("unknown field `modes`") && told.contains("are updated"),
        "{told}"
    );
    let module = json!({"configMap": {"namespace": "rules", "name": "house", "key": "policy.wasm"}});
    let answer = policy(&reviewer, json!({"module": module})).await;
    assert_eq!(answer["allowed"], true);
    assert_eq!(
        answer["warnings"],
        json!([
            "tidewaiter: WasmPolicy/x: its module isn't loaded yet; whether it can be used is told in its condition Loaded"
        ])
    );
}

#[tokio::test]
async fn a_backend_that_can_not_be_used_is_not_stored() {
    let reviewer = reviewer().await;
    let backend = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
    let good = backend(
        json!({"type": "s3", "serves": ["s3://mlflow/"], "s3": {"endpoint": "http://minio:9000"}, "credentials": {"anonymous": {}}}),
    );
    let answer = asked(&reviewer, "StorageBackend", &good, &Value::Null).await;
    assert_eq!(
        (&answer["allowed"], &answer["warnings"]),
        (&json!(true), &Value::Null),
        "{answer}"
    );
    let mut wrong = good.clone();
    wrong["spec"]["serves"] = json!(["gs://models/"]);
    let answer = asked(&reviewer, "StorageBackend", &wrong, &good).await;
    assert!(
        words(&answer).starts_with("StorageBackend/x can't be used: spec.serves"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_wrong_already_can_be_labelled_and_deleted() {
    let reviewer = reviewer().await;
    let wrong = json!({"metadata": {"name": "x"}, "spec": {"module": {"builtin": "gone"}}});
    let mut labelled = wrong.clone();
    labelled["metadata"]["labels"] = json!({"team": "a"});
    let mut leaving = wrong.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-27T07:00:00Z");
    leaving["spec"]["order"] = json!(1);
    let mut changed = wrong.clone();
    changed["spec"]["order"] = json!(1);
    for (object, allowed) in [(&labelled, true), (&leaving, true), (&changed, false)] {
        let answer = asked(&reviewer, "WasmPolicy", object, &wrong).await;
        assert_eq!(answer["allowed"], allowed, "{object}");
    }
}
