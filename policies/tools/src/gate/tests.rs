use tidewaiter_engine::Options;

use super::*;
use crate::files::parsed;

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

async fn reviewed() -> Vec<Reviewed> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("minio.yaml"), BACKEND).unwrap();
    let engine = Engine::new(Options::default()).unwrap();
    let source = Source::folder(folder.path(), &BTreeMap::new()).unwrap();
    let gate = Gate::new(&engine, source).await;
    assert_eq!(gate.problems(), []);
    assert!(gate.policies().any(|policy| policy == "storage-credentials"));
    let mut all = Vec::new();
    for manifest in parsed("services.yaml", SERVICES).unwrap() {
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
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_told_what_the_cluster_would_say_with_their_lines() {
    let reviewed = reviewed().await;
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
    let reviewed = reviewed().await;
    let sarif = sarif(&reviewed);
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let error = results.iter().find(|result| result["level"] == "error").unwrap();
    let place = &error["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "services.yaml");
    assert_eq!(place["region"]["startLine"], 26);
    assert!(error["ruleId"].as_str().unwrap().starts_with("storage-credentials/"));
    let junit = junit(&reviewed);
    assert!(junit.contains("tests=\"2\" failures=\"1\""), "{junit}");
}
