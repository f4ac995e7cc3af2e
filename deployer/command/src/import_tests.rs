use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_deployer::import::{Found, FoundAccount, FoundBackend, FoundSecret, FoundService, plan};

use super::*;

fn secret(name: &str, annotations: &[(&str, &str)], data: &[(&str, &str)]) -> FoundSecret {
    FoundSecret {
        namespace: "team-a".into(),
        name: name.into(),
        labels: BTreeMap::new(),
        annotations: annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        data: data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), SecretValue::from((*value).to_owned())))
            .collect(),
    }
}

/// A Secret of each kind, whole ones and broken ones, all with this for a key; some are loaded with.
fn cluster(key: &str) -> Found {
    let json_file = json!({"private_key": key}).to_string();
    let storage_key =
        json!({"type": "s3", "access_key_id": key, "secret_access_key": key, "bucket": "keyed"}).to_string();
    let minio = [("serving.kserve.io/s3-endpoint", "minio:9000")];
    let pair = [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", key)];
    let secrets = vec![
        secret("minio", &minio, &pair),
        secret("unused", &[], &pair),
        secret(
            "half",
            &[],
            &[("AWS_SECRET_ACCESS_KEY", key), ("AWS_ACCESS_KEY_ID", "")],
        ),
        secret("gcs", &[], &[("gcloud-application-credentials.json", &json_file)]),
        secret("gcs-broken", &[], &[("gcloud-application-credentials.json", key)]),
        secret(
            "azure",
            &[],
            &[("AZ_CLIENT_ID", "id"), ("AZ_CLIENT_SECRET", key), ("AZ_TENANT_ID", "t")],
        ),
        secret("hub", &[], &[("HF_TOKEN", key)]),
        secret("files", &[], &[("https-host", "files.example.com"), ("headers", key)]),
        secret(
            "storage-config",
            &[],
            &[
                ("whole", &storage_key),
                ("broken", key),
                ("half", &format!("{{\"type\": \"s3\", \"x\": \"{key}\"}}")),
            ],
        ),
    ];
    let service = |secret: &str, uri: &str| FoundService {
        kind: "InferenceService",
        namespace: "team-a".into(),
        name: secret.into(),
        json: json!({
            "metadata": {"name": secret, "annotations": {"serving.kserve.io/storageSecretName": secret}},
            "spec": {"predictor": {"model": {"storageUri": uri}}},
        })
        .to_string(),
    };
    let services = vec![
        service("minio", "s3://mlflow/a"),
        service("gcs", "gs://models/a"),
        service("azure", "https://acc.blob.core.windows.net/models/a"),
        service("hub", "hf://owner/model"),
        service("files", "https://files.example.com/a"),
    ];
    let accounts = vec![FoundAccount {
        namespace: "team-a".into(),
        name: "default".into(),
        secrets: vec!["minio".into()],
    }];
    let there = FoundBackend {
        name: "hub".into(),
        spec: json!({"type": "s3", "serves": ["s3://x/"], "credentials": {"anonymous": {}}}),
        kept_by: None,
        resource_version: None,
    };
    Found {
        secrets,
        accounts,
        services,
        backends: vec![there],
        ..Found::default()
    }
}

fn planned(found: &Found) -> Plan {
    let options = Options {
        tidewaiter: "tidewaiter-system".into(),
        ..Options::default()
    };
    plan(found, &options).unwrap()
}

fn all(plan: &Plan) -> String {
    let parts = [
        left(plan),
        shown(plan).unwrap(),
        objects(plan, Format::Yaml).unwrap(),
        objects(plan, Format::Json).unwrap(),
        secrets(plan),
        format!("{plan:?}"),
    ];
    parts.concat()
}

#[test]
fn what_would_be_done_is_shown_as_a_table_and_in_full() {
    let plan = planned(&cluster("KEY"));
    let text = format!("{}{}", left(&plan), shown(&plan).unwrap());
    insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string());
}

#[test]
fn for_a_program_there_are_the_backends_alone() {
    let mut plan = planned(&cluster("KEY"));
    plan.changes.truncate(1);
    let text = objects(&plan, Format::Yaml).unwrap();
    assert!(text.starts_with("---\napiVersion: tidewaiter.dev/v1alpha1\n"), "{text}");
    assert!(!text.contains("kind: Secret"), "{text}");
    assert!(secrets(&plan).contains("AZURE_CLIENT_SECRET"), "{}", secrets(&plan));
}

#[test]
fn it_ends_well_only_where_nothing_is_left() {
    let mut plan = planned(&cluster("KEY"));
    assert_eq!(ending(&plan, true), Ending::Something, "there is a conflict");
    plan.conflicts.clear();
    assert_eq!(ending(&plan, true), Ending::Nothing);
    assert_eq!(ending(&plan, false), Ending::Something);
    plan.changes.clear();
    assert_eq!(ending(&plan, false), Ending::Nothing);
}

proptest! {
    // Long enough that it stands nowhere by chance.
    #[test]
    fn no_key_is_ever_shown(key in "[A-Za-z0-9/+]{16,40}") {
        let plan = planned(&cluster(&key));
        prop_assert!(plan.changes.len() > 2 && plan.skipped.len() > 2);
        let text = all(&plan);
        for hidden in [key.clone(), base64(key.as_bytes())] {
            prop_assert!(!text.contains(&hidden), "{}", text);
        }
    }
}

/// As a Secret's YAML would have it.
fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap()
}
