//! An answer as a table.

use serde_json::Value;

use super::tensor::Tensor;

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The server's answer; one over gRPC has the form that REST gives it.
    pub body: Value,
}

/// An answer's columns, as many values each as there are rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns(pub Vec<(String, Vec<Value>)>);

impl Answer {
    /// The answer as columns: of `predictions`, or of `outputs`. None where it has neither.
    pub fn columns(&self) -> Option<Columns> {
        if let Some(predictions) = self.body["predictions"].as_array() {
            return Some(Columns(of_predictions(predictions)));
        }
        // TensorFlow's form for named tensors.
        let outputs = match &self.body["outputs"] {
            Value::Array(outputs) => outputs,
            Value::Object(named) => {
                let columns = named.iter().map(|(name, nested)| {
                    let rows = nested.as_array().cloned().unwrap_or_else(|| vec![nested.clone()]);
                    (name.clone(), rows)
                });
                return Some(Columns(columns.collect()));
            }
            _ => return None,
        };
        let mut columns = Vec::new();
        for output in outputs {
            let tensor = Tensor::of_json(output).ok()?;
            columns.extend(of_tensor(&tensor));
        }
        Some(Columns(columns))
    }
}

impl Columns {
    /// The number of rows: of the longest column.
    pub fn rows(&self) -> usize {
        self.0.iter().map(|(_, values)| values.len()).max().unwrap_or_default()
    }
}

fn of_predictions(predictions: &[Value]) -> Vec<(String, Vec<Value>)> {
    if !predictions.is_empty() && predictions.iter().all(Value::is_object) {
        let mut names: Vec<&String> = Vec::new();
        for name in predictions
            .iter()
            .filter_map(Value::as_object)
            .flat_map(|members| members.keys())
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let column = |name: &String| {
            let values = predictions.iter().map(|one| one[name.as_str()].clone());
            (name.clone(), values.collect())
        };
        return names.into_iter().map(column).collect();
    }
    let width = predictions.first().and_then(Value::as_array).map(Vec::len);
    let lists = predictions.iter().map(Value::as_array).collect::<Option<Vec<_>>>();
    match (lists, width) {
        (Some(lists), Some(width)) if width > 0 && lists.iter().all(|list| list.len() == width) => (0..width)
            .map(|index| {
                let name = if width == 1 {
                    "prediction".to_owned()
                } else {
                    index.to_string()
                };
                (name, lists.iter().map(|list| list[index].clone()).collect())
            })
            .collect(),
        _ => vec![("prediction".to_owned(), predictions.to_vec())],
    }
}

/// One column for `[n]` and `[n, 1]`, one each for `[n, k]`; deeper ones are lists in one column.
fn of_tensor(tensor: &Tensor) -> Vec<(String, Vec<Value>)> {
    match tensor.shape.as_slice() {
        _ if tensor.is_column() => vec![(tensor.name.clone(), tensor.data.clone())],
        [_, width] if *width > 0 => (0..*width)
            .map(|index| {
                let values = tensor.data.iter().skip(index).step_by(*width);
                (format!("{}[{index}]", tensor.name), values.cloned().collect())
            })
            .collect(),
        _ => match tensor.nested() {
            Value::Array(rows) => vec![(tensor.name.clone(), rows)],
            one => vec![(tensor.name.clone(), vec![one])],
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns(body: Value) -> Value {
        let columns = Answer { body }.columns().map(|columns| columns.0);
        json!(columns)
    }

    #[test]
    fn an_answer_of_either_protocol_is_columns() {
        assert_eq!(columns(json!({"predictions": [1, 0]})), json!([["prediction", [1, 0]]]));
        assert_eq!(
            columns(json!({"predictions": [[0.1, 0.9], [0.8, 0.2]]})),
            json!([["0", [0.1, 0.8]], ["1", [0.9, 0.2]]])
        );
        assert_eq!(
            columns(json!({"predictions": [{"a": 1}, {"a": 2, "b": 3}]})),
            json!([["a", [1, 2]], ["b", [null, 3]]])
        );
        let output = |shape: Value, data: Value| json!({"outputs": [{"name": "y", "datatype": "FP32", "shape": shape, "data": data}]});
        assert_eq!(columns(output(json!([2, 1]), json!([1, 2]))), json!([["y", [1, 2]]]));
        assert_eq!(
            columns(output(json!([2, 2]), json!([1, 2, 3, 4]))),
            json!([["y[0]", [1, 3]], ["y[1]", [2, 4]]])
        );
        assert_eq!(
            columns(output(json!([1, 2, 2]), json!([1, 2, 3, 4]))),
            json!([["y", [[[1, 2], [3, 4]]]]])
        );
        assert_eq!(columns(json!({"explanations": []})), json!(null));
    }
}
