//! Go's fmt and strconv, as far as values of templates need them.

use std::rc::Rc;

use super::Fault;
use super::exec::{Exec, used};
use super::value::{Buf, Elem, Heap, UintType, Value, first_rune, runes};

type Done = Result<(), Fault>;

/// Flags, width and precision of a verb.
#[derive(Clone, Copy, Default)]
struct Spec {
    width: Option<usize>,
    precision: Option<usize>,
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v` and `%#v`.
    plus_v: bool,
    sharp_v: bool,
}

/// A value as `print` and `%v` show it.
pub(super) fn print_value(exec: &mut Exec<'_>, value: &Value, buf: &mut Buf) -> Done {
    verb(exec, buf, &mut Spec::default(), 'v', value, 0)
}

/// `fmt.Sprint`: a space between two values neither of which is a string.
pub(super) fn sprint(exec: &mut Exec<'_>, values: &[Value], buf: &mut Buf) -> Done {
    let mut before = true;
    for (index, value) in values.iter().enumerate() {
        let string = matches!(value, Value::Str(_));
        if index > 0 && !before && !string {
            buf.byte(b' ')?;
        }
        print_value(exec, value, buf)?;
        before = string;
    }
    Ok(())
}

/// `fmt.Sprintln`.
pub(super) fn sprintln(exec: &mut Exec<'_>, values: &[Value], buf: &mut Buf) -> Done {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            buf.byte(b' ')?;
        }
        print_value(exec, value, buf)?;
    }
    buf.byte(b'\n')
}

/// A decimal number of at most a million, and what follows it.
fn decimal(format: &[u8], mut at: usize) -> (Option<usize>, usize) {
    let start = at;
    let mut number = 0_usize;
    while let Some(digit) = format.get(at).filter(|b| b.is_ascii_digit()) {
        if number > 1_000_000 {
            return (None, format.len());
        }
        number = number * 10 + usize::from(digit - b'0');
        at += 1;
    }
    ((at > start).then_some(number), at)
}

/// Arguments of `printf`, and which is next.
struct Args<'v> {
    values: &'v [Value],
    next: usize,
    reordered: bool,
    good: bool,
}

impl Args<'_> {
    /// `[3]`: which argument is next.
    fn number(&mut self, format: &[u8], at: usize) -> (usize, bool) {
        if format.get(at) != Some(&b'[') {
            return (at, false);
        }
        self.reordered = true;
        let rest = format.get(at..).unwrap_or_default();
        let Some(close) = rest.iter().position(|b| *b == b']') else {
            self.good = false;
            return (at + 1, false);
        };
        let (number, end) = decimal(format, at + 1);
        match number {
            Some(number) if end == at + close && number >= 1 && number <= self.values.len() => {
                self.next = number - 1;
                (at + close + 1, true)
            }
            _ => {
                self.good = false;
                (at + close + 1, end == at + close && number.is_some())
            }
        }
    }

    /// `*`: a width or precision from the arguments.
    fn star(&mut self) -> Option<i64> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        match value {
            Value::Int(_, n) if n.unsigned_abs() <= 1_000_000 => Some(*n),
            Value::Uint(_, n) if *n <= 1_000_000 => i64::try_from(*n).ok(),
            _ => None,
        }
    }
}

/// `fmt.Sprintf`.
#[allow(clippy::too_many_lines)]
pub(super) fn sprintf(exec: &mut Exec<'_>, format: &[u8], values: &[Value], buf: &mut Buf) -> Done {
    let mut args = Args { values, next: 0, reordered: false, good: true };
    let mut any_reordered = false;
    let mut at = 0;
    while at < format.len() {
        exec.step(1)?;
        let rest = format.get(at..).unwrap_or_default();
        let text = rest.iter().position(|b| *b == b'%').unwrap_or(rest.len());
        buf.push(rest.get(..text).unwrap_or_default())?;
        at += text + 1;
        if at > format.len() {
            break;
        }
        let mut spec = Spec::default();
        args.good = true;
        args.reordered = false;
        loop {
            match format.get(at) {
                Some(b'#') => spec.sharp = true,
                Some(b'0') => spec.zero = true,
                Some(b'+') => spec.plus = true,
                Some(b'-') => spec.minus = true,
                Some(b' ') => spec.space = true,
                _ => break,
            }
            at += 1;
        }
        let mut after_index;
        (at, after_index) = args.number(format, at);
        if format.get(at) == Some(&b'*') {
            at += 1;
            match args.star() {
                Some(width) => {
                    spec.minus |= width < 0;
                    spec.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => buf.push(b"%!(BADWIDTH)")?,
            }
            after_index = false;
        } else {
            (spec.width, at) = decimal(format, at);
            if after_index && spec.width.is_some() {
                args.good = false;
            }
        }
        if format.get(at) == Some(&b'.') {
            at += 1;
            if after_index {
                args.good = false;
            }
            (at, after_index) = args.number(format, at);
            if format.get(at) == Some(&b'*') {
                at += 1;
                match args.star() {
                    Some(precision) => spec.precision = usize::try_from(precision).ok(),
                    None => buf.push(b"%!(BADPREC)")?,
                }
                if spec.precision.is_none() && buf.bytes().ends_with(b"%!(BADPREC)") {
                    // Said already.
                } else if spec.precision.is_none() {
                    buf.push(b"%!(BADPREC)")?;
                }
                after_index = false;
            } else {
                let precision;
                (precision, at) = decimal(format, at);
                spec.precision = Some(precision.unwrap_or(0));
            }
        }
        if !after_index {
            (at, _) = args.number(format, at);
        }
        any_reordered |= args.reordered;
        let Some((c, len)) = first_rune(format.get(at..).unwrap_or_default()) else {
            buf.push(b"%!(NOVERB)")?;
            break;
        };
        at += len;
        if c == '%' {
            buf.byte(b'%')?;
            continue;
        }
        if !args.good {
            buf.push(b"%!")?;
            buf.char(c)?;
            buf.push(b"(BADINDEX)")?;
            continue;
        }
        let Some(value) = values.get(args.next) else {
            buf.push(b"%!")?;
            buf.char(c)?;
            buf.push(b"(MISSING)")?;
            continue;
        };
        args.next += 1;
        if c == 'v' {
            spec.sharp_v = std::mem::take(&mut spec.sharp);
            spec.plus_v = std::mem::take(&mut spec.plus);
        }
        verb(exec, buf, &mut spec, c, value, 0)?;
    }
    if !any_reordered && args.next < values.len() {
        buf.push(b"%!(EXTRA ")?;
        for (index, value) in values.iter().skip(args.next).enumerate() {
            if index > 0 {
                buf.push(b", ")?;
            }
            if value.is_nil() {
                buf.push(b"<nil>")?;
            } else {
                buf.push(exec.heap.type_name(value).as_bytes())?;
                buf.byte(b'=')?;
                print_value(exec, value, buf)?;
            }
        }
        buf.byte(b')')?;
    }
    Ok(())
}

/// One value with one verb.
fn verb(exec: &mut Exec<'_>, buf: &mut Buf, spec: &mut Spec, c: char, value: &Value, depth: usize) -> Done {
    used(value)?;
    exec.step(1)?;
    match c {
        'T' if depth == 0 => {
            let name = exec.heap.type_name(value);
            return text(buf, spec, 's', name.as_bytes()).map(drop);
        }
        'p' => return Err(Fault::execution("%p prints addresses")),
        _ => {}
    }
    let fits = match value {
        Value::Nil if depth > 0 => {
            buf.push(b"<nil>")?;
            true
        }
        Value::Nil if c == 'v' => {
            pad(buf, spec, b"<nil>")?;
            true
        }
        Value::Nil | Value::Binary => false,
        Value::Bool(bool) if matches!(c, 't' | 'v') => {
            pad(buf, spec, if *bool { b"true" } else { b"false" })?;
            true
        }
        Value::Bool(_) => false,
        Value::Int(_, n) => integer(buf, spec, c, *n < 0, n.unsigned_abs(), false)?,
        Value::Uint(_, n) => integer(buf, spec, c, false, *n, true)?,
        Value::Float(float) => floating(buf, spec, c, *float)?,
        Value::Str(string) => text(buf, spec, c, string.bytes())?,
        Value::Version(version) => {
            if spec.sharp_v || !matches!(c, 'v' | 's' | 'x' | 'X' | 'q') {
                return Err(Fault::execution("a version with this verb"));
            }
            let shown = version.to_string();
            text(buf, spec, c, shown.as_bytes())?
        }
        Value::List(id) => {
            let list = Rc::clone(exec.heap.list(*id));
            exec.enter()?;
            if spec.sharp_v {
                buf.push(exec.heap.type_name(value).as_bytes())?;
                if list.nil {
                    buf.push(b"(nil)")?;
                    exec.leave();
                    return Ok(());
                }
            }
            let (open, close, between): (_, _, &[u8]) =
                if spec.sharp_v { (b'{', b'}', b", ") } else { (b'[', b']', b" ") };
            buf.byte(open)?;
            for (index, element) in list.values.iter().enumerate() {
                if index > 0 {
                    buf.push(between)?;
                }
                nested(exec, buf, spec, c, element, list.elem, depth)?;
            }
            buf.byte(close)?;
            exec.leave();
            true
        }
        Value::Map(id) => {
            exec.enter()?;
            let map = exec.heap.map(*id).clone();
            exec.room(map.entries.len())?;
            if spec.sharp_v {
                buf.push(exec.heap.type_name(value).as_bytes())?;
                if map.nil {
                    buf.push(b"(nil)")?;
                    exec.leave();
                    return Ok(());
                }
                buf.byte(b'{')?;
            } else {
                buf.push(b"map[")?;
            }
            for (index, (key, element)) in map.entries.iter().enumerate() {
                if index > 0 {
                    buf.push(if spec.sharp_v { b", " } else { b" " })?;
                }
                verb(exec, buf, spec, c, &Value::Str(key.clone()), depth + 1)?;
                buf.byte(b':')?;
                nested(exec, buf, spec, c, element, map.elem, depth)?;
            }
            buf.byte(if spec.sharp_v { b'}' } else { b']' })?;
            exec.leave();
            true
        }
    };
    if fits {
        return Ok(());
    }
    // Go's complaint, in the output.
    buf.push(b"%!")?;
    buf.char(c)?;
    buf.byte(b'(')?;
    if value.is_nil() {
        buf.push(b"<nil>")?;
    } else {
        buf.push(exec.heap.type_name(value).as_bytes())?;
        buf.byte(b'=')?;
        verb(exec, buf, spec, 'v', value, depth)?;
    }
    buf.byte(b')')
}

fn nested(
    exec: &mut Exec<'_>,
    buf: &mut Buf,
    spec: &mut Spec,
    c: char,
    value: &Value,
    elem: Elem,
    depth: usize,
) -> Done {
    if spec.sharp_v && value.is_nil() && elem == Elem::Any {
        return buf.push(b"interface {}(nil)");
    }
    verb(exec, buf, spec, c, value, depth + 1)
}

/// Padded to the width, which counts characters.
fn pad(buf: &mut Buf, spec: &Spec, bytes: &[u8]) -> Done {
    let missing = spec.width.unwrap_or(0).saturating_sub(runes(bytes).count());
    if spec.minus {
        buf.push(bytes)?;
        return buf.repeat(b" ", missing);
    }
    buf.repeat(if spec.zero { b"0" } else { b" " }, missing)?;
    buf.push(bytes)
}

/// A string; whether it has this verb.
fn text(buf: &mut Buf, spec: &Spec, c: char, bytes: &[u8]) -> Result<bool, Fault> {
    let cut = |bytes: &'_ [u8]| -> usize {
        spec.precision.map_or(bytes.len(), |most| runes(bytes).take(most).map(|(_, len)| len).sum())
    };
    match c {
        'v' if spec.sharp_v => {
            let quoted = quote(bytes, false)?;
            pad(buf, spec, quoted.bytes())?;
        }
        'v' | 's' => {
            let end = cut(bytes);
            pad(buf, spec, bytes.get(..end).unwrap_or(bytes))?;
        }
        'q' => {
            let bytes = bytes.get(..cut(bytes)).unwrap_or(bytes);
            let raw = spec.sharp && !bytes.contains(&b'`') && can_be_raw(bytes);
            if raw {
                let mut quoted = Buf::new(super::MAX_VALUE, super::Limit::Value);
                quoted.byte(b'`')?;
                quoted.push(bytes)?;
                quoted.byte(b'`')?;
                pad(buf, spec, quoted.bytes())?;
            } else {
                let quoted = quote(bytes, spec.plus)?;
                pad(buf, spec, quoted.bytes())?;
            }
        }
        'x' | 'X' => {
            let bytes = bytes.get(..spec.precision.unwrap_or(bytes.len())).unwrap_or(bytes);
            let digits: &[u8; 16] = if c == 'x' { b"0123456789abcdef" } else { b"0123456789ABCDEF" };
            let prefix: [u8; 2] = [b'0', if c == 'x' { b'x' } else { b'X' }];
            let mut hex = Buf::new(super::MAX_VALUE, super::Limit::Value);
            for (index, byte) in bytes.iter().enumerate() {
                if index > 0 && spec.space {
                    hex.byte(b' ')?;
                }
                if spec.sharp && (index == 0 || spec.space) {
                    hex.push(&prefix)?;
                }
                for digit in [byte >> 4, byte & 15] {
                    hex.byte(digits.get(usize::from(digit)).copied().unwrap_or(b'0'))?;
                }
            }
            pad(buf, spec, hex.bytes())?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// An integer; whether it has this verb.
fn integer(buf: &mut Buf, spec: &mut Spec, c: char, negative: bool, n: u64, unsigned: bool) -> Result<bool, Fault> {
    let rune = || {
        let code = if negative { None } else { u32::try_from(n).ok() };
        code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    let digits = match c {
        'v' if spec.sharp_v && unsigned => {
            let sharp = std::mem::replace(&mut spec.sharp, true);
            with_digits(buf, spec, 'x', negative, format!("{n:x}"))?;
            spec.sharp = sharp;
            return Ok(true);
        }
        'v' | 'd' => n.to_string(),
        'b' => format!("{n:b}"),
        'o' | 'O' => format!("{n:o}"),
        'x' => format!("{n:x}"),
        'X' => format!("{n:X}"),
        'c' => {
            pad(buf, spec, rune().encode_utf8(&mut [0; 4]).as_bytes())?;
            return Ok(true);
        }
        'q' => {
            let mut quoted = Buf::new(64, super::Limit::Value);
            quoted.byte(b'\'')?;
            quote_char(&mut quoted, rune(), '\'', spec.plus)?;
            quoted.byte(b'\'')?;
            pad(buf, spec, quoted.bytes())?;
            return Ok(true);
        }
        'U' => {
            let n = if negative { n.wrapping_neg() } else { n };
            let width = spec.precision.unwrap_or(4).max(4);
            if width > 1000 {
                return Err(Fault::execution("too large a precision"));
            }
            let mut shown = format!("U+{n:0width$X}");
            if spec.sharp
                && let Some(c) = u32::try_from(n).ok().and_then(char::from_u32).filter(|c| is_printable(*c))
            {
                shown.push_str(&format!(" '{c}'"));
            }
            let zero = std::mem::take(&mut spec.zero);
            pad(buf, spec, shown.as_bytes())?;
            spec.zero = zero;
            return Ok(true);
        }
        _ => return Ok(false),
    };
    with_digits(buf, spec, c, negative, digits)?;
    Ok(true)
}

fn with_digits(buf: &mut Buf, spec: &mut Spec, c: char, negative: bool, mut digits: String) -> Done {
    let signed = negative || spec.plus || spec.space;
    let mut least = 0;
    if let Some(precision) = spec.precision {
        least = precision;
        if precision == 0 && digits == "0" {
            return buf.repeat(b" ", spec.width.unwrap_or(0));
        }
    } else if spec.zero
        && !spec.minus
        && let Some(width) = spec.width
    {
        least = width.saturating_sub(usize::from(signed));
    }
    let mut number = Buf::new(super::MAX_VALUE, super::Limit::Value);
    if negative {
        number.byte(b'-')?;
    } else if spec.plus {
        number.byte(b'+')?;
    } else if spec.space {
        number.byte(b' ')?;
    }
    let zeros = least.saturating_sub(digits.len());
    match c {
        'x' if spec.sharp => number.push(b"0x")?,
        'X' if spec.sharp => number.push(b"0X")?,
        'b' if spec.sharp => number.push(b"0b")?,
        'O' => number.push(b"0o")?,
        'o' if spec.sharp && zeros == 0 && !digits.starts_with('0') => digits.insert(0, '0'),
        _ => {}
    }
    if c == 'O' && spec.sharp && zeros == 0 && !digits.starts_with('0') {
        digits.insert(0, '0');
    }
    number.repeat(b"0", zeros)?;
    number.push(digits.as_bytes())?;
    let zero = std::mem::take(&mut spec.zero);
    pad(buf, spec, number.bytes())?;
    spec.zero = zero;
    Ok(())
}

/// Digits without point, and the power of ten of the first.
fn digits_of(float: f64, precision: Option<usize>) -> (String, i32) {
    let shown = precision.map_or_else(|| format!("{:e}", float.abs()), |p| format!("{:.p$e}", float.abs()));
    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

fn exponent_form(digits: &str, exponent: i32, e: char) -> String {
    let (first, rest) = digits.split_at(1.min(digits.len()));
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest}{e}{sign}{:02}", exponent.abs())
}

fn plain_form(digits: &str, exponent: i32) -> String {
    let point = exponent + 1;
    let len = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    if point <= 0 {
        format!("0.{}{digits}", "0".repeat(usize::try_from(-point).unwrap_or(0)))
    } else if point >= len {
        format!("{digits}{}", "0".repeat(usize::try_from(point - len).unwrap_or(0)))
    } else {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{fraction}")
    }
}

/// A float as `strconv.FormatFloat` shows it with the verb `g`, the shortest that reads back the same.
fn shortest(float: f64, e: char, least_exponent: i32, most_exponent: i32) -> String {
    let (digits, exponent) = digits_of(float, None);
    if float == 0.0 {
        return "0".into();
    }
    if exponent < least_exponent || exponent >= most_exponent {
        exponent_form(&digits, exponent, e)
    } else {
        plain_form(&digits, exponent)
    }
}

/// A float in JSON.
pub(super) fn json_float(float: f64) -> String {
    let sign = if float.is_sign_negative() { "-" } else { "" };
    let shown = shortest(float, 'e', -6, 21);
    // e-09 is e-9 there.
    let shown = match shown.rsplit_once("e-0") {
        Some((mantissa, exponent)) if exponent.len() == 1 => format!("{mantissa}e-{exponent}"),
        _ => shown,
    };
    format!("{sign}{shown}")
}

/// A float; whether it has this verb.
fn floating(buf: &mut Buf, spec: &mut Spec, c: char, float: f64) -> Result<bool, Fault> {
    const MOST: usize = 1000;
    let precision = match (c, spec.precision) {
        (_, Some(precision)) => Some(precision),
        ('e' | 'E' | 'f' | 'F', None) => Some(6),
        _ => None,
    };
    if precision.is_some_and(|p| p > MOST) {
        return Err(Fault::execution("too large a precision"));
    }
    let upper = matches!(c, 'E' | 'G');
    let e = if upper { 'E' } else { 'e' };
    let mut shown = if float.is_nan() {
        "NaN".to_owned()
    } else if float.is_infinite() {
        "Inf".to_owned()
    } else {
        match (c, precision) {
            ('e' | 'E', Some(p)) => {
                let (digits, exponent) = digits_of(float, Some(p));
                exponent_form(&digits, exponent, e)
            }
            ('f' | 'F', Some(p)) => format!("{:.p$}", float.abs()),
            ('v' | 'g' | 'G', None) => shortest(float, e, -4, 6),
            ('v' | 'g' | 'G', Some(p)) => {
                let p = p.max(1);
                let (digits, exponent) = digits_of(float, Some(p - 1));
                let digits = digits.trim_end_matches('0');
                let digits = if digits.is_empty() { "0" } else { digits };
                let len = i32::try_from(digits.len()).unwrap_or(i32::MAX);
                let mut most = i32::try_from(p).unwrap_or(i32::MAX);
                if most > len && len > exponent {
                    most = len;
                }
                if exponent < -4 || exponent >= most {
                    exponent_form(digits, exponent, e)
                } else {
                    plain_form(digits, exponent)
                }
            }
            ('b' | 'x' | 'X', _) => return Err(Fault::execution("a float with this verb")),
            _ => return Ok(false),
        }
    };
    if (spec.sharp || (spec.sharp_v && c != 'v')) && float.is_finite() {
        return Err(Fault::execution("a float with the flag #"));
    }
    let negative = float.is_sign_negative() && !float.is_nan();
    let sign = if negative {
        "-"
    } else if spec.plus || (spec.plus_v && c != 'v') {
        "+"
    } else if spec.space {
        " "
    } else {
        ""
    };
    if !float.is_finite() {
        let zero = std::mem::take(&mut spec.zero);
        shown.insert_str(0, sign);
        pad(buf, spec, shown.as_bytes())?;
        spec.zero = zero;
        return Ok(true);
    }
    if spec.zero && !spec.minus && !sign.is_empty() && spec.width.is_some() {
        buf.push(sign.as_bytes())?;
        let width = spec.width;
        spec.width = width.map(|w| w.saturating_sub(1));
        pad(buf, spec, shown.as_bytes())?;
        spec.width = width;
        return Ok(true);
    }
    shown.insert_str(0, sign);
    pad(buf, spec, shown.as_bytes())?;
    Ok(true)
}

/// Whether Go's `strconv.IsPrint` holds: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // What Rust shows as it is after another character.
    ['a', c].iter().collect::<String>().escape_debug().nth(1) == Some(c)
}

fn can_be_raw(bytes: &[u8]) -> bool {
    runes(bytes).all(|(c, len)| {
        !(c == char::REPLACEMENT_CHARACTER && len == 1)
            && c != '\u{feff}'
            && (c == '\t' || (c >= ' ' && c != '`' && c != '\u{7f}'))
    })
}

fn quote_char(buf: &mut Buf, c: char, quote: char, ascii: bool) -> Done {
    match c {
        '\\' => buf.push(b"\\\\"),
        _ if c == quote => {
            buf.byte(b'\\')?;
            buf.char(c)
        }
        _ if (c.is_ascii() || !ascii) && is_printable(c) => buf.char(c),
        '\u{7}' => buf.push(b"\\a"),
        '\u{8}' => buf.push(b"\\b"),
        '\u{c}' => buf.push(b"\\f"),
        '\n' => buf.push(b"\\n"),
        '\r' => buf.push(b"\\r"),
        '\t' => buf.push(b"\\t"),
        '\u{b}' => buf.push(b"\\v"),
        _ if u32::from(c) < 0x20 || c == '\u{7f}' => buf.push(format!("\\x{:02x}", u32::from(c)).as_bytes()),
        _ if u32::from(c) < 0x10000 => buf.push(format!("\\u{:04x}", u32::from(c)).as_bytes()),
        _ => buf.push(format!("\\U{:08x}", u32::from(c)).as_bytes()),
    }
}

/// `strconv.Quote`, or `QuoteToASCII`.
pub(super) fn quote(bytes: &[u8], ascii: bool) -> Result<Buf, Fault> {
    let mut buf = Buf::new(super::MAX_VALUE, super::Limit::Value);
    buf.byte(b'"')?;
    let mut at = 0;
    for (c, len) in runes(bytes) {
        if c == char::REPLACEMENT_CHARACTER && len == 1 {
            buf.push(format!("\\x{:02x}", bytes.get(at).copied().unwrap_or_default()).as_bytes())?;
        } else {
            quote_char(&mut buf, c, '"', ascii)?;
        }
        at += len;
    }
    buf.byte(b'"')?;
    Ok(buf)
}

/// What Go's `reflect.DeepEqual` says.
pub(super) fn deep_equal(exec: &mut Exec<'_>, a: &Value, b: &Value) -> Result<bool, Fault> {
    used(a)?;
    used(b)?;
    exec.step(1)?;
    Ok(match (a, b) {
        (Value::Nil, Value::Nil) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(t, a), Value::Int(u, b)) => t == u && a == b,
        (Value::Uint(t, a), Value::Uint(u, b)) => t == u && a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => {
            exec.scan(a.bytes().len().min(b.bytes().len()))?;
            a == b
        }
        (Value::Version(a), Value::Version(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            if a == b {
                return Ok(true);
            }
            let (a, b) = (Rc::clone(exec.heap.list(*a)), Rc::clone(exec.heap.list(*b)));
            if a.elem != b.elem || a.nil != b.nil || a.values.len() != b.values.len() {
                return Ok(false);
            }
            exec.enter()?;
            for (a, b) in a.values.iter().zip(&b.values) {
                if !deep_equal(exec, a, b)? {
                    exec.leave();
                    return Ok(false);
                }
            }
            exec.leave();
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a == b {
                return Ok(true);
            }
            let (a, b) = (exec.heap.map(*a), exec.heap.map(*b));
            if a.elem != b.elem || a.nil != b.nil || a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            let pairs: Option<Vec<_>> =
                a.entries.iter().map(|(key, a)| Some((a.clone(), b.entries.get(key)?.clone()))).collect();
            let Some(pairs) = pairs else { return Ok(false) };
            exec.room(pairs.len())?;
            exec.enter()?;
            for (a, b) in &pairs {
                if !deep_equal(exec, a, b)? {
                    exec.leave();
                    return Ok(false);
                }
            }
            exec.leave();
            true
        }
        _ => false,
    })
}

/// `fmt.Sprint` of one value, as text.
pub(super) fn shown(exec: &mut Exec<'_>, value: &Value) -> Result<Vec<u8>, Fault> {
    let mut buf = exec.buf();
    print_value(exec, value, &mut buf)?;
    exec.scan(buf.len())?;
    Ok(buf.take())
}

/// Whether a byte came out of a string, for `kindOf` and its kind.
pub(super) const fn byte(byte: u8) -> Value {
    Value::Uint(UintType::Uint8, byte as u64)
}

/// Go's name of the kind of a value.
pub(super) const fn kind_of(value: &Value) -> &'static str {
    Heap::kind_name(value)
}
