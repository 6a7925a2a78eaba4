//! The tree of a document, each node with its place.
//!
//! The tree is what the text says, not what a schema makes of it: merge keys stay entries (and [`Node::get`] and
//! [`Node::members`] look through them), aliases are replaced by copies that remember where the alias stood. Duplicate
//! keys and custom tags are noted for the document; they are errors as soon as somebody reads an object that has them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, StrInput, StructureStyle};
use zeroize::Zeroizing;

use super::error::{ManifestError, ManifestErrorKind, Span};
use super::source::span_at;

/// Levels of nesting that are read at most.
pub const MAX_DEPTH: usize = 64;
/// Nodes of one text that are read at most.
pub const MAX_NODES: usize = 4_000_000;
/// Nodes that aliases of one text may add at most.
pub const MAX_ALIAS_NODES: usize = 100_000;
/// Bytes of scalars that aliases of one text may add at most.
pub const MAX_ALIAS_BYTES: usize = 16 * 1024 * 1024;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// `'…'`.
    Single,
    /// `"…"`.
    Double,
    /// `|`.
    Literal,
    /// `>`.
    Folded,
}

/// What a tag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// There is none.
    None,
    /// `!!str`.
    Str,
    /// `!!binary`.
    Binary,
    /// Another one of YAML itself (`!!int`, `!!map`), without its prefix.
    Core(Box<str>),
    /// Any other.
    Custom,
}

/// One key and its value.
#[derive(Clone)]
pub struct Entry {
    /// The key.
    pub key: Node,
    /// The value.
    pub value: Node,
    /// Offset of the colon, where it stands on the key's line.
    pub(super) colon: Option<usize>,
}

/// What a node is.
#[derive(Clone)]
pub enum NodeKind {
    /// Text.
    Scalar {
        /// What it says, with folding and escapes resolved.
        value: Zeroizing<String>,
        /// How it is written.
        style: Style,
        /// Of a literal or folded scalar: that its line ends at the end are dropped (`-`).
        strip: bool,
    },
    /// Values in order.
    Sequence {
        /// The values.
        items: Vec<Node>,
        /// Written with brackets.
        flow: bool,
    },
    /// Keys and values in order.
    Mapping {
        /// The entries.
        entries: Vec<Entry>,
        /// Written with braces.
        flow: bool,
    },
}

/// A part of a document. May hold values: its `Debug` shows the place only.
#[derive(Clone)]
pub struct Node {
    /// Where the content is: of a literal or folded scalar its lines without the header, of a block collection from its
    /// first key to the end of its last value.
    pub span: Span,
    /// The tag.
    pub tag: Tag,
    /// Whether an anchor is defined on it.
    pub anchor: bool,
    /// The place of the alias through which it came here.
    pub alias: Option<Span>,
    /// What it is.
    pub kind: NodeKind,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}", self.type_name(), self.span.line, self.span.column)
    }
}

/// A key and value as a reader sees them: with merge keys resolved.
#[derive(Clone, Copy)]
pub struct Member<'n> {
    /// The key.
    pub key: &'n Node,
    /// The value.
    pub value: &'n Node,
}

/// What a YAML 1.1 reader takes a plain scalar for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ambiguity {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `yes`, `on`, `n`.
    Bool,
    /// `12`, `0123`, `0o7`, `0x1f`, `1_000`.
    Int,
    /// `1.5`, `1e3`, `.inf`.
    Float,
    /// `12:30:45`: a number to the base of 60.
    Sexagesimal,
    /// `2024-01-31`.
    Date,
    /// `<<`.
    Merge,
    /// `=`.
    Default,
}

impl Ambiguity {
    /// What it is taken for, with its article.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Int | Self::Float => "a number",
            Self::Sexagesimal => "a number (to base 60)",
            Self::Date => "a date",
            Self::Merge => "a merge key",
            Self::Default => "a default value",
        }
    }

    /// Whether kubectl, too, takes it for something else than text. Dates and numbers to base 60 it does not.
    #[must_use]
    pub const fn for_kubectl(self) -> bool {
        matches!(self, Self::Null | Self::Bool | Self::Int | Self::Float | Self::Merge)
    }
}

/// Whether a YAML reader of any version takes this plain scalar for something else than text, and what (format.md,
/// rule 11). Wider than any single reader: what one of PyYAML, Go's yaml, and the two specifications would convert.
#[must_use]
pub fn yaml11_ambiguous(text: &str) -> Option<Ambiguity> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Ambiguity::Null),
        "<<" => return Some(Ambiguity::Merge),
        "=" => return Some(Ambiguity::Default),
        "y" | "Y" | "yes" | "Yes" | "YES" | "n" | "N" | "no" | "No" | "NO" | "true" | "True" | "TRUE" | "false"
        | "False" | "FALSE" | "on" | "On" | "ON" | "off" | "Off" | "OFF" => return Some(Ambiguity::Bool),
        _ => {}
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) || text.len() > 256 {
        return None;
    }
    let bare = text.trim_start_matches(['+', '-']);
    if text.len() - bare.len() > 1 {
        return None;
    }
    if matches!(bare, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Some(Ambiguity::Float);
    }
    if is_date(text) {
        return Some(Ambiguity::Date);
    }
    let digits: String = bare.chars().filter(|c| *c != '_').collect();
    if is_int(&digits) {
        return Some(Ambiguity::Int);
    }
    if is_float(&digits) {
        return Some(Ambiguity::Float);
    }
    is_sexagesimal(&digits).then_some(Ambiguity::Sexagesimal)
}

fn all(text: &str, test: impl Fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.as_bytes().iter().all(test)
}

fn is_int(digits: &str) -> bool {
    let lower = digits.to_ascii_lowercase();
    all(digits, u8::is_ascii_digit)
        || lower.strip_prefix("0x").is_some_and(|d| all(d, u8::is_ascii_hexdigit))
        || lower.strip_prefix("0o").is_some_and(|d| all(d, u8::is_ascii_digit))
        || lower.strip_prefix("0b").is_some_and(|d| all(d, |b| matches!(b, b'0' | b'1')))
}

fn is_float(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        all(e, u8::is_ascii_digit)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits_or_empty = |d: &str| d.is_empty() || all(d, u8::is_ascii_digit);
    exponent_ok && !(whole.is_empty() && fraction.is_empty()) && digits_or_empty(whole) && digits_or_empty(fraction)
}

fn is_sexagesimal(digits: &str) -> bool {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut parts = whole.split(':');
    (fraction.is_empty() || all(fraction, u8::is_ascii_digit))
        && whole.contains(':')
        && parts.next().is_some_and(|p| all(p, u8::is_ascii_digit))
        && parts.all(|p| all(p, u8::is_ascii_digit) && p.len() <= 2 && (p.len() < 2 || p.as_bytes()[0] < b'6'))
}

fn is_date(text: &str) -> bool {
    let day_end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let parts: Vec<&str> = text[..day_end].split('-').collect();
    parts.len() == 3
        && parts[0].len() == 4
        && parts[1..].iter().all(|p| (1..=2).contains(&p.len()))
        && parts.iter().all(|p| all(p, u8::is_ascii_digit))
        && text.as_bytes().get(day_end + 1).is_none_or(|b| b.is_ascii_digit() || *b == b' ')
}

impl Node {
    /// The word for what it is.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::Scalar { .. } => match self.not_text() {
                None => "text",
                Some(what) => what.name(),
            },
            NodeKind::Sequence { .. } => "a sequence",
            NodeKind::Mapping { .. } => "a mapping",
        }
    }

    /// What a scalar says, as it stands there, whatever type a reader gives it.
    #[must_use]
    pub fn scalar(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The entries of a mapping as they stand there.
    #[must_use]
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            NodeKind::Mapping { entries, .. } => Some(entries),
            _ => None,
        }
    }

    /// The values of a sequence.
    #[must_use]
    pub fn items(&self) -> Option<&[Self]> {
        match &self.kind {
            NodeKind::Sequence { items, .. } => Some(items),
            _ => None,
        }
    }

    /// Whether it is a collection written with brackets or braces.
    #[must_use]
    pub fn is_flow(&self) -> bool {
        matches!(self.kind, NodeKind::Sequence { flow: true, .. } | NodeKind::Mapping { flow: true, .. })
    }

    /// What a scalar is when it is not text: to any reader, so wider than one of them.
    #[must_use]
    pub fn not_text(&self) -> Option<Ambiguity> {
        match (&self.kind, &self.tag) {
            (NodeKind::Scalar { .. }, Tag::Core(name)) => Some(match &**name {
                "bool" => Ambiguity::Bool,
                "null" => Ambiguity::Null,
                "float" => Ambiguity::Float,
                "timestamp" => Ambiguity::Date,
                "merge" => Ambiguity::Merge,
                _ => Ambiguity::Int,
            }),
            (NodeKind::Scalar { value, style: Style::Plain, .. }, Tag::None) => yaml11_ambiguous(value),
            _ => None,
        }
    }

    /// Whether it is null: nothing, `~` or `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.not_text() == Some(Ambiguity::Null)
    }

    /// As kubectl turns it into JSON; merge keys are not resolved. Of public data only: nothing clears the copy.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            NodeKind::Sequence { items, .. } => Value::Array(items.iter().map(Self::to_json).collect()),
            NodeKind::Mapping { entries, .. } => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.scalar().unwrap_or_default().to_owned(), entry.value.to_json()))
                    .collect(),
            ),
            NodeKind::Scalar { value, .. } => {
                let text = || Value::String(value.to_string());
                match self.not_text() {
                    Some(Ambiguity::Null) => Value::Null,
                    Some(Ambiguity::Bool) => {
                        Value::Bool(matches!(value.to_ascii_lowercase().as_str(), "y" | "yes" | "true" | "on"))
                    }
                    Some(Ambiguity::Int | Ambiguity::Float) => {
                        value.parse::<serde_json::Number>().map_or_else(|_| text(), Value::Number)
                    }
                    _ => text(),
                }
            }
        }
    }

    fn is_merge_key(&self) -> bool {
        self.not_text() == Some(Ambiguity::Merge)
    }

    /// The value of a key, looked up through merge keys too.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let entries = self.entries()?;
        entries.iter().find(|entry| entry.key.scalar() == Some(key)).map(|entry| &entry.value).or_else(|| {
            entries.iter().filter(|entry| entry.key.is_merge_key()).find_map(|entry| match &entry.value.kind {
                NodeKind::Mapping { .. } => entry.value.get(key),
                NodeKind::Sequence { items, .. } => items.iter().find_map(|item| item.get(key)),
                NodeKind::Scalar { .. } => None,
            })
        })
    }

    /// All values of a key: those that stand there, then those of merged mappings.
    pub(super) fn all(&self, key: &str) -> Vec<&Self> {
        let mut found = Vec::new();
        self.each_entry(&mut |entry| {
            if entry.key.scalar() == Some(key) {
                found.push(&entry.value);
            }
        });
        found
    }

    /// The first key, of the mapping or of one merged into it, with a tag that changes what it says.
    pub(super) fn tagged_key(&self) -> Option<&Self> {
        let mut found = None;
        self.each_entry(&mut |entry| {
            if matches!(entry.key.tag, Tag::Binary | Tag::Custom) {
                found.get_or_insert(&entry.key);
            }
        });
        found
    }

    /// Each entry of the mapping, then those of the mappings that are merged into it.
    fn each_entry<'n>(&'n self, visit: &mut impl FnMut(&'n Entry)) {
        match &self.kind {
            NodeKind::Mapping { entries, .. } => {
                entries.iter().for_each(&mut *visit);
                for entry in entries.iter().filter(|entry| entry.key.is_merge_key()) {
                    match &entry.value.kind {
                        NodeKind::Sequence { items, .. } => items.iter().for_each(|item| item.each_entry(visit)),
                        _ => entry.value.each_entry(visit),
                    }
                }
            }
            NodeKind::Sequence { .. } | NodeKind::Scalar { .. } => {}
        }
    }

    /// The entry of a key, as it stands there.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key.scalar() == Some(key))
    }

    /// Keys and values with merge keys resolved: those that stand there, then those merged that none of them overrides.
    ///
    /// # Errors
    /// When it is no mapping, or what is merged is none.
    pub fn members(&self) -> Result<Vec<Member<'_>>, ManifestError> {
        let Some(entries) = self.entries() else {
            return Err(ManifestError::new(ManifestErrorKind::WrongType, "a mapping belongs here").at(self.span));
        };
        let mut members: Vec<Member<'_>> = entries
            .iter()
            .filter(|entry| !entry.key.is_merge_key())
            .map(|entry| Member { key: &entry.key, value: &entry.value })
            .collect();
        if members.len() < entries.len() {
            let mut known: HashSet<&str> = members.iter().filter_map(|member| member.key.scalar()).collect();
            let mut before: HashMap<&str, &Self> = HashMap::new();
            for entry in entries {
                if !entry.key.is_merge_key() {
                    before.extend(entry.key.scalar().map(|key| (key, &entry.value)));
                    continue;
                }
                let sources = match &entry.value.kind {
                    NodeKind::Sequence { items, .. } => items.iter().collect(),
                    _ => vec![&entry.value],
                };
                for source in sources {
                    let merged = source.members().map_err(|error| match error.kind {
                        ManifestErrorKind::WrongType => {
                            ManifestError::new(ManifestErrorKind::WrongType, "only mappings can be merged with <<")
                                .at(entry.value.alias.unwrap_or(entry.value.span))
                        }
                        _ => error,
                    })?;
                    for member in merged {
                        let Some(key) = member.key.scalar() else {
                            members.push(member);
                            continue;
                        };
                        if known.insert(key) {
                            members.push(member);
                        } else if before.get(key).is_some_and(|there| !there.same(member.value)) {
                            return Err(ManifestError::new(
                                ManifestErrorKind::Alias,
                                "what is merged here has a key that stands above it: kubectl takes the one merged",
                            )
                            .at(entry.key.span)
                            .help("write << before the keys that override it"));
                        }
                    }
                }
            }
        }
        Ok(members)
    }

    /// The first anchor, alias or merge key in it.
    #[must_use]
    pub fn first_alias(&self) -> Option<(&'static str, Span)> {
        if let Some(alias) = self.alias {
            return Some(("an alias", alias));
        }
        if self.anchor {
            return Some(("an anchor", self.span));
        }
        match &self.kind {
            NodeKind::Scalar { .. } => None,
            NodeKind::Sequence { items, .. } => items.iter().find_map(Self::first_alias),
            NodeKind::Mapping { entries, .. } => entries.iter().find_map(|entry| {
                if entry.key.is_merge_key() {
                    return Some(("a merge key", entry.key.span));
                }
                entry.key.first_alias().or_else(|| entry.value.first_alias())
            }),
        }
    }

    /// Whether both say the same: the same scalars of the same type, the same order, whatever the style.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (NodeKind::Scalar { value: a, .. }, NodeKind::Scalar { value: b, .. }) => {
                let (what_a, what_b) = (self.not_text(), other.not_text());
                what_a == what_b
                    && (self.tag == Tag::Binary) == (other.tag == Tag::Binary)
                    && (a == b || what_a == Some(Ambiguity::Null))
            }
            (NodeKind::Sequence { items: a, .. }, NodeKind::Sequence { items: b, .. }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
            }
            (NodeKind::Mapping { entries: a, .. }, NodeKind::Mapping { entries: b, .. }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key.same(&b.key) && a.value.same(&b.value))
            }
            _ => false,
        }
    }

    fn size(&self) -> (usize, usize) {
        match &self.kind {
            NodeKind::Scalar { value, .. } => (1, value.len()),
            NodeKind::Sequence { items, .. } => add(items.iter()),
            NodeKind::Mapping { entries, .. } => add(entries.iter().flat_map(|entry| [&entry.key, &entry.value])),
        }
    }

    fn came_through(&mut self, alias: Span) {
        self.alias = Some(alias);
        self.anchor = false;
        match &mut self.kind {
            NodeKind::Scalar { .. } => {}
            NodeKind::Sequence { items, .. } => items.iter_mut().for_each(|item| item.came_through(alias)),
            NodeKind::Mapping { entries, .. } => {
                for entry in entries {
                    entry.key.came_through(alias);
                    entry.value.came_through(alias);
                }
            }
        }
    }
}

fn add<'n>(nodes: impl Iterator<Item = &'n Node>) -> (usize, usize) {
    nodes.map(Node::size).fold((1, 0), |(n, b), (m, c)| (n + m, b + c))
}

/// One document of a stream.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it says; a document with nothing in it is null.
    pub root: Node,
    /// Duplicate keys and custom tags, in the order of the text.
    pub(super) defects: Vec<ManifestError>,
    /// Where each alias stands and where what it stands for begins.
    pub(super) aliases: Vec<(usize, usize)>,
}

pub(super) struct Parsed {
    pub documents: Vec<Document>,
    pub comments: Vec<Range<usize>>,
}

pub(super) fn parse(text: &str) -> Result<Parsed, ManifestError> {
    let options = granit_parser::options! {
        max_buffered_comment_events: 100_000,
        simple_key_max_lookahead: 4096,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        last_end: 0,
        comments: Vec::new(),
        anchors: HashMap::new(),
        defects: Vec::new(),
        aliases: Vec::new(),
        nodes: 0,
        alias_nodes: 0,
        alias_bytes: 0,
        breaks: text.contains(BREAKS).then(Vec::new),
    };
    separators(text)?;
    let mut documents = Vec::new();
    loop {
        let document = documents.len();
        match builder.next().map_err(|error| error.in_document(document))? {
            None => break,
            Some((Event::DocumentStart(..), _)) => {
                let root = builder.document().map_err(|error| error.in_document(document))?;
                let mut defects = std::mem::take(&mut builder.defects);
                for defect in &mut defects {
                    defect.document = Some(document);
                }
                defects.sort_by_key(|defect| defect.span);
                documents.push(Document { root, defects, aliases: std::mem::take(&mut builder.aliases) });
                builder.anchors.clear();
            }
            Some(_) => {}
        }
    }
    if let Some(quoted) = &builder.breaks {
        for (at, character) in text.match_indices(BREAKS) {
            let before = quoted.partition_point(|range| range.start <= at);
            if !before.checked_sub(1).is_some_and(|index| quoted[index].contains(&at)) {
                return Err(line_break(character, span_at(text, at)));
            }
        }
    }
    Ok(Parsed { documents, comments: builder.comments })
}

/// Characters that end a line in YAML 1.1 and not in YAML 1.2: kubectl and others see a comment or a text end there, and
/// what follows begin a key.
const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

fn line_break(character: &str, at: Span) -> ManifestError {
    let code = character.chars().next().map_or(0, u32::from);
    ManifestError::new(
        ManifestErrorKind::Ambiguous,
        format!("the character U+{code:04X} ends a line for some readers and for others not"),
    )
    .at(at)
    .help(format!("remove it, or write it as \\u{code:04x} in double quotes"))
}

/// kubectl divides documents before it reads YAML: at each line of `---` and white space of any kind.
fn separators(text: &str) -> Result<(), ManifestError> {
    let mut from = 0;
    while let Some(found) = text[from..].find("---") {
        let at = from + found;
        from = at + 3;
        if at > 0 && text.as_bytes()[at - 1] != b'\n' {
            continue;
        }
        let rest = text[from..].split('\n').next().unwrap_or_default();
        if rest.trim().is_empty() && rest.contains(|c| !matches!(c, ' ' | '\t' | '\r')) {
            return Err(ManifestError::new(
                ManifestErrorKind::Ambiguous,
                "after --- there is white space that ends a document for kubectl and for others not",
            )
            .at(span_at(text, at))
            .help("write --- and nothing else"));
        }
    }
    Ok(())
}

struct Builder<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    last_end: usize,
    comments: Vec<Range<usize>>,
    anchors: HashMap<usize, Node>,
    defects: Vec<ManifestError>,
    aliases: Vec<(usize, usize)>,
    nodes: usize,
    alias_nodes: usize,
    alias_bytes: usize,
    /// Where scalars in quotes are, when there are [`BREAKS`] in the text.
    breaks: Option<Vec<Range<usize>>>,
}

impl<'t> Builder<'t> {
    /// The next event that is no comment, and its place.
    fn next(&mut self) -> Result<Option<(Event<'t>, Located)>, ManifestError> {
        loop {
            let Some(next) = self.parser.next_event() else { return Ok(None) };
            let (event, span) = next.map_err(|error| syntax_error(self.text, &error))?;
            let range = span.byte_range().unwrap_or_default();
            let before = self.last_end;
            if let Event::Comment(..) = event {
                self.last_end = self.last_end.max(range.end);
                self.comments.push(range);
                continue;
            }
            if event.is_node() {
                self.last_end = self.last_end.max(range.end);
            }
            let at = Span { start: range.start, end: range.end, line: span.start.line(), column: span.start.col() + 1 };
            return Ok(Some((event, Located { span: at, before })));
        }
    }

    fn expect(&mut self) -> Result<(Event<'t>, Located), ManifestError> {
        self.next()?
            .ok_or_else(|| ManifestError::new(ManifestErrorKind::Syntax, "the text ends in the middle of a document"))
    }

    fn document(&mut self) -> Result<Node, ManifestError> {
        let (event, at) = self.expect()?;
        let root = self.node(event, at, 0)?;
        self.expect()?;
        Ok(root)
    }

    fn node(&mut self, event: Event<'t>, at: Located, depth: usize) -> Result<Node, ManifestError> {
        let span = at.span;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(too_large(format!("the text has more than {MAX_NODES} nodes"), span));
        }
        if depth > MAX_DEPTH {
            return Err(too_large(format!("nesting is deeper than {MAX_DEPTH} levels"), span));
        }
        if let Event::Alias(id) = event {
            return self.alias(id, span);
        }
        let anchor = event.anchor_id();
        let tag = match event.tag() {
            None => Tag::None,
            Some(tag) => match tag.suffix_in_namespace("tag:yaml.org,2002:").as_deref() {
                // Some readers decode these escapes, others don't.
                Some(name) if name.contains('%') => Tag::Custom,
                Some("str") => Tag::Str,
                Some("binary") => Tag::Binary,
                Some(name) => Tag::Core(name.into()),
                None => Tag::Custom,
            },
        };
        if tag == Tag::Custom {
            self.defects.push(
                ManifestError::new(ManifestErrorKind::Tag, "custom tags are not taken").at(span).help("remove the tag"),
            );
        }
        let mut node = Node {
            span,
            tag,
            anchor: anchor.is_some(),
            alias: None,
            kind: NodeKind::Sequence { items: Vec::new(), flow: false },
        };
        match event {
            Event::Scalar(value, style, ..) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                if let Some(quoted) = &mut self.breaks
                    && matches!(style, Style::Single | Style::Double)
                {
                    quoted.push(span.range());
                    if let Some((_, character)) = self.text[span.range()].match_indices(BREAKS).next() {
                        self.defects.push(line_break(character, span));
                    }
                }
                let mut strip = false;
                if matches!(style, Style::Literal | Style::Folded) {
                    strip = self.block_scalar(&mut node.span, at.before);
                }
                node.kind = NodeKind::Scalar { value: Zeroizing::new(value.into_owned()), style, strip };
            }
            Event::SequenceStart(style, ..) => {
                let flow = style == StructureStyle::Flow;
                let mut items: Vec<Node> = Vec::new();
                loop {
                    let (event, at) = self.expect()?;
                    if matches!(event, Event::SequenceEnd) {
                        node.span.end = self.collection_end(flow, at.span, items.last().map(|item| item.end()), span);
                        break;
                    }
                    let item = self.node(event, at, depth + 1)?;
                    question(flow, &item)?;
                    items.push(item);
                }
                node.kind = NodeKind::Sequence { items, flow };
            }
            Event::MappingStart(style, ..) => {
                let flow = style == StructureStyle::Flow;
                let mut entries: Vec<Entry> = Vec::new();
                loop {
                    let (event, at) = self.expect()?;
                    if matches!(event, Event::MappingEnd) {
                        let last = entries.last().map(Entry::end);
                        node.span.end = self.collection_end(flow, at.span, last, span);
                        break;
                    }
                    let entry = self.entry(event, at, depth + 1)?;
                    question(flow, &entry.key)?;
                    entries.push(entry);
                }
                self.duplicates(&entries);
                node.kind = NodeKind::Mapping { entries, flow };
            }
            _ => return Err(ManifestError::new(ManifestErrorKind::Syntax, "a value is missing here").at(span)),
        }
        if let Some(id) = anchor {
            let size = node.size();
            self.spend(size, span)?;
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn entry(&mut self, event: Event<'t>, at: Located, depth: usize) -> Result<Entry, ManifestError> {
        let key = self.node(event, at, depth)?;
        let key_end = key.end();
        let rest = &self.text[key_end..];
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let colon = rest[blank..].starts_with(':').then_some(key_end + blank);
        if let Some(colon) = colon {
            self.last_end = self.last_end.max(colon + 1);
        }
        let (event, at) = self.expect()?;
        let mut value = self.node(event, at, depth)?;
        // A value that isn't written: the parser puts it before the colon.
        if let Some(colon) = colon
            && value.span.start == value.span.end
            && value.span.start <= colon
        {
            value.span.column += colon + 1 - value.span.start;
            (value.span.start, value.span.end) = (colon + 1, colon + 1);
        }
        Ok(Entry { key, value, colon })
    }

    fn collection_end(&mut self, flow: bool, end: Span, last: Option<usize>, start: Span) -> usize {
        if flow {
            self.last_end = self.last_end.max(end.end);
            return end.end;
        }
        last.unwrap_or(start.start)
    }

    /// Cuts the span of a literal or folded scalar to its lines, and says whether it drops the line ends at its end.
    fn block_scalar(&self, span: &mut Span, before: usize) -> bool {
        // Between what came before and the content: colon or dash, properties, the header, perhaps a comment.
        let mut header = before;
        let gap = &self.text[before..span.start.max(before)];
        let mut rest = gap.trim_start_matches([':', '-', '?', ' ', '\t', '\r', '\n']);
        while rest.starts_with(['&', '!']) {
            rest = rest.trim_start_matches(|c: char| !c.is_whitespace()).trim_start();
        }
        header += gap.len() - rest.len();
        let indicators: &str = rest.split(|c: char| c.is_whitespace()).next().unwrap_or_default();
        let (strip, keep) = (indicators.contains('-'), indicators.contains('+'));
        let content = &self.text[span.start..span.end];
        if content.trim().is_empty() && !keep {
            let line_end = self.text[header..].find(['\r', '\n']).map_or(self.text.len(), |at| header + at);
            span.column = span.column.max(1);
            (span.start, span.end) = (line_end, line_end);
            return strip;
        }
        let end = if keep {
            content.rfind('\n').unwrap_or(content.len())
        } else {
            let trimmed = content.trim_end().len();
            content[trimmed..].find('\n').map_or(content.len(), |at| trimmed + at)
        };
        let line = content[..end].strip_suffix('\r').unwrap_or(&content[..end]);
        span.end = span.start + line.len();
        strip
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, ManifestError> {
        let Some(target) = self.anchors.get(&id) else {
            return Err(
                ManifestError::new(ManifestErrorKind::Alias, "an alias stands inside what it stands for").at(span)
            );
        };
        let mut node = target.clone();
        self.aliases.push((span.start, node.span.start));
        let size = node.size();
        self.spend(size, span)?;
        node.came_through(span);
        // What is copied is not here: the place is the alias's.
        node.span = span;
        Ok(node)
    }

    fn spend(&mut self, (nodes, bytes): (usize, usize), span: Span) -> Result<(), ManifestError> {
        self.alias_nodes += nodes;
        self.alias_bytes += bytes;
        if self.alias_nodes > MAX_ALIAS_NODES || self.alias_bytes > MAX_ALIAS_BYTES {
            return Err(too_large("anchors and aliases expand to too much".to_owned(), span));
        }
        Ok(())
    }

    fn duplicates(&mut self, entries: &[Entry]) {
        let mut report = |key: &Node, name: &str| {
            let shown: String = name.chars().take(64).collect();
            self.defects.push(
                ManifestError::new(ManifestErrorKind::DuplicateKey, format!("the key \"{shown}\" is there twice"))
                    .at(key.span)
                    .help("keep one of them; tools differ in which one they take"),
            );
        };
        let mut known: HashSet<&str> = HashSet::new();
        for (index, entry) in entries.iter().enumerate() {
            let Some(name) = entry.key.scalar() else { continue };
            let twice = if entries.len() <= 8 {
                entries[..index].iter().any(|earlier| earlier.key.scalar() == Some(name))
            } else {
                !known.insert(name)
            };
            if twice {
                report(&entry.key, name);
            }
        }
    }
}

/// Within brackets `?kind: Secret` has the key `kind` for a YAML 1.1 reader, and `?kind` for others.
fn question(flow: bool, node: &Node) -> Result<(), ManifestError> {
    match &node.kind {
        NodeKind::Scalar { value, style: Style::Plain, .. }
            if flow && node.alias.is_none() && value.starts_with('?') =>
        {
            Err(ManifestError::new(
                ManifestErrorKind::Ambiguous,
                "a question mark begins this text, and for some readers it marks a key",
            )
            .at(node.span)
            .help("quote it"))
        }
        _ => Ok(()),
    }
}

struct Located {
    span: Span,
    before: usize,
}

impl Node {
    /// Where its text ends: of an alias, the alias's.
    fn end(&self) -> usize {
        self.span.end
    }
}

impl Entry {
    pub(super) fn end(&self) -> usize {
        self.value.end().max(self.colon.map_or(self.key.end(), |colon| colon + 1))
    }
}

fn too_large(message: String, span: Span) -> ManifestError {
    ManifestError::new(ManifestErrorKind::TooLarge, message).at(span)
}

fn syntax_error(text: &str, error: &granit_parser::ScanError) -> ManifestError {
    use granit_parser::ErrorKind as E;
    let marker = error.marker();
    let offset = marker.byte_offset().unwrap_or_default().min(text.len());
    let span = Span { start: offset, end: offset, line: marker.line(), column: marker.col() + 1 };
    let conflict = text.lines().enumerate().find(|(_, line)| line.starts_with("<<<<<<< "));
    if let Some((number, _)) = conflict {
        let start = text.lines().take(number).map(|line| line.len() + 1).sum::<usize>().min(text.len());
        return ManifestError::new(ManifestErrorKind::Syntax, "there is an unsettled Git conflict here")
            .at(Span { start, end: start, line: number + 1, column: 1 })
            .help("settle it: keep the lines of one side, or those of both where they are of different items");
    }
    let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let looks_templated = line.contains("{{") || text.lines().any(|line| line.trim_start().starts_with("{{"));
    if looks_templated {
        return ManifestError::new(ManifestErrorKind::Template, "this is not YAML: it looks like a template")
            .at(span)
            .help("render it first (helm template), or seal the values that it takes");
    }
    let (kind, message) = match error.kind() {
        E::RecursionLimitExceeded => {
            (ManifestErrorKind::TooLarge, format!("nesting is deeper than {MAX_DEPTH} levels"))
        }
        E::TooManyComments => (ManifestErrorKind::TooLarge, "there are too many comments in a row".to_owned()),
        E::UnknownAnchor => (ManifestErrorKind::Alias, "there is no anchor for this alias before it".to_owned()),
        // Names the character, which may be one of a value.
        E::UnexpectedCharacter { .. } => (ManifestErrorKind::Syntax, "a value can't begin like this".to_owned()),
        E::ExpectedDocumentStart => {
            (ManifestErrorKind::Syntax, "there is something after the end of the document".to_owned())
        }
        other => (ManifestErrorKind::Syntax, other.to_string()),
    };
    let built = ManifestError::new(kind, message).at(span);
    match error.kind() {
        E::UnexpectedCharacter { .. } => built.help("quote it"),
        E::ExpectedDocumentStart => built.help("separate documents with a line \"---\""),
        E::TabNotAllowed | E::TabInBlockIndentation | E::TabInIndentation => built.help("indent with spaces"),
        _ => built,
    }
}
