//! What the SDKs carry of the contract is the contract, and what they know of services is what core knows. `UPDATE_SDKS=1` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidewaiter_core::service::Service;
use tidewaiter_examples::{missing, policies};
use tidewaiter_tools::Language;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

const MODULE: &str = "github.com/tidewaiter/tidewaiter/policies/sdk-go/internal/contract";

fn contract() -> String {
    fs::read_to_string(policies().join("wit/policy.wit")).unwrap()
}

/// The file is this, or is made so.
fn is(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE_SDKS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, wanted).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == wanted,
        "{} is not what it is made of; UPDATE_SDKS=1 cargo test -p tidewaiter-examples --test contract writes it anew",
        path.display()
    );
}

#[test]
fn the_packages_carry_the_contract() {
    let places = ["sdk-typescript/policy.wit", "sdk-python/tidewaiter_policy/policy.wit"];
    for place in places {
        is(&policies().join(place), &contract());
    }
}

/// The SDKs' own tests ask theirs for the same.
#[test]
fn core_finds_the_models_that_the_tests_of_the_sdks_expect() {
    let text = fs::read_to_string(policies().join("examples/models.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    for case in &cases {
        let object = case["object"].to_string();
        let service = Service::parse(case["object"]["kind"].as_str().unwrap(), &object).unwrap();
        let mut found: Vec<Value> = Vec::new();
        for model in service.components().iter().flat_map(|component| &component.models) {
            // Prefill Pods load what the others load.
            let model = json!({"uri": model.uri, "path": model.pointer});
            if !found.contains(&model) {
                found.push(model);
            }
        }
        assert_eq!(Value::from(found), case["models"], "{}", case["name"]);
    }
    let folders = ["sdk-typescript/tests", "sdk-python/tests", "sdk-go/testdata"];
    for folder in folders {
        is(&policies().join(folder).join("models.json"), &text);
    }
}

#[test]
fn the_bindings_for_go_are_generated_from_the_contract() {
    // wit-bindgen formats them by Go's own formatter.
    if let Some(reason) = missing(Language::Go) {
        eprintln!("not tested: {reason}");
        return;
    }
    let mut resolve = Resolve::default();
    let package = resolve.push_source("policy.wit", &contract()).unwrap();
    let world = resolve.select_world(&[package], Some("policy")).unwrap();
    let options = wit_bindgen_go::Opts {
        pkg_name: Some(MODULE.to_owned()),
        ..wit_bindgen_go::Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    let folder = policies().join("sdk-go/internal/contract");
    let generated: BTreeMap<PathBuf, &[u8]> = files
        .iter()
        .map(|(name, content)| (folder.join(name), content))
        .collect();
    assert!(generated.len() > 5);
    for (path, content) in &generated {
        is(path, std::str::from_utf8(content).unwrap());
    }
}

/// Each function of the contract, as `interface name`, in kebab case.
fn functions() -> Vec<(String, String)> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("policy.wit", &contract()).unwrap();
    let interfaces = &resolve.packages[package].interfaces;
    interfaces
        .iter()
        .flat_map(|(interface, id)| {
            let names = resolve.interfaces[*id].functions.keys();
            names.map(move |name| (interface.clone(), name.clone()))
        })
        .collect()
}

#[test]
fn every_function_of_the_contract_is_in_every_sdk() {
    let read = |path: &str| fs::read_to_string(policies().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(functions().len() > 12);
    for (interface, name) in functions() {
        let words: Vec<&str> = name.split('-').collect();
        let pascal: String = words.iter().map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        let camel = pascal[..1].to_lowercase() + &pascal[1..];
        let snake = words.join("_");
        let calls = [
            (format!("sdk-typescript/src/host/{interface}.ts"), camel.clone()),
            (
                "sdk-typescript/src/host/raw.d.ts".to_owned(),
                format!("export function {camel}("),
            ),
            (
                format!("sdk-python/tidewaiter_policy/{interface}.py"),
                format!("_raw.{snake}"),
            ),
            (format!("sdk-go/{interface}/{interface}.go"), format!("raw.{pascal}(")),
        ];
        for (file, call) in calls {
            assert!(read(&file).contains(&call), "{file} lacks {interface}.{name} ({call})");
        }
    }
}
