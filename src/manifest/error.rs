//! What can be wrong with a manifest: always with the place, never with a value.

use std::fmt;

/// A place in a text: lines and columns begin with 1, columns count characters, bytes begin with 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Byte offset of the first byte in [`super::Stream::text`].
    pub start: usize,
    /// Byte offset after the last byte.
    pub end: usize,
    /// Line of the first byte.
    pub line: usize,
    /// Column of the first byte, in characters.
    pub column: usize,
}

impl Span {
    /// The bytes.
    #[must_use]
    pub const fn range(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }
}

/// Of what sort an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ManifestErrorKind {
    /// Neither UTF-8 nor UTF-16 with a byte-order mark.
    Encoding,
    /// More text, nesting, nodes or alias expansion than is taken.
    TooLarge,
    /// Neither YAML nor JSON.
    Syntax,
    /// Text of a templating tool (Helm) where a manifest was expected.
    Template,
    /// A key twice in one mapping.
    DuplicateKey,
    /// A tag other than those of YAML itself.
    Tag,
    /// An anchor, an alias or a merge key where none may be.
    Alias,
    /// A plain scalar that YAML 1.1 readers take for something else than text.
    Ambiguous,
    /// A number, boolean, null, sequence or mapping where something else belongs.
    WrongType,
    /// A field that does not exist here.
    UnknownField,
    /// A field that must be there.
    MissingField,
    /// Base64 that is none.
    Base64,
    /// A key against the grammar of item keys, or a word that is none of those allowed.
    BadValue,
    /// An object of another kind than the one asked for.
    OtherKind,
    /// What should be edited is not there, or already is.
    NoTarget,
    /// An edit that can't be made without touching something else.
    Unsafe,
}

/// What is wrong with a manifest, where, and what to do. Holds names of fields and keys, never a value of a Secret and
/// never a line of the source: a caller that shows the line masks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Of what sort.
    pub kind: ManifestErrorKind,
    /// Index of the document in the stream, from 0.
    pub document: Option<usize>,
    /// Where in the text.
    pub span: Option<Span>,
    /// What is wrong.
    pub message: String,
    /// What to do, if there is something.
    pub help: Option<String>,
}

impl ManifestError {
    pub(super) fn new(kind: ManifestErrorKind, message: impl Into<String>) -> Self {
        Self { kind, document: None, span: None, message: message.into(), help: None }
    }

    pub(super) fn at(mut self, span: Span) -> Self {
        self.span.get_or_insert(span);
        self
    }

    pub(super) fn in_document(mut self, document: usize) -> Self {
        self.document.get_or_insert(document);
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The line, from 1, where known.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.span.map(|span| span.line)
    }

    /// The column in characters, from 1, where known.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.span.map(|span| span.column)
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = self.span {
            write!(f, "{}:{}: ", span.line, span.column)?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}
