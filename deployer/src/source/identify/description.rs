//! What an `MLmodel` says beside its flavors: versions, signature, example, size.
//!
//! Source: `mlflow/types/schema.py` and `mlflow/models/utils.py` of MLflow 2.22 and 3.17.

use std::collections::BTreeMap;

use serde_json::Value;
use tidewaiter_core::mlmodel::MlModel;
use tidewaiter_core::yaml::{self, Yaml, YamlError};

use crate::model::{Field, Signature, Type};

/// What is read here.
pub(super) struct Description {
    pub(super) signature: Option<Signature>,
    /// Files with an example, the best first.
    pub(super) examples: Vec<String>,
    pub(super) bytes: Option<u64>,
}

pub(super) fn versions(mlmodel: &MlModel) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut put = |package: &str, version: Option<&String>| {
        if let Some(version) = version {
            versions.insert(package.to_owned(), version.clone());
        }
    };
    for flavor in &mlmodel.flavors {
        if let Some(package) = flavor.package {
            put(package, flavor.version.as_ref());
        }
    }
    put("mlflow", mlmodel.mlflow_version.as_ref());
    put("python", mlmodel.python_version.as_ref());
    versions
}

pub(super) fn read(text: &str) -> Result<Description, YamlError> {
    let yaml = Yaml::parse(text)?;
    let root = yaml.root();
    let signature = root.get("signature").filter(|signature| signature.is_mapping());
    let fields = |key: &str| {
        let text = signature.and_then(|signature| signature.get(key))?.text()?;
        fields(text)
    };
    let signature = signature.and_then(|_| {
        let inputs = fields("inputs").unwrap_or_default();
        let outputs = fields("outputs").unwrap_or_default();
        (!inputs.is_empty() || !outputs.is_empty()).then_some(Signature { inputs, outputs })
    });
    let example = root.get("saved_input_example_info");
    let path = |key: &str| {
        let text = example
            .and_then(|example| example.get(key))
            .and_then(yaml::Value::text)?;
        Some(text.to_owned())
    };
    let mut examples: Vec<_> = ["serving_input_path", "artifact_path"]
        .into_iter()
        .filter_map(path)
        .collect();
    // MLflow writes it beside, and names it only from 2.16 on.
    if example.is_some() {
        examples.push("serving_input_example.json".to_owned());
        examples.push("input_example.json".to_owned());
    }
    Ok(Description {
        signature,
        examples,
        bytes: root
            .get("model_size_bytes")
            .and_then(yaml::Value::text)
            .and_then(|bytes| bytes.parse().ok()),
    })
}

/// A schema, which the `MLmodel` has as JSON in a text.
fn fields(schema: &str) -> Option<Vec<Field>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let fields = schema.as_array()?;
    Some(fields.iter().map(field).collect())
}

fn field(value: &Value) -> Field {
    let of = match value["type"].as_str() {
        Some("tensor") => {
            let spec = &value["tensor-spec"];
            let shape = spec["shape"].as_array().into_iter().flatten();
            Type::Tensor {
                dtype: spec["dtype"].as_str().unwrap_or_default().to_owned(),
                shape: shape.filter_map(Value::as_i64).collect(),
            }
        }
        Some(simple) if !matches!(simple, "array" | "object" | "map" | "any" | "sparse_vector") => {
            Type::Column(simple.to_owned())
        }
        _ => {
            let mut of = value.clone();
            if let Some(of) = of.as_object_mut() {
                of.remove("name");
                of.remove("required");
                of.remove("optional");
            }
            Type::Nested(of.to_string())
        }
    };
    // MLflow 2.5 to 2.9 wrote `optional`, those after it `required`.
    let optional = value["optional"].as_bool().unwrap_or(false) || value["required"].as_bool() == Some(false);
    Field {
        name: value["name"].as_str().map(str::to_owned),
        of,
        optional,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_of_columns_tensors_and_objects_is_read() {
        let text = r#"flavors: {python_function: {loader_module: m}}
saved_input_example_info:
  artifact_path: input_example.json
  serving_input_path: serving_input_example.json
model_size_bytes: 924
signature:
  inputs: '[{"type": "double", "name": "amount", "required": true}, {"type": "string", "name": "country", "required": false}, {"type": "array", "items": {"type": "long"}, "name": "ids"}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]'
"#;
        let read = read(text).unwrap();
        let signature = read.signature.unwrap();
        let column = |name: &str, of: &str, optional| Field {
            name: Some(name.into()),
            of: Type::Column(of.into()),
            optional,
        };
        assert_eq!(
            signature.inputs[..2],
            [column("amount", "double", false), column("country", "string", true)]
        );
        assert_eq!(
            signature.inputs[2].of,
            Type::Nested(r#"{"items":{"type":"long"},"type":"array"}"#.into())
        );
        assert_eq!(
            signature.outputs[0].of,
            Type::Tensor {
                dtype: "float32".into(),
                shape: vec![-1, 2]
            }
        );
        assert_eq!(read.examples[0], "serving_input_example.json");
        assert_eq!(read.bytes, Some(924));
    }

    #[test]
    fn none_is_read_where_there_is_none() {
        let read = read("flavors: {sklearn: {}}\nsignature: null\n").unwrap();
        assert_eq!((read.signature, read.bytes), (None, None));
        assert!(read.examples.is_empty());
    }
}
