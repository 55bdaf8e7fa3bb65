//! Running a template over a value.
//!
//! Like Go's own evaluator this one remembers the piece of the template it is at: errors quote
//! it. Work is paid from a budget, so no template runs for ever or fills the memory.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::functions::{Functions, Param, Signature, printable};
use crate::node::{Branch, Command, List, Operand, Pipe, Statement, Term};
use crate::number::Number;
use crate::print::{sprint, string_method};
use crate::text::quote;
use crate::types::{Kind, Type};
use crate::value::{Data, Value, int};
use crate::{Limits, MissingKey};

/// How deep template invocations, blocks and parentheses may nest while running: what a thread's
/// stack surely holds.
const DEPTH_MAX: usize = 200;

/// What evaluating one command or one round of a loop costs, in bytes of output.
const STEP_COST: usize = 16;

/// Everything about a run that does not change.
#[derive(Debug)]
pub(crate) struct Program<'t> {
    pub(crate) text: &'t str,
    pub(crate) definitions: &'t BTreeMap<String, List>,
    pub(crate) functions: Functions,
    pub(crate) missing_key: MissingKey,
    pub(crate) limits: Limits,
}

impl<'t> Program<'t> {
    pub(crate) fn run(&self, data: &Value) -> Result<String, Error> {
        let mut state = State {
            program: self,
            name: "",
            vars: vec![("$", data.clone())],
            at: At::Nothing,
            depth: 0,
            budget: self.limits.work,
            out: String::new(),
        };
        if let Some(root) = self.definitions.get("") {
            state.list(data, root)?;
        }
        Ok(state.out)
    }
}

/// The piece of the template an error is about.
#[derive(Debug, Clone, Copy)]
enum At<'t> {
    Nothing,
    Statement(&'t Statement),
    Pipe(&'t Pipe),
    Command(&'t Command),
    Operand(&'t Operand),
}

impl At<'_> {
    fn pos(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Statement(Statement::Action(pipe)) => pipe.pos,
            Self::Statement(
                Statement::If(branch) | Statement::With(branch) | Statement::Range(branch),
            ) => branch.pipe.pos,
            Self::Statement(Statement::Template { pos, .. }) => *pos,
            Self::Statement(_) => 0,
            Self::Pipe(pipe) => pipe.pos,
            Self::Command(command) => command.pos,
            Self::Operand(operand) => operand.pos,
        }
    }
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Statement(node) => node.fmt(f),
            Self::Pipe(node) => node.fmt(f),
            Self::Command(node) => node.fmt(f),
            Self::Operand(node) => node.fmt(f),
        }
    }
}

/// What a statement does to the loop around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Normal,
    Break,
    Continue,
}

#[derive(Debug)]
struct State<'p, 't> {
    program: &'p Program<'t>,
    /// Name of the running definition.
    name: &'t str,
    vars: Vec<(&'t str, Value)>,
    at: At<'t>,
    depth: usize,
    budget: usize,
    out: String,
}

impl<'t> State<'_, 't> {
    fn error<T>(&self, message: impl std::fmt::Display) -> Result<T, Error> {
        let before = &self.program.text[..self.at.pos()];
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        Err(Error::Execute(format!(
            "template: :{line}:{column}: executing {} at <{}>: {message}",
            quote(self.name),
            self.at
        )))
    }

    fn charge(&mut self, cost: usize) -> Result<(), Error> {
        match self.budget.checked_sub(cost) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(Error::Limit("template does too much work".to_owned())),
        }
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.charge(STEP_COST)?;
        if self.depth == DEPTH_MAX {
            return Err(Error::Limit(format!(
                "nested deeper than {DEPTH_MAX} levels"
            )));
        }
        self.depth += 1;
        Ok(())
    }

    fn list(&mut self, dot: &Value, list: &'t List) -> Result<Flow, Error> {
        self.enter()?;
        for statement in list {
            let flow = self.statement(dot, statement)?;
            if flow != Flow::Normal {
                self.depth -= 1;
                return Ok(flow);
            }
        }
        self.depth -= 1;
        Ok(Flow::Normal)
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        self.charge(text.len())?;
        if self.out.len() + text.len() > self.program.limits.output_bytes {
            return Err(Error::Limit("output too large".to_owned()));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn statement(&mut self, dot: &Value, statement: &'t Statement) -> Result<Flow, Error> {
        self.at = At::Statement(statement);
        match statement {
            Statement::Text(text) => self.write(text)?,
            Statement::Action(pipe) => {
                let value = self.pipeline(dot, pipe)?;
                if pipe.decl.is_empty() {
                    self.at = At::Statement(statement);
                    let limit = self.program.limits.output_bytes;
                    let text = sprint(&[printable(&value)], limit)?;
                    self.write(&text)?;
                }
            }
            Statement::If(branch) => return self.conditional(dot, branch, false),
            Statement::With(branch) => return self.conditional(dot, branch, true),
            Statement::Range(branch) => return self.range(dot, branch),
            Statement::Template { name, pipe, .. } => {
                let Some(list) = self.program.definitions.get(name) else {
                    return self.error(format_args!("template {} not defined", quote(name)));
                };
                self.enter()?;
                let inner = match pipe {
                    Some(pipe) => self.pipeline(dot, pipe)?,
                    None => Value::invalid(),
                };
                // A definition sees none of the caller's variables.
                let vars = std::mem::replace(&mut self.vars, vec![("$", inner.clone())]);
                let caller = std::mem::replace(&mut self.name, name);
                self.list(&inner, list)?;
                self.name = caller;
                self.vars = vars;
                self.depth -= 1;
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Normal)
    }

    fn conditional(&mut self, dot: &Value, branch: &'t Branch, with: bool) -> Result<Flow, Error> {
        let vars = self.vars.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        let flow = if value.is_true() {
            self.list(if with { &value } else { dot }, &branch.list)?
        } else if let Some(list) = &branch.else_list {
            self.list(dot, list)?
        } else {
            Flow::Normal
        };
        self.vars.truncate(vars);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, branch: &'t Branch) -> Result<Flow, Error> {
        let vars = self.vars.len();
        let over = self.pipeline(dot, &branch.pipe)?;
        let over = over.indirect().unwrap_or_else(|nil| nil);
        let mark = self.vars.len();
        let mut rounds = 0_usize;
        let mut flow = Flow::Normal;
        let mut round = |state: &mut Self, index: Value, element: Value| -> Result<bool, Error> {
            rounds += 1;
            flow = state.round(branch, mark, index, element)?;
            Ok(flow != Flow::Break)
        };
        match &over.data {
            Data::List(items) => {
                for (index, item) in items.as_deref().unwrap_or_default().iter().enumerate() {
                    let index = int(i64::try_from(index).unwrap_or(i64::MAX));
                    if !round(self, index, item.clone())? {
                        break;
                    }
                }
            }
            Data::Map(entries) => {
                for (key, entry) in entries.iter().flat_map(|entries| entries.iter()) {
                    if !round(self, over.map_key(key), entry.clone())? {
                        break;
                    }
                }
            }
            Data::Int(_) | Data::Uint(_) => {
                if branch.pipe.decl.len() > 1 {
                    let shown = sprint(std::slice::from_ref(&over), 100)?;
                    return self.error(format_args!(
                        "can't use {shown} to iterate over more than one variable"
                    ));
                }
                let (count, signed) = match over.data {
                    Data::Int(count) => (u64::try_from(count).unwrap_or(0), true),
                    Data::Uint(count) => (count, false),
                    _ => (0, true),
                };
                for number in 0..count {
                    let data = match i64::try_from(number) {
                        Ok(number) if signed => Data::Int(number),
                        _ => Data::Uint(number),
                    };
                    if !round(self, Value::invalid(), Value::new(over.ty.clone(), data))? {
                        break;
                    }
                }
            }
            Data::Invalid => {}
            _ => {
                let shown = sprint(
                    std::slice::from_ref(&over),
                    self.program.limits.output_bytes,
                )?;
                return self.error(format_args!("range can't iterate over {shown}"));
            }
        }
        self.vars.truncate(vars);
        let _ = flow;
        if rounds == 0
            && let Some(list) = &branch.else_list
        {
            return self.list(dot, list);
        }
        Ok(Flow::Normal)
    }

    /// One round of a loop. `mark` is the stack with the loop's own variables on top.
    fn round(
        &mut self,
        branch: &'t Branch,
        mark: usize,
        index: Value,
        element: Value,
    ) -> Result<Flow, Error> {
        let decl = &branch.pipe.decl;
        match (decl.as_slice(), branch.pipe.is_assign) {
            ([], _) => {}
            ([name], true) => self.assign(name, element.clone())?,
            ([_], false) => self.vars[mark - 1].1 = element.clone(),
            ([first, second, ..], true) => {
                self.assign(first, index)?;
                self.assign(second, element.clone())?;
            }
            ([_, _, ..], false) => {
                self.vars[mark - 1].1 = element.clone();
                self.vars[mark - 2].1 = index;
            }
        }
        let flow = self.list(&element, &branch.list)?;
        self.vars.truncate(mark);
        Ok(flow)
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<(), Error> {
        match self.vars.iter_mut().rev().find(|(known, _)| *known == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => self.error(format_args!("undefined variable: {name}")),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, Error> {
        match self.vars.iter().rev().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.error(format_args!("undefined variable: {name}")),
        }
    }

    fn pipeline(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value, Error> {
        self.enter()?;
        self.at = At::Pipe(pipe);
        let mut value = None;
        for command in &pipe.cmds {
            self.charge(STEP_COST)?;
            value = Some(self.command(dot, command, value)?.unboxed());
        }
        let value = value.unwrap_or_else(Value::invalid);
        for name in &pipe.decl {
            if pipe.is_assign {
                self.assign(name, value.clone())?;
            } else {
                self.vars.push((name, value.clone()));
            }
        }
        self.depth -= 1;
        Ok(value)
    }

    fn not_a_function(&self, args: &[Operand], last: Option<&Value>) -> Result<(), Error> {
        if args.len() > 1 || last.is_some() {
            return self.error(format_args!(
                "can't give argument to non-function {}",
                args[0]
            ));
        }
        Ok(())
    }

    /// `last` is the value of the command before in the pipeline: the final argument.
    fn command(
        &mut self,
        dot: &Value,
        command: &'t Command,
        last: Option<Value>,
    ) -> Result<Value, Error> {
        let first = &command.args[0];
        let args = &command.args[1..];
        match &first.term {
            Term::Field(_) => return self.field(dot, first, args, last),
            Term::Chain(..) => return self.chain(dot, first, args, last),
            Term::Variable(names) if names.len() > 1 => {
                return self.variable_chain(dot, first, args, last);
            }
            Term::Variable(names) => {
                self.at = At::Operand(first);
                let value = self.variable(&names[0])?;
                self.not_a_function(&command.args, last.as_ref())?;
                return Ok(value);
            }
            Term::Identifier(name) => {
                return self.function(dot, first, At::Command(command), name, args, last);
            }
            Term::Pipe(pipe) => {
                self.not_a_function(&command.args, last.as_ref())?;
                return self.pipeline(dot, pipe);
            }
            _ => {}
        }
        self.at = At::Operand(first);
        self.not_a_function(&command.args, last.as_ref())?;
        match &first.term {
            Term::Bool(value) => Ok((*value).into()),
            Term::Number(number) => self.ideal(number),
            Term::String { text, .. } => Ok(text.as_str().into()),
            Term::Nil => self.error("nil is not a command"),
            _ => Ok(dot.clone()),
        }
    }

    /// A number where nothing says which type is wanted.
    fn ideal(&self, number: &Number) -> Result<Value, Error> {
        match (number.float, number.int) {
            (Some(float), _) if number.is_written_as_float() => Ok(float.into()),
            (_, Some(value)) => Ok(int(value)),
            _ => self.error(format_args!("{} overflows int", number.text)),
        }
    }

    fn field(
        &mut self,
        dot: &Value,
        node: &'t Operand,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        self.at = At::Operand(node);
        match &node.term {
            Term::Field(names) => self.field_chain(dot, dot.clone(), node, names, args, last),
            _ => Ok(Value::invalid()),
        }
    }

    fn chain(
        &mut self,
        dot: &Value,
        node: &'t Operand,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        self.at = At::Operand(node);
        let Term::Chain(operand, names) = &node.term else {
            return Ok(Value::invalid());
        };
        if matches!(operand.term, Term::Nil) {
            return self.error(format_args!("indirection through explicit nil in {node}"));
        }
        let receiver = self.arg(dot, Param::Reflect, operand)?;
        self.field_chain(dot, receiver, node, names, args, last)
    }

    fn variable_chain(
        &mut self,
        dot: &Value,
        node: &'t Operand,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        self.at = At::Operand(node);
        let Term::Variable(names) = &node.term else {
            return Ok(Value::invalid());
        };
        let receiver = self.variable(&names[0])?;
        if names.len() == 1 {
            return Ok(receiver);
        }
        self.field_chain(dot, receiver, node, &names[1..], args, last)
    }

    /// `.a.b.c`, of which only the last may take arguments.
    fn field_chain(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        node: &'t Operand,
        names: &'t [String],
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        let Some((final_name, names)) = names.split_last() else {
            return Ok(receiver);
        };
        for name in names {
            receiver = self.member(dot, &receiver, node, name, &[], None)?;
        }
        self.member(dot, &receiver, node, final_name, args, last)
    }

    fn member(
        &mut self,
        dot: &Value,
        receiver: &Value,
        node: &'t Operand,
        name: &'t str,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        if !receiver.is_valid() {
            if self.program.missing_key == MissingKey::Error {
                return self.error(format_args!("nil data; no entry for key {}", quote(name)));
            }
            return Ok(Value::invalid());
        }
        let ty = receiver.static_type();
        let target = match receiver.indirect() {
            Ok(target) => target,
            Err(nil) => return self.member_of_nil(&nil, &ty, name),
        };
        if let Data::Object(object) = &target.data
            && let Some(arity) = object.arity(name)
        {
            let fixed: &'static [Param] = match arity {
                0 => &[],
                1 => &[Param::String],
                _ => &[Param::String, Param::String],
            };
            let signature = Signature {
                fixed,
                variadic: None,
            };
            let values = self.arguments(dot, name, signature, args, last)?;
            let texts: Vec<&str> = values
                .iter()
                .map(|value| match &value.data {
                    Data::Str(text) => &**text,
                    _ => "",
                })
                .collect();
            return match object.call(name, &texts) {
                Ok(value) => Ok(value),
                Err(message) => {
                    self.at = At::Operand(node);
                    self.error(format_args!("error calling {name}: {message}"))
                }
            };
        }
        if name == "String"
            && args.is_empty()
            && last.is_none()
            && let Some(text) = string_method(&target)
        {
            return Ok(text.into());
        }
        let has_args = !args.is_empty() || last.is_some();
        match (&target.data, target.ty.underlying()) {
            (Data::Struct(_), _) => match find_field(&target, name) {
                Found::Field(_) if has_args => {
                    return self.error(format_args!(
                        "{name} has arguments but cannot be invoked as function"
                    ));
                }
                Found::Field(value) => return Ok(value),
                Found::BehindNil(embedded) => {
                    return self.error(format_args!(
                        "reflect: indirection through nil pointer to embedded struct field {embedded}"
                    ));
                }
                Found::Nothing => {}
            },
            (Data::Map(entries), Type::Map(types)) if types.0 == Type::String => {
                if has_args {
                    return self.error(format_args!("{name} is not a method but has arguments"));
                }
                let found = entries.as_ref().and_then(|entries| entries.get(name));
                return match (found, self.program.missing_key) {
                    (Some(value), _) => Ok(value.clone()),
                    (None, MissingKey::NoValue) => Ok(Value::invalid()),
                    (None, MissingKey::Error) => {
                        self.error(format_args!("map has no entry for key {}", quote(name)))
                    }
                };
            }
            _ => {}
        }
        self.error(format_args!("can't evaluate field {name} in type {ty}"))
    }

    fn member_of_nil(&self, nil: &Value, ty: &Type, name: &str) -> Result<Value, Error> {
        if let Type::Pointer(target) = nil.ty.underlying()
            && let Type::Struct(_) = target.underlying()
            && matches!(
                find_field(&crate::schema::zero(target), name),
                Found::Nothing
            )
        {
            return self.error(format_args!("can't evaluate field {name} in type {ty}"));
        }
        self.error(format_args!("nil pointer evaluating {ty}.{name}"))
    }

    fn function(
        &mut self,
        dot: &Value,
        node: &'t Operand,
        whole: At<'t>,
        name: &'t str,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        self.at = At::Operand(node);
        let Some(signature) = self.program.functions.signature(name) else {
            return self.error(format_args!("{} is not a defined function", quote(name)));
        };
        if name == "and" || name == "or" {
            return self.logical(dot, name, args, last);
        }
        let values = self.arguments(dot, name, signature, args, last)?;
        let callee = match (name, args.first(), values.first()) {
            ("call", Some(arg), _) => arg.to_string(),
            (
                "call",
                None,
                Some(Value {
                    data: Data::Str(text),
                    ..
                }),
            ) => text.to_string(),
            ("call", None, Some(value)) => format!("<{} Value>", value.ty),
            _ => String::new(),
        };
        let limit = self.program.limits.output_bytes;
        match self.program.functions.call(name, &callee, &values, limit)? {
            Ok(value) => {
                self.charge(size(&value) + values.iter().map(comparison_cost).sum::<usize>())?;
                Ok(value)
            }
            Err(message) => {
                self.at = whole;
                self.error(format_args!("error calling {name}: {message}"))
            }
        }
    }

    /// `and` and `or` evaluate no more arguments than they need.
    fn logical(
        &mut self,
        dot: &Value,
        name: &str,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        if args.is_empty() && last.is_none() {
            return self.error(format_args!(
                "wrong number of args for {name}: want at least 1 got 0"
            ));
        }
        let mut value = Value::invalid();
        for arg in args {
            value = self.arg(dot, Param::Reflect, arg)?;
            if value.is_true() == (name == "or") {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// Evaluates and checks the arguments of a call.
    fn arguments(
        &mut self,
        dot: &Value,
        name: &str,
        signature: Signature,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Result<Vec<Value>, Error> {
        let count = args.len() + usize::from(last.is_some());
        let fixed = signature.fixed.len();
        if signature.variadic.is_some() {
            if count < fixed {
                return self.error(format_args!(
                    "wrong number of args for {name}: want at least {fixed} got {}",
                    args.len()
                ));
            }
        } else if count != fixed {
            return self.error(format_args!(
                "wrong number of args for {name}: want {fixed} got {count}"
            ));
        }
        let param = |index: usize| {
            signature
                .fixed
                .get(index)
                .copied()
                .or(signature.variadic)
                .unwrap_or(Param::Any)
        };
        let mut values = Vec::with_capacity(count);
        for (index, arg) in args.iter().enumerate() {
            values.push(self.arg(dot, param(index), arg)?);
        }
        if let Some(last) = last {
            values.push(self.validate(last, param(args.len()))?);
        }
        Ok(values)
    }

    fn arg(&mut self, dot: &Value, param: Param, node: &'t Operand) -> Result<Value, Error> {
        self.at = At::Operand(node);
        let value = match &node.term {
            Term::Dot => dot.clone(),
            Term::Nil if param.can_be_nil() => {
                return Ok(match param {
                    Param::Strings => Value::new(Type::slice_of(Type::String), Data::List(None)),
                    Param::Reflect => Value::invalid(),
                    _ => Value::nil(),
                });
            }
            Term::Nil => {
                return self.error(format_args!("cannot assign nil to {}", param.name()));
            }
            Term::Field(_) => self.field(dot, node, &[], None)?,
            Term::Variable(_) => self.variable_chain(dot, node, &[], None)?,
            Term::Pipe(pipe) => self.pipeline(dot, pipe)?,
            Term::Identifier(name) => {
                self.function(dot, node, At::Operand(node), name, &[], None)?
            }
            Term::Chain(..) => self.chain(dot, node, &[], None)?,
            Term::Bool(_) | Term::Number(_) | Term::String { .. } => {
                return self.literal(param, node);
            }
        };
        self.validate(value, param)
    }

    fn literal(&self, param: Param, node: &Operand) -> Result<Value, Error> {
        match (param, &node.term) {
            (Param::Any | Param::Reflect, Term::Bool(value)) => Ok((*value).into()),
            (Param::Any | Param::Reflect, Term::Number(number)) => self.ideal(number),
            (Param::Any | Param::Reflect | Param::String, Term::String { text, .. }) => {
                Ok(text.as_str().into())
            }
            (
                Param::Int,
                Term::Number(Number {
                    int: Some(value), ..
                }),
            ) => Ok(int(*value)),
            (Param::Int, _) => self.error(format_args!("expected integer; found {node}")),
            (Param::String, _) => self.error(format_args!("expected string; found {node}")),
            _ => self.error(format_args!(
                "can't handle {node} for arg of type {}",
                param.name()
            )),
        }
    }

    /// Checks that a value may be passed for `param`.
    fn validate(&self, value: Value, param: Param) -> Result<Value, Error> {
        if !value.is_valid() {
            return match param {
                Param::Any => Ok(Value::nil()),
                Param::Reflect => Ok(value),
                Param::Strings => Ok(Value::new(Type::slice_of(Type::String), Data::List(None))),
                _ => self.error(format_args!("invalid value; expected {}", param.name())),
            };
        }
        let fits = |ty: &Type| match param {
            Param::Reflect | Param::Any => true,
            Param::String => *ty == Type::String,
            Param::Int => *ty == Type::Int("int"),
            Param::Strings => *ty.underlying() == Type::slice_of(Type::String),
        };
        if fits(&value.ty) && (!matches!(value.data, Data::Nil) || param.can_be_nil()) {
            return Ok(if param == Param::Reflect {
                value
            } else {
                Value {
                    boxed: false,
                    ..value
                }
            });
        }
        if let (Data::Pointer(target), Type::Pointer(ty)) = (&value.data, value.ty.underlying())
            && fits(ty)
        {
            return match target {
                Some(target) => Ok(Value::clone(target)),
                None => self.error(format_args!(
                    "dereference of nil pointer of type {}",
                    param.name()
                )),
            };
        }
        self.error(format_args!(
            "wrong type for value; expected {}; got {}",
            param.name(),
            value.ty
        ))
    }
}

/// The result of looking for a field.
enum Found {
    Field(Value),
    /// Inside this embedded struct, whose pointer is nil.
    BehindNil(String),
    Nothing,
}

/// Looks in the struct itself, then in the embedded ones, level by level.
fn find_field(target: &Value, name: &str) -> Found {
    let mut level = vec![target.clone()];
    while !level.is_empty() {
        let mut next = Vec::new();
        for value in &level {
            let (Type::Struct(ty), Data::Struct(values)) = (value.ty.underlying(), &value.data)
            else {
                continue;
            };
            for (field, entry) in ty.fields.iter().zip(values.iter()) {
                if field.name == name {
                    return Found::Field(entry.clone());
                }
                if !field.embedded {
                    continue;
                }
                match entry.indirect() {
                    Ok(inner) => next.push(inner),
                    Err(nil) => {
                        if let Type::Pointer(ty) = nil.ty.underlying() {
                            let zero = crate::schema::zero(ty);
                            if !matches!(find_field(&zero, name), Found::Nothing) {
                                return Found::BehindNil(field.name.clone());
                            }
                        }
                    }
                }
            }
        }
        level = next;
    }
    Found::Nothing
}

/// What a new value costs.
fn size(value: &Value) -> usize {
    match &value.data {
        Data::Str(text) => text.len(),
        Data::List(Some(items)) => items.iter().map(|item| STEP_COST + size(item)).sum(),
        _ => 0,
    }
}

/// What looking through an argument costs.
fn comparison_cost(value: &Value) -> usize {
    match &value.data {
        Data::Str(text) if value.kind() == Kind::String => text.len() / 16,
        Data::List(Some(items)) => items.len(),
        _ => 0,
    }
}
