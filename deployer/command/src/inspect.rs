//! `tidewaiter inspect`
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstream::{eprintln, print};
use clap::Args;
use serde::Serialize;
use tidewaiter_deployer::model::{Field, Framework, Type};
use tidewaiter_deployer::prepare::{self, Wishes};
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::source::{self, Located, Source};

use super::arguments::Format;
use super::stores::{StoreArguments, TrackingArguments};
use super::table::clean;
use super::{DIM, Ending, Failure, HINT, output, profile};

/// Say what a model is, without deploying it.
///
/// Finds the model that a source names, and reads its description and the beginning of its files: framework, versions, signature, size, and whether a server would
/// load it as it lies there. Nothing is copied or changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 a model that could be deployed, 1 a model that no server would load, 2 an error.

Examples:
  tidewaiter inspect models:/fraud@champion   the version that an alias points to
  tidewaiter inspect runs:/4f0c…/model        of a run
  tidewaiter inspect s3://mlflow/1/model      in a store
  tidewaiter inspect ./model -o json          on this machine, for a script"
)]
pub(crate) struct InspectArguments {
    /// models:/NAME/VERSION, models:/NAME@ALIAS, models:/m-ID, runs:/RUN/PATH, mlflow-artifacts:/PATH, s3://, gs://, an Azure URL, a folder or a file
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// What it is, where its files don't tell: sklearn, xgboost, lightgbm, mlflow, onnx, tensorflow, triton, huggingface, pytorch, custom
    #[arg(long, value_name = "NAME")]
    pub(crate) framework: Option<Framework>,
    /// Print it for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// The profile, in place of the current one
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    #[command(flatten)]
    pub(crate) tracking: TrackingArguments,
    #[command(flatten)]
    pub(crate) stores: StoreArguments,
}

/// What is printed for a program. Its fields stay as they are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspected<'a> {
    source: &'a str,
    resolved: &'a [String],
    uri: Option<&'a str>,
    framework: &'a str,
    versions: &'a BTreeMap<String, String>,
    signature: Option<Signature<'a>>,
    input_example: Option<serde_json::Value>,
    bytes: u64,
    files: usize,
    /// Whether it would be copied before it is served.
    copied: bool,
    notes: &'a [String],
    problem: Option<Problem>,
}

#[derive(Serialize)]
struct Problem {
    message: String,
    next: String,
}

#[derive(Serialize)]
struct Signature<'a> {
    inputs: Vec<Column<'a>>,
    outputs: Vec<Column<'a>>,
}

#[derive(Serialize)]
struct Column<'a> {
    name: Option<&'a str>,
    r#type: String,
    optional: bool,
}

pub(super) async fn run(arguments: InspectArguments) -> Result<Ending, Failure> {
    let source: Source = arguments.source.parse().map_err(source::Error::from)?;
    let settings = profile::settings(arguments.profile.as_deref(), &BTreeMap::new())?;
    let options = source::Options {
        framework: arguments.framework,
        tracking: arguments.tracking.tracking(settings.get(Key::TrackingServer))?,
        proxied_root: arguments.tracking.artifacts_destination.clone(),
        stores: arguments.stores.access()?,
    };
    let located = source::locate(&source, &options).await?;
    let wishes = Wishes {
        name: "model",
        torch_serve: None,
        function: None,
        // What will serve it isn't asked here.
        own_image: true,
    };
    let prepared = prepare::prepare(&located, wishes).await;
    let (notes, copied, problem) = match prepared {
        Ok(prepared) => {
            let copied = located.uri.is_none() || prepared.in_place.is_none();
            (prepared.notes, copied, None)
        }
        Err(error) => {
            let problem = Problem {
                message: error.to_string(),
                next: error.next(),
            };
            (Vec::new(), false, Some(problem))
        }
    };
    let ending = if problem.is_some() {
        Ending::Something
    } else {
        Ending::Nothing
    };
    if let Some(format) = arguments.output {
        let inspected = inspected(&located, copied, &notes, problem);
        print!("{}", output::document(&inspected, format)?);
        return Ok(ending);
    }
    print!("{}", told(&located, copied));
    for note in &notes {
        eprintln!("{DIM}{}{DIM:#}", clean(note));
    }
    if let Some(problem) = problem {
        eprintln!("\nNo server would load it: {}", clean(&problem.message));
        eprintln!("\n{HINT}hint{HINT:#}: {}", clean(&problem.next));
    }
    Ok(ending)
}

fn inspected<'a>(located: &'a Located, copied: bool, notes: &'a [String], problem: Option<Problem>) -> Inspected<'a> {
    let model = &located.model;
    Inspected {
        source: &located.origin.asked,
        resolved: &located.origin.steps,
        uri: located.uri.as_ref().map(tidewaiter_core::uri::StorageUri::as_str),
        framework: model.framework.as_str(),
        versions: &model.versions,
        signature: model.signature.as_ref().map(|signature| Signature {
            inputs: columns(&signature.inputs),
            outputs: columns(&signature.outputs),
        }),
        input_example: model
            .input_example
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok()),
        bytes: model.bytes,
        files: model.files,
        copied,
        notes,
        problem,
    }
}

fn columns(fields: &[Field]) -> Vec<Column<'_>> {
    fields
        .iter()
        .map(|field| Column {
            name: field.name.as_deref(),
            r#type: type_of(&field.of),
            optional: field.optional,
        })
        .collect()
}

/// `double`, `float32[-1, 3]`
fn type_of(of: &Type) -> String {
    match of {
        Type::Column(name) => name.clone(),
        Type::Tensor { dtype, shape } => format!("{dtype}{shape:?}"),
        Type::Nested(json) => json.clone(),
    }
}

fn told(located: &Located, copied: bool) -> String {
    /// The versions that a server has to fit; the rest is in -o json.
    const TELLING: [&str; 12] = [
        "mlflow",
        "python",
        "scikit-learn",
        "xgboost",
        "lightgbm",
        "catboost",
        "torch",
        "tensorflow",
        "keras",
        "onnx",
        "transformers",
        "numpy",
    ];
    let model = &located.model;
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{:<11} {}", format!("{name}:"), clean(value));
    };
    row("Source", &located.origin.to_string());
    row("Framework", model.framework.as_str());
    let versions: Vec<_> = TELLING
        .iter()
        .filter_map(|name| Some(format!("{name} {}", model.versions.get(*name)?)))
        .collect();
    if !versions.is_empty() {
        row("Versions", &versions.join(", "));
    }
    if model.bytes > 0 || model.files > 0 {
        let files = match model.files {
            0 => String::new(),
            1 => " in 1 file".to_owned(),
            files => format!(" in {files} files"),
        };
        row("Size", &format!("{}{files}", bytes(model.bytes)));
    }
    if let Some(signature) = &model.signature {
        row("Inputs", &fields(&signature.inputs));
        row("Outputs", &fields(&signature.outputs));
    }
    if model.input_example.is_some() {
        row("Example", "yes");
    }
    let served = match (&located.uri, copied) {
        (Some(uri), false) => format!("from {uri}"),
        _ => "after it is uploaded".to_owned(),
    };
    row("Served", &served);
    text
}

fn fields(fields: &[Field]) -> String {
    const SHOWN: usize = 12;
    if fields.is_empty() {
        return "not said".to_owned();
    }
    let mut shown: Vec<_> = fields
        .iter()
        .take(SHOWN)
        .map(|field| {
            let optional = if field.optional { "?" } else { "" };
            match &field.name {
                Some(name) => format!("{name}{optional}: {}", type_of(&field.of)),
                None => type_of(&field.of),
            }
        })
        .collect();
    if fields.len() > SHOWN {
        shown.push(format!("and {} more", fields.len() - SHOWN));
    }
    shown.join(", ")
}

/// `1.5 GiB`
pub(super) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

impl From<source::Error> for Failure {
    fn from(error: source::Error) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}
