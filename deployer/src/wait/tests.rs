//! What a real cluster said, and what is made of it. Each fixture was written by KServe 0.20 on Kubernetes 1.36, with KServe's storage initializer and the servers' own
//! images, for a service that was made to fail in this one way.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// A cluster's words for one case: the service, its Pods, the warnings about them; and what a container wrote.
fn case(objects: &str, log: Option<(&str, &str)>) -> State {
    let objects: Value = serde_json::from_str(objects).unwrap();
    let list = |name: &str| objects[name].as_array().cloned().unwrap_or_default();
    let pods = list("pods");
    let pod = pods.first().map_or("", |pod| pod["metadata"]["name"].as_str().unwrap());
    let logs = log.map(|(container, log)| ((pod.to_owned(), container.to_owned()), log.to_owned()));
    State {
        service: objects["service"].clone(),
        logs: logs.into_iter().collect(),
        events: list("events"),
        pods,
        is_control_plane: false,
        quiet: 0,
        since: None,
        before: BTreeSet::new(),
    }
}

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/", $name))
    };
}

const SERVER: &str = "kserve-container";
const INITIALIZER: &str = "storage-initializer";

/// The reason, told as a person would, with the next step.
fn told(state: &State) -> (Cause, bool, String) {
    let finding = diagnose(state).expect("something is found");
    assert!(!finding.evidence.is_empty(), "{finding:?}");
    (
        finding.cause,
        finding.certain,
        format!(
            "{}; {} [{}]",
            finding.message,
            finding.next,
            finding.evidence.join(" | ")
        ),
    )
}

fn expect(state: &State, cause: Cause, certain: bool, parts: &[&str]) {
    let (found, is_certain, told) = told(state);
    assert_eq!((found, is_certain), (cause, certain), "{told}");
    for part in parts {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
}

#[test]
fn a_wrong_key_is_told_as_credentials() {
    let log = fixture!("initializer-wrong-key.log");
    for log in [Some((INITIALIZER, log)), None] {
        // Without the right to read logs, the Pod's status has the same words.
        let state = case(fixture!("wrong-key.json"), log);
        expect(
            &state,
            Cause::CredentialsWrong,
            true,
            &[
                "the store refuses the credentials for s3://svclab/fraud",
                "--aws-access-key-id",
                "403",
            ],
        );
    }
    // The Secret is named where the Pod says which it is.
    let mut named = case(fixture!("wrong-key.json"), None);
    let variable = serde_json::json!({"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "minio", "key": "AWS_ACCESS_KEY_ID"}}});
    named.pods[0]["spec"]["initContainers"][0]["env"] = Value::from(vec![variable]);
    // Of what Tidewaiter brought its user has no key to give.
    let mut brought = named.clone();
    brought.service["metadata"]["annotations"]["tidewaiter.dev/filled"] = "[]".into();
    brought.pods[0]["spec"]["initContainers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"] =
        "tidewaiter-minio".into();
    let of_backend = ["Tidewaiter brought them", "kubectl describe storagebackend minio"];
    expect(&brought, Cause::CredentialsWrong, false, &of_backend);
    expect(
        &named,
        Cause::CredentialsWrong,
        true,
        &[
            "credentials for s3://svclab/fraud-",
            ", which are those of the Secret minio",
        ],
    );
    let pod = &mut named.pods[0]["spec"];
    pod["initContainers"][0]["env"] = Value::Null;
    pod["volumes"] = serde_json::json!([{"name": "user-gcp-sa", "secret": {"secretName": "gcs"}}]);
    expect(&named, Cause::CredentialsWrong, true, &["those of the Secret gcs"]);
    // It failed before it was waited for now: the key may be another by then, and the container is tried again.
    let mut later = case(fixture!("wrong-key.json"), Some((INITIALIZER, log)));
    later.since = Some(jiff::Timestamp::now());
    assert!(!told(&later).1);
    // A key that Tidewaiter made a moment ago gets more time.
    let mut minted = case(fixture!("wrong-key.json"), None);
    minted.service["metadata"]["annotations"]["tidewaiter.dev/filled"] = Value::from("{}");
    assert!(!told(&minted).1);
}

#[test]
fn no_credentials_at_all_are_told_so() {
    expect(
        &case(fixture!("no-credentials.json"), None),
        Cause::CredentialsMissing,
        true,
        &[
            "the Pod has no credentials for s3://svclab/",
            "--secret",
            "S3 authentication failed",
        ],
    );
}

#[test]
fn a_missing_model_and_a_missing_bucket_are_told_apart() {
    expect(
        &case(fixture!("no-model.json"), None),
        Cause::NoModel,
        true,
        &["there is no model at s3://svclab/nothing-here", "No model found"],
    );
    expect(
        &case(fixture!("no-bucket.json"), None),
        Cause::NoBucket,
        true,
        &["there is no bucket nosuchbucket"],
    );
}

#[test]
fn a_store_that_nobody_reaches_is_tried_again() {
    let state = case(
        fixture!("unreachable.json"),
        Some((INITIALIZER, fixture!("initializer-unreachable.log"))),
    );
    let (cause, _, told) = told(&state);
    assert_eq!(cause, Cause::StoreUnreachable);
    assert!(
        told.contains("http://10.88.0.1:9999/svclab") && told.contains("--s3-endpoint"),
        "{told}"
    );
    let mut first = state;
    first.pods[0]["status"]["initContainerStatuses"][0]["restartCount"] = Value::from(0);
    assert!(!diagnose(&first).unwrap().certain);
}

#[test]
fn a_download_that_ends_in_words_that_nobody_knows_is_told_with_the_command_that_shows_its_log() {
    let log = "Error: nobody has heard of this\n".repeat(200);
    let mut state = case(fixture!("wrong-key.json"), Some((INITIALIZER, &log)));
    let (name, namespace) = (state.name().to_owned(), state.namespace().to_owned());
    let command = format!("tidewaiter logs {name} -n {namespace} --of initializer");
    let finding = diagnose(&state).unwrap();
    assert_eq!(finding.cause, Cause::ServerFailed);
    assert!(finding.next.ends_with(&command), "{finding:?}");
    state.pods[0]["metadata"]["labels"]["component"] = Value::from("transformer");
    let finding = diagnose(&state).unwrap();
    assert!(
        finding.next.ends_with(&format!("{command} --component transformer")),
        "{finding:?}"
    );
}

#[test]
fn versions_that_do_not_fit_are_named() {
    expect(
        &case(
            fixture!("version.json"),
            Some((SERVER, fixture!("mlserver-version-mismatch.log"))),
        ),
        Cause::VersionMismatch,
        true,
        &[
            "of other versions than those that saved the model",
            "--runtime-version",
            "No module named '_loss'",
        ],
    );
}

#[test]
fn code_that_stayed_in_a_script_is_named() {
    for module in [
        "'__main__' (built-in)",
        "'sklearnserver.__main__' from '/opt/server/sklearnserver/__main__.py'",
    ] {
        let log = format!("AttributeError: Can't get attribute 'Doubles' on <module {module}>");
        expect(
            &case(fixture!("version.json"), Some((SERVER, &log))),
            Cause::PackageMissing,
            true,
            &["needs Doubles, which the script that saved it defined", "code_paths"],
        );
    }
}

#[test]
fn a_package_that_the_image_lacks_is_named() {
    expect(
        &case(
            fixture!("package.json"),
            Some((SERVER, fixture!("sklearnserver-missing-package.log"))),
        ),
        Cause::PackageMissing,
        true,
        &["needs the package imblearn", "--image"],
    );
}

#[test]
fn a_model_of_another_framework_is_told_with_what_the_server_wants() {
    expect(
        &case(
            fixture!("wrong-format.json"),
            Some((SERVER, fixture!("mlserver-wrong-format.log"))),
        ),
        Cause::WrongFramework,
        true,
        &["finds no sklearn model in s3://svclab/plain_xgboost", "model.joblib"],
    );
    expect(
        &case(
            fixture!("no-mlmodel.json"),
            Some((SERVER, fixture!("mlserver-no-mlmodel.log"))),
        ),
        Cause::WrongFramework,
        true,
        &["finds no mlflow model", "the file MLmodel"],
    );
}

#[test]
fn a_server_that_is_ready_without_a_model_is_no_success() {
    let log = fixture!("sklearnserver-wrong-format.log");
    let state = case(fixture!("ready-without-model.json"), Some((SERVER, log)));
    assert_eq!(stage(&state), Stage::Ready, "KServe says so");
    let finding = remarks(&state).unwrap_err();
    assert_eq!(finding.cause, Cause::WrongFramework);
    assert!(
        finding.evidence[0].contains("failed to locate model file"),
        "{finding:?}"
    );
}

#[test]
fn a_ready_server_with_other_libraries_is_remarked_on() {
    let of = |log| remarks(&case(fixture!("ready.json"), Some((SERVER, log)))).unwrap();
    assert_eq!(
        of(fixture!("mlserver-other-versions.log")),
        ["scikit-learn: the model was saved with 1.4.1.post1, the server has 1.7.0"]
    );
    assert_eq!(
        of(fixture!("sklearnserver-other-version.log")),
        ["scikit-learn: the model was saved with 1.7.0, the server has 1.5.2"]
    );
    assert_eq!(of(fixture!("mlserver-good.log")), Vec::<String>::new());
}

#[test]
fn another_architecture_is_told() {
    expect(
        &case(
            fixture!("exec-format.json"),
            Some((SERVER, fixture!("exec-format.log"))),
        ),
        Cause::Architecture,
        true,
        &["another kind of processor", "kubernetes.io/arch"],
    );
    let mut placed = case(
        fixture!("exec-format.json"),
        Some((SERVER, fixture!("exec-format.log"))),
    );
    placed.pods[0]["spec"]["nodeName"] = Value::from("node-3");
    expect(
        &placed,
        Cause::Architecture,
        true,
        &["the image docker.io/tidewaiter/pause:1", "than that of node node-3"],
    );
    let mut state = case(fixture!("arm.json"), None);
    expect(
        &state,
        Cause::Architecture,
        false,
        &["no node that is free has an arm64 processor"],
    );
    state.quiet = 121;
    expect(&state, Cause::Architecture, true, &["--node-selector"]);
}

#[test]
fn a_node_that_has_too_little_is_waited_for_and_then_told() {
    let mut state = case(fixture!("cpu.json"), None);
    expect(&state, Cause::Unschedulable, false, &["as much cpu free"]);
    // An autoscaler may not have looked at it yet.
    state.quiet = 60;
    assert!(!told(&state).1);
    let event = |reason: &str| serde_json::json!({"involvedObject": {"kind": "Pod", "name": "big-predictor-1"}, "reason": reason, "message": "x"});
    let saying = |reason: &str| {
        let mut state = state.clone();
        state.events.push(event(reason));
        state
    };
    assert!(told(&saying("NotTriggerScaleUp")).1);
    state.quiet = 121;
    expect(&state, Cause::Unschedulable, true, &["--request cpu="]);
    // A node is on its way: by the cluster-autoscaler's word, and by Karpenter's.
    for reason in ["TriggeredScaleUp", "Nominated"] {
        let mut coming = state.clone();
        coming.events.push(event(reason));
        assert!(!told(&coming).1, "{reason}");
    }
    let mut gpu = case(fixture!("gpu.json"), None);
    gpu.quiet = 121;
    expect(&gpu, Cause::Unschedulable, true, &["as much nvidia.com/gpu free"]);
}

#[test]
fn a_port_where_nobody_listens_is_told_at_the_end() {
    let state = case(fixture!("port.json"), None);
    assert_eq!(diagnose(&state), None, "it may only be slow");
    let finding = cause::at_last(&state).unwrap();
    assert_eq!(finding.cause, Cause::Ports);
    assert!(finding.message.contains("port 8080"), "{finding:?}");
}

#[test]
fn a_server_that_says_where_else_it_listens_is_told_before_the_end() {
    let said = |log: &str| {
        let mut state = case(fixture!("port.json"), Some((SERVER, log)));
        state.quiet = 60;
        state
    };
    let other = "INFO:     Started server process [1]\nINFO:     Uvicorn running on http://0.0.0.0:8081 (Press CTRL+C to quit)\n";
    let mut state = said(other);
    let parts = [
        "the server listens on port 8081, and KServe asks on port 8080",
        "have it listen on 8080",
        "Uvicorn running on",
    ];
    expect(&state, Cause::Ports, true, &parts);
    state.quiet = 59;
    expect(&state, Cause::Ports, false, &parts);
    // One that its container declares may be gRPC's, and that for REST comes with the model.
    let declared = |log: &str, port: u16| {
        let mut state = said(log);
        state.pods[0]["spec"]["containers"][0]["ports"] = serde_json::json!([{"containerPort": port}]);
        state
    };
    let loading = "gRPC server running on http://0.0.0.0:9000";
    expect(&declared(loading, 9000), Cause::Ports, false, &["listens on port 9000"]);
    expect(&declared(loading, 8080), Cause::Ports, true, &["listens on port 9000"]);
    for log in [
        "[1] [INFO] Listening at: http://0.0.0.0:8081 (7)",
        "[GIN-debug] Listening and serving HTTP on :8081",
        "Server listening on port 8081.",
        "Serving HTTP on 0.0.0.0 port 8081 (http://0.0.0.0:8081/) ...",
        "Uvicorn running on socket ('0.0.0.0', 8081) (Press CTRL+C to quit)",
    ] {
        expect(&said(log), Cause::Ports, true, &parts[..2]);
    }
    let alone = " * Running on http://127.0.0.1:8080";
    expect(
        &said(alone),
        Cause::Ports,
        true,
        &[
            "the server listens on 127.0.0.1:8080, where nobody outside",
            "have it listen on 0.0.0.0",
        ],
    );
    let parts = ["where nobody outside"];
    expect(&declared(alone, 8080), Cause::Ports, true, &parts);
    // It will open the right one, or says nothing of it.
    for log in [
        format!("{other}HTTP server running on http://0.0.0.0:8080"),
        format!("{alone}\n * Running on http://10.88.0.24:8080"),
        "Metrics server running on http://0.0.0.0:8082/metrics".to_owned(),
        "running on CPU 16 of 32".to_owned(),
    ] {
        assert_eq!(diagnose(&said(&log)), None, "{log}");
    }
}

#[test]
fn a_port_that_is_taken_is_told() {
    let log = "[Errno 98] error while attempting to bind on address ('0.0.0.0', 8081): address already in use";
    expect(
        &case(fixture!("version.json"), Some((SERVER, log))),
        Cause::Ports,
        true,
        &["can't open a port", "a number of its own", "8081"],
    );
}

#[test]
fn a_server_that_says_it_is_not_ready_has_no_wrong_port() {
    let mut state = case(fixture!("port.json"), None);
    let pod = state.pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(state.refusals(&pod), 1);
    state.events[0]["count"] = Value::from(3);
    assert_eq!((state.refusals(&pod), state.refusals("another")), (3, 0));
    state.events[0]["message"] = Value::from("Readiness probe failed: HTTP probe failed with statuscode: 503");
    assert_eq!(state.refusals(&pod), 0);
    let finding = cause::at_last(&state).unwrap();
    assert_eq!(finding.cause, Cause::ModelNotReady);
    assert!(finding.next.contains("tidewaiter logs wrongport2 -n "), "{finding:?}");
}

#[test]
fn a_control_plane_namespace_is_told_as_soon_as_the_pod_is_there() {
    let mut state = case(
        fixture!("control-plane.json"),
        Some((SERVER, fixture!("mlserver-no-folder.log"))),
    );
    state.is_control_plane = true;
    let finding = diagnose(&state).unwrap();
    assert_eq!((finding.cause, finding.certain), (Cause::ControlPlaneNamespace, true));
    assert!(
        finding
            .message
            .contains("namespace svc-control has the label `control-plane`"),
        "{finding:?}"
    );
    assert!(
        finding
            .next
            .contains("kubectl label namespace svc-control control-plane-"),
        "{finding:?}"
    );
    // Who may not read namespaces is told what can be known.
    state.is_control_plane = false;
    expect(&state, Cause::NoModel, true, &["without its model"]);
}

#[test]
fn too_little_memory_is_told_with_the_limit() {
    expect(
        &case(fixture!("memory.json"), None),
        Cause::OutOfMemory,
        true,
        &["more memory than the 60Mi that it was given", "--limit memory="],
    );
    let mut unlimited = case(fixture!("memory.json"), None);
    unlimited.pods[0]["spec"]["containers"][0]["resources"] = Value::Null;
    expect(
        &unlimited,
        Cause::OutOfMemory,
        true,
        &["more memory than its node has left"],
    );
    // Whose memory no flag says.
    for role in ["transformer", "explainer"] {
        let mut beside = case(fixture!("memory.json"), None);
        beside.pods[0]["metadata"]["labels"]["component"] = Value::from(role);
        let finding = diagnose(&beside).unwrap();
        assert_eq!(
            finding.message,
            format!("the {role} needs more memory than the 60Mi that it was given")
        );
        let field = format!("`resources.limits.memory` below `{role}` in a tidewaiter.yaml");
        assert!(finding.next.contains(&field), "{finding:?}");
    }
    let mut download = case(fixture!("memory.json"), None);
    let killed = download.pods[0]["status"]["containerStatuses"][0]["state"].clone();
    download.pods[0]["status"]["initContainerStatuses"][0]["state"] = killed;
    expect(
        &download,
        Cause::OutOfMemory,
        true,
        &[
            "the download of the model needs more memory than the 3Gi",
            "ClusterStorageContainer",
            "storageInitializer.memoryLimit",
        ],
    );
}

#[test]
fn an_image_that_nobody_has_is_named() {
    expect(
        &case(fixture!("image.json"), None),
        Cause::ImagePull,
        true,
        &[
            "can't get the image docker.io/seldonio/mlserver:9.9.9",
            "--runtime-version",
        ],
    );
}

#[test]
fn a_quota_that_is_used_up_is_told() {
    expect(
        &case(fixture!("quota.json"), None),
        Cause::Quota,
        true,
        &["namespace svc-quota has used up its quota", "exceeded quota: q"],
    );
}

#[test]
fn no_runtime_for_the_protocol_is_told() {
    expect(
        &case(fixture!("no-runtime.json"), None),
        Cause::NoRuntime,
        true,
        &[
            "no serving runtime in this cluster serves mlflow in protocol v1",
            "clusterservingruntimes",
        ],
    );
    expect(
        &case(fixture!("runtime-missing.json"), None),
        Cause::NoRuntime,
        true,
        &["no serving runtime nope"],
    );
    // One that is named is judged alone (`predictor.go` of 0.20.0).
    let mut named = case(fixture!("no-runtime.json"), None);
    named.service["spec"]["predictor"]["model"]["runtime"] = Value::from("house");
    for (message, told) in [
        (
            "Specified runtime does not support specified protocol version",
            "the serving runtime house doesn't speak protocol v1",
        ),
        (
            "Specified runtime does not support specified framework/version",
            "the serving runtime house doesn't serve mlflow",
        ),
    ] {
        named.service["status"]["modelStatus"]["lastFailureInfo"]["message"] = Value::from(message);
        expect(&named, Cause::NoRuntime, true, &[told, message]);
    }
}

#[test]
fn a_secret_that_is_not_there_gets_a_moment_to_come() {
    let mut state = case(fixture!("secret-missing.json"), None);
    expect(
        &state,
        Cause::SecretMissing,
        false,
        &["the Secret missing that the service names isn't in namespace svc-lab"],
    );
    state.quiet = 60;
    expect(
        &state,
        Cause::SecretMissing,
        true,
        &["tidewaiter secret create missing -n svc-lab"],
    );
}

#[test]
fn knative_that_is_not_installed_is_told() {
    expect(
        &case(fixture!("knative.json"), None),
        Cause::NoKnative,
        true,
        &["Knative isn't installed", "--deployment-mode Standard"],
    );
}

/// As KServe 0.15.2 has it, where Knative's admin hasn't allowed node selectors.
#[test]
fn what_knative_refuses_is_told_by_its_event_until_there_is_a_pod() {
    let mut state = case(fixture!("knative.json"), None);
    let words = "fails to reconcile predictor: admission webhook \"validation.webhook.serving.knative.dev\" denied the request: validation failed: \
                 must not set the field(s): spec.template.spec.nodeSelector";
    state.events[0]["reason"] = Value::from("InternalError");
    state.events[0]["message"] = Value::from(words);
    expect(
        &state,
        Cause::Refused,
        false,
        &["KServe can't make what the service needs"],
    );
    state.quiet = 60;
    expect(&state, Cause::Refused, true, &["spec.template.spec.nodeSelector"]);
    let mut mended = case(fixture!("loading.json"), None);
    mended.events.extend(state.events);
    assert_eq!(diagnose(&mended), None);
}

#[test]
fn a_service_on_its_way_has_nothing_wrong() {
    let state = case(fixture!("loading.json"), None);
    assert_eq!(diagnose(&state), None);
    // The download is over, the server is to start.
    assert_eq!(stage(&state), Stage::Load);
    let trying = case(fixture!("wrong-key.json"), None);
    assert_eq!(stage(&trying), Stage::Download);
    let ready = case(fixture!("ready.json"), Some((SERVER, fixture!("mlserver-good.log"))));
    assert_eq!((stage(&ready), diagnose(&ready)), (Stage::Ready, None));
    // A newer generation, which nobody has looked at yet.
    let mut changed = ready;
    changed.service["metadata"]["generation"] = Value::from(9);
    assert_ne!(stage(&changed), Stage::Ready);
}

/// Between a change and the Pod that it makes, only the Pod of before is there, and what it failed of may just have been mended.
#[test]
fn what_a_pod_of_before_failed_of_is_no_word_on_the_change() {
    let mut state = case(fixture!("wrong-key.json"), None);
    assert!(diagnose(&state).is_some());
    let name = state.pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
    state.before.insert(name);
    assert_eq!(diagnose(&state), None);
}

#[test]
fn while_pods_are_replaced_the_old_ones_do_not_count() {
    let mut state = case(fixture!("ready.json"), None);
    let mut newer = state.pods[0].clone();
    newer["metadata"]["name"] = Value::from("newer");
    newer["metadata"]["creationTimestamp"] = Value::from("2999-01-01T00:00:00Z");
    newer["metadata"]["labels"]["pod-template-hash"] = Value::from("other");
    newer["status"] = serde_json::json!({"phase": "Pending"});
    state.pods.push(newer);
    assert_eq!(state.newest_pods().len(), 1);
    assert_eq!(stage(&state), Stage::Pod);
}
