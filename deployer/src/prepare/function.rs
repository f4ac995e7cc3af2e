//! A Python function that answers, served from the model's folder by `MLServer`'s custom runtimes: no image is built.
//!
//! Source: `ModelSettings.implementation` of `MLServer` 1.7.1 (imports from the folder of `model-settings.json`) and `mlserver/repository/load.py`.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Error, File, Prepared, moved};
use crate::model::Framework;
use crate::source::Entry;
use crate::source::identify::{Found, Structure, file_name};

/// The module that is written beside the model.
const MODULE: &str = "tidewaiter_runtime";
const RUNTIME: &str = include_str!("runtime.py");
/// Longer functions' lists are cut in errors.
const SHOWN: usize = 8;

/// A user's functions, each as `module.function`, in modules that lie in the model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `predict(model, data)`: what answers.
    pub predict: String,
    /// `pre(data)`: what is done to the request's data before.
    pub pre: Option<String>,
    /// `post(prediction)`: what is done to the answer.
    pub post: Option<String>,
    /// `load(folder)`: what loads the model; by default `MLflow`, joblib, XGBoost or `LightGBM`, by what lies there, else the folder's path is the model.
    pub load: Option<String>,
}

pub(super) fn lay_out(
    found: &Found,
    entries: &[Entry],
    texts: &BTreeMap<String, String>,
    function: &Function,
    name: &str,
) -> Result<Prepared, Error> {
    if let Found::Structure(Structure::MlserverSettings { root }) = found {
        return Err(Error::wrong(
            format!("{root}/model-settings.json is there already, and a predict function needs its own"),
            "leave the function out to serve what is there, or take the file away",
        ));
    }
    let mut settings = BTreeMap::new();
    let wanted = [
        ("predict", Some(&function.predict)),
        ("pre", function.pre.as_ref()),
        ("post", function.post.as_ref()),
        ("load", function.load.as_ref()),
    ];
    for (role, path) in wanted {
        if let Some(path) = path {
            check(path, entries, texts)?;
            settings.insert(role, path.as_str());
        }
    }
    let settings = json!({
        "name": name,
        "implementation": format!("{MODULE}.Runtime"),
        "parameters": {"extra": settings},
    });
    let mut files = moved(entries, "", "");
    files.push(File::generated("model-settings.json", format!("{settings:#}\n")));
    files.push(File::generated(format!("{MODULE}.py"), RUNTIME));
    let notes = vec![
        format!(
            "model-settings.json and {MODULE}.py are written: MLServer calls {} with the model and the request's data.",
            function.predict
        ),
        "What the function imports has to be in MLServer's image, or lie in the folder.".to_owned(),
    ];
    Ok(Prepared::made(
        Framework::Custom,
        files,
        "MLServer has to be told which function answers",
        notes,
    ))
}

/// A folder that its user calls custom, without a function: for an image of their own, or with what tells MLServer, which looks at any depth. Without either
/// MLServer would find no model, and be ready all the same.
pub(super) fn own(entries: &[Entry], own_image: bool) -> Result<Prepared, Error> {
    let has_settings = entries
        .iter()
        .any(|entry| file_name(&entry.path) == "model-settings.json");
    let note = if own_image {
        "Nothing is checked or made: the image of the service has to know what to do with these files."
    } else if has_settings {
        "Its model-settings.json tells MLServer what to run."
    } else {
        return Err(Error::wrong(
            "nothing says what serves these files, and no server knows a custom model by itself",
            "name the function that answers (--predict MODULE.FUNCTION) or an image that serves them (--image), or put a model-settings.json for MLServer among them",
        ));
    };
    Ok(Prepared::as_it_is(
        Framework::Custom,
        "",
        entries,
        vec![note.to_owned()],
    ))
}

/// Whether a function is where its path says.
fn check(path: &str, entries: &[Entry], texts: &BTreeMap<String, String>) -> Result<(), Error> {
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let parts = path
        .rsplit_once('.')
        .filter(|(module, name)| is_name(name) && module.split('.').all(is_name));
    let Some((module, name)) = parts else {
        return Err(Error::wrong(
            format!("`{path}` is no function: a module and a name are meant, such as serve.predict"),
            "write module.function",
        ));
    };
    let base = module.replace('.', "/");
    let candidates = [format!("{base}.py"), format!("{base}/__init__.py")];
    let file = candidates
        .iter()
        .find(|file| entries.iter().any(|entry| entry.path == **file));
    let Some(file) = file else {
        let modules: Vec<_> = entries
            .iter()
            .filter(|entry| entry.path.ends_with(".py"))
            .take(SHOWN)
            .map(|entry| entry.path.as_str())
            .collect();
        let there = if modules.is_empty() {
            "there is no Python file at all".to_owned()
        } else {
            format!("there is {}", modules.join(", "))
        };
        return Err(Error::wrong(
            format!("`{path}` needs a file {} in the model's folder; {there}", candidates[0]),
            "put the module beside the model's files",
        ));
    };
    let Some(text) = texts.get(file) else { return Ok(()) };
    let defined: Vec<&str> = text.lines().filter_map(defined).collect();
    // What is imported there can't be seen from here.
    if defined.contains(&name) || text.contains("import *") || imports(text, name) {
        return Ok(());
    }
    let shown: Vec<_> = defined
        .iter()
        .copied()
        .filter(|name| !name.starts_with('_'))
        .take(SHOWN)
        .collect();
    Err(Error::wrong(
        format!("{} has no function `{name}`", file_name(file)),
        if shown.is_empty() {
            format!("write one: def {name}(model, data)")
        } else {
            format!("it has {}", shown.join(", "))
        },
    ))
}

/// The name that a line of a module defines.
fn defined(line: &str) -> Option<&str> {
    let rest = line
        .strip_prefix("def ")
        .or_else(|| line.strip_prefix("async def "))
        .or_else(|| line.strip_prefix("class "));
    if let Some(rest) = rest {
        return rest.split(['(', ':', ' ']).next();
    }
    let (name, _) = line.split_once('=')?;
    let name = name.split(':').next()?.trim_end();
    (!name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

/// Whether a module brings a name in from another one; a list in brackets goes over lines.
fn imports(text: &str, name: &str) -> bool {
    let mut open = false;
    text.lines().any(|line| {
        let is_import = open || line.starts_with("from ") || line.starts_with("import ");
        open = is_import && (open || line.contains('(')) && !line.contains(')');
        is_import
            && line
                .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .any(|word| word == name)
    })
}
