use proptest::prelude::*;
use serde_json::{Value, json};
use tidewaiter_policy::{
    Request, Verdict,
    testing::{self, World, create, runtime, update},
};

use super::*;

const URI: &str = "s3://mlflow/1/model";

/// KServe as its manifests install it, in Standard mode, and a namespace without rules.
fn world() -> World {
    let webhooks = json!({
        "metadata": {"name": "inferenceservice.serving.kserve.io"},
        "webhooks": [
            {"name": "inferenceservice.kserve-webhook-server.defaulter", "clientConfig": {"service": {"path": "/mutate-serving-kserve-io-v1beta1-inferenceservice"}}},
            {
                "name": "inferenceservice.kserve-webhook-server.pod-mutator",
                "clientConfig": {"service": {"path": "/mutate-pods"}},
                "namespaceSelector": {"matchExpressions": [{"key": "control-plane", "operator": "DoesNotExist"}]},
                "objectSelector": {"matchExpressions": [{"key": "serving.kserve.io/inferenceservice", "operator": "Exists"}]},
            },
        ],
    });
    let container = json!({
        "metadata": {"name": "default"},
        "spec": {
            "container": {"name": "storage-initializer", "resources": {"limits": {"memory": "1Gi", "cpu": "1"}}},
            "supportedUriFormats": [{"prefix": "s3://"}],
            "workloadType": "initContainer",
        },
    });
    let spec = json!({"containers": [{
        "name": "kserve-container",
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "privileged": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}},
    }]});
    World::new()
        .runtime(
            "sklearn",
            None,
            runtime(
                "kserve-sklearnserver",
                "docker.io/kserve/sklearnserver",
                "v0.20.0",
                &["v1", "v2"],
            ),
        )
        .runtime_spec("kserve-sklearnserver", &spec)
        .kserve_config("deploy", &json!({"defaultDeploymentMode": "Standard"}))
        .kserve_config(
            "storageInitializer",
            &json!({"memoryRequest": "100Mi", "memoryLimit": "1Gi", "cpuRequest": "100m", "cpuLimit": "1"}),
        )
        .cluster_object(
            webhooks::API_VERSION,
            webhooks::KIND,
            "inferenceservice.serving.kserve.io",
            &webhooks,
        )
        .cluster_object(initializer::API_VERSION, initializer::KIND, "default", &container)
}

fn quota(world: World, hard: &Value, used: &Value) -> World {
    let quota = json!({"metadata": {"name": "compute"}, "spec": {"hard": hard}, "status": {"used": used}});
    world.cluster_object("v1", "ResourceQuota", "compute", &quota)
}

fn service(model: &Value) -> Value {
    let mut all = json!({"modelFormat": {"name": "sklearn"}, "storageUri": URI});
    all.as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
    json!({"metadata": {"name": "fraud"}, "spec": {"predictor": {"model": all}}})
}

fn predictor(predictor: &Value) -> Value {
    let mut service = service(&json!({}));
    let predictor = predictor.as_object().unwrap().clone();
    service["spec"]["predictor"].as_object_mut().unwrap().extend(predictor);
    service
}

fn review(world: &World, object: &Value) -> Verdict {
    world.review::<NamespaceGuard>(&create(object))
}

fn denied(verdict: &Verdict) -> (&str, &str) {
    let denial = verdict
        .denial
        .as_ref()
        .unwrap_or_else(|| panic!("it is admitted: {verdict:?}"));
    (&denial.code, &denial.message)
}

fn settings(value: &Value) -> Settings {
    serde_json::from_value(value.clone()).unwrap()
}

fn restricted(world: World) -> World {
    world.namespace_label(security::LABEL, "restricted")
}

/// What an admin adds to KServe's initializer for namespaces that are restricted.
fn with_secured_initializer(world: World) -> World {
    let container = json!({
        "metadata": {"name": "default"},
        "spec": {
            "container": {"securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}}},
            "supportedUriFormats": [{"prefix": "s3://"}],
        },
    });
    world.cluster_object(initializer::API_VERSION, initializer::KIND, "default", &container)
}

#[test]
fn a_plain_service_in_a_plain_namespace_is_nobodys_business() {
    let world = world();
    assert_eq!(review(&world, &service(&json!({}))), Verdict::admit());
    // Labels, the webhooks, quotas, limits.
    assert_eq!(world.calls().cluster, 4);
}

#[test]
fn a_service_with_a_model_is_refused_where_kserve_does_not_look() {
    let world = world().namespace_label("control-plane", "kserve");
    let verdict = review(&world, &service(&json!({})));
    assert_eq!(
        denied(&verdict),
        (
            "skipped-by-kserve",
            "/spec/predictor/model/storageUri: no Pod of the predictor in namespace team-a would get its model, since KServe's webhook \
             inferenceservice.kserve-webhook-server.pod-mutator, in MutatingWebhookConfiguration inferenceservice.serving.kserve.io passes it over: \
             the namespace has the label control-plane=kserve. The server would end with \"No such file or directory: '/mnt/models'\". Deploy into another \
             namespace, or have an admin mend the label or the webhook's selector"
        )
    );
    let warned =
        world.review_with::<NamespaceGuard>(&create(&service(&json!({}))), &settings(&json!({"webhooks": "warn"})));
    assert_eq!(
        (warned.denial, warned.warnings),
        (
            None,
            vec!["no Pod gets its model: KServe's webhook passes over it: the namespace has the label control-plane=kserve".to_owned()]
        )
    );
    let off =
        world.review_with::<NamespaceGuard>(&create(&service(&json!({}))), &settings(&json!({"webhooks": "off"})));
    assert_eq!(off, Verdict::admit());
}

#[test]
fn what_kserve_need_not_bring_is_not_missed() {
    let world = world().namespace_label("control-plane", "");
    for spec in [
        json!({"predictor": {"containers": [{"name": "x", "image": "mine"}]}}),
        json!({"predictor": {"model": {"modelFormat": {"name": "sklearn"}}, "storageUris": [{"uri": URI}]}}),
    ] {
        assert_eq!(review(&world, &json!({"spec": spec})).denial, None, "{spec}");
    }
    for spec in [
        json!({"predictor": {"containers": [{"name": "x", "env": [{"name": "STORAGE_URI", "value": URI}]}]}}),
        json!({"predictor": {"sklearn": {"storageUri": "pvc://claim/model"}}}),
        json!({"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storage": {"key": "k", "path": "p"}}}}),
    ] {
        assert_eq!(
            denied(&review(&world, &json!({"spec": spec}))).0,
            "skipped-by-kserve",
            "{spec}"
        );
    }
}

#[test]
fn a_webhook_under_another_name_is_found_where_the_admin_says_so_and_one_that_is_gone_is_told() {
    let renamed = json!({"metadata": {"name": "kserve"}, "webhooks": [
        {"name": "pods.kserve", "clientConfig": {"service": {"path": "/mutate-pods"}}, "namespaceSelector": {"matchLabels": {"serving": "on"}}},
    ]});
    let bare = World::new();
    let other = bare
        .clone()
        .cluster_object(webhooks::API_VERSION, webhooks::KIND, "kserve", &renamed);
    let named = settings(&json!({"webhookConfiguration": "kserve"}));
    let refused = other.review_with::<NamespaceGuard>(&create(&service(&json!({}))), &named);
    for part in [
        "pods.kserve, in MutatingWebhookConfiguration kserve",
        "the namespace has no label serving",
    ] {
        assert!(denied(&refused).1.contains(part), "{refused:?}");
    }
    let emptied = bare.clone().cluster_object(
        webhooks::API_VERSION,
        webhooks::KIND,
        webhooks::CONFIGURATION,
        &json!({"webhooks": []}),
    );
    assert_eq!(
        review(&emptied, &service(&json!({}))).warnings,
        [
            "no Pod gets its model: KServe's webhook is not (yet) in MutatingWebhookConfiguration inferenceservice.serving.kserve.io"
        ]
    );
    // None of that name may be one of another name.
    assert_eq!(review(&bare, &service(&json!({}))), Verdict::admit());
    let unseen = bare.unreadable(webhooks::KIND, "forbidden");
    assert_eq!(review(&unseen, &service(&json!({}))), Verdict::admit());
}

#[test]
fn a_defaulter_that_passes_over_leaves_old_fields_as_they_are() {
    let webhooks = json!({"metadata": {"name": "k"}, "webhooks": [
        {"name": "inferenceservice.kserve-webhook-server.defaulter", "namespaceSelector": {"matchLabels": {"a": "b"}}},
        {"name": "inferenceservice.kserve-webhook-server.pod-mutator"},
    ]});
    let world = World::new().cluster_object(
        webhooks::API_VERSION,
        webhooks::KIND,
        webhooks::CONFIGURATION,
        &webhooks,
    );
    assert_eq!(
        review(
            &world,
            &json!({"spec": {"predictor": {"sklearn": {"storageUri": URI}}}})
        )
        .warnings,
        ["KServe's defaulter passes over this namespace (no label a): sklearn is not rewritten to model"]
    );
    assert_eq!(review(&world, &service(&json!({}))), Verdict::admit());
}

#[test]
fn a_pod_larger_than_a_quota_is_refused() {
    let world = quota(world(), &json!({"requests.memory": "4Gi"}), &json!({}));
    let verdict = review(&world, &service(&json!({"resources": {"requests": {"memory": "8Gi"}}})));
    assert_eq!(
        denied(&verdict),
        (
            "quota",
            "/spec/predictor/model: ResourceQuota compute of namespace team-a refuses every Pod of the predictor: one Pod takes 8Gi of requests.memory, and all \
             of it is 4Gi. Ask for less in its resources, or have the quota raised"
        )
    );
    assert_eq!(review(&world, &service(&json!({}))), Verdict::admit());
}

#[test]
fn what_a_quota_wants_said_is_told_and_refused_where_nobody_adds_it_and_a_limit_range_says_it() {
    let world = quota(world(), &json!({"limits.memory": "10Gi"}), &json!({}));
    let custom = json!({"spec": {"predictor": {"containers": [{"name": "mine", "image": "x"}]}}});
    let told = review(&world, &custom);
    assert_eq!(
        (told.denial, told.warnings),
        (
            None,
            vec!["ResourceQuota compute refuses Pods that don't say limits.memory; say it for mine".to_owned()]
        )
    );
    let never = settings(&json!({"resourcesAdded": "never"}));
    let verdict = world.review_with::<NamespaceGuard>(&create(&custom), &never);
    assert_eq!(
        denied(&verdict),
        (
            "quota",
            "/spec/predictor/containers/0: ResourceQuota compute of namespace team-a refuses every Pod of the predictor: limits.memory is not said for mine. Say it \
             in its resources, or have a LimitRange with a default made"
        )
    );
    // KServe's runtime says it for its server.
    assert_eq!(review(&world, &service(&json!({}))), Verdict::admit());
    let range = json!({"metadata": {"name": "defaults"}, "spec": {"limits": [{"type": "Container", "default": {"memory": "1Gi"}}]}});
    let defaults = world.cluster_object("v1", "LimitRange", "defaults", &range);
    for settings in [Settings::default(), never] {
        let verdict = defaults.review_with::<NamespaceGuard>(&create(&custom), &settings);
        assert_eq!(verdict, Verdict::admit());
    }
}

#[test]
fn what_kserve_writes_into_a_silent_service_counts() {
    let limits = quota(world(), &json!({"limits.memory": "10Gi"}), &json!({}));
    let custom = json!({"spec": {"predictor": {"containers": [{"name": "mine", "image": "x"}]}}});
    let resource =
        json!({"resource": {"cpuLimit": "1", "memoryLimit": "2Gi", "cpuRequest": "1", "memoryRequest": "2Gi"}});
    let configured = limits.kserve_config("inferenceService", &resource);
    assert_eq!(review(&configured, &custom), Verdict::admit());
    let two = json!({"spec": {"predictor": {"containers": [{"name": "mine", "image": "x"}, {"name": "side", "image": "y"}]}}});
    assert_eq!(
        review(&configured, &two).warnings,
        ["ResourceQuota compute refuses Pods that don't say limits.memory; say it for side"]
    );
}

#[test]
fn a_quota_that_is_used_up_is_a_warning_and_none_on_an_update() {
    let world = quota(
        world(),
        &json!({"requests.memory": "4Gi"}),
        &json!({"requests.memory": "3Gi"}),
    );
    let line = "ResourceQuota compute has 1Gi of requests.memory left, and a Pod takes 2Gi: it waits";
    assert_eq!(review(&world, &service(&json!({}))).warnings, [line]);
    let old = service(&json!({}));
    let again = world.review::<NamespaceGuard>(&update(&predictor(&json!({"timeout": 5})), &old));
    assert_eq!(again, Verdict::admit());
    let many = review(
        &quota(world, &json!({"requests.memory": "4Gi"}), &json!({})),
        &predictor(&json!({"minReplicas": 3})),
    );
    assert_eq!(
        many.warnings,
        ["ResourceQuota compute: minReplicas take 6Gi of requests.memory, of 4Gi in all: fewer run"]
    );
}

#[test]
fn a_limit_range_refuses_what_is_larger() {
    let range =
        json!({"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}});
    let world = world().cluster_object("v1", "LimitRange", "small", &range);
    assert_eq!(
        denied(&review(&world, &service(&json!({})))),
        (
            "limit-range",
            "/spec/predictor/model: LimitRange small of namespace team-a refuses every Pod of the predictor: container kserve-container asks for 2Gi of memory, and \
             at most 1Gi is allowed. Change its resources, or have the LimitRange changed"
        )
    );
}

#[test]
fn a_limit_range_judges_what_kserves_own_container_may_use_and_whole_pods() {
    let range = |items: Value| {
        let range = json!({"metadata": {"name": "small"}, "spec": {"limits": items}});
        world().cluster_object("v1", "LimitRange", "small", &range)
    };
    // KServe's initializer asks for 100m and may use 1.
    let apart = range(json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "4"}}]));
    assert_eq!(
        denied(&review(&apart, &service(&json!({})))),
        (
            "limit-range",
            "/spec/predictor/model: LimitRange small of namespace team-a refuses every Pod of the predictor: container storage-initializer asks for 100m of cpu and \
             may use 1, more than 4 times as much. What KServe's own container asks its admin says, in storageInitializer of KServe's configuration or in \
             spec.container of the ClusterStorageContainer; or have the LimitRange changed"
        )
    );
    let mine = json!({"spec": {"predictor": {"containers": [{"name": "mine", "image": "x"}]}}});
    let told = review(&apart, &mine);
    assert_eq!(
        (told.denial, told.warnings),
        (
            None,
            vec!["LimitRange small may refuse its Pods: container mine says no request of cpu, and has to".to_owned()]
        )
    );
    let never = settings(&json!({"resourcesAdded": "never"}));
    let refused = apart.review_with::<NamespaceGuard>(&create(&mine), &never);
    assert!(
        denied(&refused).1.contains("container mine says no request of cpu"),
        "{refused:?}"
    );

    let whole = range(json!([{"type": "Pod", "max": {"memory": "1536Mi"}}]));
    let refused = review(&whole, &service(&json!({})));
    assert!(
        denied(&refused)
            .1
            .contains("the Pod asks for 2Gi of memory, and at most 1536Mi is allowed. Change"),
        "{refused:?}"
    );
    // The initializer is gone when the server begins: they are not added up.
    let enough = range(json!([{"type": "Pod", "max": {"memory": "2Gi", "cpu": "1"}, "min": {"cpu": "100m"}}]));
    assert_eq!(review(&enough, &service(&json!({}))), Verdict::admit());
}

#[test]
fn what_pod_security_forbids_is_refused_wherever_it_is_asked_for() {
    let world = world().namespace_label(security::LABEL, "baseline");
    let verdict = review(&world, &service(&json!({"securityContext": {"privileged": true}})));
    assert_eq!(
        denied(&verdict),
        (
            "pod-security",
            "/spec/predictor: namespace team-a enforces Pod Security level baseline, which refuses every Pod of the predictor: privileged: true in container \
             kserve-container. Leave that out (what the service doesn't say comes from its runtime), or deploy into a namespace that allows it"
        )
    );
    assert_eq!(review(&world, &service(&json!({}))), Verdict::admit());
    let transformer = json!({"spec": {
        "predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": URI}},
        "transformer": {"containers": [{"name": "t"}], "volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
    }});
    let refused = review(&world, &transformer);
    assert!(denied(&refused).1.starts_with("/spec/transformer: "), "{refused:?}");
    assert!(denied(&refused).1.contains("volume host (hostPath)"), "{refused:?}");
}

#[test]
fn what_kserves_own_container_lacks_is_told_and_refused_where_nobody_adds_it() {
    let world = restricted(world());
    let verdict = review(&world, &service(&json!({})));
    assert_eq!(
        (verdict.denial, verdict.fills.len(), verdict.warnings),
        (
            None,
            0,
            vec![
                "Pod Security restricted wants runAsNonRoot: true in storage-initializer".to_owned(),
                "Pod Security restricted wants seccompProfile: {type: RuntimeDefault} in kserve-container and storage-initializer".to_owned(),
                "Pod Security restricted wants allowPrivilegeEscalation: false in storage-initializer".to_owned(),
                "Pod Security restricted wants capabilities: {drop: [ALL]} in storage-initializer".to_owned(),
            ]
        )
    );
    let never = settings(&json!({"securityAdded": "never"}));
    let verdict = world.review_with::<NamespaceGuard>(&create(&service(&json!({}))), &never);
    assert_eq!(
        denied(&verdict),
        (
            "pod-security",
            "/spec/predictor: namespace team-a enforces Pod Security level restricted, which refuses every Pod of the predictor that doesn't say runAsNonRoot: true \
             in storage-initializer; seccompProfile: {type: RuntimeDefault} in kserve-container and storage-initializer; allowPrivilegeEscalation: false in \
             storage-initializer; capabilities: {drop: [ALL]} in storage-initializer. Say it in securityContext. What storage-initializer lacks KServe's admin says in \
             spec.container of the ClusterStorageContainer."
        )
    );
}

#[test]
fn what_only_the_pod_has_to_say_is_filled_in() {
    let world = restricted(with_secured_initializer(world()));
    let verdict = review(&world, &service(&json!({})));
    assert_eq!(
        verdict,
        Verdict::admit().fill(
            "/spec/predictor/securityContext/seccompProfile",
            json!({"type": "RuntimeDefault"}),
            "its namespace is restricted"
        )
    );
    assert_eq!(
        testing::line(&verdict.fills[0]),
        "tidewaiter: spec.predictor.securityContext.seccompProfile = {\"type\":\"RuntimeDefault\"}: its namespace is restricted"
    );
    // As the engine has it, the next review sees the user's word alone, and comes to the same.
    assert_eq!(review(&world, &service(&json!({}))), verdict);
    let said = predictor(&json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}));
    assert_eq!(review(&world, &said), Verdict::admit());

    let knative = world
        .clone()
        .kserve_config("deploy", &json!({"defaultDeploymentMode": "Serverless"}));
    let told = review(&knative, &service(&json!({})));
    assert!(
        told.fills.is_empty() && told.denial.is_none() && told.warnings.len() == 1,
        "{told:?}"
    );
    let taken_out = Request {
        withheld: vec!["/spec/predictor/securityContext".to_owned()],
        ..create(&service(&json!({})))
    };
    let told = world.review::<NamespaceGuard>(&taken_out);
    assert!(told.fills.is_empty() && told.warnings.len() == 1, "{told:?}");
}

#[test]
fn settings_that_are_no_settings_are_refused() {
    for (text, says) in [
        (r#"{"webhooks": "no"}"#, "unknown variant `no`"),
        (r#"{"quotas": "off"}"#, "unknown field `quotas`"),
    ] {
        let error = tidewaiter_policy::settings::<NamespaceGuard>(text).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let schema: Value = serde_json::from_str(NamespaceGuard::settings_schema().unwrap()).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    for (name, property) in properties {
        for value in property["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .chain([&property["default"]])
        {
            settings(&json!({ name: value }));
        }
    }
    assert_eq!(properties.len(), 6);
}

fn resources() -> impl Strategy<Value = Value> {
    let amounts = proptest::collection::btree_map(
        prop_oneof![Just("cpu"), Just("memory"), Just("nvidia.com/gpu")],
        prop_oneof![Just("1"), Just("500m"), Just("2Gi"), Just("8Gi")],
        0..3,
    );
    (amounts.clone(), amounts).prop_map(|(limits, requests)| json!({"limits": limits, "requests": requests}))
}

fn security_context() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"privileged": true})),
        Just(json!({"runAsUser": 0})),
        Just(json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})),
    ]
}

fn any_service() -> impl Strategy<Value = Value> {
    (
        resources(),
        security_context(),
        0_usize..4,
        proptest::option::of(0_i64..4),
    )
        .prop_map(|(resources, security, shape, replicas)| {
            let server = json!({"name": "x", "resources": resources, "securityContext": security, "storageUri": URI,
                "modelFormat": {"name": if shape == 3 { "unknown" } else { "sklearn" }}});
            let mut predictor = match shape {
                0 => json!({"containers": [server]}),
                1 => json!({"sklearn": server}),
                _ => json!({"model": server}),
            };
            if let Some(replicas) = replicas {
                predictor["minReplicas"] = json!(replicas);
            }
            json!({"metadata": {"name": "fraud"}, "spec": {"predictor": predictor}})
        })
}

proptest! {
    /// Law: what it can't see is no reason.
    #[test]
    fn nothing_is_refused_for_what_cannot_be_seen(service in any_service(), level in "(privileged|restricted|baseline|other)") {
        let mut world = World::new().namespace_label("control-plane", "x");
        for kind in [webhooks::KIND, initializer::KIND, "ResourceQuota", "LimitRange"] {
            world = world.unreadable(kind, "forbidden");
        }
        let verdict = world.clone().review::<NamespaceGuard>(&create(&service));
        prop_assert_eq!(verdict, Verdict::admit());
        // The level is a label, and seen; then only what the service itself asks for counts.
        let verdict = world.namespace_label(security::LABEL, &level).review::<NamespaceGuard>(&create(&service));
        let asks = service.to_string().contains("privileged") || (level == "restricted" && service.to_string().contains("runAsUser"));
        prop_assert!(verdict.denial.is_none() || asks, "{:?}", verdict);
    }

    /// Law: an opinion is complete and the same each time, and every line fits.
    #[test]
    fn the_second_look_comes_to_the_same(service in any_service(), level in "(privileged|restricted|baseline)", memory in 1_u32..10) {
        let world = quota(world(), &json!({"limits.memory": format!("{memory}Gi"), "pods": "2"}), &json!({"pods": "1"}));
        let world = with_secured_initializer(world).namespace_label(security::LABEL, &level);
        let first = review(&world, &service);
        prop_assert_eq!(&review(&world, &service), &first);
        for line in &first.warnings {
            prop_assert!(line.chars().count() <= 120);
        }
        for fill in &first.fills {
            prop_assert!(fill.reason.chars().count() <= 90);
        }
    }
}
