//! One policy by itself: what it is, what it does with one object, and what that costs.

use std::fs;

use serde_json::{Value, json};

use super::Desk;

#[test]
fn a_policy_is_looked_into() {
    let desk = Desk::new();
    let about = desk.json(0, &["policy", "inspect", "storage-credentials", "-o", "json"]);
    assert_eq!(about["contract"], "0.1.0");
    assert!(about["capabilities"].as_array().unwrap().contains(&"storage".into()));
    let imports: Vec<_> = about["imports"].as_array().unwrap().iter().collect();
    assert_eq!(
        imports,
        ["types", "storage", "cluster"]
            .map(|name| format!("tidewaiter:policy/{name}@0.1.0"))
            .each_ref()
    );
    let size = tidewaiter_builtin::builtin("storage-credentials")
        .unwrap()
        .component
        .len();
    assert_eq!(about["size"], size, "{about}");
    let description = "What becomes of a model in a store that no backend serves";
    assert_eq!(
        about["settings"],
        json!([{
            "path": "unserved", "kind": "one of \"warn\", \"deny\"", "required": false, "default": "warn",
            "description": description, "shown": false,
        }])
    );
    // The same for people.
    let shown = desk.said(0, &["policy", "inspect", "storage-credentials"]);
    for line in [
        "contract      0.1.0",
        &format!("size          {} KiB", size.div_ceil(1024)),
        &format!("unserved   one of \"warn\", \"deny\"   \"warn\"    {description}"),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let page = desk.said(0, &["policy", "docs", "storage-credentials"]);
    assert!(
        page.starts_with("# storage-credentials\n") && page.contains("    builtin: storage-credentials\n```"),
        "{page}"
    );
    let none = desk.said(2, &["policy", "inspect", "no-such-policy"]);
    assert!(
        none.contains("built-in policy: ") && none.contains("storage-credentials"),
        "{none}"
    );
}

#[test]
fn a_policy_is_run_on_one_object() {
    let desk = Desk::new();
    let said = desk.said(
        0,
        &[
            "policy",
            "run",
            "storage-credentials",
            "--object",
            "own.yaml",
            "--world",
            "world.yaml",
        ],
    );
    assert!(
        said.contains("storage.resolve") && said.contains("served by minio"),
        "{said}"
    );
    assert!(said.contains("+ ") && said.contains("tidewaiter-minio"), "{said}");
    let resolved = said.lines().find(|line| line.contains("storage.resolve")).unwrap();
    let mut words = resolved.split_whitespace();
    assert!(
        words.next().unwrap().parse::<u64>().is_ok() && words.next() == Some("µs"),
        "{resolved}"
    );
    let own = fs::read_to_string(desk.path().join("own.yaml")).unwrap();
    let item = own
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect::<String>()
        .replacen("    ", "  - ", 1);
    for (name, text) in [
        ("list.yaml", format!("apiVersion: v1\nkind: List\nitems:\n{item}")),
        ("two.yaml", format!("apiVersion: v1\nkind: List\nitems:\n{item}{item}")),
        ("twice.yaml", own.replace("spec:\n", "spec: {}\nspec:\n")),
    ] {
        fs::write(desk.path().join(name), text).unwrap();
    }
    let run = [
        "policy",
        "run",
        "storage-credentials",
        "--world",
        "world.yaml",
        "-o",
        "json",
        "--object",
    ];
    let ran = desk.json(0, &[&run[..], &["list.yaml"]].concat());
    assert_eq!(ran["outcome"]["fills"][0]["policy"], "storage-credentials", "{ran}");
    // How long each call took, in whole microseconds, of which an answer from memory may take none. The whole took longer than its calls.
    let calls = ran["calls"].as_array().unwrap();
    let took: Option<Vec<u64>> = calls.iter().map(|call| call["micros"].as_u64()).collect();
    let took = took.unwrap_or_else(|| panic!("a call without its time: {ran}"));
    let all = ran["micros"].as_u64().unwrap();
    assert!(!took.is_empty() && all > 0 && took.iter().sum::<u64>() <= all, "{ran}");
    let two = desk.said(2, &[&run[..], &["two.yaml"]].concat());
    assert!(
        two.contains("two.yaml holds 2 objects, and a policy is run on one"),
        "{two}"
    );
    let twice = desk.said(2, &[&run[..], &["twice.yaml"]].concat());
    assert!(twice.contains("twice.yaml:5: `spec` stands here twice"), "{twice}");
    let other = own
        .replace("InferenceService", "Deployment")
        .replace("serving.kserve.io/v1beta1", "apps/v1");
    fs::write(desk.path().join("other.yaml"), other).unwrap();
    let other = desk.said(2, &[&run[..], &["other.yaml"]].concat());
    assert!(
        other.contains("no policy is ever asked about this object: it is of kind Deployment"),
        "{other}"
    );
    let ran = desk.piped(0, &[&run[..], &["-"]].concat(), &own);
    let ran: Value = serde_json::from_str(&ran).unwrap();
    assert_eq!(ran["outcome"]["fills"][0]["policy"], "storage-credentials", "{ran}");
}

#[test]
fn what_a_policy_costs_is_measured() {
    let desk = Desk::new();
    let bench = desk.json(
        0,
        &["policy", "bench", "storage-credentials", "--calls", "20", "-o", "json"],
    );
    for measure in ["instantiateUs", "callUs", "totalUs"] {
        for figure in ["median", "p99", "max"] {
            assert!(
                bench[measure][figure].as_f64().unwrap() > 0.0,
                "{measure}.{figure}: {bench}"
            );
        }
    }
    assert!(bench["memoryKib"].as_u64().unwrap() > 0, "{bench}");
    let slow = desk.said(
        1,
        &[
            "policy",
            "bench",
            "storage-credentials",
            "--calls",
            "5",
            "--max-us",
            "0.001",
        ],
    );
    assert!(slow.contains("too slow"), "{slow}");
    let memory = |code: i32, most: &str| {
        let bench = [
            "policy",
            "bench",
            "storage-credentials",
            "--calls",
            "5",
            "--max-memory-kib",
        ];
        desk.said(code, &[&bench[..], &[most]].concat())
    };
    let large = memory(1, "8");
    assert!(large.contains("KiB of memory, and may have 8 at most"), "{large}");
    memory(0, "32768");
}
