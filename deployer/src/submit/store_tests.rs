use super::*;

fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretValue> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), SecretValue::from((*value).to_owned())))
        .collect()
}

fn of(pairs: &[(&str, &str)], settings: &StoreSettings) -> Result<Option<Store>, StoreError> {
    Store::of(keys(pairs), settings, &KserveConfig::default())
}

fn minio() -> StoreSettings {
    StoreSettings {
        endpoint: Some("minio.minio:9000".to_owned()),
        region: Some("us-east-1".to_owned()),
        use_https: Some(false),
        verify_ssl: None,
    }
}

const PAIR: [(&str, &str); 2] = [("aws_access_key_id", "the-id"), ("aws_secret_access_key", "the-key")];

#[test]
fn the_guides_secret_is_made_of_the_guides_keys() {
    let store = of(&PAIR, &minio()).unwrap().unwrap();
    let [secret, account] = secret_objects(&store, "minio", "team-a", &KserveConfig::default()).unwrap();
    assert_eq!(
        secret["metadata"]["annotations"],
        json!({
            "serving.kserve.io/s3-endpoint": "minio.minio:9000",
            "serving.kserve.io/s3-usehttps": "0",
            "serving.kserve.io/s3-region": "us-east-1",
        })
    );
    assert_eq!(
        secret["data"],
        json!({"AWS_ACCESS_KEY_ID": "dGhlLWlk", "AWS_SECRET_ACCESS_KEY": "dGhlLWtleQ=="})
    );
    assert_eq!(account["secrets"], json!([{"name": "minio"}]));
    assert_ne!(
        secret["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "tidewaiter"
    );
}

#[test]
fn the_clusters_own_key_names_are_used() {
    let config = KserveConfig {
        s3_access_key_id: "awsAccessKeyID".to_owned(),
        s3_secret_access_key: "awsSecretAccessKey".to_owned(),
        ..KserveConfig::default()
    };
    let store = Store::of(keys(&PAIR), &minio(), &config).unwrap().unwrap();
    let [secret, _] = secret_objects(&store, "minio", "team-a", &config).unwrap();
    assert!(secret["data"]["awsSecretAccessKey"].is_string(), "{secret}");
}

#[test]
fn google_and_azure_are_known_by_their_keys() {
    let google = of(
        &[("google_application_credentials", r#"{"type": "service_account"}"#)],
        &StoreSettings::default(),
    );
    let [secret, _] = secret_objects(&google.unwrap().unwrap(), "a", "b", &KserveConfig::default()).unwrap();
    assert!(
        secret["data"]["gcloud-application-credentials.json"].is_string(),
        "{secret}"
    );
    let azure = of(
        &[
            ("azure_client_id", "a"),
            ("azure_client_secret", "b"),
            ("azure_tenant_id", "c"),
            ("azure_subscription_id", "d"),
        ],
        &StoreSettings::default(),
    );
    let [secret, _] = secret_objects(&azure.unwrap().unwrap(), "a", "b", &KserveConfig::default()).unwrap();
    assert!(secret["data"]["AZURE_CLIENT_SECRET"].is_string(), "{secret}");
}

#[test]
fn what_makes_no_sense_is_told_by_key_and_never_by_value() {
    let none = StoreSettings::default();
    let told = |pairs: &[(&str, &str)], settings: &StoreSettings| {
        let error = of(pairs, settings).unwrap_err();
        let told = format!("{error}; {}; {error:?}", error.next());
        assert!(!told.contains("s3cret"), "{told}");
        told
    };
    assert!(told(&[("aws_access_key_id", "s3cret")], &none).contains("AWS_SECRET_ACCESS_KEY"));
    assert!(told(&[("aws_access_key_id", "s3cret"), ("hf_token", "s3cret")], &none).contains("several stores"));
    assert!(told(&[("google_application_credentials", "s3cret")], &none).contains("not a JSON object"));
    assert!(told(&[("password", "s3cret")], &none).contains("`password` is no credential"));
    assert!(told(&[], &minio()).contains("aws_access_key_id"));
    assert!(told(&[("hf_token", "s3cret")], &minio()).contains("S3's to have"));
    let mut bad = minio();
    bad.endpoint = Some("http://me:s3cret@minio".to_owned());
    let error = of(&PAIR, &bad).unwrap_err();
    assert!(matches!(error, StoreError::Endpoint { .. }), "{error}");
    assert!(
        error.to_string().contains("`http://minio`") && !error.to_string().contains("s3cret"),
        "{error}"
    );
    assert_eq!(of(&[], &none).unwrap(), None);
}

#[test]
fn nothing_secret_is_shown() {
    let store = of(&PAIR, &minio()).unwrap().unwrap();
    let shown = format!("{store:?}");
    assert!(!shown.contains("the-key") && !shown.contains("the-id"), "{shown}");
}
