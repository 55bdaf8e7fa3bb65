//! From tokens to the syntax tree, with Go's messages for what is no template.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::functions::Functions;
use crate::lex::{Kind, Lexer, Token};
use crate::node::{Branch, Command, List, Operand, Pipe, Statement, Term, is_blank};
use crate::number::Number;
use crate::text::{quote, unquote};

/// How deep blocks and parentheses may nest together; Go allows more than a stack here holds.
const NESTING_MAX: usize = 100;

/// Parses `text` into its definitions by name; the template itself is named `""`.
pub(crate) fn parse(text: &str, functions: Functions) -> Result<BTreeMap<String, List>, Error> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        tokens: Vec::with_capacity(3),
        last_line: 1,
        functions,
        definitions: BTreeMap::new(),
        nesting: 0,
    };
    let mut scope = Scope::default();
    let root = parser.template(&mut scope)?;
    parser.define(String::new(), root)?;
    Ok(parser.definitions)
}

/// What one definition knows while it is parsed.
#[derive(Debug)]
struct Scope {
    vars: Vec<String>,
    range_depth: usize,
    /// Line of the action being parsed, 0 outside.
    action_line: usize,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            vars: vec!["$".to_owned()],
            range_depth: 0,
            action_line: 0,
        }
    }
}

/// A statement, or one of the two words that end a list.
enum Step {
    Statement(Statement),
    End,
    Else,
}

impl Step {
    fn name(&self) -> String {
        match self {
            Self::Statement(statement) => statement.to_string(),
            Self::End => "{{end}}".to_owned(),
            Self::Else => "{{else}}".to_owned(),
        }
    }
}

#[derive(Debug)]
struct Parser<'t> {
    lexer: Lexer<'t>,
    /// Tokens read ahead, the next one last.
    tokens: Vec<Token>,
    /// Line of the last token from the lexer (or put back over it), which errors name.
    last_line: usize,
    functions: Functions,
    definitions: BTreeMap<String, List>,
    nesting: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Token {
        self.tokens.pop().unwrap_or_else(|| {
            let token = self.lexer.next_token();
            self.last_line = token.line;
            token
        })
    }

    fn put_back(&mut self, token: Token) {
        self.tokens.push(token);
    }

    fn peek(&mut self) -> Token {
        let token = self.next();
        self.put_back(token.clone());
        token
    }

    fn next_non_space(&mut self) -> Token {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> Token {
        let token = self.next_non_space();
        self.put_back(token.clone());
        token
    }

    fn error<T>(&self, message: impl std::fmt::Display) -> Result<T, Error> {
        Err(Error::Parse(format!(
            "template: :{}: {message}",
            self.last_line
        )))
    }

    fn unexpected<T>(&self, scope: &Scope, token: &Token, context: &str) -> Result<T, Error> {
        if token.kind != Kind::Error {
            return self.error(format_args!("unexpected {token} in {context}"));
        }
        let mut extra = String::new();
        if scope.action_line != 0 && scope.action_line != token.line {
            // "unclosed action" already says which noun is meant.
            let noun = if token.text.ends_with(" action") {
                ""
            } else {
                " in action"
            };
            extra = format!("{noun} started at :{}", scope.action_line);
        }
        self.error(format_args!("{token}{extra}"))
    }

    fn expect(&mut self, scope: &Scope, kind: Kind, context: &str) -> Result<Token, Error> {
        let token = self.next_non_space();
        if token.kind == kind {
            Ok(token)
        } else {
            self.unexpected(scope, &token, context)
        }
    }

    /// Enters one level of blocks or parentheses.
    fn nest(&mut self) -> Result<(), Error> {
        if self.nesting == NESTING_MAX {
            return self.error("max expression depth exceeded");
        }
        self.nesting += 1;
        Ok(())
    }

    fn define(&mut self, name: String, list: List) -> Result<(), Error> {
        match self.definitions.get(&name) {
            Some(old) if !is_blank(old) => {
                if !is_blank(&list) {
                    return self.error(format_args!(
                        "template: multiple definition of template {}",
                        quote(&name)
                    ));
                }
            }
            _ => {
                self.definitions.insert(name, list);
            }
        }
        Ok(())
    }

    /// The whole text: a list in which `define` may stand.
    fn template(&mut self, scope: &mut Scope) -> Result<List, Error> {
        let mut list = List::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::Eof => return Ok(list),
                Kind::LeftDelim => {
                    let word = self.next_non_space();
                    if word.kind == Kind::Define {
                        self.definition()?;
                        continue;
                    }
                    self.put_back(word);
                    self.put_back(token);
                }
                _ => self.put_back(token),
            }
            match self.text_or_action(scope)? {
                Step::Statement(statement) => list.push(statement),
                step => return self.error(format_args!("unexpected {}", step.name())),
            }
        }
    }

    fn definition(&mut self) -> Result<(), Error> {
        const CONTEXT: &str = "define clause";
        let mut scope = Scope::default();
        let token = self.next_non_space();
        let name = self.name(&scope, &token, CONTEXT)?;
        self.expect(&scope, Kind::RightDelim, CONTEXT)?;
        self.nest()?;
        let (list, end) = self.list(&mut scope)?;
        self.nesting -= 1;
        if !matches!(end, Step::End) {
            return self.error(format_args!("unexpected {} in {CONTEXT}", end.name()));
        }
        self.define(name, list)
    }

    fn list(&mut self, scope: &mut Scope) -> Result<(List, Step), Error> {
        let mut list = List::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action(scope)? {
                Step::Statement(statement) => list.push(statement),
                end => return Ok((list, end)),
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self, scope: &mut Scope) -> Result<Step, Error> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Step::Statement(Statement::Text(token.text))),
            Kind::LeftDelim => {
                scope.action_line = token.line;
                let step = self.action(scope)?;
                scope.action_line = 0;
                Ok(step)
            }
            _ => self.unexpected(scope, &token, "input"),
        }
    }

    fn action(&mut self, scope: &mut Scope) -> Result<Step, Error> {
        let token = self.next_non_space();
        let statement = match token.kind {
            Kind::Block => self.block(scope)?,
            Kind::Break | Kind::Continue => self.loop_control(scope, token.kind)?,
            Kind::Else => return self.else_control(scope),
            Kind::End => {
                self.expect(scope, Kind::RightDelim, "end")?;
                return Ok(Step::End);
            }
            Kind::If | Kind::Range | Kind::With => self.branch(scope, token.kind)?,
            Kind::Template => self.invocation(scope)?,
            _ => {
                self.put_back(token);
                // Variables persist until the end of the enclosing block.
                Statement::Action(self.pipeline(scope, "command", Kind::RightDelim)?)
            }
        };
        Ok(Step::Statement(statement))
    }

    fn loop_control(&mut self, scope: &Scope, kind: Kind) -> Result<Statement, Error> {
        let statement = if kind == Kind::Break {
            Statement::Break
        } else {
            Statement::Continue
        };
        self.expect(scope, Kind::RightDelim, &statement.to_string())?;
        if scope.range_depth == 0 {
            return self.error(format_args!("{statement} outside {{{{range}}}}"));
        }
        Ok(statement)
    }

    fn else_control(&mut self, scope: &Scope) -> Result<Step, Error> {
        // `{{else if` and `{{else with` leave their second word to `branch`.
        if !matches!(self.peek_non_space().kind, Kind::If | Kind::With) {
            self.expect(scope, Kind::RightDelim, "else")?;
        }
        Ok(Step::Else)
    }

    fn branch(&mut self, scope: &mut Scope, kind: Kind) -> Result<Statement, Error> {
        let context = match kind {
            Kind::If => "if",
            Kind::With => "with",
            _ => "range",
        };
        let range_levels = usize::from(kind == Kind::Range);
        let vars = scope.vars.len();
        self.nest()?;
        let pipe = self.pipeline(scope, context, Kind::RightDelim)?;
        scope.range_depth += range_levels;
        let (list, end) = self.list(scope)?;
        scope.range_depth -= range_levels;
        let mut else_list = None;
        if matches!(end, Step::Else) {
            if kind != Kind::Range && self.peek().kind == kind {
                // `{{else if x}}…{{end}}` is `{{else}}{{if x}}…{{end}}{{end}}`.
                self.next();
                else_list = Some(vec![self.branch(scope, kind)?]);
            } else {
                let (list, end) = self.list(scope)?;
                if !matches!(end, Step::End) {
                    return self.error(format_args!("expected end; found {}", end.name()));
                }
                else_list = Some(list);
            }
        }
        self.nesting -= 1;
        scope.vars.truncate(vars);
        let branch = Branch {
            pipe,
            list,
            else_list,
        };
        Ok(match kind {
            Kind::If => Statement::If(branch),
            Kind::With => Statement::With(branch),
            _ => Statement::Range(branch),
        })
    }

    /// `{{block "name" pipe}}…{{end}}`: a definition and its invocation at once.
    fn block(&mut self, scope: &mut Scope) -> Result<Statement, Error> {
        const CONTEXT: &str = "block clause";
        let token = self.next_non_space();
        let name = self.name(scope, &token, CONTEXT)?;
        let pipe = self.pipeline(scope, CONTEXT, Kind::RightDelim)?;
        self.nest()?;
        let (list, end) = self.list(&mut Scope::default())?;
        self.nesting -= 1;
        if !matches!(end, Step::End) {
            return self.error(format_args!("unexpected {} in {CONTEXT}", end.name()));
        }
        self.define(name.clone(), list)?;
        Ok(Statement::Template {
            pos: token.pos,
            name,
            pipe: Some(pipe),
        })
    }

    fn invocation(&mut self, scope: &mut Scope) -> Result<Statement, Error> {
        const CONTEXT: &str = "template clause";
        let token = self.next_non_space();
        let name = self.name(scope, &token, CONTEXT)?;
        let next = self.next_non_space();
        let mut pipe = None;
        if next.kind != Kind::RightDelim {
            self.put_back(next);
            pipe = Some(self.pipeline(scope, CONTEXT, Kind::RightDelim)?);
        }
        Ok(Statement::Template {
            pos: token.pos,
            name,
            pipe,
        })
    }

    fn name(&mut self, scope: &Scope, token: &Token, context: &str) -> Result<String, Error> {
        match token.kind {
            Kind::String | Kind::RawString => self.unquoted(&token.text),
            _ => self.unexpected(scope, token, context),
        }
    }

    fn unquoted(&self, literal: &str) -> Result<String, Error> {
        match unquote(literal) {
            Some(text) => Ok(text),
            None => self.error("invalid syntax"),
        }
    }

    fn pipeline(&mut self, scope: &mut Scope, context: &str, end: Kind) -> Result<Pipe, Error> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe {
            pos,
            is_assign: false,
            decl: Vec::new(),
            cmds: Vec::new(),
        };
        self.declarations(scope, context, &mut pipe)?;
        loop {
            let token = self.next_non_space();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.put_back(token);
                    let command = self.command(scope)?;
                    pipe.cmds.push(command);
                }
                _ => return self.unexpected(scope, &token, context),
            }
        }
        if pipe.cmds.is_empty() {
            return self.error(format_args!("missing value for {context}"));
        }
        for (index, command) in pipe.cmds.iter().enumerate().skip(1) {
            if let Term::Bool(_) | Term::Dot | Term::Nil | Term::Number(_) | Term::String { .. } =
                command.args[0].term
            {
                let stage = index + 1;
                return self.error(format_args!(
                    "non executable command in pipeline stage {stage}"
                ));
            }
        }
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declarations(
        &mut self,
        scope: &mut Scope,
        context: &str,
        pipe: &mut Pipe,
    ) -> Result<(), Error> {
        while self.peek_non_space().kind == Kind::Variable {
            let variable = self.next_non_space();
            // A space here must not get lost: in `$x .y` it separates two operands.
            let after = self.next();
            let next = if after.kind == Kind::Space {
                self.peek_non_space()
            } else {
                after.clone()
            };
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    if after.kind == Kind::Space {
                        self.next_non_space();
                    }
                    pipe.is_assign = next.kind == Kind::Assign;
                    pipe.decl.push(variable.text.clone());
                    scope.vars.push(variable.text);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    if after.kind == Kind::Space {
                        self.next_non_space();
                    }
                    pipe.decl.push(variable.text.clone());
                    scope.vars.push(variable.text);
                    if context != "range" || pipe.decl.len() == 2 {
                        return self.error(format_args!("too many declarations in {context}"));
                    }
                    let follower = self.peek_non_space().kind;
                    if !matches!(
                        follower,
                        Kind::Variable | Kind::RightDelim | Kind::RightParen
                    ) {
                        return self.error("range can only initialize variables");
                    }
                }
                _ => {
                    self.put_back(after);
                    self.put_back(variable);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn command(&mut self, scope: &mut Scope) -> Result<Command, Error> {
        let mut command = Command {
            pos: self.peek_non_space().pos,
            args: Vec::new(),
        };
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand(scope)? {
                command.args.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.put_back(token),
                Kind::Pipe => {}
                _ => return self.unexpected(scope, &token, "operand"),
            }
            break;
        }
        if command.args.is_empty() {
            return self.error("empty command");
        }
        Ok(command)
    }

    /// A term and the fields behind it; `None` when what follows is none.
    fn operand(&mut self, scope: &mut Scope) -> Result<Option<Operand>, Error> {
        let Some(operand) = self.term(scope)? else {
            return Ok(None);
        };
        let pos = match self.peek() {
            token if token.kind == Kind::Field => token.pos,
            _ => return Ok(Some(operand)),
        };
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.next().text[1..].to_owned());
        }
        let term = match operand.term {
            Term::Field(mut names) => {
                names.extend(fields);
                Term::Field(names)
            }
            Term::Variable(mut names) => {
                names.extend(fields);
                Term::Variable(names)
            }
            Term::Bool(_) | Term::String { .. } | Term::Number(_) | Term::Nil | Term::Dot => {
                let text = quote(&operand.to_string());
                return self.error(format_args!("unexpected . after term {text}"));
            }
            Term::Identifier(_) | Term::Pipe(_) | Term::Chain(..) => {
                Term::Chain(Box::new(operand), fields)
            }
        };
        Ok(Some(Operand { pos, term }))
    }

    fn term(&mut self, scope: &mut Scope) -> Result<Option<Operand>, Error> {
        let token = self.next_non_space();
        let term = match token.kind {
            Kind::Identifier => {
                if !self.functions.has(&token.text) {
                    return self.error(format_args!("function {} not defined", quote(&token.text)));
                }
                Term::Identifier(token.text)
            }
            Kind::Dot => Term::Dot,
            Kind::Nil => Term::Nil,
            Kind::Variable => {
                if !scope.vars.contains(&token.text) {
                    return self.error(format_args!("undefined variable {}", quote(&token.text)));
                }
                Term::Variable(vec![token.text])
            }
            Kind::Field => Term::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => Term::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => {
                match Number::parse(&token.text, token.kind) {
                    Ok(number) => Term::Number(number),
                    Err(message) => return self.error(message),
                }
            }
            Kind::LeftParen => {
                self.nest()?;
                let pipe = self.pipeline(scope, "parenthesized pipeline", Kind::RightParen)?;
                self.nesting -= 1;
                return Ok(Some(Operand {
                    pos: pipe.pos,
                    term: Term::Pipe(pipe),
                }));
            }
            Kind::String | Kind::RawString => {
                let text = self.unquoted(&token.text)?;
                Term::String {
                    quoted: token.text,
                    text,
                }
            }
            _ => {
                self.put_back(token);
                return Ok(None);
            }
        };
        Ok(Some(Operand {
            pos: token.pos,
            term,
        }))
    }
}
