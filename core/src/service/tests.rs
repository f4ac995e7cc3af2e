use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read<T>(object: &Value, look: impl Fn(&Service<'_>) -> T) -> T {
    read_as("InferenceService", object, look)
}

fn read_as<T>(kind: &str, object: &Value, look: impl Fn(&Service<'_>) -> T) -> T {
    look(&Service::parse(kind, &object.to_string()).unwrap())
}

/// Each component's name with its models and where they are said.
fn models(kind: &str, spec: &Value) -> Vec<(String, Vec<(String, String)>)> {
    let object = json!({ "metadata": { "name": "fraud" }, "spec": spec });
    read_as(kind, &object, |service| {
        let models = |component: &Component<'_>| {
            component
                .models
                .iter()
                .map(|model| (model.uri.to_string(), model.pointer.clone()))
                .collect()
        };
        service
            .components()
            .iter()
            .map(|component| (component.name().into_owned(), models(component)))
            .collect()
    })
}

fn one(name: &str, uri: &str, pointer: &str) -> (String, Vec<(String, String)>) {
    (name.to_owned(), vec![(uri.to_owned(), pointer.to_owned())])
}

#[test]
fn a_model_is_found_in_every_shape() {
    for (spec, expected) in [
        (
            json!({"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": "s3://b/m"}}}),
            vec![one("predictor", "s3://b/m", "/spec/predictor/model/storageUri")],
        ),
        (
            json!({"predictor": {"sklearn": {"storageUri": "s3://b/m"}}}),
            vec![one("predictor", "s3://b/m", "/spec/predictor/sklearn/storageUri")],
        ),
        (
            json!({"predictor": {"containers": [{"name": "side"}, {"name": "kserve-container", "env": [{"name": "A"}, {"name": "STORAGE_URI", "value": "s3://b/m"}]}]}}),
            vec![one("predictor", "s3://b/m", "/spec/predictor/containers/1/env/1/value")],
        ),
        (
            json!({"predictor": {"containers": [{"name": "mine", "env": [{"name": "STORAGE_URI", "value": "s3://b/m"}]}]}}),
            vec![one("predictor", "s3://b/m", "/spec/predictor/containers/0/env/0/value")],
        ),
        (
            json!({"predictor": {"model": {"modelFormat": {"name": "x"}}, "storageUris": [{"uri": "s3://b/1"}, {"uri": "hf://o/m", "mountPath": "/x"}]}}),
            vec![(
                "predictor".to_owned(),
                vec![
                    ("s3://b/1".to_owned(), "/spec/predictor/storageUris/0/uri".to_owned()),
                    ("hf://o/m".to_owned(), "/spec/predictor/storageUris/1/uri".to_owned()),
                ],
            )],
        ),
        (
            json!({"predictor": {"model": {}}, "transformer": {"containers": [{"env": [{"name": "STORAGE_URI", "value": "s3://b/t"}]}]},
                   "explainer": {"art": {"type": "SquareAttack", "storageUri": "s3://b/e"}}}),
            vec![
                ("predictor".to_owned(), vec![]),
                one("transformer", "s3://b/t", "/spec/transformer/containers/0/env/0/value"),
                one("explainer", "s3://b/e", "/spec/explainer/art/storageUri"),
            ],
        ),
        (
            json!({"predictor": {"sklearn": {"storageUri": "s3://b/1"}}, "canary": [{"predictor": {"name": "new", "model": {"storageUri": "s3://b/2"}}, "trafficPercent": 10}]}),
            vec![
                one("predictor", "s3://b/1", "/spec/predictor/sklearn/storageUri"),
                one("canary 0", "s3://b/2", "/spec/canary/0/predictor/model/storageUri"),
            ],
        ),
        (
            json!({"predictor": {"triton": {}}}),
            vec![("predictor".to_owned(), vec![])],
        ),
        (json!({}), vec![]),
    ] {
        assert_eq!(models("InferenceService", &spec), expected, "{spec}");
    }
}

#[test]
fn a_canary_is_laid_over_the_predictor() {
    let served = |canary: Value| {
        let predictor = json!({"model": {"runtime": "own", "runtimeVersion": "1.2", "protocolVersion": "v2", "image": "a/b:1",
            "resources": {"limits": {"nvidia.com/gpu": 1}}}});
        let json = json!({"spec": {"predictor": predictor, "canary": [{"predictor": canary}]}}).to_string();
        let service = Service::parse("InferenceService", &json).unwrap();
        let canary = &service.components()[1];
        assert!(canary.gpu);
        let at = canary.implementation.as_ref().unwrap();
        [&at.runtime, &at.runtime_version, &at.protocol_version, &at.image]
            .map(|value| value.as_deref().unwrap_or_default().to_owned())
    };
    let its_own = json!({"model": {"runtime": "new", "runtimeVersion": "", "protocolVersion": "v1"}});
    assert_eq!(served(its_own), ["new", "1.2", "v1", "a/b:1"]);
    assert_eq!(served(json!({"model": {}})), ["own", "1.2", "v2", "a/b:1"]);
    assert_eq!(served(json!({"sklearn": {}})), ["", "", "", ""]);
}

#[test]
fn an_llm_service_has_its_model_and_its_adapters() {
    let spec = json!({
        "model": {"uri": "s3://b/base", "lora": {"adapters": [{"name": "a", "uri": "s3://b/a"}, {"name": "b", "uri": "hf://o/b"}]}},
        "template": {"serviceAccountName": "own", "containers": [{"resources": {"limits": {"nvidia.com/gpu": 1}}}]},
        "prefill": {"worker": {"serviceAccountName": "other"}},
    });
    let found = models("LLMInferenceService", &spec);
    let expected: Vec<_> = [
        ("s3://b/base", "/spec/model/uri"),
        ("s3://b/a", "/spec/model/lora/adapters/0/uri"),
        ("hf://o/b", "/spec/model/lora/adapters/1/uri"),
    ]
    .map(|(uri, pointer)| (uri.to_owned(), pointer.to_owned()))
    .into();
    assert_eq!(
        found,
        vec![
            ("workload".to_owned(), expected.clone()),
            ("prefill".to_owned(), expected)
        ]
    );
    read_as("LLMInferenceService", &json!({ "spec": spec }), |service| {
        let [workload, prefill] = service.components() else {
            panic!("two components")
        };
        assert_eq!(workload.service_account_name.as_deref(), Some("own"));
        assert_eq!(workload.service_account_pointer(), "/spec/template/serviceAccountName");
        assert!(workload.gpu);
        assert_eq!(prefill.service_account_name.as_deref(), Some("other"));
        assert_eq!(
            prefill.service_account_pointer(),
            "/spec/prefill/template/serviceAccountName"
        );
    });
}

#[test]
fn what_a_predictor_says_of_its_runtime_is_read() {
    let object = json!({"spec": {"predictor": {
        "serviceAccountName": "sa",
        "annotations": {"serving.kserve.io/storageSecretName": "own"},
        "model": {
            "modelFormat": {"name": "mlflow", "version": "1"}, "runtime": "kserve-mlserver", "runtimeVersion": "1.7.1", "protocolVersion": "v2",
            "storage": {"key": "minio", "path": "a/b", "parameters": {"type": "s3"}},
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        },
    }}});
    read(&object, |service| {
        let predictor = service.predictor().unwrap();
        assert_eq!(predictor.service_account_name.as_deref(), Some("sa"));
        assert_eq!(
            predictor.service_account_pointer(),
            "/spec/predictor/serviceAccountName"
        );
        assert_eq!(
            predictor.annotation("serving.kserve.io/storageSecretName").as_deref(),
            Some("own")
        );
        assert!(predictor.gpu && !predictor.storage_uris && predictor.is_predictor());
        let implementation = predictor.implementation.as_ref().unwrap();
        assert_eq!(
            (implementation.field, implementation.pointer.as_str()),
            ("model", "/spec/predictor/model")
        );
        assert_eq!(implementation.runtime.as_deref(), Some("kserve-mlserver"));
        assert_eq!(implementation.runtime_version.as_deref(), Some("1.7.1"));
        assert_eq!(implementation.protocol_version.as_deref(), Some("v2"));
        assert_eq!(
            implementation.format,
            Some(Format {
                name: "mlflow".into(),
                version: Some("1".into())
            })
        );
        assert_eq!(
            predictor.storage(),
            Some(&Storage {
                key: Some("minio".into()),
                path: Some("a/b".into()),
                parameters: true
            })
        );
    });
    read(
        &json!({"spec": {"predictor": {"lightgbm": {"storageUri": "s3://b/m"}}}}),
        |service| {
            let implementation = service.predictor().unwrap().implementation.as_ref().unwrap();
            assert_eq!(
                (implementation.field, implementation.pointer.as_str()),
                ("lightgbm", "/spec/predictor/lightgbm")
            );
            assert_eq!(
                implementation.format,
                Some(Format {
                    name: "lightgbm".into(),
                    version: None
                })
            );
        },
    );
}

#[test]
fn a_gpu_of_no_pieces_is_none() {
    for (resources, expected) in [
        (json!({"limits": {"nvidia.com/gpu": "0"}}), false),
        (json!({"limits": {"cpu": "1"}}), false),
        (json!({"requests": {"amd.com/gpu": 2}}), true),
        (json!({"limits": {"nvidia.com/mig-1g.5gb": "1"}}), true),
    ] {
        let object = json!({"spec": {"predictor": {"model": {"resources": resources}}}});
        read(&object, |service| {
            assert_eq!(service.predictor().unwrap().gpu, expected, "{resources}")
        });
    }
}

#[test]
fn what_metadata_says_is_read() {
    let object = json!({"metadata": {
        "name": "fraud", "deletionTimestamp": "2026-11-22T00:00:00Z",
        "labels": {"internal.serving.kserve.io/localmodel": "cache"},
        "annotations": {"serving.kserve.io/stop": "true", "serving.kserve.io/deploymentMode": "ModelMesh", "quoted": "a\"b\n"},
    }});
    let stops = |object: &Value| is_stopped(&Document::new(&object.to_string()).unwrap());
    assert!(stops(&object) && stops(&json!({"metadata": {"annotations": {"serving.kserve.io/stop": "True"}}})));
    for other in [json!("false"), json!("true "), json!(true), json!(null)] {
        assert!(!stops(
            &json!({"metadata": {"annotations": {"serving.kserve.io/stop": other}}})
        ));
    }
    read(&object, |service| {
        assert!(service.is_being_deleted() && service.is_served_from_local_cache() && service.is_model_mesh());
        assert_eq!(service.annotation("quoted").as_deref(), Some("a\"b\n"));
        assert_eq!(service.name(), Some("fraud"));
    });
    read(&json!({"metadata": {"deletionTimestamp": null}}), |service| {
        assert!(!service.is_being_deleted() && !service.is_served_from_local_cache() && !service.is_model_mesh());
    });
}

/// <https://github.com/kserve/kserve/issues/4209>
#[test]
fn a_service_account_below_the_framework_is_still_known_to_kubectl() {
    let applied = json!({"spec": {"predictor": {"minReplicas": 1, "sklearn": {"serviceAccountName": "sa-minio", "storageUri": "s3://b/m"}}}}).to_string();
    let object = json!({
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
        "spec": {"predictor": {"sklearn": {"storageUri": "s3://b/m"}}},
    });
    read(&object, |service| {
        assert_eq!(
            service.misplaced_service_account(),
            Some((
                "sa-minio".to_owned(),
                "/spec/predictor/sklearn/serviceAccountName".to_owned()
            ))
        );
        assert_eq!(service.predictor().unwrap().service_account_name, None);
    });
    for text in [
        "",
        "[]",
        "{\"spec\": 3}",
        "{\"spec\": {\"predictor\": {\"sklearn\": 3}}}",
    ] {
        let object = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": text}}});
        read(&object, |service| assert_eq!(service.misplaced_service_account(), None));
    }
}

#[test]
fn nulls_are_as_good_as_absent() {
    let object = json!({
        "metadata": {"annotations": null, "labels": {"a": null}, "name": null},
        "spec": {"predictor": {"model": {"storageUri": null, "modelFormat": null, "storage": null, "resources": {"limits": null}}, "sklearn": null,
                               "containers": [null], "storageUris": null, "annotations": null, "serviceAccountName": ""},
                 "transformer": null, "canary": [null, {"predictor": null}]},
    });
    read(&object, |service| {
        assert_eq!(service.components().len(), 1);
        let predictor = service.predictor().unwrap();
        assert_eq!(
            (predictor.models.len(), predictor.service_account_name.as_deref()),
            (0, Some(""))
        );
    });
    read(&json!({"metadata": null, "spec": null}), |service| {
        assert_eq!(service.components().len(), 0)
    });
}

#[test]
fn a_wrong_type_is_refused_by_its_pointer() {
    for (object, pointer) in [
        (
            json!({"spec": {"predictor": {"model": {"storageUri": 3, "x": 1}}}}),
            "/spec/predictor/model/storageUri",
        ),
        (
            json!({"spec": {"predictor": {"model": {"modelFormat": {"name": "a", "version": 1.3}}}}}),
            "/spec/predictor/model/modelFormat/version",
        ),
        (
            json!({"spec": {"predictor": {"containers": [{}, {"env": {"a": "b"}}]}}}),
            "/spec/predictor/containers/1/env",
        ),
        (
            json!({"spec": {"canary": [{"predictor": {"serviceAccountName": true}}]}}),
            "/spec/canary/0/predictor/serviceAccountName",
        ),
        (
            json!({"metadata": {"name": "x"}, "spec": {"predictor": [1]}}),
            "/spec/predictor",
        ),
    ] {
        let error = Service::parse("InferenceService", &object.to_string()).unwrap_err();
        let ParseError::Field { pointer: found, reason } = &error else {
            panic!("{error}")
        };
        assert!(found.starts_with(pointer), "{found} for {object}: {reason}");
    }
    let error = Service::parse(
        "InferenceService",
        r#"{"metadata": {"annotations": {"a": "b", "c": 3}}}"#,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("`c` is not a string"), "{error}");
    assert!(Service::parse("Pod", "{}").unwrap_err().to_string().contains("`Pod`"));
    assert!(Service::parse("InferenceService", "[1]").is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z:/\"\\\\]{0,8}".prop_map(Value::from)
    ];
    let key = prop::sample::select(vec![
        "spec",
        "metadata",
        "predictor",
        "transformer",
        "canary",
        "model",
        "sklearn",
        "containers",
        "storageUris",
        "storageUri",
        "uri",
        "env",
        "name",
        "value",
        "annotations",
        "labels",
        "storage",
        "modelFormat",
        "lora",
        "adapters",
        "prefill",
        "template",
        "resources",
        "limits",
    ]);
    leaf.prop_recursive(6, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| json!(map))
        ]
    })
}

/// Whether a list stands where an object belongs. serde reads a struct from it, field by field; KServe's schema refuses it, whatever is said of it here.
fn stands_for_an_object(value: &Value, is_list: bool) -> bool {
    match value {
        Value::Array(items) => !is_list || items.iter().any(|item| stands_for_an_object(item, false)),
        Value::Object(fields) => fields.iter().any(|(name, field)| {
            let is_list = ["canary", "containers", "storageUris", "env", "adapters"].contains(&name.as_str());
            stands_for_an_object(field, is_list)
        }),
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_object_panics_and_every_pointer_leads_to_its_uri(object in any_json(), kind in prop::sample::select(vec!["InferenceService", "LLMInferenceService"])) {
        let text = object.to_string();
        if let Ok(service) = Service::parse(kind, &text) {
            for model in service.components().iter().flat_map(|component| &component.models) {
                let found = object.pointer(&model.pointer).and_then(Value::as_str);
                prop_assert!(found == Some(&*model.uri) || stands_for_an_object(&object, false), "{model:?}");
            }
            let _ = service.misplaced_service_account();
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = Service::parse("InferenceService", &text);
    }
}

#[test]
fn how_kserve_deploys_is_said_by_the_service_and_else_by_its_configuration() {
    let deploy = r#"{"defaultDeploymentMode": "Serverless"}"#;
    for (annotation, deploy, mode) in [
        (None, Some(deploy), Some(DeploymentMode::Knative)),
        (Some("RawDeployment"), Some(deploy), Some(DeploymentMode::Standard)),
        (Some("Standard"), None, Some(DeploymentMode::Standard)),
        (Some("other"), Some(deploy), None),
        (None, None, None),
        (None, Some("{}"), None),
        (None, Some("no JSON"), None),
    ] {
        let object = json!({"metadata": {"annotations": {"serving.kserve.io/deploymentMode": annotation}}});
        let found = read(&object, |service| service.deployment_mode(deploy));
        assert_eq!(found, mode, "{annotation:?} {deploy:?}");
    }
}
