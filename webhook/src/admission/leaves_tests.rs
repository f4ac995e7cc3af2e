use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::{Value, json};
use tidewaiter_world::Labels;
use tokio::time::Instant as Deadline;

use super::*;
use crate::minting::Mint;
use crate::namespaces::{Minting, ProvideError, Provided, Subject, Wanted};

/// The credentials of `minio` are in these namespaces.
struct Copies(&'static [&'static str]);

#[async_trait]
impl Namespaces for Copies {
    async fn provide(&self, _: &str, _: &Wanted, _: Deadline) -> Result<Provided, ProvideError> {
        unreachable!("nothing is delivered where something leaves")
    }

    async fn mint(
        &self,
        _: &str,
        _: Option<&Labels>,
        _: &Mint,
        _: &BTreeSet<String>,
        _: bool,
        _: Deadline,
    ) -> Result<Minting, ProvideError> {
        unreachable!("nothing is delivered where something leaves")
    }

    async fn may_use(&self, _: &Subject, _: &str, _: &str, _: Deadline) -> Result<bool, String> {
        Ok(false)
    }

    fn copies(&self, backend: &str) -> Vec<String> {
        let all = self.0.iter().filter(|_| backend == "minio");
        all.map(|&namespace| namespace.to_owned()).collect()
    }

    async fn has_secret(&self, _: &str, _: &str, _: Deadline) -> bool {
        true
    }
}

/// The answer to whoever deletes an object of a kind of ours.
async fn told(copies: &'static [&'static str], kind: &str, name: &str) -> Value {
    let reviewer = Reviewer::new(Arc::new(Copies(copies)), None, Arc::default(), Duration::from_secs(2));
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "operation": "DELETE", "name": name, "userInfo": {"username": "ann"},
        "kind": {"group": "tidewaiter.dev", "version": "v1alpha1", "kind": kind},
        "resource": {"group": "tidewaiter.dev", "version": "v1alpha1", "resource": "any"},
        "oldObject": {"metadata": {"name": name}},
    }});
    let answer = reviewer
        .review_bytes(Endpoint::validate, review.to_string().as_bytes())
        .await
        .unwrap();
    serde_json::from_slice::<Value>(&answer).unwrap()["response"].take()
}

#[tokio::test]
async fn whoever_deletes_a_backend_is_told_who_still_has_its_credentials() {
    let many = told(&["a", "b", "c", "d", "e"], "StorageBackend", "minio").await;
    assert_eq!(many["allowed"], true);
    assert_eq!(
        many["warnings"],
        json!([
            "tidewaiter: services in a, b, c and 2 more have the credentials of minio",
            "tidewaiter: these credentials stay as they are, and are renewed no more",
        ])
    );
    let few = told(&["a"], "StorageBackend", "minio").await;
    assert_eq!(
        few["warnings"][0],
        "tidewaiter: services in a have the credentials of minio"
    );
}

#[tokio::test]
async fn a_backend_that_nobody_uses_leaves_without_a_word() {
    for (copies, kind, name) in [
        (&[][..], "StorageBackend", "minio"),
        (&["a"], "StorageBackend", "another"),
        (&["a"], "WasmPolicy", "minio"),
    ] {
        let answer = told(copies, kind, name).await;
        assert_eq!(answer["allowed"], true);
        assert!(answer["warnings"].as_array().is_none_or(Vec::is_empty), "{answer}");
    }
}
