use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_core::backend::{Backend, MANAGED_BY, MANAGED_BY_LABEL, OWN_STORAGE_LABEL};
use tidewaiter_core::backends::{Backends, Resolved};
use tidewaiter_core::credentials::SecretValue;

use super::*;

const TIDEWAITER: &str = "tidewaiter-system";

fn data(pairs: &[(&str, &str)]) -> Data {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), SecretValue::from((*value).to_owned())))
        .collect()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn secret(namespace: &str, name: &str, annotations: &[(&str, &str)], pairs: &[(&str, &str)]) -> FoundSecret {
    FoundSecret {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::new(),
        annotations: texts(annotations),
        data: data(pairs),
    }
}

/// As the guides have it: MinIO's key with its endpoint.
fn minio(namespace: &str, name: &str, key: &str) -> FoundSecret {
    secret(
        namespace,
        name,
        &[
            ("serving.kserve.io/s3-endpoint", "minio.minio:9000"),
            ("serving.kserve.io/s3-usehttps", "0"),
            ("serving.kserve.io/s3-region", "us-east-1"),
        ],
        &[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", key)],
    )
}

fn account(namespace: &str, name: &str, secrets: &[&str]) -> FoundAccount {
    FoundAccount {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn service(namespace: &str, name: &str, annotations: &Value, predictor: &Value) -> FoundService {
    FoundService {
        kind: "InferenceService",
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        json: json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
            "spec": {"predictor": predictor},
        })
        .to_string(),
    }
}

fn by_account(namespace: &str, name: &str, account: &str, uri: &str) -> FoundService {
    let model = json!({"modelFormat": {"name": "mlflow"}, "storageUri": uri});
    service(
        namespace,
        name,
        &json!({}),
        &json!({"serviceAccountName": account, "model": model}),
    )
}

fn by_annotation(namespace: &str, name: &str, secret: &str, uri: &str) -> FoundService {
    let model = json!({"modelFormat": {"name": "mlflow"}, "storageUri": uri});
    let annotations = json!({"serving.kserve.io/storageSecretName": secret});
    service(namespace, name, &annotations, &json!({"model": model}))
}

/// Two teams with the same key, one by `ServiceAccount` and one by annotation.
fn two_teams() -> Found {
    Found {
        secrets: vec![minio("team-b", "minio", "k1"), minio("team-a", "minio", "k1")],
        accounts: vec![account("team-a", "models", &["minio"])],
        services: vec![
            by_account("team-a", "fraud", "models", "s3://mlflow/1/fraud"),
            by_annotation("team-b", "churn", "minio", "s3://features/churn"),
        ],
        ..Found::default()
    }
}

fn options() -> Options {
    Options {
        tidewaiter: TIDEWAITER.to_owned(),
        ..Options::default()
    }
}

fn choose(source: &str, serves: &[&str]) -> Options {
    Options {
        chosen: vec![source.parse().unwrap()],
        serves: serves.iter().map(|text| (*text).to_owned()).collect(),
        ..options()
    }
}

fn yaml(change: &Change) -> String {
    serde_saphyr::to_string(&change.object()).unwrap()
}

/// The cluster once these changes are made.
fn made(mut found: Found, plan: &Plan) -> Found {
    for change in &plan.changes {
        let backend = FoundBackend {
            name: change.name.clone(),
            spec: serde_json::to_value(&change.after).unwrap(),
            kept_by: None,
            resource_version: Some("1".into()),
        };
        found.backends.retain(|there| there.name != backend.name);
        found.backends.push(backend);
        if let Some(new) = &change.secret {
            found.secrets.push(FoundSecret {
                namespace: new.namespace.clone(),
                name: new.name.clone(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                data: new.data.clone(),
            });
        }
    }
    found
}

#[test]
fn the_same_key_in_two_namespaces_becomes_one_backend_with_a_grant_for_each() {
    let plan = plan(&two_teams(), &options()).unwrap();
    assert_eq!(
        (plan.changes.len(), plan.conflicts.len(), plan.skipped.len()),
        (1, 0, 0)
    );
    let change = &plan.changes[0];
    insta::assert_snapshot!(yaml(change));
    let secret = change.secret.as_ref().unwrap();
    assert_eq!((secret.namespace.as_str(), secret.name.as_str()), (TIDEWAITER, "minio"));
    assert_eq!(secret.copied_from.to_string(), "team-a/minio");
    assert_eq!(
        secret.data,
        data(&[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "k1")])
    );
}

#[test]
fn a_second_run_finds_nothing_to_do() {
    let first = plan(&two_teams(), &options()).unwrap();
    let second = plan(&made(two_teams(), &first), &options()).unwrap();
    assert_eq!(second.changes, []);
    let settled: Vec<_> = second
        .settled
        .iter()
        .map(|settled| settled.source.to_string())
        .collect();
    assert_eq!(settled, ["team-a/minio", "team-b/minio"]);
}

#[test]
fn a_namespace_that_has_the_key_and_no_service_yet_is_granted_what_the_others_use() {
    let mut found = two_teams();
    found.secrets.push(minio("team-c", "s3", "k1"));
    let plan = plan(&found, &options()).unwrap();
    assert!(plan.changes[0].namespaces().contains("team-c"));
    assert_eq!(super::plan(&made(found, &plan), &options()).unwrap().changes, []);
}

#[test]
fn a_secret_that_nothing_is_loaded_with_is_left_alone_until_it_is_said_what_it_is_for() {
    let found = Found {
        secrets: vec![minio("team-a", "archive", "k1")],
        ..Found::default()
    };
    let nothing = plan(&found, &options()).unwrap();
    assert_eq!(nothing.changes, []);
    assert!(nothing.skipped[0].reason.contains("--serves"), "{:?}", nothing.skipped);
    let chosen = choose("team-a/archive", &["s3://archive/2026/"]);
    let plan = plan(&found, &chosen).unwrap();
    assert_eq!(plan.changes[0].after.serves, ["s3://archive/2026/"]);
    let found = made(found, &plan);
    for again in [chosen, options()] {
        let again = super::plan(&found, &again).unwrap();
        assert_eq!((again.changes.len(), again.settled.len()), (0, 1), "{again:?}");
    }
}

#[test]
fn two_keys_for_one_bucket_are_for_somebody_to_decide() {
    let mut found = two_teams();
    found.secrets[0] = minio("team-b", "minio", "k2");
    found.services[1] = by_annotation("team-b", "churn", "minio", "s3://mlflow/churn");
    let undecided = plan(&found, &options()).unwrap();
    assert_eq!(undecided.changes, []);
    assert_eq!(undecided.conflicts.len(), 1);
    insta::assert_snapshot!(format!(
        "{}\n{}",
        undecided.conflicts[0].message, undecided.conflicts[0].next
    ));
    // As it says: one of them alone, or a part of its own for each.
    assert_eq!(plan(&found, &choose("team-a/minio", &[])).unwrap().changes.len(), 1);
    let part = plan(&found, &choose("team-b/minio", &["s3://mlflow/churn/"])).unwrap();
    assert_eq!(part.changes.len(), 1);
}

#[test]
fn two_stores_whose_secrets_have_the_same_name_get_two_names() {
    let mut found = two_teams();
    found.secrets[0] = minio("team-b", "minio", "k2");
    let plan = plan(&found, &options()).unwrap();
    let names: Vec<_> = plan.changes.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(names, ["minio", "minio-team-b"]);
    assert_eq!(super::plan(&made(found, &plan), &options()).unwrap().changes, []);
}

fn backend(name: &str, spec: Value) -> FoundBackend {
    FoundBackend {
        name: name.to_owned(),
        spec,
        kept_by: None,
        resource_version: Some("7".into()),
    }
}

fn other_store(serves: &str) -> Value {
    json!({
        "type": "s3", "serves": [serves], "s3": {"endpoint": "http://other:9000"},
        "credentials": {"secretRef": {"namespace": TIDEWAITER, "name": "other"}},
    })
}

#[test]
fn a_backend_of_the_same_name_that_opens_another_store_is_in_the_way() {
    let mut found = two_teams();
    found.backends.push(backend("minio", other_store("s3://elsewhere/")));
    let undecided = plan(&found, &options()).unwrap();
    assert_eq!(undecided.changes, []);
    assert!(
        undecided.conflicts[0].next.ends_with("--name NAME"),
        "{:?}",
        undecided.conflicts
    );
    let named = Options {
        name: Some("models".into()),
        ..choose("team-a/minio", &[])
    };
    assert_eq!(plan(&found, &named).unwrap().changes[0].name, "models");
}

#[test]
fn a_bucket_that_another_backend_serves_is_not_taken_from_it() {
    for serves in ["s3://mlflow/", "s3://"] {
        let mut found = two_teams();
        found.backends.push(backend("store", other_store(serves)));
        let undecided = plan(&found, &options()).unwrap();
        assert_eq!(undecided.changes, []);
        assert!(
            undecided.conflicts[0].message.contains("StorageBackend store"),
            "{serves}"
        );
    }
    // Nor where nobody can read what else it says.
    let mut found = two_teams();
    found
        .backends
        .push(backend("broken", json!({"serves": ["s3://mlflow/"], "typo": true})));
    assert_eq!(plan(&found, &options()).unwrap().conflicts.len(), 1);
}

#[test]
fn a_part_of_what_anyone_may_read_is_told_of() {
    let found = Found {
        secrets: vec![secret("team-a", "hub", &[], &[("HF_TOKEN", "hf_x")])],
        services: vec![by_annotation("team-a", "llm", "hub", "hf://meta-llama/Llama-3.2-1B")],
        backends: vec![backend(
            "public",
            json!({"type": "huggingface", "serves": ["hf://"], "credentials": {"anonymous": {}}}),
        )],
        ..Found::default()
    };
    let plan = plan(&found, &options()).unwrap();
    assert_eq!(plan.changes[0].after.serves, ["hf://meta-llama/"]);
    assert!(
        plan.changes[0].notes[0].contains("StorageBackend public"),
        "{:?}",
        plan.changes[0].notes
    );
}

#[test]
fn a_team_that_came_later_is_granted_what_it_uses_and_nothing_else_changes() {
    let first = plan(&two_teams(), &options()).unwrap();
    let mut found = made(two_teams(), &first);
    found.secrets.push(minio("team-c", "minio", "k1"));
    found
        .services
        .push(by_annotation("team-c", "new", "minio", "s3://new/model"));
    let second = plan(&found, &options()).unwrap();
    let change = &second.changes[0];
    assert!(change.secret.is_none() && change.changes_backend());
    let before = change.before.as_ref().unwrap();
    let grown = &change.after;
    assert_eq!(grown.serves[..2], before.serves[..]);
    assert_eq!(grown.serves[2..], ["s3://new/"]);
    let grants = grown.grants.as_ref().unwrap();
    assert_eq!(grants[..grants.len() - 1], before.grants.as_ref().unwrap()[..]);
    assert_eq!(grants.last().unwrap().namespaces.as_ref().unwrap(), &["team-c"]);
    assert_eq!(plan(&made(found.clone(), &second), &options()).unwrap().changes, []);
    // Whoever keeps the object elsewhere would undo it.
    found.backends[0].kept_by = Some("Helm");
    let kept = plan(&found, &options()).unwrap();
    assert_eq!(kept.changes, []);
    insta::assert_snapshot!(format!("{}\n{}", kept.conflicts[0].message, kept.conflicts[0].next));
}

#[test]
fn what_an_admin_took_out_of_a_grant_by_hand_is_not_put_back_for_a_namespace_that_uses_nothing() {
    let mut found = two_teams();
    found.secrets.push(minio("team-c", "minio", "k1"));
    let first = plan(&found, &options()).unwrap();
    let mut found = made(found, &first);
    found.backends[0].spec["grants"] = json!([{"namespaces": ["team-a", "team-b"]}]);
    let second = plan(&found, &options()).unwrap();
    assert_eq!(second.changes, []);
    assert_eq!(second.skipped[0].source.to_string(), "team-c/minio");
}

#[test]
fn a_backend_that_git_brought_gets_its_secret() {
    let first = plan(&two_teams(), &options()).unwrap();
    let mut found = made(two_teams(), &first);
    found.secrets.retain(|secret| secret.namespace != TIDEWAITER);
    let second = plan(&found, &options()).unwrap();
    let change = &second.changes[0];
    assert!(change.secret.is_some() && !change.changes_backend(), "{second:?}");
    assert_eq!(plan(&made(found, &second), &options()).unwrap().changes, []);
}

#[test]
fn what_tidewaiter_made_or_uses_already_is_no_source() {
    let mut found = two_teams();
    found.secrets[0].labels = texts(&[(MANAGED_BY_LABEL, MANAGED_BY)]);
    found.secrets[1].labels = texts(&[(OWN_STORAGE_LABEL, "")]);
    let plan = plan(&found, &options()).unwrap();
    assert_eq!((plan.changes.len(), plan.skipped.len()), (0, 1));
    assert!(plan.skipped[0].reason.contains("its namespace's own"));
}

#[test]
fn of_several_secrets_the_annotations_counts_else_the_accounts_last() {
    let mut found = Found {
        secrets: vec![
            minio("a", "first", "k1"),
            minio("a", "last", "k2"),
            minio("a", "named", "k3"),
        ],
        accounts: vec![account("a", "default", &["first", "last"])],
        services: vec![by_account("a", "one", "", "s3://one/m")],
        ..Found::default()
    };
    let serves = |found: &Found| -> Vec<(String, Vec<String>)> {
        let plan = plan(found, &options()).unwrap();
        let changes = plan.changes.iter();
        changes
            .map(|change| (change.name.clone(), change.after.serves.clone()))
            .collect()
    };
    assert_eq!(serves(&found), [("last".to_owned(), vec!["s3://one/".to_owned()])]);
    found.services.push(by_annotation("a", "two", "named", "s3://two/m"));
    assert_eq!(serves(&found)[1], ("named".to_owned(), vec!["s3://two/".to_owned()]));
    // KServe has no annotation then, and nobody reads it.
    found.kserve.config.secret_annotation = None;
    assert_eq!(serves(&found)[0].1, ["s3://one/", "s3://two/"]);
}

#[test]
fn a_storage_key_is_a_store_of_its_own() {
    let minio = r#"{"type": "s3", "access_key_id": "id", "secret_access_key": "k1", "endpoint_url": "http://minio:9000", "bucket": "models", "region": "us-east-1"}"#;
    let found = Found {
        secrets: vec![secret(
            "team-a",
            "storage-config",
            &[],
            &[
                ("localMinIO", minio),
                ("hdfs", r#"{"type": "hdfs"}"#),
                ("broken", "{\"type\": "),
            ],
        )],
        services: vec![
            service(
                "team-a",
                "path",
                &json!({}),
                &json!({"model": {"modelFormat": {"name": "sklearn"}, "storage": {"key": "localMinIO", "path": "a/b"}}}),
            ),
            service(
                "team-a",
                "uri",
                &json!({}),
                &json!({"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://other/b", "storage": {"key": "localMinIO"}}}),
            ),
        ],
        ..Found::default()
    };
    let plan = plan(&found, &options()).unwrap();
    assert_eq!(plan.changes.len(), 1, "{plan:?}");
    insta::assert_snapshot!(yaml(&plan.changes[0]));
    let skipped: Vec<_> = plan
        .skipped
        .iter()
        .map(|skipped| format!("{} {}", skipped.source, skipped.reason))
        .collect();
    insta::assert_snapshot!(skipped.join("\n"));
}

#[test]
fn an_endpoint_is_read_as_kserve_reads_it() {
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "k")];
    let endpoint = |annotations: &[(&str, &str)], pairs: &[(&str, &str)], s3: Value| {
        let pairs = [&keys[..], pairs].concat();
        let found = Found {
            secrets: vec![secret("a", "s", annotations, &pairs)],
            services: vec![by_annotation("a", "m", "s", "s3://b/m")],
            kserve: Kserve {
                s3: serde_json::from_value(s3).unwrap(),
                ..Kserve::default()
            },
            ..Found::default()
        };
        let plan = plan(&found, &options()).unwrap();
        let settings = plan.changes.first().and_then(|change| change.after.s3.clone());
        settings.and_then(|settings| settings.endpoint)
    };
    let at = |host| [("serving.kserve.io/s3-endpoint", host)];
    assert_eq!(endpoint(&[], &[], json!({})), None);
    assert_eq!(endpoint(&at("h:9"), &[], json!({})).unwrap(), "https://h:9");
    assert_eq!(endpoint(&at("http://h:9"), &[], json!({})).unwrap(), "http://h:9");
    assert_eq!(
        endpoint(&[], &[("S3_ENDPOINT", "d:9"), ("S3_USE_HTTPS", "0")], json!({})).unwrap(),
        "http://d:9"
    );
    let defaults = json!({"s3Endpoint": "c:9", "s3UseHttps": "0"});
    assert_eq!(endpoint(&[], &[], defaults.clone()).unwrap(), "http://c:9");
    assert_eq!(endpoint(&at("https://h"), &[], defaults).unwrap(), "https://h");
}

#[test]
fn certificates_go_with_the_backend_and_a_store_without_keys_needs_no_secret() {
    let mut ca = minio("a", "ca", "k");
    ca.annotations
        .insert("serving.kserve.io/s3-cabundle-configmap".into(), "corp".into());
    let mut open = minio("a", "open", "k");
    open.annotations
        .insert("serving.kserve.io/s3-useanoncredential".into(), "true".into());
    let mut found = Found {
        secrets: vec![ca, open],
        services: vec![
            by_annotation("a", "one", "ca", "s3://one/m"),
            by_annotation("a", "two", "open", "s3://two/m"),
        ],
        ..Found::default()
    };
    let plan = |found: &Found| super::plan(found, &options()).unwrap();
    assert!(plan(&found).changes[0].notes[0].contains("ConfigMap corp"));
    found.bundles.insert(("a".into(), "corp".into()), "PEM".into());
    let plan = plan(&found);
    let tls = plan.changes[0].after.s3.as_ref().unwrap().tls.clone();
    assert!(tls.unwrap().ca_bundle.is_some());
    assert!(plan.changes[1].secret.is_none());
    assert!(matches!(
        plan.changes[1].after.credentials,
        tidewaiter_core::backend::Credentials::Anonymous(_)
    ));
}

#[test]
fn what_is_asked_for_has_to_make_sense() {
    let found = Found {
        secrets: vec![minio("a", "one", "k1"), minio("a", "two", "k2")],
        ..Found::default()
    };
    let missing = plan(&found, &choose("a/none", &[])).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "a/none is not a Secret that KServe opens a store with"
    );
    let wrong = plan(&found, &choose("a/one", &["archive"])).unwrap_err();
    assert!(
        wrong.to_string().starts_with("--serves: `archive` has no scheme"),
        "{wrong}"
    );
    let both = Options {
        chosen: vec!["a/one".parse().unwrap(), "a/two".parse().unwrap()],
        ..choose("a/one", &["s3://x/"])
    };
    assert!(matches!(
        plan(&found, &both),
        Err(OptionsError::SeveralStores {
            flag: "--serves",
            stores: 2
        })
    ));
    // A prefix of another kind of store is the backend's own complaint.
    let other = plan(&found, &choose("a/one", &["gs://x/"])).unwrap();
    assert_eq!((other.changes.len(), other.conflicts.len()), (0, 1));
}

/// A few names of each kind, so that they meet.
fn any_found() -> impl Strategy<Value = Found> {
    let namespace = || prop::sample::select(vec!["team-a", "team-b", "team-c"]);
    let name = || prop::sample::select(vec!["minio", "store", "models"]);
    let key = || prop::sample::select(vec!["k1", "k2"]);
    let kind = prop::sample::select(vec!["s3", "s3", "gcs", "azure", "huggingface"]);
    let secret = (namespace(), name(), key(), kind).prop_map(|(namespace, name, key, kind)| match kind {
        "gcs" => secret(
            namespace,
            name,
            &[],
            &[(
                "gcloud-application-credentials.json",
                &format!("{{\"private_key\": \"{key}\"}}"),
            )],
        ),
        "azure" => secret(namespace, name, &[], &[("AZURE_STORAGE_ACCESS_KEY", key)]),
        "huggingface" => secret(namespace, name, &[], &[("HF_TOKEN", key)]),
        _ => minio(namespace, name, key),
    });
    let uri = prop::sample::select(vec![
        "s3://mlflow/1/m",
        "s3://features/m",
        "gs://models/m",
        "hf://owner/model",
        "https://acc.blob.core.windows.net/models/m",
    ]);
    let service = (namespace(), name(), uri, any::<bool>()).prop_map(|(namespace, secret, uri, annotated)| {
        if annotated {
            by_annotation(namespace, "m", secret, uri)
        } else {
            by_account(namespace, "m", secret, uri)
        }
    });
    let account = (namespace(), name(), prop::collection::vec(name(), 0..3))
        .prop_map(|(namespace, name, secrets)| account(namespace, name, &secrets));
    let there = prop::option::of(prop::sample::select(vec!["s3://mlflow/", "s3://", "gs://models/x/"]));
    (
        prop::collection::vec(secret, 0..7),
        prop::collection::vec(account, 0..5),
        prop::collection::vec(service, 0..9),
        there,
    )
        .prop_map(|(mut secrets, mut accounts, services, there)| {
            let mut known = BTreeSet::new();
            secrets.retain(|secret: &FoundSecret| known.insert((secret.namespace.clone(), secret.name.clone())));
            let mut known = BTreeSet::new();
            accounts.retain(|account: &FoundAccount| known.insert((account.namespace.clone(), account.name.clone())));
            let backends = there.map(|serves| {
                if serves.starts_with("s3") {
                    backend("there", other_store(serves))
                } else {
                    backend(
                        "there",
                        json!({"type": "gcs", "serves": [serves], "credentials": {"workloadIdentity": {}}}),
                    )
                }
            });
            Found {
                secrets,
                accounts,
                services,
                backends: backends.into_iter().collect(),
                ..Found::default()
            }
        })
}

fn backends(found: &Found) -> Backends {
    let backends = found.backends.iter().map(|backend| {
        let spec = serde_json::from_value(backend.spec.clone()).unwrap();
        Backend::new(&backend.name, spec).unwrap()
    });
    Backends::new(backends.collect()).0
}

proptest! {
    #[test]
    fn an_import_of_what_an_import_made_is_nothing_to_do(found in any_found()) {
        let first = plan(&found, &options()).unwrap();
        let after = made(found, &first);
        let second = plan(&after, &options()).unwrap();
        prop_assert_eq!(&second.changes, &Vec::new());
        // Nothing is forgotten, and no two backends serve the same.
        prop_assert_eq!(&first.conflicts, &second.conflicts);
        let specs = after.backends.iter().map(|backend| {
            Backend::new(&backend.name, serde_json::from_value(backend.spec.clone()).unwrap()).unwrap()
        });
        prop_assert_eq!(Backends::new(specs.collect()).1, Vec::new());
    }

    #[test]
    fn whoever_loaded_with_a_secret_is_served_by_the_backend_that_was_made_of_it(found in any_found()) {
        let candidates = stores::candidates(&found, TIDEWAITER, &uses::by_key(&found));
        let uses = uses::uses(&found, &candidates);
        let plan = plan(&found, &options()).unwrap();
        let backends = backends(&made(found, &plan));
        for change in &plan.changes {
            for source in &change.sources {
                for uri in uses.get(source).into_iter().flatten() {
                    let resolved = backends.resolve_text(uri, &source.namespace, None);
                    let served = matches!(resolved, Resolved::Served(backend) if backend.name() == change.name);
                    prop_assert!(served, "{} loads {}: {:?}", source, uri, resolved);
                }
            }
        }
    }

    #[test]
    fn an_import_takes_nothing_from_a_backend_that_was_there(found in any_found()) {
        let before = backends(&found);
        let plan = plan(&found, &options()).unwrap();
        let after = backends(&made(found, &plan));
        for uri in ["s3://mlflow/1/m", "s3://features/m", "gs://models/m", "gs://models/x/y"] {
            if let Resolved::Served(was) = before.resolve_text(uri, "team-a", None) {
                let now = after.resolve_text(uri, "team-a", None);
                prop_assert!(matches!(now, Resolved::Served(is) if is.name() == was.name()), "{}: {:?}", uri, now);
            }
        }
    }

    #[test]
    fn a_source_reads_back_as_it_is_written(namespace in "[a-z]{1,8}", name in "[a-z.]{1,8}", key in prop::option::of("[a-zA-Z_.]{1,8}")) {
        let source = Source { namespace, secret: name, key };
        prop_assert_eq!(source.to_string().parse::<Source>(), Ok(source));
    }
}
