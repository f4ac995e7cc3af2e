//! `TorchServe`: `model-store/NAME.mar` and `config/config.properties`, as KServe's runtime starts it.
//!
//! Source: `config/runtimes/kserve-torchserve.yaml` of KServe 0.20 (`--model-store=/mnt/models/model-store`, `--ts-config=/mnt/models/config/config.properties`);
//! `model_archiver/model_packaging_utils.py` and `manifest_components` of torch-model-archiver 0.12; `docs/configuration.md` of `TorchServe` 0.12.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Archive, Content, Error, File, Member, Prepared};
use crate::model::Framework;
use crate::source::Entry;
use crate::source::identify::{below, file_name, is_below, parent};

/// Said of every model that goes this way.
const LIMITED: &str = "TorchServe is in limited maintenance: no fixes are planned. ONNX (torch.onnx.export) or Triton serve the same model.";
/// Handlers that `TorchServe` has itself.
const BUILT_IN: [&str; 5] = [
    "base_handler",
    "image_classifier",
    "image_segmenter",
    "object_detector",
    "text_classifier",
];
const CONFIG: &str = "config/config.properties";

/// What becomes an archive, as `torch-model-archiver` is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchServe {
    /// The Python file with the model's class; none for a TorchScript file, which has it inside.
    pub model_class: Option<PathBuf>,
    /// A Python file, or the name of one that `TorchServe` has: `image_classifier`.
    pub handler: String,
    /// More files that the handler reads.
    pub extra_files: Vec<PathBuf>,
    /// A `requirements.txt` that `TorchServe` installs when it starts.
    pub requirements: Option<PathBuf>,
    /// Such as `1.0`.
    pub version: String,
}

impl Default for TorchServe {
    fn default() -> Self {
        Self {
            model_class: None,
            handler: "base_handler".to_owned(),
            extra_files: Vec::new(),
            requirements: None,
            version: "1.0".to_owned(),
        }
    }
}

/// Weights, which need an archive.
pub(super) fn of_weights(
    path: &str,
    entries: &[Entry],
    wish: Option<&TorchServe>,
    name: &str,
) -> Result<Prepared, Error> {
    let Some(wish) = wish else {
        return Err(Error::wrong(
            format!(
                "{path} is weights alone: TorchServe loads an archive (.mar) with a handler, and the model's class where it is no TorchScript"
            ),
            format!("give them by --handler and --model-class, and the archive is made. {LIMITED}"),
        ));
    };
    if !entries.iter().any(|entry| entry.path == path && entry.bytes > 0) {
        return Err(Error::wrong(format!("{path} is empty"), "save the model again"));
    }
    let serialized = file_name(path);
    let mut members = vec![Member::Source {
        name: serialized.to_owned(),
        path: path.to_owned(),
    }];
    let mut model = json!({
        "modelName": name,
        "serializedFile": serialized,
        "modelVersion": wish.version,
    });
    if let Some(class) = &wish.model_class {
        model["modelFile"] = add(&mut members, class)?.into();
    }
    let is_file = Path::new(&wish.handler)
        .extension()
        .is_some_and(|extension| extension == "py");
    if is_file {
        model["handler"] = add(&mut members, Path::new(&wish.handler))?.into();
    } else if BUILT_IN.contains(&wish.handler.as_str()) {
        model["handler"] = wish.handler.as_str().into();
    } else {
        return Err(Error::wrong(
            format!("`{}` is no Python file and no handler of TorchServe's", wish.handler),
            format!("name a file handler.py, or one of {}", BUILT_IN.join(", ")),
        ));
    }
    if let Some(requirements) = &wish.requirements {
        model["requirementsFile"] = add(&mut members, requirements)?.into();
    }
    for file in &wish.extra_files {
        add(&mut members, file)?;
    }
    let manifest = json!({"runtime": "python", "model": model, "archiverVersion": "0.12.0"});
    members.push(Member::Generated {
        name: "MAR-INF/MANIFEST.json".to_owned(),
        content: format!("{manifest:#}\n").into_bytes(),
    });
    let archive = format!("{name}.mar");
    let names: Vec<_> = members.iter().map(member_name).collect();
    let notes = vec![
        format!("{archive} is made of {}.", names.join(", ")),
        format!("{CONFIG} is written for one model {name}, version {}.", wish.version),
        LIMITED.to_owned(),
    ];
    let files = vec![
        File::generated(
            CONFIG,
            properties(&[(name.to_owned(), archive.clone(), wish.version.clone())]),
        ),
        File {
            path: format!("model-store/{archive}"),
            content: Content::Packed(Archive { members }),
        },
    ];
    Ok(Prepared::made(
        Framework::Pytorch,
        files,
        "TorchServe loads an archive",
        notes,
    ))
}

/// Archives that are there.
pub(super) fn of_archives(
    root: &str,
    archives: &[String],
    entries: &[Entry],
    texts: &BTreeMap<String, String>,
) -> Result<Prepared, Error> {
    let mut notes = Vec::new();
    let store = below(root, "model-store");
    let config = texts.get(&below(root, CONFIG));
    if let Some(config) = config
        && archives.iter().all(|path| parent(path) == store)
    {
        let told = property(config, "model_store");
        if told.is_some_and(|told| told.trim_end_matches('/') != "/mnt/models/model-store") {
            return Err(Error::wrong(
                format!(
                    "{CONFIG} has model_store={}, and KServe puts it at /mnt/models/model-store",
                    told.unwrap_or_default()
                ),
                "write model_store=/mnt/models/model-store there, or leave config away: then it is written",
            ));
        }
        let snapshot = property(config, "model_snapshot").unwrap_or_default();
        for path in archives {
            if !snapshot.contains(file_name(path)) {
                notes.push(format!(
                    "{} is not named in model_snapshot of {CONFIG}: it is not loaded at start.",
                    file_name(path)
                ));
            }
        }
        notes.push(LIMITED.to_owned());
        return Ok(Prepared::as_it_is(Framework::Pytorch, root, entries, notes));
    }
    let mut models = Vec::new();
    let mut files = Vec::new();
    for path in archives {
        let entry = entries.iter().find(|entry| entry.path == *path && entry.bytes > 0);
        let entry = entry.ok_or_else(|| Error::wrong(format!("{path} is empty"), "make the archive again"))?;
        let archive = file_name(path);
        let model = archive.strip_suffix(".mar").unwrap_or(archive);
        models.push((model.to_owned(), archive.to_owned(), "1.0".to_owned()));
        files.push(File::source(format!("model-store/{archive}"), entry));
    }
    let names: Vec<_> = models.iter().map(|(name, ..)| name.as_str()).collect();
    notes.push(format!("{CONFIG} is written for {}, version 1.0.", names.join(", ")));
    notes.push(LIMITED.to_owned());
    let has_rest = entries
        .iter()
        .any(|entry| is_below(&entry.path, &below(root, "config")));
    if has_rest && config.is_none() {
        notes.push(format!(
            "The folder config has no config.properties, so {CONFIG} is new."
        ));
    }
    files.push(File::generated(CONFIG, properties(&models)));
    Ok(Prepared::made(
        Framework::Pytorch,
        files,
        "TorchServe's configuration is missing",
        notes,
    ))
}

/// Puts a file of this machine in, and says what it is called there.
fn add(members: &mut Vec<Member>, file: &Path) -> Result<String, Error> {
    if !file.is_file() {
        return Err(Error::wrong(
            format!("there is no file {}", file.display()),
            "look whether the path is right",
        ));
    }
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned();
    if members.iter().any(|member| member_name(member) == name) {
        return Err(Error::wrong(
            format!("two files for the archive are called {name}"),
            "rename one of them: an archive has no folders",
        ));
    }
    members.push(Member::Local {
        name: name.clone(),
        file: file.to_owned(),
    });
    Ok(name)
}

fn member_name(member: &Member) -> &str {
    match member {
        Member::Generated { name, .. } | Member::Local { name, .. } | Member::Source { name, .. } => name,
    }
}

/// Ports as KServe's wrapper around `TorchServe` expects them; one worker a model, which scales by Pods.
fn properties(models: &[(String, String, String)]) -> String {
    let mut loaded = serde_json::Map::new();
    for (name, archive, version) in models {
        let how = json!({
            "defaultVersion": true,
            "marName": archive,
            "minWorkers": 1,
            "maxWorkers": 1,
            "batchSize": 1,
            "maxBatchDelay": 10,
            "responseTimeout": 120,
        });
        loaded.insert(name.clone(), json!({version.as_str(): how}));
    }
    let snapshot = json!({"name": "startup.cfg", "modelCount": models.len(), "models": loaded});
    format!(
        "inference_address=http://0.0.0.0:8085\n\
         management_address=http://0.0.0.0:8085\n\
         metrics_address=http://0.0.0.0:8082\n\
         grpc_inference_port=7070\n\
         grpc_management_port=7071\n\
         enable_envvars_config=true\n\
         install_py_dep_per_model=true\n\
         disable_token_authorization=true\n\
         enable_metrics_api=true\n\
         metrics_mode=prometheus\n\
         model_store=/mnt/models/model-store\n\
         model_snapshot={snapshot}\n"
    )
}

fn property<'a>(config: &'a str, name: &str) -> Option<&'a str> {
    config.lines().find_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        (key.trim() == name).then_some(value.trim())
    })
}
