//! Bytes to text: what stood before it and how its lines end.

use zeroize::Zeroizing;

use super::error::{ManifestError, ManifestErrorKind, Span};

/// Bytes of text that are read at most (128 MiB).
pub const MAX_TEXT: usize = 128 * 1024 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How the bytes were encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// UTF-8 with a byte-order mark, which is written again.
    Utf8Bom,
    /// UTF-16, little end first, with a byte-order mark; written as UTF-8 without one.
    Utf16Le,
    /// UTF-16, big end first, with a byte-order mark; written as UTF-8 without one.
    Utf16Be,
}

/// How lines end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineEnding {
    /// There is no line end.
    None,
    /// `\n`.
    Lf,
    /// `\r\n`.
    CrLf,
    /// Some so, some so.
    Mixed,
}

/// A text as it was read. It may hold values: it is cleared when dropped and has no `Debug` that shows it.
pub struct Source {
    text: Zeroizing<String>,
    encoding: Encoding,
}

impl Source {
    /// Decodes `bytes`.
    ///
    /// # Errors
    /// [`ManifestErrorKind::Encoding`] with the byte offset and line, [`ManifestErrorKind::TooLarge`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_TEXT {
            return Err(too_large(bytes.len()));
        }
        if let Some(rest) = bytes.strip_prefix(b"\xff\xfe") {
            return Self::utf16(rest, u16::from_le_bytes, Encoding::Utf16Le);
        }
        if let Some(rest) = bytes.strip_prefix(b"\xfe\xff") {
            return Self::utf16(rest, u16::from_be_bytes, Encoding::Utf16Be);
        }
        let (rest, encoding) = match bytes.strip_prefix(BOM) {
            Some(rest) => (rest, Encoding::Utf8Bom),
            None => (bytes, Encoding::Utf8),
        };
        match std::str::from_utf8(rest) {
            Ok(text) => {
                if let Some(offset) = text.find('\0') {
                    return Err(ManifestError::new(ManifestErrorKind::Encoding, "there is a NUL byte in the text")
                        .at(span_at(text, offset))
                        .help(
                            "UTF-16 is read when it begins with a byte-order mark; a binary file is not a manifest",
                        ));
                }
                Ok(Self { text: Zeroizing::new(text.to_owned()), encoding })
            }
            Err(error) => {
                let valid = error.valid_up_to();
                let before = std::str::from_utf8(&rest[..valid]).unwrap_or_default();
                let offset = valid + bytes.len() - rest.len();
                Err(ManifestError::new(
                    ManifestErrorKind::Encoding,
                    format!("the text is not UTF-8: byte {offset} begins no character"),
                )
                .at(span_at(before, valid))
                .help("save the file as UTF-8; values that are not text belong, as base64, under data"))
            }
        }
    }

    fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, encoding: Encoding) -> Result<Self, ManifestError> {
        // Three bytes of UTF-8 for each unit at most: the text never moves while it grows.
        let mut text = Zeroizing::new(String::with_capacity(bytes.len() / 2 * 3));
        let (pairs, odd) = bytes.as_chunks::<2>();
        let mut offset = 2;
        for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
            match character {
                Ok('\0') | Err(_) => {
                    return Err(bad_utf16(&text, offset));
                }
                Ok(character) => {
                    text.push(character);
                    offset += character.len_utf16() * 2;
                }
            }
        }
        if !odd.is_empty() {
            return Err(bad_utf16(&text, offset));
        }
        if text.len() > MAX_TEXT {
            return Err(too_large(text.len()));
        }
        Ok(Self { text, encoding })
    }

    pub(super) const fn from_parts(text: Zeroizing<String>, encoding: Encoding) -> Self {
        Self { text, encoding }
    }

    /// The text, without a byte-order mark: all positions count from its begin.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How the bytes were encoded.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How lines end.
    #[must_use]
    pub fn line_ending(&self) -> LineEnding {
        let lf = self.text.matches('\n').count();
        let crlf = self.text.matches("\r\n").count();
        match (lf, crlf) {
            (0, _) => LineEnding::None,
            (_, 0) => LineEnding::Lf,
            (lf, crlf) if lf == crlf => LineEnding::CrLf,
            _ => LineEnding::Mixed,
        }
    }

    /// The bytes to write: UTF-8, with the byte-order mark that was there. What was UTF-16 becomes UTF-8 without one.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let bom = if self.encoding == Encoding::Utf8Bom { BOM } else { b"" };
        let mut bytes = Zeroizing::new(Vec::with_capacity(bom.len() + self.text.len()));
        bytes.extend_from_slice(bom);
        bytes.extend_from_slice(self.text.as_bytes());
        bytes
    }
}

fn too_large(len: usize) -> ManifestError {
    ManifestError::new(ManifestErrorKind::TooLarge, format!("the text has {len} bytes; {MAX_TEXT} are read at most"))
        .help("split the file")
}

fn bad_utf16(text: &str, offset: usize) -> ManifestError {
    ManifestError::new(
        ManifestErrorKind::Encoding,
        format!("the text is not UTF-16, although its byte-order mark says so: byte {offset} begins no character"),
    )
    .at(span_at(text, text.len()))
    .help("save the file as UTF-8")
}

/// The line and column of a byte offset.
pub(super) fn span_at(text: &str, offset: usize) -> Span {
    let offset = offset.min(text.len());
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Span { start: offset, end: offset, line, column: before[line_start..].chars().count() + 1 }
}
