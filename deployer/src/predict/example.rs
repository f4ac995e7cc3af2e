//! An input for whoever has none at hand.

use std::fmt;

use super::expected::Expected;
use super::input::Input;
use crate::model::Model;

/// Something to ask a model with.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// It.
    pub input: Input,
    /// Whose word it is.
    pub by: By,
}

/// Whose word an example is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The model's author left it beside the model.
    Author,
    /// It was made of the model's signature.
    Signature,
    /// It was made of what the server says of its model.
    Server,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Author => "the model's own input example",
            Self::Signature => "made of the model's signature",
            Self::Server => "made of what the server says of its model",
        })
    }
}

/// The best example there is: the author's own, else one that is made. `model` is what was found of the model's files, `said` what its server says. None where
/// neither tells what the model takes.
pub fn example(model: Option<&Model>, said: Option<&Expected>) -> Option<Example> {
    let own = model.and_then(|model| model.input_example.as_deref());
    // What reads as no input, such as a chat's messages, is no loss: the signature has the same names.
    if let Some(input) = own.and_then(|text| Input::of_text(text).ok()) {
        return Some(Example { input, by: By::Author });
    }
    let made = |expected: &Expected, by| Example {
        input: expected.example(),
        by,
    };
    match of_signature(model) {
        Some(expected) => Some(made(&expected, By::Signature)),
        None => said.map(|expected| made(expected, By::Server)),
    }
}

/// What a model takes by its files.
pub fn of_signature(model: Option<&Model>) -> Option<Expected> {
    model?.signature.as_ref().and_then(Expected::of_signature)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{v1, v2};
    use super::*;
    use crate::model::{Field, Framework, Signature, Type};

    fn model(example: Option<&str>, columns: &[&str]) -> Model {
        let column = |name: &&str| Field {
            name: Some((*name).to_owned()),
            of: Type::Column("double".to_owned()),
            optional: false,
        };
        let signature = Signature {
            inputs: columns.iter().map(column).collect(),
            outputs: Vec::new(),
        };
        Model {
            signature: (!columns.is_empty()).then_some(signature),
            input_example: example.map(str::to_owned),
            ..Model::unseen(Framework::Mlflow)
        }
    }

    /// Whose it is, and the bodies by the first protocol and the second one, which is gRPC's too.
    fn sent(model: Option<&Model>, said: Option<&Expected>) -> (By, Value, Value) {
        let example = example(model, said).unwrap();
        let expected = of_signature(model);
        let expected = said.or(expected.as_ref());
        let second = v2(&example.input, expected).unwrap().json();
        (example.by, v1(&example.input, expected).unwrap(), second)
    }

    #[test]
    fn the_authors_own_example_is_sent_by_each_protocol() {
        // As MLflow 2.16 and later write `serving_input_example.json` for a data frame and for an array.
        let frame = r#"{"dataframe_split": {"columns": ["z", "a"], "data": [[0.5, 2.0]]}}"#;
        let (by, first, second) = sent(Some(&model(Some(frame), &["z", "a"])), None);
        assert_eq!(by, By::Author);
        assert_eq!(first, json!({"instances": [{"z": 0.5, "a": 2.0}]}));
        let tensors =
            |name: &str, value: f64| json!({"name": name, "datatype": "FP64", "shape": [1, 1], "data": [value]});
        assert_eq!(
            second,
            json!({"parameters": {"content_type": "pd"}, "inputs": [tensors("z", 0.5), tensors("a", 2.0)]})
        );
        let array = model(Some(r#"{"inputs": [[0.9, 0.1]]}"#), &[]);
        let said =
            Expected::of_metadata(&json!({"inputs": [{"name": "input-0", "datatype": "FP32", "shape": [-1, 2]}]}));
        let (_, first, second) = sent(Some(&array), said.as_ref());
        assert_eq!(first, json!({"inputs": [[0.9, 0.1]]}));
        assert_eq!(
            (&second["inputs"][0]["datatype"], &second["inputs"][0]["data"]),
            (&json!("FP32"), &json!([0.9, 0.1]))
        );
        // Without a signature the columns stay as they were written: where they become a matrix, the order counts.
        let (_, first, _) = sent(Some(&model(Some(r#"[{"z": 1, "a": 2}]"#), &[])), None);
        assert_eq!(first, json!({"instances": [[1, 2]]}));
    }

    #[test]
    fn without_one_it_is_made_of_the_signature_and_without_that_of_the_servers_word() {
        let (by, first, second) = sent(Some(&model(None, &["age"])), None);
        assert_eq!((by, first), (By::Signature, json!({"instances": [{"age": 1.0}]})));
        assert_eq!(second["inputs"][0]["name"], "age");
        let unreadable = model(Some(r#""a text""#), &["age"]);
        assert_eq!(
            example(Some(&unreadable), None).map(|example| example.by),
            Some(By::Signature)
        );
        let said = Expected::of_metadata(&json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]}));
        for none in [None, Some(&model(None, &[]))] {
            let (by, _, second) = sent(none, said.as_ref());
            assert_eq!((by, &second["inputs"][0]["name"]), (By::Server, &json!("x")));
            assert_eq!(example(none, None), None);
        }
    }
}
