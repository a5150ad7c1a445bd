//! Tokens of the filter language.

use super::Error;

/// A token, with the text it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `"..."`, `/.../` or `|...|`, quotes included.
    Quoted(&'a str),
    /// The right side of an operator.
    Value(&'a str),
    /// A name.
    Field(&'a str),
    /// `,` or `.`.
    Separator(char),
    /// A run of `=`, `!`, `~`.
    Operator(&'a str),
    /// Nothing is left.
    End,
}

/// Cuts a filter into tokens. A value is only expected right after an operator; elsewhere a bare word is a field.
pub(super) struct Scanner<'a> {
    input: &'a str,
    position: usize,
    wants_value: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(input: &'a str) -> Self {
        Self {
            input,
            position: 0,
            wants_value: false,
        }
    }

    /// The next character, not consumed. White space counts: it may stand before a token, not after the last.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn error(&self, position: usize, reason: impl Into<String>) -> Error {
        Error {
            input: self.input.to_owned(),
            position,
            reason: reason.into(),
        }
    }

    /// Consumes the next token. Returns it with the offset where it starts.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), Error> {
        self.take_while(char::is_whitespace);
        let start = self.position;
        let Some(first) = self.peek() else {
            return Ok((start, Token::End));
        };
        let token = match first {
            '"' | '/' | '|' => Token::Quoted(self.quoted(first)?),
            ',' | '.' => {
                self.position += 1;
                self.wants_value = false;
                Token::Separator(first)
            }
            '=' | '!' | '~' => {
                self.wants_value = true;
                Token::Operator(self.take_while(|c| matches!(c, '=' | '!' | '~')))
            }
            _ if self.wants_value => {
                self.wants_value = false;
                Token::Value(self.take_while(|c| c != ',' && !c.is_whitespace() && !c.is_control()))
            }
            _ => Token::Field(self.take_while(is_field)),
        };
        if self.position == start {
            return Err(self.error(start, format!("unexpected character {first:?}")));
        }
        Ok((start, token))
    }

    fn rest(&self) -> &'a str {
        &self.input[self.position..]
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.position += len;
        &rest[..len]
    }

    /// Consumes a quoted text, from quote to quote. Escapes are only skipped here; `quote` reads them.
    fn quoted(&mut self, quote: char) -> Result<&'a str, Error> {
        let rest = self.rest();
        let mut escaped = false;
        for (offset, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == quote => {
                    let len = offset + quote.len_utf8();
                    self.position += len;
                    self.wants_value = false;
                    return Ok(&rest[..len]);
                }
                _ => {}
            }
        }
        Err(self.error(self.position, "quoted text does not end"))
    }
}

fn is_field(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}
