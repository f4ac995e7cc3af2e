//! What Tidewaiter keeps in a namespace, named by its users; and what can't be looked at.

use super::*;

fn managed() -> Brought {
    Brought::Managed(vec!["tidewaiter-minio".to_owned()])
}

/// Our Secret under each of its names, and a ServiceAccount of the user's that lists it.
pub(super) fn with_managed(world: World) -> World {
    world
        .brought(None, Some("tidewaiter-minio"), managed())
        .brought(Some("tidewaiter-minio"), None, managed())
        .brought(Some("lists-ours"), None, managed())
}

/// What a user may write to have KServe use our Secret.
fn ways_to_name_ours() -> [Value; 5] {
    let annotated = json!({ANNOTATION: "tidewaiter-minio"});
    [
        json!({"metadata": {"annotations": annotated}}),
        json!({"spec": {"predictor": {"annotations": annotated}}}),
        json!({"spec": {"predictor": {"serviceAccountName": "tidewaiter-minio"}}}),
        json!({"spec": {"predictor": {"serviceAccountName": "lists-ours"}}}),
        json!({"metadata": {"annotations": annotated}, "spec": {"predictor": {"model": {"storage": {"key": "minio"}}}}}),
    ]
}

#[test]
fn our_own_secret_is_no_way_around_the_grants() {
    let refused = Resolution::NotGranted(NotGranted {
        backend: "minio".to_owned(),
        allowed: vec!["s3://mlflow/team-a/".to_owned()],
        contact: None,
    });
    for change in ways_to_name_ours() {
        let mut object = bare();
        merge(&mut object, &change);
        let resolved = |resolution| with_managed(world().resolve("s3://mlflow/", resolution));
        let code = |resolution| denial(&review(&resolved(resolution), &object)).0.to_owned();
        assert_eq!(code(refused.clone()), "prefix-not-granted", "{change}");
        // Our key may open what no backend serves, and the endpoint that it is for may hold another one's bucket.
        assert_eq!(code(Resolution::Unserved), "managed-secret", "{change}");
        assert_eq!(
            code(Resolution::Served(Served {
                anonymous: true,
                ..served("public")
            })),
            "managed-secret",
            "{change}"
        );
        let granted = review(&with_managed(world()), &object);
        assert_eq!(granted.denial, None, "{change}");
    }
}

#[test]
fn our_own_secret_opens_no_other_store() {
    let other = Resolution::Served(served("other"));
    for (change, fixed) in ways_to_name_ours().iter().zip([true, true, false, false, true]) {
        let mut object = bare();
        merge(&mut object, change);
        let verdict = review(&with_managed(world().resolve("s3://mlflow/", other.clone())), &object);
        if fixed {
            assert_eq!(denial(&verdict).0, "managed-secret", "{change}");
        } else {
            // The annotation comes before a ServiceAccount's Secrets.
            assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-other""#)], "{change}");
        }
    }
}

#[test]
fn a_service_account_that_lists_our_secret_is_one_way_where_kserve_knows_no_annotation() {
    let deaf = |backend: &str| {
        let served = Served {
            delivery: Delivery::ServiceAccount,
            ..served(backend)
        };
        with_managed(world().resolve("s3://mlflow/", Resolution::Served(served))).secret_annotation(None)
    };
    let mut object = bare();
    merge(
        &mut object,
        &json!({"spec": {"predictor": {"serviceAccountName": "lists-ours"}}}),
    );
    let verdict = review(&deaf("minio"), &object);
    assert_eq!(
        (fills(&verdict), effects(&verdict)),
        (vec![], vec![("minio", Delivery::Annotation)])
    );
    assert_eq!(denial(&review(&deaf("other"), &object)).0, "managed-secret");
}

#[test]
fn a_storage_key_in_our_secret_needs_a_uri_to_judge_by() {
    let object = |annotations: Value| {
        json!({"metadata": {"annotations": annotations}, "spec": {"predictor": {"model": {
            "storage": {"key": "minio", "path": "team-b/m", "parameters": {"bucket": "mlflow"}}}}}})
    };
    let verdict = review(&with_managed(world()), &object(json!({ANNOTATION: "tidewaiter-minio"})));
    let (code, message, path) = denial(&verdict);
    assert_eq!((code, path), ("managed-secret", Some("/spec/predictor/model/storage")));
    assert!(message.contains("storageUri"), "{message}");
    for annotations in [json!({}), json!({ANNOTATION: "own"})] {
        untouched(&review(&with_managed(world()), &object(annotations)));
    }
}

#[test]
fn a_failed_look_takes_nothing_away_and_gives_what_was_asked_for() {
    let unknown = || Brought::Unknown("ServiceAccount x can't be read (no answer in time)".to_owned());
    // Delivered beside a ServiceAccount of the user's.
    let mut object = bare();
    merge(
        &mut object,
        &json!({"spec": {"predictor": {"serviceAccountName": "sa"}}}),
    );
    let mut request = testing::update(&object, &object);
    request.filled = vec![Entry {
        path: ON_SERVICE.to_owned(),
        value: r#""tidewaiter-minio""#.to_owned(),
    }];
    let world = world()
        .brought(Some("sa"), None, unknown())
        .brought(None, None, unknown());
    let verdict = world.review::<StorageCredentials>(&request);
    assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
    assert_eq!(verdict.warnings.len(), 1);
    // Of another ServiceAccount nothing is known.
    let mut changed = testing::update(&bare(), &object);
    changed.object = object.to_string();
    changed.old_object = Some(bare().to_string());
    changed.filled = request.filled.clone();
    untouched(&world.review::<StorageCredentials>(&changed));
    untouched(&review(&world, &object));
    // Who named nothing gets what everyone gets.
    let verdict = review(&world, &bare());
    assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
    assert_eq!(
        verdict.warnings,
        ["predictor may have its own credentials: ServiceAccount x can't be read (no answer in time)"]
    );
    // And nobody what wasn't granted.
    let refused = Resolution::NotGranted(NotGranted {
        backend: "minio".to_owned(),
        allowed: Vec::new(),
        contact: None,
    });
    let world = world.resolve("s3://mlflow/", refused);
    assert_eq!(denial(&review(&world, &object)).0, "prefix-not-granted");
}
