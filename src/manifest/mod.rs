//! Reading manifests as people have them, and editing them without touching anything else.
//!
//! [`Stream::read`] takes the bytes of a file: YAML or JSON, several documents, Lists, any encoding of Unicode that
//! editors write. Its [`Object`]s are what `kubectl apply` would see, each with its place; [`Object::secret`] and
//! [`Object::sealed`] read the two kinds that matter here, everything else passes byte for byte. [`Stream::apply`]
//! changes single members in the text and proves, by reading the result again, that nothing else changed.
//!
//! Texts may hold values: they are cleared when dropped, and neither an error nor a `Debug` shows one. (The parser's own
//! buffers for escaped and block scalars are not cleared.)

use zeroize::Zeroizing;

#[cfg(feature = "bitnami")]
mod bitnami;
mod comments;
pub mod edit;
pub mod emit;
mod error;
mod members;
mod node;
mod plain;
mod sealed;
mod source;

#[cfg(feature = "bitnami")]
pub use bitnami::BitnamiView;
pub use comments::Renamed;
pub use edit::{Applied, Edit, EnvelopeMap, TemplateMap, TextPath};
pub use emit::{SealedManifest, Tree};
pub use error::{ManifestError, ManifestErrorKind, Span};
pub use node::{
    Ambiguity, Document, Entry, MAX_ALIAS_BYTES, MAX_ALIAS_NODES, MAX_DEPTH, MAX_NODES, Member, Node, NodeKind, Style,
    Tag, yaml11_ambiguous,
};
pub use plain::{Dropped, PlainView};
pub use sealed::{EnvelopePlaces, ItemPlaces, SealedPlaces, SealedView};
pub use source::{Encoding, LineEnding, MAX_TEXT, Source};

use std::fmt;
use std::ops::Range;

/// A text with its documents and objects.
pub struct Stream {
    source: Source,
    documents: Vec<Document>,
    comments: Vec<Range<usize>>,
    objects: Vec<Found>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({} documents, {} objects)", self.documents.len(), self.objects.len())
    }
}

#[derive(Clone, Debug)]
struct Found {
    document: usize,
    /// Index into `items`, for each List on the way.
    path: Vec<usize>,
    api_version: Option<String>,
    kind: Option<String>,
}

impl Stream {
    /// Reads a file.
    ///
    /// # Errors
    /// What is neither YAML nor JSON, with its place; and limits exceeded. What is wrong within an object is said when
    /// the object is read.
    pub fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::parse(Source::decode(bytes)?)
    }

    /// Reads a text of which nobody knows what it is: its documents stand for themselves, and no object is taken out of
    /// them. For looking at foreign files, where what kubectl would refuse must still be seen.
    ///
    /// # Errors
    /// What is neither YAML nor JSON, with its place; and limits exceeded.
    pub fn read_any(text: &str) -> Result<Self, ManifestError> {
        let source = Source::from_parts(Zeroizing::new(text.to_owned()), Encoding::Utf8);
        let node::Parsed { documents, comments } = node::parse(source.text())?;
        Ok(Self { source, documents, comments, objects: Vec::new() })
    }

    fn parse(source: Source) -> Result<Self, ManifestError> {
        let node::Parsed { documents, comments } = node::parse(source.text())?;
        let mut objects = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            flatten(&document.root, None, &mut Vec::new(), &mut |path, api_version, kind| {
                objects.push(Found { document: index, path: path.to_vec(), api_version, kind });
            })
            .map_err(|error| error.in_document(index))?;
        }
        Ok(Self { source, documents, comments, objects })
    }

    /// The text, without a byte-order mark: all places count from its begin. It may hold values.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.text()
    }

    /// How the bytes were encoded.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.source.encoding()
    }

    /// How lines end.
    #[must_use]
    pub fn line_ending(&self) -> LineEnding {
        self.source.line_ending()
    }

    /// Whether the text is JSON or YAML that looks like it: each document one pair of braces or brackets.
    #[must_use]
    pub fn is_flow(&self) -> bool {
        !self.documents.is_empty() && self.documents.iter().all(|document| document.root.is_flow())
    }

    /// The documents, empty ones too.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The byte ranges of all comments.
    #[must_use]
    pub fn comments(&self) -> &[Range<usize>] {
        &self.comments
    }

    /// The objects in the order of the text: each document that is a mapping, Lists taken apart.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = Object<'_>> {
        (0..self.objects.len()).map(|index| Object { stream: self, index })
    }

    /// One object by its index among [`Stream::objects`].
    #[must_use]
    pub fn object(&self, index: usize) -> Option<Object<'_>> {
        (index < self.objects.len()).then_some(Object { stream: self, index })
    }

    /// The bytes to write: see [`Source::to_bytes`].
    #[must_use]
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.source.to_bytes()
    }

    /// The bytes to write: see [`Source::to_bytes`].
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.source.to_bytes()
    }
}

/// `apiVersion` of Bitnami's SealedSecrets, which are of the same kind.
const BITNAMI: &str = "bitnami.com/v1alpha1";

/// The kinds of List that are taken apart, and what their items are when they don't say it themselves.
fn list_of(api_version: Option<&str>, kind: Option<&str>) -> Option<Option<&'static str>> {
    match (api_version, kind) {
        (Some("v1"), Some("List")) => Some(None),
        (Some("v1"), Some("SecretList")) => Some(Some("Secret")),
        (Some(crate::resource::API_VERSION | BITNAMI), Some("SealedSecretList")) => Some(Some(crate::resource::KIND)),
        _ => None,
    }
}

/// Takes path, `apiVersion` and `kind` of an object.
type Emit<'e> = dyn FnMut(&[usize], Option<String>, Option<String>) + 'e;

/// The value of a key that decides what an object is. Of several, kubectl takes the last and also one that is merged after
/// it; others take the first, or none: whoever guessed wrong would take a Secret for something else and let it pass.
fn decisive<'n>(node: &'n Node, key: &str) -> Result<Option<&'n Node>, ManifestError> {
    let found = node.all(key);
    let Some((first, others)) = found.split_first() else { return Ok(None) };
    if let Some(other) = others.iter().find(|other| !other.same(first)) {
        return Err(ManifestError::new(ManifestErrorKind::DuplicateKey, format!("the key \"{key}\" is there twice"))
            .at(other.alias.unwrap_or(other.span))
            .help("keep one of them; tools differ in which one they take"));
    }
    if matches!(first.tag, Tag::Binary | Tag::Custom) {
        return Err(ManifestError::new(ManifestErrorKind::Tag, format!("{key} has a tag"))
            .at(first.span)
            .help("remove the tag: some readers decode what it stands on"));
    }
    Ok(Some(first))
}

fn flatten(
    node: &Node,
    inherited: Option<(&str, &str)>,
    path: &mut Vec<usize>,
    emit: &mut Emit<'_>,
) -> Result<(), ManifestError> {
    if node.entries().is_none() {
        return Ok(());
    }
    if let Some(key) = node.tagged_key() {
        return Err(ManifestError::new(ManifestErrorKind::Tag, "a key of an object has a tag")
            .at(key.span)
            .help("remove the tag: some readers decode what it stands on"));
    }
    let (version_node, kind_node) = (decisive(node, "apiVersion")?, decisive(node, "kind")?);
    let (mut api_version, mut kind) = (version_node.and_then(Node::scalar), kind_node.and_then(Node::scalar));
    if let Some((list_version, list_kind)) = inherited
        && kind.is_none()
    {
        api_version = api_version.or(Some(list_version));
        kind = Some(list_kind);
    }
    let items = decisive(node, "items")?;
    if let Some(of) = list_of(api_version, kind)
        && let Some(items) = items
        && (items.items().is_some() || items.is_null())
    {
        for (index, item) in items.items().unwrap_or_default().iter().enumerate() {
            path.push(index);
            flatten(item, api_version.zip(of), path, emit)?;
            path.pop();
        }
        return Ok(());
    }
    if let Some(items) = items.and_then(Node::items) {
        no_secret_among(items, api_version, kind)?;
    }
    let says_version = version_node.is_some_and(|version| version.scalar().is_some() && version.not_text().is_none());
    // A group of its own makes it somebody else's kind.
    let grouped = says_version && api_version.is_some_and(|version| version.contains('/') && !version.starts_with('/'));
    let exact = (kind, api_version) == (Some("Secret"), Some("v1"));
    if !grouped && !exact && looks_like_secret(node, kind) {
        return Err(ManifestError::new(
            ManifestErrorKind::BadValue,
            "this looks like a Secret, and its apiVersion and kind are not \"v1\" and \"Secret\"",
        )
        .at(kind_node.unwrap_or(node).span)
        .help("write apiVersion: v1 and kind: Secret"));
    }
    emit(path, api_version.map(str::to_owned), kind.map(str::to_owned));
    Ok(())
}

/// Whether somebody who wrote this meant a Secret: the kind in another case, or under a key in another case, or no kind and
/// the fields that only a Secret has.
fn looks_like_secret(node: &Node, kind: Option<&str>) -> bool {
    let is_secret = |text: &str| text.eq_ignore_ascii_case("Secret");
    let has = |key: &str| node.get(key).is_some();
    match kind {
        Some(kind) => is_secret(kind),
        None => {
            has("stringData")
                || (has("metadata") && has("data") && has("type"))
                || node.entries().unwrap_or_default().iter().any(|entry| {
                    entry.key.scalar().is_some_and(|key| key.eq_ignore_ascii_case("kind"))
                        && entry.value.scalar().is_some_and(is_secret)
                })
        }
    }
}

/// kubectl takes any object that has `items` for a List, whatever its kind, and applies what is in it.
fn no_secret_among(items: &[Node], api_version: Option<&str>, kind: Option<&str>) -> Result<(), ManifestError> {
    let singular = kind.map(|kind| kind.strip_suffix("List").unwrap_or(kind));
    for item in items {
        let mut found = false;
        let mut look = |_: &[usize], version: Option<String>, kind: Option<String>| {
            found |= matches!(
                (version.as_deref(), kind.as_deref()),
                (Some("v1"), Some("Secret"))
                    | (Some(crate::resource::API_VERSION | BITNAMI), Some(crate::resource::KIND))
            );
        };
        flatten(item, singular.map(|kind| (api_version.unwrap_or_default(), kind)), &mut Vec::new(), &mut look)?;
        if found {
            return Err(ManifestError::new(
                ManifestErrorKind::BadValue,
                "there is a Secret among the items of an object that is no List; kubectl would apply it",
            )
            .at(item.span)
            .help("write apiVersion: v1 and kind: List, or give the Secret a document of its own"));
        }
    }
    Ok(())
}

/// An object of a stream.
#[derive(Clone, Copy)]
pub struct Object<'s> {
    stream: &'s Stream,
    index: usize,
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({} {:?} {:?})", self.index, self.kind(), self.name())
    }
}

impl<'s> Object<'s> {
    /// Its index among the stream's objects; edits keep it.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The index of its document.
    #[must_use]
    pub fn document(&self) -> usize {
        self.found().document
    }

    /// Where it stands in its document: its index in `items`, for each List on the way; empty when it is the document.
    #[must_use]
    pub fn path(&self) -> &'s [usize] {
        &self.found().path
    }

    /// `apiVersion` as it stands there.
    #[must_use]
    pub fn api_version(&self) -> Option<&'s str> {
        self.found().api_version.as_deref()
    }

    /// `kind` as it stands there.
    #[must_use]
    pub fn kind(&self) -> Option<&'s str> {
        self.found().kind.as_deref()
    }

    /// `metadata.name` as it stands there.
    #[must_use]
    pub fn name(&self) -> Option<&'s str> {
        self.metadata("name")
    }

    /// `metadata.namespace` as it stands there.
    #[must_use]
    pub fn namespace(&self) -> Option<&'s str> {
        self.metadata("namespace")
    }

    fn metadata(&self, key: &str) -> Option<&'s str> {
        self.node().get("metadata")?.get(key).filter(|node| !node.is_null())?.scalar()
    }

    /// Where it is.
    #[must_use]
    pub fn span(&self) -> Span {
        self.node().span
    }

    /// Its tree.
    #[must_use]
    pub fn node(&self) -> &'s Node {
        let found = self.found();
        let mut node = &self.stream.documents[found.document].root;
        for index in &found.path {
            match node.get("items").and_then(Node::items).and_then(|items| items.get(*index)) {
                Some(item) => node = item,
                None => break,
            }
        }
        node
    }

    /// Whether it is a Secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.kind() == Some("Secret") && self.api_version() == Some("v1")
    }

    /// Whether it is a SealedSecret of the native format.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.kind() == Some(crate::resource::KIND) && self.api_version() == Some(crate::resource::API_VERSION)
    }

    /// Whether it is a SealedSecret of Bitnami's format.
    #[must_use]
    pub fn is_bitnami(&self) -> bool {
        self.kind() == Some(crate::resource::KIND) && self.api_version() == Some(BITNAMI)
    }

    fn found(&self) -> &'s Found {
        &self.stream.objects[self.index]
    }

    /// What is wrong with the tree itself: duplicate keys, custom tags. An object that uses aliases answers for the whole
    /// document.
    pub(crate) fn defect(&self) -> Option<ManifestError> {
        let node = self.node();
        let defects = &self.stream.documents[self.document()].defects;
        if node.first_alias().is_some() {
            return defects.first().cloned();
        }
        let start = |defect: &ManifestError| defect.span.unwrap_or_default().start;
        let first = defects.partition_point(|defect| start(defect) < node.span.start);
        defects.get(first).filter(|defect| start(defect) <= node.span.end).cloned()
    }

    /// The error with its document; a text that begins like a template's is called one.
    fn error(&self, error: ManifestError) -> ManifestError {
        let error = error.in_document(self.document());
        let templated = error.span.and_then(|span| self.stream.text().get(span.start..));
        if error.kind == ManifestErrorKind::WrongType && templated.is_some_and(|text| text.starts_with("{{")) {
            return ManifestError {
                kind: ManifestErrorKind::Template,
                message: format!("{}: this looks like a template", error.message),
                help: Some("render it first (helm template), or seal the values that it takes".into()),
                ..error
            };
        }
        error
    }
}

/// The text of a scalar that must be text to a reader of any version.
fn text_of<'n>(node: &'n Node, what: &str) -> Result<&'n str, ManifestError> {
    if let Some(ambiguity) = node.not_text() {
        return Err(not_text(node, what, ambiguity));
    }
    plain_text(node, what)
}

/// The text of a scalar that kubectl takes for text.
fn value_text_of<'n>(node: &'n Node, what: &str) -> Result<&'n str, ManifestError> {
    if let Some(ambiguity) = node.not_text()
        && (ambiguity.for_kubectl() || node.tag != Tag::None)
    {
        return Err(not_text(node, what, ambiguity));
    }
    plain_text(node, what)
}

fn plain_text<'n>(node: &'n Node, what: &str) -> Result<&'n str, ManifestError> {
    if node.tag == Tag::Binary {
        return Err(ManifestError::new(ManifestErrorKind::Tag, format!("{what} has the tag !!binary"))
            .at(node.span)
            .help("remove the tag; base64 belongs under data as it is"));
    }
    node.scalar().ok_or_else(|| wrong_type(node, what, "text"))
}

fn not_text(node: &Node, what: &str, ambiguity: Ambiguity) -> ManifestError {
    if ambiguity == Ambiguity::Null {
        return ManifestError::new(ManifestErrorKind::WrongType, format!("{what} has no value"))
            .at(node.span)
            .help("write \"\" if it is empty on purpose, else remove it");
    }
    let kind = if ambiguity.for_kubectl() { ManifestErrorKind::WrongType } else { ManifestErrorKind::Ambiguous };
    ManifestError::new(kind, format!("{what} is {}, not text", ambiguity.name())).at(node.span).help("quote it")
}

fn wrong_type(node: &Node, what: &str, wanted: &str) -> ManifestError {
    ManifestError::new(ManifestErrorKind::WrongType, format!("{what} is {}; {wanted} belongs here", node.type_name()))
        .at(node.span)
}

/// A key, which must be text to a reader of any version.
fn key_of<'n>(key: &'n Node, within: &str) -> Result<&'n str, ManifestError> {
    if let (Some(ambiguity), Some(text)) = (key.not_text(), key.scalar()) {
        return Err(ManifestError::new(
            ManifestErrorKind::Ambiguous,
            format!("the key {text} under {within} is {} to many readers", ambiguity.name()),
        )
        .at(key.span)
        .help(format!("quote it: \"{text}\"")));
    }
    key.scalar().ok_or_else(|| wrong_type(key, &format!("a key under {within}"), "text"))
}

fn boolean(node: &Node, what: &str) -> Result<bool, ManifestError> {
    match (node.not_text(), node.scalar()) {
        (Some(Ambiguity::Bool), Some("true")) => Ok(true),
        (Some(Ambiguity::Bool), Some("false")) => Ok(false),
        _ => Err(ManifestError::new(ManifestErrorKind::WrongType, format!("{what} is neither true nor false"))
            .at(node.span)
            .help("write true or false, without quotes")),
    }
}

/// Fields of `metadata` that the API server keeps for itself, or that belong to the live object only.
const SERVER_METADATA: &[&str] = &[
    "clusterName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn unknown_field(key: &Node, within: &str, known: &[&str]) -> ManifestError {
    let name: String = key.scalar().unwrap_or_default().chars().take(64).collect();
    let place = if within.is_empty() { String::new() } else { format!(" under {within}") };
    let error =
        ManifestError::new(ManifestErrorKind::UnknownField, format!("unknown field \"{name}\"{place}")).at(key.span);
    match known.iter().find(|field| near(field, &name)) {
        Some(field) => error.help(format!("did you mean {field}?")),
        None => error.help("remove it, or correct it"),
    }
}

/// Whether one is likely meant where the other stands: another case, or one edit apart.
fn near(field: &str, name: &str) -> bool {
    let (a, b) = (field.to_lowercase().into_bytes(), name.to_lowercase().into_bytes());
    let prefix = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let suffix = a[prefix..].iter().rev().zip(b[prefix..].iter().rev()).take_while(|(a, b)| a == b).count();
    a.len().max(b.len()) - prefix - suffix <= 2 && a.len() > 2 && prefix + suffix > 0
}

#[cfg(test)]
mod tests;
