//! `WWW-Authenticate`: what a registry wants to see (RFC 9110 section 11.6.1).

/// Longest header we look at, in bytes.
const LENGTH_MAX: usize = 8 << 10;

/// Most challenges, and most parameters of one, we look at.
const COUNT_MAX: usize = 16;

/// One way to prove oneself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(crate) scheme: String,
    /// Names in lower case, in order.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value, empty when it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Reads all challenges of one header value. What cannot be read ends the list.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    if header.len() > LENGTH_MAX {
        return challenges;
    }
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((word, tail)) = token(rest) else {
            return challenges;
        };
        let after = tail.trim_start_matches([' ', '\t']);
        if let Some(value) = after.strip_prefix('=') {
            // `name=value` belongs to the challenge before.
            let Some(challenge) = challenges.last_mut() else {
                return challenges;
            };
            let Some((value, tail)) = parameter_value(value) else {
                return challenges;
            };
            if challenge.parameters.len() == COUNT_MAX {
                return challenges;
            }
            challenge
                .parameters
                .push((word.to_ascii_lowercase(), value));
            rest = tail;
        } else {
            if challenges.len() == COUNT_MAX {
                return challenges;
            }
            let scheme = word.to_ascii_lowercase();
            challenges.push(Challenge {
                scheme,
                parameters: Vec::new(),
            });
            rest = tail;
        }
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let end = text
        .bytes()
        .position(|b| !is_token(b))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn parameter_value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, tail)| (value.to_owned(), tail));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_as_registries_send_them() {
        let found = parse(
            "Bearer realm=\"https://auth.example/token\",service=\"reg, \\\"x\\\"\",scope=\"repository:a/b:pull,push\" , error=insufficient_scope",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].get("realm"), "https://auth.example/token");
        assert_eq!(found[0].get("service"), "reg, \"x\"");
        assert_eq!(found[0].get("scope"), "repository:a/b:pull,push");
        assert_eq!(found[0].get("error"), "insufficient_scope");
        assert_eq!(found[0].get("nothing"), "");

        let found = parse("BASIC Realm=x, Bearer realm=\"y\"");
        let schemes: Vec<_> = found
            .iter()
            .map(|challenge| challenge.scheme.as_str())
            .collect();
        assert_eq!(schemes, ["basic", "bearer"]);
        assert_eq!((found[0].get("realm"), found[1].get("realm")), ("x", "y"));
    }

    #[test]
    fn what_cannot_be_read_ends_the_list() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("=x"), []);
        assert_eq!(parse("\"Basic\""), []);
        assert_eq!(parse("Basic realm=\"open").len(), 1);
        assert_eq!(
            parse(&format!("Basic realm=\"{}\"", "x".repeat(10_000))),
            []
        );
        assert_eq!(parse(&"a ".repeat(1000)).len(), COUNT_MAX);
    }

    proptest! {
        #[test]
        fn any_header_is_read(header in "\\PC{0,200}") {
            let found = parse(&header);
            prop_assert!(found.len() <= COUNT_MAX);
        }

        #[test]
        fn what_is_written_is_read(
            scheme in "[A-Za-z]{1,10}",
            parameters in prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,20}"), 0..COUNT_MAX),
        ) {
            let mut header = scheme.clone();
            for (index, (name, value)) in parameters.iter().enumerate() {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                let separator = if index == 0 { " " } else { ", " };
                header.push_str(&format!("{separator}{name}=\"{value}\""));
            }
            let found = parse(&header);
            prop_assert_eq!(
                found,
                vec![Challenge { scheme: scheme.to_ascii_lowercase(), parameters }]
            );
        }
    }
}
