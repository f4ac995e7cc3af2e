//! A YAML document as JSON, with the line on which each value begins.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use tidewaiter_core::pointer::child;
use tidewaiter_world::yaml_problem;

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// As JSON.
    pub value: Value,
    /// By JSON Pointer, counted from 1.
    lines: BTreeMap<String, u64>,
}

impl Located {
    /// All documents of a file's text.
    pub(super) fn documents(file: &str, text: &str) -> Result<Vec<Self>, String> {
        let documents: Vec<Spanned<Node>> =
            serde_saphyr::from_multiple(text).map_err(|error| yaml_problem(file, &error))?;
        Ok(documents
            .into_iter()
            .map(|document| {
                let mut lines = BTreeMap::new();
                let value = value(document, "", &mut lines);
                Self { value, lines }
            })
            .collect())
    }

    /// The line of what a pointer names, else of the nearest part that it is in.
    pub fn line(&self, pointer: &str) -> u64 {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.lines.get(pointer) {
                return *line;
            }
            match pointer.rsplit_once('/') {
                Some((parent, _)) => pointer = parent,
                None => return 1,
            }
        }
    }

    /// A part of it as a document of its own, with the same lines.
    pub(super) fn part(&self, pointer: &str) -> Option<Self> {
        let value = self.value.pointer(pointer)?.clone();
        let lines = self.lines.iter().filter_map(|(place, line)| {
            let rest = place.strip_prefix(pointer)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| (rest.to_owned(), *line))
        });
        Some(Self {
            value,
            lines: lines.collect(),
        })
    }
}

fn value(node: Spanned<Node>, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
    lines.insert(path.to_owned(), node.referenced.line());
    match node.value {
        Node::Scalar(scalar) => scalar,
        Node::List(items) => {
            let items = items.into_iter().enumerate();
            items
                .map(|(index, item)| value(item, &child(path, &index.to_string()), lines))
                .collect()
        }
        Node::Map(members) => {
            let mut map = Map::new();
            for (name, member) in members {
                let place = child(path, &name.value);
                let line = name.referenced.line();
                map.insert(name.value, value(member, &place, lines));
                // Whoever looks for a member looks for its name.
                lines.insert(place, line);
            }
            Value::Object(map)
        }
    }
}

/// What YAML has.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# two services
kind: InferenceService
metadata:
  name: fraud
spec:
  predictor:
    minReplicas: 2
    containers:
      - name: a
        image: b
---
---
kind: List
items:
  - kind: A
    spec: {x: 'yes', y: null}
";

    #[test]
    fn each_value_has_the_line_of_its_name() {
        let documents = Located::documents("a.yaml", TEXT).unwrap();
        let first = &documents[0];
        assert_eq!(first.value["spec"]["predictor"]["minReplicas"], 2);
        let line = |pointer: &str| first.line(pointer);
        assert_eq!(
            (line("/kind"), line("/spec"), line("/spec/predictor/minReplicas")),
            (2, 5, 7)
        );
        assert_eq!(
            (
                line("/spec/predictor/containers/0/image"),
                line("/spec/predictor/model/uri")
            ),
            (10, 6)
        );
        let list = documents.last().unwrap();
        let part = list.part("/items/0").unwrap();
        assert_eq!(
            (part.value["kind"].as_str(), part.line("/spec/x"), part.line("/kind")),
            (Some("A"), 16, 15)
        );
        assert_eq!(part.value["spec"]["x"], "yes");
    }
}
