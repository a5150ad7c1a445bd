//! Go's string escapes, with the quotes the filter language adds.

/// Reads a quoted text, quotes included, to what it means. `None`: a bad escape, or bytes that are not UTF-8.
pub(super) fn unquote(quoted: &str) -> Option<String> {
    let quote = quoted.chars().next()?;
    let mut rest = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '\\' {
            rest = escape(rest, quote, &mut bytes)?;
        } else {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    String::from_utf8(bytes).ok()
}

/// Reads what follows a backslash into `bytes`; returns what is left.
fn escape<'a>(rest: &'a str, quote: char, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let c = rest.chars().next()?;
    let tail = &rest[c.len_utf8()..];
    let simple = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        'x' => return number(tail, 2, 16).and_then(|(value, left)| push_byte(value, left, bytes)),
        '0'..='7' => return number(rest, 3, 8).and_then(|(value, left)| push_byte(value, left, bytes)),
        'u' => return number(tail, 4, 16).and_then(|(value, left)| push_char(value, left, bytes)),
        'U' => return number(tail, 8, 16).and_then(|(value, left)| push_char(value, left, bytes)),
        _ if c == quote && c.is_ascii() => u8::try_from(c).ok()?,
        _ => return None,
    };
    bytes.push(simple);
    Some(tail)
}

/// Exactly `digits` digits of base `radix`.
fn number(text: &str, digits: usize, radix: u32) -> Option<(u32, &str)> {
    let (head, tail) = text.split_at_checked(digits)?;
    if !head.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some((u32::from_str_radix(head, radix).ok()?, tail))
}

fn push_byte<'a>(value: u32, tail: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    bytes.push(u8::try_from(value).ok()?);
    Some(tail)
}

fn push_char<'a>(value: u32, tail: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    bytes.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(tail)
}
