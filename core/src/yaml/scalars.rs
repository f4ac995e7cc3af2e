//! Keys and texts: plain, quoted, block.

use std::borrow::Cow;

use super::{Node, Parsed, Parser, lines::is_blank};

impl<'t> Parser<'t> {
    /// The key that `key_follows` saw, and its colon.
    pub(super) fn key(&mut self) -> Parsed<Cow<'t, str>> {
        if matches!(self.peek(), Some(b'"' | b'\'')) {
            let key = self.quoted()?;
            while self.peek() == Some(b' ') {
                self.at += 1;
            }
            self.at += 1;
            return Ok(key);
        }
        let line = self.line_rest();
        let bytes = line.as_bytes();
        let colon = (0..bytes.len()).find(|&at| bytes[at] == b':' && is_blank(bytes.get(at + 1).copied()));
        let Some(colon) = colon else {
            return Err(self.error("expected `key: value`"));
        };
        self.at += colon + 1;
        Ok(Cow::Borrowed(line[..colon].trim_end()))
    }

    /// The name behind `&` or `*`.
    pub(super) fn name(&mut self) -> Parsed<&'t str> {
        self.at += 1;
        let rest = self.rest();
        let end = rest
            .find([' ', '\t', '\r', '\n', ',', '[', ']', '{', '}'])
            .unwrap_or(rest.len());
        if end == 0 {
            return Err(self.error("an anchor or alias needs a name"));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    /// A text without quotes, over as many lines as are indented to `indent`.
    pub(super) fn plain(&mut self, indent: usize, inside: bool) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(self.plain_line(inside));
        loop {
            let back = self.at;
            let Some(breaks) = self.next_plain_line(indent, inside) else {
                self.at = back;
                return text;
            };
            let line = self.plain_line(inside);
            if line.is_empty() {
                self.at = back;
                return text;
            }
            let text = text.to_mut();
            fold(text, breaks);
            text.push_str(line);
        }
    }

    /// One line's part of a plain text, without blanks around it.
    fn plain_line(&mut self, inside: bool) -> &'t str {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let end = (0..bytes.len())
            .find(|&at| match bytes[at] {
                b'\n' => true,
                b':' => {
                    is_blank(bytes.get(at + 1).copied())
                        || inside && matches!(bytes.get(at + 1), Some(b',' | b'[' | b']' | b'{' | b'}'))
                }
                b'#' => at > 0 && is_blank(bytes.get(at - 1).copied()),
                b',' | b'[' | b']' | b'{' | b'}' => inside,
                _ => false,
            })
            .unwrap_or(bytes.len());
        let text = rest[..end].trim_end();
        self.at += text.len();
        text
    }

    /// Moves to the next line of a plain text; the number of line breaks on the way. None where the text ends.
    fn next_plain_line(&mut self, indent: usize, inside: bool) -> Option<usize> {
        let mut breaks = 0;
        loop {
            match self.peek()? {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    breaks += 1;
                    self.at += 1;
                }
                _ => break,
            }
        }
        let goes_on = breaks > 0 && !self.at_end() && self.peek() != Some(b'#') && (inside || self.column() >= indent);
        // A `key:` deeper than the text it follows is a mistake that the caller reports, not a part of the text.
        (goes_on && (inside || !self.key_follows())).then_some(breaks)
    }

    /// A text in single or double quotes, lines folded.
    pub(super) fn quoted(&mut self) -> Parsed<Cow<'t, str>> {
        let double = self.peek() == Some(b'"');
        let opening = self.at;
        self.at += 1;
        let mut text: Option<String> = None;
        let mut from = self.at;
        loop {
            match self.peek() {
                None => {
                    self.at = opening;
                    return Err(self.error("a quoted text has no end"));
                }
                Some(b'\'') if !double && self.byte(self.at + 1) == Some(b'\'') => {
                    text.get_or_insert_default().push_str(&self.text[from..=self.at]);
                    self.at += 2;
                    from = self.at;
                }
                Some(b'"') if double => break,
                Some(b'\'') if !double => break,
                Some(b'\\') if double => {
                    let text = text.get_or_insert_default();
                    text.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    self.escape(text)?;
                    from = self.at;
                }
                Some(b'\n') => {
                    let text = text.get_or_insert_default();
                    text.push_str(self.text[from..self.at].trim_end_matches([' ', '\t', '\r']));
                    let breaks = self.skip_breaks();
                    if self.at_marker("---") || self.at_marker("...") {
                        self.at = opening;
                        return Err(self.error("a quoted text has no end"));
                    }
                    fold(text, breaks);
                    from = self.at;
                }
                Some(_) => self.at += 1,
            }
        }
        let last = &self.text[from..self.at];
        self.at += 1;
        Ok(match text {
            None => Cow::Borrowed(last),
            Some(mut text) => {
                text.push_str(last);
                Cow::Owned(text)
            }
        })
    }

    /// Line breaks and the blanks around them; how many breaks.
    fn skip_breaks(&mut self) -> usize {
        let mut breaks = 0;
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            breaks += usize::from(byte == b'\n');
            self.at += 1;
        }
        breaks
    }

    fn escape(&mut self, text: &mut String) -> Parsed<()> {
        let Some(letter) = self.rest().chars().next() else {
            return Err(self.error("a quoted text has no end"));
        };
        self.at += letter.len_utf8();
        let digits = match letter {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let code = self
                .rest()
                .get(..digits)
                .and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let Some(code) = code else {
                return Err(self.error("an escape without its hexadecimal digits"));
            };
            self.at += digits;
            let lead = (0xd800..0xdc00).contains(&code) && letter == 'u';
            let trail = if lead {
                self.rest()
                    .strip_prefix("\\u")
                    .and_then(|rest| rest.get(..4))
                    .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            } else {
                None
            };
            let code = match trail {
                // JSON is YAML, and writes what is outside the first plane as two halves.
                Some(trail @ 0xdc00..=0xdfff) => {
                    self.at += 6;
                    0x1_0000 + ((code - 0xd800) << 10) + (trail - 0xdc00)
                }
                _ => code,
            };
            text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            return Ok(());
        }
        text.push(match letter {
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            't' | '\t' => '\t',
            'n' => '\n',
            'v' => '\u{b}',
            'f' => '\u{c}',
            'r' => '\r',
            'e' => '\u{1b}',
            ' ' | '"' | '/' | '\\' => letter,
            'N' => '\u{85}',
            '_' => '\u{a0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            '\n' | '\r' => {
                // An escaped line break joins the lines; only further empty lines count.
                self.at -= 1;
                for _ in 1..self.skip_breaks() {
                    text.push('\n');
                }
                return Ok(());
            }
            _ => return Err(self.error("an escape that YAML doesn't know")),
        });
        Ok(())
    }

    /// `|` or `>`, with indentation and chomping marks, and the lines below.
    pub(super) fn block_scalar(&mut self, indent: usize) -> Parsed<usize> {
        let folded = self.peek() == Some(b'>');
        self.at += 1;
        let header = self.line_rest();
        let marks = header.split('#').next().unwrap_or_default().trim();
        let (mut keep, mut strip, mut explicit) = (false, false, None);
        for mark in marks.chars() {
            match mark {
                '+' => keep = true,
                '-' => strip = true,
                '1'..='9' => explicit = mark.to_digit(10).and_then(|digit| usize::try_from(digit).ok()),
                _ => return Err(self.error("a block text starts on the next line")),
            }
        }
        self.skip_line();

        let mut lines: Vec<&str> = Vec::new();
        let mut margin = explicit.map(|digit| indent.saturating_sub(1) + digit);
        while self.at < self.text.len() && !self.at_end() {
            let line = self.line_rest().trim_end_matches('\r');
            let spaces = line.len() - line.trim_start_matches(' ').len();
            if spaces < line.len() {
                let margin = *margin.get_or_insert(spaces);
                if spaces < margin || spaces < indent {
                    break;
                }
            }
            lines.push(line.get(margin.unwrap_or(usize::MAX)..).unwrap_or_default());
            self.skip_line();
        }
        let trailing = lines.iter().rev().take_while(|line| line.is_empty()).count();
        let content = &lines[..lines.len() - trailing];
        let mut text = String::new();
        let mut breaks = 0;
        for (index, line) in content.iter().enumerate() {
            let more_indented = |line: &str| line.starts_with([' ', '\t']);
            if index > 0 {
                breaks += 1;
            }
            if line.is_empty() {
                continue;
            }
            let before = content[..index].iter().rev().find(|line| !line.is_empty());
            if folded && before.is_some_and(|before| !more_indented(before)) && !more_indented(line) {
                fold(&mut text, breaks);
            } else {
                text.extend(std::iter::repeat_n('\n', breaks));
            }
            breaks = 0;
            text.push_str(line);
        }
        if !strip && !content.is_empty() {
            text.push('\n');
        }
        if keep {
            text.extend(std::iter::repeat_n('\n', trailing));
        }
        Ok(self.push(Node::Scalar(Cow::Owned(text), true)))
    }
}

/// One line break becomes a blank, more of them all but one.
fn fold(text: &mut String, breaks: usize) {
    if breaks == 1 {
        text.push(' ');
    } else {
        text.extend(std::iter::repeat_n('\n', breaks - 1));
    }
}
