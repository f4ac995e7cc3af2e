//! The laws of the design, for generated services: the real built-in policies, on a real store, behind the server's own decoder and encoder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use harness::{create, patched, update};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tidewaiter_store::{ACCESS_KEY, CHURN, FRAUD, PRICES, SECRET_KEY, Store};
use tidewaiter_webhook::http::certificate::TlsSource;
use tidewaiter_webhook::metrics::Endpoint;
use tidewaiter_webhook::{Options, Running, Server, Source};
use tokio::runtime::Runtime;

const RECORD: &str = "tidewaiter.dev/filled";

/// One server and one store for all cases; none of them is cheap.
static GATE: LazyLock<Gate> = LazyLock::new(Gate::open);

struct Gate {
    runtime: Runtime,
    server: Running,
    _store: Store,
    _folder: TempDir,
}

impl Gate {
    fn open() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = TempDir::new().unwrap();
        let (server, store) = runtime.block_on(async {
            let store = Store::start().await.unwrap();
            store.put("mlflow/team/fraud", FRAUD).unwrap();
            store.put("mlflow/public/churn", CHURN).unwrap();
            store.put("mlflow/public/prices", PRICES).unwrap();
            std::fs::write(folder.path().join("minio.yaml"), backend(&store.endpoint)).unwrap();
            let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let tls = TlsSource::Pem {
                certificate: identity.cert.pem().into_bytes(),
                key: identity.signing_key.serialize_pem().into_bytes(),
            };
            let options = Options::new(Source::Folder(folder.path().into()), tls);
            let server = Server::start(options).await.unwrap();
            server.ready().await;
            (server, store)
        });
        Self {
            runtime,
            server,
            _store: store,
            _folder: folder,
        }
    }

    fn answer(&self, review: &Value) -> Value {
        let body = review.to_string();
        let answer = self.server.reviewer.review_bytes(Endpoint::mutate, body.as_bytes());
        let answer = self.runtime.block_on(answer).unwrap();
        serde_json::from_slice::<Value>(&answer).unwrap()["response"].clone()
    }

    /// How many Secrets are in this namespace by now.
    fn secrets(&self, namespace: &Value) -> usize {
        let objects = self.server.recorded.as_ref().unwrap().objects();
        let there = |secret: &&str| Some(*secret) == namespace.as_str();
        objects
            .iter()
            .filter_map(|objects| objects.secret.metadata.namespace.as_deref())
            .filter(there)
            .count()
    }
}

fn backend(endpoint: &str) -> String {
    format!(
        "
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {{ name: minio }}
spec:
  type: s3
  serves: ['s3://mlflow/']
  s3: {{ endpoint: '{endpoint}', region: us-east-1 }}
  credentials: {{ secretRef: {{ namespace: minio, name: root }} }}
  grants:
    - namespaces: ['*']
      prefixes: ['s3://mlflow/team/', 's3://mlflow/public/']
---
apiVersion: v1
kind: Secret
metadata: {{ namespace: minio, name: root }}
stringData: {{ accessKey: '{ACCESS_KEY}', secretKey: '{SECRET_KEY}' }}
"
    )
}

fn uri() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "s3://mlflow/team/fraud",
        "s3://mlflow/public/churn",
        "s3://mlflow/public/churn/",
        "s3://mlflow/public/prices",
        "s3://mlflow/public/nothing-here",
        "s3://mlflow/others/model",
        "s3://elsewhere/model",
        "pvc://volume/model",
        "models:/fraud/3",
        "no uri",
    ])
}

fn maybe(values: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
    prop::option::weighted(0.25, prop::sample::select(values))
}

fn with(mut object: Value, fields: &[(&str, Option<&str>)]) -> Value {
    for (name, value) in fields {
        if let Some(value) = value {
            object[*name] = json!(value);
        }
    }
    object
}

/// Every shape of a predictor that carries a model.
fn predictor() -> impl Strategy<Value = Value> {
    let format = prop::sample::select(vec!["mlflow", "sklearn", "xgboost", "lightgbm", "unheard-of"]);
    let runtime = maybe(&["kserve-mlserver", "kserve-xgbserver", "own"]);
    let version = maybe(&["1.5.0", "1.7.1", "none"]);
    let protocol = maybe(&["v1", "v2", "grpc-v2"]);
    let model = (format, uri(), runtime, version, protocol, any::<bool>()).prop_map(
        |(format, uri, runtime, version, protocol, gpu)| {
            let model = json!({"modelFormat": {"name": format}, "storageUri": uri});
            let mut model = with(
                model,
                &[
                    ("runtime", runtime),
                    ("runtimeVersion", version),
                    ("protocolVersion", protocol),
                ],
            );
            if gpu {
                model["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
            }
            json!({"model": model})
        },
    );
    let old = (prop::sample::select(vec!["sklearn", "xgboost", "pytorch"]), uri(), maybe(&["v0.20.0"])).prop_map(
        |(framework, uri, version)| json!({framework: with(json!({"storageUri": uri}), &[("runtimeVersion", version)])}),
    );
    let custom = uri().prop_map(|uri| {
        json!({"containers": [{"name": "kserve-container", "image": "own:1", "env": [{"name": "STORAGE_URI", "value": uri}]}]})
    });
    let several = (uri(), uri()).prop_map(|(first, second)| {
        let uris = json!([{"uri": first, "mountPath": "/mnt/a"}, {"uri": second, "mountPath": "/mnt/b"}]);
        json!({"model": {"modelFormat": {"name": "mlflow"}}, "storageUris": uris})
    });
    prop_oneof![4 => model, 2 => old, 1 => custom, 1 => several]
}

fn service() -> impl Strategy<Value = Value> {
    let annotations = prop::collection::btree_map(
        prop::sample::select(vec![
            "serving.kserve.io/storageSecretName",
            "serving.kserve.io/deploymentMode",
            "tidewaiter.dev/allow-wrong-answers",
            "argocd.argoproj.io/tracking-id",
            RECORD,
        ]),
        prop::sample::select(vec!["true", "mine", "{}", r#"{"/spec/predictor/model/runtime":"own"}"#]),
        0..3,
    );
    let namespace = prop::sample::select(vec!["team", "weather"]);
    let spec = prop_oneof![4 => inference_spec().boxed(), 1 => llm_spec().boxed()];
    (spec, annotations, namespace).prop_map(|((kind, spec), annotations, namespace)| {
        let version = if kind == LLM { "v1alpha1" } else { "v1beta1" };
        let mut object = json!({
            "apiVersion": format!("serving.kserve.io/{version}"),
            "kind": kind,
            "metadata": {"name": "generated", "namespace": namespace},
            "spec": spec,
        });
        if !annotations.is_empty() {
            object["metadata"]["annotations"] = json!(annotations);
        }
        object
    })
}

const LLM: &str = "LLMInferenceService";

/// A predictor with all that may stand beside it.
fn inference_spec() -> impl Strategy<Value = (&'static str, Value)> {
    let custom =
        |uri: &str| json!({"containers": [{"image": "own:1", "env": [{"name": "STORAGE_URI", "value": uri}]}]});
    let transformer = prop::option::weighted(0.2, uri().prop_map(custom));
    let explainer = prop_oneof![
        uri().prop_map(|uri| json!({"art": {"type": "SquareAttack", "storageUri": uri}})),
        uri().prop_map(custom),
    ];
    let canary = (predictor(), maybe(&["default", "mine"])).prop_map(|(predictor, account)| {
        json!({"name": "next", "trafficPercent": 10, "predictor": with(predictor, &[("serviceAccountName", account)])})
    });
    (
        predictor(),
        maybe(&["default", "mine"]),
        transformer,
        prop::option::weighted(0.2, explainer),
        prop::option::weighted(0.3, prop::collection::vec(canary, 1..3)),
    )
        .prop_map(|(predictor, account, transformer, explainer, canary)| {
            let mut spec = json!({"predictor": with(predictor, &[("serviceAccountName", account)])});
            let beside = [
                ("transformer", transformer),
                ("explainer", explainer),
                ("canary", canary.map(Value::from)),
            ];
            for (name, value) in beside {
                if let Some(value) = value {
                    spec[name] = value;
                }
            }
            ("InferenceService", spec)
        })
}

/// Main Pods, perhaps several nodes of them, perhaps others for the prefill, with a model and its adapters.
fn llm_spec() -> impl Strategy<Value = (&'static str, Value)> {
    let template = |name: &'static str| {
        let account = maybe(&["default", "mine"]);
        let pod = account.prop_map(|account| {
            with(
                json!({"containers": [{"name": "main"}]}),
                &[("serviceAccountName", account)],
            )
        });
        prop::option::weighted(0.3, pod.prop_map(move |pod| (name, pod)))
    };
    let adapters = prop::collection::vec(uri(), 0..3);
    (
        uri(),
        adapters,
        template("template"),
        template("worker"),
        prop::option::weighted(0.4, template("template")),
    )
        .prop_map(|(uri, adapters, template, worker, prefill)| {
            let adapters: Vec<Value> = adapters.iter().map(|uri| json!({"name": "a", "uri": uri})).collect();
            let mut spec = json!({"model": {"name": "m", "uri": uri}});
            if !adapters.is_empty() {
                spec["model"]["lora"] = json!({"adapters": adapters});
            }
            for (name, pod) in [template, worker].into_iter().flatten() {
                spec[name] = pod;
            }
            if let Some(template) = prefill {
                spec["prefill"] = template.map_or_else(|| json!({}), |(name, pod)| json!({name: pod}));
            }
            (LLM, spec)
        })
}

/// The service with so many replicas: a change that concerns no policy.
fn scaled(service: &Value, replicas: u32) -> Value {
    let mut service = service.clone();
    let at = if service["kind"] == LLM {
        "/spec"
    } else {
        "/spec/predictor"
    };
    let field = if service["kind"] == LLM {
        "replicas"
    } else {
        "minReplicas"
    };
    service.pointer_mut(at).unwrap()[field] = json!(replicas);
    service
}

/// What KServe's own webhook makes of a service, as far as it concerns us: old shapes become `model`, a mode and resources are filled in.
fn defaulted(service: &Value) -> Value {
    let mut service = service.clone();
    // Of an LLMInferenceService its webhook leaves all this alone.
    let Some(predictor) = service["spec"]["predictor"].as_object_mut() else {
        return service;
    };
    for framework in ["sklearn", "xgboost", "pytorch"] {
        if let Some(mut old) = predictor.remove(framework) {
            old["modelFormat"] = json!({"name": framework});
            predictor.insert("model".into(), old);
        }
    }
    if let Some(model) = predictor.get_mut("model") {
        model["name"] = json!("");
    }
    let metadata = service["metadata"].as_object_mut().unwrap();
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    annotations["serving.kserve.io/deploymentMode"] = json!("Standard");
    service
}

/// All values with their JSON Pointers.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    fn walk(at: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    walk(
                        &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                        value,
                        into,
                    );
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    walk(&format!("{at}/{index}"), value, into);
                }
            }
            _ => {
                into.insert(at.to_owned(), value.clone());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk("", value, &mut all);
    all.remove("/metadata/annotations/tidewaiter.dev~1filled");
    all
}

fn record(service: &Value) -> Map<String, Value> {
    let text = service["metadata"]["annotations"][RECORD].as_str().unwrap_or("{}");
    serde_json::from_str(text).unwrap_or_default()
}

fn check(cases: u32, law: impl Fn(Value) -> Result<(), TestCaseError>) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config).run(&service(), law).unwrap();
}

#[test]
fn law_1_the_users_word_wins() {
    check(256, |service| {
        let first = GATE.answer(&create(&service));
        if first["allowed"] == false {
            return Ok(());
        }
        let stored = patched(&service, &first);
        let (after, said) = (leaves(&stored), record(&service));
        for (path, value) in leaves(&service) {
            // Not the user's: the object itself says that we filled it in, as one that was exported and is applied again does.
            if said.get(&path) == Some(&value) {
                continue;
            }
            prop_assert_eq!(after.get(&path), Some(&value), "{} was changed", path);
        }
        // What the user takes out stays out.
        for (path, value) in record(&stored).iter().filter(|(_, value)| !value.is_null()) {
            let mut without = stored.clone();
            let (parent, name) = path.rsplit_once('/').unwrap();
            let name = name.replace("~1", "/").replace("~0", "~");
            let Some(parent) = without.pointer_mut(parent).and_then(Value::as_object_mut) else {
                continue;
            };
            let removed = parent.remove(&name);
            prop_assert_eq!(removed.as_ref(), Some(value));
            let answer = GATE.answer(&update(&without, &stored));
            let again = patched(&without, &answer);
            prop_assert_eq!(again.pointer(path), None, "{} came back", path);
        }
        Ok(())
    });
}

#[test]
fn law_2_the_second_pass_is_empty() {
    check(256, |service| {
        let first = GATE.answer(&create(&service));
        prop_assert_eq!(&first, &GATE.answer(&create(&service)), "two answers to one review");
        if first["allowed"] == false {
            return Ok(());
        }
        let stored = patched(&service, &first);
        for old in [Value::Null, stored.clone()] {
            let again = if old.is_null() {
                create(&stored)
            } else {
                update(&stored, &old)
            };
            prop_assert_eq!(&GATE.answer(&again)["patch"], &Value::Null);
        }
        // KServe rewrites an old shape only after it came by; the second look may pin it then, a third has nothing to do.
        let reshaped = defaulted(&stored);
        let second = GATE.answer(&create(&reshaped));
        if reshaped["spec"] == stored["spec"] {
            prop_assert_eq!(&second["patch"], &Value::Null);
        }
        if second["allowed"] == true {
            let stored = patched(&reshaped, &second);
            prop_assert_eq!(&GATE.answer(&create(&stored))["patch"], &Value::Null);
        }
        Ok(())
    });
}

#[test]
fn law_2_a_reinvocation_is_empty_on_an_update_too() {
    check(128, |service| {
        let first = GATE.answer(&create(&service));
        prop_assume!(first["allowed"] == true);
        let reviewed = patched(&service, &first);
        let scaled = scaled(&service, 2);
        // The stored object as it was reviewed, and as it was before Tidewaiter came.
        for old in [&reviewed, &service] {
            let answer = GATE.answer(&update(&scaled, old));
            if answer["allowed"] == true {
                let again = GATE.answer(&update(&patched(&scaled, &answer), old));
                prop_assert_eq!(&again["patch"], &Value::Null);
            }
        }
        Ok(())
    });
}

#[test]
fn law_3_what_was_pinned_stays_pinned() {
    check(128, |mut service| {
        // A bare manifest has no record. With a forged one it says which of its own fields aren't its user's, and these are asked for again.
        if let Some(annotations) = service["metadata"]["annotations"].as_object_mut() {
            annotations.remove(RECORD);
        }
        let first = GATE.answer(&create(&service));
        prop_assume!(first["allowed"] == true);
        let stored = patched(&service, &first);
        // The tool sends its bare manifest again, with another field changed.
        let bare = scaled(&service, 2);
        let again = patched(&bare, &GATE.answer(&update(&bare, &stored)));
        prop_assert_eq!(record(&again), record(&stored));
        Ok(())
    });
}

#[test]
fn law_4_no_secret_leaves() {
    harness::listen();
    check(128, |service| {
        let answer = GATE.answer(&create(&service)).to_string();
        prop_assert!(
            !answer.contains(SECRET_KEY) && !answer.contains(ACCESS_KEY),
            "{}",
            answer
        );
        let metrics = GATE.server.metrics.encode();
        prop_assert!(!metrics.contains(SECRET_KEY) && !metrics.contains(ACCESS_KEY));
        Ok(())
    });
    let logged = harness::logged();
    assert!(logged.contains("filled in") && !logged.contains(SECRET_KEY));
}

#[test]
fn law_5_credentials_are_there_before_the_answer_and_a_dry_run_touches_nothing() {
    check(128, |mut service| {
        // A namespace of its own for each case, so that what is there is this case's doing.
        service["metadata"]["namespace"] = json!(format!("n{:x}", fnv(&service.to_string())));
        let namespace = &service["metadata"]["namespace"];
        let mut dry = create(&service);
        dry["request"]["dryRun"] = json!(true);
        let before = GATE.secrets(namespace);
        let dry = GATE.answer(&dry);
        prop_assert_eq!(GATE.secrets(namespace), before, "a dry run wrote a Secret");
        let answer = GATE.answer(&create(&service));
        prop_assert_eq!(&dry, &answer);
        let named = record(&patched(&service, &answer))
            .values()
            .any(|value| value == "tidewaiter-minio");
        if named {
            prop_assert_eq!(GATE.secrets(namespace), 1);
        }
        Ok(())
    });
}

#[test]
fn law_6_nothing_is_silent() {
    check(256, |service| {
        let answer = GATE.answer(&create(&service));
        let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
        for line in &warnings {
            prop_assert!(line.as_str().unwrap().chars().count() <= 120, "{}", line);
        }
        if answer["allowed"] == false {
            let message = answer["status"]["message"].as_str().unwrap_or_default();
            prop_assert!(message.len() > 20, "{}", answer);
            return Ok(());
        }
        let (before, after) = (leaves(&service), leaves(&patched(&service, &answer)));
        let set = after.iter().filter(|(path, value)| before.get(*path) != Some(*value));
        let taken_out = before.iter().filter(|(path, _)| !after.contains_key(*path));
        let changes = set
            .map(|(path, value)| (path, format!("{} = {value}: ", place(path)), format!(": set {value}: ")))
            .chain(
                taken_out.map(|(path, _)| (path, format!("took out {}: ", place(path)), ": withdrawn: ".to_owned())),
            );
        for (path, said, audited) in changes {
            let line = format!("tidewaiter: {said}");
            let is_said = |warning: &Value| warning.as_str().is_some_and(|warning| warning.starts_with(&line));
            prop_assert!(warnings.iter().any(is_said), "{}: {:?}", line, warnings);
            let annotation = answer["auditAnnotations"][audit_key(path)].as_str().unwrap_or_default();
            prop_assert!(
                annotation.contains(&audited),
                "{}: {:?}",
                path,
                answer["auditAnnotations"]
            );
        }
        Ok(())
    });
}

/// A place as a warning names it.
fn place(path: &str) -> String {
    tidewaiter_core::lines::place(&tidewaiter_core::document::Path::parse(path).unwrap())
}

/// The annotation of the audit log that speaks of this path: its end, of characters that a label's name may have.
fn audit_key(path: &str) -> String {
    let dotted = path.trim_start_matches('/').replace('/', ".").replace("~1", "_");
    dotted[dotted.len().saturating_sub(63)..].to_owned()
}

#[test]
fn law_8_never_in_the_way_of_leaving_or_standing_still() {
    check(128, |service| {
        let untouched = |answer: &Value| answer["allowed"] == true && answer["patch"].is_null();
        // It ran before we came, whatever we think of it.
        let mut leaving = service.clone();
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        leaving["metadata"]["finalizers"] = json!([]);
        prop_assert!(untouched(&GATE.answer(&update(&leaving, &service))));
        let mut labelled = service.clone();
        labelled["metadata"]["labels"] = json!({"team": "a"});
        prop_assert!(untouched(&GATE.answer(&update(&labelled, &service))));
        prop_assert_eq!(
            &GATE.answer(&update(&scaled(&service, 0), &service))["allowed"],
            &json!(true)
        );
        let mut stopped = service.clone();
        stopped["metadata"]["annotations"]["serving.kserve.io/stop"] = json!("true");
        prop_assert!(untouched(&GATE.answer(&update(&stopped, &service))));
        Ok(())
    });
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
