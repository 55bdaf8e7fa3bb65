//! `-e`, `--env-file`, `-l` and `--label-file`.

/// A check of one `-e`.
pub fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(())
}

/// The value of one `-e`: `NAME` alone takes the value of the caller's environment, and stays
/// `NAME` (which removes it in the container) when it has none.
pub fn with_value(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    if text.contains('=') {
        return text.to_owned();
    }
    match lookup(text) {
        Some(value) => format!("{text}={value}"),
        None => text.to_owned(),
    }
}

/// The pairs of an `--env-file`; `NAME` alone is dropped when the caller's environment has no
/// such name.
pub fn file(
    path: &str,
    content: &[u8],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    lines(path, content, |name| {
        lookup(name).map(|value| format!("{name}={value}"))
    })
}

/// The pairs of a `--label-file`; a name alone is a label with an empty value.
pub fn label_file(path: &str, content: &[u8]) -> Result<Vec<String>, String> {
    lines(path, content, |name| Some(name.to_owned()))
}

fn lines(
    path: &str,
    content: &[u8],
    bare: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let fail = |why: String| format!("invalid env file ({path}): {why}");
    // Editors on Windows put a byte order mark in front.
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut out = Vec::new();
    for (at, raw) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(raw).map_err(|_| {
            fail(format!(
                "invalid utf8 bytes at line {}: {}",
                at + 1,
                String::from_utf8_lossy(raw)
            ))
        })?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(fail(format!("no variable name on line '{line}'")));
        }
        if name.contains(char::is_whitespace) {
            return Err(fail(format!("variable '{name}' contains whitespaces")));
        }
        match value {
            Some(value) => out.push(format!("{name}={value}")),
            None => out.extend(bare(name)),
        }
    }
    Ok(out)
}

/// Splits `key=value`; a key alone has an empty value.
pub fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn bare_names_take_the_callers_value() {
        assert_eq!(with_value("HOME", lookup), "HOME=/root");
        assert_eq!(with_value("NOPE", lookup), "NOPE");
        assert_eq!(with_value("A=", lookup), "A=");
    }

    #[test]
    fn files_have_comments_and_bare_names() {
        let read = file(
            "f",
            b"\xef\xbb\xbf# c\n A=1 \n\nHOME\nNOPE\nB=x=y\r\n",
            lookup,
        )
        .unwrap();
        assert_eq!(read, ["A=1 ", "HOME=/root", "B=x=y"]);
        assert_eq!(label_file("f", b"a\nb=c").unwrap(), ["a", "b=c"]);
        assert!(
            file("f", b"a b=c", lookup)
                .unwrap_err()
                .contains("contains whitespaces")
        );
        assert!(
            file("f", b"=c", lookup)
                .unwrap_err()
                .contains("no variable name")
        );
        assert!(file("f", b"\xff", lookup).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(content in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = file("f", &content, lookup);
        }
    }
}
