//! Go's text/template with sprig's hermetic functions, over values that are secret (docs/templates.md).
//!
//! Templates are written by people who may not read the values, so an error tells a place and one of a fixed set of
//! sentences: never a piece of the template, of a value, or of what was produced. They may be hostile too: everything that
//! they can make large is counted ([`Budget`]), nothing recurses deeper than [`MAX_DEPTH`], and nothing reads a clock, a
//! file, the network, the environment or randomness.
//!
//! `lex` and `parse` make a tree; `exec` walks it; `format` is Go's fmt; `builtins` and `sprig` are the functions. What the
//! functions get and may call is `exec::Exec`. A new function is an entry in one table, and lines in
//! `tests/templates/*.jsonl` that Go has rendered too.

mod builtins;
mod exec;
mod format;
mod lex;
mod parse;
mod semver;
mod sprig;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use crate::secret::SecretValue;
use exec::Exec;
use value::{Text, Value};

/// Bytes of one template's text.
pub const MAX_SOURCE: usize = 256 * 1024;
/// Actions, words and fields of one template's text.
pub const MAX_NODES: usize = 50_000;
/// Blocks and parentheses in each other.
pub const MAX_NESTING: usize = 64;
/// Variables in scope at one place.
pub const MAX_VARIABLES: usize = 1000;
/// Blocks, parentheses and templates in each other when executing: recursion.
pub const MAX_DEPTH: usize = 200;
/// Bytes of one string that a template makes.
pub const MAX_VALUE: usize = 2 * 1024 * 1024;
/// Bytes of all that the templates of one object render, together: what a Secret can hold.
pub const MAX_OUTPUT: usize = 1024 * 1024;
/// Steps of all templates of one object, together: about a second of one core at worst.
pub const MAX_STEPS: u64 = 4_000_000;
/// Bytes of all values that the templates of one object make on their way, together.
pub const MAX_WORK: usize = 64 * 1024 * 1024;
/// Bytes that a regular expression may search.
pub const MAX_SEARCHED: usize = 64 * 1024;

/// What changes when rendering changes: it makes a Secret be written anew.
pub const RENDERER: &str = "go-template/1";

/// A limit that a template exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`MAX_SOURCE`], [`MAX_NODES`].
    Source,
    /// [`MAX_NESTING`], [`MAX_VARIABLES`].
    Nesting,
    /// [`MAX_DEPTH`].
    Depth,
    /// [`MAX_STEPS`].
    Steps,
    /// [`MAX_VALUE`].
    Value,
    /// [`MAX_WORK`].
    Work,
    /// [`MAX_OUTPUT`].
    Output,
    /// [`MAX_SEARCHED`].
    Searched,
}

impl Limit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "the template is too large",
            Self::Nesting => "too many blocks, parentheses or variables in each other",
            Self::Depth => "templates call each other too deep",
            Self::Steps => "the templates take too many steps",
            Self::Value => "a value becomes too large (2 MiB)",
            Self::Work => "the templates make too many values (64 MiB)",
            Self::Output => "the templates render too much (1 MiB)",
            Self::Searched => "too large a value for a regular expression (64 KiB)",
        }
    }
}

/// Of what class a failure of a template is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// It is no template.
    Syntax(&'static str),
    /// It asks for an item that is not there.
    MissingKey,
    /// It uses an item that is not UTF-8.
    NotText,
    /// It exceeds a limit.
    Limit(Limit),
    /// It fails when it is executed.
    Execution(&'static str),
}

/// Why and where a template fails. Nothing of the template or of a value is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub kind: FaultKind,
    /// The function that it happened in, if any.
    pub function: Option<&'static str>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        match self.kind {
            FaultKind::Syntax(what) | FaultKind::Execution(what) => f.write_str(what)?,
            FaultKind::MissingKey => f.write_str("there is no item or key of this name")?,
            FaultKind::NotText => f.write_str("the item is not UTF-8 text")?,
            FaultKind::Limit(limit) => f.write_str(limit.as_str())?,
        }
        self.function.map_or(Ok(()), |name| write!(f, " (in {name})"))
    }
}

impl std::error::Error for TemplateError {}

/// A failure before it is known in which line it is.
#[derive(Debug)]
struct Fault {
    kind: FaultKind,
    pos: Option<usize>,
    function: Option<&'static str>,
}

impl Fault {
    const fn of(kind: FaultKind) -> Self {
        Self { kind, pos: None, function: None }
    }

    const fn syntax(pos: usize, what: &'static str) -> Self {
        Self { kind: FaultKind::Syntax(what), pos: Some(pos), function: None }
    }

    const fn limit(limit: Limit) -> Self {
        Self::of(FaultKind::Limit(limit))
    }

    const fn execution(what: &'static str) -> Self {
        Self::of(FaultKind::Execution(what))
    }

    const fn missing() -> Self {
        Self::of(FaultKind::MissingKey)
    }

    const fn not_text() -> Self {
        Self::of(FaultKind::NotText)
    }

    /// The innermost place stays.
    fn at(mut self, pos: usize) -> Self {
        self.pos.get_or_insert(pos);
        self
    }

    fn inside(mut self, function: &'static str) -> Self {
        self.function.get_or_insert(function);
        self
    }

    fn locate(self, source: &str) -> TemplateError {
        let before = source.get(..self.pos.unwrap_or_default()).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        TemplateError {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            kind: self.kind,
            function: self.function,
        }
    }
}

/// The type of a parameter, as Go's reflection sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Param {
    /// `interface {}` or `reflect.Value`.
    Any,
    Str,
    Int,
    Float,
    Bool,
    /// `map[string]interface {}`.
    Dict,
    /// `*semver.Version`.
    Version,
}

/// How a function is run.
#[derive(Clone, Copy)]
enum Body {
    Plain(fn(&mut Exec<'_>, &[Value]) -> Result<Value, Fault>),
    /// Evaluate no more arguments than they need.
    And,
    Or,
}

/// A function that templates can call.
struct Function {
    name: &'static str,
    params: &'static [Param],
    /// The type of all further arguments.
    variadic: Option<Param>,
    body: Body,
}

/// The functions that templates of a kind can call.
pub struct Functions(BTreeMap<&'static str, &'static Function>);

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Functions {
    /// Go's own and sprig's, as docs/templates.md lists them.
    #[must_use]
    pub fn hermetic() -> &'static Self {
        static ALL: LazyLock<Functions> = LazyLock::new(|| {
            let mut all = BTreeMap::new();
            // Sprig's `slice` takes the place of Go's.
            for function in builtins::FUNCTIONS.iter().chain(sprig::tables().into_iter().flatten()) {
                all.insert(function.name, function);
            }
            Functions(all)
        });
        &ALL
    }

    /// Their names, in byte order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }

    fn get(&self, name: &str) -> Option<&'static Function> {
        self.0.get(name).copied()
    }
}

/// What happens when a template asks for a key that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingKey {
    /// It fails (Go's `missingkey=error`).
    Error,
    /// It gets no value, which prints as `<no value>` (Go's default).
    NoValue,
}

/// How templates of a kind of object are rendered.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// The functions.
    pub functions: &'static Functions,
    /// What happens when a template asks for a key that is not there.
    pub missing_key: MissingKey,
    /// Whether an item that is not UTF-8 may be used, as bytes.
    pub binary: bool,
}

impl Dialect {
    /// That of `bulla.dev` (format.md, "Templates").
    #[must_use]
    pub fn native() -> Self {
        Self { functions: Functions::hermetic(), missing_key: MissingKey::Error, binary: false }
    }

    /// That of `bitnami.com`, as the established controller renders.
    #[must_use]
    pub fn bitnami() -> Self {
        Self { functions: Functions::hermetic(), missing_key: MissingKey::NoValue, binary: true }
    }
}

/// What is left of the limits that all templates of one object share.
#[derive(Clone, Debug)]
pub struct Budget {
    steps: u64,
    work: usize,
    output: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: MAX_STEPS, work: MAX_WORK, output: MAX_OUTPUT }
    }
}

/// What templates see as dot.
#[derive(Default)]
pub struct Context(BTreeMap<Text, Value>);

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context(…)")
    }
}

impl Context {
    /// The opened items: a map of strings by key. Text is copied once, for all templates.
    #[must_use]
    pub fn of_items(items: &BTreeMap<String, SecretValue>, dialect: &Dialect) -> Self {
        let value = |bytes: &[u8]| {
            if dialect.binary || std::str::from_utf8(bytes).is_ok() {
                Value::Str(Text::new(bytes.to_vec()))
            } else {
                Value::Binary
            }
        };
        Self(items.iter().map(|(key, item)| (Text::from(key.as_str()), value(item.expose()))).collect())
    }
}

/// Whether a text is a template, which needs no value.
///
/// # Errors
/// [`TemplateError`].
pub fn check(name: &str, source: &str, dialect: &Dialect) -> Result<(), TemplateError> {
    parse::parse(name, source, dialect.functions).map(drop).map_err(|fault| fault.locate(source))
}

/// Renders one template. `name` is its own name, by which it can call itself.
///
/// # Errors
/// [`TemplateError`]; then nothing of what was produced is kept, and the budget is used up as far as it got.
pub fn render(
    name: &str,
    source: &str,
    context: &Context,
    dialect: &Dialect,
    budget: &mut Budget,
) -> Result<SecretValue, TemplateError> {
    let tree = parse::parse(name, source, dialect.functions).map_err(|fault| fault.locate(source))?;
    let exec = Exec::new(&tree, source, dialect, budget);
    exec.run(name, context).map(SecretValue::new).map_err(|fault| fault.locate(source))
}
