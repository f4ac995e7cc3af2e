use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_policy::storage::{Brought, Delivery, NotGranted, Resolution, Served, Unusable};
use tidewaiter_policy::testing::{self, World, create, served};
use tidewaiter_policy::{Credentials, Effect, Entry, Policy, Request, Verdict};

use super::*;

mod lines;
mod managed;
mod renamed;

use managed::with_managed;

const ANNOTATION: &str = "serving.kserve.io/storageSecretName";
const ON_SERVICE: &str = "/metadata/annotations/serving.kserve.io~1storageSecretName";
const ON_PREDICTOR: &str = "/spec/predictor/annotations/serving.kserve.io~1storageSecretName";

fn world() -> World {
    World::new()
        .serve("s3://mlflow/", "minio")
        .serve("s3://other/", "other")
        .resolve("pvc://", Resolution::NoCredentials)
}

fn delivered_by(delivery: Delivery) -> World {
    world().resolve(
        "s3://mlflow/",
        Resolution::Served(Served {
            delivery,
            ..served("minio")
        }),
    )
}

fn service(spec: impl Into<Value>) -> Value {
    json!({"metadata": {"name": "fraud"}, "spec": spec.into()})
}

fn bare() -> Value {
    service(json!({"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": "s3://mlflow/1/m"}}}))
}

fn review(world: &World, object: &Value) -> Verdict {
    world.review::<StorageCredentials>(&create(object))
}

fn llm(spec: Value) -> Request {
    Request {
        kind: "LLMInferenceService".to_owned(),
        ..create(&service(spec))
    }
}

fn fills(verdict: &Verdict) -> Vec<(&str, &str)> {
    assert_eq!(verdict.denial, None);
    verdict
        .fills
        .iter()
        .map(|fill| (fill.path.as_str(), fill.value.as_str()))
        .collect()
}

fn effects(verdict: &Verdict) -> Vec<(&str, Delivery)> {
    verdict
        .effects
        .iter()
        .map(|Effect::Credentials(Credentials { backend, delivery })| (backend.as_str(), *delivery))
        .collect()
}

fn untouched(verdict: &Verdict) {
    assert_eq!((fills(verdict), effects(verdict)), (vec![], vec![]), "{verdict:?}");
}

fn denial(verdict: &Verdict) -> (&str, &str, Option<&str>) {
    assert!(verdict.fills.is_empty() && verdict.effects.is_empty(), "{verdict:?}");
    let denial = verdict.denial.as_ref().expect("a denial");
    (&denial.code, &denial.message, denial.path.as_deref())
}

#[test]
fn a_bare_manifest_gets_the_annotation_and_the_secret() {
    let world = world();
    let verdict = review(&world, &bare());
    assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
    assert_eq!(effects(&verdict), [("minio", Delivery::Annotation)]);
    assert_eq!(verdict.warnings, Vec::<String>::new());
    assert_eq!(verdict.fills[0].reason, "StorageBackend minio serves the URI");
    assert_eq!(world.calls().to_stores(), 0, "no store is asked");
}

#[test]
fn every_shape_that_carries_a_model_gets_the_annotation() {
    let container = json!({"name": "kserve-container", "env": [{"name": "STORAGE_URI", "value": "s3://mlflow/1/m"}]});
    for spec in [
        json!({"predictor": {"sklearn": {"storageUri": "s3://mlflow/1/m"}}}),
        json!({"predictor": {"containers": [container]}}),
        json!({"predictor": {"model": {}, "storageUris": [{"uri": "s3://mlflow/1/m"}, {"uri": "s3://mlflow/2/m"}]}}),
        json!({"predictor": {"model": {"storageUri": "s3://mlflow/1"}}, "transformer": {"containers": [container]}}),
        json!({"predictor": {"model": {"storageUri": "s3://mlflow/1"}}, "canary": [{"predictor": {"model": {"storageUri": "s3://mlflow/2"}}}]}),
        json!({"predictor": {"model": {"storageUri": "pvc://claim/m"}}, "explainer": {"art": {"storageUri": "s3://mlflow/e"}}}),
    ] {
        let verdict = review(&world(), &service(spec.clone()));
        assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)], "{spec}");
        assert_eq!(effects(&verdict).len(), 1, "{spec}");
    }
    let verdict = world().review::<StorageCredentials>(&llm(
        json!({"model": {"uri": "s3://mlflow/m", "lora": {"adapters": [{"uri": "s3://mlflow/a"}]}}, "prefill": {}}),
    ));
    assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
}

#[test]
fn a_service_that_loads_nothing_by_a_uri_is_left_alone() {
    for object in [
        service(json!({"predictor": {"triton": {}}})),
        service(json!({"predictor": {"model": {"storageUri": "pvc://claim/m"}}})),
        service(json!({"predictor": {"model": {"storage": {"key": "k", "path": "p"}}}})),
        json!({"metadata": {"labels": {"internal.serving.kserve.io/localmodel": "cache"}}, "spec": bare()["spec"]}),
        json!({"metadata": {"annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}}, "spec": bare()["spec"]}),
        json!({"metadata": {"deletionTimestamp": "2026-11-22T00:00:00Z"}, "spec": bare()["spec"]}),
        json!({}),
    ] {
        let verdict = review(&world(), &object);
        untouched(&verdict);
        assert_eq!(verdict.warnings, Vec::<String>::new(), "{object}");
    }
}

#[test]
fn a_model_whose_uri_cannot_be_seen_is_told_unless_its_user_brought_credentials() {
    let hidden = json!({"name": "STORAGE_URI", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "uri"}}});
    let by_path = "gets no credentials: storage without key names no store; write storageUri in its place";
    let by_variable = "gets no credentials: STORAGE_URI by valueFrom can't be seen; write it as a plain value";
    for (spec, expected) in [
        (
            json!({"predictor": {"model": {"storage": {"path": "models/fraud"}}}}),
            format!("predictor {by_path}"),
        ),
        (
            json!({"predictor": {"sklearn": {"storage": {"parameters": {"type": "s3", "bucket": "mlflow"}}}}}),
            format!("predictor {by_path}"),
        ),
        (
            json!({"predictor": {"containers": [{"env": [hidden]}]}}),
            format!("predictor {by_variable}"),
        ),
        (
            json!({"predictor": {"triton": {}}, "transformer": {"containers": [{"env": [hidden]}]}}),
            format!("transformer {by_variable}"),
        ),
    ] {
        let object = service(spec);
        let verdict = review(&world(), &object);
        untouched(&verdict);
        assert_eq!(verdict.warnings, [expected], "{object}");

        let mut annotated = object.clone();
        annotated["metadata"]["annotations"] = json!({ANNOTATION: "own"});
        let own = world().brought(None, Some("own"), Brought::Usable("Secret own".to_owned()));
        assert_eq!(review(&own, &annotated).warnings, Vec::<String>::new(), "{annotated}");
    }
    // A ServiceAccount opens what a container downloads; KServe doesn't look at it for `storage`.
    let own = world().brought(
        None,
        None,
        Brought::Usable("ServiceAccount default with Secret x".to_owned()),
    );
    let warnings = |spec| review(&own, &service(spec)).warnings.len();
    assert_eq!(warnings(json!({"predictor": {"containers": [{"env": [hidden]}]}})), 0);
    assert_eq!(warnings(json!({"predictor": {"model": {"storage": {"path": "p"}}}})), 1);
    // Nothing is downloaded.
    assert_eq!(warnings(json!({"predictor": {"model": {"storage": {}}}})), 0);
}

#[test]
fn who_brought_credentials_keeps_them_and_is_told() {
    let usable = |what: &str| Brought::Usable(what.to_owned());
    for (change, brought, expected) in [
        (
            json!({"metadata": {"annotations": {ANNOTATION: "own"}}}),
            (None, Some("own"), usable("Secret own")),
            "predictor keeps its own credentials: Secret own",
        ),
        (
            json!({"spec": {"predictor": {"annotations": {ANNOTATION: "own"}}}}),
            (None, Some("own"), usable("Secret own")),
            "predictor keeps its own credentials: Secret own",
        ),
        (
            json!({"spec": {"predictor": {"serviceAccountName": "sa"}}}),
            (Some("sa"), None, usable("ServiceAccount sa with Secret minio")),
            "predictor keeps its own credentials: ServiceAccount sa with Secret minio",
        ),
        (
            json!({}),
            (None, None, usable("ServiceAccount default with an identity of AWS")),
            "predictor keeps its own credentials: ServiceAccount default with an identity of AWS",
        ),
        (
            json!({"spec": {"predictor": {"serviceAccountName": "sa"}}}),
            (Some("sa"), None, Brought::Missing("ServiceAccount sa".to_owned())),
            "predictor keeps its own credentials, not usable yet: ServiceAccount sa",
        ),
        (
            json!({"metadata": {"annotations": {ANNOTATION: ""}}}),
            (None, Some(""), Brought::Nothing),
            "predictor keeps its own credentials, not usable yet: an annotation that names no Secret",
        ),
        (
            json!({"spec": {"predictor": {"model": {"storage": {"key": "mine"}}}}}),
            (None, None, Brought::Nothing),
            "predictor keeps its own credentials: storage key mine",
        ),
        (
            json!({"spec": {"predictor": {"model": {"storage": {}}}}}),
            (None, None, Brought::Nothing),
            "predictor keeps its own credentials: storage",
        ),
    ] {
        let mut object = bare();
        merge(&mut object, &change);
        for delivery in [Delivery::Annotation, Delivery::ServiceAccount, Delivery::StorageKey] {
            let verdict = review(
                &delivered_by(delivery).brought(brought.0, brought.1, brought.2.clone()),
                &object,
            );
            untouched(&verdict);
            assert_eq!(verdict.warnings, [expected], "{object}");
        }
    }
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

#[test]
fn our_own_names_written_by_hand_are_made_true() {
    for (change, delivery) in [
        (
            json!({"metadata": {"annotations": {ANNOTATION: "tidewaiter-minio"}}}),
            Delivery::Annotation,
        ),
        (
            json!({"spec": {"predictor": {"annotations": {ANNOTATION: "tidewaiter-minio"}}}}),
            Delivery::Annotation,
        ),
        (
            json!({"spec": {"predictor": {"serviceAccountName": "tidewaiter-minio"}}}),
            Delivery::ServiceAccount,
        ),
        (
            json!({"metadata": {"annotations": {ANNOTATION: "tidewaiter-minio"}}, "spec": {"predictor": {"model": {"storage": {"key": "minio"}}}}}),
            Delivery::StorageKey,
        ),
    ] {
        let mut object = bare();
        merge(&mut object, &change);
        let verdict = review(&world(), &object);
        assert_eq!(
            (fills(&verdict), effects(&verdict)),
            (vec![], vec![("minio", delivery)]),
            "{object}"
        );
        assert_eq!(verdict.warnings, Vec::<String>::new());
    }
}

#[test]
fn a_service_account_is_filled_in_where_the_backend_says_so() {
    let world = delivered_by(Delivery::ServiceAccount);
    let verdict = review(&world, &bare());
    assert_eq!(
        fills(&verdict),
        [("/spec/predictor/serviceAccountName", r#""tidewaiter-minio""#)]
    );
    assert_eq!(effects(&verdict), [("minio", Delivery::ServiceAccount)]);
    let verdict = world.review::<StorageCredentials>(&llm(json!({"model": {"uri": "s3://mlflow/m"}, "prefill": {}})));
    let expected = [
        ("/spec/template/serviceAccountName", r#""tidewaiter-minio""#),
        ("/spec/prefill/template/serviceAccountName", r#""tidewaiter-minio""#),
    ];
    assert_eq!(fills(&verdict), expected);
}

#[test]
fn a_users_service_account_without_credentials_stays_and_the_annotation_helps() {
    let mut object = bare();
    merge(
        &mut object,
        &json!({"spec": {"predictor": {"serviceAccountName": "sa"}}}),
    );
    let verdict = review(&delivered_by(Delivery::ServiceAccount), &object);
    assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
    assert_eq!(effects(&verdict), [("minio", Delivery::Annotation)]);
    let verdict = review(&delivered_by(Delivery::ServiceAccount).secret_annotation(None), &object);
    untouched(&verdict);
    assert_eq!(
        verdict.warnings,
        ["predictor gets no credentials: list Secret tidewaiter-minio in its ServiceAccount"]
    );
}

#[test]
fn a_storage_key_is_filled_in_for_a_predictor_alone() {
    let world = delivered_by(Delivery::StorageKey);
    let verdict = review(&world, &bare());
    assert_eq!(
        fills(&verdict),
        [
            (ON_SERVICE, r#""tidewaiter-minio""#),
            ("/spec/predictor/model/storage/key", r#""minio""#)
        ]
    );
    assert_eq!(effects(&verdict), [("minio", Delivery::StorageKey)]);

    let several = service(json!({"predictor": {"sklearn": {}, "storageUris": [{"uri": "s3://mlflow/1"}]}}));
    let expected = [
        (ON_SERVICE, r#""tidewaiter-minio""#),
        ("/spec/predictor/sklearn/storage/key", r#""minio""#),
        ("/spec/predictor/sklearn/storage/parameters", "{}"),
    ];
    assert_eq!(fills(&review(&world, &several)), expected);

    for spec in [
        json!({"predictor": {"containers": [{"env": [{"name": "STORAGE_URI", "value": "s3://mlflow/1"}]}]}}),
        json!({"predictor": {"model": {}}, "transformer": {"containers": [{"env": [{"name": "STORAGE_URI", "value": "s3://mlflow/1"}]}]}}),
    ] {
        let verdict = review(&world, &service(spec));
        assert_eq!(fills(&verdict), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
        assert_eq!(effects(&verdict), [("minio", Delivery::Annotation)]);
    }
}

/// `pkg/controller/v1beta1/inferenceservice/components/transformer.go` of KServe 0.20.0
#[test]
fn a_predictors_storage_key_opens_a_transformers_storage_uris_too() {
    let transformer = json!({"containers": [{}], "storageUris": [{"uri": "s3://mlflow/t"}]});
    let users = service(json!({
        "predictor": {"model": {"storage": {"key": "mine", "parameters": {}}}, "storageUris": [{"uri": "s3://mlflow/1"}]}, "transformer": transformer,
    }));
    let verdict = review(&world(), &users);
    untouched(&verdict);
    assert_eq!(
        verdict.warnings,
        [
            "predictor keeps its own credentials: storage key mine",
            "transformer keeps its own credentials: storage key mine"
        ]
    );
    let ours = service(
        json!({"predictor": {"model": {}, "storageUris": [{"uri": "s3://mlflow/1"}]}, "transformer": transformer}),
    );
    let verdict = review(&delivered_by(Delivery::StorageKey), &ours);
    assert_eq!(
        (fills(&verdict), effects(&verdict)),
        (
            vec![(ON_SERVICE, r#""tidewaiter-minio""#)],
            vec![("minio", Delivery::Annotation)]
        )
    );
}

#[test]
fn components_that_differ_are_told_apart() {
    let container = json!({"env": [{"name": "STORAGE_URI", "value": "s3://other/t"}]});
    let differing = service(
        json!({"predictor": {"model": {"storageUri": "s3://mlflow/1"}}, "transformer": {"containers": [container]}}),
    );
    let verdict = review(&world(), &differing);
    let on_transformer = "/spec/transformer/annotations/serving.kserve.io~1storageSecretName";
    assert_eq!(
        fills(&verdict),
        [
            (ON_PREDICTOR, r#""tidewaiter-minio""#),
            (on_transformer, r#""tidewaiter-other""#)
        ]
    );
    assert_eq!(
        effects(&verdict),
        [("minio", Delivery::Annotation), ("other", Delivery::Annotation)]
    );

    // The annotation on the service would take the transformer's own ServiceAccount out of use.
    let brought = service(json!({
        "predictor": {"model": {"storageUri": "s3://mlflow/1"}},
        "transformer": {"serviceAccountName": "own", "containers": [{"env": [{"name": "STORAGE_URI", "value": "s3://mlflow/t"}]}]},
    }));
    let verdict = review(
        &world().brought(
            Some("own"),
            None,
            Brought::Usable("ServiceAccount own with Secret x".to_owned()),
        ),
        &brought,
    );
    assert_eq!(fills(&verdict), [(ON_PREDICTOR, r#""tidewaiter-minio""#)]);

    let verdict = world()
        .brought(
            Some("own"),
            None,
            Brought::Usable("ServiceAccount own with Secret x".to_owned()),
        )
        .review::<StorageCredentials>(&llm(
            json!({"model": {"uri": "s3://mlflow/m"}, "prefill": {"template": {"serviceAccountName": "own"}}}),
        ));
    assert_eq!(
        fills(&verdict),
        [("/spec/template/serviceAccountName", r#""tidewaiter-minio""#)]
    );
}

#[test]
fn two_stores_in_one_component_are_refused() {
    let object = service(
        json!({"predictor": {"model": {}, "storageUris": [{"uri": "s3://mlflow/1"}, {"uri": "s3://other/2"}]}}),
    );
    let verdict = review(&world(), &object);
    let (code, message, _) = denial(&verdict);
    assert_eq!(code, "two-stores");
    assert!(
        message.contains("StorageBackend minio and StorageBackend other") && message.contains("one store"),
        "{message}"
    );
    let beside = |uri: &str| {
        let spec = json!({"predictor": {"model": {}, "storageUris": [{"uri": "s3://mlflow/1"}, {"uri": uri}]}});
        review(&world(), &service(spec))
    };
    let verdict = beside("s3://elsewhere/2");
    let (code, message, path) = denial(&verdict);
    assert_eq!((code, path), ("two-stores", Some("/spec/predictor/storageUris/1/uri")));
    assert!(message.contains("s3://elsewhere/2"), "{message}");
    assert_eq!(
        fills(&beside("https://elsewhere/2")),
        [(ON_SERVICE, r#""tidewaiter-minio""#)]
    );
    // A public store beside one is no second one.
    let world = world().resolve(
        "s3://other/",
        Resolution::Served(Served {
            anonymous: true,
            ..served("other")
        }),
    );
    assert_eq!(fills(&review(&world, &object)), [(ON_SERVICE, r#""tidewaiter-minio""#)]);
}

#[test]
fn a_prefix_that_is_not_granted_is_refused_with_what_is() {
    let refusal = |allowed: &[&str]| {
        Resolution::NotGranted(NotGranted {
            backend: "minio".to_owned(),
            allowed: allowed.iter().map(|prefix| (*prefix).to_owned()).collect(),
            contact: Some("#ml-platform".to_owned()),
        })
    };
    let verdict = review(
        &world().resolve("s3://mlflow/", refusal(&["s3://mlflow/team-a/"])),
        &bare(),
    );
    let (code, message, path) = denial(&verdict);
    assert_eq!(
        (code, path),
        ("prefix-not-granted", Some("/spec/predictor/model/storageUri"))
    );
    assert!(
        message.contains("s3://mlflow/1/m")
            && message.contains("it may use s3://mlflow/team-a/")
            && message.contains("`#ml-platform`"),
        "{message}"
    );
    let nothing = review(&world().resolve("s3://mlflow/", refusal(&[])), &bare());
    assert!(denial(&nothing).1.contains("it may use nothing of it"));
    // Who opens the store with keys of their own needs no grant.
    let verdict = review(
        &world().resolve("s3://mlflow/", refusal(&[])).brought(
            None,
            None,
            Brought::Usable("ServiceAccount default with Secret x".to_owned()),
        ),
        &bare(),
    );
    untouched(&verdict);
    assert_eq!(verdict.warnings.len(), 1);
}

#[test]
fn a_store_whose_backend_cannot_be_used_is_refused_with_why_and_whom_to_ask() {
    let unusable = |contact: Option<&str>| {
        world().resolve(
            "s3://mlflow/",
            Resolution::Unusable(Unusable {
                backend: "minio".to_owned(),
                reason: "spec.s3.endpoint: `ftp://minio` has the scheme `ftp`".to_owned(),
                contact: contact.map(str::to_owned),
            }),
        )
    };
    // Whatever becomes of models that nobody serves: this one is served.
    let verdict = review(&unusable(Some("#ml-platform")), &bare());
    let (code, message, path) = denial(&verdict);
    assert_eq!(
        (code, path),
        ("backend-unusable", Some("/spec/predictor/model/storageUri"))
    );
    assert_eq!(
        message,
        "predictor: the StorageBackend minio that serves s3://mlflow/1/m can't be used: spec.s3.endpoint: `ftp://minio` has the scheme `ftp`. \
         Ask `#ml-platform` to mend it, or bring credentials of your own"
    );
    assert!(
        denial(&review(&unusable(None), &bare()))
            .1
            .contains("Ask the cluster's admin")
    );
    // Its Secret, named by hand, is no way around that; one of the user's own is.
    for (named, brought, denied) in [
        (
            "tidewaiter-minio",
            Brought::Managed(vec!["tidewaiter-minio".to_owned()]),
            true,
        ),
        ("own", Brought::Usable("Secret own".to_owned()), false),
    ] {
        let mut object = bare();
        object["metadata"]["annotations"] = json!({ANNOTATION: named});
        let verdict = review(&unusable(None).brought(None, Some(named), brought), &object);
        assert_eq!(verdict.denial.is_some(), denied, "{verdict:?}");
        assert_eq!(verdict.warnings.len(), usize::from(!denied));
    }
}

#[test]
fn a_store_that_nobody_serves_is_one_warning_or_a_refusal() {
    let object = service(json!({"predictor": {"model": {"storageUri": "s3://elsewhere/a"}}}));
    let verdict = review(&world(), &object);
    untouched(&verdict);
    assert_eq!(
        verdict.warnings,
        ["predictor: no credentials; no StorageBackend serves s3://elsewhere/a"]
    );
    let strict = Settings {
        unserved: Unserved::Deny,
    };
    let verdict = world().review_with::<StorageCredentials>(&create(&object), &strict);
    let (code, message, path) = denial(&verdict);
    assert_eq!(
        (code, path),
        ("store-unserved", Some("/spec/predictor/model/storageUri"))
    );
    assert!(
        message.contains("s3://elsewhere/a") && message.contains(ANNOTATION),
        "{message}"
    );
    let brought = world().brought(
        None,
        None,
        Brought::Usable("ServiceAccount default with Secret x".to_owned()),
    );
    let verdict = brought.review_with::<StorageCredentials>(&create(&object), &strict);
    untouched(&verdict);
    assert_eq!(verdict.warnings, Vec::<String>::new());
}

#[test]
fn a_scheme_that_kserve_cannot_download_is_told_as_such() {
    for (uri, expected) in [
        (
            "git://host/repo",
            "predictor: KServe itself can't download git://; it knows s3, gs, hf, http(s), hdfs, webhdfs, pvc, oci",
        ),
        (
            "minio://mlflow/fraud",
            "predictor: KServe itself can't download minio://; MinIO speaks S3: write s3://bucket/path",
        ),
    ] {
        let object = service(json!({"predictor": {"model": {"storageUri": uri}}}));
        let verdict = review(&world(), &object);
        untouched(&verdict);
        assert_eq!(verdict.warnings, [expected]);
        let strict = Settings {
            unserved: Unserved::Deny,
        };
        let verdict = world().review_with::<StorageCredentials>(&create(&object), &strict);
        let (code, message, _) = denial(&verdict);
        assert_eq!(code, "store-unserved");
        assert!(
            message.contains(uri) && message.contains("can't download") && message.contains("ClusterStorageContainer"),
            "{message}"
        );
    }
}

#[test]
fn a_uri_that_kserve_cannot_load_is_refused_with_what_to_write() {
    let reason = tidewaiter_policy::core::uri::StorageUri::parse("models:/fraud/1")
        .unwrap_err()
        .to_string();
    let object = service(json!({"predictor": {"model": {"storageUri": "models:/fraud/1"}}}));
    let world = world().resolve("models:", Resolution::Unsupported(reason));
    let verdict = review(&world, &object);
    let (code, message, path) = denial(&verdict);
    assert_eq!(
        (code, path),
        ("unsupported-uri", Some("/spec/predictor/model/storageUri"))
    );
    assert!(message.contains("s3://mlflow/"), "{message}");
    // The admin's own container fetches it.
    let mut named = object.clone();
    named["spec"]["predictor"]["storageContainerName"] = json!("from-mlflow");
    let container = json!({"metadata": {"name": "own"}, "spec": {"container": {}, "supportedUriFormats": [{"prefix": "models:/"}]}});
    let fetched = world.clone().cluster_object(
        "serving.kserve.io/v1alpha1",
        "ClusterStorageContainer",
        "own",
        &container,
    );
    for (world, object) in [(&world, &named), (&fetched, &object)] {
        let verdict = review(world, object);
        untouched(&verdict);
        assert_eq!(
            verdict.warnings,
            ["predictor: no credentials; no StorageBackend serves models:/fraud/1"]
        );
    }
}

#[test]
fn a_namespaces_own_secret_is_named_and_nothing_is_copied() {
    let world = world().resolve("s3://mlflow/", Resolution::OwnSecret("mine".to_owned()));
    let verdict = review(&world, &bare());
    assert_eq!(fills(&verdict), [(ON_SERVICE, r#""mine""#)]);
    assert_eq!(effects(&verdict), []);
    let verdict = review(&world.secret_annotation(None), &bare());
    untouched(&verdict);
    assert_eq!(
        verdict.warnings,
        ["predictor gets no credentials: list Secret mine in its ServiceAccount"]
    );
}

#[test]
fn what_was_delivered_stays_when_the_default_service_account_changes() {
    for (path, delivery) in [
        (ON_SERVICE, Delivery::Annotation),
        ("/spec/predictor/serviceAccountName", Delivery::ServiceAccount),
        (ON_SERVICE, Delivery::StorageKey),
    ] {
        let world = delivered_by(delivery).brought(
            None,
            None,
            Brought::Usable("ServiceAccount default with Secret x".to_owned()),
        );
        let mut request = testing::update(&bare(), &bare());
        request.filled = vec![Entry {
            path: path.to_owned(),
            value: r#""tidewaiter-minio""#.to_owned(),
        }];
        let verdict = world.review::<StorageCredentials>(&request);
        assert_eq!(fills(&verdict)[0], (path, r#""tidewaiter-minio""#));
        assert_eq!(world.calls().brought_credentials, 0);
        // Of another backend, or of none: the ServiceAccount counts.
        request.filled[0].value = r#""tidewaiter-former""#.to_owned();
        untouched(&world.review::<StorageCredentials>(&request));
    }
}

#[test]
fn credentials_that_the_user_took_out_stay_out() {
    for (delivery, withheld) in [
        (Delivery::Annotation, ON_SERVICE),
        (Delivery::StorageKey, "/spec/predictor/model/storage/key"),
        (Delivery::StorageKey, "/spec/predictor/model/storage"),
    ] {
        let mut request = testing::update(&bare(), &bare());
        request.withheld = vec![withheld.to_owned()];
        let verdict = delivered_by(delivery).review::<StorageCredentials>(&request);
        untouched(&verdict);
        assert_eq!(
            verdict.warnings,
            ["predictor gets no credentials of StorageBackend minio, since they were taken out by hand"]
        );
    }
}

/// <https://github.com/kserve/kserve/issues/4209>
#[test]
fn a_service_account_in_the_wrong_place_is_pointed_out() {
    let applied =
        json!({"spec": {"predictor": {"sklearn": {"serviceAccountName": "sa-minio", "storageUri": "s3://mlflow/1"}}}})
            .to_string();
    let object = json!({
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
        "spec": {"predictor": {"sklearn": {"storageUri": "s3://mlflow/1"}}},
    });
    let verdict = review(&world(), &object);
    assert_eq!(fills(&verdict).len(), 1);
    assert_eq!(
        verdict.warnings,
        ["serviceAccountName sa-minio was dropped by the API server; write it in spec.predictor itself (kserve#4209)"]
    );
}

#[test]
fn an_object_that_cannot_be_read_is_a_warning() {
    let verdict = review(&world(), &service(json!({"predictor": {"model": {"storageUri": 3}}})));
    untouched(&verdict);
    assert!(
        verdict.warnings[0].contains("/spec/predictor/model/storageUri"),
        "{:?}",
        verdict.warnings
    );
}

#[test]
fn settings_are_two_words_and_nothing_else() {
    assert_eq!(
        tidewaiter_policy::settings::<StorageCredentials>("{}")
            .unwrap()
            .unserved,
        Unserved::Warn
    );
    assert_eq!(
        tidewaiter_policy::settings::<StorageCredentials>(r#"{"unserved": "deny"}"#)
            .unwrap()
            .unserved,
        Unserved::Deny
    );
    assert!(tidewaiter_policy::settings::<StorageCredentials>(r#"{"unserved": "explode"}"#).is_err());
    assert!(tidewaiter_policy::settings::<StorageCredentials>(r#"{"unserve": "deny"}"#).is_err());
    serde_json::from_str::<Value>(StorageCredentials::settings_schema().unwrap()).unwrap();
}

fn any_component() -> impl Strategy<Value = Value> {
    let uri = prop::sample::select(vec![
        "s3://mlflow/1",
        "s3://other/2",
        "s3://public/3",
        "s3://own/4",
        "s3://none/5",
        "pvc://c/6",
    ]);
    let implementation = (
        prop::sample::select(vec!["model", "sklearn", "containers", "storageUris"]),
        uri.clone(),
        uri,
    )
        .prop_map(|(shape, uri, second)| match shape {
            "containers" => json!({"containers": [{"env": [{"name": "STORAGE_URI", "value": uri}]}]}),
            "storageUris" => json!({"model": {}, "storageUris": [{"uri": uri}, {"uri": second}]}),
            framework => json!({framework: {"storageUri": uri}}),
        });
    let named = prop::option::of(prop::sample::select(vec!["", "own", "tidewaiter-minio"]));
    (
        implementation,
        named.clone(),
        named,
        prop::option::of(prop::sample::select(vec![
            json!({}),
            json!({"key": "minio"}),
            json!(null),
        ])),
    )
        .prop_map(|(mut component, account, secret, storage)| {
            if let Some(account) = account {
                component["serviceAccountName"] = json!(account);
            }
            if let Some(secret) = secret {
                component["annotations"] = json!({ANNOTATION: secret, renamed::ANNOTATION: secret});
            }
            if let (Some(storage), Some(model)) = (storage, component.get_mut("model")) {
                model["storage"] = storage;
            }
            component
        })
}

/// How backends deliver, the annotation that KServe knows, and whether the default ServiceAccount, the one called `own` and the Secret called `own` are usable.
fn any_facts() -> impl Strategy<Value = (Delivery, Option<&'static str>, [bool; 3])> {
    let delivery = prop::sample::select(vec![
        Delivery::Annotation,
        Delivery::ServiceAccount,
        Delivery::StorageKey,
    ]);
    (
        delivery,
        prop::sample::select(vec![Some(ANNOTATION), Some(renamed::ANNOTATION), None]),
        any::<[bool; 3]>(),
    )
}

fn world_of((delivery, annotation, usable): (Delivery, Option<&str>, [bool; 3])) -> World {
    let backend = |name: &str| Served {
        delivery,
        ..served(name)
    };
    let world = world()
        .resolve("s3://mlflow/", Resolution::Served(backend("minio")))
        .resolve("s3://other/", Resolution::Served(backend("other")))
        .resolve(
            "s3://public/",
            Resolution::Served(Served {
                anonymous: true,
                ..backend("public")
            }),
        )
        .resolve("s3://own/", Resolution::OwnSecret("mine".to_owned()))
        .secret_annotation(annotation);
    let names = usable
        .into_iter()
        .zip([(None, None), (Some("own"), None), (None, Some("own"))])
        .filter(|(usable, _)| *usable);
    names.fold(with_managed(world), |world, (_, (account, secret))| {
        world.brought(account, secret, Brought::Usable("something".to_owned()))
    })
}

proptest! {
    #[test]
    fn a_fill_never_names_what_is_there_and_its_filling_changes_nothing_more(
        facts in any_facts(), predictor in any_component(), transformer in prop::option::of(any_component()), canary in prop::option::of(any_component()),
        on_service in prop::option::of(prop::sample::select(vec!["", "own", "tidewaiter-minio"])),
    ) {
        let world = world_of(facts);
        let mut object = service(json!({"predictor": predictor}));
        if let Some(transformer) = transformer { object["spec"]["transformer"] = transformer; }
        if let Some(canary) = canary { object["spec"]["canary"] = json!([{"predictor": canary}]); }
        if let Some(secret) = on_service { object["metadata"]["annotations"] = json!({ANNOTATION: secret, renamed::ANNOTATION: secret}); }
        let verdict = review(&world, &object);
        for fill in &verdict.fills {
            prop_assert!(object.pointer(&fill.path).is_none_or(Value::is_null), "{} in {}", fill.path, object);
            prop_assert!(fill.reason.chars().count() <= 90);
        }
        for warning in &verdict.warnings {
            prop_assert!(warning.chars().count() <= 120, "{}", warning);
        }
        prop_assert_eq!(review(&world, &object), verdict.clone(), "the same object has the same verdict");
        // What is ours is stripped and listed before the next review: the same fills again.
        let mut next = testing::update(&object, &object);
        next.filled = verdict.fills.iter().map(|fill| Entry { path: fill.path.clone(), value: fill.value.clone() }).collect();
        let again = world.review::<StorageCredentials>(&next);
        prop_assert_eq!((&again.fills, &again.denial, &again.effects), (&verdict.fills, &verdict.denial, &verdict.effects));
    }
}
