//! What a user writes for a model.
//!
//! MLflow's forms are those of `store/artifact/utils/models.py` and `mlflow_artifacts_repo.py` (read at 2.22 and 3.17).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tidewaiter_core::uri::{Scheme, StorageUri, UriError};

/// Where a model is to be found, in its user's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `models:/fraud/3`, `models:/fraud@champion`, `models:/fraud/latest`, `models:/fraud/Production`
    Registered {
        /// The registered model.
        name: String,
        /// Which version of it.
        which: Which,
    },
    /// `models:/m-…`: a model that a run of MLflow 3 logged.
    Logged {
        /// With its `m-`.
        id: String,
    },
    /// `runs:/RUN/model`
    Run {
        /// The run.
        id: String,
        /// The path below the run's artifacts; or a model's name, with MLflow 3.
        path: String,
    },
    /// `mlflow-artifacts:/path`: behind the tracking server's proxy.
    Proxied {
        /// Another host than the tracking server's, where the URI names one.
        host: Option<String>,
        /// Below the server's root.
        path: String,
    },
    /// A store that KServe reads: `s3://`, `gs://`, Azure, `hf://`, `pvc://`, `oci://`, `https://`.
    Store(StorageUri),
    /// A folder or a file of this machine.
    Local(PathBuf),
}

/// Which version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// This one.
    Version(u64),
    /// The highest there is.
    Latest,
    /// The one that an alias points to.
    Alias(String),
    /// The highest in a stage: MLflow before aliases.
    Stage(String),
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing, or only blanks.
    #[error("no model was named")]
    Empty,
    /// MLflow would not understand it.
    #[error("`{text}` names no model of MLflow: {reason}")]
    Mlflow {
        /// As it was written.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A path as Windows has it, on a machine that has no drives.
    #[error("`{text}` is a path of Windows, and this machine has no drive {drive}:")]
    Windows {
        /// As it was written.
        text: String,
        /// The drive's letter.
        drive: char,
    },
    /// KServe would not understand it.
    #[error(transparent)]
    Uri(#[from] UriError),
}

impl SourceError {
    /// What to write instead.
    pub fn next(&self) -> String {
        let next = match self {
            Self::Empty | Self::Uri(_) => {
                "write models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN/PATH, s3://BUCKET/PATH, or a folder"
            }
            Self::Windows { text, drive } => {
                let path = text[2..].replace('\\', "/");
                let path = path.trim_start_matches('/');
                return format!(
                    "write it as this machine has it: in WSL as /mnt/{}/{path}",
                    drive.to_ascii_lowercase()
                );
            }
            Self::Mlflow { text, .. } if text.starts_with("runs:") => "write runs:/RUN/PATH, such as runs:/4f0c…/model",
            Self::Mlflow { text, .. } if text.starts_with("mlflow-artifacts:") => {
                "write mlflow-artifacts:/PATH, such as mlflow-artifacts:/1/4f0c…/artifacts/model"
            }
            Self::Mlflow { .. } => {
                "write models:/NAME/VERSION, models:/NAME@ALIAS, models:/NAME/latest, or models:/m-ID"
            }
        };
        next.to_owned()
    }
}

impl Source {
    /// Whether a tracking server has to be asked.
    pub fn is_mlflow(&self) -> bool {
        !matches!(self, Self::Store(_) | Self::Local(_))
    }

    fn registered(text: &str, rest: &str) -> Result<Self, SourceError> {
        let wrong = |reason| SourceError::Mlflow {
            text: text.to_owned(),
            reason,
        };
        if rest.starts_with("//") {
            return Err(wrong("one slash comes after the colon"));
        }
        let rest = rest.trim_start_matches('/').trim_end_matches('/');
        let segments: Vec<_> = rest.split('/').collect();
        match segments.as_slice() {
            ["" | "@"] => Err(wrong("the name is missing")),
            [name, which] if !name.is_empty() && !which.is_empty() => {
                let which = if which.bytes().all(|byte| byte.is_ascii_digit()) {
                    let version = which.parse().map_err(|_| wrong("no model has so many versions"))?;
                    Which::Version(version)
                } else if which.eq_ignore_ascii_case("latest") {
                    Which::Latest
                } else {
                    Which::Stage((*which).to_owned())
                };
                Ok(Self::Registered {
                    name: (*name).to_owned(),
                    which,
                })
            }
            [only] => match only.rsplit_once('@') {
                Some(("", _)) => Err(wrong("the name is missing")),
                Some((_, "")) => Err(wrong("the alias is missing")),
                Some((name, alias)) => Ok(Self::Registered {
                    name: name.to_owned(),
                    which: Which::Alias(alias.to_owned()),
                }),
                None if only.starts_with("m-") => Ok(Self::Logged { id: (*only).to_owned() }),
                None => Err(wrong("it doesn't say which version")),
            },
            _ => Err(wrong("a name and a version are meant, and nothing more")),
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        let wrong = |reason| SourceError::Mlflow {
            text: text.to_owned(),
            reason,
        };
        let Some((scheme, rest)) = text.split_once(':') else {
            return Ok(Self::Local(text.into()));
        };
        // No scheme has one letter; a drive has.
        if let (Ok([drive]), true) = (<[u8; 1]>::try_from(scheme.as_bytes()), rest.starts_with(['\\', '/']))
            && drive.is_ascii_alphabetic()
        {
            if cfg!(windows) {
                return Ok(Self::Local(text.into()));
            }
            return Err(SourceError::Windows {
                text: text.to_owned(),
                drive: char::from(drive),
            });
        }
        match scheme {
            "models" => Self::registered(text, rest),
            "runs" => {
                if rest.starts_with("//") {
                    return Err(wrong("one slash comes after the colon"));
                }
                let rest = rest.trim_start_matches('/').trim_end_matches('/');
                let (id, path) = rest.split_once('/').unwrap_or((rest, ""));
                if id.is_empty() {
                    return Err(wrong("the run is missing"));
                }
                if path.is_empty() {
                    return Err(wrong("the path below the run is missing"));
                }
                Ok(Self::Run {
                    id: id.to_owned(),
                    path: path.to_owned(),
                })
            }
            "mlflow-artifacts" => {
                let (host, path) = match rest.strip_prefix("//") {
                    Some(rest) => {
                        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                        if host.contains('@') {
                            return Err(wrong("it has a user or password in it"));
                        }
                        ((!host.is_empty()).then(|| host.to_owned()), path)
                    }
                    None => (None, rest),
                };
                let path = path.trim_matches('/');
                if path.is_empty() || path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
                    return Err(wrong("the path is missing, or goes up"));
                }
                Ok(Self::Proxied {
                    host,
                    path: path.to_owned(),
                })
            }
            // A path may have a colon in a later segment.
            _ if scheme.contains('/') || scheme.contains('.') => Ok(Self::Local(text.into())),
            "file" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                Ok(Self::Local(path.into()))
            }
            _ => {
                let uri = StorageUri::parse(text)?;
                match uri.scheme() {
                    Scheme::File => Ok(Self::Local(text.into())),
                    _ => Ok(Self::Store(uri)),
                }
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { name, which } => match which {
                Which::Version(version) => write!(f, "models:/{name}/{version}"),
                Which::Latest => write!(f, "models:/{name}/latest"),
                Which::Alias(alias) => write!(f, "models:/{name}@{alias}"),
                Which::Stage(stage) => write!(f, "models:/{name}/{stage}"),
            },
            Self::Logged { id } => write!(f, "models:/{id}"),
            Self::Run { id, path } => write!(f, "runs:/{id}/{path}"),
            Self::Proxied { host: None, path } => write!(f, "mlflow-artifacts:/{path}"),
            Self::Proxied { host: Some(host), path } => write!(f, "mlflow-artifacts://{host}/{path}"),
            Self::Store(uri) => write!(f, "{uri}"),
            Self::Local(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Source {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        let error = text.parse::<Source>().expect_err(text);
        format!("{error}; {}", error.next())
    }

    #[test]
    fn mlflows_forms_are_told_apart() {
        let registered = |which| Source::Registered {
            name: "fraud".into(),
            which,
        };
        assert_eq!(parse("models:/fraud/3"), registered(Which::Version(3)));
        assert_eq!(parse("models:/fraud/Latest"), registered(Which::Latest));
        assert_eq!(
            parse("models:/fraud@champion"),
            registered(Which::Alias("champion".into()))
        );
        assert_eq!(
            parse("models:/fraud/Production"),
            registered(Which::Stage("Production".into()))
        );
        assert_eq!(parse("models:/m-1f"), Source::Logged { id: "m-1f".into() });
        let run = Source::Run {
            id: "4f".into(),
            path: "a/model".into(),
        };
        assert_eq!(parse("runs:/4f/a/model/"), run);
        let proxied = |host: Option<&str>| Source::Proxied {
            host: host.map(str::to_owned),
            path: "1/2/artifacts".into(),
        };
        assert_eq!(parse("mlflow-artifacts:/1/2/artifacts"), proxied(None));
        assert_eq!(
            parse("mlflow-artifacts://h:5000/1/2/artifacts"),
            proxied(Some("h:5000"))
        );
    }

    #[test]
    fn stores_and_folders_are_told_apart() {
        assert!(matches!(parse("s3://bucket/path"), Source::Store(_)));
        assert!(matches!(parse("hf://owner/model"), Source::Store(_)));
        for path in [
            "model",
            "./model:3",
            "/srv/model",
            "../m",
            "file:///srv/model",
            "model.onnx",
        ] {
            assert!(matches!(parse(path), Source::Local(_)), "{path}");
        }
        assert_eq!(parse("file:///srv/model"), Source::Local("/srv/model".into()));
    }

    #[test]
    fn what_is_no_source_says_what_to_write() {
        assert!(refused("models:/fraud").contains("which version; write models:/NAME/VERSION"));
        assert!(refused("models:/@champion").contains("the name is missing"));
        assert!(refused("models:/fraud@").contains("the alias is missing"));
        assert!(refused("models:/fraud/3/model").contains("nothing more"));
        assert!(refused("models://fraud/3").contains("one slash"));
        assert!(refused("runs:/4f").contains("path below the run is missing; write runs:/RUN/PATH"));
        assert!(refused("mlflow-artifacts:/a/../b").contains("goes up"));
        assert!(refused("s3a://bucket/path").contains("write s3://bucket/path"));
        assert!(refused("").contains("no model was named"));
        for path in [r"C:\models\fraud", "C:/models/fraud"] {
            assert_eq!(
                refused(path),
                format!(
                    "`{path}` is a path of Windows, and this machine has no drive C:; write it as this machine has it: in WSL as /mnt/c/models/fraud"
                )
            );
        }
        assert!(!refused("https://me:hidden@host/model").contains("hidden"));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same(text in "(models:/|runs:/|mlflow-artifacts:/|s3://|)[a-zA-Z0-9@/.:-]{0,20}") {
            if let Ok(source) = text.parse::<Source>() {
                let shown = source.to_string();
                prop_assert_eq!(shown.parse::<Source>().ok(), Some(source));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Source>();
        }
    }
}
