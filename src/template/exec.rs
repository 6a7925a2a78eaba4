//! Walks the tree of a template (Go's text/template). What functions get to work with.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::parse::{Command, Expr, Node, Number, Pipe, Stmt, Tree};
use super::value::{Buf, Elem, Heap, ListId, Map, MapId, Text, Value};
use super::{
    Body, Budget, Context, Dialect, Fault, Function, Limit, MAX_DEPTH, MAX_VALUE, MissingKey, Param, format, semver,
};

/// How a list of statements ended.
enum Flow {
    On,
    Break,
    Continue,
}

/// One rendering.
pub(super) struct Exec<'a> {
    tree: &'a Tree,
    source: &'a str,
    dialect: &'a Dialect,
    budget: &'a mut Budget,
    pub(super) heap: Heap,
    vars: Vec<(usize, Value)>,
    depth: usize,
    out: Buf,
}

impl<'a> Exec<'a> {
    pub(super) fn new(tree: &'a Tree, source: &'a str, dialect: &'a Dialect, budget: &'a mut Budget) -> Self {
        let out = Buf::new(budget.output, Limit::Output);
        Self { tree, source, dialect, budget, heap: Heap::default(), vars: Vec::new(), depth: 0, out }
    }

    pub(super) fn run(mut self, name: &str, context: &Context) -> Result<Vec<u8>, Fault> {
        self.step(context.0.len() as u64)?;
        let dot = self.heap.add_map(Elem::Any, false, context.0.clone());
        let tree = self.tree;
        if let Some(stmts) = tree.templates.get(name.as_bytes()) {
            self.vars.push((0, dot.clone()));
            self.walk(&dot, stmts)?;
        }
        self.budget.output = self.budget.output.saturating_sub(self.out.len());
        Ok(self.out.take())
    }

    /// Counts steps.
    pub(super) fn step(&mut self, count: u64) -> Result<(), Fault> {
        match self.budget.steps.checked_sub(count) {
            Some(left) => {
                self.budget.steps = left;
                Ok(())
            }
            None => Err(Fault::limit(Limit::Steps)),
        }
    }

    /// Counts the steps of going through so many bytes.
    pub(super) fn scan(&mut self, bytes: usize) -> Result<(), Fault> {
        self.step(1 + bytes as u64 / 64)
    }

    fn work(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.budget.work.checked_sub(bytes) {
            Some(left) => {
                self.budget.work = left;
                Ok(())
            }
            None => Err(Fault::limit(Limit::Work)),
        }
    }

    /// For a string that is about to be made.
    pub(super) fn buf(&self) -> Buf {
        Buf::new(MAX_VALUE.min(self.budget.work), if self.budget.work < MAX_VALUE { Limit::Work } else { Limit::Value })
    }

    pub(super) fn text(&mut self, bytes: Vec<u8>) -> Result<Value, Fault> {
        if bytes.len() > MAX_VALUE {
            return Err(Fault::limit(Limit::Value));
        }
        self.work(bytes.len() + 32)?;
        self.scan(bytes.len())?;
        Ok(Value::Str(Text::new(bytes)))
    }

    pub(super) fn str(&mut self, text: &str) -> Result<Value, Fault> {
        self.text(text.as_bytes().to_vec())
    }

    pub(super) fn made(&mut self, buf: Buf) -> Result<Value, Fault> {
        self.text(buf.take())
    }

    /// Before a list of so many values is made.
    pub(super) fn room(&mut self, values: usize) -> Result<(), Fault> {
        self.work(values.saturating_mul(32))?;
        self.step(1 + values as u64)
    }

    pub(super) fn list(&mut self, elem: Elem, values: Vec<Value>) -> Result<Value, Fault> {
        self.room(values.len() + 4)?;
        Ok(self.heap.add_list(elem, false, values))
    }

    pub(super) fn nil_list(&mut self, elem: Elem) -> Result<Value, Fault> {
        self.room(4)?;
        Ok(self.heap.add_list(elem, true, Vec::new()))
    }

    pub(super) fn strings(&mut self, texts: Vec<Vec<u8>>) -> Result<Value, Fault> {
        let mut values = Vec::with_capacity(texts.len());
        for text in texts {
            values.push(self.text(text)?);
        }
        self.list(Elem::Str, values)
    }

    pub(super) fn map(&mut self, elem: Elem, entries: BTreeMap<Text, Value>) -> Result<Value, Fault> {
        self.room(2 * entries.len() + 4)?;
        Ok(self.heap.add_map(elem, false, entries))
    }

    pub(super) fn entries(&self, id: MapId) -> &Map {
        self.heap.map(id)
    }

    /// One level deeper in a value or a tree.
    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Fault::limit(Limit::Depth)) } else { Ok(()) }
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    fn walk(&mut self, dot: &Value, stmts: &[Stmt]) -> Result<Flow, Fault> {
        self.enter()?;
        for stmt in stmts {
            self.step(1)?;
            match self.statement(dot, stmt)? {
                Flow::On => {}
                flow => {
                    self.leave();
                    return Ok(flow);
                }
            }
        }
        self.leave();
        Ok(Flow::On)
    }

    fn statement(&mut self, dot: &Value, stmt: &Stmt) -> Result<Flow, Fault> {
        match stmt {
            Stmt::Text(start, end) => {
                let text = self.source.get(*start..*end).unwrap_or_default().as_bytes();
                self.scan(text.len())?;
                self.out.push(text).map_err(|fault| fault.at(*start))?;
            }
            Stmt::Action(pipe) => {
                let value = self.pipeline(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.print(&value).map_err(|fault| fault.at(pipe.pos))?;
                }
            }
            Stmt::Branch { with, branches, otherwise } => {
                let mark = self.vars.len();
                let flow = self.branch(dot, *with, branches, otherwise)?;
                self.vars.truncate(mark);
                return Ok(flow);
            }
            Stmt::Range { pipe, body, otherwise } => {
                let mark = self.vars.len();
                let flow = self.range(dot, pipe, body, otherwise)?;
                self.vars.truncate(mark);
                return Ok(flow);
            }
            Stmt::Template { pos, name, pipe } => {
                let tree = self.tree;
                let Some(stmts) = tree.templates.get(name) else {
                    return Err(Fault::execution("there is no template of this name").at(*pos));
                };
                let dot = match pipe {
                    Some(pipe) => self.pipeline(dot, pipe)?,
                    None => Value::Nil,
                };
                let outer = std::mem::replace(&mut self.vars, vec![(0, dot.clone())]);
                self.walk(&dot, stmts).map_err(|fault| fault.at(*pos))?;
                self.vars = outer;
            }
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn branch(
        &mut self,
        dot: &Value,
        with: bool,
        branches: &[(Pipe, Vec<Stmt>)],
        otherwise: &[Stmt],
    ) -> Result<Flow, Fault> {
        for (pipe, body) in branches {
            let value = self.pipeline(dot, pipe)?;
            used(&value).map_err(|fault| fault.at(pipe.pos))?;
            if self.heap.truth(&value) {
                return self.walk(if with { &value } else { dot }, body);
            }
        }
        self.walk(dot, otherwise)
    }

    fn print(&mut self, value: &Value) -> Result<(), Fault> {
        if let Value::Str(text) = value {
            self.scan(text.bytes().len())?;
            return self.out.push(text.bytes());
        }
        let mut buf = self.buf();
        if value.is_nil() {
            buf.push(b"<no value>")?;
        } else {
            format::print_value(self, value, &mut buf)?;
        }
        self.scan(buf.len())?;
        self.out.push(buf.bytes())
    }

    /// The elements to go through, with their keys.
    fn range(&mut self, dot: &Value, pipe: &Pipe, body: &[Stmt], otherwise: &[Stmt]) -> Result<Flow, Fault> {
        let value = self.pipeline(dot, pipe)?;
        let fail = |what| Err(Fault::execution(what).at(pipe.pos));
        let mark = self.vars.len();
        let ran = match &value {
            Value::Nil => false,
            Value::Int(..) | Value::Uint(..) => {
                if pipe.variables.len() > 1 {
                    return fail("a number gives one variable only");
                }
                // Counts as far as the steps allow.
                let mut index = 0_u64;
                loop {
                    let element = match value {
                        Value::Int(kind, n) if i64::try_from(index).is_ok_and(|i| i < n) => {
                            Value::Int(kind, i64::try_from(index).unwrap_or(i64::MAX))
                        }
                        Value::Uint(kind, n) if index < n => Value::Uint(kind, index),
                        _ => break,
                    };
                    index += 1;
                    if self.iterate(pipe, mark, Value::Nil, element, body)? {
                        break;
                    }
                }
                index > 0
            }
            Value::List(id) => {
                let list = Rc::clone(self.heap.list(*id));
                for (index, element) in list.values.iter().enumerate() {
                    let index = Value::int(i64::try_from(index).unwrap_or(i64::MAX));
                    if self.iterate(pipe, mark, index, element.clone(), body)? {
                        break;
                    }
                }
                !list.values.is_empty()
            }
            Value::Map(id) => {
                // As it is now: the body may change it.
                let count = self.heap.map(*id).entries.len();
                self.room(2 * count).map_err(|fault| fault.at(pipe.pos))?;
                let entries: Vec<_> = self.heap.map(*id).entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                for (key, element) in entries {
                    if self.iterate(pipe, mark, Value::Str(key), element, body)? {
                        break;
                    }
                }
                count > 0
            }
            Value::Binary => return Err(Fault::not_text().at(pipe.pos)),
            Value::Bool(_) | Value::Float(_) | Value::Str(_) | Value::Version(_) => {
                return fail("this can't be ranged over");
            }
        };
        if ran {
            return Ok(Flow::On);
        }
        self.walk(dot, otherwise)
    }

    /// One turn; whether it was the last.
    fn iterate(
        &mut self,
        pipe: &Pipe,
        mark: usize,
        index: Value,
        element: Value,
        body: &[Stmt],
    ) -> Result<bool, Fault> {
        self.step(1).map_err(|fault| fault.at(pipe.pos))?;
        let pair = match pipe.variables.as_slice() {
            [] => vec![],
            [one] => vec![(*one, element.clone())],
            [key, value, ..] => vec![(*key, index), (*value, element.clone())],
        };
        if pipe.assigns {
            for (name, value) in pair {
                self.assign(name, value).map_err(|fault| fault.at(pipe.pos))?;
            }
        } else {
            // The pipeline pushed the variables, whose values are those of this turn.
            for ((_, value), slot) in pair.into_iter().rev().zip(self.vars.iter_mut().take(mark).rev()) {
                slot.1 = value;
            }
        }
        let flow = self.walk(&element, body)?;
        self.vars.truncate(mark);
        Ok(matches!(flow, Flow::Break))
    }

    fn assign(&mut self, name: usize, value: Value) -> Result<(), Fault> {
        self.step(1 + self.vars.len() as u64 / 16)?;
        match self.vars.iter_mut().rev().find(|(known, _)| *known == name) {
            Some(slot) => {
                slot.1 = value;
                Ok(())
            }
            None => Err(Fault::execution("there is no variable of this name")),
        }
    }

    fn pipeline(&mut self, dot: &Value, pipe: &Pipe) -> Result<Value, Fault> {
        self.enter().map_err(|fault| fault.at(pipe.pos))?;
        let mut last: Option<Value> = None;
        for command in &pipe.commands {
            self.step(1).map_err(|fault| fault.at(command.pos))?;
            last = Some(self.command(dot, command, last).map_err(|fault| fault.at(command.pos))?);
        }
        let value = last.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(*name, value.clone()).map_err(|fault| fault.at(pipe.pos))?;
            } else {
                self.vars.push((*name, value.clone()));
            }
        }
        self.leave();
        Ok(value)
    }

    fn command(&mut self, dot: &Value, command: &Command, last: Option<Value>) -> Result<Value, Fault> {
        let Some((first, args)) = command.args.split_first() else { return Ok(Value::Nil) };
        if let Expr::Function(function) = &first.expr {
            return self.call(dot, function, args, last);
        }
        let given = !args.is_empty() || last.is_some();
        let (receiver, fields) = match &first.expr {
            Expr::Field(fields) => (dot.clone(), fields.as_slice()),
            Expr::Chain(inner, fields) => (self.argument(dot, Param::Any, inner)?, fields.as_slice()),
            Expr::Variable(name, fields) if !fields.is_empty() => (self.variable(*name)?, fields.as_slice()),
            _ if given => return Err(Fault::execution("arguments for what is no function")),
            Expr::Variable(name, _) => return self.variable(*name),
            Expr::Nil => return Err(Fault::execution("nil is no command")),
            Expr::Pipe(pipe) => return self.pipeline(dot, pipe),
            Expr::Dot => return Ok(dot.clone()),
            Expr::Bool(bool) => return Ok(Value::Bool(*bool)),
            Expr::Str(text) => return Ok(Value::Str(text.clone())),
            Expr::Number(number) => return constant(*number),
            Expr::Function(_) => return Ok(Value::Nil),
        };
        self.fields(dot, receiver, fields, args, last).map_err(|fault| fault.at(first.pos))
    }

    fn variable(&mut self, name: usize) -> Result<Value, Fault> {
        self.step(self.vars.len() as u64 / 16)?;
        let found = self.vars.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| Fault::execution("there is no variable of this name"))
    }

    fn fields(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        fields: &[Text],
        args: &[Node],
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        let Some((end, chain)) = fields.split_last() else { return Ok(receiver) };
        for field in chain {
            receiver = self.field(dot, &receiver, field, &[], None)?;
        }
        self.field(dot, &receiver, end, args, last)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: &Value,
        name: &Text,
        args: &[Node],
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        self.step(1)?;
        match receiver {
            Value::Nil if self.dialect.missing_key == MissingKey::Error => Err(Fault::missing()),
            Value::Nil => Ok(Value::Nil),
            Value::Binary => Err(Fault::not_text()),
            Value::Map(id) => {
                if !args.is_empty() || last.is_some() {
                    return Err(Fault::execution("arguments for what is no function"));
                }
                match self.heap.map(*id).entries.get(name) {
                    Some(value) => Ok(value.clone()),
                    None if self.dialect.missing_key == MissingKey::Error => Err(Fault::missing()),
                    None => Ok(Value::Nil),
                }
            }
            Value::Version(version) => {
                let Some(method) = semver::method(name.bytes()) else {
                    return Err(Fault::execution("a version has no such field"));
                };
                let mut values = vec![Value::Version(Rc::clone(version))];
                values.extend(self.arguments(dot, method, method.params.get(1..).unwrap_or_default(), args, last)?);
                self.invoke(method, &values)
            }
            _ => Err(Fault::execution("a field of a value that has none")),
        }
    }

    fn call(
        &mut self,
        dot: &Value,
        function: &'static Function,
        args: &[Node],
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        let stop = match function.body {
            Body::And => false,
            Body::Or => true,
            Body::Plain(_) => {
                let values = self.arguments(dot, function, function.params, args, last)?;
                return self.invoke(function, &values);
            }
        };
        if args.is_empty() && last.is_none() {
            return Err(Fault::execution("too few arguments").inside(function.name));
        }
        let mut value = Value::Nil;
        for arg in args {
            value = self.argument(dot, Param::Any, arg)?;
            used(&value).map_err(|fault| fault.at(arg.pos))?;
            if self.heap.truth(&value) == stop {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn invoke(&mut self, function: &'static Function, values: &[Value]) -> Result<Value, Fault> {
        self.step(2)?;
        match function.body {
            Body::Plain(run) => run(self, values).map_err(|fault| fault.inside(function.name)),
            Body::And | Body::Or => Ok(Value::Nil),
        }
    }

    fn arguments(
        &mut self,
        dot: &Value,
        function: &'static Function,
        params: &[Param],
        args: &[Node],
        last: Option<Value>,
    ) -> Result<Vec<Value>, Fault> {
        let count = args.len() + usize::from(last.is_some());
        if count < params.len() || (function.variadic.is_none() && count > params.len()) {
            let what = if count < params.len() { "too few arguments" } else { "too many arguments" };
            return Err(Fault::execution(what).inside(function.name));
        }
        let param = |index: usize| params.get(index).copied().or(function.variadic).unwrap_or(Param::Any);
        let mut values = Vec::with_capacity(count);
        for (index, arg) in args.iter().enumerate() {
            let value = self
                .argument(dot, param(index), arg)
                .map_err(|fault| if fault.pos.is_some() { fault } else { fault.inside(function.name).at(arg.pos) })?;
            values.push(value);
        }
        if let Some(last) = last {
            let fits = self.fit(last, param(args.len()));
            values.push(fits.map_err(|fault| fault.inside(function.name))?);
        }
        Ok(values)
    }

    /// An argument for a parameter of this type.
    fn argument(&mut self, dot: &Value, param: Param, node: &Node) -> Result<Value, Fault> {
        self.step(1)?;
        let value = match &node.expr {
            Expr::Dot => dot.clone(),
            Expr::Nil => {
                return match param {
                    Param::Any | Param::Dict | Param::Version => self.fit(Value::Nil, param),
                    _ => Err(Fault::execution("nil for an argument that can't be nil")),
                };
            }
            Expr::Field(fields) => {
                self.fields(dot, dot.clone(), fields, &[], None).map_err(|fault| fault.at(node.pos))?
            }
            Expr::Variable(name, fields) => {
                let value = self.variable(*name)?;
                self.fields(dot, value, fields, &[], None).map_err(|fault| fault.at(node.pos))?
            }
            Expr::Chain(inner, fields) => {
                self.enter()?;
                let value = self.argument(dot, Param::Any, inner)?;
                self.leave();
                self.fields(dot, value, fields, &[], None).map_err(|fault| fault.at(node.pos))?
            }
            Expr::Pipe(pipe) => self.pipeline(dot, pipe)?,
            Expr::Function(function) => self.call(dot, function, &[], None)?,
            Expr::Bool(bool) => match param {
                Param::Any | Param::Bool => return Ok(Value::Bool(*bool)),
                _ => return Err(Fault::execution("an argument of the wrong type")),
            },
            Expr::Str(text) => match param {
                Param::Any | Param::Str => return Ok(Value::Str(text.clone())),
                _ => return Err(Fault::execution("an argument of the wrong type")),
            },
            Expr::Number(number) => {
                let fits = match param {
                    Param::Any => return constant(*number),
                    Param::Int => number.int.map(Value::int),
                    Param::Float => number.float.map(Value::Float),
                    _ => None,
                };
                return fits.ok_or_else(|| Fault::execution("an argument of the wrong type"));
            }
        };
        self.fit(value, param)
    }

    /// A value for a parameter of this type: as it is, or not at all.
    fn fit(&mut self, value: Value, param: Param) -> Result<Value, Fault> {
        use super::value::IntType;
        used(&value)?;
        let fits = match (param, &value) {
            (Param::Any, _)
            | (Param::Str, Value::Str(_))
            | (Param::Int, Value::Int(IntType::Int, _))
            | (Param::Float, Value::Float(_))
            | (Param::Bool, Value::Bool(_))
            | (Param::Version, Value::Version(_)) => true,
            (Param::Dict, Value::Map(id)) => self.heap.map(*id).elem == Elem::Any,
            (Param::Dict, Value::Nil) => {
                self.room(4)?;
                return Ok(self.heap.add_map(Elem::Any, true, BTreeMap::new()));
            }
            _ => false,
        };
        if fits { Ok(value) } else { Err(Fault::execution("an argument of the wrong type")) }
    }

    /// The values of any list.
    pub(super) fn values(&mut self, value: &Value) -> Result<Rc<List>, Fault> {
        match value {
            Value::List(id) => self.elements(*id),
            _ => Err(Fault::execution("this is no list")),
        }
    }

    pub(super) fn elements(&mut self, id: ListId) -> Result<Rc<List>, Fault> {
        let list = Rc::clone(self.heap.list(id));
        self.step(1 + list.values.len() as u64)?;
        Ok(list)
    }
}

use super::value::List;

/// An item that is not text can't be used.
pub(super) const fn used(value: &Value) -> Result<(), Fault> {
    if matches!(value, Value::Binary) { Err(Fault::not_text()) } else { Ok(()) }
}

/// A number whose type nothing but its own form says.
fn constant(number: Number) -> Result<Value, Fault> {
    match (number.is_float, number.int, number.float) {
        (true, _, Some(float)) => Ok(Value::Float(float)),
        (_, Some(int), _) => Ok(Value::int(int)),
        _ => Err(Fault::execution("an integer out of range")),
    }
}
