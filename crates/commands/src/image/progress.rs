//! The progress stream of pull, push, load and import: one JSON message per event.
//!
//! On a terminal every object with an ID has its own line, which is redrawn in place; elsewhere
//! each change of state is a line and progress itself is left out.

use std::io::Write as _;

use serde_json::Value;
use wharf_client::{JsonLines, Response};

use crate::format::units;
use crate::outcome::{Failure, Outcome};
use crate::terminal;

/// Where the messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    Stderr,
    /// Nowhere; only an error matters.
    Nowhere,
}

/// Shows a stream to its end; an error in it is the result. `aux` sees the messages for programs.
pub(crate) async fn show(
    response: Response,
    target: Target,
    mut aux: impl FnMut(&Value),
) -> Outcome {
    let mut lines: JsonLines = response.json_lines();
    let mut screen = Screen::new(target);
    while let Some(message) = lines.next().await? {
        if let Some(found) = message.get("aux").filter(|found| !found.is_null()) {
            aux(found);
            continue;
        }
        if let Some(failure) = failure(&message) {
            return Err(failure);
        }
        screen.write(&message)?;
    }
    Ok(())
}

fn failure(message: &Value) -> Option<Failure> {
    let detail = &message["errorDetail"];
    let text = detail["message"].as_str().or(message["error"].as_str())?;
    let code = detail["code"]
        .as_i64()
        .and_then(|code| u8::try_from(code).ok())
        .filter(|code| *code != 0);
    Some(Failure::new(text).with_status(code.unwrap_or(1)))
}

/// The lines on the screen, by ID in the order they appeared.
struct Screen {
    target: Target,
    terminal: bool,
    ids: Vec<String>,
}

impl Screen {
    fn new(target: Target) -> Self {
        use std::io::IsTerminal as _;
        let terminal = match target {
            Target::Stdout => std::io::stdout().is_terminal(),
            Target::Stderr => std::io::stderr().is_terminal(),
            Target::Nowhere => false,
        };
        Self {
            target,
            terminal,
            ids: Vec::new(),
        }
    }

    fn write(&mut self, message: &Value) -> Outcome {
        let text = self.render(message);
        let bytes = text.as_bytes();
        match self.target {
            Target::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
            }
            Target::Stderr => std::io::stderr().lock().write_all(bytes)?,
            Target::Nowhere => {}
        }
        Ok(())
    }

    /// The bytes that bring one message to the screen.
    fn render(&mut self, message: &Value) -> String {
        let text = |key: &str| message[key].as_str().unwrap_or_default();
        let id = text("id");
        let progress = message
            .get("progressDetail")
            .filter(|progress| progress.is_object());
        let mut out = String::new();
        let mut up = 0;
        if !id.is_empty() && (progress.is_some() || !text("progress").is_empty()) {
            let line = match self.ids.iter().position(|known| known == id) {
                Some(line) => line,
                None => {
                    self.ids.push(id.to_owned());
                    if self.terminal {
                        out.push('\n');
                    }
                    self.ids.len() - 1
                }
            };
            up = self.ids.len() - line;
            if self.terminal {
                out.push_str(&format!("\x1b[{up}A"));
            }
        } else {
            // Something without a line of its own: the lines above stay as they are.
            self.ids.clear();
        }
        out.push_str(&self.line(message, progress));
        if self.terminal && !id.is_empty() && up > 0 {
            out.push_str(&format!("\x1b[{up}B"));
        }
        out
    }

    fn line(&self, message: &Value, progress: Option<&Value>) -> String {
        let text = |key: &str| message[key].as_str().unwrap_or_default();
        let bar = progress
            .map(|progress| bar(progress, self.width()))
            .unwrap_or_default();
        let mut out = String::new();
        let mut end = "";
        if self.terminal && text("stream").is_empty() && progress.is_some() {
            out.push_str("\x1b[2K\r");
            end = "\r";
        } else if !bar.is_empty() {
            return String::new();
        }
        if !text("id").is_empty() {
            out.push_str(text("id"));
            out.push_str(": ");
        }
        if !text("from").is_empty() {
            out.push_str(&format!("(from {}) ", text("from")));
        }
        if self.terminal && progress.is_some() {
            out.push_str(&format!("{} {bar}{end}", text("status")));
        } else if !text("stream").is_empty() {
            out.push_str(text("stream"));
            out.push_str(end);
        } else {
            out.push_str(text("status"));
            out.push_str(end);
            out.push('\n');
        }
        out
    }

    fn width(&self) -> usize {
        match terminal::size() {
            Some((_, columns)) if self.terminal => usize::from(columns),
            _ => 200,
        }
    }
}

/// `[====>     ]  1.2MB/3.4MB`.
fn bar(progress: &Value, width: usize) -> String {
    let number = |key: &str| progress[key].as_i64().unwrap_or(0);
    let (current, total) = (number("current"), number("total"));
    let units_name = progress["units"].as_str().unwrap_or_default();
    if current <= 0 && total <= 0 {
        return String::new();
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let size = |bytes: i64| units::size4(bytes as f64);
    if total <= 0 {
        return if units_name.is_empty() {
            format!("{:>8}", size(current))
        } else {
            format!("{current} {units_name}")
        };
    }
    let filled = usize::try_from((i128::from(current) * 100 / i128::from(total) / 2).clamp(0, 50))
        .unwrap_or(0);
    let mut out = String::new();
    if width > 110 {
        out.push_str(&format!(
            "[{}>{}] ",
            "=".repeat(filled),
            " ".repeat(50 - filled)
        ));
    }
    if progress["hidecounts"].as_bool() != Some(true) {
        let wonky = current > total;
        match (units_name, wonky) {
            ("", false) => out.push_str(&format!("{:>8}/{}", size(current), size(total))),
            ("", true) => out.push_str(&format!("{:>8}", size(current))),
            (name, false) => out.push_str(&format!("{current}/{total} {name}")),
            (name, true) => out.push_str(&format!("{current} {name}")),
        }
    }
    let start = number("start");
    if current > 0 && start > 0 && filled < 50 && width > 50 {
        let elapsed = jiff::Timestamp::now().as_second() - start;
        let left = i128::from(elapsed) * i128::from(total - current) / i128::from(current);
        out.push_str(&format!(
            " {}",
            seconds(i64::try_from(left.max(0)).unwrap_or(i64::MAX))
        ));
    }
    out
}

/// Go's form of whole seconds: `1h2m3s`.
fn seconds(total: i64) -> String {
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn screen(terminal: bool) -> Screen {
        Screen {
            target: Target::Nowhere,
            terminal,
            ids: Vec::new(),
        }
    }

    #[test]
    fn without_a_terminal_progress_is_left_out() {
        let mut screen = screen(false);
        assert_eq!(
            screen.render(&json!({"status": "Pulling from library/x", "id": "latest"})),
            "latest: Pulling from library/x\n"
        );
        assert_eq!(
            screen.render(&json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "aa"})),
            "aa: Pulling fs layer\n"
        );
        let moving = json!({"status": "Downloading", "progressDetail": {"current": 5, "total": 10}, "id": "aa"});
        assert_eq!(screen.render(&moving), "");
        assert_eq!(
            screen.render(&json!({"stream": "Loaded image: a:b\n"})),
            "Loaded image: a:b\n"
        );
    }

    #[test]
    fn on_a_terminal_each_id_keeps_its_line() {
        let mut screen = screen(true);
        let message = |id: &str| json!({"status": "Waiting", "progressDetail": {}, "id": id});
        assert_eq!(
            screen.render(&message("aa")),
            "\n\x1b[1A\x1b[2K\raa: Waiting \r\x1b[1B"
        );
        assert_eq!(
            screen.render(&message("bb")),
            "\n\x1b[1A\x1b[2K\rbb: Waiting \r\x1b[1B"
        );
        assert_eq!(
            screen.render(&message("aa")),
            "\x1b[2A\x1b[2K\raa: Waiting \r\x1b[2B"
        );
    }

    #[test]
    fn bars_show_how_far_it_is() {
        let half = json!({"current": 1_000_000, "total": 2_000_000});
        assert_eq!(
            bar(&half, 200),
            format!("[{}>{}]      1MB/2MB", "=".repeat(25), " ".repeat(25))
        );
        assert_eq!(bar(&half, 80), "     1MB/2MB");
        assert_eq!(bar(&json!({"current": 5, "units": "s"}), 200), "5 s");
        assert_eq!(bar(&json!({}), 200), "");
        assert_eq!(seconds(3723), "1h2m3s");
    }

    #[test]
    fn errors_end_the_stream() {
        let failure =
            failure(&json!({"errorDetail": {"code": 3, "message": "denied"}, "error": "denied"}))
                .unwrap();
        assert_eq!((failure.text(), failure.status), ("denied", 3));
    }
}
