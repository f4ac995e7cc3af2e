//! Projects, as they are made.

use std::fs;

use super::Desk;

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
