//! What a model takes: by its signature, or by its server's word.

use serde_json::{Map, Value, json};

use super::datatype::Datatype;
use super::input::{Content, Input, Table};
use crate::model::{Signature, Type};

/// What a model takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Its inputs, in order.
    pub inputs: Vec<ExpectedInput>,
    /// Whether they are a table's columns; else each is a tensor.
    pub is_table: bool,
}

/// One of a model's inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedInput {
    /// What requests call it.
    pub name: String,
    /// What its elements are.
    pub datatype: Datatype,
    /// The length of each dimension; -1 where any goes.
    pub shape: Vec<i64>,
    /// The codec that `MLServer` reads it by, where it isn't what the datatype says.
    pub content_type: Option<String>,
    /// Whether it may be left out.
    pub optional: bool,
}

impl Expected {
    /// By a model's signature. None where it has types that no tensor holds.
    pub fn of_signature(signature: &Signature) -> Option<Self> {
        let mut inputs = Vec::new();
        let mut is_table = true;
        for (index, field) in signature.inputs.iter().enumerate() {
            let (datatype, shape, content_type) = match &field.of {
                Type::Column(of) => {
                    let (datatype, content_type) = Datatype::of_column(of)?;
                    (datatype, vec![-1, 1], content_type)
                }
                Type::Tensor { dtype, shape } => {
                    is_table = false;
                    (Datatype::of_numpy(dtype)?, shape.clone(), None)
                }
                // MLServer takes each value as a text of JSON.
                Type::Nested(_) => (Datatype::Bytes, vec![-1, 1], Some("pd_json")),
            };
            inputs.push(ExpectedInput {
                // As MLServer names what has no name.
                name: field.name.clone().unwrap_or_else(|| format!("input-{index}")),
                datatype,
                shape,
                content_type: content_type.map(str::to_owned),
                optional: field.optional,
            });
        }
        (!inputs.is_empty()).then_some(Self { inputs, is_table })
    }

    /// By a server's answer about a model (`GET /v2/models/NAME`). None where it doesn't say.
    pub fn of_metadata(metadata: &Value) -> Option<Self> {
        let listed = metadata["inputs"].as_array()?;
        let input = |value: &Value| {
            let shape = value["shape"].as_array()?.iter().map(length);
            Some(ExpectedInput {
                name: value["name"].as_str()?.to_owned(),
                datatype: value["datatype"].as_str()?.parse().ok()?,
                shape: shape.collect::<Option<_>>()?,
                content_type: value["parameters"]["content_type"]
                    .as_str()
                    .filter(|&of| of != "np")
                    .map(str::to_owned),
                optional: false,
            })
        };
        let inputs: Vec<ExpectedInput> = listed.iter().map(input).collect::<Option<_>>()?;
        if inputs.is_empty() {
            return None;
        }
        let are_columns = inputs
            .iter()
            .all(|input| matches!(input.shape.as_slice(), [-1] | [-1, 1]));
        Some(Self {
            // One column looks as a tensor does; of MLflow's models MLServer says which of both it is.
            is_table: are_columns
                && (inputs.len() > 1
                    || inputs[0].content_type.is_some()
                    || metadata["parameters"]["content_type"] == "pd"),
            inputs,
        })
    }

    /// Something that the model takes: one row, each value the plainest of its type.
    pub fn example(&self) -> Input {
        let content = match self.inputs.as_slice() {
            inputs if self.is_table => Content::Table(Table {
                columns: inputs.iter().map(|input| input.name.clone()).collect(),
                rows: vec![inputs.iter().map(value).collect()],
            }),
            [one] => match filled(&one.shape, &value(one)) {
                Value::Array(rows) => Content::Rows(rows),
                scalar => Content::Rows(vec![scalar]),
            },
            several => {
                let named = several
                    .iter()
                    .map(|input| (input.name.clone(), filled(&input.shape, &value(input))));
                Content::Named(named.collect::<Map<_, _>>())
            }
        };
        Input::Content(content)
    }
}

/// MLServer writes lengths as numbers; some write -1 as a text.
fn length(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn value(input: &ExpectedInput) -> Value {
    match (input.datatype, input.content_type.as_deref()) {
        (Datatype::Bool, _) => json!(true),
        (Datatype::Bytes, Some("datetime")) => json!("2026-01-01T00:00:00"),
        // The text `text`.
        (Datatype::Bytes, Some("base64")) => json!("dGV4dA=="),
        (Datatype::Bytes, Some("pd_json")) => json!("[]"),
        (Datatype::Bytes, _) => json!("text"),
        (Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64, _) => json!(1.0),
        _ => json!(1),
    }
}

/// Nested lists of this shape; one where any length goes.
fn filled(shape: &[i64], value: &Value) -> Value {
    match shape {
        [] => value.clone(),
        [length, rest @ ..] => {
            let length = usize::try_from(*length).unwrap_or(1);
            Value::Array(vec![filled(rest, value); length])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Field;

    fn column(name: &str, of: &str) -> Field {
        Field {
            name: Some(name.into()),
            of: Type::Column(of.into()),
            optional: false,
        }
    }

    #[test]
    fn a_table_is_made_of_a_signatures_columns() {
        let signature = Signature {
            inputs: vec![
                column("age", "long"),
                column("name", "string"),
                column("at", "datetime"),
            ],
            outputs: Vec::new(),
        };
        let expected = Expected::of_signature(&signature).unwrap();
        assert!(expected.is_table);
        let Input::Content(Content::Table(table)) = expected.example() else {
            panic!("no table");
        };
        assert_eq!(table.columns, ["age", "name", "at"]);
        assert_eq!(table.rows, [[json!(1), json!("text"), json!("2026-01-01T00:00:00")]]);
    }

    #[test]
    fn one_column_is_a_table_where_the_server_says_so() {
        // As MLServer 1.7.1 says of MLflow's models.
        let of = |codec: &str| {
            let metadata = json!({"name": "m", "platform": "", "parameters": {"content_type": codec}, "inputs": [
                {"name": "age", "datatype": "FP64", "shape": [-1, 1], "parameters": {"content_type": "np"}}]});
            Expected::of_metadata(&metadata).unwrap().is_table
        };
        assert!(of("pd") && !of("np") && !of("dict"));
    }

    #[test]
    fn a_tensor_is_made_of_a_servers_word() {
        let metadata = json!({"inputs": [{"name": "input-0", "datatype": "FP32", "shape": [-1, 3], "parameters": {"content_type": "np"}}]});
        let expected = Expected::of_metadata(&metadata).unwrap();
        assert!(!expected.is_table);
        assert_eq!(
            expected.example(),
            Input::Content(Content::Rows(vec![json!([1.0, 1.0, 1.0])]))
        );
        assert_eq!(Expected::of_metadata(&json!({"name": "x", "inputs": []})), None);
    }
}
