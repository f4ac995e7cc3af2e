//! What a user gives a model: any of the forms that its libraries and servers write.

use serde_json::{Map, Value, json};

use super::datatype::Datatype;
use super::expected::Expected;
use super::tensor::Tensor;
use super::{InputError, order};

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A request of KServe's first protocol: `{"instances": …}` or `{"inputs": …}`.
    V1 {
        /// The request.
        body: Map<String, Value>,
        /// The names in it, as they were written: of columns that become a matrix, the order counts.
        order: Vec<String>,
    },
    /// A request of the Open Inference Protocol: its `inputs` have a name, a shape, a datatype and data.
    V2(Map<String, Value>),
    /// Rows of columns that have names, each cell the text that it was written as: what it is, the model says, or all cells of its column.
    Csv(Table),
    /// Neither, but what goes in.
    Content(Content),
}

/// What goes in, whatever the protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A list, one for each thing to be judged: numbers, lists, or lists of lists.
    Rows(Vec<Value>),
    /// Rows of columns that have names.
    Table(Table),
    /// A tensor for each of the model's inputs, as nested lists.
    Named(Map<String, Value>),
}

/// Rows of named columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The columns' names.
    pub columns: Vec<String>,
    /// As many values each as there are columns.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// One column's values.
    pub fn column(&self, name: &str) -> Option<Vec<Value>> {
        let index = self.columns.iter().position(|column| column == name)?;
        Some(self.at(index))
    }

    /// The values of the column at this place.
    pub fn at(&self, index: usize) -> Vec<Value> {
        self.rows.iter().map(|row| row[index].clone()).collect()
    }

    /// An object for each row.
    pub fn records(&self) -> Vec<Value> {
        let record = |row: &Vec<Value>| {
            let members = self.columns.iter().cloned().zip(row.iter().cloned());
            Value::Object(members.collect())
        };
        self.rows.iter().map(record).collect()
    }

    /// Whether all that is in it are numbers.
    pub fn is_numeric(&self) -> bool {
        let mut values = self.rows.iter().flatten();
        values.all(|value| matches!(value, Value::Number(_) | Value::Bool(_)))
    }

    /// The same table with its columns as they were written: JSON's objects come sorted by name.
    fn in_order(self, order: &[String]) -> Self {
        let mut indices: Vec<usize> = (0..self.columns.len()).collect();
        let place = |&index: &usize| order.iter().position(|name| *name == self.columns[index]);
        indices.sort_by_key(|index| place(index).unwrap_or(usize::MAX));
        let row = |row: &Vec<Value>| indices.iter().map(|&index| row[index].clone()).collect();
        Self {
            rows: self.rows.iter().map(row).collect(),
            columns: indices.iter().map(|&index| self.columns[index].clone()).collect(),
        }
    }

    /// Rows of records; a column that one of them lacks is null there.
    fn of_records(records: &[Value]) -> Result<Self, InputError> {
        let mut columns: Vec<String> = Vec::new();
        for record in records {
            let members = record.as_object().ok_or(InputError::Mixed)?;
            for name in members.keys() {
                if !columns.contains(name) {
                    columns.push(name.clone());
                }
            }
        }
        let row = |record: &Value| columns.iter().map(|name| record[name.as_str()].clone()).collect();
        Ok(Self {
            rows: records.iter().map(row).collect(),
            columns,
        })
    }

    /// As pandas writes a data frame in its orientation `split`.
    fn of_split(split: &Value) -> Result<Self, InputError> {
        let wrong = |what: &str| InputError::Split(what.to_owned());
        let columns = split["columns"].as_array().ok_or_else(|| wrong("it has no columns"))?;
        let columns: Vec<String> = columns
            .iter()
            .map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned))
            .collect();
        let rows = split["data"].as_array().ok_or_else(|| wrong("it has no data"))?;
        let mut table = Self {
            columns,
            rows: Vec::new(),
        };
        for (index, row) in rows.iter().enumerate() {
            let row = row.as_array().ok_or_else(|| wrong("its data are no lists"))?;
            if row.len() != table.columns.len() {
                return Err(wrong(&format!(
                    "row {index} has {} values for {} columns",
                    row.len(),
                    table.columns.len()
                )));
            }
            table.rows.push(row.clone());
        }
        Ok(table)
    }

    /// Columns beside each other, as pandas writes a data frame in its orientation `list`. None where that isn't what it is.
    fn of_lists(members: &Map<String, Value>) -> Option<Self> {
        let lists: Vec<&Vec<Value>> = members.values().map(Value::as_array).collect::<Option<_>>()?;
        let length = lists.first()?.len();
        let is_table = lists
            .iter()
            .all(|list| list.len() == length && !list.iter().any(|one| one.is_array() || one.is_object()));
        let row = |index: usize| lists.iter().map(|list| list[index].clone()).collect();
        is_table.then(|| Self {
            columns: members.keys().cloned().collect(),
            rows: (0..length).map(row).collect(),
        })
    }
}

impl Input {
    /// Recognises JSON: a request of either protocol, a list, a list of records, an object of columns or tensors, an `MLflow` input example or its request
    /// for `/invocations` (`dataframe_split`, `dataframe_records`, `instances`, `inputs`).
    ///
    /// # Errors
    /// Where it is none of these.
    pub fn of_json(value: Value) -> Result<Self, InputError> {
        let members = match value {
            Value::Array(list) => return Ok(Self::Content(content_of_list(list)?)),
            Value::Object(members) => members,
            other => return Err(InputError::Unknown(kind(&other))),
        };
        if let Some(split) = members.get("dataframe_split") {
            return Ok(Self::Content(Content::Table(Table::of_split(split)?)));
        }
        if let Some(records) = members.get("dataframe_records").and_then(Value::as_array) {
            return Ok(Self::Content(Content::Table(Table::of_records(records)?)));
        }
        if members.get("columns").is_some_and(Value::is_array) && members.get("data").is_some_and(Value::is_array) {
            return Ok(Self::Content(Content::Table(Table::of_split(&Value::Object(members))?)));
        }
        if members.contains_key("instances") {
            return Ok(Self::v1(members));
        }
        match members.get("inputs") {
            Some(Value::Array(inputs)) if !inputs.is_empty() && inputs.iter().all(is_tensor) => {
                return Ok(Self::V2(members));
            }
            Some(Value::Array(_) | Value::Object(_)) => return Ok(Self::v1(members)),
            _ => {}
        }
        if members.is_empty() {
            return Err(InputError::Unknown("an empty object"));
        }
        if let Some(table) = Table::of_lists(&members) {
            return Ok(Self::Content(Content::Table(table)));
        }
        if members.values().all(Value::is_array) {
            return Ok(Self::Content(Content::Named(members)));
        }
        let record = [Value::Object(members)];
        Ok(Self::Content(Content::Table(Table::of_records(&record)?)))
    }

    /// Reads text as JSON.
    ///
    /// # Errors
    /// Where it is none, with line and column; as [`Self::of_json`].
    pub fn of_text(text: &str) -> Result<Self, InputError> {
        let failed = |error: serde_json::Error| InputError::Json(error.to_string());
        let input = Self::of_json(serde_json::from_str(text).map_err(failed)?)?;
        let names = order::of(text).map_err(failed)?;
        Ok(match input {
            Self::V1 { body, .. } => Self::V1 { body, order: names },
            Self::Content(Content::Table(table)) => Self::Content(Content::Table(table.in_order(&names))),
            other => other,
        })
    }

    fn v1(body: Map<String, Value>) -> Self {
        Self::V1 {
            body,
            order: Vec::new(),
        }
    }

    /// Reads CSV whose first line names the columns, and tells by what is between them whether a comma, a `;` or a tab is.
    ///
    /// # Errors
    /// Where it is none, with the line.
    pub fn of_csv(text: &str) -> Result<Self, InputError> {
        let failed = |error: csv::Error| InputError::Csv(error.to_string());
        let text = text.trim_start_matches(['\u{feff}', '\r', '\n']);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .delimiter(delimiter(text))
            .from_reader(text.as_bytes());
        let columns: Vec<String> = reader.headers().map_err(failed)?.iter().map(str::to_owned).collect();
        let mut table = Table {
            columns,
            rows: Vec::new(),
        };
        for record in reader.records() {
            table
                .rows
                .push(record.map_err(failed)?.iter().map(Value::from).collect());
        }
        if table.columns.is_empty() || table.rows.is_empty() {
            return Err(InputError::Csv("it has no line below the columns' names".to_owned()));
        }
        Ok(Self::Csv(table))
    }

    /// What goes in, whatever the protocol. What the model expects decides on what a text of CSV is.
    ///
    /// # Errors
    /// Where a request isn't what its protocol has.
    pub fn content(&self, expected: Option<&Expected>) -> Result<Content, InputError> {
        match self {
            Self::Content(content) => Ok(content.clone()),
            Self::Csv(texts) => Ok(Content::Table(typed(texts, expected))),
            Self::V1 { body, order } => match body.get("instances").or_else(|| body.get("inputs")) {
                Some(Value::Array(list)) => Ok(match content_of_list(list.clone())? {
                    Content::Table(table) => Content::Table(table.in_order(order)),
                    other => other,
                }),
                Some(Value::Object(members)) => Ok(Content::Named(members.clone())),
                Some(other) => Err(InputError::Unknown(kind(other))),
                None => Err(InputError::Unknown("an object without instances")),
            },
            Self::V2(body) => {
                let tensors = tensors(body)?;
                Ok(content_of_tensors(
                    &tensors,
                    &body.get("parameters").cloned().unwrap_or_default(),
                ))
            }
        }
    }
}

/// A request's inputs.
pub(super) fn tensors(body: &Map<String, Value>) -> Result<Vec<Tensor>, InputError> {
    let inputs = body.get("inputs").and_then(Value::as_array);
    inputs.into_iter().flatten().map(Tensor::of_json).collect()
}

/// Columns are a table, one tensor is its rows, others go by their names.
fn content_of_tensors(tensors: &[Tensor], parameters: &Value) -> Content {
    let rows = tensors.first().and_then(Tensor::rows).unwrap_or_default();
    let are_columns = tensors
        .iter()
        .all(|tensor| tensor.is_column() && tensor.rows() == Some(rows));
    let is_frame = parameters["content_type"] == "pd" || tensors.len() > 1;
    match tensors {
        [one] if !(is_frame && are_columns) => match one.nested() {
            Value::Array(rows) => Content::Rows(rows),
            scalar => Content::Rows(vec![scalar]),
        },
        several if are_columns => Content::Table(Table {
            columns: several.iter().map(|tensor| tensor.name.clone()).collect(),
            rows: (0..rows)
                .map(|row| several.iter().map(|tensor| tensor.data[row].clone()).collect())
                .collect(),
        }),
        several => Content::Named(
            several
                .iter()
                .map(|tensor| (tensor.name.clone(), tensor.nested()))
                .collect(),
        ),
    }
}

fn content_of_list(list: Vec<Value>) -> Result<Content, InputError> {
    if list.is_empty() {
        return Err(InputError::Unknown("an empty list"));
    }
    if list.iter().all(Value::is_object) {
        // TensorFlow's servers take bytes as `{"b64": …}`: a value, no record.
        if !list.iter().all(|one| one.get("b64").is_some()) {
            return Ok(Content::Table(Table::of_records(&list)?));
        }
    } else if list.iter().any(Value::is_object) {
        return Err(InputError::Mixed);
    }
    Ok(Content::Rows(list))
}

fn is_tensor(value: &Value) -> bool {
    value["name"].is_string() && value["datatype"].is_string() && value["shape"].is_array()
}

/// What separates the columns' names: that of the three which stands most often outside of quotes.
fn delimiter(text: &str) -> u8 {
    let mut found = [(b'\t', 0), (b';', 0), (b',', 0)];
    let mut is_quoted = false;
    for byte in text.bytes() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' | b'\r' if !is_quoted => break,
            _ => {}
        }
        if let Some((_, times)) = found.iter_mut().find(|(one, _)| *one == byte && !is_quoted) {
            *times += 1;
        }
    }
    // Of several the last one.
    found
        .into_iter()
        .max_by_key(|(_, times)| *times)
        .map_or(b',', |(one, _)| one)
}

/// Texts as what the model takes in their column. Where it doesn't say, a column of numbers has numbers, one of true and false these, and every other one its texts.
fn typed(texts: &Table, expected: Option<&Expected>) -> Table {
    let datatype = |column: &str| {
        let expected = expected?;
        let named = expected.inputs.iter().find(|input| input.name == column);
        let whole = match expected.inputs.as_slice() {
            // All columns are one tensor's.
            [one] if !expected.is_table => Some(one),
            _ => None,
        };
        named.or(whole).map(|input| input.datatype)
    };
    let column = |(index, name): (usize, &String)| -> Vec<Value> {
        let texts = texts.at(index);
        let cells = texts.iter().map(|text| cell(text.as_str().unwrap_or_default()));
        let cells: Vec<Value> = cells.collect();
        let there = || cells.iter().filter(|cell| !cell.is_null());
        match datatype(name) {
            Some(Datatype::Bytes) => texts,
            None if there().count() > 0 && Datatype::of_values(there()) == Datatype::Bytes => {
                let missing = |text: Value| if text == "" { Value::Null } else { text };
                texts.into_iter().map(missing).collect()
            }
            _ => cells,
        }
    };
    let columns: Vec<Vec<Value>> = texts.columns.iter().enumerate().map(column).collect();
    let row = |row: usize| columns.iter().map(|column| column[row].clone()).collect();
    Table {
        columns: texts.columns.clone(),
        rows: (0..texts.rows.len()).map(row).collect(),
    }
}

/// A number, or true or false, where a text is one and nothing of it is lost.
fn cell(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    // A code with a zero in front, such as a postal one, is no number, nor is one with a plus, such as a telephone's.
    let is_code = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if !is_code && !text.starts_with('+') {
        if let Ok(whole) = text.parse::<i64>() {
            return json!(whole);
        }
        if let Ok(whole) = text.parse::<u64>() {
            return json!(whole);
        }
        // A fraction has no room for all digits of a longer one.
        let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(number) = text
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite() && !is_whole)
        {
            return json!(number);
        }
    }
    match text {
        "true" | "True" | "TRUE" => json!(true),
        "false" | "False" | "FALSE" => json!(false),
        "nan" | "NaN" | "NA" => Value::Null,
        _ => json!(text),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Input {
        Input::of_json(value).unwrap()
    }

    fn table(columns: &[&str], rows: Value) -> Content {
        Content::Table(Table {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: serde_json::from_value(rows).unwrap(),
        })
    }

    #[test]
    fn requests_of_both_protocols_are_known() {
        assert!(matches!(of(json!({"instances": [[1]]})), Input::V1 { .. }));
        assert!(matches!(of(json!({"inputs": [[1]]})), Input::V1 { .. }));
        assert!(matches!(of(json!({"inputs": {"a": [1]}})), Input::V1 { .. }));
        let v2 = json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]});
        assert!(matches!(of(v2), Input::V2(_)));
    }

    #[test]
    fn every_way_to_write_a_table_gives_the_same_table() {
        let wanted = table(&["a", "b"], json!([[1, "x"], [2, "y"]]));
        let split = json!({"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]});
        for form in [
            json!([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
            split.clone(),
            json!({"dataframe_split": split}),
            json!({"dataframe_records": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}),
            json!({"a": [1, 2], "b": ["x", "y"]}),
            json!({"instances": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}),
            json!({"parameters": {"content_type": "pd"}, "inputs": [
                {"name": "a", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]},
                {"name": "b", "shape": [2, 1], "datatype": "BYTES", "data": ["x", "y"]}]}),
        ] {
            assert_eq!(of(form.clone()).content(None).unwrap(), wanted, "{form}");
        }
        assert_eq!(Input::of_csv("a,b\n1,x\n2,y\n").unwrap().content(None).unwrap(), wanted);
        assert_eq!(
            of(json!({"a": 1, "b": "x"})).content(None).unwrap(),
            table(&["a", "b"], json!([[1, "x"]]))
        );
    }

    #[test]
    fn a_csv_keeps_codes_and_what_is_missing() {
        let read = Input::of_csv("\u{feff}id, zip ,ok,rate\n7,01067,True,\n-8,0.5,no,1e3\n").unwrap();
        let wanted = table(
            &["id", "zip", "ok", "rate"],
            json!([[7, "01067", "True", null], [-8, "0.5", "no", 1000.0]]),
        );
        assert_eq!(read.content(None).unwrap(), wanted);
        assert!(Input::of_csv("a,b\n1\n").unwrap_err().to_string().contains("line: 2"));
        assert!(Input::of_csv("a,b\n").is_err());
    }

    #[test]
    fn a_cell_is_the_text_that_was_written_unless_its_column_is_of_numbers() {
        let text = "version,phone,seen,id,name\n1.10,+4915112345678,True,12345678901234567890123,NA\n2,+1,False,7,x\n";
        let read = Input::of_csv(text).unwrap();
        let columns = ["version", "phone", "seen", "id", "name"];
        let by_itself = json!([
            [1.1, "+4915112345678", true, "12345678901234567890123", "NA"],
            [2, "+1", false, "7", "x"]
        ]);
        assert_eq!(read.content(None).unwrap(), table(&columns, by_itself));
        // The model's word counts more than what the cells look like.
        let input = |name: &str, datatype: &str| json!({"name": name, "datatype": datatype, "shape": [-1, 1]});
        let metadata = json!({"inputs": [input("version", "BYTES"), input("phone", "BYTES"), input("seen", "BYTES"), input("id", "FP64"), input("name", "BYTES")]});
        let expected = Expected::of_metadata(&metadata);
        let by_model = json!([
            ["1.10", "+4915112345678", "True", "12345678901234567890123", "NA"],
            ["2", "+1", "False", 7, "x"]
        ]);
        assert_eq!(read.content(expected.as_ref()).unwrap(), table(&columns, by_model));
        let request = super::super::v2(&read, expected.as_ref()).unwrap();
        assert_eq!(
            request.inputs[3].data,
            [json!(12_345_678_901_234_567_890_123_f64), json!(7)]
        );
        assert_eq!(request.inputs[0].data, [json!("1.10"), json!("2")]);
    }

    #[test]
    fn columns_are_separated_by_what_the_first_line_has_most_of() {
        let wanted = table(&["a,b", "c"], json!([["1,5", 2]]));
        for text in ["\"a,b\";c\n1,5;2\n", "\u{feff}\"a,b\"\tc\n1,5\t2\n"] {
            assert_eq!(Input::of_csv(text).unwrap().content(None).unwrap(), wanted, "{text}");
        }
        let one = table(&["a"], json!([[1], [2]]));
        assert_eq!(Input::of_csv("a\n1\n2\n").unwrap().content(None).unwrap(), one);
    }

    #[test]
    fn tensors_that_are_no_columns_go_by_name() {
        let v2 = json!({"inputs": [
            {"name": "image", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]},
            {"name": "size", "shape": [1], "datatype": "INT64", "data": [4]}]});
        let wanted = json!({"image": [[[1, 2], [3, 4]]], "size": [4]});
        assert_eq!(
            of(v2).content(None).unwrap(),
            Content::Named(wanted.as_object().unwrap().clone())
        );
    }

    #[test]
    fn what_is_no_input_is_said_to_be_none() {
        for wrong in [json!(1), json!("x"), json!([]), json!({}), json!([{"a": 1}, 2])] {
            assert!(Input::of_json(wrong.clone()).is_err(), "{wrong}");
        }
        let split = json!({"columns": ["a", "b"], "data": [[1]]});
        let error = Input::of_json(split).unwrap_err().to_string();
        assert!(error.contains("row 0 has 1 values for 2 columns"), "{error}");
        assert!(Input::of_text("{").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn columns_stay_as_they_were_written() {
        let wanted = table(&["z", "a"], json!([[1, 2], [3, 4]]));
        for text in [
            r#"[{"z": 1, "a": 2}, {"a": 4, "z": 3}]"#,
            r#"{"z": [1, 3], "a": [2, 4]}"#,
            r#"{"instances": [{"z": 1, "a": 2}, {"z": 3, "a": 4}]}"#,
            r#"{"columns": ["z", "a"], "data": [[1, 2], [3, 4]]}"#,
        ] {
            assert_eq!(Input::of_text(text).unwrap().content(None).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn bytes_of_tensorflow_are_no_records() {
        let images = json!({"instances": [{"b64": "AA=="}, {"b64": "AQ=="}]});
        assert!(matches!(of(images).content(None).unwrap(), Content::Rows(_)));
    }
}
