use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tidewaiter_core::backend::managed_name;
use tidewaiter_engine::{Engine, Options};
use tidewaiter_world::Folder;

use super::*;
use crate::admission::Reviewer;
use crate::configuration::Loader;
use crate::metrics::Metrics;
use crate::namespaces::{ProvideError, Wanted};

const BACKEND: &str = "
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: { name: minio }
spec:
  type: s3
  serves: ['s3://mlflow/']
  s3: { endpoint: 'http://127.0.0.1:9', region: us-east-1 }
  credentials: { secretRef: { namespace: minio, name: root } }
  grants:
    - namespaces: ['team-*']
---
apiVersion: v1
kind: Secret
metadata: { namespace: minio, name: root }
stringData: { accessKey: tidewaiter, secretKey: rotated }
";

/// Keeps the names of those it wrote to, and can't write to one of them.
#[derive(Default)]
struct Namespaces {
    written: Mutex<Vec<String>>,
    unreachable: Option<&'static str>,
}

#[async_trait]
impl crate::namespaces::Namespaces for Namespaces {
    async fn provide(&self, namespace: &str, wanted: &Wanted, _until: Instant) -> Result<Provided, ProvideError> {
        if self.unreachable == Some(namespace) {
            return Err(ProvideError::Unreachable {
                kind: "Secret",
                namespace: namespace.into(),
                name: managed_name(wanted.backend()),
                message: "in time".into(),
                there: true,
            });
        }
        self.written.lock().unwrap().push(namespace.into());
        Ok(Provided::Written)
    }

    async fn has_secret(&self, _namespace: &str, _backend: &str, _until: Instant) -> bool {
        true
    }
}

async fn snapshot() -> Arc<Snapshot> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("minio.yaml"), BACKEND).unwrap();
    let metrics = Arc::new(Metrics::default());
    let reviewer = Reviewer::new(
        Arc::new(Namespaces::default()),
        None,
        Arc::clone(&metrics),
        Duration::from_secs(2),
    );
    let reviewer = Arc::new(reviewer);
    let engine = Engine::new(Options::default()).unwrap();
    let (objects, problems) = Folder::new(folder.path()).load().unwrap();
    let problems = Loader::new(engine, Arc::clone(&reviewer), metrics)
        .load(objects, problems)
        .await;
    assert!(problems.is_empty(), "{problems:?}");
    reviewer.snapshot().unwrap()
}

fn delivered(namespaces: &[&str]) -> Vec<Arc<Secret>> {
    let secret = |namespace: &&str| {
        let mut secret = Secret::default();
        secret.metadata.namespace = Some((*namespace).into());
        secret.metadata.labels = Some(BTreeMap::from([(BACKEND_LABEL.into(), "minio".into())]));
        Arc::new(secret)
    };
    namespaces.iter().map(secret).collect()
}

#[tokio::test]
async fn a_namespace_that_lost_its_grant_gets_no_new_key() {
    let namespaces = Namespaces::default();
    let all = renew(&delivered(&["revoked", "team-a"]), &namespaces, &*snapshot().await).await;
    assert!(all);
    assert_eq!(*namespaces.written.lock().unwrap(), ["team-a"]);
}

#[tokio::test]
async fn what_failed_is_told_and_holds_nobody_else_up() {
    let mut namespaces = Namespaces {
        unreachable: Some("team-a"),
        ..Namespaces::default()
    };
    let (delivered, snapshot) = (delivered(&["team-a", "team-b"]), snapshot().await);
    assert!(!renew(&delivered, &namespaces, &snapshot).await);
    assert_eq!(*namespaces.written.lock().unwrap(), ["team-b"]);
    namespaces.unreachable = None;
    assert!(renew(&delivered, &namespaces, &snapshot).await);
}
