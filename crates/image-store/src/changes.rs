//! `--change` of `import` and `commit`: single Dockerfile instructions that change an image's
//! configuration. Instructions that need a build are refused in Docker's words.

use wharf_oci::image::{ContainerDefaults, Healthcheck, Present};

use crate::error::ImageError;

/// Applies instructions one after the other to an empty configuration.
pub(crate) fn apply_changes(changes: &[String]) -> Result<ContainerDefaults, ImageError> {
    let mut config = ContainerDefaults::default();
    for change in changes {
        for line in change
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            apply_change(&mut config, line)?;
        }
    }
    Ok(config)
}

fn apply_change(config: &mut ContainerDefaults, line: &str) -> Result<(), ImageError> {
    let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let instruction = instruction.to_ascii_uppercase();
    let rest = rest.trim();
    let invalid = |text: String| Err(ImageError::Change(text));
    if rest.is_empty() && !matches!(instruction.as_str(), "CMD" | "ENTRYPOINT") {
        return invalid(format!("{instruction} requires at least one argument"));
    }
    match instruction.as_str() {
        "CMD" => config.cmd = Some(command(rest)?),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)?),
        "ENV" => {
            for (name, value) in pairs("ENV", rest)? {
                let prefix = format!("{name}=");
                let text = format!("{prefix}{value}");
                match config
                    .env
                    .iter_mut()
                    .find(|known| known.starts_with(&prefix))
                {
                    Some(known) => *known = text,
                    None => config.env.push(text),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs("LABEL", rest)?),
        "EXPOSE" => {
            for word in words(rest)? {
                config
                    .exposed_ports
                    .extend(ports(&word)?.into_iter().map(|port| (port, Present {})));
            }
        }
        "VOLUME" => {
            let paths = match json_words(rest)? {
                Some(paths) => paths,
                None => words(rest)?,
            };
            for path in paths {
                if path.trim().is_empty() {
                    return invalid("VOLUME specified can not be an empty string".to_owned());
                }
                config.volumes.insert(path, Present {});
            }
        }
        "USER" => config.user = single("USER", rest)?,
        "WORKDIR" => {
            let path = single("WORKDIR", rest)?;
            config.working_dir = join(&config.working_dir, &path);
        }
        "STOPSIGNAL" => config.stop_signal = signal(&single("STOPSIGNAL", rest)?)?,
        "ONBUILD" => {
            let trigger = rest
                .split_whitespace()
                .next()
                .unwrap_or("")
                .to_ascii_uppercase();
            match trigger.as_str() {
                "ONBUILD" => {
                    return invalid(
                        "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
                    );
                }
                "MAINTAINER" | "FROM" => {
                    return invalid(format!("{trigger} isn't allowed as an ONBUILD trigger"));
                }
                _ => config.on_build.push(rest.to_owned()),
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        "SHELL" | "RUN" | "COPY" | "ADD" | "FROM" | "ARG" | "MAINTAINER" => {
            return invalid(format!(
                "{} is not a valid change command",
                instruction.to_ascii_lowercase()
            ));
        }
        _ => return invalid(format!("unknown instruction: {instruction}")),
    }
    Ok(())
}

/// A command: a JSON list of words, or a text for the shell.
fn command(text: &str) -> Result<Vec<String>, ImageError> {
    if let Some(words) = json_words(text)? {
        return Ok(words);
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

/// A JSON list of strings. What begins like one but is none is a shell text, as in Docker.
fn json_words(text: &str) -> Result<Option<Vec<String>>, ImageError> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    Ok(serde_json::from_str(text).ok())
}

fn single(instruction: &str, text: &str) -> Result<String, ImageError> {
    // Everything behind the instruction, blanks included, is the value.
    match words(text)?.as_slice() {
        [] => Err(ImageError::Change(format!(
            "{instruction} requires exactly one argument"
        ))),
        [word] => Ok(word.clone()),
        _ if instruction == "WORKDIR" => Ok(text.to_owned()),
        _ => Err(ImageError::Change(format!(
            "{instruction} requires exactly one argument"
        ))),
    }
}

/// `NAME=value …` or the old form `NAME the rest`.
fn pairs(instruction: &str, text: &str) -> Result<Vec<(String, String)>, ImageError> {
    let first = words(text)?.first().cloned().unwrap_or_default();
    if !first.contains('=') {
        let Some((name, value)) = text.split_once(char::is_whitespace) else {
            return Err(ImageError::Change(format!(
                "{instruction} must have two arguments"
            )));
        };
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words(text)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(ImageError::Change(format!(
                "{instruction} names can not be blank"
            ))),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(ImageError::Change(format!(
                "Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
            ))),
        })
        .collect()
}

/// Splits at blanks; quotes keep them, a backslash keeps the next character.
fn words(text: &str) -> Result<Vec<String>, ImageError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => match characters.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => word.get_or_insert_default().push('\\'),
            },
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(ImageError::Change(format!(
            "unexpected end of statement while looking for matching quote: {text}"
        )));
    }
    words.extend(word);
    Ok(words)
}

/// `80`, `80/udp`, `8000-8010/tcp` as the configuration lists them: one entry for each port.
fn ports(text: &str) -> Result<Vec<String>, ImageError> {
    let invalid = || ImageError::Change(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(ImageError::Change(format!("invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |digits: &str| digits.parse::<u16>().map_err(|_| invalid());
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn join(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn signal(text: &str) -> Result<String, ImageError> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = ["RTMIN", "RTMAX"].iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest[1..].parse::<u8>().is_ok())
    });
    let number = text
        .parse::<u8>()
        .is_ok_and(|number| (1..=64).contains(&number));
    if NAMES.contains(&name) || matches!(name, "IOT" | "CLD" | "POLL") || real_time || number {
        return Ok(text.to_owned());
    }
    Err(ImageError::Change(format!("Invalid signal: {text}")))
}

fn healthcheck(text: &str) -> Result<Healthcheck, ImageError> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option
            .split_once(char::is_whitespace)
            .unwrap_or((option, ""));
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| ImageError::Change(format!("Missing a value on flag: {option}")))?;
        match name {
            "interval" => check.interval_nanos = duration(name, value)?,
            "timeout" => check.timeout_nanos = duration(name, value)?,
            "start-period" => check.start_period_nanos = duration(name, value)?,
            "start-interval" => check.start_interval_nanos = duration(name, value)?,
            "retries" => {
                check.retries = value
                    .parse()
                    .ok()
                    .filter(|retries| *retries >= 0)
                    .ok_or_else(|| ImageError::Change("--retries cannot be negative".to_owned()))?;
            }
            _ => return Err(ImageError::Change(format!("Unknown flag: {name}"))),
        }
        rest = after.trim_start();
    }
    let (kind, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if argument.trim().is_empty() => vec!["NONE".to_owned()],
        "NONE" => {
            return Err(ImageError::Change(
                "HEALTHCHECK NONE takes no arguments".to_owned(),
            ));
        }
        "CMD" => {
            let argument = argument.trim();
            match json_words(argument)? {
                Some(words) if !words.is_empty() => {
                    std::iter::once("CMD".to_owned()).chain(words).collect()
                }
                None if !argument.is_empty() => vec!["CMD-SHELL".to_owned(), argument.to_owned()],
                _ => {
                    return Err(ImageError::Change(
                        "Missing command after HEALTHCHECK CMD".to_owned(),
                    ));
                }
            }
        }
        other => {
            let text = format!("Unknown type \"{other}\" in HEALTHCHECK (try CMD)");
            return Err(ImageError::Change(text));
        }
    };
    Ok(check)
}

/// A Go duration (`1m30s`, `500ms`) of at least a millisecond, in nanoseconds; 0 is the default.
fn duration(flag: &str, text: &str) -> Result<i64, ImageError> {
    let invalid = || ImageError::Change(format!("time: invalid duration \"{text}\""));
    let mut nanos = 0_f64;
    let mut rest = text;
    if rest == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        let (scale, length) = match &rest[digits..] {
            unit if unit.starts_with("ns") => (1.0, 2),
            unit if unit.starts_with("us") => (1e3, 2),
            unit if unit.starts_with("µs") => (1e3, 3),
            unit if unit.starts_with("ms") => (1e6, 2),
            unit if unit.starts_with('s') => (1e9, 1),
            unit if unit.starts_with('m') => (60e9, 1),
            unit if unit.starts_with('h') => (3600e9, 1),
            _ => return Err(invalid()),
        };
        nanos += number * scale;
        rest = &rest[digits + length..];
    }
    if text.is_empty() || nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    if nanos > 0.0 && nanos < 1e6 {
        return Err(ImageError::Change(format!(
            "Interval \"{flag}\" cannot be less than 1ms"
        )));
    }
    Ok(nanos as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changed(changes: &[&str]) -> ContainerDefaults {
        apply_changes(
            &changes
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>(),
        )
        .unwrap()
    }

    #[test]
    fn every_instruction_changes_its_field() {
        let config = changed(&[
            "CMD [\"a\", \"b c\"]",
            "ENTRYPOINT run this",
            "ENV A=1 B=\"two words\"",
            "ENV C the rest",
            "ENV A=3",
            "EXPOSE 80 53/udp 9000-9001",
            "USER nobody:nogroup",
            "WORKDIR /srv",
            "WORKDIR www",
            "VOLUME /data /logs",
            "VOLUME [\"/with blank\"]",
            "LABEL a=b \"c d\"=e",
            "ONBUILD RUN make",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD curl localhost",
        ]);
        assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run this"]);
        assert_eq!(config.env, ["A=3", "B=two words", "C=the rest"]);
        assert_eq!(
            config.exposed_ports.keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp", "9000/tcp", "9001/tcp"]
        );
        assert_eq!(config.user, "nobody:nogroup");
        assert_eq!(config.working_dir, "/srv/www");
        assert_eq!(
            config.volumes.keys().collect::<Vec<_>>(),
            ["/data", "/logs", "/with blank"]
        );
        assert_eq!(config.labels["a"], "b");
        assert_eq!(config.labels["c d"], "e");
        assert_eq!(config.on_build, ["RUN make"]);
        assert_eq!(config.stop_signal, "SIGINT");
        let check = config.healthcheck.unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "curl localhost"]);
        assert_eq!(
            (check.interval_nanos, check.timeout_nanos, check.retries),
            (90_000_000_000, 500_000_000, 2)
        );
    }

    #[test]
    fn wrong_instructions_are_named() {
        for (change, message) in [
            ("RUN make", "run is not a valid change command"),
            ("NONSENSE x", "unknown instruction: NONSENSE"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV ALONE", "ENV must have two arguments"),
            ("EXPOSE 99999", "invalid containerPort: 99999"),
            ("EXPOSE 80/icmp", "invalid proto: icmp"),
            ("STOPSIGNAL NONSENSE", "Invalid signal: NONSENSE"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            (
                "HEALTHCHECK WHAT",
                "Unknown type \"WHAT\" in HEALTHCHECK (try CMD)",
            ),
        ] {
            assert_eq!(
                apply_changes(&[change.to_owned()]).unwrap_err().to_string(),
                message,
                "{change}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_applied_or_refused(text in "(CMD|ENV|EXPOSE|HEALTHCHECK|STOPSIGNAL|LABEL|WORKDIR|VOLUME) \\PC{0,60}") {
            drop(apply_changes(&[text]));
        }
    }
}
