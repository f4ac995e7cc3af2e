//! An input as a request of the protocol that the server speaks. What is a request of that protocol already stays as it was written.

use serde_json::{Map, Value, json};

use super::InputError;
use super::datatype::Datatype;
use super::expected::{Expected, ExpectedInput};
use super::input::{self, Content, Input, Table};
use super::tensor::Tensor;

/// A request of the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model's inputs.
    pub inputs: Vec<Tensor>,
    /// What else the request has: `id`, `parameters`, `outputs`.
    pub others: Map<String, Value>,
}

impl Request {
    /// As REST has it.
    pub fn json(&self) -> Value {
        let mut body = self.others.clone();
        let inputs = self.inputs.iter().map(Tensor::json);
        body.insert("inputs".to_owned(), inputs.collect());
        Value::Object(body)
    }
}

/// A body of KServe's first protocol. Rows of columns go as lists where all are numbers and nothing says that the model knows names: KServe's servers make
/// a matrix of lists, and a data frame of records.
///
/// # Errors
/// Where a request of the other protocol isn't one.
pub fn v1(input: &Input, expected: Option<&Expected>) -> Result<Value, InputError> {
    if let Input::V1 { body, .. } = input {
        return Ok(Value::Object(body.clone()));
    }
    Ok(match input.content(expected)? {
        Content::Rows(rows) => json!({ "instances": rows }),
        Content::Named(tensors) => json!({ "inputs": tensors }),
        Content::Table(table) => {
            let has_names = expected.is_some_and(|expected| expected.is_table) || !table.is_numeric();
            let rows = if has_names {
                table.records()
            } else {
                table.rows.into_iter().map(Value::Array).collect()
            };
            json!({ "instances": rows })
        }
    })
}

/// A request of the Open Inference Protocol. What the model expects gives names, datatypes and shapes; without it they follow from the values.
///
/// # Errors
/// Where the input isn't what the model expects.
pub fn v2(input: &Input, expected: Option<&Expected>) -> Result<Request, InputError> {
    if let Input::V2(body) = input {
        let mut others = body.clone();
        others.remove("inputs");
        return Ok(Request {
            inputs: input::tensors(body)?,
            others,
        });
    }
    let content = input.content(expected)?;
    match (expected, content) {
        (Some(expected), Content::Table(table)) if expected.is_table => columns(&table, expected),
        (Some(expected), Content::Rows(rows)) if expected.is_table => columns(&by_place(&rows, expected)?, expected),
        (Some(expected), Content::Named(tensors)) => named(&tensors, Some(expected)),
        (None, Content::Named(tensors)) => named(&tensors, None),
        (Some(expected), Content::Table(table)) if expected.inputs.len() > 1 => {
            let tensors = table.columns.iter().enumerate();
            let tensors = tensors.map(|(index, name)| (name.clone(), Value::Array(table.at(index))));
            named(&tensors.collect(), Some(expected))
        }
        (Some(expected), content) => matrix(content, expected.inputs.first()),
        // Text can't be told from its place alone.
        (None, Content::Table(table)) if !table.is_numeric() => frame(&table),
        (None, content) => matrix(content, None),
    }
}

/// A tensor for each column that the model knows.
fn columns(table: &Table, expected: &Expected) -> Result<Request, InputError> {
    let mut missing = Vec::new();
    let mut inputs = Vec::new();
    for input in &expected.inputs {
        match table.column(&input.name) {
            Some(values) => inputs.push(column(input, &values)?),
            None if input.optional => {}
            None => missing.push(input.name.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(InputError::Missing { missing });
    }
    Ok(Request {
        inputs,
        others: content_type("pd"),
    })
}

fn column(input: &ExpectedInput, values: &[Value]) -> Result<Tensor, InputError> {
    let mut tensor = Tensor::of_column(&input.name, values, Some(input.datatype))?;
    let codec = input.content_type.clone();
    let codec = codec.or_else(|| (input.datatype == Datatype::Bytes).then(|| "str".to_owned()));
    if let Some(codec) = codec {
        tensor.parameters = content_type_of(&codec);
    }
    Ok(tensor)
}

/// Rows without names: the values stand where the model's columns do.
fn by_place(rows: &[Value], expected: &Expected) -> Result<Table, InputError> {
    let names = || expected.inputs.iter().map(|input| input.name.clone());
    let wanted = expected.inputs.len();
    let mut table = Table {
        columns: names().collect(),
        rows: Vec::new(),
    };
    for (row, values) in rows.iter().enumerate() {
        let values = match values {
            Value::Array(values) => values.clone(),
            one => vec![one.clone()],
        };
        if values.len() != wanted {
            return Err(InputError::Width {
                wanted,
                names: names().collect(),
                row,
                found: values.len(),
            });
        }
        table.rows.push(values);
    }
    Ok(table)
}

/// All columns, by what is in them.
fn frame(table: &Table) -> Result<Request, InputError> {
    let columns = table.columns.iter().enumerate().map(|(index, name)| {
        let mut values = table.at(index);
        let datatype = Datatype::of_values(&values);
        if datatype == Datatype::Bytes {
            // A text that is missing has no other place.
            for value in values.iter_mut().filter(|value| value.is_null()) {
                *value = json!("");
            }
        }
        let mut tensor = Tensor::of_column(name, &values, Some(datatype))?;
        if datatype == Datatype::Bytes {
            tensor.parameters = content_type_of("str");
        }
        Ok(tensor)
    });
    Ok(Request {
        inputs: columns.collect::<Result<_, _>>()?,
        others: content_type("pd"),
    })
}

/// One tensor of all rows.
fn matrix(content: Content, expected: Option<&ExpectedInput>) -> Result<Request, InputError> {
    let rows = match content {
        Content::Rows(rows) => rows,
        Content::Table(table) => table.rows.into_iter().map(Value::Array).collect(),
        Content::Named(tensors) => return named(&tensors, None),
    };
    let name = expected.map_or("input-0", |input| input.name.as_str());
    let mut tensor = Tensor::of_nested(name, &Value::Array(rows), expected.map(|input| input.datatype))?;
    if let Some(input) = expected {
        fits(input, &tensor)?;
    }
    // MLServer's codec for arrays would take texts for numbers.
    let codec = if tensor.datatype == Datatype::Bytes {
        "str"
    } else {
        "np"
    };
    tensor.parameters = content_type_of(codec);
    Ok(Request {
        inputs: vec![tensor],
        others: if codec == "np" { content_type(codec) } else { Map::new() },
    })
}

/// A last dimension of another length is the most usual slip: a column too many, or too few.
fn fits(input: &ExpectedInput, tensor: &Tensor) -> Result<(), InputError> {
    if let (&[.., wanted], &[.., found]) = (input.shape.as_slice(), tensor.shape.as_slice())
        && input.shape.len() == tensor.shape.len()
        && let Ok(wanted) = usize::try_from(wanted)
        && wanted != found
        && tensor.shape.len() > 1
    {
        return Err(InputError::Width {
            wanted,
            names: vec![input.name.clone()],
            row: 0,
            found,
        });
    }
    Ok(())
}

/// A tensor for each name.
fn named(tensors: &Map<String, Value>, expected: Option<&Expected>) -> Result<Request, InputError> {
    let mut inputs = Vec::new();
    match expected {
        Some(expected) => {
            let mut missing = Vec::new();
            for input in &expected.inputs {
                match tensors.get(&input.name) {
                    Some(nested) => inputs.push(Tensor::of_nested(&input.name, nested, Some(input.datatype))?),
                    None if input.optional => {}
                    None => missing.push(input.name.clone()),
                }
            }
            if !missing.is_empty() {
                return Err(InputError::Missing { missing });
            }
        }
        None => {
            for (name, nested) in tensors {
                inputs.push(Tensor::of_nested(name, nested, None)?);
            }
        }
    }
    Ok(Request {
        inputs,
        others: Map::new(),
    })
}

fn content_type_of(codec: &str) -> Map<String, Value> {
    Map::from_iter([("content_type".to_owned(), json!(codec))])
}

/// A request's members.
fn content_type(codec: &str) -> Map<String, Value> {
    Map::from_iter([("parameters".to_owned(), Value::Object(content_type_of(codec)))])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(value: Value) -> Input {
        Input::of_json(value).unwrap()
    }

    fn expected(metadata: Value) -> Expected {
        Expected::of_metadata(&metadata).unwrap()
    }

    fn people() -> Expected {
        expected(json!({"inputs": [
            {"name": "age", "datatype": "INT64", "shape": [-1, 1], "parameters": {"content_type": "np"}},
            {"name": "name", "datatype": "BYTES", "shape": [-1, 1], "parameters": {"content_type": "str"}}]}))
    }

    #[test]
    fn a_request_stays_as_it_was_written() {
        let one = json!({"instances": [[1]], "signature_name": "serving_default"});
        assert_eq!(v1(&of(one.clone()), None).unwrap(), one);
        let two = json!({"id": "7", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1],
            "parameters": {"content_type": "np"}}], "outputs": [{"name": "y"}]});
        assert_eq!(v2(&of(two.clone()), Some(&people())).unwrap().json(), two);
    }

    #[test]
    fn columns_go_by_name_with_mlservers_codecs() {
        let wanted = json!({"parameters": {"content_type": "pd"}, "inputs": [
            {"name": "age", "datatype": "INT64", "shape": [2, 1], "data": [7, 8]},
            {"name": "name", "datatype": "BYTES", "shape": [2, 1], "data": ["x", "3"], "parameters": {"content_type": "str"}}]});
        let named = of(json!([{"name": "x", "age": 7, "more": 0}, {"name": 3, "age": "8", "more": 0}]));
        assert_eq!(v2(&named, Some(&people())).unwrap().json(), wanted);
        let by_place = of(json!([[7, "x"], [8, "3"]]));
        assert_eq!(v2(&by_place, Some(&people())).unwrap().json(), wanted);
    }

    #[test]
    fn what_the_model_misses_is_named() {
        let told = |input: Value| v2(&of(input), Some(&people())).unwrap_err().to_string();
        assert_eq!(
            told(json!([{"age": 7}])),
            "the model also takes name, which the input has not"
        );
        assert_eq!(
            told(json!([[7, "x"], [7]])),
            "the model takes 2 values a row (age, name), and row 1 has 1"
        );
        assert_eq!(
            told(json!([{"age": 7.5, "name": "x"}])),
            "age takes INT64, and 7.5 is none"
        );
        let four = expected(json!({"inputs": [{"name": "input-0", "datatype": "FP32", "shape": [-1, 4]}]}));
        let error = v2(&of(json!([[1, 2, 3]])), Some(&four)).unwrap_err();
        assert!(error.to_string().contains("takes 4 values a row"), "{error}");
    }

    #[test]
    fn numbers_become_one_tensor_and_words_a_frame() {
        let numbers = v2(&of(json!([{"a": 1, "b": 2.5}])), None).unwrap();
        assert_eq!(
            numbers.json(),
            json!({"parameters": {"content_type": "np"}, "inputs": [
                {"name": "input-0", "datatype": "FP64", "shape": [1, 2], "data": [1, 2.5], "parameters": {"content_type": "np"}}]})
        );
        let words = v2(&of(json!([{"a": 1, "b": "x"}, {"a": 2, "b": null}])), None).unwrap();
        assert_eq!(words.others, content_type("pd"));
        assert_eq!(words.inputs[1].data, [json!("x"), json!("")]);
    }

    #[test]
    fn the_first_protocol_gets_lists_or_records() {
        let numbers = of(json!([{"a": 1, "b": 2}]));
        assert_eq!(v1(&numbers, None).unwrap(), json!({"instances": [[1, 2]]}));
        let words = of(json!([{"a": 1, "b": "x"}]));
        assert_eq!(v1(&words, None).unwrap(), json!({"instances": [{"a": 1, "b": "x"}]}));
        let frame = of(json!({"parameters": {"content_type": "pd"}, "inputs": [
            {"name": "a", "shape": [1, 1], "datatype": "INT64", "data": [1]}]}));
        assert_eq!(v1(&frame, Some(&people())).unwrap(), json!({"instances": [{"a": 1}]}));
        let matrix = of(json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}));
        assert_eq!(v1(&matrix, None).unwrap(), json!({"instances": [[1, 2]]}));
    }

    #[test]
    fn an_example_of_what_is_expected_is_accepted() {
        for expected in [
            people(),
            expected(json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]})),
            expected(
                json!({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 2, 2]}, {"name": "y", "datatype": "BYTES", "shape": [-1, 3]}]}),
            ),
        ] {
            let request = v2(&expected.example(), Some(&expected)).unwrap();
            assert_eq!(request.inputs.len(), expected.inputs.len());
        }
    }

    proptest! {
        /// From the first protocol to the second and back.
        #[test]
        fn rows_go_round(rows in prop::collection::vec(prop::collection::vec(-1e6_f64..1e6, 3), 1..6)) {
            let body = json!({"instances": rows});
            let there = v2(&of(body.clone()), None).unwrap();
            let back = v1(&of(there.json()), None).unwrap();
            prop_assert_eq!(back, body);
        }

        #[test]
        fn records_go_round(rows in prop::collection::vec((any::<i32>(), "[a-z]{1,8}"), 1..6)) {
            let records: Vec<Value> = rows.iter().map(|(number, word)| json!({"a": number, "b": word})).collect();
            let body = json!({"instances": records});
            let there = v2(&of(body.clone()), None).unwrap();
            let back = v1(&of(there.json()), None).unwrap();
            prop_assert_eq!(back, body);
        }
    }
}
