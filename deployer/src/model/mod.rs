//! What a model is, as far as its serving depends on it; whoever saved it, and wherever it lies.

mod framework;
mod signature;

use std::collections::BTreeMap;

pub use framework::Framework;
pub use signature::{Field, Signature, Type};

/// What is known of a model before it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What loads it.
    pub framework: Framework,
    /// Version by package, named as on `PyPI`: of what saved the model. Empty where nothing tells.
    pub versions: BTreeMap<String, String>,
    /// Packages that it lists, in whatever version, named as on `PyPI`; where nothing is listed, none.
    pub lists: Vec<String>,
    /// What goes in and out; none where the model doesn't say.
    pub signature: Option<Signature>,
    /// An input that the model's author left beside it, as JSON in the order that it was written in: `MLflow`'s `serving_input_example.json` where there is one
    /// (`dataframe_split`, `inputs` and so on, as its scoring server takes it), else `input_example.json`.
    pub input_example: Option<String>,
    /// Its whole Python environment lies beside it (`environment.tar.gz`, as conda-pack makes it), which `MLServer` runs it in.
    pub has_environment: bool,
    /// All files together, in bytes.
    pub bytes: u64,
    /// How many files.
    pub files: usize,
}

impl Model {
    /// One that nobody has looked into.
    pub fn unseen(framework: Framework) -> Self {
        Self {
            framework,
            versions: BTreeMap::new(),
            lists: Vec::new(),
            signature: None,
            input_example: None,
            has_environment: false,
            bytes: 0,
            files: 0,
        }
    }
}
