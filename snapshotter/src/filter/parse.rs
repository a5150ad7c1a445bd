//! From the text of one filter to its selectors.

use regex::Regex;

use super::quote::unquote;
use super::scan::{Scanner, Token};
use super::{Error, Selector, Test};

/// Reads one filter. The empty filter has no selectors, so it matches everything.
pub(super) fn selectors(input: &str) -> Result<Vec<Selector>, Error> {
    let mut scanner = Scanner::new(input);
    let mut all = Vec::new();
    if input.is_empty() {
        return Ok(all);
    }
    loop {
        all.push(selector(&mut scanner)?);
        match scanner.peek() {
            None => return Ok(all),
            Some(',') => scanner.next()?,
            Some(c) => return Err(scanner.error(scanner.position(), format!("unexpected input {c:?}"))),
        };
    }
}

fn selector(scanner: &mut Scanner<'_>) -> Result<Selector, Error> {
    let path = field_path(scanner)?;
    let test = match scanner.peek() {
        None | Some(',') => Test::Present,
        Some(_) => test(scanner)?,
    };
    Ok(Selector { path, test })
}

fn field_path(scanner: &mut Scanner<'_>) -> Result<Vec<String>, Error> {
    let mut path = vec![field(scanner)?];
    while scanner.peek() == Some('.') {
        scanner.next()?;
        path.push(field(scanner)?);
    }
    Ok(path)
}

fn field(scanner: &mut Scanner<'_>) -> Result<String, Error> {
    match scanner.next()? {
        (_, Token::Field(name)) => Ok(name.to_owned()),
        (position, Token::Quoted(text)) => plain_quoted(scanner, position, text),
        (position, _) => Err(scanner.error(position, "expected a field name")),
    }
}

fn test(scanner: &mut Scanner<'_>) -> Result<Test, Error> {
    match scanner.next()? {
        (_, Token::Operator("==")) => value(scanner).map(Test::Equal),
        (_, Token::Operator("!=")) => value(scanner).map(Test::NotEqual),
        (_, Token::Operator("~=")) => pattern(scanner).map(Test::Matches),
        (position, _) => Err(scanner.error(position, "expected ==, != or ~=")),
    }
}

fn value(scanner: &mut Scanner<'_>) -> Result<String, Error> {
    match scanner.next()? {
        (_, Token::Value(text)) => Ok(text.to_owned()),
        (position, Token::Quoted(text)) => plain_quoted(scanner, position, text),
        (position, _) => Err(scanner.error(position, "expected a value")),
    }
}

fn pattern(scanner: &mut Scanner<'_>) -> Result<Regex, Error> {
    let (position, text) = match scanner.next()? {
        (position, Token::Value(text)) => (position, text.to_owned()),
        (position, Token::Quoted(text)) => (position, unquoted(scanner, position, text)?),
        (position, _) => return Err(scanner.error(position, "expected a regular expression")),
    };
    Regex::new(&text).map_err(|error| scanner.error(position, format!("bad regular expression: {error}")))
}

/// Reads `"..."`, the only quotes outside of regular expressions.
fn plain_quoted(scanner: &Scanner<'_>, position: usize, text: &str) -> Result<String, Error> {
    if !text.starts_with('"') {
        return Err(scanner.error(position, "only double quotes may be used here"));
    }
    unquoted(scanner, position, text)
}

fn unquoted(scanner: &Scanner<'_>, position: usize, text: &str) -> Result<String, Error> {
    unquote(text).ok_or_else(|| scanner.error(position, "bad escape in quoted text"))
}
