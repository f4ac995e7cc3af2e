//! A YAML document as JSON, with the line on which each value begins.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use tidewaiter_core::pointer::child;
use tidewaiter_world::{folder, yaml_reason};

/// Values of one document: with their lines these take some 200 MiB.
const VALUES: usize = 1_000_000;

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// As JSON.
    pub value: Value,
    /// By JSON Pointer, counted from 1.
    lines: BTreeMap<String, u64>,
}

impl Located {
    /// All documents of a file's text; of one that can't be read the line, counted from 1, and why. Each is read by itself: a mistake in one says nothing of
    /// the others, and limits are those of one document, however many there are.
    pub(super) fn documents(text: &str) -> Vec<Result<Self, (u64, String)>> {
        let mut found = Vec::new();
        for (before, document) in folder::documents(text) {
            // What stands before a document may be directives, such as `%YAML 1.2`.
            let mut lines = document
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'));
            if lines.all(|line| line.starts_with('%')) {
                continue;
            }
            match serde_saphyr::from_multiple_with_options::<Spanned<Node>>(&document, options()) {
                Ok(documents) => found.extend(documents.into_iter().map(|document| {
                    let mut lines = BTreeMap::new();
                    let value = value(document, "", before, &mut lines);
                    Ok(Self { value, lines })
                })),
                Err(error) => {
                    let (line, reason) = yaml_reason(&error);
                    found.push(Err((before + line.unwrap_or(1), reason)));
                }
            }
        }
        found
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
        // Of a list of thousands each is looked for: only what begins with it is gone through.
        let within = self.lines.range(pointer.to_owned()..);
        let within = within.map_while(|(place, line)| Some((place.strip_prefix(pointer)?, line)));
        let lines = within
            .filter(|(rest, _)| rest.is_empty() || rest.starts_with('/'))
            .map(|(rest, line)| (rest.to_owned(), *line));
        Some(Self {
            value,
            lines: lines.collect(),
        })
    }
}

/// The parser's own limits, but for the size: they are for files that somebody writes, and a `List` of all that a cluster has is larger.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: VALUES,
            // A list or a mapping also ends.
            max_events: 2 * VALUES,
        },
    }
}

/// `before` are the lines before its document.
fn value(node: Spanned<Node>, path: &str, before: u64, lines: &mut BTreeMap<String, u64>) -> Value {
    lines.insert(path.to_owned(), before + node.referenced.line());
    match node.value {
        Node::Scalar(scalar) => scalar,
        Node::List(items) => {
            let items = items.into_iter().enumerate();
            items
                .map(|(index, item)| value(item, &child(path, &index.to_string()), before, lines))
                .collect()
        }
        Node::Map(members) => {
            let mut map = Map::new();
            for (name, member) in members {
                let place = child(path, &name.value);
                let line = before + name.referenced.line();
                map.insert(name.value, value(member, &place, before, lines));
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
        let documents: Vec<_> = Located::documents(TEXT).into_iter().map(Result::unwrap).collect();
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

    #[test]
    fn a_document_that_cannot_be_read_hides_none_of_the_others() {
        let text = "%YAML 1.2\n---\na: 1\n--- # the next\nb: [\n---\nc: {d: 1,\n  d: 2}\n---\nd: 4\n...\ne: 5\n";
        let documents = Located::documents(text);
        let told = documents.iter().map(|document| match document {
            Ok(document) => format!("{}: {}", document.line(""), document.value),
            Err((line, reason)) => format!("{line}: {}", reason.split(':').next().unwrap_or_default()),
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                r#"3: {"a":1}"#,
                "5: this is not YAML that can be read",
                "8: `d` stands here twice",
                r#"10: {"d":4}"#,
                r#"12: {"e":5}"#
            ]
        );
    }

    #[test]
    fn there_may_be_any_number_of_documents_and_a_list_is_taken_apart_at_once() {
        let many = "---\nkind: A\n".repeat(5_000);
        assert_eq!(Located::documents(&many).into_iter().flatten().count(), 5_000);
        let items: String = (0..20_000)
            .map(|n| format!("- {{kind: A, metadata: {{name: a{n}}}}}\n"))
            .collect();
        let list = Located::documents(&format!("items:\n{items}")).remove(0).unwrap();
        let parts = (0..20_000).filter_map(|index| list.part(&format!("/items/{index}")));
        let lines: Vec<_> = parts.map(|part| part.line("/metadata/name")).collect();
        assert_eq!((lines.len(), lines[1], lines[19_999]), (20_000, 3, 20_001));
    }

    #[test]
    fn a_few_lines_do_not_become_gigabytes() {
        // Each name stands for ten of the one before it.
        let repeated = (1..9).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
        let text = format!("a0: &a0 1\n{}", repeated.collect::<String>());
        let (line, reason) = Located::documents(&text).remove(0).unwrap_err();
        assert_eq!(line, 7);
        assert!(reason.contains("repeated by name"), "{reason}");
    }
}
