//! Small models for the tests, saved by the libraries that data scientists save them with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::{Cache, Key};
use crate::{HOST, MINIO_PORT, MINIO_USER, host, python};

const MAKE: &str = include_str!("../models/make.py");
const PUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/put.py");

/// The packages with an S3 client.
const UPLOADS_WITH: &str = "storage-initializer-0.20.0";

/// What a model is saved with: a lock file each, the first on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedWith {
    /// What MLServer 1.7.1 holds: `XGBoost` 3.0.2, scikit-learn 1.7.0, `MLflow` 2.22.1.
    Mlserver1_7_1,
    /// What MLServer 1.5.0 holds: `XGBoost` 2.0.3, scikit-learn 1.4.1, `MLflow` 2.10.2.
    Mlserver1_5_0,
    /// `XGBoost` 3.2.0, whose files older servers read wrongly.
    Xgboost3_2,
    /// What KServe 0.20's own scikit-learn server holds: scikit-learn 1.5.2.
    Sklearnserver0_20,
    /// What KServe 0.20's own `XGBoost` server holds: `XGBoost` 2.1.4.
    Xgbserver0_20,
}

/// Everything that models are saved with.
const ALL: [SavedWith; 5] = [
    SavedWith::Mlserver1_7_1,
    SavedWith::Mlserver1_5_0,
    SavedWith::Xgboost3_2,
    SavedWith::Sklearnserver0_20,
    SavedWith::Xgbserver0_20,
];

impl SavedWith {
    fn locks(self) -> &'static [&'static str] {
        match self {
            Self::Mlserver1_7_1 => &["mlserver-1.7.1"],
            Self::Mlserver1_5_0 => &["mlserver-1.5.0"],
            Self::Xgboost3_2 => &["xgboost-3.2.0", "mlserver-1.7.1"],
            Self::Sklearnserver0_20 => &["sklearnserver-0.20.0"],
            // XGBoost's estimators are scikit-learn's, which the server itself does without.
            Self::Xgbserver0_20 => &["xgbserver-0.20.0", "sklearnserver-0.20.0"],
        }
    }
}

/// A saved model.
#[derive(Debug, Clone)]
pub struct Model {
    /// What is uploaded.
    pub folder: PathBuf,
    /// An Open Inference Protocol request.
    pub request: Value,
    /// What the model itself answers, where it was made.
    pub answers: Vec<f64>,
}

#[derive(Deserialize)]
struct Question {
    request: Value,
    answers: Vec<f64>,
}

impl Model {
    /// Makes a model, unless the cache has it. `kind` is a function in `models/make.py`.
    pub fn make(cache: &Cache, kind: &str, with: SavedWith) -> Result<Self> {
        let sites = with
            .locks()
            .iter()
            .map(|lock| python::site(cache, lock))
            .collect::<Result<Vec<_>>>()?;
        let key = sites.iter().fold(Key::new().with(MAKE), |key, site| {
            key.with(site.as_os_str().as_encoded_bytes())
        });
        let made = cache.entry("models", &format!("{kind}-{with:?}"), &key, |folder| {
            let script = folder.join("make.py");
            fs::write(&script, MAKE)?;
            let sites: Vec<&Path> = sites.iter().map(PathBuf::as_path).collect();
            // MLflow leaves a folder of its own where it runs.
            host::run(
                python::command(&sites)?
                    .current_dir(folder)
                    .arg(&script)
                    .arg(kind)
                    .arg(folder),
            )
        })?;
        let question: Question = serde_json::from_slice(&fs::read(made.join("question.json"))?)?;
        Ok(Self {
            folder: made.join("model"),
            request: question.request,
            answers: question.answers,
        })
    }

    /// The same question by KServe's first protocol: `{"instances": …}`, a list for each row.
    pub fn instances(&self) -> Value {
        let input = &self.request["inputs"][0];
        let width = input["shape"][1].as_u64().and_then(|width| usize::try_from(width).ok());
        let numbers = input["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows: Vec<_> = numbers.chunks(width.unwrap_or(1).max(1)).collect();
        json!({ "instances": rows })
    }

    /// Uploads it to the cluster's store, and says its URI.
    pub fn put(&self, cache: &Cache, bucket: &str, prefix: &str) -> Result<String> {
        let site = python::site(cache, UPLOADS_WITH)?;
        host::run(
            python::command(&[&site])?
                .arg(PUT)
                .args([
                    format!("http://{HOST}:{MINIO_PORT}"),
                    MINIO_USER.to_owned(),
                    MINIO_USER.to_owned(),
                ])
                .arg(&self.folder)
                .args([bucket, prefix]),
        )?;
        Ok(format!("s3://{bucket}/{prefix}"))
    }

    /// Whether answers are the model's own.
    ///
    /// # Errors
    /// With both, where they differ by more than single precision explains.
    pub fn check(&self, answers: &[f64]) -> Result<()> {
        let same = answers.len() == self.answers.len()
            && answers
                .iter()
                .zip(&self.answers)
                .all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0));
        same.then_some(())
            .with_context(|| format!("the server answered {answers:?}, the model itself {:?}", self.answers))
    }
}

/// Installs what making models needs: later, in a network of its own, nothing can be downloaded.
pub fn prepare(cache: &Cache) -> Result<()> {
    host::find(python::PYTHON)
        .context("models are made with Python 3.11, and this machine has no `python3.11` on PATH")?;
    for with in ALL {
        for lock in with.locks() {
            python::site(cache, lock)?;
        }
    }
    python::site(cache, UPLOADS_WITH)?;
    python::site(cache, "kserve-sdk-0.20.0").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_the_requests_rows() {
        let model = Model {
            folder: PathBuf::new(),
            request: json!({"inputs": [{"shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]}),
            answers: Vec::new(),
        };
        assert_eq!(model.instances(), json!({"instances": [[1, 2, 3], [4, 5, 6]]}));
    }
}
