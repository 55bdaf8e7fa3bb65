//! One line of comma separated values with Go's quoting rules (`encoding/csv`).

/// Splits one line into its fields; the empty text has none.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    if text.is_empty() {
        return Ok(out);
    }
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = quoted_field(text, quoted)?;
            out.push(field);
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => return Ok(out),
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let field = &rest[..end];
            if let Some(at) = field.find('"') {
                let column = text.len() - rest.len() + at + 1;
                return Err(format!(
                    "parse error on line 1, column {column}: bare \" in non-quoted-field"
                ));
            }
            out.push(field.to_owned());
            if end == rest.len() {
                return Ok(out);
            }
            rest = &rest[end + 1..];
        }
    }
}

/// Reads after an opening quote; returns the field and what follows the closing quote.
fn quoted_field<'a>(whole: &str, mut rest: &'a str) -> Result<(String, &'a str), String> {
    let mut field = String::new();
    loop {
        let Some(end) = rest.find('"') else {
            return Err(format!(
                "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                whole.len() + 1
            ));
        };
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        if let Some(more) = rest.strip_prefix('"') {
            field.push('"');
            rest = more;
        } else if rest.is_empty() || rest.starts_with(',') {
            return Ok((field, rest));
        } else {
            let column = whole.len() - rest.len();
            return Err(format!(
                "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fields;

    #[test]
    fn quotes_protect_commas() {
        assert_eq!(
            fields("a,\"b,c\",\"d\"\"e\",").unwrap(),
            ["a", "b,c", "d\"e", ""]
        );
        assert!(fields("a\"b").is_err());
        assert!(fields("\"a").is_err());
        assert!(fields("\"a\"b").is_err());
        assert!(fields("").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn quoted_fields_round_trip(values in prop::collection::vec("[a-z,\" ]{1,8}", 1..5)) {
            let line = values.iter().map(|v| format!("\"{}\"", v.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
            prop_assert_eq!(fields(&line).unwrap(), values);
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = fields(&text);
        }
    }
}
