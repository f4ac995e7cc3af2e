//! Whether somebody may use a store, where the admin wants that asked of the API server's own rights.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tidewaiter_core::backend::{Authorization, Backend, managed_name};
use tidewaiter_core::document::Document;
use tidewaiter_core::service::{Service, is_stopped};
use tidewaiter_core::uri::StorageUri;
use tidewaiter_engine::outcome::{Denial, Outcome, Review};
use tokio::time::Instant;

use super::{Asker, Failure};
use crate::configuration::Snapshot;
use crate::namespaces::{Namespaces, Subject};

/// Whether those whom the admin wants to be asked about may use the stores that this object begins to use. An update that goes on with a store asks nobody:
/// KServe's own are of that kind.
pub(super) async fn authorize(
    outcome: &Outcome,
    review: &Review<'_>,
    asker: Asker<'_>,
    snapshot: &Snapshot,
    namespaces: &dyn Namespaces,
    until: Instant,
) -> Result<(), Failure> {
    for effect in &outcome.effects {
        let backend = snapshot.configuration.backends().get(&effect.backend);
        let Some((backend, authorization)) = backend.and_then(|backend| Some((backend, backend.spec().authorization?)))
        else {
            continue;
        };
        // A stored object that is looked at again, and uses the store already, was asked about when it began to.
        let before = review
            .old_object
            .or(review.username.is_empty().then_some(review.object));
        if before.is_some_and(|before| uses(before, review.kind, backend, snapshot)) || is_stopped(review.object) {
            continue;
        }
        for who in subjects(authorization, review, asker) {
            let allowed = if who.user.is_empty() {
                Ok(false)
            } else {
                namespaces.may_use(&who, backend.name(), review.namespace, until).await
            };
            let ask = backend.spec().contact.as_deref().unwrap_or("an admin of the cluster");
            let (code, word, message) = match allowed {
                Ok(true) => continue,
                Ok(false) if who.user.is_empty() => (
                    403,
                    "backend-not-allowed",
                    format!(
                        "nobody is known to have asked for the StorageBackend {}, which is given to those alone who may use it: apply the object again",
                        effect.backend
                    ),
                ),
                Ok(false) => (
                    403,
                    "backend-not-allowed",
                    format!(
                        "{} may not use the StorageBackend {} in the namespace {}, which takes the verb `use` on storagebackends.tidewaiter.dev: ask {ask} \
                         for a RoleBinding",
                        who.user, effect.backend, review.namespace
                    ),
                ),
                Err(error) => (
                    500,
                    "backend-right-unknown",
                    format!(
                        "can't ask the API server whether {} may use the StorageBackend {}: {error}; try again",
                        who.user, effect.backend
                    ),
                ),
            };
            return Err(Failure {
                policy: Some(effect.policy.clone()),
                code,
                denial: Denial {
                    code: word.into(),
                    message,
                    path: None,
                },
            });
        }
    }
    Ok(())
}

/// Whether an object has its model from this store, with the credentials that we have in its namespace for it, and was not stopped: a name of ours at
/// some other place gives nothing, and one that was stopped begins when it is started.
pub(super) fn uses(object: &Document, kind: &str, backend: &Backend, snapshot: &Snapshot) -> bool {
    if is_stopped(object) {
        return false;
    }
    let Ok(service) = Service::parse(kind, object.as_str()) else {
        return false;
    };
    let ours = managed_name(backend.name());
    let annotation = snapshot.configuration.kserve().secret_annotation.as_deref();
    let by_annotation = |value: Option<Cow<'_, str>>| value.is_some_and(|value| value == ours);
    let mut components = service.components().iter();
    components.any(|component| {
        let named = annotation
            .is_some_and(|name| by_annotation(component.annotation(name)) || by_annotation(service.annotation(name)));
        let account = component.service_account_name.as_deref() == Some(&*ours);
        let served = component.models.iter().any(|model| {
            StorageUri::parse(&model.uri).is_ok_and(|uri| backend.serves().iter().any(|serves| serves.holds(&uri)))
        });
        (named || account) && served
    })
}

fn subjects(authorization: Authorization, review: &Review<'_>, asker: Asker<'_>) -> Vec<Subject> {
    match authorization {
        Authorization::Requester => vec![Subject {
            user: review.username.to_owned(),
            groups: review.groups.to_vec(),
            uid: Some(asker.uid.to_owned()).filter(|uid| !uid.is_empty()),
            extra: asker.extra.cloned().unwrap_or_default(),
        }],
        Authorization::ServiceAccount => {
            let service = Service::parse(review.kind, review.object.as_str());
            let components = service.iter().flat_map(Service::components);
            let accounts: BTreeSet<String> = components
                .map(|component| {
                    component
                        .service_account_name
                        .as_deref()
                        .unwrap_or("default")
                        .to_owned()
                })
                .collect();
            let mut subjects: Vec<_> = accounts
                .iter()
                .map(|account| Subject::service_account(review.namespace, account))
                .collect();
            if subjects.is_empty() {
                subjects.push(Subject::service_account(review.namespace, "default"));
            }
            subjects
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use async_trait::async_trait;
    use tidewaiter_engine::outcome::Operation;
    use tidewaiter_engine::{Engine, Options};
    use tidewaiter_world::{Folder, Labels};

    use super::*;
    use crate::admission::Reviewer;
    use crate::configuration::Loader;
    use crate::metrics::{Endpoint, Metrics};
    use crate::minting::Mint;
    use crate::namespaces::{Minting, ProvideError, Provided, Wanted};

    /// An API server in which the users of one list may use the backend, and which keeps whom it was asked about.
    #[derive(Default)]
    struct Server {
        allowed: Vec<&'static str>,
        silent: bool,
        asked: Mutex<Vec<(String, Vec<String>, String)>>,
        known: Mutex<Vec<(Option<String>, BTreeMap<String, Vec<String>>)>>,
    }

    #[async_trait]
    impl Namespaces for Server {
        async fn provide(&self, _: &str, _: &Wanted, _: Instant) -> Result<Provided, ProvideError> {
            Ok(Provided::Written)
        }

        async fn mint(
            &self,
            _: &str,
            _: Option<&Labels>,
            _: &Mint,
            _: &BTreeSet<String>,
            _: bool,
            _: Instant,
        ) -> Result<Minting, ProvideError> {
            unreachable!("no backend of this test mints")
        }

        async fn may_use(&self, who: &Subject, backend: &str, namespace: &str, _: Instant) -> Result<bool, String> {
            let asked = (who.user.clone(), who.groups.clone(), format!("{namespace}/{backend}"));
            self.asked.lock().unwrap().push(asked);
            self.known.lock().unwrap().push((who.uid.clone(), who.extra.clone()));
            if self.silent {
                return Err("the API server didn't answer in time".to_owned());
            }
            Ok(self.allowed.contains(&who.user.as_str()))
        }

        fn copies(&self, _: &str) -> Vec<String> {
            Vec::new()
        }

        async fn has_secret(&self, _: &str, _: &str, _: Instant) -> bool {
            true
        }
    }

    const SERVICE: &str = r#"{"metadata":{"name":"fraud"},"spec":{"predictor":{"model":
        {"modelFormat":{"name":"sklearn"},"storageUri":"s3://mlflow/fraud"}}}}"#;

    /// The code and message of the refusal of a service by `username`.
    async fn refusal(
        server: &Arc<Server>,
        authorization: &str,
        username: &str,
        old: Option<&str>,
    ) -> Option<(u16, String)> {
        let yaml = format!(
            "apiVersion: tidewaiter.dev/v1alpha1\nkind: StorageBackend\nmetadata: {{name: minio}}\nspec:\n  type: s3\n  serves: ['s3://mlflow/']\n  \
             s3: {{endpoint: 'http://127.0.0.1:9'}}\n  contact: '#ml'\n  credentials: {{secretRef: {{namespace: minio, name: root}}}}\n  {authorization}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: root, namespace: minio}}, stringData: {{accessKey: a, secretKey: b}}}}\n"
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("all.yaml"), yaml).unwrap();
        let metrics = Arc::new(Metrics::default());
        let reviewer = Reviewer::new(
            Arc::clone(server) as _,
            None,
            Arc::clone(&metrics),
            Duration::from_secs(2),
        );
        let reviewer = Arc::new(reviewer);
        let (objects, problems) = Folder::new(folder.path()).load().unwrap();
        let mut loader = Loader::new(Engine::new(Options::default()).unwrap(), Arc::clone(&reviewer), metrics);
        let problems = loader.load(objects, problems).await;
        assert!(problems.is_empty(), "{problems:?}");
        let (object, old) = (
            Document::new(SERVICE).unwrap(),
            old.map(|old| Document::new(old).unwrap()),
        );
        let review = Review {
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            api_version: "serving.kserve.io/v1beta1",
            kind: "InferenceService",
            namespace: "team-a",
            name: "fraud",
            object: &object,
            old_object: old.as_ref(),
            username,
            groups: &["team".to_owned()],
        };
        let snapshot = reviewer.snapshot().unwrap();
        // A dry run asks as well: it is to say what would happen.
        let extra = BTreeMap::from([("scopes".to_owned(), vec!["models".to_owned()])]);
        let asker = Asker {
            uid: "u-1",
            extra: Some(&extra),
            ..Asker::default()
        };
        let judged = reviewer
            .decide(Endpoint::mutate, &review, asker, true, &snapshot)
            .await
            .unwrap();
        let failure = judged.failure?;
        Some((failure.code, failure.denial.message))
    }

    #[tokio::test]
    async fn without_a_word_of_the_admin_nobody_is_asked() {
        let server = Arc::new(Server::default());
        assert_eq!(refusal(&server, "", "ann", None).await, None);
        assert!(server.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_may_not_use_a_store_learns_whom_to_ask() {
        let server = Arc::new(Server {
            allowed: vec!["ann"],
            ..Server::default()
        });
        assert_eq!(refusal(&server, "authorization: requester", "ann", None).await, None);
        let (code, message) = refusal(&server, "authorization: requester", "bob", None).await.unwrap();
        assert_eq!(code, 403);
        assert!(
            message.starts_with("bob may not use the StorageBackend minio in the namespace team-a"),
            "{message}"
        );
        assert!(message.contains("ask #ml"), "{message}");
        let asked = server.asked.lock().unwrap();
        assert_eq!(
            asked[0],
            ("ann".to_owned(), vec!["team".to_owned()], "team-a/minio".to_owned())
        );
        // An authorizer may go by any of what the API server knows of them.
        let extra = BTreeMap::from([("scopes".to_owned(), vec!["models".to_owned()])]);
        assert_eq!(server.known.lock().unwrap()[0], (Some("u-1".to_owned()), extra));
    }

    #[tokio::test]
    async fn where_one_controller_applies_everything_the_workloads_account_counts() {
        let account = "system:serviceaccount:team-a:default";
        let server = Arc::new(Server {
            allowed: vec![account],
            ..Server::default()
        });
        assert_eq!(
            refusal(&server, "authorization: serviceAccount", "argocd", None).await,
            None
        );
        let asked = server.asked.lock().unwrap();
        assert_eq!(asked[0].0, account);
        assert!(asked[0].1.contains(&"system:serviceaccounts:team-a".to_owned()));
    }

    #[tokio::test]
    async fn an_update_that_goes_on_with_a_store_asks_nobody_and_one_that_begins_to_use_it_does() {
        let server = Arc::new(Server::default());
        let used = SERVICE.replace(
            r#""name":"fraud""#,
            r#""name":"fraud","annotations":{"serving.kserve.io/storageSecretName":"tidewaiter-minio"}"#,
        );
        let requester = "authorization: requester";
        assert_eq!(
            refusal(&server, requester, "system:serviceaccount:kserve:manager", Some(&used)).await,
            None
        );
        assert!(server.asked.lock().unwrap().is_empty());
        // Neither another model, nor our name at a place where it opens nothing, nor one that never ran.
        let elsewhere = used.replace("s3://mlflow/fraud", "pvc://models/fraud");
        let somewhere = used.replace("serving.kserve.io/storageSecretName", "x");
        let stopped = used.replace(
            r#""annotations":{"#,
            r#""annotations":{"serving.kserve.io/stop":"true","#,
        );
        for old in [elsewhere, somewhere, stopped] {
            assert!(refusal(&server, requester, "bob", Some(&old)).await.is_some(), "{old}");
        }
    }

    #[tokio::test]
    async fn a_right_that_cant_be_asked_for_is_none_and_worth_another_try() {
        let server = Arc::new(Server {
            silent: true,
            ..Server::default()
        });
        let (code, message) = refusal(&server, "authorization: requester", "ann", None).await.unwrap();
        assert_eq!(code, 500);
        assert!(message.ends_with("try again"), "{message}");
    }
}
