//! NVIDIA Triton's model repository: `NAME/config.pbtxt`, `NAME/VERSION/model.onnx`.
//!
//! Source: Triton's `docs/user_guide/model_repository.md` and `model_configuration.md`, and `default_model_filename` by backend there.

use std::collections::BTreeMap;

use super::{Error, File, Prepared, moved};
use crate::model::Framework;
use crate::source::Entry;
use crate::source::identify::{below, extension, is_below, is_version, parent};

const PAGE: &str = "see model_repository.md and model_configuration.md in Triton's documentation";

/// A repository, or one model of it.
pub(super) fn lay_out(
    root: &str,
    models: &[String],
    entries: &[Entry],
    texts: &BTreeMap<String, String>,
    name: &str,
    framework: Framework,
) -> Result<Prepared, Error> {
    let mut notes = Vec::new();
    let mut made = Vec::new();
    if models.is_empty() {
        // The folder is the model itself.
        let config = texts.get(&below(root, "config.pbtxt"));
        let own = config.and_then(|config| field(config, "name"));
        let called = own.unwrap_or_else(|| name.to_owned());
        check(&called, root, entries, config.map(String::as_str), &mut made, &called)?;
        notes.push(format!(
            "The model is put into a folder {called}, because Triton loads a repository of models."
        ));
        notes.extend(written(&made));
        let mut files = moved(entries, root, &called);
        files.append(&mut made);
        return Ok(Prepared::made(
            framework,
            files,
            "a Triton model has to lie in a repository",
            notes,
        ));
    }
    for model in models {
        let folder = below(root, model);
        let config = texts.get(&below(&folder, "config.pbtxt")).map(String::as_str);
        check(model, &folder, entries, config, &mut made, model)?;
    }
    if made.is_empty() {
        return Ok(Prepared::as_it_is(framework, root, entries, notes));
    }
    notes.extend(written(&made));
    let mut files = moved(entries, root, "");
    files.append(&mut made);
    Ok(Prepared::made(
        framework,
        files,
        "a file is missing that Triton needs",
        notes,
    ))
}

fn written(made: &[File]) -> impl Iterator<Item = String> + '_ {
    made.iter().map(|file| format!("{} is written.", file.path))
}

/// One model of a repository, and what is written for it.
fn check(
    model: &str,
    folder: &str,
    entries: &[Entry],
    config: Option<&str>,
    made: &mut Vec<File>,
    to: &str,
) -> Result<(), Error> {
    let told = if folder.is_empty() { model } else { folder };
    if let Some(config) = config {
        brackets(config, told)?;
        if let Some(own) = field(config, "name").filter(|own| own != model) {
            return Err(Error::wrong(
                format!("{told}/config.pbtxt calls the model `{own}`, and its folder is called `{model}`"),
                format!("write name: \"{model}\" there, leave the name out, or rename the folder"),
            ));
        }
    }
    let inside: Vec<&str> = entries
        .iter()
        .filter(|entry| is_below(&entry.path, folder))
        .map(|entry| entry.path[folder.len()..].trim_start_matches('/'))
        .collect();
    let mut versions: Vec<&str> = inside
        .iter()
        .filter_map(|path| path.split_once('/'))
        .map(|(version, _)| version)
        .filter(|version| is_version(version) && *version != "0")
        .collect();
    versions.dedup();
    let is_ensemble = config.is_some_and(|config| field(config, "platform").as_deref() == Some("ensemble"));
    if is_ensemble {
        if versions.is_empty() {
            // Triton wants the folder, and a store has no empty ones.
            made.push(File::generated(
                format!("{to}/1/ensemble"),
                "An ensemble has no file of its own.\n",
            ));
        }
        return Ok(());
    }
    if versions.is_empty() {
        return Err(Error::wrong(
            format!("{told} has no numbered version, such as {told}/1/model.onnx"),
            format!("put the model's file into a folder {told}/1; {PAGE}"),
        ));
    }
    let backend = config.and_then(|config| field(config, "backend").or_else(|| field(config, "platform")));
    let wanted = config
        .and_then(|config| field(config, "default_model_filename"))
        .or_else(|| backend.as_deref().and_then(default_file).map(str::to_owned));
    for version in &versions {
        let prefix = format!("{version}/");
        let files: Vec<_> = inside.iter().filter_map(|path| path.strip_prefix(&prefix)).collect();
        if let Some(wanted) = &wanted
            && !files.iter().any(|file| file == wanted || is_below(file, wanted))
        {
            return Err(Error::wrong(
                format!(
                    "{told}/{version} has no {wanted}, which the backend {} loads; it has {}",
                    backend.as_deref().unwrap_or("named there"),
                    files.join(", ")
                ),
                format!("rename the file, or name it by default_model_filename in {told}/config.pbtxt"),
            ));
        }
        let first = files.first().copied().unwrap_or_default();
        if config.is_none() && files.contains(&"model.pt") {
            return Err(Error::wrong(
                format!("{told} has no config.pbtxt, and from a TorchScript file Triton can't tell inputs and outputs"),
                format!("write {told}/config.pbtxt with backend, input and output; {PAGE}"),
            ));
        }
        if config.is_none() && files.contains(&"model.py") && made.is_empty() {
            made.push(File::generated(format!("{to}/config.pbtxt"), "backend: \"python\"\n"));
        }
        if config.is_none() && backend_of(first).is_none() && !files.iter().any(|file| backend_of(file).is_some()) {
            return Err(Error::wrong(
                format!("{told} has no config.pbtxt, and nothing says which backend loads {first}"),
                format!("write {told}/config.pbtxt with a line such as backend: \"onnxruntime\"; {PAGE}"),
            ));
        }
    }
    if config.is_some()
        && backend.is_none()
        && !inside
            .iter()
            .any(|path| path.split_once('/').is_some_and(|(_, file)| backend_of(file).is_some()))
    {
        return Err(Error::wrong(
            format!("{told}/config.pbtxt names no backend"),
            format!("write a line such as backend: \"onnxruntime\"; {PAGE}"),
        ));
    }
    let is_torch = matches!(backend.as_deref(), Some("pytorch" | "pytorch_libtorch"));
    if is_torch && config.is_some_and(|config| !config.contains("input") || !config.contains("output")) {
        return Err(Error::wrong(
            format!("{told}/config.pbtxt names no input and output, which Triton can't tell from a TorchScript file"),
            format!("write them there, with names, types and dims; {PAGE}"),
        ));
    }
    Ok(())
}

/// An ONNX or TorchScript file, as a repository of one model.
pub(super) fn of_file(path: &str, entries: &[Entry], name: &str, framework: Framework) -> Result<Prepared, Error> {
    let entry = entries.iter().find(|entry| entry.path == path && entry.bytes > 0);
    let entry = entry.ok_or_else(|| Error::wrong(format!("{path} is empty"), "save the model again"))?;
    if extension(path) != Some("onnx") {
        return Err(Error::wrong(
            format!("{path} needs a config.pbtxt: Triton can't tell inputs and outputs from a TorchScript file"),
            format!("make a folder {name} with config.pbtxt and 1/model.pt, and name the folder above it; {PAGE}"),
        ));
    }
    let mut files = vec![
        File::generated(
            format!("{name}/config.pbtxt"),
            format!("name: \"{name}\"\nbackend: \"onnxruntime\"\n"),
        ),
        File::source(format!("{name}/1/model.onnx"), entry),
    ];
    // Large models keep their weights in files beside, which the model names relative to itself.
    let beside = entries.iter().filter(|other| {
        parent(&other.path) == parent(path)
            && matches!(
                extension(&other.path),
                Some("data" | "onnx_data" | "weight" | "weights" | "bin")
            )
    });
    for other in beside {
        let name_there = crate::source::identify::file_name(&other.path);
        files.push(File::source(format!("{name}/1/{name_there}"), other));
    }
    let note = format!(
        "A Triton repository with {name}/1/model.onnx and {name}/config.pbtxt is made: KServe's runtime for ONNX is Triton, and the rest of the configuration it reads from the model."
    );
    Ok(Prepared::made(
        framework,
        files,
        "Triton loads a repository",
        vec![note],
    ))
}

/// A `SavedModel`, as a repository of one model.
pub(super) fn of_saved_model(root: &str, versions: &[String], entries: &[Entry], name: &str) -> Prepared {
    let mut files = vec![File::generated(
        format!("{name}/config.pbtxt"),
        format!("name: \"{name}\"\nplatform: \"tensorflow_savedmodel\"\n"),
    )];
    if versions.is_empty() {
        files.extend(moved(entries, root, &format!("{name}/1/model.savedmodel")));
    }
    for version in versions {
        let to = format!("{name}/{version}/model.savedmodel");
        files.extend(moved(entries, &below(root, version), &to));
    }
    let note = format!("A Triton repository with {name}/config.pbtxt and model.savedmodel is made.");
    Prepared::made(Framework::Triton, files, "Triton loads a repository", vec![note])
}

/// What a backend, or a platform, looks for.
fn default_file(backend: &str) -> Option<&'static str> {
    Some(match backend {
        "onnxruntime" | "onnxruntime_onnx" => "model.onnx",
        "tensorrt" | "tensorrt_plan" => "model.plan",
        "pytorch" | "pytorch_libtorch" => "model.pt",
        "tensorflow_savedmodel" => "model.savedmodel",
        "tensorflow_graphdef" => "model.graphdef",
        "python" => "model.py",
        "openvino" => "model.xml",
        "dali" => "model.dali",
        _ => return None,
    })
}

/// What Triton takes a file for where the configuration says nothing.
fn backend_of(file: &str) -> Option<&'static str> {
    Some(match file.split('/').next().unwrap_or(file) {
        "model.onnx" => "onnxruntime",
        "model.plan" => "tensorrt",
        "model.pt" => "pytorch",
        "model.savedmodel" | "model.graphdef" => "tensorflow",
        "model.py" => "python",
        "model.xml" => "openvino",
        _ => return None,
    })
}

/// A field of the outermost message whose value is a text.
fn field(config: &str, name: &str) -> Option<String> {
    let mut depth = 0_usize;
    for line in config.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if depth == 0
            && let Some(rest) = line.strip_prefix(name)
            && let Some(value) = rest.trim_start().strip_prefix(':')
        {
            let value = value.trim().trim_end_matches([',', ';']);
            let quoted = value.strip_prefix('"').or_else(|| value.strip_prefix('\''))?;
            return quoted.split(['"', '\'']).next().map(str::to_owned);
        }
        for c in line.chars() {
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    None
}

fn brackets(config: &str, told: &str) -> Result<(), Error> {
    let mut open = Vec::new();
    let mut quote = None;
    for (number, line) in config.lines().enumerate() {
        for c in line.chars() {
            match (quote, c) {
                (Some(opening), closing) => quote = (closing != opening).then_some(opening),
                (None, '#') => break,
                (None, '"' | '\'') => quote = Some(c),
                (None, '{' | '[') => open.push((c, number + 1)),
                (None, '}' | ']') => {
                    let wanted = if c == '}' { '{' } else { '[' };
                    if open.pop().is_none_or(|(opened, _)| opened != wanted) {
                        return Err(Error::wrong(
                            format!(
                                "{told}/config.pbtxt can't be read: line {}: `{c}` closes nothing",
                                number + 1
                            ),
                            PAGE,
                        ));
                    }
                }
                _ => {}
            }
        }
        quote = None;
    }
    match open.pop() {
        Some((c, line)) => Err(Error::wrong(
            format!("{told}/config.pbtxt can't be read: line {line}: `{c}` is never closed"),
            PAGE,
        )),
        None => Ok(()),
    }
}
