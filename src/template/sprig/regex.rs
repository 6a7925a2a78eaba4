//! Regular expressions: Go's syntax (RE2), put into that of the `regex` crate. Both match in linear time.

use regex::bytes::{Regex, RegexBuilder};

use super::{Made, plain};
use crate::template::builtins::{printed, wrong};
use crate::template::exec::Exec;
use crate::template::value::{Buf, Elem, Value, first_rune};
use crate::template::{Fault, FaultKind, Function, Limit, MAX_SEARCHED, Param};

use Param::{Int, Str};

pub(super) static FUNCTIONS: &[Function] = &[
    plain("regexMatch", &[Str, Str], |exec, args| match is_match(exec, args) {
        // A damaged expression matches nothing.
        Err(Fault { kind: FaultKind::Execution(_), .. }) => Ok(Value::Bool(false)),
        made => made,
    }),
    plain("mustRegexMatch", &[Str, Str], is_match),
    plain("regexFind", &[Str, Str], find),
    plain("mustRegexFind", &[Str, Str], find),
    plain("regexFindAll", &[Str, Str, Int], find_all),
    plain("mustRegexFindAll", &[Str, Str, Int], find_all),
    plain("regexReplaceAll", &[Str, Str, Str], |exec, args| replace(exec, args, true)),
    plain("mustRegexReplaceAll", &[Str, Str, Str], |exec, args| replace(exec, args, true)),
    plain("regexReplaceAllLiteral", &[Str, Str, Str], |exec, args| replace(exec, args, false)),
    plain("mustRegexReplaceAllLiteral", &[Str, Str, Str], |exec, args| replace(exec, args, false)),
    plain("regexSplit", &[Str, Str, Int], split),
    plain("mustRegexSplit", &[Str, Str, Int], split),
    plain("regexQuoteMeta", &[Str], |exec, args| {
        let Some(Value::Str(text)) = args.first() else { return Err(wrong()) };
        printed(exec, |_, buf| {
            for byte in text.bytes() {
                if br"\.+*?()|[]{}^$".contains(byte) {
                    buf.byte(b'\\')?;
                }
                buf.byte(*byte)?;
            }
            Ok(())
        })
    }),
];

/// An expression that is ready, and what a search of one byte may cost.
struct Ready {
    regex: Regex,
    cost: u64,
}

impl Ready {
    /// Counts a search of so many bytes.
    fn charge(&self, exec: &mut Exec<'_>, bytes: usize) -> Result<(), Fault> {
        exec.step(1 + self.cost.saturating_mul(bytes as u64) / 256)
    }
}

fn bad() -> Fault {
    Fault::execution("no regular expression, or one that is too large")
}

fn prepare<'v>(exec: &mut Exec<'_>, args: &'v [Value]) -> Result<(Ready, &'v [u8]), Fault> {
    let [Value::Str(pattern), Value::Str(text), ..] = args else { return Err(wrong()) };
    let text = text.bytes();
    if text.len() > MAX_SEARCHED {
        return Err(Fault::limit(Limit::Searched));
    }
    if pattern.bytes().len() > 16 * 1024 {
        return Err(bad());
    }
    // Compiling takes longer than most searches.
    exec.step(500 + pattern.bytes().len() as u64 * 16)?;
    let pattern = std::str::from_utf8(pattern.bytes()).map_err(|_| bad())?;
    let (pattern, cost) = translate(pattern).ok_or_else(bad)?;
    exec.step(cost)?;
    let regex = RegexBuilder::new(&pattern)
        .size_limit(1 << 20)
        .dfa_size_limit(1 << 20)
        .nest_limit(100)
        .build()
        .map_err(|_| bad())?;
    let ready = Ready { regex, cost };
    ready.charge(exec, text.len())?;
    Ok((ready, text))
}

/// The range of `{n}`, `{n,}` or `{n,m}` at the beginning, and its length.
fn counts(text: &str) -> Option<(u64, Option<u64>, usize)> {
    let close = text.find('}')?;
    let inner = text.get(1..close)?;
    let number = |digits: &str| -> Option<u64> {
        let fits = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'));
        fits.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let (least, most) = match inner.split_once(',') {
        None => (number(inner)?, Some(number(inner)?)),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, close + 1))
}

/// Go's syntax in that of the crate, and about how many states it takes; `None` for what Go refuses or the crate has not.
#[allow(clippy::too_many_lines)]
fn translate(pattern: &str) -> Option<(String, u64)> {
    let mut out = String::with_capacity(pattern.len() * 2);
    let mut rest = pattern;
    // Sizes of the groups that are open, of the last atom, and whether it was repeated already.
    let mut groups: Vec<u64> = vec![1];
    let mut last = 0_u64;
    let mut repeated = false;
    let add = |groups: &mut Vec<u64>, size: u64| {
        if let Some(group) = groups.last_mut() {
            *group = group.saturating_add(size);
        }
    };
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        let mut size = 1;
        match c {
            '*' | '+' | '?' => {
                if repeated {
                    return None;
                }
                out.push(c);
                if rest.get(1..).is_some_and(|after| after.starts_with('?')) {
                    out.push('?');
                    taken += 1;
                }
                repeated = true;
                add(&mut groups, last);
                rest = rest.get(taken..)?;
                continue;
            }
            '{' => {
                if let Some((least, most, len)) = counts(rest) {
                    let times = most.unwrap_or(least + 1).max(least);
                    if repeated || times > 1000 || most.is_some_and(|most| most < least) {
                        return None;
                    }
                    out.push_str(rest.get(..len)?);
                    taken = len;
                    if rest.get(len..).is_some_and(|after| after.starts_with('?')) {
                        out.push('?');
                        taken += 1;
                    }
                    repeated = true;
                    add(&mut groups, last.saturating_mul(times));
                    rest = rest.get(taken..)?;
                    continue;
                }
                out.push_str("\\{");
            }
            '}' | ']' => {
                out.push('\\');
                out.push(c);
            }
            '(' => {
                if let Some(flags) = rest.strip_prefix("(?") {
                    if flags.starts_with("P<") || flags.starts_with('<') {
                        let name = flags.trim_start_matches('P').get(1..)?;
                        let end = name.find('>')?;
                        let name = name.get(..end)?;
                        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                            return None;
                        }
                        // Numbers are no names to the crate.
                        if name.starts_with(|c: char| c.is_ascii_digit()) {
                            return None;
                        }
                        let len = 2 + flags.find('>')? + 1;
                        out.push_str(rest.get(..len)?);
                        taken = len;
                    } else {
                        let end = flags.find([':', ')'])?;
                        let words = flags.get(..end)?;
                        if !words.bytes().all(|b| matches!(b, b'i' | b'm' | b's' | b'U' | b'-'))
                            || words.ends_with('-')
                            || words.matches('-').count() > 1
                            || (words.is_empty() && flags.starts_with(')'))
                        {
                            return None;
                        }
                        taken = 2 + end + 1;
                        out.push_str(rest.get(..taken)?);
                        if flags.get(end..)?.starts_with(')') {
                            rest = rest.get(taken..)?;
                            repeated = false;
                            last = 0;
                            continue;
                        }
                    }
                } else {
                    out.push('(');
                }
                groups.push(1);
                if groups.len() > 100 {
                    return None;
                }
                repeated = false;
                last = 0;
                rest = rest.get(taken..)?;
                continue;
            }
            ')' => {
                out.push(')');
                size = groups.pop()?;
                if groups.is_empty() {
                    return None;
                }
            }
            '[' => {
                let (class, len, ranges) = class(rest)?;
                out.push_str(&class);
                taken = len;
                size = ranges;
            }
            '\\' => {
                let next = rest.chars().nth(1)?;
                if next == 'Q' {
                    let body = rest.get(2..)?;
                    let (literal, after) = body.split_once("\\E").unwrap_or((body, ""));
                    for c in literal.chars() {
                        push_literal(&mut out, c);
                    }
                    size = literal.len() as u64;
                    taken = rest.len() - after.len();
                } else {
                    let (text, len, weight) = escape(rest, false)?;
                    out.push_str(&text);
                    taken = len;
                    size = weight;
                }
            }
            '&' | '~' | '#' | ' ' => push_literal(&mut out, c),
            _ => out.push(c),
        }
        add(&mut groups, size);
        last = size;
        repeated = false;
        rest = rest.get(taken..)?;
    }
    if groups.len() != 1 {
        return None;
    }
    Some((out, groups.first().copied().unwrap_or(1)))
}

fn push_literal(out: &mut String, c: char) {
    out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

/// What a backslash stands for, its length, and about how many states it takes.
fn escape(rest: &str, in_class: bool) -> Option<(String, usize, u64)> {
    let c = rest.chars().nth(1)?;
    let plain = |text: &str| Some((text.to_owned(), 2, 1));
    let code =
        |code: u32, len: usize| Some((format!("\\x{{{code:x}}}"), len, 1)).filter(|_| char::from_u32(code).is_some());
    match c {
        'd' => plain(if in_class { "0-9" } else { "[0-9]" }),
        'D' => Some(("[^0-9]".to_owned(), 2, 8)),
        'w' => plain(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
        'W' => Some(("[^0-9A-Za-z_]".to_owned(), 2, 8)),
        's' => plain(if in_class { "\\t\\n\\f\\r\\x20" } else { "[\\t\\n\\f\\r\\x20]" }),
        'S' => Some(("[^\\t\\n\\f\\r\\x20]".to_owned(), 2, 8)),
        'b' if !in_class => plain("(?-u:\\b)"),
        'B' if !in_class => plain("(?-u:\\B)"),
        'A' if !in_class => plain("\\A"),
        'z' if !in_class => plain("\\z"),
        'a' | 'f' | 'n' | 'r' | 't' | 'v' => plain(rest.get(..2)?),
        'p' | 'P' => {
            let after = rest.get(2..)?;
            let (name, len) = match after.strip_prefix('{') {
                Some(inner) => {
                    let end = inner.find('}')?;
                    (inner.get(..end)?, 2 + end + 2)
                }
                None => {
                    let c = after.chars().next().filter(char::is_ascii_alphabetic)?;
                    (after.get(..c.len_utf8())?, 3)
                }
            };
            let (negated, name) = name.strip_prefix('^').map_or((c == 'P', name), |name| (c == 'p', name));
            if !name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') {
                return None;
            }
            let name = if name == "Any" { "any" } else { name };
            Some((format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }), len, 400))
        }
        'x' => {
            let after = rest.get(2..)?;
            if let Some(inner) = after.strip_prefix('{') {
                let end = inner.find('}')?;
                let digits = inner.get(..end)?;
                return code(u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?, end + 4);
            }
            let digits = after.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            code(u32::from_str_radix(digits, 16).ok()?, 4)
        }
        '0'..='7' => {
            let digits: String = rest.chars().skip(1).take(3).take_while(|c| ('0'..='7').contains(c)).collect();
            if c != '0' && digits.len() == 1 {
                return None;
            }
            code(u32::from_str_radix(&digits, 8).ok()?, 1 + digits.len())
        }
        _ if c.is_ascii() && !c.is_ascii_alphanumeric() => {
            let mut text = String::new();
            text.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
            Some((text, 2, 1))
        }
        _ => None,
    }
}

/// A bracket class, its length, and about how many states it takes.
fn class(rest: &str) -> Option<(String, usize, u64)> {
    let mut out = String::from("[");
    let mut at = 1;
    let mut size = 1;
    if rest.get(at..)?.starts_with('^') {
        out.push('^');
        at += 1;
        size += 8;
    }
    let mut first = true;
    loop {
        let here = rest.get(at..)?;
        let c = here.chars().next()?;
        if c == ']' && !first {
            out.push(']');
            return Some((out, at + 1, size));
        }
        first = false;
        if here.starts_with("[:")
            && let Some(end) = here.find(":]")
        {
            let name = here.get(2..end)?;
            let word = name.strip_prefix('^').unwrap_or(name);
            let known = [
                "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
                "upper", "word", "xdigit",
            ];
            if !known.contains(&word) {
                return None;
            }
            out.push_str(here.get(..end + 2)?);
            at += end + 2;
            size += 2;
            continue;
        }
        if c == '-' && at > 1 && !here.get(1..)?.starts_with(']') && !out.ends_with(['[', '^']) {
            // Go takes it only at either end, or as a range, which is read below.
            return None;
        }
        let (low, len, weight, single) = class_char(here)?;
        at += len;
        size += weight;
        let after = rest.get(at..)?;
        if single && after.starts_with('-') && !after.get(1..)?.starts_with(']') {
            let (high, len, _, single) = class_char(after.get(1..)?)?;
            if !single {
                return None;
            }
            out.push_str(&format!("{low}-{high}"));
            at += 1 + len;
            size += 2;
        } else {
            out.push_str(&low);
        }
    }
}

/// A character of a class, or a class in it: text, length, states, and whether it is one character.
fn class_char(here: &str) -> Option<(String, usize, u64, bool)> {
    let c = here.chars().next()?;
    if c == '\\' {
        let (text, len, size) = escape(here, true)?;
        let single = !matches!(here.chars().nth(1)?, 'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'p' | 'P');
        return Some((text, len, size, single));
    }
    let text =
        if c.is_ascii_alphanumeric() || !c.is_ascii() { c.to_string() } else { format!("\\x{{{:x}}}", u32::from(c)) };
    Some((text, c.len_utf8(), 1, true))
}

fn is_match(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let (ready, text) = prepare(exec, args)?;
    Ok(Value::Bool(ready.regex.is_match(text)))
}

fn find(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let (ready, text) = prepare(exec, args)?;
    let found = ready.regex.find(text).map(|found| found.as_bytes().to_vec());
    exec.text(found.unwrap_or_default())
}

/// Where the expression matches, as Go goes on after a match: never again the empty text where one ended.
fn matches(exec: &mut Exec<'_>, ready: &Ready, text: &[u8], most: i64) -> Result<Vec<(usize, usize)>, Fault> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut at = 0;
    let mut before = None;
    while found.len() < most && at <= text.len() {
        ready.charge(exec, text.len() - at)?;
        let Some(hit) = ready.regex.find_at(text, at) else { break };
        let (start, end) = (hit.start(), hit.end());
        let accepted = !(end == at && Some(start) == before);
        if end == at {
            at += first_rune(text.get(at..).unwrap_or_default()).map_or(1, |(_, len)| len);
        } else {
            at = end;
        }
        before = Some(end);
        if accepted {
            exec.room(1)?;
            found.push((start, end));
        }
    }
    Ok(found)
}

fn count(args: &[Value]) -> Result<i64, Fault> {
    if let Some(Value::Int(_, count)) = args.get(2) { Ok(*count) } else { Err(wrong()) }
}

fn find_all(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let (ready, text) = prepare(exec, args)?;
    let found = matches(exec, &ready, text, count(args)?)?;
    if found.is_empty() {
        return exec.nil_list(Elem::Str);
    }
    exec.strings(found.iter().map(|(start, end)| text.get(*start..*end).unwrap_or_default().to_vec()).collect())
}

fn split(exec: &mut Exec<'_>, args: &[Value]) -> Made {
    let (ready, text) = prepare(exec, args)?;
    let most = count(args)?;
    if most == 0 {
        return exec.nil_list(Elem::Str);
    }
    if text.is_empty() && !ready.regex.as_str().is_empty() {
        return exec.strings(vec![Vec::new()]);
    }
    let mut parts = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for (from, to) in matches(exec, &ready, text, most)? {
        if most > 0 && i64::try_from(parts.len()).is_ok_and(|len| len == most - 1) {
            break;
        }
        end = from;
        if to != 0 {
            parts.push(text.get(begin..end).unwrap_or_default().to_vec());
        }
        begin = to;
    }
    if end != text.len() {
        parts.push(text.get(begin..).unwrap_or_default().to_vec());
    }
    exec.strings(parts)
}

fn replace(exec: &mut Exec<'_>, args: &[Value], expand: bool) -> Made {
    let (ready, text) = prepare(exec, args)?;
    let Some(Value::Str(with)) = args.get(2) else { return Err(wrong()) };
    let mut buf = exec.buf();
    let (mut at, mut copied) = (0, 0);
    while at <= text.len() {
        ready.charge(exec, text.len() - at)?;
        let Some(captures) = ready.regex.captures_at(text, at) else { break };
        let Some(hit) = captures.get(0) else { break };
        buf.push(text.get(copied..hit.start()).unwrap_or_default())?;
        if hit.end() > copied || hit.start() == 0 {
            exec.scan(with.bytes().len())?;
            if expand {
                put(with.bytes(), &captures, &mut buf)?;
            } else {
                buf.push(with.bytes())?;
            }
        }
        copied = hit.end();
        let width = first_rune(text.get(at..).unwrap_or_default()).map_or(1, |(_, len)| len);
        at = hit.end().max(at + width);
    }
    buf.push(text.get(copied..).unwrap_or_default())?;
    exec.made(buf)
}

/// `$1`, `${name}`, `$$`.
fn put(with: &[u8], captures: &regex::bytes::Captures<'_>, buf: &mut Buf) -> Result<(), Fault> {
    let mut rest = with;
    while let Some(dollar) = rest.iter().position(|b| *b == b'$') {
        buf.push(rest.get(..dollar).unwrap_or_default())?;
        rest = rest.get(dollar + 1..).unwrap_or_default();
        if rest.first() == Some(&b'$') {
            buf.byte(b'$')?;
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let braces = rest.first() == Some(&b'{');
        let name = rest.get(usize::from(braces)..).unwrap_or_default();
        let len = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let word = std::str::from_utf8(name.get(..len).unwrap_or_default()).unwrap_or_default();
        if word.is_empty() || (braces && name.get(len) != Some(&b'}')) {
            buf.byte(b'$')?;
            continue;
        }
        rest = name.get(len + usize::from(braces)..).unwrap_or_default();
        let number = word.bytes().all(|b| b.is_ascii_digit()) && (word.len() == 1 || !word.starts_with('0'));
        let group =
            if number { word.parse().ok().and_then(|number: usize| captures.get(number)) } else { captures.name(word) };
        buf.push(group.map_or(&[][..], |group| group.as_bytes()))?;
    }
    buf.push(rest)
}
