//! The command as an author and a CI run use it, on files alone. The whole path from `new` to a refusal in a cluster is among the end-to-end tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

#[path = "../../../policies/tools/fixtures/planted.rs"]
mod planted;

#[path = "authors/one.rs"]
mod one;

const SERVICE: &str = "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: fraud, namespace: team-a}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: s3://mlflow/TEAM/model
";

const CONFIG: &str = include_str!("../../../policies/tools/fixtures/minio.yaml");
const WORLD: &str = include_str!("../../../policies/tools/fixtures/world.yaml");
/// Of `helm template`.
const HELM: &str = include_str!("../../../policies/tools/fixtures/helm.yaml");

const CASES: &str = "
cases:
  - name: a team's own model is opened
    file: own.yaml
    expect: {allowed: true, effects: [{backend: minio}]}
  - name: another team's model isn't
    file: foreign.yaml
    expect: {allowed: true}
";

fn cases() -> String {
    let world = WORLD.lines().map(|line| format!("  {line}\n"));
    format!("world:\n{}{CASES}", world.collect::<String>())
}

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        for (name, text) in [
            ("own.yaml", SERVICE.replace("TEAM", "team-a")),
            ("foreign.yaml", SERVICE.replace("TEAM", "team-b")),
            ("config/minio.yaml", CONFIG.to_owned()),
            ("cases.yaml", cases()),
            ("world.yaml", WORLD.to_owned()),
        ] {
            let path = desk.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidewaiter"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("KUBECONFIG", self.path().join("none"));
        command
    }

    fn tidewaiter(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// The same with this on standard input: what it prints, where it ends so.
    fn piped(&self, code: i32, arguments: &[&str], input: &str) -> String {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = running.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it prints, where it ends so.
    fn said(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.tidewaiter(arguments);
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{said}\n{complained}");
        assert!(
            !said.contains("secret-key") && !complained.contains("secret-key"),
            "{said}\n{complained}"
        );
        said + &complained
    }

    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.tidewaiter(arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn a_policy_is_tried_by_its_cases_and_its_laws() {
    let desk = Desk::new();
    let base = [
        "policy",
        "test",
        "storage-credentials",
        "--cases",
        "cases.yaml",
        "--objects",
        "8",
    ];
    let said = desk.said(1, &base);
    assert!(said.contains("ok    a team's own model is opened"), "{said}");
    assert!(
        said.contains("FAIL  another team's model isn't cases.yaml:14"),
        "{said}"
    );
    assert!(said.contains("it was to be admitted, and is refused"), "{said}");
    assert!(said.contains("law idempotent") && said.contains("seed 0"), "{said}");
    let junit = desk.said(1, &[&base[..], &["-o", "junit"]].concat());
    assert!(
        junit.contains("<testsuite name=\"policy storage-credentials\" tests=\"7\" failures=\"1\""),
        "{junit}"
    );
    let nothing = desk.said(0, &["policy", "test", "architecture", "--objects", "2"]);
    assert!(
        nothing.contains(
            "-     law no-leak 0 objects\n        nothing to check: no setting is a text that users may not see\n"
        ),
        "{nothing}"
    );
    let wrong = desk.said(2, &["policy", "test", "storage-credentials", "--cases", "own.yaml"]);
    assert!(wrong.contains("own.yaml") && wrong.contains("hint"), "{wrong}");
}

/// By the command itself, which a CI goes by.
#[test]
fn a_policy_that_breaks_a_law_fails_its_test() {
    let desk = Desk::new();
    fs::write(desk.path().join("planted.wasm"), planted::component()).unwrap();
    let tested = |code: i32, breaks: &str| {
        let settings = format!("{{breaks: {breaks}, token: t0ken, team: fraud}}");
        let cases = format!(
            "settings: {settings}\nworld: {{labels: {{a: '1', b: '2'}}}}\ncases:\n  - name: it is admitted\n    file: own.yaml\n    expect: {{allowed: true}}\n"
        );
        fs::write(desk.path().join("planted.yaml"), cases).unwrap();
        desk.said(code, &["policy", "test", "planted.wasm", "--cases", "planted.yaml"])
    };
    let well = tested(0, "nothing");
    assert!(well.contains("1 cases, 5 laws (seed 0): all is well"), "{well}");
    // Where there is nothing to leak, nothing was found of it.
    let idle = desk.said(0, &["policy", "test", "architecture", "--objects", "2"]);
    let wanted = "0 cases, 4 laws (seed 0), and nothing to check no-leak by: all is well";
    assert!(idle.contains(wanted), "{idle}");
    let leaks = tested(1, "no-leak-log");
    assert!(
        leaks.contains("FAIL  law no-leak") && leaks.contains("1 failed"),
        "{leaks}"
    );
    assert!(
        leaks.contains("the value of the setting token stands in a line of its log"),
        "{leaks}"
    );
    assert!(leaks.contains("what to do: leave it out"), "{leaks}");
    for law in ["idempotent", "deterministic", "users-word", "no-leak"] {
        let said = tested(1, law);
        assert!(said.contains(&format!("FAIL  law {law}")), "{law}: {said}");
    }
    let update = tested(1, "answers-update");
    assert!(
        update.contains("FAIL  law answers")
            && update.contains("on an update that changes /spec/predictor/minReplicas: the policy"),
        "{update}"
    );
}

/// A file that can't go into a cluster by itself: the page and the build say what does.
#[test]
fn the_way_of_a_file_into_a_cluster_is_told() {
    let desk = Desk::new();
    fs::write(desk.path().join("planted.wasm"), planted::component()).unwrap();
    let page = desk.said(0, &["policy", "docs", "planted.wasm"]);
    assert!(
        page.contains("    tidewaiter policy push planted.wasm registry.example.com/policies/planted:0.1.0\n"),
        "{page}"
    );
    assert!(
        page.contains("    oci: {image: \"registry.example.com/policies/planted:0.1.0\"}\n  digest: sha256:"),
        "{page}"
    );
    assert!(page.contains("`module` is `{file: planted.wasm}`"), "{page}");
    fs::create_dir(desk.path().join("project")).unwrap();
    fs::write(
        desk.path().join("project/tidewaiter.yaml"),
        "language: go\nbuild: [[cp, ../planted.wasm, made.wasm]]\nmodule: made.wasm\ncomponent: planted.wasm\n",
    )
    .unwrap();
    let built = desk.said(0, &["policy", "build", "project"]);
    assert!(built.contains("Now:\n  tidewaiter policy test project\n"), "{built}");
    assert!(
        built.contains("  tidewaiter policy push project/planted.wasm registry.example.com/policies/planted:0.1.0\n"),
        "{built}"
    );
}

#[test]
fn a_core_module_is_told_what_makes_a_component_of_it_wherever_it_is_named() {
    let desk = Desk::new();
    fs::write(desk.path().join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    for arguments in [
        &["policy", "inspect", "core.wasm"][..],
        &["policy", "run", "core.wasm", "--object", "own.yaml"],
        &["policy", "test", "core.wasm"],
        &["policy", "push", "core.wasm", "127.0.0.1:1/core:1"],
    ] {
        let said = desk.said(2, arguments);
        let wanted = "it is a core module, and a policy is a component: `tidewaiter policy build` makes one of a project's module";
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
}

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

/// What would keep every `WasmPolicy` from loading it is told wherever an author looks, and is not sent anywhere.
#[test]
fn a_schema_that_cannot_be_used_is_told_wherever_the_policy_is_named() {
    let desk = Desk::new();
    let mut component = planted::component();
    let schema = br#"{"type": "object", "additionalProperties""#;
    let at = component.windows(schema.len()).position(|part| part == schema).unwrap();
    component[at..at + schema.len()].copy_from_slice(br#"{"type": "objekt", "additionalProperties""#);
    fs::write(desk.path().join("wrong.wasm"), component).unwrap();
    fs::create_dir(desk.path().join("project")).unwrap();
    fs::write(
        desk.path().join("project/tidewaiter.yaml"),
        "language: go\nbuild: [[cp, ../wrong.wasm, made.wasm]]\nmodule: made.wasm\ncomponent: built.wasm\n",
    )
    .unwrap();
    for arguments in [
        &["policy", "inspect", "wrong.wasm"][..],
        &["policy", "docs", "wrong.wasm"],
        &["policy", "test", "wrong.wasm"],
        &["policy", "run", "wrong.wasm", "--object", "own.yaml"],
        &["policy", "push", "wrong.wasm", "127.0.0.1:1/wrong:1"],
        &["policy", "build", "project"],
    ] {
        let said = desk.said(2, arguments);
        let wanted = "the policy's settings schema can't be used: /type: ";
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    assert!(desk.path().join("project/built.wasm").is_file());
}

#[test]
fn what_is_no_policy_of_the_contract_is_not_pushed() {
    let desk = Desk::new();
    // A component, and one that exports nothing.
    fs::write(desk.path().join("other.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
    let said = desk.said(2, &["policy", "push", "other.wasm", "127.0.0.1:1/other:1"]);
    assert!(
        said.contains("other.wasm is not pushed: the policy doesn't fit the contract")
            && said.contains("it exports nothing"),
        "{said}"
    );
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

#[test]
fn a_project_is_made_and_what_it_lacks_is_told() {
    let desk = Desk::new();
    let said = desk.said(0, &["policy", "new", "house-rules", "--language", "rust"]);
    assert!(said.contains("house-rules/src/lib.rs"), "{said}");
    let taken = desk.said(2, &["policy", "new", "tidewaiter-policy", "--language", "rust"]);
    assert!(taken.contains("a crate that it stands on has that name"), "{taken}");
    let not_built = desk.said(2, &["policy", "test", "house-rules"]);
    assert!(not_built.contains("isn't built yet"), "{not_built}");
    let again = desk.said(2, &["policy", "new", "house-rules", "--language", "rust"]);
    assert!(again.contains("there already"), "{again}");
    let no_project = desk.said(2, &["policy", "build", "config"]);
    assert!(no_project.contains("it has no tidewaiter.yaml"), "{no_project}");
    fs::write(
        desk.path().join("house-rules/tidewaiter.yaml"),
        "language: go\nbuild: [[no-such-program, build]]\nmodule: m.wasm\ncomponent: c.wasm\n",
    )
    .unwrap();
    let missing = desk.said(2, &["policy", "build", "house-rules"]);
    assert!(missing.contains("`no-such-program` is not there"), "{missing}");
}

/// A JavaScript project is a TypeScript one, file by file: what is shown of that one holds for it.
#[test]
fn a_project_in_javascript_is_one_in_typescript() {
    let desk = Desk::new();
    let made = |language: &str| {
        let new = [
            "policy",
            "new",
            "house-rules",
            "--language",
            language,
            "--dir",
            language,
        ];
        let said = desk.said(0, &new);
        let folder = desk.path().join(language);
        let mut files: Vec<_> = said
            .lines()
            .filter_map(|line| line.strip_prefix(language)?.strip_prefix('/'))
            .filter_map(|file| Some((file.to_owned(), fs::read(folder.join(file)).ok()?)))
            .collect();
        files.sort();
        files
    };
    let (javascript, typescript) = (made("javascript"), made("typescript"));
    assert!(
        javascript.iter().any(|(name, _)| name == "src/policy.ts"),
        "{javascript:?}"
    );
    assert_eq!(javascript, typescript);
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

/// What a CI run would take for a success.
#[test]
fn cases_that_show_nothing_are_errors() {
    let desk = Desk::new();
    let test = ["policy", "test", "storage-credentials", "--objects", "0", "--cases"];
    let tested = |code: i32, file: &str, more: &[&str]| desk.said(code, &[&test[..], &[file], more].concat());
    let other = "cases:\n  - name: of another kind\n    object: {apiVersion: v1, kind: Pod, metadata: {name: a}}\n    expect: {allowed: true}\n";
    fs::write(desk.path().join("other.yaml"), other).unwrap();
    let nobody = tested(1, "other.yaml", &[]);
    assert!(
        nobody.contains("no policy is ever asked about it: it is of kind Pod in v1"),
        "{nobody}"
    );

    let right = cases().replace(
        "file: foreign.yaml\n    expect: {allowed: true}",
        "file: foreign.yaml\n    expect: {allowed: false}",
    );
    fs::write(desk.path().join("cases.yaml"), &right).unwrap();
    tested(0, "cases.yaml", &["--update"]);
    tested(0, "cases.yaml", &[]);
    let renamed = right.replace("another team's model isn't", "somebody else's model isn't");
    fs::write(desk.path().join("cases.yaml"), renamed).unwrap();
    let orphan = tested(2, "cases.yaml", &[]);
    assert!(
        orphan.contains("has a snapshot of `another team's model isn't`, and no case is called so"),
        "{orphan}"
    );
    tested(0, "cases.yaml", &["--update"]);
    tested(0, "cases.yaml", &[]);

    // A project that names its cases has them.
    let manifest = "language: rust\nmodule: policy.wasm\ncomponent: policy.wasm\ncases: casse\n";
    fs::create_dir(desk.path().join("project")).unwrap();
    fs::write(desk.path().join("project/tidewaiter.yaml"), manifest).unwrap();
    fs::write(
        desk.path().join("project/policy.wasm"),
        tidewaiter_builtin::POLICIES[0].component,
    )
    .unwrap();
    let typo = desk.said(2, &["policy", "test", "project"]);
    assert!(typo.contains("casse"), "{typo}");
}

/// A disk that is full: an error, and no panic.
#[test]
#[cfg(target_os = "linux")]
fn what_can_not_be_printed_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidewaiter"))
        .args(["policy", "docs", "storage-credentials"])
        .stdout(full)
        .output()
        .unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complained}");
    assert!(
        complained.contains("can't be written to standard output") && !complained.contains("panicked"),
        "{complained}"
    );
}

#[test]
fn a_job_that_gives_no_identity_is_told() {
    let desk = Desk::new();
    let mut command = desk.command(&["policy", "sign", "127.0.0.1:9/house-rules:1"]);
    command
        .env("GITHUB_ACTIONS", "true")
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:9/token")
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complained}");
    assert!(!complained.contains("of-the-job"), "{complained}");
}
