//! `--ulimit`: `NAME=SOFT[:HARD]`.

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Name as in `ulimit`.
    pub name: String,
    /// Soft limit, -1 for none.
    pub soft: i64,
    /// Hard limit, -1 for none.
    pub hard: i64,
}

const NAMES: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Parses one `--ulimit`.
pub fn parse(text: &str) -> Result<Ulimit, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |part: &str| {
        part.parse::<i64>().map_err(|_| {
            format!(
                "strconv.ParseInt: parsing {}: invalid syntax",
                crate::matches::go_quote(part)
            )
        })
    };
    let (soft, hard) = match value.split_once(':') {
        Some((_, hard)) if hard.contains(':') => {
            return Err(format!(
                "too many limit value arguments - {value}, can only have up to two, `soft[:hard]`"
            ));
        }
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => {
            let both = number(value)?;
            (both, both)
        }
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// A check of one `--ulimit`.
pub fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(
            parse("nofile=1:2"),
            Ok(Ulimit {
                name: "nofile".into(),
                soft: 1,
                hard: 2
            })
        );
        assert_eq!(
            parse("core=-1"),
            Ok(Ulimit {
                name: "core".into(),
                soft: -1,
                hard: -1
            })
        );
        for text in [
            "nofile",
            "foo=1",
            "nofile=2:1",
            "nofile=-1:5",
            "nofile=1:2:3",
            "nofile=x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-z]{0,8}=?[-0-9:]{0,20}") {
            let _ = parse(&text);
        }
    }
}
