//! A small reader for the YAML that model files are: `MLmodel`, `conda.yaml`, `python_env.yaml`.
//!
//! Policies run it in the sandbox, where a full YAML library would cost more than all the rest. It knows block and flow collections, plain and
//! quoted scalars over several lines, block scalars, comments, anchors and aliases: all that `PyYAML` writes and people type. It refuses
//! tags, `? ` keys and several documents. Scalars stay text; nothing is guessed to be a number. Aliases point, they don't copy, so a small file can't
//! unfold into a large one.

use std::borrow::Cow;

/// Deeper nesting is refused: it would only cost stack.
const MAX_DEPTH: usize = 16;

/// A file with more values than this is no model file. Bounds the work too: keys are compared with each other.
const MAX_VALUES: usize = 4096;

/// A document.
#[derive(Debug, PartialEq)]
pub struct Yaml<'t> {
    nodes: Vec<Node<'t>>,
    root: usize,
}

#[derive(Debug, PartialEq)]
enum Node<'t> {
    /// Text, and whether it was quoted or a block: `null` in quotes is a text.
    Scalar(Cow<'t, str>, bool),
    Sequence(Vec<usize>),
    Mapping(Vec<(Cow<'t, str>, usize)>),
}

/// A place in a document.
#[derive(Clone, Copy, Debug)]
pub struct Value<'y, 't> {
    yaml: &'y Yaml<'t>,
    node: usize,
}

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: &'static str,
}

impl<'t> Yaml<'t> {
    /// Reads one document.
    pub fn parse(text: &'t str) -> Result<Self, YamlError> {
        let mut parser = Parser {
            text,
            at: 0,
            nodes: Vec::with_capacity(32),
            anchors: Vec::new(),
        };
        if text.starts_with('\u{feff}') {
            parser.at = '\u{feff}'.len_utf8();
        }
        let root = parser.document()?;
        Ok(Self {
            nodes: parser.nodes,
            root,
        })
    }

    /// The whole document.
    pub fn root(&self) -> Value<'_, 't> {
        Value {
            yaml: self,
            node: self.root,
        }
    }
}

impl<'y> Value<'y, '_> {
    /// The value under a key of a mapping.
    pub fn get(self, key: &str) -> Option<Self> {
        self.entries().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// A text; none for collections and for a plain `null`, `~` or nothing.
    pub fn text(self) -> Option<&'y str> {
        match &self.yaml.nodes[self.node] {
            Node::Scalar(text, true) => Some(text),
            Node::Scalar(text, false) if !matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL") => Some(text),
            _ => None,
        }
    }

    /// Whether this is a mapping.
    pub fn is_mapping(self) -> bool {
        matches!(self.yaml.nodes[self.node], Node::Mapping(_))
    }

    /// The entries of a mapping; nothing for anything else.
    pub fn entries(self) -> impl Iterator<Item = (&'y str, Self)> {
        let entries: &[_] = match &self.yaml.nodes[self.node] {
            Node::Mapping(entries) => entries,
            _ => &[],
        };
        entries
            .iter()
            .map(move |(key, node)| (key.as_ref(), Self { node: *node, ..self }))
    }

    /// The items of a sequence; nothing for anything else.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let items: &[_] = match &self.yaml.nodes[self.node] {
            Node::Sequence(items) => items,
            _ => &[],
        };
        items.iter().map(move |node| Self { node: *node, ..self })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    nodes: Vec<Node<'t>>,
    anchors: Vec<(&'t str, usize)>,
}

type Parsed<T> = Result<T, YamlError>;

impl<'t> Parser<'t> {
    fn document(&mut self) -> Parsed<usize> {
        self.skip_blank()?;
        while self.at_line_start() && self.rest().starts_with('%') {
            self.skip_line();
            self.skip_blank()?;
        }
        if self.at_marker("---") {
            self.at += 3;
            self.skip_blank()?;
        }
        let root = if self.at_end() {
            self.push(Node::Scalar(Cow::Borrowed(""), false))
        } else {
            self.block(0, 0, self.column())?
        };
        self.skip_blank()?;
        if self.at_marker("...") {
            self.at += 3;
            self.skip_blank()?;
        }
        if self.at < self.text.len() {
            return Err(self.error("text that belongs to nothing above it, or a second document"));
        }
        Ok(root)
    }

    fn check_size(&self, depth: usize) -> Parsed<()> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        if self.nodes.len() > MAX_VALUES {
            return Err(self.error("too many values for a model file"));
        }
        Ok(())
    }

    /// A node that starts here, at `column`. What belongs to it stands at `indent` or deeper.
    fn block(&mut self, depth: usize, indent: usize, column: usize) -> Parsed<usize> {
        self.check_size(depth)?;
        match self.peek() {
            Some(b'-') if self.is_entry_at(self.at) => self.block_sequence(depth, column),
            Some(b'&') => {
                let name = self.name()?;
                let line_end = self.skip_to_value()?;
                let node = if line_end && (self.at_end() || self.column() < indent) {
                    self.push(Node::Scalar(Cow::Borrowed(""), false))
                } else {
                    self.block(depth + 1, indent, self.column())?
                };
                self.anchors.push((name, node));
                Ok(node)
            }
            Some(b'!') => Err(self.error("tags are not read")),
            Some(b'|' | b'>') => self.block_scalar(indent),
            _ if self.key_follows() => self.block_mapping(depth, column),
            _ => self.flow(depth, indent, false),
        }
    }

    fn block_sequence(&mut self, depth: usize, column: usize) -> Parsed<usize> {
        let mut items = Vec::new();
        loop {
            self.at += 1;
            let next_line = self.skip_to_value()?;
            let empty = self.at_end() || next_line && self.column() <= column;
            items.push(if empty {
                self.push(Node::Scalar(Cow::Borrowed(""), false))
            } else {
                self.block(depth + 1, column + 1, self.column())?
            });
            self.skip_blank()?;
            if self.at_end() || self.column() != column || !self.is_entry_at(self.at) {
                break;
            }
        }
        self.check_dedent(column)?;
        Ok(self.push(Node::Sequence(items)))
    }

    fn block_mapping(&mut self, depth: usize, column: usize) -> Parsed<usize> {
        let mut entries: Vec<(Cow<'t, str>, usize)> = Vec::new();
        loop {
            if !self.key_follows() {
                return Err(self.error("expected `key: value`"));
            }
            let key = self.key()?;
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(self.error("this key stands here a second time"));
            }
            let next_line = self.skip_to_value()?;
            let value = if self.at_end() {
                self.push(Node::Scalar(Cow::Borrowed(""), false))
            } else if next_line {
                let here = self.column();
                // A sequence may stand at its key's own column.
                if here > column || here == column && self.is_entry_at(self.at) {
                    self.block(depth + 1, here.min(column + 1), here)?
                } else {
                    self.push(Node::Scalar(Cow::Borrowed(""), false))
                }
            } else {
                if self.is_entry_at(self.at) {
                    return Err(self.error("a list can't start on its key's line"));
                }
                match self.peek() {
                    Some(b'|' | b'>' | b'&' | b'!') => self.block(depth + 1, column + 1, column + 1)?,
                    _ => self.flow(depth + 1, column + 1, false)?,
                }
            };
            entries.push((key, value));
            self.skip_blank()?;
            if self.at_end() || self.column() != column {
                break;
            }
        }
        self.check_dedent(column)?;
        Ok(self.push(Node::Mapping(entries)))
    }

    /// After a collection at `column`, nothing deeper may follow.
    fn check_dedent(&self, column: usize) -> Parsed<()> {
        if !self.at_end() && self.column() > column {
            Err(self.error("indented deeper than what it stands below"))
        } else {
            Ok(())
        }
    }

    /// A scalar or a flow collection. `inside` says whether it is part of a flow collection.
    fn flow(&mut self, depth: usize, indent: usize, inside: bool) -> Parsed<usize> {
        self.check_size(depth)?;
        let node = match self.peek() {
            Some(b'[') => self.flow_sequence(depth)?,
            Some(b'{') => self.flow_mapping(depth)?,
            Some(b'"' | b'\'') => {
                let text = self.quoted()?;
                self.push(Node::Scalar(text, true))
            }
            Some(b'*') => {
                let name = self.name()?;
                match self.anchors.iter().rev().find(|(anchor, _)| *anchor == name) {
                    Some(&(_, node)) => node,
                    None => return Err(self.error("alias without its anchor")),
                }
            }
            Some(b'&') if inside => {
                let name = self.name()?;
                self.skip_blank()?;
                let node = self.flow(depth + 1, indent, inside)?;
                self.anchors.push((name, node));
                node
            }
            Some(b'!') => return Err(self.error("tags are not read")),
            Some(b'@' | b'`' | b'%') => {
                return Err(self.error("a text can't start with this character; put it in quotes"));
            }
            _ => {
                let text = self.plain(indent, inside);
                self.push(Node::Scalar(text, false))
            }
        };
        if !inside {
            let tail = self.line_rest().trim_start_matches([' ', '\t']);
            if !(tail.is_empty() || tail.starts_with('#') || tail == "\r") {
                return Err(self.error("more text behind a complete value"));
            }
            self.skip_line();
        }
        Ok(node)
    }

    fn flow_sequence(&mut self, depth: usize) -> Parsed<usize> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            match self.peek() {
                Some(b']') => break,
                None => return Err(self.error("a list that starts with `[` has no end")),
                _ => items.push(self.flow(depth + 1, 0, true)?),
            }
            self.skip_blank()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.error("expected `,` or `]`")),
            }
        }
        self.at += 1;
        Ok(self.push(Node::Sequence(items)))
    }

    fn flow_mapping(&mut self, depth: usize) -> Parsed<usize> {
        self.at += 1;
        let mut entries: Vec<(Cow<'t, str>, usize)> = Vec::new();
        loop {
            self.skip_blank()?;
            match self.peek() {
                Some(b'}') => break,
                None => return Err(self.error("a mapping that starts with `{` has no end")),
                _ => {}
            }
            let key = if matches!(self.peek(), Some(b'"' | b'\'')) {
                self.quoted()?
            } else {
                self.plain(0, true)
            };
            if key.is_empty() && !matches!(self.peek(), Some(b':')) {
                return Err(self.error("expected a key"));
            }
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(self.error("this key stands here a second time"));
            }
            self.skip_blank()?;
            let mut value = None;
            if self.peek() == Some(b':') {
                self.at += 1;
                self.skip_blank()?;
                if !matches!(self.peek(), Some(b',' | b'}')) {
                    value = Some(self.flow(depth + 1, 0, true)?);
                }
            }
            let value = value.unwrap_or_else(|| self.push(Node::Scalar(Cow::Borrowed(""), false)));
            entries.push((key, value));
            self.skip_blank()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.error("expected `,` or `}`")),
            }
        }
        self.at += 1;
        Ok(self.push(Node::Mapping(entries)))
    }
}

mod lines;
mod scalars;

#[cfg(test)]
mod tests;
