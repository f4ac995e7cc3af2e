use proptest::prelude::*;

use super::*;
use crate::backend::StorageBackendSpec;

fn backend(kind: &str, rest: &str) -> Backend {
    let serves = match kind {
        "s3" => "s3://mlflow/",
        "gcs" => "gs://b/",
        "azure" => "https://acct.blob.core.windows.net/",
        "huggingface" => "hf://",
        "https" => "https://models.example/",
        _ => "hdfs://",
    };
    let json = format!(r#"{{"type": "{kind}", "serves": ["{serves}"], {rest}}}"#);
    let json = if rest.contains("\"credentials\"") {
        json
    } else {
        json.replacen(
            '{',
            r#"{"credentials": {"secretRef": {"namespace": "minio", "name": "root"}}, "#,
            1,
        )
        .replace(", }", "}")
    };
    Backend::new("minio", serde_json::from_str::<StorageBackendSpec>(&json).unwrap()).unwrap()
}

fn source(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn made(backend: &Backend, pairs: &[(&str, &str)]) -> SecretContents {
    kserve_secret(backend, &source(pairs), &KserveConfig::default()).unwrap()
}

fn refused(backend: &Backend, pairs: &[(&str, &str)]) -> String {
    kserve_secret(backend, &source(pairs), &KserveConfig::default())
        .unwrap_err()
        .to_string()
}

fn data(contents: &SecretContents, key: &str) -> String {
    String::from_utf8(contents.data[key].expose().to_vec()).unwrap()
}

fn annotations(contents: &SecretContents) -> Vec<(String, String)> {
    contents
        .annotations
        .iter()
        .map(|(key, value)| {
            (
                key.strip_prefix("serving.kserve.io/").unwrap().to_owned(),
                value.clone(),
            )
        })
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

const ROOT: [(&str, &str); 2] = [("rootUser", "minioadmin"), ("rootPassword", "hunter2")];

#[test]
fn minio_by_http_is_what_the_guides_write_by_hand() {
    let minio = backend(
        "s3",
        r#""s3": {"endpoint": "http://minio.minio.svc:9000", "region": "us-east-1"}"#,
    );
    let secret = made(&minio, &ROOT);
    assert_eq!(
        annotations(&secret),
        pairs(&[
            ("s3-endpoint", "minio.minio.svc:9000"),
            ("s3-region", "us-east-1"),
            ("s3-usehttps", "0")
        ])
    );
    assert_eq!(
        (
            data(&secret, "AWS_ACCESS_KEY_ID").as_str(),
            data(&secret, "AWS_SECRET_ACCESS_KEY").as_str()
        ),
        ("minioadmin", "hunter2")
    );
    let key: serde_json::Value = serde_json::from_str(&data(&secret, storage_key("minio"))).unwrap();
    assert_eq!(
        key,
        serde_json::json!({"type": "s3", "access_key_id": "minioadmin", "secret_access_key": "hunter2", "endpoint_url": "http://minio.minio.svc:9000", "region": "us-east-1"})
    );
}

#[test]
fn every_setting_of_s3_has_its_annotation() {
    for (settings, expected) in [
        ("{}", vec![]),
        (
            r#"{"endpoint": "s3.example"}"#,
            pairs(&[("s3-endpoint", "s3.example"), ("s3-usehttps", "1")]),
        ),
        (
            r#"{"pathStyle": false, "accelerate": true}"#,
            pairs(&[("s3-useaccelerate", "true"), ("s3-usevirtualbucket", "true")]),
        ),
        (
            r#"{"tls": {"insecureSkipVerify": true, "caBundle": {"inline": "PEM"}}}"#,
            pairs(&[("s3-verifyssl", "0")]),
        ),
        (
            r#"{"tls": {"caBundle": {"inline": "PEM"}}}"#,
            pairs(&[("s3-cabundle-configmap", "tidewaiter-minio")]),
        ),
    ] {
        let secret = made(&backend("s3", &format!(r#""s3": {settings}"#)), &ROOT);
        assert_eq!(annotations(&secret), expected, "{settings}");
    }
}

#[test]
fn keys_are_found_in_every_usual_spelling() {
    for (id, secret) in [
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("awsAccessKeyID", "awsSecretAccessKey"),
        ("aws_access_key_id", "aws_secret_access_key"),
        ("accessKey", "secretKey"),
        ("accesskey", "secretkey"),
        ("access-key", "secret-key"),
        ("rootUser", "rootPassword"),
        ("root-user", "root-password"),
        ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
        ("CONSOLE_ACCESS_KEY", "CONSOLE_SECRET_KEY"),
    ] {
        let made = made(
            &backend("s3", r#""s3": {}"#),
            &[(id, "me\n"), (secret, " pass\n"), ("unrelated", "x")],
        );
        assert_eq!(
            (
                data(&made, "AWS_ACCESS_KEY_ID").as_str(),
                data(&made, "AWS_SECRET_ACCESS_KEY").as_str()
            ),
            ("me", "pass"),
            "{id}"
        );
    }
}

#[test]
fn the_two_halves_of_a_key_belong_together() {
    let made = made(
        &backend("s3", r#""s3": {}"#),
        &[
            ("accessKey", "user"),
            ("rootUser", "root"),
            ("rootPassword", "rootpass"),
        ],
    );
    assert_eq!(
        (
            data(&made, "AWS_ACCESS_KEY_ID").as_str(),
            data(&made, "AWS_SECRET_ACCESS_KEY").as_str()
        ),
        ("root", "rootpass")
    );
}

#[test]
fn kserves_own_key_names_are_written() {
    let config = KserveConfig {
        s3_access_key_id: "awsAccessKeyID".into(),
        s3_secret_access_key: "awsSecretAccessKey".into(),
        ..KserveConfig::default()
    };
    let made = kserve_secret(&backend("s3", r#""s3": {}"#), &source(&ROOT), &config).unwrap();
    let keys: Vec<_> = made.data.keys().map(String::as_str).collect();
    assert_eq!(keys, ["awsAccessKeyID", "awsSecretAccessKey", "minio"]);
    assert_eq!(recognise(keys, &config), Some(BackendType::S3));
}

#[test]
fn keys_of_ones_own_are_named_by_the_backend() {
    let named = backend(
        "s3",
        r#""credentials": {"secretRef": {"namespace": "minio", "name": "root", "keys": {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "pass"}}}"#,
    );
    assert_eq!(
        data(&made(&named, &[("user", "u"), ("pass", "p")]), "AWS_ACCESS_KEY_ID"),
        "u"
    );
    let error = refused(&named, &[("user", "u"), ("accessKey", "x"), ("secretKey", "y")]);
    assert!(error.contains("minio/root") && error.contains("`pass`"), "{error}");
}

#[test]
fn a_missing_key_names_the_secret_and_the_keys_but_no_value() {
    let error = refused(
        &backend("s3", r#""s3": {}"#),
        &[("rootUser", "hunter2"), ("rootPassword", "")],
    );
    assert!(
        error.contains("Secret minio/root has no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        "{error}"
    );
    assert!(
        error.contains("it has others;") && !error.contains("hunter2"),
        "{error}"
    );
    assert!(refused(&backend("s3", r#""s3": {}"#), &[]).contains("it is empty"));
}

#[test]
fn an_anonymous_s3_store_still_needs_its_settings_delivered() {
    let public = backend(
        "s3",
        r#""credentials": {"anonymous": {}}, "s3": {"endpoint": "https://data.example"}"#,
    );
    let secret = made(&public, &[]);
    assert_eq!(
        annotations(&secret),
        pairs(&[
            ("s3-endpoint", "data.example"),
            ("s3-useanoncredential", "true"),
            ("s3-usehttps", "1")
        ])
    );
    assert_eq!(
        recognise(secret.data.keys().map(String::as_str), &KserveConfig::default()),
        Some(BackendType::S3)
    );
    assert!(public.delivers_credentials());
    assert!(!backend("huggingface", r#""credentials": {"anonymous": {}}"#).delivers_credentials());
}

#[test]
fn every_other_kind_of_store_has_the_keys_that_kserve_looks_for() {
    let service_account = r#"{"type": "service_account"}"#;
    for (kind, given, expected) in [
        (
            "gcs",
            vec![("google_application_credentials", service_account)],
            pairs(&[("gcloud-application-credentials.json", service_account)]),
        ),
        (
            "azure",
            vec![
                ("azure_client_id", "i"),
                ("AZ_CLIENT_SECRET", "s"),
                ("AZURE_TENANT_ID", "t"),
            ],
            pairs(&[
                ("AZURE_CLIENT_ID", "i"),
                ("AZURE_CLIENT_SECRET", "s"),
                ("AZURE_SUBSCRIPTION_ID", ""),
                ("AZURE_TENANT_ID", "t"),
            ]),
        ),
        (
            "azure",
            vec![("AZURE_CLIENT_ID", "i"), ("AZURE_STORAGE_ACCESS_KEY", "k")],
            pairs(&[("AZURE_STORAGE_ACCESS_KEY", "k")]),
        ),
        (
            "azure",
            vec![("AZURE_ACCESS_TOKEN", "t"), ("AZURE_ACCOUNT_NAME", "a")],
            pairs(&[("AZURE_ACCESS_TOKEN", "t"), ("AZURE_ACCOUNT_NAME", "a")]),
        ),
        ("huggingface", vec![("token", "hf_x\n")], pairs(&[("HF_TOKEN", "hf_x")])),
        (
            "https",
            vec![("headers", r#"{"Authorization": "x"}"#)],
            pairs(&[
                ("headers", r#"{"Authorization": "x"}"#),
                ("https-host", "models.example"),
            ]),
        ),
        (
            "hdfs",
            vec![("HDFS_NAMENODE", "http://nn"), ("tls_ca", "pem"), ("other", "x")],
            pairs(&[("HDFS_NAMENODE", "http://nn"), ("TLS_CA", "pem")]),
        ),
    ] {
        let backend = backend(kind, r#""contact": "x""#);
        let made = made(&backend, &given);
        let found: Vec<_> = made.data.keys().map(|key| (key.clone(), data(&made, key))).collect();
        assert_eq!(found, expected, "{kind}");
        assert_eq!(
            recognise(made.data.keys().map(String::as_str), &KserveConfig::default()),
            Some(backend.spec().kind),
            "{kind}"
        );
        assert!(made.annotations.is_empty());
    }
}

#[test]
fn what_kserve_could_not_read_is_refused() {
    assert!(
        refused(&backend("gcs", r#""contact": "x""#), &[("credentials.json", "hunter2")]).contains("not a JSON object")
    );
    assert!(!refused(&backend("gcs", r#""contact": "x""#), &[("credentials.json", "hunter2")]).contains("hunter2"));
    assert!(
        refused(
            &backend("https", r#""contact": "x""#),
            &[("headers", "Authorization: x")]
        )
        .contains("not a JSON object")
    );
    assert!(refused(&backend("hdfs", r#""contact": "x""#), &[("TLS_CA", "x")]).contains("no HDFS_NAMENODE"));
    assert!(
        refused(&backend("azure", r#""contact": "x""#), &[("AZURE_CLIENT_ID", "x")])
            .contains("AZURE_STORAGE_ACCESS_KEY")
    );
    let binary = BTreeMap::from([("HF_TOKEN".to_owned(), vec![0xff_u8, 0xfe])]);
    let error = kserve_secret(
        &backend("huggingface", r#""contact": "x""#),
        &binary,
        &KserveConfig::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("key HF_TOKEN: it is not text"), "{error}");
}

#[test]
fn a_secret_is_recognised_as_kserve_does_it() {
    let config = KserveConfig::default();
    for (keys, expected) in [
        (
            vec!["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN"],
            Some(BackendType::S3),
        ),
        (vec!["AWS_SECRET_ACCESS_KEY"], None),
        (vec!["awsSecretAccessKey", "awsAccessKeyID"], None),
        (
            vec!["gcloud-application-credentials.json", "AZURE_CLIENT_ID"],
            Some(BackendType::Gcs),
        ),
        (vec!["AZ_CLIENT_ID"], Some(BackendType::Azure)),
        (vec!["https-host", "headers"], Some(BackendType::Https)),
        // KServe stops at the host, finds no headers, and gives nothing.
        (vec!["https-host", "HF_TOKEN"], None),
        (vec!["HDFS_NAMENODE"], Some(BackendType::Hdfs)),
        (vec!["HF_TOKEN"], Some(BackendType::HuggingFace)),
        (vec!["token", "ca.crt", "namespace"], None),
        (vec![], None),
    ] {
        assert_eq!(recognise(keys.iter().copied(), &config), expected, "{keys:?}");
    }
}

proptest! {
    #[test]
    fn no_value_is_ever_shown(key in "(rootUser|rootPassword|accessKey|secretKey|HF_TOKEN|headers|credentials.json|HDFS_NAMENODE|x)", value in "Z[A-Z0-9]{12}") {
        for kind in ["s3", "gcs", "azure", "huggingface", "https", "hdfs"] {
            let source = source(&[(&key, &value), ("rootUser", &value)]);
            let shown = match kserve_secret(&backend(kind, r#""contact": "x""#), &source, &KserveConfig::default()) {
                Ok(contents) => format!("{contents:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains(&value), "{}", shown);
        }
    }
}
