//! Models of one file: scikit-learn, XGBoost, LightGBM.
//!
//! The names are those that the servers look for: `WELLKNOWN_MODEL_FILENAMES` of `MLServer` 1.5 and 1.7, `MODEL_EXTENSIONS` of KServe's own servers 0.15 and 0.20,
//! which refuse a folder with two files of these endings.

use tidewaiter_core::sniff::{Sniffed, XgBoost};

use super::{Error, File, Prepared};
use crate::model::Framework;
use crate::source::Entry;
use crate::source::identify::{Content, extension, file_name, parent};

pub(super) fn lay_out(
    framework: Framework,
    path: &str,
    content: &Content,
    entries: &[Entry],
) -> Result<Prepared, Error> {
    let entry = entries.iter().find(|entry| entry.path == path);
    let entry = entry.ok_or_else(|| Error::wrong(format!("{path} is not there"), "look whether the path is right"))?;
    if entry.bytes == 0 {
        return Err(Error::wrong(format!("{path} is empty"), "save the model again"));
    }
    let mut notes = Vec::new();
    let wanted = match framework {
        Framework::Sklearn => sklearn(path, content, &mut notes)?,
        Framework::Xgboost => xgboost(path, content)?,
        _ => lightgbm(path, content)?,
    };
    let endings: &[&str] = match framework {
        Framework::Sklearn => &["joblib", "pkl", "pickle"],
        Framework::Xgboost => &["bst", "json", "ubj"],
        _ => &["bst"],
    };
    let folder = parent(path);
    let in_the_way = entries.iter().find(|other| {
        other.path != path
            && parent(&other.path) == folder
            && extension(&other.path).is_some_and(|ending| endings.contains(&ending))
    });
    let ending_fits = extension(path).is_some_and(|ending| endings.contains(&ending));
    if file_name(path) == wanted && in_the_way.is_none() {
        let mut prepared = Prepared::as_it_is(framework, folder, entries, notes);
        prepared.files = vec![File::source(wanted, entry)];
        return Ok(prepared);
    }
    let why = match in_the_way {
        Some(other) => format!("{} lies beside it, which the server would take for a model", other.path),
        None => format!("{} has to be called {wanted}", file_name(path)),
    };
    if file_name(path) != wanted {
        notes.insert(
            0,
            format!(
                "{} is uploaded as {wanted}, which is what servers look for.",
                file_name(path)
            ),
        );
    }
    let mut prepared = Prepared::made(framework, vec![File::source(wanted, entry)], &why, notes);
    // KServe's own servers go by the ending alone.
    prepared.would_do = ending_fits && in_the_way.is_none();
    Ok(prepared)
}

fn sklearn(path: &str, content: &Content, notes: &mut Vec<String>) -> Result<&'static str, Error> {
    match content {
        Content::Sniffed(Sniffed::Pickle(pickle)) => {
            let other = ["xgboost", "lightgbm"]
                .into_iter()
                .find(|package| pickle.imports(package));
            if let Some(package) = other {
                notes.push(format!(
                    "{path} is a pickle with {package} in it: MLServer's image has {package}, KServe's own scikit-learn server has not; \
                     `save_model` writes a file that is safer to load."
                ));
            } else if !pickle.imports("sklearn") && pickle.sklearn_version.is_none() {
                notes.push(format!("Nothing seen in {path} says that scikit-learn wrote it."));
            }
        }
        Content::Sniffed(Sniffed::Compressed) => {
            notes.push(format!(
                "{path} is compressed, so which version wrote it can't be seen."
            ));
        }
        Content::ByName | Content::Sniffed(Sniffed::Zip) => {
            return Err(Error::wrong(
                format!("{path} is a skops file, which neither MLServer's nor KServe's scikit-learn server loads"),
                "save it with joblib.dump(model, \"model.joblib\"), or log it with MLflow and serialization_format=\"cloudpickle\"",
            ));
        }
        Content::Sniffed(_) => {
            return Err(Error::wrong(
                format!("{path} is no pickle, and scikit-learn's servers load nothing else"),
                "save it with joblib.dump(model, \"model.joblib\")",
            ));
        }
    }
    Ok(match extension(path) {
        Some("pkl") => "model.pkl",
        Some("pickle") => "model.pickle",
        _ => "model.joblib",
    })
}

fn xgboost(path: &str, content: &Content) -> Result<&'static str, Error> {
    match content {
        Content::Sniffed(Sniffed::XgBoost(XgBoost { ubjson: true, .. })) => Ok("model.ubj"),
        Content::Sniffed(Sniffed::XgBoost(_)) => Ok("model.json"),
        Content::Sniffed(Sniffed::XgBoostLegacy(_)) => Ok("model.bst"),
        _ => Err(Error::wrong(
            format!("{path} is no file that XGBoost's save_model wrote"),
            "save it with model.save_model(\"model.ubj\"); a pickle is what scikit-learn's servers load",
        )),
    }
}

fn lightgbm(path: &str, content: &Content) -> Result<&'static str, Error> {
    match content {
        Content::Sniffed(Sniffed::LightGbmText(_)) => Ok("model.bst"),
        _ => Err(Error::wrong(
            format!("{path} is no text file of LightGBM's, and its servers load nothing else"),
            "save it with model.booster_.save_model(\"model.bst\")",
        )),
    }
}
