//! The frameworks whose models KServe serves.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a model is loaded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framework {
    /// scikit-learn
    Sklearn,
    /// `XGBoost`
    Xgboost,
    /// `LightGBM`
    Lightgbm,
    /// Any flavor, through `mlflow.pyfunc`.
    Mlflow,
    /// ONNX
    Onnx,
    /// `TensorFlow`'s `SavedModel`
    Tensorflow,
    /// A repository of models as NVIDIA's Triton has it.
    Triton,
    /// A model as Hugging Face's `transformers` save it.
    Huggingface,
    /// A `TorchServe` archive.
    Pytorch,
    /// The user's own Python function, or their own image.
    Custom,
}

impl Framework {
    /// Each, in the order that users are shown.
    pub const ALL: [Self; 10] = [
        Self::Sklearn,
        Self::Xgboost,
        Self::Lightgbm,
        Self::Mlflow,
        Self::Onnx,
        Self::Tensorflow,
        Self::Triton,
        Self::Huggingface,
        Self::Pytorch,
        Self::Custom,
    ];

    /// As `modelFormat.name` of an InferenceService has it, and as users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sklearn => "sklearn",
            Self::Xgboost => "xgboost",
            Self::Lightgbm => "lightgbm",
            Self::Mlflow => "mlflow",
            Self::Onnx => "onnx",
            Self::Tensorflow => "tensorflow",
            Self::Triton => "triton",
            Self::Huggingface => "huggingface",
            Self::Pytorch => "pytorch",
            Self::Custom => "custom",
        }
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no framework.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no framework that KServe serves; there are {known}", known = Framework::ALL.map(Framework::as_str).join(", "))]
pub struct UnknownFramework(String);

impl FromStr for Framework {
    type Err = UnknownFramework;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|framework| framework.as_str() == word);
        found.ok_or_else(|| UnknownFramework(word.to_owned()))
    }
}
