//! The contract 0.1.0 loads for ever: a component that was built when it was declared stable, in a world that answers everything (see tests/contract).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tidewaiter_core::document::Document;
use tidewaiter_engine::outcome::{Operation, Outcome, Review};
use tidewaiter_engine::world::{
    Brought, Delivery, Label, Listing, ObjectInfo, Release, Resolution, Runtime, Served, StorageError, World,
};
use tidewaiter_engine::{Capability, Engine, FailurePolicy, Limits, Mode, Options, PolicySpec};

const KEPT: &[u8] = include_bytes!("../../../tests/contract/policy-0.1.0.wasm");

/// What was built then, and nothing that was built anew since.
#[test]
fn the_kept_component_is_the_one_of_then() {
    let digest: String = Sha256::digest(KEPT).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        digest,
        "b2c9ea29bd6e5c83d5968ae477f77a03ec96a9230f94badc9cdf4597cc987d1a"
    );
}

/// Has one of everything.
struct Full;

fn runtime() -> Runtime {
    Runtime {
        name: "own".to_owned(),
        repository: "r".to_owned(),
        tag: String::new(),
        digest: "sha256:0a".to_owned(),
        protocols: vec!["v2".to_owned()],
        auto_select: true,
        disabled: false,
    }
}

fn release() -> Release {
    Release {
        tag: "t".to_owned(),
        python: "3.11".to_owned(),
        packages: Vec::new(),
        architectures: vec!["arm64".to_owned()],
    }
}

fn listing(paths: &[&str]) -> Listing {
    let objects = paths.iter().map(|path| ObjectInfo {
        path: (*path).to_owned(),
        size: 3,
    });
    Listing {
        objects: objects.collect(),
        truncated: false,
    }
}

#[async_trait]
impl World for Full {
    async fn resolve(&self, _: &str) -> Resolution {
        Resolution::Served(Served {
            backend: "minio".to_owned(),
            kind: "s3".to_owned(),
            delivery: Delivery::Annotation,
            anonymous: false,
            secret: "tidewaiter-minio".to_owned(),
            service_account: "tidewaiter-minio".to_owned(),
            storage_key: "minio".to_owned(),
        })
    }
    fn secret_annotation(&self) -> Option<String> {
        Some("serving.kserve.io/storageSecretName".to_owned())
    }
    async fn brought_credentials(&self, _: Option<&str>, _: Option<&str>) -> Brought {
        Brought::Managed(vec!["one".to_owned()])
    }
    async fn stat(&self, _: &str) -> Result<ObjectInfo, StorageError> {
        Err(StorageError::TooLarge(7))
    }
    async fn list_objects(&self, _: &str, _: u32) -> Result<Listing, StorageError> {
        Ok(listing(&["a", "b/c"]))
    }
    async fn read(&self, _: &str, _: u64, _: u32) -> Result<Bytes, StorageError> {
        Ok(Bytes::from_static(b"hi"))
    }
    async fn list_folder(&self, _: &str, _: u32) -> Result<Listing, StorageError> {
        Ok(listing(&["a", "b/", "c"]))
    }
    async fn supporting(&self, _: &str, _: Option<&str>) -> Vec<Runtime> {
        vec![runtime()]
    }
    async fn named(&self, _: &str) -> Option<Runtime> {
        Some(runtime())
    }
    async fn runtime_spec(&self, _: &str) -> Option<String> {
        Some("{}".to_owned())
    }
    async fn release_of(&self, _: &str, _: &str, _: &[String]) -> Option<Release> {
        Some(release())
    }
    async fn releases(&self, _: &str, _: &[String]) -> Vec<Release> {
        vec![release(), release()]
    }
    async fn lacking(&self, _: &str, packages: &[String]) -> Vec<String> {
        packages.to_vec()
    }
    async fn namespace_labels(&self) -> Vec<Label> {
        vec![Label {
            key: "team".to_owned(),
            value: "a".to_owned(),
        }]
    }
    async fn node_architectures(&self) -> Vec<String> {
        vec!["amd64".to_owned()]
    }
    async fn get_object(&self, policy: &str, _: &str, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(Some(policy.to_owned()))
    }
    async fn cluster_objects(&self, _: &str, _: &str, _: &str) -> Result<Vec<String>, String> {
        Err("too many".to_owned())
    }
    async fn kserve_config(&self, _: &str) -> Option<String> {
        Some("{}".to_owned())
    }
}

async fn reviewed(settings: serde_json::Value) -> Outcome {
    let spec = PolicySpec {
        name: "kept".to_owned(),
        component: Bytes::from_static(KEPT),
        settings,
        capabilities: vec![
            Capability::Storage,
            Capability::Runtimes,
            Capability::Cluster,
            Capability::Log,
        ],
        limits: Limits {
            time_ms: 2_000,
            ..Limits::default()
        },
        failure: FailurePolicy::Fail,
        mode: Mode::Enforce,
    };
    let engine = Engine::new(Options::default()).unwrap();
    let policy = engine.load(spec).await.unwrap();
    let description = policy.description().unwrap();
    assert_eq!(
        (description.name.as_str(), description.objects[0].kind.as_str()),
        ("everything", "ConfigMap")
    );
    let object = Document::new(r#"{"metadata": {"name": "fraud"}, "spec": {}}"#).unwrap();
    let review = Review {
        operation: Operation::Create,
        api_version: "serving.kserve.io/v1beta1",
        kind: "InferenceService",
        namespace: "team-a",
        name: "fraud",
        object: &object,
        old_object: None,
        username: "alice",
        groups: &["people".to_owned()],
    };
    tidewaiter_engine::review(&[policy], &review, Arc::new(Full), Duration::from_secs(10)).await
}

#[tokio::test]
async fn a_component_of_the_contract_0_1_0_loads_and_gets_every_answer() {
    let outcome = reviewed(json!({})).await;
    assert!(outcome.denial.is_none(), "{:?}", outcome.denial);
    let told = outcome.warnings.join("\n");
    for part in [
        "create serving.kserve.io/v1beta1 InferenceService team-a/fraud by alice in 1 groups, 0 filled, 0 withheld, old: false",
        "annotation Some(\"serving.kserve.io/storageSecretName\")",
        "brought Brought::Managed([\"one\"])",
        "stat Err(Error::TooLarge(7))",
        "list Ok(2)",
        "folder Ok(3)",
        "read Ok([104, 105])",
        "supporting 1",
        "named Some(\"sha256:0a\")",
        "spec Some(\"{}\")",
        "release Some([\"arm64\"])",
        "releases 2",
        "lacking [\"mlflow\"]",
        "labels 1",
        "nodes [\"amd64\"]",
        "object Ok(Some(\"kept\"))",
        "objects Err(\"too many\")",
        "kserve Some(\"{}\")",
    ] {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    assert_eq!(outcome.changes.len(), 1);
    assert_eq!(outcome.effects.len(), 1);
    assert_eq!(&*outcome.effects[0].backend, "minio");
}

#[tokio::test]
async fn its_settings_and_its_denial_are_understood() {
    let (_, denial) = reviewed(json!({"deny": true})).await.denial.unwrap();
    assert_eq!(
        (denial.code.as_str(), denial.path.as_deref()),
        ("as-told", Some("/metadata/name"))
    );
}
