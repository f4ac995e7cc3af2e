use proptest::prelude::*;

use super::*;

fn uri(text: &str) -> StorageUri {
    StorageUri::parse(text).unwrap()
}

fn refusal(text: &str) -> String {
    StorageUri::parse(text).unwrap_err().to_string()
}

#[test]
fn every_form_of_kserve_is_taken_apart() {
    for (text, scheme, authority, key) in [
        (
            "s3://mlflow/1/models/m-1/artifacts",
            Scheme::S3,
            "mlflow",
            "1/models/m-1/artifacts",
        ),
        ("s3://mlflow/1/", Scheme::S3, "mlflow", "1"),
        ("s3://mlflow", Scheme::S3, "mlflow", ""),
        ("s3://mlflow//a//b", Scheme::S3, "mlflow", "a//b"),
        ("gs://bucket/a?b", Scheme::Gs, "bucket", "a?b"),
        (
            "https://host:8443/a/b.joblib?sig=1#x",
            Scheme::Https,
            "host:8443",
            "a/b.joblib",
        ),
        ("http://host/a", Scheme::Http, "host", "a"),
        ("hf://meta-llama/Llama-4:main", Scheme::Hf, "meta-llama", "Llama-4:main"),
        ("hdfs://user/me/model", Scheme::Hdfs, "", "user/me/model"),
        ("webhdfs:///user/me", Scheme::WebHdfs, "", "user/me"),
        ("pvc://claim/models", Scheme::Pvc, "claim", "models"),
        (
            "oci://registry:5000/image:tag",
            Scheme::Oci,
            "registry:5000",
            "image:tag",
        ),
        ("oci+native://registry/image", Scheme::Oci, "registry", "image"),
        ("file:///mnt/models", Scheme::File, "", "mnt/models"),
        ("/mnt/models/x", Scheme::File, "", "mnt/models/x"),
        ("models", Scheme::File, "", "models"),
        ("model-registry://a/b", Scheme::Other, "", "a/b"),
    ] {
        let parsed = uri(text);
        assert_eq!(
            (parsed.scheme(), parsed.authority(), parsed.key()),
            (scheme, authority, key),
            "{text}"
        );
        assert_eq!(parsed.to_string(), text);
    }
    assert_eq!(uri("hf://o/m:rev").revision(), Some("rev"));
    assert_eq!(uri("hf://o/m").revision(), None);
}

#[test]
fn azure_hosts_are_known_by_their_names() {
    let azure = |text: &str| {
        uri(text)
            .azure()
            .map(|a| (a.account.to_owned(), a.container.to_owned(), a.path.to_owned()))
    };
    let parts = |a: &str, c: &str, p: &str| Some((a.to_owned(), c.to_owned(), p.to_owned()));
    assert_eq!(
        azure("https://acct.blob.core.windows.net/models/a/b/"),
        parts("acct", "models", "a/b")
    );
    assert_eq!(
        azure("https://acct.file.core.windows.net/share/a"),
        parts("acct", "share", "a")
    );
    assert_eq!(
        azure("https://acct.z12.blob.storage.azure.net/c/x"),
        parts("acct", "c", "x")
    );
    assert_eq!(azure("https://acct.z123.blob.storage.azure.net/c/x"), None);
    assert_eq!(azure("https://acct.blob.core.windows.net.evil.example/c/x"), None);
    assert_eq!(azure("https://acct.blob.core.windows.net"), None);
}

#[test]
fn what_kserve_cannot_load_says_what_to_write_instead() {
    assert!(refusal("models:/fraud/1").contains("write the URI of its artifacts"));
    assert!(refusal("models://fraud/1").contains("write the URI of its artifacts"));
    assert!(refusal("runs:/abc/model").contains("s3://mlflow/"));
    assert!(refusal("mlflow-artifacts:/1/abc").contains("behind the proxy"));
    assert!(refusal("s3a://b/k").contains("write s3://b/k"));
    assert!(refusal("gcs://b/k").contains("write gs://b/k"));
    assert!(refusal("S3://b/k").contains("s3://b/k"));
    assert!(refusal("abfss://c@acct.dfs.core.windows.net/a/b").contains("https://acct.blob.core.windows.net/c/a/b"));
}

#[test]
fn malformed_uris_are_refused_with_the_reason() {
    for (text, reason) in [
        ("", "empty"),
        ("  ", "empty"),
        ("s3://", "bucket's name is missing"),
        ("s3:///key", "bucket's name is missing"),
        ("s3:bucket/key", "two slashes"),
        ("s3://bucket/a ", "ends with a blank"),
        ("s3://buc ket/a", "blank before its path"),
        ("s3://bucket/a\tb", "control character"),
        ("s3://bucket:80/a", "no bucket has"),
        ("gs://arn:aws:s3:::b/a", "no bucket has"),
        ("s3://bucket/a?x=1", "`?`"),
        ("s3://bucket/../other", "`..` segment"),
        ("s3://bucket/a/%2e%2E/b", "`..` segment"),
        ("s3://bucket/a/..%2fb", "`..` segment"),
        ("s3://bucket/./a", "`..` segment"),
        ("/mnt/models/../../etc", "`..` segment"),
        ("https://user:hunter2@host/x", "user or password"),
        ("https:///x", "host's name is missing"),
        ("https://?x=/y", "host's name is missing"),
        ("hf://owner", "hf://owner/model"),
        ("hf://owner/model/file", "hf://owner/model"),
        ("hf://owner/my model", "hf://owner/model"),
        ("hf://owner/model/", "write hf://owner/model"),
        ("hf://owner//model:main", "write hf://owner/model:main"),
        ("pvc:///x", "claim's name is missing"),
    ] {
        assert!(refusal(text).contains(reason), "{text}: {}", refusal(text));
    }
}

#[test]
fn what_kserve_loads_is_let_pass_however_odd_it_looks() {
    for (text, authority, key) in [
        ("s3://bucket/credit risk/v 1", "bucket", "credit risk/v 1"),
        ("gs://bucket/Modèle final", "bucket", "Modèle final"),
        (
            "s3://arn:aws:s3:us-west-2:123456789012:accesspoint:models/fraud",
            "arn:aws:s3:us-west-2:123456789012:accesspoint:models",
            "fraud",
        ),
    ] {
        let uri = uri(text);
        assert_eq!((uri.authority(), uri.key()), (authority, key));
    }
}

#[test]
fn a_password_is_never_repeated() {
    assert!(!refusal("https://user:hunter2@host/x").contains("hunter2"));
    assert!(
        !refusal("s3a://user:hunter2@host/x").contains("hunter2"),
        "{}",
        refusal("s3a://user:hunter2@host/x")
    );
}

#[test]
fn a_file_below_a_model_has_one_slash_before_it() {
    assert_eq!(uri("s3://b/m").join("MLmodel").unwrap().as_str(), "s3://b/m/MLmodel");
    assert_eq!(uri("s3://b/m/").join("MLmodel").unwrap().as_str(), "s3://b/m/MLmodel");
    assert_eq!(uri("s3://b").join("MLmodel").unwrap().as_str(), "s3://b/MLmodel");
    assert_eq!(
        uri("https://h/m/?sig=1").join("MLmodel").unwrap().as_str(),
        "https://h/m/MLmodel?sig=1"
    );
    assert!(uri("s3://b/m").join("../x").is_err());
}

#[test]
fn a_pattern_holds_by_whole_segments() {
    let holds = |pattern: &str, text: &str| UriPattern::parse(pattern).unwrap().holds_for(&uri(text), "team-a");
    for (pattern, text, expected) in [
        ("s3://mlflow", "s3://mlflow/x", true),
        ("s3://mlflow/", "s3://mlflow", true),
        ("s3://mlflow", "s3://mlflow-2/x", false),
        ("s3://mlflow/team-a", "s3://mlflow/team-ab/x", false),
        ("s3://mlflow/team-a", "s3://mlflow/team-a/x", true),
        ("s3://mlflow/team-a", "s3://mlflow/team-a", true),
        // KServe lists by text prefix: without its slash this would bring team-ab's objects along.
        ("s3://mlflow/team-a/", "s3://mlflow/team-a", false),
        ("s3://mlflow/team-a/", "s3://mlflow/team-a/", true),
        ("s3://mlflow/team-a/", "s3://mlflow//team-a/x", true),
        ("s3://mlflow/{namespace}/", "s3://mlflow/team-a/x", true),
        ("s3://mlflow/{namespace}/", "s3://mlflow/team-b/x", false),
        ("s3://models-{namespace}/", "s3://models-team-a/x", true),
        ("s3://*-prod/", "s3://x-prod/y", true),
        ("s3://b/*/models", "s3://b/x/models/1", true),
        ("s3://b/*/models", "s3://b/x/y/models", false),
        ("s3://", "s3://any/thing", true),
        ("s3://", "gs://any/thing", false),
        ("https://Host.example/", "https://host.example/x?y", true),
        (
            "https://*.blob.core.windows.net/",
            "https://acct.blob.core.windows.net/c/p",
            true,
        ),
        ("hf://meta-llama/", "hf://meta-llama/Llama-4:main", true),
        ("hf://meta-llama/Llama-4", "hf://meta-llama/Llama-4:main", true),
        ("hdfs://user/me/", "hdfs://user/me/x", true),
    ] {
        assert_eq!(holds(pattern, text), expected, "{pattern} on {text}");
    }
}

#[test]
fn a_bad_pattern_says_why() {
    for (pattern, reason) in [
        ("", "is empty"),
        ("mlflow", "no scheme"),
        ("s3://b/**/x", "`**`"),
        ("s3://b/[ab]", "`[`"),
        ("s3://b/../x", "segment"),
        ("pvc://claim", "needs no credentials"),
        ("models://x", "no backend serves"),
        ("s3:///x", "no bucket"),
    ] {
        let error = UriPattern::parse(pattern).unwrap_err();
        assert!(error.contains(reason), "{pattern}: {error}");
    }
}

proptest! {
    #[test]
    fn what_parses_displays_as_written_and_parses_again(text in "(s3|gs|https|hf|hdfs|pvc|oci|file|S3|x)?:?/{0,3}[a-z@.%2e/?#:*-]{0,30}") {
        if let Ok(parsed) = StorageUri::parse(&text) {
            prop_assert_eq!(parsed.to_string(), text);
            prop_assert_eq!(&StorageUri::parse(parsed.as_str()).unwrap(), &parsed);
            let _ = (parsed.authority(), parsed.key(), parsed.azure(), parsed.revision());
        }
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,60}", pattern in "\\PC{0,40}") {
        if let (Ok(uri), Ok(pattern)) = (StorageUri::parse(&text), UriPattern::parse(&pattern)) {
            pattern.holds(&uri);
        }
        let _ = StorageUri::parse(&text).map(|uri| uri.join("MLmodel"));
    }

    #[test]
    fn no_path_leaves_its_prefix(path in "[a-z./%2eEfF-]{0,24}") {
        let pattern = UriPattern::parse("s3://mlflow/team-a/").unwrap();
        if let Ok(uri) = StorageUri::parse(&format!("s3://mlflow/{path}"))
            && pattern.holds(&uri)
        {
            prop_assert!(uri.key_as_written().starts_with("team-a/"));
            prop_assert!(!uri.key().split('/').any(|segment| segment == ".."));
        }
    }
}

#[test]
fn every_scheme_that_is_told_as_known_is() {
    let named = Scheme::KNOWN.replace("http(s)", "http, https");
    for scheme in named.split(", ") {
        assert_ne!(Scheme::of(scheme), Scheme::Other, "{scheme}");
    }
}
