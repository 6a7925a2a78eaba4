//! The text of `bulla edit`: a line `key: value` for each item, as YAML. Reading what was written gives the same values back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulla::manifest::{Ambiguity, Node, NodeKind, Stream, Style, Tag};
use bulla::scope::is_item_key;
use bulla::secret::SecretValue;
use zeroize::Zeroizing;

use crate::failure::{self, Failure, Result};

/// Stands for a value that is not shown, without quotes. In quotes it is a value as any other.
pub const SEALED: &str = "<sealed>";

/// What stands for an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It keeps its bytes.
    Keep,
    Value(SecretValue),
}

/// The text for these items, below a comment.
pub fn write(comment: &str, items: &BTreeMap<String, Entry>) -> Zeroizing<String> {
    let room: usize = items
        .iter()
        .map(|(key, entry)| key.len() + if let Entry::Value(value) = entry { 8 * value.len() + 64 } else { 64 })
        .sum();
    // Room for all of it, so that nothing moves while it grows.
    let mut text = Zeroizing::new(String::with_capacity(room + comment.len() * 2 + 256));
    for line in comment.lines() {
        _ = writeln!(text, "# {line}");
    }
    for (key, entry) in items {
        match entry {
            Entry::Keep => _ = writeln!(text, "{}: {SEALED}", key_text(key)),
            Entry::Value(value) => text.push_str(&item(key, value)),
        }
    }
    text
}

/// A key: without quotes where no reader takes it for anything but text.
fn key_text(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && bulla::manifest::yaml11_ambiguous(key).is_none();
    if plain { key.to_owned() } else { format!("\"{key}\"") }
}

/// The shortest way of writing an item that reads back as it is.
fn item(key: &str, value: &SecretValue) -> Zeroizing<String> {
    let name = key_text(key);
    let bytes = value.expose();
    let mut ways: Vec<Zeroizing<String>> = Vec::new();
    let mut way = |text: &dyn Fn(&mut String)| {
        let mut out = Zeroizing::new(String::with_capacity(name.len() + 8 * bytes.len() + 64));
        _ = write!(out, "{name}: ");
        text(&mut out);
        out.push('\n');
        ways.push(out);
    };
    if let Ok(text) = std::str::from_utf8(bytes) {
        if is_plain(text) {
            way(&|out| out.push_str(text));
        }
        if text.contains('\n') {
            way(&|out| block(out, text));
        }
        way(&|out| quoted(out, text));
    }
    for way in ways {
        if read(way.as_bytes()).is_ok_and(|items| items.get(key) == Some(&Entry::Value(value.clone()))) {
            return way;
        }
    }
    let encoded = crate::generate::base64(bytes);
    let mut out = Zeroizing::new(String::with_capacity(name.len() + 2 * encoded.len() + 64));
    _ = write!(out, "{name}: !!binary ");
    if bytes.is_empty() {
        out.push_str("\"\"");
    } else {
        out.push_str("|-");
        for line in encoded.chunks(76) {
            _ = write!(out, "\n  {}", std::str::from_utf8(line).unwrap_or_default());
        }
    }
    out.push('\n');
    out
}

fn is_plain(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| word(c) || c == '/')
        && text.chars().all(|c| word(c) || matches!(c, '/' | '@' | '%' | '+' | '=' | '.' | '-'))
        && !matches!(text, "null" | "Null" | "NULL")
}

fn block(out: &mut String, text: &str) {
    let indented = text.starts_with([' ', '\t', '\n']);
    let bare = text.trim_end_matches('\n');
    let chomp = match text.len() - bare.len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    _ = write!(out, "|{}{chomp}", if indented { "2" } else { "" });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str("  ");
            out.push_str(line);
        }
    }
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads the text again. An error names the place, and nothing that stands there.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Entry>> {
    const WHERE: &str = "the text";
    let stream = Stream::read(bytes).map_err(|error| failure::manifest(WHERE, None, &error))?;
    let mut items = BTreeMap::new();
    let at = |message: String, node: &Node| Failure::new(message).at(WHERE, None, node.span);
    let mut roots = stream.documents().iter().map(|document| &document.root).filter(|root| !root.is_null());
    let Some(root) = roots.next() else { return Ok(items) };
    if let Some(second) = roots.next() {
        return Err(at("there is more than one document".into(), second));
    }
    if root.entries().is_none() {
        return Err(at("these are no lines KEY: VALUE".into(), root));
    }
    for member in root.members().map_err(|error| failure::manifest(WHERE, None, &error))? {
        let key = member.key.scalar().unwrap_or_default();
        if !is_item_key(key) {
            return Err(at(
                "this can't be a key of a Secret: 1 to 253 of a-z A-Z 0-9 - . _, not \".\" and not beginning with \"..\""
                    .into(),
                member.key,
            ));
        }
        let entry = entry(key, member.value).map_err(|message| at(message, member.value))?;
        if items.insert(key.to_owned(), entry).is_some() {
            return Err(at(format!("the key {key} is there twice"), member.key));
        }
    }
    Ok(items)
}

/// What a value says: its text as it stands there, whatever else a reader of YAML would take it for.
fn entry(key: &str, node: &Node) -> std::result::Result<Entry, String> {
    let NodeKind::Scalar { value, style, .. } = &node.kind else {
        return Err(format!(
            "the value of {key} is {}, not text: put it in quotes, or after | on lines of its own",
            node.type_name()
        ));
    };
    match (&node.tag, style) {
        (Tag::None, Style::Plain) if **value == *SEALED => Ok(Entry::Keep),
        (Tag::None, Style::Plain) if node.not_text() == Some(Ambiguity::Null) => {
            Err(format!("{key} has no value: \"\" is an empty one; to take {key} out, take its line out"))
        }
        (Tag::None | Tag::Str, _) => Ok(Entry::Value(SecretValue::new(value.as_bytes().to_vec()))),
        (Tag::Binary, _) => {
            let bare: Zeroizing<Vec<u8>> =
                Zeroizing::new(value.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
            let mut bytes = Zeroizing::new(Vec::with_capacity(bare.len()));
            STANDARD
                .decode_vec(bare.as_slice(), &mut bytes)
                .map_err(|_| format!("the value of {key} is not base64"))?;
            Ok(Entry::Value(SecretValue::new(std::mem::take(&mut *bytes))))
        }
        _ => Err(format!("the value of {key} has a tag that says something else than text")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bulla::secret::SecretValue;
    use proptest::prelude::*;

    use super::{Entry, read, write};

    fn value(text: impl Into<Vec<u8>>) -> Entry {
        Entry::Value(SecretValue::new(text.into()))
    }

    fn written(entry: Entry) -> String {
        write("", &BTreeMap::from([("k".to_owned(), entry)])).to_string()
    }

    #[test]
    fn values_are_written_as_people_write_them() {
        for (bytes, text) in [
            (&b"hunter2"[..], "k: hunter2\n"),
            (b"0123", "k: 0123\n"),
            (b"<sealed>", "k: \"<sealed>\"\n"),
            (b"", "k: \"\"\n"),
            (b"null", "k: \"null\"\n"),
            (b"a: b # c", "k: \"a: b # c\"\n"),
            (b"a\nb\n", "k: |\n  a\n  b\n"),
            (b"a\nb", "k: |-\n  a\n  b\n"),
            (b" a\nb\n\n", "k: |2+\n   a\n  b\n\n"),
            (b"\xff\x00", "k: !!binary |-\n  /wA=\n"),
        ] {
            assert_eq!(written(value(bytes)), text);
        }
        assert_eq!(written(Entry::Keep), "k: <sealed>\n");
    }

    #[test]
    fn typed_values_are_the_text_that_was_typed() {
        let read = |text: &str| read(text.as_bytes()).map(|items| items["k"].clone());
        for (text, wanted) in
            [("k: 0123", "0123"), ("k: yes", "yes"), ("k: 1e3", "1e3"), ("k: \"<sealed>\"", "<sealed>"), ("k: ''", "")]
        {
            assert_eq!(read(text).expect("reads"), value(wanted), "{text}");
        }
        assert_eq!(read("k: <sealed>").expect("reads"), Entry::Keep);
        for text in [
            "k:",
            "k: ~",
            "k: [hunter2]",
            "k: {hunter2: 1}",
            "a b: hunter2",
            "k: a\nk: hunter2",
            "hunter2",
            "k: !!binary hunter2!",
            "k: \"hunter2",
            "k: !!int hunter2",
        ] {
            let failure = read(text).expect_err(text).render();
            assert!(!failure.contains("hunter2"), "{failure}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            texts in prop::collection::btree_map("[-._a-zA-Z0-9]{1,12}", "[ -~\\n\\t\u{85}\u{2028}\u{feff}äß\\r:#'\"|>]{0,40}", 0..6),
            bytes in prop::collection::btree_map("[a-z]{1,3}", prop::collection::vec(any::<u8>(), 0..40), 0..3),
            kept in prop::collection::btree_set("[A-Z]{1,3}", 0..3),
        ) {
            let mut items = BTreeMap::new();
            items.extend(kept.into_iter().map(|key| (key, Entry::Keep)));
            items.extend(texts.into_iter().map(|(key, text)| (key, value(text))));
            items.extend(bytes.into_iter().map(|(key, bytes)| (key, value(bytes))));
            items.retain(|key, _| bulla::scope::is_item_key(key));
            let text = write("a comment\n\nof lines", &items);
            prop_assert_eq!(read(text.as_bytes()).expect("reads"), items);
        }

        #[test]
        fn nothing_typed_breaks_it(bytes: Vec<u8>, text in "[ -~\\n]{0,60}") {
            _ = read(&bytes);
            _ = read(text.as_bytes());
        }
    }
}
