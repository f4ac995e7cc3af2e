//! What a cluster would say of manifests, and why.

use std::fs;

use serde_json::Value;

use super::{CONFIG, Desk, HELM, SERVICE};

/// Standard input is no file that a code scanning could show.
#[test]
fn findings_in_what_comes_by_standard_input_are_in_helms_templates_or_in_no_file() {
    let desk = Desk::new();
    let review = |input: &str| {
        let arguments = ["review", "-", "-n", "team-a", "--config", "config", "-o", "sarif"];
        let sarif: Value = serde_json::from_str(&desk.piped(1, &arguments, input)).unwrap();
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        let refused = results.iter().find(|result| result["level"] == "error").unwrap();
        refused["locations"][0].clone()
    };
    let place = &review(HELM)["physicalLocation"];
    assert_eq!(
        place["artifactLocation"]["uri"], "fraud/templates/service.yaml",
        "{place}"
    );
    assert_eq!(place["region"]["startLine"], 21, "{place}");
    let place = review(&SERVICE.replace("TEAM", "team-b"));
    assert_eq!(place.get("physicalLocation"), None, "{place}");
    assert_eq!(place["message"]["text"], "line 8 of standard input", "{place}");
    assert_eq!(place["logicalLocations"][0]["fullyQualifiedName"], "team-a/fraud");
}

#[test]
fn what_cannot_be_reviewed_is_a_finding_beside_the_others() {
    let desk = Desk::new();
    let own = fs::read_to_string(desk.path().join("own.yaml")).unwrap();
    let foreign = fs::read_to_string(desk.path().join("foreign.yaml")).unwrap();
    let labelled = own.replace("namespace: team-a", "namespace: team-a, labels: {n: 3}");
    let bare = own.split("spec:").next().unwrap();
    for (name, text) in [
        ("all/a.yaml", format!("{own}---\nkind: [\n---\n{foreign}")),
        ("all/b.yaml", labelled),
        ("all/c.yaml", bare.to_owned()),
    ] {
        let path = desk.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let review = |form: &str| {
        let output = desk.tidewaiter(&["review", "all", "--config", "config", "-o", form]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let json: Value = serde_json::from_str(&review("json")).unwrap();
    let objects = json["objects"].as_array().unwrap().iter();
    let told: Vec<_> = objects
        .map(|object| {
            let finding = &object["findings"][0];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (
                text(&object["file"]),
                text(&object["verdict"]),
                finding["line"].as_u64().unwrap(),
                text(&finding["path"]),
            )
        })
        .collect();
    let at = |file: &str, verdict: &str, line: u64, path: &str| {
        (format!("all/{file}.yaml"), verdict.to_owned(), line, path.to_owned())
    };
    assert_eq!(told[0], at("a", "undecodable", 10, ""));
    assert_eq!((told[1].1.as_str(), told[2].1.as_str()), ("admitted", "refused"));
    assert_eq!(told[3], at("b", "undecodable", 3, "/metadata/labels/n"));
    assert_eq!(told[4], at("c", "undecodable", 1, "/spec/predictor"));
    let sarif: Value = serde_json::from_str(&review("sarif")).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap().iter();
    let undecodable = results.filter(|result| result["ruleId"] == "tidewaiter/undecodable");
    assert_eq!(undecodable.count(), 3, "{sarif}");
    assert_eq!(sarif["runs"][0]["invocations"][0]["executionSuccessful"], false);
    let junit = review("junit");
    assert!(junit.contains("tests=\"5\" failures=\"1\" errors=\"3\""), "{junit}");
    let text = desk.said(2, &["review", "all", "--config", "config"]);
    assert!(
        text.contains("5 documents read, 2 reviewed: 1 refused, 1 admitted"),
        "{text}"
    );
    assert!(
        text.contains("not everything could be reviewed: all/a.yaml:10: this is not YAML"),
        "{text}"
    );

    fs::create_dir(desk.path().join("empty")).unwrap();
    let empty = desk.said(2, &["review", "empty", "--config", "config"]);
    assert!(empty.contains("it holds no manifests: files named *.yaml"), "{empty}");
    let none: Value =
        serde_json::from_str(&desk.piped(2, &["review", "-", "--config", "config", "-o", "json"], "")).unwrap();
    assert_eq!(none["objects"][0]["verdict"], "undecodable", "{none}");
}

#[test]
fn manifests_are_reviewed_as_the_cluster_would() {
    let desk = Desk::new();
    let said = desk.said(0, &["review", "own.yaml", "--config", "config"]);
    assert!(
        said.contains("own.yaml:1: InferenceService team-a/fraud admitted"),
        "{said}"
    );
    assert!(said.contains("tidewaiter-minio"), "{said}");
    let said = desk.said(1, &["review", "own.yaml", "foreign.yaml", "--config", "config"]);
    assert!(said.contains("foreign.yaml:8: error [storage-credentials/"), "{said}");
    let sarif = desk.json(1, &["review", "foreign.yaml", "--config", "config", "-o", "sarif"]);
    assert_eq!(
        sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"],
        8
    );
    // What Helm leaves of values that are not set is nothing, and hides nothing.
    let greedy = "{requests: {memory: 8Gi}, limits: {memory: 4Gi}}";
    for (server, sidecar) in [("null", greedy), (greedy, "null")] {
        let model = format!(
            "model: {{modelFormat: {{name: sklearn}}, storageUri: 's3://mlflow/team-a/fraud', resources: {server}}}"
        );
        let beside = format!("containers: [{{name: beside, image: a, command: null, resources: {sidecar}}}]");
        let service = format!(
            "{{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, metadata: {{name: fraud, namespace: team-a}}, spec: {{predictor: {{{model}, {beside}}}}}}}"
        );
        fs::write(desk.path().join("rendered.yaml"), service).unwrap();
        let said = desk.said(1, &["review", "rendered.yaml", "--config", "config"]);
        assert!(said.contains("error [resources/request-over-limit]"), "{said}");
    }
    assert_eq!(
        desk.tidewaiter(&["review", "none.yaml", "--config", "config"])
            .status
            .code(),
        Some(2)
    );
    fs::create_dir(desk.path().join("overlay")).unwrap();
    fs::write(desk.path().join("overlay/kustomization.yaml"), "resources: []\n").unwrap();
    let kustomize = desk.said(2, &["review", "overlay", "--config", "config"]);
    assert!(
        kustomize.contains("kubectl kustomize overlay | tidewaiter review -"),
        "{kustomize}"
    );
}

/// A pipeline must not be green where nothing was reviewed, or not by what the cluster has.
#[test]
fn a_review_that_says_nothing_is_an_error() {
    let desk = Desk::new();
    for (name, text) in [
        ("nothing.yaml", "# nothing\n"),
        ("words.yaml", "no chart\n"),
        (
            "nameless.yaml",
            "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec: {}\n",
        ),
        (
            "typo.yaml",
            "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceServce\nmetadata: {name: a}\n",
        ),
        (
            "items.yaml",
            "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceServiceList\nitems: [{metadata: {name: a}}]\n",
        ),
        ("itemless.yaml", "apiVersion: v1\nkind: List\nitems: {a: b}\n"),
        ("broken/policy.yaml", "kind: [\n"),
        (
            "slip/policy.yaml",
            "apiVersion: tidewaiter.dev/v1alpha1\nkind: WasmPolicy\nmetadata: {name: storage-credentials}\nspec:\n  module: {builtin: storage-credentials}\n  settings: {unserved: denny}\n",
        ),
    ] {
        let path = desk.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(desk.path().join("slip/minio.yaml"), CONFIG).unwrap();
    for (words, code, says) in [
        (
            ["nothing.yaml", "config"],
            0,
            "0 documents read, 0 reviewed: none of 0 objects is KServe's",
        ),
        (["-", "config"], 2, "standard input holds no object"),
        (["words.yaml", "config"], 2, "words.yaml:1: this is no object"),
        (["nameless.yaml", "config"], 2, "has no name"),
        (["typo.yaml", "config"], 2, "write InferenceService"),
        (
            ["items.yaml", "config"],
            2,
            "this is no manifest: it has no apiVersion and kind",
        ),
        (["itemless.yaml", "config"], 2, "this list has no items"),
        (["own.yaml", "broken"], 2, "mend what is said of the configuration"),
        // With its defaults, as in the server: another team's model stays closed.
        (["foreign.yaml", "slip"], 1, "it runs with its default settings"),
    ] {
        let said = desk.said(code, &["review", words[0], "--config", words[1]]);
        assert!(said.contains(says), "{words:?}: {said}");
    }
    let explained = desk.said(2, &["explain", "own.yaml", "--config", "broken"]);
    assert!(
        explained.contains("mend what is said of the configuration"),
        "{explained}"
    );
    let none = [
        "policy",
        "test",
        "storage-credentials",
        "--cases",
        "cases.yaml",
        "--only",
        "zzz",
    ];
    assert!(desk.said(2, &none).contains("no case has `zzz` in its name"));
}

#[test]
fn a_decision_is_explained() {
    let desk = Desk::new();
    let explained = desk.json(1, &["explain", "foreign.yaml", "--config", "config", "-o", "json"]);
    let policies = explained["policies"].as_array().unwrap();
    let credentials = policies
        .iter()
        .find(|policy| policy["policy"] == "storage-credentials")
        .unwrap();
    assert_eq!(credentials["ended"], "refused it");
    assert_eq!(credentials["calls"][0]["function"], "storage.resolve");
    let none = desk.said(
        2,
        &["explain", "own.yaml", "--config", "config", "--policy", "nonsense"],
    );
    assert!(none.contains("there is no policy nonsense"), "{none}");
}

#[test]
fn one_policys_part_is_explained_alone() {
    let desk = Desk::new();
    // What `storage-credentials` warns of: a store that nobody serves.
    let unserved = SERVICE.replace("s3://mlflow/TEAM", "s3://nobody");
    fs::write(desk.path().join("unserved.yaml"), unserved).unwrap();
    let explain = |name: &str| {
        let arguments = [
            "explain",
            "unserved.yaml",
            "--config",
            "config",
            "-o",
            "json",
            "--policy",
            name,
        ];
        desk.json(0, &arguments)
    };
    let own = explain("storage-credentials");
    assert_eq!(own["policies"].as_array().unwrap().len(), 1);
    let warning = &own["outcome"]["warnings"][0];
    assert_eq!(warning["policy"], "storage-credentials", "{own}");
    assert_eq!(own["policies"][0]["warnings"][0], warning["message"], "{own}");
    let other = explain("architecture");
    assert!(!other.to_string().contains("storage-credentials"), "{other}");

    let reviewed = desk.said(0, &["review", "unserved.yaml", "--config", "config"]);
    assert!(reviewed.contains("warning [storage-credentials] "), "{reviewed}");
    // It comes behind the one that refuses.
    let arguments = [
        "explain",
        "foreign.yaml",
        "--config",
        "config",
        "--policy",
        "architecture",
    ];
    let refused = desk.said(1, &arguments);
    assert!(refused.contains("refused by storage-credentials"), "{refused}");
    assert!(refused.contains("The policy architecture was not asked"), "{refused}");
}

/// Whoever mistypes a path doesn't mean a service in a cluster.
#[test]
fn a_file_that_is_not_there_is_told_as_such() {
    let desk = Desk::new();
    for name in ["./typo.yaml", "manifests/typo.yml", "typo.json", "a/b/typo", "typo"] {
        for arguments in [
            &["explain", name, "--config", "config"][..],
            &["policy", "run", "storage-credentials", "--object", name],
        ] {
            let said = desk.said(2, arguments);
            assert!(
                said.contains(&format!("there is no file {name}")),
                "{arguments:?}: {said}"
            );
        }
    }
    let live = desk.said(2, &["explain", "team-a/fraud", "--config", "config"]);
    assert!(live.contains("leave --config out"), "{live}");
    for arguments in [
        &["explain", "manifests/typo"][..],
        &["policy", "run", "storage-credentials", "--object", "manifests/typo"],
    ] {
        let said = desk.said(2, arguments);
        assert!(
            said.contains("there is no file manifests/typo, so it is taken for a service in the cluster: no cluster"),
            "{arguments:?}: {said}"
        );
    }
    let nowhere = desk.said(2, &["review", "own.yaml"]);
    assert!(
        nowhere.contains("no cluster to work on") && nowhere.contains("--config names a folder"),
        "{nowhere}"
    );
}

#[test]
fn what_is_wrong_with_the_configuration_is_told_in_every_form() {
    let desk = Desk::new();
    let backend = CONFIG.split("---").next().unwrap();
    let typo = backend
        .replace("serves:", "servs:")
        .replace("name: minio", "name: typo");
    fs::write(desk.path().join("config/typo.yaml"), typo).unwrap();
    let review = |form: &str| {
        let output = desk.tidewaiter(&["review", "own.yaml", "--config", "config", "-o", form]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let sarif: Value = serde_json::from_str(&review("sarif")).unwrap();
    let invocation = &sarif["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false, "{sarif}");
    let place = &invocation["toolConfigurationNotifications"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "config/typo.yaml", "{sarif}");
    let junit = review("junit");
    assert!(
        junit.contains("<testcase name=\"configuration StorageBackend/typo\""),
        "{junit}"
    );
    assert!(
        junit.contains("errors=\"1\"") && junit.contains("did you mean `serves`?"),
        "{junit}"
    );
}
