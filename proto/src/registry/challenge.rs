//! `WWW-Authenticate`: the challenges of RFC 9110, section 11.

/// One challenge: a scheme and its parameters, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, in lower case.
    pub scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Value of the first parameter with a name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads a header's challenges. What breaks the grammar ends the reading; what came before it counts.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(rest);
        if name.is_empty() {
            return challenges;
        }
        let after_space = after.trim_start_matches([' ', '\t']);
        let value = after_space.strip_prefix('=');
        match (value, challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = parameter_value(value) else {
                    return challenges;
                };
                challenge.parameters.push((name.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge {
                    scheme: name.to_ascii_lowercase(),
                    parameters: Vec::new(),
                });
                rest = after;
            }
        }
    }
}

/// A leading token, and what follows.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or quoted string, and what follows.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = token(text);
        return Some((value.to_owned(), after.trim_start_matches('=')));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bearer_challenge_with_commas_and_quotes() {
        let header = r#"Bearer realm="https://auth.example/token",service=registry , scope="repository:a/b:pull,push", x="a\"b""#;
        let [challenge] = parse(header).try_into().unwrap();
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.parameter("realm"), Some("https://auth.example/token"));
        assert_eq!(challenge.parameter("service"), Some("registry"));
        assert_eq!(challenge.parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(challenge.parameter("x"), Some("a\"b"));
        assert_eq!(challenge.parameter("y"), None);
    }

    #[test]
    fn several_challenges_in_one_header() {
        let schemes = |header| {
            parse(header)
                .into_iter()
                .map(|challenge| challenge.scheme)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            schemes(r#"Negotiate, Basic realm="x", Bearer realm="y""#),
            ["negotiate", "basic", "bearer"]
        );
        assert_eq!(schemes("Negotiate abc==, BASIC"), ["negotiate", "basic"]);
        assert_eq!(schemes(""), [""; 0]);
        assert_eq!(schemes(r#"Basic realm="unclosed"#), ["basic"]);
        assert_eq!(schemes("=broken"), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(header in "[a-zA-Z =\",\\\\;é]{0,60}") {
            parse(&header);
        }
    }
}
