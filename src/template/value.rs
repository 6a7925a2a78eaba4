//! What templates compute with: Go's values as far as templates can make them. Strings are bytes.

use std::collections::BTreeMap;
use std::rc::Rc;

use zeroize::{Zeroize as _, Zeroizing};

use super::semver::Version;
use super::{Fault, Limit};

/// A string: bytes that are shared and cleared with their last owner. It has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text(Rc<Zeroizing<Vec<u8>>>);

impl Text {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(Rc::new(Zeroizing::new(bytes)))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes().to_vec())
    }
}

impl std::borrow::Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

/// Of what type the elements of a list or a map are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Elem {
    /// `interface {}`.
    Any,
    /// `string`.
    Str,
    /// `int`, in lists only.
    Int,
    /// `[]interface {}`, in lists only.
    List,
}

impl Elem {
    const fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Str => "string",
            Self::Int => "int",
            Self::List => "[]interface {}",
        }
    }
}

/// Go's integer types that can come up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IntType {
    Int,
    Int64,
}

/// Go's unsigned types that can come up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UintType {
    Uint8,
    Uint64,
}

/// A value.
#[derive(Clone)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(IntType, i64),
    Uint(UintType, u64),
    Float(f64),
    Str(Text),
    List(ListId),
    Map(MapId),
    Version(Rc<Version>),
    /// An item that is not text: everything but carrying it about is an error.
    Binary,
}

impl Value {
    pub(super) const fn int(number: i64) -> Self {
        Self::Int(IntType::Int, number)
    }

    pub(super) const fn int64(number: i64) -> Self {
        Self::Int(IntType::Int64, number)
    }

    pub(super) const fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }
}

/// Where a list is in the [`Heap`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ListId(usize);
/// Where a map is in the [`Heap`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct MapId(usize);

/// A list.
#[derive(Clone)]
pub(super) struct List {
    pub(super) elem: Elem,
    /// Go's nil slice: it is `null` in JSON and differs from an empty one.
    pub(super) nil: bool,
    pub(super) values: Vec<Value>,
}

/// A map with text keys.
#[derive(Clone)]
pub(super) struct Map {
    pub(super) elem: Elem,
    pub(super) nil: bool,
    pub(super) entries: BTreeMap<Text, Value>,
}

/// All lists and maps of one rendering. They refer to each other by number, so that a map that contains itself is no
/// leak, and however deeply they nest, dropping them does not recurse.
#[derive(Default)]
pub(super) struct Heap {
    lists: Vec<Rc<List>>,
    maps: Vec<Map>,
}

impl Heap {
    pub(super) fn add_list(&mut self, elem: Elem, nil: bool, values: Vec<Value>) -> Value {
        self.lists.push(Rc::new(List { elem, nil, values }));
        Value::List(ListId(self.lists.len() - 1))
    }

    pub(super) fn add_map(&mut self, elem: Elem, nil: bool, entries: BTreeMap<Text, Value>) -> Value {
        self.maps.push(Map { elem, nil, entries });
        Value::Map(MapId(self.maps.len() - 1))
    }

    // Ids come from `add_…` of the same heap only.
    #[allow(clippy::indexing_slicing)]
    pub(super) fn list(&self, id: ListId) -> &Rc<List> {
        &self.lists[id.0]
    }

    #[allow(clippy::indexing_slicing)]
    pub(super) fn map(&self, id: MapId) -> &Map {
        &self.maps[id.0]
    }

    #[allow(clippy::indexing_slicing)]
    pub(super) fn map_mut(&mut self, id: MapId) -> &mut Map {
        &mut self.maps[id.0]
    }

    /// Sorts a list of strings where it stands.
    #[allow(clippy::indexing_slicing)]
    pub(super) fn sort(&mut self, id: ListId) {
        Rc::make_mut(&mut self.lists[id.0]).values.sort_by(|a, b| match (a, b) {
            (Value::Str(a), Value::Str(b)) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        });
    }

    /// Go's name of a value's type, as `%T` prints it.
    pub(super) fn type_name(&self, value: &Value) -> String {
        match value {
            Value::Nil => "<nil>".into(),
            Value::Bool(_) => "bool".into(),
            Value::Int(IntType::Int, _) => "int".into(),
            Value::Int(IntType::Int64, _) => "int64".into(),
            Value::Uint(UintType::Uint8, _) => "uint8".into(),
            Value::Uint(UintType::Uint64, _) => "uint64".into(),
            Value::Float(_) => "float64".into(),
            Value::Str(_) | Value::Binary => "string".into(),
            Value::List(id) => format!("[]{}", self.list(*id).elem.name()),
            Value::Map(id) => format!("map[string]{}", self.map(*id).elem.name()),
            Value::Version(_) => "*semver.Version".into(),
        }
    }

    /// Go's name of a value's kind.
    pub(super) const fn kind_name(value: &Value) -> &'static str {
        match value {
            Value::Nil => "invalid",
            Value::Bool(_) => "bool",
            Value::Int(IntType::Int, _) => "int",
            Value::Int(IntType::Int64, _) => "int64",
            Value::Uint(UintType::Uint8, _) => "uint8",
            Value::Uint(UintType::Uint64, _) => "uint64",
            Value::Float(_) => "float64",
            Value::Str(_) | Value::Binary => "string",
            Value::List(_) => "slice",
            Value::Map(_) => "map",
            Value::Version(_) => "ptr",
        }
    }

    /// Whether a value counts as true: not the zero of its type.
    pub(super) fn truth(&self, value: &Value) -> bool {
        match value {
            Value::Nil => false,
            Value::Bool(b) => *b,
            Value::Int(_, n) => *n != 0,
            Value::Uint(_, n) => *n != 0,
            Value::Float(f) => *f != 0.0,
            Value::Str(text) => !text.bytes().is_empty(),
            Value::List(id) => !self.list(*id).values.is_empty(),
            Value::Map(id) => !self.map(*id).entries.is_empty(),
            Value::Version(_) | Value::Binary => true,
        }
    }
}

/// Bytes that are being made: cleared when dropped and when they move, and never more than a limit.
pub(super) struct Buf {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
    what: Limit,
}

impl Buf {
    pub(super) fn new(limit: usize, what: Limit) -> Self {
        Self { bytes: Zeroizing::new(Vec::new()), limit, what }
    }

    pub(super) fn room(&mut self, more: usize) -> Result<(), Fault> {
        let needed = self.bytes.len().saturating_add(more);
        if needed > self.limit {
            return Err(Fault::limit(self.what));
        }
        if needed > self.bytes.capacity() {
            // Growing in place would leave a copy behind.
            let mut larger = Vec::with_capacity(needed.max(self.bytes.capacity() * 2).max(64));
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            *self.bytes = larger;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.room(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        self.push(&[byte])
    }

    pub(super) fn char(&mut self, c: char) -> Result<(), Fault> {
        self.push(c.encode_utf8(&mut [0; 4]).as_bytes())
    }

    pub(super) fn repeat(&mut self, bytes: &[u8], count: usize) -> Result<(), Fault> {
        self.room(bytes.len().saturating_mul(count))?;
        if bytes.is_empty() {
            return Ok(());
        }
        for _ in 0..count {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn take(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes)
    }
}

/// The characters of a string as Go's `range` gives them: a byte that is not UTF-8 is one U+FFFD. With each its length.
pub(super) fn runes(bytes: &[u8]) -> impl Iterator<Item = (char, usize)> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (c, len) = first_rune(rest)?;
        rest = rest.get(len..).unwrap_or_default();
        Some((c, len))
    })
}

/// The first character and its length, one U+FFFD for a byte that is not UTF-8.
pub(super) fn first_rune(bytes: &[u8]) -> Option<(char, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((char::from(first), 1));
    }
    let head = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default(),
    };
    Some(text.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, c.len_utf8())))
}
