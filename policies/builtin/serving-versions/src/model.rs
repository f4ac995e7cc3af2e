//! Which library saved the model: from the `MLmodel` beside it, else from the model file itself.

use tidewaiter_policy::{
    core::{
        fit::Form,
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

/// What a look into the store found: none where there is nothing to go by and nothing to say about it. The error is a warning for the user.
pub(crate) type Look = Result<Option<Facts>, String>;

/// Reads what there is about the model of this format at a URI.
pub(crate) fn look(format: &str, uri: &str) -> Look {
    if !FORMATS.contains(&format) {
        return Ok(None);
    }
    match storage::read(&format!("{uri}/MLmodel"), 0, TEXT_LIMIT) {
        Ok(bytes) => described(format, uri, &bytes),
        Err(Error::NotFound) if format == "mlflow" => {
            Err(format!("a server for mlflow will find no model: no MLmodel at {uri}"))
        }
        Err(Error::NotFound) if format == "tensorflow" => Ok(None),
        Err(Error::NotFound) => undescribed(format, uri),
        Err(error) => failed(uri, error),
    }
}

fn failed(uri: &str, error: Error) -> Look {
    match error {
        Error::Unserved(reason) => match storage::resolve(uri) {
            Resolution::Served(_) | Resolution::OwnSecret(_) | Resolution::NotGranted(_) | Resolution::Unusable(_) => {
                Err(format!("runtime not checked: {reason}"))
            }
            // Said, where it matters, by the policy that sees to credentials.
            Resolution::Unserved | Resolution::NoCredentials | Resolution::Unsupported(_) => Ok(None),
        },
        Error::NotFound => Err(format!("runtime not checked: nothing is at {uri}")),
        // The reasons name the store; the URI is the user's own.
        Error::Forbidden(reason) | Error::Unreachable(reason) => Err(format!("runtime not checked: {reason}")),
        Error::TooLarge(size) => Err(format!("runtime not checked: {size} bytes are too many: {uri}")),
    }
}

/// By the `MLmodel` file.
fn described(format: &str, uri: &str, bytes: &[u8]) -> Look {
    let unreadable = |reason: &str| Err(format!("runtime not checked: the MLmodel: {reason}"));
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
        return Ok(None);
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
        return Ok(None);
    };
    let mut needs: Vec<String> = Vec::new();
    if by_mlflow {
        let named = requirements.packages.iter().map(|package| package.name.clone());
        needs.extend(named.filter(|name| !TOOLS.contains(&name.as_str())));
        if form == Form::Skops && !needs.iter().any(|name| name == "skops") {
            needs.push("skops".to_owned());
        }
    }
    Ok(Some(Facts {
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
    }))
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
        Err(Error::NotFound) => return failed(uri, Error::NotFound),
        Err(error) => return failed(uri, error),
    };
    let other = listing.objects.first().map(|object| object.path.clone());
    let object = listing.objects.into_iter().find(|object| {
        // A URI may name the file itself.
        let name = if object.path.is_empty() { uri } else { &object.path };
        may_hold(format, name)
    });
    let (path, size) = match object {
        Some(object) => (object.path, object.size),
        None => match storage::stat(uri) {
            Ok(object) if may_hold(format, uri) => (String::new(), object.size),
            Ok(_) => return Ok(None),
            // Files there are, but none of this format's.
            Err(Error::NotFound) if listing.truncated => return Ok(None),
            Err(Error::NotFound) if other.is_some() => {
                let other = other.unwrap_or_default();
                return Err(format!(
                    "a server for {format} may find no model: it looks for other names than {other}"
                ));
            }
            Err(error) => return failed(uri, error),
        },
    };
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
    Ok(carried(format, sniff::sniff(&head, &tail)).map(|facts| Facts {
        file: Some(path),
        ..facts
    }))
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
