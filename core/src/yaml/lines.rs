//! Where the reader stands: lines, columns, blanks, what kind of line follows.

use super::{Node, Parsed, Parser, YamlError};

impl<'t> Parser<'t> {
    pub(super) fn push(&mut self, node: Node<'t>) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub(super) fn error(&self, message: &'static str) -> YamlError {
        let line = 1 + self.text[..self.at].matches('\n').count();
        YamlError { line, message }
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// At the end of the text or of the document.
    pub(super) fn at_end(&self) -> bool {
        self.at >= self.text.len() || self.at_marker("...") || self.at_marker("---")
    }

    pub(super) fn at_line_start(&self) -> bool {
        self.at == 0 || self.byte(self.at - 1) == Some(b'\n')
    }

    /// A document marker stands at the start of its line, alone or before a blank.
    pub(super) fn at_marker(&self, marker: &str) -> bool {
        self.at_line_start() && self.rest().starts_with(marker) && is_blank(self.byte(self.at + marker.len()))
    }

    /// Bytes since the start of the line.
    pub(super) fn column(&self) -> usize {
        // Lines are short: bytes one by one are faster than a search that first gets going.
        let before = self.text.as_bytes()[..self.at].iter().rev();
        before.take_while(|byte| **byte != b'\n').count()
    }

    pub(super) fn line_rest(&self) -> &'t str {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| *byte != b'\n').count();
        &rest[..length]
    }

    pub(super) fn skip_line(&mut self) {
        self.at += self.line_rest().len();
        if self.at < self.text.len() {
            self.at += 1;
        }
    }

    /// Skips blanks, empty lines and comments; stops at the next text. Tabs may not indent.
    pub(super) fn skip_blank(&mut self) -> Parsed<()> {
        loop {
            match self.peek() {
                Some(b' ' | b'\r' | b'\n') => self.at += 1,
                Some(b'\t') => {
                    let line = &self.text[self.at - self.column()..self.at];
                    let indents = line.bytes().all(|byte| byte == b' ');
                    if indents && !self.line_rest().trim().is_empty() && !self.line_rest().trim_start().starts_with('#')
                    {
                        return Err(self.error("a tab can't indent; use spaces"));
                    }
                    self.at += 1;
                }
                Some(b'#') if self.at == 0 || is_blank(self.byte(self.at - 1)) => self.at += self.line_rest().len(),
                _ => return Ok(()),
            }
        }
    }

    /// After a key or a dash: goes on to the value. True where it is on a later line.
    pub(super) fn skip_to_value(&mut self) -> Parsed<bool> {
        let from = self.at;
        self.skip_blank()?;
        Ok(self.text[from..self.at].contains('\n'))
    }

    /// A dash that starts an item of a list.
    pub(super) fn is_entry_at(&self, at: usize) -> bool {
        self.byte(at) == Some(b'-') && is_blank(self.byte(at + 1))
    }

    /// Whether `key:` stands here. Looks only; quoted and plain keys on one line.
    pub(super) fn key_follows(&self) -> bool {
        let line = self.line_rest().as_bytes();
        let mut at = 0;
        match line.first() {
            Some(quote @ (b'"' | b'\'')) => {
                at = 1;
                while let Some(&byte) = line.get(at) {
                    match byte {
                        b'\\' if *quote == b'"' => at += 1,
                        byte if byte == *quote => {
                            if *quote == b'\'' && line.get(at + 1) == Some(&b'\'') {
                                at += 1;
                            } else {
                                break;
                            }
                        }
                        _ => {}
                    }
                    at += 1;
                }
                at += 1;
                while matches!(line.get(at), Some(b' ')) {
                    at += 1;
                }
                line.get(at) == Some(&b':') && is_blank(line.get(at + 1).copied())
            }
            None | Some(b'[' | b'{' | b'#' | b'*' | b'&' | b'!' | b'|' | b'>' | b'@' | b'`' | b'%') => false,
            Some(b'?') if is_blank(line.get(1).copied()) => false,
            Some(_) => loop {
                match line.get(at) {
                    None => return false,
                    Some(b':') if is_blank(line.get(at + 1).copied()) => return true,
                    Some(b'#') if at > 0 && is_blank(line.get(at - 1).copied()) => return false,
                    Some(_) => at += 1,
                }
            },
        }
    }
}

/// A blank, the end of the line or of the text.
pub(super) fn is_blank(byte: Option<u8>) -> bool {
    matches!(byte, None | Some(b' ' | b'\t' | b'\r' | b'\n'))
}
