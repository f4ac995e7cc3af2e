//! `tidewaiter predict`.
#![allow(clippy::doc_markdown, reason = "these docs are what --help prints")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstream::{eprintln, print};
use clap::{Args, ValueEnum};
use serde_json::Value;
use tidewaiter_deployer::live::Deployed;
use tidewaiter_deployer::predict::{self, Answer, Connection, Header, Input, InputError, Protocol, Server};
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::reach;

use super::arguments::Format;
use super::output::{dim, document};
use super::place::{ServiceArguments, duration};
use super::reaching::{ReachArguments, tell};
use super::table::clean;
use super::{BOLD, Ending, Failure};

/// Inputs that a model's author left beside it, the best first.
const EXAMPLES: [&str; 2] = ["serving_input_example.json", "input_example.json"];

/// Have a model answer.
///
/// The input is JSON (a list of rows or records, a request of either protocol, a data frame as pandas or MLflow write one), or CSV whose first line names the
/// columns; a model's folder stands for the input example in it. What the server says of its model gives names and types. By default it is asked by the protocol
/// that the service says it speaks, through the ingress where that is reached, else through a forwarded port.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it answered, 2 an error.

Examples:
  tidewaiter predict fraud --data '[[0.1, 0.2, 0.3, 0.4]]'
  tidewaiter predict fraud people.csv
  tidewaiter predict fraud ./model                    the input example in the model's folder
  tidewaiter predict fraud --example                  something that the model takes
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
    /// Send something that the model takes, by its server's word
    #[arg(long, conflicts_with_all = ["input", "data"])]
    example: bool,
    /// How the input is written; by default as its name ends
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Written>,
    /// The protocol, in place of the service's own
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    protocol: Option<Spoken>,
    /// What the server calls the model; by default the service's name, as KServe has it
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
    let more = [(Key::BaseUrl, arguments.reach.base_url.as_ref())];
    let place = arguments.service.place.open(&more).await?;
    let name = arguments.service.name;
    let service = Deployed::read(&place.cluster, &place.namespace, &name).await?;
    let protocol = arguments
        .protocol
        .map_or_else(|| Protocol::of(&service), Protocol::from);
    let options = arguments.reach.options(&place, arguments.canary);
    let endpoint = reach::find(&place.cluster, &service, protocol.way(), &options).await?;
    tell(&endpoint);
    let model = arguments.model.unwrap_or(name);
    let answered = async {
        let mut server = Server::connect(&endpoint, protocol, &model, &connection).await?;
        // A request of its protocol stays as it is: nobody has to be asked what the model takes.
        let expected = if matches!(given, Some(Input::V2(_))) {
            None
        } else {
            server.expected().await?
        };
        let input = match (given, &expected) {
            (Some(input), _) => input,
            (None, Some(expected)) => expected.example(),
            (None, None) => return Err(no_example(protocol)),
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

fn no_example(protocol: Protocol) -> Failure {
    let next = match protocol {
        Protocol::V1 => "servers of the first protocol never do: give an input, or try --protocol v2",
        _ => "give an input: a model saved with a signature tells what it takes",
    };
    Failure {
        message: "the server doesn't say what its model takes".to_owned(),
        next: Some(next.to_owned()),
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| Failure {
        message: format!("can't read {}: {error}", file.display()),
        next: None,
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
            "MLflow writes one where a model is logged with `input_example=`; --example asks the server".to_owned(),
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
        assert!(matches!(read(&csv, None).unwrap(), Input::Content(_)));
    }
}
