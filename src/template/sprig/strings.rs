//! Strings, encodings, hashes.

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};

use super::data::{strings_of, strval};
use super::{Made, many, plain};
use crate::template::builtins::{printed, wrong};
use crate::template::exec::Exec;
use crate::template::format;
use crate::template::value::{Buf, Elem, Text, Value, first_rune, runes};
use crate::template::{Fault, Function, Param};

use Param::{Any, Int, Str};

type Done = Result<(), Fault>;

pub(super) static FUNCTIONS: &[Function] = &[
    plain("hello", &[], |exec, _| exec.str("Hello!")),
    plain("trim", &[Str], |exec, args| made(exec, trim(one(args)?, char::is_whitespace, true, true))),
    plain("trimAll", &[Str, Str], |exec, args| {
        let (cut, text) = pair(args)?;
        exec.step(1 + (cut.len() as u64 * text.len() as u64) / 64)?;
        made(exec, trim_set(text, cut))
    }),
    plain("trimall", &[Str, Str], |exec, args| {
        let (cut, text) = pair(args)?;
        exec.step(1 + (cut.len() as u64 * text.len() as u64) / 64)?;
        made(exec, trim_set(text, cut))
    }),
    plain("trimSuffix", &[Str, Str], |exec, args| {
        let (end, text) = pair(args)?;
        made(exec, text.strip_suffix(end).unwrap_or(text))
    }),
    plain("trimPrefix", &[Str, Str], |exec, args| {
        let (start, text) = pair(args)?;
        made(exec, text.strip_prefix(start).unwrap_or(text))
    }),
    plain("upper", &[Str], |exec, args| mapped(exec, one(args)?, upper)),
    plain("lower", &[Str], |exec, args| mapped(exec, one(args)?, lower)),
    plain("title", &[Str], |exec, args| {
        let mut start = true;
        mapped(exec, one(args)?, |c| {
            let c2 = if start { title(c) } else { c };
            start = if c.is_ascii() {
                !(c.is_ascii_alphanumeric() || c == '_')
            } else {
                !c.is_alphanumeric() && c.is_whitespace()
            };
            c2
        })
    }),
    plain("untitle", &[Str], |exec, args| {
        let mut start = true;
        mapped(exec, one(args)?, |c| {
            if c.is_whitespace() {
                start = true;
                c
            } else if std::mem::take(&mut start) {
                lower(c)
            } else {
                c
            }
        })
    }),
    plain("swapcase", &[Str], |exec, args| {
        let mut space = true;
        mapped(exec, one(args)?, |c| {
            if c.is_uppercase() || matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}') {
                space = false;
                lower(c)
            } else if c.is_lowercase() {
                if std::mem::take(&mut space) { title(c) } else { upper(c) }
            } else {
                space = c.is_whitespace();
                c
            }
        })
    }),
    plain("nospace", &[Str], nospace),
    plain("initials", &[Str], |exec, args| {
        let text = one(args)?;
        printed(exec, |_, buf| {
            let mut gap = true;
            for byte in text {
                let c = char::from(*byte);
                if c.is_whitespace() {
                    gap = true;
                } else if std::mem::take(&mut gap) {
                    buf.char(c)?;
                }
            }
            Ok(())
        })
    }),
    plain("snakecase", &[Str], |exec, args| {
        let text = one(args)?;
        exec.scan(text.len())?;
        printed(exec, |_, buf| split_words(text, '_', buf))
    }),
    plain("kebabcase", &[Str], |exec, args| {
        let text = one(args)?;
        exec.scan(text.len())?;
        printed(exec, |_, buf| split_words(text, '-', buf))
    }),
    plain("camelcase", &[Str], |exec, args| {
        let text = one(args)?;
        exec.scan(text.len())?;
        printed(exec, |_, buf| camelcase(text, buf))
    }),
    plain("repeat", &[Int, Str], |exec, args| {
        let (count, text) = counted(args)?;
        let count = usize::try_from(count).map_err(|_| Fault::execution("a negative count"))?;
        printed(exec, |_, buf| buf.repeat(text, count))
    }),
    plain("substr", &[Int, Int, Str], substr),
    plain("trunc", &[Int, Str], |exec, args| {
        let (count, text) = counted(args)?;
        let len = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let cut = if count < 0 {
            text.get(text.len().saturating_sub(len)..).unwrap_or(text)
        } else {
            text.get(..len).unwrap_or(text)
        };
        made(exec, cut)
    }),
    plain("abbrev", &[Int, Str], |exec, args| {
        let (width, text) = counted(args)?;
        if width < 4 {
            return made(exec, text);
        }
        printed(exec, |_, buf| abbreviate(text, 0, width, buf))
    }),
    plain("abbrevboth", &[Int, Int, Str], |exec, args| match args {
        [Value::Int(_, left), Value::Int(_, right), Value::Str(text)] => {
            if *right < 4 || (*left > 0 && *right < 7) {
                return made(exec, text.bytes());
            }
            printed(exec, |_, buf| abbreviate(text.bytes(), *left, *right, buf))
        }
        _ => Err(wrong()),
    }),
    plain("wrap", &[Int, Str], |exec, args| {
        let (width, text) = counted(args)?;
        exec.scan(text.len())?;
        printed(exec, |_, buf| wrap(text, width, b"\n", false, buf))
    }),
    plain("wrapWith", &[Int, Str, Str], |exec, args| match args {
        [Value::Int(_, width), Value::Str(line), Value::Str(text)] => {
            exec.scan(text.bytes().len())?;
            let line = if line.bytes().is_empty() { b"\n" } else { line.bytes() };
            printed(exec, |_, buf| wrap(text.bytes(), *width, line, true, buf))
        }
        _ => Err(wrong()),
    }),
    plain("contains", &[Str, Str], |exec, args| {
        let (part, text) = pair(args)?;
        exec.scan(part.len() + text.len())?;
        Ok(Value::Bool(find(text, part).is_some()))
    }),
    plain("hasPrefix", &[Str, Str], |_, args| pair(args).map(|(part, text)| Value::Bool(text.starts_with(part)))),
    plain("hasSuffix", &[Str, Str], |_, args| pair(args).map(|(part, text)| Value::Bool(text.ends_with(part)))),
    plain("replace", &[Str, Str, Str], |exec, args| match args {
        [Value::Str(old), Value::Str(new), Value::Str(text)] => {
            exec.scan(text.bytes().len())?;
            printed(exec, |_, buf| replace(text.bytes(), old.bytes(), new.bytes(), buf))
        }
        _ => Err(wrong()),
    }),
    many("quote", &[], Any, |exec, args| {
        joined(exec, args, |exec, value, buf| {
            let text = strval(exec, value)?;
            let quoted = format::quote(&text, false)?;
            buf.push(quoted.bytes())
        })
    }),
    many("squote", &[], Any, |exec, args| {
        joined(exec, args, |exec, value, buf| {
            buf.byte(b'\'')?;
            format::print_value(exec, value, buf)?;
            buf.byte(b'\'')
        })
    }),
    many("cat", &[], Any, |exec, args| joined(exec, args, format::print_value)),
    plain("indent", &[Int, Str], |exec, args| {
        let (spaces, text) = counted(args)?;
        exec.scan(text.len())?;
        printed(exec, |_, buf| indent(spaces, text, buf))
    }),
    plain("nindent", &[Int, Str], |exec, args| {
        let (spaces, text) = counted(args)?;
        exec.scan(text.len())?;
        printed(exec, |_, buf| {
            buf.byte(b'\n')?;
            indent(spaces, text, buf)
        })
    }),
    plain("plural", &[Str, Str, Int], |_, args| match args {
        [one, many, Value::Int(_, count)] => Ok(if *count == 1 { one.clone() } else { many.clone() }),
        _ => Err(wrong()),
    }),
    plain("toString", &[Any], |exec, args| {
        let text = strval(exec, args.first().ok_or_else(wrong)?)?;
        exec.text(text)
    }),
    plain("join", &[Str, Any], |exec, args| {
        let [Value::Str(between), list] = args else { return Err(wrong()) };
        let texts = strings_of(exec, list)?;
        printed(exec, |_, buf| {
            for (index, text) in texts.iter().enumerate() {
                if index > 0 {
                    buf.push(between.bytes())?;
                }
                buf.push(text)?;
            }
            Ok(())
        })
    }),
    plain("splitList", &[Str, Str], |exec, args| {
        let (between, text) = pair(args)?;
        exec.room(text.len() / between.len().max(1))?;
        let parts = split(text, between, -1);
        exec.strings(parts)
    }),
    plain("split", &[Str, Str], |exec, args| {
        let (between, text) = pair(args)?;
        split_map(exec, text, between, -1)
    }),
    plain("splitn", &[Str, Int, Str], |exec, args| match args {
        [Value::Str(between), Value::Int(_, most), Value::Str(text)] => {
            split_map(exec, text.bytes(), between.bytes(), *most)
        }
        _ => Err(wrong()),
    }),
    plain("b64enc", &[Str], |exec, args| {
        use base64::Engine as _;
        let text = one(args)?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        exec.text(encoded.into_bytes())
    }),
    plain("b64dec", &[Str], |exec, args| {
        let decoded = decode64(one(args)?);
        decoded_or(exec, decoded, "base64")
    }),
    plain("b32enc", &[Str], |exec, args| {
        let text = one(args)?;
        exec.scan(text.len())?;
        printed(exec, |_, buf| encode32(text, buf))
    }),
    plain("b32dec", &[Str], |exec, args| {
        let decoded = decode32(one(args)?);
        decoded_or(exec, decoded, "base32")
    }),
    plain("sha1sum", &[Str], |exec, args| hash(exec, args, &SHA1_FOR_LEGACY_USE_ONLY)),
    plain("sha256sum", &[Str], |exec, args| hash(exec, args, &SHA256)),
    plain("sha512sum", &[Str], |exec, args| hash(exec, args, &SHA512)),
    plain("adler32sum", &[Str], |exec, args| {
        let text = one(args)?;
        exec.scan(text.len())?;
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in text {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        exec.str(&(b << 16 | a).to_string())
    }),
];

fn one(args: &[Value]) -> Result<&[u8], Fault> {
    if let Some(Value::Str(text)) = args.first() { Ok(text.bytes()) } else { Err(wrong()) }
}

fn pair(args: &[Value]) -> Result<(&[u8], &[u8]), Fault> {
    if let [Value::Str(a), Value::Str(b)] = args { Ok((a.bytes(), b.bytes())) } else { Err(wrong()) }
}

fn counted(args: &[Value]) -> Result<(i64, &[u8]), Fault> {
    if let [Value::Int(_, n), Value::Str(text)] = args { Ok((*n, text.bytes())) } else { Err(wrong()) }
}

fn made(exec: &mut Exec<'_>, bytes: &[u8]) -> Made {
    exec.text(bytes.to_vec())
}

/// Every character through `map`; what is not UTF-8 becomes U+FFFD.
fn mapped(exec: &mut Exec<'_>, text: &[u8], mut map: impl FnMut(char) -> char) -> Made {
    exec.scan(text.len() * 8)?;
    printed(exec, |_, buf| {
        for (c, _) in runes(text) {
            buf.char(map(c))?;
        }
        Ok(())
    })
}

/// The one character that is `c` in upper case, or `c`: Go maps characters to characters.
pub(super) fn upper(c: char) -> char {
    match c {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => {
            char::from_u32(u32::from(c) + 8).unwrap_or(c)
        }
        '\u{1fb3}' => '\u{1fbc}',
        '\u{1fc3}' => '\u{1fcc}',
        '\u{1ff3}' => '\u{1ffc}',
        _ => {
            let mut all = c.to_uppercase();
            match (all.next(), all.next()) {
                (Some(upper), None) => upper,
                _ => c,
            }
        }
    }
}

/// As [`upper`], in lower case.
pub(super) fn lower(c: char) -> char {
    if c == '\u{130}' {
        return 'i';
    }
    let mut all = c.to_lowercase();
    match (all.next(), all.next()) {
        (Some(lower), None) => lower,
        _ => c,
    }
}

/// As [`upper`], in title case.
fn title(c: char) -> char {
    match c {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => c,
        _ => upper(c),
    }
}

fn trim(text: &[u8], cut: impl Fn(char) -> bool, start: bool, end: bool) -> &[u8] {
    let mut text = text;
    while start && let Some((c, len)) = first_rune(text) {
        if (c == char::REPLACEMENT_CHARACTER && len == 1) || !cut(c) {
            break;
        }
        text = text.get(len..).unwrap_or_default();
    }
    while end && !text.is_empty() {
        let Some((c, len)) = last_rune(text).filter(|(c, _)| cut(*c)) else { break };
        let _ = c;
        text = text.get(..text.len() - len).unwrap_or_default();
    }
    text
}

/// The last character, when the text ends in one.
fn last_rune(text: &[u8]) -> Option<(char, usize)> {
    (1..=text.len().min(4)).find_map(|len| {
        let tail = std::str::from_utf8(text.get(text.len() - len..)?).ok()?;
        tail.chars().next().map(|c| (c, len))
    })
}

fn trim_set<'t>(text: &'t [u8], cut: &[u8]) -> &'t [u8] {
    let cut = String::from_utf8_lossy(cut);
    trim(text, |c| cut.contains(c), true, true)
}

fn nospace(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let text = one(args)?;
    exec.scan(text.len())?;
    // Byte by byte, as goutils does it: also what is no space changes then, unless there is no space at all.
    if !text.iter().any(|byte| char::from(*byte).is_whitespace()) {
        return made(exec, text);
    }
    printed(exec, |_, buf| {
        for byte in text {
            let c = char::from(*byte);
            if !c.is_whitespace() {
                buf.char(c)?;
            }
        }
        Ok(())
    })
}

fn substr(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let [Value::Int(_, start), Value::Int(_, end), Value::Str(text)] = args else { return Err(wrong()) };
    let text = text.bytes();
    let (from, to) = (usize::try_from(*start).ok(), usize::try_from(*end).ok());
    let part = match (from, to) {
        (None, to) => to.and_then(|to| text.get(..to)),
        (Some(from), Some(to)) if to <= text.len() => text.get(from..to),
        (Some(from), _) => text.get(from..),
    };
    made(exec, part.ok_or_else(|| Fault::execution("a position out of range"))?)
}

fn abbreviate(text: &[u8], offset: i64, width: i64, buf: &mut Buf) -> Done {
    let len = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let part = |from: i64, to: i64| {
        let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
        text.get(range).unwrap_or_default()
    };
    if text.is_empty() || width < 4 || len <= width {
        return if width < 4 { Ok(()) } else { buf.push(text) };
    }
    let mut offset = offset.min(len);
    if len - offset < width - 3 {
        offset = len - (width - 3);
    }
    if offset <= 4 {
        buf.push(part(0, width - 3))?;
        return buf.push(b"...");
    }
    if width < 7 {
        return Ok(());
    }
    buf.push(b"...")?;
    if offset + width - 3 < len {
        abbreviate(part(offset, len), 0, width - 3, buf)
    } else {
        buf.push(part(len - (width - 3), len))
    }
}

fn wrap(text: &[u8], width: i64, line: &[u8], long: bool, buf: &mut Buf) -> Done {
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let mut rest = text;
    let skip = |rest: &mut &[u8], len: usize| *rest = rest.get(len..).unwrap_or_default();
    while rest.len() > width {
        if rest.first() == Some(&b' ') {
            skip(&mut rest, 1);
            continue;
        }
        let head = rest.get(..=width).unwrap_or(rest);
        if let Some(space) = head.iter().rposition(|b| *b == b' ') {
            buf.push(rest.get(..space).unwrap_or_default())?;
            buf.push(line)?;
            skip(&mut rest, space + 1);
        } else if long {
            buf.push(rest.get(..width).unwrap_or_default())?;
            buf.push(line)?;
            skip(&mut rest, width);
        } else if let Some(space) = rest.iter().skip(width).position(|b| *b == b' ') {
            buf.push(rest.get(..width + space).unwrap_or_default())?;
            buf.push(line)?;
            skip(&mut rest, width + space + 1);
        } else {
            break;
        }
    }
    buf.push(rest)
}

pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

fn replace(text: &[u8], old: &[u8], new: &[u8], buf: &mut Buf) -> Done {
    let mut rest = text;
    if old.is_empty() {
        while let Some((_, len)) = first_rune(rest) {
            buf.push(new)?;
            buf.push(rest.get(..len).unwrap_or_default())?;
            rest = rest.get(len..).unwrap_or_default();
        }
        return buf.push(new);
    }
    while let Some(at) = find(rest, old) {
        buf.push(rest.get(..at).unwrap_or_default())?;
        buf.push(new)?;
        rest = rest.get(at + old.len()..).unwrap_or_default();
    }
    buf.push(rest)
}

/// All but nil, with a space between.
fn joined(exec: &mut Exec<'_>, args: &[Value], show: fn(&mut Exec<'_>, &Value, &mut Buf) -> Done) -> Made {
    printed(exec, |exec, buf| {
        for (index, value) in args.iter().filter(|value| !value.is_nil()).enumerate() {
            if index > 0 {
                buf.byte(b' ')?;
            }
            show(exec, value, buf)?;
        }
        Ok(())
    })
}

fn indent(spaces: i64, text: &[u8], buf: &mut Buf) -> Done {
    let spaces = usize::try_from(spaces).map_err(|_| Fault::execution("a negative count"))?;
    buf.repeat(b" ", spaces)?;
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        if index > 0 {
            buf.byte(b'\n')?;
            buf.repeat(b" ", spaces)?;
        }
        buf.push(line)?;
    }
    Ok(())
}

/// Go's `strings.SplitN`.
fn split(text: &[u8], between: &[u8], most: i64) -> Vec<Vec<u8>> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut rest = text;
    if most == 0 {
        return parts;
    }
    if between.is_empty() {
        while let Some((_, len)) = first_rune(rest) {
            let len = if parts.len() + 1 == most { rest.len() } else { len };
            let (part, after) = rest.split_at(len);
            parts.push(part.to_vec());
            rest = after;
        }
        return parts;
    }
    while parts.len() + 1 < most
        && let Some(at) = find(rest, between)
    {
        parts.push(rest.get(..at).unwrap_or_default().to_vec());
        rest = rest.get(at + between.len()..).unwrap_or_default();
    }
    parts.push(rest.to_vec());
    parts
}

fn split_map(exec: &mut Exec<'_>, text: &[u8], between: &[u8], most: i64) -> Made {
    exec.room(text.len() / between.len().max(1))?;
    let mut entries = std::collections::BTreeMap::new();
    for (index, part) in split(text, between, most).into_iter().enumerate() {
        entries.insert(Text::new(format!("_{index}").into_bytes()), exec.text(part)?);
    }
    exec.map(Elem::Str, entries)
}

fn hash(exec: &mut Exec<'_>, args: &[Value], algorithm: &'static Algorithm) -> Made {
    let text = one(args)?;
    exec.scan(text.len() * 4)?;
    let hex: String = digest(algorithm, text).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    exec.str(&hex)
}

/// What was decoded, or what Go says about the place where it can't be: the place alone.
fn decoded_or(exec: &mut Exec<'_>, decoded: Result<Vec<u8>, usize>, what: &str) -> Made {
    match decoded {
        Ok(bytes) => exec.text(bytes),
        Err(at) => exec.str(&format!("illegal {what} data at input byte {at}")),
    }
}

/// Standard base64 as Go decodes it: line ends are skipped, leftover bits ignored.
fn decode64(text: &[u8]) -> Result<Vec<u8>, usize> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut at = 0;
    let (mut bits, mut count) = (0_u32, 0_usize);
    while let Some(byte) = text.get(at).copied() {
        at += 1;
        if let Some(six) = value(byte) {
            bits = bits << 6 | u32::from(six);
            count += 1;
            if count == 4 {
                out.extend_from_slice(bits.to_be_bytes().get(1..).unwrap_or_default());
                (bits, count) = (0, 0);
            }
            continue;
        }
        if matches!(byte, b'\r' | b'\n') {
            continue;
        }
        if byte != b'=' || count < 2 {
            return Err(at - 1);
        }
        let line_end = |at: usize| matches!(text.get(at), Some(b'\r' | b'\n'));
        if count == 2 {
            while line_end(at) {
                at += 1;
            }
            match text.get(at) {
                None => return Err(text.len()),
                Some(b'=') => at += 1,
                Some(_) => return Err(at - 1),
            }
        }
        while line_end(at) {
            at += 1;
        }
        if at < text.len() {
            return Err(at);
        }
        let full = (bits << (6 * (4 - count))).to_be_bytes();
        out.extend_from_slice(full.get(1..count).unwrap_or_default());
        return Ok(out);
    }
    if count == 0 { Ok(out) } else { Err(at - count) }
}

fn encode32(text: &[u8], buf: &mut Buf) -> Done {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    for chunk in text.chunks(5) {
        let mut bits = 0_u64;
        for index in 0..5 {
            bits = bits << 8 | u64::from(chunk.get(index).copied().unwrap_or_default());
        }
        let digits = (chunk.len() * 8).div_ceil(5);
        for index in 0..8 {
            let five = usize::try_from(bits >> (35 - 5 * index) & 31).unwrap_or_default();
            let digit = ALPHABET.get(five).copied().filter(|_| index < digits);
            buf.byte(digit.unwrap_or(b'='))?;
        }
    }
    Ok(())
}

/// Standard base32 as Go decodes it.
fn decode32(text: &[u8]) -> Result<Vec<u8>, usize> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'2'..=b'7' => Some(byte - b'2' + 26),
        _ => None,
    };
    let text: Vec<u8> = text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let len = text.len();
    let mut out = Vec::with_capacity(len / 8 * 5);
    let mut at = 0;
    while at < len {
        let (mut bits, mut count) = (0_u64, 0_usize);
        let mut ended = false;
        while count < 8 {
            let Some(byte) = text.get(at).copied() else { return Err(len - count) };
            at += 1;
            let left = len - at;
            if byte == b'=' && count >= 2 && left < 8 {
                if left + count < 7 {
                    return Err(len);
                }
                for k in 0..7 - count {
                    if left > k && text.get(at + k) != Some(&b'=') {
                        return Err(at + k - 1);
                    }
                }
                if matches!(count, 1 | 3 | 6) {
                    return Err(at - 1);
                }
                ended = true;
                break;
            }
            let five = value(byte).ok_or(at - 1)?;
            bits = bits << 5 | u64::from(five);
            count += 1;
        }
        let full = (bits << (5 * (8 - count))).to_be_bytes();
        out.extend_from_slice(full.get(3..3 + count * 5 / 8).unwrap_or_default());
        if ended {
            break;
        }
    }
    Ok(out)
}

fn is_connector(c: char) -> bool {
    c == '-' || c == '_' || c.is_whitespace()
}

fn camelcase(text: &[u8], buf: &mut Buf) -> Done {
    let mut chars = runes(text).map(|(c, _)| c);
    let mut first = None;
    for c in chars.by_ref() {
        if !is_connector(c) {
            first = Some(c);
            break;
        }
        buf.char(c)?;
    }
    let rest: Vec<char> = chars.collect();
    let Some(first) = first else {
        // xstrings writes the last connector once more.
        return last_rune(text).map_or(Ok(()), |(c, _)| buf.char(c));
    };
    let mut run_of_upper = first.is_uppercase();
    let mut current = upper(first);
    for c in rest {
        let before = std::mem::replace(&mut current, c);
        if is_connector(c) && is_connector(before) {
            buf.char(before)?;
        } else if is_connector(before) {
            run_of_upper = c.is_uppercase();
            current = upper(c);
        } else {
            if run_of_upper {
                if c.is_uppercase() {
                    current = lower(c);
                } else {
                    run_of_upper = false;
                }
            }
            buf.char(before)?;
        }
    }
    buf.char(current)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    None,
    Number,
    Upper,
    Letters,
    Connector,
    Punctuation,
    Other,
}

/// Go's category P in ASCII and the usual ranges beyond.
fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation() && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~');
    }
    matches!(c, '\u{a1}' | '\u{a7}' | '\u{ab}' | '\u{b6}' | '\u{b7}' | '\u{bb}' | '\u{bf}'
        | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{2043}' | '\u{2045}'..='\u{2051}' | '\u{2053}'..='\u{205e}'
        | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}')
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic()
}

/// The next word in the sense of xstrings, and what is left.
fn next_word(chars: &[char]) -> (Word, &[char], &[char]) {
    let Some(first) = chars.first().copied() else { return (Word::None, chars, chars) };
    let run = |test: &dyn Fn(char) -> bool| {
        let rest = chars.get(1..).unwrap_or_default();
        1 + rest.iter().take_while(|c| test(**c)).count()
    };
    let (kind, len) = if is_connector(first) {
        (Word::Connector, run(&is_connector))
    } else if is_punctuation(first) {
        (Word::Punctuation, run(&is_punctuation))
    } else if first.is_uppercase() {
        let second = chars.get(1).copied();
        let len = if second.is_some_and(char::is_uppercase) {
            let len = run(&char::is_uppercase);
            // The last capital begins the next word, as in HTTPStatus.
            if chars.get(len).is_some_and(|c| is_letter(*c)) { len - 1 } else { len }
        } else if second.is_some_and(is_letter) {
            run(&|c| is_letter(c) && !c.is_uppercase())
        } else {
            1
        };
        (Word::Upper, len)
    } else if is_letter(first) {
        (Word::Letters, run(&|c| is_letter(c) && !c.is_uppercase()))
    } else if first.is_numeric() {
        (Word::Number, run(&char::is_numeric))
    } else {
        (Word::Other, run(&|c| !(is_connector(c) || is_letter(c) || c.is_numeric() || is_punctuation(c))))
    };
    let (word, rest) = chars.split_at(len.min(chars.len()));
    (kind, word, rest)
}

fn put_word(buf: &mut Buf, kind: Word, word: &[char], connector: char) -> Done {
    for c in word {
        let c = match kind {
            Word::Upper | Word::Connector if is_connector(*c) => connector,
            Word::Upper | Word::Connector => lower(*c),
            _ => *c,
        };
        buf.char(c)?;
    }
    Ok(())
}

/// Words in lower case with a connector between, as xstrings divides them.
fn split_words(text: &[u8], connector: char, buf: &mut Buf) -> Done {
    use Word::{Connector, Letters, None, Number, Punctuation};
    let chars: Vec<char> = runes(text).map(|(c, _)| c).collect();
    let (mut kind, mut word, mut rest) = next_word(&chars);
    while !rest.is_empty() {
        if kind != Connector {
            put_word(buf, kind, word, connector)?;
        }
        let (before, last) = (kind, word);
        (kind, word, rest) = next_word(rest);
        match before {
            Number => {
                while matches!(kind, Letters | Number) {
                    put_word(buf, kind, word, connector)?;
                    (kind, word, rest) = next_word(rest);
                }
                if !matches!(kind, None | Punctuation | Connector) {
                    buf.char(connector)?;
                }
            }
            Connector => put_word(buf, before, last, connector)?,
            Punctuation => {}
            _ if kind != Number => {
                if !matches!(kind, Connector | Punctuation) {
                    buf.char(connector)?;
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word, rest) = next_word(rest);
                if kind == Letters {
                    buf.char(connector)?;
                    put_word(buf, Number, number, connector)?;
                    while matches!(kind, Letters | Number) {
                        put_word(buf, kind, word, connector)?;
                        (kind, word, rest) = next_word(rest);
                    }
                    if !matches!(kind, None | Connector | Punctuation) {
                        buf.char(connector)?;
                    }
                } else {
                    put_word(buf, Number, number, connector)?;
                    if !matches!(kind, Connector | Punctuation) {
                        buf.char(connector)?;
                    }
                }
            }
        }
    }
    put_word(buf, kind, word, connector)
}
