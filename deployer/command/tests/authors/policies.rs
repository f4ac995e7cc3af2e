//! Policies on their way to a cluster: their tests, their page, and what is no policy.

use std::fs;

use super::{Desk, cases, planted};

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
