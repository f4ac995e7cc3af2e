//! Lays a model's files out as its server looks for them, and says what would not work before anything is uploaded.
//!
//! Pure over a list of files and a few small texts among them: what is to be copied, written and packed is a plan, which `stage` carries out.

mod archive;
mod files;
mod function;
mod huggingface;
mod mlflow;
mod saved_model;
mod torch_serve;
mod triton;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::Framework;
use crate::source::identify::{Found, Structure, file_name, is_below};
use crate::source::{self, Entry, Located};

pub(crate) use archive::pack;
pub use archive::{Archive, Member};
pub use function::Function;
pub use torch_serve::TorchServe;

/// How a model's folder has to look.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Every file, in the order of its path.
    pub files: Vec<File>,
    /// What serves it.
    pub framework: Framework,
    /// What was made, and what its user should know: a sentence each.
    pub notes: Vec<String>,
    /// The folder of the source (empty for all of it) that is right as it is; none where files have to be moved or made.
    pub in_place: Option<String>,
    /// Why it isn't right as it is: `its file is renamed`. Empty where it is.
    pub why: String,
    /// Whether it would do as it is where there is nowhere to copy it to, with one server at least.
    pub would_do: bool,
}

/// One file.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Below the folder that KServe loads.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a [`File`].
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A file of the source.
    Source(Entry),
    /// A file of this machine.
    Local(PathBuf),
    /// Written here.
    Generated(Vec<u8>),
    /// Packed here.
    Packed(Archive),
}

/// What a user wants of a model beside serving it.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// The service's name.
    pub name: &'a str,
    /// What becomes a `TorchServe` archive.
    pub torch_serve: Option<&'a TorchServe>,
    /// What answers in place of the model alone.
    pub function: Option<&'a Function>,
    /// An image of the user's own serves it, whatever it is.
    pub own_image: bool,
}

/// Why no server would load a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something is missing, or not as it has to be.
    #[error("{what}")]
    Wrong {
        /// Which file or field, and what is wrong.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// A file can't be read.
    #[error(transparent)]
    Source(#[from] source::Error),
}

impl Error {
    fn wrong(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Wrong {
            what: what.into(),
            next: next.into(),
        }
    }

    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Wrong { next, .. } => next.clone(),
            Self::Source(error) => error.next(),
        }
    }
}

/// Checks a model and says how its folder has to look.
///
/// # Errors
/// Where no server would load it.
pub async fn prepare(located: &Located, wishes: Wishes<'_>) -> Result<Prepared, Error> {
    let texts = texts(located, wishes).await?;
    let mut prepared = lay_out(located, wishes, &texts)?;
    prepared.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(prepared)
}

fn lay_out(located: &Located, wishes: Wishes<'_>, texts: &BTreeMap<String, String>) -> Result<Prepared, Error> {
    let entries = located.entries.as_slice();
    let framework = located.model.framework;
    if let Some(torch_serve) = wishes.torch_serve {
        only_of_weights(&located.found, framework, torch_serve, wishes.function)?;
    }
    if let Some(function) = wishes.function {
        return function::lay_out(&located.found, entries, texts, function, wishes.name);
    }
    match &located.found {
        Found::Unseen => Ok(Prepared::as_it_is(
            framework,
            "",
            entries,
            vec!["It can't be looked at from here, so nothing of it was checked.".to_owned()],
        )),
        Found::Mlflow { root, mlmodel } => mlflow::lay_out(root, mlmodel, entries, &located.model),
        Found::Own => function::own(entries, wishes.own_image),
        Found::Structure(structure) => match structure {
            Structure::MlserverSettings { root } => Ok(Prepared::as_it_is(
                Framework::Custom,
                root,
                entries,
                vec!["Its model-settings.json tells MLServer what to run.".to_owned()],
            )),
            Structure::SavedModel { root, versions } => {
                if framework == Framework::Triton {
                    Ok(triton::of_saved_model(root, versions, entries, wishes.name))
                } else {
                    saved_model::lay_out(root, versions, entries)
                }
            }
            Structure::Triton { root, models } => triton::lay_out(root, models, entries, texts, wishes.name, framework),
            Structure::Huggingface { root } => huggingface::lay_out(root, entries, texts),
            Structure::TorchServe { root, archives } => torch_serve::of_archives(root, archives, entries, texts),
        },
        Found::File { path, content } => match framework {
            Framework::Sklearn | Framework::Xgboost | Framework::Lightgbm => {
                files::lay_out(framework, path, content, entries)
            }
            Framework::Onnx | Framework::Triton => triton::of_file(path, entries, wishes.name, framework),
            Framework::Pytorch => torch_serve::of_weights(path, entries, wishes.torch_serve, wishes.name),
            other => Err(Error::wrong(
                format!("{path} is one file, and a {other} model is a folder"),
                "name the folder of the model",
            )),
        },
    }
}

/// Refuses what is said of an archive where none is made.
fn only_of_weights(
    found: &Found,
    framework: Framework,
    said: &TorchServe,
    function: Option<&Function>,
) -> Result<(), Error> {
    let but = match found {
        _ if function.is_some() => "a function answers here, by MLServer".to_owned(),
        Found::File { .. } if framework == Framework::Pytorch => return Ok(()),
        Found::Structure(Structure::TorchServe { .. }) => {
            "this is an archive already, with all that it was made of".to_owned()
        }
        Found::Unseen => "this can't be looked at from here, and is used as it is".to_owned(),
        _ => format!("this is a model for {framework}"),
    };
    let plain = TorchServe::default();
    let flags = [
        ("--model-class", said.model_class.is_some()),
        ("--extra-file", !said.extra_files.is_empty()),
        ("--requirements", said.requirements.is_some()),
        ("--model-version", said.version != plain.version),
    ];
    // One of TorchServe's own handlers is what is taken where none is named, too.
    let flag = flags.into_iter().find_map(|(flag, is_said)| is_said.then_some(flag));
    let flag = flag.unwrap_or("--handler");
    Err(Error::wrong(
        format!("{flag} is for PyTorch weights, of which an archive for TorchServe is made, and {but}"),
        format!("leave {flag} out, and whatever else is said of an archive"),
    ))
}

/// What layouts depend on is small: configurations and the user's own code.
async fn texts(located: &Located, wishes: Wishes<'_>) -> Result<BTreeMap<String, String>, Error> {
    const LARGEST: u64 = 4 << 20;
    let mut texts = BTreeMap::new();
    let Some(folder) = &located.folder else {
        return Ok(texts);
    };
    for entry in &located.entries {
        let name = file_name(&entry.path);
        let wanted = matches!(name, "config.pbtxt" | "config.properties")
            || name.ends_with(".index.json")
            || (name == "config.json" && matches!(located.found, Found::Structure(Structure::Huggingface { .. })))
            || (name.ends_with(".py") && wishes.function.is_some());
        if wanted && entry.bytes <= LARGEST {
            texts.insert(entry.path.clone(), folder.text(entry).await?);
        }
    }
    Ok(texts)
}

impl Prepared {
    /// The files of the source that are needed.
    pub(crate) fn sources(&self) -> Vec<&str> {
        let mut paths = Vec::new();
        for file in &self.files {
            match &file.content {
                Content::Source(entry) => paths.push(entry.path.as_str()),
                Content::Packed(archive) => paths.extend(archive.members.iter().filter_map(|member| match member {
                    Member::Source { path, .. } => Some(path.as_str()),
                    _ => None,
                })),
                Content::Local(_) | Content::Generated(_) => {}
            }
        }
        paths
    }

    /// A folder of the source that is right.
    fn as_it_is(framework: Framework, root: &str, entries: &[Entry], notes: Vec<String>) -> Self {
        Self {
            files: moved(entries, root, ""),
            framework,
            notes,
            in_place: Some(root.to_owned()),
            why: String::new(),
            would_do: false,
        }
    }

    /// Files that aren't right yet.
    fn made(framework: Framework, files: Vec<File>, why: &str, notes: Vec<String>) -> Self {
        Self {
            files,
            framework,
            notes,
            in_place: None,
            why: why.to_owned(),
            would_do: false,
        }
    }
}

impl File {
    fn generated(path: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            content: Content::Generated(text.into()),
        }
    }

    fn source(path: impl Into<String>, entry: &Entry) -> Self {
        Self {
            path: path.into(),
            content: Content::Source(entry.clone()),
        }
    }
}

/// What is below one folder, below another one.
fn moved(entries: &[Entry], from: &str, to: &str) -> Vec<File> {
    let below = entries.iter().filter(|entry| is_below(&entry.path, from));
    below
        .map(|entry| {
            let path = entry.path[from.len()..].trim_start_matches('/');
            File::source(source::identify::below(to, path), entry)
        })
        .collect()
}

#[cfg(test)]
mod tests;
