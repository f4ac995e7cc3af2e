//! MLflow's `MLmodel` file, versions 1 to 3.
//!
//! The keys are those that `mlflow/models/model.py` and each flavor's `save_model` write (read at 1.30, 2.19, 2.22 and 3.0 to 3.18). All but `flavors` are
//! optional there, and readers ignore what they don't know; so does this.

use crate::{
    fit::Form,
    version::Version,
    yaml::{Value, Yaml, YamlError},
};

/// What is read of an `MLmodel` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MlModel {
    /// In the order of the file, without `python_function`.
    pub flavors: Vec<Flavor>,
    /// `mlflow_version`: of the MLflow that wrote it; absent before 1.26.
    pub mlflow_version: Option<String>,
    /// `flavors.python_function.python_version`, three parts.
    pub python_version: Option<String>,
    /// `flavors.python_function.loader_module`, such as `mlflow.sklearn`.
    pub loader_module: Option<String>,
    /// There is a signature, so that a server knows names and types of inputs.
    pub has_signature: bool,
}

/// One way of loading the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flavor {
    /// Such as `xgboost`.
    pub name: String,
    /// The package whose version decides, as `PyPI` names it; none for flavors that have none.
    pub package: Option<&'static str>,
    /// That package's version when the model was saved. May carry a build's label (`2.1.0+cu121`).
    pub version: Option<String>,
    /// The file or folder that holds the model, relative to the `MLmodel`; the flavor's default where the file names none and there is one.
    pub data: Option<String>,
    /// `pickle`, `cloudpickle` or `skops`.
    pub serialization_format: Option<String>,
    /// Such as `xgboost.sklearn.XGBRegressor`.
    pub model_class: Option<String>,
}

/// Why a text is not an `MLmodel` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MlModelError {
    /// Not YAML.
    #[error("the MLmodel file can't be read: {0}")]
    Yaml(#[from] YamlError),
    /// Nothing says how to load it.
    #[error("the MLmodel file has no `flavors`, so nothing says how to load the model")]
    NoFlavors,
}

/// (flavor, package, version key, data keys, default data)
type Known = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<&'static str>,
);

/// `tensorflow` keeps TensorFlow's version under `keras_version`.
const KNOWN: &[Known] = &[
    (
        "sklearn",
        "scikit-learn",
        "sklearn_version",
        &["pickled_model"],
        Some("model.pkl"),
    ),
    ("xgboost", "xgboost", "xgb_version", &["data"], Some("model.xgb")),
    ("lightgbm", "lightgbm", "lgb_version", &["data"], Some("model.lgb")),
    ("catboost", "catboost", "catboost_version", &["data"], Some("model.cb")),
    ("pytorch", "torch", "pytorch_version", &["model_data"], Some("data")),
    (
        "tensorflow",
        "tensorflow",
        "keras_version",
        &["data", "saved_model_dir"],
        None,
    ),
    ("keras", "keras", "keras_version", &["data"], Some("data")),
    ("onnx", "onnx", "onnx_version", &["data"], Some("model.onnx")),
    (
        "transformers",
        "transformers",
        "transformers_version",
        &["model_binary"],
        None,
    ),
    ("spark", "pyspark", "pyspark_version", &["model_data"], Some("sparkml")),
    ("prophet", "prophet", "prophet_version", &["data"], None),
    ("statsmodels", "statsmodels", "statsmodels_version", &["data"], None),
    ("spacy", "spacy", "spacy_version", &["data"], None),
];

impl MlModel {
    /// Reads an `MLmodel` file.
    pub fn parse(text: &str) -> Result<Self, MlModelError> {
        let yaml = Yaml::parse(text)?;
        let root = yaml.root();
        let flavors = root
            .get("flavors")
            .filter(|flavors| flavors.is_mapping())
            .ok_or(MlModelError::NoFlavors)?;
        let python_function = flavors.get("python_function");
        let in_function = |key| python_function.and_then(|function| owned(function, key));
        let model = Self {
            flavors: flavors
                .entries()
                .filter(|(name, _)| *name != "python_function")
                .map(|(name, keys)| flavor(name, keys))
                .collect(),
            mlflow_version: owned(root, "mlflow_version"),
            python_version: in_function("python_version"),
            loader_module: in_function("loader_module"),
            has_signature: root.get("signature").is_some_and(Value::is_mapping),
        };
        if model.flavors.is_empty() && python_function.is_none() {
            return Err(MlModelError::NoFlavors);
        }
        Ok(model)
    }

    /// The flavor of this name.
    pub fn flavor(&self, name: &str) -> Option<&Flavor> {
        self.flavors.iter().find(|flavor| flavor.name == name)
    }

    /// The flavor that `mlflow.pyfunc.load_model` ends up in: the loader module's, else the only one. None for a model of the user's own code.
    pub fn loaded(&self) -> Option<&Flavor> {
        match &self.loader_module {
            Some(module) => self.flavor(module.strip_prefix("mlflow.")?.split('.').next()?),
            None => match self.flavors.as_slice() {
                [only] => Some(only),
                _ => None,
            },
        }
    }
}

impl Flavor {
    /// How the model file is written, from what its flavor writes under that name.
    pub fn form(&self) -> Form {
        let extension = self
            .data
            .as_deref()
            .and_then(|data| data.rsplit_once('.'))
            .map(|(_, extension)| extension);
        match (self.name.as_str(), extension) {
            // 3.14 and later name skops for every LightGBM model, also for a Booster, which is saved as text.
            ("sklearn", _) => match self.serialization_format.as_deref() {
                Some("skops") => Form::Skops,
                Some("cloudpickle") => Form::Cloudpickle,
                _ => Form::Pickle,
            },
            (_, Some("skops")) => Form::Skops,
            (_, Some("pkl")) => Form::Cloudpickle,
            ("xgboost", Some("json")) => Form::Own,
            // From 2.1 on XGBoost writes UBJSON under every name that it doesn't know.
            ("xgboost", extension) => match self.version.as_deref().and_then(Version::parse) {
                Some(version) if version.series() < (2, 1) && extension != Some("ubj") => Form::LegacyBinary,
                _ => Form::Ubjson,
            },
            _ => Form::Own,
        }
    }
}

fn flavor(name: &str, keys: Value<'_, '_>) -> Flavor {
    let known = KNOWN.iter().find(|known| known.0 == name);
    let data = known.and_then(|(.., data_keys, default)| {
        let skops = owned(keys, "serialization_format").as_deref() == Some("skops");
        let default = if skops && matches!(name, "sklearn" | "lightgbm") {
            Some("model.skops")
        } else {
            *default
        };
        data_keys
            .iter()
            .find_map(|key| owned(keys, key))
            .or_else(|| default.map(Into::into))
    });
    Flavor {
        name: name.to_owned(),
        package: known.map(|known| known.1),
        version: known.and_then(|known| owned(keys, known.2)),
        data,
        serialization_format: owned(keys, "serialization_format"),
        model_class: owned(keys, "model_class"),
    }
}

fn owned(value: Value<'_, '_>, key: &str) -> Option<String> {
    value.get(key).and_then(Value::text).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::Requirements;

    #[test]
    fn reads_each_flavors_version() {
        for (name, package, ..) in KNOWN {
            let key = KNOWN.iter().find(|known| known.0 == *name).map_or("", |known| known.2);
            let text = format!(
                "flavors:\n  {name}:\n    {key}: 1.2.3\n  python_function:\n    loader_module: mlflow.{name}\n    python_version: 3.11.7\n"
            );
            let model = MlModel::parse(&text).unwrap();
            let loaded = model.loaded().unwrap();
            assert_eq!(
                (loaded.package, loaded.version.as_deref()),
                (Some(*package), Some("1.2.3")),
                "{name}"
            );
            assert_eq!(model.python_version.as_deref(), Some("3.11.7"));
        }
    }

    #[test]
    fn reads_what_mlflow_1_2_and_3_wrote() {
        for (folder, package, version, data, form) in [
            (
                "1.30-sklearn-cloudpickle",
                "scikit-learn",
                "1.2.2",
                "model.pkl",
                Form::Cloudpickle,
            ),
            ("1.30-xgboost", "xgboost", "1.7.6", "model.xgb", Form::LegacyBinary),
            ("1.30-lightgbm", "lightgbm", "3.3.5", "model.lgb", Form::Own),
            (
                "2.22-sklearn-cloudpickle",
                "scikit-learn",
                "1.6.1",
                "model.pkl",
                Form::Cloudpickle,
            ),
            ("2.22-xgboost", "xgboost", "3.0.2", "model.xgb", Form::Ubjson),
            ("2.22-lightgbm", "lightgbm", "4.6.0", "model.lgb", Form::Own),
            (
                "3.17-sklearn-cloudpickle",
                "scikit-learn",
                "1.9.1",
                "model.pkl",
                Form::Cloudpickle,
            ),
            (
                "3.17-sklearn-skops",
                "scikit-learn",
                "1.9.1",
                "model.skops",
                Form::Skops,
            ),
            ("3.17-xgboost", "xgboost", "3.2.0", "model.ubj", Form::Ubjson),
            ("3.17-lightgbm", "lightgbm", "4.7.0", "model.lgb", Form::Own),
        ] {
            let file = |name: &str| {
                std::fs::read_to_string(format!(
                    "{}/tests/data/mlmodel/{folder}/{name}",
                    env!("CARGO_MANIFEST_DIR")
                ))
                .unwrap()
            };
            let model = MlModel::parse(&file("MLmodel")).unwrap();
            let loaded = model.loaded().unwrap();
            assert_eq!(
                (loaded.package, loaded.version.as_deref()),
                (Some(package), Some(version)),
                "{folder}"
            );
            assert_eq!((loaded.data.as_deref(), loaded.form()), (Some(data), form), "{folder}");
            assert!(
                model.has_signature && model.python_version.is_some_and(|python| python.starts_with("3.11.")),
                "{folder}"
            );

            let python = Requirements::from_python_env(&file("python_env.yaml")).unwrap();
            assert!(
                python.python.is_some_and(|python| python.starts_with("3.11.")),
                "{folder}"
            );
            for requirements in [
                Requirements::from_text(&file("requirements.txt"), Some("3.11.7")),
                Requirements::from_conda(&file("conda.yaml")).unwrap(),
            ] {
                assert_eq!(
                    requirements.version(package).map(ToString::to_string).as_deref(),
                    Some(version),
                    "{folder}"
                );
            }
        }
    }

    #[test]
    fn own_code_has_no_loaded_flavor() {
        let model = MlModel::parse("flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    python_model: python_model.pkl\n").unwrap();
        assert_eq!(model.loaded(), None);
        let model = MlModel::parse("flavors:\n  sklearn: {}\n  xgboost: {}\n").unwrap();
        assert_eq!(model.loaded(), None);
        let model = MlModel::parse("flavors:\n  sklearn:\n    serialization_format: skops\n").unwrap();
        assert_eq!(
            model.loaded().map(|flavor| (flavor.data.as_deref(), flavor.form())),
            Some((Some("model.skops"), Form::Skops))
        );
    }

    #[test]
    fn a_corrupt_file_is_refused_with_its_line() {
        let error = |text: &str| MlModel::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("flavors:\n  sklearn:\n    sklearn_version: [1\n"),
            "the MLmodel file can't be read: line 4: expected `,` or `]`"
        );
        assert!(error("run_id: abc\n").contains("no `flavors`"));
        assert!(error("").contains("no `flavors`"));
        assert!(error("flavors: []\n").contains("no `flavors`"));
        assert!(error("flavors: {}\n").contains("no `flavors`"));
        assert!(error("\u{0}\u{1}PK\n").contains("no `flavors`"));
    }
}
