use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Node, Value, Yaml};

/// The document as JSON with every scalar a text, null where it is none.
fn tree(value: Value<'_, '_>) -> Json {
    match &value.yaml.nodes[value.node] {
        Node::Scalar(..) => value.text().map_or(Json::Null, Json::from),
        Node::Sequence(_) => value.items().map(tree).collect(),
        Node::Mapping(_) => value
            .entries()
            .map(|(key, value)| (key.to_owned(), tree(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn read(text: &str) -> Json {
    Yaml::parse(text).map_or_else(|error| panic!("{error}\n{text}"), |yaml| tree(yaml.root()))
}

#[test]
fn reads_what_pyyaml_writes() {
    let text = "flavors:\n  python_function:\n    env:\n      conda: conda.yaml\n    python_version: 3.11.7\n  list:\n  - a\n  - b: c\n    d: 'it''s'\n  empty: {}\n  none: null\nsignature:\n  inputs: '[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"float64\",\n    \"shape\": [-1, 3]}}]'\n  params: null\nutc_time_created: '2026-11-22 12:00:00'\n";
    assert_eq!(
        read(text),
        json!({"flavors": {"python_function": {"env": {"conda": "conda.yaml"}, "python_version": "3.11.7"}, "list": ["a", {"b": "c", "d": "it's"}], "empty": {}, "none": null},
            "signature": {"inputs": "[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"float64\", \"shape\": [-1, 3]}}]", "params": null}, "utc_time_created": "2026-11-22 12:00:00"})
    );
}

#[test]
fn reads_what_people_type() {
    let text = "# made by hand\n---\nname: env   # why not\nchannels: [conda-forge, 'x y', \"a\\tb\"]\ndependencies:\n  - python=3.11\n  - pip:\n      - xgboost==3.0.2  # pinned\n      - git+https://example.com/a.git#egg=b\nnote: >-\n  folded\n  text\n\n  more\nlit: |\n  one\n    two\n\"quoted key\": {a: 1, b: [x, {c: d}], e}\nshared: &id001\n  - 1\nagain: *id001\nlong: this goes on\n  over two lines\n...\n";
    assert_eq!(
        read(text),
        json!({"name": "env", "channels": ["conda-forge", "x y", "a\tb"],
            "dependencies": ["python=3.11", {"pip": ["xgboost==3.0.2", "git+https://example.com/a.git#egg=b"]}],
            "note": "folded text\nmore", "lit": "one\n  two\n", "quoted key": {"a": "1", "b": ["x", {"c": "d"}], "e": null},
            "shared": ["1"], "again": ["1"], "long": "this goes on over two lines"})
    );
    assert_eq!(read("- - a\n  - b\n-\n  c: d\n"), json!([["a", "b"], {"c": "d"}]));
    assert_eq!(read(""), Json::Null);
    assert_eq!(
        read("a:\r\n  b: c\r\nd:\r\n- e\r\n"),
        json!({"a": {"b": "c"}, "d": ["e"]})
    );
    assert_eq!(read("a: \"\\ud83d\\ude00\\x41\"\n"), json!({"a": "😀A"}));
}

#[test]
fn says_in_which_line_it_stopped() {
    for (text, line) in [
        ("a: b\n  c: d\n", 2),
        ("a: 'b\nc: d\n", 1),
        ("a: [b, c\n", 2),
        ("a: b\na: c\n", 2),
        ("a: !!python/object x\n", 1),
        ("a: *nowhere\n", 1),
        ("a:\n\tb: c\n", 2),
        ("a: b\n---\nc: d\n", 2),
        ("a: \"\\q\"\n", 1),
        ("just text\nkey: value\n", 2),
    ] {
        let error = Yaml::parse(text).err().unwrap_or_else(|| panic!("read {text:?}"));
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
}

#[test]
fn depth_is_bounded() {
    assert!(Yaml::parse(&"[".repeat(100_000)).is_err());
    assert!(Yaml::parse(&"- ".repeat(100_000)).is_err());
    assert!(Yaml::parse(&"{a: ".repeat(100_000)).is_err());
    assert!(Yaml::parse(&format!("[{}]", "a,".repeat(100_000))).is_err());
}

/// A text without what YAML must escape in ways that the two libraries see differently.
fn arbitrary() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        "[ -~]{0,30}",
        "[a-z: #'\"\\-]{0,100}",
        "[a-z ]{60,200}",
        "[a-zäß€\n]{0,12}"
    ]
    .prop_map(Json::from);
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map("[a-z_ :'-]{1,10}", inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn reads_back_what_another_library_writes(value in arbitrary()) {
        let text = serde_saphyr::to_string(&value).map_err(|error| TestCaseError::reject(error.to_string()))?;
        prop_assert_eq!(Yaml::parse(&text).map(|yaml| tree(yaml.root())), Ok(value), "{}", text);
    }

    #[test]
    fn reads_json(value in arbitrary()) {
        let text = serde_json::to_string_pretty(&value).map_err(|error| TestCaseError::reject(error.to_string()))?;
        prop_assert_eq!(Yaml::parse(&text).map(|yaml| tree(yaml.root())), Ok(value), "{}", text);
    }

    #[test]
    fn no_text_panics(text in "[-a-c:#&*!|>'\"\\[\\]{}, \t\r\n\\\\xu0é?%@]{0,80}") {
        let _ = Yaml::parse(&text);
    }
}
