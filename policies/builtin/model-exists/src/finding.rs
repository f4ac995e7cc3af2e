//! What is wrong, in words: a refusal says what happened, to what, and what to do; a warning is one line.

use tidewaiter_policy::core::lines::cut;
use tidewaiter_policy::core::service::Component;
use tidewaiter_policy::storage::Served;
use tidewaiter_policy::{Mode, Verdict};

use crate::around::{Beginning, look_around};
use crate::look::{Look, look};
use crate::place::{Kind, Place};
use crate::{ALLOW_MISSING_MODEL, Settings, Silence};

/// Characters of a URI in a refusal: what to do stands behind it.
const URI: usize = 300;
/// Characters of a backend's name in a warning.
const NAME: usize = 20;
/// Characters of a URI in a warning.
const SHORT: usize = 70;

/// Which of the settings it falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Missing,
    Incomplete,
    Unsupported,
    Forbidden,
    Unreachable,
}

/// What is wrong with one model's URI.
pub(crate) struct Finding {
    what: What,
    code: &'static str,
    /// Whether KServe certainly fails to load it. Only then is it a reason to refuse.
    pub(crate) certain: bool,
    /// What happened, to which part, and what to do.
    message: String,
    /// The same in a line.
    line: String,
}

impl Finding {
    pub(crate) fn unsupported(component: &str, reason: &str) -> Self {
        Self {
            what: What::Unsupported,
            code: "unsupported-uri",
            certain: true,
            message: format!("{component}: {reason}"),
            line: format!("{component}: {reason}"),
        }
    }

    /// A container of Azure's without the slash behind its name; with it is what to write.
    pub(crate) fn no_slash(component: &str, with_slash: &str) -> Self {
        let uri = cut(with_slash.trim_end_matches('/'), URI);
        Self {
            what: What::Unsupported,
            code: "unsupported-uri",
            certain: true,
            message: format!(
                "{component}: KServe can't load {uri}, since no slash stands behind the container's name. Write {} for all that is in it, or name a folder",
                cut(with_slash, URI)
            ),
            line: format!(
                "{component}: a container's URI ends with a slash: {}",
                cut(with_slash, SHORT)
            ),
        }
    }

    fn whole_bucket(name: &str, root: &str, example: Option<String>, certain: bool) -> Self {
        let what_to_do = match example {
            Some(example) => format!(
                "Write which folder or file in it is the model, such as {}",
                cut(&example, URI)
            ),
            None => "Upload the model into a folder of it, and write that".to_owned(),
        };
        Self {
            what: What::Unsupported,
            code: "unsupported-uri",
            certain,
            message: format!(
                "{name}: KServe can't load all of a bucket of Google Cloud Storage, and {} names nothing in it. {what_to_do}",
                cut(root, URI)
            ),
            line: format!(
                "{name}: KServe can't load all of a bucket; write what is the model in {}",
                cut(root, 40)
            ),
        }
    }

    /// Whether it depends on what is in the store.
    pub(crate) fn is_of_the_store(&self) -> bool {
        self.what != What::Unsupported
    }

    /// What a look finds to say of a place.
    pub(crate) fn of(name: &str, place: &Place<'_>, served: &Served, component: &Component<'_>) -> Option<Self> {
        let uri = cut(&place.uri, URI);
        let short = cut(&place.uri, SHORT);
        let backend = &served.backend;
        let missing = |code, certain, message: String, line: String| {
            Some(Self {
                what: What::Missing,
                code,
                certain,
                message,
                line,
            })
        };
        match look(place) {
            Look::There if place.kind == Kind::Web => incomplete(name, place, component),
            Look::There => None,
            Look::File => incomplete(name, place, component),
            Look::Nothing => Some(nothing(name, place, served)),
            Look::FileWithSlash => missing(
                "model-missing",
                true,
                format!(
                    "{name}: {uri} is a file, and with a slash behind its name KServe looks for a folder and finds no model. Write {uri}"
                ),
                format!("{name}: a file's URI ends without a slash: {short}"),
            ),
            Look::Empty => missing(
                "model-empty",
                component
                    .implementation
                    .as_ref()
                    .is_none_or(|at| at.field != "containers"),
                format!(
                    "{name}: all files at {uri} in StorageBackend {backend} are empty, and KServe leaves empty files out. Upload the model again"
                ),
                format!("{name}: all files are empty: {short}"),
            ),
            Look::EmptyFolders => Some(empty_folder(name, place, served)),
            Look::NoRoot => {
                let root = cut(place.root(), URI);
                let what = match place.kind {
                    Kind::Azure => "container",
                    Kind::Hub => "model, or no such revision of it,",
                    Kind::S3 | Kind::Gcs | Kind::Web => "bucket",
                };
                missing(
                    "bucket-missing",
                    true,
                    format!(
                        "{name}: StorageBackend {backend} has no {what} {root}. Correct the URI, or make what it names before the service.{}",
                        later()
                    ),
                    format!(
                        "{name}: StorageBackend {backend} has no {what} {}",
                        cut(place.root(), SHORT)
                    ),
                )
            }
            Look::Doubled { meant, certain } => missing(
                "double-slash",
                certain,
                format!(
                    "{name}: in the URI two slashes stand in a row, KServe takes them for a folder without a name, and there is none. Write {}",
                    cut(&meant, URI)
                ),
                format!(
                    "{name}: KServe takes both slashes of `//`; write {}",
                    cut(&meant, SHORT)
                ),
            ),
            Look::WholeBucket { example, certain } => Some(Self::whole_bucket(name, place.root(), example, certain)),
            Look::NoFile => missing(
                "no-file",
                true,
                format!(
                    "{name}: KServe downloads one file from a web server, and {uri} ends with a slash or names none. Write the file's own address, such as \
                     that of a .zip or .tar.gz with the model in it"
                ),
                format!("{name}: names no file on the web server: {short}"),
            ),
            Look::Forbidden(reason) => Some(Self {
                what: What::Forbidden,
                code: "store-forbids",
                certain: !served.anonymous,
                message: format!(
                    "{name}: StorageBackend {backend} may not look at {uri}: {}. Ask its admin to mend that",
                    cut(&reason, URI)
                ),
                line: format!("{name}: model not looked for: {reason}"),
            }),
            Look::Unreachable(reason) => Some(Self {
                what: What::Unreachable,
                code: "store-unreachable",
                certain: false,
                message: String::new(),
                line: format!("{name}: model not looked for: {reason}"),
            }),
        }
    }

    /// Seen with the backend's credentials, where KServe uses others.
    pub(crate) fn by_other_credentials(self, component: &str, backend: &str) -> Self {
        Self {
            certain: false,
            line: format!(
                "{component}: StorageBackend {} shows no model at the URI; its own credentials may open another store",
                cut(backend, NAME)
            ),
            ..self
        }
    }

    /// Adds it to the verdict, as the settings say.
    pub(crate) fn say(self, pointer: &str, settings: Settings, comes_later: bool, verdict: Verdict) -> Verdict {
        let mode = match self.what {
            What::Missing if comes_later && settings.missing == Mode::Deny => Mode::Warn,
            What::Missing => settings.missing,
            What::Incomplete => settings.incomplete,
            What::Unsupported => settings.unsupported,
            What::Forbidden => settings.forbidden,
            What::Unreachable if settings.unreachable == Silence::Off => Mode::Off,
            What::Unreachable => Mode::Warn,
        };
        let mode = if mode == Mode::Deny && !self.certain {
            Mode::Warn
        } else {
            mode
        };
        verdict.find(mode, self.code, self.message, &self.line, pointer)
    }
}

/// Nothing is there: what is near, and whether KServe finds something all the same.
fn nothing(name: &str, place: &Place<'_>, served: &Served) -> Finding {
    let uri = cut(&place.uri, URI);
    if place.kind == Kind::Web {
        return Finding {
            what: What::Missing,
            code: "model-missing",
            certain: true,
            message: format!(
                "{name}: nothing is at {uri}: the web server answers 404. Correct the URI.{}",
                later()
            ),
            line: format!("{name}: the web server answers 404: {}", cut(&place.uri, SHORT)),
        };
    }
    let around = look_around(place);
    let certain = !place.takes_what_begins_so() || around.beginning == Beginning::Nothing;
    if around.is_folder && certain {
        return empty_folder(name, place, served);
    }
    let what_to_do = match (&around.meant, &around.names) {
        (Some(meant), _) => format!("Did you mean {}?", cut(meant, URI)),
        (None, Some((folder, names))) => {
            format!(
                "In {} there is {}. Correct the URI.",
                cut(folder, URI),
                names.join(", ")
            )
        }
        (None, None) => "Correct the URI, or upload the model before the service.".to_owned(),
    };
    let line = match (&around.beginning, &around.meant) {
        (Beginning::Something(other), _) if !certain => {
            format!(
                "{name}: nothing is at {}, but KServe takes {other} for it",
                cut(&place.uri, 50)
            )
        }
        (_, Some(meant)) => format!(
            "{name}: nothing is at the model's URI; did you mean {}?",
            cut(meant, SHORT)
        ),
        _ => format!("{name}: nothing is at {}", cut(&place.uri, SHORT)),
    };
    Finding {
        what: What::Missing,
        code: "model-missing",
        certain,
        message: format!(
            "{name}: nothing is at {uri} in StorageBackend {}, and KServe would find no model. {what_to_do}{}",
            served.backend,
            later()
        ),
        line,
    }
}

/// The folder is there, since something marks it, and no model is in it.
fn empty_folder(name: &str, place: &Place<'_>, served: &Served) -> Finding {
    Finding {
        what: What::Missing,
        code: "model-empty",
        certain: true,
        message: format!(
            "{name}: no file is in the folder {} in StorageBackend {}, and KServe would find no model. Correct the URI, or upload the model before the service.{}",
            cut(&place.uri, URI),
            served.backend,
            later()
        ),
        line: format!("{name}: no file is in the folder {}", cut(&place.uri, SHORT)),
    }
}

/// What to do where it isn't a slip.
fn later() -> String {
    format!(" If the model comes later, set the annotation {ALLOW_MISSING_MODEL}: \"true\"")
}

/// A file where its server wants a folder: an MLflow model is what lies beside its `MLmodel`, unless it is packed.
fn incomplete(name: &str, place: &Place<'_>, component: &Component<'_>) -> Option<Finding> {
    let format = component.implementation.as_ref().and_then(|at| at.format.as_ref());
    let is_mlflow = component.is_predictor() && format.is_some_and(|format| format.name == "mlflow");
    let names: Vec<&str> = place.names().collect();
    let (file, way) = names.split_last()?;
    let is_described = *file == "MLmodel";
    if place.is_archive() || !(is_described || is_mlflow) {
        return None;
    }
    let folder = match place.kind {
        Kind::Web => "the address of a .zip or .tar.gz with all of it".to_owned(),
        _ => cut(&place.at(way), URI),
    };
    Some(Finding {
        what: What::Incomplete,
        code: "file-for-folder",
        certain: true,
        message: format!(
            "{name}: {} is one file, and an MLflow model is the folder that its MLmodel lies in: KServe would download the file alone. Write {folder}",
            cut(&place.uri, URI)
        ),
        line: format!(
            "{name}: an MLflow model is a folder, not one file; write {}",
            cut(&folder, 60)
        ),
    })
}
