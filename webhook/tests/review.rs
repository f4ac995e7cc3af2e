//! What a user gets back, and what is in the namespace by then.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use harness::{Harness, MINIO, create, patched, service, update};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tidewaiter_webhook::metrics::Endpoint;

fn secrets(server: &Harness) -> Vec<Secret> {
    server
        .running
        .recorded
        .as_ref()
        .unwrap()
        .objects()
        .into_iter()
        .map(|objects| objects.secret)
        .collect()
}

#[tokio::test]
async fn a_bare_service_gets_its_stores_secret() {
    let server = Harness::start(MINIO).await;
    let response = server.review("/mutate", &create(&service())).await;
    let mut shown = response.clone();
    shown["patch"] = patched(&service(), &response)["metadata"]["annotations"].clone();
    insta::assert_json_snapshot!(shown);

    let secrets = secrets(&server);
    let [secret] = &*secrets else {
        panic!("one Secret, not {}", secrets.len())
    };
    assert_eq!(secret.metadata.namespace.as_deref(), Some("team-a"));
    assert_eq!(
        secret.metadata.name.as_deref(),
        patched(&service(), &response)["metadata"]["annotations"]["serving.kserve.io/storageSecretName"].as_str()
    );
    insta::assert_json_snapshot!(
        json!({"metadata": secret.metadata, "type": secret.type_, "keys": secret.data.as_ref().unwrap().keys().collect::<Vec<_>>()})
    );
    assert_eq!(
        secret.data.as_ref().unwrap()["AWS_SECRET_ACCESS_KEY"].0,
        b"not-shown-to-anyone"
    );
}

#[tokio::test]
async fn the_second_pass_changes_nothing() {
    let server = Harness::start(MINIO).await;
    let first = patched(&service(), &server.review("/mutate", &create(&service())).await);
    for review in [create(&first), update(&first, &service())] {
        let response = server.review("/mutate", &review).await;
        assert_eq!(
            (&response["allowed"], &response["patch"]),
            (&json!(true), &Value::Null),
            "{response}"
        );
    }
    // A tool that sends its bare manifest again ends where it was.
    let response = server.review("/mutate", &update(&service(), &first)).await;
    assert_eq!(
        patched(&service(), &response)["metadata"]["annotations"],
        first["metadata"]["annotations"]
    );
}

#[tokio::test]
async fn a_dry_run_shows_all_and_touches_nothing() {
    let server = Harness::start(MINIO).await;
    let mut review = create(&service());
    review["request"]["dryRun"] = true.into();
    let dry = server.review("/mutate", &review).await;
    assert!(secrets(&server).is_empty());
    assert_eq!(dry, server.review("/mutate", &create(&service())).await);
    assert_eq!(secrets(&server).len(), 1);
}

#[tokio::test]
async fn a_namespace_without_a_grant_is_refused_and_gets_nothing() {
    let server = Harness::start(MINIO).await;
    let mut object = service();
    object["metadata"]["namespace"] = "sales".into();
    let response = server.review("/mutate", &create(&object)).await;
    insta::assert_json_snapshot!(response);
    assert!(secrets(&server).is_empty());
    let validated = server.review("/validate", &create(&object)).await;
    assert_eq!(validated["status"], response["status"]);
}

#[tokio::test]
async fn a_backend_without_its_secret_refuses_what_it_can_not_serve() {
    let server = Harness::start(&MINIO.replace(
        "namespace: minio, name: root }\nstringData",
        "namespace: minio, name: other }\nstringData",
    ))
    .await;
    let response = server.review("/mutate", &create(&service())).await;
    insta::assert_json_snapshot!(response["status"]);
    assert_eq!(server.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_backend_that_broke_is_in_nobodys_way_whose_credentials_are_there() {
    let server = Harness::start(MINIO).await;
    let stored = patched(&service(), &server.review("/mutate", &create(&service())).await);
    let config = server.folder.path().join("config.yaml");
    std::fs::write(config, MINIO.replace("secretKey:", "somethingElse:")).unwrap();
    let broken = async || {
        server
            .get("/metrics")
            .await
            .1
            .contains("tidewaiter_configuration_problems 1")
    };
    while !broken().await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let mut scaled = stored.clone();
    scaled["spec"]["predictor"]["minReplicas"] = json!(2);
    let response = server.review("/mutate", &update(&scaled, &stored)).await;
    assert_eq!(response["allowed"], true, "{response}");
    let line = "tidewaiter: the credentials of minio could not be renewed; those there are used";
    assert_eq!(response["warnings"], json!([line]));
    assert_eq!(
        server.review("/mutate", &create(&service())).await["status"]["code"],
        500
    );

    // Where nothing is there an update is refused, but for one that stops the service.
    let elsewhere = |mut object: Value| {
        object["metadata"]["namespace"] = json!("team-b");
        object
    };
    let (scaled, stored) = (elsewhere(scaled), elsewhere(stored));
    let response = server.review("/mutate", &update(&scaled, &stored)).await;
    assert_eq!(response["status"]["code"], 500);
    for word in ["true", "True"] {
        let mut stopped = scaled.clone();
        stopped["metadata"]["annotations"]["serving.kserve.io/stop"] = json!(word);
        for review in [update(&stopped, &stored), create(&stopped)] {
            let response = server.review("/mutate", &review).await;
            assert_eq!(response["allowed"], true, "{response}");
        }
    }
    assert_eq!(secrets(&server).len(), 1);
}

#[tokio::test]
async fn validation_judges_what_came_by_another_way() {
    let server = Harness::start(MINIO).await;
    let bypassed = server.review("/validate", &create(&service())).await;
    insta::assert_json_snapshot!(bypassed);
    assert!(secrets(&server).is_empty());

    // What else there is to say is said beside it.
    let mut odd = service();
    odd["spec"]["transformer"] =
        json!({"containers": [{"env": [{"name": "STORAGE_URI", "value": "gs://elsewhere/1"}]}]});
    let bypassed = server.review("/validate", &create(&odd)).await;
    let warnings: Vec<&str> = bypassed["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("tidewaiter: apply this again, it came without"),
        "{warnings:?}"
    );
    assert_eq!(
        warnings[1],
        "transformer: no credentials; no StorageBackend serves gs://elsewhere/1"
    );

    let whole = patched(&service(), &server.review("/mutate", &create(&service())).await);
    let response = server.review("/validate", &create(&whole)).await;
    assert_eq!(response, json!({"uid": response["uid"], "allowed": true}));
}

#[tokio::test]
async fn keys_are_nowhere_but_in_the_secret() {
    harness::listen();
    // As it should be; with a Secret whose keys have other names; with a policy that looks into a store that doesn't answer.
    for yaml in [
        MINIO.to_owned(),
        MINIO.replace("secretKey:", "word:"),
        MINIO.replace("match: { kinds: [] }", "order: 1"),
    ] {
        let server = Harness::start(&yaml).await;
        let mut seen = server.review("/mutate", &create(&service())).await.to_string();
        seen += &server.review("/validate", &create(&service())).await.to_string();
        seen += &server.get("/metrics").await.1;
        assert!(!seen.contains("not-shown-to-anyone"));
    }
    let logged = harness::logged();
    for line in [
        "credentials written",
        "credentials not written",
        "Secret minio/root has no",
    ] {
        assert!(logged.contains(line), "nothing was logged of: {line}");
    }
    assert!(!logged.contains("not-shown-to-anyone"));
}

#[tokio::test]
async fn what_happened_is_counted() {
    let server = Harness::start(MINIO).await;
    for _ in 0..2 {
        server.review("/mutate", &create(&service())).await;
    }
    let mut foreign = service();
    foreign["metadata"]["namespace"] = "sales".into();
    server.review("/mutate", &create(&foreign)).await;
    let (_, metrics) = server.get("/metrics").await;
    for line in [
        r#"tidewaiter_reviews_total{endpoint="mutate",ending="patched"} 2"#,
        r#"tidewaiter_reviews_total{endpoint="mutate",ending="refused"} 1"#,
        r#"tidewaiter_credentials_total{result="written"} 1"#,
        r#"tidewaiter_credentials_total{result="unchanged"} 1"#,
        r#"tidewaiter_changes_total{policy="storage-credentials",field="annotations"} 2"#,
        r#"tidewaiter_refusals_total{policy="storage-credentials",code="prefix-not-granted"} 1"#,
        r#"tidewaiter_policy_runs_total{policy="storage-credentials",ending="acted"} 2"#,
        r#"tidewaiter_breaker_open{backend="minio"} 0"#,
        "tidewaiter_configuration_problems 0",
        &format!("tidewaiter_policies {}", tidewaiter_builtin::POLICIES.len()),
    ] {
        assert!(metrics.lines().any(|there| there == line), "{line}\n{metrics}");
    }
    let expiry = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tidewaiter_certificate_expiry_timestamp_seconds "));
    assert!(expiry.unwrap().parse::<i64>().unwrap() > 1_795_000_000);
}

#[tokio::test]
async fn a_review_needs_no_socket() {
    let server = Harness::start(MINIO).await;
    let body = serde_json::to_vec(&create(&service())).unwrap();
    let answer = server
        .running
        .reviewer
        .review_bytes(Endpoint::mutate, &body)
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"], server.review("/mutate", &create(&service())).await);
}

#[test]
fn both_custom_resources_are_printed() {
    let yaml = tidewaiter_webhook::run::crds().unwrap();
    let crds: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    let names: Vec<&str> = crds.iter().filter_map(|crd| crd["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["storagebackends.tidewaiter.dev", "wasmpolicies.tidewaiter.dev"]);
    for crd in &crds {
        assert_eq!(crd["spec"]["scope"], "Cluster");
        assert!(crd["spec"]["versions"][0]["subresources"]["status"].is_object());
    }
}

#[tokio::test]
async fn the_annotation_that_kserves_configuration_renames_is_filled_in_and_believed() {
    const RENAMED: &str = "corp.example/store-secret";
    let yaml = format!(
        "{MINIO}---
apiVersion: v1
kind: ConfigMap
metadata: {{ name: inferenceservice-config, namespace: kserve }}
data:
  credentials: '{{\"storageSecretNameAnnotation\": \"{RENAMED}\", \"s3\": {{\"s3SecretAccessKeyName\": \"AWS_SECRET_ACCESS_KEY\"}}}}'
---
apiVersion: v1
kind: Secret
metadata: {{ namespace: sales, name: own }}
stringData: {{ AWS_ACCESS_KEY_ID: sales, AWS_SECRET_ACCESS_KEY: not-shown-to-anyone }}
"
    );
    let server = Harness::start(&yaml).await;
    let response = server.review("/mutate", &create(&service())).await;
    let annotations = patched(&service(), &response)["metadata"]["annotations"].clone();
    assert_eq!(annotations[RENAMED], "tidewaiter-minio", "{response}");
    assert_eq!(annotations["serving.kserve.io/storageSecretName"], Value::Null);

    // No grant, and none needed by who brings their own; the shipped name means nothing to KServe here.
    let mut sales = service();
    sales["metadata"]["namespace"] = "sales".into();
    for (name, allowed) in [(RENAMED, true), ("serving.kserve.io/storageSecretName", false)] {
        sales["metadata"]["annotations"] = json!({name: "own"});
        let response = server.review("/mutate", &create(&sales)).await;
        assert_eq!(response["allowed"], allowed, "{name}: {response}");
        assert_eq!(response["patch"], Value::Null);
    }

    // A service from before us that is told of our Secret afterwards: that changes what KServe opens the store with.
    let mut elsewhere = service();
    elsewhere["spec"]["predictor"]["model"]["storageUri"] = "s3://elsewhere/1".into();
    let mut named = elsewhere.clone();
    named["metadata"]["annotations"] = json!({RENAMED: "tidewaiter-minio"});
    let response = server.review("/mutate", &update(&named, &elsewhere)).await;
    assert_eq!(
        response["status"]["details"]["causes"][0]["reason"], "managed-secret",
        "{response}"
    );
}

/// Built-in policies keep tenants apart, and their objects are written by people.
#[tokio::test]
async fn a_slip_in_a_built_in_policys_object_turns_it_not_off() {
    for spec in [
        "{module: {builtin: storage-credentials}, settings: {unserved: block}}",
        "{module: {builtin: storage-credentials}, match: {kinds: [InferenceServices]}}",
        "{module: {builtin: storage-credentials}, limits: {timeMs: 0}}",
        "{module: {builtin: storage-credential}}",
    ] {
        let yaml = format!(
            "{MINIO}---\napiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {{name: storage-credentials}}\nspec: {spec}\n"
        );
        let server = Harness::start(&yaml).await;
        let response = server.review("/mutate", &create(&service())).await;
        assert!(response["patch"].is_string(), "{spec}: {response}");
        let mut theirs = service();
        theirs["metadata"]["namespace"] = json!("somebody");
        let response = server.review("/mutate", &create(&theirs)).await;
        assert_eq!(response["allowed"], false, "{spec}");
    }
}

/// It was there, and never ran: there is no version of it that could stay.
#[tokio::test]
async fn what_never_ran_is_no_good_version() {
    let with = |failure_policy: &str| {
        format!(
            "{MINIO}---\napiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {{name: own}}\nspec:\n  module: {{file: own.wasm}}\n  \
             failurePolicy: {failure_policy}\n"
        )
    };
    let server = Harness::start(MINIO).await;
    let reloaded = async |yaml: &str| {
        let loads = async || {
            let (_, metrics) = server.get("/metrics").await;
            let counts = metrics
                .lines()
                .filter(|line| line.starts_with("tidewaiter_reloads_total{what=\"configuration\""));
            counts
                .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
                .sum::<usize>()
        };
        let before = loads().await;
        std::fs::write(server.folder.path().join("config.yaml"), yaml).unwrap();
        while loads().await == before {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    std::fs::write(server.folder.path().join("own.wasm"), "no component").unwrap();
    reloaded(&with("fail")).await;
    assert_eq!(server.review("/mutate", &create(&service())).await["allowed"], false);
    std::fs::remove_file(server.folder.path().join("own.wasm")).unwrap();
    reloaded(&with("ignore")).await;
    let response = server.review("/mutate", &create(&service())).await;
    assert_eq!(response["allowed"], true);
    let warnings = response["warnings"].to_string();
    assert!(
        warnings.contains("admitted without the policy own, which is not loaded"),
        "{warnings}"
    );
}

/// What it is there to stop would pass without a word, and what it filled in before would be taken out.
#[tokio::test]
async fn a_policy_that_can_not_be_loaded_fails_by_its_failure_policy() {
    let with = |module: &str, failure_policy: &str| {
        format!(
            "{MINIO}---\napiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {{name: storage-credentials}}\nspec:\n  module: {module}\n  \
             failurePolicy: {failure_policy}\n  match: {{namespaces: [team-a]}}\n"
        )
    };
    let first = Harness::start(MINIO).await;
    let filled = patched(&service(), &first.review("/mutate", &create(&service())).await);
    for (module, capabilities) in [
        ("{file: gone.wasm}", ""),
        ("{builtin: storage-credentials}", "\n  capabilities: [log]"),
    ] {
        let server = Harness::start(&with(&format!("{module}{capabilities}"), "fail")).await;
        assert_eq!(server.get("/readyz").await.0, 200);
        let response = server.review("/mutate", &create(&service())).await;
        assert_eq!(response["allowed"], false);
        let message = response["status"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("the policy storage-credentials is not loaded; its failure policy is `fail`"),
            "{message}"
        );

        let server = Harness::start(&with(&format!("{module}{capabilities}"), "ignore")).await;
        let mut changed = filled.clone();
        changed["spec"]["predictor"]["minReplicas"] = json!(2);
        let response = server.review("/mutate", &update(&changed, &filled)).await;
        assert_eq!(response["allowed"], true);
        assert_eq!(patched(&changed, &response), changed, "something was withdrawn");
        assert_eq!(
            response["warnings"],
            json!(["tidewaiter: admitted without the policy storage-credentials, which is not loaded"])
        );
    }
}
