//! What `save_pretrained` writes, for KServe's Hugging Face server.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Error, Prepared};
use crate::model::Framework;
use crate::source::Entry;
use crate::source::identify::{below, file_name, parent};

pub(super) fn lay_out(root: &str, entries: &[Entry], texts: &BTreeMap<String, String>) -> Result<Prepared, Error> {
    let here: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| parent(&entry.path) == root)
        .map(|entry| file_name(&entry.path))
        .collect();
    let path = below(root, "config.json");
    let config: Value = texts
        .get(&path)
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| {
            Error::wrong(
                format!("{path} is no JSON"),
                "copy the whole folder that save_pretrained wrote",
            )
        })?;
    let mut notes = Vec::new();
    if config["architectures"].as_array().is_none_or(Vec::is_empty) && config["model_type"].is_null() {
        notes.push("Its config.json names no architecture: the server may need to be told the task.".to_owned());
    }
    if here.contains("adapter_config.json") {
        notes.push("It is an adapter: the server needs the model that it adapts as well.".to_owned());
    }
    for name in here.iter().filter(|name| name.ends_with(".index.json")) {
        let index = texts.get(&below(root, name));
        let index: Value = index
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let shards: BTreeSet<_> = index["weight_map"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.values())
            .filter_map(Value::as_str)
            .collect();
        let missing: Vec<_> = shards.iter().filter(|shard| !here.contains(*shard)).collect();
        if let Some(first) = missing.first() {
            return Err(Error::wrong(
                format!(
                    "{name} names {} files of weights, and {} are missing, such as {first}",
                    shards.len(),
                    missing.len()
                ),
                "download or copy the model again, whole",
            ));
        }
    }
    let tokenizer = [
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "preprocessor_config.json",
        "processor_config.json",
    ];
    if !tokenizer.iter().any(|name| here.contains(name)) {
        notes.push(
            "It has no tokenizer: text models need the files of tokenizer.save_pretrained beside the weights."
                .to_owned(),
        );
    }
    if !here.iter().any(|name| name.ends_with(".safetensors")) {
        notes.push("Its weights are a pickle (.bin): safetensors load faster and run no code.".to_owned());
    }
    Ok(Prepared::as_it_is(Framework::Huggingface, root, entries, notes))
}
