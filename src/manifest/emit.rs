//! Writing manifests: YAML in exactly the layout of format.md, or JSON.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use zeroize::Zeroizing;

use super::Span;
use super::node::{Entry, Node, NodeKind, Style, Tag, yaml11_ambiguous};
use crate::resource::{API_VERSION, Drift, Envelopes, KIND, SealedItem, SealedSecret, SealedSecretSpec};
use crate::secret::PlainSecret;

/// A SealedSecret as a manifest has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SealedManifest {
    /// `metadata.name`.
    pub name: Option<String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.labels`: its own, not the template's.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`: its own, not the template's.
    pub annotations: BTreeMap<String, String>,
    /// `spec`.
    pub spec: SealedSecretSpec,
}

impl From<SealedManifest> for SealedSecret {
    fn from(manifest: SealedManifest) -> Self {
        let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
        Self {
            metadata: ObjectMeta {
                name: manifest.name,
                namespace: manifest.namespace,
                labels: some(manifest.labels),
                annotations: some(manifest.annotations),
                ..ObjectMeta::default()
            },
            spec: manifest.spec,
            status: None,
        }
    }
}

impl From<SealedSecret> for SealedManifest {
    fn from(sealed: SealedSecret) -> Self {
        Self {
            name: sealed.metadata.name,
            namespace: sealed.metadata.namespace,
            labels: sealed.metadata.labels.unwrap_or_default(),
            annotations: sealed.metadata.annotations.unwrap_or_default(),
            spec: sealed.spec,
        }
    }
}

/// What is to be written, in order. May hold values: it is cleared when dropped, and its `Debug` shows none.
#[derive(Clone, PartialEq, Eq)]
pub enum Tree {
    /// Text, quoted where it could be misread.
    Text(Zeroizing<String>),
    /// Text without white space that stands on a line of its own, under `>-`.
    Line(String),
    /// true or false.
    Bool(bool),
    /// A number, as JSON writes it.
    Number(String),
    /// Nothing.
    Null,
    /// Values in order.
    Seq(Vec<Self>),
    /// Keys and values in order.
    Map(Vec<(String, Self)>),
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tree(…)")
    }
}

impl Tree {
    /// Text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn texts(map: &BTreeMap<String, String>) -> Self {
        Self::Map(map.iter().map(|(key, value)| (key.clone(), Self::text(value))).collect())
    }

    pub(super) fn lines(map: &Envelopes) -> Self {
        Self::Map(map.iter().map(|(key, value)| (key.clone(), Self::Line(value.clone()))).collect())
    }

    pub(super) fn item(item: &SealedItem) -> Self {
        let mut map = vec![("sealed".to_owned(), Self::Line(item.sealed.clone()))];
        if let Some(envelopes) = &item.envelopes {
            map.push(("envelopes".to_owned(), Self::lines(envelopes)));
        }
        Self::Map(map)
    }

    /// A SealedSecret: items first, in byte order of key, then the template, envelopes last.
    #[must_use]
    pub fn sealed(manifest: &SealedManifest) -> Self {
        let spec = &manifest.spec;
        let mut metadata = Members::default();
        metadata.optional("name", manifest.name.as_deref().map(Self::text));
        metadata.optional("namespace", manifest.namespace.as_deref().map(Self::text));
        metadata.texts("labels", &manifest.labels);
        metadata.texts("annotations", &manifest.annotations);

        let mut body = Members::default();
        body.optional("scope", spec.scope.map(|scope| Self::text(scope.as_str())));
        body.optional("suspend", spec.suspend.map(Self::Bool));
        body.optional(
            "drift",
            spec.drift.map(|drift| match drift {
                Drift::Enforce => Self::text("enforce"),
                Drift::Warn => Self::text("warn"),
            }),
        );
        let items = spec.items.iter().map(|(key, item)| (key.clone(), Self::item(item))).collect();
        body.optional("items", Some(Self::Map(items)));
        body.optional(
            "template",
            spec.template.as_ref().map(|template| {
                let mut members = Members::default();
                if let Some(metadata) = &template.metadata {
                    let mut inner = Members::default();
                    inner.texts("labels", &metadata.labels);
                    inner.texts("annotations", &metadata.annotations);
                    members.optional("metadata", Some(Self::Map(inner.0)));
                }
                members.optional("type", template.type_.as_deref().map(Self::text));
                members.optional("immutable", template.immutable.map(Self::Bool));
                members.texts("data", &template.data);
                Self::Map(members.0)
            }),
        );
        if !spec.envelopes.is_empty() {
            body.optional("envelopes", Some(Self::lines(&spec.envelopes)));
        }
        Self::Map(vec![
            ("apiVersion".into(), Self::text(API_VERSION)),
            ("kind".into(), Self::text(KIND)),
            ("metadata".into(), Self::Map(metadata.0)),
            ("spec".into(), Self::Map(body.0)),
        ])
    }

    /// A Secret, its members in the order of `kubectl get -o yaml`, all values under `data`.
    #[must_use]
    pub fn secret(secret: &PlainSecret) -> Self {
        let mut metadata = Members::default();
        metadata.texts("annotations", &secret.annotations);
        metadata.texts("labels", &secret.labels);
        metadata.optional("name", secret.name.as_deref().map(Self::text));
        metadata.optional("namespace", secret.namespace.as_deref().map(Self::text));
        let mut root = Members(vec![("apiVersion".into(), Self::text("v1"))]);
        if !secret.data.is_empty() {
            let data = secret.data.iter().map(|(key, value)| {
                let mut text = Zeroizing::new(String::with_capacity(value.len().div_ceil(3) * 4));
                STANDARD.encode_string(value.expose(), &mut text);
                (key.clone(), Self::Text(text))
            });
            root.optional("data", Some(Self::Map(data.collect())));
        }
        root.optional("immutable", secret.immutable.map(Self::Bool));
        root.optional("kind", Some(Self::text("Secret")));
        root.optional("metadata", Some(Self::Map(metadata.0)));
        root.optional("type", Some(Self::text(secret.type_.as_deref().unwrap_or("Opaque"))));
        Self::Map(root.0)
    }

    /// What JSON says; members in byte order of key.
    #[must_use]
    pub fn of_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.to_string()),
            Value::String(text) => Self::text(text),
            Value::Array(items) => Self::Seq(items.iter().map(Self::of_json).collect()),
            Value::Object(members) => {
                let mut members: Vec<_> =
                    members.iter().map(|(key, value)| (key.clone(), Self::of_json(value))).collect();
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                Self::Map(members)
            }
        }
    }

    /// A `v1` List.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::Map(vec![
            ("apiVersion".into(), Self::text("v1")),
            ("items".into(), Self::Seq(items)),
            ("kind".into(), Self::text("List")),
        ])
    }

    /// The tree that a reader must get from what is written of this one.
    pub(super) fn to_node(&self) -> Node {
        let scalar = |text: &str, tag: Tag| Node {
            tag,
            kind: NodeKind::Scalar { value: Zeroizing::new(text.to_owned()), style: Style::Double, strip: false },
            ..blank()
        };
        match self {
            Self::Text(text) => scalar(text, Tag::None),
            Self::Line(text) => scalar(text, Tag::None),
            Self::Bool(value) => scalar(if *value { "true" } else { "false" }, Tag::Core("bool".into())),
            Self::Number(text) => {
                scalar(text, Tag::Core(if text.contains(['.', 'e', 'E']) { "float" } else { "int" }.into()))
            }
            Self::Null => scalar("null", Tag::Core("null".into())),
            Self::Seq(items) => Node {
                kind: NodeKind::Sequence { items: items.iter().map(Self::to_node).collect(), flow: false },
                ..blank()
            },
            Self::Map(members) => Node {
                kind: NodeKind::Mapping {
                    entries: members
                        .iter()
                        .map(|(key, value)| Entry { key: scalar(key, Tag::None), value: value.to_node(), colon: None })
                        .collect(),
                    flow: false,
                },
                ..blank()
            },
        }
    }
}

fn blank() -> Node {
    Node {
        span: Span::default(),
        tag: Tag::None,
        anchor: false,
        alias: None,
        kind: NodeKind::Sequence { items: Vec::new(), flow: false },
    }
}

#[derive(Default)]
struct Members(Vec<(String, Tree)>);

impl Members {
    fn optional(&mut self, key: &str, value: Option<Tree>) {
        if let Some(value) = value {
            self.0.push((key.to_owned(), value));
        }
    }

    fn texts(&mut self, key: &str, map: &BTreeMap<String, String>) {
        if !map.is_empty() {
            self.0.push((key.to_owned(), Tree::texts(map)));
        }
    }
}

/// One YAML document of each tree, `---` between them.
#[must_use]
pub fn yaml(trees: &[Tree]) -> Zeroizing<String> {
    let mut out = Out::default();
    for (index, tree) in trees.iter().enumerate() {
        if index > 0 {
            out.push("---\n");
        }
        let block = Block { indent: 0, step: 2, eol: "\n", tab: false };
        write_block(&mut out, tree, block);
        out.push("\n");
    }
    out.0
}

/// JSON, two spaces a level, with a line end at the end: the tree itself, or a List of several.
#[must_use]
pub fn json(trees: &[Tree]) -> Zeroizing<String> {
    let mut out = Out::default();
    let flow = Flow { pretty: Some(Block { indent: 0, step: 2, eol: "\n", tab: false }), spaced: true };
    match trees {
        [tree] => write_flow(&mut out, tree, flow),
        _ => write_flow(&mut out, &Tree::list(trees.to_vec()), flow),
    }
    out.push("\n");
    out.0
}

/// A SealedSecret as YAML in the layout of format.md.
#[must_use]
pub fn sealed_yaml(manifest: &SealedManifest) -> String {
    yaml(&[Tree::sealed(manifest)]).to_string()
}

/// A SealedSecret as JSON.
#[must_use]
pub fn sealed_json(manifest: &SealedManifest) -> String {
    json(&[Tree::sealed(manifest)]).to_string()
}

/// Secrets as YAML, one document each.
#[must_use]
pub fn secrets_yaml(secrets: &[PlainSecret]) -> Zeroizing<String> {
    yaml(&secrets.iter().map(Tree::secret).collect::<Vec<_>>())
}

/// A Secret as JSON, or a List of several.
#[must_use]
pub fn secrets_json(secrets: &[PlainSecret]) -> Zeroizing<String> {
    json(&secrets.iter().map(Tree::secret).collect::<Vec<_>>())
}

/// A text that leaves nothing behind when it grows.
#[derive(Default)]
pub(super) struct Out(pub Zeroizing<String>);

impl Out {
    pub fn push(&mut self, text: &str) {
        let wanted = self.0.len() + text.len();
        if wanted > self.0.capacity() {
            let mut larger = Zeroizing::new(String::with_capacity((wanted * 2).max(4096)));
            larger.push_str(&self.0);
            self.0 = larger;
        }
        self.0.push_str(text);
    }
}

/// How block style is laid out: the column of what is written, how much deeper its children stand, how lines end.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub indent: usize,
    pub step: usize,
    pub eol: &'a str,
    /// Indented with tabs (in JSON only).
    pub tab: bool,
}

impl Block<'_> {
    pub fn pad(self, out: &mut Out) {
        for _ in 0..self.indent {
            out.push(if self.tab { "\t" } else { " " });
        }
    }

    const fn deeper(self) -> Self {
        Self { indent: self.indent + self.step, ..self }
    }
}

/// How flow style is laid out: on lines of its own, with spaces after colons and commas.
#[derive(Clone, Copy)]
pub(super) struct Flow<'a> {
    pub pretty: Option<Block<'a>>,
    pub spaced: bool,
}

/// Writes a mapping or sequence in block style, its first line where the text stands, without a line end at its end.
pub(super) fn write_block(out: &mut Out, tree: &Tree, block: Block<'_>) {
    match tree {
        Tree::Map(members) if !members.is_empty() => {
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(block.eol);
                    block.pad(out);
                }
                write_member(out, key, value, block);
            }
        }
        Tree::Seq(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(block.eol);
                    block.pad(out);
                }
                out.push("- ");
                write_block(out, item, Block { indent: block.indent + 2, ..block });
            }
        }
        scalar => {
            // Outside a mapping (a document, an item of a List) literal and folded texts are not needed.
            write_flow(out, scalar, Flow { pretty: None, spaced: true });
        }
    }
}

/// Writes a key and its value in block style.
pub(super) fn write_member(out: &mut Out, key: &str, value: &Tree, block: Block<'_>) {
    write_scalar(out, key);
    out.push(":");
    write_value(out, value, block);
}

/// Writes what follows a key's colon in block style; `block` is the key's.
pub(super) fn write_value(out: &mut Out, value: &Tree, block: Block<'_>) {
    let deeper = block.deeper();
    match value {
        Tree::Map(members) if !members.is_empty() => {
            out.push(block.eol);
            deeper.pad(out);
            write_block(out, value, deeper);
        }
        Tree::Seq(items) if !items.is_empty() => {
            out.push(block.eol);
            block.pad(out);
            write_block(out, value, block);
        }
        Tree::Map(_) => out.push(" {}"),
        Tree::Seq(_) => out.push(" []"),
        Tree::Bool(value) => out.push(if *value { " true" } else { " false" }),
        Tree::Number(text) => {
            out.push(" ");
            out.push(text);
        }
        Tree::Null => out.push(" null"),
        Tree::Line(text) if is_line(text) => {
            out.push(" >-");
            out.push(block.eol);
            deeper.pad(out);
            out.push(text);
        }
        Tree::Line(text) => {
            out.push(" ");
            write_scalar(out, text);
        }
        Tree::Text(text) => match literal_header(text) {
            Some(header) => {
                out.push(header);
                for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                    out.push(block.eol);
                    if !line.is_empty() {
                        deeper.pad(out);
                        out.push(line);
                    }
                }
            }
            None => {
                out.push(" ");
                write_scalar(out, text);
            }
        },
    }
}

/// Whether a text can stand alone on a line of a folded scalar.
fn is_line(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.starts_with('#')
}

/// The header of a literal scalar for a text of several lines that one can hold unchanged.
fn literal_header(text: &str) -> Option<&'static str> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let fits = |line: &str| {
        !line.ends_with([' ', '\t'])
            && line.chars().all(|c| c == '\t' || (' '..='~').contains(&c) || (c >= '\u{a0}' && is_plain_unicode(c)))
    };
    let good = body.contains('\n')
        && !body.starts_with(['\n', ' ', '\t'])
        && !body.ends_with('\n')
        && body.split('\n').all(fits);
    good.then_some(if text.ends_with('\n') { " |" } else { " |-" })
}

/// Characters that may stand in a YAML text as they are, line and paragraph separators and byte-order marks left out.
const fn is_plain_unicode(c: char) -> bool {
    !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Writes a scalar on one line: plain when no reader of any version can misread it, else in double quotes.
pub(super) fn write_scalar(out: &mut Out, text: &str) {
    if is_safe_plain(text) {
        out.push(text);
    } else {
        write_quoted(out, text);
    }
}

/// Whether a text means itself without quotes, to every reader, also within braces.
pub(super) fn is_safe_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b'+' | b'=' | b':');
    bytes.first().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/'))
        && bytes.iter().all(inner)
        && !text.ends_with(':')
        && yaml11_ambiguous(text).is_none()
}

/// Writes a text in double quotes: valid JSON and valid YAML.
pub(super) fn write_quoted(out: &mut Out, text: &str) {
    out.push("\"");
    let mut from = 0;
    for (at, c) in text.char_indices() {
        let as_it_is =
            ((' '..'\u{7f}').contains(&c) && c != '"' && c != '\\') || (c >= '\u{a0}' && is_plain_unicode(c));
        if as_it_is {
            continue;
        }
        out.push(&text[from..at]);
        from = at + c.len_utf8();
        match c {
            '"' => out.push("\\\""),
            '\\' => out.push("\\\\"),
            '\n' => out.push("\\n"),
            '\r' => out.push("\\r"),
            '\t' => out.push("\\t"),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push(&text[from..]);
    out.push("\"");
}

/// Writes a value as JSON, its first line where the text stands.
pub(super) fn write_flow(out: &mut Out, tree: &Tree, flow: Flow<'_>) {
    match tree {
        Tree::Text(text) => write_quoted(out, text),
        Tree::Line(text) => write_quoted(out, text),
        Tree::Bool(value) => out.push(if *value { "true" } else { "false" }),
        Tree::Number(text) => out.push(text),
        Tree::Null => out.push("null"),
        Tree::Seq(items) => {
            write_bracketed(out, ("[", "]"), items, flow, write_flow);
        }
        Tree::Map(members) => {
            write_bracketed(out, ("{", "}"), members, flow, |out, (key, value), flow| {
                write_flow_member(out, key, value, flow);
            });
        }
    }
}

/// Writes a key and its value as JSON.
pub(super) fn write_flow_member(out: &mut Out, key: &str, value: &Tree, flow: Flow<'_>) {
    write_quoted(out, key);
    out.push(if flow.spaced { ": " } else { ":" });
    write_flow(out, value, flow);
}

fn write_bracketed<T>(
    out: &mut Out,
    (open, close): (&str, &str),
    members: &[T],
    flow: Flow<'_>,
    mut write: impl FnMut(&mut Out, &T, Flow<'_>),
) {
    out.push(open);
    let inner = Flow { pretty: flow.pretty.map(Block::deeper), ..flow };
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            out.push(if flow.spaced && flow.pretty.is_none() { ", " } else { "," });
        }
        if let Some(block) = inner.pretty {
            out.push(block.eol);
            block.pad(out);
        }
        write(out, member, inner);
    }
    if let Some(block) = flow.pretty
        && !members.is_empty()
    {
        out.push(block.eol);
        block.pad(out);
    }
    out.push(close);
}
