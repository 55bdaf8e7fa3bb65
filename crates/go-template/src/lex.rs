//! Tokens of a template: text, and what stands between `{{` and `}}`.
//!
//! The trim markers (`{{- ` and ` -}}`) and comments are dealt with here and never seen by the
//! parser. An error is a token too, the last one.

use crate::text::quote_truncated;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The token's text is the message.
    Error,
    Bool,
    /// Any other printable ASCII character; the parser knows only the comma.
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Kind {
    fn of_keyword(word: &str) -> Option<Self> {
        Some(match word {
            "block" => Self::Block,
            "break" => Self::Break,
            "continue" => Self::Continue,
            "define" => Self::Define,
            "else" => Self::Else,
            "end" => Self::End,
            "if" => Self::If,
            "range" => Self::Range,
            "nil" => Self::Nil,
            "template" => Self::Template,
            "with" => Self::With,
            _ => return None,
        })
    }

    fn is_keyword(self) -> bool {
        matches!(
            self,
            Self::Block
                | Self::Break
                | Self::Continue
                | Self::Dot
                | Self::Define
                | Self::Else
                | Self::End
                | Self::If
                | Self::Nil
                | Self::Range
                | Self::Template
                | Self::With
        )
    }
}

/// A token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// Byte offset in the template.
    pub(crate) pos: usize,
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl std::fmt::Display for Token {
    /// As parse errors show it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Eof => f.write_str("EOF"),
            Kind::Error => f.write_str(&self.text),
            kind if kind.is_keyword() => write!(f, "<{}>", self.text),
            _ => f.write_str(&quote_truncated(&self.text, 10)),
        }
    }
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

/// Gives the tokens of one template in order.
#[derive(Debug)]
pub(crate) struct Lexer<'t> {
    input: &'t str,
    pos: usize,
    start: usize,
    /// Line of `start`.
    line: usize,
    inside_action: bool,
    paren_depth: u32,
    failed: bool,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(input: &'t str) -> Self {
        Self {
            input,
            pos: 0,
            start: 0,
            line: 1,
            inside_action: false,
            paren_depth: 0,
            failed: false,
        }
    }

    /// The next token; after the end or an error, `Eof` for ever.
    pub(crate) fn next_token(&mut self) -> Token {
        if self.failed {
            return Token {
                kind: Kind::Eof,
                pos: 0,
                text: "EOF".to_owned(),
                line: self.line,
            };
        }
        if self.inside_action {
            self.inside_action()
        } else {
            self.text()
        }
    }

    fn rest(&self) -> &'t str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.pos += next.len_utf8();
        Some(next)
    }

    fn accept(&mut self, valid: &str) -> bool {
        match self.peek() {
            Some(next) if valid.contains(next) => {
                self.pos += next.len_utf8();
                true
            }
            _ => false,
        }
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    /// Drops the input up to here.
    fn ignore(&mut self) {
        self.line += count_lines(&self.input[self.start..self.pos]);
        self.start = self.pos;
    }

    fn token(&mut self, kind: Kind) -> Token {
        let text = self.input[self.start..self.pos].to_owned();
        let token = Token {
            kind,
            pos: self.start,
            text,
            line: self.line,
        };
        self.ignore();
        token
    }

    fn error(&mut self, message: impl Into<String>) -> Token {
        self.failed = true;
        Token {
            kind: Kind::Error,
            pos: self.start,
            text: message.into(),
            line: self.line,
        }
    }

    fn text(&mut self) -> Token {
        loop {
            let Some(length) = self.rest().find(LEFT) else {
                self.pos = self.input.len();
                let kind = if self.pos > self.start {
                    Kind::Text
                } else {
                    Kind::Eof
                };
                return self.token(kind);
            };
            let delim = self.pos + length;
            let mut end = delim;
            if has_left_trim(&self.input[delim + LEFT.len()..]) {
                end = self.start
                    + self.input[self.start..delim]
                        .trim_end_matches(is_space)
                        .len();
            }
            if end > self.start {
                self.pos = end;
                let token = self.token(Kind::Text);
                self.pos = delim;
                self.ignore();
                return token;
            }
            self.pos = delim;
            self.ignore();
            match self.left_delim() {
                Some(token) => return token,
                None => continue,
            }
        }
    }

    /// The opening delimiter; `None` when it opened a comment, which is skipped.
    fn left_delim(&mut self) -> Option<Token> {
        let after = &self.input[self.pos + LEFT.len()..];
        let trim = if has_left_trim(after) { 2 } else { 0 };
        if after[trim..].starts_with("/*") {
            self.pos += LEFT.len() + trim;
            self.ignore();
            return self.comment();
        }
        self.pos += LEFT.len();
        let token = self.token(Kind::LeftDelim);
        self.inside_action = true;
        self.paren_depth = 0;
        self.pos += trim;
        self.ignore();
        Some(token)
    }

    fn comment(&mut self) -> Option<Token> {
        let Some(length) = self.rest()[2..].find("*/") else {
            return Some(self.error("unclosed comment"));
        };
        self.pos += 2 + length + 2;
        let Some(trim) = self.at_right_delim() else {
            return Some(self.error("comment ends before closing delimiter"));
        };
        self.pass_right_delim(trim);
        self.ignore();
        None
    }

    /// At a closing delimiter? And if so, with a trim marker?
    fn at_right_delim(&self) -> Option<bool> {
        let rest = self.rest();
        if has_right_trim(rest) && rest[2..].starts_with(RIGHT) {
            return Some(true);
        }
        rest.starts_with(RIGHT).then_some(false)
    }

    fn pass_right_delim(&mut self, trim: bool) {
        self.pos += RIGHT.len();
        if trim {
            self.pos += 2;
            let rest = self.rest();
            self.pos += rest.len() - rest.trim_start_matches(is_space).len();
        }
    }

    fn right_delim(&mut self, trim: bool) -> Token {
        if trim {
            self.pos += 2;
            self.ignore();
        }
        self.pos += RIGHT.len();
        let token = self.token(Kind::RightDelim);
        if trim {
            let rest = self.rest();
            self.pos += rest.len() - rest.trim_start_matches(is_space).len();
            self.ignore();
        }
        self.inside_action = false;
        token
    }

    fn inside_action(&mut self) -> Token {
        if let Some(trim) = self.at_right_delim() {
            if self.paren_depth == 0 {
                return self.right_delim(trim);
            }
            return self.error("unclosed left paren");
        }
        let Some(first) = self.next() else {
            return self.error("unclosed action");
        };
        match first {
            _ if is_space(first) => self.space(),
            '=' => self.token(Kind::Assign),
            ':' => {
                if self.next() != Some('=') {
                    return self.error("expected :=");
                }
                self.token(Kind::Declare)
            }
            '|' => self.token(Kind::Pipe),
            '"' => self.quoted('"', Kind::String, "unterminated quoted string"),
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
            '`' => match self.rest().find('`') {
                Some(length) => {
                    self.pos += length + 1;
                    self.token(Kind::RawString)
                }
                None => self.error("unterminated raw quoted string"),
            },
            '$' => self.field_or_variable(Kind::Variable),
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) && !self.rest().is_empty() => {
                self.field_or_variable(Kind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos -= 1;
                self.number()
            }
            _ if is_alphanumeric(first) => self.identifier(),
            '(' => {
                self.paren_depth += 1;
                self.token(Kind::LeftParen)
            }
            ')' => {
                if self.paren_depth == 0 {
                    return self.error("unexpected right paren");
                }
                self.paren_depth -= 1;
                self.token(Kind::RightParen)
            }
            ' '..='~' => self.token(Kind::Char),
            _ => self.error(format!(
                "unrecognized character in action: {}",
                describe(first)
            )),
        }
    }

    /// A run of spaces whose first is taken; a space that begins ` -}}` is left alone.
    fn space(&mut self) -> Token {
        let mut last = self.pos - 1;
        while self.peek().is_some_and(is_space) {
            last = self.pos;
            self.pos += 1;
        }
        let tail = &self.input[last..];
        if has_right_trim(tail) && tail[2..].starts_with(RIGHT) {
            self.pos = last;
            if last == self.start {
                return self.right_delim(true);
            }
        }
        self.token(Kind::Space)
    }

    fn quoted(&mut self, end: char, kind: Kind, unterminated: &str) -> Token {
        loop {
            match self.next() {
                Some('\\') if !matches!(self.next(), None | Some('\n')) => {}
                Some(c) if c == end => return self.token(kind),
                Some(c) if c != '\\' && c != '\n' => {}
                _ => return self.error(unterminated),
            }
        }
    }

    fn identifier(&mut self) -> Token {
        if let Err(error) = self.word() {
            return error;
        }
        let word = &self.input[self.start..self.pos];
        let kind = match word {
            "true" | "false" => Kind::Bool,
            _ => Kind::of_keyword(word).unwrap_or(Kind::Identifier),
        };
        self.token(kind)
    }

    fn field_or_variable(&mut self, kind: Kind) -> Token {
        if self.at_terminator() {
            let kind = if kind == Kind::Field { Kind::Dot } else { kind };
            return self.token(kind);
        }
        match self.word() {
            Ok(()) => self.token(kind),
            Err(error) => error,
        }
    }

    /// Takes letters and digits up to where a word may end.
    fn word(&mut self) -> Result<(), Token> {
        while self.peek().is_some_and(is_alphanumeric) {
            self.next();
        }
        match self.peek() {
            Some(next) if !self.at_terminator() => {
                Err(self.error(format!("bad character {}", describe(next))))
            }
            _ => Ok(()),
        }
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(next) => is_space(next) || self.rest().starts_with(RIGHT),
        }
    }

    fn number(&mut self) -> Token {
        let first = self.scan_number();
        if first && !matches!(self.peek(), Some('+' | '-')) {
            return self.token(Kind::Number);
        }
        if first && self.scan_number() && self.input[..self.pos].ends_with('i') {
            return self.token(Kind::Complex);
        }
        let text = crate::text::quote(&self.input[self.start..self.pos]);
        self.error(format!("bad number syntax: {text}"))
    }

    /// Takes what looks like a number; the parser finds out whether it is one.
    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        let exponent = match digits.len() {
            11 => self.accept("eE"),
            23 => self.accept("pP"),
            _ => false,
        };
        if exponent {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.next();
            return false;
        }
        true
    }
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

fn has_left_trim(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2 && bytes[0] == b'-' && is_space(bytes[1].into())
}

fn has_right_trim(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2 && is_space(bytes[0].into()) && bytes[1] == b'-'
}

/// `U+263A '☺'`.
fn describe(c: char) -> String {
    if crate::text::is_printable(c) {
        format!("U+{:04X} '{c}'", u32::from(c))
    } else {
        format!("U+{:04X}", u32::from(c))
    }
}
