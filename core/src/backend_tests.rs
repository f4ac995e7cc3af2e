use super::*;
use crate::backends::{Backends, OwnSecrets, Resolved, UnusableBackend};
use crate::uri::StorageUri;

fn spec(json: &str) -> StorageBackendSpec {
    serde_json::from_str(json).unwrap()
}

fn backend(name: &str, json: &str) -> Backend {
    Backend::new(name, spec(json)).unwrap()
}

fn problems(json: &str) -> String {
    Backend::new("minio", spec(json)).unwrap_err().join("\n")
}

fn s3(rest: &str) -> String {
    format!(r#"{{"type": "s3", "credentials": {{"secretRef": {{"namespace": "minio", "name": "root"}}}}, {rest}}}"#)
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn served_by(backends: &Backends, uri: &str, namespace: &str) -> String {
    match backends.resolve_text(uri, namespace, None) {
        Resolved::Served(backend) => backend.name().to_owned(),
        Resolved::NotGranted {
            backend,
            allowed,
            contact,
        } => {
            format!(
                "{} not granted, allowed {allowed:?}, ask {}",
                backend.name(),
                contact.unwrap_or("nobody")
            )
        }
        Resolved::Unusable(unusable) => format!("{} unusable", unusable.name),
        Resolved::Unserved => "unserved".to_owned(),
        Resolved::NoCredentials => "no credentials".to_owned(),
        Resolved::Unsupported(reason) => reason,
    }
}

#[test]
fn a_spec_keeps_its_form_through_json() {
    let text = s3(
        r#""serves": ["s3://mlflow/"], "s3": {"endpoint": "http://minio:9000", "tls": {"caBundle": {"configMap": {"namespace": "a", "name": "b"}}}},
        "grants": [{"namespaces": ["team-*"], "namespaceSelector": {"matchLabels": {"a": "b"}}, "prefixes": ["s3://mlflow/{namespace}/"]}], "contact": "x""#,
    );
    let spec = spec(&text);
    assert!(spec.s3.as_ref().unwrap().uses_path_style());
    assert_eq!(
        serde_json::from_value::<StorageBackendSpec>(serde_json::to_value(&spec).unwrap()).unwrap(),
        spec
    );
    let CaBundle::ConfigMap(key) = spec.s3.unwrap().tls.unwrap().ca_bundle.unwrap() else {
        panic!("a ConfigMap was given")
    };
    assert_eq!(key.key, "cabundle.crt");
}

#[test]
fn an_unknown_field_is_named() {
    for json in [
        s3(r#""serves": ["s3://b/"], "gransts": []"#),
        s3(r#""serves": ["s3://b/"], "s3": {"endpont": "x"}"#),
        r#"{"type": "s3", "serves": [], "credentials": {"anonymous": {"typo": 1}}}"#.to_owned(),
    ] {
        let error = serde_json::from_str::<StorageBackendSpec>(&json)
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
}

#[test]
fn each_mistake_is_one_sentence_that_names_the_field() {
    for (rest, expected) in [
        (r#""serves": []"#, "spec.serves: is empty"),
        (r#""serves": ["s3://b/[x]"]"#, "spec.serves[0]: `s3://b/[x]` has `[`"),
        (
            r#""serves": ["gs://b/"]"#,
            "is not for a store of type s3; it serves s3://",
        ),
        (r#""serves": ["s3://{namespace}/"]"#, "belongs into grants"),
        (
            r#""serves": ["s3://b/"], "huggingface": {}"#,
            "spec.huggingface: the type is s3",
        ),
        (
            r#""serves": ["s3://b/"], "s3": {"endpoint": "ftp://x"}"#,
            "has the scheme `ftp`",
        ),
        (
            r#""serves": ["s3://b/"], "s3": {"endpoint": "http://x:port"}"#,
            "has `port` for a port",
        ),
        (
            r#""serves": ["s3://b/"], "s3": {"endpoint": "http://u:p@x"}"#,
            "belongs into the Secret",
        ),
        (
            r#""serves": ["s3://b/"], "grants": [{"namespaces": ["a?"]}]"#,
            "spec.grants[0].namespaces: `a?` has `?`",
        ),
        (
            r#""serves": ["s3://b/"], "grants": [{"prefixes": ["s3://c/"]}]"#,
            "outside of what the backend serves",
        ),
        (r#""serves": ["s3://b/"], "minting": {}"#, "spec.minting: is for MinIO"),
        (
            r#""serves": ["s3://b/"], "s3": {"endpoint": "http://x"}, "minting": {"keyLifetime": "30"}"#,
            "spec.minting.keyLifetime: the unit is",
        ),
        (
            r#""serves": ["s3://b/"], "s3": {"endpoint": "http://x"}, "minting": {"keyLifetime": "59m"}"#,
            "spec.minting.keyLifetime: must be between 1h and 365d",
        ),
    ] {
        let found = problems(&s3(rest));
        assert!(found.contains(expected), "{rest}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    assert!(
        problems(
            r#"{"type": "gcs", "serves": ["gs://b/"], "delivery": "storageKey", "credentials": {"anonymous": {}}}"#
        )
        .contains("for s3 only")
    );
    assert!(Backend::new("Minio!", spec(&s3(r#""serves": ["s3://b/"]"#))).unwrap_err()[0].contains("metadata.name"));
}

#[test]
fn the_longest_prefix_is_taken() {
    let (backends, overlaps) = Backends::new(vec![
        backend("all", &s3(r#""serves": ["s3://"]"#)),
        backend("mlflow", &s3(r#""serves": ["s3://mlflow/"]"#)),
        backend("team", &s3(r#""serves": ["s3://mlflow/team-a/", "s3://*-prod/"]"#)),
    ]);
    assert_eq!(overlaps, []);
    for (uri, expected) in [
        ("s3://mlflow/team-a/x", "team"),
        ("s3://mlflow/team-ab/x", "mlflow"),
        ("s3://mlflow/x", "mlflow"),
        ("s3://x-prod/x", "team"),
        ("s3://x/y", "all"),
        ("gs://x/y", "unserved"),
        ("pvc://claim/x", "no credentials"),
        ("oci://image", "no credentials"),
        ("/mnt/models", "no credentials"),
    ] {
        assert_eq!(served_by(&backends, uri, "team-a"), expected, "{uri}");
    }
    assert!(served_by(&backends, "models:/x/1", "team-a").contains("KServe can't load"));
}

#[test]
fn two_backends_for_the_same_prefix_are_reported_and_the_first_name_is_taken() {
    let (backends, overlaps) = Backends::new(vec![
        backend("b", &s3(r#""serves": ["s3://mlflow/"]"#)),
        backend("c", &s3(r#""serves": ["s3://mlflow/", "s3://c/"]"#)),
        backend("a", &s3(r#""serves": ["s3://mlflow", "s3://mlflow/"]"#)),
    ]);
    let told: Vec<_> = overlaps
        .iter()
        .map(|overlap| (&*overlap.taken, &*overlap.passed_over, &*overlap.prefix))
        .collect();
    assert_eq!(told, [("a", "b", "s3://mlflow/"), ("a", "c", "s3://mlflow/")]);
    assert_eq!(served_by(&backends, "s3://mlflow/x", "n"), "a");
}

#[test]
fn a_namespace_uses_what_it_is_granted_and_nothing_beside() {
    let (backends, _) = Backends::new(vec![backend(
        "minio",
        &s3(r##""serves": ["s3://mlflow/"], "contact": "#ml-platform",
            "grants": [{"namespaces": ["team-*"], "prefixes": ["s3://mlflow/{namespace}/"]}, {"namespaces": ["ops"]}]"##),
    )]);
    assert_eq!(served_by(&backends, "s3://mlflow/team-a/x", "team-a"), "minio");
    assert_eq!(served_by(&backends, "s3://mlflow/team-b/x", "ops"), "minio");
    let refused = r#"minio not granted, allowed ["s3://mlflow/team-a/"], ask #ml-platform"#;
    for uri in [
        "s3://mlflow/team-b/x",
        "s3://mlflow/team-ab/x",
        "s3://mlflow/",
        "s3://mlflow",
        "s3://mlflow/team-a",
    ] {
        assert_eq!(served_by(&backends, uri, "team-a"), refused, "{uri}");
    }
    assert!(served_by(&backends, "s3://mlflow/team-a/../team-b/x", "team-a").contains("segment"));
    assert!(served_by(&backends, "s3://mlflow/team-a/%2e%2e/team-b/x", "team-a").contains("segment"));
    assert_eq!(
        served_by(&backends, "s3://mlflow/x", "default"),
        "minio not granted, allowed [], ask #ml-platform"
    );
}

#[test]
fn a_uri_lies_in_the_widest_part_that_is_granted() {
    let backend = backend(
        "minio",
        &s3(
            r#""serves": ["s3://b/", "s3://team-*/models/"], "grants": [{"namespaces": ["a"], "prefixes":
            ["s3://b/{namespace}/", "s3://b/{namespace}/deep/er/", "s3://b/*/shared", "s3://team-*/models/"]}]"#,
        ),
    );
    let root = |uri: &str| {
        let uri = StorageUri::parse(uri).unwrap();
        backend.granted_root(&uri, "a", None).map(str::to_owned)
    };
    for (uri, expected) in [
        ("s3://b/a/fraud", Some("a/")),
        ("s3://b/a/deep/er/fraud", Some("a/")),
        ("s3://b/a/", Some("a/")),
        ("s3://b/a", None),
        ("s3://b/x/shared/fraud", Some("x/shared")),
        ("s3://b/x/shared", Some("x/shared")),
        ("s3://team-z/models/fraud/1", Some("models/")),
        ("s3://elsewhere/fraud", None),
        ("s3://b/ab/fraud", None),
    ] {
        assert_eq!(root(uri).as_deref(), expected, "{uri}");
    }
}

#[test]
fn no_grants_at_all_let_everyone_in_and_an_empty_list_nobody() {
    let (open, _) = Backends::new(vec![backend("open", &s3(r#""serves": ["s3://b/"]"#))]);
    assert_eq!(served_by(&open, "s3://b/x", "anyone"), "open");
    let (closed, _) = Backends::new(vec![backend("closed", &s3(r#""serves": ["s3://b/"], "grants": []"#))]);
    assert_eq!(
        served_by(&closed, "s3://b/x", "anyone"),
        "closed not granted, allowed [], ask nobody"
    );
}

#[test]
fn a_grant_by_label_needs_the_label() {
    let (backends, _) = Backends::new(vec![backend(
        "minio",
        &s3(r#""serves": ["s3://b/"], "grants": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]"#),
    )]);
    let uri = StorageUri::parse("s3://b/x").unwrap();
    assert!(matches!(
        backends.resolve(&uri, "n", Some(&labels(&[("team", "a")]))),
        Resolved::Served(_)
    ));
    assert!(matches!(
        backends.resolve(&uri, "n", Some(&labels(&[("team", "b")]))),
        Resolved::NotGranted { .. }
    ));
}

#[test]
fn labels_that_are_not_known_fulfil_no_grant_not_even_one_for_their_absence() {
    let grants = r#""serves": ["s3://b/"], "grants": [
        {"namespaceSelector": {"matchExpressions": [{"key": "untrusted", "operator": "DoesNotExist"}]}},
        {"namespaces": ["n"], "prefixes": ["s3://b/n/"]}]"#;
    let (backends, _) = Backends::new(vec![backend("minio", &s3(grants))]);
    assert!(backends.asks_for_labels());
    let served = |uri: &str, labels| {
        matches!(
            backends.resolve(&StorageUri::parse(uri).unwrap(), "n", labels),
            Resolved::Served(_)
        )
    };
    let none = labels(&[]);
    assert!(served("s3://b/x", Some(&none)));
    assert!(!served("s3://b/x", None));
    assert!(served("s3://b/n/x", None), "granted by name");
}

#[test]
fn a_namespaces_own_secret_opens_what_its_prefix_says() {
    let (own, problems) = OwnSecrets::new([
        ("a", "s3://b/", "wide"),
        ("a", "s3://b/x/", "close"),
        ("b", "s3://b/", "other"),
        ("a", "b/x", "bad"),
    ]);
    assert_eq!(problems.len(), 1);
    assert_eq!((&*problems[0].namespace, &*problems[0].name), ("a", "bad"));
    assert!(problems[0].reason.starts_with("the prefix `b/x`"), "{:?}", problems[0]);
    let find = |uri: &str, namespace: &str| {
        own.resolve(&StorageUri::parse(uri).unwrap(), namespace)
            .map(str::to_owned)
    };
    assert_eq!(find("s3://b/x/1", "a").as_deref(), Some("close"));
    assert_eq!(find("s3://b/y", "a").as_deref(), Some("wide"));
    assert_eq!(find("s3://b/y", "c"), None);
}

#[cfg(feature = "crd")]
#[test]
fn the_schema_is_one_that_kubernetes_takes() {
    use kube::CustomResourceExt;
    let crd = serde_json::to_value(StorageBackend::crd()).unwrap();
    assert_eq!(crd["spec"]["scope"], "Cluster");
    let text = crd.to_string();
    assert!(
        !text.contains("additionalProperties\":false"),
        "structural schemas can't have it beside properties"
    );
    assert!(!text.contains("$ref"));
}

#[test]
fn a_backend_that_cannot_be_used_keeps_what_it_serves_more_closely_than_others() {
    let unusable = |name: &str, serves: &str| {
        let spec = serde_json::json!({"type": 3, "serves": [serves, 4, "no pattern"], "contact": "#ml"});
        UnusableBackend::read(name, &spec, "why".to_owned()).unwrap()
    };
    let (good, _) = Backends::new(vec![backend(
        "minio",
        &s3(r#""serves": ["s3://mlflow/", "s3://mlflow/b/"]"#),
    )]);
    let backends = good.with_unusable(vec![
        unusable("broad", "s3://"),
        unusable("a", "s3://mlflow/a/"),
        unusable("b", "s3://mlflow/b/"),
    ]);
    for (uri, expected) in [
        ("s3://other/1", "broad unusable"),
        ("s3://mlflow/1", "minio"),
        ("s3://mlflow/a/1", "a unusable"),
        ("s3://mlflow/b/1", "minio"),
        ("gs://mlflow/b/1", "unserved"),
    ] {
        assert_eq!(served_by(&backends, uri, "team"), expected, "{uri}");
    }
    for spec in [
        serde_json::json!(null),
        serde_json::json!({"serves": "s3://b/"}),
        serde_json::json!({"serves": []}),
    ] {
        assert_eq!(UnusableBackend::read("x", &spec, String::new()), None);
    }
}
