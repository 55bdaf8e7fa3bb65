//! The log: where callers find out why something failed. With `--log` lines go to that file, else
//! to standard error.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use wharf_logs::timestamp::{Stamp, now_ns};

use crate::error::{Error, Result};

/// Where log lines go and what they look like.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Debug,
    Warning,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Log {
    /// A log in `file`, made if it is missing and added to if it is there.
    pub(crate) fn open(file: Option<&str>, format: Option<&str>, debug: bool) -> Result<Self> {
        let json = match format {
            None | Some("text" | "") => false,
            Some("json") => true,
            Some(other) => {
                return Err(Error::Usage(format!("invalid log-format: {other}")));
            }
        };
        let file = match file.filter(|path| !path.is_empty()) {
            Some(path) => Some(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(Error::file("open log", Path::new(path)))?,
            ),
            None => None,
        };
        Ok(Self { file, json, debug })
    }

    /// Why the command fails: always on standard error too, for whoever runs it by hand.
    pub(crate) fn error(&self, message: &str) {
        if self.file.is_some() {
            self.line(Level::Error, message);
        }
        say(&format!("{message}\n"));
    }

    pub(crate) fn warning(&self, message: &str) {
        self.line(Level::Warning, message);
    }

    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.line(Level::Debug, message);
        }
    }

    fn line(&self, level: Level, message: &str) {
        let seconds = now_ns().div_euclid(1_000_000_000) * 1_000_000_000;
        let line = render(self.json, level, message, seconds);
        match &self.file {
            // Where it cannot be written there is nowhere to say so.
            Some(file) => drop((&*file).write_all(line.as_bytes())),
            None => say(&line),
        }
    }
}

fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn render(json: bool, level: Level, message: &str, at_ns: i64) -> String {
    let stamp = Stamp::trimmed(at_ns);
    let time = String::from_utf8_lossy(stamp.as_bytes());
    let level = level.name();
    if json {
        let message = serde_json::Value::from(message);
        format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
    } else {
        format!("time=\"{time}\" level={level} msg={message:?}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_logrus_lines() {
        assert_eq!(
            render(true, Level::Error, "exec: \"x\"\n", 0),
            "{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\"\\n\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(
            render(false, Level::Warning, "a \"b\"", 0),
            "time=\"1970-01-01T00:00:00Z\" level=warning msg=\"a \\\"b\\\"\"\n"
        );
    }

    #[test]
    fn lines_are_added() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log").display().to_string();
        for _ in 0..2 {
            let log = Log::open(Some(&path), Some("json"), false).unwrap();
            log.warning("w");
            log.debug("not shown");
        }
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
        assert!(Log::open(None, Some("xml"), false).is_err());
    }
}
