//! Help texts in Docker's layout.

use std::fmt::Write as _;

use crate::command::{Command, Flag, Kind};

/// The width help is wrapped to: the terminal's on standard input, or 80.
pub(crate) fn width() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col) - 1,
        _ => 79,
    }
}

/// `Usage:  docker ps [OPTIONS]`.
pub(crate) fn usage_line(program: &str, path: &str, command: &Command) -> String {
    let usage = command.usage.replace("{program}", program);
    format!("Usage:  {path} {usage}").trim_end().to_owned()
}

/// The whole help of a command; `path` is the program's name and the command's words.
pub(crate) fn command(program: &str, path: &str, command: &Command, width: usize) -> String {
    let mut out = usage_line(program, path, command);
    let _ = write!(out, "\n\n{}\n", command.long.unwrap_or(command.short));
    if !command.aliases.is_empty() {
        let aliases: Vec<String> = command
            .aliases
            .iter()
            .map(|alias| format!("{program} {alias}"))
            .collect();
        let _ = write!(out, "\nAliases:\n  {}\n", aliases.join(", "));
    }
    let shown = command.flags.iter().any(|flag| !flag.hidden);
    if shown {
        let _ = write!(out, "\nOptions:\n{}", options(command.flags, width));
    }
    out
}

/// The table of flags.
pub(crate) fn options(flags: &[Flag], width: usize) -> String {
    options_with(flags, |_| None, width)
}

/// The same where some defaults are known only now.
pub(crate) fn options_with(
    flags: &[Flag],
    default: impl Fn(&str) -> Option<String>,
    width: usize,
) -> String {
    let mut shown: Vec<&Flag> = flags.iter().filter(|flag| !flag.hidden).collect();
    shown.sort_by_key(|flag| flag.name);
    let lines: Vec<(String, &Flag)> = shown
        .into_iter()
        .map(|flag| {
            let mut left = match flag.short {
                Some(short) => format!("  -{short}, --{}", flag.name),
                None => format!("      --{}", flag.name),
            };
            if !flag.value_word().is_empty() {
                let _ = write!(left, " {}", flag.value_word());
            }
            (left, flag)
        })
        .collect();
    let column = lines.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 3;
    let mut out = String::new();
    for (left, flag) in lines {
        let mut text = flag.help.to_owned();
        let default = default(flag.name).unwrap_or_else(|| flag.default.to_owned());
        if !default.is_empty() {
            let _ = match flag.kind {
                Kind::Text => write!(text, " (default \"{default}\")"),
                _ => write!(text, " (default {default})"),
            };
        }
        let _ = writeln!(out, "{left:column$}{}", wrap(&text, column, width));
    }
    out
}

/// Wraps `text` whose first line starts at `indent`; every further line is indented likewise.
///
/// The rule is `pflag`'s: a line may be five columns longer than wanted when that avoids a word
/// alone on the next line, and text is never squeezed into fewer than 24 columns.
fn wrap(text: &str, indent: usize, width: usize) -> String {
    const SLOP: usize = 5;
    let newline = format!("\n{}", " ".repeat(indent));
    if width <= indent {
        return text.replace('\n', &newline);
    }
    let mut room = width - indent;
    let mut lead = indent;
    let mut out = String::new();
    if room < 24 {
        // Too narrow beside the flag: the text starts on its own line.
        lead = 16;
        room = width.saturating_sub(lead);
        let _ = write!(out, "\n{}", " ".repeat(lead));
    }
    if room < 24 {
        return text.replace('\n', &newline);
    }
    room -= SLOP;
    let separator = format!("\n{}", " ".repeat(lead));
    let (first, mut rest) = split_line(room, SLOP, text);
    out.push_str(&first.replace('\n', &separator));
    while !rest.is_empty() {
        let (line, more) = split_line(room, SLOP, rest);
        out.push_str(&separator);
        out.push_str(&line.replace('\n', &separator));
        rest = more;
    }
    out
}

fn split_line(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    // Flag texts are ASCII; a boundary inside a character would only mean a longer line.
    let mut end = room;
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let Some(blank) = text[..end].rfind([' ', '\t', '\n']).filter(|at| *at > 0) else {
        return (text, "");
    };
    if let Some(newline) = text[..end].rfind('\n').filter(|at| *at > 0 && *at < blank) {
        return (&text[..newline], &text[newline + 1..]);
    }
    (&text[..blank], &text[blank + 1..])
}
