//! Which library saved the model: from the `MLmodel` beside it, else from the model file itself.

use tidewaiter_policy::{
    core::{
        fit::Form,
        lines::cut,
        mlmodel::{MlModel, MlModelError},
        requirements::Requirements,
        sniff::{self, BaseScore, Sniffed},
        version::Version,
    },
    storage::{self, Error, Resolution},
};

/// As much of a text file as is read.
const TEXT_LIMIT: u32 = 1 << 20;
/// Files that are looked through for the model.
const LIST_LIMIT: u32 = 100;

/// Formats whose servers have rules to judge by.
const FORMATS: [&str; 5] = ["mlflow", "sklearn", "xgboost", "lightgbm", "tensorflow"];

/// Characters of a file's name in a warning, which has to fit its line.
const NAME: usize = 30;
/// What KServe's initializer unpacks where nothing lies beside it (`python/storage/kserve_storage` of KServe 0.20).
const ARCHIVES: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".zip"];

/// What MLflow lists because it was imported where the model was saved, and no model is loaded with.
const TOOLS: [&str; 5] = ["pip", "pytest", "python", "setuptools", "wheel"];
/// The environment of a model, packed beside it (conda-pack): MLServer unpacks it, and the packages in it stand in for the image's.
const ENVIRONMENT: &str = "environment.tar.gz";

/// Whether the model brings its own packages, or may: of a store that doesn't answer nobody knows, and a model isn't refused for that. Where a key may not list,
/// S3 says of what isn't there that it is forbidden.
pub(crate) fn brings_environment(uri: &str) -> bool {
    match storage::stat(&format!("{uri}/{ENVIRONMENT}")) {
        Ok(_) | Err(Error::Unreachable(_)) => true,
        Err(_) => false,
    }
}

/// What decides who can load the model.
#[derive(Debug)]
pub(crate) struct Facts {
    /// As on `PyPI`.
    pub(crate) package: &'static str,
    pub(crate) version: Version,
    pub(crate) form: Form,
    pub(crate) python: Option<Version>,
    pub(crate) numpy: Option<Version>,
    /// Of the pickle that it is in.
    pub(crate) protocol: Option<u8>,
    /// The server loads it through MLflow.
    pub(crate) by_mlflow: bool,
    /// The MLflow that logged it.
    pub(crate) mlflow: Option<Version>,
    /// Packages that it asks for, named as PyPI normalises them.
    pub(crate) needs: Vec<String>,
    /// The model's file, relative to the URI; empty for the URI itself.
    pub(crate) file: Option<String>,
}

/// Why there is nothing to judge a runtime by.
#[derive(Debug)]
pub(crate) enum Unjudged {
    /// Nothing for the user to do: a line of the log.
    Logged(String),
    /// A warning for the user.
    Warned(String),
}

/// What a look into the store found.
pub(crate) type Look = Result<Facts, Unjudged>;

fn logged<T>(why: impl Into<String>) -> Result<T, Unjudged> {
    Err(Unjudged::Logged(why.into()))
}

fn warned<T>(line: impl Into<String>) -> Result<T, Unjudged> {
    Err(Unjudged::Warned(line.into()))
}

/// Reads what there is about the model of this format at a URI.
pub(crate) fn look(format: &str, uri: &str) -> Look {
    if !FORMATS.contains(&format) {
        return logged("there are no rules for models of this format; the runtime is not checked");
    }
    match storage::read(&format!("{uri}/MLmodel"), 0, TEXT_LIMIT) {
        Ok(bytes) => described(format, uri, &bytes),
        Err(Error::NotFound) if format == "mlflow" => without_mlmodel(uri),
        Err(Error::NotFound) if format == "tensorflow" => logged(format!(
            "no MLmodel at {uri}, and a SavedModel isn't looked into; the runtime is not checked"
        )),
        Err(Error::NotFound) => undescribed(format, uri),
        Err(error) => failed(uri, error),
    }
}

/// Of a model that MLflow is to load.
fn without_mlmodel(uri: &str) -> Look {
    if is_archive(last_name(uri)) {
        return unpacked(last_name(uri));
    }
    // The commonest slip: the run's folder of artifacts in place of the model in it.
    let listing = storage::list_objects(uri, LIST_LIMIT).ok();
    let mut objects = listing.iter().flat_map(|listing| &listing.objects);
    let deeper = objects.find_map(|object| object.path.strip_suffix("/MLmodel"));
    warned(match deeper {
        Some(folder) => format!(
            "a server for mlflow will find no model: its MLmodel is in {0}; add /{0} to the URI",
            cut(folder, NAME)
        ),
        None => format!("a server for mlflow will find no model: no MLmodel at {uri}"),
    })
}

fn is_archive(name: &str) -> bool {
    ARCHIVES.iter().any(|ending| name.ends_with(ending))
}

fn unpacked(archive: &str) -> Look {
    logged(format!(
        "{archive} is unpacked before it is served, and isn't looked into; the runtime is not checked"
    ))
}

fn failed(uri: &str, error: Error) -> Look {
    match error {
        Error::Unserved(reason) => match storage::resolve(uri) {
            Resolution::Served(_) | Resolution::OwnSecret(_) | Resolution::NotGranted(_) | Resolution::Unusable(_) => {
                warned(format!("runtime not checked: {reason}"))
            }
            // Said, where it matters, by the policy that sees to credentials.
            Resolution::Unserved | Resolution::NoCredentials | Resolution::Unsupported(_) => {
                logged(format!("runtime not checked: {reason}"))
            }
        },
        Error::NotFound => warned(format!("runtime not checked: nothing is at {uri}")),
        // The reasons name the store; the URI is the user's own.
        Error::Forbidden(reason) | Error::Unreachable(reason) => warned(format!("runtime not checked: {reason}")),
        Error::TooLarge(size) => warned(format!("runtime not checked: {size} bytes are too many: {uri}")),
    }
}

/// By the `MLmodel` file.
fn described(format: &str, uri: &str, bytes: &[u8]) -> Look {
    let unreadable = |reason: &str| warned(format!("runtime not checked: the MLmodel: {reason}"));
    let Ok(text) = std::str::from_utf8(bytes) else {
        return unreadable("not a text");
    };
    let mlmodel = match MlModel::parse(text) {
        Ok(mlmodel) => mlmodel,
        // The error's own words already name the file.
        Err(MlModelError::Yaml(error)) => return unreadable(&error.to_string()),
        Err(MlModelError::NoFlavors) => return unreadable("it has no `flavors`"),
    };
    let flavor = if format == "mlflow" {
        mlmodel.loaded()
    } else {
        mlmodel.flavor(format)
    };
    let Some((flavor, package)) = flavor.and_then(|flavor| Some((flavor, flavor.package?))) else {
        return logged(format!(
            "the MLmodel at {uri} names no library for {format} that there are rules for; the runtime is not checked"
        ));
    };

    let form = flavor.form();
    let python = mlmodel.python_version.as_deref();
    let version = flavor.version.as_deref().and_then(Version::parse);
    // numpy matters where it is part of what was pickled.
    let pickled = matches!(form, Form::Pickle | Form::Cloudpickle);
    let by_mlflow = format == "mlflow";
    let requirements = if by_mlflow || pickled || version.is_none() {
        requirements(uri, python)
    } else {
        Requirements::default()
    };
    let Some(version) = version.or_else(|| requirements.version(package).cloned()) else {
        return logged(format!(
            "neither the MLmodel at {uri} nor the requirements beside it say which {package} saved the model; the runtime is not checked"
        ));
    };
    let mut needs: Vec<String> = Vec::new();
    if by_mlflow {
        let named = requirements.packages.iter().map(|package| package.name.clone());
        needs.extend(named.filter(|name| !TOOLS.contains(&name.as_str())));
        if form == Form::Skops && !needs.iter().any(|name| name == "skops") {
            needs.push("skops".to_owned());
        }
    }
    Ok(Facts {
        package,
        version,
        form,
        protocol: None,
        mlflow: mlmodel.mlflow_version.as_deref().and_then(Version::parse),
        needs,
        python: python.or(requirements.python.as_deref()).and_then(Version::parse),
        numpy: requirements.version("numpy").cloned(),
        by_mlflow,
        file: flavor.data.clone(),
    })
}

/// From `requirements.txt`, else `conda.yaml`. A model without them is judged by its `MLmodel` alone.
fn requirements(uri: &str, python: Option<&str>) -> Requirements {
    let read = |name: &str| {
        storage::read(&format!("{uri}/{name}"), 0, TEXT_LIMIT)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
    };
    if let Some(text) = read("requirements.txt") {
        return Requirements::from_text(&text, python);
    }
    read("conda.yaml")
        .and_then(|text| Requirements::from_conda(&text).ok())
        .unwrap_or_default()
}

/// By the model file itself.
fn undescribed(format: &str, uri: &str) -> Look {
    let listing = match storage::list_objects(uri, LIST_LIMIT) {
        Ok(listing) => listing,
        Err(error) => return failed(uri, error),
    };
    // A URI may name the file itself.
    let name_of = |path: &str| {
        let name = if path.is_empty() { last_name(uri) } else { path };
        name.to_owned()
    };
    let names: Vec<String> = listing.objects.iter().map(|object| name_of(&object.path)).collect();
    let (path, size) = match names.iter().position(|name| may_hold(format, name)) {
        Some(at) => (listing.objects[at].path.clone(), listing.objects[at].size),
        None => match storage::stat(uri) {
            Ok(object) if may_hold(format, last_name(uri)) => (String::new(), object.size),
            Ok(_) => return without_its_file(format, &[name_of("")]),
            Err(Error::NotFound) if listing.truncated => {
                return logged(format!(
                    "none of the first {LIST_LIMIT} files at {uri} has a name that a server for it looks for; the runtime is not checked"
                ));
            }
            Err(Error::NotFound) if !names.is_empty() => return without_its_file(format, &names),
            Err(error) => return failed(uri, error),
        },
    };
    let name = name_of(&path);
    let file = if path.is_empty() {
        uri.to_owned()
    } else {
        format!("{uri}/{path}")
    };
    let read = |offset, length| storage::read(&file, offset, length);
    let head = match read(0, sniff::HEAD) {
        Ok(head) => head,
        Err(error) => return failed(&file, error),
    };
    let tail = if size > u64::from(sniff::HEAD) {
        read(size.saturating_sub(u64::from(sniff::TAIL)), sniff::TAIL).unwrap_or_default()
    } else {
        Vec::new()
    };
    match sniff::sniff(&head, &tail) {
        Sniffed::Zip if format == "sklearn" => warned(format!(
            "may fail: {} is a zip archive, as skops writes, and scikit-learn's servers load pickles",
            cut(&name, NAME)
        )),
        // joblib writes it so on request, and loads it: nothing is wrong with it.
        Sniffed::Compressed if format == "sklearn" => logged(format!(
            "{name} is compressed, so which version saved it can't be seen; the runtime is not checked"
        )),
        sniffed => match carried(format, sniffed) {
            Some(facts) => Ok(Facts {
                file: Some(path),
                ..facts
            }),
            None => logged(format!(
                "{name} doesn't say which version saved it; the runtime is not checked"
            )),
        },
    }
}

/// Where there are files, and none that a server for this format looks for.
fn without_its_file(format: &str, names: &[String]) -> Look {
    if let [only] = names
        && is_archive(only)
    {
        return unpacked(only);
    }
    let is_skops = |name: &&String| {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        format == "sklearn" && extension == Some("skops")
    };
    if let Some(name) = names.iter().find(is_skops) {
        return warned(format!(
            "may fail: {} is a skops file, which KServe's and MLServer's servers don't load; use joblib",
            cut(name, NAME)
        ));
    }
    warned(format!(
        "a server for {format} may find no model: it loads {}, and here is {}",
        endings(format),
        cut(names.first().map_or("", String::as_str), NAME)
    ))
}

/// The last name of a URI: the file's, where it names one. What follows `?` in a web address is no part of it.
fn last_name(uri: &str) -> &str {
    let path = if uri.starts_with("http") {
        uri.split(['?', '#']).next().unwrap_or(uri)
    } else {
        uri
    };
    path.rsplit('/').next().unwrap_or(path)
}

/// The names that KServe's own servers look for (`python/*server/*/model.py` of KServe 0.20), for a message.
fn endings(format: &str) -> &'static str {
    match format {
        "sklearn" => ".joblib, .pkl or .pickle",
        "xgboost" => ".bst, .json or .ubj",
        _ => ".bst",
    }
}

/// Whether a file of this name can be a model of this format: what KServe's servers and MLServer look for, and what the libraries' guides write.
fn may_hold(format: &str, name: &str) -> bool {
    let Some((_, extension)) = name.rsplit_once('.') else {
        return false;
    };
    match format {
        "sklearn" => matches!(extension, "joblib" | "pkl" | "pickle"),
        "xgboost" => {
            matches!(extension, "bst" | "json" | "ubj" | "model" | "xgb") && !name.ends_with("model-settings.json")
        }
        "lightgbm" => matches!(extension, "bst" | "txt" | "lgb"),
        _ => false,
    }
}

/// What the bytes of a file of this format say.
fn carried(format: &str, sniffed: Sniffed) -> Option<Facts> {
    let facts = |package, version, form| Facts {
        package,
        version,
        form,
        python: None,
        numpy: None,
        protocol: None,
        by_mlflow: false,
        mlflow: None,
        needs: Vec::new(),
        file: None,
    };
    let parse = |text: &str| Version::parse(text);
    match (format, sniffed) {
        ("xgboost", Sniffed::XgBoost(file)) => {
            // The list form alone says: 3.1 or later.
            let version = file.version.or_else(|| {
                file.base_score
                    .filter(|score| *score == BaseScore::List)
                    .and_then(|_| parse("3.1"))
            })?;
            Some(facts(
                "xgboost",
                version,
                if file.ubjson { Form::Ubjson } else { Form::Own },
            ))
        }
        ("xgboost", Sniffed::XgBoostLegacy(version)) => {
            let version = version.map_or_else(|| "0.90".to_owned(), |(major, minor)| format!("{major}.{minor}"));
            Some(facts("xgboost", parse(&version)?, Form::LegacyBinary))
        }
        ("lightgbm", Sniffed::LightGbmText(format)) => Some(facts("lightgbm", parse(&format.to_string())?, Form::Own)),
        ("sklearn", Sniffed::Pickle(pickle)) => {
            let form = if pickle.imports("cloudpickle") {
                Form::Cloudpickle
            } else {
                Form::Pickle
            };
            let numpy = if pickle.imports("numpy._core") {
                parse("2.0")
            } else {
                None
            };
            Some(Facts {
                numpy,
                protocol: Some(pickle.protocol),
                ..facts("scikit-learn", pickle.sklearn_version?, form)
            })
        }
        ("xgboost", Sniffed::Pickle(pickle)) => Some(Facts {
            protocol: Some(pickle.protocol),
            ..facts("xgboost", pickle.xgboost_version?, Form::Pickle)
        }),
        _ => None,
    }
}
