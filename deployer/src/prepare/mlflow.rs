//! A folder with an `MLmodel`: `MLServer`'s MLflow runtime loads it by `mlflow.pyfunc`.

use tidewaiter_core::fit::Form;
use tidewaiter_core::mlmodel::MlModel;

use super::{Error, Prepared};
use crate::model::{Framework, Model};
use crate::source::Entry;
use crate::source::identify::{below, is_below};

pub(super) fn lay_out(root: &str, mlmodel: &MlModel, entries: &[Entry], model: &Model) -> Result<Prepared, Error> {
    let names = || {
        let names: Vec<_> = mlmodel.flavors.iter().map(|flavor| flavor.name.as_str()).collect();
        names.join(", ")
    };
    if mlmodel.loader_module.is_none() {
        return Err(Error::wrong(
            format!(
                "the MLmodel has no python_function flavor, which MLServer loads models by; it has {}",
                names()
            ),
            "name the framework itself by --framework, or log the model with its framework's log_model",
        ));
    }
    let mut notes = Vec::new();
    if !root.is_empty() {
        notes.push(format!("The model is the folder {root}."));
    }
    // A server that lists no files gives none to look at.
    let is_whole = model.files > 0;
    if let Some(flavor) = mlmodel.loaded() {
        if let Some(data) = flavor.data.as_ref().filter(|_| is_whole) {
            let data = below(root, data);
            let there = |entry: &Entry| entry.path == data || is_below(&entry.path, &data);
            if !entries.iter().any(there) {
                return Err(Error::wrong(
                    format!(
                        "the MLmodel names {data} as the {} model, which is not there",
                        flavor.name
                    ),
                    "log the model again, or copy the whole folder",
                ));
            }
        }
        if flavor.form() == Form::Skops {
            notes.push(
                "It is saved with skops, which MLflow reads from 3.9 on: a server with an older one refuses it. \
                 serialization_format=\"cloudpickle\" makes one that it loads."
                    .to_owned(),
            );
        }
    } else {
        notes.push("It is code of its author's own: what it imports has to be in the server's image.".to_owned());
    }
    if model.signature.is_none() {
        notes.push(
            "It has no signature: inputs are not checked, and requests have to say their content type. \
             mlflow.models.infer_signature makes one."
                .to_owned(),
        );
    }
    Ok(Prepared::as_it_is(Framework::Mlflow, root, entries, notes))
}
