//! Templates as trees (Go's text/template/parse). Everything that Go finds before it executes is found here.

use std::collections::BTreeMap;

use super::lex::{Keyword, Kind, Lexer, Token};
use super::value::Text;
use super::{Fault, Function, Functions, Limit, MAX_NESTING, MAX_NODES, MAX_SOURCE, MAX_VARIABLES};

/// An expression, with where it begins.
pub(super) struct Node {
    pub(super) pos: usize,
    pub(super) expr: Expr,
}

pub(super) enum Expr {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Str(Text),
    Field(Vec<Text>),
    Variable(usize, Vec<Text>),
    Function(&'static Function),
    Chain(Box<Node>, Vec<Text>),
    Pipe(Box<Pipe>),
}

/// A number literal: what it can be.
#[derive(Clone, Copy, Default)]
pub(super) struct Number {
    pub(super) int: Option<i64>,
    pub(super) float: Option<f64>,
    /// Written as a floating-point number.
    pub(super) is_float: bool,
}

pub(super) struct Command {
    pub(super) pos: usize,
    /// At least one.
    pub(super) args: Vec<Node>,
}

pub(super) struct Pipe {
    pub(super) pos: usize,
    /// Variables by number: at most two.
    pub(super) variables: Vec<usize>,
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

pub(super) enum Stmt {
    Text(usize, usize),
    Action(Pipe),
    /// `if` or `with`, with all its `else if` or `else with`.
    Branch {
        with: bool,
        branches: Vec<(Pipe, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    Range {
        pipe: Pipe,
        body: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
    Template {
        pos: usize,
        name: Text,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

/// What one source defines.
pub(super) struct Tree {
    /// By name, the source's own among them.
    pub(super) templates: BTreeMap<Text, Vec<Stmt>>,
}

/// How a list of statements ended.
enum Ended {
    End,
    Else,
    /// `{{else if` or `{{else with`, up to and with that word.
    ElseKeyword(Keyword, usize),
}

struct Parser<'s> {
    source: &'s str,
    lexer: Lexer<'s>,
    ahead: Vec<Token>,
    functions: &'s Functions,
    names: BTreeMap<&'s str, usize>,
    vars: Vec<&'s str>,
    ranges: usize,
    nesting: usize,
    nodes: usize,
    templates: BTreeMap<Text, Vec<Stmt>>,
}

/// Whether nothing but space is in it: such a definition replaces none and is replaced.
fn is_blank(source: &str, stmts: &[Stmt]) -> bool {
    stmts.iter().all(|stmt| match stmt {
        Stmt::Text(start, end) => source.get(*start..*end).unwrap_or_default().trim().is_empty(),
        _ => false,
    })
}

pub(super) fn parse(name: &str, source: &str, functions: &Functions) -> Result<Tree, Fault> {
    if source.len() > MAX_SOURCE {
        return Err(Fault::limit(Limit::Source));
    }
    let mut parser = Parser {
        source,
        lexer: Lexer::new(source),
        ahead: Vec::new(),
        functions,
        names: BTreeMap::from([("$", 0)]),
        vars: vec!["$"],
        ranges: 0,
        nesting: 0,
        nodes: 0,
        templates: BTreeMap::new(),
    };
    let root = parser.top()?;
    parser.add(Text::from(name), root, source.len())?;
    Ok(Tree { templates: parser.templates })
}

impl<'s> Parser<'s> {
    fn next(&mut self) -> Result<Token, Fault> {
        match self.ahead.pop() {
            Some(token) => Ok(token),
            None => self.lexer.next(),
        }
    }

    fn back(&mut self, token: Token) {
        self.ahead.push(token);
    }

    fn peek(&mut self) -> Result<Token, Fault> {
        let token = self.next()?;
        self.back(token);
        Ok(token)
    }

    fn next_solid(&mut self) -> Result<Token, Fault> {
        loop {
            let token = self.next()?;
            if token.kind != Kind::Space {
                return Ok(token);
            }
        }
    }

    fn peek_solid(&mut self) -> Result<Token, Fault> {
        let token = self.next_solid()?;
        self.back(token);
        Ok(token)
    }

    fn text(&self, token: Token) -> &'s str {
        self.source.get(token.start..token.end).unwrap_or_default()
    }

    fn expect(&mut self, kind: Kind, what: &'static str) -> Result<Token, Fault> {
        let token = self.next_solid()?;
        if token.kind == kind { Ok(token) } else { Err(Fault::syntax(token.start, what)) }
    }

    /// Counts what the tree holds.
    fn node(&mut self, pos: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(Fault::limit(Limit::Source).at(pos)) } else { Ok(()) }
    }

    fn deeper(&mut self, pos: usize) -> Result<(), Fault> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING { Err(Fault::limit(Limit::Nesting).at(pos)) } else { Ok(()) }
    }

    /// The number of a variable's name.
    fn number_of(&mut self, name: &'s str) -> usize {
        let next = self.names.len();
        *self.names.entry(name).or_insert(next)
    }

    fn add(&mut self, name: Text, stmts: Vec<Stmt>, pos: usize) -> Result<(), Fault> {
        match self.templates.get(&name) {
            Some(old) if !is_blank(self.source, old) => {
                if is_blank(self.source, &stmts) {
                    return Ok(());
                }
                Err(Fault::syntax(pos, "a template of this name is defined already"))
            }
            _ => {
                self.templates.insert(name, stmts);
                Ok(())
            }
        }
    }

    fn top(&mut self) -> Result<Vec<Stmt>, Fault> {
        let mut stmts = Vec::new();
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::End => return Ok(stmts),
                Kind::Left => {
                    let word = self.next_solid()?;
                    if word.kind == Kind::Keyword(Keyword::Define) {
                        self.define()?;
                        continue;
                    }
                    self.back(word);
                    match self.action(token.start)? {
                        Ok(stmt) => stmts.push(stmt),
                        Err(Ended::End) => return Err(Fault::syntax(token.start, "unexpected {{end}}")),
                        Err(_) => return Err(Fault::syntax(token.start, "unexpected {{else}}")),
                    }
                }
                _ => stmts.push(Stmt::Text(token.start, token.end)),
            }
            self.node(token.start)?;
        }
    }

    /// In a scope of its own, as a template that is defined is.
    fn separate(&mut self, what: &'static str) -> Result<Vec<Stmt>, Fault> {
        let vars = std::mem::replace(&mut self.vars, vec!["$"]);
        let ranges = std::mem::take(&mut self.ranges);
        let pos = self.peek()?.start;
        let (stmts, ended) = self.list()?;
        if !matches!(ended, Ended::End) {
            return Err(Fault::syntax(pos, what));
        }
        self.vars = vars;
        self.ranges = ranges;
        Ok(stmts)
    }

    fn template_name(&mut self) -> Result<(Text, usize), Fault> {
        let token = self.next_solid()?;
        if !matches!(token.kind, Kind::Str | Kind::Raw) {
            return Err(Fault::syntax(token.start, "the name of a template is a string"));
        }
        Ok((Text::new(unquote(self.text(token), token.start)?), token.start))
    }

    fn define(&mut self) -> Result<(), Fault> {
        let (name, pos) = self.template_name()?;
        self.expect(Kind::Right, "nothing follows the name in {{define}}")?;
        self.deeper(pos)?;
        let stmts = self.separate("unexpected {{else}} in {{define}}")?;
        self.nesting -= 1;
        self.add(name, stmts, pos)
    }

    fn list(&mut self) -> Result<(Vec<Stmt>, Ended), Fault> {
        let mut stmts = Vec::new();
        loop {
            let token = self.next_solid()?;
            match token.kind {
                Kind::End => {
                    return Err(Fault::syntax(token.start, "unexpected end: a block is not closed"));
                }
                Kind::Text => stmts.push(Stmt::Text(token.start, token.end)),
                Kind::Left => match self.action(token.start)? {
                    Ok(stmt) => stmts.push(stmt),
                    Err(ended) => return Ok((stmts, ended)),
                },
                _ => return Err(Fault::syntax(token.start, "unexpected word")),
            }
            self.node(token.start)?;
        }
    }

    fn action(&mut self, start: usize) -> Result<Result<Stmt, Ended>, Fault> {
        let token = self.next_solid()?;
        let Kind::Keyword(keyword) = token.kind else {
            self.back(token);
            return Ok(Ok(Stmt::Action(self.pipeline(Kind::Right, false)?)));
        };
        let stmt = match keyword {
            Keyword::If => self.branch(start, false)?,
            Keyword::With => self.branch(start, true)?,
            Keyword::Range => self.range(start)?,
            Keyword::End => {
                self.expect(Kind::Right, "unexpected word in {{end}}")?;
                return Ok(Err(Ended::End));
            }
            Keyword::Else => {
                let next = self.next_solid()?;
                return match next.kind {
                    Kind::Right => Ok(Err(Ended::Else)),
                    Kind::Keyword(word @ (Keyword::If | Keyword::With)) => {
                        Ok(Err(Ended::ElseKeyword(word, next.start)))
                    }
                    _ => Err(Fault::syntax(next.start, "unexpected word in {{else}}")),
                };
            }
            Keyword::Template => {
                let (name, pos) = self.template_name()?;
                let next = self.next_solid()?;
                let pipe = if next.kind == Kind::Right {
                    None
                } else {
                    self.back(next);
                    Some(self.pipeline(Kind::Right, false)?)
                };
                Stmt::Template { pos, name, pipe }
            }
            Keyword::Block => {
                let (name, pos) = self.template_name()?;
                let pipe = self.pipeline(Kind::Right, false)?;
                self.deeper(pos)?;
                let stmts = self.separate("unexpected {{else}} in {{block}}")?;
                self.nesting -= 1;
                self.add(name.clone(), stmts, pos)?;
                Stmt::Template { pos, name, pipe: Some(pipe) }
            }
            Keyword::Break | Keyword::Continue => {
                self.expect(Kind::Right, "nothing follows {{break}} and {{continue}}")?;
                if self.ranges == 0 {
                    return Err(Fault::syntax(start, "{{break}} or {{continue}} outside {{range}}"));
                }
                if keyword == Keyword::Break { Stmt::Break } else { Stmt::Continue }
            }
            Keyword::Define => return Err(Fault::syntax(start, "{{define}} inside a block")),
        };
        Ok(Ok(stmt))
    }

    fn branch(&mut self, start: usize, with: bool) -> Result<Stmt, Fault> {
        self.deeper(start)?;
        let vars = self.vars.len();
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let pipe = self.pipeline(Kind::Right, false)?;
            let (body, ended) = self.list()?;
            branches.push((pipe, body));
            match ended {
                Ended::End => break,
                Ended::ElseKeyword(Keyword::If, _) if !with => self.node(start)?,
                Ended::ElseKeyword(Keyword::With, _) if with => self.node(start)?,
                Ended::ElseKeyword(_, pos) => return Err(Fault::syntax(pos, "unexpected word in {{else}}")),
                Ended::Else => {
                    otherwise = self.otherwise()?;
                    break;
                }
            }
        }
        self.vars.truncate(vars);
        self.nesting -= 1;
        Ok(Stmt::Branch { with, branches, otherwise })
    }

    fn otherwise(&mut self) -> Result<Vec<Stmt>, Fault> {
        let pos = self.peek()?.start;
        match self.list()? {
            (stmts, Ended::End) => Ok(stmts),
            _ => Err(Fault::syntax(pos, "a second {{else}}")),
        }
    }

    fn range(&mut self, start: usize) -> Result<Stmt, Fault> {
        self.deeper(start)?;
        let vars = self.vars.len();
        let pipe = self.pipeline(Kind::Right, true)?;
        self.ranges += 1;
        let (body, ended) = self.list()?;
        self.ranges -= 1;
        let otherwise = match ended {
            Ended::End => Vec::new(),
            Ended::Else => self.otherwise()?,
            Ended::ElseKeyword(_, pos) => return Err(Fault::syntax(pos, "unexpected word in {{else}}")),
        };
        self.vars.truncate(vars);
        self.nesting -= 1;
        Ok(Stmt::Range { pipe, body, otherwise })
    }

    fn pipeline(&mut self, end: Kind, is_range: bool) -> Result<Pipe, Fault> {
        let mut pipe =
            Pipe { pos: self.peek_solid()?.start, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, is_range)?;
        loop {
            let token = self.next_solid()?;
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::Raw
                | Kind::Str
                | Kind::Variable
                | Kind::Open => {
                    self.back(token);
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return Err(Fault::syntax(token.start, "unexpected word in an action")),
            }
        }
        if pipe.commands.is_empty() {
            return Err(Fault::syntax(pipe.pos, "a value is missing"));
        }
        for command in pipe.commands.iter().skip(1) {
            if let Some(Expr::Bool(_) | Expr::Dot | Expr::Nil | Expr::Number(_) | Expr::Str(_)) =
                command.args.first().map(|node| &node.expr)
            {
                return Err(Fault::syntax(command.pos, "what follows a | must be a function or take a value"));
            }
        }
        Ok(pipe)
    }

    fn declarations(&mut self, pipe: &mut Pipe, is_range: bool) -> Result<(), Fault> {
        loop {
            let variable = self.next_solid()?;
            if variable.kind != Kind::Variable {
                self.back(variable);
                return Ok(());
            }
            let after = self.next()?;
            let next = if after.kind == Kind::Space { self.next_solid()? } else { after };
            let name = self.text(variable);
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.assigns = next.kind == Kind::Assign;
                    self.declare(name, variable.start, pipe)?;
                    return Ok(());
                }
                Kind::Char if self.text(next) == "," => {
                    if !is_range || !pipe.variables.is_empty() {
                        return Err(Fault::syntax(next.start, "too many variables"));
                    }
                    self.declare(name, variable.start, pipe)?;
                    if !matches!(self.peek_solid()?.kind, Kind::Variable | Kind::Right | Kind::Close) {
                        return Err(Fault::syntax(next.start, "{{range}} can only initialize variables"));
                    }
                }
                _ => {
                    self.back(next);
                    if after.kind == Kind::Space {
                        self.back(after);
                    }
                    self.back(variable);
                    return Ok(());
                }
            }
        }
    }

    fn declare(&mut self, name: &'s str, pos: usize, pipe: &mut Pipe) -> Result<(), Fault> {
        if self.vars.len() >= MAX_VARIABLES {
            return Err(Fault::limit(Limit::Nesting).at(pos));
        }
        let number = self.number_of(name);
        pipe.variables.push(number);
        self.vars.push(name);
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Fault> {
        let pos = self.peek_solid()?.start;
        let mut args = Vec::new();
        loop {
            if let Some(node) = self.operand()? {
                args.push(node);
            }
            let token = self.next()?;
            match token.kind {
                Kind::Space => {}
                Kind::Right | Kind::Close => {
                    self.back(token);
                    break;
                }
                Kind::Pipe => break,
                _ => return Err(Fault::syntax(token.start, "unexpected word after a value")),
            }
        }
        if args.is_empty() {
            return Err(Fault::syntax(pos, "an empty command"));
        }
        Ok(Command { pos, args })
    }

    fn operand(&mut self) -> Result<Option<Node>, Fault> {
        let Some(mut node) = self.term()? else { return Ok(None) };
        self.node(node.pos)?;
        let mut fields = Vec::new();
        while self.peek()?.kind == Kind::Field {
            let token = self.next()?;
            self.node(token.start)?;
            fields.push(self.field(token));
        }
        if fields.is_empty() {
            return Ok(Some(node));
        }
        match &mut node.expr {
            Expr::Field(names) | Expr::Variable(_, names) => names.append(&mut fields),
            Expr::Bool(_) | Expr::Str(_) | Expr::Number(_) | Expr::Nil | Expr::Dot => {
                return Err(Fault::syntax(node.pos, "a field of a value that can have none"));
            }
            Expr::Function(_) | Expr::Chain(..) | Expr::Pipe(_) => {
                node = Node { pos: node.pos, expr: Expr::Chain(Box::new(node), fields) };
            }
        }
        Ok(Some(node))
    }

    fn field(&self, token: Token) -> Text {
        let text = self.text(token);
        Text::from(text.strip_prefix('.').unwrap_or(text))
    }

    fn term(&mut self) -> Result<Option<Node>, Fault> {
        let token = self.next_solid()?;
        let text = self.text(token);
        let expr = match token.kind {
            Kind::Identifier => match self.functions.get(text) {
                Some(function) => Expr::Function(function),
                None => return Err(Fault::syntax(token.start, "there is no function of this name")),
            },
            Kind::Dot => Expr::Dot,
            Kind::Nil => Expr::Nil,
            Kind::Bool => Expr::Bool(text == "true"),
            Kind::Variable => {
                if !self.vars.contains(&text) {
                    return Err(Fault::syntax(token.start, "there is no variable of this name"));
                }
                Expr::Variable(self.number_of(text), Vec::new())
            }
            Kind::Field => Expr::Field(vec![self.field(token)]),
            Kind::Number => Expr::Number(number(text).map_err(|what| Fault::syntax(token.start, what))?),
            Kind::CharConstant => Expr::Number(char_constant(text, token.start)?),
            Kind::Str | Kind::Raw => Expr::Str(Text::new(unquote(text, token.start)?)),
            Kind::Open => {
                self.deeper(token.start)?;
                let pipe = self.pipeline(Kind::Close, false)?;
                self.nesting -= 1;
                Expr::Pipe(Box::new(pipe))
            }
            _ => {
                self.back(token);
                return Ok(None);
            }
        };
        Ok(Some(Node { pos: token.start, expr }))
    }
}

/// One character or byte of a quoted text. `quote` is the only quote that may be escaped.
fn unescape(rest: &str, quote: char, out: &mut Vec<u8>) -> Option<usize> {
    let mut chars = rest.chars();
    let c = chars.next()?;
    if c != '\\' {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        return Some(c.len_utf8());
    }
    let escape = chars.next()?;
    let digits = |len: usize, radix: u32, from: usize| {
        let digits = rest.get(from..from + len)?;
        let all = digits.chars().all(|c| c.is_digit(radix));
        all.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
    };
    let byte = match escape {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '\'' | '"' if escape == quote => u8::try_from(escape).ok()?,
        'x' => {
            out.push(u8::try_from(digits(2, 16, 2)?).ok()?);
            return Some(4);
        }
        '0'..='7' => {
            out.push(u8::try_from(digits(3, 8, 1)?).ok()?);
            return Some(4);
        }
        'u' | 'U' => {
            let len = if escape == 'u' { 4 } else { 8 };
            let c = char::from_u32(digits(len, 16, 2)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(2 + len);
        }
        _ => return None,
    };
    out.push(byte);
    Some(2)
}

/// The text that a string literal stands for.
fn unquote(literal: &str, pos: usize) -> Result<Vec<u8>, Fault> {
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    if literal.starts_with('`') {
        return Ok(inner.bytes().filter(|b| *b != b'\r').collect());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let len = unescape(rest, '"', &mut out).ok_or_else(|| Fault::syntax(pos, "a damaged string"))?;
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(out)
}

fn char_constant(literal: &str, pos: usize) -> Result<Number, Fault> {
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    let bad = || Fault::syntax(pos, "a damaged character constant");
    let mut out = Vec::new();
    if inner.starts_with('\'') || unescape(inner, '\'', &mut out) != Some(inner.len()) {
        return Err(bad());
    }
    // \x80 and \200 are the numbers, no UTF-8.
    let code = match (std::str::from_utf8(&out), out.as_slice()) {
        (Ok(text), _) => text.chars().next().map(u32::from).ok_or_else(bad)?,
        (Err(_), [byte]) => u32::from(*byte),
        _ => return Err(bad()),
    };
    Ok(Number { int: Some(i64::from(code)), float: Some(f64::from(code)), is_float: false })
}

/// Whether underscores stand only between digits, or after a prefix, as Go wants it.
fn underscores_fit(text: &str, prefixed: bool) -> bool {
    let mut last = if prefixed { '0' } else { ' ' };
    for c in text.chars() {
        if (c == '_' && !last.is_ascii_alphanumeric()) || (last == '_' && !c.is_ascii_alphanumeric()) {
            return false;
        }
        last = c;
    }
    last != '_'
}

/// An integer as Go's `ParseInt` reads it with base 0: sign, prefix, underscores.
pub(super) fn parse_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lower = digits.as_bytes().get(1).map(u8::to_ascii_lowercase);
    let (radix, body, prefixed) = match (digits.as_bytes().first(), lower) {
        (Some(b'0'), Some(b'x')) => (16, digits.get(2..)?, true),
        (Some(b'0'), Some(b'o')) => (8, digits.get(2..)?, true),
        (Some(b'0'), Some(b'b')) => (2, digits.get(2..)?, true),
        (Some(b'0'), Some(_)) => (8, digits.get(1..)?, true),
        _ => (10, digits, false),
    };
    if body.is_empty() || body.starts_with(['+', '-']) || !underscores_fit(body, prefixed) {
        return None;
    }
    let body: String = body.chars().filter(|c| *c != '_').collect();
    if body.is_empty() || body.len() > 70 {
        // Leading zeros aside, nothing that long fits; it is no number of ours either way.
        let short = body.trim_start_matches('0');
        if body.is_empty() || short.len() > 70 {
            return None;
        }
    }
    let value = i128::from_str_radix(&body, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// A floating-point number as Go's `ParseFloat` reads it; `None` also for one out of range.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if matches!(lower.as_str(), "inf" | "infinity" | "nan") {
        if lower == "nan" && unsigned.len() != text.len() {
            return None;
        }
        return text.parse().ok();
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        let value = hex_float(hex)?;
        return value.is_finite().then_some(if text.starts_with('-') { -value } else { value });
    }
    if !unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// `1.8p3`: mantissa in hexadecimal, exponent of two in decimal and not optional.
fn hex_float(text: &str) -> Option<f64> {
    if !underscores_fit(text, true) {
        return None;
    }
    let text: String = text.chars().filter(|c| *c != '_').collect();
    let (mantissa, exponent) = text.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let mut exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let significant = digits.trim_start_matches('0');
    if digits.is_empty() || significant.len() > 13 {
        // More than 52 bits would need rounding of our own.
        return None;
    }
    exponent -= 4 * i64::try_from(fraction.len()).ok()?;
    let mantissa = if significant.is_empty() { 0 } else { i64::from_str_radix(significant, 16).ok()? };
    let exponent = i32::try_from(exponent.clamp(-5000, 5000)).ok()?;
    // Two steps: the power alone may be out of range.
    #[allow(clippy::cast_precision_loss)]
    let value = mantissa as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
    Some(value)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn number(text: &str) -> Result<Number, &'static str> {
    let mut number = Number::default();
    let hex_int = text.len() > 2 && (text.starts_with("0x") || text.starts_with("0X")) && !text.contains(['p', 'P']);
    if let Some(int) = parse_int(text) {
        if let Ok(int) = i64::try_from(int) {
            number.int = Some(int);
            number.float = Some(int as f64);
        } else if let Ok(int) = u64::try_from(int) {
            number.float = Some(int as f64);
        }
    }
    if number.float.is_none() {
        let float = parse_float(text).ok_or("not a number")?;
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err("an integer out of range");
        }
        number.float = Some(float);
        if float.fract() == 0.0 && (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&float) {
            number.int = Some(float as i64);
        }
    }
    number.is_float = !hex_int && text.contains(['.', 'e', 'E', 'p', 'P']);
    Ok(number)
}
