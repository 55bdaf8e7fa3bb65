//! `--log-driver` and `--log-opt` to a [`LogTarget`].
//!
//! Everything is checked when a container is created, with Docker's sentences. Unlike Docker,
//! files are bounded when nothing is said: see the `DEFAULT_` constants. Who sets `max-size`
//! alone gets Docker's single file.

use std::collections::BTreeMap;
use std::path::Path;

use wharf_fault::{Fault, Kind};

use crate::target::{Driver, LogTarget};

/// json-file without options: rotate at this size …
pub const DEFAULT_JSON_FILE_SIZE: u64 = 100_000_000;
/// … and keep this many files.
pub const DEFAULT_JSON_FILE_COUNT: u32 = 3;
/// Docker's defaults for the driver `local`.
pub const DEFAULT_LOCAL_SIZE: u64 = 20 << 20;
/// Docker's defaults for the driver `local`.
pub const DEFAULT_LOCAL_COUNT: u32 = 5;

/// A log driver or option that can not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Not a driver Docker knows.
    #[error("logger: no log driver named '{0}' is registered")]
    UnknownDriver(String),
    /// One of Docker's drivers that Wharf does not offer.
    #[error("log driver '{0}' is not supported by this version of wharf")]
    UnsupportedDriver(String),
    /// An option the driver does not have.
    #[error("unknown log opt '{option}' for {driver} log driver")]
    UnknownOption {
        /// What was given.
        option: String,
        /// The driver's name.
        driver: &'static str,
    },
    /// One of the driver's options that Wharf does not offer.
    #[error("log opt '{option}' for {driver} log driver is not supported by this version of wharf")]
    UnsupportedOption {
        /// What was given.
        option: String,
        /// The driver's name.
        driver: &'static str,
    },
    /// Any other mode than blocking and non-blocking.
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
    /// A buffer without the mode that uses it.
    #[error("logger: max-buffer-size option is only supported with 'mode=non-blocking'")]
    BufferWithoutMode,
    /// Not a size.
    #[error("invalid value for {option}: invalid size: '{value}'")]
    Size {
        /// Which option.
        option: String,
        /// What was given.
        value: String,
    },
    /// A size of nothing or less.
    #[error("max-size must be a positive number")]
    SizeNotPositive,
    /// Not a number of files.
    #[error("invalid value for max-file: strconv.Atoi: parsing {0:?}: invalid syntax")]
    Count(String),
    /// Less than one file.
    #[error("max-file cannot be less than 1")]
    CountTooSmall,
    /// Not a boolean.
    #[error("invalid value for compress: strconv.ParseBool: parsing {0:?}: invalid syntax")]
    Compress(String),
    /// Nothing would ever be compressed.
    #[error("compress cannot be true when max-file is less than 2 or max-size is not set")]
    CompressWithoutRotation,
    /// A tag template with something Wharf's subset does not have.
    #[error("invalid value for tag: {0}")]
    Tag(String),
}

impl Fault for OptionError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnsupportedDriver(_) | Self::UnsupportedOption { .. } => Kind::NotImplemented,
            _ => Kind::InvalidParameter,
        }
    }
}

/// What a tag can name and where attributes are chosen from.
#[derive(Debug, Clone, Default)]
pub struct Subject<'a> {
    /// The container's full id.
    pub id: &'a str,
    /// Its name, without a slash.
    pub name: &'a str,
    /// The image's id, `sha256:…`.
    pub image_id: &'a str,
    /// The image as the user named it.
    pub image_name: &'a str,
    /// The container's labels.
    pub labels: Vec<(&'a str, &'a str)>,
    /// The container's environment, `NAME=value`.
    pub env: Vec<&'a str>,
}

/// Checks a driver and its options without making anything of them.
pub fn validate(driver: &str, options: &BTreeMap<String, String>) -> Result<(), OptionError> {
    resolve(driver, options, &Subject::default(), Path::new("/")).map(|_| ())
}

/// The log of the container `subject` whose directory is `container_dir`.
pub fn resolve(
    driver: &str,
    options: &BTreeMap<String, String>,
    subject: &Subject<'_>,
    container_dir: &Path,
) -> Result<LogTarget, OptionError> {
    let driver = parse_driver(driver)?;
    if driver == Driver::None {
        // Docker ignores the options of this driver, too: there is nothing they could change.
        return Ok(LogTarget::none());
    }
    check_mode(options)?;
    let (mut max_size, mut max_files, mut compress) = (None, None, None);
    let mut attrs = BTreeMap::new();
    for (option, value) in options {
        match (driver, option.as_str()) {
            (_, "mode" | "max-buffer-size") => {}
            (_, "max-size") => max_size = Some(parse_max_size(option, value)?),
            (_, "max-file") => max_files = Some(parse_max_file(value)?),
            (_, "compress") => compress = Some(parse_bool(value)?),
            (Driver::JsonFile, "labels") => attrs.extend(chosen_labels(value, subject)),
            (Driver::JsonFile, "env") => attrs.extend(chosen_env(value, subject)),
            (Driver::JsonFile, "tag") => {
                attrs.insert("tag".to_owned(), expand_tag(value, subject)?);
            }
            (Driver::JsonFile, "labels-regex" | "env-regex") => {
                return Err(OptionError::UnsupportedOption {
                    option: option.clone(),
                    driver: driver.name(),
                });
            }
            _ => {
                return Err(OptionError::UnknownOption {
                    option: option.clone(),
                    driver: driver.name(),
                });
            }
        }
    }
    let target = match driver {
        Driver::JsonFile => LogTarget {
            driver,
            path: container_dir.join(format!("{}-json.log", subject.id)),
            max_files: max_files.unwrap_or(if max_size.is_some() {
                1
            } else {
                DEFAULT_JSON_FILE_COUNT
            }),
            max_size: max_size.unwrap_or(Some(DEFAULT_JSON_FILE_SIZE)),
            compress: compress.unwrap_or(false),
            attrs,
        },
        Driver::Local | Driver::None => {
            let max_files = max_files.unwrap_or(DEFAULT_LOCAL_COUNT);
            LogTarget {
                driver,
                path: container_dir.join("local-logs").join("container.log"),
                max_files,
                max_size: max_size.unwrap_or(Some(DEFAULT_LOCAL_SIZE)),
                compress: compress.unwrap_or(max_files > 1),
                attrs,
            }
        }
    };
    if target.compress && (target.max_files < 2 || target.max_size.is_none()) {
        return Err(OptionError::CompressWithoutRotation);
    }
    Ok(target)
}

fn parse_driver(name: &str) -> Result<Driver, OptionError> {
    match name {
        "" | "json-file" => Ok(Driver::JsonFile),
        "local" => Ok(Driver::Local),
        "none" => Ok(Driver::None),
        "syslog" | "journald" | "fluentd" | "gelf" | "awslogs" | "splunk" | "gcplogs"
        | "etwlogs" => Err(OptionError::UnsupportedDriver(name.to_owned())),
        _ => Err(OptionError::UnknownDriver(name.to_owned())),
    }
}

/// Both modes are the same here: writing a local file never waits for a receiver.
fn check_mode(options: &BTreeMap<String, String>) -> Result<(), OptionError> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(OptionError::Mode(mode.to_owned()));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(OptionError::BufferWithoutMode);
        }
        parse_size(size, 1024).ok_or_else(|| OptionError::Size {
            option: "max-buffer-size".to_owned(),
            value: size.clone(),
        })?;
    }
    Ok(())
}

fn parse_max_size(option: &str, value: &str) -> Result<Option<u64>, OptionError> {
    if value == "-1" {
        // What Docker's documentation names as the unbounded default.
        return Ok(None);
    }
    if value.starts_with('-') {
        return Err(OptionError::SizeNotPositive);
    }
    match parse_size(value, 1000) {
        Some(0) => Err(OptionError::SizeNotPositive),
        Some(size) => Ok(Some(size)),
        None => Err(OptionError::Size {
            option: option.to_owned(),
            value: value.to_owned(),
        }),
    }
}

/// A size as users write it, `10m`, `1.5 GB`, in multiples of `unit` (1000 or 1024).
fn parse_size(value: &str, unit: u64) -> Option<u64> {
    let number_end = value
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(value.len());
    let number: f64 = value[..number_end].parse().ok()?;
    let suffix = value[number_end..].trim_start().to_ascii_lowercase();
    let suffix = suffix.strip_suffix('b').unwrap_or(&suffix);
    let power = match suffix.strip_suffix('i').unwrap_or(suffix) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let size = number * (unit as f64).powi(power);
    // Above 2^53 a float would not be exact, and no disk is that large.
    (size.is_finite() && size <= 9e15).then_some(size as u64)
}

fn parse_max_file(value: &str) -> Result<u32, OptionError> {
    let count: i64 = value
        .parse()
        .map_err(|_| OptionError::Count(value.to_owned()))?;
    if count < 1 {
        return Err(OptionError::CountTooSmall);
    }
    u32::try_from(count).map_err(|_| OptionError::Count(value.to_owned()))
}

/// Go's `strconv.ParseBool`.
fn parse_bool(value: &str) -> Result<bool, OptionError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(OptionError::Compress(value.to_owned())),
    }
}

fn chosen_labels<'a>(
    names: &'a str,
    subject: &'a Subject<'_>,
) -> impl Iterator<Item = (String, String)> + 'a {
    names.split(',').filter_map(|name| {
        let (key, value) = subject.labels.iter().find(|(key, _)| *key == name)?;
        Some(((*key).to_owned(), (*value).to_owned()))
    })
}

fn chosen_env<'a>(
    names: &'a str,
    subject: &'a Subject<'_>,
) -> impl Iterator<Item = (String, String)> + 'a {
    names.split(',').filter_map(|name| {
        let mut pairs = subject.env.iter().filter_map(|pair| pair.split_once('='));
        let (key, value) = pairs.find(|(key, _)| *key == name)?;
        Some((key.to_owned(), value.to_owned()))
    })
}

/// Expands `{{.Name}}` and its like. Templates with more than fields are refused.
fn expand_tag(template: &str, subject: &Subject<'_>) -> Result<String, OptionError> {
    let short = |id: &str| {
        id.trim_start_matches("sha256:")
            .chars()
            .take(12)
            .collect::<String>()
    };
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let (action, after) = after
            .split_once("}}")
            .ok_or_else(|| OptionError::Tag(format!("unclosed action in {template:?}")))?;
        match action.trim() {
            ".ID" => out.push_str(&short(subject.id)),
            ".FullID" => out.push_str(subject.id),
            ".Name" => out.push_str(subject.name),
            ".ImageID" => out.push_str(&short(subject.image_id)),
            ".ImageFullID" => out.push_str(subject.image_id),
            ".ImageName" => out.push_str(subject.image_name),
            ".DaemonName" => out.push_str("docker"),
            other => {
                return Err(OptionError::Tag(format!(
                    "`{{{{{other}}}}}` is not supported by this version of wharf"
                )));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn target(driver: &str, pairs: &[(&str, &str)]) -> Result<LogTarget, String> {
        let subject = Subject {
            id: "0123456789abcdef",
            name: "web",
            image_id: "sha256:fedcba9876543210",
            image_name: "nginx:1",
            labels: vec![("a", "1"), ("b", "2")],
            env: vec!["E=x", "F=y=z"],
        };
        resolve(driver, &options(pairs), &subject, Path::new("/c"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn logs_are_bounded_by_default() {
        let json = target("json-file", &[]).unwrap();
        assert_eq!(
            (json.max_size, json.max_files, json.compress),
            (Some(100_000_000), 3, false)
        );
        assert_eq!(json.path, Path::new("/c/0123456789abcdef-json.log"));
        let local = target("local", &[]).unwrap();
        assert_eq!(
            (local.max_size, local.max_files, local.compress),
            (Some(20 << 20), 5, true)
        );
        assert_eq!(
            target("none", &[("whatever", "x")]).unwrap(),
            LogTarget::none()
        );
    }

    #[test]
    fn options_count() {
        let json = target(
            "json-file",
            &[
                ("max-size", "10m"),
                ("max-file", "4"),
                ("compress", "true"),
                ("labels", "b,zz"),
                ("env", "F"),
                ("tag", "{{.Name}}/{{ .ID }}"),
            ],
        )
        .unwrap();
        assert_eq!(
            (json.max_size, json.max_files, json.compress),
            (Some(10_000_000), 4, true)
        );
        assert_eq!(
            json.attrs,
            options(&[("F", "y=z"), ("b", "2"), ("tag", "web/0123456789ab")])
        );
        assert_eq!(
            target("json-file", &[("max-size", "5k")])
                .unwrap()
                .max_files,
            1
        );
        assert_eq!(
            target("json-file", &[("max-size", "-1")]).unwrap().max_size,
            None
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (driver, pairs, message) in [
            (
                "json-file",
                ("x", "y"),
                "unknown log opt 'x' for json-file log driver",
            ),
            (
                "local",
                ("labels", "y"),
                "unknown log opt 'labels' for local log driver",
            ),
            (
                "nope",
                ("x", "y"),
                "logger: no log driver named 'nope' is registered",
            ),
            (
                "json-file",
                ("max-file", "0"),
                "max-file cannot be less than 1",
            ),
            (
                "json-file",
                ("max-size", "0"),
                "max-size must be a positive number",
            ),
            (
                "json-file",
                ("max-size", "ten"),
                "invalid value for max-size: invalid size: 'ten'",
            ),
            (
                "json-file",
                ("mode", "fast"),
                "logger: logging mode not supported: fast",
            ),
        ] {
            assert_eq!(target(driver, &[pairs]).unwrap_err(), message);
        }
        assert!(target("json-file", &[("compress", "true"), ("max-size", "1m")]).is_err());
        assert_eq!(
            resolve("syslog", &options(&[]), &Subject::default(), Path::new("/"))
                .unwrap_err()
                .kind(),
            Kind::NotImplemented
        );
    }
}
