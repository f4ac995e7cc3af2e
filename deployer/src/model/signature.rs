//! What goes into a model and what comes out, as MLflow's signatures tell it.

/// What goes in and out, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// What the model takes.
    pub inputs: Vec<Field>,
    /// What it answers; empty where nothing tells.
    pub outputs: Vec<Field>,
}

/// A column of a table, or a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// A column has one, a tensor needn't.
    pub name: Option<String>,
    /// What it holds.
    pub of: Type,
    /// Whether it may be left out.
    pub optional: bool,
}

/// What a [`Field`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// One value a row, in MLflow's words: `double`, `float`, `long`, `integer`, `boolean`, `string`, `binary`, `datetime`.
    Column(String),
    /// Of numpy's type (`float64`) and this shape; -1 where any length goes.
    Tensor {
        /// As numpy names it.
        dtype: String,
        /// The length of each dimension.
        shape: Vec<i64>,
    },
    /// Arrays, objects and maps: MLflow's own JSON for the type.
    Nested(String),
}
