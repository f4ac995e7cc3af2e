//! KServe's configuration may name another annotation than the shipped one, or none.

use super::*;

pub(super) const ANNOTATION: &str = "corp.example/store-secret";
const ON_SERVICE: &str = "/metadata/annotations/corp.example~1store-secret";

fn renamed() -> World {
    with_managed(world()).secret_annotation(Some(ANNOTATION))
}

/// A service with a model there, and a Secret named by each of these annotations.
fn annotated(uri: &str, annotations: &[(&str, &str)]) -> Value {
    let mut object = service(json!({"predictor": {"model": {"storageUri": uri}}}));
    for (name, secret) in annotations {
        object["metadata"]["annotations"][name] = json!(secret);
    }
    object
}

fn not_granted() -> Resolution {
    Resolution::NotGranted(NotGranted {
        backend: "minio".to_owned(),
        allowed: Vec::new(),
        contact: None,
    })
}

#[test]
fn the_annotation_that_kserve_reads_is_filled_in() {
    let verdict = review(&renamed(), &bare());
    assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
    // KServe doesn't read the shipped one.
    let verdict = review(&renamed(), &annotated("s3://mlflow/1", &[(super::ANNOTATION, "own")]));
    assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
}

#[test]
fn credentials_that_it_names_are_the_users_in_every_store() {
    let world = renamed().resolve("s3://refused/", not_granted()).brought(
        None,
        Some("own"),
        Brought::Usable("Secret own".to_owned()),
    );
    let strict = Settings {
        unserved: Unserved::Deny,
    };
    for (uri, told) in [
        ("s3://mlflow/1", true),
        ("s3://refused/1", true),
        ("s3://nobody/1", false),
    ] {
        let object = annotated(uri, &[(ANNOTATION, "own")]);
        let verdict = world.review_with::<StorageCredentials>(&create(&object), &strict);
        untouched(&verdict);
        let expected: &[&str] = if told {
            &["predictor keeps its own credentials: Secret own"]
        } else {
            &[]
        };
        assert_eq!(verdict.warnings, expected, "{uri}");
        // By the shipped name it says nothing to KServe.
        let object = annotated(uri, &[(super::ANNOTATION, "own")]);
        let verdict = world.review_with::<StorageCredentials>(&create(&object), &strict);
        assert_eq!(verdict.denial.is_some(), uri != "s3://mlflow/1", "{uri}");
    }
    let denied = world.review_with::<StorageCredentials>(&create(&annotated("s3://nobody/1", &[])), &strict);
    assert!(denial(&denied).1.contains(ANNOTATION), "{denied:?}");
}

#[test]
fn our_own_secret_named_by_it_is_no_way_around_the_grants() {
    for (resolution, code) in [
        (not_granted(), "prefix-not-granted"),
        (Resolution::Unserved, "managed-secret"),
    ] {
        let world = renamed().resolve("s3://mlflow/", resolution);
        let object = annotated("s3://mlflow/1", &[(ANNOTATION, "tidewaiter-minio")]);
        assert_eq!(denial(&review(&world, &object)).0, code);
    }
    let mut key = annotated("s3://mlflow/1", &[(ANNOTATION, "tidewaiter-minio")]);
    key["spec"]["predictor"]["model"] = json!({"storage": {"key": "minio", "path": "team-b/m"}});
    let verdict = review(&renamed(), &key);
    let (code, message, _) = denial(&verdict);
    assert_eq!(code, "managed-secret");
    assert!(message.contains(ANNOTATION), "{message}");
}

#[test]
fn without_one_an_annotation_says_nothing_and_a_service_account_delivers() {
    let world = with_managed(delivered_by(Delivery::ServiceAccount)).secret_annotation(None);
    let object = annotated("s3://mlflow/1", &[(super::ANNOTATION, "own"), (ANNOTATION, "own")]);
    assert_eq!(
        fills(&review(&world, &object)),
        [("/spec/predictor/serviceAccountName", r#""tidewaiter-minio""#)]
    );
    let strict = Settings {
        unserved: Unserved::Deny,
    };
    let denied = world.review_with::<StorageCredentials>(&create(&annotated("s3://nobody/1", &[])), &strict);
    assert!(
        denial(&denied).1.ends_with("or list a Secret in its ServiceAccount"),
        "{denied:?}"
    );
}
