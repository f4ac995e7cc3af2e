//! Tensors: nested lists, and flat ones with a shape.

use serde_json::{Map, Value, json};

use super::InputError;
use super::datatype::Datatype;

/// A named tensor, as the Open Inference Protocol has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Which of the model's inputs or outputs it is.
    pub name: String,
    /// What its elements are.
    pub datatype: Datatype,
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// Its elements, in row-major order.
    pub data: Vec<Value>,
    /// Such as `content_type`, by which `MLServer` chooses a codec.
    pub parameters: Map<String, Value>,
}

impl Tensor {
    /// A nested list as a tensor. Its elements are of `datatype`, or of the narrowest that holds all.
    ///
    /// # Errors
    /// Where lists beside each other differ in length, or an element isn't of the type.
    pub fn of_nested(name: &str, nested: &Value, datatype: Option<Datatype>) -> Result<Self, InputError> {
        let mut shape = Vec::new();
        let mut at = nested;
        while let Value::Array(list) = at {
            shape.push(list.len());
            match list.first() {
                Some(first) => at = first,
                None => break,
            }
        }
        let mut data = Vec::new();
        flatten(name, nested, &shape, &mut data)?;
        if shape.is_empty() {
            shape.push(1);
        }
        let datatype = datatype.unwrap_or_else(|| Datatype::of_values(&data));
        Ok(Self {
            data: accepted(name, datatype, &data)?,
            name: name.to_owned(),
            datatype,
            shape,
            parameters: Map::new(),
        })
    }

    /// A column of a table: `[n, 1]`, as `MLServer` reads data frames.
    ///
    /// # Errors
    /// Where an element isn't of the type.
    pub fn of_column(name: &str, values: &[Value], datatype: Option<Datatype>) -> Result<Self, InputError> {
        let datatype = datatype.unwrap_or_else(|| Datatype::of_values(values));
        Ok(Self {
            data: accepted(name, datatype, values)?,
            name: name.to_owned(),
            datatype,
            shape: vec![values.len(), 1],
            parameters: Map::new(),
        })
    }

    /// Reads one of a request's inputs, or of an answer's outputs. Its data may be nested, as the protocol allows.
    ///
    /// # Errors
    /// With what is wrong, named after the tensor.
    pub fn of_json(value: &Value) -> Result<Self, InputError> {
        let name = value["name"].as_str().unwrap_or_default();
        let wrong = |what: &str| InputError::Tensor {
            name: name.to_owned(),
            what: what.to_owned(),
        };
        let datatype = value["datatype"].as_str().ok_or_else(|| wrong("it has no datatype"))?;
        let datatype: Datatype = datatype
            .parse()
            .map_err(|error: super::datatype::UnknownDatatype| wrong(&error.to_string()))?;
        let shape = value["shape"].as_array().ok_or_else(|| wrong("it has no shape"))?;
        let shape = shape
            .iter()
            .map(|length| length.as_u64().and_then(|length| usize::try_from(length).ok()));
        let shape: Vec<usize> = shape
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("its shape is no list of lengths"))?;
        let mut data = Vec::new();
        match &value["data"] {
            Value::Array(list) => list.iter().for_each(|one| every(one, &mut data)),
            _ => return Err(wrong("it has no data")),
        }
        let wanted = elements(&shape);
        if wanted != Some(data.len()) {
            return Err(wrong(&format!(
                "its shape {shape:?} is not that of {} elements",
                data.len()
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            datatype,
            shape,
            data,
            parameters: value["parameters"].as_object().cloned().unwrap_or_default(),
        })
    }

    /// As requests and answers have it.
    pub fn json(&self) -> Value {
        let mut value = json!({
            "name": self.name,
            "shape": self.shape,
            "datatype": self.datatype.as_str(),
            "data": self.data,
        });
        if !self.parameters.is_empty() {
            value["parameters"] = Value::Object(self.parameters.clone());
        }
        value
    }

    /// As nested lists, one for each dimension.
    pub fn nested(&self) -> Value {
        fn nest(shape: &[usize], data: &[Value]) -> Value {
            match shape {
                [] => data.first().cloned().unwrap_or_default(),
                [_] => Value::Array(data.to_vec()),
                [length, rest @ ..] => {
                    let size: usize = rest.iter().product();
                    let parts = (0..*length).map(|index| nest(rest, &data[index * size..(index + 1) * size]));
                    Value::Array(parts.collect())
                }
            }
        }
        nest(&self.shape, &self.data)
    }

    /// The number of its rows; none for a scalar.
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// Whether it is a column of a table: one element a row.
    pub fn is_column(&self) -> bool {
        matches!(self.shape.as_slice(), [_] | [_, 1])
    }
}

/// The number of elements; none where it has no end.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |all, length| all.checked_mul(*length))
}

fn accepted(name: &str, datatype: Datatype, data: &[Value]) -> Result<Vec<Value>, InputError> {
    let accepted = data.iter().map(|value| {
        datatype.accept(value).ok_or_else(|| InputError::Element {
            name: name.to_owned(),
            datatype,
            value: value.to_string(),
        })
    });
    accepted.collect()
}

fn every(value: &Value, data: &mut Vec<Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|one| every(one, data)),
        one => data.push(one.clone()),
    }
}

fn flatten(name: &str, value: &Value, shape: &[usize], data: &mut Vec<Value>) -> Result<(), InputError> {
    match (value, shape) {
        (Value::Array(list), [length, rest @ ..]) if list.len() == *length => {
            list.iter().try_for_each(|one| flatten(name, one, rest, data))
        }
        (Value::Array(_), _) | (_, [_, ..]) => Err(InputError::Ragged { name: name.to_owned() }),
        (one, []) => {
            data.push(one.clone());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_of_different_lengths_are_no_tensor() {
        for ragged in [json!([[1, 2], [3]]), json!([[1], 2]), json!([1, [2]]), json!([[], [1]])] {
            assert!(matches!(
                Tensor::of_nested("x", &ragged, None),
                Err(InputError::Ragged { .. })
            ));
        }
    }

    #[test]
    fn a_shape_that_is_not_the_datas_is_told() {
        let told = |value: Value| Tensor::of_json(&value).unwrap_err().to_string();
        assert_eq!(
            told(json!({"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3]})),
            "tensor x: its shape [2, 2] is not that of 3 elements"
        );
        assert!(told(json!({"name": "x", "datatype": "float32", "shape": [1], "data": [1]})).contains("FP32"));
        assert!(
            told(json!({"name": "x", "datatype": "FP32", "shape": [-1], "data": [1]})).contains("no list of lengths")
        );
        let most = usize::MAX;
        assert!(told(json!({"name": "x", "datatype": "FP32", "shape": [most, 2], "data": [1]})).contains("shape"));
    }

    #[test]
    fn an_element_of_another_type_is_named() {
        let error = Tensor::of_nested("age", &json!([[1], ["old"]]), Some(Datatype::Int32)).unwrap_err();
        assert_eq!(error.to_string(), "age takes INT32, and \"old\" is none");
    }

    fn shapes() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1_usize..5, 1..4)
    }

    proptest! {
        #[test]
        fn nested_and_flat_are_the_same(shape in shapes(), seed in any::<i64>()) {
            let count = elements(&shape).unwrap();
            let data: Vec<Value> = (0..count).map(|i| json!(seed.wrapping_add(i64::try_from(i).unwrap()))).collect();
            let tensor = Tensor { name: "x".into(), datatype: Datatype::Int64, shape, data, parameters: Map::new() };
            let back = Tensor::of_nested("x", &tensor.nested(), Some(Datatype::Int64)).unwrap();
            prop_assert_eq!(&back, &tensor);
            prop_assert_eq!(Tensor::of_json(&tensor.json()).unwrap(), tensor);
        }
    }
}
