//! JSON, as Go's encoding/json writes and reads it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Made, plain};
use crate::template::builtins::{printed, wrong};
use crate::template::exec::{Exec, used};
use crate::template::format;
use crate::template::value::{Buf, Elem, Text, Value, runes};
use crate::template::{Fault, FaultKind, Function, Param};

use Param::{Any, Str};

pub(super) static FUNCTIONS: &[Function] = &[
    plain("toJson", &[Any], |exec, args| lenient(exec, args, Style { html: true, pretty: false })),
    plain("mustToJson", &[Any], |exec, args| strict(exec, args, Style { html: true, pretty: false })),
    plain("toPrettyJson", &[Any], |exec, args| lenient(exec, args, Style { html: true, pretty: true })),
    plain("mustToPrettyJson", &[Any], |exec, args| strict(exec, args, Style { html: true, pretty: true })),
    plain("toRawJson", &[Any], |exec, args| strict(exec, args, Style { html: false, pretty: false })),
    plain("mustToRawJson", &[Any], |exec, args| strict(exec, args, Style { html: false, pretty: false })),
    plain("fromJson", &[Str], |exec, args| match parse(exec, args)? {
        Some((value, _)) => Ok(value),
        None => Ok(Value::Nil),
    }),
    plain("mustFromJson", &[Str], |exec, args| match parse(exec, args)? {
        Some((value, true)) => Ok(value),
        _ => Err(Fault::execution("this is no JSON")),
    }),
];

#[derive(Clone, Copy)]
struct Style {
    /// Whether `<`, `>` and `&` are escaped.
    html: bool,
    pretty: bool,
}

fn strict(exec: &mut Exec<'_>, args: &[Value], style: Style) -> Made {
    let value = args.first().ok_or_else(wrong)?;
    printed(exec, |exec, buf| write(exec, value, style, 0, buf))
}

/// What has no JSON becomes nothing.
fn lenient(exec: &mut Exec<'_>, args: &[Value], style: Style) -> Made {
    match strict(exec, args, style) {
        Err(Fault { kind: FaultKind::Execution(_), .. }) => exec.str(""),
        made => made,
    }
}

fn line(style: Style, depth: usize, buf: &mut Buf) -> Result<(), Fault> {
    if style.pretty {
        buf.byte(b'\n')?;
        buf.repeat(b"  ", depth)?;
    }
    Ok(())
}

fn write(exec: &mut Exec<'_>, value: &Value, style: Style, depth: usize, buf: &mut Buf) -> Result<(), Fault> {
    used(value)?;
    exec.step(1)?;
    match value {
        Value::Nil | Value::Binary => buf.push(b"null"),
        Value::Bool(bool) => buf.push(if *bool { b"true" } else { b"false" }),
        Value::Int(_, n) => buf.push(n.to_string().as_bytes()),
        Value::Uint(_, n) => buf.push(n.to_string().as_bytes()),
        Value::Float(float) if !float.is_finite() => Err(Fault::execution("JSON has no such number")),
        Value::Float(float) => buf.push(format::json_float(*float).as_bytes()),
        Value::Str(text) => write_text(text.bytes(), style, buf),
        Value::Version(version) => write_text(version.to_string().as_bytes(), style, buf),
        Value::List(id) => {
            let list = Rc::clone(exec.heap.list(*id));
            if list.nil {
                return buf.push(b"null");
            }
            exec.enter()?;
            buf.byte(b'[')?;
            for (index, value) in list.values.iter().enumerate() {
                if index > 0 {
                    buf.byte(b',')?;
                }
                line(style, depth + 1, buf)?;
                write(exec, value, style, depth + 1, buf)?;
            }
            if !list.values.is_empty() {
                line(style, depth, buf)?;
            }
            exec.leave();
            buf.byte(b']')
        }
        Value::Map(id) => {
            exec.room(exec.heap.map(*id).entries.len())?;
            let map = exec.heap.map(*id).clone();
            if map.nil {
                return buf.push(b"null");
            }
            exec.enter()?;
            buf.byte(b'{')?;
            for (index, (key, value)) in map.entries.iter().enumerate() {
                if index > 0 {
                    buf.byte(b',')?;
                }
                line(style, depth + 1, buf)?;
                write_text(key.bytes(), style, buf)?;
                buf.push(if style.pretty { b": " } else { b":" })?;
                write(exec, value, style, depth + 1, buf)?;
            }
            if !map.entries.is_empty() {
                line(style, depth, buf)?;
            }
            exec.leave();
            buf.byte(b'}')
        }
    }
}

fn write_text(text: &[u8], style: Style, buf: &mut Buf) -> Result<(), Fault> {
    buf.byte(b'"')?;
    for (c, len) in runes(text) {
        match c {
            '"' => buf.push(b"\\\"")?,
            '\\' => buf.push(b"\\\\")?,
            '\u{8}' => buf.push(b"\\b")?,
            '\u{c}' => buf.push(b"\\f")?,
            '\n' => buf.push(b"\\n")?,
            '\r' => buf.push(b"\\r")?,
            '\t' => buf.push(b"\\t")?,
            '<' | '>' | '&' if style.html => buf.push(format!("\\u{:04x}", u32::from(c)).as_bytes())?,
            '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                buf.push(format!("\\u{:04x}", u32::from(c)).as_bytes())?;
            }
            char::REPLACEMENT_CHARACTER if len == 1 => buf.push(b"\\ufffd")?,
            c => buf.char(c)?,
        }
    }
    buf.byte(b'"')
}

/// The value, and whether all of it has one; `None` for what is no JSON.
fn parse(exec: &mut Exec<'_>, args: &[Value]) -> Result<Option<(Value, bool)>, Fault> {
    let Some(Value::Str(text)) = args.first() else { return Err(wrong()) };
    exec.scan(text.bytes().len() * 4)?;
    let mut reader = Reader { text: text.bytes(), at: 0, whole: true };
    let value = reader.value(exec)?;
    reader.space();
    Ok(value.filter(|_| reader.at == reader.text.len()).map(|value| (value, reader.whole)))
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    whole: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, exec: &mut Exec<'_>) -> Result<Option<Value>, Fault> {
        exec.step(1)?;
        self.space();
        let word = |reader: &mut Self, word: &[u8], value: Value| {
            let found = reader.text.get(reader.at..).unwrap_or_default().starts_with(word);
            reader.at += word.len();
            Ok(found.then_some(value))
        };
        match self.peek() {
            Some(b'n') => word(self, b"null", Value::Nil),
            Some(b't') => word(self, b"true", Value::Bool(true)),
            Some(b'f') => word(self, b"false", Value::Bool(false)),
            Some(b'"') => match self.string() {
                Some(text) => exec.text(text).map(Some),
                None => Ok(None),
            },
            Some(b'[') => {
                self.at += 1;
                exec.enter()?;
                let mut values = Vec::new();
                self.space();
                if !self.take(b']') {
                    loop {
                        let Some(value) = self.value(exec)? else { return Ok(None) };
                        exec.room(1)?;
                        values.push(value);
                        self.space();
                        if self.take(b']') {
                            break;
                        }
                        if !self.take(b',') {
                            return Ok(None);
                        }
                    }
                }
                exec.leave();
                exec.list(Elem::Any, values).map(Some)
            }
            Some(b'{') => {
                self.at += 1;
                exec.enter()?;
                let mut entries = BTreeMap::new();
                self.space();
                if !self.take(b'}') {
                    loop {
                        self.space();
                        let Some(key) = self.string() else { return Ok(None) };
                        self.space();
                        if !self.take(b':') {
                            return Ok(None);
                        }
                        let Some(value) = self.value(exec)? else { return Ok(None) };
                        exec.room(2)?;
                        entries.insert(Text::new(key), value);
                        self.space();
                        if self.take(b'}') {
                            break;
                        }
                        if !self.take(b',') {
                            return Ok(None);
                        }
                    }
                }
                exec.leave();
                exec.map(Elem::Any, entries).map(Some)
            }
            Some(b'-' | b'0'..=b'9') => Ok(self.number()),
            _ => Ok(None),
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return None;
        }
        if self.take(b'.') && self.digits() == 0 {
            return None;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return None;
            }
        }
        let text = std::str::from_utf8(self.text.get(start..self.at)?).ok()?;
        let float: f64 = text.parse().ok()?;
        if float.is_infinite() {
            self.whole = false;
            return Some(Value::Nil);
        }
        Some(Value::Float(float))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = std::str::from_utf8(self.text.get(self.at..self.at + 4)?).ok()?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        if !self.take(b'"') {
            return None;
        }
        let mut out = Vec::new();
        loop {
            let rest = self.text.get(self.at..)?;
            let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f))?;
            out.extend_from_slice(String::from_utf8_lossy_bytes(rest.get(..plain)?).as_slice());
            self.at += plain + 1;
            match rest.get(plain)? {
                b'"' => return Some(out),
                b'\\' => {}
                _ => return None,
            }
            let escape = self.peek()?;
            self.at += 1;
            let c = match escape {
                b'"' | b'\\' | b'/' => char::from(escape),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unit()?,
                _ => return None,
            };
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// One `\u` escape, or two that are one character; half of one is U+FFFD.
    fn unit(&mut self) -> Option<char> {
        let high = self.hex()?;
        if (0xd800..0xdc00).contains(&high) && self.text.get(self.at..self.at + 2) == Some(b"\\u") {
            let back = self.at;
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            }
            self.at = back;
        }
        Some(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

/// What is not UTF-8 becomes U+FFFD, byte by byte as in Go.
trait Lossy {
    fn from_utf8_lossy_bytes(bytes: &[u8]) -> Vec<u8>;
}

impl Lossy for String {
    fn from_utf8_lossy_bytes(bytes: &[u8]) -> Vec<u8> {
        if std::str::from_utf8(bytes).is_ok() {
            return bytes.to_vec();
        }
        runes(bytes).map(|(c, _)| c).collect::<Self>().into_bytes()
    }
}
