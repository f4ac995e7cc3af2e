//! What can go wrong between a question and its answer, each with what to do about it.

use super::datatype::Datatype;

/// Why an input can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// No JSON.
    #[error("the input is no JSON: {0}")]
    Json(String),
    /// No CSV.
    #[error("the input is no CSV: {0}")]
    Csv(String),
    /// JSON, but nothing that a model takes.
    #[error("the input is {0}, and no question to a model")]
    Unknown(&'static str),
    /// Objects beside other things in one list.
    #[error("the input is a list of objects and of other things")]
    Mixed,
    /// A data frame that isn't whole.
    #[error("the input's data frame (columns, data) is not whole: {0}")]
    Split(String),
    /// Lists beside each other differ in length.
    #[error("{name} is no tensor: lists beside each other differ in length")]
    Ragged {
        /// Which input.
        name: String,
    },
    /// A tensor of a request is none.
    #[error("tensor {name}: {what}")]
    Tensor {
        /// Which one.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A value of another type than the model takes.
    #[error("{name} takes {datatype}, and {value} is none")]
    Element {
        /// Which input.
        name: String,
        /// What it takes.
        datatype: Datatype,
        /// The value, as JSON.
        value: String,
    },
    /// What the model needs isn't there.
    #[error("the model also takes {}, which the input has not", missing.join(", "))]
    Missing {
        /// Their names.
        missing: Vec<String>,
    },
    /// Rows of another width.
    #[error("the model takes {wanted} values a row ({}), and row {row} has {found}", names.join(", "))]
    Width {
        /// How many it takes.
        wanted: usize,
        /// Their names.
        names: Vec<String>,
        /// The first such row, from 0.
        row: usize,
        /// How many it has.
        found: usize,
    },
}

impl InputError {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Json(_) => "CSV is read from files that end with .csv, or with --format csv".to_owned(),
            Self::Csv(_) => "its first line names the columns, and every other one has as many values".to_owned(),
            Self::Missing { .. } | Self::Width { .. } | Self::Element { .. } => {
                "`tidewaiter predict --example --dry-run` shows a request that the model takes".to_owned()
            }
            _ => "write a list of rows or of records, {\"instances\": […]}, or {\"inputs\": [{name, shape, datatype, data}]}"
                .to_owned(),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input can't be sent.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The protocol has no such server there.
    #[error("{url} can't be reached: {reason}")]
    Unreachable {
        /// Where it was asked.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The server's certificate isn't trusted, or isn't its own.
    #[error("{url} has no certificate to trust: {reason}")]
    Certificate {
        /// Where it was asked.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer from {url} within {seconds} s")]
    Timeout {
        /// Where it was asked.
        url: String,
        /// How long it had.
        seconds: u64,
    },
    /// Who answers has no such model.
    #[error("the server has no model `{model}`{}", said(words))]
    NoModel {
        /// The model's name there.
        model: String,
        /// The server's words.
        words: String,
    },
    /// What answers is no model server, or doesn't speak this protocol.
    #[error("{url} is not there{}", said(words))]
    NoRoute {
        /// What was asked for.
        url: String,
        /// Its words.
        words: String,
    },
    /// The model isn't loaded, or the server is overloaded.
    #[error("the model isn't ready{}", said(words))]
    NotReady {
        /// The server's words.
        words: String,
    },
    /// The server doesn't like the question.
    #[error("the server refuses the input: {words}")]
    Refused {
        /// The server's words.
        words: String,
    },
    /// Somebody before the server wants to know who asks.
    #[error("{url} wants to know who asks{}", said(words))]
    NotAllowed {
        /// What was asked for.
        url: String,
        /// Its words, or where it sends to.
        words: String,
    },
    /// The server failed.
    #[error("the server failed ({code}): {words}")]
    Failed {
        /// HTTP's code, or gRPC's.
        code: String,
        /// The server's words.
        words: String,
    },
    /// The answer is none.
    #[error("the server's answer is not understood: {0}")]
    Answer(String),
    /// A file with certificates can't be used.
    #[error("the certificates can't be used: {0}")]
    Authority(String),
    /// A header can't be sent.
    #[error("`{name}` can't be sent as a header: {reason}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it. Its value may be a secret.
        reason: &'static str,
    },
}

fn said(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    }
}

impl Error {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Input(error) => return error.next(),
            Self::Unreachable { .. } => "is the address right? --via port-forward goes around every ingress",
            Self::Certificate { .. } => "name the authority that signed it with --ca FILE",
            Self::Timeout { .. } => "give it longer with --timeout; `tidewaiter logs` says what it does",
            Self::NoModel { .. } => "KServe calls a model by its service's name; name another one with --model",
            Self::NoRoute { .. } => {
                "does the service speak this protocol (--protocol v1, v2 or grpc), and is the address that of its ingress?"
            }
            Self::NotReady { .. } => "`tidewaiter status` says what it waits for",
            Self::Refused { .. } => "`--example --dry-run` shows a request that the model takes; `tidewaiter logs` says more",
            Self::NotAllowed { .. } => "send a token with --header 'Authorization: Bearer …', or take --via port-forward",
            Self::Failed { .. } => "`tidewaiter logs` says why",
            Self::Answer(_) => "is it a model server that answers there? `tidewaiter url` says which way is taken",
            Self::Authority(_) => "it has to hold certificates as PEM",
            Self::Header { .. } => "write it as 'Name: value', in ASCII",
        }
        .to_owned()
    }
}
