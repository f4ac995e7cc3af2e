//! `tidewaiter predict`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstream::{eprintln, print};
use clap::{Args, ValueEnum};
use serde_json::Value;
use tidewaiter_deployer::live::{Canaries, Deployed};
use tidewaiter_deployer::model::Model;
use tidewaiter_deployer::predict::{
    self, Answer, By, Connection, Expected, Header, Input, InputError, Protocol, Server, example, of_signature,
};
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::reach;
use tidewaiter_deployer::source::{self, Source};

use super::arguments::Format;
use super::output::{dim, document, note};
use super::place::{ServiceArguments, duration};
use super::reaching::{ReachArguments, tell};
use super::stores::{StoreArguments, TrackingArguments, unchecked};
use super::table::clean;
use super::{BOLD, Ending, Failure};

/// How long a service's model may take to be looked at: where its store isn't reached from here, the server is asked what the model takes.
const LOOK: Duration = Duration::from_secs(10);
/// Inputs that a model's author left beside it, the best first.
const EXAMPLES: [&str; 2] = ["serving_input_example.json", "input_example.json"];

/// Have a model answer, or a graph of services. One on a multi-model server is asked there.
///
/// The input is JSON (a list of rows or records, a request of either protocol, a data frame as pandas or MLflow write one), or CSV whose first line names the
/// columns; a model's folder stands for the input example in it. What the server says of its model gives names and types. By default it is asked by the protocol
/// that the service says it speaks, through the ingress where that is reached, else through a forwarded port.
///
/// With --example no input has to be given: the one that the model's author left beside it is sent (MLflow's input_example=), read where the service's model lies or
/// from --from; else one that is made of the model's signature, or of what the server says. Which one it is, is told on stderr.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it answered, 2 an error.

Examples:
  tidewaiter predict fraud --data '[[0.1, 0.2, 0.3, 0.4]]'
  tidewaiter predict fraud people.csv
  tidewaiter predict fraud ./model                    the input example in the model's folder
  tidewaiter predict fraud --example                  the model's own input example, or one made for it
  tidewaiter predict fraud --example --from models:/fraud@champion
  tidewaiter predict fraud people.csv --dry-run       the request that would be sent
  tidewaiter predict fraud request.json --protocol grpc -o json
  tidewaiter predict fraud - --base-url http://203.0.113.7 <request.json")]
pub(crate) struct PredictArguments {
    #[command(flatten)]
    service: ServiceArguments,
    /// The input: a file, a model's folder, or - for stdin
    #[arg(value_name = "INPUT", required_unless_present_any = ["data", "example"])]
    input: Option<PathBuf>,
    /// The input itself, as JSON
    #[arg(long, short, value_name = "JSON", conflicts_with = "input")]
    data: Option<String>,
    /// Send the model's own input example; where it has none, one made of its signature or of what the server says
    #[arg(long, conflicts_with_all = ["input", "data"])]
    example: bool,
    /// With --example: the model, as `tidewaiter deploy` is told it; by default the one that the service names
    #[arg(long, value_name = "SOURCE", requires = "example")]
    from: Option<String>,
    /// How the input is written; by default as its name ends
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Written>,
    /// The protocol, in place of the service's own
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    protocol: Option<Spoken>,
    /// What the server calls the model; by default the name of the service, or of the model on a multi-model server, as KServe has it
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Ask this canary alone (Standard mode), by a forwarded port
    #[arg(long, value_name = "NAME", conflicts_with = "base_url")]
    canary: Option<String>,
    /// Print the request, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// How long the answer may take
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration)]
    timeout: Duration,
    /// Send this header as well, such as 'Authorization: Bearer …'; may be given several times
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<Header>,
    /// Trust these authorities' certificates as well (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print the whole answer for a program
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    reach: ReachArguments,
    #[command(flatten)]
    models: ModelArguments,
}

/// How the model is found that an example is of.
#[derive(Debug, Args)]
struct ModelArguments {
    #[command(flatten)]
    tracking: TrackingArguments,
    #[command(flatten)]
    stores: StoreArguments,
}

/// A model's files, as far as an example needs them, and what they were named by.
struct Beside {
    model: Model,
    of: String,
}

/// How an input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    /// JSON
    Json,
    /// CSV, with the columns' names in its first line
    Csv,
}

/// What is spoken to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spoken {
    /// KServe's first protocol, over REST
    V1,
    /// The Open Inference Protocol, over REST
    V2,
    /// The Open Inference Protocol, over gRPC
    Grpc,
}

impl From<Spoken> for Protocol {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::V1 => Self::V1,
            Spoken::V2 => Self::V2,
            Spoken::Grpc => Self::Grpc,
        }
    }
}

impl From<predict::Error> for Failure {
    fn from(error: predict::Error) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self {
            next: Some(error.next()),
            message: error.to_string(),
        }
    }
}

pub(super) async fn run(arguments: PredictArguments) -> Result<Ending, Failure> {
    // Before anybody is asked: a slip in the input is told at once.
    let given = match (&arguments.input, &arguments.data) {
        (_, Some(data)) => Some(of_text(data, arguments.format.unwrap_or(Written::Json))?),
        (Some(file), _) => Some(read(file, arguments.format)?),
        (None, None) => None,
    };
    let connection = Connection {
        timeout: arguments.timeout,
        authorities: arguments.ca.as_deref().map(bytes).transpose()?,
        headers: arguments.header,
    };
    let more = [
        (Key::BaseUrl, arguments.reach.base_url.as_ref()),
        (Key::TrackingServer, arguments.models.tracking.tracking_server.as_ref()),
    ];
    let place = arguments.service.place.open(&more).await?;
    let name = arguments.service.name;
    let service = Deployed::read_any(&place.cluster, &place.namespace, &name).await?;
    let beside = match &arguments.from {
        _ if !arguments.example => None,
        Some(from) => Some(named(from, &arguments.models, place.settings.get(Key::TrackingServer)).await?),
        None => served(&service, arguments.canary.as_deref(), &arguments.models.stores).await?,
    };
    // The model stays the one that was named: it is only asked elsewhere.
    let service = service.asked(&place.cluster).await?;
    let protocol = match arguments.protocol {
        Some(Spoken::Grpc) if service.is_graph() => return Err(no_grpc(&name)),
        Some(spoken) => spoken.into(),
        None if service.is_graph() => Protocol::of_graph(&place.cluster, &service).await,
        None => Protocol::of(&service),
    };
    let options = arguments.reach.options(&place, arguments.canary);
    let endpoint = reach::find(&place.cluster, &service, protocol.way(), &options).await?;
    tell(&endpoint);
    let model = arguments.model.unwrap_or(name);
    let answered = async {
        let mut server = Server::connect(&endpoint, protocol, &model, &connection).await?;
        if service.is_graph() {
            server = server.of_graph();
        }
        // A request of its protocol stays as it is: nobody has to be asked what the model takes.
        let expected = if matches!(given, Some(Input::V2(_))) {
            None
        } else {
            server.expected().await?
        };
        let (input, expected) = match given {
            Some(input) => (input, expected),
            None => made(beside.as_ref(), expected, protocol)?,
        };
        if arguments.dry_run {
            let request = server.request(&input, expected.as_ref())?;
            print!("{}", document(&request, arguments.output.unwrap_or(Format::Json))?);
            return Ok(None);
        }
        let asked = std::time::Instant::now();
        let answer = server.ask(&input, expected.as_ref()).await?;
        Ok(Some((answer, asked.elapsed())))
    };
    let answered: Result<_, Failure> = answered.await;
    let answered = answered.map_err(|mut failure| {
        if let Some(complaint) = endpoint.complaint() {
            failure.message = format!("{}\n  the port forward says: {}", failure.message, clean(&complaint));
        }
        failure
    })?;
    if let Some((answer, took)) = answered {
        match arguments.output {
            Some(format) => print!("{}", document(&answer.body, format)?),
            None => print!("{}", shown(&answer)?),
        }
        eprintln!("{}", dim(&format!("{protocol}, {} ms", took.as_millis())));
    }
    Ok(Ending::Nothing)
}

fn no_grpc(name: &str) -> Failure {
    Failure {
        message: format!("{name} is a graph: its router speaks REST alone"),
        next: Some("leave --protocol out, or ask one of its services".to_owned()),
    }
}

/// The model that was named.
async fn named(from: &str, models: &ModelArguments, tracking: Option<&str>) -> Result<Beside, Failure> {
    let source: Source = from.parse().map_err(source::Error::from)?;
    let options = source::Options {
        tracking: models.tracking.tracking(tracking)?,
        proxied_root: models.tracking.artifacts_destination.clone(),
        stores: models.stores.access()?,
        ..source::Options::default()
    };
    let located = source::locate(&source, &options).await?;
    Ok(Beside {
        model: located.model,
        of: located.origin.asked,
    })
}

/// The service's own model, or its canary's. None where that can't be looked at from here, which is told: the server may say what the model takes.
async fn served(service: &Deployed, canary: Option<&str>, stores: &StoreArguments) -> Result<Option<Beside>, Failure> {
    let uri = match canary {
        Some(canary) => Canaries::of(service)
            .0
            .into_iter()
            .find(|one| one.name == canary)
            .and_then(|canary| canary.storage_uri),
        None => service.storage_uri(),
    };
    // A path that a storage key opens is none of this machine's.
    let source: Option<Source> = uri.and_then(|uri| uri.parse().ok());
    let Some(source @ Source::Store(uri)) = &source else {
        return Ok(None);
    };
    let access = stores.access()?;
    if !stores.opens(uri, &access)? {
        note(&unchecked(uri));
        return Ok(None);
    }
    let options = source::Options {
        stores: access,
        ..source::Options::default()
    };
    let why = match tokio::time::timeout(LOOK, source::locate(source, &options)).await {
        Ok(Ok(located)) => {
            return Ok(Some(Beside {
                model: located.model,
                of: located.origin.asked,
            }));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!(
            "no answer from the store of {} within {} s",
            source::without_token(uri.as_str()),
            LOOK.as_secs()
        ),
    };
    note(&format!("the model's own input example can't be looked for: {why}"));
    Ok(None)
}

/// An example and what the model takes, by its server's word, else by its files. Says whose it is.
fn made(
    beside: Option<&Beside>,
    said: Option<Expected>,
    protocol: Protocol,
) -> Result<(Input, Option<Expected>), Failure> {
    let model = beside.map(|beside| &beside.model);
    let Some(example) = example(model, said.as_ref()) else {
        return Err(no_example(protocol, beside));
    };
    let of = beside.filter(|_| example.by != By::Server);
    let of = of.map(|beside| format!(" ({})", beside.of)).unwrap_or_default();
    eprintln!("{}", dim(&clean(&format!("the input is {}{of}", example.by))));
    Ok((example.input, said.or_else(|| of_signature(model))))
}

fn no_example(protocol: Protocol, beside: Option<&Beside>) -> Failure {
    let message = match beside {
        Some(Beside { of, .. }) => {
            format!("{of} has no input example and no signature, and the server doesn't say what its model takes")
        }
        None => "the server doesn't say what its model takes".to_owned(),
    };
    let next = match (protocol, beside) {
        (_, None) => "name the model that it was deployed from by --from, such as models:/NAME@ALIAS, or give an input",
        (Protocol::V1, _) => "servers of the first protocol never do: give an input, or try --protocol v2",
        _ => "give an input: a model saved with a signature tells what it takes",
    };
    Failure {
        message,
        next: Some(next.to_owned()),
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| Failure {
        message: format!("can't read {}: {error}", file.display()),
        next: Some("name a file with JSON or CSV, a model's folder, or - for standard input".to_owned()),
    })
}

fn read(file: &Path, format: Option<Written>) -> Result<Input, Failure> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return of_text(&text, format.unwrap_or(Written::Json));
    }
    let file = if file.is_dir() { &example_in(file)? } else { file };
    let text = String::from_utf8(bytes(file)?).map_err(|_| Failure {
        message: format!("{} is no text", file.display()),
        next: Some("an input is JSON or CSV, in UTF-8".to_owned()),
    })?;
    let is_csv = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv"));
    let format = format.unwrap_or(if is_csv { Written::Csv } else { Written::Json });
    of_text(&text, format)
}

fn example_in(folder: &Path) -> Result<PathBuf, Failure> {
    let files = EXAMPLES.map(|name| folder.join(name));
    files.into_iter().find(|file| file.is_file()).ok_or_else(|| Failure {
        message: format!("{} has no input example", folder.display()),
        next: Some(
            "MLflow writes one where a model is logged with `input_example=`; --example makes one where there is none"
                .to_owned(),
        ),
    })
}

fn of_text(text: &str, format: Written) -> Result<Input, Failure> {
    Ok(match format {
        Written::Json => Input::of_text(text)?,
        Written::Csv => Input::of_csv(text)?,
    })
}

/// A table, a row for each thing that was asked about; the whole answer where it is none.
fn shown(answer: &Answer) -> Result<String, Failure> {
    let Some(columns) = answer.columns() else {
        return document(&answer.body, Format::Yaml);
    };
    let cell = |value: Option<&Value>| match value {
        None => String::new(),
        Some(Value::String(text)) => clean(text),
        Some(other) => other.to_string(),
    };
    let width = |(name, values): &(String, Vec<Value>)| {
        let longest = values.iter().map(|value| cell(Some(value)).chars().count()).max();
        longest.unwrap_or_default().max(name.chars().count())
    };
    let widths: Vec<usize> = columns.0.iter().map(width).collect();
    let line = |cells: Vec<String>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    let heading = line(columns.0.iter().map(|(name, _)| clean(name)).collect());
    let mut text = format!("{BOLD}{heading}{BOLD:#}\n");
    for row in 0..columns.rows() {
        text.push_str(&line(
            columns.0.iter().map(|(_, values)| cell(values.get(row))).collect(),
        ));
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_a_table() {
        let answer = Answer {
            body: json!({"outputs": [
                {"name": "label", "datatype": "BYTES", "shape": [2, 1], "data": ["good\u{1b}[31m", "bad"]},
                {"name": "score", "datatype": "FP64", "shape": [2], "data": [0.25, 0.75]}]}),
        };
        let text = anstream::adapter::strip_str(&shown(&answer).unwrap()).to_string();
        assert_eq!(text, "label       score\ngood [31m   0.25\nbad         0.75\n");
    }

    #[test]
    fn a_folder_stands_for_the_example_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let failure = read(folder.path(), None).unwrap_err();
        assert!(failure.message.contains("no input example"), "{failure:?}");
        fs::write(folder.path().join("input_example.json"), "[[1, 2]]").unwrap();
        assert!(matches!(read(folder.path(), None).unwrap(), Input::Content(_)));
        fs::write(
            folder.path().join("serving_input_example.json"),
            r#"{"inputs": [[1, 2]]}"#,
        )
        .unwrap();
        assert!(matches!(read(folder.path(), None).unwrap(), Input::V1 { .. }));
        let csv = folder.path().join("x.CSV");
        fs::write(&csv, "a,b\n1,2\n").unwrap();
        assert!(matches!(read(&csv, None).unwrap(), Input::Csv(_)));
    }

    fn service(predictor: &Value) -> Deployed {
        let object = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "fraud"}, "spec": {"predictor": predictor}});
        Deployed::from(serde_json::from_value::<DynamicObject>(object).unwrap())
    }

    #[tokio::test]
    async fn the_example_is_that_of_the_model_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "MLmodel",
            "flavors:\n  python_function: {loader_module: mlflow.xgboost}\n  xgboost: {data: model.ubj, xgb_version: 3.0.2}\n\
             saved_input_example_info: {artifact_path: input_example.json}\n\
             signature:\n  inputs: '[{\"type\": \"double\", \"name\": \"age\"}]'\n",
        );
        write("model.ubj", "{");
        let models = ModelArguments {
            tracking: TrackingArguments::default(),
            stores: StoreArguments::default(),
        };
        let from = folder.path().display().to_string();
        let input = async || {
            let beside = named(&from, &models, None).await.unwrap();
            let (input, expected) = made(Some(&beside), None, Protocol::V1).unwrap();
            predict::v1(&input, expected.as_ref()).unwrap()
        };
        assert_eq!(input().await, json!({"instances": [{"age": 1.0}]}));
        write("input_example.json", r#"{"columns": ["age"], "data": [[41.5]]}"#);
        assert_eq!(input().await, json!({"instances": [{"age": 41.5}]}));
        let failure = named("models:/fraud", &models, None).await.err().unwrap();
        assert!(failure.message.contains("which version"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_service_whose_model_can_not_be_looked_at_is_asked_itself() {
        let stores = StoreArguments::default();
        for model in [
            json!({"storageUri": "pvc://claim/model"}),
            json!({"storage": {"path": "models/fraud"}}),
            json!({"storage": {"key": "minio", "path": "models/fraud"}}),
            json!({}),
        ] {
            let beside = served(&service(&json!({"model": model})), None, &stores).await.unwrap();
            assert!(beside.is_none(), "{model}");
        }
        let failure = made(None, None, Protocol::V2).unwrap_err();
        assert!(failure.next.unwrap().contains("--from"));
        let none = Beside {
            model: Model::unseen(tidewaiter_deployer::model::Framework::Sklearn),
            of: "s3://m/1".to_owned(),
        };
        let failure = made(Some(&none), None, Protocol::V2).unwrap_err();
        assert!(
            failure
                .message
                .starts_with("s3://m/1 has no input example and no signature"),
            "{failure:?}"
        );
    }
}
