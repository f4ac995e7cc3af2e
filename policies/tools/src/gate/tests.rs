use serde_json::Value;
use tidewaiter_core::policy_resource::WasmPolicySpec;
use tidewaiter_engine::{LoadError, Options};

use super::*;
use crate::files::Files;

const BACKEND: &str = include_str!("../../fixtures/minio.yaml");

const SERVICES: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: team-a}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: own
  namespace: team-a
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: s3://mlflow/team-a/model
---
apiVersion: v1
kind: List
items:
  - apiVersion: serving.kserve.io/v1beta1
    kind: InferenceService
    metadata: {name: foreign, namespace: team-a}
    spec:
      predictor:
        model:
          modelFormat: {name: sklearn}
          storageUri: s3://mlflow/team-b/model
";

async fn gate(folder: &Path) -> Gate {
    let engine = Engine::new(Options::default()).unwrap();
    let source = Source::folder(folder, &BTreeMap::new()).unwrap();
    Gate::new(&engine, source).await
}

async fn reviewed() -> (Vec<Reviewed>, Gate) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("minio.yaml"), BACKEND).unwrap();
    let gate = gate(folder.path()).await;
    assert_eq!(gate.problems(), []);
    assert!(gate.policies().any(|policy| policy == "storage-credentials"));
    let mut all = Vec::new();
    for manifest in Files::parsed("services.yaml", SERVICES).manifests {
        if manifest.kind() != "InferenceService" {
            continue;
        }
        let ask = Ask::create(&manifest.object.value).unwrap();
        let judged = gate.review(&ask).await;
        assert!(
            judged.calls.iter().any(|call| call.function == "storage.resolve"),
            "{judged:?}"
        );
        all.push(Reviewed::new(&manifest, "team-a", &judged));
    }
    (all, gate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_told_what_the_cluster_would_say_with_their_lines() {
    let (reviewed, _) = reviewed().await;
    let [own, foreign] = &reviewed[..] else {
        panic!("{reviewed:?}")
    };
    assert_eq!(
        (own.verdict, own.line, own.name.as_str()),
        (Verdict::Admitted, 5, "own")
    );
    let fill = own.findings.iter().find(|finding| finding.code == "fill").unwrap();
    assert!(fill.message.contains("tidewaiter-minio"), "{fill:?}");
    assert_eq!(
        (foreign.verdict, foreign.worst()),
        (Verdict::Refused, Some(Level::Error))
    );
    let denial = &foreign.findings[0];
    assert_eq!(
        (denial.policy.as_str(), denial.line),
        ("storage-credentials", 26),
        "{denial:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_get_the_same() {
    let (reviewed, gate) = reviewed().await;
    let sarif = sarif(&reviewed, &gate);
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let error = results.iter().find(|result| result["level"] == "error").unwrap();
    let place = &error["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "services.yaml");
    assert_eq!(place["region"]["startLine"], 26);
    assert!(error["ruleId"].as_str().unwrap().starts_with("storage-credentials/"));
    assert_eq!(sarif["runs"][0]["invocations"][0]["executionSuccessful"], true);
    let junit = junit(&reviewed, &gate);
    assert!(junit.contains("tests=\"2\" failures=\"1\" errors=\"0\""), "{junit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_get_what_could_not_be_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("minio.yaml"), BACKEND).unwrap();
    let gate = gate(folder.path()).await;
    let files = Files::parsed(
        "a.yaml",
        "kind: [\n---\napiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n",
    );
    let message = "this InferenceService has no name".to_owned();
    let path = Some("/metadata/name".to_owned());
    let reviewed = [
        Reviewed::unreadable(&files.unreadable[0]),
        Reviewed::undecodable(&files.manifests[0], "team-a", path, message),
    ];
    assert_eq!(reviewed[0].verdict, Verdict::Undecodable);
    let sarif = sarif(&reviewed, &gate);
    let run = &sarif["runs"][0];
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    let results = run["results"].as_array().unwrap();
    let told = results.iter().map(|result| {
        let place = &result["locations"][0]["physicalLocation"];
        let region = &place["region"]["startLine"];
        assert_eq!(
            (&result["level"], &result["ruleId"]),
            (&"error".into(), &"tidewaiter/undecodable".into())
        );
        assert_eq!(place["artifactLocation"]["uri"], "a.yaml");
        (region.as_u64().unwrap(), result["message"]["text"].as_str().unwrap())
    });
    let told: Vec<_> = told.collect();
    assert!(told[0].1.starts_with("this is not YAML"), "{told:?}");
    assert_eq!(
        told[1],
        (3, "InferenceService team-a/: this InferenceService has no name")
    );
    let junit = junit(&reviewed, &gate);
    assert!(junit.contains("tests=\"2\" failures=\"0\" errors=\"2\""), "{junit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_fails_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("minio.yaml"), BACKEND).unwrap();
    let manifests = Files::parsed("services.yaml", SERVICES).manifests;
    let manifest = manifests.iter().find(|manifest| manifest.name() == "own").unwrap();
    for (failure_policy, verdict, level, says) in [
        (
            "fail",
            Verdict::Refused,
            Level::Error,
            "the policy own is not loaded; its failure policy is `fail`",
        ),
        (
            "ignore",
            Verdict::Admitted,
            Level::Warning,
            "the policy own is not loaded; the object would be admitted without it",
        ),
    ] {
        let policy = format!(
            "apiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {{name: own}}\n\
             spec: {{module: {{file: none.wasm}}, failurePolicy: {failure_policy}}}\n"
        );
        std::fs::write(folder.path().join("policy.yaml"), policy).unwrap();
        let judged = gate(folder.path())
            .await
            .review(&Ask::create(&manifest.object.value).unwrap())
            .await;
        let reviewed = Reviewed::new(manifest, "team-a", &judged);
        let findings: Vec<_> = reviewed.findings.iter().filter(|one| one.policy == "own").collect();
        let [finding] = findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(
            (reviewed.verdict, finding.level, finding.code.as_str()),
            (verdict, level, "policy-failed"),
            "{finding:?}"
        );
        assert!(finding.message.starts_with(says), "{finding:?}");
    }
}

/// A policy and a backend that can't be used, and a backend whose Secret is elsewhere.
const SLIPS: &str = "\
apiVersion: tidewaiter.dev/v1alpha1
kind: WasmPolicy
metadata: {name: own}
spec: {module: {file: none.wasm}}
---
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {name: typo}
spec: {type: s3, servs: ['s3://typo/']}
---
apiVersion: tidewaiter.dev/v1alpha1
kind: StorageBackend
metadata: {name: elsewhere}
spec:
  type: s3
  serves: ['s3://elsewhere/']
  s3: {endpoint: 'http://127.0.0.1:9'}
  credentials: {secretRef: {namespace: minio, name: root}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_get_what_is_wrong_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("slips.yaml"), SLIPS).unwrap();
    let gate = gate(folder.path()).await;
    let sarif = sarif(&[], &gate);
    let invocation = &sarif["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let told = |name: &str| {
        let notifications = invocation["toolConfigurationNotifications"].as_array().unwrap();
        let of_it = |told: &&Value| told["message"]["text"].as_str().unwrap().starts_with(name);
        notifications.iter().find(of_it).unwrap()
    };
    assert_eq!(told("WasmPolicy/own: ")["level"], "error");
    let typo = told("StorageBackend/typo: ");
    let place = &typo["locations"][0]["physicalLocation"];
    assert!(
        place["artifactLocation"]["uri"]
            .as_str()
            .unwrap()
            .ends_with("/slips.yaml")
    );
    assert_eq!(
        (&typo["level"], &place["region"]["startLine"]),
        (&"error".into(), &9.into())
    );
    assert_eq!(told("StorageBackend/elsewhere: ")["level"], "warning");

    let junit = junit(&[], &gate);
    assert!(junit.contains("tests=\"3\" failures=\"0\" errors=\"2\""), "{junit}");
    assert!(
        junit.contains("<testcase name=\"configuration WasmPolicy/own\""),
        "{junit}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slip_in_its_settings_turns_no_built_in_policy_off() {
    let engine = Engine::new(Options::default()).unwrap();
    let builtin = tidewaiter_builtin::builtin("storage-credentials").unwrap();
    let component = bytes::Bytes::from_static(builtin.component);
    let mut spec = WasmPolicySpec::builtin(builtin.name, &[]);
    spec.settings.insert("unserved".to_owned(), "denny".into());
    let policy = Policy::of("own", &spec);
    let Loaded { policy: runs, slip, .. } = policy.load(&engine, &component, false).await.unwrap();
    assert!(runs.spec.settings.is_empty());
    let slip = slip.unwrap();
    assert!(
        slip.ends_with("; it runs with its default settings until then"),
        "{slip}"
    );
    // Where its last good version stays, that is better than its defaults.
    let refused = policy.load(&engine, &component, true).await.err().unwrap();
    assert!(matches!(refused, LoadError::Settings(_)), "{refused}");
}
